"""Trades of freqtrade's own backtesting, held against this project's simulation."""

import importlib.util
import json
import logging
import os
import subprocess
import sys
import zipfile
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from world.frames import PROJECT

from config import HOLD, LONG, SHORT
from dataset.labels import STOP_LOSS, TAKE_PROFIT, TIMEOUT
from utils import DataError

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("freqtrade") is None,
    reason="freqtrade is not installed: `make integrations` brings it",
)
BAR = pd.Timedelta(minutes=1)
TICK = 0.01
FUNDING = 1e-4
"""What a long pays a short every eight hours, as a share of the amount."""
REASONS = {TIMEOUT: "horizon", TAKE_PROFIT: "roi", STOP_LOSS: "stop_loss"}


@pytest.mark.parametrize(
    ("name", "is_future", "fee"),
    [
        ("made_up", False, 0.0),
        ("made_up", True, 0.001),
        ("with_gaps", True, 0.001),
        ("real", True, 0.001),
    ],
)
def test_trades_are_those_of_our_simulation(request, tmp_path, name, is_future, fee):
    market = request.getfixturevalue(name)
    theirs = backtest_there(tmp_path, market, fee=fee, is_future=is_future)
    trades = our_trades(market, fee=fee, is_future=is_future)
    by_rule = expected(market, trades, fee=fee, is_future=is_future)
    # Where we know of no outcome (the end of the candles, of a segment) we hold.
    is_known = (theirs["open_date"] - BAR).isin(market.predictions["timestamp"])
    into_gap = ~is_known & (theirs["open_date"] <= by_rule["open_date"].max())
    assert into_gap.any() == (name == "with_gaps")
    theirs = theirs[is_known].reset_index(drop=True)

    assert len(theirs) == len(trades) > 100
    for column in ("open_date", "close_date", "is_short", "exit_reason"):
        assert (theirs[column] == by_rule[column]).all(), column
    assert set(theirs["exit_reason"]) == set(REASONS.values())
    assert theirs["is_short"].nunique() == 1 + is_future
    for column in ("open_rate", "close_rate"):
        np.testing.assert_allclose(theirs[column], by_rule[column], atol=1.01 * TICK)
    report = pd.read_csv(next(market.folder.glob("trades_*.csv")))
    entered = pd.to_datetime(report["time_in"], utc=True)
    both = theirs.merge(report.assign(open_date=entered), on="open_date")
    assert len(both) > 50 and (both["size"].nunique() > 50) == (name == "with_gaps")
    np.testing.assert_allclose(both["stake_amount"], 1000 * both["size"], rtol=1e-4)
    # A tick of 2,000 is a twentieth of a basis point.
    bps = 1e4 * (theirs["profit_ratio"] - by_rule["profit_ratio"])
    assert bps.abs().max() < 0.1
    unexplained = 1e4 * (theirs["profit_ratio"] - trades["net_return"])
    shorts, apart = int(theirs["is_short"].sum()), unexplained.abs()
    logging.getLogger(__name__).info(  # docs/live.md has them; `--log-cli-level=INFO`
        "%s: %d long, %d short; bps apart by the rules at most %.3f, from our "
        "simulation %.2f on average, %.2f at most",
        *(name, len(theirs) - shorts, shorts, bps.abs().max()),
        *(apart.mean(), apart.max()),
    )
    if is_future:
        assert (theirs["funding_fees"] != 0).sum() > 5
        assert unexplained.abs().max() > 1
    assert abs(unexplained.mean()) < 0.2


@pytest.fixture
def strategies(monkeypatch):
    monkeypatch.syspath_prepend(PROJECT / "examples")
    return importlib.import_module("freqtrade_strategy")


def write_candles(folder, candles, *, is_future):
    """Candles, and with futures their marks and funding, as freqtrade keeps them."""
    data = folder / "data" / "binance"
    (data / "futures").mkdir(parents=True)
    table = candles.rename(columns={"timestamp": "date"})
    table = table[["date", "open", "high", "low", "close", "volume"]]
    if not is_future:
        table.to_feather(data / "ETH_USDT-1m.feather")
        return
    table.to_feather(data / "futures" / "ETH_USDT_USDT-1m-futures.feather")
    for kind, rows in zip(("mark", "funding_rate"), hourly(candles), strict=True):
        rows.to_feather(data / "futures" / f"ETH_USDT_USDT-1h-{kind}.feather")


