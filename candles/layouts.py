"""Names and places of columns -> what each of them is: exchanges and vendors as data.

In: the known names, the known orders of files without names, and the choice among
them. Out: parsing files (`formats`, `text`, `documents`), what times and volumes mean
(`timestamps`, `volumes`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from candles.columns import COLUMNS, refusal
from files.clocks import PIECE_RANK, PIECES
from files.plain_names import refuse_unsafe_names

# Names as they compare: lower case, letters and digits only (see `plain_name`).
_PRICES = {
    "open": "open o openprice priceopen openingprice",
    "high": "high h highprice pricehigh",
    "low": "low l lowprice pricelow",
    "close": "close c closeprice priceclose closingprice closelast last tradeprice",
}
ENDS = (
    "timeperiodend closetime endtime timeclose etime timeend periodend closetimestamp"
)
TIMES = (  # the first rank that a file has is its time; the ranks after it confirm
    "opentime timeopen opentimestamp timeperiodstart windowstart periodstart starttime "
    "start startat startedat begin begintime candlebegintime klineopentime barstart "
    "starttimestamp timestart candledatetimeutc intervalbegin intervalstart beginsat "
    "opentimeutc opentimems klinestarttime candlestarttime tsevent",
    "timestamp ts time date datetime dateandtime unix unixtime unixtimestamp epoch t "
    "gmttime utctime timeutc utc dateutc datetimeutc timestampms timestamputc bucket "
    "unixms unixtimems epochms timems localtime dtyyyymmdd candletime timestampunix "
    "timestampopen exchangetimestamp mts dt tsms bartime klinetime klinestart dategmt "
    "timegmt tradedate",
    ENDS,
    "indexlevel0 index unnamed0 id ticks createdat period",
    "",
)
_PIECES = {
    "year": "year years yyyy",
    "month": "month months",
    "day": "day dayofmonth",
    "hour": "hour hours hr hrs",
    "minute": "minute minutes mins",
    "second": "second seconds secs",
}
_FIRST_TRADE = {"timeopen": "timeperiodstart"}
"""Time of the first trade within a bar, where the other column says when it opened."""
VOLUMES = {
    "base": "basevolume volumebase basevol baseassetvolume volumefrom homenotional "
    "basetokenvolume candleacctradevolume targetvolume",
    "plain": "volume vol v volumetraded tradevolume",
    "either": "volccy amount totalamount",
    "quote": "quotevolume volumequote quotevol quoteassetvolume turnover volumeto "
    "foreignnotional volumenotional volccyquote volquote usdvolume usdtvolume value "
    "cost sum money tradeturnover candleacctradeprice quotetokenvolume dollarvolume "
    "volumecurrency",
}
SYMBOLS = (
    "symbol ticker pair instrumentname instrumentcode instrument instid assetid market "
    "productid symbolid currencypair tradingpair instrumentid tic asset coin s name"
)
EXTRA_NAMES = {
    "funding_rate": "fundingrate lastfundingrate realizedrate",
    "open_interest": "openinterest sumopeninterest",
}
SIDES = {
    "symbol": SYMBOLS,
    "confirm": "confirm confirmed isclosed isfinal closed final x complete",
    "end": ENDS,
    "taken": "retrievedat fetchedat downloadedat receivedat retrievaltime fetchtime "
    "downloadtime requesttime querytime servertime snapshottime retrieved fetched",
}
# BitMEX: times are the ends of bars.
_OF_ENDS = ({"homenotional", "foreignnotional"}, {"lastsize", "turnover", "vwap"})
_CURRENCY = re.compile(r"vol(?:ume)?[\s_]*\(?([A-Z][A-Z0-9]{1,9})\)?$", re.IGNORECASE)
_QUOTE_CURRENCIES = frozenset(
    "usd usdt usdc busd tusd fdusd dai eur gbp jpy krw try brl aud cad chf".split()
)


@dataclass(frozen=True, slots=True)
class Volume:
    """A column that may be the volume, and what its name says it counts."""

    position: int
    name: str
    kind: str
    """`base`, `plain`, `either` or `quote`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where a file has what: positions among its columns."""

    times: tuple[tuple[int, str, int], ...]
    """Position, name and rank (0: says that it opens the bar) of each time."""
    prices: dict[str, int]
    volumes: tuple[Volume, ...]
    names: tuple[str, ...] | None = None
    """The file's own names; None where it has none."""
    sides: dict[str, int] = field(default_factory=dict)
    """Columns that say whose candles these are, when they end, which are over."""
    extras: dict[str, int] = field(default_factory=dict)
    """Columns of a rate or of contracts, known at the bar's close."""
    ends: bool = False  # whether the times are the ends of bars, by the names
    doubt: str = ""  # what its cells do not tell, of a file without names

    def positions(self) -> list[int]:
        """Returns the columns to read, in the file's order."""
        times = [position for position, _, _ in self.times]
        volumes = [volume.position for volume in self.volumes]
        others = [*self.sides.values(), *self.extras.values()]
        return sorted({*times, *self.prices.values(), *volumes, *others})

    def shifted(self) -> Layout:
        """Returns the layout of a file with one column more before all others."""
        return replace(
            self,
            times=tuple((i + 1, name, rank) for i, name, rank in self.times),
            prices={name: i + 1 for name, i in self.prices.items()},
            volumes=tuple(replace(v, position=v.position + 1) for v in self.volumes),
            sides={name: i + 1 for name, i in self.sides.items()},
            extras={name: i + 1 for name, i in self.extras.items()},
        )

    def texts(self) -> set[int]:
        """Returns the columns that are not numbers, or not only."""
        times = {position for position, _, _ in self.times}
        return times | {*self.sides.values(), *self.extras.values()}


