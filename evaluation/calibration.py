"""Scores to probabilities that mean what they say: isotonic, Platt, beta, two more.

In: maps fitted on held-out predictions. Out: what all have in common (`calibrator`),
measuring calibration (`metrics.scores`) and choosing what to fit on: validation or
out-of-fold predictions, never the rows that the result is judged by.

Isotonic, Platt and beta calibrate each class against the rest and divide the rows by
their sum (Zadrozny and Elkan, 2002, "Transforming classifier scores into accurate
multiclass probability estimates"); temperature scaling works on all classes at once.
Odds changed by undersampling or class weights are corrected inside training: a map for
each class undoes them only roughly (an error of 0.08 becomes 0.02 to 0.03), a
temperature not at all.
scikit-learn and SciPy are needed to fit, not to predict.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np

from evaluation.calibrator import Calibrator, _logs, _sigmoid
from utils import ConfigError, did_you_mean

_TEMPERATURES = (0.05, 20.0)


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

        # A row for each class: over long rows NumPy is seven times as fast.
        logits, rows = np.ascontiguousarray(_logs(table)[0].T), np.arange(len(table))
        doubt = 1.0 / (len(table) + 2.0)

        def mean_loss(sharpness: float) -> float:
            scaled = sharpness * logits
            scaled -= scaled.max(axis=0)
            log_sum = np.log(np.exp(scaled).sum(axis=0))
            of_targets = (1.0 - doubt) * scaled[labels, rows] + doubt * scaled.mean(0)
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

    def bound(self) -> str | None:
        """Returns a temperature within a hundredth of its limit: all or nothing."""
        low, high = _TEMPERATURES
        temperature = self.parameters_[0]["temperature"]
        if 1.01 * low < temperature < 0.99 * high:
            return None
        return f"the temperature ended at its bound, {temperature:.3g}"

    def _is_complete(self) -> bool:
        low, high = _TEMPERATURES
        temperature = self.parameters_[0]["temperature"]
        return self.num_classes_ > 1 and low <= temperature <= high


class BiasScaling(Calibrator):
    """A factor for each class: p e^b, normalised; it mends a class mix, nothing else.

    The factors are those of the highest likelihood, each class as if it had been met
    once more, so that an absent one stays possible; that of the first class is 1.
    Source: Alexandari, Kundaje and Shrikumar (2020), "Maximum likelihood with
    bias-corrected calibration is hard-to-beat at label shift adaptation", without the
    temperature.
    """

    name = "bias"
    parameter_names = ("bias",)

    def _fit(self, table: np.ndarray, labels: np.ndarray) -> list[dict[str, Any]]:
        from scipy.optimize import minimize

        logits, num_classes = _logs(table)[0], table.shape[1]
        counts = np.bincount(labels, minlength=num_classes)
        shares = (counts + 1.0) / (len(table) + num_classes)

        def loss_and_gradient(free: np.ndarray) -> tuple[float, np.ndarray]:
            bias = np.append(0.0, free)
            odds = np.exp(logits + bias)
            total = odds.sum(axis=1, keepdims=True)
            # The loss up to what no bias changes.
            loss = float(np.log(total).mean() - shares @ bias)
            return loss, ((odds / total).mean(axis=0) - shares)[1:]

        best = minimize(loss_and_gradient, np.zeros(num_classes - 1), jac=True)
        return [{"bias": float(bias)} for bias in (0.0, *best.x)]

    def _predict(self, table: np.ndarray) -> np.ndarray:
        scaled = _logs(table)[0] + [fitted["bias"] for fitted in self.parameters_]
        return np.exp(scaled - scaled.max(axis=1, keepdims=True))


_ONE_BY_ONE = (IsotonicCalibrator, PlattCalibrator, BetaCalibrator)
CALIBRATORS: dict[str, type[Calibrator]] = {
    kind.name: kind for kind in (*_ONE_BY_ONE, TemperatureScaling, BiasScaling)
}


def create_calibrator(name: str, *, min_samples: int = 100) -> Calibrator:
    """Returns an unfitted calibrator: isotonic, platt, beta, temperature or bias.

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
