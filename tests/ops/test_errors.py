"""Wrong input, backends that cannot run, the choice of instruction set, and the process itself."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from fastnst.errors import BackendUnavailable, InvalidInput
from fastnst.ops import buffers, extension, functional, gram
from helpers.kernels import ISAS, needs_native


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(p for p in sys.path if p)
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (torch.ones(3, 4), "features: expected shape"),
        (torch.ones(1, 1, 3, 4, 5), "features: expected shape"),
        (torch.ones(3, 0, 4), "no empty dimension"),
        (torch.ones(0, 3, 4, 4), "no empty dimension"),
        (torch.ones(3, 4, 4, dtype=torch.int32), r"floating point, got torch\.int32"),
    ],
)
def test_wrong_features(features: torch.Tensor, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        functional.gram_matrix(features)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (torch.ones(3, 4), r"expected shape \(3, 3\) or \(2, 3, 3\), got \(3, 4\)"),
        (torch.ones(1, 3, 3), "expected shape"),
        (torch.ones(3, 3, dtype=torch.float64), r"expected torch\.float32, got torch\.float64"),
        (torch.ones(3, 3, dtype=torch.bfloat16), r"expected torch\.float32"),
        (torch.ones(3, 3, device="meta"), "expected device cpu, got meta"),
    ],
)
def test_wrong_target(target: torch.Tensor, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        functional.style_loss(torch.ones(2, 3, 4, 4), target)


def test_wrong_layers() -> None:
    x, a = torch.ones(3, 4, 4), torch.ones(3, 3)
    for features, targets in ([], []), ([x], []), ([x], [a, a]):
        with pytest.raises(InvalidInput, match="as many features as target"):
            functional.style_losses(features, targets)
    with pytest.raises(InvalidInput, match="layer 1: target_gram"):
        functional.style_losses([x, x], [a, torch.ones(4, 4)])


def test_unknown_backend() -> None:
    with pytest.raises(InvalidInput, match="'auto', 'torch' or 'native', got 'cuda'"):
        functional.gram_matrix(torch.ones(3, 4, 4), backend="cuda")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_types_without_a_kernel(dtype: torch.dtype) -> None:
    x = torch.rand(3, 4, 5).to(dtype)
    with pytest.raises(BackendUnavailable, match="native"):
        functional.gram_matrix(x, backend="native")
    gram = functional.gram_matrix(x)  # auto falls back
    assert torch.allclose(gram.double(), x.double().flatten(1) @ x.double().flatten(1).T / 20)


@needs_native
def test_auto_takes_the_kernels_unless_the_work_is_tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = []
    monkeypatch.setattr(gram, "call", lambda *_: taken.append("native"))
    functional.gram_matrix(torch.ones(8, 4, 4))
    assert not taken
    functional.gram_matrix(torch.ones(8, 4, 4), backend="native")
    functional.gram_matrix(torch.ones(64, 32, 32))
    functional.style_losses([torch.ones(64, 8, 8)] * 2, [torch.ones(64, 64)] * 2)
    assert taken == ["native"] * 3


@needs_native
def test_buffers_are_checked() -> None:
    x, d = torch.ones(1, 3, 4, 4), torch.ones(1, 3, 3)
    gradient = gram.accumulate_style_gradient
    for out in (torch.ones(1, 3, 4, 5), torch.ones(1, 3, 4, 4).double(), torch.ones(3, 4, 4)):
        with pytest.raises(InvalidInput, match="out_grad"):
            gradient(x, d, 1.0, False, out)
    with pytest.raises(InvalidInput, match="out_grad: expected contiguous"):
        gradient(x, d, 1.0, False, torch.ones(1, 3, 4, 8)[..., ::2].transpose(2, 3))
    for difference in (torch.ones(3, 3), d.double(), torch.ones(1, 3, 6)[..., ::2]):
        with pytest.raises(InvalidInput, match="difference"):
            gradient(x, difference, 1.0, False, torch.ones_like(x))
    with pytest.raises(InvalidInput, match="losses"):
        gram.style_losses_into([x], [d[0]], losses=torch.ones(2))
    with pytest.raises(InvalidInput, match="grams: expected 1 tensors"):
        gram.style_losses_into([x], [d[0]], losses=torch.ones(1), grams=[])


@needs_native
def test_buffers_are_of_one_device() -> None:
    x, d = torch.ones(1, 3, 4, 4), torch.ones(1, 3, 3)
    elsewhere = torch.empty(1, 3, 4, 4, device="meta")
    with pytest.raises(InvalidInput, match="features: expected .* on the CPU or a GPU"):
        gram.accumulate_style_gradient(elsewhere, d, 1.0, False, elsewhere)
    with pytest.raises(InvalidInput, match="out_grad: expected .* on the CPU, got .* on meta"):
        gram.accumulate_style_gradient(x, d, 1.0, False, elsewhere)
    with pytest.raises(InvalidInput, match="features: expected .* on the CPU, got .* on meta"):
        gram.style_losses_into([elsewhere], [d[0]], losses=torch.ones(1))
    assert buffers.unavailable_reason(elsewhere) == "no native kernel for device 'meta'"


@needs_native
def test_an_unknown_precision() -> None:
    x, d = torch.ones(1, 3, 4, 4), torch.ones(1, 3, 3)
    with pytest.raises(InvalidInput, match="expected one of fp32, tf32, bf16, got 'fp16'"):
        gram.accumulate_style_gradient(x, d, 1.0, False, x.clone(), precision="fp16")
    with pytest.raises(InvalidInput, match="precision"):
        gram.style_losses_into([x], [d[0]], losses=torch.ones(1), precision="half")


@pytest.mark.parametrize(
    ("architectures", "capability", "runs"),
    [
        ("75-real 90-real", (9, 0), True),
        ("75-real 80-real", (8, 6), True),  # the same major version, a later minor
        ("75-real 86-real", (8, 0), False),
        ("75-real 90-real", (10, 0), False),
        ("75-real 90-virtual", (12, 0), True),  # PTX is compiled by the driver
        ("90-virtual", (8, 9), False),
        ("80", (8, 9), True),  # both
        ("80", (9, 0), True),
        ("75-real", (7, 0), False),
        ("native", (9, 0), True),
    ],
)
def test_gpus_that_the_build_covers(
    architectures: str,
    capability: tuple[int, int],
    runs: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    info = {"cuda": "13.0", "cuda_architectures": architectures}
    monkeypatch.setattr(extension, "build_info", lambda: info)
    monkeypatch.setattr(extension, "cuda_devices", lambda: {"devices": [{}], "reason": ""})
    buffers.gpu_unavailable_reason.cache_clear()
    reason = buffers.gpu_unavailable_reason(capability)
    buffers.gpu_unavailable_reason.cache_clear()
    assert (reason is None) == runs
    if reason:
        number = ".".join(map(str, capability))
        assert f"compute capability {number}: fastnst was built for {architectures}" in reason


def test_a_build_without_cuda_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extension, "build_info", lambda: {"cuda": "", "cuda_architectures": ""})
    buffers.gpu_unavailable_reason.cache_clear()
    assert buffers.gpu_unavailable_reason((9, 0)) == "fastnst was built without CUDA"
    buffers.gpu_unavailable_reason.cache_clear()


def test_a_driver_older_than_the_build_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch may bring an older CUDA, which runs; the kernels would fail at their first launch."""
    info = {"cuda": "13.0", "cuda_architectures": "90"}
    monkeypatch.setattr(extension, "build_info", lambda: info)
    old = {"devices": [], "reason": "CUDA driver version is insufficient"}
    monkeypatch.setattr(extension, "cuda_devices", lambda: old)
    buffers.gpu_unavailable_reason.cache_clear()
    reason = buffers.gpu_unavailable_reason((9, 0))
    buffers.gpu_unavailable_reason.cache_clear()
    assert reason == (
        "fastnst's CUDA 13.0 does not run with this driver: CUDA driver version is insufficient"
    )


