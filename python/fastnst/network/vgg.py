"""VGG-16 and VGG-19 (Simonyan & Zisserman, arXiv:1409.1556) as feature extractors."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from fastnst.devices import ordinary
from fastnst.errors import InvalidInput
from fastnst.network.architecture import Architecture


class VGG(nn.Module):
    """A VGG network with frozen weights, cut after the deepest layer in use.

    Args:
        architecture: ``VGG19`` or ``VGG16``.
        tensors: ``{"conv1_1.weight": (64, 3, 3, 3), "conv1_1.bias": (64,), …}``, float32; the
            convolutions up to the deepest layer must be there.
        names: The layers whose features will be asked for; nothing deeper is built.
        pooling: ``"average"`` (what Gatys et al. recommend for synthesis) or ``"max"`` (what the
            network was trained with) or ``"l2"`` (root mean square, in between).
        padding: Around the picture, for the first convolution: ``"zero"`` or ``"replicate"``.

    Raises:
        InvalidInput: for an unknown layer, pooling or padding, or a weight that is missing or has
            another shape.
    """

    def __init__(
        self,
        architecture: Architecture,
        tensors: Mapping[str, Tensor],
        names: Iterable[str],
        pooling: str = "average",
        padding: str = "zero",
    ) -> None:
        super().__init__()
        for label, value, known in (
            ("pooling", pooling, POOLINGS),
            ("padding", padding, PADDINGS),
        ):
            if value not in known:
                raise InvalidInput(f"unknown {label} {value!r}: choose one of {', '.join(known)}")
        self.pooling = pooling
        self.padding = padding
        self.architecture = architecture
        shapes = architecture.convolutions()
        self.layers = nn.ModuleDict()
        for name in architecture.up_to(names):
            if name.startswith("conv"):
                mode = PADDINGS[padding if name == "conv1_1" else "zero"]
                self.layers[name] = _convolution(name, *shapes[name], tensors, mode)
            elif name.startswith("relu"):
                self.layers[name] = nn.ReLU()
            else:
                self.layers[name] = POOLINGS[pooling]()
        self.requires_grad_(False)

    def forward(self, image: Tensor, names: Iterable[str]) -> dict[str, Tensor]:
        """Features of a normalised picture.

        Args:
            image: ``(B, 3, H, W)``, what ``Normalization`` returns.
            names: The layers wanted.

        Returns:
            ``{name: (B, C, h, w)}``, in the network's order and dtype; h and w are H and W halved
            (rounded down) at each pooling on the way.
        """
        wanted = set(names)
        features: dict[str, Tensor] = {}
        x = image.to(next(self.parameters()).dtype)
        for name, layer in self.layers.items():
            with _steadily(x):
                x = layer(x)
            if name in wanted:
                features[name] = x
                if len(features) == len(wanted):
                    return features
        missing = ", ".join(sorted(wanted - features.keys()))
        raise InvalidInput(f"layer {missing} is not part of this network; it was cut before it")


# PyTorch leaves convolutions of no more numbers than this to a matrix product, whose sums depend on
# the number of threads (ConvParams::use_mkldnn in its Convolution.cpp).
SMALL = 20480


@contextlib.contextmanager
def _steadily(x: Tensor) -> Iterator[None]:
    """Where features on a CPU are small, one thread: the same bits whatever the number of threads.

    A second thread would gain next to nothing there.
    """
    threads = torch.get_num_threads()
    if x.device.type != "cpu" or x.numel() > SMALL or threads == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class L2Pool(nn.Module):
    """2×2 pooling with stride 2 by the root mean square; an odd last row or column is left out.

    Like average and max it is positively homogeneous, so that it keeps a normalised network
    normalised. Where a window is all zero its gradient is zero.
    """

    SMALLEST = 1e-12  # of the mean square, where the root has an infinite slope

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` to ``(B, C, H // 2, W // 2)``."""
        return functional.avg_pool2d(x.square(), 2).clamp_min(self.SMALLEST).sqrt()


POOLINGS: Mapping[str, Callable[[], nn.Module]] = MappingProxyType(
    {"average": lambda: nn.AvgPool2d(2), "max": lambda: nn.MaxPool2d(2), "l2": L2Pool}
)
PADDINGS: Mapping[str, Literal["zeros", "replicate"]] = MappingProxyType(
    {"zero": "zeros", "replicate": "replicate"}  # in the words of nn.Conv2d
)


def _convolution(
    name: str,
    channels_in: int,
    channels_out: int,
    tensors: Mapping[str, Tensor],
    padding_mode: Literal["zeros", "replicate"],
) -> nn.Conv2d:
    """A 3×3 convolution with stride 1 and padding 1, holding the given weights."""
    expected = {
        f"{name}.weight": (channels_out, channels_in, 3, 3),
        f"{name}.bias": (channels_out,),
    }
    for key, shape in expected.items():
        if key not in tensors:
            raise InvalidInput(f"the weights have no {key}, which the layers asked for need")
        if tuple(tensors[key].shape) != shape:
            raise InvalidInput(f"{key} has shape {tuple(tensors[key].shape)}, expected {shape}")
    with torch.device("meta"):  # no random initialisation of weights that are replaced at once
        convolution = nn.Conv2d(
            channels_in, channels_out, 3, padding=1, padding_mode=padding_mode, dtype=torch.float32
        )
    weight, bias = (ordinary(tensors[key]) for key in expected)
    convolution.weight = nn.Parameter(weight, requires_grad=False)
    convolution.bias = nn.Parameter(bias, requires_grad=False)
    return convolution
