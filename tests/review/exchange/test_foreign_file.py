"""Bombs, slips and damage in files from outside: refused in a letter, nothing written, nothing expanded."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from labelclean.errors import ExchangeError
from labelclean.review.exchange import foreign_file
from labelclean.review.exchange.foreign_file import foreign_bytes, foreign_text, xml_elements, zip_member

LAUGHS = """<?xml version="1.0"?><!DOCTYPE a [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">
<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;">]><annotations><image name="&c;"/></annotations>"""
OUTSIDE = """<?xml version="1.0"?><!DOCTYPE a [<!ENTITY a SYSTEM "file:///etc/passwd">]>
<annotations><image name="x">&a;</image></annotations>"""


def wanted(name: str) -> bool:
    return name == "annotations.xml"


def zip_of(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    return path


@pytest.mark.parametrize("text", [LAUGHS, OUTSIDE, "<!DOCTYPE a><annotations/>"])
def test_xml_with_a_document_type_is_refused(text: str) -> None:
    with pytest.raises(ExchangeError, match="document type or entities"):
        list(xml_elements(text.encode(), ("image",), Path("a.xml")))


@pytest.mark.parametrize(
    "data", [b"", b"<annotations>", b"<a></b>", b"\xff\xfe\x00", b'<?xml version="1.0" encoding="x"?><a/>']
)
def test_broken_xml_is_refused(data: bytes) -> None:
    with pytest.raises(ExchangeError, match="whole XML"):
        list(xml_elements(data, ("image",), Path("a.xml")))


@pytest.mark.parametrize("name", ["../annotations.xml", "/etc/passwd", "a/../../b", "..\\b", "C:/b"])
def test_a_member_that_leads_out_of_the_folder_refuses_the_zip(tmp_path: Path, name: str) -> None:
    path = zip_of(tmp_path / "a.zip", {"annotations.xml": b"<annotations/>", name: b"x"})
    with pytest.raises(ExchangeError, match="leads out of the folder"):
        zip_member(path, wanted, "annotations.xml")
    assert [file.name for file in tmp_path.iterdir()] == ["a.zip"]


def test_a_member_that_grows_too_much_refuses_the_zip(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "a.zip", {"annotations.xml": b"<a>" + b" " * 20_000_000 + b"</a>"})
    with pytest.raises(ExchangeError, match="more than 200 times"):
        zip_member(path, wanted, "annotations.xml")


def test_a_zip_of_too_much_in_all_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreign_file, "MAX_ZIP_BYTES", 10)
    with pytest.raises(ExchangeError, match="says 2 of 20"):
        zip_member(zip_of(tmp_path / "a.zip", {"annotations.xml": b"x" * 10, "b": b"x" * 10}), wanted, "it")


def test_a_member_that_lies_about_its_size_is_refused(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "a.zip", {"annotations.xml": b"x" * 5_000})
    data = path.read_bytes().replace((5_000).to_bytes(4, "little"), (50).to_bytes(4, "little"))
    path.write_bytes(data)
    with pytest.raises(ExchangeError, match="whole zip file"):
        zip_member(path, wanted, "annotations.xml")


def test_a_truncated_zip_or_one_without_the_member_is_refused(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "a.zip", {"b.xml": b"x"})
    with pytest.raises(ExchangeError, match="exactly once, but holds it 0 times"):
        zip_member(path, wanted, "annotations.xml")
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ExchangeError, match="whole zip file"):
        zip_member(path, wanted, "annotations.xml")


def test_files_that_are_missing_folders_or_too_large_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    monkeypatch.setattr(foreign_file, "MAX_BYTES", 4)
    for path, fault in ((tmp_path, "no such file"), (tmp_path / "b", "no such file"), (tmp_path / "a", "has 5")):
        with pytest.raises(ExchangeError, match=fault):
            foreign_bytes(path)


def test_a_byte_order_mark_is_taken_off(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\xef\xbb\xbfok")
    assert foreign_text(tmp_path / "a") == "ok"
