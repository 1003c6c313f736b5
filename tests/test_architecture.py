"""Imports point down: the layers of the house, read from the source."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import labelclean

PACKAGE = Path(labelclean.__file__).parent
FLOWS = Path(__file__).parent.parent / "flows"

LAYERS: tuple[tuple[str, ...], ...] = (
    ("errors",),
    ("sections", "config_adapt", "config", "labels", "tables", "votes"),
    # layer 2: each may import those to its left
    (
        "distribution",
        "features",
        "threads",
        "gram",
        "neighbour_index",
        "neighbours",
        "probe",
        "top2",
        "noise",
        "clouds",
        "readings",
        "refine",
        "kernel",
        "held_out",
        "space",
        "evidence",
        "views",
        "power",
        "scores",
        "trust",
        "tally",
        "chance",
        "drift",
        "flags",
        "review",
        "promise",
        "decisions",
        "inputs",
        "facets",
        "inspectors",
    ),
    ("gates", "stages", "cleaning", "trial", "advice"),
    (
        "pixels",
        "image_files",
        "images",
        "image_pool",
        "storage",
        "feature_store",
        "runs",
        "arrivals",
        "notify",
        "backbone",
        "lock",
        "ledger",
        "expectations",
        "progress",
        "cluster",
        "extraction",
        "memory",
        "queries",
        "shards",
    ),
    (
        "part_labels",
        "neighbour_lists",
        "vote_targets",
        "shard_samples",
        "passes",
        "part_neighbours",
        "part_votes",
        "learning",
        "run_sums",
        "drift_report",
        "opinions",
        "summary",
        "outputs",
        "part_queue",
        "part_outputs",
        "streaming",
        "report",
        "apply",
        "steps",
        "nightly",
        "adapt",
    ),
    ("exchange", "first_labels", "setup", "dry_run", "poc", "status", "doctor", "cli"),
)
RANK = {name: (layer, place) for layer, names in enumerate(LAYERS) for place, name in enumerate(names)}
HOMES = {
    "prefect": {"flows"},
    "great_expectations": {"expectations"},
    "timm": {"backbone"},
    "PIL": {"images", "pixels"},
    "sqlalchemy": {"ledger"},
    "ray": {"cluster"},
    "faiss": {"neighbour_index"},
    "threadpoolctl": {"threads"},
    "duckdb": {"queries"},
}
PURE = LAYERS[2] + LAYERS[3]
STEPS = (
    "record",
    "plan",
    "expectations",
    "expectations_process",
    "ingest_parts",
    "ingest",
    "extract_parts",
    "extract",
    "judge",
    "run",
    "audit",
    "refine_parts",
    "refine",
)
ADAPT = PACKAGE / "adapt"
ADAPT_PURE = ("schedule", "views", "neighbours", "loss", "measures", "world", "state", "train")
NOT_PURE = {"time", "datetime", "os", "pathlib", "socket", "random", "logging", "subprocess", "requests", "urllib"}


def modules() -> list[Path]:
    return sorted(PACKAGE.glob("*.py"))


def imports(path: Path) -> set[str]:
    """Every module that a file imports at run time, `if TYPE_CHECKING` left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            if node.module == "labelclean":
                found |= {f"labelclean.{alias.name}" for alias in node.names}
    return found


def own(path: Path) -> set[str]:
    return {name.split(".")[1] for name in imports(path) if name.startswith("labelclean.")}


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.stem)
def test_a_module_imports_only_from_lower_layers_or_to_its_left(path: Path) -> None:
    if path.stem.startswith("__"):
        return
    assert path.stem in RANK, f"{path.name} has no layer yet; give it one"
    layer, place = RANK[path.stem]
    for name in own(path):
        other_layer, other_place = RANK[name]
        below = other_layer < layer or (other_layer == layer and other_place < place)
        assert below, f"{path.stem} (layer {layer}) imports {name} (layer {other_layer})"


@pytest.mark.parametrize("path", [*modules(), *sorted(FLOWS.glob("*.py"))], ids=lambda path: path.stem)
def test_each_framework_has_one_home(path: Path) -> None:
    home = "flows" if path.parent == FLOWS else path.stem
    for framework, homes in HOMES.items():
        if any(name.split(".")[0] == framework for name in imports(path)):
            assert home in homes, f"{path.name} imports {framework}, whose home is {homes}"


@pytest.mark.parametrize("name", PURE)
def test_the_pure_layers_touch_no_path_clock_network_or_global_randomness(name: str) -> None:
    path = PACKAGE / f"{name}.py"
    if path.exists():
        assert not {found.split(".")[0] for found in imports(path)} & NOT_PURE
        assert "np.random.seed" not in path.read_text(encoding="utf-8")
        assert "manual_seed" not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ADAPT_PURE)
def test_adaptation_computes_without_path_or_clock_and_imports_from_below_or_its_left(name: str) -> None:
    found = imports(ADAPT / f"{name}.py")
    assert not {one.split(".")[0] for one in found} & NOT_PURE
    lower = {module for layer in LAYERS[:4] for module in layer}
    for one in found:
        if one.startswith("labelclean.adapt."):
            assert one.split(".")[2] in ADAPT_PURE[: ADAPT_PURE.index(name)], f"{name} imports {one}"
        elif one.startswith("labelclean."):
            assert one.split(".")[1] in lower, f"{name} imports {one}"


def test_adaptation_leaves_timm_and_kornia_to_their_homes() -> None:
    for path in ADAPT.glob("*.py"):
        frameworks = {one.split(".")[0] for one in imports(path)}
        assert not frameworks & set(HOMES)
        assert "kornia" not in frameworks or path.stem == "views"


@pytest.mark.parametrize("name", STEPS)
def test_steps_import_from_below_or_their_left(name: str) -> None:
    found = imports(PACKAGE / "steps" / f"{name}.py")
    for one in found:
        if one.startswith("labelclean.steps."):
            assert one.split(".")[2] in STEPS[: STEPS.index(name)], f"{name} imports {one}"
        elif one.startswith("labelclean.") and one != "labelclean.steps":
            assert RANK[one.split(".")[1]] < RANK["steps"], f"{name} imports {one}"


def test_every_step_file_has_its_place() -> None:
    assert {path.stem for path in (PACKAGE / "steps").glob("*.py")} == {*STEPS, "__init__"}


def test_no_file_is_a_drawer() -> None:
    drawers = {"util", "utils", "helper", "helpers", "common", "misc", "base", "core", "manager", "handler", "factory"}
    assert not {path.stem for path in modules()} & (drawers | {"registry"})


def test_the_package_has_no_assert_and_no_print() -> None:
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            assert not isinstance(node, ast.Assert), f"{path.name}:{node.lineno} asserts"
