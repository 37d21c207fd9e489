"""Rows of several pairs as one table: whose rows are where, which moments cut them.

In: joining what was read of each pair, parts of all of them, a scale for each. Out:
reading one pair's file (`data_loader`), what a part promises (`training_data`).

Pairs stand one after another, so windows and labels stay in their own. Parts begin and
end at the same moments in all: what one market did later is never learned from in
another.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from config import Config
from dataset.training_file import Rows
from files.strict import sha256_json
from preprocessing.parts import PART_NAMES, Range, Timeline, chronological_ranges
from preprocessing.templates import column_pairs, run_pipeline
from preprocessing.training_data import PairRows, Part
from settings.names import member_config
from utils import DataError


@dataclass(frozen=True, kw_only=True, eq=False)
class PooledRows(Rows):
    """Rows of several training files, one pair after another.

    Args:
        stretches: Pair -> first row and row after its last.
        sources: Pair -> where its rows come from.
        open_ends: Rows after the last one of the pairs whose file ends there.
    """

    stretches: Mapping[str, Range]
    sources: Mapping[str, Mapping[str, Any]]
    open_ends: tuple[int, ...]


def pool_rows(
    found: Mapping[str, Rows], used: Callable[[np.ndarray], slice]
) -> PooledRows:
    """Joins the rows of several pairs.

    Args:
        found: Rows of each pair.
        used: Returns the rows that are used, of their times.

    Raises:
        DataError: If their columns differ.
    """
    first, (name, *_) = next(iter(found.values())), found
    for pair, rows in found.items():
        for what, own, other in (
            ("features", first.feature_names, rows.feature_names),
            ("outcome columns", tuple(first.outcomes), tuple(rows.outcomes)),
        ):
            if own != other:
                lone = sorted(set(own) ^ set(other)) or list(other)
                raise DataError(
                    f"pooled_pairs: expected the same {what} in the files of all pairs."
                    f" Received: {name} and {pair} differ in {', '.join(lone[:6])}. "
                    "Build all files with the same feature sets."
                )
    kept = {pair: used(rows.timestamps) for pair, rows in found.items()}
    sizes = [cut.stop - cut.start for cut in kept.values()]
    edges = np.concatenate([[0], np.cumsum(sizes)]).tolist()
    stretches = dict(zip(found, itertools.pairwise(edges), strict=True))
    ends = [
        stretches[pair][1]
        for pair, cut in kept.items()
        if cut.stop == len(found[pair].timestamps)
    ]

    def joined(column: Callable[[Rows], Any]) -> np.ndarray:
        return np.concatenate(
            [column(rows)[kept[pair]] for pair, rows in found.items()]
        )

    def segments() -> np.ndarray:
        pieces, last = [], 0
        for pair, rows in found.items():
            ids = rows.segment_ids[kept[pair]]
            pieces.append(ids - ids[0] + last + 1)
            last = int(pieces[-1][-1])
        return np.concatenate(pieces)

    is_number = first.log_returns is not None
    return PooledRows(
        features=joined(lambda rows: rows.features),
        feature_names=first.feature_names,
        labels=first.labels if is_number else joined(lambda rows: rows.labels),
        log_returns=joined(lambda rows: rows.log_returns) if is_number else None,
        timestamps=joined(lambda rows: rows.timestamps),
        segment_ids=segments(),
        is_target=joined(lambda rows: rows.is_target),
        outcomes={
            key: joined(lambda rows, key=key: rows.outcomes[key])  # type: ignore[misc]
            for key in first.outcomes
        },
        source=_pooled_source({pair: rows.source for pair, rows in found.items()}),
        stretches=stretches,
        sources={pair: rows.source for pair, rows in found.items()},
        open_ends=tuple(ends),
    )


def _pooled_source(sources: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Returns what is true of the files of all pairs, and of each under `pairs`."""
    first = next(iter(sources.values()))
    same = {
        key: value
        for key, value in first.items()
        if all(other.get(key) == value for other in sources.values())
    }
    digests = [sources[pair]["sha256"] for pair in sorted(sources)]
    doubts = [
        f"{pair}: {doubt}"
        for pair, source in sources.items()
        for doubt in source.get("doubts", ())
    ]
    return same | {
        "path": ", ".join(str(source["path"]) for source in sources.values()),
        "sha256": sha256_json(digests),
        "rows": sum(source["rows"] for source in sources.values()),
        "built_by_us": all(source.get("built_by_us") for source in sources.values()),
        "doubts": doubts,
        "pairs": {pair: dict(source) for pair, source in sources.items()},
    }


