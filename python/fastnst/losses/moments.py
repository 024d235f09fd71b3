"""The distance of two pictures' style by the first two moments of their features.

With μ the mean and Σ the covariance of a layer's C features over its positions:

    covariance    mean over C×C of (Σ − Σ_s)²
    mean-std      mean over C of (μ − μ_s)²  +  mean over C of (σ − σ_s)²,   σ² the diagonal of Σ
    wasserstein   mean over C of (μ − μ_s)²  +  tr(Σ + Σ_s − 2 (Σ_s^½ Σ Σ_s^½)^½) / C

The last is the squared 2-Wasserstein distance of the normal distributions N(μ, Σ) and N(μ_s, Σ_s),
divided by C (Olkin & Pukelsheim 1982; as a style loss: K. Crowson's style-transfer-pytorch).
Where there is guidance T, positions count T² in every mean. For ``wasserstein`` both covariances
have ε on their diagonals: 1e-4, or a millionth of the style's mean variance where that is more.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fastnst.devices import one_thread
from fastnst.errors import InvalidInput
from fastnst.losses.guidance import guide
from fastnst.losses.layer_loss import LayerLoss
from fastnst.losses.rows import wide
from fastnst.ops import gram_matrix

# Added to the diagonal of both covariances, so that they have inverse roots: RIDGE in units of
# features whose mean is of order 1, as in a normalised network; ROUNDING of the style's mean
# variance where that is more, above what float32 leaves in a covariance.
RIDGE = 1e-4
ROUNDING = 1e-6
SMALLEST_VARIANCE = 1e-8  # σ = √(σ² + this): a channel that is constant has a gradient


class _MomentLoss(LayerLoss):
    """A distance of statistics of the features from those of the style.

    Args:
        targets: What ``statistics`` returns for the style picture.
        backend: What computes Gram matrices; see ``fastnst.gram_matrix``.
        guidance: How much each position counts, ``(H, W)`` with a mean square of 1; None: all
            alike.
        spread: A constant that is added; see ``objective/blending.py``.
    """

    guidance: Tensor | None
    sums_over_positions = True
    needs_mean = True
    names: tuple[str, ...]

    def __init__(
        self,
        *targets: Tensor,
        backend: str = "auto",
        guidance: Tensor | None = None,
        spread: float = 0.0,
    ) -> None:
        super().__init__()
        for name, target in zip(self.names, targets, strict=True):
            self.register_buffer(name, target.detach())
        self.register_buffer("guidance", guidance)
        self.backend = backend
        self.spread = spread

    @staticmethod
    def statistics(
        features: Tensor, guidance: Tensor | None = None, backend: str = "auto"
    ) -> tuple[Tensor, ...]:
        """The targets, of features ``(1, C, H, W)``."""
        raise NotImplementedError

    @staticmethod
    def statistics_of(mean: Tensor, gram: Tensor) -> tuple[Tensor, ...]:
        """Those statistics from the means of features ``(C,)`` and of their products."""
        raise NotImplementedError

    def forward(self, features: Tensor) -> Tensor:
        """The loss, 0-dimensional, of features ``(1, C, H, W)``.

        Raises:
            InvalidInput: for features of another shape, or with other channels than the targets.
        """
        found = self.statistics(features, self.guidance, self.backend)
        for name, statistic in zip(self.names, found, strict=True):
            if statistic.shape != getattr(self, name).shape:
                raise InvalidInput(
                    f"features: expected {len(getattr(self, name))} channels, got {len(statistic)}"
                )
        return self._distance(found)

    def of_moments(self, mean: Tensor, gram: Tensor) -> Tensor:
        """The loss, 0-dimensional, of the means of features and of their products."""
        return self._distance(self.statistics_of(mean, gram))

    def _distance(self, found: tuple[Tensor, ...]) -> Tensor:
        """The sum of the mean squares of the differences from the targets."""
        loss = found[0].new_zeros(()) + self.spread
        for name, statistic in zip(self.names, found, strict=True):
            # row by row, so that threads change no bit
            loss = loss + (statistic - getattr(self, name)).square().mean(-1).mean()
        return loss


class CovarianceLoss(_MomentLoss):
    """Mean over C×C of (Σ − Σ_s)²: a Gram matrix of centred features, blind to brightness."""

    names = ("target_covariance",)

    @staticmethod
    def statistics(
        features: Tensor, guidance: Tensor | None = None, backend: str = "auto"
    ) -> tuple[Tensor, ...]:
        """``(Σ,)`` of features ``(1, C, H, W)``: ``(C, C)``."""
        return (_moments(features, guidance, backend)[1],)

    @staticmethod
    def statistics_of(mean: Tensor, gram: Tensor) -> tuple[Tensor, ...]:
        """Those statistics from the means of features ``(C,)`` and of their products."""
        return (_covariance(mean, gram),)


class MeanStdLoss(_MomentLoss):
    """Mean over C of (μ − μ_s)² and of (σ − σ_s)²: no correlations, and no Gram matrix."""

    names = ("target_mean", "target_std")

    @staticmethod
    def statistics(
        features: Tensor,
        guidance: Tensor | None = None,
        backend: str = "auto",  # noqa: ARG004  (no Gram matrix in it)
    ) -> tuple[Tensor, ...]:
        """``(μ, σ)`` of features ``(1, C, H, W)``: ``(C,)`` each."""
        features = wide(_one(features))
        mean = _mean(features, guidance)
        centred = guide(features[0] - mean.view(-1, 1, 1), guidance)
        variance = centred.square().mean((-2, -1))
        return mean, (variance + SMALLEST_VARIANCE).sqrt()

    @staticmethod
    def statistics_of(mean: Tensor, gram: Tensor) -> tuple[Tensor, ...]:
        """Those statistics from the means of features ``(C,)`` and of their products."""
        variance = (gram.diagonal() - mean.square()).clamp_min(0)
        return mean, (variance + SMALLEST_VARIANCE).sqrt()


class WassersteinLoss(_MomentLoss):
    """The squared 2-Wasserstein distance of the features' normal distributions, divided by C.

    Its eigenvalues are found in float64, which takes longer than all else where C is 512 and the
    picture small.
    """

    needs_host = True  # for the eigenvalues
    names = ("target_mean", "target_covariance")
    target_mean: Tensor
    target_covariance: Tensor
    root: Tensor

    def __init__(
        self,
        *targets: Tensor,
        backend: str = "auto",
        guidance: Tensor | None = None,
        spread: float = 0.0,
    ) -> None:
        super().__init__(*targets, backend=backend, guidance=guidance, spread=spread)
        self.register_buffer("root", torch.empty_like(self.target_covariance), persistent=False)
        self._find_root()
        self.register_load_state_dict_post_hook(_renew)  # type: ignore[no-untyped-call]

    def _find_root(self) -> None:
        """The root of the target's covariance, and what is added to its diagonal."""
        self.ridge = max(RIDGE, ROUNDING * float(self.target_covariance.diagonal().double().mean()))
        with one_thread(self.target_covariance.device):
            values, vectors = torch.linalg.eigh(_ridged(self.target_covariance, self.ridge))
            self.root.copy_(vectors * values.clamp_min(0).sqrt() @ vectors.T)

    @staticmethod
    def statistics(
        features: Tensor, guidance: Tensor | None = None, backend: str = "auto"
    ) -> tuple[Tensor, ...]:
        """``(μ, Σ)`` of features ``(1, C, H, W)``: ``(C,)`` and ``(C, C)``."""
        return _moments(features, guidance, backend)

    @staticmethod
    def statistics_of(mean: Tensor, gram: Tensor) -> tuple[Tensor, ...]:
        """Those statistics from the means of features ``(C,)`` and of their products."""
        return mean, _covariance(mean, gram)

    def _distance(self, found: tuple[Tensor, ...]) -> Tensor:
        mean, covariance = found
        apply: Any = _BuresDistance.apply  # untyped in torch
        distance: Tensor = apply(covariance, self.target_covariance, self.root, self.ridge)
        means = (mean - self.target_mean).square().mean()
        return means + distance / len(mean) + self.spread


