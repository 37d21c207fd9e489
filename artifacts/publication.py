"""A finished run's way into `outputs/models`, and what `latest` is there.

In: the rename of a whole folder, or a copy where models lie on another file system; a
link to the newest, or a small file where there are no links. Out: what is in a run's
folder, when it goes there (`run_folder`).
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from files.atomic import fsync_folder, fsync_path, fsync_tree, make_folder

logger = logging.getLogger(__name__)

COPY = ".tmp-copy-"
"""How the name of an unfinished copy of a run begins, in the folder of models."""

RUN_ID = re.compile(r"\d{8}T\d{6}Z-\w+-[0-9a-f]{8}(-[0-9a-f]+)?")
_MAX_POINTER_BYTES = 200
_PASSING = (errno.ENOENT, errno.EBUSY, errno.EAGAIN, errno.EINTR, errno.ESTALE)
_ATTEMPTS = 5


def move_run(source: Path, destination: Path, *, internals: Iterable[str]) -> bool:
    """Makes a run's folder appear as `destination`, whole or not at all.

    On another file system it is copied, without the `internals`; the source then stays.

    Returns:
        Whether it was copied.

    Raises:
        OSError: If it is not there.
    """
    try:
        _retried(lambda: _rename(source, destination))
        return False
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        copy = destination.with_name(COPY + destination.name)
        shutil.rmtree(copy, ignore_errors=True)  # of a process that died
        try:
            shutil.copytree(source, copy, ignore=_top_level(source, internals))
            fsync_tree(copy)
            _retried(lambda: _rename(copy, destination))
        finally:
            shutil.rmtree(copy, ignore_errors=True)
    return True


def _rename(source: Path, destination: Path) -> None:
    make_folder(destination.parent)
    os.rename(source, destination)


def _top_level(
    source: Path, internals: Iterable[str]
) -> Callable[[str, list[str]], set[str]]:
    """Returns what `copytree` ignores: the internals, but not deeper namesakes."""
    return lambda folder, _: set(internals) if Path(folder) == source else set()


def _retried(action: Callable[[], None]) -> None:
    """Acts again where another process, or the network, was in the way."""
    for attempt in range(_ATTEMPTS):
        try:
            return action()
        except OSError as error:
            if error.errno not in _PASSING or attempt + 1 == _ATTEMPTS:
                raise
            time.sleep(0.02 * 2**attempt)
    return None


# What latest is


def point_latest(link: Path, run_id: str) -> None:
    """Makes `link` name a run beside it; a refusal costs a warning, no more.

    Where there are no links it is a file with the run's name. What a user keeps under
    that name stays.
    """
    if os.path.lexists(link) and named_by(link) is None:
        logger.warning(
            "%s is not ours and stays as it is; the newest run is %s", link, run_id
        )
        return
    try:
        _retried(lambda: _replace(link, run_id))
        fsync_folder(link.parent)
    except OSError as error:
        logger.warning(
            "%s: cannot be made to name %s: %s", link, run_id, error.strerror or error
        )


def _replace(link: Path, run_id: str) -> None:
    temporary = link.with_name(f".tmp-{secrets.token_hex(6)}-{link.name}")
    try:
        try:
            temporary.symlink_to(run_id, target_is_directory=True)
        except OSError:
            temporary.write_text(run_id + "\n", encoding="ascii")
            fsync_path(temporary)
        os.replace(temporary, link)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def named_by(link: Path) -> str | None:
    """Returns the name of the run beside it that a link, or such a file, names."""
    with contextlib.suppress(OSError):
        if link.is_symlink():
            name = os.readlink(link)
            return name if os.path.basename(name) == name else None
        if link.is_file() and link.stat().st_size <= _MAX_POINTER_BYTES:
            text = link.read_text(encoding="ascii", errors="replace").strip()
            return text if RUN_ID.fullmatch(text) else None
    return None


def followed(path: Path) -> Path:
    """Returns the run that a file named in place of a link; else the path itself."""
    name = None if path.is_dir() else named_by(path)
    return path if name is None else path.parent / name
