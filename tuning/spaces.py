"""What a study searches: fields of a run, each with choices or a range.

In: reading a space, what none may search, points as Optuna has them. Out: the space of
each family (`family_spaces`), which point is next (`study`), trying it (`trial`).
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from artifacts.resuming import FREE_FIELDS
from config import FIELDS, Config, field_types
from settings.data_fields import DataFields
from settings.evaluation_fields import EvaluationFields
from settings.feature_fields import FeatureFields
from settings.label_fields import LabelFields
from settings.loss_fields import LossFields
from settings.machine_fields import MachineFields
from settings.network_fields import KERAS_MODELS
from settings.run_fields import RunFields
from settings.tree_fields import TABULAR_MODELS, TreeFields
from settings.values import checked
from tuning.family_spaces import default_space
from utils import ConfigError, did_you_mean

_RANGE = ("low", "high", "log", "step")


@dataclass(frozen=True, kw_only=True)
class Dimension:
    """One thing that is suggested: a field, or fields that are chosen together.

    Attributes:
        name: The field, or what the combination is called.
        choices: What is shown of a choice -> the fields that it sets; none of a range.
        low: Least value of a range.
        high: Largest value.
        log: Whether small values are as many as large ones.
        step: Distance of its values; None for any number, 1 of whole ones.
        is_whole: Whether the values are whole numbers.
    """

    name: str
    choices: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    low: float = 0
    high: float = 0
    log: bool = False
    step: float | None = None
    is_whole: bool = False

    @property
    def fields(self) -> tuple[str, ...]:
        """Fields that it sets."""
        if not self.choices:
            return (self.name,)
        return tuple(dict.fromkeys(name for x in self.choices.values() for name in x))

    def values_of(self, suggested: Any) -> Mapping[str, Any]:
        """Returns the fields of a suggestion."""
        return self.choices[suggested] if self.choices else {self.name: suggested}

    def ends(self) -> list[Mapping[str, Any]]:
        """Returns every choice, or both ends of the range."""
        if self.choices:
            return list(self.choices.values())
        return [{self.name: end} for end in (self.low, self.high)]

    def distribution(self) -> Any:
        """Returns it as Optuna has it."""
        from optuna import distributions

        if self.choices:
            return distributions.CategoricalDistribution(tuple(self.choices))
        if self.is_whole:
            low, high, step = int(self.low), int(self.high), int(self.step or 1)
            return distributions.IntDistribution(low, high, self.log, step)
        return distributions.FloatDistribution(
            self.low, self.high, self.log, step=self.step
        )


@dataclass(frozen=True, kw_only=True)
class Space:
    """All dimensions of a study."""

    dimensions: Sequence[Dimension]

    @property
    def fields(self) -> set[str]:
        """Every field that is searched."""
        return {name for each in self.dimensions for name in each.fields}

    def distributions(self) -> dict[str, Any]:
        """Returns the dimensions as Optuna has them."""
        return {each.name: each.distribution() for each in self.dimensions}

    def values_of(self, suggested: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the fields of a point."""
        values: dict[str, Any] = {}
        for each in self.dimensions:
            values |= each.values_of(suggested[each.name])
        return values

    def most_bars(self, config: Config) -> int:
        """Returns the longest window of the space, by which all trials are judged."""
        found = [
            end.get("sequence_length", config.sequence_length)
            for each in self.dimensions
            for end in each.ends()
        ]
        return max([config.sequence_length, *found])

    @property
    def changes_loss(self) -> bool:
        """Whether losses of two trials in training cannot be compared."""
        searched = {x.name for x in dataclasses.fields(LossFields)}
        return bool(self.fields & searched)


def read_space(
    given: Mapping[str, Any] | None,
    config: Config,
    *,
    allow_target: bool = False,
    judges_trades: bool = False,
) -> Space:
    """Returns the space of a mapping, as YAML has it; None: the family's own.

    A field has a list of choices, or a range: `{low: 1e-5, high: 1e-2, log: true}`,
    with `step` where not every number between is meant. Any other name has a list of
    mappings: fields that are chosen together.

    Args:
        given: Name -> choices or range.
        config: The run that is tuned.
        allow_target: Also fields that change the question.
        judges_trades: Whether calibration and thresholds count.

    Raises:
        ConfigError: Listing every unknown field, impossible value and field that a
            study cannot search.
    """
    if given is None:
        given = default_space(config)
    problems, dimensions = [], []
    for name, content in given.items():
        try:
            dimensions.append(_dimension(name, content))
        except ValueError as error:
            problems.append(f"{name}: {error}")
    for each in dimensions:
        for field in each.fields:
            if reason := _refusal(field, config, allow_target, judges_trades):
                problems.append(f"{field}: {reason}")
        if not problems:
            problems += _contradictions(each, config)
    named = [field for each in dimensions for field in each.fields]
    twice = sorted({field for field in named if named.count(field) > 1})
    problems += [f"{field}: expected in one place of the space" for field in twice]
    if not given:
        problems.append("expected at least one field. Received: none")
    if problems:
        lines = [f"  - {problem}" for problem in dict.fromkeys(problems)]
        raise ConfigError("\n".join(["the space cannot be searched:", *lines]))
    return Space(dimensions=dimensions)


def _dimension(name: str, content: Any) -> Dimension:
    if name not in FIELDS:
        is_together = isinstance(content, list) and content
        if not is_together or not all(isinstance(x, Mapping) and x for x in content):
            raise ValueError(
                f"unknown field.{did_you_mean(name, FIELDS)} A name of your own "
                "expects a list of mappings: fields that are chosen together"
            )
        return _choice(name, [dict(each) for each in content])
    if isinstance(content, Mapping):
        return _range(name, content)
    if not isinstance(content, list):
        raise ValueError(
            f"expected a list of choices, or low and high. Received: {content!r:.100}"
        )
    return _choice(name, [{name: each} for each in content])


