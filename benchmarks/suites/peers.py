"""``peers``: other systems as their users run them, from pip, by their command line.

Each lives in a virtual environment of its own with the same version of torch, made on first use.
All get the same content, style, size and number of evaluations, and otherwise their own defaults:
their own objective, so ``loss``, the reference objective of their picture, says how far that is
from what the reference minimises, not how good they are. Seconds are per evaluation, from the times
at which their progress lines appear; starting up is not counted.

The reference and fastnst do one half of their evaluations before the peer and one half after it.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import threading
import time
import venv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from benchmarks import setups, tables
from benchmarks.contestants import REFERENCE, Contestant, Point, Runner, Task, advance_in_turn
from benchmarks.options import PAIRS, Options
from benchmarks.rows import Row, one_line, summary
from benchmarks.suite import Case, Suite
from fastnst import load_image, load_weights
from fastnst.images.pixels import resize, to_tensor

LAUNCHER = Path(__file__).parent.with_name("peer_launcher.py")
TIME_LIMIT = 3600.0  # seconds for one run of a peer


@dataclass(frozen=True)
class Job:
    """What a peer is asked for."""

    content: Path
    style: Path
    output: Path
    size: int
    evaluations: int
    device: str
    python: Path
    folder: Path


@dataclass(frozen=True)
class Peer:
    """A system that pip installs.

    Attributes:
        name: The name in the tables.
        requirements: What its users give to pip.
        command: Makes its command line for a job.
        progress: Finds the number of evaluations done in a line that it prints.
        note: What is particular about how it is run.
    """

    name: str
    requirements: tuple[str, ...]
    command: Callable[[Job], list[str]]
    progress: re.Pattern[str]
    note: str = ""


def _pastiche(job: Job) -> list[str]:
    return [
        *(str(job.python.with_name("pastiche")), "--content", str(job.content)),
        *("--styles", str(job.style), "--output", str(job.output), "--device", job.device),
        *("--size", str(job.size), "--style-size", str(job.size), "--seed", "0"),
        *("--num-steps", str(job.evaluations), "--info-step", str(_stride(job))),
    ]


def _neural_style(job: Job) -> list[str]:
    return [
        *(str(job.python), str(LAUNCHER), "neural_style.neural_style:main"),
        *("-content_image", str(job.content), "-style_image", str(job.style)),
        *("-output_image", str(job.output), "-image_size", str(job.size), "-seed", "0"),
        *("-num_iterations", str(job.evaluations), "-print_iter", str(_stride(job))),
        *("-save_iter", "0", "-gpu", "c" if job.device == "cpu" else "0"),
        *("-model_file", _caffe_weights(job.folder).name, "-disable_check"),
    ]


def _pystiche(job: Job) -> list[str]:
    # The release has no command; this imports what every program with it begins with.
    return [str(job.python), str(LAUNCHER), "pystiche.enc:vgg19_multi_layer_encoder"]


def _stride(job: Job) -> int:
    """Evaluations between two progress lines."""
    return max(1, job.evaluations // 10)


PEERS = (
    Peer("pastiche 1.6.0", ("pastiche==1.6.0",), _pastiche, re.compile(r"^(\d+)\s+[\d.]+\s+\S+$")),
    Peer(
        "neural-style 0.5.7",
        ("neural-style==0.5.7",),
        _neural_style,
        re.compile(r"^Iteration (\d+) /"),
        "fastnst's original VGG-19 converted to its format",
    ),
    Peer(
        "pystiche 1.0.1",
        ("pystiche==1.0.1",),
        _pystiche,
        re.compile(r"$^"),
        "only imported: it has no command line",
    ),
)


def cases(options: Options) -> list[Case]:
    sizes = options.choose_sizes(full=(256,), quick=(128,))
    return [
        Case(f"beside {peer.name}", size, details={"peer": peer})
        for size in sizes
        for peer in PEERS
        if options.wants(peer.name)
    ]


def measure(case: Case, options: Options) -> Iterator[Row]:
    peer: Peer = (case.details or {})["peer"]
    row = partial(Row, "peers", case.title, device=options.device, dtype="fp32", size=case.size)
    try:
        python = environment_of(peer, options)
    except Exception as error:  # noqa: BLE001 - becomes the error of a row
        yield row(peer.name, error=one_line(error))
        return
    evaluations = options.evaluations or (10 if options.quick else 60)
    with tempfile.TemporaryDirectory(prefix="fastnst-benchmark-") as name:
        folder = Path(name)
        content, style = setups.save_samples(PAIRS[0], folder)
        task = Task(
            content=content,
            style=style,
            size=case.size,
            seed=0,
            device=options.device,
            threads=options.threads,
            evaluations=evaluations,
            slice=max(1, evaluations // 2),
        )
        job = Job(
            content=Path(content),
            style=Path(style),
            output=folder / "output.png",
            size=case.size,
            evaluations=evaluations,
            device=options.device,
            python=python,
            folder=folder,
        )
        loaded = setups.pictures(content, style, case.size)
        like = loaded.content.to(options.device)
        objective = setups.reference(like, loaded.style.to(options.device))
        runners: list[Runner] = []
        try:
            for contestant in (REFERENCE, Contestant("fastnst")):
                runners.append(Runner(contestant, task, folder / contestant.name))
            turns = advance_in_turn(runners)
            next(turns)
            theirs, complaint = _run(peer, job, options)
            if complaint:
                yield row(peer.name, error=complaint, extra={"note": peer.note})
                return
            for _ in turns:
                pass
            own = {runner: _each(runner.points, options.device) for runner in runners}
            reference_seconds = median(own[runners[0]]) if own[runners[0]] else None
            row = partial(row, reference_seconds=reference_seconds)
            for runner in runners:
                if runner.error or not own[runner]:
                    yield row(runner.contestant.name, error=runner.error or "no evaluation")
                    continue
                last = runner.points[-1].evaluation
                extra: dict[str, Any] = {
                    "evaluations": last,
                    "loss": setups.score(objective, _tensor(runner.image(last), like)),
                }
                yield row(runner.contestant.name, **summary(own[runner]), extra=extra)
            extra = {
                "evaluations": evaluations,
                "loss": setups.score(objective, _tensor(load_image(job.output), like)),
                "note": peer.note,
            }
            yield row(peer.name, **summary(theirs), extra=extra)
        finally:
            for runner in runners:
                runner.stop()


def _each(points: Sequence[Point], device: str) -> list[float]:
    """Seconds of each evaluation but the first, which the peers' progress lines do not show.

    On a GPU they are seen several at a time: means over ten.
    """
    seen = points[:: 10 if device == "cuda" else 1]
    return [(b.seconds - a.seconds) / (b.evaluation - a.evaluation) for a, b in pairwise(seen)]


def environment_of(peer: Peer, options: Options) -> Path:
    """The Python of the peer's virtual environment, made if it is not there yet.

    Raises:
        RuntimeError: if it cannot be made, or is missing in a quick run.
    """
    release = torch.__version__.split("+")[0]
    folder = _cache(options) / f"{peer.name.replace(' ', '-')}-torch-{release}"
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    if (folder / "complete").exists():
        return python
    if options.quick or options.device == "cuda":
        raise RuntimeError("not installed; a run on the CPU without --quick installs it")
    venv.create(folder, with_pip=True, clear=True)
    command = [str(python), "-m", "pip", "install", "--quiet", f"torch=={release}"]
    done = subprocess.run(
        [*command, *peer.requirements], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"pip: {_last_line(done.stderr)}")
    (folder / "complete").touch()
    return python


def _cache(options: Options) -> Path:
    if options.cache:
        return Path(options.cache).resolve()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base, "fastnst-benchmark", "peers")


def _run(peer: Peer, job: Job, options: Options) -> tuple[list[float], str | None]:
    """Seconds per evaluation, from one progress line to the next; and what went wrong."""
    surroundings = {
        **os.environ,
        "PYTHONUNBUFFERED": "1",
        "OMP_NUM_THREADS": str(options.threads),
        "MKL_NUM_THREADS": str(options.threads),
    }
    surroundings.pop("PYTHONPATH", None)  # nothing of ours in their environments
    with (job.folder / "stderr").open("w+") as errors:
        process = subprocess.Popen(
            peer.command(job),
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            cwd=job.folder,
            env=surroundings,
        )
        try:
            lines = _timed_lines(process)
            code = process.wait()
        finally:
            process.kill()
            process.wait()
        errors.seek(0)
        complaint = _last_line(errors.read()).replace(str(job.python.parents[1]), peer.name)
    if code:
        return [], complaint or f"ended with code {code}"
    if not job.output.exists():
        return [], "it made no picture: " + (peer.note or complaint)
    stamps = [(t, int(m[1])) for t, line in lines if (m := peer.progress.search(line))]
    seconds = [
        (later - earlier) / (n - m) for (earlier, m), (later, n) in pairwise(stamps) if n > m
    ]
    return (seconds, None) if seconds else ([], "it printed no progress to time it by")


def _timed_lines(process: subprocess.Popen[str]) -> list[tuple[float, str]]:
    """Every line of a process with the time at which it came; ends it after ``TIME_LIMIT``."""
    assert process.stdout is not None
    limit = threading.Timer(TIME_LIMIT, process.kill)  # one that says nothing is ended too
    limit.start()
    try:
        return [(time.perf_counter(), line.strip()) for line in process.stdout]
    finally:
        limit.cancel()


def _caffe_weights(folder: Path) -> Path:
    """The original VGG-19 as a ``.pth`` with torchvision's names and BGR input in 0–255."""
    path = folder / "vgg19.pth"
    weights = load_weights("vgg19")
    state: dict[str, Tensor] = {}
    for index, layer in enumerate(weights.architecture.layers()):
        if layer.startswith("conv"):
            for part in ("weight", "bias"):
                state[f"features.{index}.{part}"] = weights.tensors[f"{layer}.{part}"]
    state["features.0.weight"] = state["features.0.weight"].flip(1).contiguous()  # RGB → BGR
    torch.save(state, path)
    return path


def _tensor(pixels: Any, like: Tensor) -> Tensor:
    """A picture as ``(1, 3, H, W)`` of the size of ``like``."""
    if pixels.shape[:2] != like.shape[2:]:
        pixels = resize(pixels, like.shape[3], like.shape[2])
    return to_tensor(pixels).to(like)


def _last_line(text: str) -> str:
    lines: Sequence[str] = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""


COLUMNS = {"evaluations": ("evaluations", "d"), "loss": ("reference objective", ".4g")}
SUITE = Suite(
    "peers",
    "Seconds per evaluation of other systems, and the reference objective of their pictures.",
    cases,
    measure,
    table=partial(tables.plain, columns=COLUMNS),
)
