"""Outputs of a model -> answers and signals: what a run learned on validation.

In: calibration, units and thresholds as one object, its JSON, the columns of a
predictions table that it reads and writes. Out: the search for thresholds
(`thresholds`), on which rows all this is learned (`evaluate`).
"""

from __future__ import annotations

import abc
import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd

from config import CLASS_NAMES, HOLD, LONG, SHORT
from evaluation.calibration import Calibrator, calibrator_from_dict
from evaluation.thresholds import threshold_signals
from metrics.conformal import SpreadInterval
from metrics.quantiles import in_order, middle_of
from preprocessing.scaling import TargetScaler
from utils import DataError

PROBABILITY_COLUMNS = tuple(f"probability_{name.lower()}" for name in CLASS_NAMES)
CALIBRATED_COLUMNS = tuple(f"calibrated_{name.lower()}" for name in CLASS_NAMES)


def probabilities_of(
    table: pd.DataFrame, columns: Sequence[str] = PROBABILITY_COLUMNS
) -> np.ndarray:
    """Returns raw or calibrated probabilities (num_rows, 3), float64."""
    return table[list(columns)].to_numpy(np.float64)


def log_returns(
    table: pd.DataFrame, target: str, column: str = "predicted"
) -> np.ndarray:
    """Returns the `predicted` or `actual` column as log returns (num_rows,).

    Args:
        table: A predictions table of numbers.
        target: `return` or `price`.
        column: Name of the column.
    """
    values = table[column].to_numpy(np.float64)
    if target == "return":
        return values
    return np.log(values / table["known"].to_numpy(np.float64))


