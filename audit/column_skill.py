"""What each column alone says of the labels, and whether it says too much.

In: single-column forecasts, scored for the label of their own row and of earlier ones.
Out: which rows labels belong to (`label_timing`), what candles prove (`lookahead`).

What a column honestly knows at row `t` it knows better of labels that are partly over,
those of the rows before, than of the label that begins there: knowledge fades into the
future. A column that was made from the label, or from bars of it, has its peak at `t`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from audit.findings import LEAK, NOT_DONE, PASSED, TOO_GOOD, Finding
from data_loader import TrainingData
from metrics.intervals import block_error
from metrics.scores import EPSILON
from metrics.significance import suggest_block_rows

_SHOWN = 4

MAX_TARGETS = 100_000
"""Evenly spaced rows that single columns are scored on: labels overlap anyway."""

_NUM_BINS = 20
_PRIOR_COUNT = 50.0  # rows of the class prior that each bin starts with
_MIN_TARGETS = 1000

PEAK_SKILL = 0.02
"""Skill that a column loses towards earlier labels before it is called a leak.

On demo markets, BTC and ETH at 1m, 5m, 15m and 1h, and all built-in feature sets, none
of 1,100 columns lost 0.008 with any certainty; most gain.
"""

FAR_BEYOND = 0.25
"""Skill of a column above every other one's before it is called a leak.

The best clean column was 0.04 above the next; all of a clean file together reach 0.2.
"""

_CERTAIN_ERRORS = 5.0  # standard errors: some thousand comparisons are made


@dataclass(frozen=True, kw_only=True, eq=False)
class ColumnSkill:
    """What one column's value at row `t` alone says of labels around `t`.

    Args:
        column: Its name.
        skill: Log-loss skill for the label of row `t` itself.
        lost: Skill for row `t` above that for row `t - lag_bars`, where it is largest.
        lag_bars: That distance.
        standard_error: Of `lost`, from sums of blocks; None where it was not needed.
        losses: Loss and reference loss at row `t` (num_targets, 2).
    """

    column: str
    skill: float
    lost: float
    lag_bars: int
    standard_error: float | None
    losses: np.ndarray


def check_single_features(data: TrainingData) -> Finding:
    """Scores every column alone and looks for one that knows what it cannot know.

    The forecast is the class mix of twenty quantile bins, fitted on one half of the
    rows and scored on the other, and the reverse. A leak is a column that is far beyond
    all others, or that knows the label of its own row better than those of the rows
    before, which are partly over: honest knowledge fades into the future.
    """
    rows = _spaced_targets(data)
    if len(rows) < _MIN_TARGETS:
        return Finding(
            check=TOO_GOOD,
            outcome=NOT_DONE,
            what=f"{len(rows):,} targets are too few to score a column alone, "
            f"{_MIN_TARGETS:,} are enough",
        )
    # Blocks of bars, in rows that are several bars apart.
    spacing = max(1, int(np.median(np.diff(rows))))
    block = suggest_block_rows(
        len(rows), horizon_bars=max(1, data.future_window // spacing)
    )
    skills = sorted(
        _column_skills(data, rows, block_rows=block), key=lambda item: -item.skill
    )
    peaks = [item for item in skills if _is_peak(item)]
    beyond = _is_far_beyond(skills, block_rows=block)
    evidence = {
        "num_targets": len(rows),
        "skill": {item.column: item.skill for item in skills},
        "peaks": {item.column: [item.lost, item.lag_bars] for item in peaks},
    }
    best, rest = skills[0], skills[1:2]
    of_rest = f", the next, {rest[0].column}, {rest[0].skill:.3f}" if rest else ""
    if not peaks and not beyond:
        return Finding(
            check=TOO_GOOD,
            outcome=PASSED,
            what=f"best alone: {best.column}, skill {best.skill:.3f}{of_rest}; none of "
            f"{len(skills)} knows its own row's label better than earlier ones",
            evidence=evidence,
        )
    words = [
        f"{item.column} alone has a skill of {item.skill:.3f} for the label of its own "
        f"row and {item.skill - item.lost:.3f} for that of {item.lag_bars} bars before"
        for item in peaks[:_SHOWN]
    ]
    words += [f"{len(peaks) - _SHOWN} more like it"] * (len(peaks) > _SHOWN)
    if beyond:
        words.append(f"{best.column} alone has a skill of {best.skill:.3f}{of_rest}")
    named = {item.column for item in peaks} | ({best.column} if beyond else set())
    return Finding(
        check=TOO_GOOD,
        outcome=LEAK,
        what="; ".join(words),
        evidence=evidence,
        columns=tuple(sorted(named)),
    )


def _spaced_targets(data: TrainingData) -> np.ndarray:
    """Returns at most `MAX_TARGETS` targets (num_targets,), evenly spaced."""
    rows = np.concatenate([part.targets for part in data.parts.values()])
    rows = rows[rows >= data.future_window].astype(np.int64)
    stride = -(-len(rows) // MAX_TARGETS) if len(rows) else 1
    return rows[::stride]


def _column_skills(
    data: TrainingData, rows: np.ndarray, *, block_rows: int
) -> Iterator[ColumnSkill]:
    horizon = data.future_window
    lags = sorted({max(1, horizon // part) for part in (8, 4, 2)})
    labels = data.labels.astype(np.int64)
    for j, column in enumerate(data.feature_names):
        bins = _quantile_bins(data.features[rows, j])
        own = _bin_losses(bins, labels[rows])
        earlier = [_bin_losses(bins, labels[rows - lag]) for lag in lags]
        skill = _skill(own)
        lost = [skill - _skill(losses) for losses in earlier]
        errors = []
        if min(skill, *lost) >= PEAK_SKILL:
            errors = [_fall_error(own, losses, block_rows) for losses in earlier]
        clear = max(
            range(len(lags)), key=lambda i: lost[i] / errors[i] if errors else lost[i]
        )
        yield ColumnSkill(
            column=column,
            skill=skill,
            lost=lost[clear],
            lag_bars=lags[clear],
            standard_error=errors[clear] if errors else None,
            losses=own,
        )


def _skill(losses: np.ndarray) -> float:
    return float(1 - losses[:, 0].mean() / losses[:, 1].mean())


def _quantile_bins(values: np.ndarray) -> np.ndarray:
    """Returns the bin of each value (num_rows,): `_NUM_BINS` of about equal size."""
    edges = np.quantile(values, np.linspace(0, 1, _NUM_BINS + 1)[1:-1])
    return np.searchsorted(np.unique(edges), values, side="right")


def _bin_losses(bins: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns log-loss of each bin's class mix, and of the class mix (num_rows, 2).

    Each half of the rows is scored with the frequencies of the other.
    """
    losses = np.empty((len(bins), 2))
    middle = len(bins) // 2
    halves = (slice(0, middle), slice(middle, None))
    for fitted, scored in (halves, halves[::-1]):
        counts = np.bincount(
            bins[fitted] * 3 + labels[fitted], minlength=3 * (_NUM_BINS + 1)
        ).reshape(-1, 3)
        prior = (counts.sum(axis=0) + 1) / (counts.sum() + 3)
        mixes = counts + _PRIOR_COUNT * prior
        mixes /= mixes.sum(axis=1, keepdims=True)
        truth = labels[scored]
        losses[scored, 0] = -np.log(mixes[bins[scored], truth])
        losses[scored, 1] = -np.log(prior[truth])
    return np.maximum(losses, EPSILON)


