"""An agent that has to earn its place: seeds, checkpoints, and staying flat.

In: training several seeds, which weights of which seed are kept, whether any is better
than no position. Out: the algorithms (`ppo`, `sac`, `td3`), the test part
(`positions.judging`).

Between updates the weights of a policy wander. Validation chooses among them, and among
them is the policy without a position: an agent that was not taught anything by its
market holds what happened to rise in the training part, and a validation part that rose
too would praise it. So a policy is kept only where its mean net return a bar on
validation lies above 0 with `SURE`, adjusted for how many weights there were to choose
from (Sidak); else the agent stays flat.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from files.progress import Progress
from metrics.intervals import block_error
from rl import accounts
from rl.accounts import Account, Act, LiveAccount
from rl.agent import Agent, AgentSettings
from rl.checkpoints import Candidate, KeptTraining, owner_of
from rl.ppo import PPO
from rl.sac import SAC
from rl.simulator import FLAT, Market, TradingSimulator
from rl.td3 import TD3
from settings.stage_fields import AGENT_CHECKPOINTS
from utils import Interrupted, StopSignals

logger = logging.getLogger(__name__)

ALGORITHMS: Mapping[str, type[Agent]] = {"ppo": PPO, "sac": SAC, "td3": TD3}

CHECKPOINTS = AGENT_CHECKPOINTS

SURE = 0.95


@dataclass(frozen=True, kw_only=True)
class MarketSettings:
    """What agents act in, apart from its prices.

    Attributes:
        cost: Fee and slippage for each unit of position changed, a fraction.
        episode_bars: Bars of an episode.
        num_envs: Episodes side by side.
        dead_band: See `TradingSimulator`.
    """

    cost: float
    episode_bars: int = 240
    num_envs: int = 64
    dead_band: float = 0.1


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainedAgent:
    """What came of several seeds.

    Attributes:
        algorithm: Name in `ALGORITHMS`.
        candidates: Every checkpoint of every seed.
        chosen: The best on validation; None stays flat.
        needed: The `t_value` that it needed.
        around: Costs and episodes.
    """

    algorithm: str
    candidates: Sequence[Candidate]
    chosen: Candidate | None
    needed: float
    around: MarketSettings

    @property
    def is_continuous(self) -> bool:
        """Whether its actions are positions."""
        return ALGORITHMS[self.algorithm].is_continuous

    @property
    def best(self) -> Candidate:
        """The checkpoint with the best mean net return on validation."""
        return max(self.candidates, key=lambda each: each.mean_bps)

    def best_of_seeds(self) -> list[Candidate]:
        """Returns the best checkpoint on validation of each seed, in their order."""
        best: dict[int, Candidate] = {}
        for each in self.candidates:
            if each.seed not in best or each.mean_bps > best[each.seed].mean_bps:
                best[each.seed] = each
        return list(best.values())

    def published_weights(self) -> list[np.ndarray]:
        """Returns the weights of the policy that is published.

        An agent that stays flat has those of the best checkpoint, without any in the
        last layer but what says "no position".
        """
        weights = [np.array(each) for each in self.best.weights]
        if self.chosen is None:
            weights[-2][:], weights[-1][:] = 0.0, 0.0
            if not self.is_continuous:
                weights[-1][FLAT] = 1.0
        return weights

    def act(self, seen: np.ndarray) -> np.ndarray:
        """Returns the actions (batch,) that it takes, by what it sees."""
        act = accounts.plain_policy(
            self.published_weights(), is_continuous=self.is_continuous
        )
        return act(seen)

    def live(self, market: Market, rows: slice) -> Account:
        """Returns what it comes to on rows of a market, in order."""
        pieces = accounts.stretches(market, rows)
        if self.chosen is None:
            nothing = np.zeros(sum(stop - start for start, stop in pieces))
            return accounts.account_of(nothing, market, pieces, self.around.cost)
        return _live(
            self.chosen.weights, self.is_continuous, market, pieces, self.around
        )


def train(
    algorithm: str,
    market: Market,
    *,
    train: slice,
    validation: slice,
    settings: AgentSettings,
    around: MarketSettings,
    seeds: Sequence[int],
    folder: Path | None = None,
    minutes: float = 5.0,
    signals: StopSignals | None = None,
) -> TrainedAgent:
    """Trains each seed on the rows of `train`, and lets `validation` choose.

    Killed, and called again with the same arguments, it ends with the same bytes.

    Args:
        algorithm: Name in `ALGORITHMS`.
        market: Features and returns of all rows.
        train: Rows that episodes lie in.
        validation: Rows that choose.
        settings: Sizes of the agent.
        around: Costs and episodes.
        seeds: One training each, each once.
        folder: Where it keeps what is done; None keeps nothing.
        minutes: Least time between two states within a checkpoint; each checkpoint is
            kept, too.
        signals: Deferred ones, which end it with all that is done kept.

    Raises:
        Interrupted: If one of these came.
        NonFiniteLossError: If a weight is not a number.
    """
    spans = [(rows.start, rows.stop) for rows in (train, validation)]
    asked = (algorithm, asdict(settings), asdict(around), list(seeds), spans)
    kept = KeptTraining(folder, owner=owner_of(market, *asked), minutes=minutes)
    starts = market.starts(train, around.episode_bars)
    pieces = accounts.stretches(market, validation)
    candidates, total = kept.candidates, CHECKPOINTS * len(seeds)
    with Progress("checkpoint", total, done=len(candidates)) as progress:
        for seed in seeds:
            done = sum(each.seed == seed for each in candidates)
            if done == CHECKPOINTS:
                continue
            agent = create_agent(algorithm, market, starts, settings, around, seed=seed)
            kept.restore(agent, seed)
            for part in range(done + 1, CHECKPOINTS + 1):
                goal = settings.num_steps * part / CHECKPOINTS
                _learn_until(goal, agent, seed, kept, signals)
                candidates.append(_candidate(agent, seed, market, pieces, around))
                kept.offer(agent, seed, is_due=True)
                progress.advance(metrics={"val_net_bps": candidates[-1].mean_bps})
                logger.info("%s", _words(candidates[-1]))
    return TrainedAgent(
        algorithm=algorithm,
        candidates=candidates,
        chosen=choose(candidates),
        needed=needed_t_value(len(candidates)),
        around=around,
    )


def create_agent(
    algorithm: str,
    market: Market,
    starts: np.ndarray,
    settings: AgentSettings,
    around: MarketSettings,
    *,
    seed: int,
) -> Agent:
    """Returns an agent that has learned nothing, in episodes from `starts`."""
    make = ALGORITHMS[algorithm]
    episodes = TradingSimulator(
        market,
        starts,
        episode_bars=around.episode_bars,
        cost=around.cost,
        num_envs=around.num_envs,
        seed=seed,
        is_continuous=make.is_continuous,
        dead_band=around.dead_band,
    )
    return make(episodes, settings, seed=seed)


def _learn_until(
    num_steps: float,
    agent: Agent,
    seed: int,
    kept: KeptTraining,
    signals: StopSignals | None,
) -> None:
    """Lets an agent learn until it has so many steps, or a signal came."""
    while agent.steps < num_steps:
        found = agent.advance()
        agent.told = {k: v if math.isfinite(v) else None for k, v in found.items()}
        received = None if signals is None else signals.received
        kept.offer(agent, seed, is_due=received is not None)
        if received is not None:
            raise Interrupted(received)


def choose(candidates: Sequence[Candidate]) -> Candidate | None:
    """Returns the best on validation, if it is sure to be better than no position."""
    best = max(candidates, key=lambda each: each.mean_bps)
    return best if best.t_value > needed_t_value(len(candidates)) else None


def needed_t_value(num_candidates: int) -> float:
    """Returns what the best of so many must reach (Sidak, one-sided)."""
    from scipy import special

    return float(special.ndtri(SURE ** (1.0 / num_candidates)))


def t_value_of(net: np.ndarray, *, block_bars: int) -> float:
    """Returns a mean net return over its standard error; 0 where nothing changes.

    The larger error of single bars and of blocks of them: what a position earns of
    neighbouring bars may go together.

    Args:
        net: Log returns after costs (num_bars,), in time order.
        block_bars: Bars of a block.
    """
    if len(net) < 2:
        return 0.0
    error = max(block_error(net, block_rows=rows) for rows in (1, block_bars))
    return float(net.mean()) / error if error > 0 else 0.0


def _live(
    weights: Sequence[np.ndarray],
    is_continuous: bool,
    market: Market,
    pieces: Sequence[tuple[int, int]],
    around: MarketSettings,
) -> Account:
    account = live_account(
        accounts.plain_policy(weights, is_continuous=is_continuous),
        market.scale,
        around,
        is_continuous=is_continuous,
    )
    return accounts.live(account, market, pieces, cost=around.cost)


def live_account(
    act: Act, scale: float, around: MarketSettings, *, is_continuous: bool
) -> LiveAccount:
    """Returns an account of a policy, with the units of its training."""
    return LiveAccount(
        act,
        scale=scale,
        episode_bars=around.episode_bars,
        is_continuous=is_continuous,
        dead_band=around.dead_band,
    )


def _candidate(
    agent: Agent,
    seed: int,
    market: Market,
    pieces: Sequence[tuple[int, int]],
    around: MarketSettings,
) -> Candidate:
    """Returns the policy as it is now, and what it comes to on validation."""
    weights = agent.policy.get_weights()
    if not all(np.isfinite(each).all() for each in weights):
        from networks.callbacks import NonFiniteLossError

        raise NonFiniteLossError(
            f"expected an agent with finite weights. Received: NaN or infinity after "
            f"{agent.steps:,} steps of seed {seed}. Try a lower agent_learning_rate."
        )
    net = _live(weights, agent.is_continuous, market, pieces, around).net
    return Candidate(
        seed=seed,
        steps=agent.steps,
        weights=weights,
        mean_bps=1e4 * float(net.mean()) if len(net) else 0.0,
        t_value=t_value_of(net, block_bars=around.episode_bars),
        reward=agent.told.get("reward"),
        loss=agent.told.get("loss"),
    )


def _words(found: Candidate) -> str:
    return (
        f"agent of seed {found.seed}, {found.steps:,} steps: "
        f"{found.mean_bps:+.3f} bps a bar on validation (t {found.t_value:+.1f})"
    )
