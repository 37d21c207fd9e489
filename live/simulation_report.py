"""What a schedule would have done on history -> text, `simulation.json`, one page.

In: words, pictures, the folder. Out: what it would have done (`simulation`), the page's
looks (`pages`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from files.strict import write_json
from live.pages import Picture, Section, plot_days, write_page
from live.simulation import CLOCK, NEVER, SCHEDULE, WAYS, Simulation
from metrics.wording import interval, p_value
from reports.plots import BLUE, GREY, INK, VIOLET
from reports.text import format_table

_COLORS = {SCHEDULE: BLUE, NEVER: GREY, CLOCK: VIOLET}


def format_simulation(found: Simulation) -> str:
    """Returns the three ways, the gains and the decisions as text."""
    lines = [
        f"{found.schedule}: {found.first} to {found.last}, {len(found.decisions)} "
        f"challengers, {found.promotions} promoted, {found.minutes:.1f} minutes of "
        "training",
        "",
        *format_table(way_rows(found)),
        *(f"  {line}" for line in gain_lines(found)),
    ]
    return "\n".join(lines)


def way_rows(found: Simulation) -> list[list[str]]:
    """Returns a table of the three ways, its head first."""
    rows = [["", "skill", "trades", "net/trade", "net"]]
    for way, each in found.ways.items():
        skill, trades = each["skill"], each["trading"]
        cells = ["-", "-", "-"]
        if "skipped" not in trades:
            mean = trades["mean_net_return_bps"]
            cells = [
                f"{trades['num_trades']:,}",
                "-" if mean is None else f"{mean:+.1f} bp",
                f"{trades['total_return_pct']:+.1f}%",
            ]
        shown = "-" if skill is None else f"{skill:+.4f}"
        rows.append([WAYS[way], shown, *cells])
    return rows


def gain_lines(found: Simulation) -> list[str]:
    """Returns what the schedule gained over each other way, and whether that is one."""
    lines = []
    for way, gain in found.gains.items():
        against = WAYS[way] if way == NEVER else "taking every challenger"
        is_gain = gain["low"] is not None and gain["low"] > 0
        what = "a gain" if is_gain else "no gain is shown"
        shown = p_value(gain["p_value"], "too short")
        lines.append(
            f"loss taken away, {WAYS[SCHEDULE]} against {against}: "
            f"{interval(gain, '{:+.5f}')}, {shown}: {what}"
        )
    return lines


def write_simulation(found: Simulation, folder: Path) -> Path:
    """Writes `simulation.json` and `simulation.html`; returns the page."""
    write_json(folder / "simulation.json", found.to_dict())
    days = [each["first"] for each in found.periods]
    skills = [
        (
            name,
            days,
            [_or_nan(each["skill"][way]) for each in found.periods],
            _COLORS[way],
        )
        for way, name in WAYS.items()
    ]
    figures = [
        Picture(
            drawn=plot_days(skills, [("", 0.0, INK)]),
            caption="Skill between looks, at the first day of each stretch.",
        )
    ]
    curves = [
        (name, curve["time"], curve["equity"], _COLORS[way])
        for way, name in WAYS.items()
        if (curve := found.ways[way]["trading"].get("curve"))
    ]
    if curves:
        caption = "Equity after costs, 1 at the start."
        figures.append(Picture(drawn=plot_days(curves), caption=caption))
    sections = [
        Section(
            key="ways",
            title="Three ways",
            lead="Skill is the share of the loss taken away from the first model's "
            "train prior (of numbers: from persistence), on the same rows.",
            rows=way_rows(found),
            figures=figures,
        ),
        Section(
            key="decisions",
            title="Decisions",
            lead="A challenger is promoted where the lower end of its gain on rows "
            "that neither model read lies above minus the tolerance. A promotion is a "
            "decision; what all of them were worth is said above.",
            rows=decision_rows(found),
        ),
    ]
    head, *_ = format_simulation(found).splitlines()
    lead = [head, *gain_lines(found)]
    return write_page(
        folder / "simulation.html", f"{found.schedule}: simulated", lead, sections
    )


def decision_rows(found: Simulation) -> list[list[Any]]:
    """Returns a table of the decisions, its head first."""
    head = ["bars until", "trigger", "outcome", "gain", "lower end", "trained"]
    rows = [head]
    for each in found.decisions:
        gain = (each["duel"] or {}).get("gain", {})
        rows.append(
            [
                each["now"][:16].replace("T", " "),
                each["trigger"],
                each["outcome"],
                *(_signed(gain.get(key)) for key in ("estimate", "low")),
                f"{each['seconds']:.0f} s",
            ]
        )
    return rows


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.4f}"


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value
