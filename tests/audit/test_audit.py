"""Every planted leak is found by its name; clean files pass."""

import dataclasses
import functools
import hashlib
import logging
import pickle
import sys

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import KFold, TimeSeriesSplit
from world.frames import make_frame

import trainer
from audit import (
    column_skill,
    feature_files,
    file_candles,
    findings,
    gap_fills,
    label_timing,
    leading,
    learned_columns,
    lookahead,
    recomputed,
    run,
    split_checks,
)
from candles.synthetic import synthetic_candles
from candles.table import fill_gaps, read_candles
from config import Config
from data_loader import TrainingDataLoader
from dataset import builder as dataset_builder
from dataset import features, timeframes
from dataset.builder import build_training_frame, demo_candles
from preprocessing.scaling import FeatureScaler
from utils import ConfigError, DataError, MissingInputError

CONFIG = Config(
    pair="TESTUSDT",
    feature_sets=("ray12",),
    sequence_length=20,
    future_window=60,
    undersampling_min_samples=1000,
)


@pytest.fixture(scope="module")
def market():
    """30,000 minutes, of which 900 are missing in runs of three."""
    table = synthetic_candles(30_000, seed=5)
    gone = np.arange(1000, 28_000, 90)[:, None] + np.arange(3)
    return table.drop(index=gone.ravel()).reset_index(drop=True)


@pytest.fixture(scope="module")
def clean(market):
    return build_training_frame(market, CONFIG)[0]


@pytest.fixture(scope="module", autouse=True)
def remembered():
    """Half of an audit is what bars and columns say that no test here has changed."""

    def once(function):
        answers = {}

        @functools.wraps(function)
        def call(*given, **options):
            asked = hashlib.sha256(pickle.dumps((given, options))).digest()
            if asked not in answers:
                answers[asked] = function(*given, **options)
            return answers[asked]

        return call

    with pytest.MonkeyPatch.context() as patch:
        for owner, name in (
            (leading, "_news"),
            (leading, "_leads"),
            (learned_columns, "_form"),
        ):
            patch.setattr(owner, name, once(getattr(owner, name)))
        yield


@pytest.fixture
def register(monkeypatch):
    monkeypatch.setattr(features, "_REGISTRY", dict(features._REGISTRY))
    return features.feature_set


def load(frame, config=CONFIG, **fields):
    return TrainingDataLoader.from_frame(frame, config=config.replace(**fields))


def load_raw(frame):
    return load(
        frame, scaler_type="none", clip_limit=1e30, class_balancing_method="none"
    ).load_training_data()


def leaks(report):
    return [item.check for item in report.leaks]


def outcomes(report):
    return {item.check: item.outcome for item in report.findings}


# Clean files


def test_clean_file_passes_every_check(market, clean):
    report = run.run_audit(CONFIG, frame=clean, candles=market)
    assert set(outcomes(report).values()) == {"passed"}, str(report)
    assert list(outcomes(report)) == [
        "feature looks ahead",
        "file unlike its functions",
        "gaps filled from the future",
        "unpurged split",
        "fitted beyond train",
        "file scaled as a whole",
        "column copies an outcome",
        "column learned over all rows",
        "price fitted to later rows",
        "column is interpolated",
        "shifted label",
        "column of a later bar",
        "feature too good",
    ]
    last = "no leak found: 13 passed, 0 doubtful, 0 leaks, 0 not done"
    assert str(report).splitlines()[-1] == last
    report.require_clean()


def test_candles_of_a_part_of_the_file_prove_that_part_alone(market, clean):
    """A column that leaks where there are no candles is held against the bars."""
    newest = market.iloc[-5000:]
    old = clean["timestamp"] < newest["timestamp"].iloc[0]
    name, changed = load_raw(clean).feature_names[0], clean.copy()
    ahead = np.log(clean["close"].shift(-5) / clean["close"]).astype(np.float32)
    changed[name] = changed[name].mask(old, ahead)
    report = run.run_audit(CONFIG, frame=changed, candles=newest)
    found = outcomes(report)
    assert found["row without a candle"] == "not done", str(report)
    assert found["file unlike its functions"] == "passed", str(report)
    assert found["column leads the price"] == "doubtful"
    assert found["column of a later bar"] == "leak"


def test_what_a_file_does_not_allow_is_listed_as_not_done(clean):
    report = run.run_audit(CONFIG, frame=clean)
    assert outcomes(report)["file unlike its functions"] == "not done"
    assert "on a synthetic market" in report.findings[0].what
    foreign = make_frame(3000)
    report = run.run_audit(CONFIG, frame=foreign)
    assert leaks(report) == []
    assert [k for k, v in outcomes(report).items() if v == "not done"] == [
        "feature looks ahead",
        "file unlike its functions",
        "gaps filled from the future",
        "price fitted to later rows",
        "column leads the price",
        "column leads the volatility",
        "column leads the volume",
        "shifted label",
        "column of a later bar",
    ]
    assert "--feature-sets" in report.findings[0].what


