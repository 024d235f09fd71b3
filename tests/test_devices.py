"""The device of a run, and what is said of one that is not there."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from fastnst.devices import choose_device, gpus, take_turn
from fastnst.engines.strips.autograd import AutogradEvaluator
from fastnst.engines.torch_engine import TorchEngine
from fastnst.errors import BackendUnavailable, InvalidInput
from fastnst.network.weights import Weights
from fastnst.objective.build import build_objective
from helpers.engines import SETTINGS, pictures


def test_without_a_visible_gpu_everything_runs_on_the_cpu() -> None:
    code = (
        "import fastnst, numpy\n"
        "from fastnst.info import info\n"
        "grey = numpy.full((32, 32, 3), 0.5, numpy.float32)\n"
        "result = fastnst.stylize(grey, grey, size=32, iterations=1)\n"
        "print(result.device, info()['chosen']['device'])\n"
        "try:\n"
        "    fastnst.stylize(grey, grey, size=32, iterations=1, device='cuda:1')\n"
        "except fastnst.BackendUnavailable as error:\n"
        "    print(error)\n"
    )
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first == "cpu cpu"
    assert second.startswith("device cuda:1 cannot be used: ")


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU of compute capability 8.6."""
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 6))


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize(
    ("built", "runs"),
    [
        ([], True),  # nothing is known
        (["sm_75", "sm_86"], True),
        (["sm_80"], True),  # of the same major
        (["sm_75", "compute_80"], True),  # to be compiled for any later one
        (["sm_75", "sm_90", "sm_100", "compute_90"], False),
        (["sm_89"], False),
        (["sm_90a"], False),
    ],
)
def test_a_gpu_that_torch_has_no_code_for_is_not_chosen(
    built: list[str], runs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: built)
    assert choose_device("auto").type == ("cuda" if runs else "cpu")
    if not runs:
        with pytest.raises(BackendUnavailable, match=r"no code for compute capability 8\.6"):
            choose_device("cuda")


@pytest.mark.usefixtures("gpu")
def test_a_gpu_that_cannot_be_asked_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(_: object) -> None:
        raise RuntimeError("CUDA error: all devices are busy\nand how to look for it")

    monkeypatch.setattr(torch.cuda, "get_device_capability", busy)
    assert choose_device("auto").type == "cpu"
    with pytest.raises(BackendUnavailable) as caught:
        choose_device("cuda")
    assert str(caught.value) == "device cuda cannot be used: CUDA error: all devices are busy"


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("name", ["cuda:128", "cuda:255", "cuda:256", "cuda:512", "cuda:00"])
def test_a_number_that_torch_reads_as_another_is_refused(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It keeps eight bits: 256 would be the first GPU."""
    monkeypatch.setattr(torch.cuda, "get_arch_list", list)
    assert choose_device("cuda:0") == torch.device("cuda", 0)
    with pytest.raises(InvalidInput, match=f"device is '{name}'"):
        choose_device(name)


def test_gpus_are_taken_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    for number in range(5):
        take_turn(number)
    assert taken == [0, 1, 2, 0, 1]
    counts = [gpus(torch.device(name)) for name in ("cuda", "cuda:1", "cpu")]
    assert counts == [3, 1, 1]


FORKED = """
import os, sys, numpy, torch
import fastnst
torch.set_num_threads(int(sys.argv[1]))
few = dict(size=32, iterations=1, style_layers=("relu1_1",), content_layers=("relu1_1",))
grey = numpy.full((32, 32, 3), 0.5, numpy.float32)
fastnst.stylize(grey, grey, **few)
pid = os.fork()
if not pid:
    try:
        print(fastnst.stylize(grey, grey, **few).iterations, flush=True)
    except fastnst.BackendUnavailable as error:
        print(error, flush=True)
    os._exit(0)
os.waitpid(pid, 0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize(("threads", "said"), [(1, "1"), (2, "this process was forked from one")])
def test_a_forked_process_runs_or_says_why_not(threads: int, said: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORKED, str(threads)], capture_output=True, text=True, timeout=120
    )
    assert done.stdout.startswith(said), done.stderr


@pytest.mark.parametrize(
    ("flag", "use_tf32"),
    [("", "1"), ("cudnn.conv.", "0"), ("cudnn.", "0"), ("cuda.matmul.", "1")],
)
def test_tf32_is_as_the_newer_flags_say_too(flag: str, use_tf32: str) -> None:
    """PyTorch refuses to read its older flags once a newer one was set: in a process of its own."""
    code = (
        "import torch\n"
        "from fastnst.engines.onnx.providers import provider_options\n"
        f"{f'torch.backends.{flag}fp32_precision = {chr(34)}ieee{chr(34)}' if flag else ''}\n"
        "((_, options),) = provider_options('cuda', torch.device('cuda', 1))\n"
        "print(options['device_id'], options['use_tf32'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["1", use_tf32]


@pytest.mark.parametrize(
    ("precision", "dtype", "rounds"),
    [("fp32", torch.float32, True), ("bf16", torch.float32, False), ("fp32", torch.float64, False)],
)
def test_engines_of_autograd_say_what_cudnn_rounds(
    precision: str,
    dtype: torch.dtype,
    rounds: bool,
    random_weights: Weights,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in ("torch_engine", "strips.autograd"):
        monkeypatch.setattr(
            f"fastnst.engines.{module}.rounds_to_tf32", lambda device, dtype: dtype == torch.float32
        )
    content, style, _ = pictures(24, 31)
    objective = build_objective(random_weights, content, style, SETTINGS[0], "torch").to(dtype)
    assert TorchEngine(objective, precision).tf32 is rounds
    assert AutogradEvaluator(objective, precision).tf32 is rounds
