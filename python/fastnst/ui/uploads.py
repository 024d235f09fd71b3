"""Pictures and clips that visitors give: looked at before they are decoded."""

from __future__ import annotations

from pathlib import Path

from fastnst.errors import InvalidInput
from fastnst.images.decode import open_image
from fastnst.video.clip import MOST_PIXELS, VideoFile


def check_upload(path: str | None, label: str, megapixels: float) -> str:
    """The path of a picture that a visitor gave, once its kind and size are known to be allowed.

    Args:
        path: Of the file, or None if there is none.
        label: What the picture is called in messages, as ``content picture``.
        megapixels: How large it may be.

    Raises:
        InvalidInput: if there is none, it cannot be read, or it has more pixels than are allowed.
    """
    if not path:
        raise InvalidInput(f"choose a {label} first")
    try:
        with open_image(Path(path)) as image:
            pixels = image.width * image.height
    except InvalidInput as error:
        raise InvalidInput(str(error).replace(str(Path(path)), f"the {label}")) from error
    if pixels > megapixels * 1e6:
        raise InvalidInput(
            f"the {label} has {pixels / 1e6:.3g} megapixels; {megapixels:g} are allowed"
        )
    return path


def open_clip(path: str | None, megapixels: float | None = None) -> VideoFile:
    """A clip that a visitor gave, looked at but for its first frame not decoded.

    Args:
        path: Of the file, or None if there is none.
        megapixels: How large a frame may be; None: it is known to be allowed.

    Raises:
        InvalidInput: if there is none, it cannot be read, or its frames are too large.
        BackendUnavailable: without PyAV.
    """
    if not path:
        raise InvalidInput("choose a clip first")
    most = MOST_PIXELS if megapixels is None else round(min(megapixels * 1e6, MOST_PIXELS))
    return VideoFile(Path(path), most, "the clip")
