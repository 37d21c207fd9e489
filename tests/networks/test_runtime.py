"""What a training step runs on."""

import os
import resource
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from world.programs import run_python

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


def test_threads_share_a_heap_for_each_four_cores(monkeypatch):
    told = []

    class Library:
        gnu_get_libc_version = None

        def mallopt(self, *words):
            told.append(words)

    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: Library())
    monkeypatch.setattr(utils, "available_cores", lambda: 6)
    monkeypatch.delenv("MALLOC_ARENA_MAX", raising=False)
    allocator.prepare_process(Config(allocator="system"), can_restart=False)
    assert told == [(-8, 2)]
    for name, value in (
        ("MALLOC_ARENA_MAX", "3"),
        ("GLIBC_TUNABLES", "glibc.malloc.arena_max=3"),
    ):
        with monkeypatch.context() as own:
            own.setenv(name, value)
            allocator.share_heaps()
            assert len(told) == 1


def test_a_graph_goes_through_no_passes_on_a_cpu():
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": False})
    device = configure_runtime(Config())["device"]
    options = tf.config.optimizer.get_experimental_options()
    assert options["disable_meta_optimizer"] == (device == "CPU")


STEPS = """
import hashlib, os, sys
sys.path.insert(0, {project!r})
os.environ["XLA_FLAGS"] = "--xla_cpu_prefer_vector_width={width}"
import numpy as np
from networks.fused_lstm import _cell, _cell_gradient, _state_gradient
rng = np.random.default_rng(0)
wide, *narrow = (rng.standard_normal((24, n * 17), np.float32) for n in (4, 1, 1, 2))
gates, cell, _ = _cell(wide, narrow[0])
parts = _state_gradient(gates, cell, *narrow[1:])
for each in (cell, *parts, *_cell_gradient(gates, narrow[0], *parts)):
    print(hashlib.sha256(each.numpy()).hexdigest())
"""


KNOWS_THE_FLAG = tf.__version__.startswith("2.21.")


@pytest.mark.skipif(not KNOWS_THE_FLAG, reason="another TensorFlow may not know it")
def test_the_width_of_vectors_does_not_change_the_bits(tmp_path):
    project = str(Path(__file__).parents[2])
    said = [
        run_python(["-c", STEPS.format(project=project, width=width)], str(tmp_path))
        for width in (128, 512)
    ]
    assert said[0] == said[1]
    assert said[0][0] == 0 and said[0][1].count("\n") == 5


@pytest.mark.parametrize("given", [None, "--xla_cpu_enable_fast_math=false"])
def test_wide_vectors_unless_other_flags_are_given(monkeypatch, given):
    monkeypatch.setenv("XLA_FLAGS", given or "")
    if given is None:
        monkeypatch.delenv("XLA_FLAGS")
    configure_runtime(Config())
    is_ours = KNOWS_THE_FLAG and not tf.config.list_physical_devices("GPU")
    ours = "--xla_cpu_prefer_vector_width=512" if is_ours else None
    assert os.environ.get("XLA_FLAGS") == (given or ours)


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
