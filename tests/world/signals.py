"""Candles with a gap and missing bars, a recipe, and rules that need no artifact."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from config import Config
from dataset.blocks import warm_up_bars
from evaluation.policies import SignalPolicy
from preprocessing.pipelines import PreprocessingPipeline
from preprocessing.scaling import FeatureScaler
from preprocessing.templates import pipeline_of, run_pipeline
from signals.answers import AnswerRules, to_table
from utils import duration_seconds

LATER = "2100-01-01"


def make_candles(num_bars, *, timeframe="4h", seed=0, dropped=()):
    """A random walk of bars, without those at the `dropped` places."""
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(0.01 * rng.standard_normal(num_bars)))
    open_ = np.r_[close[0], close[:-1]]
    step = pd.Timedelta(seconds=duration_seconds(timeframe))
    table = pd.DataFrame(
        {
            "timestamp": pd.Timestamp("2024-01-01", tz="UTC")
            + step * np.arange(num_bars),
            "open": open_,
            "high": np.maximum(open_, close) * (1 + 0.005 * rng.random(num_bars)),
            "low": np.minimum(open_, close) * (1 - 0.005 * rng.random(num_bars)),
            "close": close,
            "volume": rng.lognormal(0, 1, num_bars),
        }
    )
    return table.drop(index=list(dropped)).reset_index(drop=True)


class Recipe(NamedTuple):
    """A run's configuration, and the steps before its model."""

    config: Config
    pipeline: PreprocessingPipeline


def make_recipe(feature_sets=("ray12",), **fields):
    """How the features of a run of 4h bars are made, windows of 8 of them."""
    usual = {"timeframe": "4h", "sequence_length": 8, "future_window": 6}
    fields = usual | {"max_fill_bars": 5} | fields
    config = Config(pair="TESTUSDT", feature_sets=tuple(feature_sets), **fields)
    names = features_of(config)
    scaler = FeatureScaler(
        kind="standard",
        feature_names=names,
        center=(0.0,) * len(names),
        scale=(100.0,) * len(names),
        clip_limit=10.0,
        num_rows=1,
    )
    pipeline = run_pipeline(config, names, {"built_by_us": True})
    return Recipe(config, pipeline.with_scaler(scaler))


def features_of(config):
    """Names of a configuration's features."""
    return pipeline_of("cnn_lstm", config).feature_names


def make_broken_candles(recipe):
    """Candles with a gap after their first answers, and missing bars behind it."""
    needed = warm_up_bars(recipe.config) + recipe.config.sequence_length
    gap, late = needed + 15, 2 * needed + 40
    dropped = [*range(gap, gap + 10), late, late + 1, late + 8]
    return make_candles(
        max(recipe.pipeline.min_candles + 15, late + 20), dropped=dropped
    ), gap


def make_rules(recipe, **fields):
    """What answers with a smooth function of the window, so that every bit counts."""
    width = len(recipe.pipeline.feature_names)

    def say(windows):
        weights = np.linspace(-1, 1, 3 * width).reshape(width, 3)
        scores = windows.astype(np.float64).mean(axis=1) @ weights
        odds = np.exp(scores - scores.max(axis=1, keepdims=True))
        return (odds / odds.sum(axis=1, keepdims=True)).astype(np.float32)

    policy = SignalPolicy(
        uses_thresholds=True, short_threshold=0.3334, long_threshold=0.3334
    )
    return AnswerRules(
        config=recipe.config,
        policy=policy,
        pipeline=recipe.pipeline,
        say=say,
        model_id="a model",
        **fields,
    )


def answer(recipe, table, *, last=None, now=LATER, **fields):
    """Rows of the last bars of a table, of all of them for None."""
    count = 10**6 if last is None else last
    newest = recipe.pipeline.features(table, last=count)
    return to_table(make_rules(recipe, **fields).columns(newest, now))
