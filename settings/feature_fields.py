"""What each bar is described by.

In: names of feature sets, how they are computed. Out: computing (`dataset.features`).
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

from settings.part import Part, field

FEATURE_SETS = ("core8", "window_stats", "ray12", "indicators34")
"""Built-in feature sets; `features` may know more by the time they are computed."""


@dataclass(frozen=True, kw_only=True)
class FeatureFields(Part):
    """Features.

    Attributes:
        feature_sets: Feature sets, side by side: core8, window_stats, ray12,
            indicators34, or your own by the name it is registered with.
        raw_prices: Absolute prices and volumes instead of ratios, in the sets that have
            them.
        higher_timeframes: Longer timeframes whose features are joined, of the last bar
            that closed.
    """

    feature_sets: tuple[str, ...] = ("core8",)
    raw_prices: bool = False
    higher_timeframes: tuple[str, ...] = field((), is_duration=True)

    def problems(self) -> list[str]:
        """Returns what is wrong with names of feature sets and timeframes."""
        problems = []
        if not self.feature_sets:
            problems.append("feature_sets: expected at least one name. Received: none")
        for name in ("feature_sets", "higher_timeframes"):
            values = getattr(self, name)
            if len(set(values)) < len(values):
                problems.append(f"{name}: expected each once. Received: {values}")
        for name in self.feature_sets:
            # A set of one's own has any name, but none that reads like a typing error.
            near = difflib.get_close_matches(name, FEATURE_SETS, n=1, cutoff=0.8)
            if not re.fullmatch(r"[A-Za-z0-9]+(_[A-Za-z0-9]+)*", name):
                problems.append(
                    "feature_sets: expected names of letters and digits, joined by "
                    f"single _. Received: {name!r}"
                )
            elif near and near != [name]:
                problems.append(
                    f"feature_sets: expected {', '.join(FEATURE_SETS)}, or a name of "
                    f"your own that is less alike. Received: {name!r}. "
                    f"Did you mean {near[0]!r}?"
                )
        return problems
