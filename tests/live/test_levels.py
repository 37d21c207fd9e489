"""Sums of days, held against a plain loop; levels that are seldom passed."""

import numpy as np
import pytest

from live.levels import LEAST_DAYS, SLACK, Levels, learn_levels

RNG = np.random.default_rng(5)


@pytest.mark.parametrize("sides", [1, -1, 0])
def test_sums_are_those_of_a_plain_loop(sides):
    days = RNG.normal(3.0, 2.0, 50)
    levels = Levels(center=3.0, spread=2.0, sides=sides, warning=1.0, alarm=2.0)
    up = down = 0.0
    for day, found in zip(days, levels.sums(days), strict=True):
        z = (day - 3.0) / 2.0
        up, down = max(0.0, up + z - SLACK), max(0.0, down - z - SLACK)
        assert found == pytest.approx({1: up, -1: down, 0: max(up, down)}[sides])


def test_levels_are_seldom_passed_and_a_shift_is_found():
    passed, found = np.zeros(2), []
    for _ in range(60):
        days = RNG.normal(size=80 + 91)
        levels = learn_levels(days[:80], sides=0, share=1.0)
        sums = levels.sums(days[80:])
        passed += (sums > levels.warning).any(), (sums > levels.alarm).any()
        shifted = levels.sums(days[80:] + 1.5)
        found.append(np.flatnonzero(shifted > levels.alarm)[:1])
    assert 1 <= passed[0] <= 15 and passed[1] <= 2  # 0.1 and 0.002 by design, of 60
    assert np.median(np.concatenate(found)) < 30


def test_a_smaller_share_of_false_alarms_is_a_higher_level():
    days = RNG.normal(size=60)
    whole, fifth = (learn_levels(days, sides=1, share=x) for x in (1.0, 0.2))
    assert whole.warning < fifth.warning < fifth.alarm
    assert learn_levels(days, sides=1, share=1.0) == whole  # the same draws


def test_few_days_and_still_ones_say_nothing():
    assert learn_levels(RNG.normal(size=LEAST_DAYS - 1), sides=1, share=1.0) is None
    assert learn_levels(np.ones(50), sides=1, share=1.0) is None
