"""Files that are whole or not there: written beside the target, then renamed into its place.

A rename replaces the target in one go, so a reader, a kill or a power cut finds the old file or the
new one, never a part. What a killed process leaves is a hidden draft, ``.NAME.PID.RANDOM.part``; a
later write of the same target sweeps it away.

A link is followed and stays a link, a replaced file keeps its permissions. Where a rename is
impossible (a file that is mounted, a folder that takes no new files) or would tear a hard link, the
finished bytes are copied into the target; if that fails, they stay beside it and the error says
where.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import os
import re
import secrets
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from fastnst.errors import InvalidInput, OutputFailed

ABANDONED = 60.0  # seconds; a draft that is being written to is younger
HEAD = 1024  # bytes of an existing file that are looked at before it is replaced
_LONGEST = 200  # bytes of a target's name in those made from it; most file systems take 255
_DRAFT = re.compile(r"\.(.+)\.\d+\.[0-9a-f]{8}\.part", re.DOTALL)
_NO_RENAME = (errno.EBUSY, errno.EXDEV, errno.EPERM, errno.EACCES, errno.EROFS)
_NO_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EROFS, errno.EBADF)


def check_outputs(
    outputs: Mapping[str, str | os.PathLike[str] | None],
    inputs: Mapping[str, str | os.PathLike[str] | None],
    same: Iterable[tuple[str, str]] = (),
) -> None:
    """Make sure, before the work starts, that no output is an input or another output.

    Two names are one file if they lead there by other spellings, symbolic links or hard links.

    Args:
        outputs: ``{what to call it: its path}``; None: there is none.
        inputs: Likewise; what is no file (``sample:harbour``) is no output either.
        same: Pairs (output, input) that may be one file, as a checkpoint that a run goes on from.

    Raises:
        InvalidInput: naming both.
    """
    allowed = set(same)
    taken: dict[object, str] = {}
    for name, path in outputs.items():
        if path is not None:
            other = taken.setdefault(_identity(path), name)
            if other != name:
                raise InvalidInput(f"{other} and {name} are the same file, {os.fspath(path)}")
    for name, path in inputs.items():
        output = taken.get(_identity(path)) if path is not None else None
        if output is not None and (output, name) not in allowed:
            raise InvalidInput(
                f"{output} is the same file as {name}, {os.fspath(path or '')}, "
                "which it would overwrite: name another"
            )


def _identity(path: str | os.PathLike[str]) -> object:
    """Equal for names of one file, whether it exists yet or not."""
    try:
        found = os.stat(path)  # noqa: PTH116 - a name may be no path at all
        return found.st_dev, found.st_ino
    except (OSError, ValueError):
        pass
    try:
        target = Path(path).resolve()
        folder = target.parent.stat()
        return folder.st_dev, folder.st_ino, os.path.normcase(target.name)
    except (OSError, ValueError, RuntimeError):
        return os.fspath(path)


def check_writable(
    target: Path,
    label: str,
    needed: int = 0,
    fits: Callable[[bytes], bool] | None = None,
    kind: str = "file of its kind",
    beside: int = 0,
) -> None:
    """Make sure that a file can be written in its folder, or replaced there.

    Args:
        target: The file.
        label: What to call it in messages.
        needed: Bytes that it may take at most.
        fits: Of an existing file: whether its first ``HEAD`` bytes are of what it may be replaced
            by. Anything else is somebody's work, and stays. None: anything may be replaced.
        kind: What ``fits`` expects, for people.
        beside: Bytes that must be free beside it.

    Raises:
        InvalidInput: if it is a folder or a device, its folder is missing, not writable or too
            full, it may become larger than a file may be, or it exists and is something else.
    """
    try:
        _check_writable(target, label)
        if fits is not None:
            check_kind(target, label, fits, kind)
        free = shutil.disk_usage(_real(target).parent).free
    except InvalidInput:
        raise
    except OSError as error:
        raise InvalidInput(f"{label} {target} cannot be written: {error.strerror}") from error
    except (ValueError, RuntimeError) as error:  # a NUL in the name, a loop of links
        raise InvalidInput(f"{label} {str(target)!r} cannot be written: {error}") from error
    if free < needed + beside:
        raise InvalidInput(
            f"{label} {target}: {free / 1e6:.1f} MB are free in {target.parent}, "
            f"the file may need {(needed + beside) / 1e6:.1f} MB"
        )
    most = _largest_file()
    if most is not None and most < needed:
        raise InvalidInput(
            f"{label} {target}: a file may have {most / 1e6:.1f} MB here (ulimit -f), "
            f"this one may need {needed / 1e6:.1f} MB"
        )


def _largest_file() -> int | None:
    """The bytes that the system lets this process write to a file; None: as many as there are."""
    if sys.platform == "win32":
        return None
    import resource

    most, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    return None if most == resource.RLIM_INFINITY else most


def check_kind(target: Path, label: str, fits: Callable[[bytes], bool], kind: str) -> None:
    """Make sure that an existing file is of the kind that it is to be replaced by, or empty.

    Raises:
        InvalidInput: if it is something else.
        OSError: if it cannot be read.
    """
    if not target.is_file():
        return
    with target.open("rb") as file:
        head = file.read(HEAD)
    if head and not fits(head):
        raise InvalidInput(
            f"{label} {target} exists and is no {kind}: it is not overwritten; name another file"
        )


def _check_writable(target: Path, label: str) -> None:
    real = _real(target)
    mode = real.stat().st_mode if real.exists() else None
    if mode is not None and stat.S_ISDIR(mode):
        raise InvalidInput(f"{label} {target} is a folder; name a file in it")
    if mode is not None and not stat.S_ISREG(mode):
        raise InvalidInput(f"{label} {target} is a device, pipe or socket; name a file")
    if not real.parent.is_dir():
        raise InvalidInput(f"{label} {target}: the folder {target.parent} does not exist")
    if mode is not None and not os.access(real, os.W_OK):
        folder = "" if os.access(real.parent, os.W_OK) else f", and {target.parent} is not writable"
        raise InvalidInput(f"{label} {target} exists and is write-protected{folder}")
    if not os.access(real.parent, os.W_OK | os.X_OK):
        if mode is not None:
            return  # it is written in place
        raise InvalidInput(f"{label} {target}: the folder {target.parent} is not writable")
    try:
        with beside(target):
            pass  # a read-only file system says so only when written to
    except OSError:
        if mode is None:
            raise
        with real.open("rb+"):
            pass  # a file mounted over one of a read-only file system


def _real(target: Path) -> Path:
    """Where a name leads.

    Raises:
        OSError: for a loop of links, or a name that is too long.
    """
    real = target.resolve()
    if real.is_symlink():  # resolve stops at a loop
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        real.lstat()
    return real


def short(name: str) -> str:
    """A file's name for use in a longer one: a long one is cut, and has a digest at its end."""
    data = os.fsencode(name)
    if len(data) <= _LONGEST:
        return name
    return f"{data[:_LONGEST].decode(errors='ignore')}-{hashlib.sha256(data).hexdigest()[:8]}"


