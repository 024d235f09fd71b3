"""Sixteen-bit RGB files, which Pillow cannot write: PNG (RFC 2083) and baseline TIFF 6.0."""

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


def encode_tiff16(values: NDArray[np.uint16]) -> bytes:
    """A little-endian TIFF file of ``(H, W, 3)`` uint16, one strip, deflate-compressed."""
    height, width, _ = values.shape
    strip = zlib.compress(values.astype("<u2").tobytes(), 6)
    strip += b"\0" * (len(strip) % 2)
    bits_at = 8 + len(strip)
    directory_at = bits_at + 6
    short, long = 3, 4
    entries = [  # tag, type, count, value or offset
        (256, long, 1, width),
        (257, long, 1, height),
        (258, short, 3, bits_at),  # bits per sample: 16, 16, 16
        (259, short, 1, 8),  # compression: deflate
        (262, short, 1, 2),  # photometric interpretation: RGB
        (273, long, 1, 8),  # where the strip starts
        (277, short, 1, 3),  # samples per pixel
        (278, long, 1, height),  # rows per strip
        (279, long, 1, len(strip)),
        (284, short, 1, 1),  # planar configuration: interleaved
    ]
    header = struct.pack("<2sHI", b"II", 42, directory_at)
    directory = struct.pack("<H", len(entries))
    directory += b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return header + strip + struct.pack("<3H", 16, 16, 16) + directory + struct.pack("<I", 0)
