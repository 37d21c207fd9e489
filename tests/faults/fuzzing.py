"""Room: changed model files of plain arrays, by the ten thousand.

Each is refused with a word, or opened to a model that answers whole; none crashes,
hangs, or takes all memory.
"""

from __future__ import annotations

import logging
import os
import resource
import signal
import time
import warnings
from pathlib import Path

import numpy as np
from changes import change_file, pick
from scene import Child, Row, World, say
from world import models

from artifacts.array_files import dump_arrays, load_arrays
from utils import RefusedArtifactError

MEMORY = 2**30
"""Address space that a reader may take beyond what the harness has."""
BATCH = 500
SECONDS = 20


def fuzz_room(world: World) -> list[Row]:
    """20,000 changed files."""
    folder = world.folder / "fuzz"
    folder.mkdir()
    # Threads that training starts do not outlive a fork.
    if Child(lambda _: _write_models(folder), folder / "log").wait() != 0:
        raise SystemExit((folder / "log").read_text())
    return [_fuzz(world, sorted(folder.glob("*.npz")), world.count(20_000, 100))]


def _write_models(folder: Path) -> int:
    """Writes one small file of each kind of model."""
    for name, data in models.whole_files().items():
        (folder / f"{name}.npz").write_bytes(data)
    return 0


def changed_file(world: World, files: list[Path], number: int) -> bytes:
    """Returns the file of a number; it depends on the seed and on nothing else."""
    rng = world.rng(7, number)
    if number < len(files):
        return files[number].read_bytes()
    return change_file(pick(rng, files).read_bytes(), rng)


def _fuzz(world: World, files: list[Path], count: int) -> Row:
    row = Row("changed model files", "refused with a word, or whole answers")
    started = time.monotonic()
    report = world.folder / "fuzz" / "report"
    report.touch()
    results: list[str] = []
    while (first := len(results)) < count:
        last = min(first + BATCH, count)
        child = Child(
            lambda _, a=first, b=last: _use_all(world, files, (a, b), report),
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
        is_whole = number < len(files)  # the first are not changed
        is_well = result == "opened" if is_whole else result in ("opened", "refused")
        row.add(None if is_well else f"number {number}: {result}")
    row.note = f"{results.count('opened')} opened"
    say(f"  {time.monotonic() - started:.0f} s, {row.note}")
    return row


def _use_all(
    world: World, files: list[Path], span: tuple[int, int], report: Path
) -> int:
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    for path in files:  # what is imported late is there
        _use(path.read_bytes())
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * os.sysconf("SC_PAGE_SIZE") + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    with report.open("a", buffering=1) as stream:
        for number in range(*span):
            signal.alarm(SECONDS)  # by default it ends the process
            result = _outcome(changed_file(world, files, number))
            signal.alarm(0)
            stream.write(" ".join(result.split()) + "\n")
    return 0


def _outcome(data: bytes) -> str:
    try:
        return _use(data) or "opened"
    except RefusedArtifactError as error:
        cause = error.__cause__
        if isinstance(cause, MemoryError | RecursionError | SystemError):
            return f"refused for {type(cause).__name__}: {error!s:.300}"
        return "refused" if len(str(error)) > 30 else "refused without a word"
    except Exception as error:
        return f"{type(error).__name__}: {error!s:.300}"


def _use(data: bytes) -> str | None:
    """Does with a model all that its adapter does; returns what is wrong, or None."""
    model = load_arrays(data, "file")
    inputs = np.resize(models.INPUTS, (50, model.num_inputs))
    with np.errstate(all="raise", under="ignore"):
        answers = model.predict(inputs)
    columns = () if model.num_classes is None else (model.num_classes,)
    if answers.shape != (len(inputs), *columns) or not np.isfinite(answers).all():
        return "answers of another shape, or not finite"
    if columns and not np.allclose(answers.sum(axis=1), 1, atol=1e-5):
        return "probabilities that do not sum to 1"
    if model.importance.size not in (0, model.num_inputs):
        return "importance of other inputs"
    if not 0 < model.num_parameters < len(data):
        return "a number of parameters that it cannot have"
    return None if load_arrays(dump_arrays(model), "copy") else "no copy"
