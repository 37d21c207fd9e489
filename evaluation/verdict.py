"""Results -> claims, five lines and warnings, by stated rules and nothing else.

In: what may be said about a run. Out: the numbers it rests on (`part_scores`), what is
said of classes or of numbers alone (`task`), showing it (`reports.report`).

The rules (`Task.claimed` has the intervals), all on the test part, at 95 %:

- skill: the lower ends of the log-loss skill against the train prior *and* against the
  label mix of the trailing seven days lie above 0. Both need no model; the second
  follows a market that drifts.
- activity (HOLD or not): the same two lower ends of the activity skill.
- direction (LONG or SHORT): the pre-declared p-value of the shuffle test is below 0.05
  *and* the lower end of the direction skill against the train prior lies above 0.
- edge: the lower end of the mean net return a trade lies above 0 *and* the Sharpe ratio
  is above 0 with a probability of more than 0.95, deflated by the number of runs that
  looked at this test part (`trials`).

The pairs of thresholds tried deflate validation alone, where they were tried. What a
test could show at all is said beside: the true annual Sharpe ratio that the edge rule
claims in 8 of 10 tests as long and as often looked at
(`significance.minimum_detectable_sharpe`).

For a return or a price there is no activity, and

- skill: the lower ends of the squared-error skill against persistence, against the mean
  of the training part *and* against that of the trailing seven days lie above 0.
- direction: the p-value of the shuffle test of the signs is below 0.05 *and* the lower
  end of the share of right signs beyond that of independent signs lies above 0.

What has no interval (a test too short for one) is not claimed. Validation chose the
calibration and the thresholds, so nothing is claimed from it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from evaluation.results import (
    Interval,
    PartResults,
    Results,
    Trading,
    Trials,
)
from evaluation.thresholds import Search
from metrics.intervals import MIN_DAYS, MIN_HORIZONS, WARN_DAYS, Length
from metrics.wording import interval
from utils import counted

if TYPE_CHECKING:
    from evaluation.task import Task

Claims = Mapping[str, bool | None]
"""Claim -> whether it is shown; None: not claimed, whatever the numbers say."""

MAX_P_VALUE = 0.05
MIN_DEFLATED_SHARPE = 0.95
YES = {True: "yes", False: "no", None: "not claimed"}

HONEST_REACH = {
    "direction skill": 0.06,
    "share of right signs": 0.60,
    "Sharpe ratio without costs": 22.0,
    "Sharpe ratio": 5.0,
}
"""Beyond what honest models reach on real candles, by `benchmarks/honest_reach.py`.

