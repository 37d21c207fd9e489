"""LightGBM behind the face of `ModelAdapter`; the package is optional.

In: its parameters, rounds and outputs. Out: tables, the best round and the class mix
(`tabular_adapter`), model files (`artifacts.lightgbm_files`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from artifacts.lightgbm_files import dump_lightgbm, import_lightgbm, load_lightgbm
from config import Config
from models.tabular_adapter import TabularAdapter
from models.window_tables import Table


class LightGBMAdapter(TabularAdapter):
    """Rounds of LightGBM's trees on histograms of the inputs.

    Args:
        config: The run.

    Raises:
        DependencyError: If LightGBM is not installed.
    """

    suffix = ".txt"
    package = "lightgbm"

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._library = import_lightgbm()

    def create_model(self, num_targets: int) -> dict[str, Any]:
        """Returns parameters: one thread, whose sums depend on no machine."""
        config = self.config
        share = config.min_leaf_share or 0.05
        return {
            "objective": "regression" if self.is_regression else "multiclass",
            "learning_rate": config.boosting_rate,
            "max_depth": config.max_depth or -1,
            "num_leaves": config.max_leaf_nodes or 6,
            "min_data_in_leaf": max(1, round(share * num_targets)),
            "feature_fraction_bynode": config.max_inputs_share,
            "seed": config.seed % 2**31,
            "deterministic": True,
            "force_col_wise": True,
            "num_threads": 1,
            "verbosity": -1,
        }

    def fit_model(self, model: dict[str, Any], table: Table) -> Any:
        """Returns a booster of all rounds."""
        targets = table.targets
        if not self.is_regression:
            classes, targets = np.unique(targets, return_inverse=True)
            model = model | {"num_class": len(classes)}
        rows = self._library.Dataset(table.inputs, targets, weight=table.weights)
        return self._library.train(model, rows, self.config.num_trees)

    def staged_outputs(self, model: Any, inputs: np.ndarray) -> Iterator[np.ndarray]:
        """Yields what the booster says after each round."""
        total: Any = 0.0
        for number in range(model.current_iteration()):
            total = total + model.predict(
                inputs,
                start_iteration=number,
                num_iteration=1,
                raw_score=True,
                num_threads=1,
            )
            yield total if self.is_regression else _softmax(total)

    def dump_model(self, model: Any, table: Table, num_rounds: int) -> bytes:
        """Returns the text of the first rounds."""
        return dump_lightgbm(model, num_rounds=num_rounds)

    def open_model(self, content: bytes, where: object) -> Any:
        """Returns the booster in such a text."""
        return load_lightgbm(content, where)

    def raw_outputs(self, inputs: np.ndarray) -> np.ndarray:
        """Returns (num_rows, num_classes) probabilities, or (num_rows,) numbers."""
        return self.model.predict(inputs, num_threads=1)

    def check_model(self, model: Any, num_inputs: int, num_classes: int | None) -> None:
        """Raises ValueError unless the model is a booster of these sizes."""
        if not isinstance(model, self._library.Booster):
            raise ValueError(f"expected a Booster. Received: {type(model).__name__}")
        found = (model.num_feature(), model.num_model_per_iteration())
        if found != (num_inputs, num_classes or 1):
            raise ValueError(
                f"expected {num_inputs} inputs, {num_classes or 1} outputs"
            )

    def input_importance(self) -> np.ndarray:
        """Returns the gain of each input's splits."""
        return self.model.feature_importance("gain")

    def count_parameters(self) -> int:
        """Returns the leaves of all trees."""
        trees = self.model.dump_model()["tree_info"]
        return sum(int(tree["num_leaves"]) for tree in trees)


def _softmax(scores: np.ndarray) -> np.ndarray:
    values = np.exp(scores - scores.max(axis=1, keepdims=True))
    return values / values.sum(axis=1, keepdims=True)
