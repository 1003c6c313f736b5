"""The rooms of the house and what each may import, read from the source.

A room may import the words, its own files and the rooms on the floors below; never a room beside or above it.
"""

from __future__ import annotations

import ast
import graphlib
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "labelclean"
WORDS = {"errors", "arrays", "labels", "sections", "progress", "texts", "cluster"}  # they import nothing above
FLOORS = (
    {"config"},
    {"storage", "probes"},
    {"noise", "features"},
    {"cleaning", "review"},
    {"report", "starting"},
    {"runs"},
    {"nights", "trial", "adapt"},
    {"flows"},  # a door that the command line opens by name
    {"cli"},
)
UPWARD = {("nights.doctor", "flows.schedule")}  # only flows know Prefect: doctor asks there whether a server answers
FRONT_DOOR = ""  # labelclean/__init__.py, whose two functions are imported when they are asked for

HOMES: dict[str, set[str]] = {  # "adapt" is a whole room
    "prefect": {"flows"},
    "great_expectations": {"storage.expectations"},
    "prometheus_client": {"nights.notify"},
    "timm": {"features.backbone"},
    "kornia": {"adapt.views"},
    "PIL": {"features.appearance", "features.decode", "features.pixels"},
    "sqlalchemy": {"review.ledger", "review.ledger_schema"},
    "statsmodels": {"review.kappas"},
    "ray": {"cluster"},
    "faiss": {"probes.index"},
    "threadpoolctl": {"probes.threads"},
    "duckdb": {"storage.queries"},
    "openpyxl": {"starting.excel", "review.label_files"},
    "typer": {"cli"},
    "matplotlib": {"adapt.curves"},
    "defusedxml": {"review.exchange.foreign_file"},
    "pydantic": {"sections", "config", "cleaning.inputs", "trial.first_config", "flows.schedule"},
}
HEAVY = {*HOMES, "torch", "pandas", "pyarrow", "scipy"} - {"typer"}
NOT_PURE = {"time", "datetime", "socket", "random", "logging", "subprocess", "requests", "urllib", "http"}
FILES = {"os", "pathlib", "shutil", "tempfile"}
COMPUTING: dict[str, set[str]] = {  # and what it may not import
    "probes": NOT_PURE | FILES,
    "noise": NOT_PURE | FILES,
    "cleaning": NOT_PURE,  # passes read and leave files
} | {
    f"adapt.{name}": NOT_PURE | FILES
    for name in ("schedule", "views", "neighbours", "loss", "measures", "world", "state", "train")
}
DRAWERS = {
    "util", "utils", "helper", "helpers", "common", "misc", "base", "core", "manager", "handler", "factory", "registry",
}  # fmt: skip


