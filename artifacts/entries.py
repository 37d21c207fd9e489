"""What the registry keeps of one model: its entry, its version, what it is called.

In: an opened artifact and its report; entries as strict JSON. Out: where entries lie,
who may change them (`registry`), the rule of the grade (`grades`).
"""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self

from artifacts.artifact import Artifact
from artifacts.grades import PerformanceGrade, grade_of
from artifacts.manifest import refuse_broken
from artifacts.resuming import FREE_FIELDS
from config import Config
from files.strict import sha256_json
from settings.run_fields import WORD
from utils import ConfigError, RefusedArtifactError, did_you_mean

FORMAT = 1
ACTIVE, ARCHIVED = "active", "archived"
REPORT = "confusion_matrix_report.json"

Version = tuple[int, int, int]
_NUMBER = "(0|[1-9][0-9]{0,5})"
_VERSION = re.compile(rf"v{_NUMBER}\.{_NUMBER}\.{_NUMBER}")
GROUP = re.compile(
    r"[A-Za-z0-9_]{1,64}/[A-Za-z0-9_-]{1,64}-[0-9]{1,5}[a-z]-[a-z_]{1,32}"
)
_SHA256 = re.compile("[0-9a-f]{64}")

_RESEEDED = (
    *("seed", "calibration_method", "calibrate_on"),
    *("keep_folds", "report", "baseline_model", "importance_windows"),
)
"""Fields that make the same model once more, or tell more or less of it."""


HIGHER_IS_BETTER = {
    **dict.fromkeys(("accuracy", "balanced_accuracy", "macro_f1"), True),
    **dict.fromkeys(("skill_vs_train_prior", "skill_vs_trailing_7d"), True),
    **dict.fromkeys(("activity_skill_vs_train_prior", "sign_accuracy", "r2"), True),
    **dict.fromkeys(("direction_skill_vs_train_prior", "sign_excess"), True),
    **dict.fromkeys(("skill_mse_vs_persistence", "skill_mse_vs_train_mean"), True),
    **dict.fromkeys(("trading_sharpe", "trading_mean_net_return_bps"), True),
    **dict.fromkeys(("trading_total_return_pct", "trading_profit_factor"), True),
    **dict.fromkeys(("log_loss", "brier", "expected_calibration_error"), False),
    **dict.fromkeys(("net_bps", "sharpe", "total_return_pct"), True),  # of a position
    **dict.fromkeys(("mae", "rmse", "trading_max_drawdown_pct"), False),
    "max_drawdown_pct": False,
}
"""Metric of a test part -> whether more of it is better."""

_COUNTS = ("num_samples", "trading_num_trades", "trading_num_days")


@dataclass(frozen=True, kw_only=True)
class ModelSummary:
    """What a list says of one registered model.

    Args:
        group: `{family}/{PAIR}-{timeframe}-{target}`: models that can stand for each
            other.
        version: `v1.2.0`: major where the interface differs from the version before,
            minor for new data or settings, patch for the same with another seed or
            calibration.
        run_id: The run that made it.
        artifact: Its folder, relative to the folder of outputs.
        manifest_sha256: Of the artifact's manifest, which vouches for every file.
        performance_grade: See `grades`.
        grade_reason: What kept it from the next grade.
        skill: Skill against the train prior, or against persistence, on the test part.
        created_at: When it was registered, UTC.
        trained_at: When it was trained; None where its metadata do not say.
        metrics: Numbers of the test part and its trades, by name.
        dependencies: Ids of the models that it was made from.
        training_duration: Seconds.
        git_commit: Of the code; None where it is not known.
        model_size_mb: Of the model file, 1e6 bytes.
        tags: Words to find it by.
        notes: A line of its owner.
        experiment_name: What several runs belong to.
        status: `active` or `archived`.
    """

    group: str
    version: str
    run_id: str
    artifact: str
    manifest_sha256: str
    performance_grade: str
    grade_reason: str
    skill: float | None
    created_at: str
    trained_at: str | None
    metrics: Mapping[str, float | None]
    dependencies: tuple[str, ...] = ()
    training_duration: float | None
    git_commit: str | None
    model_size_mb: float
    tags: tuple[str, ...] = ()
    notes: str = ""
    experiment_name: str | None = None
    status: str = ACTIVE

    @property
    def model_id(self) -> str:
        """Its name for good: `cnn_lstm_ETHUSDT-1m-signal_v1.2.0`."""
        return f"{self.group.replace('/', '_')}_{self.version}"

    @property
    def model_type(self) -> str:
        """Its family."""
        return self.group.partition("/")[0]

    @property
    def market(self) -> tuple[str, str, str]:
        """Its pair, timeframe and target."""
        pair, timeframe, target = self.group.partition("/")[2].rsplit("-", 2)
        return pair, timeframe, target

    @property
    def grade(self) -> PerformanceGrade:
        """Its grade, to compare."""
        return PerformanceGrade(self.performance_grade)

    @property
    def display_name(self) -> str:
        """Its name for readers, with grade and skill; no look-up takes it."""
        skill = "" if self.skill is None else f"_skill_{self.skill:+.2f}"
        return f"{self.model_id}_grade_{self.performance_grade}{skill}"

    def to_dict(self) -> dict[str, Any]:
        """Returns every field, and the names that follow from them."""
        own = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        return {
            "format": FORMAT,
            "model_id": self.model_id,
            "model_type": self.model_type,
            "display_name": self.display_name,
            **own,
        }

    @classmethod
    def from_dict(cls, values: Any, where: object) -> Self:
        """Returns what `to_dict` wrote; refuses anything else.

        Raises:
            RefusedArtifactError: If a field is missing, or none of its kind.
        """
        names = [item.name for item in dataclasses.fields(cls)]
        if not isinstance(values, dict) or not set(names) <= set(values):
            raise RefusedArtifactError(f"{where}: expected an entry of the registry.")
        chosen = {name: values[name] for name in names}
        wrong = [
            name
            for name, is_such in _KINDS.items()
            if name in chosen and not is_such(chosen[name])
        ]
        if wrong or values.get("format") != FORMAT:
            raise RefusedArtifactError(
                f"{where}: expected an entry of format {FORMAT}. Received: another "
                f"{', '.join(wrong) or 'format'}. It was not written by the registry."
            )
        lists = {name: tuple(chosen[name]) for name in ("dependencies", "tags")}
        return cls(**chosen | lists)


