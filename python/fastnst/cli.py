"""The command line: parses, shows progress, prints. The work is done by the library."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from fastnst import samples
from fastnst._version import __version__
from fastnst.errors import FastNSTError, Interrupted, InvalidInput, NonFiniteLoss
from fastnst.images import FORMATS, check_output, save_image
from fastnst.info import info as installation
from fastnst.presets import DESCRIPTIONS, PRESETS, make_settings
from fastnst.settings import CHOICES, Settings
from fastnst.stylize import Result, Step, run
from fastnst.weights import BUILT_IN

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Neural style transfer by optimisation (Gatys, Ecker and Bethge).",
)
_err = Console(stderr=True, highlight=False, soft_wrap=True)
_out = Console(highlight=False)


def run_app(arguments: Sequence[str]) -> int:
    """Run the command line and return its exit code; every expected error becomes one line.

    0 done, 1 failed, 2 bad input or usage, 130 interrupted.
    """
    try:
        app(list(arguments), prog_name="fastnst")
    except SystemExit as left:
        return left.code if isinstance(left.code, int) else 1
    except FastNSTError as error:
        _complain(str(error))
        return error.exit_code
    return 0


def _complain(message: str) -> None:
    _err.print(f"[bold red]fastnst:[/] {escape(' '.join(message.split()))}")


def _one_of(name: str) -> str:
    return ", ".join(CHOICES[name])


@app.command(context_settings={"max_content_width": 100})
def stylize(
    content: Annotated[str, typer.Argument(help="Content picture: a file, or sample:NAME.")],
    style: Annotated[str, typer.Argument(help="Style picture: a file, or sample:NAME.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help=f"Where to save ({', '.join(FORMATS)}).")
    ],
    preset: Annotated[
        str, typer.Option(help=f"Settings to start from: {', '.join(PRESETS)}.")
    ] = "gatys",
    size: Annotated[
        int | None,
        typer.Option(help="Long side in pixels; 0: the content's own. [default: 512 GPU, 256 CPU]"),
    ] = None,
    iterations: Annotated[
        int | None, typer.Option(help="L-BFGS iterations. [default: 300]")
    ] = None,
    init: Annotated[
        str | None,
        typer.Option(help="Start: noise, content, matched, or a picture. [default: noise]"),
    ] = None,
    content_weight: Annotated[float | None, typer.Option(help="α. [default: 1]")] = None,
    style_weight: Annotated[float | None, typer.Option(help="β. [default: 10]")] = None,
    tv_weight: Annotated[
        float | None, typer.Option(help="τ, total variation. [default: 0]")
    ] = None,
    content_layers: Annotated[
        str | None, typer.Option(help="Comma-separated. [default: relu4_2]")
    ] = None,
    style_layers: Annotated[
        str | None, typer.Option(help="Comma-separated. [default: relu1_1,relu2_1,…,relu5_1]")
    ] = None,
    style_layer_weights: Annotated[
        str | None, typer.Option(help="One for each style layer. [default: equal, sum 1]")
    ] = None,
    style_fit: Annotated[
        str | None,
        typer.Option(help=f"The style's shape: {_one_of('style_fit')}. [default: aspect]"),
    ] = None,
    pooling: Annotated[
        str | None, typer.Option(help=f"{_one_of('pooling')}. [default: average]")
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(help=f"{', '.join(BUILT_IN)}, or a file. [default: vgg19-normalised]"),
    ] = None,
    preprocessing: Annotated[
        str | None,
        typer.Option(help=f"For weights from a file: {_one_of('preprocessing')}. [default: auto]"),
    ] = None,
    optimizer: Annotated[
        str | None, typer.Option(help=f"{_one_of('optimizer')}. [default: lbfgs]")
    ] = None,
    history_size: Annotated[
        int | None, typer.Option(help="L-BFGS curvature pairs. [default: 100]")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of the white noise. [default: 0]")] = None,
    engine: Annotated[
        str | None, typer.Option(help=f"{_one_of('engine')}. [default: auto]")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="auto, cpu, cuda or cuda:N. [default: auto]")
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help=f"{_one_of('precision')}. [default: auto]")
    ] = None,
    bits: Annotated[int, typer.Option(help="8, or 16 for PNG and TIFF.")] = 8,
    save_every: Annotated[
        int, typer.Option(help="Also save every N iterations, as OUTPUT-00050.png; 0: never.")
    ] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the record of the run as JSON on stdout.")
    ] = False,
) -> None:
    """Give CONTENT the style of STYLE."""
    options = dict(locals())
    overrides = {
        field.name: options[field.name]
        for field in fields(Settings)
        if options[field.name] is not None
    }
    for name in ("content_layers", "style_layers"):
        if name in overrides:
            overrides[name] = tuple(_split(overrides[name]))
    if style_layer_weights is not None:
        overrides["style_layer_weights"] = _numbers(style_layer_weights)
    settings = make_settings(preset, overrides)
    if save_every < 0:
        raise InvalidInput(f"--save-every is {save_every}: expected 0 or more")
    check_output(output, bits, needed=64 * 1024)

    def save(result: Result) -> None:
        result.save(output, bits)
        if as_json:
            print(json.dumps(result.to_dict(output=str(output))))
        if not quiet:
            _err.print(_summary(result, output))

    try:
        with _progress(settings, show=not quiet) as show:
            result = run(content, style, settings, _callback(show, output, bits, save_every))
    except Interrupted as interrupt:
        save(interrupt.result)
        _complain(f"interrupted; the best picture so far is in {output}")
        raise typer.Exit(interrupt.exit_code) from None
    except KeyboardInterrupt:
        _complain("interrupted before there was a picture")
        raise typer.Exit(130) from None
    except NonFiniteLoss as error:
        if error.result is not None:
            save(error.result)
            _complain(f"{error}; the best picture before that is in {output}")
            raise typer.Exit(error.exit_code) from None
        raise
    save(result)


@app.command()
def info(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what was built, what was found and what will be chosen."""
    report = installation()
    if as_json:
        print(json.dumps(report, indent=2))
        return
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for section, value in report.items():
        for key, text in _rows(section, value):
            table.add_row(key, escape(text))
    _out.print(table)


