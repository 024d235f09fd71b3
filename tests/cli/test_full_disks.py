"""Every output on a disk that fills up during the work: one line each, and nothing is lost."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from fastnst import cli
from helpers.disks import disk, fill
from helpers.films import pan, write_clip
from helpers.pictures import smooth

__all__ = ["disk"]
LAYERS = ("--content-layers", "relu1_1", "--style-layers", "relu1_1", "-q")
QUICK = ("--size", "64", "--iterations", "3", "--engine", "torch", *LAYERS)
FILM = ("--size", "0", "--iterations", "1", "--frame-iterations", "1", *LAYERS)


@pytest.fixture
def place(tmp_path: Path, disk: Path, monkeypatch: Any, random_weights: Any) -> Path:
    """A folder with pictures, beside a full disk that says that it is empty."""
    monkeypatch.setattr("fastnst.run.prepare.load_weights", lambda *_: random_weights)
    for seed, name in enumerate(("c.png", "s.png")):
        Image.fromarray(smooth(64, 48, seed)).save(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1 << 40))
    fill(disk)
    return tmp_path


def fails(capsys: Any, *arguments: str, lines: int = 1) -> tuple[str, str]:
    """What is said and printed by a command that cannot write all that it should."""
    assert cli.run_app(arguments) == 1
    printed = capsys.readouterr()
    assert printed.err.startswith("fastnst: ")
    assert printed.err.count("\n") == lines
    assert "No space left on device" in printed.err
    return printed.err, printed.out


def stylize(capsys: Any, *further: str, lines: int = 1) -> tuple[str, str]:
    return fails(capsys, "stylize", "c.png", "s.png", *QUICK, *further, lines=lines)


def rescued(said: str) -> Path:
    """The file that a message says something was saved as."""
    return Path(said.split("it was saved as ")[1].removesuffix(" instead\n"))


def is_picture(path: Path, size: tuple[int, int] = (64, 48)) -> bool:
    with Image.open(path) as image:
        image.load()
        return image.size == size


def test_the_result(place: Path, disk: Path, capsys: Any) -> None:
    said, _ = stylize(capsys, "-o", str(disk / "o.png"))
    assert is_picture(rescued(said))


@pytest.mark.parametrize("every", [1, 50])
def test_a_checkpoint(place: Path, disk: Path, capsys: Any, every: int) -> None:
    further = ("--checkpoint", str(disk / "k"), "--checkpoint-every", str(every))
    said, out = stylize(capsys, "-o", "o.png", "--optimizer", "lbfgs", "--json", *further)
    assert f"checkpoint {disk / 'k'} could not be written" in said
    assert "the best picture so far is in o.png" in said
    assert is_picture(Path("o.png"))
    assert json.loads(out)["iterations"] == min(every, 3)


def test_a_checkpoint_after_ctrl_c(place: Path, disk: Path, capsys: Any, monkeypatch: Any) -> None:
    from fastnst.cli.interrupts import Interrupts

    def interrupt(self: Interrupts, step: Any = None) -> None:
        if step is not None and step.iteration == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Interrupts, "after_step", interrupt)
    further = ("-o", "o.png", "--optimizer", "lbfgs", "--checkpoint", str(disk / "k"))
    said, _ = stylize(capsys, *further)
    assert "the best picture so far is in o.png" in said
    assert is_picture(Path("o.png"))


def test_a_plot(place: Path, disk: Path, capsys: Any) -> None:
    pytest.importorskip("matplotlib")
    said, out = stylize(capsys, "-o", "o.png", "--json", "--plot", str(disk / "p.svg"))
    assert is_picture(Path("o.png"))
    assert json.loads(out)["output"] == "o.png"
    assert b"<svg" in rescued(said).read_bytes()


def test_a_film_of_the_iterations(place: Path, disk: Path, capsys: Any) -> None:
    pytest.importorskip("av")
    further = ("--json", "--video", str(disk / "v.mp4"))
    said, out = stylize(capsys, "-o", "o.png", *further)
    assert f"video {disk / 'v.mp4'} could not be written" in said
    assert is_picture(Path("o.png"))
    assert json.loads(out)["iterations"] == 3
    assert not (disk / "v.mp4").exists()


def test_pictures_on_the_way(place: Path, disk: Path, capsys: Any) -> None:
    """The one that ended the run, and the result."""
    said, _ = stylize(capsys, "-o", str(disk / "o.png"), "--save-every", "1", lines=2)
    for line in said.splitlines(keepends=True):
        assert is_picture(rescued(line))


def test_settings(place: Path, disk: Path, capsys: Any) -> None:
    stylize(capsys, "-o", "o.png", "--save-config", str(disk / "c.toml"))
    assert not Path("o.png").exists()  # it is said before the work


def test_a_sheet(place: Path, disk: Path, capsys: Any) -> None:
    sheet = ("sheet", "c.png", "s.png", "--vary", "seed=1,2", *QUICK, "-o", str(disk / "o.png"))
    said, _ = fails(capsys, *sheet)
    assert is_picture(rescued(said), Image.open(rescued(said)).size)


def test_a_model(place: Path, disk: Path, capsys: Any) -> None:
    pytest.importorskip("onnx")
    export = ("export", str(disk / "o.onnx"), "--content", "c.png", "--style", "s.png", *QUICK)
    said, _ = fails(capsys, *export)
    assert rescued(said).stat().st_size > 1000


def test_a_film(place: Path, disk: Path, capsys: Any, monkeypatch: Any) -> None:
    """The frames find room, the film does not; later it does."""
    pytest.importorskip("av")
    pytest.importorskip("cv2")
    from fastnst.output import encoder

    write_clip(Path("clip.mp4"), pan(2, 16, 16))
    film = ("video", "clip.mp4", "s.png", "-o", str(disk / "o.mp4"), *FILM)
    fill(disk, leave=64 << 10)
    put = encoder.Encoder.add

    def last_of_all(self: encoder.Encoder, *further: Any) -> None:
        fill(disk)
        put(self, *further)

    with monkeypatch.context() as patched:
        patched.setattr(encoder.Encoder, "add", last_of_all)
        said, _ = fails(capsys, *film)
    assert f"its frames are in {disk / 'o.mp4.frames'}: --resume writes it" in said
    assert not (disk / "o.mp4").exists()
    (disk / "filler").unlink()
    assert cli.run_app([*film, "--resume"]) == 0
    assert (disk / "o.mp4").stat().st_size > 500
    assert not (disk / "o.mp4.frames").exists()


def test_a_frame_of_a_film(place: Path, disk: Path, capsys: Any) -> None:
    pytest.importorskip("cv2")
    pytest.importorskip("av")
    write_clip(Path("clip.mp4"), pan(3, 32, 32))
    film = ("video", "clip.mp4", "s.png", "-o", str(disk / "o"), *FILM)
    fill(disk, leave=48 << 10)
    said, _ = fails(capsys, *film)
    assert "1 frames were made, what there is is in" in said
    assert said.endswith("--resume goes on\n")
    (disk / "filler").unlink()
    assert cli.run_app([*film, "--resume"]) == 0
    assert len(list((disk / "o").glob("*.png"))) == 3
