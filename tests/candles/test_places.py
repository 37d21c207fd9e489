"""What the columns of files without names are, or that nothing tells."""

from pathlib import Path

import numpy as np
import pytest

from candles.places import layout_of_rows
from utils import DataError

PATH = Path("ETHUSDT-1h.csv")


def cells(seed=0, num_rows=200, scale=2000.0):
    """Columns by name: prices that go on, a volume, and what stands beside one."""
    rng = np.random.default_rng(seed)
    close = scale * np.exp(rng.normal(0, 0.004, num_rows).cumsum())
    opens = np.append(scale, close[:-1])
    high = np.maximum(opens, close) * (1 + 0.003 * rng.random(num_rows))
    low = np.minimum(opens, close) * (1 - 0.003 * rng.random(num_rows))
    average = low + (high - low) * rng.random(num_rows)
    volume = np.exp(rng.normal(3, 1, num_rows))
    taker = volume * rng.uniform(0.2, 0.8, num_rows)
    times = 1_700_000_000_000 + 3_600_000 * np.arange(num_rows)
    return {
        **{"time": times, "open": opens, "high": high, "low": low, "close": close},
        **{"average": average, "volume": volume, "quote": volume * average},
        **{"taker": taker, "taker_quote": taker * average, "end": times + 3_599_999},
        "trades": np.floor(np.exp(rng.normal(6, 1, num_rows))),
        "interest": 1e5 * np.exp(rng.normal(0, 0.005, num_rows).cumsum()),
        "none": np.zeros(num_rows),
    }


def layout(names, **options):
    columns = cells(**options)
    rows = zip(*(columns[name] for name in ("time", *names.split())), strict=True)
    return layout_of_rows([list(row) for row in rows], PATH)


PRICES = "open high low close "


@pytest.mark.parametrize(
    "names",
    [
        "volume",
        "volume trades",  # Kraken
        "volume quote",  # Bybit
        "volume quote quote",  # Bitget
        "volume end quote",  # MEXC
        "average volume trades",  # Kraken's REST
        "volume end quote trades taker taker_quote none",  # Binance
    ],
)
@pytest.mark.parametrize("scale", [1e-6, 2000.0])
def test_known_orders_leave_no_doubt(names, scale):
    found = layout(PRICES + names, scale=scale)
    assert found.doubt == ""
    assert found.volumes[0].position == 5 + names.startswith("average")


@pytest.mark.parametrize(
    ("names", "doubt"),
    [
        ("interest", "volume is 'column 6'; it hardly changes from bar to bar, as an"),
        ("taker volume", "volume is 'column 6'; column 7 may be it, too. If not, give"),
        ("trades volume", "volume is 'column 6'; column 7 may be it, too"),
        ("taker_quote volume", "volume is 'column 6'; column 7 may be it, too"),
        ("quote volume", "'column 6' / 'column 7' is the price, in no known order"),
        ("taker taker_quote volume", "volume is 'column 6'; column 8 may be it, too"),
        ("trades end volume", "column 8 is not its quote volume"),
        (
            "taker end taker_quote trades volume quote none",
            "column 10 may be it, too and column 11 may be it, too",
        ),
    ],
)
def test_a_volume_that_nothing_tells_from_another_column_is_a_doubt(names, doubt):
    assert doubt in layout(PRICES + names).doubt


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    "names", ["average high low close volume", "open high low average volume"]
)
def test_an_average_is_no_open_and_no_close(names, seed):
    with pytest.raises(DataError, match="one may be an average price"):
        layout(names, seed=seed)


def test_bars_of_few_trades_open_and_close_at_their_ends():
    """Ticks as wide as bars: the next open is as often another one as not."""
    rng = np.random.default_rng(0)
    trades = 100 + np.cumsum(rng.integers(-1, 2, (300, 3)), axis=None).reshape(300, 3)
    trades = trades * 0.01
    first, last = trades[:, 0], trades[:, -1]
    prices = [first, trades.max(axis=1), trades.min(axis=1), last]
    columns = [cells(num_rows=300)["time"], *prices, cells(num_rows=300)["volume"]]
    assert layout_of_rows([list(row) for row in zip(*columns, strict=True)], PATH)
