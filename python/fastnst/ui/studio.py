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
from fastnst.images.decode import open_image
from fastnst.run.checkpoint import Checkpoints
from fastnst.run.ending import Interrupted
from fastnst.run.resources import UNLIMITED, Resources
from fastnst.run.result import Result
from fastnst.run.run import run
from fastnst.run.step import Step
from fastnst.settings.settings import Settings
from fastnst.ui.limits import MOST_STYLES, Limits
from fastnst.ui.outcome import Outcome, outcome
from fastnst.ui.uploads import check_upload
from fastnst.ui.watch import Watch

QUEUE = 200  # runs that may wait
RESUMABLE = 4  # stopped runs whose state is kept: each may take hundreds of megabytes
REMEMBERED = 8  # finished runs of one visitor
KEPT = 100  # finished runs of all visitors: about 3 MB each at 1024 pixels
VISITORS = 64  # whose finished runs are kept
FORGOTTEN = 600.0  # seconds without a look, after which a visitor has left; hidden tabs look seldom
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wish:
    """What a visitor asks for.

    Attributes:
        content: Path of the content picture.
        styles: Paths of the style pictures.
        settings: Of the run.
        content_mask: Path of the content's mask, or None.
        style_masks: Paths of the styles' masks: none, or one for each style.
    """

    content: str | None
    styles: tuple[str, ...]
    settings: Settings
    content_mask: str | None = None
    style_masks: tuple[str, ...] = ()


@dataclass(eq=False)
class Job(Watch):
    """A run that waits, goes on or has ended.

    Attributes:
        wish: What was asked for; its pictures are copies in ``folder``.
        folder: The run's own; ``checkpoint`` in it is its state once it was stopped.
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
    def checkpoint(self) -> Path:
        """Where its state is, once it was stopped."""
        return self.folder / "state.checkpoint"


@dataclass
class Visitor:
    """Somebody with the page open.

    Attributes:
        job: The run asked for last.
        finished: Earlier runs with a picture, oldest first.
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
                self._visitors[token] = Visitor()
                self._make_room()
            self._visitors.move_to_end(token)
            return token

    def visitor(self, token: object) -> Visitor:
        """The visitor of a token, who is noted to be there; somebody new if it is none of ours."""
        with self._lock:
            found = self._visitors.get(token) if isinstance(token, str) else None
            if found is None:
                return Visitor()
            found.looked = time.monotonic()
            return found

    def start(self, token: object, wish: Wish) -> Job:
        """Put a run in the line.

        Raises:
            InvalidInput: for pictures or settings that are not allowed, for a visitor whose run
                goes on, and if too many wait.
        """
        visitor = self._known(token)
        megapixels = self.limits.megapixels
        content = check_upload(wish.content, "content picture", megapixels)
        if not wish.styles:
            raise InvalidInput("choose a style picture first")
        if len(wish.styles) > MOST_STYLES:
            raise InvalidInput(f"there are {len(wish.styles)} styles; {MOST_STYLES} are allowed")
        for label, paths in (("style picture", wish.styles), ("style mask", wish.style_masks)):
            for path in paths:
                check_upload(path, label, megapixels)
        if wish.content_mask:
            check_upload(wish.content_mask, "content mask", megapixels)
        with open_image(Path(content)) as image:
            longest = max(image.width, image.height)
        self.limits.check(wish.settings, longest)
        wish.settings.blend(len(wish.styles))
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
        """A run with copies of its pictures: uploads are removed after an hour."""
        folder = Path(tempfile.mkdtemp(dir=self._folder.name))

        def copy(path: str, name: str) -> str:
            return str(shutil.copyfile(path, folder / name))

        assert wish.content is not None
        mask = wish.content_mask
        owned = Wish(
            copy(wish.content, "content picture"),
            tuple(copy(path, f"style picture {k}") for k, path in enumerate(wish.styles, 1)),
            wish.settings,
            copy(mask, "content mask") if mask else None,
            tuple(copy(path, f"style mask {k}") for k, path in enumerate(wish.style_masks, 1)),
        )
        return Job(owned, folder)

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
            state, result = "failed", None
            try:
                state, result = self._run(job)
            except Exception as error:  # noqa: BLE001 - it is shown to the one who asked
                job.error = explain(error, job)
                result = getattr(error, "result", None)
                if not isinstance(error, FastNSTError):
                    _log.exception("a run failed")
            if result is not None:
                content = Path(str(job.wish.content))
                job.outcome = outcome(result, state, content, job.error)
            with self._lock:
                self._running = None
                self._put_away(job, state)
                job.state = state
            result = None  # not while the line is empty: it takes much memory

    def _run(self, job: Job) -> tuple[str, Result | None]:
        """Run; returns the state in which the run ends, and what there is of a result."""
        wish = job.wish
        assert wish.content is not None

        def hear(step: Step) -> None:
            job.hear(step)
            if step.iteration % 10 == 0:
                self._sweep()

        try:
            result = run(
                wish.content,
                wish.styles,
                wish.settings,
                hear,
                content_mask=wish.content_mask,
                style_masks=wish.style_masks or None,
                # every so many iterations: never; the state is for a run that is stopped
                checkpoints=Checkpoints(job.checkpoint, wish.settings.iterations + 1),
                resume=job.checkpoint if job.resumed else None,
                cache=self.cache,
                resources=self.resources,
            )
        except Interrupted as interrupt:
            return "stopped", interrupt.result
        except KeyboardInterrupt:
            return "removed", None
        return "done", result

    def _put_away(self, job: Job, state: str) -> None:
        """Keep what a run that has ended leaves: its state, and its place among the visitor's."""
        job.forget()
        owner = next((v for v in self._visitors.values() if v.job is job), None)
        if owner is not None and job.outcome is not None:
            owner.finished = [*owner.finished, job][-REMEMBERED:]
            while sum(len(visitor.finished) for visitor in self._visitors.values()) > KEPT:
                next(v for v in self._visitors.values() if v.finished).finished.pop(0)
        if owner is not None and state == "stopped" and job.checkpoint.exists():
            self._stopped.append(job)
            while len(self._stopped) > RESUMABLE:
                shutil.rmtree(self._stopped.pop(0).folder, ignore_errors=True)
        else:
            shutil.rmtree(job.folder, ignore_errors=True)

    def _sweep(self) -> None:
        """Stop the runs of visitors who have left."""
        now = time.monotonic()
        with self._lock:
            for visitor in self._visitors.values():
                if visitor.job is not None and now - visitor.looked > FORGOTTEN:
                    self._stop(visitor.job)

    def _make_room(self) -> None:
        """Forget those who were heard of least recently, if none of their runs goes on."""
        idle = [k for k, v in self._visitors.items() if v.job is None or not v.job.active]
        for token in idle[: max(0, len(self._visitors) - VISITORS)]:
            job = self._visitors.pop(token).job
            if job in self._stopped:
                self._stopped.remove(job)
                shutil.rmtree(job.folder, ignore_errors=True)


def explain(error: Exception, job: Job) -> str:
    """What went wrong, in one line for a visitor, who need not know the server's paths."""
    if not isinstance(error, FastNSTError):
        return "the run failed on the server; its log says why"
    text = str(error).replace(f"checkpoint {job.checkpoint}", "the stopped run")
    return text.replace(f"{job.folder}/", "the ")
