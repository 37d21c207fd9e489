import numpy as np
import pandas as pd
import pytest

from evaluation.calibration import create_calibrator
from evaluation.policies import SignalPolicy
from signals.answers import moment_of
from utils import DataError


def test_nothing_said_is_calibrated_to_nothing():
    rows = np.tile([[0.2, 0.5, 0.3]], (120, 1))
    fitted = create_calibrator("temperature").fit(rows, np.arange(120) % 3)
    answers, signals = SignalPolicy(calibrator=fitted).decide(np.empty((0, 3)))
    assert answers.shape == (0, 3) and signals.shape == (0,)


def test_a_moment_is_utc_and_says_its_unit():
    noon = pd.Timestamp("2026-01-31T12:00Z")
    for given in ("2026-01-31 12:00", "2026-01-31T13:00+01:00", noon.to_pydatetime()):
        assert moment_of(given) == noon
    for given in ("noon", 1769860800, 1769860800.0, pd.NaT, [], np.int64(5)):
        with pytest.raises(DataError, match="now: expected a time such as"):
            moment_of(given)
