"""Results -> claims, three lines and warnings, by stated rules and nothing else.

In: what may be said about a run. Out: the numbers it rests on (`evaluation`), showing
them (`report`).

The rules, all on the test part, with the intervals at 95 %:

- skill: the lower ends of the log-loss skill against the train prior *and* against the
  label mix of the trailing seven days lie above 0. Both need no model; the second
  follows a market that drifts.
- activity (HOLD or not): the same two lower ends of the activity skill.
- direction (LONG or SHORT): the pre-declared p-value of the shuffle test is below 0.05
  *and* the lower end of the direction skill against the train prior lies above 0.
- edge: the lower end of the mean net return a trade lies above 0 *and* the deflated
  Sharpe ratio gives more than 0.95.

The Sharpe ratio is deflated by the pairs of thresholds tried, although on validation
only: a test part that is read for run after run is searched too. So a few weeks hardly
ever show an edge.

What has no interval (too few independent blocks) is not claimed. Validation chose the
calibration and the thresholds, so nothing is claimed from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MAX_P_VALUE = 0.05
MIN_DEFLATED_SHARPE = 0.95
MOST_OF_PREDICTIONS, FEWEST_OF_PREDICTIONS = 0.9, 0.01
_DRIFT = 0.1
_PARTS = ("validation", "test")

BASELINE_NAMES = {
    "train_prior": "train prior",
    "trailing_7d": "trailing 7-day mix",
    "last_known_label": "last known label",
    "always_hold": "always HOLD",
    "stratified_random": "stratified random",
    "gradient_boosting": "gradient boosting",
    "buy_and_hold": "buy and hold",
}


def add_verdict(results: dict[str, Any]) -> dict[str, Any]:
    """Returns the results with `verdict`, `claims` and `warnings` in front."""
    found = {"verdict": [], "claims": {}, "warnings": warnings_of(results)}
    if "test" in results:
        claims = claims_of(results["test"])
        lines = verdict_lines(results, claims)
        found |= {"verdict": lines, "claims": claims}
    return found | results


def claims_of(result: Mapping[str, Any]) -> dict[str, bool]:
    """Returns which of skill, activity, direction and edge one part's results show."""
    intervals, trades = result["intervals"], result["trading"]
    p_value = result["direction_p_value"]
    deflated = trades.get("deflated_sharpe")
    references = ("train_prior", "trailing_7d")
    return {
        "skill": all(_is_above(intervals[f"skill_vs_{name}"]) for name in references),
        "activity": all(
            _is_above(intervals[f"activity_skill_vs_{name}"]) for name in references
        ),
        "direction": p_value is not None
        and p_value < MAX_P_VALUE
        and _is_above(intervals["direction_skill_vs_train_prior"]),
        "edge": "skipped" not in trades
        and deflated is not None
        and deflated > MIN_DEFLATED_SHARPE
        and _is_above(trades["intervals"]["mean_net_return_bps"]),
    }


def verdict_lines(results: Mapping[str, Any], claims: Mapping[str, bool]) -> list[str]:
    """Returns the answers: is there skill, in what, does it survive costs."""
    test = results["test"]
    return [
        _skill_line(test, claims),
        _source_line(test, claims),
        _costs_line(test, results["thresholds"], claims),
    ]


def _skill_line(test: Mapping[str, Any], claims: Mapping[str, bool]) -> str:
    intervals, best = test["intervals"], test["comparisons"]["best_baseline"]
    prior = f"{_short(intervals['skill_vs_train_prior'])} vs train prior"
    if not claims["skill"] and _is_above(intervals["skill_vs_train_prior"]):
        mix = _short(intervals["skill_vs_trailing_7d"])
        return f"Skill: not beyond the trailing 7-day mix, {mix}; {prior}"
    answer = "yes" if claims["skill"] else "none shown"
    name = BASELINE_NAMES[best["baseline"]]
    if best["baseline"] == "train_prior":
        return f"Skill: {answer}. {prior}, the best baseline"
    return f"Skill: {answer}. {prior}, {_short(best['skill'])} vs {name}"


