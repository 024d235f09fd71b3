"""Checkpoints that several ranks write together: each the part that it has.

Beside the checkpoint ``NAME`` lies the folder ``NAME.parts`` with a file of each rank: its rows of
the solver's pictures and the curvature pairs of its bands. Each checkpoint's parts have names of
their own. Once all of them are on the disk, rank 0 puts the file ``NAME`` in its place, which holds
the rest and names the parts, each with its SHA-256; then it removes the parts of before. So
``NAME`` always stands for one checkpoint, the last one or the one before, and all of it is there.
"""

from __future__ import annotations

import contextlib
import re
import secrets
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path

from safetensors import SafetensorError
from torch import Tensor

from fastnst.errors import InvalidInput, OutputFailed
from fastnst.ranks.protocol import Communication
from fastnst.run import checkpoint_tensors
from fastnst.run.checkpoint_checks import digest_of
from fastnst.run.part import PART, SUFFIX, Part

_DRAFT = re.compile(rf"\.{PART.pattern}\..+\.part")  # of a part that was not finished
_LOOK = re.compile(r"[0-9a-f]{32}(-\d{1,5})?\.look")


def folder_of(path: Path) -> Path:
    """The folder of the parts of a checkpoint."""
    real = path.resolve()
    return real.with_name(real.name + SUFFIX)


def can_share(path: Path, speech: Communication) -> bool:
    """Whether all ranks write where rank 0 looks, beside a checkpoint; all call this together.

    Rank 0 leaves a file with a name that nobody can guess. Who finds it there leaves another, for
    which rank 0 looks. Where that fails for any reason, machines that share no file system and a
    folder that takes no files among them, the ranks do not share it.

    Args:
        path: The checkpoint.
        speech: How this rank speaks to the others.
    """
    folder = folder_of(path)
    token = secrets.token_hex(16)
    left = [folder / f"{token}.look"]
    try:
        asked = speech.rank == 0 and _leave(left[0], token)
        token = speech.broadcast(token if asked else "")
        if not token:
            return False
        answered = True
        if speech.rank > 0:
            left = [folder / f"{token}-{speech.rank}.look"]
            answered = _holds(folder / f"{token}.look", token) and _leave(left[0], token)
        told = speech.gather_objects(answered)
        found = told is not None and all(told) and all(
            _holds(folder / f"{token}-{rank}.look", token) for rank in range(1, speech.ranks)
        )  # fmt: skip
        return bool(speech.broadcast(found))
    finally:
        for file in left:
            with contextlib.suppress(OSError):
                file.unlink(missing_ok=True)


def write_together(
    own: Mapping[str, Tensor], path: Path, speech: Communication
) -> tuple[Part, ...] | None:
    """Write this rank's part; all ranks call it together.

    Args:
        own: What this rank has.
        path: The checkpoint, which stays as it is.
        speech: How this rank speaks to the others.

    Returns:
        On rank 0 the parts of all ranks, in their order, which are on the disk; elsewhere None.

    Raises:
        OutputFailed: if this rank's part cannot be written.
    """
    # Nobody begins before rank 0 is done with the checkpoint of before, and has swept the folder.
    generation = speech.broadcast(secrets.token_hex(4))
    name = f"{generation}-{speech.rank}.part"
    tensors = checkpoint_tensors.packed(own)
    try:
        folder_of(path).mkdir(exist_ok=True)
        checkpoint_tensors.write(tensors, {}, folder_of(path) / name)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise OutputFailed(f"checkpoint {path} could not be written: {reason}") from error
    found = speech.gather_objects(Part(name, digest_of("", tensors)))
    return None if found is None else tuple(found)


def read_together(path: Path, folder: str, parts: Collection[Part]) -> list[dict[str, Tensor]]:
    """What the parts of a checkpoint hold, in the order of the ranks that wrote them.

    Args:
        path: The checkpoint.
        folder: The name of the folder beside it.
        parts: Those that it names.

    Raises:
        InvalidInput: for a part that is missing, or is not what was written.
        OSError: if one cannot be read.
        SafetensorError: likewise.
    """
    found = []
    for part in parts:
        file = path.resolve().with_name(folder) / part.name
        if not file.is_file():
            raise InvalidInput(f"checkpoint {path} is not whole: its part {file} is missing")
        _, tensors = checkpoint_tensors.read(file)
        if digest_of("", tensors) != part.sha256:
            raise InvalidInput(
                f"checkpoint {path} is damaged: its part {file} does not hold what was written "
                "(SHA-256); go on from another one, or begin again"
            )
        found.append(tensors)
    return found


def sweep(path: Path, kept: Collection[Part] = ()) -> None:
    """Remove the parts that a checkpoint in its place does not name; files that are no parts stay.

    Args:
        path: The checkpoint.
        kept: The parts that it names.
    """
    folder = folder_of(path)
    names = {part.name for part in kept}
    with contextlib.suppress(OSError):  # it is only tidying
        for file in folder.iterdir():
            if file.name in names:
                continue
            if PART.fullmatch(file.name) or _LOOK.fullmatch(file.name):
                file.unlink(missing_ok=True)
            elif _DRAFT.fullmatch(file.name):
                shutil.rmtree(file)


def remove_folder(path: Path) -> None:
    """Remove the folder for the parts of a checkpoint that has none, unless something is in it."""
    with contextlib.suppress(OSError):
        folder_of(path).rmdir()


def _leave(file: Path, text: str) -> bool:
    try:
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, "ascii")
    except OSError:
        return False
    return True


def _holds(file: Path, text: str) -> bool:
    try:
        return file.read_text("ascii") == text
    except (OSError, ValueError):
        return False
