"""Named settings that reproduce a paper or another system.

Their formulas, and how they become multiples of the normal form in ``objective.py``, are tested in
``tests/test_presets.py`` against the formula of each.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from types import MappingProxyType
from typing import Any

from fastnst.errors import InvalidInput
from fastnst.settings import Settings


def _artistyle() -> Settings:
    """What srijarkoroy/ArtiStyle runs (not what its README says).

    Its style loss, 1e6 · ⅕ · MSE of F Fᵀ / (C·H·W), is 2e5 / C² · g_l in the normal form. It clamps
    the picture inside the closure, which spoils L-BFGS's curvature pairs; that is not reproduced.
    """
    channels = {"conv1_1": 64, "conv1_2": 64, "conv2_1": 128, "conv2_2": 128, "conv3_1": 256}
    return Settings(
        size=0,
        style_fit="content",
        content_weight=1.0,
        style_weight=2e5,
        content_layers=("conv2_2",),
        style_layers=tuple(channels),
        style_layer_weights=tuple(1 / c**2 for c in channels.values()),
        pooling="max",
        weights="torchvision",
    )


def _fast() -> Settings:
    """The objective of the default, reached with half the iterations, and fewer curvature pairs.

    Measured by the benchmark's suite ``loss``.
    """
    return Settings(init="matched", optimizer="spectral", history_size=20, iterations=150)


PRESETS: Mapping[str, Settings] = MappingProxyType(
    {"gatys": Settings(), "fast": _fast(), "artistyle": _artistyle()}
)
DESCRIPTIONS: Mapping[str, str] = MappingProxyType(
    {
        "gatys": "Gatys, Ecker and Bethge 2015: normalised VGG-19, average pooling, white noise",
        "fast": "the same objective sooner: colour-matched start, L-BFGS that knows frequencies",
        "artistyle": "ArtiStyle as it runs: torchvision VGG-19 to conv3_1 before ReLU, max pooling",
    }
)


def make_settings(preset: str = "gatys", overrides: Mapping[str, Any] | None = None) -> Settings:
    """A preset with some of its settings replaced.

    Args:
        preset: A key of ``PRESETS``.
        overrides: ``{setting: value}``; the names are the attributes of ``Settings``.

    Raises:
        InvalidInput: for an unknown preset or setting (with the closest match), or a bad value.
    """
    if preset not in PRESETS:
        raise InvalidInput(f"unknown preset {preset!r}{_closest(preset, PRESETS)}")
    names = [field.name for field in fields(Settings)]
    for name in overrides or {}:
        if name not in names:
            raise InvalidInput(f"unknown setting {name!r}{_closest(name, names)}")
    return replace(PRESETS[preset], **(overrides or {}))


def _closest(name: str, known: Iterable[str]) -> str:
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else f": choose one of {', '.join(known)}"
