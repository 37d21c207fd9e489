import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
from world.frames import TINY, make_own_frame

from artifacts.artifact import load_artifact
from config import Config
from data_loader import TrainingDataLoader
from dataset import training_file
from evaluation import folds
from evaluation.folds import count_lookback, gather, out_of_fold, paths_of
from executors.tasks import SerialExecutor
from files import tables
from files.strict import read_json
from models.families import load_adapter
from preprocessing.parts import create_splitter, development_targets, fold_ranges
from reports.report import NUMBERS, format_results
from trainer import StandaloneTrainer
from utils import ConfigError, DataError, UserError

RUN = TINY | {
    "n_splits": 3,
    "epochs": 2,
    "windows_per_epoch": 200,
    "dropout_rate": 0.3,
    "report": "light",
}
PAGE = {"report": "full", "baseline_model": False, "importance_windows": None}


@pytest.fixture(scope="module")
def frame():
    return make_own_frame(2400, seed=3)


def make_trainer(frame, folder, **options):
    config = Config(**RUN | {"outputs_dir": str(folder), "n_splits": 2})
    return StandaloneTrainer(config, frame=frame, **options)


@pytest.fixture(scope="module")
def finished(frame, tmp_path_factory):
    trainer = make_trainer(frame, tmp_path_factory.mktemp("cv"))
    trainer.run_training()
    return trainer


def oof(folder):
    return pd.read_parquet(next(folder.glob("oof_predictions_*.parquet")))


def test_folds_are_reported_one_by_one_with_mean_and_spread(finished):
    path = finished.artifact_dir / "confusion_matrix_report.json"
    report = json.loads(path.read_text())["cross_validation"]
    assert (report["cv"], report["num_folds"], len(report["folds"])) == (
        "walk_forward",
        2,
        2,
    )
    losses = report["metrics"]["log_loss"]
    assert losses["mean"] == pytest.approx(np.mean(losses["folds"]))
    assert losses["std"] == pytest.approx(np.std(losses["folds"], ddof=1))
    assert len(set(losses["folds"])) == 2


def test_out_of_fold_predictions_are_kept_aligned(finished, frame):
    table = oof(finished.artifact_dir)
    assert table["fold"].unique().tolist() == [1, 2]
    assert table["row"].is_monotonic_increasing and table["row"].is_unique
    assert table["row"].max() < finished.data.parts["test"].start
    rows = table["row"].to_numpy()
    assert np.array_equal(table["close"], frame["close"].to_numpy()[rows])
    assert np.array_equal(table["label"], frame["label"].to_numpy()[rows])


def test_final_model_is_the_one_without_folds(finished, frame, tmp_path):
    config = Config(**RUN | {"outputs_dir": str(tmp_path), "n_splits": None})
    plain = StandaloneTrainer(config, frame=frame)
    plain.run_training()
    key = "weights_sha256"
    assert plain._metadata["model"][key] == finished._metadata["model"][key]


def test_rows_are_read_and_checked_once_for_all_folds(frame, tmp_path, monkeypatch):
    path = tmp_path / "TESTUSDT.feather"
    frame.to_feather(path)
    opened, checked = [], []

    def counted(function, calls):
        def call(*arguments, **options):
            calls.append(function.__name__)
            return function(*arguments, **options)

        return call

    monkeypatch.setattr(tables, "open_table", counted(tables.open_table, opened))
    read_rows = counted(training_file.read_rows, checked)
    monkeypatch.setattr(training_file, "read_rows", read_rows)
    config = Config(**RUN | {"outputs_dir": str(tmp_path), "model": "logistic"})
    trainer = StandaloneTrainer(config.replace(training_file=str(path)))
    trainer.run_training()
    assert len(trainer._fold_results) == 3
    assert (opened, checked) == (["open_table"], ["read_rows"])


def test_finished_folds_are_not_repeated(frame, tmp_path, finished, monkeypatch):
    trainer = make_trainer(frame, tmp_path)
    trained = []
    original = folds.train_fold

    def die_in_the_second(run, ranges, number, rows):
        trained.append(number)
        if len(trained) == 2:
            raise ZeroDivisionError
        return original(run, ranges, number, rows)

    monkeypatch.setattr(folds, "train_fold", die_in_the_second)
    with pytest.raises(ZeroDivisionError):
        trainer.run_training()
    trainer.run.unlock()
    again = make_trainer(frame, tmp_path, resume="newest")
    again.run_training()
    assert trained == [1, 2, 2]
    pd.testing.assert_frame_equal(oof(again.artifact_dir), oof(finished.artifact_dir))
    key = "weights_sha256"
    assert again._metadata["model"][key] == finished._metadata["model"][key]


