"""The search of a study: points asked for, tried side by side, and told.

In: the folder of a study, its trials until there are enough, going on with it. Out: the
points and what is kept of them (`study`), a trial (`trial`), who does it (`tasks`), the
run that is trained in the end (`tuning`).
"""

from __future__ import annotations

import contextlib
import logging
import shlex
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import utils
from artifacts.resuming import changed_fields, run_identity
from config import DATASET_FIELDS, Config
from data_loader import TrainingDataLoader
from executors.tasks import Executor, Finished, Task
from experiments.series import FailedRunsError
from files.atomic import make_folder
from files.locks import FileLock
from files.strict import read_json, to_jsonable, write_json
from models import costs
from models.families import create_adapter
from settings.names import require_one_pair
from tuning import trial
from tuning.family_spaces import default_space
from tuning.spaces import read_space
from tuning.study import Study
from tuning.trial import OBJECTIVES, TrialValues, judged_parts

logger = logging.getLogger(__name__)

FOLDER = "studies"
SETTINGS = "study.json"
DEFAULT = "default"
_LOOK_SECONDS = 1.0
_FOLDS: dict[str, Any] = {"n_splits": 3, "cv": "purged"}
"""Of a run that asks for none."""


@dataclass(frozen=True, kw_only=True)
class TuneConfig:
    """How a study is run; none of it decides what a run is.

    Attributes:
        n_trials: Trials of the whole study, failed and pruned ones among them.
        objective: One of `trial.OBJECTIVES`.
        space: What is searched, as `read_space` takes it; None: the family's own.
        study: Its name; None takes the newest of this run, space and objective, whose
            points are the same, or makes one where there is none.
        resume: Go on with a study; none is begun.
        timeout_minutes: No trial is begun after so long; None waits for all.
        allow_target: Whether fields that change the question may be searched.
    """

    n_trials: int = 50
    objective: str = "cv_log_loss"
    space: Mapping[str, Any] | None = None
    study: str | None = None
    resume: bool = False
    timeout_minutes: float | None = None
    allow_target: bool = False

    def __post_init__(self) -> None:
        """Refuses what is none.

        Raises:
            ConfigError: Naming the option.
        """
        if self.n_trials < 1:
            raise utils.ConfigError(
                f"n_trials: expected >= 1. Received: {self.n_trials}"
            )
        if self.objective not in OBJECTIVES:
            raise utils.ConfigError(
                f"objective: expected one of {', '.join(OBJECTIVES)}. Received: "
                f"{self.objective!r}.{utils.did_you_mean(self.objective, OBJECTIVES)}"
            )
        if self.timeout_minutes is not None and not self.timeout_minutes > 0:
            raise utils.ConfigError(
                f"timeout_minutes: expected > 0. Received: {self.timeout_minutes}"
            )
        if self.study is not None and (
            not self.study or "/" in self.study or self.study[0] == "."
        ):
            raise utils.ConfigError(
                f"study: expected a name, such as lstm_1. Received: {self.study!r}"
            )

    @property
    def maximizes(self) -> bool:
        """Whether a larger objective is better."""
        return self.objective == "cv_net"


