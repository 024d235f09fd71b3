"""The whole method through the library."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image

import fastnst
from fastnst import Interrupted, InvalidInput, NonFiniteLoss
from fastnst.engines.create import create_engine, unavailable_reason
from fastnst.ops import extension
from fastnst.run import solve
from fastnst.run.available import LIBRARIES
from fastnst.run.memory import Need
from fastnst.settings.settings import Settings
from fastnst.solvers.minimise import minimise
from helpers.pictures import smooth

CONTENT, STYLE = smooth(48, 36), smooth(40, 44, seed=1)
SMALL = {"size": 48, "iterations": 8}


def test_the_loss_falls_and_the_result_says_what_ran() -> None:
    result = fastnst.stylize(CONTENT, STYLE, **SMALL)
    assert result.pixels.shape == (36, 48, 3)
    assert result.pixels.dtype == np.float32
    assert result.pixels.min() >= 0
    assert result.pixels.max() <= 1
    assert result.image.size == (48, 36)
    totals = [losses.total for losses in result.history]
    assert len(totals) == result.evaluations == 9
    assert result.iterations == 8
    assert result.losses.total == min(totals) < totals[0] / 2
    assert set(result.losses.style) == set(Settings().style_layers)
    assert set(result.losses.content) == {"relu4_2"}
    assert result.engine == ("native" if extension.is_available() else "torch")
    assert result.device in ("cpu", "cuda")
    assert result.weights["name"] == "vgg19-normalised"
    assert len(result.weights["sha256"]) == 64
    assert result.seconds > 0


def test_the_reported_loss_is_the_loss_of_the_picture() -> None:
    result = fastnst.stylize(CONTENT, STYLE, engine="torch", device="cpu", **SMALL)
    pictures = fastnst.load_pictures(CONTENT, STYLE, result.settings, 48)
    objective = fastnst.build_objective(
        fastnst.load_weights(), pictures.content, pictures.style, result.settings, "torch"
    )
    image = torch.from_numpy(result.pixels).permute(2, 0, 1)[None]
    with torch.no_grad():
        total = float(objective(image).total)
    assert total == pytest.approx(result.losses.total, rel=1e-5)


def test_one_seed_one_picture() -> None:
    runs = [fastnst.stylize(CONTENT, STYLE, seed=seed, **SMALL).pixels for seed in (1, 1, 2)]
    assert np.array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0], runs[2])


@pytest.mark.slow
def test_another_process_gives_the_same_picture(tmp_path) -> None:
    code = (
        "import fastnst, sys, hashlib\n"
        "r = fastnst.stylize('sample:harbour', 'sample:swirl', size=48, iterations=6)\n"
        "print(hashlib.sha256(r.pixels.tobytes()).hexdigest())"
    )
    runs = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout
        for _ in range(2)
    }
    assert len(runs) == 1


@pytest.mark.parametrize("init", ["noise", "content", "matched"])
def test_every_start_works(init: str) -> None:
    result = fastnst.stylize(CONTENT, STYLE, init=init, **SMALL)
    assert result.losses.total < result.history[0].total


def test_no_iterations_return_the_start() -> None:
    result = fastnst.stylize(CONTENT, STYLE, init="content", iterations=0, size=48)
    assert np.array_equal(result.image, Image.fromarray(CONTENT))
    assert result.evaluations == 1


def test_reconstruction_of_the_content_alone() -> None:
    """With style weight 0 the content's own features are reached: the loss all but vanishes."""
    result = fastnst.stylize(
        CONTENT, STYLE, style_weight=0, content_layers=("relu1_1",), size=48, iterations=40
    )
    assert result.losses.total < 1e-3 * result.history[0].total
    assert np.abs(result.pixels - CONTENT / 255).mean() < 0.02
    assert result.losses.style == {}


def test_callback_hears_every_step_and_may_look() -> None:
    steps = []

    def callback(step: fastnst.Step) -> None:
        steps.append((step.iteration, step.evaluations, step.losses.total, step.pixels.mean()))
        assert step.image.size == (48, 36)
        assert step.iterations == 8
        assert step.seconds >= 0

    result = fastnst.stylize(CONTENT, STYLE, callback=callback, **SMALL)
    assert [s[0] for s in steps] == list(range(9))
    assert [s[2] for s in steps] == [losses.total for losses in result.history]
    assert len({s[3] for s in steps}) == 9


def test_an_exception_in_the_callback_ends_the_run() -> None:
    def callback(step: fastnst.Step) -> None:
        raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        fastnst.stylize(CONTENT, STYLE, callback=callback, **SMALL)


def test_interrupt_carries_the_best_picture() -> None:
    def callback(step: fastnst.Step) -> None:
        if step.iteration == 5:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted) as caught:
        fastnst.stylize(CONTENT, STYLE, callback=callback, **SMALL)
    result = caught.value.result
    assert result.iterations == 5
    assert result.losses.total == min(losses.total for losses in result.history)


