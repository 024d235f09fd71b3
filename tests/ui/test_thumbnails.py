"""The thumbnails in the package are those of the built-in pictures."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from fastnst import samples
from fastnst.ui import thumbnails


@pytest.mark.parametrize("name", samples.SAMPLES)
def test_a_thumbnail_shows_its_sample(name) -> None:
    buffer = io.BytesIO()
    thumbnails.make(samples.load(name)).save(buffer, "WEBP", quality=85)
    with Image.open(thumbnails.path_of(name)) as stored, Image.open(buffer) as expected:
        assert stored.size == expected.size
        pixels = [np.asarray(image.convert("RGB"), float) for image in (stored, expected)]
    # the same but for the version of the encoder; another sample differs by 50 levels
    assert np.abs(pixels[0] - pixels[1]).mean() < 2


def test_there_is_no_other() -> None:
    folder = thumbnails.path_of("x").parent
    assert {path.stem for path in folder.iterdir()} == set(samples.SAMPLES)
