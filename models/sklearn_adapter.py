"""scikit-learn's families behind the face of `ModelAdapter`.

In: which estimator a family is, and with which sizes. Out: tables, rounds and class
mix (`tabular_adapter`), plain arrays of what was fitted (`conversion`), trees of a fit
that was interrupted (`kept_rounds`).
"""

from __future__ import annotations

import abc
import functools
import logging
import math
import platform
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from artifacts import array_files
from files.progress import Progress
from models import conversion, kept_rounds
from models.tabular_adapter import TabularAdapter
from models.window_tables import Table

logger = logging.getLogger(__name__)

_PIECES, _MOST_TREES = 20, 10
"""Of a forest, in which it is fitted; each has at most so many trees."""


class SklearnAdapter(TabularAdapter):
    """An estimator of scikit-learn; a class below it makes one, `create_model`.

    One that is neither of trees nor linear brings files of its own; see
    `TabularAdapter`.
    """

    package = "scikit-learn"
    # Compilers for other processors join a product and a sum, which rounds once less.
    tolerance = 0.0 if platform.machine() in ("x86_64", "AMD64") else 1e-12

    @abc.abstractmethod
    def create_model(self, num_targets: int) -> Any:
        """Returns the estimator, not yet fitted."""

    def fit_model(self, model: Any, table: Table) -> Any:
        """Fits the estimator, the last step of a pipeline with weights."""
        from sklearn.exceptions import ConvergenceWarning

        *_, (last, _) = getattr(model, "steps", [("", model)])
        name = f"{last}__sample_weight" if last else "sample_weight"
        options = {} if table.weights is None else {name: table.weights}
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ConvergenceWarning)
            self.fit_estimator(model, table.inputs, table.targets, **options)
        for message in {str(each.message).splitlines()[0] for each in caught}:
            logger.warning("%s: %s", self.config.model, message)
        if hasattr(model, "n_jobs"):
            model.n_jobs = None  # threads add the trees up in any order, to other bits
        return model

    def fit_estimator(
        self, model: Any, inputs: np.ndarray, targets: np.ndarray, **options: Any
    ) -> None:
        """Calls `fit`; a family of many trees tells how far it is."""
        model.fit(inputs, targets, **options)

    def go_on(self, model: Any, size: str, fit: Callable[[], object]) -> int:
        """Gives a model the rounds that an earlier process kept; returns how many.

        A first round is fitted anew: what hangs on no round comes with it, and trees of
        other rows begin otherwise.

        Args:
            model: Not yet fitted; `fit` fits the rounds that it lacks from here on.
            size: The parameter that says its rounds.
            fit: Fits it.
        """
        if not self.kept.done:
            return 0
        most = getattr(model, size)
        model.set_params(**{size: 1}, warm_start=True)
        fit()
        model.set_params(**{size: most})
        self.kept.restore(functools.partial(kept_rounds.load_rounds, model))
        return len(getattr(model, "_predictors", None) or model.estimators_)

    def offer_rounds(self, model: Any, done: int) -> None:
        """Keeps the rounds of a model, of which there are `done`, when it is time."""
        self.kept.offer(done, lambda: kept_rounds.dump_rounds(model))

    def staged_outputs(self, model: Any, inputs: np.ndarray) -> Iterator[np.ndarray]:
        """Yields what the estimator says after each round, or once."""
        name = self.choose("predict_proba", "predict")
        if hasattr(model, f"staged_{name}"):
            yield from getattr(model, f"staged_{name}")(inputs)
        else:
            yield getattr(model, name)(inputs)

    def library_outputs(self, model: Any, inputs: np.ndarray) -> np.ndarray:
        """Returns what the estimator says, of linear ones in double precision."""
        predict = getattr(model, self.choose("predict_proba", "predict"))
        return predict(inputs.astype(np.float64))

    def keep_rounds(self, model: Any, num_rounds: int) -> Any:
        """Returns the estimator without its later rounds, if it has any."""
        if hasattr(model, "_predictors"):  # boosting on histograms
            del model._predictors[num_rounds:]
        elif hasattr(model, "n_estimators_"):
            model.estimators_ = model.estimators_[:num_rounds]
            model.set_params(n_estimators=num_rounds)
            model.n_estimators_ = num_rounds
        return model

    def require_writable(self, model: Any) -> None:
        """Refuses an estimator of another kind, unless the family writes it itself."""
        if type(self).dump_model is SklearnAdapter.dump_model:
            conversion.require_sklearn(model)

    def dump_model(self, model: Any) -> bytes:
        """Returns the estimator as plain arrays."""
        arrays = conversion.of_sklearn(model, family=self.config.model)
        return array_files.dump_arrays(arrays)

    def ensemble(self, name: str) -> Any:
        """Returns a class of `sklearn.ensemble`, for classes or for numbers."""
        from sklearn import ensemble

        return getattr(ensemble, name + self.choose("Classifier", "Regressor"))

    def least_leaf(self, num_targets: int, share: float) -> int:
        """Returns the least targets of a leaf; `share` where the run says none."""
        return max(1, round((self.config.min_leaf_share or share) * num_targets))


