"""``fastnst ui`` in a process of its own, for tests."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


@contextlib.contextmanager
def server(folder: Path, *options: str) -> Iterator[str]:
    """``fastnst ui`` with options: its address."""
    pytest.importorskip("gradio")
    process = subprocess.Popen(
        [sys.executable, "-m", "fastnst", "ui", "--no-browser", *options],
        stdout=subprocess.PIPE, text=True,
        env={**os.environ, "GRADIO_TEMP_DIR": str(folder / "gradio"), "TMPDIR": str(folder)},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith(("fastnst: http://127.0.0.1:", "fastnst: http://[::1]:")), line
        yield line.split()[1]
    finally:
        process.terminate()
        process.wait(20)


def call(address: str, name: str, values: list[Any]) -> tuple[bool, Any]:
    """Call the page as any program may; whether it went well, and what it says."""
    request = urllib.request.Request(
        f"{address}gradio_api/call/{name}",
        json.dumps({"data": values}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request) as answer:
        event = json.load(answer)["event_id"]
    with urllib.request.urlopen(f"{address}gradio_api/call/{name}/{event}", timeout=60) as answer:
        text = str(answer.read(), "utf-8")
    return "event: complete" in text, json.loads(text.rpartition("data: ")[2])
