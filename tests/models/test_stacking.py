"""Weights of models: of the least loss, as far as the other half of the rows has it."""

import numpy as np
import pytest

from metrics import scores
from models import stacking

DRAW = np.random.default_rng(0)
ROWS = np.arange(2000)
LABELS = DRAW.integers(0, 3, 2000)


def told(knows, noise=0.0, labels=LABELS):
    """Probabilities that lean to the truth, each row by more or less."""
    lean = np.clip(knows + noise * DRAW.standard_normal(len(labels)), 0.01, 0.99)
    table = np.repeat((1 - lean)[:, None] / 3, 3, axis=1)
    table[np.arange(len(labels)), labels] += lean
    return table


def weigh(outputs, rule="convex", truth=LABELS, rows=ROWS):
    return stacking.weigh(outputs, truth, rows, rule=rule, purge_bars=10)


def loss(outputs, weights):
    pool = stacking.Pool(weights=np.asarray(weights))
    return scores.log_loss(LABELS, pool.answer(outputs))


def test_convex_weights_lose_least_of_all():
    outputs = [told(0.2, 0.2), told(0.2, 0.2), told(0.1, 0.3)]
    found = stacking.convex_weights(np.stack(outputs), LABELS)
    assert found.sum() == pytest.approx(1) and (found >= 0).all()
    for move in ([0.01, -0.01, 0], [-0.01, 0, 0.01], [0, -0.01, 0.01]):
        for sign in (1, -1):
            moved = np.clip(found + sign * np.array(move), 0, None)
            assert loss(outputs, found) < loss(outputs, moved / moved.sum())
    numbers = DRAW.standard_normal(2000)
    # y = (2 a + b) / 3 exactly, where a and b err apart.
    error = DRAW.standard_normal(2000)
    pair = np.stack([numbers + error, numbers - 2 * error])
    found = stacking.convex_weights(pair, numbers)
    np.testing.assert_allclose(found, [2 / 3, 1 / 3], atol=1e-4)


def test_the_pull_leaves_a_bad_member_without_weight_and_equals_the_good_ones():
    outputs = np.stack([told(0.3, 0.3), told(0.31, 0.3), 1 - told(0.99)])
    outputs[2] /= outputs[2].sum(axis=1, keepdims=True)
    free, pulled = (
        stacking.convex_weights(outputs, LABELS, pull=pull) for pull in (0.0, 0.01)
    )
    assert free[2] == 0 and pulled[2] < 0.01
    assert abs(pulled[0] - pulled[1]) < abs(free[0] - free[1])
    strong = stacking.convex_weights(outputs[:2], LABELS, pull=10.0)
    np.testing.assert_allclose(strong, 0.5, atol=1e-3)


def test_greedy_weights_are_counts_and_no_worse_than_the_best_member():
    outputs = [told(0.2, 0.2), told(0.25, 0.2), told(0.05)]
    found = weigh(outputs, "greedy")
    assert found.shrinkage is None
    losses = [loss(outputs, row) for row in np.eye(3)]
    assert loss(outputs, found.pool.weights) <= min(losses)
    best = weigh([told(0.9), told(0.1), told(0.1)], "greedy").pool.weights
    assert best.tolist() == [1, 0, 0]


def test_what_one_half_teaches_is_held_against_the_other():
    # Each of two models knows one half: weights of a half are wrong in the other.
    knows = [np.where(ROWS < 1000, lean, 0.6 - lean) for lean in (0.6, 0.0)]
    outputs = [told(lean) for lean in knows]
    found = weigh(outputs)
    assert found.shrinkage == 1.0
    np.testing.assert_allclose(found.pool.weights, 0.5, atol=0.05)
    first = stacking.convex_weights(np.stack(outputs)[:, :990], LABELS[:990])
    second = stacking.convex_weights(np.stack(outputs)[:, 1010:], LABELS[1010:])
    greedy = weigh(outputs, "greedy")
    assert first.round(3).tolist() == [1, 0] and second.round(3).tolist() == [0, 1]
    assert loss([greedy.crossed], [1.0]) > np.mean(
        [loss(outputs, w) for w in np.eye(2)]
    )
    short = weigh([x[:150] for x in outputs], truth=LABELS[:150], rows=ROWS[:150])
    assert short.shrinkage is None and short.crossed is None
    assert short.pool.weights.tolist() == [0.5, 0.5]


def test_copies_are_one_model():
    one, other = told(0.2, 0.2), told(0.3, 0.2)
    alone, copied = weigh([one, other]).pool, weigh([one, one.copy(), other]).pool
    assert copied.weights.tolist() == [alone.weights[0], 0.0, alone.weights[1]]
    assert copied.sharpness == alone.sharpness
    twice = weigh([one, one.copy()], "equal").pool
    assert twice.weights.tolist() == [1, 0] and twice.sharpness == 1
    assert np.array_equal(twice.answer([one, None]), one)


def test_a_mean_of_what_two_know_is_sharpened_and_numbers_are_not():
    # Each knows another half of the truth: their mean is less sure than it could be.
    parts = DRAW.dirichlet([1, 1, 1], (2, 2000))
    both = parts.prod(axis=0)
    both /= both.sum(axis=1, keepdims=True)
    labels = (DRAW.random(2000)[:, None] > both.cumsum(axis=1)).sum(axis=1)
    found = weigh([*parts], "equal", truth=labels)
    assert found.pool.sharpness > 1.5
    mean = scores.log_loss(labels, parts.mean(axis=0))
    assert scores.log_loss(labels, found.crossed) < mean - 0.02
    numbers = [DRAW.standard_normal(2000), DRAW.standard_normal(2000)]
    found = weigh(numbers, "equal", truth=sum(numbers))
    assert found.pool.sharpness == 1
    np.testing.assert_array_equal(found.pool.answer(numbers), sum(numbers) / 2)


def test_how_alike_models_are():
    first = np.array([[0.8, 0.1, 0.1], [0.2, 0.6, 0.2], [0.1, 0.2, 0.7]])
    found = stacking.alike([first, first[[0, 1, 1]]], np.array([0, 1, 2]))
    assert found["disagreement"] == [
        [0, pytest.approx(1 / 3)],
        [pytest.approx(1 / 3), 0],
    ]
    # Row 2: LONG, and neither side.
    assert found["side_disagreement"][0] == [0, pytest.approx(1 / 3)]
    numbers = [np.array([1.0, -1, 2]), np.array([1.0, 1, 2]), np.zeros(3)]
    found = stacking.alike(numbers, np.array([1.0, -1, 0]))
    assert found["disagreement"][0] == pytest.approx([0, 1 / 3, 1])
    assert found["loss_correlation"][0][1] == pytest.approx(0.5)
    constant = [np.array([1.0, -1, 0]), numbers[0]]
    found = stacking.alike(constant, np.array([1.0, -1, 0]))
    assert found["loss_correlation"][0] == [None, None]
