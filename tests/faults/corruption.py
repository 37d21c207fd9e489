"""Room: one flipped bit, or a cut, in every format that is read.

With a digest every one must be found. Without, a reader says so in one clear message,
or returns something whose structure is right; it never crashes, hangs or grows.
"""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import json
import logging
import os
import re
import resource
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
from publication import SCALER
from scene import PROJECT, Child, Row, World, say
from world.frames import TINY, make_own_frame

import utils
from artifacts import keras_files, manifest, run_folder
from artifacts.array_files import HEADER
from artifacts.artifact import load_artifact
from candles import formats as candle_files
from candles.columns import COLUMNS
from config import Config
from data_loader import TrainingDataLoader
from dataset.sidecar import sidecar_path
from files.atomic import sha256_file
from files.strict import read_json, write_json
from networks import checkpoints
from preprocessing.pipelines import PreprocessingPipeline
from preprocessing.scaling import FeatureScaler
from preprocessing.templates import run_pipeline
from settings import sources

REFUSALS = (utils.EXIT_BAD_DATA, utils.EXIT_REFUSED_ARTIFACT)
MEMORY = 3 * 2**30
"""Address space that a reader may take beyond what the harness has."""


@dataclasses.dataclass(frozen=True)
class Format:
    """A whole file, how it is read, and what must hold of what was read.

    `read` returns what is structurally wrong, or None; it raises a refusal.
    """

    name: str
    path: Path
    read: Callable[[], str | None]
    exit_codes: tuple[int, ...] = REFUSALS
    has_digest: bool = False
    before: Callable[[bytes], bytes] = lambda data: data


def corruption_room(world: World) -> list[Row]:
    """1,000 flips and 1,000 cuts of each format."""
    rows = [
        Row("corrupted, with digest", "all found"),
        Row("corrupted, without digest", "no crash, hang or silent structural fault"),
    ]
    folder = world.folder / "corrupt"
    folder.mkdir()
    formats = make_formats(folder)
    count = world.count(1000, 8)
    for position, item in enumerate(formats):
        row = rows[0 if item.has_digest else 1]
        for failure in _attack(world, item, position, count):
            row.add(failure)
    digested = sum(item.has_digest for item in formats)
    for row, number in zip(rows, (digested, len(formats) - digested), strict=True):
        row.note = f"{number} formats, {count} flips and {count} cuts each"
    return rows


def _attack(world: World, item: Format, position: int, count: int) -> list[str | None]:
    """Returns one problem or None for each damaged version of a file."""
    whole = item.path.read_bytes()
    started = time.monotonic()
    report = world.folder / f"{item.name.replace(' ', '-')}.report"
    results: list[str | None] = []
    while len(results) < 2 * count:
        first = len(results)
        child = Child(
            lambda _, f=first: _attack_from(world, item, position, (f, count), report),
            world.folder / "corrupt.log",
        )
        code = child.wait()
        lines = report.read_text().splitlines() if report.exists() else []
        results = [None if line == "ok" else f"{item.name}: {line}" for line in lines]
        if len(results) < 2 * count:
            how = "it hangs" if code == -999 else f"the reader dies with {code}"
            results.append(f"{item.name}: damage {len(results)}: {how}")
            report.write_text("".join(f"{r or 'ok'}\n" for r in results))
        elif code != 0:
            results[-1] = f"{item.name}: exit {code}"
    item.path.write_bytes(whole)
    say(f"  {item.name}: {time.monotonic() - started:.0f} s")
    return results[: 2 * count]


def _attack_from(
    world: World, item: Format, position: int, span: tuple[int, int], report: Path
) -> int:
    logging.disable(logging.CRITICAL)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * os.sysconf("SC_PAGE_SIZE") + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    whole = item.path.read_bytes()
    if item.read() is not None:
        return 98  # the whole file must be read
    first, count = span
    with report.open("a") as stream:
        for number in range(first, 2 * count):
            damaged = damage(whole, world.rng(5, position, number), number < count)
            item.path.write_bytes(item.before(damaged))
            signal.alarm(60)  # by default it ends the process
            problem = _read_damaged(item)
            signal.alarm(0)
            line = "ok" if problem is None else f"damage {number}: {problem}"
            stream.write(line.replace("\n", " ") + "\n")
            stream.flush()
    item.path.write_bytes(whole)
    return 0


def damage(whole: bytes, rng: np.random.Generator, is_flip: bool) -> bytes:
    """Returns the bytes with one flipped bit, or cut at a random place."""
    if not is_flip:
        # The newline at the end says nothing.
        return whole[: rng.integers(0, len(whole.rstrip()))]
    changed = bytearray(whole)
    changed[rng.integers(0, len(whole))] ^= 1 << int(rng.integers(0, 8))
    return bytes(changed)


def _read_damaged(item: Format) -> str | None:
    try:
        problem = item.read()
    except utils.UserError as error:
        if error.exit_code not in item.exit_codes:
            return f"exit {error.exit_code}: {error!s:.200}"
        return None if str(error).strip() else "refused without a word"
    except Exception as error:
        return f"{type(error).__name__}: {error!s:.200}"
    if item.has_digest:
        return "not found"
    return problem


