"""Every command of the docs and READMEs runs on the sample data, in the order in which a reader meets it."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from labelclean.config import DecodeConfig
from labelclean.features.decode import decode_image
from labelclean.review.exchange.manifest import read_manifest
from tests.made_boxes import Page, write_boxes
from tests.review.exchange.test_sheet import data_of

pytestmark = [pytest.mark.docs, pytest.mark.slow]
ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "README.ja.md", *sorted((ROOT / "docs").glob("*.md"))]
NUM_SAMPLES = 120

SMALL_ADAPTATION = (
    "adapt.epochs=2", "adapt.window=1", "adapt.head_width=64", "adapt.bottleneck=16", "adapt.batch_size=16",
)  # fmt: skip

# commands that other tests run, and where
ELSEWHERE = {
    r"^python3\.11 -m venv": ".ci/run takes both lines from README.md; the first is the sample run of every test session",
    r"^prefect (server|work-pool|deploy|worker)": "tests marked prefect_server start a server, a work pool and a worker",
    r"--cluster": "tests marked ray run two nodes and end one",
    r"^labelclean serve": "tests marked prefect_server serve a flow on a schedule",
    r"^export PREFECT_API_URL": "goes with them",
    r"^pip install 'labelclean\[adapt\]'": "the extra `test` brings kornia too",
    r"^torchrun": "tests marked training train in two processes",
    r"^labelclean adapt my.yaml --resume": "tests/adapt kill an adaptation and resume it",
    r"LABELCLEAN_REAL_DATA|tiles\.yaml|neu\.yaml": "tests marked real run the worked examples",
}


def commands() -> list[str]:
    """Every command in a sh block, once, without its comment; continued lines are joined."""
    found: dict[str, None] = {}
    for page in PAGES:
        for block in re.findall(r"^```sh\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE):
            for line in block.replace("\\\n", " ").splitlines():
                command = re.sub(r"\s+#.*$", "", line).strip()
                if command:
                    found[re.sub(r"\s+", " ", command)] = None
    return list(found)


RUN_HERE = [command for command in commands() if not any(re.search(pattern, command) for pattern in ELSEWHERE)]


def test_the_pages_hold_commands_and_each_exception_still_stands_in_them() -> None:
    assert len(RUN_HERE) >= 12
    assert [pattern for pattern in ELSEWHERE if not any(re.search(pattern, line) for line in commands())] == []


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder as a reader's: images by class, a network, and `labelclean` on the path."""
    folder = tmp_path_factory.mktemp("desk")
    rows = pq.read_table(ROOT / "sample_data" / "labels.parquet").to_pylist()
    for row in rows[:NUM_SAMPLES]:
        target = folder / "my_images" / row["given_label"] / Path(row["image_path"]).name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / "sample_data" / row["image_path"], target)
    write_sources(folder, [(Path(row["image_path"]).name, row["given_label"]) for row in rows[:NUM_SAMPLES]])
    for row in [row for row in rows if row["given_label"] == "ok"][:80]:
        target = folder / "good_bottles" / "pictures" / "good" / Path(row["image_path"]).name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / "sample_data" / row["image_path"], target)
    yield folder
    shutil.rmtree(folder)


