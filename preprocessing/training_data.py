"""What a model learns from: `TrainingData`, and what it promises about its parts.

In: arrays that belong together, checks of what they promise. Out: reading, splitting
and scaling them (`data_loader`), windows of them (`preprocessing.windows`).
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from config import CLASS_NAMES
from preprocessing.parts import Timeline
from preprocessing.pipelines import PreprocessingPipeline
from preprocessing.scaling import FeatureScaler, TargetScaler
from preprocessing.shared_bars import count_shared_bars
from preprocessing.windows import evenly_spaced
from utils import DataError

GOLDEN_TARGETS = 16


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """Ranges of rows and the targets whose window and label bars lie inside of one.

    Args:
        spans: First row and row after the last of each, in order; one range but for
            combinatorial folds.
        targets: (num_targets,) int32 rows, ascending.
    """

    spans: Sequence[tuple[int, int]]
    targets: np.ndarray

    @property
    def start(self) -> int:
        """First row."""
        return self.spans[0][0]

    @property
    def stop(self) -> int:
        """Row after the last one."""
        return self.spans[-1][1]

    @property
    def num_rows(self) -> int:
        """Rows of all ranges."""
        return sum(stop - start for start, stop in self.spans)

    def take(self, values: np.ndarray) -> np.ndarray:
        """Returns the part's rows of an array (num_rows, ...); of one range a view."""
        pieces = [values[start:stop] for start, stop in self.spans]
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)


