"""Layouts of exchanges, vendors and programs -> the same candles, or one clear refusal.

Each file is made from one market; a layout is its names and the fields that stand
below them. Fields are words: `ms` the opening time in milliseconds, `o h l c` the
prices, `v` the volume in base units, `q` in quote units.
"""

import decimal
import gzip
import itertools
import json
import zipfile
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow.feather import write_feather

from candles import fill_gaps, read_candles, resample_candles
from candles.__main__ import main
from candles.formats import read_file, read_frame
from utils import DataError, MissingInputError

START = pd.Timestamp("2024-03-01", tz="UTC")
NUM_BARS = 40
VALUES = ["open", "high", "low", "close", "volume"]


def make_market(timeframe="1min"):
    rng = np.random.default_rng(7)
    close = np.round(251.7 * np.exp(np.cumsum(rng.normal(0, 2e-3, NUM_BARS))), 2)
    first = np.append(251.7, close[:-1])
    high = np.round(np.maximum(first, close) + rng.uniform(0.01, 0.3, NUM_BARS), 2)
    low = np.round(np.minimum(first, close) - rng.uniform(0.01, 0.3, NUM_BARS), 2)
    volume = np.round(rng.lognormal(2, 1, NUM_BARS), 2)
    stamps = pd.date_range(START, periods=NUM_BARS, freq=timeframe).as_unit("ns")
    columns = {"open": first, "high": high, "low": low, "close": close}
    return pd.DataFrame({"timestamp": stamps, **columns, "volume": volume})


MARKET = make_market()


def fields_of(market):
    """Returns the cells of every word that a layout may use."""
    stamps = market["timestamp"]
    ns = stamps.astype("int64")
    vwap = np.round((market["high"] + market["low"]) / 2, 3)
    quote = np.round(market["volume"] * vwap, 5)
    bar = ns[1] - ns[0]

    def dates(form, zone="UTC"):
        return stamps.dt.tz_convert(zone).dt.strftime(form)

    return {
        "ns": ns,
        "us": ns // 10**3,
        "ms": ns // 10**6,
        "s": ns // 10**9,
        "end": (ns + bar) // 10**6 - 1,
        "ends": (ns + bar) // 10**9,
        "endu": (ns + bar) // 10**3 - 1,
        "iso": dates("%Y-%m-%d %H:%M:%S"),
        "isoz": dates("%Y-%m-%dT%H:%M:%SZ"),
        "iso0": dates("%Y-%m-%dT%H:%M:%S.0000000Z"),
        "iso00": dates("%Y-%m-%d %H:%M:%S+00:00"),
        "pg": dates("%Y-%m-%d %H:%M:%S+00"),
        "ruby": dates("%Y-%m-%d %H:%M:%S +0000"),
        "gmt": dates("%Y-%m-%d %H:%M:%S GMT"),
        "slash": dates("%Y/%m/%d %H:%M"),
        "dot": dates("%Y.%m.%d %H:%M:%S"),
        "dukas": dates("%d.%m.%Y %H:%M:%S.000 GMT+0000"),
        "us12": dates("%m/%d/%Y %I:%M:%S %p"),
        "eu": dates("%d/%m/%Y %H:%M"),
        "digits": dates("%Y%m%d %H%M%S"),
        "daydot": dates("%Y.%m.%d"),
        "day": dates("%Y-%m-%d"),
        "day8": dates("%Y%m%d"),
        "clock": dates("%H:%M"),
        "clock6": dates("%H%M%S"),
        "hour": dates("%H").astype(int),
        "minute": dates("%M").astype(int),
        "hhmm": dates("%H%M").astype(int),
        "year": dates("%Y"),
        "month": dates("%m").astype(int),
        "dom": dates("%d").astype(int),
        "sheet": (ns / 86_400e9 + 25_569).map("{:.5f}".format),
        "est": dates("%Y-%m-%d %H:%M EST", "Etc/GMT+5"),
        "named": dates("%d-%b-%Y %H:%M"),
        "kst": dates("%Y-%m-%dT%H:%M:%S", "Asia/Seoul"),
        "tick": ns // 10**6 + 31_415,
        "o": market["open"],
        "h": market["high"],
        "l": market["low"],
        "c": market["close"],
        "v": market["volume"],
        "q": quote,
        "vw": vwap,
        "n": (market["volume"] * 3).astype(int) + 1,
        "ct": np.floor(quote / 10).astype(int),  # contracts of 10 quote units
        "usd": np.floor(quote).astype(int),
        "ct01": np.round(market["volume"] / 0.01).astype(int),
        "sym": "BTCUSDT",
        "row": np.arange(len(market)),
        "1": 1,
        "0": 0,
        "": "",
    }


FIELDS = fields_of(MARKET)
NUMBERS = MARKET.assign(timestamp=FIELDS["ms"])


def rows_of(words, *, newest=False, market=None, text=False):
    fields = FIELDS if market is None else fields_of(market)
    table = pd.DataFrame({i: fields[word] for i, word in enumerate(words.split(" "))})
    table = table[::-1] if newest else table
    rows = table.astype(str) if text else table
    return [[getattr(x, "item", lambda x=x: x)() for x in row] for row in rows.values]


def csv_of(words, header=None, *, sep=",", top=(), end="\n", last="\n", newest=False):
    rows = [sep.join(map(str, row)) for row in rows_of(words, newest=newest)]
    lines = [*top, *([] if header is None else [header]), *rows]
    return end.join(lines) + (end if last else "")


def expect(table, market=MARKET, rtol=0.0):
    assert list(table.columns) == list(market.columns)
    assert table["timestamp"].tolist() == market["timestamp"].tolist()
    for name in ("open", "high", "low", "close"):
        np.testing.assert_array_equal(table[name], market[name])
    np.testing.assert_allclose(table["volume"], market["volume"], rtol=rtol)