def write_sources(desk: Path, labels: list[tuple[str, str]]) -> None:
    """The labels of `my_images` as every source that the page Your own labels names."""
    import openpyxl

    names = sorted({label for _, label in labels})
    number = {label: k for k, label in enumerate(names)}
    studio = [("/data/upload/3/0a1b2c3d-" + name, label) for name, label in labels]

    def table(file: str, header: str, rows: list[str], encoding: str = "utf-8") -> None:
        data = "\n".join([*([header] if header else []), *rows, ""]).encode(encoding)
        (desk / file).write_bytes(gzip.compress(data) if file.endswith(".gz") else data)

    table("labels.csv", "file,label", [f"{name},{label}" for name, label in labels])
    table("list.txt", "", [f"{name} {label}" for name, label in labels])
    table("no_header.csv", "", [f"{name},x,{label}" for name, label in labels])
    hot = [f"{name}," + ",".join(str(int(label == one)) for one in names) for name, label in labels]
    table("one_hot.csv.gz", "image," + ",".join(names), hot)
    table("inspectors.csv", "file,grade,who,part", [f"{name},{label},Aiko,{name}" for name, label in labels])
    table("euc.csv", "ファイル名,不良名", [f"{name},{label}傷" for name, label in labels], "euc_jp")
    table(
        "label_studio_table.csv",
        "image,id,choice,annotator,annotation_id",
        [f"{name},1,{label},1,2" for name, label in studio],
    )
    book = openpyxl.Workbook()
    page = book.create_sheet("line 3")
    for row in (["file", "label"], *labels):
        page.append(row)
    book.save(desk / "inspection.xlsx")
    pq.write_table(
        pa.table({"file": [name for name, _ in labels], "defect_code": [number[label] for _, label in labels]}),
        desk / "mine.parquet",
    )
    paths = {path.name: path for path in (desk / "my_images").rglob("*.*")}
    images = [{"bytes": paths[name].read_bytes(), "path": name} for name, _ in labels]
    features = {"info": {"features": {"label": {"_type": "ClassLabel", "names": names}}}}
    rows = pa.table({"image": images, "label": [number[label] for _, label in labels]})
    pq.write_table(rows.replace_schema_metadata({"huggingface": json.dumps(features)}), desk / "hugging_face.parquet")
    files: dict[str, object] = {
        "coco.json": {
            "images": [{"id": k, "file_name": name} for k, (name, _) in enumerate(labels)],
            "categories": [{"id": k, "name": name} for name, k in number.items()],
            "annotations": [{"id": k, "image_id": k, "category_id": number[label]} for k, (_, label) in enumerate(labels)],
        },
        "label_studio.json": [
            {"data": {"image": name}, "annotations": [{"completed_by": 1, "result": [{"type": "choices", "value": {"choices": [label]}}]}]}
            for name, label in studio
        ],
        "label_studio_min.json": [
            {"image": name, "choice": label, "annotator": 1, "annotation_id": k} for k, (name, label) in enumerate(studio)
        ],
        "fiftyone/labels.json": {"classes": names, "labels": {Path(name).stem: number[label] for name, label in labels}},
    }  # fmt: skip
    splits = [f"image_folder_splits/{split}" for split in ("train", "test")]
    for folder in ("fiftyone/data", "voc/JPEGImages", "kaggle/train_images", "image_folder", *splits):
        (desk / folder).mkdir(parents=True)
        for name, path in paths.items():
            shutil.copyfile(path, desk / folder / name)
    for file, content in files.items():
        (desk / file).write_text(json.dumps(content), encoding="utf-8")
    tags = "".join(f'<image name="{name}"><tag label="{label}"/></image>' for name, label in labels)
    (desk / "cvat.xml").write_text(f"<annotations>{tags}</annotations>")
    (desk / "voc/Annotations").mkdir()
    for name, label in labels:
        text = f"<annotation><filename>{name}</filename><object><name>{label}</name></object></annotation>"
        (desk / "voc/Annotations" / f"{Path(name).stem}.xml").write_text(text)
    table("kaggle/train.csv", "id,label", [f"{Path(name).stem},{label}" for name, label in labels])
    for split, part in zip(splits, (labels[::2], labels[1::2]), strict=True):
        lines = [json.dumps({"file_name": name, "label": label}) for name, label in part]
        (desk / split / "metadata.jsonl").write_text("\n".join(lines))
    (desk / "records.jsonl").write_text("\n".join(json.dumps({"file": name, "label": label}) for name, label in labels))
    table("from_excel.csv", "sep=;\nLine 3;\nfile;label", [f"{name};{label}" for name, label in labels], "utf-16")
    for k, (name, label) in enumerate(labels):
        good = "train" if k % 2 else "test"
        target = desk / "mvtec" / (good if label == "ok" else "test") / label / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(paths[name], target)
        if label != "ok":
            mask = desk / "mvtec" / "ground_truth" / label / f"{target.stem}_mask.png"
            mask.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(paths[name], mask)
    table("image_folder/metadata.csv", "file_name,label", [f"{name},{label}" for name, label in labels])
    write_boxes_of(desk, [(paths[name], label) for name, label in labels])


