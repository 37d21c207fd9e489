"""A published artifact -> probabilities and signals for new windows.

In: opening an artifact once and answering fast. Out: candles and features of live data
(`candles`, `features`), training (`trainer`).
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from artifacts import load_artifact
from thresholds import SignalPolicy
from utils import DataError

BATCH_WINDOWS = 2048


class Predictor:
    """Answers with the model, scaler, calibration and thresholds of one artifact.

    A single window goes through a function compiled by XLA, which takes a small part of
    what `model.predict` needs for one; the first call after opening is as fast as the
    others.

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
        import tensorflow as tf

        artifact = load_artifact(folder)
        self.policy = SignalPolicy.from_dict(artifact.read_json("calibrator"))
        self.scaler = artifact.scaler
        self.model = artifact.load_model()
        _, self.window_bars, self.num_features = self.model.input_shape
        signature = [tf.TensorSpec((1, self.window_bars, self.num_features))]
        self._one = tf.function(
            lambda window: self.model(window, training=False),
            input_signature=signature,
            jit_compile=True,
        )
        self._many = tf.function(
            lambda windows: self.model(windows, training=False),
            input_signature=[
                tf.TensorSpec((None, self.window_bars, self.num_features))
            ],
            jit_compile=False,
        )
        self.predict_window(np.zeros((self.window_bars, self.num_features), np.float32))

    def predict_window(self, window: np.ndarray) -> np.ndarray:
        """Returns calibrated probabilities (3,) of SHORT, HOLD, LONG.

        Args:
            window: (window_bars, num_features) features as in the training file, the
                newest row last.
        """
        scaled = self.scaler.transform(self._checked(window[None])[0])
        return self.policy.calibrate(self._one(scaled[None]).numpy())[0]

    def predict_windows(self, windows: np.ndarray) -> np.ndarray:
        """Returns calibrated probabilities (num_windows, 3).

        Args:
            windows: (num_windows, window_bars, num_features) features as in the
                training file.
        """
        windows = self._checked(windows)
        rows = self.scaler.transform(windows.reshape(-1, self.num_features))
        scaled = rows.reshape(windows.shape)
        parts = [
            self._many(scaled[i : i + BATCH_WINDOWS]).numpy()
            for i in range(0, len(scaled), BATCH_WINDOWS)
        ]
        return self.policy.calibrate(np.concatenate(parts))

    def signals(self, probabilities: np.ndarray) -> np.ndarray:
        """Returns class ids (num_windows,): 0 SHORT, 1 HOLD, 2 LONG.

        Args:
            probabilities: Calibrated rows (num_windows, 3).
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
