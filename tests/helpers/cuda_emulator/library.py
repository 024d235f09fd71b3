"""Compiles csrc/cuda for the CPU, with the emulator for CUDA, and calls it on tensors.

Every buffer of a call ends at a page that may not be touched, or begins at one.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from unittest import mock

import pybind11
import pytest
import torch
from torch import Tensor

from helpers.once import made_once

HERE = Path(__file__).parent
CSRC = HERE.parents[2] / "csrc"
KERNELS = tuple(sorted(p for p in (CSRC / "cuda").glob("*.cu") if p.stem != "device"))
GRAM = CSRC / "cuda" / "gram.cu"
BINDINGS = (HERE / "module.cpp", CSRC / "bindings_cuda.cpp")
GLUE = (HERE / "emulator.cpp", *BINDINGS)
NAME = "_emulated.so"
FLAGS = (
    "-std=c++17 -O3 -fPIC -U_FORTIFY_SOURCE -Wall -Wextra -Wno-unknown-pragmas "
    f"-DFASTNST_CUDA_EMULATOR -I{HERE} -I{CSRC} "
    f"-I{pybind11.get_include()} -I{sysconfig.get_paths()['include']}"
).split()
# a wrong alignment or index stops the kernel
CHECKED = ["-fsanitize=alignment,bounds", "-fsanitize-undefined-trap-on-error"]

COMPILER = shutil.which("g++")
# For tests that use the emulator: ``pytestmark = NEEDED``.
NEEDED = [
    pytest.mark.slow,  # the emulator with all kernels is compiled first
    pytest.mark.skipif(COMPILER is None, reason="g++ is not on the path"),
    pytest.mark.skipif(sys.platform != "linux", reason="the emulator is written for Linux"),
    pytest.mark.skipif(not CSRC.is_dir(), reason="not in a checkout"),
]

PRECISIONS = {"fp32": 0, "tf32": 1, "bf16": 2}
DTYPES = {torch.float32: 0, torch.bfloat16: 1}


class Features(ctypes.Structure):
    """``Features`` of csrc/fastnst.h."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("dtype", ctypes.c_int),
        *((name, ctypes.c_int64) for name in ("batch", "channels", "positions")),
        *((f"{name}_stride", ctypes.c_int64) for name in ("batch", "channel", "position")),
    )


class GramLayer(ctypes.Structure):
    """``GramLayer`` of csrc/fastnst.h."""

    _fields_ = (
        ("features", Features),
        ("gram", ctypes.c_void_p),
        ("target", ctypes.c_void_p),
        ("target_batch_stride", ctypes.c_int64),
        ("difference", ctypes.c_void_p),
        ("loss", ctypes.c_void_p),
    )


class GradientLayer(ctypes.Structure):
    """``GradientLayer`` of csrc/fastnst.h."""

    _fields_ = (
        ("features", Features),
        ("difference", ctypes.c_void_p),
        ("scale", ctypes.c_float),
        ("relu_mask", ctypes.c_bool),
        ("accumulate", ctypes.c_bool),
        ("out", ctypes.c_void_p),
        ("out_dtype", ctypes.c_int),
        *((f"out_{name}_stride", ctypes.c_int64) for name in ("batch", "channel", "position")),
    )


@dataclass(frozen=True)
class Mode:
    """How the emulator runs: see emulator.cpp."""

    order: int = 0  # ascending, descending, shuffled
    seed: int = 0
    early_copies: bool = False
    tensor_cores: bool = True
    at_end: bool = True  # buffers end at the forbidden page, or begin at it


MODES = (
    Mode(),
    Mode(order=1, early_copies=True, at_end=False),
    Mode(order=2, seed=1),
    Mode(order=2, seed=2, early_copies=True),
)


@dataclass(frozen=True)
class Style:
    """One layer of a call of ``gram``: features (B, C, N) with any strides."""

    features: Tensor
    target: Tensor | None = None
    wants_gram: bool = True
    wants_difference: bool = True


