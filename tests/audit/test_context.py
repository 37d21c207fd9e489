"""A context pair that stands a bar early is found in functions, files and candles."""

import pandas as pd
import pytest

from audit import context_steps, lookahead, run
from audit.file_candles import file_candles, split_words
from candles.synthetic import synthetic_candles
from candles.table import fill_gaps
from config import Config
from dataset.builder import build_training_frame
from dataset.context import join_context

PAIR = "OTHERUSDT"
CONFIG = Config(
    pair="TESTUSDT",
    feature_sets=("ray12",),
    context_pairs=(PAIR,),
    sequence_length=20,
    future_window=60,
    undersampling_min_samples=1000,
)


@pytest.fixture(scope="module")
def market():
    return synthetic_candles(12_000, seed=5)


@pytest.fixture(scope="module")
def other(market):
    """What moves with the market, and by itself; 100 of its bars are missing."""
    alone = synthetic_candles(12_000, seed=6)
    prices = ["open", "high", "low", "close"]
    # The product of two markets encloses its open and close.
    table = market.assign(**{name: market[name] * alone[name] for name in prices})
    return table.drop(index=range(5000, 5100)).reset_index(drop=True)


def moved(table, bars):
    return table.assign(timestamp=table["timestamp"] + pd.Timedelta(minutes=bars))


def outcomes(report):
    return {item.check: item for item in report.findings}


def test_an_honest_context_passes_and_an_early_file_does_not(market, other):
    honest, _ = build_training_frame(market, CONFIG, context={PAIR: other})
    report = run.run_audit(CONFIG, frame=honest, candles=market, context={PAIR: other})
    found = outcomes(report)
    assert not report.leaks
    for check in ("feature looks ahead", "file unlike its functions"):
        assert found[check].outcome == "passed"
    assert found["context out of step"].outcome == "passed"
    assert "correlate 0." in found["context out of step"].what
    # The same, of a table that has both.
    table = join_context(market, {PAIR: other}, "1m")
    again = outcomes(run.run_audit(CONFIG, frame=honest, candles=table))
    assert again["feature looks ahead"] == found["feature looks ahead"]

    early, _ = build_training_frame(market, CONFIG, context={PAIR: moved(other, -1)})
    report = run.run_audit(CONFIG, frame=early, candles=market, context={PAIR: other})
    leak = outcomes(report)["file unlike its functions"]
    assert leak.outcome == "leak" and "_OTHERUSDT is that of row t+1" in leak.what
    assert all(name.endswith("_OTHERUSDT") for name in leak.columns)
    # Where the candles themselves are early, their moves and the labels show it.
    report = run.run_audit(
        CONFIG, frame=early, candles=market, context={PAIR: moved(other, -1)}
    )
    assert {item.check for item in report.leaks} == {
        "context out of step",
        "column of a later bar",
    }
    step = outcomes(report)["context out of step"]
    assert "its bars stand 1 too early" in step.what


def test_a_join_of_the_next_bar_is_found(market, other, monkeypatch):
    bars = fill_gaps(market, "1m")
    honest = lookahead.join_context

    def early(candles, others, timeframe):
        return honest(
            candles,
            {pair: moved(table, -1) for pair, table in others.items()},
            timeframe,
        )

    monkeypatch.setattr(lookahead, "join_context", early)
    finding = lookahead.check_feature_sets(bars, CONFIG, others={PAIR: other})
    assert finding.outcome == "leak"
    reach = finding.evidence["bars_ahead"]
    assert set(reach.values()) == {1}
    assert len(reach) == 12 and all(name.endswith("_OTHERUSDT") for name in reach)


@pytest.mark.parametrize(
    ("bars", "outcome"), [(-2, "leak"), (0, "passed"), (1, "doubtful")]
)
def test_how_far_a_context_is_out_of_step(market, other, bars, outcome):
    joined = file_candles(market, {PAIR: moved(other, bars)}, CONFIG).joined
    [found] = context_steps.check_steps(joined, CONFIG)
    assert found.outcome == outcome
    alone = file_candles(market, {PAIR: synthetic_candles(12_000, seed=9)}, CONFIG)
    [found] = context_steps.check_steps(alone.joined, CONFIG)
    assert found.outcome == "not done" and "too unlike to be timed" in found.what
    [found] = context_steps.check_steps(None, CONFIG)
    assert found.outcome == "not done"


def test_words_of_a_command_name_the_files_of_a_pair():
    words = ["a.csv", "OTHER_USDT=b.csv,c.csv", "x=1.csv"]
    own, context = split_words(words, CONFIG)
    assert own == ["a.csv", "x=1.csv"]
    assert context == {"OTHER_USDT": ["b.csv", "c.csv"]}
    assert split_words(None, CONFIG) == (None, {})
