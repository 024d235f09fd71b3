"""The loss modules: closed forms, gradients, and life outside fastnst."""

from __future__ import annotations

import pytest
import torch

from fastnst import (
    ContentLoss,
    InvalidInput,
    Normalization,
    StyleLoss,
    TotalVariationLoss,
    gram_matrix,
)


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
