"""The page: its runs without a browser, its server, and all of it in a real Chromium."""

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
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from fastnst import cli
from fastnst.cache import Cache
from fastnst.errors import InvalidInput
from fastnst.settings.settings import Settings
from fastnst.ui import view
from fastnst.ui.jobs import Job, check_upload, explain
from helpers.pictures import huge_png, smooth

SMALL = Settings(
    size=48, iterations=6, style_layers=("relu1_1", "relu2_1"), content_layers=("relu2_1",)
)


# ------------------------------------------------------------------------------------ its parts --


def finished(job: Job) -> Job:
    assert job.wait(60)
    return job


def test_a_job_runs_stops_and_goes_on(tmp_path: Path, photo) -> None:
    pictures = str(photo("c.png")), str(photo("s.png", 40, 44, seed=1))
    path = tmp_path / "a.checkpoint"
    whole = finished(Job(*pictures, SMALL, Cache(), path))
    assert whole.result is not None
    assert not whole.stopped
    long = Settings(**{**SMALL.to_dict(), "iterations": 100_000})
    job = Job(*pictures, long, Cache(), path)
    seen = set()
    deadline = time.monotonic() + 60
    while len(seen) < 3 and time.monotonic() < deadline:
        frame = job.frame()
        if frame is not None:
            seen.add(frame.iteration)
            assert len(frame.history) == frame.iteration + 1
            assert frame.pixels.shape == (36, 48, 3)
        time.sleep(0.01)
    job.stop()
    finished(job)
    assert job.stopped
    assert job.result is not None
    done = job.result.iterations
    more = Settings(**{**SMALL.to_dict(), "iterations": done + 2})
    again = finished(Job(*pictures, more, Cache(), path, resume=path))
    assert again.result is not None
    assert again.result.iterations == done + 2
    assert again.result.history[: done + 1] == job.result.history


def test_what_goes_wrong_names_no_path_of_the_server(tmp_path: Path, photo) -> None:
    bad = tmp_path / "words.png"
    bad.write_text("words")
    job = finished(Job(str(bad), str(photo("s.png")), SMALL, Cache(), tmp_path / "a"))
    assert explain(job) == "words.png is not a picture that can be read"
    pictures = str(photo("c.png")), str(photo("s.png"))
    finished(Job(*pictures, SMALL, Cache(), tmp_path / "a"))
    other = Settings(**{**SMALL.to_dict(), "seed": 5})
    job = Job(*pictures, other, Cache(), tmp_path / "b", resume=tmp_path / "a")
    assert explain(finished(job)).endswith("is of another run: seed was 0 and is 5")


def test_the_curves_show_every_term(tmp_path: Path, photo) -> None:
    pictures = str(photo("c.png")), str(photo("s.png", 40, 44, seed=1))
    job = finished(Job(*pictures, SMALL, Cache(), tmp_path / "a"))
    assert job.result is not None
    svg = ElementTree.fromstring(view.curves(job.result.history))
    assert len(svg.findall("polyline")) == 4  # the total, one content and two style layers
    texts = [text.text for text in svg.findall("text")]
    assert {"total", "content relu2_1", "style relu1_1", "style relu2_1"} <= set(texts)
    for line in svg.findall("polyline"):
        points = [tuple(map(float, p.split(","))) for p in line.get("points", "").split()]
        assert len(points) == 7
        assert points[0][0] == 45
        assert points[-1][0] == 440
        assert all(15 <= y <= 255 for _, y in points)
    ElementTree.fromstring(view.curves(job.result.history[:1]))


def test_uploads_are_limited_before_they_are_decoded(tmp_path: Path, photo) -> None:
    assert check_upload("sample:harbour", "content", 1) == "sample:harbour"
    good = str(photo("a.png", 100, 100))
    assert check_upload(good, "content", 0.01) == good
    with pytest.raises(InvalidInput, match="content picture has 0 megapixels; 0.009 are allowed"):
        check_upload(good, "content", 0.009)
    huge_png(tmp_path / "huge.png", 12_000)
    with pytest.raises(InvalidInput, match="style picture has 144 megapixels; 40 are allowed"):
        check_upload(str(tmp_path / "huge.png"), "style", 40)
    huge_png(tmp_path / "bomb.png", 60_000)
    with pytest.raises(InvalidInput, match="the style picture has more than 179 megapixels"):
        check_upload(str(tmp_path / "bomb.png"), "style", 40)
    (tmp_path / "words.png").write_text("words")
    with pytest.raises(InvalidInput, match="^the content picture is not a picture"):
        check_upload(str(tmp_path / "words.png"), "content", 40)
    with pytest.raises(InvalidInput, match="choose a content picture first"):
        check_upload(None, "content", 40)


