"""Grades: each rung alone, its order, and what lifts nothing."""

import copy
import re

import pytest
from world.artifacts import BEST, interval

from artifacts.grades import PerformanceGrade, grade_of

LATER = [{"days": 31.0, "is_confirmed": True}]

NUMBERS = copy.deepcopy(BEST)
del NUMBERS["claims"]["activity"]
del NUMBERS["class_names"]
NUMBERS["test"] = {
    "rmse": 0.9,
    "intervals": {"skill_mse_vs_persistence": interval(0.01)},
    "trading": {"mean_net_return_bps": 3.0},
    "comparisons": {"gradient_boosting": {"squared_error_difference": interval(-0.2)}},
}


def changed(results, path, value):
    results = copy.deepcopy(results)
    *parents, last = path.split("/")
    place = results
    for name in parents:
        place = place[name]
    place[last] = value
    return results


@pytest.mark.parametrize(
    "path, value, grade, reason",
    [
        ("audit/leaks", ["close of t + 1"], "F", "a leak: close of t"),
        ("test/log_loss", None, "F", "log_loss of the test part is undefined"),
        ("test/intervals/skill_vs_train_prior/low", None, "ungraded", "no intervals"),
        ("test/intervals/skill_vs_train_prior/low", 0.0, "D", "no C: no skill"),
        ("claims/skill", False, "C", "no B-: no skill beyond what the last"),
        ("claims/direction", False, "B-", "no B: direction is not shown"),
        ("claims/direction", None, "B-", "no B: direction is not shown"),
        ("claims/activity", False, "B", r"no B\+: activity is not shown"),
        ("test/comparisons", {}, "B", r"no B\+: it was not compared"),
        (
            "test/comparisons/gradient_boosting/log_loss_difference/low",
            0.01,
            "B",
            r"no B\+: gradient boosting is better",
        ),
        ("test/trading", {"skipped": "no close"}, "B+", "trades earn nothing"),
        ("test/trading/mean_net_return_bps", 0.0, "B+", "trades earn nothing"),
        ("claims/edge", False, "A-", "no A: no edge is claimed"),
        ("cross_validation", {}, "A", r"no A\+: 0 folds, expected 5"),
        (
            "cross_validation/metrics/trading_mean_net_return_bps/folds",
            [1.0, 1.0, 1.0, -1.0, -1.0],
            "A",
            "60% of the folds",
        ),
    ],
)
def test_what_is_missing_ends_the_climb(path, value, grade, reason):
    found = grade_of(changed(BEST, path, value), evaluations=LATER)
    assert found.grade == grade and re.search(reason, found.reason)


@pytest.mark.parametrize(
    "evaluations, grade",
    [
        ([], "A+"),
        ([{"days": 29.9, "is_confirmed": True}], "A+"),
        ([*LATER, {"days": 40.0, "is_confirmed": False}], "A+"),
        ([*LATER, {"days": 5.0, "is_confirmed": False}], "S"),
        (LATER, "S"),
    ],
)
def test_later_days_confirm_the_best(evaluations, grade):
    assert grade_of(BEST, evaluations=evaluations).grade == grade


def test_files_that_changed_are_worth_nothing():
    assert grade_of(BEST, is_whole=False).grade == "F"
    assert grade_of({"claims": {}}).grade == "ungraded"


def test_numbers_are_graded_by_the_same_rule():
    assert grade_of(NUMBERS, evaluations=LATER).grade == "S"
    low = "test/intervals/skill_mse_vs_persistence/low"
    assert grade_of(changed(NUMBERS, low, -0.1)).grade == "D"
    assert grade_of(changed(NUMBERS, "test/rmse", None)).grade == "F"


def test_grades_have_an_order():
    letters = "S A+ A A- B+ B B- C D F ungraded".split()
    assert [grade.value for grade in PerformanceGrade] == letters
    assert PerformanceGrade.B_PLUS.is_at_least(PerformanceGrade.B)
    assert not PerformanceGrade.UNGRADED.is_at_least(PerformanceGrade.F)


def of_position(low, *, edge=False, net_low=0.1, seeds=()):
    test = {
        "net_bps": 0.2,
        "intervals": {"net_bps": {"low": net_low}},
        "comparisons": {"best_baseline": {"net_difference": {"low": low}}},
        "spread": {"seeds": [{"net_bps": each} for each in seeds]},
    }
    return {"target": "position", "claims": {"edge": edge}, "test": test}


@pytest.mark.parametrize(
    ("results", "grade"),
    [
        (of_position(0.1, net_low=None), "ungraded"),
        (of_position(None), "D"),  # it is a constant position
        (of_position(-0.1, edge=True), "D"),
        (of_position(0.1), "C"),
        (of_position(0.1, edge=True, seeds=(1, 1, 1)), "A"),
        (of_position(0.1, edge=True, seeds=(1, 1, 1, -1, -1)), "A"),
        (of_position(0.1, edge=True, seeds=(1, 1, 1, 1, -1)), "A+"),
    ],
)
def test_a_position_has_a_ladder_of_its_own(results, grade):
    assert grade_of(results).grade == grade
    confirmed = [{"days": 40.0, "is_confirmed": True}]
    better = "S" if grade == "A+" else grade
    assert grade_of(results, evaluations=confirmed).grade == better
