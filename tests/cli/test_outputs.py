"""No output of a run is an input, another output, or somebody's file of another kind."""

from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path

import pytest
from PIL import Image

from fastnst import cli
from fastnst.cli.outputs import _pictures_on_the_way
from helpers.pictures import smooth

QUICK = ["--size", "32", "--iterations", "2", "-q"]


def fastnst(*arguments: object) -> tuple[int, str]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli.run_app([str(a) for a in arguments])
    return code, " ".join(err.getvalue().split())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, seed in (("c.png", 0), ("s.png", 1), ("m.png", 2)):
        Image.fromarray(smooth(32, 24, seed)).save(tmp_path / name)
    (tmp_path / "soft.png").symlink_to("c.png")
    os.link(tmp_path / "s.png", tmp_path / "hard.png")
    (tmp_path / "notes.toml").write_text("# words that are no settings: \x00")
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'mine'\n")
    (tmp_path / "run.py").write_text("import this\n")
    return tmp_path


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-o", "c.png"], "--output is the same file as the content, c.png"),
        (["-o", "./soft.png"], "--output is the same file as the content, c.png"),
        (["-o", "hard.png"], "--output is the same file as style 1, s.png"),
        (["-o", "m.png", "--content-mask", "m.png"], "the same file as the content mask"),
        (["-o", "m.png", "--style-mask", "m.png"], "the same file as style mask 1"),
        (["-o", "m.png", "--init", "m.png"], "the same file as init"),
        (["-o", "o.png", "--plot", "c.png"], "--plot is the same file as the content"),
        (["-o", "o.png", "--plot", "./o.png"], "--output and --plot are the same file"),
        (["-o", "o.png", "--checkpoint", "c.png"], "--checkpoint is the same file as the content"),
        (["-o", "o.png", "--checkpoint", "run.py"], "run.py exists and is no checkpoint"),
        (["-o", "o.png", "--plot", "notes.pdf"], ""),
        (["-o", "o.png", "--save-config", "c.png"], "is the same file as the content, c.png"),
        (["-o", "o.png", "--save-config", "o.png"], "the same file as the output, o.png, which it"),
        (["-o", "o.png", "--save-config", "run.py"], "run.py exists and is no file of settings"),
        (
            ["-o", "o.png", "--save-config", "notes.toml"],
            "notes.toml exists and is no file",
        ),
        (["-o", "o.png", "--save-config", "pyproject.toml"], "exists and is no file of settings"),
        (["-o", "/dev/null.png/x.png"], "does not exist"),
    ],
)
def test_it_is_refused_before_the_work(folder: Path, arguments: list[str], message: str) -> None:
    if not message:
        (folder / "notes.pdf").write_text("words")
        message = "notes.pdf exists and is no PNG, PDF or SVG file"
    before = contents(folder)
    code, said = fastnst("stylize", "c.png", "s.png", *arguments, *QUICK)
    assert code == 2
    assert message in said
    assert contents(folder) == before


def test_a_film_has_no_side_of_one_pixel(folder: Path) -> None:
    pytest.importorskip("av")
    Image.new("RGB", (64, 1)).save(folder / "thin.png")
    thin = ["stylize", "thin.png", "s.png", "-o", "o.png", *QUICK, "--video", "o.mp4"]
    code, said = fastnst(*thin)
    assert code == 2
    assert "a film has 2 pixels a side at least" in said


def test_pictures_on_the_way_replace_nothing_but_pictures(folder: Path) -> None:
    (folder / "o-00002.png").write_text("words")
    for arguments, message in (
        (["--save-every", "2"], "o-00002.png exists and is no picture"),
        (["--save-every", "2", "--plot", "o-00004.png"], "are the same file"),
        (["--save-every", "2", "--checkpoint", "o-00004.png"], "are the same file"),
    ):
        before = contents(folder)
        code, said = fastnst("stylize", "c.png", "s.png", "-o", "o.png", *arguments, *QUICK)
        assert code == 2
        assert message in said
        assert contents(folder) == before


def test_a_model_replaces_no_picture(folder: Path) -> None:
    (folder / "x.onnx").symlink_to("c.png")
    (folder / "words.onnx").write_text("words")
    before = contents(folder)
    for output, content, message in (
        ("x.onnx", "c.png", "OUTPUT is the same file as the content, c.png"),
        ("x.onnx", "m.png", "x.onnx exists and is no ONNX file"),
        ("words.onnx", "c.png", "words.onnx exists and is no ONNX file"),
    ):
        further = ("--content", content, "--style", "s.png", *QUICK)
        code, said = fastnst("export", output, *further)
        assert code == 2
        assert message in said
    assert contents(folder) == before


def test_a_batch_does_not_take_its_results_as_contents(folder: Path) -> None:
    pictures = folder / "f"
    pictures.mkdir()
    (folder / "c.png").rename(pictures / "c.png")
    for _ in range(2):
        code, said = fastnst("batch", "f", "--style", "s.png", "-o", "f", *QUICK)
        assert code == 0, said
        assert {p.name for p in pictures.glob("*.png")} == {"c.png", "c-s.png"}
    code, said = fastnst(
        "batch", "f", "--style", "s.png", "-o", "f", "--name", "{content}.png", *QUICK
    )
    assert code == 2
    assert "f/c.png is the same file as the picture f/c.png" in said


def test_only_pictures_that_will_be_made_are_on_the_way(tmp_path: Path) -> None:
    for number in (0, 2, 3, 4):
        (tmp_path / f"o-{number:05d}.png").touch()
    found = _pictures_on_the_way(tmp_path / "o.png", 2, [tmp_path / "o-00006.png", None])
    assert {path.name for path in found.values()} == {
        "o-00002.png", "o-00004.png", "o-00006.png",
    }  # fmt: skip


def test_checkpoints_need_a_file(folder: Path) -> None:
    code, said = fastnst("stylize", "c.png", "s.png", "-o", "o.png", "--checkpoint-every", "2")
    assert code == 2
    assert "--checkpoint-every needs a --checkpoint" in said
