"""Intervals by conformal prediction, held against plain counts."""

import numpy as np
import pytest

from metrics.conformal import LEAST_ROWS, SpreadInterval


def fit(actual, spread, level=0.9, said=0.0):
    said = np.full(len(actual), said)
    return SpreadInterval.fit(actual, said, said, spread, level=level)


def test_the_factor_is_an_error_that_so_many_do_not_pass():
    errors = np.random.default_rng(0).permutation(np.arange(1.0, 201.0))
    found = fit(errors, np.ones(200))
    assert found.factor == 181.0  # ceil(201 * 0.9) = 181st of 200
    low, high = found.ends(np.array([5.0]), np.array([5.0]), np.array([2.0]))
    assert (low[0], high[0]) == (5.0 - 362.0, 5.0 + 362.0)


@pytest.mark.parametrize("level", [0.5, 0.9, 0.98])
def test_a_new_spread_keeps_the_level(level):
    rng = np.random.default_rng(1)
    spread = np.exp(rng.normal(size=40_000))
    actual = spread * rng.standard_t(4, 40_000)
    spread[20_000:] *= 5  # a wilder market
    actual[20_000:] *= 5
    found = fit(actual[:20_000], spread[:20_000], level)
    zero = np.zeros(20_000)
    low, high = found.ends(zero, zero, spread[20_000:])
    inside = (low <= actual[20_000:]) & (actual[20_000:] <= high)
    assert inside.mean() == pytest.approx(level, abs=0.01)


def test_predicted_ends_move_out_or_in():
    actual = np.linspace(-1, 1, 401)
    wide, narrow = np.full(401, 2.0), np.full(401, 0.1)
    out = SpreadInterval.fit(actual, -narrow, narrow, np.ones(401), level=0.9)
    moved_in = SpreadInterval.fit(actual, -wide, wide, np.ones(401), level=0.9)
    assert out.factor == pytest.approx(0.8, abs=0.01)
    assert moved_in.factor == pytest.approx(-1.1, abs=0.01)
    low, high = moved_in.ends(-narrow, narrow, np.ones(401))
    assert (low == high).all()  # never crossed


def test_a_still_window_counts_as_the_stillest_that_moved():
    spread = np.concatenate([np.zeros(100), np.linspace(1, 2, 900)])
    found = fit(np.ones(1000), spread)
    assert found.least_spread == pytest.approx(1.01, abs=0.01)
    low, high = found.ends(np.zeros(1), np.zeros(1), np.zeros(1))
    assert high[0] == -low[0] == pytest.approx(found.factor * found.least_spread)


def test_few_rows_and_a_still_market_teach_nothing():
    assert fit(np.ones(LEAST_ROWS - 1), np.ones(LEAST_ROWS - 1)) is None
    assert fit(np.ones(500), np.zeros(500)) is None


def test_json_keeps_it_and_other_values_are_refused():
    found = fit(np.arange(300.0), np.ones(300))
    assert SpreadInterval.from_dict(found.to_dict()) == found
    for key, value in (("level", 1.5), ("factor", float("nan")), ("num_rows", "9")):
        with pytest.raises(ValueError, match="expected an interval"):
            SpreadInterval.from_dict(found.to_dict() | {key: value})
