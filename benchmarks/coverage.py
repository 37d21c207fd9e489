"""Coverage study: how often the intervals of the report hold the truth.

A fixed forecaster (no training, so there is one truth) judges independent stretches of
four markets; each is judged at four lengths. The truth is the number of all stretches
together. A second table has p-values of direction for forecasters that know nothing.
Everything goes through the functions that the report uses.

    python benchmarks/coverage.py [--stretches 1000] [--workers 2]

Exit code 1 unless coverage is 0.92 to 0.99, at most 3.5 % of the lower ends lie above
the truth, and p-values are fair; see `LIMITS`.
"""

from __future__ import annotations

import functools
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.common import parser, show
from benchmarks.markets import SIGMA, garch_candles, slow_candles, unit_ar1
from candles.synthetic import synthetic_candles
from config import HOLD, Config
from dataset.labels import label_candles
from evaluation.backtest import OUTCOME_COLUMNS, backtest
from evaluation.class_scores import SKILLS
from evaluation.thresholds import threshold_signals
from metrics.intervals import Length, cosine_interval, log_loss_interval
from metrics.scores import class_losses, row_losses
from metrics.significance import shuffle_test, suggest_block_rows

HORIZON_BARS, WARM_UP = 120, 1440
LENGTHS = (4_500, 15_000, 25_000, 60_000)
MARKETS = {
    "demo, strength 0": lambda n, seed: synthetic_candles(n, seed=seed, strength=0.0),
    "demo, strength 1": lambda n, seed: synthetic_candles(n, seed=seed, strength=1.0),
    "GARCH, leverage": garch_candles,
    "half-life of a day": slow_candles,
}
ALWAYS_GIVEN = ("demo, strength 0", "demo, strength 1", "GARCH, leverage")
SCORES = (*SKILLS, "accuracy", "log_loss", "mean_net_return_bps", "sharpe")
PREDICTORS = ("white", "ar1_120", "ar1_1000", "ar1_5000", "momentum", "trend")
SENSITIVE = ("white", "ar1_120")
P_VALUE_ROWS = 15_000
TIME_CONSTANTS = (0.02, 0.05, 0.1, 0.2, 0.5)
LIMITS = {"cover": (0.92, 0.99), "above": 0.035, "given": 0.9, "fair": (0.02, 0.07)}
KEYS = ("estimate", "low", "high")
PILOT_SEED = 1_000_000
FREE = Config(fee_bps=0.0, slippage_bps=0.0)


def forecasts(candles):
    """Returns fixed logistic probabilities from the past alone (num_bars, 3)."""
    close, volume = candles["close"], np.log(candles["volume"])
    moves = np.log(close).diff().fillna(SIGMA)
    fast, slow = (moves.pow(2).ewm(halflife=h).mean().pow(0.5) for h in (60, 600))
    busy = 0.6 * np.log(fast / SIGMA) + 0.4 * np.log(slow / SIGMA)
    tide = volume.ewm(halflife=20).mean() - volume.ewm(halflife=600).mean()
    drift = moves.ewm(halflife=30).mean() / slow
    side = (0.5 * tide - 1.0 * drift).to_numpy()
    active = (1.1 * busy - 0.6).to_numpy()
    odds = np.exp(np.stack([active - side, np.zeros(len(side)), active + side], axis=1))
    return odds / odds.sum(axis=1, keepdims=True)


@functools.cache
def learned(market):
    """Returns class shares, and thresholds of either side, of other stretches."""
    labels, said = [], []
    for seed in range(PILOT_SEED, PILOT_SEED + 8):
        table, probabilities = stretch(market, seed)
        labels.append(table["label"].to_numpy())
        said.append(probabilities)
    prior = np.bincount(np.concatenate(labels), minlength=3) / sum(map(len, labels))
    short, _, long = np.quantile(np.concatenate(said), 0.9, axis=0)
    return prior, {"short": float(short), "long": float(long)}


def stretch(market, seed):
    """Returns outcomes and probabilities of the longest stretch of a market."""
    num_rows = LENGTHS[-1]
    candles = MARKETS[market](WARM_UP + num_rows + HORIZON_BARS, seed)
    rows = slice(WARM_UP, WARM_UP + num_rows)
    outcomes = label_candles(candles, future_window=HORIZON_BARS)
    table = pd.concat([candles[["timestamp", "close"]], outcomes], axis=1)[rows]
    return table.reset_index(drop=True), forecasts(candles)[rows]


