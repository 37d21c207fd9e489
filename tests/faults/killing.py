"""Rooms: kill -9 at random moments, also inside a checkpoint; SIGINT and SIGTERM."""

from __future__ import annotations

import os
import pathlib
import shutil
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from scene import Child, Row, World, final_problem, outcome, tail, train

import utils
from config import Config
from networks import checkpoints

KINDS = ("batch", "checkpoint", "checkpoint", "best model", "after training")
NUM_SEEDS = 5


def references(world: World, count: int) -> list[dict[str, Any]]:
    """Returns the outcome of the uninterrupted run of each seed."""
    found = []
    for seed in range(count):
        folder = world.folder / f"reference-{seed}"
        if not folder.exists():
            world.prepare(folder, seed)
            child = Child(lambda tell, f=folder: train(f, tell), folder / "log")
            if (code := child.wait()) != 0:
                raise SystemExit(f"no reference: {code}, {tail(folder / 'log')}")
        found.append(outcome(folder))
    return found


def kill_room(world: World) -> Row:
    """25 runs with 4 kills each end with the bytes of the uninterrupted run."""
    row = Row("kill -9", "identical digests; at most one epoch lost")
    runs, kills = world.count(25, 1), world.count(4, 2)
    known = references(world, min(NUM_SEEDS, runs))
    with ThreadPoolExecutor(2) as pool:
        problems = pool.map(
            lambda run: _one_run(world, run, kills, known[run % len(known)]),
            range(runs),
        )
        died = 0
        for problem, deaths in problems:
            row.add(problem)
            died += deaths
    row.note = f"{died} kills"
    return row


def _one_run(
    world: World, run: int, kills: int, reference: dict[str, Any]
) -> tuple[str | None, int]:
    rng = world.rng(1, run)
    folder = world.folder / f"kill-{run}"
    config = world.prepare(folder, run % NUM_SEEDS)
    deaths, told = 0, []
    for attempt in range(kills):
        is_last = attempt + 1 == kills
        kind = KINDS[rng.integers(0, len(KINDS) if is_last else len(KINDS) - 1)]
        code, words = _attempt(folder, kind, rng)
        told.append(words)
        if code == 0:
            break
        if code != -signal.SIGKILL:
            return f"run {run} ({told}): exit {code}: {tail(folder / 'log')}", deaths
        deaths += 1
        if lost := _lost_epochs(folder, config):
            return f"run {run} ({told}): {lost} epochs lost", deaths
    child = Child(lambda tell: train(folder, tell), folder / "log")
    if (code := child.wait()) != 0:
        return f"run {run} ({told}): exit {code}: {tail(folder / 'log')}", deaths
    problem = final_problem(folder, config, reference)
    if problem is None:
        shutil.rmtree(folder)
        return None, deaths
    return f"run {run} ({told}): {problem}", deaths


def _attempt(folder: Path, kind: str, rng: np.random.Generator) -> tuple[int, str]:
    batch, delay = int(rng.integers(1, 8)), float(rng.uniform(0, 0.15))
    nth, operation = int(rng.integers(1, 3)), int(rng.integers(0, 6))
    if kind in ("checkpoint", "best model"):
        if kind == "best model":
            operation = max(1, operation)  # Keras writes by itself
        shims = die_inside(kind, nth, operation)
        child = Child(lambda tell: train(folder, tell, shims=shims), folder / "log")
        if child.wait_for("batch 11"):
            child.kill()  # no model was the best so far
        return child.wait(), f"{kind} {nth}, operation {operation}"
    child = Child(lambda tell: train(folder, tell), folder / "log")
    if kind == "batch":
        child.wait_for(f"batch {batch}")
        words = f"{delay:.3f} s after batch {batch}"
    else:
        delay *= 20
        child.wait_for("trained")
        words = f"{delay:.3f} s after the training"
    time.sleep(delay)
    child.kill()
    return child.wait(), words


