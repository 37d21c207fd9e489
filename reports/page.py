"""Results of a run -> one HTML page that needs nothing else: no network, no script.

In: the order of the page, its verdict. Out: the sections (`views`, `trades`,
`run_facts`), its pictures (`figures`), the looks (`templates/report.html`), writing it
into the run's folder (`report`).
"""

from __future__ import annotations

import base64
import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from evaluation.verdict import MIN_DEFLATED_SHARPE
from files.strict import to_jsonable
from reports import run_facts, trades
from reports.blocks import Cell, Material, Section
from reports.composition import (
    importance_section,
    pairs_section,
    parents_section,
    position_section,
)
from reports.figures import draw_figures, to_svg
from reports.outlook import promised_section
from reports.tuning import tuning_section
from reports.views import view_of

SECTIONS: tuple[Callable[[Material], Section | None], ...] = (
    pairs_section,
    trades.trading_section,
    trades.thresholds_section,
    trades.folds_section,
    parents_section,
    position_section,
    tuning_section,
    importance_section,
    run_facts.labels_section,
    run_facts.learning_section,
    run_facts.data_section,
    run_facts.configuration_section,
    run_facts.digests_section,
)
"""In the order of the page, after the audit and the forecasts (`View.sections`); each
gives None where its data are missing."""

COSTS_RULE = (
    "Claimed where the interval of the net return a trade lies above 0, and where the "
    f"Sharpe ratio is above 0 with a probability of more than {MIN_DEFLATED_SHARPE:g}, "
    "deflated by the number of runs that looked at this test part."
)
TEST_RULES = {
    "Leak": "Found by the run's own audit, see below. Numbers of data that leak do not "
    "hold, however good.",
    "In sample": "What a model says of rows that it has seen shows how well it "
    "remembers.",
    "Test": "Intervals need 10 days and 30 label horizons. Slow movements of the "
    "losses decide how wide they are, so many rows count as a few pieces.",
    "Power": "The true Sharpe ratio, a year, that would be claimed in 8 of 10 "
    "tests as long. Other runs are those below the same outputs folder whose test part "
    "overlaps, and those planned in the same comparison.",
}
"""What decides the other lines of the verdict."""


TESTED = (
    "Only the test part counts: validation chose the epoch, the calibration and the "
    "thresholds. A test part that is looked at run after run is searched, too."
)
EVALUATED = (
    "Test means the rows of this evaluation. Nothing was chosen on them: scaler, "
    "model, calibration and thresholds are those of the run. Rows that are looked at "
    "again and again are searched, too."
)
"""What a reader has to know in any case, of a run and of an evaluation."""


def gather(
    results: Mapping[str, Any],
    *,
    history: Mapping[str, Sequence[float]] | None = None,
    label_mix: pd.DataFrame | None = None,
    metadata: Mapping[str, Any] | None = None,
    trades: pd.DataFrame | None = None,
    prices: pd.DataFrame | None = None,
) -> Material:
    """Returns all that a page is made from, its figures drawn; see `Material`."""
    # As the files beside the page have it: lists for arrays, text for moments.
    results = to_jsonable(results)
    material = Material(
        results=results,
        history=history or {},
        metadata=to_jsonable(metadata or {}),
        label_mix=label_mix,
        trades=to_jsonable({} if trades is None else trades.to_dict("list")),
        prices=prices,
    )
    return dataclasses.replace(material, figures=draw_figures(material))


def render_page(material: Material) -> str:
    """Returns the page of a run as HTML.

    What comes from outside (pair, paths, names of features) is escaped.
    """
    results = material.results
    first = (run_facts.audit_section, promised_section)
    view = view_of(results)
    makers = (*first, *view.sections, *SECTIONS)
    made = (make(material) for make in makers if make not in view.replaces)
    return template("report.html").render(
        title=_title(material.metadata),
        alarm=_alarm(material.metadata),
        caution=EVALUATED if "rows" in material.metadata else TESTED,
        headline=_headline(material),
        verdict=_verdict(results),
        claims=results.get("claims", {}),
        warnings=results.get("warnings", []),
        sections=[section for section in made if section is not None],
    )


@functools.cache
def template(name: str) -> jinja2.Template:
    """Returns a page of `templates/`, which escapes all that is put into it."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["svg"] = to_svg
    environment.filters["exact"] = json.dumps
    return environment.get_template(name)


def script_digest(name: str) -> str:
    """Returns what a page's policy says of the one script of `templates/` it runs."""
    digest = hashlib.sha256(template(name).render().encode()).digest()
    return base64.b64encode(digest).decode()


def _alarm(metadata: Mapping[str, Any]) -> str:
    """Returns what must not be overlooked, or nothing."""
    if not metadata.get("in_sample"):
        return ""
    return (
        "IN SAMPLE: the model was trained or chosen on some of these rows. Nothing "
        "here says how it does on new ones."
    )


def _title(metadata: Mapping[str, Any]) -> str:
    config = metadata.get("config", {})
    words = [config.get(name) for name in ("pair", "timeframe", "model")]
    if "rows" in metadata:
        words.append("in sample" if metadata["in_sample"] else "on later data")
    return " ".join(str(word) for word in words if word) or "A training run"


def _headline(material: Material) -> list[Cell]:
    """Returns what the page is about: the data, the label, the test part."""
    numbers, config = material.numbers, material.metadata.get("config", {})
    cells: list[Cell] = []
    what = "evaluated" if "rows" in material.metadata else "test part"
    counted = view_of(material.results).counted
    if pairs := config.get("pooled_pairs"):
        cells.append(f"{', '.join(pairs)} in one model")
    if "future_window" in config:
        seen, ahead = config["sequence_length"], config["future_window"]
        cells.append(f"{seen} bars seen, {ahead} ahead")
    if "target" in config:
        cells.append(f"target: {config['target']}")
    if config.get("target") == "signal":
        profit, loss = config["long_tp_pct"], config["long_sl_pct"]
        cells.append(f"take profit {profit:g} %, stop loss {loss:g} %")
    found = (
        numbers.show("test.trading.cost_bps", "costs {:g} bps a side"),
        numbers.show("test.num_samples", f"{what} {{:,}} {counted}"),
    )
    cells += [cell for cell in found if cell.value is not None]
    if numbers.find("test.first") is not None:
        days = [str(numbers.find(f"test.{end}"))[:10] for end in ("first", "last")]
        cells.append(" to ".join(days))
    return cells


def _verdict(results: Mapping[str, Any]) -> list[dict[str, str]]:
    """Returns each line of the verdict as its question, its answer and its rule."""
    lines = [line.partition(": ") for line in results.get("verdict", [])]
    rules = {"After costs": COSTS_RULE, **view_of(results).rules, **TEST_RULES}
    return [
        {"question": question, "answer": answer, "rule": rules.get(question, "")}
        for question, _, answer in lines
    ]
