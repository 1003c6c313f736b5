"""Which label files a run reads: all of them, or those that are new or changed since the last good run.

Files that still grow wait for the next run. A later file wins over an earlier one where both
hold the same row; what is later is told by the time of modification, then by name.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from labelclean.config import Config
from labelclean.errors import NothingToDo, listed
from labelclean.storage.label_sets import GIVEN, given_texts, texts_of_sets
from labelclean.storage.parquet import label_files, labels_dataset, latest_rows, read_table
from labelclean.storage.queries import count_repeats
from labelclean.storage.run_folders import good_runs
from labelclean.storage.spellings import respelled

_TAIL = 8  # a Parquet file ends with the footer, its length in 4 bytes, and "PAR1"
_MAGIC = b"PAR1"


@dataclass(frozen=True)
class LabelFile:
    """A whole label file as it was found.

    Attributes:
        path: POSIX path relative to `data.labels`, or the file's name where that is a file.
        bytes: Its size.
        mtime_ns: Its time of modification, Unix nanoseconds.
        footer_sha256: Digest of the Parquet footer.
    """

    path: str
    bytes: int
    mtime_ns: int
    footer_sha256: str


@dataclass(frozen=True)
class Arrivals:
    """What a run reads and what it leaves.

    Attributes:
        window: `run.window`.
        since: Run id of the last good run that the files are compared with, or None.
        read: Files that this run reads, earliest modified first.
        unchanged: Files that earlier good runs have read and that are as they were.
        changed: Those of ``read`` that an earlier run has read in another state.
        late: Those of ``read`` that sort before a file which an earlier run has read.
        waiting: Path -> why the file waits for the next run.
        gone: Files that an earlier run has read and that are not there any more.
    """

    window: str | None
    since: str | None
    read: tuple[LabelFile, ...]
    unchanged: tuple[LabelFile, ...] = ()
    changed: tuple[str, ...] = ()
    late: tuple[str, ...] = ()
    waiting: Mapping[str, str] | None = None
    gone: tuple[str, ...] = ()

    def record(self) -> dict[str, Any]:
        """Return the same as JSON values."""
        return asdict(self) | {"waiting": dict(self.waiting or {})}


def arrivals_from(record: Mapping[str, Any]) -> Arrivals:
    """Return what `Arrivals.record` wrote down."""
    lists = {key: tuple(record[key]) for key in ("changed", "late", "gone")}
    files = {key: tuple(LabelFile(**file) for file in record[key]) for key in ("read", "unchanged")}
    return Arrivals(**dict(record) | lists | files)


def find_arrivals(
    config: Config, dataset: str, *, force: bool = False, sleep: Callable[[float], None] = time.sleep
) -> Arrivals:
    """Return what a run of this window shall read; only the holder of the run lock may ask.

    Args:
        config: Sections `data`, `ingest`, `run` and `storage` are read.
        dataset: The data set's name.
        force: Clean a window again although a good run of it is published.
        sleep: Waits the settle time.

    Returns:
        The files to read.

    Raises:
        NothingToDo: If a good run of this window is published, or no file is new since the last good run.
        TableError: If there is no label file at all.
    """
    window = config.run.window
    good = list(good_runs(config.storage.runs, dataset))
    same = next((run for run in good if window is not None and run.manifest.get("window") == window), None)
    if same is not None and not force:
        raise NothingToDo(
            f"window {window!r} of {dataset!r} is done: run {same.folder.name} ended well. Nothing was started; "
            "--force cleans it again into a new run folder.",
            run_folder=str(same.folder),
        )
    root = config.data.labels
    files = label_files(root)
    if config.ingest.since is None:
        seen = (_label_file(file, root) for file in files)
        return Arrivals(window, None, _in_order_of_arrival(file for file in seen if isinstance(file, LabelFile)))
    last = next((run for run in good if "labels_files" in run.manifest), None)
    known = {file["path"]: LabelFile(**file) for file in last.manifest["labels_files"]} if last else {}
    again = set((same or last).manifest.get("labels_read", ())) if force and (same or last) else set()  # type: ignore[union-attr]
    arrivals = _compared(files, root, known, again, config.ingest.settle_s, sleep)
    if not arrivals.read:
        raise NothingToDo(
            f"no file of {root} is new since run {last.folder.name if last else '(none)'}: {len(arrivals.unchanged):,} are "
            f"unchanged{_waiting_words(arrivals.waiting or {})}. Nothing was started.",
            run_folder=str(last.folder) if last else None,
        )
    return Arrivals(**vars(arrivals) | {"window": window, "since": last.folder.name if last else None})


def files_to_read(config: Config, arrivals: Arrivals) -> list[Path] | None:
    """Return the files that a run reads, in the order in which a later one wins, or None for all.

    Args:
        config: Sections `data` and `ingest` are read.
        arrivals: What `find_arrivals` found.

    Returns:
        Files; None without `ingest.since`.
    """
    root = config.data.labels
    if config.ingest.since is None:
        return None
    return [root] if root.is_file() else [root / file.path for file in arrivals.read]


def whole_files(config: Config) -> list[Path] | None:
    """Return all whole files in that order, whether earlier runs have read them or not.

    Args:
        config: Sections `data` and `ingest` are read.

    Returns:
        Files; None without `ingest.since`, where every file must be whole.
    """
    if config.ingest.since is None:
        return None
    root = config.data.labels
    files = (_label_file(file, root) for file in label_files(root))
    whole = _in_order_of_arrival(file for file in files if isinstance(file, LabelFile))
    return files_to_read(config, Arrivals(None, None, whole))


def measure_repeats(
    config: Config,
    arrivals: Arrivals,
    samples: Sequence[Path],
    num_rows: int,
    class_names: Sequence[str],
    spill: Path,
) -> dict[str, Any]:
    """Return what the files of this run say about rows that other files hold too.

    Args:
        config: Section `data` is read.
        arrivals: What the run reads.
        samples: Parts of its table `samples`.
        num_rows: Rows of its labels, later ones in place of earlier ones.
        class_names: The K class names.
        spill: Folder for what does not fit into memory.

    Returns:
        JSON values that depend on the files only, for the summary: numbers of files and rows,
        `num_superseded` rows that a later file of this run replaced, `num_repeated` samples that
        an earlier run has read too and `num_relabelled` of them with another label.
    """
    root = config.data.labels
    dataset = labels_dataset(root, files_to_read(config, arrivals))
    earlier = [] if root.is_file() else [root / file.path for file in _in_order_of_arrival(arrivals.unchanged)]
    if GIVEN in pq.read_schema(samples[0]).names:
        num_superseded = int((~latest_rows(dataset)).sum())
        repeats = _set_repeats(config, earlier, samples, class_names)
    else:
        num_superseded = dataset.count_rows() - num_rows
        repeats = count_repeats(samples, earlier, spill, config.data.spellings)
    return {
        "num_files": len(arrivals.read),
        "num_unchanged_files": len(arrivals.unchanged),
        "changed": list(arrivals.changed),
        "late": list(arrivals.late),
        "waiting": dict(arrivals.waiting or {}),
        "gone": list(arrivals.gone),
        "num_superseded": num_superseded,
        "num_repeated": repeats[0],
        "num_relabelled": repeats[1],
    }


def arrival_sentences(measured: Mapping[str, Any] | None) -> list[str]:
    """Return what `measure_repeats` found, for people.

    Args:
        measured: Its record, or None for a run that read everything.

    Returns:
        Sentences, none where there is nothing to say.
    """
    if measured is None:
        return []
    sentences = [
        f"read {measured['num_files']:,} new or changed label files; {measured['num_unchanged_files']:,} that earlier "
        "runs have read are unchanged"
    ]
    if measured["changed"]:
        sentences.append(f"changed since an earlier run read them: {listed(measured['changed'], 3)}")
    if measured["late"]:
        sentences.append(f"late, they sort before files that earlier runs have read: {listed(measured['late'], 3)}")
    if measured["waiting"]:
        sentences.append(f"not read{_waiting_words(measured['waiting'])}")
    if measured["gone"]:
        sentences.append(f"read by an earlier run and not there any more: {listed(measured['gone'], 3)}")
    if measured["num_superseded"]:
        sentences.append(f"{measured['num_superseded']:,} rows were replaced by the same rows in a later file")
    if measured["num_repeated"]:
        sentences.append(
            f"{measured['num_repeated']:,} samples were read by an earlier run too, {measured['num_relabelled']:,} of them "
            "with another label then; the new rows count"
        )
    return sentences


# --- inside ---------------------------------------------------------------------------------------


def _compared(
    files: list[Path],
    root: Path,
    known: Mapping[str, LabelFile],
    again: Collection[str],
    settle_s: float,
    sleep: Callable[[float], None],
) -> Arrivals:
    """Files sorted into read, unchanged and waiting."""
    first = {_name(file, root): _stamp(file) for file in files}
    is_new = {
        name: name in again or name not in known or stamp != (known[name].bytes, known[name].mtime_ns)
        for name, stamp in first.items()
    }
    if settle_s and any(is_new.values()):
        sleep(settle_s)
    read, unchanged, waiting = [], [], {}
    for file in files:
        name = _name(file, root)
        state = _label_file(file, root)
        if isinstance(state, str):
            waiting[name] = state
        elif (state.bytes, state.mtime_ns) != first[name]:
            waiting[name] = "its size or time moved while it was watched"
        elif name in again or state != known.get(name):
            read.append(state)
        else:
            unchanged.append(state)
    newest_known = max((name for name in known if name in first), default="")
    names = sorted(file.path for file in read)
    return Arrivals(
        window=None,
        since=None,
        read=_in_order_of_arrival(read),
        unchanged=tuple(unchanged),
        changed=tuple(name for name in names if name in known and name not in again),
        late=tuple(name for name in names if name not in known and name < newest_known),
        waiting=waiting,
        gone=tuple(sorted(known.keys() - first.keys())),
    )


def _label_file(file: Path, root: Path) -> LabelFile | str:
    """The file's state, or why it is not whole."""
    try:
        size, mtime_ns = _stamp(file)
        with file.open("rb") as handle:
            handle.seek(max(size - _TAIL, 0))
            tail = handle.read(_TAIL)
            length = int.from_bytes(tail[:4], "little")
            if len(tail) < _TAIL or tail[4:] != _MAGIC or length + _TAIL + len(_MAGIC) > size:
                return "it has no Parquet footer yet"
            handle.seek(size - _TAIL - length)
            digest = hashlib.sha256(handle.read(length)).hexdigest()
    except FileNotFoundError:
        return "it went away while it was watched"
    except OSError as fault:
        return f"it cannot be read ({fault.strerror})"
    return LabelFile(_name(file, root), size, mtime_ns, digest)


