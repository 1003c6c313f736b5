"""The only module that knows Great Expectations: a suite generated from `tables.py`, and a plain report back.

No rule is written twice: what `tables.conform` promises of a column is turned
into expectations here. Promises about the whole table (row count, class shares)
come from the config.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from labelclean.config import ExpectationsConfig
from labelclean.storage.tables import Column, table_key, table_spec

_QUIET = {"GX_ANALYTICS_ENABLED": "false", "TQDM_DISABLE": "1"}

_WORDS = {
    "expect_table_row_count_to_be_between": "the table must have enough rows",
    "expect_column_values_to_be_unique": "column '{column}' must hold each value once",
    "expect_compound_columns_to_be_unique": "columns {column} must hold each combination once",
    "expect_column_to_exist": "column '{column}' must be there",
    "expect_column_values_to_not_be_null": "column '{column}' must hold a value in every row",
    "expect_column_values_to_match_regex": "column '{column}' must not be blank",
    "expect_column_values_to_be_in_set": "column '{column}' must hold allowed names only",
    "expect_column_values_to_be_between": "column '{column}' must lie in 0..1",
    "largest_class_share": "column '{column}' must hold no class nearly everywhere",
}
"""What a broken expectation asks for."""


@dataclass(frozen=True)
class Expectation:
    """One expectation and how it went.

    Attributes:
        name: Great Expectations' name of it.
        column: Column or columns it looks at, empty for the whole table.
        success: Whether it holds.
        unexpected_count: Rows that break it, or 0 where rows are not counted.
        sample_ids: Up to 5 of them.
        observed: What was observed, in words.
    """

    name: str
    column: str
    success: bool
    unexpected_count: int
    sample_ids: tuple[str, ...]
    observed: str


@dataclass(frozen=True)
class ExpectationReport:
    """How a table met its suite.

    Attributes:
        success: Whether all expectations hold.
        expectations: Each of them.
        data_docs: Folder of the HTML pages, or None.
    """

    success: bool
    expectations: tuple[Expectation, ...]
    data_docs: Path | None

    def faults(self) -> tuple[str, ...]:
        """Return one sentence per broken expectation."""
        return tuple(
            f"{_WORDS.get(broken.name, broken.name + '({column})').format(column=broken.column)}, but: {broken.observed}"
            + (f"; sample_ids {', '.join(broken.sample_ids)}" if broken.sample_ids else "")
            for broken in self.expectations
            if not broken.success
        )


def suite_rules(
    name: str, column_names: Sequence[str], class_names: Sequence[str], limits: ExpectationsConfig
) -> list[tuple[str, dict[str, Any]]]:
    """Return the rules that a table must keep, as expectation names and arguments.

    Args:
        name: Table of the house.
        column_names: Columns that the table at hand has.
        class_names: The K classes in order; empty leaves them unchecked.
        limits: Section `expectations`.

    Returns:
        (class name in great_expectations.expectations, keyword arguments) pairs.

    Examples:
        >>> rules = suite_rules("flags", ["sample_id", "reason", "score"], [], ExpectationsConfig())
        >>> [rule for rule, _ in rules][:3]
        ['ExpectTableRowCountToBeBetween', 'ExpectCompoundColumnsToBeUnique', 'ExpectColumnToExist']
    """
    rules: list[tuple[str, dict[str, Any]]] = [("ExpectTableRowCountToBeBetween", {"min_value": limits.min_rows})]
    key = list(table_key(name, column_names))
    if len(key) == 1:
        rules.append(("ExpectColumnValuesToBeUnique", {"column": key[0]}))
    else:
        rules.append(("ExpectCompoundColumnsToBeUnique", {"column_list": key}))
    for column in table_spec(name, column_names).columns:
        if column.name in column_names:
            rules.extend(_column_rules(column, class_names))
        elif not column.optional:
            rules.append(("ExpectColumnToExist", {"column": column.name}))
    return rules


def check_expectations(
    table: pa.Table,
    name: str,
    *,
    class_names: Sequence[str],
    limits: ExpectationsConfig,
    data_docs: Path | None = None,
) -> ExpectationReport:
    """Run the generated suite over a table.

    Args:
        table: The table, image bytes left out.
        name: Which table of the house it is.
        class_names: The K classes in order.
        limits: Section `expectations`.
        data_docs: Folder for the HTML pages; None writes none.

    Returns:
        The report; the largest class share is judged here because GE has no such expectation.
    """
    context = _context()
    import great_expectations as gx

    suite = context.suites.add(gx.ExpectationSuite(name=name))
    for rule, arguments in suite_rules(name, table.column_names, class_names, limits):
        suite.add_expectation(getattr(gx.expectations, rule)(**arguments))
    asset = context.data_sources.add_pandas("labelclean").add_dataframe_asset(name)
    definition = context.validation_definitions.add(
        gx.ValidationDefinition(name=name, data=asset.add_batch_definition_whole_dataframe("all"), suite=suite)
    )
    actions = [_data_docs_action(context, data_docs)] if data_docs else []
    index = [column for column in ("sample_id",) if column in table.column_names]
    checkpoint = context.checkpoints.add(
        gx.Checkpoint(
            name=name,
            validation_definitions=[definition],
            actions=actions,
            result_format={"result_format": "SUMMARY", "unexpected_index_column_names": index},
        )
    )
    checked = [
        column.name for column in table_spec(name, table.column_names).columns if column.name in table.column_names
    ]
    frame = table.select(checked).to_pandas()
    (result,) = checkpoint.run(batch_parameters={"dataframe": frame}).run_results.values()
    outcomes = [_outcome(row) for row in result.results]
    if "given_label" in table.column_names:
        outcomes.append(_largest_share(table, limits.max_class_share))
    return ExpectationReport(all(outcome.success for outcome in outcomes), tuple(outcomes), data_docs)


def _context() -> Any:
    """An in-memory context that is quiet, sends nothing and leaves no folder behind."""
    os.environ.update(_QUIET)
    logging.getLogger("great_expectations").setLevel(logging.ERROR)
    import great_expectations as gx
    from great_expectations.data_context.types.base import (
        DataContextConfig,
        InMemoryStoreBackendDefaults,
        ProgressBarsConfig,
    )

    stores = InMemoryStoreBackendDefaults(init_temp_docs_sites=False)
    settings = DataContextConfig(
        store_backend_defaults=stores, progress_bars=ProgressBarsConfig(globally=False), analytics_enabled=False
    )
    return gx.get_context(project_config=settings, mode="ephemeral")


def _column_rules(column: Column, class_names: Sequence[str]) -> list[tuple[str, dict[str, Any]]]:
    """The rules of one column's entry in `tables.py`."""
    rules: list[tuple[str, dict[str, Any]]] = [("ExpectColumnToExist", {"column": column.name})]
    if not column.nullable:
        rules.append(("ExpectColumnValuesToNotBeNull", {"column": column.name}))
    if column.kind in ("string", "class"):
        rules.append(("ExpectColumnValuesToMatchRegex", {"column": column.name, "regex": r"\S"}))
    allowed = list(column.allowed or (class_names if column.kind == "class" else ()))
    if allowed:
        rules.append(("ExpectColumnValuesToBeInSet", {"column": column.name, "value_set": allowed}))
    if column.kind == "share":
        rules.append(("ExpectColumnValuesToBeBetween", {"column": column.name, "min_value": 0.0, "max_value": 1.0}))
    return rules


