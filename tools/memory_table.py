"""What large pictures take, by the memory model of the code: the table of docs/large-pictures.md.

    python tools/memory_table.py

Nothing is run. Each row is a picture with VGG-19 to relu5_1, content at relu4_2, ten curvature
pairs in eight bits, and a style picture of 4 megapixels; each column a machine with so much memory
that is free. Needs the compiled extension, whose memory is what is counted.
"""

from __future__ import annotations

from pathlib import Path

from fastnst.run.memory import Need, estimate, plans
from fastnst.run.pieces import Plan
from fastnst.run.planning import SHARE, grid_within
from fastnst.settings.settings import Settings

SIZES = {
    "17 MP, A3 at 300 dpi": (4961, 3508),
    "50 MP": (8192, 6144),
    "100 MP": (11585, 8689),
    "1 GP": (36636, 27477),
}
MACHINES = (8, 24, 128)  # GB of free memory
STYLE_PIXELS = 4_000_000
SETTINGS = Settings(engine="native", precision="fp32", history_size=10)


def said(need: Need, free: float, scratch: Path | None) -> str:
    """How a run fits, in a few words."""
    budget = int(SHARE * free)
    if need.whole() <= budget:
        return f"whole, {need.whole() / 1e9:.1f} GB"
    for plan in plans(need, scratch):
        grid = grid_within(need, plan, budget)
        if grid is None:
            continue
        found = Plan(grid, plan.keeps_content, plan.scratch)
        redone = grid.computed_pixels / need.pixels
        text = f"{len(grid)} pieces, {estimate(need, found) / 1e9:.1f} GB, halo × {redone:.2f}"
        if plan.scratch is not None:
            return f"{text}, {need.mapped() / 1e9:.0f} GB of scratch"
        return text if plan.keeps_content else f"{text}, targets recomputed"
    return "no"


def table() -> str:
    """The table in Markdown."""
    heads = ["picture", *(f"{n} GB" for n in MACHINES)]
    lines = [" | ".join(heads), " | ".join("---" for _ in heads)]
    for name, (width, height) in SIZES.items():
        need = Need(width, height, SETTINGS, style_pixels=STYLE_PIXELS)
        for way, scratch in (("", None), (", `--scratch`", Path())):
            cells = [said(need, free * 1e9, scratch) for free in MACHINES]
            if scratch is None or any("scratch" in cell for cell in cells):
                lines.append(" | ".join([name + way, *cells]))
    return "\n".join(f"| {line} |" for line in lines)


if __name__ == "__main__":
    print(table())
