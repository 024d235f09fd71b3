"""Large pictures in: what libvips streams is what Pillow decodes."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import textwrap
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from fastnst.errors import BackendUnavailable, InvalidInput
from fastnst.images import large
from fastnst.images.decode import load_image
from fastnst.images.encode import save_image
from fastnst.images.large import open_large, open_rows
from fastnst.images.pixels import Pixels
from fastnst.strips.storage import MemoryStore, ScratchStore, Store
from helpers.pictures import huge_png, smooth

pyvips = pytest.importorskip("pyvips")

RGB = smooth(203, 131)
GREY = RGB[..., 0]
FOUR = np.dstack([RGB, smooth(203, 131, 3)[..., 0]])
LEVEL = 1 / 255


def _read(path: Path, store: Store | None = None) -> Pixels:
    source = open_large(path, store or MemoryStore())
    return np.concatenate([source.rows(0, 50), source.rows(50, source.height)])


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg"])
@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1"])
def test_every_format_and_mode(tmp_path: Path, suffix: str, mode: str) -> None:
    if mode in ("P", "1") and suffix == ".jpg":
        pytest.skip("the format has no such mode")
    path = tmp_path / f"a{suffix}"
    Image.fromarray(RGB).convert(mode).save(path)
    with ScratchStore(tmp_path) as store:
        got = _read(path, store)
    assert got.dtype == np.float32
    # JPEG decoders may differ by a level; the others have nothing to differ by
    np.testing.assert_allclose(got, load_image(path), rtol=0, atol=LEVEL * (suffix == ".jpg"))


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg"])
@pytest.mark.parametrize("orientation", [3, 6, 7])
def test_exif_rotation(tmp_path: Path, suffix: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a{suffix}"
    Image.fromarray(RGB).save(path, exif=exif)
    np.testing.assert_allclose(_read(path), load_image(path), atol=LEVEL * (suffix == ".jpg"))


@pytest.mark.parametrize(
    ("values", "mode", "suffix", "levels"),
    [
        (FOUR, "RGBA", ".png", 1),  # alpha is composited in whole levels, rounded in two ways
        (FOUR, "RGBA", ".tif", 1),
        (FOUR[..., 2:], "LA", ".png", 1),
        (FOUR, "CMYK", ".tif", 1),  # likewise the product of ink and black
        (FOUR, "CMYK", ".jpg", 2),
        (GREY.astype(np.uint16) * 256 + 7, "I;16", ".png", 0),
        (GREY.astype(np.uint16) * 256 + 7, "I;16", ".tif", 0),
        (GREY.astype(np.float32) / 255, "F", ".tif", 0),
        (GREY.astype(np.float32), "F", ".tif", 0),
    ],
)
def test_alpha_ink_and_depth(
    tmp_path: Path, values: np.ndarray[Any, Any], mode: str, suffix: str, levels: int
) -> None:
    path = tmp_path / f"a{suffix}"
    image = Image.fromarray(values, mode) if mode in ("LA", "CMYK") else Image.fromarray(values)
    assert image.mode == mode
    image.save(path)
    np.testing.assert_allclose(_read(path), load_image(path), rtol=0, atol=(levels + 1e-3) * LEVEL)


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_sixteen_bit_colour_keeps_sixteen_bits(tmp_path: Path, suffix: str) -> None:
    pixels = np.random.default_rng(0).random((31, 70, 3), dtype=np.float32)
    path = save_image(pixels, tmp_path / f"a{suffix}", 16)
    np.testing.assert_allclose(_read(path), pixels, rtol=0, atol=0.51 / 65535)


def test_profiles_are_converted_to_srgb(tmp_path: Path) -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    # the same profile with the red and blue primaries exchanged: red and blue must swap
    swapped = bytearray(srgb)
    red, blue = swapped.index(b"rXYZ"), swapped.index(b"bXYZ")
    swapped[red : red + 4], swapped[blue : blue + 4] = b"bXYZ", b"rXYZ"
    for name, profile in (("same", srgb), ("swapped", bytes(swapped)), ("broken", b"nonsense")):
        for suffix in (".png", ".jpg", ".tif"):
            path = tmp_path / f"{name}{suffix}"
            Image.fromarray(RGB).save(path, icc_profile=profile)
            # two versions of Little CMS, each rounding to 8 bits
            np.testing.assert_allclose(_read(path), load_image(path), atol=2.01 * LEVEL)
    assert np.abs(_read(tmp_path / "swapped.png") - RGB[..., ::-1] / 255).max() < 0.03
    # a profile for ink in a file of light does not fit and is ignored
    grey = Image.fromarray(GREY)
    grey.save(tmp_path / "grey.png", icc_profile=srgb)
    assert np.array_equal(_read(tmp_path / "grey.png")[..., 0], GREY / np.float32(255))


def _with_chunks(path: Path, *chunks: tuple[bytes, bytes]) -> None:
    """Put chunks before a PNG's pixels."""
    data = path.read_bytes()
    at = data.index(b"IDAT") - 4
    more = b"".join(
        struct.pack(">I", len(b)) + n + b + struct.pack(">I", zlib.crc32(n + b)) for n, b in chunks
    )
    path.write_bytes(data[:at] + more + data[at:])


