"""scikit-learn's families behind the face of `ModelAdapter`.

In: which estimator a family is, and with which sizes. Out: tables, rounds and class
mix (`tabular_adapter`), model files (`artifacts.skops_files`).
"""

from __future__ import annotations

import abc
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from artifacts import skops_files
from models.tabular_adapter import TabularAdapter
from models.window_tables import Table

logger = logging.getLogger(__name__)


class SklearnAdapter(TabularAdapter):
    """An estimator of scikit-learn; a class below it makes one, `create_model`.

    Its types must be among those of `artifacts.skops_schema`, all that is ever opened.
    """

    suffix = ".skops"
    package = "scikit-learn"

    @abc.abstractmethod
    def create_model(self, num_targets: int) -> Any:
        """Returns the estimator, not yet fitted."""

    def fit_model(self, model: Any, table: Table) -> Any:
        """Fits the estimator, the last step of a pipeline with weights."""
        from sklearn.exceptions import ConvergenceWarning

        options = {}
        if table.weights is not None:
            steps = getattr(model, "steps", None)
            prefix = f"{steps[-1][0]}__" if steps else ""
            options[f"{prefix}sample_weight"] = table.weights
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ConvergenceWarning)
            model.fit(table.inputs, table.targets, **options)
        for message in {str(each.message).splitlines()[0] for each in caught}:
            logger.warning("%s: %s", self.config.model, message)
        return model

    def staged_outputs(self, model: Any, inputs: np.ndarray) -> Iterator[np.ndarray]:
        """Yields what the estimator says after each round, or once."""
        name = "predict" if self.is_regression else "predict_proba"
        if hasattr(model, f"staged_{name}"):
            yield from getattr(model, f"staged_{name}")(inputs)
        else:
            yield getattr(model, name)(inputs)

    def dump_model(self, model: Any, table: Table, num_rounds: int) -> bytes:
        """Returns the `.skops` file of the estimator with its first rounds."""
        return skops_files.dump_sklearn(self.keep_rounds(model, table, num_rounds))

    def keep_rounds(self, model: Any, table: Table, num_rounds: int) -> Any:
        """Returns the estimator as it was after some rounds; here there is one."""
        return model

    def open_model(self, content: bytes, where: object) -> Any:
        """Returns the estimator in a `.skops` file."""
        return skops_files.load_sklearn(content, where)

    def raw_outputs(self, inputs: np.ndarray) -> np.ndarray:
        """Returns (num_rows, num_classes) probabilities, or (num_rows,) numbers."""
        if self.is_regression:
            return self.model.predict(inputs)
        return self.model.predict_proba(inputs)

    def check_model(self, model: Any, num_inputs: int, num_classes: int | None) -> None:
        """Raises ValueError unless the model is of this family, with these sizes."""
        wanted = type(self.create_model(1000))
        if type(model) is not wanted or model.n_features_in_ != num_inputs:
            raise ValueError(f"expected a {wanted.__name__} of {num_inputs} inputs")
        if num_classes is not None and len(model.classes_) != num_classes:
            raise ValueError(
                f"expected {num_classes} classes. Received: {len(model.classes_)}"
            )

    def input_importance(self) -> np.ndarray | None:
        """Returns impurity taken away, or the size of coefficients; None without."""
        model = self.model
        if hasattr(model, "feature_importances_"):
            return np.asarray(model.feature_importances_)
        if hasattr(model, "steps") and hasattr(model.steps[-1][1], "coef_"):
            return np.abs(model.steps[-1][1].coef_).mean(axis=0)
        return None

    def count_parameters(self) -> int:
        """Returns the leaves of all trees, or the coefficients."""
        model = self.model
        if hasattr(model, "steps"):
            last = model.steps[-1][1]
            return int(last.coef_.size + last.intercept_.size)
        if hasattr(model, "estimators_"):
            return sum(int(tree.get_n_leaves()) for tree in np.ravel(model.estimators_))
        trees = [tree for stage in model._predictors for tree in stage]
        return sum(int(tree.get_n_leaf_nodes()) for tree in trees)

    def least_leaf(self, num_targets: int, share: float) -> int:
        """Returns the least targets of a leaf; `share` where the run says none."""
        return max(1, round((self.config.min_leaf_share or share) * num_targets))


