"""Boosting that is fitted a round at a time: `RoundsAdapter`.

In: rounds that each begin with the sums of those before, from a seed of their own;
their trees as plain arrays, compared with the library's as they come. Out: tables, the
best round, the class mix (`tabular_adapter`), each library (`xgboost_adapter`),
trees of a fit that was interrupted (`kept_rounds`).

Neither the sums nor a seed hang on the process that fitted the rounds before, so a fit
that goes on ends with the bytes of one that was not interrupted, and no library reads
what was kept.
"""

from __future__ import annotations

import abc
import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from artifacts import array_files
from artifacts.array_models import Trees
from files.progress import Progress
from models import conversion, kept_rounds
from models.tabular_adapter import TabularAdapter
from models.window_tables import Table

_COMPARED_ROWS = 1000


@dataclass(frozen=True, kw_only=True)
class Rounds:
    """What was fitted.

    Args:
        start: (num_scores,) before the first round.
        trees: Those of each round, compared with the library's.
    """

    start: np.ndarray
    trees: tuple[Trees, ...] = ()

    def begin(self, inputs: np.ndarray) -> np.ndarray:
        """Returns the sums (num_rows, num_scores) before the first round."""
        return np.tile(self.start, (len(inputs), 1))


class RoundsAdapter(TabularAdapter):
    """Rounds of trees, each fitted by a call of a library; a class below it calls."""

    @abc.abstractmethod
    def make_rows(self, table: Table) -> Any:
        """Returns the library's table of the inputs, targets and weights."""

    @abc.abstractmethod
    def fit_round(
        self, model: Mapping[str, Any], rows: Any, sums: np.ndarray, seed: int
    ) -> Any:
        """Returns a booster of the round that follows on these sums.

        Args:
            model: Parameters of `create_model` and `parameters`.
            rows: Of `make_rows`.
            sums: (num_rows, num_scores) what the rounds before it say of each row.
            seed: Of what the round draws, below 2 ** 31.
        """

    @abc.abstractmethod
    def convert(self, booster: Any) -> Trees:
        """Returns the plain arrays of a booster of one round."""

    @abc.abstractmethod
    def say(self, booster: Any, inputs: np.ndarray) -> np.ndarray:
        """Returns what the library's round adds: (num_rows,) or (num_rows, scores)."""

    def parameters(self, table: Table, num_classes: int | None) -> dict[str, Any]:
        """Returns parameters that hang on the targets; those of a model go before."""
        return {}

    def fit_model(self, model: Mapping[str, Any], table: Table) -> Rounds:
        """Returns all rounds."""
        start, num_classes = self._begin(table)
        if num_classes:
            codes = np.unique(table.targets, return_inverse=True)[1]
            table = replace(table, targets=codes)
        model = {**self.parameters(table, num_classes), **model}
        rows, count = self.make_rows(table), self.config.num_trees
        seeds = np.random.SeedSequence(self.config.seed).generate_state(count) >> 1
        sums = Rounds(start=start).begin(table.inputs)
        sampled, done = table.some(_COMPARED_ROWS).inputs, list[Trees]()

        def grow(seed: np.uint32) -> Trees:
            # A booster holds as much as its table, so none is kept.
            booster = self.fit_round(model, rows, sums, int(seed))
            trees = self.convert(booster)
            self._compare_round(booster, trees, sampled)
            return trees

        if self.kept.done:
            done += self._restored(grow(seeds[0]))
            for each in done:
                each.add_to(sums, table.inputs)
        with Progress("tree", count, done=len(done)) as progress:
            for seed in seeds[len(done) :]:
                done.append(grow(seed))
                done[-1].add_to(sums, table.inputs)
                progress.advance()
                dump = functools.partial(kept_rounds.dump_trees, done)
                self.kept.offer(progress.done, dump)
        return Rounds(start=start, trees=tuple(done))

    def _begin(self, table: Table) -> tuple[np.ndarray, int | None]:
        """Returns where the sums begin, and the number of classes.

        The logarithms of the classes' shares, or the mean of the numbers.
        """
        if self.mix is None:
            targets = table.targets.astype(np.float64)
            return np.array([np.average(targets, weights=table.weights)]), None
        codes = np.unique(table.targets, return_inverse=True)[1]
        counts = np.bincount(codes, weights=table.weights)
        return np.log(counts / counts.sum()), len(counts)

    def _restored(self, first: Trees) -> list[Trees]:
        """Returns the rounds that an earlier process kept, else none.

        Args:
            first: The first round, fitted anew: trees of other rows begin otherwise.
        """
        found: list[Trees] = []
        self.kept.restore(
            lambda content: found.extend(kept_rounds.load_trees(first, content))
        )
        return found

    def _compare_round(self, booster: Any, trees: Trees, inputs: np.ndarray) -> None:
        """Refuses trees that say something else than the round they were."""
        found = np.zeros((len(inputs), trees.num_scores))
        trees.add_to(found, inputs)
        said = self.say(booster, inputs)
        self.require_alike(found, said.reshape(found.shape))

    def staged_outputs(self, model: Rounds, inputs: np.ndarray) -> Iterator[np.ndarray]:
        """Yields what the trees say after each round."""
        sums = model.begin(inputs)
        for trees in model.trees:
            trees.add_to(sums, inputs)
            yield trees.linked(sums.copy())

    def keep_rounds(self, model: Rounds, num_rounds: int) -> Rounds:
        """Returns the first rounds."""
        return replace(model, trees=model.trees[:num_rounds])

    def library_outputs(self, model: Rounds, inputs: np.ndarray) -> np.ndarray:
        """Returns what the rounds add up to, each compared with the library's."""
        return list(self.staged_outputs(model, inputs))[-1]

    def dump_model(self, model: Rounds) -> bytes:
        """Returns all rounds as plain arrays of one model."""
        return array_files.dump_arrays(conversion.joined(model.trees, model.start))
