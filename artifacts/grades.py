"""Results of a run -> a grade, by one rule for every family and target.

In: what a report claims, and what each grade asks of it. Out: the claims themselves
(`evaluation.verdict`), where grades are kept (`registry`).

A grade is a pure function of a report: what the report does not show lifts no grade,
and each grade asks for everything below it.

| grade | the test part shows |
|---|---|
| S | A+, and an evaluation on at least 30 later days confirms it |
| A+ | A, and at least 70 % of five or more folds earned something after costs |
| A | A-, and an edge is claimed |
| A- | B+, and the mean net return of a trade is above 0 |
| B+ | B and activity, and no gradient boosting is better (paired, 95 %) |
| B | B-, and direction is claimed |
| B- | C, and skill is claimed: also beyond what the last seven days knew |
| C | skill beyond the train prior: the lower end of its interval is above 0 |
| D | nothing of the kind |
| F | a leak, an undefined loss, or files that are not what they were |
| ungraded | no intervals: no test part, or one that is too short |

A position that was learned has a ladder of its own: C where the lower end of its net
return a bar beyond that of the best constant position is above 0, A where an edge is
claimed, A+ where at least 70 % of five or more seeds earned something, S as above.

For a return or a price persistence stands for the prior, the trailing mean for the mix
of the last days, and the sign test for direction; there is no activity to show.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from utils import ConfigError

MIN_FOLDS = 5
MIN_SHARE_OF_FOLDS = 0.7
MIN_LATER_DAYS = 30.0
BOOSTING = "gradient_boosting"
"""The trained baseline that B+ is held against."""

_NET = "mean_net_return_bps"


class PerformanceGrade(enum.StrEnum):
    """Grades, the best first; `ungraded` is no grade and compares below all."""

    S = "S"
    A_PLUS = "A+"
    A = "A"
    A_MINUS = "A-"
    B_PLUS = "B+"
    B = "B"
    B_MINUS = "B-"
    C = "C"
    D = "D"
    F = "F"
    UNGRADED = "ungraded"

    @property
    def rank(self) -> int:
        """How far below S it is: 0 is the best."""
        return list(PerformanceGrade).index(self)

    def is_at_least(self, other: PerformanceGrade) -> bool:
        """Whether it is as good as another, or better."""
        return self.rank <= other.rank


def parse_grade(text: str) -> PerformanceGrade:
    """Returns a grade by its name; ConfigError of another."""
    try:
        return PerformanceGrade(text)
    except ValueError:
        raise ConfigError(
            f"grade: expected one of {', '.join(PerformanceGrade)}. Received: {text!r}"
        ) from None


@dataclass(frozen=True)
class Graded:
    """A grade and why it is no better.

    Args:
        grade: The grade.
        reason: What was missing for the next one, or what is wrong.
    """

    grade: PerformanceGrade
    reason: str


def grade_of(
    results: Mapping[str, Any],
    *,
    is_whole: bool = True,
    evaluations: Sequence[Mapping[str, Any]] = (),
) -> Graded:
    """Returns the grade of a run, and what kept it from the next.

    Args:
        results: The content of `confusion_matrix_report.json`.
        is_whole: Whether every file is what its manifest says.
        evaluations: Of the same model on later data: `days`, and `is_confirmed`,
            whether the promised range held and nothing was in sample.
    """
    if fault := _fault(results, is_whole=is_whole):
        return Graded(PerformanceGrade.F, fault)
    test = results.get("test") or {}
    rungs, first = _RUNGS, _first_skill(results)
    if _is_position(results):
        rungs, first = _RUNGS_OF_POSITIONS, "net_bps"
    if _low(test, first) is None:
        reason = "the test part has no intervals" if test else "there is no test part"
        return Graded(PerformanceGrade.UNGRADED, reason)
    reached = PerformanceGrade.D
    for grade, lacks in rungs:
        if missing := lacks(results, evaluations):
            return Graded(reached, f"no {grade}: {missing}")
        reached = grade
    return Graded(reached, "there is no better grade")


def _fault(results: Mapping[str, Any], *, is_whole: bool) -> str:
    """Returns why a run is worth nothing, or an empty string."""
    if not is_whole:
        return "its files are not what its manifest says"
    leaks = (results.get("audit") or {}).get("leaks") or ()
    if leaks:
        return f"a leak: {leaks[0]!s:.200}"
    test = results.get("test")
    if test is not None and test.get(_loss_of(results)) is None:
        return f"the {_loss_of(results)} of the test part is undefined"
    return ""


def _has_classes(results: Mapping[str, Any]) -> bool:
    return "class_names" in results


def _is_position(results: Mapping[str, Any]) -> bool:
    return results.get("target") == "position"


def _loss_of(results: Mapping[str, Any]) -> str:
    if _is_position(results):
        return "net_bps"
    return "log_loss" if _has_classes(results) else "rmse"


def _first_skill(results: Mapping[str, Any]) -> str:
    """Returns the skill against what knows nothing but the training part."""
    is_class = _has_classes(results)
    return "skill_vs_train_prior" if is_class else "skill_mse_vs_persistence"


def _low(part: Mapping[str, Any], name: str) -> float | None:
    """Returns the lower end of a score's interval; None where it has none."""
    found = (part.get("intervals") or {}).get(name) or {}
    low = found.get("low")
    return None if low is None else float(low)


