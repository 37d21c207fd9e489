"""Cells of a sweep, and how they end; who does the work is a list of answers."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest
from world.frames import TINY, make_own_frame

from artifacts.resuming import find_resumable, run_identity
from artifacts.run_folder import RunFolder
from config import Config
from executors.tasks import Finished
from experiments import cells, plan, sweep
from experiments.__main__ import main
from experiments.plan import SweepConfig
from experiments.planned import plan_sweep
from experiments.sweep_folder import SweepFolder
from files.strict import write_json
from utils import ConfigError, Interrupted, InUseError, MissingInputError

FACTS = {"path": "there", "sha256": "0" * 64, "num_rows": 1000, "num_features": 8}


class Answers:
    """An executor that does nothing: tasks end as they are told to.

    Args:
        ends: Words of a task's name -> how it ends; an exception is raised.
    """

    slots = 1

    def __init__(self, **ends):
        self.ends = ends
        self.waiting, self.done = [], []

    def submit(self, task):
        self.waiting.append(task)

    def wait(self, timeout):
        if not self.waiting:
            return []
        task = self.waiting.pop(0)
        self.done.append(task)
        for word, end in self.ends.items():
            if word in task.name:
                if isinstance(end, BaseException):
                    raise end
                return [Finished(name=task.name, **end)]
        folder = task.values["config"]["outputs_dir"] + "/" + task.name
        is_file = task.function.endswith("prepare_file")
        return [
            Finished(name=task.name, result=FACTS if is_file else {"folder": folder})
        ]

    def stop(self):
        self.waiting.clear()

    @property
    def names(self):
        return [task.name.rpartition("-")[0] for task in self.done]


def run(tmp_path, executor, axes, **schedule):
    base = {"outputs_dir": str(tmp_path)}
    base |= {name: schedule.pop(name) for name in ("inputs_dir",) if name in schedule}
    is_resumed = schedule.pop("is_resumed", False)
    schedule = SweepConfig(**{"name": "mine"} | schedule)
    return sweep.run_sweep(
        base, axes, executor=executor, schedule=schedule, is_resumed=is_resumed
    )


def publish(executor):
    """Makes the folders that answered cells name look published."""
    for task in executor.done:
        if task.function.endswith("train_cell"):
            path = f"{task.values['config']['outputs_dir']}/{task.name}"
            pd.io.common.os.makedirs(path, exist_ok=True)
            open(f"{path}/MANIFEST.json", "w").close()


def states(result):
    return {
        (cell["pair"], cell["model"]): (cell["status"], cell["exit_code"])
        for cell in result.cells
    }


# What is trained


def make(axes, **base):
    return plan.make_cells({"": base}, axes, name="mine", max_workers=1)


def test_cells_are_the_product_of_the_axes_and_equal_ones_are_one():
    axes = {"pairs": ["BTCUSDT", "ETHUSDT"], "models": ["lstm", "logistic", "lstm"]}
    found = make(axes | {"seeds": [1, 2]}, epochs=3)
    assert [(c.config.pair, c.config.model, c.config.seed) for c in found] == [
        (pair, model, seed)
        for pair in ("BTCUSDT", "ETHUSDT")
        for model in ("lstm", "logistic")
        for seed in (1, 2)
    ]
    assert {cell.config.epochs for cell in found} == {3}
    assert {cell.config.experiment_name for cell in found} == {"mine"}
    assert len({cell.name for cell in found}) == 8


def test_any_field_is_an_axis():
    found = make({"batch_size": [64, 128], "pairs": ["BTCUSDT"]})
    assert [cell.config.batch_size for cell in found] == [64, 128]


def test_bases_that_differ_in_epochs_alone_are_two_cells():
    bases = {"short": {"epochs": 2}, "long": {"epochs": 9}, "again": {"epochs": 9}}
    found = plan.make_cells(bases, {}, name="mine")
    assert [(c.label, c.config.epochs) for c in found] == [("short", 2), ("long", 9)]
    assert len({cell.name for cell in found}) == 2


def test_all_models_are_those_that_the_target_has():
    models = {cell.config.model for cell in make({"models": ["all"]})}
    assert {"lstm", "ensemble", "random_forest", "lightgbm", "logistic"} <= models
    numbers = {c.config.model for c in make({"models": ["all"], "targets": ["return"]})}
    assert "lstm" in numbers and "logistic" not in numbers


def test_every_impossible_cell_is_listed():
    axes = {"models": ["logistic", "lstm"], "targets": ["signal", "return"]}
    with pytest.raises(ConfigError) as caught:
        make(axes | {"pairs": ["BTCUSDT", "X"]})
    text = str(caught.value)
    assert "BTCUSDT 1m logistic return seed 42" in text
    assert "model: expected one that predicts a number" in text
    assert text.count("X 1m") == 5 and "BTCUSDT 1m lstm" not in text
    with pytest.raises(ConfigError, match="batch_size: .*\n      every cell$"):
        make(axes | {"targets": ["signal"]}, batch_size=0)


@pytest.mark.parametrize(
    ("axes", "base", "message"),
    [
        ({"pear": ["A"]}, {}, "axes: .* Received: pear. Did you mean 'pair'"),
        ({"pairs": []}, {}, "axes: .* no pairs"),
        ({"models": ["lightgmb"]}, {}, "Did you mean 'lightgbm'"),
    ],
)
def test_axes_that_say_nothing_are_refused(axes, base, message):
    with pytest.raises(ConfigError, match=message):
        make(axes, **base)


def test_cells_that_want_other_content_in_one_file_are_refused():
    bases = {"a": {"long_tp_pct": 1.001}, "b": {"long_tp_pct": 1.002}}
    with pytest.raises(ConfigError, match="names of their own(?s:.*)long_tp_pct"):
        plan.make_cells(bases, {}, name="mine")


def test_threads_are_the_share_of_a_worker_and_part_of_what_is_trained(monkeypatch):
    monkeypatch.setattr("utils.available_cores", lambda: 8)
    axes = {"seeds": list(range(9))}
    threads = {
        workers: plan.make_cells({"": {}}, axes, name="m", max_workers=workers)[
            0
        ].config
        for workers in (None, 2, 1)
    }
    assert [c.num_threads for c in threads.values()] == [1, 4, 8]
    assert len({run_identity(c) for c in threads.values()}) == 3
    own = plan.make_cells({"": {"num_threads": 3}}, axes, name="m")
    assert own[0].config.num_threads == 3


def test_a_plan_is_the_same_when_it_is_read_again(tmp_path):
    found = make({"pairs": ["BTCUSDT", "ETHUSDT"], "seeds": [1, 2]}, lstm_units=(8, 4))
    content = json.loads(json.dumps(plan.to_values(found)))
    assert plan.from_values(content) == plan.moved(
        found, inputs_dir="inputs", outputs_dir="outputs"
    )
    assert content["common"]["epochs"] == 100
    assert content["cells"][0]["values"] == {"pair": "BTCUSDT", "seed": 1}


# How it is done


def test_a_pair_without_candles_fails_its_own_cells(tmp_path):
    executor = Answers(NOPEUSDT={"error": "no candles", "exit_code": 66})
    axes = {"pairs": ["BTCUSDT", "NOPEUSDT"], "models": ["logistic", "lstm"]}
    result = run(tmp_path, executor, axes)
    assert states(result) == {
        ("BTCUSDT", "logistic"): ("completed", 0),
        ("BTCUSDT", "lstm"): ("completed", 0),
        ("NOPEUSDT", "logistic"): ("failed", 66),
        ("NOPEUSDT", "lstm"): ("failed", 66),
    }
    with pytest.raises(sweep.FailedRunsError, match="2 of 4") as caught:
        result.require_success()
    assert caught.value.exit_code == 66
    table = pd.read_csv(result.folder / "cells.csv")
    assert list(table["exit_code"]) == [0, 0, 66, 66]
    assert [cell["error"] for cell in result.cells[2:]] == ["no candles"] * 2


def test_the_longest_cells_come_first_behind_all_files(tmp_path):
    executor = Answers()
    axes = {"models": ["logistic", "lstm"], "pairs": ["BTCUSDT", "ETHUSDT"]}
    run(tmp_path, executor, axes)
    assert [task.function.partition(":")[2] for task in executor.done] == [
        *["prepare_file"] * 2,
        *["train_cell"] * 4,
    ]
    models = [task.values["config"]["model"] for task in executor.done[2:]]
    assert models == ["lstm", "lstm", "logistic", "logistic"]


def test_a_file_that_is_built_waits_for_memory(tmp_path):
    """Of Parquet 25 times its bytes, of text 10 times."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "BTCUSDT-1m.parquet").write_bytes(b"0" * 40)
    for month in (1, 2):
        (data / f"ETHUSDT-1m-2024-0{month}.csv").write_bytes(b"0" * 100)
    executor, pairs = Answers(), ["BTCUSDT", "ETHUSDT", "FILUSDT"]
    run(tmp_path, executor, {"pairs": pairs}, data_dir=str(data))
    assert [task.memory_bytes for task in executor.done[:3]] == [1000, 2000, 0]


