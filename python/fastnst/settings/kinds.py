"""What a setting may be: how a value is checked and how it is read from text.

Every kind answers the same contract, ``Kind``. It turns whatever it is given into a plain Python
value (``int``, ``float``, ``str`` or a tuple of these) or raises ``InvalidInput`` with the name,
what was expected and what was found. It never raises anything else.
"""

from __future__ import annotations

import itertools
import math
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from fastnst.errors import InvalidInput

LONGEST = 1000  # values in a list
_SHOWN = 60  # characters of a value in a message


def shown(value: Any) -> str:
    """A value as messages show it: ``repr`` in one line of at most 60 characters."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # noqa: BLE001 - a whole number of 5000 digits, or any object's own repr
        text = f"a value of type {type(value).__name__} that cannot be shown"
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


class Kind(ABC):
    """The values that a setting may have.

    Attributes:
        expects: The values in words, for messages and tables: ``a whole number from 0 to 9``.
        metavar: The value's place holder in the help of the command line.
    """

    expects: str
    metavar: str

    @property
    def choices(self) -> tuple[str, ...]:
        """The texts to choose from; empty if others are possible too."""
        return ()

    @property
    def known(self) -> tuple[str, ...]:
        """The texts to offer while one is typed; others may be possible."""
        return self.choices

    def names_file(self, value: Any) -> bool:  # noqa: ARG002
        """Whether a value is the path of a file."""
        return False

    @abstractmethod
    def check(self, name: str, value: Any) -> Any:
        """The value in plain Python.

        Raises:
            InvalidInput: naming the setting, what was expected and what was found.
        """

    @abstractmethod
    def read(self, text: str) -> Any:
        """The value that a text stands for, which ``check`` has still to see.

        Raises:
            ValueError: if it stands for none.
        """

    def parse(self, name: str, text: str) -> Any:
        """The value that a text stands for, which ``check`` has still to see.

        Raises:
            InvalidInput: naming the setting if it stands for none.
        """
        try:
            return self.read(text.strip())
        except ValueError as error:
            raise self.refuse(name, text) from error

    def refuse(self, name: str, value: Any) -> InvalidInput:
        """The error that says that a value is none of this kind."""
        return InvalidInput(f"{name} is {shown(value)}: expected {self.expects}")


@dataclass(frozen=True)
class Whole(Kind):
    """A whole number from ``low`` to ``high``; numpy's are taken, True and False are not."""

    low: int
    high: int
    metavar: str = "INTEGER"

    @property
    def expects(self) -> str:  # type: ignore[override]
        """As of ``Kind``."""
        return f"a whole number from {self.low} to {self.high}"

    def check(self, name: str, value: Any) -> int:
        """As of ``Kind``."""
        if isinstance(value, bool) or not isinstance(value, Integral):
            raise self.refuse(name, value)
        number = int(value)
        if not self.low <= number <= self.high:
            raise self.refuse(name, value)
        return number

    def read(self, text: str) -> int:
        """As of ``Kind``."""
        return int(text)


@dataclass(frozen=True)
class Number(Kind):
    """A finite number that ``low`` and ``high`` bound, themselves included unless ``open`` says so.

    Attributes:
        low: The least value.
        high: The largest value.
        above: Whether ``low`` itself is excluded.
        below: Whether ``high`` itself is excluded.
        noun: What the number is called: ``number``, ``ratio``.
    """

    low: float = 0.0
    high: float = math.inf
    above: bool = False
    below: bool = False
    noun: str = "number"
    metavar: str = "NUMBER"

    @property
    def expects(self) -> str:  # type: ignore[override]
        """As of ``Kind``."""
        low = f"above {self.low:g}" if self.above else f"{self.low:g} or more"
        if self.high == math.inf:
            return f"a finite {self.noun}, {low}"
        if self.below:
            return f"a {self.noun}, {low}, less than {self.high:g}"
        if self.above:
            return f"a {self.noun}, {low}, up to {self.high:g}"
        return f"a {self.noun} from {self.low:g} to {self.high:g}"

    def check(self, name: str, value: Any) -> float:
        """As of ``Kind``."""
        if isinstance(value, bool) or not isinstance(value, Real):
            raise self.refuse(name, value)
        try:
            number = float(value)
        except (OverflowError, ValueError) as error:  # a whole number beyond float64
            raise self.refuse(name, value) from error
        low = number > self.low if self.above else number >= self.low
        high = number < self.high if self.below else number <= self.high
        if not (math.isfinite(number) and low and high):
            raise self.refuse(name, value)
        return number

    def read(self, text: str) -> float:
        """As of ``Kind``."""
        return float(text)