def test_a_loss_that_ends_in_nan_carries_the_best_picture(monkeypatch) -> None:
    def broken(*args, **kwargs):
        yield from list(minimise(*args, **{**kwargs, "iterations": 3}))
        raise NonFiniteLoss("no more")

    monkeypatch.setattr(solve, "minimise", broken)
    with pytest.raises(NonFiniteLoss, match="no more") as caught:
        fastnst.stylize(CONTENT, STYLE, **SMALL)
    assert caught.value.result is not None
    assert caught.value.result.iterations == 3


def test_save_and_record(tmp_path) -> None:
    result = fastnst.stylize(CONTENT, STYLE, size=48, iterations=1)
    path = result.save(tmp_path / "a.png")
    with Image.open(path) as image:
        record = json.loads(image.text["fastnst"])
    assert record == json.loads(json.dumps(result.to_dict(output=str(path))))
    assert set(record) == {
        "output", "width", "height", "iterations", "evaluations", "scales", "seconds", "loss",
        "engine", "provider", "device", "precision", "tf32", "seed", "weights", "settings",
        "effective", "versions", "strips", "peak_bytes",
    }  # fmt: skip
    assert set(record["loss"]) == {"total", "content", "style", "tv"}
    settings = fastnst.make_settings("gatys", record["settings"])
    assert settings == result.settings  # the record is enough to repeat the run
    result.save(tmp_path / "a.tiff", bits=16)


def test_paths_pil_images_arrays_and_tensors_give_the_same(photo) -> None:
    content, style = photo("c.png", 48, 36), photo("s.png", 40, 44, seed=1)
    eight = smooth(48, 36), smooth(40, 44, seed=1)
    runs = [
        (content, style),
        (str(content), str(style)),
        (Image.open(content), Image.open(style)),
        eight,
        tuple(torch.from_numpy(a.transpose(2, 0, 1).astype(np.float32) / 255) for a in eight),
    ]
    pixels = [fastnst.stylize(*run, size=48, iterations=2).pixels for run in runs]
    for other in pixels[1:]:
        assert np.array_equal(pixels[0], other)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": -5}, "size is -5"),
        ({"size": 10**9}, "size is 1000000000"),
        ({"size": 99_999}, "GiB of memory .* use --size"),
        ({"size": 2.5}, "size is 2.5"),
        ({"iterations": -1}, "iterations is -1"),
        ({"content_weight": -1.0}, "content_weight is -1"),
        ({"style_weight": float("nan")}, "style_weight is nan"),
        ({"tv_weight": float("inf")}, "tv_weight is inf"),
        ({"content_weight": 0, "style_weight": 0}, "nothing to optimise"),
        ({"content_weight": 0, "style_layer_weights": (0.0,) * 5}, "nothing to optimise"),
        ({"content_weight": 0, "statistics_weights": (0.0,)}, "nothing to optimise"),
        ({"content_layer_weights": (0,), "style_weight": 0}, "nothing to optimise"),
        ({"strength": 1.0, "style_layer_weights": (0.0,) * 5}, "nothing to .* at strength 1"),
        ({"style_layers": ("relu9_1",)}, "unknown layer 'relu9_1'"),
        ({"style_layers": "relu1_1"}, "expected a list of layer names"),
        ({"style_layers": ("relu1_1", "relu1_1")}, "twice"),
        ({"style_layer_weights": (1.0,)}, "1 values for 5 style layers"),
        ({"pooling": "mean"}, "pooling is 'mean': choose one of average, max"),
        ({"engine": "tpu"}, "engine is 'tpu'"),
        ({"device": "tpu"}, "device is 'tpu'"),
        ({"preset": "gatsy"}, "unknown preset 'gatsy'; did you mean gatys"),
        ({"stlye_weight": 1}, "unknown setting 'stlye_weight'; did you mean style_weight"),
        ({"seed": -1}, "seed is -1"),
        ({"init": ""}, "init is empty"),
        ({"history_size": 0}, "history_size is 0"),
    ],
)
def test_bad_settings_are_named(settings: dict, message: str) -> None:
    with pytest.raises(InvalidInput, match=message) as caught:
        fastnst.stylize(CONTENT, STYLE, **settings)
    assert "\n" not in str(caught.value)


def test_tiny_pictures_are_refused() -> None:
    with pytest.raises(InvalidInput, match="1×1"):
        fastnst.stylize(smooth(1, 1), STYLE, size=0)
    with pytest.raises(InvalidInput, match="content picture is 100×1"):
        fastnst.stylize(smooth(1000, 8), STYLE, size=100)
    # one pixel scaled up is a flat colour, which is a picture
    assert fastnst.stylize(smooth(1, 1), STYLE, size=32, iterations=1).image.size == (32, 32)


