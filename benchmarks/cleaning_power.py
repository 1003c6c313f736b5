"""One command: every method on every cell, into one Markdown table.

Run from the repository's root: `python -m benchmarks.cleaning_power --quick`. Every cell and
method is stored as one line of JSON when it is done; a killed run goes on where it stopped.
`--baseline FILE` compares with the stored lines of another commit.
"""

from __future__ import annotations

import argparse
import hashlib
import inspect
import os
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks import data, measures, noise_kinds, peers, problem, results, simifeat
from benchmarks.data import DataSet, hands_probs, load_set, noises_of, noisy_labels, set_names
from benchmarks.measures import Downstream, Truth, build_downstream, changes, measure
from benchmarks.noise_kinds import KINDS
from benchmarks.peers import AUDIT_SIZE, AUDITED, FROM_PROBS, METHODS, OURS, PROBES, SHARED
from benchmarks.problem import Audit, IntArray, Output, Problem
from labelclean.config import CleaningConfig
from labelclean.labels import one_hot
from labelclean.noise.top2 import two_hot
from labelclean.probes.feature_space import build_feature_space
from labelclean.probes.ridge import fit_cross_entropy
from labelclean.probes.sums import centred_unit_rows

HERE = Path(__file__).resolve().parent
RATES = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4)
QUICK_RATES = (0.0, 0.1, 0.4)
IMPORTS = (
    "torch",
    "torch._dynamo",
    "pandas",
    "sklearn.linear_model",
    "cleanlab.filter",
    "cleanlab.rank",
    "cleanlab.datalab.datalab",
)
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
CELL_PARTS = (data, noise_kinds, problem, measures, peers, simifeat)
PROBE_PARTS = (fit_cross_entropy, centred_unit_rows, build_feature_space, one_hot, two_hot)


class Cell(NamedTuple):
    """One data set, noise kind, rate and seed."""

    data: str
    kind: str
    rate: float
    seed: int


class Cost(NamedTuple):
    """What a computation took: CPU seconds of one thread, and MiB above what was there before."""

    seconds: float
    mib: float


def warm_up() -> None:
    """Import what methods import, so that no method is charged for it; what is missing, its method will miss."""
    for name in IMPORTS:
        with suppress(ImportError):
            import_module(name)


def cells_of(names: Sequence[str], rates: Sequence[float], seeds: int) -> list[Cell]:
    """Return all cells, those of one data set and seed together; where nobody draws noise, seeds change the folds alone."""
    return [
        Cell(name, kind, rate, seed) for name in names for seed in range(seeds) for kind, rate in noises_of(name, rates)
    ]


def digest_of(method: str) -> str:
    """Return the digest of the sources that a result hangs on, so that a change measures again."""
    parts = {inspect.getsourcefile(part) for part in (*CELL_PARTS, *PROBE_PARTS)}
    if method in (OURS, AUDITED):  # all that `clean_labels` imports, wherever it lies
        parts |= {module.__file__ for name, module in sys.modules.items() if name.partition(".")[0] == "labelclean"}
    return hashlib.sha256(b"\0".join(Path(path).read_bytes() for path in sorted(filter(None, parts)))).hexdigest()[:16]


def runs_on(method: str, name: str) -> bool:
    """Return whether a method can answer on a set: with the user's own probabilities only those that take some."""
    return method in FROM_PROBS or not hands_probs(name)


@lru_cache(maxsize=1)
def prepared(name: str, cache: Path) -> tuple[DataSet, Truth, Downstream] | None:
    """Return a data set with its truth and judge."""
    data = load_set(name, cache)
    if data is None:
        return None
    truth = Truth(data.true, data.test_features, data.test_true)
    return data, truth, build_downstream(data.features, truth)


