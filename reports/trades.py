"""Results -> the page's sections about money: trades, thresholds, folds.

In: which numbers, in which order, in which words. Out: forecasts (`class_forecasts`),
the run (`run_facts`), how it looks (`page`).
"""

from __future__ import annotations

from collections.abc import Sequence

from metrics.wording import five_digits
from reports.blocks import (
    Block,
    Cell,
    Material,
    Picture,
    Rows,
    Section,
    Table,
    TableRow,
)
from reports.views import view_of

_COMPARED: Rows = {
    "trades": ("trading.num_trades", "{:,}"),
    "net a trade, bps": ("trading.mean_net_return_bps", "{:+.1f}"),
    "net return, %": ("trading.total_return_pct", "{:+.1f}"),
    "drawdown, %": ("trading.max_drawdown_pct", "{:.1f}"),
}
_TRADES: Rows = {
    "trades": ("num_trades", "{:,}"),
    "of them LONG": ("num_long", "{:,}"),
    "of them SHORT": ("num_short", "{:,}"),
    "net a trade, bps": ("intervals.mean_net_return_bps", "{:+.1f}"),
    "gross a trade, bps": ("mean_gross_return_bps", "{:+.1f}"),
    "funding a trade, bps": ("mean_funding_bps", "{:.1f}"),
    "costs a side, bps": ("cost_bps", "{:g}"),
    "costs a side at which the edge is 0, bps": ("break_even_cost_bps", "{:.1f}"),
    "take profit hit, % of trades": ("trade_precision_pct", "{:.1f}"),
    "needed to break even, %": ("break_even_precision_pct", "{:.1f}"),
    "net return, %": ("intervals.total_return_pct", "{:+.1f}"),
    "largest drawdown, %": ("max_drawdown_pct", "{:.1f}"),
    "Sharpe ratio, a year": ("intervals.sharpe", "{:+.1f}"),
    "Sortino ratio, a year": ("sortino", "{:+.1f}"),
    "probability of a Sharpe ratio above 0": ("probabilistic_sharpe", "{:.2f}"),
    "the same, deflated by the variants tried": ("deflated_sharpe", "{:.2f}"),
    "variants tried on these rows": ("num_variants_tried", "{:,}"),
    "Sharpe ratio that this length could show": ("minimum_detectable_sharpe", "{:.1f}"),
    "profit factor": ("profit_factor", "{:.2f}"),
    "winning trades, %": ("win_rate_pct", "{:.1f}"),
    "worst 5 % of days, mean loss, %": ("cvar_95_pct", "{:.2f}"),
    "bars in a trade, mean": ("mean_holding_bars", "{:.1f}"),
    "time in a trade, %": ("exposure_pct", "{:.1f}"),
    "traded a day, times the equity": ("turnover_per_day", "{:.1f}"),
    "days": ("num_days", "{:.1f}"),
}
_MOST_TRADES = 50
_LISTED: Rows = {
    "in": ("time_in", "minute"),
    "out": ("time_out", "minute"),
    "side": ("side", "word"),
    "price": ("entry_price", ""),  # as many digits as it needs
    "bars": ("bars_held", "{:,}"),
    "left at": ("exit", "word"),
    "net, bps": ("net_bps", "{:+.1f}"),
    "equity": ("equity", "{:.4f}"),
}
_OF_BARRIERS = {"trade_precision_pct", "break_even_precision_pct"}
_SEARCH: Rows = {
    "chosen by": ("thresholds.objective", "text"),
    "pairs tried": ("thresholds.num_tried", "{:,}"),
    "with enough trades": ("thresholds.num_eligible", "{:,}"),
    "enough trades are": ("thresholds.min_trades", "{:,}"),
    "as good as the best": ("thresholds.num_near_best", "{:,}"),
}

FOLD_ROWS = {
    "skill_vs_train_prior": ("skill", "{:+.3f}"),
    "activity_skill_vs_train_prior": ("activity skill", "{:+.3f}"),
    "direction_skill_vs_train_prior": ("direction skill", "{:+.3f}"),
    "direction_p_value": ("direction p-value", "{:.3f}"),
    "accuracy": ("accuracy", "{:.3f}"),
    "skill_mse_vs_persistence": ("skill vs persistence", "{:+.3f}"),
    "skill_mse_vs_train_mean": ("skill vs train mean", "{:+.3f}"),
    "correlation": ("correlation", "{:+.3f}"),
    "sign_accuracy": ("signs right", "{:.3f}"),
    "sign_excess": ("signs beyond chance", "{:+.3f}"),
    "sign_p_value": ("sign p-value", "{:.3f}"),
    "trading_num_trades": ("trades", "{:.0f}"),
    "trading_mean_net_return_bps": ("net a trade, bps", "{:+.1f}"),
    "trading_total_return_pct": ("net return, %", "{:+.1f}"),
}
"""Headline numbers of a fold -> name and format."""

