"""Which stages a pipeline has, in which order; what is refused before it begins."""

import pytest

from models.families import FAMILIES
from stages.plan import make_pipeline, read_pipeline
from utils import ConfigError

STAGES = [
    {"name": "all", "model": "stack", "needs": ["joined", "first", "trees"]},
    {"name": "joined", "model": "hybrid", "needs": ["agent", "first"]},
    {"name": "agent", "model": "ppo", "needs": "first"},
    {"name": "trees", "model": "lightgbm", "fields": {"seed": 7, "embargo": 3}},
    {"name": "first", "model": "cnn_lstm"},
]


@pytest.fixture(autouse=True)
def families(monkeypatch):
    """The families of stages, of which only the names are looked at."""
    for name in ("ppo", "hybrid", "stack"):
        if name not in FAMILIES:
            monkeypatch.setitem(FAMILIES, name, FAMILIES["logistic"])


def make(*stages, **common):
    return make_pipeline({"pair": "TESTUSDT", "stages": [*stages], **common})


def refused(*stages, **common):
    with pytest.raises(ConfigError) as error:
        make(*stages, **common)
    head, *lines = str(error.value).splitlines()
    assert head == "the pipeline cannot be run:"
    return [line.removeprefix("  - ") for line in lines]


def test_stages_come_behind_those_that_they_need_and_name_them_by_their_families():
    found = {stage.name: stage for stage in make(*STAGES).stages}
    order = [*found]
    assert all(
        order.index(need) < order.index(stage.name)
        for stage in found.values()
        for need in stage.roles
    )
    assert {name: dict(stage.roles) for name, stage in found.items()} == {
        "first": {},
        "trees": {},
        "agent": {"first": "base_model"},
        "joined": {"agent": "rl_model", "first": "base_model"},
        "all": {"joined": "members", "first": "members", "trees": "members"},
    }
    models = {name: f"outputs/{name}_v1.0.0" for name in found}
    assert found["joined"].config_with(models).rl_model == "outputs/agent_v1.0.0"
    assert found["all"].config_with(models).members == tuple(
        f"outputs/{name}_v1.0.0" for name in ("joined", "first", "trees")
    )
    assert (found["trees"].config.seed, found["trees"].config.embargo_bars) == (7, 3)
    assert {stage.config.experiment_name for stage in found.values()} == {"pipeline"}


def test_an_extractor_learns_from_the_older_half_unless_it_is_told_otherwise():
    shares = {stage.name: stage.config.stage_share for stage in make(*STAGES).stages}
    assert shares == {"first": 0.5, "trees": 1, "agent": 1, "joined": 1, "all": 1}
    [first] = [x for x in make(*STAGES, stage_share=0.7).stages if x.name == "first"]
    assert first.config.stage_share == 0.7


def test_flags_win_over_the_file_and_over_its_stages(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(
        "pair: TESTUSDT\nepochs: 9\nstages:\n"
        "  - {name: one, model: cnn_lstm, fields: {epochs: 8, batch_size: 64}}\n"
    )
    found = read_pipeline(str(file), {"epochs": 2})
    [one] = found.stages
    assert (found.name, one.config.epochs, one.config.batch_size) == ("mine", 2, 64)


def test_everything_that_is_wrong_is_told_together():
    lines = refused(
        {"name": "a", "model": "ppo", "needs": ["b", "frist"], "extra": 1},
        {"name": "b", "model": "lightgbm", "needs": ["a"]},
        {"name": "b", "model": "lstm"},
        {"name": "c", "model": "lstm", "fields": {"epochs": 0}},
        {"name": "first", "model": "cnn_lstm", "fields": {"epochs": 0}},
        stage_shares=0.5,
        model="lstm",
    )
    assert lines == [
        "stage a: unknown key 'extra'.",
        "stage 3: expected a name of its own, up to 64 letters, digits, '.', '_' and "
        "'-'. Received: 'b'",
        "stage a: needs: expected names of stages. Received: 'frist'. Did you mean "
        "'first'?",
        "model: each stage has its own",
        "needs: expected no circle. Received: a needs b needs a",
        "stage a: needs: expected lstm, gru, cnn, cnn_lstm, mlp, tcn, attention for "
        "model 'ppo'. Received: b, of model 'lightgbm'",
        "stage b: needs: expected none for model 'lightgbm'. Received: a, of model "
        "'ppo'",
        "stages a, b, c, first: unknown field 'stage_shares'. Did you mean "
        "'stage_share'?",
        "stages c, first: epochs: expected >= 1. Received: 0",
    ]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (
            {"fields": {"pair": "OTHERUSDT"}},
            "Received pair: OTHERUSDT of first, TESTUSDT of agent",
        ),
        (
            {"fields": {"timeframe": "5m"}},
            "Received timeframe: 5m of first, 1m of agent",
        ),
        (
            {"fields": {"test_split": 0.2}},
            "Received test_split: 0.2 of first, 0.1 of agent",
        ),
    ],
)
def test_stages_of_other_data_do_not_build_on_each_other(change, line):
    first = STAGES[-1] | change
    lines = refused(STAGES[2], first)
    assert lines == [f"needs: expected the same data and question. {line}"]


