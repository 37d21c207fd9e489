"""Funding and open interest: known at their time, for as long as they stand."""

import numpy as np
import pandas as pd
import pytest
from world.signals import LATER, answer, make_candles, make_recipe, make_rules

from audit import lookahead, run
from candles.synthetic import synthetic_candles
from candles.table import fill_gaps, read_candles, resample_candles
from config import Config
from dataset import context
from dataset.blocks import beside_columns, compute_features, feature_names
from dataset.builder import DatasetBuilder, build_training_frame
from dataset.context import join_context, rows_with
from dataset.context_files import read_series, with_context
from signals.stream import SignalStream
from utils import ConfigError, DataError, MissingInputError

HOURS = Config(pair="TESTUSDT", timeframe="1h", feature_sets=("funding",))


def settlements(count, *, every="8h", start="2024-01-01", seed=3):
    """Rates at their times, a few milliseconds late as exchanges stamp them."""
    times = pd.date_range(start, periods=count, freq=every, tz="UTC")
    rates = 1e-4 * np.random.default_rng(seed).standard_normal(count)
    late = pd.Timedelta(7, "ms")
    return pd.DataFrame({"timestamp": times + late, "funding_rate": rates})


def test_a_rate_is_known_from_its_own_time_until_the_next_is_due():
    candles = make_candles(40, timeframe="1h")
    series = settlements(5)[lambda t: t.index != 2]  # 16:00 is missing
    filled = fill_gaps(join_context(candles, {"funding_rate": series}, "1h"), "1h")
    # 00:00:00.007 is known when the bar of 00:00 closes, not when that before did.
    known = np.flatnonzero(filled["funding_rate"].notna())
    assert known.tolist() == [0, 8, 24, 32]
    rows = rows_with(filled, ["funding_rate"], HOURS)
    assert rows.index.tolist() == [*range(17), *range(24, 40)]
    assert rows["segment"].nunique() == 2
    table = compute_features(filled, HOURS)
    assert list(table) == ["funding_bps", "funding_change_bps"]
    rates = 1e4 * series["funding_rate"].to_numpy()
    assert table["funding_bps"][15] == pytest.approx(rates[1], rel=1e-6)
    assert table["funding_change_bps"][15] == pytest.approx(rates[1] - rates[0], 1e-5)
    assert table.isna().all(axis=1).tolist() == [
        not (8 <= row < 17 or 32 <= row) for row in range(40)
    ]
    # In a bar of four hours the last one counts.
    early = settlements(40, every="1h")
    joined = join_context(make_candles(10), {"funding_rate": early}, "4h")
    assert joined["funding_rate"].tolist() == early["funding_rate"][3::4].tolist()


def test_open_interest_is_against_the_bar_before_and_seven_days():
    contracts = np.arange(1.0, 61)
    candles = make_candles(60).assign(open_interest=contracts)
    config = HOURS.replace(timeframe="4h", feature_sets=("open_interest",))
    table = compute_features(fill_gaps(candles, "4h"), config)
    assert list(table) == ["open_interest_change", "open_interest_to_ma42"]
    assert table.iloc[:41].isna().all(axis=None) and table[41:].notna().all(axis=None)
    assert table["open_interest_change"][50] == pytest.approx(100 / 50)
    mean = contracts[9:51].mean()
    assert table["open_interest_to_ma42"][50] == pytest.approx(51 / mean)
    raw = config.replace(raw_prices=True)
    assert feature_names(raw) == ("open_interest_change", "open_interest")
    # A bar of a day has the last value that came in it.
    candles.loc[5, "open_interest"] = np.nan
    days = resample_candles(candles, "1d")
    assert days["open_interest"][:2].tolist() == [5.0, 12.0]


def test_columns_of_files_are_read_under_their_names(tmp_path):
    path = tmp_path / "TESTUSDT-4h.csv"
    table = make_candles(9).assign(fundingRate=0.0001, sum_open_interest=7.0)
    table.loc[3, "fundingRate"] = np.nan
    table.to_csv(path, index=False)
    found = read_candles(path)
    assert np.isnan(found["funding_rate"][3]) and found["funding_rate"][4] == 0.0001
    assert (found["open_interest"] == 7).all()
    assert list(read_candles(found)) == list(found)
    table.assign(fundingRate="none yet").to_csv(path, index=False)
    assert "funding_rate" not in read_candles(path)


