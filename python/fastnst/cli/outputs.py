"""Everything that a run will write, checked against what it reads before the work starts."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fastnst import files

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LARGEST_DEFAULT = 512  # long side in pixels of a run whose size is not said


def check_run(
    content: str,
    style: Sequence[str],
    settings: Any,
    outputs: Mapping[str, Path | None],
    *,
    bits: int,
    masks: Mapping[str, str | None],
    resume: Path | None = None,
    save_every: int = 0,
) -> None:
    """Make sure that the outputs of a run are files of their own, and that there is room for them.

    Args:
        content: The content picture, as it was named.
        style: The style pictures.
        settings: Of the run: ``init`` and ``weights`` may be files too.
        outputs: ``{option: path}``, ``--output`` among them; None: not asked for.
        bits: Of the picture.
        masks: ``{what to call it: the picture}``.
        resume: A checkpoint to go on from, which ``--checkpoint`` may replace.
        save_every: Iterations between two pictures on the way; 0: there are none.

    Raises:
        InvalidInput: naming the output and what is wrong with it.
    """
    from fastnst.images.encode import check_output

    output = outputs["--output"]
    assert output is not None
    check_output(output, bits, size=result_size(content, settings.size))
    on_the_way = {
        f"a picture of --save-every, {path.name},": path
        for k in range(save_every, settings.iterations + 1, save_every or 1)
        if (path := picture_on_the_way(output, k)).exists() and save_every
    }
    files.check_outputs(
        {**outputs, **on_the_way},
        {
            "the content": content,
            **{f"style {k}": path for k, path in enumerate(style, start=1)},
            **masks,
            "init": settings.init,
            "the weights": settings.weights,
            "--resume": resume,
        },
        same=[("--checkpoint", "--resume")],
    )
    checkpoint = outputs.get("--checkpoint")
    if checkpoint is not None:
        files.check_writable(checkpoint, "checkpoint", 0, _is_checkpoint, "checkpoint")


def check_config(path: Path, others: Mapping[Any, Any]) -> None:
    """Make sure that ``--save-config`` replaces no file but settings, and none that is used.

    Args:
        path: Where the settings go.
        others: ``{argument: value}`` of the command; what is no path is left alone.

    Raises:
        InvalidInput: if not.
    """
    named: dict[str, str | os.PathLike[str]] = {}
    for name, value in others.items():
        shown = name if isinstance(name, str) else "a picture"
        for part in value if isinstance(value, (list, tuple)) else [value]:
            if isinstance(part, (str, Path)):
                named.setdefault(f"{shown} ({part})", part)
    files.check_outputs({"--save-config": path}, named)
    files.check_writable(path, "config", 0, lambda _: _is_toml(path), "TOML file")


def result_size(content: str, long_side: int | None) -> tuple[int, int] | None:
    """Width and height of a result at most; None if the content cannot be looked at in advance."""
    from fastnst.images.decode import SAMPLE_PREFIX, open_image
    from fastnst.images.pixels import scaled_size

    if content.startswith(SAMPLE_PREFIX) or not os.path.isfile(content):  # noqa: PTH113 - any text
        return None
    with open_image(content) as opened:
        return scaled_size(*opened.size, LARGEST_DEFAULT if long_side is None else long_side)


def enumerate_masks(masks: Sequence[str] | None) -> list[tuple[str, str]]:
    """Style masks with what to call them."""
    return [(f"style mask {k}", mask) for k, mask in enumerate(masks or (), start=1)]


def picture_on_the_way(output: Path, iteration: int) -> Path:
    """Where ``--save-every`` saves the picture of an iteration."""
    return output.with_name(f"{output.stem}-{iteration:05d}{output.suffix}")


def _is_checkpoint(head: bytes) -> bool:
    return head[8:9] == b"{" and b'"__metadata__"' in head and b"fastnst" in head


def _is_toml(path: Path) -> bool:
    try:
        tomllib.loads(path.read_text("utf-8-sig"))
    except (ValueError, RecursionError):
        return False
    return True
