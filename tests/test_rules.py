"""Who may import whom. The table of ``python/fastnst`` is ``helpers/rooms.py``."""

from __future__ import annotations

import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from helpers import REPOSITORY
from helpers.imports import graph, imported, modules
from helpers.rooms import ROOMS, allowed

PACKAGE = REPOSITORY / "python" / "fastnst"
FLOORS = 12  # at most, from an error to the command line

pytestmark = pytest.mark.skipif(not PACKAGE.is_dir(), reason="not in a checkout")


def room(module: str) -> str:
    return (*module.split("."), "__init__")[1]


def arrows() -> dict[str, set[str]]:
    """The other rooms that each room imports."""
    found: dict[str, set[str]] = {room(module): set() for module in modules(PACKAGE)}
    for module, targets in graph(PACKAGE).items():
        found[room(module)] |= {room(target) for target in targets} - {room(module)}
    return found


def test_each_room_imports_only_what_it_may() -> None:
    found = [
        f"{module} imports {target}"
        for module, targets in graph(PACKAGE).items()
        for target in sorted(targets)
        if room(target) not in allowed(room(module)) | {room(module)}
    ]
    assert not found, "\n".join(found)


def test_the_table_names_every_room_and_each_stands_on_those_above() -> None:
    there = {p.stem for p in PACKAGE.iterdir() if p.is_dir() or p.suffix in (".py", ".pyi")}
    assert there - {"__pycache__"} == set(ROOMS)
    order = list(ROOMS)
    for name in ROOMS:
        assert allowed(name) <= set(order[: order.index(name)]), name


def test_no_module_imports_itself_in_the_end() -> None:
    TopologicalSorter(graph(PACKAGE)).prepare()  # a CycleError names the circle


def test_the_house_has_few_floors() -> None:
    floor: dict[str, int] = {}
    below = arrows()
    for name in TopologicalSorter(below).static_order():
        floor[name] = 1 + max((floor[target] for target in below[name]), default=0)
    assert max(floor.values()) <= FLOORS, sorted(floor.items(), key=lambda item: item[1])


def test_no_import_goes_unseen(tmp_path: Path) -> None:
    """Those for types only, within functions, relative, of modules and of names."""
    package = tmp_path / "package"
    (package / "sub").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "a.py").write_text("if TYPE_CHECKING:\n    from package.b import Name\n")
    (package / "b.py").write_text("def f():\n    import package.sub.c\n")
    (package / "sub" / "__init__.py").write_text("from .c import x\nfrom .. import a\n")
    (package / "sub" / "c.py").write_text("from package import Other, sub\nimport os\n")
    assert graph(package) == {
        "package": set(),
        "package.a": {"package.b"},
        "package.b": {"package.sub.c"},
        "package.sub": {"package.sub.c", "package.a"},
        "package.sub.c": {"package", "package.sub"},
    }


def test_a_benchmark_suite_imports_no_suite() -> None:
    folder = REPOSITORY / "benchmarks" / "suites"
    for path in folder.glob("*.py"):
        if path.name != "__init__.py":
            suites = {name for name in imported(path) if name.startswith("benchmarks.suites.")}
            assert {name.split(".")[2] for name in suites} <= {"base"}, path


def test_no_test_imports_from_a_test() -> None:
    for path in (REPOSITORY / "tests").rglob("*.py"):
        for name in imported(path):
            parts = name.split(".")
            assert parts[0] != "tests", path
            assert not any(part.startswith("test_") for part in parts[:-1]), f"{path}: {name}"
            assert "conftest" not in parts, path


def test_no_test_is_skipped_for_want_of_a_module_of_ours() -> None:
    """A module that moved would take its tests with it, unseen."""
    for path in (REPOSITORY / "tests").rglob("*.py"):
        text = path.read_text("utf-8")
        ours = re.findall(r"importorskip\(\s*[\"'](fastnst|benchmarks|helpers|tools)", text)
        assert not ours, f"{path}: {ours}"


def test_the_kernels_include_only_each_other_and_standard_headers() -> None:
    folder = REPOSITORY / "csrc" / "cpu" / "kernels"
    for path in folder.iterdir():
        for bracket, name in re.findall(r'#include ([<"])([^>"]+)', path.read_text("utf-8")):
            if bracket == '"':
                assert (folder / name).is_file(), f"{path.name}: {name}"
            else:  # C's headers alone: no template of the C++ library is compiled here
                assert re.fullmatch(r"\w+\.h", name), f"{path.name}: {name}"
