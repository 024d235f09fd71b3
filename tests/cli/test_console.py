"""What is printed can be printed everywhere, and a full or closed output is one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fastnst import cli

ENCODINGS = [
    {"PYTHONIOENCODING": "ascii"},
    {"PYTHONIOENCODING": "cp1252"},
    {"PYTHONIOENCODING": "utf-8"},
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
]


def fastnst(
    *arguments: str | bytes, env: dict[str, str] | None = None, **options
) -> subprocess.CompletedProcess[bytes]:
    options.setdefault("stdout", subprocess.PIPE)
    return subprocess.run(
        [sys.executable, "-m", "fastnst", *arguments],
        stderr=subprocess.PIPE,
        env={**os.environ, "COLUMNS": "100", **(env or {})},
        timeout=120,
        **options,
    )


@pytest.mark.parametrize("env", ENCODINGS, ids=lambda env: "-".join(env.values()))
@pytest.mark.parametrize("arguments", [["stylize", "-h"], ["presets"]], ids=" ".join)
def test_every_encoding_takes_it(env: dict[str, str], arguments: list[str]) -> None:
    done = fastnst(*arguments, env=env)
    assert (done.returncode, done.stderr) == (0, b"")
    if env.get("PYTHONIOENCODING") == "ascii":
        assert done.stdout.isascii()


@pytest.mark.parametrize("env", ENCODINGS, ids=lambda env: "-".join(env.values()))
def test_names_of_files(tmp_path: Path, env: dict[str, str]) -> None:
    name = "α → × 😀 :smile: [bold] [/x] ".encode() + b"\xff.png"
    done = fastnst("stylize", name, "sample:ink", env=env, cwd=tmp_path)
    assert done.returncode == 2
    assert b"Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert b"does not exist" in done.stderr
    assert b":smile: [bold] [/x]" in done.stderr
    if env.get("PYTHONIOENCODING") == "utf-8":
        assert name in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("arguments", [["--version"], ["presets"], ["-h"]])
def test_a_full_device_is_one_line(arguments: list[str]) -> None:
    with Path("/dev/full").open("wb") as full:
        done = fastnst(*arguments, stdout=full)
    assert done.returncode == 1
    assert done.stderr == (b"fastnst: the output could not be written: No space left on device\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_device_behind_stderr_leaves_the_exit_code() -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "fastnst", "stylize", "no.png", "no.png"],
            stderr=full, stdout=subprocess.PIPE, timeout=120,
        )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, b"")


def test_a_reader_that_goes_early_is_nothing_to_speak_of() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "fastnst", "presets", "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(60) in (1, 141)  # Typer's code where it notices first, or SIGPIPE's


def test_json_is_the_same_in_every_encoding() -> None:
    found = [json.loads(fastnst("presets", "--json", env=env).stdout) for env in ENCODINGS]
    assert all(one == found[0] for one in found)


@pytest.mark.parametrize(
    "error",
    [MemoryError(), RuntimeError("enforce fail: DefaultCPUAllocator: can't allocate memory")],
    ids=lambda error: type(error).__name__,
)
def test_memory_that_cannot_be_had_is_one_line(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def raised(*_: object) -> None:
        raise error

    monkeypatch.setattr(cli, "make_app", raised)
    assert cli.run_app(["info"]) == 1
    assert capsys.readouterr().err == (
        "fastnst: this process may not have the memory that it needs\n"
    )


def test_any_other_error_is_not_taken_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def raised(*_: object) -> None:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(cli, "make_app", raised)
    with pytest.raises(RuntimeError, match="a fault of ours"):
        cli.run_app(["info"])
