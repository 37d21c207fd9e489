"""What losses share: arguments that are refused or saved, one number for each sample.

In: the base of losses, the shapes they read. Out: formulas (`sample_losses`,
`position_losses`), names (`losses`).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, ClassVar

import keras
from keras import ops

from config import CLASS_NAMES

NUM_CLASSES = len(CLASS_NAMES)


class SavableLoss(keras.losses.Loss):
    """Interface of a loss that keeps each argument of its constructor by its name.

    Args:
        **base: `name`, `reduction` and `dtype` of `keras.losses.Loss`.
    """

    default_name: ClassVar[str | None] = None

    def __init__(self, **base: Any) -> None:
        super().__init__(**{"name": self.default_name} | base)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        names = argument_names(type(self))
        return {name: getattr(self, name) for name in names if name != "dtype"}


def argument_names(builder: Callable[..., Any]) -> list[str]:
    """Returns the arguments that a class or function names; of a loss, also its bases'.

    Those are what a `SavableLoss` takes as `**base`.
    """
    owners = [builder]
    if isinstance(builder, type) and issubclass(builder, SavableLoss):
        owners = [each for each in builder.mro() if issubclass(each, keras.losses.Loss)]
    items = (x for each in owners for x in inspect.signature(each).parameters.values())
    return list(dict.fromkeys(x.name for x in items if x.kind is not x.VAR_KEYWORD))


def flat(values: Any) -> Any:
    """Returns (batch,) of (batch,) or (batch, 1) numbers; ValueError for others."""
    if len(values.shape) == 1:
        return values
    if len(values.shape) == 2 and values.shape[-1] == 1:
        return ops.squeeze(values, axis=-1)
    raise ValueError(
        "expected one number for each sample, (batch,) or (batch, 1). "
        f"Received: shape={tuple(values.shape)}"
    )


def require(name: str, value: Any, is_good: bool, expected: str) -> None:
    """Raises ValueError where an option is not as expected."""
    if not is_good:
        raise ValueError(f"`{name}`: expected {expected}. Received: {name}={value}")
