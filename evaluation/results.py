"""What a run's results are: the keys of `confusion_matrix_report.json`, as types.

In: each key and its type. Out: making them (`evaluate`), showing them (`reports`). None
stands for no number. A skill is the share of a reference's loss that is taken away.
"""

from __future__ import annotations

from typing import Any, Generic, Literal, NotRequired, TypedDict, TypeVar

from evaluation.thresholds import Search
from models.stacking import StackFindings

Part = TypeVar("Part", bound="PartResults")
PARTS: tuple[Literal["validation"], Literal["test"]] = ("validation", "test")


class Interval(TypedDict):
    """An estimate with its 95 % interval; see `intervals.cosine_interval`."""

    estimate: float | None
    low: float | None  # None where the stretch is too short
    high: float | None
    # Half the interval / 1.96; of the log-loss half of the symmetric one
    # (`intervals.log_loss_interval`).
    standard_error: float | None
    num_cosines: int | None  # of the widest: the rows count as about one piece more


class Expected(TypedDict):
    """What 85 to 90 of 100 next stretches as long are expected to show; `outlook`."""

    estimate: float | None  # of the stretch that was seen
    low: float | None  # None where that has no interval
    high: float | None
    widened_by: str | None  # `drift` or `folds`, where they say more than the interval


class Promised(Expected):
    """What a run's report expected of a next stretch, and what a later one showed."""

    found: float | None
    outcome: str | None  # `within`, `below` or `above`; None where either is not known


class PairedTest(Interval):
    """The mean difference of two models' losses, below 0 where the first is better."""

    p_value: float | None


class ShuffleTest(TypedDict):
    """Whether predictions know the truth: it is permuted in blocks."""

    observed: float  # loss
    shuffled_mean: float  # mean loss of the permutations
    p_value: float | None  # None under 30 horizons of counted rows
    num_blocks: int
    block_rows: int
    num_permutations: int


class Settings(TypedDict):
    """Costs, sizes and seeds that the results rest on."""

    fee_bps: float  # a side
    slippage_bps: float  # a side
    funding_bps_per_day: float  # of the amount held
    position_sizing: str
    bar_seconds: int
    seed: int
    window_bars: int
    horizon_bars: int  # that a target looks ahead
    confidence_pct: float


class NumberSettings(Settings):
    """What a predicted number means."""

    loss: str | None  # None: the family's own
    reads: str  # "value", or "return" where the outputs are positions
    quantile: float | None  # None: a mean is predicted


class CalibrationChoice(TypedDict):
    """How probabilities were calibrated."""

    method: str  # as asked for, `bias` or `none`
    fitted_on: str
    num_samples: int
    reason: str | None  # why it is another than asked for


class Trials(TypedDict):
    """How often the test part was looked at; see `trials.count_trials`."""

    num_trials: int  # runs that looked at it, this one included
    num_earlier: int  # published runs of other configurations or files
    num_planned: int  # of the same series, not yet published
    num_unreadable: int  # folders that may have looked at it


class TriedPoint(TypedDict):
    """One trial of a search."""

    number: int
    state: str  # complete, pruned, fail or running
    value: float | None  # of the objective; None where it did not come to an end
    suggested: dict[str, Any]  # dimension -> a number, or a choice in words
    fields: dict[str, Any]  # of the configuration
    num_steps: int  # epochs, or folds of trees, that were reported
    error: str | None
    exit_code: int | None
    seconds: float | None
    same_as: int | None  # an earlier trial of the same fields


class Tuning(TypedDict):
    """The search that a run came from; see `tuning.tune`."""

    study: str
    objective: str
    objective_words: str
    maximizes: bool
    num_counted: int  # in the deflation: distinct configurations, the default too
    default_value: float | None  # objective of the run that was tuned, as it was
    best_value: float
    best: int | None  # number of the best trial; None: the default was not beaten
    changes: dict[str, Any]  # fields of the best trial, where it is better
    defaults: dict[str, Any]  # the same fields of the default
    trials: list[TriedPoint]
    importance: dict[str, float]  # dimension -> share, most first; see `study.Study`
    against_default: PairedTest | None  # losses on test; None without a better trial
    is_shown: bool  # better than the default, and a skill at all, on test
    statement: str


class Parents(TypedDict):
    """A model beside the best of those that it builds on, all of them on test."""

    names: list[str]  # of baselines and comparisons
    best_on_test: str  # with the lowest loss there: the choice favours it
    statement: str


