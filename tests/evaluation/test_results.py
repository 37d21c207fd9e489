"""The types of the results say every key that there is, and no other."""

from typing import NotRequired, get_args, get_origin, get_type_hints, is_typeddict

import numpy as np
import pandas as pd
import pytest
from world.frames import make_own_frame

from config import Config
from data_loader import TrainingDataLoader
from evaluation.evaluate import evaluate, fit_policy, predictions_table
from evaluation.results import ClassPart, ClassResults, NumberPart, NumberResults


def results_of(target):
    """All of the evaluation, with trades and the boosting baseline."""
    frame = make_own_frame(3000, seed=1)
    frame["timestamp"] = pd.date_range("2024", periods=3000, freq="h", tz="UTC")
    rng = np.random.default_rng(0)
    if target != "signal":
        frame = frame.drop(columns="label")
        frame["close"] = 1000 * np.exp(np.cumsum(0.01 * rng.standard_normal(3000)))
        frame["target"] = frame["close"].shift(-5)
        frame = frame.iloc[:-5]
    config = Config(
        pair="TESTUSDT",
        timeframe="1h",
        target=target,
        sequence_length=10,
        future_window=5,
        undersampling_min_samples=100,
    )
    loader = TrainingDataLoader.from_frame(frame, config=config)
    data = loader.load_training_data()
    outputs = {}
    for part in ("validation", "test"):
        count = len(data.parts[part].targets)
        outputs[part] = rng.standard_normal(count)
        if target == "signal":
            outputs[part] = rng.dirichlet([1, 2, 1], size=count)
    table = predictions_table(data, outputs)
    policy, choice = fit_policy(table, data, config)
    table = policy.add_signals(table)
    return evaluate(table, data, config, policy=policy, choice=choice)


def differences(value, kind, place):
    """Yields the keys that a TypedDict says and a value has not, and the reverse."""
    for key, hint in get_type_hints(kind, include_extras=True).items():
        is_needed = get_origin(hint) is not NotRequired
        if key in value:
            inner = hint if is_needed else get_args(hint)[0]
            yield from differences_inside(value[key], inner, f"{place}.{key}")
        elif is_needed:
            yield f"{place}.{key} is missing"
    for key in value.keys() - get_type_hints(kind):
        yield f"{place}.{key} is not in {kind.__name__}"


def differences_inside(value, hint, place):
    if is_typeddict(hint):
        yield from differences(value, hint, place)
    elif get_origin(hint) is list:
        for k, item in enumerate(value):
            yield from differences_inside(item, get_args(hint)[0], f"{place}.{k}")
    elif get_origin(hint) is dict:
        for key, item in value.items():
            yield from differences_inside(item, get_args(hint)[1], f"{place}.{key}")


@pytest.mark.parametrize(
    ("target", "kind", "part_kind"),
    [
        ("signal", ClassResults, ClassPart),
        ("price", NumberResults, NumberPart),
    ],
)
def test_every_key_is_in_the_types(target, kind, part_kind):
    results = results_of(target)
    assert (
        "tried" in results["thresholds"] and "skipped" not in results["test"]["trading"]
    )
    assert not list(differences(results, kind, target))
    for part in ("validation", "test"):
        assert not list(differences(results[part], part_kind, part))
    del results["test"]["intervals"]
    results["test"]["trading"]["surplus"] = 0
    assert sorted(differences(results["test"], part_kind, "test")) == [
        "test.intervals is missing",
        "test.trading.surplus is not in Trading",
    ]
