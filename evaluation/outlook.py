"""What to expect on a next stretch as long as the test part.

In: ranges for numbers that were seen once, whether a later stretch kept them. Out:
intervals of what was seen (`metrics.intervals`), claims (`verdict`), showing both
(`reports`).

An interval is about the stretch that was tested. A next one has luck of its own, of
about the same size: the difference of two such means has sqrt(2) times the error of
one. And markets drift: where validation and test, or the folds, lie further apart than
that, the range is theirs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from evaluation.results import Expected, Interval, Promised
from evaluation.task import Task

_SHARE = 0.875
NET = "mean_net_return_bps"


def outlook(results: Mapping[str, Any], task: Task[Any, Any]) -> dict[str, Expected]:
    """Returns what a next stretch may show of each claim, and of the net of a trade.

    Args:
        results: From `evaluate`, with `cross_validation` where there are folds.
        task: How they are judged.
    """
    if "test" not in results:
        return {}
    test, folds = results["test"], results.get("cross_validation", {})
    spread, found = folds.get("metrics", {}), {}
    for claim, (key, *_) in task.claimed.items():
        found[claim] = expected_range(
            test["intervals"][key],
            before=results.get("validation", test)["intervals"][key]["estimate"],
            folds=spread.get(key, {}).get("folds", ()),
        )
    if "skipped" not in test["trading"]:
        # Validation chose the thresholds: that its trades earned more is no drift.
        found["net"] = expected_range(
            test["trading"]["intervals"][NET],
            folds=spread.get(f"trading_{NET}", {}).get("folds", ()),
        )
    return found


def held(
    promised: Mapping[str, Expected],
    results: Mapping[str, Any],
    task: Task[Any, Any],
    *,
    has_own_costs: bool = True,
) -> dict[str, Promised]:
    """Returns what a later stretch shows of each range that a report promised.

    Args:
        promised: From `outlook`.
        results: Of the later stretch, its `test`.
        task: How both are judged.
        has_own_costs: Whether trades are charged what the report charged; else what is
            left of them cannot be held against its range.
    """
    test = results["test"]
    shown = {claim: test["intervals"][key] for claim, (key, *_) in task.claimed.items()}
    if has_own_costs and "skipped" not in test["trading"]:
        shown["net"] = test["trading"]["intervals"][NET]
    return kept(promised, shown)


def kept(
    promised: Mapping[str, Expected], shown: Mapping[str, Interval]
) -> dict[str, Promised]:
    """Returns what became of each range, given what a later stretch shows by name."""
    found = dict[str, Promised]()
    for claim, expected in promised.items():
        value = shown[claim]["estimate"] if claim in shown else None
        low, high, outcome = expected["low"], expected["high"], None
        if value is not None and low is not None and high is not None:
            outcome = "below" if value < low else "above" if value > high else "within"
        found[claim] = Promised(**expected, found=value, outcome=outcome)
    return found


def is_confirmed(promised: Mapping[str, Promised]) -> bool:
    """Whether there are ranges, and each holds; better than promised is no failure."""
    ranges = [each for each in promised.values() if each["low"] is not None]
    return bool(ranges) and all(x["outcome"] in ("within", "above") for x in ranges)


def expected_range(
    found: Interval | Mapping[str, Any],
    *,
    before: float | None = None,
    folds: Sequence[float | None] = (),
) -> Expected:
    """Returns the range that holds 85 to 90 of 100 next stretches of the same length.

    The widest of sqrt(2) times the half interval; the distance from the stretch before;
    and the spread of folds, as far as a further one may lie from their mean.
    Source of the last: Hahn (1969), "Factors for calculating two-sided prediction
    intervals for samples from a normal distribution".

    Args:
        found: The interval of the stretch that was seen.
        before: The same number on the stretch before it.
        folds: The same number in each fold; None where it is not known.
    """
    estimate, high = found["estimate"], found["high"]
    result = Expected(estimate=estimate, low=None, high=None, widened_by=None)
    if estimate is None or high is None:
        return result
    halves = {"": math.sqrt(2.0) * (high - estimate)}
    if before is not None:
        halves["drift"] = abs(before - estimate)
    known = [value for value in folds if value is not None]
    if len(known) > 2:
        from scipy.stats import t

        quantile = float(t.ppf(0.5 + _SHARE / 2, len(known) - 1))
        halves["folds"] = (
            quantile * float(np.std(known, ddof=1)) * math.sqrt(1 + 1 / len(known))
        )
    widest = max(halves, key=lambda name: halves[name])
    return Expected(
        estimate=estimate,
        low=estimate - halves[widest],
        high=estimate + halves[widest],
        widened_by=widest or None,
    )
