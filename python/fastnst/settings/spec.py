"""What is said of a setting beside its name, type and default: one ``Spec`` for each.

The command line's options, the tables in the documents and the page read it from here.
"""

from __future__ import annotations

from dataclasses import Field, dataclass
from typing import Any

from fastnst.settings.kinds import Kind

BASICS = "Basics"
LOOK = "Look"
SCALES = "Coarse to fine"
NETWORK = "Network"
SOLVER = "Solver"
MACHINE = "Machine"
GROUPS = (BASICS, LOOK, SCALES, NETWORK, SOLVER, MACHINE)  # in the order of --help
_KEY = "spec"


@dataclass(frozen=True)
class Spec:
    """What a setting may be and what it does.

    Attributes:
        kind: Its values other than None.
        group: The heading that it stands under.
        help: What it is, in a few words.
        none: What None means; None itself where the setting is never None.
    """

    kind: Kind
    group: str
    help: str
    none: str | None = None

    def check(self, name: str, value: Any) -> Any:
        """The value in plain Python.

        Raises:
            InvalidInput: naming the setting, what was expected and what was found.
        """
        if value is None and self.none is not None:
            return None
        return self.kind.check(name, value)


def spec(kind: Kind, group: str, text: str, *, none: str | None = None) -> dict[str, Spec]:
    """The metadata of a field: ``field(default=…, metadata=spec(…))``."""
    return {_KEY: Spec(kind, group, text, none)}


def spec_of(field: Field[Any]) -> Spec:
    """The ``Spec`` in a field's metadata."""
    found = field.metadata[_KEY]
    assert isinstance(found, Spec)
    return found


def typed(value: Any) -> str:
    """A value as it is typed on the command line: ``1,0.5`` for a list."""
    if isinstance(value, tuple):
        return ",".join(map(typed, value))
    if not isinstance(value, float):
        return str(value)
    short = f"{value:g}"
    return short if float(short) == value else repr(value)
