import copy

import pytest

from evaluation import verdict
from evaluation.classes import Classes
from evaluation.trials import FIRST_LOOK


def found(estimate, low=None, high=None):
    keys = {"estimate": estimate, "low": low, "high": high}
    return keys | {"num_cosines": 4}


def good_part():
    """A part in which everything is shown."""
    intervals = {
        f"{prefix}skill_vs_{name}": found(0.2, 0.1, 0.3)
        for prefix in ("", "activity_", "direction_")
        for name in ("train_prior", "trailing_7d")
    }
    shares = {"SHORT": 0.2, "HOLD": 0.6, "LONG": 0.2}
    return {
        "length": {"days": 53.2, "horizons": 638.4},
        "intervals": intervals,
        "direction_p_value": 0.01,
        "log_loss": 0.9,
        "calibrated": {"fitted_on": "the other half", "log_loss": 0.8},
        "true_share": shares,
        "predicted_share": shares,
        "comparisons": {
            "best_baseline": {
                "baseline": "gradient_boosting",
                "skill": found(0.05, -0.01, 0.1),
            }
        },
        "trading": {
            "num_trades": 1234,
            "intervals": {"mean_net_return_bps": found(5.0, 1.0, 9.0)},
            "deflated_sharpe": 0.97,
            "num_days": 53.2,
            "minimum_detectable_sharpe": 10.16,
        },
    }


def good_results():
    return {
        "train_prior": [0.2, 0.6, 0.2],
        "calibration": {"method": "none", "reason": None},
        "trials": dict(FIRST_LOOK),
        "thresholds": {"statement": "best of 120 pairs tried", "is_flat": False},
        "validation": good_part(),
        "test": good_part(),
    }


def changed(path, value):
    results = good_results()
    place = results["test"]
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return verdict.add_verdict(results, Classes())


def test_everything_shown():
    results = verdict.add_verdict(good_results(), Classes())
    assert results["claims"] == dict.fromkeys(
        ("skill", "activity", "direction", "edge"), True
    )
    assert results["warnings"] == []
    assert results["verdict"] == [
        "Skill: yes. +0.20 [+0.10, +0.30] vs train prior, "
        "+0.05 [-0.01, +0.10] vs gradient boosting",
        "In what: activity yes +0.20 [+0.10, +0.30]; "
        "direction yes +0.200 [+0.100, +0.300] p = 0.010",
        "After costs: survives. 1,234 trades, +5.0 [+1.0, +9.0] bps net each, "
        "P(Sharpe > 0) 0.97",
        "Test: 53.2 days, 638 label horizons, counts as about 5 to 13 independent "
        "pieces",
        "Power: this test could show an edge from Sharpe 10.2; seen by no other run",
    ]


@pytest.mark.parametrize(
    ("path", "value", "lost"),
    [
        (("intervals", "skill_vs_train_prior"), found(0.2, -0.01, 0.3), "skill"),
        (("intervals", "skill_vs_trailing_7d"), found(0.2, 0.0, 0.3), "skill"),
        (("intervals", "skill_vs_trailing_7d"), found(0.2), "skill"),
        (("intervals", "activity_skill_vs_train_prior"), found(0.1, 0, 1), "activity"),
        (("intervals", "activity_skill_vs_trailing_7d"), found(0.1, 0, 1), "activity"),
        (("direction_p_value",), 0.05, "direction"),
        (("direction_p_value",), None, "direction"),
        (
            ("intervals", "direction_skill_vs_train_prior"),
            found(0.1, 0, 1),
            "direction",
        ),
        (("trading", "deflated_sharpe"), 0.95, "edge"),
        (("trading", "deflated_sharpe"), None, "edge"),
        (("trading", "intervals", "mean_net_return_bps"), found(1, -1, 3), "edge"),
        (("trading", "intervals", "mean_net_return_bps"), found(None), "edge"),
        (("trading",), {"skipped": "no returns"}, "edge"),
    ],
)
def test_each_claim_has_its_rule(path, value, lost):
    results = changed(path, value)
    expected = dict.fromkeys(("skill", "activity", "direction", "edge"), True)
    assert results["claims"] == expected | {lost: False}
    assert all(len(line) <= 100 for line in results["verdict"])


