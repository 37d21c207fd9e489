"""Tests by shuffling, of several at once, and Sharpe ratios after selection.

In: tests of arrays of numbers. Out: intervals (`intervals`), what the numbers mean
(`scores`, `evaluation.trading`). Labels of neighbouring bars share most of their
future, so rows are never shuffled one by one: a block spans several horizons.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Any

import numpy as np

from metrics.intervals import Length, cosine_interval

_MIN_BLOCKS = 10  # of three horizons at least: 30 horizons, as for an interval
_MAX_BLOCKS = 4000  # their cross table has this size squared: 128 MB


def suggest_block_rows(num_rows: int, *, horizon_bars: int) -> int:
    """Returns a block length: five horizons, three where that leaves under 20 blocks.

    The mean of losses of overlapping labels has an autocorrelation of about 1 - k/H;
    blocks of one horizon H keep two thirds of its variance, of five horizons 93 %.
    """
    return max(3 * horizon_bars, min(5 * horizon_bars, num_rows // 20))


def adjust_p_values(p_values: Sequence[float | None]) -> list[float | None]:
    """Returns p-values of several tests, adjusted so that all hold together.

    Source: Holm (1979), "A simple sequentially rejective multiple test procedure".

    Args:
        p_values: One for each test; None where there was none, which stays.
    """
    known = sorted((p, k) for k, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, k) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - rank) * p))
        adjusted[k] = largest
    return adjusted


def limit_false_discoveries(p_values: Sequence[float | None]) -> list[float | None]:
    """Returns p-values of several tests: of those below q, a share q is wrong at most.

    Holds for tests that are independent or move together.
    Source: Benjamini and Hochberg (1995), "Controlling the false discovery rate".

    Args:
        p_values: One for each test; None where there was none, which stays.
    """
    from scipy.stats import false_discovery_control

    known = [k for k, p in enumerate(p_values) if p is not None]
    adjusted: list[float | None] = [None] * len(p_values)
    if known:
        found = false_discovery_control([p_values[k] for k in known])
        for k, p in zip(known, found, strict=True):
            adjusted[k] = float(p)
    return adjusted


# Shuffle test


def shuffle_test(
    labels: Any,
    class_losses: Any,
    *,
    block_rows: int,
    is_counted: Any = None,
    num_permutations: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Tests whether predictions know the labels, by permuting blocks of labels.

    The predictions stay where they are. For direction pass
    `class_losses(p, part="direction_log_loss")` and `is_counted=labels != HOLD`: then
    only the sides of the true trades are permuted, among these trades. Permuting HOLD
    too would move trades to calmer rows, where a model without any sense of direction
    is more or less confident, and call that skill.
    Source of the +1: Phipson and Smyth (2010), "Permutation p-values should never be
    zero".

    Args:
        labels: Class ids in time order (num_rows,).
        class_losses: Loss of each row under each label (num_rows, num_classes).
        block_rows: Counted rows in a block, from `suggest_block_rows`; made
            longer so that blocks fill the rows (fewer than one row a block is left
            out, the newest) and are 4,000 at most.
        is_counted: Rows that take part (num_rows,); None counts all.
        num_permutations: Number of permutations.
        seed: Same seed, same result.

    Returns:
        `observed` and `shuffled_mean` loss, `p_value` (share of permutations with a
        loss as low; None with fewer than 10 blocks), `num_blocks`, `block_rows`,
        `num_permutations`.
    """
    labels = np.asarray(labels)
    losses = np.asarray(class_losses, dtype=np.float64)
    if losses.ndim != 2 or labels.shape != losses.shape[:1]:
        raise ValueError(
            "`class_losses` must have a row for each label (num_rows, num_classes). "
            f"Received: {losses.shape} for labels of shape {labels.shape}."
        )
    if is_counted is not None:
        labels, losses = labels[is_counted], losses[is_counted]
    num_blocks = min(len(labels) // block_rows, _MAX_BLOCKS)
    observed = losses[np.arange(len(labels)), labels]
    result: dict[str, Any] = {
        "observed": float(observed.mean()) if len(labels) else None,
        "shuffled_mean": None,
        "p_value": None,
        "num_blocks": num_blocks,
        "block_rows": block_rows,
        "num_permutations": num_permutations,
    }
    if num_blocks < _MIN_BLOCKS:
        return result
    used = len(labels) // num_blocks * num_blocks
    cross = _block_losses(labels[:used], losses[:used], num_blocks)
    generator = np.random.Generator(np.random.PCG64(seed))
    rows = np.arange(num_blocks)
    orders = (generator.permutation(num_blocks) for _ in range(num_permutations))
    shuffled = np.array([cross[rows, order].sum() for order in orders])
    return result | {
        "observed": float(cross.diagonal().sum() / used),
        "shuffled_mean": float(shuffled.mean() / used),
        "p_value": _p_value(shuffled, float(cross.diagonal().sum())),
        "block_rows": used // num_blocks,
    }


def _block_losses(
    labels: np.ndarray, losses: np.ndarray, num_blocks: int
) -> np.ndarray:
    """Returns losses of block i's predictions under block j's labels, as [i, j]."""
    one_hot = labels[:, None] == np.arange(losses.shape[1])
    return losses.reshape(num_blocks, -1) @ one_hot.reshape(num_blocks, -1).T


def _p_value(values: np.ndarray, observed: float) -> float:
    """Returns the share of `values` as low as `observed`, counting `observed` too."""
    # Sums in another order differ by rounding; such ties must count.
    as_low = values <= observed + 1e-12 * max(1.0, abs(observed))
    return float((1 + np.count_nonzero(as_low)) / (1 + len(values)))


# Sharpe ratios after selection

_SHOWN_ERRORS = {2: 5.73, 3: 4.38, 4: 3.88}
"""Standard errors that a true mean is above 0 where 80 of 100 intervals lie above 0, by
the fewest cosines tried: the widest of several intervals scatters from sample to sample
(a million draws of twelve normal cosines)."""
_POWER = 0.8


def sharpe_interval(
    returns: Any, *, periods_per_year: float, length: Length
) -> dict[str, Any]:
    """Returns the annual Sharpe ratio of returns (num_periods,) with its interval.

    Mean / standard deviation (n - 1), times sqrt(periods_per_year).
    """
    returns = np.asarray(returns, dtype=np.float64)
    year = math.sqrt(periods_per_year * (len(returns) - 1) / len(returns))

    def sharpe(means: np.ndarray) -> np.ndarray:
        variance = means[..., 1] - np.square(means[..., 0])
        return year * means[..., 0] / np.sqrt(np.maximum(variance, 0.0))

    squares = np.stack([returns, np.square(returns)], axis=1)
    return cosine_interval(squares, sharpe, length=length)


def probabilistic_sharpe(
    returns: Any, *, benchmark_sharpe: float = 0.0
) -> float | None:
    """Returns the probability that the true Sharpe ratio is above the benchmark's.

    Allows for the length, skewness and kurtosis of the sample. None with fewer than 3
    returns, without variance, or where the approximation breaks down.
    Source: Bailey and Lopez de Prado (2012), "The Sharpe ratio efficient frontier".

    Args:
        returns: Returns of equal periods, such as daily sums (num_periods,).
        benchmark_sharpe: Sharpe ratio of one period, not annualised.
    """
    returns = np.asarray(returns, dtype=np.float64)
    sharpe = _period_sharpe(returns)
    if sharpe is None or len(returns) < 3:
        return None
    deviation = returns - returns.mean()
    second, third, fourth = (float((deviation**k).mean()) for k in (2, 3, 4))
    skewness, kurtosis = third / second**1.5, fourth / second**2
    variance = 1.0 - skewness * sharpe + (kurtosis - 1.0) / 4.0 * sharpe**2
    if variance <= 0:
        return None
    score = (sharpe - benchmark_sharpe) * math.sqrt((len(returns) - 1) / variance)
    return NormalDist().cdf(score)


def expected_maximum_sharpe(num_trials: int, *, sharpe_std: float) -> float:
    """Returns the Sharpe ratio that the best of `num_trials` worthless trials shows.

    Source: Bailey and Lopez de Prado (2014), "The deflated Sharpe ratio", eq. 1.

    Args:
        num_trials: Number of independent variants tried.
        sharpe_std: Standard deviation of their Sharpe ratios, of one period.
    """
    if num_trials < 1:
        raise ValueError(f"`num_trials` must be at least 1. Received: {num_trials}")
    if num_trials == 1:
        return 0.0
    quantile = NormalDist().inv_cdf
    return sharpe_std * (
        (1.0 - np.euler_gamma) * quantile(1.0 - 1.0 / num_trials)
        + np.euler_gamma * quantile(1.0 - 1.0 / (num_trials * math.e))
    )


def deflated_sharpe(
    returns: Any, *, num_trials: int, sharpe_std: float | None = None
) -> float | None:
    """Returns `probabilistic_sharpe` against the best of as many worthless trials.

    Source: Bailey and Lopez de Prado (2014), "The deflated Sharpe ratio".

    Args:
        returns: Returns of the chosen variant, of equal periods (num_periods,).
        num_trials: Number of variants tried, the chosen one included.
        sharpe_std: Standard deviation of their Sharpe ratios, of one period; None takes
            that of an estimate without skill, 1 / sqrt(num_periods - 1).
    """
    num_periods = len(np.asarray(returns))
    if num_periods < 3:
        return None
    if sharpe_std is None:
        sharpe_std = 1.0 / math.sqrt(num_periods - 1)
    benchmark = expected_maximum_sharpe(num_trials, sharpe_std=sharpe_std)
    return probabilistic_sharpe(returns, benchmark_sharpe=benchmark)


def minimum_detectable_sharpe(length: Length, *, num_trials: int = 1) -> float | None:
    """Returns the true Sharpe ratio of a day that is claimed in 8 of 10 tests as long.

    Claimed means: the 95 % interval of the mean lies above 0, and `deflated_sharpe`
    gives more than 0.95. For independent normal days: their mean is known to
    1 / sqrt(n) deviations, their ratio s to sqrt((1 + s^2 / 2) / n). None where there
    is no interval, or no ratio is large enough.
    Source of the second: Lo (2002), "The statistics of Sharpe ratios".

    Args:
        length: Of the test.
        num_trials: Variants tried on it.
    """
    if length.is_too_short:
        return None
    quantile = NormalDist().inv_cdf
    needed = quantile(0.95) + quantile(_POWER)
    needed += expected_maximum_sharpe(num_trials, sharpe_std=1.0)
    room = length.days - 1.0 - needed**2 / 2.0
    if room <= 0:
        return None
    shown = _SHOWN_ERRORS[length.cosines[0]] / math.sqrt(length.days)
    return max(shown, needed / math.sqrt(room))


def _period_sharpe(returns: np.ndarray) -> float | None:
    """Returns mean / standard deviation (n - 1) of one period."""
    if len(returns) < 2:
        return None
    mean, deviation = float(returns.mean()), float(returns.std(ddof=1))
    # Equal returns leave rounding, not zero.
    return mean / deviation if deviation > 1e-12 * abs(mean) else None
