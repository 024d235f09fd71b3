"""The build without a compiler: an error that says what to do, and a fallback that needs none."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(shutil.which("cmake") is None, reason="cmake is not on the path")


def configure(repository: Path, build: Path, *options: str) -> subprocess.CompletedProcess:
    if not (repository / "CMakeLists.txt").is_file():
        pytest.skip("not in a checkout")
    return subprocess.run(
        ["cmake", "-S", repository, "-B", build, "-G", "Unix Makefiles", *options],
        env={**os.environ, "CXX": "/nonexistent/c++"},
        capture_output=True,
        text=True,
    )


def test_no_compiler_is_an_error_that_names_the_fallback(repository: Path, tmp_path: Path) -> None:
    done = configure(repository, tmp_path)
    text = " ".join(done.stderr.split())
    assert done.returncode != 0
    assert "no C++ compiler was found" in text
    assert "-Ccmake.define.FASTNST_NATIVE=OFF" in text
    assert "FASTNST_NATIVE=OFF pip install ." in text


def test_the_fallback_needs_no_compiler(repository: Path, tmp_path: Path) -> None:
    done = configure(repository, tmp_path, "-DFASTNST_NATIVE=OFF")
    assert done.returncode == 0, done.stderr
    assert "no extension module" in done.stdout
