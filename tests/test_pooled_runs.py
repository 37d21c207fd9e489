import dataclasses
import json
import shutil

import numpy as np
import pandas as pd
import pytest
from world.frames import TINY, make_own_frame
from world.signals import make_candles

import trainer
from artifacts.manifest import write_manifest
from artifacts.run_folder import is_internal
from audit.findings import COPIED, OTHER_FEATURES, PASSED
from audit.run import quick_audit, run_audit
from config import Config
from data_loader import TrainingDataLoader
from dataset import training_file
from dataset_builder import build_training_file
from evaluation.class_scores import ClassScores
from evaluation.evaluate import decide, evaluate
from experiments.plan import file_of
from files.strict import read_json
from predictor import Predictor, main
from reports.report import format_results
from reports.trade_plots import list_trades
from settings.names import member_config
from trainer import StandaloneTrainer
from tuning.search import _tried_config
from utils import ConfigError, DataError, RefusedArtifactError

PAIRS = ("ADAUSDT", "SOLUSDT")
RUN = {k: v for k, v in TINY.items() if k != "pair"} | {"pooled_pairs": PAIRS}
RUN |= {"model": "logistic", "timeframe": "4h", "importance_windows": None}
RUN |= {"baseline_model": False, "tensorboard": False}
MINUTES = {"timeframe": "1m", "sequence_length": 10, "future_window": 6}


def pool_of(folder, **fields):
    folders = {"inputs_dir": str(folder), "outputs_dir": str(folder)}
    return Config(**RUN | folders | fields)


def write_frames(config, frames):
    for pair, frame in zip(config.pooled_pairs, frames, strict=True):
        path = member_config(config, pair).expected_path
        training_file.write_training_file(path, frame, {})
    return config


def minutes(folder, *frames, **fields):
    return write_frames(pool_of(folder, **MINUTES | fields), frames)


def load(config):
    return TrainingDataLoader(config=config).load_training_data()


@pytest.fixture(scope="module")
def markets():
    tables = [make_candles(1100, seed=3), make_candles(1100, seed=4)[200:]]
    return dict(zip(PAIRS, (t.reset_index(drop=True) for t in tables), strict=True))


@pytest.fixture(scope="module")
def finished(markets, tmp_path_factory):
    config = pool_of(tmp_path_factory.mktemp("pool"))
    for pair, table in markets.items():
        build_training_file(table, member_config(config, pair))
    run = StandaloneTrainer(config)
    run.run_training()
    return run


# Rows


def test_no_bar_of_a_part_is_in_an_earlier_one_of_any_pair(tmp_path):
    late = make_own_frame(900, seed=4).iloc[300:]
    data = load(minutes(tmp_path, make_own_frame(900, seed=3), late))
    used = {}
    for name, part in data.parts.items():
        times = data.timestamps
        inside = [times[row - 9 : row + 7] for row in part.targets]
        used[name] = (min(t[0] for t in inside), max(t[-1] for t in inside))
        for row in part.targets:  # windows stay in their pair, bar by bar
            assert (np.diff(times[row - 9 : row + 1]) == np.timedelta64(1, "m")).all()
    assert used["train"][1] < used["validation"][0]
    assert used["validation"][1] < used["test"][0]
    moments = {pair: own.timeline for pair, _, own in data.each_pair()}
    edges = {
        pair: [
            own.timeline.at(own.parts[name].start) for name in ("validation", "test")
        ]
        for pair, _, own in data.each_pair()
    }
    assert len(moments) == 2
    assert edges[PAIRS[0]] == edges[PAIRS[1]]


def test_shares_are_of_the_rows_of_all_pairs(tmp_path):
    late = make_own_frame(900, seed=4).iloc[300:]
    data = load(minutes(tmp_path, make_own_frame(900, seed=3), late))
    rows = [part.num_rows for part in data.parts.values()]
    assert rows == pytest.approx([0.7 * 1500, 0.2 * 1500, 0.1 * 1500], abs=2)


def test_parts_by_date_are_the_same_days_in_all_pairs(tmp_path):
    frames = [make_own_frame(7200, seed=3), make_own_frame(7200, seed=4).iloc[99:]]
    first = str(frames[0]["timestamp"].iloc[0])[:10]
    days = [f"{pd.Timestamp(first) + pd.Timedelta(k, 'D'):%F}" for k in (2, 3)]
    data = load(minutes(tmp_path, *frames, train_end=days[0], validation_end=days[1]))
    for _, _, own in data.each_pair():
        start = own.timeline.at(own.parts["validation"].start)
        assert (
            str(start)[:16] == f"{pd.Timestamp(days[0]) + pd.Timedelta(1, 'D'):%FT%R}"
        )


