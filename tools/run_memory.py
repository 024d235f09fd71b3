"""How much memory a large run has at its peak, with all its curvature pairs, in one evaluation.

    python tools/run_memory.py --size 11548 --memory 22GB [--pairs 10] [CONTENT STYLE]

Ten pairs take eleven evaluations, hours at 100 megapixels, and memory does not depend on what the
pairs hold. So a quadratic of the picture stands in for the objective until all pairs are there: its
evaluations take seconds. Then the objective itself is evaluated once, in the pieces and with the
targets that the run began with. A line for each step: the anonymous memory of the process beyond
what the libraries had, pictures included, now and at its peak. On Linux.
"""

from __future__ import annotations

import argparse
import threading
import time
from pathlib import Path
from unittest.mock import patch

import torch
from torch import Tensor

from fastnst.api import stylize
from fastnst.engines import create
from fastnst.engines.strips.engine import StripEngine
from fastnst.errors import FastNSTError
from fastnst.evaluation import Evaluation, Terms
from fastnst.run.step import Step
from fastnst.strips.storage import empty

BLOCK = 128  # rows of the quadratic at a time
CURVATURES = 37  # different ones, so that each pair is another


class Done(Exception):
    """The objective was evaluated: nothing else is wanted of the run."""


class Peak(threading.Thread):
    """Reads ``RssAnon`` of this process twenty times a second; bytes beyond those at its start."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.before = anonymous()
        self.most = 0
        self.began = time.perf_counter()

    def run(self) -> None:
        """Look until the process ends."""
        while True:
            self.look()
            time.sleep(0.05)

    def look(self) -> int:
        """Bytes now."""
        now = anonymous() - self.before
        self.most = max(self.most, now)
        return now

    def say(self, what: str) -> None:
        """A line about now."""
        now = self.look() / 1e9
        seconds = time.perf_counter() - self.began
        print(
            f"{seconds:6.0f} s  {now:6.2f} GB, at most {self.most / 1e9:6.2f}  {what}", flush=True
        )


def anonymous() -> int:
    """Bytes of memory that belong to no file."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) * 1024


def quadratic(image: Tensor, gradient: Tensor) -> float:
    """½ Σ k (x − ½)² with k by row, and its gradient, which is put into ``gradient``."""
    total = 0.0
    for first in range(0, image.shape[-2], BLOCK):
        rows = slice(first, first + BLOCK)
        centred = image[..., rows, :] - 0.5
        k = 1 + torch.arange(first, first + centred.shape[-2]).remainder(CURVATURES) / 10
        gradient[..., rows, :] = 1e-3 * k[:, None] * centred
        total += float((gradient[..., rows, :] * centred).double().sum()) / 2
    return total


class Staged(StripEngine):
    """The quadratic for some evaluations, then the objective."""

    cheap = 0
    done = 0
    peak: Peak

    def evaluate(self, image: Tensor) -> Evaluation:
        """One of the two at ``image``."""
        Staged.done += 1
        if Staged.done > Staged.cheap:
            self.peak.say("the objective is evaluated")
            found = super().evaluate(image)
            self.peak.say(f"it is done, in {len(self.grid.rows) * len(self.grid.columns)} pieces")
            return found
        if self._gradient.shape != image.shape:
            self._gradient = empty(image.shape, image, self._store)
        total = torch.tensor(quadratic(image, self._gradient))
        zero = torch.zeros(())
        content = dict.fromkeys(self.objective.content, zero)
        style = dict.fromkeys(self.objective.style, zero)
        return Evaluation(Terms(total, content, style, zero), self._gradient, self.precision)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("content", nargs="?", default="sample:harbour")
    parser.add_argument("style", nargs="?", default="sample:swirl")
    parser.add_argument("--size", type=int, required=True, help="long side in pixels")
    parser.add_argument("--memory", required=True, help="as of fastnst stylize")
    parser.add_argument("--pairs", type=int, default=10, help="curvature pairs")
    options = parser.parse_args()
    peak = Staged.peak = Peak()
    # One pair for each step but the first, and the row that is spare.
    Staged.cheap = options.pairs + 2
    peak.start()

    def note(step: Step) -> None:
        peak.say(f"{min(step.iteration, options.pairs + 1)} of {options.pairs + 1} pairs")
        if Staged.done > Staged.cheap:
            raise Done

    try:
        with patch.object(create, "StripEngine", Staged):
            stylize(
                options.content,
                options.style,
                size=options.size,
                style_size=1024,
                init="content",
                memory=options.memory,
                iterations=options.pairs + 3,
                history_size=options.pairs,
                max_megapixels=options.size**2 // 10**6 + 1,
                callback=note,
            )
        print("The picture was computed in one piece: allow it less --memory.")
    except Done:
        pass
    except FastNSTError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
