"""A published artifact -> probabilities or returns, and signals, for new windows.

In: opening an artifact once and answering fast. Out: candles and features of live data
(`candles.table`, `dataset.features`), training (`trainer`).
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from artifacts.artifact import load_artifact
from evaluation.policies import policy_from_dict
from models.families import load_adapter
from utils import DataError


class Predictor:
    """Answers with the model, scaler, calibration and thresholds of one artifact.

    A single window of a network goes through a function compiled by XLA, which takes a
    small part of what `model.predict` needs for one; the first call after opening is as
    fast as the others.

    Args:
        folder: A published artifact, such as `outputs/models/ETHUSDT/lstm/latest-1m`.

    Raises:
        MissingInputError: If there is no folder.
        RefusedArtifactError: If a file is not what the manifest says.

    Example:
        >>> predictor = Predictor("outputs/models/ETHUSDT/lstm/latest-1m")
        >>> probabilities = predictor.predict_window(features[-120:])
        >>> predictor.signals(probabilities[None])
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        artifact = load_artifact(folder)
        self.policy = policy_from_dict(artifact.read_json("calibrator"))
        self.scaler = artifact.scaler
        self.adapter = load_adapter(artifact)
        self.window_bars = self.adapter.window_bars
        self.num_features = self.adapter.num_features
        self.predict_window(np.zeros((self.window_bars, self.num_features), np.float32))

    def predict_window(self, window: np.ndarray) -> np.ndarray:
        """Returns calibrated probabilities (3,) of SHORT, HOLD, LONG.

        Where the target is a return or a price: the predicted log return, a number; a
        price is `close * exp(log return)`.

        Args:
            window: (window_bars, num_features) features as in the training file, the
                newest row last.
        """
        return self._answers(self._checked(window, one=True)[None])[0]

    def predict_windows(self, windows: np.ndarray) -> np.ndarray:
        """Returns calibrated probabilities (num_windows, 3), or log returns.

        These are (num_windows,), as in `predict_window`.

        Args:
            windows: (num_windows, window_bars, num_features) features as in the
                training file.
        """
        return self._answers(self._checked(windows))

    def signals(self, probabilities: np.ndarray) -> np.ndarray:
        """Returns class ids (num_windows,): 0 SHORT, 1 HOLD, 2 LONG.

        Args:
            probabilities: Calibrated rows (num_windows, 3), or log returns
                (num_windows,).
        """
        return self.policy.signals(probabilities)

    def _answers(self, windows: np.ndarray) -> np.ndarray:
        rows = self.scaler.transform(windows.reshape(-1, self.num_features))
        scaled = rows.reshape(windows.shape)
        return self.policy.calibrate(self.adapter.predict_windows(scaled))

    def _checked(self, given: Any, *, one: bool = False) -> np.ndarray:
        """Returns windows, or one, as float32."""
        rows, features = shape = (self.window_bars, self.num_features)
        many = "" if one else "num_windows, "
        wanted = (
            f"expected {'a window' if one else 'windows'} of {rows} rows and "
            f"{features} features, numbers of shape ({many}{rows}, {features})"
        )
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
