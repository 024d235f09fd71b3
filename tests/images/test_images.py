"""Pictures in and out."""

from __future__ import annotations

import errno
import io
import os
import shutil
import struct
import tempfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from fastnst import load_pictures
from fastnst.errors import InvalidInput, OutputFailed
from fastnst.images import encode
from fastnst.images.colour import match_colours
from fastnst.images.decode import load_image, open_image
from fastnst.images.encode import save_image
from fastnst.images.outputs import check_output
from fastnst.images.pixels import resize, scaled_size, to_tensor
from fastnst.inputs.pictures import white_noise
from fastnst.settings.settings import Settings
from helpers.pictures import huge_png, smooth

PIXELS = smooth(40, 30).astype(np.float32) / 255


@pytest.mark.parametrize(
    ("suffix", "tolerance"),
    [(".png", 0), (".bmp", 0), (".tif", 0), (".tiff", 0), (".jpg", 0.02), (".jpeg", 0.02),
     (".webp", 0.03)],
)  # fmt: skip
def test_every_format_comes_back(tmp_path: Path, suffix: str, tolerance: float) -> None:
    path = save_image(PIXELS, tmp_path / f"a{suffix}")
    back = load_image(path)
    assert back.shape == PIXELS.shape
    assert back.dtype == np.float32
    # lossless formats to the bit; the others to what quality 95 leaves, root mean square
    assert np.sqrt(np.square(back - PIXELS).mean()) <= tolerance
    assert os.listdir(tmp_path) == [path.name]


def test_sixteen_bit_png_holds_sixteen_bits(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (5, 7, 3)).astype(np.uint16)
    path = save_image(
        np.asfortranarray(values.astype(np.float32) / 65535),  # as a tensor's pixels lie in memory
        tmp_path / "a.png",
        16,
        {"k": "é"},
    )
    data, position, chunks = path.read_bytes(), 8, {}
    while position < len(data):
        (length,) = struct.unpack(">I", data[position : position + 4])
        kind, body = data[position + 4 : position + 8], data[position + 8 : position + 8 + length]
        (checksum,) = struct.unpack(">I", data[position + 8 + length : position + 12 + length])
        assert checksum == zlib.crc32(kind + body)
        chunks[kind] = body
        position += 12 + length
    assert struct.unpack(">IIBB", chunks[b"IHDR"][:10]) == (7, 5, 16, 2)
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(5, 1 + 7 * 6)
    assert set(rows[:, 0]) == {2}
    decoded = np.cumsum(rows[:, 1:], axis=0, dtype=np.uint8).view(">u2").reshape(5, 7, 3)
    assert np.array_equal(decoded, values)
    with Image.open(path) as image:  # and other readers can read it
        assert image.text == {"k": "é"}
        assert np.array_equal(np.asarray(image.convert("RGB")), values >> 8)


def test_sixteen_bit_tiff_holds_sixteen_bits(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (5, 7, 3)).astype(np.uint16)
    path = save_image(values.astype(np.float32) / 65535, tmp_path / "a.tiff", 16)
    data = path.read_bytes()
    with Image.open(path) as image:
        assert image.size == (7, 5)
        tags = dict(image.tag_v2)
        assert np.abs(np.asarray(image).astype(int) - (values >> 8)).max() <= 1
    assert tags[258] == (16, 16, 16)
    at, length = tags[273][0], tags[279][0]
    strip = np.frombuffer(zlib.decompress(data[at : at + length]), "<u2").reshape(5, 7, 3)
    assert np.array_equal(strip, values)


def test_exif_rotation(tmp_path: Path) -> None:
    image = Image.fromarray(smooth(40, 30))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn 90° clockwise to show
    image.save(tmp_path / "a.png", exif=exif)
    expected = np.asarray(image.rotate(-90, expand=True), np.float32) / 255
    assert np.array_equal(load_image(tmp_path / "a.png"), expected)


def test_alpha_is_composited_on_white(tmp_path: Path) -> None:
    rgba = np.zeros((2, 2, 4), np.uint8)
    rgba[0, 0] = (255, 0, 0, 255)
    rgba[0, 1] = (0, 0, 0, 0)
    rgba[1, 0] = (0, 0, 0, 51)
    Image.fromarray(rgba).save(tmp_path / "a.png")
    got = load_image(tmp_path / "a.png")
    assert got[0, 0].tolist() == [1, 0, 0]
    assert got[0, 1].tolist() == [1, 1, 1]
    np.testing.assert_allclose(got[1, 0], 0.8, atol=1 / 255)
    np.testing.assert_allclose(load_image(rgba), got, atol=1 / 255)


