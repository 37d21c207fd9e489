"""Data that teach little: constant columns, one class, classes met too late.

Each family either trains and reports finite numbers, or says in one message why not.
"""

import re

import numpy as np
import pytest
from world.frames import CORE8, TINY, make_own_frame
from world.pictures import pictures

from config import CLASS_NAMES, Config
from reports import report
from settings.network_fields import NETWORKS
from settings.tree_fields import CLASS_MODELS, TABULAR_MODELS
from trainer import StandaloneTrainer
from utils import DataError

TINIEST = TINY | {
    "epochs": 1,
    "num_branches": 1,
    "num_trees": 4,
    "baseline_model": False,
    "importance_windows": 20,
    "gru_units": (4,),
    "cnn_filters": (4,),
    "cnn_kernels": (3,),
    "cnn_lstm_filters": (4,),
    "cnn_lstm_kernels": (3,),
    "cnn_lstm_units": (4,),
    "tcn_filters": 4,
    "attention_blocks": 1,
    "attention_heads": 2,
    "attention_dim": 8,
    "attention_ff_dim": 8,
    "gate_units": 4,
}
RENDERED = ("lstm", "lightgbm", "random_forest")
"""One family a case: what a picture shows does not depend on the family."""
NUM_ROWS = 600
OF_ROWS = (*NETWORKS, *TABULAR_MODELS)
"""Families that build on no other."""
PARTS = {"train": (0, 420), "validation": (420, 540), "test": (540, 600)}


def make_labels(**classes):
    """Labels (num_rows,); `train=(0, 1)` draws that part's from these classes alone."""
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 3, NUM_ROWS)
    for part, known in classes.items():
        start, stop = PARTS[part]
        labels[start:stop] = rng.choice(known, stop - start)
    return labels


def make_returns(*moving):
    """A frame whose close moves in the rows of some parts, and else stands still."""
    steps = np.zeros(NUM_ROWS + 5)
    for part in moving:
        start, stop = PARTS[part]
        steps[start:stop] = np.random.default_rng(4).normal(0, 1e-3, stop - start)
    close = 1000 * np.exp(np.cumsum(steps))
    frame = make_own_frame(NUM_ROWS).drop(columns="label")
    target = np.log(close[5:] / close[:-5])
    return frame.assign(close=close[:NUM_ROWS], target=target)


def constant(frame, *names):
    return frame.assign(**dict.fromkeys(names, 3.0))


@pytest.fixture
def train(tmp_path):
    def run(frame, model, **fields):
        config = Config(**TINIEST | fields).replace(
            model=model, outputs_dir=str(tmp_path)
        )
        trainer = StandaloneTrainer(config, frame=frame)
        with pictures(are_rendered=model in RENDERED):
            trainer.run_training()
        require_finite(trainer)
        return trainer

    return run


def require_finite(trainer):
    """No NaN in history, predictions, or anything a person reads."""
    for name, values in trainer.history.items():
        assert np.isfinite(values).all(), name
    table = trainer.predictions
    said = [
        c for c in table if c.startswith(("probability", "calibrated", "predicted"))
    ]
    assert said and np.isfinite(table[said].to_numpy()).all()
    page = (trainer.artifact_dir / "report.html").read_text()
    page = re.sub(r"base64,[A-Za-z0-9+/=]+", "", page)
    for text in (page, report.format_results(trainer.results)):
        assert not re.search(r"\b(nan|inf)\b", text, re.IGNORECASE)


@pytest.mark.parametrize("model", NETWORKS)
def test_constant_columns_and_a_class_first_met_in_the_test_part(model, train, caplog):
    labels = make_labels(train=(0, 1), validation=(0, 1))
    frame = constant(make_own_frame(NUM_ROWS, label=labels), *CORE8)
    trainer = train(frame, model, target="direction")
    assert "the training part has no LONG target" in caplog.text
    said = trainer.predictions["probability_long"]
    assert (said > 0).all() and said.std() < 1e-6
    assert trainer.results["test"]["classes"]["LONG"]["support"] > 0
    assert not any(trainer.results["claims"].values())
    assert trainer.results["verdict"][0].startswith("Skill: cannot be said, training")
    for feature in trainer.results["importance"]["features"]:
        assert feature["mean"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("model", ["cnn", "lightgbm"])
def test_parts_and_folds_of_one_class(model, train):
    labels = make_labels(validation=(1,), test=(2,))
    labels[150:290] = 1  # the first fold's validation part and most of its test part
    frame = constant(make_own_frame(NUM_ROWS, label=labels), "volume_change")
    trainer = train(frame, model, n_splits=2)
    classes = trainer.results["test"]["classes"]
    assert [classes[name]["support"] > 0 for name in CLASS_NAMES] == [0, 0, 1]
    assert not trainer.results["claims"]["direction"]
    assert trainer.results["cross_validation"]["num_folds"] == 2
    worth = {x["name"]: x["mean"] for x in trainer.results["importance"]["features"]}
    assert worth["volume_change"] == 0


@pytest.mark.parametrize("model", OF_ROWS)
def test_training_on_one_class_is_refused(model, train):
    frame = make_own_frame(NUM_ROWS, label=make_labels(train=(1,)))
    with pytest.raises(DataError, match="two classes in .* SHORT: 0, HOLD: 408"):
        train(frame, model)


@pytest.mark.parametrize("model", [m for m in OF_ROWS if m not in CLASS_MODELS])
@pytest.mark.parametrize("target", ["return", "price"])
def test_training_on_a_price_that_stands_still_is_refused(model, target, train):
    frame = make_returns("test")
    if target == "price":
        frame["target"] = frame["close"] * np.exp(frame["target"])
    with pytest.raises(DataError, match="values that differ in the training part"):
        train(frame, model, target=target)


@pytest.mark.parametrize("model", ["gru", "random_forest"])
def test_a_price_that_stands_still_after_training_is_no_skill(model, train):
    trainer = train(make_returns("train"), model, target="return", n_splits=2)
    assert trainer.results["test"]["skill_mse_vs_persistence"] is None
    assert trainer.results["verdict"][0].startswith("Skill: none shown")
