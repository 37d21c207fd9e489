import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from world.frames import CORE8, TINY, make_own_frame

import utils
from artifacts import keras_files
from config import MODELS, Config
from networks.families import (
    NETWORKS,
    build_network,
    feature_extractor,
    has_batch_norm,
    sinusoidal_positions,
)
from predictor import Predictor
from preprocessing.windows import cut_windows
from settings import sizes
from settings.network_fields import MAX_POSITIONS
from trainer import StandaloneTrainer
from utils import ConfigError

# Every family at a size that builds and trains in a moment.
SMALL = {
    "sequence_length": 8,
    "lstm_units": (4, 3),
    "gru_units": (4, 3),
    "cnn_filters": (4, 6),
    "cnn_kernels": (3, 5),
    "cnn_lstm_filters": (4, 6),
    "cnn_lstm_kernels": (3, 3),
    "cnn_lstm_units": (8, 4),
    "tcn_filters": 4,
    "attention_blocks": 2,
    "attention_heads": 2,
    "attention_dim": 8,
    "attention_ff_dim": 16,
    "dense_units": (5,),
    "gate_units": 4,
}
# Its members one layer deep: to trace what is deeper takes most of the time.
SHALLOW = {
    "lstm_units": (4,),
    "cnn_filters": (4,),
    "cnn_kernels": (3,),
    "attention_blocks": 1,
}


def small(model, num_features=3, dtype="float32", **fields):
    keras.utils.set_random_seed(1)
    config = Config(**SMALL | {"model": model} | fields)
    return build_network(config, num_features, dtype=dtype)


