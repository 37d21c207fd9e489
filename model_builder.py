"""Networks, compiled: `DualWindowLSTMBuilder`; seeds, threads, branches.

In: everything that decides how a step is computed. Out: layers (`networks.families`),
updates (`networks.optimizers`), what watches (`networks.callbacks`), feeding
(`sequence_generator`), running (`trainer`).
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import utils
from config import Config
from networks.callbacks import MemoryMonitor, StopOnNonFinite, stopping_callbacks
from networks.families import build_network, has_batch_norm
from networks.fused_lstm import FusedLSTM
from networks.losses import loss_from_config, metrics_from_config
from networks.optimizers import build_optimizer, rate_callback
from settings.sizes import estimate_memory

logger = logging.getLogger(__name__)


class OutOfMemoryError(utils.UserError):
    """A training step did not fit into memory."""


def configure_runtime(config: Config) -> dict[str, Any]:
    """Sets seeds, CPU threads and GPU memory growth; returns what is in force.

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
    if config.mixed_precision and not gpus:
        logger.info("mixed_precision is ignored: there is no GPU")
    for gpu in gpus:
        try:
            tf.config.experimental.set_memory_growth(gpu, True)
        except RuntimeError:
            logger.warning("%s is in use already: its memory does not grow", gpu.name)
    keras.utils.set_random_seed(config.seed)
    if config.deterministic_ops:
        tf.config.experimental.enable_op_determinism()
    return {
        "device": "GPU" if gpus else "CPU",
        "num_gpus": len(gpus),
        "mixed_precision": config.mixed_precision and bool(gpus),
        "num_threads": threads,
        "deterministic_ops": config.deterministic_ops,
        "note": note,
    }


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


@keras.saving.register_keras_serializable(package="trainer")
class BranchedTraining(keras.Model):
    """Trains `network`: one graph branch per core, at the mix that training sees.

    What is saved is `network` alone; it loads without this class. Every branch is the
    same layers on a slice of the batch, so loss and gradient are the whole batch's. On
    a CPU a stack of LSTM layers is computed in one loop (`networks.fused_lstm`).

    Args:
        network: Model from windows to class probabilities.
        num_branches: Slices of a batch. 1 for networks with batch normalisation, which
            would see one slice only.
        odds: (num_classes,) kept / natural share of each class (`TrainingData`). The
            network learns natural probabilities; only training sees the odds.
    """

    def __init__(
        self,
        network: keras.Model,
        *,
        num_branches: int = 1,
        odds: Sequence[float] | np.ndarray | None = None,
    ) -> None:
        super().__init__(name="branched_training")
        self.network = network
        self.num_branches = num_branches
        self.fused = FusedLSTM.of(network)
        self.odds = None if odds is None else tuple(float(value) for value in odds)

    def call(self, x: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Returns (batch, num_classes) probabilities for (batch, bars, features)."""
        rows, n = tf.shape(x)[0], self.num_branches
        edges = [rows * i // n for i in range(n + 1)]
        slices = [x[a:b] for a, b in zip(edges, edges[1:], strict=False)]
        network = self.network if self.fused is None else self.fused
        parts = [network(each, training=training) for each in slices]
        y = parts[0] if n == 1 else tf.concat(parts, axis=0)
        if training and self.odds is not None:
            y = y * tf.constant(self.odds, y.dtype)
            y = y / tf.reduce_sum(y, axis=-1, keepdims=True)
        return y

    def save(self, filepath: Any, overwrite: bool = True, **kwargs: Any) -> None:
        """Saves the network, whole or not at all: Keras alone writes in place."""
        with utils.atomic_path(filepath) as temporary:
            self.network.save(temporary, overwrite=overwrite, **kwargs)

    def save_weights(self, filepath: Any, overwrite: bool = True) -> None:
        """Saves the network's weights."""
        with utils.atomic_path(filepath) as temporary:
            self.network.save_weights(temporary, overwrite=overwrite)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {
            "network": keras.saving.serialize_keras_object(self.network),
            "num_branches": self.num_branches,
            "odds": self.odds,
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any], **_: Any) -> BranchedTraining:
        """Rebuilds from `get_config`."""
        values = dict(config)
        network = keras.saving.deserialize_keras_object(values.pop("network"))
        return cls(network, **values)


