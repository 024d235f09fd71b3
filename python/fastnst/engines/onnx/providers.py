"""What runs an ONNX graph: ONNX Runtime's execution providers, and OpenVINO.

``cpu``       ONNX Runtime's own kernels
``cuda``      ONNX Runtime on a GPU (the package onnxruntime-gpu); the picture never leaves it
``tensorrt``  TensorRT through ONNX Runtime (the same package, and NVIDIA's TensorRT)
``openvino``  OpenVINO, which also computes in bfloat16

OpenVINO is used by its own package: its provider for ONNX Runtime comes in a package that cannot be
installed beside onnxruntime.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import importlib.util
import io
import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import torch
from torch import Tensor

from fastnst.devices import allows_tf32
from fastnst.errors import BackendUnavailable

EXECUTION_PROVIDERS = MappingProxyType(
    {
        "cpu": "CPUExecutionProvider",
        "cuda": "CUDAExecutionProvider",
        "tensorrt": "TensorrtExecutionProvider",
    }
)
PROVIDERS = (*EXECUTION_PROVIDERS, "openvino")
PRECISIONS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {name: ("fp32", "bf16") if name == "openvino" else ("fp32",) for name in PROVIDERS}
)


class Runtime(Protocol):
    """A graph, loaded and ready to run on pictures of one size."""

    def run(self, image: Tensor) -> None:
        """Write every output for ``image``, contiguous float32, on the runtime's device."""
        ...


def choose(provider: str, device: torch.device, precision: str = "auto") -> tuple[str, str]:
    """The provider and the precision to use on a device.

    Args:
        provider: One of ``PROVIDERS``, or ``auto``: ``cuda`` on a GPU, otherwise ``cpu``, or
            ``openvino`` for bf16.
        device: Where the pictures are.
        precision: ``auto`` (fp32), ``fp32`` or ``bf16``.

    Raises:
        BackendUnavailable: with the reason.
    """
    precision = "fp32" if precision == "auto" else precision
    if provider == "auto":
        on_cpu = "openvino" if precision == "bf16" else "cpu"
        provider = "cuda" if device.type == "cuda" else on_cpu
    if reason := unavailable_reason(provider, device):
        raise BackendUnavailable(f"provider {provider} cannot run: {reason}")
    if precision not in PRECISIONS[provider]:
        raise BackendUnavailable(
            f"provider {provider} does not compute in {precision}: "
            f"choose {' or '.join(PRECISIONS[provider])}"
        )
    return provider, precision


def unavailable_reason(provider: str, device: torch.device) -> str | None:
    """Why a provider cannot run on a device, or None if nothing is known to be in its way.

    Whether the libraries of a GPU provider load is known only when a graph is loaded.
    """
    wheel = {"cpu": "onnxruntime", "openvino": "openvino"}.get(provider, "onnxruntime-gpu")
    runtime = "openvino" if provider == "openvino" else "onnxruntime"
    for package in ("onnx", runtime):
        if importlib.util.find_spec(package) is None:
            return f"the package {package} is not installed: pip install onnx {wheel}"
    expected = "cpu" if provider in ("cpu", "openvino") else "cuda"
    if device.type != expected:
        return f"it runs with device {expected}, not on {device}"
    if provider != "openvino":
        import onnxruntime

        if EXECUTION_PROVIDERS[provider] not in onnxruntime.get_available_providers():
            return f"onnxruntime {onnxruntime.__version__} was built without it: {_instead(wheel)}"
    return None


def load(
    model: bytes,
    provider: str,
    precision: str,
    outputs: Mapping[str, Tensor],
    device: torch.device,
) -> Runtime:
    """Make a graph ready to run.

    Args:
        model: A serialised ``ModelProto`` for one picture size.
        provider: What ``choose`` returned.
        precision: The precision that ``choose`` returned with it.
        outputs: A contiguous tensor on ``device`` for each output, which every run overwrites.
        device: Where pictures and outputs are.

    Raises:
        BackendUnavailable: if the provider does not take the graph, with its reason.
    """
    if provider == "openvino":
        return _OpenVino(model, precision, outputs)
    return _OnnxRuntime(model, provider, outputs, device)


