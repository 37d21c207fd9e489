"""One JSON about what happened -> a web address, a command: `Hooks.send`.

In: tries, deadlines, what may go wrong there. Out: what is told, and when. A hook that
fails is told in the log, and ends nothing: the work that it speaks of is done.

An address often holds a token, so it stands in no message. No redirect is followed: a
body would go where nobody sent it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shlex
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlsplit

from files.strict import to_jsonable
from files.time_limit import TimeLimit, TimeLimitError
from utils import ConfigError, Interrupted

logger = logging.getLogger(__name__)

TIMEOUT_SECONDS = 10.0
PAUSES_SECONDS = (1.0, 4.0)
"""Between tries, of which there is one more."""
_MOST_CHARACTERS = 500


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any) -> None:
        """Returns no request: whoever redirects has refused."""
        return


@dataclass(frozen=True, kw_only=True)
class Hooks:
    """Whom to tell.

    Args:
        webhook: An http or https address that is sent a POST; None: nobody.
        command: A command line, split as a shell does but run without one, that reads
            the JSON from its standard input; None: none.

    Raises:
        ConfigError: If the address is none, or the command line is broken or empty.
    """

    webhook: str | None = None
    command: str | None = None

    def __post_init__(self) -> None:
        """Checks both before any work."""
        if self.webhook is not None:
            try:
                parts = urlsplit(self.webhook)
                is_web = parts.scheme in ("http", "https")
                is_address = is_web and bool(parts.hostname) and parts.port != 0
            except ValueError:
                is_address = False
            if not is_address:
                raise ConfigError(
                    "webhook: expected an address that begins with https:// or "
                    "http://. Received: another text, not shown, as it may hold a token"
                )
        if self.command is not None and not _words(self.command):
            raise ConfigError(
                f"command: expected a command line. Received: {self.command!r:.100}"
            )

    @staticmethod
    def add_options(parser: Any) -> None:
        """Adds `--webhook` and `--command` to a command line."""
        parser.add_argument(
            "--webhook",
            metavar="URL",
            help="address that is sent one JSON at the end: a POST, three tries",
        )
        parser.add_argument(
            "--command",
            metavar="CMD",
            help="command that reads the same JSON from its standard input",
        )

    @classmethod
    def of(cls, parsed: Any) -> Self:
        """Takes what a command line says; ConfigError as in `Hooks`."""
        return cls(webhook=parsed.webhook, command=parsed.command)

    def send(
        self,
        told: Mapping[str, Any],
        *,
        pause: Callable[[float], object] = time.sleep,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> list[str]:
        """Tells everyone; returns why somebody was not reached, empty if all were.

        Args:
            told: What becomes JSON.
            pause: Waits so many seconds between tries.
            timeout_seconds: Most that one try takes, whatever the other side does.
        """
        body = json.dumps(to_jsonable(told), allow_nan=False).encode()
        ways: dict[str, Callable[[bytes, float], str]] = {}
        if self.webhook is not None:
            ways["webhook"] = self._post
        if self.command is not None:
            ways["command"] = self._run
        problems = []
        for name, way in ways.items():
            problem = way(body, timeout_seconds)
            for seconds in PAUSES_SECONDS:
                if not problem:
                    break
                pause(seconds)
                problem = way(body, timeout_seconds)
            if problem:
                tries = len(PAUSES_SECONDS) + 1
                problems.append(f"{name}: not told in {tries} tries: {problem}")
                logger.warning("%s", problems[-1])
        return problems

    @contextlib.contextmanager
    def telling(self, event: str) -> Iterator[dict[str, Any]]:
        """Tells everyone at the end of a block, however it ends.

        Yields what is told, to be filled: `event`, `state` (`done`, `failed` or
        `interrupted`), `error`.
        """
        told: dict[str, Any] = {"event": event, "state": "done"}
        try:
            yield told
        except BaseException as error:
            stopped = isinstance(error, KeyboardInterrupt | Interrupted)
            told |= {"state": "interrupted" if stopped else "failed"}
            told["error"] = str(error)[:_MOST_CHARACTERS]
            raise
        finally:
            self.send(told)

    def _post(self, body: bytes, timeout_seconds: float) -> str:
        """Returns why the address did not take it, or nothing."""
        # A timeout of sockets is one of each read: drops of an answer prolong it.
        try:
            return TimeLimit(timeout_seconds).call(
                lambda: _answer(str(self.webhook), body, timeout_seconds)
            )
        except TimeLimitError as error:
            return str(error)

    def _run(self, body: bytes, timeout_seconds: float) -> str:
        """Returns why the command did not take it, or nothing."""
        try:
            process = subprocess.Popen(  # noqa: S603 - the user's own command
                _words(str(self.command)),
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:
            return f"{error.strerror or error}"
        try:
            process.communicate(body, timeout=timeout_seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return f"not done within {timeout_seconds:g} s"
        return f"exit code {process.returncode}" if process.returncode else ""


def _words(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError:
        return []


def _answer(address: str, body: bytes, timeout_seconds: float) -> str:
    """Returns why a server did not take a body, or nothing. Its answer is not read."""
    request = urllib.request.Request(  # noqa: S310 - http or https, checked
        address, body, {"Content-Type": "application/json"}, method="POST"
    )
    opener = urllib.request.build_opener(_NoRedirect)
    try:
        with opener.open(request, timeout=timeout_seconds):
            return ""
    except urllib.error.HTTPError as error:
        error.close()
        is_redirect = 300 <= error.code < 400
        more = ", a redirect, which is not followed" if is_redirect else ""
        return f"HTTP {error.code}{more}"
    except Exception as error:  # of a hostile server; its text may hold the address
        return type(getattr(error, "reason", error)).__name__
