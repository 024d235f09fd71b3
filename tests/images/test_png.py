"""PNG files that say more of their colours than most, against pixels computed by hand."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from fastnst.errors import InvalidInput
from fastnst.images.decode import load_image
from fastnst.images.exif import PREFIX
from helpers.pictures import smooth

SRGB_OF_HALF = 1.055 * 0.5 ** (1 / 2.4) - 0.055  # IEC 61966-2-1
GREY, RGB, GREY_ALPHA, RGB_ALPHA = 0, 2, 4, 6


def png(values: np.ndarray, depth: int, kind: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of ``(H, W, C)`` samples, filter Up in every other row, chunks before its pixels."""
    height, width, _ = values.shape
    if depth == 16:
        rows = values.astype(">u2").reshape(height, -1).view(np.uint8)
    elif depth == 8:
        rows = values.astype(np.uint8).reshape(height, -1)
    else:
        bits = np.unpackbits(values.astype(np.uint8).reshape(height, -1, 1), axis=2)[..., -depth:]
        rows = np.packbits(bits.reshape(height, -1), axis=1)
    lines = []
    for y, row in enumerate(rows):
        lines.append(b"\2" + (row - rows[y - 1]).tobytes() if y % 2 else b"\0" + row.tobytes())
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    every = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(b"".join(lines))), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(b)) + n + b + struct.pack(">I", zlib.crc32(n + b)) for n, b in every
    )


def load(tmp_path: Path, data: bytes) -> np.ndarray:
    (tmp_path / "a.png").write_bytes(data)
    return load_image(tmp_path / "a.png")


def gama(value: float) -> tuple[bytes, bytes]:
    return b"gAMA", struct.pack(">I", round(value * 100_000))


@pytest.mark.parametrize(("kind", "channels"), [(GREY, 1), (RGB, 3)])
def test_all_sixteen_bits_are_read(tmp_path: Path, kind: int, channels: int) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (5, 7, channels))
    got = load(tmp_path, png(values, 16, kind))
    np.testing.assert_allclose(got, np.broadcast_to(values / 65535, got.shape), atol=1e-7)


@pytest.mark.parametrize(("kind", "channels"), [(GREY_ALPHA, 2), (RGB_ALPHA, 4)])
def test_all_sixteen_bits_of_alpha_too(tmp_path: Path, kind: int, channels: int) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (5, 7, channels))
    got = load(tmp_path, png(values, 16, kind))
    share = values / 65535
    expected = share[..., :-1] * share[..., -1:] + 1 - share[..., -1:]
    np.testing.assert_allclose(got, np.broadcast_to(expected, got.shape), atol=3e-7)


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize(("kind", "channels"), [(GREY, 1), (RGB, 3), (RGB_ALPHA, 4)])
def test_gamma(tmp_path: Path, depth: int, kind: int, channels: int) -> None:
    top = (1 << depth) - 1
    values = np.full((2, 2, channels), top)
    values[..., : 1 if channels < 3 else 3] = round(top / 2)
    got = load(tmp_path, png(values, depth, kind, gama(1.0)))
    np.testing.assert_allclose(got, SRGB_OF_HALF, atol=0.002 if depth == 8 else 2e-5)
    # twice the exponent 1/2.2: light is s^1.1
    values[..., : 1 if channels < 3 else 3] = top
    values[0] = 0
    if channels == 4:
        values[..., 3] = top
    got = load(tmp_path, png(values, depth, kind, gama(1 / 1.1)))
    np.testing.assert_allclose(got, [[[0] * 3] * 2, [[1] * 3] * 2], atol=1e-6)


def test_gamma_yields_to_srgb_and_to_profiles_and_to_the_usual_value(tmp_path: Path) -> None:
    values = smooth(8, 6)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    iccp = (b"iCCP", b"x\0\0" + zlib.compress(profile))
    for chunks in ([(b"sRGB", b"\0"), gama(1)], [iccp, gama(1)], [gama(0.45455)], [gama(0)]):
        got = load(tmp_path, png(values, 8, RGB, *chunks))
        np.testing.assert_allclose(got * 255, values, atol=1)


