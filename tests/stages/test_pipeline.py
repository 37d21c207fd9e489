"""What a pipeline trains, takes, stops and goes on with."""

import json
from pathlib import Path

import pytest
from world.frames import TINY, make_own_frame

from artifacts.registry import Registry
from dataset import training_file
from experiments.__main__ import main
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
