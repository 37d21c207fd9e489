"""LightGBM behind the face of `ModelAdapter`; the package is optional.

In: its parameters, rounds and outputs. Out: tables, the best round and the class mix
(`tabular_adapter`), plain arrays of what was fitted (`conversion`), trees of a fit that
was interrupted (`kept_rounds`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

import utils
from artifacts import array_files
from files.progress import Progress
from models import conversion, kept_rounds
from models.tabular_adapter import TabularAdapter
from models.window_tables import Table


class LightGBMAdapter(TabularAdapter):
    """Rounds of LightGBM's trees on histograms of the inputs."""

    package = "lightgbm"
    tolerance = 1e-12

    def require_library(self) -> None:
        """Raises DependencyError if LightGBM is not installed."""
        import_lightgbm()

    def create_model(self, num_targets: int) -> dict[str, Any]:
        """Returns parameters: one thread, whose sums depend on no machine."""
        config = self.config
        share = config.min_leaf_share or 0.05
        return {
            "objective": self.choose("multiclass", "regression"),
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
        if self.mix is not None:
            classes, targets = np.unique(targets, return_inverse=True)
            model = model | {"num_class": len(classes)}
        rows = functools.partial(
            import_lightgbm().Dataset, table.inputs, targets, weight=table.weights
        )
        known, count = self._go_on(model, rows), self.config.num_trees
        with Progress("tree", count, done=self.kept.done) as trees:

            def tell(environment: Any) -> None:
                trees.advance()
                booster = environment.model
                self.kept.offer(trees.done, lambda: kept_rounds.dump_booster(booster))

            return self._train(model, rows(), trees.done, count, tell, known=known)

    def _go_on(self, model: Mapping[str, Any], rows: Callable[[], Any]) -> Any:
        """Returns a booster of the rounds that an earlier process kept, or None.

        A first round is fitted anew: trees of other rows begin otherwise.
        """
        found = None

        def give(content: kept_rounds.Columns) -> None:
            nonlocal found
            text = kept_rounds.booster_text(self._train(model, rows(), 0, 1), content)
            found = import_lightgbm().Booster(model_str=text)

        self.kept.restore(give)
        return found

    def _train(
        self,
        model: Mapping[str, Any],
        rows: Any,
        done: int,
        count: int,
        *called: Callable[[Any], None],
        known: Any = None,
    ) -> Any:
        """Returns a booster of `count` rounds, of which `done` are known.

        Each round has a generator of its own: the library says of none where it stands.
        """
        if done >= count:
            return known
        seeds = np.random.SeedSequence(self.config.seed).generate_state(count)
        left = iter(seeds[done:] >> 1)

        def seed(environment: Any) -> None:
            own = {"feature_fraction_seed": int(next(left))}
            inputs = environment.model.train_set
            # Where no input tells rows apart there is no split, and the library fails.
            if any(map(inputs.feature_num_bin, range(inputs.num_feature()))):
                environment.model.reset_parameter(own)

        seed.before_iteration = True  # type: ignore[attr-defined]
        return import_lightgbm().train(
            dict(model), rows, count - done, init_model=known, callbacks=[seed, *called]
        )

    def staged_outputs(self, model: Any, inputs: np.ndarray) -> Iterator[np.ndarray]:
        """Yields what the booster says after each round."""
        from scipy.special import softmax

        total: Any = 0.0
        for number in range(model.current_iteration()):
            total = total + model.predict(
                inputs,
                start_iteration=number,
                num_iteration=1,
                raw_score=True,
                num_threads=1,
            )
            yield total if self.mix is None else softmax(total, axis=1)

    def keep_rounds(self, model: Any, num_rounds: int) -> Any:
        """Returns a booster of the first rounds."""
        text = model.model_to_string(num_iteration=num_rounds)
        return import_lightgbm().Booster(model_str=text)

    def library_outputs(self, model: Any, inputs: np.ndarray) -> np.ndarray:
        """Returns what the booster says."""
        return model.predict(inputs, num_threads=1)

    def require_writable(self, model: dict[str, Any]) -> None:
        """Refuses parameters of other trees, unless the family writes them itself."""
        if type(self).dump_model is LightGBMAdapter.dump_model:
            conversion.require_lightgbm(model)

    def dump_model(self, model: Any) -> bytes:
        """Returns the booster as plain arrays."""
        arrays = conversion.of_lightgbm(model, family=self.config.model)
        return array_files.dump_arrays(arrays)


def import_lightgbm() -> Any:
    """Returns the module; DependencyError if it is not installed."""
    try:
        import lightgbm
    except ImportError as error:
        raise utils.DependencyError(
            "expected the package lightgbm for model 'lightgbm'. Received: none. "
            "Install it: pip install -r requirements-lightgbm.txt"
        ) from error
    return lightgbm
