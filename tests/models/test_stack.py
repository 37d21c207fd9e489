"""A stack weighs trained models on rows that they did not learn from."""

import json
import re
import shutil
from types import SimpleNamespace
from typing import get_type_hints

import numpy as np
import pandas as pd
import pytest
from world.frames import CORE8, TINY, make_own_frame

from artifacts import manifest
from artifacts.artifact import load_artifact
from artifacts.registry import Registry
from config import Config
from data_loader import TrainingDataLoader
from evaluation.results import Parents
from files.atomic import sha256_file
from files.strict import to_jsonable
from live import export
from models.families import load_adapter
from models.stack import Member
from models.stacking import StackFindings
from predictor import Predictor
from preprocessing.inheritance import Inherited
from preprocessing.templates import run_pipeline
from preprocessing.windows import cut_windows
from reports import report
from reports.blocks import Material
from reports.composition import parents_section
from trainer import StandaloneTrainer
from utils import ConfigError, DataError, RefusedArtifactError

SMALL = TINY | {
    "model": "logistic",
    "num_trees": 6,
    "baseline_model": False,
    "importance_windows": None,
    "report": "light",
    "max_tabular_targets": 400,
}
PROBABILITIES = ["probability_short", "probability_hold", "probability_long"]


def signal(num_rows=1500):
    """Labels, mostly HOLD, whose side the first feature tells over five bars."""
    frame = make_own_frame(num_rows)
    draw = np.random.default_rng(0).random(num_rows)
    side = np.where(frame["high_change"].rolling(5, min_periods=1).mean() > 0, 2, 0)
    return frame.assign(label=np.where(draw < 0.4, side, 1).astype(np.int8))


FRAME = signal()


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    return tmp_path_factory.mktemp("outputs")


def train(outputs, frame=FRAME, **fields):
    config = Config(**SMALL | {"outputs_dir": str(outputs)} | fields)
    run = StandaloneTrainer(config, frame=frame)
    run.run_training()
    return run


@pytest.fixture(scope="module")
def members(outputs):
    """A linear model of the last row, one of statistics, trees on shorter windows."""
    reads = {"tabular_inputs": "last_row", "scaler_type": "standard"}
    trees = {"model": "gradient_boosting", "sequence_length": 5}
    runs = [train(outputs, **fields) for fields in (reads, {}, trees)]
    return [str(run.artifact_dir) for run in runs]


def stack(outputs, members, **fields):
    return train(outputs, model="stack", members=members, **fields)


@pytest.fixture(scope="module")
def stacked(outputs, members):
    return stack(outputs, members)


def predictions(run):
    return pd.read_parquet(next(run.artifact_dir.glob("predictions_*.parquet")))


def raw_windows(rows, bars=8):
    return cut_windows(FRAME[list(CORE8)].to_numpy(np.float32), rows, window_bars=bars)


def test_a_stack_says_the_weighted_mean_of_its_members_wherever_it_lies(
    stacked, members, tmp_path
):
    table = predictions(stacked)
    rows, pool = table["row"].to_numpy(), stacked.model.pool
    weights = pool.weights
    expected = np.zeros((len(rows), 3))
    for folder, weight, bars in zip(members, weights, (8, 8, 5), strict=True):
        each = Predictor(folder)
        expected += weight * each._outputs(raw_windows(rows, bars))
    expected **= pool.sharpness
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(table[PROBABILITIES], expected, atol=1e-12)
    assert pool.sharpness != 1 and (weights > 0).all()
    assert weights.sum() == pytest.approx(1)
    moved = tmp_path / "moved"
    shutil.copytree(stacked.artifact_dir, moved)
    predictor = Predictor(moved)
    answers = predictor.predict_windows(raw_windows(rows))
    columns = ["calibrated_short", "calibrated_hold", "calibrated_long"]
    np.testing.assert_allclose(answers, table[columns], atol=1e-5)
    assert predictor.check()["windows"] == 16


