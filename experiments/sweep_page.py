"""The page of many runs: portfolio, means over pairs, a ranking, what failed.

In: numbers and ends of cells as text, sorted and filtered in the reader's browser. Out:
the numbers (`ranking`, `portfolio`), the files (`sweep_report`), the looks
(`reports/templates/sweep.html`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from metrics.wording import interval, number
from reports.figures import STYLE
from reports.page import script_digest, template
from reports.plots import BLUE, GREY, INK, new_axes
from utils import counted

_SIGNIFICANT = 0.05
_FILTERS = (
    ("pair", "pair"),
    ("timeframe", "bars"),
    ("target", "target"),
    ("model", "model"),
)
_COLUMNS = (
    ("pair", "pair", False),
    ("timeframe", "bars", False),
    ("target", "target", False),
    ("model", "model", False),
    ("mark", "chosen", False),
    ("validation", "validation", True),
    ("test", "test", True),
    ("skill", "skill", True),
    ("spread", "seeds", True),
    ("q_value", "q", True),
    ("trailing", "vs 7 days", True),
    ("direction", "direction", True),
    ("p_value", "p vs chosen", True),
    ("trades", "trades", True),
    ("net", "net bps", True),
    ("sharpe", "Sharpe", True),
    ("deflated", "P(Sharpe > 0)", True),
)
_FORMS = {
    **dict.fromkeys(("validation", "test"), "{:.4g}"),
    **dict.fromkeys(("skill", "trailing", "direction"), "{:+.3f}"),
    **dict.fromkeys(("q_value", "p_value"), "{:.3f}"),
    **{"spread": "{:.4f}", "trades": "{:,}", "net": "{:+.1f}"},
    **{"sharpe": "{:+.1f}", "deflated": "{:.2f}"},
}


def render_page(
    found: Mapping[str, Any], place: Path, verdict: Sequence[tuple[str, str]]
) -> str:
    """Returns the page as HTML; what comes from outside is escaped.

    Args:
        found: From `sweep_report.write_sweep`.
        place: Folder of the page, from which its links lead.
        verdict: Lines of a question and its answer.
    """
    together = found["portfolio"]
    rows = [row for market in found["markets"] for row in rows_of(market, place)]
    return template("sweep.html").render(
        title=place.name,
        verdict=verdict,
        num_cells=found["num_cells"],
        looks=sorted({x["num_looks"] for x in found["markets"] if "num_looks" in x}),
        markets=[_market_line(each) for each in found["markets"]],
        over_pairs=[_pairs_row(each) for each in found["over_pairs"]],
        together=together,
        facts=None if "skipped" in together else _facts(together),
        correlation=None if "skipped" in together else _correlation(together),
        figure=None if "skipped" in together else plot_portfolio(together),
        rows=rows,
        columns=_COLUMNS,
        filters=_FILTERS,
        failed=failures(found["failed"]),
        script_sha256=script_digest("runs.js"),
    )


def rows_of(
    market: Mapping[str, Any], place: Path | None = None
) -> list[dict[str, Any]]:
    """Returns the cells of a market's models as text, and what they sort by."""
    rows = []
    for entry in market["models"]:
        trades, skill, seeds = entry["trading"], entry["skill"], entry["seeds"]
        against = entry["against_chosen"] or {}
        is_chosen = entry["model"] == market["chosen"]
        net = trades.get("mean_net_return_bps", {"estimate": None})
        sharpe = trades.get("sharpe", {"estimate": None})
        values = {
            "validation": entry["validation_loss"],
            "test": entry["test_loss"],
            "skill": skill["estimate"],
            "q_value": skill.get("adjusted_p_value"),
            "spread": seeds["std"],
            "trailing": entry["skill_vs_trailing"]["estimate"],
            "direction": entry["direction"]["estimate"],
            "p_value": against.get("adjusted_p_value"),
            "trades": trades.get("num_trades"),
            "net": net["estimate"],
            "sharpe": sharpe["estimate"],
            "deflated": trades.get("deflated_sharpe"),
        }
        texts = {key: number(values[key], _FORMS[key]) for key in values}
        about = {key: market[key] for key in ("pair", "timeframe", "target")}
        about["model"] = entry["model"]
        report = Path(entry["folder"]) / "report.html"
        has_page = place is not None and report.is_file()
        rows.append(
            {
                **about,
                **texts,
                "mark": "chosen" if is_chosen else "",
                "skill_interval": _ends(skill),
                "net_interval": _ends(net, "{:+.0f}"),
                "sharpe_interval": _ends(sharpe, "{:+.1f}"),
                "seeds": entry["num_seeds"],
                "report": os.path.relpath(report, place) if has_page else None,
                "data": about
                | {"mark": "0" if is_chosen else "1"}
                | {k: "" if v is None else repr(v) for k, v in values.items()},
            }
        )
    return rows


