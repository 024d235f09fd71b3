"""The order of the walk; what it computes is held in ``test_cpu.py`` and ``test_cuda.py``."""

from __future__ import annotations

from fastnst.engines.planned.walk import Layer, chain
from fastnst.network.architecture import VGG19
from fastnst.network.vgg import VGG
from fastnst.network.weights import Weights


def test_layers_are_listed_from_the_picture_to_the_deepest(random_weights: Weights) -> None:
    network = VGG(VGG19, random_weights.tensors, ["relu1_1", "pool2"])
    layers = chain(network)
    assert layers == (
        Layer("1_1", 64, None, None),
        Layer("1_2", 64, "pool1", "relu1_1"),
        Layer("2_1", 128, None, "pool1"),
        Layer("2_2", 128, "pool2", "relu2_1"),
    )
    assert [layer.output for layer in layers] == ["relu1_1", "pool1", "relu2_1", "pool2"]
    assert (layers[2].conv, layers[2].relu) == ("conv2_1", "relu2_1")


def test_a_block_that_is_cut_before_its_pooling_has_none(random_weights: Weights) -> None:
    network = VGG(VGG19, random_weights.tensors, ["conv1_2"])
    assert [layer.pool for layer in chain(network)] == [None, None]
