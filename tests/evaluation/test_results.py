"""The types of the results say every key that there is, and no other."""

from typing import NotRequired, get_args, get_origin, get_type_hints, is_typeddict

import pytest
from world import classes, numbers

from evaluation.results import ClassPart, ClassResults, NumberPart, NumberResults


def of_classes():
    config = classes.SMALL.replace(baseline_model=True)
    data = classes.load(classes.market())
    return classes.judge(data, classes.forecasts(data, knows=0.3), config)[2]


def of_prices():
    data = numbers.load(numbers.market("price"), target="price")
    values = numbers.outputs(data, knows=0.3)
    return numbers.judge(data, values, target="price", baseline_model=True)[2]


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


@pytest.mark.parametrize(
    ("judged", "kind", "part_kind"),
    [
        (of_classes, ClassResults, ClassPart),
        (of_prices, NumberResults, NumberPart),
    ],
)
def test_every_key_is_in_the_types(judged, kind, part_kind):
    results = judged()
    assert results["test"]["trading"]["num_trades"] > 0
    assert not list(differences(results, kind, "results"))
    for part in ("validation", "test"):
        assert not list(differences(results[part], part_kind, part))
    del results["test"]["intervals"]
    results["test"]["trading"]["surplus"] = 0
    assert sorted(differences(results["test"], part_kind, "test")) == [
        "test.intervals is missing",
        "test.trading.surplus is not in Trading",
    ]
