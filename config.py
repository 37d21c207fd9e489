"""What a run is: its fields from `settings`, what contradicts across them, its names.

In: one frozen dataclass of all parts, names of files and folders, one message for all
problems. Out: the fields of each owner (`settings.*_fields`), one value by itself
(`settings.values`), YAML and command line (`settings.sources`), what names of files say
(`settings.names`). Imports the standard library, yaml and NumPy (through `utils`)
alone, so that a dry run answers at once.
"""

from __future__ import annotations

import dataclasses
import functools
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

import utils
from files.strict import sha256_json
from settings.data_fields import DataFields
from settings.evaluation_fields import EvaluationFields
from settings.feature_fields import FeatureFields
from settings.label_fields import CLASS_NAMES as CLASS_NAMES
from settings.label_fields import CLASS_TARGETS, LabelFields
from settings.label_fields import HOLD as HOLD
from settings.label_fields import LONG as LONG
from settings.label_fields import SHORT as SHORT
from settings.loss_fields import (
    BOTH,
    POSITION_LOSS,
    LossFields,
    LossTraits,
    require_loss,
)
from settings.machine_fields import MachineFields
from settings.network_fields import HYBRID, KERAS_MODELS, NetworkFields
from settings.part import Part
from settings.run_fields import MODELS as MODELS
from settings.run_fields import RunFields, pool_name
from settings.stage_fields import AGENTS, AgentFields, StageFields
from settings.training_fields import TrainingFields
from settings.tree_fields import CLASS_MODELS, TABULAR_MODELS, TreeFields
from settings.tree_fields import OPTIONAL_MODELS as OPTIONAL_MODELS
from settings.values import checked
from utils import ConfigError

DATASET_FIELDS = tuple(
    item.name
    for part in (FeatureFields, LabelFields)
    for item in dataclasses.fields(part)
)
"""Fields that decide the content of a training file, each for some target."""


