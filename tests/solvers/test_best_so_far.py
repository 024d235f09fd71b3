"""The best picture so far: one rule."""

from __future__ import annotations

import torch

from fastnst.solvers.best_so_far import BestSoFar


def picture(value: float) -> torch.Tensor:
    return torch.full((1, 3, 2, 2), value)


def test_the_lowest_loss_wins_and_the_first_of_equals() -> None:
    best = BestSoFar(picture(0.0))
    assert not best.is_known
    offers = [(1.0, 5.0), (2.0, 7.0), (3.0, 4.0), (4.0, 4.0)]
    taken = [best.offer(picture(x), loss, "fp32") for x, loss in offers]
    assert taken == [True, False, True, False]
    assert torch.equal(best.image, picture(3.0))
    assert (best.loss, best.is_known) == (4.0, True)


def test_a_picture_is_copied() -> None:
    best, image = BestSoFar(picture(0.0)), picture(1.0)
    best.offer(image, 1.0, "fp32")
    image.fill_(9.0)
    assert torch.equal(best.image, picture(1.0))


def test_losses_in_different_precisions_are_not_compared() -> None:
    best = BestSoFar(picture(0.0))
    best.offer(picture(1.0), 1.0, "bf16")
    assert best.is_beaten_by(2.0, "fp32")
    assert best.offer(picture(2.0), 2.0, "fp32")
    assert not best.offer(picture(3.0), 3.0, "fp32")
    assert (best.loss, float(best.image.mean())) == (2.0, 2.0)


def test_it_goes_on_from_where_it_was() -> None:
    best = BestSoFar(picture(0.0))
    best.restore(picture(1.0), 1.0, "bf16")
    assert not best.offer(picture(2.0), 2.0, "bf16")
    assert torch.equal(best.image, picture(1.0))
    assert best.offer(picture(3.0), 3.0, "fp32")
