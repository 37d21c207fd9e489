import json
import logging
import sys

import numpy as np
import pytest
from world.frames import make_own_frame

import trainer
import utils
from config import Config
from models import costs
from settings.sizes import count_parameters
from settings.tree_fields import OPTIONAL_MODELS

SMALL = ("--sequence-length", "8", "--future-window", "5", "--batch-size", "64")


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("costs") / "mine.feather"
    make_own_frame(3000).to_feather(path)
    return path


@pytest.fixture
def look(tmp_path, monkeypatch, capsys):
    """Returns exit code, lines and errors of a dry run in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(utils, "available_memory_bytes", lambda: 8_000_000_000)
    handlers = logging.getLogger().handlers[:]

    def run(*words):
        code = trainer.main(["--config-test", *map(str, words)])
        out, err = capsys.readouterr()
        return code, out.splitlines(), err

    yield run
    logging.getLogger().handlers[:] = handlers


def starting(lines, word):
    return next(line for line in lines if line.startswith(word))


def test_a_network_that_reads_a_window_once_is_not_charged_for_each_bar():
    config = Config(model="mlp", mlp_inputs="bars")
    work = costs._work(config, 650, 8)
    assert work == 650 * (31_331 + 130 * 120 * 8)
    assert work < costs._work(Config(), 650, 8) / 50
    known = {
        "config": config.to_dict(),
        "training": {"seconds": 2, "windows_per_epoch": 65, "completed_epochs": 10}
        | {"resumes": []},
        "data": {"num_features": 8},
    }
    assert costs._work_of(known) == {"work": work, "seconds": 2.0}


def test_what_a_run_finds_and_takes(look, file):
    code, lines, _ = look("--training-file", file, *SMALL, "--n-splits", "2")
    assert code == 0
    assert starting(lines, "rows:") == (
        "rows:    2,100 train, 600 validation, 300 test; 8 features, "
        "2024-01-01T00:00 to 2024-01-03T01:59"
    )
    # 2,100 rows, less a window of 8 and 5 label bars; 64 windows a step
    assert "train          2,088 targets  SHORT" in starting(lines, "  train")
    assert starting(lines, "epoch:") == "epoch:   2,088 windows in 33 steps"
    assert starting(lines, "test:") == "test:    0.2 days, 59 horizons"
    assert ", of 8.00 GB that are free: parameters" in starting(lines, "memory:")
    time = starting(lines, "time:")
    assert "for 2 folds (650 windows/s of the default network)" in time
    assert "doubtful: the test part will have 0.2 days and 59 horizons" in lines[-1]
    assert not (file.parent / "outputs").exists()


def test_only_fields_that_differ_are_listed(look, file):
    code, lines, _ = look("--training-file", file, *SMALL, "--lstm-units", "8,4")
    assert lines[:7] == [
        f"training_file: {file}",
        "future_window: 5",
        "sequence_length: 8",
        "lstm_units:",
        "- 8",
        "- 4",
        "batch_size: 64",
    ]
    assert "epochs: 100" not in lines and "the other fields: their defaults" in lines
    _, lines, _ = look("--training-file", file, *SMALL, "--verbose-logging")
    assert "epochs: 100" in lines and "the other fields: their defaults" not in lines


def test_the_time_is_that_of_the_last_run(look, file, tmp_path):
    config = Config(training_file=str(file), sequence_length=8, future_window=5)
    for run_id, seconds, resumes in (
        ("20260101T000000Z-1m-aaaaaaaa", 7.0, []),
        ("20260102T000000Z-1m-aaaaaaaa", 50.0, []),
        ("20260103T000000Z-1m-aaaaaaaa", 1.0, [{"exact": True}]),
        ("20260104T000000Z-1m-aaaaaaaa", None, []),
        ("20260105T000000Z-1m-aaaaaaaa", 10**400, []),
        ("20260106T000000Z-1m-aaaaaaaa", "soon", []),
    ):
        folder = tmp_path / "outputs" / "models" / "OTHERUSDT" / "lstm" / run_id
        folder.mkdir(parents=True)
        training = {"windows_per_epoch": 1044, "completed_epochs": 2}
        training |= {"seconds": seconds, "resumes": resumes}
        content = {"config": config.to_dict(), "data": {"num_features": 8}}
        content |= {"training": training}
        (folder / "metadata_x.json").write_text(json.dumps(content))
    _, lines, _ = look("--training-file", file, *SMALL, "--epochs", "3")
    assert starting(lines, "time:") == (
        "time:    about 50 s an epoch, 2 min for all 3 "
        "(as fast as 20260102T000000Z-1m-aaaaaaaa)"
    )
    small = config.replace(lstm_units=(64, 32, 16))
    ratio = count_parameters(small, 8) / count_parameters(config, 8)
    words = ("--lstm-units", "64,32,16")
    _, lines, _ = look("--training-file", file, *SMALL, *words)
    assert f"about {50 * ratio:.0f} s an epoch" in starting(lines, "time:")


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("gradient_boosting", "about 1 s (28,571 targets/s)"),
        ("random_forest", "not known: no run of this family in the outputs folder"),
    ],
)
def test_trees_have_targets_instead_of_steps(look, file, model, said):
    code, lines, _ = look("--training-file", file, *SMALL, "--model", model)
    assert code == 0 and said in starting(lines, "time:")
    assert starting(lines, "fit:") == "fit:     on at most 2,088 targets"


def test_a_file_that_nobody_named_may_be_missing(look):
    code, lines, err = look()
    assert (code, err) == (0, "")
    assert "         not there (build it with dataset_builder.py)" in lines
    assert look("--training-file", "none.feather")[0] == 66


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ("--feature-sets core9", 2, "Did you mean 'core8'?"),
        (
            "--train-end 2024-01-01 --validation-end 2024-02-01 --training-file {}",
            65,
            "Choose days inside the file",
        ),
        ("--start-date 2025-01-01 --training-file {}", 65, "Change start_date"),
        (
            "--cv-train-bars 100 --cv-test-bars 1 --training-file {}",
            65,
            "cv_train_days, cv_test_days: expected at most 500 folds",
        ),
        (
            "--cv-train-bars 9000 --cv-test-bars 1 --training-file {}",
            65,
            "expected more samples",
        ),
        ("--timeframe 5m --training-file {}", 65, "--timeframe 1m"),
        ("--loss sharpe --batch-size 9999 --training-file {}", 65, "consecutive"),
        ("--outputs-dir {}/x --training-file {}", 74, "is a file, not a folder"),
    ],
)
def test_what_the_run_refuses_is_refused_with_its_code(
    look, file, words, code, message
):
    words = [word.replace("{}", str(file)) for word in words.split()]
    found, _, err = look("--sequence-length", 8, "--future-window", 5, *words)
    assert (found, message in err) == (code, True), err
    assert "PurgedTimeSeriesSplit" not in err


@pytest.mark.parametrize("content", ["{}", "[1]", '{"format": 1, "sha256": "x"}'])
def test_a_description_that_is_none_is_refused_as_by_the_run(look, tmp_path, content):
    path = Config(inputs_dir=str(tmp_path)).expected_path
    make_own_frame(50).to_feather(path)
    path.with_name(path.name + ".json").write_text(content)
    code, _, err = look("--inputs-dir", tmp_path)
    assert code == 65 and "or delete the" in err


def test_nothing_heavy_is_imported(look, file, monkeypatch):
    heavy = ("tensorflow", "keras", "sklearn", "scipy", "matplotlib", *OPTIONAL_MODELS)
    for name in heavy:
        monkeypatch.setitem(sys.modules, name, None)  # an import would fail
    assert look("--training-file", file, *SMALL, "--n-splits", "2")[0] == 0


def test_labels_of_one_class_are_refused(look, tmp_path):
    path = tmp_path / "one.feather"
    make_own_frame(1000, label=np.ones(1000, int)).to_feather(path)
    code, _, err = look("--training-file", path, *SMALL)
    assert code == 65 and "expected at least two classes" in err


def test_what_an_agent_takes(look, file):
    words = ("--model", "sac", "--agent-steps", "6000", "--agent-seeds", "2")
    code, lines, _ = look("--training-file", file, *SMALL, *words)
    assert code == 0
    assert starting(lines, "agents:") == (
        "agents:  2 seeds of 6,000 steps, 64 episodes of 240 bars side by side"
    )
    # 2 x 6,000 transitions of 8 features and 5 numbers; six networks of 11-64-64
    assert starting(lines, "memory:") == (
        "memory:  151.1 MB above the imports, of 8.00 GB that are free: parameters "
        "354.8 kB, experience 624.0 kB, runtime 150.0 MB, feature array 96.0 kB"
    )
    assert starting(lines, "time:").endswith("(6,000 bars/s)")