def _data_docs_action(context: Any, folder: Path) -> Any:
    """An action that writes the HTML pages into a folder."""
    from great_expectations.checkpoint.actions import UpdateDataDocsAction

    site = {
        "class_name": "SiteBuilder",
        "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
        "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(folder)},
    }
    context.add_data_docs_site(site_name="labelclean", site_config=site)
    return UpdateDataDocsAction(name="pages", site_names=["labelclean"])


def _outcome(row: Any) -> Expectation:
    """One of GE's results in plain values."""
    arguments = row.expectation_config.kwargs
    result = dict(row.result or {})
    column = arguments.get("column") or " + ".join(arguments.get("column_list", ()))
    count = int(result.get("unexpected_count") or 0)
    rows = result.get("partial_unexpected_index_list") or []
    ids = tuple(str(entry.get("sample_id")) for entry in rows if isinstance(entry, dict))[:5]
    seen = result.get("partial_unexpected_list") or []
    observed = (
        f"{count:,} rows, such as {', '.join(repr(value) for value in seen[:5])}"
        if count
        else str(result.get("observed_value", "ok"))
    )
    if "min_value" in arguments and not column:
        observed = f"it has {observed}, and expectations.min_rows is {arguments['min_value']:,}"
    return Expectation(row.expectation_config.type, column, bool(row.success), count, ids, observed)


def _largest_share(table: pa.Table, limit: float) -> Expectation:
    tally = table.column("given_label").value_counts().to_pylist()
    largest = max(tally, key=lambda row: row["counts"])
    share = largest["counts"] / table.num_rows
    observed = f"{largest['values']!r} holds {share:.1%} of the labels, limit expectations.max_class_share = {limit:g}"
    return Expectation("largest_class_share", "given_label", share <= limit, 0, (), observed)
