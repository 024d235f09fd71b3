"""The curvature of the objective by spatial frequency and colour, learnt from the steps.

Where L-BFGS knows nothing yet, it takes the inverse Hessian for γ times the identity. The style of a
picture is far from that: along grey structures of about ten pixels the curvature is a thousand times
as large as along fine or coloured detail. So here the picture is seen in bands b, each a range of
spatial frequencies (an octave or less, in rings of its Fourier transform) of one opponent colour,
and with the steps s and the changes of the gradient y that they caused,

    h_b = Σ s_b·y_b / Σ s_b·s_b        P = h^−POWER,   γ = STRETCH · s·y / y·P y of the newest pair,

the sums taken over the past steps with less and less weight. γ P is the L-BFGS iteration's initial inverse
Hessian H₀ (Nocedal & Wright, Numerical Optimization, algorithm 7.4). It costs a Fourier transform
of s, of y and of the direction in each iteration.

With STRETCH 1, as the textbook has it, a step ends where the gradient along it still has a fifth to a third
of its length, and evaluations until the textbook loop's final loss were 109, 167, 261, 89, 140, 159 and 174
over seven pairs of built-in pictures at 160 to 256 px; with 1.5 they were 97, 131, 209, 90, 107, 174 and 161,
with 2 about the same, and with 4 steps overshoot.

It does not always pay. Evaluations from ``init=matched`` to the textbook loop's final loss, with γ
alone and with P and STRETCH 1, over four pairs of built-in pictures at 256 px (suite ``loss``): 141 and 104, 164 and
153, 124 and 155, 155 and 166. On a photograph of Tübingen with The Starry Night P had after 130 what γ
alone had after about 160. POWER 1 was better there and much worse elsewhere; a fixed P, measured
once, was worse than none.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fastnst.solvers.state import State

BANDS = 14  # of each colour, between one cycle in 256 pixels and the finest diagonal
POWER = 0.7
STRETCH = 1.5
MEMORY = 0.9  # weight of the sums so far when a step is added
FLOOR = 1e-3  # smallest h_b, as a share of the largest
COARSEST = 1 / 256  # cycles per pixel
FINEST = math.sqrt(0.5)

# Rows: grey, red against blue, green against both; orthonormal.
OPPONENT_COLOURS = (
    (3**-0.5, 3**-0.5, 3**-0.5),
    (2**-0.5, 0.0, -(2**-0.5)),
    (6**-0.5, -2 * 6**-0.5, 6**-0.5),
)


class SpectralScaling:
    """P, for pictures of one size.

    Args:
        like: A picture ``(1, 3, H, W)``.
    """

    def __init__(self, like: Tensor) -> None:
        self.shape = like.shape
        height, width = like.shape[-2:]
        device, dtype = like.device, like.dtype
        rows = torch.fft.fftfreq(height, device=device, dtype=dtype)[:, None]
        columns = torch.fft.rfftfreq(width, device=device, dtype=dtype)[None]
        frequency = (rows.square() + columns.square()).sqrt().clamp(min=COARSEST)
        octaves = torch.log2(frequency / COARSEST) / math.log2(FINEST / COARSEST)
        self.band = (octaves * (BANDS - 1)).round().long()
        # The half spectrum has the conjugate half's weight too, but for the columns of its own.
        self.weight = torch.full_like(frequency, 2.0)
        self.weight[:, 0] = 1
        if width % 2 == 0:
            self.weight[:, -1] = 1
        self.colours = torch.tensor(OPPONENT_COLOURS, device=device, dtype=dtype)
        self.ss = like.new_zeros(3, BANDS)
        self.sy = like.new_zeros(3, BANDS)
        self.gamma = 0.0
        self.scaling: Tensor | None = None  # (3, H, W // 2 + 1)

    def learn(self, step: Tensor, change: Tensor, curvature: float) -> None:
        """Take in a pair (s, y), each ``(n,)``, with curvature s·y > 0."""
        s, y = self.spectrum(step), self.spectrum(change)
        self.ss.mul_(MEMORY).add_(self._by_band(s, s))
        self.sy.mul_(MEMORY).add_(self._by_band(s, y))
        self.scaling = self.compute()
        norm = float((self.scaling * self.weight * (y.real.square() + y.imag.square())).sum())
        self.gamma = STRETCH * curvature / norm

    def compute(self) -> Tensor:
        """P of what was learnt, ``(3, H, W // 2 + 1)``."""
        curvature = self.sy / self.ss.clamp(min=torch.finfo(self.ss.dtype).tiny)
        curvature = curvature / curvature.max()
        return curvature.clamp(min=FLOOR).pow(-POWER)[:, self.band]

    def state(self) -> State:
        """What was learnt; ``restore`` goes on from it bit for bit."""
        return State(
            {"gamma": self.gamma, "learnt": self.scaling is not None},
            {"ss": self.ss, "sy": self.sy},
        )

    def restore(self, state: State) -> None:
        """Take the state of another scaling, for pictures of the same size."""
        self.gamma = state.numbers["gamma"]
        self.ss.copy_(state.tensors["ss"])
        self.sy.copy_(state.tensors["sy"])
        self.scaling = self.compute() if state.numbers["learnt"] else None

    def apply(self, x: Tensor) -> Tensor:
        """γ P x for x ``(n,)``."""
        assert self.scaling is not None
        return self.scale(x, self.scaling, self.gamma)

    def scale(self, x: Tensor, scaling: Tensor, gamma: Tensor | float) -> Tensor:
        """γ P x for x ``(n,)``, with P ``(3, H, W // 2 + 1)`` and γ as they are given."""
        spectrum = self.spectrum(x).mul_(scaling).mul_(gamma)
        opponent = torch.fft.irfft2(spectrum, s=self.shape[-2:], norm="ortho")
        x_scaled: Tensor = self.colours.T @ opponent.flatten(1)
        return x_scaled.flatten()

    def spectrum(self, x: Tensor) -> Tensor:
        """Of x ``(n,)``, in opponent colours: complex ``(3, H, W // 2 + 1)``, orthonormal."""
        opponent = self.colours @ x.view(3, -1)
        spectrum: Tensor = torch.fft.rfft2(opponent.view(self.shape[1:]), norm="ortho")
        return spectrum

    def _by_band(self, a: Tensor, b: Tensor) -> Tensor:
        """a·b summed over each band, ``(3, BANDS)``."""
        products = (a.real * b.real + a.imag * b.imag).mul_(self.weight).flatten(1)
        return products.new_zeros(3, BANDS).index_add_(1, self.band.flatten(), products)