def write_boxes_of(desk: Path, labels: list[tuple[Path, str]]) -> None:
    """Three photos side by side in each picture, a box around each, as every source that the page Boxes names."""
    pages = []
    for number in range(0, len(labels), 3):
        some = labels[number : number + 3]
        grey = [decode_image(path.read_bytes(), DecodeConfig())[:128, :128].mean(axis=2) for path, _ in some]
        picture = Image.fromarray(np.rint(np.concatenate(grey, axis=1) * 255).astype(np.uint8))
        for folder in ("sheets", "boxes_yolo/images", "boxes_voc/JPEGImages"):
            (desk / folder).mkdir(parents=True, exist_ok=True)
            picture.save(desk / folder / f"sheet_{number:03}.png")
        boxes = [(128.0 * k + 4, 4.0, 120.0, 120.0) for k in range(len(some))]
        pages.append(Page(f"sheet_{number:03}.png", *picture.size, boxes, [label for _, label in some]))
    for form, name in (("coco", "boxes.json"), ("cvat", "boxes_cvat.xml"), ("label_studio", "boxes_studio.json")):
        write_boxes(form, pages, desk / "made").rename(desk / name)
    write_boxes("yolo", pages, desk / "boxes_yolo")
    write_boxes("voc", pages, desk / "made").rename(desk / "boxes_voc" / "Annotations")


@pytest.mark.parametrize("command", [" && ".join(RUN_HERE)], ids=["in order"])
def test_every_command_runs(desk: Path, command: str) -> None:
    """One test, for each command needs what the ones before it left."""
    order = sorted(
        RUN_HERE, key=lambda line: "labelclean init" not in line or re.search("several|parts", line) is not None
    )
    assert set(order) == set(command.split(" && "))
    for line in sorted(order, key=_stage):
        began = time.monotonic()
        told = _bash(_prepared(line, desk), desk)
        print(f"{time.monotonic() - began:5.1f} s  {line}")
        assert told.returncode == 0, f"{line}\n{told.stdout}\n{told.stderr}"
        assert "Traceback" not in told.stderr
        if "labelclean init" in line:
            assert (
                f"image root {desk}" not in told.stdout
                or f"{NUM_SAMPLES} of the first {NUM_SAMPLES} images" in told.stdout
            )
            sizes = (f"{NUM_SAMPLES} rows", "360 images, 4 classes", "800 rows, 4 classes", "1 classes: good")
            assert any(size in told.stdout for size in sizes), line
            _use_the_sample_backbone(desk)


def _stage(line: str) -> int:
    """What must have happened before: a config, a run, an export, decisions; a study in the order of its page."""
    if re.search(r"several|sample_data.parts|part_|parts\.yaml|parts/|good_|good\.yaml", line):
        return 5
    if "study" in line or re.search(r"labelclean (run|export|import|apply) .*(boxes\.yaml|box_runs)", line):
        return 4
    steps = (
        "init",
        "run my.yaml$",
        "export",
        "import",
        "",
        "adapt my.yaml$",
        r"(adapt|run) my.yaml .*(--compare|adapted)",
        "prune",
    )
    return next((k for k, step in enumerate(steps) if step and re.search(rf"labelclean {step}", line)), 4)


