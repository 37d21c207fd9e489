"""Windows as rows of a table, and probabilities of such rows at the natural mix.

In: which numbers a family reads of a window, what its training mix does to its
probabilities, what a model loses after each round. Out: statistics
(`preprocessing.windows`), fitting and which round is kept (`tabular_adapter`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from config import CLASS_NAMES
from files.progress import track
from metrics import scores as metrics
from preprocessing import windows as samples
from utils import DataError

if TYPE_CHECKING:
    from data_loader import TrainingData

CHUNK_ROWS = 50_000


@dataclass(frozen=True, kw_only=True, eq=False)
class Table:
    """Target rows of a part as a table.

    Args:
        inputs: (num_rows, num_inputs) float32.
        targets: (num_rows,) class ids, or numbers.
        weights: (num_rows,) weight of each row, or None.
    """

    inputs: np.ndarray
    targets: np.ndarray
    weights: np.ndarray | None = None

    def some(self, count: int | None) -> Table:
        """Returns at most `count` rows, evenly spread; all of them for None."""
        rows = samples.evenly_spaced(np.arange(len(self.targets)), count)
        return Table(
            inputs=self.inputs[rows],
            targets=self.targets[rows],
            weights=None if self.weights is None else self.weights[rows],
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class WindowInputs:
    """How a window becomes a row: the same numbers wherever the window lies.

    Args:
        kind: `window_statistics` or `last_row`.
        window_bars: Bars of a window.
        limits: (num_features,) largest absolute value of each feature; see `windows`.
    """

    kind: str
    window_bars: int
    limits: np.ndarray

    def of_rows(self, features: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Returns inputs (num_rows, num_inputs) of the windows that end at `rows`."""
        if self.kind == "last_row":
            return features[rows]
        facts: dict[str, Any] = {"window_bars": self.window_bars, "limits": self.limits}
        slices = samples.chunks(max(1, len(rows)), CHUNK_ROWS)
        return np.concatenate(
            [samples.window_statistics(features, rows[s], **facts) for s in slices]
        )

    def of_windows(self, windows: np.ndarray) -> np.ndarray:
        """Returns the same of (num_windows, window_bars, num_features) scaled rows."""
        if self.kind == "last_row":
            return np.ascontiguousarray(windows[:, -1])
        rows = windows.reshape(-1, windows.shape[2])
        return self.of_rows(rows, np.arange(1, len(windows) + 1) * self.window_bars - 1)

    def table(
        self,
        data: TrainingData,
        rows: np.ndarray,
        *,
        is_training: bool = False,
    ) -> Table:
        """Returns target rows as a table, weighted where training counts them so."""
        weights = None
        if is_training and data.is_weighted:
            weights = data.loss_weights(rows).astype(np.float64)
        return Table(
            inputs=self.of_rows(data.features, rows),
            targets=data.supervision(rows),
            weights=weights,
        )

    def names(self, feature_names: tuple[str, ...]) -> list[str]:
        """Returns the name of each input; each begins with its feature's."""
        if self.kind == "last_row":
            return list(feature_names)
        return samples.statistic_names(feature_names, self.window_bars)

    def count(self) -> int:
        """Returns the number of inputs."""
        return len(self.names(tuple("x" * len(self.limits))))

    def to_dict(self) -> dict[str, Any]:
        """Returns values for JSON; the window's bars stand elsewhere."""
        return {"tabular_inputs": self.kind, "input_limits": self.limits.tolist()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, window_bars: int) -> Self:
        """Rebuilds them from `to_dict`; ValueError if its values do not fit."""
        limits = np.array(values["input_limits"], np.float64)
        if limits.shape != (values["num_features"],):
            raise ValueError("other input_limits than num_features")
        if not (np.isfinite(limits).all() and (limits > 0).all()):
            raise ValueError("input_limits that are no limits")
        return cls(
            kind=values["tabular_inputs"], window_bars=window_bars, limits=limits
        )


