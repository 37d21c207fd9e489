"""What times mean: ends, bars that go on, wall clocks; whose candles a column names."""

import json
import os

import pandas as pd
import pytest

from candles.checks import check_candles
from candles.formats import read_file
from candles.synthetic import synthetic_candles
from candles.table import read_candles
from settings.names import is_other_market
from utils import ConfigError, DataError

PRICES = ["open", "high", "low", "close", "volume"]
START = pd.Timestamp("2024-03-01", tz="UTC")


def market(num_bars=60, *, start="2024-03-01", timeframe="1m"):
    return synthetic_candles(num_bars, seed=1, timeframe=timeframe, start=start)


def save(tmp_path, table, name="candles.csv"):
    table.to_csv(tmp_path / name, index=False)
    return tmp_path / name


def opens(table):
    return table["timestamp"].tolist()


# Ends of bars


@pytest.mark.parametrize("timeframe", ["1m", "1h"])
def test_bitmex_stamps_the_end_of_a_bar(tmp_path, caplog, timeframe):
    caplog.set_level("INFO")
    table = market(timeframe=timeframe)
    shifted = table.assign(
        timestamp=table["timestamp"] + pd.Timedelta(timeframe),
        symbol="XBTUSD",
        volume=table["volume"] * 100,
        homeNotional=table["volume"],
        foreignNotional=table["volume"] * table["close"],
    )
    read = read_file(save(tmp_path, shifted))
    assert opens(read) == opens(table)
    assert read["volume"].tolist() == table["volume"].tolist()
    assert f"the ends of bars: shifted by {timeframe} to their opens" in caplog.text
    fewer = shifted.drop(columns=["homeNotional", "foreignNotional"])
    fewer = fewer.assign(vwap=table["close"], lastSize=1, turnover=table["volume"])
    assert opens(read_file(save(tmp_path, fewer))) == opens(table)


@pytest.mark.parametrize(
    ("name", "rest"), [("close_time", "1ms"), ("time_period_end", "0s")]
)
def test_a_file_whose_only_time_is_an_end(tmp_path, name, rest):
    table = market()
    ends = table["timestamp"] + pd.Timedelta("1min") - pd.Timedelta(rest)
    path = save(tmp_path, table[PRICES].assign(**{name: ends}))
    assert opens(read_file(path)) == opens(table)


@pytest.mark.parametrize(
    ("timeframe", "rest"), [("1m", "1ms"), ("1m", "1s"), ("1h", "1min"), ("1D", "1s")]
)
def test_a_time_just_before_a_boundary_is_an_end(tmp_path, timeframe, rest):
    table = market(timeframe=timeframe.lower())
    ends = table["timestamp"] + pd.Timedelta(timeframe) - pd.Timedelta(rest)
    assert opens(read_file(save(tmp_path, table.assign(timestamp=ends)))) == opens(
        table
    )
    early = table["timestamp"] + pd.Timedelta("2s")
    path = save(tmp_path, table.assign(timestamp=early))
    assert check_candles(read_file(path)).misaligned.count == 60


def test_a_time_of_the_last_trade_beside_the_end_of_the_bar(tmp_path):
    """Kraken's socket: `time` is the last trade, `etime` the end."""
    table = market()
    ends = table["timestamp"] + pd.Timedelta("1min")
    trades = ends - pd.to_timedelta(range(1, 61), unit="s")
    seconds = trades.astype("int64") / 1e9 + 0.123
    for time in (trades, seconds):
        path = save(tmp_path, table[PRICES].assign(time=time, etime=ends))
        assert opens(read_file(path)) == opens(table)


def test_a_row_may_begin_with_words(tmp_path):
    table = market().assign(exchange="binance", symbol="BTCUSDT")
    path = save(tmp_path, table[["symbol", "exchange", *PRICES, "timestamp"]])
    assert opens(read_file(path)) == opens(table)


# Bars that are not over


@pytest.mark.parametrize(("yes", "no"), [(1, 0), ("true", "false"), (True, False)])
@pytest.mark.parametrize("name", ["confirm", "is_closed", "isFinal"])
def test_a_bar_that_is_not_confirmed_is_left_out(tmp_path, caplog, name, yes, no):
    caplog.set_level("INFO")
    table = market().assign(**{name: [yes] * 59 + [no]})
    for each in (table, table[::-1]):
        assert opens(read_file(save(tmp_path, each))) == opens(table)[:59]
    assert "the last bar is not over (its own column says so): left out" in caplog.text


def test_flags_that_say_nothing_leave_all_bars(tmp_path):
    for flags in ([1] * 60, [0] * 60, ["maybe"] * 60):
        path = save(tmp_path, market().assign(confirm=flags))
        assert len(read_file(path)) == 60


