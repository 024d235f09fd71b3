"""Gram matrix and style loss: public functions, plain-PyTorch truth and compiled kernels.

* ``functional``: what to call; checks, the choice of backend, autograd;
* ``reference``: the same functions in a few lines of PyTorch, the truth that the kernels answer to;
* ``native``: the only module that loads the compiled extension;
* ``convolution``: its 3×3 convolutions, for the native engine.
"""

from fastnst.ops import registration  # noqa: F401  (defines the operators)
from fastnst.ops.functional import gram_matrix, style_loss, style_losses

__all__ = ["gram_matrix", "style_loss", "style_losses"]
