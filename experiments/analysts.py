"""A model for each timeframe, from one file of candles.

In: the training files of a group of `settings.presets.GROUPS`, their runs; the same by
nested settings. Out: what the groups are (`settings.presets`), building a file
(`dataset_builder`), a run (`trainer`), one table of all (`analyst_table`).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

import utils
from artifacts.run_folder import latest_link
from candles.sources import CandleSource, resolve_candles
from candles.table import read_candles
from config import FIELDS, Config, build_config
from dataset.builder import DatasetBuilder
from executors.kinds import open_executor
from executors.tasks import Executor
from experiments import series
from experiments.analyst_table import SCORES, summarise
from files.strict import to_jsonable
from predictor import Predictor
from settings.presets import GROUPS, PRESETS
from trainer import train_run

logger = logging.getLogger(__name__)

OWN_FIELDS = ("model", "timeframe", "training_file")
"""Fields that the groups decide."""


def group_configs(
    groups: Sequence[str],
    *,
    timeframes: Sequence[str] | None = None,
    **fields: Any,
) -> dict[str, Config]:
    """Returns the runs of some groups by name, such as `analysts 15m`.

    Args:
        groups: Names out of `presets.GROUPS`.
        timeframes: Those of them that are wanted; None takes all.
        **fields: Fields of `Config`, over those of the presets.

    Raises:
        ConfigError: If a group or a timeframe is unknown, or a value impossible.
    """
    known = dict.fromkeys(tf for _, each in GROUPS.values() for tf in each)
    for words, choices, name in (
        (groups, GROUPS, "groups"),
        (timeframes or (), known, "timeframes"),
    ):
        unknown = [word for word in words if word not in choices]
        if unknown or len(set(words)) < len(words) or words == []:
            raise utils.ConfigError(
                f"--{name}: expected some of {', '.join(choices)}, each once. "
                f"Received: {' '.join(words) or 'none'}"
            )
    configs = {}
    for group in groups:
        preset, own = GROUPS[group]
        for timeframe in own:
            if timeframes is None or timeframe in timeframes:
                values = PRESETS[preset] | fields | {"timeframe": timeframe}
                name = f"{group} {timeframe}"
                configs[name] = build_config(values)
    if not configs:
        raise utils.ConfigError(
            f"--timeframes: expected one that {' or '.join(groups)} have. "
            f"Received: {' '.join(timeframes or ())}"
        )
    return configs


def train_group(
    candles: CandleSource,
    configs: Mapping[str, Config],
    *,
    resume: str | os.PathLike[str] | None = None,
    executor: Executor | None = None,
) -> list[dict[str, Any]]:
    """Builds each run's training file, trains one after another, summarises them.

    Args:
        candles: Candles of the pair, of the shortest timeframe or finer.
        configs: From `group_configs`.
        resume: "newest" takes finished runs as they are, and goes on with others.
        executor: Trains side by side, once all files are built.

    Returns:
        One mapping a run, ready for JSON; see `summarise`.
    """

    def build(config: Config) -> Path:
        builder = DatasetBuilder(config)
        built = builder.build_dataset(candles=candles)
        path = builder.write_dataset(built)
        rows = utils.counted(built.metadata["num_rows"], "row", "rows")
        logger.info("%s: %s", path, rows)
        return path

    def train(config: Config) -> Path:
        build(config)
        return train_run(config, resume=resume)

    if executor is None:
        outcomes = series.train_all(configs, train)
    else:
        runs = {k: series.share_cores(run, executor) for k, run in configs.items()}
        outcomes = {k: series.attempt(k, run, build) for k, run in runs.items()}
        ready = {k: runs[k] for k, each in outcomes.items() if each.error is None}
        again = partial(train_run, resume=resume)
        outcomes |= series.train_all(ready, again, executor=executor)
    return to_jsonable([summarise(*item) for item in outcomes.items()])


# By settings


class AnalystTrainer:
    """Trains the models that settings ask for, side by side, and opens them again.

    As a context, or between `start` and `stop`, its workers stay for several trainings.
    See `from_settings`.

    Args:
        configs: The runs by name, from `group_configs`.
        max_workers: Models side by side.
        num_gpus: As asked for; trees compute on cores.
        address: Of a Ray cluster; None takes processes of this machine.
    """

    def __init__(
        self,
        configs: Mapping[str, Config],
        *,
        max_workers: int | None = None,
        num_gpus: int = 0,
        address: str | None = None,
    ) -> None:
        self.configs = dict(configs)
        self.num_gpus = num_gpus
        self._open = partial(open_executor, max_workers=max_workers, address=address)
        self._executor: Executor | None = None
        self._slots = self._open().slots
        self._is_training = False

    def __enter__(self) -> AnalystTrainer:
        """Starts the workers."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Ends them."""
        self.stop()

    def start(self) -> None:
        """Starts the workers, or connects to the cluster."""
        if self._executor is None:
            self._executor = self._open().__enter__()

    def stop(self) -> None:
        """Ends the workers."""
        if self._executor is not None:
            executor, self._executor = self._executor, None
            executor.__exit__(None, None, None)

    def train(
        self, training_input: Mapping[str, Any], candles: CandleSource = None
    ) -> dict[str, Any]:
        """Trains every model, on the newest days of one pair's candles.

        Args:
            training_input: `symbol`, `exchange` and `timeframe` of the candles, and
                `lookback_days`, above 0.
            candles: See `DatasetBuilder.build_dataset`.

        Returns:
            `training_input`, `training_timestamp`, `analyst_models` and
            `tactician_models`: timeframe -> `timeframe`, `model_type`,
            `training_status` (completed or failed), and `error`, `exit_code`, or:
            `model_metrics` (accuracy, precision, recall, f1 on the test part, cv_mean
            and cv_std of the folds' accuracy), `feature_importance`, `model_path`,
            `scaler_path`.

        Raises:
            ConfigError: If the input lacks something, or has something else.
        """
        given = _settings_of(training_input, "training_input", _INPUT)
        if not all(map(given.get, _INPUT)) or given["lookback_days"] <= 0:
            raise utils.ConfigError(
                f"training_input: expected {', '.join(_INPUT)}, days above 0. "
                f"Received: {given}"
            )
        configs = {k: x.replace(pair=given["symbol"]) for k, x in self.configs.items()}
        first = _first_day(candles, configs, given["lookback_days"])
        self.configs = {k: x.replace(start_date=first) for k, x in configs.items()}
        is_started = self._executor is not None
        self.start()
        self._is_training = True
        try:
            entries = train_group(candles, self.configs, executor=self._executor)
        finally:
            self._is_training = False
            if not is_started:
                self.stop()
        found: dict[str, Any] = {
            "training_input": dict(training_input),
            "training_timestamp": datetime.now(UTC).isoformat(),
        } | {f"{preset}_models": {} for preset, _ in GROUPS.values()}
        for entry in entries:
            preset = GROUPS[entry["model"].split()[0]][0]
            found[f"{preset}_models"][entry["timeframe"]] = _told(entry, preset)
        return found

    def load(self, group: str, timeframe: str) -> Predictor:
        """Opens the newest model of a group (`analysts` or `analyst`) and timeframe.

        Raises:
            ConfigError: If the settings have no such model.
            MissingInputError: If it was not trained yet.
        """
        names = {preset: name for name, (preset, _) in GROUPS.items()}
        name = f"{names.get(group, group)} {timeframe}"
        if name not in self.configs:
            raise utils.ConfigError(
                f"expected one of {', '.join(self.configs)}. Received: {name}."
                f"{utils.did_you_mean(name, self.configs)}"
            )
        return Predictor(latest_link(self.configs[name]))

    def status(self) -> dict[str, Any]:
        """Returns whether it trains, how many models `load` opens, its workers."""
        groups = {name.split()[0] for name in self.configs}
        links = [latest_link(config) for config in self.configs.values()]
        return {
            "is_training": self._is_training,
            "trained_models_count": sum(link.is_dir() for link in links),
            **{
                f"{preset}_models_enabled": name in groups
                for name, (preset, _) in GROUPS.items()
            },
            "ray_cluster_info": {
                "num_cpus": self._slots,
                "num_gpus": self.num_gpus,
                "is_initialized": self._executor is not None,
            },
        }


