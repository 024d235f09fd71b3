"""The planned evaluation: one forward and one backward walk over the network, without a tape.

VGG is a chain of 3×3 convolutions, ReLUs and poolings, and its weights are frozen. So the gradient
is known in advance: with g the gradient at a layer's preactivation,

    g_previous = mask(F_previous) · (g ∗ flipped, transposed W)  +  gradient of the losses on F_previous

where mask(F) = 1 where F > 0 is the derivative of ReLU. Filters are transformed once for both
directions, features stay channels_last, buffers are allocated once, and nothing deeper than the
deepest layer in use is computed. The kernels are those of ``ops.convolution`` (Winograd) and
``ops.native`` (Gram matrices, style losses).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from fastnst.engines.base import Evaluation
from fastnst.kept import Kept
from fastnst.losses import ContentLoss, StyleLoss
from fastnst.network import VGG
from fastnst.objective import Objective, Terms
from fastnst.ops import convolution, native

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass
class _Layer:
    """A convolution, its ReLU and, at the end of a block, the pooling; with their buffers.

    Attributes:
        name: ``"3_1"`` for conv3_1, relu3_1.
        bias: ``(C,)``.
        filters: From the features below to these; None at the first layer.
        gradient_filters: The way back; None at the first layer.
        features: ``(1, H, W, C)``, after ReLU.
        preactivation: Before ReLU, where a loss asks for it.
        pooled: ``(1, H // 2, W // 2, C)``, at the end of a block.
    """

    name: str
    bias: Tensor
    filters: convolution.Filters | None = None
    gradient_filters: convolution.Filters | None = None
    features: Tensor = field(default_factory=lambda: torch.empty(0))
    preactivation: Tensor | None = None
    pooled: Tensor | None = None

    @property
    def output(self) -> Tensor:
        return self.features if self.pooled is None else self.pooled

    @property
    def pool_name(self) -> str:
        return f"pool{self.name.partition('_')[0]}"


@dataclass(frozen=True)
class _Filters:
    """A network's filters as the kernels take them.

    Attributes:
        image: Of the first convolution.
        transformed: Of the others, by layer: from below, and the way back.
    """

    image: convolution.ImageFilters
    transformed: dict[str, tuple[convolution.Filters, convolution.Filters]]


def _arrange_filters(network: VGG, dtype: torch.dtype) -> _Filters:
    weights = {
        key: module.weight.detach().contiguous()
        for key, module in network.layers.items()
        if isinstance(module, nn.Conv2d)
    }
    first = next(iter(weights))
    image = convolution.arrange_image_filters(weights.pop(first))
    transformed = {
        key: (
            convolution.transform_filters(weight, dtype=dtype),
            convolution.transform_filters(weight, gradient=True, dtype=dtype),
        )
        for key, weight in weights.items()
    }
    return _Filters(image, transformed)


class NativeEngine:
    """Evaluates an objective with the compiled kernels on the CPU.

    The memory of ``Evaluation.gradient`` is reused by the next evaluation. Results do not depend on
    the number of threads.

    Args:
        objective: Float32, on the CPU; ``cannot_run`` says whether it will do.
        precision: ``fp32``; or ``bf16``: the features, the gradients with respect to them and the
            filters are bfloat16, the image, all sums, Gram matrices and losses float32.
        name: What the engine is called in results.
        kept: Transformed filters of the same network, to be used again.
    """

    provider = None

    def __init__(
        self,
        objective: Objective,
        precision: str = "fp32",
        name: str = "native",
        kept: Kept | None = None,
    ) -> None:
        self.objective = objective
        self.precision = precision
        self.name = name
        self._dtype = DTYPES[precision]
        self._pooling: str | None = None
        self._layers: list[_Layer] = []
        network = objective.network
        filters = (kept or Kept()).get(
            "filters", (network, precision), lambda: _arrange_filters(network, self._dtype)
        )
        for key, module in objective.network.layers.items():
            if isinstance(module, nn.Conv2d):
                assert module.bias is not None
                layer = _Layer(key[4:], module.bias.detach())
                if self._layers:
                    layer.filters, layer.gradient_filters = filters.transformed[key]
                self._layers.append(layer)
            elif key.startswith("pool"):
                self._pooling = "average" if isinstance(module, nn.AvgPool2d) else "max"
        self._image_filters = filters.image
        self._size: tuple[int, int] | None = None
        self._features: dict[str, Tensor] = {}
        self._style_losses = torch.empty(len(objective.style))
        self._differences = {
            key: torch.empty(1, *loss.target_gram.shape[-2:])
            for key, loss in _style(objective).items()
        }
        self._content_targets = {
            key: _channels_last(loss.target) for key, loss in _content(objective).items()
        }

    # ------------------------------------------------------------------------------------- plan --

    def _allocate(self, height: int, width: int) -> None:
        """All buffers for pictures of one size, reused by every evaluation."""
        objective = self.objective
        self._size = (height, width)
        self._features = {}
        largest = 0
        self._gradient = torch.empty(1, 3, height, width)
        for layer in self._layers:
            channels = len(layer.bias)
            layer.features = self._new(1, height, width, channels)
            largest = max(largest, layer.features.numel())
            self._features[f"relu{layer.name}"] = layer.features
            if f"conv{layer.name}" in objective.layers:
                layer.preactivation = self._new(1, height, width, channels)
                self._features[f"conv{layer.name}"] = layer.preactivation
            if layer.pool_name in objective.network.layers and self._ends_block(layer):
                height, width = height // 2, width // 2
                layer.pooled = self._new(1, height, width, channels)
                self._features[layer.pool_name] = layer.pooled
        # Each step back reads one of these and writes the other.
        self._buffers = [self._new(largest), self._new(largest)]
        self._content_differences = {
            key: torch.empty_like(target) for key, target in self._content_targets.items()
        }

    def _new(self, *shape: int) -> Tensor:
        return torch.empty(shape, dtype=self._dtype)

    def _ends_block(self, layer: _Layer) -> bool:
        names = list(self.objective.network.layers)
        after = names.index(f"conv{layer.name}") + 2
        return after < len(names) and names[after].startswith("pool")

    # --------------------------------------------------------------------------------- evaluate --

    def evaluate(self, image: Tensor) -> Evaluation:
        """The objective and its gradient at ``image`` ``(1, 3, H, W)`` float32."""
        height, width = image.shape[-2:]
        if self._size != (height, width):
            self._allocate(height, width)
        with torch.no_grad():
            self._forward(image)
            content, style = self._losses()
            self._backward()
        return self._evaluation(image, content, style)

    def _forward(self, image: Tensor) -> None:
        x = self.objective.normalize(image.detach()).contiguous()
        for layer in self._layers:
            if layer.filters is None:
                convolution.convolve_image(
                    x,
                    self._image_filters,
                    layer.bias,
                    preactivation=layer.preactivation,
                    out=layer.features,
                )
            else:
                convolution.convolve(
                    x,
                    layer.filters,
                    layer.bias,
                    relu=True,
                    pooling=None if layer.pooled is None else self._pooling,
                    preactivation=layer.preactivation,
                    out=layer.features,
                    pooled=layer.pooled,
                )
            x = layer.output

    def _losses(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Content losses c_l and style losses g_l; F − P and G − A are kept for the gradient."""
        content = {}
        for key, target in self._content_targets.items():
            difference = self._content_differences[key]
            torch.sub(self._features[key], target, out=difference)
            flat = difference.view(-1)
            content[key] = torch.dot(flat, flat) / flat.numel()
        style = _style(self.objective)
        if style:
            native.style_losses_into(
                [_channels_first(self._features[key]) for key in style],
                [loss.target_gram for loss in style.values()],
                losses=self._style_losses,
                differences=[self._differences[key] for key in style],
            )
        return content, dict(zip(style, self._style_losses.clone(), strict=True))

    def _backward(self) -> None:
        """From the deepest layer to the image."""
        gradient: Tensor | None = None  # at the output of the layer; None: zero
        for index in reversed(range(len(self._layers))):
            layer = self._layers[index]
            if layer.pooled is not None:
                gradient = self._add_losses(layer.pool_name, gradient, relu_mask=False)
                if gradient is not None:
                    out = self._buffer(layer.features, gradient)
                    assert self._pooling is not None
                    convolution.unpool(
                        gradient, layer.features, self._pooling, relu_mask=True, out=out
                    )
                    gradient = out
            # gradient is masked by the ReLU here, so it is also that at the preactivation
            gradient = self._add_losses(f"relu{layer.name}", gradient, relu_mask=True)
            gradient = self._add_losses(f"conv{layer.name}", gradient, relu_mask=False)
            if gradient is None:
                continue
            if layer.gradient_filters is None:
                convolution.image_gradient(gradient, self._image_filters, out=self._gradient)
                self._gradient.div_(self.objective.normalize.std)
                return
            previous = self._layers[index - 1]
            out = self._buffer(previous.output, gradient)
            convolution.convolve(
                gradient,
                layer.gradient_filters,
                mask=previous.features if previous.pooled is None else None,
                out=out,
            )
            gradient = out

    def _add_losses(self, key: str, gradient: Tensor | None, *, relu_mask: bool) -> Tensor | None:
        """Add the gradient of the losses on one layer's features, masked by its ReLU."""
        objective = self.objective
        if key in objective.style:
            features = self._features[key]
            out = self._buffer(features) if gradient is None else gradient
            channels, positions = features.shape[3], features.shape[1] * features.shape[2]
            weight = objective.style_weight * objective.layer_weights[key]
            native.accumulate_style_gradient(
                _channels_first(features),
                self._differences[key],
                4 * weight / (channels**2 * positions),
                relu_mask,
                _channels_first(out),
                accumulate=gradient is not None,
            )
            gradient = out
        if key in objective.content:
            features, difference = self._features[key], self._content_differences[key]
            if relu_mask:
                difference = difference * (features > 0)
            scale = 2 * objective.content_weight / features.numel()
            if gradient is None:
                gradient = torch.mul(difference, scale, out=self._buffer(features))
            else:
                gradient.add_(difference, alpha=scale)
        return gradient

    def _buffer(self, like: Tensor, taken: Tensor | None = None) -> Tensor:
        """A gradient buffer of the shape of ``like`` that shares no memory with ``taken``."""
        first, second = self._buffers
        free = second if taken is not None and taken.data_ptr() == first.data_ptr() else first
        return free[: like.numel()].view(like.shape)

    def _evaluation(
        self, image: Tensor, content: dict[str, Tensor], style: dict[str, Tensor]
    ) -> Evaluation:
        objective = self.objective
        tv = image.new_zeros(())
        if objective.tv_weight:
            with torch.enable_grad():
                x = image.detach().requires_grad_()
                tv = objective.tv(x)
                (gradient,) = torch.autograd.grad(tv, x)
            self._gradient.add_(gradient, alpha=objective.tv_weight)
            tv = tv.detach()
        total = objective.tv_weight * tv
        for loss in content.values():
            total = total + objective.content_weight * loss
        for key, loss in style.items():
            total = total + objective.style_weight * objective.layer_weights[key] * loss
        return Evaluation(Terms(total, content, style, tv), self._gradient)


def cannot_run(objective: Objective, precision: str = "fp32") -> str | None:
    """Why the planned evaluation does not take an objective, or None when it does."""
    if not native.is_available():
        return native.unavailable_reason()
    if precision == "bf16" and not native.convolves_bfloat16():
        return f"bf16 needs a processor with avx512bf16; in use is {native.selected_isa()}"
    if not objective.layers:
        return "the objective uses no layer of the network"
    x = objective.normalize.mean
    if x.dtype != torch.float32 or x.device.type != "cpu":
        return f"expected float32 on the CPU, got {x.dtype} on {x.device}"
    return None


def _style(objective: Objective) -> dict[str, StyleLoss]:
    return {key: loss for key, loss in objective.style.items() if isinstance(loss, StyleLoss)}


def _content(objective: Objective) -> dict[str, ContentLoss]:
    return {key: loss for key, loss in objective.content.items() if isinstance(loss, ContentLoss)}


def _channels_last(x: Tensor) -> Tensor:
    """``(1, C, H, W)`` as a contiguous ``(1, H, W, C)``."""
    return x.permute(0, 2, 3, 1).contiguous()


def _channels_first(x: Tensor) -> Tensor:
    """``(1, H, W, C)`` seen as ``(1, C, H, W)``."""
    return x.permute(0, 3, 1, 2)
