"""Measurements in a process of its own, and the peak of its memory."""

from __future__ import annotations

import contextlib
import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar

import torch

from fastnst.run import record
from fastnst.run.available import give_back

TaskType = TypeVar("TaskType")


def in_own_process(
    work: Callable[[Connection, TaskType], None], task: TaskType
) -> dict[str, Any] | str:
    """What ``work`` sends, or why it sent nothing.

    Args:
        work: A function of a module, which sends one answer.
        task: Its second argument.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=work, args=(sender, task), daemon=True)
    process.start()
    sender.close()
    try:
        answer: dict[str, Any] | str = receiver.recv()
    except EOFError:
        process.join()
        answer = f"its process ended with code {process.exitcode}"
    finally:
        receiver.close()
        process.terminate()
        process.join()
    return answer


def begin_peak(device: str) -> int:
    """Forget the peak so far; bytes in use now."""
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    give_back()
    with contextlib.suppress(OSError):  # Linux; elsewhere the peak so far stands
        Path("/proc/self/clear_refs").write_text("5")
        return resident("VmRSS")
    return peak_bytes(device)


def peak_bytes(device: str) -> int:
    """The most memory that this process has had: of the GPU for CUDA, resident otherwise."""
    return record.peak_bytes(torch.device(device)) or 0


def resident(entry: str) -> int:
    """Bytes of a line of /proc/self/status: ``VmRSS``, or ``RssFile``, what is read of files.

    Raises:
        OSError: where there is no such file or line.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{entry}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"no {entry}")
