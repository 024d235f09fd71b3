"""Help, listings and refusals come at once: none of them imports torch, numpy or Pillow."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "numpy", "PIL", "safetensors", "gradio", "matplotlib")
CODE = (
    "import sys\n"
    "from fastnst.cli import run_app\n"
    "code = run_app(sys.argv[1:])\n"
    f"print('CODE', code, [m for m in {HEAVY!r} if m in sys.modules])\n"
)


def last_line(tmp_path: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", CODE, *arguments],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=120,
    )
    assert "Traceback" not in done.stderr
    return done.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--help"], 0),
        (["-h"], 0),
        (["--version"], 0),
        (["presets"], 0),
        (["presets", "--json"], 0),
        (["samples"], 0),
        *(([command, "-h"], 0) for command in
          ("stylize", "texture", "reconstruct", "batch", "ui", "export", "info")),
        ([], 2),
        (["stylise"], 2),
        (["stylize", "a", "b", "--sizee", "3"], 2),
        (["stylize", "a"], 2),
        (["stylize", "no.jpg", "sample:swirl"], 2),
        (["stylize", "sample:harbour", "no.jpg"], 2),
        (["stylize", "sample:harbor", "sample:swirl"], 2),
        (["stylize", "https://example.org/a.jpg", "sample:swirl"], 2),
        (["stylize", "sample:harbour", "sample:swirl", "--size", "-3"], 2),
        (["stylize", "sample:harbour", "sample:swirl", "--preset", "gatsy"], 2),
        (["stylize", "sample:harbour", "sample:swirl", "--config", "no.toml"], 2),
        (["stylize", "sample:harbour", "sample:swirl", "--resume", "no.checkpoint"], 2),
        (["batch", "-o", "out"], 2),
        (["batch", "-o", "out", "--table", "no.csv"], 2),
        (["texture", "no.jpg"], 2),
        (["reconstruct", "no.jpg"], 2),
        (["export", "a.onnx", "--content", "no.jpg"], 2),
    ],
)  # fmt: skip
def test_nothing_heavy_is_imported(tmp_path: Path, arguments: list[str], code: int) -> None:
    assert last_line(tmp_path, *arguments) == f"CODE {code} []"
    assert not list(tmp_path.iterdir())


def test_the_package_itself_is_light() -> None:
    code = (
        "import sys, fastnst\n"
        "fastnst.Settings(), fastnst.make_settings('fast'), fastnst.InvalidInput, dir(fastnst)\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
