"""Challengers that must win, through kills, and the same on history."""

import dataclasses
import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from world.frames import PROJECT
from world.markets import BARS_A_DAY, market, trained

from artifacts.registry import Registry
from dataset.builder import build_training_frame
from live import decisions, retraining, simulation
from live.__main__ import main
from live.decisions import look, owned, read_decisions, rollback
from live.retraining import KEPT, NOT_DUE, PROMOTED, TOO_EARLY, verdict
from live.schedule import Schedule, make_schedule, read_schedule
from predictor import Predictor
from utils import ConfigError, InUseError

ALIAS = "logistic/TESTUSDT-15m-signal@champion"
DAYS = 60
QUICK = {"feature_sets": ("ray12",), "validation_split": 0.2}


def first(candles, days):
    return candles[: days * BARS_A_DAY].reset_index(drop=True)


def crown(candles, folder):
    """Trains a model and makes it the champion."""
    Registry(folder).register(trained(candles, folder, **QUICK), alias="champion")


@pytest.fixture(scope="module")
def candles():
    """A market that hardly moves from day 60 on."""
    return market((5.0, 5.0), (DAYS, 70), (1.0, 0.4))


@pytest.fixture(scope="module")
def outputs(candles, tmp_path_factory):
    """A folder whose champion learned from the first 60 days."""
    folder = tmp_path_factory.mktemp("retrained")
    Registry(folder).register(
        trained(first(candles, DAYS), folder, **QUICK), alias="champion"
    )
    return folder


def schedule(outputs, **fields):
    values = {"champion": ALIAS, "candles": "none", "outputs_dir": str(outputs)}
    values |= {"every_days": 15, "duel_days": 15, "rolling_days": 40}
    return make_schedule(values | fields)


@pytest.fixture(scope="module")
def promoted(outputs, candles):
    """Schedule and decision of day 115, when 40 days of the new market are known."""
    rules = schedule(outputs, name="promotes")
    with owned(rules):
        return rules, look(rules, first(candles, 115))


def test_a_challenger_that_wins_is_promoted(promoted):
    rules, found = promoted
    assert found.outcome == PROMOTED and found.trigger == "clock"
    assert found.duel["gain"]["low"] > 0 and found.duel["leaks"] == []
    assert found.duel["first"] > "2024-04-10" and found.duel["last"] < "2024-04-25"
    registry = Registry(rules.outputs_dir)
    assert registry.get(ALIAS).model_id == found.challenger != found.champion
    [line] = read_decisions(rules.folder)
    assert line == found.to_dict()


def test_neither_read_what_decides(promoted, candles):
    rules, found = promoted
    registry = Registry(rules.outputs_dir)
    for name in (found.champion, found.challenger):
        until = retraining.seen_until(Predictor(registry.open(name).path))
        assert until <= pd.Timestamp(found.duel["first"])
    config = registry.open(found.challenger).metadata["config"]
    assert config["start_date"] == "2024-03-01" and config["end_date"] == "2024-04-10"


def test_the_gain_is_that_of_plain_losses(promoted, candles):
    rules, found = promoted
    registry, means = Registry(rules.outputs_dir), []
    for name in (found.champion, found.challenger):
        predictor = Predictor(registry.open(name).path)
        table = first(candles, 115)
        config = predictor.config.replace(start_date=None, end_date=None)
        frame, _ = build_training_frame(table, config)
        times = frame["timestamp"]
        rows = np.flatnonzero(times.between(found.duel["first"], found.duel["last"]))
        assert len(rows) == found.duel["rows"]
        names, scaler = list(predictor.feature_names), predictor.scaler
        center, scale, limit = scaler.center, scaler.scale, scaler.clip_limit
        values = frame[names].to_numpy(np.float32)
        windows = np.stack([values[row - 15 : row + 1] for row in rows])
        raw = predictor.adapter.predict_windows(
            np.clip((windows - center) / scale, -limit, limit).astype(np.float32)
        )
        labels = frame["label"].to_numpy()[rows].astype(int)
        means.append(-np.log(raw[np.arange(len(rows)), labels]).mean())
    expected = (means[0] - means[1]) / means[0]
    assert found.duel["gain"]["estimate"] == pytest.approx(expected, rel=1e-4)


def test_rows_that_decided_decide_no_more(promoted, candles):
    rules, _ = promoted
    with owned(rules):
        assert look(rules, first(candles, 116)).outcome == NOT_DUE
    quick = dataclasses.replace(rules, every_days=None, every_bars=1)
    with owned(quick):
        found = look(quick, first(candles, 120))
    assert found.outcome == TOO_EARLY and "5.0 are new" in found.reason
    assert len(read_decisions(rules.folder)) == 1


def test_back_to_the_champion_before(promoted, candles):
    rules, found = promoted
    registry = Registry(rules.outputs_dir)
    pending = rules.folder / decisions.PENDING
    begun = {"now": "2024-04-30T00:00:00+00:00", "trigger": "clock"}
    pending.write_text(json.dumps(begun | {"champion": found.champion}))
    again = rollback(rules, pd.Timestamp("2024-05-01", tz="UTC"))
    assert registry.get(ALIAS).model_id == found.champion
    assert read_decisions(rules.folder)[-1]["outcome"] == again.outcome == "rolled back"
    ended = read_decisions(rules.folder)[-2]
    assert ended["outcome"] == "abandoned" and ended["now"] == begun["now"]
    assert look(rules, first(candles, 120)).outcome == NOT_DUE and not pending.exists()
    registry.set_alias(found.challenger)


