"""The scratch file of a run's pictures: made when it is needed, gone when nobody needs it."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest
import torch

from fastnst.errors import InvalidInput
from fastnst.images.scratch import PictureStore
from fastnst.strips.storage import ScratchStore


def test_nothing_is_made_before_the_first_picture(tmp_path: Path) -> None:
    store = PictureStore(tmp_path / "none")
    assert store.size == 0
    store.close()
    with pytest.raises(InvalidInput, match="does not exist"):
        store.zeros((3,))


def test_pictures_outlive_the_store(tmp_path: Path) -> None:
    with PictureStore(tmp_path) as store:
        picture = store.zeros((1, 3, 64, 65))
        picture.fill_(0.25)
        store.release(picture)
        assert store.size >= 4 * picture.numel()
    del store
    gc.collect()
    assert torch.equal(picture, torch.full((1, 3, 64, 65), 0.25))
    assert os.listdir(tmp_path) == []


def test_the_folder_for_temporary_files_is_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    with pytest.raises(InvalidInput, match="gone does not exist"):
        PictureStore().zeros((3,))


def test_a_store_that_is_dropped_closes_its_file(tmp_path: Path, monkeypatch) -> None:
    closed = []
    close = ScratchStore.close
    monkeypatch.setattr(ScratchStore, "close", lambda self: (closed.append(self), close(self)))
    store = PictureStore(tmp_path)
    store.zeros((3,))
    assert not closed
    del store
    gc.collect()
    assert len(closed) == 1
