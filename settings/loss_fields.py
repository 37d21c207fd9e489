"""What training minimises: the losses, what each asks of a run, their options.

In: names and numbers. Out: formulas (`networks.losses`).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, fields
from typing import NamedTuple

from settings.label_fields import CLASS_TARGETS
from settings.part import Part, field
from settings.values import own_name_problems
from utils import ConfigError, did_you_mean


class LossTraits(NamedTuple):
    """What a loss asks of the run that trains with it.

    Attributes:
        targets: The targets it can be used for.
        y_true: What it is compared with: "class" ids, the target's own "value", the
            simple "return" of the bar after the entry, or `BOTH`.
        is_sequential: Whether a batch must be consecutive bars, in order.
    """

    targets: tuple[str, ...]
    y_true: str
    is_sequential: bool


BOTH = "class and return"
"""`y_true` of a network that has a head for each."""

TARGETS_OF = {
    "class": CLASS_TARGETS,
    "value": ("return", "price"),
    "return": ("signal", "direction", "return"),
}
"""Targets by the `y_true` that they can be learned from."""

_CLASSES = LossTraits(TARGETS_OF["class"], "class", False)
_VALUES = LossTraits(TARGETS_OF["value"], "value", False)
_POSITIONS = LossTraits(TARGETS_OF["return"], "return", True)

LOSSES = {
    "cross_entropy": _CLASSES,
    "focal": _CLASSES,
    "cost_sensitive": _CLASSES,
    "mse": _VALUES,
    "mae": _VALUES,
    "huber": _VALUES,
    "quantile": _VALUES,
    "directional": _VALUES,
    "sharpe": _POSITIONS,
    "return_volatility": _POSITIONS,
}
"""Losses by name, one's own once they are registered (`networks.losses`); `combined`
takes the traits of its parts.
"""

POSITION_LOSS = "sharpe"
"""Of the position of a network that has classes, too."""

LOSS_PRESETS: dict[str, tuple[str, dict[str, float]]] = {
    "regression": ("mse", {}),
    "robust": ("huber", {"delta": 1.0}),
    "financial": ("sharpe", {}),
    "directional": ("directional", {"mse_weight": 0.6}),
    "volatility_aware": ("return_volatility", {"volatility_lambda": 0.3}),
}
"""Losses with options, under names of their own."""


LOSS_CLASSES = {
    "MSELoss": "mse",
    "MAELoss": "mae",
    "HuberLoss": "huber",
    "SharpeRatioLoss": "sharpe",
    "SharpeLoss": "sharpe",
    "QuantileLoss": "quantile",
    "DirectionalAccuracyLoss": "directional",
    "DirectionalLoss": "directional",
    "ReturnVolatilityLoss": "return_volatility",
    "FocalLoss": "focal",
    "CostSensitiveCrossentropy": "cost_sensitive",
    "CombinedLoss": "combined",
}
"""Names of the classes, here and elsewhere, which stand for those of the losses."""


def loss_names() -> tuple[str, ...]:
    """Returns the names of all losses there are now, presets last."""
    return tuple(dict.fromkeys((*LOSSES, "combined", *LOSS_PRESETS)))


LOSS_NAMES = loss_names()
"""Built-in losses; `LOSSES` may know more by the time they train."""


def require_loss(name: str) -> None:
    """Refuses a name that no loss has.

    Raises:
        ConfigError: If it has none.
    """
    known = loss_names()
    if name not in known:
        raise ConfigError(
            f"loss: expected one of {', '.join(known)}. Received: {name!r}."
            + did_you_mean(name, known)
        )


def split_preset(name: str) -> tuple[str, dict[str, float]]:
    """Returns a preset's loss and options; any other name's loss, without any."""
    name = LOSS_CLASSES.get(name, name)
    return LOSS_PRESETS.get(name, (name, {}))


@dataclass(frozen=True, kw_only=True)
class LossFields(Part):
    """Loss.

    Attributes:
        loss: What training minimises. Of classes: cross_entropy, focal, cost_sensitive.
            Of a return or price: mse, mae, huber, quantile, directional. Of what
            positions earn after costs: sharpe, return_volatility. Of several: combined.
            Presets: regression (mse), robust (huber), financial (sharpe),
            volatility_aware. Your own by the name it is registered with. None takes
            cross_entropy for classes, huber for a return or price.
        loss_parts: Losses that `combined` adds up.
        loss_weights: Weight of each of `loss_parts`; made to sum to 1. None weighs them
            equally.
        loss_cost_bps: Cost of a change of position by 1 in `sharpe` and
            `return_volatility`, in basis points; None takes `fee_bps` + `slippage_bps`.
        volatility_lambda: Weight of the volatility in `return_volatility`; None takes
            0.5, 0.3 in volatility_aware.
        huber_delta: Error from which `huber` is linear, in standard deviations of the
            target.
        quantile: The quantile that `quantile` predicts.
        quantiles: Several that `quantile` predicts at once, each an output: ascending,
            0.5 in the middle, which is the forecast. Empty: the one of `quantile`.
        directional_mse_weight: Weight of the squared error in `directional`; the rest
            is that of the sign.
        focal_gamma: How much `focal` cares less for what is already right; 0 is
            cross_entropy.
        focal_alpha: Weights of SHORT, HOLD, LONG in `focal`; None weighs them equally.
        misclassification_costs: Costs in `cost_sensitive` of predicting SHORT, HOLD,
            LONG where SHORT is true, then where HOLD is, then where LONG is: nine
            numbers. None: 0 1 2 1 0 1 2 1 0.
    """

    loss: str | None = field(None, spellings=LOSS_CLASSES)
    loss_parts: tuple[str, ...] = field((), spellings=LOSS_CLASSES)
    loss_weights: tuple[float, ...] | None = field(None, ge=0)
    loss_cost_bps: float | None = field(
        None, ge=0, le=1000, losses=("sharpe", "return_volatility")
    )
    volatility_lambda: float | None = field(None, ge=0, losses=("return_volatility",))
    huber_delta: float = field(1.0, gt=0, losses=("huber",))
    quantile: float = field(0.5, gt=0, lt=1, losses=("quantile",))
    quantiles: tuple[float, ...] = field((), gt=0, lt=1, losses=("quantile",))
    directional_mse_weight: float = field(0.6, ge=0, le=1, losses=("directional",))
    focal_gamma: float = field(2.0, ge=0, le=20, losses=("focal",))
    focal_alpha: tuple[float, ...] | None = field(None, gt=0, losses=("focal",))
    misclassification_costs: tuple[float, ...] | None = field(
        None, ge=0, losses=("cost_sensitive",)
    )

    def loss_of(self, target: str) -> str:
        """Returns the loss by its name; the target's own where none is asked for."""
        default = "cross_entropy" if target in CLASS_TARGETS else "huber"
        return self.loss or default

    def losses_of(self, target: str) -> tuple[str, ...]:
        """Returns the losses that are computed, presets by the name of their loss."""
        is_sum = self.loss == "combined"
        return _computed(self.loss_parts if is_sum else (self.loss_of(target),))

    def traits_of(self, target: str) -> LossTraits:
        """Returns what the loss asks of the run."""
        known = [LOSSES[name] for name in self.losses_of(target) if name in LOSSES]
        return known[0] if known else _CLASSES

    def batch_problems(self, target: str, batch_size: int) -> list[str]:
        """Returns what is wrong with batches of one bar, which have no deviation."""
        if self.traits_of(target).y_true != "return" or batch_size > 1:
            return []
        return [
            f"batch_size: expected at least 2 bars for loss {self.loss_of(target)!r}, "
            f"which divides by their deviation or adds it. Received: {batch_size}"
        ]

    def problems(self) -> list[str]:
        """Returns what is wrong with names, a combination, tables of numbers."""
        named = [("loss", self.loss or "combined")]
        named += [("loss_parts", name) for name in self.loss_parts]
        problems = []
        for field_name, name in named:
            problems += own_name_problems(field_name, name, LOSS_NAMES)
        if self.loss == "combined":
            problems += self._combination_problems()
        for name, count in (("focal_alpha", 3), ("misclassification_costs", 9)):
            given = getattr(self, name)
            if given is not None and len(given) != count:
                problems.append(f"{name}: expected {count} numbers. Received: {given}")
        problems += self._quantile_problems()
        costs = self.misclassification_costs
        if costs is not None and any(costs[::4]):
            problems.append(
                "misclassification_costs: expected 0 for a right prediction, as first, "
                f"fifth and ninth number. Received: {costs}"
            )
        return problems

    def target_problems(self, target: str) -> list[str]:
        """Returns losses that do not suit a target, and options that no loss reads."""
        problems, used = [], self.losses_of(target)
        for name in used:
            if name in LOSSES and target not in LOSSES[name].targets:
                fitting = [k for k, v in LOSSES.items() if target in v.targets]
                problems.append(
                    f"loss: expected one for target {target!r}: "
                    f"{', '.join(fitting)}. Received: {name!r}"
                )
        for item in fields(LossFields):
            readers = item.metadata.get("losses", ())
            is_read = not readers or {*readers} & {*used}
            if getattr(self, item.name) != item.default and not is_read:
                problems.append(
                    f"{item.name}: expected loss {' or '.join(readers)} with it. "
                    f"Received: loss {self.loss_of(target)!r}"
                )
        for name in ("loss_parts", "loss_weights"):
            if getattr(self, name) and self.loss != "combined":
                problems.append(
                    f"{name}: expected loss 'combined' with it. "
                    f"Received: loss {self.loss_of(target)!r}"
                )
        return problems

    def _quantile_problems(self) -> list[str]:
        levels, problems = self.quantiles, []
        if not levels:
            return []
        is_rising = all(a < b for a, b in itertools.pairwise(levels))
        if not (is_rising and len(levels) % 2 and levels[len(levels) // 2] == 0.5):
            problems.append(
                "quantiles: expected an odd number of ascending ones, 0.5 in the "
                f"middle, such as 0.1 0.5 0.9. Received: {levels}"
            )
        if self.quantile != 0.5 or self.loss == "combined":
            problems.append(
                "quantiles: expected loss 'quantile' alone, and no other quantile. "
                f"Received: loss {self.loss!r}, quantile {self.quantile:g}"
            )
        return problems

    def _combination_problems(self) -> list[str]:
        problems, parts = [], self.loss_parts
        if len(set(parts)) < max(2, len(parts)) or "combined" in parts:
            problems.append(
                "loss_parts: expected two losses or more, each once, none of them "
                f"'combined'. Received: {parts}"
            )
        kinds = {LOSSES[name].y_true for name in _computed(parts) if name in LOSSES}
        if len(kinds) > 1:
            problems.append(
                "loss_parts: expected losses that are compared with the same numbers "
                f"(one of {' or '.join(sorted(kinds))}). Received: {parts}"
            )
        if self.loss_weights is not None and (
            len(self.loss_weights) != len(parts) or not sum(self.loss_weights)
        ):
            problems.append(
                f"loss_weights: expected a number for each of loss_parts {parts}, one "
                f"above 0. Received: {self.loss_weights}"
            )
        return problems


def _computed(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(split_preset(name)[0] for name in names)