# The formats


def property_room(world: World) -> Row:
    """The property tests of every reader, with many more examples."""
    row = Row("any bytes, text or JSON", "a refusal with a word, or a whole result")
    examples = world.count(1000, 25)
    command = [sys.executable, "-m", "pytest", "-q", "-rf", "-k", "test_any_"]
    files = ("hostile", "array_files")
    command += [f"tests/artifacts/test_{name}.py" for name in files]
    command += [f"--hypothesis-seed={world.seed}"]
    result = subprocess.run(
        command,
        cwd=PROJECT,
        env=os.environ | {"HOSTILE_EXAMPLES": str(examples)},
        capture_output=True,
        text=True,
        check=False,
    )
    passed = re.search(r"(\d+) passed", result.stdout)
    for _ in range(int(passed[1]) if passed else 0):
        row.add(None)
    for failure in re.findall(r"^FAILED (.*)$", result.stdout, re.MULTILINE):
        row.add(failure)
    if result.returncode != 0 and not row.failures:
        row.add((result.stdout + result.stderr)[-500:])
    row.note = f"properties, {examples} examples each"
    return row


def make_formats(folder: Path) -> list[Format]:
    """Returns every format that is read, with a small whole file of each."""
    return [
        *_training_files(folder),
        *_candle_files(folder),
        *_small_texts(folder),
        *_checkpoint_files(folder),
        *_artifact_files(folder),
    ]


def _training_files(folder: Path) -> list[Format]:
    frame = make_own_frame(400, seed=5)
    found = []
    for suffix in ("feather", "parquet", "csv"):
        for has_digest in (True, False):
            kind = "digest" if has_digest else "plain"
            path = folder / f"training-{kind}.{suffix}"
            if suffix == "feather":
                pa.feather.write_feather(pa.Table.from_pandas(frame), str(path))
            elif suffix == "parquet":
                frame.to_parquet(path, write_page_checksum=True)
            else:
                frame.to_csv(path, index=False)
            if has_digest:
                content = {"format": 1, "sha256": sha256_file(path)}
                write_json(sidecar_path(path), content)
            found.append(
                Format(
                    f"training {suffix} {kind}",
                    path,
                    lambda p=path: _read_training(p),
                    has_digest=has_digest,
                )
            )
    path = folder / "training-digest.feather"
    sidecar = sidecar_path(path)
    found.append(Format("sidecar", sidecar, lambda: _read_training(path)))
    return found


def _read_training(path: Path) -> str | None:
    config = Config(**TINY).replace(training_file=str(path))
    data = TrainingDataLoader(config=config).load_training_data()
    steps = np.diff(data.timestamps.astype(np.int64))
    if len(steps) and steps.min() <= 0:
        return "timestamps are not increasing"
    if (
        not np.isfinite(data.features).all()
        or not np.isin(data.labels, (0, 1, 2)).all()
    ):
        return "features or labels are out of range"
    lengths = {len(data.features), len(data.labels), len(data.timestamps)}
    lengths |= {len(column) for column in data.outcomes.values()}
    return None if len(lengths) == 1 else f"columns of unequal length: {lengths}"


