"""The visitors' runs: one at a time, the others in a line, each found again by its visitor."""

from __future__ import annotations

import logging
import secrets
import shutil
import tempfile
import threading
import time
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from pathlib import Path

from fastnst.cache import Cache
from fastnst.errors import FastNSTError, InvalidInput
from fastnst.run.resources import UNLIMITED, Resources
from fastnst.run.step import Step
from fastnst.settings.settings import Settings
from fastnst.ui.limits import Limits
from fastnst.ui.outcome import Outcome
from fastnst.ui.watch import Watch
from fastnst.ui.wish import Ended, Stage, Wish, explain

QUEUE = 200  # runs that may wait
RESUMABLE = 4  # stopped runs whose state is kept: each may take hundreds of megabytes
REMEMBERED = 8  # finished runs of one visitor
KEPT = 100  # finished runs of all visitors: about 3 MB each at 1024 pixels, a sheet ten times that
KEPT_BYTES = 2_000_000_000  # of what is kept of them: films on the disk, pictures in memory
VISITORS = 64  # whose finished runs are kept
FORGOTTEN = 600.0  # seconds without a look, after which a visitor has left; hidden tabs look seldom
_log = logging.getLogger(__name__)


@dataclass(eq=False)
class Job(Watch):
    """A run that waits, goes on or has ended.

    Attributes:
        wish: What was asked for; its files are copies in ``folder``.
        folder: The run's own; its state is in it once it was stopped.
        resumed: Whether it goes on from that state.
        state: ``waiting``, ``running``, ``done``, ``stopped``, ``removed`` or ``failed``.
        outcome: What there is to show of a result.
        error: Why it failed, for the visitor.
        key: What tells it from other runs.
    """

    wish: Wish
    folder: Path
    resumed: bool = False
    state: str = "waiting"
    outcome: Outcome | None = None
    error: str | None = None
    key: str = field(default_factory=lambda: secrets.token_hex(8))

    def __post_init__(self) -> None:
        super().__init__()

    @property
    def active(self) -> bool:
        """Whether it waits or goes on."""
        return self.state in ("waiting", "running")

    @property
    def kept(self) -> Path:
        """The folder with the files of its outcome."""
        return self.folder.parent / f"kept-{self.key}"

    @property
    def can_go_on(self) -> bool:
        """Whether there is a state to go on from."""
        return self.wish.state(self.folder).exists()


@dataclass
class Visitor:
    """Somebody with the page open.

    Attributes:
        job: The run asked for last.
        finished: Earlier runs with a picture or a film, oldest first.
        looked: When the visitor was last heard of, as of ``time.monotonic``.
    """

    job: Job | None = None
    finished: list[Job] = field(default_factory=list)
    looked: float = field(default_factory=time.monotonic)


