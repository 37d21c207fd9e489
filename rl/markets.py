"""The market that a training file describes, for agents: `market_of`.

In: scaled rows, or what a trained network sees in their windows, and close-to-close
returns. Out: episodes of it (`simulator`), the rows and parts themselves
(`preprocessing.training_data`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from files.progress import track
from models.keras_adapter import KerasAdapter
from models.parents import Parent
from preprocessing.training_data import TrainingData
from preprocessing.windows import chunks, cut_windows
from rl.simulator import Market
from utils import ConfigError, DataError

_CHUNK_ROWS = 2048


class Embedding:
    """What a frozen network sees of windows, in units that an agent learns in.

    Args:
        see: From windows (num_windows, window_bars, num_features) to
            (num_windows, num_numbers), such as a network's extractor.
        center: Mean of each number over training rows (num_numbers,); None: not yet
            fitted.
        spread: Their deviations, 1 where there is none.
    """

    def __init__(
        self,
        see: Callable[[np.ndarray], np.ndarray],
        center: np.ndarray | None = None,
        spread: np.ndarray | None = None,
    ) -> None:
        self._see, self.center, self.spread = see, center, spread

    def see(self, windows: np.ndarray) -> np.ndarray:
        """Returns what the network says, in its own units."""
        return np.asarray(self._see(windows), np.float32)

    def fit(self, train: np.ndarray) -> None:
        """Learns the units from what it sees of training rows."""
        self.center, spread = train.mean(axis=0), train.std(axis=0)
        self.spread = np.where(spread > 0, spread, np.float32(1.0))

    def scaled(self, said: np.ndarray) -> np.ndarray:
        """Returns what `see` returned in units of the training rows."""
        return (said - self.center) / self.spread

    def __call__(self, windows: np.ndarray) -> np.ndarray:
        """Returns what an agent sees of windows (num_windows, num_numbers)."""
        return self.scaled(self.see(windows))


def market_of(
    data: TrainingData,
    *,
    embedding: Embedding | None = None,
    scale: float | None = None,
) -> Market:
    """Returns the rows of a training file as a market.

    A return is known where the label of a target looks at it: so none crosses a
    segment, a jump of the price or the edge of a part, and what parts purge stays
    purged.

    Args:
        data: Arrays and parts, with the closes of their bars.
        embedding: What an agent sees of windows, fitted here where it is not yet; None
            shows the scaled last row.
        scale: Unit of rewards; None takes it from the training part.

    Raises:
        DataError: If the file has no `close`, or the training part no return.
    """
    close = data.outcomes.get("close")
    if close is None:
        raise DataError(
            "expected a training file with a column close, which an agent's position "
            "earns by. Received: none. Build one with dataset_builder.py"
        )
    seen = known_rows(data)
    returns = np.full(data.num_rows, np.nan)
    rows = np.flatnonzero(seen)
    returns[rows] = np.log(close[rows + 1] / close[rows].astype(np.float64))
    if scale is None:
        scale = _deviation(
            returns[data.parts["train"].start : data.parts["train"].stop]
        )
    features = data.features if embedding is None else _embedded(data, rows, embedding)
    return Market(features=features, returns=returns, scale=scale)


def _deviation(returns: np.ndarray) -> float:
    known = returns[np.isfinite(returns)]
    if len(known) < 2 or not known.std() > 0:
        raise DataError(
            "expected a training part whose price moves. Received: "
            f"{len(known)} returns that do not"
        )
    return float(known.std())


def known_rows(data: TrainingData) -> np.ndarray:
    """Returns the rows (num_rows,) whose next close some target's label looks at."""
    edges = np.zeros(data.num_rows + data.future_window + 1, np.int64)
    for part in data.parts.values():
        np.add.at(edges, part.targets, 1)
        np.add.at(edges, part.targets + data.future_window, -1)
    seen = np.cumsum(edges)[: data.num_rows] > 0
    seen[data.timeline.starts[1:] - 1] = False  # the next row is not the next bar
    seen[-1:] = False
    return seen


def _embedded(data: TrainingData, rows: np.ndarray, embedding: Embedding) -> np.ndarray:
    """Returns what is seen of the window of each row, 0 for the other rows."""
    if not len(rows):
        raise DataError("expected targets. Received: none")
    features, width = data.features, data.window_bars
    pieces = list(chunks(len(rows), _CHUNK_ROWS))
    said = np.concatenate(
        [
            embedding.see(cut_windows(features, rows[piece], window_bars=width))
            for piece in track(pieces, "piece", len(pieces))
        ]
    )
    if embedding.center is None:
        part = data.parts["train"]
        embedding.fit(said[(rows >= part.start) & (rows < part.stop)])
    found = np.zeros((data.num_rows, said.shape[1]), np.float32)
    found[rows] = embedding.scaled(said)
    return found


def extractor_of(parent: Parent) -> KerasAdapter:
    """Returns a parent up to what its last layer reads.

    Raises:
        ConfigError: If it is no network with such a layer.
    """
    from networks.families import feature_extractor

    try:
        if not isinstance(parent.adapter, KerasAdapter):
            raise ValueError(f"{parent.family} is no network of windows")
        network = feature_extractor(parent.adapter.network)
    except ValueError as error:
        raise ConfigError(
            f"{parent.role}: expected a network that ends in one dense layer, such as "
            f"cnn_lstm. Received: {parent.name}: {error}"
        ) from error
    return as_extractor(network, parent.family, parent.artifact.path)


def as_extractor(network: Any, family: str, where: object) -> KerasAdapter:
    """Returns a network up to its last hidden layer as what answers for windows."""
    _, window_bars, num_features = network.input_shape
    description = {
        # Of a target with classes: then what it says keeps its columns.
        **{"family": family, "target": "signal"},
        **{"window_bars": window_bars, "num_features": num_features},
    }
    return KerasAdapter.load(network, description, where)
