"""Content targets: given, kept, kept in a scratch file, computed anew."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fastnst.engines.create import Choice, create_engine, spacing
from fastnst.engines.strips.autograd import AutogradEvaluator
from fastnst.engines.strips.engine import StripEngine
from fastnst.engines.strips.targets import chosen
from fastnst.network.weights import Weights
from fastnst.ops import extension
from fastnst.settings.settings import Settings
from fastnst.strips.geometry import Grid
from fastnst.strips.storage import ScratchStore
from helpers.controls import picture
from helpers.strips import CONTROLS, SHALLOW, objective, spacing_of

ENGINES = ["torch"] + (["native"] if extension.is_available() else [])


@pytest.mark.parametrize("control", ["gram", "replicate", "poolings and preactivations"])
def test_targets_of_pieces_are_those_of_the_whole(random_weights: Weights, control: str) -> None:
    """In float64 and in tiles, against the targets that the objective was built with."""
    it, image = objective(random_weights, 83, 91, control, torch.float64)
    content = picture(91, 83, 1).double()  # which ``objective`` took
    grid = Grid.cut(83, 91, spacing_of(it), 32, 24)
    given = StripEngine(AutogradEvaluator(it), grid).evaluate(image)
    for keep in (True, False):
        made = chosen(content, keep, None)
        found = StripEngine(AutogradEvaluator(it), grid, made).evaluate(image)
        for key, loss in given.terms.content.items():
            assert float(loss) > 0
            # Float64, and up to six convolutions in another order.
            torch.testing.assert_close(found.terms.content[key], loss, rtol=1e-12, atol=0)
        torch.testing.assert_close(found.gradient, given.gradient, rtol=0, atol=1e-12)


@pytest.mark.parametrize("engine", ENGINES)
def test_however_they_are_had_the_bits_are_the_same(
    random_weights: Weights, engine: str, tmp_path: Path
) -> None:
    settings = Settings(engine=engine, precision="fp32", **{**SHALLOW, **CONTROLS["squared"]})
    content, style, image = (picture(37, n, k) for n, k in ((131, 1), (48, 2), (131, 0)))
    layers = random_weights.architecture.up_to({*settings.content_layers, *settings.style_layers})
    cuts = spacing(settings, layers, Choice(torch.device("cpu"), engine, "fp32"))
    grid = Grid.cut(131, 37, cuts, cuts.smallest)
    assert len(grid) > 1
    found = []
    with ScratchStore(tmp_path) as store:
        for keep, there in ((True, None), (True, store), (False, None), (False, store)):
            made = create_engine(
                *(random_weights, content, style, settings), grid=grid, store=there, keep=keep
            )
            one = made.evaluate(image)
            found.append((float(one.terms.total), one.gradient.clone()))
    assert store.size > image.numel() * 4  # the gradient, and targets once
    for total, gradient in found[1:]:
        assert total == found[0][0]
        assert torch.equal(gradient, found[0][1])


def test_a_picture_without_content_has_none(random_weights: Weights) -> None:
    it, image = objective(random_weights, 83, 31, "style alone", torch.float64)
    grid = Grid.cut(83, 31, spacing_of(it), 32)
    for keep in (True, False):
        engine = StripEngine(AutogradEvaluator(it), grid, chosen(image, keep, None))
        assert dict(engine.evaluate(image).terms.content) == {}


def test_other_precisions_have_the_targets_of_the_objective(random_weights: Weights) -> None:
    """bf16 compares with targets in float32, as it does where the picture is whole."""
    settings = Settings(engine="torch", precision="bf16", **SHALLOW)
    content = picture(37, 131, 1)
    layers = random_weights.architecture.up_to({*settings.content_layers, *settings.style_layers})
    cuts = spacing(settings, layers, Choice(torch.device("cpu"), "torch", "bf16"))
    grid = Grid.cut(131, 37, cuts, cuts.smallest)
    style = picture(37, 48, 2)
    with torch.no_grad():
        at_start = create_engine(
            random_weights, content, style, replace(settings, style_weight=0.0), grid=grid
        ).evaluate(content)
    assert float(at_start.terms.total) > 0  # F in bfloat16 less P in float32