class Search:
    """A study while it lasts, in its folder."""

    def __init__(self, base: Config, options: TuneConfig, executor: Executor) -> None:
        self.base, self.options, self.executor = base, options, executor
        if create_adapter(base).parents:
            raise utils.ConfigError(
                "model: expected one that builds on no other: trials are judged on "
                f"rows that those learned from. Received: {base.model!r}"
            )
        given = options.space if options.space is not None else default_space(base)
        self.space = read_space(
            given,
            base,
            allow_target=options.allow_target,
            judges_trades=options.objective == "cv_net",
        )
        self.tried = _tried_config(base, options.objective, executor.slots)
        self.is_begun = False
        rows = TrainingDataLoader(config=base).read_rows()
        self._shape = rows.features.shape
        digest = rows.source.get("sha256")
        is_one_file = not self.space.fields & set(DATASET_FIELDS)
        self._given = TrialValues(
            folder="",
            config={},
            objective=options.objective,
            window_bars=self.space.most_bars(base),
            file_sha256=digest if is_one_file else None,
        )
        judged_parts(rows, self.tried, self._given)  # refused before anything is tried
        self.settings = to_jsonable(
            {
                "config": base.to_dict(),
                "objective": options.objective,
                "space": given,
                "file_sha256": digest,
                "n_trials": options.n_trials,
                "allow_target": options.allow_target,
            }
        )
        self.folder = self._open()
        self._lock = FileLock(self.folder / ".lock")
        self.default_value: float | None = None
        self._running: dict[str, int | None] = {}
        self._seen: dict[int, int] = {}
        self._done: dict[str, int] = {}

    def __enter__(self) -> None:
        if not self._lock.acquire():
            raise utils.InUseError(
                f"{self.folder}: this study is still going on: {self._lock.owner()} "
                "has it. Wait for it, or name another one: --study NAME."
            )
        write_json(self.folder / SETTINGS, self.settings)
        self.study = Study(
            self.folder,
            self.space,
            seed=self.base.seed,
            maximizes=self.options.maximizes,
            prunes=not (self.options.maximizes or self.space.changes_loss),
            is_parallel=self.executor.slots > 1,
        )

    def __exit__(self, *_: object) -> None:
        self.study.close()
        self._lock.release()

    def _open(self) -> Path:
        """Returns the folder: a new one, or that of the study to go on with."""
        home, name = Path(self.base.outputs_dir).absolute() / FOLDER, self.options.study
        if name is None and (known := self._newest(home)) is not None:
            logger.info("goes on with %s; for another: --study NAME", known)
            self.is_begun = True
            return known
        if name is None and self.options.resume:
            raise utils.MissingInputError(
                f"--resume: expected a study of this run and space in {home}. "
                "Received: none. Name it, --study NAME, or leave --resume out."
            )
        if name is None:
            now = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
            name = f"{now}-{self.base.pair}-{self.base.model}-{self.base.digest()[:8]}"
        folder = home / name
        self.is_begun = (folder / SETTINGS).is_file()
        if self.options.resume:
            if found := self._differences(begun_with(self.base.outputs_dir, name)):
                lines = "\n".join(f"  - {line}" for line in found)
                raise utils.ConfigError(
                    f"{folder}: expected the run and the space that this study began "
                    f"with:\n{lines}"
                )
        elif self.is_begun:
            raise utils.ConfigError(
                f"{folder}: there is this study already. Go on with --resume, or "
                "name another one: --study NAME."
            )
        make_folder(folder)
        return folder

    def _newest(self, home: Path) -> Path | None:
        """Returns the newest study of this run, space, objective and file, if any."""
        files = home.glob(f"*/{SETTINGS}")
        for each in sorted(files, key=lambda path: path.stat().st_mtime, reverse=True):
            # What another version wrote is another study.
            with contextlib.suppress(utils.UserError, LookupError, TypeError):
                if not self._differences(read_json(each)):
                    return each.parent
        return None

    def _differences(self, saved: Mapping[str, Any]) -> list[str]:
        began = Config(**saved["config"])
        found = changed_fields(began, self.base)
        for name in ("objective", "space", "file_sha256"):
            if saved[name] != self.settings[name]:
                found.append(f"{name}: not the one that it began with")
        return found

    def advice(self) -> str:
        """Returns how to go on."""
        words = f"python -m experiments tune --study {self.folder.name} --resume"
        if (place := self.base.outputs_dir) != Config().outputs_dir:
            words += f" --outputs-dir {shlex.quote(place)}"
        return f"{len(self._done)} trials are finished, and stay. To go on: {words}"

    # Searching

    def run(self) -> None:
        """Tries points until there are enough, or the time is up."""
        minutes = self.options.timeout_minutes
        deadline = time.monotonic() + 60 * minutes if minutes else float("inf")
        default = self.folder / f"{DEFAULT}.json"
        if default.is_file():
            self.default_value = read_json(default)["value"]
        else:
            self._submit(None, {})
        for each in self.study.trials():
            if each["state"] == "complete":
                self._done.setdefault(self._identity(each["fields"]), each["number"])
        waiting = self.study.unfinished()
        begun = len(self.study.trials()) - len(waiting)
        with trial.watched(self._look):
            while True:
                while (
                    len(self._running) < self.executor.slots
                    and (waiting or begun < self.options.n_trials)
                    and time.monotonic() < deadline
                ):
                    begun += 1
                    if waiting:
                        number = min(waiting)
                        self._submit(number, waiting.pop(number))
                    else:
                        self._begin(*self.study.ask())
                if not self._running:
                    return
                for ended in self.executor.wait(timeout=_LOOK_SECONDS):
                    self._look()
                    self._note(self._running.pop(ended.name), ended)
                self._look()

    def _begin(self, number: int, fields: dict[str, Any]) -> None:
        """Submits a point, unless it was tried before: its value is known."""
        with contextlib.suppress(utils.ConfigError):  # the trial fails by it, in words
            same = self._done.get(self._identity(fields))
            if same is not None:
                value = self.study.trial(same)["value"]
                self.study.tell(number, value, same_as=same, seconds=0.0)
                logger.info("trial %d: the same as trial %d", number, same)
                return
        self._submit(number, fields)

    def _identity(self, fields: Mapping[str, Any]) -> str:
        return run_identity(self.tried.replace(**fields))

    def _submit(self, number: int | None, fields: Mapping[str, Any]) -> None:
        folder = self._trial_folder(number)
        make_folder(folder)
        config = self.tried.to_dict() | to_jsonable(fields)
        given = replace(self._given, folder=str(folder), config=config)
        self._running[folder.name] = number
        self.executor.submit(
            Task(
                name=folder.name,
                function="tuning.trial:run_trial",
                values=to_jsonable(asdict(given)),
                num_threads=self.tried.num_threads,
                memory_bytes=self._memory_of(fields),
            )
        )

    def _memory_of(self, fields: Mapping[str, Any]) -> int:
        with contextlib.suppress(utils.ConfigError):  # the trial fails by it, in words
            return costs.rough_memory(self.tried.replace(**fields), *self._shape)
        return 0

    def _trial_folder(self, number: int | None) -> Path:
        name = DEFAULT if number is None else f"{number:04d}"
        return self.folder / "trials" / name

    def _look(self) -> None:
        """Passes on what running trials have told, and stops those that are behind."""
        for number in [each for each in self._running.values() if each is not None]:
            folder = self._trial_folder(number)
            lines = trial.read_values(folder)
            known = self._seen.get(number, 0)
            self._seen[number] = len(lines)
            for line in lines[known:]:
                if self.study.report(number, line["step"], line["value"]):
                    trial.prune(folder)

    def _note(self, number: int | None, ended: Finished) -> None:
        """Keeps how a trial ended."""
        if ended.exit_code > 128:  # by a signal
            raise utils.Interrupted(ended.exit_code - 128)
        result = ended.result or {}
        if number is None:
            if ended.result is None:
                raise FailedRunsError(
                    f"the default failed, before any trial: {ended.error}",
                    [ended.exit_code],
                )
            self.default_value = result["value"]
            write_json(self.folder / f"{DEFAULT}.json", result)
            logger.info("default: %.5f", self.default_value)
            return
        value, seconds = result.get("value"), round(ended.seconds, 1)
        notes = {"seconds": seconds, "exit_code": ended.exit_code}
        self.study.tell(number, value, error=ended.error, **notes)
        shown = ended.error or ("pruned" if value is None else f"{value:.5f}")
        best = self.study.best()
        beside = f", best {best['value']:.5f} (trial {best['number']})" if best else ""
        count = self.options.n_trials
        logger.info("trial %d of %d: %s%s", number + 1, count, shown, beside)
        if value is not None:
            fields = self.study.trial(number)["fields"]
            self._done.setdefault(self._identity(fields), number)