_INPUT = ("symbol", "exchange", "timeframe", "lookback_days")
_RAY = ("num_cpus", "num_gpus", "logging_level", "address")
_TRAINER = (
    *("enable_analyst_models", "enable_tactician_models", "model_directory"),
    *("analyst_models", "tactician_models"),
)


def from_settings(settings: Mapping[str, Any], **fields: Any) -> AnalystTrainer:
    """Returns what trains the models of nested settings.

    Args:
        settings: `ray`: `num_cpus` (models side by side), `num_gpus`, `logging_level`,
            and `address` of a cluster, without which processes of this machine do the
            work. `model_trainer`: `enable_analyst_models` and `enable_tactician_models`
            (True), `model_directory` (the folder of outputs), and `analyst_models` and
            `tactician_models` with `timeframes`, and fields of `Config`.
        **fields: Fields of `Config` of every model, such as `pair`.

    Raises:
        ConfigError: If a word is unknown, or no model is left to train.

    Example:
        >>> group = from_settings({"model_trainer": {"enable_tactician_models": False}})
        >>> group.status()["analyst_models_enabled"]
        True
    """
    sections = _settings_of(settings, "settings", ("ray", "model_trainer"))
    ray = _settings_of(sections.get("ray", {}), "ray", _RAY)
    given = _settings_of(sections.get("model_trainer", {}), "model_trainer", _TRAINER)
    if "model_directory" in given:
        fields["outputs_dir"] = given["model_directory"]
    fields["verbose_logging"] = ray.get("logging_level", "info").lower() == "debug"
    configs: dict[str, Config] = {}
    for name, (preset, own) in GROUPS.items():
        if not given.get(f"enable_{preset}_models", True):
            continue
        key = f"{preset}_models"
        section = _settings_of(given.get(key, {}), key, ("timeframes", *FIELDS))
        frames = section.pop("timeframes", own)
        configs |= group_configs([name], timeframes=frames, **fields | section)
    if not configs:
        raise utils.ConfigError(
            "model_trainer: expected analyst or tactician models enabled. Received: "
            "neither"
        )
    return AnalystTrainer(
        configs,
        max_workers=ray.get("num_cpus"),
        num_gpus=ray.get("num_gpus", 0),
        address=ray.get("address"),
    )


