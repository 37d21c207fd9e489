"""What a published model says of itself: its market, its question, what it needs.

In: its configuration, description and preprocessor. Out: opening it, answers
(`predictor`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from config import Config
from preprocessing.pipelines import PreprocessingPipeline
from preprocessing.scaling import FeatureScaler


class ModelFacts:
    """Facts of an opened model, by name.

    Attributes:
        path: Its folder.
        metadata: Its description.
        pipeline: What candles go through.
        config: The run that trained it; of a pool that of the pair asked for.
    """

    path: Path
    metadata: Mapping[str, Any]
    pipeline: PreprocessingPipeline
    config: Config

    @property
    def pair(self) -> str:
        """Trading pair."""
        return self.config.pair

    @property
    def timeframe(self) -> str:
        """Length of a bar."""
        return self.config.timeframe

    @property
    def target(self) -> str:
        """What is predicted; see `config.TARGETS`."""
        return self.config.target

    @property
    def family(self) -> str:
        """Model family."""
        return str(self.metadata["model"]["family"])

    @property
    def horizon_bars(self) -> int:
        """Bars after the close of a bar that its answer is about."""
        return self.config.future_window

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the features, in the model's order."""
        return self.pipeline.feature_names

    @property
    def scaler(self) -> FeatureScaler:
        """How its pipeline scales and clips."""
        return self.pipeline.scaler

    @property
    def min_candles(self) -> int:
        """Consecutive candles that an answer needs: warm-up and window."""
        return self.pipeline.min_candles

    @property
    def trained_until(self) -> pd.Timestamp:
        """Open of the last bar that training or choosing looked at.

        That of the last label of the validation part, UTC.
        """
        last = pd.Timestamp(self.metadata["split"]["validation"]["last"])
        bars = pd.Timedelta(self.horizon_bars * self.config.bar_seconds, "s")
        return (last if last.tzinfo else last.tz_localize("UTC")) + bars

    @property
    def model_id(self) -> str:
        """Name of the run that trained it."""
        return str(self.metadata.get("run_id", self.path.name))
