"""Columns that know what comes are doubtful; what was known at its row is not."""

import json
import logging

import numpy as np
import pandas as pd
import pytest

import trainer
from audit import feature_files, findings, leading, learned_columns
from benchmarks.planted_leaks import Market, clean_file, honest, leaks, planted
from candles.synthetic import synthetic_candles
from data_loader import TrainingDataLoader
from utils import ConfigError, DataError

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
    assert report.to_machine()["findings"][1] == {
        "check": "b",
        "outcome": "doubtful",
        "columns": ["a"],
        "words": "so",
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


@pytest.mark.parametrize("end", ["sys.exit(0)", "os._exit(0)"])
def test_feature_files_that_end_the_interpreter_are_errors(tmp_path, end):
    path = tmp_path / "mine.py"
    path.write_text(f"import os, sys\n{end}\n")
    with pytest.raises(ConfigError, match=r"ends the interpreter \(exit 0\)"):
        with feature_files.refuse_exit(str(path)):
            feature_files.load_feature_file(str(path))
