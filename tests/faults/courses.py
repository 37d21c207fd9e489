"""Rooms: kill -9 inside epochs, folds, comparisons, forests, boosting and agents.

Every kind of training that remembers something else is killed at random places, gone on
with, and must leave the models and the histories of one that was left alone.
"""

from __future__ import annotations

import hashlib
import shutil
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from scene import Child, Row, World, prepare, tail

from config import Config
from files.strict import read_json

_SHORT = {"epochs": 3, "importance_windows": None, "checkpoint_minutes": 0.0}
_FOLDS = {"n_splits": 2, "cv": "walk_forward", "keep_folds": True}
COURSES: dict[str, dict[str, Any]] = {
    "cosine": {"lr_schedule": "cosine", "warmup_epochs": 1, "optimizer": "sgd"},
    "accumulation": {"gradient_accumulation_steps": 3},
    "focal": {"loss": "focal", "model": "attention", "attention_dim": 8},
    "tcn": {"model": "tcn", "tcn_filters": 4},
    "mlp": {"model": "mlp", "mlp_inputs": "means", "dense_batch_norm": True},
    "sharpe": {"loss": "sharpe", "class_balancing_method": "none"},
    "few checkpoints": {"checkpoint_minutes": 5.0},
    "pooled": {"pair": "BTCUSDT", "pooled_pairs": ("ADAUSDT", "SOLUSDT")},
    "folds": _FOLDS | {"epochs": 2},
    "comparison": {"epochs": 2, "num_trees": 10},
    "forest": {"model": "random_forest", "num_trees": 40},
    "boosting": {"model": "gradient_boosting", "num_trees": 40},
    "classic boosting": {"model": "classic_gradient_boosting", "num_trees": 20},
    "lightgbm": {"model": "lightgbm", "num_trees": 40},
    "xgboost": {"model": "xgboost", "num_trees": 40},
    "catboost": {"model": "catboost", "num_trees": 40},
    "folds of trees": _FOLDS | {"model": "gradient_boosting", "num_trees": 20},
}
_AGENT = {"agent_hidden": (8,), "agent_seeds": 2, "agent_episode_bars": 60}
# The replay is learned from after 4,096 steps.
_REPLAYED = _AGENT | {"agent_envs": 16, "agent_steps": 6 * 1024}
AGENTS: dict[str, dict[str, Any]] = {
    "ppo": _AGENT | {"model": "ppo", "agent_envs": 4, "agent_steps": 8 * 256},
    "sac": _REPLAYED | {"model": "sac"},
    "td3": _REPLAYED | {"model": "td3"},
}
_MODELS = ("lstm", "random_forest")


def course_room(world: World) -> Row:
    """Each course is killed several times; its end is that of one left alone."""
    row = Row("kill -9, other courses", "the same models, histories and folds")
    return _filled(row, world, list(COURSES), kills=3)


def agent_room(world: World) -> Row:
    """Each agent is killed several times in acting, learning, judging and saving."""
    row = Row("kill -9, agents", "the same policies and histories")
    return _filled(row, world, list(AGENTS), kills=5)


def _filled(row: Row, world: World, names: list[str], *, kills: int) -> Row:
    names = names[: world.count(len(names), 1)]
    kills = world.count(kills, 1)
    with ThreadPoolExecutor(2) as pool:
        told = pool.map(lambda name: _one_course(world, name, kills), names)
        deaths = 0
        for problem, died in told:
            row.add(problem)
            deaths += died
    row.note = f"{deaths} kills; {', '.join(names)}"
    return row


