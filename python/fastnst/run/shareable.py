"""Which runs can be cut into pieces, and which can be shared by ranks: known from their settings.

Nothing here imports torch: what cannot be is said at once, before any process is started.
"""

from __future__ import annotations

from fastnst.errors import InvalidInput
from fastnst.settings.settings import Settings

SHARED_SOLVERS = ("lbfgs", "spectral", "adam")


def unavailable_reason(settings: Settings) -> str | None:
    """Why several ranks cannot share a run, or None if they can."""
    if settings.optimizer not in SHARED_SOLVERS:
        *others, last = SHARED_SOLVERS
        return (
            f"optimizer {settings.optimizer} works on the whole picture: "
            f"choose {', '.join(others)} or {last}"
        )
    return no_pieces_reason(settings)


def refuse(ranks: int, reason: str) -> InvalidInput:
    """What is raised where so many ranks cannot share a run."""
    return InvalidInput(f"{ranks} ranks cannot share this picture: {reason}")


def no_pieces_reason(settings: Settings) -> str | None:
    """Why a picture cannot be computed in pieces, or None if it can."""
    if settings.engine == "onnx":
        return "engine onnx computes no strips"
    if settings.gradient_norm != "none":
        return f"gradient_norm {settings.gradient_norm} needs the whole picture at once"
    if not (settings.content_weight or settings.style_weight):
        return "it has no loss on the network"
    return None
