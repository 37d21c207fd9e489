"""What is predicted: classes and their ids, targets, what decides a label.

In: the rule's numbers. Out: applying it (`dataset.labels`).
"""

from __future__ import annotations

from dataclasses import dataclass

from settings.part import Part, field

SHORT, HOLD, LONG = range(3)
CLASS_NAMES = ("SHORT", "HOLD", "LONG")
"""Classes by their ids, everywhere; of `direction` they are down, flat and up."""

TARGETS = ("signal", "direction", "return", "price")
CLASS_TARGETS = ("signal", "direction")
"""Targets whose training files have the three classes as their label."""

MAX_FILL_BARS = 60
"""Longest run of missing bars that is carried forward, unless a run says another."""


@dataclass(frozen=True, kw_only=True)
class LabelFields(Part):
    """Labels.

    Attributes:
        target: What is predicted: the SHORT / HOLD / LONG signal of take profit and
            stop loss, or what the close does over `future_window` bars: its direction
            (same classes), its log return, its price. A price is learned as a log
            return and reported back.
        future_window: Bars after the entry that decide the label: take profit or stop
            loss may be hit in them; for the other targets the last one counts.
        dead_zone_pct: For `direction`: a move of at most this many percent is HOLD.
        long_tp_pct: Take profit of a long, percent above the entry.
        long_sl_pct: Stop loss of a long, percent below the entry.
        short_tp_pct: Take profit of a short, percent below the entry.
        short_sl_pct: Stop loss of a short, percent above the entry.
        tie_policy: A bar that opens between both levels and touches both: the stop was
            first, or the take profit (V3).
        max_fill_bars: Longest run of missing bars that is carried forward; a longer one
            ends the segment. 60, the default, is also at most six hours, at least one
            bar below 1d, and none from 1d on.
        accept_jumps: Takes every price as it is: labels may cross redenominations,
            splits, slips and glitches, and missing bars are filled across them.
    """

    target: str = field("signal", choices=TARGETS, aliases=("--target-type",))
    future_window: int = field(
        120, ge=1, le=100_000, aliases=("--horizon", "--target-horizon")
    )
    dead_zone_pct: float = field(0.0, ge=0, lt=100)
    long_tp_pct: float = field(1.0, gt=0, le=100)
    long_sl_pct: float = field(0.5, gt=0, le=100)
    short_tp_pct: float = field(1.0, gt=0, le=100)
    short_sl_pct: float = field(0.5, gt=0, le=100)
    tie_policy: str = field("pessimistic", choices=("pessimistic", "optimistic"))
    max_fill_bars: int = field(MAX_FILL_BARS, ge=0, le=100_000)
    accept_jumps: bool = False

    @property
    def num_outputs(self) -> int:
        """Numbers that a network gives for a window: one a class, or the forecast."""
        return len(CLASS_NAMES) if self.target in CLASS_TARGETS else 1

    def file_numbers(self) -> dict[str, int]:
        """Returns the numbers that stand in names of files; percents in hundredths."""
        numbers = {"FW": self.future_window}
        long = {"SL": self.long_sl_pct, "TP": self.long_tp_pct}
        short = {"SSL": self.short_sl_pct, "STP": self.short_tp_pct}
        if self.target == "signal":
            numbers |= {key: to_hundredths(value) for key, value in long.items()}
            if list(long.values()) != list(short.values()):
                numbers |= {key: to_hundredths(value) for key, value in short.items()}
        if self.max_fill_bars != MAX_FILL_BARS:
            numbers["FILL"] = self.max_fill_bars
        return numbers

    def problems(self) -> list[str]:
        """Returns whether a dead zone is asked for where there is none."""
        if self.dead_zone_pct and self.target != "direction":
            return [
                "dead_zone_pct: expected target 'direction' with it. "
                f"Received: target {self.target!r}"
            ]
        return []


def to_hundredths(percent: float) -> int:
    """Returns a percentage as whole hundredths for file names: 0.57 -> 57."""
    return round(percent * 100)
