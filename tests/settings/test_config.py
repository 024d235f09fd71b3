"""Settings in files: read, combined, written and read again."""

from __future__ import annotations

import os
import threading
from dataclasses import fields
from pathlib import Path

import pytest

import fastnst
from fastnst.errors import InvalidInput, OutputFailed
from fastnst.settings.config import combine, parse_setting, read_config, write_config
from fastnst.settings.presets import DEFAULT_PRESET, FIRST_PRESET, PRESETS, make_settings
from fastnst.settings.settings import Settings
from helpers.pictures import huge_png, smooth


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
        if field.default is None:
            assert getattr(PRESETS[DEFAULT_PRESET], field.name) is None, field.name


def test_options_go_before_the_file_and_the_file_before_the_preset(tmp_path: Path) -> None:
    config = read_config(written(tmp_path, 'preset = "artistyle"\nstyle-weight = 7\nseed = 3\n'))
    settings = combine(config, None, {"seed": 4})
    assert (settings.style_weight, settings.seed, settings.pooling) == (7, 4, "max")
    assert combine(config, "gatys", {}).pooling == "average"
    assert combine({}, None, {}) == PRESETS[FIRST_PRESET]
    assert combine({}, None, {}, "gatys") == Settings()
    assert combine({"preset": "hires"}, None, {}, "gatys") == PRESETS["hires"]


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


def test_a_form_that_a_file_names_stays_with_another_weight(tmp_path: Path) -> None:
    """As any setting of a file that no option replaces; a preset's own gives way."""
    write_config(tmp_path / "run.toml", PRESETS["fast"])
    options = {"tv_weight": 100.0}
    assert combine(read_config(tmp_path / "run.toml"), None, options).tv_form == "color"
    config = read_config(written(tmp_path, 'preset = "fast"\nsize = 64\n'))
    assert combine(config, None, {}).tv_form == "color"
    assert combine(config, None, options).tv_form == "squared"
    assert combine({**config, "tv_weight": 3.0}, None, {}).tv_form == "squared"


def test_a_contact_sheet_is_no_file_of_settings(tmp_path: Path) -> None:
    sheet = fastnst.contact_sheet(
        *(smooth(48, 36), smooth(40, 44), {"seed": (1,)}),
        size=32,
        iterations=0,
        content_layers=("relu1_1",),
        style_layers=("relu1_1",),
    )
    sheet.save(tmp_path / "sheet.png")
    with pytest.raises(InvalidInput, match=r"sheet\.png is a contact sheet, .*: name the PNG of"):
        read_config(tmp_path / "sheet.png")


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
        (
            'style_layers = ["relu1_1", "relu1_1"]',
            r"run\.toml: style_layers has 'relu1_1' twice: expected it once",
        ),
        ("averaging = 1.0", r"run\.toml: averaging is 1.0: expected a number, .*less than 1"),
        ("#" + "x" * 1_000_000, r"run\.toml is larger than a file of settings can be"),
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


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_editors_encodings_and_line_ends(tmp_path: Path, encoding: str, ending: str) -> None:
    path = tmp_path / "run.toml"
    path.write_bytes(f'size = 64{ending}init = "ü.png"{ending}'.encode(encoding))
    assert read_config(path) == {"size": 64, "init": "ü.png"}


def test_pictures_are_found_beside_the_file_first(tmp_path: Path, photo, monkeypatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    photo("start.png")
    path = written(tmp_path, 'init = "start.png"')
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert read_config(path)["init"] == str(tmp_path / "start.png")
    Path("other.png").touch()
    path = written(tmp_path, 'init = "other.png"\nweights = "vgg19"')
    assert read_config(path) == {"init": "other.png", "weights": "vgg19"}


def test_a_written_file_finds_its_picture_from_anywhere(tmp_path: Path, photo, monkeypatch) -> None:
    photo("start.png")
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path)
    write_config(Path("run.toml"), Settings(init="start.png"))
    assert 'init = "start.png"' in Path("run.toml").read_text()
    write_config(Path("below/run.toml"), Settings(init="start.png"))
    monkeypatch.chdir("/")
    for path in (tmp_path / "run.toml", tmp_path / "below" / "run.toml"):
        assert read_config(path)["init"] == str(tmp_path / "start.png")


