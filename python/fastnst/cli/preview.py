"""``--preview``: a page in the browser beside a run in the terminal."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from fastnst.cli.console import say
from fastnst.cli.ui import load_pages

if TYPE_CHECKING:
    from fastnst.ui.watch import Watch


@contextlib.contextmanager
def preview(output: Path) -> Iterator[Watch]:
    """Open the page; yields what it looks at, whose ``hear`` takes the steps of a run.

    At the end the page says what became of the run, before it goes.

    Args:
        output: The picture or the film that the run writes.
    """
    pages = load_pages()
    watch: Watch = pages.Watch()
    address = pages.serve(pages.preview_page(watch), "127.0.0.1", None, browser=True)
    say(f"fastnst: {address}")
    try:
        yield watch
    except typer.Exit:  # the run ended early, with what there was of a picture
        saved = f"saved as {output.name}" if output.exists() else "before there was a picture"
        watch.end(f"stopped; {saved}")
        raise
    except Exception as error:
        watch.end(f"failed: {error}")
        raise
    watch.end(f"done; saved as {output.name}")
