"""Finished models on later data: the report's own numbers, and nothing in sample."""

import json
import os
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
from world.classes import hours
from world.pages import PageReader

import utils
from artifacts import evaluations as folders
from artifacts.artifact import load_artifact
from artifacts.grades import PerformanceGrade, grade_of
from candles import synthetic_candles
from config import Config
from dataset.builder import build_training_file
from evaluation.outlook import is_confirmed
from experiments import __main__ as command
from experiments.evaluations import evaluate_models
from reports import comparison
from reports.outlook import confirmation
from trainer import StandaloneTrainer

NUM_CANDLES, NUM_KNOWN = 4000, 3000
WINDOW, HORIZON = 10, 5


@pytest.fixture(scope="module")
def candles():
    table = synthetic_candles(NUM_CANDLES, seed=3, strength=4.0)
    return table.assign(timestamp=hours(NUM_CANDLES))


@pytest.fixture(scope="module")
def world(candles, tmp_path_factory):
    """A folder with a model of the first candles, and the files of all of them."""
    root = tmp_path_factory.mktemp("world")
    config = Config(
        pair="TESTUSDT",
        timeframe="1h",
        model="logistic",
        feature_sets=("ray12",),
        sequence_length=WINDOW,
        future_window=HORIZON,
        inputs_dir=str(root / "inputs"),
        outputs_dir=str(root / "outputs"),
        max_tabular_targets=1000,
        threshold_min_trades=5,
        undersampling_min_samples=100,
        importance_windows=None,
    )
    build_training_file(candles.iloc[:NUM_KNOWN], config)
    model = StandaloneTrainer(config).run_training()
    candles.to_parquet(root / "TESTUSDT-1h.parquet")
    later = config.replace(inputs_dir=str(root / "later"))
    file = build_training_file(candles, later)
    return {
        "root": root,
        "config": config,
        "model": model,
        "candles": root / "TESTUSDT-1h.parquet",
        "file": file,
    }


def read(folder, name="confusion_matrix_report.json"):
    return json.loads((folder / name).read_text())


def split_of(model):
    return load_artifact(model).metadata["split"]


def later_start(model):
    """The first bar whose window begins behind the last label of the test part."""
    last = pd.Timestamp(split_of(model)["test"]["last"])
    return str(last + pd.Timedelta(hours=WINDOW + HORIZON))


@pytest.fixture(scope="module")
def later(world):
    start = later_start(world["model"])
    [folder] = evaluate_models(
        [world["model"]], [world["candles"]], start=start, baseline_model=False
    )
    return folder


@pytest.mark.parametrize(("kind", "report"), [("candles", "full"), ("file", "light")])
def test_its_own_test_rows_give_the_numbers_of_its_report(world, kind, report):
    own = split_of(world["model"])["test"]
    [folder] = evaluate_models(
        *([world["model"]], [world[kind]]),
        start=own["first"],
        end=own["last"],
        report=report,
    )
    found, known = read(folder), read(world["model"])
    if report == "light":
        for each in (found, known):
            del each["test"]["baselines"], each["test"]["comparisons"]
    assert found["test"] == known["test"]
    assert found["claims"] == known["claims"] and found["trials"] == known["trials"]
    about = folders.read_evaluation(folder)
    rows = about["rows"]
    assert rows["shared_with_test"] == own["targets"] == rows["evaluated"]
    assert not about["in_sample"] and not about["is_confirmed"]


def test_later_rows_are_all_behind_what_the_model_knew(world, later):
    about = folders.read_evaluation(later)
    assert about["rows"] == {
        "evaluated": 986,  # candles 3009 to 3994: the last 5 have no outcome yet
        "in_sample": 0,
        "shared_with_train": 0,
        "shared_with_validation": 0,
        "shared_with_test": 0,
        "before_training": 0,
    }
    rows = pd.read_parquet(later / about["files"]["predictions"])
    assert len(rows) == about["rows"]["evaluated"]
    assert str(rows["timestamp"].iloc[0]) == later_start(world["model"])
    assert about["costs"] == {
        "fee_bps": 10.0,
        "slippage_bps": 5.0,
        "funding_bps_per_day": 0.0,
    }
    assert about["split"]["train"] == split_of(world["model"])["train"]
    page = PageReader((later / "report.html").read_text())
    assert "promised" in page.sections and "IN SAMPLE" not in page.text


def test_promises_are_held_against_what_came(world, later):
    found, promised = read(later), read(world["model"])["outlook"]
    assert set(found["promised"]) == set(promised)
    skill = found["promised"]["skill"]
    assert skill["found"] == pytest.approx(found["test"]["skill_vs_train_prior"])
    inside = skill["low"] <= skill["found"] <= skill["high"]
    assert (skill["outcome"] == "within") == inside


