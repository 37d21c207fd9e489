"""Comparisons of model families: identical rows, honest tests, nothing lost."""

import json

import numpy as np
import pytest
from conftest import TINY, make_own_frame

import compare
import comparison_report
import run_series
import significance
import utils
from config import Config
from trainer import StandaloneTrainer

FIELDS = TINY | {
    "baseline_model": False,
    "importance_windows": None,
    "num_trees": 5,
    "class_balancing_method": "none",
}


@pytest.fixture
def config(tmp_path):
    return Config(**FIELDS | {"outputs_dir": str(tmp_path / "outputs")})


@pytest.fixture(scope="module")
def frame():
    return make_own_frame(2500)


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


def test_a_model_that_fails_is_a_row_and_the_others_go_on(config, frame):
    def train(run):
        if run.model == "logistic":
            raise utils.ConfigError("no luck")
        return trainer_of(frame)(run)

    outcomes = run_series.train_all(
        compare.model_configs(config, ["logistic", "random_forest"]), train
    )
    found = compare.compare_runs(outcomes)
    by_name = {entry["model"]: entry for entry in found["models"]}
    assert by_name["logistic"] == {
        "model": "logistic",
        "status": "failed",
        "error": "no luck",
    }
    assert found["best"] == "random_forest"
    with pytest.raises(run_series.FailedRunsError, match="logistic"):
        run_series.require_success(found["models"])


def test_a_full_disk_ends_a_comparison(config):
    def train(run):
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        run_series.train_all(compare.model_configs(config, ["logistic", "lstm"]), train)


def test_an_interruption_says_how_to_go_on(config, frame):
    def train(run):
        if run.model == "random_forest":
            raise utils.Interrupted(2, "")
        return trainer_of(frame)(run)

    configs = compare.model_configs(config, ["logistic", "random_forest"])
    with pytest.raises(utils.Interrupted, match="1 of 2 runs are finished"):
        run_series.train_all(configs, train)


def test_other_rows_are_refused(config, frame):
    outcomes = {}
    for name, rows in (("logistic", 2500), ("random_forest", 2400)):
        run = config.replace(model=name)
        folder = trainer_of(frame.iloc[:rows])(run)
        outcomes[name] = run_series.Outcome(
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
    rows["target"] = np.log(rows["close"].shift(-5) / rows["close"])
    rows = rows.iloc[:2500]
    found = compare.compare_models(
        config.replace(target="return", class_balancing_method="none"),
        ["gradient_boosting", "random_forest"],
        train=trainer_of(rows),
    )
    assert found["loss"] == "squared error" and len(found["models"]) == 2


def test_command_line_writes_table_and_picture(tmp_path, config, frame, capsys):
    import trainer

    frame.to_feather(tmp_path / "rows.feather")
    words = ["--training-file", str(tmp_path / "rows.feather")]
    for name in ("pair", "sequence_length", "future_window", "outputs_dir"):
        words += [f"--{name.replace('_', '-')}", str(getattr(config, name))]
    words += ["--undersampling-min-samples", "100", "--num-trees", "5"]
    words += ["--no-baseline-model", "--importance-windows", "none"]
    models = ["--compare", "logistic", "random_forest"]
    assert trainer.main([*words, *models]) == 0
    (folder,) = (tmp_path / "outputs" / "comparisons" / "TESTUSDT").iterdir()
    assert {path.name for path in folder.iterdir()} == {
        "comparison.csv",
        "comparison.json",
        "comparison.png",
    }
    written = json.loads((folder / "comparison.json").read_text())
    assert written["best"] in ("logistic", "random_forest")
    capsys.readouterr()
    assert trainer.main([*words, "--compare", "logistic", "nosuch"]) == 2
    assert "nosuch" in capsys.readouterr().err


def test_holm_by_hand():
    # 4, 3, 2, 1 tests are left: 0.04, 0.03 -> 0.04, 0.06, 0.5
    adjusted = significance.adjust_p_values([0.01, 0.5, 0.03, 0.01])
    np.testing.assert_allclose(adjusted, [0.04, 0.5, 0.06, 0.04])
    assert list(significance.adjust_p_values([0.7, 0.9])) == [1.0, 1.0]
