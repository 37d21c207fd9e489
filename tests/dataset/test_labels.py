"""Labels: hand-made cases, and equality with a plain bar-by-bar loop."""

from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from world.frames import SHARED_DATA

import config
from dataset.labels import (
    EXIT_NAMES,
    direction_target,
    label_candles,
    price_target,
    return_target,
)
from utils import DataError

DATA = SHARED_DATA
SHORT, HOLD, LONG, NONE = 0, 1, 2, -1
TIMEOUT, TP, SL = 0, 1, 2


def bars(*rows, **columns):
    """Candles from (open, high, low, close) rows."""
    table = pd.DataFrame(
        np.array(rows, float), columns=["open", "high", "low", "close"]
    )
    start = pd.Timestamp("2024-01-01", tz="UTC")
    table["timestamp"] = start + pd.Timedelta("1min") * np.arange(len(rows))
    return table.assign(**columns)


FLAT = (100, 100, 100, 100)


def first_row(candles, **options):
    """The outcome of row 0 as plain numbers; take profit 2 %, stop 1 % both ways."""
    options = {
        "future_window": len(candles) - 1,
        "long_tp_pct": 2.0,
        "long_sl_pct": 1.0,
        "short_tp_pct": 2.0,
        "short_sl_pct": 1.0,
        **options,
    }
    row = label_candles(candles, **options).iloc[0]
    long = (int(row.long_exit), int(row.long_exit_bars), round(row.long_return, 12))
    short = (int(row.short_exit), int(row.short_exit_bars), round(row.short_return, 12))
    return int(row.label), int(row.label_end), long, short


def test_names_of_the_codes():
    assert (config.SHORT, config.HOLD, config.LONG) == (SHORT, HOLD, LONG)
    assert config.CLASS_NAMES == ("SHORT", "HOLD", "LONG")
    assert EXIT_NAMES == ("timeout", "tp", "sl")


def test_long_wins():
    candles = bars(FLAT, (100, 100.5, 99.5, 100.2), (100.2, 103, 100, 102.5), FLAT)
    assert first_row(candles) == (LONG, 2, (TP, 2, 0.02), (SL, 2, -0.01))


def test_short_wins():
    candles = bars(FLAT, (100, 100.5, 99.5, 100), (100, 100, 97, 97.5), FLAT)
    assert first_row(candles) == (SHORT, 2, (SL, 2, -0.01), (TP, 2, 0.02))


def test_levels_touched_exactly_count():
    candles = bars(FLAT, (100, 102, 99.5, 101), FLAT)
    assert first_row(candles)[2] == (TP, 1, 0.02)
    candles = bars(FLAT, (100, 100.5, 98, 99), FLAT)
    assert first_row(candles)[3] == (TP, 1, 0.02)


def test_take_profit_and_stop_in_one_bar():
    candles = bars(FLAT, (100, 102, 99, 100), FLAT)
    pessimistic = (HOLD, 1, (SL, 1, -0.01), (SL, 1, -0.01))
    optimistic = (LONG, 1, (TP, 1, 0.02), (SL, 1, -0.01))
    assert first_row(candles) == pessimistic
    assert first_row(candles, tie_policy="optimistic") == optimistic


def test_both_sides_win_in_one_bar():
    # Stops farther than take profits, so that one bar can satisfy both sides.
    candles = bars(FLAT, (100, 102, 98, 100), FLAT)
    options = {"long_sl_pct": 5.0, "short_sl_pct": 5.0}
    outcome = (1, (TP, 1, 0.02), (TP, 1, 0.02))
    assert first_row(candles, **options) == (HOLD, *outcome)
    optimistic = first_row(candles, tie_policy="optimistic", **options)
    assert optimistic == (LONG, *outcome)


def test_both_sides_win_and_the_earlier_decides():
    candles = bars(FLAT, (100, 100, 98, 99), (99, 102, 99, 100), FLAT)
    options = {"long_sl_pct": 5.0, "short_sl_pct": 5.0}
    assert first_row(candles, **options) == (SHORT, 1, (TP, 2, 0.02), (TP, 1, 0.02))
    optimistic = first_row(candles, tie_policy="optimistic", **options)
    assert optimistic == (SHORT, 1, (TP, 2, 0.02), (TP, 1, 0.02))


