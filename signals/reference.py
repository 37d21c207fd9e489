"""What the rows of a training were like, and how far a new row is from them.

In: quantiles, shares, distances. Out: what is done about a row that is unlike
(`answers`), golden rows (`golden`).

A feature's distance is 0 inside the central 90 % of its training rows; outside it is in
widths of these, after scaling and clipping, which is what the model reads. It counts
in units of the farthest row of the run, of any part: the report speaks of such rows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from artifacts.manifest import refuse_broken
from artifacts.run_folder import RunFolder
from data_loader import TrainingData
from evaluation.part_scores import Judged
from files.strict import write_json
from preprocessing.scaling import FeatureScaler
from preprocessing.windows import evenly_spaced
from signals.drift import UsualDrift

FORMAT = 1
LEVELS = tuple(percent / 100 for percent in range(0, 101, 5))
UNLIKE_ABOVE = 2.0
"""A row that is more than twice as far as any of the run is unlike."""

_LOW, _HIGH = LEVELS.index(0.05), LEVELS.index(0.95)
_LEAST_REACH = 0.5
"""In widths: a feature that hardly left its bulk in the run may do so a little."""
_MOST_ROWS, _MOST_DRIFT_ROWS = 200_000, 2_000_000


@dataclass(frozen=True, kw_only=True, eq=False)
class Reference:
    """Statistics of the training rows.

    Args:
        feature_names: The model's features.
        quantiles: Of each feature at `LEVELS` (num_features, 21), not scaled, cut off
            where scaled features are clipped.
        clip_shares: Share of the rows that are clipped (num_features,).
        reach: Largest distance of any row of the run (num_features,).
        targets: `label_shares`, or moments of the `log_return`, of training targets.
        answers: Of each probability, or of the log return, at `LEVELS`, in validation.
        drift: How far blocks of the training part lie apart from all of it; None of a
            run from before that was kept.
    """

    feature_names: tuple[str, ...]
    quantiles: np.ndarray
    clip_shares: np.ndarray
    reach: np.ndarray
    targets: Mapping[str, Any]
    answers: Mapping[str, list[float]]
    drift: UsualDrift | None = None

    @classmethod
    def of(cls, data: TrainingData, judged: Judged) -> Self:
        """Takes at most 200,000 training rows, evenly spread."""
        scaler, train = data.scaler, data.parts["train"]
        taken = train.take(data.features)[:, : len(scaler.feature_names)]
        rows = taken[evenly_spaced(np.arange(len(taken)), _MOST_ROWS)]
        scaled = np.quantile(rows, LEVELS, axis=0).T.astype(np.float64)
        center, scale = (np.array(x)[:, None] for x in (scaler.center, scaler.scale))
        # One by one: less memory. What says whose rows they are has no scale.
        columns = zip(data.features.T[: len(scaled)], scaled, strict=True)
        reach = [_distances(x[:, None], of[None]).max() for x, of in columns]
        table = judged.table[judged.table["part"] == "validation"]
        answers = judged.policy.answers_of(table)
        names = judged.policy.answer_names
        some = evenly_spaced(np.arange(len(taken)), _MOST_DRIFT_ROWS)
        places = np.concatenate([np.arange(*span) for span in train.spans])[some]
        drift = UsualDrift.of(
            *(taken[some], data.timeline.at(places), scaled),
            bar_seconds=int(data.timeline.bar / np.timedelta64(1, "s")),
        )
        return cls(
            feature_names=scaler.feature_names,
            quantiles=center + scale * scaled,
            clip_shares=(np.abs(rows) >= scaler.clip_limit).mean(axis=0),
            reach=np.array(reach),
            targets=data.describe_targets(train.targets),
            answers={
                name: np.quantile(column, LEVELS).tolist()
                for name, column in zip(names, np.atleast_2d(answers.T), strict=True)
            },
            drift=drift,
        )

    def to_dict(self) -> dict[str, Any]:
        """Returns strict JSON values."""
        columns = zip(self.quantiles, self.clip_shares, self.reach, strict=True)
        return {
            "format": FORMAT,
            "levels": LEVELS,
            "features": {
                name: {"quantiles": of, "clip_share": share, "reach": reach}
                for name, (of, share, reach) in zip(
                    self.feature_names, columns, strict=True
                )
            },
            "targets": self.targets,
            "validation_answers": self.answers,
            "drift": None if self.drift is None else self.drift.to_dict(),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: object) -> Self:
        """Restores a reference from `to_dict`.

        Raises:
            RefusedArtifactError: If the values are not those of a reference.
        """
        with refuse_broken(f"{where}: expected a reference of format {FORMAT}"):
            features = values["features"]
            if values["format"] != FORMAT or tuple(values["levels"]) != LEVELS:
                raise ValueError(f"format {values['format']!r:.50}")
            columns = [
                np.array([each[key] for each in features.values()], np.float64)
                for key in ("quantiles", "clip_share", "reach")
            ]
            if columns[0].shape != (len(features), len(LEVELS)):
                raise ValueError(f"quantiles of shape {columns[0].shape}")
            if not all(np.isfinite(column).all() for column in columns):
                raise ValueError("numbers that are not finite")
            drift = values.get("drift")
            return cls(
                drift=drift and UsualDrift.from_dict(drift, len(features)),
                feature_names=tuple(features),
                quantiles=columns[0],
                clip_shares=columns[1],
                reach=columns[2],
                targets=dict(values["targets"]),
                answers=dict(values["validation_answers"]),
            )

    def in_units_of(self, own: FeatureScaler, other: FeatureScaler) -> Self:
        """Returns it for rows of another scale, as like each other once scaled."""
        if own == other:
            return self
        center, scale = (np.array(x)[:, None] for x in (other.center, other.scale))
        quantiles = center + scale * self.scaled_quantiles(own)
        return dataclasses.replace(self, quantiles=quantiles)

    def scaled_quantiles(self, scaler: FeatureScaler) -> np.ndarray:
        """Returns the quantiles of scaled features (num_features, 21)."""
        center, scale = (np.array(x)[:, None] for x in (scaler.center, scaler.scale))
        return (self.quantiles - center) / scale

    def unlikeness(self, scaled: np.ndarray, scaler: FeatureScaler) -> np.ndarray:
        """Returns how far rows are, 1 as the farthest of the run (num_rows,).

        Args:
            scaled: (num_rows, num_features), NaN where a row has no value; columns
                behind those of the scaler are not looked at.
            scaler: What they went through.
        """
        quantiles = self.scaled_quantiles(scaler)
        distances = _distances(scaled[:, : len(quantiles)], quantiles)
        return (distances / np.maximum(self.reach, _LEAST_REACH)).max(axis=1)


def write_reference(run: RunFolder, data: TrainingData, judged: Judged) -> None:
    """Writes `reference_{tag}.json` into a run's folder."""
    values = Reference.of(data, judged).to_dict()
    write_json(run.file("reference", ".json"), values)


def _distances(scaled: np.ndarray, quantiles: np.ndarray) -> np.ndarray:
    """Returns the distance of each scaled feature (num_rows, num_features)."""
    low, high = quantiles[:, _LOW], quantiles[:, _HIGH]
    width = np.where(high > low, high - low, quantiles[:, -1] - quantiles[:, 0])
    outside = np.maximum(np.maximum(scaled - high, low - scaled), 0)
    return outside / np.where(width > 0, width, 1.0)
