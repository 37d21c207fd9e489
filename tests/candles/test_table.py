"""Candle tables: several files, checks, timeframes, gaps, resampling, the market."""

import logging

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from world.frames import SHARED_DATA

from candles.__main__ import main
from candles.checks import check_candles
from candles.synthetic import synthetic_candles
from candles.table import fill_gaps, longest_fill, read_candles, resample_candles
from utils import ConfigError, DataError, MissingInputError, duration_seconds

DATA = SHARED_DATA
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the real candles are absent")
NAMES = ["timestamp", "open", "high", "low", "close", "volume"]


def market(minutes, **columns):
    """Candles at these minutes of 2024-01-01, all prices 10 and volume 1."""
    values = {"open": 10.0, "high": 10.0, "low": 10.0, "close": 10.0, "volume": 1.0}
    stamps = pd.Timestamp("2024-01-01", tz="UTC").as_unit("ns")
    stamps = stamps + pd.to_timedelta(list(minutes), unit="min").as_unit("ns")
    table = pd.DataFrame({"timestamp": stamps, **values})
    return table.assign(**columns)


def minutes_of(table):
    start = pd.Timestamp("2024-01-01", tz="UTC")
    return ((table["timestamp"] - start) / pd.Timedelta("1min")).astype(int).tolist()


def save(table, path):
    table.to_csv(path, index=False)
    return path


def same(left, right):
    pd.testing.assert_frame_equal(left, right, check_freq=False, check_exact=True)


# Reading


def test_columns_types_and_index(tmp_path):
    table = read_candles(save(market(range(3)), tmp_path / "a.csv"))
    assert list(table.columns) == NAMES
    assert [str(kind) for kind in table.dtypes] == ["datetime64[ns, UTC]"] + [
        "float64"
    ] * 5
    assert table.index.equals(pd.RangeIndex(3))


def test_files_are_joined_in_time_order(tmp_path):
    late = save(market(range(3, 6)), tmp_path / "a.csv")
    early = save(market(range(3)), tmp_path / "b.csv")
    same(read_candles([late, str(early)]), market(range(6)))


def test_identical_overlap_is_merged_and_a_gap_is_filled_by_another_file(
    tmp_path, caplog
):
    caplog.set_level(logging.INFO)
    first = save(market([0, 1, 2, 5, 6]), tmp_path / "a.csv")
    second = save(market([2, 3, 4, 5]), tmp_path / "b.csv")
    same(read_candles([first, second]), market(range(7)))
    assert "2 rows found in two files and merged" in caplog.text


def test_overlap_that_differs_is_refused_with_the_first_difference(tmp_path):
    first = save(market(range(4)), tmp_path / "a.csv")
    other = market(range(2, 6), volume=[1.0, 1.25, 1.0, 1.0])
    second = save(other, tmp_path / "b.csv")
    message = (
        r"volume at 2024-01-01 00:03:00\+00:00 is 1\.0 in .*a\.csv and 1\.25 in "
        r".*b\.csv \(1 of 2 shared rows differ"
    )
    with pytest.raises(DataError, match=message):
        read_candles([second, first])


def test_file_given_twice_is_refused(tmp_path):
    path = save(market(range(3)), tmp_path / "a.csv")
    again = tmp_path / ".." / tmp_path.name / "a.csv"
    with pytest.raises(DataError, match="each file once"):
        read_candles([path, again])


def test_two_pairs_in_the_names_are_refused(tmp_path):
    files = [
        save(market(range(i, i + 2)), tmp_path / name)
        for i, name in enumerate(["BTCUSDT-1m-2024-01.csv", "ETHUSDT-1m-2024-02.csv"])
    ]
    with pytest.raises(DataError, match="one pair.*BTCUSDT, ETHUSDT"):
        read_candles(files)


def test_one_pair_in_two_spellings_is_joined(tmp_path):
    files = [
        save(market(range(0, 2)), tmp_path / "BTCUSDT-1m-2024-01.csv"),
        save(market(range(2, 4)), tmp_path / "BTC_USDT-1m.csv"),
    ]
    assert len(read_candles(files)) == 4


