import numpy as np
import pytest
from world.frames import CORE8, TINY, make_own_frame

from config import Config
from data_loader import TrainingDataLoader
from evaluation import importance
from evaluation.importance import permutation_importance
from preprocessing import windows
from reports.blocks import Material
from reports.composition import (
    MOST_FEATURES,
    format_importance,
    importance_section,
    plot_importance,
)


class Reads:
    """Says LONG or SHORT by one feature's mean, and how sure by another's last bar."""

    def __init__(self, data):
        self.data = data
        self.calls = []

    def predict_windows(self, windows):
        self.calls.append(windows.copy())
        side = 1 / (1 + np.exp(-4 * windows[:, :, 0].mean(axis=1)))
        trade = 1 / (1 + np.exp(-2 * windows[:, -1, 3]))
        return np.stack([trade * (1 - side), 1 - trade, trade * side], axis=1)


class ReadsNumbers:
    def predict_windows(self, windows):
        return 0.5 * windows[:, -1, 2]


@pytest.fixture(scope="module")
def data():
    frame = make_own_frame(3000, seed=2)
    loaded = load(frame)
    windows = loaded.features[:, 0]
    draw = np.random.default_rng(0)
    mean = np.convolve(windows, np.ones(8) / 8)[: len(windows)]
    trade = draw.random(len(frame)) < 1 / (1 + np.exp(-2 * loaded.features[:, 3]))
    long = draw.random(len(frame)) < 1 / (1 + np.exp(-4 * mean))
    labels = np.where(trade, np.where(long, 2, 0), 1)
    return load(make_own_frame(3000, seed=2, label=labels))


def load(frame, **fields):
    config = Config(**TINY | {"class_balancing_method": "none"} | fields)
    return TrainingDataLoader.from_frame(frame, config=config).load_training_data()


def test_what_a_model_reads_matters_and_nothing_else(data):
    found = permutation_importance(Reads(data), data, num_windows=400, seed=1)
    names = [each["name"] for each in found["features"]]
    assert set(names[:2]) == {CORE8[0], CORE8[3]} and set(names) == set(CORE8)
    by_name = {each["name"]: each for each in found["features"]}
    assert by_name[CORE8[0]]["mean"] > 0.02
    assert by_name[CORE8[0]]["direction_mean"] > 0.05
    assert by_name[CORE8[3]]["mean"] > 0.02
    assert by_name[CORE8[3]]["direction_mean"] == pytest.approx(0.0, abs=1e-6)
    for name in set(CORE8) - {CORE8[0], CORE8[3]}:
        assert by_name[name]["mean"] == by_name[name]["std"] == 0.0
    assert found["skill"] > 0.05
    assert (found["num_windows"], found["num_repeats"]) == (400, 3)


def test_the_untouched_skill_is_that_against_the_train_prior(data):
    found = permutation_importance(Reads(data), data, num_windows=10**6, num_repeats=1)
    rows = data.parts["validation"].targets
    seen = data.features[rows[:, None] + np.arange(-7, 1)]
    labels = data.labels[rows]
    said = Reads(data).predict_windows(seen)[np.arange(len(rows)), labels]
    prior = data.class_prior[labels]
    expected = 1 - np.log(said).mean() / np.log(prior).mean()
    assert found["skill"] == pytest.approx(expected, rel=1e-5)


def test_a_whole_window_goes_to_another_row(data):
    model = Reads(data)
    permutation_importance(model, data, num_windows=50, num_repeats=2, seed=1)
    before = model.calls[0]
    assert len(model.calls) == 1 + 8 * 2
    for number, changed in enumerate(model.calls[1:]):
        j = number // 2
        others = [k for k in range(8) if k != j]
        np.testing.assert_array_equal(changed[:, :, others], before[:, :, others])
        series = {window.tobytes() for window in before[:, :, j]}
        assert {window.tobytes() for window in changed[:, :, j]} == series
        assert not np.array_equal(changed[:, :, j], before[:, :, j])
    first, second = model.calls[1], model.calls[2]
    assert not np.array_equal(first, second)


