"""Runs whose pictures lie in a scratch file, in strips, over scales: those of small pictures."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fastnst.errors import InvalidInput, OutputFailed
from fastnst.images import large
from fastnst.run import checkpoint_tensors
from fastnst.run.available import LIBRARIES
from fastnst.run.checkpoint import Checkpoints, load_checkpoint
from fastnst.run.ending import Interrupted, Unsaved
from fastnst.run.finish import finished
from fastnst.run.losses import Losses
from fastnst.run.memory import Need
from fastnst.run.planning import make_plan
from fastnst.run.preparation import Preparation
from fastnst.run.resources import Resources
from fastnst.run.result import Result
from fastnst.run.run import run
from fastnst.run.step import Step
from fastnst.settings.settings import Settings
from fastnst.strips import scratch
from helpers.pictures import X86_64, smooth

CONTENT, STYLE = smooth(96, 72), smooth(61, 87, seed=1)
SHALLOW = {"content_layers": ("relu2_2",), "style_layers": ("relu1_1", "relu2_1")}
SCALES = {"size": 96, "min_size": 48, "iterations": 3, "scale_iterations": (2,), **SHALLOW}


@pytest.fixture
def in_a_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures of a few pixels are large."""
    monkeypatch.setattr(large, "WHOLE", 100)


def as_files(folder: Path) -> tuple[str, str]:
    Image.fromarray(CONTENT).save(folder / "content.png")
    Image.fromarray(STYLE).save(folder / "style.png")
    return str(folder / "content.png"), str(folder / "style.png")


@pytest.mark.skipif(not X86_64, reason="resampled by rows to a rounding elsewhere")
@pytest.mark.parametrize("color", ["style", "original"])
def test_a_run_from_a_scratch_file_has_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, color: str
) -> None:
    settings = Settings(color=color, init="matched", **SCALES)
    files = as_files(tmp_path)
    plain = run(*files, settings)
    monkeypatch.setattr(large, "WHOLE", 100)
    stored = run(*files, settings, resources=Resources(scratch=tmp_path))
    assert stored.history == plain.history
    assert np.array_equal(stored.pixels, plain.pixels)
    assert sorted(os.listdir(tmp_path)) == ["content.png", "style.png"]  # no scratch file is left


@pytest.mark.parametrize("iteration", [1, 4])
def test_it_goes_on_from_a_checkpoint_bit_for_bit(
    tmp_path: Path, in_a_store: None, iteration: int
) -> None:
    """At either scale, and writing to the checkpoint that it goes on from."""
    settings, path = Settings(init="matched", **SCALES), tmp_path / "run.checkpoint"
    files = as_files(tmp_path)
    with_scratch = Resources(scratch=tmp_path)
    whole = run(*files, settings, resources=with_scratch)

    def stop(step: Step) -> None:
        if step.iteration == iteration:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        run(*files, settings, stop, checkpoints=Checkpoints(path), resources=with_scratch)
    done = len(load_checkpoint(path).scales)
    assert done == (0 if iteration < 3 else 1)
    again = run(
        *files, settings, checkpoints=Checkpoints(path, 1), resume=path, resources=with_scratch
    )
    assert again.history == whole.history
    assert np.array_equal(again.pixels, whole.pixels)
    assert again.scales == whole.scales


@pytest.mark.skipif(not hasattr(os, "link"), reason="needs two names for a file")
def test_a_checkpoint_under_two_names_is_copied_before_it_is_written_over(tmp_path: Path) -> None:
    """It is replaced in place then, while its tensors would be mapped."""
    path = tmp_path / "run.checkpoint"
    run(CONTENT, STYLE, Settings(size=48, iterations=2, **SHALLOW), checkpoints=Checkpoints(path))
    os.link(path, tmp_path / "other")
    image = load_checkpoint(path).solver.tensors["image"]
    before = image.clone()
    path.write_bytes(b"\0" * path.stat().st_size)
    assert torch.equal(image, before)


def test_a_picture_wider_than_a_strip_can_be_is_computed_in_tiles(tmp_path: Path) -> None:
    settings = Settings(size=0, engine="torch", iterations=2, **SHALLOW)
    need = Need(600, 64, settings, source_pixels=600 * 64 + STYLE.shape[0] * STYLE.shape[1])
    limit = LIBRARIES + need.whole()
    while True:  # down to a limit that no row of the whole width meets
        limit -= 1 << 20
        grid = make_plan(need, limit).grid
        if grid is not None and len(grid.columns) > 1:
            break
    content, path = smooth(600, 64), tmp_path / "run.checkpoint"
    whole = run(content, STYLE, settings)
    cut = run(content, STYLE, settings, checkpoints=Checkpoints(path), resources=Resources(limit))
    assert not load_checkpoint(path).identity.made_from["strips"].startswith("600×")
    # Float32 sums in another order; two steps amplify their rounding.
    for a, b in zip(whole.history, cut.history, strict=True):
        assert a.total == pytest.approx(b.total, rel=1e-3)