def test_each_pair_has_the_scale_of_its_own_training_rows(tmp_path):
    frames = [make_own_frame(700, seed=3), make_own_frame(700, seed=4)]
    names = [n for n in frames[1] if n.startswith(("price", "volume", "close_ch"))]
    frames[1][names] *= 50.0
    config = minutes(tmp_path, *frames)
    data = load(config)
    for pair, _, own in data.each_pair():
        ranges = {name: (part.start, part.stop) for name, part in own.parts.items()}
        alone = TrainingDataLoader(config=member_config(config, pair))
        lone = alone.load_training_data(ranges)
        assert np.array_equal(own.features, lone.features)
        assert own.pipeline == lone.pipeline
        assert np.array_equal(own.class_prior, lone.class_prior)
        for name, part in own.parts.items():
            assert np.array_equal(part.targets, lone.parts[name].targets)
    assert data.pipeline.scaler != data.pairs[0].pipeline.scaler


@pytest.mark.parametrize("has_columns", [True, False])
def test_a_model_is_told_whose_rows_it_reads(tmp_path, has_columns):
    frames = [make_own_frame(700, seed=3), make_own_frame(700, seed=4)]
    data = load(minutes(tmp_path, *frames, pair_columns=has_columns))
    names = ("pair_ADAUSDT", "pair_SOLUSDT") if has_columns else ()
    assert data.feature_names[8:] == names
    assert data.features.shape == (1400, 8 + len(names))
    own = np.repeat(np.eye(2, dtype=np.float32), 700, axis=0)
    assert np.array_equal(data.features[:, 8:], own[:, : len(names)])
    raw = frames[1][list(data.scaler.feature_names)].to_numpy(np.float32)
    assert np.array_equal(data.pairs[1].pipeline.scaled(raw), data.features[700:])
    unseen = data.pipeline.for_pair("XRPUSDT").scaled(raw)
    assert unseen.shape[1] == data.num_features and not unseen[:, 8:].any()


def test_pairs_that_were_cut_at_other_moments_are_refused(tmp_path):
    frames = [make_own_frame(700, seed=3), make_own_frame(700, seed=4)]
    data = load(minutes(tmp_path, *frames))
    spans = [*data.parts["train"].spans]
    spans[1] = (spans[1][0], spans[1][1] + 50)
    train = dataclasses.replace(data.parts["train"], spans=tuple(spans))
    with pytest.raises(DataError, match="the same moments between parts in all pairs"):
        dataclasses.replace(data, parts={**data.parts, "train": train})


def test_what_does_not_fit_together_is_refused(tmp_path):
    frame = make_own_frame(700, seed=3)
    other = make_own_frame(700, seed=4)
    lacking = other.drop(columns=other.columns[1])
    with pytest.raises(
        DataError, match=f"ADAUSDT and SOLUSDT differ in {other.columns[1]}"
    ):
        load(minutes(tmp_path, frame, lacking))
    old = frame.assign(timestamp=frame["timestamp"] - pd.Timedelta(30, "D"))
    with pytest.raises(DataError, match="ADAUSDT: expected rows of each pooled pair"):
        load(minutes(tmp_path, old, other))
    gap = other.assign(is_target=other.index < 600)
    with pytest.raises(DataError, match="SOLUSDT: expected a target of each pooled"):
        load(minutes(tmp_path, frame, gap))
    with pytest.raises(ConfigError, match="pooled_pairs: expected training files"):
        StandaloneTrainer(pool_of(tmp_path), frame=frame).run_training()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"pooled_pairs": ("ADAUSDT",)}, "expected two pairs or more"),
        ({"pooled_pairs": ("ADAUSDT", "ADA")}, "pooled_pairs: expected base and quote"),
        ({"pair": "ETHUSDT"}, "pair: expected none with pooled_pairs"),
        ({"training_file": "x.csv"}, "training_file: expected {pair} in it"),
        ({"model": "ppo"}, "model: expected one that learns from windows of any pair"),
        ({"n_splits": 3}, "n_splits, cv_test_days: expected none with pooled_pairs"),
        ({"init_from": "x"}, "init_from: expected none with pooled_pairs"),
        ({"target": "price"}, "target: expected 'return' with pooled_pairs"),
        ({"stage_share": 0.5}, "stage_share: expected 1 with pooled_pairs"),
    ],
)
def test_configurations_that_no_pool_has(fields, message):
    with pytest.raises(ConfigError) as error:
        Config(**{"pooled_pairs": PAIRS} | fields)
    assert message in str(error.value)


