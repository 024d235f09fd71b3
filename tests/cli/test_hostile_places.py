"""Where the command is run from: closed streams, a folder that is gone, widths that are none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

FASTNST = f"{sys.executable} -m fastnst"
needs_bash = pytest.mark.skipif(not Path("/bin/bash").exists(), reason="no bash here")


def shell(folder: Path, line: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a line in bash, which is in a folder."""
    done = subprocess.run(
        ["/bin/bash", "-c", line.format(fastnst=FASTNST)],
        cwd=folder, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


@needs_bash
@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("{fastnst} presets >&-", 0),
        ("{fastnst} presets --json >&- 2>&-", 0),
        ("{fastnst} --version 2>&-", 0),
        ("{fastnst} stylize no.png no.png >&- 2>&-", 2),
        ("{fastnst} stylize --sizee 3 >&- 2>&-", 2),
        ("{fastnst} stylize no.png no.png <&-", 2),
        ("{fastnst} stylize - sample:swirl -o o.png <&-", 2),
    ],
)
def test_closed_streams_leave_the_exit_code(tmp_path: Path, line: str, code: int) -> None:
    found, _, said = shell(tmp_path, line)
    assert "Traceback" not in said
    assert said.count("\n") <= 1
    assert found == code
    assert list(tmp_path.iterdir()) == []


@needs_bash
@pytest.mark.parametrize("command", ["info", "stylize /c.png /s.png", "presets"])
def test_a_working_directory_that_is_gone_is_one_line(tmp_path: Path, command: str) -> None:
    (tmp_path / "gone").mkdir()
    line = f"cd gone && rmdir ../gone && {{fastnst}} {command}"
    assert shell(tmp_path, line) == (
        2, "", "fastnst: the working directory is gone: change to one that is there\n"
    )  # fmt: skip


@needs_bash
def test_a_width_that_is_none_is_as_if_it_were_not_said(tmp_path: Path) -> None:
    plain = shell(tmp_path, "env -u COLUMNS -u LINES {fastnst} presets")
    assert "gatys" in plain[1]
    for value in ("0", "-1", "²", "wide", "9999999999"):
        said = f"COLUMNS={value} LINES={value} TERMINAL_WIDTH={value}"
        assert shell(tmp_path, f"{said} {{fastnst}} presets") == plain, value


@needs_bash
def test_a_width_without_room_for_a_word_is_as_if_it_were_not_said(tmp_path: Path) -> None:
    plain = shell(tmp_path, "env -u COLUMNS {fastnst} -h")
    assert "stylize" in plain[1]
    assert shell(tmp_path, "COLUMNS=1 TERMINAL_WIDTH=x {fastnst} -h") == plain
