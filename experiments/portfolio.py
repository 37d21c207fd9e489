"""What models of several markets earn together: equal parts of one account, by day.

In: daily net returns of each, the days that they share. Out: how a model's own trades
came to be (`evaluation.trading`), which models (`ranking`).

Each day the account is in equal parts again. A day's return of a model is the sum of
what its trades that ended on that day earned after costs, 0 without any.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from evaluation.trading import DAYS_PER_YEAR, daily_metrics, equity_metrics
from evaluation.verdict import MIN_DEFLATED_SHARPE, is_above
from metrics import significance
from metrics.intervals import Length

_DAY_SECONDS = 86_400


@dataclass(frozen=True, kw_only=True, eq=False)
class Member:
    """One model of a portfolio.

    Args:
        name: Unlike that of any other.
        first: Its first day, UTC.
        returns: Net return of each day from that on (num_days,).
        horizon_seconds: That its labels look ahead.
    """

    name: str
    first: np.datetime64
    returns: np.ndarray
    horizon_seconds: float

    @property
    def stop(self) -> np.datetime64:
        """The day after its last one."""
        return self.first + np.timedelta64(len(self.returns), "D")

    def between(self, first: np.datetime64, stop: np.datetime64) -> np.ndarray:
        """Returns the returns of some of its days."""
        start, end = ((day - self.first).astype(int) for day in (first, stop))
        return self.returns[start:end]


def hold_together(members: Sequence[Member], *, num_trials: int) -> dict[str, Any]:
    """Returns what equal parts of some models earned on the days that they share.

    Where not all share days, those that share the most do: the stretch with the most
    days, counted once for each member.

    Args:
        members: The models.
        num_trials: Runs that were tried, out of which these were chosen.

    Returns:
        `skipped` alone where no two share a day, or: `first` and `num_days`, `members`
        and `left_out` (names), the keys of `results.Equity`, the interval of the
        Sharpe ratio as `sharpe`, `probabilistic_sharpe`, `deflated_sharpe`,
        `num_trials`, `edge` (both say that it is above 0), `correlation`
        (num_members, num_members; None beside one that never traded),
        `mean_correlation`, and `equity` of each day's end, with that of each member.
    """
    if (shared := _shared_days(members)) is None:
        return {"skipped": "no two of the chosen models share a day of trades"}
    first, stop, held = shared
    table = np.stack([each.between(first, stop) for each in held])
    daily = table.mean(axis=0)
    num_days = len(daily)
    horizon_days = max(each.horizon_seconds for each in held) / _DAY_SECONDS
    length = Length(days=num_days, horizons=num_days / horizon_days)
    sharpe = significance.sharpe_interval(
        daily, periods_per_year=DAYS_PER_YEAR, length=length
    )
    deflated = significance.deflated_sharpe(daily, num_trials=num_trials)
    equity = np.cumprod(np.maximum(1.0 + daily, 0.0))
    correlation = _correlation(table)
    between = correlation[np.triu_indices(len(held), 1)]
    known = between[np.isfinite(between)]  # not beside one that never traded
    return {
        "first": str(first),
        "num_days": num_days,
        "members": [each.name for each in held],
        "left_out": [each.name for each in members if each not in held],
        **equity_metrics(np.concatenate([[1.0], equity]), num_days=num_days),
        **daily_metrics(daily),
        "sharpe": sharpe,
        "probabilistic_sharpe": significance.probabilistic_sharpe(daily),
        "deflated_sharpe": deflated,
        "num_trials": num_trials,
        "edge": is_above(sharpe)
        and deflated is not None
        and deflated > MIN_DEFLATED_SHARPE,
        "correlation": correlation,
        "mean_correlation": float(known.mean()) if len(known) else None,
        "equity": equity,
        "member_equity": np.cumprod(np.maximum(1.0 + table, 0.0), axis=1),
    }


def _shared_days(
    members: Sequence[Member],
) -> tuple[np.datetime64, np.datetime64, list[Member]] | None:
    """Returns first day, day after the last, and who has all of them; None if nobody.

    The stretch with the most days, counted once for each of two members or more.
    """
    edges = itertools.product({x.first for x in members}, {x.stop for x in members})
    spans = [
        (first, stop, [x for x in members if x.first <= first and stop <= x.stop])
        for first, stop in edges
        if first < stop
    ]
    return max(
        (span for span in spans if len(span[2]) > 1),
        key=lambda x: ((x[1] - x[0]).astype(int) * len(x[2]), len(x[2]), x[0]),
        default=None,
    )


def _correlation(table: np.ndarray) -> np.ndarray:
    """Returns the correlation of rows (num_members, num_members), NaN without any."""
    if table.shape[1] < 2:
        return np.full((len(table), len(table)), np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.atleast_2d(np.corrcoef(table))


def members_of(groups: Sequence[Mapping[str, Any]]) -> list[Member]:
    """Returns the chosen model of each group of `ranking.rank_runs` that can trade."""
    members = []
    for group in groups:
        for entry in group["models"]:
            daily = entry["trading"].get("daily")
            if entry["model"] != group.get("chosen") or daily is None:
                continue
            days = Length(**group["length"])
            members.append(
                Member(
                    name=f"{group['pair']} {group['timeframe']} {entry['model']}",
                    first=np.datetime64(daily["first"], "D"),
                    returns=np.asarray(daily["net_returns"], dtype=np.float64),
                    horizon_seconds=_DAY_SECONDS * days.days / days.horizons,
                )
            )
    return members
