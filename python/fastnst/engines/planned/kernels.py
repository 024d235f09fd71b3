"""The plan on a GPU with the kernels of csrc/cuda: cuDNN is left with the inner convolutions alone.

It is ``cuda.py``'s plan with fewer passes over memory. The first convolution reads the picture and
writes features in their own dtype; a pooling is one pass; unpooling, content loss and the mask of a
ReLU are one pass, style gradient and mask another; the losses become their weighted sum in one
kernel. Where an objective asks for something else (L2 pooling, losses found by autograd), it is
computed as there.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from fastnst.cache import Cache
from fastnst.engines.planned.cuda import PlannedEngine
from fastnst.engines.planned.cudnn import convolve, convolve_relu
from fastnst.engines.planned.walk import Layer
from fastnst.evaluation import Terms
from fastnst.objective.objective import Objective
from fastnst.ops import device as kernels


class KernelEngine(PlannedEngine):
    """Evaluates an objective on a GPU by cuDNN's convolutions and kernels of our own.

    Args:
        objective: On the device of the pictures, float32; with at least one layer.
        precision: As for ``PlannedEngine``.
        name: What the engine is called in results.
        cache: Arranged filters of the same network, to be used again.
    """

    def __init__(
        self,
        objective: Objective,
        precision: str = "fp32",
        name: str = "native",
        cache: Cache | None = None,
    ) -> None:
        super().__init__(objective, precision, name, cache)
        first = objective.network.layers[self.layers[0].conv]
        assert isinstance(first, torch.nn.Conv2d)
        assert first.bias is not None
        normalize = objective.normalize
        self._image_filters = kernels.arrange_image_filters(
            first.weight, first.bias, normalize.mean, normalize.std
        )
        self._masked: str | None = None  # features at which the gradient has ReLU's mask already
        self._squares: dict[str, Tensor] = {}  # sums of (F − P)² by layer

    # --------------------------------------------------------------------------------- forward --

    def _network_input(self, image: Tensor) -> Tensor:
        self.features.clear()  # what an evaluation that failed has left
        self._masked = None
        return image.contiguous()  # it is normalised as it is read

    def _convolve(self, x: Tensor, layer: Layer) -> Tensor:
        wanted = layer.conv in self.objective.layers
        if layer.below is None:
            batch, _, height, width = x.shape
            features = torch.empty(
                (batch, layer.channels, height, width),
                dtype=self._dtype,
                device=x.device,
                memory_format=torch.channels_last,
            )
            kernels.image_features(
                x,
                self._image_filters,
                relu=not wanted,
                replicate=self._replicates,
                out=features,
            )
        elif wanted:
            filters = self.filters[layer.conv]
            features = convolve(x, filters.forward, filters.bias)
        else:
            features = convolve_relu(x, self.filters[layer.conv])
        if wanted:
            self.features[layer.conv] = features
            features = features.relu()
        self.features[layer.relu] = features
        if layer.pool is not None:
            features = self._pool(features, layer.pool)
            self.features[layer.pool] = features
        return features

    def _pool(self, x: Tensor, name: str) -> Tensor:
        if self._pooling not in ("average", "max"):
            return super()._pool(x, name)
        batch, channels, height, width = x.shape
        out = torch.empty(
            (batch, channels, height // 2, width // 2),
            dtype=x.dtype,
            device=x.device,
            memory_format=torch.channels_last,
        )
        kernels.pool_features(x, self._pooling, out=out)  # the way back finds the maxima in x
        return out

    # ---------------------------------------------------------------------------------- losses --

    def _compare_content(self, key: str, target: Tensor) -> tuple[Tensor, Tensor]:
        """Nothing yet: the loss and its gradient are found in one pass on the way back."""
        features = self.features[key]
        self._squares[key] = kernels.square_sums(features)
        if target.dtype != features.dtype:
            target = target.to(features.dtype)
            self._content_targets[key] = target
        return self._squares[key], target

    def _compare_style(self, targets: Mapping[str, Tensor]) -> tuple[Tensor, list[Tensor]]:
        features = [self.features[key] for key in targets]
        losses = features[0].new_empty(len(features), dtype=torch.float32)
        rounding = self._rounding()
        symmetric = [kernels.symmetric_differences(x, rounding) for x in features]
        kernels.style_losses(features, list(targets.values()), losses, symmetric, rounding)
        return losses, symmetric

    def _add_style_gradient(
        self, gradient: Tensor | None, key: str, difference: Tensor, scale: float
    ) -> Tensor:
        features, is_relu = self.features[key], key.startswith("relu")
        out = torch.empty_like(features) if gradient is None else gradient
        kernels.style_gradient(
            features,
            difference,
            scale,
            out,
            accumulate=gradient is not None,
            relu_mask=is_relu,
            precision=self._rounding(),
        )
        self._masked = key if is_relu else None
        return out

    def _add(self, gradient: Tensor | None, key: str, found: Tensor, scale: float) -> Tensor:
        if found is not self._content_targets.get(key):
            self._masked = None
            added = super()._add(gradient, key, found, scale)
            return added.contiguous(memory_format=torch.channels_last)
        features, is_relu = self.features[key], key.startswith("relu")
        out = torch.empty_like(features) if gradient is None else gradient
        kernels.layer_gradient(
            features,
            gradient,
            relu_mask=is_relu,
            target=found,
            scale=scale,
            squares=self._squares[key],
            out=out,
        )
        self._masked = key if is_relu else None
        return out

    def _weigh(
        self,
        content: Mapping[str, Tensor],
        style: Mapping[str, Tensor],
        tv: Tensor,
        temporal: Tensor | None,
    ) -> Terms:
        objective = self.objective
        terms = []
        for key, value in content.items():
            sums = value.ndim == 1  # of squares, by block
            divisor = self._content_targets[key].numel() if sums else 1
            terms.append(kernels.LossTerm(value, objective.content_factor(key), divisor))
        terms += [
            kernels.LossTerm(value.float(), objective.style_factor(key))
            for key, value in style.items()
        ]
        terms.append(kernels.LossTerm(tv, objective.tv_weight))
        if temporal is not None:
            terms.append(kernels.LossTerm(temporal, objective.temporal_weight))
        row = torch.empty(1 + len(terms), dtype=torch.float32, device=tv.device)
        kernels.weigh_losses(terms, row)
        total, *parts = row.unbind()
        temporal = None if temporal is None else parts.pop()
        tv, count = parts.pop(), len(content)
        return Terms(
            total,
            dict(zip(content, parts[:count], strict=True)),
            dict(zip(style, parts[count:], strict=True)),
            tv,
            row,
            temporal,
        )

    # ---------------------------------------------------------------------------- the way back --

    def _unpool(self, gradient: Tensor, layer: Layer) -> Tensor:
        if self._pooling not in ("average", "max"):
            return super()._unpool(gradient, layer)
        features = self.features[layer.relu]
        out = torch.empty_like(features)
        kernels.layer_gradient(features, gradient, pooling=self._pooling, out=out)
        self._masked = layer.relu
        return out

    def _through_relu(self, gradient: Tensor, layer: Layer) -> Tensor:
        if self._masked != layer.relu:
            kernels.layer_gradient(self.features[layer.relu], gradient, out=gradient)
        self._masked = None
        return gradient

    def _to_image(self, gradient: Tensor) -> None:
        if self._replicates:
            super()._to_image(gradient)
        else:
            kernels.image_gradient(gradient, self._image_filters, out=self._gradient)
