"""Decisions that survive a kill: one line each, one at a time.

In: the lock, the pending look, `decisions.jsonl`, telling, keeping few. Out: what is
decided (`retraining`).

A look is written down before it begins, with the moment and what asked for it. Whoever
comes after a kill goes on with that look, as of that moment: what it had trained and
promoted is found and not done again, and the line is written once.
"""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from artifacts.entries import ACTIVE
from artifacts.registry import Registry
from candles.sources import resolve_candles
from config import Config
from dataset.context_files import read_with_context
from files.atomic import atomic_write
from files.locks import FileLock
from files.periods import plan_periods
from files.strict import parse_json, write_json
from live.retraining import (
    ABANDONED,
    KEPT,
    PROMOTED,
    ROLLED_BACK,
    Decision,
    champion_of,
    closed,
    decide,
    end_of,
    seen_until,
    trigger_of,
)
from live.schedule import Schedule
from utils import DependencyError, InUseError, StopSignals, UserError

logger = logging.getLogger(__name__)

LOOKED = (PROMOTED, KEPT, ABANDONED)
"""Outcomes after which the rows of a look score nobody again."""
DECISIONS, PENDING = "decisions.jsonl", "pending.json"
_SECONDS_BETWEEN_LOOKS, _POLL_SECONDS = 60.0, 0.2


def read_decisions(folder: Path) -> list[dict[str, Any]]:
    """Returns the lines of `decisions.jsonl`, in order; DataError where one is none."""
    path = folder / DECISIONS
    if not path.is_file():
        return []
    lines = path.read_bytes().splitlines()
    return [parse_json(line, path) for line in lines]


@contextlib.contextmanager
def owned(schedule: Schedule) -> Iterator[Path]:
    """Has the schedule's folder alone.

    Raises:
        InUseError: If another process has it.
    """
    folder = schedule.folder
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / "lock")
    if not lock.acquire():
        raise InUseError(
            f"{folder}: expected nobody else to follow this schedule. Received: "
            f"{lock.owner()}. Wait for it, or stop it."
        )
    try:
        yield folder
    finally:
        lock.release()


def read_now(schedule: Schedule) -> pd.DataFrame:
    """Reads the candles of the champion's pair and timeframe, without an open bar.

    Months that are missing are loaded before, where the schedule says so.

    Raises:
        MissingInputError: If there are none.
        DataError: If they are no good candles of the pair.
    """
    _, predictor = champion_of(schedule)
    config = predictor.config
    if schedule.download is not None:
        _download(schedule, config)
    return closed(
        read_candles_of(schedule, schedule.candles),
        config,
        pd.Timestamp.now(tz="UTC"),
    )


def read_candles_of(schedule: Schedule, paths: Sequence[str]) -> pd.DataFrame:
    """Reads candle files or folders as the champion's own were read.

    Raises:
        MissingInputError: If there are none.
        DataError: If they are no good candles of its pair.
    """
    _, predictor = champion_of(schedule)
    config = predictor.config
    files = resolve_candles(list(paths), config, data_dir=Path("data"))
    return predictor.pipeline.checked(read_with_context(files, config))


def _download(schedule: Schedule, config: Config) -> None:
    """Loads what is missing into the first folder of candles."""
    try:
        from candles.archives import BASE_URL, Fetcher, download_archives
    except ImportError as error:
        raise DependencyError(
            "download: expected the package requests. Received: none. Install it: pip "
            "install -r requirements-data.txt"
        ) from error
    today = datetime.now(UTC).date()
    folder, start = Path(schedule.candles[0]), str(schedule.download_from)
    download_archives(
        config.pair,
        config.timeframe,
        plan_periods(start, today.isoformat(), today=today),
        market=folder.name,
        output_dir=folder.parent,
        fetcher=Fetcher(base_url=schedule.download_url or BASE_URL),
    )


