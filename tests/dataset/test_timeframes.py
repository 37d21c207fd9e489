"""Features of a higher timeframe are known in the minute that closes their bar."""

import numpy as np
import pandas as pd
import pytest

from dataset.timeframes import join_higher_timeframe
from utils import DataError


def two_days():
    rng = np.random.default_rng(0)
    start = pd.Timestamp("2024-01-01", tz="UTC")
    times = start + pd.to_timedelta(np.arange(2880), unit="min")
    minutes = pd.DataFrame({"timestamp": times, "close": rng.random(2880)})
    hours = pd.DataFrame(
        {
            "timestamp": minutes["timestamp"].iloc[::60].reset_index(drop=True),
            "last_close": minutes["close"].iloc[59::60].to_numpy(),
        }
    )
    return minutes, hours


def test_an_hour_is_known_in_the_minute_that_closes_with_it():
    minutes, hours = two_days()
    joined = join_higher_timeframe(
        minutes, hours, timeframe="1m", higher_timeframe="1h"
    )
    assert list(joined.columns) == ["last_close_1h"]
    known = joined["last_close_1h"]
    # The hour opened at 10:00 (row 600) closes with the minute opened at 10:59.
    assert known.iloc[658] == minutes["close"].iloc[599]
    assert known.iloc[659] == minutes["close"].iloc[659]
    assert known.iloc[660] == minutes["close"].iloc[659]
    assert known.iloc[:59].isna().all()
    assert known.iloc[59:].notna().all()


@pytest.mark.parametrize("row", [59, 600, 658, 659, 1234, 2878])
def test_joined_hours_do_not_look_ahead(row):
    minutes, hours = two_days()
    joined = join_higher_timeframe(
        minutes, hours, timeframe="1m", higher_timeframe="1h"
    )
    changed = minutes.copy()
    changed.loc[row + 1 :, "close"] = 9.0
    late = hours.assign(last_close=changed["close"].iloc[59::60].to_numpy())
    again = join_higher_timeframe(changed, late, timeframe="1m", higher_timeframe="1h")
    assert again.iloc[: row + 1].equals(joined.iloc[: row + 1])
    assert row == 2878 or not again.equals(joined)


def test_a_missing_hour_is_not_replaced_by_an_old_one():
    minutes, hours = two_days()
    joined = join_higher_timeframe(
        minutes, hours.drop(index=10), timeframe="1m", higher_timeframe="1h"
    )
    absent = np.flatnonzero(joined["last_close_1h"].isna())
    assert absent.tolist() == [*range(59), *range(659, 719)]


def test_join_refuses_what_it_cannot_align():
    minutes, hours = two_days()
    with pytest.raises(ValueError, match="longer than `timeframe`"):
        join_higher_timeframe(minutes, hours, timeframe="1h", higher_timeframe="1h")
    with pytest.raises(DataError, match="strictly increasing"):
        join_higher_timeframe(
            minutes, hours.iloc[::-1], timeframe="1m", higher_timeframe="1h"
        )
    with pytest.raises(DataError, match="'timestamp' column"):
        join_higher_timeframe(
            minutes, hours[["last_close"]], timeframe="1m", higher_timeframe="1h"
        )
