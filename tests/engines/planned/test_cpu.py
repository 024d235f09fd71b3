"""The plan on a CPU: against autograd, on every layer set, and its reuse of buffers.

tests/objective/test_objective.py holds every engine to the float64 oracle; here are the cases of
this one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from typing import Any

import pytest
import torch

from fastnst.cache import Cache
from fastnst.engines.create import create_engine
from fastnst.engines.planned import cpu
from fastnst.engines.planned.cpu import NativeEngine
from fastnst.engines.torch_engine import TorchEngine
from fastnst.errors import BackendUnavailable
from fastnst.evaluation import Evaluation
from fastnst.network.weights import Weights, load_weights
from fastnst.objective.build import build_objective
from fastnst.ops import convolution, extension
from fastnst.settings.settings import Settings
from helpers.engines import SETTINGS, compare, pictures
from helpers.oracle import objective

pytestmark = pytest.mark.skipif(not extension.is_available(), reason="no compiled extension")


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def engines(
    weights: Weights, settings: Settings, width: int, height: int
) -> tuple[NativeEngine, TorchEngine, torch.Tensor]:
    content, style, image = pictures(width, height)
    planned = create_engine(weights, content, style, settings)
    assert isinstance(planned, NativeEngine)
    return planned, TorchEngine(build_objective(weights, content, style, settings, "torch")), image


@pytest.mark.parametrize("pooling", ["average", "max"])
@pytest.mark.parametrize(("width", "height"), [(48, 32), (37, 51)])
@pytest.mark.parametrize("settings", SETTINGS)
def test_equals_autograd(
    random_weights: Weights, settings: Settings, width: int, height: int, pooling: str
) -> None:
    settings = Settings(**{**settings.to_dict(), "pooling": pooling})
    planned, autograd, image = engines(random_weights, settings, width, height)
    compare(planned.evaluate(image), autograd.evaluate(image))


@pytest.mark.parametrize("isa", extension.available_isas() if extension.is_available() else [])
@pytest.mark.parametrize("tile", [4, 6])
def test_the_whole_network_equals_float64(
    tile: int, isa: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """VGG-19 to pool5, where every kind of layer has a loss; every layer in tiles of one size."""
    monkeypatch.setattr(import_module("fastnst._C"), "winograd_tile", lambda *_: tile)
    settings = Settings(
        content_layers=("relu4_2",),
        style_layers=("relu1_1", "relu2_1", "relu3_1", "relu4_1", "pool5"),
        pooling="max",
    )
    weights = load_weights()
    content, style, image = pictures(43, 38)
    with extension.use_isa(isa):
        got = create_engine(weights, content, style, settings).evaluate(image)
    x = image[0].double().requires_grad_()
    loss = objective(
        x,
        content[0].double(),
        style[0].double(),
        weights.tensors,
        content_layers=settings.content_layers,
        layer_weights=settings.layer_weights(),
        alpha=settings.content_weight,
        beta=settings.style_weight,
        kind="max",
    )
    (gradient,) = torch.autograd.grad(loss, x)
    assert float(got.terms.total) == pytest.approx(float(loss.detach()), rel=1e-5)
    mine = got.gradient.double().flatten()
    cosine = torch.nn.functional.cosine_similarity(mine, gradient.flatten(), dim=0)
    assert float(cosine) >= 0.99999


@pytest.mark.parametrize("pooling", ["average", "max"])
@pytest.mark.parametrize("settings", SETTINGS)
def test_bfloat16_is_near_float32(
    random_weights: Weights, settings: Settings, pooling: str
) -> None:
    if not extension.convolves_bfloat16():
        pytest.skip("no bfloat16 products here")
    fp32 = Settings(**{**settings.to_dict(), "pooling": pooling, "precision": "fp32"})
    exact, _, image = engines(random_weights, fp32, 37, 50)
    rounded, _, _ = engines(random_weights, replace(fp32, precision="bf16"), 37, 50)
    assert rounded.precision == "bf16"
    got, expected = rounded.evaluate(image), exact.evaluate(image)
    # up to five layers of 1 % error each; sums of many features average it out
    assert float(got.terms.total) == pytest.approx(float(expected.terms.total), rel=2e-2)
    x, y = got.gradient.flatten(), expected.gradient.flatten()
    # in max pooling rounding also changes who is the largest of four nearly equal values
    cosine = float(torch.nn.functional.cosine_similarity(x, y, dim=0))
    assert cosine >= (0.99 if pooling == "average" else 0.98)


@pytest.mark.parametrize("pooling", ["average", "max", "l2"])
@pytest.mark.parametrize("settings", SETTINGS)
def test_bfloat16_on_the_way_back(
    random_weights: Weights, settings: Settings, pooling: str
) -> None:
    """The losses are those of float32 to the bit, and so are the features behind them."""
    if not extension.convolves_bfloat16():
        pytest.skip("no bfloat16 products here")
    fp32 = Settings(**{**settings.to_dict(), "pooling": pooling, "precision": "fp32"})
    exact, _, image = engines(random_weights, fp32, 37, 50)
    engine = NativeEngine(exact.objective, back="bf16")
    got, expected = engine.evaluate(image), exact.evaluate(image)
    assert got.precision == engine.precision == "fp32"
    assert torch.equal(got.terms.total, expected.terms.total)
    error = (got.gradient - expected.gradient).norm() / expected.gradient.norm()
    # up to five layers of 1 % error each, all of which lie on the way of every pixel
    assert error <= 3e-2
    assert (error > 0) == (len(engine.layers) > 1)  # the first layer's products stay in float32
    again = NativeEngine(exact.objective, back="bf16", tile=6).evaluate(image)
    error = (again.gradient - got.gradient).norm() / expected.gradient.norm()
    assert error <= 3e-2


@pytest.mark.parametrize("pooling", ["average", "max", "l2"])
@pytest.mark.parametrize("settings", SETTINGS)
def test_int16_both_ways(random_weights: Weights, settings: Settings, pooling: str) -> None:
    if not extension.multiplies_integers():
        pytest.skip("no products of int16 here")
    fp32 = Settings(**{**settings.to_dict(), "pooling": pooling, "precision": "fp32"})
    exact, _, image = engines(random_weights, fp32, 37, 50)
    rounded, _, _ = engines(random_weights, replace(fp32, precision="int16"), 37, 50)
    got, expected = rounded.evaluate(image), exact.evaluate(image)
    assert got.precision == rounded.precision == "int16"
    # up to five layers of 1e-3 each, and random filters, whose features differ by less than those
    # of pictures; sums of many features average it out
    assert float(got.terms.total) == pytest.approx(float(expected.terms.total), rel=1e-3)
    error = (got.gradient - expected.gradient).norm() / expected.gradient.norm()
    # in max pooling rounding also changes who is the largest of four nearly equal values
    assert error <= (5e-2 if pooling == "max" else 2e-2)
    assert (error > 0) == (len(rounded.layers) > 1)  # the first layer's products stay in float32


@pytest.mark.parametrize(
    ("precision", "back"),
    [("fp32", None), ("fp32", "fp32"), ("fp32", "bf16"), ("int16", None), ("int16", "int16")],
)
@pytest.mark.parametrize("tile", [None, 4, 6])
def test_each_way_has_its_filters(
    random_weights: Weights,
    precision: str,
    back: str | None,
    tile: int | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What the kernels are asked for, on every processor."""
    asked = set()
    convolve = cpu.convolution.convolve

    def note(x: torch.Tensor, filters: convolution.Filters, *rest: Any, **options: Any) -> None:
        asked.add((filters.gradient, x.dtype, filters.dtype, options["tile"]))
        convolve(x, replace(filters, dtype=torch.float32, _transformed={}), *rest, **options)

    monkeypatch.setattr(cpu.convolution, "convolve", note)
    # filters in int16 are transformed when they are first wanted, which is never
    settings = Settings(content_layers=("relu2_1",), style_layers=("relu1_1",))
    exact, _, image = engines(random_weights, settings, 20, 24)
    NativeEngine(exact.objective, precision, tile=tile, back=back).evaluate(image)
    products = cpu.PRODUCTS[precision]
    way_back = (products, tile)
    if back == "bf16":
        way_back = (torch.bfloat16, None)
    float32 = torch.float32
    assert asked == {(False, float32, products, tile), (True, float32, *way_back)}


