"""Downloads from a local host that misbehaves; nothing half-fetched becomes data."""

import contextlib
import fcntl
import hashlib
import http.server
import io
import socket
import struct
import threading
import zipfile
from datetime import date

import pytest

from candles import archives
from candles.__main__ import main
from candles.archives import DownloadError, Fetcher, download_archives
from candles.table import read_candles
from files.periods import Period, plan_periods
from utils import (
    ConfigError,
    DataError,
    InUseError,
    MissingInputError,
    StorageError,
)

TODAY = date(2024, 4, 10)
MONTH = "data/spot/monthly/klines/ETHUSDT/1h"
DAY = "data/spot/daily/klines/ETHUSDT/1h"


def archive(name, first_ms, bars=24):
    lines = []
    for i in range(bars):
        stamp = first_ms + i * 3_600_000
        lines.append(f"{stamp},10,12,9,11,{i + 1},{stamp + 3_599_999},0,0,0,0,0\n")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as packed:  # stored: large enough to be cut
        packed.writestr(f"{name}.csv", "".join(lines))
    return buffer.getvalue()


JANUARY = archive("ETHUSDT-1h-2024-01", 1704067200000, 31 * 24)
FEBRUARY = archive("ETHUSDT-1h-2024-02", 1706745600000, 29 * 24)


class Host:
    """A local HTTP host: files, scripted faults per path, and a log of requests."""

    def __init__(self):
        self.files, self.faults, self.requests = {}, {}, []
        self.ranges = True
        self.release = threading.Event()
        host = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                host.answer(self)

            def log_message(self, *args):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = False
        self.thread = threading.Thread(
            target=self.server.serve_forever, kwargs={"poll_interval": 0.01}
        )
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def publish(self, path, data, checksum=None):
        name = path.rsplit("/", 1)[-1]
        digest = checksum or hashlib.sha256(data).hexdigest()
        self.files[path] = data
        self.files[path + ".CHECKSUM"] = f"{digest}  {name}\n".encode()

    def answer(self, request):
        path, asked = request.path.lstrip("/"), request.headers.get("Range")
        self.requests.append((path.rsplit("/", 1)[-1], asked))
        fault = self.faults[path].pop(0) if self.faults.get(path) else None
        data = self.files.get(path)
        if isinstance(fault, int):
            request.send_response(fault)
            if fault == 429:
                request.send_header("Retry-After", "7")
            request.send_header("Content-Length", "0")
            return request.end_headers()
        if fault == "reset":
            linger = struct.pack("ii", 1, 0)
            request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            return request.connection.shutdown(socket.SHUT_RDWR)
        if data is None:
            return request.send_error(404)
        if fault == "wrong":
            data = data[:100] + b"?" + data[101:]
        start = int(asked[len("bytes=") : -1]) if asked and self.ranges else 0
        if start >= len(data):
            return request.send_error(416)
        request.send_response(206 if start else 200)
        if start:
            first = 0 if fault == "other range" else start
            span = f"bytes {first}-{len(data) - 1}/{len(data)}"
            request.send_header("Content-Range", span)
        request.send_header("Content-Length", str(len(data) - start))
        request.end_headers()
        if fault in ("cut", "slow"):
            half = (start + len(data)) // 2
            request.wfile.write(data[start:half])
            if fault == "slow":
                request.wfile.flush()
                self.release.wait(5)
            return None
        return request.wfile.write(data[start:])

    def close(self):
        self.release.set()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def host():
    host = Host()
    yield host
    host.close()


@pytest.fixture
def waits():
    return []


@pytest.fixture
def fetcher(host, waits):
    return Fetcher(base_url=host.url, timeout_seconds=5, sleep=waits.append)


def january(host, **options):
    host.publish(f"{MONTH}/ETHUSDT-1h-2024-01.zip", JANUARY, **options)
    return f"{MONTH}/ETHUSDT-1h-2024-01.zip"


def fetch(fetcher, folder, start="2024-01", end="2024-01", **options):
    periods = plan_periods(start, end, today=TODAY)
    return download_archives(
        "ETHUSDT", "1h", periods, output_dir=folder, fetcher=fetcher, **options
    )


def names(folder):
    return sorted(item.name for item in folder.iterdir())


# The good way


