"""Bars of another pair: of the same close, carried for a while, never a later one."""

import json

import numpy as np
import pandas as pd
import pytest
from world.signals import LATER, answer, make_candles, make_recipe, make_rules

from candles.table import fill_gaps
from config import Config
from dataset import context
from dataset.blocks import compute_features
from dataset.builder import DatasetBuilder, build_training_frame
from dataset.context import context_candles, join_context
from dataset.context_files import find_context, with_context
from dataset.sidecar import sidecar_path
from signals.follow import GrowingCandles, answer_new
from signals.stream import SignalStream
from utils import ConfigError, DataError, MissingInputError

PAIR = "OTHERUSDT"
FIELDS = {"context_pairs": [PAIR], "max_fill_bars": 2}
CONFIG = Config(pair="TESTUSDT", timeframe="4h", feature_sets=("ray12",), **FIELDS)


def joined(candles, other):
    return fill_gaps(join_context(candles, {PAIR: other}, "4h"), "4h", max_fill_bars=2)


def test_a_row_has_the_bar_that_closes_with_it_or_the_last_one_for_two_rows():
    candles = make_candles(12, dropped=[9])
    other = make_candles(12, seed=1, dropped=[0, 3, 5, 6, 7])
    table = joined(candles, other)
    assert table["is_filled"].tolist() == [False] * 9 + [True] + [False] * 2
    # It has no bar of its own where the pair has none, row 9.
    absent = np.flatnonzero(table["close@OTHERUSDT"].isna())
    assert absent.tolist() == [0, 3, 5, 6, 7, 9]
    known = context_candles(table, PAIR, most_carried=2)
    assert known.index.tolist() == [1, 2, 3, 4, 5, 6, 8, 9, 10, 11]
    assert known.index[known["is_filled"]].tolist() == [3, 5, 6, 9]
    assert known["segment"].nunique() == 2  # row 7 is the third without a bar
    whole = make_candles(12, seed=1)
    assert known["close"][4] == whole["close"][4]
    for name in ("open", "high", "low", "close"):
        assert known[name][6] == whole["close"][4]
    assert known["volume"][6] == 0


def test_finer_candles_of_another_pair_are_resampled():
    candles = make_candles(6)
    hours = make_candles(24, timeframe="1h", seed=1, dropped=[9])
    table = join_context(candles, {PAIR: hours}, "4h")
    assert (
        table["close@OTHERUSDT"].isna().tolist() == [False] * 2 + [True] + [False] * 3
    )
    assert table["close@OTHERUSDT"][0] == hours["close"][3]
    assert table["volume@OTHERUSDT"][0] == pytest.approx(hours["volume"][:4].sum())


@pytest.mark.parametrize("last", [300, 341, 344, 345, 346])
def test_later_bars_of_the_other_pair_change_nothing(last):
    candles = make_candles(400, dropped=[330])
    gone = [*range(340, 346), 350]
    other = make_candles(400, seed=1, dropped=gone)
    whole = compute_features(joined(candles, other), CONFIG)
    assert whole.iloc[341].notna().all() and whole.iloc[342].isna().any()
    cut = candles[candles.index < last]  # row 330 is missing
    later = other["timestamp"] > cut["timestamp"].iloc[-1]
    values = other.columns.drop("timestamp")
    changed = other.assign(**other[values].mul(np.where(later, 3.0, 1.0), axis=0))
    for table in (changed, other[~later]):
        part = compute_features(joined(cut, table), CONFIG)
        assert part.to_numpy().tobytes() == whole[: len(part)].to_numpy().tobytes()


def test_context_is_of_other_pairs_that_are_there(tmp_path):
    make_candles(9).to_parquet(tmp_path / "TESTUSDT-4h.parquet")
    own = (tmp_path / "TESTUSDT-4h.parquet",)

    def find(given=None, **fields):
        config = CONFIG.replace(**fields)
        return find_context(given, config, beside=own, data_dir=tmp_path / "data")

    with pytest.raises(MissingInputError, match="context_pairs: expected candles of O"):
        find()
    with pytest.raises(ConfigError, match="Received: those of BTCUSDT. Add --context"):
        find({"BTCUSDT": own})
    with pytest.raises(ConfigError, match="expected other pairs than TESTUSDT"):
        find(context_pairs=["TEST_USDT"])
    with pytest.raises(ConfigError, match="context_pairs: expected each once"):
        CONFIG.replace(context_pairs=["BTC_USDT", "BTCUSDT"])
    make_candles(9, seed=1).to_parquet(tmp_path / "OTHERUSDT-4h.parquet")
    assert find() == {PAIR: (tmp_path / "OTHERUSDT-4h.parquet",)}
    assert CONFIG.expected_filename.endswith("__CTX-OTHERUSDT__training_ready.feather")