def written(tmp_path, data, name="a.csv"):
    path = tmp_path / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def layout(words, header=None, **options):
    return SimpleNamespace(words=words, header=header, options=options)


CSV = {
    "binance spot": layout("ms o h l c v end q n v q 0"),
    "binance us": layout("us o h l c v endu q n v q 0"),
    "binance usd-m": layout(
        "ms o h l c v end q n v q 0",
        "open_time,open,high,low,close,volume,close_time,quote_volume,count,"
        "taker_buy_volume,taker_buy_quote_volume,ignore",
    ),
    "binance coin-m": layout(
        "ms o h l c ct end v n ct v 0",
        "open_time,open,high,low,close,volume,close_time,base_asset_volume,count,"
        "taker_buy_volume,taker_buy_base_asset_volume,ignore",
    ),
    "binance coin-m, no names": layout("ms o h l c ct end v n ct v 0"),
    "python-binance": layout(
        "iso o h l c v end q n v q 0",
        "Open time,Open,High,Low,Close,Volume,Close time,Quote asset volume,Number of "
        "trades,Taker buy base asset volume,Taker buy quote asset volume,Ignore",
    ),
    "websocket": layout("ms end sym o c h l v n row v q", "t,T,s,o,c,h,l,v,n,L,V,q"),
    "a symbol behind": layout("ms o h l c v sym"),
    "okx spot": layout("ms o h l c v q q 1"),
    "okx spot, names": layout(
        "ms o h l c v q q 1", "ts,o,h,l,c,vol,volCcy,volCcyQuote,confirm"
    ),
    "okx swap": layout("ms o h l c ct01 v q 1"),
    "okx inverse": layout(
        "ms o h l c ct v q 1", "ts,o,h,l,c,vol,volCcy,volCcyQuote,confirm"
    ),
    "okx archive": layout(
        "sym o h l c ct01 v q ms 1",
        "instrument_name,open,high,low,close,vol,vol_ccy,vol_quote,open_time,confirm",
    ),
    "bybit": layout(
        "ms o h l c v q",
        "startTime,openPrice,highPrice,lowPrice,closePrice,volume,turnover",
        newest=True,
    ),
    "bybit, no names": layout("ms o h l c v q", newest=True),
    "bybit inverse": layout(
        "s o h l c usd v", "start_at,open,high,low,close,volume,turnover"
    ),
    "bitget": layout("ms o h l c v q", newest=True),
    "bitget spot": layout("ms o h l c v q q"),
    "mexc": layout("ms o h l c v end q"),
    "kucoin": layout(
        "s o c h l v q", "time,open,close,high,low,volume,turnover", newest=True
    ),
    "gate futures": layout("s ct01 c h l o q", "t,v,c,h,l,o,sum"),
    "htx": layout(
        "s o c l h v q n", "id,open,close,low,high,amount,vol,count", newest=True
    ),
    "kraken": layout("s o h l c v n"),
    "kraken rest": layout("s o h l c vw v n"),
    "coinbase, names": layout("s l h o c v", "time,low,high,open,close,volume"),
    "bitstamp": layout(
        "s o h l c v q vw",
        "Timestamp,Open,High,Low,Close,Volume_(BTC),Volume_(Currency),Weighted_Price",
    ),
    "gemini": layout(
        "ms iso sym o h l c v",
        "Unix Timestamp,Date,Symbol,Open,High,Low,Close,Volume",
        top=["https://www.gemini.com"],
        newest=True,
    ),
    "cryptodatadownload": layout(
        "s iso sym o h l c v q n",
        "unix,date,symbol,open,high,low,close,Volume BTC,Volume USDT,tradecount",
        top=["https://www.CryptoDataDownload.com"],
        newest=True,
    ),
    "cryptodatadownload, exchanged": layout(
        "s iso sym o h l c q v",
        "unix,date,symbol,open,high,low,close,Volume BTC,Volume USD",
        newest=True,
    ),
    "cryptocompare": layout(
        "s c h l o v q", "time,close,high,low,open,volumefrom,volumeto"
    ),
    "coinapi": layout(
        "iso0 iso00 tick o h l c v n",
        "time_period_start,time_period_end,time_open,price_open,price_high,price_low,"
        "price_close,volume_traded,trades_count",
    ),
    "polygon flat files": layout(
        "sym v o c h l ns n",
        "ticker,volume,open,close,high,low,window_start,transactions",
    ),
    "alpaca": layout("isoz o h l c v n vw", "t,o,h,l,c,v,n,vw"),
    "alpaca frame": layout(
        "sym iso00 o h l c v n vw",
        "symbol,timestamp,open,high,low,close,volume,trade_count,vwap",
    ),
    "tiingo": layout(
        "iso00 o h l c v q n",
        "date,open,high,low,close,volume,volumeNotional,tradesDone",
    ),
    "twelvedata": layout(
        "iso o h l c v", "datetime;open;high;low;close;volume", sep=";", newest=True
    ),
    "dukascopy": layout("digits o h l c v", "Gmt time,Open,High,Low,Close,Volume"),
    "tradingview": layout("isoz o h l c v", "time,open,high,low,close,Volume"),
    "metatrader 5": layout(
        "daydot clock o h l c n v 0",
        "<DATE>\t<TIME>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<TICKVOL>\t<VOL>\t<SPREAD>",
        sep="\t",
    ),
    "metatrader 4": layout("daydot clock o h l c v"),
    "finam, stooq": layout(
        "sym 1 day8 clock6 o h l c v",
        "<TICKER>,<PER>,<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>",
    ),
    "histdata": layout("digits o h l c v", sep=";"),
    "amberdata": layout("ms o h l c v", "exchangeTimestamp,open,high,low,close,volume"),
    "kaiko": layout("ms o h l c v", "timestamp|open|high|low|close|volume", sep="|"),
    "hyperliquid": layout("ms end sym o c h l v n", "t,T,s,o,c,h,l,v,n"),
    "upbit": layout(
        "sym isoz kst o h l c tick q v 1",
        "market,candle_date_time_utc,candle_date_time_kst,opening_price,high_price,"
        "low_price,trade_price,timestamp,candle_acc_trade_price,"
        "candle_acc_trade_volume,unit",
        newest=True,
    ),
    "dydx": layout(
        "isoz l h o c v q n",
        "startedAt,low,high,open,close,baseTokenVolume,usdVolume,trades",
        newest=True,
    ),
    "ccxt frame": layout("ms o h l c v", "0,1,2,3,4,5"),
    "ccxt frame with index": layout("row ms o h l c v", ",0,1,2,3,4,5"),
    "rows counted, no names": layout("row ms o h l c v q"),
    "pandas": layout("row iso o h l c v", ",date,open,high,low,close,volume"),
    "pandas, dates as index": layout("iso00 o h l c v", ",open,high,low,close,volume"),
    "R": layout("row iso o h l c v", '"time","open","high","low","close","volume"'),
    "yfinance": layout(
        "iso00 c h l o v",
        "Price,Close,High,Low,Open,Volume\nTicker,BTC-USD,BTC-USD,BTC-USD,BTC-USD,"
        "BTC-USD\nDatetime,,,,,",
    ),
    "comments": layout(
        "ms o h l c v",
        "# timestamp, open, high, low, close, volume",
        top=["# Binance, 1m", "# made by hand", ""],
    ),
    "excel": layout(
        "slash o h l c v", "date;open;high;low;close;volume", sep=";", top=["sep=;"]
    ),
    "poloniex": layout(
        "s h l o c q v vw",
        "date,high,low,open,close,volume,quoteVolume,weightedAverage",
    ),
    "bitpanda": layout(
        "sym h l o c v q isoz",
        "instrument_code,high,low,open,close,total_amount,volume,time",
    ),
    "coinex": layout(
        "sym ms o c h l v q", "market,created_at,open,close,high,low,volume,value"
    ),
    "coinone": layout(
        "ms o h l c v q", "timestamp,open,high,low,close,target_volume,quote_volume"
    ),
    "coincap": layout("o h l c v ms", "open,high,low,close,volume,period"),
    "databento": layout(
        "isoz 1 o h l c v sym", "ts_event,rtype,open,high,low,close,volume,symbol"
    ),
    "sierra chart": layout(
        "day clock o h l c v n",
        "Date, Time, Open, High, Low, Last, Volume, # of Trades",
    ),
    "binance, dates of a spreadsheet": layout(
        "iso o h l c v", "Open Time (UTC),Open,High,Low,Close,Volume BTC"
    ),
    "two times": layout(
        "ms iso00 o h l c v", "timestamp,datetime,open,high,low,close,volume"
    ),
    "hour and minute": layout(
        "day hour minute o h l c v", "date,hour,minute,open,high,low,close,volume"
    ),
    "hour and minute as numbers": layout(
        "day8 hhmm o h l c v", "date,time,open,high,low,close,volume"
    ),
    "calendar": layout(
        "year month dom hour minute o h l c v",
        "Year,Month,Day,Hour,Minute,Open,High,Low,Close,Volume",
    ),
    "hour and minute of a whole time": layout(
        "iso hour minute o h l c v", "time,hour,minute,open,high,low,close,volume"
    ),
    "days of a spreadsheet": layout("sheet o h l c v", "time,o,h,l,c,v"),
    "zone as a word": layout("est o h l c v", "time,open,high,low,close,volume"),
    "day and time": layout("day iso o h l c v", "date,time,open,high,low,close,volume"),
    "postgres": layout("pg o h l c v", "time,open,high,low,close,volume"),
    "offset": layout("ruby o h l c v", "time,open,high,low,close,volume"),
    "gmt": layout("gmt o h l c v", "time,open,high,low,close,volume"),
    "dots": layout("dot o h l c v", "time,open,high,low,close,volume"),
    "named month": layout("named o h l c v", "time,open,high,low,close,volume"),
    "trailing commas": layout("ms o h l c v ", "time,open,high,low,close,volume"),
    "carriage returns": layout("ms o h l c v", "ts,o,h,l,c,v", end="\r"),
    "no newline": layout("ms o h l c v", "ts,o,h,l,c,v", last=""),
    "tabs": layout("ms o h l c v", "ts\to\th\tl\tc\tv", sep="\t"),
}


