"""A Keras network as an ONNX model, by Keras's own export and tf2onnx.

In: one network, its windows scaled already. Out: what comes before and after it
(`onnx_graph`).
"""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np

import utils
from live.onnx_graph import OPSET, import_onnx


def network_to_onnx(network: Any) -> Any:
    """Returns the ONNX model of a network: (batch, window_bars, num_features) float32.

    Raises:
        ConfigError: If the network computes in another precision than float32.
        DependencyError: If tf2onnx is not installed.
    """
    onnx = import_onnx()
    require_float32(network)
    try:
        import tf2onnx  # noqa: F401
    except ImportError as error:
        raise utils.DependencyError(
            "expected the package tf2onnx to write a network as ONNX. Received: none. "
            "Install it: pip install -r requirements-export.txt"
        ) from error
    network(np.zeros((1, *network.input_shape[1:]), np.float32))  # else not exported
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        # Keras's converter asks whether NumPy has an attribute of before 1.24.
        warnings.filterwarnings("ignore", ".*np.object.*", FutureWarning)
        path = Path(folder) / "network.onnx"
        network.export(path, format="onnx", opset_version=OPSET, verbose=False)
        return onnx.load(path)


def require_float32(network: Any) -> None:
    """Raises ConfigError for a network trained in mixed precision."""
    found = _dtypes(network) - {"float32"}
    if found:
        raise utils.ConfigError(
            "format: expected a network that computes in float32. Received: one of "
            f"{', '.join(sorted(found))}. Train it without mixed_precision."
        )


def _dtypes(layer: Any) -> set[str]:
    """Returns what a layer, or those of a network and its members, compute in."""
    inner = getattr(layer, "layers", ())
    return set().union(*map(_dtypes, inner)) if inner else {layer.compute_dtype}
