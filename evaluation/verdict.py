"""Results -> claims, three lines and warnings, by stated rules and nothing else.

In: what may be said about a run. Out: the numbers it rests on (`classes`), showing
them (`reports.report`).

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

For a return or a price there is no activity, and

- skill: the lower ends of the squared-error skill against persistence, against the mean
  of the training part *and* against that of the trailing seven days lie above 0.
- direction: the p-value of the shuffle test of the signs is below 0.05 *and* the lower
  end of the share of right signs beyond that of independent signs lies above 0.

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
_SPREAD_DRIFT = 1.5
_LEAST_SPREAD = 0.01
_LEAST_HARM = 0.001
"""Share of a log-loss that calibration may add before it is worth a word."""

_PARTS = ("validation", "test")

BASELINE_NAMES = {
    "persistence": "persistence",
    "train_mean": "train mean",
    "last_known_return": "last known return",
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
        if unseen_classes(results, "test"):
            # The prior gives such a class nothing: to beat that is no skill.
            claims |= dict.fromkeys(("skill", "activity", "direction"), False)
        lines = verdict_lines(results, claims)
        found |= {"verdict": lines, "claims": claims}
    return found | results


def unseen_classes(results: Mapping[str, Any], part: str) -> list[str]:
    """Returns the classes that occur in a part and never in training."""
    if is_regression(results[part]):
        return []
    shares = results[part]["true_share"].items()
    return [
        name
        for prior, (name, share) in zip(results["train_prior"], shares, strict=True)
        if prior == 0 and share > 0
    ]


def is_regression(result: Mapping[str, Any]) -> bool:
    """Whether one part's results are those of a return or a price."""
    return "sign_p_value" in result


def claims_of(result: Mapping[str, Any]) -> dict[str, bool]:
    """Returns which of skill, activity, direction and edge one part's results show.

    A regression knows no activity.
    """
    if is_regression(result):
        return _regression_claims(result)
    intervals = result["intervals"]
    p_value = result["direction_p_value"]
    references = ("train_prior", "trailing_7d")
    return {
        "skill": all(_is_above(intervals[f"skill_vs_{name}"]) for name in references),
        "activity": all(
            _is_above(intervals[f"activity_skill_vs_{name}"]) for name in references
        ),
        "direction": p_value is not None
        and p_value < MAX_P_VALUE
        and _is_above(intervals["direction_skill_vs_train_prior"]),
        "edge": _has_edge(result["trading"]),
    }


def _regression_claims(result: Mapping[str, Any]) -> dict[str, bool]:
    intervals, p_value = result["intervals"], result["sign_p_value"]
    return {
        "skill": all(
            _is_above(intervals[f"skill_mse_vs_{name}"])
            for name in _REGRESSION_REFERENCES
        ),
        "direction": p_value is not None
        and p_value < MAX_P_VALUE
        and _is_above(intervals["sign_excess"]),
        "edge": _has_edge(result["trading"]),
    }


def _has_edge(trades: Mapping[str, Any]) -> bool:
    deflated = trades.get("deflated_sharpe")
    return (
        "skipped" not in trades
        and deflated is not None
        and deflated > MIN_DEFLATED_SHARPE
        and _is_above(trades["intervals"]["mean_net_return_bps"])
    )


