"""The loss modules: closed forms, gradients, and life outside fastnst."""

from __future__ import annotations

import pytest
import torch

from fastnst import (
    ContentLoss,
    CovarianceLoss,
    InvalidInput,
    MeanStdLoss,
    Normalization,
    StyleLoss,
    TemporalLoss,
    TotalVariationLoss,
    WassersteinLoss,
    gram_matrix,
)
from fastnst.losses import WeightedLoss
from fastnst.losses.gradients import normalise_gradient


def test_content_loss_is_the_mean_square() -> None:
    target = torch.zeros(1, 2, 3, 4)
    assert float(ContentLoss(target)(torch.full_like(target, 3))) == 9
    with pytest.raises(InvalidInput, match=r"\(1, 2, 3, 5\).*\(1, 2, 3, 4\)"):
        ContentLoss(target)(torch.zeros(1, 2, 3, 5))


def test_style_loss_of_constants() -> None:
    # F = a everywhere: G = a² everywhere; A = 1: mean (a² − 1)² = 9 for a = 2
    loss = StyleLoss(torch.ones(5, 5))
    assert float(loss(torch.full((1, 5, 6, 7), 2.0))) == pytest.approx(9)


def test_style_loss_ignores_where_and_how_large() -> None:
    features = torch.rand(1, 4, 6, 6)
    loss = StyleLoss(gram_matrix(features)[0])
    shuffled = features.flatten(2)[:, :, torch.randperm(36)].reshape(1, 4, 6, 6)
    assert float(loss(shuffled)) < 1e-12
    assert float(loss(features.repeat(1, 1, 2, 3))) < 1e-12


def test_total_variation_of_a_checkerboard_and_of_one_pixel() -> None:
    board = (torch.arange(6).view(-1, 1) + torch.arange(8)) % 2
    assert float(TotalVariationLoss()(board[None, None].float())) == 2
    assert float(TotalVariationLoss()(torch.ones(1, 3, 1, 1))) == 0
    ramp = torch.arange(5.0).expand(1, 1, 4, 5)
    assert float(TotalVariationLoss()(ramp)) == 1


