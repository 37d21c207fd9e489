"""What a death or a full disk leaves behind: nothing lost, nothing half there."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from world.frames import PROJECT, TINY

import utils
from artifacts import publication, run_folder
from artifacts.artifact import load_artifact
from artifacts.resuming import find_finished, find_resumable, refuse_difference
from artifacts.run_folder import RunFolder, sweep
from config import Config
from files.atomic import atomic_write
from files.strict import write_json
from preprocessing.scaling import FeatureScaler
from trainer import StandaloneTrainer

SCALER = FeatureScaler(
    kind="none",
    feature_names=("a",),
    center=(0.0,),
    scale=(1.0,),
    clip_limit=10.0,
    num_rows=5,
)


@pytest.fixture
def config(tmp_path):
    return Config(**TINY | {"outputs_dir": str(tmp_path / "outputs")})


def make_run(config):
    run = RunFolder.create(config)
    write_json(run.path / run_folder.STATE, {})
    atomic_write(run.checkpoints / "epoch_00002.ckpt", b"state")
    atomic_write(run.fold(1).checkpoints / "epoch_00001.ckpt", b"state")
    write_json(run.file("metadata", ".json"), {"files": {}})
    write_json(run.file("scaler", ".json"), SCALER.to_dict())
    return run


def names(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


@pytest.mark.parametrize("call", ["rename", "fsync"])
def test_run_whose_publication_failed_can_go_on(config, monkeypatch, call):
    run = make_run(config)

    def refuse(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(run_folder.os, call, refuse)
        with pytest.raises(utils.StorageError) as caught:
            run.publish()
    assert caught.value.exit_code == 74
    run.unlock()
    again = find_resumable(config, "newest")
    assert again is not None and again.path == run.path
    assert (again.checkpoints / "epoch_00002.ckpt").read_bytes() == b"state"
    assert load_artifact(again.publish())


def test_published_run_has_nothing_of_the_way_there(config):
    run = make_run(config)
    (run.path / ".tmp-123-model_x.keras").write_bytes(b"half")
    (run.checkpoints / ".tmp-123-epoch_00003.ckpt").write_bytes(b"half")
    published = run.publish()
    tag = config.tag
    assert names(published) == {
        "config.yaml",
        "MANIFEST.json",
        f"metadata_{tag}.json",
        f"scaler_{tag}.json",
    }


def test_death_between_the_rename_and_the_link_is_mended(config, monkeypatch):
    earlier = make_run(config).publish()
    run = make_run(config)

    class Killed(BaseException):
        pass

    def die(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(publication, "point_latest", die)
        with pytest.raises(Killed):
            run.publish()
    run.unlock()
    link = config.model_dir / config.latest_name
    assert os.readlink(link) == earlier.name
    published = config.model_dir / run.run_id
    assert (published / "checkpoints").exists() and (published / "folds").exists()
    assert load_artifact(published)
    assert find_finished(config) == published
    assert os.readlink(link) == published.name
    removed = sweep(config, min_age_seconds=-1)
    assert len(removed) == 1
    assert not names(published) & {"checkpoints", "folds", ".lock", "state.json"}
    assert sweep(config, min_age_seconds=-1) == []


def test_link_that_was_never_renamed_is_swept(config):
    published = make_run(config).publish()
    (config.model_dir / ".tmp-1-latest-1m").symlink_to("nowhere")
    assert sweep(config) == []  # too young
    [removed] = sweep(config, min_age_seconds=-1)
    assert removed.name == ".tmp-1-latest-1m" and not removed.is_symlink()
    assert load_artifact(published)


def test_checkpoint_that_was_never_finished_is_no_progress(config):
    run = RunFolder.create(config)
    atomic_write(run.checkpoints / ".tmp-1-epoch_00001.ckpt", b"half")
    assert not run.has_progress()
    run.unlock()
    assert find_resumable(config, "newest") is None
    assert sweep(config, min_age_seconds=-1) == [run.path]


def test_resumed_run_loses_its_half_written_files(config):
    run = make_run(config)
    (run.checkpoints / ".tmp-1-epoch_00003.ckpt").write_bytes(b"half")
    run.unlock()
    probe = find_resumable(config, "newest", is_probe=True)
    assert probe and len(list(run.checkpoints.iterdir())) == 2
    again = find_resumable(config, run.path)
    assert [path.name for path in again.checkpoints.iterdir()] == ["epoch_00002.ckpt"]


# What --resume means


def resume(config, how="newest", **changes):
    return StandaloneTrainer(config.replace(**changes), resume=how).run_training()


def test_a_resume_does_not_begin_anew_beside_a_run_that_differs(config):
    run = make_run(config)
    run.unlock()
    with pytest.raises(utils.ConfigError, match="is unfinished and differs") as caught:
        resume(config, seed=5, learning_rate=0.5)
    lines = str(caught.value).splitlines()
    assert lines[1:3] == [
        "  - learning_rate: began with 0.001, now 0.5",
        "  - seed: began with 42, now 5",
    ]
    assert f"--resume {run.path}" in lines[3]
    assert find_resumable(config.replace(model="gru"), "newest") is None
    run.publish()
    with pytest.raises(utils.ConfigError, match="is finished and differs") as caught:
        resume(config, epochs=50)
    assert "epochs: began with 2, now 50" in str(caught.value)
    assert list(config.runs_dir.iterdir()) == []


def test_a_resume_of_a_run_that_goes_on_says_who_has_it(config):
    run = make_run(config)
    for how in ("newest", run.path):
        with pytest.raises(utils.InUseError, match=f"process {os.getpid()} on "):
            resume(config, how)
    assert list(config.runs_dir.iterdir()) == [run.path]


def test_of_processes_that_resume_at_once_one_begins(config):
    code = (
        "import sys\n"
        "from artifacts.resuming import open_run\n"
        "from settings.sources import load_config\n"
        "from utils import InUseError\n"
        "config = load_config(sys.argv[1])\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "try:\n"
        "    own, _ = open_run(config, 'newest')\n"
        "    run = own.run_id\n"
        "except InUseError as error:\n"
        "    run = f'in use: {error}'\n"
        "print(run, flush=True); sys.stdin.readline()"
    )
    path = Path(config.outputs_dir).with_name("run.yaml")
    path.write_text(config.to_yaml())
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(path)],
            cwd=PROJECT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for words in ("ready", "run"):
        said = [process.stdout.readline().strip() for process in processes]
        assert words == "run" or said == ["ready"] * 3
        for process in processes:
            process.stdin.write("go\n")
            process.stdin.flush()
    for process in processes:
        process.communicate()
    [own] = [run for run in said if not run.startswith("in use")]
    assert [path.name for path in config.runs_dir.iterdir()] == [own]
    assert all(own in run for run in said)


@pytest.mark.parametrize("name", ["elsewhere/{}", "outputs/runs/{}-copy", "outputs/{}"])
def test_a_moved_run_is_not_gone_on_with(config, tmp_path, name):
    run = make_run(config)
    run.unlock()
    moved = tmp_path / name.format(run.run_id)
    moved.parent.mkdir(exist_ok=True)
    run.path.rename(moved)
    with pytest.raises(utils.ConfigError, match="moved, renamed or copied"):
        resume(config, moved)
    with pytest.raises(utils.ConfigError, match="moved, renamed or copied"):
        find_resumable(config, moved)
    with pytest.raises(utils.MissingInputError, match="expected the folder of a run"):
        find_resumable(config, run.path)
    assert not run.path.exists()


@pytest.mark.parametrize("content", [None, "[]", '"x"', "{", '{"resumes": 1e999}'])
def test_a_run_that_does_not_say_how_it_began_cannot_go_on(config, content):
    run = make_run(config)
    path = run.path / run_folder.STATE
    path.unlink() if content is None else path.write_text(content)
    identity = {"configuration": "", "data": "", "environment": {}}
    with pytest.raises(utils.DataError, match=r"state\.json: expected"):
        refuse_difference(run, identity, is_forced=False)


def test_signal_that_nobody_looked_at_is_not_lost():
    with pytest.raises(utils.Interrupted) as caught:
        with utils.StopSignals(is_deferred=True) as signals:
            os.kill(os.getpid(), signal.SIGTERM)
            assert signals.received == signal.SIGTERM
    assert caught.value.signal_number == signal.SIGTERM


def test_signal_whose_exception_was_swallowed_is_not_lost():
    with pytest.raises(utils.Interrupted):
        with utils.StopSignals():
            with contextlib.suppress(BaseException):
                os.kill(os.getpid(), signal.SIGINT)


def test_signal_after_the_last_batch_ends_the_program():
    code = (
        "import os, signal, sys, utils\n"
        "def main():\n"
        "    with utils.StopSignals(), utils.StopSignals(is_deferred=True):\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.exit(utils.run_command_line(main))"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=False)
    assert result.returncode == 130


def test_a_shortage_of_memory_is_told_in_one_line(caplog):
    def main():
        raise MemoryError

    assert utils.run_command_line(main) == 70
    assert caplog.messages[0].startswith("error: out of memory.")
    assert "Traceback" not in caplog.text
