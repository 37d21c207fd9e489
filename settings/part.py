"""What a part of the configuration is, and each of its fields.

In: documentation and limits of a field, where code can read them. Out: the parts
(`*_fields`), whose class docstring opens with the title they have in `--help`.
"""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

_Value = TypeVar("_Value")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
    """Fields with one owner."""

    @classmethod
    def title(cls) -> str:
        """Returns what `--help` calls the part: the first line of its docstring."""
        return (cls.__doc__ or cls.__name__).splitlines()[0].rstrip(".")

    def problems(self) -> list[str]:
        """Returns what contradicts inside the part, one line each."""
        return []


def field(default: _Value, doc: str, **limits: Any) -> _Value:
    """Returns a field of a dataclass, documented.

    Args:
        default: Its default.
        doc: What it is, its unit, what None means; its line breaks are spaces.
        **limits: Of its numbers `ge`, `gt`, `le`, `lt`; `choices`; `is_duration` for a
            timeframe; `aliases`, more flags for it; `losses`, those that read it.
    """
    metadata = {"doc": " ".join(doc.split()), **limits}
    return dataclasses.field(default=default, metadata=metadata)
