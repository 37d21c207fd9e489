"""A short version of `make coverage`: intervals hold the truth, p-values are fair."""

import numpy as np
import pytest

from benchmarks import coverage

NUM_STRETCHES, NUM_ROWS = 30, 15_000


class InTurn:
    """What `ProcessPoolExecutor` does, in this process."""

    @staticmethod
    def map(function, values, chunksize):
        return map(function, values)


@pytest.mark.parametrize("market", ["GARCH, leverage", "half-life of a day"])
def test_intervals_hold_the_truth(market, monkeypatch):
    monkeypatch.setattr(coverage, "LENGTHS", (4_500, NUM_ROWS))
    coverage.learned.cache_clear()
    rows = coverage.coverage(market, NUM_STRETCHES, InTurn)
    short, long = ([x for x in rows if x["rows"] == n] for n in coverage.LENGTHS)
    assert {x["given"] for x in short} == {0.0}
    assert min(x["given"] for x in long) >= 0.9
    # Scores of one stretch go together: as few as 24 of 30 are chance, once in 700.
    assert min(x["cover"] for x in long) >= 0.8
    assert 0.9 <= np.mean([x["cover"] for x in long])
    assert max(x["width"] for x in long) < 3


def test_p_values_of_direction_are_fair():
    shares = coverage.sizes(NUM_STRETCHES, InTurn)
    assert all(x["tested"] >= 0.7 for x in shares.values())
    # 5 of 25 or more are below 0.05 once in 140, at a size of 0.05.
    assert max(x["below"] for x in shares.values()) < 0.25


def test_what_does_not_hold_is_named():
    row = {"market": "GARCH, leverage", "rows": 15_000, "score": "skill"}
    row |= {"given": 0.95, "cover": 0.95, "above": 0.02}
    fair = {"white": {"below": 0.05}, "trend": {"below": 0.0}}
    assert coverage.broken([row], fair) == []
    wrong = [row | {"cover": 0.91}, row | {"above": 0.04}, row | {"given": 0.89}]
    assert coverage.broken(wrong, {"white": {"below": 0.01}}) == [
        "GARCH, leverage, 15,000 rows, skill: covers 0.910",
        "GARCH, leverage, 15,000 rows, skill: lower end above the truth in 0.040",
        "GARCH, leverage, 15,000 rows, skill: an interval in 0.890",
        "p-values, white: 0.010 below 0.05",
    ]


def test_what_moves_too_slowly_is_the_limit():
    held = {(days, share): x for days, share, x in coverage.slow_means(60)}
    assert min(x for (_, share), x in held.items() if share <= 0.05) >= 0.9
    assert held[60_000 / 1440, 0.5] < 0.9
