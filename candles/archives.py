"""Remote archives -> candle files on this disk, each one verified or not there.

In: the public-data layout (monthly and daily zips with checksums), resuming, retries.
Out: exchanges without archives (`exchanges`), and what is inside the files
(`table.read_candles` reads and joins them).

A file under its final name is complete: bytes arrive as `.part`, which no reader takes,
and are renamed once their SHA-256 is the published one.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import requests

from files.atomic import atomic_write, fsync_folder, require_creatable, sha256_file
from files.locks import take
from files.periods import Period
from files.progress import Progress, track
from files.time_limit import TimeLimit, TimeLimitError
from settings.names import plain_pair, without_settlement
from utils import (
    ConfigError,
    DataError,
    InUseError,
    MissingInputError,
    UserError,
    counted,
    did_you_mean,
)

logger = logging.getLogger(__name__)

BASE_URL = "https://data.binance.vision"
MARKETS = {"spot": "spot", "futures": "futures/um"}
# Longer bars straddle the archives' days and months: resample them from these.
TIMEFRAMES = tuple("1s 1m 3m 5m 15m 30m 1h 2h 4h 6h 8h 12h 1d".split())
MAX_ARCHIVE_BYTES = 2**30
LIMIT_SECONDS = 6 * 3600

_CHUNK_BYTES = 2**14  # a transfer that breaks loses less than one chunk
_RETRY_STATUS = {408, 425, 429, 500, 502, 503, 504}


class DownloadError(UserError):
    """A host that does not deliver; what has arrived is kept for the next try."""

    exit_code = 74


# One host


@dataclass(frozen=True, kw_only=True)
class Fetcher:
    """Fetches files from one host, again and again where that may help."""

    base_url: str = BASE_URL
    timeout_seconds: float = 30.0
    """Longest silence of the host, also while bytes are flowing."""
    num_attempts: int = 5
    limit: TimeLimit = field(default_factory=lambda: TimeLimit(LIMIT_SECONDS))
    """Longest time of all files together, from when this was made."""
    sleep: Callable[[float], None] = time.sleep
    """Waits between attempts: 1, 2, 4, 8 ... seconds, or what the host asks for."""

    def __post_init__(self) -> None:
        if not re.match(r"https?://[^/]", self.base_url):
            raise ConfigError(
                "base_url: expected http:// or https:// and a host. "
                f"Received: {self.base_url!r}."
            )

    def fetch_archive(self, remote: str, target: Path) -> bool:
        """Fetches `remote` to `target`, verified; returns whether the host has it.

        A `target` that was verified before costs no request. A `.part` file of an
        earlier run is continued where the host supports it.

        Args:
            remote: Path below `base_url`; its checksum is at `remote + ".CHECKSUM"`.
            target: Where the complete file goes; its checksum is kept beside it.

        Raises:
            DownloadError: If the host keeps failing; the partial file stays.
            DataError: If what it delivers never matches the published checksum.
        """
        note = target.with_name(target.name + ".CHECKSUM")
        if _is_verified(target, note):
            logger.debug("%s is there and verified", target)
            return True
        text = self._attempt(remote + ".CHECKSUM", self._read_text)
        if text is None:
            return False
        digest = _parse_checksum(text, remote)
        if target.is_file() and sha256_file(target) == digest:
            atomic_write(note, f"{digest}  {target.name}\n")
            return True
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(target.name + ".part")
        with _locked(part) as stream:
            found = self._attempt(
                remote, lambda url: self._read_into(url, stream, digest)
            )
            if found is None:
                part.unlink()
                logger.warning("%s: its checksum is published, it is not", remote)
                return False
            os.replace(part, target)
        fsync_folder(target.parent)
        atomic_write(note, f"{digest}  {target.name}\n")
        return True

    def _attempt(self, remote: str, read: Callable[[str], Any]) -> Any:
        """Returns `read(url)`, retried while the fault may pass; None where 404."""
        url = f"{self.base_url.rstrip('/')}/{remote}"
        fault: Exception | None = None
        reason = ""
        for attempt in range(self.num_attempts):
            try:
                return self.limit.call(lambda: read(url))
            except _Absent:
                return None
            except TimeLimitError as error:
                raise time_is_up(url, error) from error
            except (_Passing, requests.RequestException) as error:
                known, fault, reason = reason, error, innermost_reason(error)
                asked = getattr(error, "retry_after_seconds", None)
                if attempt + 1 < self.num_attempts:
                    wait = min(60.0, 2.0**attempt if asked is None else asked)
                    level = logging.DEBUG if reason == known else logging.WARNING
                    again = counted(self.num_attempts - attempt - 1, "time", "times")
                    text = "%s: %s; trying again, up to %s"
                    logger.log(level, text, self.base_url, reason, again)
                    self.sleep(min(wait, self.limit.left()))
        if isinstance(fault, _WrongBytes):
            raise DataError(
                f"{url}: expected bytes that match the published checksum. "
                f"Received: {reason}, in {self.num_attempts} attempts. "
                "Try another host with --base-url, or try again later."
            ) from fault
        raise DownloadError(
            f"{url}: expected an answer. Received: {reason}, in {self.num_attempts} "
            "attempts. Run the same command again: it continues where it stopped."
        ) from fault

    @contextlib.contextmanager
    def _open(self, url: str, *, offset: int = 0) -> Iterator[requests.Response]:
        headers = {"Accept-Encoding": "identity"}
        if offset:
            headers["Range"] = f"bytes={offset}-"
        with requests.get(
            url, headers=headers, stream=True, timeout=self.timeout_seconds
        ) as response:
            status = response.status_code
            if status == 404:
                raise _Absent
            if status in _RETRY_STATUS:
                raise _Passing(f"status {status}", response.headers.get("Retry-After"))
            if status not in (200, 206, 416):
                raise DownloadError(
                    f"{url}: expected a file. Received: status {status} "
                    f"({response.reason}). The host may not serve this place; choose "
                    "another with --base-url, or another --exchange."
                )
            yield response

    def _read_text(self, url: str) -> str:
        with self._open(url) as response:
            return next(response.iter_content(4096), b"").decode("ascii", "replace")

    def _read_into(self, url: str, stream: IO[bytes], digest: str) -> bool:
        """Appends what is missing to `stream` and compares the whole with `digest`."""
        have = stream.seek(0, os.SEEK_END)
        with self._open(url, offset=have) as response:
            rest = response.headers.get("Content-Range", "")
            if response.status_code == 206 and not rest.startswith(f"bytes {have}-"):
                stream.truncate(0)
                raise _Passing(f"another range than asked for: {rest!r}")
            if response.status_code == 200:
                stream.truncate(0)
                have = 0
            # 416 says that there is nothing to add: the part may be whole already.
            if response.status_code != 416:
                self._copy(response, stream, have)
        stream.flush()
        received = sha256_file(stream.name)
        if received != digest:
            stream.truncate(0)
            raise _WrongBytes(f"SHA-256 {received[:12]}... instead of {digest[:12]}...")
        os.fsync(stream.fileno())
        return True

    def _copy(self, response: requests.Response, stream: IO[bytes], have: int) -> None:
        length = response.headers.get("Content-Length", "")
        total = have + int(length) if length.isdecimal() else 0
        with Progress(Path(response.url).name, total, done=have) as step:
            for chunk in response.iter_content(_CHUNK_BYTES):
                step.advance(len(chunk))
                if step.done > MAX_ARCHIVE_BYTES:
                    raise DataError(
                        f"{response.url}: expected at most {MAX_ARCHIVE_BYTES} bytes. "
                        "Received: more. Do not use this host."
                    )
                stream.write(chunk)
            have = step.done
        if have < total:
            raise _Passing(f"{have} of {total} bytes")


def time_is_up(what: str, error: TimeLimitError) -> DownloadError:
    """Returns the error of a host that feeds too slowly to be waited for."""
    return DownloadError(
        f"{what}: expected the files in time. Received: {error}. Run the same command "
        "again: it continues where it stopped; --time-limit 1d waits longer."
    )


def innermost_reason(error: BaseException) -> str:
    """Returns why something failed in the first place: `Connection refused`."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


