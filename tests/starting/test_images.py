"""Which image files a table's paths mean: as they stand, or by their end where only one image fits."""

from __future__ import annotations

from pathlib import Path

from labelclean.starting.images import located
from tests.starting.test_folders import tree


def test_paths_that_are_there_stay_and_a_missing_one_is_not_guessed(tmp_path: Path) -> None:
    tree(tmp_path, "line3/1.png", "line4/2.png")
    assert located(["line3/1.png", "line3/2.png"], [tmp_path]) == (tmp_path, ["line3/1.png", "line3/2.png"], [])


def test_ids_without_a_suffix_find_their_image(tmp_path: Path) -> None:
    tree(tmp_path, "train_images/0001.png", "train_images/0002.jpg", "train_images/0002.txt")
    root, paths, told = located(["0001", "0002", "0003", None], [tmp_path])
    assert (root, paths) == (tmp_path, ["train_images/0001.png", "train_images/0002.jpg", "0003", None])
    assert told[0].startswith("2 of 3 image paths were found by their end")
    assert "fits 1 paths: '0003'" in told[1]


def test_an_image_that_two_paths_fit_is_given_to_neither(tmp_path: Path) -> None:
    tree(tmp_path, "a/1.png", "a/2.png", "b/2.png")
    _, paths, _ = located(["x/1.png", "y/1.png", "x/2.png"], [tmp_path])
    assert paths == ["x/1.png", "y/1.png", "x/2.png"]


def test_paths_of_another_machine_lose_the_same_number_of_folders(tmp_path: Path) -> None:
    tree(tmp_path, "line3/1.png", "line4/1.png")
    paths = ["/mnt/old/line3/1.png", "/mnt/old/line4/1.png"]
    assert located(paths, [tmp_path])[:2] == (tmp_path, ["line3/1.png", "line4/1.png"])
    windows = ["D:\\old\\line3\\1.png", "D:\\old\\line4\\1.png"]
    assert located(windows, [tmp_path])[:2] == (tmp_path, ["line3/1.png", "line4/1.png"])


def test_absolute_paths_become_relative_to_the_folder_they_share(tmp_path: Path) -> None:
    tree(tmp_path, "x/1.png", "y/2.png")
    there = [str(tmp_path / name) for name in ("x/1.png", "y/2.png")]
    assert located(there, [tmp_path / "x"])[:2] == (tmp_path, ["x/1.png", "y/2.png"])
    root, paths, told = located(["/d/x/1.png", "//d/y/3.png", ""], [tmp_path / "none"])
    assert (root, paths) == (Path("/d"), ["x/1.png", "y/3.png", None])
    assert "image paths are absolute" in told[0]


def test_what_a_tool_wrote_around_a_path_is_taken_off_and_told(tmp_path: Path) -> None:
    tree(tmp_path, "line3/1.png", "2.png")
    root, paths, told = located(["/data/local-files/?d=line3%2F1.png", ".\\2.png"], [tmp_path])
    assert (root, paths) == (tmp_path, ["line3/1.png", "2.png"])
    assert told == ["2 image paths are written anew, such as '/data/local-files/?d=line3%2F1.png' as 'line3/1.png'"]
