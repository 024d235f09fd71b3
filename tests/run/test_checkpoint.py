"""A run that is resumed is the run that was never interrupted."""

from __future__ import annotations

import functools
import json
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import fastnst
from fastnst.errors import InvalidInput
from fastnst.evaluation import Terms
from fastnst.ops import extension
from fastnst.run.checkpoint import Checkpoints, load_checkpoint
from fastnst.run.identity import Identity, identity_of
from fastnst.run.losses import Losses
from fastnst.run.prepare import prepare
from fastnst.run.run import run
from fastnst.run.step import Step
from fastnst.settings.settings import Settings
from helpers.pictures import smooth

CONTENT, STYLE = smooth(48, 36), smooth(40, 44, seed=1)
SMALL = {"size": 48, "iterations": 14, "style_layers": ("relu1_1", "relu2_1"),
         "content_layers": ("relu2_1",)}  # fmt: skip


class Stop:
    """A callback that presses Ctrl-C after some iterations."""

    def __init__(self, iteration: int) -> None:
        self.iteration = iteration

    def __call__(self, step: Step) -> None:
        if step.iteration == self.iteration:
            raise KeyboardInterrupt


def interrupted(path: Path, iteration: int, **settings: object) -> fastnst.Result:
    with pytest.raises(fastnst.Interrupted) as caught:
        fastnst.stylize(
            CONTENT, STYLE, checkpoint=path, callback=Stop(iteration), **{**SMALL, **settings}
        )
    return caught.value.result


@functools.cache
def uninterrupted(optimizer: str, history_size: int) -> fastnst.Result:
    """A whole run, for all that are interrupted somewhere."""
    return fastnst.stylize(CONTENT, STYLE, **SMALL, optimizer=optimizer, history_size=history_size)


@pytest.mark.parametrize("optimizer", ["lbfgs", "spectral", "torch-lbfgs"])
@pytest.mark.parametrize(
    ("history_size", "iteration"), [(4, 11), (100, 9), (4, 0), (4, 1), (4, 4), (1, 3)]
)
def test_a_resumed_run_is_bit_identical(
    tmp_path: Path, optimizer: str, history_size: int, iteration: int
) -> None:
    """After no step, one, as many as there is room for, and once old pairs were overwritten."""
    settings = {**SMALL, "optimizer": optimizer, "history_size": history_size}
    whole = uninterrupted(optimizer, history_size)
    first = interrupted(tmp_path / "run.checkpoint", iteration, **settings)
    if (optimizer, history_size, iteration) == ("lbfgs", 4, 11):
        order = load_checkpoint(tmp_path / "run.checkpoint").solver.numbers["lbfgs.pairs.order"]
        assert len(order) == 4
        assert order != sorted(order)  # the ring buffer has wrapped around
    second = fastnst.stylize(CONTENT, STYLE, resume=tmp_path / "run.checkpoint", **settings)
    assert first.history == whole.history[: iteration + 1]
    assert second.history == whole.history
    assert np.array_equal(second.pixels, whole.pixels)
    assert second.losses == whole.losses
    assert (second.iterations, second.evaluations) == (whole.iterations, whole.evaluations)
    assert second.seconds > load_checkpoint(tmp_path / "run.checkpoint").seconds  # it counts on
    assert second.snapshots.keys() == whole.snapshots.keys() == {0, 7}
    for at, picture in whole.snapshots.items():
        assert picture.tobytes() == second.snapshots[at].tobytes()


def test_it_can_be_interrupted_and_resumed_again_and_again(tmp_path: Path) -> None:
    path = tmp_path / "run.checkpoint"
    whole = fastnst.stylize(CONTENT, STYLE, **SMALL, history_size=3)
    for iteration in (2, 5, 6, 11):
        with pytest.raises(fastnst.Interrupted):
            fastnst.stylize(
                CONTENT, STYLE, **SMALL, history_size=3, callback=Stop(iteration),
                checkpoint=path, resume=path if path.exists() else None,
            )  # fmt: skip
    last = fastnst.stylize(CONTENT, STYLE, **SMALL, history_size=3, resume=path)
    assert np.array_equal(last.pixels, whole.pixels)
    assert last.history == whole.history


