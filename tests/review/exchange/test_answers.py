"""The same answers from every tool become the same decisions; what does not fit is refused whole."""

from __future__ import annotations

import csv
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from labelclean.errors import ExchangeError
from labelclean.review.exchange.manifest import read_manifest, write_manifest
from labelclean.review.exchange.tools import TOOLS, Tool, export_run, import_decisions
from tests.review.exchange.conftest import DRAWN, NOW, Answers, label_studio_file, make_run, rows_of
from tests.review.exchange.conftest import NAMES as N

ANSWERS: Answers = {
    "s0": ("confirmed", ("ok",)),
    "s1": ("corrected", ("dent & crack",)),
    "s2": ("one_of", ("dent & crack", "傷")),
    "s4": ("not_class", ("=cmd()",)),
    "s5": ("unsure", ()),
    "s6": ("bad_image", ()),
    "s8": ("corrected", ("=cmd()",)),
    "s10": ("none_of_these", ()),
    "s11": ("corrected", ("<script>",)),
}
EXPRESSIBLE = {
    "label-studio": set(ANSWERS),
    "cvat": set(ANSWERS),
    "csv": set(ANSWERS),
    "huggingface": set(ANSWERS),
    "fiftyone": set(ANSWERS) - {"s2", "s4"},
}


def expected(tool: str, annotator: str) -> set[tuple[Any, ...]]:
    rows = set()
    for sample in EXPRESSIBLE[tool]:
        word, labels = ANSWERS[sample]
        verified = labels[0] if word in ("confirmed", "corrected") else None
        candidates = tuple(sorted(labels)) if word == "one_of" else ()
        ruled_out = {"not_class": labels, "none_of_these": tuple(sorted(N))}.get(word, ())
        rows.add((sample, word, verified, candidates, ruled_out, annotator))
    return rows


def key_of(export: Path) -> dict[str, str]:
    return {item.sample_id: item.key for item in read_manifest(export).items}


def csv_file(export: Path, answers: Answers, path: Path) -> Path:
    """All parts in one table, filled in as a person would."""
    rows: list[dict[str, str]] = []
    for part in sorted(export.glob("part_*/queue.csv")):
        with part.open(encoding="utf-8-sig", newline="") as file:
            rows += csv.DictReader(file)
    for row in rows:
        word, labels = answers.get(row["sample_id"], ("", ()))
        row |= {"decision": "" if word in ("confirmed", "corrected") else word, "label": " | ".join(labels)}
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def cvat_file(export: Path, answers: Answers, path: Path) -> Path:
    root = ElementTree.Element("annotations")
    for number, (sample, key) in enumerate(key_of(export).items()):
        image = ElementTree.SubElement(root, "image", id=str(number), name=f"{key}.png", width="8", height="6")
        word, labels = answers.get(sample, ("", ()))
        marks = [f"lc_{word}"] if word and word not in ("confirmed", "corrected") else []
        for label in ["lc_suggestion", *marks, *labels]:
            ElementTree.SubElement(image, "tag", label=label, source="manual")
    ElementTree.ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)
    return path


def fiftyone_file(export: Path, answers: Answers, path: Path) -> Path:
    rows = []
    for part in sorted(export.glob("part_*/samples.json")):
        for row in json.loads(part.read_text(encoding="utf-8")):
            word, labels = answers.get(row["lc_sample_id"], ("", ()))
            tags = [word if word in ("unsure", "bad_image", "none_of_these") else "reviewed"] if word else []
            rows.append(row | {"tags": tags, "label": labels[0] if labels else row.get("given_label")})
    path.write_text(json.dumps({"format": "labelclean fiftyone answers 1", "answers": rows}), encoding="utf-8")
    return path


def huggingface_file(export: Path, answers: Answers, path: Path) -> Path:
    lines = []
    for part in sorted(export.glob("part_*/metadata.jsonl")):
        for line in part.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            word, labels = answers.get(row["lc_sample_id"], ("", ()))
            lines.append(json.dumps(row | {"decision": word, "labels": list(labels)}, ensure_ascii=False))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


WRITERS: dict[Tool, tuple[Callable[[Path, Answers, Path], Path], str]] = {
    "label-studio": (label_studio_file, "a.json"),
    "cvat": (cvat_file, "annotations.xml"),
    "csv": (csv_file, "a.csv"),
    "fiftyone": (fiftyone_file, "a.json"),
    "huggingface": (huggingface_file, "metadata.jsonl"),
}


