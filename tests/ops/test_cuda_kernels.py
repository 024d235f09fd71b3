"""The kernels of csrc/cuda on a CPU, instruction by instruction (tests/cuda_emulator), against
float64. What only hardware can show is in test_cuda_ops.py.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from fastnst.ops import buffers
from fastnst.ops import extension as extension_module
from fastnst.ops import gram as gram_calls
from helpers.cuda_bounds import SUMS, check_gradient, check_gram
from helpers.cuda_emulator.library import (
    MODES,
    NEEDED,
    PRECISIONS,
    Emulator,
    Features,
    Gradient,
    GradientLayer,
    GramLayer,
    Mode,
    Style,
    broken_library,
    shared_library,
)

pytestmark = NEEDED

DTYPES = (torch.float32, torch.bfloat16)
LAYOUTS = ("nchw", "nhwc")
TILE, FLUSH = 64, 256  # of csrc/cuda: rows of a tile; positions between two flushes


@pytest.fixture(scope="module")
def compiled() -> Emulator:
    return shared_library()


@pytest.fixture(
    params=[Mode(), Mode(order=1, early_copies=True, at_end=False)], ids=["end", "begin"]
)
def emulator(compiled: Emulator, request: pytest.FixtureRequest) -> Emulator:
    torch.manual_seed(0)
    return replace(compiled, mode=request.param)


def layout(x: Tensor, name: str) -> Tensor:
    """(B, C, N) with positions (nchw) or channels (nhwc) contiguous."""
    return x.contiguous() if name == "nchw" else x.mT.contiguous().mT


def gradient_layer(x: Tensor, out_dtype: torch.dtype, *, accumulate: bool, mask: bool) -> Gradient:
    batch, channels, _ = x.shape
    out = torch.empty_like(x, dtype=out_dtype).normal_()
    return Gradient(x, torch.randn(batch, channels, channels), 0.37, mask, out, accumulate)


def check(emulator: Emulator, x: Tensor, precision: str) -> None:
    """Both operations on one layer."""
    target = torch.randn(x.shape[1], x.shape[1])
    check_gram(x, target, precision, emulator.gram([Style(x, target)], precision)[0])
    for accumulate, mask, dtype in ((True, True, x.dtype), (False, False, torch.float32)):
        layer = gradient_layer(x, dtype, accumulate=accumulate, mask=mask)
        check_gradient(layer, precision, emulator.gradient([layer], precision)[0])


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("channels", [1, 3, 17, 64, 65, 100])
def test_odd_shapes(emulator: Emulator, channels: int, precision: str) -> None:
    for positions, dtype, name in product((1, 7, 33, 300), DTYPES, LAYOUTS):
        batch = 2 if positions == 7 else 1
        check(emulator, layout(torch.randn(batch, channels, positions).to(dtype), name), precision)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(("channels", "positions"), [(64, 600), (128, 136), (256, 72), (512, 40)])
def test_channels_of_vgg(compiled: Emulator, channels: int, positions: int, precision: str) -> None:
    torch.manual_seed(0)
    for dtype, name in product(DTYPES, LAYOUTS):
        check(compiled, layout(torch.randn(1, channels, positions).to(dtype), name), precision)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("dtype", DTYPES, ids=["float32", "bfloat16"])
def test_other_strides(emulator: Emulator, dtype: torch.dtype, precision: str) -> None:
    wide = torch.randn(4, 80, 140).to(dtype)
    views = [
        wide[::2, ::2, ::3],  # no stride is 1
        wide[:, 1:70, 3:],  # contiguous positions, not aligned
        wide.transpose(0, 1)[:20],  # samples inside of channels
        layout(wide, "nhwc")[:, :72, ::2],  # contiguous channels, every other position
        layout(wide, "nhwc")[:, 3:, :99],
        torch.randn(1, 30, 1).to(dtype).expand(3, 30, 50),  # strides of zero
    ]
    for x in views:
        check_gram(x, None, precision, emulator.gram([Style(x)], precision)[0])
        layer = gradient_layer(x.contiguous(), dtype, accumulate=True, mask=True)
        layer = replace(layer, features=x)
        check_gradient(layer, precision, emulator.gradient([layer], precision)[0])


@pytest.mark.parametrize("dtype", DTYPES, ids=["float32", "bfloat16"])
@pytest.mark.parametrize("out_dtype", DTYPES, ids=["to float32", "to bfloat16"])
@pytest.mark.parametrize("names", list(product(LAYOUTS, LAYOUTS)), ids="-".join)
def test_out_has_a_type_and_layout_of_its_own(
    emulator: Emulator, dtype: torch.dtype, out_dtype: torch.dtype, names: tuple[str, str]
) -> None:
    for channels, positions in ((40, 72), (67, 66)):
        x = layout(torch.randn(2, channels, positions).to(dtype), names[0])
        for accumulate in (False, True):
            layer = gradient_layer(x, out_dtype, accumulate=accumulate, mask=accumulate)
            out = layer.out if accumulate else torch.full_like(layer.out, torch.nan)
            layer = replace(layer, out=layout(out, names[1]))
            check_gradient(layer, "fp32", emulator.gradient([layer], "fp32")[0])


def test_around_the_blocks(emulator: Emulator) -> None:
    # one position more or less than a stage, a flush, and (65537) than the chunks of 256 can take
    for dtype, positions in product(DTYPES, (31, 32, 63, 64, 65, 255, 256, 257, 513, 65537)):
        for name, channels in product(LAYOUTS, (TILE - 1, TILE) if positions < 257 else (8,)):
            x = layout(torch.randn(1, channels, positions).to(dtype), name)
            check_gram(x, None, "bf16", emulator.gram([Style(x)], "bf16")[0])


@pytest.mark.parametrize("dtype", DTYPES, ids=["float32", "bfloat16"])
def test_a_quarter_of_a_million_positive_positions(emulator: Emulator, dtype: torch.dtype) -> None:
    # relu1_1 of a 512 x 512 picture. No error cancels, and the emulated tensor cores round all
    # sums down: 256 positions are 16 or 32 such roundings of 6e-8 of a growing sum, half each.
    # Without the flush the sum of a chunk of 1024 would lose four times as much. Random values: the
    # partial sums of a constant with few bits are exact however they are summed.
    x = torch.rand(1, 3, 512 * 512).add(0.5).to(dtype)
    if dtype == torch.float32:
        x = (x.view(torch.int32) & ~0x1FFF).view(torch.float32)  # exact in TF32
    gram, _, _ = emulator.gram([Style(x)], "bf16")[0]
    truth = x.double() @ x.double().mT / x.shape[2]
    assert ((gram.double() - truth).abs() <= SUMS * truth).all()


def test_many_layers_of_all_kinds_at_once(emulator: Emulator) -> None:
    shapes = [(1, 64, 300), (2, 5, 31), (1, 130, 40), (3, 1, 1), (1, 16, 640)]
    kinds = list(product(shapes, DTYPES, LAYOUTS))  # twenty: more than a launch takes
    xs = [layout(torch.randn(shape).to(dtype), name) for shape, dtype, name in kinds]
    targets = [torch.randn(x.shape[1], x.shape[1]) for x in xs]
    together = emulator.gram([Style(*pair) for pair in zip(xs, targets, strict=True)], "bf16")
    for x, target, result in zip(xs, targets, together, strict=True):
        check_gram(x, target, "bf16", result)
        alone = emulator.gram([Style(x, target)], "bf16")[0]
        assert all(map(torch.equal, result, alone))
    layers = [gradient_layer(x, x.dtype, accumulate=True, mask=True) for x in xs]
    for layer, result in zip(layers, emulator.gradient(layers, "bf16"), strict=True):
        check_gradient(layer, "bf16", result)


def test_targets_and_what_is_asked_for(emulator: Emulator) -> None:
    x = torch.randn(3, 70, 90)
    shared, own = torch.randn(70, 70), torch.randn(3, 70, 70)
    results = emulator.gram(
        [
            Style(x, shared),
            Style(x, own),
            Style(x, own, wants_gram=False),
            Style(x, own, wants_difference=False),
            Style(x),
        ],
        "fp32",
    )
    check_gram(x, shared, "fp32", results[0])
    check_gram(x, own, "fp32", results[1])
    assert results[2][0] is None
    assert results[3][1] is None
    assert results[4][1] is results[4][2] is None
    for result in results[1:]:
        for value, expected in zip(result, results[1], strict=True):
            assert value is None or torch.equal(value, expected)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_not_a_number_and_infinity(emulator: Emulator, value: float) -> None:
    for dtype, name, precision in product(DTYPES, LAYOUTS, PRECISIONS):
        x = torch.randn(1, 21, 90).abs().to(dtype)
        x[0, 5] = 0
        x[0, 3, 44] = value
        x = layout(x, name)
        target = torch.rand(21, 21)
        gram, difference, loss = emulator.gram([Style(x, target)], precision)[0]
        # one factor at a time: a sum of products in another order has the same NaN and infinities
        expected = (x.float()[:, :, None] * x.float()[:, None]).sum(-1)
        for test in (torch.isnan, torch.isposinf, torch.isneginf):
            assert torch.equal(test(gram), test(expected))
            assert torch.equal(test(difference), test(expected))
        assert not torch.isfinite(loss)
        layer = replace(
            gradient_layer(x, dtype, accumulate=False, mask=True), difference=torch.ones(1, 21, 21)
        )
        result = emulator.gradient([layer], precision)[0]
        masked = x <= 0
        assert (result[masked] == 0).all()
        assert torch.isfinite(result[..., :44]).all()
        kept = result[..., 44][~masked[..., 44]]
        assert (kept.isnan() if math.isnan(value) else kept == value * layer.scale).all()


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_same_bits_in_every_order_of_threads_and_blocks(
    compiled: Emulator, precision: str
) -> None:
    torch.manual_seed(0)
    xs = [
        layout(torch.randn(shape).to(dtype), name)
        for shape, dtype, name in product([(2, 65, 300), (1, 128, 80)], DTYPES, LAYOUTS)
    ]
    styles = [Style(x, torch.randn(x.shape[1], x.shape[1])) for x in xs]
    layers = [gradient_layer(x, x.dtype, accumulate=True, mask=True) for x in xs]
    results = []
    for mode in MODES:
        emulator = replace(compiled, mode=mode)
        grams = emulator.gram(styles, precision)
        results.append([*(y for result in grams for y in result)])
        results[-1] += emulator.gradient(layers, precision)
    for result in results[1:]:
        assert all(map(torch.equal, result, results[0]))


def test_without_tensor_cores_all_is_float(compiled: Emulator) -> None:
    torch.manual_seed(0)
    turing = replace(compiled, mode=Mode(tensor_cores=False))
    for dtype in DTYPES:
        x = torch.randn(1, 70, 90).to(dtype)
        layer = gradient_layer(x, dtype, accumulate=True, mask=True)
        for precision in ("tf32", "bf16"):
            for ours, exact in (
                (turing.gram([Style(x)], precision)[0][0], compiled.gram([Style(x)], "fp32")[0][0]),
                (turing.gradient([layer], precision)[0], compiled.gradient([layer], "fp32")[0]),
            ):
                assert torch.equal(ours, exact)


def test_wrong_calls(compiled: Emulator) -> None:
    error = ctypes.create_string_buffer(300)
    features = compiled._features(torch.randn(1, 3, 4))
    layers = (GramLayer * 1)(GramLayer(features, None, None, 0, None, None))
    size = compiled.library.emulator_gram_workspace(layers, 1)
    workspace = compiled.allocate(size)
    run = compiled.library.emulator_gram
    for place, count, message in (
        (workspace, size - 16, b"workspace: too small"),
        (workspace + 8, size, b"workspace: expected an address that is a multiple of 16"),
        (None, size, b"workspace: null pointer"),
    ):
        assert run(layers, 1, 0, place, count, error, len(error)) == 1
        assert error.value == message
    layers[0].features.positions = 0
    assert run(layers, 1, 0, workspace, size, error, len(error)) == 1
    assert b"must be at least 1" in error.value
    compiled.library.emulator_free_all()


def test_python_queues_the_work(compiled: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """ops/native.py's way to a GPU, with the emulator in the place of the extension."""
    library, places = compiled.library, []
    error = ctypes.create_string_buffer(300)

    def structures(layers: list[tuple]) -> ctypes.Array:
        if len(layers[0]) == 6:
            return (GramLayer * len(layers))(*((Features(*f), *rest) for f, *rest in layers))
        return (GradientLayer * len(layers))(
            *((Features(*f), *rest, *strides) for f, *rest, strides in layers)
        )

    def call(name: str) -> Callable[..., None]:
        def run(layers: list, precision: int, memory: int, size: int, *where: int) -> None:
            places.append(where)
            found = structures(layers)
            function = getattr(library, f"emulator_{name}")
            assert not function(found, len(layers), precision, memory, size, error, len(error))

        return run

    def sizes(name: str) -> Callable[..., int]:
        function = getattr(library, f"emulator_{name}_workspace")
        return lambda layers: function(structures(layers), len(layers))

    extension = SimpleNamespace(
        cuda_gram=call("gram"),
        cuda_gram_workspace=sizes("gram"),
        cuda_gram_gradient=call("gradient"),
        cuda_gram_gradient_workspace=sizes("gradient"),
    )
    empty, stream = torch.empty, SimpleNamespace(cuda_stream=77)
    monkeypatch.setattr(extension_module, "_C", extension)
    monkeypatch.setattr(torch, "empty", lambda *size, device, **rest: empty(*size, **rest))
    monkeypatch.setattr(torch.cuda, "device", nullcontext)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: stream)
    library.emulator_set(0, 0, 0, 1)
    x, target = torch.rand(2, 5, 6, 7), torch.rand(5, 5)
    gram, difference, loss = torch.rand(2, 5, 5), torch.rand(2, 5, 5), torch.rand(1)
    layer = (buffers.describe_tensor(x), gram.data_ptr(), target.data_ptr(), 0)
    gpu = torch.device("cuda", 1)
    gram_calls.queue_gram([(*layer, difference.data_ptr(), loss.data_ptr())], [x], "fp32", gpu)
    check_gram(x.flatten(2), target, "fp32", (gram, difference, loss))
    out = torch.rand(2, 5, 6, 7).to(memory_format=torch.channels_last)
    asked = Gradient(x.flatten(2), difference, 0.5, True, out.clone().flatten(2), True)
    layer_of_gradient = gram_calls.gradient_layer(x, difference, 0.5, True, True, out)
    gram_calls.queue_gram_gradient([layer_of_gradient], [x], "fp32", gpu)
    check_gradient(asked, "fp32", out.flatten(2))
    assert places == [(1, 77)] * 2


# ------------------------------------------------------------- does the emulator see mistakes? --


def test_an_access_beyond_a_buffer_is_seen(compiled: Emulator) -> None:
    x = torch.randn(1, 8, 2048)
    layer = GramLayer(compiled._features(x), None, None, 0, None, None)
    layer.features.channels += 1  # there is no such channel
    with pytest.raises(RuntimeError, match="gram_partials: an access beyond a buffer"):
        compiled._call("gram", (GramLayer * 1)(layer), "fp32")
    compiled.library.emulator_free_all()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("left_out", "message"),
    [("EMULATOR_WITHOUT_WAITS", "ended with copies under way"), ("EMULATOR_WITHOUT_BARRIERS", "")],
)
def test_a_missing_wait_is_seen(left_out: str, message: str, tmp_path: Path) -> None:
    broken = broken_library(tmp_path, f"-D{left_out}")
    x = torch.randn(1, 64, 128)
    if message:
        with pytest.raises(RuntimeError, match=message):
            broken.gram([Style(x)], "fp32")
        return
    # copies that arrive when their own thread waits are not there for the threads before it
    grams = [replace(broken, mode=mode).gram([Style(x)], "fp32")[0][0] for mode in MODES]
    assert all(gram.isnan().any() for gram in grams)
