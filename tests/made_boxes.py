"""The same boxes as every tool writes them, with things around them that must stay as they are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FORMATS = ("coco", "cvat", "label_studio", "voc", "yolo")


@dataclass(frozen=True)
class Page:
    """An image with its boxes: left, top, width and height in pixels."""

    name: str
    width: int
    height: int
    boxes: Sequence[tuple[float, float, float, float]]
    labels: Sequence[str]


def write_boxes(form: str, pages: Sequence[Page], folder: Path) -> Path:
    """Write a file or folder of a format; images must lie in, or be put into, `folder/images`."""
    writers = {"coco": coco, "cvat": cvat, "label_studio": label_studio, "voc": voc, "yolo": yolo}
    folder.mkdir(parents=True, exist_ok=True)
    return writers[form](pages, folder)


def classes_of(pages: Sequence[Page]) -> list[str]:
    return sorted({label for page in pages for label in page.labels})


def coco(pages: Sequence[Page], folder: Path) -> Path:
    """Indented, keys in an odd order, a category that no box has, texts that look like a class."""
    names = [*classes_of(pages), "never \u50b7"]
    annotations: list[dict[str, Any]] = []
    for number, page in enumerate(pages):
        for box, label in zip(page.boxes, page.labels, strict=True):
            one = {"iscrowd": 0, "category_id": 10 + names.index(label), "bbox": list(box), "image_id": number}
            note = 'says "category_id": 7, and \\ more'
            annotations.append({"id": 500 + len(annotations)} | one | {"attributes": {"category_id": 10, "note": note}})
    content = {
        "info": {"category_id": 10},
        "categories": [{"id": 10 + k, "name": name, "supercategory": "défaut"} for k, name in enumerate(names)],
        "annotations": annotations,
        "images": [
            {"id": k, "file_name": page.name, "width": page.width, "height": page.height}
            for k, page in enumerate(pages)
        ],
    }
    path = folder / "instances.json"
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")
    return path


def cvat(pages: Sequence[Page], folder: Path) -> Path:
    """Attributes in either quotes and order, a comment that looks like a box, Windows lines."""
    lines = ['<?xml version="1.0" encoding="utf-8"?>', "<annotations>", "  <version>1.1</version>"]
    lines.append('  <!-- <box label="scratch" xtl="1" ytl="1" xbr="2" ybr="2"/> 傷 -->')
    for number, page in enumerate(pages):
        lines.append(f'  <image id="{number}" name="{page.name}" width="{page.width}" height="{page.height}">')
        for at, ((x, y, width, height), label) in enumerate(zip(page.boxes, page.labels, strict=True)):
            corners = f'xtl="{x:.2f}" ytl="{y:.2f}" xbr="{x + width:.2f}" ybr="{y + height:.2f}"'
            named = f'label="{label}"' if at % 2 else f"label = '{label}'"
            lines.append(
                f'    <box {corners} {named} occluded="0" z_order="0"><attribute name="label">x&gt;y</attribute></box>'
                if at % 3
                else f"    <box {named} {corners} />"
            )
        lines.append("  </image>")
    path = folder / "annotations.xml"
    path.write_bytes("\r\n".join([*lines, "</annotations>", ""]).encode())
    return path


def label_studio(pages: Sequence[Page], folder: Path) -> Path:
    """One line, ASCII, an earlier annotation and predictions with the same classes."""
    tasks: list[dict[str, Any]] = []
    for number, page in enumerate(pages):
        results = []
        for at, ((x, y, width, height), label) in enumerate(zip(page.boxes, page.labels, strict=True)):
            across, down = 100 / page.width, 100 / page.height
            value = {"x": x * across, "y": y * down, "width": width * across, "height": height * down, "rotation": 0}
            result = {
                "original_width": page.width,
                "original_height": page.height,
                "id": f"r{at}",
                "type": "rectanglelabels",
            }
            results.append(
                result | {"from_name": "label", "to_name": "image", "value": value | {"rectanglelabels": [label]}}
            )
        earlier = [one | {"id": "old"} for one in results[:1]]
        annotations = [
            {"id": 2 * number, "result": earlier, "was_cancelled": False, "updated_at": "2026-01-01T00:00:00Z"},
            {"id": 2 * number + 1, "result": results, "was_cancelled": False, "updated_at": "2026-01-02T00:00:00Z"},
        ]
        predictions = [{"result": results}]
        data = {"image": f"/data/upload/3/0a1b2c3d-{page.name}", "rectanglelabels": "傷"}
        tasks.append({"id": 70 + number, "predictions": predictions, "annotations": annotations, "data": data})
    path = folder / "studio.json"
    path.write_text(json.dumps(tasks), encoding="utf-8")
    return path


def voc(pages: Sequence[Page], folder: Path) -> Path:
    """Blanks around names, a part inside an object, a comment, tabs."""
    place = folder / "voc" / "Annotations"
    place.mkdir(parents=True, exist_ok=True)
    for page in pages:
        lines = [
            "<annotation>",
            "\t<folder>x</folder>",
            f"\t<filename>{page.name}</filename><!-- <name>dent</name> -->",
        ]
        lines.append(f"\t<size><width>{page.width}</width><height>{page.height}</height><depth>1</depth></size>")
        for (x, y, width, height), label in zip(page.boxes, page.labels, strict=True):
            corners = {"xmin": x, "ymin": y, "xmax": x + width, "ymax": y + height}
            box = "".join(f"<{side}>{value:g}</{side}>" for side, value in corners.items())
            lines.append("\t<object>\n\t\t<part><name>head</name></part>")
            lines.append(f"\t\t<name>{label}</name>\n\t\t<pose>Left</pose><bndbox>{box}</bndbox>\n\t</object>")
        stem = page.name.rpartition(".")[0]
        (place / f"{stem}.xml").write_text("\n".join([*lines, "</annotation>"]), encoding="utf-8")
    return place


def yolo(pages: Sequence[Page], folder: Path) -> Path:
    """Odd blanks, a blank line, no end of the last line."""
    names = [*classes_of(pages), "never"]
    (folder / "labels").mkdir(exist_ok=True)
    (folder / "data.yaml").write_text(f"path: .\nnames: {json.dumps(names)}\n", encoding="utf-8")
    for page in pages:
        lines = []
        for (x, y, width, height), label in zip(page.boxes, page.labels, strict=True):
            middle = (x + width / 2) / page.width, (y + height / 2) / page.height
            sides = f"{middle[0]:.8f} {middle[1]:.8f}  {width / page.width:.8f} {height / page.height:.8f} "
            lines.append(f"{names.index(label)} {sides}")
        stem = page.name.rpartition(".")[0]
        (folder / "labels" / f"{stem}.txt").write_text("\n\n".join(lines), encoding="utf-8")
    return folder
