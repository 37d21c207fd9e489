"""A challenger replaces the champion where it does better on rows that neither read.

In: one decision, from candles that end at a given moment. Out: when to look
(`schedule`), keeping decisions through a kill (`decisions`), doing it on history
(`simulation`).

Nothing here asks the clock: a decision of the past is made as it was then.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from artifacts import resuming
from artifacts.artifact import load_artifact
from artifacts.model_registry import register_run
from artifacts.registry import Registry
from config import AGENTS, Config
from dataset.builder import DatasetBuilder
from evaluation.evaluate import task_of
from experiments.candidates import Candidate, open_candidate
from files.strict import to_jsonable
from live.schedule import Schedule
from live.watching import judged_rows, watch
from metrics.intervals import Length, paired_test
from predictor import Predictor
from reports.report import NUMBERS
from settings.network_fields import NETWORKS
from trainer import StandaloneTrainer
from utils import ConfigError, DataError

logger = logging.getLogger(__name__)

PROMOTED, KEPT, NOT_DUE, TOO_EARLY = "promoted", "kept", "not due", "too early"
ABANDONED, ROLLED_BACK = "abandoned", "rolled back"
_DAY = pd.Timedelta(1, "D")


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What came of one look.

    Args:
        now: End of the newest bar, UTC.
        trigger: `clock`, `bars`, `alarm`, `rollback`; empty where nothing was due.
        outcome: `promoted`, `kept`, `not due`, `too early`; `rolled back`, and
            `abandoned` for a look that a rollback ended.
        reason: In words.
        champion: Id of the model in use before.
        challenger: Id of the one that was trained; None without.
        duel: `rows`, `first`, `last`, `gain` (interval of the share of the champion's
            loss that the challenger takes away), `p_value`, `tolerance`, `leaks`.
        seconds: Of training, on the wall.
    """

    now: str
    trigger: str
    outcome: str
    reason: str
    champion: str
    challenger: str | None = None
    duel: Mapping[str, Any] | None = None
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Returns strict JSON values."""
        found: dict[str, Any] = to_jsonable(asdict(self))
        return found


def closed(candles: pd.DataFrame, config: Config, now: pd.Timestamp) -> pd.DataFrame:
    """Returns the bars that are over at a moment."""
    bar = pd.Timedelta(config.bar_seconds, "s")
    return candles[candles["timestamp"] + bar <= now].reset_index(drop=True)


def end_of(candles: pd.DataFrame, config: Config) -> pd.Timestamp:
    """Returns the end of the newest bar."""
    last: pd.Timestamp = candles["timestamp"].iloc[-1]
    return last + pd.Timedelta(config.bar_seconds, "s")


def champion_of(schedule: Schedule, name: str | None = None) -> tuple[str, Predictor]:
    """Returns id and model of the alias, or of the model that it pointed at.

    Raises:
        MissingInputError: If there is none.
        ConfigError: If it is an agent, or was trained between given days.
    """
    entry = Registry(schedule.outputs_dir).get(name or schedule.champion)
    predictor = Predictor(Registry(schedule.outputs_dir).open(entry.model_id).path)
    config = predictor.config
    if predictor.family in AGENTS or config.members or config.base_model:
        raise ConfigError(
            "champion: expected a model that is trained from candles alone. Received: "
            f"{entry.model_id}, {predictor.family}, which builds on others"
        )
    if schedule.warm_start and config.model not in NETWORKS:
        raise ConfigError(
            "warm_start: expected a champion that is a network on its own. Received: "
            f"{entry.model_id}, {predictor.family}"
        )
    if config.train_end is not None:
        raise ConfigError(
            "champion: expected parts by shares, which follow new candles. Received: "
            f"{entry.model_id} with train_end {config.train_end}"
        )
    return entry.model_id, predictor


def trigger_of(
    schedule: Schedule, predictor: Predictor, candles: pd.DataFrame, since: pd.Timestamp
) -> str:
    """Returns what asks for a challenger, or nothing.

    Args:
        schedule: The rules.
        predictor: The champion.
        candles: Bars that are over.
        since: End of the newest bar of the last challenger's look, or of what the
            champion was trained and judged on.
    """
    now = end_of(candles, predictor.config)
    if schedule.every_days is not None and now - since >= schedule.every_days * _DAY:
        return "clock"
    new = int((candles["timestamp"] >= since).sum())
    if schedule.every_bars is not None and new >= schedule.every_bars:
        return "bars"
    if schedule.on_alarm and new:
        try:
            if watch(predictor, candles).level == "alarm":
                return "alarm"
        except DataError as error:  # no later row has a known outcome yet
            logger.info("not watched: %s", error)
    return ""


def decide(
    schedule: Schedule,
    candles: pd.DataFrame,
    *,
    since: pd.Timestamp | None = None,
    trigger: str | None = None,
    champion: str | None = None,
) -> Decision:
    """Looks once: trains, scores and promotes where that is due.

    Every step can be done again: what is there already is taken.

    Args:
        schedule: The rules.
        candles: A candle table whose newest bar is the newest that is known.
        since: See `trigger_of`; None: what the champion was trained and judged on.
            Rows before it were looked at by an earlier decision, and score nobody.
        trigger: What asked for it, where that is known already.
        champion: Id of the model that was in use when the look began; None: now.

    Raises:
        ConfigError: See `champion_of`.
        DataError: If the candles are not those of the champion.
    """
    name, predictor = champion_of(schedule, champion)
    config = predictor.config
    now, read_until = end_of(candles, config), seen_until(predictor)
    since = max(read_until, since) if since is not None else read_until
    if trigger is None:
        trigger = trigger_of(schedule, predictor, candles, since)
    about: dict[str, Any] = {"now": now.isoformat(), "champion": name}
    if not trigger:
        reason = f"the newest look reached to {since.isoformat()}"
        return Decision(trigger="", outcome=NOT_DUE, reason=reason, **about)
    begin = now - schedule.duel_days * _DAY
    if begin < since:
        return Decision(
            trigger=trigger,
            outcome=TOO_EARLY,
            reason=f"of the {schedule.duel_days:g} days of a duel "
            f"{(now - since) / _DAY:.1f} are new",
            **about,
        )
    return Decision(
        trigger=trigger, **about, **_duel(schedule, predictor, name, candles, begin)
    )


def _duel(
    schedule: Schedule,
    champion: Predictor,
    name: str,
    candles: pd.DataFrame,
    begin: pd.Timestamp,
) -> dict[str, Any]:
    """Trains a challenger, scores both, promotes; returns fields of the decision."""
    started = time.perf_counter()
    folder = train_until(schedule, champion.config, candles, begin, champion=champion)
    own = champion.config.replace(outputs_dir=schedule.outputs_dir)
    entry = register_run(own, folder, alias=None)
    seconds = time.perf_counter() - started
    if entry.model_id == name:
        reason = "what is known apart from the duel is what the champion learned from"
        return {"outcome": KEPT, "reason": reason}
    duel = score(champion, Predictor(folder), candles, begin, schedule)
    outcome, reason = verdict(duel)
    if outcome == PROMOTED:
        Registry(schedule.outputs_dir).set_alias(entry.model_id, schedule.alias)
    return {
        "outcome": outcome,
        "reason": reason,
        "challenger": entry.model_id,
        "duel": duel,
        "seconds": seconds,
    }


def seen_until(predictor: Predictor) -> pd.Timestamp:
    """Returns the end of the newest bar that a model's training or report looked at."""
    config, split = predictor.config, predictor.metadata["split"]
    last = pd.Timestamp(split["test"]["last"])
    last = last if last.tzinfo else last.tz_localize("UTC")
    return last + pd.Timedelta((config.future_window + 1) * config.bar_seconds, "s")