def _draft(target: Path) -> Path:
    """A name for a draft that no other thread or process has."""
    return target.with_name(f".{short(target.name)}.{os.getpid()}.{secrets.token_hex(4)}.part")


def target_of(draft: Path) -> str | None:
    """The name (as ``short`` has it) of the file that a draft is of; None: it is no draft."""
    found = _DRAFT.fullmatch(draft.name)
    return None if found is None else found[1]


@contextlib.contextmanager
def beside(target: Path) -> Iterator[Path]:
    """A new, empty file in the target's folder, gone at the end unless it was renamed.

    In the folder for temporary files where the target's takes no new file, as where the target is
    mounted into a file system that is read-only: it is then written in place.

    Raises:
        OSError: if the target cannot be written so either.
    """
    with _place(_real(target), Path.touch) as draft:
        yield draft


@contextlib.contextmanager
def folder_beside(target: Path) -> Iterator[Path]:
    """The same for a library that makes drafts of its own: a file to be, in a new hidden folder."""
    real = _real(target)
    with _place(real, Path.mkdir) as folder:
        yield folder / real.name


@contextlib.contextmanager
def _place(real: Path, make: Callable[[Path], None]) -> Iterator[Path]:
    """A draft that was made beside a file, or elsewhere; gone at the end if it is still there."""
    draft = _draft(real)
    with contextlib.ExitStack() as stack:
        try:
            make(draft)
        except OSError:
            if not os.access(real, os.W_OK) or real.is_dir():
                raise
            draft = Path(stack.enter_context(tempfile.TemporaryDirectory()), draft.name)
            make(draft)
        try:
            yield draft
        finally:
            with contextlib.suppress(OSError):
                remove = shutil.rmtree if draft.is_dir() else Path.unlink
                remove(draft)