def windows(rows=32, num_features=3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((rows, 8, num_features)).astype(np.float32)


def trainable(network):
    return sum(int(np.prod(item.shape)) for item in network.trainable_variables)


def test_every_family_has_a_builder_and_a_size():
    assert set(NETWORKS) == {*sizes._PARAMETERS} == {*sizes._KEPT}
    assert set(NETWORKS) == {*sizes._RUNTIME_BYTES}
    assert set(NETWORKS) <= set(MODELS)


# By hand, layer by layer, for 8 features and window 120. The head 32-16-3 has
# 32 (i + 1) + 16 x 33 + 3 x 17 = 32 i + 611 parameters on i inputs.
DEFAULTS = {
    # 4 x 128 (8 + 129) + 4 x 64 (128 + 65) + 4 x 32 (64 + 33)
    # = 70,144 + 49,408 + 12,416; head on 32: 1,635
    "lstm": (133_603, 133_603),
    # 3 x 128 (8 + 130) + 2 x 3 x 128 (128 + 130) = 52,992 + 198,144; head: 4,707
    "gru": (255_843, 255_843),
    # 32 (3 x 8 + 1) + 64 (5 x 32 + 1) + 128 (7 x 64 + 1) = 800 + 10,304 + 57,472;
    # scale and shift 2 x 224 = 448, as many statistics; head on 15 x 128: 62,051
    "cnn": (131_523, 131_075),
    # 64 (3 x 8 + 1) + 128 (3 x 64 + 1) + 256 (3 x 128 + 1) = 1,600 + 24,704 + 98,560;
    # 2 x 448 = 896 twice; 2 x 4 x 256 (256 + 257) = 1,050,624; head on 256: 8,803
    "cnn_lstm": (1_186_083, 1_185_187),
    # Means of 1, 2, 4, 8, 16, 32 and 57 bars: 32 x (7 x 8 + 1) + 16 x 33 + 3 x 17
    # = 1,824 + 528 + 51
    "mlp": (2_403, 2_403),
    # 32 (3 x 8 + 1) + 9 x 32 (3 x 32 + 1) = 800 + 27,936; shortcut 32 x 9 = 288; scale
    # and shift 10 x 64 = 640, as many statistics; head on 32: 1,635
    "tcn": (31_939, 31_299),
    # 128 x 9 = 1,152; a block 4 x 128 x 129 + 512 x 129 + 128 x 513 + 4 x 128
    # = 66,048 + 66,048 + 65,664 + 512 = 198,272, twice; the last norm 256; head 4,707
    "attention": (402_659, 402_659),
    # LSTM two ways: 2 x 70,144 + 2 x 256 (256 + 65) + 2 x 128 (128 + 33) = 140,288
    # + 164,352 + 41,216, head on 64: 2,659; together 348,515. CNN and attention as
    # above. Gate on 16: 64 x 17 + 3 x 65 = 1,283.
    "ensemble": (883_980, 883_532),
}


@pytest.mark.parametrize("model", DEFAULTS)
def test_parameters_at_defaults(model):
    network = build_network(Config(model=model), 8)
    assert (network.count_params(), trainable(network)) == DEFAULTS[model]
    assert network.output_shape == (None, 3)
    assert network.output.dtype == "float32"


# Parameters counted by hand for windows of 30 bars, 40 features, one output.
COUNTED_BY_HAND = {
    # 602,625 in PyTorch, whose LSTM has two biases: 2 x 2 x 4 x 128 = 2,048 more.
    # 2 x 4 x 128 (40 + 129) + 2 x 4 x 128 (256 + 129) = 173,056 + 394,240;
    # 128 x 257 = 32,896; 2 x 128; 129. Keras counts 2 x 128 statistics, too.
    "lstm": (
        {"lstm_units": (128, 128), "bidirectional": True, "dense_units": (128,)},
        600_577,
        600_833,
    ),
    # 32 x 121 + 64 x 161 + 128 x 449 = 71,648 with 448; 3 x 128 -> 128 -> 64 -> 1:
    # 49,280 + 8,256 + 65 with 256 + 128. Statistics: 2 (224 + 192) = 832.
    "cnn": ({"dense_units": (128, 64)}, 130_081, 130_913),
    # 128 x 41 = 5,248; 2 x 198,272; 64 x 129 + 65 = 8,321 with 128 and 128.
    "attention": (
        {"attention_norm": "post", "dense_units": (64,)},
        410_241,
        410_369,
    ),
}


@pytest.mark.parametrize("model", COUNTED_BY_HAND)
def test_parameters_are_those_counted_by_hand(model):
    fields, expected, with_statistics = COUNTED_BY_HAND[model]
    config = Config(
        model=model,
        target="return",
        sequence_length=30,
        dense_batch_norm=True,
        **fields,
    )
    network = build_network(config, 40)
    assert trainable(network) == expected
    assert network.count_params() == with_statistics
    assert network.output_shape == (None, 1)


VARIANTS = [
    {},
    {"target": "price", "dense_units": (), "loss": "quantile"}
    | {"quantiles": (0.1, 0.5, 0.9)},
    {"bidirectional": True, "dense_batch_norm": True},
    {"conv_batch_norm": False, "attention_norm": "post", "dense_units": (7, 6)},
    {"cnn_lstm_residual": True, "cnn_lstm_attention": True, "mlp_inputs": "bars"},
    {"sequence_length": 21, "cnn_lstm_filters": (6, 6), "cnn_lstm_residual": True},
]


@pytest.mark.parametrize("fields", VARIANTS)
@pytest.mark.parametrize("model", NETWORKS)
def test_sizes_are_those_of_the_built_network(model, fields):
    network = small(model, num_features=5, **fields)
    config = Config(**SMALL | {"model": model} | fields)
    assert sizes.count_parameters(config, 5) == network.count_params()


def test_memory_is_the_sum_of_its_parts():
    estimate = sizes.estimate_memory(Config(), 8, 1_000_000)
    assert estimate["parameters"] == 133_603 * 4 * 4
    assert estimate["feature_array"] == 32_000_000
    # 120 steps, 224 units, 10 numbers of 4 bytes for each of 256 windows
    assert estimate["activations"] == 120 * 224 * 10 * 4 * 256
    assert estimate["total"] == sum(estimate.values()) - estimate["total"]
    double = sizes.estimate_memory(Config(batch_size=512), 8, 0)
    assert double["activations"] == 2 * estimate["activations"]


def test_a_run_that_needs_more_than_is_free_is_told_the_batch_that_fits(monkeypatch):
    config = Config(batch_size=4096)  # 10 numbers a unit and bar, 4 bytes each
    needed, kept = sizes.estimate_memory(config, 8, 0)["total"], 4 * 10 * 224 * 120
    monkeypatch.setattr(utils, "address_space_left", lambda: None)
    monkeypatch.setattr(utils, "available_memory_bytes", lambda: needed)
    assert sizes.memory_problem(config, 8) is None
    monkeypatch.setattr(utils, "available_memory_bytes", lambda: needed - 96 * kept)
    assert "Use --batch-size 4000, or --allow-swap" in sizes.memory_problem(config, 8)
    assert sizes.memory_problem(config.replace(batch_size=4000), 8) is None
    assert sizes.memory_problem(config.replace(allow_swap=True), 8) is None
    assert "left" not in sizes.memory_problem(config, 8, num_rows=10**6)
    # Under a limit that fails in a step, pieces of the batch may fit.
    monkeypatch.setattr(utils, "available_memory_bytes", lambda: None)
    monkeypatch.setattr(utils, "address_space_left", lambda: needed - 96 * kept)
    assert sizes.memory_problem(config, 8) is None
    alone = config.replace(recovery=False)
    assert "left by ulimit -v" in sizes.memory_problem(alone, 8)
    monkeypatch.setattr(utils, "address_space_left", lambda: 10**8)
    assert "No batch fits" in sizes.memory_problem(config, 8)


def test_memory_of_control_groups_is_the_least_of_any_above(tmp_path):
    def write(name, text):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    assert utils._group_bytes(tmp_path) is None
    write("proc/self/cgroup", "0::/a/b\n4:memory:/c\n3:cpu:/c\n")
    for name, limit, used, cached in (
        ("a/b/memory.", "max", 5, 0),
        ("a/memory.", 900, 500, 100),
        ("memory/c/memory.", 9000, 1000, 0),
    ):
        end = "limit_in_bytes", "usage_in_bytes"
        names = end if name.startswith("memory/") else ("max", "current")
        for each, value in zip(names, (limit, used), strict=True):
            write(f"sys/fs/cgroup/{name}{each}", f"{value}\n")
        write(f"sys/fs/cgroup/{name}stat", f"file 7\ninactive_file {cached}\n")
    assert utils._group_bytes(tmp_path) == 500  # 900 - 500, of which 100 can be dropped


def test_memory_of_a_small_batch_is_that_of_a_prediction_step():
    of_one = sizes.estimate_memory(Config(batch_size=1), 8, 0)
    assert of_one["activations"] == 120 * 224 * 3 * 4 * 512


@pytest.mark.parametrize("fields", [{}, {"target": "return"}])
@pytest.mark.parametrize("model", NETWORKS)
def test_saved_networks_load_safely_and_answer_the_same(model, fields, tmp_path):
    extra = {"cnn_lstm_residual": True, "cnn_lstm_attention": True} | fields
    if model == "ensemble":  # whose members are saved alone, too
        extra |= SHALLOW
    network = small(model, **extra)
    path = tmp_path / "network.keras"
    network.save(path)
    loaded = keras_files.load_keras_model(path.read_bytes(), path)
    x = windows()
    expected = network(x).numpy()
    assert np.array_equal(loaded(x), expected)
    if not fields:
        np.testing.assert_allclose(expected.sum(axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("model", NETWORKS)
def test_every_family_learns(model):
    # The ensemble's members learn alone at their full depth.
    fields = SHALLOW if model == "ensemble" else {}
    network = small(model, dropout_rate=0.1, **fields)
    x = windows(256)
    y = np.digitize(x[:, :, 0].mean(axis=1), [-0.15, 0.15])
    loss = keras.losses.SparseCategoricalCrossentropy()
    network.compile(keras.optimizers.Adam(0.02), loss)
    network.optimizer.build(network.trainable_variables)  # or it is traced twice
    network.fit(x, y, batch_size=64, epochs=15, verbose=0)
    assert float(loss(y, network(x))) < 0.8  # of log(3) = 1.10 without the windows


@pytest.mark.parametrize("model", NETWORKS)
def test_the_output_depends_on_every_bar_and_on_their_order(model):
    network, x = small(model), windows(4)
    asked = np.stack([x] * 9 + [x[:, ::-1]])
    for bar in range(8):
        asked[bar, :, bar] += 1.0
    answers = network(asked.reshape(-1, 8, 3)).numpy().reshape(10, 4, 3)
    *changed, before, reversed_ = answers
    assert len(changed) == 8
    for answer in changed:
        assert not np.allclose(answer, before, atol=1e-7)
    assert not np.allclose(reversed_, before, atol=1e-5)


@pytest.mark.parametrize("bars", [1, 2, 8])
def test_means_of_the_mlp_are_coarser_with_age(bars):
    network = small("mlp", sequence_length=bars, mlp_inputs="means", dense_units=())
    x = windows()[:, -bars:]
    blocks = {1: [[7]], 2: [[7], [6]], 8: [[7], [5, 6], [1, 2, 3, 4], [0]]}[bars]
    means = np.hstack([windows()[:, block].mean(axis=1) for block in blocks])
    features = feature_extractor(network)(x).numpy()
    np.testing.assert_allclose(features, means, atol=1e-6)


def causal_network(bars, kernel):
    """A TCN without normalisation, what its last block says of each bar beside it."""
    fields = {"sequence_length": bars, "tcn_kernel": kernel, "conv_batch_norm": False}
    network = small("tcn", **fields, tcn_filters=16, dense_units=())
    last = network.layers[-4].output
    assert last.shape == (None, bars, 16)
    return network, keras.Model(network.input, last)


# 1 + 2 (kernel - 1) (2^blocks - 1) bars seen: 5, 13, 29 of kernel 3; 7, 19 of 4.
@pytest.mark.parametrize(
    ("bars", "kernel", "blocks"),
    [(1, 3, 1), (5, 3, 1), (6, 3, 2), (13, 3, 2), (14, 3, 3), (29, 3, 3), (30, 3, 4)]
    + [(3, 2, 1), (4, 2, 2), (7, 4, 1), (8, 4, 2), (19, 4, 2), (20, 4, 3)],
)
def test_blocks_of_the_tcn_see_the_oldest_bar_and_none_is_spare(bars, kernel, blocks):
    network, _ = causal_network(bars, kernel)
    assert sum(layer.name.startswith("add_") for layer in network.layers) == blocks
    x = np.ones((1, bars, 3), np.float32)
    oldest = x.copy()
    oldest[:, 0] += 5.0
    assert not np.allclose(network(oldest), network(x), atol=1e-7)


def test_no_bar_of_the_tcn_sees_a_later_one():
    _, by_bar = causal_network(21, 3)
    x = windows(2)[:, :1] * np.linspace(-1, 1, 21, dtype=np.float32)[None, :, None]
    before = by_bar(x).numpy()
    for bar in range(21):
        changed = x.copy()
        changed[:, bar] += 5.0
        after = by_bar(changed).numpy()
        np.testing.assert_array_equal(after[:, :bar], before[:, :bar])
        assert not np.allclose(after[:, bar], before[:, bar], atol=1e-6)


def test_positions():
    positions = sinusoidal_positions(3, 4)
    # sin and cos of bar, then of bar / 100
    assert positions.tolist() == [
        [0.0, 1.0, 0.0, 1.0],
        [0.841471, 0.5403023, 0.0099998, 0.99995],
        [0.9092974, -0.4161468, 0.0199987, 0.9998],
    ]


def test_without_positions_attention_would_not_see_the_order():
    network, x = small("attention"), windows(4)
    order = np.random.default_rng(0).permutation(8)
    network.get_layer("positions").offset = 0.0
    np.testing.assert_allclose(network(x[:, order]), network(x), atol=1e-6)


def test_pre_norm_leaves_a_straight_path():
    # With all blocks' additions at 0, what is read is what arrives at the last norm.
    network = small("attention")
    for number in (1, 2):
        for layer in (f"attention_{number}", f"ff_out_{number}"):
            for variable in network.get_layer(layer).trainable_variables:
                variable.assign(tf.zeros_like(variable))
    through = keras.Model(
        network.input,
        [network.get_layer("positions").output, network.get_layer("norm_last").input],
    )
    first, last = through(windows())
    np.testing.assert_array_equal(first, last)


MEMBERS = ("bidirectional_lstm", "cnn", "attention")


def test_ensemble_is_the_weighted_sum_of_its_members():
    network, x = small("ensemble"), windows()
    gate = keras.Model(network.input, network.get_layer("gate").output)
    weights = gate(x).numpy()
    assert weights.shape == (32, 3) and (weights > 0).all()
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-6)
    assert weights.std(axis=0).min() > 1e-3  # it depends on the window
    members = [network.get_layer(name)(x).numpy() for name in MEMBERS]
    mixed = sum(weights[:, [i]] * member for i, member in enumerate(members))
    np.testing.assert_allclose(network(x), mixed, atol=1e-6)


@pytest.mark.parametrize("target", ["signal", "return"])
def test_gradients_reach_every_weight_of_every_member(target):
    network = small("ensemble", target=target, dropout_rate=0.0)
    x = tf.constant(windows(64))
    with tf.GradientTape() as tape:
        y = network(x, training=True)
        loss = tf.reduce_sum(tf.square(y - tf.random.stateless_normal(y.shape, (1, 2))))
    members = [network.get_layer(name) for name in MEMBERS]
    weights = [item for member in members for item in member.trainable_variables]
    weights += network.get_layer("gate").trainable_variables
    gradients = tape.gradient(loss, weights)
    assert not any(gradient is None for gradient in gradients)
    silent = {
        weight.path
        for weight, gradient in zip(weights, gradients, strict=True)
        if float(tf.reduce_max(tf.abs(gradient))) < 1e-5
    }
    # Batch normalisation takes away what a convolution's bias adds, softmax what the
    # same number added to every key does: mathematics, not a missing path.
    assert silent <= {
        *("conv_1/bias", "conv_2/bias"),
        *("attention_1/key/bias", "attention_2/key/bias"),
    }


@pytest.mark.parametrize(
    ("fields", "size"),
    [
        ({"model": "cnn_lstm"}, 5),
        ({"model": "cnn_lstm", "dense_units": ()}, 4),
        ({"model": "cnn_lstm", "dense_units": (), "cnn_lstm_attention": True}, 4),
        ({"model": "lstm", "dense_units": (), "bidirectional": True}, 6),
        ({"model": "cnn", "dense_units": ()}, 12),
        ({"model": "tcn", "dense_units": ()}, 4),
        ({"model": "attention", "dense_units": ()}, 8),
    ],
)
def test_feature_extractor_ends_at_the_last_hidden_layer(fields, size, tmp_path):
    network, x = small(**fields), windows()
    network.save(tmp_path / "network.keras")
    data = (tmp_path / "network.keras").read_bytes()
    for source in (network, keras_files.load_keras_model(data, "network")):
        extractor = feature_extractor(source)
        assert extractor.output_shape == (None, size)
        features = extractor(x)
        head = source.layers[-1]
        np.testing.assert_allclose(head(features).numpy(), network(x), atol=1e-6)
    # The weights are the network's own: what is learned later shows.
    network.layers[1].trainable_variables[0].assign_add(
        tf.ones_like(network.layers[1].trainable_variables[0])
    )
    assert not np.allclose(feature_extractor(network)(x), features)


def test_an_ensemble_has_no_last_hidden_layer():
    network = small("ensemble")
    with pytest.raises(ValueError, match="ends in Dot. Take a member"):
        feature_extractor(network)
    assert feature_extractor(network.get_layer("cnn")).output_shape == (None, 5)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"model": "lstm"}, False),
        ({"model": "lstm", "dense_batch_norm": True}, True),
        ({"model": "attention"}, False),
        ({"model": "cnn"}, True),
        ({"model": "cnn", "conv_batch_norm": False}, False),
        ({"model": "cnn_lstm"}, True),
        ({"model": "tcn"}, True),
        ({"model": "ensemble"}, True),
        ({"model": "ensemble", "conv_batch_norm": False}, False),
    ],
)
def test_batch_normalisation_is_found_in_members_too(fields, expected):
    assert has_batch_norm(small(**fields)) is expected


