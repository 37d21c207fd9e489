"""From an archive server to signals of a model that earned its place, with a kill."""

import hashlib
import http.server
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
import zipfile
from datetime import UTC, datetime, timedelta
from functools import partial

import pandas as pd
import pytest
from world.frames import PROJECT
from world.markets import BARS_A_DAY, market, trained

from artifacts.registry import Registry
from live.decisions import PENDING, read_decisions
from live.schedule import read_schedule
from predictor import Predictor

DAYS, NEW_DAYS = 60, 55
ALIAS = "logistic/TESTUSDT-15m-signal@champion"
TRIES = 600
CHAMPION = {"feature_sets": ("ray12",), "validation_split": 0.2}


def write_archives(candles, root):
    """Months that are over and single days of others, as Binance publishes them."""
    folder = root / "data/spot"
    days = candles["timestamp"].dt.strftime("%Y-%m-%d")
    months = days.str[:7]
    for month, rows in candles.groupby(months):
        whole = len(rows) == pd.Period(month).days_in_month * BARS_A_DAY
        kind, pieces = ("monthly", [(month, rows)]) if whole else ("daily", None)
        for name, piece in pieces or rows.groupby(days):
            place = folder / kind / "klines/TESTUSDT/15m"
            place.mkdir(parents=True, exist_ok=True)
            write_archive(piece, place / f"TESTUSDT-15m-{name}.zip")


def write_archive(rows, path):
    stamps = (
        rows["timestamp"].astype("int64")
        // {"ns": 10**6, "us": 10**3}[rows["timestamp"].dt.unit]
    )
    lines = [
        f"{stamp},{o},{h},{low},{c},{v},{stamp + 899_999},0,0,0,0,0"
        for stamp, o, h, low, c, v in zip(
            stamps,
            *(rows[k] for k in ("open", "high", "low", "close", "volume")),
            strict=True,
        )
    ]
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(path.with_suffix(".csv").name, "\n".join(lines) + "\n")
    path.write_bytes(packed.getvalue())
    digest = hashlib.sha256(packed.getvalue()).hexdigest()
    path.with_name(f"{path.name}.CHECKSUM").write_text(f"{digest}  {path.name}\n")


@pytest.fixture
def server(tmp_path):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *words):
            pass

    root = tmp_path / "server"
    root.mkdir()
    handler = partial(Quiet, directory=str(root))
    found = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=found.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{found.server_port}", root
    found.shutdown()
    thread.join()
    found.server_close()


def start(*words, **options):
    return subprocess.Popen(
        [sys.executable, *words],
        cwd=PROJECT,
        text=True,
        stdout=subprocess.PIPE,
        **options,
    )


def wait_for(is_there):
    for _ in range(TRIES):
        if is_there():
            return
        time.sleep(0.05)
    raise AssertionError("it did not come")


def test_the_whole_loop(server, tmp_path):
    url, root = server
    first = datetime.now(UTC).date() - timedelta(DAYS + NEW_DAYS)
    candles = market((5.0, 5.0), (DAYS, NEW_DAYS), (1.0, 0.4), start=first.isoformat())
    write_archives(candles, root)
    outputs, data = tmp_path / "outputs", tmp_path / "data/spot"
    folder = trained(candles[: DAYS * BARS_A_DAY], outputs, **CHAMPION)
    Registry(outputs).register(folder, alias="champion")
    path = tmp_path / "renew.yaml"
    path.write_text(
        f"champion: {ALIAS}\ncandles: {data}\noutputs_dir: {outputs}\n"
        "every_days: 15\nduel_days: 15\nrolling_days: 40\ntolerance: 0.5\n"
        f"download: binance\ndownload_from: {first:%Y-%m}-{first:%d}\n"
        f"download_url: {url}\n"
    )
    schedule = read_schedule(str(path))

    # Download and build; killed while it trains.
    killed = start("-m", "live", "retrain", str(path), "--follow")
    wait_for((schedule.folder / PENDING).exists)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert read_decisions(schedule.folder) == []

    # Signals of the champion meanwhile.
    growing = tmp_path / "TESTUSDT-15m.csv"
    candles[:-3].to_csv(growing, index=False)
    name = f"{outputs}/{ALIAS}"
    said = start("predictor.py", name, str(growing), "--follow", "--format", "jsonl")
    rows = [json.loads(said.stdout.readline())]
    assert rows[0]["model_id"] == folder.name

    # Started again: the same look, promoted.
    again = start("-m", "live", "retrain", str(path), "--once")
    again.communicate()
    assert again.returncode == 0
    [decision] = read_decisions(schedule.folder)
    assert decision["outcome"] == "promoted"
    new = Predictor(name)
    assert new.model_id != folder.name

    # The next bars are answered by the new model, without a restart.
    time.sleep(1.5)  # one look at the alias
    candles.to_csv(f"{growing}.part", index=False)
    os.replace(f"{growing}.part", growing)
    rows += [json.loads(said.stdout.readline()) for _ in range(3)]
    said.send_signal(signal.SIGTERM)
    said.communicate()
    assert said.returncode == 0
    assert [row["model_id"] for row in rows[1:]] == [new.model_id] * 3
    times = pd.to_datetime([row["timestamp"] for row in rows])
    assert list(times) == list(candles["timestamp"][-4:])
    expected = new.predict_candles(candles, last=3)
    for row, (_, other) in zip(rows[1:], expected.iterrows(), strict=True):
        assert row["p_long"] == pytest.approx(other["p_long"], abs=1e-6)
