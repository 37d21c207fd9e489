"""What a pipeline trains, takes, stops and goes on with."""

import json
import signal
from pathlib import Path

import pytest
from world.frames import TINY, make_own_frame

import utils
from artifacts.registry import Registry
from artifacts.run_folder import RunFolder
from dataset import training_file
from executors.tasks import Finished
from experiments.__main__ import main
from files.strict import write_json
from stages.__main__ import command
from stages.pipeline import run_pipeline
from stages.plan import make_pipeline

SMALL = TINY | {
    "model": "logistic",
    "tabular_inputs": "last_row",
    "num_threads": 1,
    "report": "light",
    "baseline_model": False,
    "importance_windows": None,
    "calibration_method": "none",
    "class_balancing_method": "none",
}


@pytest.fixture
def content(tmp_path):
    """Two members and a stack of them, with their training file."""
    fields = {k: v for k, v in SMALL.items() if k != "model"}
    fields |= {name: str(tmp_path / name) for name in ("inputs_dir", "outputs_dir")}
    stages = [
        {"name": "one", "model": "logistic", "fields": {"seed": 1}},
        {"name": "two", "model": "logistic", "fields": {"logistic_penalty": 0.1}},
        {"name": "both", "model": "stack", "needs": ["one", "two"]},
    ]
    pipeline = make_pipeline(fields | {"stages": stages})
    path = pipeline.stages[0].config.expected_path
    training_file.write_training_file(path, make_own_frame(700), {})
    return fields | {"stages": stages}


def states(result):
    return {each["name"]: (each["status"], each["is_taken"]) for each in result.stages}


TRAINED, TAKEN = ("completed", False), ("completed", True)


def test_finished_stages_are_taken_and_what_changed_is_trained_with_all_above_it(
    content, tmp_path, capsys
):
    def run():
        return run_pipeline(make_pipeline(content))

    first = run()
    assert states(first) == dict.fromkeys(("one", "two", "both"), TRAINED)
    registry = Registry(tmp_path / "outputs_dir")
    names = [first[name]["model_id"] for name in ("one", "two")]
    assert [*registry.get(first["both"]["model_id"]).dependencies] == names
    assert registry.validate(first["both"]["model_id"]) == []
    again = run()
    assert states(again) == dict.fromkeys(("one", "two", "both"), TAKEN)
    assert again["both"]["model_id"] == first["both"]["model_id"]
    content["stages"][1]["fields"]["logistic_penalty"] = 0.2
    changed = run()
    assert states(changed) == {"one": TAKEN, "two": TRAINED, "both": TRAINED}
    registry.delete(changed["both"]["model_id"])
    unregistered = run()
    assert states(unregistered) == {"one": TAKEN, "two": TAKEN, "both": TRAINED}
    assert unregistered["both"]["run_id"] == changed["both"]["run_id"]

    # One byte of the oldest model, and nobody vouches for the stack.
    oldest = Path(changed["one"]["folder"])
    [model] = oldest.glob("model_*")
    model.write_bytes(model.read_bytes()[:-1] + b"!")
    [problem] = registry.validate(unregistered["both"]["model_id"])
    assert changed["one"]["model_id"] in problem and model.name in problem
    mended = run()
    assert states(mended) == {"one": TRAINED, "two": TAKEN, "both": TRAINED}
    assert registry.validate(mended["both"]["model_id"]) == []


def test_a_failed_stage_stops_those_above_it_alone(content, tmp_path):
    stages, too_long = content["stages"], {"sequence_length": 400}
    stages[0]["fields"] |= too_long
    stages[2]["fields"] = too_long
    stages += [
        {"name": "other", "model": "logistic", "fields": {"seed": 3}},
        {"name": "top", "model": "stack", "needs": ["two", "other"]},
    ]
    file = tmp_path / "mine.yaml"
    file.write_text(json.dumps(content))
    words = ["pipeline", "run", str(file)]
    assert main(words, pipeline=command()) == 65
    said = json.loads(
        (tmp_path / "outputs_dir/pipelines/mine/pipeline.json").read_text()
    )
    assert {each["name"]: each["status"] for each in said["stages"]} == {
        "one": "failed",
        "two": "completed",
        "both": "stopped",
        "other": "completed",
        "top": "completed",
    }
    status = ["pipeline", "status", "mine", "--outputs-dir", content["outputs_dir"]]
    assert main(status, pipeline=command()) == 65


