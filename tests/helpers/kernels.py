"""Which instruction sets of the compiled kernels this machine runs."""

import pytest

from fastnst.ops import extension

ISAS = extension.available_isas() if extension.is_available() else []

needs_native = pytest.mark.skipif(
    not ISAS, reason=f"no extension: {extension.unavailable_reason()}"
)
