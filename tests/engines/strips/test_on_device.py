"""A picture in main memory whose pieces are computed elsewhere."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from fastnst.engines.create import create_engine
from fastnst.engines.strips.autograd import AutogradEvaluator
from fastnst.engines.strips.engine import StripEngine
from fastnst.engines.strips.on_device import OnDevice
from fastnst.engines.strips.targets import chosen
from fastnst.errors import InvalidInput
from fastnst.losses import TemporalLoss
from fastnst.network.architecture import VGG19
from fastnst.network.weights import Weights
from fastnst.objective.regions import Region
from fastnst.settings.settings import Settings
from fastnst.strips.geometry import Grid, Spacing
from helpers.controls import picture
from helpers.elsewhere import ELSEWHERE, TwoSides
from helpers.strips import CONTROLS, SHALLOW, objective, spacing_of

CPU = torch.device("cpu")
HEIGHT, WIDTH = 107, 41
EIGHT = 8  # bytes of a number in float64


def settings_of(control: str, **further: str) -> Settings:
    return Settings(**{**SHALLOW, **CONTROLS[control], **further})


def grid_of(settings: Settings) -> Grid:
    content = settings.content_layers if settings.content_weight else ()
    style = settings.style_layers if settings.style_weight else ()
    return Grid.cut(HEIGHT, WIDTH, Spacing.of(VGG19.up_to((*content, *style)), (1,)), 32)


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("features", [True, False])
def test_it_computes_what_its_evaluator_does(
    random_weights: Weights, keep: bool, features: bool
) -> None:
    it, image = objective(random_weights, HEIGHT, WIDTH, "several statistics", torch.float32)
    grid = Grid.cut(HEIGHT, WIDTH, spacing_of(it), 32)
    content = picture(WIDTH, HEIGHT, 1)
    own, there = (
        StripEngine(evaluator, grid, chosen(content, keep, None), keep=features)
        for evaluator in (AutogradEvaluator(it), OnDevice(AutogradEvaluator(it)))
    )
    expected, found = own.evaluate(image), there.evaluate(image)
    assert torch.equal(found.gradient, expected.gradient)
    assert found.terms.total == expected.terms.total


@pytest.mark.parametrize("precision", ["fp32", "bf16", "mixed"])
@pytest.mark.parametrize("engine", ["torch", "native"])
@pytest.mark.parametrize("control", CONTROLS)
def test_nothing_is_left_on_the_wrong_side(
    random_weights: Weights, control: str, engine: str, precision: str
) -> None:
    """Every operator has all its tensors on one side, and the result lies in main memory."""
    settings = settings_of(control, engine=engine, precision=precision)
    styles, regions = [picture(41, 53, 2)], None
    if control.startswith("blended") or control == "regions":
        styles.append(picture(38, 44, 3))
    if control == "regions":
        left = torch.linspace(1, 0, WIDTH).expand(HEIGHT, WIDTH)
        regions = (Region({0: None}, left, "left"), Region({1: None}, 1 - left, "right"))
    image = picture(WIDTH, HEIGHT, 0)
    with TwoSides() as sides:
        grid = grid_of(settings)
        engine_ = create_engine(
            *(random_weights, picture(WIDTH, HEIGHT, 1), styles, settings, regions),
            grid=grid,
            device=ELSEWHERE,
        )
        found = engine_.evaluate(image)
    assert sides.copied["there"] > image.nbytes
    assert {found.gradient.device, found.terms.total.device} == {CPU}
    assert found.gradient.shape == image.shape


def test_a_frame_of_a_film_in_pieces(random_weights: Weights) -> None:
    """Its temporal term sees the picture, which is in main memory."""
    settings = settings_of("gram")
    term = TemporalLoss(picture(WIDTH, HEIGHT, 4), torch.ones(1, 1, HEIGHT, WIDTH))
    with TwoSides():
        engine = create_engine(
            *(random_weights, picture(WIDTH, HEIGHT, 1), picture(41, 53, 2), settings),
            grid=grid_of(settings),
            temporal=(2.0, term),
            device=ELSEWHERE,
        )
        found = engine.evaluate(picture(WIDTH, HEIGHT, 0))
    assert found.terms.temporal is not None
    assert float(found.terms.temporal) > 0


def test_pixels_go_there_and_a_gradient_comes_back(random_weights: Weights) -> None:
    """Of each computed pixel 24 bytes in an evaluation, if features are kept between the passes.

    What else goes is small: Gram matrices come back by piece, and go as seeds.
    """
    settings = settings_of("gram", engine="native", precision="fp32")
    grid = grid_of(settings)
    content, style, image = picture(WIDTH, HEIGHT, 1), picture(41, 53, 2), picture(WIDTH, HEIGHT, 0)
    with TwoSides() as sides:
        engine = create_engine(
            *(random_weights, content, style, settings),
            grid=grid,
            device=ELSEWHERE,
            keep_features=True,
        )
        sides.copied = {"there": 0, "here": 0}
        engine.evaluate(image)
    pixels = 12 * grid.computed_pixels
    channels = {"relu1_1": 64, "relu2_1": 128, "relu3_1": 256}
    triangles = EIGHT * sum(c * (c + 1) // 2 for c in channels.values())
    targets = 4 * 128 * (HEIGHT // 2) * (WIDTH // 2)
    assert sides.copied["here"] == pixels + len(grid) * (triangles + EIGHT) + 3 * EIGHT
    # In the first pass and in the second.
    assert sides.copied["there"] <= pixels + 2 * targets + triangles


def test_a_picture_on_the_device_is_refused_where_it_is_cut(random_weights: Weights) -> None:
    settings = settings_of("gram")
    content, style = (picture(WIDTH, HEIGHT, k).to(ELSEWHERE) for k in (1, 2))
    with pytest.raises(InvalidInput, match="in pieces lies in main memory, and this one on meta"):
        create_engine(random_weights, content, style, settings, grid=grid_of(settings))


def test_tensors_on_both_sides_are_an_error() -> None:
    """A negative control of the device that computes nothing."""
    here, there = torch.ones(3), torch.ones(3, device=ELSEWHERE)
    with TwoSides() as sides:
        with pytest.raises(AssertionError, match="cpu and meta"):
            here + there
        assert (here + there.cpu()).tolist() == [1.0, 1.0, 1.0]
        assert (here.to(ELSEWHERE) + there).device == ELSEWHERE
    assert sides.copied == {"there": 12, "here": 12}


def test_pieces_on_the_cpu_stay_there(random_weights: Weights) -> None:
    """Whether the CPU is named or left out."""
    settings = replace(settings_of("gram"), engine="torch")
    given = (random_weights, picture(WIDTH, HEIGHT, 1), picture(41, 53, 2), settings)
    image = picture(WIDTH, HEIGHT, 0)
    plain, said = (
        create_engine(*given, grid=grid_of(settings), device=device) for device in (None, CPU)
    )
    expected = plain.evaluate(image).gradient.clone()
    assert torch.equal(said.evaluate(image).gradient, expected)


@pytest.mark.parametrize("fails", [False, True])
def test_what_goes_to_a_gpu_is_pinned_where_that_can_be_had(
    random_weights: Weights, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    it, image = objective(random_weights, HEIGHT, WIDTH, "gram", torch.float32)
    there = OnDevice(AutogradEvaluator(it))
    there._device = torch.device("cuda")
    pinned = image.clone()

    def pin_memory(_: torch.Tensor) -> torch.Tensor:
        if fails:
            raise RuntimeError("CUDA error: out of memory")
        return pinned

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin_memory)
    monkeypatch.setattr(torch.Tensor, "to", lambda self, *where, **how: (self, where, how))
    sent, where, how = there._there(image)
    assert sent is (image if fails else pinned)
    assert where == (torch.device("cuda"),)
    assert how == {"non_blocking": True}
