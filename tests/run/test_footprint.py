"""What runs are said to take against what they took, each in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fastnst.engines.planned.layout import lay_out
from fastnst.engines.planned.walk import chain_of
from fastnst.network.architecture import VGG19
from fastnst.ops import extension
from fastnst.run import footprint as module
from fastnst.run.footprint import footprint
from fastnst.settings.settings import Settings

CPU = torch.device("cpu")
native = pytest.mark.skipif(not extension.is_available(), reason="no compiled extension")

MEASURE = """
import json, sys, numpy as np
import fastnst
from fastnst.engines import mixed_engine
from fastnst.run import memory
from fastnst.run.prepare import prepare
from fastnst.run.resources import Resources
from fastnst.run.run import run

def status(entry):
    lines = open("/proc/self/status").read().splitlines()
    return next(int(x.split()[1]) * 1024 for x in lines if x.startswith(entry + ":"))

mixed_engine.WINDOW, mixed_engine.PROGRESS = 2, 1.0  # all of a mixed run's stages
width, height, fields, limit = json.loads(sys.argv[1])
generator = np.random.default_rng(0)
content, style = generator.random((height, width, 3)), generator.random((64, 64, 3))
content, style = content.astype(np.float32), style.astype(np.float32)
settings = fastnst.Settings(size=0, iterations=5, history_size=5, style_size=64, **fields)
before, libraries = status("VmRSS"), status("RssFile")
prepared = prepare(content, style, settings, resources=Resources(limit))
pictures = prepared.pictures(prepared.schedule[0])
plan, need = prepared.plan(pictures), prepared.need(pictures)
said = memory.estimate(need, plan)
del prepared, pictures
run(content, style, settings, resources=Resources(limit))
# what a torch with CUDA libraries reads of their files at its first use is not the run's
took = status("VmHWM") - before - (status("RssFile") - libraries)
print(json.dumps([said, took, plan.strips]))
"""


def measured(width: int, height: int, limit: int | None = None, **fields) -> tuple[int, int, int]:
    """Bytes that were said and that were taken, and the number of pieces."""
    asked = json.dumps([width, height, fields, limit])
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, asked], capture_output=True, text=True, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "2"},  # each thread has buffers of its own
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said, took, pieces = json.loads(done.stdout.splitlines()[-1])
    return said, took, pieces


@native
@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc")
@pytest.mark.parametrize(
    ("width", "height", "limit", "precision"),
    [
        (384, 256, None, "auto"),
        (384, 512, None, "auto"),
        # the smallest pieces of a mixed run, with its filters of two kinds, do not fit in that
        (256, 2048, 1100 * 10**6, "fp32"),
    ],
)
def test_a_run_takes_what_was_said(
    width: int, height: int, limit: int | None, precision: str
) -> None:
    said, took, pieces = measured(width, height, limit, engine="native", precision=precision)
    assert (pieces > 1) == (limit is not None)
    assert took == pytest.approx(said, rel=0.15)


def test_features_are_counted_by_their_shapes() -> None:
    """conv1_1 to conv2_1 of a 6×4 picture, with average pooling, by hand."""
    layers = chain_of(VGG19, VGG19.up_to(["relu2_1"]))
    layout = lay_out(layers, {"relu2_1", "conv1_1"}, "average", 6, 4)
    assert layout.slots == {
        "relu1_1": (1, 6, 4, 64),
        "pool1": (1, 3, 2, 64),
        "relu2_1": (1, 3, 2, 128),
    }
    assert layout.positive == {"1_2": (1, 6, 4, 8)}
    assert layout.before == {"conv1_1": (1, 6, 4, 64)}
    features = 6 * 4 * 64 * 2 + 3 * 2 * 64 + 3 * 2 * 128
    assert layout.size(4) == 4 * features + 6 * 4 * 8


@native
@pytest.mark.parametrize("integers", [False, True])
def test_a_mixed_run_has_filters_of_both_kinds(integers: bool, monkeypatch) -> None:
    """conv1_2 and conv2_1: 64 to 64 and to 128 channels, which share nothing; by hand."""
    shallow = {"content_layers": ("relu2_1",), "style_layers": ("relu1_1",), "engine": "native"}

    def filters(side: int, precision: str) -> tuple[float, float]:
        found = footprint(Settings(precision=precision, **shallow), CPU, 0, side, side)
        fixed = module.SCRATCH + module.WEIGHTS
        return found.fixed - fixed, found.fixed_in_pieces - fixed

    monkeypatch.setattr(extension, "multiplies_integers", lambda: integers)
    first, second = 64 * 64, 64 * 128
    half, small, large = 2 * 36, 4 * 36, 4 * 64  # bytes: 16 bits, tiles of 4; float32, of 4 and 6
    assert filters(64, "fp32") == (2 * small * (first + second), 2 * large * (first + second))
    short = (2 * half * (first + second),) * 2
    assert filters(64, "bf16") == filters(64, "int16") == short
    mixed = tuple((n + half) * (first + second) for n in (small, large))
    assert filters(64, "mixed") == (short if integers else mixed)
    if integers:
        return
    deep = [
        footprint(Settings(engine="native", precision=p), CPU, 0, 64, 64) for p in ("fp32", "mixed")
    ]
    # nearly all of VGG-19's filters in 16 bits, in the place of the small ones in float32
    assert 80e6 < deep[1].fixed - deep[0].fixed < 110e6


@native
def test_more_pairs_and_larger_features_take_more() -> None:
    some = footprint(Settings(engine="native"), CPU, 10, 512, 512)
    more = footprint(Settings(engine="native"), CPU, 20, 512, 512)
    assert more.vectors - some.vectors == 65  # ten pairs in eight bits
    assert more.piece == some.piece
    maximum = footprint(Settings(engine="native", pooling="max"), CPU, 10, 512, 512)
    assert maximum.piece > some.piece  # which keeps a bit for each feature before a pooling
    shallow = footprint(Settings(engine="native", content_layers=("relu1_1",)), CPU, 10, 512, 512)
    assert shallow.content > some.content  # for its targets


@native
def test_a_run_on_a_gpu_takes_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Peaks of default runs on an H200, allocated by PyTorch: within 3 %, as they were read."""
    monkeypatch.setattr(module.kernels, "unavailable_reason", lambda device: None)
    for width, height, mebibytes in ((512, 384, 624), (1024, 768, 1940), (2048, 1536, 7199)):
        said = footprint(Settings(), torch.device("cuda", 0), 100, width, height)
        assert said.whole(width * height) == pytest.approx(mebibytes * 2**20, rel=0.03)
    for other in ({"pooling": "l2"}, {"statistics": ("covariance",)}, {"gradient_norm": "l1"}):
        more = footprint(Settings(**other), torch.device("cuda", 0), 100, 512, 384)
        assert more.piece == module.GPU_FEATURES  # nobody has measured those
    assert footprint(Settings(), torch.device("cuda", 0), 100, 512, 384, regions=2).piece > 3000


