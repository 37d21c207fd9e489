"""Features: literal small cases, and the promise that they only look back."""

import importlib.util
import sys

import numpy as np
import pandas as pd
import pytest
from world.frames import SHARED_DATA

from candles.columns import VALUES
from candles.timestamps import nanoseconds_of
from dataset import features
from dataset.features import compute_features, feature_names, warm_up_bars
from dataset.indicators import (
    exponential_mean,
    fold_window,
    rolling_mean,
    rolling_mean_std,
)
from utils import ConfigError, DataError, DependencyError, duration_seconds

DATA = SHARED_DATA
BUILT_IN = ("core8", "core8_7d", "window_stats", "ray12", "indicators34", "calendar")
needs_talib = pytest.mark.skipif(
    importlib.util.find_spec("talib") is None,
    reason="needs requirements-features.txt",
)
EVERY_SET = [
    "core8",
    "core8_7d",
    "window_stats",
    "ray12",
    pytest.param("indicators34", marks=needs_talib),
    "calendar",
    "my_set",
]


@pytest.fixture(autouse=True)
def my_set(monkeypatch):
    """A user's set in five lines, gone after the test."""
    monkeypatch.setattr(features, "_REGISTRY", dict(features._REGISTRY))

    @features.feature_set("my_set", warm_up_bars=20)
    def mine(candles, context):
        mean = candles["close"].rolling(21).mean()
        return pd.DataFrame({"price_to_my_mean": candles["close"] / mean})


