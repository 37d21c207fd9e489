"""Results of a return or a price -> the page's section about its forecasts.

In: which numbers, in which order, in which words. Out: classes (`class_forecasts`),
trades (`trades`), its pictures (`number_plots`), how it looks
(`page`).
"""

from __future__ import annotations

from evaluation.evaluate import task_of_results
from evaluation.numbers import Numbers
from reports import number_plots
from reports.blocks import Block, Material, Picture, Rows, Section
from reports.class_forecasts import forecast_tables, score_table

_SCORES: Rows = {
    "from": ("first", "day"),
    "to": ("last", "day"),
    "windows": ("num_samples", "{:,}"),
    "mean absolute error": ("intervals.mae", "{:.5g}"),
    "mean absolute error of persistence": ("mae_persistence", "{:.5g}"),
    "root mean square error": ("intervals.rmse", "{:.5g}"),
    "root mean square error of persistence": ("rmse_persistence", "{:.5g}"),
    "mean absolute error, % of the price": ("mape_pct", "{:.3f}"),
    "R2": ("intervals.r2", "{:+.4f}"),
    "squared-error skill against persistence": (
        "intervals.skill_mse_vs_persistence",
        "{:+.4f}",
    ),
    "against the mean of training": ("intervals.skill_mse_vs_train_mean", "{:+.4f}"),
    "against the trailing 7-day mean": (
        "intervals.skill_mse_vs_trailing_7d",
        "{:+.4f}",
    ),
    "correlation with what followed": ("intervals.correlation", "{:+.3f}"),
    "slope of what followed on the forecast": ("intervals.slope", "{:+.2f}"),
    "signs right": ("sign_accuracy", "{:.1%}"),
    "by chance": ("sign_expected", "{:.1%}"),
    "beyond chance": ("intervals.sign_excess", "{:+.3f}"),
    "sign, p-value": ("sign_p_value", "{:.3f}"),
    "deviation of the forecasts, bps": ("predicted_std_bps", "{:.1f}"),
    "deviation of what followed, bps": ("actual_std_bps", "{:.1f}"),
}
_COMPARED: Rows = {
    "skill vs persistence": ("intervals.skill_mse_vs_persistence", "{:+.3f}"),
    "mean absolute error": ("mae", "{:.4g}"),
    "signs right": ("sign_accuracy", "{:.1%}"),
}
_PICTURES = {
    "baselines": (
        2.6,
        "Squared-error skill in {part}. Right of the line: better than "
        "naming the present value again.",
    ),
    "predicted_actual": (3.4, "What followed each tenth of the forecasts in {part}."),
    "errors": (
        3.6,
        "Mean absolute error in {part} over time; below, actual - predicted.",
    ),
    "residuals": (3.2, "Errors in {part}, beside those of persistence."),
}


def regression_section(material: Material) -> Section | None:
    """Errors and skill of a return or a price, against forecasts without a model."""
    parts = material.parts("baselines")
    if not parts or not isinstance(task_of_results(material.results), Numbers):
        return None
    blocks: list[Block] = []
    drawn = {
        part: number_plots.plot_part(material.results[part], title="") for part in parts
    }
    for name, (height, caption) in _PICTURES.items():
        for part in parts:
            figure = drawn[part][name]
            figure.axes[0].set_title(part)
            words = caption.format(part=part)
            blocks.append(Picture(figure=figure, height=height, caption=words))
    blocks += forecast_tables(material, parts, _COMPARED)
    blocks.append(score_table(material, parts, _SCORES, caption="Scores"))
    return Section(
        key="regression",
        title="Errors and skill",
        lead=f"The target is a {material.results['unit']}. Skill is the share of the "
        "squared error taken away: 0 is no better than the reference. In brackets 95 % "
        "intervals of a block bootstrap.",
        blocks=blocks,
    )