def train_until(
    schedule: Schedule,
    config: Config,
    candles: pd.DataFrame,
    begin: pd.Timestamp,
    *,
    champion: Predictor | None = None,
) -> Path:
    """Returns the folder of a challenger that knows nothing from a moment on.

    Args:
        schedule: The rules.
        config: The champion's.
        candles: A candle table, cut here.
        begin: The moment.
        champion: Whose weights a warm start begins with; None: cold.
    """
    known = closed(candles, config, begin)
    name = f"{begin:%Y%m%dT%H%M}"
    inputs = schedule.folder / "inputs" / name
    start = None
    if schedule.rolling_days is not None:
        start = f"{begin - schedule.rolling_days * _DAY:%Y-%m-%d}"
    config = config.replace(
        training_file=None,
        inputs_dir=str(inputs),
        outputs_dir=schedule.outputs_dir,
        start_date=start,
        end_date=f"{begin:%Y-%m-%d}",
        init_from=str(champion.path) if champion and schedule.warm_start else None,
    )
    builder = DatasetBuilder(config, use_cache=False)
    config = config.replace(
        training_file=str(builder.write_dataset(builder.build_dataset(candles=known)))
    )
    if (finished := resuming.find_finished(config)) is not None:
        return finished
    begun = resuming.find_resumable(config, "newest", is_probe=True)
    trainer = StandaloneTrainer(config, resume=begun.path if begun else None)
    return trainer.run_training()


