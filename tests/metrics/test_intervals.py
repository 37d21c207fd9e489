import math

import numpy as np
import pytest

from metrics.intervals import (
    LONG_ENOUGH,
    Length,
    cosine_interval,
    log_loss_interval,
    mean_interval,
    paired_test,
)

DAY = 86_400


def overlapping_noise(num_rows, horizon, seed):
    """A moving average of noise: the autocorrelation of overlapping labels."""
    rng = np.random.default_rng(seed)
    sums = np.cumsum(np.r_[0.0, rng.standard_normal(num_rows + horizon - 1)])
    return (sums[horizon:] - sums[:-horizon]) / math.sqrt(horizon)


def test_the_interval_is_the_widest_of_a_plain_loop():
    rows = np.random.default_rng(0).standard_normal(50).cumsum()
    found = cosine_interval(rows, length=LONG_ENOUGH)
    mean, errors = sum(rows) / 50, {}
    for count in (4, 6, 8, 12):
        squares = [
            2 / 50 * sum(
                math.cos(math.pi * j * (t + 0.5) / 50) * (rows[t] - mean)
                for t in range(50)
            ) ** 2
            for j in range(1, count + 1)
        ]  # fmt: skip
        errors[count] = math.sqrt(sum(squares) / count / 50)
    # Quantiles of Student's t, 97.5 %, from a printed table.
    table = {4: 2.7764, 6: 2.4469, 8: 2.3060, 12: 2.1788}
    half, widest = max((table[v] * errors[v], v) for v in table)
    assert found["num_cosines"] == widest
    assert found["estimate"] == pytest.approx(mean)
    assert found["high"] - mean == pytest.approx(half, rel=1e-4)
    assert mean - found["low"] == pytest.approx(half, rel=1e-4)
    assert found["standard_error"] == pytest.approx(half / 1.95996, rel=1e-4)


@pytest.mark.parametrize("level", [0.5, 0.95, 1.05, 1.2])
def test_a_log_loss_has_the_interval_of_the_cube_root_of_its_gain(level):
    rows = level + 0.2 * np.random.default_rng(1).standard_normal(40)
    plain = cosine_interval(rows, length=LONG_ENOUGH)
    found = log_loss_interval(rows, length=LONG_ENOUGH, num_classes=3)
    mean, half = plain["estimate"], plain["high"] - plain["estimate"]
    gain, same = math.log(3) - mean, ("estimate", "standard_error", "num_cosines")
    assert [found[key] for key in same] == [plain[key] for key in same]
    if gain < half / 2:
        assert found["low"] == pytest.approx(mean - 49 / 27 * half)
        assert found["high"] == plain["high"]
        return
    root, error = math.cbrt(gain), half / (3 * math.cbrt(gain) ** 2)
    assert math.log(3) - found["low"] == pytest.approx((root + error) ** 3)
    assert math.log(3) - found["high"] == pytest.approx((root - error) ** 3)


def test_a_ratio_is_linearised():
    rng = np.random.default_rng(2)
    loss, reference = rng.random(3000), 1 + rng.random(3000)
    ratio = loss.mean() / reference.mean()
    found = cosine_interval(
        np.stack([loss, reference], axis=1),
        lambda means: 1 - means[..., 0] / means[..., 1],
        length=LONG_ENOUGH,
    )
    rows = (1 - ratio) - (loss - ratio * reference) / reference.mean()
    by_hand = cosine_interval(rows, length=LONG_ENOUGH)
    assert found["estimate"] == pytest.approx(1 - ratio)
    assert found["low"] == pytest.approx(by_hand["low"], rel=1e-6)


@pytest.mark.parametrize(("tau", "least"), [(0, 0.93), (600, 0.93)])
def test_slow_rows_are_covered(tau, least):
    """15,000 minutes of overlapping labels, and of a volatility of ten hours."""
    length = Length.of(15_000, horizon_bars=120, bar_seconds=60)
    decay, hits = math.exp(-1 / tau) if tau else 0.0, 0
    from scipy.signal import lfilter

    for seed in range(200):
        rows = overlapping_noise(15_000, 120, seed)
        if tau:
            noise = np.random.default_rng([1, seed]).standard_normal(18_000)
            rows += lfilter([math.sqrt(1 - decay**2)], [1, -decay], noise)[-15_000:]
        found = cosine_interval(rows, length=length)
        hits += found["low"] <= 0 <= found["high"]
    assert least <= hits / 200


