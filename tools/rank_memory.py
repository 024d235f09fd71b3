"""How much memory rank 0 takes beyond its part where what all ranks have is saved. On Linux.

    python tools/rank_memory.py [--ranks 4]

Ranks that compute nothing have a state, and a picture, of known size. Both are saved as they are
where every rank has a part of its own to write or to give (*by part*), and as they are where rank 0
gathers all of it (*gathered*). Each time the peak of rank 0's resident memory is read, from what it
had before. The table is that of docs/several-machines.md.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import socket
import tempfile
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch

from fastnst.images.rows import PixelRows
from fastnst.images.tiled_tiff import save_tiff
from fastnst.ranks import communication
from fastnst.ranks.share import Share
from fastnst.run import checkpoint_parts, checkpoint_tensors, gathering
from fastnst.run.finish import finished
from fastnst.run.shared_rows import SharedRows
from fastnst.run.sharing import fixed_grid
from fastnst.solvers.sharing import apart, together
from fastnst.solvers.state import State
from fastnst.solvers.vectors import Placement
from fastnst.strips.geometry import Spacing

HEIGHT, WIDTH = 6000, 4000  # of the picture: 288 MB in float32
STATE = (2000, 1000)  # of the picture of the state
PAIRS = 19  # rows as large as that picture in each band: 480 MB with it
SPACING = Spacing(96, 96)


def state_of(share: Share) -> State:
    """A solver's state: a picture, and pairs of each band."""
    pairs = {
        f"s.band{band.index}.rows": torch.rand(PAIRS, 3 * band.owned_length * STATE[1])
        for band in share.bands
    }
    return State({}, {"image": torch.rand(1, 3, share.height, STATE[1]), **pairs})


def save_gathered(state: State, placement: Placement, path: Path) -> None:
    whole = together(state, placement)
    if whole is not None:
        checkpoint_tensors.write(checkpoint_tensors.packed(whole.tensors), {}, path)


def save_by_part(state: State, placement: Placement, path: Path) -> None:
    assert checkpoint_parts.can_share(path, placement.communication)
    alike, own = apart(state)
    if checkpoint_parts.write_together(own, path, placement.communication) is not None:
        checkpoint_tensors.write(alike.tensors, {}, path)


def picture_gathered(own: torch.Tensor, share: Share, path: Path) -> None:
    pixels = finished(*gathering.whole(own, share, None))
    if share.communication.rank == 0:
        save_tiff(PixelRows(pixels), path)


def picture_by_band(own: torch.Tensor, share: Share, path: Path) -> None:
    rows = SharedRows(own, share, None)
    with rows.serving():
        if share.communication.rank == 0:
            save_tiff(rows, path)


def memory(name: str) -> float:
    """``VmRSS`` or ``VmHWM`` of this process in MB."""
    status = Path("/proc/self/status").read_text("ascii")
    return int(status.split(f"{name}:")[1].split()[0]) * 1024 / 1e6


def peak_of(work: Callable[[], object]) -> float:
    """MB that this process takes at most while it works, beyond what it had before."""
    communication.current().barrier()
    Path("/proc/self/clear_refs").write_text("5")  # the peak is what there is now
    before = memory("VmRSS")
    work()
    peak = memory("VmHWM") - before
    communication.current().barrier()
    return peak


def measure(rank: int, ranks: int, port: int, folder: str, found: Connection) -> None:
    torch.set_num_threads(1)
    os.environ |= {
        "RANK": str(rank), "WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks),
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip
    speech = communication.join(300)
    share = Share.of(fixed_grid(*STATE, SPACING), speech)
    placement = Placement(share.bands, None, speech, len(share.grid.rows))
    state = state_of(share)
    peaks = []
    for number, save in enumerate((save_by_part, save_gathered)):
        peaks.append(peak_of(partial(save, state, placement, Path(folder, f"state-{number}"))))
    sizes = [sum(x.nbytes for x in state.tensors.values()) / 1e6]
    del state
    save_tiff(PixelRows(np.zeros((9, 9, 3), np.float32)), Path(folder, f"{rank}.tif"))  # imports
    share = Share.of(fixed_grid(HEIGHT, WIDTH, SPACING), speech)
    own = torch.from_numpy(np.linspace(0, 1, 3 * share.height * WIDTH, dtype=np.float32))
    own = own.view(1, 3, share.height, WIDTH)
    sizes.append(own.nbytes / 1e6)
    pictures = [Path(folder, f"picture-{number}.tif") for number in range(2)]
    for path, write in zip(pictures, (picture_by_band, picture_gathered), strict=True):
        peaks.append(peak_of(partial(write, own, share, path)))
    if rank == 0:
        found.send((peaks, sizes))
    communication.leave()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--ranks", type=int, default=4)
    ranks = parser.parse_args().ranks
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = int(listener.getsockname()[1])
    context = multiprocessing.get_context("spawn")
    mine, theirs = context.Pipe(duplex=False)
    with tempfile.TemporaryDirectory() as folder:
        processes = [
            context.Process(target=measure, args=(rank, ranks, port, folder, theirs))
            for rank in range(ranks)
        ]
        for process in processes:
            process.start()
        theirs.close()
        peaks, sizes = mine.recv()
        for process in processes:
            process.join()
    print("| saved | rank 0 has | gathered: more at the peak | by part: more at the peak |")
    print("| --- | ---: | ---: | ---: |")
    for number, name in enumerate(("a checkpoint", "a tiled BigTIFF")):
        by_part, gathered = peaks[2 * number : 2 * number + 2]
        print(f"| {name} | {sizes[number]:.0f} MB | {gathered:.0f} MB | {by_part:.0f} MB |")


if __name__ == "__main__":
    main()