def test_a_pool_has_one_name_whatever_the_order():
    config = Config(pooled_pairs=("SOL/USDT", "ADAUSDT"))
    assert config.pair == Config(pooled_pairs=("ADAUSDT", "SOL_USDT")).pair
    assert config.pair.startswith("POOL-") and len(config.pair) == 13
    assert Config(**config.to_dict()) == config


def test_a_dry_run_names_the_file_of_each_pair(tmp_path, capsys):
    frames = [make_own_frame(900, seed=3), make_own_frame(900, seed=4)]
    config = minutes(tmp_path, *frames)
    path = tmp_path / "run.yaml"
    path.write_text(config.to_yaml())
    assert trainer.main(["--config", str(path), "--config-test"]) == 0
    printed = capsys.readouterr().out
    for pair in PAIRS:
        assert member_config(config, pair).expected_filename in printed
    assert "rows:    1,260 train, 360 validation, 180 test; 10 features" in printed
    member_config(config, PAIRS[1]).expected_path.unlink()
    assert trainer.main(["--config", str(path), "--config-test"]) == 0
    assert "not there" in capsys.readouterr().out
    assert trainer.main(["--config", str(path)]) == 66


def test_a_finished_pool_is_not_trained_again_unless_a_file_changed(tmp_path):
    frames = [make_own_frame(900, seed=3), make_own_frame(900, seed=4)]
    config = minutes(tmp_path, *frames, report="light")
    done = StandaloneTrainer(config).run_training()
    assert StandaloneTrainer(config, resume="newest").run_training() == done
    write_frames(config, [frames[0], make_own_frame(900, seed=5)])
    with pytest.raises(DataError, match="the same after a change"):
        StandaloneTrainer(config, resume="newest").run_training()


def test_pairs_may_begin_and_end_at_other_times_in_any_order(tmp_path, capsys):
    late, short = make_own_frame(2400, seed=3)[500:], make_own_frame(2380, seed=4)
    config = minutes(tmp_path, late, short)
    assert (StandaloneTrainer(config).run_training() / "report.html").is_file()
    path = tmp_path / "run.yaml"
    path.write_text(config.to_yaml())
    assert trainer.main(["--config", str(path), "--config-test"]) == 0
    times = {
        t for _, _, own in load(config).each_pair() for t in moments_of_the_test(own)
    }
    horizons = f"{len(times) / 6:.0f} horizons"
    assert horizons in capsys.readouterr().out


def moments_of_the_test(own):
    return own.timeline.at(own.parts["test"].targets).tolist()


def test_sweeps_and_searches_are_of_one_pair(tmp_path):
    config = pool_of(tmp_path, model="lightgbm")
    with pytest.raises(ConfigError, match="pooled_pairs: expected none in a sweep"):
        file_of(config)
    with pytest.raises(ConfigError, match="pooled_pairs: expected none in a search"):
        _tried_config(config, "val_log_loss", 1)


# Judging


@pytest.mark.parametrize("target", ["signal", "return"])
def test_what_is_by_chance_is_said_of_each_pair(tmp_path, target):
    config = pool_of(tmp_path, target=target, model="gradient_boosting")
    for seed, pair in enumerate(PAIRS):
        drift = np.exp(np.linspace(0, 15 * seed, 2400))
        table = make_candles(2400, seed=5 + seed)
        prices = ["open", "high", "low", "close"]
        table[prices] = table[prices].mul(drift, axis=0)
        build_training_file(table, member_config(config, pair))
    data, rng = load(config), np.random.default_rng(1)
    said = {
        name: rng.dirichlet(np.ones(3), len(part.targets)).astype(np.float32)
        for name, part in data.parts.items()
        if name != "train"
    }
    if target == "return":
        said = {name: each[:, 0] - 0.4 for name, each in said.items()}
    quiet = config.replace(baseline_model=False)
    results = evaluate(decide(data, said, quiet), data, quiet)
    key = "log_loss_own_mix" if target == "signal" else "sign_expected"
    apart = [results["pairs"][pair]["test"] for pair in PAIRS]
    counts = [each["num_samples"] for each in apart]
    found = np.average([each[key] for each in apart], weights=counts)
    assert results["test"][key] == pytest.approx(found, abs=2e-3)
    assert apart[0][key] != pytest.approx(apart[1][key], abs=1e-2)


