"""A schedule followed on history, against never retraining and retraining by the clock.

In: the decisions that a schedule would have made, each from the candles of its day;
what the models in use said of the days that followed. Out: a decision (`retraining`,
`decisions`), words and pages (`simulation_report`).

All three ways answer the same rows, each by models that ended before them. The clock
takes every challenger; the schedule those that won; the third keeps the first model.
"""

from __future__ import annotations

import dataclasses
import itertools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from artifacts.model_registry import register_run
from artifacts.registry import Registry
from config import Config
from evaluation.backtest import backtest, trading_problem
from evaluation.evaluate import task_of
from experiments.candidates import Candidate, open_candidate
from files.progress import track
from files.strict import to_jsonable
from live import decisions
from live.retraining import (
    PROMOTED,
    champion_of,
    closed,
    end_of,
    seen_until,
    train_until,
    truth_and_losses,
)
from live.schedule import Schedule
from live.watching import judged_rows
from metrics import scores
from metrics.intervals import Length, paired_test
from predictor import Predictor
from utils import ConfigError, DataError

logger = logging.getLogger(__name__)

SCHEDULE, NEVER, CLOCK = "schedule", "never", "clock"
WAYS = {
    SCHEDULE: "by the schedule",
    NEVER: "never retrained",
    CLOCK: "every challenger taken",
}
_DAY = pd.Timedelta(1, "D")
_ALARM_STEP = pd.Timedelta(7, "D")
"""Between looks where an alarm may ask for one."""


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """What a schedule would have done.

    Args:
        schedule: Its name.
        first: First row that is judged, UTC.
        last: The last one.
        decisions: As in `decisions.jsonl`.
        ways: Of each of `WAYS`: `loss`, `skill` against the first model's train prior
            (numbers: persistence), `trading` of all rows as one.
        gains: Of the schedule over each other way: mean loss taken away, its interval
            and p-value.
        periods: Rows between looks: `first`, `rows`, and the skill of each way.
        promotions: How often the alias moved.
        minutes: Of training, on the wall.
    """

    schedule: str
    first: str
    last: str
    decisions: Sequence[Mapping[str, Any]]
    ways: Mapping[str, Mapping[str, Any]]
    gains: Mapping[str, Mapping[str, Any]]
    periods: Sequence[Mapping[str, Any]]
    promotions: int
    minutes: float

    def to_dict(self) -> dict[str, Any]:
        """Returns strict JSON values."""
        found: dict[str, Any] = to_jsonable(vars(self))
        return found


def simulate(
    schedule: Schedule, candles: pd.DataFrame, *, start: str | None = None
) -> Simulation:
    """Follows a schedule from a day of the past on, and judges what it would have done.

    Everything is made in `{outputs_dir}/simulations/{name}`. A simulation that was
    stopped goes on: decisions that are there are taken.

    Args:
        schedule: The rules; its champion gives the configuration.
        candles: All candles of the pair and timeframe.
        start: Day of the first model's newest bar; None: the middle of the candles.

    Raises:
        ConfigError: If the champion cannot be retrained, or the start is no day.
        DataError: If too few candles are left before or after it.
    """
    _, source = champion_of(schedule)
    config = source.config
    begin = _begin(candles, start)
    folder = folder_of(schedule)
    own = dataclasses.replace(
        schedule, outputs_dir=str(folder), webhook=None, command=None
    )
    with decisions.owned(own):
        first = _first_model(own, config, candles, begin)
        _follow(own, config, candles, begin)
    made = decisions.read_decisions(own.folder)
    return _judged(own, candles, first, made)


def folder_of(schedule: Schedule) -> Path:
    """Returns the folder of outputs of a simulation."""
    return Path(schedule.outputs_dir) / "simulations" / schedule.name


def _begin(candles: pd.DataFrame, start: str | None) -> pd.Timestamp:
    times = candles["timestamp"]
    if start is None:
        return (times.iloc[0] + (times.iloc[-1] - times.iloc[0]) / 2).floor("D")
    try:
        found = pd.Timestamp(start)
    except ValueError as error:
        raise ConfigError(
            f"--start: expected a day such as 2024-07-01. Received: {start!r:.50}"
        ) from error
    return found if found.tzinfo else found.tz_localize("UTC")


def _first_model(
    schedule: Schedule, config: Config, candles: pd.DataFrame, begin: pd.Timestamp
) -> str:
    """Returns the id of the model that is in use at the beginning."""
    registry = Registry(schedule.outputs_dir)
    folder = train_until(schedule, config, candles, begin)
    entry = register_run(
        config.replace(outputs_dir=schedule.outputs_dir), folder, alias=None
    )
    if schedule.alias not in registry.aliases(entry.group).names():
        registry.set_alias(entry.model_id, schedule.alias)
    return entry.model_id


def _follow(
    schedule: Schedule, config: Config, candles: pd.DataFrame, begin: pd.Timestamp
) -> None:
    """Looks at each moment at which the schedule may ask for a challenger."""
    made = decisions.read_decisions(schedule.folder)
    reached = max((pd.Timestamp(each["now"]) for each in made), default=begin)
    moments = [
        now
        for now in _moments(schedule, config, begin, end_of(candles, config))
        if now > reached
    ]
    pending = schedule.folder / decisions.PENDING
    if pending.is_file():
        moments.insert(0, reached)
    for now in track(moments, "look", len(moments)):
        found = decisions.look(schedule, closed(candles, config, now))
        if found.duel:
            logger.info("%s: %s", f"{now:%Y-%m-%d %H:%M}", decisions.words(found))


