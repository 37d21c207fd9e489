"""The builder, a table of new candles and a stream of them give the same features."""

import sys

import numpy as np
import pytest
from world.signals import make_candles, make_recipe

from config import Config
from dataset import blocks, feature_sets
from dataset.builder import build_training_frame
from dataset.context import join_context
from preprocessing.bar_stream import BarStream
from utils import ConfigError, DependencyError


def test_the_clock_is_read_once_for_all_timeframes():
    config = Config(
        feature_sets=("ray12", "calendar"), timeframe="1h", higher_timeframes=("4h",)
    )
    names = blocks.feature_names(config)
    assert len(names) == 12 + 6 + 12
    assert [name for name in names if "hour" in name] == ["hour_sin", "hour_cos"]
    alone = config.replace(feature_sets=("calendar",))
    assert blocks.warm_up_bars(alone) == 0
    assert "calendar" not in blocks.shorter_warm_ups(config, 10**6)
    with pytest.raises(ConfigError, match="a set with a column at 1w"):
        blocks.feature_names(Config(feature_sets=("calendar",), timeframe="1w"))


def test_other_sets_are_named_where_their_library_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "talib", None)
    feature_sets._names_of.cache_clear()
    named = blocks.shorter_warm_ups(Config(timeframe="5m"), 10**6)
    assert {"core8_7d", "ray12", "indicators34"} <= {*named}
    with pytest.raises(DependencyError, match="requirements-features.txt"):
        blocks.feature_names(Config(feature_sets=("indicators34",)))


CONTEXT = {"context_pairs": ["OTHERUSDT"]}
RATES = {"funding": "funding_rate", "open_interest": "open_interest"}


@pytest.mark.parametrize(
    "fields",
    [
        {"feature_sets": ["ray12", "calendar"]},
        {"feature_sets": ["calendar"]},
        {"feature_sets": ["ray12", "calendar"], "higher_timeframes": ["8h"]},
        {"feature_sets": ["ray12", "calendar"]} | CONTEXT,
        {"feature_sets": ["ray12"], "higher_timeframes": ["8h"]} | CONTEXT,
        {"feature_sets": ["funding", "calendar", "open_interest", "ray12"]},
        {"feature_sets": ["ray12", "funding"], "higher_timeframes": ["8h"]} | CONTEXT,
    ],
)
def test_builder_table_and_stream_agree_to_the_bit(fields):
    recipe = make_recipe(**fields)
    names, config = list(recipe.pipeline.feature_names), recipe.config
    count = recipe.pipeline.min_candles + 100
    candles = make_candles(count, dropped=[count - 20, count - 8])
    others = {
        pair: make_candles(count, seed=1, dropped=[30, *range(count - 25, count - 22)])
        for pair in config.context_pairs
    }
    for name in set(config.feature_sets) & {*RATES}:
        # Known every third bar alone, which is longer than one is due.
        rate = np.random.default_rng(2).random(len(candles))
        is_known = np.arange(len(candles)) % (3 if name == "funding" else 2) == 0
        candles[RATES[name]] = np.where(is_known, rate, np.nan)
    frame, _ = build_training_frame(candles, config, context=others)
    frame = frame.set_index("timestamp")[names]
    built = dict(zip(frame.index.as_unit("ns").asi8, frame.to_numpy(), strict=True))
    table = join_context(candles, others, config.timeframe)
    rows = recipe.pipeline.features(table, last=50)
    stream = BarStream(recipe.pipeline, table[:-48])
    streamed = {}
    for bar in table[-48:].to_dict("records"):
        newest = stream.push(stream.read(bar))
        streamed[newest.opens[-1]] = newest.values[-1]
    compared = 0
    asked = zip(rows.opens[rows.first :], rows.values[rows.first :], strict=True)
    for stamp, values in asked:
        assert np.isfinite(values).all()
        if stamp in streamed:
            assert values.tobytes() == streamed[stamp].tobytes()
        if stamp in built:
            assert values.tobytes() == built[stamp].tobytes()
            compared += stamp in streamed
    assert compared >= 40
