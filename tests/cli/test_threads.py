"""``--threads`` and ``FASTNST_THREADS``: who computes with how many."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch

from fastnst.cli import run_app
from fastnst.cli.options import use_threads

CODE = """
import sys
from fastnst.cli.options import use_threads
assert "torch" not in sys.modules
use_threads(1)
import torch
print(torch.get_num_threads())
"""


@pytest.fixture(autouse=True)
def _threads(monkeypatch):
    before = torch.get_num_threads()
    monkeypatch.setenv("OMP_NUM_THREADS", "2")  # and what it was afterwards
    monkeypatch.delenv("FASTNST_THREADS", raising=False)
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def _told(capsys, *arguments: str) -> int:
    assert run_app(["info", "--json", *arguments]) == 0
    return int(json.loads(capsys.readouterr().out)["threads"])


def test_the_option_goes_before_the_variable(capsys, monkeypatch) -> None:
    assert _told(capsys) == 2
    assert _told(capsys, "--threads", "3") == 3
    monkeypatch.setenv("FASTNST_THREADS", "1")
    assert _told(capsys) == 1
    assert _told(capsys, "--threads", "2") == 2
    assert os.environ["OMP_NUM_THREADS"] == "2"  # for what is loaded later


def test_a_run_computes_with_them(tmp_path, monkeypatch) -> None:
    seen: list[int] = []
    name = "fastnst.run.run.check_process"
    monkeypatch.setattr(name, lambda: seen.append(torch.get_num_threads()))
    out = tmp_path / "out.png"
    run = ["stylize", "sample:harbour", "sample:swirl", "--size", "32", "--iterations", "0"]
    assert run_app([*run, "-o", str(out), "--threads", "1", "--quiet"]) == 0
    assert seen == [1]


@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5", "100000000000"])
@pytest.mark.parametrize("by_variable", [False, True])
def test_what_is_no_number_of_threads(capsys, monkeypatch, value: str, by_variable: bool) -> None:
    if by_variable:
        monkeypatch.setenv("FASTNST_THREADS", value)
    option = [] if by_variable else ["--threads", value]
    assert run_app(["stylize", "sample:harbour", "sample:swirl", *option]) == 2
    said = capsys.readouterr().err
    assert ("FASTNST_THREADS" if by_variable else "--threads") in said
    assert not by_variable or len(said.splitlines()) == 1
    assert torch.get_num_threads() == 2


def test_none_leaves_everything_as_it_is() -> None:
    use_threads(None)
    assert os.environ["OMP_NUM_THREADS"] == "2"
    assert torch.get_num_threads() == 2


def test_it_is_there_before_torch_is_loaded() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"
