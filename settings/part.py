"""What a part of the configuration is, and each of its fields.

In: limits and documentation of fields, where code can read them: docstrings of classes
are there in a notebook and in an archive, source text is not. Out: the parts
(`*_fields`).
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from typing import Any, TypeVar

_Value = TypeVar("_Value")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
    """Fields with one owner; the first line of a docstring is the title in `--help`."""

    @classmethod
    def title(cls) -> str:
        """Returns the first line of the docstring."""
        return inspect.cleandoc(cls.__doc__ or "").partition("\n")[0].rstrip(".")

    @classmethod
    def word(cls) -> str:
        """Returns the word that asks `--help` for it."""
        return cls.__name__.removesuffix("Fields").lower()

    @classmethod
    def documentation(cls) -> dict[str, str]:
        """Returns what the docstring's `Attributes` say of each field, on one line."""
        text = inspect.cleandoc(cls.__doc__ or "").partition("Attributes:\n")[2]
        _, *pieces = re.split(r"^    (\w+): ", text, flags=re.MULTILINE)
        texts = (" ".join(piece.split()) for piece in pieces[1::2])
        return dict(zip(pieces[::2], texts, strict=True))

    def problems(self) -> list[str]:
        """Returns what contradicts inside the part, one line each."""
        return []


def field(default: _Value, **limits: Any) -> _Value:
    """Returns a field of a dataclass with limits.

    Args:
        default: Its default.
        **limits: Of its numbers `ge`, `gt`, `le`, `lt`; `choices`; `is_duration` for a
            timeframe, `is_pair` for a market; `spellings`, what other programs call a
            value; `aliases`, more flags for it; `losses`, those that read it.
    """
    return dataclasses.field(default=default, metadata=limits)
