"""Networks: a configuration -> a plain Keras network of each family.

In: layers, sizes, names; networks of one's own (`own`). Out: how they are trained
(`model_builder`, `optimizers`). Every layer is Keras's own, and one that
`artifacts.keras_files` lets in: what is saved loads without this project.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import layers

from config import CLASS_TARGETS, Config
from networks.own import require_usable
from settings.label_fields import LabelFields
from settings.network_fields import ENSEMBLE_MEMBERS, NetworkFields
from settings.network_fields import NETWORKS as BUILT_IN
from utils import ConfigError

CLASS_HEAD = "trading_decisions"
VALUE_HEAD = "forecast"


def build_network(
    config: Config, num_features: int, *, dtype: str = "float32"
) -> keras.Model:
    """Returns the network of `config.model`, not compiled.

    Args:
        config: Family and sizes; the target decides the output.
        num_features: Columns of a window.
        dtype: Keras's dtype policy of the hidden layers. Outputs are float32.

    Returns:
        Functional model: (batch, sequence_length, num_features) -> (batch, 3)
        probabilities of SHORT, HOLD, LONG, or (batch, 1) for a target that is a number.

    Raises:
        ConfigError: If there is no such network, or one of one's own cannot be used.
    """
    name = config.model
    if name not in NETWORKS:
        raise ConfigError(
            f"model: expected a network of {', '.join(NETWORKS)}. Received: {name!r}. "
            "Give its builder: register_network(name, builder)."
        )
    network = NETWORKS[name](config, num_features, dtype=dtype)
    if name not in BUILT_IN:
        require_usable(network, config, num_features)
    return network


def build_lstm(
    config: Config, num_features: int, *, dtype: str = "float32"
) -> keras.Model:
    """Returns stacked LSTM layers, one or two ways, then dense layers."""
    window = _window(config, num_features)
    x = _recurrent(window, layers.LSTM, config.lstm_units, config, dtype)
    name = "bidirectional_lstm" if config.bidirectional else "dual_window_lstm"
    return _with_head(window, x, config, dtype, name)


def build_gru(
    config: Config, num_features: int, *, dtype: str = "float32"
) -> keras.Model:
    """Returns stacked GRU layers, one or two ways, then dense layers."""
    window = _window(config, num_features)
    x = _recurrent(window, layers.GRU, config.gru_units, config, dtype)
    return _with_head(window, x, config, dtype, "gru")


def build_cnn(
    config: Config, num_features: int, *, dtype: str = "float32"
) -> keras.Model:
    """Returns convolutions that halve the bars one after another, then dense layers."""
    window = _window(config, num_features)
    x = _convolutions(window, config.cnn_filters, config.cnn_kernels, config, dtype)
    x = layers.Flatten(name="flatten")(x)
    return _with_head(window, x, config, dtype, "cnn")


def build_attention(
    config: Config, num_features: int, *, dtype: str = "float32"
) -> keras.Model:
    """Returns blocks of self-attention over the bars, their mean, then dense layers.

    Vaswani et al. (2017), of which it is the encoder; normalised before each part
    (Xiong et al., 2020) or after it.
    """
    window = _window(config, num_features)
    x = layers.Dense(config.attention_dim, dtype=dtype, name="embedding")(window)
    positions = sinusoidal_positions(config.sequence_length, config.attention_dim)
    x = layers.Rescaling(1.0, offset=positions.tolist(), dtype=dtype, name="positions")(
        x
    )
    for index in range(config.attention_blocks):
        x = _attention_block(x, config, dtype, index + 1)
    if config.attention_norm == "pre":
        x = layers.LayerNormalization(dtype=dtype, name="norm_last")(x)
    x = layers.GlobalAveragePooling1D(dtype=dtype, name="mean_of_bars")(x)
    return _with_head(window, x, config, dtype, "attention")


def build_cnn_lstm(
    config: Config, num_features: int, *, dtype: str = "float32"
) -> keras.Model:
    """Returns convolutions, LSTM layers on what they leave, then dense layers."""
    window = _window(config, num_features)
    x = _convolutions(
        window,
        config.cnn_lstm_filters,
        config.cnn_lstm_kernels,
        config,
        dtype,
        is_residual=config.cnn_lstm_residual,
    )
    units, attends = config.cnn_lstm_units, config.cnn_lstm_attention
    x = _recurrent(x, layers.LSTM, units, config, dtype, keeps_steps=attends)
    if attends:
        x = layers.Add(dtype=dtype, name="add_attention")(
            [x, _self_attention(x, config, dtype, "attention")]
        )
        x = layers.LayerNormalization(dtype=dtype, name="norm_attention")(x)
        x = layers.GlobalAveragePooling1D(dtype=dtype, name="mean_of_steps")(x)
    return _with_head(window, x, config, dtype, "cnn_lstm")


def build_ensemble(
    config: Config, num_features: int, *, dtype: str = "float32"
) -> keras.Model:
    """Returns three networks whose outputs a learned gate weighs, one trainable model.

    The gate reads mean and maximum of each feature over the window; its weights are
    positive and sum to 1 (Jacobs et al., 1991), so that a mixture of probabilities
    is one. Gradients reach the members through the mixture alone.
    """
    window = _window(config, num_features)
    gate = layers.Concatenate(dtype=dtype, name="pooled")(
        [
            layers.GlobalAveragePooling1D(dtype=dtype, name="mean_of_window")(window),
            layers.GlobalMaxPooling1D(dtype=dtype, name="max_of_window")(window),
        ]
    )
    gate = layers.Dense(config.gate_units, "relu", dtype=dtype, name="gate_hidden")(
        gate
    )
    gate = layers.Dense(len(ENSEMBLE_MEMBERS), "softmax", dtype="float32", name="gate")(
        gate
    )
    own = config.replace(bidirectional=True)
    answers = [
        NETWORKS[name](own, num_features, dtype=dtype)(window)
        for name in ENSEMBLE_MEMBERS
    ]
    size = answers[0].shape[-1]
    x = layers.Concatenate(dtype="float32", name="answers")(answers)
    x = layers.Reshape((len(answers), size), dtype="float32", name="by_member")(x)
    x = layers.Dot(axes=1, dtype="float32", name=_head_name(config))([gate, x])
    return keras.Model(window, x, name="ensemble")


NETWORKS: dict[str, Callable[..., keras.Model]] = {
    "lstm": build_lstm,
    "gru": build_gru,
    "cnn": build_cnn,
    "cnn_lstm": build_cnn_lstm,
    "attention": build_attention,
    "ensemble": build_ensemble,
}
"""Families: name -> builder(config, num_features, dtype=)."""


def feature_extractor(network: keras.Model) -> keras.Model:
    """Returns a network up to what its last layer reads; the weights are shared.

    Args:
        network: Of any family but the ensemble, built here or loaded.

    Returns:
        Functional model: (batch, sequence_length, num_features) ->
        (batch, `dense_units[-1]`), or without dense layers what the family's own
        layers give, such as (batch, `cnn_lstm_units[-1]`).

    Raises:
        ValueError: If the network has no dense layer at its end.
    """
    head = network.layers[-1]
    if not isinstance(head, layers.Dense):
        raise ValueError(
            "network: expected one that ends in a dense layer. Received: "
            f"{network.name}, which ends in {type(head).__name__}. Take a member: "
            "network.get_layer('cnn')."
        )
    return keras.Model(network.input, head.input, name=f"{network.name}_features")


def has_batch_norm(network: keras.Model) -> bool:
    """Whether a layer looks at the whole batch while training, members' included."""
    return any(
        has_batch_norm(layer)
        if isinstance(layer, keras.Model)
        else isinstance(layer, layers.BatchNormalization)
        for layer in network.layers
    )