def test_stages_are_told_what_they_lack():
    first, trees = STAGES[4], STAGES[3]
    second = first | {"name": "second"}
    wide = first | {"fields": {"sequence_length": 500}}
    assert refused({"name": "h", "model": "hybrid"}, trees) == [
        "stage h: needs: expected 1 or more as base_model of model 'hybrid'. "
        "Received: 0"
    ]
    alone = {"name": "s", "model": "stack", "needs": ["trees"]}
    assert refused(alone, trees) == [
        "stage s: needs: expected 2 or more as members of model 'stack'. Received: 1"
    ]
    assert refused({"name": "p", "model": "ppo", "needs": [*"ab"]}) == [
        "stage p: needs: expected names of stages. Received: 'a'.",
        "stage p: needs: expected names of stages. Received: 'b'.",
    ]
    agent = {"name": "p", "model": "ppo", "needs": ["first", "second"]}
    [line] = refused(agent, first, second)
    assert line.startswith("stage p: needs: expected one base_model. Received: [")
    named = {"needs": ["first"], "fields": {"base_model": "outputs/x_v1.0.0"}}
    assert refused({"name": "p", "model": "ppo", **named}, first) == [
        "stage p: base_model: expected from needs or fields, not both"
    ]
    [line] = refused(
        {"name": "s", "model": "stack", "needs": ["first", "trees"]}, wide, trees
    )
    assert line.startswith("stage s: sequence_length: expected at least 500")


@pytest.mark.parametrize(
    ("stage", "line"),
    [
        ({"needs": [["first"]]}, "expected names of stages. Received: \"['first']\""),
        ({"needs": [{"first": 1}]}, "expected names of stages. Received"),
        ({"needs": "first", "fields": {1: 2}}, "unknown field '1'"),
        ({"needs": "mixed"}, "Received: mixed, of model 'ensemble'"),
        ({"needs": "whole"}, "stage whole: stage_share: expected below 1"),
        ({"model": "stack", "needs": ["stacked", "first", "deep"]}, "than stack"),
        (
            {"model": "hybrid", "needs": ["first", "rows"]},
            "expected an rl_model on the same base_model. Received: rows, on none",
        ),
        (
            {"model": "hybrid", "needs": ["first", "elsewhere"]},
            "expected an rl_model on the same base_model. Received: elsewhere, on deep",
        ),
    ],
)
def test_what_would_fail_behind_hours_is_refused_before(stage, line):
    first = STAGES[4]
    others = [
        first,
        first | {"name": "whole", "fields": {"stage_share": 1}},
        {"name": "mixed", "model": "ensemble"},
        {"name": "deep", "model": "lstm"},
        {"name": "elsewhere", "model": "ppo", "needs": "deep"},
        {"name": "rows", "model": "ppo"},
        {"name": "stacked", "model": "stack", "needs": ["first", "deep"]},
    ]
    [found] = refused({"name": "it", "model": "ppo"} | stage, *others)
    assert line in found


def test_days_of_a_stage_may_be_written_as_days(tmp_path):
    file = tmp_path / "days.yaml"
    file.write_text(
        "stages:\n- {name: a, model: lstm, fields: {start_date: 2024-02-01}}\n"
    )
    assert read_pipeline(str(file)).stages[0].config.start_date == "2024-02-01"


@pytest.mark.parametrize("given", [None, [], {"a": 1}, "first"])
def test_a_file_without_stages_is_none(given):
    with pytest.raises(ConfigError, match="stages: expected a list of name, model"):
        make_pipeline({"stages": given})