def test_months_are_fetched_verified_and_readable(host, fetcher, waits, tmp_path):
    january(host)
    host.publish(f"{MONTH}/ETHUSDT-1h-2024-02.zip", FEBRUARY)
    files = fetch(fetcher, tmp_path, end="2024-02")
    assert [file.name for file in files] == [
        "ETHUSDT-1h-2024-01.zip",
        "ETHUSDT-1h-2024-02.zip",
    ]
    assert files[0].read_bytes() == JANUARY
    assert len(read_candles(files)) == 60 * 24
    assert waits == []
    assert not list(tmp_path.rglob("*.part"))


def test_finished_files_cost_no_request(host, fetcher, tmp_path):
    january(host)
    first = fetch(fetcher, tmp_path)
    host.requests.clear()
    assert fetch(fetcher, tmp_path) == first
    assert host.requests == []


def test_finished_file_that_was_damaged_is_fetched_again(host, fetcher, tmp_path):
    january(host)
    (file,) = fetch(fetcher, tmp_path)
    file.write_bytes(JANUARY[:-1])
    fetch(fetcher, tmp_path)
    assert file.read_bytes() == JANUARY


def test_days_where_a_month_is_not_published(host, fetcher, tmp_path, caplog):
    for day, first in (("02-01", 1706745600000), ("02-03", 1706918400000)):
        name = f"ETHUSDT-1h-2024-{day}"
        host.publish(f"{DAY}/{name}.zip", archive(name, first))
    files = fetch(fetcher, tmp_path, start="2024-02", end="2024-02")
    assert [file.name[-9:] for file in files] == ["02-01.zip", "02-03.zip"]
    assert "not published: 2024-02-02, 2024-02-04" in caplog.text


def test_days_for_a_part_of_a_month_without_asking_for_the_month(
    host, fetcher, tmp_path
):
    host.publish(f"{DAY}/ETHUSDT-1h-2024-04-09.zip", archive("x", 1712620800000))
    files = fetch(fetcher, tmp_path, start="2024-04-09", end="2024-12")
    assert [file.name for file in files] == ["ETHUSDT-1h-2024-04-09.zip"]
    assert "2024-04-09.zip" in host.requests[0][0]


def test_futures_live_elsewhere(host, fetcher, tmp_path):
    january(host)
    path = "data/futures/um/monthly/klines/ETHUSDT/1h/ETHUSDT-1h-2024-01.zip"
    host.publish(path, FEBRUARY)
    (spot,) = fetch(fetcher, tmp_path)
    (futures,) = fetch(fetcher, tmp_path, market="futures")
    assert (spot.read_bytes(), futures.read_bytes()) == (JANUARY, FEBRUARY)


# The host misbehaves


def test_no_network_is_told_once_and_shortly(waits, tmp_path, caplog):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    fetcher = Fetcher(base_url=url, num_attempts=4, sleep=waits.append)
    with pytest.raises(DownloadError, match="Received: Connection refused, in 4 att"):
        fetch(fetcher, tmp_path / "data")
    assert [record.getMessage() for record in caplog.records] == [
        f"{url}: Connection refused; trying again, up to 3 times"
    ]
    assert len(waits) == 3
    assert not (tmp_path / "data").exists()


def test_a_folder_that_takes_no_files_costs_no_request(host, fetcher, tmp_path):
    january(host)
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="is a file, not a folder"):
        fetch(fetcher, tmp_path / "file" / "data")
    assert host.requests == []


def test_nothing_published(host, fetcher, tmp_path):
    with pytest.raises(MissingInputError, match="2024-01 to 2024-02.*none published"):
        fetch(fetcher, tmp_path, end="2024-02")
    assert not list(tmp_path.rglob("*.*"))


def test_checksum_without_archive_leaves_nothing(host, fetcher, tmp_path, caplog):
    del host.files[january(host)]
    with pytest.raises(MissingInputError):
        fetch(fetcher, tmp_path)
    assert "its checksum is published, it is not" in caplog.text
    assert not list(tmp_path.rglob("*.*"))


def test_cut_transfer_is_continued_by_range(host, fetcher, waits, tmp_path):
    path = january(host)
    host.faults[path] = ["cut"]
    (file,) = fetch(fetcher, tmp_path)
    assert file.read_bytes() == JANUARY
    assert host.requests[-1] == (file.name, "bytes=16384-")
    assert waits == [1.0]


