"""Networks, compiled: `DualWindowLSTMBuilder`; `configure_runtime` before it.

In: which layers, loss, updates and callbacks one configuration means. Out: each of
them (`networks`), feeding (`sequence_generator`), running (`trainer`).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import utils
from config import Config
from networks import hybrid
from networks.branched import BranchedTraining
from networks.callbacks import (
    MemoryMonitor,
    StopOnNonFinite,
    TensorBoard,
    stopping_callbacks,
)
from networks.families import build_network, has_batch_norm
from networks.fused_lstm import FusedLSTM
from networks.losses import (
    loss_from_config,
    metrics_from_config,
    position_loss_from_config,
)
from networks.optimizers import build_optimizer, rate_callback
from networks.runtime import configure_runtime, training_scope
from settings.sizes import estimate_memory

__all__ = ["DualWindowLSTMBuilder", "NetworkBuilder", "configure_runtime"]


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
            branches, is_half = self.num_branches(network), "16" in self.dtype_policy
            model = BranchedTraining(network, num_branches=branches, odds=odds)
            loss, metrics = self.build_loss()
            model.compile(
                optimizer=build_optimizer(self.config, scales_loss=is_half),
                loss=loss,
                metrics=metrics,
                jit_compile=False,  # XLA is slower here, except for one live window
            )
            model.build((None, self.config.sequence_length, self.num_features))
            # Variables that appear in the first step would have it traced twice.
            model.optimizer.build(model.trainable_variables)
        return model

    def build_loss(self) -> tuple[keras.losses.Loss, list[keras.metrics.Metric]]:
        """Returns the loss, and the metrics that go with it."""
        loss = loss_from_config(self.config)
        return loss, metrics_from_config(self.config, loss)

    @property
    def dtype_policy(self) -> str:
        """Precision of the layers; weights and probabilities stay float32."""
        is_mixed = self.config.mixed_precision
        has_gpu = is_mixed and tf.config.list_physical_devices("GPU")
        return "mixed_float16" if has_gpu else "float32"

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
        elif self.config.bidirectional or self.config.model in ("mlp", "ensemble"):
            # Has independent parts itself, or nothing to share: 0.92, 0.8 and 1.03 of
            # the speed.
            threads = 1
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
            logs = str(run_dir / "logs")
            callbacks.append(TensorBoard(logs, write_graph=False))
        return callbacks


class HybridBuilder(NetworkBuilder):
    """Builds a hybrid of trained networks.

    Args:
        config: Loss, rates, epochs.
        num_features: Columns of a window.
        base: A trained classifier.
        trunk: What a trained agent does with what the classifier's last layer reads;
            None begins without an agent.
    """

    def __init__(
        self,
        config: Config,
        num_features: int,
        *,
        base: keras.Model,
        trunk: hybrid.Trunk | None,
    ) -> None:
        super().__init__(config, num_features)
        self.base, self.trunk = base, trunk
        self.warm_layers: list[str] = []

    def build_network(self) -> keras.Model:
        """Returns the plain network: (batch, bars, features) -> (batch, 4)."""
        network, self.warm_layers = hybrid.hybrid(
            self.base,
            self.trunk,
            hidden=self.config.agent_hidden,
            dtype=self.dtype_policy,
        )
        return network

    def build_loss(self) -> tuple[keras.losses.Loss, list[keras.metrics.Metric]]:
        """Returns the sum of both heads' losses, and the metrics of each."""
        of_classes, metrics = super().build_loss()
        loss = hybrid.TwoHeadLoss(
            of_classes,
            position_loss_from_config(self.config),
            class_weight=self.config.hybrid_class_weight,
        )
        return loss, loss.metrics(metrics)

    def create_callbacks(self, run_dir: str | os.PathLike[str]) -> list[Any]:
        """Returns the callbacks of one run; first what freezes layers."""
        phases = hybrid.Phases(self.config.hybrid_frozen_epochs, self.warm_layers)
        return [phases, *super().create_callbacks(run_dir)]


DualWindowLSTMBuilder = NetworkBuilder
"""The name by which other programs know it; the family is the configuration's."""
