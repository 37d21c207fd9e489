"""Comparisons of model families: identical rows, honest tests, nothing lost."""

import functools
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from world import commands
from world.classes import hours
from world.frames import TINY, make_own_frame
from world.sweeps import finish

import utils
from config import Config
from evaluation import baselines
from executors.tasks import SerialExecutor
from experiments import comparison as compare
from experiments import series
from experiments.__main__ import main as experiments
from metrics import significance
from metrics.intervals import Length, cosine_interval
from reports import comparison as comparison_report
from settings import options
from trainer import StandaloneTrainer, train_run

FIELDS = TINY | {
    "report": "light",
    "num_trees": 5,
    "class_balancing_method": "none",
    "timeframe": "1h",  # ten days are enough for an interval
}


@pytest.fixture
def config(tmp_path):
    return Config(**FIELDS | {"outputs_dir": str(tmp_path / "outputs")})


@pytest.fixture(scope="module")
def frame():
    frame = make_own_frame(2500)
    frame["timestamp"] = hours(2500)
    return frame


def trainer_of(frame):
    return lambda config: StandaloneTrainer(config, frame=frame).run_training()


def test_families_answer_for_the_same_rows(config, frame):
    found = compare.compare_models(
        config, ["logistic", "gradient_boosting"], train=trainer_of(frame)
    )
    assert {entry["model"] for entry in found["models"]} == {
        "logistic",
        "gradient_boosting",
    }
    first, second = found["models"]
    assert found["best"] == first["model"] and first["against_best"] is None
    assert 0 < second["against_best"]["p_value"] <= 1
    text = comparison_report.format_comparison(found)
    assert "logistic" in text and "gradient_boosting" in text


def test_the_boosting_baseline_is_trained_once_for_the_same_data(
    config, frame, monkeypatch
):
    fits, learn = [], baselines.Boosting.learn
    monkeypatch.setattr(
        baselines.Boosting, "learn", lambda self: (fits.append(self), learn(self))
    )
    config = config.replace(report="full", importance_windows=None, n_splits=2)
    models = ["logistic", "random_forest"]
    found = compare.compare_models(config, models, train=trainer_of(frame))
    assert [entry["status"] for entry in found["models"]] == ["completed"] * 2
    assert len(fits) == 3  # the whole, and two folds
    results = [
        json.loads(path.read_text())
        for path in Path(config.outputs_dir).glob("models/*/*/2*/confusion*.json")
    ]
    assert len(results) == 2
    for part in ("validation", "test"):
        said = [each[part]["baselines"]["gradient_boosting"] for each in results]
        assert said[0] == said[1]
    trainer_of(frame)(config.replace(model="logistic", n_splits=None))
    assert len(fits) == 4


def test_a_model_that_fails_is_a_row_and_the_others_go_on(config, frame):
    def train(run):
        if run.model == "logistic":
            raise utils.ConfigError("no luck")
        return trainer_of(frame)(run)

    outcomes = series.train_all(
        compare.model_configs(config, ["logistic", "random_forest"]), train
    )
    found = compare.compare_runs(outcomes)
    by_name = {entry["model"]: entry for entry in found["models"]}
    assert by_name["logistic"] == {
        "model": "logistic",
        "status": "failed",
        "error": "no luck",
        "exit_code": 2,
    }
    assert found["best"] == "random_forest"
    with pytest.raises(series.FailedRunsError, match="logistic"):
        series.require_success(found["models"])


def test_a_full_disk_ends_a_comparison(config):
    def train(run):
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        series.train_all(compare.model_configs(config, ["logistic", "lstm"]), train)


def test_an_interruption_says_how_to_go_on(config, frame):
    def train(run):
        if run.model == "random_forest":
            raise utils.Interrupted(2, "")
        return trainer_of(frame)(run)

    configs = compare.model_configs(config, ["logistic", "random_forest"])
    with pytest.raises(utils.Interrupted, match="1 of 2 runs are finished"):
        series.train_all(configs, train)


