"""What measures large pictures does what it measures, on small ones."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

from fastnst.strips.storage import ScratchStore

pytest.importorskip("pyvips")
pytest.importorskip("tifffile")


@pytest.fixture(scope="module")
def tool() -> Any:
    path = Path(__file__).parents[2] / "tools" / "large_pictures.py"
    spec = importlib.util.spec_from_file_location("large_pictures", path)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["large_pictures"] = module
    spec.loader.exec_module(module)
    return module


def test_every_case_runs(tool: Any, tmp_path: Path, capsys: Any) -> None:
    tool.make_files(tmp_path, 1100)
    for case in tool.CASES.values():
        with ScratchStore(tmp_path) as store:
            case(tmp_path, 1100, store)
    assert capsys.readouterr().out.startswith(f"{tmp_path}/cut.jpg cannot be read: ")
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "big.jpg", "big.png", "big.tif", "cut.jpg"
    ]  # fmt: skip


@pytest.mark.skipif(sys.platform != "linux", reason="reads memory from /proc")
def test_a_line_for_each_case(tool: Any, tmp_path: Path, capsys: Any) -> None:
    tool.measure("out8", tmp_path, 600)
    assert capsys.readouterr().out.split()[0] == "out8"
