"""Numbers that may be missing, and intervals, as text.

In: the text of one number. Out: computing it (`significance`), tables of many
(`reports.text`), what may be claimed of it (`evaluation.verdict`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def number(value: Any, pattern: str) -> str:
    """Returns a number as text, a dash where there is none; `-0.00` is `0.00`."""
    if value is None:
        return "-"
    text = pattern.format(value)
    is_nothing = "0" in text and not any(digit in text for digit in "123456789")
    return pattern.format(0) if is_nothing else text


def interval(found: Mapping[str, Any], pattern: str = "{:+.3f}") -> str:
    """Returns an estimate with its interval: `+0.120 [+0.101, +0.139]`."""
    if found["estimate"] is None:
        return "n/a"
    estimate = pattern.format(found["estimate"])
    if found["low"] is None:
        return f"{estimate} [no interval]"
    low, high = pattern.format(found["low"]), pattern.format(found["high"])
    return f"{estimate} [{low}, {high}]"


def p_value(value: float | None, missing: str = "not tested") -> str:
    """Returns a p-value as text, or why there is none."""
    return missing if value is None else f"p = {value:.3f}"


def five_digits(value: float) -> str:
    """Returns a format with five digits for values of this size, such as prices."""
    decimals = 4 - math.floor(math.log10(value)) if value > 0 else 0
    return f"{{:,.{min(max(decimals, 0), 15)}f}}"