def test_checkpoints_come_every_so_often_and_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "run.checkpoint"
    seen = []

    def callback(step: Step) -> None:
        if path.exists():
            seen.append(load_checkpoint(path).solver.numbers["iteration"])

    done = fastnst.stylize(
        CONTENT, STYLE, **SMALL, checkpoint=path, checkpoint_every=4, callback=callback
    )
    assert sorted(set(seen)) == [4, 8, 12]
    assert load_checkpoint(path).solver.numbers["iteration"] == done.iterations == 14
    assert [p.name for p in tmp_path.iterdir()] == ["run.checkpoint"]


def test_a_finished_run_can_be_prolonged(tmp_path: Path) -> None:
    path = tmp_path / "run.checkpoint"
    fastnst.stylize(CONTENT, STYLE, **{**SMALL, "iterations": 6}, checkpoint=path)
    same = fastnst.stylize(CONTENT, STYLE, **{**SMALL, "iterations": 6}, resume=path)
    assert same.iterations == 6
    longer = fastnst.stylize(CONTENT, STYLE, **SMALL, resume=path)
    whole = fastnst.stylize(CONTENT, STYLE, **SMALL)
    assert np.array_equal(longer.pixels, whole.pixels)
    with pytest.raises(InvalidInput, match="it has 6 iterations done, more than the 5"):
        fastnst.stylize(CONTENT, STYLE, **{**SMALL, "iterations": 5}, resume=path)


OTHERS = {
    "scales": {"min_size": 24, "scale_iterations": (4,), "iterations": 5},
    "average": {"optimizer": "adam", "averaging": 0.8, "iterations": 9},
    "both": {"min_size": 24, "averaging": 0.7, "iterations": 5, "color": "luminance"},
}


@functools.cache
def other(name: str) -> fastnst.Result:
    """A whole run with scales or an average, or both."""
    return fastnst.stylize(CONTENT, STYLE, **{**SMALL, **OTHERS[name]})


@pytest.mark.parametrize("iteration", [3, 5, 6, 8])
@pytest.mark.parametrize("name", OTHERS)
def test_scales_and_averages_are_resumed_too(tmp_path: Path, name: str, iteration: int) -> None:
    """In the first scale, at its end, at the beginning and at the end of the second."""
    whole, extra = other(name), OTHERS[name]
    interrupted(tmp_path / "run.checkpoint", iteration, **extra)
    second = fastnst.stylize(
        CONTENT, STYLE, resume=tmp_path / "run.checkpoint", **{**SMALL, **extra}
    )
    assert second.history == whole.history
    assert np.array_equal(second.pixels, whole.pixels)
    assert second.scales == whole.scales
    assert second.losses == whole.losses
    assert second.snapshots.keys() == whole.snapshots.keys()


def test_a_finished_scale_keeps_its_iterations(tmp_path: Path) -> None:
    coarse = {"min_size": 24, "iterations": 3}
    interrupted(tmp_path / "run.checkpoint", 5, **coarse)
    with pytest.raises(InvalidInput, match="iterations was 3 and is 4"):
        fastnst.stylize(
            CONTENT,
            STYLE,
            **{**SMALL, **coarse, "iterations": 4},
            resume=tmp_path / "run.checkpoint",
        )