Boosting, LightGBM and logistic regression on BTC and ETH from one minute to a day:
direction skill at most 0.052 (Bitfinex, 30 minutes ahead), right signs 0.577 (days), an
annual Sharpe ratio of 21.6 in twelve days without costs, 1.3 at 15 basis points a side
(no trade at all on minutes). Two of eight stretches of Bitfinex, without costs only.
XGBoost and CatBoost on BTC days and hours, ETH hours and 5 minutes: 0.003, 0.569, 2.0.
"""

_COSTS_BPS = 5.0  # a side; below, trades count as without costs


def add_verdict(
    results: Any, task: Task[Any, Any], *, notes: Sequence[str] = ()
) -> Results[Any]:
    """Returns the results with `verdict`, `claims` and `warnings` in front.

    Args:
        results: Without them, ready for JSON.
        task: What the model was asked for.
        notes: Warnings that do not follow from the results.
    """
    warnings = [
        *_too_good(results.get("test", {})),
        *notes,
        *task.warnings(results),
        *_flat_thresholds(results["thresholds"]),
    ]
    warnings += unknown_looks(results["trials"])
    found: Any = {"verdict": [], "claims": {}, "warnings": warnings}
    if "test" in results:
        claims = claims_of(results["test"], task)
        skill, unanswerable = "", task.unanswerable(results)
        if unanswerable:
            # The prior gives such a class nothing: to beat that is no skill.
            claims |= dict.fromkeys(task.claimed, False)
            skill = f"Skill: cannot be said, {unanswerable}"
        lines = _lines(results, claims, task, skill=skill)
        found |= {"verdict": lines, "claims": claims}
    return found | results


def _lines(
    results: Any, claims: Claims, task: Task[Any, Any], *, skill: str = ""
) -> list[str]:
    """Returns the lines of the verdict, with another first one where it is given."""
    test = results["test"]
    return [
        skill or _skill_line(test, claims, task),
        task.source_line(test, claims),
        _costs_line(test, results["thresholds"], claims),
        *_test_lines(test, results["trials"]),
    ]


def _too_good(test: Mapping[str, Any]) -> list[str]:
    """Returns a warning where a figure is beyond what honest models reach."""
    trades = test.get("trading", {})
    has_costs = trades.get("cost_bps", 0.0) >= _COSTS_BPS
    figures = {
        "direction skill": test.get("direction_skill_vs_train_prior"),
        "share of right signs": test.get("sign_accuracy"),
        f"Sharpe ratio{'' if has_costs else ' without costs'}": trades.get("sharpe"),
    }
    return too_good(figures)


def too_good(figures: Mapping[str, float | None]) -> list[str]:
    """Returns a warning where a figure is beyond `HONEST_REACH`."""
    found = [
        f"{name} {value:.2f}, honest ones reach {HONEST_REACH[name]:g}"
        for name, value in figures.items()
        if value is not None and value > HONEST_REACH[name]
    ]
    if not found:
        return []
    return [f"better than anything honest seen here: run --audit ({'; '.join(found)})"]


def heed_audit(results: Any, task: Task[Any, Any]) -> None:
    """Withdraws claims on data that leak, and puts what was found in front.

    Args:
        results: From `add_verdict`, with `audit`; changed in place.
        task: What the model was asked for.
    """
    notes, line = of_audit(results["audit"])
    results["warnings"] = notes + results["warnings"]
    if line and results["claims"]:
        withdraw_claims(results, task, line)


def of_audit(audit: Mapping[str, Any]) -> tuple[list[str], str]:
    """Returns warnings of what was found, and why nothing is claimed, or nothing."""
    found = {
        outcome: [item for item in audit["findings"] if item["outcome"] == outcome]
        for outcome in ("leak", "doubtful")
    }
    notes = [
        f"{outcome}: {item['check']}: {item['words']}"
        for outcome, items in found.items()
        for item in items
    ]
    names = ", ".join(item["check"] for item in found["leak"])
    return notes, names and f"Leak: nothing is claimed, the data leak ({names})"


def withdraw_claims(results: Any, task: Task[Any, Any], line: str) -> None:
    """Claims nothing of results, which are changed in place; `line` says why, first."""
    results["claims"] = dict.fromkeys(results["claims"], False)
    lines = _lines(results, dict.fromkeys(results["claims"]), task)
    results["verdict"] = [line, *lines]


def claims_of(part: Mapping[str, Any], task: Task[Any, Any]) -> dict[str, bool]:
    """Returns what one part's results show: each of `task.claimed`, and an edge."""
    claims = {
        claim: all(is_above(part["intervals"][key]) for key in keys)
        for claim, keys in task.claimed.items()
    }
    p_value = part[task.p_value]
    claims["direction"] &= p_value is not None and p_value < MAX_P_VALUE
    return claims | {"edge": has_edge(part["trading"])}


def has_edge(trades: Trading) -> bool:
    """Returns whether what the trades of a test part came to shows an edge."""
    deflated = trades.get("deflated_sharpe")
    return (
        "skipped" not in trades
        and deflated is not None
        and deflated > MIN_DEFLATED_SHARPE
        and is_above(trades["intervals"]["mean_net_return_bps"])
    )


