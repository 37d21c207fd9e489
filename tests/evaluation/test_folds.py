import pytest

from evaluation.folds import summarise


def test_summary():
    folds = [{"skill": 0.1, "trades": 3, "text": "a"}, {"skill": 0.3, "trades": None}]
    assert summarise(folds) == {
        "skill": {"mean": 0.2, "std": pytest.approx(0.14142135), "folds": [0.1, 0.3]},
        "trades": {"mean": 3.0, "std": None, "folds": [3, None]},
    }
