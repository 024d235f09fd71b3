"""Names that the operating system refuses, in every place that takes one: one line, exit code 2.

Nothing here depends on who runs it: root may read every file, but a name that is too long, a NUL, a
loop of links or a file in the place of a folder stops root too.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from fastnst import cli
from fastnst.batch.jobs import check_jobs, expand, pair
from fastnst.batch.journal import JOURNAL, read_journal
from fastnst.errors import InvalidInput
from fastnst.settings.settings import Settings

NAMES = {
    "too long": "x" * 300,
    "NUL": "a\0b",
    "loop": "loop",
    "below a file": "c.png/x",
}
READ = ("--config", "--resume", "--init", "--weights", "--content-mask", "--style-mask", "CONTENT",
        "STYLE")  # fmt: skip
WRITTEN = {
    "-o": ".png", "--plot": ".svg", "--video": ".mp4", "--checkpoint": "", "--save-config": ""
}  # fmt: skip


@pytest.fixture
def place(tmp_path: Path, photo, monkeypatch) -> Path:
    photo("c.png", 24, 16)
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("loop").symlink_to("loop")
    return tmp_path


def refused(capsys, *arguments: str) -> None:
    assert cli.run_app(arguments) == 2
    said = capsys.readouterr().err
    if "\0" in "".join(arguments):  # which no shell hands over; the parser may refuse it itself
        assert said.startswith("fastnst: ")
    else:
        assert said.startswith("fastnst: ")
        assert said.count("\n") == 1
    assert "Traceback" not in said


@pytest.mark.parametrize("option", READ)
@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_what_cannot_be_read(place, capsys, option: str, name: str) -> None:
    pictures = ["c.png", "c.png"]
    if option in ("CONTENT", "STYLE"):
        pictures[option == "STYLE"] = name
        refused(capsys, "stylize", *pictures, "-o", "o.png")
    else:
        refused(capsys, "stylize", *pictures, "-o", "o.png", option, name)
    assert not Path("o.png").exists()


@pytest.mark.parametrize("option", WRITTEN)
@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_what_cannot_be_written(place, capsys, option: str, name: str) -> None:
    if name == "loop" and WRITTEN[option]:  # the link itself, by the name that the option wants
        name = f"loop{WRITTEN[option]}"
        Path(name).symlink_to(name)
    else:
        name = name if option == "--save-config" else name + WRITTEN[option]
    before = sorted(place.rglob("*"))
    options = [] if option == "-o" else ["-o", "o.png"]
    refused(capsys, "stylize", "c.png", "c.png", *options, option, name, "--iterations", "1",
            "--size", "24", "--init", "loop/never", "--resume", "loop")  # fmt: skip
    assert sorted(place.rglob("*")) == before


@pytest.mark.parametrize("name", ["x" * 300, "loop", "loop/x", "c.png/x"])
def test_folders_that_cannot_be(place, capsys, name: str) -> None:
    refused(capsys, "batch", "c.png", "-s", "c.png", "-o", name)
    refused(capsys, "batch", name, "-s", "c.png", "-o", "out")
    refused(capsys, "batch", "--table", name, "-o", "out")
    refused(capsys, "samples", name)
    assert not Path("out").exists()


@pytest.mark.parametrize("name", ["x" * 300, "a\0b", "loop/x", ""])
def test_patterns_that_cannot_be(place, name: str) -> None:
    with pytest.raises(InvalidInput):
        expand([name])
    assert read_journal(Path(name, "x")) == {}


def test_an_output_below_a_loop_is_refused(place) -> None:
    jobs = pair(["c.png"], ["c.png"], Path("loop"), Settings(), "{content}.png")
    with pytest.raises(InvalidInput, match=r"output loop/c.png cannot be written: .*loop"):
        check_jobs(jobs)


@pytest.mark.parametrize(
    "line",
    [b"\xff\xfe\x80", b"[" * 5000, b'{"output": "a\\u0000b", "fingerprint": "x"}', b"5", b"null",
     b'{"output": 5, "fingerprint": []}', b'{"output": "loop/x"}', b'"words"'],
)  # fmt: skip
def test_a_damaged_line_of_a_journal_is_passed_over(place, line: bytes) -> None:
    good = b'{"output": "a.png", "fingerprint": "f"}\n'
    Path("folder", JOURNAL).write_bytes(line + b"\n" + good)
    assert read_journal(Path("folder"))[str(Path("folder/a.png").resolve())] == "f"


@pytest.mark.parametrize(
    "name",
    ["{content!r}", "{content:>9999999999}", "{content.__class__}", "{content[0]}", "{}", "{0}",
     "{nothing}", "{content", "}", "{content!s:{style}}"],
)  # fmt: skip
def test_a_pattern_of_names_is_no_program(place, name: str) -> None:
    with pytest.raises(InvalidInput, match=r"expected text with \{content\} and \{style\}"):
        pair(["c.png"], ["c.png"], Path("folder"), Settings(), f"{name}.png")


def test_a_pattern_may_have_braces_of_its_own(place) -> None:
    (job,) = pair(["c.png"], ["sample:ink"], Path("o"), Settings(), "{{{style}}}-{content}.png")
    assert job.output == Path("o/{ink}-c.png")
