"""A sheet is the runs of its cells, bit for bit; what they share is made once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import fastnst
from fastnst.errors import InvalidInput, NonFiniteLoss, OutputFailed
from fastnst.objective import build
from fastnst.run.ending import Interrupted
from fastnst.run.resources import Resources
from fastnst.run.run import run
from fastnst.run.step import Step
from fastnst.sheet import sheet as sheets
from fastnst.sheet.axes import make_axes
from fastnst.sheet.cells import make_cells
from fastnst.sheet.layout import EMPTY
from fastnst.sheet.sheet import Sheet
from fastnst.sheets import contact_sheet
from helpers.pictures import smooth

pytestmark = pytest.mark.usefixtures("quick")
QUICK: dict[str, Any] = {
    "size": 32,
    "iterations": 2,
    "content_layers": ("relu2_2",),
    "style_layers": ("relu1_1", "relu2_1"),
}
CONTENT, STYLE, OTHER = smooth(40, 31), smooth(36, 40, seed=1), smooth(24, 33, seed=2)


def part(sheet: Sheet, row: int, column: int) -> np.ndarray:
    """What the sheet shows of a cell, with the paper around it."""
    left, top, right, bottom = sheet._layout.slot(row, column)
    return np.asarray(sheet.image)[top : bottom + 1, left : right + 1]


def shows(sheet: Sheet, row: int, column: int, picture: np.ndarray) -> bool:
    here = part(sheet, row, column)
    y, x = (np.array(here.shape[:2]) - picture.shape[:2]) // 2
    height, width = picture.shape[:2]
    return bool((here[y : y + height, x : x + width] == picture).all())


def test_cells_are_the_runs_of_their_settings() -> None:
    vary = {"style_weight": (1.0, 40.0), "style": (STYLE, OTHER)}
    sheet = contact_sheet(CONTENT, None, vary, **QUICK)
    assert set(sheet.results) == {(0, 0), (0, 1), (1, 0), (1, 1)}
    for row, weight in enumerate(vary["style_weight"]):
        for column, style in enumerate(vary["style"]):
            settings = fastnst.make_settings("gatys", {**QUICK, "style_weight": weight})
            expected = run(CONTENT, style, settings)
            found = sheet.results[row, column]
            assert np.array_equal(found.pixels, expected.pixels)
            assert found.history == expected.history
            assert shows(sheet, row, column, np.array(expected.image))


def test_cells_of_different_sizes_and_contents() -> None:
    wide = smooth(60, 20, seed=3)
    vary = {"content": (CONTENT, wide), "size": (24, 40)}
    sheet = contact_sheet(CONTENT, STYLE, vary, **{**QUICK, "iterations": 1})
    sizes = {place: found.pixels.shape[1::-1] for place, found in sheet.results.items()}
    assert sizes == {(0, 0): (24, 19), (0, 1): (40, 31), (1, 0): (24, 8), (1, 1): (40, 13)}
    for place, found in sheet.results.items():
        assert shows(sheet, *place, np.array(found.image))


def test_what_cells_share_is_made_once(
    monkeypatch: pytest.MonkeyPatch, photo: Any, random_weights: Any
) -> None:
    made: dict[str, int] = {"styles": 0, "decoded": 0, "loaded": 0}
    compute, open_rows = build._Describer._compute, sheets.open_rows

    def counting(self: Any, *arguments: Any) -> Any:
        made["styles"] += 1
        return compute(self, *arguments)

    def opening(*arguments: Any) -> Any:
        made["decoded"] += 1
        return open_rows(*arguments)

    def loading(*_: Any) -> Any:
        made["loaded"] += 1
        return random_weights

    monkeypatch.setattr(build._Describer, "_compute", counting)
    monkeypatch.setattr(sheets, "open_rows", opening)
    monkeypatch.setattr("fastnst.run.prepare.load_weights", loading)
    vary = {"style_weight": (1, 2, 3), "style": (str(photo("a.png")), str(photo("b.png", seed=1)))}
    contact_sheet(str(photo("c.png", seed=2)), None, vary, **QUICK)
    assert made == {"styles": 2, "decoded": 1, "loaded": 1}


def test_styles_from_a_generator_are_read_once() -> None:
    blend = (picture for picture in (STYLE, OTHER))
    sheet = contact_sheet(CONTENT, blend, {"style_blend": ((1, 0), (0, 1))}, **QUICK)
    alone = fastnst.stylize(CONTENT, STYLE, **QUICK)
    # one style alone, and the sum of it with nothing of the other: float32 sums in another order
    np.testing.assert_allclose(sheet.results[0, 0].pixels, alone.pixels, atol=2e-3)
    first, second = (sheet.results[0, k].losses.total for k in range(2))
    assert first == pytest.approx(alone.losses.total, rel=1e-3)
    assert second != pytest.approx(alone.losses.total, rel=0.05)


def test_the_file_grows_by_a_cell_and_stays_after_an_interrupt(tmp_path: Path) -> None:
    target, seen = tmp_path / "sheet.png", []

    def stop(number: int, step: Step) -> None:
        if number == 1 and step.iteration == 0:
            seen.append(Image.open(target).copy())
        if number == 2:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        contact_sheet(CONTENT, STYLE, {"seed": (1, 2, 3)}, output=target, callback=stop, **QUICK)
    whole = contact_sheet(CONTENT, STYLE, {"seed": (1, 2, 3)}, **QUICK)
    with Image.open(target) as opened:
        left = np.array(opened)
    for column in range(3):
        x0, top, x1, bottom = whole._layout.slot(0, column)
        found = left[top : bottom + 1, x0 : x1 + 1]
        at_first = np.array(seen[0])[top : bottom + 1, x0 : x1 + 1]
        assert (found == part(whole, 0, column)).all() == (column < 2)
        assert (at_first == part(whole, 0, column)).all() == (column < 1)
        assert (found == EMPTY).all() == (column == 2)


def test_a_cell_that_fails_is_marked_and_stops_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(content: Any, style: Any, settings: Any, *further: Any, **named: Any) -> Any:
        if settings.seed == 2:
            raise NonFiniteLoss("the loss is nan")
        return run(content, style, settings, *further, **named)

    monkeypatch.setattr(sheets, "run", failing)
    sheet = contact_sheet(CONTENT, STYLE, {"seed": (1, 2, 3)}, **QUICK)
    assert set(sheet.results) == {(0, 0), (0, 2)}
    assert [outcome.message for outcome in sheet.outcomes] == [None, "the loss is nan", None]
    assert (part(sheet, 0, 1) < 128).all(-1).any()
    record = sheet.to_dict()["cells"][1]
    assert record == {"row": 0, "column": 1, "name": "seed 2", "message": "the loss is nan"}
    assert repr(sheet).endswith("2 of 3 cells>")


def test_a_file_carries_the_record(tmp_path: Path) -> None:
    sheet = contact_sheet(CONTENT, STYLE, {"seed": (1, 2)}, **QUICK)
    path = sheet.save(tmp_path / "a.png")
    assert path is not None
    with Image.open(path) as opened:
        assert (np.array(opened) == np.array(sheet.image)).all()
        record = json.loads(opened.text["fastnst"])  # type: ignore[attr-defined]
    assert record == json.loads(json.dumps(sheet.to_dict(str(path))))
    assert (record["rows"], record["columns"]) == ([], ["seed 1", "seed 2"])
    assert [cell["settings"]["seed"] for cell in record["cells"]] == [1, 2]
    assert sheet._repr_png_().startswith(b"\x89PNG")
    assert (sheet.size, sheet.pixels.shape) == (sheet.image.size, (*sheet.image.size[::-1], 3))


def test_results_that_are_not_kept_leave_their_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is the sheet a picture of floats on its way into a file."""
    axes = make_axes({"seed": (1, 2)})
    cells = make_cells(
        CONTENT, STYLE, axes, lambda changes: fastnst.make_settings("gatys", {**QUICK, **changes})
    )
    kept, left = Sheet(axes, cells), Sheet(axes, cells, keeps_results=False)
    for sheet in (kept, left):
        assert all(outcome.result is not None for outcome in sheet.paint())
    assert [outcome.result for outcome in left.outcomes] == [None, None]
    assert left.results == {}
    assert (left.made, repr(left)) == (2, repr(kept))
    assert np.array_equal(left.image, kept.image)
    known = ("seconds", "peak_bytes")
    records = [
        [{k: v for k, v in cell.items() if k not in known} for cell in sheet.to_dict()["cells"]]
        for sheet in (kept, left)
    ]
    assert records[0] == records[1]
    assert left.seconds == sum(cell["seconds"] for cell in left.to_dict()["cells"]) > 0
    monkeypatch.setattr(Sheet, "pixels", property(lambda _: pytest.fail("floats were made")))
    path = left.save(tmp_path / "a.png")
    assert path is not None
    with Image.open(path) as opened:
        assert np.array_equal(np.asarray(opened), np.asarray(left.image))
    assert left._repr_png_().startswith(b"\x89PNG")


