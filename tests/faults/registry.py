"""Room: processes that register models at once, a quarter of them killed.

As a program, it is one of eight: `registry.py OUTPUTS ARTIFACT COUNT SEED`.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

sys.path[:0] = [str(path) for path in Path(__file__).resolve().parents[1:3]]
from sharing import KILLED_SHARE as AIMED_SHARE  # noqa: E402
from sharing import PROCESSES, Mortals  # noqa: E402

import utils  # noqa: E402
from artifacts.registry import Registry  # noqa: E402

GROUP = "lstm/TESTUSDT-1m-signal"


def register(outputs: Path, artifact: str) -> None:
    """One registration; what was acknowledged is written down."""
    entry = Registry(outputs).register(artifact)
    _tell(outputs, f"registered {entry.version}")


def _tell(outputs: Path, line: str) -> None:
    # Short appends of several processes do not mix.
    told = os.open(outputs / "told", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(told, line.encode() + b"\n")
    os.close(told)


def main() -> int:
    """The program: registers `COUNT` times, a share of them killed at any moment."""
    outputs, artifact, count, seed = Path(sys.argv[1]), *sys.argv[2:]
    mortals = Mortals(random.Random(seed), AIMED_SHARE, usual_seconds=0.1)
    utils.configure_logging()
    for _ in range(int(count)):
        was_killed, code = mortals.run(register, outputs, artifact)
        if was_killed:
            _tell(outputs, "killed")
        if code not in (0, -signal.SIGKILL):
            _tell(outputs, f"failed {code}")
    return 0


def registry_room(world: Any) -> Any:
    """Registrations side by side; what was acknowledged is there, whole, once."""
    from scene import Row
    from world.artifacts import publish

    row = Row("8 processes register", "each whole or absent, none lost, none twice")
    outputs = world.folder / "registry"
    artifact, each = publish(outputs), world.count(100, 5)
    command = [sys.executable, "-B", __file__, str(outputs), str(artifact), str(each)]
    workers = [
        subprocess.Popen(
            [*command, f"{world.seed}-{worker}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for worker in range(PROCESSES)
    ]
    said = "".join(worker.communicate()[0] for worker in workers)
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


if __name__ == "__main__":
    sys.exit(main())
