"""Memory that a training step frees stays with the process, for the next step.

In: the C library, and tcmalloc where the machine has it. Out: TensorFlow, which is not
loaded here; giving memory back (`utils`).

A step of LSTM layers saves hundreds of megabytes. Where they go back to the system
after each step, the kernel clears every page of them again before the next: up to a
quarter of all CPU seconds. Figures: `benchmarks/bench_training.py`.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import os
import sys
from collections.abc import Callable
from contextvars import ContextVar

import utils
from config import Config
from executors.preloading import with_tcmalloc
from networks.supervision import supervise
from settings.machine_fields import MachineFields

# glibc's malloc.h: what is freed stays, its heaps for threads (64 MiB each) are not
# unmapped, and no block has a mapping of its own, which would go back when it is freed.
# `mallopt` takes a C int.
_MALLOC_OPTIONS = {
    -1: 2**31 - 1,  # M_TRIM_THRESHOLD
    -2: 64 * 2**20,  # M_TOP_PAD
    -4: 0,  # M_MMAP_MAX
}
_ARENA_MAX = -8  # M_ARENA_MAX


def keep_freed_memory() -> str:
    """Makes freed memory stay with the process; returns the allocator in use.

    Returns:
        `"tcmalloc"`, which keeps it anyway, `"glibc, keeps freed memory"`, `"system"`,
        of which nothing is known, or `"system, within ulimit -v"`, left as it is.
    """
    if utils.address_space_left() is not None:
        return "system, within ulimit -v"  # where what is kept would be missing
    try:
        library = ctypes.CDLL(None)
        if hasattr(library, "tc_malloc"):
            return "tcmalloc"
        if hasattr(library, "gnu_get_libc_version") and all(
            [library.mallopt(name, value) for name, value in _MALLOC_OPTIONS.items()]
        ):
            return "glibc, keeps freed memory"
    except (OSError, TypeError):
        pass  # a system whose C library is not loaded under this name
    return "system"


def share_heaps() -> None:
    """Has threads take memory from one heap for four cores, not from eight for each.

    What one thread frees is then there for the others: 60 MB less at the peak of a
    training step. For threads that start later; a user's own setting stays.
    """
    own = os.environ.get("GLIBC_TUNABLES", "")
    if "MALLOC_ARENA_MAX" in os.environ or "malloc.arena_max" in own:
        return
    with contextlib.suppress(OSError, TypeError):
        library = ctypes.CDLL(None)
        if hasattr(library, "gnu_get_libc_version"):
            library.mallopt(_ARENA_MAX, -(-utils.available_cores() // 4))


def prepare_process(config: Config, *, can_restart: bool) -> None:
    """Does what a command must before TensorFlow is loaded.

    Args:
        config: Which allocator.
        can_restart: Whether the same words with `--resume` go on with its one run.
    """
    # Half a million objects of TensorFlow never go: to look through them is a second,
    # at the end, too.
    gc.set_threshold(1_000_000)
    atexit.register(gc.freeze)
    share_heaps()
    if can_restart:
        supervise(config)
        RESTART.set(start_anew)
    start_with_tcmalloc(config)


def start_with_tcmalloc(config: MachineFields) -> None:
    """Starts this program anew with tcmalloc, where it may, and the machine has it.

    The process, its number, signals and exit code stay; what the program has done so
    far is done again. Returns where there is no tcmalloc, or it is in already.
    """
    if config.allocator == "auto" and (preload := with_tcmalloc()):
        start_anew(**preload)


def start_anew(*words: str, **environment: str) -> None:
    """Starts the command of this process again, with more words, in new memory."""
    sys.stdout.flush()
    os.execve(  # noqa: S606 -- the interpreter that runs this
        sys.executable,
        [sys.executable, *sys.orig_argv[1:], *words],
        os.environ | environment,
    )


RESTART: ContextVar[Callable[..., None] | None] = ContextVar("restart", default=None)
"""`start_anew` where this process is a command that can go on so."""