class Studio:
    """Runs what visitors ask for, one at a time, in the order in which they came.

    Args:
        limits: What visitors may ask for.
        settings: What the page shows first.
        resources: What a run may take of the machine.
    """

    def __init__(
        self, limits: Limits, settings: Settings, resources: Resources = UNLIMITED
    ) -> None:
        self.limits, self.settings, self.resources = limits, settings, resources
        self.cache = Cache()
        self._visitors: OrderedDict[str, Visitor] = OrderedDict()
        self._line: deque[Job] = deque()
        self._running: Job | None = None
        self._stopped: list[Job] = []  # those with a state, oldest first
        self._lock = threading.Condition()
        self._folder = tempfile.TemporaryDirectory(prefix="fastnst-")
        threading.Thread(target=self._work, daemon=True).start()

    def admit(self, token: object) -> str:
        """A visitor's token: the one given, if it is one of ours, or a new one."""
        with self._lock:
            if not isinstance(token, str) or token not in self._visitors:
                token = secrets.token_urlsafe(24)
                self._make_room()
                self._visitors[token] = Visitor()
            self._visitors.move_to_end(token)
            return token

    def visitor(self, token: object) -> Visitor:
        """The visitor of a token, who is noted to be there; somebody new if it is none of ours."""
        with self._lock:
            found = self._visitors.get(token) if isinstance(token, str) else None
            if found is None:
                return Visitor()
            found.looked = time.monotonic()
            self._visitors.move_to_end(str(token))
            return found

    def start(self, token: object, wish: Wish) -> Job:
        """Put a run in the line.

        Raises:
            InvalidInput: for files or settings that are not allowed, for a visitor whose run goes
                on, and if too many wait.
            BackendUnavailable: for what this machine cannot do.
        """
        visitor = self._known(token)
        wish.check(self.limits)
        with self._lock:
            self._check_room(visitor)
            return self._enter(visitor, self._own(wish))

    def resume(self, token: object) -> Job:
        """Put a stopped run in the line once more; it goes on where it was.

        Raises:
            InvalidInput: if the visitor has no stopped run, or another one goes on.
        """
        with self._lock:
            visitor = self._known(token)
            self._check_room(visitor)
            old = visitor.job
            if old is None or not self.resumable(visitor):
                raise InvalidInput("there is no stopped run to resume; start a new one")
            self._stopped.remove(old)
            return self._enter(visitor, Job(old.wish, old.folder, resumed=True))

    def stop(self, token: object) -> None:
        """Stop a visitor's run after the iteration at hand, or take it out of the line."""
        with self._lock:
            job = self.visitor(token).job
            if job is not None:
                self._stop(job)

    def resumable(self, visitor: Visitor) -> bool:
        """Whether a visitor's last run was stopped and can go on."""
        return visitor.job in self._stopped

    def place(self, job: Job) -> tuple[int, int]:
        """How many runs come before a waiting one, and how many wait in all."""
        with self._lock:
            before = self._line.index(job) if job in self._line else 0
            return before + (self._running is not None), len(self._line)

    def close(self) -> None:
        """Stop every run."""
        with self._lock:
            for job in (*self._line, *((self._running,) if self._running else ())):
                self._stop(job)

    def _known(self, token: object) -> Visitor:
        with self._lock:
            if not isinstance(token, str) or token not in self._visitors:
                raise InvalidInput("this page is of an earlier session; load it again")
            return self.visitor(token)

    def _check_room(self, visitor: Visitor) -> None:
        if visitor.job is not None and visitor.job.active:
            raise InvalidInput("a run of yours goes on; stop it first")
        if len(self._line) >= QUEUE:
            raise InvalidInput(f"{QUEUE} runs wait already; try again later")

    def _own(self, wish: Wish) -> Job:
        """A run with copies of its files: uploads are removed after an hour."""
        try:
            # systems tidy their folders for temporary files
            Path(self._folder.name).mkdir(mode=0o700, exist_ok=True)
            folder = Path(tempfile.mkdtemp(dir=self._folder.name))
        except OSError as error:
            raise InvalidInput(f"the server cannot keep the files: {error.strerror}") from error
        try:
            return Job(wish.owned(folder), folder)
        except InvalidInput:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def _enter(self, visitor: Visitor, job: Job) -> Job:
        if visitor.job in self._stopped:  # a new run takes its place
            self._stopped.remove(visitor.job)
            shutil.rmtree(visitor.job.folder, ignore_errors=True)
        visitor.job = job
        self._line.append(job)
        self._lock.notify_all()
        return job

    def _stop(self, job: Job) -> None:
        if job in self._line:
            self._line.remove(job)
            if job.resumed and job.can_go_on:
                job.state = "stopped"
                self._keep(job)
            else:
                job.state = "removed"
                shutil.rmtree(job.folder, ignore_errors=True)
        elif job.state == "running":
            job.stop()

    def _work(self) -> None:
        while True:
            with self._lock:
                while not self._line:
                    self._lock.wait()
                job = self._running = self._line.popleft()
                job.state = "running"
            ended = self._run(job)
            job.outcome, job.error = ended.outcome, ended.error
            with self._lock:
                self._running = None
                self._put_away(job, ended.state)
                job.state = ended.state

    def _run(self, job: Job) -> Ended:
        def hear(step: Step) -> None:
            job.hear(step)
            if step.iteration % 10 == 0:
                self._sweep()

        resumed, kept = job.resumed, job.kept
        stage = Stage(job.folder, kept, resumed, job, hear, self.cache, self.resources)
        try:
            return job.wish.run(stage)
        except Exception as error:  # noqa: BLE001 - it is shown to the one who asked
            if not isinstance(error, FastNSTError):
                _log.exception("a run failed")
            return Ended("failed", error=explain(error, job.folder, job.wish.state(job.folder)))

    def _put_away(self, job: Job, state: str) -> None:
        """Keep what a run that has ended leaves: its state, and its place among the visitor's."""
        job.forget()
        owner = next((v for v in self._visitors.values() if v.job is job), None)
        if owner is not None and job.outcome is not None:
            owner.finished.append(job)
            while len(owner.finished) > REMEMBERED:
                _drop(owner.finished.pop(0))
            while self._keeps_too_much():
                _drop(next(v for v in self._visitors.values() if v.finished).finished.pop(0))
        elif job.outcome is not None:
            _drop(job)
        if owner is not None and state in ("stopped", "failed") and job.can_go_on:
            self._keep(job)
        else:
            shutil.rmtree(job.folder, ignore_errors=True)

    def _keep(self, job: Job) -> None:
        """Keep the state of a run that was stopped, in the place of the oldest one."""
        self._stopped.append(job)
        while len(self._stopped) > RESUMABLE:
            shutil.rmtree(self._stopped.pop(0).folder, ignore_errors=True)

    def _keeps_too_much(self) -> bool:
        sizes = [
            job.outcome.kept
            for visitor in self._visitors.values()
            for job in visitor.finished
            if job.outcome is not None
        ]
        return len(sizes) > KEPT or (len(sizes) > 1 and sum(sizes) > KEPT_BYTES)

    def _sweep(self) -> None:
        """Stop the runs of visitors who have left."""
        now = time.monotonic()
        with self._lock:
            for visitor in self._visitors.values():
                if visitor.job is not None and now - visitor.looked > FORGOTTEN:
                    self._stop(visitor.job)

    def _make_room(self) -> None:
        """For one more: forget those heard of least recently, if none of their runs goes on."""
        idle = [k for k, v in self._visitors.items() if v.job is None or not v.job.active]
        for token in idle[: max(0, len(self._visitors) + 1 - VISITORS)]:
            gone = self._visitors.pop(token)
            for job in gone.finished:
                _drop(job)
            if gone.job in self._stopped:
                self._stopped.remove(gone.job)
                shutil.rmtree(gone.job.folder, ignore_errors=True)


def _drop(job: Job) -> None:
    """Forget the files of a finished run."""
    shutil.rmtree(job.kept, ignore_errors=True)
