"""What can be said of a command's inputs before torch is imported: whether they are there."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from fastnst import samples
from fastnst.errors import InvalidInput
from fastnst.network.architecture import VGG16, VGG19
from fastnst.settings.settings import SPECS, Settings

_ADDRESS = re.compile(r"(?:https?|ftps?|s3|gs|data|file):", re.IGNORECASE)
STANDARD_INPUT = "-"


def check_pictures(*pictures: str | Iterable[str] | None) -> None:
    """Make sure that pictures are built in, or files that are there.

    Args:
        pictures: Paths or ``sample:NAME``, or lists of these; None is passed over.

    Raises:
        InvalidInput: naming the first that is missing, a folder, or an address on the web.
    """
    for picture in pictures:
        for name in (picture,) if isinstance(picture, str) else picture or ():
            _check_picture(name)


def taken_for_option(arguments: Sequence[str]) -> str | None:
    """The first argument that is a file's name and was read as an option; None: there is none."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    for argument in arguments[:end]:
        if argument.startswith("-") and argument != STANDARD_INPUT and os.path.lexists(argument):
            return argument
    return None


def _check_picture(name: str) -> None:
    if name.startswith(samples.PREFIX):
        samples.find(name.removeprefix(samples.PREFIX))
    elif _ADDRESS.match(name) and not os.path.exists(name):  # noqa: PTH110
        raise InvalidInput(f"{name} is an address: download the picture and name the file")
    elif not name:
        raise InvalidInput("a picture's name is empty")
    elif name != STANDARD_INPUT:
        check_exists(name)
        if Path(name).is_dir():
            raise InvalidInput(f"{name} is a folder; a picture is needed")


def check_init(settings: Settings) -> None:
    """Make sure that several runs do not read their start from standard input, which has it once.

    Raises:
        InvalidInput: if they do.
    """
    if settings.init == STANDARD_INPUT:
        raise InvalidInput("several runs cannot read --init from standard input: name a file")


def check_read_once(*pictures: str | None) -> None:
    """Make sure that standard input is one picture at most: whoever reads it second finds nothing.

    Raises:
        InvalidInput: if it is named more than once.
    """
    if pictures.count(STANDARD_INPUT) > 1:
        raise InvalidInput(
            f"{STANDARD_INPUT} is named {pictures.count(STANDARD_INPUT)} times, and standard input "
            "can be read once: name a file for the others"
        )


def check_files(settings: Settings) -> None:
    """Make sure that the files are there that settings name: a start, weights.

    Raises:
        InvalidInput: naming the setting, the file and what is wrong with it.
    """
    for name, of in SPECS.items():
        value = getattr(settings, name)
        if of.kind.names_file(value):
            try:
                _check_picture(value) if name == "init" else check_file(value)
            except InvalidInput as error:
                raise InvalidInput(f"{name}: {error} (or use {_any_of(of.kind.known)})") from error


def check_layers(settings: Settings) -> None:
    """Make sure that the network has the layers that settings name.

    A network from a file is taken for VGG-19, which has all layers of VGG-16.

    Raises:
        InvalidInput: naming the layer, with the one that may have been meant.
    """
    network = VGG16 if settings.weights.endswith(VGG16.name) else VGG19
    for name in (*settings.content_layers, *settings.style_layers):
        network.check_layer(name)


def _any_of(names: Sequence[str]) -> str:
    return " or ".join([", ".join(names[:-1]), names[-1]] if names[1:] else names)


def check_file(path: str | Path, label: str = "") -> None:
    """Make sure that a path leads to a file, or to what can be read like one.

    Raises:
        InvalidInput: as ``check_exists``, or for a folder.
    """
    check_exists(path, label)
    if Path(path).is_dir():
        raise InvalidInput(f"{label} {path} is a folder; a file is needed".lstrip())


def check_exists(path: str | Path, label: str = "") -> None:
    """Make sure that a path leads to something.

    Args:
        path: Where to look.
        label: What to call it in the message; empty for the path alone.

    Raises:
        InvalidInput: if it does not, or the system does not let us look.
    """
    called = f"{label} {path}" if label else str(path)
    try:
        os.stat(path)  # noqa: PTH116 - the name as it was given: photo.png/ is no picture
    except FileNotFoundError as error:
        raise InvalidInput(f"{called} does not exist") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in it
        reason = getattr(error, "strerror", None) or str(error)
        raise InvalidInput(f"{called} cannot be read: {reason}") from error
