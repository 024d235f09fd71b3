"""The options for the settings of a run, shared by every command that takes them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from fastnst.errors import InvalidInput
from fastnst.network.weights import BUILT_IN
from fastnst.settings.config import combine, read_config, write_config
from fastnst.settings.presets import PRESETS
from fastnst.settings.settings import CHOICES, STATISTICS

Command = Callable[..., None]


def _option(kind: Any, text: str) -> Any:
    return Annotated[kind | None, typer.Option(help=text)]


def _choice(name: str, text: str) -> Any:
    return _option(str, text.format(", ".join(CHOICES[name])))


# One for each attribute of Settings, in the order of --help. None: the preset's value.
OPTIONS: dict[str, Any] = {
    "size": _option(int, "Long side in pixels; 0: the content's own. (default: 512 GPU, 256 CPU)"),
    "iterations": _option(int, "Of the solver, at the first scale. (default: 300)"),
    "min_size": _option(int, "Work coarse to fine, from this size. (default: one scale)"),
    "scale_step": _option(float, "Ratio of one scale's size to the next. (default: 2)"),
    "scale_iterations": _option(str, "At each later scale, as 150,75. (default: iterations)"),
    "init": _option(str, "Start: noise, content, matched, or a picture. (default: noise)"),
    "content_weight": _option(float, "α. (default: 1)"),
    "style_weight": _option(float, "β. (default: 10)"),
    "tv_weight": _option(float, "τ, total variation. (default: 0)"),
    "tv_form": _choice("tv_form", "{}. (default: squared)"),
    "content_layers": _option(str, "Comma-separated. (default: relu4_2)"),
    "content_layer_weights": _option(str, "One for each content layer. (default: 1 each)"),
    "style_layers": _option(str, "Comma-separated. (default: relu1_1,relu2_1,…,relu5_1)"),
    "style_layer_weights": _option(str, "One for each style layer. (default: equal, sum 1)"),
    "style_blend": _option(str, "Proportions of several styles, as 1,3. (default: equal)"),
    "blending": _choice("blending", "What is blended: {}. (default: targets)"),
    "style_size": _option(int, "Long side of the style; 0: its own. (default: the result's)"),
    "style_scale": _option(str, "Factor on it, for all or one each; more: larger strokes."),
    "style_fit": _choice("style_fit", "The style's shape: {}. (default: aspect)"),
    "statistics": _option(str, f"Of the style: {', '.join(STATISTICS)}. (default: gram)"),
    "statistics_weights": _option(str, "One for each of them. (default: 1 each)"),
    "gradient_norm": _choice("gradient_norm", "Divide layers' gradients by: {}. (default: none)"),
    "pooling": _choice("pooling", "{}. (default: average)"),
    "padding": _choice("padding", "Beyond the edges, at the first layer: {}. (default: zero)"),
    "weights": _option(str, f"{', '.join(BUILT_IN)}, or a file. (default: vgg19-normalised)"),
    "preprocessing": _choice("preprocessing", "Of the network's input: {}. (default: auto)"),
    "color": _choice("color", "Where colours come from: {}. (default: style)"),
    "optimizer": _choice("optimizer", "{}. (default: lbfgs)"),
    "history_size": _option(int, "L-BFGS curvature pairs. (default: 100)"),
    "learning_rate": _option(float, "Of Adam. (default: 0.02)"),
    "averaging": _option(float, "Decay of the average of iterates, for Adam. (default: 0, none)"),
    "seed": _option(int, "Of the white noise. (default: 0)"),
    "engine": _choice("engine", "{}. (default: auto)"),
    "provider": _choice("provider", "For engine onnx: {}. (default: auto)"),
    "device": _option(str, "auto, cpu, cuda or cuda:N. (default: auto)"),
    "precision": _choice("precision", "{}. (default: auto)"),
}

CONFIG = "TOML file with settings, or a PNG that fastnst wrote; options here go before it."
SAVE_CONFIG = "Write all settings of this run to a TOML file."


def split(text: str) -> tuple[str, ...]:
    """``"a, b"`` as ``("a", "b")``."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def numbers(name: str, text: str) -> tuple[float, ...]:
    """``"1, 0.5"`` as ``(1.0, 0.5)``; raises InvalidInput naming the option."""
    try:
        return tuple(float(part) for part in split(text))
    except ValueError as error:
        flag = name.replace("_", "-")
        raise InvalidInput(f"--{flag} is {text!r}: expected numbers separated by commas") from error


def whole_numbers(name: str, text: str) -> tuple[int, ...]:
    """``"150, 75"`` as ``(150, 75)``; raises InvalidInput naming the option."""
    try:
        return tuple(int(part) for part in split(text))
    except ValueError as error:
        flag = name.replace("_", "-")
        raise InvalidInput(
            f"--{flag} is {text!r}: expected whole numbers separated by commas"
        ) from error


# How a comma-separated text becomes the attribute.
_PARSERS: dict[str, Callable[[str], Any]] = {
    "content_layers": split,
    "style_layers": split,
    "statistics": split,
    "scale_iterations": functools.partial(whole_numbers, "scale_iterations"),
    **{
        name: functools.partial(numbers, name)
        for name in (
            "content_layer_weights",
            "style_layer_weights",
            "statistics_weights",
            "style_blend",
            "style_scale",
        )
    },
}


def settings_options(command: Command) -> Command:
    """Give a command the options above in the place of its parameter ``settings``.

    Before them stand ``--preset``, ``--config`` and ``--save-config``.

    The command is called with a ready ``Settings``.
    """
    hints = get_type_hints(command, include_extras=True)
    empty = inspect.Parameter.empty
    parameters: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        if name != "settings":
            parameters.append(parameter.replace(annotation=hints.get(name, empty)))
            continue
        text = f"Settings to start from: {', '.join(PRESETS)}."
        parameters.append(_keyword("preset", _option(str, f"{text} (default: gatys)"), None))
        parameters.append(_keyword("config", _option(Path, CONFIG), None))
        parameters.append(_keyword("save_config", _option(Path, SAVE_CONFIG), None))
        parameters += [_keyword(key, annotation, None) for key, annotation in OPTIONS.items()]
    positional = [p for p in parameters if p.kind is not inspect.Parameter.KEYWORD_ONLY]
    keywords = [p for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY]

    @functools.wraps(command)
    def wrapper(
        *arguments: Any,
        preset: str | None,
        config: Path | None,
        save_config: Path | None,
        **options: Any,
    ) -> None:
        overrides = {}
        for name in OPTIONS:
            value = options.pop(name)
            if value is not None:
                overrides[name] = _PARSERS[name](value) if name in _PARSERS else value
        settings = combine(read_config(config) if config else {}, preset, overrides)
        if save_config is not None:
            write_config(save_config, settings)
        command(*arguments, settings=settings, **options)

    wrapper.__signature__ = inspect.Signature(positional + keywords)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {p.name: p.annotation for p in parameters}
    return wrapper


def _keyword(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
    )
