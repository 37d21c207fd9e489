"""Whether a converted model answers the test rows as the published one does.

In: the windows that a run was judged by, how far two answers lie apart. Out:
converting (`export`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

import utils
from artifacts.artifact import load_artifact
from candles.timestamps import nanoseconds_of
from data_loader import TrainingDataLoader
from evaluation.policies import ReturnPolicy
from models.keras_adapter import KerasAdapter
from predictor import Predictor
from preprocessing.windows import chunks, cut_windows, evenly_spaced

TOLERANCE = 1e-5
"""Most that a probability, or a number in units of its scale, may lie apart."""
TREE_TOLERANCE = 1e-6
"""The same of trees, of which one other decision moves more than that."""
GOLDEN_ROWS = 16
BATCH_WINDOWS = 1024

Say = Callable[[np.ndarray], np.ndarray]


class ParityError(utils.UserError):
    """A converted model that does not answer as the artifact does."""

    exit_code = utils.EXIT_INTERNAL


@dataclass(frozen=True, kw_only=True)
class TestRows:
    """Windows of the test part, as a file of features has them.

    Args:
        features: (num_rows, num_features) float32.
        rows: (num_targets,) row that each window ends at.
        times: (num_targets,) open of that row's bar, datetime64[ns].
        window_bars: Rows of a window.
    """

    features: np.ndarray
    rows: np.ndarray
    times: np.ndarray
    window_bars: int

    def windows(self, places: Any) -> np.ndarray:
        """Returns some windows (num_places, window_bars, num_features)."""
        bars = {"window_bars": self.window_bars}
        return cut_windows(self.features, self.rows[places], **bars)

    def batches(self) -> Iterator[np.ndarray]:
        """Yields all windows, some at a time."""
        return (self.windows(s) for s in chunks(len(self.rows), BATCH_WINDOWS))

    def some(self, count: int) -> TestRows:
        """Returns at most `count` of the windows, evenly spread."""
        places = evenly_spaced(np.arange(len(self.rows)), count)
        return TestRows(
            features=self.features,
            rows=self.rows[places],
            times=self.times[places],
            window_bars=self.window_bars,
        )


def read_test_rows(predictor: Predictor, training_file: str | None = None) -> TestRows:
    """Returns the windows that the run was judged by, from its training file.

    Raises:
        MissingInputError: If the file is not where the run found it.
        DataError: If it is another one.
    """
    artifact, config = load_artifact(predictor.path), predictor.config
    if training_file is not None:
        config = config.replace(training_file=training_file)
    elif artifact.metadata["data"].get("path") is None:
        raise utils.MissingInputError(
            "expected the training file, whose test rows the export must answer as the "
            "model does. Received: a model that was trained on a frame. Write the "
            "frame into a file, and name it: --training-file FILE"
        )
    artifact.refuse_other_file(config)
    rows = TrainingDataLoader(config=config).read_rows()
    names = predictor.feature_names
    if rows.feature_names != names:
        raise utils.DataError(
            f"{rows.source['path']}: expected the features {', '.join(names)}. "
            f"Received: {', '.join(rows.feature_names)}"
        )
    table = artifact.open_table("predictions")
    is_test = np.array(table.read("part").to_pylist()) == "test"
    times = table.read("timestamp").to_pandas()[is_test]
    times = nanoseconds_of(times).astype("datetime64[ns]")
    places = np.searchsorted(rows.timestamps, times)
    if not np.array_equal(rows.timestamps[places % len(rows.timestamps)], times):
        raise utils.DataError(
            f"{rows.source['path']}: expected a bar for each of the {len(times)} test "
            "rows of the run. Received: a file without some. Give the run's own file."
        )
    return TestRows(
        features=rows.features,
        rows=places,
        times=times,
        window_bars=predictor.window_bars,
    )


def measure_parity(predictor: Predictor, say: Say, rows: TestRows) -> dict[str, Any]:
    """Returns how far a converted model's answers lie from the artifact's own.

    Raises:
        ParityError: If that is too far.
    """
    pairs = [(predictor.predict_windows(each), say(each)) for each in rows.batches()]
    own, found = (np.concatenate(each) for each in zip(*pairs, strict=True))
    is_alike = own.shape == found.shape
    apart = float(np.abs(own - found).max()) if is_alike else np.inf
    unit, policy = "probability", predictor.policy
    if isinstance(policy, ReturnPolicy):
        # A log return is small by itself.
        unit, apart = "standard deviation of the target", apart / policy.scaler.scale
    is_network = isinstance(predictor.adapter, KerasAdapter)
    limit = TOLERANCE if is_network else TREE_TOLERANCE
    if not apart <= limit:
        raise ParityError(
            f"expected the converted model to answer {len(own)} test rows as "
            f"{predictor.path} does, at most {limit:g} apart. Received: "
            f"{apart:g} apart. Nothing is published."
        )
    # A run's own signals follow from its table, which is of float32.
    signals = (policy.signals(each.astype(np.float32)) for each in (own, found))
    return {
        "num_rows": len(own),
        "largest_difference": apart,
        "unit": unit,
        "tolerance": limit,
        "other_signals": int(np.not_equal(*signals).sum()),
    }


def golden_rows(predictor: Predictor, rows: TestRows) -> list[dict[str, Any]]:
    """Returns windows with their answers, for a test in any language.

    Numbers are written with as many digits as restore every bit of a float32.
    """
    windows = rows.windows(slice(None))
    answers = predictor.predict_windows(windows).astype(np.float32)
    name = "probabilities" if predictor.adapter.has_classes else "log_return"
    return [
        {
            "timestamp": f"{pd.Timestamp(time).isoformat()}Z",
            "features": window,
            name: answer,
            "signal": signal,
        }
        for time, window, answer, signal in zip(
            rows.times, windows, answers, predictor.policy.signals(answers), strict=True
        )
    ]