# Dataclasses take their fields from the last base to the first.
@dataclass(frozen=True, kw_only=True)
class Config(
    MachineFields,
    AgentFields,
    StageFields,
    EvaluationFields,
    TrainingFields,
    LossFields,
    TreeFields,
    NetworkFields,
    DataFields,
    LabelFields,
    FeatureFields,
    RunFields,
):
    """One training run, completely: every field is a flag and a YAML key of its name.

    All problems are refused together.

    Raises:
        ConfigError: If a value has the wrong type, is out of range or contradicts
            another.
    """

    def __new__(cls, **values: Any) -> Config:
        """Refuses names that no field has, with all other problems."""
        if values.keys() - FIELDS.keys():
            build_config(values)
        return super().__new__(cls)

    def __post_init__(self) -> None:
        """Converts lists and whole numbers, then refuses all problems together."""
        problems = []
        for name, annotation in field_types().items():
            item, value = FIELDS[name], getattr(self, name)
            if value is item.default:
                continue  # of thousands of runs a sweep plans in seconds, most fields
            try:
                value = checked(value, annotation, item.metadata)
            except ValueError as error:
                problems.append(f"{name}: {error}")
                value = item.default  # lets the checks below look at the other fields
            object.__setattr__(self, name, value)
        problems += self.problems()
        if self.pooled_pairs:
            object.__setattr__(self, "pair", pool_name(self.pooled_pairs))
        if problems:
            raise ConfigError(problem_list(problems))

    def problems(self) -> list[str]:
        """Returns what contradicts, inside each part and across them."""
        inside = [problem for part in PARTS for problem in part.problems(self)]
        families = self.family_problems(self.model)
        for found in (self.stage_problems, self.run_problems):
            families += found(vars(self), has_folds=self.has_folds)
        return inside + families + self._target_problems() + self._window_problems()

    def _target_problems(self) -> list[str]:
        """Returns what does not suit the target: model, loss, sizes of trades."""
        problems = self.target_problems(self.target)
        if self.model in CLASS_MODELS and self.target not in CLASS_TARGETS:
            problems.append(
                f"model: expected one that predicts a number, for target "
                f"{self.target!r}. Received: {self.model!r}, which predicts classes"
            )
        if self.model in TABULAR_MODELS and self.loss is not None:
            problems.append(
                f"loss: expected one of {', '.join(KERAS_MODELS)} as model with it. "
                f"Received: model {self.model!r}, whose library has its own loss"
            )
        problems += self.agent_problems(vars(self), has_folds=self.has_folds)
        if self.position_sizing == "kelly" and self.target not in CLASS_TARGETS:
            problems.append(
                "position_sizing: expected 'full' or 'volatility' for a target that is "
                "a number, because Kelly sizes need probabilities. Received: 'kelly' "
                f"with target {self.target!r}"
            )
        has_rounds = self.model not in KERAS_MODELS and self.target in CLASS_TARGETS
        if self.monitor == "val_direction_loss" and not has_rounds:
            problems.append(
                "monitor: expected 'val_loss' of a network, and of a target that is a "
                f"number. Received: 'val_direction_loss' with model {self.model!r} and "
                f"target {self.target!r}"
            )
        is_learned_apart = self.has_folds and self.cv != "combinatorial"
        if self.calibrate_on == "oof" and not (
            is_learned_apart and self.target in CLASS_TARGETS
        ):
            problems.append(
                "calibrate_on: expected classes, and folds that test a row once, with "
                f"'oof'. Received: target {self.target!r}, n_splits {self.n_splits}, "
                f"cv {self.cv!r}"
            )
        if self.loss_traits.y_true == "class":
            return problems
        if self.model == HYBRID:
            return problems + self._hybrid_problems()
        problems += self.batch_problems(self.target, self.batch_size)
        if self.monitor == "val_accuracy":
            problems.append(
                "monitor: expected 'val_loss' with a loss that reads no classes. "
                f"Received: 'val_accuracy' with loss {self.resolved_loss!r}"
            )
        return problems + self.weight_problems(
            "a loss that reads no classes",
            f"loss {self.resolved_loss!r}",
            can_weigh=not self.loss_traits.is_sequential,
        )

    def _hybrid_problems(self) -> list[str]:
        """Returns what does not suit a network of classes and a position."""
        problems = []
        if self.traits_of(self.target).y_true != "class":
            problems.append(
                f"loss: expected one of classes with model {HYBRID!r}, whose position "
                f"has its own. Received: {self.resolved_loss!r}"
            )
        if self.batch_size < 2:
            problems.append(
                f"batch_size: expected at least 2 bars with model {HYBRID!r}, whose "
                f"positions have a deviation. Received: {self.batch_size}"
            )
        problems += self.weight_problems(
            "a loss that has none of each sample", f"model {HYBRID!r}", can_weigh=False
        )
        if self.has_folds:
            problems.append(
                f"n_splits, cv: expected no folds with model {HYBRID!r}, whose parents "
                f"learned from their rows. Received: {self.n_splits}, {self.cv!r}"
            )
        return problems

    def _window_problems(self) -> list[str]:
        """Returns what does not suit the bars: other timeframes, a short window."""
        problems = self.longer_problems(self.timeframe)
        if self.position_sizing == "volatility" and self.sequence_length < 10:
            problems.append(
                "position_sizing: expected a sequence_length of at least 10 to measure "
                f"volatility in a window. Received: {self.sequence_length}"
            )
        return problems

    # Derived values: properties, so that they cannot disagree with their source

    @property
    def tag(self) -> str:
        """Names this run's labels in artifact files: `ETHUSDT_FW120_SL050_TP100`."""
        parts = [f"{key}{value:03d}" for key, value in self.file_numbers().items()]
        return "_".join([self.pair, *parts, *self._label_words()])

    @property
    def expected_filename(self) -> str:
        """Standard name of the training file (docs/contracts.md, "Training file")."""
        parts = [f"{key}-{value:03d}" for key, value in self.file_numbers().items()]
        words = [self.pair + f"_TF-{self.timeframe}", *parts, *self._label_words()]
        days = {"FROM": self.start_date, "TO": self.end_date}
        words += [f"{k}-{day.replace('-', '')}" for k, day in days.items() if day]
        return "__".join([*words, "training_ready.feather"])

    @property
    def latest_name(self) -> str:
        """Name of the link to the newest run of this kind: `latest-1h__FW-012`.

        A trial with another target, horizon, levels or features moves a link of its
        own, not the one that a live program opens.
        """
        usual = LabelFields().file_numbers()
        parts = [
            f"{key}-{value:03d}"
            for key, value in self.file_numbers().items()
            if value != usual.get(key)
        ]
        return "__".join([f"latest-{self.timeframe}", *parts, *self._label_words()])

    @property
    def expected_path(self) -> Path:
        """Where the training file is expected: explicit, or by its standard name."""
        if self.training_file is not None:
            return Path(self.training_file)
        return Path(self.inputs_dir) / self.expected_filename

    @property
    def dataset_parameters(self) -> dict[str, Any]:
        """The fields that decide the content of this run's training file, by name."""
        unused = {"dead_zone_pct"} if self.target != "direction" else set()
        if self.target != "signal":
            unused |= {"long_tp_pct", "long_sl_pct", "short_tp_pct", "short_sl_pct"}
            unused |= {"tie_policy"}
        optional = ("accept_jumps", "timezone", "context_pairs")
        unused |= {name for name in optional if not getattr(self, name)}
        names = ("pair", "timeframe", "timezone", *DATASET_FIELDS)
        return {name: getattr(self, name) for name in names if name not in unused}

    def _label_words(self) -> list[str]:
        """Returns what is not default, in the form that file names have."""
        words = {
            "TIE": self.tie_policy if self.target == "signal" else "pessimistic",
            "TARGET": self.target,
            "DZ": f"{self.dead_zone_pct:g}",
            "F": "+".join(self.feature_sets),
            "JUMPS": "accepted" if self.accept_jumps else "",
            "RAW": "prices" if self.raw_prices else "",
            "HTF": "+".join(self.higher_timeframes),
            "CTX": self.context_word,
        }
        usual = {"TIE": "pessimistic", "TARGET": "signal", "DZ": "0", "F": "core8"}
        return [
            f"{key}-{word}" for key, word in words.items() if word != usual.get(key, "")
        ]

    @property
    def num_outputs(self) -> int:
        """Numbers that a network gives for a window: one a class, or one a quantile."""
        return len(self.quantiles) or super().num_outputs

    @property
    def resolved_loss(self) -> str:
        """The loss by its name; the target's own where none is asked for."""
        return self.loss_of(self.target)

    @property
    def loss_traits(self) -> LossTraits:
        """What the loss asks of the run."""
        own = self.traits_of(self.target)
        return own if self.model != HYBRID else LossTraits(own.targets, BOTH, True)

    def losses_of(self, target: str) -> tuple[str, ...]:
        """Returns the losses that are computed, that of a hybrid's position, too."""
        found = super().losses_of(target)
        return (*found, POSITION_LOSS) if self.model == HYBRID else found

    @property
    def class_balancing(self) -> str:
        """The class balancing in force: none that the loss cannot be trained with."""
        traits, method = self.loss_traits, self.class_balancing_method
        is_thinned = method == "systematic_undersampling"
        is_read = traits.y_true == "class" and not (is_thinned and traits.is_sequential)
        return method if is_read and self.model not in AGENTS else "none"

    def require_losses(self) -> None:
        """Refuses losses that nobody registered, and what contradicts their traits.

        One's own may be registered after the configuration was made.

        Raises:
            ConfigError: If a loss is unknown or does not suit the run.
        """
        for name in self.losses_of(self.target):
            require_loss(name)
        self.replace()

    # To and from other forms

    def to_dict(self) -> dict[str, Any]:
        """Returns every field by name; tuples as lists, ready for YAML and JSON."""
        values = {name: getattr(self, name) for name in FIELDS}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}

    def to_yaml(self) -> str:
        """Returns YAML that `--config` reads back to an equal `Config`."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False)

    def digest(self) -> str:
        """Returns 64 hexadecimal digits that name this configuration.

        What a run is called is no part of them.
        """
        values = self.to_dict()
        return sha256_json({k: values[k] for k in values if k not in LABELS})

    def replace(self, **changes: Any) -> Config:
        """Returns a checked copy with `changes`."""
        return build_config(self.to_dict() | changes)


PARTS = tuple(part for part in Config.__bases__[::-1] if issubclass(part, Part))
"""The parts of a run, in the order of their fields."""

MAX_PROBLEMS = 10
"""Most unknown names that are told one by one."""

LABELS = ("experiment_name", "tags")
"""Fields that say what a run is called, and nothing about it."""

FIELDS = {item.name: item for item in dataclasses.fields(Config)}
"""Every field of a run by its name, in order."""


ALIASES = {
    alias.removeprefix("--").replace("-", "_"): name
    for name, item in FIELDS.items()
    for alias in item.metadata.get("aliases", ())
}
"""Other words for fields, as flags and as keys of YAML, and the fields they mean."""


@functools.cache
def field_types() -> dict[str, Any]:
    """Returns the type of each field."""
    hints = typing.get_type_hints(Config)
    return {name: hints[name] for name in FIELDS}


def build_config(values: Mapping[str, Any], problems: Sequence[str] = ()) -> Config:
    """Returns a `Config` from names and values; refuses unknown names with the rest.

    Args:
        values: Fields by name.
        problems: What is wrong already, of a command line.

    Raises:
        ConfigError: Listing every problem, unknown name and impossible value.
    """
    found = [*problems]
    unknown = [name for name in values if name not in FIELDS]
    for name in unknown[:MAX_PROBLEMS]:
        words = f"unknown field {ascii(name):.100}."
        found.append(words + utils.did_you_mean(name[:100], FIELDS))
    if rest := unknown[MAX_PROBLEMS:]:
        found.append(f"and {len(rest):,} more unknown fields")
    try:
        config = Config(**{k: v for k, v in values.items() if k in FIELDS})
    except ConfigError as error:
        _, *lines = str(error).splitlines()
        found += [line.removeprefix("  - ") for line in lines]
    if found:
        raise ConfigError(problem_list(found))
    return config


def problem_list(problems: Sequence[str]) -> str:
    """Returns the message of a configuration that has these problems."""
    lines = [f"  - {problem}" for problem in problems]
    return "\n".join(["the configuration cannot be run:", *lines])
