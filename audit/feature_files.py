"""Feature functions of the user: a Python file that registers them is run.

In: its path. Out: what the functions are asked (`lookahead`), the audit (`run`).
"""

from __future__ import annotations

import contextlib
import importlib.util
import multiprocessing
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn, TypeVar, cast

import utils
from dataset import features
from utils import ConfigError, MissingInputError

Result = TypeVar("Result")

_DONE = 113  # exit status of a process that came to its end


def load_feature_file(path: str) -> None:
    """Runs a Python file of the user, which registers feature sets.

    Raises:
        MissingInputError: If it is not there.
        ConfigError: If it fails, or registers none.
    """
    file = Path(path)
    spec = importlib.util.spec_from_file_location(file.stem, file)
    if not file.is_file() or spec is None or spec.loader is None:
        raise MissingInputError(f"expected a Python file (.py). Received: {path}")
    before = features.find_feature_sets(features.feature_set_names())
    sys.path.insert(0, str(file.resolve().parent))
    try:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
    except Exception as error:
        raise ConfigError(
            f"{path}: expected Python that registers feature sets. "
            f"Received: {type(error).__name__}: {error}"
        ) from error
    finally:
        sys.path.pop(0)
    if features.find_feature_sets(features.feature_set_names()) == before:
        raise ConfigError(
            f"{path}: expected a feature set, registered with @feature_set(...). "
            "Received: none."
        )


def run_with_features(path: str, work: Callable[[], Result]) -> Result:
    """Returns what `work` returns after a file of the user was run.

    Both run in a process of their own: code that ends it, now or when it exits, would
    look like a pass.

    Args:
        path: As for `load_feature_file`.
        work: What is done then. It and its result are pickled.

    Raises:
        ConfigError: If the process ends in another way than its own.
        Exception: What the file or `work` raises.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_answer, args=(sender, path, work))
    child.start()
    sender.close()
    answers = []
    with contextlib.suppress(EOFError):
        answers.append(receiver.recv())
    child.join()
    if not answers or child.exitcode != _DONE:
        raise ConfigError(
            f"{path}: expected feature functions. Received: code that ends the "
            f"interpreter (exit {child.exitcode}); nothing was audited."
        )
    result, error = answers[0]
    if error is not None:
        raise error
    return cast(Result, result)


def _answer(sender: Connection, path: str, work: Callable[[], Any]) -> NoReturn:
    """Sends the result of `work`, or its error, and exits as nothing else does."""
    utils.configure_logging()
    result, error = None, None
    try:
        load_feature_file(path)
        result = work()
    except Exception as raised:
        error = raised
    sender.send((result, error))
    sender.close()
    sys.exit(_DONE)