@dataclass(frozen=True, kw_only=True, eq=False)
class PairRows:
    """The rows of one pair of several, from `start` to before `stop`.

    Args:
        name: The pair.
        start: First row.
        stop: Row after the last.
        pipeline: What its features went through, fitted on its own training rows.
        alone: The same without columns that say which pair it is.
    """

    name: str
    start: int
    stop: int
    pipeline: PreprocessingPipeline
    alone: PreprocessingPipeline


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingData:
    """Everything one run reads: arrays by row, parts by row range, targets by row.

    Row `t` is known once bar `t` closed. The window of target `t` is rows
    `t - window_bars + 1 .. t`, its label looks at bars `t + 1 .. t + future_window`.

    Args:
        features: (num_rows, num_features) float32, scaled, finite.
        labels: (num_rows,) int8 class ids; see `config.CLASS_NAMES`. (0,) where the
            target is a number.
        timeline: Open of each row's bar, UTC.
        outcomes: Columns (num_rows,) that evaluation uses (`close`, `long_return`, ...)
            as far as the file has them.
        parts: `train`, `validation`, `test`.
        train_targets: (num_chosen,) int32 rows of the training part that are trained
            on, after undersampling.
        class_weights: (3,) loss weight of each class, or None.
        class_odds: (3,) kept / natural share of each class that balancing caused, or
            None where training sees the natural mix.
        class_prior: (3,) natural class shares of the training part; (0,) where the
            target is a number.
        pipeline: What the features went through, fitted on the training part.
        window_bars: Bars of a window.
        future_window: Bars of a label.
        source: Where the rows came from: path, sha256, counts, digests.
        values: (num_rows,) float32, what a regression learns and predicts: the log
            return over `future_window` bars in units of `target_scaler`, also where
            the target is a price; NaN in rows without one. None for classes.
        target_scaler: What the log returns went through; None for classes.
        target: What is predicted; see `settings.label_fields`.
        golden_windows: (num_golden, window_bars, num_features) float32, the windows of
            `golden_rows`, not scaled; None where they are not kept.
        row_weights: (num_rows,) float32, how much each target that is trained on
            counts, 1 on average; None where all are alike.
        pairs: Pooled pairs, whose rows stand one after another; `pipeline` then has the
            scale of all of them together, which no row of theirs went through.
        own_mean: Mean training return of a pair of a pool; see `of_pair`.
    """

    features: np.ndarray
    labels: np.ndarray
    timeline: Timeline
    outcomes: Mapping[str, np.ndarray]
    parts: Mapping[str, Part]
    train_targets: np.ndarray
    class_weights: np.ndarray | None
    class_odds: np.ndarray | None
    class_prior: np.ndarray
    pipeline: PreprocessingPipeline
    window_bars: int
    future_window: int
    source: Mapping[str, Any]
    values: np.ndarray | None = None
    target_scaler: TargetScaler | None = None
    target: str = "signal"
    golden_windows: np.ndarray | None = None
    row_weights: np.ndarray | None = None
    pairs: tuple[PairRows, ...] = ()
    own_mean: float | None = None

    def __post_init__(self) -> None:
        """Checks the promises above on the arrays themselves.

        Raises:
            DataError: If one does not hold.
        """
        learned = self.labels if self.values is None else self.values
        columns = {"labels or values": learned, **self.outcomes}
        for name, column in columns.items():
            if len(column) != self.num_rows:
                raise DataError(
                    f"{name}: expected {self.num_rows} rows. Received: {len(column)}"
                )
        for part_name, part in self.parts.items():
            if self.values is not None and np.isnan(self.values[part.targets]).any():
                raise DataError(f"{part_name}: expected targets with a value only.")
        targets = self.parts["train"].targets
        if not np.isin(self.train_targets, targets, assume_unique=True).all():
            raise DataError("train_targets: expected rows of the training part only.")
        for first, second in itertools.combinations(self.parts, 2):
            shared = self.shared_bars(first, second)
            if shared:
                raise DataError(
                    f"{first}, {second}: expected no shared bar. Received: {shared}"
                )
        if self.pairs:
            self._require_order()

    def _require_order(self) -> None:
        """Refuses pairs of which one is in a part that is later in another."""
        for first, second in itertools.pairwise(self.parts.values()):
            last = max(self.timeline.at(stop - 1) for _, stop in first.spans)
            start = min(self.timeline.at(start) for start, _ in second.spans)
            if last >= start:
                raise DataError(
                    "parts: expected the same moments between parts in all pairs. "
                    f"Received: one part until {last}, the next from {start}."
                )

    def of_pair(self, pair: PairRows) -> TrainingData:
        """Returns the rows of one pooled pair, as a run of its own would have them.

        Class shares, and the mean return, are those of its own training part; the units
        of a regression's values stay those of the pool.
        """
        start, stop = pair.start, pair.stop
        cut = slice(start, stop)

        def inside(rows: np.ndarray) -> np.ndarray:
            return rows[(rows >= start) & (rows < stop)] - start

        parts = {
            name: Part(
                spans=tuple(
                    (a - start, b - start)
                    for a, b in part.spans
                    if a in range(start, stop)
                ),
                targets=inside(part.targets),
            )
            for name, part in self.parts.items()
        }
        train = parts["train"].targets + start
        stated = {key: value for key, value in self.source.items() if key != "pairs"}
        own = dict(self.source["pairs"][pair.name]) if "pairs" in self.source else {}
        return dataclasses.replace(
            self,
            features=self.features[cut, : len(pair.alone.feature_names)],
            labels=self.labels[cut],
            timeline=self.timeline.between(start, stop),
            outcomes={name: column[cut] for name, column in self.outcomes.items()},
            parts=parts,
            train_targets=inside(self.train_targets),
            class_prior=self.class_prior
            if self.is_regression
            else self.label_shares(train),
            own_mean=float(self.log_returns(train).mean())
            if self.is_regression
            else None,
            pipeline=pair.alone,
            source=stated | own,
            values=None if self.values is None else self.values[cut],
            row_weights=None if self.row_weights is None else self.row_weights[cut],
            golden_windows=None,
            pairs=(),
        )

    def each_pair(self) -> Iterator[tuple[str, slice, TrainingData]]:
        """Yields name, rows and data of each pooled pair; of no pool nothing."""
        for pair in self.pairs:
            yield pair.name, slice(pair.start, pair.stop), self.of_pair(pair)

    def first_time(self, part: Part) -> Any:
        """Returns the open of a part's first bar, in whichever pair, datetime64."""
        return min(self.timeline.at(start) for start, _ in part.spans)

    @property
    def timestamps(self) -> np.ndarray:
        """Times of all rows (num_rows,) datetime64[ns], made anew at each call."""
        return self.timeline.array()

    @property
    def num_rows(self) -> int:
        """Rows of the file that are used."""
        return len(self.features)

    @property
    def num_features(self) -> int:
        """Columns that the model reads."""
        return self.features.shape[1]

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of those columns, in the model's order."""
        return self.pipeline.output_schema.names

    @property
    def scaler(self) -> FeatureScaler:
        """How the pipeline scales and clips."""
        return self.pipeline.scaler

    @property
    def golden_rows(self) -> np.ndarray:
        """Validation targets by which an opened model is proved (num_golden,)."""
        return golden_targets(self.parts)

    @property
    def is_regression(self) -> bool:
        """Whether the target is a number (`values`) and not a class (`labels`)."""
        return self.values is not None

    @property
    def units(self) -> TargetScaler:
        """What a regression's log returns went through; ValueError for classes."""
        if self.target_scaler is None:
            raise ValueError("expected a target that is a number. Received: classes.")
        return self.target_scaler

    def supervision(self, rows: np.ndarray) -> np.ndarray:
        """Returns what a model is to say at the given rows (num_targets,).

        Class ids, int32, or a regression's values, float32.
        """
        if self.values is None:
            return self.labels[rows].astype(np.int32)
        return self.values[rows]

    @property
    def is_weighted(self) -> bool:
        """Whether targets that are trained on count differently."""
        return self.class_weights is not None or self.row_weights is not None

    def loss_weights(self, rows: np.ndarray) -> np.ndarray:
        """Returns how much training targets count in a loss (num_targets,) float32."""
        weights = np.ones(len(rows), np.float32)
        if self.row_weights is not None:
            weights *= self.row_weights[rows]
        if self.class_weights is not None:
            weights *= self.class_weights[self.labels[rows]]
        return weights

    def log_returns(self, rows: np.ndarray) -> np.ndarray:
        """Returns a regression's log returns at the given rows (num_targets,)."""
        return self.units.inverse(self.supervision(rows))

    def digest(self) -> str:
        """Returns the SHA-256 of everything that training reads."""
        digest = hashlib.sha256()
        learned = self.labels if self.values is None else self.values
        arrays = [self.features, learned, self.timestamps, self.train_targets]
        if self.row_weights is not None:
            arrays.append(self.row_weights)
        for array in (*arrays, *(part.targets for part in self.parts.values())):
            digest.update(f"{array.dtype}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).view(np.uint8).data)
        return digest.hexdigest()

    def shared_bars(self, first: str, second: str) -> int:
        """Counts the bars that targets of two parts have in common."""
        reach = self.window_bars + self.future_window

        def apart(rows: np.ndarray) -> np.ndarray:
            if not self.pairs:
                return rows
            starts = [pair.start for pair in self.pairs]
            return rows + reach * np.searchsorted(starts, rows, side="right")

        return count_shared_bars(
            apart(self.parts[first].targets),
            apart(self.parts[second].targets),
            window_bars=self.window_bars,
            future_window=self.future_window,
        )

    def label_shares(self, targets: np.ndarray) -> np.ndarray:
        """Returns the (3,) class shares of the given target rows."""
        counts = np.bincount(self.labels[targets], minlength=len(CLASS_NAMES))
        return counts / max(1, len(targets))

    def describe_targets(self, targets: np.ndarray) -> dict[str, Any]:
        """Returns `label_shares` of target rows, or moments of their `log_return`."""
        if self.is_regression:
            return {"log_return": self.return_moments(targets)}
        return {"label_shares": self.label_shares(targets)}

    def return_moments(self, targets: np.ndarray) -> dict[str, float]:
        """Returns mean and deviation of a regression's log returns, in basis points."""
        returns = 1e4 * self.log_returns(targets)
        return {"mean_bps": float(returns.mean()), "std_bps": float(returns.std())}


def golden_targets(parts: Mapping[str, Part]) -> np.ndarray:
    """Returns up to 16 targets of the validation part, evenly spread.

    Of pooled pairs those of the first one, whose scale a proof of the model takes.
    """
    part = parts["validation"]
    first = part.targets[part.targets < part.spans[0][1]]
    return evenly_spaced(first, GOLDEN_TARGETS)
