"""``fastnst video``: a film, its records, an interrupt, a bad clip."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import pytest

from fastnst.cli import run_app
from fastnst.images.encode import save_image
from helpers.films import LAYERS, pan, quick, texture

__all__ = ["quick"]
pytestmark = pytest.mark.usefixtures("quick")
SETTINGS = [
    *("--size", "0", "--iterations", "3", "--frame-iterations", "1", "--engine", "torch"),
    *("--content-layers", LAYERS["content_layers"][0]),
    *("--style-layers", ",".join(LAYERS["style_layers"])),
]


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    pytest.importorskip("cv2")
    save_image(texture(40, 36, seed=7), tmp_path / "style.png")
    folder = tmp_path / "clip"
    folder.mkdir()
    for k, pixels in enumerate(pan(3)):
        save_image(pixels, folder / f"{k}.png")
    return folder


def call(clip: Path, output: str, *further: str) -> int:
    style, folder = clip.parent / "style.png", clip.parent
    return run_app(
        ["video", str(clip), str(style), "-o", str(folder / output), *SETTINGS, *further]
    )


def test_a_film_and_its_records(clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("av")
    assert call(clip, "out.mp4", "--json") == 0
    printed = capsys.readouterr()
    records = [json.loads(line) for line in printed.out.splitlines()]
    assert [record["frame"] for record in records] == [0, 1, 2]
    assert [record["begins_shot"] for record in records] == [True, False, False]
    assert "40×32, 3 frames in" in printed.err
    assert "s and " in printed.err
    assert (clip.parent / "out.mp4").stat().st_size > 500
    assert not (clip.parent / "out.mp4.frames").exists()


def test_an_interrupt_leaves_the_film_so_far(
    clip: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("av")
    from fastnst.video.painter import Painter

    paint = Painter.paint

    def interrupted(self, frame, past, shot):
        if frame.index == 2:
            raise KeyboardInterrupt
        return paint(self, frame, past, shot)

    with monkeypatch.context() as patched:
        patched.setattr(Painter, "paint", interrupted)
        assert call(clip, "out.mp4") == 130
    assert "2 frames were made, what there is is in" in capsys.readouterr().err.replace("\n", " ")
    assert (clip.parent / "out.mp4").exists()
    assert call(clip, "out.mp4") == 2
    assert "--resume goes on" in capsys.readouterr().err.replace("\n", " ")
    assert call(clip, "out.mp4", "--resume") == 0
    assert "1 frames in" in capsys.readouterr().err


def test_a_bad_frame_leaves_the_film_so_far(clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_image(pan(1, 24, 30)[0], clip / "2.png")
    assert call(clip, "out") == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "changes its size at frame 2, from 40×32 to 30×24" in said
    assert "2 frames were made" in said
    assert len(list((clip.parent / "out").glob("*.png"))) == 2


def test_usage_is_one_line(clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for further, expected in (
        (("--end", "0"), "expected more than --start"),
        (("--rate", "0"), "--rate is 0"),
        (("--flow", "none"), "expected dis or a folder"),
        (("--band", "nan"), "band is nan"),
        (("--engine", "onnx"), "temporal term"),
    ):
        code = call(clip, "out", *further)
        said = capsys.readouterr().err
        if code != 2 and "onnx" in further:
            continue  # the package is not there
        assert code == 2, further
        assert expected in " ".join(said.split()), further


@pytest.mark.parametrize("name", ["x" * 300, "loop", "style.png/x", "~nobody/x"])
def test_names_that_the_system_refuses_are_one_line(
    clip: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(clip.parent)
    Path("loop").symlink_to("loop")
    before = sorted(clip.parent.rglob("*"))
    film = ("video", str(clip), "style.png", *SETTINGS)
    for arguments in (
        ("video", name, "style.png", "-o", "out", *SETTINGS),
        ("video", f"{name}*", "style.png", "-o", "out", *SETTINGS),
        ("video", "", "style.png", "-o", "out", *SETTINGS),
        (*film, "-o", "out", "--flow", name),
        (*film, "-o", name),
    ):
        assert run_app(arguments) == 2, arguments
        said = capsys.readouterr().err
        assert said.startswith("fastnst: ")
        assert said.count("\n") == 1
        assert sorted(clip.parent.rglob("*")) == before, arguments


def test_a_rate_with_a_fraction_is_kept(clip: Path) -> None:
    av = pytest.importorskip("av")
    assert call(clip, "out.mp4", "--rate", "23.976") == 0
    with av.open(str(clip.parent / "out.mp4")) as film:
        first, second, _ = film.decode(video=0)
    assert (second.pts - first.pts) * second.time_base == Fraction(round(90_000 / 23.976), 90_000)