def test_a_name_in_both_spellings_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="style_weight is there twice"):
        read_config(written(tmp_path, "style-weight = 1\nstyle_weight = 2\n"))


def test_pictures_that_are_no_settings(tmp_path: Path) -> None:
    from PIL import Image, PngImagePlugin

    huge_png(tmp_path / "huge.png", 20_000)
    records = ("5", "[]", '{"settings": 5}', "[" * 100_000, '{"settings": {"size": [[]]}}', "{")
    for number, record in enumerate(records):
        info = PngImagePlugin.PngInfo()
        info.add_itxt("fastnst", record)
        Image.new("L", (2, 2)).save(tmp_path / f"{number}.png", pnginfo=info)
    for path in sorted(tmp_path.glob("*.png")):
        with pytest.raises(InvalidInput, match=rf"config .*{path.name}") as caught:
            read_config(path)
        assert "\n" not in str(caught.value)


def test_names_that_no_system_takes(tmp_path: Path) -> None:
    for name in ("x" * 5000, "a\0b"):
        with pytest.raises(InvalidInput, match="config "):
            read_config(tmp_path / name)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed = " + "9" * 5000, "seed is a number of more than 4000 digits: expected a whole"),
        ("a = 1\nstyle-weight = -" + "1" * 9999, "style_weight is a number of more than 4000"),
        ("size = [1, " + "1" * 5000 + "]", "size is a number of more than 4000 digits"),
        ("[seed]\nx = " + "1" * 5000, "x is a number of more than 4000 digits"),
        ('init = "' + "1" * 5000 + '', "is not a TOML file"),  # a text without its end
    ],
)  # fmt: skip
def test_a_number_of_thousands_of_digits_is_named(tmp_path: Path, text, message) -> None:
    with pytest.raises(InvalidInput, match=message):
        read_config(written(tmp_path, text))


def test_an_empty_preset_is_none() -> None:
    with pytest.raises(InvalidInput, match="unknown preset ''"):
        combine({}, "", {})


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names there")
def test_a_pipe_is_read_like_a_file(tmp_path: Path) -> None:
    """As ``--config <(...)`` is one."""
    for data, message in ((b"seed = 3", None), (b"\x89PNG\r\n\x1a\n", "a picture in a pipe")):
        path = tmp_path / f"pipe-{data[0]}"
        os.mkfifo(path)
        writer = threading.Thread(target=path.write_bytes, args=(data,))
        writer.start()
        if message is None:
            assert read_config(path) == {"seed": 3}
        else:
            with pytest.raises(InvalidInput, match=message):
                read_config(path)
        writer.join()


def test_a_picture_s_settings_are_those_that_it_was_made_with(tmp_path: Path, photo) -> None:
    """Its paths were relative to a working directory: what lies beside it is another file."""
    from PIL import Image, PngImagePlugin

    photo("start.png")
    info = PngImagePlugin.PngInfo()
    info.add_itxt("fastnst", '{"settings": {"init": "start.png"}}')
    Image.new("L", (2, 2)).save(tmp_path / "made.png", pnginfo=info)
    assert read_config(tmp_path / "made.png")["init"] == "start.png"


def test_a_preset_beside_every_setting_is_refused(tmp_path: Path) -> None:
    """It would change those alone that are none, and make a mixture of two."""
    write_config(tmp_path / "a.toml", make_settings("fast"))
    config = read_config(tmp_path / "a.toml")
    with pytest.raises(InvalidInput, match="names every setting, and preset crowsonkb"):
        combine(config, "crowsonkb", {})
    assert combine(config, None, {"size": 40}) == make_settings("fast", {"size": 40})
    assert combine({"seed": 3}, "crowsonkb", {}) == make_settings("crowsonkb", {"seed": 3})
