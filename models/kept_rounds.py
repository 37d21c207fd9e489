"""The trees that a fit has done so far, kept in the folder of its run: `KeptRounds`.

In: when they are written, trees of each library as columns of plain arrays and back,
every check of them. Out: fitting (`sklearn_adapter`, `lightgbm_adapter`,
`rounds_adapter`), the file's form (`artifacts.array_files`), which run goes on
(`artifacts.resuming`).

A library reads its trees without a look at their indices, so all of these are checked
here before it does.
"""

from __future__ import annotations

import copy
import functools
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np

from artifacts.array_files import read_checkpoint, write_checkpoint
from artifacts.array_models import LEAF, Trees, expect
from artifacts.manifest import parse_json, refuse_broken
from files.strict import to_jsonable
from models import conversion
from utils import RefusedArtifactError

logger = logging.getLogger(__name__)

ROUNDS = "rounds.ckpt"
Columns = Mapping[str, np.ndarray]

_MT19937_WORDS = 624
_TEXT_COLUMNS = {
    "split_feature": np.int32,
    "split_gain": np.float64,
    "threshold": np.float64,
    "decision_type": np.int32,
    "left_child": np.int32,
    "right_child": np.int32,
    "leaf_value": np.float64,
}
"""What LightGBM's text says of a tree that predicting and importance need."""


class KeptRounds:
    """The rounds that earlier processes have done of a fit, and those of this one.

    A file that is broken, of another run or of other rows is told in a warning, and the
    fit begins anew, to the same end.

    Args:
        folder: Of the checkpoints; None keeps nothing.
        owner: Digest of what decides the rounds.
        most: Rounds of a whole fit.
        minutes: Least time between two writings; 0 writes after every round.

    Attributes:
        done: Rounds that were found.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        owner: str = "",
        most: int = 0,
        minutes: float = 0.0,
    ) -> None:
        self._path = None if folder is None else folder / ROUNDS
        self._most = most
        self._owner = owner
        self._minutes = minutes
        self._saved_at = monotonic()
        self._found: dict[str, np.ndarray] = {}
        self.done = 0
        if self._path is not None and self._path.is_file():
            self._attempt(self._path, functools.partial(self._read, self._path))

    def _read(self, path: Path) -> None:
        content = read_checkpoint(path)
        expect(str(content["owner"]) == self._owner, "those of this run")
        done = content["rounds_done"].item()
        expect(type(done) is int and 0 < done <= self._most, f"1 to {self._most}")
        self._found, self.done = content, done

    def restore(self, give: Callable[[Columns], object]) -> bool:
        """Gives a model the rounds that were found, as a whole; False if it has none.

        Args:
            give: Checks all of them before it gives one.
        """
        if self._path is not None and self.done:
            self._attempt(self._path, lambda: give(self._found))
        self._found = {}  # the memory is wanted
        return self.done > 0

    def _attempt(self, path: Path, use: Callable[[], object]) -> None:
        try:
            with refuse_broken(f"{path}: expected the rounds of this fit"):
                use()
        except RefusedArtifactError as error:
            logger.warning("%s. The fit begins anew.", str(error).rstrip("."))
            self.done = 0

    def offer(self, done: int, collect: Callable[[], Columns]) -> None:
        """Writes the rounds, of which there are `done`, when it is time."""
        if self._path is None or monotonic() - self._saved_at < 60 * self._minutes:
            return
        more = {"owner": np.asarray(self._owner), "rounds_done": np.asarray(done)}
        write_checkpoint(self._path, {**collect(), **more})
        self._saved_at = monotonic()


# scikit-learn


def dump_rounds(model: Any) -> dict[str, np.ndarray]:
    """Returns the trees of an ensemble that is being fitted, and its generator."""
    if hasattr(model, "_predictors"):
        found = _dump_nodes([x.nodes for stage in model._predictors for x in stage])
        state = model._feature_subsample_rng.bit_generator.state
    else:
        states = [tree.tree_.__getstate__() for tree in _estimators(model)]
        found = _dump_nodes([state["nodes"] for state in states])
        found["depths"] = np.array([state["max_depth"] for state in states])
        found["values"] = np.concatenate([state["values"] for state in states])
        has_generator = hasattr(model, "_rng")  # a forest draws a seed for each tree
        state = model._rng.get_state(legacy=False) if has_generator else None
    return found | {"generator": np.asarray(json.dumps(to_jsonable(state)))}


def load_rounds(model: Any, content: Columns) -> None:
    """Gives an ensemble of one round the rounds in `dump_rounds` of this very fit.

    Args:
        model: Fitted for one round; its shape, and the proof of the rows.
        content: As many as `rounds_done`; the first is that of the model.

    Raises:
        ValueError: Or what else hostile arrays raise, if they are no such rounds; the
            model stays as it is.
    """
    state = parse_json(str(content["generator"]).encode(), "generator")
    is_histogram = hasattr(model, "_predictors")
    generator: Any = None
    if is_histogram:
        [first] = model._predictors
        nodes = _load_nodes(content, first[0].nodes.dtype)
        trees = [_like(first[0], nodes=each) for each in nodes]
        generator = np.random.default_rng()
        generator.bit_generator.state = state
    else:
        first = _estimators(model)
        trees = _load_trees(content, first[0])
        if hasattr(model, "_rng"):
            expect(0 <= state["state"]["pos"] <= _MT19937_WORDS, "a generator's place")
            generator = np.random.RandomState()
            generator.set_state(state)
    num_rounds = int(content["rounds_done"])
    expect(len(trees) == num_rounds * len(first), f"{len(first)} trees in each round")
    read = conversion.columns_of_histogram if is_histogram else conversion.columns_of
    require_same_start(
        map(read, trees), map(read, first), num_inputs=model.n_features_in_
    )
    if is_histogram:
        stages = np.array(trees, object).reshape(num_rounds, len(first)).tolist()
        model._predictors, model._feature_subsample_rng = stages, generator
        return
    model.estimators_ = trees
    if hasattr(model, "_rng"):
        model._rng = generator
        model.estimators_ = np.array(trees, object).reshape(num_rounds, len(first))
        for name in ("train_score_", "oob_scores_", "oob_improvement_"):
            setattr(model, name, np.zeros(num_rounds))  # nobody reads them


def _estimators(model: Any) -> list[Any]:
    """Returns the trees that are there; a round that is still to come has None."""
    return [tree for tree in np.ravel(model.estimators_) if tree is not None]


def _dump_nodes(trees: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Returns a column for each field of the trees' nodes, one tree after another."""
    nodes = np.concatenate(trees)
    columns = {f"node_{name}": nodes[name] for name in nodes.dtype.names or ()}
    return columns | {"sizes": np.array([len(tree) for tree in trees])}


