"""``loss``: time to quality.

The reference evaluates 300 times from white noise. L_ref is its lowest loss, and its clock is read
where it has that. (This is near its end; but its first steps can jump far away, so the last loss of
a short run may be anything.) A contestant has the same content, style, size and objective, and is
free in its start and its method. Its clock stops at the first picture whose *reference objective in
float32* is ≤ L_ref. That picture is found afterwards, off the clock: of the pictures that were kept
(all of them up to 256 px), the first and every tenth are scored until one is at the target, then
those before it one by one.

The reference's colours are free to leave [0, 1], and do. Saving its picture clamps them, and the
loss of the clamped picture, L_saved, is higher. ``saved_seconds`` and ``saved_speedup`` belong to
the first scored picture that is as good as that one. The ratio of a row is always the strict one.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from statistics import median

import torch

from benchmarks import setups, tables
from benchmarks.contestants import REFERENCE, Contestant, Point, Runner, Task, advance_in_turn
from benchmarks.options import PAIRS, Options
from benchmarks.rows import Row, ratio, summary
from benchmarks.suite import Case, Suite

# One line each; what it may differ in is whatever ``fastnst.Settings`` has.
CONTESTANTS = (
    Contestant("fastnst"),
    Contestant("fastnst init=content", settings={"init": "content"}),
    Contestant("fastnst init=matched", settings={"init": "matched"}),
    Contestant("fastnst preset=fast", preset="fast"),
)
BOUND = 1.5  # a contestant gives up after so many times the reference's evaluations


def contestants(chosen: tuple[str, str], device: str) -> tuple[Contestant, ...]:
    """The list above, and each engine and precision but those ``chosen`` when none is named."""
    named = [
        Contestant(
            f"fastnst {' '.join(f'{k}={v}' for k, v in way.settings.items() if v != 'auto')}",
            settings=way.settings,
        )
        for way in setups.engines(device)
        if (way.engine, way.precision) != chosen
    ]
    return CONTESTANTS + tuple(named)


def cases(options: Options) -> list[Case]:
    sizes = options.choose_sizes(full=(256,), quick=(128,))
    pairs = PAIRS[: options.pairs or (1 if options.quick else 4)]
    return [
        Case(
            f"{content} + {style}, seed {seed}".replace("sample:", ""),
            size,
            details={"content": content, "style": style, "seed": seed},
        )
        for size, (content, style), seed in product(sizes, pairs, range(options.seeds))
    ]


def measure(case: Case, options: Options) -> Iterator[Row]:
    details = case.details or {}
    evaluations = options.evaluations or (30 if options.quick else 300)
    chosen = setups.chosen_engine(options.device)
    wanted = [c for c in contestants(chosen, options.device) if options.wants(c.name)]
    with tempfile.TemporaryDirectory(prefix="fastnst-benchmark-") as folder:
        names = details["content"], details["style"]
        content, style = setups.save_samples(names, Path(folder))
        task = Task(
            content=content,
            style=style,
            size=case.size,
            seed=details["seed"],
            device=options.device,
            threads=options.threads,
            evaluations=evaluations,
        )
        bound = replace(task, evaluations=round(BOUND * evaluations))
        runners: list[Runner] = []
        try:
            runners.append(Runner(REFERENCE, task, Path(folder, "reference")))
            for index, contestant in enumerate(wanted):
                runners.append(Runner(contestant, bound, Path(folder, str(index))))
            yield from _race(runners, task, case, options, precision=chosen[1])
        finally:
            for runner in runners:
                runner.stop()


def _race(
    runners: Sequence[Runner], task: Task, case: Case, options: Options, precision: str
) -> Iterator[Row]:
    reference, *others = runners
    loaded = setups.pictures(task.content, task.style, case.size)
    content, style = loaded.content.to(options.device), loaded.style.to(options.device)
    objective = setups.reference(content, style)

    def score(runner: Runner, evaluation: int, clamp: bool = False) -> float:
        pixels = runner.image(evaluation)
        image = torch.from_numpy(pixels).permute(2, 0, 1)[None].contiguous()
        if clamp:
            image = image.clamp(0, 1)
        if image.shape != content.shape:
            return float("inf")  # a stage at another size: not the picture yet
        return setups.score(objective, image.to(options.device))

    searches: dict[str, Search] = {}
    target: float | None = None
    saved = float("inf")
    best: Point | None = None
    # The reference goes at twice the pace, so that a contestant at the target need not go on.
    for _ in advance_in_turn([reference, *runners]):
        if not reference.ended:
            continue
        if reference.error or not reference.points:
            break
        if target is None:
            best = min((p for p in reference.points if p.kept), key=lambda p: p.loss)
            target = score(reference, best.evaluation)
            saved = score(reference, best.evaluation, clamp=True)
            searches = {o.contestant.name: Search(partial(score, o), target) for o in others}
        for other in others:
            if searches[other.contestant.name].look(other.points) and not other.ended:
                other.stop()
    row = partial(Row, "loss", case.title, device=options.device, size=case.size)
    if target is None or best is None:
        yield row("reference", dtype="fp32", error=reference.error or "it made no evaluation")
        return
    yield row(
        "reference",
        dtype="fp32",
        seconds=best.seconds,
        runs=1,
        reference_seconds=best.seconds,
        extra={
            "evaluations": best.evaluation,
            "loss": target,
            "target": target,
            "saved_target": saved,
            "curve": [[p.seconds, p.loss] for p in reference.points],
        },
    )
    for other in others:
        search = searches[other.contestant.name]
        dtype = other.contestant.settings.get("precision", precision)
        at_saved = next((s for s, loss in search.curve if loss <= saved), None)
        known = {
            "target": target,
            "saved_target": saved,
            "saved_seconds": at_saved,
            "saved_speedup": ratio(best.seconds, at_saved),
            "curve": search.curve,
        }
        reached = search.reached
        if reached is not None:
            yield row(
                other.contestant.name,
                dtype=dtype,
                seconds=reached.seconds,
                runs=1,
                reference_seconds=best.seconds,
                extra={"evaluations": reached.evaluation, "loss": search.loss, **known},
            )
            continue
        done = len(other.points)
        final = search.curve[-1][1] if search.curve else None
        yield row(
            other.contestant.name,
            dtype=dtype,
            reference_seconds=best.seconds,
            error=other.error or f"not at {target:.5g} after {done} evaluations",
            extra={"evaluations": done, "loss": final, **known},
        )


class Search:
    """Looks for the first kept picture that is good enough, scoring as few as it can.

    Args:
        score: The reference objective of the picture kept at an evaluation.
        target: L_ref.
        stride: Evaluations between two pictures of the coarse pass.

    Attributes:
        reached: The first point at or below the target, or None so far.
        loss: The reference objective there.
        curve: ``[seconds, reference objective]`` of every picture of the coarse pass.
    """

    def __init__(self, score: Callable[[int], float], target: float, stride: int = 10) -> None:
        self.score = score
        self.target = target
        self.stride = stride
        self.reached: Point | None = None
        self.loss: float | None = None
        self.curve: list[list[float]] = []
        self._done = 0  # evaluations up to which the coarse pass has come

    def look(self, points: Sequence[Point]) -> bool:
        """Go on with the points known by now; True once the target was reached."""
        if self.reached is not None:
            return True
        coarse = [
            p for p in points if p.kept and (p.evaluation == 1 or p.evaluation % self.stride == 0)
        ]
        if points and points[-1].kept and points[-1] not in coarse:
            coarse.append(points[-1])
        for point in coarse:
            if point.evaluation <= self._done:
                continue
            loss = self.score(point.evaluation)
            if math.isfinite(loss):  # not of a stage at another size
                self.curve.append([point.seconds, loss])
            if loss <= self.target:
                between = [
                    p for p in points if p.kept and self._done < p.evaluation < point.evaluation
                ]
                self._settle([*between, point])
                return True
            self._done = point.evaluation
        return False

    def _settle(self, points: Sequence[Point]) -> None:
        for point in points:
            loss = self.score(point.evaluation)
            if loss <= self.target:
                self.reached, self.loss = point, loss
                self.curve[-1:] = [[point.seconds, loss]]
                return


def summarise(rows: Sequence[Row]) -> Iterator[Row]:
    """The median and the worst ratio of each contestant over all pairs and seeds of a size."""
    keys = dict.fromkeys((r.implementation, r.device, r.dtype, r.size) for r in rows)
    for implementation, device, dtype, size in keys:
        if implementation == "reference":
            continue
        mine = [
            r
            for r in rows
            if (r.implementation, r.device, r.dtype, r.size)
            == (implementation, device, dtype, size)
        ]
        row = partial(
            Row, "loss", implementation=implementation, device=device, dtype=dtype, size=size
        )
        if len(mine) < 2:
            continue
        done = [r for r in mine if r.speedup is not None and r.seconds is not None]
        failed = len(mine) - len(done)
        note = f"{failed} of {len(mine)} did not get there" if failed else None
        if done:
            slow = min(done, key=lambda r: r.speedup or 0.0)
            as_saved = [r.extra["saved_speedup"] for r in done if r.extra.get("saved_speedup")]
            yield row(
                case=f"median of {len(done)}",
                **summary([r.seconds for r in done if r.seconds is not None]),
                reference_seconds=median([r.reference_seconds or 0.0 for r in done]),
                extra={"saved_speedup": median(as_saved)} if as_saved else {},
            )
            yield row(
                case=f"worst of {len(mine)}",
                seconds=slow.seconds,
                runs=1,
                reference_seconds=slow.reference_seconds,
                error=note,
                extra={"worst_case": slow.case},
            )
        else:
            yield row(case=f"worst of {len(mine)}", error=note)


COLUMNS = {
    "evaluations": ("evaluations", "d"),
    "loss": ("loss", ".4g"),
    "target": ("L_ref", ".4g"),
    "saved_target": ("L_saved", ".4g"),
    "saved_speedup": ("ratio to L_saved", ".1f"),
}
SUITE = Suite(
    "loss",
    "Seconds until the picture is as good, by the reference objective, as the reference's best.",
    cases,
    measure,
    "reference",
    summarise,
    table=partial(tables.plain, columns=COLUMNS),
)