def hourly(candles):
    """Marks and funding rates."""
    rules = {"open": "first", "high": "max", "low": "min", "close": "last"}
    table = filled(candles).resample("1h").agg(rules).assign(volume=0.0)
    marks = table.reset_index(names="date")
    is_due = marks["date"].dt.hour % 8 == 0
    return marks, marks[["date"]].assign(funding_rate=np.where(is_due, FUNDING, 0.0))


def backtest_there(folder, market, *, fee, is_future=True):
    """The trades of freqtrade's backtesting, from the first test target on."""
    write_candles(folder, market.candles, is_future=is_future)
    pair = "ETH/USDT:USDT" if is_future else "ETH/USDT"
    mode = {"trading_mode": "futures", "margin_mode": "isolated"} if is_future else {}
    pricing = {"price_side": "other", "use_order_book": True}
    config = mode | {
        "max_open_trades": 1,
        "stake_currency": "USDT",
        "stake_amount": 1000,
        "dry_run": True,
        "dry_run_wallet": 10_000,
        "timeframe": "1m",
        "exchange": {"name": "binance", "pair_whitelist": [pair]},
        "pairlists": [{"method": "StaticPairList"}],
        "entry_pricing": pricing,
        "exit_pricing": pricing,
        "artifacts": {pair: str(market.folder)},
    }
    (folder / "config.json").write_text(json.dumps(config))
    start = market.predictions["timestamp"].iloc[0].timestamp()
    program = PROJECT / "tests" / "integrations" / "freqtrade_offline.py"
    words = {
        "config": folder / "config.json",
        "userdir": folder,
        "strategy": "ArtifactStrategy",
        "strategy-path": PROJECT / "examples",
        "fee": fee,
        "timerange": f"{start:.0f}-",
        "cache": "none",
        "export": "trades",
    }
    flags = [
        str(word) for name, value in words.items() for word in (f"--{name}", value)
    ]
    done = subprocess.run(
        [sys.executable, program, "backtesting", *flags],
        env=os.environ | {"PYTHONPATH": str(PROJECT), "HOME": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    [result] = (folder / "backtest_results").glob("*.zip")
    with zipfile.ZipFile(result) as archive:
        content = json.loads(archive.read(f"{result.stem}.json"))
    trades = pd.DataFrame(content["strategy"]["ArtifactStrategy"]["trades"])
    for name in ("open_date", "close_date"):
        trades[name] = pd.to_datetime(trades[name], utc=True)
    return trades


def our_trades(market, *, fee, is_future):
    """This project's trades, of the signals that freqtrade can take.

    The strategy refuses an open at or beyond a level; freqtrade lets the same side wait
    a bar after a horizon.
    """
    table, config = market.predictions, market.config
    signals = table["signal"].to_numpy().copy()
    if not is_future:
        signals[signals == SHORT] = HOLD
    opens = filled(market.candles)["open"].reindex(table["timestamp"] + BAR).to_numpy()
    low, high = levels_of(table["close"].to_numpy(), signals == LONG, config)
    signals[~((low < opens) & (opens < high))] = HOLD
    while True:
        trades = market.trades(signals, fee_bps=1e4 * fee)
        before, after = trades[:-1], trades[1:]
        waits = (before["exit_code"] == TIMEOUT) & (before["side"] == after["side"])
        waits &= before["exit_time"] == after["entry_time"]
        if not waits.any():
            return trades
        signals[after["row"][np.argmax(waits)]] = HOLD


def filled(candles):
    """As freqtrade fills: the last close, whatever the length of the gap."""
    table = candles.set_index("timestamp")[["open", "high", "low", "close"]]
    table = table.asfreq("min")
    close = table["close"].ffill()
    return table.apply(lambda prices: prices.fillna(close))


def levels_of(close, is_long, config):
    """Lower and higher level of a trade."""
    longs = 1 - config.long_sl_pct / 100, 1 + config.long_tp_pct / 100
    shorts = 1 - config.short_tp_pct / 100, 1 + config.short_sl_pct / 100
    return [
        close * np.where(is_long, *each) for each in zip(longs, shorts, strict=True)
    ]


def expected(market, trades, *, fee, is_future):
    """What freqtrade makes of our trades, by the rules that docs/live.md states."""
    candles, side, code = filled(market.candles), trades["side"], trades["exit_code"]
    entered, left = (
        pd.DatetimeIndex(trades[name], tz="UTC") for name in ("entry_time", "exit_time")
    )
    # A candle is named by its open, and so is what happens within it.
    closed = left.where(code == TIMEOUT, left - BAR)
    entry, bar = candles["open"].loc[entered].to_numpy(), candles.loc[closed]
    close = market.predictions["close"].to_numpy()[trades["row"]]
    low, high = levels_of(close, side == 1, market.config)
    stop, profit = np.where(side == 1, (low, high), (high, low))
    opens = bar["open"].to_numpy()
    is_beyond = np.where(side == 1, bar["high"] < stop, bar["low"] > stop)
    is_better = side * opens > side * profit
    prices = {
        TIMEOUT: opens,
        STOP_LOSS: np.where(is_beyond, opens, stop),
        TAKE_PROFIT: np.where(is_better, opens, profit),
    }
    exits = np.choose(code, [prices[each] for each in range(3)])
    # It lessens what a long sells for, and what a short has to buy for.
    paid = fundings(market.candles, entered, closed) if is_future else 0.0
    growth = (exits * (1 - side * fee) - paid) / (entry * (1 + side * fee))
    return pd.DataFrame(
        {
            "open_date": entered,
            "close_date": closed,
            "is_short": side == -1,
            "exit_reason": [REASONS[each] for each in code.tolist()],
            "open_rate": entry,
            "close_rate": exits,
            "profit_ratio": side * (growth - 1),
        }
    )


def fundings(candles, entered, closed):
    """What a unit that is held pays, both ends included (num_trades,)."""
    marks, rates = hourly(candles)
    paid = (marks["open"] * rates["funding_rate"]).set_axis(marks["date"])
    return np.array([paid[a:b].sum() for a, b in zip(entered, closed, strict=True)])


def test_a_running_bot_knows_more_than_its_frames(made_up, tmp_path, strategies):
    """Frames shorter than the look-back, the first ones beside downloaded candles."""
    from freqtrade.enums import CandleType, RunMode
    from freqtrade.exceptions import OperationalException

    config = {
        "artifacts": {"ETH/USDT": str(made_up.folder)},
        "datadir": tmp_path / "data" / "binance",
        "dataformat_ohlcv": "feather",
        "candle_type_def": CandleType.SPOT,
    }
    wanted = made_up.predictions.iloc[:200]
    first = made_up.candles["timestamp"].searchsorted(wanted["timestamp"].iloc[0])
    write_candles(tmp_path, made_up.candles.iloc[: first - 20], is_future=False)
    table = made_up.candles.rename(columns={"timestamp": "date"})

    def bot(**changes):
        strategy = strategies.ArtifactStrategy(config | changes)
        strategy.dp = SimpleNamespace(runmode=RunMode.DRY_RUN)
        strategy.bot_start()
        return strategy

    strategy, found = bot(), []
    for row in range(first, first + len(wanted)):
        frame = table.iloc[row - 99 : row + 1].reset_index(drop=True)
        told = strategy.populate_indicators(frame, {"pair": "ETH/USDT"})
        found.append(told["signal"].iloc[-1])
    assert found == wanted["signal"].tolist() and len(set(found)) == 3

    alone = bot(datadir=tmp_path / "none")
    with pytest.raises(DataError, match="at least 285 candles of 1m.*Received: 100"):
        alone.populate_indicators(frame, {"pair": "ETH/USDT"})
    with pytest.raises(OperationalException, match="expected a model of BTC/USDT"):
        alone.populate_indicators(frame, {"pair": "BTC/USDT"})
    with pytest.raises(OperationalException, match="a model of BTCUSDT at 1m.*ETHUSDT"):
        bot(artifacts={"BTC/USDT": str(made_up.folder)})


@pytest.mark.parametrize("side", [1, -1])
def test_a_stop_stays_on_the_tick_at_or_beyond_the_labels(strategies, side):
    """freqtrade rounds towards the entry what a strategy returns."""
    from freqtrade.persistence import LocalTrade

    strategy = strategies.ArtifactStrategy({})
    entries = np.random.default_rng(1).uniform(1000, 4000, 500).round(2)
    for entry in entries:
        level = entry * (1 - side * 0.00412345)
        trade = LocalTrade(
            open_rate=entry,
            is_short=side < 0,
            precision_mode_price=4,
            leverage=1.0,
            price_precision=TICK,
            fee_open=0.0,
            fee_close=0.0,
            exchange="binance",
        )
        trade.get_custom_data = lambda key, level=level: {"sl_price": level}
        given = strategy.custom_stoploss(
            "ETH/USDT", trade, None, entry, 0.0, after_fill=True
        )
        trade.adjust_stop_loss(entry, given)
        beyond = np.floor(side * level / TICK) * TICK
        assert trade.stop_loss == pytest.approx(side * beyond, abs=1e-6)
