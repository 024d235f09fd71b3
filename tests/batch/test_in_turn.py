"""Many pictures in one process: what is made, what is skipped, what is kept."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
from PIL import Image

import fastnst
from fastnst.batch import in_turn
from fastnst.batch.in_turn import run_batch
from fastnst.batch.journal import JOURNAL, journal_size
from fastnst.cache import LIMITS, Cache
from fastnst.claims import claim
from fastnst.engines.planned import cpu
from fastnst.objective import build
from fastnst.run import prepare
from fastnst.run.run import run
from helpers.batches import SMALL, jobs_of, statuses
from helpers.pictures import smooth


def test_every_pair_is_what_a_single_run_makes(pictures: Path) -> None:
    jobs = jobs_of(pictures)
    names = [job.output.name for job in jobs]
    assert names == ["one-a.png", "one-b.png", "two-a.png", "two-b.png"]
    outcomes = list(run_batch(jobs, pictures / "out"))
    assert statuses(outcomes) == ["done"] * 4
    for outcome in outcomes:
        job = outcome.job
        alone = fastnst.stylize(job.content, job.style, **job.settings.to_dict())
        with Image.open(job.output) as image:
            assert np.array_equal(np.asarray(image), np.asarray(alone.image))
        assert outcome.loss == alone.losses.total


def test_network_filters_and_styles_are_kept(pictures: Path, monkeypatch) -> None:
    calls = {"load": 0, "arrange": 0, "styles": 0}

    def counting(module, name: str, key: str) -> None:
        real = getattr(module, name)

        def call(*args, **kwargs):
            calls[key] += 1
            return real(*args, **kwargs)

        monkeypatch.setattr(module, name, call)

    counting(prepare, "load_weights", "load")
    counting(cpu, "_arrange_filters", "arrange")
    counting(build, "describe", "styles")
    list(run_batch(jobs_of(pictures), pictures / "out"))
    assert calls["load"] == 1
    if cpu.extension.is_available():
        assert calls["arrange"] == 1
    assert calls["styles"] == 4  # two layers each of a and b, once


def test_only_the_last_few_are_kept() -> None:
    cache = Cache()
    made = []

    def make(key: int):
        return cache.get("style targets", key, lambda: made.append(key) or key)

    limit = LIMITS["style targets"]
    for key in (*range(limit), 0, limit, 0, 1):  # 1 is the oldest when one more comes
        assert make(key) == key
    assert made == [*range(limit + 1), 1]


def test_a_style_that_changes_is_read_again(pictures: Path) -> None:
    cache = Cache()
    style = pictures / "s" / "a.png"
    first = run(smooth(40, 36), str(style), SMALL, cache=cache).losses.total
    Image.fromarray(smooth(40, 36, 8)).save(style)
    os.utime(style, ns=(1, 1))
    second = run(smooth(40, 36), str(style), SMALL, cache=cache).losses.total
    assert first != second
    assert second == run(smooth(40, 36), str(style), SMALL).losses.total
    array = smooth(40, 36, 3).copy()
    before = run(smooth(40, 36), array, SMALL, cache=cache).losses.total
    array[:] = smooth(40, 36, 4)
    assert run(smooth(40, 36), array, SMALL, cache=cache).losses.total != before


def test_other_settings_do_not_get_what_was_kept_for_these(pictures: Path) -> None:
    cache = Cache()
    content, style = smooth(40, 36), str(pictures / "s" / "a.png")
    base = SMALL.to_dict()
    for change in (
        {}, {"pooling": "max"}, {"weights": "vgg19"}, {"style_layers": ("relu1_1",)},
        {"style_layers": ("relu2_1", "relu1_1")}, {"engine": "torch"}, {"style_fit": "content"},
        {"size": 36}, {"style_weight": 0.0}, {"content_weight": 0.0},
        {"engine": "torch", "precision": "bf16"}, {"engine": "torch"}, {},
    ):  # fmt: skip
        settings = fastnst.make_settings("gatys", {**base, **change})
        warm = run(content, style, settings, cache=cache)
        assert warm.history == run(content, style, settings).history, change


def test_what_another_batch_has_claimed_waits_and_what_it_made_is_passed_over(
    pictures: Path, monkeypatch
) -> None:
    jobs, out = jobs_of(pictures)[:3], pictures / "out"
    first, second = claim(jobs[0].output), claim(jobs[1].output)
    assert first.__enter__()
    assert second.__enter__()
    since = journal_size(out)

    def sleep(_: float) -> None:  # meanwhile the other batch makes one picture, and dies
        first.__exit__(None, None, None)
        assert statuses(run_batch(jobs[:1], out)) == ["done"]
        second.__exit__(None, None, None)

    monkeypatch.setattr(in_turn.time, "sleep", sleep)
    outcomes = list(run_batch(jobs, out, since=since))
    made = [(outcome.job, outcome.status) for outcome in outcomes]
    assert made == [(jobs[2], "done"), (jobs[0], "elsewhere"), (jobs[1], "done")]
    assert len((out / JOURNAL).read_text().splitlines()) == 3


def test_what_was_done_before_is_made_again_if_it_is_asked_for(pictures: Path) -> None:
    jobs, out = jobs_of(pictures)[:1], pictures / "out"
    for _ in range(2):
        assert statuses(run_batch(jobs, out)) == ["done"]


def test_an_outcome_is_plain_values(pictures: Path) -> None:
    (outcome,) = run_batch(jobs_of(pictures)[:1], pictures / "out")
    record = json.loads(json.dumps(outcome.to_dict()))
    assert set(record) == {"content", "style", "output", "status", "message", "loss", "seconds"}
