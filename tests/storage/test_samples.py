"""Several rows of a sample become one, and nothing is lost silently."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from labelclean.errors import TableError
from labelclean.storage.samples import given_labels_of, groups_of, samples_table
from labelclean.storage.tables import conform, matrix

NAMES = ("dent", "ok")


def labels(rows: list[tuple[str, str, str]], **columns: list[object]) -> pa.Table:
    ids, given, inspectors = zip(*rows, strict=True)
    table = {
        "sample_id": ids,
        "given_label": given,
        "annotator_id": inspectors,
        "image_path": [f"{i}.png" for i in ids],
    }
    return conform(pa.table({key: list(value) for key, value in table.items()} | columns), "labels", class_names=NAMES)


THREE = [("a", "ok", "x"), ("a", "dent", "y"), ("a", "ok", "z"), ("b", "dent", "x")]


def test_votes_are_counted_and_the_plurality_is_the_given_label() -> None:
    samples = samples_table(labels(THREE), NAMES)
    assert samples.column("sample_id").to_pylist() == ["a", "b"]
    assert matrix(samples.column("given_votes")).tolist() == [[1, 2], [1, 0]]
    assert samples.column("given_label").to_pylist() == ["ok", "dent"]
    assert "annotator_id" not in samples.column_names


def test_a_tie_goes_to_the_class_that_stands_first() -> None:
    tied = labels([("a", "ok", "x"), ("a", "dent", "y")])
    assert samples_table(tied, NAMES).column("given_label").to_pylist() == ["dent"]
    assert samples_table(tied, NAMES[::-1]).column("given_label").to_pylist() == ["ok"]


def test_other_columns_are_kept_where_all_rows_agree_and_null_where_not() -> None:
    samples = samples_table(labels(THREE, line=["L1"] * 4, shift=["n", "d", "n", "d"]), NAMES)
    assert samples.column("line").to_pylist() == ["L1", "L1"]
    assert samples.column("shift").to_pylist() == [None, "d"]


@pytest.mark.parametrize(
    "values",
    [
        pa.array([1.5, 1.5, 2.5], pa.float16()),
        pa.array([[1], [1], [2]], pa.list_(pa.int8())),
        pa.ExtensionArray.from_storage(pa.uuid(), pa.array([b"a" * 16, b"a" * 16, b"b" * 16], pa.binary(16))),
        pa.nulls(3),
    ],
)
def test_columns_of_any_type_are_carried(values: pa.Array) -> None:
    table = labels([("a", "ok", "x"), ("a", "ok", "y"), ("b", "ok", "x")])
    for carried, wanted in ((values, [0, 2]), (values.take(pa.array([0, 2, 1])), [None, 2])):
        found = samples_table(table.append_column("carried", carried), ("dent", "ok")).column("carried")
        assert found.type == values.type
        assert found.to_pylist() == carried.take(pa.array(wanted, pa.int64())).to_pylist()


def test_columns_that_a_run_writes_itself_are_not_carried() -> None:
    table = labels(THREE).append_column("content_hash", pa.array([b"x"] * 4))
    assert samples_table(table, NAMES).column_names == [
        "sample_id",
        "image_path",
        "given_label",
        "given_votes",
        "annotator_agreement",
    ]


def test_two_images_for_one_sample_are_a_fault() -> None:
    torn = labels(THREE).drop_columns("image_path").append_column("image_path", pa.array(["1", "2", "1", "4"]))
    with pytest.raises(TableError, match="'image_path' must be the same in all rows of a sample, but differs for 'a'"):
        samples_table(torn, NAMES)


def test_votes_become_soft_given_labels_and_candidates_a_mask() -> None:
    table = samples_table(labels(THREE, candidate_labels=[None, None, None, ["ok"]]), NAMES)
    given = given_labels_of(table, NAMES)
    np.testing.assert_allclose(given.votes, np.array([[1 / 3, 2 / 3], [1, 0]], dtype=np.float32), rtol=1e-6)
    assert given.candidates.tolist() == [[True, True], [False, True]]
    assert given.is_verified.tolist() == [False, True]


@pytest.mark.parametrize(("names", "fragment"), [([], "is empty for 'b'"), (["rust"], "does not for 'b'")])
def test_bad_candidate_sets_are_refused(names: list[str], fragment: str) -> None:
    with pytest.raises(TableError, match=fragment):
        samples_table(labels(THREE, candidate_labels=[None, None, None, names]), NAMES)


def parts_table(**columns: list[str | None]) -> pa.Table:
    rows = {"sample_id": ["a", "b", "c", "d"], "given_label": ["ok"] * 4, "image_path": ["x.png"] * 4}
    return conform(pa.table(rows | columns), "labels")


def test_images_of_a_part_are_one_group_and_a_lot_goes_before() -> None:
    parts: list[str | None] = ["p", "p", None, "q"]
    alone = samples_table(parts_table(part_id=parts), ["ng", "ok"])
    assert groups_of(alone) == ["part p", "part p", "sample c", "part q"]
    lots = samples_table(parts_table(part_id=parts, group_id=["l", "l", "l", None]), ["ng", "ok"])
    assert groups_of(lots) == ["group l", "group l", "group l", "part q"]


def test_a_part_in_two_groups_is_refused() -> None:
    table = parts_table(part_id=["p", "p", "q", "q"], group_id=["l", "m", "n", None])
    with pytest.raises(TableError, match="parts 'p', 'q' have several"):
        samples_table(table, ["ng", "ok"])


def test_a_part_is_wider_than_an_image_with_boxes() -> None:
    """Two boxes of two images of one part: the part holds them together, and the image where there is none."""
    labels = pa.table(
        {
            "sample_id": ["1", "2", "3"],
            "image_path": ["a.png", "b.png", "c.png"],
            "given_label": ["x", "y", "x"],
            "part_id": ["p", "p", None],
            **{name: [0.0, 0.0, 0.0] for name in ("box_x_px", "box_y_px")},
            **{name: [9.0, 9.0, 9.0] for name in ("box_width_px", "box_height_px")},
        }
    )
    assert groups_of(samples_table(labels, ("x", "y"))) == ["part p", "part p", "group c.png"]