def test_only_the_pairs_in_use_are_stored(tmp_path: Path) -> None:
    path = tmp_path / "run.checkpoint"
    sizes, used = [], []
    for iteration in (6, 12):
        interrupted(path, iteration)
        sizes.append(path.stat().st_size)
        used.append(len(load_checkpoint(path).solver.numbers["lbfgs.pairs.order"]))
    assert 0 < used[0] < used[1] <= 11, used
    # beside the pairs: nine rows of history, a picture from the middle, a longer header
    pair, picture = 2 * 3 * 48 * 36 * 4, 3 * 48 * 36
    if extension.is_available():  # in eight bits and scales of four bytes, in two chunks
        pair = 2 * 2 * (4096 + 64 * 4)
    assert sizes[1] - sizes[0] - picture == pytest.approx((used[1] - used[0]) * pair, abs=2000)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"style_weight": 5.0}, "style_weight was 10.0 and is 5.0"),
        ({"history_size": 7}, "history_size was 100 and is 7"),
        ({"size": 40}, "size was 48 and is 40"),
        ({"style": smooth(40, 44, seed=2)}, "of another run: another style picture$"),
        ({"content": smooth(48, 36, seed=2)}, "another content picture$"),
        ({"seed": 3, "style_weight": 1.0}, "seed was 0 and is 3; style_weight was 10.0"),
        ({"weights": "vgg19"}, "weights was 'vgg19-normalised' and is 'vgg19'"),
    ],
)
def test_another_run_is_refused_and_named(tmp_path: Path, change: dict, message: str) -> None:
    path = tmp_path / "run.checkpoint"
    interrupted(path, 2)
    call = {"content": CONTENT, "style": STYLE, **SMALL, **change}
    with pytest.raises(InvalidInput, match=message) as caught:
        fastnst.stylize(call.pop("content"), call.pop("style"), **call, resume=path)
    assert "\n" not in str(caught.value)


def test_another_engine_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.checkpoint"
    interrupted(path, 2, engine="torch")
    again = fastnst.stylize(CONTENT, STYLE, **SMALL, engine="torch", device="cpu", resume=path)
    assert again.engine == "torch"
    checkpoint = load_checkpoint(path)
    assert checkpoint.identity.made_from["engine"] == "torch"
    native = {**checkpoint.identity.made_from, "engine": "native"}
    now = type(checkpoint.identity)(checkpoint.identity.settings, native)
    assert checkpoint.identity.differences(now) == ["engine was torch and is native"]


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        (("onnx", "fp32", "cpu"), ("onnx", "fp32", "cpu"), []),
        (
            ("onnx", "fp32", "cpu"),
            ("onnx", "fp32", "openvino"),
            ["engine was onnx (cpu) and is onnx (openvino)"],
        ),
        (("torch", "fp32", None), ("onnx", "fp32", "cpu"), ["engine was torch and is onnx (cpu)"]),
        (
            ("native", "fp32", None, True),
            ("native", "fp32", None, False),
            ["precision was fp32 (TF32) and is fp32"],
        ),
        (("native", "mixed", None), ("native", "mixed", None), []),
    ],
)
def test_what_ran_is_compared(before: tuple, now: tuple, said: list[str]) -> None:
    assert of_engine(*before).differences(of_engine(*now)) == said


def test_a_run_that_becomes_float32_later_counts_its_rounding(monkeypatch) -> None:
    before = of_engine("native", "mixed", None)
    monkeypatch.setattr("fastnst.run.identity.rounds_to_tf32", lambda *_: True)
    now = of_engine("native", "mixed", None)
    assert before.differences(now) == ["precision was mixed and is mixed (TF32)"]
    assert not of_engine("native", "bf16", None).differences(of_engine("native", "bf16", None))
    assert "TF32" not in of_engine("native", "bf16", None).made_from["precision"]


def of_engine(name: str, precision: str, provider: str | None, tf32: bool = False) -> Identity:
    """The identity of a run by an engine of which this is known."""
    asked = {"engine": "onnx", "provider": provider} if provider else {}
    prepared = prepare(CONTENT, STYLE, Settings(size=48, device="cpu", **asked))
    ran = SimpleNamespace(name=name, precision=precision, provider=provider, tf32=tf32)
    return identity_of(prepared, ran, None)


