"""Bars one by one give what a table of them gives, and nothing of what comes after."""

import importlib.util

import numpy as np
import pandas as pd
import pytest
from world.signals import (
    LATER,
    answer,
    make_broken_candles,
    make_candles,
    make_recipe,
    make_rules,
)

from dataset import features
from signals.stream import SignalStream
from utils import DataError

needs_talib = pytest.mark.skipif(
    importlib.util.find_spec("talib") is None,
    reason="needs requirements-features.txt",
)


@pytest.fixture(autouse=True)
def my_set(monkeypatch):
    monkeypatch.setattr(features, "_REGISTRY", dict(features._REGISTRY))

    @features.feature_set("my_set", warm_up_bars=20)
    def mine(candles, context):
        close = candles["close"].to_numpy()
        mean = np.full(len(close), np.nan)
        mean[20:] = np.lib.stride_tricks.sliding_window_view(close, 21).mean(axis=1)
        return pd.DataFrame({"price_to_my_mean": close / mean}, index=candles.index)


@pytest.fixture(scope="module")
def candles():
    return make_broken_candles(make_recipe())[0]


def start(recipe, history=None, **fields):
    return SignalStream(recipe.pipeline, make_rules(recipe, **fields).columns, history)


def feed(stream, table):
    rows = [stream.update(candle, now=LATER) for candle in table.to_dict("records")]
    return pd.DataFrame(rows).reset_index(drop=True)


def assert_same(found, expected, *, atol=0.0):
    assert list(found["timestamp"]) == list(expected["timestamp"])
    assert list(found["status"]) == list(expected["status"])
    for name in ("p_short", "p_hold", "p_long", "tp_price", "size"):
        np.testing.assert_allclose(
            found[name].astype(float), expected[name], rtol=0, atol=atol
        )
    assert list(found["signal"]) == list(expected["signal"])


CASES = [
    (["core8"], ()),
    (["core8_7d"], ("1d",)),
    (["window_stats"], ()),
    (["ray12"], ()),
    (["ray12", "calendar"], ("1d",)),
    (["my_set", "calendar"], ("8h",)),
    pytest.param(["indicators34"], (), marks=needs_talib),
]


@pytest.mark.parametrize(("sets", "higher"), CASES)
def test_a_stream_equals_the_table_across_gap_fill_and_restart(sets, higher):
    recipe = make_recipe(sets, higher_timeframes=higher)
    candles, gap = make_broken_candles(recipe)
    expected = answer(recipe, candles)
    expected = expected[expected["timestamp"].isin(candles["timestamp"])]
    expected = expected.reset_index(drop=True)
    assert {"warming_up", "gap", "ok"} == set(expected["status"])
    assert (expected["signal"] != 1).any()
    atol = 2e-6 if "indicators34" in sets else 0.0
    assert_same(feed(start(recipe), candles), expected, atol=atol)
    # A later start with a history gives the rest, from anywhere.
    for first in (gap - 5, gap + 2, len(candles) - 18):
        found = feed(start(recipe, candles[:first]), candles[first : first + 15])
        assert_same(found, expected[first : first + 15], atol=atol)


@pytest.mark.parametrize(("sets", "higher"), CASES)
def test_what_comes_after_a_bar_changes_nothing_at_it(sets, higher):
    recipe = make_recipe(sets, higher_timeframes=higher)
    candles, _ = make_broken_candles(recipe)
    whole = answer(recipe, candles)
    for last in (recipe.pipeline.min_candles + 2, len(candles) - 4):
        later = candles.copy()
        later.loc[last + 1 :, ["open", "high", "low", "close"]] *= 1.04
        later.loc[last + 1 :, "volume"] *= 50
        known = whole["timestamp"] <= candles["timestamp"][last]
        for table in (candles[: last + 1], later):
            found = answer(recipe, table)[: known.sum()]
            pd.testing.assert_frame_equal(found, whole[known], check_exact=True)


def test_a_filled_bar_has_no_answer_of_its_own(candles):
    recipe = make_recipe()
    rows = answer(recipe, candles).set_index("timestamp")
    filled = rows[rows["status"] == "filled"]
    assert len(filled) == 3 and (filled["signal"] == 1).all()
    assert filled[["p_short", "threshold", "tp_price", "size"]].isna().all(axis=None)


def test_the_same_bar_again_is_nothing_and_another_one_refused():
    candles = make_candles(283)
    stream = start(make_recipe(), candles[:280])
    bars = candles[280:283].to_dict("records")
    assert stream.update(bars[0], now=LATER)["status"] == "ok"
    assert stream.update(bars[0], now=LATER) is None
    with pytest.raises(DataError, match="Received: .*with other values"):
        stream.update(bars[0] | {"volume": 7.0}, now=LATER)
    with pytest.raises(DataError, match="expected the bar after 2024-02-16 16:00:00"):
        stream.update(candles.iloc[278], now=LATER)
    with pytest.raises(DataError, match="high or low that does not enclose"):
        stream.update(bars[1] | {"high": 0.1}, now=LATER)
    for other in (None, candles[281:282], [1.0]):
        with pytest.raises(DataError, match="expected one candle, its values by name"):
            stream.update(other, now=LATER)
    odd = {"timestamp": bars[1]["timestamp"] + pd.Timedelta("1min")}
    with pytest.raises(DataError, match="off the 4h boundary"):
        stream.update(bars[1] | odd, now=LATER)
    with pytest.raises(DataError, match="volume of float32, which has lost bits"):
        stream.update(bars[1] | {"volume": np.float32(1.5)}, now=LATER)
    with pytest.raises(DataError, match="no volume"):
        stream.update({k: v for k, v in bars[1].items() if k != "volume"})
    text = bars[1] | {"timestamp": "2024-02-16T20:00:00Z"}
    assert stream.update(text, now=LATER)["timestamp"] == bars[1]["timestamp"]


def test_an_open_bar_is_told_and_comes_again():
    candles = make_candles(281)
    stream = start(make_recipe(), candles[:280])
    bar = candles.iloc[280]
    early = stream.update(bar, now=bar["timestamp"] + pd.Timedelta("3h"))
    assert early["status"] == "open_bar" and early["signal"] == 1
    assert np.isnan(early["p_short"])
    assert (
        stream.update(bar, now=bar["timestamp"] + pd.Timedelta("4h"))["status"] == "ok"
    )


@pytest.mark.parametrize("returns", [False, True])
def test_a_jump_is_judged_as_in_a_table(candles, returns):
    prices = ["open", "high", "low", "close"]
    table = make_candles(411)
    table.loc[300 : 304 if returns else None, prices] *= 10
    recipe = make_recipe()
    found = feed(start(recipe, table[:290]), table[290:])
    for row in (295, 302, 310, 410):
        [expected] = answer(recipe, table[: row + 1], last=1).to_dict("records")
        assert found["status"][row - 290] == expected["status"], row
        np.testing.assert_equal(found["p_short"][row - 290], expected["p_short"])
    assert found["status"][120] == ("ok" if returns else "gap")


def test_nothing_grows_over_many_bars(candles):
    recipe = make_recipe(["my_set"])
    stream = start(recipe, candles[:50])
    bars = stream._bars
    shapes = [each.shape for each in (bars._stamps, bars._values, bars._features)]
    table = make_candles(400)
    feed(stream, table[50:])
    assert shapes == [
        each.shape for each in (bars._stamps, bars._values, bars._features)
    ]
    expected = answer(recipe, table, last=1)
    assert stream.newest == expected["timestamp"][0]