@pytest.mark.parametrize("model", NETWORKS)
def test_half_precision_leaves_weights_and_outputs_at_32_bits(model):
    network = small(model, dtype="mixed_float16", cnn_lstm_attention=True)
    assert network.output.dtype == "float32"
    assert {item.dtype for item in network.trainable_variables} == {"float32"}
    inner = [layer for layer in network.layers if "dense_1" in layer.name]
    assert all(layer.compute_dtype == "float16" for layer in inner)
    assert np.isfinite(network(windows(), training=True).numpy()).all()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model": "cnn", "cnn_kernels": (3,)}, "one kernel for each convolution"),
        ({"model": "cnn", "sequence_length": 3}, "expected at least 4 for 2 convol"),
        ({"model": "ensemble", "sequence_length": 3}, "expected at least 4 for 2 con"),
        ({"model": "cnn_lstm", "cnn_lstm_units": ()}, "cnn_lstm_units: expected at"),
        ({"model": "gru", "gru_units": ()}, "gru_units: expected at least one layer"),
        ({"model": "attention", "attention_heads": 3}, "even multiple of attention"),
        (
            {"model": "attention", "attention_heads": 1, "attention_dim": 7},
            "even multiple of attention_heads. Received: 7 for 1 heads",
        ),
        ({"model": "attention", "sequence_length": 40_000}, "a product of at most"),
        (
            {"model": "cnn_lstm", "cnn_lstm_attention": True, "attention_heads": 3},
            "cnn_lstm_units: expected a multiple of attention_heads",
        ),
    ],
)
def test_impossible_networks_are_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        Config(**SMALL | fields)
    # What another family would not like is none of this one's business.
    Config(**SMALL | {"gru_units": (1,)} | fields | {"model": "lstm"})


