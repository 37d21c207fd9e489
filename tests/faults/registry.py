"""Room: processes that register models at once, a quarter of them killed."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path

from scene import Child, Row, World
from sharing import KILLED_SHARE as AIMED_SHARE
from sharing import PROCESSES, Mortals
from world.artifacts import publish

import utils
from artifacts.registry import Registry

GROUP = "lstm/TESTUSDT-1m-signal"


def register(outputs: Path, artifact: Path) -> None:
    """One registration; what was acknowledged is written down."""
    entry = Registry(outputs).register(artifact)
    _tell(outputs, f"registered {entry.version}")


def _tell(outputs: Path, line: str) -> None:
    # Short appends of several processes do not mix.
    told = os.open(outputs / "told", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(told, line.encode() + b"\n")
    os.close(told)


def register_all(outputs: Path, artifact: Path, count: int, seed: str) -> int:
    """One of eight: registers so often, a share of it killed at any moment."""
    mortals = Mortals(random.Random(seed), AIMED_SHARE, usual_seconds=0.1)
    utils.configure_logging()
    for _ in range(count):
        was_killed, code = mortals.run(register, outputs, artifact)
        if was_killed:
            _tell(outputs, "killed")
        if code not in (0, -signal.SIGKILL):
            _tell(outputs, f"failed {code}")
    return 0


def registry_room(world: World) -> Row:
    """Registrations side by side; what was acknowledged is there, whole, once."""
    row = Row("8 processes register", "each whole or absent, none lost, none twice")
    outputs = world.folder / "registry"
    artifact, each = publish(outputs), world.count(100, 5)
    workers = [
        Child(
            lambda _, seed=f"{world.seed}-{k}": register_all(
                outputs, artifact, each, seed
            ),
            world.folder / "registry.log",
        )
        for k in range(PROCESSES)
    ]
    codes, said = [worker.wait() for worker in workers], workers[0].log.read_text()
    told = (outputs / "told").read_text().splitlines()
    versions = [line.split()[1] for line in told if line.startswith("registered")]
    killed, failed = told.count("killed"), [t for t in told if t.startswith("failed")]
    registry = Registry(outputs)
    for version in versions:
        row.add(_fault_of(registry, version))
    there = {entry.version for entry in registry.list()}
    # Killed between the rename and its word.
    extra = len(there - set(versions))
    registry.register(artifact)
    left = [path.name for path in (registry.root / GROUP).glob(".tmp-*")]
    row.failures += [f"{each}: {said[-300:]}" for each in failed]
    row.failures += [f"a worker ended with {code}: {said}" for code in codes if code]
    row.failures += ["a version was given twice"] * (len({*versions}) < len(versions))
    row.failures += [f"{extra} entries, {killed} killed"] * (extra > killed)
    row.failures += [f"left behind: {left}"] * bool(left)
    row.note = f"{killed} of {PROCESSES * each} killed, {extra} whole but not told"
    return row


def _fault_of(registry: Registry, version: str) -> str | None:
    try:
        registry.open(f"{GROUP}@{version}")
    except Exception as error:
        return f"{version}: {error}"
    return None
