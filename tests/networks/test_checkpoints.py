import itertools
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from world.frames import PROJECT, make_own_frame
from world.networks import RUN

import utils
from artifacts import resuming, run_folder
from artifacts.artifact import load_artifact
from config import Config
from networks import callbacks, checkpoints
from networks.allocator import RESTART
from networks.branched import BranchedTraining, weights_digest
from networks.checkpoints import list_checkpoints, read_checkpoint, write_checkpoint
from trainer import StandaloneTrainer
from utils import ConfigError, InUseError, RefusedArtifactError

# Dropout, plateau and early stopping all have something to remember.


@pytest.fixture(scope="module")
def frame():
    return make_own_frame(900, seed=3)


def make_trainer(frame, folder, **fields):
    options = {
        key: fields.pop(key) for key in ("resume", "resume_anyway") if key in fields
    }
    config = Config(**RUN | {"outputs_dir": str(folder)} | fields)
    return StandaloneTrainer(config, frame=frame, **options)


class Killed(BaseException):
    """Stands for a process that ends without a word."""


def prepare(trainer):
    for step in (
        trainer.initialize_components,
        trainer.load_and_validate_data,
        trainer.create_generators,
        trainer.build_model,
        trainer.setup_callbacks,
    ):
        step()


def train(trainer):
    prepare(trainer)
    trainer.train_model()


def run_and_die(trainer, after_epoch, after_step=0, *, in_validation=False):
    class Die(keras.callbacks.Callback):
        epoch = None

        def on_epoch_begin(self, epoch, logs=None):
            self.epoch = epoch
            if epoch == after_epoch and not (after_step or in_validation):
                raise Killed

        def on_train_batch_end(self, batch, logs=None):
            if (self.epoch, batch + 1) == (after_epoch, after_step):
                raise Killed

        def on_test_batch_end(self, batch, logs=None):
            if in_validation and self.epoch == after_epoch:
                raise Killed

    prepare(trainer)
    trainer.callbacks.append(Die())
    with pytest.raises(Killed):
        trainer.train_model()
    trainer.run.unlock()  # a dead process holds no lock


def outcome(trainer):
    optimizer = [v.numpy().tobytes() for v in trainer.model.optimizer.variables]
    exact = {k: [x.hex() for x in v] for k, v in trainer.history.items()}
    return weights_digest(trainer.model), optimizer, exact, trainer.adapter.best_round


@pytest.fixture(scope="module")
def uninterrupted(frame, tmp_path_factory):
    trainer = make_trainer(frame, tmp_path_factory.mktemp("whole"))
    train(trainer)
    assert len(trainer.history["loss"]) < RUN["epochs"]  # early stopping came in
    rates = trainer.history["learning_rate"]
    assert rates[-1] < rates[0]  # and the plateau
    return outcome(trainer)


def test_resumed_runs_end_byte_identical(frame, tmp_path, uninterrupted):
    deaths = (0, 2), (0, 3), (1, 0), (2, 1), (3, 4)
    for epoch, step in deaths:
        trainer = make_trainer(frame, tmp_path, resume="newest", checkpoint_minutes=0.0)
        run_and_die(trainer, epoch, step)
        newest = list_checkpoints(trainer.run.checkpoints)[-1].name
        within = f"_step_{step:07d}" if step else ""
        assert newest == f"epoch_{epoch:05d}{within}.ckpt"
    trainer = make_trainer(frame, tmp_path, resume="newest", checkpoint_minutes=0.0)
    run_and_die(trainer, 4, in_validation=True)
    trainer = make_trainer(frame, tmp_path, resume="newest")
    trainer.run_training()
    assert outcome(trainer) == uninterrupted
    resumes = trainer._metadata["training"]["resumes"]
    assert [note["after_epochs"] for note in resumes] == [0, 0, 1, 2, 3, 4]
    assert all(note["is_exact"] for note in resumes)
    names = {path.name for path in trainer.artifact_dir.iterdir()}
    assert not names & {"checkpoints", ".lock"}


