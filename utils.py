"""Errors with exit codes, signals, logging, the machine's memory and cores, durations.

In: what any program needs. Out: files (`files`), anything that knows a candle, a label
or a model. Imports the standard library alone, because `--config-test` loads it.
"""

from __future__ import annotations

import contextlib
import ctypes
import difflib
import gc
import logging
import math
import os
import re
import resource
import signal
import sys
import threading
import unicodedata
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Generic, TypeVar

logger = logging.getLogger(__name__)
Kind = TypeVar("Kind")

EXIT_USAGE = 2
EXIT_BAD_DATA = 65
EXIT_MISSING_INPUT = 66
EXIT_INTERNAL = 70
EXIT_STORAGE = 74
EXIT_IN_USE = 75
EXIT_REFUSED_ARTIFACT = 76
CHOOSE_A_FOLDER = "Check the permissions and the free space, or choose another folder."


class UserError(Exception):
    """A problem the user can mend: shown as one message, never as a traceback."""

    exit_code = EXIT_INTERNAL


class ConfigError(UserError, ValueError):
    """A configuration or command line that cannot be run."""

    exit_code = EXIT_USAGE


class DataError(UserError, ValueError):
    """Input data that breaks its contract."""

    exit_code = EXIT_BAD_DATA


class MissingInputError(UserError, FileNotFoundError):
    """An input file that is not where it was expected."""

    exit_code = EXIT_MISSING_INPUT


class StorageError(UserError, OSError):
    """A folder or disk that does not take what is written."""

    exit_code = EXIT_STORAGE


class InUseError(UserError):
    """A run or a file that another process has."""

    exit_code = EXIT_IN_USE


class RefusedArtifactError(UserError, ValueError):
    """An artifact whose content does not match its manifest."""

    exit_code = EXIT_REFUSED_ARTIFACT


class DependencyError(UserError, ImportError):
    """An optional package that is not installed; the message names the file."""

    exit_code = EXIT_USAGE


class Interrupted(KeyboardInterrupt):
    """The user, or the system, asked this process to stop.

    Args:
        signal_number: SIGINT or SIGTERM.
        advice: How to go on; the last line that is shown.
    """

    def __init__(self, signal_number: int, advice: str = "") -> None:
        super().__init__(f"interrupted. {advice}".strip())
        self.signal_number = signal_number


class Made(Generic[Kind]):
    """An attribute that a method makes, `step`; read before, it names the method."""

    def __init__(self, step: str) -> None:
        self.step = step

    def __set_name__(self, owner: type, name: str) -> None:
        """Takes the attribute's name."""
        self.name = name

    def __get__(self, instance: object, owner: type) -> Kind:
        """Is not reached once the instance has the attribute."""
        raise AttributeError(f"{self.name} is made by {self.step}(): call that first")


class StopSignals:
    """Turns SIGINT and SIGTERM into `Interrupted` while its block runs.

    The first signal raises at once, or, when deferred, waits in `received` for the
    caller to stop at a good moment. A second one ends the process there and then: every
    file that matters is whole at any time. Outside the main thread nothing is changed.

    Args:
        is_deferred: Keep the first signal in `received` instead of raising.
    """

    def __init__(self, *, is_deferred: bool = False) -> None:
        self.is_deferred = is_deferred
        self.received: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        """Installs the handlers, also where a signal was inherited as ignored."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Puts the former handlers back; raises a signal that nobody looked at."""
        for number, handler in self._previous.items():
            signal.signal(number, handler or signal.SIG_DFL)
        # Raised or not: a library's callback may have swallowed the exception.
        if self.received is not None and kind is None:
            raise Interrupted(self.received)

    def _handle(self, number: int, _: object) -> None:
        if self.received is not None:
            os._exit(128 + number)
        self.received = number
        if not self.is_deferred:
            raise Interrupted(number)


# Errors and command lines


def is_plain_text(text: str) -> bool:
    """Whether text is safe to show: no control, escape, direction or half character."""
    unsafe = ("Cc", "Cf", "Cs", "Zl", "Zp")
    return text.isprintable() or not any(
        unicodedata.category(character) in unsafe for character in text
    )


