"""Contact sheets of visitors, without a browser."""

from __future__ import annotations

import base64
import io
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from fastnst.errors import InvalidInput, NonFiniteLoss
from fastnst.run import prepare
from fastnst.run.run import run
from fastnst.settings.presets import PRESETS, make_settings
from fastnst.sheet import sheet as sheets
from fastnst.ui.limits import Limits
from fastnst.ui.picture_wish import PictureWish
from fastnst.ui.sheet_wish import SheetWish


@pytest.fixture
def wish(photo, small) -> SheetWish:
    styles = tuple(str(photo(f"s{k}.png", 40, 44, seed=k)) for k in (1, 2))
    settings = replace(small, iterations=2)
    return SheetWish(
        str(photo("c.png")), styles, settings, (("style", ""), ("strength", "0.3,0.6")), small
    )


def downloaded(job) -> Image.Image:
    data = re.search(r'href="data:image/png;base64,([^"]+)"', job.outcome.download)
    return Image.open(io.BytesIO(base64.b64decode(data[1])))


def test_a_sheet_ends_with_all_there_is_to_show(studio, wish, finish) -> None:
    who = studio.admit(None)
    job = finish(studio.start(who, wish))
    assert job.state == "done", job.error
    image = downloaded(job)
    assert job.outcome.text.startswith(f"done: {image.width}×{image.height}, 4 pictures in ")
    assert job.outcome.caption == "sheet, 4 pictures"
    record = json.loads(image.text["fastnst"])
    assert record["rows"] == ["style 1", "style 2"]
    assert record["columns"] == ["strength 0.3", "strength 0.6"]
    assert {cell["settings"]["iterations"] for cell in record["cells"]} == {2}
    assert studio.visitor(who).finished == [job]
    assert not job.folder.exists()
    assert not studio.resumable(studio.visitor(who))


def test_its_pictures_are_those_of_single_runs(studio, wish, finish) -> None:
    job = finish(studio.start(studio.admit(None), wish))
    cells = json.loads(downloaded(job).text["fastnst"])["cells"]
    alone = [
        run(wish.content, style, replace(wish.settings, strength=strength))
        for style in wish.styles
        for strength in (0.3, 0.6)
    ]
    assert [cell["loss"]["total"] for cell in cells] == [one.losses.total for one in alone]
    assert np.ptp([one.losses.total for one in alone]) > 0


def test_what_is_stopped_has_the_pictures_so_far(studio, wish, finish, monkeypatch) -> None:
    made = []

    def stopped_in_the_second(*args, **more):
        made.append(args[2].strength)
        if len(made) == 2:
            raise KeyboardInterrupt
        return run(*args, **more)

    monkeypatch.setattr(sheets, "run", stopped_in_the_second)
    job = finish(studio.start(studio.admit(None), wish))
    assert job.state == "stopped"
    assert ", 1 picture of 4 in " in job.outcome.text
    made[:] = [None]
    job = finish(studio.start(studio.admit(None), wish))
    assert job.state == "removed"
    assert job.outcome is None


def test_a_picture_that_fails_stops_no_other(studio, wish, finish, monkeypatch) -> None:
    def fails(*args, **more):
        if args[2].strength == 0.3:
            raise NonFiniteLoss("the loss is not finite")
        return run(*args, **more)

    monkeypatch.setattr(sheets, "run", fails)
    wish = replace(wish, vary=(("strength", "0.3,0.6"),))
    job = finish(studio.start(studio.admit(None), wish))
    assert job.state == "done"
    assert job.error == "strength 0.3: the loss is not finite"
    assert job.outcome.text.startswith(f"{job.error}; done: ")
    job = finish(studio.start(studio.admit(None), replace(wish, vary=(("strength", "0.3"),))))
    assert (job.state, job.outcome) == ("failed", None)


def test_what_is_kept_of_finished_sheets_is_counted(studio, wish, finish, monkeypatch) -> None:
    who = studio.admit(None)
    wish = replace(wish, vary=(("strength", "0.3,0.6"),))
    first = finish(studio.start(who, wish))
    assert first.outcome.kept > len(first.outcome.download) > 1_000
    monkeypatch.setattr("fastnst.ui.studio.KEPT_BYTES", int(1.5 * first.outcome.kept))
    second = finish(studio.start(who, wish))
    assert studio.visitor(who).finished == [second]