def test_folds_side_by_side_are_those_of_one_after_another(
    frame, tmp_path, monkeypatch
):
    """Their tasks go through JSON, here to this process."""
    path = tmp_path / "TESTUSDT.feather"
    frame.to_feather(path)
    fields = RUN | {"model": "logistic", "training_file": str(path)}
    opened, needed, trained, original = [], [], [], folds.train_fold

    class Noting(SerialExecutor):
        def submit(self, task):
            needed.append(task.memory_bytes)
            super().submit(task)

    def open_executor(kind, *, max_workers, log_folder):
        opened.append((kind, max_workers, log_folder.name))
        return Noting()

    def noted(run, ranges, number, rows):
        trained.append(number)
        if len(trained) == 6:  # the third of those side by side
            raise DataError("no room")
        return original(run, ranges, number, rows)

    monkeypatch.setattr(folds, "open_executor", open_executor)
    monkeypatch.setattr(folds, "train_fold", noted)

    def make(name, **options):
        config = Config(**fields | {"outputs_dir": str(tmp_path / name)})
        return StandaloneTrainer(config, **options)

    one = make("one")
    one.run_training()
    with pytest.raises(UserError, match="^fold 3 of 3: no room$") as failure:
        (broken := make("two", parallel_folds=2)).run_training()
    assert failure.value.exit_code == 65
    broken.run.unlock()
    again = make("two", parallel_folds=2, resume="newest")
    again.run_training()
    assert trained == [1, 2, 3, 1, 2, 3, 3]
    assert opened == [("processes", 2, "folds")] * 2
    assert needed == [4 * len(frame) * 8 * 4] * 4  # four arrays of float32
    pd.testing.assert_frame_equal(oof(one.artifact_dir), oof(again.artifact_dir))
    said, also = (read_json(x.artifact_dir / NUMBERS) for x in (one, again))
    assert said["cross_validation"] == also["cross_validation"]


def test_a_table_in_memory_has_no_folds_side_by_side(frame):
    config = Config(**RUN)
    rows = TrainingDataLoader.from_frame(frame, config=config).read_rows()
    with pytest.raises(ConfigError, match="expected a training file"):
        folds.train_folds(None, [], rows, parallel_folds=2)


@pytest.fixture(scope="module")
def walk(frame, tmp_path_factory):
    """A run whose three folds are trained, and nothing else."""
    tmp_path = tmp_path_factory.mktemp("walk")
    walk = {"n_splits": None, "cv_train_bars": 700, "cv_test_bars": 400}
    walk |= {"keep_folds": True}
    fields = RUN | walk | {"model": "logistic", "outputs_dir": str(tmp_path)}
    trainer = StandaloneTrainer(Config(**fields), frame=frame)
    for step in ("initialize_components", "load_and_validate_data"):
        getattr(trainer, step)()
    trainer.create_generators()
    trainer.build_model()
    trainer.setup_callbacks()
    assert len(trainer.cross_validate()) == 3
    return trainer


def test_the_first_model_says_the_same_of_its_own_block(walk):
    folders = [walk.run.fold(number) for number in (1, 2, 3)]
    fixed = pd.read_parquet(folders[0].file("never_retrained", ".parquet"))
    parts = [pd.read_parquet(each.file("predictions", ".parquet")) for each in folders]
    first, *later = [part[part["part"] == "test"] for part in parts]
    rows = pd.concat([first, *later])["row"]
    assert fixed["row"].tolist() == rows.tolist()
    same = fixed[: len(first)].reset_index(drop=True)
    first = first.drop(columns="part").reset_index(drop=True)
    pd.testing.assert_frame_equal(same, first)
    said = "probability_long"
    assert (fixed[said][len(first) :].to_numpy() != pd.concat(later)[said]).any()


def test_a_kept_fold_is_an_artifact_of_its_own(walk):
    kept = walk.run.path / "kept_folds" / "fold_02"
    adapter = load_adapter(load_artifact(kept))
    table = pd.read_parquet(walk.run.fold(2).file("predictions", ".parquet"))
    test = table[table["part"] == "test"]
    ranges = fold_ranges(walk.data.timeline, walk.config)[1]
    data = walk.data_loader.load_training_data(ranges, rows=walk._rows)
    said = adapter.predict_proba(data, test["row"].to_numpy())
    assert np.array_equal(said[:, 2], test["probability_long"])
    names = {path.name.partition("_")[0] for path in kept.iterdir()}
    assert names == {
        *("model", "scaler", "preprocessor", "calibrator", "metadata", "history"),
        "MANIFEST.json",
    }


