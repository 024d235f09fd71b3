"""Tensors in files of a checkpoint: written whole, read where they lie."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from fastnst import files


def packed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors as a file takes them: on the CPU and contiguous; no copies of those that are."""
    return {name: x.detach().cpu().contiguous() for name, x in tensors.items()}


def write(tensors: Mapping[str, Tensor], metadata: Mapping[str, str], path: Path) -> None:
    """Write tensors to a file; one that was there before stays whole until this one is.

    Args:
        tensors: As ``packed`` returns them.
        metadata: Texts that go with them.
        path: The file.

    Raises:
        OSError: if it cannot be written.
        SafetensorError: likewise.
    """
    with files.folder_beside(path) as draft:
        save_file(dict(tensors), draft, dict(metadata))
        draft.chmod(draft.parent.stat().st_mode & 0o666)  # as any file made here
        files.put_in_place(draft, path)


def read_metadata(path: Path) -> dict[str, str]:
    """The texts of a file alone; raises what ``read`` does."""
    with _opened(path) as file:
        return file.metadata() or {}


def read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """The texts and the tensors of a file.

    A file that is replaced or removed stays for those who have mapped it, so its values need no
    memory of their own; but on Windows, and under two names, it is written over, and copied here.

    Raises:
        OSError: if it cannot be read.
        SafetensorError: if it is no such file; ValueError and RuntimeError likewise.
    """
    with _opened(path) as file:
        mapped = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        copies = os.name == "nt" or path.stat().st_nlink > 1
        tensors = {name: x.clone() for name, x in mapped.items()} if copies else mapped
        return file.metadata() or {}, tensors


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A file of tensors; by its number if its name is not UTF-8, which safetensors would refuse."""
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError:
        with path.open("rb") as file, safe_open(f"/dev/fd/{file.fileno()}", framework="pt") as it:
            yield it
        return
    with safe_open(path, framework="pt") as it:
        yield it
