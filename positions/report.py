"""Step 8 of an agent: its positions, what they came to, report and checks.

In: the table of positions, results of both parts, everything that is written of them.
Out: one part's numbers (`judging`), claims (`claims`), text and page (`views`, which is
registered here), answers to candles (`answers`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd

from artifacts.run_folder import RunFolder
from config import Config
from data_loader import TrainingData
from evaluation import trading
from evaluation.backtest import trade_outcomes, trade_rules, trading_problem
from evaluation.outlook import expected_range, kept
from evaluation.part_scores import Judged
from evaluation.policies import PositionPolicy, policy_from_dict
from evaluation.results import Expected, Trials
from evaluation.trials import count_trials
from files import tables
from files.strict import to_jsonable, write_json
from models.adapter import ModelAdapter
from positions import claims, golden, judging, learned, views
from positions.results import TARGET
from reports.report import write_run_report
from rl import accounts
from rl.accounts import Account
from signals.reference import write_reference

if TYPE_CHECKING:
    from rl.adapter import AgentAdapter

NET = "net_a_bar"
"""Key of the `outlook` of an agent."""


def report_run(
    run: RunFolder,
    data: TrainingData,
    agent: ModelAdapter,
    *,
    audit: Mapping[str, Any],
    metadata: dict[str, Any],
) -> tuple[pd.DataFrame, Any]:
    """Judges both parts, writes table, checks, report and metadata; prints the report.

    Args:
        run: Its folder.
        data: Arrays and parts.
        agent: The trained one.
        audit: What was looked for in the data.
        metadata: Of the run, with the headlines once this is done.

    Returns:
        One row a bar of validation and test, and the results.
    """
    adapter, config = cast("AgentAdapter", agent), agent.config
    lived = live_on(adapter, data, config, ("validation", "test"))
    trials = count_trials(data, config)
    results = results_of(adapter, data, config, lived, trials=trials)
    results["audit"] = dict(audit)
    claims.heed_audit(results)
    table = positions_table(data, lived)
    tables.write_parquet(run.file("predictions", ".parquet"), table)
    judged = Judged(table=table, policy=PositionPolicy(), choice={})
    write_json(run.file("calibrator", ".json"), judged.policy.to_dict())
    golden.write_golden(run, data, adapter, lived["validation"].held)
    write_reference(run, data, judged)
    views.register()
    write_run_report(run, data, results, model=None, history={}, metadata=metadata)
    return table, results


@dataclass(frozen=True, kw_only=True, eq=False)
class Lived:
    """An agent on the rows of one part: where, and what it came to."""

    stretch: judging.Stretch
    held: Account


def live_on(
    adapter: AgentAdapter, data: TrainingData, config: Config, parts: Sequence[str]
) -> dict[str, Lived]:
    """Returns the accounts of an agent on parts, at the costs of `config`."""
    market, found = adapter.market_of(data), {}
    for part in parts:
        span = data.parts[part]
        pieces = accounts.stretches(market, slice(span.start, span.stop))
        rows = np.concatenate([np.arange(*piece) for piece in pieces])
        stretch = judging.Stretch(
            market=market,
            pieces=pieces,
            times=data.timeline.at(rows),
            close=np.asarray(data.outcomes["close"])[[*rows, rows[-1] + 1]],
            cost=1e-4 * (config.fee_bps + config.slippage_bps),
            bar_seconds=config.bar_seconds,
        )
        position = adapter.account(data, part).position
        found[part] = Lived(stretch=stretch, held=stretch.account(position))
    return found


def results_of(
    adapter: AgentAdapter,
    data: TrainingData,
    config: Config,
    lived: Mapping[str, Lived],
    *,
    trials: Trials,
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """Returns `results.AgentResults`, ready for JSON.

    Args:
        adapter: The agent.
        data: Arrays and parts.
        config: Its run, at the costs in force.
        lived: Part -> from `live_on`.
        trials: How often the test part was looked at.
        notes: What a reader has to know of the rows.
    """
    trained = adapter.trained
    learning = learned.learning_of(trained)
    results: dict[str, Any] = {
        "target": TARGET,
        **{"verdict": [], "claims": {}, "warnings": []},
        "trials": trials,
        "settings": {
            "fee_bps": config.fee_bps,
            "slippage_bps": config.slippage_bps,
            "bar_seconds": config.bar_seconds,
            "episode_bars": trained.around.episode_bars,
            "num_seeds": len(learning),
            "confidence_pct": 95.0,
        },
        "choice": learned.choice_of(trained),
        "learning": learning,
    }
    tried = {"validation": len(trained.candidates)}
    looks = trials["num_trials"] + len(learning) - 1
    for part, each in lived.items():
        results[part] = judging.judge(
            each.held,
            each.stretch,
            beside=_beside(adapter, data, part, config, each.stretch),
            num_trials=tried.get(part, looks),
        )
        results[part] |= learned.spread_of(trained, each.stretch)
    if "test" in lived:
        # Validation chose the agent: that it earned more there is no drift.
        found = expected_range(results["test"]["intervals"]["net_bps"])
        is_flat = results["choice"]["is_flat"]
        results["outlook"] = {} if is_flat else {NET: found}
    results = to_jsonable(results)
    claims.add_verdict(results, notes=notes)
    return results


def report_later(
    adapter: AgentAdapter,
    data: TrainingData,
    config: Config,
    *,
    trials: Trials,
    promised: Mapping[str, Expected],
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Returns the positions of an opened agent on later rows, and their results.

    Args:
        adapter: The agent.
        data: Its `test` are the rows.
        config: Its run, at the costs in force.
        trials: How often they were looked at.
        promised: What its report expected of a stretch at these costs.
    """
    views.register()
    lived = live_on(adapter, data, config, ("test",))
    results = results_of(adapter, data, config, lived, trials=trials)
    del results["learning"], results["outlook"]
    shown = {NET: results["test"]["intervals"]["net_bps"]}
    results["promised"] = kept(promised, shown)
    return positions_table(data, lived), results


