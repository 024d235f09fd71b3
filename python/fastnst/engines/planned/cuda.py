"""The plan in PyTorch's operators: engine ``native`` on a GPU.

The convolutions are the library's (cuDNN), in channels_last; Gram matrices and style losses are
those of ``ops.gram`` where they take the features, and matrix products where they do not.

The input gradient of a 3×3 convolution is again a forward convolution, with the filters flipped and
transposed, which are arranged once. ``convolution_backward`` would do the same work, but cuDNN may
answer it with sums in no fixed order, and a run that is resumed must be the run that went on.

The first convolution and the way back through it are always float32: its input is the picture,
whose 256 levels bfloat16 does not tell apart. An evaluation launches operators and fetches nothing,
so that the solver may run on the device alone (``device_only``) and, unless a loss needs the host,
an evaluation can be recorded as a CUDA graph (``capturable``). Features and gradients are allocated
as the walk goes and given back as soon as it has passed them: in a recorded graph their places are
shared by the graph's own pool of memory.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from fastnst import devices
from fastnst.cache import Cache
from fastnst.devices import guard, rounds_to_tf32
from fastnst.engines.planned.cudnn import (
    Filters,
    arrange_filters,
    convolve,
    convolve_relu,
    same_plans,
)
from fastnst.engines.planned.l2_pooling import unpool_l2
from fastnst.engines.planned.walk import Layer, Walk
from fastnst.evaluation import Evaluation
from fastnst.network.vgg import VGG, L2Pool
from fastnst.objective.objective import Objective
from fastnst.ops import buffers, gram


class PlannedEngine(Walk):
    """Evaluates an objective on any device by a plan of PyTorch's operators.

    Args:
        objective: On the device and in the dtype of the pictures; with at least one layer.
        precision: ``fp32``: the objective's own dtype (on a GPU, PyTorch's flags say whether
            convolutions may be TF32); or ``bf16``: features, their gradients and the filters are
            bfloat16, the picture, Gram matrices and losses float32.
        name: What the engine is called in results.
        cache: Arranged filters of the same network, to be used again.

    Attributes:
        filters: Those of every convolution, by name.
        capturable: Whether an evaluation can be recorded as a CUDA graph.
    """

    device_only = True

    def __init__(
        self,
        objective: Objective,
        precision: str = "fp32",
        name: str = "native",
        cache: Cache | None = None,
    ) -> None:
        super().__init__(objective, precision, name)
        network = objective.network
        self.capturable = not objective.needs_host
        self._dtype = torch.bfloat16 if precision == "bf16" else self._wide
        self._pooling = network.pooling
        self._replicates = network.padding == "replicate"
        self.filters: Mapping[str, Filters] = (cache or Cache()).get(
            "planned filters", (network, precision), lambda: _arrange(network, self._dtype)
        )
        self.tf32 = rounds_to_tf32(objective.normalize.mean.device, self._dtype)
        self._pooled_at: dict[str, Tensor] = {}  # where each maximum was, by pooling

    def evaluate(self, image: Tensor) -> Evaluation:
        """The objective and its gradient at ``image`` ``(1, 3, H, W)``, by the same plans."""
        with same_plans():
            return super().evaluate(image)

    def _allocate(self, height: int, width: int) -> None:
        """Nothing: memory comes and goes with the walk."""

    def _seen(self, key: str) -> Tensor:
        return self.features[key]

    def _release(self, key: str) -> None:
        self.features.pop(key, None)

    # --------------------------------------------------------------------------------- forward --

    def _network_input(self, image: Tensor) -> Tensor:
        self.features.clear()  # what an evaluation that failed has left
        x: Tensor = self.objective.normalize(image).contiguous(memory_format=torch.channels_last)
        return functional.pad(x, (1, 1, 1, 1), mode="replicate") if self._replicates else x

    def _convolve(self, x: Tensor, layer: Layer) -> Tensor:
        filters = self.filters[layer.conv]
        padding = 0 if layer.below is None and self._replicates else 1
        if layer.conv in self.objective.layers:
            x = convolve(x, filters.forward, filters.bias, padding)
            self.features[layer.conv] = x = x.to(self._dtype)
            x = x.relu()
        else:
            x = convolve_relu(x, filters, padding).to(self._dtype)
        self.features[layer.relu] = x
        if layer.pool is not None:
            x = self._pool(x, layer.pool)
            self.features[layer.pool] = x
        return x

    def _pool(self, x: Tensor, name: str) -> Tensor:
        if self._pooling == "max":
            x, self._pooled_at[name] = functional.max_pool2d(x, 2, return_indices=True)
            return x
        if self._pooling == "average":
            return functional.avg_pool2d(x, 2)
        return functional.avg_pool2d(x.square(), 2).clamp_min_(L2Pool.SMALLEST).sqrt_()

    # ---------------------------------------------------------------------------------- losses --

    def _compare_content(self, key: str, target: Tensor) -> tuple[Tensor, Tensor]:
        difference = torch.sub(self.features[key], target)
        length = torch.linalg.vector_norm(difference)
        return length.square() / difference.numel(), difference

    def _rounding(self) -> str:
        """The coarsest that a factor of a Gram matrix may be rounded to by the kernels."""
        if self._dtype == torch.bfloat16:
            return "bf16"
        backends = torch.backends
        settings = (
            backends.cudnn.conv.fp32_precision,  # type: ignore[attr-defined]
            backends.cuda.matmul.fp32_precision,
        )
        return "tf32" if "tf32" in settings else "fp32"

    def _compare_style(self, targets: Mapping[str, Tensor]) -> tuple[Tensor, list[Tensor]]:
        features = [self.features[key] for key in targets]
        return _style_losses(features, list(targets.values()), self._wide, self._rounding())

    def _add_style_gradient(
        self, gradient: Tensor | None, key: str, difference: Tensor, scale: float
    ) -> Tensor:
        features = self.features[key]
        return _add_style_gradient(gradient, features, difference, scale, self._rounding())

    def _add(self, gradient: Tensor | None, key: str, found: Tensor, scale: float) -> Tensor:  # noqa: ARG002
        if gradient is None:
            return (found * scale).to(self._dtype)
        return gradient.add_(found, alpha=scale)

    # ---------------------------------------------------------------------------- the way back --

    def _unpool(self, gradient: Tensor, layer: Layer) -> Tensor:
        assert layer.pool is not None
        features = self.features[layer.relu]
        if self._pooling == "max":
            at = self._pooled_at.pop(layer.pool)
            before: Tensor = torch.ops.aten.max_pool2d_with_indices_backward(
                gradient, features, [2, 2], [2, 2], [0, 0], [1, 1], False, at
            )
        elif self._pooling == "average":
            before = torch.ops.aten.avg_pool2d_backward(
                gradient, features, [2, 2], [2, 2], [0, 0], False, True, None
            )
        else:
            before = torch.empty_like(features)
            unpool_l2(gradient, features, self.features[layer.pool], out=before)
        return before

    def _through_relu(self, gradient: Tensor, layer: Layer) -> Tensor:
        masked: Tensor = torch.ops.aten.threshold_backward(gradient, self.features[layer.relu], 0)
        return masked

    def _convolve_back(self, gradient: Tensor, layer: Layer) -> Tensor:
        return convolve(gradient, self.filters[layer.conv].backward)

    def _to_image(self, gradient: Tensor) -> None:
        filters = self.filters[self.layers[0].conv].backward
        gradient = gradient.to(filters.dtype)
        if self._replicates:
            gradient = _fold_edges(convolve(gradient, filters, padding=2))
        else:
            gradient = convolve(gradient, filters)
        torch.div(gradient, self.objective.normalize.std, out=self._gradient)


def unavailable_reason(objective: Objective, precision: str = "fp32") -> str | None:
    """Why this plan cannot run an objective, or None if it can."""
    if not objective.layers:
        return "the objective uses no layer of the network"
    device = objective.normalize.mean.device
    return bfloat16_reason(device) if precision == "bf16" else None


def bfloat16_reason(device: torch.device) -> str | None:
    """Why bfloat16 does not pay on a device, or None if it does; a CPU takes what it is given."""
    if device.type == "cuda":
        if reason := devices.unavailable_reason(device):
            return reason
        with guard(device):
            if not torch.cuda.is_bf16_supported(including_emulation=False):
                return f"bf16 needs a GPU with bfloat16 products; {device} has none"
    return None


def _arrange(network: VGG, dtype: torch.dtype) -> dict[str, Filters]:
    """The filters of every convolution, by name; the first sees the picture: it stays float32."""
    arranged: dict[str, Filters] = {}
    for name, module in network.layers.items():
        if isinstance(module, nn.Conv2d):
            assert module.bias is not None
            computed_in = dtype if arranged else module.weight.dtype
            weight, bias = module.weight.detach(), module.bias.detach()
            arranged[name] = arrange_filters(weight, bias, computed_in)
    return arranged


def _style_losses(
    features: list[Tensor], targets: list[Tensor], wide: torch.dtype, precision: str
) -> tuple[Tensor, list[Tensor]]:
    """Mean of (G − A)² of each layer, ``(L,)``, and G − A, ``(1, C, C)`` each."""
    if all(buffers.unavailable_reason(x) is None for x in features):
        losses = features[0].new_empty(len(features), dtype=torch.float32)
        differences = [target.new_empty(1, *target.shape[-2:]) for target in targets]
        gram.style_losses_into(
            features,
            targets,
            losses=losses,
            differences=differences,
            precision=precision,
        )
        return losses, differences
    differences = []
    for x, target in zip(features, targets, strict=True):
        f = _by_position(x).to(wide)
        differences.append((f.T @ f).div_(len(f)).sub_(target)[None])
    return torch.stack([d.square().mean() for d in differences]), differences


def _add_style_gradient(
    gradient: Tensor | None, features: Tensor, difference: Tensor, scale: float, precision: str
) -> Tensor:
    """Gradient + scale · (D + Dᵀ)/2 · F."""
    out = torch.empty_like(features) if gradient is None else gradient
    if buffers.unavailable_reason(features) is None:
        gram.accumulate_style_gradient(
            features,
            difference,
            scale,
            False,
            out,
            accumulate=gradient is not None,
            precision=precision,
        )
        return out
    symmetric = (difference[0] + difference[0].T).div_(2).to(features.dtype)
    beta = 0 if gradient is None else 1
    _by_position(out).addmm_(_by_position(features), symmetric, beta=beta, alpha=scale)
    return out


def _by_position(x: Tensor) -> Tensor:
    """``(1, C, H, W)`` channels_last seen as ``(H · W, C)``."""
    return x.permute(0, 2, 3, 1).view(-1, x.shape[1])


def _fold_edges(outer: Tensor) -> Tensor:
    """The gradient of replicating edges, ``(1, C, H + 2, W + 2)`` to ``(1, C, H, W)``."""
    for side in (outer, outer.transpose(-1, -2)):
        side[..., 1, :] += side[..., 0, :]
        side[..., -2, :] += side[..., -1, :]
    return outer[..., 1:-1, 1:-1]
