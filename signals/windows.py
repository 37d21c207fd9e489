"""Windows of features that a caller gives, checked.

In: shapes, names, finite numbers. Out: what a model says of them (`predictor`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from preprocessing.windows import cut_windows
from utils import DataError


def rows_by_name(table: pd.DataFrame, names: Sequence[str]) -> np.ndarray:
    """Returns the named columns (num_rows, num_features) float32, in their order.

    Raises:
        DataError: If one is missing.
    """
    if missing := [name for name in names if name not in table]:
        raise DataError(
            f"expected the columns {', '.join(names)}. Received: "
            f"{', '.join(map(str, table.columns))}; missing {', '.join(missing)}."
        )
    return table[list(names)].to_numpy(np.float32)


def checked_windows(
    given: Any, names: Sequence[str], window_bars: int, *, one: bool = False
) -> np.ndarray:
    """Returns windows (num_windows, window_bars, num_features) float32, or one of them.

    Args:
        given: Numbers of that shape; or a DataFrame of consecutive bars, of which every
            one but the first `window_bars - 1` ends a window.
        names: The features, in the model's order.
        window_bars: Bars of a window.
        one: Whether one window (window_bars, num_features) is given.

    Raises:
        DataError: If they are of another shape, or not finite.
    """
    shape = (window_bars, len(names))
    many = "" if one else "num_windows, "
    wanted = (
        f"expected {'a window' if one else 'windows'} of {shape[0]} rows and "
        f"{shape[1]} features, numbers of shape ({many}{shape[0]}, {shape[1]})"
    )
    if isinstance(given, pd.DataFrame):
        given = rows_by_name(given, names)
        if not one:
            ends = np.arange(window_bars - 1, len(given))
            given = cut_windows(given, ends, window_bars=window_bars)
    try:
        windows = np.asarray(given, np.float32)
    except (TypeError, ValueError) as error:
        raise DataError(f"{wanted}. Received: {error!s:.200}.") from error
    if windows.shape[1 - one :] != shape or not windows.size:
        raise DataError(
            f"{wanted}. Received: shape {windows.shape}. Take the features of "
            "consecutive bars, the newest row last; predict_window reads one "
            "window, predict_windows several."
        )
    if not np.isfinite(windows).all():
        raise DataError(
            "expected finite features. Received: NaN or infinity. Leave out "
            "windows that reach into the warm-up of a feature, or over a gap."
        )
    return windows