@native
def test_pairs_on_a_gpu_are_in_eight_bits_where_its_kernels_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gpu = torch.device("cuda", 0)

    def ten_pairs(reason: str | None, **fields: object) -> float:
        monkeypatch.setattr(module.kernels, "unavailable_reason", lambda device: reason)
        some, more = (footprint(Settings(**fields), gpu, n, 512, 512) for n in (10, 20))
        among = module.MATRICES * (module.matrix_bytes(20) - module.matrix_bytes(10))
        return (more.whole(10**6) - some.whole(10**6) - among) / 1e6

    assert ten_pairs(None) == ten_pairs(None, optimizer="spectral") == 65
    assert ten_pairs("fastnst was built without CUDA") == 240
    assert ten_pairs(None, engine="torch") == 240  # the host leads its solver


def test_what_else_a_run_keeps_counts() -> None:
    """Adam has moments and no pairs; an average is two vectors; a region has maps and copies."""
    plain = footprint(Settings(engine="torch"), CPU, 100, 512, 384)
    adam = footprint(Settings(engine="torch", optimizer="adam"), CPU, 100, 512, 384)
    assert adam.vectors == (4 + 1) * module.VECTOR < plain.vectors
    averaged = footprint(Settings(engine="torch", averaging=0.9), CPU, 100, 512, 384)
    assert averaged.temporary - plain.temporary == 2 * module.VECTOR


@native
def test_each_region_takes_a_copy_of_the_features() -> None:
    one, two = (footprint(Settings(engine="native"), CPU, 10, 512, 384, regions=n) for n in (1, 2))
    assert two.copies - one.copies == 4 * 64  # of relu1_1, float32
    assert two.held - one.held == module.MAPS


def test_products_among_many_pairs_count() -> None:
    """Three matrices of 800 MB, and what a step makes of them."""
    few, many = (footprint(Settings(engine="torch"), CPU, n, 512, 384) for n in (100, 10_000))
    assert many.fixed - few.fixed > 3 * 8 * 10_000**2
    assert many.fixed_in_pieces - few.fixed_in_pieces > 3 * 8 * 10_000**2
    assert few.fixed - footprint(Settings(engine="torch"), CPU, 0, 512, 384).fixed < 1e6
    adam = footprint(Settings(engine="torch", optimizer="adam"), CPU, 10_000, 512, 384)
    assert adam.fixed < few.fixed
