"""``fastnst sheet``: what it prints and leaves, and what it refuses before any work."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from fastnst import cli
from fastnst.run.run import run
from fastnst.settings.config import write_config
from fastnst.settings.presets import PRESETS

QUICK = ("--size", "32", "--iterations", "2", "--content-layers", "relu2_2", "--style-layers",
         "relu1_1,relu2_1")  # fmt: skip


@pytest.fixture
def place(tmp_path: Path, photo: Any, monkeypatch: Any, random_weights: Any) -> Iterator[Path]:
    """A folder with three pictures, and a network that is quick."""
    monkeypatch.setattr("fastnst.run.prepare.load_weights", lambda *_: random_weights)
    for seed, name in enumerate(("c.png", "a.png", "b.png")):
        photo(name, seed=seed)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_rows_and_columns(place: Path, capsys: Any) -> None:
    code = cli.run_app(["sheet", "c.png", "-o", "sheet.png", "--json", *QUICK,
                        "--vary", "style-weight=1,50", "--vary", "style=a.png,b.png"])  # fmt: skip
    printed = capsys.readouterr()
    assert code == 0, printed.err
    record = json.loads(printed.out)
    assert record["rows"] == ["style weight 1", "style weight 50"]
    assert record["columns"] == ["style a", "style b"]
    assert [(cell["row"], cell["column"]) for cell in record["cells"]] == [
        (0, 0), (0, 1), (1, 0), (1, 1)
    ]  # fmt: skip
    assert {cell["iterations"] for cell in record["cells"]} == {2}
    with Image.open("sheet.png") as opened:
        assert opened.size == (record["width"], record["height"])
        assert json.loads(opened.text["fastnst"]) == record  # type: ignore[attr-defined]
    assert "4 of 4 pictures" in printed.err


def test_an_interrupt_leaves_the_cells_so_far(place: Path, capsys: Any, monkeypatch: Any) -> None:
    def interrupted(content: Any, style: Any, settings: Any, *rest: Any, **named: Any) -> Any:
        if settings.seed == 2:
            raise KeyboardInterrupt
        return run(content, style, settings, *rest, **named)

    monkeypatch.setattr("fastnst.sheet.sheet.run", interrupted)
    command = ["sheet", "c.png", "a.png", "-o", "sheet.png", *QUICK, "--vary"]
    assert cli.run_app([*command, "seed=1,2,3", "--json"]) == 130
    printed = capsys.readouterr()
    assert printed.err == "fastnst: interrupted; 1 of 3 pictures are in sheet.png\n"
    assert len(json.loads(printed.out)["cells"]) == 1
    assert Path("sheet.png").exists()
    Path("sheet.png").unlink()
    assert cli.run_app([*command, "seed=2,3"]) == 130
    assert capsys.readouterr().err == "fastnst: interrupted; before there was a picture\n"
    assert not Path("sheet.png").exists()


def test_a_cell_that_fails_is_said_and_the_exit_code_is_1(
    place: Path, capsys: Any, monkeypatch: Any
) -> None:
    from fastnst.errors import NonFiniteLoss

    def failing(content: Any, style: Any, settings: Any, *rest: Any, **named: Any) -> Any:
        if settings.seed == 2:
            raise NonFiniteLoss("the loss is nan")
        return run(content, style, settings, *rest, **named)

    monkeypatch.setattr("fastnst.sheet.sheet.run", failing)
    command = ["sheet", "c.png", "a.png", "-o", "sheet.png", *QUICK, "--vary", "seed=1,2,3"]
    assert cli.run_app(command) == 1
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "fastnst: seed 2: the loss is nan"
    assert "2 of 3 pictures" in said[1]


def test_the_estimate_is_a_sum(place: Path, capsys: Any) -> None:
    command = ["sheet", "c.png", "a.png", "-o", "sheet.png", *QUICK, "--vary", "seed=1,2,3"]
    assert cli.run_app([*command, "--estimate", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["seconds"] == pytest.approx(sum(cell["seconds"] for cell in record["cells"]))
    assert record["bytes"] == max(cell["bytes"] for cell in record["cells"])
    assert [cell["name"] for cell in record["cells"]] == ["seed 1", "seed 2", "seed 3"]
    assert cli.run_app([*command, "--estimate"]) == 0
    assert ", 3 pictures: about " in capsys.readouterr().out
    assert not Path("sheet.png").exists()


@pytest.mark.parametrize(
    "options",
    [
        ["--style-layer-weights", "1,2,3", "--vary", "style-layers=relu1_1,relu1_2,relu2_1;"],
        ["--content-weight", "0", "--style-weight", "0", "--vary", "tv-weight=1,2"],
        ["--style-layers", "", "--vary", "style-weight=0"],
        ["--init", "no.png", "--vary", "init=noise,b.png"],
        ["--weights", "no.pth", "--vary", "weights=vgg19"],
        ["--content-layers", "relu9_9", "--vary", "content-layers=relu1_1;relu2_2"],
        ["--provider", "cpu", "--vary", "engine=onnx"],
    ],
    ids=str,
)
def test_only_the_cells_must_be_right(place: Path, capsys: Any, options: list[str]) -> None:
    command = ["sheet", "c.png", "a.png", *QUICK, "--preset", "gatys", *options]
    assert cli.run_app([*command, "--scratch", "no"]) == 2
    assert "scratch folder no does not exist" in capsys.readouterr().err  # all cells are right
    assert cli.run_app([*command, "--save-config", "all.toml"]) == 2  # what it would be is wrong
    said = capsys.readouterr().err
    assert "scratch" not in said
    assert said.count("\n") == 1
    assert not Path("all.toml").exists()


def test_presets_of_a_sheet_go_before_a_file_of_every_setting(place: Path, capsys: Any) -> None:
    whole = replace(PRESETS["hires"], size=32, seed=5, device="cpu", style_scale=(0.5,))
    write_config(Path("all.toml"), whole)
    command = ["sheet", "c.png", "a.png", "-o", "sheet.png", "--config", "all.toml", "--json",
               "--iterations", "1", "--content-layers", "relu1_1", "--style-layers", "relu1_1",
               "--style-layer-weights", "1", "--vary", "preset=gatys,neural-style"]  # fmt: skip
    assert cli.run_app(command) == 0
    cells = [cell["settings"] for cell in json.loads(capsys.readouterr().out)["cells"]]
    for name in ("init", "pooling", "tv_form", "style_weight", "optimizer", "min_size"):
        own = [getattr(PRESETS[preset], name) for preset in ("gatys", "neural-style")]
        assert [cell[name] for cell in cells] == own, name
    for cell in cells:
        assert (cell["size"], cell["seed"], cell["device"]) == (32, 5, "cpu")
        assert (cell["style_scale"], cell["iterations"]) == ([0.5], 1)
        assert cell["content_layers"] == ["relu1_1"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "name what to vary"),
        (["--vary", "sise=1,2"], "unknown setting 'sise'; did you mean size"),
        (["--vary", "size=64,x"], "size is 'x': expected"),
        (["--vary", "seed=1", "--vary", "size=1", "--vary", "init=noise"], "3 names are varied"),
        (["--vary", "style=b.png,no.png"], "no.png does not exist"),
        (["--vary", "content=b.png,."], ". is a folder"),
        (["--vary", "style=b.png,sample:ink", "-o", "b.png"], "is the same file as style 1, b.png"),
        (["--vary", "init=noise,b.png", "-o", "b.png"], "is the same file as init, b.png"),
        (["--vary", "seed=1,2", "-o", "sheet.txt"], "unknown picture format"),
        (["--vary", "seed=1,2", "-o", "no/sheet.png"], "the folder no does not exist"),
        (["--vary", "style-layers=relu1_1;relu9_9"], "relu9_9"),
        (["--vary", "seed=1", "--scratch", "c.png"], "scratch folder c.png does not exist"),
        (["--vary", "seed=1", "--memory", "lots"], "--memory"),
        (["--provider", "cpu", "--vary", "engine=onnx,torch"], "provider is 'cpu', which is for"),
        (["--init", "no.png", "--vary", "seed=1"], "init: no.png does not exist"),
        (["--vary", "init=noise,no.png"], "init: no.png does not exist"),
        (["--content-layers", "relu9_9", "--vary", "seed=1"], "relu9_9"),
        (["--size", "-1", "--vary", "seed=1"], "size is -1"),
    ],
    ids=str,
)
def test_what_is_refused(place: Path, capsys: Any, options: list[str], message: str) -> None:
    before = {path: path.read_bytes() for path in place.iterdir()}
    assert cli.run_app(["sheet", "c.png", "a.png", *QUICK, *options]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert {path: path.read_bytes() for path in place.iterdir()} == before


def test_a_style_is_named_or_varied(place: Path, capsys: Any) -> None:
    assert cli.run_app(["sheet", "c.png", "--vary", "seed=1"]) == 2
    assert "there is no style: name a picture, or vary style" in capsys.readouterr().err


def test_a_name_that_overwrites_nothing(place: Path, capsys: Any) -> None:
    for name in ("c-a-sheet.png", "c-a-sheet-2.png"):
        assert cli.run_app(["sheet", "c.png", "a.png", *QUICK, "--vary", "seed=1", "-q"]) == 0
        assert Path(name).exists()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("command", ["sheet", "batch"])
def test_a_start_from_standard_input_is_for_one_run(command: str, capsys, tmp_path: Path) -> None:
    rest = {
        "sheet": ["sample:harbour", "sample:swirl", "--vary", "seed=1,2"],
        "batch": ["sample:harbour", "--style", "sample:swirl"],
    }[command]
    code = cli.run_app([command, *rest, "-o", str(tmp_path / "x"), "--init", "-"])
    assert code == 2
    assert "several runs cannot read --init" in capsys.readouterr().err