def test_cut_transfer_starts_anew_where_the_host_has_no_ranges(
    host, fetcher, waits, tmp_path
):
    host.ranges = False
    host.faults[january(host)] = ["cut"]
    (file,) = fetch(fetcher, tmp_path)
    assert file.read_bytes() == JANUARY
    assert waits == [1.0]


def test_another_range_than_asked_for_is_thrown_away(host, fetcher, waits, tmp_path):
    host.faults[january(host)] = ["cut", "other range"]
    (file,) = fetch(fetcher, tmp_path)
    assert file.read_bytes() == JANUARY
    assert waits == [1.0, 2.0]


def test_partial_file_of_an_earlier_run_is_continued(host, waits, tmp_path):
    path = january(host)
    host.faults[path] = ["cut", "reset"]
    hasty = Fetcher(base_url=host.url, num_attempts=2, sleep=waits.append)
    with pytest.raises(DownloadError, match="in 2 attempts.*continues where it"):
        fetch(hasty, tmp_path)
    assert names(tmp_path / "spot") == ["ETHUSDT-1h-2024-01.zip.part"]
    with pytest.raises(DataError):
        read_candles(tmp_path / "spot" / "ETHUSDT-1h-2024-01.zip.part")
    (file,) = fetch(hasty, tmp_path)
    assert file.read_bytes() == JANUARY
    assert host.requests[-1] == (file.name, "bytes=16384-")


def test_whole_partial_file_is_taken(host, fetcher, waits, tmp_path):
    january(host)
    (tmp_path / "spot").mkdir()
    (tmp_path / "spot" / "ETHUSDT-1h-2024-01.zip.part").write_bytes(JANUARY)
    (file,) = fetch(fetcher, tmp_path)
    assert file.read_bytes() == JANUARY
    assert waits == []


def test_partial_file_with_other_bytes_is_thrown_away(host, fetcher, waits, tmp_path):
    january(host)
    (tmp_path / "spot").mkdir()
    for junk in (b"junk", b"junk" * 100_000):
        part = tmp_path / "spot" / "ETHUSDT-1h-2024-01.zip.part"
        part.write_bytes(junk)
        (file,) = fetch(fetcher, tmp_path)
        assert file.read_bytes() == JANUARY
        assert not part.exists()
        file.unlink()
    assert waits == [1.0, 1.0]


@pytest.mark.parametrize("fault", ["reset", 503, 500, "wrong"])
def test_passing_faults_are_retried(host, fetcher, waits, tmp_path, fault):
    path = january(host)
    host.faults[path] = [fault, fault]
    if fault != "wrong":
        host.faults[path + ".CHECKSUM"] = [fault]
    (file,) = fetch(fetcher, tmp_path)
    assert file.read_bytes() == JANUARY
    assert waits == ([1.0, 2.0] if fault == "wrong" else [1.0, 1.0, 2.0])


def test_host_that_asks_for_patience_gets_it(host, fetcher, waits, tmp_path):
    host.faults[january(host)] = [429]
    assert len(fetch(fetcher, tmp_path)) == 1
    assert waits == [7.0]


def test_slow_host_times_out_and_the_rest_is_fetched_later(host, waits, tmp_path):
    host.faults[january(host)] = ["slow"]
    fetcher = Fetcher(base_url=host.url, timeout_seconds=0.1, sleep=waits.append)
    (file,) = fetch(fetcher, tmp_path)
    assert file.read_bytes() == JANUARY
    assert waits == [1.0]


def test_wrong_checksum_never_becomes_data(host, fetcher, waits, tmp_path):
    january(host, checksum="0" * 64)
    with pytest.raises(DataError, match="match the published checksum.*in 5 attempts"):
        fetch(fetcher, tmp_path)
    assert waits == [1.0, 2.0, 4.0, 8.0]
    assert not list(tmp_path.rglob("*.zip"))


@pytest.mark.parametrize(
    "text", [b"", b"<html>busy</html>", b"0" * 64 + b"  OTHER.zip", b"abc  x.zip"]
)
def test_unreadable_checksum(host, fetcher, tmp_path, text):
    host.files[january(host) + ".CHECKSUM"] = text
    with pytest.raises(DataError, match="64 hexadecimal digits"):
        fetch(fetcher, tmp_path)
    assert not list(tmp_path.rglob("*.zip"))


