"""The work of `python predictor.py`: rows of the newest candles, then as they come.

In: which bars are asked for, where their rows go, when to stop. Out: its words
(`predictor`), files that grow (`follow`), formats (`writer`).
"""

from __future__ import annotations

import contextlib
import logging
import time
from typing import Protocol

import pandas as pd

import utils
from config import Config
from preprocessing.pipelines import PreprocessingPipeline
from signals.answers import moment_of
from signals.follow import GrowingCandles, answer_new, follow
from signals.stream import SignalStream
from signals.writer import FORMATS, RowWriter
from utils import ConfigError, DataError

logger = logging.getLogger(__name__)

POLL_SECONDS = 1.0
_WAIT_SECONDS = 0.1


class Answers(Protocol):
    """What answers: a `predictor.Predictor`."""

    @property
    def config(self) -> Config:
        """The configuration of the run."""

    @property
    def pipeline(self) -> PreprocessingPipeline:
        """How features are made of candles."""

    @property
    def model_id(self) -> str:
        """The run."""

    def reload_if_changed(self) -> bool:
        """Opens the model that an alias leads to by now; whether it changed."""

    def predict_candles(self, table: pd.DataFrame, *, last: int) -> pd.DataFrame:
        """Returns a row for each of the last bars."""

    def stream(self, history: pd.DataFrame | None) -> SignalStream:
        """Returns what answers to one new bar after another."""


def writer_of(
    file_format: str | None, output: str | None, *, is_growing: bool
) -> RowWriter:
    """Returns what writes rows.

    Raises:
        ConfigError: If a format cannot go there.
    """
    suffix = output.rpartition(".")[2] if output is not None else ""
    chosen = file_format or (suffix if suffix in FORMATS else "table")
    if chosen == "parquet" and (output is None or is_growing):
        raise ConfigError(
            "--format parquet: expected --output, and no --follow. Received: "
            f"{'--follow' if is_growing else 'standard output'}. Take csv or jsonl."
        )
    return RowWriter(chosen, output, is_growing=is_growing)


def num_asked(
    table: pd.DataFrame, bar_seconds: int, *, last: int, since: str | None
) -> int:
    """Returns how many of the newest bars are asked for.

    Raises:
        ConfigError: If it is none, or no time.
        DataError: If the candles end before.
    """
    if since is None:
        if last < 1:
            raise ConfigError(f"--last: expected at least 1. Received: {last}")
        return last
    try:
        first = moment_of(since)
    except ValueError as error:
        raise ConfigError(
            f"--since: expected a time such as 2025-07-01. Received: {since}"
        ) from error
    newest = table["timestamp"].iloc[-1]
    if first > newest:
        raise DataError(f"--since: expected bars from {first} on. Received: {newest}")
    reach = newest - max(first, table["timestamp"].iloc[0])
    return int(reach // pd.Timedelta(bar_seconds, "s")) + 1


def answer(
    predictor: Answers,
    candles: GrowingCandles,
    writer: RowWriter,
    *,
    last: int,
    since: str | None,
) -> None:
    """Writes the rows of the newest bars."""
    table = candles.read()
    count = num_asked(table, predictor.config.bar_seconds, last=last, since=since)
    rows = predictor.predict_candles(table, last=count)
    if since is not None:
        rows = rows[rows["timestamp"] >= moment_of(since)]
    writer.write(rows)


def answer_and_follow(
    predictor: Answers,
    candles: GrowingCandles,
    writer: RowWriter,
    *,
    last: int,
    since: str | None,
) -> None:
    """Writes the rows of the newest bars, then of new ones, until a signal comes."""
    with contextlib.suppress(utils.Interrupted):
        with utils.StopSignals(is_deferred=True) as signals:
            table = predictor.pipeline.checked(candles.read())
            seconds = predictor.config.bar_seconds
            count = num_asked(table, seconds, last=last, since=since)
            first = table["timestamp"].iloc[-1] - pd.Timedelta(
                (count - 1) * seconds, "s"
            )
            is_asked = table["timestamp"] >= first
            stream = predictor.stream(table[~is_asked].reset_index(drop=True))
            answer_new(table[is_asked], stream, writer.write)

            def wait() -> bool:
                until = time.monotonic() + POLL_SECONDS
                while signals.received is None and time.monotonic() < until:
                    time.sleep(_WAIT_SECONDS)
                return signals.received is None

            follow(candles, stream, writer.write, wait, _Renewal(predictor, candles))


class _Renewal:
    """Gives way to the model that an alias leads to by now; says why where it cannot.

    Args:
        predictor: What made the stream.
        candles: Of which a new stream gets those that were answered.
    """

    def __init__(self, predictor: Answers, candles: GrowingCandles) -> None:
        self._predictor, self._candles = predictor, candles
        self._told, self._is_due = "", False

    def __call__(self, stream: SignalStream) -> SignalStream:
        """Returns the stream, or one of the new model behind the same bar."""
        try:
            self._is_due |= self._predictor.reload_if_changed()
            if not self._is_due:
                return stream
            history = self._candles.read_until(stream.newest)
            new = self._predictor.stream(history)
            self._is_due = False  # not before: candles may be torn at this moment
        except utils.UserError as error:
            if str(error) != self._told:
                self._told = str(error)
                logger.warning("the model stays as it was: %s", error)
            return stream
        logger.info("the model is %s from here on", self._predictor.model_id)
        return new
