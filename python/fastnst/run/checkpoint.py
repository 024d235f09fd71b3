"""Checkpoints: the whole state of a run in one file, from which it goes on bit for bit.

A checkpoint is a safetensors file with JSON in its metadata. It holds the picture, the best picture
so far, the curvature pairs in use, the last gradient, the losses of every evaluation, what the run
was made from (its settings and the SHA-256 of its pictures and weights), and the SHA-256 of all
that. It is written beside the last one and renamed into its place, so that a kill at any moment
leaves one to resume from.

Size: 24 bytes per pixel and curvature pair, 157 MB at 256×256 after 100 iterations. The pairs are
differences of neighbouring float32 pictures and gradients; their low bits are rounding noise, which
does not compress, and which decides where the run ends. So they are stored as they are.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from fastnst import files
from fastnst.errors import InvalidInput, OutputFailed
from fastnst.run.checkpoint_checks import check_about, check_tensors, digest_of
from fastnst.run.checkpoint_state import Checkpoint
from fastnst.run.footprint import PAIR
from fastnst.run.identity import Identity
from fastnst.settings.settings import Settings
from fastnst.solvers.state import State

FORMAT = "fastnst checkpoint 2"
_EARLIER = ("fastnst checkpoint 1",)  # they have no digest: nothing tells a damaged one


@dataclass(frozen=True)
class Checkpoints:
    """Where a run saves its state, and how often.

    Attributes:
        path: One file, which each checkpoint replaces.
        every: Iterations between two checkpoints. There is also one at the end of each scale, and
            one when a callback interrupts the run.
    """

    path: Path
    every: int = 50

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", Path(self.path))
        if isinstance(self.every, bool) or not isinstance(self.every, int) or self.every < 1:
            raise InvalidInput(f"checkpoint_every is {self.every!r}: expected 1 or more")

    def check(self, pixels: int, settings: Settings) -> None:
        """Make sure, before the work starts, that the largest checkpoint can be written.

        Args:
            pixels: Pixels of the result.
            settings: The settings of the run.

        Raises:
            InvalidInput: for a folder that is missing or not writable, or too little space.
        """
        most = max(settings.iterations, *(settings.scale_iterations or (0,)))
        pairs = min(settings.pairs(pixels), most)
        files.check_writable(self.path, "checkpoint", pixels * (pairs * PAIR + 100))


def save_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Write a checkpoint; the one that was there before stays whole until this one is.

    Raises:
        OutputFailed: if it cannot be written.
    """
    tensors = {f"solver.{name}": tensor for name, tensor in checkpoint.solver.tensors.items()}
    tensors["history"] = checkpoint.history
    tensors |= {f"snapshot.{k}": picture for k, picture in checkpoint.snapshots.items()}
    about = {
        "settings": dict(checkpoint.identity.settings),
        "made_from": dict(checkpoint.identity.made_from),
        "solver": dict(checkpoint.solver.numbers),
        "terms": list(checkpoint.terms),
        "best": checkpoint.best,
        "seconds": checkpoint.seconds,
        "scales": [list(scale) for scale in checkpoint.scales],
    }
    packed = {name: _packed(tensor) for name, tensor in tensors.items()}
    text = json.dumps(about, allow_nan=False)
    metadata = {"format": FORMAT, "fastnst": text, "sha256": digest_of(text, packed)}
    try:
        with files.folder_beside(path) as draft:
            save_file(packed, draft, metadata)
            draft.chmod(draft.parent.stat().st_mode & 0o666)  # as any file made here
            files.put_in_place(draft, path)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise OutputFailed(f"checkpoint {path} could not be written: {reason}") from error


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        InvalidInput: if it is missing, damaged, or no checkpoint of this version.
    """
    try:
        if not path.is_file():
            raise InvalidInput(f"checkpoint {path} does not exist or is not a file")
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            _check_format(path, metadata.get("format"))
            mapped = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            # A file that is replaced stays for those who have mapped it, so its values need no
            # memory of their own; but on Windows, and under two names, it is written over.
            copies = os.name == "nt" or path.stat().st_nlink > 1
            tensors = {k: x.clone() for k, x in mapped.items()} if copies else mapped
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        if isinstance(error, InvalidInput):
            raise
        reason = " ".join((getattr(error, "strerror", None) or str(error)).split())
        raise InvalidInput(f"checkpoint {path} cannot be read: {reason}") from error
    text = metadata.get("fastnst", "")
    if metadata.get("sha256") != digest_of(text, tensors):
        raise InvalidInput(
            f"checkpoint {path} is damaged: its contents are not those that were written "
            "(SHA-256); go on from another one, or begin again"
        )
    try:
        return _parse(text, tensors)
    except (ValueError, KeyError, RecursionError) as error:
        raise InvalidInput(f"checkpoint {path} cannot be used: {error}") from error


def _check_format(path: Path, found: str | None) -> None:
    if found in _EARLIER:
        raise InvalidInput(
            f"checkpoint {path} was written by an earlier version of fastnst and has no checksum: "
            "go on with that version, or begin again"
        )
    if found != FORMAT:
        raise InvalidInput(f"{path} is not a checkpoint of this version of fastnst")


def _parse(text: str, tensors: Mapping[str, Tensor]) -> Checkpoint:
    """The checkpoint that a JSON text and tensors make.

    Raises:
        ValueError: naming what is wrong.
        KeyError: for a tensor that is missing.
        RecursionError: for a text that is nested too deep.
    """
    about = json.loads(text)
    check_about(about)
    solver = {k.removeprefix("solver."): v for k, v in tensors.items() if k.startswith("solver.")}
    snapshots = {int(k[9:]): v for k, v in tensors.items() if k.startswith("snapshot.")}
    if len(solver) + len(snapshots) + 1 != len(tensors):
        raise InvalidInput("it has tensors that no checkpoint has")
    checkpoint = Checkpoint(
        Identity(about["settings"], about["made_from"]),
        State(about["solver"], solver),
        tensors["history"],
        tuple(about["terms"]),
        about["best"],
        about["seconds"],
        snapshots,
        tuple((w, h, i, e) for w, h, i, e in about["scales"]),
    )
    check_tensors(checkpoint)
    return checkpoint


def _packed(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().contiguous()


def _read(tensor: Tensor) -> Tensor:
    """A tensor of a file that is mapped, and may be replaced while the run goes on.

    Where that is no trouble the tensor stays in the file, and takes no memory.
    """
    return tensor if os.name == "posix" else tensor.clone()
