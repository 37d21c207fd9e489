"""Finished cells of a sweep without a training: predictions, and a report of them."""

import numpy as np
import pandas as pd

from config import CLASS_NAMES
from world.artifacts import publish

START = pd.Timestamp("2025-01-01", tz="UTC")
DAYS = 20
LENGTH = {"days": float(DAYS), "horizons": 24.0 * DAYS}


def skill_interval(estimate, half=0.02):
    ends = {"low": estimate - half, "high": estimate + half}
    return {"estimate": estimate, **ends, "standard_error": half / 2, "num_cosines": 8}


def finish(
    outputs,
    *,
    pair="AAAUSDT",
    model="logistic",
    seed=1,
    skill=0.1,
    losses=(1.0, 1.0),
    skipped_rows=0,
    first_day=0,
    daily=None,
    **fields,
):
    """Returns a cell that finished: its mean losses on validation and on test.

    Hourly rows: as many days of validation as of test, from `first_day` on; without
    `skipped_rows` at the start of both. `daily` are net returns of the test's days.
    """
    rng = np.random.default_rng([seed, len(model)])
    hours = np.arange(2 * 24 * DAYS)
    part = np.where(hours < 24 * DAYS, "validation", "test")
    level = np.where(part == "test", losses[1], losses[0])
    truth = np.exp(-level + rng.normal(0, 0.01, len(hours)))
    rest = (1 - truth) / 2
    table = pd.DataFrame(
        {
            "timestamp": START + pd.to_timedelta(24 * first_day + hours, "h"),
            "part": part,
            "label": 0,
            **dict(
                zip(
                    (f"probability_{name.lower()}" for name in CLASS_NAMES),
                    (truth, rest, rest),
                    strict=True,
                )
            ),
        }
    )
    table = table[hours % (24 * DAYS) >= skipped_rows]
    test = table["timestamp"][table["part"] == "test"]
    span = {"first": test.iloc[0].isoformat(), "last": test.iloc[-1].isoformat()}
    daily = list(np.tile([0.01, -0.01], DAYS // 2)) if daily is None else daily
    names = ("skill_vs_train_prior", "skill_vs_trailing_7d")
    names += ("activity_skill_vs_train_prior", "direction_skill_vs_train_prior")
    trades = {
        "num_trades": 40,
        "mean_net_return_bps": 10.0,
        "total_return_pct": 4.0,
        "max_drawdown_pct": 2.0,
        "deflated_sharpe": 1.0,
        "intervals": {
            "mean_net_return_bps": skill_interval(10.0, 2.0),
            "sharpe": skill_interval(3.0, 2.0),
        },
        "daily": {"first": span["first"][:10], "net_returns": daily},
    }
    prior = float(np.exp(-losses[1] / (1 - skill)))  # loses what makes that skill
    results = {
        "class_names": list(CLASS_NAMES),
        "train_prior": [prior, (1 - prior) / 2, (1 - prior) / 2],
        "validation": {"log_loss": losses[0]},
        "test": {
            **span,
            "length": LENGTH,
            "num_samples": len(test),
            "log_loss": losses[1],
            "direction_p_value": 0.5,
            "intervals": {name: skill_interval(skill) for name in names},
            "trading": trades,
        },
    }
    fields |= {"pair": pair, "model": model, "seed": seed, "timeframe": "1h"}
    tested = {end: f"{span[end][:19]}Z" for end in span}
    folder = publish(
        outputs, results=results, predictions=table, tested=tested, **fields
    )
    about = {"pair": pair, "timeframe": "1h", "target": "signal", "model": model}
    ended = {"status": "completed", "exit_code": 0, "attempts": 1, "error": None}
    return {**about, "seed": seed, **ended, "folder": str(folder)}


def failed(**about):
    """Returns a cell that left no model."""
    usual = {"pair": "CCCUSDT", "timeframe": "1h", "target": "signal", "seed": 1}
    ended = {"status": "failed", "exit_code": 66, "attempts": 1, "folder": None}
    return usual | {"model": "logistic", "error": "no candles"} | ended | about
