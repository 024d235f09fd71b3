"""The inverse Hessian of L-BFGS against the formula of BFGS with full matrices, in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fastnst.solvers.curvature import CurvaturePairs, curvature_along
from fastnst.solvers.state import State

N = 15


def pairs(count: int) -> list[tuple[Tensor, Tensor]]:
    """Secant pairs of a quadratic with a random positive Hessian."""
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(N, N, generator=generator, dtype=torch.float64)
    hessian = a @ a.T / N + torch.eye(N, dtype=torch.float64)
    steps = torch.randn(count, N, generator=generator, dtype=torch.float64)
    return [(s, hessian @ s) for s in steps]


def bfgs(known: list[tuple[Tensor, Tensor]], gamma: float) -> Tensor:
    """H, by Nocedal & Wright, equation 6.17, from γ times the identity."""
    identity = torch.eye(N, dtype=torch.float64)
    h = gamma * identity
    for s, y in known:
        rho = 1 / torch.dot(s, y)
        left = identity - rho * torch.outer(s, y)
        h = left @ h @ left.T + rho * torch.outer(s, s)
    return h


def direction(own: CurvaturePairs, gradient: Tensor, gamma: float) -> Tensor:
    """−H g for one band, with γ times the identity for H₀."""
    out = torch.empty_like(gradient)
    return own.direction([gradient], lambda q: q[0].mul_(gamma), out=[out])[0]


@pytest.mark.parametrize("history_size", [1, 3, 8])
def test_the_direction_is_that_of_full_matrices(history_size: int) -> None:
    """For fewer pairs than there is room for, as many, and after the ring buffers went round."""
    gradient = torch.linspace(-1, 1, N, dtype=torch.float64)
    own = CurvaturePairs(history_size, gradient)
    assert torch.equal(direction(own, gradient, 0.5), -0.5 * gradient)
    seen: list[tuple[Tensor, Tensor]] = []
    for s, y in pairs(6):
        assert own.take([s], [y]) is not None
        seen.append((s, y))
        gradient = gradient + y  # y is the change of the gradient on the way
        found = direction(own, gradient, 0.7)
        expected = -bfgs(seen[-history_size:], 0.7) @ gradient
        # float64, condition number below 10
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_a_pair_without_positive_curvature_is_not_taken() -> None:
    s = torch.linspace(0.1, 1, N, dtype=torch.float64)
    assert curvature_along([s], [-s]) is None
    assert curvature_along([s], [torch.zeros(N, dtype=torch.float64)]) is None
    own = CurvaturePairs(3, s)
    assert own.take([s], [-s]) is None
    assert own.order == []
    found = curvature_along([s], [2 * s])
    assert found is not None
    assert found.along == pytest.approx(2 * float(s @ s), rel=1e-14)
    assert found.change == pytest.approx(4 * float(s @ s), rel=1e-14)


def test_a_state_holds_all_that_counts() -> None:
    gradient = torch.linspace(-1, 1, N, dtype=torch.float64)
    first, second = CurvaturePairs(3, gradient), CurvaturePairs(3, gradient)
    made = pairs(5)
    for s, y in made[:4]:
        first.take([s], [y])
        gradient = gradient + y
        direction(first, gradient, 1.0)
    state = first.state()
    copies = {name: tensor.clone() for name, tensor in state.tensors.items()}
    second.restore(State(dict(state.numbers), copies))
    s, y = made[4]
    gradient = gradient + y
    directions = []
    for each in (first, second):
        each.take([s], [y])
        directions.append(direction(each, gradient, 1.0))
    assert torch.equal(*directions)


@pytest.mark.parametrize(("cosine", "taken"), [(1e-7, True), (1e-9, False)])
def test_curvature_below_rounding_is_none(cosine: float, taken: bool) -> None:
    s, y = torch.zeros(2, N, dtype=torch.float64)
    s[0], y[0], y[1] = 1e-3, 5e2 * cosine, 5e2  # of any lengths
    assert (curvature_along([s], [y]) is not None) == taken
    assert (CurvaturePairs(3, s).take([s], [y]) is not None) == taken


def test_products_take_the_room_of_the_pairs_that_there_are() -> None:
    """With room for ten thousand pairs the matrix would have 800 MB."""
    gradient = torch.linspace(-1, 1, N, dtype=torch.float64)
    large, small = CurvaturePairs(10_000, gradient), CurvaturePairs(40, gradient)
    for s, y in pairs(40):
        gradient = gradient + y
        found = []
        for own in (large, small):
            own.take([s], [y])
            found.append(direction(own, gradient, 1.0))
        assert torch.equal(*found)
    assert large.sy.shape == (64, 64)
    for own in (large, small):
        tensors = own.state().tensors
        assert (tensors["sy"].shape, tensors["sg"].shape) == ((40, 40), (40,))
    assert large.state().difference(small.state()) is None