@dataclass(frozen=True, kw_only=True)
class ClassMix:
    """From what a library says at the mix it was trained at, to the natural mix.

    Args:
        classes: Class id of each column that the library returns.
        odds: Kept / natural share of each of the three classes; None where they are 1.
        num_targets: Targets trained on.
    """

    classes: tuple[int, ...]
    odds: tuple[float, ...] | None
    num_targets: int

    @classmethod
    def of(cls, data: TrainingData, table: Table) -> ClassMix:
        """Learns from the rows that a model is fitted on; DataError if of one class."""
        counts = np.bincount(table.targets, weights=table.weights, minlength=3)
        classes = tuple(int(k) for k in np.flatnonzero(counts))
        if len(classes) < 2:
            raise DataError(
                "labels: expected at least two classes among the training targets. "
                f"Received: {CLASS_NAMES[classes[0]]} alone in {len(table.targets)}. "
                "Raise max_tabular_targets, or choose take profit and stop loss that "
                "the market reaches."
            )
        odds = None
        if data.class_odds is not None:
            shares, prior = counts / counts.sum(), np.asarray(data.class_prior)
            odds = tuple(np.where(counts > 0, shares / np.maximum(prior, 1e-12), 1.0))
        return cls(
            classes=classes,
            odds=None if odds is None else tuple(map(float, odds)),
            num_targets=len(table.targets),
        )

    def training(self, outputs: np.ndarray) -> np.ndarray:
        """Returns (num_rows, 3) of (num_rows, num_classes); an unseen class has 0."""
        table = np.zeros((len(outputs), len(CLASS_NAMES)))
        table[:, list(self.classes)] = outputs
        return table

    def to_dict(self) -> dict[str, Any]:
        """Returns values for JSON."""
        odds = None if self.odds is None else list(self.odds)
        return vars(self) | {"classes": list(self.classes), "odds": odds}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Rebuilds a mix from `to_dict`; ValueError if its values do not fit."""
        classes, odds, count = (values[k] for k in ("classes", "odds", "num_targets"))
        if classes != [k for k in range(len(CLASS_NAMES)) if k in classes]:
            raise ValueError(f"expected class ids. Received: {classes!r:.99}")
        if len(classes) < 2 or type(count) is not int or not 0 < count < 2**48:
            raise ValueError(f"expected two classes of {count!r:.99} targets or more")
        if odds is not None:
            odds = tuple(float(value) for value in odds)
            if len(odds) != 3 or not all(1e-12 < value < 1e12 for value in odds):
                raise ValueError(f"expected three odds. Received: {odds!r:.99}")
        return cls(classes=tuple(classes), odds=odds, num_targets=count)

    def natural(self, outputs: np.ndarray) -> np.ndarray:
        """Returns probabilities (num_rows, 3) at the natural mix, none of them 0.

        Each is as if its class had been met once more (Laplace's rule of succession):
        what was not among n targets has 1 / (n + 3).
        """
        table = self.training(outputs)
        if self.odds is not None:
            table /= self.odds
        table /= table.sum(axis=1, keepdims=True)
        return (self.num_targets * table + 1) / (self.num_targets + len(CLASS_NAMES))


def learning_curves(
    sampled: Table,
    monitored: Table,
    staged: Callable[[np.ndarray], Iterable[np.ndarray]],
    *,
    mix: ClassMix | None,
    num_rounds: int,
) -> dict[str, list[float]]:
    """Returns scores of each round: `loss` as training sees it, `val_loss` not.

    Of classes `val_direction_loss`, too: that of the side of the true trades, 0 without
    any.

    Args:
        sampled: Rows of training.
        monitored: Rows of validation.
        staged: Says what a fitted model says of inputs after each round.
        mix: Of classes; None where the target is a number.
        num_rounds: The most rounds there are.
    """
    curves: dict[str, list[float]] = {}
    rounds = zip(staged(sampled.inputs), staged(monitored.inputs), strict=True)
    for before, after in track(rounds, "round", num_rounds):
        if mix is not None:
            before, after = mix.training(before), mix.natural(after)
        scores = scores_of(sampled.targets, before, sampled.weights)
        scores |= monitored_scores(monitored.targets, after)
        for name, value in scores.items():
            curves.setdefault(name, []).append(value)
    return curves


def monitored_scores(targets: np.ndarray, outputs: np.ndarray) -> dict[str, float]:
    """Returns the same of rows of validation, under the names of `Config.monitor`."""
    found = {f"val_{k}": value for k, value in scores_of(targets, outputs).items()}
    if outputs.ndim > 1:
        parts = metrics.log_loss_parts(targets, outputs)
        found["val_direction_loss"] = parts["direction_log_loss"] or 0.0
    return found


def scores_of(
    targets: np.ndarray, outputs: np.ndarray, weights: np.ndarray | None = None
) -> dict[str, float]:
    """Returns loss and accuracy of probabilities, or the squared error of numbers."""
    if outputs.ndim == 1:
        squares = np.square(outputs - targets)
        return {"loss": float(np.average(squares, weights=weights))}
    losses = metrics.row_log_loss(targets, outputs)
    hits = outputs.argmax(axis=1) == targets
    return {
        "accuracy": float(np.average(hits, weights=weights)),
        "loss": float(np.average(losses, weights=weights)),
    }