class Answers:
    """An executor that does nothing: tasks end as they are told to.

    Args:
        slots: Tasks side by side.
        ends: Name of a stage -> how it ends; an exception is raised.
    """

    def __init__(self, slots=1, **ends):
        self.slots, self.ends = slots, ends
        self.waiting, self.said = [], []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def submit(self, task):
        self.said.append(f"begin {task.name.split()[0]}")
        self.waiting.append(task)

    def wait(self, timeout):
        if not self.waiting:
            return []
        task = self.waiting.pop(0)
        self.said.append(f"end {task.name.split()[0]}")
        end = self.ends.get(task.name, {"result": RESULT | {"model_id": task.name}})
        if isinstance(end, BaseException):
            raise end
        self.values = task.values
        return [Finished(name=task.name, **end)]

    def stop(self):
        self.waiting.clear()


RESULT = {
    **{"sha256": "0" * 64, "num_rows": 700, "num_features": 8},
    **{"folder": "there", "manifest_sha256": "1" * 64, "skill": None, "parts": {}},
}


def test_stages_go_side_by_side_with_as_many_threads_as_they_began_with(content):
    del content["num_threads"]
    first = Answers(slots=2)
    run_pipeline(make_pipeline(content), executor=first)
    assert first.said == [
        *("begin file", "end file"),
        *("begin one", "begin two", "end one", "end two", "begin both", "end both"),
    ]
    share = max(1, utils.available_cores() // 2)
    assert first.values["config"]["num_threads"] == share
    again = Answers(slots=1)
    run_pipeline(make_pipeline(content), executor=again, is_resumed=True)
    assert again.values["config"]["num_threads"] == share
    afresh = Answers(slots=1)
    run_pipeline(make_pipeline(content), executor=afresh)
    assert afresh.values["config"]["num_threads"] is None


def test_who_is_taken_counts_once_as_a_look_at_the_test_part(content, monkeypatch):
    networks = [
        {"name": "first", "model": "cnn_lstm"},
        {"name": "agent", "model": "ppo", "needs": "first"},
        {"name": "joined", "model": "hybrid", "needs": ["first", "agent"]},
    ]
    pipeline = make_pipeline(content | {"stages": networks, "sequence_length": 20})
    failed = Answers(joined={"error": "no", "exit_code": 70})
    looks = Path(run_pipeline(pipeline, executor=failed).folder, "planned/joined.json")
    before = json.loads(looks.read_text())
    monkeypatch.setattr(Registry, "open", lambda *_: None)
    again = run_pipeline(pipeline, executor=Answers())
    assert states(again) == {"first": TAKEN, "agent": TAKEN, "joined": TRAINED}
    assert json.loads(looks.read_text()) == before


def test_an_interruption_keeps_what_is_finished_and_says_how_to_go_on(content):
    stop = utils.Interrupted(signal.SIGINT)
    pipeline = make_pipeline(content, name="mine", file="mine.yaml")
    with pytest.raises(utils.Interrupted) as error:
        run_pipeline(pipeline, executor=Answers(two=stop))
    assert str(error.value).endswith(
        "1 of 3 stages are finished, and stay. To go on: python -m experiments "
        "pipeline mine.yaml --resume"
    )
    status = ["pipeline", "status", "mine", "--outputs-dir", content["outputs_dir"]]
    assert main(status, pipeline=command()) == 143


@pytest.mark.parametrize("is_resumed", [True, False])
def test_an_interrupted_run_is_gone_on_with_where_that_is_wanted(content, is_resumed):
    pipeline, answers = make_pipeline(content), Answers()
    run_pipeline(pipeline, executor=answers)
    note = Path(answers.values["note"])
    begun = RunFolder.create(pipeline.stages[-1].config)
    begun.unlock()
    write_json(note, {"run_id": begun.run_id})
    older = note.with_name("0" * 16 + ".json")
    other = RunFolder.create(pipeline.stages[-1].config)
    other.unlock()
    write_json(older, {"run_id": other.run_id})
    run_pipeline(pipeline, executor=answers, is_resumed=is_resumed)
    assert (note.is_file(), begun.path.is_dir()) == (is_resumed, is_resumed)
    assert not older.exists() and not other.path.exists()
