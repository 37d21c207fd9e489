"""Markets whose next return a feature knows whole, in part, or not at all."""

import numpy as np

from rl.simulator import Market

TRAIN, VALIDATION, TEST = slice(0, 40_000), slice(40_000, 45_000), slice(45_000, 55_000)
DEVIATION = 1e-3
KNOWN = {"oracle": 1.0, "planted": 0.3, "noise": 0.0}
NUM_FEATURES = 16


def market(kind: str, seed: int) -> Market:
    """Returns a market whose first feature knows a part of the next return."""
    generator = np.random.Generator(np.random.PCG64(seed))
    returns = DEVIATION * generator.standard_normal(TEST.stop)
    features = generator.standard_normal((TEST.stop, NUM_FEATURES))
    knows = KNOWN[kind]
    noise = np.sqrt(1.0 - knows**2) * features[:, 0]
    features[:, 0] = knows * returns / DEVIATION + noise
    returns[-1] = np.nan
    features = features.astype(np.float32)
    return Market(features=features, returns=returns, scale=DEVIATION)