def test_two_timeframes_are_refused(tmp_path):
    one = save(market(range(3)), tmp_path / "a.csv")
    five = save(market([5, 10, 15]), tmp_path / "b.csv")
    with pytest.raises(DataError, match="one timeframe. Received: 1m in .*5m in"):
        read_candles([one, five])


def test_no_file_and_missing_file(tmp_path):
    with pytest.raises(ConfigError, match="at least one"):
        read_candles([])
    with pytest.raises(MissingInputError):
        read_candles(tmp_path / "a.csv")


def test_timeframe_resamples_and_never_to_a_finer_one(tmp_path):
    path = save(market(range(0, 60, 5)), tmp_path / "a.csv")
    assert minutes_of(read_candles(path, timeframe="15m")) == [0, 15, 30, 45]
    same(read_candles(path, timeframe="5m"), market(range(0, 60, 5)))
    with pytest.raises(
        DataError, match="candles of 1m or finer. Received: bars 5m apart"
    ):
        read_candles(path, timeframe="1m")
    with pytest.raises(DataError, match="8m is a whole multiple.*candles of 5m"):
        read_candles(path, timeframe="8m")
    with pytest.raises(ConfigError, match="timeframe.*Received: '5 minutes'"):
        read_candles(path, timeframe="5 minutes")


def test_all_problems_of_all_files_are_in_one_message(tmp_path):
    bad = market(range(8))
    bad.loc[[1, 3], "close"] = [np.nan, np.inf]
    bad.loc[4, "low"] = -1.0
    bad.loc[5, "high"] = 9.0
    bad.loc[6, "volume"] = -2.0
    unordered = market([100, 102, 101, 102, 103], volume=[1.0, 2.0, 3.0, 4.0, 5.0])
    files = [save(bad, tmp_path / "a.csv"), save(unordered, tmp_path / "b.csv")]
    with pytest.raises(DataError) as caught:
        read_candles(files)
    message = str(caught.value)
    for line in (
        "a.csv: NaN or infinite in column 'close': 2 (rows 1, 3)",
        "a.csv: not positive in column 'low': 1 (rows 4)",
        "a.csv: not positive in column 'volume': 1 (rows 6)",
        "a.csv: high or low that does not enclose open and close: 2 (rows 3, 5)",
        "b.csv: timestamps earlier than the row before: 1 (rows 2)",
        "b.csv: duplicate timestamps: 1 (rows 3)",
    ):
        assert line in message
    assert "Repair these rows" in message


def test_misaligned_timestamps_are_refused(tmp_path):
    table = market(range(4))
    table["timestamp"] += pd.Timedelta("7s")
    with pytest.raises(DataError, match=r"off the 1m boundaries: 4 \(rows 0, 1, 2, 3"):
        read_candles(save(table, tmp_path / "a.csv"))


def test_days_that_open_at_seven_make_weeks_that_do(tmp_path, caplog):
    days = synthetic_candles(20, timeframe="1d", start="2024-01-01")
    seven = days.assign(timestamp=days["timestamp"] + pd.Timedelta("7h"))
    files = [save(seven[:9], tmp_path / "a.csv"), save(seven[9:], tmp_path / "b.csv")]
    with caplog.at_level(logging.INFO):
        weeks = read_candles(files, timeframe="1w")
    assert caplog.text.count("every daily bar opens at 07:00 UTC") == 1
    assert [str(time)[:16] for time in weeks["timestamp"]] == [
        "2024-01-01 07:00",
        "2024-01-08 07:00",
    ]
    assert weeks["close"].tolist() == days["close"][[6, 13]].tolist()
    files.append(save(days[-5:], tmp_path / "c.csv"))
    with pytest.raises(DataError, match=r"1d in .*b.csv from 07:00 UTC, 1d in .*c.csv"):
        read_candles(files)


# Gaps