def _prepared(line: str, desk: Path) -> str:
    """The line with the name of the run in place of RUN, the answers that a reader has by then, and no second server."""
    runs = (
        sorted(path.name for path in (desk / "runs").iterdir() if not path.name.startswith("."))
        if (desk / "runs").is_dir()
        else []
    )
    if "box_runs/RUN" in line:
        (name,) = (path.name for path in (desk / "box_runs").iterdir() if path.name.startswith("2"))
        line = line.replace("box_runs/RUN", f"box_runs/{name}")
    if "box_decisions.json" in line:
        _answer_some(desk / "box_queue", desk / "box_decisions.json")
    elif "decisions.json" in line and "several" not in line:
        _answer_some(desk / "queue", desk / "decisions.json")
    adapted = next((path.name for path in (desk / "adapted").glob("2*")), "")
    line = line.replace("adapted/RUN", f"adapted/{adapted}")
    for place in re.findall(r"(several_runs|part_runs|good_runs)/RUN", line):
        newest = max(path.name for path in (desk / place).iterdir() if path.name[0] != ".")
        line = line.replace(f"{place}/RUN", f"{place}/{newest}")
    line = line.replace("RUN", runs[0]).replace("NEWEST", runs[-1]) if runs else line
    line = line.replace("python -m sample_data.inspectors", f"python {ROOT / 'sample_data' / 'inspectors.py'}")
    line = re.sub(r"python -m sample_data\.(several|parts)", rf"env PYTHONPATH={ROOT} python -m sample_data.\1", line)
    line = line.replace("my_weights.safetensors", str(ROOT / "sample_data" / "backbone.safetensors"))
    # 60 is the least that poc takes; the number says nothing here
    line = line.replace("--samples 100", "--samples 60")
    # Prefect's own server costs half a minute; tests/flows run it
    if "labelclean adapt" in line:
        line += "".join(f" --set {item}" for item in SMALL_ADAPTATION) + (
            " --sample 20 --epochs 2" if "--sweep" in line else ""
        )
    if "labelclean history" in line:
        line = line.replace("SAMPLE", read_manifest(desk / "queue").items[0].sample_id)
    if "labelclean apply" in line:
        line += " --unreviewed"  # after three answers, a reader would have more
    is_run = "labelclean run" in line and "--dry-run" not in line
    return f"{line} --plain --set expectations.enabled=false" if is_run else line


def _answer_some(export: Path, target: Path) -> None:
    """What Download decisions saves after three answers."""
    data, items = data_of(export), read_manifest(export).items[:3]
    rows = [
        {"key": item.key, "content_hash": item.content_hash, "decision": word, "labels": [], "annotator": "Aiko",
         "reviewed_at": data_time()} for item, word in zip(items, ("unsure", "unsure", "none_of_these"), strict=True)
    ]  # fmt: skip
    head = {name: data[name] for name in ("format", "tool", "run_id", "dataset", "export")}
    target.write_text(json.dumps(head | {"num_decisions": len(rows), "decisions": rows}), encoding="utf-8")


def data_time() -> str:
    from datetime import UTC, datetime

    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def _use_the_sample_backbone(desk: Path) -> None:
    """The network of the sample data in place of one that would be fetched; `config.yaml` is the same file as `my.yaml`."""
    sample = (ROOT / "config.yaml").read_text(encoding="utf-8")
    own = re.search(r"^backbone:\n.*?(?=^# |\Z)", sample, flags=re.DOTALL | re.MULTILINE)
    assert own is not None
    network = own.group().replace("sample_data/backbone", str(ROOT / "sample_data" / "backbone"))
    places = (
        ("my.yaml", ["my.yaml", "config.yaml"]),
        ("boxes.yaml", ["boxes.yaml"]),
        ("several.yaml", ["several.yaml"]),
        ("parts.yaml", ["parts.yaml"]),
        ("good.yaml", ["good.yaml"]),
    )
    for name, copies in places:
        if (desk / name).exists():
            text = (desk / name).read_text(encoding="utf-8")
            text = re.sub(r"^backbone:\n.*?(?=^# |\Z)", lambda _: network, text, flags=re.DOTALL | re.MULTILINE)
            for copy in copies:
                (desk / copy).write_text(text, encoding="utf-8")


def _bash(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command], cwd=folder, env=os.environ | {"PATH": path}, capture_output=True, text=True
    )  # fmt: skip


def test_the_site_builds_offline_and_names_no_other_host(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    env = os.environ | {
        "http_proxy": "http://127.0.0.1:9",
        "https_proxy": "http://127.0.0.1:9",
        "NO_MKDOCS_2_WARNING": "1",
    }
    told = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-d", str(tmp_path / "site")],
        cwd=ROOT, env=env, capture_output=True, text=True,
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    pages = list((tmp_path / "site").glob("*.html"))
    assert len(pages) >= 9
    for page in pages:
        loaded = re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="(https?:[^"]+)"', page.read_text(encoding="utf-8"))
        assert loaded == [], page.name
