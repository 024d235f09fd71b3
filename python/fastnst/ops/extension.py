"""Loads the compiled extension ``fastnst._C`` and says what it holds.

The only module that imports the extension. Without it (not built, or ``FASTNST_NO_NATIVE=1``)
everything here still imports: ``is_available()`` is False, and ``unavailable_reason()`` says why.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

# Before the extension: it then shares torch's OpenMP runtime (same name, libgomp.so.1) instead of
# loading a second one.
import torch  # noqa: F401

from fastnst.errors import BackendUnavailable, InvalidInput

if TYPE_CHECKING:
    from types import ModuleType


_C: ModuleType | None = None
_reason: str | None = None
if os.environ.get("FASTNST_NO_NATIVE", "0") not in ("", "0"):
    _reason = "FASTNST_NO_NATIVE is set"
else:
    try:
        _C = import_module("fastnst._C")
    except ModuleNotFoundError:
        _reason = "this installation of fastnst has no compiled extension"
    except ImportError as error:
        _reason = f"the compiled extension cannot be loaded: {error}"


def is_available() -> bool:
    """Whether the compiled extension is loaded."""
    return _C is not None


def unavailable_reason() -> str | None:
    """Why the extension is not loaded, or None when it is."""
    return _reason


def loaded() -> Any:
    """The extension module, whose functions ``_C.pyi`` lists.

    Raises:
        BackendUnavailable: the extension is not loaded, with the reason.
    """
    if _C is None:
        raise BackendUnavailable(f"native backend: {_reason}")
    return _C


def call(function: Any, *arguments: Any) -> Any:
    """Call a function of the extension, with its exceptions turned into fastnst's.

    Raises:
        InvalidInput: the extension rejected a value (``ValueError``).
        BackendUnavailable: it cannot run on this machine (``RuntimeError``).
        RuntimeError: an error of a GPU, which has a type of its own: it may be that of work which
            was queued before, and says nothing of this machine.
    """
    try:
        return function(*arguments)
    except ValueError as error:
        raise InvalidInput(str(error)) from None
    except RuntimeError as error:
        if type(error) is not RuntimeError:
            raise
        raise BackendUnavailable(str(error)) from None


def build_info() -> dict[str, Any]:
    """How the extension was built: compiler, instruction sets, threads, CUDA toolkit.

    Raises:
        BackendUnavailable: the extension is not loaded.
    """
    info: dict[str, Any] = loaded().build_info()
    return info


def available_isas() -> list[str]:
    """The instruction sets that this build holds and this machine runs, worst first.

    Raises:
        BackendUnavailable: the extension is not loaded.
    """
    isas: list[str] = loaded().available_isas()
    return isas


def selected_isa() -> str:
    """The instruction set in use: the best available, or what ``FASTNST_CPU_ISA`` names.

    Raises:
        InvalidInput: ``FASTNST_CPU_ISA`` is no instruction set.
        BackendUnavailable: it cannot run here, or the extension is not loaded.
    """
    isa: str = call(loaded().selected_isa)
    return isa


def convolves_bfloat16() -> bool:
    """Whether the instruction set in use can convolve features in bfloat16.

    Raises:
        InvalidInput: ``FASTNST_CPU_ISA`` is no instruction set.
        BackendUnavailable: it cannot run here, or the extension is not loaded.
    """
    answer: bool = call(loaded().convolves_bfloat16)
    return answer


def multiplies_integers() -> bool:
    """Whether convolutions of float32 features can have products of int16 here (avx512vnni).

    Raises:
        InvalidInput: ``FASTNST_CPU_ISA`` is no instruction set.
        BackendUnavailable: it cannot run here, or the extension is not loaded.
    """
    answer: bool = call(loaded().multiplies_integers)
    return answer


def bfloat16_is_quicker() -> bool:
    """Whether convolutions in bfloat16 can run here and take less time than those in float32.

    They do on AMD's processors and on arm64; Intel's multiply as many floats in the same time.

    Raises:
        InvalidInput: ``FASTNST_CPU_ISA`` is no instruction set.
        BackendUnavailable: it cannot run here, or the extension is not loaded.
    """
    answer: bool = call(loaded().bfloat16_is_quicker)
    return answer


@contextmanager
def use_isa(name: str) -> Iterator[None]:
    """Force one instruction set for the whole process while the context lasts; for tests.

    Raises:
        InvalidInput: ``name`` is no instruction set.
        BackendUnavailable: it cannot run here, or the extension is not loaded.
    """
    call(loaded().force_isa, name)
    try:
        yield
    finally:
        loaded().force_isa("")


def cuda_devices() -> dict[str, Any]:
    """The driver's GPUs: ``{"devices": [{"name", "capability", "memory"}], "reason"}``.

    ``capability`` is a pair of integers, ``memory`` in bytes; ``reason`` says why there is no GPU,
    and is empty where there is one.

    Raises:
        BackendUnavailable: the extension is not loaded.
    """
    devices: dict[str, Any] = loaded().cuda_devices()
    return devices
