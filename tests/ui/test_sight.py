"""What the page shows of a run at each stage."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

gr = pytest.importorskip("gradio")

from fastnst.run.losses import Losses
from fastnst.run.step import Step
from fastnst.ui.outcome import Outcome
from fastnst.ui.picture_wish import PictureWish
from fastnst.ui.sight import NOTHING, PARTS, ROW, Screen, look, show_ended
from fastnst.ui.studio import Job, Studio


@pytest.fixture
def job(wish: PictureWish, tmp_path: Path) -> Job:
    return Job(wish, tmp_path / "run")


@dataclass
class Line:
    """A studio with one run before this one."""

    def place(self, _: Job) -> tuple[int, int]:
        return 1, 1


def skips(value: Any) -> bool:
    return isinstance(value, dict)


def test_a_screen_has_its_parts() -> None:
    with gr.Blocks():
        assert len(Screen().parts) == PARTS


def test_a_run_on_its_way(job: Job) -> None:
    studio: Any = Line()
    before, parts = look(studio, job, NOTHING)
    assert parts[0] == "waiting: 1 before yours, 1 waiting in all"
    assert all(skips(part) for part in look(studio, job, before)[1])  # nothing has changed
    job.state = "running"
    before, parts = look(studio, job, before)
    assert parts[0] == "preparing …"
    job.frames = 3
    losses = Losses(1.0, {}, {}, 0.0)
    job.hear(Step(1, 3, 2, losses, 0.5, torch.zeros(1, 3, 6, 8)))
    before, parts = look(studio, job, before)
    assert parts[0].startswith("0 frames of 3 finished; iteration 1 of 3, loss 1")
    assert '<img id="picture"' in parts[1]
    job.finish_frame(np.zeros((6, 8, 3), np.float32), 2.0)
    before, parts = look(studio, job, before)
    assert parts[0].startswith("1 frame of 3 finished, 2.0 s a frame, ")
    assert parts[ROW].count("<img") == 1
    job.hear(Step(2, 3, 3, losses, 0.7, torch.zeros(1, 3, 6, 8)))
    before, parts = look(studio, job, before)
    assert skips(parts[ROW])  # the row is sent when a frame is added to it
    job.stop()
    assert look(studio, job, before)[1][0].startswith("stopping; ")


def test_how_a_run_ended(job: Job, tmp_path: Path) -> None:
    assert show_ended(job)[0] == "stopped before there was a picture"
    job.error = 'no <b> "memory"'
    said = show_ended(job)[0]
    assert said.startswith('<div class="failed" role="alert">failed: no &lt;b&gt;')
    film = tmp_path / "fastnst.mp4"
    film.write_bytes(b"film")
    job.outcome = Outcome("words; failed: 1 frame", "", "", row="<div>", film=film)
    parts = show_ended(job)
    assert parts.count(str(film)) == 2  # to play and to download
    assert 'class="failed"' in parts[0]
    film.unlink()  # others came after it
    assert show_ended(job).count(None) == 3


def test_a_studio_is_asked_for_the_place(studio: Studio, job: Job) -> None:
    assert look(studio, job, NOTHING)[1][0] == "waiting: 0 before yours, 0 waiting in all"
