"""A study: no trial reads test, it goes on after a stop, a winner is any other run."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from world.classes import hours
from world.frames import TINY, make_own_frame

import utils
from candles.timestamps import Timeline
from config import Config
from executors.tasks import SerialExecutor
from experiments.series import FailedRunsError
from preprocessing.parts import chronological_ranges, spans_of
from trainer import StandaloneTrainer
from tuning import trial
from tuning.__main__ import main
from tuning.search import Search, TuneConfig
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


@pytest.fixture(autouse=True)
def freed_at_leisure(monkeypatch):
    """A collection of all that tests hold takes longer than a fold of theirs."""
    monkeypatch.setattr(utils, "return_freed_memory", lambda **_: None)


@pytest.fixture(scope="module")
def frame():
    """Labels that the first feature knows something of."""
    rng = np.random.default_rng(3)
    label = rng.integers(0, 3, NUM_ROWS)
    frame = make_own_frame(NUM_ROWS, label=label)
    frame["timestamp"] = hours(NUM_ROWS)
    frame["high_change"] += 2 * (label - 1)
    frame["long_return"] = np.where(label == 2, 0.02, -0.01)
    frame["short_return"] = np.where(label == 0, 0.02, -0.01)
    return frame


@pytest.fixture
def base(frame, tmp_path):
    return config_of(frame, tmp_path)


def config_of(frame, folder):
    folder.mkdir(exist_ok=True)
    path = folder / "mine.feather"
    frame.to_feather(path)
    places = {"training_file": str(path), "outputs_dir": str(folder / "outputs")}
    return Config(**FIELDS | places)


def train(config):
    return StandaloneTrainer(config).run_training()


def search(base, **options):
    """Returns the trials of a study, the default's value, and the study's folder."""
    options = {"space": SPACE, "study": "s"} | options
    found = Search(base, TuneConfig(**options), SerialExecutor())
    with found:
        found.run()
        return found.study.trials(), found.default_value, found.folder


def poisoned(frame, base):
    """The frame with rows of the test part that say the contrary, or nonsense."""
    timeline = Timeline.from_array(frame["timestamp"], bar_seconds=3600)
    (span,) = spans_of(chronological_ranges(timeline, base)["test"])
    test = slice(*span)
    rng = np.random.default_rng(9)
    other, size = frame.copy(), len(frame[test])
    assert size == 250
    for name in frame:
        if (kind := frame[name].dtype).kind == "f":
            other.loc[test.start :, name] = 1e3 * rng.random(size).astype(kind)
    other.loc[test.start :, "label"] = np.int8(1)
    other.loc[test.start :, ["long_exit", "short_exit"]] = np.int8(2)
    return other


@pytest.mark.parametrize("objective", trial.OBJECTIVES)
def test_a_trial_never_reads_test(frame, tmp_path, objective):
    base = config_of(frame, tmp_path / "a")
    other = config_of(poisoned(frame, base), tmp_path / "b")
    options = {"n_trials": 2, "objective": objective}
    trials, default, _ = search(base, **options)
    poisoned_trials, poisoned_default, _ = search(other, **options)
    values = [x["value"] for x in trials]
    assert [x["value"] for x in poisoned_trials] == values
    assert poisoned_default == default and len({*values, default}) > 1


# How a study goes on. Trials are a formula of their point.


@pytest.fixture
def points(monkeypatch):
    """Makes trials a formula, and lists the points tried; `ends` says how some end."""
    tried, ends = [], {}

    def run_trial(values):
        config = values["config"]
        tried.append((config["logistic_penalty"], config["clip_limit"]))
        if (end := ends.pop(len(tried), ends.get("all"))) is not None:
            raise end
        distance = np.log10(config["logistic_penalty"] / 0.05)
        value = 1 + distance**2 / 100 + config["clip_limit"] / 1e3
        return {"state": "complete", "value": float(value), "folds": []}

    monkeypatch.setattr(trial, "run_trial", run_trial)
    return SimpleNamespace(tried=tried, ends=ends)


@pytest.mark.parametrize(
    ("stop", "n_trials"),
    [(utils.Interrupted(15), 13), (SystemExit("killed"), 4)],
    ids=["signal", "killed"],
)
def test_a_study_goes_on_as_one_that_never_stopped(
    frame, tmp_path, points, stop, n_trials
):
    """Also beyond the first ten points, which are random."""
    options = {"space": CLIPPED, "n_trials": n_trials}
    whole, default, _ = search(config_of(frame, tmp_path / "a"), **options)
    never_stopped = points.tried[:]
    assert len({*never_stopped}) == 1 + n_trials  # the default is tried first
    points.tried.clear()
    points.ends[n_trials] = stop
    base = config_of(frame, tmp_path / "b")
    with pytest.raises(type(stop)):
        search(base, **options)
    trials, again, _ = search(base, **options, resume=True)
    # The last but one was cut off: it is tried again, nothing else.
    assert points.tried == never_stopped[:n_trials] + never_stopped[n_trials - 1 :]
    keys = ("number", "state", "value", "fields")
    assert [[x[k] for k in keys] for x in trials] == [
        [x[k] for k in keys] for x in whole
    ]
    assert again == default


def test_a_point_that_was_cut_off_while_it_was_drawn_fails(base, points):
    def cut(*_):
        raise SystemExit("killed")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("optuna.trial.Trial._suggest", cut)
        with pytest.raises(SystemExit):
            search(base, space=CLIPPED, n_trials=3)
    trials, _, _ = search(base, space=CLIPPED, n_trials=3, resume=True)
    assert [(x["number"], x["state"]) for x in trials] == [
        (1, "complete"),
        (2, "complete"),
        (3, "complete"),
    ]
    assert len({x["value"] for x in trials}) == 3


def test_a_failed_trial_is_kept_with_its_error(base, points):
    points.ends[3] = utils.DataError("expected better data")
    trials, _, _ = search(base, n_trials=4)
    assert [x["state"] for x in trials] == ["complete", "fail", "complete", "complete"]
    failed = trials[1]
    assert failed["error"] == "expected better data" and failed["exit_code"] == 65
    assert failed["value"] is None


def test_where_every_trial_fails_one_error_says_why(base, points):
    points.ends |= {k: utils.DataError("expected better data") for k in (2, 3)}
    options = TuneConfig(n_trials=2, space=SPACE, study="s")
    with pytest.raises(FailedRunsError, match="every trial failed:\n.*better") as error:
        tune(base, options, executor=SerialExecutor(), train=train)
    assert error.value.exit_code == 65
    points.ends["all"] = utils.MissingInputError("no file")
    options = TuneConfig(n_trials=2, space=SPACE, study="t")
    with pytest.raises(FailedRunsError, match="the default failed.*no file") as error:
        tune(base, options, executor=SerialExecutor(), train=train)
    assert error.value.exit_code == 66


def test_a_trial_that_is_behind_is_pruned_and_leaves_no_run(base):
    trials, _, folder = search(base, n_trials=9)
    states = [x["state"] for x in trials]
    assert states[:5] == ["complete"] * 5 and "pruned" in states
    stopped = trials[states.index("pruned")]
    assert stopped["value"] is None and 1 <= stopped["num_steps"] < 3
    assert stopped["error"] is None
    assert not [*folder.glob("trials/*/runs")]
    assert len([*folder.glob("trials/*/prune")]) == states.count("pruned")


# The winner


def reported(folder):
    return json.loads((folder / "confusion_matrix_report.json").read_text())


def test_the_winner_is_an_ordinary_run_that_says_what_it_is_worth(base, points):
    points.ends[4] = utils.DataError("expected better data")
    options = TuneConfig(n_trials=6, space=CLIPPED, study="s")
    found = tune(base, options, executor=SerialExecutor(), train=train)
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
    assert json.loads((base.model_dir.parents[2] / "studies/s/tuning.json").read_text())


def test_the_default_stays_where_no_trial_is_better(base, points):
    best = base.replace(logistic_penalty=0.05, clip_limit=1.0)
    options = TuneConfig(n_trials=2, space=SPACE, study="s")
    found = tune(best, options, executor=SerialExecutor(), train=train)
    ((name, folder),) = found["folders"].items()
    assert name == "default" and found["best"] is None and found["changes"] == {}
    tuning = reported(Path(folder))["tuning"]
    assert tuning["against_default"] is None
    assert tuning["statement"].startswith("no trial was better than the default")


# Words that are none


def test_wrong_words_are_refused(base, points, monkeypatch):
    with pytest.raises(utils.ConfigError, match="Did you mean 'cv_log_loss'"):
        TuneConfig(objective="cv_logloss")
    with pytest.raises(utils.MissingInputError, match="expected the study s in"):
        search(base, resume=True)
    with pytest.raises(utils.MissingInputError, match="study of this run and space"):
        search(base, study=None, resume=True)
    search(base, n_trials=1)
    with pytest.raises(utils.ConfigError, match="there is this study already"):
        search(base, n_trials=1)
    with pytest.raises(utils.ConfigError, match="space: not the one that it began"):
        search(base, space=CLIPPED, resume=True)
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(utils.DependencyError, match="requirements-tuning.txt"):
        search(base, study="t")


def test_the_command_ends_with_its_code(base, capsys):
    places = ["--training-file", base.training_file, "--outputs-dir", base.outputs_dir]
    words = ["--model", "logistic", *places, "--n-trials", "1"]
    words += ["--timeframe", "1h", "--sequence-length", "8", "--future-window", "5"]
    assert main([*words, "--objective", "accuracy"]) == 2
    assert "expected one of cv_log_loss" in capsys.readouterr().err
    assert main([*words, "--study", "s", "--resume"]) == 66


def test_trees_take_no_callbacks(base):
    with pytest.raises(utils.ConfigError, match="model 'logistic', which has no epoch"):
        StandaloneTrainer(base).run_training(callbacks=[object()])