def test_members_are_judged_beside_it_and_how_alike_they_err(stacked):
    results, names = stacked.results, ["member_1_logistic", "member_2_logistic"]
    names.append("member_3_gradient_boosting")
    found, test = results["stack"], results["test"]
    assert [each["name"] for each in found["members"]] == names
    assert results["parents"]["names"] == names
    assert set(found) == set(get_type_hints(StackFindings))
    assert set(results["parents"]) == set(get_type_hints(Parents))
    assert set(names) <= set(test["baselines"]) & set(test["comparisons"])
    best = min(names, key=lambda name: test["baselines"][name]["log_loss"])
    assert results["parents"]["best_on_test"] == best
    assert "test is too short to tell it from" in results["parents"]["statement"]
    for part in ("validation", "test"):
        correlation = np.array(found[part]["loss_correlation"])
        apart = np.array(found[part]["disagreement"])
        np.testing.assert_allclose(np.diag(correlation), 1)
        np.testing.assert_allclose(correlation, correlation.T)
        assert not np.diag(apart).any()
        assert 0 < apart[0, 1] < 0.5
    assert found["loss"] == pytest.approx(results["validation"]["log_loss"])
    assert found["crossed_loss"] == stacked.history["val_loss"][0] >= found["loss"]


def test_a_stack_is_exported_to_no_other_program(stacked):
    predictor = Predictor(stacked.artifact_dir)
    for convert in export.FORMATS.values():
        with pytest.raises(ConfigError, match="Received: a model of stack"):
            convert(predictor)


