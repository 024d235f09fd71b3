"""Everything that a run will write, checked against what it reads before the work starts."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from fastnst import files, plots
from fastnst.cli.inputs import check_read_once
from fastnst.errors import InvalidInput
from fastnst.images.outputs import check_output
from fastnst.output import video
from fastnst.run.checkpoint_kind import is_checkpoint
from fastnst.settings.config import read_config
from fastnst.settings.settings import Settings


def check_run(
    inputs: Mapping[str, str | None],
    settings: Settings,
    outputs: Mapping[str, Path | None],
    *,
    bits: int,
    pyramid: bool = False,
    size: Callable[[], tuple[int, int] | None],
    resume: Path | None = None,
    save_every: int = 0,
) -> None:
    """Make sure that the outputs of a run are files of their own, and that there is room for them.

    Args:
        inputs: ``{what to call it: a picture, as it was named}``; None: there is none.
        settings: Of the run: ``init`` and ``weights`` may be files too.
        outputs: ``{option: path}``, ``--output`` among them; None: not asked for.
        bits: Of the picture.
        pyramid: Whether the picture's file holds reduced pictures too.
        size: Finds width and height of the result at most, or None where they cannot be known.
        resume: A checkpoint to go on from, which ``--checkpoint`` may replace.
        save_every: Iterations between two pictures on the way; 0: there are none.

    Raises:
        InvalidInput: naming the output and what is wrong with it.
    """
    output = outputs["--output"]
    assert output is not None
    check_read_once(*inputs.values(), settings.init)
    on_the_way = _pictures_on_the_way(output, save_every, outputs.values())
    files.check_outputs(
        {**outputs, **on_the_way},
        {**inputs, "init": settings.init, "the weights": settings.weights, "--resume": resume},
        same=[("--checkpoint", "--resume")],
    )
    for path in (output, *on_the_way.values()):
        check_output(path, bits, pyramid=pyramid)
    checkpoint = outputs.get("--checkpoint")
    if checkpoint is not None:
        files.check_writable(checkpoint, "checkpoint", 0, is_checkpoint, "checkpoint")
    plot, film = outputs.get("--plot"), outputs.get("--video")
    if plot is not None:
        plots.check(plot)
    if film is not None:
        video.check(film)
    found = size()  # which loads what decodes pictures
    if film is not None and found is not None:
        video.check_size(film, *found)
    check_output(output, bits, size=found, pyramid=pyramid)


def check_config(path: Path, others: Mapping[Any, Any]) -> None:
    """Make sure that ``--save-config`` replaces no file but settings, and none that is used.

    Args:
        path: Where the settings go.
        others: ``{argument: value}`` of the command; what is no path is left alone.

    Raises:
        InvalidInput: if not.
    """
    for name, value in others.items():
        shown = f"the {name.replace('_', ' ')}" if isinstance(name, str) else "a picture"
        for part in value if isinstance(value, (list, tuple)) else [value]:
            if isinstance(part, (str, Path)):
                files.check_outputs({"--save-config": path}, {shown: part})
    files.check_writable(path, "config", 0, partial(_is_config, path), "file of settings")


def result_size(
    picture: str, long_side: int | None, megapixels: float | None = None
) -> tuple[int, int] | None:
    """``fastnst.inputs.sizes.result_size``, imported only when it is asked for."""
    from fastnst.inputs import sizes

    return sizes.result_size(picture, long_side, megapixels)


def numbered(name: str, pictures: Sequence[str] | None) -> dict[str, str]:
    """``{"style 1": the first picture, "style 2": ...}``."""
    return {f"{name} {k}": picture for k, picture in enumerate(pictures or (), start=1)}


def picture_on_the_way(output: Path, iteration: int) -> Path:
    """Where ``--save-every`` saves the picture of an iteration."""
    return output.with_name(f"{output.stem}-{iteration:05d}{output.suffix}")


def _pictures_on_the_way(
    output: Path, save_every: int, others: Iterable[Path | None]
) -> dict[str, Path]:
    """Those that are there already and would be replaced, or whose name another output has."""
    if not save_every:
        return {}
    pattern = re.compile(rf"{re.escape(output.stem)}-(\d{{5,}}){re.escape(output.suffix)}")
    try:
        names = {path.name for path in output.parent.iterdir()}
    except (OSError, ValueError):
        return {}  # what is wrong with the folder is said of the output
    names |= {path.name for path in others if path is not None and path.parent == output.parent}
    numbers = [int(found[1]) for name in names if (found := pattern.fullmatch(name))]
    paths = [picture_on_the_way(output, k) for k in numbers if k and k % save_every == 0]
    return {f"a picture of --save-every, {path.name},": path for path in paths}


def _is_config(path: Path, head: bytes) -> bool:
    if head.startswith(b"\x89PNG"):  # a picture, which carries its settings
        return False
    try:
        read_config(path)
    except InvalidInput:
        return False
    return True
