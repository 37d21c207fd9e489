"""Statuses, levels and sizes of rows; which candles and which models are refused."""

import dataclasses
import re

import numpy as np
import pandas as pd
import pytest
from world.signals import (
    LATER,
    answer,
    features_of,
    make_candles,
    make_recipe,
    make_rules,
)

from dataset import features
from dataset.fingerprints import feature_set_digests
from evaluation.calibration import create_calibrator
from evaluation.policies import ReturnPolicy, SignalPolicy
from metrics.conformal import SpreadInterval
from preprocessing.row_kinds import FeatureRows
from preprocessing.scaling import TargetScaler
from preprocessing.templates import run_pipeline
from signals.answers import moment_of, to_table
from signals.reference import LEVELS, Reference
from signals.stream import SignalStream
from utils import DataError, RefusedArtifactError

END = pd.Timestamp("2024-03-01", tz="UTC")


def say(probabilities, *, now="2100-01-01", closes=None, **fields):
    """Rows of bars of 4h that end with END, each with the given answer."""
    recipe = make_recipe(["core8"], sequence_length=1, **fields.pop("config", {}))
    count, width = len(probabilities), len(recipe.pipeline.feature_names)
    answers = np.asarray(probabilities, np.float32)
    rules = dataclasses.replace(
        make_rules(recipe), say=lambda windows: answers[: len(windows)], **fields
    )
    newest = FeatureRows(
        names=recipe.pipeline.feature_names,
        values=np.zeros((count, width), np.float32),
        opens=pd.date_range(end=END, periods=count, freq="4h").as_unit("ns").asi8,
        close=np.full(count, 200.0) if closes is None else np.array(closes),
    )
    return to_table(rules.columns(newest, now))


def test_levels_times_and_thresholds_of_a_signal():
    rows = say([[0.5, 0.3, 0.2], [0.33, 0.34, 0.33], [0.2, 0.3, 0.5]])
    assert rows["signal"].tolist() == [0, 1, 2]
    assert rows["threshold"].tolist()[::2] == [0.3334, 0.3334]
    assert rows["tp_price"].tolist()[::2] == pytest.approx([198.0, 202.0])
    assert rows["sl_price"].tolist()[::2] == pytest.approx([201.0, 199.0])
    assert rows["size"].tolist() == [1.0, 0.0, 1.0]
    # The entry is the close of the bar, and six bars of 4h follow.
    assert rows["expires_at"][2] == END + pd.Timedelta("28h")
    hold = rows.loc[1, ["threshold", "tp_price", "sl_price", "expires_at"]]
    assert hold.isna().all() and (rows["model_id"] == "a model").all()
    assert rows["p_long"][2] == pytest.approx(0.5)


def test_kelly_sizes_follow_the_side():
    config = {"position_sizing": "kelly", "fee_bps": 0.0, "slippage_bps": 0.0}
    rows = say([[0.6, 0.2, 0.2], [0.1, 0.2, 0.7]], config=config)
    # f / 4 = (p / 0.005 - (1 - p) / 0.01) / 4 is far above the cap of all equity.
    assert rows["size"].tolist() == [1.0, 1.0]
    config["kelly_fraction"] = 0.001
    sizes = say([[0.6, 0.2, 0.2], [0.1, 0.2, 0.7]], config=config)["size"]
    assert sizes.tolist() == pytest.approx([0.08, 0.11])


def test_a_number_has_no_levels():
    scaler = TargetScaler(center=0.0, scale=0.01, num_rows=9)
    policy = ReturnPolicy(
        target="return",
        scaler=scaler,
        uses_thresholds=True,
        short_threshold=None,
        long_threshold=0.004,
    )
    rows = say([-0.9, 0.5], policy=policy, config={"target": "return"})
    assert rows["log_return"].tolist() == pytest.approx([-0.009, 0.005])
    assert rows["signal"].tolist() == [1, 2] and rows["tp_price"].isna().all()
    assert rows["threshold"][1] == 0.004 and "p_long" not in rows
    assert "low" not in rows  # no interval was learned


