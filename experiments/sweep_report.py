"""What comes out of many runs: one table of all, numbers, one page.

In: how each cell ended, the words and the page about all. Out: doing the cells
(`tasks`), what is chosen and how sure that is (`ranking`), what the chosen ones earn
together (`portfolio`), the looks (`reports/templates/sweep.html`).
"""

from __future__ import annotations

import csv
import io
import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

import utils
from experiments.finished import FinishedRun, read_run
from experiments.portfolio import hold_together, members_of
from experiments.ranking import rank_over_pairs, rank_runs
from files.atomic import atomic_write
from files.strict import to_jsonable, write_json
from metrics.wording import interval, number
from reports.figures import STYLE
from reports.page import script_digest, template
from reports.plots import BLUE, GREY, INK, new_axes
from reports.text import format_table, wrap
from utils import counted

logger = logging.getLogger(__name__)

PAGE, TABLE, NUMBERS = "sweep.html", "cells.csv", "results.json"
COLUMNS = (
    *("pair", "timeframe", "model", "seed"),
    *("status", "exit_code", "attempts", "folder"),
)
"""Of `cells.csv`."""
_SIGNIFICANT = 0.05
_MOST_NAMED, _MOST_LINES = 4, 40
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

Cell = Mapping[str, Any]


def write_sweep(
    folder: str | os.PathLike[str], cells: Sequence[Cell]
) -> dict[str, Any]:
    """Writes `cells.csv`, `results.json` and `sweep.html`; returns the numbers.

    Args:
        folder: That they go into.
        cells: How each ended: `pair`, `timeframe`, `model`, `target`, `seed`, `status`,
            `exit_code`, `attempts`, `folder` (of its artifact; None without), `error`;
            `config`, what its settings are called, where they have a name.

    Returns:
        `num_cells`, `num_finished`, `failed` (cells), `markets` (`ranking.rank_runs`),
        `over_pairs` (`ranking.rank_over_pairs`), `portfolio`
        (`portfolio.hold_together`).
    """
    place = Path(folder)
    runs, failed = read_cells(cells)
    markets = rank_runs(runs, num_elsewhere=len(cells) - len(runs))
    looks = [each["num_looks"] for each in markets if "num_looks" in each]
    found = to_jsonable(
        {
            "num_cells": len(cells),
            "num_finished": len(runs),
            "failed": failed,
            "markets": markets,
            "over_pairs": rank_over_pairs(markets),
            "portfolio": hold_together(
                members_of(markets), num_trials=max([len(cells), *looks])
            ),
        }
    )
    write_table(place, cells)
    atomic_write(place / PAGE, render_page(found, place))
    write_json(place / NUMBERS, found)
    return found


