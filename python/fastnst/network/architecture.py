"""The topologies of VGG-16 and VGG-19: their layers, and what these do to a picture's size.

Layers carry the names of the papers: ``conv4_2`` is the output of the convolution, before its
ReLU; ``relu4_2`` is the output of the ReLU; ``pool4`` the pooling after the fourth block. What
Gatys et al. call "conv4_2" is ``relu4_2`` here. Nothing here imports torch.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from fastnst.errors import InvalidInput


@dataclass(frozen=True)
class Architecture:
    """The topology of one VGG network.

    Attributes:
        name: ``"vgg19"`` or ``"vgg16"``.
        blocks: For each block, the output channels of its 3×3 convolutions. Each block ends in a
            2×2 pooling with stride 2.
    """

    name: str
    blocks: tuple[tuple[int, ...], ...]

    def layers(self) -> tuple[str, ...]:
        """Names of all layers in order: conv1_1, relu1_1, conv1_2, relu1_2, pool1, conv2_1, …"""
        names: list[str] = []
        for b, channels in enumerate(self.blocks, start=1):
            for c in range(1, len(channels) + 1):
                names += [f"conv{b}_{c}", f"relu{b}_{c}"]
            names.append(f"pool{b}")
        return tuple(names)

    def convolutions(self) -> dict[str, tuple[int, int]]:
        """``{"conv1_1": (3, 64), …}``: input and output channels of each convolution, in order."""
        shapes: dict[str, tuple[int, int]] = {}
        channels_in = 3
        for b, channels in enumerate(self.blocks, start=1):
            for c, channels_out in enumerate(channels, start=1):
                shapes[f"conv{b}_{c}"] = (channels_in, channels_out)
                channels_in = channels_out
        return shapes

    def channels_of(self, name: str) -> int:
        """C of a layer: a ReLU and a pooling have as many as the convolution before them."""
        names, convolutions = self.layers(), self.convolutions()
        before = [x for x in names[: names.index(name) + 1] if x in convolutions]
        return convolutions[before[-1]][1]

    def check_layer(self, name: str) -> str:
        """Return ``name``; raise InvalidInput with the closest match if there is no such layer."""
        layers = self.layers()
        if name in layers:
            return name
        close = difflib.get_close_matches(name, layers, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise InvalidInput(
            f"unknown layer {name!r}: {self.name} has {layers[0]} … {layers[-1]}{hint}"
        )

    def up_to(self, names: Iterable[str]) -> tuple[str, ...]:
        """The layers from the first to the deepest of ``names`` (at least the first layer)."""
        layers = self.layers()
        deepest = max((layers.index(self.check_layer(name)) for name in names), default=0)
        return layers[: deepest + 1]

    def smallest_side(self, names: Iterable[str]) -> int:
        """The smallest side in pixels of a picture that leaves one position at every layer."""
        return int(2 ** sum(name.startswith("pool") for name in self.up_to(names)))

    def size_at(self, name: str, size: tuple[int, int]) -> tuple[int, int]:
        """Height and width at a layer, of a picture of height and width ``size``."""
        scale = self.smallest_side([name])
        return size[0] // scale, size[1] // scale


VGG16 = Architecture("vgg16", ((64,) * 2, (128,) * 2, (256,) * 3, (512,) * 3, (512,) * 3))
VGG19 = Architecture("vgg19", ((64,) * 2, (128,) * 2, (256,) * 4, (512,) * 4, (512,) * 4))
