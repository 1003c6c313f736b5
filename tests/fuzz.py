"""Makes bad input by the thousand and feeds it to every door: config, labels, answers, images, starting labels.

Each door must end in success, in a refusal of one image, or in a `LabelcleanError`. Used by
`test_fuzz` (a fixed number of inputs) and by `search` (atheris looks for new paths by itself).
"""

from __future__ import annotations

import contextlib
import faulthandler
import gzip
import io
import json
import os
import random
import shutil
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from labelclean.config import Config, DecodeConfig, config_record, parse_config
from labelclean.errors import LabelcleanError
from labelclean.features.decode import decode_image
from labelclean.features.image_files import ImageReject
from labelclean.review.exchange.tools import Tool, export_run, import_decisions
from labelclean.runs import steps
from labelclean.runs.record import part_of
from labelclean.starting.source import first_labels
from labelclean.storage.parquet import image_rows
from labelclean.storage.tables import conform
from tests.hostile import TEXTS, WHOLE, bomb, pages
from tests.review.exchange.conftest import NAMES, make_run
from tests.review.exchange.test_answers import ANSWERS, WRITERS
from tests.review.exchange.test_sheet import decisions_file

ROOT = Path(__file__).parent.parent
HANG_S = 30
"""An input that takes longer ends the process with the place where it hangs."""
NOW = datetime(2026, 1, 15, 8, 0, tzinfo=UTC)
Door = Callable[[bytes], str]
TOKENS = [
    *(text.encode("utf-8", "surrogatepass") for text in TEXTS),
    *(b"[" * 40, b"{" * 40, b"[" * 3000, b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\r\n", b"\t", b'"', b"'", b"\\"),
    *(b"null", b"true", b"NaN", b"-Infinity", b"1e999", b"-1", b"0", b"9" * 30, b"9" * 5000, b"0x7fffffffffffffff"),
    *(b"2026-13-45", b"0000-00-00", b"2026-01-01T25:61:61Z", b"9999-12-31T23:59:59+99:99", b"0001-01-01", b"12:99:99"),
    *(b"!!python/object/apply:os.system [id]", b"!!binary /w==", b"!!int '1_'", b"!!timestamp x", b"!!float ''"),
    *(b"&a [*a]", b"*a", b"<<: {}", b"? []", b"- ", b"---\n", b"...\n", b"%YAML 9.9\n", b"!!set {a, b}", b"!!omap []"),
    *(b"<!DOCTYPE a>", b"<!ENTITY a 'b'>", b"&a;", b"&#0;", b"<![CDATA[", b"<?x?>", b"</annotations>", b"<image/>"),
]


def mutated(data: bytes, chance: random.Random) -> bytes:
    """Some bytes changed, cut, doubled or replaced by something nasty."""
    body = bytearray(data)
    for _ in range(chance.choice([1, 1, 2, 4, 16])):
        place = chance.randrange(len(body) + 1)
        end = min(len(body), place + chance.choice([1, 1, 4, 20, 200]))
        kind = chance.randrange(7)
        if kind == 0:
            body[place:end] = bytes(chance.randrange(256) for _ in range(end - place))
        elif kind == 1:
            body[place:place] = chance.choice(TOKENS)
        elif kind == 2:
            body[place:end] = chance.choice(TOKENS)
        elif kind == 3:
            del body[place:end]
        elif kind == 4:
            body[place:place] = body[place:end] * chance.choice([1, 2, 50])
        elif kind == 5:
            other = chance.randrange(len(body) + 1)
            body[place:end], body[other : other + 1] = body[other : other + end - place], body[place : place + 1]
        elif chance.random() < 0.2:
            del body[place:]
    return bytes(body)


def outcome(call: Callable[[], object]) -> str:
    """What a door said; anything but success and a refusal goes on as the fault that it is."""
    faulthandler.dump_traceback_later(HANG_S, exit=True)
    try:
        call()
    except ImageReject as refusal:
        check_letter(str(refusal))
        return str(refusal.reason_code)
    except LabelcleanError as refusal:
        check_letter(str(refusal))
        return type(refusal).__name__
    finally:
        faulthandler.cancel_dump_traceback_later()
    return "success"


def check_letter(letter: str) -> None:
    """A refusal is readable, ends, and can be written to any terminal or log."""
    if not letter.strip() or len(letter) > 20_000:
        raise AssertionError(f"a letter of {len(letter)} characters")
    letter.encode("utf-8")


# --- config ---------------------------------------------------------------------------------------


def config_door(data: bytes) -> str:
    """A config file's bytes."""

    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return "no text"
    lines = text.split("\n--set ")

    def call() -> None:
        config = parse_config(lines[0], folder=Path("/plant"), origin="config.yaml", overrides=lines[1:])
        write = config_record(config)
        if Config.model_validate(json.loads(json.dumps(write))) != config and "nan" not in repr(write):
            raise AssertionError("a config that does not survive its own record")

    return outcome(call)


def config_seeds() -> list[bytes]:
    """Whole config files."""
    least = b"data: {labels: in/labels.parquet}\nbackbone: {name: resnet18}\nrun: {seed: 0}\n"
    more = b"decode: {window: fixed, low: 1, high: 2}\nledger: {url: 'sqlite:///a.db'}\nteacher: {lambdas: [0.1, 2]}\n"
    uncommented = "\n".join(
        line for line in (ROOT / "config.yaml").read_text().splitlines() if not line.lstrip().startswith("#")
    )
    return [least, least + more, uncommented.encode()]


def config_text(chance: random.Random) -> bytes:
    """A config with some keys, known or not, set to anything that YAML can say."""
    lines = [config_seeds()[0].decode()]
    for _ in range(chance.choice([1, 1, 2, 5])):
        section = chance.choice([*Config.model_fields, "data", "x"])
        keys = list(getattr(Config.model_fields.get(section), "annotation", Config).model_fields)
        key = f"{section}.{chance.choice([*keys, 'x', ''])}"
        lines.append(f"--set {key}={chance.choice(_VALUES)}")
    return "\n".join(lines).encode("utf-8", "surrogateescape")


_VALUES = [
    *(token.decode("utf-8", "surrogateescape") for token in TOKENS),
    *("", "~", "{}", "[]", "1", "-1", "0.5", ".nan", ".inf", "1e400", "2026-01-01", "2026-01-01T00:00:00Z", "yes"),
    *(
        "[0.5, 0.5]",
        "[1, a, null]",
        "{a: {b: [c]}}",
        "[[[[]]]]",
        "{1: 2}",
        "{null: 3}",
        "{[1]: 2}",
        "auto",
        "full_range",
    ),
    *('"\\0"', '"\\ud800"', '"\\U0010ffff"', "!!set {a, b}", "!!binary aGk=", "!!pairs [a: 1]", "1" + "0" * 400),
    *("postgresql://me:geheim@db/x", "sqlite://", "cuda:99999999999999999999", "4294967296", "184467440737095516160"),
    "{a: &a [x, x, x, x, x, x, x, x, x], b: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a], "
    "c: &c [*b, *b, *b, *b, *b, *b, *b, *b, *b], d: &d [*c, *c, *c, *c, *c, *c, *c, *c, *c], "
    "e: [*d, *d, *d, *d, *d, *d, *d, *d, *d]}",
]


# --- labels ---------------------------------------------------------------------------------------


class LabelsDoor:
    """A labels file's bytes, through the step that ingests them."""

    def __init__(self, folder: Path) -> None:
        """Make the place."""
        self.file, self.runs = folder / "labels.parquet", folder / "runs"
        self.config = Config.model_validate(
            {
                "data": {"labels": self.file},
                "backbone": {"name": "resnet10t"},
                "run": {"seed": 0},
                "storage": {"runs": self.runs, "cache": folder / "cache"},
                "expectations": {"enabled": False},
            }
        )

    def __call__(self, data: bytes) -> str:
        """Ingest the bytes."""
        self.file.write_bytes(data)
        said = outcome(self._ingest)
        if self.runs.exists() and list(self.runs.iterdir()):
            raise AssertionError("a run that failed left something behind")
        return said

    def _ingest(self) -> None:
        steps.validated(self.config)
        with steps.open_run(self.config) as run:
            steps.ingest(run.work)
            if part_of(run.work, "ingest")["has_bytes"]:
                for _ in image_rows(self.file):
                    pass


def labels_table(chance: random.Random) -> bytes:
    """A whole Parquet file whose columns are right, hostile, of another type or missing."""
    num = chance.choice([0, 1, 2, 5, 5, 30])
    columns: dict[str, pa.Array] = {}
    names = ["sample_id", "image_path", "given_label"]
    names += chance.sample(["group_id", "annotator_id", "candidate_labels", "image", "captured_at", "line", "x"], 2)
    for name in names:
        if chance.random() < 0.02:
            continue
        made = _right(name, num, chance) if chance.random() < 0.9 else chance.choice(_OTHER_COLUMNS)(num, chance)
        columns[name if chance.random() < 0.97 else chance.choice(TEXTS)] = made
    file = io.BytesIO()
    try:
        table = pa.table(columns)
        pq.write_table(table, file, row_group_size=chance.choice([1, 7, 1000]))
    except (pa.ArrowException, UnicodeEncodeError):
        return labels_table(chance)  # Parquet does not know the type
    return file.getvalue()


def _right(name: str, num: int, chance: random.Random) -> pa.Array:
    if name == "sample_id":
        ids = [f"s{row}" for row in range(num)]
        if ids and chance.random() < 0.3:
            ids[-1] = chance.choice([ids[0], *_SAFE_TEXTS])
        return pa.array(ids, pa.string())
    if name == "given_label":
        kinds = ["ok", "dent", "傷"] if chance.random() < 0.8 else [chance.choice(_SAFE_TEXTS) for _ in range(3)]
        return pa.array([chance.choice(kinds) for _ in range(num)], pa.string())
    if name == "candidate_labels":
        sets = [["ok"], ["ok", "dent"], None] + [[], [None], ["x"]] * (chance.random() < 0.2)
        return pa.array([chance.choice(sets) for _ in range(num)], pa.list_(pa.string()))
    if name == "image":
        return pa.array([chance.choice([b"", b"x", None, b"\x89PNG"]) for _ in range(num)], pa.binary())
    if name == "captured_at":
        return pa.array([chance.choice([None, 0, 2**62, -(2**62)]) for _ in range(num)], pa.timestamp("us", tz="UTC"))
    texts = [text for text in _SAFE_TEXTS if text.strip() or chance.random() < 0.1]
    return pa.array([chance.choice(texts) for _ in range(num)], pa.string())


_SAFE_TEXTS = [text for text in TEXTS if text.isprintable() or "\n" in text or "\0" in text]
_Column = Callable[[int, random.Random], pa.Array]
_OTHER_COLUMNS: list[_Column] = [
    lambda num, _: pa.nulls(num),
    lambda num, _: pa.array(range(num), pa.int8()),
    lambda num, _: pa.array([float("nan")] * num, pa.float32()),
    lambda num, _: pa.array([b"\xff\xfe"] * num, pa.binary()),
    lambda num, _: pa.Array.from_buffers(  # text that is no UTF-8
        pa.string(), num, pa.array([b"\xff\xfe"] * num, pa.binary()).buffers()
    ),
    lambda num, _: pa.array(["ok"] * num).dictionary_encode(),
    lambda num, _: pa.array(["ok", None] * num)[:num].dictionary_encode(),
    lambda num, _: pa.array(["ok"] * num, pa.large_string()),
    lambda num, _: pa.array(["ok"] * num, pa.string_view()),
    lambda num, _: pa.array([["ok"]] * num, pa.list_(pa.string())),
    lambda num, _: pa.array([{"bytes": b"x", "path": "a"}] * num),
    lambda num, _: pa.array([[("a", 1)]] * num, pa.map_(pa.string(), pa.int64())),
    lambda num, _: pa.array([True] * num),
    lambda num, _: pa.array([10**30] * num, pa.decimal128(38)),
    lambda num, _: pa.array([2**62] * num, pa.duration("ns")),
    lambda num, _: pa.array([-(2**62)] * num, pa.timestamp("s")),
    lambda num, _: pa.array([2**30] * num, pa.date32()),
    lambda num, _: pa.array([b"abcd"] * num, pa.binary(4)),
    lambda num, _: pa.array([1.0] * num, pa.float16()),
    lambda num, _: pa.array([2**64 - 1] * num, pa.uint64()),
    lambda num, chance: pa.array([chance.choice(_SAFE_TEXTS) for _ in range(num)], pa.string()),
]


# --- answers --------------------------------------------------------------------------------------


class AnswersDoor:
    """An annotation tool's file, through the import."""

    def __init__(self, tool: Tool, folder: Path) -> None:
        """Export a run for the tool and answer it."""
        self.tool = tool
        self.export = export_run(make_run(folder / "run"), tool, folder / "export", part_size=5).folder
        self.file = folder / "answers"
        if tool == "sheet":
            self.seeds = [decisions_file(self.export, folder / "sheet.json").read_bytes()]
        else:
            writer, name = WRITERS[tool]
            sayable = {s: a for s, a in ANSWERS.items() if tool != "fiftyone" or s not in ("s2", "s4")}
            self.seeds = [writer(self.export, sayable, folder / name).read_bytes()]

    def __call__(self, data: bytes) -> str:
        """Import the bytes, strictly and in part."""
        self.file.write_bytes(data)
        outcome(lambda: import_decisions(self.file, self.tool, self.export, now=NOW, partial=True))
        return outcome(self._strictly)

    def _strictly(self) -> None:
        _, decisions = import_decisions(self.file, self.tool, self.export, now=NOW)
        for decision in decisions:
            if {decision.verified_label, *decision.named_labels} - {None, *NAMES}:
                raise AssertionError(f"a class that is none: {decision!r}")


# --- images ---------------------------------------------------------------------------------------

_SMALL = DecodeConfig(max_pixels=4_000_000, max_bytes=10_000_000, page="first")


def image_door(data: bytes) -> str:
    """An image file's bytes."""

    def call() -> None:
        pixels = decode_image(data, _SMALL)
        if not (pixels.ndim == 3 and pixels.shape[2] in (1, 3) and 0.0 <= pixels.min() <= pixels.max() <= 1.0):
            raise AssertionError(f"no picture: {pixels.shape}")

    return outcome(call)


def image_seeds() -> list[bytes]:
    """Small files of every kind."""
    return [*(make() for make in WHOLE.values()), bomb(), pages("TIFF"), pages("PNG")]


# --- starting labels ------------------------------------------------------------------------------


class StartingDoor:
    """A file of labels as people have them, through its reader to a table that conforms."""

    def __init__(self, name: str, folder: Path) -> None:
        """Make the place, with an image."""
        self.file = folder / name
        (folder / "a.png").touch()

    def __call__(self, data: bytes) -> str:
        """Read the bytes."""
        self.file.write_bytes(data)
        return outcome(self._read)

    def _read(self) -> None:
        found = first_labels(self.file)
        if found is not None:
            conform(found.table, "labels", origin=self.file.name)
            "\n".join(found.seen).encode("utf-8", "surrogateescape")


def _workbook() -> bytes:
    import openpyxl

    book = openpyxl.Workbook()
    for row in (
        ["file", "label", "day", "n"],
        ["a.png", "ok", NOW.replace(tzinfo=None), 0.5],
        ["b.png", "dent", True, 7],
    ):
        book.active.append(row)  # type: ignore[union-attr]
    data = io.BytesIO()
    book.save(data)
    return data.getvalue()


def _changed_workbook(data: bytes, chance: random.Random) -> bytes:
    """A workbook of which one part inside was changed, or the whole file."""
    if chance.random() < 0.2:
        return mutated(data, chance)
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(made, "w") as new:
        wanted = chance.choice([name for name in old.namelist() if name.endswith(".xml")])
        for name in old.namelist():
            new.writestr(name, mutated(old.read(name), chance) if name == wanted else old.read(name))
    return made.getvalue()


STARTING: dict[str, list[bytes]] = {
    "l.csv": [
        b"file,label,lot\r\na.png,ok,007\r\nb.png,dent,\r\n",
        "sep=;\nファイル名;不良名\na.png;傷\n".encode("cp932"),
        "title\n\nimage\tok\tdent\na.png\t1\t0\n".encode("utf-16"),
        gzip.compress(b"a.png,ok\nb.png,dent\n"),
        b"image,id,choice,annotator,annotation_id\na.png,1,ok,1,5\n",
    ],
    "l.txt": [b"a.png ok\nline 3/b.png dent\n"],
    "l.json": [
        b'{"images": [{"id": 1, "file_name": "a.png"}], "categories": [{"id": 1, "name": "ok"}], '
        b'"annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": []}]}',
        b'[{"data": {"image": "/data/upload/1/a.png"}, "annotations": [{"completed_by": {"id": 3}, "updated_at": "2026", '
        b'"result": [{"type": "choices", "value": {"choices": ["ok"]}}]}], "drafts": [], "predictions": []}]',
        b'[{"image": "a.png", "id": 1, "choice": {"choices": ["ok"]}, "annotator": 1, "annotation_id": 2}]',
        b'{"classes": ["ok", "dent"], "labels": {"a": 0, "b": "dent", "c": null}}',
    ],
    "l.jsonl": [b'{"file_name": "a.png", "label": "ok", "x": [1]}\n{"file_name": "b.png", "label": 3}\n'],
    "l.xml": [
        b'<annotations><image id="0" name="a.png"><tag label="ok"/><box label="x"/></image></annotations>',
        b"<annotation><filename>a.png</filename><object><name>ok</name><bndbox/></object></annotation>",
    ],
}
"""Whole files of each kind."""


def _other_labels(chance: random.Random) -> bytes:
    """Parquet with column names of somebody else's, or as Hugging Face writes it."""
    num = chance.choice([0, 1, 3, 10])
    columns: dict[str, pa.Array] = {}
    for name in chance.sample(["file", "id", "label", "class", "image", "annotator_id", "given_label", "sample_id"], 4):
        columns[name] = (
            _right("image_path", num, chance) if chance.random() < 0.6 else chance.choice(_OTHER_COLUMNS)(num, chance)
        )
    features = {"label": chance.choice([{"_type": "ClassLabel", "names": ["ok", "dent"]}, {"_type": "Value"}, 3, None])}
    told = chance.choice([json.dumps({"info": {"features": features}}), "{}", "[", '{"info": []}'])
    file = io.BytesIO()
    try:
        table = pa.table(columns)
        pq.write_table(table.replace_schema_metadata({"huggingface": told}), file)
    except (pa.ArrowException, UnicodeEncodeError):
        return _other_labels(chance)
    return file.getvalue()


class TreeDoor:
    """A folder: class folders, known layouts, tables and metadata beside images, by whichever reader takes it."""

    def __init__(self, folder: Path) -> None:
        """Name the place."""
        self.root = folder / "tree"

    def __call__(self, data: bytes) -> str:
        """Lay out the files that the bytes say, and read their folder."""
        shutil.rmtree(self.root, ignore_errors=True)
        self.root.mkdir()
        for part in data.split(_PART):
            name, _, content = part.partition(b"\n")
            path = os.fsdecode(name.replace(b"\0", b"")).lstrip("/")
            if path and ".." not in path:
                with contextlib.suppress(OSError):  # names too long, or a file in a folder's place
                    (self.root / path).parent.mkdir(parents=True, exist_ok=True)
                    (self.root / path).write_bytes(content)
        return outcome(self._read)

    def _read(self) -> None:
        found = first_labels(self.root)
        if found is not None:
            conform(found.table, "labels", origin="tree")
            "\n".join(found.seen).encode("utf-8", "surrogateescape")


_PART = b"\n\0\0\n"
_FOLDERS = [
    *("good", "dent", "ok", "OK", "ok ", "train", "test", "val", "line3", "ground_truth", "masks", "Label", "@eaDir"),
    *(
        "$RECYCLE.BIN",
        "lost+found",
        "_unlabeled",
        "data",
        "images",
        ".hidden",
        "bottle",
        "傷",
        "か\u3099",
        "0",
        "10",
        "\udcff",
    ),
]
_FILES = [
    "1.png",
    "2.PNG",
    "1_mask.png",
    "1_GT.tif",
    "3.jfif",
    "4.gif",
    "Thumbs.db",
    "5.heic",
    "\udcff.png",
    "a",
    "x.txt",
]


def tree(chance: random.Random) -> bytes:
    """Some files in some folders, now and then with a table, metadata or pages of an annotation tool."""
    depth = chance.choice([1, 1, 2, 3])
    names = [chance.sample(_FOLDERS, chance.choice([1, 2, 3])) for _ in range(depth)]
    paths = ["/".join([*map(chance.choice, names), chance.choice(_FILES)]) for _ in range(chance.choice([0, 1, 6, 12]))]
    parts = [path.encode("utf-8", "surrogateescape") + b"\n" for path in paths]
    tables = [
        (b"train.csv", STARTING["l.csv"][0]),
        (b"metadata.csv", b"file_name,label\n1.png,ok\n2.PNG,dent\n"),
        (b"train/metadata.jsonl", STARTING["l.jsonl"][0]),
        (b"test/metadata.jsonl", STARTING["l.jsonl"][0]),
        (b"labels.json", STARTING["l.json"][3]),
        (b"a.xml", STARTING["l.xml"][1]),
        (b"pages/b.xml", STARTING["l.xml"][1]),
        (b"coco.json", STARTING["l.json"][0]),
    ]
    for name, content in chance.sample(tables, chance.choice([0, 0, 1, 2])):
        parts.append(name + b"\n" + (mutated(content, chance) if chance.random() < 0.5 else content))
    return _PART.join(parts)


def _starting(door: str, folder: Path) -> tuple[Door, Callable[[random.Random], bytes]]:
    if door == "tree":
        return TreeDoor(folder), lambda c: tree(c) if c.random() < 0.7 else mutated(tree(c), c)
    if door == "l.xlsx":
        book = _workbook()
        return StartingDoor(door, folder), lambda chance: _changed_workbook(book, chance)
    if door == "l.parquet":
        return StartingDoor(
            door, folder
        ), lambda c: _other_labels(c) if c.random() < 0.8 else mutated(_other_labels(c), c)
    seeds = STARTING[door]
    return StartingDoor(door, folder), lambda chance: mutated(chance.choice(seeds), chance)


# --- all doors ------------------------------------------------------------------------------------

TOOLS: tuple[Tool, ...] = ("label-studio", "cvat", "csv", "fiftyone", "huggingface", "sheet")
FILES = (*STARTING, "l.xlsx", "l.parquet", "tree")
DOORS = ("config", "labels", "images", *TOOLS, *FILES)


def opened(door: str, folder: Path) -> tuple[Door, Callable[[random.Random], bytes]]:
    """A door and a source of bad input for it.

    Args:
        door: One of `DOORS`.
        folder: An empty place of its own.

    Returns:
        The door, and a function from chance to an input.
    """
    if door == "config":
        seeds = config_seeds()
        return config_door, lambda c: config_text(c) if c.random() < 0.5 else mutated(c.choice(seeds), c)
    if door == "images":
        pictures = image_seeds()
        return image_door, lambda chance: mutated(chance.choice(pictures), chance)
    if door in FILES:
        return _starting(door, folder)
    if door == "labels":
        return LabelsDoor(folder), _labels
    answers = AnswersDoor(door, folder)  # type: ignore[arg-type]
    return answers, lambda chance: mutated(chance.choice(answers.seeds), chance)


def _labels(chance: random.Random) -> bytes:
    table = labels_table(chance)
    return table if chance.random() < 0.8 else mutated(table, chance)
