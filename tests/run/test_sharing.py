"""Runs that several ranks share, as the command starts them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fastnst.errors import InvalidInput
from fastnst.ops import extension
from fastnst.ranks import communication
from fastnst.ranks.protocol import Alone
from fastnst.run import planning
from fastnst.run.checkpoint import load_checkpoint
from fastnst.run.memory import Need
from fastnst.run.planning import make_plan
from fastnst.run.shareable import unavailable_reason
from fastnst.run.sharing import check_before_start, fixed_grid
from fastnst.settings.presets import PRESETS
from fastnst.settings.settings import Settings
from fastnst.strips.geometry import Spacing
from helpers import ranks_work
from helpers.kernels import needs_native
from helpers.ranks import on_ranks

CPU = torch.device("cpu")
DEEP = Spacing(96, 96)
SHALLOW = {"content_layers": ("relu2_2",), "style_layers": ("relu1_1", "relu2_1")}
FIELDS = {"size": 0, "precision": "fp32", "iterations": 6, "history_size": 3, **SHALLOW}
SIZE = (36, 300)  # in four bands of 84, 84, 84 and 48 rows


class Few(Alone):
    """One of several ranks, to nobody of which is spoken."""

    def __init__(self, rank: int, ranks: int) -> None:
        super().__init__(joined=True)
        self.rank, self.ranks, self.local_ranks = rank, ranks, ranks


@pytest.fixture
def as_one_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process was started as the only one of its kind."""
    monkeypatch.setattr(communication, "_current", Alone(joined=True))


# ---------------------------------------------------------------------------------------- plans --


@pytest.mark.parametrize(
    ("height", "bands"),
    [
        (191, [191]),
        (340, [192, 148]),
        (512, [288, 224]),
        (680, [384, 296]),
        (767, [384, 383]),
        (768, [192, 192, 192, 192]),
        (800, [192, 192, 192, 224]),  # a rest is no band of its own
        (1024, [288, 288, 288, 160]),
        (1919, [480, 480, 480, 479]),
        (2048, [576, 576, 576, 320]),
        (4096, [960, 960, 960, 960, 256]),
    ],
)
def test_the_cuts_follow_from_the_size_alone(height: int, bands: list[int]) -> None:
    grid = fixed_grid(height, 48, DEEP)
    assert [band.owned_length for band in grid.rows] == bands
    assert len(grid.columns) == 1


def test_no_piece_is_too_large_for_a_machine() -> None:
    for height, width in ((8192, 16384), (20000, 50000), (700, 100000)):
        grid = fixed_grid(height, width, DEEP)
        assert grid.largest[0] * grid.largest[1] <= 16_000_000


@needs_native  # whose memory is counted; the fallback takes four times as much
def test_each_rank_needs_memory_for_its_part(monkeypatch: pytest.MonkeyPatch) -> None:
    need = Need(12000, 8400, Settings(precision="fp32", iterations=100))
    monkeypatch.setattr(planning.available, "available", lambda _: 40 * 10**9)
    for ranks, machines, fits in ((2, 1, False), (8, 8, True)):
        speech = Few(1, ranks)
        speech.local_ranks = ranks // machines
        monkeypatch.setattr(communication, "_current", speech)
        if fits:
            assert make_plan(need).grid == fixed_grid(8400, 12000, DEEP)
        else:
            with pytest.raises(
                InvalidInput, match=r"rank 1 of 2 needs about .* are free: use more"
            ):
                make_plan(need)


