"""What the position of a model with classes came to, beside its agent's."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from world.classes import SMALL, hours
from world.frames import make_own_frame

from data_loader import TrainingDataLoader
from evaluation.part_scores import Judged
from positions.beside import add_positions
from reports.blocks import Material
from reports.composition import format_position, position_section
from rl.accounts import account_of, stretches
from rl.markets import market_of

ROWS = 1500
CONFIG = SMALL.replace(model="hybrid", fee_bps=3.0, slippage_bps=2.0)


@pytest.fixture(scope="module")
def data():
    frame = make_own_frame(ROWS)
    frame["timestamp"] = hours(ROWS)
    steps = np.random.default_rng(1).normal(0.0, 0.01, ROWS)
    frame["close"] = 1000.0 * np.exp(np.cumsum(steps))
    loader = TrainingDataLoader.from_frame(frame, config=CONFIG)
    return loader.load_training_data()


def judged_on(data, position):
    rows = {k: data.parts[k].targets for k in ("validation", "test")}
    columns = [{"part": k, "row": row} for k, found in rows.items() for row in found]
    table = pd.DataFrame(columns)
    return Judged(
        table=table.assign(position=position(table["row"].to_numpy())),
        policy=None,
        choice={},
    )


def adapter_with(*parents):
    history = {"loss": [1.0, 0.9]}
    return SimpleNamespace(
        config=CONFIG, parents=parents, training_history=lambda: history
    )


def shorting(data):
    """An agent that holds half a short in every bar."""

    def account(data, part):
        market, rows = market_of(data), data.parts[part]
        pieces = stretches(market, slice(rows.start, rows.stop))
        count = sum(stop - start for start, stop in pieces)
        return account_of(np.full(count, -0.5), market, pieces, 0.0)

    return SimpleNamespace(family="ppo", adapter=SimpleNamespace(account=account))


def test_a_position_is_paid_bar_by_bar_and_held_against_the_agents(data):
    close = np.asarray(data.outcomes["close"], np.float64)
    gains = np.log(np.append(close[1:], close[-1]) / close)
    judged = judged_on(data, lambda rows: 0.25 * np.sign(gains[rows]))
    network = SimpleNamespace(family="cnn")
    results = {"trials": {"num_trials": 3}}
    add_positions(results, judged, data, adapter_with(network, shorting(data)))
    # Behind the last row no close is known.
    rows, before, earned = data.parts["test"].targets[:-1], 0.0, 0.0
    for row in rows:
        held = 0.25 * np.sign(gains[row])
        earned += held * gains[row] - 5e-4 * abs(held - before)
        before = held
    earned -= 5e-4 * abs(before)
    test = results["position"]["test"]
    assert test["num_samples"] == len(rows)
    assert test["net_bps"] == pytest.approx(1e4 * earned / len(rows))
    assert test["num_variants_tried"] == 3
    assert results["position"]["validation"]["num_variants_tried"] == 2
    other = -0.5 * gains[rows].sum() - 2 * 5e-4 * 0.5  # it opens and closes here
    assert test["baselines"]["agent"]["net_bps"] == pytest.approx(
        1e4 * other / len(rows)
    )
    against = test["comparisons"]["agent"]["net_difference"]
    assert against["estimate"] == pytest.approx(1e4 * (earned - other) / len(rows))
    assert against["low"] > 0 and against["p_value"] < 0.05
    said = " ".join(format_position(results["position"]).split())
    assert "on test; not told apart from always short, the best constant" in said
    assert "; better than its agent, +" in said
    section = position_section(Material(results=results, history={}))
    came_to, beside = section.blocks
    shown = {name: [cell.text for cell in cells] for name, cells in came_to.rows}
    assert shown["net a bar, bps"] == [
        f"{results['position'][part]['net_bps']:+.3f}"
        for part in ("validation", "test")
    ]
    name, [theirs, beyond, p_value] = beside.rows[-1]
    assert (name, theirs.value) == ("agent", test["baselines"]["agent"]["net_bps"])
    assert (beyond.value, p_value.value) == (against["estimate"], against["p_value"])


def test_models_without_a_position_have_none_judged(data):
    judged = judged_on(data, lambda rows: rows)
    table = judged.table.drop(columns="position")
    results = {}
    add_positions(
        results, Judged(table=table, policy=None, choice={}), data, adapter_with()
    )
    assert results == {}
