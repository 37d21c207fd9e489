"""Parameters and memory of each network family, from the configuration alone.

In: formulas and what was measured. Out: building (`networks.families`). Imports no
Keras, so that a dry run answers at once; tests compare with the networks that Keras
builds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import utils
from config import Config
from settings.network_fields import ENSEMBLE_MEMBERS, NetworkFields, mean_blocks
from settings.stage_fields import AGENTS

# Peak growth over the imports at window 120, 8 features, default sizes (TensorFlow
# 2.21, two cores, batches of 64, 256, 512; benchmarks/bench_memory.py): what remains
# when the batch goes to 0, in bytes, and numbers kept for the backward pass. With them
# the estimate was between 2 % below and 23 % above the peak at batch 256.
_RUNTIME_BYTES = {
    "lstm": 290_000_000,
    "gru": 290_000_000,
    "cnn": 130_000_000,
    "cnn_lstm": 210_000_000,
    "mlp": 72_000_000,
    "tcn": 155_000_000,
    "attention": 210_000_000,
    "ensemble": 500_000_000,
}
# The stack of LSTM layers that trains in one loop (`networks.fused_lstm`) needs less.
_FUSED_RUNTIME_BYTES = 175_000_000
_KEPT_PER_FUSED_UNIT, _KEPT_PER_RECURRENT_UNIT = 10, 11
_KEPT_PER_FILTER = 4.5
_KEPT_PER_DENSE_UNIT = 4
_KEPT_PER_DIM, _KEPT_PER_SCORE, _KEPT_PER_FF_UNIT = 12, 3, 2
_AGENT_RUNTIME_BYTES = 150_000_000
_REPLAYED_STEPS = 200_000
LEAST_WINDOWS = 8
"""Fewest windows of a piece of a batch, where memory asks for pieces."""
# A prediction step of 512 windows keeps less of each.
_PREDICTED_WINDOWS = 512
_PREDICTION_SHARE = 0.3


def estimate_memory(config: Config, num_features: int, num_rows: int) -> dict[str, int]:
    """Returns the memory of a run above the imports, in bytes, part by part.

    `parameters` has weights, gradients and Adam's two moments; `activations` what the
    backward pass keeps of a batch, or what a prediction step takes, where that is more.

    Returns:
        `parameters`, `activations` (of an agent `experience`, what it learns from),
        `runtime`, `feature_array` and their `total`; for
        another family than a built-in network `feature_array` alone, as the rest is not
        known.
    """
    array = {"feature_array": num_rows * num_features * 4}
    if config.model in AGENTS:
        parts = _agent_memory(config, num_features) | array
        return parts | {"total": sum(parts.values())}
    if config.model not in _PARAMETERS:
        return array
    kept = 4 * _KEPT[config.model](config)  # bytes of one window
    prediction = _PREDICTED_WINDOWS * _PREDICTION_SHARE * kept
    usual = _RUNTIME_BYTES[config.model]
    parts = {
        "parameters": 4 * 4 * count_parameters(config, num_features),
        "activations": round(max(config.batch_size * kept, prediction)),
        "runtime": _FUSED_RUNTIME_BYTES if _is_fused(config) else usual,
    } | array
    return parts | {"total": sum(parts.values())}


def _agent_memory(config: Config, num_features: int) -> dict[str, int]:
    """Returns the memory of one agent: policy, critics, what is learned from."""
    num_inputs = num_features + 3  # and its account
    weights = 0
    for units in config.agent_hidden:
        weights += _dense(num_inputs, units)
        num_inputs = units
    is_replayed = config.model != "ppo"
    # A policy and a critic; with a replay two critics, and slow copies.
    copies = 6 if is_replayed else 2
    seen = 4 * (num_features + 5)
    kept = min(_REPLAYED_STEPS, config.agent_steps) * 2 if is_replayed else 0
    return {
        "parameters": 4 * 3 * copies * weights,
        "experience": seen * (kept or 64 * config.agent_envs),
        "runtime": _AGENT_RUNTIME_BYTES,
    }


def next_pieces(config: Config, recoveries: Sequence[Mapping[str, Any]]) -> int | None:
    """Returns twice the pieces of a batch that a run has come to.

    None where a piece would have fewer than `LEAST_WINDOWS`.
    """
    pieces = 2 * (recoveries[-1]["micro_batches"] if recoveries else 1)
    return pieces if config.batch_size >= LEAST_WINDOWS * pieces else None


def memory_problem(config: Config, num_features: int, num_rows: int = 0) -> str | None:
    """Returns why a network's run does not fit into what is free; None if it does.

    What `ulimit -v` refuses can be done in pieces of `LEAST_WINDOWS` (`recovery`);
    what is more than the machine has would be swapped, or end the process.

    Args:
        config: The run.
        num_features: Columns of a window.
        num_rows: Rows that are still to be read.
    """
    needed = estimate_memory(config, num_features, num_rows).get("total")
    if needed is None or config.model in AGENTS or config.allow_swap:
        return None
    pieces = config.replace(batch_size=min(config.batch_size, LEAST_WINDOWS))
    least = estimate_memory(pieces, num_features, num_rows)["total"]
    limits = [
        (needed, utils.available_memory_bytes(), "free"),
        (
            least if config.recovery else needed,
            utils.address_space_left(),
            "left by ulimit -v",
        ),
    ]
    for size, free, words in limits:
        if free is not None and size > free:
            batch = _fitting_batch(config, num_features, free - needed)
            cure = "No batch fits: take fewer units, bars or rows"
            if batch:
                cure = f"Use --batch-size {batch}"
            return (
                f"batch_size: expected a run that fits into the "
                f"{utils.format_bytes(free)} that are {words}. Received: "
                f"{config.batch_size}, which needs about {utils.format_bytes(needed)}. "
                f"{cure}, or --allow-swap to try all the same."
            )
    return None


def _fitting_batch(config: Config, num_features: int, missing: int) -> int:
    """Returns the largest batch whose estimate is less by `-missing` bytes, or 0."""
    kept = 4 * _KEPT[config.model](config)
    given = estimate_memory(config, num_features, 0)["activations"] + missing
    is_enough = given >= _PREDICTED_WINDOWS * _PREDICTION_SHARE * kept
    return int(given // kept) if is_enough else 0


def count_parameters(config: Config, num_features: int) -> int:
    """Returns the parameters of a network, the statistics of normalisation included."""
    return _PARAMETERS[config.model](config, num_features)


def _dense(inputs: int, units: int) -> int:
    return units * (inputs + 1)


def _head(config: Config, inputs: int) -> int:
    total = 0
    for units in config.dense_units:
        total += _dense(inputs, units) + 4 * units * config.dense_batch_norm
        inputs = units
    return total + _dense(inputs, config.num_outputs)


def _recurrent(
    config: NetworkFields, inputs: int, units: Sequence[int], *, is_gru: bool = False
) -> int:
    """Returns the parameters of stacked layers.

    An LSTM layer with `u` units on `i` inputs has `4 u (i + u + 1)`, a GRU layer, with
    two biases, `3 u (i + u + 2)`; two directions have twice as many.
    """
    total, ways = 0, 1 + config.bidirectional
    for size in units:
        gates = 3 * (inputs + size + 2) if is_gru else 4 * (inputs + size + 1)
        total += ways * size * gates
        inputs = ways * size
    return total


def _convolutions(
    config: NetworkFields,
    inputs: int,
    filters: Sequence[int],
    kernels: Sequence[int],
    *,
    is_residual: bool = False,
) -> int:
    """Returns the parameters of stacked convolutions.

    One with `f` filters over `k` bars of `i` inputs has `f (k i + 1)`, its
    normalisation `4 f`, a shortcut between unequal sizes `f (i + 1)`.
    """
    total = 0
    for size, bars in zip(filters, kernels, strict=True):
        total += size * (bars * inputs + 1) + 4 * size * config.conv_batch_norm
        total += _dense(inputs, size) * (is_residual and inputs != size)
        inputs = size
    return total


def _stacked(config: Config, num_features: int) -> int:
    is_gru = config.model == "gru"
    units = config.gru_units if is_gru else config.lstm_units
    last = (1 + config.bidirectional) * units[-1]
    return _recurrent(config, num_features, units, is_gru=is_gru) + _head(config, last)


def _cnn(config: Config, num_features: int) -> int:
    filters, kernels = config.cnn_filters, config.cnn_kernels
    last = filters[-1] * (config.sequence_length >> len(filters))
    convolutions = _convolutions(config, num_features, filters, kernels)
    return convolutions + _head(config, last)


def _cnn_lstm(config: Config, num_features: int) -> int:
    filters, units = config.cnn_lstm_filters, config.cnn_lstm_units
    last = (1 + config.bidirectional) * units[-1]
    total = _convolutions(
        config,
        num_features,
        filters,
        config.cnn_lstm_kernels,
        is_residual=config.cnn_lstm_residual,
    )
    total += _recurrent(config, filters[-1], units)
    if config.cnn_lstm_attention:
        total += 4 * _dense(last, last) + 2 * last
    return total + _head(config, last)


def _mlp(config: Config, num_features: int) -> int:
    return _head(config, num_features * _mlp_steps(config))


def _mlp_steps(config: NetworkFields) -> int:
    """Returns how often `mlp` reads each feature."""
    bars = config.sequence_length
    return bars if config.mlp_inputs == "bars" else len(mean_blocks(bars))


def _tcn(config: Config, num_features: int) -> int:
    filters, kernels = [config.tcn_filters], [config.tcn_kernel]
    total, inputs = 0, num_features
    for _ in range(config.tcn_blocks):
        block = _convolutions(config, inputs, 2 * filters, 2 * kernels)
        total += block + _dense(inputs, *filters) * (inputs != config.tcn_filters)
        inputs = config.tcn_filters
    return total + _head(config, inputs)


def _attention(config: Config, num_features: int) -> int:
    size, inner = config.attention_dim, config.attention_ff_dim
    feed_forward = _dense(size, inner) + _dense(inner, size)
    block = 4 * _dense(size, size) + feed_forward + 4 * size
    total = _dense(num_features, size) + config.attention_blocks * block
    if config.attention_norm == "pre":
        total += 2 * size
    return total + _head(config, size)


def _ensemble(config: Config, num_features: int) -> int:
    own, gate = config.replace(bidirectional=True), config.gate_units
    total = _dense(2 * num_features, gate) + _dense(gate, len(ENSEMBLE_MEMBERS))
    return total + sum(
        _PARAMETERS[name](own, num_features) for name in ENSEMBLE_MEMBERS
    )


_PARAMETERS: dict[str, Callable[[Config, int], int]] = {
    "lstm": _stacked,
    "gru": _stacked,
    "cnn": _cnn,
    "cnn_lstm": _cnn_lstm,
    "mlp": _mlp,
    "tcn": _tcn,
    "attention": _attention,
    "ensemble": _ensemble,
}


def _is_fused(config: Config) -> bool:
    """Whether `networks.fused_lstm` takes the network, where there is no GPU."""
    one_way = not (config.bidirectional or config.recurrent_dropout)
    return config.model == "lstm" and one_way


def _kept_recurrent(config: Config, units: Sequence[int], steps: int) -> float:
    each = _KEPT_PER_FUSED_UNIT if _is_fused(config) else _KEPT_PER_RECURRENT_UNIT
    return each * (1 + config.bidirectional) * steps * sum(units)


def _kept_convolutions(config: NetworkFields, filters: Sequence[int]) -> float:
    steps = config.sequence_length
    return _KEPT_PER_FILTER * sum(f * (steps >> i) for i, f in enumerate(filters))


def _kept_cnn_lstm(config: Config) -> float:
    filters, units = config.cnn_lstm_filters, config.cnn_lstm_units
    steps = config.sequence_length >> len(filters)
    kept = _kept_convolutions(config, filters) + _kept_recurrent(config, units, steps)
    if config.cnn_lstm_attention:
        size = (1 + config.bidirectional) * units[-1]
        kept += steps * _kept_per_query(config, size, steps)
    return kept


def _kept_per_query(config: NetworkFields, size: int, steps: int) -> float:
    scores = config.attention_heads * steps
    return _KEPT_PER_DIM * size + _KEPT_PER_SCORE * scores


def _kept_attention(config: NetworkFields) -> float:
    steps = config.sequence_length
    kept = _kept_per_query(config, config.attention_dim, steps)
    kept += _KEPT_PER_FF_UNIT * config.attention_ff_dim
    return config.attention_blocks * steps * kept


def _kept_mlp(config: Config) -> float:
    return _KEPT_PER_DENSE_UNIT * (sum(config.dense_units) + config.num_outputs)


def _kept_tcn(config: Config) -> float:
    kept = 2 * config.tcn_filters * config.tcn_blocks * config.sequence_length
    return _KEPT_PER_FILTER * kept


def _kept_ensemble(config: Config) -> float:
    own = config.replace(bidirectional=True)
    return sum(_KEPT[name](own) for name in ENSEMBLE_MEMBERS)


_KEPT: dict[str, Callable[[Config], float]] = {
    "lstm": lambda c: _kept_recurrent(c, c.lstm_units, c.sequence_length),
    "gru": lambda c: _kept_recurrent(c, c.gru_units, c.sequence_length),
    "cnn": lambda c: _kept_convolutions(c, c.cnn_filters),
    "cnn_lstm": _kept_cnn_lstm,
    "mlp": _kept_mlp,
    "tcn": _kept_tcn,
    "attention": _kept_attention,
    "ensemble": _kept_ensemble,
}
