"""A checkpoint whose digest is right is still held to what the run needs; each fault has a line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

import fastnst
from fastnst.errors import InvalidInput
from fastnst.run.checkpoint import load_checkpoint
from fastnst.run.checkpoint_checks import digest_of
from helpers.pictures import smooth

CONTENT, STYLE = smooth(32, 24), smooth(24, 32, seed=1)
RUN = {"size": 32, "iterations": 3, "style_layers": ("relu1_1",), "content_layers": ("relu1_1",),
       "history_size": 4}  # fmt: skip

Parts = tuple[dict[str, str], dict[str, Any], dict[str, Tensor]]


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> dict[str, bytes]:
    """A checkpoint of each solver."""
    path = tmp_path_factory.mktemp("sound") / "k"
    found = {}
    for optimizer in ("lbfgs", "spectral", "torch-lbfgs", "adam"):
        fastnst.stylize(CONTENT, STYLE, **RUN, optimizer=optimizer, checkpoint=path)
        found[optimizer] = path.read_bytes()
    return found


def read(path: Path) -> Parts:
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
        return metadata, json.loads(metadata["fastnst"]), {
            name: file.get_tensor(name).clone() for name in file.keys()  # noqa: SIM118
        }  # fmt: skip


def forge(path: Path, parts: Parts, sign: bool = True) -> None:
    """Write a checkpoint of these parts, with a digest that is right unless told otherwise."""
    metadata, about, tensors = parts
    text = json.dumps(about)
    sum_ = digest_of(text, tensors) if sign else metadata["sha256"]
    save_file(tensors, path, {**metadata, "fastnst": text, "sha256": sum_})


def resume(path: Path, optimizer: str = "lbfgs") -> fastnst.Result:
    settings = {**RUN, "optimizer": optimizer, "iterations": 5}
    return fastnst.stylize(CONTENT, STYLE, **settings, resume=path)


@pytest.mark.parametrize("optimizer", ["lbfgs", "spectral", "torch-lbfgs", "adam"])
def test_what_was_written_again_as_it_was_is_believed(tmp_path, sound, optimizer: str) -> None:
    path = tmp_path / "k"
    path.write_bytes(sound[optimizer])
    forge(path, read(path))
    assert resume(path, optimizer).iterations == 5


@pytest.mark.parametrize("part", ["about", "tensor", "digest"])
def test_what_was_changed_is_damaged(tmp_path: Path, sound, part: str) -> None:
    path = tmp_path / "k"
    path.write_bytes(sound["lbfgs"])
    metadata, about, tensors = read(path)
    if part == "about":
        about["solver"]["loss"] *= 1 + 1e-15
    elif part == "tensor":
        tensors["solver.best"].view(torch.int32).flatten()[5] ^= 1  # the lowest bit of a number
    else:
        metadata["sha256"] = "0" * 64
    forge(path, (metadata, about, tensors), sign=False)
    with pytest.raises(InvalidInput, match="is damaged"):
        load_checkpoint(path)


def number(name: str, value: object) -> Callable[[Parts], None]:
    def change(parts: Parts) -> None:
        parts[1]["solver"][name] = value

    return change


def about(name: str, value: object) -> Callable[[Parts], None]:
    def change(parts: Parts) -> None:
        parts[1][name] = value

    return change


def tensor(name: str, change_it: Callable[[Tensor], Tensor]) -> Callable[[Parts], None]:
    def change(parts: Parts) -> None:
        parts[2][name] = change_it(parts[2][name]).contiguous()

    return change


def missing(name: str) -> Callable[[Parts], None]:
    def change(parts: Parts) -> None:
        del parts[2][name]

    return change


def added(name: str) -> Callable[[Parts], None]:
    def change(parts: Parts) -> None:
        parts[2][name] = torch.zeros(3)

    return change


def with_nan(x: Tensor) -> Tensor:
    x.flatten()[0] = float("nan")
    return x


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (about("best", 99), "its best is not as expected: below 4"),
        (about("best", True), "its best is not"),
        (about("seconds", -1), "its seconds is not"),
        (about("seconds", float("nan")), "its seconds is not"),
        (about("terms", ["total", "total", "tv"]), "its terms is not"),
        (about("terms", ["tv", "style.relu1_1", "content.relu1_1", "total"]), "its terms is not"),
        (about("terms", ["total", "depth.relu1_1", "style.relu1_1", "tv"]), "its terms is not"),
        (about("scales", [[1, 2, 3]]), "its scales is not"),
        (about("scales", [[32, 24, 3, 4]]), "its scales is not|its history is not"),
        (about("more", 1), "its metadata are not"),
        (number("iteration", 2), "history is not as expected: 3 rows"),
        (number("iteration", 2.0), "iteration is not as expected: a whole number"),
        (number("iteration", -1), "iteration is not"),
        (number("evaluations", 1), "evaluations is not"),
        (number("evaluations", 3), "evaluations is not"),
        (number("restarts", 10**30), "restarts is not"),
        (number("loss", "words"), "does not fit"),
        (number("loss", {}), "solver's loss is not"),
        (number("optimizer", "adam"), "does not fit"),
        (number("lbfgs.gamma", None), "gamma is not"),
        (number("lbfgs.pairs.order", [0, 0]), "order of the curvature pairs"),
        (number("lbfgs.pairs.order", list(range(9))), "does not fit|order of the curvature"),
        (number("more", 1), "more unknown"),
        (tensor("history", lambda x: x.repeat(2, 1)), "history is not as expected: 4 rows"),
        (tensor("history", lambda x: x.float()), "history is not as expected: float64"),
        (tensor("history", with_nan), "history is not as expected: finite"),
        (tensor("solver.image", lambda x: x[..., :-1]), "solver.image is not as expected: 32×24"),
        (tensor("solver.best", lambda x: x.double()), "solver.best is not as expected"),
        (tensor("solver.gradient", with_nan), "gradient is not as expected: finite"),
        (tensor("solver.gradient", lambda x: x[:, :, :1, :1]), "does not fit: gradient is float32"),
        (tensor("solver.lbfgs.displacement", lambda x: x[:1]), "does not fit"),
        (tensor("solver.lbfgs.pairs.sy", lambda x: x.new_zeros(3, 3)), "does not fit: sy is"),
        (tensor("snapshot.0", lambda x: x.float()), "snapshot.0 is not as expected"),
        (tensor("snapshot.0", lambda x: x[..., :1]), "snapshot.0 is not as expected"),
        (missing("history"), "cannot be used"),
        (missing("solver.image"), "solver.image is not"),
        (missing("solver.lbfgs.last_gradient"), "does not fit"),
        (added("words"), "tensors that no checkpoint has"),
        (added("solver.words"), "words unknown"),
        (added("snapshot.words"), "cannot be used"),
    ],
)  # fmt: skip
def test_a_fault_is_named(tmp_path: Path, sound, change, message: str) -> None:
    path = tmp_path / "k"
    path.write_bytes(sound["lbfgs"])
    parts = read(path)
    change(parts)
    forge(path, parts)
    with pytest.raises(InvalidInput, match=message) as caught:
        resume(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("optimizer", ["spectral", "torch-lbfgs", "adam"])
def test_every_tensor_of_every_solver_has_its_shape(tmp_path, sound, optimizer: str) -> None:
    path = tmp_path / "k"
    path.write_bytes(sound[optimizer])
    names = [name for name in read(path)[2] if name.startswith(f"solver.{optimizer}.")]
    assert names
    for name in names:
        parts = read(path)
        parts[2][name] = parts[2][name].new_zeros(3)
        forge(tmp_path / "forged", parts)
        with pytest.raises(InvalidInput, match="does not fit"):
            resume(tmp_path / "forged", optimizer)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (about("best", 4), "its best is not as expected: 5 or more"),
        (about("scales", [[16, 12, 5, 6]]), r"its scales is not as expected: \[4\] iterations"),
        (about("scales", [[16, 12, 4, 5], [32, 24, 3, 4]]), "its scales is not .* fewer than 2"),
        (about("scales", []), "does not fit|not as expected"),
    ],
)
def test_a_fault_in_the_scales_is_named(tmp_path: Path, change, message: str) -> None:
    path, run = tmp_path / "k", {**RUN, "min_size": 16, "iterations": 4, "scale_iterations": (3,)}
    fastnst.stylize(CONTENT, STYLE, **run, checkpoint=path)
    parts = read(path)
    change(parts)
    forge(path, parts)
    with pytest.raises(InvalidInput, match=message):
        fastnst.stylize(CONTENT, STYLE, **run, resume=path)
