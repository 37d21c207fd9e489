"""Metadata -> the page's sections about the run: leaks, labels, data, settings.

In: which facts, in which order, in which words. Out: results (`class_forecasts`,
`trades`), how it looks (`page`).
"""

from __future__ import annotations

from typing import Any

from config import CLASS_NAMES, Config
from reports.blocks import (
    Block,
    Material,
    Number,
    Picture,
    Rows,
    Section,
    Table,
    TableRow,
)
from reports.plots import curve_metrics

_PARTS = {
    "from": ("first", "day"),
    "to": ("last", "day"),
    "targets": ("targets", "{:,}"),
}
_MIX = {n: (f"label_shares.{k}", "{:.1%}") for k, n in enumerate(CLASS_NAMES)}
_MOMENTS = {
    "mean, bps": ("log_return.mean_bps", "{:+.1f}"),
    "deviation, bps": ("log_return.std_bps", "{:.1f}"),
}
_TRAINING: Rows = {
    "parameters": ("metadata.model.total_parameters", "{:,}"),
    "epochs or rounds": ("metadata.training.completed_epochs", "{:,}"),
    "the best, kept": ("metadata.training.best_epoch", "{:,}"),
    "windows an epoch": ("metadata.training.windows_per_epoch", "{:,}"),
    "seconds": ("metadata.training.seconds", "{:,.1f}"),
    "targets to train on": ("metadata.data.num_trained_targets", "{:,}"),
    "device": ("metadata.runtime.device", "text"),
}
_SOURCE: Rows = {
    "file": ("metadata.data.path", "text"),
    "sha256": ("metadata.data.sha256", "text"),
    "rows": ("metadata.data.rows", "{:,}"),
    "rows used": ("metadata.data.rows_used", "{:,}"),
    "candles": ("metadata.data.num_candles", "{:,}"),
    "candles from": ("metadata.data.candles.first", "minute"),
    "candles to": ("metadata.data.candles.last", "minute"),
    "gaps": ("metadata.data.candles.num_gaps", "{:,}"),
    "bars missing": ("metadata.data.candles.missing_bars", "{:,}"),
    "longest gap, bars": ("metadata.data.candles.longest_gap_bars", "{:,}"),
    "bars without volume": ("metadata.data.candles.zero_volume_bars", "{:,}"),
    "bars filled": ("metadata.data.num_filled_bars", "{:,}"),
    "share filled": ("metadata.data.candles.filled_share", "{:.2%}"),
    "gapless segments": ("metadata.data.num_segments", "{:,}"),
    "warm-up, bars": ("metadata.data.warm_up_bars", "{:,}"),
}
_MOST_FEATURES = 12


def audit_section(material: Material) -> Section | None:
    """What was looked for in the data, and what was found."""
    audit, numbers = material.results.get("audit"), material.numbers
    if not audit:
        return None
    order = ("leak", "doubtful", "passed", "not done")
    rows = []
    for k, finding in sorted(
        enumerate(audit["findings"]), key=lambda item: order.index(item[1]["outcome"])
    ):
        place = f"audit.findings.{k}"
        forms = {"outcome": "word", "words": "text"}
        cells = [numbers.show(f"{place}.{key}", form) for key, form in forms.items()]
        rows.append((finding["check"], cells))
    lead = "What was looked for in the data, and what was found."
    if any(finding["outcome"] == "not done" for finding in audit["findings"]):
        lead += " What was not done is not passed: python trainer.py --audit does more."
    if audit["leaks"]:
        lead = (
            "Results on data that leak do not hold. Repair the file where it is made."
        )
    table = Table(caption=audit["subject"], head=[], rows=rows, is_wide=True)
    return Section(key="audit", title="Leaks", lead=lead, blocks=[table])


def labels_section(material: Material) -> Section | None:
    """The class mix over time, and where the parts lie."""
    blocks: list[Block] = []
    title, lead = "Targets over time", ""
    if material.label_mix is not None:
        title = "Label mix"
        lead = "A mix that moves makes a forecast of the training shares easy to beat; "
        lead += "the trailing mix follows it. "
        caption = "Share of each class among the labels, over time."
        blocks.append(material.picture("label_mix", 2.7, caption))
    elif "target_over_time" in material.results:
        caption = "Log return over the horizon: shares of the rows, over time."
        blocks.append(material.picture("target_over_time", 2.9, caption))
    split = material.metadata.get("split", {})
    if split:
        places = {part: f"metadata.split.{part}" for part in split}
        has_classes = any("label_shares" in values for values in split.values())
        columns = _PARTS | (_MIX if has_classes else _MOMENTS)
        caption = "Parts, and their targets"
        looks = {"is_stacked": True, "is_wide": True}
        blocks.append(material.numbers.by_row(caption, places, columns, **looks))
    if not blocks:
        return None
    apart = "No bar of a window or of a target is in two parts."
    rows = material.metadata.get("rows", {})
    if any(rows[name] for name in rows if name.startswith("shared")):
        apart = "Rows that were evaluated share bars with other parts."
    return Section(
        key="labels",
        title=title,
        lead=lead + apart,
        blocks=blocks,
    )


