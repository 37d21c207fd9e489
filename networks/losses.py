"""Losses by name: `create_loss`, `register_loss`, the configuration's, sums of several.

In: names and options of losses, one's own among them, what is reported of a sum.
Out: formulas (`sample_losses`, `position_losses`), which loss suits which target and
what it reads (`settings.loss_fields`), batches in the order that a loss needs
(`sequence_generator`).

What `y_true` is depends on the loss (`settings.loss_fields.LOSSES[name].y_true`):

- "class": (batch,) class ids, 0 SHORT, 1 HOLD, 2 LONG; `y_pred` (batch, 3)
  probabilities.
- "value": (batch,) the number that is predicted, a log return in units of
  `preprocessing.scaling.TargetScaler`; `y_pred` (batch, 1) or (batch,).
- "return": (batch,) simple returns of the next bar, in order; see `position_losses`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
from keras import ops

from config import Config
from networks import position_losses, sample_losses
from networks.loss_base import SavableLoss, argument_names, flat, require
from settings import loss_fields
from settings.values import own_name_problems
from utils import ConfigError, did_you_mean

SECONDS_PER_YEAR = 365 * 86_400

_register = keras.saving.register_keras_serializable(package="trainer")


# Sums


@_register
class CombinedLoss(SavableLoss):
    """Weighted sum of losses: `sum_k w_k * loss_k` with weights that sum to 1.

    All parts are compared with the same `y_true`. Each keeps its unit: the weights are
    of the numbers as they are, and `part_metrics` shows them while training. With a
    part that has one loss for the whole batch, sample weights are refused.

    Args:
        losses: Losses, or names of `create_loss`, each name once; or by names that
            they take, under which they are reported.
        weights: Weight of each, at least 0, not all 0, in the order of `losses` or by
            their names; None weighs them equally.
        **base: As in `SavableLoss`.
    """

    default_name = "combined"

    def __init__(
        self,
        losses: Sequence[keras.losses.Loss | str]
        | Mapping[str, keras.losses.Loss | str],
        weights: Sequence[float] | Mapping[str, float] | None = None,
        **base: Any,
    ) -> None:
        super().__init__(**base)
        if isinstance(losses, Mapping):
            self.losses = tuple(_named(item, name) for name, item in losses.items())
        else:
            self.losses = tuple(map(_named, losses))
        names = [loss.name for loss in self.losses]
        if isinstance(weights, Mapping):
            is_fit = {*weights} == {*names}
            require("weights", weights, is_fit, f"one for each of {', '.join(names)}")
            weights = [weights[name] for name in names]
        is_list = 0 < len(names) == len(set(names))
        require("losses", names, is_list, "at least one loss, each name once")
        given = [1.0] * len(names) if weights is None else [float(w) for w in weights]
        is_fit = len(given) == len(names) and min(given) >= 0 and sum(given) > 0
        require("weights", weights, is_fit, "a number >= 0 for each loss, one above 0")
        self.weights = tuple(weight / sum(given) for weight in given)

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Returns the reduced loss; refuses weights if a part has none to weigh."""
        if any(isinstance(loss, position_losses.PositionLoss) for loss in self.losses):
            position_losses.refuse_weights(self, sample_weight)
        return super().__call__(y_true, y_pred, sample_weight)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Returns each sample's loss (batch,), a scalar if every part's is one."""
        parts = zip(self.weights, self.losses, strict=True)
        return sum(weight * loss.call(y_true, y_pred) for weight, loss in parts)

    def get_individual_losses(self, y_true: Any, y_pred: Any) -> dict[str, Any]:
        """Returns name -> loss of each part, reduced, before its weight."""
        return {loss.name: loss(y_true, y_pred) for loss in self.losses}

    def part_metrics(self) -> list[keras.metrics.Metric]:
        """Returns a metric of each part's name, before its weight, for `compile`."""
        return [LossPart(loss) for loss in self.losses]

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        parts = keras.saving.serialize_keras_object(list(self.losses))
        return super().get_config() | {"losses": parts}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> CombinedLoss:
        """Rebuilds from `get_config`."""
        parts = keras.saving.deserialize_keras_object(config["losses"])
        return cls(**dict(config) | {"losses": parts})