def test_a_set_says_what_it_lacks():
    candles = make_candles(300)
    config = HOURS.replace(timeframe="4h", feature_sets=("ray12", "funding"))
    assert beside_columns(config) == ("funding_rate",)
    with pytest.raises(DataError, match="the column funding_rate, which the feature"):
        build_training_frame(candles, config)
    empty = candles.assign(funding_rate=np.nan)
    with pytest.raises(DataError, match="context: expected funding_rate at the times"):
        build_training_frame(empty, config.replace(future_window=6))
    alone = config.replace(feature_sets=("funding",), context_pairs=("OTHERUSDT",))
    with pytest.raises(ConfigError, match="a set of prices among feature_sets"):
        beside_columns(alone)
    assert context.most_carried(HOURS, "funding_rate") == 8
    assert context.most_carried(HOURS, "open_interest") == 6


def test_a_series_of_a_file_is_read_and_stated(tmp_path):
    path = tmp_path / "rates.csv"
    rates = settlements(150).rename(
        columns={"timestamp": "calc_time", "funding_rate": "last_funding_rate"}
    )
    rates.to_csv(path, index=False)
    found = read_series((path,), "funding_rate")
    pd.testing.assert_frame_equal(found, settlements(150), check_dtype=False)
    for change, words in (
        ({"calc_time": rates["calc_time"].iloc[0]}, "Received: 2024-01-01.*twice"),
        ({"last_funding_rate": [0.1] * 149 + [None]}, "Received: no number"),
    ):
        rates.assign(**change).to_csv(tmp_path / "bad.csv", index=False)
        with pytest.raises(DataError, match=words):
            read_series((tmp_path / "bad.csv",), "funding_rate")
    with pytest.raises(DataError, match="expected a column 'timestamp' and one 'open_"):
        read_series((path,), "open_interest")
    config = HOURS.replace(inputs_dir=str(tmp_path), future_window=6)
    builder = DatasetBuilder(config)
    candles = make_candles(1000, timeframe="1h")
    with pytest.raises(MissingInputError, match="expected a file of funding_rate"):
        builder.build_dataset(candles=candles, context={"funding_rate": "no.csv"})
    built = builder.build_dataset(candles=candles, context={"funding_rate": path})
    facts = built.metadata["context"]["funding_rate"]
    assert facts["bars"] == 125 and facts["missing_bars"] == 0
    assert len(built.metadata["digests"]["context_funding_rate"]) == 64
    assert not built.metadata["doubts"]


def test_new_candles_carry_a_rate_as_the_training_did():
    recipe = make_recipe(["ray12", "funding"], timeframe="1h")
    candles = make_candles(330, timeframe="1h")
    series = settlements(60)
    with pytest.raises(DataError, match="the column funding_rate"):
        answer(recipe, candles)
    table = with_context(candles, {"funding_rate": series}, recipe.config)
    expected = answer(recipe, table, last=20)
    assert (expected["status"] == "ok").all()
    stream = SignalStream(recipe.pipeline, make_rules(recipe).columns, table[:310])
    for row in range(310, 330):
        given = {"funding_rate": table["funding_rate"][row]}
        found = stream.update(candles.iloc[row], now=LATER, context=given)
        assert found["p_short"] == expected["p_short"][row - 310]


def test_an_audit_finds_a_rate_that_is_known_too_early(monkeypatch):
    config = Config(
        pair="TESTUSDT",
        feature_sets=("ray12", "funding"),
        sequence_length=20,
        future_window=60,
    )
    market = synthetic_candles(6000, seed=5)
    series = settlements(700, every="10min")
    frame, _ = build_training_frame(market, config, context={"funding_rate": series})
    given = {"funding_rate": series}
    report = run.run_audit(config, frame=frame, candles=market, context=given)
    found = {item.check: item for item in report.findings}
    assert found["feature looks ahead"].outcome == "passed"
    assert found["file unlike its functions"].outcome == "passed"
    # The same, where the candles have it.
    table = join_context(market, given, "1m")
    again = run.run_audit(config, frame=frame, candles=table)
    assert again.findings[:2] == report.findings[:2]
    honest = lookahead.join_context

    def early(candles, others, timeframe):
        moved = {
            name: each.assign(timestamp=each["timestamp"] - pd.Timedelta("1min"))
            for name, each in others.items()
        }
        return honest(candles, moved, timeframe)

    monkeypatch.setattr(lookahead, "join_context", early)
    report = run.run_audit(config, frame=frame, candles=market, context=given)
    [leak] = [item for item in report.leaks if item.check == "feature looks ahead"]
    assert set(leak.columns) == {"funding_bps", "funding_change_bps"}
