"""An ONNX graph under construction: nodes, constants, inputs and outputs, by name.

A thin layer over ``onnx.helper``: a node, its first output and what it computes have one name, and
names are paths (``relu3_1``, ``backward/relu3_1``), which viewers show as they stand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from fastnst._version import __version__
from fastnst.errors import InvalidInput

LARGEST = 2_000_000_000  # bytes of all numbers; a file of ONNX's kind has fewer than 2^31
OPSET = 17
IR_VERSION = 8  # the oldest that goes with the opset, so that older runtimes read the file too

Shape = Sequence[int | str]


class Graph:
    """Collects a graph and makes a checked model of it.

    Args:
        name: Of the graph.
        doc: What it computes, for the file's reader.
    """

    def __init__(self, name: str, doc: str) -> None:
        self.name = name
        self.doc = doc
        self._nodes: list[onnx.NodeProto] = []
        self._named: set[str] = set()  # outputs of nodes
        self._constants: dict[str, onnx.TensorProto] = {}
        self._inputs: dict[str, onnx.ValueInfoProto] = {}
        self._outputs: dict[str, onnx.ValueInfoProto] = {}

    def op(self, kind: str, *operands: str, name: str, **attributes: Any) -> str:
        """Add a node of one output; returns its name, which is also the node's."""
        assert not self.has(name), name
        self._nodes.append(helper.make_node(kind, list(operands), [name], name=name, **attributes))
        self._named.add(name)
        return name

    def split(self, operand: str, results: Sequence[str], *, name: str, axis: int) -> None:
        """Cut a value into equal parts."""
        self._nodes.append(helper.make_node("Split", [operand], results, name=name, axis=axis))
        self._named.update(results)

    def has(self, name: str) -> bool:
        """Whether a node's output or a constant has this name."""
        return name in self._named or name in self._constants

    def constant(self, name: str, value: Any) -> str:
        """An initializer: float32, or int64 for whole numbers. The same name is the same value."""
        if name not in self._constants:
            array = np.asarray(value)
            array = array.astype(np.int64 if array.dtype.kind == "i" else np.float32)
            self._constants[name] = numpy_helper.from_array(array, name)
        return name

    def input(self, name: str, shape: Shape, doc: str, default: Any = None) -> str:
        """A float32 input; with a default it may be left out when the graph is run."""
        self._inputs[name] = helper.make_tensor_value_info(
            name, TensorProto.FLOAT, list(shape), doc_string=doc
        )
        if default is not None:
            self.constant(name, default)
        return name

    def output(self, value: str, name: str, shape: Shape, doc: str) -> None:
        """Declare a float32 output ``name`` that holds ``value``."""
        if value != name:
            self.op("Identity", value, name=name)
        self._outputs[name] = helper.make_tensor_value_info(
            name, TensorProto.FLOAT, list(shape), doc_string=doc
        )

    def model(self, metadata: Mapping[str, str]) -> onnx.ModelProto:
        """The model, which has passed ``onnx.checker``.

        Raises:
            InvalidInput: if it is larger than an ONNX file can be.
        """
        size = sum(len(constant.raw_data) for constant in self._constants.values())
        if size > LARGEST:
            raise InvalidInput(
                f"the model has {size / 1e9:.1f} GB of numbers and an ONNX file holds "
                f"{LARGEST / 1e9:.0f}: choose a smaller size, or --dynamic"
            )
        graph = helper.make_graph(
            self._nodes,
            self.name,
            list(self._inputs.values()),
            list(self._outputs.values()),
            list(self._constants.values()),
            doc_string=self.doc,
        )
        model = helper.make_model(
            graph,
            producer_name="fastnst",
            producer_version=__version__,
            ir_version=IR_VERSION,
            opset_imports=[helper.make_opsetid("", OPSET)],
        )
        helper.set_model_props(model, dict(metadata))
        onnx.checker.check_model(model)
        return model
