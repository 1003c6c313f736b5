"""Whatever happens to an annotator's file, it is imported exactly or refused with nothing written."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labelclean.errors import ExchangeError
from labelclean.review.exchange.tools import TOOLS, Tool, import_decisions
from labelclean.review.ledger import append_decisions, decisions_of, open_ledger
from tests.review.exchange.conftest import NOW, rows_of
from tests.review.exchange.test_answers import ANSWERS, WRITERS, key_of

Mutation = tuple[str, Any]
SETTINGS = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
MUTATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("permute"), st.randoms(use_true_random=False)),
        st.tuples(st.just("repeat"), st.lists(st.integers(0, 11), min_size=1, max_size=5)),
        st.tuples(st.just("keep"), st.integers(0, 12)),
        st.tuples(st.just("rename"), st.tuples(st.integers(0, 11), st.text("abcXYZ019_.傷 ", min_size=1, max_size=12))),
        st.tuples(st.just("swap"), st.tuples(st.integers(0, 11), st.integers(0, 11))),
    ),
    max_size=4,
)


def entries(tool: Tool, text: str) -> tuple[list[str], Callable[[list[str]], str]]:
    """A file's entries as texts, and the way back to a file."""
    if tool == "label-studio":
        rows = [json.dumps(row) for row in json.loads(text)]
        return rows, lambda kept: f"[{','.join(kept)}]"
    if tool == "fiftyone":
        record = json.loads(text)
        rows = [json.dumps(row) for row in record.pop("answers")]
        head = json.dumps(record)[:-1]
        return rows, lambda kept: f'{head}, "answers": [{",".join(kept)}]}}'
    if tool == "cvat":
        parts = text.split("<image ")
        tail = "</annotations>"
        rows = ["<image " + part.removesuffix(tail) for part in parts[1:]]
        return rows, lambda kept: parts[0] + "".join(kept) + tail
    lines = text.split("\n")
    lines = [line.strip("\r") for line in lines if line.strip()]
    if tool == "csv":
        return lines[1:], lambda kept: "\n".join([lines[0], *kept, ""])
    return lines, lambda kept: "\n".join([*kept, ""])


def mutated(rows: list[str], mutations: list[Mutation], keys: list[str], *, with_swaps: bool) -> list[str]:
    for what, how in mutations:
        if what == "permute":
            rows = list(rows)
            how.shuffle(rows)
        elif what == "repeat":
            rows = rows + [rows[k] for k in how if k < len(rows)]
        elif what == "keep":
            rows = rows[:how]
        elif what == "rename":
            rows = [row.replace(keys[how[0]], how[1]) for row in rows]
        elif with_swaps:
            rows = [row.replace(keys[how[0]], keys[how[1]]) for row in rows]
    return rows


@pytest.mark.slow
@pytest.mark.parametrize("tool", TOOLS)
def test_permuted_repeated_cut_and_renamed_entries_are_imported_exactly_or_refused(
    tool: Tool, exported: Callable[[Tool], Path], tmp_path: Path
) -> None:
    export = exported(tool)
    writer, name = WRITERS[tool]
    file = writer(
        export, {s: a for s, a in ANSWERS.items() if tool != "fiftyone" or s not in ("s2", "s4")}, tmp_path / name
    )
    truth = {row[0]: row for row in rows_of(import_decisions(file, tool, export, now=NOW)[1])}
    rows, joined = entries(tool, file.read_text(encoding="utf-8-sig"))
    assert len(rows) == 12
    keys = list(key_of(export).values())

    @SETTINGS
    @given(MUTATIONS, st.booleans())
    def holds(mutations: list[Mutation], partial: bool) -> None:
        # a CVAT file names an image in one place only: a name changed to another valid one cannot be seen
        kept = mutated(rows, mutations, keys, with_swaps=tool != "cvat")
        file.write_text(joined(kept), encoding="utf-8")
        try:
            report, decisions = import_decisions(file, tool, export, now=NOW, partial=partial)
        except ExchangeError:
            assert any(what in ("rename", "swap") for what, _ in mutations)
            return
        assert rows_of(decisions) <= set(truth.values())
        assert len(decisions) == len({d.sample_id for d in decisions})
        if not any(what in ("rename", "swap") for what, _ in mutations):
            present = {sample for sample, key in key_of(export).items() if any(key in row for row in kept)}
            assert rows_of(decisions) == {row for sample, row in truth.items() if sample in present}
            assert report.is_clean

    holds()