def _load_nodes(content: Columns, dtype: np.dtype[Any]) -> list[np.ndarray]:
    """Returns the nodes of each tree, all of whose integers are those of an index."""
    sizes = content["sizes"].astype(np.int64)
    names = dtype.names or ()
    nodes = np.empty(len(content[f"node_{names[0]}"]), dtype)
    for name in names:
        nodes[name] = content[f"node_{name}"]
        if nodes[name].dtype.kind in "iu":
            is_index = np.abs(nodes[name].astype(np.float64)) < 2**31
            expect(is_index.all(), f"{name} in range")
    expect(((sizes > 0) & (sizes <= len(nodes))).all(), "sizes of trees")
    expect(sizes.sum() == len(nodes), "sizes of all trees")
    is_leaf = "is_leaf" if "is_leaf" in names else None
    feature = nodes["feature_idx" if is_leaf else "feature"]
    ends = nodes[is_leaf] != 0 if is_leaf else nodes["left_child"] == LEAF
    expect((feature[~ends] >= 0).all(), "a feature of each split")
    return np.split(nodes, np.cumsum(sizes)[:-1])


def _load_trees(content: Columns, like: Any) -> list[Any]:
    """Returns estimators like one that is fitted, each with a tree of its own."""
    nodes = _load_nodes(content, like.tree_.__getstate__()["nodes"].dtype)
    ends = np.cumsum(content["sizes"])[:-1]
    values = np.split(content["values"], ends)
    # What pickle would call, with arrays that were read without it.
    kind, sizes, _ = like.tree_.__reduce__()
    trees = []
    for depth, own, value in zip(content["depths"], nodes, values, strict=True):
        tree = kind(*sizes)
        tree.__setstate__(
            {
                "max_depth": int(depth),
                "node_count": len(own),
                "nodes": np.ascontiguousarray(own),
                "values": np.ascontiguousarray(value),
            }
        )
        trees.append(_like(like, tree_=tree))
    return trees


def _like(owner: Any, **attributes: Any) -> Any:
    other = copy.copy(owner)
    vars(other).update(attributes)
    return other


def require_same_start(trees: Any, first: Any, *, num_inputs: int) -> None:
    """Refuses trees that are none, or that do not begin with the first ones."""
    known = conversion.checked_trees(first, num_inputs=num_inputs)
    found = conversion.checked_trees(trees, num_inputs=num_inputs)
    count = len(known.feature)
    expect(
        all(
            np.array_equal(getattr(known, name), getattr(found, name)[:count])
            for name in ("feature", "left", "right", "threshold", "value")
        ),
        "the first round that these rows give",
    )


# Plain arrays