def test_a_resume_takes_finished_cells_and_repeats_the_others(tmp_path, monkeypatch):
    axes = {"pairs": ["BTCUSDT", "ETHUSDT"], "models": ["logistic"]}
    first = Answers(**{"ETHUSDT-1m-logistic": {"error": "bad", "exit_code": 65}})
    result = run(tmp_path, first, axes)
    assert states(result)["ETHUSDT", "logistic"] == ("failed", 65)
    publish(first)
    with pytest.raises(ConfigError, match="expected a name that no sweep has"):
        run(tmp_path, Answers(), axes)
    late = run(tmp_path, Answers(), {}, is_resumed=True, time_limit_minutes=0)
    assert states(late)["ETHUSDT", "logistic"] == ("waiting", None)
    again = Answers()
    monkeypatch.chdir("/")
    run(tmp_path, again, {}, is_resumed=True, inputs_dir="/new").require_success()
    assert again.names[1:] == ["ETHUSDT-1m-logistic-signal-s42"]
    assert again.done[0].values["begun"] == FACTS
    assert again.done[0].values["config"]["inputs_dir"] == "/new"
    with pytest.raises(ConfigError, match="expected what the sweep mine began with"):
        run(tmp_path, Answers(), axes | {"seeds": [7]}, is_resumed=True)


