"""What a training step runs on."""

import os
import resource
import sys

import numpy as np
import pytest
import tensorflow as tf

import utils
from config import Config
from executors import preloading
from networks import allocator
from networks.allocator import keep_freed_memory
from networks.runtime import configure_runtime
from settings.machine_fields import MachineFields


def _faults(action):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    action()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.parametrize("num_blocks", [1, 32])
def test_what_a_step_frees_is_there_for_the_next(num_blocks):
    if not keep_freed_memory().startswith("glibc"):
        pytest.skip("expected glibc, which is told here what to keep")

    def step():
        """Touches 64 MB: 16,384 pages of 4 KiB, 32 of 2 MiB."""
        return [np.ones(2**23 // num_blocks) for _ in range(num_blocks)] and None

    step()
    kept = _faults(step)
    utils.return_freed_memory()
    given_back = _faults(step)
    assert given_back >= 32
    assert kept < given_back / 4


def test_a_graph_goes_through_no_passes_on_a_cpu():
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": False})
    device = configure_runtime(Config())["device"]
    options = tf.config.optimizer.get_experimental_options()
    assert options["disable_meta_optimizer"] == (device == "CPU")


def test_a_program_starts_anew_once_where_tcmalloc_is(monkeypatch, tmp_path):
    started = []
    monkeypatch.setattr(preloading, "_FOLDERS", (f"{tmp_path}/lib*",))
    monkeypatch.setattr(allocator.sys, "prefix", str(tmp_path))
    monkeypatch.setattr(allocator.sys, "orig_argv", ["python", "trainer.py", "--pair"])
    monkeypatch.setattr(os, "execve", lambda *words: started.append(words))
    monkeypatch.setenv("LD_PRELOAD", "libother.so")
    allocator.start_with_tcmalloc(MachineFields())
    assert not started  # there is none

    library = tmp_path / "lib64" / "libtcmalloc_minimal.so.4"
    library.parent.mkdir()
    library.touch()
    allocator.start_with_tcmalloc(MachineFields(allocator="system"))
    assert not started
    allocator.start_with_tcmalloc(MachineFields())
    (program, words, environment), *others = started
    assert (program, words) == (
        sys.executable,
        [sys.executable, "trainer.py", "--pair"],
    )
    assert environment["LD_PRELOAD"] == f"{library} libother.so"
    assert not others

    monkeypatch.setenv("LD_PRELOAD", environment["LD_PRELOAD"])
    allocator.start_with_tcmalloc(MachineFields())
    assert len(started) == 1
