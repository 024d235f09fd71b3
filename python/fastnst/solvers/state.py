"""What decides how a computation goes on, in a form that can be saved without loss."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from fastnst.errors import InvalidInput, StateRefused


@dataclass(frozen=True)
class State:
    """The state of a solver, or of a part of it.

    Attributes:
        numbers: Plain values that JSON holds exactly: integers, finite floats, texts, lists.
        tensors: May be views into the solver's memory: save or clone them before it goes on.
    """

    numbers: Mapping[str, Any] = field(default_factory=dict)
    tensors: Mapping[str, Tensor] = field(default_factory=dict)

    def under(self, name: str) -> State:
        """The same state with ``name.`` before every key."""
        return State(
            {f"{name}.{key}": value for key, value in self.numbers.items()},
            {f"{name}.{key}": value for key, value in self.tensors.items()},
        )

    def part(self, name: str) -> State:
        """The state that ``under(name)`` was made from."""
        start = f"{name}."
        return State(
            {k.removeprefix(start): v for k, v in self.numbers.items() if k.startswith(start)},
            {k.removeprefix(start): v for k, v in self.tensors.items() if k.startswith(start)},
        )

    def tensor(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """A tensor of the state.

        Raises:
            InvalidInput: if it has another shape, or is not there.
        """
        tensor = self.tensors.get(name)
        if tensor is None or tuple(tensor.shape) != shape:
            found = "missing" if tensor is None else _described(tensor)
            raise InvalidInput(f"the saved state does not fit: {name} is {found}, not {shape}")
        return tensor

    def __or__(self, other: State) -> State:
        return State({**self.numbers, **other.numbers}, {**self.tensors, **other.tensors})

    def difference(self, other: State) -> str | None:
        """Where another state is not this one, bit for bit, in a few words; None: nowhere."""
        if self.numbers.keys() != other.numbers.keys():
            return _names(self.numbers, other.numbers)
        if self.tensors.keys() != other.tensors.keys():
            return _names(self.tensors, other.tensors)
        for name, number in self.numbers.items():
            if number != other.numbers[name]:
                return f"{name} is {number!r} and would be {other.numbers[name]!r}"
        for name, tensor in self.tensors.items():
            taken = other.tensors[name]
            if (tensor.shape, tensor.dtype) != (taken.shape, taken.dtype):
                return f"{name} is {_described(tensor)} and would be {_described(taken)}"
            if not torch.equal(_bytes(tensor), _bytes(taken)):
                return f"{name} has values that it cannot have"
        return None


@contextlib.contextmanager
def restoring(saved: State, state: Callable[[], State]) -> Iterator[None]:
    """Hold whoever restores a state within to having taken all of it and nothing else.

    Args:
        saved: The state that is restored.
        state: Makes the state afterwards, which must be the same bit for bit.

    Raises:
        StateRefused: if the saved state is not of a computation like this one.
    """
    try:
        yield
        difference = saved.difference(state())
    except (LookupError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        if isinstance(error, InvalidInput):
            raise StateRefused(str(error)) from error
        reason = " ".join(f"{type(error).__name__} {error}".split())
        raise StateRefused(f"the saved state does not fit: {reason}") from error
    if difference is not None:
        raise StateRefused(f"the saved state does not fit: {difference}")


def _names(saved: Mapping[str, Any], taken: Mapping[str, Any]) -> str:
    missing, unknown = sorted(taken.keys() - saved.keys()), sorted(saved.keys() - taken.keys())
    return f"{', '.join(missing)} missing" if missing else f"{', '.join(unknown)} unknown"


def _bytes(tensor: Tensor) -> Tensor:
    """The bytes of a tensor, ``(n,)`` on the CPU: a NaN is equal to itself."""
    return tensor.detach().cpu().reshape(-1).contiguous().view(torch.uint8)


def _described(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
