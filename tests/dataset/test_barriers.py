import numpy as np
import pytest

from config import Config
from dataset.barriers import barrier_notes, usual_move_pct


def test_the_usual_move_is_that_of_99_in_100():
    rising = 100 * 1.001 ** np.arange(500)
    assert usual_move_pct(rising, 10) == pytest.approx(100 * (1.001**10 - 1))
    once = np.full(1001, 100.0)
    once[-5:] = 200  # 5 of 1,000 moves
    assert usual_move_pct(once, 1) == 0
    assert usual_move_pct(once[:5], 10) is None
    assert usual_move_pct([1.0, np.nan, 2.0], 1) is None


def test_levels_that_can_work_are_not_doubted():
    assert barrier_notes(Config()) == []
    assert barrier_notes(Config(), 1.0) == []


@pytest.mark.parametrize(
    ("fields", "move_pct", "notes"),
    [
        (
            {"long_tp_pct": 0.3},
            None,
            ["take profit of long, 0.3 %: not above the costs of a round trip, 0.3 %"],
        ),
        (
            {"long_sl_pct": 0.2, "short_sl_pct": 0.2},
            None,
            [
                "stop loss of both sides, 0.2 %: not above the costs of a round trip, "
                "0.3 %"
            ],
        ),
        ({"long_tp_pct": 0.3, "fee_bps": 5.0}, None, []),
        (
            {"long_tp_pct": 20, "short_tp_pct": 20},
            1.234,
            [
                "take profit of both sides, 20 %: hardly ever reached, 99 of 100 moves "
                "over 120 bars stay below 1.2 %"
            ],
        ),
        ({"long_tp_pct": 20}, None, []),
        ({"target": "return", "long_tp_pct": 20}, 1.0, []),
    ],
)
def test_levels_that_cannot_work_are_doubtful(fields, move_pct, notes):
    assert barrier_notes(Config(**fields), move_pct) == notes
