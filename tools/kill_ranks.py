"""Kill -9, SIGSTOP, full disks for ranks and launchers: does every run end well, or end at all?

    python tools/kill_ranks.py [--count 20] [--seed 0] [--ranks 3]

Each round starts ``fastnst stylize --ranks N --checkpoint …`` and does harm to one of its
processes. A rank or the launcher is killed; a rank is stopped, or finds its disk full from then on
(by a limit on the size of what it writes); at a random time, or just when a part of a checkpoint is
written, the checkpoint itself, or the picture. Half of the rounds allow restarts. A run that ends
with 0 must have the picture of the undisturbed run, bit for bit. Any other must end with a line
that says why, within the time limit, with a whole checkpoint and no process left; then it is
started again with --resume, undisturbed, by another number of ranks, and must end in the same
picture. At the end a table says what was done, and what became of it.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from fastnst.errors import InvalidInput
from fastnst.run.checkpoint import load_checkpoint

HEIGHT, WIDTH = 800, 32  # enough rows for four ranks
ITERATIONS = 12
LIMIT = 10  # seconds that a rank waits for another
# Seconds in which all must have ended: others take some to find out which rank hangs, and it is
# given five more. The rest is for a machine that does other work.
ENDS = LIMIT + 50
SETTINGS = [
    "--preset", "gatys", "--size", str(HEIGHT), "--iterations", str(ITERATIONS),
    "--history-size", "6", "--style-layers", "relu1_1,relu2_1", "--content-layers", "relu2_1",
    "--bits", "16",
]  # fmt: skip


FAILED = "FAILED"
KILL, STOP, FULL = "killed", "stopped", "disk full"
PHASES = {  # files that show that something is being written, in the folder of a run
    "at a part": ("run.checkpoint.parts/.*.part", "run.checkpoint.parts/*.part"),
    "at a checkpoint": (".run.checkpoint.*.part",),
    "at the picture": (".out.png.*.part",),
}


@dataclass(frozen=True)
class Harm:
    """What is done to a run.

    Attributes:
        kind: ``KILL``, ``STOP`` or ``FULL``.
        victim: The number of a rank, or -1 for the launcher.
        phase: One of ``PHASES``, or a time.
        moment: Seconds after the start; None: when the phase shows.
    """

    kind: str
    victim: int
    phase: str
    moment: float | None

    @property
    def who(self) -> str:
        return f"rank {self.victim}" if self.victim >= 0 else "launcher"

    def __str__(self) -> str:
        when = self.phase if self.moment is None else f"after {self.moment:.1f} s"
        return f"{self.who} {self.kind} {when}"

    def do(self, pid: int) -> None:
        """Do it to a process.

        Raises:
            ProcessLookupError: if it has ended.
        """
        if self.kind == FULL:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (512, 512))
        else:
            os.kill(pid, signal.SIGKILL if self.kind == KILL else signal.SIGSTOP)


def any_harm(rng: random.Random, ranks: int, seconds: float) -> Harm:
    """Something to do to a run that takes so many seconds."""
    kind = rng.choices((KILL, STOP, FULL), (6, 2, 2))[0]
    victim = rng.randrange(-1 if kind == KILL else 0, ranks)
    if rng.random() < 0.5:
        return Harm(kind, victim, rng.choice(list(PHASES)), None)
    share = rng.uniform(0.1, 1.1)
    phase = "at the beginning" if share < 0.5 else "on the way" if share < 0.9 else "at the end"
    return Harm(kind, victim, phase, share * seconds)


def command(folder: Path, ranks: int, *more: str) -> list[str]:
    return [
        sys.executable, "-m", "fastnst", "stylize", str(folder.parent / "content.png"),
        str(folder.parent / "style.png"), "-o", str(folder / "out.png"), *SETTINGS,
        "--ranks", str(ranks), "--rank-timeout", str(LIMIT), "--quiet",
        "--checkpoint", str(folder / "run.checkpoint"), "--checkpoint-every", "2", *more,
    ]  # fmt: skip


def start(words: list[str]) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    return subprocess.Popen(
        words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment
    )


def children(pid: int) -> list[int]:
    """The ranks of a launcher, in the order of their numbers."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            stat = (path / "stat").read_text().rpartition(")")[2].split()
            if int(stat[1]) == pid:
                words = (path / "environ").read_bytes().split(b"\0")
                rank = next(word for word in words if word.startswith(b"RANK="))
                found.append((int(rank[5:]), int(path.name)))
        except (OSError, StopIteration, ValueError):
            continue
    return [number for _, number in sorted(found)]


