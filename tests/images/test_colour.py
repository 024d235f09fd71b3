"""Colours: matched in closed form and by histogram, and kept."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

import fastnst
from fastnst.images import colour
from fastnst.images.colour import grey, luminance, match_colours, match_histogram, with_colours_of
from helpers.pictures import smooth

CONTENT, STYLE = smooth(48, 36), smooth(40, 44, seed=1)


def tensor(seed: int, width: int = 64, height: int = 48) -> Tensor:
    """Well inside [0, 1], so that matching clips little."""
    picture = torch.from_numpy(smooth(width, height, seed).astype(np.float32) / 255)
    return 0.3 + 0.4 * picture.permute(2, 0, 1)[None]


def moments(image: Tensor) -> tuple[Tensor, Tensor]:
    flat = image[0].flatten(1).double()
    return flat.mean(1), torch.cov(flat, correction=0)


def test_mean_and_covariance_of_a_mixture() -> None:
    image, one, two = tensor(0), tensor(1), tensor(2)
    mean, covariance = moments(match_colours(image, [one, two], [0.5, 0.5]))
    both = torch.cat([one.flatten(2), two.flatten(2)], 2)[..., None]
    expected_mean, expected_covariance = moments(both)
    # the little that is clipped to [0, 1]
    torch.testing.assert_close(mean, expected_mean, atol=2e-3, rtol=0)
    torch.testing.assert_close(covariance, expected_covariance, atol=2e-3, rtol=0)


def distance(a: Tensor, b: Tensor) -> float:
    """The 1-Wasserstein distance of the colours along a hundred directions."""
    directions = torch.nn.functional.normalize(
        torch.randn(100, 3, generator=torch.Generator().manual_seed(9)), dim=1
    )
    return float(
        (
            (directions @ a[0].flatten(1)).sort().values
            - (directions @ b[0].flatten(1)).sort().values
        )
        .abs()
        .mean()
    )


def test_histograms_become_equal() -> None:
    image, reference = tensor(0), tensor(1)
    matched = match_histogram(image, reference)
    moments_only = match_colours(image, reference)
    assert distance(matched, reference) < 0.35 * distance(moments_only, reference)
    assert distance(matched, reference) < 0.005  # one level of 255
    assert torch.equal(matched, match_histogram(image, reference))
    # of another size, and already equal: nothing to do
    assert distance(match_histogram(image, tensor(1, 33, 21)), reference) < 0.02
    torch.testing.assert_close(match_histogram(image, image), image, atol=2e-3, rtol=0)


def test_one_colour_only_is_no_trouble() -> None:
    flat = torch.full((1, 3, 8, 8), 0.5)
    for function in (match_colours, match_histogram):
        assert torch.isfinite(function(flat, tensor(1))).all()
        matched = function(tensor(1), flat)
        torch.testing.assert_close(matched, torch.full_like(matched, 0.5), atol=5e-3, rtol=0)
    assert torch.isfinite(grey(flat, like=tensor(1))).all()


def test_luminance_and_colours_come_from_where_they_should() -> None:
    image, content = tensor(0), tensor(1)
    mixed = with_colours_of(image, content)
    torch.testing.assert_close(luminance(mixed), luminance(image), atol=1e-6, rtol=0)
    torch.testing.assert_close(
        mixed - luminance(mixed), content - luminance(content), atol=1e-6, rtol=0
    )
    y = grey(image, like=content)
    assert torch.equal(y[:, 0], y[:, 2])
    assert float(y.mean()) == pytest.approx(float(luminance(content).mean()), abs=1e-4)
    assert float(y[:, 0].std(correction=0)) == pytest.approx(
        float(luminance(content).std(correction=0)), abs=1e-3
    )


@pytest.mark.parametrize(
    "color", ["style", "original", "luminance", "match-covariance", "match-histogram"]
)
def test_every_way_in_a_run(color: str) -> None:
    steps = []
    result = fastnst.stylize(
        CONTENT, STYLE, color=color, size=48, iterations=6, init="content", averaging=0.0,
        callback=lambda step: steps.append(step.pixels),
    )  # fmt: skip
    assert result.losses.total < result.history[0].total
    if color in ("original", "luminance"):
        content = torch.from_numpy(CONTENT.astype(np.float32) / 255).permute(2, 0, 1)[None]
        for pixels in (result.pixels, steps[3]):
            picture = torch.from_numpy(pixels).permute(2, 0, 1)[None]
            inside = ((picture > 0) & (picture < 1)).all(1, keepdim=True)  # not clipped
            chroma = (picture - luminance(picture) - content + luminance(content)) * inside
            assert float(chroma.abs().max()) < 1e-5
            assert float(inside.float().mean()) > 0.5
    start = steps[0]
    if color != "luminance":
        np.testing.assert_allclose(start, CONTENT / 255, atol=1e-6)


def test_colours_are_put_back_by_strips_with_the_same_bits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    image, content = torch.rand(1, 3, 45, 31), torch.rand(1, 3, 45, 31)
    whole = (content + colour.luminance(image) - colour.luminance(content)).clamp(0, 1)
    for pixels in (1, 200, 1 << 20):
        monkeypatch.setattr(colour, "STRIP_PIXELS", pixels)
        assert torch.equal(colour.with_colours_of(image, content), whole)


def test_matched_histogram_of_a_drawing_has_the_colours_of_the_reference() -> None:
    """Most of it is of one white, which has to become the mean of what it stands for."""
    generator = torch.Generator().manual_seed(0)
    reference = torch.rand(1, 3, 48, 48, generator=generator)
    ink = (torch.rand(1, 1, 48, 48, generator=generator) - 0.3).clamp(0, 1) / 0.7
    drawing = (1 - (ink - 0.4).clamp(0, 1)).expand(1, 3, -1, -1).contiguous()
    for image in (drawing, 1 - drawing, torch.full_like(drawing, 0.5)):
        matched = match_histogram(image, reference)
        # A quantile in 1024 of a range of 1, and the clamp of what sticks out of it.
        assert torch.allclose(matched.mean((2, 3)), reference.mean((2, 3)), atol=0.01)


def test_a_mixture_has_the_moments_of_all_its_pixels() -> None:
    """Pictures of other means: what lies between them is part of the covariance."""
    one, two = 0.2 * tensor(1), 0.6 + 0.3 * tensor(2)
    found = colour.mixture([colour.moments(one), colour.moments(two)], [0.25, 0.75])
    mean, covariance = moments(torch.cat([one, two, two, two], -2))
    torch.testing.assert_close(found[0][:, 0], mean)
    torch.testing.assert_close(found[1], covariance, rtol=0, atol=2e-6)  # a little noise in it
