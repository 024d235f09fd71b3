"""What a run will take, before it starts; and what there is to take it from."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fastnst.cli.console import duration
from fastnst.errors import InvalidInput
from fastnst.estimate import estimate
from fastnst.run import available, memory, prepare
from fastnst.settings.settings import Settings
from fastnst.strips.budget import amount
from helpers.pictures import smooth

SMALL = {"style_layers": ("relu1_1", "relu2_1"), "content_layers": ("relu2_1",)}
PICTURES = smooth(96, 72), smooth(40, 44, seed=1)


def test_an_estimate_has_the_size_the_memory_and_the_engine_of_the_run() -> None:
    settings = Settings(size=64, iterations=5, engine="torch", **SMALL)
    needs = estimate(*PICTURES, settings)
    assert (needs.width, needs.height, needs.engine, needs.device) == (64, 48, "torch", "cpu")
    sources = 96 * 72 + 40 * 44
    assert needs.bytes == memory.estimate(memory.Need(64, 48, settings, source_pixels=sources))
    assert needs.free_bytes is None or needs.free_bytes > needs.bytes


def test_time_is_evaluations_and_passes_over_the_history(monkeypatch) -> None:
    seconds = iter([0.5, 0.008, 0.5, 0.008])
    monkeypatch.setattr("fastnst.estimate._quickest", lambda work: next(seconds))
    few = estimate(*PICTURES, Settings(size=64, iterations=4, history_size=2, **SMALL))
    # 5 evaluations; 0, 1, 2 and 2 pairs, of 4 passes at 0.008 s for 4 rows
    assert few.seconds == pytest.approx(5 * 0.5 + (0 + 1 + 2 + 2) * 4 * 0.002)
    many = estimate(*PICTURES, Settings(size=64, iterations=4, history_size=9, **SMALL))
    assert many.seconds == pytest.approx(5 * 0.5 + (0 + 1 + 2 + 3) * 4 * 0.002)


def test_a_size_that_does_not_fit_is_refused_with_one_that_does(monkeypatch) -> None:
    monkeypatch.setattr(available, "available", lambda device: 2**24)
    with pytest.raises(InvalidInput, match=r"use --size \d+ or less"):
        estimate(*PICTURES, Settings(size=512, **SMALL))


def test_durations() -> None:
    assert [duration(s) for s in (0.2, 45, 60, 200, 3600, 7500)] == [
        "1 s", "45 s", "1 min", "3 min 20 s", "1 h", "2 h 5 min"
    ]  # fmt: skip


def test_amounts_have_units_that_say_something() -> None:
    found = [amount(count) for count in (0, 2**20, 37.4 * 2**20, 1023 * 2**20, 1.44 * 2**30)]
    assert found == ["1 MiB", "1 MiB", "37 MiB", "1023 MiB", "1.4 GiB"]


@pytest.mark.parametrize("precision", ["fp32", "mixed"])
def test_what_runs_is_what_is_measured(monkeypatch, precision: str) -> None:
    """Where the setting leaves the precision open, the one that a run would choose."""
    asked = []
    create = prepare.create_engine

    def note(weights, content, styles, settings, *rest, **more):
        asked.append(settings.precision)
        return create(weights, content, styles, replace(settings, precision="fp32"), *rest, **more)

    monkeypatch.setattr(prepare, "create_engine", note)
    monkeypatch.setattr(prepare, "choose_precision", lambda settings, device: precision)
    estimate(*PICTURES, Settings(size=32, iterations=1, **SMALL))
    assert asked == [precision]


def test_a_picture_in_strips_is_measured_by_one_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(size=0, iterations=1, engine="torch", **SMALL)
    content, style = smooth(36, 300), smooth(40, 44, seed=1)
    whole = estimate(content, style, settings)
    seen = []
    create = prepare.create_engine

    def note(weights, content, *rest, **more):
        seen.append(tuple(content.shape[-2:]))
        return create(weights, content, *rest, **more)

    monkeypatch.setattr(prepare, "create_engine", note)
    seconds = iter([0.5, 0.008])
    monkeypatch.setattr("fastnst.estimate._quickest", lambda work: next(seconds))
    cut = estimate(content, style, settings, memory_limit=int(0.9 * whole.bytes))
    assert cut.pieces > 1
    ((rows, columns),) = seen
    assert rows < 300
    assert columns == 36
    # Two evaluations and no pair; 1.5 for the second pass forward, and at least the whole's pixels.
    assert cut.seconds >= 2 * 0.5 * 1.5 * 300 / rows
