import io
import json

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from world.classes import NUM_ROWS, SMALL, forecasts, hours, judge, load, market
from world.frames import make_frame

from preprocessing.splits import CombinatorialPurgedSplit, WalkForwardSplit
from reports import plots, report, time_plots, trade_plots
from reports.figures import plot_results

pytestmark = pytest.mark.usefixtures("rendered_pictures")


@pytest.fixture(scope="module")
def results():
    data = load(market())
    config = SMALL.replace(baseline_model=True)
    return judge(data, forecasts(data, knows=0.3), config)[2]


@pytest.fixture(scope="module")
def foreign():
    frame = make_frame(NUM_ROWS)
    frame["timestamp"] = hours(NUM_ROWS)
    data = load(frame)
    return judge(data, forecasts(data))[2]


def test_the_verdict_comes_first(results):
    text = report.format_results(results)
    lines = text.splitlines()
    assert lines[:5] == results["verdict"]
    assert lines[5] == ""
    assert max(map(len, lines)) <= 100
    for words in ("true / predicted", "gradient boosting", "buy and hold", "Sharpe"):
        assert words in text
    assert text == report.format_results(json.loads(json.dumps(results)))


def test_the_numbers_of_the_text_are_those_of_the_results(results):
    text = report.format_results(results)
    test = results["test"]
    row = test["thresholded"]["confusion_matrix"][0]
    assert "".join(f"{count:>9,}" for count in row) in text
    assert f"log-loss {test['log_loss']:.4f}" in text
    assert f"p = {test['direction_p_value']:.3f}" in text
    assert f"{test['trading']['num_trades']:,} trades: take profit" in text
    assert "decided on validation: calibration temperature" in text


def test_a_file_without_outcomes_is_reported(foreign):
    text = report.format_results(foreign)
    reason = "the training file has no column close, long_return and 5 more"
    assert f"trades not simulated: {reason}" in text
    assert "thresholds not searched" in text
    assert max(map(len, text.splitlines())) <= 100


def drawn_texts(figure):
    return [item.get_text() for item in figure.findobj() if hasattr(item, "get_text")]


@pytest.mark.parametrize("which", ["results", "foreign"])
def test_every_plot_is_a_figure_that_draws(which, request, tmp_path):
    figures = plot_results(request.getfixturevalue(which))
    of_trades = {"thresholds", "equity_validation", "equity_test"}
    assert set(figures) == {
        *(of_trades if which == "results" else ()),
        *(
            f"{name}_{part}"
            for name in ("confusion_matrix", "reliability", "baselines")
            for part in ("validation", "test")
        ),
        "confusion_matrix_validation_signals",
        "confusion_matrix_test_signals",
    }
    for name, figure in figures.items():
        assert isinstance(figure, Figure)
        figure.savefig(tmp_path / f"{name}.png", dpi=40)


def test_thresholds_are_drawn_where_no_side_alone_trades(results):
    search = json.loads(json.dumps(results["thresholds"]))
    for pair in search["tried"]:
        if 0 in (pair["short_share"], pair["long_share"]):
            pair["num_trades"], pair["mean_net_return_bps"] = 0, None
    figure = trade_plots.plot_thresholds(search)
    figure.savefig(io.BytesIO())
    assert search["statement"] in drawn_texts(figure)
    assert len(figure.subfigs) == 1  # none that is empty
    assert len(trade_plots.plot_thresholds(results["thresholds"]).subfigs) == 2


def test_a_long_test_is_thinned_for_its_chart_and_keeps_its_extremes():
    count, held = 60_000, 30
    walk = np.random.default_rng(0).standard_normal(count).cumsum() + 1000
    times = pd.Series(pd.date_range("2024", periods=count, freq="min", tz="UTC"))
    signal = np.where(np.arange(count) % 60 < 30, 2, 1)  # never SHORT
    rows = np.arange(0, count - held, 60)
    texts = times.dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    trades = {
        "side": ["LONG"] * len(rows),
        "time_in": texts[rows].to_list(),
        "time_out": texts[rows + held].to_list(),
        "entry_price": walk[rows],
        "exit_price": walk[rows + held],
    }
    prices = pd.DataFrame({"time": times, "close": walk, "signal": signal})
    upper, lower = trade_plots.plot_prices(prices, trades, title="test").axes
    drawn = upper.lines[0].get_ydata()
    assert len(drawn) <= 1000
    assert (drawn.min(), drawn.max()) == (walk.min(), walk.max())
    marks = {m.get_label(): len(m.get_offsets()) for m in upper.collections}
    assert 70 < marks["LONG in"] < 80 and 70 < marks["LONG out"] < 80
    assert set(marks) == {"LONG in", "LONG out"}
    long, short = (len(lines.get_segments()) for lines in lower.collections)
    assert 70 < long < 80 and short == 0
    assert upper.get_title() == "test: 1,000 trades"


