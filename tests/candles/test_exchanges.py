"""Paging through exchanges: no hole of our own making, whole files or none."""

import sys
import types
from datetime import date

import pyarrow.parquet as pq
import pytest

from candles.archives import DownloadError
from candles.checks import check_candles
from candles.exchanges import download_from_exchange
from candles.table import read_candles
from files.periods import plan_periods
from utils import ConfigError, DependencyError

TODAY = date(2024, 4, 10)


@pytest.fixture
def waits():
    return []


class FakeExchange:
    """An hourly market from 2024-01-02 on, five rows a page, and one hole."""

    timeframes = {"1h": "60"}
    first, step = 1704153600000, 3_600_000
    hole = range(1704153600000 + 50 * 3_600_000, 1704153600000 + 400 * 3_600_000)

    def __init__(self, options):
        self.calls = []
        FakeExchange.last = self

    def load_markets(self):
        return {"BTC/USDT": {}, "ETH/USDT": {}}

    def fetch_ohlcv(self, symbol, timeframe, since, limit):
        self.calls.append(since)
        if len(self.calls) == 2:
            raise FakeNetworkError("busy")
        start = max(since, self.first)
        if since < self.first - 100 * self.step:
            return []
        page = [start + i * self.step for i in range(5)]
        return [[t, 1.0, 2.0, 0.5, 1.5, 3.0] for t in page if t not in self.hole]


class FakeNetworkError(Exception):
    pass


@pytest.fixture
def ccxt(monkeypatch):
    module = types.ModuleType("ccxt")
    module.exchanges, module.fake = ["fake"], FakeExchange
    module.NetworkError, module.ExchangeError = FakeNetworkError, KeyError
    monkeypatch.setitem(sys.modules, "ccxt", module)
    return module


def test_exchange_pages_are_joined_without_holes_of_our_own(ccxt, waits, tmp_path):
    periods = plan_periods("2024-01-01", "2024-01", today=TODAY)
    (file,) = download_from_exchange(
        "fake", "ETHUSDT", "1h", periods, output_dir=tmp_path, sleep=waits.append
    )
    assert file == tmp_path / "fake" / "ETHUSDT-1h-2024-01.parquet"
    table = read_candles(file)
    report = check_candles(table)
    assert table["timestamp"].iloc[0].isoformat() == "2024-01-02T00:00:00+00:00"
    assert table["timestamp"].iloc[-1].isoformat() == "2024-01-31T23:00:00+00:00"
    assert (report.gaps.count, report.missing_bars) == (1, 350)
    assert waits == [1.0]
    assert pq.ParquetFile(file, page_checksum_verification=True).read().num_rows == 370


def test_exchange_periods_that_are_there_are_not_fetched_again(ccxt, waits, tmp_path):
    periods = plan_periods("2024-01", "2024-01", today=TODAY)
    for _ in range(2):
        download_from_exchange(
            "fake", "ETH/USDT", "1h", periods, output_dir=tmp_path, sleep=waits.append
        )
    assert FakeExchange.last.calls == []


def test_exchange_that_keeps_failing(ccxt, waits, tmp_path, monkeypatch):
    def fail(self, *args, **kwargs):
        raise FakeNetworkError("down")

    monkeypatch.setattr(FakeExchange, "fetch_ohlcv", fail)
    periods = plan_periods("2024-01", "2024-01", today=TODAY)
    with pytest.raises(DownloadError, match="down, in 3 attempts"):
        download_from_exchange(
            "fake",
            "ETHUSDT",
            "1h",
            periods,
            output_dir=tmp_path,
            num_attempts=3,
            sleep=waits.append,
        )
    assert waits == [1.0, 2.0]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "exchange, pair, timeframe, message",
    [
        ("fade", "ETHUSDT", "1h", "Did you mean 'fake'"),
        ("fake", "ETH/USD", "1h", "Did you mean 'ETH/USDT'"),
        ("fake", "ETHUSDT", "7m", "timeframe: expected one of 1h"),
    ],
)
def test_exchange_arguments(ccxt, tmp_path, exchange, pair, timeframe, message):
    periods = plan_periods("2024-01", "2024-01", today=TODAY)
    with pytest.raises(ConfigError, match=message):
        download_from_exchange(exchange, pair, timeframe, periods, output_dir=tmp_path)


def test_exchange_without_ccxt(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "ccxt", None)
    with pytest.raises(DependencyError, match="requirements-data.txt"):
        download_from_exchange("fake", "ETHUSDT", "1h", [], output_dir=tmp_path)