def net_returns(table):
    """Of one position at a time, each of three bars, at 0.3 % a round trip."""
    found, free_at = [], -1
    for row in table.itertuples():
        if row.signal != 1 and row.row >= free_at:
            gross = row.long_return if row.signal == 2 else row.short_return
            found.append(gross - 0.003)
            free_at = row.row + 3
    return np.array(found)


def test_folds_trade_in_one_simulation_beside_the_first_model(walk):
    rng, said = np.random.default_rng(5), []
    for number in (1, 2, 3):
        path = walk.run.fold(number).file("predictions", ".parquet")
        table = pd.read_parquet(path)
        table["signal"] = rng.integers(0, 3, len(table)).astype(np.int8)
        table.to_parquet(path)
        said.append(table[table["part"] == "test"])
    table = out_of_fold(walk.run, 3)
    assert table["signal"].tolist() == pd.concat(said)["signal"].tolist()
    summary = gather(walk.run, table, walk._fold_results, walk.data)
    earned, net = summary["trading"], net_returns(table)
    count = len(net)
    assert earned["num_trades"] == count
    assert earned["total_return_pct"] == pytest.approx(100 * (np.prod(1 + net) - 1))
    assert [item["month"] for item in earned["months"]] == ["2024-01"]
    # Two days have a mean, and are too short for an interval.
    gain = summary["never_retrained"]["intervals"]["gain_bps_per_day"]
    assert gain["low"] is None
    alone = pd.read_parquet(walk.run.fold(1).file("never_retrained", ".parquet"))
    more = net.sum() - net_returns(alone).sum()
    assert gain["estimate"] == pytest.approx(1e4 * more / 2)
    fixed = summary["never_retrained"]["trading"]
    assert fixed["num_days"] == pytest.approx(earned["num_days"], abs=0.01)
    assert fixed["num_trades"] != count


def test_combinatorial_folds_have_paths_that_are_judged(frame, tmp_path):
    fields = {"n_splits": 4, "cv": "combinatorial", "model": "logistic"}
    config = Config(**RUN | PAGE | fields | {"outputs_dir": str(tmp_path)})
    trainer = StandaloneTrainer(config, frame=frame)
    folder = trainer.run_training()
    report = json.loads((folder / "confusion_matrix_report.json").read_text())
    summary = report["cross_validation"]
    assert summary["num_folds"] == len(summary["folds"]) == 6
    assert [fold["lookback_rows"] for fold in summary["folds"]] == [None] * 6
    table = oof(folder)
    assert set(table.groupby("row").size()) == {3}
    samples = summary["paths"]["num_samples"]
    assert samples["folds"] == [table["row"].nunique()] * 3
    # Its first block is of fold 1, its last of fold 3: the first that test them.
    splitter = create_splitter(config)
    [first, *_] = paths_of(table, splitter, development_targets(len(frame), config))
    assert first["row"].is_unique and first["row"].is_monotonic_increasing
    assert (first["fold"].iloc[0], first["fold"].iloc[-1]) == (1, 3)
    said = first[["probability_short", "probability_hold", "probability_long"]]
    right = said.to_numpy()[np.arange(len(first)), first["label"]]
    loss = -np.log(right.astype(float)).mean()
    assert summary["paths"]["log_loss"]["folds"][0] == pytest.approx(loss, rel=1e-6)
    text = (folder / "report.html").read_text()
    assert "Paths through all blocks" in text and "path 3" in text
    assert "paths through all blocks" in format_results(report)


def test_targets_that_look_back_into_a_test_block_are_counted(frame):
    fields = {"n_splits": 4, "cv": "combinatorial", "embargo_bars": 50}
    config = Config(**RUN | fields)
    loader = TrainingDataLoader.from_frame(frame, config=config)
    fold = loader.load_training_data(fold_ranges(len(frame), config)[0])
    assert count_lookback(fold) is None
    train, test = (fold.parts[name].targets for name in ("train", "test"))
    for lookback in (0, 100, 10_000):
        source = fold.source | {"warm_up_bars": lookback}
        used = np.zeros(len(frame), bool)
        for row in test:
            used[max(0, row - 7) : row + 6] = True
        plain = sum(used[max(0, row - 7 - lookback) : row + 1].any() for row in train)
        assert count_lookback(dataclasses.replace(fold, source=source)) == plain
    assert plain == len(train)