def test_short_gaps_are_filled_and_long_ones_cut():
    table = market([0, 1, 4, 8, 9], close=[1.0, 2.0, 3.0, 4.0, 5.0])
    filled = fill_gaps(table, "1m", max_fill_bars=2)
    assert minutes_of(filled) == [0, 1, 2, 3, 4, 8, 9]
    assert filled["close"].tolist() == [1.0, 2.0, 2.0, 2.0, 3.0, 4.0, 5.0]
    assert filled["open"].tolist() == [10.0, 10.0, 2.0, 2.0, 10.0, 10.0, 10.0]
    assert filled["high"].tolist() == filled["open"].tolist() == filled["low"].tolist()
    assert filled["volume"].tolist() == [1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 1.0]
    assert filled["is_filled"].tolist() == [False, False, True, True] + [False] * 3
    assert filled["segment"].tolist() == [0, 0, 0, 0, 0, 1, 1]
    assert filled["segment"].dtype == np.int32
    assert filled["is_filled"].dtype == bool
    assert list(filled.columns) == [*NAMES, "is_filled", "segment"]


def test_no_filling_at_all_and_nothing_to_fill():
    table = market([0, 1, 3])
    assert fill_gaps(table, "1m", max_fill_bars=0)["segment"].tolist() == [0, 0, 1]
    same(fill_gaps(market(range(3)), "1m")[NAMES], market(range(3)))
    assert len(fill_gaps(market([]), "1m")) == 0
    assert fill_gaps(market([7]), "1m")["segment"].tolist() == [0]


def test_fill_limit_is_exact():
    table = market([0, 1, 62])
    assert fill_gaps(table, "1m")["segment"].max() == 0
    assert fill_gaps(table, "1m", max_fill_bars=59)["segment"].max() == 1


@pytest.mark.parametrize(
    ("timeframe", "bars"),
    [("1m", 60), ("5m", 60), ("15m", 24), ("1h", 6), ("4h", 1), ("12h", 1), ("1d", 0)],
)
def test_the_default_limit_counts_time_too(timeframe, bars):
    assert longest_fill(60, timeframe) == bars
    assert longest_fill(30, timeframe) == 30
    step = duration_seconds(timeframe) // 60
    for missing, last in ((bars, 0), (bars + 1, 1)):
        table = market([0, step, (missing + 2) * step])
        assert fill_gaps(table, timeframe)["segment"].max() == last


def test_cuts_end_segments_and_are_not_filled_across():
    cuts = market([4, 9])["timestamp"].to_numpy("datetime64[ns]").astype(np.int64)
    filled = fill_gaps(market([0, 1, 2, 3, 4, 5, 8, 10, 11]), "1m", cuts=cuts)
    assert minutes_of(filled) == [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11]
    assert filled["segment"].tolist() == [0] * 4 + [1] * 5 + [2] * 2
    # A bar that holds a cut inside stands alone.
    coarse = fill_gaps(market(range(0, 20, 3)), "3m", cuts=cuts)
    assert coarse["segment"].tolist() == [0, 1, 2, 3, 3, 3, 3]


def test_filling_twice_keeps_the_marks():
    once = fill_gaps(market([0, 1, 3]), "1m")
    same(fill_gaps(once, "1m"), once)


def test_bars_off_the_grid_are_not_filled():
    with pytest.raises(
        DataError, match="multiples of 5m apart.*1 other, first in row 1"
    ):
        fill_gaps(market([0, 3, 8]), "5m")
    with pytest.raises(ConfigError, match="Received: -1"):
        fill_gaps(market([0, 5]), "5m", max_fill_bars=-1)


def test_unordered_tables_are_neither_filled_nor_resampled():
    table = market([0, 1, 1, 3])
    for function in (fill_gaps, resample_candles):
        with pytest.raises(DataError, match=r"strictly increasing.*1 \(rows 2\)"):
            function(table, "1m")


