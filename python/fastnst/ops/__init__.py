"""Gram matrices, style losses, convolutions and histories: plain PyTorch and compiled kernels.

* ``functional``: what to call for Gram matrices and style losses: checks, backends, autograd;
* ``reference``: the same in a few lines of PyTorch, the truth that the kernels answer to;
* ``convolution``, ``gram``, ``history``: calls of the compiled kernels, with buffers of the caller;
* ``sums``: inner products, norms and distances of pictures, in double;
* ``registration``: the operators ``torch.ops.fastnst``;
* ``buffers``: checks and addresses of tensors;
* ``extension``: the only module that loads the compiled extension.

They import ``errors`` and ``devices`` of the rest of the package, and nothing else.
"""

from fastnst.ops import registration  # noqa: F401  (defines the operators)
from fastnst.ops.functional import gram_matrix, style_loss, style_losses

__all__ = ["gram_matrix", "style_loss", "style_losses"]