class _BuresDistance(torch.autograd.Function):
    """tr(Σ + B − 2 (B^½ Σ B^½)^½), with Σ and B ridged; Σ ``(C, C)``, B and B^½ given.

    Its gradient is I − T with T = B^½ (B^½ Σ B^½)^-½ B^½, the map that takes N(0, Σ) to N(0, B): no
    derivative of an eigendecomposition, which blows up where eigenvalues meet.
    """

    @staticmethod
    def forward(ctx: Any, covariance: Tensor, target: Tensor, root: Tensor, ridge: float) -> Tensor:
        root = root.double()
        with one_thread(root.device):
            values, vectors = torch.linalg.eigh(root @ _ridged(covariance, ridge) @ root)
            roots = values.clamp_min(ridge**2).sqrt()
            half = (root @ vectors) / roots.sqrt()
        ridges = 2 * ridge * len(roots)
        traces = covariance.diagonal().double().sum() + target.diagonal().double().sum() + ridges
        ctx.save_for_backward(half)
        ctx.dtype = covariance.dtype
        distance: Tensor = traces - 2 * roots.sum()
        return distance.to(covariance.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        (half,) = ctx.saved_tensors
        with one_thread(half.device):
            gradient = torch.eye(len(half), dtype=half.dtype, device=half.device) - half @ half.T
        return grad * gradient.to(ctx.dtype), None, None, None


def _ridged(covariance: Tensor, ridge: float) -> Tensor:
    """Σ + ridge · I in float64, symmetric."""
    symmetric = (covariance + covariance.T).double() / 2
    symmetric.diagonal().add_(ridge)
    return symmetric


def _one(features: Tensor) -> Tensor:
    """Features ``(1, C, H, W)`` as they are.

    Raises:
        InvalidInput: if they are not of one picture.
    """
    if features.ndim != 4 or len(features) != 1:
        raise InvalidInput(f"features: expected shape (1, C, H, W), got {tuple(features.shape)}")
    return features


def _renew(loss: WassersteinLoss, _: object) -> None:
    loss._find_root()


def _mean(features: Tensor, guidance: Tensor | None) -> Tensor:
    return guide(guide(features, guidance), guidance)[0].mean((-2, -1))


def _moments(features: Tensor, guidance: Tensor | None, backend: str) -> tuple[Tensor, Tensor]:
    """μ ``(C,)`` and Σ = G − μ μᵀ ``(C, C)`` of features ``(1, C, H, W)``."""
    mean = _mean(wide(_one(features)), guidance)
    gram = gram_matrix(guide(features, guidance), backend=backend)[0]
    return mean, _covariance(mean, gram)


def _covariance(mean: Tensor, gram: Tensor) -> Tensor:
    return gram - torch.outer(mean, mean)