def _first_day(
    candles: CandleSource, configs: Mapping[str, Config], days: float
) -> str:
    """Returns the day so many days before the newest candle."""
    config = next(iter(configs.values()))
    source = resolve_candles(candles, config, data_dir=Path("data"))
    last = read_candles(source)["timestamp"].iloc[-1]
    return str((last - pd.Timedelta(days, "D")).date())


def _settings_of(
    section: Mapping[str, Any], name: str, known: Sequence[str]
) -> dict[str, Any]:
    """Returns a section of settings, all of whose words are known."""
    if not isinstance(section, Mapping):
        raise utils.ConfigError(
            f"{name}: expected words and their values. Received: {section!r:.99}"
        )
    if unknown := [word for word in section if word not in known]:
        near = utils.did_you_mean(str(unknown[0]), known)
        raise utils.ConfigError(
            f"{name}: expected some of {', '.join(known[:9])}. Received: "
            f"{unknown[0]!r:.99}.{near}"
        )
    return dict(section)


def _told(entry: Mapping[str, Any], preset: str) -> dict[str, Any]:
    """Returns what stands for a model in what `AnalystTrainer.train` returns."""
    about = {
        "timeframe": entry["timeframe"],
        "model_type": preset,
        "training_status": entry["status"],
    }
    if entry["status"] == "failed":
        return about | {key: entry[key] for key in ("error", "exit_code")}
    folds = (entry["cross_validation"] or {}).get("accuracy") or {}
    metrics = {key: entry[key] for key in SCORES if key != "prior_accuracy"}
    metrics |= {f"cv_{key}": folds.get(key) for key in ("mean", "std")}
    folder = Path(entry["folder"])
    return about | {
        "model_metrics": metrics,
        "feature_importance": entry["feature_importance"],
        "model_path": str(next(folder.glob("model_*"))),
        "scaler_path": str(next(folder.glob("scaler_*.json"))),
    }