def test_overlap_is_counted_and_refused(world):
    split = split_of(world["model"])
    reach = pd.Timedelta(hours=WINDOW + HORIZON - 1)
    start = pd.Timestamp(split["validation"]["last"]) + reach  # one row shares a bar
    with pytest.raises(utils.DataError) as caught:
        evaluate_models([world["model"]], world["file"], start=str(start))
    text = str(caught.value)
    assert "share bars 1 with its validation part" in text
    assert f"--start {later_start(world['model'])[:10]}" in text
    free = str(start + pd.Timedelta(hours=1))
    [folder] = evaluate_models(
        [world["model"]], world["file"], start=free, report="light"
    )
    assert not folders.read_evaluation(folder)["in_sample"]
    assert not (folder / "report.html").exists()


def test_in_sample_is_said_on_every_line_and_on_the_page(world, capsys):
    words = ["evaluate", str(world["model"]), str(world["file"]), "--end", "2024-03-01"]
    assert command.main(words) == 65
    capsys.readouterr()
    assert command.main([*words, "--allow-overlap", "--no-baseline-model"]) == 0
    out, err = capsys.readouterr()
    lines = (out + err).strip().splitlines()
    assert len(lines) > 20 and all(line.startswith("IN SAMPLE") for line in lines)
    folder = Path(re.search(r"evaluation: (\S+)", out)[1])
    about, results = folders.read_evaluation(folder), read(folder)
    assert about["in_sample"] and not about["is_confirmed"]
    assert not any(results["claims"].values())
    assert results["verdict"][0].startswith("In sample: nothing is claimed, ")
    assert "activity not claimed" in results["verdict"][2]
    assert PageReader((folder / "report.html").read_text()).text.count("IN SAMPLE")


def test_costs_are_those_of_the_command(world, later):
    start = later_start(world["model"])
    [folder] = evaluate_models(
        [world["model"]], world["file"], start=start, fee_bps=0.0, report="light"
    )
    found, known = read(folder), read(later)
    assert found["settings"]["fee_bps"] == 0.0
    assert found["test"]["log_loss"] == known["test"]["log_loss"]
    assert found["promised"]["net"]["outcome"] is None  # at other costs
    assert not folders.read_evaluation(folder)["is_confirmed"]


def test_what_confirms_a_promise():
    hold = {"low": -1.0, "high": 1.0, "outcome": "within"}
    rows = dict.fromkeys(folders.RowCounts.__annotations__, 0)
    short, long = ({"days": days, "horizons": 99.0} for days in (9.0, 10.0))

    def words(days=long, rows=rows, confirmed=False, **promised):
        results = {"promised": promised, "test": {"length": days}}
        return confirmation(results, {"rows": rows, "is_confirmed": confirmed})

    assert is_confirmed({"skill": hold, "net": hold | {"outcome": "above"}})
    assert not is_confirmed({"skill": hold, "net": hold | {"outcome": None}})
    assert not is_confirmed({}) and words() == (
        "its report gave no range for a next stretch"
    )
    assert words(skill=hold, confirmed=True) == "its report's ranges hold"
    assert words(short, skill=hold).endswith("not confirmed: the stretch is too short")
    below = hold | {"outcome": "below"}
    assert words(skill=below).endswith("not confirmed: skill below")
    seen = rows | {"shared_with_test": 1}
    assert "not all rows are later" in words(rows=seen, skill=hold)


def test_models_are_compared_on_rows_that_all_of_them_have(world, candles):
    other = world["config"].replace(model="random_forest", sequence_length=20)
    other = other.replace(num_trees=5, baseline_model=False, report="light")
    second = StandaloneTrainer(other).run_training()
    start = str(pd.Timestamp(split_of(second)["test"]["last"]) + pd.Timedelta(hours=25))
    models = [world["model"], second]
    found = evaluate_models(models, world["candles"], start=start, report="light")
    counts = [folders.read_evaluation(each)["rows"]["evaluated"] for each in found]
    assert counts[0] == counts[1]
    [folder] = (world["root"] / "outputs" / "comparisons" / "TESTUSDT").iterdir()
    compared = read(folder, "comparison.json")
    assert {x["model"] for x in compared["models"]} == {"logistic", "random_forest"}
    assert compared["in_sample"] is False
    assert all(entry["latency_ms"] > 0 for entry in compared["models"])
    assert {entry["grade"] for entry in compared["models"]} <= {*PerformanceGrade}
    table = comparison.format_comparison(compared)
    assert " grade " in table and " ms\n" in table
    assert 0 < compared["models"][1]["against_best"]["adjusted_p_value"] <= 1
    assert [read(each)["trials"]["num_planned"] for each in found] == [1, 0]
    with pytest.raises(utils.ConfigError, match="twice"):
        evaluate_models([second, second], world["candles"])


