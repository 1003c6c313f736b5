"""No code from data, no secret in what is written, no connection that nobody asked for, no path out of the image root."""

from __future__ import annotations

import csv
import io
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from labelclean.config import DecodeConfig
from labelclean.features.decode import decode_image
from labelclean.features.image_files import ImageReject, ReasonCode
from labelclean.review.exchange.tools import export_run
from labelclean.storage.parquet import read_table
from labelclean.storage.run_folders import run_folders
from tests.hostile import NO_IMAGES, TEXTS, WHOLE, bomb, pages, photo, png, saved, tiff
from tests.preloaded import Preloaded
from tests.test_faults import plain_run

ROOT = Path(__file__).parent.parent
LOG_LINE = re.compile(r"\d\d:\d\d:\d\d ")
pytestmark = [pytest.mark.filterwarnings("default")]

# --- files that mean harm ---------------------------------------------------------------------------


def jpeg_bomb() -> bytes:
    """A small JPEG whose frame header claims 65,500 x 65,500 pixels."""
    data = bytearray(photo("JPEG"))
    place = data.index(b"\xff\xc0") + 5
    data[place : place + 4] = (65_500).to_bytes(2, "big") * 2
    return bytes(data)


def tiff_bomb() -> bytes:
    """A small TIFF whose tags claim 2,000,000 x 2,000,000 pixels."""
    data = tiff(np.zeros((4, 4), dtype=np.uint8))
    for tag in (256, 257):
        entry = tag.to_bytes(2, "little") + (4).to_bytes(2, "little") + (1).to_bytes(4, "little")
        place = data.index(entry) + 8
        data = data[:place] + (2_000_000).to_bytes(4, "little") + data[place + 4 :]
    return data


def bmp_bomb() -> bytes:
    """A small BMP whose header claims 2,000,000 x 2,000,000 pixels."""
    data = photo("BMP")
    return data[:18] + (2_000_000).to_bytes(4, "little") * 2 + data[26:]


BOMBS: dict[str, Callable[[], bytes]] = {"png": bomb, "jpeg": jpeg_bomb, "tiff": tiff_bomb, "bmp": bmp_bomb}


@pytest.mark.parametrize("kind", BOMBS)
def test_a_bomb_of_any_kind_is_refused_by_its_header(kind: str) -> None:
    with pytest.raises(ImageReject, match="100,000,000 pixels") as refusal:
        decode_image(BOMBS[kind](), DecodeConfig())
    assert refusal.value.reason_code == ReasonCode.TOO_MANY_PIXELS


def hostile_images(root: Path) -> dict[str, str]:
    """Lay every hostile file into an image root; gives its image_path and the reason expected, or "" for a picture."""
    found: dict[str, str] = {}

    def lay(name: str, data: bytes, reason: str) -> None:
        (root / name).write_bytes(data)
        found[name] = reason

    for kind, make in BOMBS.items():
        lay(f"bomb.{kind}", make(), "too_many_pixels")
    for name, data in NO_IMAGES.items():
        lay(f"{name}.png", data, "not_an_image")
    for kind in ("png", "jpeg", "tiff16"):
        lay(f"cut.{kind}", WHOLE[kind]()[:200], "truncated damaged")
    lay("pages.tif", pages("TIFF"), "several_pages")
    lay("empty.png", b"", "empty")
    lay("jpeg named.png", photo("JPEG"), "")
    lay("picture and page.jpg", photo("JPEG") + b"<script>alert(1)</script>", "")
    lay("deep.png", png(np.arange(900, dtype=np.uint16).reshape(30, 30), 0), "")
    lay("傷_0017 ひび割れ.png", photo("PNG"), "")
    lay("n" * 251 + ".png", photo("PNG", (31, 30)), "")
    lay("=cmd()<b>&'.png", photo("PNG", (32, 30)), "")
    lay("exif.jpg", odd_exif(), "")
    (root.parent / "secret.png").write_bytes(photo("PNG"))
    (root / "door.png").symlink_to(root.parent / "secret.png")
    (root / "device.png").symlink_to("/dev/zero")
    (root / "folder.png").mkdir()
    os.mkfifo(root / "pipe.png")
    found |= {"door.png": "outside_root", "device.png": "outside_root"}
    found |= {"folder.png": "not_a_file", "pipe.png": "not_a_file", "nowhere.png": "missing", "x" * 400: "unreadable"}
    found |= {"../secret.png": "parent_path", "/etc/passwd": "absolute_path", "a\0.png": "nul_in_path"}
    found |= {"//server/share/a.png": "absolute_path", "\\\\server\\share\\a.png": "windows_path"}
    found |= {"C:\\a.png": "windows_path", "file:///etc/passwd": "missing"}
    return found


