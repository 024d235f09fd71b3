"""The programs in tools/, as modules."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

from helpers import REPOSITORY


def load_tool(name: str) -> ModuleType:
    """A module of tools/, which finds those beside it."""
    folder = str(REPOSITORY / "tools")
    if folder not in sys.path:
        sys.path.insert(0, folder)
    return importlib.import_module(name)
