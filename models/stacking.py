"""How much each of several models counts, and how alike they are: arithmetic alone.

In: what models said of the same rows, and what happened. Out: which models, of which
rows, and their answer as one (`stack_adapter`).

Outputs are probabilities (num_rows, 3), scored by log-loss, or numbers (num_rows,),
scored by squared error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypedDict

import numpy as np

from config import LONG, SHORT
from metrics import scores
from metrics.intervals import block_error

SHRINKAGES = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 0.0)
"""Strengths of the pull of convex weights to equal ones that are tried; strong first.

At 1 weights are equal unless a member has a loss far above the others'.
"""
MIN_HALF_ROWS = 100
"""Fewer rows in a half of validation teach no weights."""
GREEDY_ROUNDS = 50
SHARPNESS = (0.25, 4.0)
"""Least and largest power of a mean of probabilities."""

_LEAST_WEIGHT = 1e-6
"""A weight below it is none: its model need not be asked."""


class StackedMember(TypedDict):
    """A member of a stack."""

    name: str  # of baselines and comparisons
    named: str  # in the configuration
    weight: float


class Alike(TypedDict):
    """How alike members err in a part, pair by pair (num_members, num_members)."""

    loss_correlation: list[list[float | None]]  # None of a loss that never changes
    disagreement: list[list[float]]  # share of rows with another most probable class
    side_disagreement: list[list[float]]  # LONG before SHORT, or another sign


class StackFindings(TypedDict):
    """What a stack makes of its members."""

    rule: str  # how weights are learned
    sharpness: float  # power of the mean of probabilities
    shrinkage: float | None  # strength of the pull of convex weights to equal ones
    loss: float  # on validation, which taught the weights
    crossed_loss: float  # of each half of it by the weights of the other half
    is_crossed: bool  # False where a half is too short to teach any
    members: list[StackedMember]
    validation: Alike
    test: Alike


Learn = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Returns weights (num_models,) for outputs (num_models, num_rows, ...) and truth."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Pool:
    """How answers of models become one.

    A weighted mean of probabilities that mean what they say is less sure than it could
    be: it is raised to a power, and normalised. Source: Ranjan and Gneiting (2010),
    "Combining probability forecasts".

    Args:
        weights: (num_models,), none negative, summing to 1.
        sharpness: The power; 1 of numbers, and where one model has all of the weight.
    """

    weights: np.ndarray
    sharpness: float = 1.0

    def answer(self, outputs: Sequence[np.ndarray | None]) -> np.ndarray:
        """Returns one answer, float64; outputs without a weight are not read.

        A model with all of the weight keeps its very bits.
        """
        parts = [
            weight * np.asarray(said, np.float64)
            for weight, said in zip(self.weights, outputs, strict=True)
            if weight > 0
        ]
        mixed = np.sum(parts, axis=0) if len(parts) > 1 else parts[0]
        return mixed if self.sharpness == 1 else _sharpened(mixed, self.sharpness)


def _sharpened(mixed: np.ndarray, power: float) -> np.ndarray:
    raised = np.maximum(mixed, scores.EPSILON) ** power
    return raised / raised.sum(axis=1, keepdims=True)


@dataclass(frozen=True, kw_only=True, eq=False)
class Weighing:
    """What rows teach of models, and how that does on rows that did not teach it.

    Args:
        pool: Weights and sharpness.
        shrinkage: Strength of the pull of convex ones to equal ones; None of others.
        crossed: What each half of the rows is told by the pool of the other half; None
            where a half is too small to teach one.
    """

    pool: Pool
    shrinkage: float | None
    crossed: np.ndarray | None


def row_losses(truth: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    """Returns the log-loss, or the squared error, of each row (num_rows,)."""
    if outputs.ndim == 1:
        return np.square(outputs.astype(np.float64) - truth)
    return scores.row_log_loss(truth, outputs)


# Weights


def weigh(
    outputs: Sequence[np.ndarray],
    truth: np.ndarray,
    rows: np.ndarray,
    *,
    rule: str,
    purge_bars: int,
) -> Weighing:
    """Returns the weights of models that all rows teach, by a rule.

    Neighbouring labels overlap, so rows are few independent pieces, and weights that
    fit them best are partly luck. How far convex ones go from equal ones is therefore
    decided by rows that did not teach them, each half by the pool of the other: the
    strongest pull that is no worse there than the best one, as far as can be told.

    Models that say the same are one: the first of them has the weight.

    Args:
        outputs: Of each model, of the same rows.
        truth: Class ids, or numbers (num_rows,).
        rows: Row numbers (num_rows,), ascending.
        rule: `equal`, `convex` or `greedy`.
        purge_bars: Rows of window and label that two targets may share.
    """
    kept = _distinct(outputs)
    said = np.stack([outputs[k].astype(np.float64) for k in kept])
    halves = _halves(rows, purge_bars)

    def crossed(learn: Learn) -> np.ndarray | None:
        if halves is None:
            return None
        told = np.empty(said.shape[1:])
        for judged, teaches in halves:
            pool = _pool(learn, said[:, teaches], truth[teaches])
            told[judged] = pool.answer([*said[:, judged]])
        return told

    shrinkage, learn = None, RULES[rule]
    if rule == "convex":
        shrinkage, learn = _shrunk(crossed, truth, block_rows=purge_bars + 1)
    found = _pool(learn, said, truth)
    weights = np.zeros(len(outputs))
    weights[kept] = found.weights
    return Weighing(
        pool=replace(found, weights=weights),
        shrinkage=shrinkage,
        crossed=crossed(learn),
    )


def _pool(learn: Learn, said: np.ndarray, truth: np.ndarray) -> Pool:
    """Returns the pool that rows teach, of classes with its sharpness."""
    from scipy.optimize import minimize_scalar

    weights = learn(said, truth)
    if said.ndim == 2 or (weights > 0).sum() == 1:
        return Pool(weights=weights)
    mixed = Pool(weights=weights).answer([*said])
    best = minimize_scalar(
        lambda power: row_losses(truth, _sharpened(mixed, power)).mean(),
        bounds=SHARPNESS,
        method="bounded",
    )
    return Pool(weights=weights, sharpness=float(best.x))


def _shrunk(
    crossed: Callable[[Learn], np.ndarray | None],
    truth: np.ndarray,
    *,
    block_rows: int,
) -> tuple[float | None, Learn]:
    """Returns the strongest pull within a standard error of the best, and its learner.

    Equal weights where a half teaches nothing. Source of the rule: Breiman, Friedman,
    Olshen and Stone (1984), "Classification and regression trees", 3.4.3.
    """
    learners = {pull: partial(convex_weights, pull=pull) for pull in SHRINKAGES}
    told = {pull: crossed(learn) for pull, learn in learners.items()}
    losses = {
        pull: row_losses(truth, said) for pull, said in told.items() if said is not None
    }
    if not losses:
        return None, equal_weights
    best = min(losses.values(), key=lambda values: float(values.mean()))

    def is_as_good(pull: float) -> bool:
        worse = losses[pull] - best
        return bool(worse.mean() <= block_error(worse, block_rows=block_rows))

    pull = next(filter(is_as_good, SHRINKAGES))
    return pull, learners[pull]


def _distinct(outputs: Sequence[np.ndarray]) -> list[int]:
    """Returns the places of outputs that none before them equals."""
    kept: list[int] = []
    for k, said in enumerate(outputs):
        if not any(np.array_equal(said, outputs[before]) for before in kept):
            kept.append(k)
    return kept


def _halves(
    rows: np.ndarray, purge_bars: int
) -> list[tuple[np.ndarray, np.ndarray]] | None:
    """Returns which rows are judged, and which teach for them; see `cross_fit`."""
    border = rows[len(rows) // 2]
    older = rows < border
    pairs = [(older, rows >= border + purge_bars), (~older, rows < border - purge_bars)]
    has_rows = all(teaches.sum() >= MIN_HALF_ROWS for _, teaches in pairs)
    return pairs if has_rows and older.any() else None


def equal_weights(outputs: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Returns the same weight for each model (num_models,)."""
    return np.full(len(outputs), 1 / len(outputs))


