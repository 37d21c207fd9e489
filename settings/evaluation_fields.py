"""How a model is judged: calibration, thresholds, costs, sizes of trades.

In: numbers of the judgement. Out: judging (`evaluation`).
"""

from __future__ import annotations

from dataclasses import dataclass

from settings.part import Part, field


@dataclass(frozen=True, kw_only=True)
class EvaluationFields(Part):
    """Evaluation.

    Attributes:
        calibration_method: Map from the model's probabilities to calibrated ones,
            fitted on `calibrate_on`.
        calibrate_on: What the run's calibration is fitted on: validation, or the
            predictions of all folds for rows before it that they never saw. Folds and
            baselines use validation.
        threshold_objective: What the thresholds of SHORT and LONG maximise on
            validation.
        turnover_penalty_bps: Basis points a side charged on top of the costs while
            thresholds are searched.
        threshold_min_trades: Fewest validation trades of a pair of thresholds that may
            be chosen.
        fee_bps: Fee of a side of a trade, in basis points of the amount.
        slippage_bps: Slippage of a side of a trade, in basis points of the amount.
        funding_bps_per_day: Funding of a position, long or short, in basis points of
            the amount for each day that it is held.
        position_sizing: Amount of a trade: all equity, fractional Kelly, or a
            volatility target.
        kelly_fraction: Share of the full Kelly size that `kelly` trades; at most all
            equity.
        volatility_target_pct: Daily volatility that `volatility` aims at, in percent;
            at most all equity.
        interval_level: Of a return or a price: share of what comes that the intervals
            of the report and of the predictor are to hold.
        baseline_model: Trains gradient boosting and a linear regression (logistic for
            classes) beside, for comparison in the report.
        report: `"light"` leaves numbers, predictions, verdict and metadata alone: no
            pictures, no page, no importance, no trained baselines; for many runs.
        importance_windows: Evenly spaced validation windows on which each feature is
            shuffled, to measure what the model loses without it; fewer with many
            features. None measures nothing.
    """

    calibration_method: str = field(
        "temperature", choices=("isotonic", "platt", "beta", "temperature", "none")
    )
    calibrate_on: str = field("validation", choices=("validation", "oof"))
    threshold_objective: str = field(
        "net_return", choices=("net_return", "mean_net_return", "sharpe")
    )
    turnover_penalty_bps: float = field(0.0, ge=0, le=1000)
    threshold_min_trades: int = field(30, ge=1)
    fee_bps: float = field(10.0, ge=0, le=1000)
    slippage_bps: float = field(5.0, ge=0, le=1000)
    funding_bps_per_day: float = field(0.0, ge=0, le=1000)
    position_sizing: str = field("full", choices=("full", "kelly", "volatility"))
    kelly_fraction: float = field(0.25, gt=0, le=1)
    volatility_target_pct: float = field(2.0, gt=0, le=1000)
    interval_level: float = field(0.9, gt=0, lt=1)
    baseline_model: bool = True
    report: str = field("full", choices=("full", "light"))
    importance_windows: int | None = field(1000, ge=10, le=1_000_000)
