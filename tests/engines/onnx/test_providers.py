"""How providers of engine onnx are chosen, loaded and refused.

What a GPU provider is told is checked with stand-ins; ``test_engine.py`` runs it on a GPU.
"""

from __future__ import annotations

import importlib.util
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from fastnst.devices import allows_tf32
from fastnst.engines.onnx import providers
from fastnst.errors import BackendUnavailable

CPU, GPU = torch.device("cpu"), torch.device("cuda", 1)


@pytest.fixture
def packages(monkeypatch: pytest.MonkeyPatch) -> Any:
    """``packages("onnx", …)``: only these are installed, with every execution provider."""
    real = importlib.util.find_spec

    def install(
        *names: str, built_with: tuple[str, ...] = tuple(providers.EXECUTION_PROVIDERS)
    ) -> None:
        def find(name: str, *rest: Any) -> Any:
            if name in ("onnx", "onnxruntime", "openvino"):
                return SimpleNamespace(origin=__file__) if name in names else None
            return real(name, *rest)

        monkeypatch.setattr(importlib.util, "find_spec", find)
        fake = SimpleNamespace(
            __version__="1.2.3",
            get_available_providers=lambda: [providers.EXECUTION_PROVIDERS[p] for p in built_with],
        )
        monkeypatch.setitem(sys.modules, "onnxruntime", fake)

    return install


@pytest.mark.parametrize(
    ("asked", "device", "precision", "chosen"),
    [
        ("auto", CPU, "auto", ("cpu", "fp32")),
        ("auto", CPU, "bf16", ("openvino", "bf16")),
        ("auto", GPU, "auto", ("cuda", "fp32")),
        ("openvino", CPU, "auto", ("openvino", "fp32")),
        ("tensorrt", GPU, "fp32", ("tensorrt", "fp32")),
        ("cpu", GPU, "auto", "it runs with device cpu, not on cuda:1"),
        ("openvino", GPU, "auto", "it runs with device cpu"),
        ("cuda", CPU, "auto", "it runs with device cuda, not on cpu"),
        ("cuda", GPU, "bf16", "does not compute in bf16: choose fp32"),
    ],
)
def test_choice(packages: Any, asked: str, device: Any, precision: str, chosen: Any) -> None:
    packages("onnx", "onnxruntime", "openvino")
    if isinstance(chosen, tuple):
        assert providers.choose(asked, device, precision) == chosen
    else:
        with pytest.raises(BackendUnavailable, match=f"^provider {asked} .*{chosen}"):
            providers.choose(asked, device, precision)


def test_what_is_missing_is_named(packages: Any) -> None:
    packages("onnxruntime")
    assert "onnx is not installed: pip install onnx onnxruntime" in str(
        providers.unavailable_reason("cpu", CPU)
    )
    packages("onnx")
    assert "pip install onnx onnxruntime-gpu" in str(providers.unavailable_reason("cuda", GPU))
    assert "openvino is not installed" in str(providers.unavailable_reason("openvino", CPU))
    packages("onnx", "onnxruntime", built_with=("cpu",))
    reason = str(providers.unavailable_reason("tensorrt", GPU))
    assert "onnxruntime 1.2.3 was built without it" in reason
    assert "pip uninstall onnxruntime" in reason


class Session:
    """Stands in for ONNX Runtime's session."""

    loaded = ("CUDAExecutionProvider", "CPUExecutionProvider")

    def __init__(self, model: bytes, options: Any, providers: Any, enable_fallback: int) -> None:
        self.asked = providers
        self.fallback = enable_fallback
        self.options = options
        self.calls: list[Any] = []

    def get_providers(self) -> list[str]:
        return list(self.loaded)

    def io_binding(self) -> Session:
        return self

    def bind_output(self, name: str, **place: Any) -> None:
        self.calls.append((name, place))

    bind_input = bind_output

    def run_with_iobinding(self, binding: Any) -> None:
        self.calls.append("run")

    def synchronize_outputs(self) -> None:
        self.calls.append("synchronised")


class Options:
    def __init__(self) -> None:
        self.entries: dict[str, str] = {}

    def add_session_config_entry(self, key: str, value: str) -> None:
        self.entries[key] = value


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A stand-in for the package onnxruntime; what happened beyond the session."""
    events: list[str] = []
    fake = SimpleNamespace(
        InferenceSession=Session,
        SessionOptions=Options,
        preload_dlls=lambda: events.append("preloaded"),
    )
    monkeypatch.setitem(sys.modules, "onnxruntime", fake)
    monkeypatch.setattr(providers, "library_error", lambda provider: None)
    stream = SimpleNamespace(synchronize=lambda: events.append("torch is done"))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: stream)
    return events


def test_on_a_gpu_the_tensors_are_bound_where_they_are(runtime: list[str]) -> None:
    outputs = {"loss": torch.zeros(()), "gradient": torch.zeros(1, 3, 4, 5)}
    loaded: Any = providers.load(b"graph", "cuda", "fp32", outputs, GPU)
    image = torch.zeros(1, 3, 4, 5)
    loaded.run(image)
    session = loaded.session
    tf32 = str(int(allows_tf32()))
    options = {"device_id": "1", "use_tf32": tf32, "cudnn_conv_algo_search": "HEURISTIC"}
    assert session.asked == [("CUDAExecutionProvider", options)]
    assert session.fallback == 0
    assert session.options.entries == {"session.disable_cpu_ep_fallback": "1"}
    assert runtime == ["preloaded", "torch is done"]
    bound = {call[0]: call[1] for call in session.calls if isinstance(call, tuple)}
    for name, tensor in {**outputs, "image": image}.items():
        assert bound[name] == {
            "device_type": "cuda", "device_id": 1, "element_type": np.float32,
            "shape": tuple(tensor.shape), "buffer_ptr": tensor.data_ptr(),
        }  # fmt: skip
    assert session.calls[-2:] == ["run", "synchronised"]


def test_tensorrt_falls_back_to_cuda_only() -> None:
    names = [name for name, _ in providers.provider_options("tensorrt", GPU)]
    assert names == ["TensorrtExecutionProvider", "CUDAExecutionProvider"]


@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_a_silent_fall_back_is_caught(
    runtime: list[str], provider: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Session, "loaded", ("CPUExecutionProvider",))
    with pytest.raises(
        BackendUnavailable, match=rf"provider {provider} did not load: .* used CPUExecution"
    ):
        providers.load(b"graph", provider, "fp32", {}, GPU)


def test_a_missing_library_is_named(
    runtime: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        sys.modules["onnxruntime"], "preload_dlls", lambda: print("Failed to load libcublas")
    )
    monkeypatch.setattr(providers, "library_error", lambda name: "libcublas.so.13: not found")
    with pytest.raises(
        BackendUnavailable, match="^provider cuda cannot run: libcublas.so.13: not found$"
    ):
        providers.load(b"graph", "cuda", "fp32", {}, GPU)
    assert capsys.readouterr().out == ""  # which may be JSON


def test_an_error_while_loading_is_one_line(
    runtime: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("\n  a node is on the CPU\n  stack\n")

    monkeypatch.setattr(Session, "__init__", fail)
    with pytest.raises(BackendUnavailable) as caught:
        providers.load(b"graph", "cuda", "fp32", {}, GPU)
    assert str(caught.value) == "provider cuda did not load the graph: a node is on the CPU"


def test_why_a_library_does_not_load(packages: Any, tmp_path: Any) -> None:
    packages("onnxruntime")
    assert "libonnxruntime_providers_shared.so is not part of" in str(
        providers.library_error("cuda")
    )