def test_palette_with_transparency(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 0, 0])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "a.png", transparency=0)
    got = load_image(tmp_path / "a.png")
    assert got[0, 0].tolist() == [1, 1, 1]
    np.testing.assert_allclose(got[0, 1] * 255, [200, 0, 0])


def test_grey_sixteen_bit_and_one_bit(tmp_path: Path) -> None:
    values = np.linspace(0, 65535, 12).astype(np.uint16).reshape(3, 4)
    for name in ("a.png", "a.tiff"):
        Image.fromarray(values).save(tmp_path / name)
        got = load_image(tmp_path / name)
        np.testing.assert_allclose(got, (values / 65535.0)[..., None].repeat(3, 2), atol=1e-6)
    Image.fromarray(values.astype(np.float32) / 65535).save(tmp_path / "f.tiff")
    np.testing.assert_allclose(load_image(tmp_path / "f.tiff")[..., 0], values / 65535, atol=1e-6)
    Image.new("L", (3, 2), 51).save(tmp_path / "l.png")
    np.testing.assert_allclose(load_image(tmp_path / "l.png"), 0.2, atol=1e-6)
    Image.new("1", (3, 2), 1).save(tmp_path / "b.png")
    assert load_image(tmp_path / "b.png").tolist() == np.ones((2, 3, 3)).tolist()


def test_cmyk(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "a.tiff")
    np.testing.assert_allclose(load_image(tmp_path / "a.tiff")[0, 0], [1, 0, 0], atol=0.02)
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=95)
    np.testing.assert_allclose(load_image(tmp_path / "a.jpg")[0, 0], [1, 0, 0], atol=0.02)


def test_icc_profiles_are_converted_to_srgb(tmp_path: Path) -> None:
    image = Image.new("RGB", (4, 4), (120, 60, 200))
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image.save(tmp_path / "same.png", icc_profile=srgb)
    np.testing.assert_allclose(
        load_image(tmp_path / "same.png")[0, 0] * 255, [120, 60, 200], atol=1
    )
    # the same profile with the red and blue primaries exchanged: red and blue must swap
    swapped = bytearray(srgb)
    count = struct.unpack(">I", swapped[128:132])[0]
    names = {bytes(swapped[132 + 12 * i : 136 + 12 * i]): 132 + 12 * i for i in range(count)}
    red, blue = names[b"rXYZ"], names[b"bXYZ"]
    swapped[red : red + 4], swapped[blue : blue + 4] = b"bXYZ", b"rXYZ"
    image.save(tmp_path / "swapped.png", icc_profile=bytes(swapped))
    np.testing.assert_allclose(
        load_image(tmp_path / "swapped.png")[0, 0] * 255, [200, 60, 120], atol=4
    )
    image.save(tmp_path / "broken.png", icc_profile=b"nonsense")
    np.testing.assert_allclose(load_image(tmp_path / "broken.png")[0, 0] * 255, [120, 60, 200])


def test_arrays_tensors_and_pil_images() -> None:
    eight = smooth(40, 30)
    for same in (eight, PIXELS, Image.fromarray(eight), to_tensor(PIXELS), to_tensor(PIXELS)[0],
                 PIXELS.astype(np.float64), (eight.astype(np.uint16) * 257)):  # fmt: skip
        np.testing.assert_allclose(load_image(same), PIXELS, atol=1e-6)
    grey = load_image(PIXELS[..., 0])
    assert grey.shape == (30, 40, 3)
    assert np.array_equal(grey[..., 2], PIXELS[..., 0])
    assert load_image(torch.ones(1, 2, 3, dtype=torch.bfloat16)).shape == (2, 3, 3)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.zeros((3, 4, 2)), r"shape \(3, 4, 2\)"),
        (np.zeros((0, 4, 3)), r"shape \(0, 4, 3\)"),
        (np.zeros((3, 4, 3), np.int32), "dtype int32"),
        (np.full((3, 4, 3), np.nan), "NaN"),
        (np.full((3, 4, 3), 2.0), "from 2 to 2"),
        (torch.zeros(2, 3, 4, 4), r"shape \(2, 3, 4, 4\)"),
    ],
)
def test_bad_arrays_are_named(bad, message: str) -> None:
    with pytest.raises(InvalidInput, match=f"content.*{message}"):
        load_image(bad, "content")