def test_an_error_of_a_gpu_keeps_its_type() -> None:
    """It may come of work that somebody queued before, and is no reason to compute elsewhere."""

    class DeviceError(RuntimeError):
        """As the extension has it."""

    def failing(error: Exception) -> Callable[[], None]:
        def run() -> None:
            raise error

        return run

    for error, expected in (
        (DeviceError("an illegal memory access"), DeviceError),
        (RuntimeError("no such instruction set"), BackendUnavailable),
        (ValueError("negative"), InvalidInput),
    ):
        with pytest.raises(expected, match=str(error)):
            extension.call(failing(error))


@needs_native
def test_the_gpu_calls_without_a_gpu() -> None:
    loaded = extension.loaded()
    x, gram = torch.ones(1, 3, 4, 4), torch.ones(1, 3, 3)
    layers = [(buffers.describe_tensor(x), gram.data_ptr(), 0, 0, 0, 0)]
    if not loaded.build_info()["cuda"]:
        with pytest.raises(RuntimeError, match="fastnst was built without CUDA"):
            loaded.cuda_gram_workspace(layers)
        return
    size = loaded.cuda_gram_workspace(layers)
    assert size >= 64 * 64 * 4  # one tile at least
    if not loaded.cuda_devices()["devices"]:
        workspace = torch.empty(size, dtype=torch.uint8)
        with pytest.raises(RuntimeError, match="cudaGetDevice"):
            loaded.cuda_gram(layers, 0, workspace.data_ptr(), size, 0, 0)