def test_an_interruption_keeps_what_is_finished_and_says_how_to_go_on(tmp_path):
    axes = {"models": ["logistic", "lstm"]}
    executor = Answers(logistic=Interrupted(2))
    with pytest.raises(Interrupted) as caught:
        run(tmp_path, executor, axes)
    assert caught.value.signal_number == 2
    assert "1 of 2 cells are finished" in str(caught.value)
    assert "sweep --experiment-name mine --resume" in str(caught.value)
    publish(executor)
    again = Answers()
    run(tmp_path, again, axes, is_resumed=True)
    assert again.names[1:] == ["BTCUSDT-1m-logistic-signal-s42"]


def test_when_the_time_is_up_the_rest_waits(tmp_path):
    result = run(tmp_path, Answers(), {"seeds": [1, 2]}, time_limit_minutes=0)
    assert {cell["status"] for cell in result.cells} == {"waiting"}
    with pytest.raises(Interrupted, match="0 of 2 .* --resume"):
        result.require_success()


def test_a_name_that_no_sweep_has_is_not_resumed(tmp_path):
    executor = Answers()
    with pytest.raises(MissingInputError, match="Received: mine, of which"):
        run(tmp_path, executor, {}, is_resumed=True)
    assert not executor.done and not [*tmp_path.rglob("sweep.json")]


def test_an_executor_that_does_not_start_leaves_no_sweep(tmp_path):
    with pytest.raises(ConfigError, match="executor: expected one of"):
        sweep.run_sweep({"outputs_dir": str(tmp_path)}, {}, executor="proceses")
    assert not list(tmp_path.iterdir())


def test_words_of_scheduling_are_refused_together():
    with pytest.raises(ConfigError, match="(?s)max_workers.*retries.*experiment_name"):
        SweepConfig(max_workers=0, retries=-1, name="a b")
    with pytest.raises(ConfigError, match="executor: expected one of auto, serial"):
        SweepConfig(executor="proceses")


@pytest.mark.parametrize(
    ("ends", "limit", "code", "words"),
    [
        ({}, None, 0, "finished, 2 cells: 2 completed"),
        ({"lstm": {"error": "bad", "exit_code": 65}}, None, 65, "lstm.* failed: bad"),
        ({}, 0, 143, "not finished, 2 cells: 2 waiting"),
    ],
)
def test_status_says_how_a_sweep_is_doing(tmp_path, capsys, ends, limit, code, words):
    executor = Answers(**{f"-{word}-": end for word, end in ends.items()})
    axes = {"models": ["logistic", "lstm"]}
    run(tmp_path, executor, axes, time_limit_minutes=limit)
    publish(executor)
    asked = ["status", "mine", "--outputs-dir", str(tmp_path)]
    assert main(asked) == main(["sweep", *asked]) == code
    assert re.search(words, capsys.readouterr().out)