def test_the_page_without_gradio_is_an_error_that_says_what_to_install(monkeypatch, capsys) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.delitem(sys.modules, "fastnst.ui.page", raising=False)
    monkeypatch.delattr("fastnst.ui.page", raising=False)
    assert cli.run_app(["ui", "--no-browser"]) == 1
    assert "pip install gradio" in capsys.readouterr().err


# ------------------------------------------------------------------------------------ its server --


@contextlib.contextmanager
def server(folder: Path, *options: str) -> Iterator[tuple[str, int]]:
    """``fastnst ui`` in a process: its address and number."""
    pytest.importorskip("gradio")
    process = subprocess.Popen(
        [sys.executable, "-m", "fastnst", "ui", "--no-browser", *options],
        stdout=subprocess.PIPE, text=True,
        env={**os.environ, "GRADIO_TEMP_DIR": str(folder / "gradio"), "TMPDIR": str(folder)},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("fastnst: http://127.0.0.1:"), line
        yield line.split()[1], process.pid
    finally:
        process.terminate()
        process.wait(20)


def start(client, size: int = 48, iterations: int = 4, seed: int = 0):
    return client.submit(
        None, "sample:harbour", None, "sample:swirl", size, iterations, 1, 10, 0, "noise", seed,
        api_name="/start",
    )  # fmt: skip


def call(address: str, values: list[object]) -> str:
    """Start a job as any program may, without the page; returns all that the server says."""
    request = urllib.request.Request(
        f"{address}gradio_api/call/start",
        json.dumps({"data": values}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request) as answer:
        event = json.load(answer)["event_id"]
    with urllib.request.urlopen(f"{address}gradio_api/call/start/{event}", timeout=60) as answer:
        return str(answer.read(), "utf-8")


def resident(process: int) -> int:
    text = Path(f"/proc/{process}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", text)[1]) * 1024


@pytest.mark.slow
def test_fifty_jobs_at_once(tmp_path: Path) -> None:
    """All are answered or told their place, none is lost, memory is flat."""
    client_module = pytest.importorskip("gradio_client")
    count = int(os.environ.get("FASTNST_JOBS", "12"))
    with server(tmp_path) as (address, process):
        clients = [client_module.Client(address, verbose=False) for _ in range(count)]
        warm = start(clients[0]).result(timeout=60)
        assert warm[1].startswith("done: 48×36, 4 iterations")
        jobs = [start(client, seed=k) for k, client in enumerate(clients)]
        ranks: set[int] = set()
        sizes = []
        while not all(job.done() for job in jobs):
            for job in jobs:
                status = job.status()
                if status.rank is not None:
                    ranks.add(status.rank)
            sizes.append(resident(process))
            time.sleep(0.2)
        results = [job.result() for job in jobs]
        pictures = {re.search('href="data:image/png;base64,([^"]+)"', r[3])[1] for r in results}
        assert all(result[1].startswith("done: 48×36, 4 iterations") for result in results)
        assert len(pictures) == count  # each has its own seed, so its own picture
        assert max(ranks) >= count // 2  # those that waited knew their place
        third = len(sizes) // 3
        before, after = (sum(part) / third for part in (sizes[third : 2 * third], sizes[-third:]))
        print(
            f"{count} jobs: {before / 1e6:.0f} MB in the middle third, {after / 1e6:.0f} MB in the last"
        )
        # a run of this size takes 0.1 GB for its features, and the network 0.5 GB: one of either
        # left behind by each job would show at once
        assert after < before + 0.2e9


@pytest.mark.slow
def test_a_visitor_gets_nothing_of_the_server_or_of_another_visitor(tmp_path: Path) -> None:
    client_module = pytest.importorskip("gradio_client")
    with server(tmp_path, "--max-megabytes", "1", "--max-size", "64") as (address, _):
        first, second = (client_module.Client(address, verbose=False) for _ in range(2))
        start(first).result(timeout=60)
        with pytest.raises(Exception, match="no stopped run to resume"):
            second.predict(
                None, "sample:harbour", None, "sample:swirl", 48, 4, 1, 10, 0, "noise", 0,
                api_name="/resume",
            )  # fmt: skip
        for bad, message in (
            ({"size": 4000}, "4000"),
            ({"iterations": 10**6}, "1000000"),
        ):
            with pytest.raises(Exception, match=message):
                start(first, **bad).result(timeout=60)
        # a file of the server, in the place of an upload
        secret = tmp_path / "secret.png"
        Image.fromarray(smooth(48, 36)).save(secret)
        forged = {"path": str(secret), "meta": {"_type": "gradio.FileData"}}
        values = ["sample:harbour", None, "sample:swirl", 48, 4, 1, 10, 0, "noise", 0]
        assert "event: complete" in call(address, [None, *values])
        answer = call(address, [forged, *values])
        assert "event: error" in answer
        assert "done" not in answer
        for path in (secret, "/etc/passwd", Path(__file__)):
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(f"{address}gradio_api/file={path}")
            assert refused.value.code in (403, 404)
        boundary = "x"
        body = (
            (
                f"--{boundary}\r\nContent-Disposition: form-data; name=files; filename=a.png\r\n\r\n"
            ).encode()
            + os.urandom(2_000_000)
            + f"\r\n--{boundary}--\r\n".encode()
        )
        request = urllib.request.Request(
            f"{address}gradio_api/upload", body,
            {"Content-Type": f"multipart/form-data; boundary={boundary}"},
        )  # fmt: skip
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request)
        assert refused.value.code in (400, 413)


