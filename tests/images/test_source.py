"""What is opened, by its content: formats, pipes, names that the system refuses."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastnst.errors import InvalidInput
from fastnst.images import source
from fastnst.images.decode import load_image, open_image
from fastnst.images.formats import READ, identify
from fastnst.inputs.pictures import version
from helpers.pictures import smooth
from helpers.streams import on_stdin

EIGHT = smooth(24, 16)


def encoded(kind: str, **options) -> bytes:
    out = io.BytesIO()
    Image.fromarray(EIGHT).save(out, kind, **options)
    return out.getvalue()


@pytest.mark.parametrize(
    "kind", ["PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "AVIF", "PPM", "MPO"]
)
def test_a_picture_is_known_by_its_content(tmp_path: Path, kind: str) -> None:
    data = encoded(kind)
    (tmp_path / "words.txt").write_bytes(data)
    got = load_image(tmp_path / "words.txt")
    # lossy formats at their default quality: within 20 levels on average of a smooth picture
    assert np.abs(got * 255 - EIGHT).mean() < 20
    assert got.flags.writeable
    assert got.flags.c_contiguous
    assert identify(data[:1024]) == ("JPEG" if kind == "MPO" else kind)
    with open_image(tmp_path / "words.txt") as opened:
        assert opened.size == (24, 16)


def test_heic(tmp_path: Path, monkeypatch) -> None:
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    large = smooth(240, 160)
    Image.fromarray(large).save(tmp_path / "a.heic", quality=95)
    (tmp_path / "a.heic").rename(tmp_path / "a.jpg")
    # colour at half the resolution of a picture that is smooth over tens of pixels
    assert np.abs(load_image(tmp_path / "a.jpg") * 255 - large).mean() < 4

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InvalidInput, match=r"a\.jpg is HEIC.*pip install pillow-heif"):
        load_image(tmp_path / "a.jpg")


def test_the_first_frame_counts(tmp_path: Path) -> None:
    frames = [Image.fromarray(EIGHT), Image.fromarray(255 - EIGHT)]
    for name, options in (
        ("a.gif", {}),
        ("a.png", {}),
        ("a.webp", {"lossless": True}),
        ("a.tiff", {}),
    ):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **options)
        tolerance = 40 if name == "a.gif" else 0.01  # a palette of 256 colours
        assert np.abs(load_image(tmp_path / name) * 255 - EIGHT).max() < tolerance


REFUSED = [
    (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n{} loop\n", "PostScript"),
    (b"\xc5\xd0\xd3\xc6" + b"\0" * 30, "PostScript"),
    (b"%PDF-1.7\n", "PDF"),
    (b"<svg xmlns='x'/>", "SVG"),
    (b"<?xml version='1.0'?><!-- a --><svg/>", "SVG"),
    (b"8BPS\0\1", "Photoshop"),
    (b"\x76\x2f\x31\x01\2\0\0\0", "OpenEXR.*16-bit"),
    (b"#?RADIANCE\n", "Radiance HDR.*16-bit"),
    (b"PF\n1 1\n-1.0\n" + b"\0" * 12, "float picture.*16-bit"),
    (b"\xff\x0a\xfa\x1f", "JPEG XL"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
    (b"II*\0\x10\0\0\0CR\2\0", "raw photograph"),
    (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "raw photograph"),
    (b"\0\0\0\x18ftypisom\0\0\0\1isommp42", "video"),
    (b"<!DOCTYPE html><html>", "web page"),
    (b"PK\3\4", "ZIP"),
    (b"GIF90a", "not a picture"),
    (b"BM these are words", "not a picture"),
    (b"push graphic-context\nfill 'url(|\"touch x\")'\npop graphic-context", "not a picture"),
    (b"#!/bin/sh\ntouch x\n", "not a picture"),
    (b"\x1f\x8b\x08\0" + b"%!PS" * 9, "not a picture"),  # PostScript, compressed
    (b"\xd7\xcd\xc6\x9a" + b"\0" * 40, "not a picture"),  # a Windows metafile
    (b"/* XPM */\nstatic char *a[]={};", "not a picture"),
    (b"\x93NUMPY\1\0v\0{'descr': '|O'}\ncos\nsystem\n", "not a picture"),
    (b"\x89HDF\r\n\x1a\n", "not a picture"),
]


@pytest.mark.parametrize(("data", "what"), REFUSED)
def test_what_is_not_read_is_named_and_never_run(
    tmp_path: Path, monkeypatch, data: bytes, what: str
) -> None:
    def never(*args, **kwargs):
        raise AssertionError("a program was started")

    monkeypatch.setattr(subprocess, "Popen", never)
    monkeypatch.setattr(os, "system", never)
    (tmp_path / "photo.jpg").write_bytes(data)
    with pytest.raises(InvalidInput, match=rf"photo\.jpg is .*{what}") as caught:
        load_image(tmp_path / "photo.jpg")
    assert "\n" not in str(caught.value)


def test_an_opened_postscript_image_is_not_run_either(tmp_path: Path) -> None:
    (tmp_path / "a.eps").write_bytes(REFUSED[0][0])
    with Image.open(tmp_path / "a.eps") as image, pytest.raises(InvalidInput, match="PostScript"):
        load_image(image, "content")


def test_every_decoder_gets_its_own_format_only(tmp_path: Path, monkeypatch) -> None:
    asked = []
    real = Image.open
    monkeypatch.setattr(
        Image,
        "open",
        lambda file, mode="r", formats=None: (asked.append(formats), real(file, mode, formats))[1],
    )
    for kind in ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "AVIF", "PPM"):
        (tmp_path / "a").write_bytes(encoded(kind))
        load_image(tmp_path / "a")
    assert asked
    assert all(formats is not None and set(formats) <= set(READ) for formats in asked)


def test_pipes_are_read_like_files(tmp_path: Path) -> None:
    for kind in ("PNG", "TIFF", "JPEG"):
        pipe = tmp_path / f"pipe-{kind}"
        os.mkfifo(pipe)
        writer = threading.Thread(target=pipe.write_bytes, args=(encoded(kind),))
        writer.start()
        assert load_image(pipe).shape == (16, 24, 3)
        writer.join()
    for name in ("-", "/dev/stdin"):
        with on_stdin(encoded("PNG")):
            assert load_image(name).shape == (16, 24, 3)
    with on_stdin(b""), pytest.raises(InvalidInput, match="- is empty"):
        load_image("-")


def test_a_pipe_without_end_is_refused(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(source, "LARGEST", 1 << 20)
    os.mkfifo(tmp_path / "pipe")

    def write() -> None:
        with contextlib.suppress(BrokenPipeError):  # the reader has had enough
            (tmp_path / "pipe").write_bytes(b"\xff\xd8\xff" * (1 << 20))

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    with pytest.raises(InvalidInput, match="pipe has more than 1 MiB"):
        load_image(tmp_path / "pipe")


def test_names_that_the_system_refuses(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "file").write_bytes(b"x")
    for name in ("a" * 300, f"{tmp_path}/" + "d/" * 3000, "nul\0.png", tmp_path / "loop",
                 tmp_path / "file" / "a.png", "/dev/null", "/dev/zero", "/dev/full", "", "~nobody",
                 "https://example.org/a.png", "\udc80.png"):  # fmt: skip
        with pytest.raises(InvalidInput) as caught:
            load_image(name)
        assert "\n" not in str(caught.value)


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch) -> None:
    def refuse(*args):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "stat", refuse)  # root may read anything, so act it out
    with pytest.raises(InvalidInput, match=r"a\.png cannot be read: Permission denied"):
        load_image("a.png")


@pytest.mark.parametrize("name", ["a" * 300, "nul\0.png", "none.png"])
def test_a_name_that_the_system_refuses_has_a_version_too(name: str) -> None:
    assert version(name) == name


@pytest.mark.parametrize("kind", ["AVIF", "HEIF"])
def test_coded_colours_of_avif_and_heic(tmp_path: Path, kind: str) -> None:
    """The box colr of the numbers of H.273: P3 is converted, and what has no white is refused."""
    if kind == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    data = encoded(kind, quality=95)
    at = data.find(b"colrnclx")
    if at < 0:
        pytest.skip("this encoder writes no such box")
    path = tmp_path / "a.bin"

    def coded(primaries: int, transfer: int) -> np.ndarray:
        box = primaries.to_bytes(2, "big") + transfer.to_bytes(2, "big")
        path.write_bytes(data[: at + 8] + box + data[at + 12 :])
        return load_image(path)

    plain = coded(1, 13)
    assert np.abs(coded(12, 13) - plain).max() > 0.01
    for transfer, name in ((16, "PQ"), (18, "HLG")):
        with pytest.raises(InvalidInput, match=rf"is HDR \({name}\)"):
            coded(9, transfer)


def test_a_bmp_whose_fourth_byte_nobody_has_set(tmp_path: Path) -> None:
    rgba = np.dstack([EIGHT, np.zeros(EIGHT.shape[:2], np.uint8)])
    Image.fromarray(rgba, "RGBA").save(tmp_path / "a.bmp")
    assert np.array_equal((load_image(tmp_path / "a.bmp") * 255).round(), EIGHT)
