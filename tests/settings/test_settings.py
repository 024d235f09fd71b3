"""The lists of the settings are those of the code that they are for."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import fastnst.settings
from fastnst import losses
from fastnst.engines.onnx import providers
from fastnst.losses import gradients, total_variation
from fastnst.network import vgg, weights
from fastnst.settings.settings import (
    CHOICES,
    INITS,
    STATISTICS,
    STYLE_LAYERS,
    TORCHVISION_WEIGHTS,
    WEIGHTS,
)
from fastnst.solvers import minimise


def test_weights() -> None:
    assert set(WEIGHTS) == set(weights.BUILT_IN)
    assert fastnst.Settings().weights == weights.DEFAULT
    assert set(TORCHVISION_WEIGHTS) < set(WEIGHTS)
    assert set(CHOICES["preprocessing"]) == {"auto", *weights.PREPROCESSINGS}


def test_layers() -> None:
    assert set(STYLE_LAYERS) <= set(fastnst.VGG19.layers())


def test_what_the_network_and_the_losses_take() -> None:
    """Rooms below the settings may not import them: each has its list, and they are equal."""
    assert set(CHOICES["pooling"]) == set(vgg.POOLINGS)
    assert set(CHOICES["padding"]) == set(vgg.PADDINGS)
    assert set(CHOICES["tv_form"]) == set(total_variation.FORMS)
    assert set(STATISTICS) == set(losses.STYLE_LOSSES)
    assert set(CHOICES["gradient_norm"]) == {"none", *gradients.NORMS}
    assert set(CHOICES["optimizer"]) == {"adam", *minimise.SOLVERS}
    assert set(CHOICES["provider"]) == {"auto", *providers.PROVIDERS}


def test_inits_are_no_names_of_weights() -> None:
    assert not set(INITS) & set(WEIGHTS)


def test_the_room_imports_no_torch() -> None:
    """Only the standard library, TOML, errors, files and the version; Pillow where it is used."""
    root = Path(fastnst.settings.__file__).parent
    ours = {"fastnst.errors", "fastnst._version", "fastnst"}  # from fastnst import files
    for path in root.glob("*.py"):
        for node in ast.parse(path.read_text()).body:
            modules = []
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                modules = [str(node.module)]
            for module in modules:
                top = module.split(".")[0]
                assert top not in ("torch", "numpy", "PIL", "typer"), path
                if top == "fastnst":
                    assert module in ours or module.startswith("fastnst.settings"), (path, module)
    assert importlib.import_module("fastnst.settings.settings").DEFAULTS["size"] is None