def _ends(found: Mapping[str, Any], form: str = "{:+.3f}") -> str:
    low, high = found.get("low"), found.get("high")
    if low is None or high is None:
        return ""
    return f"[{form.format(low)}, {form.format(high)}]"


def _market_line(market: Mapping[str, Any]) -> dict[str, str]:
    name = " ".join(market[key] for key in ("pair", "timeframe", "target"))
    if "skipped" in market:
        return {"name": name, "words": f"not ranked: {market['skipped']}"}
    days = " to ".join(str(market[end])[:10] for end in ("first", "last"))
    words = f"{market['num_rows']['test']:,} equal test rows, {days}; "
    trials = counted(market["num_looks"], "trial", "trials")
    words += f"Sharpe ratios deflated by {trials}"
    return {"name": name, "words": words}


def _pairs_row(row: Mapping[str, Any]) -> dict[str, str]:
    skill = row["skill"]
    return {
        **{key: row[key] for key in ("timeframe", "target", "model")},
        "pairs": f"{row['num_above']} of {row['num_pairs']}",
        "skill": number(skill["estimate"], "{:+.3f}"),
        "interval": _ends(skill),
        "p_value": number(skill["p_value"], "{:.4f}"),
        "q_value": number(skill["adjusted_p_value"], "{:.4f}"),
        "answer": "above 0" if is_discovered(skill) else "none shown",
    }


def _facts(together: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Returns what the portfolio earned and risked, name and text."""
    return [
        ("days", f"{together['num_days']} from {together['first']}"),
        ("models", ", ".join(together["members"])),
        ("left out: no days in common", ", ".join(together["left_out"]) or "none"),
        ("net return", f"{together['total_return_pct']:+.2f} %"),
        ("Sharpe ratio, a year", interval(together["sharpe"], "{:+.2f}")),
        (
            "P(Sharpe > 0), this portfolio alone",
            number(together["probabilistic_sharpe"], "{:.3f}"),
        ),
        (
            f"the same after {counted(together['num_trials'], 'trial', 'trials')}",
            number(together["deflated_sharpe"], "{:.3f}"),
        ),
        ("largest drawdown", f"{together['max_drawdown_pct']:.2f} %"),
        (
            "value at risk, 95 %, a day",
            number(together["value_at_risk_95_pct"], "{:.2f} %"),
        ),
        ("CVaR, 95 %, a day", number(together["cvar_95_pct"], "{:.2f} %")),
        (
            "mean correlation of two models",
            number(together["mean_correlation"], "{:+.2f}"),
        ),
    ]


def _correlation(together: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    return [
        (name, [number(value, "{:+.2f}") for value in row])
        for name, row in zip(together["members"], together["correlation"], strict=True)
    ]


def plot_portfolio(together: Mapping[str, Any]) -> Figure:
    """Draws the equity of a portfolio, in blue, and of its models, day by day."""
    with mpl.rc_context(STYLE):
        figure, axes = new_axes(8.0, 3.0)
        days = range(together["num_days"] + 1)
        for curve in together["member_equity"]:
            axes.plot(days, [1.0, *curve], color=GREY, linewidth=0.8)
        axes.plot(days, [1.0, *together["equity"]], color=BLUE, linewidth=2)
        axes.axhline(1.0, color=INK, linewidth=0.8)
        axes.set_xlabel(f"days from {together['first']}")
        axes.set_ylabel("equity")
    return figure


def is_discovered(skill: Mapping[str, Any]) -> bool:
    """Whether a mean skill is above 0, at a false discovery rate of 5 %."""
    adjusted = skill.get("adjusted_p_value")
    return adjusted is not None and adjusted < _SIGNIFICANT and skill["estimate"] > 0


def is_shown(entry: Mapping[str, Any]) -> bool:
    """Whether a model has the skill that a run claims: beyond the trailing mix, too."""
    trailing = entry["skill_vs_trailing"]["low"]
    return is_discovered(entry["skill"]) and trailing is not None and trailing > 0


def failures(failed: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Returns cells without a model, those of one error together."""
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for cell in failed:
        key = tuple(cell.get(name) for name in ("error", "exit_code", "status"))
        groups.setdefault(key, []).append(cell)
    return [
        {
            **cells[0],
            "name": name_of(cells[0])
            + (f" and {len(cells) - 1} more" if len(cells) > 1 else ""),
            "attempts": max(cell["attempts"] for cell in cells),
        }
        for cells in groups.values()
    ]


def name_of(cell: Mapping[str, Any]) -> str:
    """Returns a cell in words."""
    words = [cell.get(key) for key in ("pair", "timeframe", "target", "model")]
    return " ".join([*map(str, filter(None, words)), f"seed {cell.get('seed')}"])
