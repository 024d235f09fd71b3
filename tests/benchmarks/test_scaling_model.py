"""The cost model of several machines: figures by hand, limits, the tables of its page."""

from __future__ import annotations

import math

import pytest

from benchmarks.scaling_model import (
    CPU,
    FAST,
    GPU,
    MACHINES,
    MEGAPIXELS,
    SCHEMES,
    SLOW,
    TABLES,
    Machine,
    Network,
    Setting,
    block,
    evenness,
    gram_bytes,
    halo_bytes,
    rows_needed,
    scalar_bytes,
    seconds,
    spectral_bytes,
    strip,
)
from helpers import REPOSITORY

WIDE, KEPT, CROPPED, PER_BLOCK, PER_LAYER = SCHEMES


def test_what_travels_follows_from_the_network() -> None:
    """Rows × channels ÷ 2^level at each exchange, and as many gradients back, added by hand."""
    assert [2 * scheme.values for scheme in SCHEMES] == [576, 480, 420, 716, 1286]
    # Gradients at conv1_1, pool1 and 64 signs, conv2_1, pool2 and 64 signs; three times conv3 and
    # pool3, conv4 and pool4, each with 64 signs; conv5_1.
    back = 64 + (32 + 2) + 64 + (32 + 2) + 3 * 64 + (32 + 2) + 3 * 64 + (32 + 2) + 32
    assert PER_LAYER.values_back == back
    assert all(scheme.values_back == scheme.values for scheme in SCHEMES[:4])
    assert [scheme.exchanges for scheme in SCHEMES] == [1, 1, 1, 5, 13]
    assert dict(PER_BLOCK.rows) == {
        "conv1_1": 2, "conv2_1": 2, "conv3_1": 4, "conv4_1": 4, "conv5_1": 1
    }  # fmt: skip


def test_what_is_computed_twice_follows_from_the_network() -> None:
    """Multiply-adds of the rows of a margin in each layer, over those of a row in all layers."""
    layers = [  # level, channels in × out, rows of the margin left after the convolution
        (0, 3 * 64, 69), (0, 64 * 64, 68), (1, 64 * 128, 33), (1, 128 * 128, 32),
        (2, 128 * 256, 15), (2, 256 * 256, 14), (2, 256 * 256, 13), (2, 256 * 256, 12),
        (3, 256 * 512, 5), (3, 512 * 512, 4), (3, 512 * 512, 3), (3, 512 * 512, 2),
        (4, 512 * 512, 0),
    ]  # fmt: skip
    whole = sum(work / 4**level for level, work, _ in layers)
    cropped = sum(rows * work / 2**level for level, work, rows in layers) / whole
    assert CROPPED.redundant == pytest.approx(cropped, rel=1e-12)  # rounding of sums in double
    assert KEPT.redundant == pytest.approx(80, rel=1e-12)
    assert PER_BLOCK.redundant == pytest.approx(5.62, abs=5e-3)  # to the digits written here
    assert PER_LAYER.redundant == 0
    assert rows_needed(KEPT) == pytest.approx(2 * 80 * 0.85 / 0.15)


def test_bytes_of_the_halo() -> None:
    """80 rows × width × 3 channels × 4 bytes a side, of the picture and of its gradient."""
    for width, machines, sides in ((10_000, 8, 2), (777, 2, 1), (777, 1, 0)):
        part = strip(5000, width, machines)
        assert halo_bytes(part, KEPT, 4) == 2 * sides * 80 * width * 12
    corner = block(4000, 4000, 16)  # 4 × 4, in the middle: 1000 wide, 1000 + 2 × 80 high
    assert halo_bytes(corner, KEPT, 4) == 2 * 80 * 12 * (2 * 1000 + 2 * 1160)
    assert halo_bytes(corner, PER_BLOCK, 2) == 716 * 2 * (2 * 1000 + 2 * 1160)


