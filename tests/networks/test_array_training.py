"""The description's own calls: loaders of arrays, optimizers, a training."""

import keras
import numpy as np
import pytest

from config import ConfigError
from networks.array_training import (
    Trainer,
    create_data_loaders,
    create_walk_forward_loaders,
)
from networks.losses import CombinedLoss, MAELoss, MSELoss, create_loss_function
from networks.optimizers import create_optimizer, create_scheduler
from utils import DataError

NUM, BARS = 200, 5


def windows(num=NUM, bars=BARS):
    """Windows of one series: row `i` is in windows `i - bars + 1` to `i`, twice."""
    series = np.arange(num + bars - 1, dtype=np.float32)
    cut = np.lib.stride_tricks.sliding_window_view(series, bars)
    return np.stack([cut, -2 * cut], axis=2), np.sin(np.arange(num))


def rows_of(loader, x, bars=BARS):
    """The rows that the windows of a loader read, and those of their targets."""
    last = (loader.x[:, -1, 0]).astype(int)
    return {row + k for row in last for k in range(1 - bars, 2)}


@pytest.mark.parametrize("steps", [1, 5, 12])
def test_training_and_validation_share_no_bar(steps):
    x, y = windows()
    options = {"shuffle_train": False, "normalize": False}
    loaders = create_walk_forward_loaders(x, y, 32, 0.2, steps, **options)
    assert len(loaders) == steps
    for train, validation in loaders:
        assert not rows_of(train, x) & rows_of(validation, x)
        assert max(rows_of(train, x)) + 1 == min(rows_of(validation, x))
    validated = np.concatenate([later.x[:, 0, 0] for _, later in loaders])
    assert validated.tolist() == list(range(160, 200))
    assert len(loaders[0][0].x) == 155


def test_features_are_in_units_of_the_training_windows():
    x, y = windows()
    train, validation = create_data_loaders(x, y)
    np.testing.assert_allclose(train.x.mean(axis=(0, 1)), 0, atol=1e-5)
    np.testing.assert_allclose(train.x.std(axis=(0, 1)), 1, atol=1e-5)
    assert validation.x[..., 0].min() > train.x[..., 0].max()
    assert (len(train), train[4][0].shape) == (5, (27, BARS, 2))
    assert train[0][1].shape == (32, 1)
    first = [batch[1] for batch in train]
    assert sorted(np.concatenate(first).ravel()) == sorted(train.y.ravel())
    train.on_epoch_end()
    assert not np.array_equal(train[0][1], first[0])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x, y: create_data_loaders(x[:6], y[:6]), DataError, "more samples"),
        (lambda x, y: create_data_loaders(x[..., 0], y), DataError, "expected windows"),
        (lambda x, y: create_data_loaders(x, y[1:]), DataError, "a target for each"),
        (lambda x, y: create_data_loaders(x, y, 32, 1.0), ConfigError, "between 0 and"),
        (
            lambda x, y: create_walk_forward_loaders(x, y, gap=1),
            ConfigError,
            "Received: .'gap'",
        ),
    ],
)
def test_impossible_loaders_are_refused(call, error, message):
    with pytest.raises(error, match=message):
        call(*windows())


def test_the_described_training_runs_as_written(tmp_path):
    keras.utils.set_random_seed(0)
    X, y = windows()
    model = keras.Sequential(
        [keras.Input((BARS, 2)), keras.layers.Flatten(), keras.layers.Dense(1)]
    )
    loss_fn = CombinedLoss(
        losses={"mse": MSELoss(), "mae": MAELoss()}, weights={"mse": 0.7, "mae": 0.3}
    )
    optimizer = create_optimizer(model, "adam", lr=0.001)
    scheduler = create_scheduler(optimizer, "cosine", T_max=4)
    trainer_options = {"scheduler": scheduler, "max_grad_norm": 1.0, "device": "cuda"}
    results = []
    for train_loader, val_loader in create_walk_forward_loaders(
        X, y, batch_size=32, validation_fraction=0.2, num_steps=2, normalize=True
    ):
        trainer = Trainer(
            model=model,
            train_dataloader=train_loader,
            val_dataloader=val_loader,
            loss_fn=loss_fn,
            optimizer=optimizer,
            **trainer_options,
        )
        trainer.set_early_stopping(patience=15, min_delta=1e-4)
        trainer.set_checkpoint(str(tmp_path))
        results.append(trainer.fit(epochs=4, log_interval=5))
    assert [each["final_epoch"] for each in results] == [4, 4]
    rates = results[0]["history"]["learning_rate"]
    np.testing.assert_allclose(rates, [1e-3, 8.5355e-4, 5e-4, 1.4645e-4], rtol=1e-4)
    last = results[1]
    assert last["best_val_loss"] == min(last["history"]["val_loss"])
    again = model.evaluate(val_loader, verbose=0, return_dict=True)["loss"]
    assert again == pytest.approx(last["best_val_loss"], rel=1e-5)
    kept = keras.saving.load_model(tmp_path / "best_model.keras")
    assert kept.evaluate(val_loader, verbose=0, return_dict=True)["loss"] == again


@pytest.mark.parametrize(
    ("options", "received"),
    [
        ({"shuffle_train": True}, "one of 27, shuffle=True"),
        ({"shuffle_train": False, "batch_size": 1}, "one of 1, shuffle=False"),
        ({"shuffle_train": False, "batch_size": 22}, "one of 1, shuffle=False"),
    ],
)
def test_a_loss_of_positions_wants_consecutive_bars(options, received):
    train, validation = create_data_loaders(*windows(), **options)
    loss, optimizer = create_loss_function("sharpe"), create_optimizer(None)
    with pytest.raises(ConfigError, match=f"sharpe: .* Received: {received}"):
        Trainer(None, train, validation, loss, optimizer)
    train, validation = create_data_loaders(*windows(), shuffle_train=False)
    Trainer(None, train, validation, loss, optimizer)


def test_names_and_options_are_checked():
    optimizer = create_optimizer(None, "sgd", 0.1, momentum=0.5)
    assert (float(optimizer.learning_rate), optimizer.momentum) == (
        pytest.approx(0.1),
        0.5,
    )
    with pytest.raises(ConfigError, match="optimizer: expected one of adam"):
        create_optimizer(None, "adagrad")
    with pytest.raises(ConfigError, match="lr_schedule: expected one of constant"):
        create_scheduler(optimizer, "linear")
    plateau = create_scheduler(optimizer, "plateau", patience=3)
    assert (plateau.patience, plateau.factor, plateau.min_lr > 0) == (3, 0.5, True)
