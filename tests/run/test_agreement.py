"""Ranks that would go on from different checkpoints find out before they begin."""

from __future__ import annotations

from pathlib import Path

from fastnst.run.agreement import _differs
from helpers import ranks_work
from helpers.ranks import on_ranks

FIELDS = {
    "size": 0, "precision": "fp32", "iterations": 2, "content_layers": ("relu1_1",),
    "style_layers": ("relu1_1",),
}  # fmt: skip
SIZE = (20, 200)


def test_all_ranks_go_on_from_the_same_checkpoint(tmp_path: Path) -> None:
    first, second = tmp_path / "a.fnst", tmp_path / "b.fnst"
    on_ranks(2, ranks_work.whole_run, FIELDS, SIZE, first)
    on_ranks(2, ranks_work.whole_run, {**FIELDS, "iterations": 1}, SIZE, second)
    further = {**FIELDS, "iterations": 3}
    for others in (second, None):
        for said in on_ranks(2, ranks_work.resumed, further, SIZE, [first, others]):
            assert said.startswith("rank 1 has another checkpoint than rank 0")
    found = on_ranks(2, ranks_work.resumed, further, SIZE, [first, first])
    assert [x[4] for x in found] == [3, 3]


def test_who_cannot_use_its_checkpoint_is_named_unless_nobody_can() -> None:
    assert _differs([("a", None), ("a", None)]) is None
    assert _differs([("a", None), ("", "it is damaged")]) == "rank 1: it is damaged"
    assert _differs([("", "it is damaged"), ("", "it is damaged")]) == "it is damaged"