def test_a_short_stretch_has_no_interval():
    for rows, horizon, is_short in (
        (14_399, 120, True),  # a minute less than ten days
        (14_400, 120, False),
        (14_400, 481, True),  # 29.9 horizons
    ):
        length = Length.of(rows, horizon_bars=horizon, bar_seconds=60)
        found = cosine_interval(np.arange(100.0), length=length)
        assert found["estimate"] == 49.5
        assert (found["low"] is None) is is_short, (rows, horizon)
        assert (found["standard_error"] is None) is is_short
    assert Length.of(30, horizon_bars=1, bar_seconds=DAY).days == 30


def test_the_shorter_the_slower():
    fewest = [Length(days=d, horizons=99.0).cosines[0] for d in (10, 14, 21)]
    assert fewest == [2, 3, 4]


def test_an_undefined_statistic_is_none():
    found = cosine_interval(
        np.zeros((100, 2)), lambda m: m[..., 0] / m[..., 1], length=LONG_ENOUGH
    )
    assert found["estimate"] is found["low"] is None
    assert cosine_interval([], length=LONG_ENOUGH)["estimate"] is None
    with pytest.raises(ValueError, match="finite"):
        cosine_interval([1.0, np.nan], length=LONG_ENOUGH)


def test_paired_test_finds_a_difference():
    rng = np.random.default_rng(3)
    losses = rng.random(5000)
    better = losses - 0.02 + 0.1 * overlapping_noise(5000, 10, 4)
    found = paired_test(better, losses, length=LONG_ENOUGH)
    assert found["estimate"] == pytest.approx((better - losses).mean())
    assert found["high"] < 0 and found["p_value"] < 0.05
    swapped = paired_test(losses, better, length=LONG_ENOUGH)
    assert swapped["p_value"] == pytest.approx(found["p_value"])
    assert paired_test(losses, losses, length=LONG_ENOUGH)["p_value"] == 1.0
    short = Length(days=3, horizons=99)
    assert paired_test(better, losses, length=short)["p_value"] is None
    with pytest.raises(ValueError, match="same rows"):
        paired_test([1, 2], [1], length=LONG_ENOUGH)


def test_p_value_and_interval_agree():
    rows = overlapping_noise(3000, 10, 0)
    found = paired_test(rows, np.zeros(3000), length=LONG_ENOUGH)
    # Moved so that the interval ends at 0: p is 0.05 there.
    edge = paired_test(rows - found["low"], np.zeros(3000), length=LONG_ENOUGH)
    assert edge["p_value"] == pytest.approx(0.05, rel=1e-6)


def test_paired_p_values_are_fair():
    p_values = [
        paired_test(
            overlapping_noise(3000, 10, seed), np.zeros(3000), length=LONG_ENOUGH
        )["p_value"]
        for seed in range(200)
    ]
    assert 0.0 < np.mean(np.array(p_values) < 0.05) <= 0.08


def test_the_mean_of_what_may_move_together_is_as_wide_as_its_parts():
    rows = np.random.default_rng(0).normal(0.3, 1.0, 400)
    length = Length(days=400.0, horizons=400.0)
    one = cosine_interval(rows, length=length)
    both = mean_interval([one, one])
    assert [both[k] for k in ("estimate", "low", "high")] == pytest.approx(
        [one[k] for k in ("estimate", "low", "high")]
    )
    other = one | {"low": one["estimate"] - 3.0, "num_cosines": 2}
    assert mean_interval([one, other])["num_cosines"] == 2
    assert (mean_interval([one, other])["p_value"] < 0.05) == (
        mean_interval([one, other])["low"] > 0
    )
    heavier = mean_interval([one, one | {"low": one["low"] - 0.4}], [3, 1])
    assert heavier["low"] == pytest.approx(one["low"] - 0.1)
    assert mean_interval([one, one | {"low": None}])["p_value"] is None
    assert mean_interval([])["estimate"] is None