@pytest.mark.slow
@pytest.mark.parametrize("tool", TOOLS)
def test_a_file_cut_at_any_byte_is_imported_exactly_or_refused(
    tool: Tool, exported: Callable[[Tool], Path], tmp_path: Path
) -> None:
    export = exported(tool)
    writer, name = WRITERS[tool]
    file = writer(
        export, {s: a for s, a in ANSWERS.items() if tool != "fiftyone" or s not in ("s2", "s4")}, tmp_path / name
    )
    truth = rows_of(import_decisions(file, tool, export, now=NOW)[1])
    whole = file.read_bytes()
    ledger = open_ledger(f"sqlite:///{tmp_path / 'ledger.db'}")

    @SETTINGS
    @given(st.integers(0, len(whole) - 1))
    def holds(length: int) -> None:
        file.write_bytes(whole[:length])
        before = len(decisions_of(ledger, "line 3 (北)"))
        try:
            decisions = import_decisions(file, tool, export, now=NOW)[1]
        except ExchangeError:
            assert len(decisions_of(ledger, "line 3 (北)")) == before
            return
        append_decisions(ledger, decisions)
        assert rows_of(decisions) <= truth

    holds()
    file.write_bytes(whole)
    append_decisions(ledger, import_decisions(file, tool, export, now=NOW)[1])
    held = decisions_of(ledger, "line 3 (北)")
    assert rows_of(held) == truth
    assert len(held) == len(truth)


HOSTILE_NAMES = st.lists(
    st.text(st.characters(blacklist_categories=("Cs", "Cc")), min_size=1, max_size=12).filter(str.strip),
    min_size=2,
    max_size=5,
    unique=True,
)


@SETTINGS
@given(HOSTILE_NAMES)
def test_any_cell_comes_back_from_a_table_as_it_was(names: list[str]) -> None:
    from labelclean.review.exchange.spreadsheet import guarded, unguarded

    text = io.StringIO(newline="")
    csv.writer(text).writerow([guarded(name) for name in names])
    back = next(csv.reader(io.StringIO(text.getvalue(), newline="")))
    assert [unguarded(cell) for cell in back] == names


@SETTINGS
@given(HOSTILE_NAMES)
def test_any_class_name_stands_in_the_labelling_config_as_it_is(names: list[str]) -> None:
    from defusedxml.ElementTree import fromstring

    from labelclean.review.exchange.label_studio import labelling_config

    try:
        config = labelling_config(names)
    except ExchangeError:
        assert any(ord(letter) >= 0xFFFE for name in names for letter in name)
        return
    choices = fromstring(config).findall("Choices[@name='label']/Choice")
    assert [choice.get("value") for choice in choices] == names


@pytest.mark.slow
@pytest.mark.parametrize("form", ["annotations.zip", "metadata.parquet"])
def test_a_packed_file_cut_at_any_byte_is_refused(form: str, exported: Callable[[Tool], Path], tmp_path: Path) -> None:
    tool: Tool = "cvat" if form.endswith("zip") else "huggingface"
    export = exported(tool)
    writer, name = WRITERS[tool]
    plain, file = writer(export, ANSWERS, tmp_path / name), tmp_path / form
    truth = rows_of(import_decisions(plain, tool, export, now=NOW)[1])
    if tool == "cvat":
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
            packed.write(plain, "annotations.xml")
    else:
        pq.write_table(pa.Table.from_pylist([json.loads(line) for line in plain.read_text().splitlines()]), file)
    assert rows_of(import_decisions(file, tool, export, now=NOW)[1]) == truth
    whole = file.read_bytes()

    @SETTINGS
    @given(st.integers(0, len(whole) - 1))
    def holds(length: int) -> None:
        file.write_bytes(whole[:length])
        with pytest.raises(ExchangeError):
            import_decisions(file, tool, export, now=NOW)

    holds()
