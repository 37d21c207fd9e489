"""The trials of a study, kept by Optuna in a SQLite file that the driver alone writes.

In: asking for the next point, noting what came of it, stopping what is behind, who is
best and which field matters. Out: what is searched (`spaces`), doing a trial (`trial`),
in which order all this happens (`tuning`).
"""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path
from typing import Any

import numpy as np

import utils
from tuning.spaces import Space

DATABASE = "study.db"
_NOTES = ("error", "exit_code", "seconds", "same_as")
NUM_RANDOM = 10
"""Trials before the sampler begins to learn, as Optuna has it."""


class Study:
    """Asks and tells; everything that is known lies in the file.

    Each point is drawn by a generator of its own, from the seed and its number: a study
    that goes on draws as one that never stopped.

    Args:
        folder: Of the study, on a local disk.
        space: What is searched.
        seed: Of the points.
        maximizes: Whether a larger objective is better.
        prunes: Whether trials are stopped that are behind the median of others.
        is_parallel: Whether points are asked for while others are tried.
    """

    def __init__(
        self,
        folder: Path,
        space: Space,
        *,
        seed: int,
        maximizes: bool = False,
        prunes: bool = True,
        is_parallel: bool = False,
    ) -> None:
        optuna = import_optuna()
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.space, self.maximizes = space, maximizes
        self._seed, self._is_parallel = seed, is_parallel
        # SQLite's own journal is a rollback one: a killed driver leaves it whole.
        self._storage = optuna.storages.RDBStorage(f"sqlite:///{folder / DATABASE}")
        pruners = optuna.pruners
        self._study = optuna.create_study(
            storage=self._storage,
            study_name="study",
            direction="maximize" if maximizes else "minimize",
            pruner=pruners.MedianPruner() if prunes else pruners.NopPruner(),
            load_if_exists=True,
        )
        self._known: dict[int, set[int]] = {}

    def close(self) -> None:
        """Lets go of the file."""
        self._storage.remove_session()
        self._storage.engine.dispose()

    # What is tried

    def ask(self) -> tuple[int, dict[str, Any]]:
        """Returns the number of the next trial, and its fields."""
        optuna = import_optuna()
        number = len(self._study.get_trials(deepcopy=False))
        with warnings.catch_warnings():  # `constant_liar` is called experimental
            warnings.simplefilter("ignore")
            self._study.sampler = optuna.samplers.TPESampler(
                seed=_seed_of(self._seed, number),
                n_startup_trials=NUM_RANDOM,
                constant_liar=self._is_parallel,
            )
        trial = self._study.ask(self.space.distributions())
        return trial.number, self.space.values_of(trial.params)

    def unfinished(self) -> dict[int, dict[str, Any]]:
        """Returns number -> fields of the trials that nobody told the end of.

        One whose driver was killed before its point was whole fails here.
        """
        running, found = import_optuna().trial.TrialState.RUNNING, {}
        for each in self._study.get_trials(deepcopy=False, states=(running,)):
            if self._is_whole(each):
                found[each.number] = self.space.values_of(each.params)
            else:
                self.tell(each.number, error="the study was killed as it was asked for")
        return found

    def _is_whole(self, trial: Any) -> bool:
        return trial.params.keys() == self.space.distributions().keys()

    # What came of it

    def report(self, number: int, step: int, value: float) -> bool:
        """Notes what a trial has come to; returns whether it is to stop."""
        trial = self._trial(number)
        known = self._known.setdefault(
            number, set(self._study.trials[number].intermediate_values)
        )
        if step in known:
            return False
        known.add(step)
        trial.report(value, step)
        return trial.should_prune()

    def tell(
        self,
        number: int,
        value: float | None = None,
        *,
        error: str | None = None,
        **notes: Any,
    ) -> None:
        """Notes how a trial ended: with a value, an error, or pruned.

        Args:
            number: Of the trial.
            value: Its objective; None where it failed or was pruned.
            error: Why it failed.
            notes: More that is kept of it, ready for JSON.
        """
        states, trial = import_optuna().trial.TrialState, self._trial(number)
        state = states.PRUNED if value is None else states.COMPLETE
        if error is not None:
            state, notes = states.FAIL, notes | {"error": error}
        for name, note in notes.items():
            trial.set_user_attr(name, note)
        self._study.tell(number, value, state=state)

    def _trial(self, number: int) -> Any:
        found = self._study.get_trials(deepcopy=False)[number]
        return import_optuna().trial.Trial(self._study, found._trial_id)

    # What is known

    def trials(self) -> list[dict[str, Any]]:
        """Returns every trial in order: `number`, `state`, `value`, `fields`, `error`.

        `suggested` has a word or number for each dimension, `num_steps` counts what was
        reported, `same_as` is an earlier trial of the same fields.
        """
        return [
            {
                "number": each.number,
                "state": each.state.name.lower(),
                "value": each.value if each.state.name == "COMPLETE" else None,
                "suggested": dict(each.params),
                "fields": self.space.values_of(each.params),
                "num_steps": len(each.intermediate_values),
            }
            | {name: each.user_attrs.get(name) for name in _NOTES}
            for each in self._study.get_trials(deepcopy=False)
            if self._is_whole(each)
        ]

    def trial(self, number: int) -> dict[str, Any]:
        """Returns one of `trials`."""
        return next(each for each in self.trials() if each["number"] == number)

    def best(self) -> dict[str, Any] | None:
        """Returns the best of the trials that came to an end; the first of equals."""
        done = [each for each in self.trials() if each["state"] == "complete"]
        sign = -1 if self.maximizes else 1
        return min(done, key=lambda each: sign * each["value"], default=None)

    def importance(self) -> dict[str, float]:
        """Returns the share of each dimension in how the objective varies; most first.

        Empty where too few trials came to an end, or all to the same.

        Source: Hutter, Hoos and Leyton-Brown (2014), "An efficient approach for
        assessing hyperparameter importance" (fANOVA).
        """
        done = [each["value"] for each in self.trials() if each["state"] == "complete"]
        if len(set(done)) < 2 or len(self.space.dimensions) < 2:
            return {}
        importance = import_optuna().importance
        evaluator = importance.FanovaImportanceEvaluator(seed=self._seed % 2**31)
        found = importance.get_param_importances(self._study, evaluator=evaluator)
        return {name: float(share) for name, share in found.items()}


def _seed_of(seed: int, number: int) -> int:
    content = f"{seed} {number}".encode()
    return int.from_bytes(hashlib.sha256(content).digest()[:4], "big")


def import_optuna() -> Any:
    """Returns the package; DependencyError if it is not installed."""
    try:
        import optuna
    except ImportError as error:
        raise utils.DependencyError(
            "expected the package optuna for a study. Received: none. "
            "Install it: pip install -r requirements-tuning.txt"
        ) from error
    return optuna


def is_better(value: float, other: float, *, maximizes: bool) -> bool:
    """Whether an objective is better than another."""
    return bool(np.sign(value - other) == (1 if maximizes else -1))
