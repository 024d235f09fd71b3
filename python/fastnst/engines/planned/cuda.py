"""The planned evaluation in PyTorch's operators: engine ``native`` on a GPU.

The plan is that of ``native_engine.py``: one forward and one backward walk over a frozen VGG, without a
tape. Here the convolutions are the library's (cuDNN), in channels_last; Gram matrices and style losses
are those of ``ops.native`` where they take the features, and matrix products where they do not.

The input gradient of a 3×3 convolution is again a forward convolution, with the filters flipped and
transposed, which are arranged once. ``convolution_backward`` would do the same work, but cuDNN may
answer it with sums in no fixed order, and a run that is resumed must be the run that went on.

The first convolution and the way back through it are always float32: its input is the picture, whose
256 levels bfloat16 does not tell apart. An evaluation launches operators and fetches nothing, so that
it can be recorded as a CUDA graph (``capturable``).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from fastnst.cache import Cache
from fastnst.devices import guard
from fastnst.engines.planned.walk import (
    add_total_variation,
    differentiate,
    plain_content,
    plain_style,
    unpool_l2,
)
from fastnst.evaluation import Evaluation
from fastnst.losses import WassersteinLoss
from fastnst.network.vgg import VGG, L2Pool
from fastnst.objective.objective import Objective
from fastnst.ops import buffers, gram


@dataclass(frozen=True)
class Filters:
    """A convolution's filters, channels_last, in the type in which it is computed.

    Attributes:
        forward: ``(Co, Ci, 3, 3)``.
        backward: Flipped and transposed, ``(Ci, Co, 3, 3)``.
        bias: ``(Co,)``.
    """

    forward: Tensor
    backward: Tensor
    bias: Tensor


@dataclass(frozen=True)
class _Layer:
    """A convolution, its ReLU and, at the end of a block, the pooling.

    Attributes:
        name: ``"3_1"`` for conv3_1, relu3_1.
        filters: Of the convolution.
        pool: ``"pool3"`` at the end of a block, otherwise None.
    """

    name: str
    filters: Filters
    pool: str | None

    @property
    def conv(self) -> str:
        return f"conv{self.name}"

    @property
    def relu(self) -> str:
        return f"relu{self.name}"


class PlannedEngine:
    """Evaluates an objective on any device by a plan of PyTorch's operators.

    The memory of ``Evaluation.gradient`` is reused by the next evaluation.

    Args:
        objective: On the device and in the dtype of the pictures; with at least one layer.
        precision: ``fp32``: the objective's own dtype (on a GPU, PyTorch's flags say whether
            convolutions may be TF32); or ``bf16``: features, their gradients and the filters are
            bfloat16, the picture, Gram matrices and losses float32.
        name: What the engine is called in results.
        kept: Arranged filters of the same network, to be used again.

    Attributes:
        capturable: Whether an evaluation can be recorded as a CUDA graph.
    """

    provider = None

    def __init__(
        self,
        objective: Objective,
        precision: str = "fp32",
        name: str = "native",
        kept: Cache | None = None,
    ) -> None:
        self.objective = objective
        self.precision = precision
        self.name = name
        network = objective.network
        self._wide = objective.normalize.mean.dtype
        self._dtype = torch.bfloat16 if precision == "bf16" else self._wide
        self._pooling = network.pooling
        self._replicates = network.padding == "replicate"
        self._layers = (kept or Cache()).get(
            "planned filters", (network, precision), lambda: _arrange(network, self._dtype)
        )
        self._style = plain_style(objective)
        self._targets = {
            key: loss.target.contiguous(memory_format=torch.channels_last)
            for key, loss in plain_content(objective).items()
        }
        # its eigenvalues are found with the host's help
        self.capturable = not any(isinstance(m, WassersteinLoss) for m in objective.modules())
        self._gradient = torch.empty(0)

    def evaluate(self, image: Tensor) -> Evaluation:
        """The objective and its gradient at ``image`` ``(1, 3, H, W)``."""
        if self._gradient.shape != image.shape or self._gradient.device != image.device:
            self._gradient = torch.empty_like(image, memory_format=torch.contiguous_format)
        with torch.no_grad(), guard(image.device):
            walk = _Walk(self)
            walk.forward(image.detach())
            walk.compare()
            walk.backward(out=self._gradient)
            tv = add_total_variation(self.objective, image, self._gradient)
        content = {key: walk.content[key] for key in self.objective.content}
        style = {key: walk.style[key] for key in self.objective.style}
        terms = self.objective.terms(content, style, tv)
        return Evaluation(terms, self._gradient, self.precision)


class _Walk:
    """One evaluation: what the walk forward leaves for the walk back.

    Attributes:
        features: Of every layer, ``(1, C, H, W)`` channels_last, until the walk back has passed them.
        content: c_l by layer.
        style: g_l by layer.
    """

    def __init__(self, engine: PlannedEngine) -> None:
        self.engine = engine
        self.objective = engine.objective
        self.features: dict[str, Tensor] = {}
        self.content: dict[str, Tensor] = {}
        self.style: dict[str, Tensor] = {}
        self.content_differences: dict[str, Tensor] = {}
        self.gram_differences: dict[str, Tensor] = {}
        self.pooled_at: dict[str, Tensor] = {}  # where each maximum was

    def forward(self, image: Tensor) -> None:
        """Features of every layer."""
        engine, objective = self.engine, self.objective
        x = objective.normalize(image).contiguous(memory_format=torch.channels_last)
        for layer in engine._layers:
            first = layer is engine._layers[0]
            if first and engine._replicates:
                x = functional.pad(x, (1, 1, 1, 1), mode="replicate")
            padding = 0 if first and engine._replicates else 1
            if layer.conv in objective.layers:
                x = convolve(x, layer.filters.forward, layer.filters.bias, padding)
                self.features[layer.conv] = x = x.to(engine._dtype)
                x = x.relu()
            else:
                x = convolve_relu(x, layer.filters, padding).to(engine._dtype)
            self.features[layer.relu] = x
            if layer.pool is not None:
                x = self._pool(x, layer.pool)
                self.features[layer.pool] = x

    def _pool(self, x: Tensor, name: str) -> Tensor:
        kind = self.engine._pooling
        if kind == "max":
            x, self.pooled_at[name] = functional.max_pool2d(x, 2, return_indices=True)
            return x
        if kind == "average":
            return functional.avg_pool2d(x, 2)
        return functional.avg_pool2d(x.square(), 2).clamp_min_(L2Pool.SMALLEST).sqrt_()

    def compare(self) -> None:
        """Content losses c_l and style losses g_l; F − P and G − A are kept for the gradient."""
        for key, target in self.engine._targets.items():
            difference = torch.sub(self.features[key], target)
            self.content_differences[key] = difference
            length = torch.linalg.vector_norm(difference)
            self.content[key] = length.square() / difference.numel()
        plain = self.engine._style
        if not plain:
            return
        features = [self.features[key] for key in plain]
        targets = [loss.target_gram for loss in plain.values()]
        losses, differences = _style_losses(features, targets, self.engine._wide)
        for (key, loss), value, difference in zip(
            plain.items(), losses.unbind(), differences, strict=True
        ):
            self.style[key] = value + loss.spread if loss.spread else value
            self.gram_differences[key] = difference

    def backward(self, *, out: Tensor) -> None:
        """From the deepest layer to the picture; ``out`` is ``(1, 3, H, W)``."""
        gradient: Tensor | None = None  # at the output of the layer; None: zero
        for layer in reversed(self.engine._layers):
            if layer.pool is not None:
                gradient = self._add_losses(layer.pool, gradient)
                if gradient is not None:
                    gradient = self._unpool(gradient, layer)
                del self.features[layer.pool]
            gradient = self._add_losses(layer.relu, gradient)
            features = self.features.pop(layer.relu)
            if gradient is not None:  # through ReLU
                gradient = torch.ops.aten.threshold_backward(gradient, features, 0)
            del features
            gradient = self._add_losses(layer.conv, gradient)
            self.features.pop(layer.conv, None)
            if gradient is not None and layer is not self.engine._layers[0]:
                gradient = convolve(gradient, layer.filters.backward)
        assert gradient is not None  # every objective has a loss on some layer
        self._to_image(gradient, out)

    def _to_image(self, gradient: Tensor, out: Tensor) -> None:
        """From the first preactivation to the picture."""
        filters = self.engine._layers[0].filters.backward
        gradient = gradient.to(filters.dtype)
        if self.engine._replicates:
            gradient = _fold_edges(convolve(gradient, filters, padding=2))
        else:
            gradient = convolve(gradient, filters)
        torch.div(gradient, self.objective.normalize.std, out=out)

    def _unpool(self, gradient: Tensor, layer: _Layer) -> Tensor:
        """The gradient of a pooling."""
        assert layer.pool is not None
        features, kind = self.features[layer.relu], self.engine._pooling
        if kind == "max":
            at = self.pooled_at.pop(layer.pool)
            before: Tensor = torch.ops.aten.max_pool2d_with_indices_backward(
                gradient, features, [2, 2], [2, 2], [0, 0], [1, 1], False, at
            )
        elif kind == "average":
            before = torch.ops.aten.avg_pool2d_backward(
                gradient, features, [2, 2], [2, 2], [0, 0], False, True, None
            )
        else:
            before = torch.empty_like(features)
            unpool_l2(gradient, features, self.features[layer.pool], out=before)
        return before

    def _add_losses(self, key: str, gradient: Tensor | None) -> Tensor | None:
        """Add the gradient of the losses on one layer's features."""
        objective = self.objective
        if key in self.gram_differences:
            features, difference = self.features[key], self.gram_differences.pop(key)
            channels, positions = features.shape[1], features.shape[2] * features.shape[3]
            scale = 4 * objective.style_factor(key) / (channels**2 * positions)
            gradient = _add_style_gradient(gradient, features, difference, scale)
        elif key in objective.style:
            value, found = self._differentiate(objective.style[key], key)
            self.style[key] = value
            gradient = self._add(gradient, found, objective.style_factor(key))
        if key in self.content_differences:
            difference = self.content_differences.pop(key)
            scale = 2 * objective.content_factor(key) / difference.numel()
            gradient = self._add(gradient, difference, scale)
        elif key in objective.content:
            value, found = self._differentiate(objective.content[key], key)
            self.content[key] = value
            gradient = self._add(gradient, found, objective.content_factor(key))
        return gradient

    def _add(self, gradient: Tensor | None, found: Tensor, scale: float) -> Tensor:
        if gradient is None:
            return (found * scale).to(self.engine._dtype)
        return gradient.add_(found, alpha=scale)

    def _differentiate(self, loss: nn.Module, key: str) -> tuple[Tensor, Tensor]:
        """A loss on one layer's features and its gradient there, by autograd."""
        features = self.features[key].to(self.engine._wide)
        return differentiate(loss, features, self.objective.gradient_norm)


