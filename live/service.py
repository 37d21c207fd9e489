"""A small HTTP service: candles are posted, signals are answered.

In: HTTP, its bounds and its errors, who may ask, a stop that leaves no request without
an answer. Out: the answers themselves (`signals.stream`), where a token and candles
come from (`__main__`).

    POST /candles   one candle or a list of them -> {"rows": [a row of signals each]}
    GET /signal     the newest row
    GET /health     which model it is, and how far it has come
"""

from __future__ import annotations

import asyncio
import errno
import hmac
import ipaddress
import json
import logging
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from http.client import responses
from itertools import starmap
from typing import Any, Protocol

import pandas as pd
from tornado import httpserver, web

import utils
from candles.columns import EXTRAS
from files.strict import parse_json
from signals.writer import plain

logger = logging.getLogger(__name__)

_DRAINED = 8
"""Times the bound that is read of a body that is too large: who still sends it would
meet a closed connection before the answer."""
BODY_SECONDS = 20.0
IDLE_SECONDS = 75.0
STOP_SECONDS = 10.0
_LARGEST = 2**63
_DIGITS = 18
"""Of a stated length that are read; one of more is too large anyway."""


class Stream(Protocol):
    """What answers candles; see `signals.stream.SignalStream`."""

    @property
    def newest(self) -> pd.Timestamp | None:
        """Open of the newest bar."""

    def update(self, candle: Mapping[str, Any]) -> pd.Series | None:
        """Takes the next candle; returns its row, None for the newest again."""


