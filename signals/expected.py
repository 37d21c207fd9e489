"""What a model must be, by its properties and by the fields of its configuration.

In: names with wanted values, and the next model under a name. Out: opening a model
(`predictor`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from artifacts.registry import model_folder
from utils import ConfigError, RefusedArtifactError

Opened = TypeVar("Opened")
_QUESTION = ("pair", "timeframe", "target", "horizon_bars")


def renewed(predictor: Opened, where: Any, words: Mapping[str, Any]) -> Opened | None:
    """Returns what a name leads to by now; None where that is still the same.

    It has to answer the same question: pair, timeframe, target, horizon.

    Args:
        predictor: As it was opened.
        where: Folder, link, or name of a registered model.
        words: The other words that it was opened with.
    """
    known: Any = predictor
    if model_folder(where) == known.path.resolve():
        return None
    asked = {name: getattr(known, name) for name in _QUESTION}
    expect = dict(words["expect"] or {}) | asked
    new: Opened = type(known)(where, **{**words, "expect": expect})
    return new


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
