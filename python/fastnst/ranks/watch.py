"""Who of several ranks is still there: so that an error names the one at fault.

Beside its work each rank counts up a number at the meeting point once a second, from a thread of
its own; and a rank that ends in an error leaves a word there. Whoever then waits in vain for
another looks who counts no longer, and who has left which word. Rank 0, whose process often is the
meeting point, stays until the others have looked. Each also says there how many communications it
has begun: those who have begun fewer than others are waited for.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from torch.distributed.distributed_c10d import Store

from fastnst.ranks.launch import SPEAKING

BEAT = 1.0  # seconds between two counts
GRACE = 3.0  # seconds that the numbers are looked at: three beats
SILENT = 9.0  # seconds without a count, after which rank 0 waits no longer for a rank
STAY = 30.0  # seconds that it stays at most for those that count: a busy machine lets them wait
LOST = "lost"  # the word of a rank that ends because of another


class Watch:
    """The numbers and words of all ranks, of which this one writes its own.

    Args:
        store: What all ranks share.
        rank: Which this is.
        ranks: How many there are.
        calls: How many communications this rank has begun.

    Attributes:
        late: On rank 0: the ranks that others have waited for since the count before.
    """

    def __init__(self, store: Store, rank: int, ranks: int, calls: Callable[[], int]) -> None:
        self.rank, self.ranks = rank, ranks
        self.late: tuple[int, ...] = ()
        self._calls = calls
        self._seen = [0] * ranks  # communications of each at the count before
        self._store = store
        self._lock = threading.Lock()  # one conversation with the store at a time
        self._ends = False  # whether this rank ends in an error
        self._gone: set[int] = set()  # ranks that were killed or stopped: they look at nothing
        self._answers = True  # whether the meeting point does, as far as is known
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True, name=f"{SPEAKING}watch")
        self._thread.start()

    def leave_word(self, reason: str) -> None:
        """Say why this rank ends; only the first word counts. Nothing happens if nobody listens."""
        self._ends = True
        if self._answers:
            self._within(lambda: self._say(reason), GRACE)

    def word_of(self, rank: int, seconds: float) -> str | None:
        """Why another rank ends, if it says so within so many seconds."""
        found: list[str] = []

        def wait() -> None:
            until = time.monotonic() + seconds
            while not found and time.monotonic() < until:
                word = self._word(rank)
                if word is not None:
                    found.append(word)
                else:
                    time.sleep(BEAT / 8)

        self._within(wait, seconds)
        return found[0] if found else None

    def close(self) -> None:
        """Stop counting; on rank 0, after an error, wait for the others to look or to end."""
        if self._ends and self.rank == 0:
            self._within(self._await_others, STAY)
        elif self._ends and self._answers:
            self._within(self._has_looked, GRACE)  # also where it ends for a reason of its own
        self._done.set()
        if self._answers:
            self._thread.join(GRACE)

    def explain(self, peer: int | None, reason: str, limit: float) -> str:
        """Who is to blame that this rank waited in vain, as well as can be known.

        Args:
            peer: The rank that it waited for; None: for all of them.
            reason: What torch says.
            limit: Seconds that it may have waited.

        Returns:
            A part of a sentence, such as ``rank 2 was killed or stopped (…)``.
        """
        self._ends = True
        found: list[str] = []
        self._answers = self._within(lambda: found.append(self._look()), GRACE + BEAT)
        waited = f"nothing came within {limit:g} s" if "imed out" in reason else reason
        if found and found[0]:
            return f"{found[0]} ({waited})"
        if not self._answers:
            return f"the meeting point, on the machine of rank 0, does not answer ({waited})"
        if peer is not None:
            return f"rank {peer} does not answer ({waited})"
        return f"another rank does not answer ({waited})"

    def _say(self, reason: str) -> None:
        with self._lock:
            if not self._store.check([f"word {self.rank}"]):
                self._store.set(f"word {self.rank}", reason)

    def _await_others(self) -> None:
        awaited = set(range(1, self.ranks)) - self._gone
        heard: dict[int, tuple[int, float]] = {}  # the last count of each, and since when
        while awaited:
            for rank in sorted(awaited):
                with self._lock:
                    looked = self._store.check([f"looked {rank}"])
                    count = self._store.add(f"count {rank}", 0)
                now = time.monotonic()
                if rank not in heard or heard[rank][0] != count:
                    heard[rank] = count, now
                if looked or now - heard[rank][1] > SILENT:
                    awaited.discard(rank)
            time.sleep(BEAT / 10)

    def _has_looked(self) -> None:
        with self._lock:
            self._store.set(f"looked {self.rank}", "")

    def _look(self) -> str:
        """Who has left a word, or else who counts no longer, or else who has not come."""
        found = self._find_out()
        self._has_looked()
        return found

    def _find_out(self) -> str:
        self._say(LOST)
        others = [rank for rank in range(self.ranks) if rank != self.rank]
        before = self._counts()
        until = time.monotonic() + GRACE
        words: dict[int, str] = {}
        while time.monotonic() < until:
            words = {rank: word for rank in others if (word := self._word(rank)) is not None}
            if any(word != LOST for word in words.values()):
                break
            time.sleep(BEAT / 4)
        told = [f"rank {rank} ended: {word}" for rank, word in words.items() if word != LOST]
        if told:
            return "; ".join(told)
        after = self._counts()
        still = [r for r in others if after[r] == before[r] and r not in words]
        if still:
            self._gone = set(still)
            return f"{_name(still)} {'was' if len(still) == 1 else 'were'} killed or stopped"
        busy = [rank for rank in others if rank not in words]
        return f"{_name(busy)} {'is' if len(busy) == 1 else 'are'} still busy" if busy else ""

    def _counts(self) -> list[int]:
        with self._lock:
            return [self._store.add(f"count {rank}", 0) for rank in range(self.ranks)]

    def _word(self, rank: int) -> str | None:
        with self._lock:
            if not self._store.check([f"word {rank}"]):
                return None
            return self._store.get(f"word {rank}").decode("utf-8", "replace")

    def _beat(self) -> None:
        while not self._done.is_set():
            try:
                with self._lock:
                    self._store.add(f"count {self.rank}", 1)
                    self._store.set(f"calls {self.rank}", str(self._calls()))
                if self.rank == 0:
                    self._look_who_is_late()
            except RuntimeError:  # whoever keeps the numbers is gone
                return
            self._done.wait(BEAT)

    def _look_who_is_late(self) -> None:
        with self._lock:
            keys = [f"calls {rank}" for rank in range(self.ranks)]
            seen = [int(self._store.get(key)) if self._store.check([key]) else 0 for key in keys]
        most, before = max(seen), self._seen
        self.late = tuple(
            rank for rank, calls in enumerate(seen) if calls < most == max(before) and
            calls == before[rank]
        )  # fmt: skip
        self._seen = seen

    def _within(self, work: Callable[[], object], seconds: float) -> bool:
        """Do what talks to the store, but wait for it no longer than so; whether it was done."""
        done: list[bool] = []

        def attempt() -> None:
            try:
                work()
                done.append(True)
            except RuntimeError:  # nobody keeps the numbers
                pass

        thread = threading.Thread(target=attempt, daemon=True, name=f"{SPEAKING}word")
        thread.start()
        thread.join(seconds)
        return bool(done)


def _name(ranks: list[int]) -> str:
    return f"rank{'s' if len(ranks) > 1 else ''} {', '.join(map(str, ranks))}"
