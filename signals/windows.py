"""Windows of features that a caller gives, checked.

In: shapes, names, finite numbers. Out: what a model says of them (`predictor`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from preprocessing.pipelines import PreprocessingPipeline
from preprocessing.windows import cut_windows
from utils import DataError


def checked_windows(
    given: Any, pipeline: PreprocessingPipeline, *, one: bool = False
) -> np.ndarray:
    """Returns windows (num_windows, window_bars, num_features) float32, or one of them.

    Args:
        given: Numbers of that shape; or a DataFrame of consecutive bars, of which every
            one but the first `window_bars - 1` ends a window.
        pipeline: The model's, which says what it takes.
        one: Whether one window (window_bars, num_features) is given.

    Raises:
        DataError: If they are of another shape, not finite, or of types that lose bits.
    """
    window_bars = pipeline.window_bars
    shape = (window_bars, len(pipeline.feature_names))
    many = "" if one else "num_windows, "
    wanted = (
        f"expected {'a window' if one else 'windows'} of {shape[0]} rows and "
        f"{shape[1]} features, numbers of shape ({many}{shape[0]}, {shape[1]})"
    )
    if isinstance(given, pd.DataFrame):
        given = pipeline.feature_schema.take(given)
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
