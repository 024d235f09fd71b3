"""Help, listings and refusals come at once: none of them imports torch, numpy or Pillow."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from fastnst.cli import COMMANDS, make_app, run_app

HEAVY = ("torch", "numpy", "PIL", "safetensors", "gradio", "matplotlib")
CASES = [
    (["--help"], 0),
    (["-h"], 0),
    (["--version"], 0),
    (["help"], 0),
    (["help", "stylize"], 0),
    (["help", "stylise"], 2),
    (["presets"], 0),
    (["presets", "--json"], 0),
    (["samples"], 0),
    *(([command, "-h"], 0) for command in
      ("stylize", "texture", "reconstruct", "batch", "sheet", "video", "ui", "export", "info")),
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
    (["stylize", "sample:ink", "sample:swirl", "--ranks", "2", "--optimizer", "torch-lbfgs"], 2),
    (["stylize", "sample:harbour", "sample:swirl", "--config", "no.toml"], 2),
    (["stylize", "sample:harbour", "sample:swirl", "--resume", "no.checkpoint"], 2),
    (["batch", "-o", "out"], 2),
    (["batch", "-o", "out", "--table", "no.csv"], 2),
    (["texture", "no.jpg"], 2),
    (["video", "no.mp4", "sample:swirl", "-o", "out.mp4"], 2),
    (["video", "no.mp4", "sample:swirl"], 2),
    (["reconstruct", "no.jpg"], 2),
    (["sheet", "sample:ink", "sample:swirl", "--vary", "sise=1,2"], 2),
    (["sheet", "sample:ink", "sample:swirl", "--vary", "size=64,a"], 2),
    (["sheet", "sample:ink", "--vary", "style=sample:swirl,no.jpg"], 2),
    (["export", "a.onnx", "--content", "no.jpg"], 2),
    (["export", "a.onnx"], 2),
    (["export", "a.onnx", "--content", "c.png"], 2),
    (["batch", "c.png", "-s", "c.png", "-o", "out", "--name", "{nope}"], 2),
    (["batch", "c.png", "-s", "c.png", "-o", "out", "--name", "{content"], 2),
    (["stylize", "c.png", "sample:swirl", "--content-layers", "relu9_1"], 2),
    (["stylize", "c.png", "sample:swirl", "--style-layers", "relu1_1,conv3_9"], 2),
    (["video", "c.png", "sample:swirl", "-o", "o.xyz"], 2),
    (["video", "c.png", "sample:swirl", "-o", "words.png/frames"], 2),
    (["video", "c.png", "sample:swirl", "-o", "nowhere/frames"], 2),
    (["stylize", "c.png/", "sample:swirl"], 2),
    (["stylize", "c.png", "folder"], 2),
    (["stylize", "-", "-"], 2),
    (["batch", "no.jpg", "-s", "no.jpg", "-o", "out"], 2),
    (["ui", "--init", "no.jpg"], 2),
    *((["stylize", "c.png", "sample:swirl", "-o", "o.png", *further], 2) for further in (
        ["--init", "no.jpg"],
        ["--weights", "no.pth"],
        ["--resume", "folder"],
        ["--checkpoint", "folder"],
        ["--checkpoint", "k", "--checkpoint-every", "0"],
        ["--bits", "12"],
        ["--pyramid"],
        ["--plot", "p.docx"],
        ["--plot", "nowhere/p.svg"],
        ["--video", "v.avi"],
        ["--video", "nowhere/v.mp4"],
    )),
    *((["stylize", "c.png", "sample:swirl", "-o", name], 2) for name in
      ("nowhere/o.png", "o.gif", "-", "c.png", "words.png")),
    (["texture", "c.png", "-o", "nowhere/o.png"], 2),
    (["sheet", "c.png", "sample:swirl", "--vary", "seed=1,2", "-o", "nowhere/o.png"], 2),
]  # fmt: skip
CODE = f"""
import json, sys
from fastnst.cli import run_app

found = []
for arguments in json.loads(sys.argv[1]):
    code = run_app(arguments)
    found.append([arguments, code, [m for m in {HEAVY!r} if m in sys.modules]])
open("found.json", "w").write(json.dumps(found))
"""


def test_nothing_heavy_is_imported(tmp_path: Path) -> None:
    """All in one process: what the first of them imports, all that follow would show."""
    asked = json.dumps([arguments for arguments, _ in CASES])
    (tmp_path / "c.png").write_bytes(b"\x89PNG\r\n\x1a\n, a picture by its first bytes")
    (tmp_path / "words.png").write_bytes(b"no picture")
    (tmp_path / "folder").mkdir()
    before = {*tmp_path.iterdir()}
    done = subprocess.run(
        [sys.executable, "-c", CODE, asked],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "found.json").read_text()) == [
        [arguments, code, []] for arguments, code in CASES
    ]
    assert {*tmp_path.iterdir()} - before == {tmp_path / "found.json"}


def test_the_package_itself_is_light() -> None:
    code = (
        "import sys, fastnst\n"
        "fastnst.Settings(), fastnst.make_settings('fast'), fastnst.InvalidInput, dir(fastnst)\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_package_itself_imports_next_to_nothing() -> None:
    """Until its first line runs, Ctrl-C would end as a traceback of some import."""
    code = (
        "import sys, fastnst; print([m for m in ('importlib.metadata', 'email', 'zipfile')"
        " if m in sys.modules and m not in before])"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; before = set(sys.modules); {code}"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "[]\n"


def test_a_command_is_imported_alone() -> None:
    """The others would take half of the time until a refusal."""
    code = (
        "import sys; from fastnst.cli import COMMANDS, run_app; run_app(['stylize', '--nothing'])\n"
        "modules = {f'fastnst.cli.{place.split(\".\")[0]}' for place in COMMANDS.values()}\n"
        "print(sorted(modules & sys.modules.keys()), 'rich' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "['fastnst.cli.stylize'] False\n"
    assert done.stderr.startswith("fastnst: no such option")


def test_all_commands_are_there_where_none_is_named() -> None:
    found = typer.main.get_command(make_app()).commands  # type: ignore[attr-defined]
    assert list(found) == list(COMMANDS)
    alone = typer.main.get_command(make_app(["batch", "--help"])).commands  # type: ignore[attr-defined]
    assert list(alone) == ["batch"]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["stylise"], "fastnst: no such command 'stylise'"),
        (["--verion"], "fastnst: no such option"),
        (["presets", "a"], "fastnst: got unexpected extra argument"),
        (["stylize"], "fastnst: missing argument"),
    ],
)
def test_bad_usage_is_one_line(
    arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_app(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(line)
    assert err.endswith("--help)\n")
    assert err.count("\n") == 1


def test_a_shell_that_completes_is_told_all_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_FASTNST_COMPLETE", "complete_bash")
    found = typer.main.get_command(make_app(["stylize"])).commands  # type: ignore[attr-defined]
    assert list(found) == list(COMMANDS)