POINTS = [
    ("live.retraining.register_run", "before it is registered"),
    ("live.retraining.score", "before the duel"),
    ("live.decisions._append", "after the promotion, before the line"),
    ("live.decisions._keep_few", "after the line"),
]


@pytest.mark.parametrize("point", [point for point, _ in POINTS])
def test_a_kill_at_any_point_goes_on(point, candles, tmp_path, monkeypatch):
    crown(first(candles, DAYS), tmp_path)
    rules = schedule(tmp_path)

    def die(*words, **fields):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(point, die)
        with owned(rules):
            look(rules, first(candles, 115))
    trainings = []
    run_training = retraining.StandaloneTrainer.run_training
    monkeypatch.setattr(
        retraining.StandaloneTrainer,
        "run_training",
        lambda self: trainings.append(1) or run_training(self),
    )
    with owned(rules):  # a day later, but of the same moment
        found = look(rules, first(candles, 116))
    assert not trainings and found.outcome == PROMOTED
    assert found.now == "2024-04-25T00:00:00+00:00"
    assert [each["outcome"] for each in read_decisions(rules.folder)] == [PROMOTED]
    registry = Registry(tmp_path)
    assert len(registry.list()) == 2
    assert registry.get(ALIAS).model_id == found.challenger
    assert not (rules.folder / decisions.PENDING).exists()
    registry.rollback(rules.group)
    assert registry.get(ALIAS).model_id == found.champion


@pytest.mark.parametrize(
    ("gain", "leaks", "tolerance", "outcome"),
    [
        ((0.1, 0.01), [], 0.0, PROMOTED),
        ((0.1, 0.0), [], 0.0, KEPT),
        ((0.1, -0.01), [], 0.02, PROMOTED),
        ((0.1, 0.01), ["label_copy"], 0.0, KEPT),
        ((0.1, None), [], 0.5, KEPT),
    ],
)
def test_the_lower_end_decides(gain, leaks, tolerance, outcome):
    ends = dict(zip(("estimate", "low"), gain, strict=True))
    duel = {"gain": ends, "leaks": leaks, "tolerance": tolerance, "rows": 9}
    assert verdict(duel)[0] == outcome


