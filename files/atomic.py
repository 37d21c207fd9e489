"""Files written whole or not at all, folders proved writable, digests of bytes.

In: what a full disk or a death in the middle must not leave behind. Out: what is
written (`files.strict`, `files.tables`).
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import logging
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from files.locks import take
from utils import CHOOSE_A_FOLDER, StorageError, UserError, format_bytes

logger = logging.getLogger(__name__)

_LACKING = tuple(
    getattr(errno, name)
    for name in "EACCES EBADF EINVAL EISDIR ENOSYS ENOTSUP EOPNOTSUPP EPERM".split()
)
"""What file systems answer to what they have not."""


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a temporary sibling of `path` that replaces it when the block succeeds.

    Order: write, fsync, rename, fsync of the folder; a crash leaves the old file or the
    new one. The temporary name keeps the suffix, which some writers insist on.

    Raises:
        StorageError: If the folder or the disk refuses.
    """
    path = Path(path)
    temporary = path.with_name(f".tmp-{secrets.token_hex(6)}-{path.name}")
    try:
        make_folder(path.parent)
        yield temporary
        fsync_path(temporary)
        os.replace(temporary, path)
        fsync_folder(path.parent)
    except UserError:
        raise
    except OSError as error:
        raise StorageError(_refused_write(path, temporary, error)) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _refused_write(path: Path, temporary: Path, error: OSError) -> str:
    """Says what could not be written, and for a full disk how much is free."""
    # Writers put words of their own around the reason, never around its number.
    reason = os.strerror(error.errno) if error.errno else error
    space = ""
    with contextlib.suppress(OSError):
        free = shutil.disk_usage(path.parent).free
        if error.errno == errno.ENOSPC:
            size = temporary.stat().st_size if temporary.exists() else 0
            needed = f"More than {format_bytes(size)} are needed, " if size else ""
            space = f" {needed}{format_bytes(free)} are free."
    return f"cannot write {path}: {reason}.{space} {CHOOSE_A_FOLDER}"


def atomic_write(path: str | os.PathLike[str], data: bytes | str) -> None:
    """Writes `data` (text as UTF-8) to `path`, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)


def make_folder(path: Path) -> None:
    """Makes a folder and those above it, where they are missing, to last."""
    missing = [each for each in (path, *path.parents) if not each.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for each in missing:
        fsync_folder(each.parent)


def fsync_folder(path: str | os.PathLike[str]) -> None:
    """Flushes a folder's entries, where its file system can."""
    try:
        fsync_path(path)
    except OSError as error:
        if error.errno not in _LACKING:
            raise


def fsync_tree(folder: str | os.PathLike[str]) -> None:
    """Flushes every file below a folder, and every folder's entries."""
    for parent, _, names in os.walk(folder):
        for name in names:
            fsync_path(os.path.join(parent, name))
        fsync_folder(parent)


def fsync_path(path: str | os.PathLike[str]) -> None:
    """Flushes a file, or a folder's entries, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def require_writable(folder: str | os.PathLike[str], *, has_runs: bool = True) -> Path:
    """Creates `folder` if needed; StorageError if no file can be written into it.

    What its file system lacks and runs would use is told once, in one warning.
    """
    folder = Path(folder)
    target = folder / f".write-test-{secrets.token_hex(4)}"
    try:
        with atomic_path(target) as probe:
            probe.write_bytes(b"")
    except StorageError as error:
        # The folder is what the user named; the probe is nobody's file.
        cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
        raise StorageError(_refused_write(folder, target, cause)) from error
    if has_runs:
        _tell_lacks(folder, folder.stat().st_dev)
    for leftover in folder.glob(".write-test-*"):
        leftover.unlink(missing_ok=True)
    return folder


def require_creatable(
    folder: str | os.PathLike[str], *, has_runs: bool = False
) -> None:
    """Does as `require_writable` where `folder` will be, and makes none."""
    folder = Path(folder)
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if not there.is_dir():
        raise StorageError(
            f"cannot write {folder}: {there} is a file, not a folder. "
            "Choose another folder."
        )
    require_writable(there, has_runs=has_runs)


@functools.lru_cache(maxsize=100)
def _tell_lacks(folder: Path, device: int) -> None:
    """Warns of what a file system has not; once, `device` by device."""
    probe = folder / f".write-test-{secrets.token_hex(4)}"

    def lock() -> None:
        with open(probe, "wb") as stream:
            if take(stream.fileno()) is None:
                raise OSError(errno.ENOTSUP, "no locks")

    lacks = {
        "symbolic links: `latest` is a small file with the run's name": (
            lambda: probe.symlink_to("nothing")
        ),
        "flush of folders: a power cut may undo the last renames": (
            lambda: fsync_path(folder)
        ),
        "locks: two machines that share it could take the same run": lock,
    }
    found = []
    for words, use in lacks.items():
        try:
            use()
        except OSError as error:
            found += [words] if error.errno in _LACKING else []
        probe.unlink(missing_ok=True)
    if found:
        logger.warning("%s: the file system has no %s", folder, "; no ".join(found))


def sha256_file(path: str | os.PathLike[str]) -> str:
    """Returns the SHA-256 of a file's bytes as 64 hexadecimal digits."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
