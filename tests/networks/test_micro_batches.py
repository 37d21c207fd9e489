import keras
import numpy as np
import pytest
import tensorflow as tf
from world.networks import batch, build

from networks.branched import BranchedTraining


def whole_batch_loss(y_true, y_pred):
    """As of positions: no sum over windows."""
    earned = y_pred[:, 0] * tf.cast(y_true, tf.float32)
    return -tf.reduce_mean(earned) / (tf.math.reduce_std(earned) + 0.1)


def dropping():
    """Dropout of bars and of numbers, regularised weights, no recurrence."""
    keras.utils.set_random_seed(3)
    layers = keras.layers
    x = inputs = keras.Input((8, 3))
    x = layers.SpatialDropout1D(0.4)(x)
    x = layers.Conv1D(4, 3, kernel_regularizer="l2")(x)
    x = layers.Flatten()(layers.Dropout(0.4)(x))
    network = keras.Model(inputs, layers.Dense(3, "softmax")(x))
    model = BranchedTraining(network, num_branches=2, odds=(0.5, 1.0, 0.7))
    model.compile("adam", loss=whole_batch_loss, metrics=["accuracy"])
    model.build((None, 8, 3))
    model.optimizer.build(model.trainable_variables)  # or the step is traced twice
    return model


def recurrent():
    return build(num_branches=1, lstm_units=(4, 3), dropout_rate=0.3, optimizer="adamw")


def drawing_at_inference():
    """Keras draws the masks of recurrent dropout outside training, too."""
    fields = {"bidirectional": True, "recurrent_dropout": 0.3, "dropout_rate": 0.3}
    return build(num_branches=1, lstm_units=(3,), optimizer="adamw", **fields)


@pytest.mark.parametrize(
    ("make", "num_pieces"), [(dropping, 6), (recurrent, 6), (drawing_at_inference, 2)]
)
def test_pieces_of_a_batch_make_the_update_of_the_batch(make, num_pieces):
    x, y = batch(3 * 21)
    found = []
    for pieces in (1, num_pieces):
        model = make()
        model.micro_batches = pieces
        history = model.fit(
            *(x, y, 21, 2, 0),
            shuffle=False,
            validation_data=(x, y),
        ).history
        seeds = [v.numpy() for v in model.network.non_trainable_variables]
        found.append((model.get_weights(), seeds, model.predict(x, verbose=0), history))
    whole, apart = found
    for expected, got in zip(whole[0] + [whole[2]], apart[0] + [apart[2]], strict=True):
        np.testing.assert_allclose(got, expected, atol=2e-6)
    np.testing.assert_array_equal(whole[1], apart[1])  # the next masks are the same
    for name, values in whole[3].items():
        np.testing.assert_allclose(apart[3][name], values, rtol=1e-5)


def test_statistics_of_a_batch_are_the_mean_over_its_pieces():
    inputs = keras.Input((2, 1))
    x = keras.layers.BatchNormalization(momentum=0.5)(inputs)
    x = keras.layers.Dense(3, "softmax")(keras.layers.Flatten()(x))
    model = BranchedTraining(keras.Model(inputs, x))
    model.compile("sgd", loss="sparse_categorical_crossentropy")
    model.micro_batches = 2
    x = np.repeat([0.0, 4.0, 6.0, 10.0], 2).reshape(4, 2, 1).astype(np.float32)
    model.train_on_batch(x, np.zeros(4))
    mean, variance = (v.numpy() for v in model.network.non_trainable_variables)
    assert mean == pytest.approx([2.5])  # half of the old 0 and of 5, as in one piece
    assert variance == pytest.approx([2.5])  # half of the old 1 and of 4 in each piece
