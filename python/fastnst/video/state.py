"""The state of a film on disk: each frame when it is finished, so that a film goes on bit for bit.

In a folder, by the number of the frame in the clip:

    film.json          what the film is made from
    00012.png          the finished frame
    00012.safetensors  what later frames need of it, in float32; the last few frames have one
    00012.json         its record, which is written last: with it the frame is finished
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import re
from collections.abc import Sequence
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from fastnst import files
from fastnst.errors import InvalidInput, OutputFailed
from fastnst.images.encode import encode
from fastnst.run.identity import Identity
from fastnst.video.film_frame import FilmFrame, Past, Shot
from fastnst.video.flow import Frame

FORMAT = "fastnst film 1"
ABOUT = "film.json"
_OWN = re.compile(rf"{re.escape(ABOUT)}|\d+\.(png|safetensors|json|next)")


class FilmState:
    """The folder of a film that is being made.

    Args:
        folder: Where it is.
        kept: How many of the last frames keep what later frames need of them; None: all.
        backwards: Whether the frames are made from the last to the first.
    """

    def __init__(self, folder: Path, kept: int | None, backwards: bool = False) -> None:
        self.folder = folder
        self.kept = kept
        self.backwards = backwards

    @property
    def exists(self) -> bool:
        """Whether there is the state of a film."""
        return os.path.isfile(self.folder / ABOUT)  # noqa: PTH113 - False for what no system takes

    @property
    def has_frames(self) -> bool:
        """Whether there is a finished frame of it."""
        return self.exists and bool(_numbered(self.folder, "json"))

    def _again(self, record: str) -> str:
        """How a damaged film goes on: from any frame only where all have what later ones need."""
        if self.kept is None:
            return f"remove {record} and all later ones to make these frames again"
        return f"remove {self.folder} to begin again"

    def begin(self, identity: Identity) -> None:
        """Make the folder, or take one over in which no frame was finished.

        Raises:
            InvalidInput: if it cannot be made, or has somebody's files in it.
        """
        try:
            self.folder.mkdir(exist_ok=True)
            self.sweep()
            begun = self._is_own()
            if any(path.name != ABOUT or not begun for path in self.folder.iterdir()):
                hint = ": --resume goes on with the film that was begun there" if begun else ""
                raise InvalidInput(
                    f"folder {self.folder} is needed for the film and is not empty{hint}"
                )
        except OSError as error:
            reason = error.strerror
            raise InvalidInput(f"folder {self.folder} cannot be made: {reason}") from error
        about = {
            "format": FORMAT,
            "settings": identity.settings,
            "made_from": identity.made_from,
        }
        files.write(self.folder / ABOUT, json.dumps(about).encode())

    def _is_own(self) -> bool:
        """Whether the description that is there is of a film, and not somebody's file."""
        try:
            return str(json.loads((self.folder / ABOUT).read_text("utf-8"))["format"]) == FORMAT
        except _WRONG:
            return False

    def check(self, identity: Identity) -> None:
        """Make sure that the film is the one that goes on.

        Raises:
            InvalidInput: naming what differs, or if there is no such film.
        """
        try:
            about = json.loads((self.folder / ABOUT).read_text("utf-8"))
            saved = Identity(dict(about["settings"]), dict(about["made_from"]))
            known = about["format"] == FORMAT
        except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
            raise InvalidInput(f"{self.folder} has no state of a film to go on from") from error
        if not known:
            raise InvalidInput(f"{self.folder} is of another version of fastnst: begin again")
        if changed := saved.differences(identity):
            raise InvalidInput(f"{self.folder} is of another film: {'; '.join(changed)}")

    def save(self, painted: FilmFrame) -> None:
        """Save a finished frame.

        Raises:
            OutputFailed: if it cannot be written.
        """
        name = f"{painted.frame.index:05d}"
        picture = encode(painted.result.pixels, "PNG")
        content = torch.from_numpy(painted.frame.pixels).contiguous()
        state = save({"image": painted.raw.contiguous(), "content": content})
        record = {
            **painted.to_dict(),
            "shot": asdict(painted.shot),
            "exact_time": str(painted.frame.time),
            "exact_until": None if painted.frame.until is None else str(painted.frame.until),
            "ends_clip": painted.frame.ends,
            "picture_sha256": _sha256(picture),
            "state_sha256": _sha256(state),
        }
        text = json.dumps(record).encode()
        if painted.pass_number > 1:  # a frame is replaced: a kill in between is seen
            files.write(self.folder / f"{name}.next", text)
        files.write(self.folder / f"{name}.png", picture)
        files.write(self.folder / f"{name}.safetensors", state)
        files.write(self.folder / f"{name}.json", text)
        (self.folder / f"{name}.next").unlink(missing_ok=True)
        if self.kept is not None:
            states = _numbered(self.folder, "safetensors")
            made = sorted(states, key=_number, reverse=self.backwards)
            for path in made[: -self.kept]:
                path.unlink()

    def records(self) -> list[dict[str, Any]]:
        """The records of the finished frames, in the order of the clip.

        Raises:
            InvalidInput: for one that cannot be read.
        """
        found = []
        for path in _numbered(self.folder, "next"):
            self._settle(path)
        for path in _numbered(self.folder, "json"):
            try:
                record = json.loads(path.read_text("utf-8"))
                _check(record, _number(path))
            except _WRONG as error:
                raise InvalidInput(f"{path} is damaged: {self._again('it')}") from error
            found.append(record)
        return sorted(found, key=lambda record: int(record["frame"]))

    def past(self, records: Sequence[dict[str, Any]]) -> list[Past]:
        """What later frames need of these finished ones.

        Raises:
            InvalidInput: for a frame that is missing or damaged.
        """
        return [self._load(record) for record in records]

    def picture(self, record: dict[str, Any]) -> Path:
        """The file of a finished frame.

        Raises:
            InvalidInput: if it is missing or damaged.
        """
        path = self.folder / f"{record['frame']:05d}.png"
        self._read(path, record["picture_sha256"])
        return path

    def remove(self) -> None:
        """Remove what this class has written, and the folder if nothing else is in it."""
        self.sweep()
        for path in self.folder.iterdir():
            if _OWN.fullmatch(path.name):
                path.unlink()
        if not any(self.folder.iterdir()):
            with contextlib.suppress(OSError):  # the working directory stays
                self.folder.rmdir()

    def sweep(self) -> None:
        """Remove what killed processes have left; nobody may be making the film meanwhile."""
        for path in self.folder.iterdir():
            if _OWN.fullmatch(files.target_of(path) or ""):
                path.unlink(missing_ok=True)

    def _settle(self, path: Path) -> None:
        """Finish a frame whose record could not be written, or leave it to be made again.

        It may have its new picture and the state of before: a picture is whole, and can be shown.
        """
        try:
            text = path.read_bytes()
            following, last = json.loads(text), path.with_suffix(".json")
            state = path.with_suffix(".safetensors").read_bytes()
            picture = path.with_suffix(".png").read_bytes()
            if _sha256(state) == following["state_sha256"]:
                files.write(last, text)
            elif _sha256(picture) == following["picture_sha256"]:
                record = {**json.loads(last.read_bytes()), "picture_sha256": _sha256(picture)}
                files.write(last, json.dumps(record).encode())
            path.unlink()
        except OutputFailed:
            raise
        except _WRONG as error:
            raise InvalidInput(f"{path} cannot be read: remove it") from error

    def _load(self, record: dict[str, Any]) -> Past:
        path = self.folder / f"{record['frame']:05d}.safetensors"
        data = self._read(path, record["state_sha256"])
        try:
            tensors = load(data)
            image, content = tensors["image"], tensors["content"]
        except (SafetensorError, LookupError) as error:
            raise InvalidInput(f"{path} cannot be used: {error}") from error
        frame = Frame(
            *(record["frame"], Fraction(record["exact_time"]), content.numpy()),
            *(until_of(record), bool(record.get("ends_clip"))),
        )
        return Past(frame, image)

    def _read(self, path: Path, expected: str) -> bytes:
        try:
            data = path.read_bytes()
        except OSError as error:
            raise InvalidInput(f"{path} cannot be read: {error.strerror}") from error
        if _sha256(data) != expected:
            record = path.with_suffix(".json").name
            raise InvalidInput(f"{path} is damaged (SHA-256): {self._again(record)}")
        return data