def _skill_line(test: PartResults, claims: Claims, task: Task[Any, Any]) -> str:
    best = test["comparisons"]["best_baseline"]
    skills = {
        key.partition("_vs_")[2]: test["intervals"][key]
        for key in task.claimed["skill"]
    }
    first, *others = skills
    beside = f"{short(skills[first])} vs {task.baseline_names[first]}"
    if claims["skill"] is False and is_above(skills[first]):
        name = next(name for name in others if not is_above(skills[name]))
        words = f"the {task.baseline_names[name]}, {short(skills[name])}"
        return f"Skill: not beyond {words}; {beside}"
    answer = (YES | {False: "none shown"})[claims["skill"]]
    if best["baseline"] == first:
        return f"Skill: {answer}. {beside}, the best baseline"
    name = task.baseline_names[best["baseline"]]
    return f"Skill: {answer}. {beside}, {short(best['skill'])} vs {name}"


def _costs_line(test: PartResults, search: Search, claims: Claims) -> str:
    trades = test["trading"]
    if "skipped" in trades:
        return f"After costs: not judged, {trades['skipped']}"
    if not trades["num_trades"]:
        reason = search["statement"]
        if not reason.startswith("no trade"):
            reason = "no trade: the thresholds of validation were never reached"
        return f"After costs: {reason}"
    answer = (YES | {True: "survives", False: "no edge shown"})[claims["edge"]]
    found = interval(trades["intervals"]["mean_net_return_bps"], "{:+.1f}")
    deflated = trades["deflated_sharpe"]
    shown = "n/a" if deflated is None else f"{deflated:.2f}"
    return (
        f"After costs: {answer}. {trades['num_trades']:,} trades, {found} bps net each,"
        f" P(Sharpe > 0) {shown}"
    )


def _test_lines(test: PartResults, trials: Trials) -> list[str]:
    length, trades = Length(**test["length"]), test["trading"]
    if "skipped" in trades:
        return test_lines(length, trials)[:1]
    return test_lines(length, trials, trades["minimum_detectable_sharpe"])


def test_lines(
    length: Length,
    trials: Trials,
    least: float | None = None,
    *,
    counted_as: str = "label horizons",
) -> list[str]:
    """Returns how long the test is, how often looked at, and what it could show.

    `least` is the smallest annual Sharpe ratio that it could show, `counted_as` what a
    horizon is called.
    """
    if length.is_too_short:
        return [f"Test: {_words(length, counted_as)}: too short, {_NEEDED}"]
    pieces = f"{length.cosines[0] + 1} to {length.cosines[-1] + 1} independent pieces"
    could = "no edge" if least is None else f"an edge from Sharpe {least:.1f}"
    others = trials["num_trials"] - 1
    seen = counted(others, "other run", "other runs") if others else "no other run"
    return [
        f"Test: {_words(length, counted_as)}, counts as about {pieces}",
        f"Power: this test could show {could}; seen by {seen}",
    ]


def of_length(
    found: Mapping[str, float], *, counted_as: str = "label horizons"
) -> list[str]:
    """Returns a warning where test is too short for intervals, or nearly so."""
    length = Length(**found)
    words = _words(length, counted_as)
    if length.is_too_short:
        return [f"test is {words}: no interval and no claim, {_NEEDED}"]
    if length.days < WARN_DAYS:
        return [
            f"test is {words}: its intervals are wide, and where volatility "
            f"lasts for days too narrow; {WARN_DAYS:.0f} days are better"
        ]
    return []


_NEEDED = f"expected at least {MIN_DAYS:.0f} days and {MIN_HORIZONS:.0f} horizons"


def _words(length: Length, counted_as: str) -> str:
    return f"{length.days:.1f} days, {length.horizons:,.0f} {counted_as}"


def _flat_thresholds(search: Search) -> list[str]:
    return [f"thresholds: {search['statement']}"] if search.get("is_flat") else []


def unknown_looks(trials: Trials) -> list[str]:
    """Returns a warning where runs that may have looked cannot be read."""
    count = trials["num_unreadable"]
    if not count:
        return []
    runs = counted(count, "earlier run", "earlier runs")
    return [f"{runs} cannot be read: how often test was looked at is not known"]


def short(found: Interval) -> str:
    """Returns an estimate with its interval, two digits of each."""
    return interval(found, "{:+.2f}")


def is_above(found: Mapping[str, Any]) -> bool:
    """Whether an interval, if there is one, lies above 0."""
    return found["low"] is not None and found["low"] > 0
