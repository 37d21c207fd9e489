"""The LSTM layers of a network in one loop over time: the same on a CPU, faster.

In: which networks can be computed so, their forward pass and its gradient. Out: the
network itself (`families`), which is what is saved; this module reads its weights and
owns none.

Keras runs one loop a layer: half of a training step on a CPU is no matrix product. Here
a bar goes through all layers before the next one, so that it stays in the cache; gates
and their gradient are two kernels compiled by XLA; the input, the state and a one for
the bias share one matrix product. Figures: `benchmarks/bench_training.py`.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

_MATRIX = tf.TensorSpec((None, None), tf.float32)


class FusedLSTM:
    """Computes a network whose first layers are a stack of plain LSTM layers.

    The result is that of the network, to float32 rounding, with the same dropout masks;
    its gradient with respect to the windows is not known.

    Args:
        layers: Layers of the network after its input, each fed by the one before.
    """

    def __init__(self, layers: Sequence[keras.layers.Layer]) -> None:
        last = max(k for k, each in enumerate(layers) if _is_lstm(each))
        self.lstm_layers = [each for each in layers[: last + 1] if _is_lstm(each)]
        # Between two LSTM layers one mask for all bars, or nothing.
        self.masks = [
            None if _is_lstm(following) else following
            for layer, following in itertools.pairwise(layers[: last + 1])
            if _is_lstm(layer)
        ]
        self.head = list(layers[last + 1 :])

    @classmethod
    def of(cls, network: keras.Model) -> FusedLSTM | None:
        """Returns the fused form of a network, or None where it has none.

        It has none on a GPU, where cuDNN is faster still.
        """
        if tf.config.list_physical_devices("GPU"):
            return None
        layers = _chain(network)
        if not layers or not _is_lstm(layers[0]):
            return None
        last = max(k for k, each in enumerate(layers) if _is_lstm(each))
        for layer, following in itertools.pairwise(layers[: last + 1]):
            is_mask = type(following) is keras.layers.SpatialDropout1D
            if _is_lstm(layer):
                fits = layer.return_sequences and (is_mask or _is_lstm(following))
            else:
                fits = _is_lstm(following)
            if not fits:
                return None
        return None if layers[last].return_sequences else cls(layers)

    def __call__(
        self, windows: tf.Tensor, *, training: bool | None = False
    ) -> tf.Tensor:
        """Returns the network's (batch, outputs) for (batch, bars, features).

        To be called while a graph is built.
        """
        weights = [
            tf.convert_to_tensor(weight)
            for cell in (layer.cell for layer in self.lstm_layers)
            for weight in (cell.kernel, cell.recurrent_kernel, cell.bias)
        ]
        if training:
            x = _lstm_stack(windows, self._masks(windows), weights)
        else:
            x = _Forward(windows, (), weights).run(saves=False)[0][-1]
        for layer in self.head:
            x = layer(x, training=training)
        return x

    def _masks(self, windows: tf.Tensor) -> list[tf.Tensor]:
        """Returns what each layer's output is multiplied by, (batch, units) each."""
        num_windows = tf.shape(windows)[0]
        masks = []
        for layer, mask in zip(self.lstm_layers, self.masks, strict=False):
            ones = tf.ones([num_windows, 1, layer.units])
            masks.append((ones if mask is None else mask(ones, training=True))[:, 0])
        return masks


def _chain(network: keras.Model) -> list[keras.layers.Layer] | None:
    """Returns the layers after the input if each is fed by the one before alone."""
    layers = network.layers
    if len(network.inputs) != 1 or len(network.outputs) != 1:
        return None
    if type(layers[0]) is not keras.layers.InputLayer:  # Sequential hides it
        return None
    for layer, before in zip(layers[1:], layers, strict=False):
        nodes = layer._inbound_nodes
        if len(nodes) != 1 or nodes[0].input_tensors != [before.output]:
            return None
    return layers[1:]


