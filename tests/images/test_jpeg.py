"""Photographs: their orientation, whatever else their EXIF block holds."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from fastnst.errors import InvalidInput
from fastnst.images.decode import load_image, open_image
from fastnst.images.exif import PREFIX, orientation, upright
from helpers.pictures import smooth

PICTURE = Image.fromarray(smooth(24, 16))
TYPES = {1: "B", 2: "s", 3: "H", 4: "I", 5: "II", 6: "b", 7: "s", 8: "h", 9: "i", 10: "ii", 11: "f",
         12: "d", 13: "I", 16: "Q"}  # fmt: skip


def jpeg(*segments: tuple[int, bytes]) -> bytes:
    """The picture, with segments of the given markers behind its first two bytes."""
    out = io.BytesIO()
    PICTURE.save(out, "JPEG", quality=95, subsampling=0)
    data = out.getvalue()
    added = b"".join(struct.pack(">BBH", 0xFF, m, len(s) + 2) + s for m, s in segments)
    return data[:2] + added + data[2:]


def block(*entries: tuple[int, int, int, bytes], order: str = "<") -> bytes:
    """An EXIF block of one directory: tag, type, count and the four bytes of each entry."""
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    body = b"".join(struct.pack(order + "HHI", *entry[:3]) + entry[3] for entry in entries)
    return PREFIX + head + struct.pack(order + "H", len(entries)) + body + b"\0" * 4


def turned(order: str = "<", value: int = 6) -> tuple[int, int, int, bytes]:
    return 0x0112, 3, 1, struct.pack(order + "HH", value, 0)


def load(tmp_path: Path, data: bytes) -> np.ndarray:
    (tmp_path / "a.jpg").write_bytes(data)
    return load_image(tmp_path / "a.jpg")


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("value", range(10))
def test_orientation(tmp_path: Path, value: int, order: str) -> None:
    plain = load(tmp_path, jpeg())
    got = load(tmp_path, jpeg((0xE1, block(turned(order, value), order=order))))
    ways = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE",
            6: "ROTATE_270", 7: "TRANSVERSE", 8: "ROTATE_90"}  # fmt: skip
    image = Image.fromarray((plain * 255).round().astype(np.uint8))
    if value in ways:
        image = image.transpose(Image.Transpose[ways[value]])
    assert np.array_equal(got, np.asarray(image, np.float32) / np.float32(255))
    with open_image(tmp_path / "a.jpg") as opened:
        assert opened.size == image.size


def test_every_other_tag_may_be_of_any_type(tmp_path: Path) -> None:
    plain = load(tmp_path, jpeg())
    tags = (0x010F, 0x011A, 0x011B, 0x0128, 0x0132, 0x0213, 0x8298, 0x8769, 0x8825, 0xC4A5, 0xFFFF)
    for tag in tags:
        for kind in range(18):
            for count in (0, 1, 3, 0xFFFFFFFF):
                odd = (tag, kind, count, b"\xff\0\1\xfe")
                data = block(turned(), odd) if tag > 0x0112 else block(odd, turned())
                got = load(tmp_path, jpeg((0xE1, data)))
                assert np.array_equal(got, np.rot90(plain, -1)), (tag, kind, count)


@pytest.mark.parametrize(("kind", "counts"), [(3, True), (4, True), (8, True), (9, True),
                                              (1, False), (2, False), (7, False), (99, False)])  # fmt: skip  # noqa: E501
def test_the_orientation_may_be_any_integer_but_only_one(kind: int, counts: bool) -> None:
    value = struct.pack(
        "<" + TYPES.get(kind, "s").replace("s", "4s"), 8 if kind not in (2, 7, 99) else b"\x08"
    )
    entry = (0x0112, kind, 1, value.ljust(4, b"\0"))
    assert orientation(block(entry)) == (8 if counts else 1)
    assert orientation(block((0x0112, kind, 2, value.ljust(4, b"\0")))) == 1


def test_an_orientation_beside_the_directory() -> None:
    for kind, value, expected in (
        (5, (6, 1), 6),
        (5, (13, 2), 1),
        (5, (6, 0), 1),
        (12, (3.0,), 3),
        (12, (float("nan"),), 1),
    ):
        data = struct.pack("<" + TYPES[kind], *value)
        at = 8 + 2 + 12 + 4
        assert orientation(block((0x0112, kind, 1, struct.pack("<I", at))) + data) == expected
    assert orientation(block((0x0112, 5, 1, struct.pack("<I", 9999)))) == 1


def test_what_is_no_valid_block_turns_nothing() -> None:
    whole = block(turned())
    assert orientation(whole) == orientation(whole.removeprefix(PREFIX)) == 6
    assert orientation(PREFIX + whole) == 1  # the header twice
    for data in (None, b"", b"Exif", PREFIX, PREFIX + b"XX*\0" + whole[10:], whole[:12]):
        assert orientation(data) == 1
    assert orientation(PREFIX + b"II*\0" + struct.pack("<I", 0xFFFFFFF0)) == 1


def test_metadata_is_not_looked_at(tmp_path: Path) -> None:
    plain = load(tmp_path, jpeg())
    for segment in ((0xFE, b"c" * 9), (0xE1, b"http://ns.adobe.com/xap/1.0/\0<x"), (0xED, b"Photoshop 3.0\0"),  # noqa: E501
                    (0xE2, b"MPF\0II*\0\xff\xff\xff\xff"), (0xE2, b"ICC_PROFILE\0\1\2half"), (0xE3, b"")):  # fmt: skip  # noqa: E501
        assert np.array_equal(load(tmp_path, jpeg(segment)), plain)


def test_a_profile_in_several_parts(tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    swapped = profile.replace(b"rXYZ", b"?XYZ").replace(b"bXYZ", b"rXYZ").replace(b"?XYZ", b"bXYZ")
    parts = [swapped[:200], swapped[200:]]
    segments = [(0xE2, b"ICC_PROFILE\0" + bytes((k, 2)) + part) for k, part in enumerate(parts, 1)]
    plain = load(tmp_path, jpeg())
    for order in (segments, segments[::-1]):
        got = load(tmp_path, jpeg(*order))
        np.testing.assert_allclose(got, plain[..., ::-1], atol=4 / 255)  # the curve's few steps
    assert np.array_equal(load(tmp_path, jpeg(segments[1])), plain)


def test_a_thousand_scans_are_refused(tmp_path: Path) -> None:
    out = io.BytesIO()
    PICTURE.save(out, "JPEG", progressive=True)
    data = out.getvalue()
    at = data.rindex(b"\xff\xda")
    with pytest.raises(InvalidInput, match=r"a\.jpg has more than 100 scans"):
        load(tmp_path, data[:at] + data[at:-2] * 1000 + data[-2:])


def test_upright_is_what_pillow_does() -> None:
    values = np.arange(6).reshape(2, 3)
    assert np.array_equal(upright(values, 5), values.T)
    assert np.array_equal(upright(values, 7), values[::-1, ::-1].T)


def test_what_follows_a_picture_has_no_scans(tmp_path: Path) -> None:
    """As the film does that a telephone puts behind a photograph."""
    assert np.array_equal(load(tmp_path, jpeg() + b"\xff\xda" * 1000), load(tmp_path, jpeg()))
    plain = jpeg()
    comment = b"\xff\xfe" + struct.pack(">H", 6) + b"\xff\xd9\xff\xd9"  # whose text ends nothing
    for count, fits in ((50, True), (200, False)):
        out = io.BytesIO()
        PICTURE.save(out, "JPEG", progressive=True)
        data = out.getvalue()
        first = data.index(b"\xff\xda")
        end = data.index(b"\xff\xda", first + 2)
        scans = data[:first] + (comment + data[first:end]) * count + data[first:]
        if fits:
            assert load(tmp_path, scans).shape == load(tmp_path, plain).shape
        else:
            with pytest.raises(InvalidInput, match="has more than 100 scans"):
                load(tmp_path, scans)


def test_scans_in_a_segment_that_means_nothing_are_counted(tmp_path: Path) -> None:
    """Markers below 0xC0 have no length: what follows is read, whatever the number says."""
    data = jpeg()
    at = data.rindex(b"\xff\xda")
    scans = data[at:-2] * 200
    hidden = b"\xff\x20" + struct.pack(">H", min(65_535, len(scans)))
    with pytest.raises(InvalidInput, match="has more than 100 scans"):
        load(tmp_path, data[:at] + data[at:-2] + hidden + scans + data[-2:])
