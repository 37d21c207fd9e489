"""A step in pieces of its batch, one after another: less memory, the same update.

In: outputs and gradients of a batch from slices of it. Out: the model in training
(`branched`), how many pieces there are (`models.keras_adapter`).

A loss asks for all outputs, an output for its own windows alone. So the outputs are
computed first, without what a gradient needs; the gradient of the loss by them is
small, and a second pass carries it to the weights (Gao et al., 2021, "Scaling Deep
Contrastive Learning Batch Size under Memory Limited Setup"). Any loss is that of the
whole batch, one of positions, too. Both passes and all pieces draw the dropout of the
whole batch; batch normalisation alone sees a piece only.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import tensorflow as tf


class MicroBatches:
    """Computes a function of windows in pieces. To be used while a graph is built.

    Args:
        compute: From (num_windows, bars, features) to (num_windows, num_outputs).
        num_pieces: Pieces of a batch; fewer where it has fewer windows.
        state: The variables that a call changes: seeds of dropout, which go on as if
            there were one piece; in training statistics, which become the pieces' mean.
    """

    def __init__(
        self,
        compute: Callable[[tf.Tensor], tf.Tensor],
        *,
        num_pieces: int,
        state: Sequence[Any] = (),
    ) -> None:
        self.compute = compute
        self.num_pieces = num_pieces
        self.state = state

    def outputs(self, windows: tf.Tensor) -> tf.Tensor:
        """Returns (num_windows, num_outputs), what one call would return."""

        def piece(first: tf.Tensor, last: tf.Tensor, found: Any) -> Any:
            return found.write(found.size(), self.compute(windows[first:last]))

        found = tf.TensorArray(tf.float32, 0, dynamic_size=True, infer_shape=False)
        return self._each(windows, piece, found).concat()

    def gradients(
        self, windows: tf.Tensor, upstream: tf.Tensor, sums: list[Any], weights: Any
    ) -> list[tf.Tensor]:
        """Returns `sums` with the gradient by each weight added.

        Args:
            windows: (num_windows, bars, features).
            upstream: (num_windows, num_outputs) gradient by the outputs.
            sums: What to add to, one for each weight.
            weights: What the gradient is by.
        """

        def piece(first: tf.Tensor, last: tf.Tensor, sums: Any) -> Any:
            with tf.GradientTape() as tape:
                outputs = self.compute(windows[first:last])
            found = tape.gradient(
                outputs,
                weights,
                output_gradients=upstream[first:last],
                unconnected_gradients=tf.UnconnectedGradients.ZERO,
            )
            return [total + each for total, each in zip(sums, found, strict=True)]

        return self._each(windows, piece, sums)

    def _each(self, windows: tf.Tensor, piece: Callable[..., Any], carried: Any) -> Any:
        """Returns what `piece` carries from the first rows to the last."""
        rows = tf.shape(windows)[0]
        count = tf.clip_by_value(rows, 1, self.num_pieces)
        before = [tf.identity(variable) for variable in self.state]
        statistics = [each for each in self.state if "float" in str(each.dtype)]

        def body(number: tf.Tensor, means: Any, carried: Any) -> Any:
            first, last = rows * number // count, rows * (number + 1) // count
            for variable, value in zip(self.state, before, strict=True):
                variable.assign(value)
            with _dropout_of_rows(first, last, rows):
                carried = piece(first, last, carried)
            share = tf.cast(last - first, tf.float32) / tf.cast(rows, tf.float32)
            means = [
                mean + share * tf.convert_to_tensor(variable)
                for mean, variable in zip(means, statistics, strict=True)
            ]
            return number + 1, means, carried

        start = [tf.zeros(variable.shape) for variable in statistics]
        _, means, carried = tf.while_loop(
            lambda number, *_: number < count,
            body,
            (0, start, carried),
            parallel_iterations=1,
        )
        for variable, mean in zip(statistics, means, strict=True):
            variable.assign(mean)
        return carried


@contextlib.contextmanager
def _dropout_of_rows(
    first: tf.Tensor, last: tf.Tensor, rows: tf.Tensor
) -> Iterator[None]:
    """Lets dropout draw the masks of all rows, and take those of some.

    Keras's layers draw them by this function of TensorFlow, each with a seed that its
    state has given before.
    """
    whole = tf.nn.experimental.stateless_dropout

    def dropout(
        x: Any, rate: Any, seed: Any, noise_shape: Any = None, **options: Any
    ) -> Any:
        shape = noise_shape if isinstance(noise_shape, list | tuple) else None
        if shape is None:
            shape = tf.unstack(tf.shape(x), x.shape.rank)
        if isinstance(shape[0], int) and shape[0] == 1:
            return whole(x, rate, seed, noise_shape=noise_shape, **options)
        # Layers that join bars to rows have several a window.
        each = tf.shape(x)[0] // tf.maximum(1, last - first)
        ones = tf.ones([rows * each, *shape[1:]], x.dtype)
        masks = whole(ones, rate, seed, **options)
        return x * masks[first * each : last * each]

    tf.nn.experimental.stateless_dropout = dropout
    try:
        yield
    finally:
        tf.nn.experimental.stateless_dropout = whole