def _swapped() -> bytes:
    """sRGB's profile with red and blue exchanged."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile.replace(b"rXYZ", b"?XYZ").replace(b"bXYZ", b"rXYZ").replace(b"?XYZ", b"bXYZ")


@pytest.mark.parametrize(
    ("write", "tolerance"),
    [
        ("thumbnail first", 0),
        ("12 bits", 1 / 65535),  # spread over all 16
        ("12 bits by its tag", 1 / 65535),
        ("12 bits, dark above", 1 / 65535),
        ("16 bits, dark above", 1e-6),
        ("12 bits with alpha", 2 / 65535),
        ("12 bits of grey, white is 0", 1 / 65535),
        ("12 bits of ink", 2 * LEVEL),  # which is read with 8
        ("12 bits and a profile", 3 * LEVEL),
        ("an extra channel without a meaning", 0),
        ("two extra channels", LEVEL),
        ("two channels without a meaning and a profile", 3 * LEVEL),
        ("premultiplied", 2 * LEVEL),  # both divide by alpha, and round
        ("gamma", LEVEL),
        ("gamma and alpha", LEVEL),
        ("gamma, grey and alpha", LEVEL),
        ("Display P3", LEVEL),
        ("Display P3 and a profile", LEVEL),
    ],
)
def test_what_a_file_says_of_itself_counts(tmp_path: Path, write: str, tolerance: float) -> None:
    deep = (smooth(203, 131).astype(np.uint16) << 4) | 7
    path = tmp_path / ("a.png" if write.startswith(("gamma", "Display")) else "a.tif")
    if path.suffix == ".png":
        profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        kept = {"icc_profile": profile.replace(b"rXYZ", b"gXYZ")} if "profile" in write else {}
        kinds = {"gamma and alpha": FOUR, "gamma, grey and alpha": FOUR[..., 2:]}
        Image.fromarray(kinds.get(write, RGB)).save(path, **kept)
        gamma = (b"gAMA", struct.pack(">I", 100_000))
        _with_chunks(path, gamma if write.startswith("gamma") else (b"cICP", bytes((12, 13, 0, 1))))
    else:
        with tifffile.TiffWriter(path) as file:
            if write == "thumbnail first":
                file.write(RGB[::4, ::4], photometric="rgb", subfiletype=1)
                file.write(RGB, photometric="rgb")
            elif write.startswith(("12 bits", "16 bits")):
                dark = np.where(np.arange(131)[:, None, None] < 70, deep >> 4, deep)
                top = [(281, "H", 1, 4000, True)] if "tag" in write else []
                four = np.dstack([deep, deep[..., 1]])
                values, kept = {
                    "12 bits, dark above": (dark, {}),
                    "16 bits, dark above": (dark << 4, {}),
                    "12 bits with alpha": (four, {"extrasamples": ["unassalpha"]}),
                    "12 bits of grey, white is 0": (deep[..., 0], {"photometric": "miniswhite"}),
                    "12 bits of ink": (four, {"photometric": "separated"}),
                    "12 bits and a profile": (deep, {"iccprofile": _swapped()}),
                }.get(write, (deep.clip(0, 4000), {}))
                file.write(values, **{"photometric": "rgb", "extratags": top, **kept})
            elif write == "premultiplied":
                alpha = FOUR[..., 3:] // 2 + 128
                colours = (FOUR[..., :3].astype(float) * alpha / 255).round().astype(np.uint8)
                four = np.concatenate([colours, alpha], axis=2)
                file.write(four, photometric="rgb", extrasamples=["assocalpha"])
            else:
                extra = ["unspecified"] if "an extra" in write else ["unassalpha", "unspecified"]
                values = FOUR if "an extra" in write else np.dstack([FOUR, GREY])
                profile = _swapped() if "profile" in write else None
                extra = ["unspecified"] * 2 if profile else extra
                file.write(values, photometric="rgb", extrasamples=extra, iccprofile=profile)
    whole = load_image(path)
    assert large.size_of(path) == (whole.shape[1], whole.shape[0]) == (203, 131)
    np.testing.assert_allclose(_read(path), whole, rtol=0, atol=tolerance + 1e-6)


def test_hdr_and_camera_data_are_refused(tmp_path: Path) -> None:
    Image.fromarray(RGB).save(tmp_path / "a.png")
    _with_chunks(tmp_path / "a.png", (b"cICP", bytes((9, 16, 0, 1))))
    with pytest.raises(InvalidInput, match=r"a\.png is HDR \(PQ\)"):
        open_large(tmp_path / "a.png", MemoryStore())
    tifffile.imwrite(tmp_path / "a.tif", GREY, extratags=[(50706, "B", 4, b"\1\4\0\0", True)])
    with pytest.raises(InvalidInput, match=r"a\.tif is a raw photograph"):
        open_large(tmp_path / "a.tif", MemoryStore())


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("no picture")
    Image.fromarray(RGB).save(tmp_path / "a.webp")
    (tmp_path / "damaged.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
    Image.fromarray((GREY - GREY.min()).astype(np.float32) * 200).save(tmp_path / "range.tif")
    Image.fromarray(np.full((9, 9), np.nan, np.float32)).save(tmp_path / "nan.tif")
    Image.fromarray(GREY.astype(np.int32)).save(tmp_path / "long.tif")
    for name, message in (
        ("none.png", "does not exist"),
        ("", "is a folder"),
        ("empty.png", "is empty"),
        ("text.png", "is read by rows only as a TIFF, PNG or JPEG file"),
        ("a.webp", "is read by rows only as a TIFF, PNG or JPEG file"),
        ("damaged.png", "is not a picture that can be read: it is damaged"),
        ("range.tif", r"range\.tif holds floats from 0 to .* of which it cannot be told"),
        ("nan.tif", r"nan\.tif holds NaN"),
        ("long.tif", r"long\.tif holds integers of more than 16 bits"),
    ):
        with pytest.raises(InvalidInput, match=message):
            open_large(tmp_path / name, MemoryStore())


@pytest.mark.parametrize(
    ("suffix", "reason"),
    [(".png", "libpng read error"), (".tif", "Read error"), (".jpg", "premature end")],
)
def test_truncated_files_are_one_line(tmp_path: Path, suffix: str, reason: str) -> None:
    path = tmp_path / f"a{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    done = _run(  # a process of its own: what libraries say goes to the terminal there
        """
        import sys
        from fastnst.errors import InvalidInput
        from fastnst.images.large import open_large
        from fastnst.strips.storage import MemoryStore
        try:
            open_large(sys.argv[1], MemoryStore())
        except InvalidInput as error:
            print(error)
        """,
        path,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("\n") == 1
    assert done.stdout.startswith(f"{path} cannot be read: {reason}")


def test_a_name_that_ends_in_brackets(tmp_path: Path) -> None:
    Image.fromarray(RGB).save(tmp_path / "a[page=2]", "PNG")
    assert np.array_equal(_read(tmp_path / "a[page=2]"), load_image(tmp_path / "a[page=2]"))


def test_more_pixels_than_were_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(RGB).save(path)
    with pytest.raises(InvalidInput, match="has more than 0.0266 megapixels: 0.0266; ask for"):
        open_large(path, MemoryStore(), largest=203 * 131 - 1)
    assert open_large(path, MemoryStore(), largest=203 * 131).height == 131
    bomb = huge_png(tmp_path / "bomb.png", 14_000)
    with pytest.raises(InvalidInput, match="has more than 179 megapixels: 196; ask"):
        open_large(bomb, MemoryStore())


def test_interlaced_pictures_are_read_unless_they_are_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(RGB).save(path, progressive=True)
    np.testing.assert_allclose(_read(path), load_image(path), atol=LEVEL)
    monkeypatch.setattr(large, "LARGEST", 1000)
    with pytest.raises(InvalidInput, match="is interlaced"):
        open_large(path, MemoryStore(), largest=10**9)


def test_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert large.unavailable_reason() is None
    monkeypatch.setitem(sys.modules, "pyvips", None)
    with pytest.raises(BackendUnavailable, match=r"pip install 'fastnst\[large\]'"):
        open_large(tmp_path / "a.png", MemoryStore())


def test_small_pictures_stay_in_memory_and_large_ones_go_to_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(RGB).save(tmp_path / "a.png")
    Image.fromarray(RGB).save(tmp_path / "a.bmp")  # which libvips does not read
    for picture in (tmp_path / "a.png", str(tmp_path / "a.bmp"), RGB, "sample:waves"):
        with ScratchStore(tmp_path) as store:
            source = open_rows(picture, store)
            assert np.array_equal(source.rows(0, source.height), load_image(picture))
            assert store.size == 0
    monkeypatch.setattr(large, "WHOLE", 203 * 131 - 1)
    with ScratchStore(tmp_path) as store:
        source = open_rows(tmp_path / "a.png", store)
        assert np.array_equal(source.rows(0, source.height), load_image(tmp_path / "a.png"))
        assert store.size == 203 * 131 * 3
        with pytest.raises(InvalidInput, match=r"a\.png has more than 1e-05 megapixels"):
            open_rows(tmp_path / "a.png", store, largest=10)
        with pytest.raises(InvalidInput, match=r"none\.png does not exist"):
            open_rows(tmp_path / "none.png", store)


def test_pillows_limit_is_named_without_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyvips", None)
    Image.fromarray(RGB).save(tmp_path / "a.png")
    source = open_rows(tmp_path / "a.png", MemoryStore())
    assert np.array_equal(source.rows(0, 131), load_image(tmp_path / "a.png"))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)
    with pytest.raises(
        InvalidInput, match=r"more than 179 megapixels.*pip install 'fastnst\[large\]'"
    ):
        open_rows(tmp_path / "a.png", MemoryStore())
    with pytest.raises(InvalidInput, match=r"none\.png does not exist$"):
        open_rows(tmp_path / "none.png", MemoryStore())


def _run(program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", textwrap.dedent(program), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files as Linux does")
def test_a_full_scratch_disk_is_one_line(tmp_path: Path) -> None:
    huge_png(tmp_path / "a.png", 2000)
    done = _run(
        """
        import resource, signal, sys
        from fastnst.errors import OutputFailed
        from fastnst.images.large import open_large
        from fastnst.strips.storage import ScratchStore
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
        try:
            open_large(sys.argv[1] + "/a.png", ScratchStore(sys.argv[1]))
        except OutputFailed as error:
            print(error)
        """,
        tmp_path,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"scratch folder {tmp_path}: no space for 0.01 GB (File too large)\n"
    assert os.listdir(tmp_path) == ["a.png"]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs POSIX signals")
def test_a_kill_while_decoding_leaves_nothing(tmp_path: Path) -> None:
    huge_png(tmp_path / "a.png", 2000)
    done = _run(
        """
        import os, signal, sys
        from fastnst.images import large
        from fastnst.strips.storage import ScratchStore
        class Killed(ScratchStore):
            def release(self, tensor):
                os.kill(os.getpid(), signal.SIGKILL)
        large.open_large(sys.argv[1] + "/a.png", Killed(sys.argv[1]))
        """,
        tmp_path,
    )
    assert done.returncode == -signal.SIGKILL
    assert os.listdir(tmp_path) == ["a.png"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads resident memory from /proc")
def test_decoding_takes_little_memory(tmp_path: Path) -> None:
    huge_png(tmp_path / "a.png", 13_000)  # 169 megapixels, 507 MB as RGB
    done = _run(
        """
        import sys
        from pathlib import Path
        from fastnst.images.large import open_large
        from fastnst.strips.storage import ScratchStore
        def peak():
            text = Path("/proc/self/status").read_text()
            return int(text.split("VmHWM:")[1].split()[0]) / 1024
        before = peak()
        source = open_large(sys.argv[1] + "/a.png", ScratchStore(sys.argv[1]))
        source.rows(6000, 6100)
        print(peak() - before)
        """,
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 300