@settings(max_examples=30, deadline=None)
@given(
    minutes=st.sets(st.integers(0, 60), min_size=1, max_size=30),
    limit=st.integers(0, 8),
)
def test_filling_equals_a_plain_loop(minutes, limit):
    ordered = sorted(minutes)
    rows, segment = [], 0
    for i, minute in enumerate(ordered):
        rows.append((minute, float(i + 1), False, segment))
        if i + 1 < len(ordered):
            gap = range(minute + 1, ordered[i + 1])
            if len(gap) > limit:
                segment += 1
            else:
                rows += [(m, float(i + 1), True, segment) for m in gap]
    close = np.arange(1.0, len(ordered) + 1)
    filled = fill_gaps(market(ordered, close=close), "1m", max_fill_bars=limit)
    columns = [filled[c].tolist() for c in ("close", "is_filled", "segment")]
    assert list(zip(minutes_of(filled), *columns, strict=True)) == rows


# Resampling


def ladder(minutes):
    """Candles whose numbers tell their minute."""
    m = np.asarray(list(minutes), float)
    return market(
        minutes, open=m + 10, high=m + 12, low=m + 8, close=m + 11, volume=m + 1
    )


def test_resampling_keeps_complete_bars_only():
    bars = resample_candles(ladder(range(3, 17)), "5m")
    assert minutes_of(bars) == [5, 10]
    assert bars[NAMES[1:]].to_numpy().tolist() == [
        [15.0, 21.0, 13.0, 20.0, 40.0],
        [20.0, 26.0, 18.0, 25.0, 65.0],
    ]
    assert list(bars.columns) == NAMES


def test_missing_minute_inside_drops_the_bar_unless_filled_first():
    table = ladder([m for m in range(15) if m != 7])
    assert minutes_of(resample_candles(table, "5m")) == [0, 10]
    filled = resample_candles(fill_gaps(table, "1m"), "5m")
    assert minutes_of(filled) == [0, 5, 10]
    assert filled["volume"].tolist() == [15.0, 32.0, 65.0]
    assert filled["is_filled"].tolist() == [False, False, False]
    assert list(filled.columns) == [*NAMES, "is_filled"]


def test_bar_of_filled_bars_alone_is_filled():
    table = ladder([*range(5), *range(10, 15)])
    bars = resample_candles(fill_gaps(table, "1m"), "5m")
    assert bars["is_filled"].tolist() == [False, True, False]
    assert bars.loc[1, NAMES[1:]].tolist() == [15.0, 15.0, 15.0, 15.0, 0.0]


def test_resampling_to_its_own_timeframe_changes_nothing():
    same(resample_candles(market([0, 1, 5]), "1m"), market([0, 1, 5]))


def test_resampling_to_weeks_starts_on_monday():
    days = synthetic_candles(21, timeframe="1d", start="2024-01-04")
    weeks = resample_candles(days, "1w")
    assert weeks["timestamp"].dt.strftime("%a %Y-%m-%d").tolist() == [
        "Mon 2024-01-08",
        "Mon 2024-01-15",
    ]


def test_resampling_refuses_what_it_cannot_do():
    with pytest.raises(DataError, match="1m or finer"):
        resample_candles(market([0, 5, 10]), "1m")
    with pytest.raises(DataError, match="candles of 4m"):
        resample_candles(market([0, 4, 8]), "6m")
    with pytest.raises(DataError, match="two bars"):
        resample_candles(market([0]), "5m")


@settings(max_examples=25, deadline=None)
@given(minutes=st.sets(st.integers(0, 40), min_size=2, max_size=41))
def test_resampling_equals_a_plain_loop(minutes):
    ordered = sorted(minutes)
    table = ladder(ordered)
    if 1 not in np.diff(ordered):
        return
    want = []
    for start in range(0, 41, 5):
        part = ladder(m for m in ordered if start <= m < start + 5)
        if len(part) == 5:
            low, high = part["low"].min(), part["high"].max()
            ends = [part["open"].iloc[0], part["close"].iloc[-1]]
            want.append([ends[0], high, low, ends[1], part["volume"].sum()])
    bars = resample_candles(table, "5m", source_timeframe="1m")
    assert bars[NAMES[1:]].to_numpy().tolist() == want


# Command line