def test_run_that_died_in_its_report_is_finished_by_resume(
    frame, tmp_path, uninterrupted, monkeypatch
):
    trainer = make_trainer(frame, tmp_path)

    def fail(*_):
        raise ZeroDivisionError

    monkeypatch.setattr(trainer, "_report", fail)
    with pytest.raises(ZeroDivisionError):
        trainer.run_training()
    trainer.run.unlock()
    again = make_trainer(frame, tmp_path, resume=trainer.run.path)
    again.run_training()
    assert outcome(again)[0] == uninterrupted[0]
    assert outcome(again)[2:] == uninterrupted[2:]
    assert load_artifact(again.artifact_dir)


def test_what_is_finished_is_not_resumed_and_nothing_to_resume_starts_afresh(
    frame, tmp_path
):
    trainer = make_trainer(frame, tmp_path, epochs=1, resume="newest")
    first = trainer.run_training()
    assert trainer._metadata["training"]["resumes"] == []
    before = sorted(path.stat().st_mtime_ns for path in first.rglob("*"))
    for resume in ("newest", first):
        again = make_trainer(frame, tmp_path, epochs=1, resume=resume)
        assert again.run_training() == first
    assert before == sorted(path.stat().st_mtime_ns for path in first.rglob("*"))


def test_epochs_may_grow(frame, tmp_path):
    more = make_trainer(frame, tmp_path / "a", epochs=3)
    train(more)
    run_and_die(make_trainer(frame, tmp_path / "b", epochs=2), 1)
    grown = make_trainer(frame, tmp_path / "b", epochs=3, resume="newest")
    train(grown)
    assert outcome(grown) == outcome(more)


COURSES = {
    "momentum, a cosine after a warm-up, two early stoppings": {
        "model": "lstm",
        "optimizer": "sgd",
        "lr_schedule": "cosine",
        "warmup_epochs": 2,
        "early_stopping_min_delta": 0.01,
    },
    "decay, steps, statistics of batch normalisation": {
        "model": "cnn",
        "cnn_filters": (4, 4),
        "cnn_kernels": (3, 3),
        "optimizer": "adamw",
        "lr_schedule": "step",
        "lr_step_epochs": 2,
    },
    "accumulated gradients, self-attention": {
        "model": "attention",
        "attention_blocks": 1,
        "attention_dim": 8,
        "attention_ff_dim": 8,
        "optimizer": "rmsprop",
        "lr_schedule": "constant",
        "warmup_epochs": 3,
        "gradient_accumulation_steps": 3,
        "num_branches": 1,  # those of the first course are resumed, too
    },
}


@pytest.mark.parametrize("course", COURSES)
def test_every_optimizer_and_schedule_resumes_byte_identical(frame, tmp_path, course):
    fields = COURSES[course] | {"epochs": 4, "checkpoint_minutes": 0.0}
    whole = make_trainer(frame, tmp_path / "whole", **fields)
    train(whole)
    assert len(set(whole.history["learning_rate"])) > 1
    run_and_die(make_trainer(frame, tmp_path / "dead", **fields), 2, 2)
    again = make_trainer(frame, tmp_path / "dead", resume="newest", **fields)
    train(again)
    assert outcome(again) == outcome(whole)


def test_epochs_of_a_cosine_may_not_grow(frame, tmp_path):
    dead = make_trainer(frame, tmp_path, lr_schedule="cosine", epochs=3)
    run_and_die(dead, 1)
    longer = make_trainer(
        frame, tmp_path, lr_schedule="cosine", epochs=4, resume=dead.run.path
    )
    with pytest.raises(ConfigError, match="the configuration is not the one"):
        longer.run_training()


CHANGES = [
    ({"seed": 7}, "the configuration is not the one it began with"),
    ({"batch_size": 60}, "batch_size: began with 64, now 60"),
    ({"frame": make_own_frame(900, seed=4)}, "the data is not the one"),
    ({"num_branches": 1}, "num_branches: began with 2, now 1"),
]


