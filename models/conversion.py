"""Fitted models of scikit-learn and LightGBM -> plain arrays.

In: which models the arrays express, and what such a model is in numbers. Out: the
arrays and what they predict (`artifacts.array_models`), fitting
(`sklearn_adapter`, `lightgbm_adapter`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, TypeVar

import numpy as np

from artifacts.array_models import LEAF, ArrayModel, Linear, Trees
from utils import ConfigError

_BOOSTED = ("BaseGradientBoosting", "BaseHistGradientBoosting")
_TREES = ("BaseForest", "BaseDecisionTree", *_BOOSTED)
_LOSSES = "log_loss squared_error absolute_error friedman_mse huber quantile".split()
"""Losses of boosting whose link is the identity, or that of class probabilities."""
_LIGHTGBM_NUMBERS = "regression regression_l1 huber fair quantile mape".split()
_LIGHTGBM_LINKS = dict.fromkeys(_LIGHTGBM_NUMBERS, "identity")
_LIGHTGBM_LINKS["multiclass"] = "softmax"
_Arrays = TypeVar("_Arrays", bound=ArrayModel)
OWN_FILES = (
    "Give the adapter a suffix, dump_model and open_model of its own; "
    "see models.TabularAdapter."
)


def require_sklearn(model: Any) -> None:
    """Proves that an estimator can be written as arrays once it is fitted.

    Raises:
        ConfigError: If it is neither of trees nor linear, or of a setting that the
            arrays do not express.
    """
    scaler, last = _steps(model)
    names = _names(last)
    is_linear = "LogisticRegression" in names or (
        "LinearModel" in names and "ClassifierMixin" not in names
    )
    is_boosted = not names.isdisjoint(_BOOSTED)
    problem = None
    if not is_linear and (scaler is not None or names.isdisjoint(_TREES)):
        steps = [type(step).__name__ for _, step in getattr(model, "steps", [])]
        problem = type(model).__name__ + (f" of {', '.join(steps)}" if steps else "")
    elif is_boosted and getattr(last, "init", None) not in (None, "zero"):
        problem = f"{type(last).__name__} with init={last.init!r:.99}"
    elif is_boosted and last.loss not in _LOSSES:
        problem = f"{type(last).__name__} with loss={last.loss!r:.99}"
    if problem is not None:
        raise ConfigError(
            "expected an estimator of trees or a linear one, alone or after a "
            f"StandardScaler. Received: {problem}. {OWN_FILES}"
        )


def require_lightgbm(parameters: Mapping[str, Any]) -> None:
    """Proves that a booster of these parameters can be written as arrays.

    Raises:
        ConfigError: If it has another link, or trees of another kind.
    """
    objective = parameters.get("objective")
    has_numbers = parameters.get("boosting", "gbdt") in ("gbdt", "goss", "dart")
    has_numbers = has_numbers and not parameters.get("linear_tree")
    if objective not in _LIGHTGBM_LINKS or not has_numbers:
        raise ConfigError(
            f"expected an objective of {', '.join(_LIGHTGBM_LINKS)}, and trees whose "
            f"leaves are numbers that add up. Received: {dict(parameters)!r:.300}. "
            f"{OWN_FILES}"
        )


def _steps(model: Any) -> tuple[Any, Any]:
    """Returns the scaler, if there is one, and the estimator of a pipeline."""
    steps = [step for _, step in getattr(model, "steps", [("", model)])]
    if len(steps) == 2 and "StandardScaler" in _names(steps[0]):
        return steps[0], steps[1]
    return None, steps[0] if len(steps) == 1 else model


def _names(model: Any) -> set[str]:
    """Returns the classes of scikit-learn that a model is of; none is imported."""
    classes = type(model).__mro__
    return {k.__name__ for k in classes if k.__module__.startswith("sklearn.")}


def _plain(kind: type[_Arrays], **facts: Any) -> _Arrays:
    """Returns the arrays, if they keep the bounds of their file."""
    try:
        return kind(**facts)
    except ValueError as error:
        raise ConfigError(
            f"expected a model that plain arrays express: {error}. {OWN_FILES}"
        ) from error


# scikit-learn


def of_sklearn(model: Any, *, family: str) -> ArrayModel:
    """Returns the numbers of a fitted estimator that `require_sklearn` took.

    Raises:
        ConfigError: If it holds what the arrays do not express.
    """
    scaler, last = _steps(model)
    classes = getattr(last, "classes_", None)
    facts: dict[str, Any] = {
        "family": family,
        "num_inputs": int(model.n_features_in_),
        "num_classes": None if classes is None else len(classes),
    }
    if hasattr(last, "coef_"):
        return _of_linear(scaler, last, facts)
    names = _names(last)
    if "BaseHistGradientBoosting" in names:
        start = np.asarray(last._baseline_prediction, np.float64).reshape(-1)
        trees = [
            (*columns_of_histogram(tree), column)
            for stage in last._predictors
            for column, tree in enumerate(stage)
        ]
        link, importance = _boosting_link(classes, start), np.zeros(0)
    elif "BaseGradientBoosting" in names:
        none = np.zeros((1, facts["num_inputs"]), np.float32)
        start = last._raw_predict_init(none)[0].astype(np.float64)
        trees = [
            (*columns_of(tree, rate=last.learning_rate), column)
            for stage in last.estimators_
            for column, tree in enumerate(stage)
        ]
        link = _boosting_link(classes, start)
    else:
        owners = getattr(last, "estimators_", [last])
        start = np.zeros(1 if classes is None else len(classes))
        trees = [columns_of(tree) + (0,) for tree in owners]
        link = "mean"
    is_single = "BaseHistGradientBoosting" not in names
    if is_single:
        importance = np.asarray(last.feature_importances_, np.float64)
    facts |= {"is_single": is_single, "importance": importance}
    return trees_of(trees, start=start, link=link, **facts)


def _boosting_link(classes: Any, start: np.ndarray) -> str:
    if classes is None:
        return "identity"
    return "softmax" if len(start) > 1 else "logistic"


def columns_of(owner: Any, rate: float | None = None) -> tuple[np.ndarray, ...]:
    """Returns feature, left, right, threshold and value of each node."""
    tree = owner.tree_
    value = tree.value[:, 0, :]
    if rate is not None:
        value = rate * value[:, :1]
    left, right = tree.children_left, tree.children_right
    feature = np.where(left == LEAF, LEAF, tree.feature)
    return feature, left, right, tree.threshold, value


def columns_of_histogram(tree: Any) -> tuple[np.ndarray, ...]:
    """Returns the same of a tree of boosting on histograms."""
    nodes = tree.nodes
    is_leaf = nodes["is_leaf"] != 0
    if nodes["is_categorical"].any():
        raise ConfigError(
            f"expected splits of numbers. Received: of categories. {OWN_FILES}"
        )
    feature = np.where(is_leaf, LEAF, nodes["feature_idx"].astype(np.int64))
    sides = (nodes[side].astype(np.int64) for side in ("left", "right"))
    return feature, *sides, nodes["num_threshold"], nodes["value"][:, None]


def _of_linear(scaler: Any, model: Any, facts: Mapping[str, Any]) -> Linear:
    count, classes = facts["num_inputs"], facts["num_classes"]
    weight = np.atleast_2d(np.asarray(model.coef_, np.float64)).T
    has_mean = scaler is not None and scaler.with_mean
    has_scale = scaler is not None and scaler.with_std
    link = "identity" if classes is None else "softmax"
    return _plain(
        Linear,
        mean=scaler.mean_ if has_mean else np.zeros(count),
        scale=scaler.scale_ if has_scale else np.ones(count),
        # Its layout in memory decides in which order a product of matrices sums.
        weight=weight,
        intercept=np.broadcast_to(model.intercept_, weight.shape[1]).astype(np.float64),
        importance=np.abs(weight).mean(axis=1),
        link="logistic" if classes == 2 else link,
        **facts,
    )


# LightGBM


def of_lightgbm(booster: Any, *, family: str) -> Trees:
    """Returns the numbers of a fitted booster; ConfigError if arrays have none."""
    try:
        model = booster.dump_model()
    except RecursionError as error:
        raise ConfigError("expected trees of fewer decisions in a row") from error
    objective = model["objective"].split(" ")[0]
    width = model["num_tree_per_iteration"]
    is_class = _LIGHTGBM_LINKS.get(objective) == "softmax"
    trees = [
        _of_nested(info["tree_structure"]) + (number % width,)
        for number, info in enumerate(model["tree_info"])
    ]
    return trees_of(
        trees,
        family=family,
        start=np.zeros(width),
        link="softmax" if is_class else "identity",
        is_single=False,
        num_inputs=model["max_feature_idx"] + 1,
        num_classes=width if is_class else None,
        importance=booster.feature_importance("gain").astype(np.float64),
    )


def _of_nested(root: Mapping[str, Any]) -> tuple[np.ndarray, ...]:
    *columns, value = map(np.array, zip(*_rows_of(root), strict=True))
    return *columns, value[:, None]


def _rows_of(root: Mapping[str, Any]) -> Iterator[tuple[int, int, int, float, float]]:
    """Yields the nodes level by level, so that children come after their parents."""
    level, count = [root], 1
    while level:
        following: list[Mapping[str, Any]] = []
        for node in level:
            if "leaf_value" in node:
                yield LEAF, LEAF, LEAF, 0.0, node["leaf_value"]
                continue
            if node["decision_type"] != "<=" or node["missing_type"] == "Zero":
                raise ConfigError(
                    "expected splits of numbers. Received: of categories, or where 0 "
                    f"is a missing value. {OWN_FILES}"
                )
            left = count + len(following)
            following += [node["left_child"], node["right_child"]]
            yield node["split_feature"], left, left + 1, node["threshold"], 0.0
        level, count = following, count + len(following)


def checked_trees(trees: Iterable[tuple[np.ndarray, ...]], *, num_inputs: int) -> Trees:
    """Returns trees of five columns with every index checked, and their first values.

    Raises:
        ValueError: If a library could not read them without harm.
    """
    return Trees(
        **_columns([(*columns, value[:, :1], 0) for *columns, value in trees]),
        family="kept",
        start=np.zeros(1),
        link="identity",
        is_single=False,
        num_inputs=num_inputs,
        num_classes=None,
        importance=np.zeros(0),
    )


def trees_of(trees: list[Any], **facts: Any) -> Trees:
    """Returns trees, each five columns and its score; ConfigError if they are none."""
    return _plain(Trees, **_columns(trees), **facts)


def joined(rounds: Sequence[Trees], start: np.ndarray) -> Trees:
    """Returns the trees of all rounds as one model; ConfigError if it is too large.

    Args:
        rounds: At least one.
        start: (num_scores,) before the first.
    """
    sizes, roots = ([len(getattr(x, k)) for x in rounds] for k in ("feature", "root"))
    begins = np.cumsum([0, *sizes[:-1]])
    names = Trees.arrays().keys() - {"importance", "start"}
    parts: dict[str, Any] = {
        name: np.concatenate([getattr(each, name) for each in rounds]) for name in names
    }
    is_leaf, shift = parts["feature"] == LEAF, np.repeat(begins, sizes)
    for side in ("left", "right"):
        parts[side] = np.where(is_leaf, LEAF, parts[side] + shift).astype(np.int32)
    parts["root"] += np.repeat(begins, roots).astype(np.int32)
    parts["importance"] = np.sum([each.importance for each in rounds], axis=0)
    facts = {f.name: getattr(rounds[0], f.name) for f in fields(Trees)}
    return _plain(Trees, **facts | parts | {"start": start})


def separated(model: Trees, importance: np.ndarray) -> tuple[Trees, ...]:
    """Returns the trees of each round of what `joined` made, without a start.

    Args:
        model: As many trees in each round.
        importance: (num_rounds, num_inputs) of each round.
    """
    per_round = len(model.root) // len(importance)
    begins = model.root[::per_round]
    ends, rounds = [*begins[1:], len(model.feature)], []
    for number, (begin, end) in enumerate(zip(begins, ends, strict=True)):
        nodes = slice(begin, end)
        trees = slice(number * per_round, (number + 1) * per_round)
        names = ("feature", "threshold", "value")
        parts: dict[str, Any] = {name: getattr(model, name)[nodes] for name in names}
        for name in ("left", "right"):
            side = getattr(model, name)[nodes]
            parts[name] = np.where(side == LEAF, side, side - begin)
        parts |= {"root": model.root[trees] - begin, "column": model.column[trees]}
        parts |= {"start": np.zeros_like(model.start)}
        rounds.append(replace(model, **parts, importance=importance[number]))
    return tuple(rounds)


def _columns(trees: list[Any]) -> dict[str, np.ndarray]:
    """Returns trees, each five columns and its score, one after another."""
    *columns, column = zip(*trees, strict=True)
    sizes = [len(feature) for feature in columns[0]]
    root = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)
    feature, left, right, threshold, value = map(np.concatenate, columns)
    is_leaf, shift = feature == LEAF, np.repeat(root, sizes)
    left, right = (np.where(is_leaf, LEAF, side + shift) for side in (left, right))
    return {
        "feature": feature.astype(np.int32),
        "left": left.astype(np.int32),
        "right": right.astype(np.int32),
        # What no decision reads says nothing, so equal models are equal bytes.
        "threshold": np.where(is_leaf, 0.0, threshold).astype(np.float64),
        "value": np.ascontiguousarray(np.where(is_leaf[:, None], value, 0.0)),
        "root": root.astype(np.int32),
        "column": np.array(column, np.int32),
    }
