"""``fastnst ui``."""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import signal
import tempfile
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Annotated

import typer

from fastnst.cli.console import complain
from fastnst.cli.interrupts import Interrupts
from fastnst.cli.options import Memory, Scratch, read_resources, settings_options
from fastnst.errors import BackendUnavailable, InvalidInput
from fastnst.settings.settings import Settings

MOST_PIXELS = 1024  # long side of a visitor's result, unless the command asks for more
MOST_ITERATIONS = 1000
MOST_MEGAPIXELS = 178  # that Pillow decodes unasked
FOLDER = "GRADIO_TEMP_DIR"


@settings_options
def ui(
    *,
    host: Annotated[
        str, typer.Option(help="Address to listen at; 127.0.0.1: this machine alone.")
    ] = "127.0.0.1",
    port: Annotated[int | None, typer.Option(help="(default: the first free from 7860)")] = None,
    browser: Annotated[bool, typer.Option(help="Open the page in the browser.")] = True,
    max_megabytes: Annotated[int, typer.Option(help="Of an uploaded file.")] = 20,
    max_megapixels: Annotated[float, typer.Option(help="Of an uploaded picture.")] = 40.0,
    max_size: Annotated[
        int | None, typer.Option(help="Long side of a result. (default: 1024, or --size if more)")
    ] = None,
    max_iterations: Annotated[
        int | None, typer.Option(help="Of a run. (default: 1000, or --iterations if more)")
    ] = None,
    max_frames: Annotated[int, typer.Option(help="Of a film.")] = 250,
    memory: Memory = None,
    scratch: Scratch = None,
    settings: Settings,
) -> None:
    """Open a page in the browser for pictures, films and sheets: upload, watch them form, download.

    The settings are what the page shows first.
    """
    most_size = _most("size", max_size, MOST_PIXELS, settings.size or 0, 32)
    iterations = settings.iterations
    most_iterations = _most("iterations", max_iterations, MOST_ITERATIONS, iterations, 1)
    for name, value, least in (
        ("max-megabytes", max_megabytes, 1),
        ("max-megapixels", max_megapixels, 0.01),
        ("max-frames", max_frames, 1),
    ):
        if not value >= least:  # NaN is none
            raise InvalidInput(f"--{name} is {value}: expected {least} or more")
    if max_megapixels > MOST_MEGAPIXELS:
        raise InvalidInput(
            f"--max-megapixels is {max_megapixels:g}: expected {MOST_MEGAPIXELS} or less"
        )
    if port is not None and not 1 <= port <= 65535:
        raise InvalidInput(f"--port is {port}: expected 1 to 65535")
    resources = read_resources(memory, scratch)
    pages = load_pages()
    from fastnst.devices import DEFAULT_SIZE

    if settings.size is None:  # the page shows a size that it allows
        settings = replace(settings, size=min(most_size, *DEFAULT_SIZE.values()))
    limits = pages.Limits(
        *(max_megabytes, max_megapixels, most_size, most_iterations, max_frames), own=settings
    )
    address = ""
    with Interrupts() as interrupts:  # around all: the pictures of visitors go whatever comes
        with (
            contextlib.suppress(KeyboardInterrupt),
            contextlib.closing(pages.Studio(limits, settings, resources)) as studio,
        ):
            page = pages.studio_page(studio)
            address = pages.serve(page, host, port, browser=browser, megabytes=max_megabytes)
            print(f"fastnst: {address} (Ctrl-C ends it)", flush=True)
            page.block_thread()  # until KeyboardInterrupt, on which the server closes
        if not address:
            complain("interrupted")
        if not address or interrupts.received != signal.SIGINT:  # by which one ends a page
            interrupts.leave()


def _most(name: str, asked: int | None, usual: int, needed: int, least: int) -> int:
    """The bound on a setting: the one asked for, or the usual one, raised to the first value.

    Raises:
        InvalidInput: for a bound below what is possible, or below what the page starts with.
    """
    if asked is None:
        return max(usual, needed)
    if asked < least:
        raise InvalidInput(f"--max-{name} is {asked}: expected {least} or more")
    if asked < needed:
        raise InvalidInput(f"--max-{name} is {asked}, less than --{name}, which is {needed}")
    return asked


def take_folder() -> None:
    """Give Gradio a folder of this process's own for uploads, which goes at the end.

    The one that it would take, ``gradio`` in that for temporary files, belongs to whoever of a
    machine's users had a page first. ``GRADIO_TEMP_DIR`` names another.

    Raises:
        BackendUnavailable: if it cannot be written to.
    """
    folder = os.environ.get(FOLDER)
    try:
        if not folder:
            folder = os.environ[FOLDER] = tempfile.mkdtemp(prefix="fastnst-page-")
            atexit.register(shutil.rmtree, folder, ignore_errors=True)
        Path(folder).mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        place = f"folder {folder}, which {FOLDER} names," if folder else "folder"
        raise BackendUnavailable(
            f"the page's {place} cannot be written to: {error.strerror}"
        ) from error


def load_pages() -> ModuleType:
    """``fastnst.ui.page``, which needs Gradio.

    Raises:
        BackendUnavailable: without it, or without a folder for its files.
    """
    take_folder()
    try:
        from fastnst.ui import page
    except ImportError as error:
        raise BackendUnavailable(
            "the page needs Gradio; install it with: pip install gradio"
        ) from error
    return page