def test_one_artifact_under_two_names_is_one_model(outputs, members, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(members[1], copy)
    twice = stack(outputs, [members[1], str(copy)])
    one = predictions(twice)[PROBABILITIES]
    alone = pd.read_parquet(next(copy.glob("predictions_*.parquet")))
    np.testing.assert_array_equal(one, alone[PROBABILITIES])
    assert twice.model.pool.weights.tolist() == [1.0]


class Agent:
    """Goes LONG or SHORT with the last bar; of rows it would keep an account."""

    config = Config(model="ppo")
    window_bars = 3
    has_classes = True

    def predict_windows(self, windows):
        position = np.sign(windows[:, -1, 0])
        return np.stack([position < 0, position == 0, position > 0], axis=1) * 1.0


def test_an_agent_says_of_rows_what_it_says_of_windows():
    data = TrainingDataLoader.from_frame(
        FRAME, config=Config(**SMALL), inherited=Inherited(scales=False)
    ).load_training_data()
    own = run_pipeline(Config(scaler_type="none", sequence_length=3), CORE8[:2], {})
    columns, rows = [3, 0], data.parts["test"].targets
    member = Member(
        adapter=Agent(),
        pipeline=own.fit(data.features[:, columns]),
        columns=columns,
        units=None,
    )
    said = member.of_rows(data, rows)
    expected = FRAME["volume_change"].to_numpy()[rows] > 0
    assert (said.argmax(axis=1) == np.where(expected, 2, 0)).all()
    windows = cut_windows(data.features, rows, window_bars=8)
    np.testing.assert_array_equal(member.of_windows(windows), said)


def test_a_member_of_several_quantiles_says_the_middle_one():
    network = SimpleNamespace(has_classes=False, window_bars=1)
    network.predict_windows = lambda windows: windows[:, 0]
    member = Member(
        adapter=network,
        pipeline=SimpleNamespace(scaled=lambda rows: rows),
        columns=[0, 1, 2],
        units=None,
    )
    assert member.of_windows(np.array([[[0.3, 0.1, 0.2]]])).tolist() == [0.2]


# What is refused


def test_what_cannot_be_weighed_is_refused(outputs, members, stacked):
    def refused(error, match, names=members, **fields):
        with pytest.raises(error, match=match):
            stack(outputs, names, **fields)

    refused(ConfigError, "members: expected 2 to 50 .* Received: 1", members[:1])
    folder = str(stacked.artifact_dir)
    refused(ConfigError, "that are no stacks", [members[0], folder])
    refused(ConfigError, "of this run's market", pair="OTHERUSDT")
    refused(ConfigError, "of future_window 5, not 4", future_window=4)
    refused(ConfigError, "of long_tp_pct 1.0, not 2.0", long_tp_pct=2.0)
    refused(ConfigError, "sequence_length: expected at least 8", sequence_length=7)
    refused(ConfigError, "n_splits, cv_test_days: expected none", n_splits=3)
    refused(ConfigError, "loss: expected none", loss="focal")
    seen = "test: expected rows that no model below this one has seen"
    refused(DataError, seen, validation_split=0.1, test_split=0.2)
    seen = "validation: expected rows that no model below this one has learned from"
    refused(DataError, seen, validation_split=0.3)
    renamed = FRAME.rename(columns={"high_change": "other_change"})
    refused(DataError, "Received: one of high_change, too", frame=renamed)


def test_a_changed_byte_in_a_member_is_found(stacked, outputs, tmp_path):
    registry = Registry(outputs)
    name = registry.register(stacked.artifact_dir).model_id
    assert registry.validate(name) == []
    path = stacked.artifact_dir / "members" / "3" / "MANIFEST.json"
    listed = json.loads(path.read_text())["files"]
    assert {n.split("_")[0] for n in listed} == {
        *("calibrator", "golden", "metadata", "model"),
        *("preprocessor", "reference", "scaler"),
    }
    victim = next(path.parent.glob("model_*"))
    content = victim.read_bytes()
    victim.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    try:
        assert "members/3/model_" in registry.validate(name)[0]
    finally:
        victim.write_bytes(content)
    assert registry.validate(name) == []


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda file: file["weights"].append(0.0), "zip"),
        (lambda file: file.update(weights=[0.5, 0.5, 0.5]), "do not sum to 1"),
        (lambda file: file.update(weights=[1.5, -0.5, 0.0]), "do not sum to 1"),
        (lambda file: file.update(weights=[[1.0]]), "1 to 50 weights"),
        (lambda file: file.update(sharpness=1e9), "expected a sharpness"),
        (lambda file: file.update(units={"center": 0.0}), "units of another target"),
        (lambda file: file["manifests_sha256"].reverse(), "members/1: another member"),
        (lambda file: file.pop("rule"), "rule"),
    ],
)
def test_a_hostile_file_of_weights_is_refused(stacked, tmp_path, change, match):
    folder = tmp_path / "stack"
    shutil.copytree(stacked.artifact_dir, folder)
    path = next(folder.glob("model_*.json"))
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    reseal(folder)
    with pytest.raises(RefusedArtifactError, match=match):
        load_adapter(load_artifact(folder))


def reseal(folder):
    """What an enemy can do, too: a manifest that fits."""
    manifest.write_manifest(folder, "MANIFEST.json", is_internal=lambda _: False)


def test_a_member_elsewhere_or_a_stack_in_a_stack_is_refused(stacked, tmp_path):
    folder, away = tmp_path / "stack", tmp_path / "away"
    shutil.copytree(stacked.artifact_dir, folder)
    (folder / "members" / "1").rename(away)
    (folder / "members" / "1").symlink_to(away)
    reseal(folder)
    with pytest.raises(RefusedArtifactError, match="a link, a folder or a device"):
        load_adapter(load_artifact(folder))
    (folder / "members" / "1").unlink()
    shutil.copytree(stacked.artifact_dir, folder / "members" / "1")
    path = next(folder.glob("model_*.json"))
    content = json.loads(path.read_text())
    listed = folder / "members" / "1" / "MANIFEST.json"
    content["manifests_sha256"][0] = sha256_file(listed)
    path.write_text(json.dumps(content))
    reseal(folder)
    with pytest.raises(RefusedArtifactError, match="members/1: another member, or a"):
        load_adapter(load_artifact(folder))