@dataclass(frozen=True)
class Choice(Kind):
    """One of a few texts."""

    values: tuple[str, ...]
    metavar: str = "NAME"

    @property
    def choices(self) -> tuple[str, ...]:
        """As of ``Kind``."""
        return self.values

    @property
    def expects(self) -> str:  # type: ignore[override]
        """As of ``Kind``."""
        return f"one of {', '.join(self.choices)}"

    def check(self, name: str, value: Any) -> str:
        """As of ``Kind``."""
        if not isinstance(value, str) or value not in self.choices:
            raise InvalidInput(f"{name} is {shown(value)}: choose one of {', '.join(self.choices)}")
        return str(value)

    def read(self, text: str) -> str:
        """As of ``Kind``."""
        return text


@dataclass(frozen=True)
class Text(Kind):
    """A text that a pattern describes.

    Attributes:
        expects: The texts in words.
        pattern: A regular expression for the whole of it.
        names: Texts to offer while it is typed.
    """

    expects: str
    pattern: str
    names: tuple[str, ...] = ()
    metavar: str = "NAME"

    @property
    def known(self) -> tuple[str, ...]:
        """As of ``Kind``."""
        return self.names

    def check(self, name: str, value: Any) -> str:
        """As of ``Kind``."""
        if not isinstance(value, str) or not re.fullmatch(self.pattern, value):
            raise self.refuse(name, value)
        return str(value)

    def read(self, text: str) -> str:
        """As of ``Kind``."""
        return text


@dataclass(frozen=True)
class NameOrFile(Kind):
    """One of a few names, or the path of a file; a ``Path`` becomes a text.

    Attributes:
        names: The names.
        file: What kind of file, as ``a picture's path``.
    """

    names: tuple[str, ...]
    file: str
    metavar: str = "NAME"

    @property
    def known(self) -> tuple[str, ...]:
        """As of ``Kind``."""
        return self.names

    @property
    def expects(self) -> str:  # type: ignore[override]
        """As of ``Kind``."""
        return f"{', '.join(self.names)} or {self.file}, as a text"

    def names_file(self, value: Any) -> bool:
        """As of ``Kind``: whatever is none of the names."""
        return value not in self.names

    def check(self, name: str, value: Any) -> str:
        """As of ``Kind``."""
        if isinstance(value, os.PathLike):
            value = os.fsdecode(value)
        if isinstance(value, str) and not value:
            raise InvalidInput(f"{name} is empty: expected {self.expects}")
        if not isinstance(value, str) or "\0" in value:
            raise self.refuse(name, value)
        return str(value)

    def read(self, text: str) -> str:
        """As of ``Kind``."""
        return text


@dataclass(frozen=True)
class Several(Kind):
    """A list of values of one kind, kept as a tuple.

    Attributes:
        each: The kind of its values.
        of: What they are, in the plural: ``numbers``, ``layer names``.
        least: How many there are at least.
        distinct: Whether none may occur twice.
    """

    each: Kind
    of: str
    least: int = 0
    distinct: bool = False
    metavar: str = "LIST"

    @property
    def expects(self) -> str:  # type: ignore[override]
        """As of ``Kind``."""
        ending = ", separated by commas" if isinstance(self.each, (Whole, Number)) else ""
        return f"a list of {self.of}{ending}"

    @property
    def choices(self) -> tuple[str, ...]:
        """As of ``Kind``: what each of the values may be."""
        return self.each.choices

    @property
    def known(self) -> tuple[str, ...]:
        """As of ``Kind``: what each of the values may be."""
        return self.each.known

    def check(self, name: str, value: Any) -> tuple[Any, ...]:
        """As of ``Kind``."""
        if isinstance(value, (str, bytes, Mapping, AbstractSet)) or not isinstance(value, Iterable):
            raise self.refuse(name, value)
        try:
            values = list(itertools.islice(value, LONGEST + 1))
        except Exception as error:  # an array without axes, a generator that fails
            raise self.refuse(name, value) from error
        if len(values) > LONGEST:
            raise InvalidInput(f"{name} has more than {LONGEST} values: expected {self.expects}")
        checked = tuple(self.each.check(name, one) for one in values)
        if len(checked) < self.least:
            raise InvalidInput(f"{name} is {shown(value)}: expected {self.expects}, at least one")
        if self.distinct and len(set(checked)) != len(checked):
            twice = next(one for one in checked if checked.count(one) > 1)
            raise InvalidInput(f"{name} has {shown(twice)} twice: expected it once")
        return checked

    def read(self, text: str) -> tuple[Any, ...]:
        """As of ``Kind``: the parts between commas."""
        return tuple(self.each.read(part) for part in split(text))


def split(text: str) -> tuple[str, ...]:
    """``"a, b"`` as ``("a", "b")``."""
    return tuple(part.strip() for part in text.split(",") if part.strip())
