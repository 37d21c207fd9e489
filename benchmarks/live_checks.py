"""What a watch and a schedule do in markets whose truth is known.

`levels`: quarters of a market that stays as it was, each with a model of its
own: how many see a warning or an alarm when looked at every day; and, where the planted
direction is lost on the first day of the quarter, the days until they do.
`simulate`: a schedule over a market whose moves shrink in its middle, and over noise.
"""

import argparse
import contextlib
import io
import logging
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from common import show

from artifacts.registry import Registry
from candles.synthetic import synthetic_stretches
from config import Config
from dataset.builder import build_training_file
from live.levels import QUARTER_DAYS
from live.retraining import PROMOTED
from live.schedule import make_schedule
from live.simulation import NEVER, SCHEDULE, simulate
from live.watching import MAX_P_VALUE, watch
from trainer import StandaloneTrainer

BAR = {
    "timeframe": "15m",
    "model": "logistic",
    "report": "light",
    "sequence_length": 32,
    "future_window": 12,
    # A bar of the made-up market moves as a minute, however long it is.
    **dict.fromkeys(("long_tp_pct", "short_tp_pct"), 0.25),
    **dict.fromkeys(("long_sl_pct", "short_sl_pct"), 0.25),
}
TRAIN_DAYS, BARS_A_DAY = 300, 96
QUIET = {"baseline_model": False, "tensorboard": False, "verbose_logging": False}


def market(days, strengths, seed, moves=None):
    """Returns candles in stretches, each with a direction and moves of its own."""
    return synthetic_stretches(
        [count * BARS_A_DAY for count in days],
        seeds=[seed + 7919 * number for number in range(len(days))],
        strengths=strengths,
        moves=moves,
        timeframe=BAR["timeframe"],
        start="2020-01-01",
    )


def trained(candles, folder, **fields):
    """Returns the folder of a model of some candles."""
    places = {"inputs_dir": f"{folder}/inputs", "outputs_dir": str(folder)}
    config = Config(pair="MADEUSDT", **places, **QUIET | fields)
    build_training_file(candles, config)
    with contextlib.redirect_stderr(io.StringIO()):
        return StandaloneTrainer(config).run_training()


def first_days(seed, strengths):
    """Returns the first day, None where there is none, and how often it began anew."""
    candles = market((TRAIN_DAYS, QUARTER_DAYS), strengths, seed)
    known = candles[: TRAIN_DAYS * BARS_A_DAY]
    with tempfile.TemporaryDirectory() as folder:
        model = trained(known, folder, **BAR)
        found = watch(model, candles)
        apart = [
            day
            for day in (30, 60, QUARTER_DAYS)
            for each in [
                watch(model, candles[: (TRAIN_DAYS + day) * BARS_A_DAY]).features
            ]
            if any(x["p_value"] < MAX_P_VALUE for x in each["features"].values())
        ]
    told = {"features": min(apart, default=None)}
    for name in ("warning", "alarm"):
        over = sorted(
            {
                day
                for each in found.numbers.values()
                for day, total in enumerate(each["sums"])
                if total > each[name]
            }
        )
        told[name] = over[0] if over else None
        told[f"{name}s"] = sum(day - 1 not in over for day in over)
    return told


def levels(arguments):
    rows, figures = [], {}
    for name, strengths in (
        ("noise", (0.0, 0.0)),
        ("a direction that stays", (6.0, 6.0)),
        ("a direction that is lost", (6.0, 0.0)),
    ):
        if arguments.only and name not in arguments.only:
            continue
        found = [first_days(seed, strengths) for seed in range(arguments.quarters)]
        cells = []
        for what in ("warning", "features", "alarm"):
            days = [each[what] for each in found if each[what] is not None]
            middle = f", day {np.median(days):.0f}" if days else ""
            times = ""
            if what != "features":
                times = f", {np.mean([each[f'{what}s'] for each in found]):.2f} times"
            cells.append(f"{len(days)} of {len(found)}{times}{middle}")
        rows.append([name, *cells])
        figures[name] = found
    columns = ["a quarter of", "warning", "a feature apart", "alarm"]
    show("Quarters with a warning or an alarm", columns, rows, figures, arguments.json)


def simulated(name, moves, seed, days=(240, 240)):
    """Returns what a schedule does from day 180 on, and the moment of the break."""
    strength = 0.0 if name == "noise" else 3.0
    candles = market(days, (strength, strength), seed, moves)
    with tempfile.TemporaryDirectory() as folder:
        start = candles["timestamp"].iloc[0] + pd.Timedelta(days[0] - 60, "D")
        first = trained(candles[candles["timestamp"] < start], folder, **BAR)
        Registry(folder).register(first, alias="champion")
        schedule = make_schedule(
            {
                "champion": "logistic/MADEUSDT-15m-signal@champion",
                "candles": "none",
                "outputs_dir": folder,
                "name": name,
                "every_days": 21,
                "duel_days": 21,
                "rolling_days": 60,
            }
        )
        with contextlib.redirect_stderr(io.StringIO()):
            found = simulate(schedule, candles, start=f"{start:%Y-%m-%d}")
    broken = candles["timestamp"].iloc[0] + pd.Timedelta(days[0], "D")
    return found, broken


def renewed(found, broken):
    """Returns weeks from a break to the first promotion, and both skills behind it."""
    made = [
        pd.Timestamp(each["now"])
        for each in found.decisions
        if each["outcome"] == PROMOTED and pd.Timestamp(each["now"]) >= broken
    ]
    if not made:
        return None
    rest = [x for x in found.periods if pd.Timestamp(x["first"]) >= made[0]]
    skills = [
        np.average([x["skill"][way] for x in rest], weights=[x["rows"] for x in rest])
        for way in (SCHEDULE, NEVER)
    ]
    return (made[0] - broken) / pd.Timedelta(7, "D"), *skills


def schedules(arguments):
    rows, figures = [], {}
    for name, moves in (("breaks", (1.0, 0.25)), ("noise", (1.0, 1.0))):
        gains, promotions, again = 0, [], []
        for seed in range(arguments.markets):
            found, broken = simulated(name, moves, seed)
            low = found.gains[NEVER]["low"]
            gains += low is not None and low > 0
            promotions.append(found.promotions)
            again.append(renewed(found, broken))
            figures[f"{name} {seed}"] = found.to_dict()
        known = [each for each in again if each is not None]
        back, skills = "-", "-"
        if known:
            weeks, own, other = np.median(known, axis=0)
            back = f"{len(known)}, {weeks:.0f} weeks"
            skills = f"{own:+.2f}, {other:+.2f}"
        rows.append(
            [
                "moves shrink to a quarter" if name == "breaks" else "noise",
                str(arguments.markets),
                f"{np.mean(promotions):.1f}",
                f"{gains}",
                back if name == "breaks" else "-",
                skills if name == "breaks" else "-",
            ]
        )
    columns = [
        "market",
        "seeds",
        "promotions",
        "a gain over never retraining",
        "promoted behind the break, after",
        "skill from then on, and without",
    ]
    show("A schedule on history", columns, rows, figures, arguments.json)


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("what", choices=["levels", "simulate"])
    options.add_argument("--quarters", type=int, default=200)
    options.add_argument("--markets", type=int, default=10)
    options.add_argument("--only", nargs="+", help="of the quarters, by their name")
    options.add_argument("--json", type=Path)
    arguments = options.parse_args()
    logging.disable(logging.WARNING)
    {"levels": levels, "simulate": schedules}[arguments.what](arguments)


if __name__ == "__main__":
    main()
