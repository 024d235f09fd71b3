"""``scaling``: one picture shared by ranks of this machine, time and bytes of an iteration.

*Strong*: one picture; one process with all threads that computes it in one piece, as a run without
ranks does, then ranks that share the threads. *Weak*: one thread for each rank and a picture as
many times as high. *Spectral*: as strong, with the solver of
preset ``fast``, which transforms the whole picture. The bytes that a rank sends are counted and
stand beside those that ``scaling_model.py`` gives. Ranks of one machine speak over its loopback
address: what a network takes is not measured.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks import tables
from benchmarks.options import Options
from benchmarks.rows import Row, summary
from benchmarks.scaling_model import exchanged_bytes, gram_bytes, scalar_bytes, spectral_bytes
from benchmarks.scaling_rank import PAIRS
from benchmarks.suite import Case, Suite
from fastnst.network.architecture import VGG19
from fastnst.ranks.agent import run_ranks
from fastnst.ranks.launch import Plan
from fastnst.run.pieces import cuts
from fastnst.run.sharing import exchanging_grid
from fastnst.settings.settings import Settings

RANK = Path(__file__).parents[1] / "scaling_rank.py"
TITLES = ("strong", "spectral", "weak")
COLUMNS = {
    "ranks": ("ranks", "d"),
    "sent": ("bytes sent", ",.0f"),
    "model": ("by the model", ",.0f"),
}


@dataclass(frozen=True)
class Team:
    """Some ranks and what they share.

    Attributes:
        ranks: How many.
        threads: Threads of each.
        width: Columns of the picture.
        height: Rows of the picture.
        launched: Whether ranks are started, which compute the picture in bands; if not it is one
            process on its own, which computes it in one piece.
    """

    ranks: int
    threads: int
    width: int
    height: int
    launched: bool = True

    @property
    def name(self) -> str:
        """What the tables call it."""
        if not self.launched:
            return "one piece"
        ranks = "1 rank" if self.ranks == 1 else f"{self.ranks} ranks"
        return f"{ranks} of {self.threads} thread{'' if self.threads == 1 else 's'}"


def strong(size: int, threads: int) -> list[Team]:
    """One picture and the same threads, of one process and divided among more and more ranks."""
    ranks = [ranks for ranks in (1, 2, 4, 8) if threads % ranks == 0]
    teams = [Team(count, threads // count, size, size) for count in ranks]
    return [Team(1, threads, size, size, launched=False), *teams]


def weak(size: int, threads: int) -> list[Team]:
    """As many ranks of one thread as there are threads, and as many times the picture."""
    return [Team(ranks, 1, size, size * ranks) for ranks in (1, 2, 4, 8) if ranks <= threads]


def cases(options: Options) -> list[Case]:
    sizes = options.choose_sizes(full=(1024, 2048), quick=(512,))
    return [Case(title, size) for size in sizes for title in TITLES]


def measure(case: Case, options: Options) -> Iterator[Row]:
    if options.device != "cpu":
        return
    iterations = 6 if options.quick else 12
    reference: float | None = None  # of the first team; without it there is no ratio
    optimizer = "spectral" if case.title == "spectral" else "lbfgs"
    teams = (weak if case.title == "weak" else strong)(case.size, options.threads)
    for team in teams:
        found = together(team, iterations, optimizer)
        row = partial(
            Row, "scaling", case.title, team.name, device="cpu", dtype="fp32", size=case.size
        )
        if isinstance(found, str):
            yield row(error=found)
            continue
        slowest = max((rank["seconds"] for rank in found), key=median)
        if team is teams[0]:
            reference = median(slowest)
        yield row(
            **summary(slowest),
            reference_seconds=reference,
            extra={
                "ranks": team.ranks,
                "sent": max(rank["sent"] for rank in found),
                "model": sent_by_model(team, found[0]["bands"], optimizer),
            }
            if team.launched
            else {},
        )


def together(team: Team, iterations: int, optimizer: str = "lbfgs") -> list[dict[str, Any]] | str:
    """What each rank of a team has measured, or why there is nothing.

    Raises:
        KeyboardInterrupt: on Ctrl-C.
    """
    said: list[str] = []
    before = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder:
        numbers = team.width, team.height, team.threads, iterations
        command = (str(RANK), folder, *map(str, numbers), optimizer)
        torch.set_num_threads(max(1, team.threads * team.ranks))
        try:
            code = start(team, command, said.append)
        finally:
            torch.set_num_threads(before)
        if code >= 128:
            raise KeyboardInterrupt
        if code:
            return "; ".join(said) or f"the ranks ended with exit code {code}"
        paths = [Path(folder, f"{rank}.json") for rank in range(team.ranks)]
        return [json.loads(path.read_text()) for path in paths]


def start(team: Team, command: Sequence[str], say: Callable[[str], None]) -> int:
    """Run a Python command once for each rank, or once; the exit code."""
    if team.launched:
        return run_ranks(command, Plan(team.ranks), say)
    return subprocess.run([sys.executable, *command], check=False).returncode


def sent_by_model(team: Team, bands: int, optimizer: str = "lbfgs") -> float:
    """Bytes that the rank which sends the most sends in an iteration."""
    settings = Settings(engine="native", precision="fp32", history_size=PAIRS)
    spacing = cuts(settings, torch.device("cpu"))
    names = [layer.replace("relu", "conv") for layer in settings.style_layers]
    channels = [VGG19.convolutions()[name][1] for name in names]
    spectral = optimizer == "spectral"
    of_rank: list[float] = []
    for rank in range(team.ranks):
        neighbours = (rank > 0) + (rank < team.ranks - 1)
        of_rank.append(neighbours * exchanged_bytes(team.width))
        if spectral:
            grid, half = exchanging_grid(team.height, team.width, spacing), team.width // 2 + 1
            mine = grid.share(rank, team.ranks)
            rows = sum(grid.rows[band].owned_length for band in mine)
            columns = mine.stop * half // bands - mine.start * half // bands
            of_rank[-1] += spectral_bytes(rows, columns, team.height, team.width)
    return (
        max(of_rank)
        + gram_bytes(team.ranks, channels)
        + scalar_bytes(team.ranks, bands, len(settings.content_layers), PAIRS, spectral)
    )


def table(rows: Sequence[tables.RowDict]) -> str:
    return tables.plain(rows, COLUMNS)


SUITE = Suite(
    "scaling",
    "An iteration of one picture shared by ranks of this machine: time, and bytes that one sends.",
    cases,
    measure,
    table=table,
)
