"""What a training step runs on."""

import resource

import numpy as np
import pytest

import utils
from networks.runtime import keep_freed_memory


def _faults(action):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    action()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def test_what_a_step_frees_is_there_for_the_next():
    if not keep_freed_memory():
        pytest.skip("expected glibc, whose freed memory can be kept")

    def step():
        """Touches 64 MB: 16,384 pages of 4 KiB, 32 of 2 MiB."""
        return [np.ones(2**18) for _ in range(32)] and None

    step()
    kept = _faults(step)
    utils.return_freed_memory()
    given_back = _faults(step)
    assert given_back >= 32
    assert kept < given_back / 4
