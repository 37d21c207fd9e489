"""What comes out of many runs: who is chosen, how sure that is, what nobody hides."""

import csv
import json
import re

import numpy as np
import pandas as pd
import pytest
from world.sweeps import DAYS, LENGTH, failed, finish

from experiments.portfolio import Member, hold_together
from experiments.sweep_page import is_discovered, is_shown
from experiments.sweep_report import format_sweep, write_sweep
from metrics.intervals import Length, cosine_interval


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "outputs" / "experiments" / "first"
    folder.mkdir(parents=True)
    return folder


def swept(folder, *cells, elsewhere=()):
    outputs = folder.parents[1]
    return write_sweep(folder, [*(finish(outputs, **c) for c in cells), *elsewhere])


def test_validation_chooses_and_test_does_not(folder):
    found = swept(
        folder,
        {"model": "logistic", "losses": (0.8, 1.00)},
        {"model": "lightgbm", "losses": (0.9, 0.95)},
        {"model": "random_forest", "losses": (1.0, 1.05)},
    )
    [market] = found["markets"]
    assert market["chosen"] == "logistic"
    order = {entry["model"]: entry for entry in market["models"]}
    assert list(order) == ["lightgbm", "logistic", "random_forest"]
    assert order["logistic"]["against_chosen"] is None
    better, worse = (order[k]["against_chosen"] for k in ("lightgbm", "random_forest"))
    assert better["estimate"] == pytest.approx(-0.05, abs=0.005)
    assert better["adjusted_p_value"] == pytest.approx(
        max(2 * min(better["p_value"], worse["p_value"]), better["p_value"])
    )
    assert order["logistic"]["skill"]["adjusted_p_value"] is not None
    assert "adjusted_p_value" not in order["lightgbm"]["skill"]


def test_models_are_compared_on_the_rows_of_all(folder):
    found = swept(
        folder,
        {"model": "logistic", "sequence_length": 30},
        {"model": "lightgbm", "skipped_rows": 7},
    )
    rows = 24 * DAYS - 7
    assert found["markets"][0]["num_rows"] == {"validation": rows, "test": rows}


def test_other_levels_are_another_question(folder):
    found = swept(folder, {"long_tp_pct": 1.0}, {"long_tp_pct": 2.0})
    assert [len(market["models"]) for market in found["markets"]] == [1, 1]


def test_positions_are_no_forecasts_and_are_told(folder):
    found = swept(folder, {}, {"model": "lstm", "loss": "sharpe"})
    ranked, told = sorted(found["markets"], key=lambda market: "skipped" in market)
    assert [entry["model"] for entry in ranked["models"]] == ["logistic"]
    assert ranked["num_looks"] == 2 and "positions" in told["skipped"]
    assert (
        "not ranked: the outputs are positions" in (folder / "sweep.html").read_text()
    )


def test_settings_are_models_and_seeds_are_one(folder):
    found = swept(
        folder,
        *(
            {"num_trees": n, "seed": s, "skill": 0.1 * s, "losses": (n / 9, n / 9)}
            for n in (5, 9)
            for s in (1, 2)
        ),
    )
    first, second = found["markets"][0]["models"]
    assert (first["model"], second["model"]) == (
        "logistic num_trees 5",
        "logistic num_trees 9",
    )
    assert first["num_seeds"] == 2
    assert first["skill"]["estimate"] == pytest.approx(0.15)
    assert first["seeds"]["std"] == pytest.approx(0.1 / np.sqrt(2))


def test_skill_over_pairs_allows_for_all_tests(folder):
    found = swept(
        folder,
        *(
            {"pair": pair, "model": model, "skill": skill}
            for pair in ("AAAUSDT", "BBBUSDT")
            for model, skill in (("logistic", 0.05), ("lightgbm", 0.001))
        ),
    )
    first, second = found["over_pairs"]
    assert (first["model"], first["num_pairs"], first["num_above"]) == (
        "logistic",
        2,
        2,
    )
    assert first["skill"]["adjusted_p_value"] == pytest.approx(
        2 * first["skill"]["p_value"]
    )
    assert second["num_above"] == 0 and second["skill"]["adjusted_p_value"] > 0.05
    assert is_discovered(first["skill"])
    assert not is_discovered(second["skill"])


def test_a_skill_is_shown_beyond_the_trailing_mix_too():
    skill = {"estimate": 0.1, "adjusted_p_value": 0.01}
    entry = {"skill": skill, "skill_vs_trailing": {"estimate": 0.02, "low": 0.001}}
    assert is_shown(entry)
    for low in (-0.001, None):
        assert not is_shown(entry | {"skill_vs_trailing": {"low": low}})
    unsure = skill | {"adjusted_p_value": 0.06}
    assert not is_shown(entry | {"skill": unsure})