@_register
class LossPart(keras.metrics.Mean):
    """Mean of a loss over the samples of an epoch, as a metric of its name.

    Args:
        loss: The loss.
        name: Name of the metric; None takes the loss's.
        dtype: As in `keras.metrics.Metric`.
    """

    def __init__(
        self, loss: keras.losses.Loss, *, name: str | None = None, dtype: Any = None
    ) -> None:
        super().__init__(name=name or loss.name, dtype=dtype)
        self.loss = loss

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds a batch; one loss of a whole batch counts once for each sample."""
        y_true = ops.convert_to_tensor(y_true, dtype=self.dtype)
        y_pred = ops.convert_to_tensor(y_pred, dtype=self.dtype)
        values = self.loss.call(y_true, y_pred) + ops.zeros_like(flat(y_true))
        super().update_state(values, sample_weight)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        loss = keras.saving.serialize_keras_object(self.loss)
        return {"loss": loss, "name": self.name, "dtype": self.dtype}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> LossPart:
        """Rebuilds from `get_config`."""
        loss = keras.saving.deserialize_keras_object(config["loss"])
        return cls(**dict(config) | {"loss": loss})


# By name

MSELoss = keras.losses.MeanSquaredError
MAELoss = keras.losses.MeanAbsoluteError
HuberLoss = sample_losses.HuberLoss
QuantileLoss = sample_losses.QuantileLoss
DirectionalAccuracyLoss = sample_losses.DirectionalLoss
SharpeRatioLoss = position_losses.SharpeLoss
ReturnVolatilityLoss = position_losses.ReturnVolatilityLoss

_BUILDERS: dict[str, Callable[..., keras.losses.Loss]] = {
    "cross_entropy": keras.losses.SparseCategoricalCrossentropy,
    "focal": sample_losses.FocalLoss,
    "cost_sensitive": sample_losses.CostSensitiveCrossentropy,
    "mse": keras.losses.MeanSquaredError,
    "mae": keras.losses.MeanAbsoluteError,
    "huber": sample_losses.HuberLoss,
    "quantile": sample_losses.QuantileLoss,
    "directional": sample_losses.DirectionalLoss,
    "sharpe": position_losses.SharpeLoss,
    "return_volatility": position_losses.ReturnVolatilityLoss,
    "combined": CombinedLoss,
}

_KERAS_DOCUMENTED = {
    "cross_entropy": "Cross-entropy of class ids, in nats: `-ln(p_y)`.",
    "mse": "Squared error, in units of `y_true` squared: `(y_true - y_pred)^2`.",
    "mae": "Absolute error, in units of `y_true`: `|y_true - y_pred|`.",
}


def register_loss(
    name: str,
    builder: Callable[..., keras.losses.Loss],
    *,
    y_true: str,
    targets: Sequence[str] | None = None,
    is_sequential: bool = False,
) -> None:
    """Makes `Config(loss=name)` train with a loss; one of your own is replaced.

    Args:
        name: Small letters and digits, joined by single _, unlike built-in names.
        builder: Class of a loss, or a function that returns one. It is called with
            `name`, and where it names them with `cost_bps` (the run's fees and
            slippage) and `bars_per_year`.
        y_true: What it is compared with: "class", "value" or "return", see above.
        targets: The targets it can be used for; None takes all that have such numbers.
        is_sequential: Whether a batch must be consecutive bars, in order; it always is
            with "return".

    Raises:
        ValueError: If an argument cannot be used.

    Example:
        >>> register_loss("log_cosh", keras.losses.LogCosh, y_true="value")
        >>> config = Config(loss="log_cosh", target="return")
    """
    for problem in own_name_problems("`name`", name, loss_fields.LOSS_NAMES):
        raise ValueError(problem)
    is_new, kinds = name not in loss_fields.LOSS_NAMES, loss_fields.TARGETS_OF
    require("name", name, is_new, "one that is not built in")
    takes_name = callable(builder) and "name" in argument_names(builder)
    require("builder", builder, takes_name, "a class or function with argument `name`")
    require("y_true", y_true, y_true in kinds, f"one of {', '.join(kinds)}")
    known = kinds[y_true]
    chosen = known if targets is None else tuple(targets)
    is_fit = 0 < len(chosen) and {*chosen} <= {*known}
    require("targets", targets, is_fit, f"some of {', '.join(known)}, or None")
    _BUILDERS[name] = builder
    in_order = is_sequential or y_true == "return"
    loss_fields.LOSSES[name] = loss_fields.LossTraits(chosen, y_true, in_order)


def create_loss(name: str, **options: Any) -> keras.losses.Loss:
    """Returns a loss, or a preset, by its name.

    Args:
        name: One of `settings.loss_fields.loss_names()`.
        **options: Arguments of its class, over those of the preset.

    Raises:
        ConfigError: If there is no such loss or option.

    Example:
        >>> create_loss("sharpe", cost_bps=15).cost_bps
        15
    """
    kind, preset = loss_fields.split_preset(name)
    name = loss_fields.LOSS_CLASSES.get(name, name)
    known = _option_names(kind)
    for option in options:
        if option not in known:
            raise ConfigError(
                f"loss {name!r}: expected options among {', '.join(known)}. "
                f"Received: {option!r}." + did_you_mean(option, known)
            )
    return _BUILDERS[kind](**{"name": name} | preset | options)


create_loss_function = create_loss
"""Another name of it, that other programs have."""


def describe(name: str) -> str:
    """Returns a loss's formula, targets, `y_true` and order of batches, as text."""
    kind, preset = loss_fields.split_preset(name)
    text = _KERAS_DOCUMENTED.get(kind) or (inspect.getdoc(_BUILDERS[kind]) or "")
    lines = [text.split("\n\nArgs:")[0]]
    if preset:
        shown = ", ".join(f"{key}={value}" for key, value in preset.items())
        lines.append(f"Preset: {kind} with {shown}.")
    if kind in loss_fields.LOSSES:
        traits = loss_fields.LOSSES[kind]
        order = "consecutive bars" if traits.is_sequential else "any samples"
        targets = ", ".join(traits.targets)
        lines.append(f"Targets: {targets}. y_true: {traits.y_true}. Batch: {order}.")
    return "\n".join(lines)