LARGE = MARKET.assign(**{name: MARKET[name] * 1000 for name in VALUES})


@pytest.mark.parametrize(
    ("sep", "signs"),
    [(";", ",."), ("\t", ".,"), (",", ",."), (",", ".,"), (";", " ."), (";", "'.")],
)
def test_thousands_are_told_by_the_decimals(tmp_path, caplog, sep, signs):
    caplog.set_level("INFO")

    def written_so(value):
        return f"{value:,.2f}".translate(str.maketrans(",.", signs))

    cells = LARGE.astype({"timestamp": str}).map(
        lambda x: x if isinstance(x, str) else written_so(x)
    )
    path = written(tmp_path, cells.to_csv(index=False, sep=sep))
    expect(read_candles(path), LARGE, rtol=1e-9)
    assert f"{signs[0]!r} read as the sign for thousands" in caplog.text


def test_cells_set_apart_by_spaces_and_names_that_come_again(tmp_path, caplog):
    caplog.set_level("INFO")
    table = MARKET.assign(timestamp=MARKET["timestamp"].dt.strftime("%Y-%m-%d %H:%M"))
    text = table.to_string(index=False) + "\n"
    expect(read_candles(written(tmp_path, text)))
    names, *rows = text.splitlines(keepends=True)
    split = names.replace("timestamp", "date time", 1)
    twice = "".join([split, *rows[:20], split, *rows[20:]])
    expect(read_candles(written(tmp_path, twice)))
    expect(read_candles(written(tmp_path, "".join(rows))))
    assert "cells read as set apart by spaces" in caplog.text
    assert "1 line repeats the names: left out" in caplog.text