def test_a_number_has_the_ends_of_its_interval():
    recipe = make_recipe(target="return")
    candles, bars = make_candles(281), recipe.config.sequence_length
    policy = ReturnPolicy(
        target="return",
        scaler=TargetScaler(center=0.0, scale=0.01, num_rows=9),
        interval=SpreadInterval(level=0.9, factor=3.0, least_spread=1e-9, num_rows=500),
    )
    rules = dataclasses.replace(
        make_rules(recipe),
        policy=policy,
        say=lambda windows: windows[:, -1, 0].astype(np.float64),
    )
    table = to_table(rules.answer(candles, 5, LATER))
    closes = candles["close"].to_numpy()
    for row, end in zip(table.to_dict("records"), range(277, 282), strict=True):
        half = 3.0 * np.diff(np.log(closes[end - bars : end])).std()
        assert row["high"] - row["log_return"] == pytest.approx(half, rel=1e-5)
        assert row["log_return"] - row["low"] == pytest.approx(half, rel=1e-5)
    stream = SignalStream(recipe.pipeline, rules.columns, candles[:-1])
    last = stream.update(candles.iloc[-1], now=LATER)
    for name in ("log_return", "low", "high"):
        assert last[name] == pytest.approx(table[name].iloc[-1], rel=1e-5)


def test_open_and_stale_bars_have_no_answer():
    said = [[0.1, 0.2, 0.7]] * 3
    rows = say(said, now=END + pd.Timedelta("1h"), stale_after=END - pd.Timedelta("2h"))
    assert rows["status"].tolist() == ["ok", "stale", "open_bar"]
    assert rows["signal"].tolist() == [2, 1, 1]
    assert rows.loc[1:, ["p_short", "p_long", "size"]].isna().all(axis=None)


def test_a_row_far_from_those_of_the_run_is_unlike():
    names = make_recipe(["core8"]).pipeline.feature_names
    quantiles = np.linspace(-1.0, 1.0, len(LEVELS)) * np.ones((len(names), 1))
    reference = Reference(
        feature_names=names,
        quantiles=100 * quantiles,
        clip_shares=np.zeros(len(names)),
        reach=np.full(len(names), 0.5),
        targets={},
        answers={},
    )
    rules = make_rules(make_recipe(["core8"]))
    scaled = np.zeros((4, len(names)))
    # Outside of [-0.9, 0.9] in widths of 1.8, of the farthest, which was 0.5.
    scaled[:, 0] = [0.9, 1.8, -2.7, 3.6]
    assert reference.unlikeness(
        scaled, rules.pipeline.scaler
    ).tolist() == pytest.approx([0, 1, 2, 3])
    assert say([[0.1, 0.2, 0.7]], reference=reference)["status"][0] == "ok"
    far = dataclasses.replace(reference, quantiles=100 * quantiles + 500)
    rows = say([[0.1, 0.2, 0.7]], reference=far)
    assert rows["status"][0] == "unlike" and rows["signal"][0] == 1
    assert rows["unlikeness"][0] > 2 and np.isnan(rows["p_long"][0])


# Refusals


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.to_numpy(), "as a DataFrame with named columns"),
        (lambda c: c[::-1], "TESTUSDT, 4h, in order of time. .*earlier than the row"),
        (lambda c: c.rename(columns={"timestamp": "date"})[::-1], "out of their order"),
        (lambda c: pd.concat([c, c[-1:]]).set_index("timestamp"), "or twice"),
        (lambda c: c[::2], "expected candles of 4h or finer"),
        (lambda c: c[:262], "at least 263 candles of 4h: 255 before .* window of 8"),
        (lambda c: make_candles(400, timeframe="1h"), "Received: candles of 1h"),
        (lambda c: c.assign(close=-1.0), "not positive"),
        (lambda c: c.astype({"close": "float32"}), "float32, not float64: bits are"),
    ],
)
def test_other_candles_are_refused(change, message):
    with pytest.raises(DataError, match=message):
        answer(make_recipe(), change(make_candles(400)), last=1)


