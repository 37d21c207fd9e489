"""A published artifact -> probabilities or returns, and signals, for new candles.

In: opening an artifact once and answering fast, for candles or for windows of features.
Out: features of candles (`preprocessing.pipelines`), rows of signals
(`signals.answers`), training (`trainer`).
"""

from __future__ import annotations

import argparse
import copy
import functools
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, cast

import numpy as np
import pandas as pd

import utils
from artifacts.registry import open_model
from config import AGENTS
from dataset.context_files import ContextSource, parse_context, with_context
from evaluation.policies import policy_from_dict
from models.families import load_adapter
from positions.answers import PositionRules
from positions.golden import GoldenObservations
from preprocessing.pipelines import PreprocessingPipeline
from rl import adapter as agents
from signals.answers import AnswerRules, to_table
from signals.command import answer, answer_and_follow, writer_of
from signals.expected import renewed, require_model
from signals.facts import ModelFacts
from signals.follow import GrowingCandles
from signals.golden import MIXED_TOLERANCE, TOLERANCE, GoldenRows, open_checks
from signals.stream import SignalStream
from signals.windows import checked_windows
from signals.writer import FORMATS
from utils import DataError, RefusedArtifactError


class Predictor(ModelFacts):
    """Answers with the model, calibration and thresholds of one artifact.

    A single window of a network goes through a function compiled by XLA, which takes a
    small part of what `model.predict` needs for one; the first call after opening is as
    fast as the others. One predictor serves several threads.

    Args:
        where: A published artifact, such as `outputs/models/ETHUSDT/lstm/latest-1m`, or
            a registered one, `lstm/ETHUSDT-1m-signal@champion` (docs/registry.md).
        pair: Of a model that several pairs trained together, the one of the candles;
            one that it never saw gets the scale of all of them together.
        expect: What the model must be, such as `{"target": "signal"}`: properties of
            this class, `family`, or fields of its configuration, by name.
        feature_file: Python file that registers feature sets of one's own.
        max_age_days: Days after `trained_until` from which on bars are `stale`.

    Attributes:
        notes: What is not known of it, a line each.
        reference: What the rows of its run were like; None where it kept nothing.

    Raises:
        MissingInputError: If there is no folder.
        ConfigError: If it is a model of another pair, or of several and none is named.
        RefusedArtifactError: If a file is not what the manifest says, or the model not
            what is expected.

    Example:
        >>> predictor = Predictor("outputs/models/ETHUSDT/lstm/latest-1m")
        >>> predictor.predict_candles(candles.read_candles("ETHUSDT-1m.parquet"))
    """

    def __init__(
        self,
        where: str | os.PathLike[str],
        *,
        pair: str | None = None,
        expect: Mapping[str, Any] | None = None,
        feature_file: str | os.PathLike[str] | None = None,
        max_age_days: float | None = None,
    ) -> None:
        agents.register()
        words = {"feature_file": feature_file, "max_age_days": max_age_days}
        self._opened = (where, words | {"pair": pair, "expect": expect})
        artifact = open_model(where)
        self.path = artifact.path
        self.metadata = artifact.metadata
        self.policy = policy_from_dict(artifact.read_json("calibrator"))
        self.config, self.pipeline = artifact.steps_of(pair)
        own = artifact.pair_preprocessors.values()
        self._proven = next(iter(own), self.pipeline)
        self.adapter = load_adapter(artifact)
        self.window_bars = self.adapter.window_bars
        if self.pipeline.window_bars != self.window_bars:
            raise RefusedArtifactError(
                f"{self.path}: expected windows of {self.window_bars} bars, as the "
                f"model reads. Received: a preprocessor of {self.pipeline.window_bars}."
            )
        self.num_features = len(self.pipeline.feature_names)
        self._max_age_days = max_age_days
        if feature_file is not None:
            from audit.feature_files import load_feature_file

            load_feature_file(os.fspath(feature_file))
        require_model(self, expect or {})
        kind = GoldenObservations if self.family in AGENTS else GoldenRows
        checks = open_checks(artifact, kind, self.pair, self.scaler)
        self._golden, self.reference, self.notes = checks
        _ = self._rules
        self.check()

    def reload_if_changed(self) -> bool:
        """Opens the model that an alias or a link leads to by now; whether it changed.

        Calls that are under way, of other threads too, end with the model that they
        began with; a stream keeps its own.

        Raises:
            RefusedArtifactError: If the new one was changed since it was published, or
                answers another question; this predictor then stays as it was.
        """
        if (new := renewed(self, *self._opened)) is not None:
            self.__dict__ = new.__dict__  # at once: no call sees half of both
        return new is not None

    def check(
        self,
        candles: pd.DataFrame | None = None,
        *,
        context: ContextSource | None = None,
    ) -> dict[str, Any]:
        """Proves that it says what its run said of some validation windows.

        Args:
            candles: Candles of these windows, from which their features are made anew;
                None takes the features as they are kept.
            context: Those of context pairs, as in `predict_candles`.

        Returns:
            `windows` (number), `largest_difference` of the outputs; with candles
            `recomputed` (number), `largest_feature_difference`.

        Raises:
            RefusedArtifactError: If it says something else, or the features differ.
            DataError: If the candles hold none of the windows.
        """
        if self._golden is None:
            shape = (1, self.window_bars, self.num_features)
            self._outputs(np.zeros(shape, np.float32))  # compiled
            return {"windows": 0, "largest_difference": None}
        is_mixed = self.metadata.get("runtime", {}).get("mixed_precision")
        found: dict[str, Any] = {
            "windows": len(self._golden.windows),
            "largest_difference": self._golden.check(
                functools.partial(self._outputs, steps=self._proven),
                self.policy,
                self.path,
                tolerance=MIXED_TOLERANCE if is_mixed else TOLERANCE,
            ),
        }
        if candles is not None:
            table = with_context(candles, context, self.config)
            table = self._proven.checked(table)
            found |= self._golden.check_features(self._proven, table, self.path)
        return found

    # Candles

    def predict_candles(
        self,
        table: pd.DataFrame,
        *,
        last: int = 1,
        now: datetime | str | None = None,
        context: ContextSource | None = None,
    ) -> pd.DataFrame:
        """Returns a row for each of the last bars, in order of time.

        Args:
            table: Candles of the model's pair and timeframe, at least `min_candles`.
            last: Bars that are asked for.
            now: The time, UTC where it states no zone; None asks the clock.
            context: Candles of the context pairs (`config.context_pairs`) by pair, up
                to the newest bar. None: `table` has their columns (docs/live.md).

        Returns:
            `timestamp` (open of the bar), `close`, `status`; of classes calibrated
            `p_short`, `p_hold`, `p_long`, of a number `log_return`; `signal` (0 SHORT,
            1 HOLD, 2 LONG), the `threshold` that it reached, `tp_price`, `sl_price`,
            `expires_at`, `size` (fraction of equity), `unlikeness`, `model_id`. Where
            `status` is not `ok` there is no answer: NaN, and HOLD (docs/live.md). An
            agent has a `position` and its side as `signal` (`positions.answers`).

        Raises:
            DataError: If the candles are of another market, unsorted, or too few, or
                those of a context pair are missing.
            RefusedArtifactError: If a feature set is not the one of the training.
        """
        if isinstance(last, bool) or not isinstance(last, int | np.integer) or last < 1:
            raise DataError(
                f"last: expected a number of bars, at least 1. Received: {last!r:.50}"
            )
        table = with_context(table, context, self.config)
        return to_table(self._rules.answer(table, last, now))

    def stream(
        self,
        history: pd.DataFrame | None = None,
        *,
        context: ContextSource | None = None,
    ) -> SignalStream:
        """Returns what answers to one new bar after another, in a few milliseconds.

        Args:
            history: Candles before the first one; with `min_candles` of them the first
                answer has no need to warm up. None begins cold.
            context: Those of context pairs, as in `predict_candles`.

        Raises:
            DataError: If they are not candles of the model's market, in order.
        """
        own = copy.copy(self)
        if history is not None and len(history):
            history = with_context(history, context, own.config)
            history = own.pipeline.checked(history)
        return SignalStream(own.pipeline, own._rules.begin(history), history)

    @functools.cached_property
    def _rules(self) -> AnswerRules:
        age, until = self._max_age_days, self.trained_until
        rules: Callable[..., AnswerRules] = AnswerRules
        if self.family in AGENTS:
            rules = functools.partial(PositionRules, agent=cast(Any, self.adapter))
        return rules(
            config=self.config,
            policy=self.policy,
            pipeline=self.pipeline,
            say=self.adapter.predict_windows,
            model_id=self.model_id,
            reference=self.reference,
            stale_after=None if age is None else until + pd.Timedelta(age, "D"),
        )

    # Windows of features

    def predict_window(self, window: np.ndarray | pd.DataFrame) -> np.ndarray:
        """Returns calibrated probabilities (3,) of SHORT, HOLD, LONG.

        Where the target is a return or a price: the predicted log return, a number; a
        price is `close * exp(log return)`.

        Args:
            window: (window_bars, num_features) features as in the training file, the
                newest row last; those of a DataFrame are taken by their names.
        """
        own = copy.copy(self)  # what reloads meanwhile is not mixed
        one = checked_windows(window, own.pipeline, one=True)
        return own._answers(one[None])[0]

    def predict_windows(self, windows: np.ndarray | pd.DataFrame) -> np.ndarray:
        """Returns calibrated probabilities (num_windows, 3), or log returns.

        These are (num_windows,), as in `predict_window`.

        Args:
            windows: (num_windows, window_bars, num_features) features as in the
                training file; or a DataFrame of consecutive bars, of which every one
                but the first `window_bars - 1` ends a window.
        """
        own = copy.copy(self)
        return own._answers(checked_windows(windows, own.pipeline))

    def signals(self, probabilities: np.ndarray) -> np.ndarray:
        """Returns class ids (num_windows,): 0 SHORT, 1 HOLD, 2 LONG.

        Args:
            probabilities: Calibrated rows (num_windows, 3), or log returns
                (num_windows,).
        """
        return self.policy.signals(probabilities)

    def _answers(self, windows: np.ndarray) -> np.ndarray:
        return self.policy.calibrate(self._outputs(windows))

    def _outputs(
        self,
        windows: np.ndarray,
        *account: np.ndarray,
        steps: PreprocessingPipeline | None = None,
    ) -> np.ndarray:
        """Returns what the model says of windows that are not scaled."""
        steps = steps or self.pipeline
        rows = steps.scaled(windows.reshape(-1, self.num_features))
        scaled = rows.reshape(*windows.shape[:2], -1)
        return self.adapter.predict_windows(scaled, *account)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit code."""
    utils.configure_logging(is_data=True)
    return utils.run_command_line(lambda: _run(arguments))


def _run(arguments: Sequence[str] | None) -> None:
    parser = argparse.ArgumentParser(
        prog="predictor.py",
        description="Says what a model says of the newest candles: a row a bar.",
        epilog="Rows go to standard output, everything else to standard error. Columns "
        "and statuses: docs/live.md. Ctrl-C or SIGTERM ends --follow, exit code 0.",
    )
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="folder, such as outputs/models/ETHUSDT/lstm/latest-1m, or a registered "
        "name: lstm/ETHUSDT-1m-signal@champion",
    )
    parser.add_argument(
        "candles", nargs="+", metavar="CANDLES", help="candle files, or their folder"
    )
    parser.add_argument(
        "--pair",
        help="whose candles they are, for a model that several pairs trained together",
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--last", type=int, default=1, metavar="N", help="newest bars (default: 1)"
    )
    which.add_argument("--since", metavar="DATE", help="bars from a time (UTC) on")
    parser.add_argument(
        "--format",
        choices=FORMATS,
        help="table for reading; csv and jsonl with ISO 8601 times in UTC and null "
        "where nothing is known; parquet (default: by the name of --output, or table)",
    )
    parser.add_argument("--output", metavar="F", help="file (default: standard output)")
    parser.add_argument(
        "--follow",
        action="store_true",
        help="go on with a line a bar as the candles grow",
    )
    parser.add_argument(
        "--context",
        nargs="+",
        default=(),
        metavar="PAIR=FILE",
        help="candles of context pairs, PAIR=FILE[,FILE] (default: beside CANDLES); "
        "funding_rate=FILE or open_interest=FILE",
    )
    parser.add_argument("--feature-file", help="Python file with your own feature sets")
    parser.add_argument(
        "--max-age-days", type=float, help="bars later after the training are stale"
    )
    parser.add_argument(
        "--timezone", help="zone of times that state none (default: UTC)"
    )
    parsed = parser.parse_args(arguments)
    writer = writer_of(parsed.format, parsed.output, is_growing=parsed.follow)
    predictor = Predictor(
        parsed.model,
        pair=parsed.pair,
        feature_file=parsed.feature_file,
        max_age_days=parsed.max_age_days,
    )
    config = predictor.config.replace(timezone=parsed.timezone)
    context = parse_context(parsed.context)
    candles = GrowingCandles(parsed.candles, config, context)
    work = answer_and_follow if parsed.follow else answer
    work(predictor, candles, writer, last=parsed.last, since=parsed.since)


if __name__ == "__main__":
    sys.exit(main())