@dataclass(frozen=True, kw_only=True)
class ModelMetadata(ModelSummary):
    """One registered model: all that its entry keeps.

    Args:
        interface: What a caller gives and gets: `feature_names`, `window_bars`,
            `timeframe`, `target`, `classes`.
        data_sha256: Of the training file; None of a DataFrame.
        settings_sha256: Of the configuration, without seed, calibration and folders.
        training_config: Every field of its configuration.
        dataset_info: Rows, features and times of what it was trained on.
        file_paths: `model`, `preprocessor`, `config`, `metadata` inside the artifact.
        hardware_info: Processor, cores, memory, GPUs.
        checksum: SHA-256 of the model file.
    """

    interface: Mapping[str, Any]
    data_sha256: str | None
    settings_sha256: str
    training_config: Mapping[str, Any]
    dataset_info: Mapping[str, Any]
    file_paths: Mapping[str, str]
    hardware_info: Mapping[str, Any]
    checksum: str


def is_inside(text: Any) -> bool:
    """Whether text is a relative path that stays below where it begins."""
    if not isinstance(text, str) or not text or not text.isprintable():
        return False
    return ".." not in text.split("/") and text[0] != "/" and "\\" not in text


def _are_words(values: Any) -> bool:
    return isinstance(values, list | tuple) and all(isinstance(v, str) for v in values)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_mapping(value: Any) -> bool:
    return isinstance(value, dict)


def _is_number(value: Any) -> bool:
    is_such = isinstance(value, int | float) and not isinstance(value, bool)
    return is_such and abs(value) <= sys.float_info.max


def _or_none(is_right: Any) -> Any:
    return lambda value: value is None or is_right(value)


def _of_each(is_right: Any) -> Any:
    return lambda value: _is_mapping(value) and all(map(is_right, value.values()))


def _matches(pattern: re.Pattern[str]) -> Any:
    return lambda value: isinstance(value, str) and bool(pattern.fullmatch(value))


_KINDS: dict[str, Any] = {
    name: is_such
    for is_such, names in (
        (_is_text, "run_id grade_reason created_at notes"),
        (_or_none(_is_text), "trained_at git_commit experiment_name"),
        (_is_number, "model_size_mb"),
        (_or_none(_is_number), "skill training_duration"),
        (_matches(_SHA256), "manifest_sha256 settings_sha256 checksum"),
        (_or_none(_matches(_SHA256)), "data_sha256"),
        (_is_mapping, "interface training_config dataset_info hardware_info"),
        (_of_each(_is_text), "file_paths"),
        (_of_each(_or_none(_is_number)), "metrics"),
        (_are_words, "dependencies"),
        (lambda value: _are_words(value) and all(map(WORD.fullmatch, value)), "tags"),
        (_matches(GROUP), "group"),
        (_matches(_VERSION), "version"),
        (is_inside, "artifact"),
        (lambda value: value in list(PerformanceGrade), "performance_grade"),
        (lambda value: value in (ACTIVE, ARCHIVED), "status"),
    )
    for name in names.split()
}


# An artifact as an entry


def describe(
    artifact: Artifact, *, place: str, manifest_sha256: str, **given: Any
) -> ModelMetadata:
    """Returns the entry of an artifact, without a version yet: it is `v0.0.0`.

    Args:
        artifact: Opened, so that every file is what its manifest says.
        place: Its folder, relative to the folder of outputs.
        manifest_sha256: Of its manifest.
        **given: `dependencies`, `tags` and `notes` of whoever registers it.

    Raises:
        RefusedArtifactError: If its files do not say what a run's do.
    """
    with refuse_broken(f"{artifact.path}: expected what a run leaves"):
        found = _describe(artifact, given)
        values = {"artifact": place, "manifest_sha256": manifest_sha256, **found}
        # As it will be read again: what an entry cannot hold is refused now.
        return ModelMetadata.from_dict({"format": FORMAT, **values}, artifact.path)


