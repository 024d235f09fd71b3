"""What the plan on a CPU keeps of each layer, by shapes: for its buffers and for estimates."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from fastnst.engines.planned.walk import Layer

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Layout:
    """The buffers of one picture size, ``(1, H, W, C)`` each unless something else is said.

    Attributes:
        slots: Features after a ReLU or a pooling, by name, in the order of the layers.
        positive: By layer ``(1, H, W, C // 8)``, which features are > 0, a bit each: all that
            average pooling needs of them on the way back, so they have no slot then.
        before: Features before a ReLU, by name, where a loss asks for them.
    """

    slots: dict[str, Shape]
    positive: dict[str, Shape]
    before: dict[str, Shape]

    def size(self, bytes_per_feature: int) -> int:
        """Bytes of all buffers."""
        features = sum(map(math.prod, (*self.slots.values(), *self.before.values())))
        return features * bytes_per_feature + sum(map(math.prod, self.positive.values()))


def lay_out(
    layers: Iterable[Layer], asked_for: Collection[str], pooling: str, height: int, width: int
) -> Layout:
    """The buffers that a picture needs.

    Args:
        layers: From the picture to the deepest.
        asked_for: The features that losses read.
        pooling: ``average``, ``max`` or ``l2``.
        height: Rows of the picture.
        width: Columns of the picture.
    """
    layout = Layout({}, {}, {})
    for layer in layers:
        shape = (1, height, width, layer.channels)
        averaged = layer.pool is not None and pooling == "average"
        if averaged and layer.below is not None and not {layer.conv, layer.relu} & set(asked_for):
            layout.positive[layer.name] = (*shape[:3], layer.channels // 8)
        else:
            layout.slots[layer.relu] = shape
        if layer.conv in asked_for:
            layout.before[layer.conv] = shape
        if layer.pool is not None:
            height, width = height // 2, width // 2
            layout.slots[layer.pool] = (1, height, width, layer.channels)
    return layout
