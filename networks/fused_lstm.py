"""The LSTM layers of a network in one loop over time: the same on a CPU, faster.

In: which networks can be computed so, their forward pass and its gradient. Out: the
network itself (`families`), which is what is saved; this module reads its weights and
owns none.

Keras runs one loop a layer: half of a training step on a CPU is no matrix product. Here
a bar goes through all layers before the next one, so that it stays in the cache; gates
and their gradient are programs compiled by XLA; the input, the state and a one for
the bias share one matrix product. Figures: `benchmarks/bench_training.py`.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

_BARS_A_TURN = (6, 5, 4, 3, 2, 1)  # of which the first that divides the bars
_ROWS = 8  # windows come in multiples: XLA compiles the gates anew for each number
# tanh x = x p(x^2) / q(x^2), fitted to the least relative error for |x| up to the edge.
_EDGE = 8.0  # tanh is 1 - 2e-7 there, and 1 for us
_P = 1.5230464e-08, 2.1894697e-05, 3.5716002e-03, 1.3444500e-01, 1.0
_Q = 8.5224661e-07, 3.4112955e-04, 2.6164452e-02, 4.6777827e-01, 1.0


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
        rows = tf.shape(windows)[0]
        whole = tf.pad(windows, [[0, -rows % _ROWS], [0, 0], [0, 0]])
        if training:
            x = _lstm_stack(whole, self._masks(rows), weights)[:rows]
        else:
            x = _Forward(whole, (), weights).run(saves=False)[0][-1][:rows]
        for layer in self.head:
            x = layer(x, training=training)
        return x

    def _masks(self, rows: tf.Tensor) -> list[tf.Tensor]:
        """Returns what each layer's output is multiplied by, (whole rows, units)."""
        masks = []
        for layer, mask in zip(self.lstm_layers, self.masks, strict=False):
            ones = tf.ones([rows, 1, layer.units])
            drawn = (ones if mask is None else mask(ones, training=True))[:, 0]
            masks.append(tf.pad(drawn, [[0, -rows % _ROWS], [0, 0]]))
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
        # A turn of the loop costs as much as the small operations of a bar.
        self.bars_a_turn = next(n for n in _BARS_A_TURN if self.num_bars % n == 0)
        self.masks = masks
        rows = tf.shape(windows)[0]
        self.bars = self._array(self.num_bars, windows.shape[2]).unstack(
            tf.transpose(windows, [1, 0, 2])
        )
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

    @staticmethod
    def _array(length: int, width: int) -> tf.TensorArray:
        return tf.TensorArray(tf.float32, length, element_shape=[None, width])

    def run(self, *, saves: bool) -> tuple[Any, Any]:
        """Returns each layer's last state, and what its gradient needs of each bar.

        The latter are arrays over time, if `saves`: joined input, gates, and the cell
        states, of which the first is the one before the first bar.
        """

        def turn(t: tf.Tensor, states: Any, cells: Any, saved: Any) -> tuple[Any, ...]:
            states, cells, saved = list(states), list(cells), list(saved)
            for now in (t + n for n in range(self.bars_a_turn)):
                x = self.bars.read(now)
                for k in range(len(self.units)):
                    joined = tf.concat([x, states[k], self.ones], 1)
                    scaled = joined @ self.matrices[k]
                    if saves:
                        gates, cells[k], states[k] = _cell(scaled, cells[k])
                        saved[k] = (
                            saved[k][0].write(now, joined),
                            saved[k][1].write(now, gates),
                            saved[k][2].write(now + 1, cells[k]),
                        )
                    else:
                        cells[k], states[k] = _cell_alone(scaled, cells[k])
                    x = states[k] * self.masks[k] if k < len(self.masks) else states[k]
            return t + self.bars_a_turn, states, cells, saved

        start = [
            (
                self._array(self.num_bars, inputs + units + 1),
                self._array(self.num_bars, 4 * units),
                self._array(self.num_bars + 1, units).write(0, zeros),
            )
            for inputs, units, zeros in zip(
                self.inputs, self.units, self.zeros, strict=True
            )
        ]
        _, states, _, saved = tf.while_loop(
            lambda t, *_: t < self.num_bars,
            turn,
            (0, list(self.zeros), list(self.zeros), start if saves else []),
            maximum_iterations=self.num_bars,
        )
        return states, saved

    def gradients(self, upstream: tf.Tensor, saved: Any) -> list[tf.Tensor]:
        """Returns the gradient of each weight, given that of the last state."""
        # What enters the first layer needs no gradient. Transposed once: a product with
        # the transposed matrix is a slower kernel.
        backward = [
            tf.transpose(matrix[0 if k else self.inputs[0] : -1])
            for k, matrix in enumerate(self.matrices)
        ]

        def turn(t: tf.Tensor, joins: Any, cells: Any, sums: Any) -> tuple[Any, ...]:
            joins, cells, sums = list(joins), list(cells), list(sums)
            for now in (t - n for n in range(self.bars_a_turn)):
                above: tuple[tf.Tensor, ...] = ()
                for k in reversed(range(len(self.units))):
                    joined, gates, states = saved[k]
                    gate = gates.read(now)
                    parts = _state_gradient(
                        gate, states.read(now + 1), cells[k], joins[k], *above
                    )
                    change, cells[k] = _cell_gradient(gate, states.read(now), *parts)
                    sums[k] += tf.matmul(joined.read(now), change, transpose_a=True)
                    joins[k] = change @ backward[k]
                    if k:
                        above = joins[k], self.masks[k - 1]
            return t - self.bars_a_turn, joins, cells, sums

        # The gradient of (input, state) that the bar after leaves to each layer.
        joins = [
            tf.pad(last, [[0, 0], [matrix.shape[1] - last.shape[1], 0]])
            for last, matrix in zip([*self.zeros[:-1], upstream], backward, strict=True)
        ]
        *_, sums = tf.while_loop(
            lambda t, *_: t >= 0,
            turn,
            (
                self.num_bars - 1,
                joins,
                list(self.zeros),
                [tf.zeros_like(matrix) for matrix in self.matrices],
            ),
            maximum_iterations=self.num_bars,
        )
        result = []
        for total, scale, inputs in zip(sums, self.scales, self.inputs, strict=True):
            scaled = total * scale
            result += [scaled[:inputs], scaled[inputs:-1], scaled[-1]]
        return result


