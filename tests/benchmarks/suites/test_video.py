"""The suite ``video``."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import report
from benchmarks.suites import video
from helpers.benchmarks import checked, good, run_suites


@pytest.mark.slow  # three pictures are drawn, twelve frames optimised
def test_a_film_flickers_less_than_its_frames_alone(tmp_path: Path) -> None:
    pytest.importorskip("cv2")
    rows = run_suites(tmp_path, "video")
    assert "warping error" in report.to_markdown(checked(tmp_path / "results.json"))
    alone, warped = (good(rows, name)[0] for name in (video.BASELINE, video.WARPED))
    ours, static = good(rows, video.OURS)
    assert ours["warping_error"] < 0.2 * alone["warping_error"]
    assert warped["warping_error"] < alone["warping_error"]
    assert alone["iterations"] == 10
    assert static["iterations"] == 0
    assert abs(static["brightness_change"]) < 1e-6
    assert abs(static["style_change"]) < 1e-6
