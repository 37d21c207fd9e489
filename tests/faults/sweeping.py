"""Room: sweeps whose workers and drivers are killed with -9 at random moments."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from scene import PROJECT, TESTS, Row, World, make_own_frame, tail
from world.frames import TINY

import utils
from artifacts.artifact import load_artifact
from config import Config
from dataset import training_file
from files.atomic import atomic_write, sha256_file

NAME = "killed"
MODELS = ("logistic", "cnn")
"""Of the first, cells end in a moment; of the second, some are killed within a fit."""
_PATIENCE_SECONDS = 1800.0


def sweep_room(world: World) -> list[Row]:
    """40 cells, killed and gone on with, end with the bytes of a serial sweep."""
    models, seeds = MODELS[: world.count(2, 1)], range(1, 1 + world.count(20, 3))
    cells = ["--models", *models, "--seeds", *map(str, seeds)]
    reference = world.folder / "sweep-serial"
    _prepare(reference)
    command = _command(reference, "serial", cells)
    if (code := _finish(reference, command)) != 0:
        raise SystemExit(f"no reference: {code}, {tail(reference / 'log')}")
    known = _outcomes(reference)
    executors = ["processes", "ray"][: world.count(2, 1)]
    return [_killed_sweep(world, each, cells, known) for each in executors]


def _killed_sweep(
    world: World, executor: str, cells: list[str], known: dict[str, dict[str, str]]
) -> Row:
    row = Row(f"kill -9 in a sweep, {executor}", "every cell as in a serial sweep")
    if executor == "ray" and importlib.util.find_spec("ray") is None:
        row.skipped = "needs requirements-ray.txt"
        return row
    rng = world.rng(7, len(executor))
    folder = world.folder / f"sweep-{executor}"
    _prepare(folder)
    command = _command(folder, executor, cells)
    workers = 0
    drivers = world.count(4, 1)
    for _ in range(drivers):
        driver = _start(folder, command)
        for _ in range(world.count(4, 1)):
            workers += _kill_a_worker(folder, driver, rng.uniform(0.0, 2.0))
        time.sleep(rng.uniform(0.0, 2.0))
        driver.kill()
        driver.wait()
    code = _finish(folder, command)
    for _ in range(3):  # cells that were killed more often than they are tried again
        code = code and _finish(folder, command)
    row.note = f"{workers} workers, {drivers} drivers killed"
    found = _outcomes(folder)
    for name, outcome in known.items():
        got = found.get(name)
        is_same = got == outcome
        row.add(None if is_same else f"{name}: expected {outcome}, received {got}")
    left = [path.name for path in (folder / "outputs" / "runs").glob("2*")]
    row.add(f"runs are left: {left}" if left or code else None)
    return row


def _prepare(folder: Path) -> None:
    folder.mkdir()
    config = Config(
        **TINY | {"epochs": 4, "baseline_model": False, "importance_windows": None},
        inputs_dir=str(folder / "inputs"),
        outputs_dir=str(folder / "outputs"),
        report="light",
    ).replace(num_threads=1, num_branches=1)
    training_file.write_training_file(
        config.expected_path, make_own_frame(900, seed=3), {}
    )
    atomic_write(folder / "run.yaml", config.to_yaml())


def _command(folder: Path, executor: str, cells: list[str]) -> list[str]:
    words = ["sweep", "--config", str(folder / "run.yaml"), "--experiment-name", NAME]
    words += [*cells, "--executor", executor, "--max-workers", "2", "--resume"]
    return [sys.executable, "-m", "experiments", *words]


def _start(folder: Path, command: list[str]) -> subprocess.Popen[bytes]:
    home = {}
    if "ray" in command:  # it writes a token there
        home = {"HOME": str(folder), "RAY_USAGE_STATS_ENABLED": "0"}
    with open(folder / "log", "ab") as log:
        return subprocess.Popen(
            command,
            cwd=PROJECT,
            env=os.environ | home | {"PYTHONPATH": f"{PROJECT}:{TESTS}"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )


def _finish(folder: Path, command: list[str]) -> int:
    driver = _start(folder, command)
    try:
        return driver.wait(_PATIENCE_SECONDS)
    finally:
        driver.kill()


def _kill_a_worker(folder: Path, driver: subprocess.Popen[bytes], delay: float) -> int:
    """Kills a process that a cell's run names as its own, after a delay; or none."""
    end = time.monotonic() + 120
    while time.monotonic() < end and driver.poll() is None:
        for path in sorted((folder / "outputs" / "runs").glob("*/status.json")):
            with contextlib.suppress(OSError, ValueError, KeyError):
                status = json.loads(path.read_text())
                os.kill(status["pid"], 0)
                time.sleep(delay)
                os.kill(status["pid"], signal.SIGKILL)
                return 1
        time.sleep(0.1)
    return 0


def _outcomes(folder: Path) -> dict[str, dict[str, str]]:
    """Returns the digests of each cell that was published."""
    found = {}
    for path in (folder / "outputs" / "experiments" / NAME / "cells").glob("*.json"):
        cell = json.loads(path.read_text())
        if cell["folder"] is None:
            found[cell["name"]] = {"error": cell["error"]}
            continue
        with contextlib.suppress(utils.UserError):
            artifact = load_artifact(cell["folder"])
            (predictions,) = artifact.path.glob("predictions_*.parquet")
            found[cell["name"]] = {
                "weights": artifact.metadata["model"]["weights_sha256"],
                "predictions": sha256_file(predictions),
            }
    return found