def convex_weights(
    outputs: np.ndarray, truth: np.ndarray, *, pull: float = 0.0
) -> np.ndarray:
    """Returns the weights (num_models,), none negative, of the least mean loss.

    The loss of a mixture is convex in its weights, so there is one least value. The
    pull to equal weights is the relative entropy of those against these, times its
    strength: a member that is far worse than the others loses its weight all the same,
    of two that are nearly as good none does. Sources: Breiman (1996), "Stacked
    regressions"; Geweke and Amisano (2011), "Optimal prediction pools".

    Args:
        outputs: Of each model (num_models, num_rows, ...).
        truth: Class ids, or numbers (num_rows,).
        pull: Its strength, in units of the loss.
    """
    from scipy.optimize import minimize

    count = len(outputs)
    if count == 1:
        return np.ones(1)
    is_number = outputs.ndim == 2
    columns = outputs.T if is_number else outputs[:, np.arange(len(truth)), truth].T
    columns = columns if is_number else np.maximum(columns, scores.EPSILON)

    def loss_and_slope(weights: np.ndarray) -> tuple[float, np.ndarray]:
        told = columns @ weights
        if is_number:
            loss = np.square(told - truth).mean()
            slope = 2 * columns.T @ (told - truth) / len(told)
        else:
            loss = -np.log(told).mean()
            slope = -columns.T @ (1 / told) / len(told)
        if pull:
            loss -= pull * np.log(count * weights).mean()
            slope -= pull / (count * weights)
        return float(loss), slope

    found = minimize(
        loss_and_slope,
        np.full(count, 1 / count),
        jac=True,
        method="SLSQP",
        bounds=[(_LEAST_WEIGHT if pull else 0.0, 1.0)] * count,
        constraints={
            "type": "eq",
            "fun": lambda weights: weights.sum() - 1,
            "jac": np.ones_like,
        },
        options={"ftol": 1e-10, "maxiter": 500},
    )
    kept = np.where(found.x > _LEAST_WEIGHT, found.x, 0.0)
    return kept / kept.sum()


