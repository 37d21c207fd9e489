"""Timestamps in any form -> nanoseconds; nothing ambiguous is guessed."""

import re

import numpy as np
import pyarrow as pa
import pytest

from candles.timestamps import (
    find_timeframe,
    first_boundary,
    parse_timestamps,
    timeframe_nanoseconds,
)
from preprocessing.parts import Timeline
from utils import ConfigError, DataError

OPEN_MS = [1704067200000, 1704067260000, 1704067320000]
OPEN_NS = [ms * 10**6 for ms in OPEN_MS]


def parse(values, kind=None):
    stamps, how = parse_timestamps(pa.chunked_array([pa.array(values, kind)]))
    assert stamps.dtype == np.int64
    return stamps.tolist(), how


@pytest.mark.parametrize(
    "form", [lambda x: x, str, float, lambda x: f"{x}.0", lambda x: f" {x}"]
)
@pytest.mark.parametrize(
    "unit, per_ms", [("seconds", 0.001), ("milliseconds", 1), ("microseconds", 1000)]
)
def test_units_follow_from_the_magnitude(form, unit, per_ms):
    values = [form(round(ms * per_ms)) for ms in OPEN_MS]
    assert parse(values) == (OPEN_NS, f"{unit} since 1970")


def test_days_are_told_by_how_they_go_on():
    whole = [45_292, 45_293, 45_296]  # from 2024-01-01 on
    stamps, how = parse(whole)
    assert stamps == [OPEN_NS[0] + days * 86_400 * 10**9 for days in (0, 1, 4)]
    assert how == "days since 1899-12-30, as spreadsheets count"
    minutes = [round(45_292 + i / 1440, 5) for i in range(3)]
    assert parse(minutes)[0] == OPEN_NS
    assert parse([19_723, 19_724]) == (
        [OPEN_NS[0], OPEN_NS[0] + 86_400 * 10**9],
        "days since 1970",
    )
    assert len(parse([*minutes, *minutes[:1], *range(45_293, 45_323)])[0]) == 34
    for prices in ([45_292.17, 45_292.31, 45_293.08], [45_293, 45_292, 45_296]):
        with pytest.raises(DataError):
            parse(prices)
    with pytest.raises(DataError):  # numbers of rows, of no name
        parse_timestamps(pa.chunked_array([pa.array(whole)]), is_named=False)


@pytest.mark.parametrize(
    ("word", "hours"), [("EST", 5), ("EDT", 4), ("CET", -1), ("JST", -9)]
)
def test_words_of_zones_are_offsets(word, hours):
    (stamp,), how = parse([f"2024-01-01 00:00:00 {word}"])
    assert stamp == OPEN_NS[0] + hours * 3600 * 10**9
    assert how == f"dates of {word}, UTC{-hours:+d}"


@pytest.mark.parametrize("word", ["IST", "BST", "CST", "ET"])
def test_a_word_of_several_zones_is_refused(word):
    with pytest.raises(DataError, match=f"Received: '{word}' behind a time. Leave the"):
        parse([f"2024-01-01 00:00:00 {word}"])


def test_nanoseconds_are_exact_and_refused_as_floats():
    assert parse([ns + 1 for ns in OPEN_NS])[0] == [ns + 1 for ns in OPEN_NS]
    with pytest.raises(DataError, match="whole numbers. Received: 3 others"):
        parse([float(ns) for ns in OPEN_NS])


@pytest.mark.parametrize(
    "other, message",
    [
        (1704067320000000, "1 row that is not in milliseconds, first 17040673200"),
        (1704067320, "not in milliseconds, first 1704067320 in row 2"),
        (0, "not in milliseconds, first 0 in row 2"),
    ],
)
def test_mixed_units_are_refused(other, message):
    for form in (int, str):
        with pytest.raises(DataError, match=message):
            parse([form(value) for value in (*OPEN_MS[:2], other)])


@pytest.mark.parametrize("other", ["soon", "1704067320000.5", "", "nan", "1e400"])
def test_words_among_numbers_are_refused(other):
    with pytest.raises(DataError, match=f"1 other, first '{other}' in row 2"):
        parse([*map(str, OPEN_MS[:2]), other])


@pytest.mark.parametrize("stamp", [202401, 1, 0, -5, 4102444800, 2**62 + 2**61])
def test_implausible_numbers_are_refused(stamp):
    with pytest.raises(DataError, match=f"{stamp} in row 0 and 1 row .*a known unit"):
        parse([stamp])


@pytest.mark.parametrize(
    "kind",
    [pa.timestamp("ms", "UTC"), pa.timestamp("ms", "Europe/Rome"), pa.timestamp("ms")],
)
def test_arrow_timestamps(kind):
    stamps, how = parse(OPEN_MS, kind)
    assert stamps == OPEN_NS
    assert how == (
        f"dates in {kind.tz}" if kind.tz else "dates without a timezone, taken as UTC"
    )


