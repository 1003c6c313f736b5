"""An agreement study's numbers as sentences, as one HTML file in the report's style, and as a table for spreadsheets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from markupsafe import Markup

from labelclean.report import html, plots
from labelclean.review.label_files import Form, Labels, write_labels
from labelclean.storage.parquet import atomic_path, make_folder, write_json
from labelclean.texts import Texts, shown, time_words

PAGE, RECORD = "study.html", "agreement.json"
TABLES: dict[str, Form] = {"study.csv": "csv", "study.xlsx": "excel"}
WORST_CLASSES = 3
SIDES = ("between", "all_against")
CALLS = ("effectiveness", "missed", "false_alarms")


def study_sentences(record: Mapping[str, Any], texts: Texts) -> list[str]:
    """Return how good the agreement is, what it rests on, and what to do, in that order.

    Args:
        record: From `agreement_record`.
        texts: The language.

    Returns:
        One sentence or two each.
    """
    return [*verdict(record, texts), source(record, texts), *(sentence for _, sentence in todo(record, texts))]


def verdict(record: Mapping[str, Any], texts: Texts) -> list[str]:
    """Return the verdict and what comes next."""
    outcomes = [outcome for outcome in checks(record).values() if outcome]
    if not outcomes:
        return [texts("study.verdict.unknown")]
    worst = _worst(outcomes)
    hours = record["num_samples"] * record["trials"] * record["seconds_per_sample"] / 3600
    num = sum(outcome != "pass" for outcome in outcomes)
    return [
        texts(f"study.verdict.{worst}", n=num, total=len(outcomes)),
        texts(f"study.next.{worst}", time=time_words(hours, texts)),
    ]


def source(record: Mapping[str, Any], texts: Texts) -> str:
    """Return what was compared, in words."""
    counts = {"people": len(record["appraisers"]), "samples": record["num_samples"], "trials": record["trials"]}
    return texts(f"study.source.{record['source']}", **counts)


def checks(record: Mapping[str, Any]) -> dict[str, str | None]:
    """Return what each check comes to over all inspectors: the worst; None where nothing could be compared."""
    rows = [row for row in record["rows"] if row["class"] is None]
    by_part = {
        part: [row["outcome"] for row in rows if row["part"] == part] for part in ("within", "between", "against")
    }
    by_part |= {
        name: [row["outcome"] for row in record["calls"] if row["measure"] == name and row["who"]] for name in CALLS
    }
    by_part["classes"] = [one[part]["outcome"] for one in _classes(record) for part in SIDES if part in one]
    return {name: _worst([one for one in outcomes if one]) for name, outcomes in by_part.items()}


def todo(record: Mapping[str, Any], texts: Texts) -> list[tuple[str, str]]:
    """Return what to do, most pressing kind first.

    Args:
        record: From `agreement_record`.
        texts: The language.

    Returns:
        Outcome (`pass`, `warn`, `refuse`) and sentence of each.
    """
    sentences = []
    if record["num_missing"]:
        sentences.append(("warn", texts("study.todo.missing", n=record["num_missing"])))
    found = checks(record)
    for name in ("within", "missed", "false_alarms", "effectiveness", "against", "between", "classes"):
        outcome = found[name]
        if outcome is None:
            continue
        sentence = texts(f"study.todo.{name}_pass")
        if outcome != "pass":
            who = texts("page.comma").join(shown(person, 60) for person in _failing(record, name))
            sentence = texts(f"study.todo.{name}_fail", names=who, classes=_worst_classes(record, texts))
        if outcome == "warn":
            sentence += texts("page.join") + texts("study.todo.chance")
        sentences.append((outcome, sentence))
    if not record["num_standard"] and record["source"] != "ledger":
        sentences.append(("warn", texts("study.todo.no_standard")))
    elif record["num_standard"] and not record["ok"]:
        sentences.append(("warn", texts("study.todo.no_ok")))
    return sentences


def render_study(record: Mapping[str, Any], pictures: Mapping[str, str], texts: Texts) -> str:
    """Return a study's page as HTML that needs nothing else.

    Args:
        record: From `agreement_record`.
        pictures: `data:` addresses by sample id, of those that can be shown.
        texts: The language.

    Returns:
        The whole file.
    """
    style, script = html.resource("page.css"), html.resource("page.js")
    return (
        html.environment(texts.lang)
        .get_template("study.html.j2")
        .render(
            study=record,
            t=texts,
            style=Markup(style),  # noqa: S704 - our own files
            script=Markup(script),  # noqa: S704
            policy=html.policy(style, script),
            verdict=verdict(record, texts),
            source=source(record, texts),
            todo=todo(record, texts),
            parts=_parts(record),
            classes=_classes(record),
            strata=_strata(record, texts),
            pictures=pictures,
            dot=plots.limit_dot,
        )
    )


def write_study(record: Mapping[str, Any], pictures: Mapping[str, str], out: Path, texts: Texts) -> list[Path]:
    """Write a study as page, CSV, Excel workbook and JSON.

    Args:
        record: From `agreement_record`.
        pictures: `data:` addresses by sample id.
        out: Folder; made where it is missing, what an earlier report left there is replaced.
        texts: The language of page and tables.

    Returns:
        The files, the page first.

    Raises:
        TableError: If openpyxl is not installed.
        StorageError: If the disk refuses.
    """
    make_folder(out)
    write_json(out / RECORD, record)
    with atomic_path(out / PAGE) as temporary:
        temporary.write_text(render_study(record, pictures, texts), encoding="utf-8", newline="\n")
    for name, form in TABLES.items():
        table = study_table(record, texts)
        labels = Labels(table.schema, iter([table]), record["classes"], out, page=texts("study.table.agreement"))
        with atomic_path(out / name) as temporary:
            write_labels(form, labels, temporary)
    return [out / name for name in (PAGE, *TABLES, RECORD)]


def study_table(record: Mapping[str, Any], texts: Texts) -> pa.Table:
    """Return every number of a study, one comparison a row, with headers in a language.

    Args:
        record: From `agreement_record`.
        texts: The language.

    Returns:
        The table.
    """
    rows = []
    for row in record["rows"]:
        kappas = {
            f"{name}{end}": (row[name] or {}).get(key)
            for name in ("cohen", "fleiss")
            for end, key in (("", "value"), ("_low", "low"), ("_high", "high"))
        }
        measure = {"part": texts(f"study.table.{row['part']}"), "measure": texts("study.table.agreement")}
        who = texts("page.comma").join(row["who"])
        rows.append(
            measure | _numbers(row, who, row["class"], texts) | kappas | {"limit": record["limits"]["least_kappa"]}
        )
    for row in record["calls"]:
        part = "against" if row["who"] else "all_against"
        measure = {"part": texts(f"study.table.{part}"), "measure": texts(f"study.calls.{row['measure']}")}
        rows.append(
            measure | _numbers(row, row["who"] or texts("study.all"), record["ok"], texts) | {"limit": row["limit"]}
        )
    kinds = dict.fromkeys(("part", "measure", "who", "class_name"), pa.string()) | {
        "count": pa.int64(),
        "num": pa.int64(),
    }
    names = ("cohen", "cohen_low", "cohen_high", "fleiss", "fleiss_low", "fleiss_high", "limit")
    kinds |= dict.fromkeys(("percent", "low", "high", *names), pa.float64()) | {"result": pa.string()}
    headers = [texts(f"study.{key}" if key in ("who", "limit", "result") else f"study.table.{key}") for key in kinds]
    return pa.Table.from_pylist(rows, schema=pa.schema(list(kinds.items()))).rename_columns(headers)


# --- inside ---------------------------------------------------------------------------------------


def _numbers(row: Mapping[str, Any], who: str, label: str | None, texts: Texts) -> dict[str, Any]:
    shares = {"percent": row["share"], "low": row["low"], "high": row["high"]}
    return {
        "who": who,
        "class_name": label or texts("study.table.all_classes"),
        "count": row["count"],
        "num": row["num"],
        "result": texts(f"study.badge.{row['outcome']}") if row["outcome"] else None,
    } | {name: round(100 * share, 2) for name, share in shares.items()}


def _worst(outcomes: Sequence[str]) -> str | None:
    return next((outcome for outcome in ("refuse", "warn", "pass") if outcome in outcomes), None)


def _failing(record: Mapping[str, Any], check: str) -> list[str]:
    """Who does not keep the limit of a check, surest first."""
    if check in CALLS:
        found = [(row["outcome"], row["who"]) for row in record["calls"] if row["measure"] == check and row["who"]]
    else:
        rows = [row for row in record["rows"] if row["part"] == check and row["class"] is None]
        found = [(row["outcome"], row["who"][0]) for row in rows]
    return [who for outcome, who in sorted(found, key=lambda one: str(one[0])) if outcome in ("refuse", "warn")]


def _parts(record: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Rows over all classes, by part."""
    parts: dict[str, list[dict[str, Any]]] = {
        name: [] for name in ("within", "between", "pair", "against", "all_against")
    }
    for row in record["rows"]:
        if row["class"] is None:
            parts[row["part"]].append(row | {"kappa": row["fleiss"] or row["cohen"]})
    return parts