def _source_line(test: Mapping[str, Any], claims: Mapping[str, bool]) -> str:
    intervals = test["intervals"]
    activity, against = intervals["activity_skill_vs_train_prior"], ""
    if not claims["activity"] and _is_above(activity):
        activity, against = intervals["activity_skill_vs_trailing_7d"], " vs 7d mix"
    answers = [
        f"activity {_yes(claims['activity'])} {_short(activity)}{against}",
        f"direction {_yes(claims['direction'])} "
        f"{interval(intervals['direction_skill_vs_train_prior'])}",
    ]
    p_value = test["direction_p_value"]
    shown = "not tested" if p_value is None else f"p = {p_value:.3f}"
    return f"In what: {'; '.join(answers)} {shown}"


def _costs_line(
    test: Mapping[str, Any], search: Mapping[str, Any], claims: Mapping[str, bool]
) -> str:
    trades = test["trading"]
    if "skipped" in trades:
        return f"After costs: not judged, {trades['skipped']}"
    if not trades["num_trades"]:
        reason = search["statement"]
        if not reason.startswith("no trade"):
            reason = "no trade: the thresholds of validation were never reached"
        return f"After costs: {reason}"
    answer = "survives" if claims["edge"] else "no edge shown"
    found = interval(trades["intervals"]["mean_net_return_bps"], "{:+.1f}")
    deflated = trades["deflated_sharpe"]
    shown = "n/a" if deflated is None else f"{deflated:.2f}"
    return (
        f"After costs: {answer}. {trades['num_trades']:,} trades, {found} bps net each,"
        f" deflated Sharpe {shown}"
    )


def warnings_of(results: Mapping[str, Any]) -> list[str]:
    """Returns what a reader has to know before believing a number."""
    found = []
    for part in _PARTS:
        if part in results:
            found += _collapse(part, results[part])
    if "test" in results:
        test = results["test"]
        prior, shares = results["train_prior"], test["true_share"].items()
        for share, (name, true) in zip(prior, shares, strict=True):
            if abs(true - share) > _DRIFT:
                found.append(
                    f"the class mix drifted: {name} {share:.0%} in training, "
                    f"{true:.0%} in test"
                )
        blocks = test["intervals"]["skill_vs_train_prior"]
        if blocks["low"] is None:
            found.append(
                f"test has {blocks['num_blocks']} independent blocks of "
                f"{blocks['block_rows']} rows: too few for intervals or claims"
            )
    fitted = results["calibration"]
    if fitted["reason"] not in (None, "switched off"):
        found.append(f"not calibrated: {fitted['reason']}")
    if "validation" in results:
        crossed = results["validation"]["calibrated"]
        raw = results["validation"]["log_loss"]
        if crossed["fitted_on"] == "the other half" and crossed["log_loss"] > raw:
            found.append(
                "calibration did not last: fitted on one half of validation, it turned "
                f"the log-loss of the other from {raw:.4f} to {crossed['log_loss']:.4f}"
            )
    if results["thresholds"].get("is_flat"):
        found.append(f"thresholds: {results['thresholds']['statement']}")
    return found


def _collapse(part: str, result: Mapping[str, Any]) -> list[str]:
    """Returns a warning where the most probable class is nearly always the same."""
    most, fewest = MOST_OF_PREDICTIONS, FEWEST_OF_PREDICTIONS
    true, predicted = result["true_share"], result["predicted_share"]
    for name, share in predicted.items():
        if share > most > true[name]:
            return [
                f"{part}: the most probable class is {name} in {share:.1%} of the rows "
                f"(true share {true[name]:.1%})"
            ]
    return [
        f"{part}: {name} is the most probable class in {share:.1%} of the rows "
        f"(true share {true[name]:.1%})"
        for name, share in predicted.items()
        if share < fewest <= true[name]
    ]


def interval(found: Mapping[str, Any], pattern: str = "{:+.3f}") -> str:
    """Returns an estimate with its interval: `+0.120 [+0.101, +0.139]`."""
    if found["estimate"] is None:
        return "n/a"
    estimate = pattern.format(found["estimate"])
    if found["low"] is None:
        return f"{estimate} [no interval]"
    low, high = pattern.format(found["low"]), pattern.format(found["high"])
    return f"{estimate} [{low}, {high}]"


def _yes(claimed: bool) -> str:
    return "yes" if claimed else "no"


def _short(found: Mapping[str, Any]) -> str:
    return interval(found, "{:+.2f}")


def _is_above(found: Mapping[str, Any]) -> bool:
    return found["low"] is not None and found["low"] > 0
