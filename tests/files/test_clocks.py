"""Days and times of day in columns of their own."""

import pyarrow as pa
import pytest

from files.clocks import PIECE_RANK, with_clock


def joined(days, *clocks):
    columns = [("date", 0, pa.chunked_array([days]))]
    columns += [(n, rank, pa.chunked_array([cells])) for n, rank, cells in clocks]
    found = with_clock(columns)
    return found[0][2].to_pylist() if len(found) == 1 else None


def two_days(*times):
    days = ["2024-01-01"] * len(times) + ["2024-01-02"] * len(times)
    return days, [*times, *times]


@pytest.mark.parametrize(
    ("times", "second"),
    [
        (range(24), "01:00:00"),
        (["00", "06", "12", "18"], "06:00:00"),
        ((0, 30, 100, 130, *range(200, 2400, 100)), "00:30:00"),
        (range(0, 240_000, 10_000), "01:00:00"),
        (range(0, 1440, 60), "01:00:00"),  # 60 is no minute of an hour
        (range(0, 86_400, 3600), "01:00:00"),
        (["0000", "0001", "0002"], "00:01:00"),
        ((2000, 1600, 1200, 800, 400, 0), "16:00:00"),
    ],
)
def test_numbers_are_the_time_of_day_that_goes_on_evenly(times, second):
    days, cells = two_days(*times)
    assert joined(days, ("time", 0, cells))[1] == f"2024-01-01 {second}"
    numbers = [float(day.replace("-", "")) for day in days]
    assert joined(numbers, ("time", 0, cells))[1] == f"20240101 {second}"


def test_numbers_that_may_be_two_times_of_day_are_not_joined():
    assert joined(["2024-01-01"] * 24, ("time", 0, list(range(24)))) is None
    assert joined(["2024-01-01"] * 3, ("time", 0, [0, 99_999, 5])) is None


def test_an_hour_is_joined_where_days_are_of_several_rows():
    days, hours = two_days(0, 1, 2)
    hour = ("hour", PIECE_RANK, hours)
    assert joined(days, hour)[4] == "2024-01-02 01:00:00"
    assert joined([f"2024-01-0{i}" for i in range(1, 7)], hour)[4] == "2024-01-05"
    minute = ("minute", PIECE_RANK, [0, 15, 30] * 2)
    assert joined(days, hour, minute)[1] == "2024-01-01 01:15:00"
