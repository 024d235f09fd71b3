"""How one picture scales over machines: the time and the bytes of an iteration, computed.

    python benchmarks/scaling_model.py

prints the computed tables of docs/several-machines.md. Nothing is measured here. A picture with
VGG-19 to relu5_1 is divided among P machines, in strips of rows or in blocks. Each computes its own
part and a margin around it, whose rows it has from its neighbours. How many values travel and how
much is computed twice follows from the network and from where rows are exchanged:

* *kept*: 80 or 96 rows of the picture, once for each evaluation, all of them computed in each
  layer. This is what fastnst does where features do not fit in memory, with 96 rows in engine
  ``native``, whose convolutions have tiles of six; and with 80 in engine ``torch``.
* *cropped*: 70 rows, the receptive field of relu5_1. Each convolution drops the outermost row,
  which has seen the edge of the margin.
* *per block*: before the first convolution of each block as many rows as the block needs.
* *per layer*: a row before each convolution; nothing is computed twice. This is what fastnst does
  with engine ``native``.

Forward, rows of the picture or of features travel; backward, their gradients return, which takes
the same bytes. Only *per layer* it is rows of the gradients that each convolution reads on the way
back; where these are still those of a pooling, a sign of each feature before it goes with them. The
Gram matrices, in two integers for each entry, and a few sums are added up over all
machines. Nothing of this is hidden behind computation, unless ``overlap`` says so.

The solver ``spectral`` sends spectra beside that, from each machine to each other.

All parts are taken to be alike. Those of fastnst are whole bands of rows: ``evenness`` is by how
much the largest is beyond the mean, and all wait for its owner.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from fastnst.network.architecture import VGG19
from fastnst.ranks.share import Share
from fastnst.run.sharing import exchanging_grid
from fastnst.solvers.spectral import BANDS
from fastnst.strips.geometry import Spacing, level_of, reach

LAYERS = VGG19.up_to(("relu5_1",))
STYLE_CHANNELS = (64, 128, 256, 512, 512)
CHANNELS = 3  # of a picture
PICTURE_BYTES = 4  # a value of the picture and of its gradient, float32
SUM_BYTES = 8  # a sum, int64 or float64
COMPLEX_BYTES = 8  # a value of a spectrum, complex64
SIGNS = 32  # in the place of a value
FREQUENCIES = CHANNELS * BANDS  # bands of frequencies in three colours
SUMS = {False: 2, True: 7}  # all-reduces in an iteration, of lbfgs and of spectral
TRANSFORMS = 4  # all-to-alls in an iteration of spectral
INTEGERS = 2  # of a Gram matrix's entry, whose size is not known beforehand
KEPT = 80  # the reach of relu5_1, 70, rounded up to whole positions of the deepest layer
WORTH = 0.85  # of what P machines could do at best; fewer machines are then the better use

MACHINES = (1, 2, 4, 8, 16, 32, 64)
MEGAPIXELS = (4, 16, 64, 100, 256, 1000)


@dataclass(frozen=True)
class Scheme:
    """Where rows are exchanged.

    Attributes:
        name: What the tables call it.
        rows: ``{convolution: rows that come from each neighbour before it}``, in rows of its level.
        cropped: Whether each convolution drops the outermost row of the margin.
        returns: Whether the gradients of the margin return, or else rows of the gradients that the
            convolutions read.
    """

    name: str
    rows: Mapping[str, int]
    cropped: bool = True
    returns: bool = True

    @property
    def exchanges(self) -> int:
        """How often rows are exchanged, forward; backward it is as often."""
        return len(self.rows)

    @property
    def of_picture(self) -> bool:
        """Whether only rows of the picture travel, no features."""
        return set(self.rows) == {"conv1_1"}

    @property
    def values(self) -> float:
        """Values sent forward for each pixel of a border and each of its sides."""
        convolutions = VGG19.convolutions()
        return sum(
            rows * convolutions[name][0] / float(1 << level_of(name))
            for name, rows in self.rows.items()
        )

    @property
    def values_back(self) -> float:
        """Values sent backward for each pixel of a border and each of its sides."""
        if self.returns:
            return self.values
        convolutions, found = VGG19.convolutions(), 0.0
        for name, after in zip(LAYERS, [*LAYERS[2:], ""], strict=False):
            if name in convolutions:
                channels = convolutions[name][1] / float(1 << level_of(name))
                found += channels / 2 + channels / SIGNS if after.startswith("pool") else channels
        return found

    @property
    def redundant(self) -> float:
        """What is computed twice on each side, as rows of the picture: by multiply-adds."""
        extra, twice, whole = 0.0, 0.0, 0.0
        convolutions = VGG19.convolutions()
        for name in LAYERS:
            if name.startswith("pool"):
                extra /= 2
            elif name in convolutions:
                extra += self.rows.get(name, 0)
                extra -= self.cropped
                work = math.prod(convolutions[name])
                twice += extra * work / 2 ** level_of(name)
                whole += work / 4 ** level_of(name)
        return twice / whole


def _per_block() -> dict[str, int]:
    """As many rows before each block as it has convolutions, rounded up to whole poolings."""
    blocks: dict[str, int] = {}
    for name in LAYERS:
        if name.startswith("conv"):
            first = f"{name.split('_')[0]}_1"
            blocks[first] = blocks.get(first, 0) + 1
    return blocks


SCHEMES = (
    Scheme("96 kept", {"conv1_1": 96}, cropped=False),
    Scheme("80 kept", {"conv1_1": KEPT}, cropped=False),
    Scheme("70 cropped", {"conv1_1": reach(LAYERS)}),
    Scheme("per block", _per_block()),
    Scheme(
        "per layer", dict.fromkeys((n for n in LAYERS if n.startswith("conv")), 1), returns=False
    ),
)


SHOWN = (*SCHEMES[:2], *SCHEMES[3:])  # in the larger tables
BUILT = (SCHEMES[0], SCHEMES[4])  # engine ``native`` in little memory and in enough


@dataclass(frozen=True)
class Machine:
    """What one machine computes with.

    Attributes:
        name: What the tables call it.
        seconds: Seconds an evaluation takes for each pixel.
        feature_bytes: Bytes of a feature that travels.
    """

    name: str
    seconds: float
    feature_bytes: int


@dataclass(frozen=True)
class Network:
    """What connects the machines.

    Attributes:
        name: What the tables call it.
        bandwidth: Bytes a second that a machine sends, and receives at the same time.
        latency: Seconds until the first byte arrives.
    """

    name: str
    bandwidth: float
    latency: float


# Assumed, not measured: a server of many cores, and an H100 in bfloat16.
CPU = Machine("CPU, 0.6 s a megapixel", 0.6e-6, 4)
GPU = Machine("GPU, 8 ms a megapixel", 8e-9, 2)
SLOW = Network("10 Gbit/s", 10e9 / 8, 50e-6)
FAST = Network("200 Gbit/s", 200e9 / 8, 10e-6)


@dataclass(frozen=True)
class Part:
    """The part of a picture that a machine in the middle has, in pixels.

    Attributes:
        height: Its own rows.
        width: Its own columns.
        above_and_below: Neighbours that it shares a row of pixels with.
        beside: Neighbours that it shares a column with.
    """

    height: float
    width: float
    above_and_below: int
    beside: int = 0


def strip(height: float, width: float, machines: int) -> Part:
    """A strip of rows of a picture, in the middle where there are more than two."""
    return Part(height / machines, width, min(2, machines - 1))


def evenness(pixels: float, machines: int) -> float | None:
    """Rows of the mean part of a square picture over the largest's, where rows are exchanged.

    Returns:
        1 where all are alike, or None where there are more machines than bands.
    """
    side = round(math.sqrt(pixels))
    grid = exchanging_grid(side, side, Spacing.of(LAYERS))
    if machines > len(grid.rows):
        return None
    largest = max(Share.part(grid, rank, machines).height for rank in range(machines))
    return side / machines / largest


def block(height: float, width: float, machines: int) -> Part:
    """A block of a picture, in the middle; the number of machines is a power of two."""
    across = 2 ** (int(math.log2(machines)) // 2)
    down = machines // across
    return Part(height / down, width / across, min(2, down - 1), min(2, across - 1))


def halo_bytes(part: Part, scheme: Scheme, feature_bytes: int) -> float:
    """Bytes that a machine sends to its neighbours in an iteration, forward and backward.

    Margins beside a block are as high as the block with its margins above and below.
    """
    size = PICTURE_BYTES if scheme.of_picture else feature_bytes
    border = part.above_and_below * part.width + part.beside * (
        part.height + part.above_and_below * KEPT
    )
    return (scheme.values + scheme.values_back) * border * size


def exchanged_bytes(width: int) -> int:
    """Bytes of the rows that engine ``native`` gives one neighbour in an evaluation, both ways.

    Args:
        width: Columns of the picture; poolings drop an odd one.
    """
    forward = back = 0
    convolutions = VGG19.convolutions()
    for name, after in zip(LAYERS, [*LAYERS[2:], ""], strict=False):
        if name in convolutions:
            channels_in, channels = convolutions[name]
            columns = width >> level_of(name)
            forward += 4 * channels_in * columns
            pooled = after.startswith("pool")
            back += (
                4 * channels * (columns // 2) + channels * columns // 8
                if pooled
                else (4 * channels * columns)
            )
    return forward + back


def gram_bytes(machines: int, channels: Sequence[int] = STYLE_CHANNELS) -> float:
    """Bytes that a machine sends for the Gram matrices: a ring's all-reduce of upper triangles.

    Beside each there is a number that says whether all of it is finite.
    """
    numbers = sum(INTEGERS * (n * (n + 1) // 2 + 1) for n in channels)
    return 2 * (machines - 1) / machines * numbers * SUM_BYTES


def spectral_bytes(rows: float, columns: float, height: float, width: float) -> float:
    """Bytes that a machine sends in an iteration of ``spectral`` for its transforms.

    Of three forward it sends all of its rows but the columns that it transforms itself, of the
    inverse all of its columns but its own rows: half spectra in three colours, complex64.

    Args:
        rows: Its own rows.
        columns: Its own columns of the half spectrum.
        height: Rows of the picture.
        width: Columns of the picture.
    """
    half = width // 2 + 1
    return CHANNELS * COMPLEX_BYTES * (3 * rows * (half - columns) + columns * (height - rows))


def scalar_bytes(
    machines: int, bands: int, content_layers: int, pairs: int, spectral: bool = False
) -> float:
    """Bytes that a machine sends for sums in the order of bands: an all-reduce of all bands' parts.

    Args:
        machines: How many.
        bands: Bands of the picture.
        content_layers: How many; each has its loss, and the picture its total variation.
        pairs: Curvature pairs of L-BFGS. With one in spare, each has four inner products, and there
            are five more.
        spectral: Whether it is scaled by frequency and colour. Each pair then has two inner
            products, and there are five more and three sums for each band of frequencies.
    """
    solver = 2 * pairs + 5 + 3 * FREQUENCIES if spectral else 5 + 4 * (pairs + 1)
    scalars = content_layers + 1 + solver
    stops = SUMS[spectral]  # a number with each sum says whether anyone wants to stop
    return 2 * (machines - 1) / machines * (bands * scalars + stops) * SUM_BYTES


def seconds(
    part: Part,
    machines: int,
    scheme: Scheme,
    machine: Machine,
    network: Network,
    overlap: bool = False,
    spectral: bool = False,
) -> float | None:
    """Seconds of an iteration with one evaluation, or None where the parts are too small.

    Args:
        part: What each machine has.
        machines: How many there are.
        scheme: Where rows are exchanged.
        machine: What each computes with.
        network: What connects them.
        overlap: Whether the exchange goes on while inner rows are computed, all but its latency.
        spectral: Whether the solver transforms the whole picture, which is in strips or in blocks:
            what travels is the same.
    """
    least = (
        scheme.rows["conv1_1"] if scheme.of_picture else 16
    )  # a margin comes from one neighbour alone
    if machines > 1 and part.height < least:
        return None
    if part.beside and part.width < least:
        return None
    twice = scheme.redundant
    inner = part.height * part.width * machine.seconds
    computed = (
        (part.height + twice * part.above_and_below)
        * (part.width + twice * part.beside)
        * machine.seconds
    )
    if machines == 1:
        return computed
    halo = halo_bytes(part, scheme, machine.feature_bytes) / network.bandwidth
    waits = 2 * scheme.exchanges * network.latency * (2 if part.beside else 1)
    sums = 2 * SUMS[spectral] * math.log2(machines) * network.latency
    reduced = gram_bytes(machines) / network.bandwidth + sums
    if overlap:
        halo = max(0.0, halo - inner)
    spectra = 0.0
    if spectral:
        pixels = part.height * part.width
        # What ``spectral_bytes`` says, but for the one column that a half spectrum has beyond half.
        sent = TRANSFORMS * CHANNELS * COMPLEX_BYTES * pixels / 2 * (machines - 1) / machines
        spectra = sent / network.bandwidth + TRANSFORMS * network.latency
    return computed + halo + waits + reduced + spectra


@dataclass(frozen=True)
class Setting:
    """What the efficiency depends on, but for the picture and the number of machines."""

    scheme: Scheme
    machine: Machine
    network: Network
    blocks: bool = False
    overlap: bool = False
    spectral: bool = False

    def seconds(self, pixels: float, machines: int) -> float | None:
        """Seconds of an iteration of a square picture, or None where the parts are too small."""
        side = math.sqrt(pixels)
        part = (block if self.blocks else strip)(side, side, machines)
        return seconds(
            *(part, machines, self.scheme, self.machine, self.network, self.overlap, self.spectral)
        )

    def strong(self, pixels: float, machines: int) -> float | None:
        """The time of one machine for a picture, over P times that of P machines."""
        alone, together = self.seconds(pixels, 1), self.seconds(pixels, machines)
        return None if together is None or alone is None else alone / (machines * together)

    def weak(self, pixels_each: float, machines: int) -> float | None:
        """The time of one machine for its part alone, over that of P for P times as much."""
        alone = self.seconds(pixels_each, 1)
        together = self.seconds(pixels_each * machines, machines)
        return None if together is None or alone is None else alone / together

    def most_machines(self, pixels: float, worth: float = WORTH) -> int:
        """The most machines, of ``MACHINES``, with so much strong scaling."""
        good = [n for n in MACHINES if (self.strong(pixels, n) or 0.0) >= worth]
        return max(good)


def rows_needed(scheme: Scheme, worth: float = WORTH) -> float:
    """Rows that a strip in the middle must own for so much efficiency, if bytes took no time."""
    return 2 * scheme.redundant * worth / (1 - worth)


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.0f}"


def schemes_table() -> str:
    """What each scheme sends and computes twice."""
    head = ["rows", "exchanges", "values a border pixel", "rows twice", "a strip's rows for 85 %"]
    return table(
        head,
        [
            (
                scheme.name,
                f"{scheme.exchanges} + {scheme.exchanges}",
                f"{scheme.values + scheme.values_back:.0f}",
                f"{scheme.redundant:.1f}",
                f"{rows_needed(scheme):.0f}",
            )
            for scheme in SCHEMES
        ],
    )


def bytes_table() -> str:
    """What a machine in the middle of strips sends in an iteration."""
    rows = []
    for megapixels in MEGAPIXELS:
        side = math.sqrt(megapixels * 1e6)
        part = strip(side, side, 8)
        sent = [f"{halo_bytes(part, scheme, 4) / 1e6:.1f}" for scheme in SCHEMES]
        rows.append((f"{megapixels} MP", *sent, f"{gram_bytes(8) / 1e6:.1f}"))
    return table(["picture", *(scheme.name for scheme in SCHEMES), "Gram matrices"], rows)


def strong_table() -> str:
    """The most machines with 85 % strong scaling, strips / blocks."""
    rows = []
    for machine, network in ((CPU, SLOW), (CPU, FAST), (GPU, SLOW), (GPU, FAST)):
        for scheme in SHOWN:
            cells = []
            for megapixels in MEGAPIXELS:
                best = [
                    Setting(scheme, machine, network, blocks).most_machines(megapixels * 1e6)
                    for blocks in (False, True)
                ]
                cells.append("/".join(map(str, best)))
            rows.append((f"{machine.name}, {network.name}, {scheme.name}", *cells))
    return table(["", *(f"{megapixels} MP" for megapixels in MEGAPIXELS)], rows)


def eight_table() -> str:
    """Strong scaling over eight and sixty-four machines at 100 and 1000 megapixels."""
    head = ["", "8, 100 MP", "8, 1000 MP", "64, 100 MP", "64, 1000 MP"]
    rows = []
    for machine, network in ((CPU, SLOW), (GPU, FAST)):
        for scheme in SHOWN:
            cells = []
            for count, megapixels in ((8, 100), (8, 1000), (64, 100), (64, 1000)):
                shares = [
                    Setting(scheme, machine, network, blocks).strong(megapixels * 1e6, count)
                    for blocks in (False, True)
                ]
                cells.append("/".join(map(_percent, shares)))
            rows.append((f"{machine.name}, {network.name}, {scheme.name}", *cells))
    return table(head, rows)


def spectral_table() -> str:
    """Strong scaling with the solver of preset ``fast``."""
    head = ["", "8, 100 MP", "8, 1000 MP", "64, 100 MP", "64, 1000 MP"]
    rows = []
    for machine, network in ((CPU, SLOW), (CPU, FAST), (GPU, SLOW), (GPU, FAST)):
        for scheme in BUILT:
            cells = []
            for count, megapixels in ((8, 100), (8, 1000), (64, 100), (64, 1000)):
                shares = [
                    Setting(scheme, machine, network, spectral=on).strong(megapixels * 1e6, count)
                    for on in (False, True)
                ]
                cells.append("/".join(map(_percent, shares)))
            rows.append((f"{machine.name}, {network.name}, {scheme.name}", *cells))
    return table(head, rows)


def evenness_table() -> str:
    """What the largest part leaves of the strong scaling, per layer."""
    rows = []
    for machines in MACHINES[1:]:
        shares = [evenness(megapixels * 1e6, machines) for megapixels in MEGAPIXELS]
        rows.append((machines, *map(_percent, shares)))
    return table(["machines", *(f"{megapixels} MP" for megapixels in MEGAPIXELS)], rows)


def weak_table() -> str:
    """Weak scaling over sixty-four machines, strips / blocks."""
    each = (1, 4, 16, 64)
    rows = []
    for machine, network in ((CPU, SLOW), (CPU, FAST), (GPU, SLOW), (GPU, FAST)):
        for scheme in SHOWN:
            cells = []
            for megapixels in each:
                shares = [
                    Setting(scheme, machine, network, blocks).weak(megapixels * 1e6, 64)
                    for blocks in (False, True)
                ]
                cells.append("/".join(map(_percent, shares)))
            rows.append((f"{machine.name}, {network.name}, {scheme.name}", *cells))
    return table(["", *(f"{megapixels} MP each" for megapixels in each)], rows)


def overlap_table() -> str:
    """What an exchange of rows would save that goes on while inner rows are computed."""
    counts, sizes = (2, 4, 8), (1, 17, 100)
    rows = []
    for machine, network in ((CPU, SLOW), (CPU, FAST), (GPU, SLOW), (GPU, FAST)):
        for scheme in BUILT:
            cells = []
            for megapixels in sizes:
                shares = []
                for count in counts:
                    apart, together = (
                        Setting(scheme, machine, network, overlap=on).seconds(
                            megapixels * 1e6, count
                        )
                        for on in (False, True)
                    )
                    assert apart is not None
                    assert together is not None
                    shares.append(f"{100 * (1 - together / apart):.1f}")
                cells.append(" / ".join(shares))
            rows.append((f"{machine.name}, {network.name}, {scheme.name}", *cells))
    return table(["", *(f"{megapixels} MP" for megapixels in sizes)], rows)


TABLES = {
    "What travels and what is computed twice": schemes_table,
    "Megabytes that a machine in the middle of strips sends in an iteration": bytes_table,
    "Strong scaling in per cent, strips/blocks": eight_table,
    "Strong scaling of strips in per cent, lbfgs/spectral": spectral_table,
    "The most machines with 85 % strong scaling, strips/blocks, of up to 64": strong_table,
    "The mean part over the largest in per cent, strips, per layer": evenness_table,
    "Weak scaling over 64 machines in per cent, strips/blocks": weak_table,
    "What an exchange beside the work saves in per cent, over 2 / 4 / 8 machines": overlap_table,
}


def main() -> None:
    for title, make in TABLES.items():
        print(f"{title}\n\n{make()}\n")


if __name__ == "__main__":
    main()
