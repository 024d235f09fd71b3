"""What shapes a film: every value is checked, whatever it is."""

from __future__ import annotations

import re

import numpy as np
import pytest

from fastnst.errors import InvalidInput
from fastnst.video.options import FilmOptions, Selection


class Unspeakable:
    """A value whose own ``repr`` fails."""

    def __repr__(self) -> str:
        raise RuntimeError("no repr")


@pytest.mark.parametrize("name", ["temporal_weight", "band"])
@pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), "1", None, True, Unspeakable()])
def test_numbers(name: str, value: object) -> None:
    allowed = {"temporal_weight": "a number from 0 to 1e+12", "band": "a finite number, 0 or more"}
    with pytest.raises(InvalidInput, match=f"{name} is .*: expected {re.escape(allowed[name])}"):
        FilmOptions(**{name: value})
    assert getattr(FilmOptions(**{name: np.float32(0.5)}), name) == 0.5


@pytest.mark.parametrize(("name", "low"), [("frame_iterations", 0), ("passes", 1)])
@pytest.mark.parametrize("value", [-1, 1.0, "1", None, True, 10**400, Unspeakable()])
def test_whole_numbers(name: str, low: int, value: object) -> None:
    with pytest.raises(InvalidInput, match=f"{name} is .*: expected a whole number from {low} to"):
        FilmOptions(**{name: value})
    assert type(getattr(FilmOptions(**{name: np.int64(3)}), name)) is int


@pytest.mark.parametrize(
    "value",
    [(), (2,), (1, 1), (2, 1), (1, 0), (1, 2.0), (1, 1001), "124", 1, None, {1, 2},
     (1, Unspeakable()), Unspeakable()],
)  # fmt: skip
def test_distances(value: object) -> None:
    with pytest.raises(InvalidInput, match="distances is "):
        FilmOptions(distances=value)  # type: ignore[arg-type]
    assert FilmOptions(distances=[1, 3]).distances == (1, 3)  # type: ignore[arg-type]


def test_the_rest() -> None:
    for name, value in (("flow", 5), ("flow", None), ("cuts", "no"), ("cuts", 1)):
        with pytest.raises(InvalidInput, match=f"{name} is {value!r}"):
            FilmOptions(**{name: value})


@pytest.mark.parametrize("value", [("0",), (None,), (0, 1.5), (0, None, "x"), (0, None, None),
                                   (True,), (Unspeakable(),)])  # fmt: skip
def test_a_selection_is_of_whole_numbers(value: tuple) -> None:
    with pytest.raises(InvalidInput, match="expected a whole number"):
        Selection(*value)


def test_a_temporal_weight_is_one_that_can_be_computed_with() -> None:
    for value in (1e13, 1e38, 1e300):
        with pytest.raises(
            InvalidInput, match="temporal_weight is .*: expected a number from 0 to"
        ):
            FilmOptions(temporal_weight=value)
    FilmOptions(temporal_weight=1e12)
