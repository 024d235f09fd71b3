"""Places on a sheet: none overlap, all lie on it, and labels stand beside what they name."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from PIL import Image

from fastnst.sheet.layout import EMPTY, LARGEST, PAPER, SMALLEST, WIDEST, Layout

SIZES = [[(48, 36), (31, 47)], [(7, 90), (120, 1)]]
ROWS, COLUMNS = ("size 64", "size 128"), ("style a", "style b")


def box(sheet: Image.Image, slot: tuple[int, int, int, int]) -> np.ndarray:
    left, top, right, bottom = slot
    return np.asarray(sheet)[top : bottom + 1, left : right + 1]


def is_written(part: np.ndarray) -> bool:
    return bool((part < 128).all(-1).any())


def test_slots_hold_their_cells_and_do_not_overlap() -> None:
    layout = Layout(SIZES, ROWS, COLUMNS)
    slots = {(i, j): layout.slot(i, j) for i in (0, 1) for j in (0, 1)}
    for (i, j), (left, top, right, bottom) in slots.items():
        assert right + 1 - left >= max(SIZES[0][j][0], SIZES[1][j][0])
        assert bottom + 1 - top == max(SIZES[i][0][1], SIZES[i][1][1])
        assert left > 0
        assert top > 0
        assert right < layout.size[0]
        assert bottom < layout.size[1]
    for a, b in itertools.combinations(slots.values(), 2):
        assert a[2] < b[0] or b[2] < a[0] or a[3] < b[1] or b[3] < a[1]
    assert layout.blank().size == layout.size


def test_labels_stand_in_a_row_above_and_a_column_beside() -> None:
    layout = Layout(SIZES, ROWS, COLUMNS)
    sheet = np.asarray(layout.blank())
    for i in (0, 1):
        _, top, _, bottom = layout.slot(i, 0)
        assert is_written(sheet[top : bottom + 1, : layout.slot(0, 0)[0]])
    for j in (0, 1):
        left, top, right, _ = layout.slot(0, j)
        assert is_written(sheet[:top, left : right + 1])
    for i, j in itertools.product((0, 1), (0, 1)):
        assert (box(layout.blank(), layout.slot(i, j)) == EMPTY).all()
    inside = sheet[:, [0, -1]], sheet[[0, -1]]  # no label is cut off at the edges
    assert not any(is_written(edge) for edge in inside)


def test_without_rows_there_is_no_column_of_labels() -> None:
    layout = Layout([[(48, 36), (48, 36)]], (), COLUMNS)
    left, top, _, bottom = layout.slot(0, 0)
    assert left < SMALLEST
    assert not is_written(np.asarray(layout.blank())[top : bottom + 1, :left])


def test_a_picture_stands_in_the_middle_of_its_slot() -> None:
    layout = Layout(SIZES, ROWS, COLUMNS)
    sheet = layout.blank()
    picture = Image.new("RGB", (31, 47), (10, 200, 30))
    layout.paste(sheet, 0, 1, picture)
    part = box(sheet, layout.slot(0, 1))
    found = (part == (10, 200, 30)).all(-1)
    rows, columns = np.nonzero(found)
    assert found.sum() == 31 * 47
    assert abs(rows.min() - (part.shape[0] - 1 - rows.max())) <= 1
    assert abs(columns.min() - (part.shape[1] - 1 - columns.max())) <= 1
    assert (part[~found] == PAPER).all()
    assert (box(sheet, layout.slot(0, 0)) == EMPTY).all()


def test_a_note_is_written_into_its_slot() -> None:
    layout = Layout(SIZES, ROWS, COLUMNS)
    sheet = layout.blank()
    layout.note(sheet, 0, 0, "failed")
    assert is_written(box(sheet, layout.slot(0, 0)))
    for place in ((0, 1), (1, 0), (1, 1)):
        assert (box(sheet, layout.slot(*place)) == EMPTY).all()


@pytest.mark.parametrize("longest", [1, 300, 5000])
def test_letters_grow_with_the_cells_within_bounds(longest: int) -> None:
    layout = Layout([[(longest, 1)]], (), ("x" * 1000,))
    letter = max(SMALLEST, min(LARGEST, longest // 20))
    written = (np.asarray(layout.blank()) < 200).all(-1)[: layout.slot(0, 0)[1]]
    assert written.any()
    columns = np.nonzero(written.any(0))[0]
    assert columns.max() - columns.min() <= WIDEST * letter


@pytest.mark.parametrize("label", ["", "\udcff\udc80.jpg", "a\nb\0c", "α 中 🎨", "\u202e x"])
def test_any_label_can_be_drawn(label: str) -> None:
    assert Layout([[(40, 30)]], (label,), (label,)).blank().size[0] > 40