def _name(file: Path, root: Path) -> str:
    return file.name if file == root else file.relative_to(root).as_posix()


def _stamp(file: Path) -> tuple[int, int]:
    try:
        status = file.stat()
    except FileNotFoundError:
        return -1, -1
    return status.st_size, status.st_mtime_ns


def _in_order_of_arrival(files: Any) -> tuple[LabelFile, ...]:
    return tuple(sorted(files, key=lambda file: (file.mtime_ns, file.path)))


def _waiting_words(waiting: Mapping[str, str]) -> str:
    if not waiting:
        return ""
    named = [f"{name}: {why}" for name, why in sorted(waiting.items())]
    return f", {len(waiting):,} wait for the next run ({'; '.join(named[:3])}{'; ...' if len(named) > 3 else ''})"


def _set_repeats(
    config: Config, earlier: Sequence[Path], samples: Sequence[Path], class_names: Sequence[str]
) -> tuple[int, int]:
    """Images of this run that earlier files hold too, and those with other labels there."""
    now, before = dict[str, str](), dict[str, str]()
    for path in samples if earlier else ():
        table = read_table(path, "samples", ["sample_id", GIVEN])
        now |= zip(table.column("sample_id").to_pylist(), texts_of_sets(table.column(GIVEN), class_names), strict=True)
    ids = pa.array(list(now), pa.string())
    for file in earlier:
        rows = labels_dataset(config.data.labels, [file]).to_table(
            columns=["sample_id", "given_label"], filter=pc.field("sample_id").isin(ids)
        )
        before |= given_texts(respelled(rows, config.data.spellings), class_names, _name(file, config.data.labels))
    return len(before), sum(now[sample] != text for sample, text in before.items())
