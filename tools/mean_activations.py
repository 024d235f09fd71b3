"""Compute python/fastnst/data/vgg19_mean_activations.safetensors.

    pip install scikit-image scikit-learn
    python tools/mean_activations.py [MORE_PICTURES ...]

The mean activation of every filter of VGG-19 (after its ReLU, average pooling) over the positions
of a set of photographs: those that the packages scikit-image and scikit-learn carry, each at two
sizes and mirrored. Gatys et al. used ImageNet's validation set. A filter that is nearly silent on
so few pictures would get an enormous scale, so no mean is taken below a tenth of its layer's.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from fastnst.network.normalization import Normalization
from fastnst.network.vgg import VGG
from fastnst.network.weights import load_weights

PHOTOGRAPHS = {
    "skimage": [
        f"data/{name}"
        for name in [
            "astronaut.png",
            "chelsea.png",
            "coffee.png",
            "motorcycle_left.png",
            "rocket.jpg",
            "ihc.png",
            "grass.png",
            "gravel.png",
            "brick.png",
            "camera.png",
            "coins.png",
            "hubble_deep_field.jpg",
        ]
    ],
    "sklearn": ["datasets/images/china.jpg", "datasets/images/flower.jpg"],
}
SIDES = (512, 256)
FLOOR = 0.1


def photographs() -> list[Path]:
    found = []
    for package, names in PHOTOGRAPHS.items():
        spec = importlib.util.find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            sys.exit(f"the package {package} is missing: pip install scikit-image scikit-learn")
        found += [Path(spec.submodule_search_locations[0], name) for name in names]
    return found


def main() -> None:
    paths = photographs() + [Path(name) for name in sys.argv[1:]]
    weights = load_weights("vgg19")
    names = [f"relu{name.removeprefix('conv')}" for name in weights.architecture.convolutions()]
    network = VGG(weights.architecture, weights.tensors, names)
    normalize = Normalization(weights.preprocessing.mean, weights.preprocessing.std)
    sums = {name: torch.zeros(1, dtype=torch.float64) for name in names}
    for path in paths:
        with Image.open(path) as file:
            picture = file.convert("RGB")
        for side in SIDES:
            scale = side / max(picture.size)
            size = (round(picture.width * scale), round(picture.height * scale))
            pixels = np.asarray(picture.resize(size, Image.Resampling.LANCZOS), np.float32) / 255
            x = torch.from_numpy(pixels).permute(2, 0, 1)[None]
            with torch.no_grad():
                features = network(normalize(torch.cat([x, x.flip(-1)])), names)
            for name in names:
                sums[name] = sums[name] + features[name].double().mean((0, 2, 3))
        print(path.name, picture.size)
    means = {}
    for name in names:
        mean = sums[name] / (len(paths) * len(SIDES))
        floor = FLOOR * mean.mean()
        print(f"{name}: mean {mean.mean():.3f}, {int((mean < floor).sum())} of {len(mean)} raised")
        means[f"conv{name.removeprefix('relu')}"] = mean.clamp_min(floor).float().contiguous()
    target = Path(__file__).parent.parent / "python/fastnst/data/vgg19_mean_activations.safetensors"
    save_file(means, target, metadata={"pictures": ", ".join(path.name for path in paths)})
    print(f"wrote {target.name}, {target.stat().st_size} bytes")


if __name__ == "__main__":
    main()
