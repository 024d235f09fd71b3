"""What only a GPU can show: recorded iterations, the engine's numbers, and running out of memory.

``python tools/gpu_check.py`` runs these and the rest of what has to be seen on hardware.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import fastnst
from fastnst.engines.create import create_engine
from fastnst.engines.planned.cuda import PlannedEngine
from fastnst.engines.planned.cudnn import CHOICE, convolve, fused
from fastnst.engines.planned.kernels import KernelEngine
from fastnst.engines.torch_engine import TorchEngine
from fastnst.evaluation import Evaluation
from fastnst.network.weights import Weights, load_weights
from fastnst.objective.build import build_objective
from fastnst.ops import device as kernels
from fastnst.settings.settings import Settings
from fastnst.solvers.device.cuda_graph import WARM_UP, CudaGraph
from fastnst.solvers.device.lbfgs import DeviceLBFGS
from fastnst.solvers.device.loop import minimise_on_device
from fastnst.solvers.device.steps import KernelSteps
from helpers.engines import SETTINGS, pictures
from helpers.pictures import smooth

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"),
]
DEVICE = torch.device("cuda")
CONTENT, STYLE = smooth(48, 36), smooth(40, 44, seed=1)
SMALL = {"size": 48, "iterations": 20}


@pytest.fixture(params=[False, True], ids=["fp32", "tf32"])
def tf32(request: pytest.FixtureRequest) -> Iterator[bool]:
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=request.param):
        yield request.param


@pytest.fixture
def strict() -> Iterator[None]:
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield


def built(
    weights: Weights, settings: Settings, width: int, height: int
) -> tuple[PlannedEngine, Tensor]:
    content, style, image = (x.to(DEVICE) for x in pictures(width, height))
    engine = create_engine(weights, content, style, settings)
    assert isinstance(engine, PlannedEngine)
    return engine, image


def exact(weights: Weights, settings: Settings, width: int, height: int) -> tuple[Tensor, Tensor]:
    """Loss and gradient in float64 on the CPU."""
    content, style, image = (x.double() for x in pictures(width, height))
    engine = TorchEngine(build_objective(weights, content, style, settings, "torch"))
    evaluation = engine.evaluate(image)
    return evaluation.terms.total, evaluation.gradient


def near(engine: PlannedEngine, image: Tensor, truth: tuple[Tensor, Tensor], error: float) -> None:
    """Loss and direction of the gradient off by no more than ``error``."""
    evaluation = engine.evaluate(image)
    total, gradient = truth
    assert float(evaluation.terms.total) == pytest.approx(float(total), rel=error)
    mine = evaluation.gradient.double().cpu().flatten()
    cosine = torch.nn.functional.cosine_similarity(mine, gradient.flatten(), dim=0)
    assert float(cosine) >= 1 - error


@pytest.mark.parametrize("pooling", ["average", "max", "l2"])
@pytest.mark.parametrize(("width", "height"), [(48, 32), (37, 51)])
@pytest.mark.parametrize("settings", SETTINGS)
def test_the_engine_in_float32_is_near_float64(
    random_weights: Weights, settings: Settings, width: int, height: int, pooling: str, tf32: bool
) -> None:
    chosen = Settings(**{**settings.to_dict(), "pooling": pooling})
    truth = exact(random_weights, chosen, width, height)
    engine, image = built(random_weights, chosen, width, height)
    # TF32 rounds at 2⁻¹¹, twice five layers; max pooling then also takes other maxima
    near(engine, image, truth, (2e-2 if pooling == "max" else 5e-3) if tf32 else 1e-4)


@pytest.mark.parametrize("settings", SETTINGS)
def test_the_engine_in_bfloat16_is_near_float64(
    random_weights: Weights, settings: Settings
) -> None:
    chosen = Settings(**{**settings.to_dict(), "precision": "bf16"})
    engine, image = built(random_weights, chosen, 37, 50)
    near(engine, image, exact(random_weights, chosen, 37, 50), 2e-2)  # as on a CPU


@pytest.mark.parametrize(
    "control",
    [
        {"padding": "replicate", "tv_weight": 3.0},
        {"statistics": ("covariance", "mean-std")},
        {"statistics": ("wasserstein",)},
        {"gradient_norm": "l1"},
    ],
)
def test_the_controls(random_weights: Weights, control: dict, strict: None) -> None:
    chosen = Settings(**{**SETTINGS[0].to_dict(), **control})
    engine, image = built(random_weights, chosen, 37, 50)
    near(engine, image, exact(random_weights, chosen, 37, 50), 1e-3)


def test_the_whole_network(strict: None) -> None:
    settings = Settings(style_layers=("relu1_1", "relu2_1", "relu3_1", "relu4_1", "pool5"))
    weights = load_weights()
    engine, image = built(weights, settings, 130, 97)
    near(engine, image, exact(weights, settings, 130, 97), 1e-3)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_one_evaluation_gives_the_same_bits_each_time(precision: str) -> None:
    engine, image = built(load_weights(), Settings(precision=precision), 130, 97)
    first = engine.evaluate(image).gradient.clone()
    for _ in range(5):
        assert torch.equal(engine.evaluate(image).gradient, first)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_bias_and_relu_in_the_convolution_change_nothing(precision: str) -> None:
    engine, _ = built(load_weights(), Settings(precision=precision), 64, 64)
    tried = 0
    for filters in engine.filters.values():
        x = torch.rand(1, filters.forward.shape[1], 33, 21, device=DEVICE)
        x = x.to(filters.forward.dtype).contiguous(memory_format=torch.channels_last)
        if not CHOICE.fuses(x, filters, 1):
            continue
        tried += 1
        got = fused(x, filters, 1).float()
        expected = convolve(x, filters.forward, filters.bias).relu().float()
        # rounded once after bias and ReLU, not after each: 2⁻⁸ in bfloat16, 2⁻¹¹ in TF32
        assert float((got - expected).norm()) <= 0.01 * float(expected.norm())
    if not tried:
        pytest.skip("cuDNN has no such convolution here")


def test_the_kernels_are_in_use() -> None:
    """A build for this GPU computes with its kernels: matrix products would pass too."""
    assert kernels.unavailable_reason(torch.device("cuda", 0)) is None
    engine, image = built(load_weights(), Settings(), 64, 64)
    assert isinstance(engine, KernelEngine)
    assert isinstance(DeviceLBFGS(image, engine.evaluate, 3).steps, KernelSteps)


# ------------------------------------------------------------------------------------ recording --


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("optimizer", ["lbfgs", "spectral"])
@pytest.mark.parametrize("settings", SETTINGS)
def test_a_replayed_run_is_the_run_itself(
    random_weights: Weights, settings: Settings, optimizer: str, precision: str
) -> None:
    chosen = Settings(**{**settings.to_dict(), "precision": precision})
    runs = []
    for record in (False, True):
        engine, image = built(random_weights, chosen, 41, 34)
        iterates = minimise_on_device(
            engine.evaluate,
            image,
            iterations=25,
            history_size=6,
            optimizer=optimizer,
            record=record,
        )
        runs.append([(i.loss, i.image.clone()) for i in iterates])
    assert len(runs[0]) == len(runs[1]) == 26
    for (loss, image), (other, picture) in zip(*runs, strict=True):
        assert loss == other
        assert torch.equal(image, picture)


def test_a_failure_is_undone_inside_the_graph(random_weights: Weights) -> None:
    """One bad evaluation, by a counter on the device: the graph goes on from the best picture."""
    engine, image = built(random_weights, SETTINGS[0], 32, 32)
    count = torch.zeros((), device=DEVICE)

    def evaluate(x: Tensor) -> Evaluation:
        evaluation = engine.evaluate(x)
        count.add_(1)
        evaluation.gradient.masked_fill_(count == 9, float("nan"))
        return evaluation

    iterates = [
        (i.iteration, i.evaluations, i.loss, bool(i.image.isfinite().all()))
        for i in minimise_on_device(evaluate, image, iterations=20)
    ]
    assert [e - i for i, e, _, _ in iterates] == [1] * 8 + [2] * 13
    assert all(finite for *_, finite in iterates)
    assert iterates[-1][2] < iterates[0][2]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("spectral", [False, True])
def test_an_iteration_waits_for_nothing(
    random_weights: Weights, precision: str, spectral: bool
) -> None:
    settings = Settings(**{**SETTINGS[5].to_dict(), "precision": precision, "tv_weight": 1.0})
    engine, image = built(random_weights, settings, 41, 34)
    solver = DeviceLBFGS(image, engine.evaluate, 4, spectral=spectral)
    solver.begin()
    solver.advance()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(6):
            solver.advance()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_an_evaluation_is_replayed_with_new_pictures(random_weights: Weights) -> None:
    engine, image = built(random_weights, SETTINGS[0], 40, 33)
    place = image.clone()
    results: list[Tensor] = []

    def work() -> None:
        results[:] = [engine.evaluate(place).gradient]

    replayed = CudaGraph(work, DEVICE)
    for shift in range(WARM_UP + 4):
        place.copy_(image.roll(shift, 3))
        replayed()
        got = results[0].clone()
        assert torch.equal(got, engine.evaluate(place).gradient)
    assert replayed.graph is not None


# ------------------------------------------------------------------------------------ whole runs --


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_engine_is_the_default_and_the_loss_falls(precision: str) -> None:
    result = fastnst.stylize(CONTENT, STYLE, precision=precision, device="cuda", **SMALL)
    assert (result.engine, result.precision) == ("native", precision)
    assert result.device.startswith("cuda")
    assert result.evaluations == 21
    assert result.losses.total < result.history[0].total / 2


def test_every_step_has_its_own_picture(strict: None) -> None:
    seen = []

    def callback(step: fastnst.Step) -> None:
        seen.append((step.losses.total, step.pixels.copy()))

    asked = {**SMALL, "precision": "fp32", "device": "cuda"}
    result = fastnst.stylize(CONTENT, STYLE, callback=callback, **asked)
    scaled = fastnst.load_pictures(CONTENT, STYLE, result.settings, 48)
    weights = fastnst.load_weights()
    objective = build_objective(weights, scaled.content, scaled.style, result.settings, "torch")
    for total, pixels in seen:
        with torch.no_grad():
            image = torch.from_numpy(pixels).permute(2, 0, 1)[None]
            assert float(objective(image).total) == pytest.approx(total, rel=1e-3)
    assert len(seen) == 21


def test_a_resumed_run_is_bit_identical(tmp_path: Path) -> None:
    whole = fastnst.stylize(CONTENT, STYLE, device="cuda", **SMALL)

    def stop(step: fastnst.Step) -> None:
        if step.iteration == 9:
            raise KeyboardInterrupt

    path = tmp_path / "run.checkpoint"
    with pytest.raises(fastnst.Interrupted):
        fastnst.stylize(CONTENT, STYLE, checkpoint=path, callback=stop, device="cuda", **SMALL)
    second = fastnst.stylize(CONTENT, STYLE, resume=path, device="cuda", **SMALL)
    assert second.history == whole.history
    assert np.array_equal(second.pixels, whole.pixels)


@pytest.mark.parametrize("optimizer", ["torch-lbfgs", "adam"])
def test_the_host_leads_the_other_solvers(optimizer: str) -> None:
    result = fastnst.stylize(CONTENT, STYLE, optimizer=optimizer, device="cuda", **SMALL)
    assert result.losses.total < result.history[0].total


def test_a_run_after_another_is_the_same_run() -> None:
    """What the first leaves in caches and flags changes nothing."""
    first, second = (fastnst.stylize(CONTENT, STYLE, device="cuda", **SMALL) for _ in range(2))
    assert first.history == second.history
    assert np.array_equal(first.pixels, second.pixels)


def test_two_runs_side_by_side_are_those_of_one_after_another() -> None:
    """In threads, on as many GPUs as there are."""
    devices = [f"cuda:{n % torch.cuda.device_count()}" for n in range(2)]

    def run(device: str) -> fastnst.Result:
        return fastnst.stylize(CONTENT, STYLE, device=device, **SMALL)

    alone = [run(device) for device in devices]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(run, devices))
    for one, other in zip(alone, together, strict=True):
        assert one.history == other.history
        assert np.array_equal(one.pixels, other.pixels)


def test_mixed_precision_goes_from_bfloat16_to_float32_without_leaving_the_device() -> None:
    asked = {**SMALL, "iterations": 80, "precision": "mixed"}
    result = fastnst.stylize(CONTENT, STYLE, device="cuda", **asked)
    assert result.precision == "mixed"
    exact = fastnst.stylize(CONTENT, STYLE, device="cuda", **{**asked, "precision": "fp32"})
    assert result.losses.total == pytest.approx(exact.losses.total, rel=0.1)


@pytest.mark.parametrize("allowed", [False, True])
def test_the_result_says_whether_float32_was_tf32(allowed: bool) -> None:
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=allowed):
        result = fastnst.stylize(CONTENT, STYLE, device="cuda", precision="fp32", **SMALL)
    assert result.tf32 is (allowed and torch.cuda.get_device_capability() >= (8, 0))


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="one GPU")
def test_a_second_gpu_does_all_of_it() -> None:
    first = fastnst.stylize(CONTENT, STYLE, device="cuda:0", **SMALL)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(0)
    before = torch.cuda.memory_allocated(0)
    second = fastnst.stylize(CONTENT, STYLE, device="cuda:1", **SMALL)
    assert second.device == "cuda:1"
    assert torch.cuda.max_memory_allocated(0) == before
    assert torch.cuda.current_device() == 0
    assert second.losses.total == pytest.approx(first.losses.total, rel=0.02)


def test_a_gpu_that_runs_out_of_memory_names_a_size_that_fits() -> None:
    total = torch.cuda.mem_get_info()[1]
    torch.cuda.empty_cache()
    # a run at 1024 × 768 takes about 1.5 GiB: it has to end in the middle, and not at the edge
    torch.cuda.set_per_process_memory_fraction(0.7 * 2**30 / total)
    try:
        with pytest.raises(fastnst.InvalidInput, match=r"ran out of memory.*use --size \d+"):
            fastnst.stylize(CONTENT, STYLE, size=1024, iterations=5, device="cuda")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()
    assert fastnst.stylize(CONTENT, STYLE, device="cuda", **SMALL).evaluations == 21
