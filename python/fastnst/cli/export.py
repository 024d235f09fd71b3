"""``fastnst export``."""

from __future__ import annotations

import importlib.util
import json
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from fastnst import files
from fastnst.cli.console import say
from fastnst.cli.inputs import check_pictures
from fastnst.cli.options import OUTPUT, Quiet, settings_options
from fastnst.cli.outputs import numbered
from fastnst.errors import BackendUnavailable, InvalidInput
from fastnst.settings.kinds import split
from fastnst.settings.presets import DEFAULT_PRESET
from fastnst.settings.settings import Settings

LARGEST = 300 * 2**20  # bytes; VGG-19 is 80 MB, the rest is targets


@partial(settings_options, default=DEFAULT_PRESET)
def export(
    output: Annotated[Path, typer.Argument(help="The file to write (.onnx).")],
    *,
    content: Annotated[
        str | None, typer.Option(help="Content picture: a file, or sample:NAME.")
    ] = None,
    style: Annotated[
        list[str] | None,
        typer.Option(help="Style picture: a file, or sample:NAME; repeat it to blend several."),
    ] = None,
    features: Annotated[
        bool, typer.Option("--features", help="Export VGG's feature maps, not a loss.")
    ] = False,
    targets: Annotated[
        bool, typer.Option("--targets", help="Export Gram matrices, not a loss.")
    ] = False,
    dynamic: Annotated[bool, typer.Option("--dynamic", help="For pictures of any size.")] = False,
    inputs: Annotated[
        str, typer.Option(help="Let these be replaced when the file is run: targets,weights.")
    ] = "",
    settings: Settings,
    quiet: Quiet = False,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Describe the file as JSON.", rich_help_panel=OUTPUT),
    ] = False,
) -> None:
    """Write the loss and its gradient as an ONNX file, for any program that runs such files.

    Options of the objective count (size, layers, weights, pooling, network); those of the solver
    are only noted in the file.

    Example: fastnst export loss.onnx --content photo.jpg --style painting.jpg --size 512
    """
    if output.suffix.lower() != ".onnx":
        raise InvalidInput(f"output {output}: use a name ending in .onnx")
    if features and targets:
        raise InvalidInput("--features and --targets are two files: choose one")
    if not (features or targets) and (content is None or not style):
        raise InvalidInput("a loss needs a content and a style picture: --content C --style S")
    check_pictures(content, style)
    pictures = {"the content": content, **numbered("style", style)}
    files.check_outputs({"OUTPUT": output}, {**pictures, "the weights": settings.weights})
    files.check_writable(output, "output", LARGEST, _is_onnx, "ONNX file")
    if importlib.util.find_spec("onnx") is None:
        raise BackendUnavailable("the package onnx is not installed: pip install onnx")

    from fastnst.export import build, describe  # the package onnx takes a second

    model = build(
        settings,
        content,
        style,
        kind="features" if features else "targets" if targets else "loss",
        dynamic=dynamic,
        inputs=split(inputs),
    )
    data = model.SerializeToString()
    files.write_or_rescue(output, lambda path: files.write(path, data))
    about = {"output": str(output), "bytes": len(data), **describe(model)}
    if as_json:
        print(json.dumps(about, indent=2))
    if not quiet:
        say(_summary(about))


def _is_onnx(head: bytes) -> bool:
    """Whether a file begins as ONNX's do: with the number of their version, a protobuf field."""
    return head[:1] == b"\x08" and len(head) > 2 and head[1] < 128 and head[2:3] in b"\x12:"


def _summary(about: dict[str, Any]) -> str:
    names = {key: ", ".join(value["name"] for value in about[key]) for key in ("inputs", "outputs")}
    return (
        f"{about['output']}: {about['kind']}, {about['bytes'] / 1e6:.1f} MB; "
        f"in: {names['inputs']}; out: {names['outputs']}"
    )