def judge(market, seed):
    """Returns for each length the interval of each score, and what the truth needs."""
    table, said = stretch(market, seed)
    prior, limits = learned(market)
    labels = table["label"].to_numpy()
    own = row_losses(labels, said)
    known = row_losses(labels, np.broadcast_to(prior, said.shape))
    hits = said.argmax(axis=1) == labels
    signals = threshold_signals(said, **limits)
    table = table[["timestamp", *OUTCOME_COLUMNS]]
    found = {}
    for count in LENGTHS:
        length = Length.of(count, horizon_bars=HORIZON_BARS, bar_seconds=60)
        scores = {
            name: cosine_interval(
                np.stack([own[:count, k], known[:count, k]], axis=1),
                lambda means: 1 - means[..., 0] / means[..., 1],
                length=length,
            )
            for k, name in enumerate(SKILLS)
        }
        scores["accuracy"] = cosine_interval(hits[:count], length=length)
        scores["log_loss"] = log_loss_interval(
            own[:count, 0], length=length, num_classes=3
        )
        earned = backtest(
            table[:count], signals[:count], FREE, horizon_bars=HORIZON_BARS
        )
        scores |= {name: earned["intervals"][name] for name in SCORES[5:]}
        found[count] = [
            [np.nan if scores[name][key] is None else scores[name][key] for key in KEYS]
            for name in SCORES
        ]
    means = [*own.mean(axis=0), *known.mean(axis=0), hits.mean(), earned["num_trades"]]
    return np.array([found[count] for count in LENGTHS]), np.array(means)


def truths(longest, means):
    """Returns each score of all stretches together (num_scores,).

    A ratio is that of its sums. The Sharpe ratio is that of the mean and the spread of
    all days, as far as a mean of long stretches has it.
    """
    own, known, hits, trades = np.split(means.mean(axis=0), [3, 6, 7])
    net = np.nansum(longest[:, 5, 0] * means[:, 7]) / means[:, 7].sum()
    sharpe = np.nanmean(longest[:, 6, 0])
    return np.array([*(1 - own / known), *hits, own[0], net, sharpe])


def coverage(market, num_stretches, pool):
    """Returns a row of figures for each length and score."""
    learned(market)
    job = functools.partial(judge, market)
    made = list(pool.map(job, range(num_stretches), chunksize=4))
    found = np.array([intervals for intervals, _ in made])
    truth = truths(found[:, -1], np.array([means for _, means in made]))
    rows = []
    for k, count in enumerate(LENGTHS):
        for j, name in enumerate(SCORES):
            estimate, low, high = found[:, k, j].T
            given = np.isfinite(low)
            row = {"market": market, "rows": count, "score": name}
            row |= {"truth": truth[j], "given": float(given.mean())}
            if given.any():
                inside = (low <= truth[j]) & (truth[j] <= high)
                spread = 2 * 1.96 * np.nanstd(estimate)
                row |= {
                    "cover": float(inside[given].mean()),
                    "above": float((low > truth[j])[given].mean()),
                    "width": float((high - low)[given].mean() / spread),
                }
            rows.append(row)
    return rows


def ignorant(name, candles, rng):
    """Returns log odds of LONG that know nothing of what comes (num_bars,)."""
    if name == "white":
        return rng.standard_normal(len(candles))
    if name.startswith("ar1"):
        return unit_ar1(rng, len(candles), np.log(2) * int(name[4:]))
    if name == "trend":
        return np.linspace(-1.7, 1.7, len(candles))
    moves = np.log(candles["close"]).diff(240).fillna(0.0)
    return (moves / moves.std()).to_numpy()


def p_values(seed):
    """Returns the p-value of direction of each of `PREDICTORS`, NaN where untested."""
    candles = MARKETS["GARCH, leverage"](P_VALUE_ROWS + 2 * HORIZON_BARS, seed)
    labels = label_candles(candles, future_window=HORIZON_BARS)["label"].to_numpy()
    rows, found = slice(HORIZON_BARS, HORIZON_BARS + P_VALUE_ROWS), []
    labels = labels[rows]
    is_trade = labels != HOLD
    block_rows = suggest_block_rows(int(is_trade.sum()), horizon_bars=HORIZON_BARS)
    rng = np.random.default_rng([seed, 3])
    for name in PREDICTORS:
        odds = np.exp(0.3 * ignorant(name, candles, rng)[rows])
        rises = odds / (1 + odds)
        said = 0.5 * np.stack([1 - rises, np.ones(len(odds)), rises], axis=1)
        test = shuffle_test(
            labels,
            class_losses(said, part="direction_log_loss"),
            is_counted=is_trade,
            block_rows=block_rows,
            seed=seed,
        )
        found.append(np.nan if test["p_value"] is None else test["p_value"])
    return found


