"""What differs between a target with classes and one that is a number: `Task`.

In: the questions that judging asks. Out: the answers (`classes`, `numbers`), their
order, and which of both a run has (`evaluate`).
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import pandas as pd

from config import Config
from data_loader import TrainingData
from evaluation.part_scores import PartScores
from evaluation.policies import Policy
from evaluation.results import Part, Settings
from settings.evaluation_fields import EvaluationFields

OfRun = TypeVar("OfRun")


class Names(dict[str, str]):
    """Baseline -> its name in words; a model that a run builds on goes by its key."""

    def __missing__(self, key: str) -> str:
        """Returns the key as words: `member_1_lstm` is `member 1 lstm`."""
        return key.replace("_", " ")


class Task(abc.ABC, Generic[OfRun, Part]):
    """What a model is asked for, and how its answers are judged.

    Generic in the results of a run and of one part.
    """

    part_scores: ClassVar[type[PartScores]]
    """What scores one part of the predictions."""

    claimed: ClassVar[Mapping[str, Sequence[str]]]
    """Claim -> intervals of the test part that must lie above 0, the first one shown.
    See `verdict`."""

    p_value: ClassVar[str]
    """Key of the p-value that the claim of direction needs, too."""

    baseline_names: ClassVar[Mapping[str, str]]
    """Baseline -> its name in words."""

    loss_name: ClassVar[str]
    """The loss by which models are compared, in words."""

    measures: ClassVar[Mapping[str, str]]
    """Column of a comparison of models -> key of a part's intervals."""

    skill_name: ClassVar[str]
    """The skill that a model loses without a feature, in words."""

    @abc.abstractmethod
    def columns(
        self, data: TrainingData, part: str, outputs: np.ndarray
    ) -> dict[str, Any]:
        """Returns what happened and what a model said, as columns (num_rows,).

        Args:
            data: Arrays and parts.
            part: Name of the part.
            outputs: A model's outputs in the order of its targets.

        Raises:
            ValueError: If the outputs are not those of as many targets.
        """

    @abc.abstractmethod
    def learn_policy(
        self, validation: pd.DataFrame, data: TrainingData, config: EvaluationFields
    ) -> tuple[Policy, dict[str, Any]]:
        """Returns a policy without thresholds, and how it came about."""

    @abc.abstractmethod
    def describe(
        self,
        data: TrainingData,
        config: Config,
        settings: Settings,
        choice: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Returns what stands before the parts in the results.

        Args:
            data: The same data.
            config: The same run.
            settings: Costs, sizes and seeds.
            choice: How the policy came about.
        """

    @abc.abstractmethod
    def warnings(self, results: OfRun) -> list[str]:
        """Returns what a reader has to know before believing a number."""

    @abc.abstractmethod
    def source_line(self, test: Part, claims: Mapping[str, bool | None]) -> str:
        """Returns the second line of the verdict: in what the skill lies.

        Args:
            test: Results of the test part.
            claims: See `verdict.Claims`.
        """

    def unanswerable(self, results: OfRun) -> str:
        """Returns why the skill on test cannot be said, or nothing."""
        return ""

    @abc.abstractmethod
    def truth_and_losses(
        self, column: Callable[[str], np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns what happened, and the loss of each row (num_rows,).

        Args:
            column: Gives a column of the predictions by its name.
        """

    @abc.abstractmethod
    def reference_losses(
        self,
        truth: np.ndarray,
        results: OfRun,
        column: Callable[[str], np.ndarray],
    ) -> np.ndarray:
        """Returns the losses (num_rows,) that the first of `claimed`'s skills beats.

        Args:
            truth: What happened, from `truth_and_losses`.
            results: Of the run.
            column: Gives a column of the predictions by its name.
        """

    @abc.abstractmethod
    def mean_loss(self, part: Part) -> float:
        """Returns the mean of those losses, from the results of a part."""

    @abc.abstractmethod
    def skills(
        self, outputs: np.ndarray, targets: np.ndarray, data: TrainingData
    ) -> dict[str, float | None]:
        """Returns skills of outputs against forecasts of the training part.

        Args:
            outputs: Of a model, in the order of the targets.
            targets: `data.supervision` of the same rows (num_rows,).
            data: The same data.

        Returns:
            `all`, and further ones by name; None where there is nothing to know.
        """
