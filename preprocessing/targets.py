"""Which rows of each part are targets, and why the others are none.

In: windows and label bars inside parts and segments, the words of a refusal. Out: where
parts lie (`parts`), which training targets are learned from (`balance`).
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from config import Config
from dataset.lengths import warm_up_words
from dataset.rows import shorter_warm_ups
from preprocessing.parts import PART_NAMES, chronological_ranges, spans_of
from preprocessing.training_data import Part
from utils import DataError

logger = logging.getLogger(__name__)

_KEEP_EVERY_BAR = (
    "Keep every bar in the file and say with a column is_target which rows are "
    "targets; class_balancing thins classes without removing bars."
)


def segment_starts_of(segment_ids: np.ndarray) -> np.ndarray:
    """Returns the (num_segments,) first row of each run of equal ids."""
    return np.flatnonzero(np.diff(segment_ids, prepend=segment_ids[0] - 1))


def split_targets(
    ranges: Mapping[str, Any],
    segment_starts: np.ndarray,
    eligible: np.ndarray,
    config: Config,
    *,
    open_ends: Collection[int],
) -> dict[str, Part]:
    """Gives each range of rows its targets.

    A part that ends at one of `open_ends` keeps the targets whose label bars lie behind
    it.

    The embargo is taken from the end of the earlier part, so that validation and test
    stay the same rows whatever its length.
    """
    num_rows = len(eligible)
    window, future = config.sequence_length, config.future_window
    row = np.arange(num_rows, dtype=np.int32)
    usable = eligible & window_fits(segment_starts, num_rows, window)
    parts = {}
    for name in PART_NAMES:
        embargo = 0 if name == PART_NAMES[-1] else config.embargo_bars
        spans, found = [], []
        for start, stop in spans_of(ranges[name]):
            inside = max(start, stop - embargo)
            end = inside if inside in open_ends else inside - future
            targets = row[start + window - 1 : max(start + window - 1, end)]
            spans.append((start, inside))
            found.append(targets[usable[targets]])
        targets = np.concatenate(found)
        if not len(targets):
            wanted = " and ".join(f"{start} to {stop}" for start, stop in spans)
            held = sum(stop - start for start, stop in spans)
            raise DataError(
                f"{name}: expected rows {wanted} to hold at least one "
                f"window of {window} bars with its {future} label bars inside one "
                f"segment. Received: {held} rows of {num_rows}"
                f"{_gaps_or_length(spans, segment_starts, num_rows, config)}"
            )
        parts[name] = Part(spans=tuple(spans), targets=targets)
    return parts


def window_fits(segment_starts: np.ndarray, num_rows: int, window: int) -> np.ndarray:
    """Returns the rows at which a window fits into their own segment (num_rows,)."""
    fits = np.ones(num_rows, bool)
    for start in segment_starts.tolist():
        fits[start : start + window - 1] = False
    return fits


def _gaps_or_length(
    spans: Sequence[tuple[int, int]],
    segment_starts: np.ndarray,
    num_rows: int,
    config: Config,
) -> str:
    """Returns why a part has no window, and the cure, as the end of a refusal."""
    stretches = []
    for start, stop in spans:
        inside = segment_starts[(segment_starts > start) & (segment_starts < stop)]
        stretches += np.diff([start, *inside, stop]).tolist()
    needed = config.sequence_length + config.future_window
    if len(stretches) == len(spans) or sum(stretches) < needed:
        return (
            ". Use a longer file, a shorter sequence_length or future_window, or other "
            "splits."
        )
    window = config.sequence_length
    fits = window_fits(segment_starts, num_rows, window)
    return (
        f" in {len(stretches)} stretches without a gap, the longest of "
        f"{max(stretches)}: bars are missing before "
        f"{np.count_nonzero(~fits[window - 1 :])} rows of the file. {_KEEP_EVERY_BAR}"
    )


def tell_few_targets(
    segment_starts: np.ndarray, eligible: np.ndarray, window: int
) -> None:
    """Says how many rows cannot be targets, and why; a file's first window aside."""
    num_rows = len(eligible)
    fits = window_fits(segment_starts, num_rows, window)
    after_gaps = int(np.count_nonzero(~fits[window - 1 :]))
    unknown = int(np.count_nonzero(fits & ~eligible))
    usable = int(np.count_nonzero(fits & eligible))
    reasons = []
    if after_gaps:
        reasons.append(
            f"bars are missing before {after_gaps:,} (a window is {window} bars "
            "without a gap)"
        )
    if unknown:
        reasons.append(f"{unknown:,} filled, marked, or without a known outcome")
    text = f"{usable:,} of {num_rows:,} rows can be targets; {'; '.join(reasons)}"
    if 2 * usable < num_rows and reasons:
        cure = f". {_KEEP_EVERY_BAR}" if after_gaps else ""
        logger.warning("only %s%s", text, cure)
    elif after_gaps:
        logger.info("%s", text)


def refusal_words(
    error: DataError,
    ranges: Mapping[str, Any],
    source: Mapping[str, Any],
    config: Config,
) -> str:
    """Returns a refusal of parts with the file, and the warm-ups that would help.

    Args:
        error: Of `split_targets`.
        ranges: Rows of each part.
        source: What is known of the file.
        config: The run.
    """
    path, warm_up = map(source.get, ("path", "warm_up_bars"))
    text = f"{path}: {error}" if path else str(error)
    if warm_up and (shorter := _helpful_warm_ups(ranges, warm_up, config)):
        text += f" Before its first row, {warm_up_words(warm_up, shorter, config)}."
    return text


def _helpful_warm_ups(
    ranges: Mapping[str, Any], warm_up_bars: int, config: Config
) -> dict[str, int]:
    """Returns the shorter warm-ups of feature sets that leave each part its window.

    Of parts by their shares alone: given days do not move. None helps where the parts
    are long enough, and something else is wrong.
    """
    num_rows = spans_of(ranges[PART_NAMES[-1]])[-1][1]
    if config.train_end is not None or ranges != chronological_ranges(num_rows, config):
        return {}

    def fits(num_rows: int) -> bool:
        least = config.sequence_length + config.future_window
        needs = dict.fromkeys(PART_NAMES, least + config.embargo_bars)
        needs[PART_NAMES[-1]] = least
        parts = chronological_ranges(num_rows, config)
        return all(stop - start >= needs[name] for name, (start, stop) in parts.items())

    shorter = shorter_warm_ups(config, warm_up_bars)
    if fits(num_rows):
        return {}
    return {k: v for k, v in shorter.items() if fits(num_rows + warm_up_bars - v)}


def tell_silent_features(train: np.ndarray, names: Sequence[str]) -> None:
    """Warns of training columns (num_rows, num_features) that never change."""
    low, high = train.min(axis=0), train.max(axis=0)
    silent = [
        f"{name} (always {value:g})"
        for name, value, other in zip(names, low, high, strict=True)
        if value == other
    ]
    if silent:
        logger.warning(
            "nothing to learn from in all %s training rows: %s",
            f"{len(train):,}",
            ", ".join(silent),
        )