# ----------------------------------------------------------------------------------- in Chromium --


@pytest.fixture
def browser(tmp_path: Path):
    """Chromium without a window; screenshots go to FASTNST_SCREENSHOTS, or nowhere."""
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
    folder = os.environ.get("FASTNST_SCREENSHOTS")
    if folder:
        window.save_screenshot(str(Path(folder, f"{name}.png")))


@pytest.mark.slow
def test_upload_start_watch_stop_resume_download(tmp_path: Path, photo, browser) -> None:
    content, style = photo("content.png", 120, 90), photo("style.jpg", 90, 90, seed=1)
    with server(tmp_path) as (address, _):
        browser.get(address)

        def find(selector: str):
            return browser.find_element("css selector", selector)

        def text(selector: str) -> str:
            return find(selector).text

        until(lambda: find("#start"))
        screenshot(browser, "1-page")
        for name, path in (("content", content), ("style", style)):
            find(f"#{name} input[type=file]").send_keys(str(path))
            until(lambda name=name: find(f"#{name} img").get_attribute("src"))
        number = find("#size input[type=number]")
        number.clear()
        number.send_keys("96\t")
        number = find("#iterations input[type=number]")
        number.clear()
        number.send_keys("1000\t")
        until(lambda: find("#start").is_enabled())
        find("#start").click()
        seen = set()
        until(lambda: seen.add(find("#picture").get_attribute("src")) or len(seen) >= 4)
        assert "iteration" in text("#status")
        screenshot(browser, "2-running")
        find("#stop").click()
        until(lambda: text("#status").startswith("stopped: 96×72"))
        stopped = int(re.search(r"(\d+) iterations", text("#status"))[1])
        assert 0 < stopped < 1000
        screenshot(browser, "3-stopped")

        link = until(lambda: find("#download"))
        assert link.get_attribute("download") == "fastnst.png"
        data = base64.b64decode(link.get_attribute("href").partition("base64,")[2])
        with Image.open(io.BytesIO(data)) as image:
            record = json.loads(image.text["fastnst"])
            assert image.size == (96, 72)
            assert np.asarray(image).std() > 10  # a picture, not a flat colour
        assert record["settings"]["size"] == 96
        assert record["iterations"] == stopped

        find("#resume").click()
        until(lambda: text("#status").startswith("iteration"))
        assert int(re.search(r"iteration (\d+)", text("#status"))[1]) >= stopped
        find("#stop").click()
        until(lambda: text("#status").startswith("stopped"))
        assert int(re.search(r"(\d+) iterations", text("#status"))[1]) > stopped

        browser.switch_to.new_window("window")  # a second visitor
        browser.get(address)
        until(lambda: find("#start"))
        assert not browser.find_elements("css selector", "#picture")
        assert not browser.find_elements("css selector", "#download")
        find("#resume").click()
        until(lambda: "no stopped run to resume" in find("body").text)
        screenshot(browser, "4-second-visitor")


@pytest.mark.slow
def test_preview_shows_a_running_job(tmp_path: Path, photo, browser) -> None:
    pytest.importorskip("gradio")
    process = subprocess.Popen(
        [sys.executable, "-m", "fastnst", "stylize", str(photo("c.png")), str(photo("s.png", seed=1)),
         "-o", str(tmp_path / "out.png"), "--size", "64", "--iterations", "100000", "--preview"],
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
        assert process.wait(30) == 130
        with Image.open(tmp_path / "out.png") as image:
            assert image.width == 64
    finally:
        process.kill()
