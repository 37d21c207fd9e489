"""What a model is made of: pairs that it learned from, features, models below it.

In: `pairs`, `importance`, `parents`, `stack` and `position` of the results as text,
figure and sections of the page. Out: measuring them (`evaluation.importance`,
`evaluation.evaluate`, `models.stacking`, `positions.beside`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from evaluation.evaluate import task_of_results
from metrics.wording import interval, number
from reports.blocks import Block, Material, Numbers, Rows, Section, Table
from reports.plots import BLUE, GREY, INK, new_axes
from reports.text import format_table, number_table, wrap

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_FEATURES = 20
"""Features that a figure and the terminal have room for."""

_COLUMNS: Rows = {
    "skill lost": ("mean", "{:+.4f}"),
    "spread": ("std", "{:.4f}"),
    "direction skill lost": ("direction_mean", "{:+.4f}"),
}


def _columns(features: Sequence[Mapping[str, Any]]) -> Rows:
    """Returns the columns, that of the direction where it was measured."""
    has_direction = any(each.get("direction_mean") is not None for each in features)
    return dict([*_COLUMNS.items()][: 2 + has_direction])


def format_importance(importance: Mapping[str, Any]) -> str:
    """Returns the most important features, a line each."""
    features = importance["features"]
    rows = [(each["name"][:28], each) for each in features[:MOST_FEATURES]]
    lines = [
        f"without a feature, {importance['part']}: skill lost when it is shuffled, "
        f"{importance['num_windows']:,} windows, {importance['num_repeats']} times",
        *number_table(rows, _columns(features)),
    ]
    if len(features) > MOST_FEATURES:
        lines.append(f"  ... and {len(features) - MOST_FEATURES} more")
    return "\n".join(lines)


def plot_importance(importance: Mapping[str, Any]) -> Figure:
    """Draws the skill that is lost without each of the most important features."""
    features = importance["features"][:MOST_FEATURES]
    titles = {"mean": "all of it", "direction_mean": "direction"}
    kinds = {key: titles[key] for key, _ in _columns(features).values() if key != "std"}
    size, shape = (4.5 * len(kinds), 1.2 + 0.26 * len(features)), (1, len(kinds))
    figure, panels = new_axes(*size, *shape, grid="x", sharey=True, squeeze=False)
    places = np.arange(len(features))
    for axes, (key, title) in zip(panels[0], kinds.items(), strict=True):
        lost = [each[key] or 0.0 for each in features]
        ends = [each[key.replace("mean", "std")] or 0.0 for each in features]
        axes.barh(places, lost, xerr=ends, color=BLUE, height=0.7, ecolor=GREY)
        axes.axvline(0, color=INK, linewidth=1)
        axes.set(title=title, xlabel="skill lost")
    panels[0][0].set_yticks(places, [each["name"][:28] for each in features])
    panels[0][0].set_ylim(len(features) - 0.4, -0.6)
    return figure


def importance_section(material: Material) -> Section | None:
    """What the model loses without each feature, and what its library says of them."""
    found = material.results.get("importance")
    if not found:
        return None
    names = [each["name"] for each in found["features"]]
    columns = _columns(found["features"])
    places = {name: f"importance.features.{k}" for k, name in enumerate(names)}
    blocks: list[Block] = [
        material.picture(
            "importance",
            0.9 + 0.2 * min(len(names), MOST_FEATURES),
            "Skill lost when a feature is shuffled among validation windows; lines: "
            "spread over the shuffles.",
        ),
        material.numbers.by_row(
            f"{len(names)} features, most lost first",
            places,
            columns,
            is_open=len(names) <= MOST_FEATURES,
        ),
    ]
    own = material.results.get("library_importance")
    if own:
        place: Rows = {"share": ("share", "{:.1%}")}
        rows = {each["name"]: f"library_importance.{k}" for k, each in enumerate(own)}
        caption = "What the library itself says"
        note = "Gain of splits, or size of coefficients, in training."
        blocks.append(
            material.numbers.by_row(caption, rows, place, note=note, is_open=False)
        )
    return Section(
        key="importance",
        title="Features",
        lead="What the model loses when a feature tells of other bars instead. Of two "
        "features that say the same, neither seems to matter much.",
        blocks=blocks,
    )


# Pooled pairs

_OF_PAIR: Rows = {
    "net/trade": ("trading.intervals.mean_net_return_bps", "{:+.1f} bp"),
    "trades": ("trading.num_trades", "{:,}"),
    "net": ("trading.total_return_pct", "{:+.1f}%"),
    "held": ("baselines.buy_and_hold.trading.total_return_pct", "{:+.1f}%"),
}


def _pair_columns(results: Mapping[str, Any]) -> Rows:
    """Returns what is said of each pair: its claims' first measures, its trades."""
    claimed = task_of_results(results).claimed
    skills = {name: f"intervals.{keys[0]}" for name, keys in claimed.items()}
    shown = {name: (key, "{:+.3f}") for name, key in skills.items()}
    return {"targets": ("num_samples", "{:,}"), **shown, **_OF_PAIR}


