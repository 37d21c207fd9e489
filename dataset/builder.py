"""Candles + features + targets -> datasets and training files, cached.

In: the order of the steps, which rows are kept, what is cached under which key, the
description beside the file. Out: the mathematics of features (`features`) and targets
(`labels`), reading candles (`candles.table`), the file's contract (`training_file`),
what is said about a dataset (`dataset`) and shown of it (`reports.dataset`), the
command line (`dataset_builder`).
"""

from __future__ import annotations

import functools
import logging
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

import utils
from candles.sources import (
    Candles,
    CandleSource,
    find_candles,
    read_checked,
    resolve_candles,
)
from candles.synthetic import synthetic_candles
from config import DATASET_FIELDS, Config
from dataset import dataset as datasets
from dataset import fingerprints, training_file
from dataset import rows as dataset_rows
from dataset.barriers import barrier_notes
from dataset.cache import DEFAULT_MAX_BYTES, DatasetCache
from dataset.context_files import ContextSource, find_context, read_context
from dataset.dataset import Dataset
from dataset.lengths import short_test_notes, unused_segment_lines
from files.progress import track
from settings import names as file_names
from settings.names import plain_pair
from utils import ConfigError, DataError

logger = logging.getLogger(__name__)

DEMO_PAIR = "DEMOUSDT"
DEMO_BARS = 300_000
DEMO_SEED = 7
CACHE_FOLDER = ".cache"


