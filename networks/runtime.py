"""What a training step runs on: seeds, threads, devices, and the record of them.

In: process-wide settings of TensorFlow. Out: the network (`networks.branched`), cores
and memory of the machine (`utils`).
"""

from __future__ import annotations

import contextlib
import logging
import os
import platform
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import utils
from networks import allocator
from settings.machine_fields import MachineFields

logger = logging.getLogger(__name__)


class OutOfMemoryError(utils.UserError):
    """A training step that did not fit into memory."""


_SHORTAGES = (
    *("out of memory", "out_of_memory", "resource_exhausted", "alloc_failed"),
    "could not create a memory",
)


def is_shortage(error: BaseException) -> bool:
    """Whether an error says that memory, of the machine or of a device, is short."""
    if isinstance(error, tf.errors.OpError):
        text = str(error).lower()
        is_such = any(words in text for words in _SHORTAGES)
        return is_such or isinstance(error, tf.errors.ResourceExhaustedError)
    return isinstance(error, MemoryError)


def configure_runtime(config: MachineFields) -> dict[str, Any]:
    """Sets seeds, threads, memory growth, graph passes; returns what is in force.

    Small matrix products do not scale over threads, independent branches of the graph
    do: kernels get one thread each, and as many of them run side by side as there are
    threads. TensorFlow takes thread counts only before it starts; afterwards (in a
    notebook) what it has stays, and the note says so.
    """
    threads = config.num_threads or utils.available_cores()
    note = None
    try:
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    except RuntimeError:
        intra = tf.config.threading.get_intra_op_parallelism_threads()
        threads = tf.config.threading.get_inter_op_parallelism_threads() or threads
        if intra != 1:
            note = "TensorFlow had started before: its own thread settings stay"
            logger.warning("%s; restart for full speed", note)
    gpus = tf.config.list_physical_devices("GPU")
    if config.device == "gpu" and not gpus:
        raise utils.ConfigError(
            "device: expected a GPU that TensorFlow sees. Received: 'gpu' without one. "
            "Install its driver and tensorflow[and-cuda], or choose cpu or auto."
        )
    if config.device == "cpu" and gpus:
        raise utils.ConfigError(
            "device: expected to be chosen before TensorFlow starts. Received: 'cpu' "
            "after it has taken a GPU. Start Python anew."
        )
    if config.mixed_precision and not gpus:
        logger.info("mixed_precision is ignored: there is no GPU")
    for gpu in gpus:
        try:
            tf.config.experimental.set_memory_growth(gpu, True)
        except RuntimeError:
            logger.warning("%s is in use already: its memory does not grow", gpu.name)
    if not gpus:
        # On a CPU no step is faster by them, and a sixth of a short run is their time.
        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
        _prefer_wide_vectors()
    keras.utils.set_random_seed(config.seed)
    if config.deterministic_ops:
        tf.config.experimental.enable_op_determinism()
    return {
        "device": "GPU" if gpus else "CPU",
        "num_gpus": len(gpus),
        "mixed_precision": config.mixed_precision and bool(gpus),
        "num_threads": threads,
        "deterministic_ops": config.deterministic_ops,
        "allocator": allocator.keep_freed_memory(),
        "note": note,
    }


def _prefer_wide_vectors() -> None:
    """Lets XLA, if it has not started, use all of AVX-512: the bits are the same.

    A user's own flags stay. One that TensorFlow does not know would end the process, so
    it is set for the release alone in which it is known to be.
    """
    if tf.__version__.startswith("2.21."):
        os.environ.setdefault("XLA_FLAGS", "--xla_cpu_prefer_vector_width=512")


def environment_key(runtime: Mapping[str, Any], num_branches: int) -> dict[str, Any]:
    """Returns everything beside configuration and data that decides a run's bits."""
    return {
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
        "machine": platform.machine(),
        "device": runtime["device"],
        "num_threads": runtime["num_threads"],
        "intra_op_threads": tf.config.threading.get_intra_op_parallelism_threads(),
        "num_branches": num_branches,
        "onednn": os.environ.get("TF_ENABLE_ONEDNN_OPTS", "default"),
        "deterministic_ops": runtime["deterministic_ops"],
        "mixed_precision": runtime["mixed_precision"],
    }


def training_scope() -> contextlib.AbstractContextManager[Any]:
    """Returns the scope to build a model in: mirrored where there are several GPUs."""
    gpus = tf.config.list_logical_devices("GPU")
    if len(gpus) < 2:
        return contextlib.nullcontext()
    return tf.distribute.MirroredStrategy().scope()