def test_timeout_closes_at_the_last_bar():
    candles = bars(FLAT, (100, 100.5, 99.5, 100.2), (100.2, 100.9, 100, 100.8))
    assert first_row(candles) == (
        HOLD,
        2,
        (TIMEOUT, 2, 0.008),
        (TIMEOUT, 2, -0.008),
    )


def test_hold_ends_with_its_later_exit():
    candles = bars(FLAT, (100, 101, 99.5, 100), (100, 100.5, 99, 99.5), FLAT)
    assert first_row(candles) == (HOLD, 2, (SL, 2, -0.01), (SL, 1, -0.01))


def test_a_stop_gapped_through_fills_at_the_open():
    candles = bars(FLAT, (97, 97.5, 96.5, 97), FLAT)
    assert first_row(candles, short_tp_pct=5.0)[2] == (SL, 1, -0.03)
    candles = bars(FLAT, (104, 104.5, 103.5, 104), FLAT)
    assert first_row(candles, long_tp_pct=5.0)[3] == (SL, 1, -0.04)


def test_a_take_profit_gapped_through_fills_at_its_level():
    candles = bars(FLAT, (104, 104.5, 103.5, 104), FLAT)
    assert first_row(candles) == (LONG, 1, (TP, 1, 0.02), (SL, 1, -0.04))


def test_the_tail_has_no_outcome():
    table = label_candles(bars(*[FLAT] * 5), future_window=3)
    assert table["label"].to_list() == [HOLD, HOLD, NONE, NONE, NONE]
    assert table["is_target"].to_list() == [True, True, False, False, False]
    for name in ("label_end", "long_exit_bars", "short_exit", "long_exit"):
        assert table[name].iloc[2:].to_list() == [-1, -1, -1]
    assert table[["long_return", "short_return"]].iloc[2:].isna().all(axis=None)
    assert table[["long_return", "short_return"]].iloc[:2].notna().all(axis=None)


def test_a_segment_does_not_see_the_next():
    # Row 2 would win at row 3, but that bar is in the next segment.
    candles = bars(FLAT, FLAT, FLAT, (100, 103, 100, 103), FLAT, FLAT)
    inside = label_candles(candles, future_window=2)
    assert inside["label"].to_list() == [HOLD, LONG, LONG, SHORT, NONE, NONE]
    split = label_candles(candles.assign(segment=[0] * 3 + [5] * 3), future_window=2)
    assert split["label"].to_list() == [HOLD, NONE, NONE, SHORT, NONE, NONE]


def test_without_a_segment_column_gaps_split():
    candles = bars(*[FLAT] * 6)
    candles.loc[3:, "timestamp"] += pd.Timedelta("1min")
    table = label_candles(candles, future_window=2)
    assert table["label"].to_list() == [HOLD, NONE, NONE, HOLD, NONE, NONE]
    without = label_candles(candles.drop(columns="timestamp"), future_window=2)
    assert without["label"].to_list() == [HOLD] * 4 + [NONE] * 2


def test_a_filled_bar_has_an_outcome_but_is_no_target():
    candles = bars(*[FLAT] * 4, is_filled=[False, True, False, False])
    table = label_candles(candles, future_window=2)
    assert table["label"].to_list() == [HOLD, HOLD, NONE, NONE]
    assert table["is_target"].to_list() == [True, False, False, False]


def test_a_doubtful_price_is_in_no_target_and_in_no_target_s_future():
    candles = bars(*[FLAT] * 8, is_doubtful=[False] * 3 + [True] + [False] * 4)
    table = label_candles(candles, future_window=2)
    assert table["label"].to_list() == [HOLD] * 6 + [NONE] * 2
    assert np.flatnonzero(table["is_target"]).tolist() == [0, 4, 5]


