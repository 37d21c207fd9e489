"""Folders as other machines have them: no links, no flush, no locks, two disks."""

import errno
import os
import subprocess

import pytest
from world.frames import TINY

from artifacts import publication, resuming
from artifacts.artifact import load_artifact
from artifacts.run_folder import RunFolder, sweep
from config import Config
from files import atomic, locks
from files.atomic import atomic_write, require_creatable, require_writable
from files.strict import write_json
from preprocessing.scaling import FeatureScaler
from utils import InUseError, StorageError

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
    atomic._tell_lacks.cache_clear()
    return Config(**TINY | {"outputs_dir": str(tmp_path / "outputs")})


def make_run(config):
    run = RunFolder.create(config)
    atomic_write(run.checkpoints / "epoch_00001.ckpt", b"state")
    write_json(run.file("metadata", ".json"), {"files": {}})
    write_json(run.file("scaler", ".json"), SCALER.to_dict())
    return run


def refuse(number):
    def call(*_, **__):
        raise OSError(number, os.strerror(number))

    return call


def without_links(monkeypatch):
    monkeypatch.setattr(os, "symlink", refuse(errno.EPERM))


def without_flush_of_folders(monkeypatch):
    fsync = os.fsync

    def of_files(descriptor):
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.EINVAL, "Invalid argument")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", of_files)


def without_locks(monkeypatch):
    monkeypatch.setattr(locks.fcntl, "flock", refuse(errno.ENOLCK))


LACKS = {
    "symbolic links": without_links,
    "flush of folders": without_flush_of_folders,
    "locks": without_locks,
}


@pytest.mark.parametrize("lack", LACKS)
def test_what_a_disk_lacks_is_told_once_before_a_run(config, monkeypatch, caplog, lack):
    LACKS[lack](monkeypatch)
    for _ in range(2):
        for folder in (config.runs_dir, config.model_dir):
            require_creatable(folder, has_runs=True)
    [warning] = [each.getMessage() for each in caplog.records]
    assert f"has no {lack}" in warning
    assert not os.path.exists(config.outputs_dir)
    published = make_run(config).publish()
    assert (
        load_artifact(config.model_dir / config.latest_name).path == published.resolve()
    )
    assert len(caplog.records) == 1


def test_without_links_latest_is_a_file_that_names_the_newest(config, monkeypatch):
    earlier = make_run(config).publish()
    without_links(monkeypatch)
    newer = make_run(config).publish()
    latest = config.model_dir / config.latest_name
    assert latest.read_text() == newer.name + "\n" and not latest.is_symlink()
    assert load_artifact(latest).path == newer.resolve()
    monkeypatch.undo()
    newest = make_run(config).publish()
    assert os.readlink(latest) == newest.name != earlier.name


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_what_a_user_keeps_under_the_name_of_latest_stays(config, caplog, kind):
    latest = config.model_dir / config.latest_name
    config.model_dir.mkdir(parents=True)
    if kind == "file":
        latest.write_text("../../elsewhere\n")
    elif kind == "folder":
        (latest / "notes").mkdir(parents=True)
    else:
        latest.symlink_to("/etc")
    published = make_run(config).publish()
    assert (
        "is not ours and stays as it is" in caplog.text
        and published.name in caplog.text
    )
    assert publication.named_by(latest) is None
    assert publication.followed(latest) == latest
    assert [path.name for path in config.model_dir.glob(".tmp-*")] == []


def test_a_run_has_one_owner_without_locks(config, monkeypatch):
    without_locks(monkeypatch)
    run = make_run(config)
    with pytest.raises(InUseError, match=f"process {os.getpid()} on "):
        resuming.find_resumable(config, run.path)
    run.unlock()
    assert resuming.find_resumable(config, "newest").path == run.path
    (run.path / ".lock").write_text("4711 elsewhere\n")
    with pytest.raises(InUseError, match="process 4711 on elsewhere"):
        resuming.find_resumable(config, run.path)


def test_publication_on_another_disk_is_a_copy(config, monkeypatch):
    run = make_run(config)
    rename = os.rename

    def within(source, target):
        if os.path.dirname(source) != os.path.dirname(target):
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        rename(source, target)

    monkeypatch.setattr(os, "rename", within)
    published = run.publish()
    assert (
        load_artifact(config.model_dir / config.latest_name).path == published.resolve()
    )
    assert not run.path.exists()
    names = {path.name for path in published.iterdir()}
    assert not names & {"checkpoints", "state.json", ".lock"}
    assert {path.name for path in config.model_dir.iterdir()} == {
        published.name,
        config.latest_name,
    }


def test_a_death_after_the_copy_leaves_one_run(config, monkeypatch):
    run = make_run(config)
    monkeypatch.setattr(publication.os, "rename", refuse(errno.EXDEV))
    with pytest.raises(StorageError, match="kept where it is"):
        run.publish()
    monkeypatch.undo()
    assert list(config.model_dir.iterdir()) == []
    # As if it had died before the source was removed, and in another copy.
    publication.shutil.copytree(run.path, run.published)
    (config.model_dir / f".tmp-copy-{run.run_id}" / "logs").mkdir(parents=True)
    run.unlock()
    assert resuming.finished_run(config, run.path) == run.published
    assert resuming.find_resumable(config, "newest") is None
    sweep(config, min_age_seconds=-1)
    assert not run.path.exists()
    assert [path.name for path in config.model_dir.glob("*")] == [run.run_id]


@pytest.fixture
def disk(tmp_path):
    """Mounts a file system of a kind at a folder, for as long as the test lasts."""
    mounted = []

    def mount(kind, folder):
        folder.mkdir(parents=True, exist_ok=True)
        source, options = "tmpfs", "size=4m"
        if kind == "vfat":
            source, options = tmp_path / "image", "loop"
            source.write_bytes(b"\0" * 4 * 2**20)
            subprocess.run(["mkfs.vfat", source], check=True, capture_output=True)
        subprocess.run(
            ["mount", "-t", kind, "-o", options, source, folder],
            check=True,
            capture_output=True,
        )
        mounted.append(folder)

    def try_mount(kind, folder):
        try:
            mount(kind, folder)
        except (OSError, subprocess.CalledProcessError):
            pytest.skip(f"mounting {kind} is refused here")

    yield try_mount
    for folder in mounted:
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.parametrize("kind", ["tmpfs", "vfat"])
def test_models_on_a_real_disk_of_their_own(config, disk, kind):
    disk(kind, config.model_dir)
    require_creatable(config.model_dir, has_runs=True)
    first = make_run(config).publish()
    second = make_run(config).publish()
    latest = config.model_dir / config.latest_name
    assert latest.is_symlink() is (kind == "tmpfs")
    assert load_artifact(latest).path == second.resolve() != first.resolve()
    assert list(config.runs_dir.iterdir()) == []


def test_models_that_cannot_be_written_are_refused_before_a_run(config, disk):
    disk("tmpfs", config.model_dir)
    command = ["mount", "-o", "remount,ro", config.model_dir]
    subprocess.run(command, check=True)
    with pytest.raises(StorageError, match="Read-only file system"):
        require_creatable(config.model_dir, has_runs=True)
    with pytest.raises(StorageError, match="Read-only file system"):
        require_writable(config.model_dir)
