"""Code pages: what is certain is taken, what only seems so is refused with how it reads."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from labelclean.errors import TableError
from labelclean.starting.text import file_bytes, text_of

ORIGIN = Path("l.csv")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_unicode_is_known_by_itself_or_by_its_mark(encoding: str) -> None:
    assert text_of("a.png,良品\n".encode(encoding), ORIGIN)[0] == "a.png,良品\n"


@pytest.mark.parametrize("label", ["傷", "良品", "打痕,キズ", "欠け・割れ", "ｷｽﾞ", "ﾒｯｷ不良", "異物混入Ａ"])
def test_shift_jis_is_taken_where_it_reads_as_japanese(label: str) -> None:
    text = f"file,label\na.png,{label}\n"
    assert text_of(text.encode("cp932"), ORIGIN) == (text, "Shift-JIS (cp932)")


@pytest.mark.parametrize(
    ("encoding", "label"),
    [
        ("euc_jp", "良品"),
        ("euc_jp", "キズ"),
        ("euc_jp", "打痕不良、汚れ"),
        ("gbk", "良品"),
        ("gbk", "划痕"),
        ("gbk", "合格品"),
        ("big5", "良品"),
        ("big5", "刮痕"),
        ("cp949", "양품"),
        ("cp1252", "Défaut"),
        ("cp1252", "Oberfläche"),
        ("cp1252", "RÉSERVÉ"),
        ("cp1252", "naïve café"),
        ("cp1252", "ÜBERMASS"),
        ("iso-8859-2", "łuszczenie"),
    ],
)
def test_other_code_pages_are_never_read_as_shift_jis(encoding: str, label: str) -> None:
    text = f"file,label\na.png,{label}\nb.png,ok\n"
    with pytest.raises(TableError, match=r"line 2\) is not UTF-8.*--encoding"):
        text_of(text.encode(encoding), ORIGIN)
    assert text_of(text.encode(encoding), ORIGIN, encoding) == (text, encoding)


def test_jis_is_known_by_its_escapes() -> None:
    text = "file,label\na.png,良品\nb.png,ｷｽﾞ\n"
    assert text_of(text.encode("iso2022_jp_ext"), ORIGIN) == (text, "JIS (ISO-2022-JP)")


def test_the_letter_shows_how_the_cell_reads() -> None:
    with pytest.raises(TableError) as fault:
        text_of("a.png,良品\n".encode("euc_jp"), ORIGIN)
    assert "'ﾎﾉﾉﾊ' as Shift-JIS" in str(fault.value)
    assert "'良品' as EUC-JP" in str(fault.value)


@pytest.mark.parametrize(
    ("data", "encoding", "said"),
    [
        ("a.png,ok".encode("utf-16-le"), None, "--encoding utf-16-le"),
        (b"a\xff", "utf-8", r"byte 1 \(line 1\) is not"),
        (b"a", "no_such", "must name a code page such as"),
        (b"a", "rot13", "must name a code page"),
        (b"61", "hex", "must name a code page"),
    ],
)
def test_what_is_no_text_or_no_code_page_is_refused(data: bytes, encoding: str | None, said: str) -> None:
    with pytest.raises(TableError, match=said):
        text_of(data, ORIGIN, encoding)


def test_gzip_is_unpacked_and_damage_told(tmp_path: Path) -> None:
    (tmp_path / "l.csv.gz").write_bytes(gzip.compress(b"file,label\n"))
    assert file_bytes(tmp_path / "l.csv.gz") == b"file,label\n"
    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress(b"file,label\n" * 100)[:-9])
    with pytest.raises(TableError, match="whole file"):
        file_bytes(tmp_path / "cut.csv.gz")
