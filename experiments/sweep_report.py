"""What comes out of many runs: one table of all, numbers, one page.

In: how each cell ended, all in words. Out: doing the cells
(`tasks`), what is chosen and how sure that is (`ranking`), what the chosen ones earn
together (`portfolio`), the page (`sweep_page`).
"""

from __future__ import annotations

import csv
import io
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import utils
from experiments.finished import FinishedRun, read_run
from experiments.portfolio import hold_together, members_of
from experiments.ranking import rank_over_pairs, rank_runs
from experiments.sweep_page import (
    failures,
    is_discovered,
    is_shown,
    render_page,
    rows_of,
)
from files.atomic import atomic_write
from files.strict import to_jsonable, write_json
from metrics.wording import interval, number
from reports.text import format_table, wrap
from utils import counted

PAGE, TABLE, NUMBERS = "sweep.html", "cells.csv", "results.json"
COLUMNS = (
    *("pair", "timeframe", "model", "seed"),
    *("status", "exit_code", "attempts", "folder"),
)
"""Of `cells.csv`."""
_MOST_NAMED, _MOST_LINES = 4, 40
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
    over_pairs = rank_over_pairs(markets)
    looks = [each["num_looks"] for each in markets if "num_looks" in each]
    found = to_jsonable(
        {
            "num_cells": len(cells),
            "num_finished": len(runs),
            "failed": failed,
            "markets": markets,
            "over_pairs": over_pairs,
            "portfolio": hold_together(
                members_of(markets), num_trials=max([len(cells), *looks])
            ),
        }
    )
    write_table(place, cells)
    atomic_write(place / PAGE, render_page(found, place, verdict_of(found)))
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
        shown = [entry for _, entry in chosen if is_shown(entry)]
        line = f"shown in {len(shown)} of {len(chosen)}: "
        line += ", ".join(
            f"{market['pair']} {market['timeframe']} {entry['model']} "
            f"{interval(entry['skill'], '{:+.3f}')}"
            for market, entry in chosen[:_MOST_NAMED]
        )
        lines.append(("Skill", line + ", ..." * (len(chosen) > _MOST_NAMED)))
    if found["over_pairs"]:
        best = found["over_pairs"][0]
        is_above = is_discovered(best["skill"])
        line = "above the reference alone" if is_above else "none shown"
        line += f". {best['model']} {best['timeframe']} "
        line += f"{interval(best['skill'], '{:+.3f}')} over {best['num_pairs']} pairs, "
        line += f"q = {number(best['skill']['adjusted_p_value'], '{:.3f}')}"
        lines.append(("Over pairs", line))
    lines.append(("After costs", _costs_line(found["portfolio"])))
    return lines


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
    rows = [row for market in found["markets"] for row in rows_of(market)]
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
        wrap(f"{each['name']} failed ({each['exit_code']}): {each['error']}", indent=2)
        for each in [x for x in failures(found["failed"]) if x["error"]][:_MOST_LINES]
    ]
    return "\n".join(lines)
