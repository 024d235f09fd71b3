"""The loss and its gradient as one ONNX graph, run by ONNX Runtime or OpenVINO.

The graph is that of ``fastnst export``; PyTorch holds the pictures and runs the solver, and its
autograd is not used.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fastnst.devices import ordinary, rounds_to_tf32, undisturbed
from fastnst.engines.onnx import providers
from fastnst.errors import InvalidInput
from fastnst.evaluation import Engine, Evaluation, Terms
from fastnst.objective.objective import Objective

if TYPE_CHECKING:
    from fastnst.onnx_graph import Plan


class OnnxEngine(Engine):
    """Evaluates an objective by a graph for pictures of one size.

    The memory of ``Evaluation.gradient`` is reused by the next evaluation. Pictures of another size
    make a new graph.

    Args:
        objective: Float32, on the device of the pictures to come.
        size: ``(H, W)`` of the pictures.
        provider: A key of ``providers.PROVIDERS``, or ``auto``.
        precision: ``auto``, ``fp32`` or ``bf16``.

    Attributes:
        provider: What runs the graph.
        precision: That of the features.

    Raises:
        InvalidInput: if a graph does not hold the objective.
        BackendUnavailable: if the provider cannot run here, or does not take the graph.
    """

    name = "onnx"

    def __init__(
        self,
        objective: Objective,
        size: tuple[int, int],
        provider: str = "auto",
        precision: str = "auto",
    ) -> None:
        device = objective.normalize.mean.device
        self._provider, self.precision = providers.choose(provider, device, precision)
        self.provider = self._provider
        self.tf32 = rounds_to_tf32(device, torch.float32)

        from fastnst.onnx_graph import read  # needs the package onnx

        self._plan: Plan = read(objective)
        self._device = device
        self._load(size)

    def _load(self, size: tuple[int, int]) -> None:
        """Make the graph for pictures of a size ``(H, W)``, and the memory of its outputs."""
        from fastnst.onnx_graph import loss_model  # needs the package onnx

        model = loss_model(self._plan, size)
        shapes = {"gradient": (1, 3, *size)}
        outputs = {
            output.name: torch.empty(
                shapes.get(output.name, ()), dtype=torch.float32, device=self._device
            )
            for output in model.graph.output
        }
        self._runtime = providers.load(
            model.SerializeToString(), self._provider, self.precision, outputs, self._device
        )
        self._outputs, self._size = outputs, size
        self._process = os.getpid()  # the threads of a runtime do not come along with a fork

    def evaluate(self, image: Tensor) -> Evaluation:
        """The objective and its gradient at ``image`` ``(1, 3, H, W)`` float32."""
        if image.dtype != torch.float32 or image.device != self._device:
            raise InvalidInput(
                f"engine onnx: expected pictures in float32 on {self._device}, "
                f"got {image.dtype} on {image.device}"
            )
        height, width = image.shape[-2:]
        with undisturbed():
            if (self._size, self._process) != ((height, width), os.getpid()):
                self._load((height, width))
            image = ordinary(image.detach()).contiguous()
            self._runtime.run(image)
            found = self._outputs
            plan = self._plan
            terms = Terms(
                found["loss"].clone(),
                {term.layer: found[f"content.{term.layer}"].clone() for term in plan.content},
                {term.layer: found[f"style.{term.layer}"].clone() for term in plan.style},
                found["tv"].clone() if plan.tv_weight else image.new_zeros(()),
            )
        return Evaluation(terms, found["gradient"], self.precision)