class DatasetBuilder:
    """Builds datasets of one configuration, and keeps what it built.

    Two tables are cached: the features of every bar, which all targets share, and the
    outcomes of the rows that are kept. Their keys are digests of the candle bytes, the
    parameters and the code; a set of the user's counts by its source.

    Args:
        config: What to build; None means defaults.
        data_dir: Folder with files such as `ETHUSDT-1m.parquet` or the archives that
            `python -m candles download` fetched, for pairs that come without candles.
        cache_dir: Folder of the cache; None is `.cache` in the `inputs_dir`.
        use_cache: Whether to read and write it.
        max_cache_bytes: Size at which the least recently used tables go.
        **fields: Configuration fields by name, which win over `config`.

    Example:
        >>> builder = DatasetBuilder(feature_sets=("core8", "ray12"))
        >>> dataset = builder.build_dataset("ETHUSDT", "1m", "data/ETHUSDT-1m.parquet")
        >>> dataset.features.shape, dataset.metadata["label_shares"]
    """

    def __init__(
        self,
        config: Config | None = None,
        *,
        data_dir: str | os.PathLike[str] = "data",
        cache_dir: str | os.PathLike[str] | None = None,
        use_cache: bool = True,
        max_cache_bytes: int = DEFAULT_MAX_BYTES,
        **fields: Any,
    ) -> None:
        self.config = (config or Config()).replace(**fields)
        self.data_dir = Path(data_dir)
        self.use_cache = use_cache
        self.cache = DatasetCache(
            cache_dir or Path(self.config.inputs_dir) / CACHE_FOLDER,
            max_bytes=max_cache_bytes,
        )

    def build_dataset(
        self,
        pair: str | None = None,
        timeframe: str | None = None,
        candles: CandleSource = None,
        *,
        context: ContextSource | None = None,
    ) -> Dataset:
        """Builds the dataset of one pair and timeframe, or takes it from the cache.

        Args:
            pair: Trading pair; None is the configuration's.
            timeframe: Length of a bar; finer candles are resampled to it.
            candles: A candle table, a candle file or several; None looks in `data_dir`.
            context: Those of context pairs by pair; others are looked for beside the
                files of the pair, and in `data_dir`.

        Returns:
            The rows that have their whole look-back and their whole future. Cached rows
            are read, page by verified page, when they are first asked for.

        Raises:
            MissingInputError: If there are no candles.
            DataError: If they break their contract, or leave no row.
        """
        given = {"pair": pair, "timeframe": timeframe}
        config = self.config.replace(
            **{k: v for k, v in given.items() if v is not None}
        )
        source = resolve_candles(candles, config, data_dir=self.data_dir)
        others = find_context(context, config, beside=source, data_dir=self.data_dir)
        for name, each in others.items():
            what = "a table" if isinstance(each, pd.DataFrame) else str(each[0])
            logger.info("context %s: %s", name, what)
        keys = fingerprints.dataset_keys(source, config, others)
        if self.use_cache and "features" in keys:
            names = fingerprints.cached_names(source, keys, others)
            rest = self.cache.facts("outcomes", names["outcomes"])
            if rest and self.cache.facts("features", names["features"]) is not None:
                rows = functools.partial(self._load, source, others, config, keys)
                return Dataset(frame=rows, metadata=rest["metadata"])
        return self._build(source, others, config, keys)

    def build_multi_symbol_dataset(
        self,
        candles: Mapping[str, CandleSource] | Iterable[str | tuple[str, CandleSource]],
        timeframe: str | None = None,
    ) -> dict[str, Dataset]:
        """Builds the dataset of every pair, or of none: all refusals are told together.

        Args:
            candles: Pairs, with or without their candles (see `build_dataset`).
            timeframe: Length of a bar; None is the configuration's.

        Returns:
            The datasets by pair, in the given order.

        Raises:
            DataError: If a pair is given twice, or candles are refused.
            MissingInputError: If nothing but missing candles is the reason.
        """
        given = candles.items() if isinstance(candles, Mapping) else candles
        items = [(item, None) if isinstance(item, str) else item for item in given]
        if not items:
            raise ConfigError("expected at least one pair. Received: none.")
        plain = Counter(plain_pair(pair) for pair, _ in items)
        twice = [pair for pair, _ in items if plain[plain_pair(pair)] > 1]
        if twice:
            raise DataError(
                f"expected each pair once. Received: {', '.join(twice)}. Give all "
                "files of a pair together."
            )
        result, refused = {}, []
        for pair, source in track(items, "pair", len(items)):
            try:
                result[pair] = self.build_dataset(pair, timeframe, source)
            except (DataError, utils.MissingInputError) as error:
                refused.append((pair, error))
        if len(refused) == 1:
            raise type(refused[0][1])(f"{refused[0][0]}: {refused[0][1]}")
        if refused:
            lines = "\n".join(f"  {pair}: {error}" for pair, error in refused)
            missing = all(isinstance(e, utils.MissingInputError) for _, e in refused)
            kind = utils.MissingInputError if missing else DataError
            raise kind(f"{len(refused)} of {len(items)} pairs refused:\n{lines}")
        return result

    def validate_dataset(
        self, dataset: Dataset | pd.DataFrame | str | os.PathLike[str]
    ) -> list[str]:
        """Returns one line for each finding, all at once; empty for a good dataset.

        Args:
            dataset: A dataset, a training file's frame, or its path.
        """
        if isinstance(dataset, pd.DataFrame):
            dataset = Dataset(frame=dataset, metadata={})
        elif not isinstance(dataset, Dataset):
            dataset = datasets.read_dataset(dataset)
        return datasets.find_problems(dataset)

    def write_dataset(self, dataset: Dataset) -> Path:
        """Writes a dataset under the name of its own parameters; returns the path.

        Raises:
            DataError: If it does not state them all.
            ConfigError: If `training_file` names another dataset or format.
        """
        return training_file.write_training_file(
            self._path_of(dataset), dataset.frame, dataset.metadata
        )

    def _path_of(self, dataset: Dataset) -> Path:
        stated = dict(dataset.metadata.get("parameters", {}))
        known = {name: getattr(Config(), name) for name in DATASET_FIELDS}
        known |= {"pair": self.config.pair, "timeframe": self.config.timeframe}
        days = dataset.metadata.get("dates", {})
        known |= {f"{edge}_date": day for edge, day in days.items()}
        config = self.config.replace(**known | stated)
        absent = [name for name in config.dataset_parameters if name not in stated]
        if absent and config.training_file is None:
            raise DataError(
                "expected a dataset that states what it was built with. Received: one "
                f"without {', '.join(absent)}. Name the file with training_file."
            )
        path = config.expected_path
        problems = file_names.filename_mismatches(path.name, config)
        if file_names.is_cut_otherwise(path.name, config):
            problems.append("days: the file name says others")
        if problems:
            lines = "".join(f"\n  - {line}" for line in problems)
            raise ConfigError(
                f"training_file: {path.name} is the name of another dataset:{lines}\n"
                f"Leave it out, or take {config.expected_filename}."
            )
        return path

    def _load(
        self,
        source: Candles,
        others: dict[str, Candles],
        config: Config,
        keys: dict[str, str],
        names: Sequence[str] | None,
    ) -> pd.DataFrame:
        """Returns cached columns; where they are damaged or gone by now, built anew."""
        cached = fingerprints.cached_names(source, keys, others)
        known = self.cache.load("features", cached["features"], names)
        rest = self.cache.load("outcomes", cached["outcomes"], names) if known else None
        if known is not None and rest is not None:
            frame = dataset_rows.assemble(known[0], rest[0], rest[1]["kept"])
            return frame if names is None else frame[list(names)]
        if keys != fingerprints.dataset_keys(source, config, others):
            raise DataError(
                "expected the candles that the cached rows were made from. Received: "
                "others, and the cache has lost the rows. Build the dataset again."
            )
        frame = self._build(source, others, config, keys).frame
        return frame if names is None else frame[list(names)]

    def _build(
        self,
        source: Candles,
        others: dict[str, Candles],
        config: Config,
        keys: dict[str, str],
    ) -> Dataset:
        cache = self.cache if self.use_cache and "features" in keys else None
        names = fingerprints.cached_names(source, keys, others)
        known = cache.load("features", names["features"]) if cache else None
        parts = dataset_rows.build_parts(
            read_checked(source, config),
            config,
            others=read_context(others, config),
            feature_table=known and known[0],
        )
        parts.metadata["digests"] = keys
        dataset = parts.dataset()
        # Files that changed while they were read have another key by now.
        if cache is not None and keys == fingerprints.dataset_keys(
            source, config, others
        ):
            if known is None:
                cache.store("features", names["features"], parts.features, {})
            facts = {"kept": parts.kept, "metadata": dataset.metadata}
            cache.store("outcomes", names["outcomes"], parts.outcomes, facts)
        return dataset

    def get_cache_info(self) -> dict[str, Any]:
        """Returns folder, size, cap and tables of the cache, the latest used first."""
        return self.cache.info()

    def clear_cache(self) -> int:
        """Empties the cache; returns how many tables it had."""
        return self.cache.clear()