def test_a_sheet_has_the_network_that_the_page_has(studio, wish, finish, monkeypatch) -> None:
    made, load = [], prepare.load_weights
    monkeypatch.setattr(prepare, "load_weights", lambda *a: made.append(a) or load(*a))
    picture = PictureWish(wish.content, wish.styles, wish.settings)
    for one in (picture, replace(wish, vary=(("strength", "0.3"),)), picture):
        assert finish(studio.start(studio.admit(None), one)).state == "done"
    assert len(made) == 1


def test_presets_are_compared_at_one_size(wish) -> None:
    common = {
        "size": 48,
        "strength": 0.7,
        "color": "luminance",
        "seed": 5,
        "device": "cpu",
        "engine": "onnx",
        "provider": "cpu",
        "precision": "fp32",
    }
    settings = replace(wish.settings, **common)
    cells = replace(wish, settings=settings, vary=(("preset", "gatys,fast"),)).cells
    assert [cell.settings.init for cell in cells] == ["noise", "matched"]
    for cell in cells:
        assert {name: getattr(cell.settings, name) for name in common} == common


def test_what_the_page_shows_stays_beside_what_is_varied(wish) -> None:
    settings = replace(PRESETS["fast"], iterations=2)
    cells = replace(wish, settings=settings, vary=(("tv_weight", "1,5"),)).cells
    assert [cell.settings for cell in cells] == [replace(settings, tv_weight=w) for w in (1, 5)]


def test_its_link_does_not_promise_settings_to_load(studio, wish, finish) -> None:
    job = finish(studio.start(studio.admit(None), replace(wish, vary=(("strength", "0.3"),))))
    assert ">Download the PNG of the sheet</a>" in job.outcome.download


def test_presets_are_compared_with_all_that_the_page_changed(wish) -> None:
    """A sheet dropped what the page shows, but for size, seed, device and engine."""
    changed = {"strength": 0.7, "color": "original", "iterations": 20, "content_weight": 2.0}
    machine = {"engine": "onnx", "provider": "cpu", "precision": "fp32"}
    settings = make_settings("hires", {**changed, **machine, "size": 40})
    cells = replace(wish, settings=settings, vary=(("preset", "hires,neural-style"),)).cells
    assert cells[0].settings == settings
    other = {**changed, **machine, "size": 40}
    assert cells[1].settings == make_settings("neural-style", other)


def test_what_is_varied_goes_before_what_the_page_changed(wish) -> None:
    settings = make_settings("fast", {"strength": 0.7})
    vary = (("preset", "fast,gatys"), ("strength", "0.2"))
    cells = replace(wish, settings=settings, vary=vary).cells
    assert [cell.settings.strength for cell in cells] == [0.2, 0.2]


def test_settings_that_go_together_are_changed_together(wish) -> None:
    """Two style layers do not get the weights of another preset's five."""
    changed = {"style_layers": ("relu1_1", "relu2_1"), "tv_weight": 3.0, "tv_form": "color"}
    settings = make_settings("fast", changed)
    cells = replace(wish, settings=settings, vary=(("preset", "neural-style"),)).cells
    its = cells[0].settings
    assert (its.style_layers, its.style_layer_weights) == (changed["style_layers"], None)
    assert (its.tv_weight, its.tv_form) == (3.0, "color")
    assert its.weights == "vgg19"  # the preset's own, which nobody changed
    other = replace(settings, weights="torchvision")
    cells = replace(wish, settings=other, vary=(("preset", "neural-style"),)).cells
    assert cells[0].settings.weights == "torchvision"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"vary": ()}, "name what to vary"),
        ({"vary": (("strength", ""),)}, "strength is varied over 0 values: expected 1 to 100"),
        ({"vary": (("strength", "0.1,2"),)}, "strength is 2.0"),
        ({"vary": (("strength", "0.1"), ("strength", "0.2"))}, "strength is varied twice"),
        ({"vary": (("size", "32,65"),)}, "size is 65: this page allows 64"),
        ({"vary": (("iterations", "1,101"),)}, "iterations is 101: this page allows 100"),
        ({"vary": (("seed", ",".join(map(str, range(17)))),)}, "17 pictures: this page allows 16"),
        ({"vary": (("init", "noise,/etc/passwd"),)}, "init: on this page choose one of noise"),
        ({"vary": (("preset", "vgg"),)}, "vgg"),
        ({"vary": (("brush", "1"),)}, "brush"),
        ({"content": None}, "choose a content picture first"),
        ({"styles": ()}, "choose a style picture first"),
        ({"content_mask": "mask.png"}, "a sheet has no masks"),
    ],
)
def test_what_is_refused_before_it_waits(wish, changed, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        replace(wish, **changed).check(Limits(size=64, iterations=100))
