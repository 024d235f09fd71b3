"""Kill -9 in the middle of batches, checkpoints and pictures: is everything whole, does it go on?

    python tools/crash_test.py [--count 100] [--seed 0]

Each round starts a process that works, kills it, and looks at every file that is there under its
name: pictures must decode, checkpoints must load. Then the same work is started again, in a process
that is not killed, and must end with the same pixels as work that never was. Half of the kills come
at a random time, half at a random event of the file system (open, rename, remove, …), at which the
process kills itself. The processes are forks of one that has imported torch and done nothing else.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from fastnst.batch.done import is_done
from fastnst.batch.in_turn import run_batch
from fastnst.batch.jobs import pair
from fastnst.batch.journal import read_journal
from fastnst.images.encode import save_image
from fastnst.run.checkpoint import Checkpoints, load_checkpoint
from fastnst.run.run import run
from fastnst.run.step import Step
from fastnst.settings.settings import Settings

SIZE = 48
SETTINGS = Settings(
    size=SIZE,
    iterations=12,
    history_size=6,
    style_layers=("relu1_1", "relu2_1"),
    content_layers=("relu2_1",),
)
EVENTS = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir")


def make_pictures(folder: Path) -> None:
    for seed, name in enumerate(("c/one.png", "c/two.png", "s/a.png", "s/b.png")):
        (folder / name).parent.mkdir(exist_ok=True)
        values = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(values).resize((SIZE, 36), Image.Resampling.BICUBIC).save(folder / name)


def batch(pictures: Path, out: Path) -> None:
    """Four pictures, with a checkpoint at every second iteration."""
    jobs = pair([str(pictures / "c")], [str(pictures / "s")], out, SETTINGS)
    journal = read_journal(out)
    todo = [job for job in jobs if not is_done(job, journal)]
    for outcome in run_batch(todo, out, checkpoint_every=2):
        assert outcome.status == "done", outcome.message


def checkpoint(pictures: Path, out: Path) -> None:
    """One picture, with a checkpoint at every iteration."""
    path = out / "run.checkpoint"
    result = run(
        str(pictures / "c/one.png"),
        str(pictures / "s/a.png"),
        SETTINGS,
        checkpoints=Checkpoints(path, 1),
        resume=path if path.exists() else None,
    )
    result.save(out / "one.png")


def picture(pictures: Path, out: Path) -> None:
    """One picture, saved over itself after every iteration."""

    def save(step: Step) -> None:
        save_image(step.pixels, out / "one.png", bits=16)
        save_image(step.pixels, out / "one.jpg")

    result = run(str(pictures / "c/one.png"), str(pictures / "s/a.png"), SETTINGS, save)
    result.save(out / "one.png")


SCENARIOS = (batch, checkpoint, picture)


def fork(work: Callable[[], None]) -> int:
    """Do the work in a process of its own; returns its number."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        work()
        code = 0
    except BaseException as error:  # noqa: BLE001 - nothing may return into the parent's code
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
    finally:
        sys.stderr.flush()
        os._exit(code)


def killed_at_an_event(work: Callable[[], None], below: Path, number: int) -> Callable[[], None]:
    """The work, by a process that kills itself at an event of the file system in a folder."""

    def doomed() -> None:
        left = number

        def watch(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal left
            if event in EVENTS and str(below) in str(arguments[0]):
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(watch)
        work()

    return doomed


def check_whole(out: Path) -> None:
    """Every file under its own name must be whole."""
    for path in out.iterdir():
        if path.name.endswith(".part"):
            continue
        if path.suffix in (".png", ".jpg"):
            with Image.open(path) as image:
                image.load()
                assert image.size == (SIZE, 36), path
        elif path.suffix == ".checkpoint":
            load_checkpoint(path)


def pixels(out: Path) -> dict[str, bytes]:
    found = {}
    for path in sorted(out.glob("*.png")):
        with Image.open(path) as image:
            found[path.name] = image.tobytes()
    return found


def finish(work: Callable[[], None]) -> float:
    began = time.perf_counter()
    _, status = os.waitpid(fork(work), 0)
    assert status == 0, f"the work failed with status {status}"
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rng = random.Random(options.seed)
    count: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make_pictures(root)
        whole, seconds = {}, {}
        for scenario in SCENARIOS:
            out = root / f"{scenario.__name__}-whole"
            out.mkdir()
            seconds[scenario] = finish(partial(scenario, root, out))
            whole[scenario] = pixels(out)
        for number in range(options.count):
            scenario = SCENARIOS[number % len(SCENARIOS)]
            out = root / f"{scenario.__name__}-{number}"
            out.mkdir()
            work = partial(scenario, root, out)
            if rng.random() < 0.5:
                child = fork(work)
                time.sleep(rng.uniform(0, seconds[scenario]))
                os.kill(child, signal.SIGKILL)
            else:
                child = fork(killed_at_an_event(work, out, rng.randint(1, 40)))
            _, status = os.waitpid(child, 0)
            assert status in (0, signal.SIGKILL), f"round {number}: status {status}"
            count[scenario.__name__] += 1
            count["killed"] += status == signal.SIGKILL
            count["with a draft left"] += any(out.glob(".*.part"))
            check_whole(out)
            finish(work)
            check_whole(out)
            assert pixels(out) == whole[scenario], f"round {number}: other pixels"
    parts = ", ".join(f"{name} {number}" for name, number in count.items())
    print(f"{options.count} rounds ({parts}): nothing corrupt, all went on to the same pixels")


if __name__ == "__main__":
    main()