# Going on, and numbers


def test_a_stack_goes_on_to_the_same_bytes_unless_a_member_is_another(
    outputs, members, stacked, monkeypatch
):
    fields = {"model": "stack", "members": members, "outputs_dir": str(outputs)}
    config = Config(**SMALL | fields, tags=["again"])
    run = StandaloneTrainer(config, frame=FRAME)
    monkeypatch.setattr("reports.report.write_run_report", None)  # fails in step 8
    with pytest.raises(TypeError):
        run.run_training()
    monkeypatch.undo()
    folder = run.run.path
    run.run.unlock()
    state = json.loads((folder / "state.json").read_text())
    assert list(state["parents"]) == members
    other = state | {"parents": state["parents"] | {members[0]: "0" * 64}}
    (folder / "state.json").write_text(json.dumps(other))
    with pytest.raises(ConfigError, match="the models that it builds on are not"):
        StandaloneTrainer(config, frame=FRAME, resume=folder).run_training()
    (folder / "state.json").write_text(json.dumps(state))
    published = StandaloneTrainer(config, frame=FRAME, resume=folder).run_training()
    files = load_artifact(published).files
    same = load_artifact(stacked.artifact_dir).files
    kept = [n for n in files if n.startswith(("model_", "members/", "golden"))]
    assert len(kept) == 2 + 3 * 8
    assert {n: files[n] for n in kept} == {n: same[n] for n in kept}


def test_numbers_are_weighed_in_units_of_the_stack(outputs):
    steps = np.zeros(len(FRAME) + 5)
    steps[5:] = 0.01 * FRAME["high_change"].to_numpy(np.float64)
    close = 1000 * np.exp(np.cumsum(steps)[: len(FRAME)])
    frame = FRAME.drop(columns="label").assign(close=close, target=np.nan)
    frame["target"] = np.log(frame["close"].shift(-5) / frame["close"])
    frame["is_target"] = frame["target"].notna()
    own = {"model": "gradient_boosting", "target": "return", "frame": frame}
    parts = [{"stage_share": 0.5}, {"tabular_inputs": "last_row"}]
    runs = [train(outputs, **own | part) for part in parts]
    units = [run.data.units for run in runs]
    assert units[0] != units[1]
    named = [str(run.artifact_dir) for run in runs]
    fields = {"model": "stack", "members": named, "stack_weights": "equal"}
    whole = train(outputs, **own | fields)
    told = [predictions(run)["predicted"].to_numpy() for run in runs]
    found = predictions(whole)
    np.testing.assert_allclose(found["predicted"], np.mean(told, axis=0), atol=1e-8)
    assert whole.results["stack"]["sharpness"] == 1
    predictor = Predictor(whole.artifact_dir)
    rows = cut_windows(
        frame[list(CORE8)].to_numpy(np.float32),
        found["row"].to_numpy()[:5],
        window_bars=8,
    )
    np.testing.assert_allclose(
        predictor.predict_windows(rows), found["predicted"][:5], atol=1e-7
    )


# What is shown


def test_text_and_page_show_weights_and_likeness(stacked):
    results = to_jsonable(stacked.results)
    text = report.format_results(results)
    assert "test is too short to tell it from member" in text
    weights = [f"{x:.3f}" for x in stacked.model.pool.weights]
    for name, weight in zip(
        ("1 logistic", "3 gradient boosting"), weights[::2], strict=True
    ):
        assert re.search(rf"member {name} +{weight} +[+-]0", text)
    section = parents_section(Material(results=results))
    members, correlation, disagreement, _ = section.blocks
    assert [name for name, _ in members.rows][1] == "member 2 logistic"
    assert [cells[0].text for _, cells in members.rows] == weights
    assert correlation.rows[0][1][0].text == "1.000"
    apart = results["stack"]["test"]["disagreement"][0][1]
    assert disagreement.rows[0][1][1].value == apart