@dataclass(frozen=True, kw_only=True)
class Policy(abc.ABC):
    """What turns a model's outputs into answers, and these into signals.

    Args:
        uses_thresholds: False where they could not be searched; then the side with the
            highest score is the signal.
        short_threshold: Least score of a SHORT signal; None: never.
        long_threshold: The same for LONG.
    """

    answer_names: ClassVar[tuple[str, ...]]
    """Name of each number of an answer."""

    newer_names: ClassVar[frozenset[str]] = frozenset()
    """Fields that older files do not have."""

    uses_thresholds: bool = False
    short_threshold: float | None = None
    long_threshold: float | None = None

    @abc.abstractmethod
    def calibrate(self, outputs: Any) -> np.ndarray:
        """Returns the answers, probabilities or log returns, for a model's outputs."""

    @abc.abstractmethod
    def scores(self, answers: np.ndarray) -> np.ndarray:
        """Returns what speaks for SHORT, HOLD and LONG (num_rows, 3)."""

    @abc.abstractmethod
    def answers_of(self, predictions: pd.DataFrame) -> np.ndarray:
        """Returns the answers that a predictions table with signals holds."""

    def decide(self, outputs: Any) -> tuple[np.ndarray, np.ndarray]:
        """Returns answers for a model's outputs, and the signals (num_rows,) of them.

        They are those that a predictions table has.
        """
        answers = self.calibrate(outputs)
        return answers, self.signals(answers)

    def add_signals(self, predictions: pd.DataFrame) -> pd.DataFrame:
        """Returns the table with the policy's signals."""
        signals = self.signals(self.answers_of(predictions))
        return predictions.assign(signal=signals)

    def signals(self, answers: np.ndarray) -> np.ndarray:
        """Returns class ids (num_rows,) int8 for answers."""
        scores = self.scores(answers)
        if not self.uses_thresholds:
            return scores.argmax(axis=1).astype(np.int8)
        return threshold_signals(
            scores, short=self.short_threshold, long=self.long_threshold
        )

    def to_dict(self) -> dict[str, Any]:
        """Returns strict JSON values, from which `from_dict` restores every bit."""
        values = {key.name: getattr(self, key.name) for key in dataclasses.fields(self)}
        return {
            name: value.to_dict() if hasattr(value, "to_dict") else value
            for name, value in values.items()
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Restores a policy from `to_dict`.

        Raises:
            DataError: If the values are not those of a policy.
        """
        names = {field.name for field in dataclasses.fields(cls)}
        is_whole = names - cls.newer_names <= set(values) <= names
        is_whole = is_whole and isinstance(values["uses_thresholds"], bool)
        for limit in (values.get("short_threshold"), values.get("long_threshold")):
            is_number = isinstance(limit, float) and math.isfinite(limit)
            is_whole = is_whole and (limit is None or is_number)
        if not is_whole:
            raise DataError(
                f"expected a signal policy with {', '.join(sorted(names))}. "
                f"Received: {values!r:.200}. Take the file of a finished run."
            )
        return cls(**values | cls._learned(values))

    @classmethod
    @abc.abstractmethod
    def _learned(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Returns what was learned beside the thresholds, restored from JSON."""


@dataclass(frozen=True, kw_only=True)
class SignalPolicy(Policy):
    """Scores are calibrated probabilities.

    Args:
        calibrator: Fitted map, or None: probabilities stay as they are.
    """

    answer_names = tuple(f"p_{name.lower()}" for name in CLASS_NAMES)

    calibrator: Calibrator | None = None

    def calibrate(self, outputs: Any) -> np.ndarray:
        """Returns calibrated rows that sum to 1 (num_rows, 3), float64."""
        table = np.asarray(outputs, dtype=np.float64)
        if self.calibrator is not None and len(table):
            return self.calibrator.predict_proba(outputs)
        return table / table.sum(axis=1, keepdims=True)

    def scores(self, answers: np.ndarray) -> np.ndarray:
        """Returns the calibrated rows (num_rows, 3) as they are."""
        return answers

    def answers_of(self, predictions: pd.DataFrame) -> np.ndarray:
        """Returns calibrated rows (num_rows, 3), float64."""
        return probabilities_of(predictions, CALIBRATED_COLUMNS)

    def decide(self, outputs: Any) -> tuple[np.ndarray, np.ndarray]:
        """Returns calibrated rows (num_rows, 3) float32, and signals (num_rows,)."""
        outputs = np.asarray(outputs, np.float64)
        # Signals follow from what the table holds, so that a reader can repeat them.
        rounded = self.calibrate(outputs).astype(np.float32)
        return rounded, self.signals(rounded.astype(np.float64))

    def add_signals(self, predictions: pd.DataFrame) -> pd.DataFrame:
        """Returns the table with calibrated probabilities and the policy's signals."""
        calibrated, signals = self.decide(probabilities_of(predictions))
        columns = dict(zip(CALIBRATED_COLUMNS, calibrated.T, strict=True))
        return predictions.assign(**columns, signal=signals)

    @classmethod
    def _learned(cls, values: dict[str, Any]) -> dict[str, Any]:
        fitted = values["calibrator"]
        return {"calibrator": None if fitted is None else calibrator_from_dict(fitted)}


@dataclass(frozen=True, kw_only=True)
class ReturnPolicy(Policy):
    """Scores are predicted gains, log returns: of SHORT that of a fall.

    Args:
        target: `return` or `price`.
        scaler: Units of the outputs, learned from the training targets.
        interval: What most of the log returns that come lie in; None: not known.
    """

    answer_names = ("log_return",)
    newer_names = frozenset({"interval"})

    target: str
    scaler: TargetScaler
    interval: SpreadInterval | None = None

    def calibrate(self, outputs: Any) -> np.ndarray:
        """Returns log returns (num_rows,) for a model's outputs; of quantiles 0.5."""
        return self.scaler.inverse(middle_of(outputs))

    def quantiles(self, outputs: Any) -> np.ndarray:
        """Returns quantiles of the log return (num_rows, num_quantiles), in order."""
        return self.scaler.inverse(in_order(outputs))

    def scores(self, answers: np.ndarray) -> np.ndarray:
        """Returns the predicted gain of SHORT, HOLD and LONG (num_rows, 3).

        That of HOLD is 0; a side that does not gain has a score below every threshold.
        """
        gains = (-answers, answers)
        short, long = (np.where(gain > 0, gain, -1.0) for gain in gains)
        return np.stack([short, np.zeros(len(answers)), long], axis=1)

    def answers_of(self, predictions: pd.DataFrame) -> np.ndarray:
        """Returns the predicted log returns (num_rows,)."""
        return log_returns(predictions, self.target)

    def add_signals(self, predictions: pd.DataFrame) -> pd.DataFrame:
        """Returns the table with the policy's signals, and the ends of the interval."""
        table = super().add_signals(predictions)
        if self.interval is None:
            return table
        answers = self.answers_of(table)
        ends = self.interval.ends(answers, answers, table["volatility"].to_numpy())
        if self.target == "price":
            ends = tuple(table["known"].to_numpy() * np.exp(end) for end in ends)
        return table.assign(predicted_low=ends[0], predicted_high=ends[1])

    @classmethod
    def _learned(cls, values: dict[str, Any]) -> dict[str, Any]:
        if values["target"] not in ("return", "price"):
            raise DataError(
                f"expected a return or a price. Received: {values['target']!r:.50}"
            )
        found = values.get("interval")
        return {
            "scaler": TargetScaler.from_dict(values["scaler"]),
            "interval": None if found is None else _interval(found),
        }


@dataclass(frozen=True, kw_only=True)
class PositionPolicy(Policy):
    """Outputs are positions already: nothing is calibrated, no threshold needed.

    Args:
        target: `position`.
    """

    answer_names = ("position",)

    target: str = "position"

    def calibrate(self, outputs: Any) -> np.ndarray:
        """Returns positions (num_rows,) for shares of SHORT, HOLD, LONG (num_rows, 3).

        Positions (num_rows,) stay as they are.
        """
        table = np.asarray(outputs, np.float64)
        return table if table.ndim == 1 else table[:, LONG] - table[:, SHORT]

    def scores(self, answers: np.ndarray) -> np.ndarray:
        """Returns the share of SHORT, HOLD and LONG (num_rows, 3)."""
        sides = (np.maximum(-answers, 0), 1 - np.abs(answers), np.maximum(answers, 0))
        return np.stack(sides, axis=1)

    def signals(self, answers: np.ndarray) -> np.ndarray:
        """Returns the side of each position, however small (num_rows,) int8."""
        return (np.sign(answers) + HOLD).astype(np.int8)

    def answers_of(self, predictions: pd.DataFrame) -> np.ndarray:
        """Returns the positions (num_rows,)."""
        return predictions["position"].to_numpy(np.float64)

    @classmethod
    def _learned(cls, values: dict[str, Any]) -> dict[str, Any]:
        return {}


def _interval(values: dict[str, Any]) -> SpreadInterval:
    try:
        return SpreadInterval.from_dict(values)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"expected an interval. Received: {values!r:.200}") from error


def policy_from_dict(values: dict[str, Any]) -> Policy:
    """Restores the policy of classes, of numbers or of positions.

    Raises:
        DataError: If the values are not those of a policy.
    """
    if not isinstance(values, dict):
        raise DataError(f"expected a signal policy. Received: {values!r:.200}.")
    kind: type[Policy] = ReturnPolicy if "target" in values else SignalPolicy
    if values.get("target") == PositionPolicy.target:
        kind = PositionPolicy
    return kind.from_dict(values)