def test_only_validation_is_read_and_nothing_is_changed(data):
    model = Reads(data)
    digest = data.digest()
    permutation_importance(model, data, num_windows=10**6)
    rows = data.parts["validation"].targets
    assert len(model.calls[0]) == len(rows)
    np.testing.assert_array_equal(model.calls[0][:, -1], data.features[rows])
    assert data.digest() == digest


def test_seeds_are_honoured(data):
    first, again, other = (
        permutation_importance(Reads(data), data, num_windows=100, seed=seed)
        for seed in (1, 1, 2)
    )
    assert first == again and first != other


def test_windows_are_bounded(data, monkeypatch):
    monkeypatch.setattr(importance, "MAX_PREDICTED", 5000)
    found = permutation_importance(Reads(data), data, num_windows=1000)
    assert found["num_windows"] == 5000 // 25
    monkeypatch.setattr(importance, "MAX_CELLS", 8 * 8 * 150)
    found = permutation_importance(Reads(data), data, num_windows=1000)
    assert found["num_windows"] == 150
    monkeypatch.setattr(importance, "MAX_CELLS", 1)
    found = permutation_importance(Reads(data), data, num_windows=1000)
    assert found["num_windows"] == importance.MIN_WINDOWS


def test_numbers_lose_squared_error():
    frame = make_own_frame(2000, seed=4).drop(columns="label")
    close = 1000 * np.exp(np.cumsum(0.001 * frame["close_change"]))
    frame["close"] = close
    frame["target"] = np.log(close.shift(-5) / close)
    frame["is_target"] = frame["target"].notna()
    data = load(frame, target="return")
    found = permutation_importance(ReadsNumbers(), data, num_windows=300)
    assert found["score"].startswith("squared-error")
    top = found["features"][0]
    assert set(top) == {"name", "mean", "std"}
    values = {each["name"]: each["mean"] for each in found["features"]}
    assert values[CORE8[0]] == 0.0 and values[CORE8[2]] != 0.0
    rows = windows.evenly_spaced(data.parts["validation"].targets, 300)
    truth = data.values[rows]
    error = 0.5 * data.features[rows, 2] - truth
    expected = 1 - np.square(error).mean() / np.square(truth).mean()
    assert found["skill"] == pytest.approx(expected, rel=1e-4)


def test_parts_without_a_trade_have_no_direction():
    labels = np.ones(1500, int)
    labels[:600:3], labels[1:600:3] = 0, 2
    data = load(make_own_frame(1500, label=labels))
    found = permutation_importance(Reads(data), data, num_windows=100)
    assert found["features"][0]["direction_mean"] is None
    assert "direction" not in format_importance(found)


def many(count):
    features = [
        {"name": f"x{k}", "mean": 0.1 / (k + 1), "std": 0.01}
        | {"direction_mean": 0.2, "direction_std": 0.01}
        for k in range(count)
    ]
    return {
        "part": "validation",
        "num_windows": 1000,
        "num_repeats": 3,
        "features": features,
    }


def test_text_names_the_most_important_first():
    lines = format_importance(many(25)).splitlines()
    assert lines[0].endswith("skill lost when it is shuffled, 1,000 windows, 3 times")
    assert lines[2].split() == ["x0", "+0.1000", "0.0100", "+0.2000"]
    assert len(lines) == 2 + MOST_FEATURES + 1 and lines[-1] == "  ... and 5 more"


def test_figure_and_section_show_the_same_numbers():
    figure = plot_importance(many(3))
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == [
        "x0",
        "x1",
        "x2",
    ]
    widths = [bar.get_width() for bar in figure.axes[0].patches]
    assert widths == pytest.approx([0.1, 0.05, 0.1 / 3])
    own = [{"name": "x1", "share": 0.75}, {"name": "x0", "share": 0.25}]
    results = {"importance": many(3), "library_importance": own}
    section = importance_section(
        Material(results=results, figures={"importance": figure})
    )
    table, library = section.blocks[1:]
    assert [name for name, _ in table.rows] == ["x0", "x1", "x2"]
    assert table.rows[0][1][0].key == "importance.features.0.mean"
    assert [cells[0].text for _, cells in library.rows] == ["75.0%", "25.0%"]
    assert importance_section(Material(results={})) is None
