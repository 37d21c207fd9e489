"""Edge study: how often the report claims an edge that is none, or sees one that is.

False claims: markets of a GJR-GARCH with Student's t, where nothing can be known, and a
forecaster with a memory of twenty hours that knows nothing; thresholds are searched on
validation and judged on test, at no cost and at the default costs. At most 5 % may be
claimed. Power: trades of a known true Sharpe ratio, in a market whose volatility has a
half-life of a day, on tests of several lengths. Both go through the functions that the
report uses (`evaluation.backtest`, `evaluation.verdict`).

    python benchmarks/edge_power.py [--runs 200] [--samples 400]
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.common import parser, show
from benchmarks.markets import garch_candles, unit_ar1
from config import HOLD, LONG, SHORT, Config
from data_loader import TrainingDataLoader
from dataset.builder import build_training_frame
from evaluation.backtest import backtest, backtest_part
from evaluation.evaluate import decide
from evaluation.verdict import has_edge
from metrics.intervals import Length
from metrics.significance import minimum_detectable_sharpe

BAR_SECONDS = 300
BARS_PER_DAY = 288
HORIZON_BARS = 24
COSTS = {"no costs": {"fee_bps": 0.0, "slippage_bps": 0.0}, "15 bps a side": {}}
SHARPES = (0.0, 2.0, 4.0, 8.0)
DAYS = (18, 53, 180, 365)
TRADES_PER_DAY = 6
MOST_FALSE = 0.05

CONFIG = Config(
    pair="NOISEUSDT",
    timeframe="5m",
    future_window=HORIZON_BARS,
    sequence_length=24,
    validation_split=0.3,
    test_split=0.3,
    baseline_model=False,
)


# False claims


def ignorant_forecasts(data, seed):
    """Returns probabilities that drift around the training mix, for two parts."""
    rng = np.random.default_rng([seed, 1])
    prior = np.log(np.maximum(data.class_prior, 1e-3))
    outputs = {}
    for part in ("validation", "test"):
        count = len(data.parts[part].targets)
        logits = [prior[k] + 0.4 * unit_ar1(rng, count, 240) for k in range(3)]
        odds = np.exp(np.stack(logits, axis=1))
        outputs[part] = odds / odds.sum(axis=1, keepdims=True)
    return outputs


def judge_noise(seed, num_days=150):
    """Returns for each cost what the trades of the test part came to."""
    num_bars = num_days * BARS_PER_DAY
    candles = garch_candles(num_bars, seed, bar_seconds=BAR_SECONDS)
    frame, _ = build_training_frame(candles, CONFIG)
    loader = TrainingDataLoader.from_frame(frame, config=CONFIG)
    data = loader.load_training_data()
    outputs, found = ignorant_forecasts(data, seed), {}
    for name, costs in COSTS.items():
        config = CONFIG.replace(**costs)
        model = decide(data, outputs, config)
        table = model.of_part("test").table
        scores = model.policy.scores(model.policy.answers_of(table))
        found[name] = backtest_part(table, scores, data, config, num_trials=1)
    return found


def false_claims(num_runs):
    """Returns for each cost the share of runs that traded and of those with an edge."""
    runs = [judge_noise(seed) for seed in range(num_runs)]
    return {
        name: {
            "days": float(np.mean([run[name]["num_days"] for run in runs])),
            "traded": float(np.mean([run[name]["num_trades"] > 0 for run in runs])),
            "claimed": float(np.mean([has_edge(run[name]) for run in runs])),
        }
        for name in COSTS
    }


# Power


def planted_trades(num_days, sharpe, seed):
    """Returns a table of outcomes and its signals, of a true annual Sharpe ratio.

    A trade every four hours, long or short, held for two; its return has fat tails and
    a deviation that follows the volatility.
    """
    rng = np.random.default_rng([seed, num_days])
    num_rows, spacing = num_days * BARS_PER_DAY, BARS_PER_DAY // TRADES_PER_DAY
    sigma = np.exp(0.5 * unit_ar1(rng, num_rows, BARS_PER_DAY) - 0.25)
    noise = sigma * rng.standard_t(5, num_rows) * np.sqrt(3 / 5)
    mean = sharpe / np.sqrt(365 * TRADES_PER_DAY)  # of a deviation, E sigma^2 = 1
    won = 0.004 * (mean + noise)
    signals = np.full(num_rows, HOLD)
    rows = np.arange(0, num_rows - HORIZON_BARS, spacing)
    signals[rows + rng.integers(0, HORIZON_BARS, len(rows))] = LONG
    signals[(signals == LONG) & (rng.random(num_rows) < 0.5)] = SHORT
    start, bars = np.datetime64("2023-01-01", "ns"), np.arange(num_rows)
    table = pd.DataFrame(
        {
            "timestamp": start + bars * np.timedelta64(BAR_SECONDS, "s"),
            "close": 100 * np.exp(np.cumsum(0.001 * rng.standard_normal(num_rows))),
            "long_return": won,
            "short_return": won,  # the signal knows its side
            "long_exit_bars": HORIZON_BARS,
            "short_exit_bars": HORIZON_BARS,
            "long_exit": 0,
            "short_exit": 0,
        }
    )
    return table, signals


def power(num_days, sharpe, num_samples):
    """Returns the share of samples in which an edge is claimed."""
    config = CONFIG.replace(fee_bps=0.0, slippage_bps=0.0)
    claims = 0
    for seed in range(num_samples):
        table, signals = planted_trades(num_days, sharpe, seed)
        earned = backtest(table, signals, config, horizon_bars=HORIZON_BARS)
        claims += has_edge(earned)
    return claims / num_samples


def shown_from(num_days):
    """Returns the annual Sharpe ratio that the report names for such a test."""
    horizons = num_days * BARS_PER_DAY / HORIZON_BARS
    length = Length(days=num_days, horizons=horizons)
    return 365**0.5 * minimum_detectable_sharpe(length)


def main():
    arguments = parser(__doc__.splitlines()[0])
    arguments.add_argument("--runs", type=int, default=200, help="noise markets")
    arguments.add_argument("--samples", type=int, default=400, help="of each length")
    options = arguments.parse_args()
    started = time.perf_counter()
    false = false_claims(options.runs)
    show(
        f"An edge claimed where there is none, of {options.runs} runs",
        ["", "test days", "traded", "claimed"],
        [
            [name, f"{x['days']:.0f}", f"{x['traded']:.1%}", f"{x['claimed']:.1%}"]
            for name, x in false.items()
        ],
        false,
        None,
    )
    shares = {
        days: {s: power(days, s, options.samples) for s in SHARPES} for days in DAYS
    }
    show(
        f"An edge claimed by true annual Sharpe ratio, of {options.samples} tests",
        ["test days", *(f"{s:g}" for s in SHARPES), "8 of 10 from"],
        [
            [
                days,
                *(f"{shares[days][s]:.1%}" for s in SHARPES),
                f"{shown_from(days):.1f}",
            ]
            for days in DAYS
        ],
        {"false": false, "power": shares},
        options.json,
    )
    print(f"{time.perf_counter() - started:.0f} s")
    claimed = [x["claimed"] for x in false.values()] + [x[0.0] for x in shares.values()]
    return int(max(claimed) > MOST_FALSE)


if __name__ == "__main__":
    sys.exit(main())
