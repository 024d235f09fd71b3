"""Starts the ranks of one machine and looks after them, by torch's elastic agent.

The agents of several machines meet at one of them. When a rank has failed, each ends what is left
of its own; with restarts left they meet again, with as many machines as there are then, and start
all ranks anew, which go on from the last checkpoint.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from types import FrameType
from typing import Any

import torch
from torch.distributed.elastic.agent.server.api import (
    RunResult,
    WorkerGroup,
    WorkerSpec,
    WorkerState,
)
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.rendezvous import RendezvousHandler, RendezvousParameters
from torch.distributed.elastic.rendezvous import registry as meeting_places
from torch.distributed.elastic.rendezvous.api import RendezvousError
from torch.distributed.elastic.rendezvous.c10d_rendezvous_backend import C10dRendezvousBackend
from torch.distributed.elastic.rendezvous.dynamic_rendezvous import create_handler

from fastnst.errors import BackendUnavailable
from fastnst.ranks.launch import INCOMPLETE, LAUNCHER, LOOPBACK, Plan, share_of_threads
from fastnst.ranks.meeting import loopback_store

RUN = "fastnst"  # the name of the run at the meeting place
SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2")
FINAL = (2, 130, INCOMPLETE)  # bad input, Ctrl-C, bad input of a batch: all stays ended then
OURS = (-int(signal.SIGTERM), 128 + int(signal.SIGTERM))  # of ranks that torch ends after another
KILLED = -9  # the exit code of a rank that SIGKILL has ended
MEET_SECONDS = 600  # until enough machines are there
LATE_SECONDS = 15  # for further machines, once there are enough
STORE_SECONDS = 60  # that an agent waits for an answer of the store
POLL_SECONDS = 0.1  # between two looks at the ranks
LEAVE_SECONDS = 60  # that an agent waits at the end for those of other machines
AT_ONCE = 0.5  # seconds, within which signals count as one
STOP_SECONDS = 5  # that ranks have to end in after another has failed, before they are killed
FAILED = (WorkerState.FAILED, WorkerState.UNHEALTHY)


def run_ranks(command: Sequence[str], plan: Plan, say: Callable[[str], None]) -> int:
    """Run a Python command once for each rank, until all have ended.

    Ctrl-C, SIGTERM, SIGHUP, SIGUSR1 and SIGUSR2 are passed to one rank, which stops all of them
    after the iteration; a second one ends all at once.

    Args:
        command: The arguments of Python, such as ``("-m", "fastnst", "stylize", …)``.
        plan: How many ranks, where they meet, how often they are started again.
        say: Prints a line: about a rank that was killed and has said nothing itself.

    Returns:
        The exit code: 0 if all ranks are done; 128 and the number of a signal; 2 for bad input; 1
        for any other failure.

    Raises:
        BackendUnavailable: if the machines do not meet.
    """
    with _environment(plan), _silent_torch():
        try:
            agent = _Agent(command, plan, say)
            return agent.until_the_end()
        except (RendezvousError, TimeoutError, ConnectionError) as error:
            where = plan.join or LOOPBACK
            reason = " ".join(str(error.__cause__ or error).split()) or type(error).__name__
            raise BackendUnavailable(
                f"the machines could not meet at {where}: {reason.partition(' [')[0]}"
            ) from error


class _Agent(LocalElasticAgent):
    """The agent of a machine.

    Args:
        command: The arguments of Python.
        plan: What is asked for.
        say: Prints a line.
    """

    def __init__(self, command: Sequence[str], plan: Plan, say: Callable[[str], None]) -> None:
        spec = WorkerSpec(
            role=RUN,
            local_world_size=plan.ranks,
            entrypoint=sys.executable,
            args=tuple(word.replace("$", "$$") for word in command),  # torch fills in templates
            rdzv_handler=_meeting_place(plan),
            max_restarts=plan.restarts,
            monitor_interval=POLL_SECONDS,
            local_addr=_own_address(plan),
        )
        super().__init__(
            spec, DefaultLogsSpecs(log_dir=os.devnull), exit_barrier_timeout=LEAVE_SECONDS
        )
        self.plan, self.say = plan, say
        self.received = 0
        self._since = 0.0  # when it came
        self._started = self._starting = False
        self._kept = 0  # a signal that came while the ranks were being started
        self._at_the_end: set[int] = set()  # processes that still ran when another had ended

    def until_the_end(self) -> int:
        """Run, and return the exit code."""
        before = {number: signal.getsignal(number) for number in _numbers()}
        self._listen()
        try:
            result = self.run()
        except KeyboardInterrupt:
            return 128 + self.received
        except SignalException as error:  # a signal that is none of ours
            return 128 + int(error.sigval)
        finally:
            self._kill(pid for pid in self._processes() if _runs(pid))  # no orphans
            for number, handler in before.items():
                signal.signal(number, handler)
            self._rdzv_handler.shutdown()
        if self.received:
            return 128 + self.received
        codes = [failure.exitcode for failure in result.failures.values()] if result else []
        final = next((code for code in codes if code in FINAL), 1 if codes else 0)
        return 1 if final == INCOMPLETE else final

    def _start_workers(self, worker_group: WorkerGroup) -> dict[int, Any]:
        self._starting = True  # an exception here would lose processes that run already
        try:
            started: dict[int, Any] = super()._start_workers(worker_group)
            for local_rank, pid in started.items():  # torch does it later, one by one
                worker_group.workers[local_rank].id = pid
            self._started = True
        except Exception:
            if not self._kept:
                raise
            self.received = self._kept
            raise KeyboardInterrupt from None
        finally:
            self._starting = False
        self._listen()  # torch has put handlers of its own there
        self._end_soon()
        if self._kept:
            number, self._kept = self._kept, 0
            self._receive(number, None)
        return started

    def _end_soon(self) -> None:
        """Have ranks killed ``STOP_SECONDS`` after SIGTERM, which one that is stopped cannot hear.

        torch gives them half a minute, and none of its agent's arguments changes that.
        """
        processes = self._pcontext
        if processes is None:
            return
        close = processes.close

        def close_soon(
            death_sig: signal.Signals | None = None, timeout: int = STOP_SECONDS
        ) -> None:
            self._at_the_end |= {pid for pid in processes.pids().values() if _runs(pid)}
            close(death_sig, min(timeout, STOP_SECONDS))

        processes.close = close_soon  # type: ignore[method-assign]

    def _monitor_workers(self, worker_group: WorkerGroup) -> RunResult:
        result: RunResult = super()._monitor_workers(worker_group)
        if result.state in FAILED:
            self._started = False
            codes = [failure.exitcode for failure in result.failures.values()]
            if self.received or any(code in FINAL for code in codes):
                self._remaining_restarts = 0
            else:
                pids = {worker.global_rank: worker.id for worker in worker_group.workers}
                self._tell(result, pids)
        return result

    def _tell(self, result: RunResult, pids: Mapping[int, Any]) -> None:
        """Say which rank was killed, and that all start again.

        Args:
            result: How the ranks have ended.
            pids: The process of each.
        """
        codes = {rank: failure.exitcode for rank, failure in result.failures.items()}
        if any(code not in OURS for code in codes.values()):
            codes = {rank: code for rank, code in codes.items() if code not in OURS}
        for rank, code in sorted(codes.items()):
            if code >= 0:  # it has said why itself
                continue
            if code == KILLED and pids.get(rank) in self._at_the_end:
                self.say(f"rank {rank} did not end within {STOP_SECONDS} s and was killed")
            else:
                self.say(f"rank {rank} was ended by signal {-code}")
        if self._remaining_restarts > 0:
            number = self.plan.restarts - self._remaining_restarts + 1
            self.say(f"all ranks start again, {number} of {self.plan.restarts} times at most")

    def _listen(self) -> None:
        for number in _numbers():
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                signal.signal(number, self._receive)

    def _receive(self, number: int, _: FrameType | None) -> None:
        if self._starting:
            self._kept = self._kept or number
            return
        now = time.monotonic()
        if self.received and now - self._since < AT_ONCE:
            return  # of the same cause: a terminal that is closed sends SIGHUP twice
        again, self.received, self._since = self.received, number, now
        pids = self._processes() if self._started else []
        if pids and not again:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pids[0], signal.SIGINT)  # it tells the others
            return
        self._kill(pids)
        raise KeyboardInterrupt

    def _processes(self) -> list[int]:
        """Those of the ranks that were started last."""
        return [int(worker.id) for worker in self.get_worker_group().workers if worker.id]

    def _kill(self, pids: Iterable[int]) -> None:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)


def _runs(pid: int) -> bool:
    """Whether a process that this one has started has not ended yet; it is not waited for."""
    if not hasattr(os, "waitid"):
        return False  # nothing says, without taking its exit code from who needs it
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    except ChildProcessError:
        return False


def _numbers() -> list[int]:
    return [getattr(signal, name) for name in SIGNALS if hasattr(signal, name)]


def _meeting_place(plan: Plan) -> RendezvousHandler:
    """Where agents meet: at ``plan.join``, or on the loopback address, where nobody else is."""
    known = RendezvousParameters(
        backend="c10d",
        endpoint=plan.join or LOOPBACK,
        run_id=RUN if plan.join else f"{RUN}-{uuid.uuid4().hex}",
        min_nodes=plan.least,
        max_nodes=plan.most,
        local_addr=_own_address(plan),
        join_timeout=MEET_SECONDS,
        last_call_timeout=LATE_SECONDS,
    )
    if plan.join is not None:
        return meeting_places.get_rendezvous_handler(known)
    store = loopback_store(LOOPBACK, 0, timedelta(seconds=STORE_SECONDS))
    return create_handler(store, C10dRendezvousBackend(store, known.run_id), known)


def _own_address(plan: Plan) -> str:
    """The address of this machine that the others reach: the one from which it reaches them."""
    if plan.join is None:
        return LOOPBACK
    host, _, port = plan.join.rpartition(":")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host.strip("[]"), int(port), type=socket.SOCK_DGRAM
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.connect(address)  # sends nothing
            return str(probe.getsockname()[0])
    except OSError as error:
        raise BackendUnavailable(
            f"the machine of --join {plan.join} cannot be reached: {error.strerror or error}"
        ) from error


@contextlib.contextmanager
def _environment(plan: Plan) -> Iterator[None]:
    """What the ranks find in their environment."""
    threads = share_of_threads(torch.get_num_threads(), plan.ranks)
    wanted = {
        "OMP_NUM_THREADS": str(threads),
        LAUNCHER: str(os.getpid()),
        # Ranks that share the agents' store read addresses of before, after a restart.
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
        # Its warnings are traces of C++; what matters of them is said in a line of ours.
        "TORCH_CPP_LOG_LEVEL": os.environ.get("TORCH_CPP_LOG_LEVEL", "ERROR"),
        "TORCHELASTIC_SIGNALS_TO_HANDLE": "SIGQUIT" if hasattr(signal, "SIGQUIT") else "SIGTERM",
    }
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _silent_torch() -> Iterator[None]:
    """Without torch's own words about its agents, which are for those who know them."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)
