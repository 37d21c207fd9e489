"""Whether the bars of context pairs stand beside the pair's own bars of the same time.

In: closes of both. Out: what functions do with them (`lookahead`).

Markets move together: the moves of two pairs are most alike where they are of the same
bars. Where they are more alike at a distance, the times of one of the files are not
what they seem, such as ends of bars that are read as their opens. No function shows it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from audit.findings import DOUBTFUL, LEAK, NOT_DONE, OUT_OF_STEP, PASSED, Finding
from candles.columns import beside_column
from config import Config

_LAGS = (0, *range(1, 4), *range(-3, 0))
_ERRORS = 5.0  # standard errors of a correlation of independent moves
_MIN_MOVES = 200


def check_steps(bars: pd.DataFrame | None, config: Config) -> Iterator[Finding]:
    """Yields a finding for each context pair.

    Args:
        bars: Bars with `segment` and those of context pairs beside them; None: not
            known.
        config: The pairs.
    """
    for pair in config.context_pairs:
        if bars is None:
            why = f"{pair}: no candles given: --audit-candles FILE..."
            yield Finding(check=OUT_OF_STEP, outcome=NOT_DONE, what=why)
        else:
            yield _check_step(bars, pair)


def _check_step(bars: pd.DataFrame, pair: str) -> Finding:
    starts = np.diff(bars["segment"].to_numpy(), prepend=-1) != 0
    own, other = (
        np.where(starts, np.nan, np.diff(np.log(bars[name].to_numpy()), prepend=np.nan))
        for name in ("close", beside_column("close", pair))
    )
    if "is_filled" in bars:
        own[bars["is_filled"].to_numpy(bool)] = np.nan
    found = {lag: _correlation(own, other, lag) for lag in _LAGS}
    count = min(num for _, num in found.values())
    evidence = {str(lag): value for lag, (value, _) in found.items()}
    limit = _ERRORS / max(1, count) ** 0.5
    best = max(found, key=lambda lag: abs(found[lag][0]))
    said = (
        f"the moves of {pair} correlate {found[0][0]:.2f} with those of the pair in "
        f"the same bar"
    )
    if count < _MIN_MOVES or abs(found[best][0]) < limit:
        outcome = NOT_DONE
        said = f"{pair}: {count:,} moves in common, too few or too unlike to be timed"
    elif best == 0 or abs(found[best][0]) < abs(found[0][0]) + limit:
        outcome, said = PASSED, f"{said}, less at any distance"
    else:
        outcome = LEAK if best > 0 else DOUBTFUL
        side = "after" if best > 0 else "before"
        said = (
            f"{said}, {found[best][0]:.2f} with those {abs(best)} bars {side} it: its "
            f"bars stand {abs(best)} too {'early' if best > 0 else 'late'}. Give the "
            "times at which its bars open"
        )
    return Finding(check=OUT_OF_STEP, outcome=outcome, what=said, evidence=evidence)


def _correlation(own: np.ndarray, other: np.ndarray, lag: int) -> tuple[float, int]:
    """Returns how a context's moves go with those `lag` bars later, of how many."""
    first, second = (
        (other[: len(other) - lag], own[lag:])
        if lag >= 0
        else (other[-lag:], own[: len(own) + lag])
    )
    known = np.isfinite(first) & np.isfinite(second)
    first, second = first[known], second[known]
    if len(first) < _MIN_MOVES or not (np.ptp(first) and np.ptp(second)):
        return 0.0, 0
    return float(np.corrcoef(first, second)[0, 1]), len(first)
