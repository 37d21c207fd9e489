"""What a run takes over from the models that it builds on: `Inherited`.

In: rows that these learned from or chose by, the steps before their networks. Out:
opening them (`models.parents`), parts without them (`parts`).

What a model says of rows that it was fitted to is better than what it says of others.
Who learns from it learns to trust it too much. So a stage learns from rows behind those
of its parents, chooses on rows that no parent was fitted to, and is tested on rows that
no parent has seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from config import Config
from preprocessing.parts import Range, Timeline, chronological_ranges
from preprocessing.pipelines import PreprocessingPipeline
from preprocessing.scaling import FeatureScaler
from utils import DataError

LARGEST = float(np.finfo(np.float32).max)
"""A limit that clips nothing."""


STEPS_LEARNED_UNTIL = "steps_learned_until"
"""Key of `TrainingData.source`: no step of a parent was fitted to a later bar."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Inherited:
    """What models that were trained before leave to a run.

    Attributes:
        pipeline: Steps before a parent's network, which reads the same windows; None
            fits steps of one's own.
        scales: Whether the run's own steps scale and clip; else rows stay as they are,
            for parents that each have a scale of their own.
        learns_behind: Whether the run learns from rows behind the parents' own alone.
        learned_until: Open of the last bar that a label of a parent's training part
            looks at; None where there is no parent.
        chosen_until: The same of its validation part.
        fitted_until: As `learned_until`, of those parents alone whose answers the run
            learns from, where these are not all.
    """

    pipeline: PreprocessingPipeline | None = None
    scales: bool = True
    learns_behind: bool = True
    learned_until: np.datetime64 | None = None
    chosen_until: np.datetime64 | None = None
    fitted_until: np.datetime64 | None = None

    @property
    def source(self) -> dict[str, str]:
        """What the steps that are taken over learned from, for the run's metadata."""
        if self.pipeline is None:
            return {}
        return {STEPS_LEARNED_UNTIL: f"{self.learned_until}Z"}

    def rows_left(self, timeline: Timeline, config: Config) -> dict[str, Range]:
        """Returns first row and row after the last of each part of the run.

        Raises:
            DataError: If the parents learned from all training rows, or looked at rows
                of validation or test.
        """
        ranges = chronological_ranges(timeline, config)
        if self.learned_until is None or self.chosen_until is None:
            return ranges
        times = timeline.array()
        fitted_until = self.fitted_until
        if fitted_until is None:
            fitted_until = self.learned_until
        learned, chosen, fitted = (
            int(np.searchsorted(times, until.astype(times.dtype), side="right"))
            for until in (self.learned_until, self.chosen_until, fitted_until)
        )
        for name, first, looked in (
            ("validation", ranges["validation"][0], learned),
            ("test", ranges["test"][0], chosen),
        ):
            if looked > first:
                raise DataError(
                    f"{name}: expected rows that no model below this one has "
                    f"{'learned from' if name == 'validation' else 'seen'}, so from "
                    f"{_at(timeline, looked)} on. Received: a part from "
                    f"{_at(timeline, first)} on. Train all stages on one file, with "
                    "the same parts."
                )
        if not self.learns_behind:
            return ranges
        start, stop = ranges["train"]
        if fitted >= stop:
            raise DataError(
                "train: expected rows behind those that the models below this one "
                f"learned from, up to {fitted_until}. Received: a training part "
                f"from {_at(timeline, start)} to {_at(timeline, stop - 1)}. Train "
                "those with --stage-share 0.5: the older half is theirs then."
            )
        return ranges | {"train": (max(start, fitted), stop)}

    def fitted(
        self, own: PreprocessingPipeline, train: np.ndarray
    ) -> PreprocessingPipeline:
        """Returns the steps of the run: the parent's, or its own, fitted.

        Args:
            own: Not fitted yet.
            train: Rows (num_rows, num_features) of the training part.

        Raises:
            DataError: If a parent reads other features, or another window.
        """
        if not self.scales:
            none = FeatureScaler.fit(
                train, own.feature_names, kind="none", clip_limit=LARGEST
            )
            return own.with_scaler(none)
        if self.pipeline is None:
            return own.fit(train)
        for name in ("feature_names", "window_bars", "timeframe"):
            wanted, found = getattr(self.pipeline, name), getattr(own, name)
            if wanted != found:
                raise DataError(
                    f"{name}: expected {wanted}, as the model below this one reads. "
                    f"Received: {found}"
                )
        return self.pipeline


def _at(timeline: Timeline, row: int) -> str:
    """Returns the open of a bar as text; of a row behind the last, of that."""
    return str(timeline.at(min(row, timeline.num_rows - 1)))[:16]