@pytest.mark.parametrize("name", CSV)
def test_csv(tmp_path, name):
    case = CSV[name]
    path = written(tmp_path, csv_of(case.words, case.header, **case.options))
    expect(read_candles(path), rtol=1e-9)


def objects(words, names, **options):
    rows = rows_of(words, **options)
    return [dict(zip(names.split(","), row, strict=True)) for row in rows]


def arrays(words, names, **options):
    columns = zip(*rows_of(words, **options), strict=True)
    return dict(zip(names.split(","), map(list, columns), strict=True))


def messages(is_final=True, symbol="BTCUSDT"):
    """What Binance's stream of candles sends."""
    candles = objects("ms end sym o c h l v n q", "t,T,s,o,c,h,l,v,n,q", text=True)
    klines = [candle | {"t": int(candle["t"]), "x": is_final} for candle in candles]
    return [{"e": "kline", "E": k["t"] + 9, "s": symbol, "k": k} for k in klines]


BINANCE = "ms o h l c v end q n v q 0"
DOCUMENTS = {
    "pages": lambda: [rows_of("ms o h l c v")[:30], rows_of("ms o h l c v")[30:]],
    "messages": messages,
    "messages of unfinished bars, too": lambda: [
        {"stream": "btcusdt@kline_1m", "data": each}
        for each in [*messages(is_final=False), *messages()]
    ],
    "messages of okx": lambda: [
        {"arg": {"channel": "candle1m", "instId": "BTCUSDT"}, "data": [row]}
        for row in rows_of("ms o h l c v q q 1", text=True)
    ],
    "beside a last price": lambda: {
        "result": objects("s o h l c v", "time,open,high,low,close,volume"),
        "last": {"open": 1, "high": 2, "low": 1, "close": 2, "volume": 0, "time": 0},
    },
    "ccxt, freqtrade": lambda: rows_of("ms o h l c v"),
    "binance": lambda: rows_of(BINANCE),
    "okx": lambda: {
        "code": "0",
        "msg": "",
        "data": rows_of("ms o h l c v q q 1", newest=True, text=True),
    },
    "bybit": lambda: {
        "retCode": 0,
        "result": {
            "symbol": "BTCUSDT",
            "category": "linear",
            "list": rows_of("ms o h l c v q", newest=True, text=True),
        },
        "time": 1709257200000,
    },
    "bitget": lambda: {"code": "00000", "data": rows_of("ms o h l c v q q", text=True)},
    "mexc futures": lambda: {
        "success": True,
        "data": arrays(
            "s o c h l v q o", "time,open,close,high,low,vol,amount,realOpen"
        ),
    },
    "gate futures": lambda: objects("s ct01 c h l o q", "t,v,c,h,l,o,sum"),
    "htx": lambda: {
        "ch": "market.btcusdt.kline.1min",
        "status": "ok",
        "data": objects(
            "s o c l h v q n", "id,open,close,low,high,amount,vol,count", newest=True
        ),
    },
    "kraken": lambda: {
        "error": [],
        "result": {"XXBTZUSD": rows_of("s o h l c vw v n"), "last": 1709257140},
    },
    "coinbase advanced": lambda: {
        "candles": objects(
            "s l h o c v", "start,low,high,open,close,volume", newest=True, text=True
        )
    },
    "bitstamp": lambda: {
        "data": {
            "pair": "BTC/USD",
            "ohlc": objects(
                "s h l o c v", "timestamp,high,low,open,close,volume", text=True
            ),
        }
    },
    "gemini": lambda: rows_of("ms o h l c v", newest=True),
    "deribit": lambda: {
        "jsonrpc": "2.0",
        "result": {
            **arrays("v ms o l h q c", "volume,ticks,open,low,high,cost,close"),
            "status": "ok",
        },
        "usIn": 1709257200000000,
    },
    "cryptocompare": lambda: {
        "Response": "Success",
        "Data": {
            "Aggregated": False,
            "TimeFrom": 1709251200,
            "Data": objects(
                "s h l o v q c", "time,high,low,open,volumefrom,volumeto,close"
            ),
        },
    },
    "polygon": lambda: {
        "ticker": "X:BTCUSD",
        "results": objects("v vw o c h l ms n", "v,vw,o,c,h,l,t,n"),
    },
    "alpaca": lambda: {
        "bars": {"BTC/USD": objects("c h l n o isoz v vw", "c,h,l,n,o,t,v,vw")},
        "next_page_token": None,
    },
    "finnhub": lambda: {**arrays("c h l o s v", "c,h,l,o,t,v"), "s": "ok"},
    "tiingo": lambda: [
        {
            "ticker": "btcusd",
            "priceData": objects(
                "iso00 o h l c v q", "date,open,high,low,close,volume,volumeNotional"
            ),
        }
    ],
    "twelvedata": lambda: {
        "meta": {"symbol": "BTC/USD", "interval": "1min"},
        "values": objects(
            "iso o h l c v",
            "datetime,open,high,low,close,volume",
            newest=True,
            text=True,
        ),
        "status": "ok",
    },
    "yahoo": lambda: {
        "chart": {
            "result": [
                {
                    "meta": {"symbol": "BTC-USD", "validRanges": ["1d", "5d"]},
                    "timestamp": [row[0] for row in rows_of("s")],
                    "indicators": {
                        "quote": [arrays("o h l c v", "open,high,low,close,volume")]
                    },
                }
            ],
            "error": None,
        }
    },
    "alpha vantage": lambda: {
        "Meta Data": {"1. Information": "Intraday", "2. Digital Currency Code": "BTC"},
        "Time Series Crypto (1min)": dict(
            zip(
                [row[0] for row in rows_of("iso", newest=True)],
                objects(
                    "o h l c v",
                    "1. open,2. high,3. low,4. close,5. volume",
                    newest=True,
                    text=True,
                ),
                strict=True,
            )
        ),
    },
    "hyperliquid": lambda: objects("ms end sym o c h l v n", "t,T,s,o,c,h,l,v,n"),
    "coinapi": lambda: objects(
        "iso0 iso0 o h l c v",
        "time_period_start,time_open,price_open,price_high,price_low,price_close,"
        "volume_traded",
    ),
    "amberdata": lambda: {
        "status": 200,
        "payload": {
            "data": objects("ms o h l c v", "timestamp,open,high,low,close,volume")
        },
    },
    "pandas columns": lambda: json.loads(MARKET.to_json(date_format="iso")),
    "pandas index": lambda: json.loads(NUMBERS.to_json(orient="index")),
    "pandas records": lambda: json.loads(NUMBERS.to_json(orient="records")),
    "pandas split": lambda: json.loads(NUMBERS.to_json(orient="split")),
    "pandas table": lambda: json.loads(
        MARKET.to_json(orient="table", double_precision=15)
    ),
    "pandas, dates as index": lambda: json.loads(
        NUMBERS.set_index("timestamp").to_json()
    ),
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_json(tmp_path, name):
    data = json.dumps(DOCUMENTS[name]())
    expect(read_candles(written(tmp_path, data, "a.json")), rtol=1e-9)
    packed = written(tmp_path, gzip.compress(data.encode()), "a.json.gz")
    assert len(read_file(packed)) == NUM_BARS


def test_lines_of_json(tmp_path):
    lines = map(json.dumps, objects("ms o h l c v", "t,o,h,l,c,v"))
    expect(read_candles(written(tmp_path, "\n".join(lines), "a.json")))


FRAMES = {
    "as it is": MARKET,
    "dates as index": MARKET.set_index("timestamp"),
    "index without a name": MARKET.set_index("timestamp").rename_axis(None),
    "freqtrade": MARKET.rename(columns={"timestamp": "date"}),
    "names of yfinance": MARKET.set_index("timestamp").set_axis(
        pd.MultiIndex.from_product([["Open", "High", "Low", "Close", "Volume"], ["X"]]),
        axis=1,
    ),
    "milliseconds": MARKET.assign(timestamp=FIELDS["ms"]),
    "naive": MARKET.assign(timestamp=MARKET["timestamp"].dt.tz_localize(None)),
    "another zone": MARKET.assign(
        timestamp=MARKET["timestamp"].dt.tz_convert("Asia/Tokyo")
    ),
    "text": MARKET.astype(str),
    "text as index": MARKET.astype(str).set_index("timestamp"),
    "objects": MARKET.astype(object),
    "ccxt": pd.DataFrame(rows_of("ms o h l c v")),
    "newest first": MARKET[::-1],
    "twice": pd.concat([MARKET, MARKET.tail(3)]),
    "integers": MARKET.assign(timestamp=FIELDS["s"]).set_index("timestamp"),
    "integers in equal steps": MARKET.drop(columns="timestamp").set_axis(
        pd.RangeIndex(FIELDS["ms"][0], FIELDS["ms"][NUM_BARS - 1] + 1, 60_000)
    ),
    "ccxt, some rows of it": pd.DataFrame(rows_of("ms o h l c v")).set_axis(
        [*range(1, NUM_BARS + 1)]
    ),
    "tickers above the names": MARKET.set_index("timestamp").set_axis(
        pd.MultiIndex.from_product([["X"], ["Open", "High", "Low", "Close", "Volume"]]),
        axis=1,
    ),
    "others beside": MARKET.assign(rsi=1.0, quote_volume=FIELDS["q"], symbol="BTC"),
}


@pytest.mark.parametrize("name", FRAMES)
def test_frames_are_read_as_files_are(name):
    expect(read_frame(FRAMES[name]))


def test_a_frame_of_two_levels_and_marks_of_filled_bars():
    symbols = pd.MultiIndex.from_arrays([["BTC"] * NUM_BARS, MARKET["timestamp"]])
    symbols = symbols.set_names(["symbol", "timestamp"])
    expect(read_frame(MARKET.drop(columns="timestamp").set_index(symbols)))
    prices = MARKET.set_index("timestamp")
    both = pd.concat({"BTC-USD": prices, "ETH-USD": prices}, axis=1)
    with pytest.raises(DataError, match="one market.*'BTC-USD', 'ETH-USD'.*level=0"):
        read_frame(both)
    marks = np.arange(NUM_BARS) % 7 == 3
    marked = read_frame(MARKET.assign(is_filled=marks)[::-1])
    assert marked["is_filled"].tolist() == marks.tolist()


# Text and packed files


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_encodings(tmp_path, encoding):
    text = csv_of("iso o h l c v", "time,open,high,low,close,volume")
    for mark in ("", "\ufeff"):
        expect(read_candles(written(tmp_path, (mark + text).encode(encoding))))


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_decimal_commas(tmp_path, separator):
    header = separator.join(["Zeit", "open", "high", "low", "close", "volume"])
    text = csv_of("dot o h l c v", header.replace("Zeit", "time"), sep=separator)
    date, cells = text.split("\n")[1].split(separator, 1)
    lines = [line.split(separator, 1) for line in text.splitlines()]
    text = "\n".join(a + separator + b.replace(".", ",") for a, b in lines) + "\n"
    assert cells.replace(".", ",") in text and date
    expect(read_candles(written(tmp_path, text)))
    quoted = "\n".join(
        f'"{line.replace(separator, chr(34) + "," + chr(34))}"'
        for line in text.splitlines()
    )
    expect(read_candles(written(tmp_path, quoted + "\n")))


@pytest.mark.parametrize("word", ["us12", "eu", "dukas"])
def test_day_or_month_first_is_told_by_the_data_or_refused(tmp_path, word):
    market = make_market("1D")
    fields = fields_of(market)
    rows = zip(fields[word], *(market[name] for name in VALUES), strict=True)
    lines = [",".join(map(str, row)) for row in rows]
    text = "\n".join(["time,open,high,low,close,volume", *lines, ""])
    expect(read_candles(written(tmp_path, text)), market)
    text = csv_of(f"{word} o h l c v", "time,open,high,low,close,volume")
    with pytest.raises(DataError, match="whether the day or the month comes first"):
        read_candles(written(tmp_path, text))


@pytest.mark.parametrize(
    "form",
    ["%d/%m/%Y %H:%M", "%m/%d/%y %H:%M", "%d.%m.%y %H:%M", "%y/%m/%d %H:%M"],
)
def test_short_dates_are_told_by_days_that_follow_each_other(tmp_path, form):
    market = make_market("1h").drop(7).reset_index(drop=True)  # 1 March to 2 March
    lines = [
        f"{t:{form}},{','.join(map(str, row))}"
        for t, row in zip(market["timestamp"], market[VALUES].values, strict=True)
    ]
    header = "time,open,high,low,close,volume"
    expect(read_candles(written(tmp_path, "\n".join([header, *lines, ""]))), market)
    with pytest.raises(DataError, match="month comes first.*may be .* or "):
        read_candles(written(tmp_path, "\n".join([header, *lines[:20], ""])))


def test_minutes_without_a_trade_are_gaps(tmp_path, caplog):
    caplog.set_level("INFO")
    lines = csv_of(
        "s o h l c v q", "Timestamp,Open,High,Low,Close,Volume_(BTC),Weighted"
    )
    lines = lines.splitlines()
    lines[3] = lines[3].split(",")[0] + ",NaN,NaN,NaN,NaN,NaN,NaN"
    lines[9] = lines[9].split(",")[0] + ",,,,,,"
    table = read_candles(written(tmp_path, "\n".join([*lines, ""])))
    expect(table, MARKET.drop([2, 8]).reset_index(drop=True))
    assert "2 rows without prices left out: gaps" in caplog.text


def test_copies_are_dropped_and_contradictions_refused(tmp_path, caplog):
    caplog.set_level("INFO")
    lines = csv_of("ms o h l c v").splitlines()
    expect(read_candles(written(tmp_path, "\n".join([*lines[:9], *lines[6:], ""]))))
    assert "3 exact duplicates dropped" in caplog.text
    wrong = lines[7].rsplit(",", 1)[0] + ",77"
    path = written(tmp_path, "\n".join([*lines[:8], wrong, *lines[8:], ""]))
    with pytest.raises(DataError, match="duplicate timestamps: 1"):
        read_candles(path)


def halves():
    lines = csv_of("ms o h l c v").splitlines()
    micro = csv_of("us o h l c v").splitlines()
    return "\n".join([*lines[:25], ""]), "\n".join([*micro[20:], ""])


def test_months_in_a_zip(tmp_path):
    one, other = halves()  # they overlap, in other units
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("BTCUSDT-1m-2025-01.csv", other)
        archive.writestr("BTCUSDT-1m-2024-12.csv", one)
        archive.writestr("__MACOSX/._BTCUSDT-1m-2024-12.csv", b"\0\1")
        archive.writestr(".DS_Store", b"\0\1")
    expect(read_candles(tmp_path / "a.zip"))
    with zipfile.ZipFile(tmp_path / "a.zip", "a") as archive:
        archive.writestr("ETHUSDT-1m-2025-02.csv", other)
    with pytest.raises(DataError, match="one pair.*BTCUSDT, ETHUSDT"):
        read_candles(tmp_path / "a.zip")


def test_months_in_a_folder(tmp_path):
    one, other = halves()
    folder = tmp_path / "months"
    folder.mkdir()
    written(folder, other, "BTCUSDT-1m-2025-01.csv")
    written(folder, one, "BTCUSDT-1m-2024-12.csv")
    written(folder, "mine", ".notes.csv")
    written(folder, "mine", "readme.md")
    expect(read_candles(folder))
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingInputError, match="a folder without any"):
        read_candles(tmp_path / "empty")


