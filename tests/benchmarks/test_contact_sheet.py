"""Contact sheets: every picture is there, pixel by pixel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks import contact_sheet
from benchmarks.contact_sheet import GAP, LINE
from helpers.pictures import smooth


def test_a_strip_has_its_pictures_as_they_are() -> None:
    first, second = (Image.fromarray(smooth(40, 30, seed)) for seed in (0, 1))
    high = Image.fromarray(smooth(20, 60, 2))
    sheet = contact_sheet.strip("a title", {"x": first, "y": second, "a higher one": high})
    assert sheet.height == 30 + 2 * LINE + GAP
    top = 2 * LINE
    assert sheet.crop((GAP, top, GAP + 40, top + 30)).tobytes() == first.tobytes()
    left = 2 * GAP + 40
    assert sheet.crop((left, top, left + 40, top + 30)).tobytes() == second.tobytes()
    words = np.asarray(sheet.crop((0, 0, sheet.width, top)))
    assert (words < 128).any()


def test_a_sheet_has_every_strip_of_its_folder(tmp_path: Path) -> None:
    picture = Image.fromarray(smooth(40, 30))
    for name in ("b", "a", "a"):  # one is written again
        contact_sheet.write(tmp_path / "new", name, name, {"x": picture})
    one = contact_sheet.strip("a", {"x": picture})
    with Image.open(tmp_path / "new" / "sheet.png") as sheet:
        assert sheet.size == (one.width, 2 * one.height)
        assert sheet.crop((0, 0, *one.size)).tobytes() == one.tobytes()