def pooled_ranges(
    pool: PooledRows, timeline: Timeline, config: Config
) -> dict[str, list[Range]]:
    """Returns the rows of each part, one range for each pair, cut at the same moments.

    Shares are of the rows of all pairs together, in order of time.

    Raises:
        DataError: If a pair has no row in a part.
    """
    times = timeline.array()
    if config.train_end is not None:
        cuts = []
        for pair, stretch in pool.stretches.items():
            try:
                cuts.append(chronological_ranges(timeline.between(*stretch), config))
            except DataError as error:
                raise DataError(f"{pair}: {error}") from error
    else:
        ordered = np.sort(times)
        whole = chronological_ranges(len(ordered), config)
        moments = ordered[[whole[name][0] for name in PART_NAMES[1:]]]
        cuts = []
        for start, stop in pool.stretches.values():
            inner = np.searchsorted(times[start:stop], moments).tolist()
            edges = itertools.pairwise([0, *inner, stop - start])
            cuts.append(dict(zip(PART_NAMES, edges, strict=True)))
    ranges: dict[str, list[Range]] = {name: [] for name in PART_NAMES}
    for (pair, (start, stop)), cut in zip(pool.stretches.items(), cuts, strict=True):
        for name, (first, last) in cut.items():
            if first >= last:
                raise DataError(
                    f"{pair}: expected rows of each pooled pair in every part. Received"
                    f": none in {name}, of a file from {times[start]} to "
                    f"{times[stop - 1]}. Give all the days that it has (start_date, "
                    "end_date), or leave it out."
                )
            ranges[name].append((start + first, start + last))
    return ranges


def require_targets(pool: PooledRows, parts: Mapping[str, Part]) -> None:
    """Refuses a pool of which a pair has no target in a part.

    Raises:
        DataError: Naming the pair and the part.
    """
    for name, part in parts.items():
        for pair, (start, stop) in pool.stretches.items():
            inside = (part.targets >= start) & (part.targets < stop)
            if not inside.any():
                raise DataError(
                    f"{pair}: expected a target of each pooled pair in every part. "
                    f"Received: none in {name}. Use a longer file of it, or leave it "
                    "out."
                )


def scale_pairs(
    pool: PooledRows, features: np.ndarray, train: Part, config: Config
) -> tuple[np.ndarray, tuple[PairRows, ...]]:
    """Scales the rows of each pair by its own training rows.

    Args:
        pool: Where they are.
        features: Of all (num_rows, num_features), overwritten.
        train: The training part, a range for each pair.
        config: The run of the pool.

    Returns:
        What a model reads (num_rows, num_columns), and whose rows are where.
    """
    found, columns = [], column_pairs(config)
    result = features
    if columns:
        shape = (len(features), features.shape[1] + len(columns))
        result = np.empty(shape, np.float32)
    pairs = zip(pool.stretches.items(), train.spans, strict=True)
    for (pair, (start, stop)), span in pairs:
        rows, learned = slice(start, stop), features[slice(*span)]
        what = (member_config(config, pair), pool.feature_names, pool.sources[pair])
        alone = run_pipeline(*what).fit(learned)
        steps = alone
        if columns:
            steps = run_pipeline(*what, pairs=columns).fit(learned)
        result[rows] = steps.scaled(features[rows])
        found.append(
            PairRows(name=pair, start=start, stop=stop, pipeline=steps, alone=alone)
        )
    return result, tuple(found)
