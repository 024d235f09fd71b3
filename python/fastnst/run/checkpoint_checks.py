"""What must hold for a checkpoint before a run goes on from it: sum, names, shapes, numbers.

The digest finds every accident: a flipped bit, a lost block, an edited number. The other checks
find a checkpoint that was made by a program with a mistake, or by hand, before it reaches the
solver.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from fastnst.errors import InvalidInput
from fastnst.run.checkpoint_state import Checkpoint
from fastnst.run.part import PART, SHA256, SUFFIX, Part
from fastnst.run.schedule import Scale
from fastnst.settings.settings import Settings
from fastnst.solvers.sharing import is_picture

ABOUT = ("settings", "made_from", "solver", "terms", "best", "seconds", "scales")


def digest_of(about: str, tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of all that a checkpoint holds.

    Args:
        about: The JSON text of its metadata.
        tensors: Its tensors, on the CPU and contiguous: name, dtype, shape and bytes count.
    """
    hashed = hashlib.sha256(about.encode("utf-8", "surrogatepass"))
    for name in sorted(tensors):
        tensor = tensors[name]
        hashed.update(f"\0{name} {tensor.dtype} {tuple(tensor.shape)}\0".encode())
        hashed.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return hashed.hexdigest()


def check_about(about: Any) -> None:
    """Make sure that the metadata have the parts that a checkpoint has, each of its type.

    Args:
        about: What the JSON text says.

    Raises:
        InvalidInput: naming the part that is wrong.
    """
    if not isinstance(about, dict) or sorted(about) != sorted(ABOUT):
        raise InvalidInput(f"its metadata are not {', '.join(ABOUT)}")
    for name in ("settings", "made_from", "solver"):
        _expect(isinstance(about[name], dict), name, "an object")
    _expect(all(isinstance(v, str) for v in about["made_from"].values()), "made_from", "texts")
    for name, value in about["solver"].items():
        _expect(_is_plain(value), f"solver's {name}", "a finite number, a text or whole numbers")
    terms = about["terms"]
    _expect(
        isinstance(terms, list)
        and all(isinstance(term, str) for term in terms)
        and len(set(terms)) == len(terms) >= 2
        and (terms[0], terms[-1]) == ("total", "tv")
        and all(term.startswith(("content.", "style.")) for term in terms[1:-1]),
        "terms",
        "total, the losses of layers, tv",
    )
    _expect(_is_count(about["best"]), "best", "a row of the history")
    seconds = about["seconds"]
    _expect(type(seconds) in (int, float) and 0 <= seconds < math.inf, "seconds", "0 or more")
    scales = about["scales"]
    _expect(
        isinstance(scales, list)
        and all(isinstance(s, list) and len(s) == 4 and all(map(_is_count, s)) for s in scales),
        "scales",
        "four whole numbers each",
    )


def check_parts(named: Any) -> tuple[str, tuple[Part, ...]]:
    """The folder and the parts that the metadata of a checkpoint name.

    Raises:
        InvalidInput: for names that no part has, such as those of files elsewhere.
    """
    _expect(isinstance(named, dict) and sorted(named) == ["files", "folder"], "parts", "an object")
    folder, listed = named["folder"], named["files"]
    plain = isinstance(folder, str) and not {"/", "\\", "\0"} & set(folder)
    _expect(plain and folder.endswith(SUFFIX), "parts' folder", f"a name ending in {SUFFIX}")
    _expect(
        isinstance(listed, list)
        and len(listed) > 0
        and all(
            isinstance(one, list)
            and len(one) == 2
            and all(isinstance(text, str) for text in one)
            and PART.fullmatch(one[0])
            and SHA256.fullmatch(one[1])
            for one in listed
        ),
        "parts",
        "names and digests",
    )
    return folder, tuple(Part(name, sha256) for name, sha256 in listed)