@pytest.mark.parametrize("strength", [1.0, 0.0])
def test_clean_demo_market_passes(strength):
    table = demo_candles(num_bars=150_000, strength=strength)
    config = Config(pair="DEMOUSDT", n_splits=5)
    frame, _ = build_training_frame(table, config)
    report = run.run_audit(config, frame=frame, candles=table)
    assert set(outcomes(report).values()) == {"passed"}, str(report)


@pytest.mark.parametrize("name", ["ETHUSDT-1m", "BTCUSDT-1h"])
def test_clean_real_file_passes_and_a_shifted_one_fails(shared_data, name):
    table = read_candles(shared_data / f"{name}.parquet")
    config = Config(pair=name.split("-")[0], timeframe=name.split("-")[1])
    frame, _ = build_training_frame(table, config)
    report = run.run_audit(config, frame=frame, candles=table)
    assert set(outcomes(report).values()) == {"passed"}, str(report)
    frame["label"] = frame["label"].shift(1, fill_value=1)
    assert leaks(run.run_audit(config, frame=frame)) == ["shifted label"]


@pytest.mark.parametrize("target", ["return", "price", "direction"])
def test_other_targets_are_audited(market, target):
    config = CONFIG.replace(target=target)
    frame, _ = build_training_frame(market, config)
    report = run.run_audit(config, frame=frame, candles=market)
    assert set(outcomes(report).values()) == {"passed"}, str(report)
    if target == "direction":  # a number that the close refutes is refused before
        frame["label"] = frame["label"].shift(2, fill_value=1)
        assert leaks(run.run_audit(config, frame=frame)) == ["shifted label"]


@pytest.mark.parametrize("target", ["return", "price"])
def test_candles_give_the_log_returns_of_either_number(market, target):
    config = CONFIG.replace(target=target)
    data = load(build_training_frame(market, config)[0], config).load_training_data()
    bars = fill_gaps(market, "1m")
    again = recomputed.recompute(data, bars, config, has_features=False)
    known = np.isfinite(again.outcomes)
    returns = data.log_returns(np.arange(data.num_rows))
    np.testing.assert_allclose(again.outcomes[known], returns[known], atol=1e-7)
    assert known.mean() > 0.9


# Features that look ahead


def centred(bars, *, keep_ends):
    def function(candles, context):
        close = candles["close"]
        least = 1 if keep_ends else None
        mean = close.rolling(bars, center=True, min_periods=least).mean()
        return pd.DataFrame({"price_to_centred": close / mean})

    return function


