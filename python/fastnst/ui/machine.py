"""What belongs to the machine that the page runs on, whatever preset is chosen."""

from __future__ import annotations

from fastnst.settings.presets import PRESETS, nearest
from fastnst.settings.settings import SPECS, Settings
from fastnst.settings.spec import MACHINE

OF_MACHINE = tuple(name for name, spec in SPECS.items() if spec.group == MACHINE)
NETWORK = ("weights", "preprocessing")


def kept_by(own: Settings) -> tuple[str, ...]:
    """The settings that stay as they are where a preset is chosen on the page.

    They are the machine's: how it computes; and the network, where the page was started with other
    weights than those of its preset.

    Args:
        own: The settings that the page was started with.
    """
    own_network = own.weights != PRESETS[nearest(own)].weights
    return (*OF_MACHINE, *(NETWORK if own_network else ()))
