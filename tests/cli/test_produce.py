"""A finished picture is never lost, whatever became of the place that it was to go to."""

from __future__ import annotations

import contextlib
import io
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image

import fastnst
from fastnst import cli
from fastnst.cli.produce import few_pairs, produce
from fastnst.errors import OutputFailed
from fastnst.run.ending import Interrupted
from fastnst.run.result import Result
from fastnst.settings.settings import HISTORY_SIZE_WHEN_LARGE, Settings
from helpers.disks import disk
from helpers.pictures import smooth

__all__ = ["disk"]

SMALL = {"size": 32, "iterations": 1, "style_layers": ("relu1_1",), "content_layers": ("relu1_1",)}


@pytest.fixture(scope="module")
def result() -> Result:
    return fastnst.stylize(smooth(32, 24), smooth(24, 32, seed=1), **SMALL)


def work(monkeypatch, result: Result, then: Callable[[], object]) -> None:
    """Let a run be one that is done at once, and something happen meanwhile."""

    def run(*_: object, **__: object) -> Result:
        then()
        return result

    monkeypatch.setattr("fastnst.run.run.run", run)


def stylize(folder: Path, target: Path) -> tuple[int, str]:
    for seed, name in enumerate(("c.png", "s.png")):
        Image.fromarray(smooth(32, 24, seed)).save(folder / name)
    err = io.StringIO()
    with contextlib.redirect_stderr(err):
        code = cli.run_app(
            ["stylize", str(folder / "c.png"), str(folder / "s.png"), "-o", str(target), "-q",
             "--size", "32", "--engine", "torch"]
        )  # fmt: skip
    return code, " ".join(err.getvalue().split())


def check_saved(said: str, result: Result) -> None:
    """The message names a file with the picture in it."""
    kept = Path(said.split("it was saved as ")[1].removesuffix(" instead"))
    with Image.open(kept) as image:
        assert np.array_equal(np.asarray(image), np.asarray(result.image))
    kept.unlink()


def test_the_target_became_a_folder(tmp_path: Path, monkeypatch, result) -> None:
    target = tmp_path / "o.png"
    work(monkeypatch, result, target.mkdir)
    code, said = stylize(tmp_path, target)
    assert code == 1
    check_saved(said, result)


def test_the_folder_has_gone(tmp_path: Path, monkeypatch, result) -> None:
    folder = tmp_path / "f"
    folder.mkdir()
    work(monkeypatch, result, folder.rmdir)
    code, said = stylize(tmp_path, folder / "o.png")
    assert code == 1
    check_saved(said, result)


def test_the_disk_became_full(tmp_path: Path, monkeypatch, result, disk: Path) -> None:
    def fill() -> None:
        with contextlib.suppress(OSError), (disk / "filler").open("wb", buffering=0) as file:
            while True:
                file.write(b"x" * 4096)

    work(monkeypatch, result, fill)
    code, said = stylize(tmp_path, disk / "o.png")
    assert code == 1
    check_saved(said, result)
    assert not (disk / "o.png").exists()


def test_the_disk_became_read_only(tmp_path: Path, monkeypatch, result, disk: Path) -> None:
    remount = ["mount", "-o", "remount,ro", str(disk)]
    work(monkeypatch, result, lambda: subprocess.run(remount, check=True))
    code, said = stylize(tmp_path, disk / "o.png")
    assert code == 1
    check_saved(said, result)


def test_another_file_took_its_name(tmp_path: Path, monkeypatch, result) -> None:
    """It is somebody's work: neither of the two is lost."""
    target = tmp_path / "o.png"
    work(monkeypatch, result, lambda: target.write_text("words"))
    code, said = stylize(tmp_path, target)
    assert code != 0
    assert target.read_text() == "words"
    check_saved(said, result)


def test_a_batch_keeps_what_it_cannot_put_in_place(tmp_path: Path, monkeypatch, result) -> None:
    out = tmp_path / "out"
    monkeypatch.setattr(
        "fastnst.batch.make.run", lambda *_, **__: ((out / "c-s.png").mkdir(), result)[1]
    )
    for seed, name in enumerate(("c.png", "s.png")):
        Image.fromarray(smooth(32, 24, seed)).save(tmp_path / name)
    err = io.StringIO()
    with contextlib.redirect_stderr(err):
        code = cli.run_app(
            ["batch", str(tmp_path / "c.png"), "-s", str(tmp_path / "s.png"), "-o", str(out), "-q"]
        )
    assert code == 1
    check_saved(" ".join(err.getvalue().split()), result)


def test_few_pairs_are_told_where_nobody_chose_them() -> None:
    assert few_pairs(Settings(), HISTORY_SIZE_WHEN_LARGE)
    assert not few_pairs(Settings(), HISTORY_SIZE_WHEN_LARGE + 1)
    assert not few_pairs(Settings(history_size=HISTORY_SIZE_WHEN_LARGE), HISTORY_SIZE_WHEN_LARGE)
    assert not few_pairs(Settings(optimizer="adam"), HISTORY_SIZE_WHEN_LARGE)  # which has none


@pytest.mark.parametrize("stopped", [False, True])
def test_a_film_that_cannot_be_closed_costs_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], result: Result, stopped: bool
) -> None:
    @contextlib.contextmanager
    def film() -> Iterator[Callable[[object], None]]:
        yield lambda _: None
        raise OutputFailed("video a.mp4 could not be written: No space left on device")

    def work(_: object) -> Result:
        if stopped:
            raise Interrupted(result)
        return result

    with pytest.raises(typer.Exit) as caught:
        produce(
            work, Settings(**SMALL), tmp_path / "o.png", bits=8, quiet=True, as_json=False,
            listeners=lambda stack: [stack.enter_context(film())],
        )  # fmt: skip
    assert caught.value.exit_code == (130 if stopped else 1)
    said = capsys.readouterr().err
    assert ("interrupted; the best picture so far is in" in said) == stopped
    assert "a.mp4 could not be written" in said
    with Image.open(tmp_path / "o.png") as image:
        assert np.array_equal(np.asarray(image), np.asarray(result.image))
