"""Draws docs/images/concept-*.svg; the numbers in them are computed. Run it from the repository root.

python docs/concept_pictures.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from labelclean.noise.readings import Ambiguity, AuditEvidence, beliefs_of_audit, beliefs_without_eyes

OUT = Path(__file__).parent / "images"
BLUE, ORANGE, GREY, INK = np.array([0, 114, 178]), np.array([213, 94, 0]), "#98a2ad", "#1b222b"


def main() -> None:
    """Write the four pictures."""
    for name, (size, parts) in {
        "label-averaging": label_averaging(),
        "top2": top2(),
        "partial-labels": partial_labels(),
        "readings": readings(),
    }.items():
        head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size[0]} {size[1]}" font-family="sans-serif" font-size="13" fill="{INK}">'
        body = "\n".join([head, f'<rect width="{size[0]}" height="{size[1]}" fill="#fff"/>', *parts, "</svg>\n"])
        (OUT / f"concept-{name}.svg").write_text(body, encoding="utf-8")


def readings() -> tuple[tuple[int, int], list[str]]:
    """How far each reading is believed in five situations, by the functions that a run uses."""
    unclear = Ambiguity(calm=0.28, clouds=0.10, moved=0.13, wrong=0.14)
    before = beliefs_without_eyes(unclear)
    right, wrong = (np.array(one, np.float32)[:, None] for one in ([0.86, 0.84, 0.7, 1.0], [0.1, 0.1, 0.9, 0.0]))
    after = {}
    for num_wrong in (0, 8):
        likelihood = np.repeat(np.hstack([right, wrong]), [30 - num_wrong, num_wrong], axis=1)
        is_wrong = np.arange(30) >= 30 - num_wrong
        given_probs = np.where(is_wrong, 1 - likelihood, likelihood)  # of two classes
        after[num_wrong] = beliefs_of_audit(before, AuditEvidence(likelihood, given_probs, is_wrong, np.ones(30)))
    rows = {
        "clear images, 10 % wrong": beliefs_without_eyes(Ambiguity(0.01, 0.005, 0.01, 0.1)),
        "classes form clouds": beliefs_without_eyes(Ambiguity(0.2, 0.02, 0.01, 0.1)),
        "unclear images": before,
        "... and 30 looks found none wrong": after[0],
        "... and 30 looks found 8 wrong": after[8],
    }
    colours = ("#0072b2", "#56b4e9", "#d55e00", "#98a2ad")
    parts = ['<text x="20" y="24" font-weight="600">how far each reading is believed when labels are changed</text>']
    for row, (name, beliefs) in enumerate(rows.items()):
        y, x = 46 + 32 * row, 262.0
        parts.append(f'<text x="250" y="{y + 15}" text-anchor="end">{name}</text>')
        for weight, colour in zip(beliefs.soft.tolist(), colours, strict=True):
            width = 440 * weight
            parts.append(f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="22" fill="{colour}"/>')
            if weight >= 0.07:
                parts.append(
                    f'<text x="{x + width / 2:.1f}" y="{y + 15}" text-anchor="middle" fill="#fff">{weight:.0%}</text>'
                )
            x += width
    for place, (name, colour) in enumerate(zip(("calm", "clouds", "alone", "as given"), colours, strict=True)):
        left = 262 + 110 * place
        parts.append(f'<rect x="{left}" y="212" width="14" height="14" fill="{colour}"/>')
        parts.append(f'<text x="{left + 20}" y="224">{name}</text>')
    return (740, 240), parts


def label_averaging() -> tuple[tuple[int, int], list[str]]:
    """Two groups of images, two labels wrong; ridge regression of the labels on the features, once and three times."""
    random = np.random.default_rng(3)
    places = np.concatenate([random.normal([-1, 0.3], 0.3, (9, 2)), random.normal([1, -0.3], 0.3, (9, 2))])
    given = np.repeat([1.0, 0.0], 9)
    given[[2, 12]] = 1 - given[[2, 12]]
    rows = places - places.mean(axis=0)
    smoother = rows @ np.linalg.inv(rows.T @ rows + 6 * np.eye(2)) @ rows.T
    parts, scores = [], given
    for panel, title in enumerate(("labels as given", "averaged once", "averaged three times")):
        if panel:
            for _ in range(1 if panel == 1 else 2):
                scores = scores.mean() + smoother @ (scores - scores.mean())
        shown = (scores - scores.min()) / (scores.max() - scores.min())
        left = 20 + panel * 240
        parts.append(f'<text x="{left}" y="24" font-weight="600">{title}</text>')
        for row, (x, y) in enumerate(places):
            colour = BLUE * shown[row] + ORANGE * (1 - shown[row])
            ring = f' stroke="{INK}" stroke-width="2"' if row in (2, 12) else ""
            parts.append(
                f'<circle cx="{left + 105 + 55 * x:.1f}" cy="{115 + 50 * y:.1f}" r="8" fill="rgb({",".join(str(int(v)) for v in colour)})"{ring}/>'
            )
    parts.append(
        '<text x="20" y="222">Ringed: the two wrong labels. Each takes the colour of the images around it.</text>'
    )
    return (740, 236), parts


def top2() -> tuple[tuple[int, int], list[str]]:
    """Class probabilities of one image; the two largest are the pair."""
    probs = {"ok": 0.06, "dent": 0.47, "scratch": 0.36, "stain": 0.07, "pore": 0.04}
    parts = ['<text x="20" y="24" font-weight="600">what the model says of one image, given as "stain"</text>']
    for row, (name, value) in enumerate(probs.items()):
        y, is_pair = 44 + row * 28, name in ("dent", "scratch")
        parts.append(f'<text x="90" y="{y + 14}" text-anchor="end">{name}</text>')
        parts.append(
            f'<rect x="100" y="{y}" width="{600 * value:.0f}" height="18" fill="{"#0072b2" if is_pair else GREY}"/>'
        )
        parts.append(f'<text x="{108 + 600 * value:.0f}" y="{y + 14}">{value:.0%}</text>')
    margin = probs["dent"] - probs["scratch"]
    parts.append(
        f'<text x="20" y="206">Top-2 pair: dent and scratch. Margin between them: {margin:.0%}. "stain" is outside: look at it.</text>'
    )
    return (740, 220), parts


def partial_labels() -> tuple[tuple[int, int], list[str]]:
    """One wrong label as one-hot, two-hot and adaptive target."""
    names, teacher = ("ok", "dent", "scratch", "stain"), np.array([0.02, 0.62, 0.28, 0.08])
    pair = np.array([0, 0.5, 0.5, 0])
    adaptive = np.array([0, teacher[1], 0, teacher[3]]) / (teacher[1] + teacher[3])
    targets = (
        ("one-hot: as given", np.array([0, 0, 0, 1.0])),
        ("two-hot: top two share", pair),
        ("adaptive: given and top one", adaptive),
    )
    parts = []
    for panel, (title, target) in enumerate(targets):
        left = 20 + panel * 245
        parts.append(f'<text x="{left}" y="24" font-weight="600">{title}</text>')
        for k, (name, value) in enumerate(zip(names, target, strict=True)):
            x = left + k * 54
            parts.append(
                f'<rect x="{x}" y="{150 - 100 * value:.0f}" width="40" height="{100 * value:.0f}" fill="#0072b2"/>'
            )
            parts.append(f'<line x1="{x}" y1="150" x2="{x + 40}" y2="150" stroke="{GREY}"/>')
            parts.append(f'<text x="{x + 20}" y="168" text-anchor="middle">{name}</text>')
            if value:
                parts.append(f'<text x="{x + 20}" y="{144 - 100 * value:.0f}" text-anchor="middle">{value:.0%}</text>')
    parts.append(
        '<text x="20" y="204">What the student is taught for one image that was wrongly given as "stain" and shows a dent.</text>'
    )
    return (740, 218), parts


if __name__ == "__main__":
    main()
