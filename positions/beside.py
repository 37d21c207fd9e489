"""The position of a model that has classes, too: what it came to, beside its agent's.

In: positions of a table of predictions, results of both parts. Out: one part's numbers
(`judging`), the model (`models.hybrid_adapter`), how they are shown
(`reports.composition`).

It is taken at the close of each target's bar and held until the next close. The agent
is judged on the very same bars, with its own positions there.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from data_loader import TrainingData
from evaluation.part_scores import Judged
from files.strict import to_jsonable
from metrics.wording import interval, p_value
from models.adapter import ModelAdapter
from models.hybrid_adapter import POSITION
from positions.claims import NAMES, told
from positions.judging import Stretch, judge
from rl.markets import market_of
from rl.simulator import Market
from settings.stage_fields import AGENTS

AGENT = "agent"
"""Name of the agent among baselines and comparisons."""


def add_positions(
    results: Any, judged: Judged, data: TrainingData, adapter: ModelAdapter
) -> None:
    """Adds `position` to results, in place, if the table has positions.

    Args:
        results: Of both parts, with `trials`.
        judged: What the model said.
        data: The same data.
        adapter: The model, whose agent is held against it.
    """
    if POSITION not in judged.table:
        return
    market, config = market_of(data), adapter.config
    tried = {"validation": len(adapter.training_history()["loss"])}
    found: dict[str, Any] = {}
    for part, table in judged.table.groupby("part", observed=True):
        rows = table["row"].to_numpy()
        is_known = np.isfinite(market.returns[rows])
        rows, position = rows[is_known], table[POSITION].to_numpy()[is_known]
        stretch = Stretch(
            market=market,
            pieces=_runs(rows),
            times=data.timeline.at(rows),
            close=np.asarray(data.outcomes["close"])[[*rows, rows[-1] + 1]],
            cost=1e-4 * (config.fee_bps + config.slippage_bps),
            bar_seconds=config.bar_seconds,
        )
        agents = [each for each in adapter.parents if each.family in AGENTS]
        accounts = [_held(each, market, data, str(part), rows) for each in agents]
        beside = dict(zip([AGENT], map(stretch.account, accounts), strict=False))
        found[str(part)] = judge(
            stretch.account(position),
            stretch,
            beside=beside,
            num_trials=tried.get(str(part), results["trials"]["num_trials"]),
        )
    if "test" in found:
        found["statement"] = _statement(found["test"])
    results[POSITION] = to_jsonable(found)


def _runs(rows: np.ndarray) -> list[tuple[int, int]]:
    """Returns first row and row after the last of each run of ascending rows."""
    pieces = np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1)
    return [(int(piece[0]), int(piece[-1]) + 1) for piece in pieces]


def _held(
    agent: Any, market: Market, data: TrainingData, part: str, rows: np.ndarray
) -> np.ndarray:
    """Returns the positions of an agent at rows of a part (num_rows,)."""
    account = agent.adapter.account(data, part)
    position = np.zeros(len(market.returns))
    position[account.rows] = account.position
    return position[rows]


def _statement(test: dict[str, Any]) -> str:
    """Returns what the position came to on test, in words."""
    best = test["comparisons"]["best_baseline"]["baseline"]
    words = [_against(test, best, f"{NAMES[best]}, the best constant position")]
    if AGENT in test["comparisons"]:
        words.append(_against(test, AGENT, "its agent"))
    net = interval(test["intervals"]["net_bps"], "{:+.3f}")
    return f"{net} bps net a bar on test; {'; '.join(words)}"


def _against(test: dict[str, Any], name: str, words: str) -> str:
    found = test["comparisons"][name]["net_difference"]
    by = f"{interval(found, '{:+.3f}')} bps a bar"
    return f"{told(found)} {words}, {by}, {p_value(found['p_value'], 'the same')}"