@pytest.mark.parametrize("target", ["signal", "return"])
def test_copies_of_a_market_say_no_more_than_it_does(tmp_path, target):
    table = make_candles(2400, seed=5)
    config = pool_of(tmp_path, target=target, model="gradient_boosting")
    for pair in PAIRS:
        build_training_file(table, member_config(config, pair))
    data = load(config)
    [(_, _, alone), _] = data.each_pair()
    rng = np.random.default_rng(1)
    said = {}
    for name in ("validation", "test"):
        rows = alone.parts[name].targets
        if target == "signal":
            said[name] = rng.dirichlet(4 * np.ones(3), len(rows)).astype(np.float32)
        else:
            said[name] = 0.1 * rng.standard_normal(len(rows)).astype(np.float32)
    both = {name: np.concatenate([each, each]) for name, each in said.items()}
    quiet = config.replace(baseline_model=False)
    results = evaluate(decide(data, both, quiet), data, quiet)
    lone = evaluate(decide(alone, said, quiet), alone, member_config(quiet, PAIRS[0]))
    for name, interval in lone["test"]["intervals"].items():
        found = results["test"]["intervals"][name]
        assert found == pytest.approx(interval), name
    for pair in PAIRS:
        for name, interval in lone["test"]["intervals"].items():
            found = results["pairs"][pair]["test"]["intervals"][name]
            assert found == pytest.approx(interval), name
    assert results["test"]["length"] == lone["test"]["length"]


def test_intervals_by_moment_equal_a_plain_loop(finished):
    model, data = judged(finished)
    scores = finished_scores(finished, model)
    table = scores.table
    sums = {}
    mean = scores.losses.mean()
    for moment, loss in zip(table["timestamp"], scores.losses, strict=True):
        sums[moment] = sums.get(moment, 0.0) + loss - mean
    wanted = [mean + sums[m] * len(sums) / len(table) for m in sorted(sums)]
    assert scores.by_moment(scores.losses) == pytest.approx(np.array(wanted))
    assert len(sums) < len(table)
    assert data.pairs


def judged(run):
    outputs = {
        name: run.adapter.predict_rows(run.data, part.targets)
        for name, part in run.data.parts.items()
        if name != "train"
    }
    return decide(run.data, outputs, run.config), run.data


def finished_scores(run, model):
    return ClassScores(model.of_part("test"), run.data, run.config)


def test_a_pool_trades_an_equal_share_of_each_pair(finished):
    model, data = judged(finished)
    rng = np.random.default_rng(2)
    table = model.table.assign(signal=rng.integers(0, 3, len(model.table)))
    loud = dataclasses.replace(model, table=table)
    test = loud.of_part("test")
    trades = list_trades(test.table, test.scores(), data, finished.config)
    assert set(trades["pair"]) == set(PAIRS)
    equity = 1.0
    for trade in trades.itertuples():
        equity *= 1 + 0.5 * trade.net_bps / 1e4
        assert trade.equity == pytest.approx(equity)
    assert (trades["size"] == 0.5).all()
    assert trades["time_out"].is_monotonic_increasing
    for pair, own in (
        data.each_pair() and {pair.name: pair for pair in data.pairs}.items()
    ):
        one = loud.of_part("test", own)
        lone = list_trades(one.table, one.scores(), data.of_pair(own), finished.config)
        mine = trades[trades["pair"] == pair]
        assert mine["net_bps"].tolist() == lone["net_bps"].tolist()
        assert mine["entry_price"].tolist() == lone["entry_price"].tolist()


def test_the_report_tells_of_each_pair_and_of_all_together(finished):
    results = read_json(finished.artifact_dir / "confusion_matrix_report.json")
    assert set(results["pairs"]) == set(PAIRS)
    count = sum(each["test"]["num_samples"] for each in results["pairs"].values())
    assert results["test"]["num_samples"] == count
    hits = sum(
        each["test"]["accuracy"] * each["test"]["num_samples"]
        for each in results["pairs"].values()
    )
    assert results["test"]["accuracy"] == pytest.approx(hits / count)
    text = format_results(results)
    page = (finished.artifact_dir / "report.html").read_text()
    assert "ADAUSDT, SOLUSDT in one model" in page
    for pair in PAIRS:
        assert f"  {pair}  " in text
        assert f"pairs.{pair}.test" in page
    metadata = json.loads(next(finished.artifact_dir.glob("metadata_*")).read_text())
    assert set(metadata["data"]["pairs"]) == set(PAIRS)
    assert metadata["data"]["pooled_targets"][PAIRS[0]]["test"] > 0
    assert metadata["config"]["pair"] == finished.config.pair
    assert finished.artifact_dir.parent.parent.name == finished.config.pair


