"""Runs that do not fit on a GPU: pieces of a picture that lies in main memory.

The GPU is the CPU under its name: memory is what a test says, and pieces are computed here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fastnst.errors import InvalidInput
from fastnst.estimate import estimate
from fastnst.ops import extension
from fastnst.ranks import communication
from fastnst.ranks.protocol import Alone
from fastnst.run import (
    footprint,
    identity,
    outcome,
    planning,
    preparation,
    prepare,
    sharing,
)
from fastnst.run.checkpoint import Checkpoints
from fastnst.run.memory import CPU, Need
from fastnst.run.pieces import WHOLE, Plan
from fastnst.run.planning import make_plan
from fastnst.run.run import run
from fastnst.run.sharing import own_device
from fastnst.settings.settings import Settings
from fastnst.strips.geometry import Grid
from helpers.kernels import needs_native
from helpers.pictures import smooth

GPU = torch.device("cuda")
FP32 = Settings(precision="fp32")
STRIPS = 4
CONTENT, STYLE = smooth(48, 200), smooth(61, 87, seed=1)
SHALLOW = {"content_layers": ("relu2_2",), "style_layers": ("relu1_1", "relu2_1")}
FIELDS = {"size": 0, "precision": "fp32", "engine": "torch", "iterations": 6, **SHALLOW}
Memory = Callable[..., None]


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Memory:
    """Says how much is free on the GPU and in main memory, in GB."""

    def say(gpu: float, main: float) -> None:
        found = {"cuda": int(gpu * 1e9), "cpu": int(main * 1e9)}
        for module in ("fastnst.run.available", "fastnst.estimate"):
            monkeypatch.setattr(f"{module}.available", lambda device: found[device.type])

    monkeypatch.setattr(footprint.kernels, "unavailable_reason", lambda device: None)

    return say


@pytest.fixture
def in_strips(monkeypatch: pytest.MonkeyPatch, memory: Memory) -> None:
    """A GPU that has room for a part of the picture, and is the CPU."""
    memory(8, 64)
    create = preparation.create_engine

    def here(*args: Any, device: torch.device, **more: Any) -> Any:
        assert device == GPU
        assert args[1].device == CPU
        return create(*args, device=CPU, **more)

    def grid_within(need: Need, plan: Plan, budget: int) -> Grid:
        return Grid.cut(need.height, need.width, planning.cuts(need.settings, need.device), 64)

    monkeypatch.setattr(preparation, "create_engine", here)
    monkeypatch.setattr(planning, "grid_within", grid_within)
    monkeypatch.setattr(Need, "whole", lambda need: 10**12)
    monkeypatch.setattr(prepare, "choose_device", lambda name: GPU)
    monkeypatch.setattr(identity, "model", lambda device: f"a {device.type}")
    monkeypatch.setattr(outcome, "peak_bytes", lambda device: len(device.type))


# ---------------------------------------------------------------------------------------- plans --


def test_what_fits_on_the_gpu_is_whole(memory: Memory) -> None:
    memory(24, 1)
    assert make_plan(Need(1024, 768, FP32, GPU)) == WHOLE
    assert WHOLE.home(GPU) == GPU


@pytest.mark.parametrize("engine", ["native", "torch"])
def test_what_does_not_fit_is_in_pieces_in_main_memory(memory: Memory, engine: str) -> None:
    memory(8, 64)
    need = Need(8192, 6144, replace(FP32, engine=engine), GPU)
    plan = make_plan(need)
    assert plan.strips > 1
    assert plan.grid is not None
    assert plan.home(GPU) == CPU
    computed = plan.grid.largest[0] * plan.grid.largest[1]
    assert need.in_pieces(plan, computed) <= 0.9 * 8e9
    assert plan.keeps_content


def test_a_limit_is_for_the_gpu(memory: Memory) -> None:
    memory(80, 64)
    need = Need(4096, 3072, FP32, GPU)
    assert make_plan(need) == WHOLE
    few, many = (make_plan(need, limit=gb * 10**9) for gb in (8, 4))
    assert 1 < few.strips < many.strips


def test_the_gpu_has_the_pieces_and_main_memory_the_picture(memory: Memory) -> None:
    """Bytes there do not grow with the picture, and here not with the piece."""
    memory(8, 64)
    small, large = (Need(8192, height, FP32, GPU) for height in (6144, 12288))
    assert small.in_pieces(WHOLE, 10**6) == large.in_pieces(WHOLE, 10**6)
    more = large.beside(WHOLE) - small.beside(WHOLE)
    on_cpu = [replace(need, device=CPU).in_pieces(WHOLE, 10**6) for need in (small, large)]
    assert more == pytest.approx(on_cpu[1] - on_cpu[0])
    assert small.beside(WHOLE) < on_cpu[0]
    for name in ("cpu", "cpu:0"):
        on_cpu = replace(small, device=torch.device(name))
        assert on_cpu.beside(WHOLE) == 0
        assert on_cpu.in_pieces(WHOLE, 10**6) == replace(small, device=CPU).in_pieces(WHOLE, 10**6)


def test_targets_are_made_anew_where_main_memory_is_short(memory: Memory) -> None:
    need = Need(8192, 6144, FP32, GPU)
    between = (need.beside(WHOLE) + need.beside(Plan(keeps_content=False))) / 2
    memory(8, between / 0.9 / 1e9)
    assert not make_plan(need).keeps_content


def test_too_little_main_memory_is_said(memory: Memory) -> None:
    memory(2, 3)
    need = Need(8192, 6144, FP32, GPU)
    said = (
        r"8192×6144 picture needs about .* of main memory beside the GPU's and 2.5 GiB are free; "
    )
    with pytest.raises(
        InvalidInput, match=said + r"use --size (\d+)(?: or less)?, or --scr"
    ) as caught:
        make_plan(need)
    fits = int(str(caught.value).split("--size ")[1].split()[0].rstrip(","))
    assert make_plan(need.at(fits)).strips > 1
    assert fits > 1024  # without the extension pairs take four times as much


def test_a_scratch_folder_makes_up_for_main_memory(memory: Memory, tmp_path: Path) -> None:
    memory(8, 3)
    assert make_plan(Need(8192, 6144, FP32, GPU), scratch=tmp_path).scratch == tmp_path


def test_too_small_a_gpu_is_said(memory: Memory) -> None:
    memory(0.1, 64)
    with pytest.raises(InvalidInput, match=r"needs about .* of memory and .* are free"):
        make_plan(Need(8192, 6144, FP32, GPU))


# ----------------------------------------------------------------------------------------- runs --


def test_a_run_in_pieces_is_that_of_the_cpu(in_strips: None) -> None:
    """Solver, picture and targets are in main memory: the same steps are taken."""
    found = run(CONTENT, STYLE, Settings(**FIELDS))
    assert (found.device, found.strips, found.peak_bytes) == ("cuda", STRIPS, len("cuda"))
    expected = run(CONTENT, STYLE, Settings(**FIELDS, device="cpu"))
    assert [row.total for row in found.history] == [row.total for row in expected.history]
    assert np.array_equal(found.pixels, expected.pixels)


def test_it_is_the_run_in_one_piece_to_rounding(
    in_strips: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = run(CONTENT, STYLE, Settings(**FIELDS))
    monkeypatch.undo()
    whole = run(CONTENT, STYLE, Settings(**FIELDS, device="cpu"))
    assert whole.strips == 1
    totals = [[row.total for row in result.history] for result in (found, whole)]
    assert totals[0] == pytest.approx(totals[1], rel=1e-3)  # 6 steps of float32


def test_it_goes_on_from_a_checkpoint_bit_for_bit(in_strips: None, tmp_path: Path) -> None:
    path = tmp_path / "run.checkpoint"
    whole = run(CONTENT, STYLE, Settings(**FIELDS))
    run(CONTENT, STYLE, Settings(**{**FIELDS, "iterations": 3}), checkpoints=Checkpoints(path, 1))
    resumed = run(CONTENT, STYLE, Settings(**FIELDS), resume=path)
    assert resumed.history == whole.history
    assert np.array_equal(resumed.pixels, whole.pixels)


def test_the_estimate_names_both_memories(in_strips: None) -> None:
    needs = estimate(CONTENT, STYLE, Settings(**FIELDS))
    assert (needs.device, needs.pieces) == ("cuda", STRIPS)
    assert needs.free_bytes == 8 * 10**9
    assert needs.main_bytes > 0


# ---------------------------------------------------------------------------------------- ranks --


class Several(Alone):
    """One of several ranks on a machine, to nobody of which is spoken."""

    def __init__(self, rank: int, ranks: int, local_ranks: int) -> None:
        super().__init__(joined=True)
        self.rank, self.ranks, self.local_ranks = rank, ranks, local_ranks


@pytest.mark.parametrize(
    ("rank", "ranks", "local", "gpus", "expected"),
    [(0, 4, 4, 4, 0), (3, 4, 4, 4, 3), (3, 4, 4, 2, 1), (5, 8, 4, 4, 1), (5, 8, 1, 4, None)],
)
def test_ranks_of_a_machine_take_its_gpus_in_turn(
    rank: int,
    ranks: int,
    local: int,
    gpus: int,
    expected: int | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    speech = Several(rank, ranks, local)
    assert own_device(GPU, speech) == torch.device("cuda", expected)
    assert own_device(CPU, speech) == CPU
    assert own_device(torch.device("cuda", 7), speech) == torch.device("cuda", 7)


@pytest.mark.parametrize(
    ("local", "gpus", "device", "fits"),
    [(4, 4, "auto", True), (4, 1, "cuda", False), (4, 4, "cuda:1", False), (2, 4, "cuda", True)],
)
def test_ranks_with_a_gpu_each_have_all_of_it(
    local: int, gpus: int, device: str, fits: bool, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(communication, "_current", Several(0, local, local))
    monkeypatch.setattr(sharing, "MOST_ON_GPU", 10**6)
    need = Need(4096, 3072, replace(FP32, device=device), torch.device("cuda", 1))
    memory(4, 256)
    if fits:
        assert make_plan(need).grid is not None
        return
    with pytest.raises(InvalidInput, match="a rank of 4 needs about .* of memory on cuda:1"):
        make_plan(need)


def test_a_shared_picture_in_one_piece_lies_on_its_gpu(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The curvature pairs too: more than a piece of a cut picture takes."""
    monkeypatch.setattr(communication, "_current", Several(0, 1, 1))
    need = Need(12000, 180, FP32, GPU)
    memory(need.whole() / 0.9 / 1e9 * 1.01, 64)
    plan = make_plan(need)
    assert plan.grid is not None
    assert plan.grid.is_whole
    memory(need.whole() / 0.9 / 1e9 * 0.99, 64)
    with pytest.raises(InvalidInput, match="a rank of 1 needs about .* of memory on cuda"):
        make_plan(need)


