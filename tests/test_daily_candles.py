"""Daily candles that open at 07:00 UTC, in parts by date: from the builder to a report.

The days are those of a published split of BTC: train to 2022-09-16, validation and test
a year each.
"""

import json

import pandas as pd
import pytest

import dataset_builder
import trainer
from candles.synthetic import synthetic_candles

FLAGS = ("--pair", "BTCUSDT", "--timeframe", "1d", "--future-window", "1")
SPLIT = ("--train-end", "2022-09-16", "--validation-end", "2023-09-16")
QUICK = (
    *("--sequence-length", "5", "--num-trees", "5"),
    *("--no-baseline-model", "--importance-windows", "none"),
)


@pytest.fixture(params=["made-up", "real"])
def candles(request, tmp_path):
    """A file of daily candles, every one of which opens at 07:00 UTC."""
    if request.param == "real":
        folder = request.getfixturevalue("shared_data")
        days = pd.read_parquet(folder / "BTCUSDT-1d.parquet")
    else:
        days = synthetic_candles(2894, timeframe="1d", start="2017-08-17", seed=3)
    path = tmp_path / "BTCUSDT-1d.parquet"
    days["timestamp"] += pd.Timedelta("7h")
    days.to_parquet(path)
    return path


@pytest.mark.parametrize(
    ("target", "model"), [("direction", "logistic"), ("price", "gradient_boosting")]
)
def test_the_published_split_is_two_flags(candles, tmp_path, capsys, target, model):
    inputs = (*FLAGS, "--target", target, "--inputs-dir", str(tmp_path / "in"))
    assert dataset_builder.main([str(candles), *inputs]) == 0
    assert "every daily bar opens at 07:00 UTC" in capsys.readouterr().out
    outputs = ("--outputs-dir", str(tmp_path / "out"), "--model", model)
    days = (*SPLIT, "--end-date", "2024-09-16")
    assert trainer.main([*inputs, *outputs, *days, *QUICK]) == 0
    printed = capsys.readouterr().out
    [report] = (tmp_path / "out").glob("models/BTCUSDT/*/2*/*_report.json")
    results = json.loads(report.read_text())
    # Windows of five days lie inside a part; the day after the last is its outcome.
    assert [
        (results[part]["num_samples"], results[part]["first"], results[part]["last"])
        for part in ("validation", "test")
    ] == [
        (360, "2022-09-21T07:00:00+00:00", "2023-09-15T07:00:00+00:00"),
        (361, "2023-09-21T07:00:00+00:00", "2024-09-15T07:00:00+00:00"),
    ]
    assert "1,823 targets" in printed
    if target == "direction":  # no day ends as it began: HOLD is never in question
        assert "activity no n/a" in printed
    if target == "price":
        assert "vs persistence" in printed.split("test: 361 windows")[0]
        head, _, table = printed.split("test: 361 windows")[1].partition("this model")
        assert "(persistence " in head and "\n  persistence " in table
