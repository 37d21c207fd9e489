"""Digests of what a dataset is made from: candle bytes, our code, a user's functions.

In: telling apart all inputs that could give other rows. Out: where rows are kept
(`cache`).
"""

from __future__ import annotations

import ast
import functools
import hashlib
import inspect
import itertools
import logging
import os
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import utils
from candles.columns import COLUMNS, EXTRAS, extra_columns
from candles.sources import Candles
from candles.timestamps import nanoseconds_of
from config import Config
from dataset import features
from files.atomic import sha256_file
from files.strict import sha256_json
from settings.names import plain_pair

logger = logging.getLogger(__name__)

_BLOCK_BYTES = 8 * 2**20
_ROOT = Path(__file__).parents[1]
_FEATURE_FIELDS = (
    *("timeframe", "timezone", "max_fill_bars", "accept_jumps"),
    *("feature_sets", "raw_prices", "higher_timeframes", "context_pairs", "end_date"),
)
_PACKAGES = ("numpy", "pandas", "pyarrow", "TA-Lib")


def dataset_keys(
    source: Candles, config: Config, others: Mapping[str, Candles]
) -> dict[str, str]:
    """Returns the digests of candles and code, and those that name cached tables.

    The latter, `features` and `outcomes`, are missing where the source of a set cannot
    be read. Those of other pairs are named `context_BTCUSDT`.

    Args:
        source: Candles of the pair.
        config: What is built.
        others: Candles of the context pairs.
    """
    keys = candle_digests(source, others) | {"code": code_fingerprint()}
    sets = feature_sets_fingerprint(config.feature_sets)
    if sets is None:
        logger.info("not cached: a feature set whose source cannot be read")
        return keys
    wanted = {name: getattr(config, name) for name in _FEATURE_FIELDS}
    keys["features"] = sha256_json([keys, sets, wanted])
    rest = [config.dataset_parameters, config.start_date]
    keys["outcomes"] = sha256_json([keys, *rest])
    return keys


def cached_names(
    source: Candles, keys: Mapping[str, str], others: Mapping[str, Candles]
) -> dict[str, str]:
    """Returns the keys under which the cache has the tables of candles.

    A last bar that was not over when its file was written is no bar: the time counts.
    """
    files = [
        path
        for each in (source, *others.values())
        if not isinstance(each, pd.DataFrame)
        for path in each
    ]
    if not files:
        return dict(keys)
    written = [path.stat().st_mtime_ns for path in files]
    return {name: sha256_json([key, written]) for name, key in keys.items()}


def candle_digests(source: Candles, others: Mapping[str, Candles]) -> dict[str, str]:
    """Returns the digests of a pair's candles and of what stands beside them."""
    found = {"candles": source_fingerprint(source)}
    for name, each in others.items():
        plain = name if name in EXTRAS else plain_pair(name)
        found[f"context_{plain}"] = source_fingerprint(each)
    return found


def source_fingerprint(source: Candles) -> str:
    """Returns the digest of a candle table, or of the bytes of candle files."""
    if isinstance(source, pd.DataFrame):
        return table_fingerprint(source)
    return files_fingerprint(source)


def files_fingerprint(paths: Sequence[Path]) -> str:
    """Returns the digest of the bytes of files, in their order.

    Raises:
        OSError: If a file cannot be read.
    """
    return sha256_json([[path.name, _file_digest(path)] for path in paths])


def table_fingerprint(table: pd.DataFrame) -> str:
    """Returns the digest of the bytes of the columns of a candle table."""
    parts = []
    for name in (*COLUMNS, "is_filled", *extra_columns(table)):
        if name in table.columns:
            values = _plain(table[name]).view(np.uint8)
            digest = _digest_blocks(
                values[start:stop].tobytes for start, stop in _blocks(len(values))
            )
            parts.append([name, len(values), digest])
    return sha256_json(parts)


@functools.cache
def code_fingerprint() -> str:
    """Returns the digest of the modules and packages that turn candles into rows."""
    parts: list[list[str | None]]
    parts = [[name, sha256_file(_module_file(name))] for name in code_modules()]
    for package in _PACKAGES:
        try:
            parts.append([package, metadata.version(package)])
        except metadata.PackageNotFoundError:
            parts.append([package, None])
    return sha256_json(parts)


@functools.cache
def code_modules() -> tuple[str, ...]:
    """Returns the modules that decide which rows candles give, by their imports.

    They are those below `dataset.rows` and `candles.sources`, and below what these
    import, in `candles`, `dataset` and `files`.
    """
    found: set[str] = set()
    waiting = ["dataset.rows", "dataset.dataset", "candles.sources"]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += _imported(name)
    return tuple(sorted(found))