def begun_with(outputs_dir: str, name: str) -> dict[str, Any]:
    """Returns what a study began with, by its name.

    Returns:
        `config` (every field of the default), `objective`, `space`, `file_sha256`,
        `n_trials`, `allow_target`.

    Raises:
        MissingInputError: If there is none.
    """
    home = Path(outputs_dir).absolute() / FOLDER
    if not (home / name / SETTINGS).is_file():
        raise utils.MissingInputError(
            f"--resume: expected the study {name} in {home}. Received: none."
        )
    return read_json(home / name / SETTINGS)


def _tried_config(base: Config, objective: str, slots: int) -> Config:
    """Returns what the trials have in common: folds, threads, absolute folders."""
    require_one_pair(base, "a search of settings, whose trials have folds")
    is_share = base.stage_share < 1
    if is_share and objective != "val_log_loss":
        raise utils.ConfigError(
            "--objective: expected val_log_loss with a stage_share, since folds lie in "
            f"all rows before the test. Received: {objective}"
        )
    changes: dict[str, Any] = {} if base.has_folds or is_share else dict(_FOLDS)
    changes |= {"inputs_dir": str(Path(base.inputs_dir).absolute())}
    if base.training_file is not None:
        changes["training_file"] = str(Path(base.training_file).absolute())
    if base.num_threads is None and slots > 1:
        changes["num_threads"] = max(1, utils.available_cores() // slots)
    kept = {"keep_folds": False, "calibrate_on": "validation", "tensorboard": False}
    return base.replace(**changes, **kept, tags=(), experiment_name=None)