def test_gradients_by_finite_differences() -> None:
    features = torch.rand(1, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    target = torch.rand(1, 3, 4, 5, dtype=torch.float64)
    modules = [
        ContentLoss(target),
        StyleLoss(gram_matrix(target)[0], backend="torch"),
        TotalVariationLoss(),
    ]
    for module in modules:
        assert torch.autograd.gradcheck(module, features)


def test_normalization() -> None:
    module = Normalization((0.5, 0.25, 0.0), (0.5, 0.25, 2.0))
    out = module(torch.ones(2, 3, 1, 1))
    assert out[0].flatten().tolist() == [1, 3, 0.5]


def test_modules_move_and_save_like_others() -> None:
    module = torch.nn.Sequential(StyleLoss(torch.ones(2, 2)), ContentLoss(torch.ones(1)))
    assert set(module.state_dict()) == {"0.target_gram", "1.target"}
    assert module.double()[0].target_gram.dtype == torch.float64
    assert not list(module.parameters())


@pytest.mark.parametrize(("norm", "order"), [("l1", 1), ("l2", 2)])
def test_a_normalised_gradient_has_length_one_whatever_its_size(norm: str, order: int) -> None:
    """Sums in float32 of this many values are off by some per mille."""
    gradient = torch.randn(3, 1_500_000, generator=torch.Generator().manual_seed(0))
    found = normalise_gradient(gradient, norm).double()
    # a quotient of two float32 numbers, each rounded once
    assert float(torch.linalg.vector_norm(found, order)) == pytest.approx(1, rel=2e-7)
    assert not normalise_gradient(torch.zeros(4), norm).any()


@pytest.mark.parametrize("loss", [CovarianceLoss, MeanStdLoss, WassersteinLoss])
def test_moments_are_those_of_one_picture_with_the_channels_of_the_targets(loss: type) -> None:
    features = torch.rand(1, 5, 6, 7)
    it = loss(*loss.statistics(features))
    assert float(it(features)) == pytest.approx(0, abs=1e-5)
    for wrong in (features[0], features.repeat(2, 1, 1, 1)):
        message = rf"features: expected shape \(1, C, H, W\), got \({wrong.shape[0]}, "
        with pytest.raises(InvalidInput, match=message):
            it(wrong)
        with pytest.raises(InvalidInput, match=message):
            loss.statistics(wrong)
    for channels in (1, 4):
        with pytest.raises(InvalidInput, match=f"expected 5 channels, got {channels}"):
            it(torch.rand(1, channels, 6, 7))


def test_what_sees_the_picture_refuses_others() -> None:
    with pytest.raises(InvalidInput, match="tv_form color: expected 3 channels, got 1"):
        TotalVariationLoss("color")(torch.rand(1, 1, 4, 4))
    temporal = TemporalLoss(torch.rand(1, 3, 4, 5), torch.ones(1, 1, 4, 5))
    with pytest.raises(InvalidInput, match=r"\(1, 3, 1, 5\) and the warped frame \(1, 3, 4, 5\)"):
        temporal(torch.rand(1, 3, 1, 5))


def test_a_sum_of_sums_is_in_parts_with_the_products_of_its_weights() -> None:
    features = torch.rand(1, 3, 4, 5)
    first = StyleLoss(gram_matrix(features)[0])
    second = WassersteinLoss(*WassersteinLoss.statistics(features))
    inner = WeightedLoss([first, second], [2.0, 3.0])
    outer = WeightedLoss([inner, first], [5.0, 7.0])
    assert outer.parts() == [(10.0, first), (15.0, second), (7.0, first)]
    assert outer.needs_host  # one of them is enough
    assert not WeightedLoss([first, first], [1.0, 1.0]).needs_host


def test_a_covariance_that_rounding_left_without_a_root_has_a_gradient() -> None:
    """As that of features in bfloat16: its eigenvalues may lie below zero."""
    features = torch.rand(1, 4, 6, 7)
    loss = WassersteinLoss(*WassersteinLoss.statistics(features))
    mean = torch.ones(4)
    gram = (torch.outer(mean, mean) - 1e-3 * torch.eye(4)).requires_grad_()
    value = loss.of_moments(mean, gram)
    (gradient,) = torch.autograd.grad(value, gram)
    assert torch.isfinite(value)
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sums_over_half_precision_are_taken_in_float32(dtype: torch.dtype) -> None:
    """A sum of a hundred thousand squares is infinite in float16, and stands still in bfloat16.

    The tolerance is for the order of float32's sums of as many numbers.
    """
    generator = torch.Generator().manual_seed(0)
    f, g = (torch.randn(1, 256, 32, 32, generator=generator).to(dtype) for _ in range(2))
    expected = (f.float() - g.float()).square().mean()
    torch.testing.assert_close(ContentLoss(g)(f), expected, rtol=1e-5, atol=0)
    x, y = (torch.rand(1, 3, 512, 512, generator=generator).to(dtype) for _ in range(2))
    for form in ("squared", "absolute", "nine-point", "color"):
        loss = TotalVariationLoss(form)
        torch.testing.assert_close(loss(x), loss(x.float()), rtol=1e-5, atol=0)
    everywhere = torch.ones(1, 1, 512, 512, dtype=dtype)
    expected = (x.float() - y.float()).square().mean()
    torch.testing.assert_close(TemporalLoss(y, everywhere)(x), expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("backend", ["auto", "torch"])
def test_targets_made_in_inference_mode(backend: str) -> None:
    f = torch.rand(1, 64, 32, 32)
    with torch.inference_mode():
        target = gram_matrix(f + 1)[0]
    x = f.requires_grad_()
    StyleLoss(target, backend=backend)(x).backward()
    assert x.grad is not None


def test_a_loaded_state_is_all_of_it() -> None:
    generator = torch.Generator().manual_seed(0)
    f, g, x = (torch.randn(1, 8, 9, 9, generator=generator) for _ in range(3))
    loss, other = (WassersteinLoss(*WassersteinLoss.statistics(y)) for y in (f, g))
    assert float(loss(x)) != float(other(x))
    loss.load_state_dict(other.state_dict())
    assert float(loss(x)) == float(other(x))