def test_a_sweep_that_goes_on_is_in_use_and_says_where_its_cells_are(tmp_path, capsys):
    planned = plan_sweep(
        {"": {"outputs_dir": str(tmp_path)}}, {}, SweepConfig(name="mine")
    )
    planned.begin()
    folder, found = planned.folder, planned.cells
    with pytest.raises(InUseError, match="python -m experiments status mine"):
        SweepFolder(tmp_path, "mine").lock()
    status = {"step": "train_model", "progress": [], "metrics": {}, "pid": 7}
    status |= {"host": "node7", "updated": "now", "eta_seconds": 600, "exit_code": None}
    status["progress"] = [{"what": "epoch", "number": 3, "total": 9}]
    write_json(folder.note_path(found[0].name), {"run_id": "it"})
    write_json(found[0].config.runs_dir / "it" / "status.json", status)
    folder.write_status(running=folder.in_work(found))
    assert main(["status", "mine", "--outputs-dir", str(tmp_path)]) == 75
    shown = capsys.readouterr().out
    assert "going on, 1 cells: 1 in work" in shown
    assert re.search("node7 +train_model +epoch 3 of 9 +10 min", shown)


# A cell


@pytest.fixture
def cell(tmp_path):
    """What a worker is given of one cell, with its training file."""
    small = {"model": "logistic", "report": "light", "num_threads": 1}
    small |= {"inputs_dir": str(tmp_path), "outputs_dir": str(tmp_path / "out")}
    config = Config(**TINY | small)
    make_own_frame(900).to_feather(config.expected_path)
    (tmp_path / "planned.json").write_text("[]")
    return {
        "config": config.to_dict(),
        "cell": "it",
        "note": str(tmp_path / "it.json"),
        "sweep": str(tmp_path),
        "sha256": cells.sha256_file(config.expected_path),
        "planned": str(tmp_path / "planned.json"),
    }


def test_a_node_without_the_folder_of_the_sweep_says_so(cell):
    with pytest.raises(cells.utils.MissingInputError, match="or set outputs_dir"):
        cells.train_cell(cell | {"sweep": "/nowhere"})


def test_a_cell_is_trained_once_and_found_again(cell, tmp_path):
    begun = RunFolder.create(Config(**cell["config"]))  # killed before a checkpoint
    begun.unlock()
    (begun.path / "left").touch()  # in one second two runs may have one name
    write_json(tmp_path / "it.json", {"run_id": begun.run_id})
    folder = cells.train_cell(cell)["folder"]
    assert not (folder / "left").exists() and not begun.path.exists()
    assert folder.parent == tmp_path / "out/models/TESTUSDT/logistic"
    assert not (folder / "cell.json").exists()
    assert cells.train_cell(cell) == {"folder": folder}


def test_a_run_of_a_cell_is_adopted_by_that_cell_alone(cell, tmp_path, monkeypatch):
    config = Config(**cell["config"])

    def stop(*_):
        raise Interrupted(2)

    with monkeypatch.context() as patch:
        patch.setattr(cells.StandaloneTrainer, "save_model_and_metadata", stop)
        with pytest.raises(Interrupted):
            cells.train_cell(cell)
    (begun,) = (tmp_path / "out/runs").iterdir()
    (begun / "model_X.npz").touch()  # looks resumable
    assert find_resumable(config, "newest", is_probe=True) is None
    (begun / "cell.json").rename(begun / "other.json")
    assert find_resumable(config, "newest", is_probe=True).path == begun
    (begun / "other.json").rename(begun / "cell.json")
    assert cells.train_cell(cell | {"note": str(tmp_path / "b.json")})[
        "folder"
    ].name != (begun.name)
    monkeypatch.setattr(cells, "_PATIENCE_SECONDS", 0.0)
    worker = RunFolder(config, begun.name)  # whose driver is gone
    assert worker.lock()
    with pytest.raises(InUseError):
        cells.train_cell(cell)
    worker.unlock()
    assert cells.train_cell(cell)["folder"].name == begun.name


