"""The suite ``video``."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import report
from benchmarks.options import Options
from benchmarks.suites import video
from helpers import REPOSITORY
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


def test_every_row_of_the_page_about_films_has_its_arm(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[str, float]] = []
    monkeypatch.setattr(video, "_frames", lambda *_: [])
    monkeypatch.setattr(video, "_alone", lambda *_: None)
    monkeypatch.setattr(video, "_film", lambda _, settings, options: (settings, options))
    monkeypatch.setattr(video, "_row", lambda _, name, film, __: made.append((name, film)))
    options = Options(quick=True)
    for _ in video.measure(video.cases(options)[0], options):
        pass
    films = {
        (film[0].init, film[1].temporal_weight): name for name, film in made if film is not None
    }
    for weight, text in ((60.0, " --temporal-weight 60"), (100.0, " --temporal-weight 100"),
                         (300.0, "")):  # fmt: skip
        assert films["noise", weight] == f"fastnst video --init noise{text}"
        assert f"| `--init noise{text}` |" in (REPOSITORY / "docs" / "video.md").read_text("utf-8")
