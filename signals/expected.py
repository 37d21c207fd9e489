"""What a model must be, by its properties and by the fields of its configuration.

In: names with wanted values. Out: opening a model (`predictor`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from utils import ConfigError, RefusedArtifactError


def require_model(predictor: Any, expected: Mapping[str, Any]) -> None:
    """Refuses another model than the expected one.

    Args:
        predictor: The opened model.
        expected: Properties of it, or fields of its configuration, by name.

    Raises:
        ConfigError: If a name is neither.
        RefusedArtifactError: If the model is another one.
    """
    wrong = []
    for name, value in expected.items():
        is_own = isinstance(getattr(type(predictor), name, None), property)
        if not is_own and name not in predictor.config.to_dict():
            raise ConfigError(
                "expect: expected names such as pair, timeframe, target or "
                f"horizon_bars. Received: {name!r}"
            )
        found = getattr(predictor if is_own else predictor.config, name)
        value = tuple(value) if isinstance(value, list) else value
        if found != value:
            wrong.append(f"{name} {value!r}, found {found!r}")
    if wrong:
        raise RefusedArtifactError(
            f"{predictor.path}: expected a model of {'; '.join(wrong)}. Open another."
        )
