"""Settings in files: read, combined, written and read again."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

import fastnst
from fastnst.errors import InvalidInput, OutputFailed
from fastnst.settings.config import combine, parse_setting, read_config, write_config
from fastnst.settings.presets import PRESETS
from fastnst.settings.settings import Settings
from helpers.pictures import smooth


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "run.toml"
    path.write_text(text, "utf-8")
    return path


@pytest.mark.parametrize("preset", PRESETS)
def test_what_is_written_is_read_again(tmp_path: Path, preset: str) -> None:
    path = tmp_path / "run.toml"
    settings = fastnst.make_settings(
        preset, {"seed": 2**40, "tv_weight": 1e-3, "style_weight": 0.1, "init": 'a "b" ü.png'}
    )
    write_config(path, settings)
    assert combine(read_config(path), None, {}) == settings


def test_a_setting_that_may_be_none_is_none_by_default() -> None:
    """TOML has no None: it is left out, so it must be what is assumed."""
    for field in fields(Settings):
        assert ("None" in str(field.type)) == (field.default is None), field.name


def test_options_go_before_the_file_and_the_file_before_the_preset(tmp_path: Path) -> None:
    config = read_config(written(tmp_path, 'preset = "artistyle"\nstyle-weight = 7\nseed = 3\n'))
    settings = combine(config, None, {"seed": 4})
    assert (settings.style_weight, settings.seed, settings.pooling) == (7, 4, "max")
    assert combine(config, "gatys", {}).pooling == "average"
    assert combine({}, None, {}) == Settings()


def test_lists_and_numbers(tmp_path: Path) -> None:
    text = 'style_layers = ["relu1_1", "relu2_1"]\nstyle_layer_weights = [1, 0.5]\nsize = 64\n'
    settings = combine(read_config(written(tmp_path, text)), None, {})
    assert settings.style_layers == ("relu1_1", "relu2_1")
    assert settings.style_layer_weights == (1, 0.5)
    assert settings.size == 64


def test_a_picture_carries_its_settings(tmp_path: Path) -> None:
    result = fastnst.stylize(
        smooth(48, 36), smooth(40, 44), size=32, iterations=1, style_layers=("relu1_1",)
    )
    result.save(tmp_path / "a.png")
    assert combine(read_config(tmp_path / "a.png"), None, {}) == result.settings


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("size = =", r"run\.toml is not a TOML file: .*line 1"),
        ("stlye_weight = 1", r"run\.toml: unknown setting 'stlye_weight'; did you mean"),
        ("size = -1", r"run\.toml: size is -1"),
        ("size = 2020-01-01", r"run\.toml: size is .*2020"),
        ('preset = "gatsy"', r"run\.toml: unknown preset 'gatsy'; did you mean gatys"),
        ("preset = 3", r"run\.toml: preset is 3: expected a text"),
        ("weights = 5", r"run\.toml: weights is 5: expected .* as a text"),
        ('content_layers = "relu1_1"', r"run\.toml: content_layers is 'relu1_1': expected a list"),
        ("content_layers = [1]", r"run\.toml: content_layers is"),
        ("[size]\na = 1", r"run\.toml: size is"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message) as caught:
        read_config(written(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_files_that_are_none(tmp_path: Path, photo) -> None:
    with pytest.raises(InvalidInput, match="does not exist"):
        read_config(tmp_path / "missing.toml")
    with pytest.raises(InvalidInput, match="without the settings of a run"):
        read_config(photo("plain.png"))
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xff")
    with pytest.raises(InvalidInput, match="is not a TOML file"):
        read_config(tmp_path / "bytes.toml")
    (tmp_path / "fake.png").write_text("words")
    with pytest.raises(InvalidInput, match="without the settings of a run"):
        read_config(tmp_path / "fake.png")
    with pytest.raises((InvalidInput, OutputFailed), match="does not exist"):
        write_config(tmp_path / "no" / "run.toml", Settings())


def test_settings_from_text() -> None:
    assert parse_setting("style_weight", "2.5") == 2.5
    assert parse_setting("iterations", "20") == 20
    assert parse_setting("size", "64") == 64
    assert parse_setting("style_layers", "relu1_1, relu2_1") == ("relu1_1", "relu2_1")
    assert parse_setting("style_layer_weights", "1,0.5") == (1.0, 0.5)
    assert parse_setting("init", "content") == "content"
    with pytest.raises(InvalidInput, match="iterations is '2.5': expected a whole number"):
        parse_setting("iterations", "2.5")
    with pytest.raises(InvalidInput, match="did you mean style_weight"):
        parse_setting("stile_weight", "2.5")
