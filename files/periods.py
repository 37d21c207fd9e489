"""Months and days that files are named after: what is between two dates.

In: calendar arithmetic. Out: fetching files (`candles.archives`, `candles.exchanges`).
"""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass
from datetime import date, timedelta

from utils import ConfigError


@dataclass(frozen=True, slots=True)
class Period:
    """Whole days from `first` to `last`, inclusive, in one calendar month."""

    first: date
    last: date

    @property
    def is_month(self) -> bool:
        """Whether it is a complete month."""
        days = calendar.monthrange(self.first.year, self.first.month)[1]
        return self.first.day == 1 and self.last.day == days

    @property
    def name(self) -> str:
        """`2024-01`, or the days where it is not a complete month."""
        if self.is_month:
            return f"{self.first:%Y-%m}"
        return (
            f"{self.first}" if self.first == self.last else f"{self.first}_{self.last}"
        )

    def days(self) -> list[Period]:
        """Returns its days, each as a period."""
        count = (self.last - self.first).days + 1
        days = [self.first + timedelta(days=i) for i in range(count)]
        return [Period(day, day) for day in days]


def plan_periods(start: str, end: str, *, today: date) -> list[Period]:
    """Returns the months, or parts of months, from `start` to `end`, both inclusive.

    Args:
        start: First month or day: `"2024-01"` or `"2024-01-15"`.
        end: Last month or day.
        today: The current day in UTC; its candles and later ones are not complete yet.

    Raises:
        ConfigError: If these are not dates, or hold no complete day.
    """
    first, last = _parse_day(start)[0], min(_parse_day(end)[1], today - timedelta(1))
    if first > last:
        raise ConfigError(
            f"expected a start before the end, and both before today ({today} UTC). "
            f"Received: start={start!r}, end={end!r}."
        )
    periods = []
    while first <= last:
        days = calendar.monthrange(first.year, first.month)[1]
        month_end = first.replace(day=days)
        periods.append(Period(first, min(month_end, last)))
        first = month_end + timedelta(1)
    return periods


def _parse_day(text: str) -> tuple[date, date]:
    """Returns the first and the last day that `text` (a month or a day) means."""
    try:
        if re.fullmatch(r"\d{4}-\d{2}", text):
            first = date.fromisoformat(f"{text}-01")
            days = calendar.monthrange(first.year, first.month)[1]
            return first, first.replace(day=days)
        day = date.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(
            "expected a month such as '2024-01' or a day such as '2024-01-15'. "
            f"Received: {text!r}."
        ) from error
    return day, day