def positions_table(data: TrainingData, lived: Mapping[str, Lived]) -> pd.DataFrame:
    """Returns one row a bar, in order of time.

    Columns: `timestamp` (open of the bar), `row`, `part`, `close`; `position`, held
    from this close to the next one; `gross`, `cost` and `net`, log returns of that bar.
    The costs of closing count to the last bar before a gap or the end.
    """
    made = []
    for part, each in lived.items():
        held, count = each.held, len(each.held.rows)
        columns = {
            "timestamp": pd.DatetimeIndex(data.timeline.at(held.rows), tz="UTC"),
            "row": held.rows.astype(np.int64),
            "part": pd.Categorical([part] * count, categories=list(data.parts)),
            "close": each.stretch.close[:-1],
            "position": held.position,
            "gross": held.gross,
            "cost": held.cost,
            "net": held.net,
        }
        made.append(pd.DataFrame(columns))
    return pd.concat(made, ignore_index=True)


def _beside(
    adapter: AgentAdapter,
    data: TrainingData,
    part: str,
    config: Config,
    stretch: judging.Stretch,
) -> dict[str, Account]:
    """Returns what the parent's own signals would have earned on the same rows.

    A trade as its report has it: entered at the close of a signal's bar, left at its
    take profit, its stop loss or the end of the horizon. Here it is valued bar by bar,
    and left at the close of the bar that ended it.
    """
    targets = data.parts[part].targets
    outcomes = pd.DataFrame({k: v[targets] for k, v in data.outcomes.items()})
    outcomes["timestamp"] = pd.DatetimeIndex(data.timeline.at(targets), tz="UTC")
    parents = adapter.parents
    if not parents or trading_problem(outcomes):
        return {}
    parent = parents[0]
    policy = policy_from_dict(parent.artifact.read_json("calibrator"))
    _, signals = policy.decide(parent.adapter.predict_rows(data, targets))
    found = trading.simulate_trades(
        signals, trade_outcomes(outcomes), rules=trade_rules(config)
    )
    rows = stretch.account(np.zeros(len(stretch.times))).rows
    position = np.zeros(len(rows))
    first = targets[found["row"]]
    starts = np.searchsorted(rows, first)
    stops = np.searchsorted(rows, first + found["exit_bars"])
    for start, stop, side in zip(starts, stops, found["side"], strict=True):
        position[start:stop] = side
    return {"parent": stretch.account(position)}