def test_columns_types_and_index():
    candles = bars(*[FLAT] * 4).set_index(pd.RangeIndex(10, 14))
    table = label_candles(candles, future_window=2)
    assert table.index.equals(candles.index)
    assert {name: str(kind) for name, kind in table.dtypes.items()} == {
        "label": "int8",
        "label_end": "int32",
        "long_return": "float64",
        "short_return": "float64",
        "long_exit_bars": "int32",
        "short_exit_bars": "int32",
        "long_exit": "int8",
        "short_exit": "int8",
        "is_target": "bool",
    }
    assert len(label_candles(candles.iloc[:0])) == 0
    assert label_candles(candles)["label"].to_list() == [NONE] * 4


# What the open decides, and touches


@pytest.mark.parametrize("tie_policy", ["pessimistic", "optimistic"])
@pytest.mark.parametrize(
    ("bar", "expected"),
    [
        # Opens beyond one level, and touches the other one later.
        ((90, 102, 89, 100), (SHORT, 1, (SL, 1, -0.1), (TP, 1, 0.02))),
        ((103, 104, 98, 100), (LONG, 1, (TP, 1, 0.02), (SL, 1, -0.03))),
        # Opens at a level.
        ((99, 102, 99, 100), (HOLD, 1, (SL, 1, -0.01), (SL, 1, -0.01))),
        ((102, 102, 99, 100), (LONG, 1, (TP, 1, 0.02), (SL, 1, -0.02))),
        ((98, 102, 98, 100), (SHORT, 1, (SL, 1, -0.02), (TP, 1, 0.02))),
    ],
)
def test_what_the_open_decides_is_no_tie(bar, expected, tie_policy):
    assert first_row(bars(FLAT, bar, FLAT), tie_policy=tie_policy) == expected


@pytest.mark.parametrize("tie_policy", ["pessimistic", "optimistic"])
def test_a_side_that_wins_at_the_open_is_the_earlier_one(tie_policy):
    options = {"long_sl_pct": 5.0, "short_sl_pct": 5.0, "tie_policy": tie_policy}
    both = (1, (TP, 1, 0.02), (TP, 1, 0.02))
    assert first_row(bars(FLAT, (103, 103, 97, 99), FLAT), **options) == (LONG, *both)
    assert first_row(bars(FLAT, (97, 103, 97, 99), FLAT), **options) == (SHORT, *both)


@pytest.mark.parametrize("exponent", [-10, -8, -2, 0, 2, 6, 8])
def test_a_touch_is_one_at_any_price(exponent):
    # Every tenth price of the grid has its levels of 1 % and 0.5 % on the grid, too.
    ticks = np.arange(1000, 9990, 10)
    scaled = {
        name: np.array([float(f"{price}e{exponent - 2}") for price in prices])
        for name, prices in {
            "now": ticks * 20,
            "tp": ticks * 20 + ticks // 5,
            "stop": ticks * 20 - ticks // 10,
        }.items()
    }
    for level, low_or_high, code in (("tp", "high", TP), ("stop", "low", SL)):
        flat = np.repeat(scaled["now"], 2)
        candles = pd.DataFrame(dict.fromkeys(("open", "high", "low", "close"), flat))
        candles["segment"] = np.arange(len(candles)) // 2
        touched, missed = candles.copy(), candles.copy()
        touched.loc[1::2, low_or_high] = scaled[level]
        away = 1 - 1e-13 if code == TP else 1 + 1e-13
        missed.loc[1::2, low_or_high] = scaled[level] * away
        for table, expected in ((touched, code), (missed, TIMEOUT)):
            found = label_candles(table, future_window=1)["long_exit"][::2]
            assert (found == expected).all()


# Against a plain loop, in whole numbers: decimal prices and levels without rounding

HUNDRED_PCT = 10**6  # levels in units of a ten-thousandth of a percent


def whole_numbers(column):
    return [int(Decimal(repr(value)).scaleb(20)) for value in column.tolist()]