class Equity(TypedDict):
    """Return, risk and their ratios; see `trading.equity_metrics`, `daily_metrics`."""

    total_return_pct: float
    annualised_return_pct: float | None  # None where it leaves the range of numbers
    max_drawdown_pct: float  # 0 to 100
    calmar: float | None
    sharpe: float | None  # annualised, from daily sums
    sortino: float | None
    value_at_risk_95_pct: float  # loss of a day
    cvar_95_pct: float  # mean loss of the worst 5 % of the days


class Month(TypedDict):
    """A calendar month (UTC) of trades."""

    month: str  # YYYY-MM
    return_pct: float
    buy_and_hold_pct: float  # before costs
    num_trades: int  # that ended in it


class Trading(Equity):
    """What signals earned after costs; `skipped` alone where that is not known.

    The curve has up to 300 moments: `time`, `equity` (1 at the start), the same as
    `equity_before_costs`, `drawdown_pct`, and `buy_and_hold`.
    """

    skipped: NotRequired[str]  # why
    in_sample: bool  # the thresholds were chosen on these rows
    num_days: float
    max_drawdown_days: float  # from its peak until that is regained, or the end
    longest_drawdown_days: float
    months: list[Month]
    num_trades: int
    num_long: int
    num_short: int
    exits: dict[str, int]  # by `timeout`, `tp`, `sl`
    win_rate_pct: float | None  # net above 0
    profit_factor: float | None  # net gains / net losses
    mean_net_return_bps: float | None  # a trade
    mean_gross_return_bps: float | None
    mean_funding_bps: float | None  # a trade; None where none is charged
    mean_holding_bars: float | None
    turnover_per_day: float  # amount traded / equity
    exposure_pct: float  # time in a trade
    trade_precision_pct: float | None  # exits at the take profit
    break_even_precision_pct: float | None  # that pays for stops and costs
    break_even_cost_bps: (
        float | None
    )  # costs a side, beside funding, at which the edge is 0
    cost_bps: float  # a side, as charged
    intervals: dict[str, Interval]  # of mean_net_return_bps, total_return_pct, sharpe
    probabilistic_sharpe: float | None  # probability that the Sharpe ratio is above 0
    deflated_sharpe: float | None  # the same, paid for every variant tried
    num_variants_tried: int  # on these rows: pairs of thresholds, or runs (`Trials`)
    minimum_detectable_sharpe: float | None  # see `significance`; annualised
    buy_and_hold: Equity
    curve: dict[str, list[Any]]
    daily: dict[str, Any]  # `first` day (UTC); `net_returns` of it and those after it


class Comparison(TypedDict):
    """The model against a baseline, row by row."""

    baseline: str
    skill: Interval  # against it
    log_loss_difference: NotRequired[PairedTest]  # of classes
    squared_error_difference: NotRequired[PairedTest]  # of numbers


class PartResults(TypedDict):
    """What one part of the rows says, whatever the target is."""

    first: str  # time of its first row
    last: str
    length: dict[str, float]  # `days`, `horizons` of a label
    intervals: dict[str, Interval]  # of its scores, under the same keys
    trading: Trading
    baselines: dict[str, dict[str, Any]]  # name -> scores, `intervals`, `trading`
    comparisons: dict[str, Comparison]  # `best_baseline`, and the trained baselines


class Matrix(TypedDict):
    """Hits of predicted classes."""

    num_samples: int
    confusion_matrix: list[list[int]]  # rows true, columns predicted
    accuracy: float
    macro_f1: float
    balanced_accuracy: float
    classes: dict[str, dict[str, Any]]  # precision, recall, f1, support, undefined
    true_share: dict[str, float]
    predicted_share: dict[str, float]


class Calibrated(TypedDict):
    """Scores of calibrated probabilities."""

    fitted_on: str  # which rows taught the calibration
    log_loss: float
    brier: float
    skill_vs_train_prior: float | None
    skill_vs_trailing_7d: float | None
    expected_calibration_error: float
    maximum_calibration_error: float


class ClassPart(PartResults, Matrix):
    """The most probable class and the raw probabilities of one part."""

    mean_probability: dict[str, float]
    brier: float
    expected_calibration_error: float  # of the most probable class
    maximum_calibration_error: float
    log_loss: float  # nats
    activity_log_loss: float  # its part of HOLD or not
    direction_log_loss: float | None  # its part of LONG or SHORT, a mean over trades
    trade_share: float  # of SHORT and LONG
    log_loss_own_mix: float  # of naming the part's own class shares
    skill_vs_own_mix: float | None
    activity_skill_vs_own_mix: float | None
    direction_skill_vs_own_mix: float | None
    log_loss_train_prior: float  # of naming the class shares of training
    skill_vs_train_prior: float | None
    activity_skill_vs_train_prior: float | None
    direction_skill_vs_train_prior: float | None
    log_loss_trailing_7d: float  # of naming the known mix of the last seven days
    skill_vs_trailing_7d: float | None
    activity_skill_vs_trailing_7d: float | None
    direction_skill_vs_trailing_7d: float | None
    direction_test: ShuffleTest
    direction_p_value: float | None
    calibrated: Calibrated
    reliability: dict[str, dict[str, Any]]  # `raw`, `calibrated` -> class -> table
    thresholded: Matrix  # of the signals


