"""What the results of an agent are: keys of `confusion_matrix_report.json`, as types.

In: each key and its type. Out: making them (`judging`), showing them (`views`), those
that results of every kind have (`evaluation.results`).

Returns are log returns, so that those of bars add up; a net return is one after costs.
"""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict

from evaluation.results import Equity, Expected, Interval, PairedTest, Promised, Trials

TARGET = "position"
"""`target` of the results: by it everything that shows them knows an agent's."""


class Beside(Equity):
    """What another account of the same rows came to."""

    net_bps: float  # a bar
    turnover: float
    exposure_pct: float


class Against(TypedDict):
    """The agent against another account, bar by bar."""

    baseline: str
    net_difference: PairedTest  # basis points a bar, above 0 where the agent has more


class SeedResult(TypedDict):
    """The best checkpoint on validation of one seed."""

    seed: int
    steps: int
    net_bps: float  # a bar, of the part that it stands in
    total_return_pct: float
    turnover: float
    exposure_pct: float


class Spread(TypedDict):
    """What the seeds came to on one part."""

    mean_net_bps: float
    std_net_bps: float | None  # sample deviation; None of a single seed
    seeds: list[SeedResult]


class AgentPart(Equity):
    """What an agent came to on one part.

    The curve has up to 300 moments: `time`, `close`, `position` (its mean since the
    moment before), `equity` (1 at the start), `equity_before_costs`, `drawdown_pct`,
    and under `baselines` the equity of each.
    """

    first: str  # time of its first row
    last: str
    length: dict[str, float]  # `days`, and `horizons` of a bar
    num_samples: int  # bars
    net_bps: float  # a bar; so are the next two
    gross_bps: float
    cost_bps: float
    turnover: float  # mean change of position a bar, that of closing included
    num_changes: int  # bars at whose close the position changes
    exposure_pct: float  # mean size of the position
    long_pct: float  # of the bars
    flat_pct: float
    short_pct: float
    intervals: dict[str, Interval]  # of net_bps, sharpe
    probabilistic_sharpe: float | None  # probability that the Sharpe ratio is above 0
    deflated_sharpe: float | None  # the same, paid for every variant tried
    num_variants_tried: int  # validation: checkpoints; test: seeds, and other runs
    minimum_detectable_sharpe: float | None  # see `significance`; annualised
    baselines: dict[str, Beside]
    comparisons: dict[str, Against]  # `best_baseline` (a constant one), and each
    spread: NotRequired[Spread]  # over the seeds; of the run itself
    curve: dict[str, Any]


class Learning(TypedDict):
    """What validation said of one seed while it learned."""

    seed: int
    steps: list[int]
    net_bps: list[float]  # mean net a bar


class Choice(TypedDict):
    """How the published policy was chosen, on validation."""

    statement: str
    is_flat: bool  # no policy was sure enough: it holds nothing
    num_candidates: int
    seed: int | None  # of the chosen one; None stays flat
    steps: int | None
    t_value: float  # of the best one
    needed_t_value: float  # adjusted for their number


class AgentSettings(TypedDict):
    """Costs and sizes that the results rest on."""

    fee_bps: float  # a side
    slippage_bps: float  # a side
    bar_seconds: int
    episode_bars: int
    num_seeds: int
    confidence_pct: float


class AgentResults(TypedDict):
    """The results of an agent's run."""

    target: str  # `TARGET`
    verdict: list[str]
    claims: dict[str, bool]  # edge
    warnings: list[str]
    trials: Trials
    settings: AgentSettings
    choice: Choice
    learning: NotRequired[list[Learning]]
    validation: NotRequired[AgentPart]
    test: NotRequired[AgentPart]
    outlook: NotRequired[dict[str, Expected]]  # net_a_bar
    promised: NotRequired[dict[str, Promised]]  # of an evaluation on later data
    audit: NotRequired[dict[str, Any]]  # `audit.findings.AuditReport`
