"""Months, and parts of months, between two dates."""

from datetime import date

import pytest

from files.periods import plan_periods
from utils import ConfigError

TODAY = date(2024, 4, 10)


def test_periods_are_months_and_parts_of_months():
    periods = plan_periods("2023-12-30", "2024-02", today=TODAY)
    assert [p.name for p in periods] == ["2023-12-30_2023-12-31", "2024-01", "2024-02"]
    assert [p.is_month for p in periods] == [False, True, True]
    assert periods[2].last == date(2024, 2, 29)
    assert [day.name for day in periods[0].days()] == ["2023-12-30", "2023-12-31"]


def test_periods_end_yesterday():
    periods = plan_periods("2024-03", "2024-12", today=TODAY)
    assert [p.name for p in periods] == ["2024-03", "2024-04-01_2024-04-09"]


@pytest.mark.parametrize(
    "start, end",
    [("2024-03", "2024-02"), ("2024-04-10", "2024-05"), ("2024-13", "2024-14")]
    + [("yesterday", "2024-02"), ("2024", "2024-02")],
)
def test_impossible_periods(start, end):
    with pytest.raises(ConfigError, match="expected.*Received"):
        plan_periods(start, end, today=TODAY)