def cannot_run(objective: Objective, precision: str = "fp32") -> str | None:
    """Why this plan does not take an objective, or None when it does."""
    if not objective.layers:
        return "the objective uses no layer of the network"
    device = objective.normalize.mean.device
    if precision == "bf16" and device.type == "cuda":
        with guard(device):
            if not torch.cuda.is_bf16_supported(including_emulation=False):
                return f"bf16 needs a GPU with bfloat16 products; {device} has none"
    return None


def _arrange(network: VGG, dtype: torch.dtype) -> tuple[_Layer, ...]:
    names = list(network.layers)
    layers: list[_Layer] = []
    for index, name in enumerate(names):
        module = network.layers[name]
        if not isinstance(module, nn.Conv2d):
            continue
        assert module.bias is not None
        kind = dtype if layers else module.weight.dtype  # the first sees the picture
        filters = arrange_filters(module.weight.detach(), module.bias.detach(), kind)
        after = names[index + 2] if index + 2 < len(names) else ""
        pool = after if after.startswith("pool") else None
        layers.append(_Layer(name.removeprefix("conv"), filters, pool))
    return tuple(layers)


def arrange_filters(weight: Tensor, bias: Tensor, dtype: torch.dtype) -> Filters:
    """Filters ``(Co, Ci, 3, 3)`` and bias ``(Co,)`` for both directions."""
    last = torch.channels_last
    back = weight.flip(2, 3).transpose(0, 1)
    forward, backward = (w.to(dtype).contiguous(memory_format=last) for w in (weight, back))
    return Filters(forward, backward, bias.to(dtype))


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None = None, padding: int = 1) -> Tensor:
    """W ∗ x + b, channels_last."""
    y = functional.conv2d(x, weight, bias, 1, padding)
    return y.contiguous(memory_format=torch.channels_last)


