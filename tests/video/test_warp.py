"""Warps against their definition, in float64, pixel by pixel."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from fastnst.video.warp import inside, warp


def kernel(x: float) -> float:
    """The cubic B-spline β³."""
    x = abs(x)
    return 2 / 3 - x**2 + x**3 / 2 if x < 1 else max(0.0, 2 - x) ** 3 / 6


def mirrored(k: int, count: int) -> int:
    period = max(2 * (count - 1), 1)
    return min(k % period, period - k % period) if count > 1 else 0


def through(count: int) -> np.ndarray:
    """From coefficients to the pixels that they make."""
    matrix = np.zeros((count, count))
    for pixel in range(count):
        for k in range(pixel - 1, pixel + 2):
            matrix[pixel, mirrored(k, count)] += kernel(pixel - k)
    return matrix


def oracle(image: np.ndarray, flow: np.ndarray, mode: str) -> np.ndarray:
    height, width, _ = image.shape
    coefficients, reach, weight = image, 1, lambda x: max(0.0, 1 - abs(x))
    if mode == "spline":
        coefficients = np.einsum("ij,jkc->ikc", np.linalg.inv(through(height)), image)
        coefficients = np.einsum("kj,ijc->ikc", np.linalg.inv(through(width)), coefficients)
        reach, weight = 2, kernel
    out = np.zeros_like(image)
    for i in range(height):
        for j in range(width):
            x = min(max(j + flow[i, j, 0], 0), width - 1)
            y = min(max(i + flow[i, j, 1], 0), height - 1)
            for row in range(math.floor(y) - reach, math.floor(y) + reach + 2):
                for column in range(math.floor(x) - reach, math.floor(x) + reach + 2):
                    at = mirrored(row, height), mirrored(column, width)
                    out[i, j] += weight(y - row) * weight(x - column) * coefficients[at]
    return out


@pytest.mark.parametrize("mode", ["bilinear", "spline"])
@pytest.mark.parametrize(("height", "width"), [(7, 9), (5, 1), (2, 3)])
def test_a_warp_is_its_definition(mode: str, height: int, width: int) -> None:
    generator = np.random.default_rng(0)
    image = generator.random((height, width, 3))
    flow = generator.normal(0, 1.5, (height, width, 2)).astype(np.float32)
    tensor = torch.from_numpy(image.transpose(2, 0, 1))[None]
    got = warp(tensor, torch.from_numpy(flow), mode)[0].permute(1, 2, 0).numpy()
    # float64; positions go to [−1, 1] and back
    np.testing.assert_allclose(got, oracle(image, flow.astype(float), mode), rtol=0, atol=1e-12)


def test_a_spline_keeps_fine_strokes() -> None:
    """Moved by half a pixel and back eight times, strokes of four pixels keep their contrast."""
    strokes = torch.sin(torch.arange(64) * 2 * math.pi / 4 + 0.7).expand(1, 1, 4, 64).contiguous()
    kept = {}
    for mode in ("bilinear", "spline"):
        image = strokes
        for k in range(16):
            flow = torch.zeros(4, 64, 2)
            flow[..., 0] = 0.5 if k % 2 else -0.5
            image = warp(image, flow, mode)
        kept[mode] = float(image[..., 16:48].std() / strokes[..., 16:48].std())
    assert kept["spline"] > 0.6
    assert kept["bilinear"] < 0.01


@pytest.mark.parametrize("mode", ["bilinear", "spline"])
def test_no_motion_changes_nothing(mode: str) -> None:
    image = torch.rand(1, 3, 6, 11, generator=torch.Generator().manual_seed(0))
    # float64 within, so that float32 pictures come back whole
    assert torch.equal(warp(image, torch.zeros(6, 11, 2), mode), image)


def test_a_flow_to_the_right_takes_from_the_right() -> None:
    image = torch.arange(5.0).expand(1, 1, 3, 5)
    flow = torch.zeros(3, 5, 2)
    flow[..., 0] = 2
    assert warp(image, flow)[0, 0, 1].tolist() == [2, 3, 4, 4, 4]
    assert inside(flow)[1].tolist() == [True, True, True, False, False]
