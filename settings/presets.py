"""Settings that belong together, under one name: fields of `Config`, nothing else.

In: plain data. Out: what the fields mean (`config`), training (`trainer`,
`experiments.analysts`).
"""

from __future__ import annotations

from typing import Any

import utils

_NEXT_BAR: dict[str, Any] = {
    # Where the next close goes, from what is known at this one.
    "target": "direction",
    "future_window": 1,
    # One row of the twelve features, as it is: the window has this bar alone.
    "feature_sets": ("ray12",),
    "sequence_length": 1,
    "tabular_inputs": "last_row",
    "scaler_type": "standard",
    # Up and down are about as frequent; what is rare, an unchanged close, stays rare.
    "class_balancing_method": "none",
    # 70 % train, 10 % choose, the newest 20 % judge; five folds lie before these.
    "validation_split": 0.1,
    "test_split": 0.2,
    "n_splits": 5,
    "num_trees": 100,
}

PRESETS: dict[str, dict[str, Any]] = {
    # An LSTM level with gradient boosting on two years of BTC minutes: smaller than the
    # default, five short epochs, a rate that ends at nothing; see docs/comparing.md.
    "level": {
        "model": "lstm",
        "lstm_units": (64, 32),
        "dropout_rate": 0.1,
        "class_balancing_method": "none",
        "epochs": 5,
        "windows_per_epoch": 40_000,
        "lr_schedule": "cosine",
    },
    # Direction of the next bar from one row of features.
    "analyst": _NEXT_BAR
    | {"model": "random_forest", "timeframe": "1h", "max_depth": 10},
    "tactician": _NEXT_BAR
    | {"model": "classic_gradient_boosting", "timeframe": "1m", "max_depth": 3},
}
"""Name of a preset -> the fields of `Config` that it sets, below YAML and flags."""

GROUPS: dict[str, tuple[str, tuple[str, ...]]] = {
    "analysts": ("analyst", ("1h", "15m", "5m", "1m")),
    "tacticians": ("tactician", ("1m",)),
}
"""Name of a group -> its preset, and the timeframes that each get a model of it."""


def preset_values(name: str | None) -> dict[str, Any]:
    """Returns the fields that a preset sets; None sets none.

    Raises:
        ConfigError: If there is no such preset.
    """
    if name is None:
        return {}
    if name not in PRESETS:
        raise utils.ConfigError(
            f"--preset: expected one of {', '.join(PRESETS)}. Received: {name!r}."
            + utils.did_you_mean(name, PRESETS)
        )
    return dict(PRESETS[name])
