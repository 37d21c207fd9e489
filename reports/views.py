"""How results are shown, by what the model was asked for: `View`.

In: the one place where showing classes and showing numbers part. Out: what each shows
(`class_forecasts`, `number_forecasts`), what both do (`report`, `page`, `trades`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from evaluation.classes import Classes
from evaluation.evaluate import task_of_results
from evaluation.numbers import Numbers
from evaluation.task import Task
from reports import class_forecasts, number_forecasts, number_plots
from reports.blocks import Material, Section
from reports.plots import SKILL_NAMES

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True)
class View:
    """What is shown of one kind of target alone.

    Args:
        rules: First words of a line of the verdict -> what decides it.
        part_lines: Text of one part's results.
        decided: Text of what validation chose.
        part_figures: Figures of one part's results, by file name.
        sections: Sections of the page, in its order.
        fold_skills: Kind of the skill of folds; headline number -> its name.
        threshold: What reaches a threshold, in words, and its format.
        counted: What the rows of a part are.
        run_figures: Figures of the results as a whole, by file name.
        replaces: Sections of every page that `sections` stand for.
    """

    rules: Mapping[str, str]
    part_lines: Callable[[Mapping[str, Any]], list[str]]
    decided: Callable[[Mapping[str, Any]], str]
    part_figures: Callable[[Mapping[str, Any], str], dict[str, Figure]]
    sections: tuple[Callable[[Material], Section | None], ...]
    fold_skills: tuple[str, Mapping[str, str]] = ("", {})
    threshold: tuple[str, str] = ("", "")
    counted: str = "windows"
    run_figures: Callable[[Mapping[str, Any]], dict[str, Figure]] = lambda _: {}
    replaces: frozenset[Callable[[Material], Section | None]] = frozenset()


_VIEWS: dict[type[Task[Any, Any]], View] = {
    Classes: View(
        rules=class_forecasts.RULES,
        part_lines=class_forecasts.part_lines,
        decided=class_forecasts.decided,
        part_figures=class_forecasts.part_figures,
        sections=(
            class_forecasts.skill_section,
            class_forecasts.confusion_section,
            class_forecasts.reliability_section,
        ),
        fold_skills=(
            "log-loss skill",
            {f"{key}skill_vs_train_prior": name for key, name in SKILL_NAMES.items()},
        ),
        threshold=("probability", "{:.3f}"),
    ),
    Numbers: View(
        rules=number_forecasts.RULES,
        part_lines=number_forecasts.part_lines,
        decided=number_forecasts.decided,
        part_figures=number_plots.part_figures,
        sections=(number_forecasts.regression_section,),
        fold_skills=(
            "squared-error skill",
            {
                "skill_mse_vs_persistence": "against persistence",
                "skill_mse_vs_train_mean": "against the train mean",
            },
        ),
        threshold=("predicted log return", "{:.5f}"),
    ),
}


_REGISTERED: dict[str, View] = {}


def register_view(target: str, view: View) -> None:
    """Shows results of a target that is no `Task` of forecasts by a view of its own."""
    _REGISTERED[target] = view


def view_of(results: Mapping[str, Any]) -> View:
    """Returns how the results of a run are shown."""
    if (own := _REGISTERED.get(results.get("target", ""))) is not None:
        return own
    return _VIEWS[type(task_of_results(results))]
