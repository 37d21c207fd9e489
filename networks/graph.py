"""The layers of a network, each behind the last, under names that stay.

In: sizes of a configuration, kinds of layers. Out: which of them a family stacks
(`families`, `convolutional`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

from config import CLASS_TARGETS, Config
from settings.label_fields import LabelFields

CLASS_HEAD = "trading_decisions"
VALUE_HEAD = "forecast"


class Graph:
    """Layers of one family, each behind the last; `x` is what the newest gives.

    Args:
        config: Sizes of the layers.
        num_features: Columns of a window.
        dtype: Dtype policy of the layers.
    """

    def __init__(self, config: Config, num_features: int, dtype: str) -> None:
        self.config = config
        self.dtype = dtype
        window = (config.sequence_length, num_features)
        self.window = self.x = keras.Input(window, name="window")

    def layer(self, kind: type[layers.Layer], *arguments: Any, **options: Any) -> Any:
        """Returns a layer in the graph's precision, joined to nothing yet."""
        return kind(*arguments, **{"dtype": self.dtype} | options)

    def add(self, kind: type[layers.Layer], *arguments: Any, **options: Any) -> None:
        """Puts a layer behind the newest."""
        self.x = self.layer(kind, *arguments, **options)(self.x)

    def add_batch_norm(self, name: str) -> None:
        """Normalises by the batch, over bars too where there are bars."""
        # Keras's 0.99 has forgotten its initial statistics after 300 steps only: until
        # then an epoch's validation says nothing.
        self.add(layers.BatchNormalization, momentum=0.9, name=name)

    def add_recurrent(
        self,
        cell: type[layers.Layer],
        units: Sequence[int],
        *,
        keeps_steps: bool = False,
    ) -> None:
        """Stacks LSTM or GRU layers that leave the last step, or every one."""
        kind, config = cell.__name__.lower(), self.config
        for number, size in enumerate(units, start=1):
            layer = self.layer(
                cell,
                size,
                return_sequences=number < len(units) or keeps_steps,
                recurrent_dropout=config.recurrent_dropout,
                name=f"{kind}_{number}",
            )
            if config.bidirectional:
                layer = self.layer(layers.Bidirectional, layer, name=layer.name)
            self.x = layer(self.x)
            # One mask for all time steps (Gal and Ghahramani, 2016): drawing one for
            # each costs a tenth of a training step.
            dropout = layers.Dropout if self.x.ndim == 2 else layers.SpatialDropout1D
            self.add(dropout, config.dropout_rate, name=f"drop_{kind[0]}{number}")

    def add_convolutions(
        self, filters: Sequence[int], kernels: Sequence[int], *, is_residual: bool
    ) -> None:
        """Stacks convolutions, each of which halves the steps, drops whole filters."""
        sizes = enumerate(zip(filters, kernels, strict=True), start=1)
        for number, (size, bars) in sizes:
            before = self.x
            self.add(layers.Conv1D, size, bars, padding="same", name=f"conv_{number}")
            if self.config.conv_batch_norm:
                self.add_batch_norm(f"norm_c{number}")
            if is_residual:
                if before.shape[-1] != size:
                    name = f"shortcut_{number}"
                    before = self.layer(layers.Conv1D, size, 1, name=name)(before)
                self.x = self.layer(layers.Add, name=f"add_{number}")([self.x, before])
            self.add(layers.Activation, "relu", name=f"relu_{number}")
            self.add(layers.MaxPooling1D, 2, name=f"pool_{number}")
            rate = self.config.dropout_rate
            self.add(layers.SpatialDropout1D, rate, name=f"drop_c{number}")

    def add_causal_block(self, number: int, filters: int, kernel: int) -> None:
        """Adds two convolutions over bars `2 ** (number - 1)` apart to what they read.

        Neither sees a bar that comes later.
        """
        config, before = self.config, self.x
        if before.shape[-1] != filters:
            name = f"shortcut_{number}"
            before = self.layer(layers.Conv1D, filters, 1, name=name)(before)
        options = {"padding": "causal", "dilation_rate": 2 ** (number - 1)}
        for each in "ab":
            end = f"{number}{each}"
            self.add(layers.Conv1D, filters, kernel, name=f"conv_{end}", **options)
            if config.conv_batch_norm:
                self.add_batch_norm(f"norm_c{end}")
            self.add(layers.Activation, "relu", name=f"relu_{end}")
            self.add(layers.SpatialDropout1D, config.dropout_rate, name=f"drop_c{end}")
        self.x = self.layer(layers.Add, name=f"add_{number}")([self.x, before])
        self.add(layers.Activation, "relu", name=f"relu_{number}")

    def add_attention_block(self, number: int) -> None:
        """Adds self-attention and a feed-forward pair, each to what it read."""
        config = self.config
        is_pre = config.attention_norm == "pre"
        for kind in ("a", "f"):
            before = self.x
            norm = self.layer(layers.LayerNormalization, name=f"norm_{kind}{number}")
            if is_pre:
                self.x = norm(self.x)
            if kind == "a":
                self.attend(f"attention_{number}")
            else:
                size, name = config.attention_ff_dim, f"ff_in_{number}"
                self.add(layers.Dense, size, "relu", name=name)
                self.add(layers.Dense, config.attention_dim, name=f"ff_out_{number}")
            rate = config.attention_dropout
            self.add(layers.Dropout, rate, name=f"drop_{kind}{number}")
            add = self.layer(layers.Add, name=f"add_{kind}{number}")
            self.x = add([before, self.x])
            if not is_pre:
                self.x = norm(self.x)

    def attend(self, name: str) -> None:
        """Lets each step attend to all, with `attention_heads`."""
        heads, size = self.config.attention_heads, self.x.shape[-1]
        attention = self.layer(
            layers.MultiHeadAttention, heads, size // heads, name=name
        )
        self.x = attention(self.x, self.x)

    def finished(self, name: str) -> keras.Model:
        """Returns the network `name` that ends in dense layers and the output."""
        config = self.config
        for number, units in enumerate(config.dense_units, start=1):
            self.add(layers.Dense, units, "relu", name=f"dense_{number}")
            if config.dense_batch_norm:
                self.add_batch_norm(f"norm_d{number}")
            self.add(layers.Dropout, config.dropout_rate, name=f"drop_d{number}")
        activation = "softmax" if config.target in CLASS_TARGETS else "linear"
        output = {"dtype": "float32", "name": head_name(config)}
        self.add(layers.Dense, config.num_outputs, activation, **output)
        return keras.Model(self.window, self.x, name=name)


def head_name(config: LabelFields) -> str:
    """Returns the name of the last layer, by what the target is."""
    return CLASS_HEAD if config.target in CLASS_TARGETS else VALUE_HEAD