def test_plots_show_the_results(results):
    test = results["test"]
    texts = drawn_texts(plots.plot_confusion_matrix(test, title="test"))
    matrix = np.array(test["confusion_matrix"])
    share = matrix[2, 2] / matrix[2].sum()
    assert f"{matrix[2, 2]:,}\n{share:.1%}" in texts
    figure = trade_plots.plot_equity(test["trading"], title="test")
    net = figure.axes[0].lines[0]
    np.testing.assert_allclose(net.get_ydata(), test["trading"]["curve"]["equity"])
    assert f"test: {test['trading']['num_trades']:,} trades" in drawn_texts(figure)
    texts = drawn_texts(trade_plots.plot_thresholds(results["thresholds"]))
    assert results["thresholds"]["statement"] in texts
    texts = drawn_texts(plots.plot_baselines(test))
    assert "this model" in texts and "trailing 7-day mix" in texts
    texts = drawn_texts(plots.plot_reliability(test))
    drawn = test["reliability"]["calibrated"].values()  # not that of the top label
    errors = []
    for bins in drawn:
        keys = ("count", "frequency", "mean_confidence")
        count, happened, stated = (np.array(bins[key], float) for key in keys)
        errors.append(np.nansum(count * np.abs(happened - stated)))
    assert f"after, ECE by class {np.mean(errors) / test['num_samples']:.3f}" in texts


@pytest.mark.parametrize(
    "splitter",
    [
        WalkForwardSplit(n_splits=3, window_bars=5, future_window=5),
        CombinatorialPurgedSplit(
            n_blocks=4, n_test_blocks=2, window_bars=5, future_window=5
        ),
    ],
    ids=["walk forward", "combinatorial"],
)
def test_splits_are_drawn_where_they_are(splitter):
    ranges = splitter.get_ranges(1000)
    figure = plots.plot_splits(ranges, 1000, title="folds")
    axes = figure.axes[0]
    bars = [c.get_paths() for c in axes.collections if c.get_label() == "test"]
    assert [len(paths) for paths in bars] == [len(ranges[0][1])]
    first = bars[0][0].get_extents()
    assert (first.x0, first.x1) == ranges[0][1][0]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == [f"fold {k + 1}" for k in range(len(ranges))]


def test_label_mix_leaves_holes_empty_and_counts_the_last_row():
    times = pd.date_range("2024-01-01", periods=1000, freq="h").to_numpy()
    labels = np.full(1000, 2)
    kept = np.r_[0:300, 700:1000]
    mix = time_plots.label_mix_over_time(times[kept], labels[kept], num_periods=10)
    assert list(mix["LONG"]) == [1, 1, 1, 0, 0, 0, 0, 1, 1, 1]
    assert (mix[["SHORT", "HOLD"]] == 0).all(axis=None)
    assert mix.index[0] == times[0]
    assert mix.attrs["stop"] > times[-1]
    mix.attrs["edges"] = {"train": times[0], "test": times[900]}
    figure = time_plots.plot_label_mix(mix)
    figure.canvas.draw()
    axes = figure.axes[0]
    drawn = next(c for c in axes.collections if c.get_label() == "LONG").get_paths()
    heights = {float(y) for path in drawn for x, y in path.vertices}
    assert heights == {0.0, 1.0}  # level steps, no slope over the hole
    boxes = [t.get_window_extent() for t in axes.get_xticklabels() if t.get_text()]
    assert all(a.x1 < b.x0 for a, b in zip(boxes, boxes[1:], strict=False))


def test_every_figure_is_drawn_once(results, tmp_path, monkeypatch):
    made, saved = [], {"png": 0, "svg": 0}
    initialise, save = Figure.__init__, Figure.savefig

    def make(self, *args, **kwargs):
        made.append(self)
        initialise(self, *args, **kwargs)

    def count(self, *args, **kwargs):
        saved[kwargs.get("format", "png")] += 1
        save(self, *args, **kwargs)

    monkeypatch.setattr(Figure, "__init__", make)
    monkeypatch.setattr(Figure, "savefig", count)
    history = {"loss": [1.0, 0.9], "accuracy": [0.3, 0.4]}
    report.write_report(tmp_path, results, history=history, label_mix=None)
    files = list((tmp_path / "plots").glob("*.png"))
    # Both confusion matrices of a part are tables in the page; in it the panels of
    # reliability, thresholds and learning curves are pictures of their own.
    assert len(made) == len(files) == saved["png"] == 12
    assert saved["svg"] == 12 - 2 * 2 + 4


def test_write_report(results, tmp_path):
    mix = time_plots.label_mix_over_time(
        pd.date_range("2024-01-01", periods=500, freq="h").to_numpy("datetime64[ns]"),
        np.arange(500) % 3,
    )
    np.testing.assert_allclose(mix.sum(axis=1), 1)
    history = {"loss": [1.0, 0.9], "val_loss": [1.1, 1.0], "accuracy": [0.3, 0.4]}
    report.write_report(tmp_path, results, history=history, label_mix=mix)
    written = json.loads((tmp_path / "confusion_matrix_report.json").read_text())
    assert written == results
    names = {path.stem for path in (tmp_path / "plots").glob("*.png")}
    assert names == set(plot_results(results)) | {"learning_curves", "label_mix"}
    assert (tmp_path / "confusion_matrix_report.json").stat().st_size < 400_000
