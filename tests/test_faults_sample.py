"""A sample of the fault harness (`make faults` runs all of it)."""

import re
import subprocess
import sys

import pytest
from world.frames import PROJECT


@pytest.mark.timeout(900)
def test_a_sample_of_every_fault_holds():
    result = subprocess.run(
        [sys.executable, "tests/faults/harness.py", "--sample", "--seed", "1"]
        + [
            "--only",
            "publish",
            "evaluate",
            "share",
            "registry",
            "power",
            "corrupt",
            "kill",
            "sweep",
            "disk",
            "signal",
        ]
        + ["fuzz"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr[-2000:]
    table = re.findall(r"^(.{34}) +(\d+|-) +(\d+|-)  ", result.stdout, re.MULTILINE)
    assert [name.strip() for name, _, _ in table] == [
        "publication, run",
        "publication, evaluation",
        "8 processes, one configuration",
        "8 processes register",
        "power cut",
        "corrupted, with digest",
        "corrupted, without digest",
        "kill -9",
        "kill -9 in a sweep, processes",
        "disk full",
        "SIGTERM / SIGINT",
        "changed model files",
    ]
    assert all(tried == held for _, tried, held in table)
    # Only a tmpfs may be missing.
    assert [name.strip() for name, tried, _ in table if tried == "-"] in (
        [],
        ["disk full"],
    )
