import pytest
from world.frames import make_own_frame

from candles import synthetic_candles
from config import Config
from data_loader import TrainingDataLoader
from dataset.builder import build_training_frame
from dataset.lengths import short_test_notes
from utils import DataError

TWO_MONTHS = {
    "first": "2024-01-30T23:59:00+00:00",
    "last": "2024-02-29T23:58:00+00:00",
    "warm_up_bars": 43_199,
    "shorter_warm_ups": {"core8_7d": 10_079, "ray12": 255},
}
WORDS = (
    "the test part will have {} days and {} horizons, too few for an interval and a "
    "claim (at least 10 days and 30 horizons)"
)
SETS = (
    "; before the first row, 30 days of candles are the warm-up: core8_7d takes 7, "
    "ray12 takes 0.177"
)


@pytest.mark.parametrize(
    ("fields", "numbers"),
    [
        ({}, ("3.0", "36")),
        ({"test_split": 0.2}, ("6.0", "72")),
        ({"start_date": "2024-02-10"}, ("2.0", "24")),
        ({"train_end": "2024-02-10", "validation_end": "2024-02-20"}, ("9.0", "108")),
        (
            {
                "train_end": "2024-02-01",
                "validation_end": "2024-02-05",
                "end_date": "2024-02-07",
            },
            ("2.0", "24"),
        ),
        ({"future_window": 1440, "test_split": 0.4}, ("12.0", "12")),
    ],
)
def test_a_short_test_and_what_the_warm_up_took(fields, numbers):
    found = short_test_notes(Config(**fields), TWO_MONTHS)
    assert found == [WORDS.format(*numbers) + SETS]


def test_a_test_that_is_long_enough_needs_no_words():
    assert short_test_notes(Config(test_split=0.4), TWO_MONTHS) == []
    for facts in ({}, {"first": 3, "last": None}, {"first": "x", "last": "y"}):
        assert short_test_notes(Config(), facts) == []
    bare = {key: TWO_MONTHS[key] for key in ("first", "last")}
    assert short_test_notes(Config(), bare) == [WORDS.format("3.0", "36")]


def test_errors_about_warm_up_name_the_sets_that_fit():
    hours = synthetic_candles(400, timeframe="1h", start="2024-01-01")
    config = Config(timeframe="1h", future_window=6)
    for num_bars, higher, named in (
        (400, (), "indicators34 (300 bars), ray12 (255 bars), core8_7d (167 bars)."),
        (400, ("1d",), "core8_7d (167 bars)."),
        (150, ("1d",), "none does."),
    ):
        with pytest.raises(DataError, match="719 before") as found:
            build_training_frame(
                hours[:num_bars], config.replace(higher_timeframes=higher)
            )
        assert str(found.value).endswith(f"whose warm-up fits these: {named}")


def test_parts_that_are_too_short_for_a_window_say_what_the_warm_up_took(tmp_path):
    frame = make_own_frame(300)
    loader = TrainingDataLoader.from_frame(frame, sequence_length=40)
    rows = loader.read_rows()
    with pytest.raises(DataError, match="other splits.$"):
        loader.load_training_data(rows=rows)
    rows.source["warm_up_bars"] = 43_199
    with pytest.raises(DataError, match="30 days of candles are the warm-up: core8_7d"):
        loader.load_training_data(rows=rows)


@pytest.mark.parametrize(
    ("fields", "change"),
    [
        ({"sequence_length": 10, "future_window": 5}, {"is_target": False}),
        ({"train_end": "2024-01-01", "validation_end": "2024-01-02"}, {}),
        ({"embargo_bars": 40_000}, {}),
    ],
)
def test_a_shorter_warm_up_is_named_only_where_it_helps(fields, change):
    frame = make_own_frame(3000).assign(**change)
    loader = TrainingDataLoader.from_frame(frame, **{"sequence_length": 1500} | fields)
    rows = loader.read_rows()
    rows.source["warm_up_bars"] = 43_199
    with pytest.raises(DataError, match="expected rows") as found:
        loader.load_training_data(rows=rows)
    assert "warm-up" not in str(found.value)