def verdict_lines(results: Mapping[str, Any], claims: Mapping[str, bool]) -> list[str]:
    """Returns the answers: is there skill, in what, does it survive costs."""
    test = results["test"]
    skill, source = _skill_line, _source_line
    if is_regression(test):
        skill, source = _regression_skill_line, _sign_line
    unseen = " and ".join(unseen_classes(results, "test"))
    no_answer = f"Skill: cannot be said, training has no {unseen}, which test has"
    return [
        no_answer if unseen else skill(test, claims),
        source(test, claims),
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


_REGRESSION_REFERENCES = {
    "persistence": "persistence",
    "train_mean": "the train mean",
    "trailing_7d": "the trailing 7-day mean",
}


def _regression_skill_line(test: Mapping[str, Any], claims: Mapping[str, bool]) -> str:
    intervals, best = test["intervals"], test["comparisons"]["best_baseline"]
    beside = f"{_short(intervals['skill_mse_vs_persistence'])} vs persistence"
    if not claims["skill"] and _is_above(intervals["skill_mse_vs_persistence"]):
        name = next(
            key
            for key in _REGRESSION_REFERENCES
            if not _is_above(intervals[f"skill_mse_vs_{key}"])
        )
        other = _short(intervals[f"skill_mse_vs_{name}"])
        return f"Skill: not beyond {_REGRESSION_REFERENCES[name]}, {other}; {beside}"
    answer = "yes" if claims["skill"] else "none shown"
    if best["baseline"] == "persistence":
        return f"Skill: {answer}. {beside}, the best baseline"
    name = regression_baseline_name(best["baseline"])
    return f"Skill: {answer}. {beside}, {_short(best['skill'])} vs {name}"


def regression_baseline_name(name: str) -> str:
    """Returns a baseline's name in words; the trailing week has a mean, no mix."""
    return BASELINE_NAMES[name].replace("mix", "mean")


def _sign_line(test: Mapping[str, Any], claims: Mapping[str, bool]) -> str:
    if test["sign_accuracy"] is None:
        return "In what: direction no, the price did not move"
    p_value = test["sign_p_value"]
    shown = "not tested" if p_value is None else f"p = {p_value:.3f}"
    return (
        f"In what: direction {_yes(claims['direction'])}, "
        f"{test['sign_accuracy']:.1%} of signs right, "
        f"{interval(test['intervals']['sign_excess'])} beyond chance, {shown}"
    )


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
    if any(is_regression(results[part]) for part in _PARTS if part in results):
        return _regression_warnings(results)
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
        found += _few_blocks(test["intervals"]["skill_vs_train_prior"])
    fitted = results["calibration"]
    if fitted["reason"] not in (None, "switched off"):
        found.append(f"not calibrated: {fitted['reason']}")
    if "validation" in results:
        crossed = results["validation"]["calibrated"]
        raw = results["validation"]["log_loss"]
        is_worse = crossed["log_loss"] > raw * (1 + _LEAST_HARM)
        if crossed["fitted_on"] == "the other half" and is_worse:
            found.append(
                "calibration did not last: fitted on one half of validation, it turned "
                f"the log-loss of the other from {raw:.4f} to {crossed['log_loss']:.4f}"
            )
    return found + _flat_thresholds(results["thresholds"])


def _few_blocks(found: Mapping[str, Any]) -> list[str]:
    if found["low"] is not None:
        return []
    return [
        f"test has {found['num_blocks']} independent blocks of "
        f"{found['block_rows']} rows: too few for intervals or claims"
    ]


def _flat_thresholds(search: Mapping[str, Any]) -> list[str]:
    return [f"thresholds: {search['statement']}"] if search.get("is_flat") else []


def _regression_warnings(results: Mapping[str, Any]) -> list[str]:
    settings, found = results["settings"], []
    has_sizes = settings["reads"] == "value"
    if not has_sizes:
        found.append(
            f"loss {settings['loss']} trains positions: signs and trades count, the "
            "size of a predicted return means nothing"
        )
    elif settings["quantile"] is not None:
        found.append(
            f"loss {settings['loss']} predicts the {settings['quantile']:g} quantile, "
            "not the mean: more actual values lie on one side by design"
        )
    for part in _PARTS:
        if part not in results:
            continue
        result = results[part]
        predicted, actual = result["predicted_std_bps"], result["actual_std_bps"]
        if predicted < _LEAST_SPREAD * actual:
            found.append(
                f"{part}: the predictions hardly differ (deviation {predicted:.2f} bps,"
                f" actual {actual:.1f}): the model names a constant"
            )
        slope = result["intervals"]["slope"]
        too_large = slope["high"] is not None and slope["high"] < 1
        skill = result["skill_mse_vs_persistence"]
        if has_sizes and too_large and skill is not None and skill < 0:
            found.append(
                f"{part}: the predictions are too large, what followed was "
                f"{interval(slope, '{:+.2f}')} of them"
            )
    if "test" in results:
        test, before = results["test"], results["train"]["std_bps"]
        ratio = test["actual_std_bps"] / before
        if not 1 / _SPREAD_DRIFT <= ratio <= _SPREAD_DRIFT:
            found.append(
                f"the spread of the returns drifted: deviation {before:.1f} bps in "
                f"training, {test['actual_std_bps']:.1f} in test"
            )
        found += _few_blocks(test["intervals"]["skill_mse_vs_persistence"])
    return found + _flat_thresholds(results["thresholds"])


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


def number(value: Any, pattern: str) -> str:
    """Returns a number as text, a dash where there is none."""
    return "-" if value is None else pattern.format(value)


def _yes(claimed: bool) -> str:
    return "yes" if claimed else "no"


def _short(found: Mapping[str, Any]) -> str:
    return interval(found, "{:+.2f}")


def _is_above(found: Mapping[str, Any]) -> bool:
    return found["low"] is not None and found["low"] > 0