def make_candles(num_bars, *, seed=0, timeframe="4h", flat=True):
    """A random walk with silent bars, and a stretch where nothing moves."""
    rng = np.random.default_rng(seed)
    close = 0.1 * np.exp(np.cumsum(0.01 * rng.standard_normal(num_bars)))
    open_ = np.r_[close[0], close[:-1]]
    high = np.maximum(open_, close) * (1 + 0.005 * rng.random(num_bars))
    low = np.minimum(open_, close) * (1 - 0.005 * rng.random(num_bars))
    volume = rng.lognormal(0, 2, num_bars) * (rng.random(num_bars) > 0.2)
    if flat:
        still = slice(num_bars // 3, num_bars // 3 + 60)
        price = close[num_bars // 3 - 1]
        for values in (open_, high, low, close):
            values[still] = price
        volume[still] = 0
    step = pd.Timedelta(seconds=duration_seconds(timeframe))
    start = pd.Timestamp("2024-01-01", tz="UTC")
    return pd.DataFrame(
        {
            "timestamp": start + step * np.arange(num_bars),
            "open": open_,
            "high": high,
            "low": low,
            "close": close,
            "volume": volume,
        }
    )


def assert_same_bits(left, right):
    left, right = left.reset_index(drop=True), right.reset_index(drop=True)
    assert list(left.columns) == list(right.columns)
    assert left.to_numpy().tobytes() == right.to_numpy().tobytes()


# Values


def test_core8_of_hand_made_bars():
    # At 1d there is no mean of a day and the month is 30; after 29 equal bars two
    # moving ones.
    candles = pd.DataFrame(
        {
            "open": [100.0] * 31,
            "high": [100.0] * 29 + [110.0, 121.0],
            "low": [100.0] * 29 + [95.0, 99.0],
            "close": [100.0] * 29 + [110.0, 99.0],
            "volume": [10.0] * 29 + [40.0, 0.0],
        }
    )
    table = compute_features(candles, timeframe="1d")
    assert list(table.columns) == [
        "high_change",
        "low_change",
        "close_change",
        "volume_change",
        "price_to_ma30",
        "volume_to_ma30",
    ]
    assert table.iloc[:29].isna().all(axis=None)
    mean_29 = (29 * 100 + 110) / 30
    assert table.iloc[29].to_list() == pytest.approx(
        [10, -5, 10, 300, 110 / mean_29, 40 / 11], rel=1e-6
    )
    # Against the previous close 110, not the bar's own open 100.
    mean_30 = (28 * 100 + 110 + 99) / 30
    assert table.iloc[30].to_list() == pytest.approx(
        [10, -10, -10, -100, 99 / mean_30, 0], rel=1e-6
    )


def test_core8_7d_is_core8_with_a_week_for_the_month():
    candles = make_candles(300)
    month = compute_features(candles, timeframe="4h")
    week = compute_features(candles, timeframe="4h", feature_sets=["core8_7d"])
    assert list(week.columns) == [name.replace("180", "42") for name in month.columns]
    assert warm_up_bars(["core8_7d"], "4h") == 41
    assert_same_bits(week.iloc[179:, :5], month.iloc[179:, :5])
    close = candles["close"]
    assert week["price_to_ma42"].iloc[41] == pytest.approx(
        close[41] / close[:42].mean(), rel=1e-6
    )
    assert feature_names(["core8_7d"], "1d")[4:] == ("price_to_ma7", "volume_to_ma7")
    assert warm_up_bars(["core8_7d"], "1w") == 1


def test_volume_from_nothing_is_no_change_and_ratio_one():
    candles = make_candles(40, timeframe="1d", flat=False).assign(volume=0.0)
    candles.loc[35, "volume"] = 7.0
    table = compute_features(candles, timeframe="1d")
    assert table["volume_change"].iloc[29:].to_list() == [0.0] * 6 + [
        0.0,
        -100,
        0,
        0,
        0,
    ]
    assert table["volume_to_ma30"].iloc[34] == 1.0
    assert table["volume_to_ma30"].iloc[35] == 30.0


def test_the_calendar_is_that_of_the_close():
    # Monday's last hour closes on Tuesday at 00:00, when a funding is due.
    hours = pd.date_range("2024-01-01 22:00", periods=4, freq="1h", tz="UTC")
    candles = make_candles(4, timeframe="1h").assign(timestamp=hours)
    table = compute_features(candles, timeframe="1h", feature_sets=["calendar"])
    angles = {
        "hour": [23 / 24, 0, 1 / 24, 2 / 24],
        "weekday": [0, 1 / 7, 1 / 7, 1 / 7],
        "to_funding": [1 / 8, 0, 7 / 8, 6 / 8],
    }
    for name, turns in angles.items():
        for part, function in (("sin", np.sin), ("cos", np.cos)):
            expected = function(2 * np.pi * np.array(turns))
            np.testing.assert_allclose(table[f"{name}_{part}"], expected, atol=1e-7)
    sunday = hours - pd.Timedelta("2D")  # 2023-12-30, a Saturday, until midnight
    table = compute_features(
        candles.assign(timestamp=sunday), timeframe="1h", feature_sets=["calendar"]
    )
    expected = np.sin(2 * np.pi * np.array([5, 6, 6, 6]) / 7)
    np.testing.assert_allclose(table["weekday_sin"], expected, atol=1e-7)


def test_the_calendar_leaves_out_what_the_length_of_a_bar_makes_constant():
    every = feature_names(["calendar"], "1m")
    assert len(every) == 6 and feature_names(["calendar"], "1h") == every
    assert feature_names(["calendar"], "8h") == every[:4]
    week = ("weekday_sin", "weekday_cos")
    assert feature_names(["calendar"], "12h") == ("hour_cos", *week, "to_funding_cos")
    assert feature_names(["calendar"], "1d") == week
    assert feature_names(["calendar"], "1w") == ()
    with pytest.raises(DataError, match="columns timestamp"):
        compute_features(
            make_candles(9).drop(columns="timestamp"),
            timeframe="4h",
            feature_sets=["calendar"],
        )


@pytest.mark.parametrize(
    ("timeframe", "windows"),
    [
        ("1m", (1440, 43200)),
        ("5m", (288, 8640)),
        ("1h", (24, 720)),
        ("4h", (6, 180)),
        # A mean of one bar would be the bar itself.
        ("1d", (30,)),
        ("1w", (4,)),
        ("8w", (2,)),
    ],
)
def test_windows_follow_the_timeframe(timeframe, windows):
    assert feature_names(["core8"], timeframe)[4:] == (
        *(f"price_to_ma{bars}" for bars in windows),
        *(f"volume_to_ma{bars}" for bars in windows),
    )
    assert warm_up_bars(["core8"], timeframe) == windows[-1] - 1


@needs_talib
def test_names_and_warm_up_without_data():
    assert [len(feature_names([name], "1m")) for name in BUILT_IN] == [
        *(8, 8, 64, 12, 34),
        6,
    ]
    warm_ups = [warm_up_bars([name], "1m") for name in BUILT_IN]
    assert warm_ups == [43199, 10079, 43318, 255, 300, 0]
    assert feature_names(["ray12"], "1m") == (
        "price_change",
        "high_low_ratio",
        "open_close_ratio",
        "price_to_ma5",
        "price_to_ma10",
        "price_to_ma20",
        "volatility_5_pct",
        "volatility_10_pct",
        "volume_ma5_to_ma20",
        "volume_to_ma5",
        "rsi_14",
        "macd_pct",
    )
    assert feature_names(["ray12"], "1m", raw_prices=True)[3:9] == (
        "ma_5",
        "ma_10",
        "ma_20",
        "volatility_5",
        "volatility_10",
        "volume_ma_5",
    )


@needs_talib
def test_sets_combine_with_each_name_once():
    candles = make_candles(700)
    names = feature_names(["ray12", "indicators34"], "4h")
    # Shared: three ratios to means, two plain ratios, RSI and the MACD line.
    assert len(names) == 12 + 34 - 5
    table = compute_features(
        candles, timeframe="4h", feature_sets=["ray12", "indicators34"]
    )
    assert tuple(table.columns) == names
    assert table.notna().all(axis=1).to_list() == [False] * 300 + [True] * 400
    alone = compute_features(candles, timeframe="4h", feature_sets=["ray12"])
    assert_same_bits(table.iloc[300:, :12], alone.iloc[300:])


def test_ray12_follows_its_pandas_definition():
    candles = make_candles(600)
    table = compute_features(
        candles, timeframe="4h", feature_sets=["ray12"], raw_prices=True
    )
    close, volume = candles["close"], candles["volume"]
    change = close.diff()
    gain = change.clip(lower=0).rolling(14).mean()
    loss = -change.clip(upper=0).rolling(14).mean()
    expected = {
        "price_change": close.pct_change(),
        "ma_20": close.rolling(20).mean(),
        "volatility_5": close.rolling(5).std(),
        "volume_ma_5": volume.rolling(5).mean(),
        "rsi_14": 100 - 100 / (1 + gain / loss),
        "macd": close.ewm(span=12).mean() - close.ewm(span=26).mean(),
    }
    moving = np.r_[255:600][~np.isin(np.r_[255:600], np.r_[200:275])]
    for name, values in expected.items():
        np.testing.assert_allclose(
            table[name].iloc[moving], values.iloc[moving], rtol=1e-5, atol=1e-8
        )
    assert table["rsi_14"].iloc[258] == 50  # nothing moved for 14 bars
    assert table["volatility_5"].iloc[258] == 0


@needs_talib
def test_indicators34_agree_with_pandas_where_conventions_meet():
    candles = make_candles(900, flat=False)
    table = compute_features(
        candles, timeframe="4h", feature_sets=["indicators34"], raw_prices=True
    )
    close, high, low = candles["close"], candles["high"], candles["low"]
    volume, typical = candles["volume"], (high + low + close) / 3
    span = close.ewm(span=12, adjust=False).mean()
    previous = close.shift()
    true_range = np.maximum(high, previous) - np.minimum(low, previous)
    spread = close.rolling(20).std(ddof=0)
    place = ((close - low) - (high - close)) / (high - low)
    lowest, highest = low.rolling(14).min(), high.rolling(14).max()
    fast = 100 * (close - lowest) / (highest - lowest)
    expected = {
        "sma_50": close.rolling(50).mean(),
        "ema_12": span,
        "macd": span - close.ewm(span=26, adjust=False).mean(),
        "stoch_k": fast.rolling(3).mean(),
        "stoch_d": fast.rolling(3).mean().rolling(3).mean(),
        "roc_12": 100 * close.pct_change(12),
        "atr_14": true_range.rolling(14).mean(),
        "bb_upper": close.rolling(20).mean() + 2 * spread,
        "bb_width": 4 * spread / close.rolling(20).mean(),
        "keltner_lower": close.ewm(span=20, adjust=False).mean()
        - 2 * true_range.rolling(20).mean(),
        "obv_20": (np.sign(close.diff()) * volume).rolling(20).sum(),
        "ad_20": (place * volume).rolling(20).sum(),
        "vwap_20": (typical * volume).rolling(20).sum() / volume.rolling(20).sum(),
        "volume_to_ma20": volume / volume.rolling(20).mean(),
        "log_returns": np.log(close).diff(),
    }
    for name, values in expected.items():
        np.testing.assert_allclose(
            table[name].iloc[300:], values.iloc[300:], rtol=1e-5, atol=1e-7
        )


@needs_talib
def test_indicators34_stay_neutral_where_nothing_moves():
    table = compute_features(
        make_candles(1200), timeframe="4h", feature_sets=["indicators34"]
    )
    still = table.iloc[459]
    assert still["rsi_14"] == 50
    assert still["bb_position"] == 0.5
    assert still["cci_20"] == 0
    assert still["obv_20"] == 0
    assert still["ad_20"] == 0
    assert still["price_to_vwap20"] == pytest.approx(1, abs=1e-6)
    assert still["volume_to_ma20"] == 1


def test_indicators34_without_talib_names_the_file(monkeypatch):
    monkeypatch.setitem(sys.modules, "talib", None)
    with pytest.raises(DependencyError, match=r"requirements-features\.txt"):
        compute_features(
            make_candles(400), timeframe="4h", feature_sets=["indicators34"]
        )


# Looking back only


@pytest.mark.parametrize("name", EVERY_SET)
@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("raw_prices", [False, True])
def test_later_bars_change_nothing(name, seed, raw_prices):
    candles = make_candles(700, seed=seed)
    options = {"timeframe": "4h", "feature_sets": [name], "raw_prices": raw_prices}
    whole = compute_features(candles, **options)
    for row in np.random.default_rng(seed).integers(310, 699, 4):
        later = make_candles(700, seed=seed + 100)
        later[["open", "high", "low", "close"]] *= 1000
        later["volume"] *= 1e9
        changed = pd.concat([candles.iloc[: row + 1], later.iloc[row + 1 :]])
        assert_same_bits(
            compute_features(changed, **options).iloc[: row + 1], whole.iloc[: row + 1]
        )
        prefix = compute_features(candles.iloc[: row + 1], **options)
        assert_same_bits(prefix, whole.iloc[: row + 1])


@pytest.mark.parametrize(
    "name", ["core8", "core8_7d", "window_stats", "ray12", "calendar"]
)
def test_the_start_of_the_table_leaves_no_trace(name):
    candles = make_candles(900)
    candles.loc[:100, "volume"] = 1e12
    options = {"timeframe": "4h", "feature_sets": [name]}
    warm_up = warm_up_bars([name], "4h")
    whole = compute_features(candles, **options)
    for first in (1, 137, 300):
        tail = compute_features(candles.iloc[first:], **options)
        assert_same_bits(tail.iloc[warm_up:], whole.iloc[first + warm_up :])


@pytest.mark.parametrize("raw_prices", [False, True])
def test_the_newest_features_need_no_table(raw_prices):
    candles = make_candles(500)
    options = {"timeframe": "4h", "raw_prices": raw_prices}
    for names in (["core8", "core8_7d"], ["window_stats"], ["ray12", "calendar"]):
        warm_up = warm_up_bars(names, "4h")
        columns = {name: candles[name].to_numpy()[: warm_up + 1] for name in VALUES}
        columns["timestamp"] = nanoseconds_of(candles["timestamp"])[: warm_up + 1]
        found = features.newest_features(columns, feature_sets=names, **options)
        table = compute_features(candles, feature_sets=names, **options)
        assert found.tobytes() == table.to_numpy()[warm_up].tobytes()
    # A function of one's own is promised a table.
    mixed = ["ray12", "my_set"]
    assert features.newest_features(columns, feature_sets=mixed, **options) is None


@needs_talib
def test_the_start_is_under_rounding_for_recursive_indicators():
    candles = make_candles(900, flat=False)
    options = {"timeframe": "4h", "feature_sets": ["indicators34"]}
    whole = compute_features(candles, **options).iloc[437 + 300 :]
    tail = compute_features(candles.iloc[437:], **options).iloc[300:]
    np.testing.assert_allclose(tail, whole, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("name", EVERY_SET)
def test_every_segment_starts_anew(name):
    candles = make_candles(1500).assign(segment=np.repeat([4, 7, 9], [600, 30, 870]))
    options = {"timeframe": "4h", "feature_sets": [name]}
    warm_up = warm_up_bars([name], "4h")
    table = compute_features(candles, **options)
    row = np.arange(1500)
    expected = ((row >= warm_up) & (row < 600)) | (row >= 630 + warm_up)
    expected |= (row >= 600 + warm_up) & (row < 630)
    assert (table.notna().all(axis=1) == expected).all()
    assert (table.isna().any(axis=1) == ~expected).all()
    assert np.isfinite(table[expected]).all(axis=None)
    alone = compute_features(candles.iloc[630:].drop(columns="segment"), **options)
    assert_same_bits(table.iloc[630:], alone)


def test_without_a_segment_column_gaps_split():
    candles = make_candles(500)
    candles.loc[300:, "timestamp"] += pd.Timedelta("4h")
    table = compute_features(candles, timeframe="4h")
    valid = [False] * 179 + [True] * 121 + [False] * 179 + [True] * 21
    assert table.notna().all(axis=1).to_list() == valid


def test_index_and_types_are_kept():
    candles = make_candles(200).set_index(pd.RangeIndex(50, 250))
    table = compute_features(candles, timeframe="4h")
    assert table.index.equals(candles.index)
    assert set(table.dtypes) == {np.dtype(np.float32)}
    assert compute_features(candles.iloc[:0], timeframe="4h").shape == (0, 8)
    assert compute_features(candles.iloc[:9], timeframe="4h").isna().all(axis=None)


# The registry


def test_unknown_sets_are_refused_with_a_suggestion():
    with pytest.raises(ConfigError, match="Did you mean 'core8'"):
        feature_names(["core9"])
    with pytest.raises(ConfigError, match="expected a list"):
        warm_up_bars("core8")
    with pytest.raises(ConfigError, match="expected a list"):
        warm_up_bars([])


def test_a_registered_set_is_used_like_a_built_in_one():
    candles = make_candles(400)
    table = compute_features(candles, timeframe="4h", feature_sets=["core8", "my_set"])
    assert table.columns[-1] == "price_to_my_mean"
    assert warm_up_bars(["my_set"]) == 20
    assert "my_set" in features.feature_set_names()


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda c, _: c[["close"]].iloc[1:], "one row for each of"),
        (lambda c, _: {"a": c["close"], "b": c["close"].iloc[1:]}, "one row for each"),
        (lambda c, _: c["close"], "expected a DataFrame"),
        (lambda c, _: c[["close"]] / 0, "finite values after its warm-up"),
        (lambda c, _: c[["close"]].shift(3), "2 bad values in 'close', first at row 1"),
        (lambda c, _: c[["close", "close"]], "'close' more than once"),
        (lambda c, _: c[["close"]].add_suffix(str(c.close.iat[0])), "for any candles"),
    ],
)
def test_a_set_that_breaks_its_contract_is_refused(function, message):
    features.register_feature_set("bad", function, warm_up_bars=1)
    with pytest.raises(DataError, match=message):
        compute_features(make_candles(90), timeframe="4h", feature_sets=["bad"])


