"""Kill -9 leaves nothing corrupt; ``python tools/crash_test.py`` does it a hundred times."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_kill_leaves_nothing_corrupt_and_work_goes_on(repository: Path) -> None:
    script = repository / "tools" / "crash_test.py"
    if not script.is_file():
        pytest.skip("not in a checkout")
    done = subprocess.run(
        [sys.executable, str(script), "--count", "12"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "12 rounds" in done.stdout