def test_resize() -> None:
    assert scaled_size(1024, 768, 256) == (256, 192)
    assert scaled_size(768, 1024, 256) == (192, 256)
    assert scaled_size(1000, 3, 100) == (100, 1)
    assert scaled_size(123, 45, 0) == (123, 45)
    constant = np.full((30, 40, 3), 0.3, np.float32)
    np.testing.assert_allclose(resize(constant, 13, 9), 0.3, atol=1e-6)
    eight = np.asarray(
        Image.fromarray(smooth(40, 30)).resize((17, 11), Image.Resampling.LANCZOS), np.float32
    )
    np.testing.assert_allclose(resize(PIXELS, 17, 11) * 255, eight, atol=1.01)  # its rounding


def test_the_loader_returns_three_tensors() -> None:
    wide, tall = smooth(64, 32), smooth(30, 60, seed=1)
    pictures = load_pictures(wide, tall, Settings(seed=5), 40)
    assert pictures.content.shape == (1, 3, 20, 40)
    assert pictures.style.shape == (1, 3, 40, 20)  # its own aspect ratio, the same long side
    assert torch.equal(pictures.start, white_noise(pictures.content, 5))
    assert not torch.equal(pictures.start, white_noise(pictures.content, 6))
    squashed = load_pictures(wide, tall, Settings(style_fit="content", init="content"), 40)
    assert squashed.style.shape == squashed.content.shape
    assert torch.equal(squashed.start, squashed.content)
    own = load_pictures(wide, tall, Settings(), 0)
    assert own.content.shape == (1, 3, 32, 64)


def test_start_from_a_picture(photo) -> None:
    path = photo("start.png", 20, 10, seed=3)
    pictures = load_pictures(smooth(64, 32), smooth(9, 9), Settings(init=str(path)), 0)
    assert pictures.start.shape == (1, 3, 32, 64)
    with pytest.raises(InvalidInput, match=r"init: nois does not exist.*noise, content or matched"):
        load_pictures(smooth(8, 8), smooth(9, 9), Settings(init="nois"), 0)


def test_matched_colours_have_the_mean_and_covariance_of_the_style() -> None:
    generator = torch.Generator().manual_seed(0)
    mix = torch.tensor([[0.05, 0.01, 0.0], [0.0, 0.04, 0.02], [0.01, 0.0, 0.03]])
    image = 0.5 + 0.1 * torch.randn(1, 3, 40, 50, generator=generator)
    style = 0.4 + (mix @ torch.randn(3, 900, generator=generator)).reshape(1, 3, 30, 30)
    matched = match_colours(image, style)[0].flatten(1)
    target = style[0].flatten(1)
    torch.testing.assert_close(matched.mean(1), target.mean(1), atol=1e-4, rtol=0)
    torch.testing.assert_close(
        torch.cov(matched, correction=0), torch.cov(target, correction=0), atol=2e-5, rtol=0
    )
    torch.testing.assert_close(match_colours(style, style), style, atol=1e-4, rtol=0)
    flat = match_colours(torch.full((1, 3, 4, 4), 0.2), style)  # a singular covariance
    assert torch.isfinite(flat).all()


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("missing.jpg", None, "does not exist"),
        ("empty.png", b"", "is empty"),
        ("text.jpg", b"these are words, not pixels\n" * 9, "not a picture"),
    ],
)
def test_bad_files(tmp_path: Path, name: str, data: bytes | None, message: str) -> None:
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(InvalidInput, match=f"{name} .*{message}"):
        load_image(tmp_path / name)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tiff", ".bmp"])
def test_truncated_files(tmp_path: Path, suffix: str) -> None:
    noise = np.random.default_rng(0).random((64, 64, 3), np.float32)
    path = save_image(noise, tmp_path / f"cut{suffix}")
    data = path.read_bytes()
    for share in (0.02, 0.3, 0.9):
        path.write_bytes(data[: int(len(data) * share)])
        with pytest.raises(InvalidInput, match=f"cut{suffix}") as caught:
            load_image(path)
        assert "\n" not in str(caught.value)


def test_a_folder_is_no_picture(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="is a folder"):
        load_image(tmp_path)


def test_a_gigantic_picture_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    path = huge_png(tmp_path / "huge.png", 20_000)
    with pytest.raises(InvalidInput, match=r"huge\.png has more than 179 megapixels"):
        load_image(path)


