"""The benchmark: its arithmetic, its method, and that every suite runs and writes valid JSON."""

from __future__ import annotations

import json
import math
import mmap
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks.contestants import Contestant, Point
from benchmarks.measure import interleave
from benchmarks.options import Options
from benchmarks.rows import COLUMNS, Row, interquartile_range, ratio, summary
from benchmarks.suites import (
    SUITES,
    Case,
    Suite,
    controls,
    convolutions,
    evaluation,
    loss,
    memory,
    ops,
    optimiser,
    peers,
)
from PIL import Image

import fastnst
from benchmarks import contestants, environment, floors, report, run, setups
from fastnst.engines.planned.cuda import PlannedEngine
from fastnst.inputs.pictures import white_noise
from fastnst.network.vgg import VGG19

SMALL = ("--quick", "--size", "32", "--threads", "1", "--rounds", "2", "--evaluations", "6")


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


# ---------------------------------------------------------------------------------- arithmetic --


@pytest.mark.parametrize(
    ("numerator", "denominator", "expected"),
    [(3.0, 2.0, 1.5), (1.0, 4.0, 0.25), (None, 2.0, None), (3.0, None, None), (3.0, 0.0, None)],
)
def test_ratio(numerator: float | None, denominator: float | None, expected: float | None) -> None:
    assert ratio(numerator, denominator) == expected


def test_median_and_interquartile_range() -> None:
    assert summary([5.0, 1.0, 2.0, 4.0, 30.0]) == {"seconds": 4.0, "seconds_iqr": 3.0, "runs": 5}
    assert summary([1.0, 2.0]) == {"seconds": 1.5, "seconds_iqr": 0.5, "runs": 2}
    assert interquartile_range([7.0]) == 0.0
    with pytest.raises(ValueError, match="no measurements"):
        summary([])


def test_speedup_of_a_row_is_the_ratio_to_its_reference() -> None:
    row = Row("ops", "a", "b", "cpu", "fp32", 32, seconds=2.0, reference_seconds=5.0)
    assert row.to_dict()["speedup"] == 2.5
    assert replace(row, seconds=None, error="no").to_dict()["speedup"] is None


def test_extra_columns_cannot_hide_common_ones() -> None:
    with pytest.raises(ValueError, match="speedup"):
        Row("ops", "a", "b", "cpu", "fp32", 32, extra={"speedup": 9.0}).to_dict()


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


# -------------------------------------------------------------------------------- interleaving --


def test_arms_take_turns_after_a_warm_up() -> None:
    order: list[str] = []
    arms = {name: lambda name=name: order.append(name) for name in "ABC"}
    samples = interleave(arms, device="cpu", rounds=2, warm_up=1)
    assert "".join(order) == "ABC" * 3
    assert [len(samples[name].seconds) for name in "ABC"] == [2, 2, 2]


def test_an_arm_may_say_its_own_seconds() -> None:
    samples = interleave({"A": lambda: 42.0}, device="cpu", rounds=3)
    assert samples["A"].seconds == [42.0, 42.0, 42.0]


def test_an_arm_that_fails_is_out_and_the_others_go_on() -> None:
    calls = []

    def fail() -> None:
        calls.append(1)
        if len(calls) == 3:
            raise RuntimeError("out of\nluck")

    samples = interleave({"A": fail, "B": lambda: None}, device="cpu", rounds=4, warm_up=1)
    assert samples["A"].error == "RuntimeError: out of luck"
    assert samples["A"].seconds == []
    assert len(samples["B"].seconds) == 4
    assert len(calls) == 3


def test_the_budget_ends_a_case_but_not_below_the_least_rounds() -> None:
    samples = interleave({"A": lambda: None}, device="cpu", rounds=50, budget=0.0, least=4)
    assert len(samples["A"].seconds) == 4


# ------------------------------------------------------------------------------- time to loss --


