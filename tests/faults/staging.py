"""Room: pipelines killed with -9 at random moments, in and between their stages."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

from scene import RUN, Child, Row, World, make_own_frame, tail

from artifacts.artifact import Artifact, load_artifact
from artifacts.registry import Registry
from config import Config
from dataset import training_file
from files.atomic import sha256_file
from files.strict import read_json, write_json

_NAME = "killed"
_FIELDS = RUN | {"epochs": 3, "report": "light", "importance_windows": None}
_AGENT = {"agent_hidden": [8], "agent_seeds": 2, "agent_episode_bars": 60}
_STAGES = [
    {"name": "extractor", "model": "cnn_lstm"},
    {
        "name": "agent",
        "model": "ppo",
        "needs": ["extractor"],
        "fields": _AGENT | {"agent_envs": 4, "agent_steps": 4 * 256},
    },
    {"name": "hybrid", "model": "hybrid", "needs": ["extractor", "agent"]},
    {"name": "ensemble", "model": "stack", "needs": ["extractor", "hybrid"]},
]


def stage_room(world: World) -> Row:
    """Killed ten times in all, every stage ends with the bytes of one left alone."""
    row = Row("kill -9 in a pipeline", "every stage as in one left alone")
    alone = _prepare(world.folder / "stages-alone")
    started = time.monotonic()
    if (code := _start(alone).wait()) != 0:
        raise SystemExit(f"no reference: {code}, {tail(alone / 'log')}")
    longest = 0.5 * (time.monotonic() - started)
    known, rng = _outcomes(alone), world.rng(11)
    kills = world.count(10, 1)
    deaths = number = 0
    while deaths < kills:
        number += 1
        folder = _prepare(world.folder / f"stages-{number}")
        code = -signal.SIGKILL
        while code == -signal.SIGKILL and deaths < kills:
            child = _start(folder)
            time.sleep(rng.uniform(0, longest))
            child.kill()
            code = child.wait()
            deaths += code == -signal.SIGKILL
        code = code if code == 0 else _start(folder).wait()
        if code != 0:
            row.add(f"pipeline {number}: exit {code}: {tail(folder / 'log')}")
            continue
        found = _outcomes(folder)
        wrong = [name for name in known if found[name] != known[name]]
        row.add(f"pipeline {number}: others: {', '.join(wrong)}" if wrong else None)
        runs = folder / "outputs" / "runs"
        left = [path.parent.name for path in runs.glob("2*/cell.json")]
        row.add(f"pipeline {number}: runs are left: {left}" if left else None)
    row.note = f"{deaths} kills of {number} pipelines"
    return row


def _prepare(folder: Path) -> Path:
    folder.mkdir()
    places = {name: str(folder / name.partition("_")[0]) for name in _PLACES}
    config = Config(**_FIELDS, **places)
    training_file.write_training_file(
        config.expected_path, make_own_frame(1500, seed=3), {}
    )
    write_json(folder / f"{_NAME}.yaml", {**_FIELDS, **places, "stages": _STAGES})
    return folder


_PLACES = ("inputs_dir", "outputs_dir")


def _start(folder: Path) -> Child:
    def act(_: Callable[[str], None]) -> int:
        from stages.__main__ import main

        return main([str(folder / f"{_NAME}.yaml"), "--resume"])

    return Child(act, folder / "log")


def _outcomes(folder: Path) -> dict[str, dict[str, str]]:
    """Returns the digests of each stage; of the youngest, that its ancestors hold."""
    outputs, found = folder / "outputs", {}
    for stage in read_json(outputs / "pipelines" / _NAME / "pipeline.json")["stages"]:
        artifact = load_artifact(stage["folder"])
        [predictions] = artifact.path.glob("predictions_*.parquet")
        found[stage["name"]] = {
            "weights": _weights(artifact),
            "predictions": sha256_file(predictions),
            "problems": str(Registry(outputs).validate(stage["model_id"])),
        }
    return found


def _weights(artifact: Artifact) -> str:
    """Returns a digest of what was learned; a stack also names runs and their times."""
    model = artifact.metadata["files"]["model"]
    if model.endswith(".json"):
        return str(read_json(artifact.path / model)["weights"])
    return str(artifact.metadata["model"]["weights_sha256"])
