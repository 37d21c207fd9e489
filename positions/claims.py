"""Results of an agent -> claims, lines and warnings, by stated rules and nothing else.

In: what may be said of a position that was learned. Out: the numbers it rests on
(`judging`), what is said of forecasts (`evaluation.verdict`), showing it (`views`).

One claim, on the test part, at 95 %:

- edge: the lower end of the mean net return a bar beyond that of the best constant
  position (none, always long, always short; chosen in this very part, which favours it)
  lies above 0 *and* the Sharpe ratio is above 0 with a probability of more than 0.95,
  deflated by the seeds of the run and by the runs that looked at this test part.

Validation chose the seed and the checkpoint, so nothing is claimed from it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evaluation import verdict
from evaluation.verdict import MIN_DEFLATED_SHARPE, YES, Claims
from metrics.intervals import Length
from metrics.wording import interval, p_value

NAMES = {
    "flat": "no position",
    "always_long": "always long",
    "always_short": "always short",
    "buy_and_hold": "buy and hold",
    "parent": "the parent's own thresholds",
}
"""Baseline -> its name in words."""

_MOST_ALIKE_PCT = 99.0
_BEST = "best_baseline"


def claims_of(test: dict[str, Any]) -> dict[str, bool]:
    """Returns what the results of a test part show."""
    against, deflated = test["comparisons"][_BEST], test["deflated_sharpe"]
    is_sure = deflated is not None and deflated > MIN_DEFLATED_SHARPE
    return {"edge": is_sure and verdict.is_above(against["net_difference"])}


def add_verdict(results: dict[str, Any], *, notes: Sequence[str] = ()) -> None:
    """Adds `verdict`, `claims` and `warnings`, in place.

    Args:
        results: Keys of `results.AgentResults`, ready for JSON.
        notes: Warnings that do not follow from the results.
    """
    results |= {"verdict": [], "claims": {}}
    results["warnings"] = [*notes, *verdict.unknown_looks(results["trials"])]
    if "test" not in results:
        return
    test = results["test"]
    honest = "Sharpe ratio" if test["cost_bps"] else "Sharpe ratio without costs"
    results["warnings"] = [
        *verdict.too_good({honest: test["sharpe"]}),
        *_alike(test),
        *verdict.of_length(test["length"], counted_as="bars"),
        *results["warnings"],
    ]
    results["claims"] = claims_of(test)
    results["verdict"] = _lines(results, results["claims"])


def withdraw(results: dict[str, Any], line: str) -> None:
    """Claims nothing of results, which are changed in place; `line` says why, first."""
    results["claims"] = dict.fromkeys(results["claims"], False)
    lines = _lines(results, dict.fromkeys(results["claims"]))
    results["verdict"] = [line, *lines]


def heed_audit(results: dict[str, Any]) -> None:
    """Withdraws claims on data that leak; see `evaluation.verdict.heed_audit`."""
    notes, line = verdict.of_audit(results["audit"])
    results["warnings"] = notes + results["warnings"]
    if line and results["claims"]:
        withdraw(results, line)


def _alike(test: dict[str, Any]) -> list[str]:
    shares = {"SHORT": "short_pct", "FLAT": "flat_pct", "LONG": "long_pct"}
    return [
        f"{name} in {test[key]:.1f}% of the bars: a constant position"
        for name, key in shares.items()
        if test[key] > _MOST_ALIKE_PCT
    ]


def _lines(results: dict[str, Any], claims: Claims) -> list[str]:
    test, trials = results["test"], results["trials"]
    least = test["minimum_detectable_sharpe"]
    return [
        _earned_line(test),
        _against_line(test),
        _costs_line(test, claims),
        *verdict.test_lines(Length(**test["length"]), trials, least, counted_as="bars"),
    ]


def _earned_line(test: dict[str, Any]) -> str:
    if not test["num_changes"]:
        return "Earned: nothing, it holds no position"
    net = interval(test["intervals"]["net_bps"], "{:+.2f}")
    return (
        f"Earned: {net} bps net a bar, {test['total_return_pct']:+.1f}% in "
        f"{test['length']['days']:.0f} days; long {test['long_pct']:.0f}%, short "
        f"{test['short_pct']:.0f}%, flat {test['flat_pct']:.0f}% of the bars"
    )


def _against_line(test: dict[str, Any]) -> str:
    best = test["comparisons"][_BEST]
    name, found = NAMES[best["baseline"]], best["net_difference"]
    if found["estimate"] == 0.0 and found["p_value"] is None:
        return f"Against: the same as {name}, the best constant position"
    return (
        f"Against: {told(found)} {name}, the best constant position, "
        f"{interval(found, '{:+.2f}')} bps a bar, {p_value(found['p_value'])}"
    )


def told(found: Mapping[str, Any]) -> str:
    """Returns whether one account earned more than another, by their difference."""
    low, high = found["low"], found["high"]
    if low is None:
        return "too short to tell it from"
    if low > 0 or high < 0:
        return "better than" if low > 0 else "worse than"
    return "not told apart from"


def _costs_line(test: dict[str, Any], claims: Claims) -> str:
    if not test["num_changes"]:
        return "After costs: no position, none was sure enough on validation"
    answer = (YES | {True: "survives", False: "no edge shown"})[claims["edge"]]
    deflated = test["deflated_sharpe"]
    shown = "n/a" if deflated is None else f"{deflated:.2f}"
    return (
        f"After costs: {answer}. P(Sharpe > 0) {shown}, deflated by "
        f"{test['num_variants_tried']:,} variants; costs {test['cost_bps']:.2f} of "
        f"{test['gross_bps']:+.2f} bps gross a bar"
    )