def loop_exit(candles, row, side, window, pcts, optimistic):
    """One trade followed bar by bar: (code, bars, gross return, known at the open)."""
    entry = candles["close"][row]
    tp_pct, sl_pct = (round(pct * HUNDRED_PCT / 100) for pct in pcts)
    take_profit = entry * (HUNDRED_PCT + side * tp_pct)
    stop = entry * (HUNDRED_PCT - side * sl_pct)

    def earned(price):
        return side * (price / (entry * HUNDRED_PCT) - 1)

    for ahead in range(1, window + 1):
        bar_open, high, low = (
            candles[name][row + ahead] * HUNDRED_PCT for name in ("open", "high", "low")
        )
        best, worst = (high, low) if side == 1 else (low, high)
        if side * bar_open <= side * stop:
            return SL, ahead, earned(bar_open), True
        if side * bar_open >= side * take_profit:
            return TP, ahead, earned(take_profit), True
        wins, loses = side * best >= side * take_profit, side * worst <= side * stop
        if wins and (optimistic or not loses):
            return TP, ahead, earned(take_profit), False
        if loses:
            return SL, ahead, earned(stop), False
    return TIMEOUT, window, earned(candles["close"][row + window] * HUNDRED_PCT), False


def loop_labels(table, window, pcts, tie_policy):
    """The whole rule, row by row, with nothing shared with the module."""
    candles = {n: whole_numbers(table[n]) for n in ("open", "high", "low", "close")}
    segment = table["segment"].tolist()
    optimistic = tie_policy == "optimistic"
    result = []
    for row in range(len(table)):
        last = row + window
        if last >= len(table) or segment[last] != segment[row]:
            result.append((NONE, -1, np.nan, np.nan, -1, -1, -1, -1))
            continue
        long, short = (
            loop_exit(candles, row, side, window, levels, optimistic)
            for side, levels in ((1, pcts[:2]), (-1, pcts[2:]))
        )
        winners = [
            (exit[1], not exit[3], label)
            for exit, label in ((long, LONG), (short, SHORT))
            if exit[0] == TP
        ]
        label, end = HOLD, max(long[1], short[1])
        if winners:
            first = min(winner[:2] for winner in winners)
            among = [winner[2] for winner in winners if winner[:2] == first]
            if len(among) == 1 or optimistic:
                label, end = among[0], first[0]
        exits = (long[2], short[2], long[1], short[1], long[0], short[0])
        result.append((label, end, *exits))
    return np.array(result)


def assert_equals_loop(candles, window, pcts, tie_policy):
    names = ("long_tp_pct", "long_sl_pct", "short_tp_pct", "short_sl_pct")
    table = label_candles(
        candles,
        future_window=window,
        tie_policy=tie_policy,
        **dict(zip(names, pcts, strict=True)),
    )
    expected = loop_labels(candles, window, pcts, tie_policy)
    exact = table.drop(columns=["is_target", "long_return", "short_return"])
    np.testing.assert_array_equal(exact.to_numpy(), expected[:, [0, 1, 4, 5, 6, 7]])
    np.testing.assert_allclose(
        table[["long_return", "short_return"]].to_numpy(),
        expected[:, 2:4],
        rtol=0,
        atol=1e-12,
    )
    assert (table["is_target"] == (expected[:, 0] >= 0)).all()
    return table


def coarse_candles(seed, num_bars=700, exponent=0, start=100):
    """Prices on a grid of `10**exponent`: ties, gaps and exact touches in most bars."""
    rng = np.random.default_rng(seed)
    close = start + np.cumsum(rng.integers(-1, 2, num_bars))
    open_ = close + rng.integers(-2, 3, num_bars)
    high = np.maximum(open_, close) + rng.integers(0, 5, num_bars)
    low = np.minimum(open_, close) - rng.integers(0, 5, num_bars)
    columns = [
        [float(f"{price}e{exponent}") for price in column.tolist()]
        for column in (open_, high, low, close)
    ]
    table = bars(*zip(*columns, strict=True))
    return table.assign(segment=np.repeat([0, 1, 2, 3], [300, 5, 250, num_bars - 555]))