def look(schedule: Schedule, candles: pd.DataFrame) -> Decision:
    """Decides once, or goes on with what was begun; writes and tells what came of it.

    Args:
        schedule: The rules; its folder must be owned.
        candles: A candle table up to now.

    Raises:
        UserError: As `retraining.decide` does.
    """
    folder = schedule.folder
    pending, made = folder / PENDING, read_decisions(folder)
    looked = [pd.Timestamp(each["now"]) for each in made if each["outcome"] in LOOKED]
    since = max(looked, default=None)
    begun = _begun(pending)
    name, predictor = champion_of(schedule)
    if begun is None:
        read_until = seen_until(predictor)
        reached = read_until if since is None else max(read_until, since)
        trigger = trigger_of(schedule, predictor, candles, reached)
        now = end_of(candles, predictor.config)
        if not trigger or now - reached < pd.Timedelta(schedule.duel_days, "D"):
            return decide(schedule, candles, since=since, trigger=trigger)
        begun = {"now": now.isoformat(), "trigger": trigger, "champion": name}
        write_json(pending, begun)
    known = closed(candles, predictor.config, pd.Timestamp(begun["now"]))
    found = _made(made, begun)
    if found is None:
        of_look = {key: begun[key] for key in ("trigger", "champion")}
        found = decide(schedule, known, since=since, **of_look)
        _append(folder / DECISIONS, found)
        tell(schedule, found)
    _keep_few(schedule)
    pending.unlink()
    return found


def _begun(pending: Path) -> dict[str, Any] | None:
    """Returns the look that was begun and has not ended."""
    return parse_json(pending.read_bytes(), pending) if pending.is_file() else None


def _made(made: list[dict[str, Any]], begun: dict[str, Any]) -> Decision | None:
    """Returns the line of a look that died after it was written."""
    for each in made[-1:]:
        if each["now"] == begun["now"]:
            return Decision(**each)
    return None


def _append(path: Path, found: Decision) -> None:
    """Adds a line; the file is whole at every moment."""
    before = path.read_bytes() if path.is_file() else b""
    line = json.dumps(found.to_dict(), allow_nan=False) + "\n"
    atomic_write(path, before + line.encode())


def tell(schedule: Schedule, found: Decision) -> None:
    """Tells the schedule's hooks of a decision."""
    what = {"event": "retrain", "schedule": schedule.name}
    schedule.hooks.send(what | found.to_dict())


def _keep_few(schedule: Schedule) -> None:
    """Archives the oldest challengers that nothing points at."""
    registry, made = Registry(schedule.outputs_dir), read_decisions(schedule.folder)
    names = [*dict.fromkeys(each["challenger"] for each in made if each["challenger"])]
    for name in names[: -schedule.keep]:
        # One that others build on stays; one that was deleted is gone already.
        with contextlib.suppress(UserError):
            entry = registry.get(name)
            if entry.status == ACTIVE and not registry.aliases_of(entry):
                registry.archive(name)


def rollback(schedule: Schedule, now: pd.Timestamp) -> Decision:
    """Points the alias at the champion before, and writes that down.

    A look that was begun ends here: going on with it could promote again what is
    taken back.

    Raises:
        ConfigError: If there is none.
    """
    name, _ = champion_of(schedule)
    registry = Registry(schedule.outputs_dir)
    if registry.read_alias(schedule.group, schedule.alias)["previous"]:
        _abandon(schedule)
    entry = registry.rollback(schedule.group, schedule.alias)
    found = Decision(
        now=now.isoformat(),
        trigger="rollback",
        outcome=ROLLED_BACK,
        reason=f"{schedule.champion} is {entry.model_id} again",
        champion=name,
    )
    _append(schedule.folder / DECISIONS, found)
    tell(schedule, found)
    return found


def _abandon(schedule: Schedule) -> None:
    """Ends a look that was begun, in a line; its rows score nobody again."""
    pending = schedule.folder / PENDING
    begun = _begun(pending)
    if begun is None:
        return
    if _made(read_decisions(schedule.folder), begun) is None:
        reason = "a rollback was asked for"
        found = Decision(outcome=ABANDONED, reason=reason, **begun)
        _append(schedule.folder / DECISIONS, found)
        tell(schedule, found)
    pending.unlink()


def follow(schedule: Schedule) -> None:
    """Looks again and again until a signal comes.

    What may be mended meanwhile, missing candles or a server that is away, is told and
    ends nothing.
    """
    with StopSignals(is_deferred=True) as signals:
        while signals.received is None:
            try:
                found = look(schedule, read_now(schedule))
                if found.duel:
                    logger.info("%s", words(found))
            except UserError as error:
                logger.error("%s", error)
            until = time.monotonic() + _SECONDS_BETWEEN_LOOKS
            while signals.received is None and time.monotonic() < until:
                time.sleep(_POLL_SECONDS)


def words(found: Decision) -> str:
    """Returns a decision in one line."""
    who = f": {found.challenger} against {found.champion}" if found.challenger else ""
    return f"{found.outcome} ({found.trigger or 'no trigger'}){who}; {found.reason}"
