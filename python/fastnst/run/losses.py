"""The objective at one picture, in plain numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastnst.evaluation import Terms
from fastnst.settings.settings import Settings


@dataclass(frozen=True)
class Losses:
    """The objective at one picture.

    Attributes:
        total: L, the weighted sum.
        content: c_l by layer, unweighted.
        style: g_l by layer, unweighted.
        tv: tv(x), unweighted.
    """

    total: float
    content: Mapping[str, float]
    style: Mapping[str, float]
    tv: float

    @classmethod
    def of(cls, terms: Terms) -> Losses:
        """The losses as plain numbers, from an engine's terms."""
        return cls(
            float(terms.total),
            {name: float(value) for name, value in terms.content.items()},
            {name: float(value) for name, value in terms.style.items()},
            float(terms.tv),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "total": self.total,
            "content": dict(self.content),
            "style": dict(self.style),
            "tv": self.tv,
        }

    def to_row(self) -> dict[str, float]:
        """``{"total": …, "content.relu4_2": …, "style.relu1_1": …, "tv": …}``."""
        content = {f"content.{name}": value for name, value in self.content.items()}
        style = {f"style.{name}": value for name, value in self.style.items()}
        return {"total": self.total, **content, **style, "tv": self.tv}

    @classmethod
    def from_row(cls, row: Mapping[str, float]) -> Losses:
        """The losses that ``to_row`` was made from."""
        parts = {
            kind: {
                k.removeprefix(f"{kind}."): v for k, v in row.items() if k.startswith(f"{kind}.")
            }
            for kind in ("content", "style")
        }
        return cls(row["total"], parts["content"], parts["style"], row["tv"])


def contributions(history: Sequence[Losses], settings: Settings) -> dict[str, list[float]]:
    """What each part of the objective adds to the total, by evaluation.

    Args:
        history: The objective at each evaluation, at least one.
        settings: Those of the run.

    Returns:
        ``{"content relu4_2": [α v_l c_l, …], "style relu1_1": [β w_l g_l, …],
        "total variation": [τ tv, …]}``.
    """
    weights, shares = settings.layer_weights(), settings.content_weights()
    parts = {}
    for name in history[0].content:
        factor = settings.content_weight * shares[name]
        parts[f"content {name}"] = [factor * x.content[name] for x in history]
    for name in history[0].style:
        factor = settings.style_weight * weights[name]
        parts[f"style {name}"] = [factor * x.style[name] for x in history]
    if settings.tv_weight:
        parts["total variation"] = [settings.tv_weight * x.tv for x in history]
    return parts