@pytest.mark.parametrize("tie_policy", ["pessimistic", "optimistic"])
@pytest.mark.parametrize("window", [1, 2, 7, 64])
@pytest.mark.parametrize(
    "pcts", [(2, 1, 2, 1), (3, 5, 4, 6), (1, 1, 1, 1), (4, 2, 1.5, 3)]
)
@pytest.mark.parametrize(
    ("exponent", "start"), [(0, 100), (-10, 100), (6, 100), (-3, 200)]
)
def test_equals_a_plain_loop_on_coarse_prices(
    exponent, start, pcts, window, tie_policy
):
    candles = coarse_candles(window, exponent=exponent, start=start)
    assert_equals_loop(candles, window, pcts, tie_policy)


def test_coarse_prices_reach_every_case():
    candles = coarse_candles(0)
    table = label_candles(
        candles,
        future_window=12,
        long_tp_pct=3.0,
        long_sl_pct=5.0,
        short_tp_pct=4.0,
        short_sl_pct=6.0,
    )
    assert set(table["label"]) == {NONE, SHORT, HOLD, LONG}
    # Each stop lies beyond the other side's take profit: it is never hit alone.
    assert set(zip(table["long_exit"], table["short_exit"], strict=True)) == {
        (NONE, NONE),
        (TIMEOUT, TIMEOUT),
        (TIMEOUT, TP),
        (TP, TIMEOUT),
        (TP, TP),
        (TP, SL),
        (SL, TP),
    }
    both = (table["long_exit"] == TP) & (table["short_exit"] == TP)
    same_bar = table["long_exit_bars"] == table["short_exit_bars"]
    assert (both & same_bar).any()
    assert (both & ~same_bar).any()
    # Worse than the level of 0.5 %: the stop was gapped through.
    near = label_candles(candles, future_window=12)
    assert (near["long_return"] < -0.006).any()
    assert (near["short_return"] < -0.006).any()


@pytest.mark.skipif(not DATA.is_dir(), reason="needs ../shared/data")
@pytest.mark.parametrize("tie_policy", ["pessimistic", "optimistic"])
def test_equals_a_plain_loop_on_real_candles(tie_policy):
    candles = pd.read_parquet(DATA / "BTCUSD_BITFINEX-1m.parquet")
    candles = candles.iloc[200_000:203_000].reset_index(drop=True)
    gaps = candles["timestamp"].diff().ne(pd.Timedelta("1min"))
    candles["segment"] = gaps.cumsum()
    table = assert_equals_loop(candles, 30, (1.0, 0.5, 0.8, 0.4), tie_policy)
    assert set(table["label"]) == {NONE, SHORT, HOLD, LONG}
    derived = label_candles(
        candles.drop(columns="segment"),
        future_window=30,
        short_tp_pct=0.8,
        short_sl_pct=0.4,
        tie_policy=tie_policy,
    )
    pd.testing.assert_frame_equal(derived, table)


def test_blocks_do_not_show():
    candles = pd.concat([coarse_candles(seed) for seed in range(60)], ignore_index=True)
    candles["segment"] = np.arange(len(candles)) // 700
    whole = label_candles(candles, future_window=20)
    for first in (0, 32_200, 41_300):
        part = candles.iloc[first : first + 700]
        alone = label_candles(part, future_window=20)
        pd.testing.assert_frame_equal(whole.iloc[first : first + 700], alone)


@pytest.mark.parametrize("row", [3, 50, 298])
def test_earlier_bars_change_nothing(row):
    candles = coarse_candles(5)
    changed = candles.copy()
    prices = ["open", "high", "low", "close"]
    changed.loc[: row - 1, prices] = changed.loc[: row - 1, prices] * 3
    pd.testing.assert_frame_equal(
        label_candles(changed, future_window=9).iloc[row:],
        label_candles(candles, future_window=9).iloc[row:],
    )


# Other targets


def closes(*values, **columns):
    return bars(*[(value,) * 4 for value in values], **columns)


