"""What names of training files and candle files say, and whether a run may mean them.

In: pairs, timeframes and parameters out of names; the file that a run would read. Out:
the names that a run gives (`config`), reading a file (`data_loader`, `candles.table`).
"""

from __future__ import annotations

import re
from pathlib import Path

from config import Config
from settings.label_fields import to_hundredths
from settings.run_fields import PAIR_IN_PATH
from settings.values import one_spelling
from utils import ConfigError

_NAME = re.compile(
    r"(?P<pair>[A-Za-z0-9_-]+?)_TF-(?P<timeframe>[0-9]+[a-z])(?P<numbers>(__[A-Z]+-[\w.+]+?)*)"
    r"__(training_ready|single_label)\.(feather|parquet|csv(\.gz)?|zip)"
)
_CANDLE_NAME = re.compile(
    r"(?P<pair>[A-Za-z0-9]+([_-][A-Za-z0-9]+)*?)(-|_TF-?)"
    r"(?P<timeframe>[1-9]\d{0,4}[smhdw])(?![A-Za-z0-9])"
)
_NOT_TRADES = re.compile(
    r"[-_](mark|index|premium_?index|funding_?rate)(?![A-Za-z0-9])", re.IGNORECASE
)

_DAYS = {"FROM": "start_date", "TO": "end_date"}
"""Keys of names and the fields that they state."""

_MARKET_WORDS = frozenset(
    "P PERP PERPETUAL SWAP SPOT FUTURES FUT MARGIN UM CM LINEAR INVERSE QUARTER "
    "BINANCE BYBIT OKX KRAKEN BITMEX DERIBIT GATE MEXC KUCOIN HUOBI HTX FTX".split()
)
_QUOTES = tuple("USD USDT USDC BUSD FDUSD TUSD UST EUR GBP JPY KRW TRY BTC ETH".split())


def plain_pair(pair: str) -> str:
    """Returns a pair as it compares: `eth_usdt` and `ETH/USDT` are `ETHUSDT`."""
    return re.sub(r"[^A-Za-z0-9]", "", pair).upper()


def parse_candle_filename(name: str) -> tuple[str, str] | None:
    """Returns pair and timeframe of `{PAIR}-{timeframe}` or `{PAIR}_TF-...` names.

    Returns None for a name of another form, which promises nothing.
    """
    match = _CANDLE_NAME.match(name)
    return (match["pair"], match["timeframe"]) if match else None


def stated_contents(name: str) -> str | None:
    """Returns what a file of the form of candles holds in place of trades, or None.

    freqtrade keeps `-mark` and `-funding_rate` beside the `-futures` of a pair.
    """
    named = _CANDLE_NAME.match(name)
    found = _NOT_TRADES.match(name, named.end()) if named else None
    return found[1].lower() if found else None


def stated_pair(name: str) -> str | None:
    """Returns the pair that a candle file's name states; None where it states none.

    Upper case alone is a pair: `candles-1m.csv` is a word, no market.
    """
    found = parse_candle_filename(name)
    is_pair = found and found[0].isupper() and len(plain_pair(found[0])) >= 5
    return found[0] if found and is_pair else None


def is_pair_of(stated: str, pair: str) -> bool:
    """Whether a stated pair is `pair`, or `pair` with a market or a host after it.

    `BTCUSD_BITFINEX` and `BTC_USD` are BTCUSD; `ETHUSDT` and `BTCUSDT` are not. What
    settles a contract may be left out: `ETHUSDT` is ETH_USDT_USDT, too.
    """
    parts = re.split("[_/:-]", stated)
    heads = ["".join(parts[:stop]).upper() for stop in range(1, len(parts) + 1)]
    return plain_pair(pair) in heads or heads[-1] == plain_pair(
        without_settlement(pair)
    )


def is_other_market(symbol: str, pair: str) -> bool:
    """Whether a symbol, as exchanges and vendors write them, is of another pair.

    `BINANCE:BTCUSD.P`, `tBTCUSD`, `XXBTZUSD`, `BTC-28JUN24`, `USD-BTC` and `BTC` may be
    BTCUSD or not; what has no letters, or names no currency (`binance`, `Tron`), says
    nothing.
    """
    if symbol.istitle() and symbol.isalpha():
        return False
    spoken = [symbol, *symbol.split(":")] if ":" in symbol else [symbol]
    spoken = [market for text in spoken if (market := _spoken_market(text))]
    spoken = [m for m in spoken if "_" in m or len(m) <= 5 or m.endswith(_QUOTES)]
    wanted = _spoken_market(pair)
    for market in spoken:
        if is_pair_of(market, wanted) or is_pair_of(wanted, market):
            return False
        if "".join(reversed(market.split("_"))) == plain_pair(wanted):  # Upbit
            return False
        if "_" not in market and len(market) <= 5 and wanted.startswith(market):
            return False
    return bool(spoken)


