"""What makes a run the run that it is: a checkpoint is resumed by no other."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fastnst.devices import model, rounds_to_tf32
from fastnst.engines.mixed_engine import MixedEngine
from fastnst.errors import InvalidInput
from fastnst.evaluation import Engine
from fastnst.run import pieces
from fastnst.run.preparation import Preparation
from fastnst.settings.settings import SPECS, Settings
from fastnst.strips.geometry import Grid

# Settings that may differ from those of the run that wrote the checkpoint: how far to go, and what
# was asked for where what ran is compared instead, as ``identity_of`` names it.
FREE_SETTINGS = ("iterations", "engine", "provider", "device", "precision")


@dataclass(frozen=True)
class Identity:
    """What a run is made from, and by. A run with another identity takes another path.

    Attributes:
        settings: The settings, without ``FREE_SETTINGS``, as JSON has them.
        made_from: What else the run depends on, by a name for messages: SHA-256 of the decoded
            pictures and of the weights, and the engine with its provider, the device, and the
            precision with its rounding, that run.
    """

    settings: Mapping[str, Any]
    made_from: Mapping[str, str]

    @classmethod
    def of(cls, settings: Settings, made_from: Mapping[str, str], scales: int = 1) -> Identity:
        """The identity of a run with these settings, over so many scales."""
        free = set(FREE_SETTINGS)
        if scales > 1:  # a scale that is done keeps its number
            free.remove("iterations")
        # The contents of files are compared, among what the run is made from, not their names.
        fixed = {
            name: value
            for name, value in settings.to_dict().items()
            if name not in free and not SPECS[name].kind.names_file(value)
        }
        return cls(json.loads(json.dumps(fixed)), dict(made_from))

    def differences(self, now: Identity) -> list[str]:
        """What ``now`` has otherwise than this identity, each in a few words."""
        changed = [
            f"{name} was {self.settings.get(name)!r} and is {now.settings.get(name)!r}"
            for name in sorted({*self.settings, *now.settings})
            if self.settings.get(name) != now.settings.get(name)
        ]
        for name in sorted({*self.made_from, *now.made_from}):
            before, after = self.made_from.get(name), now.made_from.get(name)
            if before != after:
                short = before is not None and after is not None and len(before) < 32
                changed.append(
                    f"{name} was {before} and is {after}" if short else f"another {name}"
                )
        return changed

    def check(self, now: Identity, path: Path) -> None:
        """Refuse to go on with another run than the one that wrote a checkpoint.

        Args:
            now: The identity of the run that is to go on.
            path: The checkpoint, for the message.

        Raises:
            InvalidInput: naming everything that differs.
        """
        if changed := self.differences(now):
            raise InvalidInput(f"checkpoint {path} is of another run: {'; '.join(changed)}")


def identity_of(prepared: Preparation, engine: Engine, grid: Grid | None) -> Identity:
    """What identifies a run at one scale: its settings, pictures, weights, engine and strips."""
    provider = "" if engine.provider is None else f" ({engine.provider})"
    rounding = " (TF32)" if _rounds(engine, prepared) else ""
    if isinstance(engine, MixedEngine) and engine.finer != "fp32":
        rounding += f" (then {engine.finer})"
    made_from = pieces.name(grid) | {
        "file of weights": prepared.weights.sha256,
        "engine": engine.name + provider,
        "device": model(prepared.device),
        "precision": engine.precision + rounding,
    }
    given = prepared.sources.digests | made_from
    return Identity.of(prepared.settings, given, len(prepared.schedule))


def _rounds(engine: Engine, prepared: Preparation) -> bool:
    """Whether products of float32 features are rounded to TF32, at any time of the run."""
    later = engine.precision == "mixed" and rounds_to_tf32(prepared.device, torch.float32)
    return engine.tf32 or later
