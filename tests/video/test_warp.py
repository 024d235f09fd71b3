"""Warps against their definition, in float64, pixel by pixel."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from fastnst.video.warp import inside, warp


def taps(mode: str, t: float) -> dict[int, float]:
    """The weights of the pixels around a position t in [0, 1) past one of them."""
    if mode == "bilinear":
        return {0: 1 - t, 1: t}
    a = -0.75  # Keys 1981, with the coefficient of torch

    def near(x: float) -> float:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1

    def far(x: float) -> float:
        return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a

    return {-1: far(t + 1), 0: near(t), 1: near(1 - t), 2: far(2 - t)}


def oracle(image: np.ndarray, flow: np.ndarray, mode: str) -> np.ndarray:
    height, width, _ = image.shape
    out = np.zeros_like(image)
    for i in range(height):
        for j in range(width):
            x = min(max(j + flow[i, j, 0], 0), width - 1)
            y = min(max(i + flow[i, j, 1], 0), height - 1)
            for dy, wy in taps(mode, y - math.floor(y)).items():
                for dx, wx in taps(mode, x - math.floor(x)).items():
                    row = min(max(math.floor(y) + dy, 0), height - 1)
                    column = min(max(math.floor(x) + dx, 0), width - 1)
                    out[i, j] += wy * wx * image[row, column]
    return out


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("height", "width"), [(7, 9), (5, 1), (2, 3)])
def test_a_warp_is_its_definition(mode: str, height: int, width: int) -> None:
    generator = np.random.default_rng(0)
    image = generator.random((height, width, 3))
    flow = generator.normal(0, 1.5, (height, width, 2)).astype(np.float32)
    if mode == "bicubic":  # beyond the edge torch extends what it is to interpolate, not the result
        ys, xs = np.mgrid[:height, :width]
        flow[..., 0] = np.clip(flow[..., 0] + xs, 0, width - 1) - xs
        flow[..., 1] = np.clip(flow[..., 1] + ys, 0, height - 1) - ys
    tensor = torch.from_numpy(image.transpose(2, 0, 1))[None]
    got = warp(tensor, torch.from_numpy(flow), mode)[0].permute(1, 2, 0).numpy()
    # float64; positions go to [−1, 1] and back
    np.testing.assert_allclose(got, oracle(image, flow.astype(float), mode), rtol=0, atol=1e-12)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
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
