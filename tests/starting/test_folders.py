"""A tree of class folders: known layouts are recognised, masks and what is no image are left out and told."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from labelclean.errors import TableError
from labelclean.starting.folders import folder_rows
from labelclean.starting.rows import Rows


def tree(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"image")
    return root


def classes(rows: Rows) -> dict[str, str]:
    columns = (rows.table.column(name).to_pylist() for name in ("image_path", "given_label"))
    return dict(zip(*columns, strict=True))


def test_each_folder_is_a_class_and_the_relative_path_the_id(tmp_path: Path) -> None:
    found = folder_rows(tree(tmp_path, "ok/1.png", "dent/1.PNG", "dent/a/2.jpg", "傷/3.bmp", "傷/4.jfif", "傷/5.jpe"))
    assert found.table.column("sample_id").to_pylist() == found.table.column("image_path").to_pylist()
    assert classes(found) == {
        "dent/1.PNG": "dent",
        "dent/a/2.jpg": "dent",
        "ok/1.png": "ok",
        "傷/3.bmp": "傷",
        "傷/4.jfif": "傷",
        "傷/5.jpe": "傷",
    }
    assert found.folder == tmp_path
    assert any("1 images lie deeper than their class folder, such as 'dent/a/2.jpg'" in line for line in found.seen)


def test_what_is_left_out_is_told(tmp_path: Path) -> None:
    tree(
        tmp_path, "ok/1.png", "no/2.png", "3.png", "ok/Thumbs.txt", "ok/.hidden.png", "moving/a.gif", "no/@eaDir/2.png"
    )
    tree(tmp_path, "#recycle/ok/9.png", "$RECYCLE.BIN/x.png", "lost+found/y.png", "_unlabeled/7.png", "unlabeled/8.png")
    (tmp_path / "empty").mkdir()
    found = folder_rows(tmp_path)
    assert classes(found) == {"ok/1.png": "ok", "no/2.png": "no"}
    told = found.left_out_sentences()
    assert "left out: 1 files in no class folder: '3.png'" in told
    assert "left out: 1 files that are no images: 'ok/Thumbs.txt'" in told
    assert "left out: 4 system folders: '#recycle', '$RECYCLE.BIN', 'lost+found' and 1 more" in told
    assert any("pictures of a kind that is not read" in line and "'moving/a.gif'" in line for line in told)
    assert any("unlabelled" in line and "'_unlabeled/7.png', 'unlabeled/8.png'" in line for line in told)
    assert "class folders of which no image is left: 'empty', 'moving'" in found.seen


@pytest.mark.parametrize("level", [None, 2, -1])
def test_the_layout_of_mvtec_ad_is_known(tmp_path: Path, level: int | None) -> None:
    tree(tmp_path, "train/good/0.png", "test/good/1.png", "test/dent/0.png", "ground_truth/dent/0_mask.png")
    found = folder_rows(tmp_path, level)
    assert classes(found) == {"train/good/0.png": "good", "test/good/1.png": "good", "test/dent/0.png": "dent"}
    assert found.table.column("split").to_pylist() == ["test", "test", "train"]
    assert "left out: 1 masks: 'ground_truth/dent/0_mask.png'" in found.left_out_sentences()
    assert ("'test', 'train': splits" in " ".join(found.seen)) == (level is None)


def test_several_products_are_not_mixed_unless_asked(tmp_path: Path) -> None:
    tree(
        tmp_path,
        "bottle/train/good/0.png",
        "bottle/test/dent/0.png",
        "cable/test/cut/0.png",
        "cable/ground_truth/cut/0.png",
    )
    with pytest.raises(TableError, match=r"one product, but 'bottle', 'cable' each have.*--class-folder 3"):
        folder_rows(tmp_path)
    assert set(classes(folder_rows(tmp_path, 3)).values()) == {"good", "dent", "cut"}
    assert set(classes(folder_rows(tmp_path / "bottle")).values()) == {"good", "dent"}


@pytest.mark.parametrize(
    "names",
    [("2024/ok/1.png", "2024/dent/2.png", "2025/ok/3.png"), ("line1/ng/1.png", "line2/ng/2.png")],
)
def test_verdicts_below_other_folders_are_asked_about(tmp_path: Path, names: tuple[str, ...]) -> None:
    tree(tmp_path, *names)
    with pytest.raises(TableError, match=r"clear which folders are the classes.*--class-folder 2, or --class-folder 1"):
        folder_rows(tmp_path)
    assert set(classes(folder_rows(tmp_path, 2)).values()) == {name.split("/")[1] for name in names}
    assert set(classes(folder_rows(tmp_path, 1)).values()) == {name.split("/")[0] for name in names}


def test_lots_below_classes_are_no_classes(tmp_path: Path) -> None:
    found = folder_rows(tree(tmp_path, "ok/lot1/1.png", "dent/lot1/2.png"))
    assert set(classes(found).values()) == {"ok", "dent"}


@pytest.mark.parametrize(
    "mask",
    [
        "ok/1_mask.png",
        "ok/1_label.bmp",
        "ok/1_GT.png",
        "ok/Label/1_label.png",
        "masks/ok/1.png",
        "ok/gt/1.png",
        "ok/1-seg.png",
    ],
)
def test_masks_beside_images_are_left_out(tmp_path: Path, mask: str) -> None:
    tree(tmp_path, "ok/1.png", "dent/2.png", mask)
    found = folder_rows(tmp_path)
    assert classes(found) == {"ok/1.png": "ok", "dent/2.png": "dent"}
    assert found.left_out["masks"] == [mask]


def test_a_class_that_is_called_mask_stays_a_class(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (32, 32), dtype=np.uint8)
    for name in ("mask/1.png", "no_mask/1.png"):
        (tmp_path / name).parent.mkdir()
        Image.fromarray(noise).save(tmp_path / name)
    assert set(classes(folder_rows(tmp_path)).values()) == {"mask", "no_mask"}
    Image.fromarray(np.where(noise > 128, np.uint8(255), np.uint8(0))).save(tmp_path / "mask/1.png")
    assert folder_rows(tmp_path).left_out["masks"] == ["mask/1.png"]


def noise_and_mask(image: Path, mask: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (32, 32), dtype=np.uint8)
    for path, pixels in ((image, noise), (mask, np.where(noise > 200, np.uint8(255), np.uint8(0)))):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)


@pytest.mark.parametrize(
    "mask", ["ok/1_roi.png", "ok/binary-1.bmp", "ok/1.bmp", "line_annot/ok/1.png", "SegmentationClass/1.png"]
)
def test_masks_of_unusual_names_are_known_by_their_look(tmp_path: Path, mask: str) -> None:
    noise_and_mask(tmp_path / "ok/1.png", tmp_path / mask)
    noise_and_mask(tmp_path / "dent/2.png", tmp_path / "dent/other.png")
    found = folder_rows(tmp_path, -1)
    assert found.left_out["masks"] == [mask]
    assert classes(found) == {"ok/1.png": "ok", "dent/2.png": "dent", "dent/other.png": "dent"}


def test_a_second_shot_of_an_image_is_no_mask(tmp_path: Path) -> None:
    noise_and_mask(tmp_path / "ok/1.png", tmp_path / "dent/2.png")
    noise_and_mask(tmp_path / "ok/1_dark.png", tmp_path / "dent/2_dark.png")  # a binary camera: both look alike
    assert len(classes(folder_rows(tmp_path))) == 4


@pytest.mark.parametrize(
    "splits", ["train_set val_set", "Training holdout", "train2017 val2017", "学習用 検証 テストデータ", "fold1 fold_2"]
)
def test_splits_are_known_by_many_names(tmp_path: Path, splits: str) -> None:
    found = folder_rows(tree(tmp_path, *(f"{name}/{label}/1.png" for name in splits.split() for label in ("ok", "傷"))))
    assert set(classes(found).values()) == {"ok", "傷"}
    assert set(found.table.column("split").to_pylist()) == set(splits.split())


@pytest.mark.parametrize("folder", ["_unlabeled", "line3_Unlabelled", "not annotated", "未判定", "to_label"])
def test_folders_of_unlabelled_images_are_left_out(tmp_path: Path, folder: str) -> None:
    found = folder_rows(tree(tmp_path, "ok/1.png", "labelled/2.png", f"{folder}/3.png"))
    assert set(classes(found).values()) == {"ok", "labelled"}


def test_folders_of_file_servers_are_left_out_but_not_classes_called_alike(tmp_path: Path) -> None:
    system = ["@eaDir", "#recycle", "$Recycle.Bin", "Network Trash Folder", "lost+found", "FOUND.001"]
    found = folder_rows(tree(tmp_path, "recycle/1.png", "trash/2.png", *(f"{name}/ok/3.png" for name in system)))
    assert set(classes(found).values()) == {"recycle", "trash"}
    assert found.left_out["system folders"] == sorted(system)


def test_a_folder_deeper_than_all_images_is_refused_with_how_deep_they_lie(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"--class-folder 3 .* 1 folders at most"):
        folder_rows(tree(tmp_path, "ok/1.png", "dent/2.png"), 3)


def test_one_folder_around_all_images_is_looked_into(tmp_path: Path) -> None:
    found = folder_rows(tree(tmp_path, "images/images/ok/1.png", "images/images/dent/2.png"))
    assert set(classes(found).values()) == {"ok", "dent"}
    assert "'images': one folder around all images; the class is folder 3 of the path (--class-folder 3)" in found.seen


@pytest.mark.parametrize(
    ("names", "level", "said"),
    [
        (("train/1.png", "test/2.png"), None, "No folder names a class: bring a table"),
        (("train/ok/1.png", "test/dent/2.png"), 1, r"--class-folder 2"),
        (("ok/train/1.png", "dent/test/2.png"), 2, r"'dent', 'ok': --class-folder 1"),
        (("train/1.png", "ok/2.png"), None, "If they are classes all the same, say so: --class-folder 1"),
    ],
)
def test_splits_are_no_classes_and_the_advice_leads_on(
    tmp_path: Path, names: tuple[str, ...], level: int | None, said: str
) -> None:
    tree(tmp_path, *names)
    with pytest.raises(TableError, match=said):
        folder_rows(tmp_path, level)


def test_a_class_that_is_called_test_is_taken_when_asked(tmp_path: Path) -> None:
    found = folder_rows(tree(tmp_path, "test/1.png", "ok/2.png"), 1)
    assert classes(found) == {"test/1.png": "test", "ok/2.png": "ok"}


def test_a_folder_without_class_folders_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="2 images and no class folder"):
        folder_rows(tree(tmp_path, "1.png", "2.png"))


def test_links_out_of_the_tree_move_the_image_root_to_what_they_share(tmp_path: Path) -> None:
    real = tree(tmp_path / "real", "a/1.png", "b/2.png")
    for name, target in (("ok/x.png", "a/1.png"), ("dent/y.png", "b/2.png")):
        (tmp_path / "tree" / name).parent.mkdir(parents=True)
        (tmp_path / "tree" / name).symlink_to(real / target)
    (tmp_path / "tree" / "ok" / "round").symlink_to(tmp_path / "tree")  # links that go round do not hang
    found = folder_rows(tmp_path / "tree")
    assert classes(found) == {"b/2.png": "dent", "a/1.png": "ok"}
    assert found.folder == real


@pytest.mark.skipif(os.name == "nt", reason="names are bytes on POSIX only")
def test_a_name_that_is_no_utf8_is_refused(tmp_path: Path) -> None:
    tree(tmp_path, "ok/1.png")
    with open(os.fsencode(tmp_path) + b"/ok/\xff.png", "wb") as file:  # noqa: PTH123 - no Path has this name
        file.write(b"image")
    with pytest.raises(TableError, match="must be UTF-8, but 1 are not"):
        folder_rows(tmp_path)
