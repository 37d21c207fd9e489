"""Columns that know what comes are doubtful; what was known at its row is not."""

import json
import logging

import numpy as np
import pandas as pd
import pytest

import trainer
from audit import feature_files, findings, label_copies, leading, learned_columns
from benchmarks.planted_leaks import Market, clean_file, honest, leaks, planted
from candles.synthetic import synthetic_candles
from data_loader import TrainingDataLoader
from utils import ConfigError, DataError, MissingInputError

SLOW = {"polynomial of the file", "standardised by the file", "rank in the file"}
"""What no statistic of these rows finds; see docs/audit.md."""


@pytest.fixture(scope="module")
def market():
    return Market(synthetic_candles(40_000, seed=3))


def doubtful(market, columns, *, names=()):
    """Returns the check that doubts each column."""
    known = {name: np.nan_to_num(np.asarray(x, float)) for name, x in columns.items()}
    bars = market.bars[list(names)] if names else market.bars
    found = {}
    for item in leading.check_leading(known, bars):
        for column in item.columns:
            if item.outcome == "doubtful":
                found.setdefault(column, item.check)
    return found


def test_planted_leaks_are_doubtful_by_name(market):
    found = doubtful(market, leaks(market))
    missed = set(leaks(market)) - set(found)
    assert missed - SLOW <= {
        "change of the open day",  # 28 days
        "encoded day",
        "encoded hour of the week",
        "price to the day's high",
        "price to the day's vwap",
        "funding of the next period",
    }
    assert found["next volume"] == "column leads the volume"
    assert found["centred volatility"] == "column leads the volatility"
    assert found["repainting zigzag"] == "column leads the price"


def test_honest_columns_are_not(market):
    columns = honest(market)
    for hour in range(2, 24):
        del columns[f"hour {hour}"]
    assert doubtful(market, columns) == {}


def test_closes_alone_show_what_leads_the_price(market):
    columns = leaks(market)
    chosen = {name: columns[name] for name in ("centred mean of 31", "backfilled")}
    found = doubtful(market, chosen, names=("timestamp", "close"))
    assert set(found.values()) == {"column leads the price"} and len(found) == 2


def test_what_cannot_be_tested_is_not_done(market):
    flag = np.zeros(len(market.rows))
    flag[:20] = 1
    bars = market.bars[["timestamp", "close"]][:3000]
    flag = flag[:3000]
    price, _, volume, sparse = leading.check_leading({"flag": flag}, bars)
    assert price.outcome == "passed"
    assert (volume.outcome, sparse.columns) == ("not done", ("flag",))
    assert sparse.outcome == "not done"
    few = leading.check_leading({"flag": flag[:99]}, bars[:99])
    assert {item.outcome for item in few} == {"not done"}


# Learned over all rows


def load(frame, config):
    return TrainingDataLoader.from_frame(frame, config=config).load_training_data()


def test_columns_learned_over_all_rows_leave_a_trace(market):
    config, frame = clean_file(market.bars)
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 300, len(frame))
    side = pd.Series(frame["label"] - 1.0)
    noise = rng.standard_normal((len(frame), 3)) @ rng.standard_normal((3, 3))
    centred = noise - noise.mean(axis=0)
    components = centred @ np.linalg.svd(centred, full_matrices=False)[2].T
    until = int(len(frame) * 0.7)
    columns = {
        "encoded": side.groupby(codes).transform("mean"),
        "rank": pd.Series(noise[:, 0].cumsum()).rank(),
        "honest code": codes,
        "honest index": np.arange(len(frame)),
        **{f"component {k}": components[:, k] for k in range(3)},
        "of train": codes,
    }
    columns["of train"] = side[:until].groupby(codes[:until]).mean()[codes].to_numpy()
    table = frame.assign(**{k: np.asarray(x, float) for k, x in columns.items()})
    finding = learned_columns.check_learned(load(table, config))
    assert finding.outcome == "leak"
    assert set(finding.columns) == {
        "encoded",
        "rank",
        *(f"component {k}" for k in range(3)),
    }


@pytest.mark.parametrize("scaler", ["none", "robust"])
def test_prices_fitted_to_all_rows_are_doubtful(scaler):
    candles = synthetic_candles(12_000, seed=4)
    market, (config, frame) = Market(candles), clean_file(candles)
    fitted = {name: x for name, x in leaks(market).items() if name in SLOW}
    known = honest(market) | {
        "log": market.log,
        "root": np.sqrt(market.close),
        "price to its past": market.log - market.log.expanding().mean(),
        "expanding rank": market.log.expanding().rank(pct=True),
    }
    table = planted(frame, candles, fitted | known)
    config = config.replace(scaler_type=scaler, clip_limit=1e6)
    loader = TrainingDataLoader.from_frame(table, config=config)
    found = learned_columns.check_price_fits(loader.load_training_data())
    assert found.outcome == "doubtful" and set(found.columns) == SLOW
    assert "rank in the file is the price ranked" in found.what