def _points(count: int, keep_every: int = 1) -> list[Point]:
    """Two seconds an evaluation."""
    return [Point(n, 2.0 * n, math.nan, n % keep_every == 0) for n in range(1, count + 1)]


def _search(target: float, scored: list[int]) -> loss.Search:
    def score(evaluation: int) -> float:  # 100 / n, but for one jump
        scored.append(evaluation)
        return 1e6 if evaluation == 20 else 100 / evaluation

    return loss.Search(score, target)


@pytest.mark.parametrize("target", [100.0, 20.0, 10.0, 100 / 33, 1.0])
def test_time_to_loss_is_that_of_the_first_picture_at_the_target(target: float) -> None:
    search = _search(target, [])
    assert search.look(_points(120))
    first = math.ceil(100 / target - 1e-9)
    assert search.reached == Point(first, 2.0 * first, pytest.approx(math.nan, nan_ok=True), True)
    assert search.loss == pytest.approx(100 / first)
    assert search.curve[-1] == [2.0 * first, pytest.approx(100 / first)]


def test_time_to_loss_goes_on_where_it_stopped() -> None:
    scored: list[int] = []
    search = _search(3.0, scored)
    points = _points(60)
    assert not search.look(points[:20])
    assert not search.look(points[:30])
    assert scored == [1, 10, 20, 30]
    assert search.look(points)
    assert search.reached is not None
    assert search.reached.evaluation == 34
    assert scored == [1, 10, 20, 30, 40, 31, 32, 33, 34]


def test_time_to_loss_uses_kept_pictures_only() -> None:
    search = _search(3.0, [])
    assert search.look(_points(120, keep_every=4))
    assert search.reached is not None
    assert search.reached.evaluation == 36  # the first multiple of 4 from 34


def test_time_to_loss_that_is_never_reached() -> None:
    search = _search(1e-9, [])
    assert not search.look(_points(25))
    assert search.reached is None
    assert search.curve == [[2.0, 100.0], [20.0, 10.0], [40.0, 1e6], [50.0, 4.0]]  # the last, too


def test_medians_and_worst_case_over_pairs() -> None:
    def row(case: str, seconds: float | None, reference: float) -> Row:
        error = None if seconds else "not there"
        return Row(
            *("loss", case, "fastnst", "cpu", "fp32", 32),
            seconds=seconds,
            reference_seconds=reference,
            error=error,
        )

    rows = [row("a", 2.0, 8.0), row("b", 4.0, 6.0), row("c", 3.0, 9.0), row("d", None, 5.0)]
    middle, worst = loss.summarise(rows)
    assert (middle.case, middle.seconds, middle.reference_seconds) == ("median of 3", 3.0, 8.0)
    assert (worst.case, worst.speedup, worst.extra["worst_case"]) == ("worst of 4", 1.5, "b")
    assert worst.error == "1 of 4 did not get there"


# ------------------------------------------------------------------------------- the reference --


@pytest.fixture(scope="module")
def pictures() -> fastnst.Pictures:
    return setups.pictures("sample:harbour", "sample:swirl", 48)


def test_reference_has_the_objective_of_fastnst(pictures: fastnst.Pictures) -> None:
    image = setups.white_noise(pictures.content, seed=3).double()
    content, style = pictures.content.double(), pictures.style.double()
    weights, settings = fastnst.load_weights(), fastnst.Settings()
    objective = fastnst.build_objective(weights, content, style, settings, backend="torch")
    textbook = setups.reference(pictures.content, pictures.style)
    textbook.network.double()
    textbook.content = {k: textbook.network(content)[k] for k in textbook.content}
    features = textbook.network(style)
    textbook.style = {k: _gram(features[k]) for k in textbook.style}
    x, y = image.clone().requires_grad_(), image.clone().requires_grad_()
    ours, theirs = objective(x).total, textbook.loss(y)
    assert float(theirs.detach()) == pytest.approx(float(ours.detach()), rel=1e-12)
    (gradient,) = torch.autograd.grad(ours, x)
    (expected,) = torch.autograd.grad(theirs, y)
    torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-12)