def test_a_bar_that_ends_before_its_timeframe_does(tmp_path):
    table = market()
    ends = table["timestamp"] + pd.Timedelta("59.999s")
    path = save(tmp_path, table.assign(close_time=ends))
    assert len(read_file(path)) == 60
    ends.iloc[-1] -= pd.Timedelta("20s")
    assert len(read_file(save(tmp_path, table.assign(close_time=ends)))) == 59


@pytest.mark.parametrize(("seconds", "bars"), [(59, 59), (60, 60), (4000, 60)])
def test_a_bar_that_was_younger_than_its_timeframe_when_it_was_fetched(
    tmp_path, seconds, bars
):
    table = market()
    taken = table["timestamp"].iloc[-1] + pd.Timedelta(seconds, "s")
    path = save(tmp_path, table.assign(fetched_at=taken))
    assert len(read_file(path)) == bars
    path = save(tmp_path, table)  # a file has a time of its own
    os.utime(path, (taken.timestamp(), taken.timestamp()))
    assert len(read_file(path)) == bars
    rows = [
        [int(time.timestamp() * 1000), *row]
        for time, row in zip(opens(table), table[PRICES].values.tolist(), strict=True)
    ]
    moment = int(taken.timestamp() * 1000)
    path = tmp_path / "answer.json"
    path.write_text(json.dumps({"result": {"list": rows}, "time": moment}))
    assert len(read_file(path)) == bars


@pytest.mark.parametrize(("seconds", "bars"), [(17, 58), (77, 59)])
def test_a_last_row_at_the_moment_of_the_answer(tmp_path, caplog, seconds, bars):
    """Yahoo: behind the bar that goes on, or in its place, a row of the last trade."""
    caplog.set_level("INFO")
    table = market()
    table.loc[59, "timestamp"] = table["timestamp"][58] + pd.Timedelta(seconds, "s")
    for each in (table, table[::-1]):
        assert opens(read_file(save(tmp_path, each))) == opens(table)[:bars]
    assert "(a last row has the time of the file): left out" in caplog.text


def test_kraken_says_which_bar_it_has_committed(tmp_path):
    table = market()
    rows = [
        [int(time.timestamp()), *row[:4], row[3], row[4], 7]
        for time, row in zip(opens(table), table[PRICES].values.tolist(), strict=True)
    ]
    path = tmp_path / "answer.json"
    for last, bars in ((rows[-2][0], 59), (rows[-1][0], 60)):
        answer = {"error": [], "result": {"XXBTZUSD": rows, "last": last}}
        path.write_text(json.dumps(answer))
        assert len(read_file(path)) == bars


# Wall-clock time


def wall_clock(tmp_path, zone, start, num_bars=300, timeframe="1h"):
    table = market(num_bars, start=start, timeframe=timeframe)
    local = table["timestamp"].dt.tz_convert(zone).dt.tz_localize(None)
    return table, save(tmp_path, table.assign(timestamp=local))


@pytest.mark.parametrize(
    ("zone", "start", "offsets"),
    [
        ("America/New_York", "2024-03-05", "UTC-05:00 and UTC-04:00"),
        ("Europe/London", "2024-03-25", "UTC+00:00 and UTC+01:00"),
        ("Europe/Berlin", "2024-03-25", "UTC+01:00 and UTC+02:00"),
        ("Australia/Sydney", "2024-10-01", "UTC+10:00 and UTC+11:00"),
    ],
)
def test_an_hour_that_a_zone_skips_names_the_zone(tmp_path, zone, start, offsets):
    table, path = wall_clock(tmp_path, zone, start)
    report = check_candles(read_file(path))
    (line,) = report.doubts
    assert line.startswith(f"the times look like wall-clock time of {zone}")
    assert offsets in line and line.endswith(f"say --timezone {zone}")
    assert "problems: none" not in report.summary()
    read = read_candles(path, timezone=zone)
    assert opens(read) == opens(table)
    assert check_candles(read).doubts == ()
    stamps = pd.to_datetime(pd.read_csv(path)["timestamp"]).astype("int64") // 10**6
    epochs = save(tmp_path, table.assign(timestamp=stamps), "epochs.csv")
    assert (
        "write them in UTC, not as in " + zone in read_file(epochs).attrs["doubts"][0]
    )
    # A zone that skips no hour there is not the one.
    assert len(read_file(path, timezone="Asia/Tokyo").attrs["doubts"]) == 1


@pytest.mark.parametrize("timeframe", ["1h", "15m"])
@pytest.mark.parametrize(
    ("zone", "start"),
    [
        ("America/New_York", "2024-11-01"),
        ("Europe/London", "2024-10-25"),
        ("Australia/Sydney", "2024-04-05"),
    ],
)
def test_an_hour_that_a_zone_has_twice(tmp_path, zone, start, timeframe):
    table, path = wall_clock(tmp_path, zone, start, timeframe=timeframe)
    with pytest.raises(DataError, match=f"doubtful: .*say --timezone {zone}"):
        read_candles(path)
    assert opens(read_candles(path, timezone=zone)) == opens(table)
    # Newest first, the order tells the two apart as well.
    back = pd.read_csv(path)[::-1]
    assert opens(read_candles(save(tmp_path, back), timezone=zone)) == opens(table)


