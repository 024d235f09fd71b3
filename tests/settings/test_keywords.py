"""The typed keyword settings: the same names as ``Settings``, and a typo that a checker finds."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from fastnst.settings.keywords import SettingsDict
from fastnst.settings.settings import Settings


def test_the_keys_are_the_settings() -> None:
    assert list(SettingsDict.__annotations__) == [field.name for field in fields(Settings)]
    assert not SettingsDict.__required_keys__


def test_the_types_are_those_of_the_settings() -> None:
    wider = {
        "str": ("str", "str | os.PathLike[str]"),
        "int": ("int",),
        "float": ("float",),
        "tuple[str, ...]": ("Sequence[str]",),
        "tuple[float, ...]": ("Sequence[float]",),
        "tuple[int, ...]": ("Sequence[int]",),
    }
    for field in fields(Settings):
        text = str(SettingsDict.__annotations__[field.name])
        text = text.removeprefix("ForwardRef('").split("')")[0].split("',")[0]
        plain = str(field.type).removesuffix(" | None")
        assert text.removesuffix(" | None") in wider[plain], field.name
        assert text.endswith("| None") == str(field.type).endswith("| None"), field.name


@pytest.mark.slow
def test_a_typo_fails_in_mypy(tmp_path: Path) -> None:
    api = pytest.importorskip("mypy.api")
    snippet = tmp_path / "snippet.py"
    snippet.write_text(
        "from pathlib import Path\n"
        "import fastnst\n"
        'fastnst.stylize("a", "b", size=3, style_layers=["relu1_1"], init=Path("c.png"))\n'
        'fastnst.texture("a", stlye_weight=3.0)\n'
        'fastnst.reconstruct("a", size="large")\n'
        'settings: fastnst.SettingsDict = {"size": 3}\n'
        'fastnst.stylize("a", "b", preset="fast", **settings)\n'
    )
    out, _, code = api.run([str(snippet), "--no-incremental", "--follow-imports=silent"])
    assert code == 1
    lines = [line for line in out.splitlines() if "snippet.py" in line]
    assert [line.split(":")[1] for line in lines if ": error:" in line] == ["4", "5"], out
    assert "stlye_weight" in out