def test_a_test_that_was_searched_says_how_often():
    results = good_results()
    results["trials"] |= {"num_trials": 13, "num_unreadable": 1}
    results["test"]["trading"]["minimum_detectable_sharpe"] = None
    found = verdict.add_verdict(results, Classes())
    line = "Power: this test could show no edge; seen by 12 other runs"
    assert found["verdict"][4] == line
    assert found["warnings"] == [
        "1 earlier run cannot be read: how often test was looked at is not known"
    ]


def test_an_edge_of_a_planted_market_is_claimed():
    """669 trades of +8.8 bps, P(Sharpe > 0) .986: 120 pairs of thresholds, one test."""
    results = good_results()
    results["test"]["trading"] |= {
        "num_trials": 669,
        "num_variants_tried": 1,
        "probabilistic_sharpe": 0.986,
        "deflated_sharpe": 0.986,
        "intervals": {"mean_net_return_bps": found(8.8, 1.7, 15.9)},
    }
    assert verdict.add_verdict(results, Classes())["claims"]["edge"] is True


def test_skill_that_needs_no_model_is_called_so():
    results = changed(("intervals", "skill_vs_trailing_7d"), found(-0.01, -0.03, 0.02))
    assert results["verdict"][0] == (
        "Skill: not beyond the trailing 7-day mix, -0.01 [-0.03, +0.02]; "
        "+0.20 [+0.10, +0.30] vs train prior"
    )
    results = changed(("intervals", "skill_vs_train_prior"), found(-0.1, -0.2, 0.1))
    assert results["verdict"][0].startswith("Skill: none shown. -0.10")


@pytest.mark.parametrize(("after", "is_told"), [(0.9002, False), (0.905, True)])
def test_calibration_that_hardly_changes_anything_is_no_warning(after, is_told):
    results = good_results()
    assert results["validation"]["log_loss"] == 0.9
    results["validation"]["calibrated"]["log_loss"] = after
    said = " ".join(verdict.add_verdict(results, Classes())["warnings"])
    assert ("calibration did not last" in said) is is_told


def test_a_class_that_training_lacks_is_no_skill():
    results = good_results()
    results["train_prior"] = [0.4, 0.6, 0.0]
    results["test"]["true_share"] = {"SHORT": 0.3, "HOLD": 0.6, "LONG": 0.1}
    results = verdict.add_verdict(results, Classes())
    assert results["verdict"][0] == (
        "Skill: cannot be said, training has no LONG, which test has"
    )
    assert not any(results["claims"][k] for k in ("skill", "activity", "direction"))


def test_the_longest_second_line_fits():
    results = good_results()
    intervals = results["test"]["intervals"]
    intervals["activity_skill_vs_trailing_7d"] = found(-0.01, -0.03, 0.02)
    line = verdict.add_verdict(results, Classes())["verdict"][1]
    assert "activity no -0.01 [-0.03, +0.02] vs 7d mix" in line
    assert len(line) <= 100


@pytest.mark.parametrize(
    ("statement", "line"),
    [
        ("no trade: none paid", "After costs: no trade: none paid"),
        (
            "best of 120 pairs tried",
            "After costs: no trade: the thresholds of validation were never reached",
        ),
    ],
)
def test_no_trade_is_a_result(statement, line):
    results = good_results()
    results["thresholds"]["statement"] = statement
    results["test"]["trading"]["num_trades"] = 0
    results["test"]["trading"]["intervals"]["mean_net_return_bps"] = found(None)
    results = verdict.add_verdict(results, Classes())
    assert results["verdict"][2] == line
    assert results["claims"]["edge"] is False