def sizes(num_stretches, pool):
    """Returns for each predictor the share tested, and of these that below 0.05."""
    made = np.array(list(pool.map(p_values, range(num_stretches), chunksize=4)))
    return {
        name: {
            "tested": float(np.isfinite(column).mean()),
            "below": float((column[np.isfinite(column)] < 0.05).mean()),
        }
        for name, column in zip(PREDICTORS, made.T, strict=True)
    }


def slow_means(num_stretches):
    """Returns (days, time constant, coverage of a mean) of slow AR(1) processes.

    The time constant is a share of the stretch; a thousand rows show it well enough.
    """
    num_rows, found = 1_000, []
    for days in (n / 1440 for n in LENGTHS[1:]):
        length = Length(days=days, horizons=np.inf)
        for share in TIME_CONSTANTS:
            inside = 0
            for seed in range(num_stretches):
                rng = np.random.default_rng([seed, 4])
                rows = unit_ar1(rng, num_rows, np.log(2) * share * num_rows)
                interval = cosine_interval(rows, length=length)
                inside += interval["low"] <= 0 <= interval["high"]
            found.append((days, share, inside / num_stretches))
    return found


def broken(rows, shares):
    """Returns what is beyond `LIMITS`, in words."""
    words = []
    for row in rows:
        name = f"{row['market']}, {row['rows']:,} rows, {row['score']}"
        least, most = LIMITS["cover"]
        if "cover" in row and not least <= row["cover"] <= most:
            words.append(f"{name}: covers {row['cover']:.3f}")
        if row.get("above", 0.0) > LIMITS["above"]:
            words.append(f"{name}: lower end above the truth in {row['above']:.3f}")
        is_due = row["market"] in ALWAYS_GIVEN and row["rows"] >= LENGTHS[1]
        if is_due and row["given"] < LIMITS["given"]:
            words.append(f"{name}: an interval in {row['given']:.3f}")
    least, most = LIMITS["fair"]
    for name, share in shares.items():
        if share["below"] > most or (name in SENSITIVE and share["below"] < least):
            words.append(f"p-values, {name}: {share['below']:.3f} below 0.05")
    return words


def main():
    arguments = parser(__doc__.splitlines()[0])
    arguments.add_argument("--stretches", type=int, default=1000)
    arguments.add_argument("--workers", type=int, default=2)
    options = arguments.parse_args()
    started, rows = time.perf_counter(), []
    with ProcessPoolExecutor(options.workers) as pool:
        for market in MARKETS:
            rows += coverage(market, options.stretches, pool)
        shares = sizes(options.stretches, pool)
    by_place = {(row["market"], row["rows"], row["score"]): row for row in rows}
    for key, title in (
        ("cover", "Share of intervals that hold the truth"),
        ("above", "Share of lower ends above the truth"),
        ("width", "Mean width, by that of an ideal interval"),
        ("given", "Share of stretches with an interval"),
    ):
        show(
            f"{title}, of {options.stretches} stretches",
            ["", "rows", *SCORES],
            [
                [market, f"{count:,}"]
                + [f"{by_place[market, count, x].get(key, np.nan):.3f}" for x in SCORES]
                for market in MARKETS
                for count in LENGTHS
            ],
            None,
            None,
        )
    show(
        f"p-values of direction without any, {P_VALUE_ROWS:,} rows",
        ["", "tested", "below 0.05"],
        [[k, f"{x['tested']:.3f}", f"{x['below']:.3f}"] for k, x in shares.items()],
        {"coverage": rows, "p_values": shares},
        options.json,
    )
    slow = {(days, share): held for days, share, held in slow_means(options.stretches)}
    show(
        "Share of intervals that hold a mean that moves as slowly, by time constant",
        ["days", *(f"{share:.0%} of them" for share in TIME_CONSTANTS)],
        [
            [f"{days:.1f}", *(f"{slow[days, x]:.3f}" for x in TIME_CONSTANTS)]
            for days in sorted({days for days, _ in slow})
        ],
        None,
        None,
    )
    found = broken(rows, shares)
    print("\n".join(["", *found, f"{time.perf_counter() - started:.0f} s"]))
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
