"""The kinds that a run proposes for images that fit no class, told to people and named by them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from labelclean.errors import ConfigError, listed
from labelclean.storage.parquet import read_table
from labelclean.storage.tables import NEW_KINDS

SHOWN = 5


def kinds_record(kinds: pa.Table) -> list[dict[str, Any]]:
    """Return the proposed kinds for the summary.

    Args:
        kinds: Table `new_kinds`.

    Returns:
        JSON values: of each kind its number, how many images it has, of how many people said none of these, which labels
        they carry, and the first five.
    """
    members: dict[int, list[dict[str, Any]]] = {}
    for row in sorted(kinds.to_pylist(), key=lambda row: (row["kind"], row["place"])):
        members.setdefault(row["kind"], []).append(row)
    return [
        {
            "kind": kind,
            "num": len(rows),
            "num_answers": sum(row["is_answer"] for row in rows),
            "given": dict(Counter(row["given_label"] for row in rows).most_common()),
            "sample_ids": [row["sample_id"] for row in rows[:SHOWN]],
        }
        for kind, rows in members.items()
    ]


def kind_sentences(kinds: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the proposed kinds for people; none where there are none.

    Examples:
        >>> kind_sentences([{"kind": 1, "num": 7, "num_answers": 2}])
        ['new kinds: 7 images fit no class, in 1 group (1: 7, 2 answered none of these); the report shows them, apply --new-class NAME=1 names one']
    """
    if not kinds:
        return []
    groups = "; ".join(
        f"{one['kind']}: {one['num']:,}"
        + (f", {one['num_answers']:,} answered none of these" if one["num_answers"] else "")
        for one in kinds[:5]
    )
    more = f"; and {len(kinds) - 5:,} more" if len(kinds) > 5 else ""
    return [
        f"new kinds: {sum(one['num'] for one in kinds):,} images fit no class, in {len(kinds):,} "
        f"group{'s' if len(kinds) > 1 else ''} ({groups}{more}); the report shows them, apply --new-class NAME="
        f"{kinds[0]['kind']} names one"
    ]


def named_kinds(run_folder: Path, new_classes: Sequence[str], class_names: Sequence[str]) -> dict[str, str]:
    """Return the new class of each image of a named kind.

    Args:
        run_folder: A published run.
        new_classes: `NAME=KIND` each; several kinds may have one name.
        class_names: The K class names of the run.

    Returns:
        Class by sample id.

    Raises:
        ConfigError: If any of them cannot be used; all faults are listed.
    """
    if not new_classes:
        return {}
    path = run_folder / f"{NEW_KINDS}.parquet"
    rows = read_table(path, NEW_KINDS).to_pylist() if path.is_file() else []
    kinds, faults = sorted({row["kind"] for row in rows}), []
    named: dict[int, str] = {}
    for item in new_classes:
        name, _, number = item.rpartition("=")
        name = name.strip()
        if not name or not name.isprintable():
            faults.append(f"{item!r} must look like NAME=KIND, such as burr=1")
        elif name in class_names:
            faults.append(f"{name!r} is a class already; answer with that class instead")
        elif not number.isdecimal() or int(number) not in kinds:
            known = listed([str(kind) for kind in kinds], 12) or "none"
            faults.append(f"{item!r} must name a kind that the run proposes ({known})")
        elif named.setdefault(int(number), name) != name:
            faults.append(f"kind {number} is named twice, {named[int(number)]!r} and {name!r}")
    if faults:
        raise ConfigError(f"--new-class: {'; '.join(faults)}. Nothing was written.")
    return {row["sample_id"]: named[row["kind"]] for row in rows if row["kind"] in named}
