"""Checkpoints: the whole state of a run in one file, from which it goes on bit for bit.

A checkpoint is a safetensors file with JSON in its metadata. It holds the picture, the best picture
so far, the curvature pairs in use, the last gradient, the losses of every evaluation, what the run
was made from (its settings and the SHA-256 of its pictures and weights), and the SHA-256 of all
that. It is written beside the last one and renamed into its place, so that a kill at any moment
leaves one to resume from. Where several ranks share the picture and a file system, each writes what
it has of the picture to a file of its own, and the checkpoint names these
(``checkpoint_parts.py``).

Size: 24 bytes per pixel and curvature pair, 157 MB at 256×256 after 100 iterations. The pairs are
differences of neighbouring float32 pictures and gradients; their low bits are rounding noise, which
does not compress, and which decides where the run ends. So they are stored as they are.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from fastnst import files
from fastnst.errors import InvalidInput, OutputFailed, StateRefused
from fastnst.run import checkpoint_parts, checkpoint_tensors
from fastnst.run.checkpoint_checks import (
    check_about,
    check_parts,
    check_pieces,
    check_tensors,
    digest_of,
)
from fastnst.run.checkpoint_kind import is_checkpoint
from fastnst.run.checkpoint_state import Checkpoint
from fastnst.run.footprint import matrix_bytes, pair_bytes
from fastnst.run.identity import Identity
from fastnst.run.part import Part
from fastnst.settings.settings import Settings
from fastnst.solvers.sharing import is_picture
from fastnst.solvers.state import State

FORMAT = "fastnst checkpoint 4"
IN_PARTS = "fastnst checkpoint 4 in parts"
# Without a digest; with fewer rows of a history than are stored now; with products of pairs that
# are not in use, and without the scale of Adam's gradients.
_EARLIER = (
    *("fastnst checkpoint 1", "fastnst checkpoint 2", "fastnst checkpoint 2 in parts"),
    *("fastnst checkpoint 3", "fastnst checkpoint 3 in parts"),
)

SAVED_MATRICES = 3  # of products among the curvature pairs, of a picture in pieces; else one


@dataclass(frozen=True)
class Checkpoints:
    """Where a run saves its state, and how often.

    Attributes:
        path: One file, which each checkpoint replaces.
        every: Iterations between two checkpoints. There is also one at the end of each scale, and
            one when a callback interrupts the run.
        only_interrupted: Whether the last is the only one that there is.
    """

    path: Path
    every: int = 50
    only_interrupted: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", Path(self.path))
        if isinstance(self.every, bool) or not isinstance(self.every, int) or self.every < 1:
            raise InvalidInput(f"checkpoint_every is {self.every!r}: expected 1 or more")

    def check(self, pixels: int, settings: Settings, device: torch.device) -> None:
        """Make sure, before the work starts, that the largest checkpoint can be written.

        Args:
            pixels: Pixels of the result.
            settings: The settings of the run.
            device: Where it runs.

        Raises:
            InvalidInput: for a folder that is missing or not writable, too little space, or a file
                that is there and is something else.
        """
        kept = settings.kept_pairs(pixels)
        pairs = kept + 1 if kept else 0  # one is spare, in strips
        steps = max((settings.iterations, *(settings.scale_iterations or ())))
        pairs = min(pairs, steps + 1)
        needed = round(pixels * (pairs * pair_bytes(settings, device) + 100))
        needed += SAVED_MATRICES * matrix_bytes(min(pairs, steps))
        # The last one stays whole until the next one is: both are on the disk together.
        there = self.path.stat().st_size if self.path.is_file() else 0
        for part in parts_of(self.path) or ():
            with contextlib.suppress(OSError):
                there += (self.path.parent / part.name).stat().st_size
        files.check_writable(
            *(self.path, "checkpoint", needed, is_checkpoint, "checkpoint"), max(0, needed - there)
        )


def save_checkpoint(checkpoint: Checkpoint, path: Path, parts: Sequence[Part] = ()) -> None:
    """Write a checkpoint; the one that was there before stays whole until this one is.

    Args:
        checkpoint: The state of the run, without what lies in parts.
        path: The file.
        parts: What ranks have written of it, in their order; none: all of it is here.

    Raises:
        OutputFailed: if it cannot be written.
    """
    tensors = {f"solver.{name}": tensor for name, tensor in checkpoint.solver.tensors.items()}
    tensors["history"] = checkpoint.history
    tensors |= {f"snapshot.{k}": picture for k, picture in checkpoint.snapshots.items()}
    about: dict[str, Any] = {
        "settings": dict(checkpoint.identity.settings),
        "made_from": dict(checkpoint.identity.made_from),
        "solver": dict(checkpoint.solver.numbers),
        "terms": list(checkpoint.terms),
        "best": checkpoint.best,
        "seconds": checkpoint.seconds,
        "scales": [list(scale) for scale in checkpoint.scales],
    }
    if parts:
        about["parts"] = {
            "folder": checkpoint_parts.folder_of(path).name,
            "files": [[part.name, part.sha256] for part in parts],
        }
    packed = checkpoint_tensors.packed(tensors)
    text = json.dumps(about, allow_nan=False)
    metadata = {
        "format": IN_PARTS if parts else FORMAT,
        "fastnst": text,
        "sha256": digest_of(text, packed),
    }
    try:
        checkpoint_tensors.write(packed, metadata, path)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise OutputFailed(f"checkpoint {path} could not be written: {reason}") from error
    checkpoint_parts.sweep(path, parts)
    if not parts:
        checkpoint_parts.remove_folder(path)


@contextlib.contextmanager
def refusing() -> Iterator[None]:
    """Say that it is the checkpoint that cannot be used, for what is raised in the context.

    Raises:
        StateRefused: in the place of any other InvalidInput.
    """
    try:
        yield
    except StateRefused:
        raise
    except InvalidInput as error:
        raise StateRefused(str(error)) from error


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        InvalidInput: if it is missing, damaged, or no checkpoint of this version.
    """
    try:
        if not path.is_file():
            raise InvalidInput(f"checkpoint {path} does not exist or is not a file")
        metadata, tensors = checkpoint_tensors.read(path)
        _check_format(path, metadata.get("format"))
        text, sha256 = metadata.get("fastnst", ""), metadata.get("sha256", "")
        if sha256 != digest_of(text, tensors):
            raise InvalidInput(
                f"checkpoint {path} is damaged: its contents are not those that were written "
                "(SHA-256); go on from another one, or begin again"
            )
        about, parts = _about(path, text, metadata.get("format") == IN_PARTS)
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        if isinstance(error, InvalidInput):
            raise
        reason = " ".join((getattr(error, "strerror", None) or str(error)).split())
        raise InvalidInput(f"checkpoint {path} cannot be read: {reason}") from error
    try:
        return _parse(about, tensors, parts, sha256)
    except (ValueError, KeyError) as error:
        raise InvalidInput(f"checkpoint {path} cannot be used: {error}") from error


