"""The HTTP service, by clients on loopback; the model behind it is a small fake."""

import asyncio
import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from world.frames import PROJECT

from live import __main__ as command
from live import service
from live.__main__ import main, read_token
from networks import runtime
from predictor import Predictor
from utils import ConfigError, DataError, MissingInputError

MINUTE = pd.Timedelta(1, "min")
TOKEN = "a-token-of-many-letters"


class FakeStream:
    """Answers the close as a probability; what is older than the newest is refused."""

    newest = None

    def __init__(self):
        self.may_go_on, self.has_begun = threading.Event(), threading.Event()
        self.may_go_on.set()

    def update(self, candle):
        self.has_begun.set()
        assert self.may_go_on.wait(20)
        if candle["close"] == 666:
            raise ZeroDivisionError("a defect")
        time = pd.Timestamp(candle["timestamp"])
        if self.newest is not None and time < self.newest:
            raise DataError("expected a newer candle")
        if time == self.newest:
            return None
        self.newest = time
        row = {"timestamp": time, "p_long": np.float64(candle["close"]), "signal": 2}
        return pd.Series(row | {"tp_price": np.nan, "expires_at": pd.NaT})


def candle(number, close=0.5, **others):
    time = pd.Timestamp("2024-01-01T00:00Z") + number * MINUTE
    prices = dict.fromkeys(("open", "high", "low", "close"), close)
    return {"timestamp": time.isoformat(), **prices, "volume": 1.0} | others


@contextlib.contextmanager
def serving(stream=None, *, token=None, max_body_bytes=4000, body_seconds=20.0):
    """Yields the port of a service in a thread, which then stops as on a signal."""
    signals = service.Signals(stream or FakeStream(), {"model_id": "m"})
    application = service.make_application(
        signals, token=token, max_body_bytes=max_body_bytes
    )
    known, ready = {}, threading.Event()

    def is_ready(port):
        known["port"] = port
        ready.set()

    async def serve():
        known["loop"], known["stop"] = asyncio.get_running_loop(), asyncio.Event()
        await service.serve(
            application,
            host="127.0.0.1",
            port=0,
            stop=known["stop"],
            is_ready=is_ready,
            body_seconds=body_seconds,
        )

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert ready.wait(20)

    def end():
        with contextlib.suppress(RuntimeError):  # it has ended already
            known["loop"].call_soon_threadsafe(known["stop"].set)

    known["end"] = end
    try:
        yield known
    finally:
        known["end"]()
        thread.join(20)
        assert not thread.is_alive()


@pytest.fixture(scope="module")
def port():
    with serving() as known:
        yield known["port"]