def test_other_rows_are_refused(config, frame):
    outcomes = {}
    for name, rows in (("logistic", 2500), ("random_forest", 2400)):
        run = config.replace(model=name)
        folder = trainer_of(frame.iloc[:rows])(run)
        outcomes[name] = series.Outcome(
            config=run, folder=folder, error=None, seconds=1.0
        )
    with pytest.raises(utils.DataError, match="expected the .* test rows of"):
        compare.compare_runs(outcomes)


@pytest.mark.parametrize(
    ("models", "fields", "message"),
    [
        (["lstm"], {}, "two models or more"),
        (["lstm", "lstm"], {}, "two models or more"),
        (["lstm", "nosuch"], {}, "nosuch: .*expected one of"),
        (["lstm", "lightgmb"], {}, "Did you mean 'lightgbm'"),
        (["lstm", "logistic"], {"target": "return"}, "logistic: "),
        (["lstm", "gru"], {"loss": "sharpe"}, "outputs are positions"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_training(models, fields, message):
    with pytest.raises(utils.ConfigError, match=message):
        compare.model_configs(Config(**FIELDS | fields), models)


def test_numbers_are_compared_by_their_squared_error(config, tmp_path):
    rows = make_own_frame(2505).drop(columns="label")
    rows["timestamp"] = hours(2505)
    rows["target"] = np.log(rows["close"].shift(-5) / rows["close"])
    rows = rows.iloc[:2500]
    found = compare.compare_models(
        config.replace(target="return", class_balancing_method="none"),
        ["gradient_boosting", "random_forest"],
        train=trainer_of(rows),
    )
    assert found["loss"] == "squared error" and len(found["models"]) == 2
    squares = {}
    for entry in found["models"]:
        (path,) = Path(entry["folder"]).glob("predictions_*.parquet")
        table = pd.read_parquet(path).query("part == 'test'")
        squares[entry["model"]] = ((table["actual"] - table["predicted"]) ** 2).mean()
        assert entry["loss"] == pytest.approx(squares[entry["model"]])
    best, other = found["models"]
    difference = squares[other["model"]] - squares[best["model"]]
    assert other["against_best"]["estimate"] == pytest.approx(difference)


def test_command_line_writes_table_and_picture(tmp_path, config, frame, capsys):
    frame.to_feather(tmp_path / "rows.feather")
    words = ["--training-file", str(tmp_path / "rows.feather")]
    named = "pair", "sequence_length", "future_window", "outputs_dir", "timeframe"
    for name in named:
        words += [f"--{name.replace('_', '-')}", str(getattr(config, name))]
    words += ["--undersampling-min-samples", "100", "--num-trees", "5"]
    words += ["--report", "light"]
    models = ["--compare", "logistic", "random_forest"]
    assert commands.train([*words, *models]) == 0
    (folder,) = (tmp_path / "outputs" / "comparisons" / "TESTUSDT").iterdir()
    assert {path.name for path in folder.iterdir()} == {
        "comparison.csv",
        "comparison.json",
        "comparison.png",
    }
    written = json.loads((folder / "comparison.json").read_text())
    assert written["best"] in ("logistic", "random_forest")
    capsys.readouterr()
    assert commands.train([*words, "--compare", "logistic", "nosuch"]) == 2
    assert "nosuch" in capsys.readouterr().err


def test_holm_by_hand():
    # 4, 3, 2, 1 tests are left: 0.04, 0.03 -> 0.04, 0.06, 0.5
    adjusted = significance.adjust_p_values([0.01, 0.5, 0.03, 0.01])
    np.testing.assert_allclose(adjusted, [0.04, 0.5, 0.06, 0.04])
    assert list(significance.adjust_p_values([0.7, 0.9])) == [1.0, 1.0]


# What a comparison says, held against the runs themselves


def outcome(config, folder):
    return series.Outcome(config=config, folder=folder, error=None, seconds=1.0)


@pytest.fixture(scope="module")
def finished(frame, tmp_path_factory):
    """Three finished runs, of which one fits noise and is clearly the worst."""
    outputs = str(tmp_path_factory.mktemp("finished"))
    config = Config(**FIELDS | {"outputs_dir": outputs})
    runs = {
        "logistic": config.replace(model="logistic"),
        "eager": config.replace(model="gradient_boosting", max_tabular_targets=200),
        "forest": config.replace(model="random_forest"),
    }
    return {name: outcome(run, trainer_of(frame)(run)) for name, run in runs.items()}


def read_report(folder):
    return json.loads((folder / "confusion_matrix_report.json").read_text())


def row_loss(folder):
    """Loss of each test row, its index."""
    table = pd.read_parquet(next(folder.glob("predictions_*.parquet")))
    table = table[table["part"] == "test"].set_index("row")
    columns = [f"probability_{name}" for name in ("short", "hold", "long")]
    said = table[columns].to_numpy(np.float64)[np.arange(len(table)), table["label"]]
    return pd.Series(-np.log(said), index=table.index)


def test_a_comparison_has_each_runs_own_test_scores(finished):
    found = compare.compare_runs(finished)
    for entry in found["models"]:
        test = read_report(finished[entry["model"]].folder)["test"]
        assert entry["loss"] == test["log_loss"]
        for name, key in (
            ("skill", "skill_vs_train_prior"),
            ("skill_vs_trailing", "skill_vs_trailing_7d"),
            ("activity", "activity_skill_vs_train_prior"),
            ("direction", "direction_skill_vs_train_prior"),
        ):
            assert entry[name]["estimate"] == test["intervals"][key]["estimate"], name
        assert entry["direction_p_value"] == test["direction_p_value"]
        assert entry["trading"]["num_trades"] == test["trading"]["num_trades"]
    assert found["test"]["num_samples"] == test["num_samples"]
    assert found["test"]["last"] == test["last"]


def test_the_best_has_the_lowest_loss_and_stands_first(finished):
    found = compare.compare_runs(finished)
    losses = [entry["loss"] for entry in found["models"]]
    assert losses == sorted(losses) and losses[0] < losses[-1]
    assert found["best"] == found["models"][0]["model"] != "eager"
    assert found["models"][0]["against_best"] is None


def test_differences_from_the_best_are_paired_by_row(finished):
    found = compare.compare_runs(finished)
    best, *others = found["models"]
    first = row_loss(finished[best["model"]].folder)
    for entry in others:
        difference = row_loss(finished[entry["model"]].folder) - first
        assert difference.notna().all()
        length = Length(**found["test"]["length"])
        expected = cosine_interval(difference, length=length)
        for key in ("estimate", "low", "high"):
            assert entry["against_best"][key] == pytest.approx(expected[key], rel=1e-5)
        assert entry["loss"] - best["loss"] == pytest.approx(
            entry["against_best"]["estimate"], rel=1e-5
        )


def test_p_values_against_the_best_are_adjusted_for_all_of_them(finished):
    found = compare.compare_runs(finished)
    against = [entry["against_best"] for entry in found["models"][1:]]
    low, high = sorted(each["p_value"] for each in against)
    adjusted = sorted(each["adjusted_p_value"] for each in against)
    assert adjusted == pytest.approx([min(1, 2 * low), max(min(1, 2 * low), high)])
    assert adjusted[0] > low


@pytest.mark.parametrize("kind", ["time", "truth"])
def test_equally_many_rows_of_other_data_are_refused(finished, frame, kind):
    other = frame.copy()
    if kind == "time":
        other["timestamp"] += pd.Timedelta(days=7)
    else:
        other.loc[2400, "label"] = (other.loc[2400, "label"] + 1) % 3
    run = finished["logistic"].config.replace(seed=7)
    again = outcome(run, trainer_of(other)(run))
    with pytest.raises(utils.DataError, match=f"again: .* rows that differ in {kind}"):
        compare.compare_runs({"forest": finished["forest"], "again": again})


def test_data_that_every_model_would_refuse_end_a_comparison(config):
    trained = []

    def train(run):
        trained.append(run.model)
        raise utils.DataError("no rows")

    with pytest.raises(utils.DataError, match="no rows"):
        compare.compare_models(config, ["logistic", "random_forest"], train=train)
    assert trained == ["logistic"]


def test_a_defect_of_one_run_is_reported_and_the_others_go_on(config, tmp_path):
    def train(run):
        if run.model == "logistic":
            raise ZeroDivisionError("division by zero")
        return tmp_path

    configs = compare.model_configs(config, ["logistic", "random_forest"])
    first, second = series.train_all(configs, train).values()
    assert (first.folder, first.error) == (None, "ZeroDivisionError: division by zero")
    assert (second.folder, second.error) == (tmp_path, None)


def test_runs_that_failed_do_not_count_as_finished(config):
    def train(run):
        if run.model == "random_forest":
            raise utils.Interrupted(2, "")
        raise utils.ConfigError("no luck")

    configs = compare.model_configs(config, ["logistic", "random_forest"])
    with pytest.raises(utils.Interrupted, match="0 of 2 runs are finished"):
        series.train_all(configs, train)


@pytest.mark.parametrize(("codes", "expected"), [((65, 65), 65), ((65, 2), 70)])
def test_runs_that_failed_alike_end_with_their_own_code(codes, expected):
    entries = [
        {"model": str(k), "status": "failed", "exit_code": code}
        for k, code in enumerate(codes)
    ]
    with pytest.raises(series.FailedRunsError, match="2 of 3 .* 0, 1") as caught:
        series.require_success([*entries, {"model": "2", "status": "completed"}])
    assert caught.value.exit_code == expected


def test_equal_rows_with_other_features_are_refused(config, frame, tmp_path):
    changed = frame.assign(volume_change=0.0)
    outcomes = {}
    for name, rows in (("logistic", frame), ("random_forest", changed)):
        path = tmp_path / f"{name}.feather"
        rows.to_feather(path)
        run = config.replace(model=name, training_file=str(path))
        folder = StandaloneTrainer(run).run_training()
        outcomes[name] = outcome(run, folder)
    with pytest.raises(utils.DataError, match="expected the training file of logistic"):
        compare.compare_runs(outcomes)


def test_runs_of_an_executor_are_those_of_this_process(tmp_path, config, frame):
    """Their tasks go through JSON, here to this process."""
    frame.to_feather(tmp_path / "rows.feather")
    config = config.replace(training_file=str(tmp_path / "rows.feather"), num_threads=1)
    models, needed = ["logistic", "gradient_boosting"], []
    alone = compare.compare_models(config, models, train=trainer_of(None))

    class Noting(SerialExecutor):
        def submit(self, task):
            needed.append(task.memory_bytes)
            super().submit(task)

    given = {"train": functools.partial(train_run), "executor": Noting()}
    there = compare.compare_models(config, models, **given)
    assert needed == [4 * len(frame) * 8 * 4] * 2  # four arrays of float32
    for one, other in zip(alone["models"], there["models"], strict=True):
        assert one["folder"] != other["folder"]
        assert (one["model"], one["loss"]) == (other["model"], other["loss"])
    lost = config.replace(training_file=str(tmp_path / "none.feather"))
    ended = series.train_all({"a": lost}, **given)["a"]
    assert (ended.folder, ended.exit_code, needed[2:]) == (None, 66, [0])
    assert "none.feather" in ended.error


def test_workers_share_the_cores_unless_threads_are_given(config, monkeypatch):
    monkeypatch.setattr(utils, "available_cores", lambda: 8)
    workers = series.open_workers(3)
    assert series.share_cores(config, None).num_threads is None
    assert series.share_cores(config, workers).num_threads == 2
    given = config.replace(num_threads=5)
    assert series.share_cores(given, workers).num_threads == 5
    with pytest.raises(utils.ConfigError, match="a worker or more"):
        series.open_workers(0)


# Two settings of one family; finished runs as they are


def test_settings_are_compared_by_the_names_of_their_files(tmp_path, config):
    (tmp_path / "base.yaml").write_text("num_trees: 50\nlearning_rate: 0.5\n")
    (tmp_path / "few.yaml").write_text("num_trees: 5\n")
    (tmp_path / "deep.yaml").write_text("max_depth: 9\nlearning_rate: 0.1\n")
    words = ["--config", tmp_path / "base.yaml", "--model", "lightgbm", "--seed", "7"]
    words += ["--compare-configs", tmp_path / "few.yaml", tmp_path / "deep.yaml"]
    parsed, base = options.parse([*map(str, words)])
    runs = compare.model_configs(base, parsed.compare)
    assert {name: (x.num_trees, x.learning_rate) for name, x in runs.items()} == {
        "few": (5, 0.5),
        "deep": (50, 0.1),
    }
    assert {(x.model, x.seed) for x in runs.values()} == {("lightgbm", 7)}
    with pytest.raises(utils.ConfigError) as refused:
        options.parse([*map(str, words), "--num-trees", "9"])
    assert str(refused.value) == (
        f"{tmp_path}/few.yaml: expected a setting that counts. Received: num_trees, "
        "which flags set for every run. Leave them out."
    )
    (tmp_path / "deep.yaml").write_text("max_depht: 9\n")
    with pytest.raises(utils.ConfigError, match="deep.yaml: .*\n.*max_depht"):
        options.parse([*map(str, words)])


def test_settings_that_answer_other_questions_are_refused_before_training(config):
    runs = {
        "a": config.replace(model="logistic"),
        "b": config.replace(model="logistic", long_tp_pct=2.0, test_split=0.3),
        "c": config.replace(model="logistic"),
    }
    with pytest.raises(utils.ConfigError) as refused:
        compare.compare_models(
            config, runs, train=lambda config: pytest.fail("trained")
        )
    lines = str(refused.value).splitlines()[1:]
    assert lines == [
        "  - c: expected other settings than those of a",
        f"  - long_tp_pct: {config.long_tp_pct} of a, 2.0 of b",
        f"  - test_split: {config.test_split} of a, 0.3 of b",
    ]


def test_finished_runs_are_compared_without_training(tmp_path):
    cells = [
        finish(tmp_path, losses=(1.0, loss), num_trees=number)
        for number, loss in ((5, 1.0), (9, 0.9))
    ]
    folder = compare.compare_artifacts([cell["folder"] for cell in cells])
    assert folder.parent == tmp_path / "comparisons" / "AAAUSDT"
    found = json.loads((folder / "comparison.json").read_text())
    assert found["best"] == "logistic num_trees 9"
    other = found["models"][1]
    assert other["model"] == "logistic num_trees 5"
    assert other["against_best"]["estimate"] == pytest.approx(0.1, abs=0.01)
    cells.append(finish(tmp_path, seed=2, num_trees=9))
    folder = compare.compare_artifacts([cell["folder"] for cell in cells])
    found = json.loads((folder / "comparison.json").read_text())
    assert {entry["model"] for entry in found["models"]} == {
        "logistic num_trees 5 seed 1",
        "logistic num_trees 9 seed 1",
        "logistic num_trees 9 seed 2",
    }


@pytest.mark.parametrize(
    "changes, error, match",
    [
        (
            {"sequence_length": 30, "skipped_rows": 5},
            utils.DataError,
            "sequence_length: 120 of logistic, 30 of lightgbm. Train",
        ),
        ({"first_day": 1}, utils.DataError, "differ in time. Train again"),
        (
            {"long_tp_pct": 2.0},
            utils.ConfigError,
            "same question. Received:\n  - long_tp_pct: 1.0 of ",
        ),
    ],
)
def test_finished_runs_that_differ_in_rows_are_refused(tmp_path, changes, error, match):
    cells = [finish(tmp_path), finish(tmp_path, model="lightgbm", **changes)]
    with pytest.raises(error, match=match):
        compare.compare_artifacts([cell["folder"] for cell in cells])


def test_comparing_one_run_is_refused(tmp_path, capsys):
    folder = finish(tmp_path)["folder"]
    assert experiments(["compare", folder]) == 2
    assert "two runs or more" in capsys.readouterr().err
    assert experiments(["compare", folder, str(tmp_path / "none")]) == 66
