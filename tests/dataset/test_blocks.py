"""The builder, a table of new candles and a stream of them give the same features."""

import numpy as np
import pytest
from world.signals import make_candles, make_recipe

from config import Config
from dataset import blocks
from dataset.builder import build_training_frame
from preprocessing.bar_stream import BarStream
from utils import ConfigError


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


@pytest.mark.parametrize(
    "fields",
    [
        {"feature_sets": ["ray12", "calendar"]},
        {"feature_sets": ["calendar"]},
        {"feature_sets": ["ray12", "calendar"], "higher_timeframes": ["8h"]},
    ],
)
def test_builder_table_and_stream_agree_to_the_bit(fields):
    recipe = make_recipe(**fields)
    count = recipe.pipeline.min_candles + 60
    candles = make_candles(count, dropped=[count - 20, count - 8])
    frame, _ = build_training_frame(candles, recipe.config)
    frame = frame.set_index("timestamp")[list(recipe.pipeline.feature_names)]
    rows = recipe.pipeline.features(candles, last=30)
    stream = BarStream(recipe.pipeline, candles[:-30])
    bars = [stream.push(stream.read(bar)) for bar in candles[-30:].to_dict("records")]
    streamed = {bar.opens[-1]: bar.values[-1] for bar in bars}
    known = dict(zip(frame.index.as_unit("ns").asi8, frame.to_numpy(), strict=True))
    asked = zip(rows.opens[rows.first :], rows.values[rows.first :], strict=True)
    compared = 0
    for stamp, values in asked:
        assert np.isfinite(values).all()
        if stamp in streamed:
            assert values.tobytes() == streamed[stamp].tobytes()
        if stamp in known:
            assert values.tobytes() == known[stamp].tobytes()
            compared += 1
    assert compared >= 20