def ask(port, method, path, body=None, **headers):
    """Returns status and JSON of an answer."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port)) as client:
        text = body if isinstance(body, bytes | None) else json.dumps(body)
        client.request(method, path, text, given)
        response = client.getresponse()
        content = response.read()
        assert response.headers["Content-Type"] == "application/json"
        assert response.headers["Server"] is None
        return response.status, json.loads(content) if content else None


def test_candles_are_answered_one_by_one_and_many_at_once():
    with serving() as known:
        port = known["port"]
        status, answer = ask(port, "GET", "/signal")
        assert status == 404 and "Post it to /candles" in answer["error"]
        health = {"status": "ok", "model_id": "m", "newest": None}
        assert ask(port, "GET", "/health") == (200, health)
        row = {
            "timestamp": "2024-01-01T00:00:00Z",
            "p_long": 0.5,
            "signal": 2,
            "tp_price": None,
            "expires_at": None,
        }
        first = candle(0)
        assert ask(port, "POST", "/candles", first) == (200, {"rows": [row]})
        assert ask(port, "POST", "/candles", [first]) == (200, {"rows": [None]})
        assert ask(port, "GET", "/signal") == (200, row)
        later = [candle(k, k / 10) for k in (1, 2)]
        status, answer = ask(port, "POST", "/candles", {"candles": later})
        assert status == 200 and [row["p_long"] for row in answer["rows"]] == [0.1, 0.2]
        assert ask(port, "GET", "/signal")[1] == answer["rows"][-1]
        newest = "2024-01-01T00:02:00Z"
        assert ask(port, "GET", "/health")[1]["newest"] == newest


def test_what_came_before_a_bad_candle_is_answered():
    with serving() as known:
        candles = [candle(5), candle(6), candle(4), candle(7)]
        status, answer = ask(known["port"], "POST", "/candles", candles)
        assert status == 422 and len(answer["rows"]) == 2
        assert answer["error"] == "candle 2: expected a newer candle"
        assert ask(known["port"], "POST", "/candles", candle(7))[0] == 200


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "message"),
    [
        ("POST", "/candles", b"", 400, "strict JSON"),
        ("POST", "/candles", b"{", 400, "strict JSON"),
        ("POST", "/candles", b"\xff\xfe", 400, "strict JSON"),
        ("POST", "/candles", b'{"a": NaN}', 400, "NaN is not JSON"),
        ("POST", "/candles", b'{"a": 1, "a": 2}', 400, "'a' appears twice"),
        ("POST", "/candles", b"[" * 3900, 400, "strict JSON"),
        ("POST", "/candles", [], 422, "one candle, or a list of them"),
        ("POST", "/candles", "candle", 422, "one candle, or a list of them"),
        ("POST", "/candles", [candle(0), 7], 422, "candle 1: expected an object"),
        ("POST", "/candles", candle(0, close=None), 422, "of numbers and a time"),
        ("POST", "/candles", candle(0, close=True), 422, "of numbers and a time"),
        ("POST", "/candles", candle(0, close=10**400), 422, "of numbers and a time"),
        ("POST", "/candles", candle(0, close=[1]), 422, "of numbers and a time"),
        ("POST", "/candles", b" " * 4001, 413, "at most 4000 bytes"),
        ("POST", "/candles", b" " * 30_000, 413, "at most 4000 bytes"),
        ("GET", "/candles", None, 405, "/candles: expected POST. Received: GET"),
        ("PUT", "/signal", b"x", 405, "/signal: expected GET. Received: PUT"),
        ("BREW", "/signal", None, 405, "method not allowed"),
        ("GET", "/", None, 404, "expected /candles, /signal or /health"),
        ("POST", "/candles/../x", b"1" * 9000, 404, "Received: /candles/../x"),
    ],
)
def test_errors_are_clear_and_json(port, method, path, body, status, message):
    found, answer = ask(port, method, path, body)
    assert found == status and message in answer["error"]
    assert "Traceback" not in str(answer)


def test_an_answer_without_a_body_to_head(port):
    assert ask(port, "HEAD", "/health") == (405, None)


def test_bodies_of_unknown_length_are_bounded(port):
    def chunks(count):
        yield from [b" " * 1000] * count

    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port)) as client:
        for count, status in ((3, 400), (5, 413)):
            client.request("POST", "/candles", chunks(count), encode_chunked=True)
            response = client.getresponse()
            assert (response.status, b"error" in response.read()) == (status, True)


def test_headers_that_belong_to_a_status(port):
    def header(port, method, name):
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port)) as c:
            c.request(method, "/health")
            return c.getresponse().getheader(name)

    assert header(port, "PUT", "Allow") == "GET"
    with serving(token=TOKEN) as known:
        assert header(known["port"], "GET", "WWW-Authenticate") == "Bearer"


@pytest.mark.parametrize("length", ["9" * 20, "9" * 5000, "-1", "1e3", "5, 6", ""])
def test_lengths_that_are_none(port, length):
    with socket.create_connection(("127.0.0.1", port), 20) as client:
        head = "POST /candles HTTP/1.1\r\nHost: localhost\r\nContent-Length: "
        client.sendall((head + length + "\r\n\r\n").encode())
        answer = b"".join(iter(lambda: client.recv(4096), b""))
    assert answer.startswith((b"HTTP/1.1 413 ", b"HTTP/1.1 400 "))
    assert ask(port, "GET", "/health")[0] == 200


def test_who_asks_first_need_not_send_what_is_too_large(port):
    with socket.create_connection(("127.0.0.1", port), 20) as client:
        head = b"POST /candles HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999\r\n"
        client.sendall(head + b"Expect: 100-continue\r\n\r\n")
        answer = b"".join(iter(lambda: client.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 413 ") and answer.count(b"HTTP/1.1") == 1


def test_nobody_without_the_token():
    with serving(token=TOKEN) as known:
        port = known["port"]
        for words in ({}, {"Authorization": "Bearer"}, {"Authorization": TOKEN}):
            for method, path in (
                ("GET", "/health"),
                ("POST", "/candles"),
                ("PUT", "/"),
            ):
                status, answer = ask(port, method, path, b"[" * 5000, **words)
                assert status == 401 and TOKEN not in answer["error"]
        shown = {"Authorization": f"Bearer {TOKEN}"}
        assert ask(port, "GET", "/health", **shown, Host="any.where")[0] == 200
        assert ask(port, "POST", "/candles", candle(0), **shown)[0] == 200


def test_pages_of_other_sites_are_refused(port):
    assert ask(port, "POST", "/candles", candle(0), Origin="http://evil.org")[0] == 403
    for host in ("evil.org", "127.0.0.1.evil.org", ""):
        status, answer = ask(port, "GET", "/signal", Host=host)
        assert status == 403 and "a host of this machine" in answer["error"]
    for host in ("localhost", "[::1]:8000", "127.0.0.1"):
        assert ask(port, "GET", "/health", Host=host)[0] == 200


def test_a_slow_client_keeps_nobody_waiting_and_is_cut_off():
    with serving(body_seconds=0.5) as known:
        with socket.create_connection(("127.0.0.1", known["port"]), 20) as slow:
            head = b"POST /candles HTTP/1.1\r\nHost: localhost\r\n"
            slow.sendall(head + b"Content-Length: 99\r\n\r\n{")
            assert ask(known["port"], "POST", "/candles", candle(0))[0] == 200
            assert slow.recv(4096) == b""


def test_clients_at_the_same_time_get_their_own_rows():
    def post(number):
        close = 0.1 + number / 1000
        return close, ask(known["port"], "POST", "/candles", candle(10, close))

    with serving() as known, ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(post, range(40)))
        rows = [answer["rows"][0] for _, (status, answer) in answers if status == 200]
        assert len(rows) == 40 and sum(row is not None for row in rows) == 1
        [own] = [c for c, (_, answer) in answers if answer["rows"] != [None]]
        assert ask(known["port"], "GET", "/signal")[1]["p_long"] == own


def test_a_defect_is_no_traceback_to_a_client(port, caplog):
    status, answer = ask(port, "POST", "/candles", candle(0, close=666))
    assert (status, answer) == (500, {"error": "internal server error"})
    assert "ZeroDivisionError: a defect" in caplog.text
    assert ask(port, "GET", "/health")[0] == 200


def test_what_is_asked_before_the_stop_is_answered():
    stream = FakeStream()
    stream.may_go_on.clear()
    with serving(stream) as known, ThreadPoolExecutor(1) as thread:
        asked = thread.submit(ask, known["port"], "POST", "/candles", candle(0))
        assert stream.has_begun.wait(20)
        assert ask(known["port"], "GET", "/health")[0] == 200  # while it computes
        known["end"]()
        stream.may_go_on.set()
        assert asked.result(20)[0] == 200


def port_of(process):
    told = next(line for line in process.stdout if line.startswith("http://"))
    return int(told.rpartition(":")[2])


def test_a_signal_ends_it_with_success():
    program = (
        "import sys, utils; from live import service\n"
        "class Stream: newest = None\n"
        "app = service.make_application(\n"
        "    service.Signals(Stream(), {}), token=None, max_body_bytes=9)\n"
        "utils.configure_logging()\n"
        "def main(): service.run(app, host='127.0.0.1', port=0)\n"
        "sys.exit(utils.run_command_line(main))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        port = port_of(process)
        with socket.create_connection(("127.0.0.1", port)):
            assert ask(port, "GET", "/health")[0] == 200
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 0
        assert process.stderr.read() == ""


def test_rows_are_those_of_a_table_of_the_same_candles(run, candles):
    predictor, first = Predictor(run), len(candles) - 30
    expected = predictor.predict_candles(candles, last=30)
    posted = candles.assign(timestamp=candles["timestamp"].map(pd.Timestamp.isoformat))
    posted = posted[["timestamp", "open", "high", "low", "close", "volume"]]
    with serving(predictor.stream(candles[:first]), max_body_bytes=20_000) as known:
        rows = posted[first:].to_dict("records")
        status, answer = ask(known["port"], "POST", "/candles", rows)
    assert status == 200
    assert answer["rows"] == [service.to_row(row) for _, row in expected.iterrows()]
    assert {row["status"] for row in answer["rows"]} == {"ok"}


def test_the_command_serves_from_a_file_of_candles(run, candles, tmp_path):
    history = tmp_path / "TESTUSDT-1m.csv"
    candles[:-1].to_csv(history, index=False)
    words = ["-m", "live", "serve", str(run), "--port", "0", "--history", str(history)]
    with subprocess.Popen(
        [sys.executable, *words],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        port = port_of(process)
        newest, last = candles["timestamp"].iloc[-2], candles.iloc[-1]
        before = ask(port, "GET", "/signal")[1]
        assert pd.Timestamp(before["timestamp"]) == newest and before["status"] == "ok"
        assert ask(port, "GET", "/health")[1]["pair"] == "TESTUSDT"
        sent = last[["open", "high", "low", "close", "volume"]].to_dict()
        sent["timestamp"] = last["timestamp"].isoformat()
        [row] = ask(port, "POST", "/candles", sent)[1]["rows"]
        process.terminate()
        assert process.wait(20) == 0 and process.stderr.read() == ""
    assert row == service.to_row(Predictor(run).predict_candles(candles).iloc[0])


# What is refused before anybody listens


def test_beyond_this_machine_a_token_is_needed(capsys, monkeypatch):
    monkeypatch.delenv("LIVE_TOKEN", raising=False)
    for host in ("0.0.0.0", "::", "192.0.2.7", "example.org", ""):
        assert main(["serve", "nothing", "--host", host]) == 2
        assert "expected a token" in capsys.readouterr().err
    monkeypatch.setenv("LIVE_TOKEN", TOKEN)
    assert main(["serve", "nothing", "--host", "0.0.0.0"]) == 66


def test_tokens_come_from_a_file_or_the_environment(tmp_path, monkeypatch):
    monkeypatch.delenv("LIVE_TOKEN", raising=False)
    assert read_token(None) is None
    monkeypatch.setenv("LIVE_TOKEN", "from-the-environment")
    assert read_token(None) == "from-the-environment"
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    assert read_token(str(file)) == TOKEN
    for text in ("", "short", "with a space in its midst", "not-ascii-aber-schön"):
        file.write_text(text)
        with pytest.raises(ConfigError, match="at least 16") as caught:
            read_token(str(file))
        assert not text or text not in str(caught.value)
    with pytest.raises(MissingInputError):
        read_token(os.devnull + "x")


def test_an_address_that_is_taken(capsys):
    with serving() as known:
        stream = service.Signals(FakeStream(), {})
        app = service.make_application(stream, token=None, max_body_bytes=9)
        with pytest.raises(service.utils.InUseError, match="already in use"):
            service.run(app, host="127.0.0.1", port=known["port"])
        with pytest.raises(ConfigError, match="an address to listen on"):
            service.run(app, host="127.0.0.1", port=99_999)


@pytest.mark.parametrize(
    "file, count",
    [("model_A.keras", 1), ("model_A.json", 0), ("members/2/model_A.keras", 1)],
)
def test_kernels_of_a_network_get_a_thread_each(monkeypatch, file, count):
    calls = []
    artifact = SimpleNamespace(files={"metadata_A.json": {}, file: {}})
    monkeypatch.setattr(command, "open_model", lambda _: artifact)
    monkeypatch.setattr(runtime, "configure_runtime", calls.append)
    command._prepare_threads("a model")
    assert len(calls) == count
