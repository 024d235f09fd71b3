"""The kernels of csrc/cpu on arm64: built by a cross-compiler and run by QEMU, on small odd shapes
against plain loops in double (tests/helpers/kernel_program has the checks).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from helpers import REPOSITORY
from helpers.once import made_once

COMPILER = shutil.which("aarch64-linux-gnu-g++")
QEMU = shutil.which("qemu-aarch64")
LIBRARIES = "/usr/aarch64-linux-gnu"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("cmake") is None, reason="cmake is not on the path"),
    pytest.mark.skipif(COMPILER is None, reason="aarch64-linux-gnu-g++ is not on the path"),
    pytest.mark.skipif(QEMU is None, reason="qemu-aarch64 is not on the path"),
]


@pytest.fixture(scope="module")
def program(shared_folder: Path) -> Path:
    """The program for arm64."""
    if not (REPOSITORY / "CMakeLists.txt").is_file():
        pytest.skip("not in a checkout")

    def make(path: Path) -> None:
        build = shared_folder / "arm64"
        configure = [
            *("cmake", "-S", REPOSITORY, "-B", build),
            *("-DFASTNST_KERNEL_PROGRAM=ON", "-DFASTNST_WERROR=ON"),
            *("-DCMAKE_SYSTEM_NAME=Linux", "-DCMAKE_SYSTEM_PROCESSOR=aarch64"),
            f"-DCMAKE_CXX_COMPILER={COMPILER}",
        ]
        for command in (configure, ["cmake", "--build", build, "-j", str(os.cpu_count())]):
            done = subprocess.run(command, capture_output=True, text=True)
            assert done.returncode == 0, done.stdout + done.stderr
        (build / "kernel_program").replace(path)

    return made_once(shared_folder / "kernel_program", make)


def run(program: Path, processor: str, *arguments: str) -> str:
    command = [QEMU, "-cpu", processor, "-L", LIBRARIES, program, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_kernel_on_arm64(program: Path) -> None:
    output = run(program, "max")
    assert "instruction sets: scalar neon neonbf16\n" in output
    assert re.search(r"\d{4} checks, 0 failed", output), output


def test_bfloat16_only_where_the_processor_has_it(program: Path) -> None:
    assert run(program, "cortex-a72", "isas") == "instruction sets: scalar neon\n"