def test_primaries(tmp_path: Path) -> None:
    """Red and green exchanged; the same as sRGB's, which changes nothing to the bit."""
    values = smooth(8, 6)
    usual = (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
    swapped = (31270, 32900, 30000, 60000, 64000, 33000, 15000, 6000)
    got = load(tmp_path, png(values, 8, RGB, gama(0.45455), (b"cHRM", struct.pack(">8I", *usual))))
    assert np.array_equal(got, values.astype(np.float32) / np.float32(255))
    got = load(
        tmp_path, png(values, 8, RGB, gama(0.45455), (b"cHRM", struct.pack(">8I", *swapped)))
    )
    np.testing.assert_allclose(got * 255, values[..., [1, 0, 2]], atol=1e-3)
    # Rec. 2020's red lies outside sRGB; its white and black stay where they are
    wide = (31270, 32900, 70800, 29200, 17000, 79700, 13100, 4600)
    corners = np.array([[[255, 0, 0], [255, 255, 255], [0, 0, 0]]])
    got = load(tmp_path, png(corners, 8, RGB, gama(1), (b"cHRM", struct.pack(">8I", *wide))))
    np.testing.assert_allclose(got[0], [[1, 0, 0], [1, 1, 1], [0, 0, 0]], atol=1e-3)
    for impossible in ((0,) * 8, (31270, 0, *usual[2:]), (2**32 - 1,) * 8):
        chunk = (b"cHRM", struct.pack(">8I", *impossible))
        assert load(tmp_path, png(values, 8, RGB, chunk)).shape == values.shape


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_a_transparent_grey_of_any_depth(tmp_path: Path, depth: int) -> None:
    top = (1 << depth) - 1
    values = np.array([[[0], [top], [1 if depth > 1 else 0]]])
    key = (b"tRNS", struct.pack(">H", 0))
    got = load(tmp_path, png(values, depth, GREY, key))
    expected = [1, 1, 1 / top if depth > 1 else 1]
    np.testing.assert_allclose(got[0, :, 0], expected, atol=1e-6)


def test_a_transparent_colour_of_sixteen_bits(tmp_path: Path) -> None:
    values = np.array([[[513, 2, 3], [513, 2, 4]]])  # alike in their upper bytes
    got = load(tmp_path, png(values, 16, RGB, (b"tRNS", struct.pack(">3H", 513, 2, 3))))
    np.testing.assert_allclose(got[0], [[1, 1, 1], [513 / 65535, 2 / 65535, 4 / 65535]], atol=1e-7)


def test_text_and_profiles_of_any_length_do_not_matter(tmp_path: Path) -> None:
    values = smooth(8, 6)
    long = zlib.compress(b"x" * (80 << 20))
    for chunk in ((b"zTXt", b"k\0\0" + long), (b"iCCP", b"k\0\0" + long), (b"iCCP", b"broken"),
                  (b"tEXt", b"k\0" + b"y" * (3 << 20)), (b"eXIf", b"broken"), (b"gAMA", b"?"),
                  (b"iTXt", b"k\0\1\0\0\0" + long)):  # fmt: skip
        got = load(tmp_path, png(values, 8, RGB, chunk))
        np.testing.assert_allclose(got * 255, values, atol=1e-4)


def test_a_profile_on_a_palette(tmp_path: Path) -> None:
    """sRGB's profile with red and blue exchanged."""
    swapped = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = struct.unpack(">I", swapped[128:132])[0]
    names = {bytes(swapped[132 + 12 * i : 136 + 12 * i]): 132 + 12 * i for i in range(count)}
    red, blue = names[b"rXYZ"], names[b"bXYZ"]
    swapped[red : red + 4], swapped[blue : blue + 4] = b"bXYZ", b"rXYZ"
    image = Image.new("P", (2, 1))
    image.putpalette([120, 60, 200, 255, 0, 0])
    image.putpixel((1, 0), 1)
    for name in ("a.png", "a.gif", "a.tif"):
        image.save(tmp_path / name, icc_profile=bytes(swapped))
        if name == "a.gif":
            continue  # the writer leaves the profile out
        # 4 levels: the profile's curve is a table of few steps
        np.testing.assert_allclose(
            load_image(tmp_path / name)[0] * 255, [[200, 60, 120], [0, 0, 255]], atol=4
        )
    image.save(tmp_path / "t.png", icc_profile=bytes(swapped), transparency=1)
    got = load_image(tmp_path / "t.png")[0] * 255
    np.testing.assert_allclose(got, [[200, 60, 120], [255, 255, 255]], atol=4)
    image.convert("L").save(tmp_path / "l.png", icc_profile=bytes(swapped))  # greys stay grey
    got = load_image(tmp_path / "l.png")[0]
    np.testing.assert_allclose(got, got[:, :1].repeat(3, axis=1), atol=2 / 255)


def test_orientation_of_a_png(tmp_path: Path) -> None:
    block = struct.pack("<2sHIHHHIHHI", b"II", 42, 8, 1, 0x0112, 3, 1, 6, 0, 0)
    values = smooth(8, 6)
    for chunk in (block, PREFIX + block):
        got = load(tmp_path, png(values, 8, RGB, (b"eXIf", chunk)))
        np.testing.assert_allclose(got * 255, np.rot90(values, -1), atol=1e-4)


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
def test_hdr_is_refused(tmp_path: Path, transfer: int, name: str) -> None:
    chunk = b"cICP", bytes([9, transfer, 0, 1])
    with pytest.raises(InvalidInput, match=rf"is HDR \({name}\)"):
        load(tmp_path, png(np.full((2, 2, 3), 9), 16, RGB, chunk))
    usual = b"cICP", bytes([1, 13, 0, 1])  # sRGB
    plain = load(tmp_path, png(np.full((2, 2, 3), 9), 16, RGB))
    assert np.array_equal(load(tmp_path, png(np.full((2, 2, 3), 9), 16, RGB, usual)), plain)


def test_a_palette_that_is_missing(tmp_path: Path) -> None:
    for chunks in ((), ((b"PLTE", b""),)):
        with pytest.raises(InvalidInput, match="its palette is missing"):
            load(tmp_path, png(np.zeros((2, 2, 1)), 8, 3, *chunks))


def p3() -> bytes:
    """sRGB's profile with red and blue exchanged: another one, with its own curve."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile.replace(b"rXYZ", b"?XYZ").replace(b"bXYZ", b"rXYZ").replace(b"?XYZ", b"bXYZ")


def test_a_transparent_colour_is_that_of_the_file_not_of_its_profile(tmp_path: Path) -> None:
    profile = (b"iCCP", b"x\0\0" + zlib.compress(p3()))
    values = np.array([[[200, 60, 30], [10, 200, 30]]], np.uint8)
    key = (b"tRNS", struct.pack(">3H", 200, 60, 30))
    shown = load(tmp_path, png(values, 8, 2, profile))
    got = load(tmp_path, png(values, 8, 2, profile, key))
    assert (got[0, 0] == 1).all()  # on white
    assert np.array_equal(got[0, 1], shown[0, 1])
    grey = np.array([[[100], [200]]], np.uint8)
    got = load(tmp_path, png(grey, 8, 0, profile, (b"tRNS", struct.pack(">H", 100))))
    assert (got[0, 0] == 1).all()
    assert (got[0, 1] < 0.99).all()


def test_coded_primaries(tmp_path: Path) -> None:
    """A chunk cICP of Display P3 is what the same primaries in cHRM are; others change nothing."""
    values = np.array([[[200, 60, 30], [10, 200, 30]]], np.uint8)
    points = (0.3127, 0.3290, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060)
    chrm = (b"cHRM", struct.pack(">8I", *(round(100_000 * x) for x in points)))
    expected = load(tmp_path, png(values, 8, 2, chrm))
    plain = load(tmp_path, png(values, 8, 2))
    profile = (b"iCCP", b"x\0\0" + zlib.compress(p3()))
    wide = (b"cICP", bytes((12, 13, 0, 1)))
    assert not np.allclose(expected, plain, atol=0.02)
    for chunks in ((wide,), (wide, profile)):
        got = load(tmp_path, png(values, 8, 2, *chunks))
        np.testing.assert_allclose(got, expected, atol=1e-6)  # both in float64
    assert np.array_equal(load(tmp_path, png(values, 8, 2, (b"cICP", bytes((1, 13, 0, 1))))), plain)
    unknown = (b"cICP", bytes((12, 8, 0, 1)))  # linear light: the profile says more
    by_profile = load(tmp_path, png(values, 8, 2, profile))
    assert np.array_equal(load(tmp_path, png(values, 8, 2, unknown, profile)), by_profile)


def test_white_stays_white_in_other_primaries(tmp_path: Path) -> None:
    """Also where their white is another one, as that of print (D50): eyes adapt (Bradford)."""
    points = (0.3457, 0.3585, 0.7347, 0.2653, 0.1596, 0.8404, 0.0366, 0.0001)  # ProPhoto RGB
    chunk = (b"cHRM", struct.pack(">8I", *(round(100_000 * x) for x in points)))
    greys = np.array([255, 128, 0]).repeat(3).reshape(1, 3, 3)
    got = load(tmp_path, png(greys, 8, RGB, gama(0.45455), chunk))
    # chromaticities have five digits
    np.testing.assert_allclose(got, greys / 255, atol=2e-3)
