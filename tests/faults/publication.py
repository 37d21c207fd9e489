"""Rooms: kill, ENOSPC, EIO at each write, fsync, rename, ... of a publication.

As a program, it is that of a run or of an evaluation:
`publication.py OUTPUTS run|evaluation`, for strace to trace.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path[:0] = [str(path) for path in Path(__file__).resolve().parents[1:3]]
# The program has nothing of the harness: it starts in half a second.
from world.artifacts import SCALER  # noqa: E402

import utils  # noqa: E402
from artifacts import evaluations, manifest, resuming, run_folder  # noqa: E402
from artifacts.artifact import load_artifact  # noqa: E402
from config import Config  # noqa: E402
from files.atomic import atomic_path, atomic_write, make_folder  # noqa: E402
from files.strict import write_json  # noqa: E402

CALLS = ("write", "fsync", "rename", "symlink", "unlink", "unlinkat", "mkdir")
FAULTS = ("KILL", "ENOSPC", "EIO")
_SHIMS = {
    "write": (builtins, "open"),
    "fsync": (os, "fsync"),
    "rename": (os, "rename"),
    "replace": (os, "replace"),
    "symlink": (os, "symlink"),
    "unlink": (os, "unlink"),
    "mkdir": (os, "mkdir"),
}


def publish(outputs: str) -> Path:
    """Makes and publishes a run; goes on with a dead one where there is one."""
    config = Config(pair="TESTUSDT", outputs_dir=outputs)
    run_folder.sweep(config, min_age_seconds=-1)
    run = resuming.find_resumable(config, "newest")
    if run is None:
        run = run_folder.RunFolder.create(config)
        atomic_write(run.checkpoints / "epoch_00001.ckpt", b"state" * 1000)
    with atomic_path(run.file("model", ".keras")) as temporary:
        with zipfile.ZipFile(temporary, "w") as archive:
            for name in ("metadata.json", "config.json", "model.weights.h5"):
                archive.writestr(name, "x" * 20_000)
    write_json(run.file("scaler", ".json"), SCALER.to_dict())
    atomic_write(run.file("history", ".csv"), "epoch,loss\n1,0.5\n")
    write_json(run.file("metadata", ".json"), {"files": {}})
    return run.publish()


def evaluate(outputs: str) -> Path:
    """Publishes an evaluation; what a dead one left is of long ago."""
    parent = evaluations.folder_of(outputs, "a-model")
    for path in parent.glob(".*"):
        os.utime(path, (0, 0))

    def write(folder: Path) -> None:
        with atomic_path(folder / "predictions.parquet") as temporary:
            with open(temporary, "wb") as stream:
                stream.write(b"x" * 20_000)
        make_folder(folder / "plots")
        atomic_write(folder / "plots" / "equity.png", b"x" * 20_000)
        about = dict.fromkeys(evaluations.Evaluation.__annotations__, "")
        about |= {"format": evaluations.FORMAT}
        write_json(folder / evaluations.ABOUT, about)

    return evaluations.publish(parent, write)


WORKS = {"run": publish, "evaluation": evaluate}


def run_work(outputs: str, work: str, point: tuple[str, int, str] | None = None) -> int:
    """The program: publishes, then acknowledges with one line."""
    utils.configure_logging()
    if point is not None:
        _install(*point)

    def run() -> None:
        folder = WORKS[work](outputs)
        os.write(1, f"ACK {folder}\n".encode())

    return utils.run_command_line(run)


def _install(call: str, nth: int, fault: str) -> None:
    """Makes the n-th such call of this process fail; without strace."""
    owner, name = _SHIMS[call]
    original: Callable[..., Any] = getattr(owner, name)
    seen = [0]

    def fail() -> None:
        if fault == "KILL":
            os.kill(os.getpid(), signal.SIGKILL)
        number = getattr(errno, fault)
        raise OSError(number, os.strerror(number))

    def shim(*args: Any, **kwargs: Any) -> Any:
        is_write = "w" in str(args[1:2]) if call == "write" else True
        seen[0] += is_write
        if is_write and seen[0] == nth:
            if call == "write":  # half of it may have arrived
                with original(*args, **kwargs) as stream:
                    stream.write(b"half" if "b" in args[1] else "half")
            fail()
        return original(*args, **kwargs)

    setattr(owner, name, shim)
    if call == "write":
        io.open = shim


# The rooms


def publication_room(world: Any) -> Any:
    """Every point of a run's publication fails in every way; then it is done again."""
    return _room(world, "run")


def evaluation_room(world: Any) -> Any:
    """The same of an evaluation's, beside one from before."""
    return _room(world, "evaluation")


def _room(world: Any, work: str) -> Any:
    from scene import Row

    row = Row(
        f"publication, {work}", "0 torn, 0 acknowledged but missing, old version intact"
    )
    old = world.folder / f"old-{work}"
    WORKS[work](str(old))
    mode = "strace" if has_strace() and not world.is_sample else "shim"
    points = list(_points(world, mode, old, work))
    chosen = world.rng(3).permutation(len(points))[: world.count(len(points), 12)]
    with ThreadPoolExecutor(2 if mode == "strace" else 1) as pool:
        for problem in pool.map(
            lambda i: _one_point(world, mode, points[i], old, work), sorted(chosen)
        ):
            row.add(problem)
    row.note = f"by {mode}; calls: {', '.join(sorted({p[0] for p in points}))}"
    return row


