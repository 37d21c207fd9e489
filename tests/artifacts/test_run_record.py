"""What a run leaves of its words and its state, and what is said of it later."""

import json
import logging
import os
import signal
import socket

import pytest
from world.frames import TINY

import utils
from artifacts.run_folder import RunFolder
from artifacts.run_record import RunRecord, show_status
from config import Config
from files.progress import Progress
from trainer import main
from utils import Interrupted, MissingInputError


@pytest.fixture
def config(tmp_path):
    return Config(**TINY | {"outputs_dir": str(tmp_path / "outputs")})


@pytest.fixture
def record():
    record = RunRecord.start()
    yield record
    record.close()


def status_of(run):
    return json.loads((run.path / "status.json").read_text())


def test_what_is_said_before_and_after_there_is_a_folder_is_in_the_log(
    config, record, caplog
):
    caplog.set_level(logging.INFO)
    logging.getLogger("data").info("300 rows")
    run = RunFolder.create(config)
    record.open(run)
    logging.getLogger("model").warning("two\nlines")
    record.close()
    logging.getLogger("model").warning("after the publication")
    lines = (run.path / "run.log").read_text().splitlines()
    assert [line[20:] for line in lines[:2]] == [" INFO 300 rows", " WARNING two"]
    assert lines[2:] == ["lines"]
    published = run.publish()
    files = json.loads((published / "MANIFEST.json").read_text())["files"]
    assert "run.log" in files and "status.json" not in files
    assert not (published / "status.json").exists()


def test_the_state_of_a_run_is_written_whole(config, record):
    run = RunFolder.create(config)
    record.open(run)
    with Progress("fold", 2), Progress("epoch", 3) as epochs:
        epochs.advance(metrics={"loss": 0.5, "val_loss": float("nan")})
        with pytest.raises(Interrupted), record.noted("train_model"):
            raise Interrupted(signal.SIGTERM)
    state = status_of(run)
    assert (state["step"], state["fold"], state["epoch"]) == ("train_model", 1, 2)
    assert state["metrics"] == {"loss": 0.5, "val_loss": None}
    assert state["pid"] == os.getpid() and state["host"] == socket.gethostname()
    assert state["exit_code"] == 143 and state["memory_bytes"] > 2**20
    assert sorted(path.name for path in run.path.iterdir()) == [
        *(".lock", "config.yaml", "run.log", "status.json"),
    ]


def test_an_interruption_says_how_to_go_on(config, record):
    with pytest.raises(Interrupted, match="Nothing was saved yet"), record.noted():
        raise Interrupted(signal.SIGINT)


def test_a_run_that_was_interrupted_still_says_how_far_it_was(config, record):
    run = RunFolder.create(config)
    with pytest.raises(Interrupted), record.noted("train_model"):
        with Progress("epoch", 3, done=1):
            record.open(run)
            raise Interrupted(signal.SIGINT)
    state = status_of(run)
    assert (state["epoch"], state["progress"][0]["total"]) == (2, 3)


WRONG_STATES = [
    {"pid": "1"},
    {"pid": 10**30},
    {"exit_code": 10**30},
    {"step": 1},
    {"progress": [{"what": "epoch"}]},
    {"metrics": {"loss": "much"}},
    {"eta_seconds": "soon"},
]


def words(caplog, config, name="latest"):
    caplog.clear()
    caplog.set_level(logging.INFO)
    code = show_status(config, name)
    return code, caplog.text


def test_a_run_is_going_on_until_its_process_ends(config, record, caplog):
    with pytest.raises(MissingInputError, match="expected a run in .*Received: none"):
        show_status(config, "latest")
    run = RunFolder.create(config)
    record.open(run)
    record.close()
    assert words(caplog, config)[0] == utils.EXIT_IN_USE
    state = status_of(run)
    path = run.path / "status.json"
    path.write_text(json.dumps(state | {"process_started": 1}))  # a number used again
    code, text = words(caplog, config, run.run_id)
    assert code == 70 and "dead: " in text and "step setup_callbacks" in text
    for number, word in ((65, "failed: "), (130, "interrupted: ")):
        path.write_text(json.dumps(state | {"exit_code": number}))
        code, text = words(caplog, config, str(run.path))
        assert code == number and word in text
    path.write_text(json.dumps(state | {"host": "elsewhere", "pid": 1}))
    code, text = words(caplog, config)
    assert code == utils.EXIT_IN_USE and "on elsewhere" in text
    for wrong in WRONG_STATES:
        path.write_text(json.dumps(state | wrong))
        code, text = words(caplog, config)
        assert code == 70 and "it said nothing of its state" in text
    path.write_text("{")
    assert words(caplog, config)[0] == 70


def test_a_published_run_is_finished_also_by_its_former_folder(config, caplog, capsys):
    older = RunFolder.create(config).publish()
    run = RunFolder.create(config)
    published = run.publish()
    assert str(older) in words(caplog, config, str(config.runs_dir / older.name))[1]
    assert words(caplog, config, str(published))[0] == 0
    assert main(["--status", "--outputs-dir", config.outputs_dir]) == 0
    assert capsys.readouterr().out == f"finished: {published}\n"