@cache
def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name, without `labelclean`."""
    files = {path.relative_to(PACKAGE): path for path in PACKAGE.rglob("*.py")}
    files |= {Path("flows", path.name): path for path in (ROOT / "flows").glob("*.py")}
    names = {".".join(name.with_suffix("").parts): path for name, path in files.items()}
    return {re.sub(r"(^|\.)__init__$", "", name): path for name, path in sorted(names.items())}


@cache
def tree(name: str) -> ast.Module:
    return ast.parse(modules()[name].read_text(encoding="utf-8"))


def called(function: ast.expr) -> str:
    """The last part of what is called; nothing where that has no name."""
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


@cache
def imported(name: str) -> frozenset[str]:
    """Everything that a module imports when it runs, at its top or later; `if TYPE_CHECKING` left out."""
    typing_only = {
        id(inner)
        for node in ast.walk(tree(name))
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    found: set[str] = set()
    for node in ast.walk(tree(name)):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and called(node.func) == "import_module" and node.args:
            found |= {str(part.value) for part in node.args[:1] if isinstance(part, ast.Constant)}
    return frozenset(found)


@cache
def own(name: str) -> frozenset[str]:
    """The modules of the package that a module imports."""
    found = set()
    for whole in imported(name):
        first, _, inner = whole.partition(".")
        if first == "labelclean":
            found.add(inner if inner in modules() else inner.rpartition(".")[0])
    return frozenset(found)


def room(name: str) -> str:
    return name.partition(".")[0]


def floor(name: str) -> int:
    """0 for words; from 1 on the rooms, from the ground up."""
    if name in WORDS:
        return 0
    return next(number for number, rooms in enumerate(FLOORS, 1) if room(name) in rooms)


def imports_upward(name: str) -> set[str]:
    if name == FRONT_DOOR:
        return set()
    return {
        other
        for other in own(name)
        if (other == FRONT_DOOR or floor(other) >= max(floor(name), 1)) and room(other) != room(name)
    }


def test_every_file_is_a_word_or_stands_in_a_room() -> None:
    rooms = set().union(*FLOORS)
    assert {room(name) for name in modules()} == WORDS | rooms | {FRONT_DOOR}
    assert all(f"{name}.__init__" in modules() or name in modules() for name in rooms)


@pytest.mark.parametrize("name", modules())
def test_a_module_imports_from_below_or_its_own_room(name: str) -> None:
    assert {(name, other) for other in imports_upward(name)} <= UPWARD


def test_each_exception_is_still_one() -> None:
    assert {(name, other) for name in modules() for other in imports_upward(name)} >= UPWARD


def test_no_circle() -> None:
    graphlib.TopologicalSorter({name: own(name) for name in modules() if name != FRONT_DOOR}).prepare()


@pytest.mark.parametrize("framework", HOMES)
def test_each_framework_has_one_home(framework: str) -> None:
    users = {name for name in modules() if any(whole.split(".")[0] == framework for whole in imported(name))}
    assert {name for name in users if name not in HOMES[framework] and room(name) not in HOMES[framework]} == set()
    assert users, f"{framework} is not used: it needs no home"


def test_nothing_heavy_is_imported_before_it_is_used() -> None:
    doors = sorted(set().union(*FLOORS) - {"config", "flows"})
    names = ["labelclean", *(f"labelclean.{name}" for name in doors)]
    program = f"import sys, {', '.join(names)}; print(*sorted({HEAVY!r} & set(sys.modules)))"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert told.stdout.split() == []


@pytest.mark.parametrize("place", COMPUTING)
def test_what_computes_touches_no_clock_network_or_global_randomness(place: str) -> None:
    inside = [name for name in modules() if name == place or name.startswith(f"{place}.")]
    for name in inside:
        assert not {whole.split(".")[0] for whole in imported(name)} & COMPUTING[place], name
        text = modules()[name].read_text(encoding="utf-8")
        assert not re.search(r"np\.random\.seed|(?<!Generator\(\)\.)manual_seed", text) or "fork_rng" in text, name
    assert inside


@pytest.mark.parametrize("name", sorted(set().union(*FLOORS) - {"flows"}))
def test_a_room_names_what_others_use_and_has_its_page(name: str) -> None:
    used = {other for user in modules() for other in own(user) if room(user) != name and room(other) == name}
    doc = ast.get_docstring(tree(name)) or ""
    assert {other for other in used if other != name and f"`{other.removeprefix(name + '.')}`" not in doc} == set()
    assert f"::: labelclean.{name}\n" in (ROOT / "docs" / "rooms" / f"{name}.md").read_text(encoding="utf-8")
    assert f"rooms/{name}.md" in (ROOT / "mkdocs.yml").read_text(encoding="utf-8")


def test_the_tests_mirror_the_rooms() -> None:
    folders = {path.parent.name for path in (ROOT / "tests").glob("*/test_*.py")}
    assert folders - {"benchmarks"} <= set().union(*FLOORS)


def test_no_file_is_a_drawer() -> None:
    assert not {name.rpartition(".")[2] for name in modules()} & DRAWERS


def test_the_package_has_no_assert() -> None:
    for name in modules():
        for node in ast.walk(tree(name)):
            assert not isinstance(node, ast.Assert), f"{name}:{getattr(node, 'lineno', 0)} asserts"


def test_what_the_docstrings_cite_is_the_paper_of_that_number() -> None:
    page = (ROOT / "docs" / "concepts.md").read_text(encoding="utf-8").partition("## References")[2]
    papers = dict(re.findall(r"^(\d+)\. (.*)$", page, flags=re.MULTILINE))
    assert list(papers) == [str(number) for number in range(1, len(papers) + 1)]
    cited = [
        match
        for path in sorted((ROOT / "labelclean").rglob("*.py"))
        for match in re.findall(
            r"([A-Z][\w-]+)(?:,? and \w+|,\s+\w+ and \w+|\s+et al\.)?\s+(\d{4}) \[(\d+)\]",
            path.read_text(encoding="utf-8"),
        )
    ]
    assert len(cited) > 10
    for name, year, number in cited:
        assert name in papers[number]
        assert year in papers[number]
