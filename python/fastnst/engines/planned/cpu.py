"""The planned evaluation: one forward and one backward walk over the network, without a tape.

VGG is a chain of 3×3 convolutions, ReLUs and poolings, and its weights are frozen. So the gradient
is known in advance: with g the gradient at a layer's preactivation,

    g_previous = mask(F_previous) · (g ∗ flipped, transposed W)  +  gradient of the losses on F_previous

where mask(F) = 1 where F > 0 is the derivative of ReLU. Filters are transformed once for both
directions, features stay channels_last, buffers are allocated once, and nothing deeper than the
deepest layer in use is computed. The kernels are those of ``ops.convolution`` (Winograd) and
``ops.native`` (Gram matrices, style losses).

Content losses and plain style losses have their gradient written down here. Of any other loss it is
found by autograd on that layer's features alone, where Gram matrices are those of the kernels too.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from fastnst.cache import Cache
from fastnst.engines.planned.walk import (
    add_total_variation,
    differentiate,
    plain_content,
    plain_style,
    unpool_l2,
)
from fastnst.engines.planned.workspace import Workspace
from fastnst.evaluation import Evaluation
from fastnst.network.vgg import VGG, L2Pool
from fastnst.objective.objective import Objective
from fastnst.ops import convolution, extension, gram

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
        positive: ``(1, H, W, C // 8)``, which features are > 0, a bit each: all that average
            pooling needs of them on the way back, so there are no ``features`` then.
    """

    name: str
    bias: Tensor
    filters: convolution.Filters | None = None
    gradient_filters: convolution.Filters | None = None
    features: Tensor = field(default_factory=lambda: torch.empty(0))
    preactivation: Tensor | None = None
    pooled: Tensor | None = None
    positive: Tensor | None = None

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
    forward = {key: convolution.transform_filters(w, dtype=dtype) for key, w in weights.items()}
    both = {key: (filters, filters.way_back()) for key, filters in forward.items()}
    return _Filters(image, both)


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
        kept: Cache | None = None,
    ) -> None:
        self.objective = objective
        self.precision = precision
        self.name = name
        self._dtype = DTYPES[precision]
        self._pooling: str | None = None
        self._layers: list[_Layer] = []
        network = objective.network
        filters = (kept or Cache()).get(
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
                self._pooling = objective.network.pooling
        self._image_filters = filters.image
        self._replicates = objective.network.padding == "replicate"
        self._size: tuple[int, int] | None = None
        self._content: dict[str, Tensor] = {}
        self._style_values: dict[str, Tensor] = {}
        self._features: dict[str, Tensor] = {}
        self._style = plain_style(objective)
        self._style_losses = torch.empty(len(self._style))
        self._differences = {
            key: torch.empty(1, *loss.target_gram.shape[-2:]) for key, loss in self._style.items()
        }
        self._content_targets = {
            key: _channels_last(loss.target) for key, loss in plain_content(objective).items()
        }

    # ------------------------------------------------------------------------------------- plan --

    def _allocate(self, height: int, width: int) -> None:
        """All buffers for pictures of one size, reused by every evaluation."""
        objective = self.objective
        self._size = (height, width)
        self._features = {}
        self._gradient = torch.empty(1, 3, height, width)
        shapes = {}
        for layer in self._layers:
            channels = len(layer.bias)
            layer.positive = None
            if self._needs_signs_only(layer):
                layer.positive = torch.empty(1, height, width, channels // 8, dtype=torch.uint8)
            else:
                shapes[f"relu{layer.name}"] = (1, height, width, channels)
            if f"conv{layer.name}" in objective.layers:
                layer.preactivation = self._new(1, height, width, channels)
                self._features[f"conv{layer.name}"] = layer.preactivation
            if layer.pool_name in objective.network.layers and self._ends_block(layer):
                height, width = height // 2, width // 2
                shapes[layer.pool_name] = (1, height, width, channels)
        self._workspace = Workspace(list(shapes.values()), self._dtype)
        self._features |= zip(shapes, self._workspace.slots, strict=True)
        for layer in self._layers:
            if layer.positive is None:
                layer.features = self._features[f"relu{layer.name}"]
            layer.pooled = self._features.get(layer.pool_name) if self._ends_block(layer) else None
        self._content_differences = {
            key: torch.empty_like(target) for key, target in self._content_targets.items()
        }

    def _new(self, *shape: int) -> Tensor:
        return torch.empty(shape, dtype=self._dtype)

    def _ends_block(self, layer: _Layer) -> bool:
        names = list(self.objective.network.layers)
        after = names.index(f"conv{layer.name}") + 2
        return after < len(names) and names[after].startswith("pool")

    def _needs_signs_only(self, layer: _Layer) -> bool:
        averaged = self._ends_block(layer) and self._pooling == "average"
        asked_for = {f"conv{layer.name}", f"relu{layer.name}"} & set(self.objective.layers)
        return averaged and layer.filters is not None and not asked_for

    # --------------------------------------------------------------------------------- evaluate --

    def evaluate(self, image: Tensor) -> Evaluation:
        """The objective and its gradient at ``image`` ``(1, 3, H, W)`` float32."""
        height, width = image.shape[-2:]
        if self._size != (height, width):
            self._allocate(height, width)
        with torch.no_grad():
            self._forward(image)
            self._losses()
            self._backward()
        return self._evaluation(image)

    def _forward(self, image: Tensor) -> None:
        x = self.objective.normalize(image.detach()).contiguous()
        for layer in self._layers:
            if layer.filters is None and self._replicates:
                self._convolve_replicated(x, layer)
            elif layer.filters is None:
                convolution.convolve_image(
                    x,
                    self._image_filters,
                    layer.bias,
                    preactivation=layer.preactivation,
                    out=layer.features,
                )
            else:
                fused = None if self._pooling == "l2" else layer.pooled
                convolution.convolve(
                    x,
                    layer.filters,
                    layer.bias,
                    relu=True,
                    pooling=None if fused is None else self._pooling,
                    preactivation=layer.preactivation,
                    out=None if layer.positive is not None else layer.features,
                    pooled=fused,
                    positive=layer.positive,
                )
                if layer.pooled is not None and fused is None:
                    _pool_l2(layer.features, out=layer.pooled)
            x = layer.output

    def _convolve_replicated(self, x: Tensor, layer: _Layer) -> None:
        """The first layer of a picture whose edge is replicated beyond it."""
        padded = nn.functional.pad(x, (1, 1, 1, 1), mode="replicate")
        _, height, width, channels = layer.features.shape
        shape = (1, height + 2, width + 2, channels)
        outer = self._new(*shape)  # zero-padded once more: its outermost values are not used
        before = None if layer.preactivation is None else self._new(*shape)
        convolution.convolve_image(
            padded, self._image_filters, layer.bias, preactivation=before, out=outer
        )
        layer.features.copy_(outer[:, 1:-1, 1:-1])
        if layer.preactivation is not None and before is not None:
            layer.preactivation.copy_(before[:, 1:-1, 1:-1])

    def _image_gradient(self, gradient: Tensor) -> None:
        """The gradient with respect to the image, from that at the first preactivation."""
        if not self._replicates:
            convolution.image_gradient(gradient, self._image_filters, out=self._gradient)
            return
        outer = nn.functional.pad(gradient, (0, 0, 1, 1, 1, 1))
        _, height, width, _ = outer.shape
        padded = torch.empty(1, 3, height, width)
        convolution.image_gradient(outer, self._image_filters, out=padded)
        edges = [1, 1, 1, 1]
        backward = torch.ops.aten.replication_pad2d_backward
        self._gradient.copy_(backward(padded, self._gradient, edges))

    def _losses(self) -> None:
        """Content losses c_l and style losses g_l; F − P and G − A are kept for the gradient."""
        content = self._content = {}  # those found by autograd come later
        for key, target in self._content_targets.items():
            difference = self._content_differences[key]
            torch.sub(self._features[key], target, out=difference)
            flat = difference.view(-1)
            content[key] = torch.dot(flat, flat) / flat.numel()
        style = self._style
        if style:
            gram.style_losses_into(
                [_channels_first(self._features[key]) for key in style],
                [loss.target_gram for loss in style.values()],
                losses=self._style_losses,
                differences=[self._differences[key] for key in style],
            )
        values = zip(style.items(), self._style_losses.clone(), strict=True)
        self._style_values = {key: value + loss.spread for (key, loss), value in values}

    def _backward(self) -> None:
        """From the deepest layer to the image."""
        gradient: Tensor | None = None  # at the output of the layer; None: zero
        for index in reversed(range(len(self._layers))):
            layer = self._layers[index]
            if layer.pooled is not None:
                gradient = self._add_losses(layer.pool_name, gradient, layer.pooled)
                if gradient is not None and layer.positive is None:
                    gradient = self._unpool(gradient, layer)
            # gradient is masked by the ReLU here, so it is also that at the preactivation; or, with
            # ``positive``, it is still that at the pooling, and there are no losses in between
            gradient = self._add_losses(
                f"relu{layer.name}", gradient, layer.features, relu_mask=True
            )
            gradient = self._add_losses(f"conv{layer.name}", gradient, layer.features)
            if gradient is None:
                continue
            if layer.gradient_filters is None:
                self._image_gradient(gradient)
                self._gradient.div_(self.objective.normalize.std)
                return
            previous = self._layers[index - 1]
            below = previous.output
            out = self._workspace.behind(below, below.shape, gradient)
            convolution.convolve(
                gradient,
                layer.gradient_filters,
                x_positive=layer.positive,
                mask=previous.features if previous.pooled is None else None,
                out=out,
            )
            gradient = out

    def _unpool(self, gradient: Tensor, layer: _Layer) -> Tensor:
        """The gradient of a pooling and of the ReLU before it."""
        assert self._pooling is not None
        assert layer.pooled is not None
        features, behind = layer.features, self._workspace.behind
        if self._pooling == "l2":
            out = behind(layer.pooled, features.shape, gradient)
            seen = (_channels_first(x) for x in (gradient, features, layer.pooled))
            unpool_l2(*seen, out=_channels_first(out))
            return out
        if f"relu{layer.name}" in self.objective.layers:
            out = behind(features, features.shape, gradient)
        else:
            out = features  # in their place: each window is read before it is written
        convolution.unpool(gradient, features, self._pooling, relu_mask=True, out=out)
        return out

    def _add_losses(
        self, key: str, gradient: Tensor | None, slot: Tensor, *, relu_mask: bool = False
    ) -> Tensor | None:
        """Add the gradient of the losses on one layer's features, masked by its ReLU.

        A gradient that is not there yet is put behind ``slot``.
        """
        objective = self.objective
        if key in self._style:
            features = self._features[key]
            out = self._workspace.behind(slot, features.shape) if gradient is None else gradient
            channels, positions = features.shape[3], features.shape[1] * features.shape[2]
            gram.accumulate_style_gradient(
                _channels_first(features),
                self._differences[key],
                4 * objective.style_factor(key) / (channels**2 * positions),
                relu_mask,
                _channels_first(out),
                accumulate=gradient is not None,
            )
            gradient = out
        elif key in objective.style:
            value, found = self._differentiate(objective.style[key], key)
            self._style_values[key] = value
            scale = objective.style_factor(key)
            gradient = self._add(gradient, key, found, scale, slot, relu_mask)
        if key in self._content_targets:
            scale = 2 * objective.content_factor(key) / self._features[key].numel()
            difference = self._content_differences[key]
            gradient = self._add(gradient, key, difference, scale, slot, relu_mask)
        elif key in objective.content:
            value, found = self._differentiate(objective.content[key], key)
            self._content[key] = value
            scale = objective.content_factor(key)
            gradient = self._add(gradient, key, found, scale, slot, relu_mask)
        return gradient

    def _add(
        self,
        gradient: Tensor | None,
        key: str,
        found: Tensor,
        scale: float,
        slot: Tensor,
        relu_mask: bool,
    ) -> Tensor:
        """Add scale · found, where features > 0 with ``relu_mask``; ``found`` is overwritten."""
        features = self._features[key]
        if relu_mask:
            torch.ops.aten.threshold_backward.grad_input(found, features, 0, grad_input=found)
        if gradient is None:
            out = self._workspace.behind(slot, features.shape)
            return torch.mul(found, scale, out=out)
        return gradient.add_(found, alpha=scale)

    def _differentiate(self, loss: nn.Module, key: str) -> tuple[Tensor, Tensor]:
        """A loss on one layer's features and its gradient there, ``(1, H, W, C)``, by autograd."""
        features = _channels_first(self._features[key].float())
        value, gradient = differentiate(loss, features, self.objective.gradient_norm)
        return value, _channels_last(gradient)

    def _evaluation(self, image: Tensor) -> Evaluation:
        objective = self.objective
        tv = add_total_variation(objective, image, self._gradient)
        content = {key: self._content[key] for key in objective.content}
        style = {key: self._style_values[key] for key in objective.style}
        return Evaluation(objective.terms(content, style, tv), self._gradient, self.precision)


def cannot_run(objective: Objective, precision: str = "fp32") -> str | None:
    """Why the planned evaluation does not take an objective, or None when it does."""
    if not extension.is_available():
        return extension.unavailable_reason()
    if precision == "bf16" and not extension.convolves_bfloat16():
        return f"bf16 needs a processor with avx512bf16; in use is {extension.selected_isa()}"
    if not objective.layers:
        return "the objective uses no layer of the network"
    x = objective.normalize.mean
    if x.dtype != torch.float32 or x.device.type != "cpu":
        return f"expected float32 on the CPU, got {x.dtype} on {x.device}"
    return None


def _pool_l2(features: Tensor, *, out: Tensor) -> None:
    """The root mean square over 2×2 windows of ``(1, H, W, C)``, in plain PyTorch."""
    squares = nn.functional.avg_pool2d(_channels_first(features).square(), 2)
    torch.sqrt(squares.clamp_min_(L2Pool.SMALLEST).permute(0, 2, 3, 1), out=out)


def _channels_last(x: Tensor) -> Tensor:
    """``(1, C, H, W)`` as a contiguous ``(1, H, W, C)``."""
    return x.permute(0, 2, 3, 1).contiguous()


def _channels_first(x: Tensor) -> Tensor:
    """``(1, H, W, C)`` seen as ``(1, C, H, W)``."""
    return x.permute(0, 3, 1, 2)
