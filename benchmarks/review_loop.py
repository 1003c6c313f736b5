"""One command: five simulated nights of review and 20 seeds of promises, written into `docs/review_loop.md`.

Run from the repository's root: `LABELCLEAN_REAL_DATA=DIR python -m benchmarks.review_loop`. It takes about a
quarter of an hour on 2 cores with features in the cache; needs the extra `benchmark`.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

import numpy as np

from benchmarks.cleaning_power import ONE_THREAD
from benchmarks.data import DataSet, load_set, real_names
from benchmarks.nights import NIGHTS, ORDERS, PER_NIGHT, Handover, Night, Promise, handed_over, promises

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "review_loop.md"
PLOT = ROOT / "docs" / "images" / "review_loop.svg"
BEGIN, END = "<!-- written by benchmarks/review_loop.py -->", "<!-- end of what it writes -->"
COLOURS = {"labelclean": "#0b6e4f", "labelclean, no audit": "#7cc6a4", "cleanlab": "#b4532a", "random": "#777777"}
KINDS = ("uniform", "instance_dependent")
RATE = 0.1
T = TypeVar("T")


@lru_cache(maxsize=1)
def handover(name: str, cache: Path) -> Handover:
    """Return a shared set as handed over."""
    return handed_over(name, cache)


@lru_cache(maxsize=1)
def with_truth(name: str, cache: Path) -> DataSet:
    """Return a benchmark set."""
    data = load_set(name, cache)
    if data is None:
        raise ValueError(f"{name!r} does not exist.")
    return data


def nights_of(name: str, order: str, seed: int, cache: Path) -> list[Night]:
    """Return the nights of one data set, order and seed."""
    return ORDERS[order](handover(name, cache), order, seed)


def promises_of(name: str, kind: str, seed: int, cache: Path) -> list[Promise]:
    """Return the promises of one data set, noise kind and seed."""
    return promises(with_truth(name, cache), kind, RATE, seed)


def nights_section(nights: Sequence[Night]) -> list[str]:
    """Return the nights as Markdown: mean over the seeds, and the reviews that each order needs."""
    lines = [f"Mean over {len({one.seed for one in nights})} seeds; {PER_NIGHT} samples are reviewed per night.", ""]
    for name in sorted({one.data for one in nights}):
        lines += [f"**{name}**: share of right labels after each night, in %.", ""]
        lines += ["| order | labels | " + " | ".join(f"{k * PER_NIGHT}" for k in range(NIGHTS + 1)) + " |"]
        lines += ["|---|---|" + "---:|" * (NIGHTS + 1)]
        for key, title in (("by_decisions", "decisions only"), ("by_suggestion", "with suggestions")):
            for order in ORDERS:
                of_order = [one for one in nights if (one.data, one.order) == (name, order)]
                if of_order:
                    lines.append(f"| {order} | {title} | " + " | ".join(_means(of_order, key)) + " |")
        lines.append("")
    return lines


def promises_section(found: Sequence[Promise]) -> list[str]:
    """Return the promises as Markdown."""
    lines = [
        "| data | noise | queue | 90 % interval held | mean width | mean expected | mean wrong | expected left | wrong left |",
        "|---|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, kind, queue in sorted({(one.data, one.kind, one.queue) for one in found}):
        some = [one for one in found if (one.data, one.kind, one.queue) == (name, kind, queue)]
        held = sum(one.low <= one.wrong <= one.high for one in some)
        means = [
            np.mean([getattr(one, key) for one in some]) for key in ("expected", "wrong", "expected_left", "wrong_left")
        ]
        width = np.mean([one.high - one.low for one in some])
        cells = " | ".join(f"{value:.1f}" for value in (width, *means))
        lines.append(f"| {name} | {kind} | {queue} | {held} of {len(some)} | {cells} |")
    return [*lines, ""]


def draw(nights: Sequence[Night], path: Path) -> None:
    """Draw the share of right labels against the number of reviews, one panel per data set, as SVG."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "labelclean"
    from matplotlib import pyplot

    names = sorted({one.data for one in nights})
    figure, panels = pyplot.subplots(1, len(names), figsize=(4.6 * len(names), 3.6), squeeze=False)
    for panel, name in zip(panels[0], names, strict=True):
        for order, colour in COLOURS.items():
            some = [one for one in nights if (one.data, one.order) == (name, order)]
            if not some:
                continue
            places = [k * PER_NIGHT for k in range(NIGHTS + 1)]
            for key, style in (("by_decisions", "-"), ("by_suggestion", ":")):
                values = [
                    100 * np.mean([getattr(one, key) for one in some if one.night == k]) for k in range(NIGHTS + 1)
                ]
                panel.plot(places, values, style, color=colour, label=order if style == "-" else None)
        panel.set(title=name.replace("_", " "), xlabel="samples reviewed", ylabel="right labels, %")
        panel.grid(alpha=0.3)
    panels[0][0].legend(fontsize=8, title="solid: decisions only\ndotted: with suggestions", title_fontsize=7)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line, simulate, and write figures and plot."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--night-seeds", type=int, default=3)
    parser.add_argument("--promise-seeds", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--cache", type=Path, default=ROOT / "cache" / "benchmark")
    parser.add_argument("--out", type=Path, default=PAGE)
    parser.add_argument("--plot", type=Path, default=PLOT)
    chosen = parser.parse_args(arguments)
    for name in ONE_THREAD:
        os.environ[name] = "1"
    cache = chosen.cache.resolve()
    cache.mkdir(parents=True, exist_ok=True)
    nights: list[Night] = []
    promised: list[Promise] = []
    with ProcessPoolExecutor(chosen.workers, mp_context=get_context("spawn")) as pool:
        asked = [
            pool.submit(nights_of, name, order, seed, cache)
            for name in real_names()
            for order in ORDERS
            for seed in range(chosen.night_seeds)
        ]
        for one in _finished(asked, "nights"):
            nights += one
        made = [
            pool.submit(promises_of, name, kind, seed, cache)
            for name in [*real_names(), "digits"]
            for kind in KINDS
            for seed in range(chosen.promise_seeds)
        ]
        for two in _finished(made, "promises"):
            promised += two
    if nights:
        draw(nights, chosen.plot)
    text = ["", "### Simulated nights", "", *nights_section(nights), "### Promises", "", *promises_section(promised)]
    page = chosen.out.read_text(encoding="utf-8") if chosen.out.is_file() else f"{BEGIN}\n{END}\n"
    head, _, rest = page.partition(BEGIN)
    tail = rest.partition(END)[2]
    chosen.out.write_text("\n".join([head + BEGIN, *text, END]) + tail, encoding="utf-8")
    print("\n".join(text))


def _means(nights: Sequence[Night], key: str) -> list[str]:
    return [f"{100 * np.mean([getattr(one, key) for one in nights if one.night == k]):.2f}" for k in range(NIGHTS + 1)]


def _finished(futures: Sequence[Future[T]], what: str) -> Iterable[T]:
    for number, future in enumerate(as_completed(futures), start=1):
        print(f"{what}: {number} of {len(futures)}", file=sys.stderr, flush=True)
        yield future.result()


if __name__ == "__main__":
    main()