def test_a_scratch_folder_that_is_too_full_is_said_before_the_work(
    tmp_path: Path, in_a_store: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[Step] = []

    def go(folder: Path = tmp_path) -> None:
        its = Resources(scratch=folder)
        run(CONTENT, STYLE, Settings(**SCALES), steps.append, resources=its)

    with pytest.raises(InvalidInput, match="no such folder does not exist"):
        go(tmp_path / "no such folder")
    free = SimpleNamespace(free=300_000)  # bytes; three pictures of 96×72 pixels take 249 kB
    monkeypatch.setattr(scratch.shutil, "disk_usage", lambda _: free)
    go()
    assert len(steps) == 7
    free.free = 200_000
    with pytest.raises(InvalidInput, match=r"0\.0 GB are free, .*--scratch"):
        go()
    assert len(steps) == 7


@pytest.mark.parametrize("ends", [InvalidInput("too full"), OutputFailed("full"), Interrupted])
def test_the_picture_of_a_scale_outlives_what_keeps_the_next_from_being_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends: Any
) -> None:
    """A scratch disk that somebody else has filled meanwhile, memory that is gone, Ctrl-C."""
    interrupted = ends is Interrupted
    make, path = Preparation.plan, tmp_path / "run.checkpoint"
    settings = Settings(**SCALES)

    def plan(self: Preparation, pictures: Any) -> Any:
        if pictures.content.shape[-1] == settings.size:
            raise KeyboardInterrupt if interrupted else ends
        return make(self, pictures)

    with monkeypatch.context() as patch:
        patch.setattr(Preparation, "plan", plan)
        with pytest.raises(Interrupted if interrupted else Unsaved) as caught:
            run(CONTENT, STYLE, settings, checkpoints=Checkpoints(path, 1))
    result = caught.value.result
    assert interrupted or str(caught.value) == str(ends)
    assert (result.size, result.iterations) == ((48, 36), 3)
    whole = run(CONTENT, STYLE, settings)
    assert result.history == whole.history[: len(result.history)]
    again = run(CONTENT, STYLE, settings, resume=path)
    assert np.array_equal(again.pixels, whole.pixels)


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files as Linux does")
def test_a_disk_that_fills_up_leaves_the_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, path = Settings(size=48, iterations=6, **SHALLOW), tmp_path / "run.checkpoint"
    whole = run(CONTENT, STYLE, settings)
    save, count = checkpoint_tensors.save_file, iter(range(9))

    def full(*given: object) -> None:
        if next(count) == 2:
            raise OSError(28, "No space left on device")
        save(*given)

    monkeypatch.setattr(checkpoint_tensors, "save_file", full)
    with pytest.raises(OutputFailed, match=r"checkpoint .* could not be written: No space left"):
        run(CONTENT, STYLE, settings, checkpoints=Checkpoints(path, 2))
    assert os.listdir(tmp_path) == ["run.checkpoint"]
    assert load_checkpoint(path).solver.numbers["iteration"] == 4
    assert run(CONTENT, STYLE, settings, resume=path).history == whole.history


def test_a_step_is_shown_reduced() -> None:
    image = torch.rand(1, 3, 50, 83)
    colours = torch.rand(1, 3, 50, 83)
    losses = Losses(1.0, {}, {}, 0.0)
    for other in (None, colours):
        step = Step(0, 1, 1, losses, 0.0, image, other)
        assert np.array_equal(step.reduced(83), step.pixels)
        small = step.reduced(30)  # a third: two rows and two columns are left over
        assert small.shape == (16, 27, 3)
        means = [None if x is None else x[..., :48, :81].reshape(1, 3, 16, 3, 27, 3).mean((3, 5))
                 for x in (image, other)]  # fmt: skip
        assert means[0] is not None
        # means in another order: two roundings to float32
        np.testing.assert_allclose(small, finished(means[0], means[1]), rtol=0, atol=3e-7)
    assert Step(0, 1, 1, losses, 0.0, image[..., :2, :]).reduced(10).shape == (1, 41, 3)


def test_the_record_has_the_iterations_of_each_scale(tmp_path: Path) -> None:
    result: Result = run(CONTENT, STYLE, Settings(**SCALES))
    assert [scale["iterations"] for scale in result.to_dict()["scales"]] == [3, 2]