def _spoken_market(text: str) -> str:
    """Returns `BTC_USD` of a symbol: no words of its market, no day it expires."""
    text = re.sub(r"^t(?=[A-Z]{6})", "", text).upper()  # Bitfinex
    text = re.sub(r"^X([A-Z]{3})Z([A-Z]{3})$", r"\1\2", text).replace("XBT", "BTC")
    parts = [part for part in re.split("[^A-Z0-9]+", text) if part]
    days = re.compile(r"\d+([A-Z]{3}\d+)?")
    return "_".join(
        part for part in parts if part not in _MARKET_WORDS and not days.fullmatch(part)
    )


def without_settlement(pair: str) -> str:
    """Returns `ETH_USDT` for `ETH_USDT_USDT` and `ETH/USDT:USDT`, else the pair."""
    parts = re.split("[_/:-]", pair)
    is_settled = len(parts) == 3 and parts[2] in parts[:2]
    return "_".join(parts[:2]) if is_settled else pair


def parse_training_filename(name: str) -> dict[str, str] | None:
    """Returns `pair`, `timeframe` and the `FW`, `SL`, `TP`, ... of a standard name.

    Returns None for a name of another form, which promises nothing.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    pieces = [piece for piece in match["numbers"].split("__") if piece]
    return {"pair": match["pair"], "timeframe": match["timeframe"]} | {
        key: value for key, value in (piece.split("-", 1) for piece in pieces)
    }


def filename_mismatches(name: str, config: Config) -> list[str]:
    """Returns one line for each parameter in which a standard name is not this run's.

    A percentage may be cut instead of rounded, as V3 did (0.57 -> 56). Days are no
    parameter: a run may use some of a file's (see `is_cut_otherwise`).
    """
    found = parse_training_filename(name)
    if found is None:
        return []
    wanted = parse_training_filename(config.expected_filename) or {}
    percents = {
        "SL": config.long_sl_pct,
        "TP": config.long_tp_pct,
        "SSL": config.short_sl_pct,
        "STP": config.short_tp_pct,
    }
    problems = []
    for key in [key for key in {**wanted, **found} if key not in _DAYS]:
        ours, theirs = wanted.get(key), found.get(key)
        same = ours == theirs
        if not same and key == "timeframe" and theirs is not None:
            same = one_spelling(theirs) == ours
        if not same and key in percents and theirs is not None and theirs.isdecimal():
            percent = percents[key]
            same = int(theirs) in (to_hundredths(percent), int(percent * 100))
        elif not same and ours and theirs and ours.isdecimal() and theirs.isdecimal():
            same = int(ours) == int(theirs)
        if not same:
            problems.append(
                f"{key}: the configuration says {ours or 'the default'}, "
                f"the file name says {theirs or 'the default'}"
            )
    return problems


def stated_days(name: str) -> dict[str, str]:
    """Returns the fields of the days that a standard name says its rows are cut to."""
    found = parse_training_filename(name) or {}
    return {
        field: f"{found[key][:4]}-{found[key][4:6]}-{found[key][6:]}"
        for key, field in _DAYS.items()
        if key in found
    }


def is_cut_otherwise(name: str, config: Config) -> bool:
    """Whether a standard name says that days are cut off that are not the run's."""
    return any(getattr(config, k) != day for k, day in stated_days(name).items())


def member_config(config: Config, pair: str) -> Config:
    """Returns the run of one pooled pair alone."""
    path = config.training_file
    return config.replace(
        pooled_pairs=(),
        pair=pair,
        training_file=path and path.replace(PAIR_IN_PATH, pair),
    )


def require_one_pair(config: Config, what: str) -> Config:
    """Returns a run of one pair; refuses pooled pairs where no others go.

    Raises:
        ConfigError: Naming what they do not go into.
    """
    if config.pooled_pairs:
        raise ConfigError(
            f"pooled_pairs: expected none in {what}. Received: "
            f"{', '.join(config.pooled_pairs)}. Train the pool by trainer.py."
        )
    return config


def find_training_files(config: Config) -> dict[Path, Path | None]:
    """Returns where each training file of a run is expected, and the file found."""
    runs = [member_config(config, pair) for pair in config.pooled_pairs] or [config]
    return {run.expected_path: find_training_file(run) for run in runs}


def find_training_file(config: Config) -> Path | None:
    """Returns the file this run would read, or None where there is none.

    The explicit `training_file`, else in `inputs_dir` the standard name, else a name
    that says the same (other suffix, `single_label`, unpadded numbers), or that of a
    file with more days, of which the run cuts its own. Of pooled pairs the first of
    theirs, where all are there.
    """
    if config.pooled_pairs:
        found = find_training_files(config).values()
        return None if None in found else next(iter(found))
    if config.expected_path.exists() or config.training_file is not None:
        return config.expected_path if config.expected_path.exists() else None
    folder = Path(config.inputs_dir)
    if not folder.is_dir():
        return None
    names = sorted(path.name for path in folder.iterdir() if path.is_file())
    fitting = [
        name
        for name in names
        if parse_training_filename(name)
        and not filename_mismatches(name, config)
        and not is_cut_otherwise(name, config)
    ]
    fitting.sort(
        key=lambda name: (
            -len(stated_days(name)),
            "single_label" not in name,
            "feather" not in name,
        )
    )
    return folder / fitting[0] if fitting else None