def learning_section(material: Material) -> Section | None:
    """Learning curves, and what training took."""
    step = material.step
    blocks: list[Block] = []
    if metrics := curve_metrics(material.history):
        panels = material.figures["learning_curves"].subfigs
        for metric, panel in zip(metrics, panels, strict=True):
            caption = f"{metric.capitalize()} by {step}."
            blocks.append(Picture(figure=panel, height=3.0, caption=caption))
    took = material.numbers.facts("Training", _TRAINING)
    if took.rows:
        blocks.append(took)
    if not blocks:
        return None
    return Section(
        key="learning",
        title="Learning curves",
        lead=f"The model is that of its best {step}. Training values are at the class "
        f"mix that training sees{', with dropout' if step == 'epoch' else ''}: they "
        "need not be the better ones.",
        blocks=blocks,
    )


def data_section(material: Material) -> Section | None:
    """Where the rows came from, and what is wrong with them."""
    data, numbers = material.metadata.get("data"), material.numbers
    if not data:
        return None
    blocks = [numbers.facts("Source", _SOURCE)]
    names = data.get("feature_names") or []
    if names:
        caption = f"{len(names)} features, in the model's order"
        is_open = len(names) <= _MOST_FEATURES
        keys = (f"metadata.data.feature_names.{k}" for k in range(len(names)))
        rows = [("", [numbers.show(key, "text")]) for key in keys]
        blocks.append(Table(caption=caption, head=[], rows=rows, is_open=is_open))
    made = "built here" if data.get("built_by_us") else "made elsewhere"
    what = "rows were" if "rows" in material.metadata else "training file was"
    origin = f"The {what} {made}"
    if data.get("path") is None:
        origin = "The rows were handed over as a DataFrame"
    return Section(
        key="data",
        title="Data quality",
        lead=f"{origin}. A filled bar carries the last close "
        "forward and is never a target; a longer gap ends its segment, and warm-up and "
        "windows start anew behind it.",
        blocks=blocks,
    )


def configuration_section(material: Material) -> Section | None:
    """Every setting; those that differ from their default first."""
    config, numbers = material.metadata.get("config"), material.numbers
    if not config:
        return None
    defaults = Config().to_dict()

    def cell(name: str) -> Number:
        text = _setting(config[name])
        return numbers.show(f"metadata.config.{name}", "text", text=text)

    different: list[TableRow] = [
        (name, [cell(name), _setting(defaults.get(name))])
        for name, value in config.items()
        if value != defaults.get(name)
    ]
    caption, head = "Different from the default", ["", "here", "default"]
    changed = Table(caption=caption, head=head, rows=different)
    rows, caption = [(k, [cell(k)]) for k in config], f"All {len(config)} settings"
    every = Table(caption=caption, head=[], rows=rows, is_open=False, is_wide=True)
    return Section(
        key="configuration",
        title="Configuration",
        lead="Of the run that trained the model."
        if "rows" in material.metadata
        else "config.yaml beside this page repeats the run: "
        "python trainer.py --config config.yaml",
        blocks=[changed, every],
    )


def _setting(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(str(item) for item in value) or "none"
    return str(value)


def digests_section(material: Material) -> Section | None:
    """What identifies data, code, weights and packages."""
    metadata, numbers = material.metadata, material.numbers
    if "run_id" not in metadata:
        return None
    built_from = metadata.get("data", {}).get("digests", {})
    digests = {
        "run": "run_id",
        "training file": "data.sha256",
        **{f"its {name}": f"data.digests.{name}" for name in built_from},
        "weights": "model.weights_sha256",
    }
    versions = {name: f"versions.{name}" for name in metadata.get("versions", {})}
    tables = {"Digests, sha256": digests, "Versions": versions}
    return Section(
        key="digests",
        title="Digests and versions",
        lead="MANIFEST.json beside this page has the sha256 of every file of the run.",
        blocks=[
            numbers.facts(
                caption,
                {name: (f"metadata.{key}", "text") for name, key in rows.items()},
            )
            for caption, rows in tables.items()
            if rows
        ],
    )
