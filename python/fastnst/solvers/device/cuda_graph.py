"""Work on a GPU that is recorded once, as a CUDA graph, and then replayed without its launches.

What is recorded must be the same each time: it reads and writes tensors that stay where they are,
allocates nothing but temporaries, fetches no number and takes no branch on one. On a CPU, and where
recording is not wanted, the work is simply run.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import torch

from fastnst.devices import guard

WARM_UP = 2  # runs before recording: libraries load their kernels and choose among them

# One recording at a time in a process. Before it begins PyTorch waits for the whole device, which
# CUDA refuses, and spoils the recording, while another thread records on a stream of that device.
_RECORDING = threading.Lock()


class CudaGraph:
    """A function without arguments, to be called again and again, that becomes a CUDA graph.

    The first ``WARM_UP`` calls run it, the next one records it too, and all others replay. So each
    call does its work, whichever it is. A thread records what it has run itself: in another one the
    libraries would make their plans in the middle of the recording.

    Args:
        work: What to do; on a GPU it launches kernels on the current stream of ``device``.
        device: The device that the work runs on.
        record: Whether the work can be recorded; if not, it is run each time.

    Attributes:
        graph: The recording, or None before there is one.
    """

    def __init__(
        self, work: Callable[[], object], device: torch.device, record: bool = True
    ) -> None:
        self.work = work
        self.device = device
        self.record = record and device.type == "cuda"
        self.warm = 0  # runs of the thread at hand
        self.thread = 0
        self.graph: torch.cuda.CUDAGraph | None = None
        self.stream: torch.cuda.Stream | None = None

    def __call__(self) -> None:
        """Do the work once; on a GPU it is done when the current stream gets there."""
        if not self.record:
            self.work()
            return
        with guard(self.device):
            if self.graph is not None:
                self.graph.replay()
                return
            if self.thread != threading.get_ident():  # cuDNN keeps its plans by thread
                self.thread, self.warm = threading.get_ident(), 0
            if self.warm < WARM_UP:
                if not self.warm:
                    self._give_back()
                self._warm_up()
                self.warm += 1
            else:
                self.graph = self._record()
                self.graph.replay()

    def renew(self) -> None:
        """Record anew: what the work does has changed. What was launched is done first."""
        if self.graph is not None:
            torch.cuda.current_stream(self.device).synchronize()
        self.graph, self.warm = None, 0
        self._give_back()  # its memory goes before that of the next comes

    def _give_back(self) -> None:
        """Give back what PyTorch keeps of the memory of other streams and recordings.

        It never serves this stream, and other processes may need it.
        """
        if self.record:
            torch.cuda.empty_cache()

    def _warm_up(self) -> None:
        """Do the work on the stream of the recording, where what is made for a stream then is."""
        current = torch.cuda.current_stream()
        self.stream = self.stream or torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self.stream.wait_stream(current)
        try:
            with torch.cuda.stream(self.stream):
                self.work()
        finally:  # what the current stream is given next may lie in memory that is freed now
            current.wait_stream(self.stream)

    def _record(self) -> torch.cuda.CUDAGraph:
        graph = torch.cuda.CUDAGraph()
        # other threads may go on using their devices meanwhile
        capture = torch.cuda.graph(graph, stream=self.stream, capture_error_mode="thread_local")
        # of its own: where a recording cannot be ended, torch leaves its stream the current one
        with _RECORDING, torch.cuda.stream(self.stream), capture:
            self.work()
        return graph