def shot_of(record: dict[str, Any]) -> Shot:
    """The shot that a frame belongs to, from its record."""
    return Shot(**record["shot"])


def until_of(record: dict[str, Any]) -> Fraction | None:
    """When a frame is shown no more, from its record; None: that is not known."""
    until = record.get("exact_until")
    return None if until is None else Fraction(until)


def _check(record: dict[str, Any], number: int) -> None:
    """Make sure that a record has all that is read of it.

    Raises:
        ValueError: if not; or any other of ``_WRONG``.
    """
    shot = shot_of(record)
    Fraction(record["exact_time"])
    until_of(record)
    if not (
        record["frame"] == number
        and type(record["pass"]) is int
        and type(shot.first) is int
        and math.isfinite(shot.loss + shot.style)
        and isinstance(record["picture_sha256"] + record["state_sha256"], str)
    ):
        raise ValueError("it is not the record of a frame")


# What Python raises for a record that is none.
_WRONG = (
    *(OSError, ValueError, LookupError, TypeError, ArithmeticError, RecursionError),
    AttributeError,
)


def _numbered(folder: Path, suffix: str) -> list[Path]:
    """The files of frames with a suffix; others are somebody's."""
    return [path for path in folder.glob(f"*.{suffix}") if path.stem.isdecimal()]


def _number(path: Path) -> int:
    return int(path.stem)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