@dataclass(frozen=True)
class Gradient:
    """One layer of a call of ``gradient``."""

    features: Tensor
    difference: Tensor
    scale: float
    relu_mask: bool
    out: Tensor  # its values are what is added to, its strides are those of the result
    accumulate: bool


@dataclass
class Emulator:
    """The compiled library, and the buffers of one call."""

    library: ctypes.CDLL
    module: ModuleType  # the same library, with the extension's bindings
    mode: Mode = field(default_factory=Mode)

    def set(self) -> None:
        """Let what follows run in this emulator's mode."""
        mode = self.mode
        self.library.emulator_set(mode.order, mode.seed, mode.early_copies, mode.tensor_cores)

    def launched(self) -> dict[str, int]:
        """How often each kernel was launched since the last call."""
        lines = self.library.emulator_launched().decode().splitlines()
        return {name: int(count) for name, count in (line.split() for line in lines)}

    def tensor(self, x: Tensor) -> Tensor:
        """A copy beside a page that may not be touched; free it with ``emulator_free_all``."""
        size = max(x.numel() * x.element_size(), 1)
        place = (ctypes.c_char * size).from_address(self.allocate(size))
        flat = torch.frombuffer(place, dtype=x.dtype, count=x.numel())
        return flat.as_strided(x.shape, x.stride()).copy_(x)

    def gram(
        self, layers: Sequence[Style], precision: str
    ) -> list[tuple[Tensor | None, Tensor | None, Tensor | None]]:
        """Gram matrix, difference and loss of every layer."""
        described, outputs = [], []
        for layer in layers:
            batch, channels, _ = layer.features.shape
            square = torch.empty(batch, channels, channels)
            has_target = layer.target is not None
            gram = self._put(square) if layer.wants_gram else None
            difference = self._put(square) if has_target and layer.wants_difference else None
            loss = self._put(torch.empty(1)) if has_target else None
            shared = has_target and layer.target.ndim == 2
            described.append(
                GramLayer(
                    self._features(layer.features),
                    gram,
                    self._put(layer.target) if has_target else None,
                    0 if shared else channels**2,
                    difference,
                    loss,
                )
            )
            outputs.append(((gram, square), (difference, square), (loss, torch.empty(1))))
        self._call("gram", (GramLayer * len(layers))(*described), precision)
        results = [
            tuple(None if place is None else _get(place, like) for place, like in output)
            for output in outputs
        ]
        self.library.emulator_free_all()
        return results

    def gradient(self, layers: Sequence[Gradient], precision: str) -> list[Tensor]:
        """What ``out`` becomes, for every layer."""
        described = [
            GradientLayer(
                self._features(layer.features),
                self._put(layer.difference),
                layer.scale,
                layer.relu_mask,
                layer.accumulate,
                self._put(layer.out),
                DTYPES[layer.out.dtype],
                *layer.out.stride(),
            )
            for layer in layers
        ]
        self._call("gradient", (GradientLayer * len(layers))(*described), precision)
        results = [_get(d.out, layer.out) for d, layer in zip(described, layers, strict=True)]
        self.library.emulator_free_all()
        return results

    def allocate(self, size: int) -> int:
        """Bytes of 0xff, which are NaN in every type, beside a page that may not be touched."""
        place: int = self.library.emulator_allocate(max(size, 1), self.mode.at_end)
        return place

    def _call(self, name: str, layers: ctypes.Array, precision: str) -> None:
        self.set()
        size = getattr(self.library, f"emulator_{name}_workspace")(layers, len(layers))
        workspace, error = self.allocate(size), ctypes.create_string_buffer(300)
        failed = getattr(self.library, f"emulator_{name}")(
            layers, len(layers), PRECISIONS[precision], workspace, size, error, len(error)
        )
        if failed:
            raise RuntimeError(error.value.decode())

    def _put(self, x: Tensor) -> int:
        size = _span(x) * x.element_size()
        place = self.allocate(size)
        ctypes.memmove(place, x.data_ptr(), size)
        return place

    def _features(self, x: Tensor) -> Features:
        return Features(self._put(x), DTYPES[x.dtype], *x.shape, *x.stride())