# What each grade asks for: nothing, or what is missing


def _lacks_skill(results: Mapping[str, Any], _: object) -> str:
    low = _low(results["test"], _first_skill(results))
    return "" if low is not None and low > 0.0 else "no skill beyond the train prior"


def _lacks_claim(claim: str, words: str) -> _Lacks:
    def lacks(results: Mapping[str, Any], _: object) -> str:
        return "" if results.get("claims", {}).get(claim) is True else words

    return lacks


def _lacks_breadth(results: Mapping[str, Any], _: object) -> str:
    if _has_classes(results) and results["claims"].get("activity") is not True:
        return "activity is not shown"
    pair = (results["test"].get("comparisons") or {}).get(BOOSTING) or {}
    loss = "log_loss" if _has_classes(results) else "squared_error"
    low = (pair.get(f"{loss}_difference") or {}).get("low")
    if low is None:
        return "it was not compared with gradient boosting"
    return "gradient boosting is better" if low > 0.0 else ""


def _lacks_earnings(results: Mapping[str, Any], _: object) -> str:
    net = (results["test"].get("trading") or {}).get(_NET)
    return "" if net is not None and net > 0.0 else "trades earn nothing after costs"


def _lacks_folds(results: Mapping[str, Any], _: object) -> str:
    metrics = (results.get("cross_validation") or {}).get("metrics") or {}
    nets = (metrics.get(f"trading_{_NET}") or {}).get("folds") or []
    if len(nets) < MIN_FOLDS:
        return f"{len(nets)} folds, expected {MIN_FOLDS}"
    share = sum(net is not None and net > 0.0 for net in nets) / len(nets)
    if share < MIN_SHARE_OF_FOLDS:
        return f"{share:.0%} of the folds earned something, {MIN_SHARE_OF_FOLDS:.0%}"
    return ""


def _lacks_confirmation(_: object, evaluations: Sequence[Mapping[str, Any]]) -> str:
    long = [each for each in evaluations if (each.get("days") or 0) >= MIN_LATER_DAYS]
    if not long:
        return f"no evaluation on {MIN_LATER_DAYS:.0f} later days"
    # The newest decides: an old success does not outlive a market that left.
    return (
        "" if long[-1].get("is_confirmed") is True else "later days do not confirm it"
    )


def _lacks_more_than_constant(results: Mapping[str, Any], _: object) -> str:
    best = (results["test"].get("comparisons") or {}).get("best_baseline") or {}
    low = (best.get("net_difference") or {}).get("low")
    is_more = low is not None and low > 0.0
    return "" if is_more else "no more than the best constant position"


def _lacks_seeds(results: Mapping[str, Any], _: object) -> str:
    nets = [
        x["net_bps"] for x in (results["test"].get("spread") or {}).get("seeds", ())
    ]
    if len(nets) < MIN_FOLDS:
        return f"{len(nets)} seeds, expected {MIN_FOLDS}"
    share = sum(net > 0.0 for net in nets) / len(nets)
    if share < MIN_SHARE_OF_FOLDS:
        return f"{share:.0%} of the seeds earned something, {MIN_SHARE_OF_FOLDS:.0%}"
    return ""


_Lacks = Callable[[Mapping[str, Any], Sequence[Mapping[str, Any]]], str]

_RUNGS: tuple[tuple[PerformanceGrade, _Lacks], ...] = (
    (PerformanceGrade.C, _lacks_skill),
    (
        PerformanceGrade.B_MINUS,
        _lacks_claim("skill", "no skill beyond what the last seven days knew"),
    ),
    (PerformanceGrade.B, _lacks_claim("direction", "direction is not shown")),
    (PerformanceGrade.B_PLUS, _lacks_breadth),
    (PerformanceGrade.A_MINUS, _lacks_earnings),
    (PerformanceGrade.A, _lacks_claim("edge", "no edge is claimed")),
    (PerformanceGrade.A_PLUS, _lacks_folds),
    (PerformanceGrade.S, _lacks_confirmation),
)
_RUNGS_OF_POSITIONS: tuple[tuple[PerformanceGrade, _Lacks], ...] = (
    (PerformanceGrade.C, _lacks_more_than_constant),
    (PerformanceGrade.A, _lacks_claim("edge", "no edge is claimed")),
    (PerformanceGrade.A_PLUS, _lacks_seeds),
    (PerformanceGrade.S, _lacks_confirmation),
)