def test_ranks_on_gpus_share_a_picture(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    memory(24, 64)
    monkeypatch.setattr(communication, "_current", Several(1, 2, 2))
    need = Need(4096, 3072, FP32, GPU)
    plan = make_plan(need)
    assert plan.grid is not None
    assert not plan.grid.exchanges
    assert plan.grid.largest[0] * plan.grid.largest[1] <= sharing.MOST_ON_GPU
    memory(24, 0.5)
    with pytest.raises(InvalidInput, match="a rank of 2 needs about .* of main memory for"):
        make_plan(need)
    memory(1, 64)
    with pytest.raises(InvalidInput, match="a rank of 2 needs about .* of memory on cuda for its"):
        make_plan(need)


def test_ranks_that_compute_differently_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    speech = Several(0, 2, 1)
    ways = ["engine native on a GPU", "engine torch on a CPU"]
    monkeypatch.setattr(speech, "gather_objects", lambda own: ways)
    monkeypatch.setattr(communication, "_current", speech)
    said = "rank 1 computes with engine torch on a CPU and rank 0 with engine native on a GPU"
    with pytest.raises(InvalidInput, match=said):
        make_plan(Need(2048, 2048, Settings(engine="torch")))


@needs_native
@pytest.mark.parametrize(
    ("precision", "has", "said"),
    [
        ("fp32", (), "engine native on a CPU, fp32"),
        ("auto", ("int16",), "engine native on a CPU, int16"),
        ("auto", ("bf16",), "engine native on a CPU, mixed, then fp32"),
        ("auto", ("bf16", "int16"), "engine native on a CPU, mixed, then int16"),
    ],
)
def test_ranks_say_in_what_precision_they_compute(
    precision: str, has: tuple[str, ...], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Machines of two kinds would cut the picture in two ways: ``auto`` is of each of them."""
    speech, heard = Several(0, 2, 1), []

    def gather(own: str) -> list[str]:
        heard.append(own)
        return [own, "engine native on a CPU, something else"]

    monkeypatch.setattr(speech, "gather_objects", gather)
    monkeypatch.setattr(communication, "_current", speech)
    monkeypatch.setattr(extension, "bfloat16_is_quicker", lambda: "bf16" in has)
    monkeypatch.setattr(extension, "multiplies_integers", lambda: "int16" in has)
    with pytest.raises(InvalidInput, match=f"something else and rank 0 with {said}: choose"):
        make_plan(Need(2048, 2048, Settings(engine="native", precision=precision)))
    assert heard == [said]
