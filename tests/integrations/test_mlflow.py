"""`register --mlflow`: what MLflow's own client reads back from a SQLite store."""

import json

import pytest
from world.artifacts import publish

from artifacts.__main__ import main
from artifacts.registry import Registry

mlflow = pytest.importorskip("mlflow", reason="needs requirements-mlflow.txt")

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def uri(tmp_path):
    """A database of its own; MLflow keeps one open for each address."""
    return f"sqlite:///{tmp_path}/mlflow.db"


@pytest.fixture
def register(tmp_path, monkeypatch, capsys):
    """Registers a run that is published now, with more words; returns what is said."""
    monkeypatch.chdir(tmp_path)  # MLflow keeps files beside whoever starts it

    def run(*words, code=0, **fields):
        folder = publish("outputs", **fields)
        assert main(["register", str(folder), "--json", *words]) == code
        said = capsys.readouterr()
        return said.err if code else json.loads(said.out)

    return run


def test_a_model_is_read_back_from_mlflow(register, uri, tmp_path):
    first = register("--mlflow", uri, "--tags", "new", experiment_name="spring")
    second = register("--mlflow", uri, "--depends-on", first["model_id"], skill=0.2)
    client = mlflow.MlflowClient(tracking_uri=uri)
    run = client.get_run(first["mlflow_run_id"])
    assert (run.info.run_name, run.info.status) == (first["model_id"], "FINISHED")
    assert client.get_experiment(run.info.experiment_id).name == "spring"
    assert run.data.params["pair"] == "TESTUSDT" and run.data.params["seed"] == "42"
    assert set(run.data.params) == set(first["training_config"])
    metrics = dict(run.data.metrics)
    assert metrics.pop("epoch_loss") == 0.5
    assert metrics == first["metrics"]
    epochs = client.get_metric_history(run.info.run_id, "epoch_loss")
    assert [(each.step, each.value) for each in epochs] == [(1, 0.75), (2, 0.5)]
    assert run.data.tags["tags"] == "new"
    assert run.data.tags["performance_grade"] == "B-"
    place = client.download_artifacts(run.info.run_id, "", str(tmp_path))
    listed = json.loads((tmp_path / place / "MANIFEST.json").read_text())["files"]
    found = {each.path for each in client.list_artifacts(run.info.run_id)}
    assert found == {*listed, "MANIFEST.json"}
    other = client.get_run(second["mlflow_run_id"])
    assert client.get_experiment(other.info.experiment_id).name == first["group"]
    assert other.data.tags["dependencies"] == first["model_id"]


@pytest.mark.parametrize("place", ["mlruns", "bogus://x", ""])
def test_an_address_that_mlflow_refuses_registers_nothing(register, place):
    said = register("--mlflow", place, code=2)
    assert f"such as sqlite:///mlflow.db. Received: {place!r}" in said
    assert said.count("error:") == 1 and "Traceback" not in said
    assert Registry("outputs").list() == []


def test_a_password_is_not_told(register):
    said = register("--mlflow", "bogus://me:secret@host/x", code=2)
    assert "Received: 'bogus://***@host/x'" in said and "secret" not in said


def test_what_mlflow_does_not_take_is_marked_and_told(register, uri, monkeypatch):
    def fail(*_, **__):
        raise OSError("no room")

    monkeypatch.setattr(mlflow.MlflowClient, "log_artifacts", fail)
    said = register("--mlflow", uri, code=74)
    [entry] = Registry("outputs").list()
    assert f"{entry.model_id} is registered, but not logged" in said
    [run] = mlflow.MlflowClient(tracking_uri=uri).search_runs(["1"])
    assert run.info.status == "FAILED"
