"""What decides how a computation goes on, in a form that can be saved without loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor


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

    def __or__(self, other: State) -> State:
        return State({**self.numbers, **other.numbers}, {**self.tensors, **other.tensors})
