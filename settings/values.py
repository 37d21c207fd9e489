"""Values of fields: one converter for Python, YAML and the command line.

In: a value by its annotation, in one spelling, within its limits.
Out: which fields there are, and what contradicts what (`config`).
"""

from __future__ import annotations

import difflib
import math
import operator
import re
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any

import utils


def checked(value: Any, annotation: Any, limits: Mapping[str, Any]) -> Any:
    """Returns a field's value as its annotation and its limits want it.

    Raises:
        ValueError: If it is of another type, out of range or none of the choices.
    """
    value = _convert(value, annotation)
    if limits.get("is_duration"):
        value = one_spelling(value)
    _check_limits(value, limits)
    return value


def _convert(value: Any, annotation: Any) -> Any:
    if isinstance(annotation, types.UnionType):
        if value is None or value == "none":
            return None
        return _convert(value, typing.get_args(annotation)[0])
    if typing.get_origin(annotation) is tuple:
        if isinstance(value, str | Mapping) or not isinstance(value, Sequence):
            raise ValueError(f"expected a list. Received: {value!r}")
        return tuple(_convert(item, typing.get_args(annotation)[0]) for item in value)
    if annotation is bool and isinstance(value, bool):
        return value
    if annotation is str and isinstance(value, str) and value:
        return value
    if annotation is int and isinstance(value, int) and not isinstance(value, bool):
        return value
    if annotation is float and isinstance(value, int | float):
        if not isinstance(value, bool) and math.isfinite(value):
            return float(value)
    wanted = {bool: "true or false", str: "text", int: "a whole number"}
    raise ValueError(
        f"expected {wanted.get(annotation, 'a finite number')}. Received: {value!r}"
    )


def one_spelling(value: Any) -> Any:
    """Returns timeframes in one spelling, `60m` as `1h`: file names have it."""
    if isinstance(value, tuple):
        return tuple(map(one_spelling, value))
    try:
        return utils.format_duration(utils.duration_seconds(value))
    except ValueError:
        return value  # refused with all other problems, by its name


def parse_text(text: str, annotation: Any) -> Any:
    """Returns command-line text as the value it spells; unparsable text stays text."""
    if isinstance(annotation, types.UnionType):
        if text.lower() == "none":
            return None
        annotation = typing.get_args(annotation)[0]
    if typing.get_origin(annotation) is tuple:
        annotation = typing.get_args(annotation)[0]
    try:
        return annotation(text) if annotation in (int, float) else text
    except ValueError:
        return text


def own_name_problems(
    field: str, name: str, known: Sequence[str], *, is_small: bool = True
) -> list[str]:
    """Returns what is wrong with a name, built in or of one's own: nothing or one line.

    One's own is any word, of small letters where `is_small`, but none that reads like a
    typing error of one that is `known`.
    """
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.8)
    word, letters = ("a-z0-9", "small ") if is_small else ("A-Za-z0-9", "")
    received = f"Received: {name!r}." + utils.did_you_mean(name, known)
    wanted = f"{field}: expected one of {', '.join(known)}"
    if not re.fullmatch(f"[{word}]+(_[{word}]+)*", name):
        own = f"a name of your own of {letters}letters and digits, joined by single _"
        return [f"{wanted}, or {own}. {received}"]
    if near and name not in known:
        return [f"{wanted}. {received} A name of your own must be less alike."]
    return []


def _check_limits(value: Any, limits: Mapping[str, Any]) -> None:
    for item in value if isinstance(value, tuple) else (value,):
        if item is None:
            continue
        choices = limits.get("choices")
        if choices and item not in choices:
            raise ValueError(
                f"expected one of {', '.join(choices)}. Received: {item!r}."
                + utils.did_you_mean(str(item), choices)
            )
        for key, symbol in {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}.items():
            if key in limits and not getattr(operator, key)(item, limits[key]):
                raise ValueError(f"expected {symbol} {limits[key]}. Received: {item}")
