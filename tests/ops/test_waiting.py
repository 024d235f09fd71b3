"""Threads wait briefly where the system takes their processors away, and long where it does not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from fastnst.evaluation import Evaluation, Terms
from fastnst.ops import extension, waiting
from fastnst.ops.waiting import BUSY, PERIOD, QUIET, Waiting
from fastnst.solvers.minimise import minimise
from helpers.kernels import needs_native

THREADS = 64
BETWEEN = (BUSY + QUIET) / 2  # of a thread's time, at which nothing changes


class Machine:
    """A clock, and seconds waited for a processor, that a test moves on."""

    def __init__(self) -> None:
        self.now, self.waited = 50.0, 1000.0
        self.told: list[bool] = []
        self.waiting = Waiting(lambda: self.waited, lambda: self.now, self.told.append)
        self.waiting.look(THREADS)

    def run(self, share: float, seconds: float = 10 * PERIOD, looks: int = 5) -> None:
        for _ in range(looks):
            self.now += seconds
            self.waited += share * THREADS * seconds
            self.waiting.look(THREADS)


def test_a_quiet_machine_is_left_alone() -> None:
    machine = Machine()
    machine.run(0.0)
    machine.run(BETWEEN)
    assert machine.told == []
    assert not machine.waiting.briefly


def test_it_follows_the_machine_there_and_back() -> None:
    machine = Machine()
    machine.run(2 * BUSY)
    assert machine.told == [True]
    machine.run(BETWEEN)
    assert machine.told == [True]
    machine.run(QUIET / 2)
    assert machine.told == [True, False]
    machine.run(BETWEEN)
    machine.run(2 * BUSY)
    assert machine.told == [True, False, True]


def test_it_looks_no_more_often_than_its_period() -> None:
    machine = Machine()
    machine.run(5 * BUSY, seconds=PERIOD / 10, looks=9)
    assert machine.told == []  # nothing is decided from a moment
    machine.run(5 * BUSY, seconds=PERIOD / 10, looks=2)
    assert machine.told == [True]


def test_a_thread_that_ends_takes_its_time_along() -> None:
    machine = Machine()
    machine.run(2 * BUSY)
    machine.waited -= 500
    machine.run(0.0, looks=1)
    assert machine.waiting.briefly  # nothing is decided from it
    machine.run(0.0, looks=1)
    assert not machine.waiting.briefly


# What the process of a test finds; its own may have been loaded with another environment.
CODE = """
import json, os, sys, time
import torch
from fastnst.ops import waiting
from fastnst.ops.extension import loaded

def members():
    if not os.path.exists("/proc/self/task"):
        return None
    before, now = None, len(os.listdir("/proc/self/task"))
    while now != before:  # the runtime does not wait for those whose leader has ended
        time.sleep(0.2)
        before, now = now, len(os.listdir("/proc/self/task"))
    return now

torch.set_num_threads(2)
x = torch.zeros(1 << 20)
x.add_(1)
answer = {"reason": waiting.unavailable_reason(), "members": [members()]}
for briefly in (True, True, False, False, True):
    loaded().wait_briefly(briefly, 2)
    answer["members"].append(members())
    x.add_(1)  # the team of the operators works on
answer["sum"] = float(x.sum())
torch.set_num_threads(3)
answer["more"] = float(torch.ones(1 << 20).add_(1).sum())
print(json.dumps(answer))
"""


def _answer() -> dict[str, object]:
    unset = (*waiting.OWN_CHOICE, "OMP_NUM_THREADS")
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        capture_output=True,
        text=True,
        env={k: v for k, v in os.environ.items() if k not in unset},
        timeout=120,
    )
    assert done.returncode == 0, done.stderr  # also: it ends while the team sleeps
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


def _tells() -> bool:
    return extension.is_available() and bool(extension.loaded().can_wait_briefly())


@needs_native
@pytest.mark.skipif(not _tells(), reason="no runtime that can be told how to wait")
def test_sleeping_threads_come_and_go() -> None:
    answer = _answer()
    assert answer["reason"] is None
    assert answer["sum"] == 6 * 2**20
    assert answer["more"] == 2 * 2**20
    if not Path("/proc/self/task").exists():
        return
    members = answer["members"]
    assert isinstance(members, list)
    before, on, still_on, off, still_off, again = members
    assert before == off == still_off
    assert on == still_on == again
    # libgomp sleeps early where it has more threads than there are processors. It does not count
    # the first of a team.
    processors = len(os.sched_getaffinity(0))
    assert 2 + (on - before - 1) > processors


@needs_native
@pytest.mark.parametrize("name", waiting.OWN_CHOICE)
def test_a_choice_of_the_user_stands(name: str, monkeypatch) -> None:
    for other in waiting.OWN_CHOICE:
        monkeypatch.delenv(other, raising=False)
    assert (waiting.unavailable_reason() is None) == _tells()
    monkeypatch.setenv(name, "1000")
    assert waiting.unavailable_reason() is not None
    if _tells():
        assert waiting.unavailable_reason() == f"{name} is set"


def test_one_thread_has_nobody_to_wait_for(monkeypatch) -> None:
    machine = Machine()
    monkeypatch.setattr(waiting, "_waiting", machine.waiting)
    threads = torch.get_num_threads()
    try:
        for count, told in ((1, []), (2, [True])):
            torch.set_num_threads(count)
            machine.now += 1
            machine.waited += 2 * BUSY * count
            waiting.look()
            assert machine.told == told
    finally:
        torch.set_num_threads(threads)


def test_without_a_runtime_that_can_be_told_nothing_happens(monkeypatch) -> None:
    monkeypatch.setattr(waiting, "_waiting", None)
    waiting.look()


def test_a_run_looks_once_in_each_iteration(monkeypatch) -> None:
    looks: list[int] = []
    monkeypatch.setattr(waiting, "look", lambda: looks.append(1))

    def evaluate(x: torch.Tensor) -> Evaluation:
        loss = x.square().sum()
        return Evaluation(Terms(loss, {}, {}, loss * 0), 2 * x)

    start = torch.rand(1, 3, 4, 4)
    assert len(list(minimise(evaluate, start, iterations=3))) == len(looks) == 4


@pytest.mark.skipif(not waiting.THREADS.exists(), reason="the system does not say it")
def test_two_processes_on_one_processor_wait_for_it() -> None:
    processors = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(processors)})  # the child inherits it
        with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as other:
            try:
                before, until = waiting._waited(), time.process_time() + 0.3
                while time.process_time() < until:
                    pass
                # The system gives each about as much, in turns of milliseconds.
                assert waiting._waited() - before > 0.03
            finally:
                other.kill()
    finally:
        os.sched_setaffinity(0, processors)
