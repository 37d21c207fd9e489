"""A Keras artifact that was written when every module lay at the root still opens."""

import json
from pathlib import Path

import numpy as np

from predictor import Predictor

BEFORE = Path(__file__).parent / "before"


def test_a_keras_artifact_of_before_the_packages_predicts_as_it_did():
    windows = np.random.default_rng(7).standard_normal((3, 8, 8)).astype(np.float32)
    expected = json.loads((BEFORE / "ensemble_expected.json").read_text())
    found = Predictor(BEFORE / "ensemble").predict_windows(windows)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
