"""The options for the settings of a run, shared by every command that takes them.

Names, values, defaults and help are those of ``Settings``; nothing is said twice here.
"""

from __future__ import annotations

import functools
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, get_type_hints

import typer

from fastnst.cli.console import complain
from fastnst.cli.inputs import check_files, check_layers
from fastnst.cli.outputs import check_config
from fastnst.errors import BackendUnavailable, InvalidInput
from fastnst.ranks.launch import local_ranks, share_of_threads
from fastnst.run.resources import Resources
from fastnst.settings.config import PRESET, combine, read_config, write_config
from fastnst.settings.kinds import Whole
from fastnst.settings.presets import COMMON, FIRST_PRESET, PRESETS, needs_torchvision
from fastnst.settings.settings import DEFAULTS, SPECS, STYLE_LAYERS, Settings
from fastnst.settings.spec import BASICS, GROUPS, MACHINE, Spec, typed
from fastnst.strips.scratch import check_scratch

Command = Callable[..., None]

# The headings of --help beside the settings' own. None is the first one, "Options".
MASKS = "Masks"
OUTPUT = "Output"
ON_THE_WAY = "On the way"
SIDE_BY_SIDE = "Several processes"
FILES = "Settings in files"

CONFIG = "TOML file with settings, or a PNG that fastnst wrote; options here go before it."
SAVE_CONFIG = "Write all settings of this run to a TOML file."
MOST_THREADS = 4096
THREADS_VARIABLE = "FASTNST_THREADS"
THREADS = "CPU threads. (default: FASTNST_THREADS, or one for each core)"
BITS = "8, or 16 for PNG and TIFF."
QUIET = "Print errors only."
JSON = "Print the record of the run as JSON on stdout."
MEMORY = "Take no more than this, e.g. 8GB: in strips, if need be. (default: what is free)"
SCRATCH = "Folder on a disk for what does not fit in memory. (default: none)"
PYRAMID = "A TIFF with reduced pictures in it, which viewers of large pictures show first."
MOST = "Decode pictures of up to so many million pixels. (default: 179, or --size squared)"

Bits = Annotated[int, typer.Option(help=BITS, rich_help_panel=OUTPUT)]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help=QUIET, rich_help_panel=OUTPUT)]
Json = Annotated[bool, typer.Option("--json", help=JSON, rich_help_panel=OUTPUT)]
Memory = Annotated[
    str | None, typer.Option(help=MEMORY, rich_help_panel=ON_THE_WAY, show_default=False)
]
Scratch = Annotated[
    Path | None, typer.Option(help=SCRATCH, rich_help_panel=ON_THE_WAY, show_default=False)
]
MaxMegapixels = Annotated[
    float | None, typer.Option(help=MOST, rich_help_panel=ON_THE_WAY, show_default=False)
]
Pyramid = Annotated[bool, typer.Option("--pyramid", help=PYRAMID, rich_help_panel=OUTPUT)]
StyleMask = Annotated[
    list[str] | None,
    typer.Option(help="Which part of a style counts; once for each STYLE.", rich_help_panel=MASKS),
]
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads",
        min=1,
        max=MOST_THREADS,
        metavar="N",
        help=THREADS,
        show_default=False,
        rich_help_panel=MACHINE,
    ),
]
Picture = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        help="Picture or folder to write. (default: a new name)",
        show_default=False,
    ),
]


def default_text(name: str, preset: str = FIRST_PRESET) -> str:
    """A setting's default, that of a preset, as a person would type it; for None, what it means."""
    value = getattr(PRESETS[preset], name)
    if value == STYLE_LAYERS:
        return f"{value[0]},{value[1]},…,{value[-1]}"
    if value is None:
        return str(SPECS[name].none)
    return typed(value)


def help_text(name: str, preset: str = FIRST_PRESET) -> str:
    """A setting's help, with the values to choose from and its default, that of a preset."""
    of = SPECS[name]
    choices = f"{', '.join(of.kind.choices)}; " if of.kind.choices else ""
    return f"{of.help} ({choices}default: {default_text(name, preset)})"


def read_resources(
    memory: str | None, scratch: Path | None, megapixels: float | None = None
) -> Resources:
    """What ``--memory``, ``--scratch`` and ``--max-megapixels`` allow a run to take.

    Raises:
        InvalidInput: for a text that is no size, or a folder that cannot be used.
    """
    check_scratch(scratch)
    return Resources.of(memory, scratch, megapixels, "--memory")