def _fall_error(own: np.ndarray, earlier: np.ndarray, block_rows: int) -> float:
    """Returns the standard error of skill at the own row less skill at the earlier."""
    error = block_error(
        np.hstack([own, earlier]),
        lambda mean: mean[..., 2] / mean[..., 3] - mean[..., 0] / mean[..., 1],
        block_rows=block_rows,
    )
    return error or np.inf


def _is_peak(item: ColumnSkill) -> bool:
    return (
        item.standard_error is not None
        and item.lost >= _CERTAIN_ERRORS * item.standard_error
    )


def _is_far_beyond(skills: Sequence[ColumnSkill], *, block_rows: int) -> bool:
    """Whether the best column is beyond the next by `FAR_BEYOND`, with certainty."""
    best = skills[0].losses
    # Where no other column has a skill, the class mix is the rest.
    has_rest = len(skills) > 1 and skills[1].skill > 0
    rest = skills[1].losses[:, 0] if has_rest else best[:, 1]
    beyond = (rest.mean() - best[:, 0].mean()) / best[:, 1].mean() - FAR_BEYOND
    if beyond < 0:
        return False
    error = block_error(
        np.column_stack([best[:, 0], rest, best[:, 1]]),
        lambda mean: (mean[..., 1] - mean[..., 0]) / mean[..., 2],
        block_rows=block_rows,
    )
    return bool(beyond >= 2 * error)