@pytest.fixture
def answered(exported: Callable[[Tool], Path], tmp_path: Path) -> Callable[..., tuple[Path, Path]]:
    """Write a tool's file with some answers; gives the file and the export."""

    def write(tool: Tool, answers: Answers = ANSWERS) -> tuple[Path, Path]:
        writer, name = WRITERS[tool]
        chosen = {sample: answers[sample] for sample in answers if tool != "fiftyone" or sample not in ("s2", "s4")}
        return writer(exported(tool), chosen, tmp_path / name), exported(tool)

    return write


@pytest.mark.parametrize("tool", TOOLS)
def test_what_waited_for_eyes_comes_back_as_it_was_answered(tool: Tool, tmp_path: Path) -> None:
    export = export_run(make_run(tmp_path, 3, waiting=[0, 1]), tool, tmp_path / "out").folder
    writer, name = WRITERS[tool]
    answers: Answers = {"s0": ("confirmed", ("ok",)), "s1": ("corrected", ("dent & crack",))}
    report, decisions = import_decisions(writer(export, answers, tmp_path / name), tool, export, now=NOW)
    assert [(one.sample_id, one.decision, one.verified_label) for one in decisions] == [
        ("s0", "confirmed", "ok"),
        ("s1", "corrected", "dent & crack"),
    ]
    assert report.is_clean


@pytest.mark.parametrize("tool", TOOLS)
def test_every_tool_gives_back_exactly_what_was_answered(tool: Tool, answered: Any) -> None:
    file, export = answered(tool)
    report, decisions = import_decisions(file, tool, export, now=NOW, annotator=None)
    who = "label-studio:1" if tool == "label-studio" else tool
    assert rows_of(decisions) == expected(tool, who)
    assert report.is_clean
    assert report.num_unanswered == 12 - len(EXPRESSIBLE[tool])
    assert {(d.run_id, d.dataset, d.tool) for d in decisions} == {(report.run_id, "line 3 (北)", tool)}


@pytest.mark.parametrize("tool", TOOLS)
def test_answers_to_drawn_samples_carry_with_which_probability_through_every_tool_and_the_ledger(
    tool: Tool, answered: Any, tmp_path: Path
) -> None:
    from labelclean.review.ledger import append_decisions, decisions_of, open_ledger

    file, export = answered(tool, ANSWERS | {"s3": ("confirmed", ("<script>",)), "s7": ("unsure", ())})
    decisions = import_decisions(file, tool, export, now=NOW)[1]
    drawn = {"s3": DRAWN, "s7": DRAWN, "s11": DRAWN}  # places 4, 8 and 12 of the queue are its audit
    assert {d.sample_id: d.inclusion_probability for d in decisions if d.inclusion_probability is not None} == drawn
    assert len(decisions) == len(EXPRESSIBLE[tool]) + 2
    ledger = open_ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    assert append_decisions(ledger, decisions) == len(decisions)
    assert append_decisions(ledger, import_decisions(file, tool, export, now=NOW.replace(year=2027))[1]) == 0
    assert set(decisions_of(ledger, "line 3 (北)")) == set(decisions)


def test_an_export_of_an_older_version_drew_nobody_and_brings_the_same_answers(answered: Any, tmp_path: Path) -> None:
    from labelclean.review.ledger import decision_key

    file, export = answered("csv")
    old = tmp_path / "old"
    shutil.copytree(export, old)
    record = json.loads((old / "manifest.json").read_text(encoding="utf-8"))
    for item in record["items"]:
        del item["inclusion_probability"]
    (old / "manifest.json").write_text(json.dumps(record), encoding="utf-8")
    then, now = (import_decisions(file, "csv", folder, now=NOW)[1] for folder in (old, export))
    assert {d.inclusion_probability for d in then} == {None}
    assert [decision_key(d) for d in then] == [decision_key(d) for d in now]


@pytest.mark.parametrize("value", [0, 1.5, "0.25"])
def test_a_manifest_with_a_probability_that_is_none_is_refused(answered: Any, tmp_path: Path, value: object) -> None:
    file, export = answered("csv")
    copy = tmp_path / "copy"
    shutil.copytree(export, copy)
    record = json.loads((copy / "manifest.json").read_text(encoding="utf-8"))
    record["items"][3]["inclusion_probability"] = value
    (copy / "manifest.json").write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(ExchangeError, match="must be the manifest"):
        import_decisions(file, "csv", copy, now=NOW)


