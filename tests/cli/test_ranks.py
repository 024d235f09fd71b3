"""The command line as one of several ranks, and as what starts them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer
from PIL import Image

from fastnst import cli
from fastnst.cli import ranks
from fastnst.cli.batch import SINCE, _beside_others
from fastnst.cli.options import own_threads
from fastnst.errors import FastNSTError, InvalidInput
from fastnst.ranks import communication
from fastnst.ranks.launch import Plan
from fastnst.run.checkpoint import load_checkpoint
from fastnst.run.resources import Resources
from fastnst.settings.settings import Settings
from helpers.pictures import smooth

NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "TORCHELASTIC_RUN_ID",
         "FASTNST_THREADS", "TORCHELASTIC_MAX_RESTARTS")  # fmt: skip
QUICK = ["--size", "48", "--iterations", "2", "--style-layers", "relu1_1", "--content-layers",
         "relu1_1"]  # fmt: skip


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("c.png", "s.png")):
        Image.fromarray(smooth(48, 36, seed)).save(name)


def be_rank(monkeypatch: pytest.MonkeyPatch, rank: int, ranks_: int) -> None:
    """This process is a rank, and alone nevertheless: nobody else is started."""
    monkeypatch.setenv("RANK", str(rank))
    monkeypatch.setenv("WORLD_SIZE", str(ranks_))
    monkeypatch.setattr(communication, "join", lambda _: communication.current())
    monkeypatch.setattr(communication, "leave", lambda _=None: None)


def as_rank_1_nothing_comes_of(words: list[str], monkeypatch, capsys, folder: Path) -> None:
    """Rank 1 of two neither writes nor speaks."""
    be_rank(monkeypatch, 1, 2)
    before = sorted(folder.iterdir())
    assert cli.run_app(words) == 0
    assert capsys.readouterr() == ("", "")
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--ranks", "0"], "--ranks is 0: expected 1"),
        (["--ranks", "2", "--restarts", "1"], "--restarts needs a --checkpoint"),
        (["--restarts", "1", "--checkpoint", "x"], "--restarts is for --ranks"),
        (["--machines", "2"], "--machines and --join go together"),
        (["--ranks", "2", "--rank-timeout", "0"], "--rank-timeout is 0"),
        (["--ranks", "2", "--preview"], "--preview is not for ranks"),
        (["--ranks", "2", "--optimizer", "torch-lbfgs"], "2 ranks cannot share this picture: opti"),
        (["--ranks", "2", "--engine", "onnx"], "engine onnx computes no strips"),
        (["--ranks", "2", "--gradient-norm", "l1"], "gradient_norm l1 needs the whole picture"),
        (["--machines", "1:4", "--join", "here:1", "--engine", "onnx"], "4 ranks cannot share"),
        (["--ranks", "9", "--size", "48"], "9 ranks are too many: a picture of 48×36 pixels has 1"),
    ],
)
def test_what_cannot_be_is_one_line_before_anything_starts(
    arguments: list[str], message: str, monkeypatch, capsys
) -> None:
    monkeypatch.setattr("fastnst.cli.ranks.start_ranks", lambda _: pytest.fail("started"))
    assert cli.run_app(["stylize", "c.png", "s.png", "-o", "o.png", *arguments]) == 2
    err = capsys.readouterr().err
    assert message in " ".join(err.split())
    assert len(err.strip().splitlines()) == 1


def test_an_estimate_is_of_one_process(monkeypatch, capsys) -> None:
    words = ["stylize", "sample:harbour", "sample:swirl", "-o", "o.png", "--estimate"]
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert cli.run_app(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        "fastnst: rank 1: --estimate is of one process, and this is one of 2 (WORLD_SIZE): start "
        "it without torchrun\n"
    )


@pytest.mark.parametrize(
    "words",
    [
        ["video", "film", "s.png", "-o", "o.mp4"],
        ["sheet", "c.png", "s.png", "--vary", "seed=1,2"],
        ["export", "o.onnx", "--content", "c.png", "--style", "s.png"],
        ["ui"],
    ],
)
def test_a_command_that_ranks_do_not_share_is_not_done_by_each(words, monkeypatch, capsys) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    before = os.listdir()
    assert cli.run_app(words) == 2
    out, err = capsys.readouterr()
    assert err == (
        f"fastnst: rank 1: fastnst {words[0]} is one process, and this is one of 2 (WORLD_SIZE): "
        "start it without torchrun; several share stylize, texture, reconstruct and batch\n"
    )
    assert out == ""
    assert os.listdir() == before
    assert cli.run_app(["presets"]) == 0
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert cli.run_app([words[0], "--help"]) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["texture", "s.png", "--ranks", "9", "--size", "48"], "9 ranks are too many"),
        (["texture", "s.png", "--ranks", "2", "--optimizer", "torch-lbfgs"], "2 ranks cannot"),
        (["texture", "-", "--ranks", "2"], "standard input"),
        (["reconstruct", "c.png", "--ranks", "9", "--size", "48"], "9 ranks are too many"),
        (["reconstruct", "c.png", "--machines", "2"], "--machines and --join go together"),
    ],
)
def test_textures_and_reconstructions_have_ranks_too(words, message, monkeypatch, capsys) -> None:
    started = []

    def start(plan: Plan) -> None:
        started.append(plan)
        raise typer.Exit(7)

    monkeypatch.setattr("fastnst.cli.ranks.start_ranks", start)

    assert cli.run_app([*words, "-o", "o.png"]) == 2
    assert message in capsys.readouterr().err
    assert not started
    few = [*words[:2], "--ranks", "2", "--size", "400", "-o", "o.png"]
    if words[1] != "-":
        Image.fromarray(smooth(48, 400)).save(words[1])
        assert cli.run_app(few) == 7
        assert started[0].ranks == 2


def test_rank_0_alone_saves_a_texture(monkeypatch, capsys, tmp_path: Path) -> None:
    words = ["texture", "s.png", "--size", "48", "--iterations", "1", "--style-layers", "relu1_1"]
    as_rank_1_nothing_comes_of([*words, "-o", "one.png"], monkeypatch, capsys, tmp_path)
    be_rank(monkeypatch, 0, 2)
    assert cli.run_app([*words, "-o", "zero.png"]) == 0
    assert "zero.png" in capsys.readouterr().err


def test_a_picture_from_standard_input_is_refused(capsys) -> None:
    assert cli.run_app(["stylize", "-", "s.png", "-o", "o.png", "--ranks", "2"]) == 2
    assert "standard input" in capsys.readouterr().err


def test_the_same_words_start_each_rank(monkeypatch) -> None:
    started = []

    def run_ranks(command, plan, _):
        started.append((command, plan.ranks, plan.restarts))
        return 7

    monkeypatch.setattr("fastnst.ranks.agent.run_ranks", run_ranks)
    words = ["stylize", "c.png", "s.png", "-o", "o.png", "--ranks", "2", "--restarts", "3",
             "--checkpoint", "x.checkpoint"]  # fmt: skip
    assert cli.run_app(words) == 7  # with the preset and the size that it has by default
    assert [(command[2:], *further) for command, *further in started] == [(tuple(words), 2, 3)]
    option, program = started[0][0][:2]
    assert option == "-c"
    Path("typer.py").write_text("raise RuntimeError('a file of the user')")
    done = subprocess.run([sys.executable, "-c", program, "--version"], capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"fastnst ")


def test_rank_0_alone_writes_and_speaks(monkeypatch, capsys, tmp_path: Path) -> None:
    words = ["stylize", "c.png", "s.png", *QUICK, "--ranks", "2", "--save-every", "1", "--json",
             "--plot", "plot.svg"]  # fmt: skip
    before = sorted(tmp_path.iterdir())
    as_rank_1_nothing_comes_of([*words, "-o", "one.png"], monkeypatch, capsys, tmp_path)
    be_rank(monkeypatch, 0, 2)
    assert cli.run_app([*words, "-o", "zero.png"]) == 0
    out, err = capsys.readouterr()
    assert '"loss' in out
    assert "zero.png" in err
    made = {path.name for path in set(tmp_path.iterdir()) - set(before)}
    assert made == {"zero.png", "zero-00001.png", "zero-00002.png", "plot.svg"}


def test_a_failure_is_one_line_that_names_the_rank(monkeypatch, capsys) -> None:
    be_rank(monkeypatch, 1, 2)
    words = []
    monkeypatch.setattr(communication, "leave", words.append)

    def run(*_: object, **__: object) -> None:
        raise RuntimeError("no\nmore")

    monkeypatch.setattr("fastnst.run.run.run", run)
    assert cli.run_app(["stylize", "c.png", "s.png", "-o", "o.png", *QUICK]) == 1
    assert capsys.readouterr().err == "fastnst: rank 1: RuntimeError: no\n"
    assert words == ["RuntimeError: no"]
    assert ranks.said_by_rank("rank 1 of 2 cannot go on") == "rank 1 of 2 cannot go on"


def test_where_there_are_restarts_a_run_goes_on_from_its_checkpoint(monkeypatch) -> None:
    be_rank(monkeypatch, 0, 2)
    words = [
        *("stylize", "c.png", "s.png", "-o", "o.png", *QUICK, "-q", "--ranks", "2"),
        *("--restarts", "1", "--checkpoint", "x.checkpoint", "--checkpoint-every", "1"),
    ]
    assert cli.run_app(words) == 0
    resumed = []
    real = __import__("fastnst.run.run", fromlist=["run"]).run

    def run(*arguments, resume, **more):
        resumed.append(resume)
        return real(*arguments, resume=resume, **more)

    monkeypatch.setattr("fastnst.run.run.run", run)
    assert cli.run_app(words) == 0  # the launcher does not start again
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "1")
    assert cli.run_app(words) == 0
    assert cli.run_app([*words, "--seed", "1", "--init", "noise"]) == 0  # that of another run
    names = [None if path is None else path.name for path in resumed]
    assert names == [None, "x.checkpoint", "x.checkpoint", None]


def test_ranks_of_a_machine_share_its_threads(monkeypatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert own_threads(None) is None
    assert own_threads(5) == 5
    be_rank(monkeypatch, 0, 4)
    assert own_threads(5) == 5
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert own_threads(5) == 2
    assert own_threads(1) == 1
    assert own_threads(None) >= 1
    monkeypatch.setenv("OMP_NUM_THREADS", "3")  # of the launcher, which has shared them out
    assert own_threads(None) is None


@pytest.mark.parametrize(
    ("error", "said", "code"),
    [
        (FastNSTError("known"), "known", 1),
        (InvalidInput("bad"), "bad", 2),
        (ValueError("odd\nand more"), "ValueError: odd", 1),
    ],
)
def test_a_rank_says_why_it_ends_before_it_leaves(
    error: Exception, said: str, code: int, monkeypatch, capsys
) -> None:
    """A launcher ends all ranks as soon as one has ended: what was not said by then is lost."""
    be_rank(monkeypatch, 0, 2)
    at_the_end: list[tuple[str | None, str]] = []
    monkeypatch.setattr(
        communication, "leave", lambda word=None: at_the_end.append((word, capsys.readouterr().err))
    )
    with pytest.raises(typer.Exit) as left, ranks.as_rank(1):
        raise error
    assert left.value.exit_code == code
    assert at_the_end == [(said, f"fastnst: rank 0: {said}\n")]
    assert capsys.readouterr().err == ""  # and it says it once


def test_ctrl_c_passes_through_a_rank(monkeypatch) -> None:
    be_rank(monkeypatch, 1, 2)
    with pytest.raises(KeyboardInterrupt), ranks.as_rank(1):
        raise KeyboardInterrupt


# -------------------------------------------------------------------------- runs of processes --

TALL = ["--preset", "gatys", "--size", "400", "--iterations", "6", "--history-size", "5",
        "--bits", "16", "--style-layers", "relu1_1,relu2_1", "--content-layers",
        "relu2_1"]  # fmt: skip
ENDS = 100  # seconds in which a run of two ranks must have ended, also beside other work


def start(*arguments: str, module: tuple[str, ...] = ("fastnst",)) -> subprocess.Popen[str]:
    """A run in processes of its own, one thread each."""
    command = [sys.executable, "-m", *module, "stylize", "tall.png", "s.png", *TALL, *arguments]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def end(process: subprocess.Popen[str]) -> tuple[int, list[str]]:
    """Its exit code, and what it said; nothing of it may be left."""
    ranks_ = list(ranks_of(process.pid).values())
    try:
        _, err = process.communicate(timeout=ENDS)
    finally:
        process.kill()
    deadline = time.monotonic() + 30
    while any(map(lives, ranks_)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(lives, ranks_))
    return process.returncode, err.splitlines()


def ranks_of(launcher: int) -> dict[int, int]:
    """The processes of a launcher's ranks, by number."""
    found = {}
    path = Path(f"/proc/{launcher}/task/{launcher}/children")
    for pid in path.read_text().split() if path.exists() else ():
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            found.update({int(word[5:]): int(pid) for word in words if word.startswith(b"RANK=")})
    return found


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for(name: str, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + ENDS
    while not Path(name).exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    if not Path(name).exists():
        process.kill()
        pytest.fail(f"no {name}: {process.communicate()}")


def pixels(name: str) -> bytes:
    with Image.open(name) as image:
        return image.tobytes()


@pytest.fixture
def _tall() -> None:
    Image.fromarray(smooth(24, 400)).save("tall.png")


linux = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux")


@pytest.mark.slow
@pytest.mark.usefixtures("_tall")
def test_any_number_of_ranks_makes_the_same_picture() -> None:
    torchrun = ("torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "fastnst")
    for name, process in (
        ("one.png", start("-o", "one.png", "--ranks", "1")),
        ("two.png", start("-o", "two.png", "--ranks", "2", "--json")),
        ("torchrun.png", start("-o", "torchrun.png", "-q", module=torchrun)),
    ):
        code, said = end(process)
        assert code == 0, said
        assert len([line for line in said if "iterations in" in line]) == (name != "torchrun.png")
    assert pixels("one.png") == pixels("two.png") == pixels("torchrun.png")


@linux
@pytest.mark.slow
@pytest.mark.usefixtures("_tall")
def test_a_rank_that_is_killed_ends_all_or_all_go_on() -> None:
    code, said = end(start("-o", "whole.png", "--ranks", "1"))
    assert code == 0, said
    keep = ["--checkpoint", "x.checkpoint", "--checkpoint-every", "1", "--ranks", "2", "-q"]
    process = start("-o", "x.png", *keep)
    wait_for("x.checkpoint", process)
    os.kill(ranks_of(process.pid)[1], signal.SIGKILL)
    code, said = end(process)
    assert code == 1
    assert "fastnst: rank 1 was ended by signal 9" in said
    assert not Path("x.png").exists()
    assert all(line.startswith("fastnst: rank ") for line in said), said
    load_checkpoint(Path("x.checkpoint"))
    process = start("-o", "x.png", *keep, "--resume", "x.checkpoint", "--restarts", "1")
    before = Path("x.checkpoint").stat().st_mtime_ns
    while Path("x.checkpoint").stat().st_mtime_ns == before and process.poll() is None:
        time.sleep(0.01)
    with contextlib.suppress(KeyError, ProcessLookupError):  # it may be done already
        os.kill(ranks_of(process.pid)[0], signal.SIGKILL)
    code, said = end(process)
    assert code == 0, said
    assert pixels("x.png") == pixels("whole.png")


@linux
@pytest.mark.slow
@pytest.mark.usefixtures("_tall")
def test_ctrl_c_saves_one_picture() -> None:
    process = start("-o", "x.png", "--iterations", "100000", "--ranks", "2", "--save-every", "1")
    wait_for("x-00001.png", process)
    process.send_signal(signal.SIGINT)
    code, said = end(process)
    assert code == 130, said
    assert said[-1] == "fastnst: interrupted; the best picture so far is in x.png"
    assert len(said) == 4, said  # that it stops after the iteration, and what was made
    assert pixels("x.png")
    assert not list(Path().glob(".*.part"))


@pytest.mark.slow
def test_a_batch_in_ranks_makes_each_picture_once() -> None:
    for seed in range(4):
        Image.fromarray(smooth(48, 36, seed)).save(f"in-{seed}.png")
    command = [sys.executable, "-m", "fastnst", "batch", "in-*.png", "-s", "s.png", "-o", "out",
               *QUICK, "--ranks", "2", "--json"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=ENDS)
    assert done.returncode == 0, done.stderr
    made = [json.loads(line) for line in done.stdout.splitlines()]
    assert sorted(Path(one["output"]).name for one in made) == [
        f"in-{seed}-s.png" for seed in range(4)
    ]
    assert {one["status"] for one in made} == {"done"}
    assert len(Path("out/fastnst-batch.jsonl").read_text().splitlines()) == 4
    assert len(done.stderr.splitlines()) == 1, done.stderr


@pytest.mark.slow
def test_a_batch_with_a_bad_file_is_not_started_again() -> None:
    Path("bad.png").write_text("words")
    command = [sys.executable, "-m", "fastnst", "batch", "c.png", "bad.png", "-s", "s.png", "-o",
               "out", *QUICK, "--ranks", "2", "--restarts", "2", "--overwrite"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=ENDS)
    assert done.returncode == 1
    assert "start again" not in done.stderr
    assert len(Path("out/fastnst-batch.jsonl").read_text().splitlines()) == 1


def test_ranks_that_are_started_again_do_not_overwrite_what_they_have_made(
    monkeypatch, capsys, tmp_path: Path
) -> None:
    words = ["batch", "c.png", "-s", "s.png", "-o", "out", *QUICK, "--overwrite", "--dry-run"]
    assert cli.run_app([*words[:-1], "--quiet"]) == 0
    assert cli.run_app(words) == 0
    assert capsys.readouterr().out.startswith("to do: ")
    be_rank(monkeypatch, 0, 2)
    monkeypatch.setenv(SINCE, "0")  # where the journal ended when the launcher began
    assert cli.run_app(words) == 0
    assert capsys.readouterr().out.startswith("done: ")


@pytest.mark.parametrize(
    ("memory", "workers", "gpus", "share", "turn"),
    [(None, 1, 1, 200, None), (None, 1, 4, 800, 3), (None, 1, 2, 400, 3), (None, 2, 4, None, 3),
     (80, 1, 4, 20, 3), (80, 2, 1, 20, None)],
)  # fmt: skip
def test_ranks_of_a_batch_share_memory_and_take_the_gpus_in_turn(
    memory: int | None,
    workers: int,
    gpus: int,
    share: int | None,
    turn: int | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The last of eight ranks, the fourth of the four on its machine."""
    for name, value in (("RANK", 7), ("WORLD_SIZE", 8), ("LOCAL_RANK", 3), ("LOCAL_WORLD_SIZE", 4)):
        monkeypatch.setenv(name, str(value))
    turns: list[int] = []
    monkeypatch.setattr("fastnst.devices.gpus", lambda device: gpus)
    monkeypatch.setattr("fastnst.devices.take_turn", turns.append)
    monkeypatch.setattr("fastnst.run.available.available", lambda device: 800)
    found = _beside_others(Resources(memory=memory), Settings(), workers)
    assert found.memory == share
    assert turns == ([] if turn is None else [turn])
