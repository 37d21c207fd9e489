"""A network of one's own: whether it can be trained, judged, saved and opened again.

In: what is asked of a network before it is trained. Out: the register of builders
(`families`), what a file may contain (`artifacts.keras_files`).
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import keras
import numpy as np

from artifacts.keras_files import load_keras_model
from config import CLASS_TARGETS, Config
from utils import ConfigError, RefusedArtifactError


def require_usable(network: Any, config: Config, num_features: int) -> None:
    """Refuses a network that the run, or who opens its artifact, could not use.

    Raises:
        ConfigError: If its windows or outputs are of other sizes, its outputs are no
            probabilities where the target is a class, or its file would be refused.
    """
    name = f"{config.model}: "
    wanted = (None, config.sequence_length, num_features), (None, config.num_outputs)
    sizes = [getattr(network, f"{end}_shape", None) for end in ("input", "output")]
    if not isinstance(network, keras.Model) or (*sizes,) != wanted:
        raise ConfigError(
            f"{name}expected a Keras network from windows {wanted[0]} to {wanted[1]}. "
            f"Received: {type(network).__name__}, from {sizes[0]} to {sizes[1]}"
        )
    if config.target in CLASS_TARGETS:
        outputs = np.asarray(network(np.ones((2, *wanted[0][1:]), np.float32)))
        if outputs.min() < 0 or not np.allclose(outputs.sum(axis=1), 1, atol=1e-3):
            raise ConfigError(
                f"{name}expected probabilities for the target {config.target!r}, such "
                f"as of softmax. Received: {outputs[0].tolist()}"
            )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        try:
            network.save(path)
            load_keras_model(path.read_bytes(), config.model)
        except (RefusedArtifactError, NotImplementedError, TypeError) as error:
            raise ConfigError(
                f"{name}expected a network whose file can be opened again, without "
                f"code of its own. Received: {error!s:.300}"
            ) from error