@dataclass(frozen=True)
class Chosen:
    """What a command line says of the settings.

    Attributes:
        config: The settings in the file that it names.
        preset: The preset that it names; None: the file's, or the default.
        options: The settings in its options.
        default: The preset where neither names one.
        unsaid: Settings of the command itself, where neither the file nor an option has them: they
            go before the preset's.
    """

    config: Mapping[str, Any]
    preset: str | None
    options: Mapping[str, Any]
    default: str
    unsaid: Mapping[str, Any] = field(default_factory=dict)

    def settings(self, changes: Mapping[str, Any] = MappingProxyType({})) -> Settings:
        """The settings of a run.

        Where ``preset`` is among the changes, only what presets have in common counts of a file:
        the rest would make all of them alike.

        Args:
            changes: ``{name: value}``, settings or ``preset``, that go before what was said.

        Raises:
            InvalidInput: for values that do not go together.
        """
        own = {name: value for name, value in changes.items() if name != PRESET}
        preset, config = self.preset, self.config
        if PRESET in changes:
            preset = changes[PRESET]
            config = {name: config[name] for name in COMMON if name in config}
        unsaid = {name: value for name, value in self.unsaid.items() if name not in config}
        return combine(config, preset, {**unsaid, **self.options, **own}, self.default)

    def checked(self, changes: Mapping[str, Any] = MappingProxyType({})) -> Settings:
        """The same, where the files, the layers and the packages are there that they name.

        Raises:
            InvalidInput: as ``settings``, and for a file or a layer that is not there.
            BackendUnavailable: for a package that is not installed.
        """
        settings = self.settings(changes)
        check_packages(settings, changes.get(PRESET, self.preset))
        check_layers(settings)
        check_files(settings)
        return settings


def settings_options(
    command: Command, default: str = FIRST_PRESET, unsaid: Mapping[str, Any] = MappingProxyType({})
) -> Command:
    """Give a command an option for each setting in place of its parameter ``settings``.

    Args:
        command: The command.
        default: The preset where none is named.
        unsaid: As of ``Chosen``.

    Beside them stand ``--preset``, ``--threads``, ``--config`` and ``--save-config``. The
    command is called with a ready ``Settings``.
    """
    return _with_options(command, "settings", Chosen.checked, default, unsaid)


def chosen_options(command: Command) -> Command:
    """The same for a command of several runs: its parameter ``chosen`` is a ``Chosen``.

    It checks the settings of each run: what was said need not go together by itself, without what
    a run changes.
    """
    return _with_options(command, "chosen", lambda chosen: chosen, FIRST_PRESET)


def _with_options(
    command: Command,
    parameter: str,
    given: Callable[[Chosen], Any],
    default: str,
    unsaid: Mapping[str, Any] = MappingProxyType({}),
) -> Command:
    """Give a command the options in place of a parameter.

    Args:
        command: The command.
        parameter: The parameter's name.
        given: What the parameter is made of what the command line says.
        default: The preset where none is named.
        unsaid: As of ``Chosen``.
    """
    hints = get_type_hints(command, include_extras=True)
    parameters = inspect.signature(command).parameters.values()
    own = [
        p.replace(annotation=hints.get(p.name, p.empty)) for p in parameters if p.name != parameter
    ]
    added = [
        _keyword("preset", _preset(default), None),
        *(_keyword(name, _setting(name, default), None) for name in _in_order()),
        _keyword("threads", Threads, None),
        _keyword("config", _option(Path, CONFIG, FILES), None),
        _keyword("save_config", _option(Path, SAVE_CONFIG, FILES), None),
    ]
    positional = [p for p in own if p.kind is not inspect.Parameter.KEYWORD_ONLY]
    keywords = [p for p in own if p.kind is inspect.Parameter.KEYWORD_ONLY]
    first = [p for p in keywords if p.name in ("output", "styles")]
    later = [p for p in keywords if p not in first]
    signature = [*positional, *first, *added, *later]

    @functools.wraps(command)
    def wrapper(
        *arguments: Any,
        preset: str | None,
        threads: int | None,
        config: Path | None,
        save_config: Path | None,
        **options: Any,
    ) -> None:
        overrides = {}
        for name, of in SPECS.items():
            text = options.pop(name)
            if text is not None:
                overrides[name] = of.kind.parse(flag(name), text)
        file = read_config(config) if config else {}
        chosen = Chosen(file, preset, overrides, default, unsaid)
        value = given(chosen)
        use_threads(own_threads(asked_threads(threads)))
        if save_config is not None:
            settings = chosen.checked()
            check_config(save_config, {"config": config, **dict(enumerate(arguments)), **options})
            write_config(save_config, settings)
        try:
            command(*arguments, **{parameter: value}, **options)
        except KeyboardInterrupt:  # while torch is imported, or before a run has begun
            complain("interrupted before there was a picture")
            raise typer.Exit(130) from None

    wrapper.__signature__ = inspect.Signature(signature)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {p.name: p.annotation for p in signature}
    return wrapper


