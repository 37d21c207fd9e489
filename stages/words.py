"""One stage by the words of system 001: `pipeline train ppo CANDLES`.

In: a kind of model, candles or a training file, the models that it builds on, chosen on
a terminal where they are not named. Out: a training file (`dataset.builder`), a run
(`trainer`), a search before it (`tuning`), the registry.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import utils
from artifacts.entries import ModelMetadata, ModelSummary
from artifacts.model_registry import register_run
from artifacts.registry import Registry
from candles.sources import pair_of_files, timeframe_of_files
from config import Config, build_config
from dataset.builder import DatasetBuilder, write_training_file
from executors.tasks import SerialExecutor
from experiments.candidates import training_file_in
from files.asking import ask
from models.families import create_adapter
from rl.adapter import register
from settings.names import parse_training_filename
from settings.network_fields import HYBRID, NETWORKS
from settings.stage_fields import AGENTS, STACK
from stages.plan import PARENTS, STAGE_SHARE
from trainer import train_run
from tuning.search import TuneConfig
from tuning.tune import tune

logger = logging.getLogger(__name__)

KINDS = {
    "cnn-lstm": "cnn_lstm",
    "cnn-lstm-enhanced": "cnn_lstm",
    **{name: name for name in AGENTS},
    "hybrid": HYBRID,
    "ensemble": STACK,
}
"""Kind of model, by the words of system 001 -> family. Its ensemble weighs trained
models: `stack`; the family `ensemble` is one network."""
FLAGS = {
    "base_model": "--cnn-lstm-model",
    "rl_model": "--rl-model",
    "members": "--models",
}
"""Field that names what a stage builds on -> the flag of system 001."""
_TRAINED_BY = {"base_model": "cnn-lstm", "rl_model": "ppo", "members": "cnn-lstm"}
NO_SOURCE = ("sentiment_features", "sentiment_data", "use_sentiment")
"""Words of system 001 for which there are no data."""


def family_of(kind: str) -> str:
    """Returns the family of a kind of model; `cnn_lstm` is `cnn-lstm`, too.

    Raises:
        ConfigError: If there is no such kind.
    """
    word = kind.replace("_", "-")
    if word not in KINDS:
        raise utils.ConfigError(
            f"train: expected one of {', '.join(KINDS)}. Received: {kind!r:.100}."
            f"{utils.did_you_mean(word, KINDS)} Other families: python trainer.py"
        )
    return KINDS[word]


def refuse_without_source(names: Sequence[str]) -> None:
    """Raises ConfigError where something is wanted that there are no data for."""
    for name in names:
        if name.removeprefix("--").replace("-", "_") in NO_SOURCE:
            raise utils.ConfigError(
                f"{name}: expected features of candles. Received: sentiment, for which "
                "there is no source. Features of your own: --feature-sets, "
                "docs/contracts.md"
            )


def train_stage(
    kind: str,
    paths: Sequence[str],
    fields: Mapping[str, Any],
    *,
    num_trials: int | None = None,
    resume: str | None = None,
) -> ModelMetadata:
    """Trains one stage and registers it.

    Args:
        kind: One of KINDS.
        paths: Candle files, or one training file.
        fields: Of `Config`; what the stage builds on is asked for where it is missing.
        num_trials: Searches settings so often before; None trains those that are given.
        resume: "newest" goes on with an interrupted run, or takes a finished one.

    Raises:
        ConfigError: If something does not fit, or is named nowhere and nobody is asked.
        MissingInputError: If a file is missing, or there is nothing to build on.
        DataError: If there is nothing to learn in the file.
    """
    register()
    config = _with_rows(paths, _market_of(paths, {**fields, "model": family_of(kind)}))
    config = with_parents(config)
    create_adapter(config)
    if num_trials is not None:
        folder = _search(config, num_trials)
    else:
        folder = train_run(config, resume=resume)
    return register_run(config, folder, alias=None)


def _market_of(paths: Sequence[str], fields: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields with the pair and the timeframe that names of files state."""
    values = dict(fields)
    if values["model"] in NETWORKS:
        values.setdefault("stage_share", STAGE_SHARE)
        if values["stage_share"] == STAGE_SHARE:
            logger.info(
                "learns from the older half of train; what builds on it learns from "
                "the newer half (--stage-share 1 takes all)"
            )
    if (file := training_file_in(paths)) is not None:
        values["training_file"] = str(file)
        named = parse_training_filename(file.name) or {}
        return {k: named[k] for k in ("pair", "timeframe") if k in named} | values
    if "pair" not in values:
        values["pair"] = pair_of_files(paths)
    if "timeframe" not in values:
        values["timeframe"] = timeframe_of_files(
            paths, timezone=values.get("timezone"), default=Config().timeframe
        )
    return values


