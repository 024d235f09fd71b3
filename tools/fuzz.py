"""Damaged and odd inputs of every kind: each is read or refused in one line, within bounds.

    python tools/fuzz.py --seed 1 --count 10000 pictures
    python tools/fuzz.py --seed 1 --count 500            # of each kind
    python tools/fuzz.py --seed 1 --only 4711 pictures   # one case; --keep FILE writes its bytes

A case follows from the seed, its kind and its number. It fails if it raises anything but a
``FastNSTError`` of one line, ends its process, takes more than ``SECONDS`` or ``MEMORY``, or (of
kind checkpoints) if a changed file is believed. Cases run in processes of their own, which a
watchdog ends.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import multiprocessing as mp
import os
import random
import resource
import struct
import subprocess
import sys
import tempfile
import time
import warnings
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

KINDS = ("pictures", "exif", "masks", "weights", "tomls", "checkpoints")
SECONDS = 20.0
MEMORY = 2 << 30  # bytes above what the process takes before its first case
EXTREMES = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


# --- bytes ------------------------------------------------------------------------------------


def mutated(data: bytes, rng: random.Random) -> bytes:
    """The bytes with one to four changes."""
    for _ in range(rng.randint(1, 4)):
        data = rng.choice(MUTATIONS)(data, rng)
    return data


def flip(data: bytes, rng: random.Random) -> bytes:
    out = bytearray(data)
    early = rng.random() < 0.6
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        at = rng.randrange(min(len(out), 256) if early else len(out)) if out else 0
        if out:
            out[at] ^= 1 << rng.randrange(8) if rng.random() < 0.5 else rng.randrange(1, 256)
    return bytes(out)


def cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def number(data: bytes, rng: random.Random) -> bytes:
    """A length, a size or an offset becomes extreme."""
    size = rng.choice((1, 2, 4))
    order: Literal["little", "big"] = "little" if rng.random() < 0.5 else "big"
    at = rng.randrange(max(1, min(len(data), 512 if rng.random() < 0.7 else len(data))))
    value = rng.choice(EXTREMES) & ((1 << 8 * size) - 1)
    return data[:at] + value.to_bytes(size, order) + data[at + size :]


def drop(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + data[at + rng.choice((1, 2, 4, 64, 1000)) :]


def repeat(data: bytes, rng: random.Random) -> bytes:
    at, length = rng.randrange(len(data) + 1), rng.choice((1, 4, 64, 1000))
    return data[:at] + data[at : at + length] * rng.choice((2, 2, 30)) + data[at + length :]


def insert(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.randbytes(rng.choice((1, 4, 64, 4000))) + data[at:]


MUTATIONS = (flip, flip, flip, cut, number, number, drop, repeat, insert)


# --- pictures ---------------------------------------------------------------------------------


def picture_files() -> list[bytes]:
    """Small pictures in every format and layout that is read."""
    import tifffile
    from PIL import Image

    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (4, 6, 3), np.uint8))
    rgb = coarse.resize((48, 32), Image.Resampling.BICUBIC)
    rgba = rgb.copy()
    rgba.putalpha(rgb.convert("L"))
    palette, grey, cmyk = rgb.quantize(16), rgb.convert("L"), rgb.convert("CMYK")
    deep = np.asarray(rgb).astype(np.uint16) * 257
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker"
    found = []

    def save(image: Image.Image, kind: str, **options: Any) -> None:
        out = io.BytesIO()
        image.save(out, kind, **options)
        found.append(out.getvalue())

    for image in (rgb, rgba, palette, grey, rgb.convert("1"), rgb.convert("LA")):
        save(image, "PNG", exif=exif)
    save(Image.fromarray(deep[..., 0]), "PNG")
    from fastnst.images.encode import encode

    found.append(
        encode(np.asarray(rgb, np.float32) / np.float32(255), "PNG", 16, {"fastnst": "{}"})
    )
    for image in (rgb, grey, cmyk):
        save(image, "JPEG", exif=exif)
        save(image, "JPEG", progressive=True)
    save(rgb, "MPO", save_all=True, append_images=[grey.convert("RGB")])
    for options in ({}, {"lossless": True}, {"exif": exif}):
        save(rgba, "WEBP", **options)
        save(rgb, "WEBP", **options)
    for compression in (None, "tiff_lzw", "tiff_deflate", "packbits", "jpeg"):
        save(rgb, "TIFF", compression=compression)
    for compression in ("group3", "group4"):
        save(rgb.convert("1"), "TIFF", compression=compression)
    for image in (palette, cmyk, rgba, Image.fromarray(deep[..., 0])):
        save(image, "TIFF")
    layouts: list[tuple[np.ndarray, dict[str, Any]]] = [
        (deep, {"photometric": "rgb"}),
        (deep, {"photometric": "rgb", "compression": "zlib", "predictor": True}),
        (np.moveaxis(deep, -1, 0), {"photometric": "rgb", "planarconfig": "separate"}),
        (deep, {"photometric": "rgb", "tile": (16, 16), "compression": "zlib"}),
        (deep / np.float32(65535), {"photometric": "rgb"}),
        (deep[..., 0].astype(np.uint32), {"photometric": "miniswhite", "bigtiff": True}),
    ]
    for values, options in layouts:
        out = io.BytesIO()
        with contextlib.suppress(ImportError):
            tifffile.imwrite(out, values.astype(values.dtype), metadata=None, **options)
            found.append(out.getvalue())
    for image in (rgb, palette, grey, rgb.convert("1")):
        save(image, "BMP")
    save(palette, "GIF")
    save(palette, "GIF", save_all=True, append_images=[palette.rotate(90)])
    for image in (rgb, grey, rgb.convert("1"), Image.fromarray(deep[..., 0])):
        save(image, "PPM")
    found.append(b"P3 2 2 255\n# words\n" + b"1 2 3 " * 4)
    for kind in ("AVIF", "HEIF"):
        with contextlib.suppress(KeyError, OSError, ImportError):
            if kind == "HEIF":
                from pillow_heif import register_heif_opener

                register_heif_opener()
            save(rgb, kind)
            save(rgba, kind)
    return found


def damaged_picture(files: list[bytes], rng: random.Random) -> bytes:
    data = rng.choice(files)
    if data.startswith(b"\x89PNG") and rng.random() < 0.7:
        return damaged_png(data, rng)
    if rng.random() < 0.05:
        other = rng.choice(files)
        return data[: rng.randrange(len(data))] + other[rng.randrange(len(other)) :]
    return mutated(data, rng)


def damaged_png(data: bytes, rng: random.Random) -> bytes:
    """Chunks are changed, swapped, repeated or made up; their checksums are right."""
    chunks, at = [], 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    for _ in range(rng.randint(1, 3)):
        where = rng.randrange(len(chunks))
        name, body = chunks[where]
        way = rng.randrange(5)
        if way == 0:
            chunks[where] = (name, mutated(body, rng))
        elif way == 1:
            other = rng.randrange(len(chunks))
            chunks[where], chunks[other] = chunks[other], chunks[where]
        elif way == 2:
            chunks.insert(where, (name, body))
        elif way == 3 and len(chunks) > 1:
            del chunks[where]
        else:
            names = (
                b"tRNS",
                b"gAMA",
                b"cHRM",
                b"iCCP",
                b"sRGB",
                b"eXIf",
                b"PLTE",
                b"acTL",
                b"zTXt",
                b"IDAT",
            )
            made = rng.randbytes(rng.choice((0, 1, 2, 4, 6, 32, 768)))
            packed = b"k\0\0" + zlib.compress(made * 50)
            chunks.insert(where, (rng.choice(names), made if rng.random() < 0.7 else packed))
    out = [data[:8]]
    for name, body in chunks:
        crc = zlib.crc32(name + body)
        out.append(struct.pack(">I", len(body)) + name + body + struct.pack(">I", crc))
    return b"".join(out)


def odd_exif(rng: random.Random) -> bytes:
    """A sound photograph whose EXIF block has tags of any type, count and value."""
    from PIL import Image

    order = rng.choice("<>")
    known = (0x0112, 0x010F, 0x011A, 0x0128, 0x8769, 0x8825, 0xA005, 0xC4A5)
    tags = [rng.choice((*known, rng.randrange(65536)))
            for _ in range(rng.randint(1, 12))]  # fmt: skip
    entries = b"".join(
        struct.pack(
            order + "HHI",
            tag,
            rng.choice((*range(19), 255, 65535)),
            rng.choice((0, 1, 2, 4, 5, 999, *EXTREMES)),
        )
        + (
            rng.randbytes(4)
            if rng.random() < 0.5
            else struct.pack(order + "HH", rng.randrange(12), 0)
        )
        for tag in tags
    )
    count = len(tags) if rng.random() < 0.9 else rng.choice((0, 65535))
    first = 8 if rng.random() < 0.9 else rng.choice(EXTREMES)
    block = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", first)
    block += struct.pack(order + "H", count) + entries + rng.randbytes(rng.choice((0, 4, 60)))
    block = b"Exif\0\0" * rng.choice((1, 1, 1, 2, 0)) + block
    image = Image.new("RGB", (12, 8), (200, 100, 50))
    out = io.BytesIO()
    image.save(out, rng.choice(("JPEG", "PNG", "WEBP")), exif=block)
    return out.getvalue()


# --- other kinds ------------------------------------------------------------------------------


def odd_mask(rng: random.Random) -> np.ndarray:
    """A mask of plain colours, greys or noise, perhaps with edges that are smoothed."""
    from PIL import Image

    numbers = np.random.default_rng(rng.randrange(1 << 32))
    height, width = rng.choice((1, 2, 3, 17, 60)), rng.choice((1, 2, 5, 40, 90))
    colours = numbers.integers(0, 256, (rng.choice((1, 2, 3, 5, 17, 40)), 3))
    if rng.random() < 0.4:
        colours = colours // 255 * 255
    values = colours[numbers.integers(0, len(colours), (rng.randint(1, 6), rng.randint(1, 6)))]
    image = Image.fromarray(values.astype(np.uint8))
    if rng.random() < 0.2:
        return numbers.random((height, width, 3), np.float32)
    way = rng.choice((Image.Resampling.NEAREST, Image.Resampling.BICUBIC))
    mask: np.ndarray = np.asarray(image.resize((width, height), way), np.float32) / np.float32(255)
    return mask


def weight_files(folder: Path) -> list[tuple[str, bytes]]:
    import torch
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(0)
    found = []
    for names in (("features.0", "features.2"), ("conv1_1", "conv1_2")):
        state = {
            f"{names[0]}.weight": torch.randn(64, 3, 3, 3, generator=generator),
            f"{names[0]}.bias": torch.randn(64, generator=generator),
            f"{names[1]}.weight": torch.randn(64, 64, 3, 3, generator=generator),
            f"{names[1]}.bias": torch.randn(64, generator=generator),
        }
        torch.save(state, folder / "w.pth")
        torch.save(state, folder / "old.pth", _use_new_zipfile_serialization=False)
        save_file(state, folder / "w.safetensors", {"preprocessing": "caffe"})
        found += [(p, (folder / p).read_bytes()) for p in ("w.pth", "old.pth", "w.safetensors")]
    return found


def odd_state(rng: random.Random) -> Any:
    """What may lie in a state dict: keys and values of many kinds."""
    import torch

    def tensor() -> Any:
        shape = rng.choice(((64, 3, 3, 3), (64,), (), (0,), (3, 64, 3, 3), (64, 64, 3, 3)))
        value = torch.ones(shape)
        ways: list[Callable[[], Any]] = [
            lambda: value,
            lambda: value.to(
                rng.choice((torch.float8_e4m3fn, torch.float16, torch.bfloat16, torch.float64))
            ),
            lambda: value.to(rng.choice((torch.int8, torch.int64, torch.bool, torch.complex64))),
            lambda: value.to_sparse() if value.dim() else value,
            lambda: value * float("nan"),
            lambda: value * 0,
            lambda: value.reshape(-1)[:1].expand(1 << 40) if value.numel() else value,
            lambda: torch.quantize_per_tensor(value, 0.1, 0, torch.qint8),
            lambda: rng.choice((None, 3, "words", [1, 2], {"conv1_1.weight": value}, 2.5)),
        ]
        return rng.choice(ways)()

    keys = ("features.0.weight", "features.0.bias", "features.2.weight", "conv1_1.weight",
            "conv1_1.bias", "conv1_2.weight", "state_dict", "classifier.0.weight",
            "features.1.running_mean", 0, 7, 2.5, "", ("a",))  # fmt: skip
    state = {rng.choice(keys): tensor() for _ in range(rng.randint(0, 5))}
    return rng.choice((state, state, state, state, [state], tensor(), {"model": state}))


def odd_toml(rng: random.Random) -> bytes:
    """Settings of any shape, or bytes that are hardly TOML."""
    from fastnst.settings.settings import Settings

    names = [field.name for field in fields(Settings)] + ["preset", "style-weight", "nonsense"]
    texts = (
        "",
        "noise",
        "content",
        "α → ×",
        "a\\u0000b",
        "vgg19",
        "x" * 5000,
        "relu4_2",
        "auto",
        "native",
    )

    def value(depth: int = 0) -> str:
        way = rng.randrange(12 if depth < 3 else 7)
        if way < 2:
            return str(
                rng.choice((0, 1, -1, 3, 512, 10**6, 2**63 - 1, -(2**63), 10**400, "0x_", "1_000"))
            )
        if way == 2:
            return rng.choice(("0.0", "1.5", "-2e3", "1e308", "1e999", "nan", "inf", "-inf"))
        if way == 3:
            return rng.choice(("true", "false"))
        if way < 6:
            return f'"{rng.choice(texts)}"'
        if way == 6:
            return rng.choice(
                ("1979-05-27", "07:32:00", "1979-05-27T07:32:00Z", "", "'''", "{}", "[]")
            )
        if way < 10:
            return "[" + ", ".join(value(depth + 1) for _ in range(rng.randint(0, 4))) + "]"
        if way == 10:
            return "{" + f"{rng.choice(names)} = {value(depth + 1)}" + "}"
        return "[" * rng.choice((30, 3000)) + "1" + "]" * rng.choice((30, 3000))

    lines = [f"{rng.choice(names)} = {value()}" for _ in range(rng.randint(0, 4))]
    if rng.random() < 0.1:
        lines.insert(0, f"[{rng.choice(names)}]")
    data = "\n".join(lines).encode()
    if rng.random() < 0.1:
        data = data.decode().encode(rng.choice(("utf-16", "utf-8-sig", "utf-32")))
    return mutated(data, rng) if rng.random() < 0.3 else data


def checkpoint_file(folder: Path) -> bytes:
    """What a small run writes."""
    from PIL import Image

    for name in ("c.png", "s.png"):
        Image.effect_noise((24, 16), 90).convert("RGB").save(folder / name)
    command = [sys.executable, "-m", "fastnst", "stylize", "c.png", "s.png", "-o", "o.png",
               "--engine", "torch", "--size", "24", "--iterations", "3", "--checkpoint", "k",
               "--checkpoint-every", "3", "-q"]  # fmt: skip
    subprocess.run(command, cwd=folder, check=True, stdin=subprocess.DEVNULL)
    return (folder / "k").read_bytes()


def damaged_checkpoint(data: bytes, rng: random.Random) -> bytes:
    """Bytes, the tensors' values, or the JSON or the tensors' descriptions in its head, changed."""
    if rng.random() < 0.3:
        return mutated(data, rng)
    length = int.from_bytes(data[:8], "little")
    if rng.random() < 0.3:
        return data[: 8 + length] + flip(data[8 + length :], rng)
    head = json.loads(data[8 : 8 + length])
    metadata = head["__metadata__"]
    if rng.random() < 0.6:
        name = rng.choice(sorted(metadata))
        try:
            about = json.loads(metadata[name])
            changed(about, rng)
            metadata[name] = json.dumps(about)
        except ValueError:
            metadata[name] = mutated(metadata[name].encode(), rng).decode("latin-1")
    else:
        changed(head, rng)
    packed = json.dumps(head).encode()
    return len(packed).to_bytes(8, "little") + packed + data[8 + length :]


def changed(tree: Any, rng: random.Random) -> None:
    """Change, drop or add one value somewhere in a tree of JSON."""
    while True:
        keys = list(tree) if isinstance(tree, dict) else list(range(len(tree)))
        if not keys:
            return
        key = rng.choice(keys)
        if isinstance(tree[key], (dict, list)) and tree[key] and rng.random() < 0.8:
            tree = tree[key]
            continue
        way = rng.random()
        if way < 0.2:
            del tree[key]
        elif way < 0.3 and isinstance(tree, dict):
            tree[f"{key}x"] = tree.pop(key)
        else:
            tree[key] = rng.choice(
                (None, 0, 1, -1, 2.5, 1e300, 10**30, "", "words", [], {}, [[]], True)
            )
        return


# --- one case ---------------------------------------------------------------------------------


class Cases:
    """The cases of one kind: their bytes, and what becomes of them."""

    def __init__(self, kind: str, seed: int, folder: Path) -> None:
        self.kind, self.seed, self.folder = kind, seed, folder
        if kind in ("pictures", "masks"):
            self.files = picture_files()
        elif kind == "weights":
            self.sources = weight_files(folder)
        elif kind == "checkpoints":
            shared = folder / "checkpoint"
            self.whole = shared.read_bytes() if shared.exists() else checkpoint_file(folder)
            self.sound = self.load(self.whole, "k")

    def run(self, index: int, keep: Path | None = None) -> str:
        """``read`` or ``refused``.

        Raises:
            AssertionError: for a message of several lines, or a changed checkpoint believed.
        """
        from fastnst.errors import FastNSTError

        rng = random.Random(f"{self.seed} {self.kind} {index}")
        self.keep = keep
        try:
            getattr(self, self.kind)(rng)
        except FastNSTError as error:
            message = str(error)
            assert "\n" not in message, f"several lines: {message!r}"
            assert "more memory than there is" not in message, message
            return "refused"
        return "read"

    def put(self, name: str, data: bytes) -> Path:
        path = self.folder / name
        path.write_bytes(data)
        if self.keep is not None:
            self.keep.write_bytes(data)
        return path

    def pictures(self, rng: random.Random) -> None:
        from fastnst.images.decode import load_image

        pixels = load_image(self.put("picture", damaged_picture(self.files, rng)))
        assert pixels.dtype == np.float32, pixels.dtype
        assert np.isfinite(pixels).all(), "not finite"
        assert pixels.min() >= 0, pixels.min()
        assert pixels.max() <= 1, pixels.max()

    def exif(self, rng: random.Random) -> None:
        from fastnst.errors import FastNSTError
        from fastnst.images.decode import load_image

        try:
            pixels = load_image(self.put("photograph", odd_exif(rng)))
        except FastNSTError as error:
            raise AssertionError(f"a sound picture is refused: {error}") from error
        assert pixels.shape in ((8, 12, 3), (12, 8, 3)), pixels.shape

    def masks(self, rng: random.Random) -> None:
        from fastnst.images.decode import load_image
        from fastnst.inputs.masks import read_masks

        def mask() -> np.ndarray:
            if rng.random() < 0.3:
                return load_image(self.put("mask", damaged_picture(self.files, rng)))
            return odd_mask(rng)

        styles = rng.randint(1, 4)
        content = mask() if rng.random() < 0.8 else None
        of_styles = [mask() for _ in range(styles)] if rng.random() < 0.5 or content is None else []
        found = read_masks(content, of_styles, styles)
        for region in found.at((6, 7), [(5, 4)] * styles):
            assert region is not None

    def weights_case(self, rng: random.Random) -> Path:
        import torch

        if rng.random() < 0.4:
            path = self.folder / "state.pth"
            with contextlib.suppress(NotImplementedError):
                torch.save(odd_state(rng), path)
            return path
        name, data = rng.choice(self.sources)
        return self.put(name, mutated(data, rng))

    def weights(self, rng: random.Random) -> None:
        from fastnst.network.weights import load_weights

        load_weights(self.weights_case(rng))

    def load(self, data: bytes, name: str) -> Any:
        from fastnst.run.checkpoint import load_checkpoint

        path = self.folder / name
        path.write_bytes(data)
        return load_checkpoint(path)

    def tomls(self, rng: random.Random) -> None:
        from fastnst.settings.config import read_config

        read_config(self.put("config.toml", odd_toml(rng)))

    def checkpoints(self, rng: random.Random) -> None:
        data = damaged_checkpoint(self.whole, rng)
        if self.keep is not None:
            self.keep.write_bytes(data)
        assert same(self.load(data, "damaged"), self.sound), "a changed checkpoint is believed"


def same(a: Any, b: Any) -> bool:
    """Whether two trees of dataclasses, mappings, sequences, tensors and values are equal."""
    if is_dataclass(a):
        return type(a) is type(b) and all(
            same(getattr(a, f.name), getattr(b, f.name)) for f in fields(a)
        )
    if hasattr(a, "items"):
        return hasattr(b, "items") and list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    if hasattr(a, "untyped_storage"):
        return a.dtype == b.dtype and a.shape == b.shape and bool((a == b).all())
    return type(a) is type(b) and bool(a == b)


# --- processes --------------------------------------------------------------------------------


def work(kind: str, seed: int, checkpoint: bytes, pipe: Any) -> None:
    """Answer case numbers with what became of them, until None comes."""
    os.environ["OMP_NUM_THREADS"] = "1"
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as name:
        if checkpoint:
            Path(name, "checkpoint").write_bytes(checkpoint)
        cases = Cases(kind, seed, Path(name))
        for index in range(-3, 0):  # imports, and what libraries take once
            with contextlib.suppress(Exception):
                cases.run(index)
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, resource.RLIM_INFINITY))
        pipe.send("ready")
        while (index := pipe.recv()) is not None:
            pipe.send(outcome(cases, index))


def outcome(cases: Cases, index: int) -> tuple[str, str]:
    try:
        return cases.run(index), ""
    except AssertionError as error:
        return "failed", str(error)
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is what is looked for
        at = error.__traceback__
        while at is not None and at.tb_next is not None:
            at = at.tb_next
        where = "" if at is None else f"{at.tb_frame.f_code.co_filename}:{at.tb_lineno}"
        return "failed", f"{type(error).__name__}: {str(error)[:150]} ({where})"


class Worker:
    """A process that runs cases; it is ended when one takes too long."""

    def __init__(self, kind: str, seed: int, checkpoint: bytes) -> None:
        context = mp.get_context("spawn")
        self.pipe, other = context.Pipe()
        self.process = context.Process(
            target=work, args=(kind, seed, checkpoint, other), daemon=True
        )
        self.process.start()
        other.close()
        self.pipe.recv()

    def run(self, index: int) -> tuple[str, str]:
        try:
            self.pipe.send(index)
            if self.pipe.poll(SECONDS):
                outcome: tuple[str, str] = self.pipe.recv()
                return outcome
            self.process.kill()
            return "failed", f"hangs for more than {SECONDS:g} s"
        except (EOFError, OSError):
            self.process.join()
            return "failed", f"ends its process ({self.process.exitcode})"

    def stop(self) -> None:
        with contextlib.suppress(OSError):
            self.pipe.send(None)
        self.process.join(5)
        self.process.kill()


def fuzz(kind: str, seed: int, count: int) -> tuple[Counter[str], list[str]]:
    """Run cases 0 to ``count`` of a kind; how many came to what, and which failed."""
    found: Counter[str] = Counter()
    failures = []
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = checkpoint_file(Path(folder)) if kind == "checkpoints" else b""
    worker = Worker(kind, seed, checkpoint)
    slowest = 0.0
    for index in range(count):
        began = time.perf_counter()
        what, why = worker.run(index)
        slowest = max(slowest, time.perf_counter() - began)
        found[what] += 1
        if what == "failed":
            failures.append(f"{kind} {index}: {why}")
            if not worker.process.is_alive():
                worker = Worker(kind, seed, checkpoint)
    worker.stop()
    found["slowest, ms"] = round(slowest * 1000)
    return found, failures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kinds", nargs="*", choices=[*KINDS, []], help="all, if none is named")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=100, help="of cases of each kind")
    parser.add_argument("--only", type=int, help="run one case here, with its traceback")
    parser.add_argument("--keep", type=Path, help="with --only: write its bytes to this file")
    given = parser.parse_args()
    failed = False
    for kind in given.kinds or KINDS:
        if given.only is not None:
            with tempfile.TemporaryDirectory() as folder:
                print(kind, Cases(kind, given.seed, Path(folder)).run(given.only, given.keep))
            continue
        found, failures = fuzz(kind, given.seed, given.count)
        print(f"{kind}: {', '.join(f'{v} {k}' for k, v in sorted(found.items()))}", flush=True)
        for line in failures[:20]:
            print(f"  {line}")
        failed = failed or bool(failures)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
