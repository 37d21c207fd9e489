"""Exchanges without archives -> candle files, page by page through `ccxt`.

In: finding the pair, paging without losing bars, one verified file per period.
Out: archives and periods (`archives`).
"""

from __future__ import annotations

import importlib
import logging
import os
import time
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from candles.archives import (
    LIMIT_SECONDS,
    DownloadError,
    innermost_reason,
    require_some,
    time_is_up,
)
from candles.columns import COLUMNS
from files.atomic import atomic_path, require_creatable
from files.periods import Period
from files.progress import Progress, track
from files.time_limit import TimeLimit, TimeLimitError
from settings.names import plain_pair
from utils import (
    ConfigError,
    DependencyError,
    did_you_mean,
    duration_seconds,
)

logger = logging.getLogger(__name__)

PAGE_BARS = 1000


def download_from_exchange(
    exchange_name: str,
    pair: str,
    timeframe: str,
    periods: Sequence[Period],
    *,
    output_dir: str | os.PathLike[str] = "data",
    num_attempts: int = 5,
    limit: TimeLimit | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> list[Path]:
    """Fetches candles page by page through `ccxt`; one Parquet file per period.

    A period whose file is there is not fetched again.

    Args:
        exchange_name: A ccxt exchange id such as `"kraken"`.
        pair: `"BTC/USDT"` or `"BTCUSDT"`.
        timeframe: One that the exchange has.
        periods: From `plan_periods`.
        output_dir: The files go to the exchange's folder in it.
        num_attempts: Attempts per page while the network fails.
        limit: Longest time of all pages together; None is `LIMIT_SECONDS` from now.
        sleep: Waits between attempts.

    Raises:
        DependencyError: If ccxt is not installed.
        StorageError: If the folder takes no files.
        ConfigError: If the exchange, the pair or the timeframe is unknown.
        DownloadError: If the exchange keeps failing; finished periods stay.
    """
    require_creatable(Path(output_dir) / exchange_name)
    limit = limit or TimeLimit(LIMIT_SECONDS)
    exchange, attempt = _connect(exchange_name, num_attempts, limit, sleep)
    symbol = _find_symbol(attempt(exchange.load_markets), pair, exchange_name)
    if timeframe not in (exchange.timeframes or {}):
        raise ConfigError(
            f"timeframe: expected one of {', '.join(exchange.timeframes or {})} at "
            f"{exchange_name}. Received: {timeframe!r}."
        )

    def page(since: int) -> list[list[float]]:
        fetch = exchange.fetch_ohlcv
        return attempt(fetch, symbol, timeframe, since=since, limit=PAGE_BARS)

    found: list[Path] = []
    absent: list[str] = []
    for period in track(periods, "month", len(periods)):
        name = f"{plain_pair(pair)}-{timeframe}-{period.name}.parquet"
        target = Path(output_dir) / exchange_name / name
        if not target.is_file():
            step_ms = duration_seconds(timeframe) * 1000
            rows = _fetch_pages(page, period, step_ms=step_ms)
            if not rows:
                absent.append(period.name)
                continue
            _write_rows(target, rows)
        found.append(target)
        logger.info("%s", target)
    return require_some(found, absent, f"{exchange_name}: {symbol} {timeframe}")


def _connect(
    exchange_name: str,
    num_attempts: int,
    limit: TimeLimit,
    sleep: Callable[[float], None],
) -> tuple[Any, Callable[..., Any]]:
    """Returns the ccxt exchange, and a function that calls its methods with retries."""
    try:
        ccxt: Any = importlib.import_module("ccxt")
    except ImportError as error:
        raise DependencyError(
            "downloading from an exchange needs ccxt. "
            "Install it with: pip install -r requirements-data.txt"
        ) from error
    if exchange_name not in ccxt.exchanges:
        raise ConfigError(
            f"exchange: expected one that ccxt knows. Received: {exchange_name!r}."
            f"{did_you_mean(exchange_name, ccxt.exchanges)}"
        )
    exchange = getattr(ccxt, exchange_name)({"enableRateLimit": True})

    def attempt(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        for number in range(num_attempts):
            try:
                return limit.call(lambda: call(*args, **kwargs))
            except TimeLimitError as error:
                raise time_is_up(exchange_name, error) from error
            except ccxt.NetworkError as error:
                if number + 1 == num_attempts:
                    raise DownloadError(
                        f"{exchange_name}: expected an answer. Received: "
                        f"{innermost_reason(error)}, in {num_attempts} attempts. "
                        "Run the same command again."
                    ) from error
                sleep(min(60.0, 2.0**number, limit.left()))
            except ccxt.ExchangeError as error:
                raise DownloadError(
                    f"{exchange_name}: expected candles. Received: {error}. "
                    "Check the pair, the dates and the exchange's limits."
                ) from error

    return exchange, attempt


def _find_symbol(markets: dict[str, Any], pair: str, exchange_name: str) -> str:
    if pair in markets:
        return pair
    for symbol in markets:
        if plain_pair(symbol) == plain_pair(pair):
            return symbol
    raise ConfigError(
        f"pair: expected one of {exchange_name}. Received: {pair!r}."
        f"{did_you_mean(pair, markets)}"
    )


def _fetch_pages(
    fetch_page: Callable[[int], list[list[float]]], period: Period, *, step_ms: int
) -> list[list[float]]:
    """Returns the rows of a period: `[open_ms, open, high, low, close, volume]`.

    The next page starts after the last row received, never `PAGE_BARS` further:
    exchanges send fewer rows than asked for, and what is between would be lost. An
    empty page (before the listing, or a hole) is stepped over by the largest page so
    far, which no exchange's window is shorter than.
    """
    start, end = _epoch_ms(period.first), _epoch_ms(period.last + timedelta(1))
    since = start
    rows: list[list[float]] = []
    largest = 0
    with Progress(period.name, end - start) as step:
        while since < end:
            page = [row for row in fetch_page(since) or [] if row[0] >= since]
            page.sort(key=lambda row: row[0])
            largest = max(largest, len(page))
            rows += [row[:6] for row in page if row[0] < end]
            next_ms = since + (largest or 100) * step_ms
            next_ms = int(page[-1][0]) + step_ms if page else next_ms
            step.advance(next_ms - since)
            since = next_ms
    return rows


def _epoch_ms(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1000


def _write_rows(target: Path, rows: list[list[float]]) -> None:
    columns = list(zip(*rows, strict=True))
    stamps = pa.array([int(ms) for ms in columns[0]], pa.timestamp("ms", "UTC"))
    values = [pa.array(column, pa.float64()) for column in columns[1:]]
    table = pa.table([stamps, *values], names=list(COLUMNS))
    with atomic_path(target) as temporary:
        pq.write_table(table, temporary, write_page_checksum=True)
