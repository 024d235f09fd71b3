"""What a run has done so far, as those who go on from it ask."""

from __future__ import annotations

from fastnst.run.losses import Losses
from fastnst.run.prepare import prepare
from fastnst.run.record import ScaleRecord
from fastnst.run.recorder import Recorder
from fastnst.settings.settings import Settings
from helpers.pictures import smooth


def test_the_totals_are_those_of_the_scale_at_hand() -> None:
    """An engine that changes its precision begins anew at each scale."""
    settings = Settings(size=32, style_layers=("relu1_1",), content_layers=("relu1_1",))
    recorder = Recorder(prepare(smooth(32, 24), smooth(24, 32), settings), None)
    recorder.history = [Losses(float(k), {}, {}, 0.0) for k in range(7)]
    recorder.scales = (ScaleRecord(16, 12, 3, 4),)
    recorder.here = ScaleRecord(32, 24, 2, 3)
    assert recorder.totals() == [4, 5, 6]