class PlainFormatter(logging.Formatter):
    """Shows a message; what could steer a terminal is shown as an escape."""

    def format(self, record: logging.LogRecord) -> str:
        """Returns the text of a record; lines and tabs stay."""
        return "".join(
            each if each in "\n\t" or is_plain_text(each) else ascii(each)[1:-1]
            for each in super().format(record)
        )


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Returns `" Did you mean 'x'?"` for the nearest of `known`, or an empty string."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" Did you mean '{near[0]}'?" if near else ""


def run_command_line(main: Callable[[], int | None]) -> int:
    """Runs `main` and turns its outcome into an exit code (docs/contracts.md).

    A `UserError` and an `OSError` become one line on stderr; anything else is a defect
    of this program and keeps its traceback.
    """
    try:
        return main() or 0
    except UserError as error:
        logger.error("error: %s", error)
        return exit_code_of(error)
    except BrokenPipeError:
        # The reader of our output went away (`| head`): not an error of the run.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        logger.error("error: %s%s. %s", where, error.strerror or error, CHOOSE_A_FOLDER)
        return exit_code_of(error)
    except KeyboardInterrupt as stop:
        logger.error("%s", str(stop) or "interrupted")
        return exit_code_of(stop)
    except MemoryError as error:
        logger.error("error: out of memory. Free some, or take fewer rows or columns.")
        return exit_code_of(error)
    except Exception as error:
        logger.exception("internal error: this is a defect, please report it")
        return exit_code_of(error)


def exit_code_of(error: BaseException) -> int:
    """Returns the exit code of a program that an error ends."""
    if isinstance(error, UserError):
        return error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return 128 + getattr(error, "signal_number", signal.SIGINT)
    return EXIT_STORAGE if isinstance(error, OSError) else EXIT_INTERNAL


