"""Room: processes that publish runs of one configuration at once, and are killed."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import re
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

from scene import Child, Row, World
from world.artifacts import SCALER

import utils
from artifacts import resuming, run_folder
from artifacts.artifact import load_artifact
from config import Config
from files.atomic import atomic_write, require_creatable
from files.strict import write_json

PROCESSES = 8
KILLED_SHARE = 0.36
"""Share of runs that are aimed at: a quarter of all dies, the others were faster."""


class Mortals:
    """Calls in processes of their own, a share of which die at any moment.

    Args:
        rng: Who is aimed at, and when.
        share: Of the calls that are aimed at; some are faster.
        usual_seconds: What a call takes, before it is known.
    """

    def __init__(
        self, rng: random.Random, share: float, *, usual_seconds: float
    ) -> None:
        self._rng, self._share, self._usual = rng, share, usual_seconds

    def run(self, act: Any, *words: Any) -> tuple[bool, int | None]:
        """Returns whether the call was killed, and how its process ended."""
        started, was_killed = time.monotonic(), False
        child = multiprocessing.get_context("fork").Process(target=act, args=words)
        child.start()
        if self._rng.random() < self._share:
            child.join(self._rng.uniform(0, 1.2 * self._usual))
            if child.is_alive():
                child.kill()
                was_killed = True
            child.join()
        else:
            child.join()
            self._usual = 0.8 * self._usual + 0.2 * (time.monotonic() - started)
        return was_killed, child.exitcode


def config_of(folder: Path) -> Config:
    return Config(pair="TESTUSDT", outputs_dir=str(folder / "outputs"))


def publish(folder: Path, job: str) -> None:
    """One run as `trainer` makes it, without the training; each step is written down.

    A dead run is gone on with first, as `--resume` would.
    """
    config = config_of(folder)
    for place in (config.runs_dir, config.model_dir):
        require_creatable(place, has_runs=True)
    run_folder.sweep(config)
    with contextlib.suppress(utils.InUseError):
        run = resuming.find_resumable(config, "newest")
        if run is not None:
            _finish(folder, run)
    run = run_folder.RunFolder.create(config)
    atomic_write(run.checkpoints / "epoch_00001.ckpt", job)
    _tell(folder, f"began {job} {run.run_id}")
    _finish(folder, run)


def _finish(folder: Path, run: run_folder.RunFolder) -> None:
    job = (run.checkpoints / "epoch_00001.ckpt").read_text()
    atomic_write(run.file("history", ".csv"), f"{job}\n")
    write_json(run.file("scaler", ".json"), SCALER.to_dict())
    write_json(run.file("metadata", ".json"), {"files": {}})
    published = run.publish()
    _tell(folder, f"published {job} {published.name}")


def _tell(folder: Path, line: str) -> None:
    # Short appends of several processes do not mix.
    descriptor = os.open(folder / "told", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(descriptor, line.encode() + b"\n")
    os.close(descriptor)


def publish_all(folder: Path, seed: str) -> int:
    """One of the processes: publishes until all jobs are taken, a share killed."""
    mortals = Mortals(random.Random(seed), KILLED_SHARE, usual_seconds=0.2)
    utils.configure_logging()
    for number in range(10**6):
        try:
            (folder / "jobs" / f"{number}").rename(folder / "taken" / f"{number}")
        except FileNotFoundError:
            if not any((folder / "jobs").iterdir()):
                return 0
            continue
        was_killed, code = mortals.run(publish, folder, str(number))
        if was_killed:
            _tell(folder, f"killed {number} -")
        if code not in (0, -signal.SIGKILL):
            _tell(folder, f"failed {number} {code}")
    return 0


# The room


def sharing_room(world: World) -> Row:
    """Runs of one configuration, begun and killed side by side."""
    row = Row("8 processes, one configuration", "none lost, none shared, latest valid")
    folder = world.folder / "sharing"
    for name in ("jobs", "taken"):
        (folder / name).mkdir(parents=True)
    jobs = world.count(1000, 48)
    for number in range(jobs):
        (folder / "jobs" / f"{number}").touch()
    workers = [
        Child(
            lambda _, seed=f"{world.seed}-{worker}": publish_all(folder, seed),
            folder / f"{worker}.log",
        )
        for worker in range(PROCESSES)
    ]
    looks = _watch_latest(config_of(folder), workers, row)
    for worker in workers:
        code, text = worker.wait(), worker.log.read_text()
        if code or "Traceback" in text or "error" in text:
            row.failures.append(f"a worker ended with {code}: {text}")
    _finish_the_dead(folder)
    _compare(folder, jobs, row)
    killed = len(re.findall("^killed", (folder / "told").read_text(), re.MULTILINE))
    row.note = f"{killed} killed, latest opened {looks} times"
    return row


def _watch_latest(config: Config, workers: list[Child], row: Row) -> int:
    """Opens what latest names until the workers are done; returns how often."""
    looks = 0
    while not all(worker.is_over() for worker in workers):
        time.sleep(0.02)
        if looks or (config.model_dir / config.latest_name).exists():
            looks += 1
            try:
                load_artifact(config.model_dir / config.latest_name)
            except utils.UserError as error:
                row.failures.append(f"latest: {error}")
    return looks


def _finish_the_dead(folder: Path) -> None:
    config = config_of(folder)
    while (run := resuming.find_resumable(config, "newest")) is not None:
        _finish(folder, run)
        run.unlock()
    run_folder.sweep(config, min_age_seconds=-1)


def _compare(folder: Path, jobs: int, row: Row) -> None:
    """Holds what was published against what was told."""
    config = config_of(folder)
    told = [line.split() for line in (folder / "told").read_text().splitlines()]
    row.failures += [" ".join(words) for words in told if words[0] == "failed"]
    began = {job: run for kind, job, run in told if kind == "began"}
    acknowledged = Counter(run for kind, _, run in told if kind == "published")
    found: dict[str, str] = {}
    for path in config.model_dir.iterdir():
        if path.is_dir() and not path.is_symlink():
            artifact = load_artifact(path)
            [history] = [name for name in artifact.files if name.startswith("history")]
            found[path.name] = (path / history).read_text().strip()
    shared = [run for run, count in Counter(found.values()).items() if count > 1]
    for job in map(str, range(jobs)):
        run = began.get(job)  # a job that was killed before has nothing to lose
        problem = None
        if run is not None and found.get(run) != job:
            problem = f"job {job}: {run} has {found.get(run)}"
        elif job in shared:
            problem = f"job {job} is in several artifacts"
        row.add(problem)
    row.failures += [
        f"{run}: told {n} times" for run, n in acknowledged.items() if n > 1
    ]
    row.failures += [
        f"{run}: told, not there" for run in acknowledged if run not in found
    ]
    left = [path.name for path in config.runs_dir.iterdir()]
    left += [path.name for path in config.model_dir.glob(".tmp-*")]
    row.failures += [f"left: {left}"] if left else []
