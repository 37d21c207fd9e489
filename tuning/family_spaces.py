"""What is searched of each model family where nobody says otherwise.

In: bounds of the systems whose tuning this one takes over. Out: reading a space, what
none may search (`spaces`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from config import Config
from utils import ConfigError


def _together(*names: str, **values: Any) -> list[dict[str, Any]]:
    return [dict(zip(names, each, strict=True)) for each in values["of"]]


_NETWORK: dict[str, Any] = {
    "learning_rate": {"low": 1e-5, "high": 1e-2, "log": True},
    "dropout_rate": {"low": 0.1, "high": 0.5},
    "batch_size": [16, 32, 64, 128, 256],
    "weight_decay": {"low": 1e-6, "high": 1e-3, "log": True},
    "gradient_clip_norm": {"low": 0.5, "high": 2.0},
    "early_stopping_patience": {"low": 5, "high": 15},
    "reduce_lr_patience": {"low": 3, "high": 10},
    "sequence_length": [20, 30, 60, 90, 120],
}
"""Of every network; bounds of the systems whose tuning this one takes over."""

_LAYERS = [
    *([32], [64], [128], [256], [512]),
    *([64, 32], [128, 64], [256, 128], [128, 64, 32], [256, 128, 64]),
]
_CONVOLUTIONS = (
    *(([32, 64], [3, 3]), ([32, 64], [5, 5]), ([64, 128], [3, 3])),
    *(([64, 128], [3, 5]), ([32, 64, 128], [3, 3, 3])),
    *(([32, 64, 128], [3, 5, 7]), ([64, 128, 256], [3, 3, 3])),
)
_HEADS = _together(
    "attention_dim",
    "attention_heads",
    of=((32, 2), (32, 4), (64, 4), (64, 8), (128, 4), (128, 8)),
)
_TREES: dict[str, Any] = {
    "num_trees": {"low": 50, "high": 400, "step": 50},
    "min_leaf_share": {"low": 0.002, "high": 0.2, "log": True},
    "max_inputs_share": {"low": 0.1, "high": 1.0},
    "tabular_inputs": ["window_statistics", "last_row"],
}
_BOOSTING = _TREES | {
    "boosting_rate": {"low": 0.01, "high": 0.3, "log": True},
    "max_leaf_nodes": {"low": 2, "high": 64, "log": True},
}
SPACES: dict[str, dict[str, Any]] = {
    "lstm": _NETWORK | {"lstm_units": _LAYERS, "bidirectional": [False, True]},
    "gru": _NETWORK | {"gru_units": _LAYERS, "bidirectional": [False, True]},
    "cnn": _NETWORK
    | {"convolutions": _together("cnn_filters", "cnn_kernels", of=_CONVOLUTIONS)},
    "cnn_lstm": _NETWORK
    | {
        "convolutions": _together(
            "cnn_lstm_filters", "cnn_lstm_kernels", of=_CONVOLUTIONS
        ),
        "cnn_lstm_units": _LAYERS,
        "cnn_lstm_residual": [False, True],
        "attention": _together(
            "cnn_lstm_attention",
            "attention_heads",
            of=((False, 8), (True, 2), (True, 4), (True, 8)),
        ),
    },
    "mlp": _NETWORK | {"mlp_inputs": ["means", "bars"], "dense_units": _LAYERS},
    "tcn": _NETWORK | {"tcn_filters": [16, 32, 64, 128], "tcn_kernel": [2, 3, 5, 7]},
    "attention": _NETWORK
    | {
        "heads": _HEADS,
        "attention_blocks": {"low": 1, "high": 4},
        "attention_ff_dim": [64, 128, 256, 512],
        "attention_norm": ["pre", "post"],
    },
    "ensemble": _NETWORK
    | {
        "lstm_units": _LAYERS,
        "convolutions": _together("cnn_filters", "cnn_kernels", of=_CONVOLUTIONS),
        "heads": _HEADS,
        "gate_units": [16, 32, 64, 128],
    },
    "random_forest": _TREES | {"max_depth": {"low": 3, "high": 16}},
    "gradient_boosting": _BOOSTING,
    "classic_gradient_boosting": _TREES
    | {
        "boosting_rate": {"low": 0.01, "high": 0.3, "log": True},
        "max_depth": {"low": 1, "high": 6},
    },
    "lightgbm": _BOOSTING,
    "xgboost": _BOOSTING,
    "catboost": _BOOSTING,
    "logistic": {
        "logistic_penalty": {"low": 1e-3, "high": 1e3, "log": True},
        "tabular_inputs": ["window_statistics", "last_row"],
        "clip_limit": [3.0, 5.0, 10.0],
    },
}


def default_space(config: Config) -> Mapping[str, Any]:
    """Returns the space of the run's family, as `read_space` takes it.

    Raises:
        ConfigError: If the family has none, as one's own.
    """
    if config.model not in SPACES:
        raise ConfigError(
            f"space: expected one of your own for model {config.model!r}: --space "
            "FILE.yaml. Built-in ones have theirs."
        )
    return SPACES[config.model]
