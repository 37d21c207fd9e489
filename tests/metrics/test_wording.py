import pytest

from metrics import wording


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ((0.12, 0.1, 0.14), "+0.120 [+0.100, +0.140]"),
        ((0.12, None, None), "+0.120 [no interval]"),
        ((None, None, None), "n/a"),
    ],
)
def test_intervals_as_text(value, text):
    found = dict(zip(("estimate", "low", "high"), value, strict=True))
    assert wording.interval(found) == text


def test_what_is_missing_is_said():
    assert wording.number(None, "{:.1f}") == "-"
    assert wording.number(0, "{:.1f}") == "0.0"
    assert wording.number(float("nan"), "{:.1f}") == "nan"
    assert wording.p_value(None, "too few blocks") == "too few blocks"
    assert wording.p_value(0.0312) == "p = 0.031"


def test_nothing_has_no_minus_sign():
    """A value at risk of a loss of nothing: minus the quantile 0.0."""
    assert wording.number(-0.0, "{:.2f} %") == "0.00 %"
    assert wording.number(-0.004, "{:+.2f}") == "+0.00"
    assert wording.number(-0.006, "{:.2f} %") == "-0.01 %"
