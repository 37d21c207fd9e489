"""Step 8 of an agent: table, numbers, text, page, golden rows; later rows."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from world.classes import SMALL, load, market

from artifacts.run_folder import RunFolder
from evaluation.policies import PositionPolicy, SignalPolicy
from evaluation.trials import FIRST_LOOK
from positions import report
from positions.golden import GoldenObservations
from positions.results import (
    AgentPart,
    AgentResults,
    AgentSettings,
    Beside,
    Choice,
    SeedResult,
)
from reports.report import format_results
from rl.adapter import AgentAdapter
from rl.checkpoints import Candidate
from rl.training import MarketSettings, TrainedAgent
from utils import RefusedArtifactError


def wandering(seed=0):
    frame = market(seed)
    steps = np.random.default_rng(seed).normal(0.0, 0.002, len(frame))
    frame["close"] = 1000.0 * np.exp(np.cumsum(steps))
    return frame


def agent_of(config, data, *, is_flat=False):
    """An agent with random weights: it holds something, and knows nothing."""
    adapter = AgentAdapter(config)
    adapter.num_features, adapter._scale = data.num_features, 0.002
    generator, inputs = np.random.default_rng(3), data.num_features + 3
    candidates = [
        Candidate(
            seed=seed,
            steps=steps,
            mean_bps=0.1 * seed + 1e-4 * steps,
            t_value=4.0,
            weights=[generator.normal(size=(inputs, 3)), np.zeros(3)],
        )
        for seed in (5, 6)
        for steps in (100, 200)
    ]
    adapter.trained = TrainedAgent(
        algorithm="ppo",
        candidates=candidates,
        chosen=None if is_flat else candidates[-1],
        needed=2.2,
        around=MarketSettings(cost=15e-4, episode_bars=48),
    )
    return adapter


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    """A reported run: its folder, data, agent, table and results."""
    outputs = str(tmp_path_factory.mktemp("positions"))
    config = SMALL.replace(model="ppo", outputs_dir=outputs)
    data = load(wandering(), config)
    run, agent = RunFolder.create(config), agent_of(config, data)
    audit = {"findings": [], "leaks": [], "subject": "a file"}
    metadata = {"config": config.to_dict(), "split": {}}
    found = report.report_run(run, data, agent, audit=audit, metadata=metadata)
    return run, data, agent, *found


def test_a_row_a_bar_adds_up_to_what_the_report_says(reported):
    run, data, _, table, results = reported
    kept = pd.read_parquet(run.file("predictions", ".parquet"))
    names = "timestamp row part close position gross cost net".split()
    assert list(kept.columns) == names
    for part in ("validation", "test"):
        rows = kept[kept["part"] == part]
        close = data.outcomes["close"][rows["row"].to_numpy() + 1]
        gross = rows["position"] * np.log(close / rows["close"])
        np.testing.assert_allclose(rows["gross"], gross, atol=1e-12)
        change = np.abs(np.diff(rows["position"], prepend=0.0, append=0.0))
        assert rows["cost"].sum() == pytest.approx(15e-4 * change.sum(), rel=1e-12)
        equity = 100 * np.expm1(rows["net"].sum())
        assert results[part]["total_return_pct"] == pytest.approx(equity, rel=1e-9)
        assert results[part]["num_samples"] == len(rows)
    said = (run.path / "confusion_matrix_report.json").read_text()
    assert json.loads(said) == results
    pd.testing.assert_frame_equal(kept, table, check_categorical=False)


def test_seeds_looks_and_the_choice_are_told(reported):
    _, _, _, _, results = reported
    assert results["target"] == "position" and results["claims"] == {"edge": False}
    assert results["choice"]["seed"] == 6 and results["choice"]["steps"] == 200
    assert results["validation"]["num_variants_tried"] == 4
    assert results["test"]["num_variants_tried"] == 2  # seeds, and no other run
    seeds = results["test"]["spread"]["seeds"]
    assert [each["steps"] for each in seeds] == [200, 200]
    assert seeds[1]["net_bps"] == pytest.approx(results["test"]["net_bps"])
    assert [each["seed"] for each in results["learning"]] == [5, 6]
    assert set(results["outlook"]) == {"net_a_bar"}


def test_every_key_is_one_of_the_types(reported):
    results = reported[-1]
    names = AgentResults.__annotations__.keys() - {"promised"}
    assert results.keys() == names
    part = results["test"]
    assert part.keys() == AgentPart.__annotations__.keys()
    assert part["baselines"]["flat"].keys() == Beside.__annotations__.keys()
    assert part["spread"]["seeds"][0].keys() == SeedResult.__annotations__.keys()
    assert results["choice"].keys() == Choice.__annotations__.keys()
    assert results["settings"].keys() == AgentSettings.__annotations__.keys()


def test_text_and_page_say_the_same(reported):
    run, _, _, _, results = reported
    text = format_results(results)
    for words in ("Against: ", "always short", "value at risk", "seeds, net a bar: "):
        assert words in text
    page = (run.path / "report.html").read_text()
    net = json.dumps(results["test"]["intervals"]["net_bps"]["estimate"])
    key = "test.intervals.net_bps.estimate"
    assert f'data-key="{key}" data-value="{net}"' in page
    assert "What the positions earned" in page and "Learning curves</h2>" not in page
    assert {x.name for x in (run.path / "plots").iterdir()} >= {
        *("equity_test.png", "positions_test.png", "baselines_test.png"),
        "learning_curves.png",
    }


def test_golden_rows_prove_positions_with_their_account(reported):
    run, data, agent, table, _ = reported
    values = json.loads(run.file("golden", ".json").read_text())
    golden = GoldenObservations.from_dict(values, "here")
    assert np.abs(golden.numbers).max() > 0  # some held something before
    held = table.set_index("row")["position"][data.golden_rows]
    np.testing.assert_array_equal(golden.answers[:, 0], held)

    def say(windows, account):
        rows = data.pipeline.scaled(windows.reshape(-1, data.num_features))
        return agent.predict_windows(rows.reshape(windows.shape), account)

    assert golden.check(say, PositionPolicy(), "here") == 0.0
    with pytest.raises(RefusedArtifactError, match="not the one that was published"):
        golden.check(lambda w, account: say(-w, account), PositionPolicy(), "here")
    for broken in (values["account"][:-1], [["nan"] * 3] * len(golden.windows)):
        with pytest.raises(RefusedArtifactError, match="golden rows of an account"):
            GoldenObservations.from_dict(values | {"account": broken}, "here")


def test_later_rows_are_judged_at_the_costs_in_force(reported):
    _, data, agent, table, results = reported
    config = agent.config.replace(fee_bps=0.0, slippage_bps=0.0)
    promised = results["outlook"]
    later, found = report.report_later(
        agent, data, config, trials=FIRST_LOOK, promised=promised
    )
    own = table[table["part"] == "test"].reset_index(drop=True)
    np.testing.assert_array_equal(later["position"], own["position"])
    assert (later["cost"] == 0).all() and (own["cost"] > 0).any()
    assert found["promised"]["net_a_bar"]["found"] == found["test"]["net_bps"]
    assert "validation" not in found and "learning" not in found


def test_the_parents_own_trades_are_a_baseline(reported):
    _, data, agent, _, _ = reported
    rows = data.parts["test"].targets
    signals = np.random.default_rng(2).choice(3, len(rows), p=[0.1, 0.8, 0.1])
    parent = SimpleNamespace(
        artifact=SimpleNamespace(read_json=lambda _: SignalPolicy().to_dict()),
        adapter=SimpleNamespace(predict_rows=lambda *_: np.eye(3)[signals]),
    )
    child = agent_of(agent.config, data)
    child.__dict__["parents"] = [parent]
    lived = report.live_on(child, data, agent.config, ("test",))
    found = report.results_of(child, data, agent.config, lived, trials=FIRST_LOOK)
    position, free = np.zeros(len(lived["test"].held.rows)), 0
    for k, side in enumerate(signals - 1):
        if side and k >= free:
            name = "long_exit_bars" if side > 0 else "short_exit_bars"
            free = k + int(data.outcomes[name][rows[k]])
            position[k:free] = side
    expected = lived["test"].stretch.account(position)
    told = found["test"]["baselines"]["parent"]
    assert told["net_bps"] == pytest.approx(1e4 * expected.net.mean(), rel=1e-12)
    assert told["exposure_pct"] == pytest.approx(100 * np.abs(position).mean())
    assert found["test"]["comparisons"]["parent"]["net_difference"]["p_value"] < 1
    assert "the parent's own thresholds" in format_results(found)


def test_who_stays_flat_holds_nothing_and_promises_nothing(reported):
    _, data, agent, _, _ = reported
    flat = agent_of(agent.config, data, is_flat=True)
    lived = report.live_on(flat, data, agent.config, ("test",))
    found = report.results_of(flat, data, agent.config, lived, trials=FIRST_LOOK)
    assert found["verdict"][0] == "Earned: nothing, it holds no position"
    assert found["test"]["net_bps"] == 0.0 and found["outlook"] == {}
    assert found["choice"]["statement"].endswith("held, 2.20 was needed")