def test_a_file_says_what_its_context_was_and_another_one_is_built_anew(tmp_path):
    make_candles(420).to_parquet(tmp_path / "TESTUSDT-4h.parquet")
    path = tmp_path / "OTHERUSDT-4h.parquet"
    config = CONFIG.replace(inputs_dir=str(tmp_path), future_window=6)
    digests, facts = [], []
    for dropped in ([300], range(300, 310)):
        make_candles(420, seed=1, dropped=dropped).to_parquet(path)
        builder = DatasetBuilder(config)
        source = tmp_path / "TESTUSDT-4h.parquet"
        for _ in range(2):  # built, and taken from the cache
            written = builder.write_dataset(builder.build_dataset(candles=source))
        stated = json.loads(sidecar_path(written).read_text())
        digests.append(stated["digests"]["context_OTHERUSDT"])
        facts.append(stated["context"][PAIR])
        assert stated["parameters"]["context_pairs"] == [PAIR]
    assert digests[0] != digests[1]
    assert facts[0]["carried_bars"] == 1 and facts[0]["missing_bars"] == 0
    assert facts[1]["carried_bars"] == 2 and facts[1]["missing_bars"] == 8
    [doubt] = [line for line in stated["doubts"] if "context" in line]
    assert "OTHERUSDT: an older value stands in 2 of 420 bars, 8 have none" in doubt
    # A table that has both, as a retraining is given, makes the same rows.
    own, other = make_candles(420), make_candles(420, seed=1, dropped=range(300, 310))
    apart = DatasetBuilder(config, use_cache=False)
    table = join_context(own, {PAIR: other}, "4h")
    whole = apart.build_dataset(candles=table).frame
    pd.testing.assert_frame_equal(
        whole, apart.build_dataset(candles=own, context={PAIR: other}).frame
    )
    unordered = {PAIR: make_candles(420)[::-1]}
    with pytest.raises(DataError, match="context of OTHERUSDT`: expected strictly"):
        build_training_frame(make_candles(420), config, context=unordered)
    other_days = make_candles(9).assign(
        timestamp=lambda t: t["timestamp"] + pd.Timedelta("3650D")
    )
    with pytest.raises(DataError, match="OTHERUSDT at the times of candles"):
        build_training_frame(make_candles(420), config, context={PAIR: other_days})


@pytest.fixture(scope="module")
def recipe():
    return make_recipe(context_pairs=[PAIR])


def test_new_candles_need_those_of_the_other_pair(recipe):
    candles, other = make_candles(290), make_candles(290, seed=1)
    with pytest.raises(DataError, match="the candles of OTHERUSDT beside those"):
        answer(recipe, candles)
    with pytest.raises(DataError, match="OTHERUSDT, 4h, up to 2024-02-18 04:00"):
        with_context(candles, {PAIR: other[:-1]}, recipe.config)
    table = with_context(candles, {PAIR: other}, recipe.config)
    expected = answer(recipe, table, last=20)
    assert (expected["status"] == "ok").all()

    stream = SignalStream(recipe.pipeline, make_rules(recipe).columns, table[:270])
    for row in range(270, 290):
        beside = {PAIR: other.iloc[row]}
        found = stream.update(candles.iloc[row], now=LATER, context=beside)
        assert found["p_short"] == expected["p_short"][row - 270]
    bar = make_candles(291).iloc[290]
    for given in ({}, {"BTCUSDT": None}):
        with pytest.raises(DataError, match="expected a candle, or None, of OTHERUSDT"):
            stream.update(bar, context=given)
    with pytest.raises(DataError, match="the candle of OTHERUSDT at 2024-02-18"):
        stream.update(bar, context={PAIR: other.iloc[289]})
    with pytest.raises(DataError, match="expected a candle of OTHERUSDT, by name"):
        stream.update(bar, context={PAIR: {"close": 1.0}})
    with pytest.raises(DataError, match="expected one candle, its values by name"):
        stream.update(None, context={PAIR: None})
    with pytest.raises(DataError, match="does not enclose.*OTHERUSDT"):
        stream.update(bar, context={PAIR: {**bar, "high": 0.1}})
    with pytest.raises(DataError, match="the candles of OTHERUSDT beside"):
        stream.update(bar)
    text = {**bar, "timestamp": "2024-02-18T08:00:00Z"}
    given = {PAIR: {**bar, "timestamp": bar["timestamp"]}}
    assert stream.update(text, now=LATER, context=given)["status"] == "ok"
    later = make_candles(292).iloc[291]
    assert stream.update(later, now=LATER, context={PAIR: None})["status"] == "ok"


def test_growing_candles_wait_for_the_other_pair(recipe, tmp_path, caplog):
    candles, other = make_candles(290), make_candles(290, seed=1)
    own = tmp_path / "TESTUSDT-4h.csv"
    candles[:280].to_csv(own, index=False)
    path = tmp_path / "OTHERUSDT-4h.csv"
    other[:279].to_csv(path, index=False)
    growing = GrowingCandles([own], recipe.config)
    history = growing.read()
    assert len(history) == 279
    stream = SignalStream(recipe.pipeline, make_rules(recipe).columns, history)
    assert growing.read_changed() is None
    other[:285].to_csv(path, index=False)
    found = []
    answer_new(growing.read_changed(), stream, found.append)
    table = join_context(candles, {PAIR: other}, "4h")
    expected = answer(recipe, table[:280], last=1)
    assert [row["p_short"].iloc[0] for row in found] == [expected["p_short"][0]]
    # One bar may come; a file that has ended earlier is told.
    assert not caplog.records
    other[:270].to_csv(path, index=False)
    assert len(GrowingCandles([own], recipe.config).read()) == 270
    assert "candles of OTHERUSDT end 10 bars before" in caplog.text


def test_a_pair_that_is_left_out_has_no_features():
    with pytest.raises(ConfigError, match="a set of prices among feature_sets"):
        compute_features(
            joined(make_candles(20), make_candles(20)),
            CONFIG.replace(feature_sets=("calendar",)),
        )
    assert context.most_carried(CONFIG) == 2