def _gram(features: torch.Tensor) -> torch.Tensor:
    f = features.flatten(2)[0]
    return f @ f.T / f.shape[1]


def test_reference_starts_from_the_noise_of_fastnst(pictures: fastnst.Pictures) -> None:
    assert torch.equal(setups.white_noise(pictures.content, 7), white_noise(pictures.content, 7))


def test_reference_yields_each_picture_with_its_loss(pictures: fastnst.Pictures) -> None:
    textbook = setups.reference(pictures.content, pictures.style)
    steps = textbook.optimise(pictures.start)
    for count in range(4):
        image, value = next(steps)
        assert setups.score(textbook, image) == pytest.approx(value, rel=1e-6)
        if count == 0:
            assert torch.equal(image, pictures.start)
    assert not torch.equal(image, pictures.start)


def test_reference_refuses_what_it_does_not_compute(pictures: fastnst.Pictures) -> None:
    with pytest.raises(ValueError, match="average pooling"):
        setups.reference(pictures.content, pictures.style, fastnst.Settings(pooling="max"))


# ---------------------------------------------------------------------------------- the suites --


def _run(tmp_path: Path, *arguments: str) -> list[dict[str, Any]]:
    path = tmp_path / "results.json"
    run.main([*arguments, *SMALL, "--json", str(path)])
    return _checked(path)["rows"]


