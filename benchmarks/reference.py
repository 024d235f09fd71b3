"""The textbook loop: what a reader of Gatys et al. (arXiv:1508.06576) writes in plain PyTorch.

It has NCHW tensors in float32, autograd, ``f @ f.T``, ``mse_loss``, ``torch.optim.LBFGS`` with a
history of 100, frozen weights and white noise. It shares fastnst's weights and picture loading and
nothing else. Every ratio of the benchmark is taken against this file, so it is never tuned.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

CONVOLUTIONS = (2, 2, 4, 4, 4)  # VGG-19, by block


class VGG19(nn.Module):
    """VGG-19 with average pooling, cut after the deepest layer in ``names``."""

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        tensors: Mapping[str, Tensor],
        mean: Sequence[float],
        std: Sequence[float],
        names: Sequence[str],
    ) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))
        self.names = set(names)
        self.layers = nn.ModuleDict()
        for block, count in enumerate(CONVOLUTIONS, start=1):
            for index in range(1, count + 1):
                weight = tensors[f"conv{block}_{index}.weight"]
                convolution = nn.Conv2d(weight.shape[1], weight.shape[0], 3, padding=1)
                convolution.weight = nn.Parameter(weight)
                convolution.bias = nn.Parameter(tensors[f"conv{block}_{index}.bias"])
                self.layers[f"conv{block}_{index}"] = convolution
                self.layers[f"relu{block}_{index}"] = nn.ReLU()
                if self.names <= set(self.layers):
                    self.requires_grad_(False)
                    return
            self.layers[f"pool{block}"] = nn.AvgPool2d(2)
        raise KeyError(f"no such layer among {sorted(self.names)}")

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        x = (image - self.mean) / self.std
        features = {}
        for name, layer in self.layers.items():
            x = layer(x)
            if name in self.names:
                features[name] = x
        return features


def gram_matrix(features: Tensor) -> Tensor:
    f = features.flatten(2)[0]
    return f @ f.T / f.shape[1]


class Reference:
    """L(x) = α · Σ mean (F − P)² + β · Σ w_l · mean (G − A)² of a content and a style picture."""

    def __init__(
        self,
        network: VGG19,
        content: Tensor,
        style: Tensor,
        *,
        content_layers: Sequence[str],
        layer_weights: Mapping[str, float],
        content_weight: float,
        style_weight: float,
    ) -> None:
        self.network = network
        with torch.no_grad():
            self.content = {name: network(content)[name] for name in content_layers}
            self.style = {name: gram_matrix(network(style)[name]) for name in layer_weights}
        self.layer_weights = layer_weights
        self.content_weight = content_weight
        self.style_weight = style_weight

    def loss(self, image: Tensor) -> Tensor:
        features = self.network(image)
        loss = torch.zeros((), device=image.device)
        for name, target in self.content.items():
            loss = loss + self.content_weight * mse_loss(features[name], target)
        for name, target in self.style.items():
            weight = self.style_weight * self.layer_weights[name]
            loss = loss + weight * mse_loss(gram_matrix(features[name]), target)
        return loss

    def optimise(self, start: Tensor) -> Iterator[tuple[Tensor, float]]:
        """Yield a picture and its loss, then take an L-BFGS step from it; without end."""
        image = start.clone().requires_grad_()
        optimizer = torch.optim.LBFGS(
            [image], max_iter=1, history_size=100, tolerance_grad=-1, tolerance_change=-1
        )

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = self.loss(image)
            loss.backward()  # type: ignore[no-untyped-call]
            return loss

        while True:
            before = image.detach().clone()  # step() evaluates there, then moves on
            loss = optimizer.step(closure)  # type: ignore[no-untyped-call]
            yield before, loss.item()


def white_noise(like: Tensor, seed: int) -> Tensor:
    """N(0.5, 0.05²) clamped to [0, 1], drawn on the CPU: five times fastnst's amplitude."""
    noise = torch.randn(like.shape, generator=torch.Generator().manual_seed(seed))
    return (0.5 + 0.05 * noise).clamp(0, 1).to(like)
