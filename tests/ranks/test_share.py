"""Which rows a rank owns and needs; rows in several tensors."""

from __future__ import annotations

import pytest
import torch

from fastnst.ranks.protocol import Alone
from fastnst.ranks.share import Rows, Share, too_many_reason
from fastnst.strips.geometry import Grid, Spacing


class One(Alone):
    """One of several ranks."""

    def __init__(self, rank: int, ranks: int) -> None:
        super().__init__()
        self.rank, self.ranks = rank, ranks


@pytest.mark.parametrize("height", [33, 47, 64, 101])
def test_every_band_has_one_owner(height: int) -> None:
    grid = Grid.cut(height, 10, Spacing(4, 4), 8, 8)
    picture = torch.arange(3.0 * height * 10).view(1, 3, height, 10)
    for ranks in range(1, len(grid.rows) + 1):
        shares = [Share.of(grid, One(rank, ranks)) for rank in range(ranks)]
        assert torch.equal(torch.cat([share.own(picture) for share in shares], -2), picture)
        tiles = [tile for share in shares for band in share.bands for tile in share.tiles(band)]
        assert tiles == list(grid)
        for share in shares:
            needed = share.needed(picture)
            assert (needed.start, needed.parts[0].shape[-2]) == (
                max(0, share.start - 4),
                min(height, share.stop + 4) - max(0, share.start - 4),
            )
            for band in share.bands:
                rows = needed.read(band.low, band.high)
                assert torch.equal(rows, picture[..., band.low : band.high, :])
    assert too_many_reason(grid, ranks) is None
    assert "at most" in str(too_many_reason(grid, ranks + 1))


def test_rows_in_several_tensors_are_those_of_one() -> None:
    whole = torch.arange(90.0).view(1, 3, 10, 3)
    rows = Rows(5, whole[..., :2, :], whole[..., 2:2, :], whole[..., 2:7, :], whole[..., 7:, :])
    for low in range(5, 15):
        for high in range(low + 1, 16):
            assert torch.equal(rows.read(low, high), whole[..., low - 5 : high - 5, :])
    assert rows.read(8, 11).data_ptr() == whole[..., 3:, :].data_ptr()  # no copy
    expected = whole.clone()
    expected[..., 1:8, 1:] += 1
    rows.add(6, torch.ones(1, 3, 7, 2), slice(1, None))
    assert torch.equal(whole, expected)