def write_table(folder: Path, cells: Sequence[Cell]) -> None:
    """Writes `cells.csv` alone, which needs no run."""
    table = io.StringIO()
    writer = csv.DictWriter(table, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(cells)
    atomic_write(folder / TABLE, table.getvalue())


def read_cells(cells: Sequence[Cell]) -> tuple[list[FinishedRun], list[Cell]]:
    """Returns the runs that cells left, and the cells that left none.

    An artifact that cannot be read has failed, too, with the code of that.
    """
    runs, failed = [], []
    for cell in cells:
        if not cell.get("folder"):
            failed.append(cell)
            continue
        try:
            run = read_run(cell["folder"])
            runs.append(run.lightened(label=cell.get("config") or ""))
        except (utils.UserError, OSError) as error:
            code = utils.exit_code_of(error)
            failed.append({**cell, "error": str(error), "exit_code": code})
    return runs, failed


# Words


def verdict_of(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Returns what the cells came to, each line as its question and its answer."""
    lines = [("Cells", _cells_line(found))]
    chosen = [
        (market, entry)
        for market in found["markets"]
        for entry in market["models"]
        if entry["model"] == market["chosen"]
    ]
    if chosen:
        shown = [entry for _, entry in chosen if is_discovered(entry["skill"])]
        line = f"shown in {len(shown)} of {len(chosen)}: "
        line += ", ".join(
            f"{market['pair']} {market['timeframe']} {entry['model']} "
            f"{interval(entry['skill'], '{:+.3f}')}"
            for market, entry in chosen[:_MOST_NAMED]
        )
        lines.append(("Skill", line + ", ..." * (len(chosen) > _MOST_NAMED)))
    if found["over_pairs"]:
        best = found["over_pairs"][0]
        line = "shown" if is_discovered(best["skill"]) else "none shown"
        line += f". {best['model']} {best['timeframe']} "
        line += f"{interval(best['skill'], '{:+.3f}')} over {best['num_pairs']} pairs, "
        line += f"q = {number(best['skill']['adjusted_p_value'], '{:.3f}')}"
        lines.append(("Over pairs", line))
    lines.append(("After costs", _costs_line(found["portfolio"])))
    return lines


def is_discovered(skill: Mapping[str, Any]) -> bool:
    """Whether a mean skill is above 0, at a false discovery rate of 5 %."""
    adjusted = skill.get("adjusted_p_value")
    return adjusted is not None and adjusted < _SIGNIFICANT and skill["estimate"] > 0


def _cells_line(found: Mapping[str, Any]) -> str:
    line = f"{found['num_finished']} of {found['num_cells']} finished"
    counts = Counter(
        f"failed with code {cell['exit_code']}" if cell["exit_code"] else cell["status"]
        for cell in found["failed"]
    )
    return "; ".join([line, *(f"{counts[how]} {how}" for how in sorted(counts))])


def _costs_line(together: Mapping[str, Any]) -> str:
    if "skipped" in together:
        return f"no portfolio, {together['skipped']}"
    answer = "an edge" if together["edge"] else "no edge shown"
    return (
        f"{answer}. {len(together['members'])} chosen models together, "
        f"{together['num_days']} days: Sharpe ratio "
        f"{interval(together['sharpe'], '{:+.1f}')}, P(Sharpe > 0) "
        f"{number(together['deflated_sharpe'], '{:.2f}')} after "
        f"{counted(together['num_trials'], 'trial', 'trials')}, largest drawdown "
        f"{together['max_drawdown_pct']:.1f} %"
    )


def format_sweep(found: Mapping[str, Any]) -> str:
    """Returns the verdict and the ranking as text, the page has the rest."""
    lines = [wrap(f"{question}: {answer}") for question, answer in verdict_of(found)]
    rows = [row for market in found["markets"] for row in _rows_of(market)]
    head = ["", "validation", "test", "skill", "seeds", "p vs chosen", "net bps/trade"]
    lines += format_table(
        [
            head,
            *(
                [
                    f"{row['pair']} {row['timeframe']} {row['model']} {row['mark']}",
                    *(row[key] for key in ("validation", "test")),
                    f"{row['skill']} {row['skill_interval']}",
                    *(row[key] for key in ("spread", "p_value", "net")),
                ]
                for row in rows[:_MOST_LINES]
            ),
        ]
    )
    if len(rows) > _MOST_LINES:
        lines.append(f"  ... and {len(rows) - _MOST_LINES} more, see {PAGE}")
    lines += [
        wrap(f"{name_of(cell)} failed ({cell['exit_code']}): {cell['error']}", indent=2)
        for cell in [x for x in found["failed"] if x["error"]][:_MOST_LINES]
    ]
    return "\n".join(lines)


def name_of(cell: Cell) -> str:
    """Returns a cell in words."""
    words = [cell.get(key) for key in ("pair", "timeframe", "target", "model")]
    return " ".join([*map(str, filter(None, words)), f"seed {cell.get('seed')}"])


# The page


def render_page(found: Mapping[str, Any], place: Path) -> str:
    """Returns the page as HTML; what comes from outside is escaped.

    Args:
        found: From `write_sweep`.
        place: Folder of the page, from which its links lead.
    """
    together = found["portfolio"]
    rows = [row for market in found["markets"] for row in _rows_of(market, place)]
    return template("sweep.html").render(
        title=place.name,
        verdict=verdict_of(found),
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
        failed=[{**cell, "name": name_of(cell)} for cell in found["failed"]],
        script_sha256=script_digest("runs.js"),
    )


def _rows_of(
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
    words += f"{counted(market['num_looks'], 'trial', 'trials')} deflate"
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
