import numpy as np
import pytest

from preprocessing.windows import (
    cut_windows,
    evenly_spaced,
    statistic_names,
    value_limits,
    whole_batches,
    window_sizes,
    window_statistics,
)


def test_window_statistics_equal_a_plain_loop():
    rng = np.random.default_rng(0)
    features = (1000 + rng.standard_normal((300, 2))).astype(np.float32)
    rows = np.array([99, 150, 299])
    found = window_statistics(features, rows, window_bars=100)
    assert found.shape == (3, 2 * 4 * 2)
    expected = [
        [
            value
            for j in range(2)
            for size in (5, 15, 60, 100)
            for value in (
                features[row - size + 1 : row + 1, j].astype(float).mean(),
                features[row - size + 1 : row + 1, j].astype(float).std(),
            )
        ]
        for row in rows
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_window_statistics_read_their_own_window_only():
    rng = np.random.default_rng(0)
    features = rng.standard_normal((200, 3)).astype(np.float32)
    row = np.array([100])
    before = window_statistics(features, row, window_bars=20)
    changed = features.copy()
    changed[101:] += 5
    changed[:81] -= 7
    after = window_statistics(changed, row, window_bars=20)
    np.testing.assert_allclose(after, before, atol=1e-6)
    changed[81] += 1
    assert not np.allclose(window_statistics(changed, row, window_bars=20), before)


@pytest.mark.parametrize(
    ("window_bars", "sizes"),
    [(3, [3]), (5, [5]), (60, [5, 15, 60]), (120, [5, 15, 60, 120])],
)
def test_lengths_never_leave_the_window(window_bars, sizes):
    assert window_sizes(window_bars) == sizes


@pytest.mark.parametrize("window_bars", [1, 2, 8, 60, 120, 128, 129, 1440])
def test_statistics_of_a_window_alone_are_the_same_bits(window_bars):
    rng = np.random.default_rng(3)
    features = rng.standard_normal((3 * window_bars + 500, 3)).astype(np.float32)
    features *= np.float32([1e-5, 1, 1e6])
    features[::7, 1] = 10.0
    limits = value_limits(features)
    rows = np.arange(window_bars + 40, len(features), 3)
    whole = window_statistics(features, rows, window_bars=window_bars, limits=limits)
    windows = cut_windows(features, rows, window_bars=window_bars)
    ends = (np.arange(len(rows)) + 1) * window_bars - 1
    alone = window_statistics(
        windows.reshape(-1, 3), ends, window_bars=window_bars, limits=limits
    )
    np.testing.assert_array_equal(alone, whole)
    last = window_statistics(
        windows[-1], np.array([window_bars - 1]), window_bars=window_bars, limits=limits
    )
    np.testing.assert_array_equal(last[0], whole[-1])
    np.testing.assert_allclose(whole[:, -2], windows[:, :, 2].mean(axis=1), atol=2.0)
    np.testing.assert_allclose(
        whole[:, -1], windows[:, :, 2].astype(float).std(axis=1), atol=2.0
    )


def test_sums_that_pass_64_bits_stay_exact():
    features = np.full((300_000, 1), 10.0, np.float32)
    features[::2] = -10.0
    rows = np.array([199, 150_000, 299_999])
    found = window_statistics(
        features, rows, window_bars=120, limits=value_limits(features)
    )
    np.testing.assert_array_equal(found[:, -2], 0.0)
    np.testing.assert_array_equal(found[:, -1], 10.0)


def test_constant_features_have_no_deviation():
    features = np.full((50, 2), np.float32(0.1))
    features[:, 1] = 0.0
    found = window_statistics(
        features, np.array([20, 49]), window_bars=20, limits=value_limits(features)
    )
    np.testing.assert_array_equal(found[:, 1::2], 0.0)
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_allclose(found[:, 0], 0.1, rtol=1e-6)


def test_values_beyond_their_limit_are_cut_off():
    features = np.float32([[1.0], [3.0], [1e30]])
    found = window_statistics(
        features, np.array([2]), window_bars=2, limits=np.array([4.0])
    )
    assert found.tolist() == [[3.5, 0.5]]


def test_limits_are_powers_of_two_above_the_values():
    features = np.float32([[0.0, 1.0, -3.0, 10.0], [0.0, 0.5, 2.0, 4.0]])
    assert value_limits(features).tolist() == [1.0, 2.0, 4.0, 16.0]


def test_names_stand_in_the_order_of_the_columns():
    features = np.arange(40, dtype=np.float32).reshape(20, 2)
    names = statistic_names(["a", "b"], 8)
    assert names == [
        *("a_mean5", "a_std5", "a_mean8", "a_std8"),
        *("b_mean5", "b_std5", "b_mean8", "b_std8"),
    ]
    found = window_statistics(features, np.array([19]), window_bars=8)[0]
    assert dict(zip(names, found, strict=True))["b_mean5"] == pytest.approx(35.0)


def test_evenly_spaced_rows():
    rows = np.arange(10, 20)
    assert evenly_spaced(rows, 2).tolist() == [12, 17]
    assert evenly_spaced(rows, None) is rows and evenly_spaced(rows, 10) is rows


def test_batches_are_filled_up_with_the_first_rows():
    rows = np.arange(7)
    assert whole_batches(rows, 4).tolist() == [0, 1, 2, 3, 4, 5, 6, 0]
    assert whole_batches(rows, 7).tolist() == rows.tolist()
    assert whole_batches(rows[:5], 100).tolist() == [0, 1, 2, 3, 4, 0, 1, 2]
    assert whole_batches(rows[:5], 7).tolist() == [0, 1, 2, 3, 4, 0, 1]
    assert whole_batches(rows[:1], 100).tolist() == [0]
    pairs = np.arange(6).reshape(3, 2)
    assert whole_batches(pairs, 100).tolist() == [[0, 1], [2, 3], [4, 5], [0, 1]]