def test_other_runs_are_refused_or_marked(frame, tmp_path):
    """Each change is refused; a forced run names them all."""
    dead = make_trainer(frame, tmp_path, epochs=2)
    run_and_die(dead, 1)

    def changed(changes, **options):
        fields = {"epochs": 2, "frame": frame, "resume": dead.run.path}
        for change in changes:
            fields |= change
        return make_trainer(fields.pop("frame"), tmp_path, **fields | options)

    for change, message in CHANGES:
        with pytest.raises(ConfigError, match=message) as caught:
            changed([change]).run_training()
        assert "--resume-anyway" in str(caught.value)
        assert not any(
            other in str(caught.value) for _, other in CHANGES[1:] if other != message
        )
    forced = changed([change for change, _ in CHANGES], resume_anyway=True)
    forced.run_training()
    [note] = forced._metadata["training"]["resumes"]
    assert note["is_exact"] is False
    assert all(message in " ".join(note["differences"]) for _, message in CHANGES)


@pytest.fixture(scope="module")
def dead(frame, tmp_path_factory):
    """A run that died after three epochs; nobody goes on with it."""
    trainer = make_trainer(frame, tmp_path_factory.mktemp("dead"))
    run_and_die(trainer, 3)
    return trainer


def test_a_living_run_is_not_resumed(dead):
    assert dead.run.lock()
    for which in ("newest", dead.run.path):
        with pytest.raises(InUseError, match=f"process {os.getpid()} on ") as caught:
            resuming.find_resumable(dead.config, which)
        assert caught.value.exit_code == 75
    dead.run.unlock()


def test_the_last_two_checkpoints_are_kept(dead):
    names = [path.name for path in list_checkpoints(dead.run.checkpoints)]
    assert names == ["epoch_00002.ckpt", "epoch_00003.ckpt"]
    assert (dead.run.path / "best_model_checkpoint.keras").exists()


def test_torn_checkpoint_falls_back_to_the_one_before(
    frame, tmp_path, uninterrupted, caplog
):
    trainer = make_trainer(frame, tmp_path)
    run_and_die(trainer, 3)
    newest = list_checkpoints(trainer.run.checkpoints)[-1]
    newest.write_bytes(newest.read_bytes()[:-10])
    again = make_trainer(frame, tmp_path, resume="newest")
    train(again)
    assert "digest does not match" in caplog.text
    assert outcome(again) == uninterrupted


def test_checkpoint_file_round_trip(tmp_path):
    content = {"a": np.arange(3, dtype=np.float32), "b": np.asarray("text")}
    write_checkpoint(tmp_path / "x.ckpt", content)
    read = read_checkpoint(tmp_path / "x.ckpt")
    assert read["a"].tobytes() == content["a"].tobytes()
    assert str(read["b"]) == "text"
    data = bytearray((tmp_path / "x.ckpt").read_bytes())
    for position in (0, 30, 95, len(data) - 1):
        data[position] ^= 1
        (tmp_path / "x.ckpt").write_bytes(data)
        with pytest.raises(RefusedArtifactError):
            read_checkpoint(tmp_path / "x.ckpt")
        data[position] ^= 1


def test_checkpoint_of_another_network_is_refused(frame, tmp_path, dead):
    state = checkpoints.read_newest(dead.run.checkpoints)
    other = make_trainer(frame, tmp_path, dense_units=(5,))
    other.initialize_components()
    other.load_and_validate_data()
    model = other.build_model()
    with pytest.raises(RefusedArtifactError, match="expected a checkpoint of this"):
        checkpoints.restore_variables(model, state)


def test_sweep_removes_leftovers_of_dead_runs(frame, tmp_path):
    config = Config(**RUN | {"outputs_dir": str(tmp_path)})
    dead = run_folder.RunFolder.create(config)
    dead.unlock()
    alive = run_folder.RunFolder.create(config)
    foreign = config.runs_dir / "my notes"
    foreign.mkdir()
    assert run_folder.sweep(config) == []  # too young
    assert run_folder.sweep(config, min_age_seconds=-1) == [dead.path]
    assert alive.path.exists() and foreign.exists()


