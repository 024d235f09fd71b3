"""A device that computes nothing: it shows what lies where, on a machine that has no GPU.

PyTorch's ``meta`` tensors have a shape and a dtype only. Here they stand for those on a GPU: what
is copied from there is zeros, a number that is fetched is 1, and an operator that is given tensors
of both sides is an error, as on a GPU.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

ELSEWHERE = torch.device("meta")
COPIES = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)
# What is fetched as a number, and what is said in its place.
FETCHED = {torch.ops.aten.equal.default: False, torch.ops.aten._local_scalar_dense.default: 1.0}


class TwoSides(TorchDispatchMode):
    """While it lasts, ``meta`` is a device that tensors are copied to and from."""

    def __init__(self) -> None:
        super().__init__()
        self.copied = {"there": 0, "here": 0}  # bytes

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = dict(kwargs or {})
        tensors = [x for x in tree_flatten((args, given))[0] if isinstance(x, Tensor)]
        places = {x.device.type for x in tensors if x.ndim}
        if func in COPIES:
            return self._copy(func, args, given)
        assert len(places) < 2, f"{func} is given tensors on {' and '.join(sorted(places))}"
        if func in FETCHED and any(x.device == ELSEWHERE for x in tensors):
            return FETCHED[func]
        return func(*args, **given)

    def _copy(self, func: Any, args: Sequence[Any], given: dict[str, Any]) -> Any:
        source = args[0] if func is COPIES[0] else args[1]
        target = given.get("device", source.device) if func is COPIES[0] else args[0].device
        target = source.device if target is None else torch.device(target)
        if source.device.type == target.type:
            return func(*args, **given)
        self.copied["there" if target == ELSEWHERE else "here"] += source.nbytes
        if source.device == ELSEWHERE:  # which has no numbers
            zeros = torch.zeros(source.shape, dtype=source.dtype, device="cpu")
            args = (zeros, *args[1:]) if func is COPIES[0] else (args[0], zeros, *args[2:])
        return func(*args, **given)