@lru_cache(maxsize=1)
def folds_of(name: str, cache: Path, seed: int) -> IntArray:
    """Return labelclean's own folds of a set, which all methods share."""
    ready = prepared(name, cache)
    if ready is None:
        raise ValueError(f"{name!r} does not exist.")
    features = ready[0].features
    ids = [str(row) for row in range(len(features))]
    return build_feature_space(features, ids, None, CleaningConfig(), seed=seed).design.folds


def run_cell(cell: Cell, methods: dict[str, str], cache: Path) -> list[results.Row]:
    """Run some methods on one cell.

    A method gets a `Problem` and nothing else; truth meets its output in `measures` only. What a person found in a
    random audit is part of the audited method's problem, and of nobody else's.

    Args:
        cell: The cell.
        methods: Names of methods, and the digests of their sources when the run began.
        cache: Folder of features and oracles.

    Returns:
        One row per method; none where the set does not exist.
    """
    ready = prepared(cell.data, cache)
    if ready is None:
        return []
    data, truth, judge = ready
    given = noisy_labels(data, cell.kind, cell.rate, cell.seed)
    whole = Problem(data.features, given, folds_of(cell.data, cache, cell.seed), data.num_classes, cell.seed)
    handed = whole
    if data.pred_probs is not None or data.votes is not None:
        handed = replace(whole, pred_probs=data.pred_probs, votes=data.votes)
    if not data.hands_features:
        handed = replace(handed, features=data.features[:, :0])
    judge.known.clear()
    shared: dict[str, Cost] = {}
    decay = decay_of(handed if data.hands_features else whole, cache, shared)
    rows = []
    for method, digest in methods.items():
        seen, unseen = handed, np.ones(len(given), dtype=bool)
        if method == AUDITED:
            audit = drawn_audit(cell, truth.true)
            seen = replace(handed, audit=audit)
            unseen[audit.rows] = False
        output, cost = run_method(method, seen, shared)
        found = measure(output, given, truth, judge, decay, unseen) | {"seconds": cost.seconds, "mib": cost.mib}
        if data.pred_probs is not None:
            found["model_accuracy"] = float((data.pred_probs.argmax(axis=1) == truth.true)[unseen].mean())
        row = results.Row(
            *cell, method, digest, len(given), found, *changes(output.predicted, given, truth.true, unseen)
        )
        if method in (OURS, AUDITED):
            row = row._replace(
                scores=np.round(output.scores[unseen], 4).tolist(),
                wrong=np.flatnonzero((given != truth.true)[unseen]).tolist(),
            )
        rows.append(row)
    return rows


def decay_of(problem: Problem, cache: Path, shared: dict[str, Cost]) -> float:
    """Return the weight decay of the fresh probes that judge labels, the one under which the given labels are likeliest.

    It costs more than most methods and is the same for all of them, so it is kept.

    Args:
        problem: The cell, with its features.
        cache: Folder of decays.
        shared: Costs of shared parts, filled where it must be found.

    Returns:
        One of `problem.DECAYS`.
    """
    parts = (problem.features, problem.given, problem.folds)
    path = cache / "decays" / hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()[:24]
    if not path.is_file():
        for part in PROBES:
            shared_cost(part, problem, shared)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(problem.likeliest_decay))
    return float(path.read_text())


def drawn_audit(cell: Cell, true: IntArray) -> Audit:
    """Return samples drawn at random from all of a cell, and what a person finds there; the draw hangs on the cell's name.

    Args:
        cell: The cell.
        true: True classes, int64, shape (N,).

    Returns:
        30 samples, or all of a smaller set.
    """
    key = int(hashlib.sha256(f"audit {cell}".encode()).hexdigest()[:12], 16)
    rows = np.random.default_rng(key).permutation(len(true))[:AUDIT_SIZE]
    return Audit(rows, true[rows])