@pytest.mark.parametrize("keep_ends", [True, False])
@pytest.mark.parametrize("bars", [3, 31])
def test_centred_mean_is_named_with_its_reach(market, register, bars, keep_ends):
    register("mine", warm_up_bars=bars)(centred(bars, keep_ends=keep_ends))
    bars_filled = fill_gaps(market, "1m")
    finding = lookahead.check_feature_sets(
        bars_filled, CONFIG.replace(feature_sets=("ray12", "mine"))
    )
    assert (finding.check, finding.outcome) == ("feature looks ahead", "leak")
    assert finding.evidence["bars_ahead"] == {"price_to_centred": bars // 2}
    assert "price_to_centred reads at least" in finding.what


def test_file_with_a_centred_mean_fails_by_name(market, register):
    register("mine", warm_up_bars=31)(centred(31, keep_ends=True))
    config = CONFIG.replace(feature_sets=("ray12", "mine"))
    frame, _ = build_training_frame(market, config)
    report = run.run_audit(config, frame=frame, candles=market)
    assert set(leaks(report)) == {"feature looks ahead", "feature too good"}
    assert outcomes(report)["file unlike its functions"] == "not done"
    # The functions need no candles of the file to be seen through.
    assert "feature looks ahead" in leaks(run.run_audit(config, frame=frame))
    # A file whose functions nobody knows shows it by what it knows.
    report = run.run_audit(CONFIG, frame=frame)
    assert leaks(report) == ["feature too good"]
    with pytest.raises(DataError, match=r"expected no leak\. Received: feature too go"):
        report.require_clean()


def test_join_of_a_bar_that_is_not_closed_is_found(market, monkeypatch):
    config = CONFIG.replace(higher_timeframes=("15m",))
    bars = fill_gaps(market, "1m")
    assert lookahead.check_feature_sets(bars, config).outcome == "passed"
    honest = timeframes.join_higher_timeframe

    def early(candles, higher_features, **options):
        moved = higher_features.copy()
        moved["timestamp"] -= pd.Timedelta(minutes=1)
        return honest(candles, moved, **options)

    monkeypatch.setattr(timeframes, "join_higher_timeframe", early)
    finding = lookahead.check_feature_sets(bars, config)
    assert finding.outcome == "leak"
    assert all(name.endswith("_15m") for name in finding.evidence["bars_ahead"])


def test_statistics_of_all_rows_and_reaching_over_gaps(market, register):
    table = fill_gaps(market, "1m")

    def standardised(candles):
        close = candles["close"]
        return pd.DataFrame({"z": (close - close.mean()) / close.std()})

    finding = lookahead.check_look_back(table, standardised)
    assert finding.outcome == "leak"
    assert "z is computed over the whole table" in finding.what

    def next_volume(candles):
        volume = candles["volume"].where(~candles["is_filled"])
        return pd.DataFrame({"volume": volume.bfill().fillna(0.0)})

    # Only rows before a filled bar's next trade differ: 3 % of them.
    finding = lookahead.check_look_back(table, next_volume)
    assert finding.evidence["bars_ahead"]["volume"] >= 1


def test_a_function_that_differs_from_call_to_call_proves_nothing(market):
    rng = np.random.default_rng(0)
    finding = lookahead.check_look_back(
        market, lambda bars: pd.DataFrame({"noise": rng.standard_normal(len(bars))})
    )
    assert (finding.outcome, finding.check) == ("not done", "feature looks ahead")
    assert "noise: other values at each call" in finding.what


def test_a_difference_in_the_last_digit_is_a_leak():
    def last_digit(candles):
        close = candles["close"]
        following = close.shift(-1).fillna(close)
        return pd.DataFrame({"close": np.nextafter(close, following)})

    finding = lookahead.check_look_back(synthetic_candles(3000, seed=1), last_digit)
    assert finding.outcome == "leak"
    assert finding.evidence["bars_ahead"] == {"close": 1}


def test_the_farthest_reach_is_told():
    def next_fourth(candles):  # none to three bars ahead
        close = candles["close"].where(candles.index % 4 == 3)
        return pd.DataFrame({"fourth": close.bfill().fillna(0.0)})

    finding = lookahead.check_look_back(synthetic_candles(3000, seed=1), next_fourth)
    assert finding.evidence["bars_ahead"] == {"fourth": 3}


def test_a_table_is_cut_before_its_only_filled_bars():
    table = synthetic_candles(3000, seed=1).drop(index=[1500, 1501, 1502])
    table = fill_gaps(table.reset_index(drop=True), "1m")

    def next_traded_volume(candles):
        volume = candles["volume"].where(~candles["is_filled"])
        return pd.DataFrame({"volume": volume.bfill().fillna(0.0)})

    finding = lookahead.check_look_back(table, next_traded_volume)
    assert finding.outcome == "leak"


# A file that is not what its functions make of its candles


def test_rows_of_another_function_are_noticed(market, clean):
    names = features.feature_names(("ray12",))
    frame = clean.copy()
    frame[names[0]] = frame[names[0]].shift(-1).ffill()
    report = run.run_audit(CONFIG, frame=frame, candles=market)
    assert "file unlike its functions" in leaks(report)
    assert f"{names[0]} is that of row t+1" in report.findings[1].what
    frame = clean.copy()
    frame.loc[5000, names[1]] += 1.0
    report = run.run_audit(CONFIG, frame=frame, candles=market)
    assert leaks(report) == ["file unlike its functions"]
    assert f"{names[1]} differs in 1 row" in report.findings[1].what


def test_other_candles_are_refused(market, clean):
    other = synthetic_candles(30_000, seed=6)
    with pytest.raises(DataError, match=r"candles of the file\. Received: others"):
        run.run_audit(CONFIG, frame=clean, candles=other)
    later = market.assign(timestamp=market["timestamp"] + pd.Timedelta(days=900))
    with pytest.raises(DataError, match="none at any of its times"):
        run.run_audit(CONFIG, frame=clean, candles=later)


# Gaps


def interpolated(market):
    """Missing minutes on the line between their neighbours, volume 0."""
    table = market.set_index("timestamp").resample("min").asfreq()
    table["volume"] = table["volume"].fillna(0.0)
    return table.interpolate().reset_index()


def test_future_filled_gaps_are_named(market):
    filled = interpolated(market)
    frame, _ = build_training_frame(filled, CONFIG)
    report = run.run_audit(CONFIG, frame=frame, candles=market)
    assert leaks(report) == ["gaps filled from the future"]
    assert "bars without a candle have another price" in report.leaks[0].what
    report = run.run_audit(CONFIG, frame=frame, candles=filled)
    assert leaks(report) == ["gaps filled from the future"]
    # The closes of the file show it without any candles.
    report = run.run_audit(CONFIG, frame=frame)
    assert leaks(report) == ["gaps filled from the future"]
    assert "exactly on the line" in report.leaks[0].what


def test_the_next_price_in_a_gap_is_the_future(market):
    table = market.set_index("timestamp").resample("min").asfreq()
    table["volume"] = table["volume"].fillna(0.0)
    backward, forward = table.bfill().reset_index(), table.ffill().reset_index()
    finding = gap_fills.check_filled_gaps(backward)
    assert finding.outcome == "leak"
    assert finding.evidence["at_later_prices"] == 900
    finding = gap_fills.check_filled_gaps(forward)
    assert finding.outcome == "passed"
    assert finding.evidence["at_last_close"] == 900


def test_bars_that_are_marked_as_filled_need_no_volume(market):
    table = market.set_index("timestamp").resample("min").asfreq()
    rows = pd.DataFrame({"is_filled": table["close"].isna()})
    for close in (table["close"].bfill(), table["close"].interpolate()):
        finding = gap_fills.check_filled_gaps(rows.assign(close=close))
        assert finding.outcome == "leak"
        assert finding.evidence["at_later_prices"] == 900
    finding = gap_fills.check_filled_gaps(rows.assign(close=table["close"].ffill()))
    assert (finding.outcome, finding.evidence["at_last_close"]) == ("passed", 900)


def test_the_first_bar_of_a_segment_has_no_last_close():
    rng = np.random.default_rng(0)
    close = np.round(100 + np.cumsum(rng.standard_normal(400)), 2)
    close[::50] = close[1::50]  # no trade yet, at the price of the next one
    volume = np.where(np.arange(400) % 50, 1.0, 0.0)
    rows = pd.DataFrame({"close": close, "volume": volume})
    assert gap_fills.check_filled_gaps(rows).outcome == "leak"
    rows["segment"] = np.arange(400) // 50
    assert gap_fills.check_filled_gaps(rows).outcome == "passed"


def test_prices_on_a_grid_are_not_taken_for_interpolated():
    rng = np.random.default_rng(0)
    ticks = 5000 + np.cumsum(rng.integers(-1, 2, 50_000))
    close = pd.Series(np.round(ticks * 0.01, 2))
    on_line = (close.diff() == close.diff().shift(-1)) & (close.diff() != 0)
    assert on_line.sum() > 100
    assert gap_fills.check_filled_gaps(pd.DataFrame({"close": close})).outcome == (
        "passed"
    )
    close[1000:1004] = np.nan
    close[1004] = close[999] + 0.03
    finding = gap_fills.check_filled_gaps(pd.DataFrame({"close": close.interpolate()}))
    assert finding.outcome == "leak"
    assert finding.evidence["interpolated"] == 4


# Splits


def test_unpurged_splits_are_counted(clean):
    rows = load(clean).load_training_data().num_rows
    plain = {
        f"fold {k}": {"train": train, "test": test}
        for k, (train, test) in enumerate(TimeSeriesSplit(3).split(np.arange(rows)), 1)
    }
    report = run.run_audit(CONFIG, frame=clean, splits=plain)
    assert leaks(report) == ["unpurged split"]
    # 19 window rows before and 60 label bars behind each border.
    assert report.leaks[0].evidence["shared_bars"] == {
        f"fold {k}: train and test": 79 for k in (1, 2, 3)
    }
    assert "Leave out 79 targets at each border" in report.leaks[0].what
    gap = {
        "fold": dict(
            zip(
                ("train", "test"),
                list(TimeSeriesSplit(3, gap=79).split(np.arange(rows)))[-1],
                strict=True,
            )
        )
    }
    assert leaks(run.run_audit(CONFIG, frame=clean, splits=gap)) == []


def test_shuffled_folds_share_everything():
    folds = KFold(2, shuffle=True, random_state=0).split(np.arange(1000))
    train, test = next(folds)
    finding = split_checks.check_shared_bars(
        {"shuffled": {"train": train, "test": test}}, window_bars=20, future_window=60
    )
    assert finding.outcome == "leak"
    assert finding.evidence["shared_bars"]["shuffled: train and test"] > 1000


def test_folds_of_a_run_are_counted_against_its_test_too(clean):
    config = CONFIG.replace(n_splits=3)
    data = load(clean, config).load_training_data()
    splits = split_checks.split_targets(data, config)
    assert list(splits) == ["run", "fold 1", "fold 2", "fold 3"]
    assert list(splits["fold 2"]) == ["train", "validation", "test", "the run's test"]
    sizes = {"window_bars": 20, "future_window": 60}
    finding = split_checks.check_shared_bars(splits, **sizes)
    assert finding.what == "0 bars shared in 21 pairs of parts of 4 splits"
    late = dict(splits["fold 3"])
    late["test"] = late["test"] + 60
    finding = split_checks.check_shared_bars({"fold 3": late}, **sizes)
    assert finding.evidence["shared_bars"] == {"fold 3: test and the run's test": 60}


# What was fitted


@pytest.mark.parametrize("kind", ["robust", "standard", "minmax"])
@pytest.mark.parametrize("until", ["train", "validation", "test"])
def test_scaler_that_saw_more_than_train(clean, kind, until):
    data = load(clean, scaler_type=kind).load_training_data()
    raw = load_raw(clean)
    seen = raw.features[: data.parts[until].stop]
    scaler = FeatureScaler.fit(
        seen, data.feature_names, kind=kind, clip_limit=data.scaler.clip_limit
    )
    planted = dataclasses.replace(
        data,
        pipeline=data.pipeline.with_scaler(scaler),
        features=scaler.transform(raw.features),
    )
    exact = split_checks.check_fitted_on_train(planted, raw)
    quick = run.quick_audit(planted, CONFIG)
    if until == "train":
        assert exact.outcome == "passed"
        assert leaks(quick) == []
        return
    assert (exact.check, exact.outcome) == ("fitted beyond train", "leak")
    named = {"test": "fitted on every row", "validation": "on train and validation"}
    if kind != "minmax":  # whose extremes may be the same
        assert named[until] in exact.what
    assert leaks(quick) == ["fitted beyond train"]
    num_rows = data.parts["train"].stop - data.parts["train"].start
    assert f"train has {num_rows:,}" in str(quick).replace("\n", " ")
    # A scaler that claims to be of train is seen by what it made of those rows.
    train = data.parts["train"]
    own = dataclasses.replace(scaler, num_rows=train.stop - train.start)
    lying = dataclasses.replace(planted, pipeline=data.pipeline.with_scaler(own))
    if kind == "robust":  # clipped rows hide it for the others
        assert leaks(run.quick_audit(lying, CONFIG)) == ["fitted beyond train"]


def test_steps_of_a_model_below_are_fitted_to_rows_before_validation(clean):
    data = load(clean).load_training_data()
    border = data.parts["validation"].start
    own = dataclasses.replace(data.scaler, num_rows=7)
    for row, leaking in ((border - 1, []), (border, ["fitted beyond train"])):
        source = {"steps_learned_until": f"{data.timeline.at(row)}Z"}
        taken = dataclasses.replace(
            data,
            pipeline=data.pipeline.with_scaler(own),
            source=data.source | source,
        )
        assert leaks(run.quick_audit(taken, CONFIG)) == leaking


def test_clipping_prior_and_sampling_beyond_train(clean):
    data, raw = load(clean).load_training_data(), load_raw(clean)
    clipped = dataclasses.replace(data, features=data.features.clip(-1, 1))
    finding = split_checks.check_fitted_on_train(clipped, raw)
    assert "clipped otherwise" in finding.what
    every = np.arange(data.num_rows)
    prior = dataclasses.replace(data, class_prior=data.label_shares(every))
    finding = split_checks.check_fitted_on_train(prior, raw)
    assert finding.what == "the class prior is not that of the training part"
    parts = dict(data.parts)
    parts["validation"] = dataclasses.replace(
        parts["validation"], targets=parts["validation"].targets[::2]
    )
    thinned = dataclasses.replace(data, parts=parts)
    finding = split_checks.check_fitted_on_train(thinned, raw)
    assert finding.outcome == "leak" and "validation was thinned" in finding.what


@pytest.mark.parametrize("part", ["validation", "test"])
def test_a_trained_row_of_another_part_is_refused(clean, part):
    data = load(clean).load_training_data()
    trained = np.append(data.train_targets, data.parts[part].targets[0])
    with pytest.raises(DataError, match="expected rows of the training part only"):
        dataclasses.replace(data, train_targets=trained)


def test_target_scaler_of_a_regression_is_of_train(market):
    config = CONFIG.replace(target="return")
    frame, _ = build_training_frame(market, config)
    data = load(frame, config).load_training_data()
    assert split_checks.check_fitted_on_train(data).outcome == "passed"
    scaler = type(data.target_scaler).fit(data.log_returns(np.arange(data.num_rows)))
    values = scaler.transform(data.log_returns(np.arange(data.num_rows)))
    planted = dataclasses.replace(data, values=values, target_scaler=scaler)
    finding = split_checks.check_fitted_on_train(planted)
    assert finding.what == "the target's scaler is not that of the training part"
    # Equal numbers of more rows were not learned from the training part alone.
    more = dataclasses.replace(data.target_scaler, num_rows=data.num_rows)
    planted = dataclasses.replace(data, target_scaler=more)
    assert split_checks.check_fitted_on_train(planted).outcome == "leak"


@pytest.mark.parametrize("kind", ["standard", "robust", "minmax"])
def test_file_that_was_scaled_before_the_split(market, clean, kind):
    names = list(features.feature_names(("ray12",)))
    values = clean[names].to_numpy(np.float32)
    scaler = FeatureScaler.fit(values, names, kind=kind, clip_limit=1e9)
    frame = clean.copy()
    frame[names] = scaler.transform(values)
    report = run.run_audit(CONFIG, frame=frame, candles=market)
    assert leaks(report) == ["file scaled as a whole"], str(report)
    found = {name for columns in report.leaks[0].evidence.values() for name in columns}
    assert len(found) >= (1 if kind == "minmax" else 10)
    train = load(clean).load_training_data().parts["train"]
    own = FeatureScaler.fit(values[: train.stop], names, kind=kind, clip_limit=1e9)
    frame[names] = own.transform(values)
    report = run.run_audit(CONFIG, frame=frame, candles=market)
    assert leaks(report) == [], str(report)


def test_columns_that_were_scaled_before_the_test_part_are_named(clean):
    raw = load_raw(clean)
    seen = raw.features[: raw.parts["test"].start]
    scaler = FeatureScaler.fit(seen, raw.feature_names, kind="standard", clip_limit=1e9)
    planted = dataclasses.replace(raw, features=scaler.transform(raw.features))
    finding = split_checks.check_scaled_file(planted)
    assert finding.outcome == "leak"
    assert "mean 0 and deviation 1 over train and validation" in finding.what
    assert split_checks.check_scaled_file(raw).outcome == "passed"


def test_a_column_that_is_centred_everywhere_was_not_scaled(clean):
    raw = load_raw(clean.iloc[: len(clean) // 2 * 2])
    sign = np.where(np.arange(raw.num_rows) % 2, 1.0, -1.0)
    assert split_checks.check_scaled_file(with_column(raw, sign)).outcome == "passed"


# What columns know


def with_column(data, values):
    own = data.scaler
    scaler = dataclasses.replace(
        own,
        feature_names=(*own.feature_names, "planted"),
        center=(*own.center, 0.0),
        scale=(*own.scale, 1.0),
    )
    return dataclasses.replace(
        data,
        features=np.column_stack([data.features, values.astype(np.float32)]),
        pipeline=data.pipeline.with_scaler(scaler),
    )


def test_column_that_knows_the_label_a_little_is_named(clean):
    data = load(clean).load_training_data()
    rng = np.random.default_rng(0)
    honest = column_skill.check_single_features(data)
    assert honest.outcome == "passed"
    is_told = rng.random(data.num_rows) < 0.25
    told = np.where(is_told, data.labels, rng.integers(0, 3, data.num_rows))
    finding = column_skill.check_single_features(with_column(data, told))
    assert (finding.check, finding.outcome) == ("feature too good", "leak")
    assert finding.what.startswith("planted alone has a skill of 0.0")
    assert list(finding.evidence["peaks"]) == ["planted"]
    everything = column_skill.check_single_features(with_column(data, data.labels))
    assert everything.evidence["skill"]["planted"] > 0.8
    assert "the next," in everything.what


def test_what_was_known_of_earlier_labels_may_still_hold(clean):
    data = load(clean).load_training_data()
    rng = np.random.default_rng(0)
    # A label lasts for 40 rows; the column is that of 20 rows before, mostly.
    changes = np.cumsum(rng.random(data.num_rows) < 0.025)
    labels = rng.integers(0, 3, changes[-1] + 1)[changes].astype(np.int8)
    noise = rng.integers(0, 3, data.num_rows)
    late = np.where(rng.random(data.num_rows) < 0.8, np.roll(labels, 20), noise)
    data = dataclasses.replace(data, labels=labels)
    finding = column_skill.check_single_features(with_column(data, late))
    assert finding.evidence["skill"]["planted"] > 0.1
    assert (finding.outcome, finding.evidence["peaks"]) == ("passed", {})
    early = column_skill.check_single_features(with_column(data, np.roll(late, -20)))
    assert list(early.evidence["peaks"]) == ["planted"]


def test_noise_has_no_skill_on_rows_that_it_was_not_fitted_on():
    finding = column_skill.check_single_features(
        load(make_frame(3000)).load_training_data()
    )
    assert np.mean(list(finding.evidence["skill"].values())) < 0


def test_a_column_of_the_future_return_is_named(clean):
    data = load(clean).load_training_data()
    close = pd.Series(data.outcomes["close"])
    ahead = (close.shift(-15) / close - 1).fillna(0.0)
    planted = with_column(data, ahead.to_numpy() * 1000)
    assert column_skill.check_single_features(planted).outcome == "leak"
    early = label_timing.check_column_shift(planted)
    assert early.outcome == "leak"
    assert early.what.startswith("planted is that of row t+15")
    assert label_timing.check_label_shift(planted).outcome == "passed"


def test_a_column_that_falls_when_the_price_rises_is_timed_too(clean):
    data = load(clean).load_training_data()
    close = pd.Series(data.outcomes["close"])
    for bars in (0, 1, 15):
        against = -close.shift(-bars).ffill().to_numpy() / 100
        finding = label_timing.check_column_shift(with_column(data, against))
        assert finding.evidence["shift_bars"]["planted"] == bars
        assert finding.outcome == ("leak" if bars else "passed")


def test_few_targets_are_not_judged():
    data = load(make_frame(1200)).load_training_data()
    finding = column_skill.check_single_features(
        dataclasses.replace(
            data,
            parts={
                name: dataclasses.replace(part, targets=part.targets[:100])
                for name, part in data.parts.items()
            },
            train_targets=data.parts["train"].targets[:50],
        )
    )
    assert finding.outcome == "not done"
    assert "targets are too few" in finding.what


# Labels


@pytest.mark.parametrize("bars", [1, 2, 10, 60])
def test_shifted_label_is_named_with_its_distance(market, clean, bars):
    frame = clean.copy()
    frame["label"] = frame["label"].shift(bars, fill_value=1)
    report = run.run_audit(CONFIG, frame=frame)
    assert leaks(report) == ["shifted label"]
    assert f"row t has the label of row t-{bars}, whose first" in report.leaks[-1].what
    report = run.run_audit(CONFIG, frame=frame, candles=market)
    assert leaks(report) == ["shifted label"]
    assert report.leaks[-1].evidence["recomputed_offset"] == -bars


def test_a_label_of_a_later_row_is_told_and_no_leak(clean):
    frame = clean.copy()
    frame["label"] = frame["label"].shift(-1, fill_value=1)
    report = run.run_audit(CONFIG, frame=frame)
    assert leaks(report) == []
    assert "row t has the label of row t+1: late, but no leak" in str(report)


def test_label_shift_without_a_close_is_told_by_the_features(clean):
    frame = clean.drop(columns=["close"])
    assert leaks(run.run_audit(CONFIG, frame=frame)) == []
    frame["label"] = frame["label"].shift(1, fill_value=1)
    assert leaks(run.run_audit(CONFIG, frame=frame)) == ["shifted label"]


def test_the_close_says_more_of_the_shift_than_many_columns(clean):
    data = load(clean).load_training_data()
    numbers = {"before": 0.2, "after": 0.0, "standard_error": 0.01, "curve": {}}
    edges = [
        label_timing.LabelEdge(column=column, shift_bars=shift, **numbers)
        for column, shift in (("a", 0), ("b", 0), ("close", 1))
    ]
    finding = label_timing.check_label_shift(data, edges=edges)
    assert finding.outcome == "leak"
    assert finding.what.startswith("row t has the label of row t-1")
    assert label_timing.check_label_shift(data, edges=edges[:2]).outcome == "passed"


def test_labels_of_another_rule_do_not_settle_the_shift(market, clean):
    config = CONFIG.replace(long_tp_pct=0.4, short_tp_pct=0.4, future_window=30)
    data = load(clean).load_training_data()
    bars = fill_gaps(market, "1m")
    other = recomputed.recompute(data, bars, config, has_features=False).outcomes
    finding = label_timing.check_label_shift(
        data, true_labels=np.nan_to_num(other, nan=-1)
    )
    assert finding.outcome == "passed"
    assert finding.evidence["agreement"] < 0.98
    late = np.roll(np.nan_to_num(other, nan=-1), -1)
    finding = label_timing.check_label_shift(data, true_labels=late)
    assert finding.evidence["recomputed_offset"] == -1
    assert finding.outcome == "passed"


# Reports, command line


def test_report_is_strict_json_and_names_its_leaks():
    report = findings.AuditReport(
        subject="a file",
        findings=(
            findings.Finding(check="shifted label", outcome="leak", what="it is"),
            findings.Finding(
                check="unpurged split",
                outcome="passed",
                what="no",
                evidence={"n": np.int64(3), "bad": float("nan")},
            ),
        ),
    )
    content = report.to_dict()
    assert content["leaks"] == ["shifted label"]
    assert content["findings"][1]["evidence"] == {"n": 3, "bad": None}
    assert str(report).splitlines()[-1] == (
        "shifted label; 1 passed, 0 doubtful, 1 leak, 0 not done"
    )
    assert "  LEAK      shifted label                it is" in str(report)


def command(folder, *words):
    return trainer.main(
        [
            "--audit",
            *("--inputs-dir", str(folder), "--pair", "TESTUSDT"),
            *("--sequence-length", "20", "--future-window", "60"),
            *words,
        ]
    )


@pytest.fixture
def candle_file(tmp_path, market):
    path = tmp_path / "data" / "TESTUSDT-1m.parquet"
    path.parent.mkdir()
    market.to_parquet(path)
    return path


@pytest.fixture
def written(tmp_path, candle_file):
    builder = dataset_builder.DatasetBuilder(
        CONFIG.replace(inputs_dir=str(tmp_path)), use_cache=False
    )
    return builder.write_dataset(builder.build_dataset(candles=candle_file))


@pytest.fixture(autouse=True)
def usual_logging():
    yield
    logging.getLogger().handlers[:] = []  # of a command line, on streams of a test


def test_exit_codes(tmp_path, candle_file, written, clean, capsys):
    sets = ("--feature-sets", "ray12")
    before = sorted(tmp_path.rglob("*"))
    assert command(tmp_path, *sets, "--audit-candles", str(candle_file)) == 0
    printed = capsys.readouterr()
    assert "no leak found: 13 passed, 0 doubtful, 0 leaks, 0 not done" in printed.out
    assert printed.err == ""
    assert sorted(tmp_path.rglob("*")) == before
    clean.assign(label=clean["label"].shift(1, fill_value=1)).to_feather(
        tmp_path / "mine.feather"
    )
    mine = ("--training-file", str(tmp_path / "mine.feather"))
    assert command(tmp_path, *sets, *mine) == 65
    printed = capsys.readouterr()
    assert "LEAK      shifted label" in printed.out
    assert "expected no leak. Received: shifted label" in printed.err
    assert "Traceback" not in printed.err
    assert command(tmp_path, "--pair", "OTHERUSDT") == 66


def test_candles_are_found_by_the_digest_beside_the_file(
    tmp_path, candle_file, written, monkeypatch
):
    monkeypatch.setattr(file_candles, "CANDLE_FOLDER", candle_file.parent)
    config = CONFIG.replace(inputs_dir=str(tmp_path))
    report = run.run_audit(config)
    assert outcomes(report)["file unlike its functions"] == "passed"
    other = synthetic_candles(30_000, seed=6)
    other.to_parquet(candle_file)
    report = run.run_audit(config)
    assert outcomes(report)["file unlike its functions"] == "not done"
    assert leaks(report) == []


def test_feature_sets_of_ones_own_come_from_a_file(tmp_path, market, register, capsys):
    source = tmp_path / "my_features.py"
    source.write_text(
        "import pandas as pd\n"
        "from dataset.features import feature_set\n\n"
        '@feature_set("mine", warm_up_bars=31)\n'
        "def mine(candles, context):\n"
        '    close = candles["close"]\n'
        "    mean = close.rolling(31, center=True, min_periods=1).mean()\n"
        '    return pd.DataFrame({"price_to_centred": close / mean})\n'
    )
    feature_files.load_feature_file(str(source))
    config = CONFIG.replace(feature_sets=("ray12", "mine"), inputs_dir=str(tmp_path))
    dataset_builder.build_training_file(market, config)
    sets = ("--feature-sets", "ray12", "mine")
    assert command(tmp_path, *sets, "--audit-features", str(source)) == 65
    assert "price_to_centred reads at least 15 bars ahead" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (None, MissingInputError, "expected a Python file"),
        ("x = 1\n", ConfigError, "registered with @feature_set"),
        ("1 / 0\n", ConfigError, "ZeroDivisionError"),
    ],
)
def test_feature_files_that_are_none(tmp_path, content, error, message):
    path = tmp_path / "mine.py"
    if content is not None:
        path.write_text(content)
    before = list(sys.path)
    with pytest.raises(error, match=message):
        feature_files.load_feature_file(str(path))
    assert sys.path == before