def test_truncated_zip_with_its_own_checksum_is_refused_on_reading(
    host, fetcher, tmp_path
):
    host.publish(f"{MONTH}/ETHUSDT-1h-2024-01.zip", JANUARY[:-200])
    with pytest.raises(DataError, match="an intact .zip file"):
        read_candles(fetch(fetcher, tmp_path))


def test_refusal_is_not_retried(host, fetcher, waits, tmp_path):
    host.faults[january(host) + ".CHECKSUM"] = [451]
    with pytest.raises(DownloadError, match="status 451"):
        fetch(fetcher, tmp_path)
    assert waits == []


def test_host_that_is_not_there(waits, tmp_path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        fetcher = Fetcher(base_url=url, num_attempts=3, sleep=waits.append)
        with pytest.raises(DownloadError) as caught:
            fetch(fetcher, tmp_path)
    assert caught.value.exit_code == 74
    assert waits == [1.0, 2.0]


def test_size_is_bounded(host, fetcher, tmp_path, monkeypatch):
    january(host)
    monkeypatch.setattr(archives, "MAX_ARCHIVE_BYTES", 1000)
    with pytest.raises(DataError, match="at most 1000 bytes"):
        fetch(fetcher, tmp_path)


def test_two_downloads_of_one_file_do_not_mix(host, fetcher, tmp_path):
    january(host)
    (tmp_path / "spot").mkdir()
    with open(tmp_path / "spot" / "ETHUSDT-1h-2024-01.zip.part", "ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(InUseError, match="another one is running"):
            fetch(fetcher, tmp_path)


@pytest.mark.parametrize("drips", ["head", "body"])
def test_a_host_that_drips_is_left_in_time(drips, tmp_path):
    """Each byte comes soon after the last; the whole would take for ever."""
    is_over = threading.Event()

    def serve(server):
        connection, _ = server.accept()
        with connection, contextlib.suppress(OSError):
            connection.recv(4096)
            if drips == "body":
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n")
            while not is_over.wait(0.05):
                connection.sendall(b"H")

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, args=(server,))
        thread.start()
        words = ["--pair", "ETHUSDT", "--timeframe", "1h", "--start", "2024-01"]
        words += ["--end", "2024-01", "--output-dir", str(tmp_path), "--time-limit"]
        words += ["1s", "--base-url", f"http://127.0.0.1:{server.getsockname()[1]}"]
        assert main(["download", *words]) == 74
        is_over.set()
        thread.join()
    assert list((tmp_path).rglob("*.zip*")) == []


# Arguments


@pytest.mark.parametrize(
    "change, message",
    [
        ({"pair": "../ETH"}, "pair: expected such as"),
        ({"timeframe": "1w"}, "timeframe: expected one of"),
        ({"market": "future"}, "Did you mean 'futures'"),
    ],
)
def test_bad_arguments(change, message, tmp_path):
    arguments = {"pair": "ETHUSDT", "timeframe": "1h", "market": "spot"} | change
    with pytest.raises(ConfigError, match=message):
        download_archives(
            arguments.pop("pair"),
            arguments.pop("timeframe"),
            [Period(date(2024, 1, 1), date(2024, 1, 31))],
            output_dir=tmp_path,
            **arguments,
        )
    with pytest.raises(ConfigError, match="base_url"):
        Fetcher(base_url="file:///etc")


def test_command_line(host, tmp_path, capsys):
    january(host)
    words = "--pair ethusdt --timeframe 1h --start 2024-01 --end 2024-01".split()
    words += ["--base-url", host.url, "--output-dir", str(tmp_path)]
    assert main(["download", *words]) == 0
    assert "1 file in" in capsys.readouterr().out
    words[1] = "XYZUSDT"
    assert main(["download", *words]) == 66


def test_own_copy_of_an_archive_is_verified_and_not_fetched(host, fetcher, tmp_path):
    january(host)
    (tmp_path / "spot").mkdir()
    (tmp_path / "spot" / "ETHUSDT-1h-2024-01.zip").write_bytes(JANUARY)
    fetch(fetcher, tmp_path)
    assert [name for name, _ in host.requests] == ["ETHUSDT-1h-2024-01.zip.CHECKSUM"]
