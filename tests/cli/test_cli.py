"""The command line as its users run it: a process, its exit code, what it prints and leaves."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image

from fastnst import cli
from fastnst.cli.progress import SeriesBar
from fastnst.devices import choose_device
from fastnst.engines.create import choose_precision
from fastnst.run.checkpoint import load_checkpoint
from fastnst.settings.presets import PRESETS, needs_torchvision
from fastnst.settings.settings import Settings
from helpers.pictures import huge_png, smooth

QUICK = ["--size", "48", "--iterations", "4"]


def fastnst(*arguments: object) -> subprocess.CompletedProcess:
    """The command in this process, which saves the seconds that importing torch takes."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli.run_app([str(a) for a in arguments])
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


def in_a_process(*arguments: object, env: dict | None = None) -> subprocess.CompletedProcess:
    """The command as its users run it."""
    return subprocess.run(
        [sys.executable, "-m", "fastnst", *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "100", **(env or {})},
        timeout=120,
    )


@pytest.fixture
def pair(photo) -> tuple[Path, Path]:
    return photo("content.jpg", 48, 36), photo("style.png", 40, 44, seed=1)


def test_stylize_writes_a_picture_and_one_line(tmp_path: Path, pair) -> None:
    out = tmp_path / "out.png"
    done = in_a_process("stylize", *pair, "-o", out, *QUICK)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    last = done.stderr.strip().splitlines()[-1]
    assert str(out) in last
    assert "48×36" in last
    assert "loss" in last
    with Image.open(out) as image:
        assert image.size == (48, 36)
        assert json.loads(image.text["fastnst"])["iterations"] == 4