def do_harm(process: subprocess.Popen[str], folder: Path, harm: Harm) -> set[int]:
    """Wait for the moment and do it; returns all processes of the run that were seen."""
    seen: set[int] = set()
    began, looked = time.monotonic(), 0.0
    known: set[Path] = set()
    ranks: list[int] = []
    while process.poll() is None:
        if time.monotonic() - looked > 0.2:
            ranks, looked = children(process.pid), time.monotonic()
            seen |= set(ranks)
        if harm.moment is None:
            there = {path for pattern in PHASES[harm.phase] for path in folder.glob(pattern)}
            ready, known = bool(there - known), there
        else:
            ready = time.monotonic() - began >= harm.moment
        if ready and (harm.victim < 0 or harm.victim < len(ranks)):
            try:
                harm.do(process.pid if harm.victim < 0 else ranks[harm.victim])
            except ProcessLookupError:
                continue
            seen |= set(children(process.pid))
            break
        time.sleep(0.001)
    return seen


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def digest(folder: Path) -> str:
    """SHA-256 of the pixels."""
    with Image.open(folder / "out.png") as image:
        return hashlib.sha256(image.tobytes()).hexdigest()


def one_round(folder: Path, ranks: int, restarts: int, harm: Harm, whole: str) -> tuple[str, str]:
    """Do harm to a run and look at what becomes of it; returns that in a word, and its time."""
    process = start(command(folder, ranks, *(["--restarts", str(restarts)] if restarts else [])))
    seen = do_harm(process, folder, harm)
    began = time.monotonic()
    # A run that starts again takes as long as a whole one; a full disk is found at the next file.
    longer = 180 if restarts or harm.kind == FULL else 0
    try:
        _, err = process.communicate(timeout=ENDS + longer)
    except subprocess.TimeoutExpired:
        for pid in (process.pid, *filter(alive, seen)):
            os.kill(pid, signal.SIGKILL)
        raise AssertionError(f"{harm}: it does not end") from None
    took = f"after {time.monotonic() - began:.0f} s"
    deadline = time.monotonic() + ENDS
    while any(alive(pid) for pid in seen) and time.monotonic() < deadline:
        time.sleep(0.1)
    left = [pid for pid in seen if alive(pid)]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left, f"{harm}: processes are left"
    assert "Traceback" not in err, err
    if process.returncode == 0:
        assert digest(folder) == whole, f"{harm}: another picture"
        word = "went on" if "start again" in err else "undisturbed"
        return word, took
    if harm.victim >= 0:
        # A limit that is there before the work begins is seen then, like any wrong input.
        expected = 2 if harm.kind == FULL and "ulimit -f" in err else 1
        assert process.returncode == expected, f"{harm}: exit code {process.returncode}: {err}"
        assert err.strip(), f"{harm}: not a word"
    path = folder / "run.checkpoint"
    resume = []
    if path.exists():
        load_checkpoint(path)  # whole, or an error
        resume = ["--resume", str(path)]
    again = start(command(folder, ranks % 3 + 1, *resume))
    _, err = again.communicate(timeout=240)
    assert again.returncode == 0, f"{harm}: {err}"
    assert digest(folder) == whole, f"{harm}: another picture after --resume"
    return "was resumed" if resume else "began again", took


def make_pictures(root: Path) -> None:
    rng = np.random.default_rng(0)
    for name, size in (("content.png", (WIDTH, HEIGHT)), ("style.png", (48, 64))):
        values = rng.integers(0, 256, (10, 8, 3), dtype=np.uint8)
        Image.fromarray(values).resize(size, Image.Resampling.BICUBIC).save(root / name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ranks", type=int, default=3)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    count: Counter[tuple[str, str, str]] = Counter()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        make_pictures(root)
        folder = root / "whole"
        folder.mkdir()
        began = time.monotonic()
        undisturbed = start(command(folder, 1))
        _, err = undisturbed.communicate(timeout=240)
        assert undisturbed.returncode == 0, err
        seconds, whole = time.monotonic() - began, digest(folder)
        for number in range(options.count):
            folder = root / str(number)
            folder.mkdir()
            harm = any_harm(rng, options.ranks, seconds)
            try:
                word, took = one_round(folder, options.ranks, rng.randrange(2), harm, whole)
            except (AssertionError, InvalidInput, OSError, subprocess.TimeoutExpired) as error:
                word, took = FAILED, f"{type(error).__name__}: {error}"
            print(f"{number}: {harm}: {word} {took}", flush=True)
            count[harm.kind, harm.phase, word] += 1
            shutil.rmtree(folder, ignore_errors=True)
    print(table(count))
    failed = sum(n for (_, _, word), n in count.items() if word == FAILED)
    if failed:
        sys.exit(f"{failed} of {options.count} rounds failed")
    print(f"{options.count} rounds: the same picture in all of them")


def table(count: Mapping[tuple[str, str, str], int]) -> str:
    """How many rounds there were of each kind, and what became of them."""
    words = sorted({word for _, _, word in count})
    lines = [["", "", *words, "rounds"]]
    for kind, phase in sorted({(kind, phase) for kind, phase, _ in count}):
        numbers = [count.get((kind, phase, word), 0) for word in words]
        lines.append([kind, phase, *map(str, numbers), str(sum(numbers))])
    sums = [sum(n for (_, _, of), n in count.items() if of == word) for word in words]
    lines.append(["all", "", *map(str, sums), str(sum(sums))])
    widths = [max(len(line[k]) for line in lines) for k in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if k < 2 else cell.rjust(width)
            for k, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )


if __name__ == "__main__":
    main()