def test_the_longest_positions_still_load(tmp_path):
    config = Config(
        **SMALL
        | {
            "model": "attention",
            "attention_blocks": 1,
            "sequence_length": MAX_POSITIONS // 8,
        }
    )
    build_network(config, 3).save(tmp_path / "network.keras")
    data = (tmp_path / "network.keras").read_bytes()
    assert keras_files.load_keras_model(data, "network").count_params()


def test_a_run_of_the_ensemble_is_published_and_answers(tmp_path):
    config = Config(
        **TINY
        | SMALL
        | SHALLOW
        | {
            "model": "ensemble",
            "outputs_dir": str(tmp_path),
            "epochs": 1,
            "windows_per_epoch": 128,
            "report": "light",
            "baseline_model": False,
            "optimizer": "sgd",
        }
    )
    frame = make_own_frame(900, seed=3)
    folder = StandaloneTrainer(config, frame=frame).run_training()
    predictions = pd.read_parquet(next(folder.glob("predictions_*.parquet")))
    features = frame[list(CORE8)].to_numpy(np.float32)
    rows = predictions["row"].to_numpy()[:5]
    answers = Predictor(folder).predict_windows(
        cut_windows(features, rows, window_bars=8)
    )
    columns = ["calibrated_short", "calibrated_hold", "calibrated_long"]
    np.testing.assert_allclose(answers, predictions[columns][:5], atol=1e-5)