class Signals:
    """One stream of candles, whoever posts them.

    One thread computes, so that answers to others do not wait for it.

    Args:
        stream: What answers.
        facts: What `GET /health` says of the model.
    """

    def __init__(self, stream: Stream, facts: Mapping[str, Any]) -> None:
        self._stream = stream
        self._thread = ThreadPoolExecutor(max_workers=1)
        self.facts = facts
        self.row: dict[str, Any] | None = None

    @property
    def newest(self) -> pd.Timestamp | None:
        """Open of the newest bar that was taken; None before the first."""
        return self._stream.newest

    async def take(self, candles: Sequence[Mapping[str, Any]]) -> list[Any]:
        """Returns a row for each candle; None for one that was there already.

        Raises:
            Refused: At the first candle that is not taken, with the rows before it.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._take, candles)

    def _take(self, candles: Sequence[Mapping[str, Any]]) -> list[Any]:
        rows: list[Any] = []
        for number, candle in enumerate(candles):
            try:
                found = self._stream.update(candle)
            except utils.DataError as error:
                raise Refused(422, f"candle {number}: {error}", rows=rows) from error
            row = None if found is None else to_row(found)
            self.row = row or self.row
            rows.append(row)
        return rows


class Refused(web.HTTPError):
    """A request that is answered by an error.

    Args:
        status: HTTP status.
        message: What was expected and received.
        header: Name and value of one that belongs to the status.
        content: What else the answer has.
    """

    def __init__(
        self,
        status: int,
        message: str,
        header: tuple[str, str] | None = None,
        **content: Any,
    ) -> None:
        super().__init__(status)
        self.header, self.content = header, {"error": message, **content}


def to_row(series: pd.Series) -> dict[str, Any]:
    """Returns a row for JSON: ISO 8601 times in UTC, null for NaN."""
    return {str(name): plain(value) for name, value in series.items()}


def read_candles(body: bytes) -> list[dict[str, Any]]:
    """Returns the candles in a body: an object, a list, or a list under `candles`.

    Raises:
        Refused: 400 for a body that is no JSON, 422 for one of something else.
    """
    try:
        value = parse_json(body, "the body")
    except utils.DataError as error:
        raise Refused(400, str(error)) from error
    if isinstance(value, dict) and "candles" in value:
        value = value["candles"]
    candles = [value] if isinstance(value, dict) else value
    if not isinstance(candles, list) or not candles:
        raise Refused(
            422,
            "expected one candle, or a list of them: objects with timestamp, open, "
            f"high, low, close, volume. Received: {value!r:.100}",
        )
    for number, candle in enumerate(candles):
        if not (isinstance(candle, dict) and all(starmap(_is_cell, candle.items()))):
            raise Refused(
                422,
                f"candle {number}: expected an object of numbers and a time. "
                f"Received: {candle!r:.200}",
            )
    return candles


def _is_cell(name: str, value: Any) -> bool:
    if value is None:
        return "@" in name or name in EXTRAS  # nothing of that time
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, str) or (is_number and abs(value) < _LARGEST)


# HTTP


@web.stream_request_body
class _Handler(web.RequestHandler):
    """Bounds, who may ask, and errors as JSON; a class below it has the answer.

    A refusal waits until the body was read: who is still sending reads no answer.
    """

    methods: tuple[str, ...] = ("GET",)

    def initialize(
        self, signals: Signals, token: str | None, max_body_bytes: int
    ) -> None:
        self.signals, self._token = signals, token
        self._most, self._received = max_body_bytes, 0
        self.body = bytearray()
        self.refusal: Refused | None = None

    async def answer(self) -> Any:
        """Returns what is written as JSON; raises `Refused`."""

    async def respond(self, *_: str, **__: str) -> None:
        """Answers a request whose body was read."""
        if self.refusal is not None:
            raise self.refusal
        self._write(await self.answer())

    get = head = post = delete = patch = put = options = respond

    def set_default_headers(self) -> None:
        self.clear_header("Server")
        self.set_header("Content-Type", "application/json")
        self.set_header("Cache-Control", "no-store")

    def prepare(self) -> None:
        self.application.settings["requests"].add(self)
        stated = self.request.headers.get("Content-Length", "0")
        size = int(stated[:_DIGITS]) if stated.isdecimal() else 0
        self.refusal = self._find_refusal(size)
        is_waiting = self.request.headers.get("Expect") == "100-continue"
        if self.refusal and (is_waiting or size > _DRAINED * self._most):
            # It closes the connection; what would be read is no error of HTTP.
            self.request.connection.set_max_body_size(size)  # type: ignore[union-attr]
            raise self.refusal

    def _find_refusal(self, size: int) -> Refused | None:
        request, token = self.request, self._token
        if token is None and not is_loopback(request.host_name):
            # A page of another site may be named as this machine.
            text = f"expected a host of this machine. Received: {request.host_name}"
            return Refused(403, text)
        given = request.headers.get("Authorization", "").encode()
        if token and not hmac.compare_digest(given, f"Bearer {token}".encode()):
            text = "expected the header Authorization: Bearer TOKEN"
            return Refused(401, text, ("WWW-Authenticate", "Bearer"))
        if not self.methods:
            text = f"expected /candles, /signal or /health. Received: {request.path}"
            return Refused(404, text)
        if request.method not in self.methods:
            [method] = self.methods
            text = f"{request.path}: expected {method}. Received: {request.method}"
            return Refused(405, text, ("Allow", method))
        return self._too_large() if size > self._most else None

    def _too_large(self) -> Refused:
        return Refused(413, f"expected a body of at most {self._most} bytes")

    def data_received(self, chunk: bytes) -> None:
        self._received += len(chunk)
        if self._received > self._most and self.refusal is None:
            self.refusal = self._too_large()
            self.body.clear()
        if self.refusal is None:
            self.body += chunk

    def write_error(self, status_code: int, **options: Any) -> None:
        error = options.get("exc_info", (None, None))[1]
        if not isinstance(error, Refused):
            error = Refused(status_code, responses.get(status_code, "error").lower())
        if error.header is not None:
            self.set_header(*error.header)
        self._write(error.content)

    def _write(self, value: Any) -> None:
        self.finish(json.dumps(value, allow_nan=False) + "\n")

    def on_finish(self) -> None:
        self.application.settings["requests"].discard(self)

    on_connection_close = on_finish


class _Candles(_Handler):
    methods = ("POST",)

    async def answer(self) -> Any:
        return {"rows": await self.signals.take(read_candles(bytes(self.body)))}


class _Signal(_Handler):
    async def answer(self) -> Any:
        if self.signals.row is None:
            raise Refused(404, "expected a candle before. Post it to /candles")
        return self.signals.row


class _Health(_Handler):
    async def answer(self) -> Any:
        newest = self.signals.newest
        moment = None if newest is None else plain(newest)
        return {"status": "ok", **self.signals.facts, "newest": moment}


class _Nothing(_Handler):
    methods = ()


def is_loopback(host: str) -> bool:
    """Whether a name or an address is this machine's own, to nobody else."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def make_application(
    signals: Signals, *, token: str | None, max_body_bytes: int
) -> web.Application:
    """Returns the service's paths.

    Args:
        signals: What answers.
        token: What every request must show; None where only this machine is heard.
        max_body_bytes: Largest body.
    """
    own = {"signals": signals, "token": token, "max_body_bytes": max_body_bytes}
    return web.Application(
        [
            ("/candles", _Candles, own),
            ("/signal", _Signal, own),
            ("/health", _Health, own),
        ],
        default_handler_class=_Nothing,
        default_handler_args=own,
        cross_origin_protection=True,
        log_function=_log,
        max_body_bytes=max_body_bytes,
        requests=set(),
    )