def test_direction_with_a_dead_zone():
    candles = closes(100, 103, 100, 101, 100.5, 200)
    table = direction_target(candles, horizon=2, dead_zone_pct=1.0)
    # +0, -1.94, +0.5, +98 % over two bars.
    assert table["label"].to_list() == [HOLD, SHORT, HOLD, LONG, NONE, NONE]
    assert table["label_end"].to_list() == [2, 2, 2, 2, -1, -1]
    assert table["is_target"].to_list() == [True] * 4 + [False] * 2
    assert table["long_exit"].to_list() == [TIMEOUT] * 4 + [NONE] * 2
    assert table["long_return"].iloc[1] == pytest.approx(101 / 103 - 1)
    assert table["short_return"].iloc[1] == pytest.approx(1 - 101 / 103)
    assert list(table.columns) == list(label_candles(candles).columns)


@pytest.mark.parametrize("exponent", [-8, -2, 0, 8])
def test_a_move_of_just_the_dead_zone_is_flat(exponent):
    for ticks in range(200, 4000, 200):
        moves = (ticks, ticks + ticks // 200, ticks + ticks // 200 + 1, ticks)
        prices = [float(f"{price}e{exponent}") for price in moves]
        table = direction_target(closes(*prices), horizon=1, dead_zone_pct=0.5)
        assert table["label"].iloc[0] == HOLD
        table = direction_target(closes(prices[0], prices[2]), dead_zone_pct=0.5)
        assert table["label"].iloc[0] == LONG


def test_direction_without_a_dead_zone_is_flat_only_when_unchanged():
    table = direction_target(closes(100, 100.01, 100.01, 100))
    assert table["label"].to_list() == [LONG, HOLD, SHORT, NONE]


def test_return_is_the_forward_log_return():
    table = return_target(closes(100, 110, 99), horizon=1)
    assert table["target"].iloc[:2].to_list() == pytest.approx(
        [0.09531017980432493, -0.10536051565782628]
    )
    assert np.isnan(table["target"].iloc[2])
    assert table["is_target"].to_list() == [True, True, False]
    assert "label" not in table.columns


def test_price_is_the_future_close():
    candles = closes(100, 110, 99, 120, segment=[0, 0, 1, 1])
    table = price_target(candles, horizon=1)
    assert table["target"].fillna(-1).to_list() == [110, -1, 120, -1]
    assert table["is_target"].to_list() == [True, False, True, False]


@pytest.mark.parametrize("make", [direction_target, return_target, price_target])
def test_targets_end_with_their_segment_and_skip_filled_bars(make):
    candles = closes(
        *range(100, 110),
        segment=[0] * 4 + [1] * 6,
        is_filled=[False, True] + [False] * 8,
    )
    table = make(candles, horizon=3)
    assert np.flatnonzero(table["is_target"]).tolist() == [0, 4, 5, 6]
    assert np.flatnonzero(table["label_end"] == 3).tolist() == [0, 4, 5, 6]
    assert table["long_return"].notna().sum() == 4
    if "target" in table:
        assert table["target"].notna().sum() == 4
    else:
        assert (table["label"] == NONE).sum() == 6


# Refusals


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"future_window": 0}, "Received: future_window=0"),
        ({"future_window": 1.5}, "whole number of bars"),
        ({"future_window": True}, "whole number of bars"),
        ({"long_tp_pct": 0.0}, "`long_tp_pct`: expected a percentage"),
        ({"short_sl_pct": 100.1}, "Received: short_sl_pct=100.1"),
        ({"long_sl_pct": float("nan")}, "`long_sl_pct`"),
        ({"tie_policy": "hopeful"}, "'pessimistic' or 'optimistic'"),
    ],
)
def test_arguments_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        label_candles(bars(FLAT), **options)


def test_targets_refuse_bad_arguments():
    with pytest.raises(ValueError, match="Received: horizon=0"):
        return_target(bars(FLAT), horizon=0)
    with pytest.raises(ValueError, match="`dead_zone_pct`"):
        direction_target(bars(FLAT), dead_zone_pct=-1)


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0, -1.0])
def test_impossible_prices_are_named(value):
    candles = bars(*[FLAT] * 4)
    candles.loc[2, "low"] = value
    with pytest.raises(DataError, match="'low', first at row 2"):
        label_candles(candles, future_window=1)


def test_missing_columns_are_named():
    with pytest.raises(DataError, match="missing open, close"):
        label_candles(bars(FLAT).drop(columns=["open", "close"]))