def _span(x: Tensor) -> int:
    """Elements from the first to the last in memory."""
    return 1 + sum((n - 1) * s for n, s in zip(x.shape, x.stride(), strict=True))


def _get(place: int, like: Tensor) -> Tensor:
    flat = torch.empty(_span(like), dtype=like.dtype)
    ctypes.memmove(flat.data_ptr(), place, flat.numel() * flat.element_size())
    return flat.as_strided(like.shape, like.stride())


def _compile(sources: Sequence[Path], folder: Path, *definitions: str) -> list[Path]:
    """Objects of sources, in a folder."""

    def build(source: Path) -> Path:
        target = _object(source, folder)
        flags = [*FLAGS, *definitions, *(CHECKED if source in KERNELS else ())]
        if source in BINDINGS:
            flags.append("-O1")  # half the time to compile
        command = [COMPILER, *flags, "-x", "c++", "-c", str(source), "-o", str(target)]
        subprocess.run(command, check=True)
        return target

    with ThreadPoolExecutor() as pool:
        return list(pool.map(build, sources))


def _link(objects: Sequence[Path], path: Path) -> None:
    subprocess.run([COMPILER, "-shared", *objects, "-o", path], check=True)


def _object(source: Path, folder: Path) -> Path:
    return folder / f"{source.name}.o"


def _loaded(path: Path) -> Emulator:
    library = ctypes.CDLL(str(path))
    library.emulator_launched.restype = ctypes.c_char_p
    library.emulator_allocate.restype = ctypes.c_void_p
    library.emulator_allocate.argtypes = (ctypes.c_size_t, ctypes.c_int)
    for name in ("gram", "gradient"):
        sizes = getattr(library, f"emulator_{name}_workspace")
        sizes.restype, sizes.argtypes = ctypes.c_size_t, (ctypes.c_void_p, ctypes.c_size_t)
        getattr(library, f"emulator_{name}").argtypes = (
            ctypes.c_void_p,
            ctypes.c_size_t,
            ctypes.c_int,
            ctypes.c_void_p,
            ctypes.c_size_t,
            ctypes.c_char_p,
            ctypes.c_size_t,
        )
    return Emulator(library, _imported(path))


def shared_library() -> Emulator:
    """The emulator of these sources, built once for all tests on this machine."""
    return _loaded(_built())


def _built() -> Path:
    """The library of these sources, with its objects beside it."""
    digest = hashlib.sha256(" ".join((str(COMPILER), sys.version, *FLAGS, *CHECKED)).encode())
    for source in sorted({*GLUE, *HERE.glob("*.h"), *CSRC.glob("*.h"), *CSRC.glob("cuda/*.*")}):
        digest.update(source.read_bytes())
    place = Path(tempfile.gettempdir()) / f"fastnst-emulated-{digest.hexdigest()[:16]}"
    place.mkdir(exist_ok=True)
    return made_once(place / NAME, lambda path: _link(_compile((*GLUE, *KERNELS), place), path))


def broken_library(folder: Path, *definitions: str) -> Emulator:
    """The emulator with the kernels of Gram matrices built again, with definitions.

    Its objects come first: of a template that several objects have, the linker takes the first.
    """
    place = _built().parent
    others = [_object(source, place) for source in (*GLUE, *KERNELS) if source != GRAM]
    _link([*_compile([GRAM], folder, *definitions), *others], folder / NAME)
    return _loaded(folder / NAME)


def _imported(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("_emulated", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextmanager
def in_place_of_a_gpu(emulator: Emulator) -> Iterator[None]:
    """While it lasts the operations for a GPU take tensors of the CPU and run in the emulator."""
    from fastnst.ops import device

    emulator.set()
    with (
        mock.patch.object(device, "loaded", return_value=emulator.module),
        mock.patch.object(device, "_place", return_value=(nullcontext(), 0, 0)),
        mock.patch.object(device, "unavailable_reason", return_value=None),
    ):
        yield
