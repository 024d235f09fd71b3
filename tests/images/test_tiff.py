"""TIFF files of every layout, against pixels that are known."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from fastnst.errors import InvalidInput
from fastnst.images import tiff
from fastnst.images.decode import load_image, open_image
from fastnst.images.levels import white_of_floats
from helpers.pictures import smooth

DEEP = np.random.default_rng(3).integers(0, 65536, (11, 7, 3)).astype(np.uint16)
DEEP[0, 0] = 65535


def save(path: Path, values: np.ndarray, **options) -> Path:
    tifffile.imwrite(path, values, metadata=None, **options)
    return path


@pytest.mark.parametrize("compression", [None, "zlib", "packbits"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_sixteen_bits_in_every_layout(
    tmp_path: Path, planar: str, byteorder: str, compression: str | None
) -> None:
    if compression == "packbits":
        pytest.importorskip("imagecodecs", reason="tifffile writes packbits with imagecodecs")
    stored = DEEP if planar == "contig" else np.moveaxis(DEEP, -1, 0)
    path = save(
        tmp_path / "a.tif", stored, photometric="rgb", planarconfig=planar, byteorder=byteorder,
        compression=compression, rowsperstrip=4,
    )  # fmt: skip
    np.testing.assert_allclose(load_image(path), DEEP / 65535.0, atol=1e-7)  # float32


def test_sixteen_bits_by_libtiff(tmp_path: Path) -> None:
    """LZW, which most programs write: all 16 bits without a further package."""
    pytest.importorskip("imagecodecs", reason="tifffile writes LZW with imagecodecs")
    for byteorder in "<>":
        path = save(
            tmp_path / "a.tif", DEEP, photometric="rgb", compression="lzw", predictor=True,
            byteorder=byteorder,
        )  # fmt: skip
        np.testing.assert_allclose(load_image(path), DEEP / 65535.0, atol=1e-7)
        grey = save(tmp_path / "g.tif", DEEP[..., 0], compression="lzw", byteorder=byteorder)
        np.testing.assert_allclose(load_image(grey)[..., 1], DEEP[..., 0] / 65535.0, atol=1e-7)


def test_lzw_in_separate_planes_needs_a_package_and_says_so(tmp_path: Path, monkeypatch) -> None:
    pytest.importorskip("imagecodecs")
    path = save(
        tmp_path / "a.tif", np.moveaxis(DEEP, -1, 0), photometric="rgb", planarconfig="separate",
        compression="lzw",
    )  # fmt: skip
    np.testing.assert_allclose(load_image(path), DEEP / 65535.0, atol=1e-7)
    monkeypatch.setattr(tiff.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InvalidInput, match=r"a\.tif is compressed .*; save it as a 16-bit TIFF"):
        load_image(path)


def test_white_is_zero_in_eight_and_sixteen_bits(tmp_path: Path) -> None:
    for kind, white in ((np.uint8, 255), (np.uint16, 65535)):
        values = np.array([[0, 1000 % white, white]], kind)
        path = save(tmp_path / "a.tif", values, photometric="miniswhite")
        np.testing.assert_allclose(load_image(path)[..., 0], 1 - values / white, atol=1e-7)


def test_thirty_two_bits_are_scaled_by_their_range(tmp_path: Path) -> None:
    values = np.array([[0, 1 << 31, (1 << 32) - 1]], np.uint32)
    got = load_image(save(tmp_path / "a.tif", values, photometric="minisblack"))
    np.testing.assert_allclose(got[0, :, 0], [0, 0.5, 1], atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("white", [1, 255])
def test_floats_over_one_and_over_255(tmp_path: Path, dtype, white: int) -> None:
    values = (smooth(9, 8).astype(np.float64) / 255 * white).astype(dtype)
    values[0, 0] = white
    path = save(tmp_path / "a.tif", values, photometric="rgb")
    np.testing.assert_allclose(load_image(path), values.astype(np.float64) / white, atol=1e-6)
    grey = save(tmp_path / "g.tif", values[..., 0], photometric="minisblack")
    np.testing.assert_allclose(load_image(grey)[..., 2], values[..., 0] / white, atol=1e-3)


@pytest.mark.parametrize("values", [[0.0, 3.5], [-0.5, 1.0], [0.0, 1000.0], [0.0, np.nan]])
def test_floats_that_cannot_be_told_are_refused(tmp_path: Path, values: list[float]) -> None:
    path = save(tmp_path / "a.tif", np.array([values], np.float32), photometric="minisblack")
    with pytest.raises(InvalidInput, match=r"a\.tif holds (floats from .*16-bit|NaN)"):
        load_image(path)


def test_signed_and_complex_numbers_are_refused(tmp_path: Path) -> None:
    for kind in (np.int16, np.int32, np.complex64):
        path = save(tmp_path / "a.tif", np.ones((2, 3), kind), photometric="minisblack")
        with pytest.raises(InvalidInput, match=r"a\.tif holds .*what is white; save it as"):
            load_image(path)


@pytest.mark.parametrize(
    ("top", "tag", "white"),
    [(4095, None, 4095), (1023, None, 1023), (200, None, 65535), (4096, None, 65535),
     (9000, 16383, 16383), (17000, 16383, 65535)],
)  # fmt: skip
def test_fewer_bits_in_words_of_sixteen(tmp_path: Path, top: int, tag, white: int) -> None:
    values = np.array([[0, top // 2, top]], np.uint16)
    extra = [] if tag is None else [(281, "H", 1, tag, True)]
    path = save(tmp_path / "a.tif", values, photometric="minisblack", extratags=extra)
    np.testing.assert_allclose(load_image(path)[0, :, 0], values[0] / white, atol=1e-7)


def test_twelve_bits_packed(tmp_path: Path) -> None:
    """Two samples in three bytes, the first in the upper bits (TIFF 6.0, FillOrder 1)."""
    pytest.importorskip("imagecodecs", reason="tifffile unpacks 12 bits with imagecodecs")
    a, b = 0xABC, 0x123
    data = bytes((a >> 4, (a & 15) << 4 | b >> 8, b & 255))
    (tmp_path / "a.tif").write_bytes(tiff_file(2, 1, 12, data))
    np.testing.assert_allclose(
        load_image(tmp_path / "a.tif")[0, :, 0], [a / 4095, b / 4095], atol=1e-7
    )


def test_alpha(tmp_path: Path) -> None:
    values = np.full((1, 2, 4), 65535, np.uint16)
    values[0, :, 0] = 32768
    values[0, 1, 3] = 13107  # a fifth
    straight = save(tmp_path / "a.tif", values, photometric="rgb", extrasamples=["unassalpha"])
    np.testing.assert_allclose(load_image(straight)[0], [[0.5, 1, 1], [0.9, 1, 1]], atol=1e-4)
    values[0, 1, :3] = [6554, 13107, 13107]  # multiplied by it
    bound = save(tmp_path / "b.tif", values, photometric="rgb", extrasamples=["assocalpha"])
    np.testing.assert_allclose(load_image(bound)[0], [[0.5, 1, 1], [0.9, 1, 1]], atol=1e-4)
    spare = save(tmp_path / "c.tif", values, photometric="rgb", extrasamples=["unspecified"])
    np.testing.assert_allclose(load_image(spare)[0], values[0, :, :3] / 65535.0, atol=1e-7)


@pytest.mark.parametrize("deep", [False, True])
def test_the_full_picture_behind_a_thumbnail(tmp_path: Path, deep: bool) -> None:
    eight = smooth(40, 30)
    full = eight.astype(np.uint16) * 257 if deep else eight
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(full[::5, ::5].copy(), photometric="rgb", subfiletype=1, metadata=None)
        file.write(full, photometric="rgb", metadata=None)
        file.write(full[:9].copy(), photometric="rgb", metadata=None)  # a second page
    with open_image(tmp_path / "a.tif") as opened:
        assert opened.size == (40, 30)
    np.testing.assert_allclose(load_image(tmp_path / "a.tif"), eight / 255.0, atol=1e-6)


@pytest.mark.parametrize("turned", range(1, 9))
@pytest.mark.parametrize(("deep", "compression"), [(False, None), (True, None), (True, "lzw")])
def test_orientation(tmp_path: Path, turned: int, deep: bool, compression: str | None) -> None:
    if compression is not None:
        pytest.importorskip("imagecodecs", reason="tifffile writes LZW with imagecodecs")
    eight = smooth(9, 6)
    stored = eight.astype(np.uint16) * 257 if deep else eight
    path = save(
        tmp_path / "a.tif", stored, photometric="rgb", compression=compression,
        extratags=[(274, "H", 1, turned, True)],
    )  # fmt: skip
    ways = [None, Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.ROTATE_180,
            Image.Transpose.FLIP_TOP_BOTTOM, Image.Transpose.TRANSPOSE, Image.Transpose.ROTATE_270,
            Image.Transpose.TRANSVERSE, Image.Transpose.ROTATE_90]  # fmt: skip
    way = ways[turned - 1]
    image = Image.fromarray(eight)
    shown = np.asarray(image if way is None else image.transpose(way), np.float32) / 255
    np.testing.assert_allclose(load_image(path), shown, atol=1e-6)
    with open_image(path) as opened:
        assert opened.size == shown.shape[1::-1]


def test_raw_photographs_are_told(tmp_path: Path) -> None:
    grey = np.zeros((4, 5), np.uint16)
    dng = save(
        tmp_path / "a.tif",
        grey,
        photometric="minisblack",
        extratags=[(50706, "B", 4, (1, 4, 0, 0), True)],
    )
    with pytest.raises(InvalidInput, match=r"a\.tif is a raw photograph: develop it"):
        load_image(dng)


def test_a_strip_that_inflates_beyond_its_picture_is_refused(tmp_path: Path) -> None:
    bomb = zlib.compress(b"\0" * (64 << 20), 9)  # 64 KB that become 64 MB, for two pixels
    (tmp_path / "a.tif").write_bytes(tiff_file(2, 1, 16, bomb, compression=8))
    with pytest.raises(InvalidInput, match="holds more data than its picture has"):
        load_image(tmp_path / "a.tif")


def test_a_strip_that_claims_more_bytes_than_the_file_is_refused(tmp_path: Path) -> None:
    for compression in (1, 8):
        data = tiff_file(2, 1, 16, b"\0" * 4, compression)
        claimed = data.replace(
            struct.pack("<HHII", 279, 4, 1, 4), struct.pack("<HHII", 279, 4, 1, 1 << 31)
        )
        assert claimed != data
        (tmp_path / "a.tif").write_bytes(claimed)
        with pytest.raises(InvalidInput, match=r"a\.tif cannot be read: it is cut short"):
            load_image(tmp_path / "a.tif")


def test_a_gigantic_tiff_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    for bits in (8, 16):
        (tmp_path / "a.tif").write_bytes(tiff_file(200_000, 200_000, bits, b"\0" * 64))
        with pytest.raises(InvalidInput, match=r"a\.tif has more than 179 megapixels"):
            load_image(tmp_path / "a.tif")


def tiff_file(width: int, height: int, bits: int, strip: bytes, compression: int = 1) -> bytes:
    """A little-endian grey TIFF of one strip, by the book (TIFF 6.0)."""
    entries = [(256, 4, width), (257, 4, height), (258, 3, bits), (259, 3, compression), (262, 3, 1),  # noqa: E501
               (273, 4, 8), (277, 3, 1), (278, 4, height), (279, 4, len(strip))]  # fmt: skip
    padded = strip + b"\0" * (len(strip) % 2)
    out = io.BytesIO()
    out.write(struct.pack("<2sHI", b"II", 42, 8 + len(padded)) + padded)
    out.write(struct.pack("<H", len(entries)))
    for tag, kind, value in entries:
        out.write(struct.pack("<HHII", tag, kind, 1, value))
    out.write(struct.pack("<I", 0))
    return out.getvalue()


@pytest.mark.parametrize(
    ("smallest", "largest", "white"),
    [(-0.003, 1.003, 1), (-0.9, 255.9, 255), (0, 64, 255), (-0.9, 64, None), (-0.005, 1, None)],
)
def test_what_resampling_adds_does_not_count(
    smallest: float, largest: float, white: float | None
) -> None:
    """A level of 8 bits beyond black and white, which grows with what is white."""
    if white is not None:
        assert white_of_floats(smallest, largest) == white
        return
    with pytest.raises(InvalidInput, match="cannot be told what is white"):
        white_of_floats(smallest, largest)