@pytest.mark.parametrize("form", [int, str])
@pytest.mark.parametrize("digits", ["20240101", "202401010000", "20240101000000"])
def test_digits_of_a_date(digits, form):
    assert parse([form(digits)])[0] == OPEN_NS[:1]


def test_arrow_dates_and_dictionaries():
    assert parse([19723], pa.date32())[0] == OPEN_NS[:1]
    text = pa.array(["2024-01-01 00:00", "2024-01-01 00:01"]).dictionary_encode()
    assert parse_timestamps(pa.chunked_array([text]))[0].tolist() == OPEN_NS[:2]


def test_dates_written_in_another_unit_are_refused():
    seconds_as_nanoseconds = [ms // 1000 for ms in OPEN_MS]
    with pytest.raises(DataError, match="1990 to 2100.*3 others, first 1970-01-01"):
        parse(seconds_as_nanoseconds, pa.timestamp("ns", "UTC"))
    with pytest.raises(DataError, match="Check their unit"):
        parse([2**62], pa.timestamp("s"))


@pytest.mark.parametrize(
    "form, zone",
    [
        ("2024-01-01 00:0{}:00", ""),
        ("2024-01-01 00:0{}", ""),
        ("2024-01-01T00:0{}:00Z", "Z"),
        ("2024-01-01 00:0{}:00+00:00", "+00:00"),
        ("2024-01-01 00:0{}:00 UTC", "UTC"),
        ("2024-01-01 00:0{}:00 Z", "Z"),
        ("2024-01-01 02:0{}:00+02:00", "+02:00"),
        ("2023-12-31T19:3{}:00.000-0430", "-0430"),
    ],
)
def test_text(form, zone):
    how = f"dates in {zone}" if zone else "dates without a timezone, taken as UTC"
    assert parse([form.format(i) for i in range(3)]) == (OPEN_NS, how)


@pytest.mark.parametrize(
    "stamps, row",
    [
        (["2024-01-01 00:00", "2024-01-01 00:01+00:00", "2024-01-01 00:02"], 1),
        (["2024-01-01 00:00Z", "2024-01-01 00:01Z", "2024-01-01 00:02"], 2),
        (["2024-01-01 00:00+01:00", "2024-01-01 00:01+02:00", "2024-01-01 00:02"], 2),
    ],
)
def test_mixed_timezones_are_refused(stamps, row):
    message = f"one timezone.*in row 0 and {re.escape(repr(stamps[row]))} in row {row}"
    with pytest.raises(DataError, match=message):
        parse(stamps)


@pytest.mark.parametrize(
    ("text", "zone"),
    [
        *(("01/02/2024 00:00", ""), ("January", ""), ("2024-13-01", ""), ("", "")),
        *(("Total", "Z"), ("Total", " +01:00"), ("", "+00:00")),
    ],
)
def test_text_that_is_no_date_or_two_dates_is_refused(text, zone):
    with pytest.raises(DataError, match=f"1 other, first '{text}' in row 1"):
        parse([f"2024-01-01 00:00{zone}", text])


def test_empty_cells_and_other_types_are_refused():
    with pytest.raises(DataError, match=r"2 empty cells, first in rows \[1, 2\]"):
        parse([OPEN_MS[0], None, None])
    with pytest.raises(DataError, match="Received: type bool"):
        parse([True])


def test_boundaries_and_distances():
    assert timeframe_nanoseconds("4h") == 14_400 * 10**9
    assert first_boundary(timeframe_nanoseconds("1w")) == 4 * 86_400 * 10**9
    assert first_boundary(timeframe_nanoseconds("1d")) == 0
    with pytest.raises(ConfigError, match="timeframe: .*'1x'"):
        timeframe_nanoseconds("1x")


def test_timeframe_from_distances():
    minute = 60 * 10**9
    steps = np.array([1, 1, 1, 5]) * minute
    assert find_timeframe(steps, None) == ("1m", "")
    assert find_timeframe(steps, "15m") == ("1m", "")
    assert find_timeframe(steps[:0], "1m") == (None, "")
    sparse = np.array([5, 5, 5, 1]) * minute
    assert find_timeframe(sparse, None)[0] is None
    assert find_timeframe(sparse, "1m") == ("1m", "")
    assert "1m or finer" in find_timeframe(5 * steps, "1m")[1]
    assert find_timeframe(np.array([10**8] * 3), None)[0] is None


def test_timeline_gives_back_the_times_it_was_made_of():
    minutes = np.array([0, 1, 2, 7, 8, 100, 101, 102])
    times = np.datetime64("2024-01-01", "ns") + minutes * np.timedelta64(60, "s")
    timeline = Timeline.from_array(times, bar_seconds=60)
    assert timeline.starts.tolist() == [0, 3, 5]
    assert np.array_equal(timeline.array(), times)
    assert timeline.at(4) == times[4]
    assert np.array_equal(timeline.at(np.array([7, 0, 3])), times[[7, 0, 3]])