def score(
    champion: Predictor,
    challenger: Predictor,
    candles: pd.DataFrame,
    begin: pd.Timestamp,
    schedule: Schedule,
) -> dict[str, Any]:
    """Returns `Decision.duel`: both models on the same rows, everything frozen."""
    both = [
        open_candidate(each, candles, {"baseline_model": False, "report": "light"})
        for each in (champion, challenger)
    ]
    start = max(begin.tz_localize(None).to_datetime64(), *map(_first_unread, both))
    times = _common(both, start)
    if not len(times):
        nothing: dict[str, Any] = dict.fromkeys(("estimate", "low", "high"))
        return {"rows": 0, "gain": nothing, "leaks": []}
    champion_losses, losses = (row_losses(each, times) for each in both)
    config = champion.config
    length = Length.of(
        len(times), horizon_bars=config.future_window, bar_seconds=config.bar_seconds
    )
    found = paired_test(champion_losses, losses, length=length)
    unit, ends = float(champion_losses.mean()), ("estimate", "low", "high")
    gain = {k: None if found[k] is None else found[k] / unit for k in ends}
    audit = load_artifact(challenger.path).read_listed_json(NUMBERS)["audit"]
    return {
        "rows": len(times),
        "first": f"{times[0].astype('datetime64[s]')}Z",
        "last": f"{times[-1].astype('datetime64[s]')}Z",
        "gain": gain,
        "p_value": found["p_value"],
        "tolerance": schedule.tolerance,
        "leaks": list(audit["leaks"]),
    }


def verdict(duel: Mapping[str, Any]) -> tuple[str, str]:
    """Returns the outcome of a duel, and why."""
    low = duel["gain"]["low"]
    if duel["leaks"]:
        return KEPT, f"the challenger's data leak: {', '.join(map(str, duel['leaks']))}"
    if low is None:
        return KEPT, f"{duel['rows']:,} rows that neither read are too few to tell"
    limit = 0.0 - duel["tolerance"]
    told = f"the gain is {duel['gain']['estimate']:+.4f}, its lower end {low:+.4f}"
    if low > limit:
        return PROMOTED, f"{told}, above {limit:+.4f}"
    return KEPT, f"{told}, not above {limit:+.4f}"


def row_losses(each: Candidate, times: np.ndarray) -> np.ndarray:
    """Returns a model's loss of the rows of the given times (num_rows,)."""
    return truth_and_losses(judged_rows(each, times), each.config)[1]


def truth_and_losses(
    table: pd.DataFrame, config: Config
) -> tuple[np.ndarray, np.ndarray]:
    """Returns what came, and the loss of each row (num_rows,), of answers to rows."""
    task = task_of(config.target)
    return task.truth_and_losses(lambda name: table[name].to_numpy())


def _common(both: Sequence[Candidate], start: np.datetime64) -> np.ndarray:
    """Returns the times from a moment on at which both can be scored."""
    one, other = (each.rows.timestamps[each.is_usable] for each in both)
    times = np.intersect1d(one, other, assume_unique=True)
    return times[times >= start]


def _first_unread(each: Candidate) -> np.datetime64:
    return each.first_later(("train", "validation", "test"))
