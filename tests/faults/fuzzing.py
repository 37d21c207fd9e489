"""Room: changed model files of scikit-learn and LightGBM, by the ten thousand.

Nothing but a whole reader stands between such a file and compiled code that follows
its indices. Each file is refused with a word, or opened to a model that answers; none
crashes, hangs, or takes all memory.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import resource
import signal
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from changes import change_lightgbm, change_skops, pick
from scene import Child, Row, World, say

from artifacts import lightgbm_files, skops_files
from utils import RefusedArtifactError

MEMORY = 2**30
"""Address space that a reader may take beyond what the harness has."""
BATCH = 500
SECONDS = 20
KINDS = ("forest", "forest_of_numbers", "histograms", "histograms_of_numbers")
KINDS += ("classic", "classic_of_numbers", "logistic")
INPUTS = np.random.default_rng(0).standard_normal((300, 4)).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Target:
    """Whole files of a format, how they are changed, opened and made to answer."""

    name: str
    files: list[Path]
    change: Callable[[bytes, np.random.Generator], bytes]
    use: Callable[[bytes], str | None]


def fuzz_room(world: World) -> list[Row]:
    """20,000 changed files of each format."""
    folder = world.folder / "fuzz"
    folder.mkdir()
    # Threads that training starts do not outlive a fork.
    if Child(lambda _: _write_models(folder), folder / "log").wait() != 0:
        raise SystemExit((folder / "log").read_text())
    texts = sorted(folder.glob("*.txt"))
    targets = [
        Target("skops", sorted(folder.glob("*.skops")), change_skops, _use_skops),
        Target("lightgbm", texts, change_lightgbm, _use_lightgbm),
    ]
    return [
        _fuzz(world, target, key, world.count(20_000, 200))
        for key, target in enumerate(targets)
        if target.files
    ]


def changed_file(world: World, target: Target, key: int, number: int) -> bytes:
    """Returns the file of a number; it depends on the seed and on nothing else."""
    rng = world.rng(7, key, number)
    whole = pick(rng, target.files).read_bytes()
    return target.change(whole, rng) if number else whole


def _fuzz(world: World, target: Target, key: int, count: int) -> Row:
    row = Row(f"changed {target.name} files", "refused with a word, or whole answers")
    started = time.monotonic()
    report = world.folder / "fuzz" / f"{target.name}.report"
    report.touch()
    results: list[str] = []
    while (first := len(results)) < count:
        last = min(first + BATCH, count)
        child = Child(
            lambda _, a=first, b=last: _use_all(world, target, key, (a, b), report),
            world.folder / "fuzz" / "log",
        )
        code = child.wait()
        results = report.read_text().splitlines()
        if len(results) < last:
            how = "it hangs" if code == -signal.SIGALRM else f"the reader dies: {code}"
            with report.open("a") as stream:
                stream.write(how + "\n")
            results.append(how)
        elif code != 0:
            results[-1] = f"exit {code}"
    for number, result in enumerate(results):
        is_well = result in ("opened", "refused", "refused late")
        row.add(None if is_well else f"number {number}: {result}")
    opened, late = results.count("opened"), results.count("refused late")
    row.note = f"{opened} opened, {late} refused by the library alone"
    say(f"  {target.name}: {time.monotonic() - started:.0f} s, {row.note}")
    return row


def _use_all(
    world: World, target: Target, key: int, span: tuple[int, int], report: Path
) -> int:
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * os.sysconf("SC_PAGE_SIZE") + MEMORY
    target.use(target.files[0].read_bytes())  # the libraries are imported
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    with report.open("a", buffering=1) as stream:
        for number in range(*span):
            signal.alarm(SECONDS)  # by default it ends the process
            data = changed_file(world, target, key, number)
            result = _outcome(target, data)
            signal.alarm(0)
            if number == 0 and result != "opened":
                result = f"a whole file: {result}"
            stream.write(" ".join(result.split()) + "\n")
    return 0


def _outcome(target: Target, data: bytes) -> str:
    try:
        return target.use(data) or "opened"
    except RefusedArtifactError as error:
        cause = error.__cause__
        if isinstance(cause, MemoryError | RecursionError | SystemError):
            return f"refused for {type(cause).__name__}: {error!s:.300}"
        if not str(error).strip():
            return "refused without a word"
        return "refused late" if "opens. Received" in str(error) else "refused"
    except Exception as error:
        return f"{type(error).__name__}: {error!s:.300}"


# Models that are opened


def _write_models(folder: Path) -> int:
    """Writes one small file of each kind of model."""
    from test_skops_files import CLASSES, MODELS, NUMBERS

    for name in KINDS:
        model = MODELS[name].fit(INPUTS, NUMBERS if "numbers" in name else CLASSES)
        (folder / f"{name}.skops").write_bytes(skops_files.dump_sklearn(model))
    try:
        import lightgbm
    except ImportError:
        return 0
    options = {"verbosity": -1, "num_leaves": 4, "num_threads": 1}
    kinds = {"classes": {"objective": "multiclass", "num_class": 3}}
    kinds["numbers"] = {"objective": "regression"}
    for name, kind in kinds.items():
        rows = lightgbm.Dataset(INPUTS, CLASSES if name == "classes" else NUMBERS)
        booster = lightgbm.train(options | kind, rows, 2)
        (folder / f"{name}.txt").write_bytes(lightgbm_files.dump_lightgbm(booster))
    return 0


def _use_skops(data: bytes) -> str | None:
    """Does with a model all that its adapter does; returns what is wrong, or None."""
    model = skops_files.load_sklearn(data, "file")
    inputs = _inputs(model.n_features_in_)
    if model.predict(inputs).shape != (len(inputs),):
        return "answers of another shape"
    if hasattr(model, "predict_proba"):
        shape = (len(inputs), len(model.classes_))
        if model.predict_proba(inputs).shape != shape:
            return "probabilities of another shape"
    if hasattr(model, "feature_importances_"):
        importance = np.asarray(model.feature_importances_)
        if importance.shape != (model.n_features_in_,):
            return "importance of other inputs"
    for tree in np.ravel(getattr(model, "estimators_", ())):
        tree.decision_path(inputs)
        tree.get_n_leaves()
    if hasattr(model, "steps") and model.steps[-1][1].coef_.ndim != 2:
        return "coefficients of another shape"
    return None


def _use_lightgbm(data: bytes) -> str | None:
    """Does with a booster all that its adapter does; returns what is wrong, or None."""
    booster = lightgbm_files.load_lightgbm(data, "file")
    inputs = _inputs(booster.num_feature())
    outputs = booster.predict(inputs, num_threads=1)
    columns = booster.num_model_per_iteration()
    shape = (len(inputs),) if columns == 1 else (len(inputs), columns)
    if outputs.shape != shape or not np.isfinite(outputs).all():
        return "answers of another shape, or not finite"
    if len(booster.feature_importance("gain")) != booster.num_feature():
        return "importance of other inputs"
    booster.dump_model()
    return None


def _inputs(num_inputs: int) -> np.ndarray:
    if num_inputs > 10**6:
        raise ValueError(f"{num_inputs} inputs")
    return np.resize(INPUTS, (len(INPUTS), num_inputs))