@pytest.mark.parametrize("tool", TOOLS)
def test_an_untouched_export_brings_no_decision(tool: Tool, answered: Any) -> None:
    file, export = answered(tool, {})
    report, decisions = import_decisions(file, tool, export, now=NOW)
    assert (decisions, report.num_unanswered) == ((), 12)


@pytest.mark.parametrize("tool", TOOLS)
def test_the_same_file_gives_decisions_with_the_same_keys_at_any_time(tool: Tool, answered: Any) -> None:
    from labelclean.review.ledger import decision_key

    file, export = answered(tool)
    first = import_decisions(file, tool, export, now=NOW)[1]
    later = import_decisions(file, tool, export, now=NOW.replace(year=2027))[1]
    assert [decision_key(d) for d in first] == [decision_key(d) for d in later]


@pytest.mark.parametrize("tool", TOOLS)
def test_an_unknown_class_refuses_the_file_or_is_left_out(tool: Tool, answered: Any) -> None:
    file, export = answered(tool, ANSWERS | {"s9": ("corrected", ("rost",))})
    with pytest.raises(ExchangeError, match=r"1 classes are unknown: 'rost'(.|\n)*Nothing was imported"):
        import_decisions(file, tool, export, now=NOW)
    report, decisions = import_decisions(file, tool, export, now=NOW, partial=True)
    assert report.unknown_labels == ("rost",)
    assert len(decisions) == len(EXPRESSIBLE[tool])


@pytest.mark.parametrize("tool", TOOLS)
def test_a_file_of_another_run_is_refused_with_both_names_even_in_part(
    tool: Tool, answered: Any, tmp_path: Path
) -> None:
    from labelclean.review.exchange.tools import export_run

    file, _ = answered(tool)
    other = make_run(tmp_path / "other", 12, run_id="2026-02-01T020000.000Z")
    export = export_run(other, tool, tmp_path / "other_export").folder
    with pytest.raises(ExchangeError, match=r"2026-02-01T020000.000Z.*2026-01-14T020000.000Z"):
        import_decisions(file, tool, export, now=NOW, partial=True)


@pytest.mark.parametrize("tool", ["label-studio", "csv", "fiftyone", "huggingface"])
def test_a_file_of_another_data_set_is_refused_with_both_names(tool: Tool, answered: Any, tmp_path: Path) -> None:
    from labelclean.review.exchange.tools import export_run

    file, _ = answered(tool)
    export = export_run(make_run(tmp_path / "other", dataset="line 4"), tool, tmp_path / "other_export").folder
    with pytest.raises(ExchangeError, match=r"'line 4'.*'line 3 \(北\)'"):
        import_decisions(file, tool, export, now=NOW, partial=True)


def test_a_file_for_another_tool_is_refused(answered: Any) -> None:
    file, export = answered("csv")
    with pytest.raises(ExchangeError, match=r"made for 'csv', but.*'cvat'"):
        import_decisions(file, "cvat", export, now=NOW)


def test_a_missing_or_changed_manifest_is_refused(answered: Any, tmp_path: Path) -> None:
    file, export = answered("csv")
    with pytest.raises(ExchangeError, match="Name the folder that `labelclean export` wrote"):
        import_decisions(file, "csv", tmp_path / "nowhere", now=NOW)
    copy = tmp_path / "copy"
    shutil.copytree(export, copy)
    manifest = read_manifest(copy)
    swapped = manifest.items[0].__class__(**(vars(manifest.items[0]) | {"sample_id": "s1"}))
    write_manifest(copy, manifest.__class__(**(vars(manifest) | {"items": (swapped, *manifest.items[1:])})))
    with pytest.raises(ExchangeError, match="the manifest was changed"):
        import_decisions(file, "csv", copy, now=NOW)


# --- Label Studio ---------------------------------------------------------------------------------


def edited(file: Path, change: Callable[[list[Any]], None]) -> Path:
    rows = json.loads(file.read_text(encoding="utf-8"))
    change(rows)
    file.write_text(json.dumps(rows), encoding="utf-8")
    return file