def _named(loss: keras.losses.Loss | str, name: str | None = None) -> Any:
    """Returns a loss, or that of a name, which takes another name if one is given."""
    made = create_loss(loss) if isinstance(loss, str) else loss
    if name is not None:
        made.name = name
    return made


def loss_from_config(config: Config) -> keras.losses.Loss:
    """Returns the loss of a configuration; ConfigError if it is not registered."""
    if config.loss != "combined":
        return _configured(config.resolved_loss, config)
    return CombinedLoss(
        [_configured(name, config) for name in config.loss_parts], config.loss_weights
    )


def position_loss_from_config(config: Config) -> keras.losses.Loss:
    """Returns the loss of the positions of a network that has classes, too."""
    return _configured(loss_fields.POSITION_LOSS, config, position_scale=None)


def metrics_from_config(config: Config, loss: keras.losses.Loss) -> list[Any]:
    """Returns the metrics that go with a loss: accuracy of classes, parts of a sum."""
    parts = loss.part_metrics() if isinstance(loss, CombinedLoss) else []
    if config.loss_traits.y_true not in ("class", loss_fields.BOTH):
        return parts
    # By its name Keras would make it in the first step, and trace that twice.
    return [keras.metrics.SparseCategoricalAccuracy(name="accuracy"), *parts]


def _configured(name: str, config: Config, **others: Any) -> keras.losses.Loss:
    """Returns one loss with its options of the configuration, and others."""
    kind, _ = loss_fields.split_preset(name)
    cost, costs = config.loss_cost_bps, config.misclassification_costs
    market = {
        "cost_bps": config.fee_bps + config.slippage_bps if cost is None else cost,
        "bars_per_year": SECONDS_PER_YEAR / config.bar_seconds,
    }
    fields: dict[str, dict[str, Any]] = {
        "focal": {"gamma": config.focal_gamma, "alpha": config.focal_alpha},
        "cost_sensitive": {
            "costs": None if costs is None else (costs[:3], costs[3:6], costs[6:])
        },
        "huber": {"delta": config.huber_delta},
        "quantile": {"quantile": config.quantiles or config.quantile},
        "directional": {"mse_weight": config.directional_mse_weight},
        "return_volatility": {"volatility_lambda": config.volatility_lambda},
    }
    known = _option_names(kind)
    options = {key: market[key] for key in market if key in known}
    options |= fields.get(kind, {})
    given = {key: value for key, value in options.items() if value is not None}
    return create_loss(name, **given | others)


def _option_names(kind: str) -> list[str]:
    """Returns the arguments of a known loss, those of Keras's base included."""
    loss_fields.require_loss(kind)
    own = argument_names(_BUILDERS[kind])
    return list(dict.fromkeys([*own, *argument_names(keras.losses.Loss)]))
