"""The state on disk: what is finished is finished, and nothing damaged is used."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from fastnst.errors import InvalidInput, OutputFailed
from fastnst.run.identity import Identity
from fastnst.video.film_frame import FilmFrame
from fastnst.video.flow import Frame
from fastnst.video.options import FilmOptions
from fastnst.video.painter import Painter
from fastnst.video.state import FilmState, shot_of
from fastnst.video.stylise import stylise
from helpers.films import pan, pan_flow, settings, texture

pytestmark = pytest.mark.usefixtures("quick")
IDENTITY = Identity({"size": 0}, {"content picture": "0" * 64})


@pytest.fixture
def frames() -> list[FilmFrame]:
    options = FilmOptions(frame_iterations=1)
    painter = Painter(texture(40, 36), settings(iterations=2), options, pan_flow())
    found = [Frame(3 * k, Fraction(k, 7), pixels) for k, pixels in enumerate(pan(3))]
    return list(stylise(found, painter))


@pytest.fixture
def state(tmp_path: Path, frames: list[FilmFrame]) -> FilmState:
    it = FilmState(tmp_path / "a.frames", kept=2)
    it.begin(IDENTITY)
    for frame in frames:
        it.save(frame)
    return it


def test_frames_come_back_bit_for_bit(state: FilmState, frames: list[FilmFrame]) -> None:
    state.check(IDENTITY)
    records = state.records()
    assert [record["frame"] for record in records] == [0, 3, 6]
    assert [Fraction(record["exact_time"]) for record in records] == [
        0,
        Fraction(1, 7),
        Fraction(2, 7),
    ]
    past, shot = state.past(records[-2:]), shot_of(records[-1])
    assert shot == frames[-1].shot == shot_of(records[0])
    for got, expected in zip(past, frames[-2:], strict=True):
        assert torch.equal(got.image, expected.raw)
        np.testing.assert_array_equal(got.frame.pixels, expected.frame.pixels)
        assert (got.frame.index, got.frame.time) == (expected.frame.index, expected.frame.time)
    assert len(list(state.folder.glob("*.safetensors"))) == 2  # no more are needed
    assert len(list(state.folder.glob("*.png"))) == 3
    state.remove()
    assert not state.folder.exists()


def test_another_film_is_refused_by_what_differs(state: FilmState, tmp_path: Path) -> None:
    other = Identity({"size": 64}, {"content picture": "1" * 64})
    with pytest.raises(InvalidInput, match="film: size was 0 and is 64; another content"):
        state.check(other)
    with pytest.raises(InvalidInput, match="no state of a film"):
        FilmState(tmp_path / "none", 2).check(IDENTITY)
    with pytest.raises(InvalidInput, match="is not empty"):
        FilmState(state.folder, 2).begin(IDENTITY)


def test_damage_is_found(state: FilmState) -> None:
    records = state.records()
    for suffix, use in (
        ("png", lambda: state.picture(records[2])),
        ("safetensors", lambda: state.past(records[2:])),
    ):
        path = state.folder / f"00006.{suffix}"
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
        with pytest.raises(InvalidInput, match=rf"\(SHA-256\): remove {state.folder} to begin"):
            use()
        state.kept = None  # all frames have what later ones need
        with pytest.raises(InvalidInput, match=r"is damaged \(SHA-256\): remove 00006.json"):
            use()
        state.kept = 2
        path.unlink()
        with pytest.raises(InvalidInput, match="cannot be read"):
            use()
    (state.folder / "00006.json").write_text("{")
    with pytest.raises(InvalidInput, match="00006.json is damaged"):
        state.records()


def test_a_film_without_a_finished_frame_is_begun_anew(state: FilmState, tmp_path: Path) -> None:
    """A run that ended before its first frame has left its description alone."""
    left = FilmState(tmp_path / "left", 2)
    left.begin(IDENTITY)
    other = Identity({"size": 64}, {"content picture": "1" * 64})
    left.begin(other)
    left.check(other)
    assert not left.has_frames
    assert state.has_frames
    (left.folder / "00000.png").write_bytes(b"somebody's")
    with pytest.raises(InvalidInput, match="is not empty"):
        left.begin(other)
    assert (left.folder / "00000.png").exists()
    (left.folder / "00000.png").unlink()
    for words in ("{}", "[", '{"format": "of my own"}'):
        (left.folder / "film.json").write_text(words)
        with pytest.raises(InvalidInput, match="is not empty"):
            left.begin(other)
        assert (left.folder / "film.json").read_text() == words


def test_a_full_disk_is_told_when_a_frame_is_settled(state: FilmState, monkeypatch) -> None:
    record = state.folder / "00006.json"
    (state.folder / "00006.next").write_bytes(record.read_bytes())

    def full(*_: object) -> None:
        raise OutputFailed("No space left on device")

    monkeypatch.setattr("fastnst.video.state.files.write", full)
    with pytest.raises(OutputFailed, match="No space left"):
        state.records()
    monkeypatch.undo()
    assert len(state.records()) == 3
    assert not (state.folder / "00006.next").exists()


def test_a_frame_without_its_record_is_not_finished(state: FilmState) -> None:
    (state.folder / "00006.json").unlink()  # as after a kill between the files
    assert [record["frame"] for record in state.records()] == [0, 3]


def test_a_record_is_plain(state: FilmState) -> None:
    record = json.loads((state.folder / "00003.json").read_text())
    assert record["pass"] == 1
    assert record["begins_shot"] is False
    assert record["loss"].keys() == {"total", "content", "style", "tv"}
    assert record["reliable"] > 0.8


@pytest.mark.parametrize(
    "change",
    [
        {"frame": "../../x"},
        {"frame": 1e400},
        {"frame": 4},
        {"exact_time": "1/0"},
        {"exact_time": None},
        {"exact_until": "1/0"},
        {"exact_until": []},
        {"pass": "x"},
        {"shot": {"first": "x", "loss": None, "style": []}},
        {"shot": {"first": 0, "loss": float("nan"), "style": 0.0}},
        {"shot": []},
        {"picture_sha256": None},
        {"state_sha256": 5},
    ],
)
def test_a_record_of_wrong_types_is_damaged(state: FilmState, change: dict) -> None:
    path = state.folder / "00003.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(InvalidInput, match=r"00003.json is damaged: remove "):
        state.records()


@pytest.mark.parametrize("data", [b"5", b"null", b"[" * 100_000, b"\xff", b"{}"])
def test_what_is_no_record_is_damaged(state: FilmState, data: bytes) -> None:
    (state.folder / "00003.json").write_bytes(data)
    with pytest.raises(InvalidInput, match=r"00003.json is damaged"):
        state.records()
    (state.folder / "film.json").write_bytes(data)
    with pytest.raises(InvalidInput, match="no state of a film"):
        state.check(IDENTITY)


@pytest.mark.parametrize("wrong", [{"settings": 5}, {"made_from": [1]}, {"format": []}])
def test_a_state_of_wrong_types_is_none(state: FilmState, wrong: dict) -> None:
    path = state.folder / "film.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **wrong}))
    with pytest.raises(InvalidInput, match=r"no state of a film|another version"):
        state.check(IDENTITY)


def test_other_files_in_the_folder_are_somebody_s(
    state: FilmState, frames: list[FilmFrame]
) -> None:
    for name in ("notes.json", "abc.safetensors", "²2.json", "-3.json"):
        (state.folder / name).write_text("{}")
    assert len(state.records()) == 3
    state.save(frames[-1])
    assert (state.folder / "abc.safetensors").exists()
