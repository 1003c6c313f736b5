"""No path leaves the image root, nothing but regular files is opened, and each refusal says what to do."""

from __future__ import annotations

import hashlib
import os
import socket
import unicodedata
from pathlib import Path

import pytest

from labelclean.config import DecodeConfig
from labelclean.features.image_files import ImageReject, ReasonCode, content_hash, hash_image_file, read_image_bytes

POLICY = DecodeConfig(max_bytes=1000)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An image root with one file, and a secret beside it."""
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (root / "sub" / "a.png").write_bytes(b"pixels")
    (tmp_path / "secret.png").write_bytes(b"secret")
    return root


def refusal(root: Path, path: str) -> ImageReject:
    with pytest.raises(ImageReject) as caught:
        read_image_bytes(root, path, POLICY)
    with pytest.raises(ImageReject) as hashed:
        hash_image_file(root, path, POLICY)
    assert hashed.value.reason_code == caught.value.reason_code
    assert caught.value.message.endswith(".")
    return caught.value


def test_a_file_in_the_root_is_read_and_hashed(root: Path) -> None:
    assert read_image_bytes(root, "sub/a.png", POLICY) == b"pixels"
    assert hash_image_file(root, "./sub//a.png", POLICY) == hashlib.sha256(b"pixels").hexdigest()
    assert content_hash(b"pixels") == hashlib.sha256(b"pixels").hexdigest()


@pytest.mark.parametrize(
    ("path", "code", "fragment"),
    [
        ("/etc/passwd", ReasonCode.ABSOLUTE_PATH, "it is absolute"),
        ("//server/share/a.png", ReasonCode.ABSOLUTE_PATH, "it is absolute"),
        ("../secret.png", ReasonCode.PARENT_PATH, "'..' part"),
        ("sub/../sub/a.png", ReasonCode.PARENT_PATH, "'..' part"),
        ("sub/a.png\0.txt", ReasonCode.NUL_IN_PATH, "NUL"),
        ("sub\\a.png", ReasonCode.WINDOWS_PATH, "backslash or a drive letter"),
        ("\\\\server\\share\\a.png", ReasonCode.WINDOWS_PATH, "backslash"),
        ("C:/a.png", ReasonCode.WINDOWS_PATH, "drive letter"),
        ("c:a.png", ReasonCode.WINDOWS_PATH, "drive letter"),
        ("sub/b.png", ReasonCode.MISSING, "there is none"),
        ("sub/a.png/b.png", ReasonCode.MISSING, "there is none"),
        ("https://example.org/a.png", ReasonCode.MISSING, "there is none"),
        ("sub", ReasonCode.NOT_A_FILE, "regular file"),
        ("", ReasonCode.NOT_A_FILE, "regular file"),
        (".", ReasonCode.NOT_A_FILE, "regular file"),
        ("n" * 300 + ".png", ReasonCode.UNREADABLE, "too long"),
    ],
)
def test_paths_are_refused_each_with_its_reason(root: Path, path: str, code: ReasonCode, fragment: str) -> None:
    found = refusal(root, path)
    assert found.reason_code == code
    assert fragment in found.message


def test_links_may_stay_in_the_root_but_not_leave_it(root: Path) -> None:
    (root / "inside.png").symlink_to(root / "sub" / "a.png")
    (root / "outside.png").symlink_to(root.parent / "secret.png")
    (root / "door").symlink_to(root.parent)
    (root / "loop.png").symlink_to(root / "loop.png")
    assert read_image_bytes(root, "inside.png", POLICY) == b"pixels"
    assert refusal(root, "outside.png").reason_code == ReasonCode.OUTSIDE_ROOT
    assert refusal(root, "door/secret.png").reason_code == ReasonCode.OUTSIDE_ROOT
    assert refusal(root, "loop.png").reason_code == ReasonCode.UNREADABLE


def test_a_root_that_is_a_link_itself_is_fine(root: Path) -> None:
    (root.parent / "alias").symlink_to(root)
    assert read_image_bytes(root.parent / "alias", "sub/a.png", POLICY) == b"pixels"


def test_pipes_sockets_and_devices_are_refused_without_hanging(root: Path) -> None:
    os.mkfifo(root / "pipe.png")
    with socket.socket(socket.AF_UNIX) as server:
        place = os.open(root, os.O_RDONLY)
        server.bind(f"/proc/self/fd/{place}/socket.png")
        os.close(place)
    for name in ("pipe.png", "socket.png"):
        assert refusal(root, name).reason_code == ReasonCode.NOT_A_FILE
    with pytest.raises(ImageReject, match="device"):
        read_image_bytes(Path("/dev"), "zero", POLICY)


def test_a_pipe_swapped_in_after_the_check_does_not_hang(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(root / "pipe.png")
    regular = (root / "sub" / "a.png").stat()
    monkeypatch.setattr(Path, "stat", lambda *_, **__: regular)
    with pytest.raises(ImageReject, match="regular file"):
        read_image_bytes(root, "pipe.png", POLICY)


def test_empty_and_large_files_are_refused(root: Path) -> None:
    (root / "empty.png").touch()
    (root / "large.png").write_bytes(b"x" * 1001)
    assert "0 bytes" in refusal(root, "empty.png").message
    assert refusal(root, "empty.png").reason_code == ReasonCode.EMPTY
    assert "1,000 bytes (decode.max_bytes), but has 1,001" in refusal(root, "large.png").message


def test_a_file_that_grows_while_it_is_read_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = (root / "sub" / "a.png").stat()
    (root / "grown.png").write_bytes(b"x" * 1001)
    monkeypatch.setattr("labelclean.features.image_files.os.fstat", lambda _: small)
    monkeypatch.setattr(Path, "stat", lambda *_, **__: small)
    with pytest.raises(ImageReject, match=r"decode\.max_bytes"):
        read_image_bytes(root, "grown.png", POLICY)


@pytest.mark.parametrize(
    ("fault", "code"),
    [(PermissionError(13, "denied"), ReasonCode.PERMISSION), (OSError(5, "I/O"), ReasonCode.UNREADABLE)],
)
def test_the_file_system_s_refusals_become_ours(
    root: Path, monkeypatch: pytest.MonkeyPatch, fault: OSError, code: ReasonCode
) -> None:
    def refuse(*_: object) -> int:
        raise fault

    monkeypatch.setattr("labelclean.features.image_files.os.open", refuse)
    assert refusal(root, "sub/a.png").reason_code == code


@pytest.mark.parametrize("name", ["傷_0017.png", "ひび割れ 第二.png", "Prüfung ß.png", "☠\n.png", "n" * 251 + ".png"])
def test_any_name_the_disk_takes_is_read(root: Path, name: str) -> None:
    (root / name).write_bytes(b"x")
    assert read_image_bytes(root, name, POLICY) == b"x"


@pytest.mark.parametrize(("on_disk", "in_table"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_composed_and_decomposed_names_find_each_other(root: Path, on_disk: str, in_table: str) -> None:
    name = "がざらつき_ü.png"
    (root / unicodedata.normalize(on_disk, name)).write_bytes(b"x")  # type: ignore[arg-type]
    assert read_image_bytes(root, unicodedata.normalize(in_table, name), POLICY) == b"x"  # type: ignore[arg-type]


def test_the_exact_name_wins_over_its_other_form(root: Path) -> None:
    for form in ("NFC", "NFD"):
        (root / unicodedata.normalize(form, "ü.png")).write_bytes(form.encode())
    assert read_image_bytes(root, unicodedata.normalize("NFD", "ü.png"), POLICY) == b"NFD"
