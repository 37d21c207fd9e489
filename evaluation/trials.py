"""How often a test part was looked at: the number that its Sharpe ratio is deflated by.

In: earlier runs of the same outputs folder whose test rows overlap, the runs that a
series has planned for them, and the search that a run came from. Out: deflating
(`metrics.significance`), what is claimed (`verdict`).

A choice among models that looked at the same rows favours the luckiest. Runs of one
configuration on one file are one look, however often they are repeated.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from artifacts import evaluations
from config import LABELS, Config
from data_loader import TrainingData
from evaluation.part_scores import Judged
from evaluation.results import Trials, Tuning
from files.strict import read_json, sha256_json, to_jsonable
from utils import UserError

logger = logging.getLogger(__name__)

FIRST_LOOK = Trials(num_trials=1, num_earlier=0, num_planned=0, num_unreadable=0)
NO_CHOICE = frozenset(
    ("inputs_dir", "outputs_dir", "training_file", "tensorboard", "verbose_logging")
    + ("checkpoint_minutes", "device", "recovery", "allow_swap", "allocator")
    + LABELS
)
"""Fields that change nothing that is judged; a file is known by its digest."""
Search = Callable[[Config, Judged, Any], Tuning | None]
"""Says of a run, its answers and its results how it was found; None of other runs."""
_PLANNED: ContextVar[frozenset[str]] = ContextVar("planned", default=frozenset())
_SEARCH: ContextVar[Search | None] = ContextVar("search", default=None)


def planned_trials(
    configs: Iterable[Config],
) -> contextlib.AbstractContextManager[None]:
    """Counts runs that will look at the same test part before they have done so.

    A series, a sweep or a registry names all its runs; those of one pair and timeframe
    are then judged as one of so many, the first like the last.
    """
    return planned_looks(map(look_of, configs))


@contextlib.contextmanager
def planned_looks(looks: Iterable[str]) -> Iterator[None]:
    """Does the same, given `look_of` of each run."""
    token = _PLANNED.set(_PLANNED.get() | {*looks})
    try:
        yield
    finally:
        _PLANNED.reset(token)


def looks_planned() -> list[str]:
    """Returns the looks that are planned here, to be planned in another process."""
    return sorted(_PLANNED.get())


def look_of(config: Config) -> str:
    """Returns what a run looks at, and as what: pair, timeframe, a digest."""
    return f"{config.pair} {config.timeframe} {_identity(config.to_dict())}"


@contextlib.contextmanager
def searched(search: Search) -> Iterator[None]:
    """Lets the report of each run say which search it came from; see `add_search`."""
    token = _SEARCH.set(search)
    try:
        yield
    finally:
        _SEARCH.reset(token)


def add_search(results: Any, config: Config, judged: Judged) -> None:
    """Adds `tuning` to the results of a run that a search chose."""
    search = _SEARCH.get()
    found = search(config, judged, results) if search is not None else None
    if found is not None:
        results["tuning"] = to_jsonable(found)


def count_trials(
    data: TrainingData, config: Config, *, file_digest: str | None = None
) -> Trials:
    """Returns how many runs looked at the test part of a run, this one included.

    Counted are published runs of the pair and timeframe below `outputs_dir` whose test
    rows overlap in time, and later evaluations of runs on such rows, by configuration
    and file, and what `planned_trials` named. A folder that cannot be read is counted
    as such, and nothing more.

    Args:
        data: Its `test` are the rows that are looked at.
        config: The run.
        file_digest: SHA-256 of the file that the run was trained on; None: of `data`.
    """
    rows = data.parts["test"].targets
    first, last = (f"{data.timeline.at(rows[end])}Z" for end in (0, -1))
    return count_looks(
        config, first, last, file_digest=file_digest or data.source.get("sha256")
    )


def count_looks(
    config: Config, first: str, last: str, *, file_digest: str | None
) -> Trials:
    """Returns `count_trials` of a run whose test rows go from one moment to another.

    Args:
        config: The run.
        first: Time of its first test row, as its report says.
        last: Time of its last one.
        file_digest: SHA-256 of the file that it was trained on.
    """
    own = (_identity(config.to_dict()), file_digest)
    earlier, num_unreadable = set(), 0
    # outputs/models/{PAIR}/{model}/{run_id}
    paths = [*config.model_dir.parent.glob("*/*/metadata_*.json")]
    paths += (Path(config.outputs_dir) / evaluations.FOLDER).glob(
        f"*/*/{evaluations.ABOUT}"
    )
    for path in paths:
        if path.parent.is_symlink():
            continue
        try:
            look = _look(path, config, first, last)
        except (UserError, OSError, LookupError, TypeError, AttributeError) as error:
            logger.debug("%s: not counted as a look at the test part: %s", path, error)
            num_unreadable += 1
            continue
        if look is not None:
            earlier.add(look)
    seen = {identity for identity, _ in earlier} | {own[0]}
    market = f"{config.pair} {config.timeframe} "
    planned = {
        look.removeprefix(market) for look in _PLANNED.get() if look.startswith(market)
    }
    num_earlier, num_planned = len(earlier - {own}), len(planned - seen)
    return {
        "num_trials": 1 + num_earlier + num_planned,
        "num_earlier": num_earlier,
        "num_planned": num_planned,
        "num_unreadable": num_unreadable,
    }


def _look(path: Path, config: Config, first: str, last: str) -> tuple[str, Any] | None:
    """Returns configuration and file of a run that looked at these rows, or None."""
    metadata = read_json(path)
    values, split = metadata["config"], metadata["split"]
    looked, file = split["test"], metadata["data"].get("sha256")
    if path.name == evaluations.ABOUT:
        looked, file = split["evaluated"], metadata["lineage"]["training_file_sha256"]
    if (values["pair"], values["timeframe"]) != (config.pair, config.timeframe):
        return None
    if looked["first"] > last or looked["last"] < first:
        return None
    return _identity(values), file


def _identity(values: Mapping[str, Any]) -> str:
    """Returns a digest of the fields of a configuration that decide its numbers."""
    return sha256_json({k: v for k, v in values.items() if k not in NO_CHOICE})