def build_training_frame(
    candles: pd.DataFrame,
    config: Config,
    *,
    context: Mapping[str, pd.DataFrame] | None = None,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Turns a checked candle table into the rows of a training file, without a cache.

    Args:
        candles: Candle table (docs/contracts.md), of the configuration's timeframe
            or finer.
        config: Pair, timeframe, features and target.
        context: Checked candle tables of the context pairs.

    Returns:
        The frame, and its description: counts, ranges, label mix, parameters.

    Raises:
        DataError: If no row has both its whole look-back and its whole future.
    """
    built = dataset_rows.build_parts(candles, config, others=context).dataset()
    return built.frame, dict(built.metadata)


def build_training_file(
    candles: pd.DataFrame, config: Config, *, context: ContextSource | None = None
) -> Path:
    """Builds the training file of `config` from a candle table; returns its path."""
    builder = DatasetBuilder(config, use_cache=False)
    built = builder.build_dataset(candles=candles, context=context)
    return write_training_file(builder, built)


def build_memory(config: Config, data_dir: Path) -> int:
    """Returns about what a build takes above the imports, in bytes; 0 of no candles.

    Measured, with 20 and 53 columns: 14 and 23 times the bytes of Parquet files.
    """
    try:
        files = find_candles(data_dir, config.pair, config.timeframe)
    except utils.UserError:
        return 0  # which the build will say
    return sum(
        (10 if {*path.suffixes} & {".csv", ".json"} else 25) * path.stat().st_size
        for path in files
    )


def demo_candles(
    *, num_bars: int = DEMO_BARS, seed: int = DEMO_SEED, strength: float = 1.0
) -> pd.DataFrame:
    """Returns the embedded demo market: synthetic, with a planted direction signal."""
    return synthetic_candles(num_bars, seed=seed, strength=strength)


def write_training_file(builder: DatasetBuilder, built: Dataset) -> Path:
    """Writes a training file and says what is in it."""
    path = builder.write_dataset(built)
    facts = built.metadata
    logger.info(
        "%s\n  %s from %s, %s to %s\n  %s filled, %s",
        path,
        utils.counted(facts["num_rows"], "row", "rows"),
        utils.counted(facts["num_candles"], "candle", "candles"),
        facts["first"],
        facts["last"],
        utils.counted(facts["num_filled_bars"], "bar", "bars"),
        utils.counted(facts["num_segments"], "segment", "segments"),
    )
    if "label_shares" in facts:
        shares = facts["label_shares"].items()
        logger.info("  %s", ", ".join(f"{name} {part:.1%}" for name, part in shares))
    for line in unused_segment_lines(facts):
        logger.warning("  not used: %s", line)
    doubts = [*facts.get("doubts", ()), *builder.validate_dataset(built)]
    notes = barrier_notes(builder.config, facts.get("usual_move_pct"))
    notes += short_test_notes(builder.config, facts)
    for problem in [*doubts, *notes]:
        logger.warning("  doubtful: %s", problem)
    return path
