"""The tab for contact sheets: what its controls hold."""

from __future__ import annotations

import pytest

pytest.importorskip("gradio")

from fastnst.ui.sheet_tab import from_sheet_controls, to_sheet_controls


def test_controls_hold_what_is_varied() -> None:
    for vary in ((("strength", "0.1,0.2"),), (("style", ""), ("strength", "0.1,0.2"))):
        assert from_sheet_controls(to_sheet_controls(vary)) == vary
    assert from_sheet_controls(["", None, "", None]) == ()
