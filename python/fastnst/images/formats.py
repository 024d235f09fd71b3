"""What kind of file a few bytes begin: the pictures that are read, and what else can be told.

A file is known by its content and never by its name. Only the formats in ``READ`` are handed to a
decoder, each to its own: no other of Pillow's plugins is ever asked, so nothing in a file is run
(PostScript would start Ghostscript) and no rarely used decoder meets hostile bytes.
"""

from __future__ import annotations

import re
from pathlib import Path

HEAD = 1024  # bytes that are enough to tell

# What is read, and what such files are usually called.
_SUFFIXES = {
    "PNG": (".png", ".apng"),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".jif"),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "BMP": (".bmp", ".dib"),
    "GIF": (".gif",),
    "AVIF": (".avif",),
    "HEIF": (".heic", ".heif", ".hif"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
}
READ = tuple(_SUFFIXES)
SUFFIXES = frozenset(suffix for names in _SUFFIXES.values() for suffix in names)

_BEGINNINGS: tuple[tuple[bytes, str], ...] = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\0\x10\0\0\0CR", "a raw photograph (CR2)"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"%!PS", "PostScript"),
    (b"%!", "PostScript"),
    (b"\x04%!", "PostScript"),
    (b"\xc5\xd0\xd3\xc6", "PostScript (EPS)"),
    (b"%PDF", "a PDF document"),
    (b"8BPS", "a Photoshop document (PSD)"),
    (b"gimp xcf", "a GIMP document (XCF)"),
    (b"\x76\x2f\x31\x01", "OpenEXR"),
    (b"#?RADIANCE", "Radiance HDR"),
    (b"#?RGBE", "Radiance HDR"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"FUJIFILMCCD-RAW", "a raw photograph (RAF)"),
    (b"IIU\0", "a raw photograph (RW2)"),
    (b"IIRO", "a raw photograph (ORF)"),
    (b"IIRS", "a raw photograph (ORF)"),
    (b"MMOR", "a raw photograph (ORF)"),
    (b"FOVb", "a raw photograph (X3F)"),
    (b"II\xbc\x01", "JPEG XR"),
    (b"DDS ", "a DDS texture"),
    (b"\xabKTX", "a KTX texture"),
    (b"qoif", "QOI"),
    (b"farbfeld", "farbfeld"),
    (b"SIMPLE  =", "FITS"),
    (b"\0\0\x01\0", "an icon (ICO)"),
    (b"icns", "an icon (ICNS)"),
    (b"\xd7\xcd\xc6\x9a", "a Windows metafile"),
    (b"\x1aE\xdf\xa3", "a video"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"PF\n", "a float picture (PFM)"),
    (b"Pf\n", "a float picture (PFM)"),
    (b"P7\n", "PAM"),
)  # fmt: skip


def identify(head: bytes) -> str | None:
    """What a file is by its first ``HEAD`` bytes: one of ``READ``, a name for people, or None."""
    for beginning, name in _BEGINNINGS:
        if head.startswith(beginning):
            return name
    if head[:4] == b"RIFF":
        return {b"WEBP": "WEBP", b"AVI ": "a video"}.get(head[8:12])
    if head[:2] == b"BM" and head[14:18] in _BMP_HEADERS:
        return "BMP"
    if re.match(rb"P[1-6][\s#]", head):
        return "PPM"
    if head[4:8] == b"ftyp":
        return _box(head)
    if head[128:132] == b"DICM":
        return "DICOM"
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith(b"<svg") or (text.startswith((b"<?xml", b"<!")) and b"<svg" in text):
        return "an SVG drawing"
    if text.startswith((b"<!doctype html", b"<html")):
        return "a web page"
    return None


def holds_picture(path: Path) -> bool:
    """Whether a file's content says that it is one of ``READ``; False for what is no file.

    Raises:
        OSError: if it cannot be read.
    """
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return identify(file.read(HEAD)) in READ


def refusal(kind: str | None) -> str:
    """Why a file that is not one of ``READ`` is not used, and what to do about it."""
    if kind is None:
        return "is not a picture that can be read (PNG, JPEG, WebP, TIFF, AVIF, GIF, BMP or PPM)"
    if kind in ("OpenEXR", "Radiance HDR") or kind.startswith("a float"):
        return f"is {kind}, which has no white: map its tones and save it as a 16-bit PNG or TIFF"
    if kind.startswith("a raw"):
        return f"is {kind}: develop it and save it as a 16-bit TIFF or PNG, or as a JPEG"
    return f"is {kind}, not a picture that can be read: save it as PNG or JPEG first"


_BMP_HEADERS = [size.to_bytes(4, "little") for size in (12, 16, 40, 52, 56, 64, 108, 124)]


def _box(head: bytes) -> str:
    """The kind of an ISO base media file by its brands."""
    size = int.from_bytes(head[:4], "big")
    brands = {head[8:12], *(head[at : at + 4] for at in range(16, min(size, 256, len(head)), 4))}
    if brands & {b"avif", b"avis"}:
        return "AVIF"
    if brands & {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}:
        return "HEIF"
    return "a raw photograph (CR3)" if head[8:12] == b"crx " else "a video"
