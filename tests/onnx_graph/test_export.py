"""Exported graphs: against float64, their names, their inputs, and what they refuse."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from fastnst import cli
from fastnst.engines.torch_engine import TorchEngine
from fastnst.errors import InvalidInput
from fastnst.export import build
from fastnst.inputs.pictures import white_noise
from fastnst.losses import ContentLoss, StyleLoss, TemporalLoss
from fastnst.network.architecture import VGG19
from fastnst.network.vgg import VGG
from fastnst.network.weights import Weights, load_weights
from fastnst.objective.build import build_objective
from fastnst.objective.objective import Objective
from fastnst.onnx_graph import (
    Plan,
    features_model,
    loss_model,
    read,
    targets_model,
    unavailable_reason,
)
from fastnst.settings.settings import Settings
from helpers.oracle import features as oracle_features
from helpers.oracle import objective as oracle

LAYER_SETS = {
    "relu": {"content_layers": ("relu2_2",), "style_layers": ("relu1_1", "relu2_1", "relu3_1")},
    "conv": {
        "content_layers": ("conv2_2", "conv1_1"),
        "style_layers": ("conv1_1", "relu1_1", "conv3_1"),
        "style_layer_weights": (0.5, 2.0, 1.0),
        "content_weight": 0.3,
    },
    "pool": {"content_layers": ("pool1",), "style_layers": ("pool2", "pool1"), "tv_weight": 2.0},
    "both": {
        "content_layers": ("relu1_2", "pool2"),
        "style_layers": ("relu1_2", "pool1"),
        "tv_weight": 20.0,
        "tv_form": "color",
    },
    "style": {"content_weight": 0.0, "style_layers": ("relu1_2",)},
    "content": {"style_weight": 0.0, "content_layers": ("relu3_1",)},
}


def picture(height: int, width: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 5, 7, generator=generator)
    x = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")
    return (x + 0.05 * torch.randn(1, 3, height, width, generator=generator)).contiguous()


def run(model: Any, image: torch.Tensor, **feeds: Any) -> dict[str, torch.Tensor]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    found = session.run(names, {"image": image.numpy(), **feeds})
    return {name: torch.as_tensor(x) for name, x in zip(names, found, strict=True)}


def expected(
    weights: Weights, settings: Settings, image: torch.Tensor, content: Any, *styles: Any
) -> tuple[float, torch.Tensor]:
    """Loss and gradient in float64; the style losses of several styles are added up."""
    x = image[0].double().requires_grad_()
    total = x.new_zeros(())
    for index, style in enumerate(styles):
        total = total + oracle(
            x,
            content[0].double(),
            style[0].double(),
            weights.tensors,
            content_layers=settings.content_layers if settings.content_weight else (),
            layer_weights=settings.layer_weights() if settings.style_weight else {},
            alpha=0.0 if index else settings.content_weight,
            beta=settings.style_weight,
            tau=0.0 if index else settings.tv_weight,
            kind=settings.pooling,
            form=settings.tv_form,
        )
    (gradient,) = torch.autograd.grad(total, x)
    return float(total.detach()), gradient


def check(found: dict[str, torch.Tensor], loss: float, gradient: torch.Tensor) -> None:
    """float32 rounding of at most 13 layers, twice: 1e-6 was seen."""
    assert float(found["loss"]) == pytest.approx(loss, rel=1e-5)
    got = found["gradient"][0].double()
    assert float((got - gradient).norm() / gradient.norm()) < 1e-5


@pytest.mark.parametrize("pooling", ["average", "max"])
@pytest.mark.parametrize("size", [(24, 32), (37, 27)])  # (37, 27) is odd at every pooling
@pytest.mark.parametrize("layers", LAYER_SETS)
def test_loss_and_gradient_equal_float64(
    random_weights: Weights, layers: str, size: tuple[int, int], pooling: str
) -> None:
    settings = Settings(pooling=pooling, **LAYER_SETS[layers])
    content, image = picture(*size, 1), picture(*size, 2)
    styles = [picture(30, 21, 3), picture(19, 40, 4)]
    plans = [
        read(build_objective(random_weights, content, style, settings, "torch")) for style in styles
    ]
    one = run(loss_model(plans[0], size), image)
    check(one, *expected(random_weights, settings, image, content, styles[0]))
    both = replace(plans[0], style=plans[0].style + plans[1].style)
    check(
        run(loss_model(both, size), image),
        *expected(random_weights, settings, image, content, *styles),
    )
    feeds = {f"target.content.{t.layer}": t.target for t in plans[0].content}
    free = run(loss_model(plans[0], None), image, **feeds)
    torch.testing.assert_close(free["gradient"], one["gradient"], rtol=1e-4, atol=1e-6)
    assert float(free["loss"]) == pytest.approx(float(one["loss"]), rel=1e-5)


@pytest.mark.parametrize("pooling", ["average", "max"])
def test_the_whole_network_equals_float64(pooling: str) -> None:
    weights = load_weights()
    settings = Settings(
        pooling=pooling,
        style_layers=("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1", "pool5"),
        tv_weight=1.0,
    )
    content, style, image = picture(43, 38, 1), picture(35, 50, 2), picture(43, 38, 3)
    plan = read(build_objective(weights, content, style, settings, "torch"))
    found = run(loss_model(plan, (43, 38)), image)
    check(found, *expected(weights, settings, image, content, style))
    names = [f"style.{layer}" for layer in settings.style_layers]
    assert list(found) == ["loss", "content.relu4_2", *names, "tv", "gradient"]


@pytest.mark.parametrize("form", ["squared", "color"])
def test_the_total_variation_alone(random_weights: Weights, form: str) -> None:
    settings = Settings(content_weight=0.0, style_weight=0.0, tv_weight=1.5, tv_form=form)
    for size in ((9, 8), (1, 6), (5, 1)):
        image = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(1))
        objective = build_objective(random_weights, image, image, settings, "torch")
        autograd = TorchEngine(objective).evaluate(image)
        model = loss_model(read(objective), size)
        found = run(model, image)
        torch.testing.assert_close(found["gradient"], autograd.gradient)
        torch.testing.assert_close(found["loss"], autograd.terms.total)
        convolutions = [node.name for node in model.graph.node if node.op_type == "Conv"]
        colours = ["tv.colours", "backward/tv.colours"]
        assert convolutions == (colours if form == "color" else [])


def test_ties_in_max_pooling_go_where_pytorch_lets_them_go(random_weights: Weights) -> None:
    """A flat picture: all four pixels of each window tie, wherever the edge is not in sight."""
    settings = Settings(pooling="max", content_layers=("pool2",), style_layers=("relu3_1", "pool1"))
    content = picture(24, 33, 1)
    image = torch.full((1, 3, 24, 33), 0.4)
    image[..., 20:] = content[..., 20:]
    objective = build_objective(random_weights, content, content, settings, "torch")
    found = run(loss_model(read(objective), (24, 33)), image)["gradient"]
    autograd = TorchEngine(objective).evaluate(image).gradient
    assert float((found - autograd).norm() / autograd.norm()) < 1e-5  # float32 twice
    # The same with shares for all that tie would be another picture: see that there were ties.
    pooled = objective.network(objective.normalize(image), ("relu1_2",))["relu1_2"]
    windows = pooled[..., 4:12, 4:12].unfold(2, 2, 2).unfold(3, 2, 2).flatten(-2)
    assert ((windows == windows[..., :1]).all(-1) & (windows[..., 0] > 0)).any()


def test_targets_and_weights_as_inputs(random_weights: Weights) -> None:
    settings = Settings(tv_weight=0.5, **LAYER_SETS["relu"])
    content, style, other = picture(20, 24, 1), picture(20, 24, 2), picture(20, 24, 3)
    image = picture(20, 24, 4)
    plan, changed = (
        read(build_objective(random_weights, c, s, settings, "torch"))
        for c, s in ((content, style), (other, other))
    )
    changed = replace(
        changed,
        content_weight=3.0,
        style_weight=7.0,
        tv_weight=0.25,
        style=tuple(replace(term, weight=2.0) for term in changed.style),
    )
    model = loss_model(plan, (20, 24), inputs=("targets", "weights"))
    fixed = loss_model(plan, (20, 24))
    torch.testing.assert_close(run(model, image), run(fixed, image), rtol=1e-5, atol=1e-7)
    feeds: dict[str, Any] = {
        "weight.content": 3.0, "weight.style": 7.0, "weight.tv": 0.25,
        **{f"weight.style.{term.layer}": 2.0 for term in changed.style},
    }  # fmt: skip
    feeds = {name: np.float32(value) for name, value in feeds.items()}
    feeds |= {f"target.style.{t.layer}": t.target for t in changed.style}
    feeds |= {f"target.content.{t.layer}": t.target for t in changed.content}
    found = run(model, image, **{k: np.asarray(v) for k, v in feeds.items()})
    torch.testing.assert_close(
        found, run(loss_model(changed, (20, 24)), image), rtol=1e-5, atol=1e-7
    )
    with pytest.raises(InvalidInput, match="inputs names 'target'"):
        loss_model(plan, (20, 24), inputs=("target",))
    with pytest.raises(InvalidInput, match=r"target at relu2_2 has shape \(1, 128, 10, 12\)"):
        loss_model(plan, (24, 24))


def test_features_and_targets_feed_a_graph_for_any_size(random_weights: Weights) -> None:
    settings = Settings(**LAYER_SETS["relu"])
    content, style, image = picture(21, 26, 1), picture(33, 18, 2), picture(21, 26, 3)
    plan = read(build_objective(random_weights, picture(8, 8, 5), picture(8, 8, 6), settings))
    features = run(features_model(plan, None, ["relu1_1", "relu2_2"]), content)
    truth = oracle_features(content[0].double(), random_weights.tensors, features, "average")
    for name, value in truth.items():
        error = (features[name][0].double() - value).norm() / value.norm()
        assert float(error) < 1e-6, name  # 4 layers of float32
    grams = run(targets_model(plan, None, settings.style_layers), style)
    assert list(grams) == [f"target.style.{name}" for name in settings.style_layers]
    feeds = {name: value.numpy() for name, value in grams.items()}
    feeds["target.content.relu2_2"] = features["relu2_2"].numpy()
    found = run(loss_model(plan, None, inputs=("targets",)), image, **feeds)
    check(found, *expected(random_weights, settings, image, content, style))


def test_the_file_is_one_copy_of_vgg_with_its_names() -> None:
    model = build(Settings(size=32), "sample:harbour", "sample:swirl")
    onnx.checker.check_model(model, full_check=True)
    assert model.opset_import[0].version >= 17
    assert {node.domain for node in model.graph.node} == {""}
    layers = VGG19.up_to(["relu5_1"])
    assert set(layers) <= {node.name for node in model.graph.node}
    assert all(node.output[0] == node.name for node in model.graph.node if node.name in layers)
    targets = sum(4 * c * c for c in (64, 128, 256, 512, 512)) + 4 * 512 * 4 * 3
    parameters = sum(
        4 * (9 * a * b + b) for name, (a, b) in VGG19.convolutions().items() if name in layers
    )
    assert parameters + targets < model.ByteSize() < parameters + targets + 100_000
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert metadata["fastnst.kind"] == "loss"
    assert metadata["fastnst.size"] == "32x24"
    assert metadata["fastnst.weights"] == "vgg19-normalised"
    assert json.loads(metadata["fastnst.settings"])["pooling"] == "average"
    documented = (Path(__file__).parents[2] / "docs" / "onnx.md").read_text()
    assert all(key in documented for key in metadata)


def small(weights: Weights) -> Objective:
    settings = Settings(**LAYER_SETS["relu"])
    return build_objective(weights, picture(16, 16, 1), picture(16, 16, 2), settings, "torch")


class Masked(ContentLoss):
    """A loss that the graph does not know."""


def _subclass(objective: Objective) -> None:
    objective.content["relu2_2"] = Masked(torch.zeros(1, 128, 8, 8))


def _buffer(objective: Objective) -> None:
    objective.style["relu2_1"].register_buffer("mask", torch.ones(8, 8))


def _attribute(objective: Objective) -> None:
    objective.style["relu2_1"].statistic = "covariance"


def _other_attribute(objective: Objective) -> None:
    objective.gradient_norm = "l1"  # type: ignore[assignment]


def _guidance(objective: Objective) -> None:
    objective.style["relu2_1"].guidance = torch.ones(8, 8)  # type: ignore[assignment]


def _pool(objective: Objective) -> None:
    objective.network.layers["pool1"] = torch.nn.LPPool2d(2, 2)


def _ceil(objective: Objective) -> None:
    objective.network.layers["pool1"] = torch.nn.MaxPool2d(2, ceil_mode=True)


def _padding(objective: Objective) -> None:
    objective.network.layers["conv1_1"].padding_mode = "replicate"  # type: ignore[assignment]


def _dilation(objective: Objective) -> None:
    objective.network.layers["pool1"] = torch.nn.MaxPool2d(2, dilation=2)


def _batch(objective: Objective) -> None:
    objective.style["relu2_1"] = StyleLoss(torch.zeros(1, 128, 128))


def _temporal(objective: Objective) -> None:
    objective.temporal = TemporalLoss(torch.zeros(1, 3, 16, 16), torch.ones(1, 1, 16, 16))


def _module(objective: Objective) -> None:
    objective.matting = torch.nn.Identity()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_subclass, "the content loss at relu2_2 is a Masked, and only ContentLoss is known"),
        (_buffer, "the style loss at relu2_1 has mask, which is not known"),
        (_attribute, "the style loss at relu2_1 has statistic"),
        (_other_attribute, "the gradients are normalised by l1"),
        (_guidance, "the style loss at relu2_1 is for a region"),
        (_pool, "layer pool1 is LPPool2d"),
        (_ceil, "layer pool1 is MaxPool2d"),
        (_dilation, "layer pool1 is MaxPool2d"),
        (_padding, "layer conv1_1 is Conv2d"),
        (_batch, "the style loss at relu2_1 has a batch of targets"),
        (_temporal, "it has a temporal term"),
        (_module, "the objective has matting"),
    ],
)
def test_what_is_not_known_is_refused(random_weights: Weights, change: Any, message: str) -> None:
    objective = small(random_weights)
    assert unavailable_reason(objective) is None
    change(objective)
    assert message in str(unavailable_reason(objective))
    with pytest.raises(InvalidInput, match="an ONNX graph does not hold this"):
        read(objective)


# -------------------------------------------------------------------------------- command line --


@pytest.mark.slow
def test_export_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--size", "32", "--style-layers", "relu1_1", "--content-layers", "relu1_2"]
    pictures = ["--content", "sample:harbour", "--style", "sample:swirl"]
    out = tmp_path / "loss.onnx"
    assert cli.run_app(["export", str(out), *pictures, *arguments]) == 0
    assert f"{out.name}: loss, 0." in capsys.readouterr().err.replace("\n", "")
    session = onnxruntime.InferenceSession(str(out), providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == [1, 3, 24, 32]
    assert session.get_modelmeta().custom_metadata_map["fastnst.size"] == "32x24"

    more = ["--dynamic", "--inputs", "targets, weights", "--json", "-q"]
    assert cli.run_app(["export", str(out), *pictures, *arguments, *more]) == 0
    about = json.loads(capsys.readouterr().out)
    needed = [value["name"] for value in about["inputs"] if not value["optional"]]
    assert needed == ["image", "target.content.relu1_2"]
    assert about["bytes"] == out.stat().st_size

    for flag, names in (
        ("--features", ["relu1_1", "relu1_2"]),
        ("--targets", ["target.style.relu1_1"]),
    ):
        assert cli.run_app(["export", str(out), flag, *arguments, "--json", "-q"]) == 0
        about = json.loads(capsys.readouterr().out)
        assert about["kind"] == flag[2:]
        assert [value["name"] for value in about["outputs"]] == names
    assert not list(tmp_path.glob(".*.part"))


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["out.onnx"], 2, "a loss needs a content and a style picture"),
        (["out.onn", "--features"], 2, "out.onn: use a name ending in .onnx"),
        (["no/out.onnx", "--features"], 2, "the folder no does not exist"),
        (["out.onnx", "--features", "--targets"], 2, "choose one"),
        (["out.onnx", "--features", "--inputs", "weights"], 2, "inputs are for a loss"),
        (["out.onnx", "--features", "--style-layers", "relu9_1"], 2, "unknown layer 'relu9_1'"),
        (["out.onnx", "--content", "C", "--style", "S", "--inputs", "x"], 2, "inputs names 'x'"),
        (["out.onnx", "--content", "none.png", "--style", "S"], 2, "none.png does not exist"),
        (["out.onnx", "--content", "C", "--style", "S", "--size", "8"], 2, "at least 16"),
    ],
)
def test_bad_input_is_one_clear_line(
    tmp_path: Path, arguments: list[str], code: int, message: str, monkeypatch: Any, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    names = {"C": "sample:harbour", "S": "sample:swirl"}
    quick = [] if "--size" in arguments else ["--size", "32"]
    assert cli.run_app(["export", *(names.get(a, a) for a in arguments), *quick]) == code
    stderr = capsys.readouterr().err
    assert message in " ".join(stderr.split())
    assert len(stderr.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_without_the_package_onnx(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    real = importlib.util.find_spec
    hide = lambda name, *rest: None if name == "onnx" else real(name, *rest)
    monkeypatch.setattr(importlib.util, "find_spec", hide)
    assert cli.run_app(["export", str(tmp_path / "a.onnx"), "--features"]) == 1
    assert "onnx is not installed: pip install onnx" in capsys.readouterr().err


# ------------------------------------------------------------------------------------- example --


def test_the_example_needs_neither_torch_nor_fastnst(tmp_path: Path) -> None:
    pytest.importorskip("scipy")
    script = Path(__file__).parents[2] / "examples" / "onnx_scipy.py"
    if not script.is_file():
        pytest.skip("not in a checkout")
    out = tmp_path / "loss.onnx"
    settings = Settings(size=48, style_layers=("relu1_1", "relu2_1"), content_layers=("relu2_2",))
    model = build(settings, "sample:harbour", "sample:swirl")
    out.write_bytes(model.SerializeToString())
    code = (
        "import runpy, sys\n"
        "class Refuse:\n"
        "    def find_spec(self, name, *rest):\n"
        "        if name.split('.')[0] in ('torch', 'fastnst'):\n"
        "            raise ImportError(f'{name} is not for this script')\n"
        "sys.meta_path.insert(0, Refuse())\n"
        "sys.argv = sys.argv[1:]\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    picture = tmp_path / "out.png"
    done = subprocess.run(
        [sys.executable, "-c", code, str(script), str(out), str(picture), "25"],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with Image.open(picture) as image:
        assert image.size == (48, 36)
        pixels = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)[None] / 255
    start = white_noise(pixels, 0)
    before, after = (float(run(model, x)["loss"]) for x in (start, pixels))
    assert after < before / 5  # 25 iterations took it to a twentieth
    assert f"{picture}: loss " in done.stdout
    assert len(script.read_text().splitlines()) <= 50


def test_plans_are_plain(random_weights: Weights) -> None:
    plan = read(small(random_weights))
    assert isinstance(plan, Plan)
    assert plan.depth() == len(VGG19.up_to(["relu3_1"]))
    assert [term.layer for term in plan.style] == ["relu1_1", "relu2_1", "relu3_1"]
    assert all(term.target.dtype == np.float32 for term in (*plan.content, *plan.style))


def test_features_of_a_picture_need_no_style_and_read_it_once() -> None:
    blended = Settings(size=32, style_blend=(1.0, 3.0), style_scale=(1.0, 2.0))
    read, write = os.pipe()
    with os.fdopen(write, "wb") as file:
        Image.new("RGB", (40, 30), "teal").save(file, "PNG")
    try:
        model = build(blended, f"/dev/fd/{read}", kind="features")
    finally:
        os.close(read)
    assert model.graph.input[0].type.tensor_type.shape.dim[3].dim_value == 32


def test_features_of_a_picture_too_small_for_its_layers() -> None:
    settings = Settings(size=8, style_weight=0.0, content_layers=("relu1_1",))
    with pytest.raises(InvalidInput, match="8×6 is too small for these layers: .* 16 pixels"):
        build(settings, "sample:harbour", kind="features")


def test_a_model_larger_than_a_file_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastnst.onnx_graph.graph.LARGEST", 10**6)
    with pytest.raises(InvalidInput, match="the model has .* GB of numbers"):
        build(Settings(size=32), "sample:harbour", "sample:swirl")


def test_targets_of_a_large_picture_are_made_in_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    forward = VGG.forward

    def watched(self: VGG, x: torch.Tensor, names: Any) -> Any:
        sizes.append(x.shape[-2] * x.shape[-1])
        return forward(self, x, names)

    monkeypatch.setattr(VGG, "forward", watched)
    monkeypatch.setattr("fastnst.export.TARGETS_AT_A_TIME", 40_000)
    build(Settings(size=400, style_layers=("relu1_1",), content_layers=("relu2_1",)),
          "sample:harbour", "sample:swirl")  # fmt: skip
    assert max(sizes) < 400 * 300
