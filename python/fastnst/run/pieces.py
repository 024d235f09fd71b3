"""How a run's picture may be cut, and how a checkpoint says where it was."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from fastnst.engines.create import Choice, choose_precision, spacing
from fastnst.errors import InvalidInput
from fastnst.network.architecture import VGG19
from fastnst.run.footprint import counts
from fastnst.settings.settings import Settings
from fastnst.strips.geometry import Grid, Spacing


@dataclass(frozen=True)
class Plan:
    """How a run is made to fit in memory.

    Attributes:
        grid: How its picture is cut; None: not at all. Results depend on it.
        keeps_content: Whether the content targets are kept. If not they are computed anew for each
            piece, with the same bits.
        scratch: The folder of the file that holds vectors, pairs and content targets, which changes
            no bit; None: they lie in memory.
        keeps_features: Whether the features of all pieces are kept between the two passes of an
            evaluation. If not they are computed twice, with the same bits.
    """

    grid: Grid | None = None
    keeps_content: bool = True
    scratch: Path | None = None
    keeps_features: bool = False

    @property
    def cut(self) -> bool:
        """Whether there are several pieces."""
        return self.grid is not None and not self.grid.is_whole

    def home(self, device: torch.device) -> torch.device:
        """Where the picture lies that is computed on a device: in pieces, in main memory."""
        return torch.device("cpu") if self.cut else device

    @property
    def strips(self) -> int:
        """The number of pieces."""
        return 1 if self.grid is None else len(self.grid)


EXCHANGING = ", exchanging rows"  # of a checkpoint's text, after the sizes
WHOLE = Plan()  # in one piece, in memory


def cuts(settings: Settings, device: torch.device) -> Spacing:
    """What the cuts of a run's picture must keep to.

    Args:
        settings: The settings of the run, with at least one loss on the network.
        device: Where it runs.
    """
    content = settings.content_weights() if settings.content_weight else {}
    style = settings.layer_weights() if settings.style_weight else {}
    engine = "native" if counts(settings, device) else "torch"
    choice = Choice(device, engine, choose_precision(settings, device))
    # The layers of VGG-16 are among those of VGG-19.
    return spacing(settings, VGG19.up_to({*content, *style}), choice)


def name(grid: Grid | None) -> dict[str, str]:
    """What a checkpoint writes down of a grid, for ``restored``; nothing of a whole picture."""
    if grid is None or grid.is_whole:
        return {}
    rows, columns = grid.rows[0].owned_length, grid.columns[0].owned_length
    return {"strips": f"{columns}×{rows} pixels" + (EXCHANGING if grid.exchanges else "")}


def restored(
    text: str | None, height: int, width: int, settings: Settings, device: torch.device
) -> Grid | None:
    """The grid that ``name`` wrote down: a run goes on with it, whatever memory is free now.

    Raises:
        InvalidInput: if the engine in use cannot compute it.
    """
    if text is None:
        return None
    exchanges, spacing = text.endswith(EXCHANGING), cuts(settings, device)
    numbers = text.removesuffix(EXCHANGING).removesuffix(" pixels").split("×")
    try:
        columns, rows = (int(number) for number in numbers)
        if exchanges and not counts(settings, device):
            raise ValueError("only the native engine exchanges rows")
        spacing = spacing.exchanging() if exchanges else spacing
        return Grid.cut(height, width, spacing, rows, columns)
    except ValueError as error:
        raise InvalidInput(
            f"the checkpoint has strips of {text}, which this engine or precision cannot compute"
        ) from error


def with_grid(plan: Plan, grid: Grid | None) -> Plan:
    """The plan of a run that goes on with the grid it began with.

    Args:
        plan: What the run would do if it began now, with the memory that is free.
        grid: That of its checkpoint.

    Raises:
        InvalidInput: if bands that exchange rows do not fit in memory.
    """
    whole = plan.grid is None or plan.grid.exchanges
    if grid is not None and grid.exchanges and not whole:
        raise InvalidInput(
            "the checkpoint is of ranks that kept all features of their parts, for which there is "
            "not enough memory here: go on with more --ranks or --machines, or less beside it"
        )
    return replace(plan, grid=grid, keeps_features=plan.keeps_features and grid == plan.grid)
