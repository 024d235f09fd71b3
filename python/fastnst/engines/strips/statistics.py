"""Style losses as functions of sums over positions, and their gradients at each position.

Every style loss depends on the features f_p of a layer by two means only, with guidance T:

    μ = Σ T_p² f_p / N,    G = Σ T_p² f_p f_pᵀ / N.

So once both are known for the whole picture, its gradient at a position needs that position alone:

    dg/df_p = T_p² (2 · sym(dg/dG) f_p + dg/dμ) / N.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from fastnst.errors import InvalidInput
from fastnst.losses import ContentLoss, LayerLoss
from fastnst.objective.objective import Objective


@dataclass(frozen=True)
class Moments:
    """Sums over positions, float64.

    Attributes:
        first: Σ T² f, ``(C,)``; None where no loss reads it.
        second: Σ T² f fᵀ, ``(C, C)``.
    """

    first: Tensor | None
    second: Tensor

    def __add__(self, other: Moments) -> Moments:
        first = None
        if self.first is not None and other.first is not None:
            first = self.first + other.first
        return Moments(first, self.second + other.second)


@dataclass(frozen=True)
class Seed:
    """A weighted gradient at a layer: T_p² (D f_p + m).

    Attributes:
        matrix: D ``(C, C)``, symmetric, float64.
        mean: m ``(C,)``, float64; None: zero.
    """

    matrix: Tensor
    mean: Tensor | None


@dataclass(frozen=True)
class Group:
    """The losses of a layer that share a map of guidance.

    Attributes:
        parts: The losses with their weights in the layer's loss.
        guidance: T ``(H, W)`` over the whole picture's positions; None: 1.
    """

    parts: tuple[tuple[float, LayerLoss], ...]
    guidance: Tensor | None

    @property
    def needs_mean(self) -> bool:
        """Whether a loss reads the mean."""
        return any(loss.needs_mean for _, loss in self.parts)


def unavailable_reason(objective: Objective) -> str | None:
    """Why an objective cannot be computed piece by piece, or None if it can."""
    if objective.gradient_norm != "none":
        return (
            f"gradient_norm {objective.gradient_norm} divides by the length of a layer's gradient, "
            "which is known for a whole picture only"
        )
    if not objective.layers:
        return "it has no loss on the network"
    for layer, loss in objective.content.items():
        if type(loss) is not ContentLoss:
            return f"the loss {type(loss).__name__} on {layer} is no content loss"
    for layer, loss in objective.style.items():
        for _, part in cast(LayerLoss, loss).parts():
            if not part.sums_over_positions:
                name = type(part).__name__
                return f"the loss {name} on {layer} is no function of sums over positions"
    return None


def groups(objective: Objective) -> dict[tuple[str, int], Group]:
    """The style losses of an objective by layer and, from 0, the number of the map of guidance.

    Raises:
        InvalidInput: for an objective that no sums over positions can give.
    """
    if reason := unavailable_reason(objective):
        raise InvalidInput(f"the picture cannot be computed in strips: {reason}")
    found: dict[tuple[str, int], Group] = {}
    for layer, loss in objective.style.items():
        gathered: list[tuple[Tensor | None, list[tuple[float, LayerLoss]]]] = []
        for weight, part in cast(LayerLoss, loss).parts():
            its: Tensor | None = getattr(part, "guidance", None)
            same = [parts for guidance, parts in gathered if _equal(guidance, its)]
            if same:
                same[0].append((weight, part))
            else:
                gathered.append((its, [(weight, part)]))
        for index, (guidance, parts) in enumerate(gathered):
            found[layer, index] = Group(tuple(parts), guidance)
    return found


def compare(
    objective: Objective,
    losses: Mapping[tuple[str, int], Group],
    sums: Mapping[tuple[str, int], Moments],
    positions: Mapping[str, int],
) -> tuple[dict[str, Tensor], dict[tuple[str, int], Seed]]:
    """The style losses of a whole picture and the gradients that its positions begin with.

    Args:
        objective: Its weights are read.
        losses: What ``groups`` returned.
        sums: Over all positions.
        positions: N by layer.

    Returns:
        g_l by layer, float64, and the seeds, which hold the weights of the objective.
    """
    values: dict[str, Tensor] = {}
    seeds = {}
    for key, group in losses.items():
        layer, count = key[0], positions[key[0]]
        value, seed = _differentiate(group, sums[key], count, objective.style_factor(layer))
        values[layer] = values[layer] + value if layer in values else value
        seeds[key] = seed
    return values, seeds


def _differentiate(group: Group, sums: Moments, count: int, factor: float) -> tuple[Tensor, Seed]:
    with torch.enable_grad():
        gram = (sums.second / count).requires_grad_()
        first = gram.new_zeros(len(gram)) if sums.first is None else sums.first / count
        mean = first.requires_grad_()
        terms = [weight * loss.of_moments(mean, gram) for weight, loss in group.parts]
        value: Tensor = sum(terms[1:], terms[0])
        to_mean, to_gram = torch.autograd.grad(
            value, (mean, gram), allow_unused=True, materialize_grads=True
        )
    scale = factor / count
    matrix = (to_gram + to_gram.T) * scale
    return value.detach(), Seed(matrix, to_mean * scale if group.needs_mean else None)


def _equal(a: Tensor | None, b: Tensor | None) -> bool:
    if a is None or b is None:
        return a is b
    return a is b or torch.equal(a, b)