def test_check_command(tmp_path, capsys):
    good = save(market(range(4)), tmp_path / "good.csv")
    assert main(["check", str(good)]) == 0
    assert "4 bars of 1m" in capsys.readouterr().out
    bad = save(market(range(4), volume=-1.0), tmp_path / "bad.csv")
    assert main(["check", str(good), str(bad)]) == 65
    printed = capsys.readouterr().out
    assert "problem: not positive in column 'volume': 4" in printed
    assert main(["check", str(tmp_path / "x")]) == 66


def test_resample_is_a_command(tmp_path, capsys):
    minutes = [minute for minute in range(60) if minute not in (7, *range(20, 30))]
    path = save(market(minutes), tmp_path / "ETHUSDT-1m.csv")
    words = ["resample", str(path), "--timeframe", "5m", "--max-fill-bars", "1"]
    assert main(words) == 0
    made = tmp_path / "ETHUSDT-5m.parquet"
    assert f"{made}: 10 bars of 5m from 1m" in capsys.readouterr().out
    table = read_candles(made)
    assert minutes_of(table) == [0, 5, 10, 15, 30, 35, 40, 45, 50, 55]
    assert table["volume"].tolist() == [5, 4, *[5] * 8]  # the filled minute has none
    other = tmp_path / "new" / "a.csv"
    assert main([*words, "--output", str(other)]) == 0
    same(read_candles(other), table)


@pytest.mark.parametrize(
    "words, code, reason",
    [
        (("--timeframe", "1m"), 2, "another file than those that are read"),
        (("--timeframe", "2h"), 65, "expected a whole bar of 2h"),
        (("--timeframe", "61m"), 2, "divides a day"),
        (("--timeframe", "5m", "--output", "a.xlsx"), 2, "--output: expected a name"),
    ],
)
def test_what_cannot_be_resampled_is_said(tmp_path, capsys, words, code, reason):
    path = save(market(range(60)), tmp_path / "ETHUSDT-1m.csv")
    if "1m" in words:
        words = (*words, "--output", str(path))
    assert main(["resample", str(path), *words]) == code
    assert reason in capsys.readouterr().err


# Real candles


@needs_data
def test_resampled_minutes_equal_the_published_five_minutes():
    ours = resample_candles(read_candles(DATA / "BTCUSDT-1m.parquet"), "5m")
    theirs = read_candles(DATA / "BTCUSDT-5m.parquet")
    theirs = theirs[theirs["timestamp"].isin(ours["timestamp"])].reset_index(drop=True)
    assert len(ours) == 17_568
    same(ours[NAMES[:5]], theirs[NAMES[:5]])
    np.testing.assert_allclose(ours["volume"], theirs["volume"], rtol=1e-12)


@needs_data
def test_public_zips_are_joined():
    months = [DATA / f"FILUSDT-1m-2023-0{month}.zip" for month in (5, 4)]
    table = read_candles(months)
    assert len(table) == 43_200 + 44_640
    assert check_candles(table).missing_bars == 0
    assert table["timestamp"].iloc[0] == pd.Timestamp("2023-04-01", tz="UTC")
    assert table.loc[0, NAMES[1:]].tolist() == [5.685, 5.695, 5.684, 5.692, 28753.6]


@needs_data
def test_gapped_minutes_of_bitfinex():
    table = read_candles(DATA / "BTCUSD_BITFINEX-1m.parquet")
    report = check_candles(table)
    assert (report.num_bars, report.gaps.count) == (1_038_283, 9_740)
    assert (report.missing_bars, report.longest_gap_bars) == (12_917, 197)
    filled = fill_gaps(table, "1m", max_fill_bars=60)
    assert len(filled) == 1_050_423
    assert filled["segment"].iloc[-1] == 6
    assert len(resample_candles(filled, "1h")) == 17_501


@needs_data
def test_paging_holes_cut_segments():
    table = read_candles(DATA / "broken" / "LINKUSDT-1m.parquet")
    assert len(table) == 105_076
    assert fill_gaps(table, "1m")["segment"].iloc[-1] == 524
