"""The distance of two pictures' style by their Gram matrices."""

from __future__ import annotations

from torch import Tensor

from fastnst.losses.guidance import guide
from fastnst.losses.layer_loss import LayerLoss
from fastnst.ops import gram_matrix, style_loss


class StyleLoss(LayerLoss):
    """The distance of the style representations: mean over C×C of (G − A)².

    Gatys et al. 2015, equations 3 and 4, with both Gram matrices divided by their own number of
    positions, G = F Fᵀ / (H·W), so that pictures of different sizes compare.

    Args:
        target_gram: The Gram matrix A of the style image at one layer, ``(C, C)`` or
            ``(B, C, C)``, float32: what ``gram_matrix`` returns.
        backend: ``"auto"``, ``"torch"`` or ``"native"``; see ``fastnst.style_loss``.
        guidance: How much each position counts, ``(H, W)`` with a mean square of 1; None: all
            alike.
        spread: A constant that is added; see ``objective/blending.py``.
    """

    sums_over_positions = True
    target_gram: Tensor
    guidance: Tensor | None

    def __init__(
        self,
        target_gram: Tensor,
        *,
        backend: str = "auto",
        guidance: Tensor | None = None,
        spread: float = 0.0,
    ) -> None:
        super().__init__()
        self.register_buffer("target_gram", target_gram.detach())
        self.register_buffer("guidance", guidance)
        self.backend = backend
        self.spread = spread

    @staticmethod
    def statistics(
        features: Tensor, guidance: Tensor | None = None, backend: str = "auto"
    ) -> tuple[Tensor, ...]:
        """``(gram,)`` of features ``(1, C, H, W)``: ``(C, C)``."""
        return (gram_matrix(guide(features, guidance), backend=backend)[0],)

    @staticmethod
    def statistics_of(mean: Tensor, gram: Tensor) -> tuple[Tensor, ...]:  # noqa: ARG004
        """Those statistics from the means of features ``(C,)`` and of their products."""
        return (gram,)

    def of_moments(self, mean: Tensor, gram: Tensor) -> Tensor:  # noqa: ARG002
        """The loss, 0-dimensional, of the means of features and of their products."""
        target = self.target_gram.reshape(gram.shape)
        return (gram - target.to(gram.dtype)).square().mean(-1).mean() + self.spread

    def forward(self, features: Tensor) -> Tensor:
        """The loss, 0-dimensional, of features F ``(B, C, H, W)`` or ``(C, H, W)``."""
        guided = guide(features, self.guidance)
        loss = style_loss(guided, self.target_gram, backend=self.backend)
        return loss + self.spread if self.spread else loss
