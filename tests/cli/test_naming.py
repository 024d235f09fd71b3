"""Names for results that were given none."""

from __future__ import annotations

import os
from pathlib import Path

from fastnst.cli.naming import new_name, target
from fastnst.cli.until_end import until_end


def test_it_is_built_from_the_pictures(tmp_path: Path) -> None:
    assert new_name("a/photo.jpg", "b/painting.tiff").name == "photo-painting.png"
    assert new_name("sample:harbour", "sample:swirl", "x.png").name == "harbour-swirl-x.png"
    assert new_name("-", "b.png").name == "picture-b.png"
    assert new_name("/dev/stdin", "a:b?.png").name == "stdin-a_b_.png"


def test_it_overwrites_nothing(tmp_path: Path) -> None:
    assert new_name("a", "b", folder=tmp_path) == tmp_path / "a-b.png"
    (tmp_path / "a-b.png").touch()
    assert new_name("a", "b", folder=tmp_path) == tmp_path / "a-b-2.png"
    (tmp_path / "a-b-2.png").symlink_to("nowhere")
    assert new_name("a", "b", folder=tmp_path) == tmp_path / "a-b-3.png"


def test_it_is_short_enough(tmp_path: Path) -> None:
    path = new_name("ü" * 300, "b" * 300, folder=tmp_path)
    path.touch()
    assert len(os.fsencode(path.name)) <= 255
    assert new_name("ü" * 300, "b" * 300, folder=tmp_path).name.endswith("-2.png")


def test_a_folder_gets_a_new_name_in_it(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert target(tmp_path, "a", "b") == tmp_path / "a-b.png"
    (tmp_path / "a-b.png").touch()
    assert target(tmp_path, "a", "b") == tmp_path / "a-b-2.png"
    assert target(None, "a", "b") == Path("a-b-2.png")
    for name in ("new.png", "x" * 300, "a\0b"):  # what is wrong with these is said later
        assert target(Path(name), "a", "b") == Path(name)


def test_commands_that_run_at_once_choose_different_names(tmp_path: Path) -> None:
    with until_end():
        assert new_name("a", "b", folder=tmp_path) == tmp_path / "a-b.png"
        with until_end():
            assert new_name("a", "b", folder=tmp_path) == tmp_path / "a-b-2.png"
    assert new_name("a", "b", folder=tmp_path) == tmp_path / "a-b.png"
    assert not list(tmp_path.iterdir())