def sinusoidal_positions(num_bars: int, size: int) -> np.ndarray:
    """Returns (num_bars, size) sines and cosines of the bar's number.

    Vaswani et al. (2017), section 3.5: column 2i has sin(bar / 10000^(2i / size)), the
    next one the cosine. Rounded to 7 decimals, as a saved network has them.
    """
    rates = 10_000.0 ** (-np.arange(0, size, 2) / size)
    angles = np.arange(num_bars)[:, None] * rates
    result = np.empty((num_bars, size))
    result[:, 0::2], result[:, 1::2] = np.sin(angles), np.cos(angles)
    return result.round(7)


def _window(config: NetworkFields, num_features: int) -> Any:
    return keras.Input((config.sequence_length, num_features), name="window")


def _head_name(config: LabelFields) -> str:
    return CLASS_HEAD if config.target in CLASS_TARGETS else VALUE_HEAD


def _with_head(
    window: Any, x: Any, config: Config, dtype: str, name: str
) -> keras.Model:
    """Returns the network `name` that ends in dense layers and the output."""
    for index, units in enumerate(config.dense_units):
        x = layers.Dense(units, "relu", dtype=dtype, name=f"dense_{index + 1}")(x)
        if config.dense_batch_norm:
            x = _batch_norm(f"norm_d{index + 1}", dtype)(x)
        x = layers.Dropout(config.dropout_rate, dtype=dtype, name=f"drop_d{index + 1}")(
            x
        )
    outputs = layers.Dense(
        config.num_outputs,
        "softmax" if config.target in CLASS_TARGETS else "linear",
        dtype="float32",
        name=_head_name(config),
    )(x)
    return keras.Model(window, outputs, name=name)