def test_the_gate_reads_mean_and_maximum_of_each_feature():
    network = small("ensemble")
    gate = keras.Model(network.input, network.get_layer("gate").output)
    x = windows(1)
    np.testing.assert_allclose(gate(x[:, ::-1]), gate(x), atol=1e-6)  # no order
    wide, high = x.copy(), x.copy()
    wide[0, np.argmax(x[0, :, 0]), 0] += 1.0
    wide[0, np.argmin(x[0, :, 0]), 0] -= 1.0  # the same mean
    high[0, np.argmin(x[0, :, 0]), 0] -= 1.0  # the same maximum
    for changed in (wide, high):
        assert not np.allclose(gate(changed), gate(x), atol=1e-5)


def test_a_silent_residual_convolution_lets_its_input_through():
    network = small("cnn_lstm", cnn_lstm_residual=True)
    conv = network.get_layer("conv_1")
    conv.set_weights([np.zeros_like(weight) for weight in conv.get_weights()])
    through = keras.Model(
        network.input,
        [network.get_layer("shortcut_1").output, network.get_layer("add_1").output],
    )
    shortcut, added = through(windows())
    assert np.abs(shortcut).max() > 0
    np.testing.assert_allclose(added, shortcut, atol=1e-6)


def test_attention_drops_at_its_own_rate():
    network = small("attention", dropout_rate=0.3, attention_dropout=0.1)
    rates = {
        layer.name: layer.rate
        for layer in network.layers
        if isinstance(layer, keras.layers.Dropout)
    }
    assert rates == {
        **{"drop_a1": 0.1, "drop_f1": 0.1, "drop_a2": 0.1, "drop_f2": 0.1},
        "drop_d1": 0.3,
    }
