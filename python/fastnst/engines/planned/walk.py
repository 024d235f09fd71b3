"""The walk over a frozen VGG, forward and back, without a tape: what both planned engines share.

VGG is a chain of 3×3 convolutions, ReLUs and poolings, and its weights are frozen. So the gradient
is known in advance: with g the gradient at a layer's preactivation,

    g_previous = mask(F_previous) · (g ∗ flipped, transposed W  +  dL/dF_previous)

where mask(F) = 1 where F > 0 is the derivative of ReLU. Of the losses on features these have their
gradient written down:

    content   c_l = mean (F − P)²    dc_l/dF = 2 (F − P) / (C·H·W)
    style     g_l = mean (G − A)²    dg_l/dF = 4 (G − A) F / (C²·H·W),   G = F Fᵀ / (H·W)

In which order layers are visited, losses compared and gradients added is said here and nowhere
else. How each step is computed, and in whose memory, a plan supplies (``cpu.py``, ``cuda.py``):
everything that ``Walk`` leaves abstract. A plan keeps features and gradients in its own layout;
the walk hands them from step to step and looks at their number of elements only.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fastnst.devices import guard, ordinary, undisturbed
from fastnst.engines.planned.terms import (
    add_temporal,
    add_total_variation,
    differentiate,
    plain_content,
    plain_style,
)
from fastnst.errors import InvalidInput
from fastnst.evaluation import Engine, Evaluation, Terms
from fastnst.network.architecture import Architecture
from fastnst.network.vgg import VGG
from fastnst.objective.objective import Objective


@dataclass(frozen=True)
class Layer:
    """A convolution, its ReLU and, at the end of a block, the pooling.

    Attributes:
        name: ``"3_1"`` for conv3_1, relu3_1.
        channels: C of its features.
        pool: ``"pool3"`` at the end of a block, otherwise None.
        below: The features that it reads, ``"relu2_1"`` or ``"pool2"``; None: the picture.
    """

    name: str
    channels: int
    pool: str | None
    below: str | None

    @property
    def conv(self) -> str:
        """The name of the features before ReLU."""
        return f"conv{self.name}"

    @property
    def relu(self) -> str:
        """The name of the features after ReLU."""
        return f"relu{self.name}"

    @property
    def output(self) -> str:
        """The name of the features that the next layer reads."""
        return self.pool or self.relu


def chain(network: VGG) -> tuple[Layer, ...]:
    """The layers of a network, from the picture to the deepest."""
    return chain_of(network.architecture, list(network.layers))


def chain_of(architecture: Architecture, names: Sequence[str]) -> tuple[Layer, ...]:
    """The layers ``names`` of an architecture, from the first to the deepest."""
    shapes = architecture.convolutions()
    layers: list[Layer] = []
    for index, name in enumerate(names):
        if name.startswith("conv"):
            after = names[index + 2] if index + 2 < len(names) else ""
            pool = after if after.startswith("pool") else None
            below = layers[-1].output if layers else None
            layers.append(Layer(name.removeprefix("conv"), shapes[name][1], pool, below))
    return tuple(layers)


class Walk(Engine, ABC):
    """An engine that evaluates an objective by one walk forward and one walk back.

    The memory of ``Evaluation.gradient`` is reused by the next evaluation.

    Args:
        objective: On the device and in the dtype of the pictures; with at least one layer.
        precision: ``fp32`` or ``bf16``, or ``int16`` where a plan has it.
        name: What the engine is called in results.

    Attributes:
        layers: From the picture to the deepest.
        features: The features by name, in the plan's layout, where a step still to come reads them.
    """

    def __init__(self, objective: Objective, precision: str, name: str) -> None:
        self.objective = objective
        self.precision = precision
        self.name = name
        self.layers = chain(objective.network)
        self.features: dict[str, Tensor] = {}
        device, self._wide = objective.normalize.mean.device, objective.normalize.mean.dtype
        self._gradient = torch.empty(0, dtype=self._wide, device=device)
        self._plain_style = plain_style(objective)
        self._content_targets = {
            key: loss.target.contiguous(memory_format=torch.channels_last)
            for key, loss in plain_content(objective).items()
        }
        self._content: dict[str, Tensor] = {}  # c_l by layer
        self._style: dict[str, Tensor] = {}  # g_l by layer
        self._content_differences: dict[str, Tensor] = {}  # F − P, until it was added
        self._gram_differences: dict[str, Tensor] = {}  # G − A, until it was added

    # --------------------------------------------------------------------------------- the walk --

    def evaluate(self, image: Tensor) -> Evaluation:
        """The objective and its gradient at ``image`` ``(1, 3, H, W)``."""
        objective = self.objective
        with undisturbed(), guard(image.device), torch.no_grad():
            image = ordinary(image.detach())
            self._allocate_for(image)
            self._forward(image)
            self._compare()
            self._backward()
            tv = add_total_variation(objective, image, self._gradient)
            content = {key: self._content[key] for key in objective.content}
            style = {key: self._style[key] for key in objective.style}
            temporal = add_temporal(objective, image, self._gradient)
            terms = self._weigh(content, style, tv, temporal)
        return Evaluation(terms, self._gradient, self.precision)

    def _allocate_for(self, image: Tensor) -> None:
        """The memory of one picture size, reused by every evaluation of that size."""
        has = self._gradient
        if (has.shape, has.dtype, has.device) != (image.shape, image.dtype, image.device):
            height, width = image.shape[-2:]
            self._check_targets(height, width)
            self._gradient = has.new_empty(0)  # no size fits until all of it is there
            self._allocate(height, width)
            self._gradient = torch.empty_like(image, memory_format=torch.contiguous_format)

    def _check_targets(self, height: int, width: int) -> None:
        """Make sure that the content targets are of a picture of this size.

        Raises:
            InvalidInput: if one is not, which it names.
        """
        for key, target in self._content_targets.items():
            size = self.objective.network.architecture.size_at(key, (height, width))
            if target.shape[-2:] != size:
                raise InvalidInput(
                    f"content loss at {key}: features of {size[0]}×{size[1]} positions, and a "
                    f"target of {target.shape[-2]}×{target.shape[-1]}"
                )

    def _forward(self, image: Tensor) -> None:
        """The features of every layer."""
        x = self._network_input(image)
        for layer in self.layers:
            x = self._convolve(x, layer)

    def _compare(self) -> None:
        """The losses c_l and g_l that are written down; F − P and G − A stay for the way back."""
        self._content, self._style = {}, {}  # those found by autograd come on the way back
        for key, target in self._content_targets.items():
            self._content[key], self._content_differences[key] = self._compare_content(key, target)
        if not self._plain_style:
            return
        values, differences = self._compare_style(
            {key: loss.target_gram for key, loss in self._plain_style.items()}
        )
        found = zip(self._plain_style.items(), values.unbind(), differences, strict=True)
        for (key, loss), value, difference in found:
            self._style[key] = value + loss.spread if loss.spread else value
            self._gram_differences[key] = difference

    def _backward(self) -> None:
        """From the deepest layer to the picture."""
        gradient: Tensor | None = None  # None: zero, no loss was met yet
        for layer in reversed(self.layers):
            if layer.pool is not None:
                gradient = self._add_losses(layer.pool, gradient)
                if gradient is not None:
                    gradient = self._unpool(gradient, layer)
                self._release(layer.pool)
            gradient = self._add_losses(layer.relu, gradient)
            if gradient is not None:
                gradient = self._through_relu(gradient, layer)
            self._release(layer.relu)
            gradient = self._add_losses(layer.conv, gradient)
            self._release(layer.conv)
            if gradient is not None and layer.below is not None:
                gradient = self._convolve_back(gradient, layer)
        assert gradient is not None  # every objective has a loss on some layer
        self._to_image(gradient)

    def _add_losses(self, key: str, gradient: Tensor | None) -> Tensor | None:
        """Add the weighted gradient of the losses on the features ``key``."""
        objective = self.objective
        if key in self._gram_differences:
            channels, positions = self._extent(key)
            scale = 4 * objective.style_factor(key) / (channels**2 * positions)
            difference = self._gram_differences.pop(key)
            gradient = self._add_style_gradient(gradient, key, difference, scale)
        elif key in objective.style:
            self._style[key], found = self._differentiate(objective.style[key], key)
            gradient = self._add(gradient, key, found, objective.style_factor(key))
        if key in self._content_differences:
            difference = self._content_differences.pop(key)
            scale = 2 * objective.content_factor(key) / difference.numel()
            gradient = self._add(gradient, key, difference, scale)
        elif key in objective.content:
            self._content[key], found = self._differentiate(objective.content[key], key)
            gradient = self._add(gradient, key, found, objective.content_factor(key))
        return gradient

    def _differentiate(self, loss: torch.nn.Module, key: str) -> tuple[Tensor, Tensor]:
        """A loss on the features ``key`` and its gradient there ``(1, C, H, W)``, by autograd."""
        return differentiate(loss, self._seen(key).to(self._wide), self.objective.gradient_norm)

    def _extent(self, key: str) -> tuple[int, int]:
        """Channels C and positions H·W of the features ``key``."""
        _, channels, height, width = self._seen(key).shape
        return channels, height * width

    def _weigh(
        self,
        content: Mapping[str, Tensor],
        style: Mapping[str, Tensor],
        tv: Tensor,
        temporal: Tensor | None,
    ) -> Terms:
        """The losses with their weighted sum; a plan with losses in parts sums them up here."""
        return self.objective.terms(content, style, tv, temporal)

    # ------------------------------------------------------------------- what a plan supplies --

    @abstractmethod
    def _allocate(self, height: int, width: int) -> None:
        """Set up what the walk needs for pictures of another size."""

    @abstractmethod
    def _network_input(self, image: Tensor) -> Tensor:
        """The normalised picture, as the first convolution takes it."""

    @abstractmethod
    def _convolve(self, x: Tensor, layer: Layer) -> Tensor:
        """Convolution, ReLU and pooling of a layer.

        What the losses and the way back need of its features is put into ``features``.

        Returns:
            What the next layer reads.
        """

    @abstractmethod
    def _seen(self, key: str) -> Tensor:
        """The features ``key`` seen as ``(1, C, H, W)``, whichever way they lie in memory."""

    @abstractmethod
    def _compare_content(self, key: str, target: Tensor) -> tuple[Tensor, Tensor]:
        """The content loss at the features ``key``.

        Args:
            key: The layer.
            target: P ``(1, C, H, W)``, channels_last.

        Returns:
            c_l, 0-dimensional, and F − P seen as ``(1, C, H, W)``.
        """

    @abstractmethod
    def _compare_style(self, targets: Mapping[str, Tensor]) -> tuple[Tensor, list[Tensor]]:
        """The plain style losses of all layers at once.

        Args:
            targets: A by layer, ``(C, C)``.

        Returns:
            g_l ``(L,)``, in memory of its own, and G − A ``(1, C, C)`` of each layer.
        """

    @abstractmethod
    def _add_style_gradient(
        self, gradient: Tensor | None, key: str, difference: Tensor, scale: float
    ) -> Tensor:
        """Gradient + scale · (D + Dᵀ)/2 · F at the features ``key``, with D ``(1, C, C)``."""

    @abstractmethod
    def _add(self, gradient: Tensor | None, key: str, found: Tensor, scale: float) -> Tensor:
        """Gradient + scale · found at the features ``key``.

        ``found`` is seen as ``(1, C, H, W)``; it is not needed afterwards and may be overwritten.
        """

    @abstractmethod
    def _unpool(self, gradient: Tensor, layer: Layer) -> Tensor:
        """The gradient at a layer's ReLU, from that at its pooling; ReLU's mask may be in it."""

    @abstractmethod
    def _through_relu(self, gradient: Tensor, layer: Layer) -> Tensor:
        """The gradient at a layer's preactivation, from that at its ReLU.

        A plan that masks every gradient as it is written has nothing left to do here.
        """

    @abstractmethod
    def _convolve_back(self, gradient: Tensor, layer: Layer) -> Tensor:
        """The gradient at the features below a layer, from that at its preactivation."""

    @abstractmethod
    def _to_image(self, gradient: Tensor) -> None:
        """Write the gradient at the picture, from that at the first preactivation."""

    def _release(self, key: str) -> None:
        """The features ``key`` are not read any more in this evaluation."""