# --- output -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "bits", "message"),
    [
        ("out.jgp", 8, r"unknown picture format '\.jgp'"),
        ("out", 8, "unknown picture format ''"),
        ("none/out.png", 8, "does not exist"),
        ("out.jpg", 16, "no 16-bit colour"),
        ("out.png", 12, "expected 8 or 16"),
    ],
)
def test_bad_outputs_are_found_before_the_work(
    tmp_path: Path, name: str, bits: int, message: str
) -> None:
    with pytest.raises(InvalidInput, match=message):
        check_output(tmp_path / name, bits)


def test_an_output_that_is_a_folder_or_not_writable(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "d.png").mkdir()
    with pytest.raises(InvalidInput, match="is a folder"):
        check_output(tmp_path / "d.png")
    real = Path.touch

    def refuse(self, *args, **kwargs):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "touch", refuse)  # root may write anywhere, so act it out
    with pytest.raises(InvalidInput, match="Read-only file system"):
        check_output(tmp_path / "a.png")
    monkeypatch.setattr(Path, "touch", real)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(InvalidInput, match="not writable"):
        check_output(tmp_path / "a.png")


def test_too_little_space_is_found_before_the_work(tmp_path: Path, monkeypatch) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(InvalidInput, match="free in"):
        check_output(tmp_path / "a.png", needed=2000)


