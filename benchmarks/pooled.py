"""One model of several pairs beside one of each pair, on the same test rows.

Every family is trained on the rows of all pairs together and on those of each pair
alone, cut at the same moments, each pair with its own scale; raw log-losses of the test
part are compared row by row, with intervals of moments, at which all pairs move
together. A pair that is left out of the pool shows what a model says of one that it
never saw.

    python benchmarks/pooled.py BTCUSDT-1h.parquet ETHUSDT-1h.parquet \\
        [--models lightgbm lstm] [--FIELD VALUE ...]

Flags of `trainer.py` are those of all runs.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from common import machine

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from candles.table import read_candles, resample_candles
from data_loader import TrainingDataLoader
from dataset.rows import own_timeframe
from dataset_builder import build_training_file
from metrics import scores
from metrics.intervals import Length, paired_test
from metrics.wording import p_value
from settings import options
from settings.names import member_config, stated_pair
from trainer import StandaloneTrainer

MODELS = ("logistic", "gradient_boosting", "lightgbm")


def losses(data, adapter):
    """Returns the log-loss of each test target (num_targets,)."""
    rows = data.parts["test"].targets
    said = adapter.predict_rows(data, rows)
    return scores.row_losses(data.labels[rows], said)[:, 0]


def fitted(data, config):
    """Returns an adapter that has learned from data."""
    trainer = StandaloneTrainer(config)
    trainer.initialize_components()
    trainer.data = data
    trainer.create_generators()
    trainer.build_model()
    trainer.setup_callbacks()
    trainer.train_model()
    return trainer.adapter


def by_moment(times, values):
    """Returns the mean of values at each time, as far as the mean of all moves."""
    _, places = np.unique(times, return_inverse=True)
    count, mean = int(places.max()) + 1, values.mean()
    sums = np.bincount(places, values - mean, count)
    return mean + sums * count / len(values)


def compare(model, config, alone):
    """Prints each pair, and all of them, by one family.

    `alone` has the data of each pair's own run.
    """
    config = config.replace(model=model)
    data = TrainingDataLoader(config=config).load_training_data()
    targets, said = data.parts["test"].targets, losses(data, fitted(data, config))
    rows = []
    for pair, cut, own in data.each_pair():
        member = member_config(config, pair)
        known = scores.row_losses(
            own.labels[own.parts["test"].targets],
            np.tile(own.class_prior, (len(own.parts["test"].targets), 1)),
        )[:, 0]
        single = losses(alone[pair], fitted(alone[pair], member))
        unseen = others_alone(config, pair, own)
        times = own.timeline.at(own.parts["test"].targets)
        pooled = said[(targets >= cut.start) & (targets < cut.stop)]
        rows.append((pair, times, pooled, single, known, unseen))
    several = len(rows) > 2
    for pair, *columns in rows:
        told(model, pair, config, columns, has_unseen=several)
    joined = [
        np.concatenate(each) for each in zip(*(r[1:5] for r in rows), strict=True)
    ]
    told(model, "together", config, [*joined, None], has_unseen=False)


def others_alone(config, pair, own):
    """Returns the losses by a pool without a pair; None where one other is left."""
    rest = tuple(name for name in config.pooled_pairs if name != pair)
    if len(rest) < 2:
        return None
    less = config.replace(pooled_pairs=rest, pair=type(config).pair)
    data = TrainingDataLoader(config=less).load_training_data()
    raw = TrainingDataLoader(
        config=member_config(config, pair), scaler_type="none", clip_limit=1e30
    ).load_training_data({k: (p.start, p.stop) for k, p in own.parts.items()})
    scaled = data.pipeline.scaled(raw.features.copy())
    return losses(dataclasses.replace(own, features=scaled), fitted(data, less))


def told(model, name, config, columns, *, has_unseen):
    times, pooled, single, known, unseen = columns
    length = Length.of(
        len(np.unique(times)),
        horizon_bars=config.future_window,
        bar_seconds=config.bar_seconds,
    )
    test = paired_test(
        by_moment(times, pooled), by_moment(times, single), length=length
    )
    skills = [1 - each.mean() / known.mean() for each in (single, pooled)]
    ends = "no interval"
    if test["low"] is not None:
        ends = f"[{test['low']:+.4f}, {test['high']:+.4f}], {p_value(test['p_value'])}"
    line = (
        f"{model:<18} {name:<9} {len(pooled):>7,} rows   skill alone {skills[0]:+.4f}, "
        f"pooled {skills[1]:+.4f}   loss {test['estimate']:+.4f} {ends}"
    )
    if has_unseen and unseen is not None:
        line += f"   never seen {1 - unseen.mean() / known.mean():+.4f}"
    print(line, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("candles", nargs="+", type=Path)
    parser.add_argument("--models", nargs="+", default=MODELS)
    parsed, rest = parser.parse_known_args()
    logging.disable(logging.WARNING)
    print(machine())
    files = {}
    for path in parsed.candles:
        files.setdefault(stated_pair(path.name), []).append(path)
    with tempfile.TemporaryDirectory() as folder:
        _, config = options.parse(rest)
        config = config.replace(
            pooled_pairs=tuple(files), inputs_dir=folder, outputs_dir=folder
        )
        for pair, paths in files.items():
            member, tables = member_config(config, pair), map(read_candles, paths)
            table = joined(list(tables))
            if (own := own_timeframe(table, member)) != config.timeframe:
                table = resample_candles(table, config.timeframe, source_timeframe=own)
            build_training_file(table, member)
        data = TrainingDataLoader(config=config).load_training_data()
        alone = {}
        for pair, _, own in data.each_pair():
            ranges = {name: (part.start, part.stop) for name, part in own.parts.items()}
            loader = TrainingDataLoader(config=member_config(config, pair))
            alone[pair] = loader.load_training_data(ranges)
            test = own.parts["test"]
            moments = [*own.timestamps[[0, -1]], own.timeline.at(test.start)]
            first, last, tested = (str(moment)[:16] for moment in moments)
            print(f"{pair}: {first} to {last}, test from {tested}")
        for model in parsed.models:
            compare(model, config, alone)


def joined(tables):
    """Returns the candles of several files of one pair."""
    return tables[0] if len(tables) == 1 else pd.concat(tables, ignore_index=True)


if __name__ == "__main__":
    main()
