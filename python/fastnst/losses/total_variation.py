"""The total variation of a picture, in the forms that are in use.

    squared        mean (x_{i+1,j} − x_{i,j})²  +  mean (x_{i,j+1} − x_{i,j})²
    absolute       the same with absolute values
    squared-sum    squared, with sums for means: its weight depends on the size of the picture
    absolute-sum   absolute, with sums for means
    nine-point     ⅔ (mean dx² + mean dy²) + ⅙ (mean of both diagonals' squares), edges replicated
    color          squared, of the colour differences U = B − L and V = R − L alone, with the
                   luminance L = 0.299 R + 0.587 G + 0.114 B

Squared: Mahendran & Vedaldi 2015 (arXiv:1412.0035) with β = 2; absolute: Rudin, Osher & Fatemi
1992, without rotational invariance; nine-point: K. Crowson's style-transfer-pytorch. Color is
against grain: the network hardly sees fine differences of colour (docs/quality.md).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fastnst.errors import InvalidInput
from fastnst.losses.rows import sum_by_rows, wide

FORMS = ("squared", "absolute", "squared-sum", "absolute-sum", "nine-point", "color")
_LUMINANCE = (0.299, 0.587, 0.114)  # of RGB, ITU-R BT.601
# U = B − L and V = R − L of red, green and blue.
COLOUR_DIFFERENCES = tuple(
    tuple(float(of == channel) - _LUMINANCE[of] for of in range(3)) for channel in (2, 0)
)


class TotalVariationLoss(nn.Module):
    """How much neighbouring pixels differ.

    Args:
        form: One of ``FORMS``.

    Raises:
        InvalidInput: for another form.
    """

    def __init__(self, form: str = "squared") -> None:
        super().__init__()
        if form not in FORMS:
            raise InvalidInput(f"tv_form is {form!r}: choose one of {', '.join(FORMS)}")
        self.form = form

    @property
    def has_gradient(self) -> bool:
        """Whether ``differentiate`` has the gradient of the form."""
        return self.form in ("squared", "squared-sum", "color")

    def forward(self, image: Tensor) -> Tensor:
        """The loss, 0-dimensional, of a picture ``(B, C, H, W)``; 0 for a single pixel.

        For the form ``color`` its channels are red, green and blue.
        """
        image = wide(image)
        if self.form == "nine-point":
            return _nine_point(image)
        if self.form == "color":
            image = colour_differences(image)
        rows, columns = (self._size(d) for d in (image.diff(dim=-2), image.diff(dim=-1)))
        if self.form.endswith("-sum"):
            return sum_by_rows(rows) + sum_by_rows(columns)
        return _mean(rows) + _mean(columns)

    def differentiate(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """The loss of a picture and its gradient there, of a form that ``has_gradient``.

        ∂/∂x_i Σ_j (x_{j+1} − x_j)² is 2 (x_i − x_{i−1}) − 2 (x_{i+1} − x_i).

        Args:
            image: ``(B, C, H, W)``, as ``forward`` takes it.

        Returns:
            The loss, 0-dimensional, and the gradient ``(B, C, H, W)``.

        Raises:
            InvalidInput: for another form.
        """
        if not self.has_gradient:
            raise InvalidInput(f"the gradient of tv_form {self.form} is not written down")
        planes = colour_differences(image) if self.form == "color" else image
        value, gradient = image.new_zeros(()), torch.zeros_like(planes)
        for along, ends in (
            (-2, (gradient[..., 1:, :], gradient[..., :-1, :])),
            (-1, (gradient[..., 1:], gradient[..., :-1])),
        ):
            differences = planes.diff(dim=along)
            count = 1 if self.form.endswith("-sum") else max(differences.numel(), 1)
            value = value + sum_by_rows(differences.square()) / count
            ends[0].add_(differences, alpha=2 / count)
            ends[1].sub_(differences, alpha=2 / count)
        if self.form == "color":
            u, v = gradient.unbind(1)
            of_u, of_v = COLOUR_DIFFERENCES
            gradient = torch.stack([a * u + b * v for a, b in zip(of_u, of_v, strict=True)], 1)
        return value, gradient

    def of_rows(self, rows: Tensor, following: Tensor, first: bool, height: int) -> Tensor:
        """What some rows of a picture contribute: summed over all rows, that is the loss.

        Rows count their differences along themselves and to the row that follows each of them.

        Args:
            rows: ``(B, C, h, W)``.
            following: The row that follows them ``(B, C, 1, W)``; ``(B, C, 0, W)`` at the end of
                the picture.
            first: Whether the rows are the picture's first.
            height: Rows of the whole picture.
        """
        if self.form == "color":
            rows, following = colour_differences(rows), colour_differences(following)
        batch, channels, _, width = rows.shape
        planes = batch * channels
        seen = torch.cat([rows, following], -2)
        if self.form == "nine-point":
            end = seen[..., -1:, :] if following.shape[-2] == 0 else seen[..., :0, :]
            begin = seen[..., :1, :] if first else seen[..., :0, :]
            x = nn.functional.pad(torch.cat([begin, seen, end], -2), (1, 1, 0, 0), mode="replicate")
            down = sum_by_rows((x[..., 1:, 1:-1] - x[..., :-1, 1:-1]).square())
            right = sum_by_rows((rows[..., 1:] - rows[..., :-1]).square())
            falling = sum_by_rows((x[..., 1:, 1:] - x[..., :-1, :-1]).square())
            rising = sum_by_rows((x[..., 1:, :-1] - x[..., :-1, 1:]).square())
            straight = (down + right) / (planes * height * width)
            return 2 / 3 * straight + (falling + rising) / (6 * planes * (height + 1) * (width + 1))
        down, right = (sum_by_rows(self._size(d)) for d in (seen.diff(dim=-2), rows.diff(dim=-1)))
        if self.form.endswith("-sum"):
            return down + right
        return down / max(planes * (height - 1) * width, 1) + right / max(
            planes * height * (width - 1), 1
        )

    def _size(self, differences: Tensor) -> Tensor:
        """Differences ``(B, C, h, w)`` of neighbours, squared or as absolute values."""
        return differences.abs() if self.form.startswith("absolute") else differences.square()


def colour_differences(rgb: Tensor) -> Tensor:
    """U = B − L and V = R − L of red, green and blue ``(B, 3, h, w)``: ``(B, 2, h, w)``."""
    if rgb.shape[1] != 3:
        raise InvalidInput(f"tv_form color: expected 3 channels, got {rgb.shape[1]}")
    red, green, blue = rgb.unbind(1)  # no product of matrices, which may be rounded to TF32
    return torch.stack([r * red + g * green + b * blue for r, g, b in COLOUR_DIFFERENCES], 1)


def _nine_point(image: Tensor) -> Tensor:
    # not by torch's padding: its gradient adds in no fixed order on a GPU
    rows = torch.cat([image[..., :1, :], image, image[..., -1:, :]], dim=-2)
    x = torch.cat([rows[..., :1], rows, rows[..., -1:]], dim=-1)
    down = _mean((x[..., 2:, 1:-1] - x[..., 1:-1, 1:-1]).square())
    right = _mean((x[..., 1:-1, 2:] - x[..., 1:-1, 1:-1]).square())
    falling = _mean((x[..., 1:, 1:] - x[..., :-1, :-1]).square())
    rising = _mean((x[..., 1:, :-1] - x[..., :-1, 1:]).square())
    return 2 / 3 * (down + right) + 1 / 6 * (falling + rising)


def _mean(x: Tensor) -> Tensor:
    """The mean; 0 where there are no values, as a side of one pixel has no neighbours."""
    return sum_by_rows(x) / max(x.numel(), 1)