def test_warnings():
    results = good_results()
    results["test"]["predicted_share"] = {"SHORT": 0.0, "HOLD": 0.95, "LONG": 0.05}
    results["validation"]["predicted_share"] = {
        "SHORT": 0.005,
        "HOLD": 0.8,
        "LONG": 0.1,
    }
    results["train_prior"] = [0.3, 0.4, 0.3]
    results["calibration"]["reason"] = "99 rows, expected at least 100"
    results["validation"]["calibrated"]["log_loss"] = 1.0
    results["thresholds"] = {"statement": "best of 9; flat: 8", "is_flat": True}
    results["test"]["length"] = {"days": 9.9, "horizons": 119.0}
    assert verdict.add_verdict(results, Classes())["warnings"] == [
        "validation: SHORT is the most probable class in 0.5% of the rows "
        "(true share 20.0%)",
        "test: the most probable class is HOLD in 95.0% of the rows (true share 60.0%)",
        "the class mix drifted: HOLD 40% in training, 60% in test",
        "test is 9.9 days, 119 label horizons: no interval and no claim, expected at "
        "least 10 days and 30 horizons",
        "not calibrated: 99 rows, expected at least 100",
        "calibration did not last: fitted on one half of validation, it turned the "
        "log-loss of the other from 0.9000 to 1.0000",
        "thresholds: best of 9; flat: 8",
    ]


def test_what_no_honest_model_reached_is_distrusted_first():
    results = good_results()
    results["test"]["direction_skill_vs_train_prior"] = 0.256
    results["test"]["trading"] |= {"sharpe": 13.0, "cost_bps": 15.0}
    results["calibration"]["reason"] = "99 rows, expected at least 100"
    assert verdict.add_verdict(results, Classes())["warnings"] == [
        "better than anything honest seen here: run --audit (direction skill 0.26, "
        "honest ones reach 0.06; Sharpe ratio 13.00, honest ones reach 5)",
        "not calibrated: 99 rows, expected at least 100",
    ]


def test_a_share_that_is_true_is_no_collapse():
    results = good_results()
    shares = {"SHORT": 0.005, "HOLD": 0.99, "LONG": 0.005}
    for part in ("validation", "test"):
        results[part] |= {"true_share": shares, "predicted_share": copy.copy(shares)}
    results["train_prior"] = [0.005, 0.99, 0.005]
    assert verdict.add_verdict(results, Classes())["warnings"] == []


def test_without_a_test_part_nothing_is_claimed():
    results = good_results()
    del results["test"]
    results = verdict.add_verdict(results, Classes())
    assert results["verdict"] == [] and results["claims"] == {}


def test_a_leak_withdraws_every_claim():
    results = verdict.add_verdict(good_results(), Classes())
    findings = [
        {"check": "shifted label", "outcome": "leak", "words": "of row t+1"},
        {"check": "column leads the price", "outcome": "doubtful", "words": "x, z 9"},
        {"check": "unpurged split", "outcome": "passed", "words": "0 bars"},
    ]
    results["audit"] = {"findings": findings}
    verdict.heed_audit(results, Classes())
    assert not any(results["claims"].values())
    leak, *lines = results["verdict"]
    assert leak == "Leak: nothing is claimed, the data leak (shifted label)"
    assert lines[0].startswith("Skill: not claimed. +0.")
    assert lines[1].startswith("In what: activity not claimed +0.")
    assert "; direction not claimed +0." in lines[1]
    assert lines[2].startswith("After costs: not claimed. ")
    assert not any("yes" in line or "survives" in line for line in lines)
    assert results["warnings"] == [
        "leak: shifted label: of row t+1",
        "doubtful: column leads the price: x, z 9",
    ]
    results = verdict.add_verdict(good_results(), Classes())
    results["audit"] = {"findings": findings[1:]}
    verdict.heed_audit(results, Classes())
    assert results["claims"]["skill"] and results["verdict"][0].startswith("Skill: yes")
    assert results["warnings"] == ["doubtful: column leads the price: x, z 9"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({}, "5.2 days, 62 label horizons"),
        ({"counted_as": "bars"}, "5.2 days, 62 bars"),
    ],
)
def test_a_short_test_is_counted_in_what_decides_its_answers(words, said):
    [line] = verdict.of_length({"days": 5.2, "horizons": 62}, **words)
    assert line.startswith(f"test is {said}: no interval and no claim")
