"""Pictures for tests."""

from __future__ import annotations

import io
import platform
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

X86_64 = platform.machine() in ("x86_64", "AMD64")  # where resampling by rows has Pillow's bits


def smooth(width: int, height: int, seed: int = 0) -> np.ndarray:
    """``(height, width, 3)`` uint8: coarse random colours, scaled up smoothly."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def huge_png(path: Path, side: int) -> Path:
    """A valid grey PNG of side × side zeros, written without holding it in memory."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    compressor, out = zlib.compressobj(1), io.BytesIO()
    rows, left = b"\0" * (side + 1) * 64, side
    while left:
        rows = rows[: (side + 1) * min(left, 64)]
        out.write(compressor.compress(rows))
        left -= min(left, 64)
    out.write(compressor.flush())
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header) + chunk(b"IDAT", out.getvalue()) + chunk(b"IEND", b"")
    )  # fmt: skip
    return path
