"""What contradicts inside a part is found by the part alone."""

import dataclasses

import pytest

from config import PARTS, Config
from settings.data_fields import DataFields
from settings.feature_fields import FeatureFields
from settings.label_fields import LabelFields
from settings.loss_fields import LossFields
from settings.network_fields import NetworkFields
from settings.run_fields import RunFields
from settings.training_fields import TrainingFields


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        (
            LabelFields(dead_zone_pct=1.0),
            "dead_zone_pct: expected target 'direction' with it. "
            "Received: target 'signal'",
        ),
        (LabelFields(dead_zone_pct=1.0, target="direction"), ""),
        (
            FeatureFields(feature_sets=("core9",)),
            "feature_sets: expected one of core8, core8_7d, window_stats, ray12, "
            "indicators34, calendar, funding, open_interest. Received: 'core9'. Did "
            "you mean 'core8'? A name of your own must be less alike.",
        ),
        (
            RunFields(model="random_forst"),
            "model: expected one of lstm, gru, cnn, cnn_lstm, mlp, tcn, attention, "
            "ensemble, hybrid, random_forest, gradient_boosting, "
            "classic_gradient_boosting, lightgbm, xgboost, catboost, logistic, ppo, "
            "sac, td3, stack. Received: 'random_forst'. Did you mean 'random_forest'? "
            "A name of your own must be less alike.",
        ),
        (RunFields(model="mine"), ""),
        (
            RunFields(model="Mine"),
            "model: expected one of lstm, gru, cnn, cnn_lstm, mlp, tcn, attention, "
            "ensemble, hybrid, random_forest, gradient_boosting, "
            "classic_gradient_boosting, lightgbm, xgboost, catboost, logistic, ppo, "
            "sac, td3, stack, or a name of your own of small letters and digits, "
            "joined by single _. Received: 'Mine'.",
        ),
        (FeatureFields(feature_sets=("Mine_2",)), ""),
        (
            LossFields(loss="focl"),
            "loss: expected one of cross_entropy, focal, cost_sensitive, mse, mae, "
            "huber, quantile, directional, sharpe, return_volatility, combined, "
            "regression, robust, financial, volatility_aware. Received: 'focl'. "
            "Did you mean 'focal'? A name of your own must be less alike.",
        ),
        (
            DataFields(start_date="2024-02-01", end_date="2024-01-01"),
            "start_date: expected not after end_date. "
            "Received: 2024-02-01 > 2024-01-01",
        ),
        (DataFields(train_end="2022-09-16", validation_end="2023-09-16"), ""),
        (
            DataFields(train_end="2022-09-16"),
            "train_end, validation_end: expected both or neither. "
            "Received: 2022-09-16 and None",
        ),
        (
            DataFields(
                train_end="2022-09-16", validation_end="2023-09-16", test_split=0.2
            ),
            "validation_split, test_split: expected 0.2 and 0.1, their defaults, "
            "beside train_end and validation_end, which say where parts end. "
            "Received: 0.2 and 0.2",
        ),
        (
            DataFields(train_end="2023-09-16", validation_end="2023-09-16"),
            "train_end: expected before validation_end. "
            "Received: 2023-09-16 >= 2023-09-16",
        ),
        (
            DataFields(
                start_date="2023-01-01",
                train_end="2023-01-01",
                validation_end="2023-09-16",
                end_date="2023-09-16",
            ),
            "validation_end: expected before end_date. "
            "Received: 2023-09-16 >= 2023-09-16",
        ),
        (
            TrainingFields(lr_schedule="cosine", warmup_epochs=3, epochs=3),
            "warmup_epochs: expected fewer than epochs. Received: 3 of 3",
        ),
        (
            LossFields(loss="combined", loss_parts=("focal", "mse")),
            "loss_parts: expected losses that are compared with the same numbers (one "
            "of class or value). Received: ('focal', 'mse')",
        ),
    ],
)
def test_a_part_knows_what_contradicts_in_it(part, expected):
    assert part.problems() == ([expected] if expected else [])


def test_a_network_is_held_against_its_own_fields():
    network = NetworkFields(gru_units=(), cnn_filters=(8,) * 3, sequence_length=7)
    assert network.family_problems("lstm") == []
    assert network.family_problems("gru") == [
        "gru_units: expected at least one layer. Received: ()"
    ]
    assert network.family_problems("cnn") == [
        "sequence_length: expected at least 8 for 3 convolutions, each of which halves "
        "the bars. Received: 7"
    ]


def test_a_loss_is_held_against_the_target():
    loss = LossFields(loss="volatility_aware", huber_delta=2.0)
    assert loss.losses_of("return") == ("return_volatility",)
    assert loss.target_problems("return") == [
        "huber_delta: expected loss huber with it. Received: loss 'volatility_aware'"
    ]
    assert loss.target_problems("price") == [
        "loss: expected one for target 'price': mse, mae, huber, quantile, "
        "directional. Received: 'return_volatility'",
        "huber_delta: expected loss huber with it. Received: loss 'volatility_aware'",
    ]
    assert LossFields().loss_of("signal") == "cross_entropy"
    assert LossFields(huber_delta=2.0).target_problems("price") == []


@pytest.mark.parametrize("part", PARTS)
def test_a_docstring_tells_of_each_field_in_its_order(part):
    assert list(part.documentation()) == [
        item.name for item in dataclasses.fields(part)
    ]
    assert part.title() in part.__doc__ and "\n" not in part.title()


def test_parts_share_no_field_and_keep_their_order():
    owners = [item.name for part in PARTS for item in dataclasses.fields(part)]
    assert owners == [item.name for item in dataclasses.fields(Config)]
    assert owners[:2] == ["pair", "timeframe"] and owners[-1] == "verbose_logging"