class _Absent(Exception):
    """The host says that there is no such file."""


class _Passing(Exception):
    """A fault that another attempt may not meet."""

    def __init__(self, message: str, retry_after: str | None = None) -> None:
        super().__init__(message)
        numeric = retry_after is not None and retry_after.isdecimal()
        self.retry_after_seconds = float(retry_after or 0) if numeric else None


class _WrongBytes(_Passing):
    """A whole answer that is not the published file."""


def _parse_checksum(text: str, remote: str) -> str:
    words = text.split()
    name = remote.rsplit("/", 1)[-1]
    if words[1:] != [name] or not re.fullmatch(r"[0-9a-fA-F]{64}", words[0]):
        raise DataError(
            f"{remote}.CHECKSUM: expected 64 hexadecimal digits and {name}. "
            f"Received: {text[:80]!r}. Try another host with --base-url."
        )
    return words[0].lower()


def _is_verified(target: Path, note: Path) -> bool:
    if not (target.is_file() and note.is_file()):
        return False
    return note.read_text().split()[:1] == [sha256_file(target)]


@contextlib.contextmanager
def _locked(part: Path) -> Iterator[IO[bytes]]:
    """Opens a partial file for this process alone, creating it where needed."""
    with open(part, "a+b") as stream:
        if take(stream.fileno()) is False:
            raise InUseError(
                f"{part}: expected to be the only download of this file. "
                "Received: another one is running. Wait for it."
            )
        yield stream


