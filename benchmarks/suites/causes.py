"""``causes``: what each part of the method does to the look of a picture, one at a time.

The figures are those of ``quality``. The starts are files, so that no setting is needed for them:
``gatys, noise 0.05`` is what ``init="noise"`` would be at that standard deviation.
"""

from __future__ import annotations

from functools import partial

from benchmarks import renders
from benchmarks.renders import Arm, Noise
from benchmarks.suite import Suite

AMPLITUDES = (0.05, 0.02, 0.01, 0.005, 0.002)
VARIATIONS = (0.3, 1.0, 3.0)
LAYERS = {  # weights of relu1_1 … relu5_1 in the style loss; usually all are 1/5
    "shallow": (0.4, 0.3, 0.15, 0.1, 0.05),
    "deep": (0.05, 0.1, 0.15, 0.3, 0.4),
    "quartering": tuple(4.0**-k for k in range(5)),  # as crowsonkb has them
}
ARMS = (
    *(Arm(f"gatys, noise {std:g}", "gatys", start=Noise(std)) for std in AMPLITUDES),
    Arm("gatys, grey noise 0.05", "gatys", start=Noise(0.05, grey=True)),
    Arm("gatys, grey noise 0.01", "gatys", start=Noise(0.01, grey=True)),
    Arm("gatys, tv 1", "gatys", {"tv_weight": 1.0}),
    Arm("gatys, replicate", "gatys", {"padding": "replicate"}),
    Arm("gatys, max pooling", "gatys", {"pooling": "max"}),
    Arm("gatys, colour 2", "gatys", {"tv_weight": 2.0, "tv_form": "color"}),
    Arm("fast, as it is", "fast"),
    Arm("fast, no variation", "fast", {"tv_weight": 0.0}),
    *(
        Arm(f"fast, colour {weight:g}", "fast", {"tv_weight": weight, "tv_form": "color"})
        for weight in (1.0, 4.0)
    ),
    *(Arm(f"fast, tv {weight:g}", "fast", {"tv_weight": weight}) for weight in VARIATIONS),
    Arm("fast, by L-BFGS", "fast", {"optimizer": "lbfgs"}),
    Arm("fast, from the content", "fast", {"init": "content"}),
    Arm("fast, replicate", "fast", {"padding": "replicate"}),
    *(
        Arm(f"fast, {name} layers", "fast", {"style_layer_weights": weights})
        for name, weights in LAYERS.items()
    ),
    Arm("fast, max pooling", "fast", {"pooling": "max"}),
    Arm("hires, as it is", "hires", halved=True),
    Arm("hires, by L-BFGS", "hires", {"optimizer": "lbfgs"}, halved=True),
    Arm("hires, no variation", "hires", {"tv_weight": 0.0}, halved=True),
    Arm("hires, colour 2", "hires", {"tv_weight": 2.0, "tv_form": "color"}, halved=True),
)


SUITE = Suite(
    "causes",
    "The same figures with one part of the method changed at a time.",
    renders.cases,
    partial(renders.measure, "causes", ARMS),
    baseline="gatys, noise 0.05",
    summarise=renders.summarise,
    table=renders.table,
    on_request=True,
)
