"""The notebook runs from top to bottom, and has no outputs in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

NOTEBOOK = Path(__file__).parents[2] / "examples" / "paper_to_fastnst.ipynb"


def test_its_cells_run_in_order() -> None:
    cells = json.loads(NOTEBOOK.read_text("utf-8"))["cells"]
    names: dict[str, Any] = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            exec(compile("".join(cell["source"]), cell["id"], "exec"), names)  # noqa: S102 - our own cells
    assert names["result"].iterations == 5
    # the one call is the loop above it: the same solver, objective and start
    assert names["result"].losses.total <= names["iterate"].loss * (1 + 1e-5)