# Archives


def download_archives(
    pair: str,
    timeframe: str,
    periods: Sequence[Period],
    *,
    market: str = "spot",
    output_dir: str | os.PathLike[str] = "data",
    fetcher: Fetcher | None = None,
) -> list[Path]:
    """Fetches monthly archives, and daily ones where a month is not (yet) published.

    Args:
        pair: Such as `"ETHUSDT"`.
        timeframe: One of `TIMEFRAMES`.
        periods: From `plan_periods`.
        market: `"spot"` or `"futures"` (USD-margined).
        output_dir: The zips go to the market's folder in it: spot and futures files
            have the same names.
        fetcher: The host and its limits.

    Returns:
        The files, in time order; periods the host does not have are logged.

    Raises:
        ConfigError: If an argument is unknown.
        MissingInputError: If the host has nothing for any period.
        StorageError: If the folder takes no files.
        DownloadError, DataError: See `Fetcher.fetch_archive`.
    """
    pair = _require_known(pair, timeframe, market)
    require_creatable(Path(output_dir) / market)
    fetcher = fetcher or Fetcher()
    root = f"data/{MARKETS[market]}"

    def fetch(kind: str, period: Period) -> Path | None:
        name = f"{pair}-{timeframe}-{period.name}.zip"
        remote = f"{root}/{kind}/klines/{pair}/{timeframe}/{name}"
        target = Path(output_dir) / market / name
        return target if fetcher.fetch_archive(remote, target) else None

    found: list[Path] = []
    absent: list[str] = []
    for period in track(periods, "month", len(periods)):
        month = fetch("monthly", period) if period.is_month else None
        if month:
            found.append(month)
            logger.info("%s", month)
            continue
        days = {day.name: fetch("daily", day) for day in period.days()}
        found += [file for file in days.values() if file]
        missing = [name for name, file in days.items() if not file]
        absent += [period.name] if len(missing) == len(days) else missing
        logger.info(
            "%s: %d of %s",
            period.name,
            len(days) - len(missing),
            counted(len(days), "day", "days"),
        )
    return require_some(found, absent, f"{fetcher.base_url}/{root}: {pair} {timeframe}")


def _require_known(pair: str, timeframe: str, market: str) -> str:
    """Returns the pair as the host spells it, or the error of a bad argument."""
    contract = without_settlement(pair)
    if contract != pair and market == "spot":
        raise ConfigError(
            f"market: expected futures for {pair}, a contract. Received: spot. "
            "Add --market futures."
        )
    pair = pair.upper().replace("/", "") if contract == pair else plain_pair(contract)
    if not re.fullmatch(r"[A-Z0-9_]{2,40}", pair):
        raise ConfigError(f"pair: expected such as 'ETHUSDT'. Received: {pair!r}.")
    for name, value, known in (
        ("timeframe", timeframe, TIMEFRAMES),
        ("market", market, tuple(MARKETS)),
    ):
        if value not in known:
            raise ConfigError(
                f"{name}: expected one of {', '.join(known)}. Received: {value!r}."
                f"{did_you_mean(value, known)}"
            )
    return pair


def require_some(found: list[Path], absent: list[str], what: str) -> list[Path]:
    """Returns `found`, or an error where it is empty; names what is `absent`."""
    if not found:
        raise MissingInputError(
            f"{what}: expected candles from {absent[0]} to {absent[-1]}. Received: "
            "none published. Check the pair, the timeframe, the market and the dates."
        )
    if absent:
        logger.warning("%s: not published: %s", what, ", ".join(absent))
    return found