def run_method(method: str, problem: Problem, shared: dict[str, Cost]) -> tuple[Output, Cost]:
    """Run one method and weigh it; what several methods share is computed once and counted for each.

    Args:
        method: Its name.
        problem: All that it sees.
        shared: Costs of shared parts, filled here.

    Returns:
        Output and cost.
    """
    parts = [shared_cost(part, problem, shared) for part in SHARED.get(method, ())]
    start = _start()
    output = METHODS[method](problem)
    own = _cost(*start)
    return output, Cost(own.seconds + sum(p.seconds for p in parts), max(own.mib, *(p.mib for p in parts), 0.0))


def shared_cost(part: str, problem: Problem, shared: dict[str, Cost]) -> Cost:
    """Return what a part took that several methods share; it is made when it is first asked for."""
    if part not in shared:
        start = _start()
        getattr(problem, part)
        shared[part] = _cost(*start)
    return shared[part]


def _start() -> tuple[float, float]:
    """CPU time and memory now, the peak set back (Linux). One thread each, so CPU time is what an idle core would take."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return time.process_time(), _status_mib("VmRSS")


def _cost(started: float, before: float) -> Cost:
    """What was used since; the peak includes what the method returns."""
    return Cost(time.process_time() - started, max(_status_mib("VmHWM") - before, 0.0))


def _status_mib(key: str) -> float:
    """A figure of /proc/self/status in MiB; NaN where there is none."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(key):
                return int(line.split()[1]) / 1024
    return float("nan")


def run(cells: Iterable[Cell], digests: dict[str, str], cache: Path, workers: int) -> None:
    """Run what is not stored yet, and store it cell by cell.

    Args:
        cells: The grid.
        digests: Names of methods, and the digests of their sources.
        cache: Holds `results.jsonl`, features and oracles.
        workers: Processes, one thread each.
    """
    store = cache / "results.jsonl"
    known = {row.key for row in results.read_rows(store)}
    todo: dict[Cell, dict[str, str]] = {}
    for cell in cells:
        missing = {
            method: digest
            for method, digest in digests.items()
            if runs_on(method, cell.data) and (*cell, method, digest) not in known
        }
        if missing:
            todo[cell] = missing
    began, done = time.monotonic(), 0
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=warm_up) as pool:
        futures = {pool.submit(run_cell, cell, missing, cache): cell for cell, missing in todo.items()}
        for future in as_completed(futures):
            results.append_rows(store, future.result())
            done += 1
            left = (time.monotonic() - began) / done * (len(futures) - done) / 60
            print(f"{done}/{len(futures)} {futures[future]}, {left:.0f} min left", file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line, run, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="rates 0, .1, .4; without unbalanced and made-up sets")
    parser.add_argument("--sets", nargs="+", help="names of data sets; default: all of the run")
    parser.add_argument("--kinds", nargs="+", choices=[*KINDS, "none", "people"], help="noise kinds; default: all")
    parser.add_argument("--rates", nargs="+", type=float)
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=HERE / "RESULTS.md")
    parser.add_argument("--baseline", type=Path, help="results.jsonl of another commit, to compare with")
    parser.add_argument("--cache", type=Path, default=HERE.parent / "cache" / "benchmark")
    chosen = parser.parse_args(arguments)
    for name in ONE_THREAD:
        os.environ[name] = "1"
    names = chosen.sets or set_names(quick=chosen.quick)
    rates = chosen.rates or (QUICK_RATES if chosen.quick else RATES)
    cells = [cell for cell in cells_of(names, rates, chosen.seeds) if not chosen.kinds or cell.kind in chosen.kinds]
    cache = chosen.cache.resolve()
    cache.mkdir(parents=True, exist_ok=True)
    digests = {method: digest_of(method) for method in chosen.methods}
    run(cells, digests, cache, chosen.workers)
    wanted = {(*cell, *pair) for cell in cells for pair in digests.items()}
    rows = [row for row in results.read_rows(cache / "results.jsonl") if row.key in wanted]
    before = results.read_rows(chosen.baseline) if chosen.baseline else []
    command = " ".join(["python -m benchmarks.cleaning_power", *(arguments or sys.argv[1:])])
    text = results.markdown(rows, command, before)
    chosen.out.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