class RandomForestAdapter(SklearnAdapter):
    """Trees on random parts of the rows, averaged."""

    def create_model(self, num_targets: int) -> Any:
        """Returns a forest; threads share its trees, each with a seed of its own."""
        config = self.config
        return self.ensemble("RandomForest")(
            n_estimators=config.num_trees,
            max_depth=config.max_depth or 10,
            max_leaf_nodes=config.max_leaf_nodes,
            min_samples_leaf=self.least_leaf(num_targets, 0.01),
            max_features=config.max_inputs_share,
            n_jobs=self.num_threads,
            random_state=config.seed,
        )

    def fit_estimator(
        self, model: Any, inputs: np.ndarray, targets: np.ndarray, **options: Any
    ) -> None:
        """Fits pieces of the forest: each tree has the seed that it has anyway."""
        fit = functools.partial(model.fit, inputs, targets, **options)
        count, piece = model.n_estimators, math.ceil(model.n_estimators / _PIECES)
        done = self.go_on(model, "n_estimators", fit)
        model.set_params(warm_start=True)
        with Progress("tree", count, done=done) as trees:
            while trees.done < count:
                number = min(piece, _MOST_TREES, count - trees.done)
                model.set_params(n_estimators=trees.done + number)
                fit()
                trees.advance(number)
                self.offer_rounds(model, trees.done)


class GradientBoostingAdapter(SklearnAdapter):
    """Rounds of trees on histograms of the inputs."""

    def create_model(self, num_targets: int) -> Any:
        """Returns boosting without its own early stopping.

        That would hold out random rows, whose windows overlap those it trains on.
        """
        config = self.config
        return self.ensemble("HistGradientBoosting")(
            max_iter=config.num_trees,
            learning_rate=config.boosting_rate,
            max_depth=config.max_depth,
            max_leaf_nodes=config.max_leaf_nodes or 6,
            min_samples_leaf=self.least_leaf(num_targets, 0.05),
            max_features=config.max_inputs_share,
            early_stopping=False,
            random_state=config.seed,
        )

    def fit_estimator(
        self, model: Any, inputs: np.ndarray, targets: np.ndarray, **options: Any
    ) -> None:
        """Fits; what computes the gradients of a round tells that it begins."""
        fit = functools.partial(model.fit, inputs, targets, **options)
        count = model.max_iter
        done = self.go_on(model, "max_iter", fit)
        with Progress("tree", count, done=done) as trees:

            def tell() -> None:
                if (number := len(model._predictors)) > trees.done:
                    trees.advance(number - trees.done)
                    self.offer_rounds(model, number)

            if done < count:
                _let_tell(model, tell)
                fit()
            trees.advance(count - trees.done)


def _let_tell(model: Any, tell: Callable[[], None]) -> None:
    """Lets boosting on histograms, which tells nobody, tell of each round's begin."""
    make = model._get_loss

    def make_telling(sample_weight: Any) -> Any:
        loss = make(sample_weight)
        name = "gradient" if loss.constant_hessian else "gradient_hessian"
        compute = getattr(loss, name)

        def telling(*given: Any, **named: Any) -> Any:
            tell()
            return compute(*given, **named)

        setattr(loss, name, telling)
        return loss

    model._get_loss = make_telling


class ClassicGradientBoostingAdapter(SklearnAdapter):
    """Rounds of trees on the inputs themselves, each on three tenths of the rows."""

    def create_model(self, num_targets: int) -> Any:
        """Returns boosting that draws the rows of each round anew."""
        config, share = self.config, 0.3
        return self.ensemble("GradientBoosting")(
            n_estimators=config.num_trees,
            learning_rate=config.boosting_rate,
            max_depth=config.max_depth or 3,
            max_leaf_nodes=config.max_leaf_nodes,
            min_samples_leaf=self.least_leaf(round(share * num_targets), 0.05),
            max_features=config.max_inputs_share,
            subsample=share,
            random_state=config.seed,
        )

    def fit_estimator(
        self, model: Any, inputs: np.ndarray, targets: np.ndarray, **options: Any
    ) -> None:
        """Fits; the library tells of each round."""
        fit = functools.partial(model.fit, inputs, targets, **options)
        count, done = model.n_estimators, 0
        # Where a product joins a sum, trees gone on with sum up to other last bits.
        can_go_on = self.tolerance == 0
        if can_go_on:
            done = self.go_on(model, "n_estimators", fit)
        with Progress("tree", count, done=done) as trees:

            def tell(number: int, *_: Any) -> bool:
                trees.advance()
                if can_go_on:
                    self.offer_rounds(model, number + 1)
                return False  # true would end it

            if done < count:
                fit(monitor=tell)


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
