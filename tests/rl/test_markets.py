"""The market of a training file."""

import numpy as np
import pandas as pd
import pytest
from world.classes import SMALL, hours, load, market

from rl.markets import Embedding, known_rows, market_of
from utils import DataError


def wandering(seed=0):
    frame = market(seed)
    steps = np.random.default_rng(seed).normal(0.0, 0.002, len(frame))
    frame["close"] = 1000.0 * np.exp(np.cumsum(steps))
    return frame


def test_a_return_is_known_where_a_target_looks_at_it():
    frame = wandering()
    data = load(frame)
    found = market_of(data)
    close = frame["close"].to_numpy()
    for part in data.parts.values():
        first, last = part.targets[0], part.targets[-1] + SMALL.future_window
        rows = np.arange(first, min(last, len(close) - 1))
        np.testing.assert_allclose(
            found.returns[rows], np.log(close[rows + 1] / close[rows]), rtol=1e-9
        )
        assert np.isnan(found.returns[first - 1])
        assert np.isnan(found.returns[last : last + 1]).all()
    assert np.isnan(found.returns[-1])
    train = found.returns[: data.parts["train"].stop]
    assert found.scale == pytest.approx(np.nanstd(train))
    assert found.features is data.features


def test_no_return_crosses_a_gap():
    frame = wandering()
    times = hours(len(frame))
    frame["timestamp"] = times[:300].append(times[300:] + pd.Timedelta("5h"))
    seen = known_rows(load(frame))
    assert seen[298] and not seen[299] and seen[300]


def test_embeddings_are_in_units_of_the_training_part():
    data = load(wandering())
    found = market_of(
        data, embedding=Embedding(lambda windows: 3.0 + windows[:, -1, :2])
    )
    part = data.parts["train"]
    rows = np.flatnonzero(np.isfinite(found.returns))
    train = found.features[rows[(rows >= part.start) & (rows < part.stop)]]
    np.testing.assert_allclose(train.mean(axis=0), 0.0, atol=1e-5)
    np.testing.assert_allclose(train.std(axis=0), 1.0, atol=1e-5)
    assert found.features.shape == (data.num_rows, 2)


def test_a_file_without_closes_or_moves_is_refused():
    with pytest.raises(DataError, match="column close"):
        market_of(load(wandering().drop(columns="close")))
    with pytest.raises(DataError, match="price moves"):
        market_of(load(market()))