def test_bfloat16_by_autograd_is_near_float32(random_weights: Weights) -> None:
    content, style, image = pictures(40, 33)
    settings = replace(SETTINGS[0], engine="torch")
    exact = create_engine(random_weights, content, style, settings).evaluate(image)
    engine = create_engine(random_weights, content, style, replace(settings, precision="bf16"))
    assert (engine.name, engine.precision) == ("torch", "bf16")
    got = engine.evaluate(image)
    assert got.gradient.dtype == torch.float32
    assert float(got.terms.total) == pytest.approx(float(exact.terms.total), rel=2e-2)
    cosine = torch.nn.functional.cosine_similarity(
        got.gradient.flatten(), exact.gradient.flatten(), dim=0
    )
    assert float(cosine) >= 0.99


def test_bfloat16_that_cannot_run_is_an_error_with_the_reason(random_weights: Weights) -> None:
    content, style, _ = pictures(20, 20)
    settings = replace(SETTINGS[0], engine="native", precision="bf16")
    with (
        extension.use_isa("scalar"),
        pytest.raises(BackendUnavailable, match="needs a processor with avx512bf16"),
    ):
        create_engine(random_weights, content, style, settings)
    settings = replace(settings, precision="fp32")
    exact = build_objective(random_weights, content, style, settings, "native")
    with (
        extension.use_isa("scalar"),
        pytest.raises(BackendUnavailable, match="in bfloat16 need neonbf16 or avx512bf16"),
    ):
        NativeEngine(exact, back="bf16").evaluate(content)