@needs_native
@pytest.mark.parametrize(("free", "keeps"), [(40, True), (2.8, False)])
def test_features_are_kept_where_there_is_memory(
    free: float, keeps: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two of four bands of 576 rows: 1.5 megapixels of features at a time, or 3.7 of both."""
    need = Need(2048, 2048, Settings(precision="fp32", iterations=10))
    monkeypatch.setattr(planning.available, "available", lambda _: int(free * 1e9))
    speech = Few(0, 2)
    speech.local_ranks = 1
    monkeypatch.setattr(communication, "_current", speech)
    plan = make_plan(need)
    assert plan.grid == fixed_grid(2048, 2048, DEEP)
    assert plan.keeps_features is keeps


@pytest.mark.parametrize(
    ("field", "reason"),
    [
        (
            {"optimizer": "torch-lbfgs"},
            "optimizer torch-lbfgs works on the whole picture: choose lbfgs, spectral or adam",
        ),
        ({"engine": "onnx"}, "engine onnx computes no strips"),
        ({"gradient_norm": "l2"}, "gradient_norm l2 needs the whole picture at once"),
    ],
)
def test_what_ranks_cannot_share_is_said_before_the_work(
    field: dict[str, Any], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(**field)
    assert (unavailable_reason(settings, "cpu") or "").startswith(reason)
    monkeypatch.setattr(communication, "_current", Few(0, 2))
    said = f"2 ranks cannot share this picture: {reason}"
    with pytest.raises(InvalidInput, match=said):
        make_plan(Need(48, 680, settings))
    with pytest.raises(InvalidInput, match=said):
        check_before_start(settings, 2, None)
    monkeypatch.setattr(communication, "_current", Few(0, 1))
    assert make_plan(Need(48, 680, settings)).grid is None  # one rank does what one process does


def test_a_gpu_is_refused() -> None:
    reason = unavailable_reason(Settings(), "cuda")
    assert reason == "ranks on cuda are untested and left out: use --device cpu"


def test_too_many_ranks_are_refused_before_they_are_started() -> None:
    settings = Settings(device="cpu", precision="fp32", **SHALLOW)
    check_before_start(settings, 4, SIZE)
    check_before_start(settings, 99, None)  # nobody knows
    with pytest.raises(InvalidInput, match="5 ranks are too many: .* for 4 ranks at most"):
        check_before_start(settings, 5, SIZE)


# ----------------------------------------------------------------------------------------- runs --


def picture_of(found: list[Any]) -> np.ndarray:
    """The picture of rank 0, of which the others have their rows."""
    whole: np.ndarray = found[0][1]
    assert np.array_equal(np.concatenate([x[1] for x in found[1:]]), whole[-_rows(found[1:]) :])
    return whole


def _rows(found: list[Any]) -> int:
    return sum(len(x[1]) for x in found)


@pytest.mark.parametrize("optimizer", ["lbfgs", "spectral", "adam"])
def test_any_number_of_ranks_makes_the_same_result(as_one_rank: None, optimizer: str) -> None:
    fields = {**FIELDS, "optimizer": optimizer, "tv_weight": 1.0}
    if optimizer == "spectral":  # as the command has it where nothing else is asked for
        fields["init"] = PRESETS["fast"].init
    one = ranks_work.whole_run(fields, SIZE)
    assert one[3] == 4
    for ranks in {"lbfgs": (2, 4), "spectral": (2,), "adam": (3,)}[optimizer]:
        found = on_ranks(ranks, ranks_work.whole_run, fields, SIZE)
        assert np.array_equal(picture_of(found), one[1])
        assert all(x[0] == one[0] and x[2:] == one[2:] for x in found)


@pytest.mark.parametrize(
    "fields", [{"content_weight": 0.0, "init": "noise"}, {"style_weight": 0.0}]
)
def test_textures_and_reconstructions_are_shared_too(
    as_one_rank: None, fields: dict[str, Any]
) -> None:
    fields = {**FIELDS, **fields, "iterations": 3}
    one = ranks_work.whole_run(fields, SIZE)
    assert one[3] == 4
    found = on_ranks(2, ranks_work.whole_run, fields, SIZE)
    assert np.array_equal(picture_of(found), one[1])
    assert found[0][0] == one[0]


def test_any_number_of_ranks_goes_on_from_a_checkpoint(as_one_rank: None, tmp_path: Path) -> None:
    one = ranks_work.whole_run(FIELDS, SIZE)
    path = tmp_path / "run.fnst"
    fewer = {**FIELDS, "iterations": 3}
    on_ranks(4, ranks_work.whole_run, fewer, SIZE, path)
    rows = 84 if extension.is_available() else 74  # on Winograd's grid, or on the poolings'
    assert load_checkpoint(path).identity.made_from["strips"] == f"36×{rows} pixels"
    assert sorted(x.name for x in tmp_path.iterdir()) == ["run.fnst", "run.fnst.parts"]
    assert len(list((tmp_path / "run.fnst.parts").iterdir())) == 4
    for ranks in (3,):
        found = on_ranks(ranks, ranks_work.whole_run, FIELDS, SIZE, None, 50, path)
        assert np.array_equal(picture_of(found), one[1])
        assert found[0][0] == one[0]
    communication.use(Alone())  # nor does one process need to be a rank for that
    assert np.array_equal(ranks_work.whole_run(FIELDS, SIZE, None, 50, path)[1], one[1])


def test_scales_with_fewer_bands_than_ranks(as_one_rank: None) -> None:
    """The first of them has one band, or two: each rank computes all of it."""
    smallest, next_up = (75, (150, 18, 3)) if extension.is_available() else (37, (75, 9, 3))
    scales = {"size": 300, "min_size": smallest, "scale_iterations": (3,), "iterations": 4}
    fields = {**FIELDS, **scales}
    one = ranks_work.whole_run(fields, SIZE)
    assert len(one[2]) > 1
    found = on_ranks(3, ranks_work.whole_run, fields, SIZE)
    assert np.array_equal(picture_of(found), one[1])
    assert found[2][0] == one[0]
    # One that is interrupted at the scale that they do not share stops all at one that they do.
    stopped = on_ranks(3, ranks_work.whole_run, fields, SIZE, None, 50, None, (0, 1))
    assert {x[4] for x in stopped} == {one[2][0].iterations}  # at the start of the next scale
    assert stopped[0][1].shape == next_up


def test_an_interrupt_of_one_rank_stops_all_of_them_at_the_same_iteration(
    as_one_rank: None, tmp_path: Path
) -> None:
    one, path = ranks_work.whole_run(FIELDS, SIZE), tmp_path / "run.fnst"
    found = on_ranks(2, ranks_work.whole_run, FIELDS, SIZE, path, 50, None, (1, 2))
    assert [x[4] for x in found] == [3, 3]  # the sums after it tell the other
    assert found[0][1].shape == (300, 36, 3)
    again = on_ranks(2, ranks_work.whole_run, FIELDS, SIZE, path, 50, path)
    assert np.array_equal(picture_of(again), one[1])


def test_too_many_ranks_is_one_line() -> None:
    said = on_ranks(5, ranks_work.whole_run, FIELDS, SIZE)
    assert set(said) == {
        "5 ranks are too many: a picture of 36×300 pixels has 4 bands of rows, for 4 ranks at most"
    }


def test_a_checkpoint_of_a_picture_in_one_piece(tmp_path: Path) -> None:
    path = tmp_path / "run.fnst"
    ranks_work.whole_run({**FIELDS, "iterations": 2}, SIZE, path)
    for said in on_ranks(2, ranks_work.whole_run, FIELDS, SIZE, None, 50, path):
        assert said == "the checkpoint is of a picture in one piece: go on with it without --ranks"


@pytest.mark.parametrize(("victim", "number"), [(0, 0), (0, 1), (1, 0)])
def test_a_disk_that_is_full_ends_every_rank(tmp_path: Path, victim: int, number: int) -> None:
    """Rank 0 writes its part and then the checkpoint, rank 1 its part."""
    work = ranks_work.run_on_a_full_disk
    said = on_ranks(2, work, FIELDS, SIZE, tmp_path / "run.fnst", victim, number)
    assert "could not be written: No space left on device" in said[victim]
    assert f"cannot go on: rank {victim} ended: checkpoint" in said[1 - victim]
    assert "\n" not in said[0] + said[1]


def test_pictures_on_the_way_are_whole(as_one_rank: None) -> None:
    fields = {**FIELDS, "iterations": 2, "color": "original"}
    one, snapshots = ranks_work.pictures_on_the_way(fields, SIZE)
    (found, small), _ = on_ranks(2, ranks_work.pictures_on_the_way, fields, SIZE)
    for pictures, own in zip(found, one, strict=True):
        assert pictures[0].shape == (300, 36, 3)
        assert all(map(np.array_equal, pictures, own))
    assert all(np.array_equal(small[k], picture) for k, picture in snapshots.items())
