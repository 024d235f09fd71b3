"""What only a GPU can show of pictures in pieces: its numbers, its memory, ranks that share it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import fastnst
from fastnst.engines.create import create_engine
from fastnst.engines.strips.engine import StripEngine
from fastnst.engines.torch_engine import TorchEngine
from fastnst.evaluation import Evaluation
from fastnst.network.weights import Weights
from fastnst.objective.build import build_objective
from fastnst.run.memory import Need
from fastnst.settings.settings import Settings
from fastnst.strips.geometry import Grid, Spacing
from helpers.controls import picture
from helpers.pictures import smooth
from helpers.strips import CONTROLS, SHALLOW

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"),
]
DEVICE = torch.device("cuda")
HEIGHT, WIDTH = 107, 41
PLAIN = [name for name in CONTROLS if not name.startswith("blended") and name != "regions"]
CONTENT, STYLE = smooth(768, 1024), smooth(400, 440, seed=1)


def found(
    weights: Weights, settings: Settings, *, keep_features: bool = False
) -> tuple[Evaluation, StripEngine]:
    content = settings.content_layers if settings.content_weight else ()
    style = settings.style_layers if settings.style_weight else ()
    layers = weights.architecture.up_to((*content, *style))
    engine = create_engine(
        *(weights, picture(WIDTH, HEIGHT, 1), picture(41, 53, 2), settings),
        grid=Grid.cut(HEIGHT, WIDTH, Spacing.of(layers, (1,)), 32),
        device=DEVICE,
        keep_features=keep_features,
    )
    assert isinstance(engine, StripEngine)
    return engine.evaluate(picture(WIDTH, HEIGHT, 0)), engine


def exact(weights: Weights, settings: Settings) -> Evaluation:
    """In float64, in one piece, on the CPU."""
    content, style, image = (
        x.double()
        for x in (picture(WIDTH, HEIGHT, 1), picture(41, 53, 2), picture(WIDTH, HEIGHT, 0))
    )
    return TorchEngine(build_objective(weights, content, style, settings, "torch")).evaluate(image)


def cosine(got: Evaluation, expected: Evaluation) -> float:
    x, y = got.gradient.double().flatten(), expected.gradient.double().flatten()
    return float(torch.nn.functional.cosine_similarity(x, y, dim=0))


@pytest.mark.parametrize("engine", ["native", "torch"])
@pytest.mark.parametrize("control", PLAIN)
def test_pieces_in_float32_are_near_float64(
    random_weights: Weights, control: str, engine: str
) -> None:
    settings = Settings(**{**SHALLOW, **CONTROLS[control], "engine": engine, "precision": "fp32"})
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        got, _ = found(random_weights, settings)
    expected = exact(random_weights, settings)
    assert got.gradient.device.type == "cpu"
    assert float(got.terms.total) == pytest.approx(float(expected.terms.total), rel=1e-4)
    assert cosine(got, expected) >= 1 - 1e-4


@pytest.mark.parametrize("control", ["gram", "replicate", "max"])
def test_pieces_in_bfloat16_are_near_float64(random_weights: Weights, control: str) -> None:
    settings = Settings(**{**SHALLOW, **CONTROLS[control], "engine": "native", "precision": "bf16"})
    got, _ = found(random_weights, settings)
    expected = exact(random_weights, settings)
    assert got.precision == "bf16"
    assert float(got.terms.total) == pytest.approx(float(expected.terms.total), rel=2e-2)
    assert cosine(got, expected) >= 0.99


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_an_evaluation_has_the_same_bits_each_time(random_weights: Weights, precision: str) -> None:
    """And with the features kept between the two passes."""
    settings = Settings(**SHALLOW, engine="native", precision=precision)
    first, engine = found(random_weights, settings)
    expected = first.gradient.clone()
    image = picture(WIDTH, HEIGHT, 0)
    engine.evaluate(image.flip(3))
    assert torch.equal(engine.evaluate(image).gradient, expected)
    kept, _ = found(random_weights, settings, keep_features=True)
    assert torch.equal(kept.gradient, expected)


@pytest.mark.parametrize("precision", ["fp32", "mixed"])
def test_a_run_in_pieces_is_near_that_in_one(precision: str) -> None:
    fields = {"size": 1024, "iterations": 20, "device": "cuda", "precision": precision}
    whole = fastnst.stylize(CONTENT, STYLE, **fields)
    cut = fastnst.stylize(CONTENT, STYLE, memory="1GB", **fields)
    assert whole.strips == 1
    assert cut.strips > 1
    assert cut.device == "cuda"
    assert cut.losses.total == pytest.approx(whole.losses.total, rel=0.05)


def test_pieces_take_what_was_said() -> None:
    limit = 10**9
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    result = fastnst.stylize(
        CONTENT, STYLE, size=1024, iterations=2, device="cuda", precision="fp32", memory=limit
    )
    taken = torch.cuda.max_memory_allocated() - before
    need = Need(*result.size, Settings(precision="fp32"), DEVICE)
    assert taken <= limit
    assert taken < need.whole()
    print(f"{taken / 1e6:.0f} MB in {result.strips} pieces; whole {need.whole() / 1e6:.0f} MB said")


def test_ranks_share_a_gpu(tmp_path: Path) -> None:
    """One and two of them make one picture, bit for bit."""
    Image.fromarray(smooth(96, 400)).save(tmp_path / "content.png")
    Image.fromarray(smooth(80, 90, seed=1)).save(tmp_path / "style.png")
    made = []
    for ranks in (1, 2):
        output = tmp_path / f"{ranks}.png"
        command = [sys.executable, "-m", "fastnst", "stylize", "content.png", "style.png"]
        command += ["--ranks", str(ranks), "--device", "cuda", "--size", "400", "-o", str(output)]
        command += ["--preset", "gatys", "--iterations", "10", "--precision", "fp32"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        made.append(np.asarray(Image.open(output)))
    assert np.array_equal(*made)