def plain_name(name: object) -> str:
    """Returns a column's name as it compares: `Open Time` and `<OPEN_TIME>` are one."""
    text = re.sub(r"^\d+[a-z]?\. ", "", str(name).lower())  # "1. open": Alpha Vantage
    text = re.sub(r"^\('(.*?)', .*\)$", r"\1", text)  # pandas: two levels in Parquet
    return re.sub(r"[^a-z0-9]", "", text)


def piece_of(names: Iterable[str]) -> str | None:
    """Returns which piece of a time a column is by its plain names; None of others."""
    known = (p for p, aliases in _PIECES.items() if {*names} & {*aliases.split()})
    return next(known, None)


def are_numbers(names: Sequence[object]) -> bool:
    """Whether the names are 0, 1, 2, ...: what pandas writes where there are none."""
    texts = [str(name).strip() for name in names]
    return bool(texts) and texts == [*map(str, range(len(texts)))]


def names_prices(names: Sequence[object]) -> bool:
    """Whether open, high, low and close are among the names."""
    keys = {plain_name(name) for name in names}
    return all(keys & {*aliases.split()} for aliases in _PRICES.values())


def layout_of_names(names: Sequence[object], path: Path) -> Layout:
    """Returns what the columns of these names are; newlines part several names of one.

    Raises:
        DataError: If a column is missing, or several may be it.
    """
    if are_numbers(names):
        expected, cure = "columns with names", "Name the columns: " + ", ".join(COLUMNS)
        raise refusal(path, expected, f"the numbers 0 to {len(names) - 1}", f"{cure}.")
    spoken = _without_case_twins([str(name).split("\n") for name in names])
    refuse_unsafe_names(
        (name.strip(" \t\r\ufeff") for column in spoken for name in column), path
    )
    keys = [{plain_name(name) for name in column} for column in spoken]
    problems = []
    prices = {}
    for price, aliases in _PRICES.items():
        hits = [i for i, key in enumerate(keys) if key & {*aliases.split()}]
        if len(hits) > 1:  # a column of the very name is no alias of it
            exact = [i for i in hits if price in keys[i]]
            hits = exact if len(exact) == 1 else hits
        if len(hits) == 1:
            prices[price] = hits[0]
        else:
            problems.append(_not_one(price, hits, names))
    times = _times(keys, names)
    if not times:
        problems.insert(0, "no column 'timestamp'")
    volumes = _volumes(keys, spoken, names)
    kinds = {volume.kind for volume in volumes}
    if kinds == {"quote"}:
        those = " and ".join(repr(volume.name) for volume in volumes)
        problems.append(f"no column 'volume' in base units, only {those}")
    elif not volumes or kinds == {"either"} and len(volumes) == 1:
        problems.append("no column 'volume'")
    if problems:
        is_lack = all(problem.startswith("no ") for problem in problems)
        cure = "Rename those that are meant" if is_lack else "Rename or remove columns"
        raise refusal(
            path,
            "exactly one column (or common alias) each for " + ", ".join(COLUMNS),
            f"{'; '.join(problems)}; the columns are {[_shown(n) for n in names]}",
            f"{cure}.",
        )
    sides, taken = {}, {*prices.values(), *(time[0] for time in times)}
    for side, aliases in SIDES.items():
        hits = [i for name in aliases.split() for i, k in enumerate(keys) if name in k]
        if hits and hits[0] not in taken:
            sides[side] = hits[0]
    return Layout(
        times=times,
        prices=prices,
        volumes=volumes,
        names=tuple(map(_shown, names)),
        sides=sides,
        extras=_extras(keys),
        ends=times[0][2] == TIMES.index(ENDS)
        or any(set().union(*keys) >= those for those in _OF_ENDS),
    )


