"""Runs that several ranks share, as the command starts them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fastnst.errors import InvalidInput
from fastnst.ops import extension
from fastnst.ranks import communication
from fastnst.ranks.protocol import Alone
from fastnst.run import planning, sharing
from fastnst.run.checkpoint import load_checkpoint
from fastnst.run.memory import Need
from fastnst.run.pieces import Plan
from fastnst.run.planning import make_plan
from fastnst.run.shareable import unavailable_reason
from fastnst.run.sharing import check_before_start, exchanging_grid, fixed_grid
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
SIZE = (36, 300)
BANDS = 25 if extension.is_available() else 4  # of 12 rows that are exchanged; or of 74 and a halo


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
            assert make_plan(need).grid == exchanging_grid(8400, 12000, DEEP)
        else:
            with pytest.raises(InvalidInput, match=r"a rank of 2 needs about .* for its part"):
                make_plan(need)


@needs_native
@pytest.mark.parametrize("local", [1, 2])
def test_what_would_fit_is_named_where_a_rank_has_too_little_memory(
    local: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    need = Need(12000, 8400, Settings(precision="fp32", iterations=100))
    monkeypatch.setattr(planning.available, "available", lambda _: local * 12 * 10**9)

    def said(machines: int, need: Need = need) -> str:
        speech = Few(1, local * machines)
        speech.local_ranks = local
        monkeypatch.setattr(communication, "_current", speech)
        try:
            make_plan(need)
        except InvalidInput as error:
            return str(error)
        return ""

    message = said(2)
    machines = int(re.search(r"use (\d+) machines or more", message)[1])
    assert f"with {local} rank{'s' if local > 1 else ''} each" in message
    assert "--scratch" in message
    assert said(machines - 1)
    assert not said(machines)
    size = int(re.search(r"--size (\d+) or less", message)[1])
    assert not said(2, need.at(size))
    assert said(2, need.at(size + 1))


@needs_native
@pytest.mark.parametrize(("free", "exchanges"), [(40, True), (2.8, False)])
def test_rows_are_exchanged_where_there_is_memory(
    free: float, exchanges: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of 2048 rows, 2.2 megapixels of features; or one of four bands at a time, 1.5."""
    need = Need(2048, 2048, Settings(precision="fp32", iterations=10))
    monkeypatch.setattr(planning.available, "available", lambda _: int(free * 1e9))
    speech = Few(0, 2)
    speech.local_ranks = 1
    monkeypatch.setattr(communication, "_current", speech)
    plan = make_plan(need)
    assert plan.grid == (exchanging_grid if exchanges else fixed_grid)(2048, 2048, DEEP)
    assert plan.keeps_features is exchanges


def test_all_ranks_choose_the_way_of_the_one_with_the_least_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    need = Need(2048, 2048, Settings(engine="torch", iterations=10))
    speech = Few(0, 2)
    monkeypatch.setattr(communication, "_current", speech)
    monkeypatch.setattr(planning.available, "available", lambda _: 10**12)
    assert make_plan(need).keeps_features
    other = torch.tensor([5 * 10**9])
    monkeypatch.setattr(speech, "collect", lambda own: [own, other])
    assert not make_plan(need).keeps_features


@pytest.mark.parametrize(
    ("height", "bands"),
    [(191, [191]), (192, [96, 96]), (1024, [96] * 9 + [160]), (24600, [192] * 127 + [216])],
)
def test_bands_that_exchange_rows_are_many(height: int, bands: list[int]) -> None:
    grid = exchanging_grid(height, 48, DEEP)
    assert [band.owned_length for band in grid.rows] == bands
    assert grid.exchanges


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
    assert (unavailable_reason(settings) or "").startswith(reason)
    monkeypatch.setattr(communication, "_current", Few(0, 2))
    said = f"2 ranks cannot share this picture: {reason}"
    with pytest.raises(InvalidInput, match=said):
        make_plan(Need(48, 680, settings))
    with pytest.raises(InvalidInput, match=said):
        check_before_start(settings, 2, None)
    monkeypatch.setattr(communication, "_current", Few(0, 1))
    assert make_plan(Need(48, 680, settings)).grid is None  # one rank does what one process does


