"""Prices from one bar to the next: jumps, slips, glitches, exchanged columns."""

import numpy as np
import pytest

from candles.checks import check_candles
from candles.columns import PRICES
from candles.jumps import find_jumps
from candles.synthetic import synthetic_candles

PRICES = list(PRICES)


def market(num_bars=400, seed=3):
    """A quiet market of minutes, each opening at the close before it."""
    return synthetic_candles(num_bars, seed=seed)


def changed(rows, columns, factor):
    table = market()
    table.loc[rows, columns] *= factor
    return table


def exchanged(first, last):
    table = market()
    crossed = table.loc[first:last, ["close", "open"]].to_numpy().copy()
    table.loc[first:last, ["open", "close"]] = crossed
    return table


@pytest.mark.parametrize("timeframe_bars", [1, 6])
def test_a_market_that_goes_on_has_no_doubts(timeframe_bars):
    table = market(3000).iloc[::timeframe_bars].reset_index(drop=True)
    found = find_jumps(table, f"{timeframe_bars}m")
    assert found.doubts == ()
    assert (len(found.bad_rows), len(found.cut_rows)) == (0, 0)


@pytest.mark.parametrize(
    ("factor", "words"),
    [
        (1000.0, "times 1000"),
        (1e-3, "divided by 1000"),
        (0.25, "divided by 4"),
        (1e6, "times 1,000,000"),
        (1 / 1.5, "divided by 1.5"),
        (1.3, "times 1.3"),
    ],
)
def test_a_jump_that_stays_ends_what_was_before(factor, words):
    table = changed(slice(100, None), PRICES, factor)
    found = find_jumps(table, "1m")
    assert (found.bad_rows.tolist(), found.cut_rows.tolist()) == ([], [100])
    (line,) = found.doubts
    assert line.startswith("the price jumps and stays: 1, row 100 (2024-01-01 01:40) ")
    assert words in line
    # Scale and unit of the price change nothing.
    table[PRICES] *= 1e-7
    assert find_jumps(table, "1m").doubts == found.doubts


@pytest.mark.parametrize("bars", [1, 20])
@pytest.mark.parametrize("factor", [10.0, 0.1])
def test_a_slip_of_the_decimal_point_is_its_rows(bars, factor):
    found = find_jumps(changed(slice(100, 99 + bars), PRICES, factor), "1m")
    assert found.bad_rows.tolist() == [*range(100, 100 + bars)]
    assert found.cut_rows.tolist() == []
    assert found.doubts[0].startswith("the price is off, for at most 200 bars: 1, row")


@pytest.mark.parametrize(
    ("columns", "factor", "words"),
    [
        (["high"], 1e6, "a high or low far from its bar: 1, row 77 "),
        (["low"], 0.01, "a high or low far from its bar: 1, row 77 "),
        (["close", "high"], 10.0, "the price is off, "),
        (["open", "low"], 0.8, "the price is off, "),
    ],
)
def test_a_glitch_of_one_price_is_one_row(columns, factor, words):
    found = find_jumps(changed([77], columns, factor), "1m")
    assert (found.bad_rows.tolist(), found.cut_rows.tolist()) == ([77], [])
    (line,) = found.doubts
    assert line.startswith(words)


def test_a_bar_that_opens_before_a_jump_and_closes_behind_it_stands_alone():
    table = changed(slice(151, None), PRICES, 1000.0)
    table.loc[150, ["close", "high"]] *= 1000
    found = find_jumps(table, "1m")
    assert (found.bad_rows.tolist(), found.cut_rows.tolist()) == ([150], [150, 151])


def test_what_missing_bars_explain_is_no_jump():
    walk = np.exp(np.cumsum(np.random.default_rng(0).normal(0, 0.03, 1000)))
    table = market(1000)
    for name in PRICES:
        table[name] = walk
    sparse = table.iloc[np.r_[0:300, 650:1000]].reset_index(drop=True)
    assert find_jumps(sparse, "1m").doubts == ()
    far = changed(slice(120, None), PRICES, 1.3).drop(index=range(110, 120))
    found = find_jumps(far.reset_index(drop=True), "1m")
    assert found.cut_rows.tolist() == [110]


@pytest.mark.parametrize(("first", "last"), [(0, 399), (100, 160)])
def test_open_and_close_exchanged(first, last):
    found = find_jumps(exchanged(first, last), "1m")
    rows = found.bad_rows
    assert abs(int(rows[0]) - first) <= 3 and abs(int(rows[-1]) - last) <= 3
    assert len(rows) == rows[-1] - rows[0] + 1
    assert found.doubts[0].startswith("open and close look exchanged in ")


def test_a_price_that_stands_still_to_the_end():
    table = market()
    table.loc[250:, PRICES] = table["close"][249]
    assert find_jumps(table, "1m").doubts == ()  # it is still traded
    table.loc[250:, "volume"] = 0.0
    assert find_jumps(table, "1m").doubts == (
        "price and volume stand still to the end: the last 150 bars, from row 250 "
        "(2024-01-01 04:10) on",
    )
    # Quiet hours that the market has had before say nothing.
    table.loc[:140, PRICES] = 3.0
    table.loc[:140, "volume"] = 0.0
    table.loc[141:250] = market().loc[141:250]
    assert not any("stand still" in line for line in find_jumps(table, "1m").doubts)


def test_a_doubt_never_stands_beside_no_problems():
    report = check_candles(changed(slice(100, None), PRICES, 50.0))
    assert report.problems == ()
    assert "problems: none" not in report.summary()
    assert report.summary().splitlines()[-1].startswith("doubtful: the price jumps")
    assert check_candles(market()).summary().endswith("problems: none")


def test_prices_of_few_steps_do_not_jump():
    table = market()
    for name in PRICES:
        table[name] = 2e-8
    table.loc[200:, "close"] = table.loc[200:, "high"] = 3e-8
    table.loc[201:, ["open", "low"]] = 3e-8
    assert find_jumps(table, "1m").doubts == ()
    assert find_jumps(table.iloc[:3], "1m").doubts == ()