def _extras(keys: Sequence[set[str]]) -> dict[str, int]:
    found = {
        name: [i for i, key in enumerate(keys) if key & {*aliases.split()}]
        for name, aliases in EXTRA_NAMES.items()
    }
    return {name: hits[0] for name, hits in found.items() if len(hits) == 1}


def _shown(name: object) -> str:
    return str(name).replace("\n", " / ")


def _not_one(column: str, hits: Sequence[int], names: Sequence[object]) -> str:
    if not hits:
        return f"no column {column!r}"
    several = " and ".join(repr(_shown(names[i])) for i in hits)
    return f"several columns for {column!r}: {several}"


def _without_case_twins(names: list[list[str]]) -> list[list[str]]:
    """Blanks `T`, `L`, `V` beside `t`, `l`, `v`: there they are other columns."""
    there = {name for column in names for name in column}
    return [
        [
            "" if len(name) == 1 and name.isupper() and name.lower() in there else name
            for name in column
        ]
        for column in names
    ]


def _times(
    keys: Sequence[set[str]], names: Sequence[object]
) -> tuple[tuple[int, str, int], ...]:
    found: list[tuple[int, str, int]] = []
    for rank, aliases in enumerate(TIMES):
        if rank > 1 and found:
            break
        found += [
            (i, _shown(names[i]), rank)
            for i, key in enumerate(keys)
            if key & {*aliases.split(), *([""] if not aliases else [])}
        ]
    there = {name for key in keys for name in key}
    pieces = {piece: i for i, key in enumerate(keys) if (piece := piece_of(key))}
    if found or {*PIECES[:3]} <= {*pieces}:
        found += [(i, piece, PIECE_RANK) for piece, i in pieces.items()]
    first_trades = {name for name, opening in _FIRST_TRADE.items() if opening in there}
    return tuple(time for time in found if not keys[time[0]] & first_trades)


def _volumes(
    keys: Sequence[set[str]], spoken: Sequence[list[str]], names: Sequence[object]
) -> tuple[Volume, ...]:
    found = []
    for i, key in enumerate(keys):
        for kind, aliases in VOLUMES.items():
            if key & {*aliases.split()}:
                found.append(Volume(i, _shown(names[i]), kind))
    is_told = any(volume.kind in ("base", "plain") for volume in found)
    spelt = [  # "Volume BTC" and "Volume_(USDT)"
        (i, match[1])
        for i, column in enumerate(spoken)
        for name in column
        if (match := _CURRENCY.fullmatch(name.strip()))
        and all(volume.position != i for volume in found)
    ]
    quoted = [word.lower() in _QUOTE_CURRENCIES for _, word in spelt]
    for (i, word), is_quote in zip(spelt, quoted, strict=True):
        # `volume_btc` is a currency beside `volume_usdt`; alone it may be any word.
        if is_quote or word.isupper() or any(quoted) and len(spelt) == 2:
            # Beside `Volume` only the prices tell `Volume BTC` from `Volume MA`.
            kind = "quote" if is_quote else "either" if is_told else "base"
            found.append(Volume(i, _shown(names[i]), kind))
    return tuple(found)


def encloses(prices: Sequence[np.ndarray]) -> np.ndarray:
    """Whether high and low enclose open and close (num_rows,); True where NaN."""
    opens, highs, lows, closes = prices
    with np.errstate(invalid="ignore"):
        outside = (highs < np.fmax(opens, closes)) | (lows > np.fmin(opens, closes))
        return ~(outside | (highs < lows))


def is_price(cells: np.ndarray, *, high: np.ndarray, low: np.ndarray) -> bool:
    """Whether cells are within their bars, wherever they are not 0."""
    with np.errstate(invalid="ignore"):
        traded = cells > 0
        inside = (cells >= low) & (cells <= high)
    return bool(traded.any() and inside[traded].all())


def is_later(ends: np.ndarray, times: np.ndarray) -> bool:
    """Whether numbers are times a little after others; text is not judged."""
    if np.isnan(ends).all():
        return True
    if np.isnan(times).all():
        return are_times(ends)
    with np.errstate(invalid="ignore"):
        return bool(((ends >= times) & (ends < times * 1.01)).all())


def are_times(cells: np.ndarray) -> bool:
    """Whether numbers go on as times do: large, in equal steps."""
    steps = np.diff(cells)
    return bool((cells > 1e9).all() and (steps == np.median(steps)).mean() > 0.5)
