"""The tab for films: what its controls hold, and what it says of a clip."""

from __future__ import annotations

import sys
from typing import Any

import pytest

pytest.importorskip("gradio")

from fastnst.errors import InvalidInput
from fastnst.settings.settings import Settings
from fastnst.ui.film_tab import FIELDS, describe, from_film_controls, to_film_controls
from fastnst.ui.film_wish import FilmWish
from fastnst.ui.limits import Limits
from fastnst.ui.studio import Studio
from fastnst.ui.studio_page import studio_page
from fastnst.ui.wish import Ended
from fastnst.video.options import FilmOptions, Selection
from helpers.films import pan, quick, settings, write_clip

__all__ = ["quick"]

FIRST = to_film_controls(Selection(), FilmOptions())


def test_the_controls_come_back_as_they_went() -> None:
    assert from_film_controls(FIRST) == (Selection(), FilmOptions())
    held = FilmOptions(temporal_weight=12.5, frame_iterations=7, band=0.0, cuts=False)
    for selection in (Selection(3), Selection(0, 9), Selection(2, 5, 2)):
        values = to_film_controls(selection, held)
        assert all(isinstance(value, str) for value in values[:-1])
        assert from_film_controls(values) == (selection, held)


@pytest.mark.parametrize("place", range(len(FIELDS)))
def test_any_value_is_a_film_or_one_line(place: int) -> None:
    """As a program that talks to the server may send them."""
    for value in (None, "", " ", "x", "1e999", -1, 1e308, True, [], {"a": 1}, "NaN", "9" * 5000,
                  "\0", 10**400, 0.5, 2.0, "../x"):  # fmt: skip
        values: list[Any] = [*FIRST]
        values[place] = value
        said = ""
        try:
            found = from_film_controls(values)
            assert [type(part) for part in found] == [Selection, FilmOptions]
        except InvalidInput as error:
            said = str(error)
        assert "\n" not in said
        assert "--" not in said


def test_what_is_wrong_is_named_as_the_page_names_it() -> None:
    for place, value, message in (
        (0, "x", "first frame is 'x': expected a whole number"),
        (1, "0", "stop before is 0: expected a whole number from 1"),
        (2, "0", "every is 0: expected a whole number from 1"),
        (3, "", "temporal weight is '': expected a number from 0 to"),
        (3, "1e38", r"temporal weight is 1e\+38: expected a number from 0 to"),
        (4, "1.5", "frame iterations is '1.5': expected a whole number"),
    ):
        values = [*FIRST]
        values[place] = value
        with pytest.raises(InvalidInput, match=message):
            from_film_controls(values)
    with pytest.raises(InvalidInput, match="stop before is 3: expected more than the first"):
        from_film_controls(["3", "3", *FIRST[2:]])


def test_a_line_about_a_clip(tmp_path) -> None:
    pytest.importorskip("av")
    clip = write_clip(tmp_path / "a.mp4", pan(2))
    said = describe(str(clip), Limits(frames=9))
    assert said == "40×32, 2 frames, 25 a second; this page makes films of up to 9 frames"
    assert describe(None, Limits()) == ""
    (tmp_path / "b.mp4").write_text("words")
    assert describe(str(tmp_path / "b.mp4"), Limits()).startswith("the clip cannot be read")


def page(monkeypatch, *missing: str) -> dict[str, Any]:
    for module in missing:
        monkeypatch.setitem(sys.modules, module, None)
    made = studio_page(Studio(Limits(), Settings()))
    return {part["props"].get("elem_id"): part["props"] for part in made.config["components"]}


def test_without_its_packages_the_tab_says_what_to_install(monkeypatch) -> None:
    shown = page(monkeypatch, "av")
    said = "films need PyAV and OpenCV: pip install av opencv-python-headless"
    assert shown["no-films"]["value"] == said


def test_the_tab_has_its_controls(monkeypatch) -> None:
    pytest.importorskip("av")
    pytest.importorskip("cv2")
    shown = page(monkeypatch)
    assert "no-films" not in shown
    assert {f"film-{field.name}" for field in FIELDS} <= set(shown)
    assert shown["film-temporal_weight"]["value"] == "300"
    assert shown["film-end"]["value"] == ""


def test_a_frame_has_no_more_iterations_than_are_allowed() -> None:
    made = studio_page(Studio(Limits(iterations=7), Settings(iterations=7)))
    shown = {part["props"].get("elem_id"): part["props"] for part in made.config["components"]}
    assert shown["film-frame_iterations"]["value"] == "7"


def test_a_page_that_is_loaded_again_is_at_its_film(monkeypatch, quick, tmp_path, photo) -> None:
    pytest.importorskip("av")
    pytest.importorskip("cv2")
    studio = Studio(Limits(), Settings())
    page = studio_page(studio)
    arrive = next(each for each in page.fns.values() if each.api_name == "arrive")
    monkeypatch.setattr(FilmWish, "run", lambda *_: Ended("failed", error="no"))
    clip = write_clip(tmp_path / "a.mp4", pan(2))
    options = FilmOptions(frame_iterations=7, cuts=False)
    who = studio.admit(None)
    chosen = Selection(0, 1)
    wish = FilmWish(
        str(clip), (str(photo("s.png")),), settings(), selection=chosen, options=options
    )
    studio.start(who, wish)
    names = [part.elem_id for part in arrive.outputs]
    values = dict(zip(names, arrive.fn(who), strict=True))
    assert values["kinds"].selected == "film"
    assert values["film-frame_iterations"] == "7"
    assert values["film-end"] == "1"
    assert values["film-cuts"] is False
    assert values["setting-size"] == 0
