"""TensorFlow, imported without its start-up chatter, on the device that a run asks for.

In: which device there is, and whether it works. Out: threads, seeds and memory of it
(`networks.runtime`). Imports TensorFlow inside functions alone.
"""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import LazyLoader
from pathlib import Path
from typing import Any

from settings.machine_fields import MachineFields

logger = logging.getLogger(__name__)

# A device that cannot compute says so in this step, in a process of its own.
_TRIAL = """
import tensorflow as tf
layer = tf.keras.layers.LSTM(4)
with tf.GradientTape() as tape:
    loss = tf.reduce_sum(layer(tf.ones([8, 4, 2])))
tape.gradient(loss, layer.trainable_weights)[0].numpy()
"""

# What Keras imports at its own import, and no run needs: a fifth of all the time.
_LATER = ("keras.visualization", "keras.src.visualization", "keras.wrappers", "IPython")


def import_tensorflow(config: MachineFields | None = None) -> None:
    """Imports TensorFlow for a device, its start-up chatter where that is asked for."""
    if "tensorflow" in sys.modules:
        return
    config = config or MachineFields()
    _choose_device(config.device)
    if not config.verbose_logging:
        import_quietly()


def import_quietly() -> None:
    """Imports TensorFlow without its chatter, and keeps it from what comes later."""
    if "tensorflow" in sys.modules:
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with silent_stderr(), delayed_imports(_LATER):
        import tensorflow as tf

        tf.config.list_physical_devices()  # looks for CUDA, and says so


def _choose_device(device: str) -> None:
    """Lets TensorFlow, which must not have started, see the GPU or not.

    `auto` takes a GPU on which a small step works, tried in a process of its own.
    """
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    has_gpu = any(Path("/dev").glob("nvidia[0-9]*")) and not hidden
    if device == "auto" and has_gpu:
        trial = [sys.executable, "-c", _TRIAL]
        found = subprocess.run(  # noqa: S603 - our own words
            trial, capture_output=True, text=True, check=False
        )
        if found.returncode:
            why = (found.stderr.strip().splitlines() or ["no word"])[-1]
            logger.warning("the GPU does not work, the CPU is taken: %.300s", why)
            device = "cpu"
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"


@contextlib.contextmanager
def delayed_imports(names: Sequence[str]) -> Iterator[None]:
    """Lets modules that the block imports load when first asked for anything of them.

    Args:
        names: The modules; one that is not there is missing, as ever.
    """

    class Finder(MetaPathFinder):
        def find_spec(
            self, fullname: str, path: Sequence[str] | None, target: Any = None
        ) -> ModuleSpec | None:
            spec = PathFinder.find_spec(fullname, path) if fullname in names else None
            if spec is not None and spec.loader is not None:
                spec.loader = LazyLoader(spec.loader)
            return spec

    finder = Finder()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


@contextlib.contextmanager
def silent_stderr() -> Iterator[None]:
    """Holds back what native libraries write to stderr; shows it if the block fails."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as buffer:
        os.dup2(buffer.fileno(), 2)
        try:
            yield
        except BaseException:
            buffer.seek(0)
            os.write(kept, buffer.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)
