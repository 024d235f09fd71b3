"""The curvature of the objective by spatial frequency and colour, learnt from the steps.

Where L-BFGS knows nothing yet, it takes γ times the identity for the inverse Hessian. The style of
a picture is far from that: along grey structures of about ten pixels the curvature is a thousand
times as large as along fine or coloured detail. So here the picture is seen in bands b, each a
range of spatial frequencies (an octave or less, in rings of its Fourier transform) of one opponent
colour, and with the steps s and the changes of the gradient y that they caused,

    h_b = Σ s_b·y_b / Σ s_b·s_b        P = h^−POWER,   γ = STRETCH · s·y / y·P y of the newest pair,

the sums taken over the past steps with less and less weight. In no band has a colour a larger P
than grey: the network hardly sees fine differences of colour, so that there the gradient is mostly
what other frequencies leave in it, and longer steps along it painted coloured grain (the suite
``causes``; docs/quality.md). γ P is the initial inverse Hessian H₀
of the iteration (Nocedal & Wright, Numerical Optimization, algorithm 7.4). It costs a Fourier
transform of s, of y and of the direction in each iteration.

The gradient, and y with it, is as large or small as the weights of the losses make it, while
products of spectra are of float32. So y is divided by a power of two near its length before it is
transformed, which changes no digit, and what follows from it is multiplied again.

With STRETCH 1, as the textbook has it, a step ends where the gradient along it still has a fifth to
a third of its length, and evaluations until the textbook loop's final loss were 109, 167, 261, 89,
140, 159 and 174 over seven pairs of built-in pictures at 160 to 256 px; with 1.5 they were 97, 131,
209, 90, 107, 174 and 161, with 2 about the same, and with 4 steps overshoot.

It does not always pay. Evaluations from ``init=matched`` to the textbook loop's final loss, with γ
alone and with P and STRETCH 1, over four pairs of built-in pictures at 256 px (suite ``loss``),
were 141 and 104, 164 and 153, 124 and 155, 155 and 166. On a photograph of Tübingen with The Starry
Night P had after 130 evaluations what γ alone had after about 160. POWER 1 was better there and
much worse elsewhere; a fixed P, measured once, was worse than none.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from fastnst.ops import sums
from fastnst.solvers.curvature import Curvature
from fastnst.solvers.state import State
from fastnst.solvers.vectors import Vector

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


class Scaling(ABC):
    """γ P, learnt from curvature pairs: a number for each band of frequencies and colour.

    Args:
        like: A picture, or a part of it: its dtype and device are taken.

    Attributes:
        ss: Σ s_b·s_b, ``(3, BANDS)``.
        sy: Σ s_b·y_b, ``(3, BANDS)``.
        gamma: γ, 0-dimensional.
    """

    def __init__(self, like: Tensor) -> None:
        self.ss = like.new_zeros(3, BANDS)
        self.sy = like.new_zeros(3, BANDS)
        self.gamma = like.new_zeros(())

    @abstractmethod
    def learn_pair(self, step: Vector, change: Vector, curvature: Curvature) -> None:
        """Learn from a curvature pair (s, y) whose products are ``curvature``."""

    @abstractmethod
    def scale(self, x: Vector) -> None:
        """x ← γ P x."""

    def state(self) -> State:
        """What was learnt, from which ``restore`` goes on bit for bit."""
        return State(tensors={"ss": self.ss, "sy": self.sy, "gamma": self.gamma})

    def restore(self, state: State) -> None:
        """Take the state of another scaling, for pictures of the same size and bands."""
        self.ss.copy_(state.tensors["ss"])
        self.sy.copy_(state.tensors["sy"])
        self.gamma.copy_(state.tensors["gamma"])


class SpectralScaling(Scaling):
    """γ P for pictures of one size, learnt and applied without a number fetched or a branch taken.

    Args:
        like: A picture ``(1, 3, H, W)``.

    Attributes:
        scaling: P, ``(3, H, W // 2 + 1)``; it means nothing before a pair was learnt.
    """

    def __init__(self, like: Tensor) -> None:
        super().__init__(like)
        self.shape = like.shape
        device, dtype = like.device, like.dtype
        self.band, self.weight = frequency_bands(like.shape[-2:], like)
        self.colours = torch.tensor(OPPONENT_COLOURS, device=device, dtype=dtype)
        self.scaling = like.new_ones(3, *self.band.shape)
        # For sums over each band. On a CPU index_add_ takes one pass; on a GPU it adds in no
        # fixed order, so that two runs would differ: there it is a product with these members.
        self._members: Tensor | None = None  # (H · (W // 2 + 1), BANDS)
        if device.type != "cpu":
            chosen = torch.nn.functional.one_hot(self.band.flatten(), BANDS)
            self._members = chosen.to(dtype) * self.weight.flatten()[:, None]

    def learn_pair(self, step: Vector, change: Vector, curvature: Curvature) -> None:
        """Learn from a curvature pair of vectors in one band."""
        found = torch.tensor(curvature, dtype=torch.float64, device=self.ss.device)
        self.learn(step[0], change[0], *found.unbind())

    def scale(self, x: Vector) -> None:
        """x ← γ P x, for x in one band."""
        self.apply(x[0], out=x[0])

    def learn(
        self,
        step: Tensor,
        change: Tensor,
        along: Tensor,
        square: Tensor,
        accept: Tensor | None = None,
    ) -> None:
        """Learn from a curvature pair.

        Args:
            step: s, ``(n,)``.
            change: y, ``(n,)``.
            along: s·y, 0-dimensional float64, positive if the pair is accepted.
            square: y·y, the same.
            accept: Whether to learn from the pair, 0-dimensional; if it is false all stays as it
                is. None: yes.
        """
        unit = unit_of(square).to(self.sy.dtype)
        s, y = self._spectrum(step), self._spectrum(change, unit)  # y / unit
        self.ss = _updated(self.ss, MEMORY * self.ss + self._by_band(s, s), accept)
        self.sy = _updated(self.sy, MEMORY * self.sy + self._by_band(s, y) * unit, accept)
        by_band = scaling_by_band(self.ss, self.sy)
        scaling = self._by_frequency(by_band)
        if accept is None:  # y·P y / unit² in one pass, which fetches a number
            norm = sums.dot(product(y, y), scaling * self.weight)
        else:
            norm = (by_band * self._by_band(y, y)).sum()
        norm = norm.double() * unit.double().square()
        gamma = (STRETCH * along / norm).to(self.gamma.dtype)
        self.scaling = _updated(self.scaling, scaling, accept)
        self.gamma = _updated(self.gamma, gamma, accept)

    def apply(self, x: Tensor, out: Tensor | None = None) -> Tensor:
        """γ P x for x ``(n,)``, in ``out`` if it is given, which may be x."""
        spectrum = self._spectrum(x).mul_(self.scaling).mul_(self.gamma)
        opponent = torch.fft.irfft2(spectrum, s=self.shape[-2:], norm="ortho")
        out = torch.empty_like(x) if out is None else out
        torch.matmul(self.colours.T, opponent.flatten(1), out=out.view(3, -1))
        return out

    def forget(self, all_of_it: Tensor) -> None:
        """Drop what was learnt, where ``all_of_it`` (0-dimensional) is true."""
        self.ss.masked_fill_(all_of_it, 0)
        self.sy.masked_fill_(all_of_it, 0)

    def restore(self, state: State) -> None:
        """Take the state of another scaling, for pictures of the same size."""
        super().restore(state)
        self.scaling.copy_(self._by_frequency(scaling_by_band(self.ss, self.sy)))

    def _by_frequency(self, by_band: Tensor) -> Tensor:
        """For each frequency the number ``(3, BANDS)`` of its band: ``(3, H, W // 2 + 1)``."""
        return by_band.index_select(1, self.band.flatten()).view(3, *self.band.shape)

    def _spectrum(self, x: Tensor, unit: Tensor | None = None) -> Tensor:
        """The orthonormal Fourier transform of x ``(n,)``, or x / ``unit``, in opponent colours.

        Complex ``(3, H, W // 2 + 1)``.
        """
        colours = self.colours if unit is None else self.colours / unit
        opponent = colours @ x.view(3, -1)
        spectrum: Tensor = torch.fft.rfft2(opponent.view(self.shape[1:]), norm="ortho")
        return spectrum

    def _by_band(self, a: Tensor, b: Tensor) -> Tensor:
        """a·b summed over each band, ``(3, BANDS)``."""
        products = product(a, b)
        if self._members is not None:
            return products.flatten(1) @ self._members
        return add_by_band(products.mul_(self.weight), self.band).to(products.dtype)


def frequency_bands(
    size: Sequence[int], like: Tensor, columns: slice = slice(None)
) -> tuple[Tensor, Tensor]:
    """The band of each frequency of a picture's half spectrum, and the weight that it has in sums.

    Args:
        size: Height and width of the picture.
        like: A tensor of its dtype, on its device.
        columns: Those of the half spectrum's ``W // 2 + 1`` columns that are wanted.

    Returns:
        The bands, int64, and the weights, in the dtype of the picture: ``(H, columns)`` each.
    """
    height, width = size
    device, dtype = like.device, like.dtype
    along_rows = torch.fft.rfftfreq(width, device=device, dtype=dtype)[None, columns]
    along_columns = torch.fft.fftfreq(height, device=device, dtype=dtype)[:, None]
    frequency = (along_columns.square() + along_rows.square()).sqrt().clamp(min=COARSEST)
    octaves = torch.log2(frequency / COARSEST) / math.log2(FINEST / COARSEST)
    # The half spectrum has the conjugate half's weight too, but for the columns of its own.
    weight = like.new_full((width // 2 + 1,), 2.0)
    weight[0] = 1
    if width % 2 == 0:
        weight[-1] = 1
    return (octaves * (BANDS - 1)).round().long(), weight[columns].expand_as(frequency)


def unit_of(square: Tensor) -> Tensor:
    """A power of two near √ ``square``, 0-dimensional float64: float32 has it and its inverse.

    Args:
        square: The squared length of a vector, 0-dimensional float64; where it is 0 or not finite
            the unit is 1.
    """
    return _power_of_two(square.sqrt()).clamp(2.0**-100, 2.0**100)


def _power_of_two(x: Tensor) -> Tensor:
    """The power of two at or below a positive number, exactly; 1 for 0 and what is not finite."""
    mantissa, _ = torch.frexp(x)
    return torch.nan_to_num(x / (2 * mantissa), nan=1.0)


def scaling_by_band(ss: Tensor, sy: Tensor) -> Tensor:
    """P of what was learnt, ``(3, BANDS)``; that of a colour is at most that of grey.

    Args:
        ss: Σ s_b·s_b, ``(3, BANDS)``.
        sy: Σ s_b·y_b, ``(3, BANDS)``.
    """
    relative = sy / _power_of_two(sy.abs().max())  # of large weights the quotient would overflow
    curvature = relative / ss.clamp(min=torch.finfo(ss.dtype).tiny)
    curvature = curvature / curvature.max()
    scaling = curvature.clamp(min=FLOOR).pow(-POWER)
    return torch.minimum(scaling, scaling[:1])


def _updated(old: Tensor, new: Tensor, accept: Tensor | None) -> Tensor:
    """``new``; with ``accept`` the memory of ``old``, set to ``new`` where that is accepted."""
    return new if accept is None else old.copy_(torch.where(accept, new, old))


def product(a: Tensor, b: Tensor) -> Tensor:
    """The real part of a conj(b) for two spectra."""
    return torch.mul(a.real, b.real).addcmul_(a.imag, b.imag)


def add_by_band(products: Tensor, band: Tensor) -> Tensor:
    """Sums of products ``(3, H, W)`` over the members of each band, on a CPU.

    They are ``(3, BANDS)``, float64; the products are overwritten. Rows of opposite frequencies,
    which are of the same bands, are added first. The rest is added in float64, and one after the
    other: the same bits for any number of threads.
    """
    height = products.shape[1]
    opposite = (height - 1) // 2
    rows = products[:, : height // 2 + 1]
    rows[:, 1 : opposite + 1] += products[:, height - opposite :].flip(1)
    found = torch.zeros(3, BANDS, dtype=torch.float64, device=products.device)
    members = band[: height // 2 + 1].flatten()
    return found.index_add_(1, members, rows.flatten(1).double())
