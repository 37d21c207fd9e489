"""How much is traded: Kelly's share, a target volatility.

In: sizes as fractions of equity. Out: what trades of these sizes come to
(`evaluation.trading`).
"""

from __future__ import annotations

from typing import Any

import numpy as np


def kelly_sizes(
    probabilities: Any,
    *,
    tp_pct: float,
    sl_pct: float,
    cost_pct: float = 0.0,
    fraction: float = 0.25,
    cap: float = 1.0,
) -> np.ndarray:
    """Returns the fractional Kelly size of trades that win `tp_pct` or lose `sl_pct`.

    Growth is largest at f = p / a - (1 - p) / b with the gain b = TP - c and the loss
    a = SL + c as fractions; a fraction of it, at least 0 and at most `cap`, is traded.
    Source: Kelly (1956); Thorp (2006), "The Kelly criterion", section 7, for f at
    unequal gain and loss.

    Args:
        probabilities: Calibrated probability of the take profit (num_rows,).
        tp_pct: Take profit in percent.
        sl_pct: Stop loss in percent.
        cost_pct: Cost of a round trip in percent.
        fraction: Share of the full Kelly size.
        cap: Largest size, as a fraction of equity.

    Returns:
        Sizes (num_rows,); 0 everywhere if costs eat the take profit.
    """
    probabilities = np.asarray(probabilities, dtype=np.float64)
    if not ((probabilities >= 0) & (probabilities <= 1)).all():
        raise ValueError("`probabilities` must lie in [0, 1].")
    gain, loss = (tp_pct - cost_pct) / 100.0, (sl_pct + cost_pct) / 100.0
    if gain <= 0:
        return np.zeros(probabilities.shape)
    full = probabilities / loss - (1.0 - probabilities) / gain
    return np.clip(fraction * full, 0.0, cap)


def volatility_target_sizes(
    volatility_pct: Any, *, target_pct: float, cap: float = 1.0
) -> np.ndarray:
    """Returns sizes that hold the expected volatility at a target: target / volatility.

    Source: Moreira and Muir (2017), "Volatility-managed portfolios".

    Args:
        volatility_pct: Volatility known at each row, in percent of any period
            (num_rows,); 0 gives `cap`.
        target_pct: Wanted volatility of the same period, in percent.
        cap: Largest size, as a fraction of equity.
    """
    volatility = np.asarray(volatility_pct, dtype=np.float64)
    if not (np.isfinite(volatility) & (volatility >= 0)).all():
        raise ValueError("`volatility_pct` must be finite and not negative.")
    return target_pct / np.maximum(volatility, target_pct / cap)
