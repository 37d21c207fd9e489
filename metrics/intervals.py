"""How sure a mean is whose rows depend on each other: equal-weighted cosines.

In: intervals of means and of functions of means, paired tests, which stretch is too
short for either. Out: shuffle tests and Sharpe ratios (`significance`), what is claimed
(`evaluation.verdict`), words (`wording`).

Labels of neighbouring bars share most of their future, and losses follow volatility,
which persists for days. Block lengths chosen from the rows see the first and miss the
second, so there is none here: the slowest few cosines of the rows measure how much
their mean moves, and as few as they are, as wide is the quantile.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

MIN_DAYS, MIN_HORIZONS = 10.0, 30.0
"""A shorter stretch has no interval; its length alone decides, never its rows."""

WARN_DAYS = 14.0
_SLOW_DAYS = 21.0
_COSINES = (2, 3, 4, 6, 8, 12)
_DAY_SECONDS = 86_400


@dataclass(frozen=True, kw_only=True)
class Length:
    """How long a stretch of rows is.

    Args:
        days: Calendar days that its bars fill.
        horizons: Horizons of a label that they fill.
    """

    days: float
    horizons: float

    @classmethod
    def of(cls, num_rows: int, *, horizon_bars: int, bar_seconds: float) -> Length:
        """Returns the length of so many rows."""
        days = num_rows * bar_seconds / _DAY_SECONDS
        return cls(days=days, horizons=num_rows / max(1, horizon_bars))

    @property
    def is_too_short(self) -> bool:
        """Whether there is no interval, and no claim."""
        return self.days < MIN_DAYS or self.horizons < MIN_HORIZONS

    @property
    def cosines(self) -> tuple[int, ...]:
        """How many cosines are tried; a short stretch needs slower ones, too.

        Within two weeks a volatility with a half-life of a day has few independent
        values, and four cosines take part of it for fast noise.
        """
        fewest = 2 if self.days < WARN_DAYS else 3 if self.days < _SLOW_DAYS else 4
        return tuple(count for count in _COSINES if count >= fewest)


LONG_ENOUGH = Length(days=math.inf, horizons=math.inf)
TOO_SHORT = Length(days=0.0, horizons=0.0)


def cosine_interval(
    columns: Any,
    statistic: Callable[[np.ndarray], np.ndarray] | None = None,
    *,
    length: Length,
    confidence: float = 0.95,
) -> dict[str, Any]:
    """Returns a statistic of column means with its interval.

    With W_j = sqrt(2 / n) sum_t cos(pi j (t + 1/2) / n) x_t, the standard error of the
    mean is sqrt(mean(W_1^2 .. W_v^2) / n) and follows t with v degrees of freedom. The
    interval is the widest of a few v (`Length.cosines`): small v hear slow movements,
    large ones are surer of fast ones. A function of means is linearised at the means.

    Sources: Mueller (2007), "A theory of robust long-run variance estimation"; Lazarus,
    Lewis, Stock and Watson (2018), "HAR inference: recommendations for practice". To
    take the widest is a safeguard, checked by `benchmarks/coverage.py`.

    Args:
        columns: Values in time order (num_rows,) or (num_rows, num_columns), such as
            (own loss, reference's loss), 0 in rows that do not count.
        statistic: From means (..., num_columns) to values (...,), such as
            `lambda m: 1 - m[..., 0] / m[..., 1]`; None: the mean of the first column.
        length: Of the stretch, whatever rows or days the columns have.
        confidence: Coverage of the interval.

    Returns:
        The keys of `results.Interval`; without ends where the stretch is too short or
        the statistic is undefined.

    Raises:
        ValueError: If a value is not finite.
    """
    estimate, linear = _linearised(columns, statistic)
    found: dict[str, Any] = {
        "estimate": estimate if math.isfinite(estimate) else None,
        "low": None,
        "high": None,
        "standard_error": None,
        "num_cosines": None,
    }
    if length.is_too_short or linear is None:
        return found
    from scipy.stats import norm, t

    counts, errors = _standard_errors(linear, length)
    if not len(counts):
        return found
    halves = t.ppf(0.5 + confidence / 2, counts) * errors
    half, widest = float(halves.max()), int(halves.argmax())
    return found | {
        "low": estimate - half,
        "high": estimate + half,
        "standard_error": half / float(norm.ppf(0.5 + confidence / 2)),
        "num_cosines": int(counts[widest]),
    }


def log_loss_interval(
    losses: Any, *, length: Length, num_classes: int
) -> dict[str, Any]:
    """Returns the mean log-loss with its interval, which is not symmetric.

    What a forecast gains on the uniform one, log(num_classes) less its loss, is a sum
    of squares of how far it goes: a stretch with little gain moves less, too, and a
    symmetric interval ends above the truth too often. The cube root of such a sum has
    the same spread everywhere, so the interval is that of the cube root of the gain.
    Where the gain is less than half of the half interval, or none, the lower end is as
    far as there and the upper one that of the mean.

    Source: Wilson and Hilferty (1931), "The distribution of chi-square". Checked by
    `benchmarks/coverage.py`.

    Args:
        losses: Log-loss of each row (num_rows,), in time order.
        length: As in `cosine_interval`.
        num_classes: Classes that the uniform forecast shares 1 among.
    """
    found = cosine_interval(losses, length=length)
    if found["low"] is None:
        return found
    half = found["high"] - found["estimate"]
    gain = math.log(num_classes) - found["estimate"]
    is_near = gain < half / 2
    share = 2.0 if is_near else half / gain if half else 0.0
    bend = 1 + share**2 / 27
    up = half if is_near else half * (bend - share / 3)
    low = found["estimate"] - half * (bend + share / 3)
    return found | {"low": low, "high": found["estimate"] + up}


def paired_test(losses_a: Any, losses_b: Any, *, length: Length) -> dict[str, Any]:
    """Tests whether two models lose equally on the same rows.

    Args:
        losses_a: Loss of every row, in time order (num_rows,).
        losses_b: The other model's losses on the same rows (num_rows,).
        length: Of the stretch.

    Returns:
        The interval of mean(a - b), below 0 where a is better, and `p_value`, two-sided
        (None where there is no interval).
    """
    a, b = np.asarray(losses_a, dtype=float), np.asarray(losses_b, dtype=float)
    if a.ndim != 1 or a.shape != b.shape or a.size == 0:
        raise ValueError(
            "`losses_a` and `losses_b` must belong to the same rows (num_rows,). "
            f"Received: {a.shape} and {b.shape}."
        )
    found = cosine_interval(a - b, length=length) | {"p_value": None}
    if found["low"] is not None:
        from scipy.stats import t

        counts, errors = _standard_errors(a - b - found["estimate"], length)
        far = abs(found["estimate"]) > 1e-12 * max(1.0, float(np.abs(a).mean()))
        with np.errstate(divide="ignore", invalid="ignore"):
            scores = abs(found["estimate"]) / errors
        found["p_value"] = float((2 * t.sf(scores, counts)).max()) if far else 1.0
    return found


def mean_interval(
    found: Sequence[Mapping[str, Any]], weights: Sequence[float] | None = None
) -> dict[str, Any]:
    """Returns the mean of several estimates, however much they move together.

    The standard error of a mean is at most the mean of the standard errors, which it
    reaches where all move as one, as skills on one day of several markets nearly do.
    So is half of the interval, towards 0 and away from it.

    Args:
        found: Intervals as `cosine_interval` returns them.
        weights: Of each; None weighs all alike.

    Returns:
        `estimate`, `low`, `high`, `num_cosines` (the fewest, with the heaviest tails),
        and `p_value`, two-sided, of a mean of 0; None where one of them has none.
    """
    columns = {key: [x[key] for x in found] for key in ("estimate", "low", "high")}
    mean = {
        key: None
        if not found or None in column
        else float(np.average(column, weights=weights))
        for key, column in columns.items()
    }
    estimate, low, high = mean.values()
    if estimate is None or low is None or high is None:
        return {**mean, "num_cosines": None, "p_value": None}
    from scipy.stats import t

    count = min(x["num_cosines"] for x in found)
    half = estimate - low if estimate > 0 else high - estimate
    score = t.ppf(0.975, count) * abs(estimate) / half if half else math.inf
    return {**mean, "num_cosines": count, "p_value": float(2 * t.sf(score, count))}


def block_error(
    columns: Any,
    statistic: Callable[[np.ndarray], np.ndarray] | None = None,
    *,
    block_rows: int,
) -> float:
    """Returns the standard error of a statistic of column means, from sums of blocks.

    For what has to be many errors away from 0: an interval of few cosines never is.
    NaN where the statistic is undefined.

    Args:
        columns: Values in time order (num_rows,) or (num_rows, num_columns).
        statistic: As in `cosine_interval`.
        block_rows: Rows in a block, several horizons of the labels.
    """
    _, linear = _linearised(columns, statistic)
    if linear is None:
        return math.nan
    sums = np.add.reduceat(linear, np.arange(0, len(linear), block_rows))
    return float(np.sqrt(np.square(sums).sum())) / len(linear)


def _linearised(
    columns: Any, statistic: Callable[[np.ndarray], np.ndarray] | None
) -> tuple[float, np.ndarray | None]:
    """Returns the statistic, and rows (num_rows,) of mean 0 whose mean moves as it."""
    table = np.asarray(columns, dtype=np.float64)
    if not len(table):
        return math.nan, None
    table = table.reshape(len(table), -1)
    if not np.isfinite(table).all():
        raise ValueError(
            "`columns` must be finite. Received: NaN or infinity. Use 0 and a column "
            "that counts rows for values that exist in some rows only."
        )
    means = table.mean(axis=0)
    centred = table - means
    if statistic is None:
        return float(means[0]), centred[:, 0]
    # A step of a ten-thousandth of a deviation: far from rounding, and near to linear.
    steps = 1e-4 * centred.std(axis=0)
    moved = means + np.concatenate([np.diag(steps), -np.diag(steps)])
    with np.errstate(divide="ignore", invalid="ignore"):
        estimate = float(statistic(means))
        up, down = np.split(np.asarray(statistic(moved), dtype=np.float64), 2)
        gradient = np.where(steps > 0, (up - down) / (2 * steps), 0.0)
    if not (math.isfinite(estimate) and np.isfinite(gradient).all()):
        return estimate, None
    return estimate, centred @ gradient


def _standard_errors(
    centred: np.ndarray, length: Length
) -> tuple[np.ndarray, np.ndarray]:
    """Returns how many cosines are tried (num_tried,), and the error by each."""
    from scipy.fft import dct

    num_rows = len(centred)
    counts = np.array([v for v in length.cosines if v <= num_rows // 2], dtype=int)
    # The transform doubles the sum.
    waves = dct(centred, type=2)[1 : max(_COSINES) + 1] / math.sqrt(2 * num_rows)
    sums = np.cumsum(np.square(waves))
    return counts, np.sqrt(sums[counts - 1] / counts / num_rows)
