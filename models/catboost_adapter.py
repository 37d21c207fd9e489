"""CatBoost behind the face of `ModelAdapter`; the package is optional.

In: its parameters, a round, its JSON as plain arrays. Out: rounds and what is kept of
them (`rounds_adapter`), the best round and the class mix (`tabular_adapter`).
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import utils
from artifacts.array_models import LEAF, Trees
from models import conversion
from models.rounds_adapter import RoundsAdapter
from models.window_tables import Table

_LINKS = dict.fromkeys("RMSE MAE Quantile Huber".split(), "identity")
_LINKS["MultiClass"] = "softmax"
"""Losses whose rounds plain arrays express."""
_MAX_DEPTH = 16


@dataclass(frozen=True, kw_only=True)
class _NoSplit:
    """Rows that no split tells apart, and a round of them; the library refuses them."""

    num_inputs: int
    num_scores: int

    def predict(self, inputs: np.ndarray, **_: Any) -> np.ndarray:
        return np.zeros((len(inputs), self.num_scores))


class CatBoostAdapter(RoundsAdapter):
    """Rounds of CatBoost's trees on histograms of the inputs."""

    package = "catboost"

    def require_library(self) -> None:
        """Raises DependencyError if CatBoost is not installed."""
        import_catboost()

    def create_model(self, num_targets: int) -> dict[str, Any]:
        """Returns parameters: one thread, whose sums depend on no machine.

        Rows are drawn and scores of splits disturbed nowhere, as in the other families.
        """
        config = self.config
        share = config.min_leaf_share or 0.05
        return {
            "loss_function": self.choose("MultiClass", "RMSE"),
            "learning_rate": config.boosting_rate,
            "boosting_type": "Plain",
            "grow_policy": "Lossguide",
            "depth": min(config.max_depth or _MAX_DEPTH, _MAX_DEPTH),
            "max_leaves": config.max_leaf_nodes or 6,
            "min_data_in_leaf": max(1, round(share * num_targets)),
            "rsm": config.max_inputs_share,
            "bootstrap_type": "No",
            "random_strength": 0,
            "thread_count": 1,
            "allow_writing_files": False,
            "logging_level": "Silent",
        }

    def parameters(self, table: Table, num_classes: int | None) -> dict[str, Any]:
        """Returns the number of classes."""
        return {} if num_classes is None else {"classes_count": num_classes}

    def make_rows(self, table: Table) -> Any:
        """Returns a pool of the inputs' histograms."""
        cells, targets = table.inputs, table.targets
        if (cells == cells[0]).all() or (targets == targets[0]).all():
            num_scores = self.choose(len(np.unique(targets)), 1)
            return _NoSplit(num_inputs=cells.shape[1], num_scores=num_scores)
        rows = import_catboost().Pool(
            cells, targets, weight=table.weights, thread_count=1
        )
        rows.quantize()
        return rows

    def fit_round(
        self, model: Mapping[str, Any], rows: Any, sums: np.ndarray, seed: int
    ) -> Any:
        """Returns a model of one round, whose sums begin at 0 elsewhere."""
        if isinstance(rows, _NoSplit):
            return rows
        own = {"iterations": 1, "random_seed": seed}
        found = import_catboost().CatBoost({**model, **own})
        rows.set_baseline(sums)
        return found.fit(rows)

    def convert(self, booster: Any) -> Trees:
        """Returns its trees."""
        return of_catboost(booster, family=self.config.model)

    def say(self, booster: Any, inputs: np.ndarray) -> np.ndarray:
        """Returns what a round adds to the scores."""
        return booster.predict(inputs, prediction_type="RawFormulaVal", thread_count=1)

    def require_writable(self, model: dict[str, Any]) -> None:
        """Refuses parameters of other trees, unless the family writes them itself."""
        if type(self).dump_model is not RoundsAdapter.dump_model:
            return
        loss = str(model.get("loss_function")).partition(":")[0]
        if loss not in _LINKS:
            raise utils.ConfigError(
                f"expected a loss_function of {', '.join(_LINKS)}. Received: "
                f"{dict(model)!r:.300}. {conversion.OWN_FILES}"
            )


