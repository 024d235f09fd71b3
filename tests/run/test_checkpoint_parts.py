"""Checkpoints that ranks write together: whole or old, whatever happens to whom."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from fastnst.errors import InvalidInput
from fastnst.ranks import communication
from fastnst.ranks.protocol import Alone
from fastnst.run import checkpoint_parts
from fastnst.run.checkpoint import load_checkpoint, parts_of
from fastnst.run.checkpoint_checks import digest_of
from helpers import ranks_work
from helpers.ranks import on_ranks, start

FIELDS = {
    "size": 0, "precision": "fp32", "iterations": 6, "history_size": 3,
    "content_layers": ("relu2_2",), "style_layers": ("relu1_1", "relu2_1"),
}  # fmt: skip
SIZE = (36, 300)  # in four bands


@pytest.fixture(scope="module")
def whole() -> np.ndarray:
    """The picture of an undisturbed run."""
    communication.use(Alone(joined=True))
    try:
        pixels: np.ndarray = ranks_work.whole_run(FIELDS, SIZE)[1]
    finally:
        communication.use(Alone())
    return pixels


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a checkpoint of two ranks after four iterations."""
    folder = tmp_path_factory.mktemp("written")
    on_ranks(2, ranks_work.whole_run, {**FIELDS, "iterations": 4}, SIZE, folder / "a.fnst", 2)
    return folder