class NetworkBuilder:
    """Builds the network of a configuration, and the callbacks of its run.

    The past window goes through the family's layers to one probability per class; the
    future window is in the labels alone.

    Args:
        config: Family, sizes, rates, patience.
        num_features: Columns of a window.

    Example:
        >>> builder = NetworkBuilder(Config(), num_features=8)
        >>> builder.build_model().count_params()
        133603
    """

    def __init__(self, config: Config, num_features: int) -> None:
        self.config = config
        self.num_features = num_features

    def estimate_model_memory(self, num_rows: int = 0) -> dict[str, int]:
        """Returns bytes of parameters, activations, runtime, feature array, total."""
        return estimate_memory(self.config, self.num_features, num_rows)

    def build_network(self) -> keras.Model:
        """Returns the plain network: (batch, bars, features) -> (batch, classes)."""
        return build_network(self.config, self.num_features, dtype=self.dtype_policy)

    def build_model(
        self, odds: Sequence[float] | np.ndarray | None = None
    ) -> BranchedTraining:
        """Returns the network, wrapped for training and compiled.

        Args:
            odds: (3,) kept / natural share of each class, or None.
        """
        with training_scope():
            network = self.build_network()
            model = BranchedTraining(
                network, num_branches=self.num_branches(network), odds=odds
            )
            loss = loss_from_config(self.config)
            model.compile(
                optimizer=build_optimizer(
                    self.config, scales_loss="float16" in self.dtype_policy
                ),
                loss=loss,
                metrics=metrics_from_config(self.config, loss),
                jit_compile=False,  # XLA is slower here, except for one live window
            )
            model.build((None, self.config.sequence_length, self.num_features))
            # Variables that appear in the first step would have it traced twice.
            model.optimizer.build(model.trainable_variables)
        return model

    @property
    def dtype_policy(self) -> str:
        """Precision of the layers; weights and probabilities stay float32."""
        is_mixed = self.config.mixed_precision and bool(
            tf.config.list_physical_devices("GPU")
        )
        return "mixed_float16" if is_mixed else "float32"

    def num_branches(self, network: keras.Model) -> int:
        """Returns slices of a batch: one per CPU thread, where they make it faster.

        One alone on a GPU (cuDNN), and for batch normalisation, which learns from the
        whole batch.
        """
        if tf.config.list_physical_devices("GPU") or has_batch_norm(network):
            return 1
        threads = self.config.num_threads or utils.available_cores()
        if FusedLSTM.of(network) is not None:
            # The layers of neighbouring bars run side by side: one branch keeps two
            # threads busy (2 branches on 2 cores: 0.94 of the speed of 1).
            threads = max(1, threads // 2)
        elif self.config.bidirectional or self.config.model == "ensemble":
            threads = 1  # has independent parts itself: 0.92 and 1.03 of the speed
        return min(self.config.num_branches or threads, self.config.batch_size)

    def create_callbacks(self, run_dir: str | os.PathLike[str]) -> list[Any]:
        """Returns the callbacks of one run; its files go to `run_dir`."""
        config, run_dir = self.config, Path(run_dir)
        callbacks = [
            StopOnNonFinite(),
            keras.callbacks.ModelCheckpoint(
                str(run_dir / "best_model_checkpoint.keras"),
                monitor=config.monitor,
                mode=config.monitor_mode,
                save_best_only=True,
            ),
            *stopping_callbacks(config),
            rate_callback(config),
            MemoryMonitor(),
        ]
        if config.tensorboard:
            callbacks.append(
                keras.callbacks.TensorBoard(str(run_dir / "logs"), write_graph=False)
            )
        return callbacks


DualWindowLSTMBuilder = NetworkBuilder
"""The name by which other programs know it; the family is the configuration's."""


def weights_digest(model: keras.Model) -> str:
    """Returns the SHA-256 of a model's weights: equal bytes, equal digest."""
    digest = hashlib.sha256()
    for variable in model.variables:
        value = np.ascontiguousarray(variable.numpy())
        digest.update(f"{value.dtype}{value.shape}".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()
