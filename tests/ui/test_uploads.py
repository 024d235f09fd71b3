"""Pictures that visitors give: their kind and size are known before they are decoded."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastnst.errors import InvalidInput
from fastnst.ui.uploads import check_upload
from helpers.pictures import huge_png


def test_a_picture_as_large_as_is_allowed_is_taken(photo) -> None:
    good = str(photo("a.png", 100, 100))
    assert check_upload(good, "content picture", 0.01) == good
    with pytest.raises(InvalidInput, match=r"has 0.01 megapixels; 0.009 are allowed"):
        check_upload(good, "content picture", 0.009)


def test_huge_pictures_are_refused_by_their_header(tmp_path: Path) -> None:
    huge_png(tmp_path / "huge.png", 7_000)
    with pytest.raises(InvalidInput, match="style picture has 49 megapixels; 40 are allowed"):
        check_upload(str(tmp_path / "huge.png"), "style picture", 40)
    huge_png(tmp_path / "bomb.png", 14_000)
    with pytest.raises(InvalidInput, match="the style picture has more than 179 megapixels"):
        check_upload(str(tmp_path / "bomb.png"), "style picture", 40)


def test_what_is_no_picture_is_named_by_its_place(tmp_path: Path) -> None:
    words = tmp_path / "words.png"
    words.write_text("words")
    with pytest.raises(InvalidInput, match=r"^the content picture is not a picture") as refused:
        check_upload(str(words), "content picture", 40)
    assert str(tmp_path) not in str(refused.value)
    for nothing in (None, ""):
        with pytest.raises(InvalidInput, match="choose a content picture first"):
            check_upload(nothing, "content picture", 40)