def test_without_the_extension() -> None:
    result = python(
        """
import torch
from fastnst.errors import BackendUnavailable
from fastnst.ops import extension, functional
assert not extension.is_available()
assert "FASTNST_NO_NATIVE" in extension.unavailable_reason()
x = torch.ones(2, 3, 3, requires_grad=True)
functional.style_loss(x, torch.zeros(2, 2)).backward()
assert x.grad is not None and functional.gram_matrix(x).eq(1).all()
for call in (lambda: functional.gram_matrix(x, backend="native"), extension.build_info,
             extension.selected_isa, extension.available_isas, extension.cuda_devices):
    try:
        call()
    except BackendUnavailable as error:
        assert "FASTNST_NO_NATIVE" in str(error), error
    else:
        raise AssertionError(call)
""",
        FASTNST_NO_NATIVE="1",
    )
    assert result.returncode == 0, result.stderr


@needs_native
@pytest.mark.parametrize("name", ["", *ISAS])
def test_the_isa_is_capped_by_the_environment(name: str) -> None:
    code = "from fastnst.ops import extension; print(extension.selected_isa())"
    result = python(code, FASTNST_CPU_ISA=name)
    assert result.stdout.strip() == (name or ISAS[-1]), result.stderr


@needs_native
def test_an_unknown_isa_is_an_error() -> None:
    code = """
import torch
from fastnst.errors import InvalidInput
from fastnst.ops import extension, functional
for call in extension.selected_isa, lambda: functional.gram_matrix(torch.ones(64, 64, 64)):
    try:
        call()
    except InvalidInput as error:
        assert "FASTNST_CPU_ISA" in str(error) and "'sse9'" in str(error), error
    else:
        raise AssertionError(call)
"""
    result = python(code, FASTNST_CPU_ISA="sse9")
    assert result.returncode == 0, result.stderr


@needs_native
def test_an_isa_that_cannot_run_is_an_error() -> None:
    missing = [n for n in ("neon", "avx2", "avx512", "avx512bf16") if n not in ISAS]
    with pytest.raises(BackendUnavailable, match=missing[0]), extension.use_isa(missing[0]):
        pass


@needs_native
def test_one_openmp_runtime() -> None:
    if not Path("/proc/self/maps").exists():
        pytest.skip("no /proc")
    result = python(
        """
import torch
from fastnst.ops import functional
functional.gram_matrix(torch.ones(64, 64, 64), backend="native")
paths = {line.split()[-1] for line in open("/proc/self/maps") if "omp" in line.split("/")[-1]}
print(*sorted(p for p in paths if "/" in p and ".so" in p), sep="\\n")
"""
    )
    runtimes = result.stdout.split()
    assert result.returncode == 0, result.stderr
    assert len(runtimes) <= 1, runtimes


@needs_native
def test_build_info() -> None:
    info = extension.build_info()
    assert set(info["cpu_isas"]) >= set(ISAS) >= {"scalar"}
    assert info["compiler"]
    assert info["threads"]
    devices = extension.cuda_devices()
    assert devices["devices"] or devices["reason"]


@needs_native
def test_two_python_threads() -> None:
    from concurrent.futures import ThreadPoolExecutor

    x = torch.randn(1, 96, 60, 60)
    expected = functional.gram_matrix(x, backend="native")
    with ThreadPoolExecutor(4) as pool:
        grams = list(pool.map(lambda _: functional.gram_matrix(x, backend="native"), range(16)))
    assert all(torch.equal(gram, expected) for gram in grams)
