"""A trial is judged before the test part, whatever stands there, and leaves nothing."""

import numpy as np
import pytest
from world.frames import TINY, make_own_frame

from config import Config
from tuning import trial
from tuning.trial import OBJECTIVES, Pruned, run_trial

NUM_ROWS = 1500
FIELDS = TINY | {"model": "logistic", "cv": "purged", "n_splits": 2}
FIELDS |= {"fee_bps": 0.0, "slippage_bps": 0.0, "threshold_min_trades": 1}


def tried(folder, frame, objective, **fields):
    """Returns the value of a trial on a frame that is written beside it."""
    folder.mkdir()
    path = folder / "file.feather"
    frame.to_feather(path)
    config = Config(**FIELDS | {"training_file": str(path), "num_trees": 3} | fields)
    values = {"folder": str(folder), "config": config.to_dict()}
    return run_trial(values | {"objective": objective, "window_bars": 12})


@pytest.fixture(scope="module")
def frame():
    return make_own_frame(NUM_ROWS)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_what_stands_in_the_test_part_changes_no_objective(tmp_path, frame, objective):
    poisoned, seen = frame.copy(), frame.copy()
    first = NUM_ROWS - round(NUM_ROWS * 0.1)
    for table, rows in (
        (poisoned, slice(first, None)),
        (seen, slice(first - 60, first)),
    ):
        columns = [*table.columns[1:9], "long_return", "short_return"]
        table.loc[table.index[rows], columns] *= -37.0
        table.loc[table.index[rows], "close"] *= 37.0
        labels = table["label"].to_numpy().copy()
        labels[rows] = 2 - labels[rows]
        table["label"] = labels
    found = {
        name: tried(tmp_path / name, table, objective)
        for name, table in (("as_it_is", frame), ("poison", poisoned), ("seen", seen))
    }
    assert found["as_it_is"]["state"] == "complete"
    assert found["poison"]["value"] == found["as_it_is"]["value"]
    assert found["poison"]["folds"] == found["as_it_is"]["folds"]
    assert found["seen"]["value"] != found["as_it_is"]["value"]


def test_trials_of_other_windows_are_judged_on_the_same_rows(tmp_path, frame):
    rows = [
        [
            fold["num_rows"]
            for fold in tried(
                tmp_path / str(bars), frame, "cv_log_loss", sequence_length=bars
            )["folds"]
        ]
        for bars in (4, 12)
    ]
    assert rows[0] == rows[1] and len(rows[0]) == 2


def test_a_trial_that_is_behind_stops_and_leaves_nothing_to_resume(tmp_path, frame):
    folder = tmp_path / "trial"

    def look():
        assert [line["step"] for line in trial.read_values(folder)] == [1]
        trial.prune(folder)

    with trial.watched(look):
        found = tried(folder, frame, "cv_log_loss")
    assert (found["state"], found["value"]) == ("pruned", None)
    assert sorted(each.name for each in folder.iterdir()) == [
        "file.feather",
        "prune",
        "values.jsonl",
    ]


def test_a_torn_line_of_a_killed_worker_is_passed_over(tmp_path):
    told = trial._Told(tmp_path)
    told.say(1, 1, 0.5)
    with open(tmp_path / trial.VALUES, "a") as stream:
        stream.write('{"fold": 1, "st')
    again = trial._Told(tmp_path)
    again.say(1, 2, 0.75)
    again.say(2, 3, 0.25)
    steps = [(line["step"], line["value"]) for line in trial.read_values(tmp_path)]
    assert steps == [(1, 0.5), (2, 0.5), (3, np.mean([0.5, 0.25]))]
    trial.prune(tmp_path)
    with pytest.raises(Pruned):
        again.say(2, 4, 0.1)
