"""Agents behind the face of `ModelAdapter`: `AgentAdapter`.

In: a training file as a market, what an agent sees of it, training with resume, the
files of what is published. Out: learning (`training`), what an account came to
(`accounts`), the frozen network below it (`models.parents`).

An agent that stays flat is published, too: its network has no weight in the last layer,
so that it says "no position" whatever it sees, and its metadata say `is_flat`.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

import utils
from artifacts.manifest import refuse_broken
from config import Config
from files.atomic import atomic_path
from models import families
from models.adapter import ModelAdapter, read_sizes
from models.device import import_tensorflow
from models.keras_adapter import KerasAdapter
from models.parents import Parent, inherited_from, open_network
from preprocessing.inheritance import Inherited
from rl import described
from rl.accounts import Account, LiveAccount, plain_policy
from rl.markets import Embedding, as_extractor, extractor_of, market_of
from rl.simulator import ACCOUNT_NUMBERS, Market, position_after
from settings.stage_fields import AGENTS
from utils import DataError, Made, RefusedArtifactError

if TYPE_CHECKING:
    import os

    from artifacts.artifact import Artifact
    from artifacts.run_folder import RunFolder
    from data_loader import TrainingData
    from rl.training import TrainedAgent

logger = logging.getLogger(__name__)

EXTRACTOR = "extractor"
"""Kind of the file that has the frozen network below an agent."""


def register() -> None:
    """Makes `Config(model="ppo")`, `sac` and `td3` train and load.

    Called by whoever asks for a family: `models` does not know this package.
    """
    for name in AGENTS:
        families.FAMILIES.setdefault(name, AgentAdapter)


class AgentAdapter(ModelAdapter):
    """PPO, SAC or TD3 on the market of a training file.

    Its positions stand as shares of SHORT, HOLD, LONG: the last minus the first is the
    position. It has an account, so that what it says of a bar follows from the bars
    before: `predict_rows` begins without a position at the first row.

    Attributes:
        market: Of all rows of the run (`prepare`).
        model: The policy's network (`build`), after `fit` the published one.
        trained: Every checkpoint of every seed, and which was chosen (`fit`).
    """

    suffix = ".keras"
    file_kind = "agent"

    market: Made[Market] = Made("prepare")
    trained: Made[TrainedAgent] = Made("fit")
    _data: Made[TrainingData] = Made("prepare")

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.embedding: Embedding | None = None
        self._extractor: KerasAdapter | None = None
        self._scale: float | None = None
        self._run: RunFolder | None = None
        self._done = 0
        self._market: tuple[object, Market] | None = None

    @functools.cached_property
    def parents(self) -> Sequence[Parent]:
        """The network whose embedding the agent sees; none where it sees the rows."""
        if self.config.base_model is None:
            return ()
        return [open_network(self.config, alike=("sequence_length",))]

    @property
    def inherited(self) -> Inherited:
        """What that leaves to the run: its steps, rows behind its own."""
        return inherited_from(self.parents, steps_of=next(iter(self.parents), None))

    # The steps of a run

    def prepare(self, data: TrainingData) -> Market:
        """Makes the market; a frozen network says once what it sees of each row."""
        _ = self._runtime
        self.num_features, self._data = data.num_features, data
        if self.parents:
            self._extractor = extractor_of(self.parents[0])
            self.embedding = Embedding(self._extractor.predict_windows)
        self.market = market_of(data, embedding=self.embedding)
        self._scale = self.market.scale
        self._market = (data, self.market)
        return self.market

    @functools.cached_property
    def _runtime(self) -> dict[str, Any]:
        import_tensorflow(self.config)
        from model_builder import configure_runtime

        return configure_runtime(self.config)

    def build(self, data: TrainingData) -> Any:
        """Makes the policy's network, not yet trained."""
        from rl import training

        around, [seed, *_] = described.surroundings(self.config), self.seeds
        part = data.parts["train"]
        starts = self.market.starts(slice(part.start, part.stop), around.episode_bars)
        if not len(starts):
            raise DataError(
                f"train: expected {around.episode_bars} bars of one segment for an "
                f"episode. Received: none in {part.stop - part.start:,} rows. Take "
                "fewer agent_episode_bars."
            )
        agent = training.create_agent(
            *(self.config.model, self.market, starts),
            *(described.settings(self.config), around),
            seed=seed,
        )
        self.model = agent.policy
        logger.info(
            "model: %s, %s parameters of the policy, on %s; %s of %s steps in %d "
            "environments, on %s",
            self.config.model,
            f"{self.model.count_params():,}",
            f"{self.market.features.shape[1]} numbers and its account",
            utils.counted(len(self.seeds), "seed", "seeds"),
            f"{self.config.agent_steps:,}",
            self.config.agent_envs,
            self._runtime["device"],
        )
        return self.model

    @functools.cached_property
    def seeds(self) -> list[int]:
        """The seed of each training, made from the run's."""
        made = np.random.SeedSequence(self.config.seed)
        return [int(each) for each in made.generate_state(self.config.agent_seeds)]

    def attach(self, run: RunFolder) -> list[Any]:
        """Takes a folder, with the checkpoints that were made there."""
        from rl.checkpoints import KeptTraining

        self._run = run
        self._done = len(KeptTraining(run.checkpoints, owner=None).candidates)
        return []

    def fit(self, data: TrainingData) -> dict[str, list[float]]:
        """Trains every seed; goes on from what an earlier process kept.

        Returns:
            A value a checkpoint, seed after seed: `loss` and `reward` of the newest
            batch, `val_net_bps` (mean net return a bar on validation) and
            `val_t_value`, `val_loss`, minus the first of these, `seed` and `steps`.

        Raises:
            NonFiniteLossError: If a weight is not a number.
            Interrupted: On SIGINT or SIGTERM, with all that is done kept.
        """
        from rl import training

        started = time.perf_counter()
        train, validation = (
            slice(data.parts[name].start, data.parts[name].stop)
            for name in ("train", "validation")
        )
        with utils.StopSignals(is_deferred=True) as signals:
            self.trained = training.train(
                self.config.model,
                self.market,
                train=train,
                validation=validation,
                settings=described.settings(self.config),
                around=described.surroundings(self.config),
                seeds=self.seeds,
                folder=None if self._run is None else self._run.checkpoints,
                minutes=self.config.checkpoint_minutes,
                signals=signals,
            )
        self.model.set_weights(self.trained.published_weights())
        self._history = described.history_of(self.trained)
        self._seconds = time.perf_counter() - started
        logger.info("%s", described.words_of(self.trained, self._seconds))
        return self._history

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the policy, and the frozen network below it beside."""
        written = {Path(path): self.model}
        if self._extractor is not None:
            beside = Path(path).name.replace(self.file_kind, EXTRACTOR, 1)
            written[Path(path).with_name(beside)] = self._extractor.network
        for place, network in written.items():
            with atomic_path(place) as temporary:
                network.save(temporary)

    @property
    def files_beside(self) -> dict[str, str]:
        """The frozen network, where there is one."""
        return {} if self._extractor is None else {EXTRACTOR: ".keras"}

    @classmethod
    def load(cls, model: Any, description: Mapping[str, Any], where: object) -> Self:
        """Takes a policy of the sizes and the layers that its description says."""
        with refuse_broken(f"{where}: expected an agent that fits its description"):
            window_bars, num_features = read_sizes(description, where)
            known = described.Described.from_dict(description)
            config = Config(
                model=description["family"],
                target=description["target"],
                sequence_length=window_bars,
            )
            adapter = cls(config)
            adapter.num_features = num_features
            adapter.model, adapter._scale = model, known.scale
            adapter.trained = known.trained(model)
            if known.embedding is None and known.num_inputs != num_features:
                raise ValueError(f"{known.num_inputs} numbers of {num_features}")
            adapter._described = known
        return adapter

    _described: described.Described | None = None

    def open_beside(self, artifact: Artifact) -> None:
        """Takes the frozen network below the policy, if it sees through one."""
        known = self._described
        if known is None or known.embedding is None:
            return
        network = artifact.load_model(self.suffix, kind=EXTRACTOR)
        sizes = (None, self.window_bars, self.num_features)
        wanted = (sizes, (None, known.num_inputs))
        if (found := (network.input_shape, network.output_shape)) != wanted:
            raise RefusedArtifactError(
                f"{artifact.path}: expected an extractor from windows {wanted[0]} to "
                f"{wanted[1]}. Received: one from {found[0]} to {found[1]}"
            )
        self._extractor = as_extractor(network, known.embedding.family, artifact.path)
        scales = (known.embedding.center, known.embedding.spread)
        self.embedding = Embedding(self._extractor.predict_windows, *scales)

    # What it says

    def market_of(self, data: TrainingData) -> Market:
        """Returns the rows of a training file as the market that the agent knows."""
        if self._market is None or self._market[0] is not data:
            self.require_sizes(data)
            made = market_of(data, embedding=self.embedding, scale=self._scale)
            self._market = (data, made)
        return self._market[1]

    def account(self, data: TrainingData, part: str) -> Account:
        """Returns what it comes to on the rows of a part, in order."""
        rows = data.parts[part]
        return self.trained.live(self.market_of(data), slice(rows.start, rows.stop))

    def predict_rows(self, data: TrainingData, rows: np.ndarray) -> np.ndarray:
        """Returns its positions at target rows, as shares (num_rows, 3).

        Args:
            data: Arrays and parts.
            rows: Ascending; the account begins without a position at the first, and
                has none at a row behind which no bar is known.
        """
        position = np.zeros(data.num_rows)
        if len(rows):
            span = slice(int(rows[0]), int(rows[-1]) + 1)
            held = self.trained.live(self.market_of(data), span)
            position[held.rows] = held.position
        return shares_of(position[rows])

    def predict_windows(
        self, windows: np.ndarray, account: np.ndarray | None = None
    ) -> np.ndarray:
        """Returns positions that it takes, as shares (num_windows, 3).

        Args:
            windows: (num_windows, window_bars, num_features) float32, scaled.
            account: What it sees of its account (num_windows, 3) float32; None holds
                nothing.
        """
        if account is None:
            account = np.zeros((len(windows), ACCOUNT_NUMBERS), np.float32)
        seen = np.concatenate([self.seen_of(windows), account], axis=1)
        position = position_after(
            self.trained.act(seen),
            account[:, 0].astype(np.float64),
            is_continuous=self.trained.is_continuous,
            dead_band=self.trained.around.dead_band,
        )
        return shares_of(position)

    @property
    def policy(self) -> Any:
        """The network that is published; None where the agent stays flat."""
        return None if self.trained.chosen is None else self.model

    @property
    def seen_units(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Center and spread of what a frozen network sees; None where there is none."""
        known = self.embedding
        if known is None or known.center is None or known.spread is None:
            return None
        return known.center, known.spread

    def live_account(self) -> LiveAccount:
        """Returns an account of the published policy, without a position."""
        from rl.training import live_account

        assert self._scale is not None  # noqa: S101 - known once there is a policy
        trained = self.trained
        act = plain_policy(
            trained.published_weights(), is_continuous=trained.is_continuous
        )
        return live_account(
            act, self._scale, trained.around, is_continuous=trained.is_continuous
        )

    def seen_of(self, windows: np.ndarray) -> np.ndarray:
        """Returns what it sees of scaled windows (num_windows, num_inputs) float32."""
        if self.embedding is None:
            return np.asarray(windows[:, -1], np.float32)
        return self.embedding(windows)

    # What is known about it

    @property
    def rounds_done(self) -> int:
        """Checkpoints that an earlier process finished in the attached folder."""
        return self._done

    def describe(self) -> dict[str, dict[str, Any]]:
        """Returns the sections `model`, `training`, `runtime` of the metadata."""
        from networks.branched import describe_network

        known = described.Described.of(
            self.trained,
            self.market,
            self.embedding,
            family=self.parents[0].family if self.parents else "",
        )
        spread = [each.facts() for each in self.trained.best_of_seeds()]
        learned = len(self.seeds) * self.config.agent_steps
        targets = self._data.parts["validation"].targets
        judged = len(self.trained.candidates) * len(targets)
        return {
            "model": {
                **self.identity(),
                "optimizer": "adam",
                "loss": f"{self.config.model}'s own",
                **describe_network(self.model),
                "outputs": self.outputs,
                **known.to_dict(),
            },
            "training": self._trained()
            | {"num_bars": learned + judged, "seeds": spread},
            "runtime": self._runtime,
        }

    @functools.cached_property
    def outputs(self) -> str:
        """What its outputs are, in words."""
        return "shares: LONG minus SHORT is a position between short and long"

    def environment(self) -> dict[str, Any]:
        """Returns versions, threads and kernels: what decides a network's bits."""
        from networks.runtime import environment_key

        return environment_key(self._runtime, num_branches=1)


def shares_of(position: np.ndarray) -> np.ndarray:
    """Returns positions (num_rows,) in [-1, 1] as shares of SHORT, HOLD, LONG."""
    sides = (np.maximum(-position, 0), 1 - np.abs(position), np.maximum(position, 0))
    return np.stack(sides, axis=1)
