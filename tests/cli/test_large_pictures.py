"""Large pictures on the command line: what is asked for is decoded, tiled and said."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

import pytest
import tifffile
from PIL import Image

from fastnst import cli
from fastnst.images import large
from helpers.pictures import smooth

SHALLOW = ["--content-layers", "relu2_1", "--style-layers", "relu1_1", "--iterations", "2"]


def fastnst(*arguments: object) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli.run_app([str(a) for a in arguments])
    return code, out.getvalue(), " ".join(err.getvalue().split())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with pictures that are larger than Pillow opens, all limits being low."""
    pytest.importorskip("pyvips")
    monkeypatch.chdir(tmp_path)
    Image.fromarray(smooth(93, 64)).save(tmp_path / "c.png")
    Image.fromarray(smooth(83, 74, seed=1)).save(tmp_path / "s.tif")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1500)
    monkeypatch.setattr(large, "LARGEST", 3000)
    monkeypatch.setattr(large, "WHOLE", 500)
    return tmp_path


def test_large_pictures_in_and_a_pyramid_out(folder: Path) -> None:
    run = ("stylize", "c.png", "s.tif", "-o", "out.tif", "--size", "40", *SHALLOW, "-q")
    code, _, said = fastnst(*run)
    assert (code, said.count("\n")) == (2, 0)
    assert "c.png has more than 0.003 megapixels: 0.00595" in said
    assert "--max-megapixels 1" in said
    assert not (folder / "out.tif").exists()
    code, out, said = fastnst(
        *(*run, "--max-megapixels", "0.01", "--pyramid", "--bits", "16"),
        *("--scratch", folder, "--json"),
    )
    assert (code, said) == (0, "")
    assert json.loads(out)["width"] == 40
    with tifffile.TiffFile(folder / "out.tif") as file:
        assert file.is_bigtiff
        assert file.pages[0].shape == (28, 40, 3)
    assert sorted(path.name for path in folder.iterdir()) == ["c.png", "out.tif", "s.tif"]


def test_what_cannot_be_written_is_said_before_anything_is_decoded(folder: Path) -> None:
    run = ("stylize", "c.png", "s.tif", *SHALLOW, "--size", "90")
    for arguments, message in (
        (("-o", "out.png", "--pyramid"), "PNG holds no pyramid of pictures; use .tif"),
        (("-o", "out.jpg", "--size", "70000"), "JPEG holds at most 65500 pixels a side"),
        (("-o", "out.tif", "--max-megapixels", "0"), "max_megapixels is 0.0: expected more"),
        (("-o", "out.tif", "--scratch", "none"), "scratch folder none "),
    ):
        code, _, said = fastnst(*run, *arguments)
        assert (code, said.startswith("fastnst: ")) == (2, True)
        assert message in said


def test_an_estimate_lists_the_scales(folder: Path) -> None:
    scales = "--size", "90", "--min-size", "40", "--scale-iterations", "2"
    run = ("stylize", "c.png", "s.tif", *SHALLOW, *scales, "--estimate")
    code, out, _ = fastnst(*run)
    assert code == 0
    assert out.splitlines()[0].startswith("90×62: about ")
    assert [line.split(" it")[0] for line in out.splitlines()[1:]] == ["  45×31: 2", "  90×62: 2"]
    code, out, _ = fastnst(*run, "--json")
    assert [scale["iterations"] for scale in json.loads(out)["scales"]] == [2, 2]


def test_a_batch_takes_large_pictures_too(folder: Path) -> None:
    run = ("batch", "c.png", "-s", "s.tif", "-o", "out", "--size", "40", *SHALLOW, "-q")
    code, _, said = fastnst(*run)
    assert code == 1
    assert "--max-megapixels 1" in said
    code, _, said = fastnst(
        *(*run, "--name", "{content}.tif", "--pyramid"),
        *("--max-megapixels", "0.01", "--scratch", folder, "--memory", "1GB"),
    )
    assert (code, said) == (0, "")
    with tifffile.TiffFile(folder / "out" / "c.tif") as file:
        assert file.is_bigtiff