def test_a_failed_cell_leaves_nothing_that_looks_resumable(cell, tmp_path, monkeypatch):
    def fail(self):
        (self.run.path / "model_X.npz").touch()
        raise error

    monkeypatch.setattr(cells.StandaloneTrainer, "save_model_and_metadata", fail)
    for error, left in ((ConfigError("bad"), 0), (OSError(28, "full"), 1)):
        with pytest.raises(type(error)):
            cells.train_cell(cell)
        assert len(list((tmp_path / "out/runs").iterdir())) == left


def test_a_training_file_is_the_one_that_the_sweep_began_with(cell, tmp_path):
    with pytest.raises(cells.utils.DataError, match="sha256 111"):
        cells.train_cell(cell | {"sha256": "111"})
    Config(**cell["config"]).expected_path.unlink()
    with pytest.raises(cells.utils.MissingInputError) as caught:
        cells.train_cell(cell)
    assert "share the folder or set inputs_dir" in str(caught.value)


def test_a_file_that_is_there_is_taken_and_candles_that_are_named_win(cell, tmp_path):
    values = {
        "config": cell["config"],
        "data_dir": None,
        "begun": None,
        "use_cache": False,
    }
    facts = cells.prepare_file(values)
    assert (facts["num_rows"], facts["num_features"]) == (900, 8)
    assert facts["sha256"] == cell["sha256"]
    with pytest.raises(cells.utils.MissingInputError, match="candles of TESTUSDT"):
        cells.prepare_file(values | {"data_dir": str(tmp_path / "none")})
    begun = {"path": "/before/file.feather", "sha256": facts["sha256"]}
    assert cells.prepare_file(values | {"begun": begun}) == facts
    Path(facts["path"]).unlink()
    with pytest.raises(cells.utils.MissingInputError) as caught:
        cells.prepare_file(values | {"begun": begun})
    assert str(caught.value).startswith(
        "/before/file.feather: expected the training file that the sweep began with. "
        "Received: no such file any more"
    )


# The command line


@pytest.mark.parametrize(
    ("words", "count", "shown"),
    [
        (
            "--models lightgbm gru --symbols BTCUSDT ETHUSDT --n-splits 5 --fee-bps 10 "
            "--slippage-bps 5",
            4,
            "ETHUSDT-1m-gru-signal-s42",
        ),
        (
            "--models all --symbols BTCUSDT ETHUSDT BNBUSDT --target-type direction "
            "--n-splits 7 --embargo 100 --fee-bps 10 --slippage-bps 5 --max-workers 4 "
            "--cache --experiment-name production_v1",
            45,
            "BNBUSDT-1m-lightgbm-direction-s42",
        ),
        ("--pairs BTCUSDT --timeframes 5m 60m --seeds 1 2", 4, "BTCUSDT-1h-lstm"),
        ("--seeds 1 2 --num-threads 1", 2, "2 cells, 1 training file, 1 thread each"),
    ],
)
def test_a_dry_run_lists_the_cells(words, count, shown, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["sweep", *words.split(), "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert f"{count} cells" in printed and shown in printed
    assert not list(tmp_path.iterdir())


def test_yaml_files_are_bases_and_flags_win(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.yaml").write_text("symbols: ETHUSDT\nepochs: 7\nmodel: gru\n")
    (tmp_path / "b.yaml").write_text("warmup_epochs: 3\nlr_schedule: cosine\n")
    words = ["sweep", "--configs", "a.yaml", "b.yaml", "--models", "cnn", "--dry-run"]
    assert main([*words, "--epochs", "5", "--warmup-epochs", "0"]) == 0
    printed = capsys.readouterr().out
    assert "2 cells" in printed and "ETHUSDT-1m-cnn" in printed
    assert main([*words, "--learning-rate", "0", "--nonsense"]) == 2
    problems = capsys.readouterr().err
    assert "nonsense" in problems
    # It ends the sweep; a run that learns in no epochs would refuse it.
    words = ["sweep", "--models", "logistic", "--dry-run", "--time-limit-minutes", "9"]
    assert main(words) == 0


def test_a_limit_of_time_takes_workers_that_can_be_stopped():
    assert SweepConfig(cell_timeout_minutes=5, max_workers=1).kind == "processes"
    assert SweepConfig(cell_timeout_minutes=5, address="a:1").kind == "auto"
    assert SweepConfig(executor="ray", cell_timeout_minutes=5).kind == "ray"
    with pytest.raises(ConfigError, match="cell_timeout_minutes: .* 'serial'"):
        SweepConfig(executor="serial", cell_timeout_minutes=5)