def has_strace() -> bool:
    """Whether strace is there and may trace."""
    if shutil.which("strace") is None:
        return False
    probe = ["strace", "-f", "-e", "inject=mkdir:error=EIO", "true"]
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0


def _points(world: Any, mode: str, old: Path, work: str) -> list[tuple[str, int, str]]:
    folder = world.folder / f"counting-{work}"
    shutil.copytree(old, folder, symlinks=True)
    if mode == "shim":
        counts = dict.fromkeys(_SHIMS, 9) | {"symlink": 1, "rename": 1, "mkdir": 2}
    else:
        log = world.folder / "strace.log"
        tracing = ["strace", "-f", "-o", str(log), "-e", ",".join(CALLS)]
        _run_program(folder, work, tracing)
        text = log.read_text()
        counts = {
            call: len(re.findall(rf"^\d+ +{call}\(", text, re.MULTILINE))
            for call in CALLS
        }
    return [
        (call, nth, fault)
        for call, count in counts.items()
        for nth in range(1, count + 1)
        for fault in FAULTS
    ]


def _run_program(
    outputs: Path, work: str, before: list[str]
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*before, sys.executable, "-B", __file__, str(outputs), work],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def _run_child(
    outputs: Path, work: str, point: tuple[str, int, str]
) -> subprocess.CompletedProcess[str]:
    """The program in a forked child, where one call fails."""
    from scene import Child

    log = outputs.with_name(f"{outputs.name}.log")
    code = Child(lambda _: run_work(str(outputs), work, point), log).wait()
    said = log.read_text()
    return subprocess.CompletedProcess([], code, stdout=said, stderr=said)


def _one_point(
    world: Any, mode: str, point: tuple[str, int, str], old: Path, work: str
) -> str | None:
    from scene import digests

    call, nth, fault = point
    folder = world.folder / f"{work}-{call}-{nth}-{fault}"
    shutil.copytree(old, folder, symlinks=True)
    before = digests(folder)
    if mode == "shim":
        result = _run_child(folder, work, point)
    else:
        how = "signal=KILL" if fault == "KILL" else f"error={fault}"
        inject = f"inject={call}:{how}:when={nth}"
        result = _run_program(
            folder,
            work,
            ["strace", "-f", "-o", "/dev/null", "-e", f"trace={call}", "-e", inject],
        )
    problem = _torn(folder, before, result, is_killed=fault == "KILL")
    if problem is None:
        problem = _publish_again(folder, before, work)
    if problem is None:
        shutil.rmtree(folder)
        return None
    return f"{call} {nth} {fault}: {problem}; exit {result.returncode}"


def _torn(
    folder: Path,
    before: dict[str, str],
    result: subprocess.CompletedProcess[str],
    *,
    is_killed: bool,
) -> str | None:
    from scene import digests

    now = digests(folder)
    if any(now.get(name) != digest for name, digest in before.items()):
        return "the old version was changed"
    try:
        loaded = {_opened(path) for path in _published(folder)}
    except utils.UserError as error:
        return f"torn: {error}"
    acknowledged = re.findall(r"^ACK (.*)$", result.stdout, re.MULTILINE)
    if acknowledged and Path(acknowledged[0]).resolve() not in loaded:
        return "acknowledged, but missing"
    died = result.returncode in (-9, 137)
    if not is_killed and not died:
        if "Traceback" in result.stderr:
            return f"traceback: {result.stderr.strip().splitlines()[-1]}"
        if result.returncode not in ((0, 74) if acknowledged else (74,)):
            return f"expected exit 74: {result.stderr.strip()[-200:]}"
    return None


def _published(folder: Path) -> list[Path]:
    """Returns what a reader would find of runs and evaluations."""
    models = Config(pair="TESTUSDT", outputs_dir=str(folder)).model_dir
    places = [models, evaluations.folder_of(folder, "a-model")]
    found = [path for place in places if place.is_dir() for path in place.iterdir()]
    return [path for path in found if not path.name.startswith(".")]


def _opened(path: Path) -> Path:
    """Returns where a publication is, whole by its manifest."""
    if evaluations.FOLDER not in path.parts:
        return load_artifact(path).path
    evaluations.read_evaluation(path)
    for name, entry in manifest.read_manifest(path, run_folder.MANIFEST).items():
        manifest.read_listed(path, name, entry, max_bytes=2**20)
    return path.resolve()


def _publish_again(folder: Path, before: dict[str, str], work: str) -> str | None:
    """Publishes once more, in this process; nothing of the dead one may stay."""
    from scene import digests

    try:
        path = _opened(WORKS[work](str(folder)))
        config = Config(pair="TESTUSDT", outputs_dir=str(folder))
        latest = config.model_dir / config.latest_name
        if work == "run" and load_artifact(latest).path != path:
            return "latest does not follow"
    except utils.UserError as error:
        return f"the next publication fails: {error}"
    rest = [
        p.relative_to(folder).as_posix()
        for p in folder.rglob("*")
        if p.name.startswith(".tmp-")
        or p.name in (".lock", "state.json", "checkpoints")
    ]
    if rest:
        return f"leftovers: {rest[:3]}"
    now = digests(folder)
    if any(now.get(name) != digest for name, digest in before.items()):
        return "the old version was changed by the next publication"
    return None


if __name__ == "__main__":
    sys.exit(run_work(*sys.argv[1:]))