def _imported(name: str) -> list[str]:
    """Returns the modules of the packages of rows that a module imports."""
    found = []
    for node in ast.walk(ast.parse(_module_file(name).read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{a.name}" for a in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        found += [
            each
            for each in names
            if each.startswith(("candles.", "dataset.", "files."))
            and _module_file(each).is_file()
        ]
    return found


def _module_file(name: str) -> Path:
    return _ROOT / f"{name.replace('.', '/')}.py"


def feature_sets_fingerprint(names: Sequence[str]) -> str | None:
    """Returns the digest of the named sets; None where one cannot be told apart.

    Raises:
        ConfigError: If a set is unknown.
    """
    digests = feature_set_digests(names)
    return None if None in digests.values() else sha256_json(list(digests.items()))


def feature_set_digests(names: Sequence[str]) -> dict[str, str | None]:
    """Returns the digest of each named set; None where it cannot be told apart.

    A built-in set is its name and `FEATURE_VERSION`. A set of the user's is its source,
    the values it closes over and the globals it reads, with the files of functions
    among them. What lies deeper is not seen.

    Raises:
        ConfigError: If a set is unknown.
    """
    found: dict[str, str | None] = {}
    for item in features.find_feature_sets(names):
        parts: list[Any] = [features.FEATURE_VERSION, item.name]
        if not item.is_built_in:
            parts.append(function_fingerprint(item.function))
            warm_up = item.warm_up
            parts.append(
                function_fingerprint(warm_up) if callable(warm_up) else repr(warm_up)
            )
        found[item.name] = None if None in parts else sha256_json(parts)
    return found


def function_fingerprint(function: Callable[..., Any]) -> str | None:
    """Returns the digest of a Python function; None for any other callable."""
    if not isinstance(function, types.FunctionType):
        return None
    try:
        parts = [*_describe(function, seen=set())]
    except (OSError, TypeError, ValueError):
        return None
    return sha256_json(parts)


def _describe(function: types.FunctionType, seen: set[int]) -> Iterable[str]:
    """Yields what decides a function's values, and that of functions it names."""
    if id(function) in seen:
        return
    seen.add(id(function))
    file = inspect.getsourcefile(function)
    # A notebook's cell has no file that stays: its functions are read one by one.
    if file and Path(file).is_file():
        yield sha256_file(file)
    yield inspect.getsource(function)
    yield f"{function.__qualname__} {function.__defaults__} {function.__kwdefaults__}"
    used = inspect.getclosurevars(function)
    for name, value in sorted({**used.nonlocals, **used.globals}.items()):
        if isinstance(value, types.FunctionType):
            yield f"{name}: {value.__module__}.{value.__qualname__}"
            if value.__module__ == function.__module__:
                yield from _describe(value, seen)
            elif (other := inspect.getsourcefile(value)) and Path(other).is_file():
                yield sha256_file(other)
        elif isinstance(value, types.ModuleType):
            yield f"{name}: module {value.__name__}"
        else:
            yield f"{name}: {_value(value)}"


def _value(value: Any) -> str:
    """Returns a text that differs when the value does, also for long arrays."""
    if isinstance(value, np.ndarray):
        digest = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
        return f"{value.dtype} {value.shape} {digest}"
    if isinstance(value, pd.DataFrame | pd.Series):
        return str(pd.util.hash_pandas_object(value).to_numpy().tolist())
    text = repr(value)
    if " at 0x" in text:
        raise ValueError(f"expected a value that shows its content. Received: {text}")
    return text


def _plain(column: pd.Series) -> np.ndarray:
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        return nanoseconds_of(column)
    kind = np.dtype(bool if column.name == "is_filled" else np.float64)
    try:
        return np.ascontiguousarray(column.to_numpy(kind))
    except (TypeError, ValueError) as error:
        raise utils.DataError(
            f"{column.name}: expected numbers. Received: {error}."
        ) from error


def _file_digest(path: Path) -> str:
    size = path.stat().st_size
    digest = _digest_blocks(
        functools.partial(_read_block, path, start, stop)
        for start, stop in _blocks(size)
    )
    return f"{size}-{digest}"


def _read_block(path: Path, start: int, stop: int) -> bytes:
    with path.open("rb") as stream:
        return os.pread(stream.fileno(), stop - start, start)


def _blocks(length: int) -> Iterable[tuple[int, int]]:
    edges = [*range(0, length, _BLOCK_BYTES), length]
    return itertools.pairwise(edges)


def _digest_blocks(readers: Iterable[Callable[[], bytes]]) -> str:
    """Digests blocks on all cores, and the digests in their order."""

    def digest(read: Callable[[], bytes]) -> bytes:
        return hashlib.sha256(read()).digest()

    with ThreadPoolExecutor(utils.available_cores()) as pool:
        parts = pool.map(digest, readers)
        return hashlib.sha256(b"".join(parts)).hexdigest()
