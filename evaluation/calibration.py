"""Scores to probabilities that mean what they say: isotonic, Platt, beta, temperature.

In: maps fitted on held-out predictions, their JSON. Out: measuring calibration
(`metrics.scores`) and choosing what to fit on: validation or out-of-fold predictions,
never the rows that the result is judged by.

Isotonic, Platt and beta calibrate each class against the rest and divide the rows by
their sum (Zadrozny and Elkan, 2002, "Transforming classifier scores into accurate
multiclass probability estimates"); temperature scaling works on all classes at once.
Odds changed by undersampling or class weights are corrected inside training: a map for
each class undoes them only roughly (an error of 0.08 becomes 0.02 to 0.03), a
temperature not at all.
scikit-learn and SciPy are needed to fit, not to predict.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, Self

import numpy as np

from metrics.scores import check_probabilities
from utils import ConfigError, DataError, did_you_mean

# Scores are kept this far from 0 and 1, where their logarithms are still finite.
_EPSILON = 1e-7
_TEMPERATURES = (0.05, 20.0)


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


class _OneVersusRest(Calibrator):
    """Fits one map for each class."""

    def _fit(self, table: np.ndarray, labels: np.ndarray) -> list[dict[str, Any]]:
        return [
            self._fit_class(table[:, k], labels == k) for k in range(table.shape[1])
        ]

    def _predict(self, table: np.ndarray) -> np.ndarray:
        columns = [
            self._predict_class(table[:, k], fitted)
            for k, fitted in enumerate(self.parameters_)
        ]
        return np.stack(columns, axis=1)

    @abstractmethod
    def _fit_class(self, scores: np.ndarray, is_class: np.ndarray) -> dict[str, Any]:
        """Returns the parameters of one class."""

    @abstractmethod
    def _predict_class(self, scores: np.ndarray, fitted: dict[str, Any]) -> np.ndarray:
        """Returns probabilities above 0 (num_rows,)."""


class IsotonicCalibrator(_OneVersusRest):
    """The best non-decreasing step map of each class; needs thousands of rows.

    Frequencies of 0 and 1 become 1 / (n + 2) and (n + 1) / (n + 2), because a finite
    sample cannot show certainty.
    Source: Zadrozny and Elkan (2002).
    """

    name = "isotonic"
    parameter_names = ("scores", "frequencies")

    def _fit_class(self, scores: np.ndarray, is_class: np.ndarray) -> dict[str, Any]:
        from sklearn.isotonic import IsotonicRegression

        fitted = IsotonicRegression(out_of_bounds="clip").fit(scores, is_class * 1.0)
        low = 1.0 / (len(scores) + 2.0)
        return {
            "scores": fitted.X_thresholds_.tolist(),
            "frequencies": np.clip(fitted.y_thresholds_, low, 1.0 - low).tolist(),
        }

    def _predict_class(self, scores: np.ndarray, fitted: dict[str, Any]) -> np.ndarray:
        return np.interp(scores, fitted["scores"], fitted["frequencies"])

    def _is_complete(self) -> bool:
        for fitted in self.parameters_:
            scores, values = (np.array(fitted[key]) for key in self.parameter_names)
            if scores.shape != values.shape or scores.ndim != 1 or not scores.size:
                return False
            if (np.diff(scores) <= 0).any() or not ((values > 0) & (values < 1)).all():
                return False
        return len(self.parameters_) == self.num_classes_ > 1


class PlattCalibrator(_OneVersusRest):
    """Logistic regression on the logit of each class: slope (at least 0), intercept.

    Targets are smoothed as Platt did, so that separable or absent classes stay finite.
    Source: Platt (1999), "Probabilistic outputs for support vector machines"; on the
    logit rather than the probability, so that calibrated scores stay as they are.
    """

    name = "platt"
    parameter_names = ("slope", "intercept")

    def _fit_class(self, scores: np.ndarray, is_class: np.ndarray) -> dict[str, Any]:
        log_p, log_not_p = _logs(scores)
        slope, intercept = _fit_logistic((log_p - log_not_p)[:, None], is_class)
        return {"slope": slope, "intercept": intercept}

    def _predict_class(self, scores: np.ndarray, fitted: dict[str, Any]) -> np.ndarray:
        log_p, log_not_p = _logs(scores)
        return _sigmoid(fitted["slope"] * (log_p - log_not_p) + fitted["intercept"])


class BetaCalibrator(_OneVersusRest):
    """Beta calibration: logit q = a ln p - b ln(1 - p) + c, with a and b at least 0.

    Contains the identity (a = b = 1, c = 0) and can bend both ends apart, which Platt
    cannot. Targets are smoothed as in `PlattCalibrator`.
    Source: Kull, Silva Filho and Flach (2017), "Beta calibration", eq. 5.
    """

    name = "beta"
    parameter_names = ("a", "b", "c")

    def _fit_class(self, scores: np.ndarray, is_class: np.ndarray) -> dict[str, Any]:
        log_p, log_not_p = _logs(scores)
        a, b, c = _fit_logistic(np.stack([log_p, -log_not_p], axis=1), is_class)
        return {"a": a, "b": b, "c": c}

    def _predict_class(self, scores: np.ndarray, fitted: dict[str, Any]) -> np.ndarray:
        log_p, log_not_p = _logs(scores)
        return _sigmoid(fitted["a"] * log_p - fitted["b"] * log_not_p + fitted["c"])


class TemperatureScaling(Calibrator):
    """One number for all classes: softmax(ln p / temperature); the order never changes.

    The temperature lies between 0.05 and 20. It cannot mend a wrong class mix. Targets
    are mixed with 1 / (n + 2) of the uniform one, so that perfect scores stay finite.
    Source: Guo et al. (2017), "On calibration of modern neural networks", section 4.2.
    """

    name = "temperature"
    parameter_names = ("temperature",)

    def _fit(self, table: np.ndarray, labels: np.ndarray) -> list[dict[str, Any]]:
        from scipy.optimize import minimize_scalar

        logits, rows = _logs(table)[0], np.arange(len(table))
        doubt = 1.0 / (len(table) + 2.0)

        def mean_loss(sharpness: float) -> float:
            scaled = sharpness * logits
            scaled -= scaled.max(axis=1, keepdims=True)
            log_sum = np.log(np.exp(scaled).sum(axis=1))
            of_targets = (1.0 - doubt) * scaled[rows, labels] + doubt * scaled.mean(1)
            return float((log_sum - of_targets).mean())

        # The loss is convex in 1 / temperature.
        low, high = _TEMPERATURES
        best = minimize_scalar(
            mean_loss,
            bounds=(1.0 / high, 1.0 / low),
            method="bounded",
            options={"xatol": 1e-6},
        )
        return [{"temperature": float(np.clip(1.0 / best.x, low, high))}]

    def _predict(self, table: np.ndarray) -> np.ndarray:
        scaled = _logs(table)[0] / self.parameters_[0]["temperature"]
        return np.exp(scaled - scaled.max(axis=1, keepdims=True))

    def _is_complete(self) -> bool:
        low, high = _TEMPERATURES
        temperature = self.parameters_[0]["temperature"]
        return self.num_classes_ > 1 and low <= temperature <= high


CALIBRATORS: dict[str, type[Calibrator]] = {
    kind.name: kind
    for kind in (
        IsotonicCalibrator,
        PlattCalibrator,
        BetaCalibrator,
        TemperatureScaling,
    )
}


def create_calibrator(name: str, *, min_samples: int = 100) -> Calibrator:
    """Returns an unfitted calibrator: isotonic, platt, beta or temperature.

    Raises:
        ConfigError: If there is none by that name.
    """
    return _find_kind(name)(min_samples=min_samples)


def calibrator_from_dict(values: dict[str, Any]) -> Calibrator:
    """Restores a calibrator of any kind from its `to_dict`.

    Raises:
        ConfigError: If the method is unknown.
        DataError: If the values are not those of the method.
    """
    return _find_kind(str(values.get("method"))).from_dict(values)


def _find_kind(name: str) -> type[Calibrator]:
    if name not in CALIBRATORS:
        raise ConfigError(
            f"`calibration` must be one of {', '.join(CALIBRATORS)}. "
            f"Received: {name!r}.{did_you_mean(name, CALIBRATORS)}"
        )
    return CALIBRATORS[name]


# Numbers


def _fit_logistic(inputs: np.ndarray, is_class: np.ndarray) -> list[float]:
    """Returns coefficients (at least 0) and the intercept of a logistic regression.

    Args:
        inputs: (num_rows, num_inputs).
        is_class: (num_rows,); smoothed to (n1 + 1) / (n1 + 2) and 1 / (n0 + 2).
    """
    from scipy.optimize import minimize

    positive = int(np.count_nonzero(is_class))
    negative = len(is_class) - positive
    high, low = (positive + 1.0) / (positive + 2.0), 1.0 / (negative + 2.0)
    targets = np.where(is_class, high, low)

    def loss_and_gradient(weights: np.ndarray) -> tuple[float, np.ndarray]:
        logits = inputs @ weights[:-1] + weights[-1]
        loss = (np.logaddexp(0.0, logits) - targets * logits).mean()
        residual = (_sigmoid(logits) - targets) / len(targets)
        return float(loss), np.append(inputs.T @ residual, residual.sum())

    num_inputs = inputs.shape[1]
    best = minimize(
        loss_and_gradient,
        np.append(np.ones(num_inputs), 0.0),
        jac=True,
        method="L-BFGS-B",
        bounds=[(0.0, None)] * num_inputs + [(None, None)],
        options={"ftol": 1e-14, "gtol": 1e-9, "maxiter": 500},
    )
    return [float(weight) for weight in best.x]


def _logs(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns ln p and ln(1 - p), finite."""
    clipped = np.clip(scores, _EPSILON, 1.0 - _EPSILON)
    return np.log(clipped), np.log1p(-clipped)


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    # -700 to 700: exp stays finite, and the result above 0, so rows can be divided.
    return 1.0 / (1.0 + np.exp(-np.clip(logits, -700.0, 700.0)))


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