class RandomForestAdapter(SklearnAdapter):
    """Trees on random parts of the rows, averaged."""

    def create_model(self, num_targets: int) -> Any:
        """Returns a forest; threads share its trees, each with a seed of its own."""
        from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

        config = self.config
        kind = RandomForestRegressor if self.is_regression else RandomForestClassifier
        return kind(
            n_estimators=config.num_trees,
            max_depth=config.max_depth or 10,
            max_leaf_nodes=config.max_leaf_nodes,
            min_samples_leaf=self.least_leaf(num_targets, 0.01),
            max_features=config.max_inputs_share,
            n_jobs=self.num_threads,
            random_state=config.seed,
        )


class GradientBoostingAdapter(SklearnAdapter):
    """Rounds of trees on histograms of the inputs."""

    def create_model(self, num_targets: int) -> Any:
        """Returns boosting without its own early stopping.

        That would hold out random rows, whose windows overlap those it trains on.
        """
        from sklearn.ensemble import (
            HistGradientBoostingClassifier,
            HistGradientBoostingRegressor,
        )

        config = self.config
        kind = HistGradientBoostingClassifier
        if self.is_regression:
            kind = HistGradientBoostingRegressor
        return kind(
            max_iter=config.num_trees,
            learning_rate=config.boosting_rate,
            max_depth=config.max_depth,
            max_leaf_nodes=config.max_leaf_nodes or 6,
            min_samples_leaf=self.least_leaf(num_targets, 0.05),
            max_features=config.max_inputs_share,
            early_stopping=False,
            random_state=config.seed,
        )

    def keep_rounds(self, model: Any, table: Table, num_rounds: int) -> Any:
        """Fits the first rounds again, which come out the same."""
        if num_rounds == model.max_iter:
            return model
        return self.fit_model(model.set_params(max_iter=num_rounds), table)


class ClassicGradientBoostingAdapter(SklearnAdapter):
    """Rounds of trees on the inputs themselves, each on three tenths of the rows."""

    def create_model(self, num_targets: int) -> Any:
        """Returns boosting that draws the rows of each round anew."""
        from sklearn.ensemble import (
            GradientBoostingClassifier,
            GradientBoostingRegressor,
        )

        config, share = self.config, 0.3
        kind = GradientBoostingClassifier
        if self.is_regression:
            kind = GradientBoostingRegressor
        return kind(
            n_estimators=config.num_trees,
            learning_rate=config.boosting_rate,
            max_depth=config.max_depth or 3,
            max_leaf_nodes=config.max_leaf_nodes,
            min_samples_leaf=self.least_leaf(round(share * num_targets), 0.05),
            max_features=config.max_inputs_share,
            subsample=share,
            random_state=config.seed,
        )

    def keep_rounds(self, model: Any, table: Table, num_rounds: int) -> Any:
        """Drops the later trees."""
        model.set_params(n_estimators=num_rounds)
        model.estimators_ = model.estimators_[:num_rounds]
        model.n_estimators_ = num_rounds
        return model


class LogisticAdapter(SklearnAdapter):
    """Multinomial logistic regression of standardised inputs."""

    def create_model(self, num_targets: int) -> Any:
        """Returns a pipeline of scaling and regression."""
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        # The library weighs the sum of the losses: fewer targets would weigh less.
        strength = 1.0 / (self.config.logistic_penalty * num_targets)
        regression = LogisticRegression(C=strength, max_iter=1000)
        return make_pipeline(StandardScaler(), regression)

    def raw_outputs(self, inputs: np.ndarray) -> np.ndarray:
        """Returns probabilities computed in double precision.

        A product of matrices rounds otherwise for one row than for many: so it stays
        below what anybody reads.
        """
        return super().raw_outputs(inputs.astype(np.float64))
