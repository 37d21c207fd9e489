"""Feature functions of the user: a Python file that registers them is run.

In: its path. Out: what the functions are asked (`lookahead`), the audit (`run`).
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn
from unittest import mock

from dataset import features
from utils import ConfigError, MissingInputError


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


@contextlib.contextmanager
def refuse_exit(path: str | None) -> Iterator[None]:
    """Makes an error of an exit by the user's code, which would look like a pass.

    Args:
        path: The file that was run.

    Raises:
        ConfigError: If code within ends the interpreter.
    """

    def refuse(status: int = 0) -> NoReturn:
        raise SystemExit(status)

    try:
        with mock.patch.object(os, "_exit", refuse):
            yield
    except SystemExit as error:
        raise ConfigError(
            f"{path}: expected feature functions. Received: code that ends the "
            f"interpreter (exit {error.code}); nothing was audited."
        ) from error
