"""Which rows are used, in which parts, how they are scaled and balanced.

In: dates, shares, folds, scaling, class balance. Out: doing it (`preprocessing`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date

from settings.part import Part, field

MAX_FOLDS = 500
"""Most folds of `combinatorial`: as many models are trained."""


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
        embargo_bars: Bars left out at the end of a part, beyond the windows and labels
            kept apart.
        n_splits: Folds that are trained and evaluated before the final model; None for
            none.
        cv: Kind of folds: training from the first row on, training of a fixed length,
            equal test blocks, disjoint blocks, or every choice of `cv_test_blocks`
            among `n_splits` blocks, with training on both sides.
        cv_test_blocks: Blocks that each fold of `combinatorial` tests.
        scaler_type: Feature scaling, fitted on the training rows.
        clip_limit: Scaled features are clipped to plus and minus this many scale units.
        class_balancing_method: How training answers unequal classes; outputs stay at
            the natural mix. A loss that reads no classes balances none; one
            that needs consecutive bars is never thinned.
        undersampling_min_samples: No class is thinned below this many training targets.
        manual_class_weights: Weights of SHORT, HOLD, LONG for `class_weights`; None
            balances them.
    """

    start_date: str | None = None
    end_date: str | None = None
    validation_split: float = field(0.2, gt=0, lt=1)
    test_split: float = field(0.1, gt=0, lt=1)
    embargo_bars: int = field(0, ge=0)
    n_splits: int | None = field(None, ge=1, le=100)
    cv: str = field(
        "walk_forward",
        choices=("walk_forward", "rolling", "purged", "blocking", "combinatorial"),
    )
    cv_test_blocks: int = field(2, ge=1)
    scaler_type: str = field("robust", choices=("robust", "standard", "minmax", "none"))
    clip_limit: float = field(10.0, gt=0)
    class_balancing_method: str = field(
        "systematic_undersampling",
        choices=("systematic_undersampling", "class_weights", "none"),
    )
    undersampling_min_samples: int = field(50_000, ge=1)
    manual_class_weights: tuple[float, ...] | None = field(None, gt=0)

    def problems(self) -> list[str]:
        """Returns what is wrong with dates, shares of the rows and class weights."""
        problems = []
        if self.validation_split + self.test_split >= 1:
            problems.append(
                "validation_split, test_split: expected a sum below 1, so that "
                "training rows remain. "
                f"Received: {self.validation_split} + {self.test_split}"
            )
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
        return problems + self._fold_problems() + self._date_problems()

    def _fold_problems(self) -> list[str]:
        if self.cv != "combinatorial" or self.n_splits is None:
            return []
        blocks, tested = self.n_splits, self.cv_test_blocks
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
        for name in ("start_date", "end_date"):
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
        if len(days) == 2 and days["start_date"] > days["end_date"]:
            problems.append(
                "start_date: expected not after end_date. "
                f"Received: {self.start_date} > {self.end_date}"
            )
        return problems
