"""The suite ``ops``: what is counted, and its rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks import environment
from benchmarks.suites import ops
from fastnst.ops import extension
from helpers.benchmarks import CEILINGS, good, run_suites


def test_needed_flops_count_the_triangle_and_the_gradient() -> None:
    # 2 channels, 3 positions: 3 entries of 3 products and 3 sums; then 2×3 results of 2 and 2
    assert ops.needed_flops([(2, 3)], ops.FORWARD) == 3 * (3 + 3)
    assert ops.needed_flops([(2, 3)], ops.BOTH) == 3 * (3 + 3) + 2 * 3 * (2 + 2)
    assert ops.needed_bytes([(2, 3)], ops.BOTH, "bf16") == 3 * 2 * 3 * 2


def test_shapes_of_the_layers() -> None:
    expected = [(64, 256**2), (128, 128**2), (256, 64**2), (512, 32**2), (512, 16**2)]
    assert ops.shapes(ops.ALL, 256) == expected
    assert [ops.shapes(layer, 256)[0] for layer in ops.LAYERS] == expected


@pytest.mark.parametrize(("flops", "moved", "share"), [(10, 1, 0.5), (1, 40, 0.4)])
def test_share_of_the_ceiling_is_that_of_the_tighter_one(
    flops: int, moved: int, share: float
) -> None:
    ceilings = {"gemm_fp32_flops": 10.0, "copy_bytes_per_second": 50.0}
    figures = ops.rates(2.0, flops, moved, "fp32", ceilings)
    assert figures["ceiling_share"] == pytest.approx(share)
    assert figures["floor_seconds"] == pytest.approx(2 * share)
    assert figures["gflops"] == pytest.approx(flops / 2e9)


@pytest.mark.slow
def test_ops(tmp_path: Path) -> None:
    rows = run_suites(tmp_path, "ops", "--skip", "compile")
    eager = good(rows, "eager")
    assert {r["case"] for r in eager} >= {
        "five layers forward+backward",
        "relu5_1 forward+backward",
    }
    assert {r["dtype"] for r in eager} == {"fp32", "bf16"}
    assert "ops" not in {r["implementation"] for r in rows}  # a case that failed as a whole
    assert all(r["speedup"] == 1 and r["ceiling_share"] > 0 for r in eager)
    isas = extension.available_isas() if extension.is_available() else []
    for isa in isas:
        with extension.use_isa(isa):
            bfloat16 = extension.convolves_bfloat16()
        wanted = [r for r in eager if bfloat16 or "conv" not in r["case"] or r["dtype"] == "fp32"]
        assert len(good(rows, f"native {isa}")) == len(wanted)
    if not isas:
        assert [r["error"] for r in rows if r["implementation"] == "native"]


def test_ops_where_torch_compile_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def compiled(*_: object) -> Any:
        def fail(*_: object) -> None:
            raise RuntimeError("no compiler")

        return fail

    monkeypatch.setattr(ops, "_compiled", compiled)
    monkeypatch.setattr(environment, "ceilings", lambda *_: CEILINGS)
    rows = run_suites(tmp_path, "ops", "--skip", "native")
    failed = [r for r in rows if r["implementation"] == "compile"]
    assert failed
    assert {r["error"] for r in failed} == {"RuntimeError: no compiler"}
    assert len(good(rows, "eager")) > len(failed)
