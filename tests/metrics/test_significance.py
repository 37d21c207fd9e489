import math

import numpy as np
import pytest

from config import HOLD
from metrics import scores, significance
from metrics.intervals import Length


def test_suggested_blocks():
    suggest = significance.suggest_block_rows
    assert suggest(100_000, horizon_bars=120) == 600
    assert suggest(9_600, horizon_bars=120) == 480
    assert suggest(4_000, horizon_bars=120) == 360


# Shuffle test


def persistent_labels(num_rows, seed, run=20):
    """Labels that stay for `run` rows, as those of overlapping futures do."""
    rng = np.random.default_rng(seed)
    values = rng.choice(3, num_rows // run + 1, p=[0.2, 0.6, 0.2])
    return np.repeat(values, run)[:num_rows]


def random_forecasts(num_rows, seed):
    return 0.02 + 0.94 * np.random.default_rng(seed).dirichlet([1, 2, 1], num_rows)


def direction_test(labels, table, **options):
    losses = scores.class_losses(table, part="direction_log_loss")
    return significance.shuffle_test(
        labels, losses, is_counted=labels != HOLD, **options
    )


def test_shuffle_equals_a_plain_loop():
    labels, table = persistent_labels(103, 0), random_forecasts(103, 1)
    losses = scores.class_losses(table)
    result = significance.shuffle_test(
        labels, losses, block_rows=10, num_permutations=50, seed=5
    )
    generator = np.random.Generator(np.random.PCG64(5))
    blocks, means = labels[:100].reshape(10, 10), []
    for _ in range(50):
        shuffled = blocks[generator.permutation(10)].ravel()
        means.append(losses[np.arange(100), shuffled].mean())
    observed = losses[np.arange(100), labels[:100]].mean()
    assert result["observed"] == pytest.approx(observed)
    assert result["shuffled_mean"] == pytest.approx(np.mean(means))
    below = sum(mean <= observed for mean in means)
    assert result["p_value"] == pytest.approx((1 + below) / 51)
    assert (result["num_blocks"], result["block_rows"]) == (10, 10)


def test_shuffle_finds_direction():
    labels = persistent_labels(20_000, 2)
    table = random_forecasts(20_000, 3)
    tilt = np.where(labels == 2, 1.5, np.where(labels == 0, 1 / 1.5, 1.0))
    table[:, 2] *= tilt
    table /= table.sum(axis=1, keepdims=True)
    result = direction_test(labels, table, block_rows=100, num_permutations=400)
    assert result["p_value"] == pytest.approx(1 / 401)


def test_shuffle_is_fair_without_direction():
    p_values = [
        direction_test(
            persistent_labels(6000, seed),
            random_forecasts(6000, 1000 + seed),
            block_rows=40,
            num_permutations=199,
            seed=seed,
        )["p_value"]
        for seed in range(100)
    ]
    assert np.mean(np.array(p_values) < 0.05) <= 0.12
    assert 0.35 < np.mean(p_values) < 0.65


def test_confidence_that_follows_activity_is_not_direction():
    # Unsure of the side where trades happen, sure of it where none do; no skill.
    labels = persistent_labels(20_000, 4)
    rng = np.random.default_rng(5)
    sure = np.where(rng.random(20_000) < 0.5, 0.95, 0.05)
    side = np.where(labels == HOLD, sure, 0.5 + 0.01 * rng.normal(size=20_000))
    table = np.stack([0.4 * (1 - side), np.full(20_000, 0.6), 0.4 * side], axis=1)
    honest = direction_test(labels, table, block_rows=100)
    naive = significance.shuffle_test(
        labels, scores.class_losses(table, part="direction_log_loss"), block_rows=100
    )
    assert naive["p_value"] < 0.01  # why `is_counted` exists
    assert honest["p_value"] > 0.05


def test_activity_skill_is_found_by_its_own_losses():
    labels = persistent_labels(20_000, 6)
    hold = np.where(labels == HOLD, 0.65, 0.55)
    table = np.stack([(1 - hold) / 2, hold, (1 - hold) / 2], axis=1)
    losses = scores.class_losses(table, part="activity_log_loss")
    assert significance.shuffle_test(labels, losses, block_rows=100)["p_value"] < 0.01
    assert direction_test(labels, table, block_rows=100)["p_value"] == 1.0


def test_many_blocks_are_joined(monkeypatch):
    monkeypatch.setattr(significance, "_MAX_BLOCKS", 11)
    result = significance.shuffle_test(
        np.arange(50) % 3, np.ones((50, 3)), block_rows=1, num_permutations=9
    )
    assert (result["num_blocks"], result["block_rows"]) == (11, 4)
    assert result["p_value"] == 1.0


def test_too_few_blocks_have_no_p_value():
    labels = np.array([0, 2, 1, 1, 1])
    result = direction_test(labels, np.full((5, 3), 1 / 3), block_rows=1)
    assert result["num_blocks"] == 2
    assert result["p_value"] is None
    assert result["observed"] == pytest.approx(math.log(2))
    none = direction_test(np.ones(5, int), np.full((5, 3), 1 / 3), block_rows=1)
    assert none["observed"] is None


def test_shuffle_refuses():
    with pytest.raises(ValueError, match="a row for each label"):
        significance.shuffle_test(np.zeros(3, int), np.zeros((2, 3)), block_rows=1)


# Sharpe ratios


def test_probabilistic_sharpe_by_hand():
    # Mean 1, deviations -1 -1 -1 3: variance 3 (n) or 4 (n - 1), Sharpe ratio 1 / 2,
    # skewness 6 / 3^1.5 = 1.1547, kurtosis 21 / 9.
    days = [0.0, 0.0, 0.0, 4.0]
    variance = 1 - 6 / 3**1.5 * 0.5 + (21 / 9 - 1) / 4 * 0.25
    for benchmark in (0.0, 0.3):
        score = (0.5 - benchmark) * math.sqrt(3 / variance)
        expected = 0.5 * math.erfc(-score / math.sqrt(2))
        assert significance.probabilistic_sharpe(
            days, benchmark_sharpe=benchmark
        ) == pytest.approx(expected, abs=1e-12)


def test_expected_maximum_grows_with_the_number_of_trials():
    expected = significance.expected_maximum_sharpe
    assert expected(1, sharpe_std=1.0) == 0.0
    # The largest of 10 standard normals is 1.54 on average, of 1000 it is 3.24.
    assert expected(10, sharpe_std=1.0) == pytest.approx(1.54, abs=0.04)
    assert expected(1000, sharpe_std=0.5) == pytest.approx(3.24 / 2, abs=0.03)
    with pytest.raises(ValueError, match="Received: 0"):
        expected(0, sharpe_std=1.0)


def test_deflated_sharpe_falls_with_the_number_of_trials():
    days = np.random.default_rng(1).normal(0.15, 1.0, 365)
    values = [significance.deflated_sharpe(days, num_trials=n) for n in (1, 10, 1000)]
    assert values[0] == significance.probabilistic_sharpe(days)
    assert values[0] > values[1] > values[2]


def test_the_best_of_many_noises_is_not_called_skill():
    claims = 0
    for seed in range(50):
        trials = np.random.default_rng(seed).normal(0, 1, (40, 365))
        best = max(trials, key=lambda days: days.mean() / days.std())
        claims += significance.deflated_sharpe(best, num_trials=40) > 0.95
        assert significance.probabilistic_sharpe(best) > 0.9
    assert claims <= 5


@pytest.mark.parametrize(
    ("days", "num_trials", "expected"),
    [
        (12, 1, 31.6),
        (18, 1, 19.7),
        (53, 1, 10.2),
        (180, 1, 5.5),
        (365, 1, 3.9),
        (365, 120, 5.2),
    ],
)
def test_a_short_test_shows_large_ratios_alone(days, num_trials, expected):
    length = Length(days=days, horizons=12 * days)
    found = significance.minimum_detectable_sharpe(length, num_trials=num_trials)
    assert found * 365**0.5 == pytest.approx(expected, abs=0.06)


@pytest.mark.parametrize(
    ("days", "horizons", "num_trials"), [(9, 99, 1), (99, 29, 1), (11, 99, 1000)]
)
def test_a_few_days_show_no_ratio(days, horizons, num_trials):
    length = Length(days=days, horizons=horizons)
    found = significance.minimum_detectable_sharpe(length, num_trials=num_trials)
    assert found is None


@pytest.mark.parametrize("rows", [[], [0.1], [0.1, 0.2], [0.1] * 50])
def test_undefined_sharpe_is_none(rows):
    assert significance.probabilistic_sharpe(rows) is None
    assert significance.deflated_sharpe(rows, num_trials=5) is None


def test_sharpe_ratios_agree_with_skfolio():
    other = pytest.importorskip(
        "skfolio.measures", reason="skfolio is in requirements-dev.txt"
    )
    rng = np.random.default_rng(2)
    days = rng.standard_t(4, 200) * 0.01 + 0.001
    trials = rng.normal(0.0, 0.06, 25)
    assert significance.probabilistic_sharpe(days) == pytest.approx(
        other.probabilistic_sharpe_ratio(days), abs=1e-9
    )
    assert significance.expected_maximum_sharpe(25, sharpe_std=0.06) == pytest.approx(
        other.expected_max_sharpe_ratio(25, 0.06), abs=1e-9
    )
    assert significance.deflated_sharpe(
        days, num_trials=25, sharpe_std=trials.std(ddof=1)
    ) == pytest.approx(other.deflated_sharpe_ratio(days, trials), abs=1e-9)


def test_false_discoveries_are_limited_step_by_step():
    limit = significance.limit_false_discoveries
    found = limit([0.03, 0.01, None, 0.5, 0.04])
    assert found == pytest.approx([4 * 0.04 / 3, 0.04, None, 0.5, 4 * 0.04 / 3])
    assert limit([None]) == [None] and limit([]) == []