def _candle_files(folder: Path) -> list[Format]:
    table = _candles(200)
    arrow = pa.Table.from_pandas(table, preserve_index=False)
    csv = table.assign(timestamp=table["timestamp"].astype("int64") // 10**6)
    text = csv.to_csv(index=False).encode()
    rows = csv.to_numpy().tolist()
    names = ("csv", "csv.gz", "zip", "json", "json.gz", "feather", "parquet", "h5")
    paths = {name: folder / f"candles.{name}" for name in names}
    paths["csv"].write_bytes(text)
    paths["csv.gz"].write_bytes(gzip.compress(text, mtime=0))
    paths["json"].write_text(json.dumps(rows))
    paths["json.gz"].write_bytes(gzip.compress(json.dumps(rows).encode(), mtime=0))
    with zipfile.ZipFile(paths["zip"], "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("candles.csv", text)
    pa.feather.write_feather(arrow, str(paths["feather"]))
    pq.write_table(arrow, paths["parquet"], write_page_checksum=True)
    _write_hdf5(paths["h5"], csv)
    return [
        Format(f"candles {name}", path, lambda p=path: _read_candles(p))
        for name, path in paths.items()
    ]


def _candles(count: int) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    close = 100 + rng.standard_normal(count).cumsum()
    opens = np.concatenate([[100], close[:-1]])  # without names, this tells columns
    times = pd.date_range("2024-01-01", periods=count, freq="min", tz="UTC")
    return pd.DataFrame(
        {
            "timestamp": times.as_unit("ns"),
            "open": opens,
            "high": np.maximum(opens, close) + 1,
            "low": np.minimum(opens, close) - 1,
            "close": close,
            "volume": rng.uniform(1, 2, count),
        }
    )


def _write_hdf5(path: Path, csv: pd.DataFrame) -> None:
    import h5py

    values = csv.to_numpy(np.float64)
    kind = np.dtype(
        [("index", "<i8"), ("date", "<i8"), ("values_block_0", "<f8", (5,))]
    )
    rows = np.empty(len(csv), kind)
    rows["index"] = np.arange(len(csv))
    rows["date"] = values[:, 0] * 10**6
    rows["values_block_0"] = values[:, 1:]
    with h5py.File(path, "w") as file:
        table = file.create_dataset("BTC/ohlcv/table", data=rows)
        names = ("open", "high", "low", "close", "volume")
        table.attrs["values_block_0_kind"] = np.bytes_(" ".join(names))


def _read_candles(path: Path) -> str | None:
    table = candle_files.read_file(path)
    if tuple(table.columns) != COLUMNS or not len(table):
        return f"columns {list(table.columns)}, {len(table)} rows"
    kinds = {str(kind) for kind in table.dtypes}
    return None if kinds == {"datetime64[ns, UTC]", "float64"} else f"types {kinds}"


def _small_texts(folder: Path) -> list[Format]:
    yaml, scaler = folder / "run.yaml", folder / "scaler.json"
    yaml.write_text(Config(**TINY).to_yaml())
    write_json(scaler, SCALER.to_dict())
    steps, pipeline = (
        folder / "steps.json",
        run_pipeline(Config(), SCALER.feature_names, {}),
    )
    write_json(steps, pipeline.with_scaler(SCALER).to_dict())

    def read_yaml() -> str | None:
        sources.load_config(str(yaml))
        return None

    def read_scaler() -> str | None:
        read = FeatureScaler.from_dict(read_json(scaler))
        read.transform(np.zeros((2, len(read.center)), np.float32))
        return None

    def read_steps() -> str | None:
        read = PreprocessingPipeline.from_dict(read_json(steps), steps)
        read.transform(np.zeros((2, len(read.feature_names)), np.float32))
        return None

    return [
        Format("YAML", yaml, read_yaml, exit_codes=(utils.EXIT_USAGE,)),
        Format("scaler", scaler, read_scaler),
        Format("preprocessor", steps, read_steps),
    ]


def _checkpoint_files(folder: Path) -> list[Format]:
    content = {f"variable_{i}": np.full((9, 7), i, np.float32) for i in range(5)}
    content["history"] = np.asarray(json.dumps({"loss": [(0.5).hex()]}))
    content["epochs_done"] = np.asarray(1)
    sealed, bare = folder / "sealed.ckpt", folder / "bare.ckpt"
    checkpoints.write_checkpoint(sealed, content)
    bare.write_bytes(sealed.read_bytes().partition(b"\n")[2])

    def seal(data: bytes) -> bytes:
        digest = hashlib.sha256(data).hexdigest().encode()
        return HEADER + digest + b"\n" + data

    def read_bare() -> str | None:
        if not bare.read_bytes().startswith(HEADER):
            bare.write_bytes(seal(bare.read_bytes()))
        state = checkpoints.read_checkpoint(bare)
        odd = [name for name, value in state.items() if value.dtype.kind == "O"]
        return f"objects in {odd}" if odd else None

    def read_sealed() -> str | None:
        checkpoints.read_checkpoint(sealed)
        return None

    return [
        Format("checkpoint", sealed, read_sealed, has_digest=True),
        Format("checkpoint sealed by an enemy", bare, read_bare, before=seal),
    ]


def _artifact_files(folder: Path) -> list[Format]:
    config = Config(**TINY).replace(outputs_dir=str(folder / "outputs"))
    run = run_folder.RunFolder.create(config)
    child = Child(
        lambda _: _save_network(run.file("model", ".keras")), folder / "save.log"
    )
    if child.wait() != 0:
        raise SystemExit((folder / "save.log").read_text())
    model = run.file("model", ".keras").name
    write_json(run.file("scaler", ".json"), SCALER.to_dict())
    write_json(run.file("metadata", ".json"), {"files": {"model": model}})
    pd.DataFrame({"a": range(50)}).to_parquet(run.file("predictions", ".parquet"))
    published = run.publish()
    run.unlock()

    def read() -> str | None:
        load_artifact(published)
        return None

    found = [
        Format(f"artifact {path.name}", path, read, has_digest=True)
        for path in sorted(published.iterdir())
    ]
    bare = folder / "bare.keras"
    bare.write_bytes((published / model).read_bytes())
    parameters = sum(_sizes(bare.read_bytes()))

    def read_bare() -> str | None:
        network = keras_files.load_keras_model(bare.read_bytes(), bare)
        return None if network.count_params() == parameters else "other parameters"

    return [*found, Format("network sealed by an enemy", bare, read_bare)]


def _save_network(path: Path) -> int:
    from model_builder import DualWindowLSTMBuilder

    builder = DualWindowLSTMBuilder(Config(**TINY), num_features=2)
    builder.build_network().save(path)
    return 0


def _sizes(data: bytes) -> list[int]:
    members = keras_files.read_members(data, "network")
    return [keras_files.count_stored(members[manifest.WEIGHTS_MEMBER], "network")]