def test_an_archive_of_which_all_bars_are_off_the_hour_is_a_gap(tmp_path, caplog):
    caplog.set_level("INFO")
    market, paths = make_market("1h"), []
    market.loc[10:19, "timestamp"] += pd.Timedelta("28min14s789ms")
    for first in (0, 10, 20, 30):
        paths.append(tmp_path / f"BTCUSDT-1h-{first}.parquet")
        market[first : first + 10].to_parquet(paths[-1])
    table = read_candles(paths)
    expect(table, market.drop(range(10, 20)).reset_index(drop=True))
    assert "-10.parquet: 10 bars, all off the 1h boundaries" in caplog.text
    with pytest.raises(DataError, match="a gap where they are read with those around"):
        read_candles(paths[1])


@pytest.mark.parametrize(
    ("zone", "late"), [("America/New_York", "05:00"), ("Europe/London", "00:00")]
)
def test_days_of_a_zone_that_changes_its_clocks_are_never_early(caplog, zone, late):
    caplog.set_level("INFO")
    market = make_market("1D")
    local = market["timestamp"].dt.tz_localize(None)
    moments = local.dt.tz_localize(zone).dt.tz_convert("UTC")
    table = read_frame(market.assign(timestamp=moments))
    assert (table["timestamp"].dt.strftime("%H:%M") == late).all()
    assert (table["timestamp"] >= moments).all()
    assert table["timestamp"].diff().dropna().eq(pd.Timedelta("1D")).all()
    assert "changes its clocks, from" in caplog.text