def test_pairs_that_move_together_are_no_more_evidence_than_one(tmp_path):
    def over_pairs(name, *seeds, first_day=0):
        folder = tmp_path / name / "experiments" / "x"
        folder.mkdir(parents=True)
        pairs = ("AAAUSDT", "BBBUSDT", "CCCUSDT", "DDDUSDT")
        cells = [{"pair": p, "seed": s} for p, s in zip(pairs, seeds, strict=False)]
        cells[-1]["first_day"] = first_day
        [row] = swept(folder, *cells)["over_pairs"]
        return row["skill"]

    def width(found):
        return found["high"] - found["low"]

    as_one, apart = over_pairs("same", 1, 1, 1, 1), over_pairs("own", 1, 2, 3, 4)
    rows = pd.read_parquet(next(tmp_path.glob("same/models/AAAUSDT/*/*/pred*")))
    losses = -np.log(rows.loc[rows["part"] == "test", "probability_short"])
    known = np.full(len(losses), 1.0 / 0.9)
    one = cosine_interval(
        np.stack([losses, known], axis=1),
        lambda means: 1 - means[..., 0] / means[..., 1],
        length=Length(**LENGTH),
    )
    for key in ("estimate", "low", "high"):
        assert as_one[key] == pytest.approx(one[key], abs=1e-6)
    assert 0.25 < width(apart) / width(as_one) < 0.9
    # Another stretch is taken to move as the first does.
    later = over_pairs("later", 1, 2, first_day=100)
    assert width(later) == pytest.approx(
        (width(over_pairs("a", 1, 1)) + width(over_pairs("b", 2, 2))) / 2
    )


def test_every_cell_deflates(folder):
    lost = [failed(seed=seed) for seed in range(8)]
    found = swept(folder, {}, {"pair": "BBBUSDT"}, elsewhere=lost)
    assert [market["num_looks"] for market in found["markets"]] == [10, 10]
    assert found["portfolio"]["num_trials"] == 10
    alone = swept(folder, {"seed": 3})
    assert alone["markets"][0]["num_looks"] == 2  # the one before looked there, too
    few, many = (x["markets"][0]["models"][0]["trading"] for x in (alone, found))
    assert many["deflated_sharpe"] < few["deflated_sharpe"] < 0.5


def test_a_portfolio_holds_what_shares_the_most_days():
    day = np.timedelta64(1, "D")
    start = np.datetime64("2025-01-01")

    def member(name, offset, returns):
        first = start + offset * day
        return Member(
            name=name, first=first, returns=np.array(returns), horizon_seconds=3600.0
        )

    up, down = np.tile([0.02, -0.01], 10), np.tile([-0.01, 0.02], 10)
    found = hold_together(
        [member("a", 0, up), member("b", 2, down), member("c", 500, up)], num_trials=7
    )
    assert (found["members"], found["left_out"]) == (["a", "b"], ["c"])
    assert (found["first"], found["num_days"]) == ("2025-01-03", 18)
    assert found["total_return_pct"] == pytest.approx(100 * (1.005**18 - 1))
    assert found["correlation"][0][1] == pytest.approx(-1.0)
    assert found["sharpe"]["estimate"] is None or not found["edge"]
    assert found["value_at_risk_95_pct"] == pytest.approx(-0.5)
    idle = member("d", 0, np.zeros(20))
    pair = hold_together([member("a", 0, up), idle], num_trials=2)
    assert pair["mean_correlation"] is None and np.isnan(pair["correlation"][0][1])
    both = [member("a", 0, up), member("b", 0, down), idle]
    three = hold_together(both, num_trials=2)
    assert three["mean_correlation"] == pytest.approx(-1.0)
    one_day = hold_together(
        [member("a", 0, [0.1]), member("b", 0, [0.2])], num_trials=1
    )
    assert one_day["num_days"] == 1 and not one_day["edge"]
    lonely = hold_together([member("a", 0, up), member("c", 500, up)], num_trials=2)
    assert list(lonely) == ["skipped"]


def test_the_files_say_all_and_hide_no_failure(folder):
    evil = failed(error="<b>no candles</b>", pair="<i>USDT")
    found = swept(folder, {}, {"pair": "BBBUSDT"}, elsewhere=[evil])
    rows = list(csv.DictReader((folder / "cells.csv").read_text().splitlines()))
    assert list(rows[0]) == [
        *("pair", "timeframe", "model", "seed"),
        *("status", "exit_code", "attempts", "folder"),
    ]
    assert [row["exit_code"] for row in rows] == ["0", "0", "66"]
    assert json.loads((folder / "results.json").read_text()) == found
    page = (folder / "sweep.html").read_text()
    assert "&lt;b&gt;no candles" in page and "<i>USDT" not in page
    assert page.count("<tr data-pair=") == 2 and ">66<" in page
    assert re.search(r"script-src 'sha256-[^']+'", page) and "https:" not in page
    text = format_sweep(found)
    assert "2 of 3 finished; 1 failed with code 66" in text
    assert "<i>USDT 1h signal logistic seed 1 failed (66)" in text


def test_cells_that_failed_alike_are_told_once(folder):
    found = swept(folder, {}, elsewhere=[failed(seed=seed) for seed in (1, 2, 3)])
    told = "CCCUSDT 1h signal logistic seed 1 and 2 more"
    assert f"{told} failed (66): no candles" in format_sweep(found)
    page = (folder / "sweep.html").read_text()
    assert page.count("no candles") == 1 and told in page


def test_a_changed_artifact_is_a_failed_cell(folder):
    cell = finish(folder.parents[1])
    next(folder.parents[1].glob("models/*/*/*/model_*")).write_text("changed")
    found = write_sweep(folder, [cell])
    assert found["num_finished"] == 0 and found["failed"][0]["exit_code"] == 76
    assert (
        found["portfolio"]["skipped"]
        and "Ranking" not in (folder / "sweep.html").read_text()
    )