def _with_rows(paths: Sequence[str], values: Mapping[str, Any]) -> Config:
    """Returns the run; builds its training file where candles are given."""
    config = build_config(values)
    if config.training_file is None:
        builder = DatasetBuilder(config)
        write_training_file(builder, builder.build_dataset(candles=paths))
    return config


def with_parents(config: Config) -> Config:
    """Returns the run with all that it builds on, chosen where none is named."""
    registry = Registry(config.outputs_dir)
    for role, families in PARENTS.get(config.model, {}).items():
        if given := getattr(config, role):
            names = [given] if isinstance(given, str) else given
            chosen = [_named(registry, name, FLAGS[role]) for name in names]
        else:
            found = _fitting(registry, config, families)
            if not found:
                flag, word = FLAGS[role], _TRAINED_BY[role]
                raise utils.MissingInputError(
                    f"{flag}: expected a trained model of "
                    f"{', '.join(families or ['any family'])} for {config.pair} "
                    f"{config.timeframe} in {config.outputs_dir}. Received: none. "
                    f"Train one: python -m experiments pipeline train {word}"
                )
            models = _members(found) if role == "members" else [_one(found, role)]
            chosen = [_place(registry, each) for each in models]
        logger.info("%s: %s", role, " ".join(chosen))
        config = config.replace(**{role: chosen if role == "members" else chosen[0]})
    return config


def _named(registry: Registry, name: str, flag: str) -> str:
    """Returns where a model is that is named by words of its id, or by its folder."""
    try:
        return _place(registry, _one(registry.find(name), flag))
    except utils.MissingInputError:
        if Path(name).exists() or "/" in name:
            return name
        raise


def _place(registry: Registry, model: ModelSummary) -> str:
    return str(registry.outputs / model.model_id)


def _fitting(
    registry: Registry, config: Config, families: Sequence[str] | None
) -> list[ModelSummary]:
    """Returns registered models of this market and target, the newest first."""
    market = {name: getattr(config, name) for name in ("pair", "timeframe", "target")}
    return [
        each
        for each in registry.list(**market)
        if each.model_type in (families or {each.model_type})
        and (families is not None or each.model_type != config.model)
    ]


def _one(found: Sequence[ModelSummary], role: str) -> ModelSummary:
    """Returns the one that there is, or that is meant."""
    if len(found) == 1:
        return found[0]
    flag = FLAGS.get(role, role)
    answer = ask(
        [each.model_id for each in found],
        f"which one, 1 to {len(found)}, or quit? ",
        piped=f"{flag}: expected one model, since several may be meant:",
    )
    if not isinstance(answer, int):
        raise utils.ConfigError(f"{flag}: no model was chosen")
    return found[answer]


def _members(found: Sequence[ModelSummary]) -> list[ModelSummary]:
    """Returns two models or more, one answer each."""
    left, chosen = [*found], list[ModelSummary]()
    while left:
        answer = ask(
            [each.model_id for each in left],
            f"which one, 1 to {len(left)}, or done? ",
            words=("done",),
            piped="--models: expected two trained models or more, such as --models "
            "A,B, of",
        )
        if not isinstance(answer, int):
            break
        chosen.append(left.pop(answer))
    if len(chosen) < 2:
        raise utils.ConfigError(
            "--models: expected two trained models or more, such as --models A,B. "
            f"Received: {len(chosen)} of {len(found)} that are registered"
        )
    return chosen


def _search(config: Config, num_trials: int) -> Path:
    if config.model not in NETWORKS:
        raise utils.ConfigError(
            f"--optimize: expected cnn-lstm with it. Received: {config.model}, which "
            "learns from trained models"
        )
    objective = "val_log_loss" if config.stage_share < 1 else "cv_log_loss"
    options = TuneConfig(n_trials=num_trials, objective=objective)
    with SerialExecutor() as executor:
        found = tune(config, options, executor=executor)
    return Path([*found["folders"].values()][-1])