def check_packages(settings: Settings, preset: str | None) -> None:
    """Make sure that the package is installed that the weights come from.

    Raises:
        BackendUnavailable: naming the preset, if there is one, and what to install.
    """
    if needs_torchvision(settings) and importlib.util.find_spec("torchvision") is None:
        of = f"preset {preset} takes" if preset else f"weights {settings.weights} are"
        raise BackendUnavailable(
            f"{of} torchvision's weights, and torchvision is not installed: pip install "
            f"torchvision; the offline weights need none: --weights {DEFAULTS['weights']}"
        )


def asked_threads(threads: int | None) -> int | None:
    """The threads that are asked for, by the option or else by ``FASTNST_THREADS``; None: nowhere.

    Args:
        threads: ``--threads``; None: it was not given.

    Raises:
        InvalidInput: naming the variable, if what it says is no number of threads.
    """
    text = os.environ.get(THREADS_VARIABLE, "").strip()
    if threads is not None or not text:
        return threads
    kind = Whole(1, MOST_THREADS)
    try:
        return kind.check(THREADS_VARIABLE, kind.parse(THREADS_VARIABLE, text))
    except InvalidInput as error:
        raise InvalidInput(f"the environment variable {error}") from error


def use_threads(threads: int | None) -> None:
    """Let everything compute with so many threads; None: as many as PyTorch takes by itself.

    PyTorch and the libraries that it brings read the number from the environment as they are
    loaded. Where PyTorch is loaded already, it is told.
    """
    if threads is None:
        return
    os.environ["OMP_NUM_THREADS"] = str(threads)
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(threads)


def own_threads(threads: int | None) -> int | None:
    """The threads of this process, where those of the machine are shared out among its ranks.

    Args:
        threads: Those of the machine; None: not chosen.

    Returns:
        None where PyTorch takes the number by itself: it is not chosen, and the environment says
        it, or nobody shares the machine.
    """
    ranks = local_ranks()
    if threads is None:
        if ranks == 1 or "OMP_NUM_THREADS" in os.environ:
            return None
        known = getattr(os, "sched_getaffinity", None)
        threads = len(known(0)) if known is not None else os.cpu_count() or 1
    return share_of_threads(threads, ranks)


def flag(name: str) -> str:
    """The option of a setting: ``--style-weight``."""
    return f"--{name.replace('_', '-')}"


def _in_order() -> list[str]:
    return sorted(SPECS, key=lambda name: GROUPS.index(SPECS[name].group))


def _preset(default: str) -> Any:
    return _option(
        str,
        f"See fastnst presets. (default: {default})",
        metavar="NAME",
        show_default=False,
        autocompletion=lambda incomplete: [name for name in PRESETS if name.startswith(incomplete)],
    )


def _setting(name: str, preset: str) -> Any:
    """The annotation of a setting's option; its text is read by the setting's kind."""
    of = SPECS[name]
    return _option(
        str,
        help_text(name, preset),
        None if of.group == BASICS else of.group,
        metavar=of.kind.metavar,
        show_default=False,
        autocompletion=_completion(of),
    )


def _completion(of: Spec) -> Callable[[str], list[str]] | None:
    known = of.kind.known
    if not known:
        return None
    return lambda incomplete: [one for one in known if one.startswith(incomplete)]


def _option(kind: Any, text: str, panel: str | None = None, **more: Any) -> Any:
    return Annotated[kind | None, typer.Option(help=text, rich_help_panel=panel, **more)]


def _keyword(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
    )
