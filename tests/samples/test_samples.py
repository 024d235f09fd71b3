"""The built-in pictures: names, sizes, repeatability, and that there is something to see."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastnst import samples
from fastnst.errors import InvalidInput

CONTENT = ["harbour", "lighthouse", "mountains"]
STYLE = ["ink", "mosaic", "poppies", "swirl", "waves"]
UPRIGHT = ["poppies"]


@pytest.fixture(scope="module")
def pictures() -> dict[str, Image.Image]:
    """Every sample, drawn once."""
    return {name: samples.load(name) for name in samples.names()}


def test_names_and_kinds() -> None:
    assert samples.names("content") == CONTENT
    assert samples.names("style") == STYLE
    assert samples.names() == CONTENT + STYLE == list(samples.SAMPLES)
    for name, sample in samples.SAMPLES.items():
        assert sample.name == name
        assert sample.kind == ("content" if name in CONTENT else "style")
        assert sample.description


@pytest.mark.parametrize("name", CONTENT + STYLE)
def test_mode_and_size(pictures: dict[str, Image.Image], name: str) -> None:
    picture = pictures[name]
    expected = (768, 576) if name in CONTENT else (512, 640) if name in UPRIGHT else (640, 512)
    assert picture.mode == "RGB"
    assert picture.size == expected
    assert f"{expected[0]}x{expected[1]}" in samples.SAMPLES[name].description


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("name", CONTENT + STYLE)
def test_same_bytes_twice(pictures: dict[str, Image.Image], name: str) -> None:
    np.random.seed(sum(map(ord, name)))  # noqa: NPY002 - the global generator is the subject
    before = np.random.get_state(legacy=False)["state"]  # noqa: NPY002
    drawn = samples.find(name).draw()
    after = np.random.get_state(legacy=False)["state"]  # noqa: NPY002
    assert drawn.tobytes() == pictures[name].tobytes()
    assert before["pos"] == after["pos"]
    assert np.array_equal(before["key"], after["key"])


@pytest.mark.parametrize("name", CONTENT + STYLE)
def test_has_contrast_colours_and_detail(pictures: dict[str, Image.Image], name: str) -> None:
    pixels = np.asarray(pictures[name], dtype=np.float64)
    grey = pixels.mean(axis=2)
    assert 35 < grey.std() < 110
    assert 40 < grey.mean() < 215
    assert len(np.unique(np.asarray(pictures[name]).reshape(-1, 3), axis=0)) > 4000
    steps = np.abs(np.diff(grey, axis=0))[:, :-1] + np.abs(np.diff(grey, axis=1))[:-1]
    assert 0.1 < (steps > 12).mean() < 0.9
    # and not only at the finest scale: blocks of 32 pixels still differ
    rows, cols = grey.shape[0] // 32 * 32, grey.shape[1] // 32 * 32
    blocks = grey[:rows, :cols].reshape(rows // 32, 32, cols // 32, 32).mean(axis=(1, 3))
    assert blocks.std() > 12


def test_styles_have_their_own_palettes(pictures: dict[str, Image.Image]) -> None:
    means = [np.asarray(pictures[name], dtype=np.float64).mean(axis=(0, 1)) for name in STYLE]
    gaps = [np.linalg.norm(a - b) for i, a in enumerate(means) for b in means[:i]]
    assert min(gaps) > 15


def test_unknown_name_lists_and_suggests() -> None:
    with pytest.raises(InvalidInput) as caught:
        samples.load("lighthose")
    message = str(caught.value)
    assert "'lighthose'" in message
    assert "did you mean 'lighthouse'?" in message
    assert all(name in message for name in samples.names())
    assert "\n" not in message


def test_unknown_name_far_from_all_has_no_suggestion() -> None:
    with pytest.raises(InvalidInput, match="no sample named 'zzzz': there are harbour"):
        samples.load("zzzz")


def test_write_all(tmp_path: Path, pictures: dict[str, Image.Image]) -> None:
    paths = samples.write_all(tmp_path / "new" / "folder")
    assert [path.name for path in paths] == [f"{name}.png" for name in samples.names()]
    for path in paths:
        with Image.open(path) as image:
            assert image.format == "PNG"
            assert image.convert("RGB").tobytes() == pictures[path.stem].tobytes()


def test_drawing_needs_no_torch() -> None:
    package = Path(samples.__file__).parent.parent
    code = (
        "import sys, types, importlib\n"
        "bare = types.ModuleType('fastnst')\n"
        f"bare.__path__ = [{str(package)!r}]\n"
        "sys.modules['fastnst'] = bare\n"
        "samples = importlib.import_module('fastnst.samples')\n"
        "assert not any(m.startswith('fastnst.samples.') for m in sys.modules)\n"
        "samples.load('waves')\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_write_all_replaces_nothing(tmp_path: Path) -> None:
    (tmp_path / "waves.png").write_text("precious")
    with pytest.raises(InvalidInput, match=r"waves\.png exists and is something else"):
        samples.write_all(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["waves.png"]
    (tmp_path / "waves.png").unlink()
    paths = samples.write_all(tmp_path)
    assert samples.write_all(tmp_path) == paths  # the same files