def _classes(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Classes with what all inspectors make of them, lowest kappa first; those without a kappa last."""
    by_class: dict[str, dict[str, Any]] = {name: {"name": name} for name in record["classes"]}
    for row in record["rows"]:
        if row["class"] is not None and row["part"] in SIDES:
            by_class[row["class"]][row["part"]] = row | {"kappa": row["fleiss"] or row["cohen"]}

    def lowest(one: dict[str, Any]) -> float:
        kappas = [
            one[part]["kappa"]["value"] for part in ("between", "all_against") if part in one and one[part]["kappa"]
        ]
        return min(kappas, default=2.0)

    return sorted((one for one in by_class.values() if len(one) > 1), key=lowest)


def _worst_classes(record: Mapping[str, Any], texts: Texts) -> str:
    """Classes that do not keep the limit, lowest kappa first; where all do, the lowest."""
    found = _classes(record)
    failing = [
        one for one in found if any(part in one and one[part]["outcome"] in ("warn", "refuse") for part in SIDES)
    ]
    return texts("page.comma").join(html.quoted(one["name"], texts) for one in (failing or found)[:WORST_CLASSES])


def _strata(record: Mapping[str, Any], texts: Texts) -> str:
    return texts("page.comma").join(texts(f"study.strata.{name}", n=num) for name, num in record["strata"].items())
