"""How results of an agent are shown: lines of text, sections of the page.

In: which numbers, in which order, in which words. Out: its pictures (`plots`), the
claims (`claims`), the page itself (`reports.page`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evaluation.verdict import MIN_DEFLATED_SHARPE
from metrics.wording import interval, number, p_value
from positions import plots
from positions.claims import NAMES
from positions.results import TARGET
from reports import run_facts, views
from reports.blocks import Block, Material, Rows, Section, Table, TableRow
from reports.outlook import outlook_table
from reports.text import format_table
from reports.views import View

_ACCOUNT: Rows = {
    "from": ("first", "day"),
    "to": ("last", "day"),
    "bars": ("num_samples", "{:,}"),
    "net a bar, bps": ("intervals.net_bps", "{:+.3f}"),
    "gross a bar, bps": ("gross_bps", "{:+.3f}"),
    "costs a bar, bps": ("cost_bps", "{:.3f}"),
    "net return, %": ("total_return_pct", "{:+.1f}"),
    "largest drawdown, %": ("max_drawdown_pct", "{:.1f}"),
    "Sharpe ratio, a year": ("intervals.sharpe", "{:+.1f}"),
    "Sortino ratio, a year": ("sortino", "{:+.1f}"),
    "probability of a Sharpe ratio above 0": ("probabilistic_sharpe", "{:.2f}"),
    "the same, deflated by the variants tried": ("deflated_sharpe", "{:.2f}"),
    "variants tried": ("num_variants_tried", "{:,}"),
    "Sharpe ratio that this length could show": ("minimum_detectable_sharpe", "{:.1f}"),
    "loss of a day, 95 % value at risk, %": ("value_at_risk_95_pct", "{:.2f}"),
    "worst 5 % of days, mean loss, %": ("cvar_95_pct", "{:.2f}"),
    "position changed, bars": ("num_changes", "{:,}"),
    "change of position a bar": ("turnover", "{:.4f}"),
    "mean size of the position, %": ("exposure_pct", "{:.1f}"),
    "LONG, % of bars": ("long_pct", "{:.1f}"),
    "flat, % of bars": ("flat_pct", "{:.1f}"),
    "SHORT, % of bars": ("short_pct", "{:.1f}"),
    "days": ("length.days", "{:.1f}"),
}
_BESIDE: Rows = {
    "net a bar, bps": ("net_bps", "{:+.3f}"),
    "net return, %": ("total_return_pct", "{:+.1f}"),
    "Sharpe": ("sharpe", "{:+.1f}"),
    "drawdown, %": ("max_drawdown_pct", "{:.1f}"),
    "position, %": ("exposure_pct", "{:.0f}"),
}
_SEED: Rows = {
    "seed": ("seed", "word"),
    "steps": ("steps", "{:,}"),
    "net a bar, bps": ("net_bps", "{:+.3f}"),
    "net return, %": ("total_return_pct", "{:+.1f}"),
    "change a bar": ("turnover", "{:.4f}"),
    "position, %": ("exposure_pct", "{:.0f}"),
}
_CHOICE: Rows = {
    "checkpoints to choose from": ("choice.num_candidates", "{:,}"),
    "t of the best one": ("choice.t_value", "{:+.2f}"),
    "t needed, for so many": ("choice.needed_t_value", "{:.2f}"),
    "kept: seed": ("choice.seed", "word"),
    "after steps": ("choice.steps", "{:,}"),
    "parameters of the policy": ("metadata.model.total_parameters", "{:,}"),
    "steps of all seeds": ("metadata.training.num_steps", "{:,}"),
    "seconds": ("metadata.training.seconds", "{:,.1f}"),
    "bars of an episode": ("settings.episode_bars", "{:,}"),
    "fee a side, bps": ("settings.fee_bps", "{:g}"),
    "slippage a side, bps": ("settings.slippage_bps", "{:g}"),
}

RULES = {
    "Earned": "Log returns of the position held from each close to the next, less fee "
    "and slippage for every change of it. Nothing is known of funding.",
    "Against": "No position, always long and always short need no agent. The best of "
    "them in this very part is held against the agent bar by bar, in pairs.",
    "After costs": "Claimed where the interval of the net return beyond the best "
    "constant position lies above 0, and where the Sharpe ratio is above 0 with a "
    f"probability of more than {MIN_DEFLATED_SHARPE:g}, deflated by the seeds of the "
    "run and the runs that looked at this test part.",
}
"""First words of a line of the verdict -> what decides it (`claims`)."""


def register() -> None:
    """Lets reports show results whose target is a position."""
    views.register_view(TARGET, VIEW)


# Text


def part_lines(result: Mapping[str, Any]) -> list[str]:
    """Returns what an agent came to on one part as lines."""
    found = result["intervals"]
    return [
        f"  net {interval(found['net_bps'], '{:+.3f}')} bps a bar: gross "
        f"{result['gross_bps']:+.3f}, costs {result['cost_bps']:.3f}; in all "
        f"{result['total_return_pct']:+.1f}%",
        f"  long {result['long_pct']:.1f}%, flat {result['flat_pct']:.1f}%, short "
        f"{result['short_pct']:.1f}% of the bars, changed {result['num_changes']:,} "
        f"times, {result['turnover']:.4f} a bar",
        f"  Sharpe {interval(found['sharpe'], '{:+.1f}')}, drawdown "
        f"{result['max_drawdown_pct']:.1f}%, value at risk of a day "
        f"{result['value_at_risk_95_pct']:.2f}% (mean beyond it "
        f"{result['cvar_95_pct']:.2f}%)",
        *_baseline_lines(result),
        *_spread_line(result),
    ]


def _baseline_lines(result: Mapping[str, Any]) -> list[str]:
    rows = [["beside", "net", "Sharpe", "drawdown", "agent beyond it, bps a bar", "p"]]
    for name, beside in result["baselines"].items():
        found = result["comparisons"][name]["net_difference"]
        rows.append(
            [
                NAMES[name],
                f"{beside['total_return_pct']:+.1f}%",
                number(beside["sharpe"], "{:+.1f}"),
                f"{beside['max_drawdown_pct']:.1f}%",
                interval(found, "{:+.3f}"),
                p_value(found["p_value"], "-"),
            ]
        )
    return format_table(rows)


def _spread_line(result: Mapping[str, Any]) -> list[str]:
    spread = result.get("spread")
    if spread is None:
        return []
    each = ", ".join(f"{seed['net_bps']:+.3f}" for seed in spread["seeds"])
    wide = "" if spread["std_net_bps"] is None else f" ± {spread['std_net_bps']:.3f}"
    return [f"  seeds, net a bar: {spread['mean_net_bps']:+.3f}{wide} bps ({each})"]


def decided(results: Mapping[str, Any]) -> str:
    """Returns what validation chose."""
    return str(results["choice"]["statement"])


# Sections


def account_section(material: Material) -> Section | None:
    """Equity against the baselines, positions, and what they came to."""
    parts = material.parts("net_bps")
    if not parts:
        return None
    chosen = " The agent was chosen on these rows: they prove nothing."
    pictures: list[Block] = []
    for part in parts:
        words = f"Equity in {part} beside positions that need no agent."
        words += chosen * (part == "validation")
        pictures.append(material.picture(f"equity_{part}", 4.2, words))
    words = "Close of {}, and the position held, its mean over a stretch of bars."
    return Section(
        key="account",
        title="What the positions earned",
        lead="A position is taken at the close of a bar and held until the next close; "
        "fee and slippage are paid for each change, and for closing before a gap and "
        "at the end.",
        blocks=[
            *pictures,
            *material.pictures("positions", parts, 3.4, words),
            material.numbers.by_column("What it came to", parts, _ACCOUNT),
            *outlook_table(material),
        ],
    )


def baselines_section(material: Material) -> Section | None:
    """The agent against positions that need none, in pairs."""
    parts = material.parts("baselines")
    if not parts:
        return None
    words = "Net a bar beyond each baseline in {}. Right of the line: the agent earned "
    words += "more."
    count = max(len(material.results[part]["baselines"]) for part in parts)
    return Section(
        key="baselines",
        title="Against baselines",
        lead="Bar by bar on the same rows, with the same costs. In brackets 95 % "
        "intervals; p is that of no difference.",
        blocks=[
            *material.pictures("baselines", parts, 1.1 + 0.3 * count, words),
            *(_beside_table(material, part) for part in parts),
        ],
    )


def _beside_table(material: Material, part: str) -> Table:
    numbers, rows = material.numbers, list[TableRow]()
    places = {"this agent": part} | {
        NAMES[name]: f"{part}.baselines.{name}"
        for name in material.results[part]["baselines"]
    }
    for words, place in places.items():
        cells = [numbers.show(f"{place}.{key}", form) for key, form in _BESIDE.values()]
        against = f"{part}.comparisons.{place.rpartition('.')[2]}.net_difference"
        is_own = place == part
        cells += [
            numbers.show("", "") if is_own else numbers.interval(against, "{:+.3f}"),
            numbers.show("" if is_own else f"{against}.p_value", "{:.3f}"),
        ]
        rows.append((words, cells))
    head = ["", *_BESIDE, "agent beyond it, bps", "p"]
    return Table(
        caption=f"Accounts in {part}",
        head=head,
        rows=rows,
        is_stacked=True,
        is_wide=True,
    )


def seeds_section(material: Material) -> Section | None:
    """How the seeds learned, what each came to, and which was kept."""
    results, numbers = material.results, material.numbers
    blocks: list[Block] = []
    if "learning_curves" in material.figures:
        words = "Net a bar on validation by the bars that each seed had learned from. "
        words += "A dot: the checkpoint that was kept."
        blocks.append(material.picture("learning_curves", 3.2, words))
    for part in material.parts("spread"):
        places = {
            f"seed {k + 1}": f"{part}.spread.seeds.{k}"
            for k in range(len(results[part]["spread"]["seeds"]))
        }
        caption = f"The best checkpoint of each seed, in {part}"
        blocks.append(numbers.by_row(caption, places, _SEED, is_wide=True))
    blocks.append(numbers.facts("The choice on validation", _CHOICE))
    return Section(
        key="seeds",
        title="Seeds and the choice among them",
        lead=f"{results['choice']['statement'][0].upper()}"
        f"{results['choice']['statement'][1:]}. Seeds differ in their weights and in "
        "what they explored; where they differ much, the kept one was lucky.",
        blocks=blocks,
    )


VIEW = View(
    rules=RULES,
    part_lines=part_lines,
    decided=decided,
    part_figures=plots.part_figures,
    sections=(account_section, baselines_section, seeds_section),
    counted="bars",
    run_figures=plots.run_figures,
    replaces=frozenset({run_facts.learning_section}),
)