def test_several_annotations_are_several_annotators(answered: Any) -> None:
    def second_opinion(rows: list[Any]) -> None:
        other = json.loads(json.dumps(rows[0]["annotations"][0]))
        other["result"][0]["value"]["choices"] = ["傷"]
        rows[0]["annotations"].append(other | {"completed_by": {"id": 2, "email": "b@x"}})
        rows[0]["annotations"].append(other | {"completed_by": 3, "was_cancelled": True})

    file, export = answered("label-studio")
    decisions = import_decisions(edited(file, second_opinion), "label-studio", export, now=NOW)[1]
    first = [(d.annotator_id, d.decision, d.verified_label) for d in decisions if d.sample_id == "s0"]
    assert first == [
        ("label-studio:1", "confirmed", "ok"),
        ("label-studio:2", "corrected", "傷"),
        ("label-studio:3", "skipped", None),
    ]


def test_one_annotation_per_file_as_target_storage_writes_it_is_read(answered: Any) -> None:
    file, export = answered("label-studio")

    def nest(rows: list[Any]) -> None:
        task = rows[1]
        rows[:] = [task["annotations"][0] | {"task": {"id": 5, "data": task["data"]}}]

    decisions = import_decisions(edited(file, nest), "label-studio", export, now=NOW)[1]
    assert [(d.sample_id, d.verified_label) for d in decisions] == [("s1", "dent & crack")]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda r: r[0]["annotations"][0]["result"][0]["value"].update(choices=["ok", "傷"]), "chooses 2 classes"),
        (lambda r: r[0]["annotations"][0]["result"][0]["value"].update(choices="ok"), "choices must be a list"),
        (lambda r: r[0]["annotations"][0].update(updated_at="2026-01-01T00:00:00"), "has no zone"),
        (lambda r: r[0]["data"].update(lc_sample_id="s1"), "named as that of sample 's1'"),
        (lambda r: r[2]["annotations"][0]["result"][0]["value"].update(choices=["ok"]), "one_of must name 2 to 4"),
        (lambda r: r[4]["annotations"][0]["result"][0]["value"].update(choices=list(N)), "rules out every class"),
        (
            lambda r: r[0]["annotations"][0]["result"].append(
                {"from_name": "lc_not_class", "type": "choices", "value": {"choices": ["ok"]}}
            ),
            "gives labels and not_class at once",
        ),
        (
            lambda r: r[0]["annotations"].append(r[0]["annotations"][0] | {"result": r[1]["annotations"][0]["result"]}),
            "2 different answers",
        ),
    ],
)
def test_contradictions_are_refused_and_left_out_in_part(answered: Any, change: Any, fault: str) -> None:
    file, export = answered("label-studio")
    edited(file, change)
    with pytest.raises(ExchangeError, match=fault):
        import_decisions(file, "label-studio", export, now=NOW)
    report, decisions = import_decisions(file, "label-studio", export, now=NOW, partial=True)
    assert len(report.conflicting) == 1
    assert len(decisions) == len(ANSWERS) - 1


def test_a_suggestion_left_ticked_beside_unsure_stays_unsure(answered: Any) -> None:
    file, export = answered("label-studio", {"s0": ("unsure", ("ok",))})
    assert [d.decision for d in import_decisions(file, "label-studio", export, now=NOW)[1]] == ["unsure"]


@pytest.mark.parametrize(
    "text", ["{}", "[1]", '[{"id": 1, "label": "ok"}]', '[{"a": 1, "a": 2}]', "[NaN]", "[" * 99999]
)
def test_json_of_another_shape_is_refused(answered: Any, text: str) -> None:
    file, export = answered("label-studio")
    file.write_text(text)
    with pytest.raises(ExchangeError, match=r"whole JSON|must be a task"):
        import_decisions(file, "label-studio", export, now=NOW)


# --- CSV ------------------------------------------------------------------------------------------


def csv_edited(file: Path, change: Callable[[str], str]) -> Path:
    file.write_text(change(file.read_text(encoding="utf-8-sig")), encoding="utf-8-sig")
    return file


def test_no_exported_cell_starts_a_formula_and_all_come_back_as_they_were(
    exported: Callable[[Tool], Path],
) -> None:
    from labelclean.review.exchange.spreadsheet import unguarded

    for part in exported("csv").glob("part_*/queue.csv"):
        assert part.read_bytes().startswith(b"\xef\xbb\xbf")
        with part.open(encoding="utf-8-sig", newline="") as file:
            for row in csv.DictReader(file):
                assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in row.values())
                assert unguarded(row["given_label"]) in (*N, "")


