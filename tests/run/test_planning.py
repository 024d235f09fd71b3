"""How a run is made to fit, and what is said of one that does not."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fastnst import InvalidInput
from fastnst.ops import extension
from fastnst.run import available, planning, refusal
from fastnst.run.available import LIBRARIES
from fastnst.run.memory import Need, estimate
from fastnst.run.pieces import WHOLE
from fastnst.run.planning import SHARE, make_plan
from fastnst.settings.settings import Settings

FP32 = Settings(engine="torch", precision="fp32")
eight_bits = pytest.mark.skipif(
    not extension.is_available(), reason="curvature pairs take four times as much without it"
)


def free(monkeypatch: pytest.MonkeyPatch, size: float) -> None:
    monkeypatch.setattr(available, "available", lambda device: int(size))


def test_what_cannot_be_cut_names_a_size(monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, 2**30)
    it = Need(1024, 768, Settings(engine="onnx"))  # which computes no strips
    with pytest.raises(InvalidInput, match=r"1024×768.*onnx.*use --size (\d+) or less") as caught:
        make_plan(it)
    fits = int(str(caught.value).split("--size ")[1].split()[0].rstrip(","))
    assert make_plan(it.at(fits)) == WHOLE
    assert fits > 256  # and is not much smaller than need be


@pytest.mark.parametrize("field", [{"gradient_norm": "l2"}, {"engine": "onnx"}])
def test_what_cannot_be_cut_says_why(monkeypatch: pytest.MonkeyPatch, field) -> None:
    free(monkeypatch, 4e9)
    with pytest.raises(InvalidInput, match=f"{next(iter(field)).split('_')[0]}.*use --size"):
        make_plan(Need(8192, 6144, Settings(**field)))


def test_a_limit_counts_what_the_process_has_already(monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, 24e9)
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert planning.budget_of(cpu, None) == SHARE * 24 * 10**9
    assert planning.budget_of(cpu, 8 * 10**9) == int(SHARE * (8 * 10**9 - LIBRARIES))
    assert planning.budget_of(gpu, 8 * 10**9) == int(SHARE * 8 * 10**9)  # they are not on a GPU
    with pytest.raises(InvalidInput, match=r"1 MiB of the 191 MiB allowed are left beside PyTorch"):
        make_plan(Need(1024, 768, FP32), 200 * 10**6)


@eight_bits
def test_a_picture_that_does_not_fit_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, 24e9)
    assert make_plan(Need(1024, 768, FP32)) == WHOLE
    it = Need(8192, 6144, FP32)
    plan = make_plan(it)
    assert plan.strips > 1
    assert plan.keeps_content
    assert plan.scratch is None
    assert estimate(it, plan) <= SHARE * 24e9
    less = make_plan(it, limit=16 * 10**9)
    assert plan.grid is not None
    assert less.grid is not None
    assert less.grid.computed_pixels > plan.grid.computed_pixels


@eight_bits
def test_memory_that_gets_less_and_less(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whole; in pieces; with recomputed targets, or with a scratch file; refused."""
    it, seen, mapped = Need(4096, 4096, FP32), [], []
    for gigabytes in (*range(80, 4, -5), *(5 - 0.1 * k for k in range(50))):
        free(monkeypatch, gigabytes * 1e9)
        for ways, scratch in ((seen, None), (mapped, tmp_path)):
            try:
                plan = make_plan(it, scratch=scratch)
            except InvalidInput:
                ways.append("refused")
                continue
            assert estimate(it, plan) <= SHARE * gigabytes * 1e9
            ways.append(
                "whole"
                if plan.grid is None
                else "mapped"
                if plan.scratch is not None
                else "pieces"
                if plan.keeps_content
                else "recomputed"
            )
    assert list(dict.fromkeys(seen)) == ["whole", "pieces", "recomputed", "refused"]
    assert list(dict.fromkeys(mapped)) == ["whole", "pieces", "mapped", "refused"]


@eight_bits
def test_what_does_not_fit_in_strips_names_what_does(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    free(monkeypatch, 8e9)
    it = Need(8192, 6144, replace(FP32, history_size=100))
    with pytest.raises(
        InvalidInput, match=r"--size (\d+)(?: or less)?, or --history-size (\d+), or --scratch"
    ) as caught:
        make_plan(it)
    text = str(caught.value)
    assert "\n" not in text
    make_plan(it.at(int(text.split("--size ")[1].split()[0].rstrip(","))))
    pairs = int(text.split("--history-size ")[1].split(",")[0])
    make_plan(replace(it, settings=replace(FP32, history_size=pairs)))
    assert make_plan(it, scratch=tmp_path).scratch == tmp_path


@eight_bits
def test_where_no_size_fits_none_is_proposed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A style picture is as large as the result, unless the settings say how large it is."""
    free(monkeypatch, 100e6)
    with pytest.raises(InvalidInput, match=r"86 MiB are free; the smallest takes \d+ MiB$"):
        make_plan(Need(2048, 1536, FP32))
    free(monkeypatch, 2e9)
    huge = Need(40000, 30000, FP32, style_pixels=40000 * 30000)
    with pytest.raises(InvalidInput, match=r"use --size (\d{4})(?: or less)?") as caught:
        make_plan(huge)
    side = int(str(caught.value).split("--size ")[1].split()[0].rstrip(","))
    make_plan(huge.at(side))
    assert huge.at(side).style_pixels == side * round(side * 0.75)
    fixed = replace(huge, settings=replace(FP32, style_size=2048))
    assert fixed.at(side).style_pixels == huge.style_pixels


def test_what_a_style_picture_takes_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, 1e9)
    with pytest.raises(InvalidInput, match="style picture of 30.0 megapixels.*--style-size"):
        make_plan(Need(64, 64, Settings(engine="onnx"), style_pixels=30 * 10**6))


@eight_bits
@pytest.mark.parametrize("budget", [2e9, 2.6e9, 3.6e9, 8e9])
def test_the_size_that_is_named_is_the_largest_that_fits(
    monkeypatch: pytest.MonkeyPatch, budget: float
) -> None:
    """Also where a picture has fewer pairs, and so less memory, than a smaller one."""
    free(monkeypatch, budget)
    need = Need(8192, 6144, FP32)

    def fits(side: int) -> bool:
        try:
            make_plan(need.at(side))
        except InvalidInput:
            return False
        return True

    with pytest.raises(InvalidInput) as caught:
        make_plan(need)
    named, said = re.search(r"--size (\d+)( or less)?", str(caught.value)).groups()
    assert fits(int(named))
    # what is proposed keeps a share of the budget free (SAFE)
    assert not any(fits(side) for side in range(int(int(named) * 1.1), 8192, 331))
    if said:
        assert all(fits(side) for side in range(64, int(named), 97))


def test_less_is_not_said_to_fit_where_it_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    need = Need(8192, 6144, FP32)
    small = refusal.sizes_that_fit(need, range(32, 8192), lambda side: side < 1000)
    large = refusal.sizes_that_fit(
        need, range(32, 8192), lambda side: side < 1000 or 2310 <= side < 3000
    )
    every = refusal.sizes_that_fit(need, range(32, 8192), lambda side: side < 3000)
    assert (small, large, every) == (
        ["--size 999 or less"],
        ["--size 2999"],
        ["--size 2999 or less"],
    )
    assert refusal.sizes_that_fit(need, range(32, 8192), lambda _: False) == []
