import signal

import pytest
from world.frames import TINY

import utils
from artifacts.run_folder import STATE, STATUS, RunFolder
from config import Config
from files.strict import write_json
from networks import supervision


@pytest.fixture
def started(monkeypatch):
    """Stands for processes; `codes` are what they end with, words what they got."""

    class Children(list):
        codes = ()

        def popen(self, words, env, **_):
            assert env["TRAINER_SUPERVISED"] == "1"
            self.append(words[2:])
            self.pid, self.code = 4711, self.codes[len(self) - 1]
            return self

        def wait(self):
            return self.code

    children = Children()
    monkeypatch.delenv("TRAINER_SUPERVISED", raising=False)
    monkeypatch.setattr(supervision.sys, "orig_argv", ["python", "trainer.py"])
    monkeypatch.setattr(supervision.subprocess, "Popen", children.popen)
    monkeypatch.setattr(utils, "address_space_left", lambda: 10**9)
    return children


def test_an_abort_within_a_limit_goes_on_in_smaller_pieces(tmp_path, started):
    config = Config(**TINY | {"outputs_dir": str(tmp_path), "batch_size": 32})
    run = RunFolder.create(config)
    write_json(run.path / STATE, {})
    write_json(run.path / STATUS, {"pid": 4711})
    started.codes = [-signal.SIGABRT, -signal.SIGABRT, 0]
    with pytest.raises(SystemExit) as ended:
        supervision.supervise(config)
    assert ended.value.code == 0
    again = ["--resume", str(run.path)]
    assert started == [[], again, again]
    assert [note["micro_batches"] for note in run.recoveries()] == [2, 4]


@pytest.mark.parametrize(
    ("code", "exit_code"), [(65, 65), (-signal.SIGINT, 130), (-signal.SIGABRT, 134)]
)
def test_another_end_is_that_of_the_command(tmp_path, started, code, exit_code):
    started.codes = [code]  # after an abort there is no run to go on with
    with pytest.raises(SystemExit) as ended:
        supervision.supervise(Config(outputs_dir=str(tmp_path)))
    assert ended.value.code == exit_code
    assert len(started) == 1


def test_no_limit_no_second_process(monkeypatch, started):
    supervision.supervise(Config(recovery=False))
    supervision.supervise(Config(model="random_forest"))
    monkeypatch.setattr(utils, "address_space_left", lambda: None)
    supervision.supervise(Config())
    assert not started
