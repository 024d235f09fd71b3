"""Which device a run uses, and the modes of PyTorch that a caller may have set around it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import torch
from torch import Tensor

from fastnst.errors import BackendUnavailable, InvalidInput

DEFAULT_SIZE = {"cpu": 512, "cuda": 512}  # long side in pixels


def choose_device(name: str) -> torch.device:
    """``auto`` (a GPU if there is one), ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        InvalidInput: for any other name.
        BackendUnavailable: if the GPU that was asked for is not there, with the reason.
    """
    if name == "auto":
        gpu = torch.device("cuda")
        return torch.device("cpu") if unavailable_reason(gpu) else gpu
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError) as error:
        raise InvalidInput(f"device is {name!r}: choose auto, cpu, cuda or cuda:N") from error
    if device.type not in ("cpu", "cuda") or str(device) != name:  # torch reads 256 as 0
        raise InvalidInput(f"device is {name!r}: choose auto, cpu, cuda or cuda:N")
    if reason := unavailable_reason(device):
        raise BackendUnavailable(f"device {name} cannot be used: {reason}")
    return device


def gpus(device: torch.device) -> int:
    """How many GPUs a device may be: a GPU without a number is any of them; a CPU counts as one."""
    return torch.cuda.device_count() if device.type == "cuda" and device.index is None else 1


def turns(processes: int, device: torch.device) -> int:
    """How many of the processes that take their turn have one GPU, or the CPU, at the most."""
    return -(-processes // max(1, gpus(device)))


def take_turn(number: int) -> None:
    """Make one GPU after the other the current one: for processes that are counted from 0.

    It is then what ``cuda`` without a number means in this thread.
    """
    torch.cuda.set_device(number % torch.cuda.device_count())


def unavailable_reason(device: torch.device) -> str | None:
    """Why torch cannot use a CPU or GPU, or None if it can."""
    if device.type == "cpu":
        return None
    if torch.version.cuda is None:
        return "this torch was built without CUDA"
    if not torch.cuda.is_available():
        return "no GPU with a working driver was found"
    count = torch.cuda.device_count()
    if device.index is not None and device.index >= count:
        return f"{count} GPU(s) were found, counted from 0"
    try:
        capability, built = torch.cuda.get_device_capability(device), torch.cuda.get_arch_list()
    except RuntimeError as error:  # a driver that finds a GPU and cannot use it
        return str(error).partition("\n")[0]
    if built and not any(_covers(name, capability) for name in built):
        major, minor = capability
        return (
            f"torch {torch.__version__} has no code for compute capability {major}.{minor}, "
            f"only for {' '.join(built)}"
        )
    return None


def _covers(architecture: str, capability: tuple[int, int]) -> bool:
    """Whether code for one of torch's architectures (sm_80, compute_90) runs there."""
    form, _, number = architecture.partition("_")
    built = divmod(int(number.rstrip("af")), 10)
    if form == "compute":
        return built <= capability
    return built[0] == capability[0] and built[1] <= capability[1]


def model(device: torch.device) -> str:
    """What computes: ``cpu``, or a GPU by its model. Another model rounds otherwise."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def allows_tf32() -> bool:
    """Whether convolutions in float32 may be rounded to TF32 on a GPU: PyTorch's flag.

    Not ``torch.backends.cudnn.allow_tf32``, which fails once one of the newer flags was set.
    """
    allowed: bool = torch.backends.cudnn.conv.fp32_precision == "tf32"  # type: ignore[attr-defined]
    return allowed


def rounds_to_tf32(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether convolutions in this dtype are rounded to TF32 there: on a GPU that can, if allowed.

    Only those in float32 are.
    """
    if dtype != torch.float32 or device.type != "cuda" or not allows_tf32():
        return False
    return torch.cuda.get_device_capability(device) >= (8, 0)


def guard(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Makes a GPU the current one while the context lasts; on a CPU there is nothing to do."""
    return torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()


def without_autocast(kind: str) -> contextlib.AbstractContextManager[object]:
    """Without the caller's autocast on a kind of device, which takes products in another dtype."""
    if torch.amp.is_autocast_available(kind):
        return torch.autocast(kind, enabled=False)
    return contextlib.nullcontext()  # meta has none


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Without the caller's autocast and inference mode while the context lasts.

    Tensors made in inference mode cannot take part in autograd afterwards. The default dtype and
    device are not changed, since the first belongs to all threads: what allocates names both.
    """
    with contextlib.ExitStack() as stack:
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
        for kind in DEFAULT_SIZE:
            if torch.is_autocast_enabled(kind):
                stack.enter_context(without_autocast(kind))
        yield


@contextlib.contextmanager
def one_thread(device: torch.device) -> Iterator[None]:
    """On a CPU, compute with one thread while the context lasts.

    LAPACK's eigenvectors have other last bits for another number of threads.
    """
    threads = torch.get_num_threads()
    if device.type != "cpu" or threads == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


_computed: list[int] = []  # the process that computed first with several threads


def check_process() -> None:
    """Note that this process is about to compute, or refuse where its threads have been lost.

    From here on MKL takes as many threads as PyTorch. Left to itself it takes fewer while the cores
    are busy, and then adds up in another order.

    A forked process has a copy of the memory of OpenMP, which waits for threads that it has not.

    Raises:
        BackendUnavailable: in a process that was forked from one that had computed already with
            several threads.
    """
    if _computed and _computed[0] != os.getpid():
        raise BackendUnavailable(
            "this process was forked from one that had computed already, and the threads are "
            "missing here: start it with multiprocessing.get_context('spawn')"
        )
    torch.set_num_threads(torch.get_num_threads())  # which tells MKL that it is no longer free to
    if not _computed and torch.get_num_threads() > 1:
        _computed.append(os.getpid())


def ordinary(x: Tensor) -> Tensor:
    """The tensor itself, or a copy of one that was made in inference mode, for use in autograd."""
    return x.clone() if x.is_inference() else x
