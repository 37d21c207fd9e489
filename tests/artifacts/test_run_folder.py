import json
import os

import pytest
from world.artifacts import SCALER
from world.frames import TINY

import utils
from artifacts import resuming, run_folder
from artifacts.artifact import load_artifact
from artifacts.run_folder import RunFolder
from config import Config
from files.atomic import atomic_write
from files.strict import read_json, write_json
from preprocessing.scaling import FeatureScaler
from utils import MissingInputError, RefusedArtifactError, StorageError


@pytest.fixture
def config(tmp_path):
    return Config(**TINY | {"outputs_dir": str(tmp_path / "outputs")})


def make_run(config):
    run = RunFolder.create(config)
    write_json(run.file("metadata", ".json"), {"files": {"model": "m.keras"}})
    write_json(run.file("scaler", ".json"), SCALER.to_dict())
    atomic_write(run.path / "logs" / "events", "x")
    return run


def test_publication_is_one_rename(config):
    run = make_run(config)
    published = run.publish()
    assert published == config.model_dir / run.run_id
    assert not run.path.exists() and not any(config.runs_dir.iterdir())
    link = config.model_dir / config.latest_name
    assert os.readlink(link) == run.run_id
    manifest = json.loads((published / "MANIFEST.json").read_text())
    assert sorted(manifest["files"]) == [
        "config.yaml",
        "logs/events",
        "metadata_TESTUSDT_FW005_SL050_TP100.json",
        "scaler_TESTUSDT_FW005_SL050_TP100.json",
    ]
    assert load_artifact(link).scaler == SCALER


def test_latest_points_at_the_newest(config):
    first, second = make_run(config).publish(), make_run(config).publish()
    assert first != second
    assert os.readlink(config.model_dir / config.latest_name) == second.name


def test_failed_publication_keeps_the_run(config, monkeypatch):
    earlier = make_run(config).publish()
    run = make_run(config)

    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run_folder.os, "rename", refuse)
    with pytest.raises(StorageError, match="No space left.*kept where it is"):
        run.publish()
    assert run.path.is_dir()
    names = {path.name for path in config.model_dir.iterdir()}
    assert names == {earlier.name, config.latest_name}
    assert load_artifact(config.model_dir / config.latest_name).path == earlier


def tamper_flip(folder):
    path = next(folder.glob("scaler_*"))
    path.write_bytes(path.read_bytes().replace(b"10.0", b"11.0"))


def tamper_remove(folder):
    (folder / "config.yaml").unlink()


def tamper_link(folder):
    path = folder / "config.yaml"
    content = path.read_bytes()
    (folder.parent / "outside").write_bytes(content)
    path.unlink()
    path.symlink_to("../outside")


def tamper_traversal(folder):
    path = folder / "MANIFEST.json"
    manifest = json.loads(path.read_text())
    manifest["files"]["../../x"] = {"bytes": 0, "sha256": ""}
    path.write_text(json.dumps(manifest))


def tamper_manifest(folder):
    (folder / "MANIFEST.json").unlink()


def tamper_json(folder):
    (folder / "MANIFEST.json").write_text('{"format": NaN}')


@pytest.mark.parametrize(
    ("tamper", "message"),
    [
        (tamper_flip, "its sha256 is not the manifest's"),
        (tamper_remove, "expected the plain file config.yaml"),
        (tamper_link, "expected the plain file config.yaml"),
        (tamper_traversal, "expected names inside the folder"),
        (tamper_manifest, "was not published"),
        (tamper_json, "NaN is not JSON"),
    ],
)
def test_changed_artifacts_are_refused(config, tamper, message):
    published = make_run(config).publish()
    tamper(published)
    with pytest.raises(RefusedArtifactError, match=message) as caught:
        load_artifact(published)
    assert caught.value.exit_code == 76


def test_missing_artifact(tmp_path):
    with pytest.raises(MissingInputError):
        load_artifact(tmp_path / "none")


def test_model_outside_the_manifest_is_refused(config):
    artifact = load_artifact(make_run(config).publish())
    with pytest.raises(RefusedArtifactError, match=".npz model in the manifest"):
        artifact.load_model()


def test_scaler_survives_json_bit_for_bit(tmp_path):
    write_json(tmp_path / "s.json", SCALER.to_dict())
    assert FeatureScaler.from_dict(read_json(tmp_path / "s.json")) == SCALER


@pytest.mark.parametrize(
    "change",
    [{"scale": [1.0, 0.0]}, {"center": [1.0]}, {"center": ["a", 1]}, {"kind": None}],
)
def test_broken_scalers_are_refused(change):
    values = SCALER.to_dict() | change
    if change == {"kind": None}:
        del values["kind"]
    with pytest.raises(utils.DataError, match="expected a scaler"):
        FeatureScaler.from_dict(values)


def test_what_a_run_computes_on_is_no_other_run():
    same = {"allocator": "system", "device": "cpu", "recovery": False}
    assert resuming.same_run(Config(), Config(**same))
    assert not resuming.same_run(Config(), Config(seed=1))
