"""Neural style transfer with numpy, onnxruntime and scipy: no torch, no fastnst.

    fastnst export loss.onnx --content photo.jpg --style painting.jpg --size 256
    python onnx_scipy.py loss.onnx out.png [ITERATIONS] [START.jpg]

The file holds L(x) of Gatys, Ecker and Bethge with its gradient; scipy's L-BFGS-B minimises it over
the pictures with values in [0, 1]. It starts from noise, or from a picture.
"""

import sys

import numpy as np
import onnxruntime
from PIL import Image
from scipy.optimize import minimize

model, output = sys.argv[1:3]
iterations = int(sys.argv[3]) if len(sys.argv) > 3 else 300
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
shape = session.get_inputs()[0].shape  # 1, 3, height, width

if len(sys.argv) > 4:
    picture = Image.open(sys.argv[4]).convert("RGB").resize((shape[3], shape[2]))
    start = np.asarray(picture, np.float32).transpose(2, 0, 1) / 255
else:
    start = np.random.default_rng(0).normal(0.5, 0.01, shape).clip(0, 1)


def loss_and_gradient(x):
    image = x.astype(np.float32).reshape(shape)
    loss, gradient = session.run(["loss", "gradient"], {"image": image})
    return float(loss), gradient.astype(np.float64).ravel()


result = minimize(
    loss_and_gradient, start.ravel(), jac=True, method="L-BFGS-B",
    bounds=[(0, 1)] * start.size, options={"maxiter": iterations, "maxcor": 20, "maxfun": 10**6},
)  # fmt: skip
pixels = (result.x.reshape(shape)[0].transpose(1, 2, 0) * 255).round().astype(np.uint8)
Image.fromarray(pixels).save(output)
print(f"{output}: loss {result.fun:.4g} after {result.nit} iterations, {result.nfev} evaluations")
