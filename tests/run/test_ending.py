"""The ends of a run get from one process to another with what they carry."""

from __future__ import annotations

import copy
import pickle

import pytest

import fastnst

RESULT = {"what": "was found"}  # whatever can be pickled


@pytest.mark.parametrize(
    "error",
    [
        fastnst.Diverged("the loss became NaN", RESULT),
        fastnst.Diverged("the loss of the start is NaN", None),
        fastnst.Unsaved("checkpoint a\nb could not be written", RESULT),
        fastnst.Interrupted(RESULT),
    ],
)
def test_an_end_can_be_pickled(error: BaseException) -> None:
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(again) is type(error)
        assert (again.args, str(again)) == (error.args, str(error))
        assert again.result == error.result
        assert again.exit_code == error.exit_code
