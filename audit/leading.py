"""Columns that lead the market: they know bars that come after their row.

In: columns, and the bars of their rows. Out: what labels tell of columns
(`column_skill`, `label_timing`), what functions and candles prove (`lookahead`).

The next bar's return, range and volume are first explained by the bars so far and by
the calendar. What is left is news to everyone at row `t`: its products with anything
known at `t` have mean 0 and do not follow each other. The return of `h` bars against a
column is the sum of one-bar returns against the sum of its last `h` values: the same
covariance without overlap. Source: Hodrick (1992), "Dividend yields and expected stock
returns", standard error 1B. Columns are centred by their own past alone, else a slow
one is held against the mean of its future. Source: So and Shin (1999), "Recursive mean
adjustment in time-series inference".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from audit.findings import (
    DOUBTFUL,
    LEADS_PRICE,
    LEADS_VOLATILITY,
    LEADS_VOLUME,
    NOT_DONE,
    PASSED,
    Finding,
)
from audit.period_columns import PeriodBars

HORIZONS = (1, 5, 15, 60, 240, 720)
"""Bars whose return, volume or range is held against a column."""

MAX_ROWS = 200_000
"""Newest rows that are looked at. Bounds the time."""

MAX_CLEAN_Z = 4.5
"""Errors that a column may be off 0; `benchmarks/planted_leaks.py` has the figures."""

MIN_CORRELATION = 0.05
"""Correlation with the news of volume or range that is more than a better forecast.

Both can be foretold, and a column may do so better than our linear forecast does: clean
ones reached 0.040, and 0.044 where the forecast knows closes alone.
"""

MIN_CORRELATION_OF_CLOSES = 0.08

_MIN_ROWS = 2000
_MIN_OTHERS = 50  # rows off a column's most frequent value
_MAX_LEVELS = 24
_PAST_BARS = (2, 3, 5, 15, 60, 240, 720, 1440)
_LAGS = (1, 2, 3, 4)
_VOLATILITY_BARS = 120
_CLIP = 5.0
_NUM_TERMS = 5  # of one column: three powers, two tails
_BLOCKS = (400, 100)  # products of volume and range may follow each other
_SHOWN = 4
_CHECKS = {
    "price": LEADS_PRICE,
    "volatility": LEADS_VOLATILITY,
    "volume": LEADS_VOLUME,
}


@dataclass(frozen=True, kw_only=True)
class Lead:
    """How far one column knows what comes.

    Args:
        column: Its name.
        z: Its covariance with the news of later bars, in standard errors, where it is
            largest.
        correlation: The same as a correlation.
        what: Which series of it against which bars.
    """

    column: str
    z: float
    correlation: float
    what: str


def check_leading(
    columns: Mapping[str, np.ndarray], bars: pd.DataFrame | None
) -> list[Finding]:
    """Looks for columns that know the price, the volume or the range of later bars.

    Args:
        columns: Columns of the rows of `bars` (num_rows,), finite.
        bars: `timestamp`, `close` and, as far as they are known, `open`, `high`, `low`,
            `volume` (num_rows,), in time order. Gaps are taken for one step. None: not
            known.

    Returns:
        A finding for each of the three, and one of columns that are too sparse.
    """
    why = "neither candles nor a column close: --audit-candles FILE..."
    if bars is not None:
        why = f"{len(bars):,} rows are too few, {_MIN_ROWS:,} are enough"
    if bars is None or len(bars) < _MIN_ROWS:
        return [
            Finding(check=check, outcome=NOT_DONE, what=why)
            for check in _CHECKS.values()
        ]
    newest = slice(max(0, len(bars) - MAX_ROWS), None)
    bars = bars.iloc[newest].reset_index(drop=True)
    news, periods = _news(bars), PeriodBars(bars)
    leads: dict[str, list[Lead]] = {name: [] for name in news}
    sparse = []
    for column, whole in columns.items():
        values = np.asarray(whole[newest], np.float64)
        if _num_others(values) < _MIN_OTHERS:
            if np.ptp(values) > 0:
                sparse.append(column)
            continue
        best = _leads(column, values, news, periods, least=_least(bars))
        for name, lead in best.items():
            leads[name].append(lead)
    findings = [_finding(name, leads.get(name), bars) for name in _CHECKS]
    if sparse:
        findings.append(
            Finding(
                check=LEADS_PRICE,
                outcome=NOT_DONE,
                what=f"under {_MIN_OTHERS} rows off their usual value: "
                f"{', '.join(sparse)}",
                columns=tuple(sparse),
            )
        )
    return findings


def _is_doubtful(name: str, lead: Lead, least: float) -> bool:
    """Whether a lead on `name` is beyond what clean columns reach."""
    is_large = name == "price" or abs(lead.correlation) >= least
    return abs(lead.z) > MAX_CLEAN_Z and is_large


def _finding(name: str, leads: Sequence[Lead] | None, bars: pd.DataFrame) -> Finding:
    check = _CHECKS[name]
    if leads is None:
        why = "the file has no volume: --audit-candles FILE..."
        return Finding(check=check, outcome=NOT_DONE, what=why)
    ordered = sorted(leads, key=lambda lead: -abs(lead.z))
    found = [lead for lead in ordered if _is_doubtful(name, lead, _least(bars))]
    evidence = {
        "num_rows": len(bars),
        "z": {lead.column: lead.z for lead in ordered},
        "correlation": {lead.column: lead.correlation for lead in ordered},
    }
    if not found:
        most = ""
        if ordered:
            z, size = abs(ordered[0].z), abs(ordered[0].correlation)
            most = (
                f"; nearest is {ordered[0].column}, {z:.1f} errors of {MAX_CLEAN_Z:g}"
            )
            if name != "price":
                most += f" with a correlation of {size:.3f} of {_least(bars):g}"
        return Finding(
            check=check,
            outcome=PASSED,
            what=f"none of {len(ordered)} columns that vary knows the {name} of later "
            f"bars beyond the past{most}",
            evidence=evidence,
        )
    words = [
        f"{lead.column} knows the {name} of later bars: {lead.what} correlates "
        f"{lead.correlation:+.3f} beyond the past, {abs(lead.z):.1f} errors"
        for lead in found[:_SHOWN]
    ]
    words += [f"{len(found) - _SHOWN} more"] * (len(found) > _SHOWN)
    return Finding(
        check=check,
        outcome=DOUBTFUL,
        what=f"{'; '.join(words)}. A leak, or a rare forecast: its function "
        "(--audit-features) and the candles to compute it from would tell",
        evidence=evidence,
        columns=tuple(lead.column for lead in found),
    )


def _least(bars: pd.DataFrame) -> float:
    return MIN_CORRELATION if "volume" in bars else MIN_CORRELATION_OF_CLOSES


def _num_others(values: np.ndarray) -> int:
    """Returns the rows that are off a column's most frequent value."""
    counts = np.unique(values, return_counts=True)[1]
    return int(len(values) - counts.max())