@app.command("samples")
def show_samples(
    directory: Annotated[
        Path | None, typer.Argument(help="Write the pictures into this folder.")
    ] = None,
) -> None:
    """List the built-in pictures, or write them into a folder."""
    if directory is not None:
        if directory.exists() and not directory.is_dir():
            raise InvalidInput(f"{directory} is not a folder")
        try:
            for path in samples.write_all(directory):
                print(path)
        except OSError as error:
            raise InvalidInput(f"{directory} cannot be written: {error.strerror}") from error
        return
    table = Table("name", "kind", "what it shows", box=None, pad_edge=False)
    for name, sample in samples.SAMPLES.items():
        table.add_row(f"sample:{name}", sample.kind, sample.description)
    _out.print(table)


@app.command()
def presets(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the presets and how they differ from the defaults."""
    if as_json:
        print(json.dumps({name: preset.to_dict() for name, preset in PRESETS.items()}, indent=2))
        return
    defaults = Settings().to_dict()
    table = Table("preset", "what it is", "settings", box=None, pad_edge=False)
    for name, preset in PRESETS.items():
        changed = {k: v for k, v in preset.to_dict().items() if v != defaults[k]}
        table.add_row(
            name,
            DESCRIPTIONS[name],
            escape("\n".join(f"{k} = {_show(v)}" for k, v in changed.items())) or "the defaults",
        )
    _out.print(table)


def _version(value: bool) -> None:
    if value:
        print(f"fastnst {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


class _progress:
    """A live bar on stderr: loss, evaluations a second, time left."""

    def __init__(self, settings: Settings, show: bool) -> None:
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total}"),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=_err,
            disable=not (show and _err.is_terminal),
            transient=True,
        )
        self.task = self.bar.add_task("preparing", total=settings.iterations, rate="")

    def __enter__(self) -> Callable[[Step], None]:
        self.bar.start()
        return self.update

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def update(self, step: Step) -> None:
        rate = step.evaluations / step.seconds if step.seconds else 0.0
        self.bar.update(
            self.task,
            completed=step.iteration,
            description=f"loss {step.losses.total:.4g}",
            rate=f"{rate:.2f} evaluations/s",
        )


def _callback(
    show: Callable[[Step], None], output: Path, bits: int, save_every: int
) -> Callable[[Step], None]:
    def callback(step: Step) -> None:
        show(step)
        if save_every and step.iteration and step.iteration % save_every == 0:
            name = f"{output.stem}-{step.iteration:05d}{output.suffix}"
            save_image(step.pixels, output.with_name(name), bits)

    return callback


def _summary(result: Result, output: Path) -> str:
    height, width, _ = result.pixels.shape
    return escape(
        f"{output}: {width}×{height}, {result.iterations} iterations in {result.seconds:.1f} s, "
        f"loss {result.losses.total:.4g}, engine {result.engine} on {result.device}"
    )


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in _split(text))
    except ValueError as error:
        raise InvalidInput(
            f"--style-layer-weights is {text!r}: expected numbers separated by commas"
        ) from error


def _show(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, (tuple, list)) else str(value)


def _rows(key: str, value: Any) -> list[tuple[str, str]]:
    """A nested report as ``section.key``, text."""
    if isinstance(value, dict):
        return [row for k, v in value.items() for row in _rows(f"{key}.{k}", v)]
    if value is None:
        return [(key, "yes" if key.startswith("engines.") else "-")]
    return [(key, _show(value))]