def _choice(name: str, given: Sequence[Mapping[str, Any]]) -> Dimension:
    if unknown := [key for each in given for key in each if key not in FIELDS]:
        cure = did_you_mean(str(unknown[0]), FIELDS)
        raise ValueError(f"unknown field {unknown[0]!r:.100}.{cure}")
    choices = {}
    for each in given:
        values = {key: _checked(key, value) for key, value in each.items()}
        shown = {k: _shown(v) for k, v in values.items()}
        is_alone = [*values] == [name]
        label = (
            shown[name] if is_alone else " ".join(f"{k}={v}" for k, v in shown.items())
        )
        choices[label] = values
    if len(choices) < max(2, len(given)):
        raise ValueError(
            f"expected two choices or more, each once. Received: {', '.join(choices)}"
        )
    return Dimension(name=name, choices=choices)


def _range(name: str, given: Mapping[str, Any]) -> Dimension:
    unknown = [str(key) for key in given if key not in _RANGE]
    kind = field_types()[name]
    if isinstance(kind, types.UnionType):
        kind = typing.get_args(kind)[0]
    if kind not in (int, float):
        raise ValueError("expected a list of choices, because it is no number")
    if unknown or not {"low", "high"} <= given.keys():
        raise ValueError(
            f"expected low, high, and log or step. Received: {', '.join(given)}"
        )
    low, high = (_checked(name, given[end]) for end in ("low", "high"))
    log, step = given.get("log", False), given.get("step")
    if low is None or high is None or low >= high:
        raise ValueError(f"expected low below high. Received: {low} and {high}")
    if not isinstance(log, bool) or (log and (step is not None or low <= 0)):
        raise ValueError(
            "log: expected true or false, without a step, above 0. "
            f"Received: {log!r:.20}, low {low}, step {step}"
        )
    is_number = isinstance(step, int if kind is int else (int, float))
    if step is not None and (
        not is_number or step is True or not 0 < step <= high - low
    ):
        raise ValueError(f"step: expected within low and high. Received: {step!r:.20}")
    is_whole = kind is int
    return Dimension(
        name=name, low=low, high=high, log=log, step=step, is_whole=is_whole
    )


def _checked(name: str, value: Any) -> Any:
    return checked(value, field_types()[name], FIELDS[name].metadata)


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value).lower()


def _contradictions(dimension: Dimension, config: Config) -> list[str]:
    """Returns what a choice, or an end of a range, contradicts in the run."""
    for values in dimension.ends():
        try:
            config.replace(**values)
        except ConfigError as error:
            lines = str(error).splitlines()[1:]
            return [line.removeprefix("  - ") for line in lines]
    return []


# What none may search


def _names(part: type) -> set[str]:
    return {item.name for item in dataclasses.fields(part)}


COSTS = {"fee_bps", "slippage_bps", "funding_bps_per_day"}
_SCALING = {"scaler_type", "clip_limit", "class_balancing_method"}
_SCALING |= {"undersampling_min_samples", "manual_class_weights"}
_SCALING |= {"sample_weights", "sample_half_life_days"}
_SHOWN = {"baseline_model", "report", "importance_windows", "calibrate_on"}


def _refusal(
    name: str, config: Config, allow_target: bool, judges_trades: bool
) -> str | None:
    """Returns why a field is not searched, or None."""
    if name in _names(LabelFields) | COSTS:
        if allow_target:
            return None
        return "changes the question, not the answer: expected --allow-target with it"
    if name in _names(RunFields) | _names(MachineFields) | _SHOWN | FREE_FIELDS:
        return "decides nothing that is learned"
    if name in _names(DataFields) - _SCALING:
        return "decides which rows are judged: trials could not be compared"
    if name in _names(FeatureFields):
        return "asks for another training file: a study has one"
    if name in _names(EvaluationFields) and not judges_trades:
        return "changes no probability: expected --objective cv_net with it"
    if _is_idle(name, config.model):
        return f"has no effect on model {config.model!r}"
    return None


_OF_FAMILIES = {
    "lstm_": ("lstm", "ensemble"),
    "gru_": ("gru",),
    "cnn_lstm_": ("cnn_lstm",),
    "cnn_": ("cnn", "ensemble"),
    "attention_heads": ("attention", "ensemble", "cnn_lstm"),
    "attention_": ("attention", "ensemble"),
    "mlp_": ("mlp",),
    "tcn_": ("tcn",),
    "gate_": ("ensemble",),
    "bidirectional": ("lstm", "gru"),
    "logistic_": ("logistic",),
    "boosting_": (
        *("gradient_boosting", "classic_gradient_boosting", "lightgbm"),
        *("xgboost", "catboost"),
    ),
}
"""How fields begin -> the families that read them; the longest beginning counts."""

_OF_TABLES = {"sequence_length", "monitor", "validation_windows"} | _SCALING


def _is_idle(name: str, model: str) -> bool:
    """Whether a built-in family does not read a field."""
    begins = [each for each in _OF_FAMILIES if name.startswith(each)]
    if begins and model in KERAS_MODELS + TABULAR_MODELS:
        return model not in _OF_FAMILIES[max(begins, key=len)]
    if model in TABULAR_MODELS:
        judged = _names(EvaluationFields) | _names(LabelFields)
        return name not in _names(TreeFields) | _OF_TABLES | judged
    return model in KERAS_MODELS and name in _names(TreeFields)
