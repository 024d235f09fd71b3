"""Work that is recorded once and replayed, with stand-ins for the graphs and streams of a GPU."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from fastnst.solvers.device import cuda_graph
from fastnst.solvers.device.cuda_graph import WARM_UP, CudaGraph


class StandIn:
    """CUDA graphs, streams and devices that take notes. Recording runs nothing."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.log: list[str] = []
        log = self.log

        class Context:
            def __init__(self, name: str) -> None:
                self.name = name

            def __enter__(self) -> None:
                log.append(f"{self.name} [")

            def __exit__(self, *_: object) -> None:
                log.append("]")

        class Stream:
            def __init__(self, name: str = "side") -> None:
                self.name = name

            def wait_stream(self, other: Any) -> None:
                log.append(f"{self.name} waits for {other.name}")

            def synchronize(self) -> None:
                log.append(f"{self.name} is done")

        class Graph:
            def replay(self) -> None:
                log.append("replay")

        cuda = {
            "Stream": Stream,
            "CUDAGraph": Graph,
            "empty_cache": lambda: log.append("give back"),
            "current_stream": lambda *_: Stream("main"),
            "stream": lambda stream: Context(stream.name),
            "graph": lambda graph, stream, capture_error_mode: Context(f"record on {stream.name}"),
        }
        monkeypatch.setattr(cuda_graph, "guard", lambda device: Context(str(device)))
        monkeypatch.setattr(cuda_graph, "torch", SimpleNamespace(cuda=SimpleNamespace(**cuda)))


def test_work_is_warmed_up_recorded_once_and_replayed(monkeypatch) -> None:
    notes = StandIn(monkeypatch)
    work = CudaGraph(lambda: notes.log.append("work"), torch.device("cuda", 1))
    for _ in range(WARM_UP + 3):
        work()
    on = "cuda:1 ["
    warm = ["side waits for main", "side [", "work", "]", "main waits for side", "]"]
    record = [on, "side [", "record on side [", "work", "]", "]", "replay", "]"]
    first = [on, "give back", *warm]  # what the default stream had
    again = [on, *warm] * (WARM_UP - 1)
    assert notes.log == first + again + record + [on, "replay", "]"] * 2


def test_what_fails_while_it_is_warmed_up_is_waited_for_too(monkeypatch) -> None:
    notes = StandIn(monkeypatch)

    def fail() -> None:
        raise ArithmeticError

    with pytest.raises(ArithmeticError):
        CudaGraph(fail, torch.device("cuda", 1))()
    assert notes.log[-2:] == ["main waits for side", "]"]


@pytest.mark.parametrize(("device", "record"), [("cpu", True), ("cuda", False)])
def test_elsewhere_work_is_done_each_time(monkeypatch, device: str, record: bool) -> None:
    notes = StandIn(monkeypatch)
    work = CudaGraph(lambda: notes.log.append("work"), torch.device(device), record)
    for _ in range(4):
        work()
    assert notes.log == ["work"] * 4


def test_a_thread_records_only_what_it_has_run(monkeypatch) -> None:
    """The plans of cuDNN are made for a thread, and must not be made while a graph is recorded."""
    notes = StandIn(monkeypatch)
    work = CudaGraph(lambda: notes.log.append("work"), torch.device("cuda", 0))
    for _ in range(WARM_UP):
        work()
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert work.graph is None
    for _ in range(WARM_UP + 1):
        work()
    assert work.graph is not None
    assert notes.log.count("work") == 2 * WARM_UP + 2  # one of them is the recording


def test_work_that_has_changed_is_recorded_anew_when_what_was_launched_is_done(monkeypatch) -> None:
    notes = StandIn(monkeypatch)
    work = CudaGraph(lambda: notes.log.append("work"), torch.device("cuda", 0))
    work.renew()  # nothing was recorded yet
    for _ in range(WARM_UP + 1):
        work()
    assert "main is done" not in notes.log
    work.renew()
    assert notes.log[-2:] == ["main is done", "give back"]
    notes.log.clear()
    for _ in range(WARM_UP + 2):
        work()
    assert notes.log.count("work") == WARM_UP + 1
    assert notes.log.count("replay") == 2


def test_two_threads_do_not_record_at_once(monkeypatch) -> None:
    """What one waits for before it records would spoil the recording of the other."""
    StandIn(monkeypatch)
    both_are_warm = threading.Barrier(2)
    recording, most = 0, 0

    def run() -> None:
        calls = 0

        def work() -> None:
            nonlocal calls, recording, most
            calls += 1
            if calls <= WARM_UP:
                return
            recording += 1
            most = max(most, recording)
            time.sleep(0.05)  # the other is at its recording too by then, if nothing holds it
            recording -= 1

        graph = CudaGraph(work, torch.device("cuda", 0))
        for _ in range(WARM_UP):
            graph()
        both_are_warm.wait()
        graph()

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
