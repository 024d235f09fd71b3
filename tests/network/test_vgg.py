"""VGG as a feature extractor: against the definition in float64, and what it refuses."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fastnst.errors import InvalidInput
from fastnst.images.decode import load_image
from fastnst.images.pixels import resize, to_tensor
from fastnst.network.architecture import VGG16, VGG19
from fastnst.network.vgg import PADDINGS, POOLINGS, VGG, L2Pool
from fastnst.network.weights import Weights, load_weights
from helpers.oracle import features


def picture(name: str, width: int, height: int) -> Tensor:
    return to_tensor(resize(load_image(f"sample:{name}"), width, height))


@pytest.mark.parametrize("pooling", ["average", "max", "l2"])
def test_network_features_equal_the_definition(pooling: str) -> None:
    weights = load_weights("vgg19")
    names = ["conv1_1", "relu2_2", "pool2", "conv4_2", "relu5_1", "conv5_4", "pool5"]
    image = picture("mosaic", 37, 43)
    network = VGG(VGG19, weights.tensors, names, pooling)
    mean = torch.tensor(weights.preprocessing.mean).view(3, 1, 1)
    got = network((image - mean) * 255, names)
    expected = features(image[0].double(), weights.tensors, names, pooling)
    assert list(got) == sorted(names, key=VGG19.layers().index)
    for name in names:
        error = (got[name][0].double() - expected[name]).norm() / expected[name].norm()
        assert float(error) < 1e-5, name  # 16 layers of fp32 rounding


def test_small_features_do_not_depend_on_the_number_of_threads() -> None:
    """Matrix products, which PyTorch takes for small convolutions, add as their threads are cut."""
    names = ["relu4_1", "relu4_4", "relu5_1"]
    network = VGG(VGG19, load_weights().tensors, names)
    image = torch.rand(1, 3, 48, 36, generator=torch.Generator().manual_seed(3)) - 0.5
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3, 5):
            torch.set_num_threads(threads)
            found.append(network(image, names))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert all(torch.equal(other[name], found[0][name]) for name in names)


def test_architectures() -> None:
    assert len(VGG19.convolutions()) == 16
    assert len(VGG16.convolutions()) == 13
    assert VGG19.layers()[-1] == "pool5"
    assert VGG19.smallest_side(["relu5_1"]) == 16
    assert VGG19.smallest_side(["relu1_1"]) == 1
    with pytest.raises(InvalidInput, match="unknown layer 'relu4_5'.*did you mean relu4_"):
        VGG19.check_layer("relu4_5")


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("pooling", POOLINGS)
def test_controls_equal_the_definition(random_weights: Weights, pooling: str, padding: str) -> None:
    x = torch.rand(1, 3, 11, 14, generator=torch.Generator().manual_seed(3))
    names = ["conv1_1", "pool1", "relu3_1"]
    got = VGG(VGG19, random_weights.tensors, names, pooling, padding).double()(
        x.double() - 0.5, names
    )
    mean, std = (
        torch.tensor(values, dtype=torch.float64).view(3, 1, 1)
        for values in (random_weights.preprocessing.mean, random_weights.preprocessing.std)
    )
    image = (x[0].double() - 0.5) * std + mean
    expected = features(image, random_weights.tensors, names, pooling, padding)
    for name in names:
        # L2Pool gives 1e-6 for a window of zeros, where its root would have an infinite slope
        torch.testing.assert_close(got[name][0], expected[name], rtol=1e-6, atol=1e-5)


def test_l2_pooling_of_known_windows() -> None:
    x = torch.tensor([[3.0, 4.0, 9.0], [0.0, 0.0, 9.0], [9.0, 9.0, 9.0]])[None, None]
    pooled = L2Pool()(x)  # the odd row and column are left out
    torch.testing.assert_close(pooled, torch.tensor([[[[2.5]]]]))
    zero = torch.zeros(1, 1, 2, 2, requires_grad=True)
    L2Pool()(zero).sum().backward()
    assert torch.equal(zero.grad, torch.zeros_like(zero))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pooling": "median"}, "unknown pooling 'median': choose one of average, max, l2"),
        ({"padding": "wrap"}, "unknown padding 'wrap': choose one of zero, replicate"),
        ({"names": ["relu3_2"]}, "the weights have no conv3_2.weight"),
        ({"architecture": VGG16, "names": ["relu9_9"]}, "unknown layer 'relu9_9'"),
    ],
)
def test_bad_choices_are_named(random_weights: Weights, change: dict, message: str) -> None:
    chosen = {"architecture": VGG19, "names": ["relu1_1"], **change}
    with pytest.raises(InvalidInput, match=message):
        VGG(tensors=random_weights.tensors, **chosen)


def test_layers_beyond_the_cut_are_named(random_weights: Weights) -> None:
    network = VGG(VGG19, random_weights.tensors, ["relu1_2"])
    with pytest.raises(InvalidInput, match="layer pool1 is not part of this network"):
        network(torch.zeros(1, 3, 8, 8), ["relu1_1", "pool1"])