# Predicting


def test_each_pair_gets_the_answers_of_the_report(finished, markets):
    table = pd.read_parquet(next(finished.artifact_dir.glob("predictions_*.parquet")))
    for pair, candles in markets.items():
        predictor = Predictor(finished.artifact_dir, pair=pair)
        assert predictor.notes == [] and predictor.pair == pair
        said = predictor.predict_candles(candles, last=150)
        own = table[table["pair"] == pair].merge(said, on="timestamp")
        assert len(own) > 100
        for name in ("short", "hold", "long"):
            assert own[f"p_{name}"].to_numpy() == pytest.approx(
                own[f"calibrated_{name}"].to_numpy(), abs=1e-6
            )
        assert (own["signal_x"] == own["signal_y"]).all()
        assert (own["unlikeness"] <= 1.0).mean() > 0.9


def test_a_pair_that_was_never_seen_is_said(finished, caplog):
    known = Predictor(finished.artifact_dir, pair="sol/usdt")
    assert known.notes == [] and known.pair == "SOLUSDT"
    predictor = Predictor(finished.artifact_dir, pair="XRP/USDT")
    [note] = predictor.notes
    assert "learned from ADAUSDT, SOLUSDT, never from XRP_USDT" in note
    assert note in caplog.text
    assert predictor.scaler == finished.data.scaler
    rows = predictor.predict_candles(make_candles(600, seed=9), last=3)
    assert (rows["status"] == "ok").all()


def test_a_pair_has_to_be_named(finished, markets, tmp_path, capsys):
    with pytest.raises(ConfigError, match="pair: expected one, of a model"):
        Predictor(finished.artifact_dir)
    path = tmp_path / "SOLUSDT-4h.parquet"
    markets["SOLUSDT"].to_parquet(path)
    assert main([str(finished.artifact_dir), str(path)]) == 2
    words = [str(finished.artifact_dir), str(path), "--pair", "SOLUSDT"]
    assert main([*words, "--format", "csv"]) == 0
    assert "2024" in capsys.readouterr().out
    words[-1] = "ADAUSDT"
    assert main(words) == 65  # the file says that it is of another


def test_steps_of_a_pair_that_do_not_fit_are_refused(finished, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(finished.artifact_dir, folder)
    path = next(folder.glob("pairs_*.json"))
    steps = json.loads(path.read_text())
    steps["SOLUSDT"]["steps"][-2]["parameters"]["bars"] = 9
    path.write_text(json.dumps(steps))
    with pytest.raises(RefusedArtifactError):
        Predictor(folder, pair="ADAUSDT")
    write_manifest(folder, "MANIFEST.json", is_internal=is_internal)
    with pytest.raises(RefusedArtifactError, match="pairs_"):
        Predictor(folder, pair="ADAUSDT")


# Looking for leaks


def test_an_audit_names_the_pair_that_leaks(tmp_path):
    rng = np.random.default_rng(1)
    frames = [make_own_frame(1500, seed=seed) for seed in (3, 4)]
    frames = [frame.assign(extra=rng.standard_normal(1500)) for frame in frames]
    close = frames[1]["close"]
    frames[1]["extra"] = close.shift(-3).ffill() / close - 1
    report = run_audit(minutes(tmp_path, *frames))
    [leak] = report.leaks
    assert leak.check == COPIED and leak.columns == ("extra",)
    assert "SOLUSDT: extra is long_return" in leak.what
    assert "ADAUSDT:" not in leak.what
    quick = quick_audit(load(minutes(tmp_path / "again", *frames)), pool_of(tmp_path))
    assert [item.check for item in quick.leaks] == [COPIED]


def test_candles_of_each_pair_prove_its_rows(finished, markets, tmp_path):
    files = [tmp_path / f"{pair}-4h.parquet" for pair in PAIRS]
    for path, table in zip(files, markets.values(), strict=True):
        table.to_parquet(path)
    report = run_audit(finished.config, candles=files)
    assert not report.leaks
    [again] = [item for item in report.findings if item.check == OTHER_FEATURES]
    assert again.outcome == PASSED
    assert all(f"{pair}: 8 columns of" in again.what for pair in PAIRS)
    with pytest.raises(ConfigError, match="files whose names say their pair"):
        run_audit(finished.config, candles=markets[PAIRS[0]])
