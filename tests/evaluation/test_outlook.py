import math

import pytest

from evaluation.outlook import expected_range, outlook
from evaluation.task import Task
from reports.outlook import outlook_text


def found(estimate, low=None, high=None):
    return {"estimate": estimate, "low": low, "high": high}


def test_a_next_stretch_has_luck_of_its_own():
    seen = expected_range(found(0.1, 0.0, 0.2), before=0.05)
    assert seen["low"] == pytest.approx(0.1 - 0.1 * math.sqrt(2))
    assert seen["high"] == pytest.approx(0.1 + 0.1 * math.sqrt(2))
    assert seen["widened_by"] is None


def test_drift_and_folds_widen_it():
    drifted = expected_range(found(0.1, 0.0, 0.2), before=-0.2)
    assert (drifted["low"], drifted["high"]) == pytest.approx((-0.2, 0.4))
    assert drifted["widened_by"] == "drift"
    # Mean 0, deviation 1, four folds: t of 93.75 % with 3 degrees is 2.1131.
    folds = [-math.sqrt(1.5), math.sqrt(1.5), 0.0, 0.0, None]
    spread = expected_range(found(0.1, 0.0, 0.2), before=0.1, folds=folds)
    half = 2.1131 * math.sqrt(1.25)
    assert spread["high"] - 0.1 == pytest.approx(half, rel=1e-3)
    assert spread["widened_by"] == "folds"
    assert expected_range(found(0.1), before=5.0)["low"] is None


class Judging(Task):
    claimed = {"skill": ("skill_vs_prior", "skill_vs_other")}


Judging.__abstractmethods__ = frozenset()


def test_each_claim_and_the_net_have_one():
    part = {
        "intervals": {"skill_vs_prior": found(0.1, 0.05, 0.15)},
        "trading": {"intervals": {"mean_net_return_bps": found(2.0, -1.0, 5.0)}},
    }
    results = {"validation": part, "test": part}
    results["outlook"] = outlook(results, Judging())
    assert list(results["outlook"]) == ["skill", "net"]
    assert outlook_text(results) == (
        "next: about 85 to 90 of 100 stretches as long as test should lie within: "
        "skill +0.03 to +0.17; net a\n  trade, bps -2.2 to +6.2 "
        "(too wide to say its sign)"
    )
    del part["trading"]["intervals"]
    part["trading"]["skipped"] = "no returns"
    assert list(outlook(results, Judging())) == ["skill"]
    assert outlook({}, Judging()) == {}