_MOST_FOLDS = 12
WALKED: Rows = {
    "trades": ("num_trades", "{:,}"),
    "bps a trade": ("mean_net_return_bps", "{:+.1f}"),
    "net, %": ("total_return_pct", "{:+.1f}"),
    "Sharpe": ("intervals.sharpe", "{:+.1f}"),
    "drawdown, %": ("max_drawdown_pct", "{:.1f}"),
    "its days": ("max_drawdown_days", "{:.0f}"),
    "longest, days": ("longest_drawdown_days", "{:.0f}"),
    "VaR, %": ("value_at_risk_95_pct", "{:.2f}"),
    "CVaR, %": ("cvar_95_pct", "{:.2f}"),
}
WALKS = {
    "retrained in each fold": "trading",
    "the first fold's model": "never_retrained.trading",
    "buy and hold": "trading.buy_and_hold",
}
"""What the tests of all folds earned, one after the other -> where that stands."""


def shown_folds(values: Sequence[float | None]) -> dict[str, int]:
    """Returns a column's name -> its fold: each one, or of many the extremes."""
    if len(values) <= _MOST_FOLDS:
        return {str(k + 1): k for k in range(len(values))}
    known = [k for k, value in enumerate(values) if value is not None] or [0]
    low, high = (end(known, key=lambda k: values[k] or 0.0) for end in (min, max))
    return {"lowest": low, "highest": high}


def trading_section(material: Material) -> Section | None:
    """Equity with costs and drawdown, and what the trades came to."""
    judged = material.parts("trading")
    trades = {part: material.results[part]["trading"] for part in judged}
    parts = [part for part in judged if "skipped" not in trades[part]]
    if not judged:
        return None
    if not parts:
        reason = trades[judged[0]]["skipped"]
        return Section(
            key="trades", title="Trades after costs", lead=f"Not simulated: {reason}."
        )
    has_barriers = material.results.get("target", "signal") == "signal"
    rows = {
        name: row
        for name, row in _TRADES.items()
        if has_barriers or row[0] not in _OF_BARRIERS
    }
    warning = " Thresholds were chosen on these rows: their trades prove nothing."
    pictures = [
        material.picture(
            f"equity_{part}",
            3.5,
            f"Equity in {part}, its drawdown below." + warning * (part == "validation"),
        )
        for part in parts
    ]
    below: list[Block] = []
    if material.prices is not None:
        words = "Close of the test part, where trades were entered and left; below, "
        words += "rows that were signalled, traded or not."
        # Side by side stand test and test, then tables, then validation.
        below = [*pictures[1:]]
        pictures[1:] = [material.picture("trades_test", 3.8, words)]
    compared = [part for part in parts if "baselines" in material.results[part]]
    caption, own = "Trades of every forecast in {}", "Trades of this model"
    return Section(
        key="trades",
        title="Trades after costs",
        lead="One position at a time, entered at the close of a signal's bar, "
        f"{_left_at(material, has_barriers)}. Both sides are charged their costs.",
        blocks=[
            *pictures,
            *material.forecast_tables(caption, compared, _COMPARED),
            *below,
            material.numbers.by_column(own, parts, rows, within="trading."),
            *_list_of_trades(material),
        ],
    )


def _left_at(material: Material, has_barriers: bool) -> str:
    """Returns where a trade ends, in words."""
    if has_barriers:
        return "left at its take profit, its stop loss or the end of the horizon"
    bars = material.results["settings"]["horizon_bars"]
    return f"held for {bars} bars (future_window), with neither take profit nor stop"


def _list_of_trades(material: Material) -> list[Block]:
    """Returns the table of the latest trades of the test part, the newest first."""
    numbers, count = material.numbers, len(material.trades.get("side", ()))
    if not count:
        return []
    shown = min(count, _MOST_TRADES)
    price = five_digits(material.trades["entry_price"][-1])
    columns = {**_LISTED, "price": ("entry_price", price)}
    rows: list[TableRow] = [
        (
            f"trade {k + 1:,}",
            [numbers.show(f"trades.{key}.{k}", form) for key, form in columns.values()],
        )
        for k in range(count - 1, count - 1 - shown, -1)
    ]
    return [
        Table(
            caption=f"The latest {shown} of {count:,} trades in test",
            head=["", *columns],
            rows=rows,
            note="All of them are in trades_*.csv beside this page. UTC; a position is "
            "taken and left at the close of a bar. Equity after the trade, 1 at the "
            "start.",
            is_open=False,
            is_stacked=True,
            is_wide=True,
        )
    ]


def thresholds_section(material: Material) -> Section | None:
    """The search of the thresholds on validation."""
    search, numbers = material.results.get("thresholds"), material.numbers
    if not search or "skipped" in search:
        return None
    captions = (
        "Net return of each pair of thresholds, named by the shares of rows that they "
        "signal. Grey: too few trades. Ring: the chosen pair.",
        "Net return a trade where one side trades alone; small figures: trades.",
    )
    panels = material.figures["thresholds"].subfigs
    blocks: list[Block] = [
        Picture(figure=panel, height=3.75, caption=caption)
        for panel, caption in zip(panels, captions, strict=False)
    ]
    score, form = view_of(material.results).threshold
    rows: list[TableRow] = []
    for side in ("short", "long"):
        key = f"thresholds.{side}_threshold"
        never = "never" if numbers.find(key) is None else ""
        cell = numbers.show(key, form, text=never)
        rows.append((f"{side.upper()} from a {score} of", [cell]))
    rows += numbers.facts("", _SEARCH).rows
    blocks.append(Table(caption="The search", head=[], rows=rows))
    return Section(
        key="thresholds",
        title="Thresholds",
        lead=f"Searched on validation: {search['statement']}.",
        blocks=blocks,
    )


