"""The page in a real Chromium. Screenshots go to FASTNST_SCREENSHOTS, where that is set."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastnst import cli
from fastnst.samples.moving import MovingScene
from helpers.films import write_clip
from helpers.page import server


def test_the_page_without_gradio_is_an_error_that_says_what_to_install(monkeypatch, capsys) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    for name in [name for name in sys.modules if name.startswith("fastnst.ui")]:
        monkeypatch.delitem(sys.modules, name)  # another test may have imported it
    monkeypatch.delattr("fastnst.ui", raising=False)
    assert cli.run_app(["ui", "--no-browser"]) == 1
    assert "pip install gradio" in capsys.readouterr().err


@pytest.fixture
def browser(tmp_path: Path):
    """Chromium without a window."""
    webdriver = pytest.importorskip("selenium.webdriver")
    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("no chromium with chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1500,1400"):
        options.add_argument(flag)
    options.add_argument(f"--user-data-dir={tmp_path / 'profile'}")
    window = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        yield window
    finally:
        window.quit()


def until(condition, seconds: float = 60):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(Exception):  # elements come and go while the page is drawn
            if value := condition():
                return value
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds} s: {condition}")


def screenshot(window, name: str) -> None:
    """The whole page, as wide screens and telephones show it."""
    folder = os.environ.get("FASTNST_SCREENSHOTS")
    if not folder:
        return
    for width in (1280, 390):
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        window.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        time.sleep(1.5)
        shot = window.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True})
        Path(folder, f"{name}-{width}.png").write_bytes(base64.b64decode(shot["data"]))
    window.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


class Page:
    """The page of a visitor."""

    def __init__(self, window, address: str) -> None:
        self.window = window
        window.get(address)
        until(lambda: self.find("#start"))

    def find(self, selector: str):
        return self.window.find_element("css selector", selector)

    def all(self, selector: str):
        return self.window.find_elements("css selector", selector)

    @property
    def status(self) -> str:
        return self.find("#status").text

    def buttons(self) -> list[bool]:
        """Whether Start, Stop and Resume are enabled."""
        return [self.find(name).is_enabled() for name in ("#start", "#stop", "#resume")]

    def upload(self, name: str, path: Path) -> None:
        self.find(f"#{name} input[type=file]").send_keys(str(path))

    def tab(self, name: str) -> None:
        """Open a tab."""
        path = f"//button[@role='tab' and text()='{name}']"
        until(lambda: self.window.find_element("xpath", path)).click()

    def written(self, name: str) -> str:
        """What is in a box for text."""
        return str(self.find(f"#{name} input, #{name} textarea").get_attribute("value"))

    def write(self, name: str, value: str) -> None:
        """Write a value into a box for text, which may be drawn anew meanwhile."""

        def write() -> bool:
            box = self.find(f"#{name} input, #{name} textarea")
            if box.get_attribute("value") != value:
                box.clear()
                box.send_keys(value)
            return self.written(name) == value

        until(write)

    def clear(self, name: str) -> None:
        """Empty a box with its own button, named after the kind of the box."""
        names = ("Clear", "Remove Image", "Remove this file")
        button = ", ".join(f"#{name} button[aria-label='{label}']" for label in names)
        until(lambda: self.find(button)).click()


@pytest.mark.slow
def test_upload_start_reload_stop_resume_download(tmp_path: Path, photo, browser) -> None:
    content, style = photo("content.png", 120, 90), photo("style.jpg", 90, 90, seed=1)
    words = tmp_path / "words.png"
    words.write_text("words")
    with server(tmp_path, "--size", "64", "--style-weight", "50", "--max-iterations", "5000",
                "--iterations", "5000") as address:  # fmt: skip
        page = Page(browser, address)
        until(lambda: page.find("#setting-size input").get_attribute("value") == "64")
        assert page.find("#setting-iterations input").get_attribute("value") == "5000"
        assert page.buttons() == [False, False, False]
        screenshot(browser, "1-idle")

        page.upload("content", words)  # no picture: it never becomes a built-in one
        page.upload("styles", style)
        until(lambda: page.find("#styles .grid-wrap img").get_attribute("src"))
        time.sleep(1)
        if page.find("#start").is_enabled():
            page.find("#start").click()
            until(lambda: "the content picture" in page.find("body").text)
        assert not page.all("#picture")
        browser.refresh()
        until(lambda: page.find("#start"))

        page.upload("content", content)
        until(lambda: page.find("#content img").get_attribute("src"))
        until(lambda: page.all("#style-samples button img"))
        page.all("#style-samples button img")[3].click()
        until(lambda: page.find("#styles .grid-wrap img").get_attribute("src"))
        until(lambda: page.buttons() == [True, False, False])
        page.find("#advanced button").click()  # what is empty there stays empty
        box = until(lambda: page.find("#setting-style_size input"))
        assert box.get_attribute("value") == ""
        page.find("#start").click()
        seen = set()
        until(lambda: seen.add(page.find("#picture").get_attribute("src")) or len(seen) >= 3)
        assert "iteration" in page.status
        assert page.buttons() == [False, True, False]
        screenshot(browser, "2-running")

        browser.refresh()  # it is found again
        until(lambda: page.status.startswith("iteration"))
        until(lambda: page.buttons() == [False, True, False])
        page.find("#stop").click()
        until(lambda: page.status.startswith("stopped: 64×48"))
        stopped = int(re.search(r"(\d+) iterations", page.status)[1])
        assert 0 < stopped < 5000
        assert page.buttons() == [False, False, True]
        until(lambda: len(page.all("#slider img")) == 2)
        until(lambda: len(page.all("#runs img")) == 1)
        screenshot(browser, "3-stopped")

        link = until(lambda: page.find("#download"))
        assert link.get_attribute("download") == "fastnst.png"
        data = base64.b64decode(link.get_attribute("href").partition("base64,")[2])
        with Image.open(io.BytesIO(data)) as image:
            record = json.loads(image.text["fastnst"])
            assert image.size == (64, 48)
            assert np.asarray(image).std() > 10  # a picture, not a flat colour
        assert record["settings"]["style_weight"] == 50
        assert record["iterations"] == stopped

        page.find("#resume").click()
        until(lambda: page.status.startswith("iteration"))
        assert int(re.search(r"iteration (\d+)", page.status)[1]) >= stopped
        page.find("#stop").click()
        until(lambda: page.status.startswith("stopped"))
        until(lambda: len(page.all("#runs img")) == 2)

        picture = tmp_path / "earlier.png"  # its settings are loaded again
        picture.write_bytes(data)
        browser.get(address)
        until(lambda: page.find("#load"))
        upload = "//input[@type='file' and contains(@accept, 'toml')]"
        settings = tmp_path / "settings.toml"
        settings.write_text("style-weight = 7\nsize = 48\n")
        for path, size in ((settings, "48"), (picture, "64")):
            until(lambda: browser.find_element("xpath", upload)).send_keys(str(path))
            until(lambda size=size: page.find("#setting-size input").get_attribute("value") == size)
        screenshot(browser, "4-loaded")


@pytest.mark.slow
def test_a_film_is_made_found_again_stopped_and_downloaded(tmp_path: Path, photo, browser) -> None:
    av = pytest.importorskip("av")
    pytest.importorskip("cv2")
    scene = MovingScene(64, 48)
    clip = write_clip(tmp_path / "clip.mp4", [scene.frame(k) for k in range(3)])
    long = write_clip(tmp_path / "long.mp4", [scene.frame(k) for k in range(60)])
    style = photo("style.jpg", 90, 90, seed=1)
    options = ("--size", "64", "--iterations", "2", "--max-iterations", "5000")
    with server(tmp_path, *options) as address:
        page = Page(browser, address)
        until(lambda: page.find("#setting-size input").get_attribute("value") == "64")
        page.tab("A film")
        page.upload("styles", style)
        words = tmp_path / "words.mp4"
        words.write_text("words")
        page.upload("clip", words)
        until(lambda: "the clip cannot be read as a video" in page.find("#about-clip").text)
        page.clear("clip")
        page.upload("clip", clip)
        until(lambda: page.find("#about-clip").text.startswith("64×48, 3 frames, 25 a second"))
        until(lambda: page.buttons() == [True, False, False])
        screenshot(browser, "7-film-idle")

        page.find("#start").click()
        until(lambda: page.status.startswith("done: 64×48, 3 frames"))
        player = until(lambda: page.find("#player video"))
        until(lambda: browser.execute_script("return arguments[0].readyState", player) >= 2)
        assert len(page.all("#film img")) == 3
        assert page.find("#download-film").text == "Download the MP4"
        with urllib.request.urlopen(player.get_attribute("src")) as answer:
            data = answer.read()
        with av.open(io.BytesIO(data)) as film:
            assert [(f.width, f.height) for f in film.decode(video=0)] == [(64, 48)] * 3
        screenshot(browser, "8-film-done")

        page.clear("clip")
        page.upload("clip", long)
        until(lambda: page.find("#about-clip").text.startswith("64×48, 60 frames"))
        page.find("#start").click()
        until(lambda: re.match(r"[1-9]\d* frames? of 60 finished", page.status))
        assert re.search(r"s a frame, \d+ (s|min) left; iteration \d+ of", page.status)
        assert page.buttons() == [False, True, False]
        screenshot(browser, "9-film-running")
        browser.refresh()  # it is found again, in its tab
        until(lambda: "of 60 finished" in page.status)
        until(lambda: page.find("#clip").is_displayed())
        page.find("#stop").click()
        until(lambda: re.match(r"stopped: 64×48, \d+ frames? of 60", page.status))
        until(lambda: page.find("#player video").is_displayed())
        until(lambda: page.buttons() == [False, False, True])
        until(lambda: len(page.all("#runs img")) == 2)
        screenshot(browser, "10-film-stopped")


@pytest.mark.slow
def test_a_sheet_is_made_with_the_picture_that_is_chosen_and_found_again(
    tmp_path: Path, photo, browser
) -> None:
    with server(tmp_path, "--size", "64", "--iterations", "3") as address:
        page = Page(browser, address)
        until(lambda: page.find("#setting-size input").get_attribute("value") == "64")
        page.upload("content", photo("content.jpg", 90, 60))
        page.upload("styles", photo("style.jpg", 90, 90, seed=1))
        until(lambda: page.buttons() == [True, False, False])
        page.tab("A sheet")
        until(lambda: page.find("#sheet-content img").is_displayed())
        page.write("sheet-columns-values", "0.2,2")
        until(lambda: page.buttons()[0])
        page.find("#start").click()
        until(lambda: "strength is 2" in page.find(".toast-wrap").text)
        page.write("sheet-columns-values", "0.2,0.5,0.8")
        screenshot(browser, "11-sheet-idle")
        page.find("#start").click()
        until(lambda: re.match(r"done: \d+×\d+, 3 pictures in", page.status))
        assert page.find("#picture").is_displayed()
        data = page.find("#download").get_attribute("href").partition(",")[2]
        with Image.open(io.BytesIO(base64.b64decode(data))) as sheet:
            assert len(json.loads(sheet.text["fastnst"])["cells"]) == 3
        screenshot(browser, "12-sheet-done")
        browser.refresh()
        until(lambda: page.find("#sheet-content").is_displayed())
        until(lambda: page.written("sheet-columns-values") == "0.2,0.5,0.8")


@pytest.mark.slow
def test_a_run_that_fails_says_why(tmp_path: Path, photo, browser) -> None:
    content, style = photo("content.png", 120, 90), photo("style.jpg", 90, 90, seed=1)
    with server(tmp_path, "--size", "64", "--memory", "10MB") as address:
        page = Page(browser, address)
        page.upload("content", content)
        until(lambda: page.find("#content img").get_attribute("src"))
        page.upload("styles", style)
        until(lambda: page.buttons() == [True, False, False])
        page.find("#start").click()
        until(lambda: page.status.startswith("failed: a 64×48 picture needs about"))
        assert page.buttons() == [True, False, False]
        assert not page.all("#picture")
        assert not page.all("#download")
        assert page.find("#status .failed")
        screenshot(browser, "11-failed")


@pytest.mark.slow
def test_start_follows_the_boxes_however_they_are_filled(tmp_path: Path, photo, browser) -> None:
    style = photo("style.jpg", 90, 90, seed=1)
    enabled, disabled = [True, False, False], [False, False, False]
    with server(tmp_path, "--size", "64") as address:
        page = Page(browser, address)

        def choose(kind: str) -> None:
            until(lambda: page.all(f"#{kind}-samples button img"))[0].click()

        until(lambda: page.find("#setting-size input").get_attribute("value") == "64")
        choose("content")  # the second choice is made while the first is under way
        choose("style")
        until(lambda: page.buttons() == enabled)
        page.clear("styles")
        until(lambda: page.buttons() == disabled)
        page.upload("styles", style)
        until(lambda: page.buttons() == enabled)
        page.clear("content")
        until(lambda: page.buttons() == disabled)
        choose("content")
        until(lambda: page.buttons() == enabled)


@pytest.mark.slow
def test_preview_shows_a_running_job(tmp_path: Path, photo, browser) -> None:
    pytest.importorskip("gradio")
    process = subprocess.Popen(
        [sys.executable, "-m", "fastnst", "stylize", str(photo("c.png")),
         str(photo("s.png", seed=1)), "-o", str(tmp_path / "out.png"),
         "--size", "64", "--iterations", "100000", "--preview"],
        stderr=subprocess.PIPE, text=True,
        env={**os.environ, "BROWSER": "true", "GRADIO_TEMP_DIR": str(tmp_path / "gradio")},
    )  # fmt: skip
    try:
        assert process.stderr is not None
        address = process.stderr.readline().split()[1]
        threading.Thread(target=process.stderr.read, daemon=True).start()
        browser.get(address)
        seen = set()

        def changes() -> bool:
            seen.add(browser.find_element("css selector", "#picture").get_attribute("src"))
            return len(seen) >= 3

        until(changes)
        screenshot(browser, "5-preview")
        browser.find_element("css selector", "#stop").click()
        until(
            lambda: (
                browser.find_element("css selector", "#status").text == "stopped; saved as out.png"
            )
        )
        screenshot(browser, "6-saved")
        assert process.wait(30) == 130
        with Image.open(tmp_path / "out.png") as image:
            assert image.width == 64
    finally:
        process.kill()