def _leads(
    column: str,
    values: np.ndarray,
    news: Mapping[str, np.ndarray],
    periods: PeriodBars,
    *,
    least: float,
) -> dict[str, Lead]:
    """Returns what a column knows of each kind of news, where it is clearest."""
    found: dict[str, list[Lead]] = {name: [] for name in news}
    for what, series in _series(values):
        for name, surprise in news.items():
            z, correlation = _z_score(series, surprise)
            lead = Lead(column=column, z=z, correlation=correlation, what=what)
            found[name].append(lead)
    for name, z, correlation, what in periods.leads(values):
        lead = Lead(column=column, z=z, correlation=correlation, what=what)
        found[name].append(lead)
    return {
        name: max(leads, key=lambda x: (_is_doubtful(name, x, least), abs(x.z)))
        for name, leads in found.items()
    }


def _series(values: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Yields a column's ranks, its changes', its levels', over each horizon."""
    bases: list[tuple[str, np.ndarray, tuple[int, ...]]]
    changes = np.diff(values, prepend=values[:1])
    bases = [("its value", values, HORIZONS), ("its change", changes, HORIZONS)]
    levels = np.unique(values)
    if 2 < len(levels) <= _MAX_LEVELS:
        bases += [(f"{level:g}", values == level, (1,)) for level in levels]
    for what, base, horizons in bases:
        ranks = rank(base)
        centred = ranks - lagged(trailing_mean(ranks, len(ranks)), 1)
        for bars in horizons:
            # What the sum of the last values is to one bar, one is to so many bars.
            yield f"{what} with the next {bars}", trailing_mean(centred, bars)


def _z_score(series: np.ndarray, surprise: np.ndarray) -> tuple[float, float]:
    """Returns the mean product in its largest standard error, and the correlation."""
    products = series * surprise
    error = np.sqrt(np.square(products).sum())
    for count in _BLOCKS:
        starts = np.linspace(0, len(products), count, endpoint=False).astype(int)
        sums = np.add.reduceat(products, starts)
        error = max(error, np.sqrt(count) * sums.std(ddof=1))
    scale = np.sqrt(np.square(series).sum() * np.square(surprise).sum())
    if not error or not scale:
        return 0.0, 0.0
    return float(products.sum() / error), float(products.sum() / scale)


# What nobody knows before the next bar


def _news(bars: pd.DataFrame) -> dict[str, np.ndarray]:
    """Returns what the past leaves unexplained of each row's next bar (num_rows,)."""
    close = np.log(bars["close"].to_numpy(np.float64))
    moves = np.diff(close, prepend=close[:1])
    squares = pd.Series(np.square(moves)).ewm(halflife=_VOLATILITY_BARS).mean()
    usual = np.sqrt(squares.to_numpy()) + 1e-9
    targets = {
        "price": np.clip(lagged(moves, -1) / usual, -_CLIP, _CLIP),
        "volatility": rank(lagged(_widths(bars), -1)),
    }
    if "volume" in bars:
        targets["volume"] = rank(lagged(bars["volume"].to_numpy(np.float64), -1))
    known = _known(bars, moves)
    gram = (known.T @ known).astype(np.float64)
    gram[np.diag_indices_from(gram)] += 1e-6 * len(known)
    news = {}
    for name, target in targets.items():
        weights = np.linalg.solve(gram, known.T @ target.astype(np.float32))
        news[name] = target - known @ weights.astype(np.float32)
        news[name][-1] = 0.0  # of a bar that is not there
    return news


def _widths(bars: pd.DataFrame) -> np.ndarray:
    """Returns how far each bar moved (num_rows,)."""
    if "high" in bars:
        return np.log(bars["high"].to_numpy() / bars["low"].to_numpy())
    close = np.log(bars["close"].to_numpy())
    return np.abs(np.diff(close, prepend=close[:1]))


def _known(bars: pd.DataFrame, moves: np.ndarray) -> np.ndarray:
    """Returns what bars so far and the calendar say (num_rows, num_terms), float32."""
    close = np.log(bars["close"].to_numpy(np.float64))
    columns = [moves, *(lagged(moves, k) for k in _LAGS)]
    columns += [close - lagged(close, k) for k in _PAST_BARS]
    sizes = [np.abs(moves)]
    if "high" in bars:
        opened, high, low = (
            np.log(bars[name].to_numpy(np.float64)) for name in ("open", "high", "low")
        )
        span = np.maximum(high - low, 1e-12)
        columns += [(close - low) / span, (close - opened) / span]
        columns += [high - np.maximum(close, opened), np.minimum(close, opened) - low]
        sizes.append(high - low)
    if "volume" in bars:
        volume = bars["volume"].to_numpy(np.float64)
        columns.append(np.sign(moves) * volume)
        sizes.append(volume)
    for size in sizes:
        ranks = rank(size)
        columns += [ranks, *(lagged(ranks, k) for k in _LAGS)]
        columns += [trailing_mean(ranks, k) for k in _PAST_BARS]
        columns += [trailing_mean(np.square(size), k) for k in _PAST_BARS]
    flags = _calendar(bars)
    shape = (len(bars), 1 + len(flags) + _NUM_TERMS * len(columns))
    known = np.ones(shape, np.float32, order="F")
    for k, flag in enumerate(flags):
        known[:, 1 + k] = flag
    for k, column in enumerate(columns):
        place = 2 * rank(column)
        first = 1 + len(flags) + _NUM_TERMS * k
        for power in (1, 2, 3):
            known[:, first + power - 1] = place**power
        for side in (1, -1):
            known[:, first + 3 + (side < 0)] = np.maximum(side * place - 0.8, 0) * 5
    return known


def _calendar(bars: pd.DataFrame) -> list[np.ndarray]:
    """Returns one flag for each minute of the hour, hour and weekday there is."""
    times = pd.DatetimeIndex(bars["timestamp"])
    parts = (times.minute, times.hour, times.day_of_week)
    return [part == value for part in parts for value in np.unique(part)[1:]]


# Series


def rank(values: np.ndarray) -> np.ndarray:
    """Returns ranks between -0.5 and 0.5 (num_rows,), equal values at their middle."""
    from scipy.stats import rankdata

    return (rankdata(values) - 0.5) / len(values) - 0.5


def lagged(values: np.ndarray, bars: int) -> np.ndarray:
    """Returns `values[t - bars]` (num_rows,), the end value where there is none."""
    rows = np.arange(len(values)) - bars
    return values[rows.clip(0, len(values) - 1)]


def trailing_mean(values: np.ndarray, bars: int) -> np.ndarray:
    """Returns means of the last `bars` values (num_rows,), of fewer at the start."""
    if bars == 1:
        return values
    sums = np.concatenate([[0.0], np.cumsum(values)])
    stops = np.arange(1, len(values) + 1)
    starts = np.maximum(0, stops - bars)
    return (sums[stops] - sums[starts]) / (stops - starts)
