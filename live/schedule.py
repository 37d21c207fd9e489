"""When a champion is renewed, from what, and what a challenger has to show.

In: YAML -> one frozen schedule, or everything that is wrong with it. Out: doing it
(`retraining`).
"""

from __future__ import annotations

import dataclasses
import functools
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from files.hooks import Hooks
from settings import sources
from settings.part import Part, field
from settings.run_fields import WORD
from settings.values import checked
from utils import ConfigError, did_you_mean


@dataclass(frozen=True, kw_only=True)
class Schedule(Part):
    """Retraining.

    Attributes:
        champion: Alias that is served and renewed: family/PAIR-timeframe-target@NAME.
        candles: Files or folders of candles, with all of the look-back.
        outputs_dir: Folder of models, registry, and of `retraining/{name}`.
        name: Of the schedule; a file's own name where it says none.
        every_days: Days of candles after which a challenger is trained; None: not by
            the clock.
        every_bars: The same in new bars.
        on_alarm: Train when `live watch` of the champion says alarm, too.
        rolling_days: Days of candles that a challenger learns from and chooses on; None
            takes all there are.
        warm_start: Challengers of a network begin with the champion's weights.
        duel_days: Days of the newest candles that are held back, on which both are
            scored.
        tolerance: Share of the champion's loss that the lower end of the challenger's
            gain may lie below 0.
        keep: Challengers that stay registered beside those in use; older ones are
            archived.
        download: `binance` loads the months since `download_from` before each look
            into the first of `candles`, a folder `spot` or `futures`; None reads what
            is there.
        download_from: First month, YYYY-MM.
        download_url: Server of the archives; None is the public one.
        webhook: Address that is told of each decision; see `files.hooks`.
        command: Command that is told of each decision.
    """

    champion: str = ""
    candles: tuple[str, ...] = ()
    outputs_dir: str = "outputs"
    name: str = "schedule"
    every_days: float | None = field(None, gt=0)
    every_bars: int | None = field(None, ge=1)
    on_alarm: bool = False
    rolling_days: float | None = field(None, gt=0)
    warm_start: bool = False
    duel_days: float = field(14.0, gt=0)
    tolerance: float = field(0.0, ge=0, le=1)
    keep: int = field(5, ge=1)
    download: str | None = field(None, choices=("binance",))
    download_from: str | None = None
    download_url: str | None = None
    webhook: str | None = None
    command: str | None = None

    def problems(self) -> list[str]:
        """Returns what is missing and what contradicts, one line each."""
        problems = []
        if "@" not in self.champion or self.champion.count("/") != 1:
            problems.append(
                "champion: expected an alias of the registry such as "
                f"lstm/ETHUSDT-1m-signal@champion. Received: {self.champion!r:.100}"
            )
        if not self.candles:
            problems.append("candles: expected files or folders. Received: none")
        if not WORD.fullmatch(self.name):
            problems.append(
                "name: expected up to 64 letters, digits, '.', '_' and '-'. Received: "
                f"{self.name!r:.100}"
            )
        if not (self.every_days or self.every_bars or self.on_alarm):
            problems.append(
                "every_days, every_bars, on_alarm: expected at least one of them. "
                "Received: none"
            )
        if self.every_days is not None and self.every_days < self.duel_days:
            problems.append(
                "every_days: expected at least duel_days, because rows that decided "
                f"once decide no more. Received: {self.every_days:g} and "
                f"{self.duel_days:g}"
            )
        if (self.download is None) != (self.download_from is None):
            problems.append(
                "download, download_from: expected both or neither. Received: "
                f"{self.download} and {self.download_from}"
            )
        folder = self.candles[0] if self.candles else ""
        if self.download and Path(folder).name not in ("spot", "futures"):
            problems.append(
                "candles: expected a folder spot or futures first, to download into. "
                f"Received: {folder!r:.100}"
            )
        return problems

    @property
    def group(self) -> str:
        """Group of the registry: family/PAIR-timeframe-target."""
        return self.champion.partition("@")[0]

    @property
    def alias(self) -> str:
        """Name of the alias in its group."""
        return self.champion.partition("@")[2]

    @property
    def folder(self) -> Path:
        """Where decisions, training files and the lock are."""
        return Path(self.outputs_dir) / "retraining" / self.name

    @property
    def hooks(self) -> Hooks:
        """Who is told of a decision."""
        return Hooks(webhook=self.webhook, command=self.command)


def read_schedule(path: str) -> Schedule:
    """Reads a schedule from YAML; its file's name stands for a missing `name`.

    Raises:
        MissingInputError: If there is no such file.
        ConfigError: Listing everything that is wrong with it.
    """
    return make_schedule({"name": Path(path).stem} | sources.read_yaml(path))


def make_schedule(values: Mapping[str, Any]) -> Schedule:
    """Returns a schedule from its fields by name.

    Raises:
        ConfigError: Listing everything that is wrong with them.
    """
    types = _types()
    limits = {each.name: each.metadata for each in dataclasses.fields(Schedule)}
    problems, given = [], {}
    for key, value in values.items():
        if key not in types:
            near = did_you_mean(str(key), types)
            problems.append(f"unknown key {key!r:.100}.{near}")
            continue
        if key == "candles" and isinstance(value, str):
            value = [value]
        try:
            given[key] = checked(value, types[key], limits[key])
        except ValueError as error:
            problems.append(f"{key}: {error}")
    found = Schedule(**given)
    problems += found.problems()
    if problems:
        lines = "".join(f"\n  - {line}" for line in problems)
        raise ConfigError(f"the schedule cannot be followed:{lines}")
    _ = found.hooks  # refuses an address that is none
    return found


@functools.cache
def _types() -> dict[str, Any]:
    return typing.get_type_hints(Schedule)