class _OnnxRuntime:
    """A session of ONNX Runtime that reads and writes torch's memory in place."""

    def __init__(
        self, model: bytes, provider: str, outputs: Mapping[str, Tensor], device: torch.device
    ) -> None:
        import numpy as np
        import onnxruntime

        self.device = device
        self.float32 = np.float32
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 4  # what matters becomes an error of ours
        if provider != "cpu":
            load_libraries(provider)
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        wanted = provider_options(provider, device)
        try:
            self.session = onnxruntime.InferenceSession(
                model, options, providers=wanted, enable_fallback=0
            )
        except Exception as error:
            raise BackendUnavailable(
                f"provider {provider} did not load the graph: {_first_line(error)}"
            ) from error
        if EXECUTION_PROVIDERS[provider] not in (loaded := self.session.get_providers()):
            raise BackendUnavailable(  # it goes on without, and says so only in its log
                f"provider {provider} did not load: ONNX Runtime would have used "
                f"{', '.join(loaded)}"
            )
        self.binding = self.session.io_binding()
        for name, tensor in outputs.items():
            self.binding.bind_output(name, **self._place(tensor))

    def run(self, image: Tensor) -> None:
        self.binding.bind_input("image", **self._place(image))
        if self.device.type == "cuda":  # ONNX Runtime has a stream of its own
            torch.cuda.current_stream(self.device).synchronize()
        self.session.run_with_iobinding(self.binding)
        self.binding.synchronize_outputs()

    def _place(self, tensor: Tensor) -> dict[str, Any]:
        return {
            "device_type": self.device.type,
            "device_id": self.device.index or 0,
            "element_type": self.float32,
            "shape": tuple(tensor.shape),
            "buffer_ptr": tensor.data_ptr(),
        }


class _OpenVino:
    """A graph compiled by OpenVINO that reads and writes torch's memory in place."""

    def __init__(self, model: bytes, precision: str, outputs: Mapping[str, Tensor]) -> None:
        import openvino

        self.tensor = openvino.Tensor
        core = openvino.Core()
        threads = torch.get_num_threads()
        kinds = {"fp32": openvino.Type.f32, "bf16": openvino.Type.bf16}
        config = {
            "INFERENCE_PRECISION_HINT": kinds[precision],
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",
            # 7 % faster; with fewer threads than cores, two processes would pin theirs to the same
            "ENABLE_CPU_PINNING": threads >= _cores(),
        }
        try:
            compiled = core.compile_model(core.read_model(io.BytesIO(model)), "CPU", config)
        except Exception as error:
            raise BackendUnavailable(
                f"provider openvino did not load the graph: {_first_line(error)}"
            ) from error
        if compiled.get_property("INFERENCE_PRECISION_HINT") != kinds[precision]:
            raise BackendUnavailable(
                f"provider openvino does not compute in {precision} on this CPU"
            )
        self.request = compiled.create_infer_request()
        for name, tensor in outputs.items():
            self.request.set_tensor(name, self._shared(tensor))

    def run(self, image: Tensor) -> None:
        self.request.set_tensor("image", self._shared(image))
        self.request.infer()

    def _shared(self, tensor: Tensor) -> Any:
        return self.tensor(tensor.numpy(), shared_memory=True)


def provider_options(provider: str, device: torch.device) -> list[tuple[str, dict[str, str]]]:
    """What ONNX Runtime is asked for, in order; it takes the next where one cannot run a node."""
    if provider == "cpu":
        return [(EXECUTION_PROVIDERS["cpu"], {})]
    index = str(device.index or 0)
    tf32 = "1" if allows_tf32() else "0"  # as torch's convolutions do
    # The default is a race of cuDNN's algorithms, which a resumed run may end otherwise.
    options = {"device_id": index, "use_tf32": tf32, "cudnn_conv_algo_search": "HEURISTIC"}
    wanted = [(EXECUTION_PROVIDERS["cuda"], options)]
    if provider == "tensorrt":
        wanted.insert(0, (EXECUTION_PROVIDERS["tensorrt"], {"device_id": index}))
    return wanted


def load_libraries(provider: str) -> None:
    """Load what a GPU provider needs: CUDA and cuDNN where torch has them, pip's TensorRT.

    Raises:
        BackendUnavailable: naming the first library that is missing.
    """
    import onnxruntime

    with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does not find
        onnxruntime.preload_dlls()
    if provider == "tensorrt":
        with contextlib.suppress(ImportError):
            importlib.import_module("tensorrt")
    if reason := library_error(provider):
        raise BackendUnavailable(f"provider {provider} cannot run: {reason}")


def library_error(provider: str) -> str | None:
    """Why the provider's shared library cannot be loaded (a missing CUDA library, mostly)."""
    spec = importlib.util.find_spec("onnxruntime")
    if spec is None or spec.origin is None:
        return "the package onnxruntime is not installed"
    folder = Path(spec.origin).parent / "capi"
    for name in ("shared", provider):
        library = folder / f"libonnxruntime_providers_{name}.so"
        if not library.is_file():
            return f"{library.name} is not part of this onnxruntime"
        try:
            ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
        except OSError as error:
            return _first_line(error)
    return None


def _cores() -> int:
    """How many cores this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on Linux
        return os.cpu_count() or 1


def _instead(wheel: str) -> str:
    return f"pip uninstall onnxruntime && pip install {wheel}"


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__
