"""Networks that need no file."""

from __future__ import annotations

import torch

from fastnst.network.architecture import VGG19
from fastnst.network.weights import CAFFE, Weights


def made_of_noise() -> Weights:
    """A VGG-19 to conv3_1 with random weights, which is quick."""
    generator = torch.Generator().manual_seed(1)
    tensors = {}
    for name, (channels_in, channels_out) in list(VGG19.convolutions().items())[:5]:
        shape = (channels_out, channels_in, 3, 3)
        std = (2 / (9 * channels_in)) ** 0.5
        tensors[f"{name}.weight"] = torch.randn(shape, generator=generator) * std
        tensors[f"{name}.bias"] = torch.randn(channels_out, generator=generator) * 0.1
    tensors["conv1_1.weight"] = tensors["conv1_1.weight"] / 50  # its input is in 0–255
    return Weights("random", "0" * 64, VGG19, CAFFE, tensors)