def _checked(path: Path) -> dict[str, Any]:
    """The document, after checking that every row is as promised."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    document: dict[str, Any] = json.loads(path.read_text(), parse_constant=refuse)
    assert {"cpu", "threads", "torch", "native", "instruction_set"} <= document[
        "environment"
    ].keys()
    for row in document["rows"]:
        assert list(row)[: len(COLUMNS)] == list(COLUMNS)
        assert row["suite"] in SUITES
        if row["error"] is None:
            assert row["seconds"] is None or row["seconds"] > 0
            assert row["seconds"] is not None or row["peak_bytes"] > 0
            assert row["runs"] >= 1
        if row["speedup"] is not None:
            assert row["speedup"] == pytest.approx(row["reference_seconds"] / row["seconds"])
    identities = [report.key(row) for row in document["rows"]]
    assert len(set(identities)) == len(identities)
    return document


def _good(rows: list[dict[str, Any]], implementation: str) -> list[dict[str, Any]]:
    return [r for r in rows if r["implementation"] == implementation and r["error"] is None]


def test_controls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = {k: controls.CONTROLS[k] for k in ("the default", "two regions", "wasserstein")}
    monkeypatch.setattr(controls, "CONTROLS", chosen)
    rows = _run(tmp_path, "controls")
    assert "wasserstein" in report.to_markdown(_checked(tmp_path / "results.json"))
    torch_rows = _good(rows, "torch fp32")
    assert [r["case"] for r in torch_rows] == list(chosen)
    assert all(r["speedup"] == 1 and r["gradient_error"] < 1e-6 for r in torch_rows)
    if fastnst.ops.native.is_available():
        native_rows = _good(rows, "native fp32")
        assert [r["case"] for r in native_rows] == list(chosen)
        assert all(r["gradient_error"] < 1e-3 for r in native_rows)


def test_precision(tmp_path: Path) -> None:
    rows = _run(tmp_path, "precision", "--skip", "onnx")
    assert "over plain PyTorch's" in report.to_markdown(_checked(tmp_path / "results.json"))
    baseline = _good(rows, "torch fp32")[0]
    for name in ("torch fp32", "torch mixed"):
        single, summed = _good(rows, name)
        assert summed["case"] == "median of 1"
        assert single["loss_ratio"] == summed["loss_ratio"]
        assert single["loss_ratio"] == pytest.approx(single["loss"] / baseline["loss"])
        assert 0.5 < single["loss_ratio"] < 2  # in the steepest part of the way
    assert single["loss_ratio"] != 1


def test_ops(tmp_path: Path) -> None:
    rows = _run(tmp_path, "ops", "--skip", "compile")
    eager = _good(rows, "eager")
    assert {r["case"] for r in eager} >= {
        "five layers forward+backward",
        "relu5_1 forward+backward",
    }
    assert {r["dtype"] for r in eager} == {"fp32", "bf16"}
    assert all(r["speedup"] == 1 and r["ceiling_share"] > 0 for r in eager)
    native = fastnst.ops.native
    isas = native.available_isas() if native.is_available() else []
    for isa in isas:
        with native.use_isa(isa):
            bfloat16 = native.convolves_bfloat16()
        wanted = [r for r in eager if bfloat16 or "conv" not in r["case"] or r["dtype"] == "fp32"]
        assert len(_good(rows, f"native {isa}")) == len(wanted)
    if not isas:
        assert [r["error"] for r in rows if r["implementation"] == "native"]


def test_ops_where_torch_compile_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def compiled(*_: object) -> Any:
        def fail(*_: object) -> None:
            raise RuntimeError("no compiler")

        return fail

    monkeypatch.setattr(ops, "_compiled", compiled)
    rows = _run(tmp_path, "ops", "--skip", "native")
    failed = [r for r in rows if r["implementation"] == "compile"]
    assert failed
    assert {r["error"] for r in failed} == {"RuntimeError: no compiler"}
    assert len(_good(rows, "eager")) > len(failed)


def test_evaluation(tmp_path: Path) -> None:
    rows = _run(tmp_path, "evaluation")
    (reference,) = _good(rows, "reference")
    assert reference["speedup"] == 1
    (ours,) = _good(rows, "torch fp32")
    assert ours["gradient_error"] < 1e-4
    assert ours["loss"] == pytest.approx(reference["loss"], rel=1e-5)
    names = {r["implementation"] for r in rows}
    assert names == {"reference"} | {way.name for way in setups.engines("cpu")}


def test_optimiser(tmp_path: Path) -> None:
    rows = _run(tmp_path, "optimiser")
    assert {r["history"] for r in _good(rows, "fastnst")} == {10, 100}
    assert len(_good(rows, "torch.optim.LBFGS")) == 2


def test_optimiser_fills_the_history_and_makes_progress() -> None:
    objective = optimiser.Quadratic((1, 3, 8, 8), "cpu")
    steps = optimiser.TorchSteps(objective, 10)
    first = float(objective(objective.start)[0])
    for _ in range(12):
        assert steps() > 0
    assert len(steps.optimizer.state[steps.image]["old_dirs"]) == 10
    assert float(objective(steps.image.detach())[0]) < first


def test_loss(tmp_path: Path) -> None:
    rows = _run(tmp_path, "loss", "--pairs", "1", "--skip", "engine=", "--skip", "matched")
    (reference,) = _good(rows, "reference")
    assert reference["speedup"] == 1
    assert reference["target"] == min(value for _, value in reference["curve"])
    content = next(r for r in rows if r["implementation"] == "fastnst init=content")
    assert content["error"] is None
    assert content["loss"] <= content["target"]
    assert content["seconds"] == content["curve"][-1][0]


def test_loss_of_contestants_that_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = tmp_path / "magenta.png"
    Image.new("RGB", (32, 32), (255, 0, 255)).save(picture)
    stuck = {"init": str(picture), "content_weight": 0.0, "style_weight": 0.0, "tv_weight": 1.0}
    broken = {"init": str(tmp_path / "missing.png")}
    field = (Contestant("stuck", settings=stuck), Contestant("broken", settings=broken))
    monkeypatch.setattr(loss, "contestants", lambda *_: field)
    rows = {r["implementation"]: r for r in _run(tmp_path, "loss", "--pairs", "1")}
    assert re.fullmatch(r"not at [\d.]+ after 9 evaluations", rows["stuck"]["error"])
    assert rows["stuck"]["loss"] > rows["stuck"]["target"]
    assert "does not exist" in rows["broken"]["error"]
    assert rows["stuck"]["seconds"] is rows["broken"]["seconds"] is None


def test_contestants_name_every_engine_once() -> None:
    names = [c.name for c in loss.contestants(("torch", "fp32"), "cpu")]
    assert len(set(names)) == len(names)
    assert "fastnst engine=torch precision=fp32" not in names
    assert {"fastnst", "fastnst init=matched"} <= set(names)


def test_memory(tmp_path: Path) -> None:
    rows = _run(tmp_path, "memory", "--skip", "native", "--skip", "onnx")
    (reference,) = _good(rows, "reference")
    assert reference["peak_bytes"] > reference["baseline_bytes"] > 50 * 2**20
    assert reference["own_bytes"] == reference["peak_bytes"] - reference["baseline_bytes"]
    assert _good(rows, "torch fp32")


def test_memory_sees_what_is_allocated() -> None:
    before = memory.begin_peak("cpu")
    size = 64 * 2**20
    with mmap.mmap(-1, size) as block:
        block.write(bytes(size // 2))
        block.write(bytes(size // 2))
    assert memory.peak_bytes("cpu") - before > 60 * 2**20


def test_peers_that_are_not_installed(tmp_path: Path) -> None:
    rows = _run(tmp_path, "peers", "--cache", str(tmp_path / "cache"))
    assert [r["implementation"] for r in rows] == [peer.name for peer in peers.PEERS]
    assert all("not installed" in r["error"] for r in rows)
    assert not (tmp_path / "cache").exists()


def test_peers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "peer.py"
    script.write_text(
        "import shutil, sys, time\n"
        "for step in range(4):\n"
        "    print('done', step)\n"
        "    time.sleep(0.05)\n"
        "shutil.copy(sys.argv[1], sys.argv[2])\n"
    )

    def command(job: peers.Job) -> list[str]:
        return [sys.executable, str(script), str(job.content), str(job.output)]

    fake = peers.Peer("fake", ("fake",), command, re.compile(r"^done (\d+)"))
    crash = replace(fake, name="crash", command=lambda _: [sys.executable, "-c", "1 / 0"])
    monkeypatch.setattr(peers, "PEERS", (fake, crash))
    monkeypatch.setattr(peers, "environment_of", lambda *_: Path(sys.executable))
    rows = _run(tmp_path, "peers")
    (ours,), (reference,), (theirs,) = (_good(rows, n) for n in ("fastnst", "reference", "fake"))
    assert 0.04 < theirs["seconds"] < 1
    assert theirs["runs"] == 3
    assert {r["evaluations"] for r in (ours, reference, theirs)} == {6}
    assert theirs["loss"] < reference["loss"] * 100
    (failed,) = (r for r in rows if r["implementation"] == "crash")
    assert failed["error"] == "ZeroDivisionError: division by zero"


# ----------------------------------------------------------------------------- the run as such --


def _suite(name: str, measure: Any) -> Suite:
    cases = [Case("first", 32), Case("second", 32)]
    return Suite(name, "A claim.", lambda _: cases, measure)


def _row(case: Case, options: Options) -> Row:
    return Row(
        "evaluation",
        case.title,
        "x",
        options.device,
        "fp32",
        32,
        1.0,
        0.0,
        1,
        reference_seconds=0.5,
    )


def test_interrupted_run_writes_what_was_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(case: Case, options: Options) -> Iterator[Row]:
        yield _row(case, options)
        if case.title == "second":
            raise KeyboardInterrupt

    monkeypatch.setitem(run.SUITES, "evaluation", _suite("evaluation", measure))
    path = tmp_path / "results.json"
    assert run.main(["evaluation", "memory", "--json", str(path)]) == 130
    document = _checked(path)
    assert [r["case"] for r in document["rows"]] == ["first", "second"]
    assert document["environment"]["interrupted"] is True


def test_failing_case_is_a_row_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(case: Case, options: Options) -> Iterator[Row]:
        if case.title == "first":
            raise MemoryError("too large")
        yield _row(case, options)

    monkeypatch.setitem(run.SUITES, "evaluation", _suite("evaluation", measure))
    path = tmp_path / "results.json"
    assert run.main(["evaluation", "--json", str(path)]) == 0
    first, second = _checked(path)["rows"]
    assert (first["case"], first["error"]) == ("first", "MemoryError: too large")
    assert second["error"] is None


def test_nothing_measured_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(case: Case, options: Options) -> Iterator[Row]:
        raise RuntimeError("never")
        yield

    monkeypatch.setitem(run.SUITES, "evaluation", _suite("evaluation", measure))
    assert run.main(["evaluation", "--json", str(tmp_path / "results.json")]) == 1


def test_merge_replaces_the_suites_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(case: Case, options: Options) -> Iterator[Row]:
        yield _row(case, options)

    monkeypatch.setitem(run.SUITES, "evaluation", _suite("evaluation", measure))
    path = tmp_path / "results.json"
    old = Row("ops", "a", "eager", "cpu", "fp32", 32, 1.0, 0.0, 1).to_dict()
    stale = Row("evaluation", "stale", "x", "cpu", "fp32", 32, 1.0, 0.0, 1).to_dict()
    run.write_json({"environment": {"ceilings": 1}, "rows": [old, stale]}, path)
    assert run.main(["evaluation", "--json", str(path), "--merge"]) == 0
    document = _checked(path)
    assert [r["case"] for r in document["rows"]] == ["a", "first", "second"]
    assert document["environment"]["ceilings"] == 1


def test_unknown_suite_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        run.main(["speed"])
    assert "no suite named 'speed'" in capsys.readouterr().err


def test_a_process_that_dies_is_an_error_and_no_hang(tmp_path: Path) -> None:
    task = contestants.Task("sample:harbour", "sample:swirl", 32, 0, "cpu", 1, 4)
    runner = contestants.Runner(contestants.REFERENCE, task, tmp_path / "reference")
    runner.wait()
    runner.process.kill()
    runner.advance()
    assert runner.ended
    assert runner.error is not None
    runner.stop()


# ------------------------------------------------------------------------------------- on a GPU --


CEILINGS = {
    "gemm_fp32_flops": 10.0**9,
    "gemm_tf32_flops": 4 * 10.0**9,
    "gemm_bf16_flops": 8 * 10.0**9,
    "copy_bytes_per_second": 10.0**9,
}


def test_floors_are_those_of_the_tighter_ceiling() -> None:
    flops = 2 * (2 * 361_152 + 17_408 // 2 + 17_408)
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=True):
        assert floors.evaluation(100, "fp32", CEILINGS) == pytest.approx(100 * flops / 4e9)
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        assert floors.evaluation(100, "fp32", CEILINGS) == pytest.approx(100 * flops / 1e9)
    assert floors.evaluation(100, "bf16", CEILINGS) == pytest.approx(100 * flops / 8e9)
    slow = {**CEILINGS, "copy_bytes_per_second": 1e6}
    assert floors.evaluation(100, "bf16", slow) == pytest.approx(100 * 290 * 5 * 2 / 1e6)
    # 7 pairs s, y of 3 float32 values a pixel, read twice
    assert floors.step(100, 7, CEILINGS) == pytest.approx(2 * 7 * 2 * 100 * 3 * 4 / 1e9)


def test_the_floors_count_what_the_network_has() -> None:
    """The constants, again from the table of VGG-19's layers."""
    convolutions = features = 0.0
    for name, (channels_in, channels_out) in VGG19.convolutions().items():
        positions = 1 / 4 ** (int(name[4]) - 1)
        convolutions += 9 * channels_in * channels_out * positions
        features += channels_out * positions
        if name == "conv5_1":
            break
    assert convolutions == floors.CONVOLUTIONS
    assert features == floors.FEATURES
    assert sum(c * c / 4**k for k, (c, _) in enumerate(ops.LAYERS.values())) == floors.STYLE