def check_pieces(solver: Mapping[str, Tensor], parts: Sequence[Mapping[str, Tensor]]) -> None:
    """Make sure that what ranks have written makes one state.

    Args:
        solver: The tensors of the solver that lie in no part.
        parts: Those of each part.

    Raises:
        InvalidInput: naming the tensor that is wrong.
    """
    taken = set(solver)
    first = {name: x for name, x in parts[0].items() if is_picture(x)} if parts else {}
    for part in parts:
        pictures = {name: x for name, x in part.items() if is_picture(x)}
        _expect(pictures.keys() == first.keys(), "parts", "the same pictures in each")
        for name, x in pictures.items():
            alike = _but_rows(x) == _but_rows(first[name]) and x.shape[-2] > 0
            _expect(alike and name not in solver, f"solver.{name}", "rows of one picture")
        of_bands = part.keys() - pictures.keys()
        _expect(not of_bands & (taken | first.keys()), "parts", "each band in one of them")
        taken |= of_bands


def _but_rows(x: Tensor) -> tuple[object, ...]:
    """What pieces of one picture have alike."""
    return (*x.shape[:-2], x.shape[-1], x.dtype)


def check_tensors(checkpoint: Checkpoint) -> None:
    """Make sure that the tensors go with the metadata, and hold finite numbers.

    Raises:
        InvalidInput: naming the tensor that is wrong.
    """
    history = checkpoint.history
    _expect(
        history.dtype == torch.float64
        and history.ndim == 2
        and len(history) > 0
        and history.shape[1] == len(checkpoint.terms),
        "history",
        f"float64 with {len(checkpoint.terms)} columns",
    )
    _expect(checkpoint.best < len(history), "best", f"below {len(history)}")
    every = [("history", history), *checkpoint.solver.tensors.items()]
    every += [(name, piece) for name, of in checkpoint.pieces.items() for piece in of]
    for name, tensor in every:
        _expect(not tensor.is_floating_point() or bool(tensor.isfinite().all()), name, "finite")
    for at, picture in checkpoint.snapshots.items():
        shape = picture.shape
        _expect(
            picture.dtype == torch.uint8 and len(shape) == 3 and shape[2] == 3 and min(shape) > 0,
            f"snapshot.{at}",
            "a picture in 8 bits",
        )


def check_fits(
    checkpoint: Checkpoint, settings: Settings, schedule: tuple[Scale, ...], start: Tensor
) -> None:
    """Make sure that a checkpoint's counts and shapes are those of the run that is to go on.

    Args:
        checkpoint: One whose identity is that of the run.
        settings: The settings of the run.
        schedule: The scales of the run.
        start: ``(1, 3, H, W)``, a picture of the scale that the checkpoint is of.

    Raises:
        InvalidInput: naming what does not fit.
    """
    numbers = checkpoint.solver.numbers
    for name in ("iteration", "evaluations", "restarts"):
        _expect(_is_count(numbers.get(name)), f"solver's {name}", "a whole number")
    _expect(numbers["iteration"] < numbers["evaluations"], "solver's evaluations", "more")
    for name in ("image", "best"):
        _expect(
            checkpoint.picture(name) == (tuple(start.shape), start.dtype),
            f"solver.{name}",
            f"{start.shape[3]}×{start.shape[2]} pixels in {str(start.dtype).split('.')[-1]}",
        )
    _expect(len(checkpoint.scales) < len(schedule), "scales", f"fewer than {len(schedule)}")
    counts = [scale.iterations for scale in schedule[: len(checkpoint.scales)]]
    _expect([s[2] for s in checkpoint.scales] == counts, "scales", f"{counts} iterations")
    done, most = numbers["iteration"], schedule[len(checkpoint.scales)].iterations
    if done > most:
        raise InvalidInput(
            f"it has {done} iterations done, more than the {most} that are asked for"
        )
    averaged = 1 if settings.averaging else 0
    before = sum(count + 1 + (averaged if count else 0) for count in counts)
    rows = before + numbers["iteration"] + 1
    _expect(len(checkpoint.history) == rows, "history", f"{rows} rows")
    _expect(checkpoint.best >= before, "best", f"{before} or more")


def _expect(holds: bool, name: str, expected: str) -> None:
    if not holds:
        raise InvalidInput(f"its {name.removeprefix('its ')} is not as expected: {expected}")


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**53


def _is_plain(value: object) -> bool:
    if isinstance(value, list):
        return all(_is_count(one) for one in value)
    if type(value) is float:
        return math.isfinite(value)
    return (
        isinstance(value, str) or type(value) is bool or (type(value) is int and abs(value) < 2**63)
    )
