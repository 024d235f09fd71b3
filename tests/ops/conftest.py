from collections.abc import Iterator

import pytest
import torch

from fastnst.ops import extension
from helpers.kernels import ISAS, needs_native, on_two_threads


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _threads_share_the_work() -> Iterator[None]:
    """Also where tests compute with one thread, for the kernels' work is cut for several."""
    with on_two_threads():
        yield


@pytest.fixture(params=ISAS or [pytest.param("none", marks=needs_native)])
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each instruction set that this machine runs, forced while the test lasts."""
    with extension.use_isa(request.param):
        yield request.param


@pytest.fixture
def threads() -> Iterator[None]:
    """Restores torch's number of threads."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
