"""A search goes on after anything: points, failures and what is stopped are kept."""

import sys

import pytest
from world.frames import TINY, make_own_frame

import utils
from config import Config
from executors.tasks import Finished
from tuning import trial
from tuning.search import Search, TuneConfig
from tuning.spaces import read_space
from tuning.study import Study

SPACE = {"logistic_penalty": {"low": 0.01, "high": 1.0}, "clip_limit": [3.0, 5.0]}


class Driven:
    """An executor that answers by a function instead of training. An `Executor`."""

    slots = 1

    def __init__(self, answer):
        self.answer, self.waiting, self.asked = answer, [], []

    def submit(self, task):
        self.asked.append(task.name)
        self.waiting.append(task)

    def wait(self, timeout):
        task = self.waiting.pop()
        return [Finished(name=task.name, **self.answer(task))]

    def stop(self):
        self.waiting.clear()


def value_of(task):
    config = task.values["config"]
    return {"result": {"value": config["logistic_penalty"], "folds": []}}


@pytest.fixture
def base(tmp_path):
    make_own_frame(1500).to_feather(tmp_path / "file.feather")
    fields = {"model": "logistic", "training_file": str(tmp_path / "file.feather")}
    return Config(**TINY | fields | {"outputs_dir": str(tmp_path / "outputs")})


def searched(base, answer, n_trials, **options):
    """Returns the trials of a study, what was asked for, and how it ended."""
    executor, ended = Driven(answer), None
    options = {"space": SPACE, "study": "one"} | options
    search = Search(base, TuneConfig(n_trials=n_trials, **options), executor)
    with search:
        try:
            search.run()
        except BaseException as error:
            ended = error
        return search.study.trials(), executor.asked, ended


def points(trials):
    return [tuple(each["suggested"].values()) for each in trials]


def test_a_study_that_was_killed_draws_as_one_that_never_stopped(base, tmp_path):
    """Also beyond the first ten points, which are random."""
    whole, asked, ended = searched(base, value_of, 12, study="whole")
    assert ended is None and asked == ["default", *(f"{k:04d}" for k in range(12))]

    def killed(task):
        if task.name == "0010":
            raise KeyboardInterrupt  # nothing is told of it
        return value_of(task)

    _, _, ended = searched(base, killed, 12)
    assert isinstance(ended, KeyboardInterrupt)
    trials, asked, ended = searched(base, value_of, 12, resume=True)
    assert ended is None and asked == ["0010", "0011"]
    assert points(trials) == points(whole) and len(set(points(trials))) == 12
    assert [x["value"] for x in trials] == [x["value"] for x in whole]


def test_a_study_that_was_killed_while_it_drew_a_point_goes_on(base):
    with pytest.MonkeyPatch.context() as patch:
        # Of three points the first is cut off.
        patch.setattr("optuna.trial.Trial._suggest", lambda *_: 1 / 0)
        _, _, ended = searched(base, value_of, 3)
    assert isinstance(ended, ZeroDivisionError)
    trials, asked, ended = searched(base, value_of, 3, resume=True)
    assert ended is None and asked == ["0001", "0002", "0003"]
    assert [(x["number"], x["state"]) for x in trials] == [
        (number, "complete") for number in (1, 2, 3)
    ]


def test_a_failed_trial_is_one_with_its_error_and_the_others_go_on(base):
    def fails(task):
        if task.name == "0001":
            return {"error": "expected more rows", "exit_code": 65}
        return value_of(task)

    trials, _, ended = searched(base, fails, 3)
    assert ended is None
    states = [(x["state"], x["error"], x["exit_code"]) for x in trials]
    assert states[1] == ("fail", "expected more rows", 65)
    assert [state for state, _, _ in states] == ["complete", "fail", "complete"]
    assert trials[1]["value"] is None


def test_another_run_space_or_name_does_not_go_on_with_a_study(base):
    searched(base, value_of, 1)
    for changed, options, words in (
        (base, {}, "there is this study already"),
        (base.replace(clip_limit=7.0), {"resume": True}, "clip_limit: began with 10"),
        (base, {"resume": True, "objective": "val_log_loss"}, "objective: not the one"),
    ):
        with pytest.raises(utils.ConfigError, match=words):
            searched(changed, value_of, 1, **options)
    with pytest.raises(utils.MissingInputError, match="the study two"):
        searched(base, value_of, 1, study="two", resume=True)
    other = {"study": None, "objective": "cv_net", "resume": True}
    with pytest.raises(utils.MissingInputError, match="study of this run and space"):
        searched(base, value_of, 1, **other)


def test_without_a_name_the_same_search_is_not_done_twice(base, tmp_path):
    """Its points would be the same; more trials go on, another seed is another."""
    broken = tmp_path / "outputs/studies/of_another_version/study.json"
    broken.parent.mkdir(parents=True)
    broken.write_text('{"config": {"no_such_field": 1}}')
    for n_trials, asked in ((2, ["default", "0000", "0001"]), (2, []), (3, ["0002"])):
        trials, tried, _ = searched(base, value_of, n_trials, study=None)
        assert tried == asked and len(trials) == n_trials
    _, tried, _ = searched(base.replace(seed=7), value_of, 1, study=None)
    assert tried == ["default", "0000"]


def test_what_is_missing_or_unknown_is_named(base, monkeypatch):
    with pytest.raises(utils.ConfigError, match="Did you mean 'cv_log_loss'"):
        TuneConfig(objective="cv_logloss")
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(utils.DependencyError, match="requirements-tuning.txt"):
        searched(base, value_of, 1)


def test_what_is_behind_the_median_of_others_is_stopped(base, tmp_path):
    space = read_space(SPACE, base)
    study = Study(tmp_path, space, seed=1)
    for number in range(6):
        assert study.ask()[0] == number
        is_stopped = [study.report(number, step, 0.5 + number) for step in (1, 2)]
        assert is_stopped == [number == 5] * 2
        study.tell(number, None if number == 5 else 0.5 + number)
    assert study.best()["number"] == 0
    assert [x["state"] for x in study.trials()] == ["complete"] * 5 + ["pruned"]
    study.close()


def test_values_that_a_trial_tells_reach_the_study(base):
    def tells(task):
        folder = trial.Path(task.values["folder"])
        trial._Told(folder).say(1, 1, 0.5)
        return value_of(task)

    trials, _, _ = searched(base, tells, 2)
    assert [each["num_steps"] for each in trials] == [1, 1]


def test_a_trial_asks_for_the_memory_of_its_run(base):
    """Of a linear model: four times 1,500 rows of 8 features of 4 bytes."""
    needed = []
    searched(base, lambda x: needed.append(x.memory_bytes) or value_of(x), 1)
    assert needed == [192_000, 192_000]
