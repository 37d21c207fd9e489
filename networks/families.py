"""Networks: a configuration -> a plain Keras network of each family.

In: layers, sizes, names; whether a network of one's own can be used. Out: how they are
trained (`model_builder`, `optimizers`). Every layer is Keras's own, and one that
`artifacts.keras_files` lets in: what is saved loads without this project.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers

from artifacts.keras_files import load_keras_model
from config import CLASS_TARGETS, Config
from networks.graph import Graph, head_name
from settings.network_fields import ENSEMBLE_MEMBERS, mean_blocks
from settings.network_fields import NETWORKS as BUILT_IN
from utils import ConfigError, RefusedArtifactError


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
        _require_usable(network, config, num_features)
    return network


def _require_usable(network: Any, config: Config, num_features: int) -> None:
    """Refuses a network that the run, or who opens its artifact, could not use.

    Raises:
        ConfigError: If its windows or outputs are of other sizes, its outputs are no
            probabilities where the target is a class, or its file would be refused.
    """
    name = f"{config.model}: "
    wanted = (None, config.sequence_length, num_features), (None, config.num_outputs)
    sizes = [getattr(network, f"{end}_shape", None) for end in ("input", "output")]
    if not isinstance(network, keras.Model) or (*sizes,) != wanted:
        raise ConfigError(
            f"{name}expected a Keras network from windows {wanted[0]} to {wanted[1]}. "
            f"Received: {type(network).__name__}, from {sizes[0]} to {sizes[1]}"
        )
    if config.target in CLASS_TARGETS:
        outputs = np.asarray(network(np.ones((2, *wanted[0][1:]), np.float32)))
        if outputs.min() < 0 or not np.allclose(outputs.sum(axis=1), 1, atol=1e-3):
            raise ConfigError(
                f"{name}expected probabilities for the target {config.target!r}, such "
                f"as of softmax. Received: {outputs[0].tolist()}"
            )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        try:
            network.save(path)
            load_keras_model(path.read_bytes(), config.model)
        except (RefusedArtifactError, NotImplementedError, TypeError) as error:
            raise ConfigError(
                f"{name}expected a network whose file can be opened again, without "
                f"code of its own. Received: {error!s:.300}"
            ) from error


def _lstm(graph: Graph) -> keras.Model:
    """Returns stacked LSTM layers, one or two ways, then dense layers."""
    graph.add_recurrent(layers.LSTM, graph.config.lstm_units)
    is_both = graph.config.bidirectional
    return graph.finished("bidirectional_lstm" if is_both else "dual_window_lstm")


def _gru(graph: Graph) -> keras.Model:
    """Returns stacked GRU layers, one or two ways, then dense layers."""
    graph.add_recurrent(layers.GRU, graph.config.gru_units)
    return graph.finished("gru")


def _cnn(graph: Graph) -> keras.Model:
    """Returns convolutions that halve the bars one after another, then dense layers."""
    config = graph.config
    graph.add_convolutions(config.cnn_filters, config.cnn_kernels, is_residual=False)
    graph.add(layers.Flatten, name="flatten", dtype=None)
    return graph.finished("cnn")


def _mlp(graph: Graph) -> keras.Model:
    """Returns dense layers on all bars at once, or on means that are coarser with age.

    The means are of the newest bar, the two before it, the four before those and so
    on; the oldest one takes what is left, so that every bar counts.
    """
    if graph.config.mlp_inputs == "bars":
        graph.add(layers.Flatten, name="flatten", dtype=None)
        return graph.finished("mlp")
    bars, means = graph.config.sequence_length, []
    for number, (start, stop) in enumerate(mean_blocks(bars), start=1):
        ends = (start, bars - stop)
        block = graph.layer(layers.Cropping1D, ends, name=f"block_{number}")
        mean = graph.layer(layers.GlobalAveragePooling1D, name=f"mean_{number}")
        means.append(mean(block(graph.window)))
    if len(means) > 1:
        means = [graph.layer(layers.Concatenate, name="means")(means)]
    [graph.x] = means
    return graph.finished("mlp")


def _tcn(graph: Graph) -> keras.Model:
    """Returns causal convolutions whose steps double, the newest bar, dense layers.

    Bai, Kolter and Koltun (2018): residual blocks of two convolutions each, as many as
    it takes for the last one to see the whole window. Batch normalisation takes the
    place of their normalised weights.
    """
    config = graph.config
    for number in range(1, config.tcn_blocks + 1):
        graph.add_causal_block(number, config.tcn_filters, config.tcn_kernel)
    older = (config.sequence_length - 1, 0)
    graph.add(layers.Cropping1D, older, name="newest_bar")
    graph.add(layers.Flatten, name="flatten", dtype=None)
    return graph.finished("tcn")


def _attention(graph: Graph) -> keras.Model:
    """Returns blocks of self-attention over the bars, their mean, then dense layers.

    Vaswani et al. (2017), of which it is the encoder; normalised before each part
    (Xiong et al., 2020) or after it.
    """
    config = graph.config
    graph.add(layers.Dense, config.attention_dim, name="embedding")
    places = sinusoidal_positions(config.sequence_length, config.attention_dim).tolist()
    graph.add(layers.Rescaling, 1.0, offset=places, name="positions")
    for index in range(config.attention_blocks):
        graph.add_attention_block(index + 1)
    if config.attention_norm == "pre":
        graph.add(layers.LayerNormalization, name="norm_last")
    graph.add(layers.GlobalAveragePooling1D, name="mean_of_bars")
    return graph.finished("attention")


def _cnn_lstm(graph: Graph) -> keras.Model:
    """Returns convolutions, LSTM layers on what they leave, then dense layers."""
    config = graph.config
    graph.add_convolutions(
        config.cnn_lstm_filters,
        config.cnn_lstm_kernels,
        is_residual=config.cnn_lstm_residual,
    )
    attends = config.cnn_lstm_attention
    graph.add_recurrent(layers.LSTM, config.cnn_lstm_units, keeps_steps=attends)
    if attends:
        add = graph.layer(layers.Add, name="add_attention")
        before = graph.x
        graph.attend("attention")
        graph.x = add([before, graph.x])
        graph.add(layers.LayerNormalization, name="norm_attention")
        graph.add(layers.GlobalAveragePooling1D, name="mean_of_steps")
    return graph.finished("cnn_lstm")


def _ensemble(graph: Graph) -> keras.Model:
    """Returns three networks whose outputs a learned gate weighs, one trainable model.

    The gate reads mean and maximum of each feature over the window; its weights are
    positive and sum to 1 (Jacobs et al., 1991), so that a mixture of probabilities
    is one. Gradients reach the members through the mixture alone.
    """
    config, window = graph.config, graph.window
    pools = (
        graph.layer(layers.GlobalAveragePooling1D, name="mean_of_window"),
        graph.layer(layers.GlobalMaxPooling1D, name="max_of_window"),
    )
    join = graph.layer(layers.Concatenate, name="pooled")
    graph.x = join([pool(window) for pool in pools])
    graph.add(layers.Dense, config.gate_units, "relu", name="gate_hidden")
    members, plain = len(ENSEMBLE_MEMBERS), {"dtype": "float32"}
    graph.add(layers.Dense, members, "softmax", name="gate", **plain)
    gate, own = graph.x, config.replace(bidirectional=True)
    answers = [
        NETWORKS[name](own, window.shape[-1], dtype=graph.dtype)(window)
        for name in ENSEMBLE_MEMBERS
    ]
    graph.x = graph.layer(layers.Concatenate, name="answers", **plain)(answers)
    shape = (members, answers[0].shape[-1])
    graph.add(layers.Reshape, shape, name="by_member", **plain)
    mix = graph.layer(layers.Dot, axes=1, name=head_name(config), **plain)
    return keras.Model(window, mix([gate, graph.x]), name="ensemble")


def _builder(family: Callable[[Graph], keras.Model]) -> Callable[..., keras.Model]:
    def build(
        config: Config, num_features: int, *, dtype: str = "float32"
    ) -> keras.Model:
        return family(Graph(config, num_features, dtype))

    return build


NETWORKS: dict[str, Callable[..., keras.Model]] = {
    "lstm": _builder(_lstm),
    "gru": _builder(_gru),
    "cnn": _builder(_cnn),
    "cnn_lstm": _builder(_cnn_lstm),
    "mlp": _builder(_mlp),
    "tcn": _builder(_tcn),
    "attention": _builder(_attention),
    "ensemble": _builder(_ensemble),
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
