"""Kill -9, SIGSTOP and worse to ranks and launchers: does every run end well, or end at all?

    python tools/kill_ranks.py [--count 20] [--seed 0] [--ranks 3]

Each round starts ``fastnst stylize --ranks N --checkpoint …`` and does harm to one of its
processes: a rank or the launcher, by SIGKILL, or a rank by SIGSTOP; at a random time, or just when
the checkpoint is being written. Half of the rounds allow restarts. A run that ends with 0 must have
the picture of the undisturbed run, bit for bit. Any other must end with a line that says why,
within the time limit, with a whole checkpoint and no process left; then it is started again with
--resume, undisturbed, by another number of ranks, and must end in the same picture.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from fastnst.run.checkpoint import load_checkpoint

HEIGHT, WIDTH = 800, 32  # enough rows for four ranks
ITERATIONS = 12
LIMIT = 10  # seconds that a rank waits for another
# Seconds in which all must have ended: a rank that hangs is given thirty more, and that it is the
# one takes others some seconds to find out. The rest is for a machine that does other work.
ENDS = LIMIT + 80
SETTINGS = [
    "--preset", "gatys", "--size", str(HEIGHT), "--iterations", str(ITERATIONS),
    "--history-size", "6", "--style-layers", "relu1_1,relu2_1", "--content-layers", "relu2_1",
    "--bits", "16",
]  # fmt: skip


@dataclass(frozen=True)
class Harm:
    """What is done to a run.

    Attributes:
        victim: The number of a rank, or -1 for the launcher.
        number: The signal.
        moment: Seconds after the start; None: while a checkpoint is being written.
    """

    victim: int
    number: int
    moment: float | None

    def __str__(self) -> str:
        who = f"rank {self.victim}" if self.victim >= 0 else "launcher"
        when = "at a checkpoint" if self.moment is None else f"after {self.moment:.1f} s"
        return f"{signal.Signals(self.number).name} to {who} {when}"


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
    began = time.monotonic()
    while process.poll() is None:
        ranks = children(process.pid)
        seen |= set(ranks)
        if harm.moment is None:
            ready = bool(list(folder.glob(".run.checkpoint.*.part")))
        else:
            ready = time.monotonic() - began >= harm.moment
        if ready and (harm.victim < 0 or harm.victim < len(ranks)):
            victim = process.pid if harm.victim < 0 else ranks[harm.victim]
            try:
                os.kill(victim, harm.number)
            except ProcessLookupError:
                continue
            seen |= set(children(process.pid))
            break
        time.sleep(0.005)
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
    try:  # a run that starts again takes as long as a whole one
        _, err = process.communicate(timeout=ENDS + (180 if restarts else 0))
    except subprocess.TimeoutExpired:
        process.kill()
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
        assert process.returncode == 1, f"{harm}: exit code {process.returncode}: {err}"
        assert err.strip(), f"{harm}: not a word"
    path = folder / "run.checkpoint"
    resume = []
    if path.exists():
        load_checkpoint(path)
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
    count: Counter[str] = Counter()
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
            kill = rng.random() < 0.8
            harm = Harm(
                rng.randrange(-1 if kill else 0, options.ranks),
                signal.SIGKILL if kill else signal.SIGSTOP,
                None if rng.random() < 0.3 else rng.uniform(0.2, 1.1) * seconds,
            )
            word, took = one_round(folder, options.ranks, rng.randrange(2), harm, whole)
            print(f"{number}: {harm}: {word} {took}", flush=True)
            count[word] += 1
    parts = ", ".join(f"{number} {word}" for word, number in sorted(count.items()))
    print(f"{options.count} rounds: the same picture in all of them ({parts})")


if __name__ == "__main__":
    main()