def _batch_norm(name: str, dtype: str) -> layers.Layer:
    # Keras's 0.99 has forgotten its initial statistics after 300 steps only: until then
    # an epoch's validation says nothing.
    return layers.BatchNormalization(momentum=0.9, dtype=dtype, name=name)


def _recurrent(
    x: Any,
    cell: type[layers.Layer],
    units: Sequence[int],
    config: NetworkFields,
    dtype: str,
    *,
    keeps_steps: bool = False,
) -> Any:
    """Returns stacked LSTM or GRU layers: the last step, or every one."""
    kind = cell.__name__.lower()
    for index, size in enumerate(units):
        is_last = index + 1 == len(units)
        layer = cell(
            size,
            dtype=dtype,
            return_sequences=not is_last or keeps_steps,
            recurrent_dropout=config.recurrent_dropout,
            name=f"{kind}_{index + 1}",
        )
        if config.bidirectional:
            layer = layers.Bidirectional(layer, dtype=dtype, name=layer.name)
        x = layer(x)
        # One mask for all time steps (Gal and Ghahramani, 2016): drawing one for
        # each costs a tenth of a training step.
        dropout = layers.Dropout if x.ndim == 2 else layers.SpatialDropout1D
        x = dropout(
            config.dropout_rate, dtype=dtype, name=f"drop_{kind[0]}{index + 1}"
        )(x)
    return x


def _convolutions(
    x: Any,
    filters: Sequence[int],
    kernels: Sequence[int],
    config: NetworkFields,
    dtype: str,
    *,
    is_residual: bool = False,
) -> Any:
    """Returns convolutions, each of which halves the steps and drops whole filters."""
    for index, (size, bars) in enumerate(zip(filters, kernels, strict=True)):
        end, shortcut = f"_{index + 1}", x
        x = layers.Conv1D(size, bars, padding="same", dtype=dtype, name=f"conv{end}")(x)
        if config.conv_batch_norm:
            x = _batch_norm(f"norm_c{index + 1}", dtype)(x)
        if is_residual:
            if shortcut.shape[-1] != size:
                shortcut = layers.Conv1D(size, 1, dtype=dtype, name=f"shortcut{end}")(
                    shortcut
                )
            x = layers.Add(dtype=dtype, name=f"add{end}")([x, shortcut])
        x = layers.Activation("relu", dtype=dtype, name=f"relu{end}")(x)
        x = layers.MaxPooling1D(2, dtype=dtype, name=f"pool{end}")(x)
        x = layers.SpatialDropout1D(
            config.dropout_rate, dtype=dtype, name=f"drop_c{index + 1}"
        )(x)
    return x


def _attention_block(x: Any, config: NetworkFields, dtype: str, number: int) -> Any:
    """Returns self-attention and a feed-forward pair, each added to what it read."""
    is_pre = config.attention_norm == "pre"

    def attend(y: Any) -> Any:
        return _self_attention(y, config, dtype, f"attention_{number}")

    def feed_forward(y: Any) -> Any:
        size, end = config.attention_ff_dim, f"_{number}"
        y = layers.Dense(size, "relu", dtype=dtype, name=f"ff_in{end}")(y)
        return layers.Dense(config.attention_dim, dtype=dtype, name=f"ff_out{end}")(y)

    for kind, part in (("a", attend), ("f", feed_forward)):
        norm = layers.LayerNormalization(dtype=dtype, name=f"norm_{kind}{number}")
        y = part(norm(x) if is_pre else x)
        y = layers.Dropout(
            config.attention_dropout, dtype=dtype, name=f"drop_{kind}{number}"
        )(y)
        x = layers.Add(dtype=dtype, name=f"add_{kind}{number}")([x, y])
        if not is_pre:
            x = norm(x)
    return x


def _self_attention(x: Any, config: NetworkFields, dtype: str, name: str) -> Any:
    heads = config.attention_heads
    return layers.MultiHeadAttention(
        heads, x.shape[-1] // heads, dtype=dtype, name=name
    )(x, x)