def _log(handler: web.RequestHandler) -> None:
    request, status = handler.request, handler.get_status()
    seconds = request.request_time()
    logger.debug("%s %s: %d in %.4f s", request.method, request.path, status, seconds)


async def serve(
    application: web.Application,
    *,
    host: str,
    port: int,
    stop: asyncio.Event,
    is_ready: Callable[[int], None],
    body_seconds: float = BODY_SECONDS,
) -> None:
    """Answers until it is told to stop, then those requests that are there.

    Args:
        application: From `make_application`.
        host: Address that is listened on.
        port: Port; 0 takes a free one.
        stop: Set from outside.
        is_ready: Is told the port, once it listens.
        body_seconds: Most that a client may take to send a body.
    """
    listener = _listen(host, port)
    server = httpserver.HTTPServer(
        application,
        max_body_size=_DRAINED * application.settings["max_body_bytes"],
        body_timeout=body_seconds,
        idle_connection_timeout=IDLE_SECONDS,
    )
    server.add_socket(listener)
    is_ready(listener.getsockname()[1])
    await stop.wait()
    server.stop()
    loop, requests = asyncio.get_running_loop(), application.settings["requests"]
    end = loop.time() + STOP_SECONDS
    while requests and loop.time() < end:
        await asyncio.sleep(0.01)
    await server.close_all_connections()


def _listen(host: str, port: int) -> socket.socket:
    """Returns a socket that listens; refuses an address that cannot be had."""
    text = f"host, port: expected an address to listen on. Received: {host} {port}"
    if not 0 <= port < 2**16:
        raise utils.ConfigError(text)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family)
    except OSError as error:
        is_taken = error.errno == errno.EADDRINUSE
        kind = utils.InUseError if is_taken else utils.ConfigError
        raise kind(f"{text}: {error.strerror or error}") from error
    listener.setblocking(False)
    return listener


def run(application: web.Application, *, host: str, port: int) -> None:
    """Serves until SIGTERM or SIGINT; a second signal ends the process."""

    async def until_signal() -> None:
        loop, stop = asyncio.get_running_loop(), asyncio.Event()

        def told(number: int) -> None:
            stop.set()
            loop.remove_signal_handler(number)

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, told, number)
        shown = f"[{host}]" if ":" in host else host
        await serve(
            application,
            host=host,
            port=port,
            stop=stop,
            is_ready=lambda found: logger.info("http://%s:%d", shown, found),
        )

    asyncio.run(until_signal())
