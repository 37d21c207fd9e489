"""How a model is judged: calibration, thresholds, costs, sizes of trades.

In: numbers of the judgement. Out: judging (`evaluation`).
"""

from __future__ import annotations

from dataclasses import dataclass

from settings.part import Part, field


@dataclass(frozen=True, kw_only=True)
class EvaluationFields(Part):
    """Evaluation."""

    calibration_method: str = field(
        "temperature",
        "Map from the model's probabilities to calibrated ones, fitted on validation.",
        choices=("isotonic", "platt", "beta", "temperature", "none"),
    )
    threshold_objective: str = field(
        "net_return",
        "What the thresholds of SHORT and LONG maximise on validation.",
        choices=("net_return", "mean_net_return", "sharpe"),
    )
    turnover_penalty_bps: float = field(
        0.0,
        """Basis points a side charged on top of the costs while thresholds are
        searched.""",
        ge=0,
        le=1000,
    )
    threshold_min_trades: int = field(
        30, "Fewest validation trades of a pair of thresholds that may be chosen.", ge=1
    )
    fee_bps: float = field(
        10.0, "Fee of a side of a trade, in basis points of the amount.", ge=0, le=1000
    )
    slippage_bps: float = field(
        5.0,
        "Slippage of a side of a trade, in basis points of the amount.",
        ge=0,
        le=1000,
    )
    position_sizing: str = field(
        "full",
        "Amount of a trade: all equity, fractional Kelly, or a volatility target.",
        choices=("full", "kelly", "volatility"),
    )
    kelly_fraction: float = field(
        0.25,
        "Share of the full Kelly size that `kelly` trades; at most all equity.",
        gt=0,
        le=1,
    )
    volatility_target_pct: float = field(
        2.0,
        "Daily volatility that `volatility` aims at, in percent; at most all equity.",
        gt=0,
        le=1000,
    )
    baseline_model: bool = field(
        True, "Trains a gradient-boosting model beside, for comparison in the report."
    )
    importance_windows: int | None = field(
        1000,
        """Evenly spaced validation windows on which each feature is shuffled, to
        measure what the model loses without it; fewer with many features. None measures
        nothing.""",
        ge=10,
        le=1_000_000,
    )
