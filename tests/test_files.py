"""Files are whole or not there."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
import threading
import time
from pathlib import Path

import pytest
import torch

from fastnst import files
from fastnst.errors import InvalidInput, OutputFailed
from fastnst.run import checkpoint_tensors


def test_a_file_is_replaced_in_one_go(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_bytes(b"old")
    reader = target.open("rb")  # as another program may have it open
    files.write(target, b"new")
    assert reader.read() == b"old"
    assert target.read_bytes() == b"new"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_what_fails_leaves_the_old_file_and_no_draft(tmp_path: Path, monkeypatch) -> None:
    target = tmp_path / "a.txt"
    target.write_bytes(b"old")

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputFailed, match="a.txt could not be written: No space left"):
        files.write(target, b"new")
    assert target.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_drafts_that_a_kill_left_are_swept_away_later(tmp_path: Path) -> None:
    target = tmp_path / "a[1].txt"  # brackets mean something to a glob
    left = tmp_path / ".a[1].txt.77.01abcdef.part"
    folder = tmp_path / ".a[1].txt.78.01abcdef.part"
    fresh = tmp_path / ".a[1].txt.79.01abcdef.part"
    other = tmp_path / ".b.txt.77.01abcdef.part"
    folder.mkdir()
    for path in (left, folder / "draft", fresh, other):
        path.write_bytes(b"half")
    long_ago = time.time() - 2 * files.ABANDONED
    for path in (left, folder / "draft", folder, other):
        os.utime(path, (long_ago, long_ago))
    files.write(target, b"whole")
    assert {p.name for p in tmp_path.iterdir()} == {"a[1].txt", fresh.name, other.name}


def refused(error: int):
    def refuse(*args, **kwargs):
        raise OSError(error, os.strerror(error))

    return refuse


def test_links_and_permissions_stay(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    real = tmp_path / "far" / "real.txt"
    real.write_bytes(b"old and longer")
    real.chmod(0o640)
    link = tmp_path / "link.txt"
    link.symlink_to(real)
    files.write(link, b"new")
    assert link.is_symlink()
    assert real.read_bytes() == b"new"
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    hard = tmp_path / "hard.txt"
    os.link(real, hard)
    files.write(hard, b"again")
    assert real.read_bytes() == hard.read_bytes() == b"again"
    assert real.samefile(hard)
    dangling = tmp_path / "dangling.txt"
    dangling.symlink_to(tmp_path / "far" / "new.txt")
    files.write(dangling, b"made")
    assert (tmp_path / "far" / "new.txt").read_bytes() == b"made"
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize("error", [errno.EBUSY, errno.EXDEV, errno.EPERM])
def test_a_mounted_file_is_written_in_place(tmp_path: Path, monkeypatch, error: int) -> None:
    target = tmp_path / "a.txt"
    target.write_bytes(b"old and longer")
    inode = target.stat().st_ino
    monkeypatch.setattr(Path, "replace", refused(error))
    files.check_writable(target, "output")
    files.write(target, b"new")
    assert target.read_bytes() == b"new"
    assert target.stat().st_ino == inode
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_folder_that_takes_no_new_files(tmp_path: Path, monkeypatch) -> None:
    target = tmp_path / "a.txt"
    target.write_bytes(b"old and longer")
    make, replace = {"touch": Path.touch, "mkdir": Path.mkdir}, Path.replace

    def refusing(name: str):
        def called(path: Path, *args, **kwargs):
            if path.parent == tmp_path:
                raise OSError(errno.EROFS, os.strerror(errno.EROFS))
            return make[name](path, *args, **kwargs)

        return called

    for name in make:
        monkeypatch.setattr(Path, name, refusing(name))
    monkeypatch.setattr(
        Path, "replace", lambda a, b: refused(errno.EXDEV)() if b == target else replace(a, b)
    )
    files.check_writable(target, "output")
    files.write(target, b"new")
    assert target.read_bytes() == b"new"
    checkpoint_tensors.write({"a": torch.ones(3)}, {}, target)
    assert torch.equal(checkpoint_tensors.read(target)[1]["a"], torch.ones(3))
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    with pytest.raises(InvalidInput, match="Read-only"):
        files.check_writable(tmp_path / "b.txt", "output")


def test_what_fails_while_it_is_written_in_place_is_beside_it(tmp_path: Path, monkeypatch) -> None:
    target = tmp_path / "a.txt"
    target.write_bytes(b"old")
    os.link(target, tmp_path / "b.txt")
    monkeypatch.setattr(shutil, "copyfileobj", refused(errno.ENOSPC))
    with pytest.raises(OutputFailed, match=r"No space left.*what was to be in it is in ") as caught:
        files.write(target, b"new")
    kept = Path(str(caught.value).rpartition(" is in ")[2])
    assert kept.parent == tmp_path
    assert kept.read_bytes() == b"new"


def test_what_fails_beside_no_new_file_is_in_the_temporary_folder(
    tmp_path: Path, monkeypatch
) -> None:
    """A file that is mounted alone: its draft was there already, and goes with its folder."""
    target, elsewhere = tmp_path / "a.txt", tmp_path / "tmp"
    target.write_bytes(b"old")
    elsewhere.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(elsewhere))
    touch, replace = Path.touch, Path.replace

    def refuse_here(path: Path, *args, **kwargs):
        if path.parent == tmp_path:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return touch(path, *args, **kwargs)

    monkeypatch.setattr(Path, "touch", refuse_here)
    monkeypatch.setattr(
        Path,
        "replace",
        lambda a, b: refused(errno.EXDEV)() if b.parent == tmp_path else replace(a, b),
    )
    copy, calls = shutil.copyfileobj, []

    def fail_once(*given):
        calls.append(given)
        return copy(*given) if len(calls) > 1 else refused(errno.ENOSPC)()

    monkeypatch.setattr(shutil, "copyfileobj", fail_once)
    with pytest.raises(OutputFailed, match=r"No space left.*what was to be in it is in ") as caught:
        files.write(target, b"new")
    kept = Path(str(caught.value).rpartition(" is in ")[2])
    assert kept.parent == elsewhere
    assert kept.read_bytes() == b"new"


def test_a_file_system_that_cannot_sync(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(os, "fsync", refused(errno.EINVAL))
    files.write(tmp_path / "a.txt", b"new")
    assert (tmp_path / "a.txt").read_bytes() == b"new"


def test_drafts_of_threads_do_not_meet(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    failures = []

    def write(letter: bytes) -> None:
        try:
            for _ in range(30):
                files.write(target, letter * 100_000)
        except OSError as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(letter,)) for letter in (b"a", b"b", b"c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    data = target.read_bytes()
    assert len(data) == 100_000
    assert len(set(data)) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_long_names(tmp_path: Path) -> None:
    target = tmp_path / f"{'é' * 124}.txt"  # 252 bytes
    files.check_writable(target, "output")
    files.write(target, b"new")
    files.write(target, b"newer")
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"newer"]


def test_names_that_the_system_refuses(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "file").write_bytes(b"")
    os.mkfifo(tmp_path / "pipe")
    for name in (
        "x" * 300,
        "a\0b",
        "loop",
        "file/a",
        "pipe",
        "none/a",
        ".",
        "/dev/null",
        "/dev/full",
    ):
        with pytest.raises(InvalidInput, match="^output ") as caught:
            files.check_writable(tmp_path / name, "output")
        assert "\n" not in str(caught.value)
        if name not in ("pipe", "/dev/null", "/dev/full"):
            with pytest.raises(OutputFailed):
                files.write(tmp_path / name, b"new")


def test_an_existing_file_of_another_kind_stays(tmp_path: Path) -> None:
    target = tmp_path / "a.pdf"
    for content, right in ((b"%PDF-1.7", True), (b"", True), (b"words", False)):
        target.write_bytes(content)
        if right:
            files.check_writable(target, "plot", fits=lambda head: head[:4] == b"%PDF")
        else:
            with pytest.raises(InvalidInput, match=r"plot .*a\.pdf exists and is no PDF file"):
                files.check_writable(target, "plot", 0, lambda h: h[:4] == b"%PDF", "PDF file")


def test_outputs_and_inputs_are_told_apart(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "d").mkdir()
    content = tmp_path / "c.png"
    content.write_bytes(b"x")
    (tmp_path / "soft.png").symlink_to(content)
    os.link(content, tmp_path / "hard.png")
    (tmp_path / "there").symlink_to(tmp_path / "d")
    for name in ("c.png", "./c.png", "d/../c.png", content, "soft.png", "hard.png"):
        with pytest.raises(InvalidInput, match=r"--output is the same file as content"):
            files.check_outputs({"--output": name, "--plot": None}, {"content": "c.png"})
    for one, other in (("a.png", "./a.png"), ("d/a.png", "there/a.png"), ("c.png", "hard.png")):
        with pytest.raises(InvalidInput, match=r"--output and --plot are the same file"):
            files.check_outputs({"--output": one, "--plot": other}, {})
    files.check_outputs(
        {"--output": "a.png", "--plot": "b.png", "--checkpoint": "c.png"},
        {
            "content": "sample:harbour",
            "style": "none/a.png",
            "mask": None,
            "--resume": "c.png",
            "x": "a\0",
        },
        same=[("--checkpoint", "--resume")],
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no limits there")
def test_a_file_that_would_be_larger_than_one_may_be_is_refused(
    tmp_path: Path, monkeypatch
) -> None:
    import resource

    monkeypatch.setattr(resource, "getrlimit", lambda _: (1_000_000, resource.RLIM_INFINITY))
    files.check_writable(tmp_path / "a.png", "output", 1_000_000)
    with pytest.raises(InvalidInput, match=r"1\.0 MB here \(ulimit -f\), this .* 1\.1 MB"):
        files.check_writable(tmp_path / "a.png", "output", 1_100_000)


def test_drafts_of_a_longer_name_are_another_s(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(files, "ABANDONED", -1.0)  # as if nobody had written for long
    with files.beside(tmp_path / "run.mp4") as other, files.beside(tmp_path / "run") as own:
        files.sweep(tmp_path / "run")
        assert other.exists()
        assert not own.exists()
    odd = tmp_path / "a[b]*.x"
    with files.beside(odd) as draft, files.folder_beside(odd) as inner:
        files.sweep(odd)
        assert not draft.exists()
        assert not inner.parent.exists()


def test_a_rename_that_fails_for_want_of_space_tears_no_old_file(
    tmp_path: Path, monkeypatch
) -> None:
    """Only where a rename is impossible is the old file written to."""
    target = tmp_path / "a.txt"
    target.write_bytes(b"old and longer")
    monkeypatch.setattr(Path, "replace", refused(errno.ENOSPC))
    with pytest.raises(OutputFailed, match="No space left"):
        files.write(target, b"new")
    assert target.read_bytes() == b"old and longer"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_file_that_is_write_protected_is_not_replaced(tmp_path: Path, monkeypatch) -> None:
    """Though its folder would let it be: who protects a file wants to keep it."""
    target = tmp_path / "a.txt"
    target.write_bytes(b"old")
    access = os.access  # root may write everywhere
    monkeypatch.setattr(os, "access", lambda path, mode: path != target and access(path, mode))
    with pytest.raises(InvalidInput, match=r"a\.txt exists and is write-protected$"):
        files.check_writable(target, "output")
