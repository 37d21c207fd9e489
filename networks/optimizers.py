"""Rules of the updates and courses of the learning rate.

In: a configuration -> an optimizer, the rate of an epoch, the callback that sets it.
Out: when training stops (`model_builder`).

Rates are a pure function of the epoch's number, so that a resumed run has the same.
"""

from __future__ import annotations

import math
import sys
from typing import Any

import keras

from config import Config
from settings.training_fields import TrainingFields

ADAMW_WEIGHT_DECAY = 0.01
"""What Loshchilov and Hutter's implementation and PyTorch's take by default."""

_UNDECAYED = ("bias", "gamma", "beta")
"""Names of weights that a decay would only shift: biases and normalisation."""


def build_optimizer(config: TrainingFields, *, scales_loss: bool = False) -> Any:
    """Returns the optimizer of a run.

    Gradients are accumulated first, where they are, then clipped by their common norm
    (Pascanu et al., 2013). Weight decay is decoupled from them, for every rule
    (Loshchilov and Hutter, 2019).

    Args:
        config: Rule, rate, momentum, decay, clipping, accumulation.
        scales_loss: Whether gradients in float16 need a scaled loss.
    """
    rules = keras.optimizers
    known = (rules.Adam, rules.AdamW, rules.SGD, rules.RMSprop)
    rule = {each.__name__.lower(): each for each in known}[config.optimizer]
    decay = config.weight_decay
    if decay is None and config.optimizer == "adamw":
        decay = ADAMW_WEIGHT_DECAY
    optimizer = rule(
        config.learning_rate,
        weight_decay=decay,
        global_clipnorm=config.gradient_clip_norm,
        gradient_accumulation_steps=config.gradient_accumulation_steps,
        **({"momentum": config.momentum} if config.optimizer == "sgd" else {}),
    )
    if decay:
        optimizer.exclude_from_weight_decay(var_names=_UNDECAYED)
    return rules.LossScaleOptimizer(optimizer) if scales_loss else optimizer


def learning_rate_at(config: TrainingFields, epoch: int) -> float:
    """Returns the learning rate of an epoch, counted from 0.

    Warm-up: `epoch + 1` of `warmup_epochs + 1` equal steps up to `learning_rate`; the
    epochs after it count from 0 again. Constant stays there; step multiplies by
    `reduce_lr_factor` every `lr_step_epochs`; cosine falls to `min_learning_rate`,
    which it would reach one epoch after the last (Loshchilov and Hutter, 2017,
    without restarts). No rate is below `min_learning_rate`.

    Raises:
        ValueError: If the rate depends on more than the epoch (`plateau`).
    """
    top, floor = config.learning_rate, config.min_learning_rate
    warm_up = config.warmup_epochs
    if config.lr_schedule == "plateau":
        raise ValueError(
            "lr_schedule: expected constant, step or cosine. Received: 'plateau', "
            "whose rate depends on the losses. Use rate_callback."
        )
    if epoch < warm_up:
        return max(floor, top * (epoch + 1) / (warm_up + 1))
    done = epoch - warm_up
    if config.lr_schedule == "step":
        steps = done // config.lr_step_epochs
        return max(floor, top * config.reduce_lr_factor**steps)
    if config.lr_schedule == "cosine":
        share = min(1.0, done / (config.epochs - warm_up))
        return floor + (top - floor) * (1 + math.cos(math.pi * share)) / 2
    return top


def rate_callback(config: TrainingFields) -> keras.callbacks.Callback:
    """Returns the callback that sets each epoch's rate and notes it in the history."""
    if config.lr_schedule == "plateau":
        return keras.callbacks.ReduceLROnPlateau(
            monitor="val_loss",
            factor=config.reduce_lr_factor,
            patience=config.reduce_lr_patience,
            min_lr=config.min_learning_rate,
        )
    return keras.callbacks.LearningRateScheduler(
        lambda epoch, rate: learning_rate_at(config, epoch)
    )


def create_optimizer(
    model: keras.Model | None,
    name: str = "adam",
    learning_rate: float = 1e-3,
    *,
    lr: float | None = None,
    **options: Any,
) -> keras.optimizers.Optimizer:
    """Returns an optimizer by its name, without clipping.

    Args:
        model: The model it will train; Keras tells it the weights when it compiles.
        name: `adam`, `adamw`, `sgd` or `rmsprop`.
        learning_rate: Its rate.
        lr: Another name of `learning_rate`.
        **options: `momentum`, `weight_decay` of `Config`.

    Raises:
        ConfigError: If there is no such optimizer or option, or a value is impossible.
    """
    rate = learning_rate if lr is None else lr
    options |= {"optimizer": name, "learning_rate": rate, "gradient_clip_norm": None}
    floor = min(Config.min_learning_rate, rate)
    return build_optimizer(Config(min_learning_rate=floor, **options))


def create_scheduler(
    optimizer: keras.optimizers.Optimizer,
    name: str = "plateau",
    *,
    T_max: int = 100,
    eta_min: float = 0.0,
    step_size: int = 10,
    gamma: float = 0.5,
    patience: int = 10,
) -> keras.callbacks.Callback:
    """Returns the course of an optimizer's rate, as a callback of a training.

    Args:
        optimizer: Its present rate is the first one.
        name: `step`, `cosine` or `plateau`.
        T_max: Of cosine: epochs until the rate is `eta_min`.
        eta_min: Least rate.
        step_size: Of step: epochs between two cuts.
        gamma: What a cut multiplies the rate by.
        patience: Of plateau: epochs without a better validation loss before a cut.

    Raises:
        ConfigError: If there is no such course, or a value is impossible.
    """
    return rate_callback(
        Config(
            lr_schedule=name,
            epochs=T_max,
            learning_rate=float(optimizer.learning_rate),
            min_learning_rate=eta_min or sys.float_info.min,
            lr_step_epochs=step_size,
            reduce_lr_factor=gamma,
            reduce_lr_patience=patience,
        )
    )