def test_bytes_of_sums() -> None:
    """Upper triangles in two integers for each entry, and one more beside each triangle."""
    integers = sum(2 * (n * (n + 1) // 2 + 1) for n in (64, 128, 256, 512, 512))
    assert gram_bytes(2) == integers * 8
    assert gram_bytes(4) == 1.5 * integers * 8
    assert gram_bytes(2, (64,)) == 2 * 2081 * 8
    # A content layer, total variation, five sums and eleven rows of four; two numbers for stopping.
    assert scalar_bytes(2, 62, 1, 10) == (62 * (2 + 5 + 44) + 2) * 8
    assert gram_bytes(1) == scalar_bytes(1, 62, 1, 10) == 0
    # Two rows of ten, five sums and three for each of 14 bands of frequencies in three colours.
    assert scalar_bytes(2, 62, 1, 10, spectral=True) == (62 * (2 + 20 + 5 + 126) + 7) * 8


def test_bytes_of_spectra() -> None:
    """Half spectra of 8 bytes in three colours, of 1000 × 1200: three there, one back."""
    there, back = 250 * (601 - 150), 150 * (1000 - 250)
    assert spectral_bytes(250, 150, 1000, 1200) == 24 * (3 * there + back)
    assert spectral_bytes(1000, 601, 1000, 1200) == 0
    # About 48 bytes for each of its pixels, of which it keeps a fourth.
    assert spectral_bytes(250, 150.25, 1000, 1200) == pytest.approx(36 * 250 * 1200, rel=2e-3)


def test_the_time_is_the_sum_of_its_parts() -> None:
    machine, network = Machine("", 1e-6, 4), Network("", 1e6, 1e-3)
    part = strip(1600, 100, 4)  # 400 rows, two neighbours
    computed = (400 + 160) * 100 * 1e-6
    halo = 2 * 2 * 80 * 100 * 12 / 1e6
    grams = gram_bytes(4) / 1e6
    expected = computed + halo + grams + (2 + 4 * 2) * 1e-3
    # rounding of sums in double
    assert seconds(part, 4, KEPT, machine, network) == pytest.approx(expected, rel=1e-12)
    hidden = seconds(part, 4, KEPT, machine, network, overlap=True)
    assert hidden == pytest.approx(expected - 400 * 100 * 1e-6, rel=1e-12)
    spectra = 36 * 400 * 100 / 1e6 + (4 + 2 * 5 * 2) * 1e-3  # five more sums over four machines
    slower = seconds(part, 4, KEPT, machine, network, spectral=True)
    assert slower == pytest.approx(expected + spectra, rel=1e-12)
    assert seconds(strip(160, 100, 4), 4, KEPT, machine, network) is None  # 40 rows


def test_the_limits_of_scaling() -> None:
    everything = [
        Setting(scheme, machine, network, blocks, overlap)
        for scheme in SCHEMES
        for machine in (CPU, GPU)
        for network in (SLOW, FAST)
        for blocks in (False, True)
        for overlap in (False, True)
    ]
    for setting in everything:
        for megapixels in MEGAPIXELS:
            shares = [setting.strong(megapixels * 1e6, n) for n in MACHINES]
            assert shares[0] == 1
            there = [share for share in shares if share is not None]
            assert there == sorted(there, reverse=True)  # never better with more machines
            assert None not in shares[: len(there)]
            assert all(0 < share <= 1 for share in there)
    for share in (Setting(KEPT, CPU, SLOW).strong(1e8, n) for n in MACHINES[1:]):
        assert share is not None  # overlapping saves time, and larger pictures scale better
    for setting in everything[::2]:
        slower = setting.seconds(1e9, 8)
        faster = Setting(
            setting.scheme, setting.machine, setting.network, setting.blocks, True
        ).seconds(1e9, 8)
        assert slower is not None
        assert faster is not None
        assert faster <= slower
    # With a network that takes no time, a strip costs its margin: h / (h + 2 × 80).
    free = Network("", math.inf, 0.0)
    share = Setting(KEPT, CPU, free).strong(1e8, 8)
    assert share == pytest.approx(1250 / (1250 + 160), rel=1e-12)
    weak = Setting(KEPT, CPU, free).weak(1e8 / 8, 8)
    assert weak == pytest.approx(1250 / (1250 + 160), rel=1e-12)


def test_eight_machines_pay_from_100_megapixels_on() -> None:
    """CPUs and 10 Gbit/s: what the page says, and what it takes for 64."""
    for megapixels in (100, 256, 1000):
        for scheme in (WIDE, KEPT):
            assert (Setting(scheme, CPU, SLOW).strong(megapixels * 1e6, 8) or 0) >= 0.85
    assert (Setting(KEPT, CPU, SLOW).strong(1e9, 64) or 0) < 0.85
    assert (Setting(KEPT, CPU, SLOW, blocks=True).strong(1e9, 64) or 0) >= 0.85
    assert (Setting(PER_BLOCK, CPU, SLOW).strong(1e8, 64) or 0) >= 0.85


def test_the_largest_part_holds_all_up() -> None:
    """Whole bands of 96 rows, of which the last has up to 191."""
    assert evenness(1536**2, 2) == evenness(1536**2, 1) == 1  # 8 bands each
    assert evenness(1024**2, 2) == 512 / 544  # 480 and 384 + 160
    assert evenness(1024**2, 8) == 128 / 192
    assert evenness(1e8, 64) == 156.25 / 192
    assert evenness(1024**2, 10) == 102.4 / 160
    assert evenness(1024**2, 11) is None
    # What the page says of parts as they are: 98, 74, 92 and 72 per cent.
    for megapixels, machines, said in ((100, 8, 98), (100, 64, 74), (150, 64, 92), (200, 64, 72)):
        even = evenness(megapixels * 1e6, machines)
        alike = Setting(PER_LAYER, CPU, SLOW).strong(megapixels * 1e6, machines)
        assert even is not None
        assert alike is not None
        assert round(100 * even * alike) == said


def test_the_page_has_the_tables() -> None:
    page = REPOSITORY / "docs" / "several-machines.md"
    if not page.is_file():
        pytest.skip("not in a checkout")
    text = page.read_text("utf-8")
    for title, make in TABLES.items():
        assert make() in text, title  # python benchmarks/scaling_model.py
