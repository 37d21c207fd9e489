"""One owner at a time, which the system lets go of when the owner dies.

In: taking a file or a folder, telling who has it. Out: what the owner does with it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

_MAX_OWNER_BYTES = 300
_MAX_WAIT_SECONDS = 60.0


class FileLock:
    """A file that one process at a time has, by `flock`.

    Where the file system has no `flock`, a socket's name that this machine gives once
    stands for it; owners on other machines are then known by what they wrote.

    Args:
        path: The lock's file; whoever takes it writes its process and machine there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None
        self._name: socket.socket | None = None

    def acquire(self, *, patience_seconds: float = 0.0) -> bool:
        """Takes the lock until `release` or the end; False while another has it.

        Raises:
            OSError: If its folder is gone or takes no file.
        """
        deadline = time.monotonic() + patience_seconds
        while not (taken := self._try()) and time.monotonic() < deadline:
            time.sleep(0.05)
        return taken

    def release(self) -> None:
        """Lets go of the lock, where it was taken."""
        if self._descriptor is not None:
            os.close(self._descriptor)
        if self._name is not None:
            self._name.close()
        self._descriptor = self._name = None

    def owner(self) -> str:
        """Returns who took the lock last: `process 4711 on trainbox`."""
        with contextlib.suppress(OSError):
            with open(self.path, "rb") as stream:
                words = stream.read(_MAX_OWNER_BYTES).decode(errors="replace").split()
            if len(words) == 2 and "".join(words).isprintable():
                return f"process {words[0]} on {words[1]}"
        return "a process that did not say which"

    def _try(self) -> bool:
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        self._descriptor, is_mine = descriptor, False
        try:
            has_flock = take(descriptor)
            is_mine = self._take_name() if has_flock is None else has_flock
            # Whoever had it may have removed the file since it was opened here.
            is_mine = is_mine and _is_at(descriptor, self.path)
            if is_mine:
                content = f"{os.getpid()} {socket.gethostname()}\n".encode()
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, content, 0)
        finally:
            if not is_mine:
                self.release()
        return is_mine

    def _take_name(self) -> bool:
        here = f" on {socket.gethostname()}"
        if self.path.stat().st_size and not self.owner().endswith(here):
            return False  # whether that machine's process lives cannot be seen here
        digest = hashlib.sha256(os.fsencode(self.path.resolve())).hexdigest()
        self._name = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            self._name.bind(f"\0lock-{digest}")
        except OSError as error:
            return error.errno != errno.EADDRINUSE
        return True


def take(descriptor: int, *, is_shared: bool = False) -> bool | None:
    """Takes `flock` on an open file or folder: True, or False while another has it.

    None where the file system has no such locks.
    """
    kind = fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


@contextlib.contextmanager
def folder_lock(
    folder: str | os.PathLike[str], *, is_shared: bool = False
) -> Iterator[None]:
    """Waits until nobody else changes a folder's files, or, shared, reads them.

    A file system without locks, and a folder that is not there, cost nothing; nor is
    anybody waited for who stands still, for longer than a minute.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        yield
        return
    try:
        deadline = time.monotonic() + _MAX_WAIT_SECONDS
        while take(descriptor, is_shared=is_shared) is False:
            if time.monotonic() > deadline:
                break
            time.sleep(0.01)
        yield
    finally:
        os.close(descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False
