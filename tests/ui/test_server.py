"""The server of the page, as programs talk to it."""

from __future__ import annotations

import json
import os
import socket
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from fastnst import cli
from fastnst.settings.settings import Settings
from helpers.page import call, server
from helpers.pictures import smooth

pytest.importorskip("gradio")
from PIL import Image

from fastnst.ui import controls
from fastnst.ui.film_tab import to_film_controls
from fastnst.ui.sheet_tab import to_sheet_controls
from fastnst.video.options import FilmOptions, Selection


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def upload(address: str, name: str, data: bytes) -> str:
    """Upload a file; its path on the server."""
    body = (
        f'--x\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n'
        "Content-Type: image/png\r\n\r\n"
    ).encode() + data + b"\r\n--x--\r\n"  # fmt: skip
    request = urllib.request.Request(
        f"{address}gradio_api/upload", body, {"Content-Type": "multipart/form-data; boundary=x"}
    )
    with urllib.request.urlopen(request) as answer:
        return str(json.load(answer)[0])


def file(path: str) -> dict[str, Any]:
    return {"path": path, "meta": {"_type": "gradio.FileData"}}


@pytest.mark.slow
def test_a_visitor_gets_what_is_allowed_and_nothing_of_others(tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    Image.fromarray(smooth(48, 36)).save(secret)
    settings = Settings(size=48, iterations=2, style_layers=("relu1_1",))
    # the controls of the settings, of films and of sheets
    values = [
        *controls.to_controls(settings),
        *to_film_controls(Selection(), FilmOptions()),
        *to_sheet_controls((("strength", "0.5"),)),
    ]
    options = ("--max-megabytes", "1", "--size", "48", "--iterations", "2")
    with server(tmp_path, *options) as address:
        good, answer = call(address, "arrive", [None])
        assert good
        who = answer[0]

        picture = file(upload(address, "a.png", secret.read_bytes()))
        styles = [{"image": picture, "caption": None}]
        start = [who, picture, styles, None, None, None, None]  # clip, sheet's content, masks
        script = b"%!PS\n{} loop"
        refused = {
            "forged path": [who, file(str(secret)), *start[2:], *values],
            "forged style": [who, picture, [{"image": file("/etc/passwd")}], *start[3:], *values],
            "zero bytes": [who, file(upload(address, "b.png", b"")), *start[2:], *values],
            "PostScript": [who, file(upload(address, "c.jpg", script)), *start[2:], *values],
            "nothing": [who, *[None] * 6, *values],
            "another's token": ["guessed", *start[1:], *values],
            "a wrong type": [*start, *values[:1], "many", *values[2:]],
            "a list": [*start, [1, 2], *values[1:]],
            "too large": [*start, 4000, *values[1:]],
            "a file of the server": [*start, *values[:2], "/etc/passwd", *values[3:]],
        }  # fmt: skip
        for name, sent in refused.items():
            good, answer = call(address, "start", sent)
            assert not good, name
            assert str(tmp_path) not in str(answer), name
        for name in ("passwd", "../../../etc/passwd", f"../..{secret}"):
            with pytest.raises(urllib.error.HTTPError) as no:
                urllib.request.urlopen(f"{address}gradio_api/file={name}")
            assert no.value.code in (403, 404)
        with pytest.raises(urllib.error.HTTPError) as no:
            upload(address, "large.png", os.urandom(2_000_000))
        assert no.value.code in (400, 413)
        assert not call(address, "resume", [who, *[None] * 4])[0]
        assert call(address, "stop", [who, *[None] * 4])[0]  # before there is a run

        good, answer = call(address, "start", [*start, *values])
        assert good, answer
        second = call(address, "start", [*start, *values])  # at once: refused, unless it has ended
        assert not second[0] or "done" in str(second[1]) or "preparing" in str(second[1])
        deadline = time.monotonic() + 60
        while "done: 48×36, 2 iterations" not in str(answer):
            assert time.monotonic() < deadline, answer
            answer = call(address, "look", [who, *[None] * 4])[1]
            time.sleep(0.2)
        other = call(address, "arrive", [None])[1]
        assert other[0] != who
        assert "data:image/png" not in str(other)


@pytest.mark.slow
def test_a_proxy_is_no_hindrance(tmp_path: Path, monkeypatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "example.org")
    with server(tmp_path) as address:
        assert address.startswith("http")


@pytest.mark.slow
@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")
@pytest.mark.parametrize("host", ["::1", "[::1]"])
def test_ipv6(host: str, tmp_path: Path) -> None:
    with server(tmp_path, "--host", host) as address:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        assert opener.open(address).status == 200


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--max-size", "64", "--size", "65"], "--max-size is 64, less than --size, which is 65"),
        (["--max-size", "31"], "--max-size is 31: expected 32 or more"),
        (["--max-iterations", "10"], "--max-iterations is 10, less than --iterations"),
        (["--max-megabytes", "0"], "--max-megabytes is 0: expected 1 or more"),
        (["--style-weight", "much"], "style-weight"),
        (["--port", "99999999"], "--port is 99999999: expected 1 to 65535"),
        (["--max-megapixels", "nan"], "--max-megapixels is nan: expected 0.01 or more"),
        (["--max-megapixels", "300"], "--max-megapixels is 300: expected 178 or less"),
        (["--host", "no host"], "the page cannot be served at no host: "),
        (["--host", "a..b", "--port", "80"], "the page cannot be served at a..b, port 80: "),
        (["--port", "-1"], "--port is -1: expected 1 to 65535"),
    ],
)
def test_options_that_do_not_go_together_are_said_at_once(options, message, capsys) -> None:
    assert cli.run_app(["ui", "--no-browser", *options]) != 0
    assert message in capsys.readouterr().err
