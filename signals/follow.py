"""Candle files that grow -> the candles that are new in them.

In: what has changed, and whether it is whole. Out: reading candles (`candles.sources`),
answers to them (`stream`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from candles.formats import candle_files
from candles.sources import Candles, resolve_candles
from config import Config
from dataset.context_files import (
    DATA_DIR,
    ContextSource,
    find_context,
    read_with_context,
)
from signals.answers import OPEN_BAR
from signals.stream import SignalStream
from utils import DataError

_LINES = (".csv", ".txt", ".jsonl")
"""Suffixes of files that are written line by line."""

_State = tuple[tuple[Path, int, int], ...]


class GrowingCandles:
    """Candle files, or folders of them, that another program writes to.

    A last line without its end waits for it, however long: a cut number looks like a
    whole one. What is no good table is read again when it has changed, and refused when
    it has not.

    Args:
        paths: Files and folders.
        config: Pair, timeframe, context pairs, and the zone of times that state none.
        context: Candles of context pairs; others lie beside `paths`.
    """

    def __init__(
        self,
        paths: Sequence[str | os.PathLike[str]],
        config: Config,
        context: ContextSource | None = None,
    ) -> None:
        self._paths = paths
        self._config = config
        self._context = context
        self._read: _State = ()
        self._waited_for: _State = ()

    def read(self) -> pd.DataFrame:
        """Returns the candles as they are, up to the last bar of all pairs.

        Raises:
            MissingInputError: If there are none.
            DataError: If they are not good candles of the market.
        """
        state = self._state()
        table = read_with_context(self._own(), self._config, self._context)
        self._read = state
        return table

    def _own(self) -> Candles:
        return resolve_candles(self._paths, self._config, data_dir=Path())

    def read_until(self, newest: pd.Timestamp | None) -> pd.DataFrame:
        """Returns the candles up to a bar; `read_changed` returns later ones again."""
        table = self.read()
        self._read = ()
        return table if newest is None else table[table["timestamp"] <= newest]

    def read_changed(self) -> pd.DataFrame | None:
        """Returns the candles if files have changed since; else None.

        Raises:
            DataError: If they are no good candles, and nobody goes on writing.
        """
        state = self._state()
        if state == self._read:
            return None
        is_waited_for, self._waited_for = state == self._waited_for, state
        is_cut = any(_ends_within_line(path) for path, *_ in state)
        if is_cut and is_waited_for:
            return None
        try:
            table = self.read()
        except DataError:
            if is_waited_for:
                raise
            return None
        return table[:-1] if is_cut else table

    def _state(self) -> _State:
        files = [file for path in self._paths for file in candle_files(path)]
        if self._config.context_pairs or self._context:
            others = find_context(
                self._context, self._config, beside=self._own(), data_dir=DATA_DIR
            )
            files += [Path(str(file)) for each in others.values() for file in each]
        stats = [(file, file.stat()) for file in files]
        return tuple((file, stat.st_size, stat.st_mtime_ns) for file, stat in stats)


def follow(
    candles: GrowingCandles,
    stream: SignalStream,
    write: Callable[[pd.DataFrame], None],
    wait: Callable[[], bool],
    renew: Callable[[SignalStream], SignalStream] = lambda stream: stream,
) -> None:
    """Writes a row for each new bar that has closed, as they come.

    Args:
        candles: Where they come from.
        stream: What answers.
        write: Takes a row.
        wait: Waits; returns whether to go on.
        renew: Returns what answers from here on.
    """
    while wait():
        stream = renew(stream)
        table = candles.read_changed()
        if table is not None:
            answer_new(table, stream, write)


def answer_new(
    table: pd.DataFrame, stream: SignalStream, write: Callable[[pd.DataFrame], None]
) -> None:
    """Writes a row for each bar of a table that is later than those of the stream."""
    if stream.newest is not None:
        table = table[table["timestamp"] > stream.newest]
    for _, candle in table.iterrows():
        row = stream.update(candle)
        if row is not None and row["status"] != OPEN_BAR:
            write(pd.DataFrame([row.to_dict()]))


def _ends_within_line(path: Path) -> bool:
    if path.suffix not in _LINES or not path.stat().st_size:
        return False
    with path.open("rb") as stream:
        stream.seek(-1, os.SEEK_END)
        return stream.read(1) != b"\n"
