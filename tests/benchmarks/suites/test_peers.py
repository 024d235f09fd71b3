"""The suite ``peers``."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.suites import peers
from helpers.benchmarks import good, run_suites


def test_peers_that_are_not_installed(tmp_path: Path) -> None:
    rows = run_suites(tmp_path, "peers", "--cache", str(tmp_path / "cache"))
    assert [r["implementation"] for r in rows] == [peer.name for peer in peers.PEERS]
    assert all("not installed" in r["error"] for r in rows)
    assert not (tmp_path / "cache").exists()


@pytest.mark.slow
def test_peers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "peer.py"
    script.write_text(
        "import shutil, sys, time\n"
        "for step in range(4):\n"
        "    print('done', step)\n"
        "    time.sleep(0.05)\n"
        "shutil.copy(sys.argv[1], sys.argv[2])\n"
    )

    def command(job: peers.Job) -> list[str]:
        return [sys.executable, str(script), str(job.content), str(job.output)]

    fake = peers.Peer("fake", ("fake",), command, re.compile(r"^done (\d+)"))
    crash = replace(fake, name="crash", command=lambda _: [sys.executable, "-c", "1 / 0"])
    monkeypatch.setattr(peers, "PEERS", (fake, crash))
    monkeypatch.setattr(peers, "environment_of", lambda *_: Path(sys.executable))
    rows = run_suites(tmp_path, "peers")
    (ours,), (reference,), (theirs,) = (good(rows, n) for n in ("fastnst", "reference", "fake"))
    assert 0.04 < theirs["seconds"] < 1
    assert theirs["runs"] == 3
    assert {r["evaluations"] for r in (ours, reference, theirs)} == {6}
    assert theirs["loss"] < reference["loss"] * 100
    (failed,) = (r for r in rows if r["implementation"] == "crash")
    assert failed["error"] == "ZeroDivisionError: division by zero"