def test_candles_of_another_pair_are_refused():
    candles = make_candles(300)
    named = candles.assign(symbol="ETHUSDT")
    candles.attrs["symbol"] = "ETHUSDT"
    for table in (candles, named):
        with pytest.raises(DataError, match="of TESTUSDT.*'ETHUSDT' in a column"):
            answer(make_recipe(), table, last=1)


def test_exactly_enough_candles_have_the_bits_of_many():
    recipe, candles = make_recipe(), make_candles(400)
    few = answer(recipe, candles[-recipe.pipeline.min_candles :], last=1)
    many = answer(recipe, candles, last=60)
    assert recipe.pipeline.min_candles == 263 and few["status"][0] == "ok"
    pd.testing.assert_frame_equal(few, many[-1:].reset_index(drop=True))


def test_enough_is_enough_wherever_a_higher_bar_begins():
    recipe, candles = (
        make_recipe(["core8_7d"], higher_timeframes=["1d"]),
        make_candles(99),
    )
    # 41 bars for the week of both timeframes, up to 5 of a day that has begun, 8.
    assert recipe.pipeline.min_candles == 41 + 5 + 8
    many = answer(recipe, candles)
    for stop in range(90, 96):
        few = answer(recipe, candles[stop - 54 : stop], last=1)
        assert few["status"][0] == "ok"
        assert few["p_long"][0] == many["p_long"][stop - 1]


def test_other_feature_sets_are_refused(monkeypatch):
    monkeypatch.setattr(features, "_REGISTRY", dict(features._REGISTRY))
    config = make_recipe(["ray12"]).config

    def taken(data, names=None, config=config):
        pipeline = run_pipeline(config, names or features_of(config), data)
        pipeline.require_candles()
        return pipeline

    with pytest.raises(DataError, match="without that description"):
        taken({"path": "elsewhere.feather"})
    built = {"built_by_us": True, "feature_digests": feature_set_digests(["ray12"])}
    assert taken(built).min_candles == 263
    assert taken({"built_by_us": True}).min_candles == 263  # before there were digests
    with pytest.raises(RefusedArtifactError, match="expected the features a, b"):
        taken(built, ("a", "b"))
    with pytest.raises(RefusedArtifactError, match=re.escape("source that the model")):
        taken(built | {"feature_digests": {"ray12": "0" * 64}})
    own = config.replace(feature_sets=("my_own",))
    with pytest.raises(RefusedArtifactError, match="no my_own among core8"):
        taken(built, ("x",), own)

    def first(candles, context):
        return pd.DataFrame({"x": candles["close"]})

    def second(candles, context):
        return pd.DataFrame({"x": candles["open"]})

    features.register_feature_set("my_own", first, warm_up_bars=0)
    built["feature_digests"] = feature_set_digests(["my_own"])
    assert taken(built, ("x",), own).min_candles == 8
    features.register_feature_set("my_own", second, warm_up_bars=0)
    with pytest.raises(RefusedArtifactError, match="train again with this one"):
        taken(built, ("x",), own)


def test_nothing_said_is_calibrated_to_nothing():
    rows = np.tile([[0.2, 0.5, 0.3]], (120, 1))
    fitted = create_calibrator("temperature").fit(rows, np.arange(120) % 3)
    answers, signals = SignalPolicy(calibrator=fitted).decide(np.empty((0, 3)))
    assert answers.shape == (0, 3) and signals.shape == (0,)


def test_a_moment_is_utc_and_says_its_unit():
    noon = pd.Timestamp("2026-01-31T12:00Z")
    for given in ("2026-01-31 12:00", "2026-01-31T13:00+01:00", noon.to_pydatetime()):
        assert moment_of(given) == noon
    for given in ("noon", 1769860800, 1769860800.0, pd.NaT, [], np.int64(5)):
        with pytest.raises(DataError, match="now: expected a time such as"):
            moment_of(given)


def test_a_gap_longer_than_the_look_back_is_a_gap_whatever_is_asked_for():
    recipe = make_recipe()
    candles = make_candles(950, dropped=range(300, 900))
    for last in (1, 50, 400):
        assert answer(recipe, candles, last=last)["status"].iloc[-1] == "gap"
    alone = answer(recipe, make_candles(300), last=300)
    assert alone["status"].iloc[0] == "warming_up"
