"""Hooks against a server and commands that misbehave, on loopback."""

import contextlib
import http.server
import json
import logging
import re
import shlex
import sys
import threading

import pytest

from files.hooks import PAUSES_SECONDS, Hooks
from utils import ConfigError

TOLD = {"event": "watch", "level": "alarm", "skill": -0.1}
SECRET = "token-4711"  # noqa: S105 - none


class Server(http.server.BaseHTTPRequestHandler):
    """Answers by the name in the path; keeps what came."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.came.append((self.path, body))
        way = self.path.split("/")[1]
        getattr(self, way)(sum(path == self.path for path, _ in self.server.came))

    def fine(self, _):
        self.send_response(204)
        self.end_headers()

    def second(self, number):
        self.send_response(500 if number == 1 else 200)
        self.end_headers()

    def broken(self, _):
        self.send_response(503)
        self.end_headers()

    def file(self, _):
        self.send_response(302)
        self.send_header("Location", "file:///etc/passwd")
        self.end_headers()

    def elsewhere(self, _):
        self.send_response(307)
        self.send_header("Location", f"http://127.0.0.1:{self.server.server_port}/fine")
        self.end_headers()

    def closes(self, _):
        self.wfile.write(b"HTTP/1.1 2")
        self.connection.close()

    def nonsense(self, _):
        self.wfile.write(b"\x00" * 100_000)

    def drips(self, _):
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
        while not self.server.is_over.wait(0.02):
            self.wfile.write(b"x")
            self.wfile.flush()

    def huge(self, _):
        self.send_response(200)
        self.send_header("Content-Length", "99999999999")
        self.end_headers()

    def log_message(self, *words):
        pass


@pytest.fixture(scope="module")
def server():
    found = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    found.came, found.is_over = [], threading.Event()
    found.handle_error = lambda *words: None  # of those who went away
    thread = threading.Thread(target=found.serve_forever, args=(0.01,))
    thread.start()
    yield found
    found.is_over.set()
    found.shutdown()
    thread.join()
    found.server_close()


def send(server, way, **fields):
    server.came.clear()
    pauses = []
    address = f"http://127.0.0.1:{server.server_port}/{way}/{SECRET}"
    problems = Hooks(webhook=address).send(TOLD, pause=pauses.append, **fields)
    return problems, pauses


@pytest.mark.parametrize("way", ["fine", "huge"])
def test_a_server_that_takes_it_is_asked_once(server, way):
    assert send(server, way) == ([], [])
    [(path, body)] = server.came
    assert path.endswith(SECRET) and json.loads(body) == TOLD


def test_a_server_that_fails_is_asked_again(server):
    assert send(server, "second") == ([], [PAUSES_SECONDS[0]])


@pytest.mark.parametrize(
    ("way", "why"),
    [
        ("broken", "HTTP 503"),
        ("file", "HTTP 302, a redirect, which is not followed"),
        ("elsewhere", "HTTP 307, a redirect, which is not followed"),
        ("closes", "BadStatusLine"),
        ("nonsense", "LineTooLong|BadStatusLine"),
        ("drips", "not done within"),
    ],
)
def test_three_tries_and_the_address_stays_secret(server, way, why, caplog):
    with caplog.at_level(logging.DEBUG):
        problems, pauses = send(server, way, timeout_seconds=0.3)
    assert len(server.came) == 3 and pauses == list(PAUSES_SECONDS)
    assert not any(path.startswith("/fine") for path, _ in server.came)
    [problem] = problems
    assert re.search(why, problem)
    assert problem.startswith("webhook: not told in 3 tries: ")
    assert problem in caplog.text and SECRET not in caplog.text + problem


def test_nobody_listens(server):
    hooks = Hooks(webhook=f"http://127.0.0.1:1/{SECRET}")
    [problem] = hooks.send(TOLD, pause=lambda _: None)
    assert problem.endswith("ConnectionRefusedError")


def run(code, *words, **fields):
    line = shlex.join([sys.executable, "-c", code, *words])
    return Hooks(command=line).send(TOLD, pause=lambda _: None, **fields)


def test_a_command_reads_it_and_no_shell_sees_it(tmp_path):
    there = tmp_path / "a; touch b"
    code = "import sys; open(sys.argv[1], 'a').write(sys.stdin.read())"
    assert run(code, str(there)) == []
    assert json.loads(there.read_text()) == TOLD
    assert [path.name for path in tmp_path.iterdir()] == ["a; touch b"]


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("raise SystemExit(3)", "exit code 3"),
        ("import time; time.sleep(60)", "not done within 0.3 s"),
    ],
)
def test_a_command_that_fails_is_told(code, why):
    timeout = {"timeout_seconds": 0.3} if "sleep" in code else {}
    assert run(code, **timeout) == [f"command: not told in 3 tries: {why}"]


def test_a_command_that_is_not_there():
    found = Hooks(command="no-such-program-4711 x").send(TOLD, pause=lambda _: None)
    assert found == ["command: not told in 3 tries: No such file or directory"]


def test_nobody_is_told_nothing():
    assert Hooks().send(TOLD) == []


@pytest.mark.parametrize(
    "fields",
    [
        {"webhook": "file:///etc/passwd"},
        {"webhook": "ftp://x/y"},
        {"webhook": SECRET},
        {"webhook": "http://"},
        {"webhook": "http://[1"},
        {"command": ""},
        {"command": "a 'b"},
    ],
)
def test_what_is_none_is_refused_before_any_work(fields):
    with pytest.raises(ConfigError) as caught:
        Hooks(**fields)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (None, "done"),
        (ValueError("no"), "failed"),
        (KeyboardInterrupt(), "interrupted"),
    ],
)
def test_the_end_of_a_work_is_told_however_it_ends(error, state, tmp_path):
    there = tmp_path / "told"
    code = "import sys; open(sys.argv[1], 'w').write(sys.stdin.read())"
    line = shlex.join([sys.executable, "-c", code, str(there)])
    caught = pytest.raises(type(error)) if error else contextlib.nullcontext()
    with caught, Hooks(command=line).telling("sweep") as told:
        told["cells"] = 3
        if error:
            raise error
    found = json.loads(there.read_text())
    assert found.pop("error", "") == ("no" if state == "failed" else "")
    assert found == {"event": "sweep", "state": state, "cells": 3}
