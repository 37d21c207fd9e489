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
LIBRARIES += ["ipykernel.kernelapp"]


def context():
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(LIBRARIES)
    return found


def run_python(words, folder):
    """Returns the exit code, and what was printed; `*` in a word names files."""
    if words[0] != "-c":
        found = [sorted(glob.glob(word, root_dir=folder)) or [word] for word in words]
        words = sum(found, [])
    with tempfile.NamedTemporaryFile("r") as log:
        child = context().Process(target=_be_python, args=(words, folder, log.name))
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


class Kernel:
    """A forked kernel, for `jupyter_client` to have as it has one of `subprocess`."""

    stdin = stdout = stderr = None

    def __init__(self, command, *, env, cwd, **_):
        ours, theirs = context().Pipe(duplex=False)
        given = (command[command.index("-f") :], env, cwd, theirs)
        self._process = context().Process(target=_be_kernel, args=given)
        self._process.start()
        theirs.close()
        ours.recv()
        self.pid = self._process.pid

    def poll(self):
        self._process.join(0)
        return self._process.exitcode

    def wait(self):
        self._process.join()
        return self._process.exitcode


def _be_kernel(words, environment, folder, ready):
    os.setsid()  # it is ended with its group
    ready.send(True)
    os.environ.update(environment)
    os.chdir(folder)
    gc.set_threshold(1_000_000)
    sys.argv = ["ipykernel_launcher", *words]
    runpy.run_module("ipykernel_launcher", run_name="__main__", alter_sys=True)