def test_a_gpu_that_is_not_there_is_an_error_with_the_reason() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(fastnst.BackendUnavailable, match="device cuda cannot be used"):
        fastnst.stylize(CONTENT, STYLE, device="cuda")


def test_native_that_is_not_there_is_an_error_with_the_reason(monkeypatch) -> None:
    monkeypatch.setattr(extension, "is_available", lambda: False)
    monkeypatch.setattr(extension, "unavailable_reason", lambda: "it was not built")
    with pytest.raises(fastnst.BackendUnavailable, match="engine native .* it was not built"):
        fastnst.stylize(CONTENT, STYLE, engine="native", **SMALL)
    assert fastnst.stylize(CONTENT, STYLE, size=48, iterations=1).engine == "torch"


@functools.cache
def losses_on_the_way(engine: str) -> list[float]:
    """What a run has found, once for all that are compared with it."""
    settings = {"size": 48, "iterations": 150, "precision": "fp32"}
    return [
        losses.total
        for losses in fastnst.stylize(CONTENT, STYLE, engine=engine, **settings).history
    ]


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["native", "onnx"])
def test_all_engines_take_the_same_way(engine: str) -> None:
    if reason := unavailable_reason(engine, torch.device("cpu")):
        pytest.skip(reason)
    ours, theirs = losses_on_the_way(engine), losses_on_the_way("torch")
    # Gradients agree to about 1e-3, where a rounding opens or closes a ReLU; each step adds to it.
    assert ours[:8] == pytest.approx(theirs[:8], rel=2e-3)
    # Then rounding parts them (L-BFGS has no line search): ends 4 % apart were seen, either way.
    assert min(ours) == pytest.approx(min(theirs), rel=0.15)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["native", "onnx"])
def test_all_engines_agree_about_every_picture_on_the_way(engine: str) -> None:
    """To the end, where losses are smallest: that ends differ is the solver's doing, not theirs."""
    if reason := unavailable_reason(engine, torch.device("cpu")):
        pytest.skip(reason)
    settings = Settings(size=48, engine=engine, precision="fp32")
    pictures = fastnst.load_pictures(CONTENT, STYLE, settings, 48)
    ours, theirs = (
        create_engine(
            fastnst.load_weights(), pictures.content, pictures.style, replace(settings, engine=name)
        )
        for name in (engine, "torch")
    )
    checked = 0
    for iterate in minimise(ours.evaluate, pictures.start, iterations=150):
        if iterate.iteration % 10 == 0:
            other = float(theirs.evaluate(iterate.image).terms.total)
            # of differences G − A that are small beside G: their rounding, 1e-6, shows the more
            assert iterate.loss == pytest.approx(other, rel=1e-4)
            checked += 1
    assert checked == 16


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_the_gpu_goes_the_way_of_the_cpu() -> None:
    asked = {"size": 48, "iterations": 60, "precision": "fp32"}
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        cpu, gpu = (
            [losses.total for losses in fastnst.stylize(CONTENT, STYLE, device=d, **asked).history]
            for d in ("cpu", "cuda")
        )
    # Runs whose starts differ by 1e-5 are 0.2 % apart after five iterations and up to 12 % after
    # twenty; they end within 7 % of each other (six starts on a CPU).
    assert gpu[:6] == pytest.approx(cpu[:6], rel=0.01)
    assert gpu[-1] == pytest.approx(cpu[-1], rel=0.15)


SHALLOW = {
    "size": 0,
    "engine": "torch",
    "iterations": 1,
    "style_layers": ("relu1_1", "relu2_1"),
}


@pytest.mark.parametrize("verb", ["stylize", "texture", "reconstruct"])
def test_a_picture_that_does_not_fit_is_computed_in_strips(verb: str, tmp_path) -> None:
    """With the memory as people write it, and a scratch folder for what strips do not save."""
    picture, style = smooth(36, 300), smooth(36, 300, seed=1)
    given, content = dict(SHALLOW), {"content_layers": ("relu2_2",)}
    if verb == "texture":
        make = partial(fastnst.texture, style, init="noise", **given)
        settings = Settings(content_weight=0.0, init="noise", **given)
    elif verb == "reconstruct":
        del given["style_layers"]
        make = partial(fastnst.reconstruct, picture, **given, **content)
        settings = Settings(style_weight=0.0, init="noise", **given, **content)
    else:
        make = partial(fastnst.stylize, picture, style, **given, **content)
        settings = Settings(**given, **content)
    whole = make()
    need = Need(36, 300, settings, style_pixels=36 * 300, source_pixels=2 * 36 * 300)
    cut = make(memory=f"{LIBRARIES + need.whole() - 1}", scratch=tmp_path)
    assert (whole.strips, cut.strips > 1) == (1, True)
    # float32 sums in another order
    assert cut.history[0].total == pytest.approx(whole.history[0].total, rel=1e-5)
    with pytest.raises(
        InvalidInput, match="1 MiB of the 1 MiB allowed are left .*; the smallest takes"
    ):
        make(memory="100 kB")
    with pytest.raises(InvalidInput, match="memory is 'much': expected a size such as 8GB"):
        make(memory="much")
    with pytest.raises(InvalidInput, match="scratch folder .*nowhere does not exist"):
        make(scratch=tmp_path / "nowhere")
    assert list(tmp_path.iterdir()) == []