def test_semicolons_and_moved_columns_of_a_spreadsheet_are_read(answered: Any, tmp_path: Path) -> None:
    file, export = answered("csv")
    with file.open(encoding="utf-8-sig", newline="") as source:
        rows = list(csv.DictReader(source))
    with (tmp_path / "b.csv").open("w", encoding="utf-8", newline="") as target:
        writer = csv.DictWriter(target, sorted(rows[0]), delimiter=";")
        writer.writeheader()
        writer.writerows(reversed(rows))
    assert rows_of(import_decisions(tmp_path / "b.csv", "csv", export, now=NOW)[1]) == expected("csv", "csv")


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda t: t.replace("lc_end", "end", 1), "must have the columns"),
        (lambda t: t[:-6], "not whole"),
        (lambda t: t + '"', "must be a whole CSV file"),
        (lambda t: "", "the file is empty"),
        (lambda t: t.replace(",unsure,", ",perhaps,"), "'perhaps' is none of"),
        (
            lambda t: t.replace(",unsure,", ",confirmed,").replace("'=cmd(),", ","),
            "'confirmed' with label|without a label",
        ),
        (lambda t: t.replace(",bad_image,", ",one_of,"), "'one_of' without a label"),
    ],
)
def test_tables_that_are_not_whole_or_contradict_are_refused(answered: Any, change: Any, fault: str) -> None:
    file, export = answered("csv", ANSWERS | {"s5": ("unsure", ("傷",))})
    with pytest.raises(ExchangeError, match=fault):
        import_decisions(csv_edited(file, change), "csv", export, now=NOW)


def test_confirmed_needs_a_label_that_the_annotator_saw(answered: Any) -> None:
    file, export = answered("csv", {"s1": ("skipped", ()), "s3": ("skipped", ())})
    csv_edited(file, lambda text: text.replace(",skipped,", ",confirmed,"))
    report, decisions = import_decisions(file, "csv", export, now=NOW, partial=True)
    assert [(d.sample_id, d.verified_label) for d in decisions] == [("s1", "傷")]  # s3 is blind
    assert report.conflicting == ("s3 by csv: 'confirmed' without a label",)


def test_a_table_in_another_encoding_is_refused(answered: Any) -> None:
    file, export = answered("csv")
    file.write_bytes(file.read_text(encoding="utf-8-sig").encode("cp932", errors="replace"))
    with pytest.raises(ExchangeError, match="CSV UTF-8"):
        import_decisions(file, "csv", export, now=NOW)


# --- CVAT -----------------------------------------------------------------------------------------


def test_cvat_ids_lie_beyond_any_frame_and_names_are_unique_without_extension(
    exported: Callable[[Tool], Path],
) -> None:
    images = [
        image
        for part in exported("cvat").glob("part_*/annotations.xml")
        for image in ElementTree.parse(part).getroot().iter("image")
    ]
    assert min(int(image.attrib["id"]) for image in images) > 1_000_000_000
    assert len({Path(image.attrib["name"]).stem for image in images}) == len(images) == 12


