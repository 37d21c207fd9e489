"""The types of the results say every key that there is, and no other."""

import itertools
from typing import NotRequired, get_args, get_origin, get_type_hints, is_typeddict

import pytest
from world import classes, numbers

from evaluation.evaluate import task_of_results
from evaluation.results import ClassPart, ClassResults, NumberPart, NumberResults


@pytest.fixture(scope="module", params=["classes", "price"])
def judged(request):
    """Table, results, and the types of these and of a part."""
    if request.param == "classes":
        config = classes.SMALL.replace(baseline_model=True)
        data = classes.load(classes.market())
        said = classes.forecasts(data, knows=0.3)
        table, _, results = classes.judge(data, said, config)
        return table, results, ClassResults, ClassPart
    data = numbers.load(numbers.market("price"), target="price")
    fields = {"target": "price", "baseline_model": True}
    table, _, results = numbers.judge(data, numbers.outputs(data, knows=0.3), **fields)
    return table, results, NumberResults, NumberPart


def differences(value, kind, place):
    """Yields the keys that a TypedDict says and a value has not, and the reverse."""
    for key, hint in get_type_hints(kind, include_extras=True).items():
        is_needed = get_origin(hint) is not NotRequired
        if key in value:
            inner = hint if is_needed else get_args(hint)[0]
            yield from differences_inside(value[key], inner, f"{place}.{key}")
        elif is_needed:
            yield f"{place}.{key} is missing"
    for key in value.keys() - get_type_hints(kind):
        yield f"{place}.{key} is not in {kind.__name__}"


def differences_inside(value, hint, place):
    if is_typeddict(hint):
        yield from differences(value, hint, place)
    elif get_origin(hint) is list:
        for k, item in enumerate(value):
            yield from differences_inside(item, get_args(hint)[0], f"{place}.{k}")
    elif get_origin(hint) is dict:
        for key, item in value.items():
            yield from differences_inside(item, get_args(hint)[1], f"{place}.{key}")


def test_every_key_is_in_the_types(judged):
    _, results, kind, part_kind = judged
    assert results["test"]["trading"]["num_trades"] > 0
    assert not list(differences(results, kind, "results"))
    for part in ("validation", "test"):
        assert not list(differences(results[part], part_kind, part))
    test = dict(results["test"], trading=results["test"]["trading"] | {"surplus": 0})
    del test["intervals"]
    assert sorted(differences(test, part_kind, "test")) == [
        "test.intervals is missing",
        "test.trading.surplus is not in Trading",
    ]


def test_what_a_task_names_is_in_the_results(judged):
    table, results, *_ = judged
    task, test = task_of_results(results), results["test"]
    named = {*task.measures.values(), *itertools.chain(*task.claimed.values())}
    assert named <= set(test["intervals"])
    assert test[task.p_value] == 1 / 1001
    assert set(test["baselines"]) <= set(task.baseline_names)
    rows = table[table["part"] == "test"]
    _, losses = task.truth_and_losses(lambda name: rows[name].to_numpy())
    assert losses.mean() == pytest.approx(task.mean_loss(test))
