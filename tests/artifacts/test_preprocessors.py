"""Pipelines by version, and the one in an artifact."""

import json
import shutil

import numpy as np
import pytest
from world.artifacts import SCALER, publish
from world.signals import make_candles

from artifacts import manifest, run_folder
from artifacts.artifact import load_artifact
from artifacts.model_registry import PreprocessorManager
from artifacts.registry import Registry
from config import Config
from files.strict import read_json, write_json
from preprocessing.templates import run_pipeline
from utils import ConfigError, MissingInputError, RefusedArtifactError

CONFIG = Config(
    pair="TESTUSDT", timeframe="4h", feature_sets=("core8_7d",), sequence_length=8
)
CANDLES = make_candles(300)


@pytest.fixture
def manager(tmp_path):
    return PreprocessorManager(tmp_path)


def save(manager, candles=CANDLES, **fields):
    pipeline = manager.create("cnn_lstm", CONFIG.replace(**fields)).fit(candles)
    return manager.save("cnn_lstm", pipeline).preprocessor_id


def test_versions_rise_with_columns_parameters_and_fits(manager):
    stem = "cnn_lstm_preprocessor_TESTUSDT-4h_v"
    assert save(manager) == f"{stem}1.0.0"
    assert save(manager) == f"{stem}1.0.0"  # the same again
    assert save(manager, CANDLES[:200]) == f"{stem}1.0.1"
    assert save(manager, clip_limit=5.0) == f"{stem}1.1.0"
    assert save(manager, sequence_length=9) == f"{stem}2.0.0"
    assert save(manager, timeframe="8h", candles=CANDLES[::2]).endswith("8h_v1.0.0")
    assert save(manager, timeframe="8h", candles=CANDLES[::2], seed=9).endswith("1.0.0")
    assert [entry.version for entry in manager.list("cnn_lstm")] == [
        *("v1.0.0", "v2.0.0", "v1.1.0", "v1.0.1", "v1.0.0"),
    ]
    assert manager.list("agent") == []
    entry = manager.info(f"{stem}1.1.0")
    assert (
        entry.scaling_method == "robust" and entry.output_features[0] == "high_change"
    )
    assert entry.input_features == (
        *("timestamp", "open", "high", "low", "close", "volume"),
    )


def test_what_is_not_fitted_is_not_saved(manager):
    with pytest.raises(ConfigError, match="expected a fitted pipeline"):
        manager.save("cnn_lstm", manager.create("cnn_lstm", CONFIG))
    assert manager.list() == []


def test_what_is_loaded_is_what_was_saved(manager):
    saved = manager.create("cnn_lstm", CONFIG).fit(CANDLES[:200])
    name = manager.save("cnn_lstm", saved).preprocessor_id
    loaded = manager.load(name)
    assert loaded == saved and manager.validate(name) == []
    rows = loaded.transform(CANDLES)
    assert rows.values.tobytes() == saved.transform(CANDLES).values.tobytes()
    assert manager.validate(name, CANDLES) == []
    [problem] = manager.validate(name, CANDLES.drop(columns="close"))
    assert "close" in problem


def test_what_pipelines_differ_in(manager):
    first, again = save(manager), save(manager, CANDLES[:200])
    found = manager.compare(first, again)
    assert found["compatible"]
    assert {line.partition(":")[0] for line in found["differences"]} == {
        "steps scale state center",
        "steps scale state scale",
        "steps scale state num_rows",
    }
    other = save(manager, sequence_length=9, clip_limit=5.0)
    found = manager.compare(first, other)
    assert not found["compatible"]
    assert "steps clip parameters limit: 10.0 and 5.0" in found["differences"]
    assert "output_schema window_bars: 8 and 9" in found["differences"]


def test_other_pipelines_are_refused(manager):
    name = save(manager)
    with pytest.raises(MissingInputError, match="Did you mean 'cnn_lstm_pre"):
        manager.load(name.replace("v1", "v2"))
    with pytest.raises(ConfigError, match="Received, as 'agent': validate_data"):
        manager.save("agent", manager.load(name))
    for template in ("agent", "hybrid", "ensemble"):
        with pytest.raises(ConfigError, match="'(state_columns|member_outputs)'"):
            manager.create(template, CONFIG).fit(CANDLES)
    folder = manager.root / "cnn_lstm" / "TESTUSDT-4h" / "v1.0.0"
    values = read_json(folder / "preprocessor.json")
    values["steps"][3]["state"]["center"][0] += 1e-9
    write_json(folder / "preprocessor.json", values)
    with pytest.raises(RefusedArtifactError, match="expected what was saved"):
        manager.load(name)
    assert "expected what was saved" in manager.validate(name)[0]
    assert save(manager, clip_limit=5.0).endswith("v1.1.0")  # beside the broken one
    (folder / "entry.json").write_text("{}")
    with pytest.raises(RefusedArtifactError, match="the entry of a preprocessor"):
        manager.info(name)
    assert [entry.version for entry in manager.list()] == ["v1.1.0"]


def test_models_do_not_see_preprocessors(manager, tmp_path):
    save(manager)
    registry = Registry(tmp_path)
    entry = registry.register(publish(tmp_path))
    assert registry.list() == [registry.entries()[0]]
    assert registry.entries()[0].model_id == entry.model_id


# In an artifact


@pytest.fixture
def artifact(tmp_path):
    """A published run with a preprocessor, and what writes another one into it."""
    source = publish(tmp_path)
    [metadata] = source.glob("metadata_*.json")
    name = metadata.name.replace("metadata", "preprocessor")

    def rewrite(values):
        folder = tmp_path / "again"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(source, folder)
        said = read_json(folder / metadata.name)
        said["files"]["preprocessor"] = name
        write_json(folder / metadata.name, said)
        write_json(folder / name, values)
        manifest.write_manifest(
            folder, run_folder.MANIFEST, is_internal=run_folder.is_internal
        )
        return folder

    return source, rewrite


def test_an_artifact_has_its_pipeline_or_one_of_its_scaler(artifact):
    source, rewrite = artifact
    without = load_artifact(source)
    config = without.config
    expected = run_pipeline(config, ["a", "b"], {}).with_scaler(SCALER)
    assert without.preprocessor == expected
    found = load_artifact(rewrite(expected.to_dict())).preprocessor
    assert found == expected and found.scaler == SCALER
    values = np.array([[1.0, 2.0]], np.float32)
    assert np.array_equal(found.scaled(values), SCALER.transform(values))


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("center", [0.5, 0.5], "expected the scaler of this artifact"),
        ("scale", [0.0, 0.5], "expected a preprocessor of format 1"),
    ],
)
def test_a_pipeline_of_another_model_is_refused(artifact, place, value, message):
    _, rewrite = artifact
    config = Config(pair="TESTUSDT")
    values = run_pipeline(config, ["a", "b"], {}).with_scaler(SCALER).to_dict()
    values = json.loads(json.dumps(values))
    values["steps"][0]["state"][place] = value
    with pytest.raises(RefusedArtifactError, match=message):
        load_artifact(rewrite(values))
