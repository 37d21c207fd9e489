"""Room: retraining killed with -9 at random moments, from the build to the alias."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scene import Child, Row, World, tail
from world.markets import BARS_A_DAY, market, trained

from artifacts.registry import Registry
from files.strict import write_json
from live.decisions import PENDING, read_decisions
from live.schedule import read_schedule

_CHAMPION = "logistic/TESTUSDT-15m-signal@champion"
_RULES = {"every_days": 15, "duel_days": 15, "rolling_days": 40, "tolerance": 0.5}


def renew_room(world: World) -> Row:
    """Killed twenty times in all, each ends with the decision of one left alone."""
    row = Row("kill -9 in retraining", "one decision, as of one left alone")
    first = world.folder / "renew-first"
    _prepare(first)
    alone = _copy(first, world.folder / "renew-alone")
    started = time.monotonic()
    if (code := _start(alone).wait()) != 0:
        raise SystemExit(f"no reference: {code}, {tail(alone / 'log')}")
    longest, known = time.monotonic() - started, _outcome(alone)
    rng, deaths, number = world.rng(12), 0, 0
    while deaths < world.count(20, 1):
        number += 1
        folder = _copy(first, world.folder / f"renew-{number}")
        for _ in range(world.count(5, 1)):
            child = _start(folder)
            time.sleep(rng.uniform(0, longest))
            child.kill()
            code = child.wait()
            deaths += code == -signal.SIGKILL
            if code != -signal.SIGKILL:
                break
        code = code if code == 0 else _start(folder).wait()
        if code != 0:
            row.add(f"schedule {number}: exit {code}: {tail(folder / 'log')}")
            continue
        found = _outcome(folder)
        row.add(None if found == known else f"schedule {number}: {found}, not {known}")
    row.note = f"{deaths} kills of {number} schedules"
    return row


def _prepare(folder: Path) -> None:
    candles = market((5.0, 5.0), (60, 55), (1.0, 0.4))
    folder.mkdir()
    candles.to_parquet(folder / "TESTUSDT-15m.parquet")
    fields = {"feature_sets": ("ray12",), "validation_split": 0.2}
    model = trained(candles[: 60 * BARS_A_DAY], folder / "outputs", **fields)
    Registry(folder / "outputs").register(model, alias="champion")


def _copy(first: Path, folder: Path) -> Path:
    shutil.copytree(first, folder, symlinks=True)
    places = {
        "champion": _CHAMPION,
        "candles": str(folder / "TESTUSDT-15m.parquet"),
        "outputs_dir": str(folder / "outputs"),
    }
    write_json(folder / "renewed.yaml", places | _RULES)
    return folder


def _start(folder: Path) -> Child:
    def act(_: Callable[[str], None]) -> int:
        from live.__main__ import main

        return main(["retrain", str(folder / "renewed.yaml"), "--once"])

    return Child(act, folder / "log")


def _outcome(folder: Path) -> dict[str, Any]:
    """Returns the decision but for its seconds, and what the registry says."""
    rules = read_schedule(str(folder / "renewed.yaml"))
    registry = Registry(rules.outputs_dir)
    return {
        "decisions": [each | {"seconds": 0} for each in read_decisions(rules.folder)],
        "models": sorted(entry.model_id for entry in registry.list()),
        "champion": registry.get(rules.champion).model_id,
        "problems": str(registry.validate_all()),
        "pending": (rules.folder / PENDING).exists(),
    }
