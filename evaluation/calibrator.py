"""What every calibration is: fitted on held-out rows, applied, kept as JSON.

In: the checks and the face of one, numbers that all need. Out: the kinds
(`calibration`), which of them a run uses (`classes`).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, Self

import numpy as np

from metrics.scores import check_probabilities
from utils import DataError

EPSILON = 1e-7
"""Scores are kept this far from 0 and 1, where their logarithms are still finite."""
LARGEST_LOGIT = 700.0
"""Of size; exp stays finite, and its result above 0, so that rows can be divided."""


class Calibrator(ABC):
    """A map from rows of probabilities to rows of calibrated probabilities.

    Args:
        min_samples: Fewest rows that `fit` accepts.

    Attributes:
        num_classes_: Number of classes, after `fit`.
        num_samples_: Rows fitted on.
        parameters_: One dictionary of numbers for each fitted map, ready for JSON.
    """

    name = ""
    parameter_names: tuple[str, ...] = ()

    def __init__(self, *, min_samples: int = 100):
        self.min_samples = min_samples
        self.num_classes_ = 0
        self.num_samples_ = 0
        self.parameters_: list[dict[str, Any]] = []

    def fit(self, probabilities: Any, labels: Any) -> Self:
        """Learns the map from held-out predictions.

        Args:
            probabilities: Rows that sum to 1 (num_rows, num_classes).
            labels: Class ids (num_rows,); a class may be absent.

        Raises:
            DataError: If there are fewer than `min_samples` rows.
            ValueError: If shapes or values are not those of probabilities and labels.
        """
        table = check_probabilities(probabilities)
        labels = np.asarray(labels)
        if (
            labels.shape != table.shape[:1]
            or not np.isin(labels, np.arange(table.shape[1])).all()
        ):
            raise ValueError(
                f"`labels` must be class ids below {table.shape[1]}, one for each of "
                f"the {len(table)} rows. Received: shape={labels.shape}."
            )
        if len(table) < self.min_samples:
            raise DataError(
                f"{self.name} calibration expected at least {self.min_samples} rows. "
                f"Received: {len(table)}. Enlarge the validation part, or turn "
                "calibration off."
            )
        self.num_samples_, self.num_classes_ = table.shape
        self.parameters_ = self._fit(table, labels.astype(np.int64))
        return self

    def predict_proba(self, probabilities: Any) -> np.ndarray:
        """Returns calibrated rows that sum to 1 (num_rows, num_classes), float64.

        Raises:
            ValueError: If the rows are not probabilities of the fitted classes, or
                nothing was fitted.
        """
        table = check_probabilities(probabilities)
        if table.shape[1] != self.num_classes_:
            raise ValueError(
                f"{self.name} calibration was fitted on {self.num_classes_} classes. "
                f"Received: {table.shape[1]}. Call `fit` first."
            )
        calibrated = self._predict(table)
        return calibrated / calibrated.sum(axis=1, keepdims=True)

    def to_dict(self) -> dict[str, Any]:
        """Returns strict JSON values, from which `from_dict` restores every bit."""
        return {
            "method": self.name,
            "num_classes": self.num_classes_,
            "num_samples": self.num_samples_,
            "min_samples": self.min_samples,
            "parameters": self.parameters_,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Restores a calibrator from `to_dict`.

        Raises:
            DataError: If the values are not those of this method.
        """
        try:
            calibrator = cls(min_samples=int(values["min_samples"]))
            calibrator.num_classes_ = int(values["num_classes"])
            calibrator.num_samples_ = int(values["num_samples"])
            calibrator.parameters_ = [
                {name: _to_floats(fitted[name]) for name in cls.parameter_names}
                for fitted in values["parameters"]
            ]
            is_whole = values["method"] == cls.name and calibrator._is_complete()
        except (LookupError, TypeError, ValueError) as error:
            raise DataError(_refusal(cls.name, repr(error))) from error
        if not is_whole:
            raise DataError(_refusal(cls.name, "another method or broken parameters"))
        return calibrator

    def bound(self) -> str | None:
        """Returns the limit that the fit ran into, in words; None where it did not."""
        return None

    @abstractmethod
    def _fit(self, table: np.ndarray, labels: np.ndarray) -> list[dict[str, Any]]:
        """Returns the parameters of the fitted maps."""

    @abstractmethod
    def _predict(self, table: np.ndarray) -> np.ndarray:
        """Returns positive scores (num_rows, num_classes)."""

    def _is_complete(self) -> bool:
        """Returns whether there is one map of plain numbers for each class."""
        numbers = [value for fitted in self.parameters_ for value in fitted.values()]
        are_plain = all(isinstance(number, float) for number in numbers)
        return are_plain and len(self.parameters_) == self.num_classes_ > 1


def _logs(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns ln p and ln(1 - p), finite."""
    clipped = np.clip(scores, EPSILON, 1.0 - EPSILON)
    return np.log(clipped), np.log1p(-clipped)


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-np.clip(logits, -LARGEST_LOGIT, LARGEST_LOGIT)))


def _to_floats(value: Any) -> Any:
    """Returns a finite float, or a list of them; anything else is refused."""
    if isinstance(value, list):
        return [_to_floats(item) for item in value]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r} is not a number")
    if not math.isfinite(value):
        raise ValueError(f"{value!r} is not finite")
    return float(value)


def _refusal(name: str, received: str) -> str:
    return (
        f"expected the parameters of {name} calibration. Received: {received}. "
        "Fit the calibrator again."
    )