def greedy_weights(outputs: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Returns how often each model is chosen, one after another, with replacement.

    In each round the one that leaves the sum of all chosen with the least loss; the
    first round with the least of all is kept. Source: Caruana, Niculescu-Mizil, Crew
    and Ksikes (2004), "Ensemble selection from libraries of models".
    """
    total = np.zeros(outputs.shape[1:])
    chosen: list[int] = []
    losses: list[float] = []
    for number in range(1, GREEDY_ROUNDS + 1):
        tried = [
            float(row_losses(truth, (total + said) / number).mean()) for said in outputs
        ]
        chosen.append(int(np.argmin(tried)))
        losses.append(tried[chosen[-1]])
        total += outputs[chosen[-1]]
    best = int(np.argmin(losses)) + 1
    return np.bincount(chosen[:best], minlength=len(outputs)) / best


RULES: dict[str, Learn] = {
    "equal": equal_weights,
    "convex": convex_weights,
    "greedy": greedy_weights,
}
"""Values of `stack_weights` -> what learns such weights."""


# How alike models are


def alike(outputs: Sequence[np.ndarray], truth: np.ndarray) -> Alike:
    """Returns how alike models err on the same rows, and how often they disagree."""
    losses = np.stack([row_losses(truth, said) for said in outputs])
    with np.errstate(divide="ignore", invalid="ignore"):
        correlation = np.atleast_2d(np.corrcoef(losses))
    sides = [np.sign(x if x.ndim == 1 else x[:, LONG] - x[:, SHORT]) for x in outputs]
    classes = [x.argmax(axis=1) for x in outputs if x.ndim > 1] or sides
    apart, on_other_side = (
        (said[:, None] != said[None]).mean(axis=2).tolist()
        for said in map(np.stack, (classes, sides))
    )
    return {
        "loss_correlation": [
            [float(x) if np.isfinite(x) else None for x in row] for row in correlation
        ],
        "disagreement": apart,
        "side_disagreement": on_other_side,
    }
