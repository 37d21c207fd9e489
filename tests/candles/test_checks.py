"""Checks of candle tables: counts, first rows, and the timeframe."""

import pandas as pd
import pytest

from candles.__main__ import main
from candles.checks import Finding, check_candles, detect_timeframe
from candles.synthetic import synthetic_candles
from candles.table import read_candles, resample_candles
from utils import ConfigError, DataError


def market(minutes, **columns):
    """Candles at these minutes of 2024-01-01, all prices 10 and volume 1."""
    values = {"open": 10.0, "high": 10.0, "low": 10.0, "close": 10.0, "volume": 1.0}
    stamps = pd.Timestamp("2024-01-01", tz="UTC").as_unit("ns")
    stamps = stamps + pd.to_timedelta(list(minutes), unit="min").as_unit("ns")
    table = pd.DataFrame({"timestamp": stamps, **values})
    return table.assign(**columns)


def test_report_of_good_candles():
    report = check_candles(market(range(4), volume=[0.0, 1.0, 0.0, 2.0]))
    assert report.problems == ()
    assert report.timeframe == "1m"
    assert (report.num_bars, report.missing_bars) == (4, 0)
    assert report.zero_volume == Finding(2, (0, 2))
    assert report.summary().splitlines() == [
        "4 bars of 1m, 2024-01-01 00:00:00+00:00 to 2024-01-01 00:03:00+00:00",
        "gaps: none",
        "zero volume: 2 (rows 0, 2)",
        "problems: none",
    ]


def test_gaps_inform_and_do_not_refuse():
    report = check_candles(market([0, 1, 2, 5, 6, 7, 8, 12, 13]))
    assert report.problems == ()
    assert report.gaps == Finding(2, (3, 7))
    assert (report.missing_bars, report.longest_gap_bars) == (5, 3)
    assert report.summary().splitlines()[1:4] == [
        "gaps: 2, 5 of 14 bars missing (35.71%)",
        "  2024-01-01 00:03 to 2024-01-01 00:04 UTC, 2 bars",
        "  2024-01-01 00:09 to 2024-01-01 00:11 UTC, 3 bars",
    ]


def test_the_longest_gaps_are_told_in_time_order():
    missing = {3, 4, 10, *range(20, 29), 40, 50, 60, 61}
    report = check_candles(market(sorted(set(range(100)) - missing)))
    assert report.summary().splitlines()[1:8] == [
        "gaps: 6, 16 of 100 bars missing (16.00%)",
        "  2024-01-01 00:03 to 2024-01-01 00:04 UTC, 2 bars",
        "  2024-01-01 00:10 to 2024-01-01 00:10 UTC, 1 bar",
        "  2024-01-01 00:20 to 2024-01-01 00:28 UTC, 9 bars",
        "  2024-01-01 00:40 to 2024-01-01 00:40 UTC, 1 bar",
        "  2024-01-01 01:00 to 2024-01-01 01:01 UTC, 2 bars",
        "  and 1 more, none longer",
    ]


def test_candles_of_which_a_third_is_missing_are_refused_by_the_command(
    tmp_path, caplog
):
    whole, sparse = tmp_path / "a.csv", tmp_path / "b.csv"
    market([0, 1, 2, 3, 6]).to_csv(whole, index=False)  # 2 of 7
    market([0, 1, 2, 5]).to_csv(sparse, index=False)  # 2 of 6
    assert main(["check", str(whole)]) == 0
    assert check_candles(read_candles(sparse)).is_sparse
    assert main(["check", str(sparse)]) == 65


def test_first_five_rows_are_named():
    report = check_candles(market(range(9), volume=-1.0))
    assert str(report.not_positive["volume"]) == "9 (rows 0, 1, 2, 3, 4, ...)"


def test_no_rows_and_missing_columns():
    assert check_candles(market([])).problems == ("no rows",)
    with pytest.raises(DataError, match="Received: no low, volume among"):
        check_candles(market([0]).drop(columns=["low", "volume"]))


