"""Room: the disk is full, at several sizes of a small tmpfs."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from killing import references
from scene import Child, Row, World, digests, final_problem, tail, train

from artifacts import manifest, run_folder
from config import Config

FRACTIONS = (0.03, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.5)
PAGE = 4096


@contextlib.contextmanager
def small_disk(folder: Path, size: int) -> Iterator[None]:
    """A tmpfs of `size` bytes at `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    subprocess.run(command, check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def disk_room(world: World) -> Row:
    """Exit 74, old artifacts as they were, and the same end once there is room."""
    row = Row("disk full", "exit 74, old artifacts byte-identical, resume identical")
    if os.geteuid() != 0:
        row.skipped = "a tmpfs needs root"
        return row
    try:
        with small_disk(world.folder / "probe", 2**20):
            pass
    except (OSError, subprocess.CalledProcessError):
        row.skipped = "mounting a tmpfs is refused here"
        return row
    [reference] = references(world, 1)
    old = world.folder / "reference-0" / "outputs"
    sizes = [p.lstat().st_size for p in old.rglob("*")]
    size = sum(-(-item // PAGE) * PAGE for item in sizes)
    fractions = world.rng(4).permutation(
        FRACTIONS[:-4] if world.is_sample else FRACTIONS
    )
    fractions = fractions[: world.count(len(FRACTIONS), 1)]
    full = 0
    for fraction in sorted(fractions):
        problem, is_full = _one_size(world, float(fraction), old, size, reference)
        row.add(problem)
        full += is_full
    row.note = f"{full} of them were full"
    return row


def _one_size(
    world: World, fraction: float, old: Path, size: int, reference: dict[str, Any]
) -> tuple[str | None, bool]:
    folder = world.folder / f"disk-{fraction}"
    config = world.prepare(folder, 0)
    disk = folder / "outputs"
    room = int(size + fraction * size) // PAGE * PAGE
    with small_disk(disk, room):
        shutil.copytree(old, disk, symlinks=True, dirs_exist_ok=True)
        # An earlier, other run: not the one that is to be resumed.
        [earlier] = [p for p in config.model_dir.iterdir() if not p.is_symlink()]
        _make_other(config, earlier)
        before = digests(earlier)
        problem = None
        child = Child(lambda tell: train(folder, tell), folder / "log")
        code = child.wait()
        if code not in (0, 74):
            problem = f"exit {code}: {tail(folder / 'log')}"
        elif digests(earlier) != before:
            problem = "the old artifact was changed"
        elif code == 74:
            remount = f"remount,size={room + 64 * 2**20}"
            subprocess.run(["mount", "-o", remount, str(disk)], check=True)
            child = Child(lambda tell: train(folder, tell), folder / "log")
            if (again := child.wait()) != 0:
                problem = f"resume ends with {again}: {tail(folder / 'log')}"
            elif digests(earlier) != before:
                problem = "the old artifact was changed by the resume"
        problem = problem or final_problem(folder, config, reference)
    words = f"tmpfs of {room} bytes: "
    return (words + problem if problem else None), code == 74


def _make_other(config: Config, earlier: Path) -> None:
    """Gives the copied artifact another seed, and a manifest that says so."""
    text = (earlier / "config.yaml").read_text()
    (earlier / "config.yaml").write_text(text.replace("seed: 0", "seed: 1000"))
    manifest.write_manifest(earlier, run_folder.MANIFEST, is_internal=lambda _: False)
