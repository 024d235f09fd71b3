"""Sixteen-bit RGB as PNG (RFC 2083), which Pillow cannot write.

Libraries that can are forty times as large as these lines (OpenCV, imagecodecs, pyvips), or filter
and compress in pure Python (pypng).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray


def encode_png16(values: NDArray[np.uint16], metadata: Mapping[str, str]) -> bytes:
    """A PNG file of ``(H, W, 3)`` uint16 with international text chunks (iTXt)."""
    height, width, _ = values.shape
    rows = np.ascontiguousarray(values, ">u2").view(np.uint8).reshape(height, width * 6)
    up = np.diff(rows, axis=0, prepend=np.zeros_like(rows[:1]))  # filter 2: minus the row above
    filtered = np.concatenate([np.full((height, 1), 2, np.uint8), up], axis=1)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0))]
    chunks += [
        (b"iTXt", key.encode("latin-1") + b"\0\0\0\0\0" + text.encode())
        for key, text in metadata.items()
    ]
    chunks += [(b"IDAT", zlib.compress(filtered.tobytes(), 6)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*chunk) for chunk in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    checksum = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)