@pytest.mark.parametrize("offset", ["28min14s789ms", "30min"])
def test_bars_off_the_hour_after_an_outage_are_cut(tmp_path, caplog, offset):
    caplog.set_level("INFO")
    market = make_market("1h")
    market.loc[15:25, "timestamp"] += pd.Timedelta(offset)
    market = market.drop(range(11, 15)).reset_index(drop=True)
    table = read_frame(market)
    expect(table, market.drop(range(11, 22)).reset_index(drop=True))
    assert "11 bars open off the 1h boundaries after an outage" in caplog.text
    stray = make_market("1h")  # without an outage before it, it is no such bar
    stray.loc[15, "timestamp"] += pd.Timedelta(offset)
    assert len(read_frame(stray)) == NUM_BARS


# Refusals


OTHER_ORDERS = {
    "coinbase": ("s l h o c v", "timestamp,low,high,open,close,volume"),
    "gate": ("s v c h l o", "timestamp,volume,close,high,low,open"),
    "bitfinex": ("ms o c h l v", "timestamp,open,close,high,low,volume"),
    "kucoin": ("s o c h l v q", "timestamp,open,close,high,low,volume,turnover"),
    "gate spot": (
        "s q c h l o v 1",
        "timestamp,turnover,close,high,low,open,volume,x7",
    ),
    "exchanged": ("s c h l o v", "timestamp,close,high,low,open,volume"),
}


