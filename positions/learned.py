"""What came of training, for a report: the choice, the seeds, how they learned.

In: checkpoints of a `TrainedAgent`, those of other seeds on the rows of a part. Out:
training (`rl.training`), the published agent's account (`judging`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from positions.judging import Stretch, came_to
from rl import accounts
from rl.accounts import Account, LiveAccount, plain_policy
from utils import counted

if TYPE_CHECKING:
    from rl.checkpoints import Candidate
    from rl.training import TrainedAgent


def choice_of(trained: TrainedAgent) -> dict[str, Any]:
    """Returns `results.Choice`."""
    best, chosen, count = trained.best, trained.chosen, len(trained.candidates)
    found = (
        f"the best of {counted(count, 'checkpoint', 'checkpoints')} earned "
        f"{best.mean_bps:+.2f} bps a bar, t {best.t_value:+.2f}"
    )
    end = f"no position is held, {trained.needed:.2f} was needed"
    if chosen is not None:
        end = f"kept, {trained.needed:.2f} was needed: seed {chosen.seed}, "
        end += f"{chosen.steps:,} steps"
    return {
        "statement": f"{found}; {end}",
        "is_flat": chosen is None,
        "num_candidates": count,
        "seed": None if chosen is None else chosen.seed,
        "steps": None if chosen is None else chosen.steps,
        "t_value": best.t_value,
        "needed_t_value": trained.needed,
    }


def learning_of(trained: TrainedAgent) -> list[dict[str, Any]]:
    """Returns `results.Learning` of each seed."""
    return [
        {
            "seed": best.seed,
            "steps": [x.steps for x in trained.candidates if x.seed == best.seed],
            "net_bps": [x.mean_bps for x in trained.candidates if x.seed == best.seed],
        }
        for best in trained.best_of_seeds()
    ]


def spread_of(trained: TrainedAgent, stretch: Stretch) -> dict[str, Any]:
    """Returns `spread`, or nothing where other seeds are not known any more.

    Each seed's best checkpoint on validation, whether it was sure enough or not.
    """
    seeds = trained.best_of_seeds()
    if not all(len(each.weights) for each in seeds):
        return {}
    found = [
        {"seed": each.seed, "steps": each.steps}
        | came_to(_account_of(each, trained, stretch), stretch)
        for each in seeds
    ]
    kept = ("seed", "steps", "net_bps", "total_return_pct", "turnover", "exposure_pct")
    net = [each["net_bps"] for each in found]
    return {
        "spread": {
            "mean_net_bps": float(np.mean(net)),
            "std_net_bps": float(np.std(net, ddof=1)) if len(net) > 1 else None,
            "seeds": [{key: each[key] for key in kept} for each in found],
        }
    }


def _account_of(
    candidate: Candidate, trained: TrainedAgent, stretch: Stretch
) -> Account:
    account = LiveAccount(
        plain_policy(candidate.weights, is_continuous=trained.is_continuous),
        scale=stretch.market.scale,
        episode_bars=trained.around.episode_bars,
        is_continuous=trained.is_continuous,
        dead_band=trained.around.dead_band,
    )
    return accounts.live(account, stretch.market, stretch.pieces, cost=stretch.cost)
