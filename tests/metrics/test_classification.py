"""The confusion matrix and what follows from it, by hand and against scikit-learn."""

import json

import numpy as np
import pytest
from world.frames import make_forecasts

from config import CLASS_NAMES
from metrics import scores as metrics
from metrics.classification import (
    classification_metrics,
    confusion_matrix,
    matrix_metrics,
)


def test_confusion_matrix_has_true_rows():
    matrix = confusion_matrix([0, 1, 1, 2], [0, 1, 2, 1])
    np.testing.assert_array_equal(matrix, [[1, 0, 0], [0, 1, 1], [0, 1, 0]])


def test_matrix_metrics_by_hand():
    scores = matrix_metrics([[1, 1, 0], [0, 6, 0], [0, 2, 0]], class_names=CLASS_NAMES)
    assert scores["accuracy"] == 0.7
    assert scores["num_samples"] == 10
    short, hold, long = (scores["classes"][name] for name in CLASS_NAMES)
    assert (short["precision"], short["recall"]) == (1.0, 0.5)
    assert short["f1"] == pytest.approx(2 / 3)
    assert hold["precision"] == pytest.approx(6 / 9)
    assert hold["undefined"] == []
    assert (long["precision"], long["recall"], long["f1"]) == (0.0, 0.0, 0.0)
    assert long["undefined"] == ["precision"]
    assert scores["macro_f1"] == pytest.approx((2 / 3 + 12 / 15 + 0) / 3)
    assert scores["balanced_accuracy"] == pytest.approx((0.5 + 1 + 0) / 3)
    assert scores["true_share"] == {"SHORT": 0.2, "HOLD": 0.6, "LONG": 0.2}
    assert scores["predicted_share"] == {"SHORT": 0.1, "HOLD": 0.9, "LONG": 0.0}


def test_balanced_accuracy_is_over_classes_present():
    scores = matrix_metrics([[3, 1, 0], [0, 4, 0], [0, 0, 0]], class_names=CLASS_NAMES)
    assert scores["balanced_accuracy"] == pytest.approx(0.875)
    assert scores["classes"]["LONG"]["undefined"] == ["precision", "recall", "f1"]


def test_classification_agrees_with_scikit_learn():
    reference = pytest.importorskip("sklearn.metrics", reason="needs scikit-learn")
    labels, table = make_forecasts()
    predicted = table.argmax(axis=1)
    scores = classification_metrics(labels, table, class_names=CLASS_NAMES)
    expected = {
        "accuracy": reference.accuracy_score(labels, predicted),
        "macro_f1": reference.f1_score(labels, predicted, average="macro"),
        "balanced_accuracy": reference.balanced_accuracy_score(labels, predicted),
        "log_loss": reference.log_loss(labels, table),
        "brier": np.square(np.eye(3)[labels] - table).sum(axis=1).mean(),
    }
    for name, value in expected.items():
        assert scores[name] == pytest.approx(value, abs=1e-9), name
    precision, recall, f1, support = reference.precision_recall_fscore_support(
        labels, predicted
    )
    for k, name in enumerate(CLASS_NAMES):
        of_class = scores["classes"][name]
        assert of_class["precision"] == pytest.approx(precision[k], abs=1e-12)
        assert of_class["recall"] == pytest.approx(recall[k], abs=1e-12)
        assert of_class["f1"] == pytest.approx(f1[k], abs=1e-12)
        assert of_class["support"] == support[k]


def test_references_have_names_and_skill():
    labels, table = make_forecasts()
    prior = metrics.class_prior(labels)
    mixes = np.tile(prior, (len(labels), 1))
    scores = classification_metrics(
        labels,
        table,
        reference={"train_prior": prior, "trailing": mixes},
        class_names=CLASS_NAMES,
    )
    assert scores["skill_vs_train_prior"] == pytest.approx(
        1 - scores["log_loss"] / scores["log_loss_train_prior"]
    )
    assert scores["skill_vs_trailing"] == pytest.approx(scores["skill_vs_own_mix"])
    assert scores["direction_skill_vs_train_prior"] > 0.1
    bare = classification_metrics(
        labels, table, reference=prior, class_names=CLASS_NAMES
    )
    assert bare["skill_vs_reference"] == scores["skill_vs_train_prior"]


def test_a_prior_has_no_skill_against_itself():
    labels, _ = make_forecasts()
    prior = metrics.class_prior(labels)
    table = np.tile(prior, (len(labels), 1))
    scores = classification_metrics(
        labels, table, reference=prior, class_names=CLASS_NAMES
    )
    for part in ("", "activity_", "direction_"):
        assert scores[f"{part}skill_vs_reference"] == pytest.approx(0.0, abs=1e-12)


def test_everything_is_strict_json_even_for_one_class():
    scores = classification_metrics(
        [1, 1], [[0.1, 0.8, 0.1]] * 2, class_names=CLASS_NAMES
    )
    json.dumps(scores, allow_nan=False)
    assert scores["skill_vs_own_mix"] is None
    assert scores["direction_skill_vs_own_mix"] is None


def test_two_classes_have_no_activity():
    scores = classification_metrics(
        [0, 1], [[0.7, 0.3], [0.4, 0.6]], class_names=("DOWN", "UP")
    )
    assert scores["accuracy"] == 1.0
    assert "activity_log_loss" not in scores


@pytest.mark.parametrize(
    ("labels", "table", "message"),
    [
        ([0, 1], [[1, 0, 0]], "each of the 1 rows"),
        ([3], [[1, 0, 0]], "from 0 to 2"),
        ([-1], [[1, 0, 0]], "from 0 to 2"),
        ([0.5], [[1, 0, 0]], "whole numbers"),
        ([np.nan], [[1, 0, 0]], "whole numbers"),
        ([[1, 0, 0]], [[1, 0, 0]], "argmax"),
        ([0], [[np.nan, 0, 0]], "became NaN"),
        ([0], [[0.5, 0.2, 0.2]], "sum to 1"),
        ([0], [[1.5, -0.5, 0.0]], "not negative"),
        ([0], [0.2, 0.8], "num_rows, num_classes"),
    ],
)
def test_bad_arrays_are_refused(labels, table, message):
    with pytest.raises(ValueError, match=message):
        classification_metrics(labels, table, class_names=CLASS_NAMES)