def test_buffers_are_reused_and_nothing_is_left_in_them(random_weights: Weights) -> None:
    settings = SETTINGS[5]
    planned, _, first = engines(random_weights, settings, 41, 30)
    second = pictures(41, 30, 4)[3]
    a = planned.evaluate(first)
    memory, kept = a.gradient.data_ptr(), a.gradient.clone()
    assert planned.evaluate(second).gradient.data_ptr() == memory
    again = planned.evaluate(first)
    assert torch.equal(again.gradient, kept)
    assert torch.equal(again.terms.total, a.terms.total)
    assert all(torch.equal(again.terms.style[key], a.terms.style[key]) for key in a.terms.style)
    fresh, _, _ = engines(random_weights, settings, 41, 30)
    compare_exactly(fresh.evaluate(second), planned.evaluate(second))


def compare_exactly(a: Evaluation, b: Evaluation) -> None:
    assert torch.equal(a.gradient, b.gradient)
    assert torch.equal(a.terms.total, b.terms.total)


def test_filters_for_other_tiles_are_given_up(random_weights: Weights) -> None:
    """A run goes on in strips, which have tiles of one size, with what a smaller scale has left."""
    planned, _, image = engines(random_weights, SETTINGS[0], 45, 33)
    cache = Cache()
    before = NativeEngine(planned.objective, cache=cache, tile=4)
    expected = before.evaluate(image).terms.total
    filters = [*before._filters.forward.values(), *before._filters.backward.values()]
    assert {tile for each in filters for tile in each._transformed} == {4}
    after = NativeEngine(planned.objective, cache=cache, tile=6)
    assert not any(each._transformed for each in filters)
    assert float(after.evaluate(image).terms.total) == pytest.approx(float(expected), rel=1e-5)
    assert {tile for each in filters for tile in each._transformed} == {6}
    assert torch.equal(before.evaluate(image).terms.total, expected)  # they are made anew


def test_the_same_bits_for_every_number_of_threads(random_weights: Weights, threads: None) -> None:
    results = []
    for count in (1, 2, 5):
        torch.set_num_threads(count)
        planned, _, image = engines(random_weights, SETTINGS[0], 45, 33)
        evaluation = planned.evaluate(image)
        results.append(evaluation.gradient.clone())
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_pictures_of_another_size_make_a_new_plan(random_weights: Weights) -> None:
    settings = Settings(content_weight=0.0, style_layers=("relu1_1", "relu2_1"))
    planned, autograd, image = engines(random_weights, settings, 24, 32)
    for x in (image, image[..., :17, :21], image):
        compare(planned.evaluate(x), autograd.evaluate(x))


def test_buffers_that_could_not_be_had_leave_the_engine_as_it_was(
    random_weights: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(content_weight=0.0, style_layers=("relu1_1", "relu2_1"))
    planned, _, image = engines(random_weights, settings, 24, 32)
    found = planned.evaluate(image)
    total, gradient = found.terms.total.clone(), found.gradient.clone()

    def refuse(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(cpu, "Workspace", refuse)
    with pytest.raises(MemoryError):
        planned.evaluate(image[..., :17, :21].contiguous())
    monkeypatch.undo()
    again = planned.evaluate(image)
    assert torch.equal(again.terms.total, total)
    assert torch.equal(again.gradient, gradient)


def test_the_total_variation_alone_needs_no_plan(random_weights: Weights) -> None:
    settings = Settings(content_weight=0.0, style_weight=0.0, tv_weight=1.0)
    content, style, image = pictures(20, 20)
    engine = create_engine(random_weights, content, style, settings)
    assert isinstance(engine, TorchEngine)
    assert engine.name == "native"
    assert float(engine.evaluate(image).terms.total) > 0
