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
        scaled = self.scaler.transform(self._checked(window[None])[0])
        return self.policy.calibrate(self.adapter.predict_windows(scaled[None]))[0]

    def predict_windows(self, windows: np.ndarray) -> np.ndarray:
        """Returns calibrated probabilities (num_windows, 3), or log returns.

        These are (num_windows,), as in `predict_window`.

        Args:
            windows: (num_windows, window_bars, num_features) features as in the
                training file.
        """
        windows = self._checked(windows)
        rows = self.scaler.transform(windows.reshape(-1, self.num_features))
        scaled = rows.reshape(windows.shape)
        return self.policy.calibrate(self.adapter.predict_windows(scaled))

    def signals(self, probabilities: np.ndarray) -> np.ndarray:
        """Returns class ids (num_windows,): 0 SHORT, 1 HOLD, 2 LONG.

        Args:
            probabilities: Calibrated rows (num_windows, 3), or log returns
                (num_windows,).
        """
        return self.policy.signals(probabilities)

    def _checked(self, windows: Any) -> np.ndarray:
        windows = np.asarray(windows, np.float32)
        wanted = (self.window_bars, self.num_features)
        if windows.ndim != 3 or windows.shape[1:] != wanted or not len(windows):
            raise DataError(
                f"expected windows of {wanted[0]} rows and {wanted[1]} features. "
                f"Received: shape {windows.shape[1:]}"
            )
        if not np.isfinite(windows).all():
            raise DataError("expected finite features. Received: NaN or infinity.")
        return windows
