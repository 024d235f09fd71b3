"""A film from end to end: MP4 and folders, resuming, two machines, passes, disk."""

from __future__ import annotations

import contextlib
import json
import shutil
import tracemalloc
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from fastnst.errors import InvalidInput
from fastnst.images.decode import load_image
from fastnst.images.encode import save_image
from fastnst.video import film as films
from fastnst.video.backwards import from_the_last
from fastnst.video.clip import open_clip
from fastnst.video.flow import Flow, Frame, choose_flow, flo_name, write_flo
from fastnst.video.options import FilmOptions, Selection
from fastnst.video.painter import Painter
from helpers.films import brightening, make, pan, pan_flow, settings, texture, write_clip

pytestmark = pytest.mark.usefixtures("quick")
STYLE = texture(40, 36, seed=7)
QUICK = FilmOptions(frame_iterations=2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return brightening(tmp_path / "frames", 6)


def plan(
    clip: Path,
    output: Path,
    options: FilmOptions = QUICK,
    selection: Selection | None = None,
    backwards: bool = False,
    flow: Flow | None = None,
    **further,
) -> films.Film:
    painter = Painter(STYLE, settings(iterations=3, **further), options, flow or pan_flow())
    chosen = selection or Selection()
    return films.Film(open_clip(str(clip)), painter, output, chosen, backwards)


def pictures(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.png"))}


@pytest.mark.parametrize("backwards", [False, True])
def test_a_killed_film_goes_on_bit_for_bit(folder: Path, tmp_path: Path, backwards: bool) -> None:
    way = {"backwards": backwards, "options": FilmOptions(frame_iterations=2, distances=(1, 2))}
    make(plan(folder, tmp_path / "whole", **way))
    make(plan(folder, tmp_path / "parts", **way), count=2)
    make(plan(folder, tmp_path / "parts", **way), count=3, resume=True)
    assert len(list((tmp_path / "parts").glob("*.safetensors"))) == 2  # no more are needed
    make(plan(folder, tmp_path / "parts", **way), resume=True)
    whole = pictures(tmp_path / "whole")
    assert list(whole) == [f"{k:05d}.png" for k in range(6)]
    assert pictures(tmp_path / "parts") == whole
    make(plan(folder, tmp_path / "parts", **way), resume=True)  # nothing is left to do
    assert pictures(tmp_path / "parts") == whole


def test_a_folder_that_has_a_film_is_left_alone(folder: Path, tmp_path: Path) -> None:
    film = plan(folder, tmp_path / "out")
    make(film)
    films.finish(film)
    with pytest.raises(InvalidInput, match="out has frames of a film: --resume goes on with it"):
        films.check(plan(folder, tmp_path / "out"), resume=False)


def test_backwards_no_more_frames_are_held_than_forwards(tmp_path: Path) -> None:
    """By what NumPy has allocated: a view without a pixel holds all of its frame."""
    size, count = (200, 300, 3), 20
    frames = (Frame(k, Fraction(k, 25), np.full(size, k, np.float32)) for k in range(count))
    tracemalloc.start()
    try:
        found = from_the_last(frames, tmp_path, count)
        first = next(found)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 3 * first.pixels.nbytes
    assert [frame.index for frame in (first, *found)] == list(range(count))[::-1]
    assert (first.time, float(first.pixels.min())) == (Fraction(19, 25), 19.0)


def test_a_disk_without_room_for_frames_that_go_backwards(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    film = plan(folder, tmp_path / "out", backwards=True)
    free = films.disk_needed(film, 40, 32) + 6 * 12 * 40 * 32
    usage = SimpleNamespace(free=free - 1)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    with pytest.raises(InvalidInput, match="the film needs up to .* are free"):
        make(film)
    assert not (tmp_path / "out").exists()
    usage.free += 1
    make(film, count=1)
    usage.free = 6 * 12 * 40 * 32 - 1
    with pytest.raises(InvalidInput, match=r"goes backwards needs 0\.0 GB in .* are free"):
        make(film, resume=True)


def test_backwards_no_frame_but_one_is_decoded_before_the_checks(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(plan(folder, tmp_path / "out", backwards=True), count=1)
    decoded: list[Path] = []

    def load(path: Path) -> np.ndarray:
        decoded.append(path)
        return load_image(path)

    monkeypatch.setattr("fastnst.video.clip.load_image", load)
    with pytest.raises(InvalidInput, match="of another film"):
        make(plan(folder, tmp_path / "out", backwards=True, style_weight=3.0), resume=True)
    assert [path.name for path in decoded] == ["0.png"]


def test_a_clip_that_cannot_be_decoded_leaves_nothing_begun(folder: Path, tmp_path: Path) -> None:
    (folder / "3.png").write_bytes(b"no picture")
    with pytest.raises(InvalidInput, match=r"3\.png"):
        make(plan(folder, tmp_path / "out", backwards=True))
    assert not (tmp_path / "out").exists()


def test_a_film_in_one_file(tmp_path: Path) -> None:
    pytest.importorskip("av")
    times = [0, 0.04, 0.12, 0.16, 0.5]
    clip = write_clip(tmp_path / "clip.mp4", pan(5), times)
    film = plan(clip, tmp_path / "out.mp4")
    make(film, count=3)
    assert films.write(film) == tmp_path / "out.mp4"  # as after Ctrl-C
    assert [float(f.time) for f in open_clip(str(film.output)).frames(Selection())] == times[:3]
    assert film.state.exists
    make(film, resume=True)
    got = list(open_clip(str(film.output)).frames(Selection()))
    assert [float(frame.time) for frame in got] == times
    assert not film.state.folder.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mp4", "out.mp4"]


def test_two_machines_meet_at_a_frame(folder: Path, tmp_path: Path) -> None:
    """One goes back from the frame where the other begins: both make that frame alike."""
    make(plan(folder, tmp_path / "late", selection=Selection(3)))
    make(plan(folder, tmp_path / "early", selection=Selection(0, 4), backwards=True))
    late, early = pictures(tmp_path / "late"), pictures(tmp_path / "early")
    assert list(early) == [f"{k:05d}.png" for k in range(4)]
    assert early["00003.png"] == late["00003.png"]
    before, at = (load_image(tmp_path / "early" / f"0000{k}.png") for k in (2, 3))
    # the pan moves by two pixels: neighbours agree across the seam
    assert np.abs(before[:, 2:] - at[:, :-2]).mean() < 0.02


def test_a_second_pass_goes_on_bit_for_bit(folder: Path, tmp_path: Path) -> None:
    options = FilmOptions(frame_iterations=2, passes=2, band=0.0)
    make(plan(folder, tmp_path / "whole", options, content_weight=100.0))
    make(
        plan(folder, tmp_path / "parts", options, content_weight=100.0), count=8
    )  # two of the second pass
    make(plan(folder, tmp_path / "parts", options, content_weight=100.0), resume=True)
    once = FilmOptions(frame_iterations=2, band=0.0)
    make(plan(folder, tmp_path / "once", once, content_weight=100.0))
    assert pictures(tmp_path / "parts") == pictures(tmp_path / "whole")
    assert pictures(tmp_path / "once").keys() == pictures(tmp_path / "whole").keys()
    assert pictures(tmp_path / "once") != pictures(tmp_path / "whole")


def test_a_film_of_one_line_of_pixels_is_refused_before_the_work(tmp_path: Path) -> None:
    pytest.importorskip("av")
    (tmp_path / "thin").mkdir()
    for k in range(2):
        Image.new("RGB", (40, 1), (k, 90, 9)).save(tmp_path / "thin" / f"{k}.png")
    layers = {"style_layers": ("relu1_1",), "content_layers": ("relu1_1",)}
    thin = plan(tmp_path / "thin", tmp_path / "thin.mp4", **layers)
    with pytest.raises(InvalidInput, match="a film has 2 pixels a side at least"):
        make(thin)
    assert not (tmp_path / "thin.mp4.frames").exists()


def test_a_film_that_cannot_be_is_one_line(folder: Path, tmp_path: Path, monkeypatch) -> None:
    def refused(film: films.Film, resume: bool = False) -> str:
        with pytest.raises(InvalidInput) as raised:
            make(film, resume=resume)
        return str(raised.value)

    assert "expected a name ending in .mp4" in refused(plan(folder, tmp_path / "out.avi"))
    assert "none does not exist" in refused(plan(folder, tmp_path / "none" / "out"))
    assert "leave out --resume" in refused(plan(folder, tmp_path / "out"), resume=True)
    (tmp_path / "file").write_text("x")
    assert "is a file" in refused(plan(folder, tmp_path / "file"))
    make(plan(folder, tmp_path / "out"), count=1)
    assert "--resume goes on" in refused(plan(folder, tmp_path / "out"))
    other = plan(folder, tmp_path / "out", style_weight=3.0)
    assert "style_weight was 10.0 and is 3.0" in refused(other, resume=True)
    longer = plan(folder, tmp_path / "out", FilmOptions(frame_iterations=3))
    assert "frame_iterations was 2 and is 3" in refused(longer, resume=True)
    usage = SimpleNamespace(free=1000)
    monkeypatch.setattr("fastnst.video.film.shutil.disk_usage", lambda _: usage)
    assert "are free: take fewer frames" in refused(plan(folder, tmp_path / "new"))
    assert not (tmp_path / "new").exists()


def test_disk_needs_are_those_of_the_files(folder: Path, tmp_path: Path) -> None:
    film = plan(folder, tmp_path / "out")
    needed = films.disk_needed(film, 40, 32)
    assert needed is not None
    make(film, count=5)
    used = sum(path.stat().st_size for path in (tmp_path / "out").glob("*.[ps]*"))
    assert used < needed < 6 * (100_000 + 24 * 40 * 32)


@pytest.fixture
def shots(tmp_path: Path) -> Path:
    """Two shots of three frames, of other colours."""
    found = tmp_path / "shots"
    found.mkdir()
    for k, pixels in enumerate(pan(6)):
        tint = np.array([1.0, 0.6, 0.3] if k < 3 else [0.3, 0.5, 1.0], np.float32)
        mirrored = pixels if k < 3 else pixels[::-1, ::-1]
        save_image(mirrored * tint * np.float32(0.6 + 0.05 * k), found / f"{k}.png")
    return found


def flow_of_shots(first: Frame, second: Frame) -> Tensor:
    """That of the pan within each shot; nonsense between them, as any flow's would be."""
    if (first.index < 3) == (second.index < 3):
        return pan_flow()(first, second)
    return torch.full((32, 40, 2), 9.0 + 3 * first.index)


@pytest.mark.parametrize("passes", [1, 2])
@pytest.mark.parametrize("color", ["luminance", "match-covariance", "match-histogram"])
def test_a_film_goes_on_in_the_colours_of_its_shot(
    shots: Path, tmp_path: Path, color: str, passes: int
) -> None:
    """Styles that are coloured by the content have those of the shot's first frame."""
    options = FilmOptions(frame_iterations=2, passes=passes, band=0.0)
    way = {"color": color, "options": options, "flow": flow_of_shots}
    make(plan(shots, tmp_path / "whole", **way))
    records = [json.loads(path.read_text()) for path in (tmp_path / "whole").glob("0*.json")]
    assert {record["shot"]["first"] for record in records} == {0, 3}  # the cut was found
    for count in (2, 4, 5) if passes == 1 else (4, 7, 8):
        parts = tmp_path / f"parts {count}"
        make(plan(shots, parts, **way), count=count)
        make(plan(shots, parts, **way), resume=True)
        assert pictures(parts) == pictures(tmp_path / "whole")


def test_a_finished_film_of_two_passes_has_nothing_left_to_do(folder: Path, tmp_path: Path) -> None:
    way = {"options": FilmOptions(frame_iterations=2, passes=2)}
    make(plan(folder, tmp_path / "out", **way))
    before = pictures(tmp_path / "out")
    make(plan(folder, tmp_path / "out", **way), resume=True)
    assert pictures(tmp_path / "out") == before


def test_a_film_that_lacks_a_frame_does_not_go_on(folder: Path, tmp_path: Path) -> None:
    make(plan(folder, tmp_path / "out"), count=4)
    (tmp_path / "out" / "00001.json").unlink()
    before = pictures(tmp_path / "out")
    with pytest.raises(InvalidInput, match="lacks frame 1 and has frames that were made after it"):
        make(plan(folder, tmp_path / "out"), resume=True)
    assert pictures(tmp_path / "out") == before


TWICE = {"options": FilmOptions(frame_iterations=1, passes=2, band=0.0)}


@pytest.mark.parametrize(
    ("way", "count", "end"),
    [({"backwards": True}, 2, 5), (TWICE, 5, 5), (TWICE, 3, 2), (TWICE, 5, 3)],
)
def test_another_end_is_another_film_where_it_decides_what_comes_first(
    folder: Path, tmp_path: Path, way, count: int, end: int
) -> None:
    make(plan(folder, tmp_path / "out", selection=Selection(0, 4), **way), count=count)
    before = pictures(tmp_path / "out")
    with pytest.raises(InvalidInput, match="is of another film"):
        make(plan(folder, tmp_path / "out", selection=Selection(0, end), **way), resume=True)
    assert pictures(tmp_path / "out") == before


def test_a_clip_that_is_cut_short_is_gone_over_again_all_the_same(
    folder: Path, tmp_path: Path
) -> None:
    make(plan(folder, tmp_path / "whole", selection=Selection(0, 3), **TWICE))
    (folder / "3.png").write_bytes(b"no picture")
    with pytest.raises(InvalidInput, match="3.png"):
        make(plan(folder, tmp_path / "out", **TWICE))
    make(plan(folder, tmp_path / "out", selection=Selection(0, 3), **TWICE), resume=True)
    assert pictures(tmp_path / "out") == pictures(tmp_path / "whole")


def test_a_further_pass_goes_on_with_its_engine(folder: Path, tmp_path: Path) -> None:
    make(plan(folder, tmp_path / "out", engine="torch", **TWICE), count=7)
    for record in (tmp_path / "out").glob("0*.json"):
        record.write_text(record.read_text().replace('"engine": "torch"', '"engine": "native"'))
    with pytest.raises(InvalidInput, match="was begun with engine native, not torch"):
        make(plan(folder, tmp_path / "out", engine="torch", **TWICE), resume=True)


@pytest.mark.parametrize("named", [False, True])
def test_a_film_is_made_in_the_folder_that_is_there(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: bool
) -> None:
    """Its own disk counts, not that of the folder around it, and takes what goes backwards."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    measured, usage = [], shutil.disk_usage
    monkeypatch.setattr("shutil.disk_usage", lambda at: measured.append(Path(at)) or usage(at))
    output = Path.cwd() if named else Path()
    film = plan(folder, output, selection=Selection(0, 2), backwards=True)
    with films.claimed(film):
        make(film)
    assert len(pictures(output)) == 2
    assert {at.resolve() for at in measured} == {Path.cwd()}


def test_a_film_goes_on_with_its_engine(folder: Path, tmp_path: Path) -> None:
    make(plan(folder, tmp_path / "out", engine="torch"), count=2)
    record = tmp_path / "out" / "00000.json"
    record.write_text(record.read_text().replace('"engine": "torch"', '"engine": "native"'))
    with pytest.raises(InvalidInput, match="was begun with engine native, not torch"):
        make(plan(folder, tmp_path / "out", engine="torch"), resume=True)
    assert not (tmp_path / "out" / "00002.json").exists()


def test_a_film_in_one_file_begins_at_zero_with_the_sound_of_its_frames(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frames 1, 3 and 5 of 25 a second: times from 0 on, and the sound of the last ones too."""
    pytest.importorskip("av")
    film = plan(folder, tmp_path / "out.mp4", selection=Selection(1, None, 2))
    make(film, count=2)
    asked: list[object] = []
    times: list[tuple[Fraction, Fraction]] = []

    @contextlib.contextmanager
    def encoding(path: Path, rate: Fraction, colours: object, sound: object):
        asked.append((rate, sound))
        yield SimpleNamespace(add=lambda _, *time: times.append(time))

    monkeypatch.setattr(films.video, "encoding", encoding)
    monkeypatch.setattr(type(film.clip), "sound", lambda _, start, end: (start, end))
    films.write(film)  # as after Ctrl-C: up to the frame that was to come
    assert [(begin * 25, end * 25) for begin, end in times] == [(0, 2), (2, 4)]
    assert asked == [(Fraction(25, 2), (Fraction(1, 25), Fraction(5, 25)))]
    times.clear()
    asked.clear()
    make(film, count=1, resume=True)
    films.write(film)
    assert [(begin * 25, end * 25) for begin, end in times] == [(0, 2), (2, 4), (4, 5)]
    assert asked == [(Fraction(25, 2), (Fraction(1, 25), None))]


@pytest.mark.parametrize("changed", ["iterations", "precision", "device"])
def test_a_film_goes_on_as_it_was_asked_for(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    make(plan(folder, tmp_path / "out"), count=2)
    film = plan(folder, tmp_path / "out")
    others = {"iterations": {"iterations": 4}, "precision": {"precision": "fp32"}}
    film.painter.settings = replace(film.painter.settings, **others.get(changed, {}))
    if changed == "device":
        monkeypatch.setattr(films, "model", lambda _: "another processor")
    with pytest.raises(InvalidInput, match=f"{changed} was .* and is "):
        make(film, resume=True)


def test_a_film_goes_on_with_frames_of_its_shot_alone(shots: Path, tmp_path: Path) -> None:
    """Though the flow to the shot before agrees both ways, but for the frames at the cut."""

    def flow(first: Frame, second: Frame) -> Tensor:
        apart = {first.index, second.index}
        crosses = min(apart) < 3 <= max(apart)
        return (
            flow_of_shots(first, second)
            if apart == {2, 3} or not crosses
            else torch.zeros(32, 40, 2)
        )

    way = {"options": QUICK, "flow": flow}
    make(plan(shots, tmp_path / "whole", **way))
    make(plan(shots, tmp_path / "parts", **way), count=4)
    make(plan(shots, tmp_path / "parts", **way), resume=True)
    assert pictures(tmp_path / "parts") == pictures(tmp_path / "whole")


def test_what_a_killed_process_was_writing_is_tidied_away(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("av")
    output = tmp_path / "o.mp4"
    make(plan(folder, output), count=2)
    draft = tmp_path / "o.mp4.frames" / ".00002.png.12.0a1b2c3d.part"
    draft.write_bytes(b"x")
    make(plan(folder, output), resume=True)
    assert not draft.parent.exists()
    draft.parent.mkdir()
    draft.with_name(".film.json.12.0a1b2c3d.part").touch()  # it had not begun yet
    make(plan(folder, output))
    assert not draft.parent.exists()


def test_a_missing_frame_leaves_the_film_that_is_there(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("av")
    output = tmp_path / "o.mp4"
    film = plan(folder, output)
    make(film, count=4)
    films.write(film)
    before = output.read_bytes()
    (tmp_path / "o.mp4.frames" / "00002.png").unlink()
    with pytest.raises(InvalidInput, match=r"00002\.png"):
        films.write(film)
    assert output.read_bytes() == before


def test_a_finished_folder_goes_on_with_a_later_end(folder: Path, tmp_path: Path) -> None:
    make(plan(folder, tmp_path / "whole"))
    make(plan(folder, tmp_path / "parts", selection=Selection(end=3)))
    assert len(pictures(tmp_path / "parts")) == 3
    make(plan(folder, tmp_path / "parts", selection=Selection(end=5)), resume=True)
    make(plan(folder, tmp_path / "parts"), resume=True)
    assert pictures(tmp_path / "parts") == pictures(tmp_path / "whole")
    for name in ("parts", "whole"):  # nothing can follow
        assert not list((tmp_path / name).glob("*.safetensors"))


def test_an_earlier_end_loses_no_frame_of_a_folder(folder: Path, tmp_path: Path) -> None:
    make(plan(folder, tmp_path / "whole"))
    make(plan(folder, tmp_path / "parts"), count=4)
    film = plan(folder, tmp_path / "parts", selection=Selection(end=2))
    make(film, resume=True)
    assert films.left_over(film) == 2
    make(plan(folder, tmp_path / "parts"), resume=True)
    assert pictures(tmp_path / "parts") == pictures(tmp_path / "whole")


def test_a_film_of_other_frames_is_not_written(folder: Path, tmp_path: Path) -> None:
    """Ctrl-C comes while the clip is compared with the one that the frames are of."""
    pytest.importorskip("av")
    output = tmp_path / "o.mp4"
    make(plan(folder, output), count=2)
    other = plan(folder, output, style_weight=3.0)
    with pytest.raises(InvalidInput, match="of another film"):
        make(other, resume=True)
    assert films.write(other) is None
    assert not output.exists()


def test_a_film_goes_on_with_its_flow(folder: Path, tmp_path: Path) -> None:
    """The folder of the flow may be called otherwise, and its files may not be others."""
    still = np.zeros((32, 40, 2), np.float32)
    for name in ("flow", "other"):
        (tmp_path / name).mkdir()
        for k in range(5):
            write_flo(tmp_path / name / flo_name(k, k + 1), still)
            write_flo(tmp_path / name / flo_name(k + 1, k), still)

    def way(name: str) -> dict:
        chosen = str(tmp_path / name)
        options = FilmOptions(frame_iterations=1, flow=chosen)
        return {"options": options, "flow": choose_flow(chosen)}

    make(plan(folder, tmp_path / "out", **way("flow")), count=2)
    (tmp_path / "flow").rename(tmp_path / "renamed")
    make(plan(folder, tmp_path / "out", **way("renamed")), count=1, resume=True)
    make(plan(folder, tmp_path / "out", **way("other")), count=1, resume=True)
    write_flo(tmp_path / "other" / flo_name(4, 5), still + 1)
    with pytest.raises(InvalidInput, match="is of another film: another flow"):
        make(plan(folder, tmp_path / "out", **way("other")), resume=True)


def test_what_there_is_of_a_film_is_counted_over_all_passes(folder: Path, tmp_path: Path) -> None:
    film = plan(folder, tmp_path / "out", FilmOptions(frame_iterations=1, passes=3, band=0.0))
    assert films.made_before(film) == (0, 0)
    for count, made in enumerate(films.make(film), 1):
        assert films.made_before(film) == (count, 1)
        assert made.to_dict()["pass"] == (1 if count <= 6 else 2 if count <= 11 else 3)
    assert count == 6 + 5 + 5  # a further pass leaves its first frame as it is


def test_a_state_without_ends_goes_on(folder: Path, tmp_path: Path) -> None:
    """Of a version that did not write down until when a frame is shown."""
    pytest.importorskip("av")
    film = plan(folder, tmp_path / "o.mp4")
    make(film, count=3)
    for path in film.state.folder.glob("0*.json"):
        record = json.loads(path.read_text())
        del record["exact_until"], record["ends_clip"]
        path.write_text(json.dumps(record))
    films.write(film)
    assert len(list(open_clip(str(film.output)).frames(Selection()))) == 3
