"""How trees and linear models are grown.

In: what such a family reads and learns by. Out: fitting (`models.tabular_adapter`).
"""

from __future__ import annotations

from dataclasses import dataclass

from settings.network_fields import HYBRID
from settings.part import Part, field

TABULAR_MODELS = (
    "random_forest",
    "gradient_boosting",
    "classic_gradient_boosting",
    "lightgbm",
    "xgboost",
    "catboost",
    "logistic",
)
"""Model families that read a window as one row of a table."""

OPTIONAL_MODELS = ("lightgbm", "xgboost", "catboost")
"""Those of them whose library may be missing."""

CLASS_MODELS = ("logistic", HYBRID)
"""Model families that predict classes alone."""


@dataclass(frozen=True, kw_only=True)
class TreeFields(Part):
    """Trees and linear models.

    Attributes:
        tabular_inputs: What such a family reads of a window: mean and standard
            deviation of each feature over its last 5, 15, 60 and all bars, or its last
            row alone.
        max_tabular_targets: Most training targets, evenly spaced; None takes all.
        num_trees: Trees of a forest, or most rounds of boosting, each a tree for each
            class; those of the best `monitor` are kept.
        max_depth: Most splits above a leaf. None: 10 in random_forest, 3 in
            classic_gradient_boosting, no limit in the others. catboost knows 16.
        max_leaf_nodes: Most leaves of a tree. None: 6 in gradient_boosting, lightgbm,
            xgboost and catboost, no limit in the others.
        min_leaf_share: Least share of the training targets in a leaf, in xgboost of
            their second derivatives before the first tree. Labels of neighbouring bars
            overlap: 1,000 targets may be eight independent ones. None: 0.05 in
            boosting, 0.01 in random_forest.
        max_inputs_share: Share of the inputs that a split may choose from.
        boosting_rate: What each round of boosting is multiplied by.
        logistic_penalty: Weight of half the squared coefficients of `logistic` against
            its mean loss.
    """

    tabular_inputs: str = field(
        "window_statistics", choices=("window_statistics", "last_row")
    )
    max_tabular_targets: int | None = field(200_000, ge=1)
    num_trees: int = field(100, ge=1, le=10_000)
    max_depth: int | None = field(None, ge=1, le=100)
    max_leaf_nodes: int | None = field(None, ge=2, le=10_000)
    min_leaf_share: float | None = field(None, gt=0, le=0.5)
    max_inputs_share: float = field(0.3, gt=0, le=1)
    boosting_rate: float = field(0.1, gt=0, le=1)
    logistic_penalty: float = field(0.2, gt=0, le=1e6)