def convolve_relu(x: Tensor, filters: Filters, padding: int = 1) -> Tensor:
    """max(0, W ∗ x + b), in one pass where cuDNN can."""
    if x.device.type == "cuda" and _fuses(filters):
        return _fused(x, filters, padding)
    return convolve(x, filters.forward, filters.bias, padding).relu_()


def _fused(x: Tensor, filters: Filters, padding: int) -> Tensor:
    pads, one = [padding, padding], [1, 1]
    y: Tensor = torch.cudnn_convolution_relu(x, filters.forward, filters.bias, one, pads, one, 1)
    return y


_tried: dict[tuple[torch.device, torch.dtype, torch.Size], bool] = {}


def _fuses(filters: Filters) -> bool:
    """Whether cuDNN takes bias and ReLU into a convolution of this kind, and gets it right.

    Tried once, on the way of the first evaluation, which is never recorded.
    """
    weight = filters.forward
    key = (weight.device, weight.dtype, weight.shape)
    if key not in _tried:
        _tried[key] = _try_fusion(filters)
    return _tried[key]


def _try_fusion(filters: Filters) -> bool:
    weight = filters.forward
    shape = (1, weight.shape[1], 20, 18)
    x = torch.linspace(0, 999, 360 * shape[1], device=weight.device).sin_().view(shape)
    x = x.to(weight.dtype).contiguous(memory_format=torch.channels_last)
    expected = convolve(x, weight, filters.bias).relu_().float()
    try:
        found = _fused(x, filters, 1).float()
    except RuntimeError:
        return False
    # bfloat16 and TF32 round at 2⁻⁸ and 2⁻¹¹; another formula would be off by order 1
    return bool(
        torch.linalg.vector_norm(found - expected) <= 0.02 * torch.linalg.vector_norm(expected)
    )


