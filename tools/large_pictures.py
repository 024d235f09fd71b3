"""Peak memory of large pictures in and out, each in a process of its own.

    python tools/large_pictures.py [--side 20000] [--folder FOLDER] [CASE …]

Makes a PNG, a JPEG and a tiled TIFF of side × side pixels in the folder (once), then runs the
cases one after another and prints for each what its process took beyond its libraries: anonymous
memory, and all resident memory, in which pages of mapped scratch files count. 20000 × 20000 pixels
are 400 megapixels, and 1.2 GB as 8-bit RGB. Linux only.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from fastnst.errors import FastNSTError
from fastnst.evaluation import Evaluation, Terms
from fastnst.images import rows
from fastnst.images.colour_rows import HistogramMatchedRows, MatchedRows, RecolouredRows
from fastnst.images.large import open_large
from fastnst.images.noise import fill_with_noise
from fastnst.images.pixels import Pixels
from fastnst.images.resample import ResizedRows
from fastnst.images.rows import BandedRows, RowSource, StoredRows
from fastnst.images.tiled_tiff import save_tiff
from fastnst.inputs.pictures import NOISE_MEAN, NOISE_STD, decode, scale_pictures
from fastnst.inputs.sizes import most_pixels
from fastnst.ops.sums import squared_norm
from fastnst.settings.settings import Settings
from fastnst.solvers.minimise import minimise
from fastnst.solvers.vectors import Placement
from fastnst.strips.geometry import Spacing, spans
from fastnst.strips.storage import BandedTensor, ScratchStore

SPACING = Spacing(96, 96)
PERIOD = 500  # pixels after which the pictures made here repeat


class Pattern:
    """A picture of any size that takes no memory: waves and noise, repeated."""

    def __init__(self, side: int) -> None:
        self.height = self.width = side
        y, x = np.mgrid[:PERIOD, :PERIOD] * (2 * np.pi / PERIOD)
        waves = np.stack([np.sin(3 * x + y), np.cos(2 * y - x), np.sin(x + 4 * y)], axis=-1)
        noise = np.random.default_rng(0).normal(0, 0.02, waves.shape)
        self._tile = (0.5 + 0.4 * waves + noise).clip(0, 1).astype(np.float32)

    def rows(self, start: int, stop: int) -> Pixels:
        one = self._tile[np.arange(start, stop) % PERIOD]
        pixels: Pixels = np.tile(one, (1, -(-self.width // PERIOD), 1))[:, : self.width]
        return pixels


def make_files(folder: Path, side: int) -> None:
    """The three files, unless they are there."""
    import pyvips

    tile = (Pattern(PERIOD).rows(0, PERIOD) * 255).round().astype(np.uint8)
    count = -(-side // PERIOD)
    image = pyvips.Image.new_from_array(tile).replicate(count, count).crop(0, 0, side, side)
    image = image.copy(interpretation="srgb")
    for name, options in (
        ("big.jpg", {"Q": 90}),
        ("big.png", {"compression": 1}),
        ("big.tif", {"bigtiff": True, "tile": True, "compression": "deflate"}),
    ):
        if not (folder / name).exists():
            image.write_to_file(str(folder / name), **options)


def read(name: str) -> Callable[[Path, int, ScratchStore], None]:
    def case(folder: Path, side: int, store: ScratchStore) -> None:
        source = open_large(folder / name, store, side * side)
        for start, stop in rows.strips(source):
            source.rows(start, stop)

    return case


def read_truncated(folder: Path, side: int, store: ScratchStore) -> None:
    with (folder / "big.jpg").open("rb") as whole, (folder / "cut.jpg").open("wb") as cut:
        left = (folder / "big.jpg").stat().st_size // 2
        while data := whole.read(min(left, 1 << 20)):
            cut.write(data)
            left -= len(data)
    try:
        open_large(folder / "cut.jpg", store, side * side)
    except FastNSTError as error:
        print(error)


def write(bits: int, pyramid: bool) -> Callable[[Path, int, ScratchStore], None]:
    def case(folder: Path, side: int, _: ScratchStore) -> None:
        save_tiff(Pattern(side), folder / "out.tif", bits, pyramid)
        (folder / "out.tif").unlink()

    return case


def banded(source: RowSource, store: ScratchStore) -> BandedTensor:
    bands = spans(source.height, 192, SPACING)
    picture = BandedTensor(store, bands, (1, 3), source.width)
    rows.fill(picture, source)
    return picture


def steps(folder: Path, side: int, store: ScratchStore) -> None:
    """Decode, halve, start from noise with the picture's colours, keep colours, write."""
    source = open_large(folder / "big.tif", store, side * side)
    picture = banded(ResizedRows(source, side // 2, side // 2), store)
    bands = spans(picture.height, 192, SPACING)
    start = BandedTensor(store, bands, (1, 3), picture.width)
    fill_with_noise(start, 0, NOISE_MEAN, NOISE_STD)
    matched = MatchedRows(BandedRows(start), [BandedRows(picture)])
    save_tiff(RecolouredRows(matched, BandedRows(picture)), folder / "out.tif")
    (folder / "out.tif").unlink()


def histogram(folder: Path, side: int, store: ScratchStore) -> None:
    """Match the colours of the picture at an eighth of its size to those of another."""
    source: StoredRows = open_large(folder / "big.jpg", store, side * side)
    picture = banded(ResizedRows(source, side // 8, side // 8), store)
    matched = HistogramMatchedRows(BandedRows(picture), Pattern(side // 8), store)
    for start, stop in rows.strips(matched):
        matched.rows(start, stop)


def solver(_: Path, side: int, store: ScratchStore) -> None:
    """Three steps of L-BFGS with ten pairs on a sixteenth of the pixels, all in the scratch file.

    The objective is half the squared distance from grey, so that nothing else takes memory.
    """
    bands = spans(side // 4, 192, SPACING) if side >= 4 * 192 else ()
    placement = Placement(bands, store)
    start = store.zeros((1, 3, side // 4, side // 4))
    gradient = store.zeros(tuple(start.shape))

    def evaluate(image: torch.Tensor) -> Evaluation:
        torch.sub(image, 0.5, out=gradient)
        loss = 0.5 * squared_norm(gradient)
        return Evaluation(Terms(loss, {}, {}, loss.new_zeros(())), gradient)

    for _step in minimise(evaluate, start, iterations=3, history_size=10, placement=placement):
        pass


def pictures(folder: Path, side: int, store: ScratchStore) -> None:
    """What a run does before it begins: content and style decoded, scaled to 0.8, matched start."""
    largest = most_pixels(side)
    sources = decode(
        folder / "big.tif", folder / "big.jpg", init="matched", store=store, largest=largest
    )
    scale_pictures(sources, Settings(init="matched"), side * 4 // 5, store)


CASES: dict[str, Callable[[Path, int, ScratchStore], None]] = {
    "jpeg": read("big.jpg"),
    "png": read("big.png"),
    "tiff": read("big.tif"),
    "truncated": read_truncated,
    "out8": write(8, pyramid=False),
    "out16-pyramid": write(16, pyramid=True),
    "steps": steps,
    "histogram": histogram,
    "solver": solver,
    "pictures": pictures,
}


def memory(key: str) -> float:
    """Megabytes, by a line of Linux's account of this process."""
    return int(Path("/proc/self/status").read_text().split(f"{key}:")[1].split()[0]) * 1024 / 1e6


def measure(case: str, folder: Path, side: int) -> None:
    """Run a case in this process and print what it took."""
    import pyvips  # noqa: F401
    import tifffile  # noqa: F401

    anonymous, resident = memory("RssAnon"), memory("VmRSS")
    most, done = anonymous, threading.Event()

    def watch() -> None:
        nonlocal most
        while not done.wait(0.02):
            most = max(most, memory("RssAnon"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    began = time.perf_counter()
    try:
        with ScratchStore(folder) as store:
            CASES[case](folder, side, store)
            scratch = store.size
    finally:
        done.set()
        watcher.join()
    print(
        f"{case:14} {time.perf_counter() - began:6.0f} s   anonymous {most - anonymous:5.0f} MB   "
        f"resident {memory('VmHWM') - resident:5.0f} MB   scratch {scratch / 1e6:6.0f} MB",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("cases", nargs="*", metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--side", type=int, default=20000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.here:
        measure(given.cases[0], given.folder, given.side)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        make_files(folder, given.side)
        for case in given.cases or CASES:
            command = [sys.executable, __file__, case, "--here", "--folder", str(folder)]
            subprocess.run([*command, "--side", str(given.side)], check=True)


if __name__ == "__main__":
    main()