def of_catboost(model: Any, *, family: str) -> Trees:
    """Returns the numbers of a fitted model; ConfigError if arrays have none.

    The library goes right where an input is above the border, both in single precision.
    """
    if isinstance(model, _NoSplit):
        scale, start, num_inputs = 1.0, [0.0] * model.num_scores, model.num_inputs
        link = "softmax" if model.num_scores > 1 else "identity"
        roots: Iterable[Any] = [{"value": start, "weight": 0.0}]
    else:
        content = _read(model)
        link = _LINKS[content["model_info"]["params"]["loss_function"]["type"]]
        scale, start = content["scale_and_bias"]
        num_inputs = len(model.feature_names_)
        roots = content.get("trees") or map(_unfolded, content["oblivious_trees"])
    worth = np.zeros(num_inputs)
    trees = [(*_columns_of(root, scale, worth), 0) for root in roots]
    return conversion.trees_of(
        trees,
        family=family,
        start=np.array(start, np.float64),
        link=link,
        is_single=True,
        num_inputs=num_inputs,
        num_classes=len(start) if link == "softmax" else None,
        importance=worth,
    )


def _read(model: Any) -> Any:
    """Returns a model's JSON; ConfigError if arrays do not express it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.json")
        model.save_model(str(path), format="json")
        content = json.loads(path.read_bytes())
    loss = content["model_info"]["params"]["loss_function"]["type"]
    kinds = content["features_info"].keys()
    if loss not in _LINKS or kinds != {"float_features"}:
        raise utils.ConfigError(
            f"expected numbers, and a loss of {', '.join(_LINKS)}. Received: "
            f"{', '.join(kinds)} and {loss}. {conversion.OWN_FILES}"
        )
    return content


def _unfolded(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Returns an oblivious tree as one whose nodes have a split each.

    The last split decides the highest bit of a leaf's number.
    """
    splits, weights = tree["splits"] or [], tree["leaf_weights"]
    values = np.reshape(tree["leaf_values"], (len(weights), -1)).tolist()
    nodes: list[dict[str, Any]] = [
        {"value": value, "weight": weight}
        for value, weight in zip(values, weights, strict=True)
    ]
    for split in splits:
        pairs = zip(nodes[::2], nodes[1::2], strict=True)
        nodes = [{"left": a, "right": b, "split": split} for a, b in pairs]
    return nodes[0]


def _columns_of(
    root: Mapping[str, Any], scale: float, worth: np.ndarray
) -> tuple[np.ndarray, ...]:
    """Returns five columns, level by level; adds what each split is worth.

    That is how far it moves the targets' mean score: PredictionValuesChange,
    https://catboost.ai/docs/en/concepts/fstr
    """
    nodes = list(_level_by_level(root))
    place = {id(node): number for number, node in enumerate(nodes)}
    weight, value = np.zeros(len(nodes)), [np.zeros(0)] * len(nodes)
    columns = np.full((3, len(nodes)), LEAF)
    limits = np.zeros(len(nodes))
    for number in reversed(range(len(nodes))):
        node = nodes[number]
        if "value" in node:
            value[number] = scale * np.atleast_1d(node["value"])
            weight[number] = node["weight"]
            continue
        split = node["split"]
        left, right = (place[id(node[side])] for side in ("left", "right"))
        columns[:, number] = split["float_feature_index"], left, right
        limits[number] = split["border"]
        weight[number] = total = weight[left] + weight[right]
        share = weight[right] / total if total else 0.0
        apart = value[right] - value[left]
        value[number] = value[left] + share * apart
        moved = weight[left] * share * np.square(apart).sum()
        worth[split["float_feature_index"]] += moved
    return *columns, limits, np.stack(value)


def _level_by_level(root: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    level = [root]
    while level:
        yield from level
        level = [
            node[side]
            for node in level
            if "value" not in node
            for side in ("left", "right")
        ]


def import_catboost() -> Any:
    """Returns the module; DependencyError if it is not installed."""
    try:
        import catboost
    except ImportError as error:
        raise utils.DependencyError(
            "expected the package catboost for model 'catboost'. Received: none. "
            "Install it: pip install -r requirements-catboost.txt"
        ) from error
    return catboost
