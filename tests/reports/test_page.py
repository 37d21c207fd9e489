import base64
import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from world import numbers
from world.artifacts import publish
from world.classes import NUM_ROWS, SMALL, forecasts, hours, judge, load, market
from world.frames import make_frame
from world.pages import PageReader, exact

from artifacts import metadata, provenance
from audit.findings import AuditReport, Finding
from evaluation import folds
from evaluation.part_scores import Judged
from experiments.page import write_page
from files.atomic import atomic_write
from files.strict import to_jsonable, write_json
from reports import class_forecasts, number_forecasts, report, time_plots, trades
from reports import page as report_page
from reports.blocks import NOTHING, Numbers, Picture
from reports.figures import to_svg
from reports.plots import new_axes, save_png

pytestmark = pytest.mark.usefixtures("rendered_pictures")

HOSTILE = (
    "<script>document.title='owned'</script>"
    """<img src=x onerror="document.title='owned'">'"&$x^$"""
)
HISTORY = {
    "loss": [1.05, 0.99, 0.97],
    "accuracy": [0.41, 0.47, 0.5],
    "val_loss": [1.01, 0.96, 0.98],
    "val_accuracy": [0.52, 0.56, 0.55],
}
ALL_SECTIONS = [
    "verdict",
    "distrust",
    "audit",
    "skill",
    "confusion",
    "reliability",
    "trades",
    "thresholds",
    "folds",
    "importance",
    "labels",
    "learning",
    "data",
    "configuration",
    "digests",
]