def folds_section(material: Material) -> Section | None:
    """Cross-validation: where the folds lie and what each says."""
    summary = material.results.get("cross_validation")
    if not summary:
        return None
    count = summary["num_folds"]
    skill = "Skill of each fold's model on its test rows. Dotted: the mean."
    blocks: list[Block] = [
        material.picture("folds_skill", 3.0, skill),
        material.picture(
            "folds", 1.5 + 0.25 * min(count, 20), "Rows of each fold. Grey: left out."
        ),
        _fold_table(material, "metrics", "fold", caption="Test rows of each fold"),
    ]
    if "paths" in summary:
        cells: list[Cell] = [
            material.numbers.show(f"cross_validation.folds.{k}.lookback_rows", "{:,}")
            for k in range(count)
        ]
        blocks += [
            _fold_table(material, "paths", "path", caption="Paths through all blocks"),
            Table(
                caption="Training rows whose look-back touches a test block",
                head=["", *(f"fold {k + 1}" for k in range(count))],
                rows=[("rows", cells)],
                is_wide=True,
            ),
        ]
    elif "skipped" not in summary.get("trading", {"skipped": ""}):
        blocks += _walk_blocks(material)
    return Section(
        key="folds",
        title=f"Cross-validation, {count} folds",
        lead=f"Split by {summary['cv'].replace('_', ' ')}. Every fold trains a model "
        "of its own and is judged on rows that it never saw, all before the test part.",
        blocks=blocks,
    )


def _walk_blocks(material: Material) -> list[Block]:
    """What the folds' tests earned one after the other: curve, numbers, months."""
    numbers = material.numbers
    rows: list[TableRow] = []
    for name, place in WALKS.items():
        cells: list[Cell] = []
        for key, form in WALKED.values():
            found = numbers.show(f"cross_validation.{place}.{key}", form)
            if found.value is None:  # buy and hold has no intervals
                last = key.split(".")[-1]
                found = numbers.show(f"cross_validation.{place}.{last}", form)
            cells.append(found)
        rows.append((name, cells))
    gain = "cross_validation.never_retrained.intervals.gain_bps_per_day"
    return [
        material.picture(
            "folds_equity",
            3.5,
            "Equity over the tests of all folds, and its drawdown. "
            "Beside it the first fold's model, never retrained.",
        ),
        Table(
            caption="The folds' tests as one: one position at a time",
            head=["", *WALKED],
            rows=rows,
            note="Each fold's model, calibration and thresholds trade its own test. "
            "VaR and CVaR: loss of a day at 95 %. Drawdowns last from their peak until "
            "it is regained, or to the end.",
            is_wide=True,
        ),
        numbers.facts("What retraining gained", {"net a day, bps": (gain, "{:+.1f}")}),
        _walk_months(material),
    ]


def _walk_months(material: Material) -> Table:
    """What each month of the folds' tests earned, beside what a month held."""
    retrained, fixed, _ = (f"cross_validation.{place}" for place in WALKS.values())
    columns = (
        (retrained, "return_pct", "{:+.1f}"),
        (fixed, "return_pct", "{:+.1f}"),
        (retrained, "buy_and_hold_pct", "{:+.1f}"),
        (retrained, "num_trades", "{:,}"),
    )
    show = material.numbers.show
    months = material.results["cross_validation"]["trading"]["months"]
    return Table(
        caption="Months of the folds' tests",
        head=["", *(f"{name}, %" for name in WALKS), "trades"],
        rows=[
            (
                month["month"],
                [show(f"{at}.months.{k}.{key}", form) for at, key, form in columns],
            )
            for k, month in enumerate(months)
        ],
    )


def _fold_table(material: Material, key: str, what: str, *, caption: str) -> Table:
    """Returns mean, spread and each value of what folds or paths say."""
    numbers = material.numbers
    metrics = material.results["cross_validation"][key]
    rows: list[TableRow] = []
    shown: dict[str, int] = {}
    for name in [name for name in FOLD_ROWS if name in metrics]:
        place, (words, pattern) = f"cross_validation.{key}.{name}", FOLD_ROWS[name]
        shown = shown_folds(metrics[name]["folds"])
        places = ["mean", "std", *(f"folds.{k}" for k in shown.values())]
        cells = [numbers.show(f"{place}.{each}", pattern) for each in places]
        cells[1] = numbers.show(f"{place}.std", pattern.replace("+", ""))
        rows.append((words, cells))
    return Table(
        caption=caption,
        head=[
            *("", "mean", "spread"),
            *(f"{what} {name}" if name.isdigit() else name for name in shown),
        ],
        rows=rows,
        note=f"Spread: sample standard deviation over the {what}s.",
        is_wide=True,
    )
