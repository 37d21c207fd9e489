"""What each bar is described by.

In: names of feature sets, how they are computed. Out: computing (`dataset.features`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import utils
from settings.part import Part, field
from settings.values import own_name_problems, pair_problems

FEATURE_SETS = (
    *("core8", "core8_7d", "window_stats", "ray12", "indicators34"),
    *("calendar", "funding", "open_interest"),
)
"""Built-in feature sets; `features` may know more by the time they are computed."""

_LISTS = ("feature_sets", "higher_timeframes")


@dataclass(frozen=True, kw_only=True)
class FeatureFields(Part):
    """Features.

    Attributes:
        feature_sets: Feature sets, side by side: core8 (30 days of warm-up), core8_7d
            (7 days), window_stats, ray12, indicators34, calendar (time of the bar's
            close), funding and open_interest (of candles with such a column), or your
            own by the name it is registered with.
        raw_prices: Absolute prices and volumes instead of ratios, in the sets that have
            them.
        higher_timeframes: Longer timeframes whose features are joined, of the last bar
            that closed.
        context_pairs: Other pairs whose features are joined, of the bar that closed
            with the pair's own.
    """

    feature_sets: tuple[str, ...] = ("core8",)
    raw_prices: bool = False
    higher_timeframes: tuple[str, ...] = field((), is_duration=True)
    context_pairs: tuple[str, ...] = field((), is_pair=True)

    def problems(self) -> list[str]:
        """Returns what is wrong with names of feature sets and timeframes."""
        problems = []
        if not self.feature_sets:
            problems.append("feature_sets: expected at least one name. Received: none")
        lists = {name: getattr(self, name) for name in _LISTS}
        lists["context_pairs"] = tuple(map(_plain, self.context_pairs))
        for name, values in lists.items():
            if len(set(values)) < len(values):
                problems.append(f"{name}: expected each once. Received: {values}")
        for pair in self.context_pairs:
            problems += pair_problems("context_pairs", pair)
        for name in self.feature_sets:
            problems += own_name_problems(
                "feature_sets", name, FEATURE_SETS, is_small=False
            )
        return problems

    def longer_problems(self, timeframe: str) -> list[str]:
        """Returns which higher timeframes are no multiples of the run's own."""
        problems = []
        for text in self.higher_timeframes:
            try:
                seconds, own = map(utils.timeframe_seconds, (text, timeframe))
            except ValueError as error:
                problems.append(f"higher_timeframes: {error}")
                continue
            if seconds <= own or seconds % own or seconds > 604_800:
                problems.append(
                    "higher_timeframes: expected whole multiples of timeframe "
                    f"{timeframe}, at most 1w. Received: {text!r}"
                )
        return problems

    @property
    def context_word(self) -> str:
        """The other pairs, as names of files have them."""
        return "+".join(map(_plain, self.context_pairs))


def _plain(pair: str) -> str:
    return re.sub("[_-]", "", pair).upper()