def test_what_a_callback_raises_is_no_failure_of_a_cell() -> None:
    def stop(number: int, step: Step) -> None:
        raise OutputFailed("no space for what I write")

    with pytest.raises(OutputFailed, match="no space for what I write"):
        contact_sheet(CONTENT, STYLE, {"seed": (1, 2)}, callback=stop, **QUICK)


@pytest.mark.parametrize(
    ("vary", "further", "message"),
    [
        ({"seed": (1,), "style": (STYLE, np.zeros((4, 4, 2)))}, {}, "style .*4×4|style.*shape"),
        ({"size": (32, 30_000)}, {"resources": Resources(2 * 10**9)}, "size 30000: .* memory"),
        ({"style_blend": ((1,), (1, 2))}, {}, "style blend 1,2: style_blend has 2 values for 1"),
        ({"content": ("no.png",)}, {}, "no.png does not exist"),
        ({"device": ("cpu", "cuda:99")}, {}, "device cuda:99: "),
        ({"seed": (1,)}, {"output": "no/where.png"}, "folder no does not exist"),
        ({"seed": (1,)}, {"output": "a.txt"}, "unknown picture format"),
        ({"seed": (1,)}, {"sise": 3}, "unknown setting 'sise'"),
    ],
    ids=("style", "size", "blend", "content", "device", "folder", "format", "setting"),
)
def test_what_cannot_be_is_said_before_the_work(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    vary: Mapping[str, Any],
    further: Mapping[str, Any],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    steps: list[Any] = []
    with pytest.raises((InvalidInput, fastnst.BackendUnavailable), match=message):
        contact_sheet(
            CONTENT, STYLE, vary, callback=lambda *step: steps.append(step), **{**QUICK, **further}
        )
    assert steps == []
    assert list(tmp_path.iterdir()) == []


def test_an_output_is_no_input(tmp_path: Path, photo: Any) -> None:
    style = photo("a.png")
    with pytest.raises(InvalidInput, match="is the same file as the picture"):
        contact_sheet(CONTENT, None, {"style": [style]}, output=style, **QUICK)


def test_a_sheet_is_not_lost_when_its_name_is_taken(tmp_path: Path) -> None:
    target = tmp_path / "sheet.png"

    def take(number: int, step: Step) -> None:
        target.write_text("somebody's")

    with pytest.raises(OutputFailed, match="it was saved as .* instead"):
        contact_sheet(CONTENT, STYLE, {"seed": (1,)}, output=target, callback=take, **QUICK)
    assert target.read_text() == "somebody's"
    assert len(list(tmp_path.glob("sheet-saved-*.png"))) == 1


def test_an_output_is_none_of_what_the_cells_read(tmp_path: Path, photo: Any) -> None:
    start, other = photo("start.png"), photo("b.png")
    before = start.read_bytes()
    for vary, further in (
        ({"seed": (1, 2)}, {"init": str(start)}),
        ({"style": ([str(start), str(other)], str(other))}, {}),
    ):
        with pytest.raises(InvalidInput, match="is the same file as the picture"):
            contact_sheet(CONTENT, STYLE, vary, output=start, **{**QUICK, **further})
    assert start.read_bytes() == before