@pytest.mark.parametrize("name", OTHER_ORDERS)
@pytest.mark.parametrize("newest", [False, True])
def test_columns_in_another_order_are_refused_with_the_order(tmp_path, name, newest):
    words, order = OTHER_ORDERS[name]
    path = written(tmp_path, csv_of(words, newest=newest))
    match = f"all rows fit the order {order.replace(',', ', ')}.*{order}"
    with pytest.raises(DataError, match=match) as caught:
        read_candles(path)
    assert "Repair" not in str(caught.value)
    document = written(tmp_path, json.dumps(rows_of(words, newest=newest)), "a.json")
    with pytest.raises(DataError, match=match):
        read_candles(document)
    if "x7" not in order:  # the cure helps
        expect(read_candles(written(tmp_path, csv_of(words, order, newest=newest))))


REFUSALS = {
    "exchanged names": (
        csv_of("ms o h l c v", "ts,low,high,open,close,volume"),
        "all rows fit where 'low' is the open, 'high' is the high, 'open' is the low",
    ),
    "times that differ": (
        csv_of("ms kst o h l c v", "timestamp,datetime,open,high,low,close,volume"),
        "'timestamp' is 2024-03-01T00:00:00.* and 'datetime' is 2024-03-01T09:00:00",
    ),
    "quote volume alone": (
        csv_of("ms o h l c q", "ts,open,high,low,close,quote_volume"),
        "no column 'volume' in base units, only 'quote_volume'",
    ),
    "two volumes": (
        csv_of("ms o h l c v n", "ts,open,high,low,close,volume,vol"),
        "one volume in base units.*'volume' and 'vol', which the prices do not tell",
    ),
    "no volume": (
        csv_of("ms o h l c", "ts,o,h,l,c"),
        "no column 'volume'; .* Rename those that are meant",
    ),
    "five columns": (csv_of("ms o h l c"), "11 or 12 columns .*Received: 5 columns"),
    "a page": (
        "<html>\n<body>Not found</body>\n",
        "no such row; it begins with '<html>",
    ),
    "thousands": (
        'Date,o,h,l,c,v\n2024-03-01,"61,130.0","62,130.0","60,130.0",x,"7.5K"\n',
        "'62,130.0', '60,130.0' as numbers in line 2. Write numbers without signs",
    ),
    "another way to write times": (
        csv_of("named o h l c v", "ts,o,h,l,c,v").replace("-", "~"),
        "Received: 40 others, first '01~Mar~2024 00:00' in row 0",
    ),
    "one line": ("timestamp,open,high,low,close,volume\n", "CSV of one line"),
    "cut off": (csv_of("ms o h l c v").rstrip()[:-18], "last line that breaks off"),
    "a word": (
        csv_of("ms o h l c v", "ts,o,h,l,c,v") + "1709253660000,x,1,1,1,1\n",
        "line 42 has 'x' in 'o'",
    ),
    "another width": (
        csv_of("ms o h l c v", "ts,o,h,l,c,v") + "1709253660000,1,1\n",
        "line 42 has 3 cells, the first row 6",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refusals_say_what_was_found(tmp_path, name):
    data, match = REFUSALS[name]
    with pytest.raises(DataError, match=match):
        read_candles(written(tmp_path, data))


@pytest.mark.parametrize(
    "document, match",
    [
        ({"code": -1121, "msg": "Invalid symbol."}, "Received: .*Invalid symbol"),
        ({"data": []}, "Received"),
        ({"a": rows_of("ms o h l c v"), "b": rows_of("ms o h l c v")}, "2 tables"),
        ([rows_of("ms o h l c v")] * 2, "2 tables of the same times, without names"),
        (messages()[:20] + messages(symbol="ETHUSDT")[20:], "40 tables"),
        (rows_of("ms o h l c v") + [[1, 2, 3]], "3 cells in row 40, and 6 in 40 of 41"),
        ([[1, 2, 3]], r"Received: \[\[1, 2, 3\]\]"),
    ],
)
def test_json_without_candles(tmp_path, document, match):
    with pytest.raises(DataError, match=match):
        read_candles(written(tmp_path, json.dumps(document), "a.json"))


def test_prices_that_a_narrow_type_has_rounded(tmp_path):
    names = ["open", "high", "low", "close"]
    market = MARKET.astype(dict.fromkeys(names, "float32"))
    market.to_parquet(tmp_path / "a.parquet")
    for table in (read_frame(market), read_candles(tmp_path / "a.parquet")):
        assert set(table[names].dtypes) == {np.dtype(np.float64)}
        [doubt] = table.attrs["doubts"]
        assert "float32, which keeps seven digits" in doubt
    with pytest.raises(DataError, match="float16, which keeps three digits"):
        read_frame(MARKET.astype({"close": "float16"}))
    assert read_frame(MARKET).attrs["doubts"] == ()


def test_a_unit_that_the_prices_contradict_is_doubtful():
    def doubts(**columns):
        return " ".join(read_frame(MARKET.assign(**columns)).attrs["doubts"])

    other = np.random.default_rng(0).lognormal(8, 1, NUM_BARS)
    assert "'quote_volume' / 'volume' is not the price" in doubts(quote_volume=other)
    contracts = MARKET["volume"] * 0.01
    assert "'volCcy' is 'volume' x 0.01 in every bar" in doubts(volCcy=contracts)
    thousands = np.round(FIELDS["q"] / 1000, 3)
    assert "'quote_volume' / 'volume' is not the price" in doubts(
        quote_volume=thousands
    )
    satoshi = {"volume": FIELDS["usd"], "turnover": MARKET["volume"] * 1e8}
    assert "'turnover' / 'volume' is not the price" in doubts(**satoshi)
    assert not doubts(quote_volume=FIELDS["q"], amount=FIELDS["n"])
    base = {"Volume": FIELDS["q"], "Volume BTC": MARKET["volume"]}
    expect(read_frame(MARKET.drop(columns="volume").assign(**base)))
    expect(read_frame(MARKET.assign(**{"Volume MA": MARKET["volume"].shift(1) * 1.1})))
    assert "volume is 0 in every bar" in doubts(volume=0.0)
    assert not doubts(volume=np.arange(NUM_BARS) == 3)


@pytest.mark.parametrize(
    "first, told",
    [
        ("2024-03-03 00:00", "every weekly bar opens on Sunday at 00:00 UTC"),
        ("2024-02-29 16:00", "every weekly bar opens on Thursday at 16:00 UTC"),
        ("2024-03-04 00:00", ""),
    ],
)
def test_weeks_that_open_on_another_day_are_taken_with_a_note(caplog, first, told):
    caplog.set_level("INFO")
    stamps = pd.date_range(first, periods=NUM_BARS, freq="7D", tz="UTC").as_unit("ns")
    market = MARKET.assign(timestamp=stamps)
    expect(read_candles(market), market)
    expect(read_candles(market, timeframe="1w"), market)
    assert ("opens" in caplog.text) == bool(told) and told in caplog.text


def test_the_cure_fits_the_fault(tmp_path):
    late = MARKET.assign(timestamp=MARKET["timestamp"] + pd.Timedelta("1.5s"))
    with pytest.raises(
        DataError, match="Write the opening times of the bars"
    ) as caught:
        read_candles(late)
    assert "None" not in str(caught.value) and "Repair" not in str(caught.value)
    with pytest.raises(DataError, match=r"Sort the rows by time\.$"):
        read_candles(MARKET.iloc[[0, 2, 1, 3, 4, 5]])


def test_no_price_is_ever_read_from_another_column(tmp_path):
    rng = np.random.default_rng(11)
    counts = {"read": 0, "refused": 0}
    for _ in range(150):
        words = [*"ohlcv", *rng.choice(["q", "n", "vw", "end", "0", "usd"], 3, False)]
        words = [*rng.permutation(words[: rng.integers(5, 9)])]
        path = written(
            tmp_path, csv_of(" ".join(["ms", *words]), newest=rng.random() < 0.5)
        )
        try:
            table = read_candles(path)
        except DataError:
            counts["refused"] += 1
            continue
        counts["read"] += 1
        for name in ("open", "high", "low", "close"):
            assert table[name].tolist() == MARKET[name].tolist()
    assert min(counts.values()) > 0
    words = "ohlc"
    for order in itertools.permutations(words):
        path = written(tmp_path, csv_of(" ".join(["ms", *order, "v"])))
        if "".join(order) == words:
            expect(read_file(path))
            continue
        with pytest.raises(DataError, match="all rows fit the order timestamp"):
            read_file(path)


def test_arrow_files_of_other_types(tmp_path):
    table = pa.Table.from_pandas(MARKET, preserve_index=False)
    decimals = [
        pa.array([decimal.Decimal(str(cell)) for cell in MARKET[name]])
        for name in VALUES
    ]
    odd = [pa.array([{"a": 1}] * NUM_BARS), pa.array([["b"]] * NUM_BARS)]
    names = [*table.column_names, "x", "y"]
    dates = pa.array(FIELDS["isoz"]).dictionary_encode()
    pq.write_table(pa.table([dates, *decimals, *odd], names), tmp_path / "a.parquet")
    expect(read_candles(tmp_path / "a.parquet"))
    two = MARKET.set_index("timestamp")
    two.columns = pd.MultiIndex.from_product([VALUES, ["BTC-USD"]])
    two.to_parquet(tmp_path / "b.parquet")
    expect(read_candles(tmp_path / "b.parquet"))
    twice = pa.table([*table.columns, table.column(1)], [*table.column_names, "open"])
    for suffix, write in (("parquet", pq.write_table), ("feather", write_feather)):
        write(twice, tmp_path / f"c.{suffix}")
        with pytest.raises(DataError, match="one column of each name.*'open'"):
            read_candles(tmp_path / f"c.{suffix}")


@pytest.mark.parametrize("name", ["freqtrade", "dates as index", "naive", "ccxt"])
def test_frames_are_resampled_and_filled_as_they_are_read(name):
    table = resample_candles(FRAMES[name], "5m")
    assert table.equals(resample_candles(MARKET, "5m")) and len(table) == NUM_BARS // 5
    assert len(fill_gaps(FRAMES[name], "1m")) == NUM_BARS


def test_check_reads_every_file_of_a_folder(tmp_path, capsys):
    for i, part in enumerate(halves()):
        written(tmp_path, part, f"BTCUSDT-1m-{i}.csv")
    assert main(["check", str(tmp_path)]) == 0
    told = "".join(capsys.readouterr())
    assert "BTCUSDT-1m-0.csv\n25 bars of 1m" in told
    assert "BTCUSDT-1m-1.csv\n20 bars of 1m" in told