def _moments(
    schedule: Schedule, config: Config, begin: pd.Timestamp, end: pd.Timestamp
) -> list[pd.Timestamp]:
    steps = []
    if schedule.every_days is not None:
        steps.append(schedule.every_days * _DAY)
    if schedule.every_bars is not None:
        steps.append(schedule.every_bars * pd.Timedelta(config.bar_seconds, "s"))
    if schedule.on_alarm:
        steps.append(_ALARM_STEP)
    step = min(steps)
    if begin + step > end:
        raise DataError(
            f"expected candles for at least one look, {step} behind {begin:%Y-%m-%d}. "
            f"Received: candles that end {end:%Y-%m-%d %H:%M}. Choose an earlier "
            "--start."
        )
    return list(pd.date_range(begin + step, end, freq=step))


# Judging


def _judged(
    schedule: Schedule,
    candles: pd.DataFrame,
    first: str,
    made: Sequence[Mapping[str, Any]],
) -> Simulation:
    """Returns what each way would have said of the same rows."""
    answers = _Answers(Registry(schedule.outputs_dir), candles)
    tables, bounds = _tables(answers, first, made)
    config, prior = answers.of(first).config, answers.of(first).learned.class_prior
    found = {way: truth_and_losses(each, config) for way, each in tables.items()}
    losses = {way: each for way, (_, each) in found.items()}
    first_said: Any = {"train_prior": prior}
    reference = task_of(config.target).reference_losses(
        found[NEVER][0], first_said, lambda name: tables[NEVER][name].to_numpy()
    )
    length = Length.of(
        len(reference),
        horizon_bars=config.future_window,
        bar_seconds=config.bar_seconds,
    )
    times = tables[NEVER]["timestamp"]
    return Simulation(
        schedule=schedule.name,
        first=times.iloc[0].isoformat(),
        last=times.iloc[-1].isoformat(),
        decisions=made,
        ways={
            way: {
                "loss": float(losses[way].mean()),
                "skill": _skill(losses[way], reference),
                "trading": _trading(table, config),
            }
            for way, table in tables.items()
        },
        gains={
            way: paired_test(losses[way], losses[SCHEDULE], length=length)
            for way in (NEVER, CLOCK)
        },
        periods=[
            {
                "first": times.iloc[start].isoformat(),
                "rows": int(stop - start),
                "skill": {
                    way: _skill(each[start:stop], reference[start:stop])
                    for way, each in losses.items()
                },
            }
            for start, stop in itertools.pairwise(bounds)
        ],
        promotions=sum(each["outcome"] == PROMOTED for each in made),
        minutes=sum(each["seconds"] for each in made) / 60,
    )


class _Answers:
    """What models say of candles, each opened once."""

    def __init__(self, registry: Registry, candles: pd.DataFrame) -> None:
        self._registry, self._candles = registry, candles
        self._opened: dict[str, Candidate] = {}

    def of(self, name: str) -> Candidate:
        """Returns an opened model with the rows of the candles."""
        if name not in self._opened:
            predictor = Predictor(self._registry.open(name).path)
            fields = {"baseline_model": False, "report": "light"}
            self._opened[name] = open_candidate(predictor, self._candles, fields)
        return self._opened[name]

    def between(
        self, name: str, start: pd.Timestamp, end: pd.Timestamp | None
    ) -> pd.DataFrame | None:
        """Returns what a model says of the rows of a stretch; None where none are."""
        each = self.of(name)
        times = each.rows.timestamps[each.is_usable]
        inside = times >= start.tz_localize(None).to_datetime64()
        if end is not None:
            inside &= times < end.tz_localize(None).to_datetime64()
        return judged_rows(each, times[inside]) if inside.any() else None


def _tables(
    answers: _Answers, first: str, made: Sequence[Mapping[str, Any]]
) -> tuple[dict[str, pd.DataFrame], np.ndarray]:
    """Returns what each way says of all rows, and where the looks lie among these."""
    used = dict.fromkeys(WAYS, first)
    stretches = [(seen_until(answers.of(first).predictor), dict(used))]
    for each in made:
        if each["challenger"] is None:
            continue
        used[CLOCK] = each["challenger"]
        if each["outcome"] == PROMOTED:
            used[SCHEDULE] = each["challenger"]
        stretches.append((pd.Timestamp(each["now"]), dict(used)))
    ends: list[pd.Timestamp | None] = [start for start, _ in stretches[1:]]
    parts: dict[str, list[pd.DataFrame]] = {way: [] for way in WAYS}
    for (start, models), end in zip(stretches, [*ends, None], strict=True):
        found = {name: answers.between(name, start, end) for name in {*models.values()}}
        for way, name in models.items():
            if (table := found[name]) is not None:
                parts[way].append(table)
    if not parts[NEVER]:
        raise DataError(
            "expected rows with a known outcome behind the first model. Received: "
            "none. Give more candles, or an earlier --start."
        )
    bounds = np.cumsum([0, *map(len, parts[NEVER])])
    return {k: pd.concat(v, ignore_index=True) for k, v in parts.items()}, bounds


def _skill(losses: np.ndarray, reference: np.ndarray) -> float | None:
    return scores.skill(float(losses.mean()), float(reference.mean()))


def _trading(table: pd.DataFrame, config: Config) -> dict[str, Any]:
    """Returns what the signals earned, one position at a time."""
    if problem := trading_problem(table):
        return {"skipped": problem}
    signals = table["signal"].to_numpy()
    return backtest(table, signals, config, horizon_bars=config.future_window)