def _style_losses(
    features: list[Tensor], targets: list[Tensor], wide: torch.dtype
) -> tuple[Tensor, list[Tensor]]:
    """Mean of (G − A)² of each layer, ``(L,)``, and G − A, ``(1, C, C)`` each."""
    if all(buffers.cannot_run(x) is None for x in features):
        losses = features[0].new_empty(len(features), dtype=torch.float32)
        differences = [target.new_empty(1, *target.shape[-2:]) for target in targets]
        gram.style_losses_into(
            features,
            targets,
            losses=losses,
            differences=differences,
            precision=_rounding(*features),
        )
        return losses, differences
    differences = []
    for x, target in zip(features, targets, strict=True):
        f = _by_position(x).to(wide)
        differences.append((f.T @ f).div_(len(f)).sub_(target)[None])
    return torch.stack([d.square().mean() for d in differences]), differences


def _add_style_gradient(
    gradient: Tensor | None, features: Tensor, difference: Tensor, scale: float
) -> Tensor:
    """Gradient + scale · (D + Dᵀ)/2 · F."""
    out = torch.empty_like(features) if gradient is None else gradient
    if buffers.cannot_run(features) is None:
        gram.accumulate_style_gradient(
            features,
            difference,
            scale,
            False,
            out,
            accumulate=gradient is not None,
            precision=_rounding(features),
        )
        return out
    symmetric = (difference[0] + difference[0].T).div_(2).to(features.dtype)
    beta = 0 if gradient is None else 1
    _by_position(out).addmm_(_by_position(features), symmetric, beta=beta, alpha=scale)
    return out


def _rounding(*features: Tensor) -> str | None:
    """What the kernels may round float32 features to: what the convolutions round them to anyway."""
    conv_in_tf32 = torch.backends.cudnn.conv.fp32_precision == "tf32"  # type: ignore[attr-defined]
    return "tf32" if conv_in_tf32 and features[0].dtype == torch.float32 else None


def _by_position(x: Tensor) -> Tensor:
    """``(1, C, H, W)`` channels_last seen as ``(H · W, C)``."""
    return x.permute(0, 2, 3, 1).view(-1, x.shape[1])


def _fold_edges(outer: Tensor) -> Tensor:
    """The gradient of replicating edges, ``(1, C, H + 2, W + 2)`` to ``(1, C, H, W)``."""
    for side in (outer, outer.transpose(-1, -2)):
        side[..., 1, :] += side[..., 0, :]
        side[..., -2, :] += side[..., -1, :]
    return outer[..., 1:-1, 1:-1]