@pytest.fixture
def path(written: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    (tmp_path / "a.fnst.parts").mkdir()
    for file in written.rglob("a.fnst*/*"):
        (tmp_path / "a.fnst.parts" / file.name).write_bytes(file.read_bytes())
    copy = tmp_path / "a.fnst"
    copy.write_bytes((written / "a.fnst").read_bytes())
    return copy


def parts(path: Path) -> list[Path]:
    return sorted(checkpoint_parts.folder_of(path).iterdir(), key=lambda part: part.name[9:])


def goes_on(path: Path) -> np.ndarray:
    """The picture that one process makes of a checkpoint."""
    pixels: np.ndarray = ranks_work.whole_run(FIELDS, SIZE, None, 50, path)[1]
    return pixels


def test_each_rank_writes_its_rows(path: Path, whole: np.ndarray) -> None:
    first, second = (load_file(part) for part in parts(path))
    assert first.keys() & second.keys() >= {"image", "best"}
    assert first["image"].shape[2] + second["image"].shape[2] == 300
    shared = [x.numel() for name, x in load_file(path).items() if name.startswith("solver.")]
    assert max(shared) < 100  # products of pairs: no picture and no pair
    assert np.array_equal(goes_on(path), whole)


def test_the_parts_of_before_are_removed_and_other_files_are_not(path: Path) -> None:
    mine = checkpoint_parts.folder_of(path) / "notes.txt"
    mine.write_text("mine")
    left = mine.with_name("0123abcd-7.part")  # of a run that was killed
    left.touch()
    before = set(parts(path)) - {mine, left}
    assert {part.name for part in parts_of(path) or ()} == {part.name for part in before}
    on_ranks(2, ranks_work.whole_run, FIELDS, SIZE, path, 2, path)
    after = set(parts(path))
    assert len(after) == 3
    assert not after & {*before, left}
    assert mine in after
    ranks_work.whole_run(FIELDS, SIZE, path)  # in one process, and one file
    assert parts(path) == [mine]
    mine.unlink()
    ranks_work.whole_run(FIELDS, SIZE, path)
    assert not mine.parent.exists()


# Rank 0 writes its part and the checkpoint, at the second time the third and the fourth file.
@pytest.mark.parametrize(
    ("victim", "number", "how"), [(0, 2, "killed"), (0, 3, "full"), (1, 1, "killed")]
)
def test_it_is_whole_or_old(
    tmp_path: Path, whole: np.ndarray, victim: int, number: int, how: str
) -> None:
    path = tmp_path / "a.fnst"
    work = ranks_work.run_on_a_full_disk if how == "full" else ranks_work.run_until_killed
    ranks = start(2, work, FIELDS, SIZE, path, victim, number)
    for rank, one in enumerate(ranks):
        if how == "killed" and rank == victim:
            one.process.join(60)
        else:
            assert isinstance(one.result(), str)  # why it ended
    assert load_checkpoint(path).solver.numbers["iteration"] == 2
    assert np.array_equal(goes_on(path), whole)


def test_machines_that_share_no_disk_are_noticed(tmp_path: Path, whole: np.ndarray) -> None:
    assert on_ranks(3, ranks_work.shared_disk, tmp_path / "a") == [True] * 3
    assert not list(tmp_path.rglob("*.look"))
    (tmp_path / "b.parts").write_text("no folder")
    assert on_ranks(2, ranks_work.shared_disk, tmp_path / "b") == [False] * 2
    on_ranks(2, ranks_work.run_on_folders, {**FIELDS, "iterations": 4}, SIZE, tmp_path)
    assert not list(tmp_path.rglob("*.part"))
    assert not (tmp_path / "1" / "run.fnst").exists()
    assert np.array_equal(goes_on(tmp_path / "0" / "run.fnst"), whole)


def test_a_part_that_is_missing_or_changed_is_named(path: Path) -> None:
    part = parts(path)[1]
    data = part.read_bytes()
    part.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(InvalidInput, match=rf"is damaged: its part .*{part.name} does not hold"):
        load_checkpoint(path)
    part.write_bytes(data[:-1])
    with pytest.raises(InvalidInput, match="a.fnst cannot be read"):
        load_checkpoint(path)
    part.unlink()
    with pytest.raises(InvalidInput, match=rf"is not whole: its part .*{part.name} is missing"):
        load_checkpoint(path)


Named = dict[str, Any]


def named(change: Callable[[Named], object]) -> Callable[[Path], None]:
    """A checkpoint that names its parts otherwise, with a digest that is right."""

    def forge(path: Path) -> None:
        tensors = {k: x.clone() for k, x in load_file(path).items()}
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
        about = json.loads(metadata["fastnst"])
        change(about["parts"])
        text = json.dumps(about)
        save_file(tensors, path, {**metadata, "fastnst": text, "sha256": digest_of(text, tensors)})

    return forge


def of_part(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    """A second part that holds something else, with a digest that is right."""

    def forge(path: Path) -> None:
        part = parts(path)[1]
        tensors = {k: x.clone() for k, x in load_file(part).items()}
        change(tensors)
        save_file(tensors, part)
        named(lambda it: it["files"][1].__setitem__(1, digest_of("", tensors)))(path)

    return forge


@pytest.mark.parametrize(
    ("forge", "message"),
    [
        (named(lambda it: it.update(folder="../a.fnst.parts")), "parts' folder"),
        (named(lambda it: it.update(folder=3)), "parts' folder"),
        (named(lambda it: it.update(files=[])), "its parts"),
        (named(lambda it: it["files"][0].__setitem__(0, "../../x")), "its parts"),
        (named(lambda it: it.update(more=1)), "its parts"),
        (of_part(lambda it: it.pop("best")), "the same pictures in each"),
        (of_part(lambda it: it.update(image=it["image"][..., 1:].clone())), "solver.image"),
        (of_part(lambda it: it.update(image=it["image"][..., :1, :].clone())), "solver.image"),
        (of_part(lambda it: it["image"].fill_(torch.nan)), "image is not as expected: finite"),
        (of_part(lambda it: it.update({"x.band0": torch.zeros(1)})), "does not fit"),
    ],
)
def test_a_fault_is_one_line(path: Path, forge: Callable[[Path], None], message: str) -> None:
    forge(path)
    said = ranks_work.whole_run(FIELDS, SIZE, None, 50, path)
    assert message in said
    assert "\n" not in said