def dump_trees(rounds: Sequence[Trees]) -> dict[str, np.ndarray]:
    """Returns the trees of all rounds, and what each round says inputs are worth."""
    model = conversion.joined(rounds, rounds[0].start)
    importance = np.stack([each.importance for each in rounds])
    return {k: getattr(model, k) for k in Trees.arrays()} | {"importance": importance}


def load_trees(first: Trees, content: Columns) -> tuple[Trees, ...]:
    """Returns the trees of each round in `dump_trees` of this very fit.

    Args:
        first: Those of the first round, fitted anew.
        content: The arrays.

    Raises:
        ValueError: If they are no trees, or do not begin with that round.
    """
    num_rounds, importance = int(content["rounds_done"]), content["importance"]
    arrays: dict[str, Any] = {name: content[name] for name in Trees.arrays()}
    model = replace(first, **arrays | {"importance": first.importance})
    num_trees = num_rounds * len(first.root)
    expect(len(model.root) == num_trees, f"{len(first.root)} trees in each round")
    shape = (num_rounds, first.num_inputs)
    expect(importance.shape == shape, "importance of each round")
    found = conversion.separated(model, importance)
    expect(
        all(np.array_equal(getattr(first, k), getattr(found[0], k)) for k in arrays),
        "the first round that these rows give",
    )
    return found


# LightGBM


def dump_booster(booster: Any) -> dict[str, np.ndarray]:
    """Returns the columns of a booster's trees, from its text."""
    text, _, _ = booster.model_to_string().partition("\nend of trees")
    trees = [
        dict(line.split("=", 1) for line in tree.splitlines()[1:] if line)
        for tree in text.split("\nTree=")[1:]
    ]
    columns = {
        name: np.array([x for tree in trees for x in tree[name].split()]).astype(kind)
        for name, kind in _TEXT_COLUMNS.items()
    }
    return columns | {"sizes": np.array([int(tree["num_leaves"]) for tree in trees])}


def booster_text(first: Any, content: Columns) -> str:
    """Returns the text of a booster that goes on as that of `dump_booster` did.

    Args:
        first: A booster of the first round, fitted anew.
        content: The columns.

    Raises:
        ValueError: Or what else hostile arrays raise, if they are no trees, or do not
            begin with that round.
    """
    trees = _split_columns(content)
    require_same_start(
        map(_of_text, trees),
        map(_of_text, _split_columns(dump_booster(first))),
        num_inputs=first.num_feature(),
    )
    header, _, _ = first.model_to_string().partition("\nTree=")
    lines = [x for x in header.splitlines() if not x.startswith("tree_sizes=")]
    for number, tree in enumerate(trees):
        lines += ["", f"Tree={number}", f"num_leaves={len(tree['leaf_value'])}"]
        lines.append("num_cat=0")
        for name, column in tree.items():
            lines.append(f"{name}={' '.join(map(repr, column.tolist()))}")
        lines += ["is_linear=0", "shrinkage=1", ""]
    return "\n".join([*lines, "", "end of trees", ""])


def _split_columns(content: Columns) -> list[Columns]:
    """Returns the columns of each tree; they have a leaf more than splits."""
    leaves = content["sizes"].astype(np.int64)
    expect(len(leaves) and ((leaves > 0) & (leaves < 2**31)).all(), "sizes of trees")
    parts = {}
    for name, kind in _TEXT_COLUMNS.items():
        column, sizes = content[name], leaves - (name != "leaf_value")
        expect(column.dtype == kind, f"{name} of {np.dtype(kind)}")
        expect(column.shape == (sizes.sum(),), f"{name} of each split")
        parts[name] = np.split(column, np.cumsum(sizes)[:-1])
    expect((content["split_feature"] >= 0).all(), "a feature of each split")
    expect((content["decision_type"] % 2 == 0).all(), "splits of numbers")
    return [
        dict(zip(parts, each, strict=True))
        for each in zip(*parts.values(), strict=True)
    ]


def _of_text(tree: Columns) -> tuple[np.ndarray, ...]:
    """Returns what `conversion.columns_of` does: the splits, then the leaves."""
    num_splits, num_leaves = len(tree["threshold"]), len(tree["leaf_value"])
    ends, zeros = np.full(num_leaves, LEAF), np.zeros(num_leaves)
    feature = np.concatenate([tree["split_feature"], ends])
    left, right = (
        np.concatenate([np.where(side < 0, num_splits + ~side, side), ends])
        for side in (tree[x].astype(np.int64) for x in ("left_child", "right_child"))
    )
    threshold = np.concatenate([tree["threshold"], zeros])
    value = np.concatenate([np.zeros(num_splits), tree["leaf_value"]])
    return feature, left, right, threshold, value[:, None]