def _one_course(world: World, name: str, kills: int) -> tuple[str | None, int]:
    courses = COURSES | AGENTS
    rng = world.rng(7, list(courses).index(name))
    stem = name.replace(" ", "-")
    known, folder = world.folder / f"alone-{stem}", world.folder / f"killed-{stem}"
    fields = _SHORT | courses[name]
    prepare(known, 0, **fields)
    config = prepare(folder, 0, **fields)
    child = Child(lambda tell: _train(known, name, tell), known / "log")
    code = child.wait()
    if code != 0:
        return f"{name}: exit {code} alone: {tail(known / 'log')}", 0
    steps = _num_steps(child)
    deaths, words, told = 0, [], 0
    for _ in range(kills):
        child = Child(lambda tell: _train(folder, name, tell), folder / "log")
        after = int(rng.integers(1, max(2, steps - told)))
        child.wait_for(f"step {after}")
        delay = float(rng.uniform(0, 0.1))
        time.sleep(delay)
        child.kill()
        code = child.wait()
        words.append(f"{delay:.3f} s after step {after}")
        told += _num_steps(child)
        if code == 0:
            break
        if code != -signal.SIGKILL:
            return f"{name} ({words}): exit {code}: {tail(folder / 'log')}", deaths
        deaths += 1
    child = Child(lambda tell: _train(folder, name, tell), folder / "log")
    if (code := child.wait()) != 0:
        return f"{name} ({words}): exit {code}: {tail(folder / 'log')}", deaths
    told += _num_steps(child)
    has_rounds = "num_trees" in fields or "agent_steps" in fields
    if has_rounds and name != "comparison" and told > steps:
        return f"{name} ({words}): {told} rounds kept instead of {steps}", deaths
    found, expected = (_results(each, config) for each in (folder, known))
    if found != expected:
        return f"{name} ({words}): {expected} became {found}", deaths
    shutil.rmtree(folder)
    return None, deaths


def _train(folder: Path, name: str, tell: Callable[[str], None]) -> int:
    """Runs the command of a course, which goes on where one was killed."""
    import keras

    import trainer
    from experiments.comparison import run_command
    from models.kept_rounds import KeptRounds
    from models.keras_adapter import KerasAdapter
    from rl.checkpoints import KeptTraining

    class Tell(keras.callbacks.Callback):
        seen = 0

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            Tell.seen += 1
            tell(f"step {Tell.seen}")

    attach = KerasAdapter.attach

    def telling_attach(self: Any, run: Any) -> list[Any]:
        attach(self, run).insert(0, Tell())
        return self.callbacks

    def telling(offer: Callable[..., None]) -> Callable[..., None]:
        def telling_offer(*given: Any, **words: Any) -> None:
            offer(*given, **words)
            Tell.seen += 1
            tell(f"step {Tell.seen}")

        return telling_offer

    KerasAdapter.attach = telling_attach
    for kept in (KeptRounds, KeptTraining):
        kept.offer = telling(kept.offer)
    words = ["--config", str(folder / "run.yaml"), "--resume"]
    if name == "comparison":
        words += ["--compare", *_MODELS]
    return trainer.main(words, compare=run_command)


def _num_steps(child: Child) -> int:
    """Returns the steps and rounds that a child has told of."""
    return sum(line.startswith("step ") for line in child._told.decode().splitlines())


def _results(folder: Path, config: Config) -> dict[str, Any]:
    """Returns what was learned by every published run, folds included."""
    outputs = folder / "outputs"
    found: dict[str, Any] = {}
    for path in sorted(outputs.glob("models/*/*/*/**/metadata_*.json")):
        place = path.relative_to(outputs).parts
        if any((outputs / Path(*place[:n])).is_symlink() for n in range(1, len(place))):
            continue
        kept = "/".join((place[2], *place[4:-1]))
        [history] = path.parent.glob("history_*.csv")
        found[kept] = (
            read_json(path)["model"]["weights_sha256"][:12],
            hashlib.sha256(history.read_bytes()).hexdigest()[:12],
        )
    for path in sorted(outputs.glob("models/*/*/*/oof_predictions_*.parquet")):
        if not path.parent.is_symlink():
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            found[f"{path.parts[-3]}/oof"] = digest[:12]
    return found
