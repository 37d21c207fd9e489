"""Two builders of one training file: a reader sees one or the other, whole."""

import subprocess
import sys

import pytest
from world.frames import PROJECT, make_own_frame

from dataset.dataset import read_dataset
from dataset.training_file import write_training_file
from files import locks

WRITER = """
import sys
import pandas as pd
from dataset.training_file import write_training_file
path, own, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
frame = pd.read_feather(path).assign(written_by=float(own))
print("ready", flush=True)
sys.stdin.readline()
for _ in range(count):
    write_training_file(path, frame, {"own": float(own)})
"""


def test_a_reader_sees_one_or_the_other_whole(tmp_path):
    path = tmp_path / "x.feather"
    frame = make_own_frame(50).assign(written_by=0.0)
    write_training_file(path, frame, {"own": 0.0})
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), own, "60"],
            cwd=PROJECT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for own in ("1", "2")
    ]
    for writer in writers:
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        writer.stdin.write("go\n")
        writer.stdin.flush()
    seen = set()
    while any(writer.poll() is None for writer in writers):
        read = read_dataset(path)
        assert set(read.frame["written_by"]) == {read.metadata["own"]}
        seen.add(read.metadata["own"])
    for writer in writers:
        writer.communicate()
        assert writer.returncode == 0
    assert len(seen) > 1
    assert [each.name for each in tmp_path.glob(".*")] == []


def test_nobody_waits_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "_MAX_WAIT_SECONDS", 0.05)
    with locks.folder_lock(tmp_path):
        with locks.folder_lock(tmp_path, is_shared=True):
            pass
    with locks.folder_lock(tmp_path / "none"):
        pass


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_other_formats_are_written_the_same_way(tmp_path, suffix):
    path = tmp_path / f"x{suffix}"
    write_training_file(path, make_own_frame(50), {"own": 1.0})
    assert read_dataset(path).metadata["own"] == 1.0
    assert {each.name for each in tmp_path.iterdir()} == {
        path.name,
        f"{path.name}.json",
    }
