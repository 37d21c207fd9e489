"""A model in a market that stays as it was, and in one whose direction is lost."""

import dataclasses
import json
import sys

import numpy as np
import pandas as pd
import pytest
from world.markets import market, trained

from artifacts.artifact import load_artifact
from live import watching
from live.__main__ import main
from live.watched import days_of
from live.watching import watch
from predictor import Predictor
from utils import ConfigError, DataError

DAYS = 130
SPAN = (DAYS, 40)


@pytest.fixture(scope="module")
def same():
    return market((10.0, 10.0), SPAN)


@pytest.fixture(scope="module")
def model(same, tmp_path_factory):
    return trained(same[: DAYS * 96], tmp_path_factory.mktemp("watched"))


@pytest.fixture(scope="module")
def stays(model, same):
    return watch(model, same)


@pytest.fixture(scope="module")
def lost(model):
    return watch(model, market((10.0, 0.0), SPAN))


def test_a_market_that_stays_is_no_alarm(stays):
    assert stays.level != "alarm"
    assert stays.about["judged_rows"] == 40 * 96 - 16 - 8 + 1
    assert stays.promised["direction"]["outcome"] is not None
    assert stays.features["days"] == 1 and len(stays.features["features"]) == 8


def test_a_direction_that_is_lost_is_an_alarm(lost):
    assert lost.level == "alarm"
    for name in ("activity", "net"):
        found = lost.numbers[name]
        assert found["level"] != "ok" and found["since"] in found["days"]
        assert abs(found["now"] - found["usual"]) > 0.5 * found["spread"]
    assert lost.numbers["direction"]["level"] != "ok"
    assert lost.numbers["net"]["now"] < lost.numbers["net"]["usual"]
    assert lost.promised["direction"]["outcome"] == "below"


def test_numbers_are_means_of_days(model, lost):
    table = watching._predictions(Predictor(model))
    prior = np.array(load_artifact(model).metadata["data"]["train_prior"])
    said = table[["calibrated_short", "calibrated_hold", "calibrated_long"]].to_numpy()
    rows = np.arange(len(table))
    labels = table["label"].to_numpy()
    excess = pd.Series(np.log(prior[labels]) - np.log(said[rows, labels]))
    days = excess.groupby(table["timestamp"].dt.date)
    by_day, counts = days.mean(), days.size()
    kept = by_day[counts >= counts.median() / 2]
    assert lost.numbers["loss"]["usual"] == pytest.approx(kept.mean(), rel=1e-5)


def test_a_part_of_a_day_counts_from_its_half_on():
    times = np.datetime64("2024-01-01") + np.arange(250) * np.timedelta64(15, "m")
    days, means = days_of(times, np.arange(250.0), 1)
    assert days.astype(str).tolist() == ["2024-01-01", "2024-01-02", "2024-01-03"]
    assert means.tolist() == [47.5, 143.5, 220.5]
    assert len(days_of(times[:230], np.zeros(230), 1)[0]) == 2


def test_what_comes_later_changes_no_day_before(model, same, stays):
    early = watch(model, same[: (DAYS + 20) * 96])
    for name, number in early.numbers.items():
        known = len(number["days"]) - 1  # the last of them was not over
        later = stays.numbers[name]
        assert number["days"][:known] == later["days"][:known]
        np.testing.assert_allclose(number["sums"][:known], later["sums"][:known])


def test_the_command_says_it_with_its_exit_code(model, tmp_path, capsys):
    path, told = tmp_path / "TESTUSDT-15m.parquet", tmp_path / "told.json"
    market((10.0, 0.0), SPAN).to_parquet(path)
    code = "import sys; open(sys.argv[1], 'w').write(sys.stdin.read())"
    words = ["watch", str(model), str(path), "--output-dir", str(tmp_path / "w")]
    words += ["--command", f"{sys.executable} -c \"{code}\" '{told}'"]
    assert main(words) == 11
    seen = json.loads((tmp_path / "w/watch.json").read_text())
    assert seen["level"] == json.loads(told.read_text())["level"] == "alarm"
    assert "alarm" in (tmp_path / "w/watch.html").read_text()
    assert "log-loss above the train prior's" in capsys.readouterr().out


def test_nothing_later_is_no_watch(model, same, tmp_path):
    with pytest.raises(DataError, match="Received: none"):
        watch(model, same[: DAYS * 96])
    path = tmp_path / "TESTUSDT-15m.parquet"
    same[: DAYS * 96].to_parquet(path)
    assert main(["watch", str(model), str(path)]) == 65


def test_a_model_of_before_says_what_it_cannot(model, same, monkeypatch):
    predictor = Predictor(model)
    monkeypatch.setattr(predictor, "reference", None)
    found = watch(predictor, same)
    assert found.features == {} and "drift" not in found.numbers
    assert any("distances of features: not known" in note for note in found.notes)


def test_an_agent_is_sent_elsewhere(model, same, monkeypatch):
    predictor = Predictor(model)
    monkeypatch.setattr(watching, "AGENTS", (predictor.family,))
    with pytest.raises(ConfigError, match="experiments evaluate"):
        watch(predictor, same)


def test_a_start_inside_the_training_is_refused(model, same):
    with pytest.raises(DataError, match="--since: expected a moment from 2024-0"):
        watch(model, same, since="2024-02-15")
    with pytest.raises(ConfigError, match="--since: expected a moment such as"):
        watch(model, same, since="soon")
    found = watch(model, same, since="2024-05-20")
    assert found.about["first"] == "2024-05-20T00:00:00Z"


def test_features_farther_than_ever_are_a_warning(model, same):
    predictor = Predictor(model)
    drift = predictor.reference.drift
    near = {days: 1e-3 * block for days, block in drift.blocks.items()}
    predictor.reference = dataclasses.replace(
        predictor.reference, drift=dataclasses.replace(drift, blocks=near)
    )
    found = watch(predictor, same[: (DAYS + 8) * 96])
    assert all(x["p_value"] < 0.05 for x in found.features["features"].values())
    assert found.level != "ok"
    usual = watch(model, same[: (DAYS + 8) * 96])
    assert not any(x["p_value"] < 0.05 for x in usual.features["features"].values())
