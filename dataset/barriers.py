"""Take profits and stops that cannot work: below the costs, or never reached.

In: what is doubtful about the levels of a configuration, in words. Out: labels made by
them (`labels`), costs that were charged (`evaluation.trading`). Imports nothing heavy:
a dry run says it, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from config import Config

_QUANTILE = 0.99


def usual_move_pct(close: Any, horizon_bars: int) -> float | None:
    """Returns what 99 of 100 moves over the horizon stay below, in percent.

    Args:
        close: Closes in time order (num_bars,).
        horizon_bars: Bars of a move.

    Returns:
        The quantile of the absolute moves; None where there is none.
    """
    close = np.asarray(close, dtype=np.float64)
    moves = np.abs(close[horizon_bars:] / close[:-horizon_bars] - 1.0)
    moves = moves[np.isfinite(moves)]
    return 100.0 * float(np.quantile(moves, _QUANTILE)) if len(moves) else None


def barrier_notes(config: Config, move_pct: float | None = None) -> list[str]:
    """Returns a line for each doubtful level; none where the target has no levels.

    Args:
        config: Levels, costs and horizon.
        move_pct: From `usual_move_pct`; None where no data are known.
    """
    if config.target != "signal":
        return []
    cost_pct = 2.0 * (config.fee_bps + config.slippage_bps) / 100.0
    notes = []
    for kind, what in (("tp", "take profit"), ("sl", "stop loss")):
        levels = {side: getattr(config, f"{side}_{kind}_pct") for side in _SIDES}
        for sides, level in _merged(levels):
            said = f"{what} of {sides}, {level:g} %"
            if level <= cost_pct:
                notes.append(
                    f"{said}: not above the costs of a round trip, {cost_pct:g} %"
                )
            elif move_pct is not None and level > move_pct:
                notes.append(
                    f"{said}: hardly ever reached, 99 of 100 moves over "
                    f"{config.future_window} bars stay below {move_pct:.2g} %"
                )
    return notes


_SIDES = ("long", "short")


def _merged(levels: dict[str, float]) -> Sequence[tuple[str, float]]:
    """Returns the sides of each level in words, equal ones together."""
    if len(set(levels.values())) == 1:
        return [("both sides", levels["long"])]
    return list(levels.items())
