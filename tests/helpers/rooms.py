"""Who may import whom in ``python/fastnst``: the one table of it, which CONTRIBUTING.md shows.

A room is a folder or a file of ``python/fastnst``. The rooms stand in the order of their floors:
each may import only rooms that stand above it here, and no others than those named. ``ground``
stands for the files that ``GROUND`` names.
"""

from __future__ import annotations

GROUND = ("errors", "_version", "files", "fingerprint", "cache", "claims", "devices")

ROOMS = {
    "errors": "",
    "_version": "",
    "_C": "",
    "files": "errors",
    "fingerprint": "errors",
    "cache": "errors",
    "claims": "errors files",
    "devices": "errors",
    "evaluation": "errors",
    "data": "",
    "samples": "errors files",
    "strips": "ground",
    "ranks": "ground strips",
    "ops": "errors devices _C",
    "network": "ground",
    "losses": "ground ops network",
    "images": "ground samples strips",
    "plots": "ground images",
    "solvers": "ground strips ranks evaluation ops",
    "settings": "ground",
    "objective": "ground strips ranks evaluation ops network losses settings",
    "inputs": "ground samples strips images settings objective",
    "onnx_graph": "ground evaluation network losses settings objective",
    "engines": "ground strips ranks evaluation ops network losses settings objective onnx_graph",
    "run": "ground strips ranks evaluation ops network losses images plots solvers settings"
    " objective inputs engines",
    "output": "ground images",
    "video": "ground evaluation losses images settings inputs run output",
    "info": "ground ops network settings engines",
    "estimate": "ground strips ranks network images settings objective inputs engines run",
    "export": "ground network images settings objective inputs onnx_graph engines run",
    "notebook": "ground run",
    "api": "ground ranks network images settings inputs run notebook video",
    "batch": "ground samples network images settings inputs run",
    "sheet": "ground samples images settings inputs engines run",
    "sheets": "ground images settings inputs run estimate notebook sheet",
    "ui": "ground samples images settings inputs run output api video sheet",
    "cli": "ground samples strips ranks network images settings inputs run output video"
    " plots info estimate export api batch sheet sheets ui",
    "__init__": "errors _version evaluation ops network losses images solvers settings objective"
    " engines inputs run video api sheet sheets",
    "__main__": "cli",
}


def allowed(room: str) -> set[str]:
    """The rooms that a room may import."""
    names = ROOMS[room].split()
    return {one for name in names for one in (GROUND if name == "ground" else (name,))}