def test_one_name_with_two_meanings_is_refused():
    features.register_feature_set(
        "other", lambda c, _: pd.DataFrame({"close_change": c["close"]}), warm_up_bars=0
    )
    with pytest.raises(DataError, match="Rename the column"):
        compute_features(
            make_candles(200), timeframe="4h", feature_sets=["core8", "other"]
        )


def test_registration_refuses_unusable_arguments():
    with pytest.raises(ValueError, match="letters, digits and underscores"):
        features.register_feature_set("my set", lambda c, _: c, warm_up_bars=0)
    with pytest.raises(ValueError, match="at least 0"):
        features.register_feature_set("mine", lambda c, _: c, warm_up_bars=-1)


def test_missing_columns_are_named():
    with pytest.raises(DataError, match="missing volume"):
        compute_features(make_candles(9).drop(columns="volume"), timeframe="4h")


# Windows


@pytest.mark.parametrize("window", [1, 2, 3, 7, 8, 30, 99, 100, 101])
def test_folded_windows_equal_plain_ones(window):
    values = np.random.default_rng(0).standard_normal(100)
    plain = pd.Series(values).rolling(window)
    np.testing.assert_allclose(rolling_mean(values, window), plain.mean(), rtol=1e-12)
    if window > 1:
        mean, std = rolling_mean_std(values, window)
        np.testing.assert_allclose(mean, plain.mean(), rtol=1e-9)
        np.testing.assert_allclose(std, plain.std(), rtol=1e-9)