def parts_of(path: Path) -> tuple[Part, ...] | None:
    """The parts that a checkpoint names, which need not be there; None if it cannot be read."""
    if not path.exists():
        return ()
    try:
        about = json.loads(checkpoint_tensors.read_metadata(path).get("fastnst", ""))
        if "parts" not in about:
            return ()
        return check_parts(about["parts"])[1]
    except (SafetensorError, OSError, ValueError, TypeError, RecursionError):
        return None


def _check_format(path: Path, found: str | None) -> None:
    if found in _EARLIER:
        raise InvalidInput(
            f"checkpoint {path} was written by an earlier version of fastnst: "
            "go on with that version, or begin again"
        )
    if found not in (FORMAT, IN_PARTS):
        raise InvalidInput(f"{path} is not a checkpoint of this version of fastnst")


def _about(path: Path, text: str, in_parts: bool) -> tuple[Any, list[dict[str, Tensor]]]:
    """What the JSON text of a checkpoint says, without its parts, and what these hold.

    Raises:
        InvalidInput: naming what is wrong.
    """
    try:
        about = json.loads(text)
        named = about.pop("parts") if in_parts else None
        check_about(about)
        folder, parts = ("", ()) if named is None else check_parts(named)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InvalidInput(f"checkpoint {path} cannot be used: {error}") from error
    return about, checkpoint_parts.read_together(path, folder, parts)


def _parse(
    about: Any, tensors: Mapping[str, Tensor], parts: Sequence[Mapping[str, Tensor]], sha256: str
) -> Checkpoint:
    """The checkpoint that metadata and tensors make.

    Raises:
        ValueError: naming what is wrong.
        KeyError: for a tensor that is missing.
    """
    solver = {k.removeprefix("solver."): v for k, v in tensors.items() if k.startswith("solver.")}
    snapshots = {int(k[9:]): v for k, v in tensors.items() if k.startswith("snapshot.")}
    if len(solver) + len(snapshots) + 1 != len(tensors):
        raise InvalidInput("it has tensors that no checkpoint has")
    check_pieces(solver, parts)
    pieces: dict[str, tuple[Tensor, ...]] = {}
    for part in parts:
        for name, x in part.items():
            if is_picture(x):
                pieces[name] = (*pieces.get(name, ()), x)
            else:
                solver[name] = x
    checkpoint = Checkpoint(
        Identity(about["settings"], about["made_from"]),
        State(about["solver"], solver),
        tensors["history"],
        tuple(about["terms"]),
        about["best"],
        about["seconds"],
        snapshots,
        tuple((w, h, i, e) for w, h, i, e in about["scales"]),
        pieces,
        sha256,
    )
    check_tensors(checkpoint)
    return checkpoint
