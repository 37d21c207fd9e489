"""The made-up market: its recipe, its seed, what its strength changes."""

import numpy as np
import pandas as pd
import pytest

from candles import synthetic
from candles.checks import check_candles
from candles.synthetic import synthetic_candles
from utils import ConfigError


def plain_ar1(rng, length, half_life):
    keep = 0.5 ** (1 / half_life)
    steps = rng.standard_normal(length) * np.sqrt(1 - keep * keep)
    steps[0] = rng.standard_normal()
    out = [steps[0]]
    for step in steps[1:]:
        out.append(keep * out[-1] + step)
    return np.array(out)


def test_ar1_equals_a_plain_loop():
    want = plain_ar1(np.random.default_rng(3), 500, 90)
    found = synthetic._ar1(np.random.default_rng(3), 500, 90)
    np.testing.assert_allclose(found, want, rtol=0, atol=1e-12)


def test_synthetic_market_is_good_and_repeats():
    table = synthetic_candles(5000, seed=7)
    assert check_candles(table).problems == ()
    assert table["open"].iloc[0] == pytest.approx(30000.0)
    assert table.equals(synthetic_candles(5000, seed=7))
    assert not table.equals(synthetic_candles(5000, seed=8))


def test_strength_changes_the_drift_alone():
    none, some = synthetic_candles(2000, strength=0.0), synthetic_candles(2000)
    assert none[["timestamp", "volume"]].equals(some[["timestamp", "volume"]])
    assert not np.allclose(none["close"], some["close"])


def test_volume_announces_the_next_return_only_with_strength():
    def correlation(strength):
        table = synthetic_candles(100_000, strength=strength)
        returns = np.diff(np.log(table["close"]))[1:]
        tilt = np.log(table["volume"].to_numpy()[1:-1])
        return np.corrcoef(tilt, returns)[0, 1]

    assert correlation(1.0) > 0.03
    assert abs(correlation(0.0)) < 0.01


def test_synthetic_market_follows_its_recipe():
    """The recipe of the reference market, written again bar by bar where it matters."""
    n = 200
    rng = np.random.Generator(np.random.PCG64(5))
    log_vol = 0.55 * plain_ar1(rng, n, 600) + 0.25 * plain_ar1(rng, n, 30)
    cycle = 0.35 * np.sin(2 * np.pi * (np.arange(n) * 5 % 1440) / 1440 - 2.0)
    sigma = 0.00075 * np.exp(log_vol + cycle - 0.5 * (0.55**2 + 0.25**2))
    tilt = plain_ar1(rng, n, 90)
    shock = rng.standard_t(5, n) / np.sqrt(5 / 3)
    returns = 0.5 * 0.10 * sigma * np.r_[0.0, tilt[:-1]] + sigma * shock
    close = 30000 * np.exp(np.cumsum(returns - 0.5 * sigma**2))
    table = synthetic_candles(n, seed=5, strength=0.5, timeframe="5m")
    np.testing.assert_allclose(table["close"], close, rtol=1e-12)
    assert table["timestamp"].iloc[1] == pd.Timestamp("2024-01-01 00:05", tz="UTC")


@pytest.mark.parametrize(
    "arguments",
    [
        {"num_bars": 0},
        {"num_bars": 5, "seed": -1},
        {"num_bars": 5, "strength": np.nan},
        {"num_bars": 5, "timeframe": "1x"},
        {"num_bars": 5, "timeframe": "1h", "start": "2024-01-01 00:30"},
        {"num_bars": 5, "start": "soon"},
    ],
)
def test_synthetic_market_checks_its_arguments(arguments):
    with pytest.raises(ConfigError, match="expected.*Received"):
        synthetic_candles(**arguments)
