"""XGBoost behind the face of `ModelAdapter`; the package is optional.

In: its parameters, a round, its JSON as plain arrays. Out: rounds and what is kept of
them (`rounds_adapter`), the best round and the class mix (`tabular_adapter`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

import utils
from artifacts.array_models import LEAF, Trees
from models import conversion
from models.rounds_adapter import RoundsAdapter
from models.window_tables import Table

_LINKS = {
    "reg:squarederror": "identity",
    "reg:absoluteerror": "identity",
    "reg:pseudohubererror": "identity",
    "reg:quantileerror": "identity",
    "multi:softprob": "softmax",
}
"""Objectives whose rounds plain arrays express."""


class XGBoostAdapter(RoundsAdapter):
    """Rounds of XGBoost's trees on histograms of the inputs."""

    package = "xgboost"

    def require_library(self) -> None:
        """Raises DependencyError if XGBoost is not installed."""
        import_xgboost()

    def library_version(self) -> str:
        """Returns that of whichever of its two distributions is installed."""
        return import_xgboost().__version__

    def create_model(self, num_targets: int) -> dict[str, Any]:
        """Returns parameters: one thread, whose sums depend on no machine."""
        config = self.config
        return {
            "objective": self.choose("multi:softprob", "reg:squarederror"),
            "learning_rate": config.boosting_rate,
            "tree_method": "hist",
            "grow_policy": "lossguide",
            "max_depth": config.max_depth or 0,
            "max_leaves": config.max_leaf_nodes or 6,
            "colsample_bynode": config.max_inputs_share,
            "nthread": 1,
            "verbosity": 0,
        }

    def parameters(self, table: Table, num_classes: int | None) -> dict[str, Any]:
        """Returns the least sum of second derivatives in a leaf, and the classes.

        The library counts no rows. The derivative of a squared error is the weight of
        its row; of a class of share p it is 2 p (1 - p) of it, of which the mean over
        the classes is taken.
        """
        weights = table.weights
        total = float(len(table.targets) if weights is None else weights.sum())
        least = (self.config.min_leaf_share or 0.05) * total
        if num_classes is None:
            return {"min_child_weight": least}
        shares = np.bincount(table.targets, weights=weights) / total
        least *= float(np.mean(2 * shares * (1 - shares)))
        return {"min_child_weight": least, "num_class": num_classes}

    def make_rows(self, table: Table) -> Any:
        """Returns a matrix of the inputs' histograms."""
        return import_xgboost().QuantileDMatrix(
            table.inputs, table.targets, weight=table.weights, nthread=1
        )

    def fit_round(
        self, model: Mapping[str, Any], rows: Any, sums: np.ndarray, seed: int
    ) -> Any:
        """Returns a booster of one round, whose sums begin at 0 elsewhere."""
        margin = sums.astype(np.float32)
        rows.set_base_margin(margin if margin.shape[1] > 1 else margin[:, 0])
        own = {"seed": seed, "base_score": 0.0}
        booster = import_xgboost().Booster({**model, **own}, [rows])
        booster.update(rows, 0)
        return booster

    def convert(self, booster: Any) -> Trees:
        """Returns its trees."""
        return of_xgboost(booster, family=self.config.model)

    def say(self, booster: Any, inputs: np.ndarray) -> np.ndarray:
        """Returns what a round adds to the scores."""
        return booster.inplace_predict(inputs, predict_type="margin")

    def require_writable(self, model: dict[str, Any]) -> None:
        """Refuses parameters of other trees, unless the family writes them itself."""
        if type(self).dump_model is not RoundsAdapter.dump_model:
            return
        is_plain = model.get("booster", "gbtree") == "gbtree"
        is_plain = is_plain and "multi_strategy" not in model
        if model.get("objective") not in _LINKS or not is_plain:
            raise utils.ConfigError(
                f"expected an objective of {', '.join(_LINKS)}, and trees whose leaves "
                f"are numbers that add up. Received: {dict(model)!r:.300}. "
                f"{conversion.OWN_FILES}"
            )


def of_xgboost(booster: Any, *, family: str) -> Trees:
    """Returns the numbers of a fitted booster; ConfigError if arrays have none.

    The library goes left where an input is below the threshold, both in single
    precision: plain arrays, where it is at most the number before it.
    """
    learner = json.loads(booster.save_raw("json"))["learner"]
    objective, facts = learner["objective"]["name"], learner["learner_model_param"]
    grown = learner["gradient_booster"]
    has_numbers = grown["name"] == "gbtree" and facts["num_target"] == "1"
    if objective not in _LINKS or not has_numbers:
        raise utils.ConfigError(
            f"expected gbtree with an objective of {', '.join(_LINKS)} and one target. "
            f"Received: {grown['name']} with {objective}. {conversion.OWN_FILES}"
        )
    num_classes = int(facts["num_class"]) or None
    model, num_inputs = grown["model"], int(facts["num_feature"])
    columns = [_columns_of(tree) for tree in model["trees"]]
    places = zip(columns, model["tree_info"], strict=True)
    start = np.broadcast_to(json.loads(facts["base_score"]), num_classes or 1)
    worth = np.zeros(num_inputs)
    for tree, (feature, *_) in zip(model["trees"], columns, strict=True):
        inner = feature != LEAF
        np.add.at(worth, feature[inner], np.array(tree["loss_changes"])[inner])
    return conversion.trees_of(
        [(*each, column) for each, column in places],
        family=family,
        start=start.astype(np.float64),
        link=_LINKS[objective],
        is_single=True,
        num_inputs=num_inputs,
        num_classes=num_classes,
        importance=worth,
    )


def _columns_of(tree: Mapping[str, Any]) -> tuple[np.ndarray, ...]:
    left, right = (np.array(tree[f"{x}_children"], int) for x in ("left", "right"))
    ends, limits = left == LEAF, np.array(tree["split_conditions"], np.float32)
    if any(tree["split_type"]) or int(tree["tree_param"]["size_leaf_vector"]) > 1:
        raise utils.ConfigError(
            "expected splits of numbers, and a number at each leaf. Received: others. "
            f"{conversion.OWN_FILES}"
        )
    feature = np.where(ends, LEAF, tree["split_indices"])
    before = np.nextafter(limits, np.float32(-np.inf))
    return feature, left, right, before, limits.astype(np.float64)[:, None]


def import_xgboost() -> Any:
    """Returns the module; DependencyError if it is not installed."""
    try:
        import xgboost
    except ImportError as error:
        raise utils.DependencyError(
            "expected the package xgboost-cpu or xgboost for model 'xgboost'. "
            "Received: none. Install it: pip install -r requirements-xgboost.txt"
        ) from error
    return xgboost
