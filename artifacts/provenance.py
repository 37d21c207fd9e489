"""What a run was made with: the code, the machine, the packages.

In: commit and digest of the modules, processor and memory, versions. Out: what was
trained, and on what (`metadata`).
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import utils

_PROJECT = Path(__file__).resolve().parents[1]
_PACKAGES = ("tensorflow", "keras", "numpy", "pandas", "scikit-learn", "pyarrow")
_NOT_RUN = {"tests", "benchmarks", "docs", "notebooks", "examples"}
_GIT_SECONDS = 5.0


@functools.cache
def describe_code() -> dict[str, Any]:
    """Returns the commit, whether files differ from it, and a digest of the modules.

    Without git, or outside a checkout, commit and `dirty` are None; the digest of names
    and bytes of all modules is always there.
    """
    top = _git("rev-parse", "--show-toplevel")
    is_checkout = top is not None and Path(top).resolve() == _PROJECT
    changed = _git("status", "--porcelain", "--untracked-files=no")
    return {
        "git_commit": _git("rev-parse", "HEAD") if is_checkout else None,
        "dirty": bool(changed) if is_checkout and changed is not None else None,
        "modules_sha256": _modules_digest(),
    }


def _git(*words: str) -> str | None:
    """Returns what git answers in the project's folder; None where it does not."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(  # noqa: S603 -- our own words
            ["git", *words],  # noqa: S607 -- whichever git the user has
            cwd=_PROJECT,
            capture_output=True,
            text=True,
            timeout=_GIT_SECONDS,
            check=True,
            env=os.environ | {"GIT_OPTIONAL_LOCKS": "0"},
        )
        return done.stdout.strip()
    return None


def _modules_digest() -> str:
    digest = hashlib.sha256()
    packages = sorted(path.parent for path in _PROJECT.glob("*/__init__.py"))
    folders = [_PROJECT, *(each for each in packages if each.name not in _NOT_RUN)]
    for path in sorted(path for folder in folders for path in folder.glob("*.py")):
        name = path.relative_to(_PROJECT).as_posix()
        digest.update(
            f"{name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode()
        )
    return digest.hexdigest()


def describe_hardware(*, num_gpus: int = 0) -> dict[str, Any]:
    """Returns processor, cores this process may use, memory in bytes and GPUs."""
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return {
        "cpu": _processor(),
        "cores": utils.available_cores(),
        "memory_bytes": pages * size,
        "gpus": num_gpus,
    }


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def describe_versions() -> dict[str, str]:
    """Returns the versions of Python and of the packages that decide results."""
    return {"python": platform.python_version()} | {
        name: version(name) for name in _PACKAGES
    }