def _tanh(x: tf.Tensor) -> tf.Tensor:
    """Returns tanh, to 5 units in the last place, as TensorFlow's own is.

    From the edge on it is 1, so that what is saturated has no gradient. XLA's own makes
    of each 16 numbers a detour through memory.
    """
    x = tf.where(x < -_EDGE, -_EDGE, x)  # so written, what is no number stays so
    x = tf.where(x > _EDGE, _EDGE, x)
    square = x * x
    p, q = (
        functools.reduce(lambda value, term: value * square + term, terms)
        for terms in (_P, _Q)
    )
    return tf.where(tf.abs(x) < _EDGE, x * p / q, x * (1.0 / _EDGE))


@tf.function(jit_compile=True, autograph=False)
def _cell(scaled: tf.Tensor, cell: tf.Tensor) -> tuple[tf.Tensor, ...]:
    """Returns gates before their affine map, cell state, state."""
    gates = _tanh(scaled)
    i, f, candidate, o = tf.split(gates, 4, axis=1)
    cell = (0.5 * f + 0.5) * cell + (0.5 * i + 0.5) * candidate
    return gates, cell, (0.5 * o + 0.5) * _tanh(cell)


@tf.function(jit_compile=True, autograph=False)
def _cell_alone(scaled: tf.Tensor, cell: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns cell state and state."""
    return _cell.python_function(scaled, cell)[1:]


@tf.function(jit_compile=True, autograph=False)
def _state_gradient(
    gates: tf.Tensor,
    cell: tf.Tensor,
    cell_gradient: tf.Tensor,
    join: tf.Tensor,
    above: tf.Tensor | None = None,
    mask: tf.Tensor | None = None,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the gradients of the cell state and of the output gate's `scaled`.

    A program of its own: XLA would do it again for each part of `_cell_gradient`.

    Args:
        gates: As `_cell` returns them.
        cell: Cell state.
        cell_gradient: Of the cell state, without what comes by the state.
        join: Gradient of (input, state) of the same layer at the bar after.
        above: The same of the next layer at this bar; none above the last layer.
        mask: What the next layer's input is the state times.
    """
    units = cell.shape[1]
    gradient = join[:, join.shape[1] - units :]
    if above is not None:
        gradient += above[:, :units] * mask
    squashed, gates_o = _tanh(cell), gates[:, 3 * units :]
    through = gradient * (0.5 * gates_o + 0.5) * (1.0 - squashed * squashed)
    change = 0.5 * gradient * squashed * (1.0 - gates_o * gates_o)
    return cell_gradient + through, change


@tf.function(jit_compile=True, autograph=False)
def _cell_gradient(
    gates: tf.Tensor,
    before: tf.Tensor,
    cell_gradient: tf.Tensor,
    output_change: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the gradients of `scaled` and of the cell state before.

    Args:
        gates: As `_cell` returns them.
        before: Cell state of the bar before.
        cell_gradient: As `_state_gradient` returns it, whole.
        output_change: The same, of the output gate's part of `scaled`.
    """
    i, f, candidate, _ = tf.split(gates, 4, axis=1)
    changes = [
        0.5 * cell_gradient * candidate * (1.0 - i * i),
        0.5 * cell_gradient * before * (1.0 - f * f),
        cell_gradient * (0.5 * i + 0.5) * (1.0 - candidate * candidate),
        output_change,
    ]
    return tf.concat(changes, axis=1), cell_gradient * (0.5 * f + 0.5)
