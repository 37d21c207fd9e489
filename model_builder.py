"""Networks, compiled: `DualWindowLSTMBuilder`; callbacks; seeds, threads, branches.

In: everything that decides how a network is built and how a step is computed.
Out: feeding it (`sequence_generator`), running it (`trainer`).
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import math
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import utils
from config import CLASS_NAMES, Config, estimate_memory

logger = logging.getLogger(__name__)


class NonFiniteLossError(utils.UserError):
    """Training met a loss or a weight that is not a number."""


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
    same layers on a slice of the batch, so loss and gradient are the whole batch's.

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
        self.odds = None if odds is None else tuple(float(value) for value in odds)

    def call(self, x: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Returns (batch, num_classes) probabilities for (batch, bars, features)."""
        rows, n = tf.shape(x)[0], self.num_branches
        edges = [rows * i // n for i in range(n + 1)]
        parts = [
            self.network(x[a:b], training=training)
            for a, b in zip(edges, edges[1:], strict=False)
        ]
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


class DualWindowLSTMBuilder:
    """Builds the dual-window LSTM of a configuration, and the callbacks of its run.

    The past window goes through stacked LSTM layers and dense layers to one probability
    per class; the future window is in the labels alone.

    Args:
        config: Sizes, rates, patience.
        num_features: Columns of a window.

    Example:
        >>> builder = DualWindowLSTMBuilder(Config(), num_features=8)
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
        config, layers = self.config, keras.layers
        policy = self.dtype_policy
        inputs = keras.Input((config.sequence_length, self.num_features), name="window")
        x = inputs
        for index, units in enumerate(config.lstm_units):
            is_last = index + 1 == len(config.lstm_units)
            x = layers.LSTM(
                units,
                dtype=policy,
                return_sequences=not is_last,
                recurrent_dropout=config.recurrent_dropout,
                name=f"lstm_{index + 1}",
            )(x)
            # One mask for all time steps (Gal and Ghahramani, 2016): drawing one for
            # each costs a tenth of a training step.
            dropout = layers.Dropout if is_last else layers.SpatialDropout1D
            x = dropout(config.dropout_rate, dtype=policy, name=f"drop_l{index + 1}")(x)
        for index, units in enumerate(config.dense_units):
            x = layers.Dense(units, "relu", dtype=policy, name=f"dense_{index + 1}")(x)
            x = layers.Dropout(
                config.dropout_rate, dtype=policy, name=f"drop_d{index + 1}"
            )(x)
        outputs = layers.Dense(
            len(CLASS_NAMES), "softmax", dtype="float32", name="trading_decisions"
        )(x)
        return keras.Model(inputs, outputs, name="dual_window_lstm")

    def build_model(
        self, odds: Sequence[float] | np.ndarray | None = None
    ) -> BranchedTraining:
        """Returns the network, wrapped for training and compiled.

        Args:
            odds: (3,) kept / natural share of each class, or None.
        """
        with training_scope():
            optimizer = keras.optimizers.Adam(
                self.config.learning_rate,
                gradient_accumulation_steps=self.config.gradient_accumulation_steps,
            )
            if "float16" in self.dtype_policy:
                optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
            model = BranchedTraining(
                self.build_network(), num_branches=self.num_branches, odds=odds
            )
            model.compile(
                optimizer=optimizer,
                loss=keras.losses.SparseCategoricalCrossentropy(),
                metrics=["accuracy"],
                jit_compile=False,  # XLA is slower here, except for one live window
            )
            model.build((None, self.config.sequence_length, self.num_features))
        return model

    @property
    def dtype_policy(self) -> str:
        """Precision of the layers; weights and probabilities stay float32."""
        is_mixed = self.config.mixed_precision and bool(
            tf.config.list_physical_devices("GPU")
        )
        return "mixed_float16" if is_mixed else "float32"

    @property
    def num_branches(self) -> int:
        """Slices of a batch: one per CPU thread, one alone on a GPU (cuDNN)."""
        if tf.config.list_physical_devices("GPU"):
            return 1
        threads = self.config.num_threads or utils.available_cores()
        return min(self.config.num_branches or threads, self.config.batch_size)

    def create_callbacks(self, run_dir: str | os.PathLike[str]) -> list[Any]:
        """Returns the callbacks of one run; its files go to `run_dir`."""
        config, run_dir = self.config, Path(run_dir)
        mode = "max" if config.monitor == "val_accuracy" else "min"
        callbacks = [
            StopOnNonFinite(),
            keras.callbacks.ModelCheckpoint(
                str(run_dir / "best_model_checkpoint.keras"),
                monitor=config.monitor,
                mode=mode,
                save_best_only=True,
            ),
            keras.callbacks.EarlyStopping(
                monitor=config.monitor,
                mode=mode,
                patience=config.early_stopping_patience,
                restore_best_weights=True,
            ),
            keras.callbacks.ReduceLROnPlateau(
                monitor="val_loss",
                factor=config.reduce_lr_factor,
                patience=config.reduce_lr_patience,
                min_lr=config.min_learning_rate,
            ),
            MemoryMonitor(),
        ]
        if config.tensorboard:
            callbacks.append(
                keras.callbacks.TensorBoard(str(run_dir / "logs"), write_graph=False)
            )
        return callbacks


class StopOnSignal(keras.callbacks.Callback):
    """Ends training after the batch during which a signal came.

    Args:
        signals: Deferred signals of the running training.

    Raises:
        Interrupted: With the signal's number.
    """

    def __init__(self, signals: utils.StopSignals) -> None:
        super().__init__()
        self.signals = signals

    def on_train_batch_end(
        self, batch: int, logs: Mapping[str, Any] | None = None
    ) -> None:
        """Looks for a signal after a training step."""
        if self.signals.received is not None:
            raise utils.Interrupted(self.signals.received)

    def on_test_batch_end(
        self, batch: int, logs: Mapping[str, Any] | None = None
    ) -> None:
        """Looks for a signal after a validation step."""
        self.on_train_batch_end(batch, logs)


class StopOnNonFinite(keras.callbacks.Callback):
    """Ends training within the batch whose loss or update is NaN or infinite.

    A loss can stay finite when the weights are not: TensorFlow's relu turns NaN into 0
    on a CPU. So the weights are looked at, too.

    Raises:
        NonFiniteLossError: Naming the epoch and the batch, counted from 1.
    """

    def __init__(self) -> None:
        super().__init__()
        self._epoch = 0

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Remembers the epoch."""
        self._epoch = epoch

    def on_train_batch_end(
        self, batch: int, logs: Mapping[str, Any] | None = None
    ) -> None:
        """Checks the running loss, and that the update left finite weights."""
        self._check((logs or {}).get("loss"), f"batch {batch + 1}")
        if not math.isfinite(self._norm()):
            names = non_finite_weights(self.model)
            raise NonFiniteLossError(
                f"epoch {self._epoch + 1}, batch {batch + 1}: expected finite weights "
                f"after the update. Received: NaN or infinity in {', '.join(names)}. "
                "Lower learning_rate or clip_limit."
            )

    def _norm(self) -> float:
        values = [variable.value for variable in self.model.trainable_variables]
        return float(_sum_of_squares(values))

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Checks the validation loss before another callback takes it for the best."""
        self._check((logs or {}).get("val_loss"), "its validation")

    def _check(self, loss: Any, where: str) -> None:
        if loss is not None and not math.isfinite(float(loss)):
            raise NonFiniteLossError(
                f"epoch {self._epoch + 1}, {where}: expected a finite loss. "
                f"Received: {float(loss)}. Lower learning_rate or clip_limit."
            )


class CollapseMonitor(keras.callbacks.Callback):
    """Warns, once a class, when predictions pile up on a class or forget one.

    Args:
        dataset: Some validation windows, once, with labels.
        true_shares: (num_classes,) class shares of these labels.
    """

    def __init__(self, dataset: tf.data.Dataset, true_shares: np.ndarray) -> None:
        super().__init__()
        self.dataset = dataset
        self.true_shares = true_shares
        self.warned: set[str] = set()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Predicts the windows and compares the class shares."""
        predicted = self.model.predict(self.dataset, verbose=0).argmax(axis=-1)
        shares = np.bincount(predicted, minlength=len(CLASS_NAMES)) / len(predicted)
        rows = zip(CLASS_NAMES, shares, self.true_shares, strict=True)
        for name, share, true in rows:
            piled, forgotten = share > 0.9 > true, share < 0.01 < true
            if (piled or forgotten) and name not in self.warned:
                self.warned.add(name)
                logger.warning(
                    "epoch %d: %.1f %% of the most probable classes are %s, "
                    "of the labels %.1f %%",
                    epoch + 1,
                    100 * share,
                    name,
                    100 * true,
                )


@tf.function(jit_compile=False, reduce_retracing=True)
def _sum_of_squares(variables: list[tf.Variable]) -> tf.Tensor:
    return tf.add_n([tf.reduce_sum(tf.square(variable)) for variable in variables])


def non_finite_weights(model: keras.Model) -> list[str]:
    """Returns the paths of the weights that hold NaN or infinity."""
    return [
        variable.path
        for variable in model.trainable_variables
        if not np.isfinite(variable.numpy()).all()
    ]


class MemoryMonitor(keras.callbacks.Callback):
    """Keeps the peak resident memory after each epoch, in bytes, in `peaks`."""

    def __init__(self) -> None:
        super().__init__()
        self.peaks: list[int] = []

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Notes the peak and says it every ten epochs."""
        self.peaks.append(utils.peak_resident_bytes())
        if epoch % 10 == 0:
            logger.debug("peak memory %s", utils.format_bytes(self.peaks[-1]))


def weights_digest(model: keras.Model) -> str:
    """Returns the SHA-256 of a model's weights: equal bytes, equal digest."""
    digest = hashlib.sha256()
    for variable in model.variables:
        value = np.ascontiguousarray(variable.numpy())
        digest.update(f"{value.dtype}{value.shape}".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()