def format_pairs(results: Mapping[str, Any]) -> str:
    """Returns what the test part of each pooled pair came to, a line each."""
    columns, rows = _pair_columns(results), []
    for pair, parts in results["pairs"].items():
        numbers, cells = Numbers(parts.get("test", {})), []
        for key, form in columns.values():
            found = numbers.find(key)
            is_interval = isinstance(found, Mapping)
            cells.append(interval(found, form) if is_interval else number(found, form))
        rows.append([pair, *cells])
    return "\n".join(["pairs, test:", *format_table([["", *columns], *rows])])


def pairs_section(material: Material) -> Section | None:
    """Each pooled pair by itself."""
    pairs = material.results.get("pairs")
    if not pairs:
        return None
    columns = _pair_columns(material.results)
    tables = [
        material.numbers.by_row(
            f"Each pair in {part}",
            {pair: f"pairs.{pair}.{part}" for pair in pairs},
            columns,
            is_wide=True,
            is_stacked=True,
        )
        for part in ("test", "validation")
        if all(part in found for found in pairs.values())
    ]
    return Section(
        key="pairs",
        title="Pairs",
        lead="One model, calibration and thresholds for all; class shares that it is "
        "measured against, and scales, are each pair's own. Above, an interval is of "
        "moments, at which all pairs move together, and an equal share of the equity "
        "trades each. Of several pairs one looks good by chance: nothing is claimed of "
        "a pair by itself.",
        blocks=tables,
    )


# Models below it

_SHARE = "{:.1%}"
_ALIKE = {
    "loss_correlation": ("Correlation of their losses on test", "{:.3f}"),
    "disagreement": ("Share of the test rows with another most probable class", _SHARE),
    "side_disagreement": ("Share of them with another side, LONG or SHORT", _SHARE),
}
"""How alike members are -> what a table of it is called, and its format."""


def format_parents(results: Mapping[str, Any]) -> str:
    """Returns how the model does beside those that it builds on, and its weights."""
    task, stack = task_of_results(results), results.get("stack")
    lines = [wrap(results["parents"]["statement"])]
    if stack is None:
        return "\n".join(lines)
    shrunk = ""
    if stack["shrinkage"] is not None:
        shrunk = f", pulled to equal ones by {stack['shrinkage']:g}"
    crossed = "too short to be halved"
    if stack["is_crossed"]:
        crossed = f"{stack['crossed_loss']:.5f} by weights of its other half"
    lines.append(
        f"  {stack['rule']} weights{shrunk}, to the power of {stack['sharpness']:.3f}: "
        f"{task.loss_name} on validation "
        f"{stack['loss']:.5f}, {crossed}"
    )
    rows = [["", "weight", "validation", "test", "correlation", "class", "side"]]
    for k, member in enumerate(stack["members"]):
        name, key = member["name"], task.measures["skill"]
        skills = (results[part]["baselines"][name][key] for part in _BY_TIME)
        others = [j for j in range(len(stack["members"])) if j != k]
        pairs = ([stack["test"][kind][k][j] for j in others] for kind in _ALIKE)
        rows.append(
            [
                task.baseline_names[name],
                f"{member['weight']:.3f}",
                *(number(skill, "{:+.4f}") for skill in skills),
                *(
                    number(_mean(found), form)
                    for found, (_, form) in zip(pairs, _ALIKE.values(), strict=True)
                ),
            ]
        )
    lines += format_table(rows)
    lines.append("  skills; on test beside the others: losses, answers, sides")
    return "\n".join(lines)


_BY_TIME = ("validation", "test")


