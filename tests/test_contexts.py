"""A run inside whatever modes of PyTorch its caller has set: the bits of a plain run."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import fastnst
from fastnst.engines import mixed_engine
from fastnst.engines.create import create_engine, unavailable_reason
from fastnst.evaluation import Engine
from fastnst.network.weights import Weights
from fastnst.settings.settings import Settings
from helpers.engines import pictures
from helpers.pictures import smooth

LAYERS = {"content_layers": ("relu2_1",), "style_layers": ("relu1_1", "relu2_1", "relu3_1")}
RUNS: dict[str, dict[str, Any]] = {
    "native": {"engine": "native"},
    "native, spectral, replicate": {
        "engine": "native", "optimizer": "spectral", "padding": "replicate", "tv_weight": 1.0,
    },
    "native, moments, matched": {
        "engine": "native", "statistics": ("covariance", "wasserstein"),
        "color": "match-histogram", "init": "matched",
    },
    "torch": {"engine": "torch"},
    "torch, adam": {"engine": "torch", "optimizer": "adam", "averaging": 0.9},
    "torch, torch-lbfgs": {"engine": "torch", "optimizer": "torch-lbfgs"},
    "torch, mixed": {"engine": "torch", "precision": "mixed"},
    "onnx": {"engine": "onnx"},
}  # fmt: skip
Result = tuple[np.ndarray, list[fastnst.Losses]]


@contextlib.contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextlib.contextmanager
def default_device(name: str) -> Iterator[None]:
    torch.set_default_device(name)
    try:
        yield
    finally:
        torch.set_default_device(None)


@contextlib.contextmanager
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


CONTEXTS: dict[str, Callable[[], contextlib.AbstractContextManager[object]]] = {
    "default dtype float16": lambda: default_dtype(torch.float16),
    "default dtype bfloat16": lambda: default_dtype(torch.bfloat16),
    "default dtype float64": lambda: default_dtype(torch.float64),
    "default device meta": lambda: default_device("meta"),
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "inference mode": lambda: torch.inference_mode(),
    "no_grad": lambda: torch.no_grad(),
    "deterministic algorithms": deterministic,
    "grad disabled": lambda: torch.set_grad_enabled(False),
}


@pytest.fixture(autouse=True)
def _precision_changes_after_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the four iterations of a run in mixed precision, some are in each."""
    monkeypatch.setattr(mixed_engine, "WINDOW", 2)
    monkeypatch.setattr(mixed_engine, "PROGRESS", 1.0)


@pytest.fixture(scope="module")
def weights_file(random_weights: Weights, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "shallow.safetensors"
    tensors = {key: x.contiguous() for key, x in random_weights.tensors.items()}
    save_file(tensors, path, {"preprocessing": "torchvision"})
    return path


def stylize(weights: Path, run: str) -> Result:
    engine = RUNS[run]["engine"]
    if reason := unavailable_reason(engine, torch.device("cpu")):
        pytest.skip(reason)
    options = {"size": 40, "iterations": 4, "weights": str(weights), **LAYERS, **RUNS[run]}
    result = fastnst.stylize(smooth(40, 33), smooth(36, 41, seed=1), **options)
    assert result.engine == engine
    return result.pixels, result.history


@pytest.fixture(scope="module")
def plain(weights_file: Path) -> Callable[[str], Result]:
    """The results without any context, each computed once."""
    found: dict[str, Result] = {}

    def of(run: str) -> Result:
        if run not in found:
            found[run] = stylize(weights_file, run)
        return found[run]

    return of


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("run", RUNS)
def test_a_run_has_the_bits_of_a_plain_run(
    weights_file: Path, plain: Callable[[str], Result], run: str, context: str
) -> None:
    pixels, history = plain(run)
    with CONTEXTS[context]():
        got, losses = stylize(weights_file, run)
    assert losses == history
    assert np.array_equal(got, pixels)


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("engine", ["native", "torch", "onnx"])
def test_an_engine_made_and_used_in_a_context(
    random_weights: Weights, engine: str, context: str
) -> None:
    """Pictures, engine and evaluation, all of them made inside; then the engine used outside."""
    if reason := unavailable_reason(engine, torch.device("cpu")):
        pytest.skip(reason)
    settings = Settings(engine=engine, tv_weight=1.0, **LAYERS)
    content, style, image = pictures(37, 30)
    made = create_engine(random_weights, content, style, settings)
    expected = values(made, image)
    with CONTEXTS[context]():
        content, style, image = content.clone(), style.clone(), image.clone()
        inside = create_engine(random_weights, content, style, settings)
        assert values(inside, image) == expected
    assert values(inside, image) == expected


def values(engine: Engine, image: torch.Tensor) -> tuple[list[float], list[float]]:
    evaluation = engine.evaluate(image)
    terms = evaluation.terms
    losses = [terms.total, terms.tv, *terms.content.values(), *terms.style.values()]
    return [float(x) for x in losses], evaluation.gradient.flatten().tolist()
