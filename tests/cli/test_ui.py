"""``fastnst ui`` as it begins and ends; what the page does is tested in ``tests/ui``."""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fastnst import cli
from fastnst.cli.ui import take_folder
from fastnst.settings.settings import Settings
from fastnst.ui.limits import Limits


def test_a_folder_that_takes_no_uploads_is_one_line(monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", os.path.join(os.devnull, "x"))  # noqa: PTH118
    assert cli.run_app(["ui", "--no-browser"]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "which GRADIO_TEMP_DIR names, cannot be written to: Not a directory" in said


def test_no_folder_for_temporary_files_is_one_line(monkeypatch: Any, capsys: Any) -> None:
    def refuse(**_: Any) -> str:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.delenv("GRADIO_TEMP_DIR", raising=False)
    monkeypatch.setattr("tempfile.mkdtemp", refuse)
    assert cli.run_app(["ui", "--no-browser"]) == 1
    said = capsys.readouterr().err
    assert said == (
        "fastnst: the page's folder cannot be written to: No usable temporary directory found\n"
    )


def test_uploads_lie_in_a_folder_of_ones_own(monkeypatch: Any, tmp_path: Path) -> None:
    """Two users of a machine would have one folder, which belongs to the first of them."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", "")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    at_the_end: list[Any] = []
    monkeypatch.setattr(atexit, "register", lambda *call, **more: at_the_end.append((call, more)))
    take_folder()
    folder = Path(os.environ["GRADIO_TEMP_DIR"])
    assert folder.parent == tmp_path
    assert folder.stat().st_mode & 0o77 == 0
    (((remove, *arguments), more),) = at_the_end
    remove(*arguments, **more)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "options",
    [
        ["--preset", "crowsonkb", "--weights", "vgg19"],
        ["--preset", "hires", "--style-scale", "6"],
        ["--style-size", "2048"],
        ["--size", "2048", "--min-size", "128", "--scale-iterations", "900"],
        ["--max-size", "300"],
    ],
    ids=" ".join,
)
def test_a_page_allows_what_it_begins_with(monkeypatch: Any, options: list[str]) -> None:
    begun: list[Any] = []

    def studio(limits: Limits, settings: Settings, resources: Any) -> Any:
        begun.append((limits, settings))
        raise KeyboardInterrupt

    pages = SimpleNamespace(Limits=Limits, Studio=studio)
    monkeypatch.setattr("fastnst.cli.ui.load_pages", lambda: pages)
    assert cli.run_app(["ui", "--no-browser", *options]) == 0
    ((limits, settings),) = begun
    limits.check(settings, 768, 768)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "code"), [("SIGINT", 0), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_nothing_is_left_after_a_signal(tmp_path: Path, name: str, code: int) -> None:
    pytest.importorskip("gradio")
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    environment.pop("GRADIO_TEMP_DIR", None)
    process = subprocess.Popen(
        [sys.executable, "-m", "fastnst", "ui", "--no-browser"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline().startswith("fastnst: http://127.0.0.1:")
    assert list(tmp_path.iterdir())
    process.send_signal(getattr(signal, name))
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (code, "")
    assert list(tmp_path.iterdir()) == []
