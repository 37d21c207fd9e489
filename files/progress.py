"""How far a long step is: a line of the terminal, or one a minute where there is none.

In: parts that are counted, steps within steps, the time that is left. Out: where log
records go (`utils`), what a run keeps of it (`artifacts.run_record`).

rich, which Keras brings, draws from a thread of its own and knows neither the quiet
seconds nor the line a minute: what would be left for it is one carriage return.
"""

from __future__ import annotations

import io
import logging
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Self, TextIO, TypeVar

logger = logging.getLogger(__name__)
_Item = TypeVar("_Item")

QUIET_SECONDS = 5.0
"""A step that takes less is not shown."""
_DRAW_SECONDS, _SAY_SECONDS = 0.2, 60.0
_ERASE, _UP = "\x1b[J", "\x1b[{}A"
"""What empties a terminal from here on, and what goes so many lines up in it."""
_MOST_COUNTED = 1000
"""More parts than these are told as a share."""


class Progress:
    """A step of parts that can be counted, as a block; a process has one at a time.

    A step that begins within another one continues its line, and the time that is left
    is that of the outermost.

    Args:
        what: Name of a part, such as `"epoch"`.
        total: How many there are.
        done: How many an earlier process did.
        details: Returns lines that a terminal shows below, of what is in work.

    Example:
        >>> with Progress("epoch", 20) as epochs:
        ...     epochs.advance(metrics={"loss": 0.91})
    """

    def __init__(
        self,
        what: str,
        total: int,
        *,
        done: int = 0,
        details: Callable[[], list[str]] | None = None,
    ) -> None:
        self.what = what
        self.details = details or list
        self.total = total
        self.done = done
        self.metrics: dict[str, float] = {}
        self._started = 0.0
        self._within = 0.0
        self._origin: tuple[float, float] | None = None

    def __enter__(self) -> Self:
        """Begins the step."""
        self._started = time.monotonic()
        _LINE.steps.append(self)
        _LINE.tell()
        return self

    def __exit__(self, *_: object) -> None:
        """Ends it, and what began within it."""
        if self in _LINE.steps:
            place = _LINE.steps.index(self)
            if place:  # the part in work keeps what was done of it
                outer = _LINE.steps[place - 1]
                outer._within = max(outer._within, self.share())
            del _LINE.steps[place:]
        _LINE.tell()

    def advance(
        self, count: int = 1, metrics: Mapping[str, float] | None = None
    ) -> None:
        """Counts parts that are done, and takes numbers to show beside them."""
        self.done += count
        self._within = 0.0
        self.metrics.update(metrics or {})
        if _LINE.steps:
            _LINE.steps[0]._begin_to_estimate()
        _LINE.tell()

    def tell(self) -> None:
        """Shows how it is now, where it is time to."""
        _LINE.tell()

    @property
    def number(self) -> int:
        """The part in work, counted from 1."""
        return min(self.done + 1, self.total)

    def share(self, within: float = 0.0) -> float:
        """Returns the share that is done, `within` that of the part in work."""
        done = self.done + max(within, self._within)
        return min(1.0, done / self.total) if self.total else 0.0

    def _begin_to_estimate(self) -> None:
        # The first part of all has what is done once, such as compiling.
        if self._origin is None:
            self._origin = (time.monotonic(), _LINE.share())

    def seconds_left(self, share: float) -> float | None:
        """Returns the seconds until a `share` is 1; None before two parts are done."""
        begun, first = self._origin or (0.0, share)
        elapsed = time.monotonic() - begun
        return elapsed * (1 - share) / (share - first) if share > first else None

    def __str__(self) -> str:
        if not self.total:
            return self.what
        if self.total > _MOST_COUNTED:
            return f"{self.what} {self.share():.0%}"
        return f"{self.what} {self.number} of {self.total}"


def track(items: Iterable[_Item], what: str, total: int) -> Iterator[_Item]:
    """Yields items, each a part of a step; see `Progress`."""
    with Progress(what, total) as step:
        for item in items:
            yield item
            step.advance()


class _Line:
    """The line of this process."""

    def __init__(self) -> None:
        self.steps: list[Progress] = []
        self.terminal: TextIO | None = None
        self.is_shown = False
        """Whether progress is shown at all: an entry point says so."""
        self._width = 0
        self._has_more = False
        self._last = 0.0

    def share(self) -> float:
        """Returns the share of the outermost step that is done, with those within."""
        share = 0.0
        for step in reversed(self.steps):
            share = step.share(share)
        return share

    def tell(self) -> None:
        """Shows the steps where it is time to."""
        if not self.steps or self.steps[0].share() >= 1:
            self.clear()
            return
        now, started = time.monotonic(), self.steps[0]._started
        if not self.is_shown or now - started < QUIET_SECONDS:
            return
        since = now - max(self._last, started)
        if self.terminal is None and since >= _SAY_SECONDS:
            self._last = now
            logger.info("%s", _text())
        elif self.terminal is not None and now - self._last >= _DRAW_SECONDS:
            self._last = now
            self._draw(self.terminal)

    def _draw(self, terminal: TextIO) -> None:
        columns, rows = shutil.get_terminal_size()
        text = _text()[: columns - 1]
        terminal.write(f"\r{text:<{self._width}}")
        below = [line for step in self.steps for line in step.details()][: rows - 2]
        if below or self._has_more:
            lines = "".join(f"\n{line[: columns - 1]}" for line in below)
            terminal.write(_ERASE + lines + _UP.format(len(below)) * bool(below))
        terminal.flush()
        self._width, self._has_more = len(text), bool(below)

    def clear(self) -> None:
        """Empties the line, and those below it."""
        if self.terminal is not None and self._width:
            rest = _ERASE * self._has_more
            self.terminal.write(f"\r{'':<{self._width}}\r{rest}")
            self.terminal.flush()
            self._width, self._has_more = 0, False


_LINE = _Line()


def _text() -> str:
    now = snapshot()
    first = sorted(now["metrics"].items(), key=lambda each: "loss" not in each[0])
    numbers = [f"{name} {value:.4g}" for name, value in first]
    left = now["eta_seconds"]
    words = ", ".join([*map(str, _LINE.steps), *numbers[:3]])
    return words if left is None else f"{words}; about {in_words(left)} left"


def in_words(seconds: float) -> str:
    """Returns a duration for a reader: `"40 s"`, `"12 min"`, `"2.5 h"`."""
    minutes = round(seconds / 60)
    if minutes < 2:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"


def snapshot() -> dict[str, Any]:
    """Returns `steps` (`what`, `number`, `total`), `metrics` and `eta_seconds`."""
    steps, metrics = list(_LINE.steps), dict[str, float]()
    for step in steps:
        metrics |= step.metrics
    left = steps[0].seconds_left(_LINE.share()) if steps else None
    return {
        "steps": [
            {"what": step.what, "number": step.number, "total": step.total}
            for step in steps
        ],
        "metrics": metrics,
        "eta_seconds": left,
    }


def show_on(*streams: TextIO) -> None:
    """Shows progress from now on: on the first terminal of these, else in the log.

    What a stream's encoding has no letters for is written as an escape.
    """
    for stream in streams:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    _LINE.is_shown = True
    _LINE.terminal = next((each for each in streams if each.isatty()), None)


class NoteHandler(logging.StreamHandler[TextIO]):
    """Writes log records in lines of their own, never behind the line of progress."""

    def emit(self, record: logging.LogRecord) -> None:
        """Writes a record."""
        _LINE.clear()
        super().emit(record)
