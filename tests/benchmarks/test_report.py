"""From the JSON to something to read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from benchmarks import report, run


def test_tables_show_winners_losers_and_errors(document: dict[str, Any]) -> None:
    text = report.to_markdown(document)
    assert "| loss and gradient, 256 px | good | fp32 | 1.00 s ± 10 % | 2.00× |  | 3e-07 |" in text
    assert "| loss and gradient, 256 px | bad | fp32 | 4.00 s ± 2 % | 0.50× |  |  |" in text
    assert "* none (loss and gradient fp32 256 px): no | luck" in text
    assert "2.00 GiB" in text
    assert "A machine" in text


def test_readme_is_filled_and_filled_again(document: dict[str, Any], tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"Before.\n\n{report.MARK}\n")
    results = tmp_path / "machine.json"
    run.write_json(document, results)
    report.fill_readme(readme, [results])
    first = readme.read_text()
    assert "0.50×" in first
    report.fill_readme(readme, [results])
    assert readme.read_text() == first
    assert first.startswith("Before.\n\n")

    second = tmp_path / "machine.second.json"
    shutil.copy(results, second)
    report.fill_readme(readme, [results, second])
    assert "0 differ by more than 15 %." in readme.read_text()


def test_comparison_lists_ratios_that_moved(document: dict[str, Any]) -> None:
    other = json.loads(json.dumps(document))
    other["rows"][1]["speedup"] = 2.2  # 10 %: agrees
    other["rows"][2]["speedup"] = 0.4  # 25 %: does not
    text = report.comparison(document, other)
    assert "1 differ by more than 15 %" in text
    assert "| evaluation loss and gradient bad cpu fp32 256 | 0.50× | 0.40× | 25 % |" in text
    assert report.print_comparison(document, other) == 1
    assert report.print_comparison(document, document) == 0