def test_straight_runs_between_values_are_doubtful(market):
    walk = pd.Series(np.random.default_rng(0).standard_normal(40_000).cumsum())
    hourly = walk.where(np.arange(40_000) % 60 == 0)
    columns = {
        "line": hourly.interpolate(),
        "step": hourly.ffill(),
        "walk": walk,
        "index": np.arange(40_000),
        "minute": np.arange(40_000) % 1440,
    }
    finding = learned_columns.check_interpolated(columns)
    assert (finding.outcome, finding.columns) == ("doubtful", ("line",))


# Outcomes, command line


def finding(outcome, check="feature looks ahead"):
    return findings.Finding(check=check, outcome=outcome, what="so", columns=("a",))


def test_the_last_line_counts_all_four_and_strict_wants_them_passed():
    report = findings.AuditReport(
        subject="x", findings=(finding("passed"), finding("doubtful", "b"))
    )
    last = str(report).splitlines()[-1]
    assert last == "1 passed, 1 doubtful, 0 leaks, 0 not done"
    report.require_clean()
    with pytest.raises(DataError, match="Received: b, doubtful or not done"):
        report.require_clean(is_strict=True)
    assert report.to_dict()["findings"][1] == {
        "check": "b",
        "outcome": "doubtful",
        "columns": ["a"],
        "words": "so",
        "evidence": {},
    }


@pytest.fixture
def usual_logging():
    yield
    logging.getLogger().handlers[:] = []


def test_a_column_without_a_function_is_not_done(tmp_path, usual_logging, capsys):
    candles = synthetic_candles(4000, seed=2)
    market, (config, frame) = Market(candles), clean_file(candles)
    column = {"chg_1h": market.change_of("1h")}
    planted(frame, candles, column).to_feather(tmp_path / "mine.feather")
    candles.to_parquet(tmp_path / "c.parquet")
    words = ["--training-file", str(tmp_path / "mine.feather"), "--pair", config.pair]
    words += ["--feature-sets", "ray12", "--audit-candles", str(tmp_path / "c.parquet")]
    words += ["--sequence-length", "20", "--audit-json", str(tmp_path / "a.json")]
    assert trainer.main(words) == 0
    printed = capsys.readouterr().out
    assert "cannot be recomputed: chg_1h" in printed
    content = json.loads((tmp_path / "a.json").read_text())
    assert content["counts"]["doubtful"] == 1
    named = {item["check"]: item["columns"] for item in content["findings"]}
    assert named["column without a function"] == ["chg_1h"]
    assert named["column leads the price"] == ["chg_1h"]
    assert trainer.main([*words, "--audit-strict"]) == 65


REGISTERS = (
    "from dataset.features import feature_set\n"
    "feature_set('mine', warm_up_bars=0)(lambda candles, context: candles[['close']])\n"
)
ENDS = {
    "sys.exit(0)": 0,
    "os._exit(113)": 113,  # the status of a process that came to its end
    REGISTERS + "atexit.register(os._exit, 0)": 0,
    "threading.Thread(target=os.abort).start(); time.sleep(9)": -6,
}


def test_feature_files_that_end_the_interpreter_are_errors(tmp_path):
    path = tmp_path / "mine.py"
    for line, status in ENDS.items():
        path.write_text(f"import atexit, os, sys, threading, time\n{line}\n")
        with pytest.raises(ConfigError, match=rf"the interpreter \(exit {status}\)"):
            feature_files.run_with_features(str(path), dict)


def test_a_file_that_is_not_there_is_told_from_its_process():
    with pytest.raises(MissingInputError, match="expected a Python file"):
        feature_files.run_with_features("none.py", dict)


def test_outcomes_of_open_rows_are_leaks():
    candles = synthetic_candles(8000, seed=3)
    config, frame = clean_file(candles)
    label, end = frame["label"], frame["label_end"]
    known = {
        "label of its horizon ago": label.shift(120),
        "label of an hour ago, if over": label.shift(60).where(end.shift(60) <= 60, 1),
        "return of its horizon ago": frame["long_return"].shift(120),
    }
    copies = {
        "own label": label,
        "label of a bar ago": label.shift(1),
        "code of an hour ago": label.shift(60).map({0: 5, 1: 9, 2: 1}),
        "long an hour ago": label.shift(60) == 2,
        "return of 100 bars ago": -3 * frame["short_return"].shift(100),
    }
    for name, column in (known | copies).items():
        frame[name] = column.fillna(0).astype(np.float32)
    data = TrainingDataLoader.from_frame(frame, config=config).load_training_data()
    found = label_copies.check_copies(data)
    assert found.outcome == "leak" and found.columns == tuple(copies)
    assert "label of a bar ago is label of row t-1, code" in found.what
    assert found.what.endswith(
        "long an hour ago is label of row t-60, 1 more: not known at row t"
    )