def test_resources_are_numbers_and_what_people_write(tmp_path) -> None:
    said = fastnst.Resources.of("1.5 GB", str(tmp_path), 400)
    assert said == fastnst.Resources(1_500_000_000, tmp_path, 400)
    assert fastnst.Resources.of(8e9).memory == fastnst.Resources.of("8GB").memory == 8 * 10**9
    assert fastnst.Resources.of() == fastnst.Resources()
    for memory in (0, -1, float("nan"), float("inf"), "8 miles", [8]):
        with pytest.raises(InvalidInput, match="memory is"):
            fastnst.Resources.of(memory)
    with pytest.raises(InvalidInput, match="scratch is 3: expected the path of a folder"):
        fastnst.Resources.of(None, 3)


TINY = {"iterations": 1, "style_layers": ("relu1_1",), "content_layers": ("relu1_1",)}


def test_numbers_paths_and_iterables_of_other_libraries_are_taken(tmp_path) -> None:
    """And what is made of them is plain JSON."""
    for seed, name in enumerate(("c.png", "s.png", "i.png")):
        Image.fromarray(smooth(32, 24, seed)).save(tmp_path / name)
    result = fastnst.stylize(
        tmp_path / "c.png",
        (tmp_path / name for name in ("s.png", "c.png")),
        size=np.int64(32),
        style_weight=np.float32(3),
        style_blend=np.array([1.0, 2.0]),
        init=tmp_path / "i.png",
        **TINY,
    )
    record = json.loads(json.dumps(result.to_dict()))
    assert record["settings"]["size"] == 32
    assert record["settings"]["init"] == str(tmp_path / "i.png")
    painted = fastnst.texture((p for p in (smooth(32, 24), smooth(24, 32))), size=32, **{
        k: v for k, v in TINY.items() if k != "content_layers"
    })  # fmt: skip
    assert painted.pixels.shape == (24, 32, 3)


@pytest.mark.parametrize(
    "settings",
    [
        {"init": smooth(32, 24)},
        {"init": [1, 2]},
        {"init": "a\0b"},
        {"init": ""},
        {"size": np.array([32, 24])},
        {"size": np.float64("nan")},
        {"size": 10**400},
        {"style_layers": [["relu1_1"]]},
        {"style_blend": (x for x in "ab")},
        {"weights": object()},
    ],
)
def test_hostile_settings_are_one_line(settings: dict) -> None:
    with pytest.raises(fastnst.FastNSTError) as caught:
        fastnst.stylize(smooth(32, 24), smooth(24, 32), **{**TINY, "size": 32, **settings})
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda a: fastnst.texture(a, aspect="2"), "aspect is '2': expected width : height"),
        (lambda a: fastnst.texture(a, strength="1"), "strength is '1': expected a number"),
        (lambda a: fastnst.stylize(a, a, max_megapixels="5"), "max_megapixels is '5'"),
        (lambda a: fastnst.stylize(a, a, checkpoint=5), "checkpoint and resume are paths"),
        (lambda a: fastnst.stylize(a, a, resume=5), "checkpoint and resume are paths"),
    ],
)
def test_what_is_of_another_type_is_one_line(call, message: str) -> None:
    with pytest.raises(fastnst.InvalidInput, match=message):
        call(np.zeros((32, 32, 3), np.float32))


@pytest.mark.parametrize("preset", ["gatys", "fast"])
@pytest.mark.parametrize("strength", [0, 0.2, 1])
def test_one_picture_alone_has_no_strength(preset: str, strength: float) -> None:
    """It would do nothing, or leave total variation alone to be optimised: a blank picture."""
    asked = {"preset": preset, "strength": strength, "size": 32, "iterations": 0}
    with pytest.raises(InvalidInput, match=f"strength is {strength}: a texture has no content"):
        fastnst.texture(STYLE, **asked)
    with pytest.raises(InvalidInput, match=f"strength is {strength}: a reconstruction has no"):
        fastnst.reconstruct(CONTENT, **asked)


def test_a_texture_that_does_not_fit_is_refused_before_it_takes_memory() -> None:
    with pytest.raises(InvalidInput, match="use --size"):
        fastnst.texture("sample:swirl", size=100_000)
