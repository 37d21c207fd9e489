"""What is trained, under which names and in which folders.

In: market, family, files of a run. Out: the names that follow from them (`config`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import utils
from settings.network_fields import KERAS_MODELS, NETWORKS
from settings.part import Part, field
from settings.stage_fields import AGENTS, STACK
from settings.tree_fields import TABULAR_MODELS
from settings.values import own_name_problems, pair_problems, timezone_problems

WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""What names an experiment, a tag, an alias of a model."""
ALIAS = re.compile(rf"(?!v[0-9]+(\.[0-9]+){{2}}$){WORD.pattern}")
"""A word that is no version: `@` takes both."""

ALONE = NETWORKS + TABULAR_MODELS
"""Built-in model families that build on no other model."""
MODELS = (*KERAS_MODELS, *TABULAR_MODELS, *AGENTS, STACK)
"""Built-in model families; `models.families` may know more by the time they train."""
OF_ONE_PAIR = (*AGENTS, *(name for name in KERAS_MODELS if name not in NETWORKS), STACK)
"""Families that no pool trains: they act on one market, or build on its models."""
PAIR_IN_PATH = "{pair}"
"""What stands for each pair of a pool in the path of its training files."""


@dataclass(frozen=True, kw_only=True)
class RunFields(Part):
    """What is trained, and where its files are.

    Attributes:
        pair: Trading pair, as in the file names: letters, digits and single _ or -;
            ETH/USDT and ETH/USDT:USDT are ETH_USDT and ETH_USDT_USDT.
        timeframe: Length of a bar: a whole number and m, h, d or w, from 1m to 1w, that
            divides a day or is whole days; 60m is 1h.
        timezone: Zone of candle files whose times state none, such as
            America/New_York; None is UTC.
        training_file: Path of the training file; None looks for its standard name in
            `inputs_dir`. Of pooled pairs with {pair} in the place of each pair.
        inputs_dir: Folder of the training files.
        outputs_dir: Folder that receives runs and models.
        model: Model family: lstm, gru, cnn, cnn_lstm, mlp, tcn, attention, ensemble;
            random_forest, gradient_boosting, classic_gradient_boosting, lightgbm,
            xgboost, catboost, logistic; agents ppo, sac, td3; hybrid and stack, of
            trained models; or your own by the name it is registered with. Fields of
            another family have no effect.
        experiment_name: What several runs belong to, in metadata and registry; decides
            nothing about a run.
        tags: Words to find a run by; they decide nothing either.
        pooled_pairs: Pairs whose rows train one model together, each from a training
            file of its own and with a scale of its own; `pair` is then POOL- and eight
            digits of their names. None trains on `pair` alone.
        pair_columns: Tells a model of pooled pairs whose rows it reads, by a column for
            each pair, which stands for an embedding of it; of a pair that it never saw
            all are 0.
    """

    pair: str = field("BTCUSDT", is_pair=True, aliases=("--symbols",))
    timeframe: str = field("1m", is_duration=True, aliases=("--interval",))
    timezone: str | None = None
    training_file: str | None = None
    inputs_dir: str = "inputs"
    outputs_dir: str = field("outputs", aliases=("--output-dir",))
    model: str = field("lstm", aliases=("--models",))
    experiment_name: str | None = None
    tags: tuple[str, ...] = ()
    pooled_pairs: tuple[str, ...] = field((), is_pair=True)
    pair_columns: bool = True

    @property
    def bar_seconds(self) -> int:
        """Seconds of one bar."""
        return utils.duration_seconds(self.timeframe)

    @property
    def model_dir(self) -> Path:
        """Folder that holds this pair's published models of this family."""
        return Path(self.outputs_dir) / "models" / self.pair / self.model

    @property
    def runs_dir(self) -> Path:
        """Folder of the runs that are not published yet."""
        return Path(self.outputs_dir) / "runs"

    def problems(self) -> list[str]:
        """Returns what is wrong with pair, timeframe, time zone and model."""
        problems = pair_problems("pair", self.pair)
        for pair in self.pooled_pairs:
            problems += pair_problems("pooled_pairs", pair)
        try:
            if not 60 <= utils.timeframe_seconds(self.timeframe) <= 604_800:
                problems.append(
                    "timeframe: expected between 1m and 1w. "
                    f"Received: {self.timeframe!r}"
                )
        except ValueError as error:
            problems.append(f"timeframe: {error}")
        if self.timezone is not None:
            problems += timezone_problems(self.timezone)
        for name, words in (
            ("experiment_name", [self.experiment_name] if self.experiment_name else []),
            ("tags", self.tags),
        ):
            problems += [
                f"{name}: expected up to 64 letters, digits, '.', '_' and '-', the "
                f"first a letter or a digit. Received: {word!r:.100}"
                for word in words
                if not WORD.fullmatch(word)
            ]
        return problems + own_name_problems("model", self.model, MODELS)

    def run_problems(self, values: Mapping[str, Any], *, has_folds: bool) -> list[str]:
        """Returns what does not suit the family, or pooled pairs.

        Args:
            values: Fields of the run by name.
            has_folds: Whether it has folds.
        """
        problems = []
        limit = values["time_limit_minutes"]
        if limit is not None and self.model in (*TABULAR_MODELS, *AGENTS, STACK):
            problems.append(
                "time_limit_minutes: expected none but of a model that learns in "
                f"epochs. Received: {limit:g} with model {self.model!r}"
            )
        if self.pooled_pairs:
            problems += self._pool_problems(values, has_folds)
        return problems

    def _pool_problems(self, values: Mapping[str, Any], has_folds: bool) -> list[str]:
        pairs = self.pooled_pairs
        problems = []
        if len(set(pairs)) < max(2, len(pairs)):
            problems.append(
                "pooled_pairs: expected two pairs or more, each once. Received: "
                f"{', '.join(pairs)}"
            )
        if self.pair not in (RunFields.pair, pool_name(pairs)):
            problems.append(
                f"pair: expected none with pooled_pairs. Received: {self.pair!r}"
            )
        path = self.training_file
        if path is not None and PAIR_IN_PATH not in path:
            problems.append(
                f"training_file: expected {PAIR_IN_PATH} in it, for the name of each "
                f"pooled pair. Received: {path!r}"
            )
        if values["target"] == "price":
            problems.append(
                "target: expected 'return' with pooled_pairs, whose prices have no "
                "unit in common. Received: 'price'"
            )
        if self.model in OF_ONE_PAIR:
            problems.append(
                "model: expected one that learns from windows of any pair with "
                f"pooled_pairs. Received: {self.model!r}"
            )
        alone = ("init_from", "members", "base_model", "rl_model")
        for name in (*alone, "n_splits, cv_test_days"):
            if has_folds if name not in values else values[name]:
                problems.append(
                    f"{name}: expected none with pooled_pairs, which have no "
                    f"{'folds' if name not in values else 'model before them'} yet. "
                    f"Received: {values.get(name, 'folds')!r}"
                )
        if values["stage_share"] < 1:
            problems.append(
                "stage_share: expected 1 with pooled_pairs, on which no model builds. "
                f"Received: {values['stage_share']}"
            )
        return problems


def pool_name(pairs: Sequence[str]) -> str:
    """Returns the name that pooled pairs share in files, folders and the registry."""
    return f"POOL-{hashlib.sha256(' '.join(sorted(pairs)).encode()).hexdigest()[:8]}"
