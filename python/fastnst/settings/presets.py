"""Named settings that reproduce a paper or another system.

Their formulas, and how they become multiples of the normal form in ``objective.py``, are tested in
``tests/settings/test_presets.py`` against the formula of each.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from fastnst.errors import InvalidInput
from fastnst.settings.kinds import shown
from fastnst.settings.settings import DEFAULTS, SPECS, TORCHVISION_WEIGHTS, Settings

DEFAULT_PRESET = "gatys"  # of ``Settings()`` and the functions of ``fastnst``
FIRST_PRESET = "fast"  # of the commands that give a picture or a film a style, and of the page
# Presets whose total variation is against grain: who weights it and names no form means another.
AGAINST_GRAIN = ("fast", "hires")
# What pictures of several presets have in common where they are compared: settings that no preset
# has of its own and that go with none of these, and the size.
COMMON = (
    *("size", "strength", "style_size", "style_scale", "style_blend", "color", "gradient_norm"),
    *("seed", "engine", "provider", "device", "precision"),
)
_PRE_RELU = {"conv1_1": 64, "conv1_2": 64, "conv2_1": 128, "conv2_2": 128, "conv3_1": 256}
_PAPER = {"relu1_1": 64, "relu2_1": 128, "relu3_1": 256, "relu4_1": 512, "relu5_1": 512}


def _style(weights: Mapping[str, float]) -> dict[str, Any]:
    """The settings for style layers with weights w_l."""
    return {"style_layers": tuple(weights), "style_layer_weights": tuple(weights.values())}


def _per_square(channels: Mapping[str, int]) -> dict[str, Any]:
    """Of systems that divide Gram matrices by C·H·W: their mean square is 1 / C² · g_l."""
    return _style({layer: 1 / c**2 for layer, c in channels.items()})


def _artistyle() -> Settings:
    """What srijarkoroy/ArtiStyle runs (not what its README says).

    Its style loss, 1e6 · ⅕ · MSE of F Fᵀ / (C·H·W), is 2e5 / C² · g_l in the normal form. It clamps
    the picture inside the closure, which spoils L-BFGS's curvature pairs; that is not reproduced.
    """
    return Settings(
        size=0,
        style_fit="content",
        content_weight=1.0,
        style_weight=2e5,
        content_layers=("conv2_2",),
        **_per_square(_PRE_RELU),
        pooling="max",
        weights="torchvision",
    )


def _fast() -> Settings:
    """The default's objective, reached in half the iterations; the suite ``loss`` measures it.

    A result of 1024 pixels and more begins at a half of it, or less, of 512 at least: strokes do
    not grow with a picture, and started at 1024 a cloudless sky stayed a tinted photograph in its
    corners, at 2048 most of it. Half as many iterations at each further scale take twice as long
    as those of the one before.

    Its total variation is of colour alone: without it fine colours have two to seven times the
    painting's power where that is small, and no other loss asks for them (docs/quality.md).
    """
    return Settings(
        tv_weight=2.0,
        tv_form="color",
        init="matched",
        optimizer="spectral",
        iterations=150,
        min_size=512,
        scale_step=2.0,
        scale_iterations=(100, 50, 25, 12),
    )


def _pytorch_tutorial() -> Settings:
    """PyTorch's tutorial "Neural Transfer Using PyTorch": ArtiStyle's layers, without its ⅕.

    content MSE + 1e6 · Σ MSE of F Fᵀ / (C·H·W), from the content picture.
    """
    return replace(_artistyle(), size=512, style_weight=1e6, init="content")


def _neural_style() -> Settings:
    """ProGamerGov/neural-style-pt, jcjohnson/neural-style in PyTorch.

    5 · content MSE + 100 · Σ MSE of F Fᵀ / (C·H·W) + 1e-3 · Σ |differences| in units of 0–255. In
    jcjohnson's the last is ½ Σ of squares, in the gradient alone: use ``tv_form="squared-sum"`` and
    ``tv_weight=0.5e-3 * 255**2`` for the loss that has this gradient. The sum makes the weight of
    the total variation depend on the size, as theirs does.
    """
    return Settings(
        size=512,
        iterations=1000,
        content_weight=5.0,
        style_weight=100.0,
        tv_weight=1e-3 * 255,
        tv_form="absolute-sum",
        **_per_square(_PAPER),
        pooling="max",
        weights="vgg19",
    )


def _pastiche() -> Settings:
    """dstein64/pastiche, which is Gatys's own notebook × 0.01.

    0.01 · content MSE + 0.01 · Σ 1e3 / C² · MSE of F Fᵀ / (H·W), the mean of that over the styles.
    """
    return Settings(
        size=500,
        iterations=1000,
        init="content",
        content_weight=0.01,
        style_weight=10.0,
        **_per_square(_PAPER),
        blending="losses",
        pooling="max",
        weights="vgg19",
    )


def _gordicaleksa() -> Settings:
    """gordicaleksa/pytorch-neural-style-transfer with L-BFGS, from the content picture.

    1e5 · content MSE + 3e4 · ⅕ · Σ squares of the differences of F Fᵀ / (C·H·W) + Σ |differences|
    in units of 0–255. The sum of squares is g_l itself, so that the deep layers outweigh the
    others.
    """
    return Settings(
        size=512,
        iterations=1000,
        init="content",
        content_weight=1e5,
        style_weight=3e4,
        tv_weight=255.0,
        tv_form="absolute-sum",
        **_style(dict.fromkeys(_PAPER, 1 / 5)),
        pooling="max",
        weights="torchvision",
        preprocessing="torchvision-255",
    )


def _crowsonkb() -> Settings:
    """crowsonkb/style-transfer-pytorch as of 2023.

    0.015 · content MSE + Σ w_l · W₂² / C + 2 · the nine-point total variation, by Adam, over five
    scales √2 apart. Its matrix roots are 12 Newton–Schulz iterations; here they are exact.
    """
    proportions = dict(zip(_PAPER, (256, 64, 16, 4, 1), strict=True))
    return Settings(
        size=512,
        min_size=128,
        scale_step=2**0.5,
        iterations=1000,
        scale_iterations=(500,),
        init="content",
        content_weight=0.015,
        style_weight=1.0,
        tv_weight=2.0,
        tv_form="nine-point",
        **_style({layer: w / sum(proportions.values()) for layer, w in proportions.items()}),
        statistics=("wasserstein",),
        pooling="max",
        padding="replicate",
        weights="torchvision",
        optimizer="adam",
        learning_rate=0.02,
        averaging=0.99,
    )


def _hires() -> Settings:
    """Preset gatys for pictures of any size: coarse to fine, so that strokes are large.

    An iteration takes four times as long at each further scale. From 1024 pixels on there are about
    half as many, so that a scale takes twice as long as the one before. With L-BFGS alone the same
    iterations end at more loss, and with less fine detail than the painting has (docs/quality.md).
    The total variation of colour has a quarter of the weight that it has in ``fast``.
    """
    return Settings(
        tv_weight=0.5,
        tv_form="color",
        size=1024,
        min_size=256,
        scale_step=2.0,
        scale_iterations=(150, 75, 40, 20, 10),
        init="matched",
        optimizer="spectral",
        history_size=20,
    )


PRESETS: Mapping[str, Settings] = MappingProxyType(
    {
        "gatys": Settings(),
        "fast": _fast(),
        "hires": _hires(),
        "artistyle": _artistyle(),
        "pytorch-tutorial": _pytorch_tutorial(),
        "neural-style": _neural_style(),
        "pastiche": _pastiche(),
        "gordicaleksa": _gordicaleksa(),
        "crowsonkb": _crowsonkb(),
    }
)
DESCRIPTIONS: Mapping[str, str] = MappingProxyType(
    {
        "gatys": "Gatys, Ecker and Bethge 2015: normalised VGG-19, average pooling, white noise",
        "fast": "the same sooner, less grain: colour-matched start, L-BFGS that knows frequencies",
        "hires": "the same at 1024 pixels or any --size, coarse to fine, from the matched content",
        "artistyle": "ArtiStyle as it runs: torchvision VGG-19 to conv3_1 before ReLU, max pooling",
        "pytorch-tutorial": "PyTorch's tutorial: ArtiStyle's layers, from the content",
        "neural-style": "jcjohnson/neural-style as neural-style-pt has it: VGG-19, L1 variation",
        "pastiche": "dstein64/pastiche and Gatys's notebook: VGG-19, styles' losses blended",
        "gordicaleksa": "gordicaleksa/pytorch-neural-style-transfer: torchvision VGG-19 at 0–255",
        "crowsonkb": "crowsonkb/style-transfer-pytorch: Wasserstein-2, averaged Adam, √2 scales",
    }
)


def make_settings(
    preset: str = DEFAULT_PRESET, overrides: Mapping[str, Any] | None = None
) -> Settings:
    """A preset with some of its settings replaced.

    Who weights the total variation and names no form means that of all colours and grey, not the
    one that preset ``fast`` has against grain: the form is ``squared`` then. So ``overrides`` must
    be all that was said, wherever it was: in a file, in options, in a row of a table.

    Args:
        preset: A key of ``PRESETS``.
        overrides: ``{setting: value}``; the names are the attributes of ``Settings``.

    Raises:
        InvalidInput: for an unknown preset or setting (with the closest match), or a bad value.
    """
    if not isinstance(preset, str) or preset not in PRESETS:
        raise InvalidInput(f"unknown preset {shown(preset)}{_closest(preset, PRESETS)}")
    said = dict(overrides or {})
    for name in said:
        check_name(name)
    if preset in AGAINST_GRAIN and "tv_weight" in said:
        said.setdefault("tv_form", DEFAULTS["tv_form"])
    return replace(PRESETS[preset], **said)


def check_name(name: str) -> None:
    """Make sure that there is a setting of a name.

    Raises:
        InvalidInput: naming it, with the closest match.
    """
    if name not in SPECS:
        raise InvalidInput(f"unknown setting {shown(name)}{_closest(name, SPECS)}")


def nearest(settings: Settings) -> str:
    """The preset that settings are changed from: the first of those with the fewest differences."""
    return min(PRESETS, key=lambda name: len(differences(settings, PRESETS[name])))


def differences(settings: Settings, base: Settings) -> dict[str, Any]:
    """``{name: value}`` of the settings in which some differ from others."""
    its = {name: getattr(settings, name) for name in SPECS}
    return {name: value for name, value in its.items() if value != getattr(base, name)}


def needs_torchvision(settings: Settings) -> bool:
    """Whether a run with these settings takes its weights from the package torchvision."""
    return settings.weights in TORCHVISION_WEIGHTS


def _closest(name: object, known: Iterable[str]) -> str:
    known, text = list(known), name if isinstance(name, str) else ""
    close = difflib.get_close_matches(text[:100], known, n=1)
    return f"; did you mean {close[0]}?" if close else f": choose one of {', '.join(known)}"