def _describe(artifact: Artifact, given: Mapping[str, Any]) -> dict[str, Any]:
    about, results = artifact.metadata, artifact.read_listed_json(REPORT)
    config = artifact.config
    data, test = about["data"], results.get("test") or {}
    files = about["files"]
    graded, file = grade_of(results), artifact.files[files["model"]]
    return {
        "group": f"{config.model}/{config.pair}-{config.timeframe}-{config.target}",
        "version": "v0.0.0",
        "run_id": str(about["run_id"]),
        "interface": {
            "feature_names": data["feature_names"],
            "window_bars": about["model"]["window_bars"],
            "timeframe": config.timeframe,
            "target": config.target,
            "classes": results.get("class_names"),
        },
        "data_sha256": data.get("sha256"),
        "settings_sha256": settings_digest(config),
        "performance_grade": str(graded.grade),
        "grade_reason": graded.reason,
        "skill": test.get("skill_vs_train_prior", test.get("skill_mse_vs_persistence")),
        "created_at": datetime.now(UTC).isoformat(timespec="microseconds"),
        "trained_at": about.get("created_at"),
        "training_config": config.to_dict(),
        "metrics": _numbers_of(test),
        "dataset_info": {
            "path": data.get("path"),
            "num_features": data["num_features"],
            **about["split"],
        },
        "dependencies": list(given.get("dependencies", ())),
        "file_paths": {
            "model": files["model"],
            "preprocessor": files.get("preprocessor", files["scaler"]),
            "metadata": artifact.metadata_name,
            "config": "config.yaml",
        },
        "training_duration": about["training"].get("seconds"),
        "hardware_info": about.get("hardware", {}),
        "git_commit": about.get("code", {}).get("git_commit"),
        "model_size_mb": round(file["bytes"] / 1e6, 3),
        "checksum": file["sha256"],
        "tags": list(dict.fromkeys([*config.tags, *given.get("tags", ())])),
        "notes": given.get("notes", ""),
        "experiment_name": config.experiment_name,
        "status": ACTIVE,
    }


def _numbers_of(test: Mapping[str, Any]) -> dict[str, float]:
    """Returns the plain numbers of a part, and those of its trades."""
    trades = test.get("trading") or {}
    named = list(test.items()) + [(f"trading_{k}", v) for k, v in trades.items()]
    kept = {*HIGHER_IS_BETTER, *_COUNTS}
    return {name: value for name, value in named if name in kept and _is_number(value)}


def settings_digest(config: Config) -> str:
    """Returns a digest of what makes another model: no seed, calibration or folder."""
    free = (FREE_FIELDS - {"epochs"}) | {*_RESEEDED}
    return sha256_json({k: v for k, v in config.to_dict().items() if k not in free})


# Versions


def parse_version(text: str) -> Version | None:
    """Returns the numbers of `v1.2.0`; None of anything else."""
    found = _VERSION.fullmatch(text)
    return (int(found[1]), int(found[2]), int(found[3])) if found else None


def next_version(
    new: ModelMetadata, newest: ModelMetadata | None, used: Iterable[Version]
) -> str:
    """Returns the version of a new entry.

    Args:
        new: The entry.
        newest: That of the highest version of its group; None where there is none.
        used: Every version that the group ever had, deleted ones too.
    """
    major, minor, patch = max(used, default=(0, 0, 0))
    if newest is None or newest.interface != new.interface:
        return f"v{major + 1}.0.0"
    is_again = (new.data_sha256, new.settings_sha256) == (
        newest.data_sha256,
        newest.settings_sha256,
    )
    return f"v{major}.{minor}.{patch + 1}" if is_again else f"v{major}.{minor + 1}.0"


# Order among models


def sorted_models(found: list[ModelSummary], sort: str) -> list[ModelSummary]:
    """Returns models in the order that is asked for; without a value they come last."""
    if sort == "created_at":
        return found
    if sort == "grade":
        return sorted(found, key=lambda entry: entry.grade.rank)
    if sort != "skill" and sort not in HIGHER_IS_BETTER:
        known = ("created_at", "grade", "skill", *HIGHER_IS_BETTER)
        raise ConfigError(
            f"sort: expected one of {', '.join(known)}. Received: {sort!r}."
            + did_you_mean(sort, known)
        )
    sign = -1.0 if HIGHER_IS_BETTER.get(sort, True) else 1.0

    def key(entry: ModelSummary) -> tuple[bool, float]:
        value = entry.skill if sort == "skill" else entry.metrics.get(sort)
        return value is None, sign * (value or 0.0)

    return sorted(found, key=key)
