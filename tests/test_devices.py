"""The device of a run, and what is said of one that is not there."""

from __future__ import annotations

import os
import subprocess
import sys


def test_without_a_visible_gpu_everything_runs_on_the_cpu() -> None:
    code = (
        "import fastnst, numpy\n"
        "from fastnst.info import info\n"
        "grey = numpy.full((32, 32, 3), 0.5, numpy.float32)\n"
        "result = fastnst.stylize(grey, grey, size=32, iterations=1)\n"
        "print(result.device, info()['chosen']['device'])\n"
        "try:\n"
        "    fastnst.stylize(grey, grey, size=32, iterations=1, device='cuda:1')\n"
        "except fastnst.BackendUnavailable as error:\n"
        "    print(error)\n"
    )
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first == "cpu cpu"
    assert second.startswith("device cuda:1 cannot be used: ")