def test_a_disk_that_fills_up_leaves_the_old_file(tmp_path: Path, monkeypatch) -> None:
    target = tmp_path / "a.png"
    old = save_image(PIXELS, target).read_bytes()
    real = Path.write_bytes

    def half(self, data):
        real(self, data[: len(data) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(OutputFailed, match=r"a\.png could not be written: No space left"):
        save_image(PIXELS, target)
    monkeypatch.undo()
    assert target.read_bytes() == old
    assert os.listdir(tmp_path) == ["a.png"]


def test_save_image_checks_the_format_too(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="unknown picture format"):
        save_image(PIXELS, tmp_path / "a.xyz")
    with pytest.raises(InvalidInput, match="no 16-bit"):
        save_image(PIXELS, tmp_path / "a.jpg", 16)
    assert encode.FORMATS[".webp"] == "WEBP"


def test_space_is_checked_for_the_pixels_that_there_will_be(tmp_path: Path, monkeypatch) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=10_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    check_output(tmp_path / "a.png", size=(1500, 1500))  # 6.75 MB
    with pytest.raises(InvalidInput, match=r"10\.0 MB are free in .* may need 13\.7 MB"):
        check_output(tmp_path / "a.png", 16, size=(1500, 1500))


@pytest.mark.parametrize(("name", "most"), [("a.webp", 16383), ("a.jpg", 65500)])
def test_sides_that_a_format_does_not_have(tmp_path: Path, name: str, most: int) -> None:
    check_output(tmp_path / name, size=(most, 2))
    for size in ((most + 1, 2), (2, most + 1)):
        with pytest.raises(InvalidInput, match=rf"{name}: .* at most {most} pixels a side.*png"):
            check_output(tmp_path / name, size=size)
    wide = np.zeros((1, most, 3), np.float32)
    with Image.open(save_image(wide, tmp_path / name)) as image:
        assert image.size == (most, 1)
    with pytest.raises(InvalidInput, match=f"at most {most}"):
        save_image(np.zeros((1, most + 1, 3), np.float32), tmp_path / name)


def test_what_is_no_picture_is_not_overwritten(tmp_path: Path) -> None:
    for content in (b"import this\n", b"{}", b"\0" * 8 + b'{"__metadata__"', b"%!PS"):
        (tmp_path / "a.png").write_bytes(content)
        for attempt in (check_output, lambda path: save_image(PIXELS, path)):
            with pytest.raises(InvalidInput, match=r"a\.png exists and is no picture"):
                attempt(tmp_path / "a.png")
        assert (tmp_path / "a.png").read_bytes() == content
    (tmp_path / "a.png").write_bytes(b"")
    check_output(tmp_path / "a.png")
    save_image(PIXELS, tmp_path / "a.jpg").rename(tmp_path / "a.png")  # another picture is one
    check_output(tmp_path / "a.png")


def test_saving_to_an_open_file() -> None:
    for name in ("png", "PNG", ".tiff", "bmp"):
        buffer = io.BytesIO()
        assert save_image(PIXELS, buffer, format=name) is None
        np.testing.assert_array_equal(np.asarray(Image.open(buffer)) / np.float32(255), PIXELS)
    save_image(PIXELS, io.BytesIO(), 16, format="png")
    for name, bits, message in (
        (None, 8, "needs a format"),
        ("xyz", 8, "unknown"),
        ("jpg", 16, "16"),
    ):
        with pytest.raises(InvalidInput, match=message):
            save_image(PIXELS, io.BytesIO(), bits, format=name)


def test_a_finished_picture_is_saved_elsewhere(tmp_path: Path, monkeypatch) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    check_output(folder / "a.png")
    folder.rmdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(
        OutputFailed, match=r"a\.png could not be written: .*; it was saved as "
    ) as e:
        save_image(PIXELS, folder / "a.png")
    (kept,) = tmp_path.iterdir()
    assert str(e.value).endswith(f"saved as {kept} instead")
    np.testing.assert_array_equal(load_image(kept), PIXELS)


TENSOR = torch.linspace(0, 1, 3 * 5 * 4).reshape(3, 5, 4)


@pytest.mark.parametrize(
    "tensor",
    [
        TENSOR.to_sparse(),
        TENSOR.to("meta"),
    ],
    ids=["sparse", "meta"],
)
def test_tensors_that_have_no_plain_values_are_named(tensor) -> None:
    with pytest.raises(InvalidInput, match=r"content is (no dense tensor|a tensor without values)"):
        load_image(tensor, "content")


@pytest.mark.parametrize(
    "tensor",
    [
        torch._neg_view(-TENSOR),
        TENSOR.to(torch.float8_e5m2).float().to(torch.float8_e5m2),
        TENSOR.to(torch.bfloat16),
        torch.nn.Parameter(TENSOR),
        TENSOR.permute(0, 2, 1).contiguous().permute(0, 2, 1),
    ],
    ids=["negated view", "float8", "bfloat16", "parameter", "permuted"],
)
def test_every_tensor_with_values_is_its_values(tensor) -> None:
    expected = np.array(tensor.detach().float().permute(1, 2, 0).tolist(), np.float32)
    np.testing.assert_array_equal(load_image(tensor), expected)


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
def test_subclasses_of_arrays_are_arrays() -> None:
    grey = TENSOR[0].numpy()
    matrix = np.asmatrix(grey)  # which cannot have three axes
    expected = np.repeat(grey[..., None], 3, axis=2)
    np.testing.assert_array_equal(load_image(matrix), expected)
    np.testing.assert_array_equal(load_image(np.ma.masked_array(grey)), expected)
    assert type(load_image(matrix)) is np.ndarray


@pytest.mark.parametrize("place", [b"a.png", 5, object()])
def test_what_is_no_place_for_a_picture_is_named(place) -> None:
    with pytest.raises(InvalidInput, match="expected a path or a binary file"):
        save_image(TENSOR.permute(1, 2, 0).numpy(), place, format="png")


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "I;16"])
@pytest.mark.parametrize("orientation", [1, 6, 8])
def test_a_tiff_that_pillow_has_opened_is_the_file(
    tmp_path: Path, mode: str, orientation: int
) -> None:
    """Pillow maps one that is not compressed with the width that it has when it is turned."""
    image = Image.fromarray(smooth(60, 40)).convert("L" if mode == "I;16" else mode)
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.convert(mode).save(tmp_path / "a.tif", exif=exif)
    opened = Image.open(tmp_path / "a.tif")
    assert np.array_equal(load_image(opened), load_image(tmp_path / "a.tif"))
    assert opened.filename


@pytest.mark.parametrize("size", [None, "32", float("nan"), float("inf"), -1, True, 1.5])
def test_a_size_that_is_none_is_refused(size: object) -> None:
    grey = np.full((32, 32, 3), 0.5, np.float32)
    with pytest.raises(InvalidInput, match="size is"):
        load_pictures(grey, grey, Settings(), size)


@pytest.mark.parametrize("mode", ["PA", "LA", "La", "RGBA", "RGBa"])
def test_alpha_of_every_mode_shows_white(mode: str) -> None:
    image = Image.new("LA" if mode in ("LA", "La") else "RGBA", (3, 2))
    image.putpixel((0, 0), (40, 255) if image.mode == "LA" else (40, 40, 40, 255))
    pixels = load_image(image.convert(mode))
    np.testing.assert_allclose(pixels[0, 0], 40 / 255, atol=1e-6)
    np.testing.assert_array_equal(pixels[0, 1:], 1)
    np.testing.assert_array_equal(pixels[1], 1)


def test_a_picture_that_memory_has_no_room_for_is_named(photo) -> None:
    path = photo("a.png")
    message = r"a\.png needs more memory than there is$"
    with pytest.raises(InvalidInput, match=message), open_image(path):
        raise MemoryError
