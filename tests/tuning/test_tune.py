"""What a study ends with: a winner that is an ordinary run, the default, an error."""

import json
from pathlib import Path

import numpy as np
import pytest
from world.classes import hours
from world.frames import TINY, make_own_frame
from world.pages import PageReader, exact

import utils
from config import Config
from executors.tasks import SerialExecutor
from experiments.series import FailedRunsError
from tuning import trial
from tuning.__main__ import main
from tuning.search import TuneConfig
from tuning.tune import tune

FIELDS = TINY | {
    "model": "logistic",
    "timeframe": "1h",
    "tabular_inputs": "last_row",
    "num_threads": 1,
    "report": "light",
    "baseline_model": False,
    "importance_windows": None,
    "class_balancing_method": "none",
}
NUM_ROWS = 2500
SPACE = {"logistic_penalty": {"low": 1e-3, "high": 1e3, "log": True}}
CLIPPED = SPACE | {"clip_limit": [3.0, 5.0]}


@pytest.fixture
def base(tmp_path):
    """A run on labels that the first feature knows something of."""
    label = np.random.default_rng(3).integers(0, 3, NUM_ROWS)
    frame = make_own_frame(NUM_ROWS, label=label)
    frame["timestamp"] = hours(NUM_ROWS)
    frame["high_change"] += 0.5 * (label - 1)
    path = tmp_path / "mine.feather"
    frame.to_feather(path)
    places = {"training_file": str(path), "outputs_dir": str(tmp_path / "outputs")}
    return Config(**FIELDS | places)


@pytest.fixture
def ends(monkeypatch):
    """Makes trials a formula of their point; call number -> error that ends it."""
    calls, ends = [], {}

    def run_trial(values):
        config = values["config"]
        calls.append(config)
        if (end := ends.get(len(calls))) is not None:
            raise end
        distance = np.log10(config["logistic_penalty"] / 0.05)
        value = 1 + distance**2 / 100 + config["clip_limit"] / 1e3
        return {"state": "complete", "value": float(value), "folds": []}

    monkeypatch.setattr(trial, "run_trial", run_trial)
    return ends


def reported(folder):
    return json.loads((folder / "confusion_matrix_report.json").read_text())


def test_the_winner_is_an_ordinary_run_that_says_what_it_is_worth(base, ends):
    ends[4] = utils.DataError("expected better data")
    options = TuneConfig(n_trials=6, space=CLIPPED, study="s")
    drawn = base.replace(report="full")
    found = tune(drawn, options, executor=SerialExecutor())
    default, winner = map(Path, found["folders"].values())
    assert winner.parent == base.model_dir and default.parent == winner.parent
    tuning = reported(winner)["tuning"]
    trials = tuning["trials"]
    best = min((x for x in trials if x["value"]), key=lambda x: x["value"])
    assert [x["state"] for x in trials].count("fail") == 1 and len(trials) == 6
    assert tuning["best"] == best["number"] and tuning["best_value"] == best["value"]
    assert tuning["changes"] == best["fields"]
    metadata = json.loads(next(winner.glob("metadata_*.json")).read_text())
    config = metadata["config"]
    assert {name: config[name] for name in best["fields"]} == best["fields"]
    assert sum(tuning["importance"].values()) == pytest.approx(1)
    # Paired by row: the difference of both reports' own losses.
    losses = [reported(x)["test"]["log_loss"] for x in (winner, default)]
    against = tuning["against_default"]
    assert against["estimate"] == pytest.approx(losses[0] - losses[1])
    assert 0 <= against["p_value"] <= 1
    # Six points and the default looked at test, as far as a deflation goes.
    assert reported(winner)["trials"]["num_trials"] == tuning["num_counted"] == 7
    assert "tuning" not in reported(default)
    page = PageReader((winner / "report.html").read_text())
    shown = {key: value for key, value, _ in page.numbers if key.startswith("tuning.")}
    assert shown == {key: exact(reported(winner), key) for key in shown}
    assert "tuning" in page.sections and "tuning.trials.5.value" in shown
    assert "expected better data" in page.text
    assert json.loads((base.model_dir.parents[2] / "studies/s/tuning.json").read_text())


def test_the_default_stays_where_no_trial_is_better(base, ends):
    best = base.replace(logistic_penalty=0.05, clip_limit=1.0)
    options = TuneConfig(n_trials=2, space=SPACE, study="s")
    found = tune(best, options, executor=SerialExecutor())
    ((name, folder),) = found["folders"].items()
    assert name == "default" and found["best"] is None and found["changes"] == {}
    tuning = reported(Path(folder))["tuning"]
    assert tuning["against_default"] is None
    assert tuning["statement"].startswith("no trial was better than the default")


def test_where_every_trial_fails_one_error_says_why(base, ends):
    ends |= {k: utils.DataError("expected better data") for k in (2, 3)}
    options = TuneConfig(n_trials=2, space=SPACE, study="s")
    with pytest.raises(FailedRunsError, match="every trial failed:\n.*better") as error:
        tune(base, options, executor=SerialExecutor())
    assert error.value.exit_code == 65
    ends[4] = utils.MissingInputError("no file")
    options = TuneConfig(n_trials=2, space=SPACE, study="t")
    with pytest.raises(FailedRunsError, match="the default failed.*no file") as error:
        tune(base, options, executor=SerialExecutor())
    assert error.value.exit_code == 66


def test_time_that_is_up_before_a_trial_ended_is_no_failure(base, ends):
    options = TuneConfig(n_trials=2, space=SPACE, study="s", timeout_minutes=1e-9)
    with pytest.raises(utils.Interrupted, match="--study s --resume") as stop:
        tune(base, options, executor=SerialExecutor())
    assert utils.exit_code_of(stop.value) == 143


def test_the_command_ends_with_its_code(base, capsys):
    places = ["--training-file", base.training_file, "--outputs-dir", base.outputs_dir]
    words = ["--model", "logistic", *places, "--n-trials", "1"]
    words += ["--timeframe", "1h", "--sequence-length", "8", "--future-window", "5"]
    assert main([*words, "--objective", "accuracy"]) == 2
    assert "expected one of cv_log_loss" in capsys.readouterr().err
    assert main([*words, "--n-trials", "0"]) == 2
    assert main([*words, "--study", "s", "--resume"]) == 66


def test_a_name_is_enough_to_go_on_and_nothing_is_trained_twice(
    base, ends, tmp_path, capsys
):
    (tmp_path / "space.yaml").write_text("logistic_penalty: {low: 0.05, high: 0.15}")
    path = tmp_path / "run.yaml"
    path.write_text(json.dumps(base.to_dict()))
    ends[3] = utils.Interrupted(15)  # in the second trial
    words = ["--config", path, "--space", tmp_path / "space.yaml", "--n-trials", "4"]
    assert main([*map(str, words), "--study", "s"]) == 143
    again = ["--study", "s", "--resume", "--outputs-dir", base.outputs_dir]
    assert " ".join(again) in capsys.readouterr().err
    assert main(again) == 0
    study = Path(base.outputs_dir, "studies/s")
    found = json.loads((study / "tuning.json").read_text())
    assert len(found["trials"]) == 4 and found["best"] is not None
    runs = sorted(base.model_dir.glob("2*"))
    assert [str(x) for x in runs] == sorted(found["folders"].values())
    assert main(again) == 0
    assert sorted(base.model_dir.glob("2*")) == runs
    assert main([*again, "--seed", "3"]) == 2
    assert "seed: began with 42, now 3" in capsys.readouterr().err