def test_tables_that_are_no_candle_tables():
    table = market(range(3))
    for stamps in (range(3), table["timestamp"].dt.tz_localize(None)):
        with pytest.raises(DataError, match="datetime64.ns, UTC"):
            check_candles(table.assign(timestamp=stamps))
    with pytest.raises(DataError, match="numbers in column 'open'"):
        check_candles(table.assign(open="cheap"))
    table.loc[1, "timestamp"] = pd.NaT
    with pytest.raises(DataError, match=r"every row. Received: none in 1 \(rows 1\)"):
        check_candles(table)


# Timeframes


@pytest.mark.parametrize("name", ["1s", "90s", "1m", "5m", "1h", "4h", "1d", "1w"])
def test_detect_timeframe(name):
    start = "2024-01-01"  # a Monday
    assert detect_timeframe(synthetic_candles(5, timeframe=name, start=start)) == name


def test_weeks_open_on_mondays_or_all_at_another_time():
    week = synthetic_candles(3, timeframe="1w", start="2024-01-01")
    assert check_candles(week).problems == ()
    shifted = week.assign(timestamp=week["timestamp"] + pd.Timedelta("3D"))
    assert check_candles(shifted).note == (
        "every weekly bar opens on Thursday at 00:00 UTC: taken as it is"
    )
    shifted.loc[1, "timestamp"] += pd.Timedelta("1D")
    assert check_candles(shifted, timeframe="1d").misaligned.count == 0
    assert check_candles(shifted, timeframe="1w").problems


def test_days_may_open_at_another_hour_that_all_share():
    days = synthetic_candles(5, timeframe="1d", start="2024-01-01")
    assert check_candles(days).opening_hour == 0 and not check_candles(days).note
    seven = days.assign(timestamp=days["timestamp"] + pd.Timedelta("7h"))
    report = check_candles(seven.drop(index=2))
    assert report.problems == () and report.opening_hour == 7
    assert "note: every daily bar opens at 07:00 UTC" in report.summary()
    half = days.assign(timestamp=days["timestamp"] + pd.Timedelta("18h30min"))
    assert check_candles(half).note.startswith("every daily bar opens at 18:30 UTC")
    mixed = pd.concat([days[:2], seven[2:]])
    assert check_candles(mixed, timeframe="1d").misaligned.rows == (2, 3, 4)
    # The last minute of a day is a close; hours have no such habit.
    closes = days.assign(timestamp=days["timestamp"] + pd.Timedelta("23h59m"))
    assert check_candles(closes).misaligned.count == 5
    hours = synthetic_candles(5, timeframe="1h", start="2024-01-01")
    half = hours.assign(timestamp=hours["timestamp"] + pd.Timedelta("30m"))
    assert check_candles(half).misaligned.count == 5
    fours = synthetic_candles(5, timeframe="4h", start="2024-01-01")
    odd = fours.assign(timestamp=fours["timestamp"] + pd.Timedelta("1h"))
    assert check_candles(odd).note == (
        "every 4h bar opens 01:00 hours after the boundary: taken as it is"
    )
    mixed = pd.concat([fours[:2], odd[2:]])
    assert check_candles(mixed, timeframe="4h").misaligned.rows == (2, 3, 4)


def test_timeframe_of_sparse_candles_must_be_named():
    sparse = market([0, 5, 10, 15, 16])
    with pytest.raises(DataError, match="most are 5m apart, the nearest 1m"):
        detect_timeframe(sparse)
    assert "one timeframe" in check_candles(sparse).problems[0]
    assert check_candles(sparse, timeframe="1m").problems == ()
    assert len(resample_candles(sparse, "1m")) == 5


def test_timeframe_of_one_bar_is_unknown():
    with pytest.raises(DataError, match="expected two bars. Received: 1"):
        detect_timeframe(market([0]))
    assert check_candles(market([0])).timeframe is None


def test_timeframe_of_unordered_bars_is_refused():
    with pytest.raises(DataError, match="strictly increasing"):
        detect_timeframe(market([0, 2, 1]))


@pytest.mark.parametrize("timeframe", ["61m", "7h", "25h"])
def test_bars_that_divide_no_day_are_no_timeframe(timeframe):
    with pytest.raises(ConfigError, match=f"divides a day.* Received: '{timeframe}'"):
        check_candles(market(range(3)), timeframe=timeframe)
    report = check_candles(market(range(0, 183, 61)))
    assert report.problems == (
        "expected bars of a timeframe that divides a day. Received: bars 61m apart",
    )
