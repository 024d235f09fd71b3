"""The table of what large pictures take: it is in the document as the code prints it."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from fastnst.ops import extension

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.skipif(not extension.is_available(), reason="no compiled extension")
def test_the_document_has_the_table() -> None:
    path = REPOSITORY / "tools" / "memory_table.py"
    spec = importlib.util.spec_from_file_location("memory_table", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.table() in (REPOSITORY / "docs" / "large-pictures.md").read_text("utf-8")
