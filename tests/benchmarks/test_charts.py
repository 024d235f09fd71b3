"""The report's charts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from benchmarks import report


def test_page_with_charts(document: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    page = report.write(document, tmp_path / "report")
    links = re.findall(r"!\[.+?\]\((.+?)\)", page.read_text())
    assert {"evaluation.png", "memory.png"} < set(links)
    for link in links:
        with Image.open(page.parent / link) as picture:
            assert min(picture.size) > 100
