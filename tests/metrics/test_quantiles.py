import numpy as np
import pytest

from metrics.quantiles import column_of, in_order, middle_of, pinball


def test_quantiles_that_cross_are_put_in_order():
    said = [[0.3, 0.1, 0.2], [1.0, 2.0, 3.0]]
    assert in_order(said).tolist() == [[0.1, 0.2, 0.3], [1.0, 2.0, 3.0]]
    assert middle_of(said).tolist() == [0.2, 2.0]
    assert middle_of([0.5, 0.1]).tolist() == middle_of([[0.5], [0.1]]).tolist()
    assert middle_of([0.5, 0.1]).tolist() == [0.5, 0.1]
    assert middle_of(np.empty((0, 3))).shape == (0,)


def test_order_loses_nothing():
    rng = np.random.default_rng(0)
    actual, said = rng.standard_normal(500), rng.standard_normal((500, 3))
    levels = (0.1, 0.5, 0.9)
    before, after = (pinball(actual, x, levels) for x in (said, in_order(said)))
    assert (after.sum(axis=1) <= before.sum(axis=1) + 1e-12).all()
    assert after.mean() < before.mean()


def test_pinball_by_hand():
    found = pinball([2.0, 1.0], [[1.0, 3.0], [1.0, 3.0]], (0.1, 0.9))
    np.testing.assert_allclose(found, [[0.1, 0.1], [0.0, 0.2]])
    np.testing.assert_allclose(pinball([2.0], [1.0, 3.0], (0.1, 0.9)), [[0.1, 0.1]])


@pytest.mark.parametrize(
    ("level", "name"), [(0.1, "quantile_10"), (0.025, "quantile_2.5")]
)
def test_names_are_in_percent(level, name):
    assert column_of(level) == name
