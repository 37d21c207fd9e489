"""What a study may search: every suggestion is another run, nothing asks another."""

import itertools

import pytest

from artifacts.resuming import run_identity
from config import Config
from tuning.family_spaces import SPACES
from tuning.spaces import read_space
from utils import ConfigError

LSTM = Config(model="lstm")


def points_of(dimension):
    return [*dimension.choices] or [dimension.low, dimension.high]


@pytest.mark.parametrize("model", SPACES)
def test_every_suggestion_of_a_family_is_another_run(model):
    config = Config(model=model)
    space = read_space(None, config)
    for each in space.dimensions:
        tried = [
            run_identity(config.replace(**each.values_of(point)))
            for point in points_of(each)
        ]
        assert len(set(tried)) == len(tried), each.name
    # All dimensions together, at both ends of each.
    for ends in (0, -1):
        suggested = {x.name: points_of(x)[ends] for x in space.dimensions}
        config.replace(**space.values_of(suggested))


def test_filters_kernels_and_heads_are_chosen_together():
    space = read_space(None, Config(model="cnn_lstm"))
    dimensions = {each.name: each for each in space.dimensions}
    assert dimensions["convolutions"].fields == (
        "cnn_lstm_filters",
        "cnn_lstm_kernels",
    )
    for values in dimensions["convolutions"].choices.values():
        assert len(values["cnn_lstm_filters"]) == len(values["cnn_lstm_kernels"])
    assert "cnn_lstm_filters=32,64 cnn_lstm_kernels=5,5" in (
        dimensions["convolutions"].choices
    )
    assert dimensions["attention"].fields == ("cnn_lstm_attention", "attention_heads")


def test_a_space_as_yaml_has_it():
    given = {
        "learning_rate": {"low": 1e-5, "high": 1e-2, "log": True},
        "batch_size": {"low": 32, "high": 128, "step": 32},
        "lstm_units": ["64", [128, 64]],
        "rates": [
            {"lr_schedule": "cosine", "warmup_epochs": 2},
            {"lr_schedule": "constant", "warmup_epochs": 0},
        ],
        "sequence_length": [30, 200],
    }
    space = read_space(given, LSTM)
    found = {name: str(x) for name, x in space.distributions().items()}
    assert found == {
        "learning_rate": "FloatDistribution(high=0.01, log=True, low=1e-05, step=None)",
        "batch_size": "IntDistribution(high=128, log=False, low=32, step=32)",
        "lstm_units": "CategoricalDistribution(choices=('64', '128,64'))",
        "rates": "CategoricalDistribution(choices=('lr_schedule=cosine "
        "warmup_epochs=2', 'lr_schedule=constant warmup_epochs=0'))",
        "sequence_length": "CategoricalDistribution(choices=('30', '200'))",
    }
    point = {"learning_rate": 0.002, "batch_size": 64, "lstm_units": "128,64"}
    point |= {
        "rates": "lr_schedule=cosine warmup_epochs=2",
        "sequence_length": "30",
    }
    assert space.values_of(point) == {
        "learning_rate": 0.002,
        "batch_size": 64,
        "lstm_units": (128, 64),
        "lr_schedule": "cosine",
        "warmup_epochs": 2,
        "sequence_length": 30,
    }
    assert space.most_bars(LSTM) == 200 and not space.changes_loss
    assert read_space({"focal_gamma": [1, 2]}, LSTM.replace(loss="focal")).changes_loss


REFUSED = {
    "learning_rat": ([1, 2], "unknown field. Did you mean 'learning_rate'?"),
    "epochs": ([1, 2], "decides nothing that is learned"),
    "seed": ([1, 2], "decides nothing that is learned"),
    "pair": (["AAAUSDT", "BBBUSDT"], "decides nothing that is learned"),
    "test_split": ([0.1, 0.2], "decides which rows are judged"),
    "n_splits": ([2, 3], "decides which rows are judged"),
    "feature_sets": ([["core8"], ["ray12"]], "asks for another training file"),
    "calibration_method": (["platt", "beta"], "expected --objective cv_net"),
    "gru_units": ([[1], [2]], "has no effect on model 'lstm'"),
    "num_trees": ([1, 2], "has no effect on model 'lstm'"),
    "target": (["return", "direction"], "expected --allow-target"),
    "future_window": ({"low": 10, "high": 20}, "expected --allow-target"),
    "long_tp_pct": ([1, 2], "expected --allow-target"),
    "fee_bps": ([1, 2], "expected --allow-target"),
    "batch_size": ({"low": 9, "high": 3}, "expected low below high"),
    "dropout_rate": ([0.1, 7], "expected < 1. Received: 7"),
    "learning_rate": ({"low": 0, "high": 1, "log": True}, "expected > 0"),
    "weight_decay": ({"low": 0.0, "high": 0.1, "log": True}, "above 0"),
    "momentum": ({"low": 0.1, "high": 0.2, "lgo": 1}, "expected low, high, and log"),
    "optimizer": ({"low": 1, "high": 2}, "because it is no number"),
    "bidirectional": ([True], "two choices or more"),
    "min_learning_rate": ([1e-8, 1.0], "expected at most learning_rate"),
    "dense_units": ("64", "expected a list of choices"),
    "lr_step_epochs": ({"low": 1, "high": 9, "step": 0.5}, "step"),
    "both": ([{"foo": 1}, {"foo": 2}], "unknown field 'foo'"),
}


def test_what_cannot_be_searched_is_refused_together():
    """One by one, and most of them in one message."""
    for name, (content, words) in REFUSED.items():
        with pytest.raises(ConfigError) as refusal:
            read_space({name: content}, LSTM)
        assert words in str(refusal.value), name
    several = {name: REFUSED[name][0] for name in itertools.islice(REFUSED, 12)}
    with pytest.raises(ConfigError) as refusal:
        read_space(several, LSTM)
    assert str(refusal.value).count("\n") == 12


def test_the_question_may_change_where_it_is_said():
    space = read_space({"future_window": [60, 120]}, LSTM, allow_target=True)
    assert space.fields == {"future_window"}
    kinds = {"calibration_method": ["platt", "beta"]}
    assert read_space(kinds, LSTM, judges_trades=True).fields == set(kinds)