def test_windows_fold_older_bars_in_order():
    def join(newer, older, num_newer, num_older):
        return older * 10**num_newer + newer

    digits = np.array([[1.0, 2, 3, 4, 5, 6, 7]])
    assert fold_window(digits, 5, join)[0, 4:].tolist() == [12345, 23456, 34567]


def test_equal_values_have_no_deviation_and_no_drift():
    values = np.r_[1e12, np.full(300, 0.1)]
    assert rolling_mean_std(values, 20)[1][20:].tolist() == [0.0] * 281
    assert set(rolling_mean(values, 16)[16:]) == {0.1}
    np.testing.assert_allclose(exponential_mean(values, 26)[257:], 0.1, rtol=1e-14)


# Real candles


@pytest.mark.skipif(not DATA.is_dir(), reason="needs ../shared/data")
def test_real_minutes_keep_the_promised_rows():
    candles = pd.read_parquet(DATA / "ETHUSDT-1m.parquet")
    table = compute_features(candles, timeframe="1m")
    valid = table.notna().all(axis=1)
    assert int(valid.sum()) == 87_840 - 43_199
    assert not valid.iloc[:43_199].any()
    close, volume = candles["close"], candles["volume"]
    np.testing.assert_allclose(
        table["price_to_ma43200"][valid],
        (close / close.rolling(43_200).mean())[valid],
        rtol=1e-6,
    )
    np.testing.assert_allclose(
        table["volume_to_ma1440"][valid],
        (volume / volume.rolling(1440).mean())[valid],
        rtol=1e-5,
    )
    np.testing.assert_allclose(
        table["close_change"][valid], 100 * close.pct_change()[valid], rtol=1e-5
    )
