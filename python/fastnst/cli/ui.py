"""``fastnst ui``."""

from __future__ import annotations

import signal
from types import ModuleType
from typing import Annotated

import typer

from fastnst.cli.options import settings_options
from fastnst.errors import BackendUnavailable, InvalidInput
from fastnst.settings.settings import Settings


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
    max_size: Annotated[int, typer.Option(help="Long side of a result, in pixels.")] = 1024,
    max_iterations: Annotated[int, typer.Option(help="Of a run.")] = 1000,
    settings: Settings,
) -> None:
    """Open a page in the browser: upload, choose, watch the picture form, download it."""
    pages = load_pages()
    for name, value, least in (
        ("max-megabytes", max_megabytes, 1),
        ("max-megapixels", max_megapixels, 0.01),
        ("max-size", max_size, 32),
        ("max-iterations", max_iterations, 1),
    ):
        if value < least:
            raise InvalidInput(f"--{name} is {value}: expected {least} or more")
    limits = pages.Limits(max_megabytes, max_megapixels, max_size, max_iterations)
    page = pages.studio_page(pages.Studio(limits, settings))
    address = pages.serve(page, host, port, browser=browser, megabytes=max_megabytes)
    print(f"fastnst: {address} (Ctrl-C ends it)", flush=True)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # the server closes on it
    page.block_thread()


def load_pages() -> ModuleType:
    """``fastnst.ui.page``, which needs Gradio.

    Raises:
        BackendUnavailable: without it.
    """
    try:
        from fastnst.ui import page
    except ImportError as error:
        raise BackendUnavailable(
            "the page needs Gradio; install it with: pip install gradio"
        ) from error
    return page