def test_two_at_once(outputs, tmp_path):
    rules = schedule(outputs, name="twice")
    code = (
        "import sys; from live.decisions import owned\n"
        "from live.schedule import make_schedule\n"
        "with owned(make_schedule(eval(sys.argv[1]))):\n"
        "    print('mine', flush=True); input()"
    )
    given = {"champion": ALIAS, "candles": "x", "outputs_dir": str(outputs)}
    given |= {"name": "twice", "every_days": 20}
    words = [sys.executable, "-c", code, repr(given)]
    with subprocess.Popen(
        words, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "mine\n"
        with pytest.raises(InUseError, match=f"process {other.pid}"), owned(rules):
            pass
        path = tmp_path / "twice.yaml"
        path.write_text(
            f"champion: {ALIAS}\ncandles: x\noutputs_dir: {outputs}\nevery_days: 20\n"
        )
        assert main(["retrain", str(path)]) == 75
        other.communicate("\n")
    with owned(rules):
        pass


@pytest.mark.parametrize(
    ("fields", "level", "trigger"),
    [
        ({"every_days": 15}, "ok", "clock"),
        ({"every_days": 30}, "alarm", ""),
        ({"every_days": None, "every_bars": 20 * BARS_A_DAY}, "ok", "bars"),
        ({"every_days": None, "every_bars": 21 * BARS_A_DAY}, "ok", ""),
        ({"every_days": None, "on_alarm": True}, "alarm", "alarm"),
        ({"every_days": None, "on_alarm": True}, "warning", ""),
    ],
)
def test_what_asks_for_a_challenger(
    fields, level, trigger, outputs, candles, monkeypatch
):
    watched = SimpleNamespace(level=level)
    monkeypatch.setattr(retraining, "watch", lambda *_: watched)
    _, predictor = retraining.champion_of(schedule(outputs))
    table = first(candles, 80)
    since = table["timestamp"][60 * BARS_A_DAY]
    found = retraining.trigger_of(schedule(outputs, **fields), predictor, table, since)
    assert found == trigger


@pytest.mark.parametrize("is_warm", [True, False])
def test_a_warm_start_begins_with_the_champion(
    is_warm, outputs, candles, tmp_path, monkeypatch
):
    asked = []
    monkeypatch.setattr(
        retraining,
        "StandaloneTrainer",
        lambda config, **_: SimpleNamespace(run_training=lambda: asked.append(config)),
    )
    _, predictor = retraining.champion_of(schedule(outputs))
    rules = dataclasses.replace(
        schedule(outputs), outputs_dir=str(tmp_path), warm_start=is_warm
    )
    config = predictor.config.replace(model="lstm")
    begin = candles["timestamp"][100 * BARS_A_DAY]
    retraining.train_until(rules, config, candles, begin, champion=predictor)
    [found] = asked
    assert found.init_from == (str(predictor.path) if is_warm else None)
    with pytest.raises(ConfigError, match="warm_start: expected a champion"):
        retraining.champion_of(dataclasses.replace(schedule(outputs), warm_start=True))


def test_nothing_to_go_back_to_leaves_a_look_alone(candles, tmp_path):
    crown(first(candles, DAYS), tmp_path)
    rules = schedule(tmp_path)
    rules.folder.mkdir(parents=True)
    begun = {"now": "2024-04-25T00:00:00+00:00", "trigger": "clock", "champion": "x"}
    (rules.folder / decisions.PENDING).write_text(json.dumps(begun))
    with pytest.raises(ConfigError, match="expected an earlier active model"):
        rollback(rules, pd.Timestamp("2024-05-01", tz="UTC"))
    assert (rules.folder / decisions.PENDING).exists()
    assert read_decisions(rules.folder) == []


def test_old_challengers_are_archived(outputs, candles, monkeypatch):
    rules = schedule(outputs, name="few", keep=1)
    registry = Registry(outputs)
    names = [entry.model_id for entry in registry.list()]
    monkeypatch.setattr(
        decisions,
        "read_decisions",
        lambda _: [{"challenger": name} for name in ["gone_1", *names, *names[::-1]]],
    )
    in_use = registry.get(ALIAS).model_id
    decisions._keep_few(rules)
    kept = {entry.model_id for entry in registry.list()}
    assert in_use in kept and names[0] in kept
    for name in {*names} - kept:
        registry.restore(name)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"champion": "lstm"}, "expected an alias of the registry"),
        ({"every_days": None}, "expected at least one of them"),
        ({"every_days": 3}, "expected at least duel_days"),
        ({"evry_days": 3}, "unknown key 'evry_days'. Did you mean 'every_days'"),
        ({"duel_days": -1}, "duel_days: expected"),
        ({"download": "binance"}, "expected both or neither"),
        ({"webhook": "ftp://x"}, "webhook: expected an address"),
        ({"name": "a/b"}, "name: expected up to 64"),
    ],
)
def test_a_schedule_says_all_that_is_wrong(fields, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        schedule(tmp_path, **fields)


def test_a_file_names_its_schedule(tmp_path):
    path = tmp_path / "weekly.yaml"
    path.write_text(f"champion: {ALIAS}\ncandles: data/spot\nevery_days: 30\n")
    found = read_schedule(str(path))
    assert isinstance(found, Schedule)
    assert (found.name, found.candles, found.every_days) == (
        "weekly",
        ("data/spot",),
        30.0,
    )


# On history


def test_history_decides_as_it_was_then(outputs, candles):
    """A simulation of all candles decides as one of those that were known."""
    rules = schedule(outputs, name="whole", every_days=20, duel_days=20)
    start = f"{candles['timestamp'][0] + pd.Timedelta(DAYS, 'D'):%Y-%m-%d}"
    whole = simulation.simulate(rules, candles, start=start)
    early_rules = dataclasses.replace(rules, name="early")
    early = simulation.simulate(early_rules, first(candles, 112), start=start)
    assert len(whole.decisions) == 3 and len(early.decisions) == 2
    for one, other in zip(early.decisions, whole.decisions, strict=False):
        assert {**one, "seconds": 0} == {**other, "seconds": 0}
    assert whole.promotions == 1  # of day 120, which knew 40 days of the new market
    assert whole.ways["schedule"]["skill"] > whole.ways["never"]["skill"]
    assert [len(each["skill"]) for each in whole.periods] == [3] * len(whole.periods)
    assert sum(each["rows"] for each in whole.periods) == 70 * BARS_A_DAY - 8
    again = simulation.simulate(rules, candles, start=start)  # takes what is there
    assert again.to_dict() == whole.to_dict()


def test_the_commands_say_what_they_did(outputs, candles, tmp_path, capsys):
    data = tmp_path / "TESTUSDT-15m.parquet"
    first(candles, 110).to_parquet(data)
    path = tmp_path / "weekly.yaml"
    path.write_text(
        f"champion: {ALIAS}\ncandles: {data}\noutputs_dir: {outputs}\n"
        "every_days: 25\nduel_days: 25\n"
    )
    assert main(["retrain", str(path), "--once"]) == 0
    said = capsys.readouterr().out
    assert "against logistic_TESTUSDT-15m-signal" in said or "not due" in said
    day = f"{candles['timestamp'][0] + pd.Timedelta(80, 'D'):%Y-%m-%d}"
    assert main(["simulate", str(path), str(data), "--start", day]) == 0
    page = outputs / "simulations/weekly/simulation.html"
    assert "Three ways" in page.read_text()
    written = json.loads(page.with_suffix(".json").read_text())
    assert set(written["ways"]) == {"schedule", "never", "clock"}
    assert np.isfinite(written["ways"]["never"]["loss"])