def odd_exif() -> bytes:
    """A JPEG whose metadata is long, odd and looks like a program."""
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 255
    exif[0x010E] = "<script>alert(1)</script>" * 500
    exif[0x9286] = b"\xff" * 1000
    return saved(Image.new("RGB", (40, 30), (9, 99, 199)), "JPEG", exif=exif)


def hostile_labels(place: Path) -> tuple[Path, dict[str, str]]:
    """240 rows of the sample data under hostile classes, ids and lines, and one row for each hostile image."""
    root = place / "images"
    root.mkdir()
    table = pq.read_table(ROOT / "sample_data" / "labels.parquet").slice(0, 240).to_pylist()
    classes = dict(zip(sorted({row["given_label"] for row in table}), HOSTILE_CLASSES * 2, strict=False))
    rows: list[dict[str, Any]] = []
    for row in table:
        data = (ROOT / "sample_data" / row["image_path"]).read_bytes()
        (root / Path(row["image_path"]).name).write_bytes(data)
        rows.append(
            {
                "sample_id": row["sample_id"],
                "image_path": Path(row["image_path"]).name,
                "given_label": classes[row["given_label"]],
                "line": "<script>alert(1)</script>" if len(rows) % 2 else "=1+1",
            }
        )
    ids = [text for text in TEXTS if text.strip() and text.isprintable()]
    expected = hostile_images(root)
    for number, path in enumerate(expected):
        name = ids[number] if number < len(ids) else f"hostile {number}"
        rows.append({"sample_id": name, "image_path": path, "given_label": HOSTILE_CLASSES[0], "line": "+1"})
    pq.write_table(pa.Table.from_pylist(rows), place / "labels.parquet")
    return place / "labels.parquet", expected


HOSTILE_CLASSES = ("ok", "<script>alert(1)</script>", "=cmd|' /C calc'!A0", "傷 {{ 7*7 }}", '"><img src=x>')


@pytest.mark.long
def test_a_night_of_hostile_labels_and_images_rejects_exactly_those_that_are_no_pictures(
    preloaded: Preloaded, sample_cache: Path, tmp_path: Path
) -> None:
    labels, expected = hostile_labels(tmp_path)
    items = [f"data.labels={labels}", f"data.image_root={tmp_path / 'images'}", "data.class_names=null"]
    items += ["rejects.max_share=1.0", "gates.on_refusal=fall_back", "expectations.enabled=true"]
    said = tmp_path / "said"
    code = preloaded.run(*plain_run(tmp_path / "runs", sample_cache, *items), said=said)
    assert code == 0, said.read_text()
    (run,) = run_folders(tmp_path / "runs")
    rejects = {
        row["image_path"]: row["reason_code"] for row in read_table(run / "rejects.parquet", "rejects").to_pylist()
    }
    told = {path: rejects.pop(path, "") for path in expected}
    wrong = {path: code for path, code in told.items() if code not in expected[path].split(" ")}
    assert wrong == {}
    assert all(code == "truncated" for code in rejects.values())  # of the sample data itself
    page = (run / "report.html").read_text(encoding="utf-8")
    for harmful in ("<script>alert", "<img src=x", "<b>&'"):
        assert harmful not in page
    assert "&lt;script&gt;alert(1)" in page
    export = export_run(run, "csv", tmp_path / "export").folder
    for part in export.glob("part_*/queue.csv"):
        for row in csv.reader(io.StringIO(part.read_text(encoding="utf-8-sig"), newline="")):
            assert not [cell for cell in row if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]


# --- secrets --------------------------------------------------------------------------------------

SECRET = "geheim-7351"
SECRETS = {
    "LABELCLEAN_WEBHOOK_URL": f"http://127.0.0.1:9/{SECRET}",
    "LABEL_STUDIO_API_KEY": SECRET,
    "LABEL_STUDIO_URL": "http://127.0.0.1:9",
}


def check_no_secret(place: Path) -> None:
    for file in place.rglob("*"):
        if file.is_file():
            assert SECRET.encode() not in file.read_bytes(), file


