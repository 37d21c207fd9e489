"""Which rows are used, in which parts, how they are scaled and balanced.

In: dates, shares, folds, scaling, class balance. Out: doing it (`preprocessing`).
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from settings.part import Part, field

_DAYS = ("start_date", "train_end", "validation_end", "end_date")

MAX_FOLDS = 500
"""Most folds: as many models are trained."""

_UNITS = ("days", "bars")

NO_FOLDS: dict[str, Any] = {
    "n_splits": None,
    "cv_train_days": None,
    "cv_test_days": None,
    "cv_train_bars": None,
    "cv_test_bars": None,
    "cv_gap_days": 0.0,
    "keep_folds": False,
    "calibrate_on": "validation",
}
"""Fields of a run that trains its final model alone."""


@dataclass(frozen=True, kw_only=True)
class DataFields(Part):
    """Rows, parts, scaling and class balance.

    Attributes:
        start_date: First day used (UTC, YYYY-MM-DD); None starts with the file.
        end_date: Last day used, with its last bar (UTC, YYYY-MM-DD); None ends with the
            file.
        validation_split: Share of the rows that choose: early stopping, thresholds,
            calibration.
        test_split: Share of the rows, the newest ones, that are read once, for the
            report.
        stage_share: Share of the training part, its oldest rows, that is learned from;
            what builds on the model learns from the rest.
        train_end: Last day of the training part, by the opens of its bars (UTC,
            YYYY-MM-DD), in place of shares; with `validation_end`.
        validation_end: Last day of the validation part; the test part follows, to
            `end_date` or the end of the file.
        embargo_bars: Bars left out at the end of a part, beyond the windows and labels
            kept apart.
        n_splits: Folds that are trained and evaluated before the final model; None for
            none, or as many as `cv_train_days` and `cv_test_days` make.
        cv: Kind of folds: training from the first row on (`walk_forward`; of
            `cv_train_days`, where they are given), of a fixed length (`rolling`), from
            the first row on in any case (`expanding`), equal test blocks, disjoint
            blocks, or every choice of `cv_test_blocks` among `n_splits` blocks, with
            training on both sides.
        cv_test_blocks: Blocks that each fold of `combinatorial` tests.
        cv_train_days: Walk-forward: calendar days that each fold trains and chooses
            on (`expanding`: the first one), its windows before and labels behind them;
            the newest are its validation. None leaves the length to `cv`.
        cv_test_days: Walk-forward: calendar days that each fold is judged on, the last
            of them next to the run's test part; as many folds as there is room for.
        cv_train_bars: The same as `cv_train_days`, in bars.
        cv_test_bars: The same as `cv_test_days`, in bars.
        cv_gap_days: Walk-forward: days left out before each fold's test, beyond the
            windows and labels kept apart.
        keep_folds: Keeps model, scaler and calibrator of every fold in the artifact.
        scaler_type: Feature scaling, fitted on the training rows.
        clip_limit: Scaled features are clipped to plus and minus this many scale units.
        class_balancing_method: How training answers unequal classes; outputs stay at
            the natural mix. A loss that reads no classes balances none; one
            that needs consecutive bars is never thinned.
        undersampling_min_samples: No class is thinned below this many training targets.
        manual_class_weights: Weights of SHORT, HOLD, LONG for `class_weights`; None
            balances them.
        sample_weights: How much a training target counts: all alike, less where its
            label shares bars with others' (`uniqueness`), or less the older it is
            (`recency`); outputs stay at the natural mix.
        sample_half_life_days: Of `recency`: days by which a target counts half as much.
    """

    start_date: str | None = None
    end_date: str | None = None
    validation_split: float = field(0.2, gt=0, lt=1)
    test_split: float = field(0.1, gt=0, lt=1)
    stage_share: float = field(1.0, gt=0, le=1)
    train_end: str | None = None
    validation_end: str | None = None
    embargo_bars: int = field(0, ge=0, aliases=("--embargo",))
    n_splits: int | None = field(None, ge=2, le=100)
    cv: str = field(
        "walk_forward",
        choices=(
            "walk_forward",
            "rolling",
            "expanding",
            "purged",
            "blocking",
            "combinatorial",
        ),
    )
    cv_test_blocks: int = field(2, ge=1)
    cv_train_days: float | None = field(None, gt=0)
    cv_test_days: float | None = field(None, gt=0)
    cv_train_bars: int | None = field(None, ge=1)
    cv_test_bars: int | None = field(None, ge=1)
    cv_gap_days: float = field(0.0, ge=0)
    keep_folds: bool = False
    scaler_type: str = field("robust", choices=("robust", "standard", "minmax", "none"))
    clip_limit: float = field(10.0, gt=0)
    class_balancing_method: str = field(
        "systematic_undersampling",
        choices=("systematic_undersampling", "class_weights", "none"),
    )
    undersampling_min_samples: int = field(50_000, ge=1)
    manual_class_weights: tuple[float, ...] | None = field(None, gt=0)
    sample_weights: str = field("uniform", choices=("uniform", "uniqueness", "recency"))
    sample_half_life_days: float | None = field(None, gt=0)

    def problems(self) -> list[str]:
        """Returns what is wrong with dates, shares of the rows and class weights."""
        problems = self._part_problems()
        if self.manual_class_weights and len(self.manual_class_weights) != 3:
            problems.append(
                "manual_class_weights: expected three numbers (SHORT, HOLD, LONG). "
                f"Received: {self.manual_class_weights}"
            )
        if self.manual_class_weights and self.class_balancing_method != "class_weights":
            problems.append(
                "manual_class_weights: expected class_balancing_method 'class_weights' "
                f"with them. Received: {self.class_balancing_method!r}"
            )
        if (self.sample_half_life_days is None) == (self.sample_weights == "recency"):
            problems.append(
                "sample_weights, sample_half_life_days: expected days with 'recency', "
                f"and none without. Received: {self.sample_weights!r} and "
                f"{self.sample_half_life_days}"
            )
        return problems + self._fold_problems() + self._date_problems()

    def weight_problems(
        self, reason: str, received: str, *, can_weigh: bool
    ) -> list[str]:
        """Returns which weights a loss that reads no classes alone has no use for.

        Args:
            reason: What such a loss is like.
            received: Whose it is.
            can_weigh: Whether it has a value for each sample.
        """
        problems = []
        if self.class_balancing_method == "class_weights":
            problems.append(
                f"class_balancing_method: expected 'none' with {reason}. "
                f"Received: 'class_weights' with {received}"
            )
        if self.sample_weights != "uniform" and not can_weigh:
            problems.append(
                "sample_weights: expected 'uniform' with a loss of whole batches. "
                f"Received: {self.sample_weights!r} with {received}"
            )
        return problems

    @property
    def has_folds(self) -> bool:
        """Whether folds are trained before the final model."""
        return self.n_splits is not None or self._walks_in_lengths

    @property
    def _walks_in_lengths(self) -> bool:
        lengths = (self.cv_train_days, self.cv_train_bars)
        return any(lengths) or any((self.cv_test_days, self.cv_test_bars))

    def _part_problems(self) -> list[str]:
        if self.stage_share < 1 and self.has_folds:
            return [
                "stage_share: expected 1 with folds, which lie in all rows before the "
                f"test. Received: {self.stage_share:g}"
            ]
        shares = (self.validation_split, self.test_split)
        ends = (self.train_end, self.validation_end)
        if sum(shares) >= 1:
            return [
                "validation_split, test_split: expected a sum below 1, so that "
                f"training rows remain. Received: {shares[0]} + {shares[1]}"
            ]
        if (ends[0] is None) != (ends[1] is None):
            return [
                "train_end, validation_end: expected both or neither. "
                f"Received: {ends[0]} and {ends[1]}"
            ]
        usual = (DataFields.validation_split, DataFields.test_split)
        if ends[0] is not None and shares != usual:
            return [
                f"validation_split, test_split: expected {usual[0]} and {usual[1]}, "
                "their defaults, beside train_end and validation_end, which say where "
                f"parts end. Received: {shares[0]} and {shares[1]}"
            ]
        return []

    def _fold_problems(self) -> list[str]:
        if self._walks_in_lengths:
            return self._length_problems()
        problems = []
        if self.cv_gap_days:
            problems.append(
                "cv_gap_days: expected cv_train_days and cv_test_days with it. "
                f"Received: {self.cv_gap_days} alone"
            )
        if self.keep_folds and self.n_splits is None:
            problems.append("keep_folds: expected folds with it. Received: no n_splits")
        if self.cv == "combinatorial" and self.n_splits is not None:
            problems += self._block_problems()
        return problems

    def _length_problems(self) -> list[str]:
        """Returns what contradicts folds whose lengths are given."""
        problems = []
        for part in ("train", "test"):
            days, bars = (getattr(self, f"cv_{part}_{unit}") for unit in _UNITS)
            if (days is None) == (bars is None):
                problems.append(
                    f"cv_{part}_days, cv_{part}_bars: expected one of them, in a "
                    f"walk-forward of given lengths. Received: {days} and {bars}"
                )
        if self.n_splits is not None:
            problems.append(
                "n_splits: expected none with cv_train_days and cv_test_days, from "
                f"which the number of folds follows. Received: {self.n_splits}"
            )
        if self.cv not in ("walk_forward", "rolling", "expanding"):
            problems.append(
                "cv: expected 'walk_forward', 'rolling' or 'expanding' with "
                f"cv_train_days and cv_test_days. Received: {self.cv!r}"
            )
        return problems

    def _block_problems(self) -> list[str]:
        blocks, tested = self.n_splits or 0, self.cv_test_blocks
        if tested >= blocks:
            return [
                "cv_test_blocks: expected fewer than n_splits, so that some blocks "
                f"remain to train on. Received: {tested} of {blocks}"
            ]
        if math.comb(blocks, tested) > MAX_FOLDS:
            return [
                f"n_splits, cv_test_blocks: expected at most {MAX_FOLDS} folds. "
                f"Received: {math.comb(blocks, tested)}, {tested} of {blocks} blocks"
            ]
        return []

    def _date_problems(self) -> list[str]:
        problems, days = [], {}
        for name in _DAYS:
            text = getattr(self, name)
            if text is None:
                continue
            try:
                days[name] = date.fromisoformat(text)
                if len(text) != 10 or not 1970 <= days[name].year < 2200:
                    raise ValueError
            except ValueError:
                problems.append(
                    f"{name}: expected YYYY-MM-DD, 1970 to 2199. Received: {text!r}"
                )
        for name, later in itertools.pairwise(days):
            # A first day may be the last as well; a later part needs a day of its own.
            rule, sign, least = "before", ">=", timedelta(days=1)
            if name == "start_date":
                rule, sign, least = "not after", ">", timedelta(0)
            if days[later] - days[name] < least:
                problems.append(
                    f"{name}: expected {rule} {later}. "
                    f"Received: {days[name]} {sign} {days[later]}"
                )
        return problems


def day_after(day: str) -> date:
    """Returns the day after one of the fields' days, where it ends in UTC."""
    return date.fromisoformat(day) + timedelta(days=1)