def test_a_run_has_an_evaluation_more_than_steps_and_its_history_grows() -> None:
    one = floors.evaluation(64, "bf16", CEILINGS)
    steps = [floors.step(64, pairs, CEILINGS) for pairs in (0, 1, 2, 2)]
    assert floors.run(64, "bf16", 5, 2, CEILINGS) == pytest.approx(5 * one + sum(steps))


def test_on_a_gpu_there_is_a_whole_run_and_fewer_processes() -> None:
    on_gpu, on_cpu = Options(device="cuda"), Options()
    assert [c.title for c in optimiser.cases(on_gpu) if c.details is None] == ["500 evaluations"]
    assert all(c.details for c in optimiser.cases(on_cpu))
    assert [c.size for c in memory.cases(on_gpu)] == [512, 1024]


def test_whole_runs_are_timed_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the CPU, where the same code runs."""
    monkeypatch.setattr(environment, "ceilings", lambda device, quick: CEILINGS)
    options = Options(quick=True, rounds=2, threads=1, skip=("bf16",))
    rows = list(optimiser._runs(Case("4 evaluations", 32), options))
    assert [row.implementation for row in rows] == ["reference", "fastnst fp32"]
    for row in rows:
        assert row.error is None
        assert row.runs == 2
        assert row.extra["evaluations"] == 4
        assert row.extra["floor_seconds"] > 0
    text = report.to_markdown(
        {"environment": environment.describe(options), "rows": [row.to_dict() for row in rows]}
    )
    assert "| floor |" in text


def test_the_arms_of_a_gpu_do_their_work(random_weights: Any) -> None:
    steps = optimiser.DeviceSteps(optimiser.Quadratic((1, 3, 8, 8), "cpu"), 3)
    losses = []
    for _ in range(6):
        steps()
        losses.append(float(steps.solver.best_loss))
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0]

    grey = torch.full((1, 3, 16, 16), 0.5)
    settings = fastnst.Settings(content_layers=("relu1_1",), style_layers=("relu2_1",))
    objective = fastnst.build_objective(random_weights, grey, grey.sqrt(), settings, "torch")
    recorded = evaluation.Recorded(PlannedEngine(objective), grey + 0.1)
    loss, gradient = recorded()
    assert loss == pytest.approx(float(objective(grey + 0.1).total), rel=1e-5)  # float32
    assert gradient.shape == grey.shape

    x, weight, bias = torch.rand(1, 16, 9, 7), torch.rand(8, 16, 3, 3), torch.zeros(8)
    run_once = convolutions._planned(x, weight, bias, torch.rand(1, 8, 9, 7), torch.float32, "cpu")
    run_once()


def test_results_of_a_gpu_are_kept_by_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(case: Case, options: Options) -> Iterator[Row]:
        yield _row(case, options)

    monkeypatch.setitem(run.SUITES, "evaluation", _suite("evaluation", measure))
    monkeypatch.setattr(run, "RESULTS", tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    here = environment.describe(Options())
    gpu = {**here, "machine": "NVIDIA H100 80GB"}
    monkeypatch.setattr(environment, "describe", lambda options: dict(gpu))
    path = tmp_path / "nvidia-h100-80gb.json"
    old = Row("ops", "a", "eager", "cuda", "fp32", 32, 1.0, 0.0, 1).to_dict()
    run.write_json({"environment": {}, "rows": [old]}, path)
    assert run.main(["evaluation", "--device", "cuda", "--quick"]) == 0
    assert len(report.load(path)["rows"]) == 1
    assert run.main(["evaluation", "--device", "cuda"]) == 0
    assert [r["suite"] for r in report.load(path)["rows"]] == ["ops", *["evaluation"] * 2]


# ---------------------------------------------------------------------------------- the report --


@pytest.fixture
def document() -> dict[str, Any]:
    row = {
        **dict.fromkeys(COLUMNS),
        "suite": "evaluation",
        "case": "loss and gradient",
        "device": "cpu",
        "dtype": "fp32",
        "size": 256,
        "seconds_iqr": 0.1,
        "runs": 5,
        "reference_seconds": 2.0,
    }
    common = {**row, "suite": "loss", "case": "a + b, seed 0", "target": 3.0, "evaluations": 9}
    memory_row = {
        **row,
        "suite": "memory",
        "seconds": None,
        "peak_bytes": 2**31,
        "own_bytes": 2**30,
    }
    rows = [
        {**row, "implementation": "reference", "seconds": 2.0, "speedup": 1.0},
        {**row, "implementation": "good", "seconds": 1.0, "speedup": 2.0, "gradient_error": 3e-7},
        {**row, "implementation": "bad", "seconds": 4.0, "speedup": 0.5},
        {**row, "implementation": "none", "error": "no | luck", "runs": 0},
        {
            **common,
            "implementation": "reference",
            "seconds": 2.0,
            "curve": [[1.0, 9.0], [2.0, 3.0]],
        },
        {**common, "implementation": "x", "seconds": None, "error": "not", "curve": [[1.0, 4.0]]},
        {**memory_row, "implementation": "reference", "baseline_bytes": 2**30, "memory_ratio": 1.0},
    ]
    environment = {
        "machine": "A machine",
        "threads": 2,
        "torch": "2.9",
        "fastnst": "1",
        "date": "2025-01-01",
        "instruction_set": "avx2",
    }
    return {"environment": environment, "rows": rows}


def test_tables_show_winners_losers_and_errors(document: dict[str, Any]) -> None:
    text = report.to_markdown(document)
    assert "| loss and gradient, 256 px | good | fp32 | 1.00 s ± 10 % | 2.00× |  | 3e-07 |" in text
    assert "| loss and gradient, 256 px | bad | fp32 | 4.00 s ± 2 % | 0.50× |  |  |" in text
    assert "* none (loss and gradient fp32 256 px): no | luck" in text
    assert "2.00 GiB" in text
    assert "A machine" in text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1234.5, "1234 s"),
        (12.34, "12.3 s"),
        (0.5, "500 ms"),
        (0.00123, "1.23 ms"),
        (2e-8, "0.02 µs"),
    ],
)
def test_seconds_are_short(value: float, text: str) -> None:
    assert report.seconds(value) == text


def test_page_with_charts(document: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    page = report.write(document, tmp_path / "report")
    links = re.findall(r"!\[.+?\]\((.+?)\)", page.read_text())
    assert {"evaluation.png", "memory.png"} < set(links)
    for link in links:
        with Image.open(page.parent / link) as picture:
            assert min(picture.size) > 100


def test_readme_is_filled_and_filled_again(document: dict[str, Any], tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"Before.\n\n{report.MARK}\n")
    results = tmp_path / "machine.json"
    run.write_json(document, results)
    report.fill_readme(readme, [results])
    first = readme.read_text()
    assert "0.50×" in first
    report.fill_readme(readme, [results])
    assert readme.read_text() == first
    assert first.startswith("Before.\n\n")

    second = tmp_path / "machine.second.json"
    shutil.copy(results, second)
    report.fill_readme(readme, [results, second])
    assert "0 differ by more than 15 %." in readme.read_text()


def test_the_real_readme_has_a_place_for_the_tables() -> None:
    assert report.MARK in run.README.read_text()


def test_comparison_lists_ratios_that_moved(document: dict[str, Any]) -> None:
    other = json.loads(json.dumps(document))
    other["rows"][1]["speedup"] = 2.2  # 10 %: agrees
    other["rows"][2]["speedup"] = 0.4  # 25 %: does not
    text = report.comparison(document, other)
    assert "1 differ by more than 15 %" in text
    assert "| evaluation loss and gradient bad cpu fp32 256 | 0.50× | 0.40× | 25 % |" in text
    assert report.print_comparison(document, other) == 1
    assert report.print_comparison(document, document) == 0