def configure_logging(*, verbose: bool = False, is_data: bool = False) -> None:
    """Sends log records to the terminal: information to stdout, problems to stderr.

    Where stdout `is_data`, all of them go to stderr.

    Warnings of libraries are records, too, and a long step shows its progress.
    Called by entry points only; a library user keeps their own configuration.
    """
    from files.progress import NoteHandler, show_on

    show_on(sys.stderr, sys.stdout)
    logging.captureWarnings(True)
    stdout = sys.stderr if is_data else sys.stdout
    out, err = NoteHandler(stdout), NoteHandler(sys.stderr)
    out.addFilter(lambda record: record.levelno < logging.WARNING)
    err.setLevel(logging.WARNING)
    for handler in (out, err):
        handler.setFormatter(PlainFormatter("%(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [out, err]
    root.setLevel(logging.DEBUG if verbose else logging.INFO)
    for noisy in ("absl", "h5py", "PIL", "tf2onnx"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    for noisy in ("tensorflow", "matplotlib"):  # retracing for each fold; missing fonts
        logging.getLogger(noisy).setLevel(logging.ERROR)


# Machine, memory, durations


def available_cores() -> int:
    """Returns the cores this process may use: affinity and cgroup quota, at least 1."""
    has_affinity = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        cores = min(cores, math.ceil(int(quota) / int(period)))
    return max(1, cores)


def one_thread() -> Any:
    """Returns a context of one thread of OpenMP and of BLAS: small work waits for more.

    On two busy cores trees of 200,000 targets take 7 s with one thread and 24 s with
    two, a regression 0.2 and 4 s of CPU; and the sums do not depend on the machine.
    """
    from threadpoolctl import threadpool_limits

    return threadpool_limits(limits=1)


def peak_resident_bytes() -> int:
    """Returns the largest resident memory this process had so far."""
    # ru_maxrss survives exec: it would count the process that started this one.
    if (peak := _proc_bytes("self/status", "VmHWM")) is not None:
        return peak
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def return_freed_memory(*, collect: bool = False) -> None:
    """Gives freed memory back to the system, where the C library can.

    To `collect` frees before what only holds itself, as a network does; 0.2 s.
    """
    if collect:
        gc.collect()
    if arrow := sys.modules.get("pyarrow"):  # it keeps some of the columns it read
        arrow.default_memory_pool().release_unused()
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.malloc_trim(0)
        library.MallocExtension_ReleaseFreeMemory()  # where tcmalloc is in


def resident_bytes(process: int | str = "self") -> int | None:
    """Returns the resident memory of a process, or None where /proc is missing."""
    return _proc_bytes(f"{process}/status", "VmRSS")


def available_memory_bytes() -> int | None:
    """Returns the memory that machine and control groups leave; None if not known."""
    found = (_proc_bytes("meminfo", "MemAvailable"), _group_bytes())
    return min((size for size in found if size is not None), default=None)


def address_space_left() -> int | None:
    """Returns what `ulimit -v` still lets this process map; None without a limit."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    mapped = _proc_bytes("self/status", "VmSize")
    if limit == resource.RLIM_INFINITY or mapped is None:
        return None
    return max(0, limit - mapped)


def _group_bytes(root: Path = Path("/")) -> int | None:
    """Returns what the control groups, of version 2 or 1, leave; None without one."""
    left = []
    with contextlib.suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, kind, name = line.split(":", 2)
            names = ("limit_in_bytes", "usage_in_bytes") if kind else ("max", "current")
            if kind in ("", "memory"):
                own = root / "sys/fs/cgroup" / kind / name.strip("/")
                left += [_left_in_group(each, *names) for each in (own, *own.parents)]
    return min((size for size in left if size is not None), default=None)


def _left_in_group(folder: Path, limit: str, used: str) -> int | None:
    with contextlib.suppress(OSError, ValueError):
        most = int((folder / f"memory.{limit}").read_text())
        taken = int((folder / f"memory.{used}").read_text())
        text = (folder / "memory.stat").read_text()
        cached = re.search(r"^(?:total_)?inactive_file (\d+)$", text, re.MULTILINE)
        return max(0, most - taken + (int(cached[1]) if cached else 0))
    return None


def _proc_bytes(file: str, name: str) -> int | None:
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc", file).read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1]) * 1024
    return None


DAY_SECONDS = 86_400
_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def duration_seconds(text: str) -> int:
    """Returns the seconds in `"90s"`, `"15m"`, `"4h"`, `"1d"` or `"1w"`.

    Raises:
        ValueError: If `text` is not a positive whole number and one of those units.
    """
    number, unit = str(text)[:-1], str(text)[-1:]
    if unit not in _UNIT_SECONDS or not number.isdecimal() or not 0 < int(number) < 1e6:
        raise ValueError(
            "expected a whole number and a unit (s, m, h, d, w) such as '1m' or '4h'. "
            f"Received: {text!r}"
        )
    return int(number) * _UNIT_SECONDS[unit]


def timeframe_seconds(text: str) -> int:
    """Returns the seconds of a timeframe: a part of a day, or whole days.

    Raises:
        ValueError: If bars of this length do not open at the same times every day.
    """
    seconds = duration_seconds(text)
    if DAY_SECONDS % seconds and seconds % DAY_SECONDS:
        raise ValueError(
            "expected a timeframe that divides a day, or whole days or weeks, such as "
            f"'1m', '4h' or '1d'. Received: {text!r}"
        )
    return seconds


def format_duration(seconds: float) -> str:
    """Returns a duration in the largest unit that leaves no rest: `"15m"`, `"90s"`."""
    for unit, size in reversed(_UNIT_SECONDS.items()):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:g}s"


def counted(count: int, one: str, many: str) -> str:
    """Returns a number with its noun: `"1 file"`, `"20 files"`."""
    return f"{count} {one if count == 1 else many}"


def format_bytes(count: float) -> str:
    """Returns `count` bytes for a reader: `"91.4 MB"` (decimal units)."""
    for unit in ("B", "kB", "MB"):
        if abs(count) < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.2f} GB"