def test_what_is_no_model_or_no_data_ends_with_its_own_code(world, tmp_path, capsys):
    changed = shutil.copytree(world["model"], tmp_path / "changed")
    (changed / "config.yaml").write_text("seed: 7")
    data = str(world["file"])
    for words, code in {
        (str(tmp_path / "none"), data): 66,
        ("logistic/TESTUSDT-1h-signal@champion", data): 66,
        (str(changed), data): 76,
        (str(world["model"]), str(tmp_path / "none.parquet")): 66,
        (str(world["model"]),): 2,
        (str(world["model"]), str(world["candles"])): 65,  # all of them: overlap
    }.items():
        assert command.main(["evaluate", *words]) == code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"start": "2030-01-01"}, utils.DataError, "from 2030-01-01 to the end"),
        ({"start": "soon"}, utils.ConfigError, "--start: expected a moment"),
        ({"end": "27/07/2024"}, utils.ConfigError, "--end: expected a moment"),
    ],
)
def test_stretches_without_rows_are_refused(world, fields, error, message):
    with pytest.raises(error, match=message):
        evaluate_models([world["model"]], world["file"], **fields)


def test_files_of_other_runs_are_refused(world, tmp_path):
    table = pd.read_feather(world["file"])
    name = load_artifact(world["model"]).scaler.feature_names[0]
    quarters = pd.date_range("2024", periods=len(table), freq="15min", tz="UTC")
    for other, message in (
        (table.drop(columns=name), f"expected the model's features .* no {name} among"),
        (table.assign(timestamp=quarters), "expected bars of 1h. Received: bars 15m"),
    ):
        other.to_feather(tmp_path / "rows.feather")
        with pytest.raises(utils.DataError, match=message):
            evaluate_models([world["model"]], tmp_path / "rows.feather")


def test_nothing_is_half_published(world, tmp_path):
    parent = folders.folder_of(tmp_path, "some-run")

    def write(folder):
        (folder / "evaluation.json").write_text("{}")
        raise OSError(28, "No space left on device")

    with pytest.raises(utils.StorageError, match="No space left"):
        folders.publish(parent, write)
    assert not list(parent.iterdir())
    dead = parent / ".tmp-dead"
    dead.mkdir()
    os.utime(dead, (0, 0))
    assert folders.read_evaluations(tmp_path, "some-run") == []
    folder = folders.publish(parent, lambda each: (each / "a").write_text("a"))
    assert [*parent.iterdir()] == [folder]
    with pytest.raises(utils.RefusedArtifactError, match="letters, digits"):
        folders.folder_of(tmp_path, "../elsewhere")


def test_a_changed_evaluation_counts_for_nothing(world, later, tmp_path, caplog):
    about = folders.read_evaluation(later)
    results = read(world["model"])
    assert grade_of(results, evaluations=[about]).grade
    outputs = tmp_path / "outputs"
    copy = outputs / "evaluations" / about["model_id"] / later.name
    copy.mkdir(parents=True)
    for name in ("evaluation.json", "MANIFEST.json"):
        (copy / name).write_bytes((later / name).read_bytes())
    assert len(folders.read_evaluations(outputs, about["model_id"])) == 1
    (copy / "evaluation.json").write_text(json.dumps(about | {"is_confirmed": True}))
    assert folders.read_evaluations(outputs, about["model_id"]) == []
    assert "not counted" in caplog.text


def test_a_model_of_numbers_needs_none_of_its_training_rows(world, candles):
    config = world["config"].replace(
        target="return",
        model="gradient_boosting",
        num_trees=5,
        baseline_model=False,
        report="light",
    )
    build_training_file(candles.iloc[:NUM_KNOWN], config)
    model = StandaloneTrainer(config).run_training()
    own = split_of(model)["test"]
    span = {"start": own["first"], "end": own["last"]}
    # A warm-up, and the week before that the trailing mean reads.
    tail = candles.iloc[2000:]
    [folder] = evaluate_models([model], tail, **span)
    found, known = read(folder), read(model)
    assert found["train"] == known["train"]
    assert found["test"]["rmse"] == pytest.approx(known["test"]["rmse"], rel=1e-5)
    assert found["test"]["num_samples"] == own["targets"]
    [folder] = evaluate_models([model], candles, **span)
    assert read(folder)["test"] == known["test"]


def test_a_benchmark_takes_models_and_then_candles(world, monkeypatch):
    given = []
    monkeypatch.setattr(
        command.evaluations, "evaluate_models", lambda *words, **_: given.extend(words)
    )
    models, file = [str(world["model"]), "lstm/TESTUSDT-1h-signal@champion"], "x.csv"
    assert command.main(["benchmark", "--models", *models, file]) == 0
    assert given == [models, [file]]
    assert command.main(["benchmark", "--models", models[0], file]) == 2