def test_too_many_ranks_are_refused_before_they_are_started() -> None:
    settings = Settings(device="cpu", precision="fp32", **SHALLOW)
    check_before_start(settings, BANDS, SIZE)
    check_before_start(settings, 99, None)  # nobody knows
    too_many = BANDS + 1
    with pytest.raises(InvalidInput, match=f"{too_many} ranks are .* for {BANDS} ranks at most"):
        check_before_start(settings, too_many, SIZE)


# ----------------------------------------------------------------------------------------- runs --


def picture_of(found: list[Any]) -> np.ndarray:
    """The picture of rank 0, of which the others have their rows."""
    whole: np.ndarray = found[0][1]
    assert np.array_equal(np.concatenate([x[1] for x in found[1:]]), whole[-_rows(found[1:]) :])
    return whole


def _rows(found: list[Any]) -> int:
    return sum(len(x[1]) for x in found)


@pytest.mark.parametrize(
    ("optimizer", "engine"),
    [("lbfgs", "auto"), ("lbfgs", "torch"), ("spectral", "auto"), ("adam", "auto")],
)
def test_any_number_of_ranks_makes_the_same_result(
    as_one_rank: None, optimizer: str, engine: str
) -> None:
    fields = {**FIELDS, "optimizer": optimizer, "engine": engine, "tv_weight": 1.0}
    if optimizer == "spectral":  # as the command has it where nothing else is asked for
        fields["init"] = PRESETS["fast"].init
    one = ranks_work.whole_run(fields, SIZE)
    assert one[3] == (BANDS if engine == "auto" else 4)
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
    assert one[3] == BANDS
    found = on_ranks(2, ranks_work.whole_run, fields, SIZE)
    assert np.array_equal(picture_of(found), one[1])
    assert found[0][0] == one[0]


def test_any_number_of_ranks_goes_on_from_a_checkpoint(as_one_rank: None, tmp_path: Path) -> None:
    one = ranks_work.whole_run(FIELDS, SIZE)
    path = tmp_path / "run.fnst"
    fewer = {**FIELDS, "iterations": 3}
    on_ranks(4, ranks_work.whole_run, fewer, SIZE, path)
    strips = "36×12 pixels, exchanging rows" if extension.is_available() else "36×74 pixels"
    assert load_checkpoint(path).identity.made_from["strips"] == strips
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
    smallest, next_up = (18, (38, 5, 3)) if extension.is_available() else (37, (75, 9, 3))
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
    said = on_ranks(5, ranks_work.whole_run, {**FIELDS, "engine": "torch"}, SIZE)
    assert set(said) == {
        "5 ranks are too many: a picture of 36×300 pixels has 4 bands of rows, for 4 ranks at most"
    }


@needs_native
def test_ranks_that_exchanged_rows_need_the_memory_for_it_again(
    as_one_rank: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.fnst"
    ranks_work.whole_run({**FIELDS, "iterations": 2}, SIZE, path)
    with monkeypatch.context() as patch:
        takes = {True: 2 * 10**18, False: 1}  # bytes, whether rows are exchanged
        patch.setattr(sharing, "_ways", lambda _, grid, *__: [(Plan(), takes[grid.exchanges], 0)])
        patch.setattr(planning.available, "available", lambda _: 10**18)
        said = ranks_work.whole_run(FIELDS, SIZE, None, 50, path)
        assert "not enough memory here: go on with more --ranks" in said
        cut = ranks_work.whole_run(FIELDS, SIZE, tmp_path / "cut.fnst")
        assert cut[3] == 4
    # What began in bands with halos goes on with them, also where there is memory for all features.
    again = ranks_work.whole_run(FIELDS, SIZE, None, 50, tmp_path / "cut.fnst")
    assert np.array_equal(again[1], cut[1])


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