class NumberPart(PartResults):
    """The predicted numbers of one part; errors are in the unit of the target."""

    target: str
    num_samples: int
    mae: float
    rmse: float
    r2: float | None
    sign_accuracy: float | None  # of the rows that moved
    mae_persistence: float
    rmse_persistence: float
    skill_mae_vs_persistence: float | None
    skill_mse_vs_persistence: float | None
    mape_pct: NotRequired[float | None]  # of a price
    skill_mse_vs_train_mean: float | None
    skill_mse_vs_trailing_7d: float | None
    correlation: float | None  # of predicted and actual log returns
    slope: float | None  # of actual on predicted: 1 where sizes are right on average
    r2_persistence: float | None  # close to 1 for a price
    predicted_std_bps: float
    actual_std_bps: float
    sign_expected: float | None  # right signs if both were independent
    sign_excess: float | None  # right signs beyond these
    sign_test: ShuffleTest
    sign_p_value: float | None
    bins: dict[str, list[Any]]  # what followed tenths of the predictions
    errors: dict[str, list[Any]]  # in stretches of time
    residuals: dict[str, Any]  # distribution of actual - predicted
    coverage: NotRequired[dict[str, Any]]  # level, thirds, width_bps of intervals
    quantiles: NotRequired[dict[str, Any]]  # the same of quantiles, and losses


class Results(TypedDict, Generic[Part]):
    """What stands in the results of every run."""

    target: str  # see `config.TARGETS`
    verdict: list[str]  # four lines; none without a test part
    claims: dict[str, bool]  # skill, activity (of classes), direction, edge
    warnings: list[str]
    trials: Trials
    thresholds: Search
    validation: NotRequired[Part]
    test: NotRequired[Part]
    pairs: NotRequired[dict[str, dict[str, Part]]]  # pooled pair -> part -> results
    importance: NotRequired[dict[str, Any]]  # `importance.permutation_importance`
    library_importance: NotRequired[list[dict[str, Any]]]  # `name`, `share`, by share
    outlook: NotRequired[dict[str, Expected]]  # skill, activity, direction, net
    promised: NotRequired[dict[str, Promised]]  # of an evaluation on later data
    cross_validation: NotRequired[dict[str, Any]]  # `folds.gather`
    audit: NotRequired[dict[str, Any]]  # `audit.findings.AuditReport`
    tuning: NotRequired[Tuning]
    parents: NotRequired[Parents]
    # Of a hybrid: `statement`, and of each part `positions.results.AgentPart`.
    position: NotRequired[dict[str, Any]]
    stack: NotRequired[StackFindings]


class ClassResults(Results[ClassPart]):
    """Of a target with classes."""

    class_names: list[str]
    train_prior: list[float]
    settings: Settings
    calibration: CalibrationChoice


class NumberResults(Results[NumberPart]):
    """Of a return or a price."""

    unit: str
    settings: NumberSettings
    target_scaler: dict[str, Any]  # units of a model's outputs
    interval: dict[str, Any] | None  # `metrics.conformal.SpreadInterval`
    train: dict[str, float]  # mean_bps, std_bps, num_targets of training
    target_over_time: dict[str, Any]  # `numbers.target_over_time`


HEADLINES = (
    "num_samples",
    "log_loss",
    "skill_vs_train_prior",
    "skill_vs_own_mix",
    "skill_vs_trailing_7d",
    "activity_skill_vs_train_prior",
    "direction_skill_vs_train_prior",
    "direction_p_value",
    "accuracy",
    "balanced_accuracy",
    "macro_f1",
    # Of a return or a price
    "mae",
    "rmse",
    "r2",
    "skill_mae_vs_persistence",
    "skill_mse_vs_persistence",
    "skill_mse_vs_train_mean",
    "skill_mse_vs_trailing_7d",
    "sign_accuracy",
    "sign_excess",
    "sign_p_value",
    "correlation",
    # Of a position
    *("net_bps", "gross_bps", "cost_bps", "total_return_pct", "sharpe"),
    *("max_drawdown_pct", "turnover", "exposure_pct", "deflated_sharpe"),
)
"""Numbers of a part that stand for it: in the metadata, and in the folds' summary."""