def _is_lstm(layer: keras.layers.Layer) -> bool:
    """Whether a layer is Keras's LSTM with its default mathematics, in float32."""
    return (
        type(layer) is keras.layers.LSTM
        and layer.activation is keras.activations.tanh
        and layer.recurrent_activation is keras.activations.sigmoid
        and layer.use_bias
        and layer.compute_dtype == "float32"
        and not (layer.dropout or layer.recurrent_dropout)
        and not (layer.stateful or layer.go_backwards or layer.return_state)
    )


def _lstm_stack(
    windows: tf.Tensor, masks: Sequence[tf.Tensor], weights: Sequence[tf.Tensor]
) -> tf.Tensor:
    """Returns the last state (batch, units) of the last of several LSTM layers.

    Args:
        windows: (batch, bars, features).
        masks: For each layer but the last, (batch, units): what its output is
            multiplied by before it enters the next.
        weights: For each layer kernel (inputs, 4 units), recurrent kernel
            (units, 4 units) and bias (4 units,), gates in Keras's order i, f, c, o.
    """
    num_masks = len(masks)

    @tf.custom_gradient
    def stack(*arguments: tf.Tensor) -> Any:
        forward = _Forward(windows, arguments[:num_masks], arguments[num_masks:])
        states, saved = forward.run(saves=True)

        def gradient(upstream: tf.Tensor) -> list[tf.Tensor | None]:
            return [None] * num_masks + forward.gradients(upstream, saved)

        return states[-1], gradient

    return stack(*masks, *weights)


class _Forward:
    """One evaluation of the stack, and what its gradient needs of it.

    A sigmoid is a tanh of half its argument: `sigmoid(z) = tanh(z / 2) / 2 + 1 / 2`.
    The halves are in `matrices`, so that all four gates are one tanh.
    """

    def __init__(
        self,
        windows: tf.Tensor,
        masks: Sequence[tf.Tensor],
        weights: Sequence[tf.Tensor],
    ) -> None:
        self.num_bars = windows.shape[1]
        self.masks = masks
        rows = tf.shape(windows)[0]
        self.bars = tf.TensorArray(
            tf.float32, self.num_bars, element_shape=[None, windows.shape[2]]
        ).unstack(tf.transpose(windows, [1, 0, 2]))
        self.ones = tf.ones([rows, 1])
        self.inputs = [kernel.shape[0] for kernel in weights[::3]]
        self.units = [kernel.shape[0] for kernel in weights[1::3]]
        self.zeros = [tf.zeros([rows, units]) for units in self.units]
        self.scales = [tf.repeat([0.5, 0.5, 1.0, 0.5], units) for units in self.units]
        parts = zip(weights[::3], weights[1::3], weights[2::3], strict=True)
        self.matrices = [
            tf.concat([kernel, recurrent, bias[None]], 0) * scale
            for (kernel, recurrent, bias), scale in zip(parts, self.scales, strict=True)
        ]

    def run(self, *, saves: bool) -> tuple[Any, Any]:
        """Returns each layer's last state, and what its gradient needs of each bar.

        The latter are arrays over time, if `saves`: joined input, gates, tanh of the
        cell state, and the cell state before.
        """

        def array(width: int) -> tf.TensorArray:
            return tf.TensorArray(
                tf.float32, self.num_bars, element_shape=[None, width]
            )

        def bar(t: tf.Tensor, states: Any, cells: Any, saved: Any) -> tuple[Any, ...]:
            states, cells, saved = list(states), list(cells), list(saved)
            x = self.bars.read(t)
            for k, units in enumerate(self.units):
                joined, before = tf.concat([x, states[k], self.ones], 1), cells[k]
                scaled = joined @ self.matrices[k]
                if saves:
                    widths = (4 * units, units, units, units)
                    found = _of_width(_cell(scaled, before), *widths)
                    gates, squashed, *now = found
                    values = (joined, gates, squashed, before)
                    saved[k] = tuple(
                        array.write(t, value)
                        for array, value in zip(saved[k], values, strict=True)
                    )
                else:
                    now = _of_width(_cell_alone(scaled, before), units, units)
                cells[k], states[k] = now
                x = states[k] * self.masks[k] if k < len(self.masks) else states[k]
            return t + 1, states, cells, saved

        start = [
            (array(inputs + units + 1), array(4 * units), array(units), array(units))
            for inputs, units in zip(self.inputs, self.units, strict=True)
        ]
        _, states, _, saved = tf.while_loop(
            lambda t, *_: t < self.num_bars,
            bar,
            (0, list(self.zeros), list(self.zeros), start if saves else []),
            maximum_iterations=self.num_bars,
        )
        return states, saved

    def gradients(self, upstream: tf.Tensor, saved: Any) -> list[tf.Tensor]:
        """Returns the gradient of each weight, given that of the last state."""
        # What enters the first layer needs no gradient.
        skipped = [0 if k else self.inputs[0] for k in range(len(self.units))]
        matrices = [
            matrix[first:-1]
            for first, matrix in zip(skipped, self.matrices, strict=True)
        ]

        def bar(t: tf.Tensor, states: Any, cells: Any, sums: Any) -> tuple[Any, ...]:
            states, cells, sums = list(states), list(cells), list(sums)
            x = None
            for k in reversed(range(len(self.units))):
                joined, gates, squashed, before = (a.read(t) for a in saved[k])
                if x is not None:
                    states[k] += x * self.masks[k]
                units = self.units[k]
                found = _cell_gradient(gates, squashed, before, states[k], cells[k])
                change, cells[k] = _of_width(found, 4 * units, units)
                sums[k] += tf.matmul(joined, change, transpose_a=True)
                back = tf.matmul(change, matrices[k], transpose_b=True)
                first = self.inputs[k] - skipped[k]
                x, states[k] = back[:, :first], back[:, first:]
            return t - 1, states, cells, sums

        start = (
            self.num_bars - 1,
            [*self.zeros[:-1], upstream],
            list(self.zeros),
            [tf.zeros_like(matrix) for matrix in self.matrices],
        )
        *_, sums = tf.while_loop(
            lambda t, *_: t >= 0, bar, start, maximum_iterations=self.num_bars
        )
        result = []
        for total, scale, inputs in zip(sums, self.scales, self.inputs, strict=True):
            scaled = total * scale
            result += [scaled[:inputs], scaled[inputs:-1], scaled[-1]]
        return result


