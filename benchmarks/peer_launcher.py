"""Starts a peer's command inside the peer's own environment: MODULE:FUNCTION ARGUMENT...

torchvision refuses to be imported where its compiled operators do not fit the installed torch, even
by programs that only use it to read pictures. There its operators are declared, without any code,
so that the import goes through; a program that called one would fail.
"""

import importlib
import re
import sys


def import_torchvision() -> None:
    """Import torchvision, declaring as many missing operators as it takes."""
    import torch

    for _ in range(100):
        try:
            importlib.import_module("torchvision")
        except ImportError:
            return  # not installed: the peer will say what it needs
        except RuntimeError as error:
            missing = re.search(r"operator (torchvision::\w+) does not exist", str(error))
            if missing is None:
                raise
            torch.library.define(missing[1], "(Tensor x) -> Tensor")
            for name in [name for name in sys.modules if name.startswith("torchvision")]:
                del sys.modules[name]
        else:
            return


if __name__ == "__main__":
    target, *arguments = sys.argv[1:]
    module, _, function = target.partition(":")
    import_torchvision()
    sys.argv = [module, *arguments]
    sys.exit(getattr(importlib.import_module(module), function)())