def test_a_zip_with_pictures_and_folders_in_names_is_read(answered: Any, tmp_path: Path) -> None:
    file, export = answered("cvat")
    text = file.read_text(encoding="utf-8").replace('name="2026', 'name="share/part_001/2026').replace(".png", ".PNG")
    with zipfile.ZipFile(tmp_path / "out.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("annotations.xml", text)
        archive.writestr("images/share/a.png", b"pixels")
    decisions = import_decisions(tmp_path / "out.zip", "cvat", export, now=NOW, annotator="anna")[1]
    assert rows_of(decisions) == expected("cvat", "anna")


def test_a_strange_image_name_is_unmatched_and_never_guessed_by_its_number(answered: Any) -> None:
    file, export = answered("cvat")
    key = key_of(export)["s0"]
    file.write_text(file.read_text(encoding="utf-8").replace(key, "IMG_0001"), encoding="utf-8")
    with pytest.raises(ExchangeError, match=r"1 names are no task of the export: 'IMG_0001'"):
        import_decisions(file, "cvat", export, now=NOW)
    report, decisions = import_decisions(file, "cvat", export, now=NOW, partial=True)
    assert report.unmatched == ("IMG_0001",)
    assert "s0" not in {d.sample_id for d in decisions}


def test_a_class_named_like_a_control_tag_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    from dataclasses import replace

    from labelclean.review.exchange import cvat
    from labelclean.review.exchange.tasks import read_queue

    queue = read_queue(make_run(tmp_path, 3))
    with pytest.raises(ExchangeError, match="'lc_unsure'"):
        cvat.shared_files(replace(queue, class_names=("ok", "lc_unsure")))


@pytest.mark.parametrize(
    ("changes", "draft", "said"),
    [
        ({"from_name": "choice"}, None, "choices of control 'choice' is no answer here"),
        ({"type": "rectanglelabels", "value": {"rectanglelabels": ["ok"]}}, None, "rectanglelabels of control 'label'"),
        ({"value": {"choices": []}}, None, "was submitted without an answer"),
        (None, {"result": []}, "holds a draft, which was never submitted"),
    ],
)
def test_a_submitted_answer_of_another_kind_refuses_the_file_and_is_named(
    answered: Any, changes: dict[str, Any] | None, draft: dict[str, Any] | None, said: str
) -> None:
    file, export = answered("label-studio")
    rows = json.loads(file.read_text(encoding="utf-8"))
    row = next(row for row in rows if any(one["result"] for one in row["annotations"]))
    if changes is None:
        row |= {"annotations": [], "drafts": [draft]}
    else:
        row["annotations"][0]["result"][0] |= changes
    file.write_text(json.dumps(rows), encoding="utf-8")
    with pytest.raises(
        ExchangeError, match=f"1 answers cannot be used: ['\"]{row['data']['lc_sample_id']} by .*{said}"
    ):
        import_decisions(file, "label-studio", export, now=NOW)


def test_a_given_label_that_was_overwritten_without_an_answer_is_named(answered: Any) -> None:
    file, export = answered("csv", {"s1": ("unsure", ())})
    csv_edited(file, lambda text: text.replace(",dent & crack,", ",ok,"))
    with pytest.raises(ExchangeError, match="the given label was exported as 'dent & crack' and is 'ok' now"):
        import_decisions(file, "csv", export, now=NOW)
    others: tuple[tuple[Tool, str | None], ...] = (("huggingface", None), ("fiftyone", "answers"))
    for tool, rows_in in others:
        file, export = answered(tool, {})
        text = file.read_text(encoding="utf-8")
        rows = [json.loads(line) for line in text.splitlines()] if rows_in is None else json.loads(text)[rows_in]
        name = "given_label" if rows_in is None else "label"
        next(row for row in rows if row["lc_sample_id"] == "s2")[name] = "ok"
        written = "".join(map("{}\n".format, map(json.dumps, rows)))
        if rows_in is not None:
            written = json.dumps(json.loads(text) | {rows_in: rows})
        file.write_text(written, encoding="utf-8")
        with pytest.raises(ExchangeError, match=f"s2 by {tool}: the given label was exported as"):
            import_decisions(file, tool, export, now=NOW)


def test_tags_of_fiftyone_that_are_no_answer_are_named(answered: Any) -> None:
    file, export = answered("fiftyone", {})
    record = json.loads(file.read_text(encoding="utf-8"))
    record["answers"][0]["tags"] = ["wrong"]
    file.write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(
        ExchangeError, match="tagged 'wrong', but only 'reviewed', 'unsure', 'bad_image', 'none_of_these' are"
    ):
        import_decisions(file, "fiftyone", export, now=NOW)


def test_boxes_and_video_tracks_of_cvat_are_no_answers_and_named(answered: Any) -> None:
    file, export = answered("cvat")
    whole = file.read_text(encoding="utf-8")
    file.write_text(
        whole.replace("</image>", '<box label="ok" xtl="0" ytl="0" xbr="1" ybr="1"/></image>', 1), encoding="utf-8"
    )
    with pytest.raises(ExchangeError, match=r"1 answers cannot be used: .*holds 'box'; only tags say the class"):
        import_decisions(file, "cvat", export, now=NOW)
    file.write_text(whole.replace("</annotations>", '<track id="0" label="ok"/></annotations>'), encoding="utf-8")
    with pytest.raises(ExchangeError, match="there is a video track of label 'ok'"):
        import_decisions(file, "cvat", export, now=NOW)