def mix(num_rows=500):
    times = pd.date_range("2024-01-01", periods=num_rows, freq="h")
    labels = np.random.default_rng(0).choice(3, num_rows, p=[0.2, 0.6, 0.2])
    table = time_plots.label_mix_over_time(times.to_numpy("datetime64[ns]"), labels)
    table.attrs["edges"] = {"train": times[0], "test": times[num_rows // 2]}
    return table


def describe(data, config):
    """The sections of a run's metadata that the page shows, as a trainer has them."""
    return to_jsonable(
        {
            "run_id": "20240101T000000Z-1h-0123abcd",
            "config": config.replace(fee_bps=7.5).to_dict(),
            "data": metadata.describe_data(data)
            | {
                "path": "inputs/TESTUSDT.feather",
                "sha256": "ab" * 32,
                "rows": NUM_ROWS,
                "num_candles": 6100,
                "num_filled_bars": 12,
                "num_segments": 2,
                "warm_up_bars": 30,
                "digests": {"candles": "cd" * 32},
                "candles": {
                    "first": "2024-01-01T00:00:00+00:00",
                    "last": "2024-09-01T00:00:00+00:00",
                    "num_gaps": 3,
                    "missing_bars": 15,
                    "longest_gap_bars": 9,
                    "zero_volume_bars": 4,
                    "filled_share": 0.002,
                },
            },
            "split": metadata.describe_split(data),
            "model": {"total_parameters": 9507, "weights_sha256": "ef" * 32},
            "training": {
                "completed_epochs": 3,
                "best_epoch": 2,
                "windows_per_epoch": 2048,
                "seconds": 13.3,
            },
            "runtime": {"device": "CPU"},
            "versions": provenance.describe_versions(),
        }
    )


def importance(*names):
    """What `importance.permutation_importance` says of features of these names."""
    numbers = ("mean", "std", "direction_mean", "direction_std")
    return {
        "method": "permutation",
        "part": "validation",
        "score": "log-loss skill against the train prior",
        "num_windows": 1000,
        "num_repeats": 3,
        "skill": 0.2,
        "features": [
            {"name": name} | {key: 0.1 / (k + 1) for key in numbers}
            for k, name in enumerate(names)
        ],
    }


def with_folds(results, data):
    """The results with a cross-validation of three folds, each unlike the others."""
    judged = [results["test"], results["validation"], results["test"]]
    rows = folds.fold_ranges(data.num_rows, SMALL.replace(n_splits=3))
    summary = {
        "cv": "walk_forward",
        "num_folds": 3,
        "metrics": folds.summarise(
            [folds.headline(item, folds.HEADLINES) for item in judged]
        ),
        "folds": [{"rows": each} for each in rows],
        "trading": results["test"]["trading"],
        "never_retrained": {
            "trading": results["validation"]["trading"],
            "intervals": {
                "gain_bps_per_day": results["test"]["trading"]["intervals"]["sharpe"]
            },
        },
    }
    return to_jsonable(results | {"cross_validation": summary})


@pytest.fixture(scope="module")
def run():
    """Everything a page is made from, of a market that a model knows a little."""
    data = load(market())
    config = SMALL.replace(baseline_model=True)
    table, policy, results = judge(data, forecasts(data, knows=0.3), config)
    model = Judged(table=table, policy=policy, choice={})
    results["warnings"].append("a warning, so that there is one")
    results["importance"] = importance("high_change", "low_change", "close_change")
    results["audit"] = AuditReport(
        subject="TESTUSDT.feather: 6,000 rows, 8 features",
        findings=(
            Finding(check="unpurged split", outcome="passed", what="0 shared bars"),
            Finding(check="shifted label", outcome="leak", what="by 3 bars"),
            Finding(check="gaps filled", outcome="not done", what="no candles"),
            Finding(check="leads the price", outcome="doubtful", what="chg_1h"),
        ),
    ).to_dict()
    return {
        "results": with_folds(results, data),
        "history": HISTORY,
        "label_mix": mix(),
        "metadata": describe(data, config),
        **report.tested_trades(model, data, config),
    }


@pytest.fixture(scope="module")
def foreign():
    """A file without outcomes, without a network, without a description."""
    frame = make_frame(NUM_ROWS)
    frame["timestamp"] = hours(NUM_ROWS)
    data = load(frame)
    return {"results": judge(data, forecasts(data))[2], "label_mix": mix()}


@pytest.fixture(scope="module")
def price():
    """A model of a price, cross-validated, of a family without a history."""
    data = numbers.load(numbers.market("price"), target="price")
    values = numbers.outputs(data, knows=0.3)
    config = {"target": "price", "baseline_model": True}
    table, policy, results = numbers.judge(data, values, **config)
    model = Judged(table=table, policy=policy, choice={})
    config = numbers.SMALL.replace(**config)
    return {
        "results": with_folds(results, data),
        "label_mix": None,
        "metadata": describe(data, config),
        **report.tested_trades(model, data, config),
    }


@pytest.fixture(scope="module")
def hostile(run):
    """The same run, with hostile text wherever text comes from outside."""
    copy = json.loads(json.dumps(run["results"]))
    copy["warnings"] = [HOSTILE]
    copy["verdict"] = [f"Skill: {HOSTILE}"]
    copy["cross_validation"]["cv"] = HOSTILE  # stands in a picture, too
    copy["importance"] = importance(HOSTILE, "$\\frac{", "x" * 300, "\u91cf\u4ef7")
    copy["audit"]["subject"] = copy["audit"]["findings"][0]["words"] = HOSTILE
    meta = json.loads(json.dumps(run["metadata"]))
    meta["config"]["pair"] = meta["config"]["training_file"] = HOSTILE
    meta["data"]["path"] = HOSTILE + "/" + "long" * 200
    meta["data"]["feature_names"] = [HOSTILE, "x" * 300]
    meta["data"]["num_candles"] = HOSTILE
    meta["data"]["candles"]["first"] = [HOSTILE]
    meta["data"]["digests"] = {HOSTILE: HOSTILE}
    meta["versions"]["python"] = HOSTILE
    return run | {"results": copy, "metadata": meta}


@pytest.fixture(scope="module")
def pages(run, foreign, price, hostile, tmp_path_factory):
    """Each kind of run, in a folder: its page and its numbers."""
    kinds = {"full": run, "foreign": foreign, "price": price, "hostile": hostile}
    made = {name: tmp_path_factory.mktemp(name) for name in kinds}
    for name, material in kinds.items():
        rest = {"history": {}} | material
        if name in ("full", "hostile"):
            report.write_report(made[name], rest.pop("results"), **rest)
            continue
        results = rest.pop("results")
        write_json(made[name] / "confusion_matrix_report.json", results)
        page = report_page.render_page(report_page.gather(results, **rest))
        atomic_write(made[name] / "report.html", page)
    return made


@pytest.fixture(scope="module")
def full(pages):
    return PageReader((pages["full"] / "report.html").read_text())


# Content


def tree_of(folder, material):
    written = json.loads((folder / "confusion_matrix_report.json").read_text())
    listed = material.get("trades", pd.DataFrame()).to_dict("list")
    return written | {
        "metadata": material.get("metadata", {}),
        "history": material.get("history", {}),
        "trades": listed,
    }


def shown_number(text):
    """A shown number, and half of its last digit."""
    found = re.search(r"[-+−]?[\d,]+(\.\d+)?", text)
    digits = found[0].replace(",", "").replace("−", "-")
    decimals = len(digits.partition(".")[2])
    scale = 0.01 if f"{found[0]}%" in text else 1.0
    return scale * float(digits), scale * 0.5000001 * 10.0**-decimals


@pytest.mark.parametrize("kind", ["full", "foreign", "price"])
def test_every_number_is_that_of_the_report(kind, pages, request):
    tree = tree_of(
        pages[kind], request.getfixturevalue({"full": "run"}.get(kind, kind))
    )
    reader = PageReader((pages[kind] / "report.html").read_text())
    assert len(reader.numbers) > 100
    for key, value, text in reader.numbers:
        assert value == exact(tree, key), key
        if text in (NOTHING, "never"):
            continue
        if isinstance(value, int | float) and not isinstance(value, bool):
            if key.startswith("metadata.config."):
                assert text == str(value)
                continue
            number, tolerance = shown_number(text)
            assert number == pytest.approx(value, abs=tolerance), (key, text)


@pytest.mark.parametrize(
    "caption, row, column, key",
    [
        ("Skill of this model in test, against", "train prior", "direction",
         "test.intervals.direction_skill_vs_train_prior.estimate"),
        ("Skill of this model in validation, against", "gradient boosting", "all of it",
         "validation.comparisons.gradient_boosting.skill.estimate"),
        ("Forecasts of test", "this model", "log-loss, nats", "test.log_loss"),
        ("Forecasts of test", "trailing 7-day mix", "accuracy",
         "test.baselines.trailing_7d.accuracy"),
        ("Scores of the raw probabilities and their most probable class", "Brier score",
         "validation", "validation.brier"),
        ("test: most probable class", "LONG", "SHORT", "test.confusion_matrix.2.0"),
        ("test: most probable class", "SHORT", "recall", "test.classes.SHORT.recall"),
        ("validation: signals at the thresholds", "precision", "LONG",
         "validation.thresholded.classes.LONG.precision"),
        ("Before and after calibration", "test, after", "mean error",
         "test.calibrated.expected_calibration_error"),
        ("Trades of every forecast in test", "buy and hold", "net return, %",
         "test.baselines.buy_and_hold.trading.total_return_pct"),
        ("Trades of this model", "net a trade, bps", "test",
         "test.trading.intervals.mean_net_return_bps.estimate"),
        ("Trades of this model", "largest drawdown, %", "validation",
         "validation.trading.max_drawdown_pct"),
        ("Skill of this model in test, against", "test's own mix, unknown beforehand",
         "activity", "test.activity_skill_vs_own_mix"),
        ("The latest 50 of 404 trades in test", "trade 404", "net, bps",
         "trades.net_bps.403"),
        ("Trades of this model", "gross a trade, bps", "test",
         "test.trading.mean_gross_return_bps"),
        ("Trades of this model", "of them LONG", "test", "test.trading.num_long"),
        ("Trades of this model", "of them SHORT", "test", "test.trading.num_short"),
        ("Trades of this model", "the same, deflated by the variants tried", "test",
         "test.trading.deflated_sharpe"),
        ("TESTUSDT.feather: 6,000 rows, 8 features", "shifted label", "",
         "audit.findings.1.outcome"),
        ("The search", "LONG from a probability of", "", "thresholds.long_threshold"),
        ("The search", "SHORT from a probability of", "", "thresholds.short_threshold"),
        ("Test rows of each fold", "skill", "fold 2",
         "cross_validation.metrics.skill_vs_train_prior.folds.1"),
        ("The folds' tests as one: one position at a time", "buy and hold", "Sharpe",
         "cross_validation.trading.buy_and_hold.sharpe"),
        ("Parts, and their targets", "validation", "LONG",
         "metadata.split.validation.label_shares.2"),
        ("Training", "the best, kept", "", "metadata.training.best_epoch"),
        ("Source", "bars filled", "", "metadata.data.num_filled_bars"),
        ("Different from the default", "fee_bps", "here", "metadata.config.fee_bps"),
        ("Versions", "keras", "", "metadata.versions.keras"),
    ],
)  # fmt: skip
def test_a_name_stands_beside_its_number(full, caption, row, column, key):
    assert full.places[caption, row, column] == key


@pytest.mark.parametrize(
    "row, key",
    [
        ("mean absolute error", "intervals.mae.estimate"),
        ("mean absolute error of persistence", "mae_persistence"),
        ("root mean square error of persistence", "rmse_persistence"),
        ("against the mean of training", "intervals.skill_mse_vs_train_mean.estimate"),
        ("against the trailing 7-day mean",
         "intervals.skill_mse_vs_trailing_7d.estimate"),
        ("by chance", "sign_expected"),
        ("beyond chance", "intervals.sign_excess.estimate"),
        ("deviation of the forecasts, bps", "predicted_std_bps"),
        ("deviation of what followed, bps", "actual_std_bps"),
    ],
)  # fmt: skip
def test_a_name_stands_beside_its_number_of_a_price(pages, row, key):
    reader = PageReader((pages["price"] / "report.html").read_text())
    assert reader.places["Scores", row, "test"] == f"test.{key}"


@pytest.mark.parametrize("kind", ["full", "foreign", "price"])
def test_what_is_named_after_a_part_has_no_number_of_the_other(kind, pages):
    reader = PageReader((pages[kind] / "report.html").read_text())
    counts = {"test": 0, "validation": 0}
    for place, key in reader.places.items():
        named = counts.keys() & set(re.findall(r"\w+", " ".join(place)))
        if len(named) == 1:
            (part,) = named
            (other,) = counts.keys() - named
            assert other not in key.split("."), (place, key)
            counts[part] += part in key.split(".")
    assert counts["test"] == counts["validation"] > 30


def pictures(section, start):
    """The figures of a section whose captions begin so."""
    return [
        block
        for block in section.blocks
        if isinstance(block, Picture) and block.caption.startswith(start)
    ]


@pytest.mark.parametrize("part", ["test", "validation"])
def test_equity_is_drawn_of_its_own_part(run, part):
    section = trades.trading_section(report_page.gather(run["results"]))
    (picture,) = pictures(section, f"Equity in {part},")
    curve = run["results"][part]["trading"]["curve"]
    drawn = picture.figure.axes[0].lines[0].get_ydata()
    np.testing.assert_array_equal(drawn, curve["equity"])
    proves_nothing = "Thresholds were chosen on these rows" in picture.caption
    assert proves_nothing == (part == "validation")


@pytest.mark.parametrize("part", ["test", "validation"])
def test_errors_of_a_price_are_drawn_of_their_own_part(price, part):
    material = report_page.gather(price["results"])
    section = number_forecasts.regression_section(material)
    (picture,) = pictures(
        section, f"What followed each tenth of the forecasts in {part}"
    )
    line = picture.figure.axes[0].lines[-1]
    bins = price["results"][part]["bins"]
    np.testing.assert_array_equal(line.get_xdata(), bins["predicted_bps"])
    np.testing.assert_array_equal(line.get_ydata(), bins["actual_bps"])


def test_numbers_without_a_value_are_shown_as_such(full, run, pages):
    tree = tree_of(pages["full"], run)
    blank = {key: value for key, value, text in full.numbers if text == NOTHING}
    assert "test.baselines.always_hold.trading.mean_net_return_bps" in blank
    for key, value in blank.items():
        if value is not None:  # a precision of a class that is never predicted
            place, _, kind = key.rpartition(".")
            assert kind in exact(tree, place)["undefined"]


def test_the_page_says_what_was_asked_for(full):
    keys = {key for key, _, _ in full.numbers}
    for part in ("test", "validation"):
        cells = [f"confusion_matrix.{i}.{j}" for i in range(3) for j in range(3)]
        assert keys >= {f"{part}.{cell}" for cell in cells}
        assert keys >= {
            f"{part}.intervals.log_loss.estimate",
            f"{part}.intervals.skill_vs_train_prior.low",
            f"{part}.intervals.direction_skill_vs_trailing_7d.high",
            f"{part}.baselines.gradient_boosting.intervals.skill_vs_train_prior.low",
            f"{part}.comparisons.gradient_boosting.skill.estimate",
            f"{part}.direction_p_value",
            f"{part}.calibrated.expected_calibration_error",
            f"{part}.classes.LONG.precision",
            f"{part}.thresholded.confusion_matrix.0.2",
            f"{part}.trading.intervals.mean_net_return_bps.low",
            f"{part}.trading.max_drawdown_pct",
            f"{part}.trading.cost_bps",
            f"{part}.trading.deflated_sharpe",
            f"{part}.baselines.buy_and_hold.trading.total_return_pct",
        }
    assert keys >= {
        "thresholds.short_threshold",
        "importance.features.2.mean",
        "thresholds.num_tried",
        "cross_validation.metrics.skill_vs_train_prior.folds.2",
        "metadata.split.validation.label_shares.1",
        "metadata.training.best_epoch",
        "metadata.data.candles.longest_gap_bars",
        "metadata.data.sha256",
        "metadata.config.fee_bps",
        "metadata.versions.keras",
    }


def test_no_number_in_a_table_lacks_its_place(full):
    bare = [text for text in full.cells if re.search(r"\d", text)]
    shares = [text for text in bare if text.endswith(" %")]
    defaults = {"10.0", "BTCUSDT", "120", "0.2", "0.1", "1m", "50000"}
    assert len(shares) == 36  # below the counts of four matrices
    assert set(bare) - set(shares) <= defaults


def test_an_interval_without_a_width_has_no_brackets():
    ends = {"estimate": 0.0, "low": -1e-17, "high": 1e-17}
    numbers = Numbers({"sure": {"skill": ends}})
    assert numbers.interval("sure.skill", "{:+.3f}").bounds is None
    numbers = Numbers({"rounded": {"skill": ends | {"low": -8.2e-9, "high": 8.2e-9}}})
    assert numbers.interval("rounded.skill", "{:+.3f}").bounds is None
    numbers = Numbers({"wide": {"skill": ends | {"low": -1.0}}})
    low, high = numbers.interval("wide.skill", "{:.3f}").bounds
    assert (low.value, high.value) == (-1.0, 1e-17)


def test_the_verdict_comes_first_then_what_to_distrust(full, run):
    assert full.sections == ALL_SECTIONS
    results = run["results"]
    answers = [line.partition(": ")[2] for line in results["verdict"]]
    places = [full.text.index(text) for text in [*answers, *results["warnings"]]]
    places += [full.text.index("1 is a perfect forecast")]
    assert places == sorted(places)
    for name, is_shown in results["claims"].items():
        assert f"{name} {'shown' if is_shown else 'not shown'}" in full.text


def test_leaks_come_first_and_are_called_so(full):
    checks = ("shifted label", "leads the price", "unpurged split", "gaps filled")
    places = [full.text.index(check) for check in checks]
    assert places == sorted(places)
    assert "Results on data that leak do not hold" in full.text
    keys = [key for key, _, _ in full.numbers if key.startswith("audit.")]
    assert keys[:2] == ["audit.findings.1.outcome", "audit.findings.1.words"]


def test_every_rule_of_the_verdict_is_explained(run, foreign, price, pages):
    for material in (run, foreign, price):
        lines = material["results"]["verdict"]
        assert [line.partition(": ")[0] for line in lines] == [
            *class_forecasts.RULES,
            "After costs",
            "Test",
            *(["Power"] if material is not foreign else []),  # needs trades
        ]
    reader = PageReader((pages["price"] / "report.html").read_text())
    assert number_forecasts.RULES["In what"] in reader.text
    assert report_page.TEST_RULES["Power"] in reader.text
    assert class_forecasts.RULES["In what"] not in reader.text


def test_settings_that_differ_from_the_default_come_first(full):
    keys = [key for key, _, _ in full.numbers if key.startswith("metadata.config.")]
    changed = keys[: len(keys) - len(SMALL.to_dict())]
    assert "metadata.config.fee_bps" in changed
    assert "metadata.config.slippage_bps" not in changed


def test_the_same_run_gives_the_same_bytes(foreign):
    first, second = (report_page.gather(**foreign) for _ in range(2))
    page = report_page.render_page(first)
    assert page == report_page.render_page(second)
    # Once more, from the figures that are laid out already.
    assert page == report_page.render_page(first)


# Missing data


def test_sections_appear_where_their_data_are_there(pages, foreign):
    reader = PageReader((pages["foreign"] / "report.html").read_text())
    expected = ["verdict", "distrust", "skill", "confusion", "reliability", "trades"]
    assert reader.sections == [*expected, "labels"]
    reason = foreign["results"]["test"]["trading"]["skipped"]
    assert f"Not simulated: {reason}." in reader.text


def test_a_price_has_errors_and_no_classes(pages):
    reader = PageReader((pages["price"] / "report.html").read_text())
    classes = {"audit", "importance", "skill", "confusion", "reliability", "learning"}
    expected = [name for name in ALL_SECTIONS if name not in classes]
    expected.insert(2, "regression")
    assert "target: price" in reader.text
    assert "held for 5 bars (future_window)" in reader.text
    assert "its stop loss" not in reader.text
    assert [s for s in reader.sections if s != "learning"] == expected
    keys = {key for key, _, _ in reader.numbers}
    assert keys >= {
        "test.intervals.skill_mse_vs_persistence.low",
        "validation.intervals.mae.estimate",
        "test.mape_pct",
        "test.sign_p_value",
        "test.baselines.gradient_boosting.mae",
        "test.baselines.trailing_7d.trading.num_trades",
        "cross_validation.metrics.sign_excess.folds.0",
    }


@pytest.mark.parametrize("part", ["test", "validation"])
def test_a_run_with_one_part_has_a_page(run, part):
    results = {k: v for k, v in run["results"].items() if k != part}
    material = report_page.gather(results | {"verdict": [], "claims": {}})
    page = report_page.render_page(material)
    reader = PageReader(page)
    assert not any(key.startswith(f"{part}.") for key, _, _ in reader.numbers)
    assert "confusion" in reader.sections and "verdict" not in reader.sections


def test_results_of_nothing_known_make_a_page():
    material = report_page.gather({"something": {"else": 1}})
    reader = PageReader(report_page.render_page(material))
    assert reader.sections == ["distrust"]
    assert "checks found nothing that stands out" in reader.text


def test_a_history_without_accuracy_is_drawn(run):
    material = report_page.gather({}, history={"loss": [1.0, 0.9]})
    page = report_page.render_page(material)
    assert PageReader(page).tags.count("svg") == 1


def test_a_key_that_leads_nowhere_is_nothing():
    numbers = Numbers({"a": {"b": [1, 2]}, "c": None})
    assert numbers.find("a.b.1") == 2
    for key in ("a.x", "a.b.7", "a.b.0.z", "c.d", "x"):
        assert numbers.find(key) is None
        assert numbers.show(key, "{:.3f}").text == NOTHING
    assert numbers.show("a.b.0", "{:+.1f}").text == "+1.0"
    small = Numbers({"a": -0.25, "b": -0.001})
    assert small.show("a", "{:+.2f}").text == "−0.25"
    assert small.show("b", "{:.2f}").text == "0.00"
    assert small.show("b", "{:+.2f}").text == "−0.00"


# Safety


def test_the_page_names_nothing_outside_itself(pages):
    for folder in pages.values():
        page = (folder / "report.html").read_text()
        reader = PageReader(page)
        links = [v for k, v in reader.attributes if k in ("src", "href", "srcset")]
        assert all(link.startswith(("#", "data:")) for link in links)
        assert not {"script", "iframe", "object", "embed", "form"} & set(reader.tags)
        assert not [name for name, _ in reader.attributes if name.startswith("on")]
        assert "url(http" not in page and "@import" not in page
        assert "default-src 'none'" in page
        assert len(page) < 3e6


def test_text_from_outside_is_escaped(pages):
    page = (pages["hostile"] / "report.html").read_text()
    assert "<script" not in page and "<img" not in page
    reader = PageReader(page)
    assert reader.text.count(HOSTILE) >= 8
    values = {key: value for key, value, _ in reader.numbers}
    assert values["metadata.config.pair"] == HOSTILE
    assert values["metadata.data.feature_names.0"] == HOSTILE


# In a browser


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """Debian's Chromium, without a window and without anything that calls home."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("no chromium and chromedriver here (apt: chromium-driver)")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (
        "headless=new",
        "no-sandbox",
        "disable-gpu",
        "disable-quic",
        "no-first-run",
        "disable-background-networking",
        "disable-component-update",
        "disable-sync",
        "hide-scrollbars",
        f"user-data-dir={tmp_path_factory.mktemp('chromium')}",
    ):
        options.add_argument(f"--{flag}")
    options.set_capability(
        "goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"}
    )
    with webdriver.Chrome(options=options, service=Service(driver)) as chrome:
        chrome.get("about:blank")
        yield chrome


def open_page(browser, folder, width, scheme="light"):
    """Opens a page from disk; returns the addresses that were asked for."""
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {
            "width": width,
            "height": 900,
            "deviceScaleFactor": 1,
            "mobile": width < 500,
        },
    )
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia",
        {"features": [{"name": "prefers-color-scheme", "value": scheme}]},
    )
    browser.get("about:blank")
    for kind in ("browser", "performance"):
        browser.get_log(kind)
    browser.get((folder / "report.html").as_uri())
    events = [
        json.loads(entry["message"])["message"]
        for entry in browser.get_log("performance")
    ]
    return [
        event["params"]["request"]["url"]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    ]


@pytest.mark.parametrize("width", [380, 1000, 1400])
@pytest.mark.parametrize("kind", ["full", "foreign", "price", "hostile"])
def test_the_page_fits_and_asks_for_nothing(browser, pages, kind, width):
    asked = open_page(browser, pages[kind], width)
    address = (pages[kind] / "report.html").as_uri()
    assert [url for url in asked if not url.startswith("data:")] == [address]
    assert browser.get_log("browser") == []
    assert browser.title != "owned"
    wide, room = browser.execute_script(
        "const e = document.scrollingElement; return [e.scrollWidth, e.clientWidth]"
    )
    assert room == width and wide <= room
    # The folds may be many: their table alone may be wider than a phone.
    wider = browser.execute_script(
        "return [...document.querySelectorAll('section:not(#folds) .scroll')]"
        ".filter(e => e.scrollWidth > e.clientWidth)"
        ".map(e => e.previousElementSibling?.textContent ?? e.textContent)"
    )
    assert wider == []


@pytest.mark.parametrize("width", [380, 1400])
@pytest.mark.parametrize("kind, count", [("full", 18), ("price", 17)])
def test_pictures_are_drawn_and_can_be_read(browser, pages, kind, count, width):
    open_page(browser, pages[kind], width)
    boxes = browser.execute_script(
        "return [...document.querySelectorAll('svg')].map(e => {"
        "const b = e.getBoundingClientRect(); return [b.left, b.right, b.height]})"
    )
    assert len(boxes) == count
    assert all(0 <= left < right <= width and high > 100 for left, right, high in boxes)
    smallest = browser.execute_script(
        "return Math.min(...[...document.querySelectorAll('svg')].flatMap(svg => {"
        "const k = svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;"
        "return [...svg.querySelectorAll('text')].map("
        "t => k * parseFloat(getComputedStyle(t).fontSize))}))"
    )
    assert smallest >= 8
    # Words that leave their picture are cut off there.
    cut = browser.execute_script(
        "return [...document.querySelectorAll('svg')].flatMap(svg => {"
        "const b = svg.getBoundingClientRect();"
        "return [...svg.querySelectorAll('text')].filter(t => {"
        "const c = t.getBoundingClientRect();"
        "return c.left < b.left - 1 || c.right > b.right + 1 || c.top < b.top - 1 ||"
        "c.bottom > b.bottom + 1}).map(t => t.textContent)})"
    )
    assert cut == []
    covered = browser.execute_script(
        "return [...document.querySelectorAll('svg')].flatMap(svg => {"
        "const level = [...svg.querySelectorAll('text')].filter("
        "t => !/rotate\\(-?[1-8]/.test(t.getAttribute('transform')));"
        "const boxes = level.map(t => [t.textContent, t.getBoundingClientRect()]);"
        "return boxes.flatMap(([s, a], i) => boxes.slice(i + 1).filter(([t, b]) =>"
        "Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1 &&"
        "Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 4"
        ").map(([t, b]) => [s, t]))})"
    )
    assert covered == []


def test_the_page_knows_the_dark(browser, pages):
    colors = {}
    for scheme in ("light", "dark"):
        open_page(browser, pages["full"], 1400, scheme)
        colors[scheme] = browser.execute_script(
            "return [document.body, document.querySelector('svg text')].map((e, i) =>"
            "getComputedStyle(e)[i ? 'fill' : 'backgroundColor'])"
        )
    light, dark = colors["light"], colors["dark"]
    assert light[0] == "rgb(255, 255, 255)" and light[0] != dark[0]
    assert light[1] != dark[1]


def test_the_page_prints(browser, pages):
    open_page(browser, pages["full"], 1400)
    printed = browser.execute_cdp_cmd(
        "Page.printToPDF", {"preferCSSPageSize": True, "printBackground": True}
    )
    content = base64.b64decode(printed["data"])
    assert content.startswith(b"%PDF-")
    count = len(re.findall(rb"/Type\s*/Page\b", content))
    assert 3 <= count <= 20
    assert len(content) < 2e6


def test_a_figure_is_drawn_once_for_the_page_and_once_for_its_file(
    monkeypatch, tmp_path
):
    drawn, draw = [], Figure.draw
    monkeypatch.setattr(Figure, "draw", lambda *them: drawn.append(1) or draw(*them))
    figure, axes = new_axes(4.0, 3.0)
    axes.set(title="a title", ylabel="share")
    assert "a title" in to_svg(figure, height=3.0, name="own", label="a picture")
    save_png(figure, tmp_path / "own.png", dpi=50)
    assert len(drawn) == 2


@pytest.mark.parametrize("width", [390, 1400])
def test_the_page_of_runs_fits_and_is_ordered_and_filtered(browser, tmp_path, width):
    words = "a-very-long-name-of-an-experiment-that-somebody-chose_2026"
    for skill in (0.1, -0.1, 0.2):
        publish(tmp_path, skill=skill, experiment_name=words if skill > 0 else None)
    write_page(tmp_path, tmp_path / "report.html")
    open_page(browser, tmp_path, width)
    assert browser.get_log("browser") == []
    wide, room = browser.execute_script(
        "const e = document.scrollingElement; return [e.scrollWidth, e.clientWidth]"
    )
    assert room == width and wide <= room

    def shown(change):
        return browser.execute_script(
            change + "; return [...document.querySelectorAll('tbody tr:not([hidden])')]"
            ".map(row => row.dataset.skill)"
        )

    if width == 390:  # heads have no room
        order = "const s = document.querySelector('[data-sort]'); s.selectedIndex = %d;"
        order += " s.dispatchEvent(new Event('input'))"
        assert shown(order % 12) == ["0.2", "0.1", "-0.1"]
        assert shown(order % 13) == ["-0.1", "0.1", "0.2"]
    else:
        click = "document.querySelector('th[data-key=skill] button').click()"
        assert shown(click) == ["0.2", "0.1", "-0.1"]
        assert shown(click) == ["-0.1", "0.1", "0.2"]
    choose = "const f = document.querySelector('[data-filter=letter]'); f.value = 'B-'"
    found = shown(choose + "; f.dispatchEvent(new Event('input'))")
    assert sorted(found) == ["0.1", "0.2"]