@pytest.mark.parametrize(
    "damage", ["missing", "empty", "cut", "weights", "version", "earlier", "nul"]
)
def test_what_is_no_checkpoint_is_named(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "run.checkpoint"
    if damage not in ("missing", "empty", "weights", "nul"):
        interrupted(path, 2)
    if damage == "empty":
        path.touch()
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "weights":
        from safetensors.torch import save_file

        save_file({"a": torch.zeros(3)}, path)
    elif damage == "version":
        path.write_bytes(path.read_bytes().replace(b"checkpoint 4", b"checkpoint 9"))
    elif damage == "earlier":
        path.write_bytes(path.read_bytes().replace(b"checkpoint 4", b"checkpoint 1"))
    elif damage == "nul":
        path = tmp_path / "a\0run.checkpoint"
    with pytest.raises(InvalidInput, match=r"run\.checkpoint") as caught:
        fastnst.stylize(CONTENT, STYLE, **SMALL, resume=path)
    assert "\n" not in str(caught.value)
    assert damage != "earlier" or "begin again" in str(caught.value)


def test_where_a_checkpoint_cannot_go_is_said_before_the_run(tmp_path: Path, monkeypatch) -> None:
    called = []
    with pytest.raises(InvalidInput, match="checkpoint .*missing.* does not exist"):
        fastnst.stylize(
            CONTENT, STYLE, **SMALL, checkpoint=tmp_path / "missing" / "a", callback=called.append
        )
    with pytest.raises(InvalidInput, match="checkpoint_every is 0"):
        fastnst.stylize(CONTENT, STYLE, **SMALL, checkpoint=tmp_path / "a", checkpoint_every=0)
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    needed = "3.1" if extension.is_available() else "9.2"
    with pytest.raises(InvalidInput, match=f"0.0 MB are free .* may need {needed} MB"):
        Checkpoints(tmp_path / "a").check(48 * 36, Settings(history_size=100), torch.device("cpu"))
    assert not called


def test_a_checkpoint_is_plain_data(tmp_path: Path) -> None:
    """Nothing in it is code: JSON and tensors, readable without fastnst."""
    from safetensors import safe_open

    interrupted(tmp_path / "a", 2)
    with safe_open(tmp_path / "a", "pt") as file:
        about = json.loads(file.metadata()["fastnst"])
        assert file.get_tensor("history").shape == (3, len(about["terms"]))
    assert about["settings"]["style_weight"] == 10
    assert set(about["made_from"]) == {
        "content picture", "style picture", "file of weights", "engine", "device", "precision"
    }  # fmt: skip
    (tmp_path / "b").touch()
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_ctrl_c_before_the_losses_are_known_spoils_no_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, of, calls = tmp_path / "a.checkpoint", Losses.of, 0

    def pressed(terms: Terms) -> Losses:
        nonlocal calls
        calls += 1
        if calls == 8:
            raise KeyboardInterrupt
        return of(terms)

    monkeypatch.setattr(Losses, "of", pressed)
    with pytest.raises(fastnst.Interrupted):
        fastnst.stylize(CONTENT, STYLE, **SMALL, checkpoint=path, checkpoint_every=3)
    monkeypatch.undo()
    resumed = fastnst.stylize(CONTENT, STYLE, **SMALL, resume=path)
    assert np.array_equal(resumed.pixels, uninterrupted("lbfgs", 100).pixels)


def test_a_checkpoint_of_adam_needs_no_room_for_curvature_pairs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []
    monkeypatch.setattr("fastnst.files.check_writable", lambda *given: asked.append(given[2]))
    for optimizer in ("adam", "lbfgs"):
        settings = fastnst.Settings(optimizer=optimizer, iterations=300)
        Checkpoints(tmp_path / "a.checkpoint").check(1000, settings, torch.device("cpu"))
    pair = 6.5 if extension.is_available() else 24
    matrices = 3 * 8 * 101**2  # of products among the pairs
    assert asked == [100_000, 1000 * (101 * pair + 100) + matrices]


def test_a_checkpoint_has_room_for_the_products_of_no_more_pairs_than_iterations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []
    monkeypatch.setattr("fastnst.files.check_writable", lambda *given: asked.append(given[2]))
    for further in ({}, {"min_size": 16, "scale_iterations": (300,)}, {"iterations": 300}):
        settings = fastnst.Settings(**{"history_size": 10_000, "iterations": 20, **further})
        Checkpoints(tmp_path / "a.checkpoint").check(0, settings, torch.device("cpu"))
    assert asked == [3 * 8 * 20**2, 3 * 8 * 300**2, 3 * 8 * 300**2]


def test_a_checkpoint_that_is_there_is_one_of_the_two_that_need_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, path = fastnst.Settings(optimizer="adam"), tmp_path / "a.checkpoint"
    disk = SimpleNamespace(free=200_000)
    monkeypatch.setattr("shutil.disk_usage", lambda _: disk)
    checkpoints, cpu = Checkpoints(path), torch.device("cpu")
    checkpoints.check(1000, settings, cpu)
    disk.free -= 1
    with pytest.raises(InvalidInput, match=r"0\.2 MB are free .*, the file may need 0\.2 MB"):
        checkpoints.check(1000, settings, cpu)
    monkeypatch.setattr("fastnst.run.checkpoint.is_checkpoint", lambda head: True)
    path.write_bytes(b"x" * 60_000)
    disk.free = 140_000
    checkpoints.check(1000, settings, cpu)
    disk.free -= 1
    with pytest.raises(InvalidInput, match="are free"):
        checkpoints.check(1000, settings, cpu)


def test_a_file_is_as_large_as_one_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastnst.files._largest_file", lambda: 100_000)
    settings = fastnst.Settings(optimizer="adam")
    Checkpoints(tmp_path / "a.checkpoint").check(1000, settings, torch.device("cpu"))
    with pytest.raises(InvalidInput, match="ulimit"):
        Checkpoints(tmp_path / "a.checkpoint").check(1001, settings, torch.device("cpu"))


def test_a_checkpoint_has_no_more_bytes_than_were_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []
    monkeypatch.setattr("fastnst.files.check_writable", lambda *given: asked.append(given[2]))
    for optimizer in ("lbfgs", "spectral", "adam", "torch-lbfgs"):
        path = tmp_path / optimizer
        given = {**SMALL, "size": 128, "iterations": 8, "optimizer": optimizer, "history_size": 6}
        fastnst.stylize(CONTENT, STYLE, **given, checkpoint=path, checkpoint_every=1)
        assert path.stat().st_size <= asked.pop()


def test_a_checkpoint_replaces_no_file_of_another_kind(tmp_path: Path, photo) -> None:
    path = photo("c.png")
    before = path.read_bytes()
    with pytest.raises(InvalidInput, match=r"c\.png exists and is no checkpoint"):
        fastnst.stylize(path, STYLE, checkpoint=path, **SMALL)
    assert path.read_bytes() == before


def test_ctrl_c_at_the_average_leaves_the_checkpoint_of_the_last_iterate(tmp_path: Path) -> None:
    """The average is no part of the way: a state that was saved with its losses fits no run."""
    path, extra = tmp_path / "a.checkpoint", OTHERS["average"]

    def stop(step: Step) -> None:
        if step.evaluations == extra["iterations"] + 2:
            raise KeyboardInterrupt

    with pytest.raises(fastnst.Interrupted):
        fastnst.stylize(CONTENT, STYLE, **{**SMALL, **extra}, checkpoint=path, callback=stop)
    again = fastnst.stylize(CONTENT, STYLE, **{**SMALL, **extra}, resume=path)
    assert again.history == other("average").history
    assert np.array_equal(again.pixels, other("average").pixels)


def test_checkpoints_come_as_often_after_a_run_was_resumed(tmp_path: Path) -> None:
    path, seen = tmp_path / "run.checkpoint", []
    interrupted(path, 6)

    def callback(step: Step) -> None:
        seen.append(load_checkpoint(path).solver.numbers["iteration"])

    fastnst.stylize(
        CONTENT, STYLE, **SMALL, resume=path, checkpoint=path, checkpoint_every=4, callback=callback
    )
    assert sorted(set(seen)) == [6, 10]


@pytest.mark.skipif(os.name == "nt", reason="names are text there")
def test_a_name_that_is_not_utf8_is_a_name(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"\xff.checkpoint")
    interrupted(path, 2)
    again = fastnst.stylize(CONTENT, STYLE, **SMALL, resume=path)
    assert np.array_equal(again.pixels, uninterrupted("lbfgs", 100).pixels)


def test_a_file_s_name_is_not_what_counts(tmp_path: Path, photo, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    start = photo("start.png", 48, 36, 5)
    whole = fastnst.stylize(CONTENT, STYLE, **SMALL, init=str(start))
    interrupted(tmp_path / "c", 6, init=str(start))
    again = fastnst.stylize(CONTENT, STYLE, **SMALL, init="start.png", resume=tmp_path / "c")
    assert np.array_equal(again.pixels, whole.pixels)
    photo("start.png", 48, 36, 6)
    with pytest.raises(InvalidInput, match="another starting picture"):
        fastnst.stylize(CONTENT, STYLE, **SMALL, init="start.png", resume=tmp_path / "c")


def test_the_record_has_what_was_asked_for() -> None:
    asked = fastnst.make_settings("gatys", {**SMALL, "iterations": 1, "strength": 0.75})
    result = run(CONTENT, STYLE, asked)
    record = result.to_dict()
    assert fastnst.make_settings("gatys", record["settings"]) == result.settings == asked
    weight = pytest.approx(asked.content_weight / 9)
    assert record["effective"] == {"strength": 0.5, "content_weight": weight, "history_size": 100}


def test_room_is_asked_for_no_more_pairs_than_iterations(tmp_path: Path, monkeypatch) -> None:
    asked = []
    monkeypatch.setattr("fastnst.files.check_writable", lambda *given: asked.append(given[2]))
    for iterations in (3, 10, 1000):
        settings = Settings(iterations=iterations, history_size=100)
        Checkpoints(tmp_path / "c").check(10_000, settings, torch.device("cpu"))
    assert asked[0] < asked[1] < asked[2]
    fastnst.stylize(CONTENT, STYLE, **{**SMALL, "iterations": 3}, checkpoint=tmp_path / "c")
    Checkpoints(tmp_path / "c").check(48 * 36, Settings(iterations=3), torch.device("cpu"))
    assert (tmp_path / "c").stat().st_size <= asked[-1]


def test_parts_that_are_there_are_replaced_too(tmp_path: Path, monkeypatch) -> None:
    """Beside them only what is more than they have is needed."""
    more = []
    monkeypatch.setattr("fastnst.files.check_writable", lambda *given: more.append(given[-1]))
    checkpoints, cpu = Checkpoints(tmp_path / "c"), torch.device("cpu")
    checkpoints.check(10_000, Settings(), cpu)
    (tmp_path / "part").write_bytes(bytes(1000))
    monkeypatch.setattr(
        "fastnst.run.checkpoint.parts_of",
        lambda _: (SimpleNamespace(name="part"), SimpleNamespace(name="gone")),
    )
    checkpoints.check(10_000, Settings(), cpu)
    assert more == [more[0], more[0] - 1000]


def test_how_often_is_said_of_a_file() -> None:
    with pytest.raises(InvalidInput, match="checkpoint_every needs a checkpoint"):
        fastnst.stylize(CONTENT, STYLE, **SMALL, checkpoint_every=3)
