"""What losses share: arguments that are refused or saved, one number for each sample.

In: the base of losses, the shapes they read. Out: formulas (`class_losses`,
`value_losses`, `position_losses`), names (`losses`).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from config import CLASS_NAMES

NUM_CLASSES = len(CLASS_NAMES)


class SavableLoss(keras.losses.Loss):
    """Interface of a loss that keeps each argument of its constructor by its name."""

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        own = {name: getattr(self, name) for name in argument_names(type(self))}
        return super().get_config() | own


def argument_names(builder: Callable[..., Any]) -> list[str]:
    """Returns the arguments that a class or function names."""
    items = inspect.signature(builder).parameters.values()
    return [item.name for item in items if item.kind is not item.VAR_KEYWORD]


def flat(values: Any) -> Any:
    """Returns numbers of samples as (batch,), of (batch,) or (batch, 1).

    Raises:
        ValueError: If there are several numbers for a sample.
    """
    if len(values.shape) == 1:
        return values
    if len(values.shape) == 2 and values.shape[-1] == 1:
        return ops.squeeze(values, axis=-1)
    raise ValueError(
        "expected one number for each sample, (batch,) or (batch, 1). "
        f"Received: shape={tuple(values.shape)}"
    )


def require(name: str, value: Any, is_good: bool, expected: str) -> None:
    """Refuses an option that is not as expected.

    Raises:
        ValueError: If it is not.
    """
    if not is_good:
        raise ValueError(f"`{name}`: expected {expected}. Received: {name}={value}")
