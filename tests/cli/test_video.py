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


class _Bars:
    """Every state of the bar and of the page."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from fastnst.cli.video import _Shown

        self.seen: list[tuple[int, int]] = []
        update = _Shown._update

        def noted(shown, *arguments) -> None:
            update(shown, *arguments)
            task = shown.bar.tasks[0]
            self.seen.append((task.completed, task.total))

        monkeypatch.setattr(_Shown, "_update", noted)


def interrupt_after(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    from fastnst.video import film as films

    make = films.make

    def some(film, resume=False):
        for number, painted in enumerate(make(film, resume), 1):
            yield painted
            if number == count:
                raise KeyboardInterrupt

    monkeypatch.setattr(films, "make", some)


def test_the_bar_counts_what_is_there_and_every_pass(
    clip: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bars = _Bars(monkeypatch)
    further = ("--passes", "2", "--json")
    with monkeypatch.context() as patched:
        interrupt_after(patched, 4)
        assert call(clip, "out", *further) == 130
    assert bars.seen == [(1, 5), (2, 5), (3, 5), (4, 5)]  # a second pass leaves one as it is
    printed = capsys.readouterr()
    assert "3 frames were made" in printed.err
    records = [json.loads(line) for line in printed.out.splitlines()]
    assert [(record["frame"], record["pass"]) for record in records] == [
        (0, 1), (1, 1), (2, 1), (1, 2),
    ]  # fmt: skip
    bars.seen.clear()
    assert call(clip, "out", *further, "--resume") == 0
    assert bars.seen == [(4, 5), (5, 5), (5, 5)]
    assert "1 frames in" in capsys.readouterr().err


def test_frames_beyond_the_end_are_told(clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("av")
    from fastnst.video import film as films

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(films, "write", lambda _: None)
        interrupt_after(patched, 3)
        assert call(clip, "out.mp4") == 130
    capsys.readouterr()
    assert call(clip, "out.mp4", "--resume", "--end", "2") == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "out.mp4.frames keeps a frame from --end 2 on: --resume with a later one" in said
    assert call(clip, "out.mp4", "--resume") == 0
    assert not (clip.parent / "out.mp4.frames").exists()


def test_an_interrupt_before_the_film_is_known_writes_nothing(
    clip: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("av")
    from fastnst.video import film as films

    with monkeypatch.context() as patched:
        interrupt_after(patched, 2)
        assert call(clip, "out.mp4") == 130
    before = (clip.parent / "out.mp4").read_bytes()
    save_image(texture(32, 40, seed=3), clip / "0.png")  # another clip

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(films, "_identity", interrupted)
    monkeypatch.setattr(films, "_encode", interrupted)
    assert call(clip, "out.mp4", "--resume") == 130
    assert "0 frames were made, and no film was written" in " ".join(
        capsys.readouterr().err.split()
    )
    assert (clip.parent / "out.mp4").read_bytes() == before