def test_times_that_a_zone_has_never_or_twice_are_refused(tmp_path):
    table = market(300, start="2024-03-05", timeframe="1h")
    naive = table.assign(timestamp=table["timestamp"].dt.tz_localize(None))
    path = save(tmp_path, naive)
    assert read_file(path).attrs["doubts"] == ()
    with pytest.raises(DataError, match="1 time that does not exist there, first 2024"):
        read_file(path, timezone="America/New_York")
    path = save(
        tmp_path, naive.assign(timestamp=naive["timestamp"] + pd.Timedelta("240D"))
    )
    with pytest.raises(DataError, match="1 time that exists twice there, first 2024"):
        read_file(path, timezone="America/New_York")


def test_times_with_a_zone_need_no_other(tmp_path, caplog):
    caplog.set_level("INFO")
    path = save(tmp_path, market())
    assert opens(read_file(path, timezone="Asia/Tokyo")) == opens(market())
    assert "times state their zone: Asia/Tokyo is not used" in caplog.text
    with pytest.raises(ConfigError, match="Did you mean 'Asia/Tokyo'"):
        read_file(path, timezone="Asia/Toky")


# Whose candles


def test_a_column_of_two_markets_is_refused_with_both(tmp_path):
    names = ["BTCUSDT"] * 20 + ["ETHUSDT"] * 40
    path = save(tmp_path, market().assign(ticker=names))
    with pytest.raises(
        DataError, match="column 'ticker': 'BTCUSDT', and from row 20 on"
    ):
        read_file(path)
    path = save(tmp_path, market().assign(Asset_ID=[1] * 30 + [6] * 30))
    with pytest.raises(
        DataError, match="column 'Asset_ID': '1', and from row 30 on '6'"
    ):
        read_file(path)
    for name in ("asset", "coin", "product_id", "currency_pair", "name"):
        path = save(tmp_path, market().assign(**{name: ["a"] * 30 + ["b"] * 30}))
        with pytest.raises(DataError, match=f"{name!r}: 'a', and from row 30 on 'b'"):
            read_file(path)
    path = save(tmp_path, market().assign(symbol=["BTC/USDT"] * 30 + ["BTCUSDT"] * 30))
    assert len(read_file(path)) == 60


def test_a_column_and_a_name_of_two_markets(tmp_path):
    table = market().assign(instrument_name="ETH-PERPETUAL")
    path = save(tmp_path, table, "BTCUSD-1m.csv")
    with pytest.raises(DataError, match="candles of BTCUSD.*'ETH-PERPETUAL' in column"):
        read_file(path)
    assert read_file(save(tmp_path, table)).attrs["symbol"] == "ETH-PERPETUAL"
    other = save(tmp_path, market(start="2024-03-02").assign(symbol="BTCUSD"), "b.csv")
    with pytest.raises(DataError, match="by their columns: ETH-PERPETUAL in .* BTCUSD"):
        read_candles([tmp_path / "candles.csv", other])


@pytest.mark.parametrize(
    ("symbol", "pair", "is_other"),
    [
        ("BTC-USDT-SWAP", "BTCUSDT", False),
        ("BTC/USDT:USDT", "BTC_USDT_USDT", False),
        ("BINANCE:BTCUSDT.P", "BTCUSDT", False),
        ("BINANCE:ETHUSDT", "BTCUSDT", True),
        ("tBTCUSD", "BTCUSD_BITFINEX", False),
        ("XXBTZUSD", "BTCUSD", False),
        ("XBTUSD", "BTCUSD", False),
        ("BTC-28JUN24", "BTCUSD", False),
        ("ETH-PERPETUAL", "BTCUSD", True),
        ("BTC", "BTCUSDT", False),
        ("ETH", "BTCUSDT", True),
        ("ETH/BTC", "ETHUSDT", True),
        ("1INCH/USDT", "1INCHUSDT", False),
        ("1", "BTCUSDT", False),
        ("binance", "BTCUSDT", False),
        ("coinbase", "BTCUSDT", False),
        ("ethusdt", "BTCUSDT", True),
        ("USDT-BTC", "BTCUSDT", False),
        ("USDT-ETH", "BTCUSDT", True),
        ("Tron", "TRXUSDT", False),
    ],
)
def test_symbols_as_exchanges_write_them(symbol, pair, is_other):
    assert is_other_market(symbol, pair) is is_other
