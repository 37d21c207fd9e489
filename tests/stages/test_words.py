"""One stage by the words of system 001, from candles to a registered model."""

import io

import pytest
from world.artifacts import publish

from artifacts.registry import Registry
from candles import synthetic_candles
from experiments.__main__ import main
from models.families import FAMILIES
from stages import words
from stages.__main__ import command
from stages.manager import TrainingConfig, UnifiedTrainingManager
from utils import ConfigError, MissingInputError

SMALL = {
    "feature_sets": ("ray12",),
    "sequence_length": 8,
    "future_window": 5,
    "tabular_inputs": "last_row",
    "num_threads": 1,
    "report": "light",
    "baseline_model": False,
    "importance_windows": None,
    "calibration_method": "none",
    "class_balancing_method": "none",
    "pair": "TESTUSDT",
    **dict.fromkeys(("long_tp_pct", "short_tp_pct"), 0.1),
    **dict.fromkeys(("long_sl_pct", "short_sl_pct"), 0.05),
    "undersampling_min_samples": 1,
}


@pytest.fixture
def candles(tmp_path, monkeypatch):
    """Minutes in a file, and a family that fits in a moment under the name cnn_lstm."""
    monkeypatch.setitem(FAMILIES, "cnn_lstm", FAMILIES["logistic"])
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "candles.parquet"
    synthetic_candles(1500, seed=1).to_parquet(path)
    return path


@pytest.fixture
def asked(tmp_path):
    """What `with_parents` makes of a run; three extractors are registered."""
    names = [
        Registry(tmp_path).register(publish(tmp_path, model=model)).model_id
        for model in ("cnn_lstm", "lstm", "logistic")
    ]

    def ask(model, **fields):
        place = {"outputs_dir": str(tmp_path), "pair": "TESTUSDT", "model": model}
        return words.with_parents(words.build_config(place | fields))

    ask.names = [f"{tmp_path}/{name}" for name in names]
    return ask


def test_a_manager_trains_from_candles_and_knows_how_it_ended(candles, tmp_path):
    manager = UnifiedTrainingManager()
    config = TrainingConfig("cnn_lstm", candles, tmp_path / "models", epochs=1, **SMALL)
    assert config.training_id.startswith("cnn_lstm_2")
    result = manager.train_model(config)
    assert result.success, result.error
    assert manager.get_training_status(config.training_id) is result
    assert manager.list_active_trainings() == []
    entry = Registry(tmp_path / "models").get(result.model_id)
    assert (entry.model_type, result.model_path.is_dir()) == ("cnn_lstm", True)
    used = Registry(tmp_path / "models").open(result.model_id).config
    assert (used.batch_size, used.stage_share, used.timeframe) == (32, 0.5, "1m")

    other = TrainingConfig("ppo", candles, tmp_path / "elsewhere", **SMALL)
    failed = manager.train_model(other)
    assert (failed.status, failed.exit_code) == ("failed", 66)
    assert "pipeline train cnn-lstm" in failed.error


def test_what_there_is_not_is_refused():
    with pytest.raises(ConfigError, match="sentiment, for which there is no source"):
        TrainingConfig("sac", "x.csv", sentiment_features=True)
    with pytest.raises(ConfigError, match="distributed: expected False"):
        TrainingConfig("sac", "x.csv", distributed=True)
    with pytest.raises(ConfigError, match="Did you mean 'ensemble'"):
        TrainingConfig("ensembel", "x.csv")
    with pytest.raises(MissingInputError, match="the id of a training"):
        UnifiedTrainingManager().get_training_status("ppo_1")


def test_parents_are_found_by_words_of_their_ids_or_asked_for(asked, monkeypatch):
    cnn_lstm, lstm, logistic = asked.names
    assert asked("ppo", base_model="cnn_lstm").base_model == cnn_lstm
    assert asked("ppo", base_model=lstm).base_model == lstm
    assert asked("stack", members=["cnn_lstm", "logistic"]).members == (
        cnn_lstm,
        logistic,
    )
    with pytest.raises(ConfigError) as error:
        asked("ppo")
    first, *told = str(error.value).splitlines()
    assert first == "--cnn-lstm-model: expected one model, since several may be meant:"
    assert [line.split()[1] for line in told] == [
        "lstm_TESTUSDT-1m-signal_v1.0.0",
        "cnn_lstm_TESTUSDT-1m-signal_v1.0.0",
    ]
    with pytest.raises(MissingInputError, match="--rl-model: expected a trained model"):
        asked("hybrid", base_model="cnn_lstm")

    monkeypatch.setattr("sys.stdin", io.StringIO("3\n2\n"))
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    assert asked("ppo").base_model == cnn_lstm
    monkeypatch.setattr(
        "sys.stdin", io.StringIO("1\nlstm_TESTUSDT-1m-signal_v1.0.0\ndone\n")
    )
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    assert asked("stack").members == (logistic, lstm)


def test_words_go_where_they_belong(capsys, monkeypatch):
    def told(word):
        return lambda rest: calls.append((word, rest))

    calls = []
    known = command(list=told("list"), benchmark=told("benchmark"))
    for line in ("list --limit 3", "benchmark A B c.parquet"):
        assert main(["pipeline", *line.split()], pipeline=known) == 0
    assert calls == [("list", ["--limit", "3"]), ("benchmark", ["A", "B", "c.parquet"])]
    given = []

    def train(*words, **options):
        given.append((words, options))

    monkeypatch.setattr("stages.words.train_stage", train)
    line = "train ensemble file.feather --models A,B C --optimize --n-trials 3 --seed 4"
    assert main(["pipeline", *line.split()], pipeline=known) == 0
    assert given == [
        (
            ("ensemble", ["file.feather"], {"seed": 4, "members": ["A", "B", "C"]}),
            {"num_trials": 3, "resume": None},
        )
    ]
    line = ["pipeline", "train", "sac", "x", "--sentiment-features"]
    assert main(line, pipeline=known) == 2