PROGRAM = textwrap.dedent(
    """
    import os, signal, sys
    sys.path[:0] = [{project!r}, {tests!r}, {tests!r}]
    import keras, utils
    from world.frames import make_own_frame
    from world.networks import RUN
    from config import Config
    from trainer import StandaloneTrainer

    class Send(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if self.model.optimizer.iterations.numpy() == {step}:
                os.kill(os.getpid(), {number})

    class Trainer(StandaloneTrainer):
        def setup_callbacks(self):
            super().setup_callbacks().insert(0, Send())

    utils.configure_logging()
    config = Config(**RUN | {{"outputs_dir": {folder!r}}})
    def main():
        with utils.StopSignals():
            frame = make_own_frame(900, seed=3)
            Trainer(config, frame=frame, resume="newest").run_training()
    sys.exit(utils.run_command_line(main))
    """
)


def test_signals_stop_after_the_batch_and_say_how_to_go_on(
    frame, tmp_path, uninterrupted
):
    for number, step, name in (
        (signal.SIGINT, 1, "epoch_00000_step_0000002.ckpt"),
        (signal.SIGTERM, 10, "epoch_00002_step_0000003.ckpt"),
    ):
        program = PROGRAM.format(
            project=str(PROJECT),
            tests=str(PROJECT / "tests"),
            number=int(number),
            step=step,
            folder=str(tmp_path),
        )
        result = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            check=False,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
        )
        assert result.returncode == 128 + number, result.stderr
        last = result.stderr.splitlines()[-1]
        [run] = (tmp_path / "runs").iterdir()
        assert last == f"interrupted. To go on: python trainer.py --resume {run}"
        assert list_checkpoints(run / "checkpoints")[-1].name == name
    again = make_trainer(frame, tmp_path, resume="newest")
    train(again)
    assert outcome(again) == uninterrupted


def test_second_signal_ends_at_once():
    code = (
        "import os, signal, utils\n"
        "with utils.StopSignals(is_deferred=True) as signals:\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    assert signals.received == signal.SIGTERM\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    raise SystemExit('not reached')"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=False)
    assert result.returncode == 143


def test_interrupt_in_a_notebook_is_a_keyboard_interrupt(frame, tmp_path):
    trainer = make_trainer(frame, tmp_path)
    trainer.initialize_components()
    trainer.load_and_validate_data()
    trainer.create_generators()
    trainer.build_model()

    class Press(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                os.kill(os.getpid(), signal.SIGINT)

    trainer.setup_callbacks().insert(0, Press())
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt, match="To go on: .* --resume"):
        trainer.train_model()
    assert signal.getsignal(signal.SIGINT) is before
    assert len(list_checkpoints(trainer.run.checkpoints)) == 2


class RunShort(keras.callbacks.Callback):
    """Stands for a step that does not fit into memory unless it is in pieces."""

    def on_train_batch_end(self, batch, logs=None):
        if batch == 2 and self.model.micro_batches == 1:
            raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating")


@pytest.fixture(scope="module")
def weights_of_an_epoch(frame, tmp_path_factory):
    whole = make_trainer(frame, tmp_path_factory.mktemp("epoch"), epochs=1)
    train(whole)
    return whole.model.get_weights()


@pytest.mark.parametrize("in_new_process", [False, True])
def test_a_step_that_does_not_fit_is_done_in_pieces(
    frame, tmp_path, monkeypatch, in_new_process, weights_of_an_epoch
):
    fields = {"epochs": 1, "checkpoint_minutes": 0.0}
    trainer = make_trainer(frame, tmp_path, **fields)
    prepare(trainer)
    trainer.callbacks.append(RunShort())
    words = ["--resume", str(trainer.run.path)]
    if in_new_process:

        def restart(*given):
            assert list(given) == words
            raise Killed

        token = RESTART.set(restart)
        with pytest.raises(Killed):
            trainer.train_model()
        RESTART.reset(token)
        trainer.run.unlock()
        trainer = make_trainer(frame, tmp_path, resume=words[1], **fields)
        prepare(trainer)
    trainer.train_model()
    trainer.save_model_and_metadata()
    assert trainer._metadata["training"]["recoveries"] == [
        {"micro_batches": 2, "checkpoint": "epoch_00000_step_0000003"}
    ]
    notes = trainer._metadata["training"]["resumes"]
    found = [(note["is_exact"], note["differences"]) for note in notes]
    words = "batches: began whole, now in 2 pieces, for memory"
    assert found == ([(False, [words])] if in_new_process else [])
    assert trainer.model.micro_batches == 2
    rows = trainer.data.parts["test"].targets
    expected = trainer.adapter.predict_rows(trainer.data, rows)
    predict = BranchedTraining.predict

    def predict_short(model, *words, **options):
        if model.micro_batches == 2:
            raise MemoryError
        return predict(model, *words, **options)

    monkeypatch.setattr(BranchedTraining, "predict", predict_short)
    got = trainer.adapter.predict_rows(trainer.data, rows)
    np.testing.assert_allclose(got, expected, atol=1e-6)
    assert trainer.model.micro_batches == 4
    monkeypatch.undo()
    for got, expected in zip(
        trainer.model.get_weights(), weights_of_an_epoch, strict=True
    ):
        np.testing.assert_allclose(got, expected, atol=1e-6)