@pytest.mark.long
@pytest.mark.parametrize("ledger", [None, f"postgresql://me:{SECRET}@127.0.0.1:9/labels"])
def test_no_secret_of_the_environment_is_written_or_said(
    preloaded: Preloaded, sample_cache: Path, tmp_path: Path, ledger: str | None
) -> None:
    environ = SECRETS | ({"LABELCLEAN_LEDGER_URL": ledger} if ledger else {})
    said = tmp_path / "said"
    code = preloaded.run(*plain_run(tmp_path / "runs", sample_cache), said=said, environ=environ)
    assert code == (5 if ledger else 0), said.read_text()
    assert "Traceback" not in said.read_text()
    check_no_secret(tmp_path)


@pytest.mark.long
def test_a_night_that_fails_under_prefect_is_one_letter_without_traceback_or_secret(
    sample_cache: Path, tmp_path: Path
) -> None:
    environ = os.environ | SECRETS | {"PREFECT_HOME": str(tmp_path / "prefect")}
    environ["LABELCLEAN_LEDGER_URL"] = f"postgresql://me:{SECRET}@127.0.0.1:9/labels"
    command = plain_run(tmp_path / "runs", sample_cache)
    command.remove("--plain")
    done = subprocess.run(
        [sys.executable, "-m", "labelclean.cli", *command], env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 5, done.stderr
    letters = [line for line in done.stderr.splitlines() if not LOG_LINE.match(line)]
    assert len(letters) == 1, done.stderr
    assert letters[0].startswith("labelclean: postgresql+psycopg://127.0.0.1:9/labels: the ledger cannot be used")
    assert SECRET not in done.stderr + done.stdout
    assert (tmp_path / "prefect" / "prefect.db").is_file()
    check_no_secret(tmp_path)


# --- nobody is called -----------------------------------------------------------------------------

# every Python process that a run starts imports this first, and notes whom it calls beyond this machine
WATCHED = """
import os, sys
def watch(event, arguments):
    if event == "socket.connect" and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    elif event == "socket.getaddrinfo":
        host = arguments[0]
    else:
        return
    host = host.decode() if isinstance(host, bytes) else host
    if host not in (None, "", "localhost", "::1", "::", "0.0.0.0") and not str(host).startswith("127."):
        with open(os.environ["CALLED"], "a") as file:
            file.write(f"{event} {host} {sys.argv}\\n")
sys.addaudithook(watch)
with open(os.environ["CALLED"] + ".watched", "a") as file:
    file.write(f"{os.getpid()}\\n")
"""


@pytest.mark.long
@pytest.mark.parametrize("how", ["plain", "prefect"])
def test_a_run_calls_nobody_beyond_this_machine(how: str, sample_cache: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(WATCHED)
    called = tmp_path / "called"
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "DO_NOT", "GX_"))}
    environ |= {"PYTHONPATH": str(tmp_path), "CALLED": str(called), "PREFECT_HOME": str(tmp_path / "prefect")}
    command = plain_run(tmp_path / "runs", tmp_path / "cache", "expectations.enabled=true")
    if how == "prefect":
        command = plain_run(tmp_path / "runs", sample_cache)
        command.remove("--plain")
    done = subprocess.run(
        [sys.executable, "-m", "labelclean.cli", *command], env=environ, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    assert len((tmp_path / "called.watched").read_text().split()) >= 2  # the decoder, Great Expectations, the server
    assert not called.exists(), called.read_text()
    probe = "import socket; s = socket.socket(); s.settimeout(0.01); s.connect_ex(('192.0.2.1', 9))"
    subprocess.run([sys.executable, "-c", probe], env=environ, check=True)
    assert "192.0.2.1" in called.read_text()


# --- no pickle ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_prefect_keeps_no_result_and_would_write_json() -> None:
    import importlib
    import inspect
    import pkgutil

    import labelclean.flows
    from prefect import Flow, Task

    seen = 0
    for module in pkgutil.iter_modules(labelclean.flows.__path__):
        for _, member in inspect.getmembers(importlib.import_module(f"labelclean.flows.{module.name}")):
            for each in member if isinstance(member, list) else [member]:
                if isinstance(each, Flow):
                    assert (each.persist_result, each.result_serializer) == (False, "json"), each.name
                    seen += 1
                elif isinstance(each, Task):
                    kept = (each.persist_result, each.result_serializer, each.cache_result_in_memory)
                    assert kept == (False, "json", False), each.name
                    seen += 1
    assert seen >= 8