def _mean(values: Sequence[float | None]) -> float | None:
    """Returns the mean of the values that there are."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def parents_section(material: Material) -> Section | None:
    """How the model does beside those that it builds on; of a stack their weights."""
    results = material.results
    parents = results.get("parents")
    if not parents:
        return None
    task, stack = task_of_results(results), results.get("stack")
    words, lead = parents["statement"], ""
    blocks: list[Block] = []
    if stack is not None:
        names = [task.baseline_names[each["name"]] for each in stack["members"]]
        blocks.append(_weights(material, names))
        blocks += [_pairs(material, names, kind) for kind in _ALIKE]
        lead = (
            " Weights were learned on validation, which taught no member its own; "
            "convex ones are as near to equal ones as one half of validation cannot "
            "tell from the best weights of the other. Their mean is less sure than it "
            "could be: it is raised to a power."
        )
    return Section(
        key="parents",
        title="Models below it",
        lead=f"{words[0].upper()}{words[1:]}.{lead} Each is judged on the same rows "
        "with thresholds of its own, among the baselines.",
        blocks=blocks,
    )


def _weights(material: Material, names: Sequence[str]) -> Table:
    """Returns what each member counts, and its skill in both parts."""
    numbers, stack = material.numbers, material.results["stack"]
    key = task_of_results(material.results).measures["skill"]
    rows = [
        (
            name,
            [
                numbers.show(f"stack.members.{k}.weight", "{:.3f}"),
                *(
                    numbers.show(f"{part}.baselines.{each['name']}.{key}", "{:+.4f}")
                    for part in _BY_TIME
                ),
                numbers.show(f"stack.members.{k}.named", "text"),
            ],
        )
        for k, (name, each) in enumerate(zip(names, stack["members"], strict=True))
    ]
    head = ["", "weight", *(f"skill, {part}" for part in _BY_TIME), "named"]
    keys = ("loss", "crossed_loss")
    taught, crossed = (numbers.show(f"stack.{key}", "{:.5f}").text for key in keys)
    power = numbers.show("stack.sharpness", "{:.3f}").text
    return Table(
        caption=f"Members, {stack['rule']} weights",
        head=head,
        rows=rows,
        note=f"To the power of {power}. Loss on validation, which taught the weights, "
        f"{taught}; of each half by the weights of the other {crossed}.",
        is_stacked=True,
        is_wide=True,
    )


def _pairs(material: Material, names: Sequence[str], kind: str) -> Table:
    """Returns how alike each two members are on test."""
    caption, form = _ALIKE[kind]
    numbers, count = material.numbers, range(len(names))
    rows = [
        (name, [numbers.show(f"stack.test.{kind}.{i}.{j}", form) for j in count])
        for i, name in enumerate(names)
    ]
    numbered = [name.removeprefix("member ").partition(" ")[0] for name in names]
    return Table(caption=caption, head=["", *numbered], rows=rows)


# Its position, of a model that has one beside its classes

_POSITION: Rows = {
    "from": ("first", "day"),
    "to": ("last", "day"),
    "bars": ("num_samples", "{:,}"),
    "net a bar, bps": ("intervals.net_bps", "{:+.3f}"),
    "gross a bar, bps": ("gross_bps", "{:+.3f}"),
    "costs a bar, bps": ("cost_bps", "{:.3f}"),
    "net return, %": ("total_return_pct", "{:+.1f}"),
    "Sharpe ratio, a year": ("intervals.sharpe", "{:+.1f}"),
    "the probability that it is above 0, deflated": ("deflated_sharpe", "{:.2f}"),
    "largest drawdown, %": ("max_drawdown_pct", "{:.1f}"),
    "change of position a bar": ("turnover", "{:.4f}"),
    "mean size of the position, %": ("exposure_pct", "{:.1f}"),
}


def format_position(found: Mapping[str, Any]) -> str:
    """Returns what a position came to, as text."""
    lines = [wrap(f"its position: {found['statement']}")]
    for part in _BY_TIME:
        result = found[part]
        sharpe = interval(result["intervals"]["sharpe"], "{:+.1f}")
        lines.append(
            f"  {part}: {result['total_return_pct']:+.1f}%, Sharpe {sharpe}, drawdown "
            f"{result['max_drawdown_pct']:.1f}%, {result['exposure_pct']:.0f}% in the "
            f"market, {result['turnover']:.4f} changed a bar"
        )
    return "\n".join(lines)


def position_section(material: Material) -> Section | None:
    """What a position came to, and beyond whom it earned."""
    found, numbers = material.results.get("position"), material.numbers
    if not found:
        return None
    rows = [
        (
            name.replace("_", " "),
            [
                numbers.show(f"position.test.baselines.{name}.net_bps", "{:+.3f}"),
                numbers.interval(f"{against}.net_difference", "{:+.3f}"),
                numbers.show(f"{against}.net_difference.p_value", "{:.3f}"),
            ],
        )
        for name in found["test"]["baselines"]
        for against in [f"position.test.comparisons.{name}"]
    ]
    came_to = [
        (name, [numbers.show(f"position.{part}.{key}", form) for part in _BY_TIME])
        for name, (key, form) in _POSITION.items()
    ]
    statement = found["statement"]
    return Section(
        key="position",
        title="Its position",
        lead="Taken at the close of each target's bar, held until the next close; fee "
        f"and slippage are paid for each change. {statement[0].upper()}{statement[1:]}",
        blocks=[
            Table(caption="What it came to", head=["", *_BY_TIME], rows=came_to),
            Table(
                caption="Beside others on test, bar by bar",
                head=["", "their net a bar, bps", "the position beyond it, bps", "p"],
                rows=rows,
            ),
        ],
    )
