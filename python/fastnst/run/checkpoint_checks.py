"""What must hold for a checkpoint before a run goes on from it: sum, names, shapes, numbers.

The digest finds every accident: a flipped bit, a lost block, an edited number. The other checks
find a checkpoint that was made by a program with a mistake, or by hand, before it reaches the
solver.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from fastnst.errors import InvalidInput
from fastnst.run.checkpoint_state import Checkpoint
from fastnst.run.schedule import Scale
from fastnst.settings.settings import Settings

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
    for name, tensor in {"history": history, **checkpoint.solver.tensors}.items():
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
    numbers, tensors = checkpoint.solver.numbers, checkpoint.solver.tensors
    for name in ("iteration", "evaluations", "restarts"):
        _expect(_is_count(numbers.get(name)), f"solver's {name}", "a whole number")
    _expect(numbers["iteration"] < numbers["evaluations"], "solver's evaluations", "more")
    for name in ("image", "best"):
        picture = tensors.get(name)
        _expect(
            picture is not None and picture.shape == start.shape and picture.dtype == start.dtype,
            f"solver.{name}",
            f"{start.shape[3]}×{start.shape[2]} pixels in {str(start.dtype).split('.')[-1]}",
        )
    _expect(len(checkpoint.scales) < len(schedule), "scales", f"fewer than {len(schedule)}")
    counts = [scale.iterations for scale in schedule[: len(checkpoint.scales)]]
    _expect([s[2] for s in checkpoint.scales] == counts, "scales", f"{counts} iterations")
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
