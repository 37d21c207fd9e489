"""Trees and linear models as plain arrays, which NumPy alone predicts with.

In: what such a model is in numbers, every check of them, what it predicts. Out: its
file (`array_files`), from a library's model to these numbers (`models.conversion`).

A tree is five columns: feature, threshold, left, right, value; nodes come after their
parents.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

import numpy as np

from preprocessing.windows import chunks

MAX_INPUTS = 1_000_000
MAX_CLASSES = 1000
MAX_DEPTH = 1000
MAX_STEPS = 2**22
"""Most decisions for one window: trees times the depth of the deepest."""
LARGEST = 1e100
"""Largest size of a number that is summed, so that no sum overflows."""
LEAF = -1

_CHUNK_NODES = 2**17
_CLASS_LINKS = ("mean", "logistic", "softmax")
_NUMBER_LINKS = ("mean", "identity")


def _array(kind: str) -> Any:
    """Returns a field of an array by its type and dimensions: `f2` is float64, 2-D."""
    return field(metadata={"kind": kind})


@dataclass(frozen=True, kw_only=True, eq=False)
class ArrayModel(abc.ABC):
    """A model that is arrays, and predicts with NumPy alone.

    Args:
        family: Name of the model family that wrote it.
        link: What becomes of the scores: `mean` over the trees, `identity`,
            `logistic` of one score for two classes, or `softmax`.
        num_inputs: Columns of the inputs.
        num_classes: Columns of the probabilities; None where a number is predicted.
        importance: (num_inputs,) what the library said each input is worth; empty
            where it says nothing.

    Raises:
        ValueError: If the arrays are no such model.
    """

    family: str
    link: str
    num_inputs: int
    num_classes: int | None
    importance: np.ndarray = _array("f1")

    @classmethod
    def arrays(cls) -> dict[str, str]:
        """Returns name -> type and dimensions of each array."""
        return {x.name: x.metadata["kind"] for x in fields(cls) if x.metadata}

    def __post_init__(self) -> None:
        """Refuses what is no model."""
        expect(isinstance(self.family, str) and self.family[:100], "a family")
        expect(_is_size(self.num_inputs, 1, MAX_INPUTS), "a number of inputs")
        is_class = self.num_classes is not None
        is_number = not is_class or _is_size(self.num_classes, 2, MAX_CLASSES)
        expect(is_number, "a number of classes")
        links = _CLASS_LINKS if is_class else _NUMBER_LINKS
        expect(self.link in links, f"a link of {', '.join(links)}")
        expect(self.link != "logistic" or self.num_classes == 2, "two classes")
        for name, kind in self.arrays().items():
            array = getattr(self, name)
            dtype = np.dtype({"f": np.float64, "i": np.int32}[kind[0]])
            is_such = (array.dtype, array.ndim) == (dtype, int(kind[1]))
            expect(is_such, f"{name} of {dtype} in {kind[1]} dimensions")
        expect(self.importance.size in (0, self.num_inputs), "importance of inputs")
        expect(_are_finite(self.importance), "finite importance")
        self._check()

    @property
    def num_scores(self) -> int:
        """Scores of a row, before the link."""
        return 1 if self.link == "logistic" else self.num_classes or 1

    @property
    @abc.abstractmethod
    def num_parameters(self) -> int:
        """Numbers that were learned: leaves, or coefficients."""

    @abc.abstractmethod
    def _check(self) -> None:
        """Raises ValueError unless the arrays fit each other and the facts."""

    @abc.abstractmethod
    def _scores(self, inputs: np.ndarray) -> np.ndarray:
        """Returns (num_rows, num_scores) of float32 or float64 inputs."""

    def require(self, family: str, num_inputs: int, num_classes: int | None) -> None:
        """Raises ValueError unless it is of this family, with these sizes."""
        text = "{} of {} inputs and {} classes".format
        wanted = text(family, num_inputs, num_classes)
        found = text(self.family, self.num_inputs, self.num_classes)
        if found != wanted:
            raise ValueError(f"expected {wanted}. Received: {found:.300}")

    def predict(self, inputs: np.ndarray) -> np.ndarray:
        """Returns (num_rows, num_classes) probabilities, or (num_rows,) numbers.

        Args:
            inputs: (num_rows, num_inputs), finite.

        Raises:
            ValueError: If they are of another shape, or not finite.
        """
        if inputs.ndim != 2 or inputs.shape[1] != self.num_inputs:
            raise ValueError(
                f"expected inputs of shape (num_rows, {self.num_inputs}). "
                f"Received: {inputs.shape}"
            )
        if not np.isfinite(inputs).all():
            raise ValueError("expected finite inputs. Received: NaN or infinity.")
        return self.linked(self._scores(inputs))

    def linked(self, scores: np.ndarray) -> np.ndarray:
        """Returns what `predict` makes of scores (num_rows, num_scores)."""
        if self.num_classes is None:
            return scores[:, 0]
        if self.link == "logistic":
            from scipy.special import expit  # NumPy has none of the same bits

            high = expit(scores[:, 0])
            return np.stack([1 - high, high], axis=1)
        if self.link == "softmax":
            scores = np.exp(scores - scores.max(axis=1, keepdims=True))
            scores /= scores.sum(axis=1, keepdims=True)
        return scores


@dataclass(frozen=True, kw_only=True, eq=False)
class Trees(ArrayModel):
    """A sum, or a mean, of trees of numeric splits.

    Args:
        feature: (num_nodes,) input that a node looks at; LEAF at a leaf.
        left: (num_nodes,) node where input <= threshold; LEAF at a leaf.
        right: (num_nodes,) node elsewhere; LEAF at a leaf.
        threshold: (num_nodes,).
        value: (num_nodes, 1 or num_scores) what a leaf adds.
        root: (num_trees,) first node of each tree; its nodes follow.
        column: (num_trees,) score that a tree adds to, where values are single.
        start: (num_scores,) before the first tree.
        is_single: Whether inputs are compared in single precision.
    """

    feature: np.ndarray = _array("i1")
    left: np.ndarray = _array("i1")
    right: np.ndarray = _array("i1")
    threshold: np.ndarray = _array("f1")
    value: np.ndarray = _array("f2")
    root: np.ndarray = _array("i1")
    column: np.ndarray = _array("i1")
    start: np.ndarray = _array("f1")
    is_single: bool

    @property
    def num_parameters(self) -> int:
        """Leaves of all trees."""
        return int((self.feature == LEAF).sum())

    def _check(self) -> None:
        count = len(self.feature)
        expect(type(self.is_single) is bool, "is_single, true or false")
        columns = (self.left, self.right, self.threshold, self.value)
        expect(all(len(c) == count for c in columns), "columns of equal lengths")
        expect(self.start.shape == (self.num_scores,), "a start of each score")
        width = self.value.shape[1]
        expect(width in (1, self.num_scores), "values of each score")
        expect(self.column.shape == self.root.shape, "a column of each tree")
        places = self.column[(self.column < 0) | (self.column >= self.num_scores)]
        expect(not len(places), f"columns below {self.num_scores}")
        fits = (self.feature >= LEAF) & (self.feature < self.num_inputs)
        expect(fits.all(), f"features below {self.num_inputs}")
        expect(np.isfinite(self.threshold).all(), "finite thresholds")
        expect(_are_finite(self.value), f"values of at most {LARGEST}")
        expect(_are_finite(self.start), f"a start of at most {LARGEST}")
        self._check_nodes(count)
        expect(len(self.root) * self._depth <= MAX_STEPS, f"{MAX_STEPS} decisions")
        if self.num_classes is not None and self.link == "mean":
            shares = self.value[self.feature == LEAF]
            are_whole = (np.abs(shares.sum(axis=1) - 1) < 1e-6).all()
            are_shares = are_whole and (shares >= 0).all() and not self.start.any()
            expect(are_shares, "shares of classes at the leaves")

    def _check_nodes(self, count: int) -> None:
        """Raises ValueError unless every node but a root is below one other."""
        root = self.root.astype(np.int64)
        in_order = len(root) and root[0] == 0 and root[-1] < count
        expect(in_order and (np.diff(root) > 0).all(), "roots in order")
        inner = np.flatnonzero(self.feature != LEAF)
        is_leaf = self.feature == LEAF
        sides = self.left[inner].astype(np.int64), self.right[inner].astype(np.int64)
        are_ends = all((x[is_leaf] == LEAF).all() for x in (self.left, self.right))
        expect(are_ends, "leaves without children")
        are_after = all((side > inner).all() for side in sides)
        below = np.setdiff1d(np.arange(count), root, assume_unique=True)
        are_all = np.array_equal(np.sort(np.concatenate(sides)), below)
        expect(are_after and are_all, "each node below one before it")
        tree = np.searchsorted(root, np.arange(count), side="right")
        is_own = all((tree[side] == tree[inner]).all() for side in sides)
        expect(is_own, "children in their parent's tree")
        expect(self._depth <= MAX_DEPTH, f"at most {MAX_DEPTH} decisions in a row")

    @cached_property
    def _depth(self) -> int:
        """Most decisions on a path; MAX_DEPTH + 1 where there are more."""
        level = self.root
        for depth in range(MAX_DEPTH + 1):
            level = level[self.feature[level] != LEAF]
            if not len(level):
                return depth
            level = np.concatenate([self.left[level], self.right[level]])
        return MAX_DEPTH + 1

    @cached_property
    def _steps(self) -> tuple[np.ndarray, np.ndarray]:
        """The feature of each node, and both its next nodes; a leaf's are itself."""
        is_leaf = self.feature == LEAF
        nodes = np.arange(len(self.feature))
        sides = [np.where(is_leaf, nodes, side) for side in (self.left, self.right)]
        return np.where(is_leaf, 0, self.feature), np.stack(sides, axis=1).ravel()

    def _scores(self, inputs: np.ndarray) -> np.ndarray:
        if self.is_single:
            inputs = inputs.astype(np.float32, copy=False)
        # In the order and the layout of the library: sums in others have other bits.
        shape = (len(inputs), self.num_scores)
        scores = np.full(shape, self.start, order="C" if self.is_single else "F")
        self.add_to(scores, inputs)
        return scores / len(self.root) if self.link == "mean" else scores

    def add_to(self, scores: np.ndarray, inputs: np.ndarray) -> None:
        """Adds what each tree says, one after another.

        Args:
            scores: (num_rows, num_scores), changed in place.
            inputs: (num_rows, num_inputs), finite; float32 where `is_single`.
        """
        for rows in chunks(len(inputs), max(1, _CHUNK_NODES // len(self.root))):
            total, leaves = scores[rows], self._leaves(inputs[rows])
            for leaf, column in zip(leaves, self.column, strict=True):
                if self.value.shape[1] == 1:
                    total[:, column] += self.value[:, 0].take(leaf)
                else:
                    total += self.value.take(leaf, axis=0)

    def _leaves(self, inputs: np.ndarray) -> np.ndarray:
        """Returns each tree's leaf of each row (num_trees, num_rows)."""
        feature, following = self._steps
        cells = np.ascontiguousarray(inputs).ravel()
        first = np.arange(len(inputs)) * self.num_inputs
        node = np.repeat(self.root.astype(np.int64)[:, None], len(inputs), axis=1)
        for _ in range(self._depth):
            limit = self.threshold.take(node)
            goes_right = cells.take(feature.take(node) + first) > limit
            node = following.take(2 * node + goes_right)
        return node


@dataclass(frozen=True, kw_only=True, eq=False)
class Linear(ArrayModel):
    """A weighted sum of scaled inputs, in double precision.

    Args:
        mean: (num_inputs,) taken from the inputs.
        scale: (num_inputs,) that they are then divided by.
        weight: (num_inputs, num_scores).
        intercept: (num_scores,).
    """

    mean: np.ndarray = _array("f1")
    scale: np.ndarray = _array("f1")
    weight: np.ndarray = _array("f2")
    intercept: np.ndarray = _array("f1")

    @property
    def num_parameters(self) -> int:
        """Coefficients and intercepts."""
        return self.weight.size + self.intercept.size

    def _check(self) -> None:
        shape = (self.num_inputs, self.num_scores)
        expect(self.link != "mean", "a link of a sum")
        expect(self.mean.shape == self.scale.shape == shape[:1], "a scale of inputs")
        expect(self.weight.shape == shape, f"weights of shape {shape}")
        expect(self.intercept.shape == shape[1:], "an intercept of each score")
        for name in ("mean", "scale", "weight", "intercept"):
            expect(_are_finite(getattr(self, name)), f"{name} of at most {LARGEST}")
        expect((self.scale >= 1 / LARGEST).all(), f"a scale above {1 / LARGEST}")

    def _scores(self, inputs: np.ndarray) -> np.ndarray:
        scaled = (inputs.astype(np.float64) - self.mean) / self.scale
        return scaled @ self.weight + self.intercept


def expect(holds: object, expectation: str) -> None:
    """Raises ValueError where something does not hold."""
    if not holds:
        raise ValueError(f"expected {expectation}")


def _is_size(value: Any, least: int, most: int) -> bool:
    return type(value) is int and least <= value <= most


def _are_finite(array: np.ndarray) -> bool:
    return bool((np.abs(array) <= LARGEST).all())