def test_out_of_memory_names_the_batch_size_to_try(frame, tmp_path, monkeypatch):
    trainer = make_trainer(frame, tmp_path, recovery=False)
    for step in (
        "initialize_components",
        "load_and_validate_data",
        "create_generators",
    ):
        getattr(trainer, step)()
    model = trainer.build_model()
    trainer.setup_callbacks()

    def fit(*_, **__):
        raise MemoryError

    monkeypatch.setattr(model, "fit", fit)
    with pytest.raises(utils.UserError, match="--batch-size 32"):
        trainer.train_model()


def test_state_names_its_environment(dead):
    state = json.loads((dead.run.path / run_folder.STATE).read_text())
    assert set(state) == {"configuration", "data", "environment"}
    assert {"num_threads", "onednn", "deterministic_ops", "tensorflow"} <= set(
        state["environment"]
    )


def test_the_best_epoch_before_a_death_stays_the_best(frame, tmp_path, uninterrupted):
    *_, best = uninterrupted
    run_and_die(make_trainer(frame, tmp_path), best)
    trainer = make_trainer(frame, tmp_path, resume="newest")
    prepare(trainer)
    history = trainer.train_model()
    assert len(history["val_loss"]) > best
    (saved,) = (
        each
        for each in trainer.callbacks
        if isinstance(each, keras.callbacks.ModelCheckpoint)
    )
    assert saved.best == min(history["val_loss"])


def test_patience_and_best_weights_survive_a_death(frame, tmp_path, uninterrupted):
    *_, best = uninterrupted
    run_and_die(make_trainer(frame, tmp_path), best + 1)  # one epoch without progress
    trainer = make_trainer(frame, tmp_path, resume="newest")
    train(trainer)
    assert outcome(trainer) == uninterrupted


def test_sweep_leaves_a_dead_run_that_can_go_on(dead):
    leftover = dead.run.path / ".tmp-torn"
    leftover.write_bytes(b"x")
    assert run_folder.sweep(dead.config, min_age_seconds=-1) == [leftover]
    found = resuming.find_resumable(dead.config, "newest")
    assert found.path == dead.run.path
    found.unlock()


def test_a_time_limit_ends_as_early_stopping_does(frame, tmp_path, monkeypatch):
    def with_clock(name, **fields):
        moments = itertools.count(0.0, 60.0)  # a minute from each call to the next
        clock = SimpleNamespace(
            monotonic=lambda: next(moments), perf_counter=time.perf_counter
        )
        monkeypatch.setattr(callbacks, "time", clock)
        return make_trainer(frame, tmp_path / name, time_limit_minutes=2.5, **fields)

    limited = with_clock("limited")
    train(limited)
    assert len(limited.history["loss"]) == 3
    stopped = with_clock("resumed")
    run_and_die(stopped, 2)
    resumed = with_clock("resumed", resume="newest")
    train(resumed)
    assert outcome(resumed) == outcome(limited)
    unlimited = make_trainer(frame, tmp_path / "three", epochs=3)
    train(unlimited)
    assert outcome(unlimited) == outcome(limited)


@pytest.mark.parametrize("model", ["lightgbm", "ppo", "stack"])
def test_a_time_limit_is_of_epochs(model):
    with pytest.raises(ConfigError, match="time_limit_minutes: expected none but of"):
        Config(model=model, time_limit_minutes=5)