def die_inside(kind: str, nth: int, operation: int) -> Callable[[], None]:
    """Returns shims that kill the process in its n-th save, at a file operation.

    Operations: 0 half of the write, 1 file fsync, 2 and 3 before and after the rename,
    4 fsync of the folder, 5 the first batch after it.
    """

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def shims() -> None:
        from networks.branched import BranchedTraining

        state = {"saves": 0, "inside": False, "fsyncs": 0}

        def counted(function: Callable[..., Any]) -> Callable[..., Any]:
            def save(*args: Any, **kwargs: Any) -> Any:
                state["saves"] += 1
                state["inside"], state["fsyncs"] = state["saves"] == nth, 0
                try:
                    return function(*args, **kwargs)
                finally:
                    if state["inside"] and operation == 5:
                        die()
                    state["inside"] = False

            return save

        if kind == "checkpoint":
            checkpoints.write_checkpoint = counted(checkpoints.write_checkpoint)
        else:
            BranchedTraining.save = counted(BranchedTraining.save)
        write, fsync, replace = pathlib.Path.write_bytes, os.fsync, os.replace

        def torn_write(path: Path, data: bytes) -> int:
            if state["inside"] and operation == 0:
                write(path, bytes(data)[: len(data) // 2])
                die()
            return write(path, data)

        def dying_fsync(descriptor: int) -> None:
            state["fsyncs"] += 1
            if state["inside"] and operation == {1: 1, 2: 4}.get(state["fsyncs"]):
                die()
            fsync(descriptor)

        def dying_replace(source: Any, target: Any) -> None:
            if state["inside"] and operation == 2:
                die()
            replace(source, target)
            if state["inside"] and operation == 3:
                die()

        pathlib.Path.write_bytes = torn_write
        os.fsync, os.replace = dying_fsync, dying_replace

    return shims


def _lost_epochs(folder: Path, config: Config) -> int:
    """Returns how many finished epochs the newest checkpoint does not have."""
    begun = folder / "begun"
    published = config.model_dir.exists() and any(config.model_dir.iterdir())
    if published or not begun.exists() or not config.runs_dir.exists():
        return 0
    runs = [path for path in config.runs_dir.iterdir() if path.is_dir()]
    states = [checkpoints.read_newest(run / "checkpoints") for run in runs]
    done = [int(state["epochs_done"]) for state in states if state is not None]
    return max(0, int(begun.read_text()) - max(done, default=0)) if runs else 0


def signal_room(world: World) -> Row:
    """SIGINT and SIGTERM: exit code, last word, whole checkpoint, exact resume."""
    row = Row("SIGTERM / SIGINT", "valid checkpoint, right exit code")
    moments = world.count(40, 2)
    [reference] = references(world, 1)
    with ThreadPoolExecutor(2) as pool:
        problems = pool.map(
            lambda moment: _one_signal(world, moment, reference), range(moments)
        )
        slowest = 0.0
        for problem, seconds in problems:
            row.add(problem)
            slowest = max(slowest, seconds)
    row.note = f"the slowest took {slowest:.1f} s"
    return row


def _one_signal(
    world: World, moment: int, reference: dict[str, Any]
) -> tuple[str | None, float]:
    rng = world.rng(2, moment)
    number = (signal.SIGINT, signal.SIGTERM)[moment % 2]
    events = ["main", "trained", *(f"batch {i}" for i in range(1, 33))]
    while True:
        event = events[rng.integers(0, len(events))]
        delay = float(rng.uniform(0, 1.5 if event in ("main", "trained") else 0.1))
        folder = world.folder / f"signal-{moment}-{rng.integers(0, 2**40):x}"
        config = world.prepare(folder, 0)
        child = Child(lambda tell, f=folder: train(f, tell), folder / "log")
        child.wait_for(event)
        time.sleep(delay)
        sent = time.monotonic()
        child.kill(number)
        code = child.wait()
        seconds = time.monotonic() - sent
        words = f"moment {moment} ({delay:.3f} s after {event}, {number.name})"
        if code == 0 and sent > _done(child):
            continue  # it had finished before: another moment
        break
    if code not in (128 + number, -number):
        return f"{words}: exit {code}: {tail(folder / 'log')}", seconds
    problem = _last_word_problem(folder, config, is_silent=code < 0)
    if problem is None and (moment % 4 == 0 or world.is_sample):
        again = Child(lambda tell: train(folder, tell), folder / "log")
        if (code := again.wait()) != 0:
            problem = f"resume ends with {code}: {tail(folder / 'log')}"
        else:
            problem = final_problem(folder, config, reference)
    if problem is None:
        shutil.rmtree(folder)
        return None, seconds
    return f"{words}: {problem}", seconds


def _done(child: Child) -> float:
    words = child._told.decode().split()
    return float(words[words.index("done") + 1]) if "done" in words else float("inf")


def _last_word_problem(folder: Path, config: Config, *, is_silent: bool) -> str | None:
    last = (folder / "log").read_text().strip().splitlines()[-1:]
    saved = sorted(config.runs_dir.glob("*/checkpoints/epoch_*.ckpt"))
    for path in saved:
        try:
            checkpoints.read_checkpoint(path)
        except utils.UserError as error:
            return f"checkpoint: {error}"
    if is_silent:
        return None  # before or after the block that handles signals
    if saved and not (last and "--resume" in last[0]):
        return f"there is a checkpoint, but the last line is {last}"
    if not saved and not (last and "interrupted" in last[0]):
        return f"the last line is {last}"
    return None
