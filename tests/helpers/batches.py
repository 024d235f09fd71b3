"""The small batch that the tests of batches make."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from PIL import Image

from fastnst.batch.jobs import Job, Outcome, pair
from fastnst.settings.settings import Settings
from helpers.pictures import smooth

SMALL = Settings(
    size=32, iterations=3, style_layers=("relu1_1", "relu2_1"), content_layers=("relu2_1",)
)


def write_pictures(folder: Path) -> Path:
    """Two contents, two styles, a file that is no picture and one that is hidden."""
    for seed, name in enumerate(("c/one.png", "c/two.jpg", "s/a.png", "s/b.png")):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(smooth(40 + seed, 36, seed)).save(path)
    (folder / "c" / "notes.txt").write_text("words")
    (folder / "c" / ".hidden.png").write_bytes(b"")
    (folder / "out").mkdir()
    return folder


def jobs_of(root: Path, settings: Settings = SMALL) -> list[Job]:
    """Every content with every style of what ``write_pictures`` wrote."""
    return pair([str(root / "c")], [str(root / "s")], root / "out", settings)


def statuses(outcomes: Iterable[Outcome]) -> list[str]:
    """What became of each job."""
    return [outcome.status for outcome in outcomes]