def put_in_place(draft: Path, target: Path) -> None:
    """Make a finished draft the target, once its bytes are on the disk.

    Raises:
        OSError: if they cannot be put there; the old file is as it was.
        OutputFailed: if they were lost on the way into the old file; they are beside it then.
    """
    real = _real(target)
    sync(draft)
    old = real.stat() if real.exists() else None
    if old is not None:
        with contextlib.suppress(OSError):
            draft.chmod(stat.S_IMODE(old.st_mode))
    if old is None or old.st_nlink == 1:
        try:
            draft.replace(real)
        except OSError as error:
            if old is None or error.errno not in _NO_RENAME:
                raise
        else:
            sweep(real)
            return
    _copy_into(draft, real)
    sweep(real)


def _copy_into(draft: Path, target: Path) -> None:
    try:
        with draft.open("rb") as source, target.open("rb+") as file:
            shutil.copyfileobj(source, file, 1 << 20)
            file.truncate()
        sync(target)
    except OSError as error:
        kept = free_name(target)
        try:
            draft.replace(kept)
        except OSError:  # the draft is elsewhere because the target's folder takes no new file
            kept = free_name(Path(tempfile.gettempdir(), target.name))
            shutil.move(draft, kept)
        raise OutputFailed(
            f"{target} could not be written: {error.strerror}; what was to be in it is in {kept}"
        ) from error


def sync(path: Path) -> None:
    """Wait until a file's bytes are on the disk, on file systems that can say so."""
    with path.open("rb+") as file:
        try:
            os.fsync(file.fileno())
        except OSError as error:
            if error.errno not in _NO_SYNC:
                raise


def write(target: Path, data: bytes) -> None:
    """Write a whole file.

    Raises:
        OutputFailed: if it cannot be written; a file that was there before is left as it was.
    """
    try:
        _write(target, data)
    except OSError as error:
        if isinstance(error, OutputFailed):
            raise
        raise OutputFailed(f"{target} could not be written: {error.strerror}") from error
    except (ValueError, RuntimeError) as error:
        raise OutputFailed(f"{str(target)!r} could not be written: {error}") from error


def _write(target: Path, data: bytes) -> None:
    with beside(target) as draft:
        draft.write_bytes(data)
        put_in_place(draft, target)


def write_or_rescue(target: Path, put: Callable[[Path], object]) -> None:
    """Write what took long to make: if it cannot be put there, it is put elsewhere.

    Args:
        target: Where it is to go.
        put: Writes it to a path, as ``write`` does; raises OutputFailed if that fails.

    Raises:
        OutputFailed: saying where it is now, beside the target or in the folder for temporary
            files, or that it could not be written anywhere.
    """
    try:
        put(target)
    except OutputFailed as error:
        for folder in (target.parent, Path(tempfile.gettempdir())):
            kept = free_name(folder / target.name)
            try:
                put(kept)
            except OutputFailed:
                continue
            raise OutputFailed(f"{error}; it was saved as {kept} instead") from error
        raise


def free_name(target: Path) -> Path:
    """A name like the target's that nothing has: ``NAME-saved-1a2b.png``."""
    stem = os.fsencode(target.stem)[:_LONGEST].decode(errors="ignore")
    return target.with_name(f"{stem}-saved-{secrets.token_hex(3)}{target.suffix}")


def sweep(target: Path) -> None:
    """Remove the drafts of a target that no process has written to for ``ABANDONED`` seconds."""
    name = short(target.name)
    with contextlib.suppress(OSError):  # it is only tidying: another process may be at it too
        for draft in target.parent.glob(f".{glob.escape(name)}.*.part"):
            if target_of(draft) != name:
                continue  # of a target whose name only begins like this one's
            touched = max(path.stat().st_mtime for path in (draft, *draft.glob("*")))
            if time.time() - touched <= ABANDONED:
                continue
            if draft.is_dir():
                shutil.rmtree(draft)
            else:
                draft.unlink()