def _of_width(values: Sequence[tf.Tensor], *widths: int) -> list[tf.Tensor]:
    """States the numbers of columns, which a compiled function does not."""
    rows = zip(values, widths, strict=True)
    return [tf.ensure_shape(value, [None, width]) for value, width in rows]


@tf.function(input_signature=[_MATRIX] * 2, jit_compile=True, autograph=False)
def _cell(scaled: tf.Tensor, cell: tf.Tensor) -> tuple[tf.Tensor, ...]:
    """Returns gates before their affine map, tanh of the cell state, it, state."""
    gates = tf.tanh(scaled)
    i, f, candidate, o = tf.split(gates, 4, axis=1)
    cell = (0.5 * f + 0.5) * cell + (0.5 * i + 0.5) * candidate
    squashed = tf.tanh(cell)
    return gates, squashed, cell, (0.5 * o + 0.5) * squashed


@tf.function(input_signature=[_MATRIX] * 2, jit_compile=True, autograph=False)
def _cell_alone(scaled: tf.Tensor, cell: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns cell state and state."""
    return _cell.python_function(scaled, cell)[2:]


@tf.function(input_signature=[_MATRIX] * 5, jit_compile=True, autograph=False)
def _cell_gradient(
    gates: tf.Tensor,
    squashed: tf.Tensor,
    cell: tf.Tensor,
    state_gradient: tf.Tensor,
    cell_gradient: tf.Tensor,
) -> tuple[tf.Tensor, ...]:
    """Returns the gradients of `scaled` and of the cell state before."""
    i, f, candidate, o = tf.split(gates, 4, axis=1)
    i, f, o = 0.5 * i + 0.5, 0.5 * f + 0.5, 0.5 * o + 0.5
    cell_gradient += state_gradient * o * (1.0 - squashed * squashed)
    change = tf.concat(
        [
            0.5 * cell_gradient * candidate,
            0.5 * cell_gradient * cell,
            cell_gradient * i,
            0.5 * state_gradient * squashed,
        ],
        axis=1,
    )
    return change * (1.0 - gates * gates), cell_gradient * f
