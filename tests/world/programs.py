"""Programs of Python in children of one process that has the large libraries.

In: what stands behind `python`, and where it runs. Out: what it printed, and how it
ended. Of the project nothing is imported before: that is a part of each program.
"""

import gc
import glob
import multiprocessing
import os
import runpy
import sys
import tempfile
import types

LIBRARIES = ["tensorflow", "keras", "pyarrow.dataset", "pandas", "matplotlib.figure"]
LIBRARIES += ["sklearn.linear_model", "sklearn.ensemble", "scipy.stats"]


def run_python(words, folder):
    """Returns the exit code, and what was printed; `*` in a word names files."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(LIBRARIES)
    if words[0] != "-c":
        found = [sorted(glob.glob(word, root_dir=folder)) or [word] for word in words]
        words = sum(found, [])
    with tempfile.NamedTemporaryFile("r") as log:
        child = context.Process(target=_be_python, args=(words, folder, log.name))
        child.start()
        child.join()
        return child.exitcode, log.read()


def _be_python(words, folder, log):
    output = os.open(log, os.O_WRONLY | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.chdir(folder)
    gc.set_threshold(1_000_000)  # as a command does
    kind, *rest = words
    if kind == "-c":
        sys.argv = ["-c"]
        sys.modules["__main__"] = module = types.ModuleType("__main__")
        exec(compile(rest[0], "<string>", "exec"), module.__dict__)
    elif kind == "-m":
        sys.argv = ["-m", *rest[1:]]
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv = words
        runpy.run_path(kind, run_name="__main__")
