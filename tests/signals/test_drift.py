"""Distances of blocks of features, held against plain loops."""

import numpy as np
import pytest

from signals.drift import (
    LEAST_ROWS,
    UsualDrift,
    daily_drift,
    log_index,
    stability_index,
    stability_indices,
    unit_days,
)

LEVELS = np.linspace(0, 1, 21)
RNG = np.random.default_rng(0)
ROWS = np.stack([RNG.normal(size=200 * 96), RNG.random(200 * 96) < 0.32], axis=1)
QUANTILES = np.quantile(ROWS, LEVELS, axis=0).T
TIMES = np.datetime64("2024-01-01") + np.arange(len(ROWS)) * np.timedelta64(15, "m")


def index_by_counting(column, edges):
    """The index over equally filled bins, one row after the other."""
    counts = np.zeros(20)
    for value in column:
        counts[min(19, sum(value >= edge for edge in edges[1:-1]))] += 1
    seen = np.maximum(counts / len(column), 1e-4)
    return ((seen - 0.05) * np.log(seen / 0.05)).sum()


def test_the_index_is_that_of_counted_bins():
    block = ROWS[:500, :1] * 1.5 + 0.2
    found = stability_index(block, QUANTILES[:1])
    assert found[0] == pytest.approx(index_by_counting(block[:, 0], QUANTILES[0]))
    assert stability_index(ROWS[:, :1], QUANTILES[:1])[0] < 1e-6


def test_blocks_that_overlap_are_counted_each_for_itself():
    spans = [(3, 700), (90, 150), (90, 700), (500, 19_200)]
    found = stability_indices(ROWS[:, :1], spans, QUANTILES[:1])
    for row, (first, stop) in zip(found, spans, strict=True):
        column = ROWS[first:stop, 0]
        assert row[0] == pytest.approx(index_by_counting(column, QUANTILES[0]))


def test_equal_quantiles_are_one_bin():
    # 0 in 68 %, 1 in 32 %, which levels of 5 % tell as 70 and 30: they change places
    swapped = 1 - ROWS[:2000, 1:]
    share = swapped.mean()
    expected = (share - 0.3) * np.log(share / 0.3)
    expected += (1 - share - 0.7) * np.log((1 - share) / 0.7)
    found = stability_index(swapped, QUANTILES[1:])
    assert found[0] == pytest.approx(expected, rel=1e-9)


def test_a_feature_of_one_value_is_nowhere_else():
    rows = np.full((50, 1), 3.0)
    assert stability_index(rows, np.full((1, 21), 3.0)) == 0


@pytest.mark.parametrize(
    ("seconds", "days"), [(60, 1), (3600, 1), (14_400, 4), (86_400, 20)]
)
def test_a_unit_holds_enough_bars(seconds, days):
    assert unit_days(seconds) == days
    assert days * 86_400 / seconds >= LEAST_ROWS


def test_blocks_of_the_training_say_what_is_usual():
    found = UsualDrift.of(ROWS, TIMES, QUANTILES, bar_seconds=900)
    assert set(found.blocks) == {1, 7}  # 8 blocks of 28 days are longer than 200
    assert found.blocks[7].shape == (100, 2)  # 25 a feature, and no fewer
    assert len(found.daily) == 200
    own = stability_index(ROWS[:96], QUANTILES)
    assert found.daily[0] == pytest.approx(log_index(own), rel=1e-4)
    assert own[0] in found.blocks[1][:, 0]


def test_p_values_count_blocks_as_far():
    found = UsualDrift.of(ROWS, TIMES, QUANTILES, bar_seconds=900)
    middle = np.median(found.blocks[7], axis=0)
    np.testing.assert_allclose(found.p_values(middle, 7), 0.5, atol=0.06)
    assert found.p_values(np.array([9.0, 0.0]), 7).tolist() == [1 / 101, 1.0]
    assert 28 not in found.blocks  # too few of them: not told


def test_days_are_as_those_of_the_training():
    found = UsualDrift.of(ROWS, TIMES, QUANTILES, bar_seconds=900)
    days, means = daily_drift(ROWS[:960], TIMES[:960], QUANTILES, found.unit_days)
    np.testing.assert_allclose(means, found.daily[:10], rtol=1e-4)
    assert str(days[3]) == "2024-01-04"


def test_json_keeps_it_and_other_values_are_refused():
    found = UsualDrift.of(ROWS, TIMES, QUANTILES, bar_seconds=900)
    again = UsualDrift.from_dict(found.to_dict(), 2)
    for days, block in found.blocks.items():
        np.testing.assert_allclose(again.blocks[days], block, rtol=1e-4)
    with pytest.raises(ValueError, match="apart"):
        UsualDrift.from_dict(found.to_dict(), 3)
    with pytest.raises(ValueError, match="apart"):
        UsualDrift.from_dict(found.to_dict() | {"daily": [float("nan")]}, 2)


@pytest.mark.parametrize("width", [8, 20, 34])
def test_a_feature_far_away_passes_holm(width):
    rows = RNG.normal(size=(200 * 96, width))
    quantiles = np.quantile(rows, LEVELS, axis=0).T
    found = UsualDrift.of(rows, TIMES, quantiles, bar_seconds=900)
    far = found.blocks[7][-1] + 1.0  # farther than any block of the training
    assert (found.p_values(far, 7) * width < 0.05).all()


def test_as_far_as_ever_is_not_farther():
    found = UsualDrift.of(ROWS, TIMES, QUANTILES, bar_seconds=900)
    kept = UsualDrift.from_dict(found.to_dict(), 2)
    farthest = found.blocks[7][-1]
    assert (kept.p_values(farthest, 7) >= 2 / 101).all()
    assert (kept.p_values(farthest * 1.01, 7) == 1 / 101).all()
