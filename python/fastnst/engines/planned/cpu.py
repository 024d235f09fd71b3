"""The plan on a CPU: compiled Winograd convolutions, Gram matrices and style losses.

Filters are transformed once for each direction, features stay channels_last ``(1, H, W, C)``, and
buffers are allocated once for a picture size. The kernels are those of ``ops.convolution`` and
``ops.gram``; they fuse what the walk lists as steps of its own:

* bias, ReLU and pooling into the convolution;
* ReLU's mask into whatever writes a gradient at a ReLU: the convolution on the way back, the
  unpooling, and the gradients of losses. So every gradient at a ReLU is also that at the
  preactivation, and ``_through_relu`` has nothing to do;
* where only the average of features is needed, one bit for each says which are > 0, and the
  gradient of pooling and ReLU is taken while the next convolution reads it.

The way back may have products in bfloat16 where the way forward is in float32: of the error that a
gradient in bfloat16 has late in a run, all but some per cent comes from the way forward. Integers
of 16 bits are exact enough for both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fastnst.cache import Cache
from fastnst.engines.planned.l2_pooling import unpool_l2
from fastnst.engines.planned.layout import lay_out
from fastnst.engines.planned.walk import Layer, Walk
from fastnst.engines.planned.workspace import Workspace
from fastnst.network.vgg import VGG, L2Pool
from fastnst.objective.objective import Objective
from fastnst.ops import convolution, extension, gram, sums
from fastnst.ops.buffers import CPU

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}  # of features and their gradients
PRODUCTS = {**DTYPES, "int16": torch.int16}  # of what is multiplied; features are float32 then


@dataclass(frozen=True)
class _Filters:
    """A network's filters as the kernels take them.

    Attributes:
        image: Those of the first convolution.
        forward: Those of the other convolutions, by name.
        backward: The same flipped and transposed, for the way back; perhaps in another dtype.
        bias: ``(C,)`` of every convolution, by name.
    """

    image: convolution.ImageFilters
    forward: dict[str, convolution.Filters]
    backward: dict[str, convolution.Filters]
    bias: dict[str, Tensor]


def _arrange_filters(network: VGG, products: torch.dtype, back: torch.dtype) -> _Filters:
    weights: dict[str, Tensor] = {}
    bias: dict[str, Tensor] = {}
    for key, module in network.layers.items():
        if isinstance(module, nn.Conv2d):
            assert module.bias is not None
            weights[key] = module.weight.detach().contiguous()
            bias[key] = module.bias.detach()
    image = convolution.arrange_image_filters(weights.pop(next(iter(weights))))
    forward = {key: convolution.transform_filters(w, dtype=products) for key, w in weights.items()}
    backward = {key: filters.way_back(back) for key, filters in forward.items()}
    return _Filters(image, forward, backward, bias)


class NativeEngine(Walk):
    """Evaluates an objective with the compiled kernels on the CPU.

    Results do not depend on the number of threads.

    Args:
        objective: Float32, on the CPU; ``unavailable_reason`` says whether it will do.
        precision: ``fp32``; ``int16``: the same, but that convolutions multiply integers of 16
            bits; or ``bf16``: the features, the gradients with respect to them and the filters are
            bfloat16, the image, all sums, Gram matrices and losses float32.
        name: What the engine is called in results.
        cache: Transformed filters of the same network, to be used again.
        tile: The side of Winograd's tiles in all layers whose products are in ``precision``; None:
            the faster one for each layer.
        back: The precision of the products in the convolutions on the way back alone: ``bf16``, or
            the same. None: the same. Losses do not depend on it, and gradients are stored like
            features.
    """

    def __init__(
        self,
        objective: Objective,
        precision: str = "fp32",
        name: str = "native",
        cache: Cache | None = None,
        tile: int | None = None,
        back: str | None = None,
    ) -> None:
        super().__init__(objective, precision, name)
        network = objective.network
        self._dtype = DTYPES.get(precision, torch.float32)
        back = back or precision
        self._tile = tile
        self._tile_back = tile if back == precision else None  # bfloat16 has one alone
        self._pooling = network.pooling
        self._replicates = network.padding == "replicate"
        self._filters = (cache or Cache()).get(
            "filters",
            (network, precision, back),
            lambda: _arrange_filters(network, PRODUCTS[precision], PRODUCTS[back]),
        )
        if tile is not None:  # those for other tiles are left from the scale before this one
            for filters in self._filters.forward.values():
                filters.keep(tile)
        if self._tile_back is not None:
            for filters in self._filters.backward.values():
                filters.keep(self._tile_back)
        self._positive: dict[str, Tensor] = {}
        self._slots: dict[str, Tensor] = {}
        self._style_losses = self._new(len(self._plain_style), dtype=torch.float32)
        self._gram_buffers = {
            key: self._new(1, *loss.target_gram.shape[-2:], dtype=torch.float32)
            for key, loss in self._plain_style.items()
        }

    # ---------------------------------------------------------------------------------- memory --

    def _allocate(self, height: int, width: int) -> None:
        """All buffers.

        ``features``: ``(1, H, W, C)``. Those after a ReLU and a pooling lie in the workspace, in
        the order of the layers; those before a ReLU are there where a loss asks for them.
        ``_positive``: by layer, ``(1, H, W, C // 8)``, which features are > 0, a bit each: all that
        average pooling needs of them on the way back, so there are no features then.
        ``_slots``: the place in the workspace behind which a gradient at some features may lie.
        """
        self.features, self._positive = {}, {}
        layout = lay_out(self.layers, self.objective.layers, self._pooling, height, width)
        for name, shape in layout.positive.items():
            self._positive[name] = self._new(*shape, dtype=torch.uint8)
        for name, shape in layout.before.items():
            self.features[name] = self._new(*shape)
        self._workspace = self._new_workspace(list(layout.slots.values()))
        self._slots = dict(zip(layout.slots, self._workspace.slots, strict=True))
        self.features |= self._slots
        for layer in self.layers:
            if layer.relu in self._slots:
                self._slots[layer.conv] = self._slots[layer.relu]
        self._content_buffers = {
            key: self._new(*self.features[key].shape, dtype=target.dtype)
            for key, target in self._content_targets.items()
        }

    def _new_workspace(self, shapes: list[tuple[int, ...]]) -> Workspace:
        return Workspace(shapes, self._dtype)

    def _new(self, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
        return torch.empty(shape, dtype=dtype or self._dtype, device=CPU)

    def _seen(self, key: str) -> Tensor:
        return _channels_first(self.features[key])

    # --------------------------------------------------------------------------------- forward --

    def _network_input(self, image: Tensor) -> Tensor:
        normalised: Tensor = self.objective.normalize(image)
        return normalised.contiguous()

    def _convolve(self, x: Tensor, layer: Layer) -> Tensor:
        if layer.below is None:
            features, before = self.features[layer.relu], self.features.get(layer.conv)
            self._convolve_image(x, layer, features, before)
            return features
        pooled = None if layer.pool is None else self.features[layer.pool]
        fused = None if self._pooling == "l2" else pooled
        convolution.convolve(
            x,
            self._filters.forward[layer.conv],
            self._filters.bias[layer.conv],
            relu=True,
            pooling=None if fused is None else self._pooling,
            preactivation=self.features.get(layer.conv),
            out=self.features.get(layer.relu),
            pooled=fused,
            positive=self._positive.get(layer.name),
            tile=self._tile,
            rows=self._rows_at(layer.conv),
        )
        if pooled is not None and fused is None:
            features = self._within(self.features[layer.relu], layer.relu)
            _pool_l2(features, out=self._within(pooled, layer.output))
        return self.features[layer.output]

    def _convolve_image(
        self, x: Tensor, layer: Layer, features: Tensor, before: Tensor | None
    ) -> None:
        """The first layer, ``(1, 3, H, W)`` to ``(1, H, W, C)``: features, and before the ReLU."""
        filters, bias = self._filters.image, self._filters.bias[layer.conv]
        if not self._replicates:
            convolution.convolve_image(x, filters, bias, preactivation=before, out=features)
            return
        # padded by the edge, and zero-padded once more: the outermost values are not used
        padded = nn.functional.pad(x, (1, 1, 1, 1), mode="replicate")
        _, height, width, channels = features.shape
        shape = (1, height + 2, width + 2, channels)
        outer = self._new(*shape)
        outer_before = None if before is None else self._new(*shape)
        convolution.convolve_image(padded, filters, bias, preactivation=outer_before, out=outer)
        features.copy_(outer[:, 1:-1, 1:-1])
        if before is not None and outer_before is not None:
            before.copy_(outer_before[:, 1:-1, 1:-1])

    # ---------------------------------------------------------------------------------- losses --

    def _compare_content(self, key: str, target: Tensor) -> tuple[Tensor, Tensor]:
        difference = self._content_buffers[key]
        torch.sub(self.features[key], _channels_last(target), out=difference)
        loss = sums.squared_norm(difference).float() / difference.numel()
        return loss, _channels_first(difference)

    def _compare_style(self, targets: Mapping[str, Tensor]) -> tuple[Tensor, list[Tensor]]:
        differences = [self._gram_buffers[key] for key in targets]
        gram.style_losses_into(
            [self._seen(key) for key in targets],
            list(targets.values()),
            losses=self._style_losses,
            differences=differences,
        )
        return self._style_losses.clone(), differences

    def _add_style_gradient(
        self, gradient: Tensor | None, key: str, difference: Tensor, scale: float
    ) -> Tensor:
        features = self.features[key]
        out = self._behind(key) if gradient is None else gradient
        gram.accumulate_style_gradient(
            _channels_first(features),
            difference,
            scale,
            _is_masked(key),
            _channels_first(out),
            accumulate=gradient is not None,
        )
        return out

    def _add(self, gradient: Tensor | None, key: str, found: Tensor, scale: float) -> Tensor:
        found = _channels_last(found)
        if _is_masked(key):
            features = self.features[key]
            torch.ops.aten.threshold_backward.grad_input(found, features, 0, grad_input=found)
        if gradient is None:
            return torch.mul(found, scale, out=self._behind(key))
        return gradient.add_(found, alpha=scale)

    def _behind(self, key: str) -> Tensor:
        """Memory for the first gradient at the features ``key``."""
        return self._workspace.behind(self._slots[key], self.features[key].shape)

    # ---------------------------------------------------------------------------- the way back --

    def _unpool(self, gradient: Tensor, layer: Layer) -> Tensor:
        """The gradient of a pooling and of the ReLU before it.

        Where there are signs alone the next convolution takes it, and it stays that at the pooling:
        there are no losses in between.
        """
        if layer.name in self._positive:
            return gradient
        assert layer.pool is not None
        features, pooled = self.features[layer.relu], self.features[layer.pool]
        if self._pooling == "l2":
            out = self._workspace.behind(pooled, features.shape, gradient)
            *seen, to = (
                _channels_first(self._within(x, key))
                for x, key in (
                    *((gradient, layer.pool), (features, layer.relu)),
                    *((pooled, layer.pool), (out, layer.relu)),
                )
            )
            unpool_l2(*seen, out=to)
            return out
        if layer.relu in self.objective.layers:
            out = self._workspace.behind(features, features.shape, gradient)
        else:
            out = features  # written over them: each window is read before it is written
        convolution.unpool(
            self._within(gradient, layer.pool),
            self._within(features, layer.relu),
            self._pooling,
            relu_mask=True,
            out=self._within(out, layer.relu),
        )
        return out

    def _through_relu(self, gradient: Tensor, layer: Layer) -> Tensor:  # noqa: ARG002
        return gradient

    def _convolve_back(self, gradient: Tensor, layer: Layer) -> Tensor:
        assert layer.below is not None
        below = self.features[layer.below]
        out = self._workspace.behind(below, below.shape, gradient)
        convolution.convolve(
            gradient,
            self._filters.backward[layer.conv],
            x_positive=self._positive.get(layer.name),
            mask=below if _is_masked(layer.below) else None,
            out=out,
            tile=self._tile_back,
            rows=self._rows_at(layer.conv),
        )
        return out

    # ------------------------------------------------------------------------------------ rows --

    def _rows_at(self, layer: str) -> slice | None:  # noqa: ARG002
        """The rows of a layer that are computed; None: all."""
        return None

    def _within(self, x: Tensor, layer: str) -> Tensor:
        """The computed rows of ``(1, H, W, C)``, which lies at a layer."""
        rows = self._rows_at(layer)
        return x if rows is None else x[:, rows]

    def _to_image(self, gradient: Tensor) -> None:
        if self._replicates:
            outer = nn.functional.pad(gradient, (0, 0, 1, 1, 1, 1))
            _, height, width, _ = outer.shape
            padded = self._new(1, 3, height, width, dtype=torch.float32)
            convolution.image_gradient(outer, self._filters.image, out=padded)
            backward = torch.ops.aten.replication_pad2d_backward
            self._gradient.copy_(backward(padded, self._gradient, [1, 1, 1, 1]))
        else:
            convolution.image_gradient(gradient, self._filters.image, out=self._gradient)
        self._gradient.div_(self.objective.normalize.std)


def unavailable_reason(objective: Objective, precision: str = "fp32") -> str | None:
    """Why this plan cannot run an objective, or None if it can."""
    if not extension.is_available():
        return extension.unavailable_reason()
    if precision in ("bf16", "mixed") and not extension.convolves_bfloat16():
        used = extension.selected_isa()
        return f"{precision} needs a processor with avx512bf16 or neonbf16; in use is {used}"
    if precision == "int16" and not extension.multiplies_integers():
        used = extension.selected_isa()
        return f"int16 needs a processor with avx512vnni; in use is {used} without it"
    if not objective.layers:
        return "the objective uses no layer of the network"
    x = objective.normalize.mean
    if x.dtype != torch.float32 or x.device.type != "cpu":
        return f"expected float32 on the CPU, got {x.dtype} on {x.device}"
    return None


def _is_masked(key: str) -> bool:
    """Whether gradients at the features ``key`` are written with ReLU's mask."""
    return key.startswith("relu")


def _pool_l2(features: Tensor, *, out: Tensor) -> None:
    """The root mean square over 2×2 windows of ``(1, H, W, C)``, in plain PyTorch."""
    squares = nn.functional.avg_pool2d(_channels_first(features).square(), 2)
    torch.sqrt(squares.clamp_min_(L2Pool.SMALLEST).permute(0, 2, 3, 1), out=out)


def _channels_last(x: Tensor) -> Tensor:
    """``(1, C, H, W)`` as a contiguous ``(1, H, W, C)``; no copy where it lies like that."""
    return x.permute(0, 2, 3, 1).contiguous()


def _channels_first(x: Tensor) -> Tensor:
    """``(1, H, W, C)`` seen as ``(1, C, H, W)``."""
    return x.permute(0, 3, 1, 2)