def test_a_result_without_a_name_overwrites_nothing(tmp_path: Path, pair, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("content-style.png", "content-style-2.png"):
        assert fastnst("stylize", *pair, *QUICK, "-q").returncode == 0
        assert Path(name).exists()
    assert fastnst("texture", pair[1], *QUICK, "-q").returncode == 0
    assert fastnst("reconstruct", pair[0], *QUICK, "-q").returncode == 0
    assert {path.name for path in tmp_path.glob("*-*.png")} == {
        "content-style.png", "content-style-2.png", "style-texture.png",
        "content-reconstruction.png",
    }  # fmt: skip


def test_json_is_one_object_and_nothing_else(tmp_path: Path, pair) -> None:
    done = fastnst("stylize", *pair, "-o", tmp_path / "a.jpg", *QUICK, "--json", "--seed", 7)
    record = json.loads(done.stdout)
    assert record["output"] == str(tmp_path / "a.jpg")
    assert record["seed"] == 7
    assert record["evaluations"] == 5


def test_quiet_is_silent(tmp_path: Path, pair) -> None:
    done = fastnst("stylize", *pair, "-o", tmp_path / "a.png", *QUICK, "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_options_reach_the_settings(tmp_path: Path, pair) -> None:
    done = fastnst(
        "stylize", *pair, "-o", tmp_path / "a.tiff", *QUICK, "--json", "-q", "--bits", 16,
        "--preset", "artistyle", "--weights", "vgg19", "--style-weight", "0.5",
        "--content-layers", "conv1_2", "--style-layers", "relu1_1, relu1_2",
        "--style-layer-weights", "1,0.5", "--pooling", "average", "--init", pair[1],
        "--engine", "torch", "--device", "cpu", "--history-size", 5, "--tv-weight", "1e-3",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    settings = json.loads(done.stdout)["settings"]
    expected = {
        "size": 48, "iterations": 4, "weights": "vgg19", "style_weight": 0.5, "pooling": "average",
        "content_layers": ["conv1_2"], "style_layers": ["relu1_1", "relu1_2"],
        "style_layer_weights": [1.0, 0.5], "init": str(pair[1]), "engine": "torch",
        "device": "cpu", "history_size": 5, "tv_weight": 1e-3, "style_fit": "content",
    }  # fmt: skip
    assert {key: settings[key] for key in expected} == expected


def test_controls_reach_the_settings(tmp_path: Path, pair) -> None:
    mask = tmp_path / "mask.png"
    Image.new("L", (9, 7), 255).save(mask)
    done = fastnst(
        "stylize", *pair, pair[0], "-o", tmp_path / "a.png", *QUICK, "--json", "-q",
        "--style-blend", "1,3", "--blending", "losses", "--style-scale", "1.5", "--style-size", 40,
        "--statistics", "gram,mean-std", "--statistics-weights", "1,0.5", "--padding", "replicate",
        "--content-layer-weights", "2", "--tv-form", "absolute", "--tv-weight", "0.1",
        "--gradient-norm", "l1", "--pooling", "l2", "--color", "match-covariance",
        "--min-size", 24, "--scale-step", 2, "--scale-iterations", "3", "--optimizer", "adam",
        "--learning-rate", "0.01", "--averaging", "0.5",
        "--style-mask", mask, "--style-mask", mask,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    expected = {
        "style_blend": [1.0, 3.0], "blending": "losses", "style_scale": [1.5], "style_size": 40,
        "statistics": ["gram", "mean-std"], "statistics_weights": [1.0, 0.5],
        "padding": "replicate", "content_layer_weights": [2.0], "tv_form": "absolute",
        "gradient_norm": "l1", "pooling": "l2", "color": "match-covariance", "min_size": 24,
        "scale_step": 2.0, "scale_iterations": [3], "optimizer": "adam", "learning_rate": 0.01,
        "averaging": 0.5,
    }  # fmt: skip
    assert {key: record["settings"][key] for key in expected} == expected
    assert [scale["evaluations"] for scale in record["scales"]] == [6, 5]  # each with its average


def test_masks_of_the_command(tmp_path: Path, pair) -> None:
    mask = tmp_path / "mask.png"
    Image.new("L", (9, 7), 255).save(mask)
    done = fastnst("stylize", *pair, "-o", tmp_path / "a.png", *QUICK, "-q", "--content-mask", mask)
    assert done.returncode == 0, done.stderr
    done = fastnst("stylize", *pair, "-o", tmp_path / "b.png", "--content-mask", pair[0])
    assert done.returncode == 2
    assert "the content mask is no mask" in done.stderr
    done = fastnst("stylize", *pair, "-o", tmp_path / "b.png", "--content-mask", "no.png")
    assert "no.png does not exist" in done.stderr


def test_texture_and_reconstruct(tmp_path: Path, pair) -> None:
    out = tmp_path / "a.png"
    done = fastnst("texture", *pair, "-o", out, *QUICK, "--json", "-q", "--aspect", "2:1")
    record = json.loads(done.stdout)
    assert (record["width"], record["height"]) == (48, 24)
    assert record["loss"]["content"] == {}
    done = fastnst("texture", pair[1], "-o", out, *QUICK, "-q")
    with Image.open(out) as image:
        assert image.size == (44, 48)
    done = fastnst("reconstruct", pair[0], "-o", out, *QUICK, "--json", "-q")
    record = json.loads(done.stdout)
    assert record["loss"]["style"] == {}
    assert set(record["loss"]["content"]) == {"relu4_2"}
    # from noise, whatever the preset starts from, as the library does
    preset = ["--preset", "fast", "--iterations", "0"]
    assert fastnst("texture", pair[1], "-o", out, *QUICK, *preset, "-q").returncode == 0
    done = fastnst("reconstruct", pair[0], "-o", out, *QUICK, *preset, "--json", "-q")
    assert json.loads(done.stdout)["settings"]["init"] == "noise"
    (tmp_path / "a.toml").write_text('preset = "fast"\ninit = "content"\n')
    config = ["--config", tmp_path / "a.toml", "--iterations", "0"]
    done = fastnst("reconstruct", pair[0], "-o", out, *QUICK, *config, "--json", "-q")
    assert json.loads(done.stdout)["settings"]["init"] == "content"
    for arguments, message in (
        (["--init", "content"], "init is 'content': a texture has no content"),
        (["--color", "luminance"], "color is 'luminance': a texture has"),
        (["--strength", "1"], "strength is 1: a texture has no content"),
        (["--preset", "fast", "--strength", "0"], "strength is 0: a texture has no content"),
        (["--aspect", "wide"], "--aspect is 'wide': expected width:height"),
        (["--aspect", "100:1"], "aspect is 100.0: expected"),
    ):
        done = fastnst("texture", pair[1], "-o", out, *QUICK, *arguments)
        assert (done.returncode, message in done.stderr) == (2, True), done.stderr
    for strength in ("0", "0.2", "1"):
        done = fastnst("reconstruct", pair[0], "-o", out, *QUICK, "--strength", strength)
        assert done.returncode == 2
        assert f"strength is {strength}: a reconstruction has no style" in done.stderr


def test_save_every(tmp_path: Path, pair) -> None:
    done = fastnst("stylize", *pair, "-o", tmp_path / "a.png", *QUICK, "-q", "--save-every", 2)
    assert done.returncode == 0
    assert {p.name for p in tmp_path.glob("a*")} == {"a.png", "a-00002.png", "a-00004.png"}
    with Image.open(tmp_path / "a-00002.png") as image:
        record = json.loads(image.text["fastnst"])
    assert (record["iteration"], record["iterations"]) == (2, 4)
    assert record["output"] == str(tmp_path / "a-00002.png")
    assert record["loss"]["total"] > 0
    again = fastnst(
        "stylize", *pair, "-o", tmp_path / "b.png", "-q", "--config", tmp_path / "a-00002.png"
    )
    assert again.returncode == 0, again.stderr
    with Image.open(tmp_path / "a.png") as a, Image.open(tmp_path / "b.png") as b:
        assert a.tobytes() == b.tobytes()


@pytest.mark.slow
def test_a_run_is_interrupted_and_resumed(tmp_path: Path, pair) -> None:
    run = ["stylize", *pair, "-q", "--size", "48", "--iterations", "8"]
    assert fastnst(*run, "-o", tmp_path / "whole.png").returncode == 0
    command = [sys.executable, "-m", "fastnst", *map(str, run), "-o", str(tmp_path / "a.png")]
    command += ["--checkpoint", str(tmp_path / "a.ck"), "--save-every", "1"]
    process = subprocess.Popen([*command, "--iterations", "100000"], stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while not (tmp_path / "a-00002.png").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130
    done = load_checkpoint(tmp_path / "a.ck").solver.numbers["iteration"]
    assert done >= 2
    whole = fastnst(*run, "--iterations", done + 3, "-o", tmp_path / "whole.png", "--json")
    again = fastnst(
        *run, "--iterations", done + 3, "-o", tmp_path / "a.png", "--resume", tmp_path / "a.ck",
        "--json",
    )  # fmt: skip
    losses = [json.loads(run.stdout)["loss"] for run in (whole, again)]
    assert losses[0] == losses[1]


def test_settings_come_from_a_file_and_go_to_one(tmp_path: Path, pair) -> None:
    (tmp_path / "in.toml").write_text('size = 32\niterations = 2\nstyle-layers = ["relu1_1"]\n')
    done = fastnst(
        "stylize", *pair, "-o", tmp_path / "a.png", "--config", tmp_path / "in.toml",
        "--iterations", 1, "--save-config", tmp_path / "out.toml", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    settings = json.loads(done.stdout)["settings"]
    assert (settings["size"], settings["iterations"]) == (32, 1)
    again = fastnst("stylize", *pair, "-o", tmp_path / "b.png", "--config", tmp_path / "out.toml")
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "a.png").read_bytes()[:4] == (tmp_path / "b.png").read_bytes()[:4]
    with Image.open(tmp_path / "a.png") as a, Image.open(tmp_path / "b.png") as b:
        assert a.tobytes() == b.tobytes()
        assert (
            json.loads(a.text["fastnst"])["settings"] == json.loads(b.text["fastnst"])["settings"]
        )


def test_plot_and_video(tmp_path: Path, pair) -> None:
    pytest.importorskip("matplotlib")
    pytest.importorskip("av")
    plot, film = tmp_path / "plot.png", tmp_path / "film.mp4"
    done = fastnst(
        "stylize", *pair, "-o", tmp_path / "a.png", *QUICK, "--plot", plot, "--video", film
    )
    assert done.returncode == 0, done.stderr
    assert plot.stat().st_size > 5000
    assert film.stat().st_size > 500


def test_a_film_of_several_scales_has_the_size_of_the_result(tmp_path: Path, pair) -> None:
    av = pytest.importorskip("av")
    scales = ("--size", "48", "--min-size", "24", "--scale-iterations", "1")
    done = fastnst(
        *("stylize", *pair, "-o", tmp_path / "a.png", *QUICK, *scales),
        *("--style-layers", "relu1_1", "--content-layers", "relu1_1"),
        *("--video", tmp_path / "a.mp4"),
    )
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "a.png") as picture, av.open(str(tmp_path / "a.mp4")) as film:
        stream = film.streams.video[0]
        assert (stream.width, stream.height) == picture.size == (48, 36)


def test_estimate_says_what_a_run_takes(tmp_path: Path, pair) -> None:
    run = ["stylize", *pair, "-o", tmp_path / "a.png", *QUICK, "--estimate"]
    text = fastnst(*run).stdout
    assert text.startswith("48×36: about ")
    assert "iB of memory" in text
    needs = json.loads(fastnst(*run, "--json").stdout)
    assert set(needs) == {
        "width", "height", "bytes", "free_bytes", "seconds", "engine", "device", "precision",
        "pieces", "scratch_bytes", "pairs", "scales", "main_bytes"
    }  # fmt: skip
    assert needs["seconds"] > 0
    assert not (tmp_path / "a.png").exists()


def test_batch(tmp_path: Path, photo) -> None:
    for seed, name in enumerate(("one.png", "two.jpg")):
        photo(name, seed=seed)
    style = photo("style.png", 40, 44, seed=2)
    (tmp_path / "bad.png").write_text("words")
    run = ["batch", *(tmp_path / n for n in ("one.png", "two.jpg", "bad.png")), "-s", style,
           "-o", tmp_path / "new" / "out", *QUICK]  # fmt: skip
    listed = fastnst(*run, "--dry-run").stdout.splitlines()
    assert [line.partition(":")[0] for line in listed] == ["to do"] * 3
    assert not (tmp_path / "new").exists()
    first = fastnst(*run, "--json")
    assert first.returncode == 1
    assert [json.loads(x)["status"] for x in first.stdout.splitlines()] == [
        "done",
        "done",
        "failed",
    ]
    assert "bad-style.png: " in first.stderr
    assert "2 done, 0 were done before, 1 failed" in " ".join(first.stderr.split())
    assert (tmp_path / "new" / "out" / "two-style.png").exists()
    again = fastnst(*run)
    assert again.returncode == 1
    assert "0 done, 2 were done before, 1 failed" in " ".join(again.stderr.split())
    good = fastnst(*(a for a in run if a != tmp_path / "bad.png"), "-q")
    assert (good.returncode, good.stdout, good.stderr) == (0, "", "")
    over = fastnst(*(a for a in run if a != tmp_path / "bad.png"), "--overwrite", "--json", "-q")
    assert len(over.stdout.splitlines()) == 2


def test_a_batch_in_shards_and_workers(tmp_path: Path, photo) -> None:
    for seed, name in enumerate(("one.png", "two.png", "three.png")):
        photo(name, seed=seed)
    style = photo("style.png", 40, 44, seed=3)
    run = ["batch", *(tmp_path / n for n in ("one.png", "two.png", "three.png")), "-s", style,
           "-o", tmp_path / "out", *QUICK]  # fmt: skip
    second = fastnst(*run, "--shard", "2/2")
    assert second.returncode == 0, second.stderr
    assert "1 done, 0 were done before" in " ".join(second.stderr.split())
    listed = fastnst(*run, "--dry-run").stdout.splitlines()
    assert [line.partition(":")[0] for line in listed] == ["to do", "done", "to do"]
    rest = fastnst(*run, "--workers", 2, "--threads", 1, "--json")
    assert rest.returncode == 0, rest.stderr
    assert [json.loads(x)["status"] for x in rest.stdout.splitlines()] == ["done"] * 2
    assert "2 done, 1 were done before" in " ".join(rest.stderr.split())


def test_a_batch_from_a_table(tmp_path: Path, photo) -> None:
    photo("one.png"), photo("style.png", 40, 44, seed=2)
    (tmp_path / "jobs.csv").write_text("content,style,seed\none.png,style.png,7\n")
    done = fastnst(
        "batch", "--table", tmp_path / "jobs.csv", "-o", tmp_path / "out", *QUICK, "--bits", 16
    )
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "out" / "one-style.png") as image:
        assert json.loads(image.text["fastnst"])["seed"] == 7


def test_the_bar_of_a_batch_counts_the_iterations_of_all_scales(
    tmp_path: Path, photo, monkeypatch
) -> None:
    shown = []

    class Bar(SeriesBar):
        def step(self, *arguments) -> None:
            super().step(*arguments)
            shown.append((self.bar.tasks[0].completed, self.bar.tasks[0].total))

    monkeypatch.setattr("fastnst.cli.progress.SeriesBar", Bar)
    photo("one.png"), photo("two.png", seed=1), photo("style.png", 40, 44, seed=2)
    done = fastnst(
        "batch", tmp_path / "one.png", tmp_path / "two.png", "-s", tmp_path / "style.png", "-o",
        tmp_path / "out", "--size", 64, "--min-size", 32, "--iterations", 2,
        "--scale-iterations", 3, "--content-layers", "relu1_1", "--style-layers", "relu1_1",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    # at each scale the start and its iterations
    assert shown == [(k, 10) for k in (0, 1, 2, 2, 3, 4, 5, 5, 6, 7, 7, 8, 9, 10)]


def test_a_row_of_a_table_keeps_what_the_command_line_has(tmp_path: Path, photo) -> None:
    photo("c.png"), photo("s.png", seed=1)
    rows = ("content,style,tv_weight,output", "c.png,s.png,5,a.png", "c.png,s.png,,b.png")
    (tmp_path / "jobs.csv").write_text("\n".join(rows))
    for options, forms in (
        (["--preset", "gatys", "--tv-form", "color", "--tv-weight", 2], ["color", "color"]),
        ([], ["squared", "color"]),
        (["--preset", "neural-style"], ["absolute-sum", "absolute-sum"]),
    ):
        done = fastnst(
            "batch", "--table", tmp_path / "jobs.csv", "-o", tmp_path / "out", *options,
            "--size", 32, "--iterations", 0, "--content-layers", "relu1_1",
            "--style-layers", "relu1_1", "--style-layer-weights", 1, "--overwrite",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        for name, form in zip(("a.png", "b.png"), forms, strict=True):
            with Image.open(tmp_path / "out" / name) as image:
                assert json.loads(image.text["fastnst"])["settings"]["tv_form"] == form


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name content pictures and at least one --style"),
        (["C"], "at least one --style"),
        (["C", "-s", "no*.png"], "no*.png fits no picture"),
        (["C", "-s", "S", "--table", "t.csv"], "leave out CONTENTS"),
        (["--table", "t.csv"], "table t.csv does not exist"),
        (["C", "-s", "S", "--bits", "16", "--name", "{content}.jpg"], "JPEG has no 16-bit"),
        (["C", "-s", "S", "--checkpoint-every", "-1"], "checkpoint-every is -1"),
        (["C", "-s", "S", "--shard", "0/2"], "--shard is 0/2: expected I/N"),
        (["C", "-s", "S", "--shard", "3/2"], "--shard is 3/2"),
        (["C", "-s", "S", "--shard", "1"], "--shard is 1:"),
    ],
)
def test_a_batch_that_cannot_start_is_one_clear_line(
    tmp_path: Path, pair, arguments: list[str], message: str, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    names = {"C": str(pair[0]), "S": str(pair[1])}
    assert cli.run_app(["batch", *(names.get(a, a) for a in arguments), "-o", "out"]) == 2
    stderr = capsys.readouterr().err
    assert message in " ".join(stderr.split())
    assert len(stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["missing.jpg", "S", "-o", "out.png"], 2, "missing.jpg does not exist"),
        (["folder", "S", "-o", "out.png"], 2, "folder is a folder"),
        (["empty.jpg", "S", "-o", "out.png"], 2, "empty.jpg is empty"),
        (["cut.jpg", "S", "-o", "out.png"], 2, "cut.jpg cannot be read"),
        (["text.jpg", "S", "-o", "out.png"], 2, "text.jpg is not a picture"),
        (["huge.png", "S", "-o", "out.png"], 2, "huge.png has more than 179 megapixels"),
        (["dot.png", "S", "-o", "out.png", "--size", "0"], 2, "1×1 pixels"),
        (["sample:harbor", "S", "-o", "out.png"], 2, "did you mean 'harbour'"),
        (["C", "S", "-o", "out.png", "--size", "8"], 2, "needs at least 16"),
        (["C", "S", "-o", "out.png", "--size", "-5"], 2, "size is -5"),
        (["C", "S", "-o", "out.png", "--size", "1000000000"], 2, "size is 1000000000"),
        (["C", "S", "-o", "out.png", "--size", "90000"], 2, "GiB of memory"),
        (["C", "S", "-o", "out.png", "--size", "x"], 2, "--size"),
        (["C", "S", "-o", "out.png", "--style-weight", "-1"], 2, "style_weight is -1"),
        (["C", "S", "-o", "out.png", "--content-weight", "nan"], 2, "content_weight is nan"),
        (["C", "S", "-o", "out.png", "--style-layers", "relu6_1"], 2, "unknown layer 'relu6_1'"),
        (["C", "S", "-o", "out.png", "--style-layer-weights", "a"], 2, "separated by commas"),
        (["C", "S", "-o", "out.png", "--preset", "gatsy"], 2, "did you mean gatys"),
        (
            ["C", "S", "-o", "out.png", "--weights", "bad.pth"],
            2,
            "bad.pth: conv1_1.weight has shape",
        ),
        (
            ["C", "S", "-o", "out.png", "--weights", "vgg91"],
            2,
            "weights: vgg91 does not exist (or use vgg19-normalised, vgg19, torchvision or",
        ),
        (["C", "S", "-o", "out.png", "--device", "gpu"], 2, "device is 'gpu'"),
        (["C", "S", "-o", "out.png", "--init", "noize"], 2, "init: noize does not exist"),
        (["C", "S", "-o", "out.png", "--save-every", "-1"], 2, "save-every is -1"),
        (["C", "S", "-o", "out.png", "--config", "no.toml"], 2, "config no.toml does not exist"),
        (["C", "S", "-o", "out.png", "--plot", "plot.jpg"], 2, "expected a name ending in .png"),
        (["C", "S", "-o", "out.png", "--plot", "./out.png"], 2, "--output and --plot are the same"),
        (["C", "S", "-o", "out.png", "--video", "a.gif"], 2, "expected a name ending in .mp4"),
        (["C", "S", "-o", "out.png", "--resume", "no.ck"], 2, "checkpoint no.ck does not exist"),
        (["C", "S", "-o", "out.png", "--checkpoint", "no/a"], 2, "the folder no does not exist"),
        (["C", "S", "-o", "out.png", "--resume", "empty.jpg"], 2, "empty.jpg cannot be read"),
        (
            ["C", "S", "-o", "out.png", "--checkpoint", "a", "--checkpoint-every", "0"],
            2,
            "--checkpoint-every is 0: expected 1 or more",
        ),
        (
            ["C", "S", "-o", "out.png", "--ranks", "2", "--estimate"],
            2,
            "estimate is of one process",
        ),
        (["C", "S", "-o", "out.jgp"], 2, "unknown picture format '.jgp'"),
        (["C", "S", "-o", "no/out.png"], 2, "the folder no does not exist"),
        (["C"], 2, "missing argument 'style' (see fastnst stylize --help)"),
        (["C", "http://example.org/a.jpg", "-o", "out.png"], 2, "is an address: download"),
    ],
)
def test_bad_input_is_one_clear_line(
    tmp_path: Path, pair, arguments: list[str], code: int, message: str, monkeypatch, capsys
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("words")
    data = pair[0].read_bytes()
    (tmp_path / "cut.jpg").write_bytes(data[: len(data) // 2])
    Image.fromarray(smooth(1, 1)).save(tmp_path / "dot.png")
    torch.save({"conv1_1.weight": torch.zeros(64, 3, 5, 5)}, tmp_path / "bad.pth")
    if "huge.png" in arguments:
        huge_png(tmp_path / "huge.png", 20_000)
    old = pair[1].read_bytes()
    (tmp_path / "out.png").write_bytes(old)
    names = {"C": str(pair[0]), "S": str(pair[1])}
    monkeypatch.chdir(tmp_path)
    assert cli.run_app(["stylize", *(names.get(a, a) for a in arguments)]) == code
    stdout, stderr = capsys.readouterr()
    assert message in " ".join(stderr.split())
    assert len(stderr.strip().splitlines()) == 1
    assert stdout == ""
    assert (tmp_path / "out.png").read_bytes() == old
    assert not list(tmp_path.glob(".*.part"))


@pytest.mark.skipif(not Path("/dev/shm").is_dir() or os.geteuid() != 0, reason="needs a mount")
def test_a_full_disk_is_found_and_the_old_file_stays(tmp_path: Path, pair) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", disk]).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        Image.new("RGB", (8, 8)).save(disk / "out.png")
        old = (disk / "out.png").read_bytes()
        (disk / "filler").write_bytes(b"x" * 40_000)
        done = fastnst("stylize", *pair, "-o", disk / "out.png", *QUICK)
        assert done.returncode == 2
        assert "are free in" in done.stderr
        assert (disk / "out.png").read_bytes() == old
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.mark.slow
def test_ctrl_c_saves_the_best_picture_and_exits_130(tmp_path: Path, pair) -> None:
    out = tmp_path / "out.png"
    process = subprocess.Popen(
        [sys.executable, "-m", "fastnst", "stylize", *map(str, pair), "-o", str(out),
         "--size", "48", "--iterations", "100000", "--save-every", "3", "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not (tmp_path / "out-00003.png").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    assert "interrupted; the best picture so far is in" in " ".join(stderr.split())
    record = json.loads(stdout)
    assert 3 <= record["iterations"] < 100_000
    with Image.open(out) as image:
        assert image.size == (48, 36)


def test_ctrl_c_before_there_is_a_picture(tmp_path: Path, pair, monkeypatch, capsys) -> None:
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("fastnst.run.run.run", interrupted)
    assert cli.run_app(["stylize", *map(str, pair), "-o", str(tmp_path / "o.png"), "-q"]) == 130
    assert capsys.readouterr().err == "fastnst: interrupted before there was a picture\n"


def test_ctrl_c_outside_a_run(tmp_path: Path, pair, monkeypatch, capsys) -> None:
    """As while torch is imported: no traceback, no "Aborted", the code of an interrupt."""

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("fastnst.estimate.estimate", interrupted)
    assert cli.run_app(["stylize", *map(str, pair), "--estimate"]) == 130
    assert capsys.readouterr().err == "fastnst: interrupted before there was a picture\n"


def test_info() -> None:
    report = json.loads(fastnst("info", "--json").stdout)
    assert set(report) == {
        "versions", "native", "cuda", "threads", "engines", "onnx", "weights", "chosen"
    }  # fmt: skip
    assert report["chosen"]["engine"] in ("native", "torch")
    device = choose_device("auto")
    assert report["chosen"]["precision"] == choose_precision(Settings(), device)
    assert (report["native"]["reason"] is None) == report["native"]["available"]
    text = fastnst("info")
    assert text.returncode == 0
    assert "chosen.engine" in text.stdout


@pytest.mark.slow
def test_samples(tmp_path: Path) -> None:
    listing = fastnst("samples").stdout
    assert "sample:harbour" in listing
    done = fastnst("samples", tmp_path / "new")
    assert done.returncode == 0
    assert len(list((tmp_path / "new").glob("*.png"))) >= 5
    assert fastnst("samples", __file__).returncode == 2
    if sys.platform == "linux":  # the system's reason, and the file
        done = fastnst("samples", "/proc/self")
        assert done.returncode == 1
        assert "None" not in done.stderr
        assert done.stderr.count("\n") == 1


def test_presets() -> None:
    text = fastnst("presets").stdout
    assert all(name in text for name in PRESETS)
    assert json.loads(fastnst("presets", "--json").stdout)["gatys"]["iterations"] == 300


def test_presets_that_need_torchvision_are_marked(monkeypatch, capsys, tmp_path: Path) -> None:
    monkeypatch.setenv("COLUMNS", "300")  # no cell of the table is wrapped
    text = fastnst("presets").stdout
    needing = [name for name, preset in PRESETS.items() if needs_torchvision(preset)]
    assert "artistyle" in needing
    assert text.count("needs the package torchvision") == len(needing)
    monkeypatch.setattr("importlib.util.find_spec", lambda name, package=None: None)
    run = ["stylize", "sample:harbour", "sample:swirl", "-o", str(tmp_path / "a.png")]
    assert cli.run_app([*run, "--preset", "artistyle"]) == 1
    assert "preset artistyle takes torchvision's weights, and torchvision is not installed" in (
        capsys.readouterr().err
    )


def test_help_and_version() -> None:
    assert fastnst("--version").stdout.startswith("fastnst ")
    text = fastnst("stylize", "--help").stdout
    for option in ("--output", "--size", "--preset", "--init", "--engine", "--json", "--seed"):
        assert option in text


@pytest.mark.slow
def test_it_works_without_the_extension(tmp_path: Path, pair) -> None:
    without = {"FASTNST_NO_NATIVE": "1"}
    done = in_a_process("stylize", *pair, "-o", tmp_path / "a.png", *QUICK, "--json", env=without)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["engine"] == "torch"
    asked = in_a_process(
        "stylize", *pair, "-o", tmp_path / "b.png", *QUICK, "--engine", "native", env=without
    )
    assert asked.returncode == 1
    assert "engine native cannot run: " in asked.stderr
    assert len(asked.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "b.png").exists()
