"""One limit to the time that many calls take together.

In: giving up what waits a little, again and again. Out: what is called (`candles`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TypeVar

from utils import format_duration

Kind = TypeVar("Kind")


class TimeLimit:
    """A limit to the time that calls take together, however little each waits.

    Args:
        seconds: From now on.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Returns the seconds that are left, at least 0."""
        return max(0.0, self._end - time.monotonic())

    def call(self, function: Callable[[], Kind]) -> Kind:
        """Returns what `function` returns; it is left to itself when time is up.

        Raises:
            TimeLimitError: If it took longer than what was left.
        """
        found: Future[Kind] = Future()

        def run() -> None:
            try:
                found.set_result(function())
            except BaseException as error:
                found.set_exception(error)

        threading.Thread(target=run, daemon=True).start()
        wait([found], timeout=self.left())
        if not found.done():
            raise TimeLimitError(
                f"not done within {format_duration(self.seconds)} in all"
            )
        return found.result()


class TimeLimitError(Exception):
    """Calls that took longer than they may."""
