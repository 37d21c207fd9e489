"""Values of fields: one converter for Python, YAML and the command line.

In: a value by its annotation, in one spelling, within its limits.
Out: which fields there are, and what contradicts what (`config`).
"""

from __future__ import annotations

import contextlib
import difflib
import operator
import re
import sys
import types
import typing
import zoneinfo
from collections.abc import Mapping, Sequence
from typing import Any

import utils


def checked(value: Any, annotation: Any, limits: Mapping[str, Any]) -> Any:
    """Returns a field's value as its annotation and its limits want it.

    Raises:
        ValueError: If it is of another type, out of range or none of the choices.
    """
    if is_none(value) and "none" in limits.get("choices", ()):
        value = "none"
    value = _convert(value, annotation)
    if limits.get("is_duration"):
        value = one_spelling(value)
    if spellings := limits.get("spellings"):
        value = _respelled(value, spellings)
    if limits.get("is_pair"):
        pairs = [value] if isinstance(value, str) else value
        pairs = tuple(re.sub("[/:]", "_", pair) for pair in pairs)
        value = pairs[0] if isinstance(value, str) else pairs
    may_be_none = isinstance(annotation, types.UnionType)
    _check_limits(value, limits, ", or none" if may_be_none else "")
    return value


def _respelled(value: Any, spellings: Mapping[str, str]) -> Any:
    if isinstance(value, tuple):
        return tuple(spellings.get(item, item) for item in value)
    return spellings.get(value, value)


def is_none(value: Any) -> bool:
    """Whether a value says None, in any of its spellings: `none`, `null`."""
    return value is None or (
        isinstance(value, str) and value.lower() in ("none", "null")
    )


def is_list(annotation: Any) -> bool:
    """Whether a field has several values."""
    return "tuple" in str(annotation)


def _convert(value: Any, annotation: Any) -> Any:
    if isinstance(annotation, types.UnionType):
        if is_none(value):
            return None
        return _convert(value, typing.get_args(annotation)[0])
    if typing.get_origin(annotation) is tuple:
        kind = typing.get_args(annotation)[0]
        return tuple(_convert(item, kind) for item in _items(value, kind))
    if annotation is bool and isinstance(value, bool):
        return value
    if annotation is str and isinstance(value, str) and value:
        if not utils.is_plain_text(value):
            raise ValueError(f"expected printable text. Received: {ascii(value):.100}")
        return value
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if annotation is int and is_number and value == value // 1:
        return int(value)
    if annotation is float and is_number and abs(value) <= sys.float_info.max:
        return float(value)
    wanted = {bool: "true or false", str: "text", int: "a whole number"}
    is_spelt = annotation in (int, float) and isinstance(value, str)
    raise ValueError(
        f"expected {wanted.get(annotation, 'a finite number')}. "
        f"Received: {value!r:.100}"
        + (". Write digits alone, such as 64 or 1e-3" if is_spelt else "")
    )


def _items(value: Any, kind: Any) -> Sequence[Any]:
    """Returns the items of a list, or of text that lists them: `128,64`."""
    if is_none(value):
        return ()
    if isinstance(value, str):
        return [parse_text(word, kind) for word in list_words([value])]
    if isinstance(value, int | float):
        return [value]
    if isinstance(value, Mapping) or not isinstance(value, Sequence):
        raise ValueError(f"expected a list. Received: {value!r:.100}")
    return value


def list_words(words: Sequence[str]) -> list[str]:
    """Returns the items that words list, with spaces or commas between them."""
    return [item for word in words for item in re.split(r"[,\s]+", word) if item]


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
        if is_none(text):
            return None
        annotation = typing.get_args(annotation)[0]
    if typing.get_origin(annotation) is tuple:
        annotation = typing.get_args(annotation)[0]
    for kind in {int: (int, float), float: (float,)}.get(annotation, ()):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text


def timezone_problems(name: str) -> list[str]:
    """Returns why a name is no time zone's; empty where it is one's."""
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        near = utils.did_you_mean(name, sorted(zoneinfo.available_timezones()))
        return [
            "timezone: expected the name of a time zone, such as America/New_York. "
            f"Received: {name!r:.60}.{near}"
        ]
    return []


def pair_problems(field: str, pair: str) -> list[str]:
    """Returns why a text is no pair's: nothing or one line."""
    if not re.fullmatch(r"[A-Za-z0-9]+([_-][A-Za-z0-9]+)*", pair):
        wanted = "letters and digits, joined by single _ or -"
    elif not 5 <= len(pair) <= 40:
        wanted = "base and quote, 5 to 40 characters, such as 'BTCUSDT'"
    else:
        return []
    return [f"{field}: expected {wanted}. Received: {pair!r}"]


def own_name_problems(
    field: str, name: str, known: Sequence[str], *, is_small: bool = True
) -> list[str]:
    """Returns what is wrong with a name, built in or of one's own: nothing or one line.

    One's own is any word, of small letters where `is_small`, but none that reads like a
    typing error of one that is `known`.
    """
    if name in known:
        return []
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.8)
    word, letters = ("a-z0-9", "small ") if is_small else ("A-Za-z0-9", "")
    received = f"Received: {name!r}." + utils.did_you_mean(name, known)
    wanted = f"{field}: expected one of {', '.join(known)}"
    if not re.fullmatch(f"[{word}]+(_[{word}]+)*", name):
        own = f"a name of your own of {letters}letters and digits, joined by single _"
        return [f"{wanted}, or {own}. {received}"]
    if near:
        return [f"{wanted}. {received} A name of your own must be less alike."]
    return []


def _check_limits(value: Any, limits: Mapping[str, Any], also: str) -> None:
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
                raise ValueError(
                    f"expected {symbol} {limits[key]}{also}. Received: {item!s:.100}"
                )
