"""What a run is: one frozen dataclass, its checks, the names that follow from it.

In: fields, their documentation, what contradicts what, names of files and folders. Out:
one value by itself (`settings.values`), YAML and command line (`settings.sources`),
what names of files say (`settings.names`), reading data. Imports the standard library,
yaml and NumPy (through `utils`) alone, so that a dry run answers at once.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import re
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import yaml

import utils
from files.strict import sha256_json
from settings import values as field_values
from utils import ConfigError

SHORT, HOLD, LONG = range(3)
CLASS_NAMES = ("SHORT", "HOLD", "LONG")
"""Classes by their ids, everywhere; of `direction` they are down, flat and up."""

DATASET_FIELDS = (
    "target",
    "feature_sets",
    "raw_prices",
    "higher_timeframes",
    "future_window",
    "dead_zone_pct",
    "long_tp_pct",
    "long_sl_pct",
    "short_tp_pct",
    "short_sl_pct",
    "tie_policy",
    "max_fill_bars",
)
"""Fields that decide the content of a training file, each for some target."""

TARGETS = ("signal", "direction", "return", "price")
CLASS_TARGETS = ("signal", "direction")
"""Targets whose training files have the three classes as their label."""

NETWORKS = ("lstm", "gru", "cnn", "cnn_lstm", "attention", "ensemble")
"""Model families that are Keras networks."""

TABULAR_MODELS = (
    "random_forest",
    "gradient_boosting",
    "classic_gradient_boosting",
    "lightgbm",
    "logistic",
)
"""Model families that read a window as one row of a table."""

MODELS = NETWORKS + TABULAR_MODELS
"""Built-in model families; `models.families` may know more by the time they train."""

CLASS_MODELS = ("logistic",)
"""Model families that predict classes alone."""

ENSEMBLE_MEMBERS = ("lstm", "cnn", "attention")
"""Families that the ensemble weighs."""

FEATURE_SETS = ("core8", "window_stats", "ray12", "indicators34")
"""Built-in feature sets; `features` may know more by the time they are computed."""


class LossTraits(typing.NamedTuple):
    """What a loss asks of the run that trains with it.

    Attributes:
        targets: The targets it can be used for.
        y_true: What it is compared with: "class" ids, the target's own "value", or the
            simple "return" of the bar after the entry.
        is_sequential: Whether a batch must be consecutive bars, in order.
    """

    targets: tuple[str, ...]
    y_true: str
    is_sequential: bool


_CLASSES = LossTraits(CLASS_TARGETS, "class", False)
_VALUES = LossTraits(("return", "price"), "value", False)
_POSITIONS = LossTraits(("signal", "direction", "return"), "return", True)

LOSSES = {
    "cross_entropy": _CLASSES,
    "focal": _CLASSES,
    "cost_sensitive": _CLASSES,
    "mse": _VALUES,
    "mae": _VALUES,
    "huber": _VALUES,
    "quantile": _VALUES,
    "directional": _VALUES,
    "sharpe": _POSITIONS,
    "return_volatility": _POSITIONS,
}
"""Losses of `losses.create_loss` by name; `combined` takes the traits of its parts."""

LOSS_PRESETS: dict[str, tuple[str, dict[str, float]]] = {
    "regression": ("mse", {}),
    "robust": ("huber", {"delta": 1.0}),
    "financial": ("sharpe", {}),
    "directional": ("directional", {"mse_weight": 0.6}),
    "volatility_aware": ("return_volatility", {"volatility_lambda": 0.3}),
}
"""Losses with options, under names of their own."""

LOSS_NAMES = tuple(dict.fromkeys((*LOSSES, "combined", *LOSS_PRESETS)))

LOSS_OPTIONS = {
    "loss_cost_bps": ("sharpe", "return_volatility"),
    "volatility_lambda": ("return_volatility",),
    "huber_delta": ("huber",),
    "quantile": ("quantile",),
    "directional_mse_weight": ("directional",),
    "focal_gamma": ("focal",),
    "focal_alpha": ("focal",),
    "misclassification_costs": ("cost_sensitive",),
}
"""Fields that belong to a loss, and the losses that read them."""

MAX_POSITIONS = 250_000
"""Most numbers that an attention's positions have: they stand in its description."""

MAX_FILL_BARS = 60
"""Longest run of missing bars that is carried forward, unless a run says another."""


def _ranged(default: Any, **limits: Any) -> Any:
    """A field whose numbers must satisfy `ge`, `gt`, `le`, `lt` or lie in `choices`."""
    return field(default=default, metadata=limits)


@dataclass(frozen=True, kw_only=True)
class Config:
    """One training run, completely: every field is a flag and a YAML key of its name.

    All problems are refused together.

    Raises:
        ConfigError: If a value has the wrong type, is out of range or contradicts
            another.
    """

    # What is trained, and where its files are

    pair: str = "BTCUSDT"
    """Trading pair, as in the file names: letters, digits and single _ or -."""

    timeframe: str = _ranged("1m", is_duration=True)
    """Length of a bar: a whole number and m, h, d or w, from 1m to 1w; 60m is 1h."""

    training_file: str | None = None
    """Path of the training file; None looks for its standard name in `inputs_dir`."""

    inputs_dir: str = "inputs"
    """Folder of the training files."""

    outputs_dir: str = "outputs"
    """Folder that receives runs and models."""

    model: str = "lstm"
    """Model family: lstm, gru, cnn, cnn_lstm, attention, ensemble; random_forest,
    gradient_boosting, classic_gradient_boosting, lightgbm, logistic; or your own by the
    name it is registered with. Fields of another family have no effect."""

    # Features

    feature_sets: tuple[str, ...] = ("core8",)
    """Feature sets, side by side: core8, window_stats, ray12, indicators34, or your
    own by the name it is registered with."""

    raw_prices: bool = False
    """Absolute prices and volumes instead of ratios, in the sets that have them."""

    higher_timeframes: tuple[str, ...] = _ranged((), is_duration=True)
    """Longer timeframes whose features are joined, of the last bar that closed."""

    # Labels

    target: str = _ranged("signal", choices=TARGETS)
    """What is predicted: the SHORT / HOLD / LONG signal of take profit and stop loss,
    or what the close does over `future_window` bars: its direction (same classes), its
    log return, its price. A price is learned as a log return and reported back."""

    future_window: int = _ranged(120, ge=1, le=100_000, aliases=("--horizon",))
    """Bars after the entry that decide the label: take profit or stop loss may be hit
    in them; for the other targets the last one counts."""

    dead_zone_pct: float = _ranged(0.0, ge=0, lt=100)
    """For `direction`: a move of at most this many percent is HOLD."""

    long_tp_pct: float = _ranged(1.0, gt=0, le=100)
    """Take profit of a long, percent above the entry."""

    long_sl_pct: float = _ranged(0.5, gt=0, le=100)
    """Stop loss of a long, percent below the entry."""

    short_tp_pct: float = _ranged(1.0, gt=0, le=100)
    """Take profit of a short, percent below the entry."""

    short_sl_pct: float = _ranged(0.5, gt=0, le=100)
    """Stop loss of a short, percent above the entry."""

    tie_policy: str = _ranged("pessimistic", choices=("pessimistic", "optimistic"))
    """A bar that touches both levels: the stop was first, or the take profit (V3)."""

    max_fill_bars: int = _ranged(MAX_FILL_BARS, ge=0, le=100_000)
    """Longest run of missing bars that is carried forward; a longer one ends the
    segment."""

    # Rows and parts

    start_date: str | None = None
    """First day used (UTC, YYYY-MM-DD); None starts with the file."""

    end_date: str | None = None
    """Last day used, with its last bar (UTC, YYYY-MM-DD); None ends with the file."""

    validation_split: float = _ranged(0.2, gt=0, lt=1)
    """Share of the rows that choose: early stopping, thresholds, calibration."""

    test_split: float = _ranged(0.1, gt=0, lt=1)
    """Share of the rows, the newest ones, that are read once, for the report."""

    embargo_bars: int = _ranged(0, ge=0)
    """Bars left out at the end of a part, beyond the windows and labels kept apart."""

    n_splits: int | None = _ranged(None, ge=1, le=100)
    """Folds that are trained and evaluated before the final model; None for none."""

    cv: str = _ranged(
        "walk_forward", choices=("walk_forward", "rolling", "purged", "blocking")
    )
    """Kind of folds: training from the first row on, training of a fixed length, equal
    test blocks, or disjoint blocks."""

    # Scaling and class balance

    scaler_type: str = _ranged(
        "robust", choices=("robust", "standard", "minmax", "none")
    )
    """Feature scaling, fitted on the training rows."""

    clip_limit: float = _ranged(10.0, gt=0)
    """Scaled features are clipped to plus and minus this many scale units."""

    class_balancing_method: str = _ranged(
        "systematic_undersampling",
        choices=("systematic_undersampling", "class_weights", "none"),
    )
    """How training answers unequal classes; outputs stay at the natural mix. A loss
    that reads no classes balances none."""

    undersampling_min_samples: int = _ranged(50_000, ge=1)
    """No class is thinned below this many training targets."""

    manual_class_weights: tuple[float, ...] | None = _ranged(None, gt=0)
    """Weights of SHORT, HOLD, LONG for `class_weights`; None balances them."""

    # Network

    sequence_length: int = _ranged(120, ge=1, le=100_000)
    """Bars of the past window that the model reads."""

    lstm_units: tuple[int, ...] = _ranged((128, 64, 32), ge=1, le=8192)
    """Units of each LSTM layer, of one direction."""

    gru_units: tuple[int, ...] = _ranged((128, 128, 128), ge=1, le=8192)
    """Units of each layer of `gru`, of one direction."""

    bidirectional: bool = False
    """LSTM and GRU layers read the window forwards and backwards. The ensemble's LSTM
    always does."""

    cnn_filters: tuple[int, ...] = _ranged((32, 64, 128), ge=1, le=8192)
    """Filters of each convolution of `cnn`; each halves the bars."""

    cnn_kernels: tuple[int, ...] = _ranged((3, 5, 7), ge=1, le=1000)
    """Bars that each convolution of `cnn` covers."""

    cnn_lstm_filters: tuple[int, ...] = _ranged((64, 128, 256), ge=1, le=8192)
    """Filters of each convolution of `cnn_lstm`; each halves the bars."""

    cnn_lstm_kernels: tuple[int, ...] = _ranged((3, 3, 3), ge=1, le=1000)
    """Bars that each convolution of `cnn_lstm` covers."""

    cnn_lstm_units: tuple[int, ...] = _ranged((256, 256), ge=1, le=8192)
    """Units of each LSTM layer of `cnn_lstm`, of one direction."""

    cnn_lstm_residual: bool = False
    """Adds the input of each convolution of `cnn_lstm` to its output."""

    cnn_lstm_attention: bool = False
    """`cnn_lstm` attends to all steps of its last LSTM layer, not to the last alone;
    with `attention_heads`."""

    attention_blocks: int = _ranged(2, ge=1, le=100)
    """Blocks of `attention`: self-attention and a feed-forward pair of layers each."""

    attention_heads: int = _ranged(8, ge=1, le=1024)
    """Heads of a self-attention."""

    attention_dim: int = _ranged(128, ge=2, le=8192)
    """Numbers for each bar between the blocks of `attention`."""

    attention_ff_dim: int = _ranged(512, ge=1, le=65_536)
    """Units of the hidden feed-forward layer of a block."""

    attention_norm: str = _ranged("pre", choices=("pre", "post"))
    """Where a block normalises: what it reads, or what it returns."""

    attention_dropout: float = _ranged(0.1, ge=0, lt=1)
    """Share of a block's additions dropped while training."""

    dense_units: tuple[int, ...] = _ranged((32, 16), ge=1, le=65_536)
    """Units of each dense layer; empty for none."""

    conv_batch_norm: bool = True
    """Batch normalisation after each convolution; trains in one branch."""

    dense_batch_norm: bool = False
    """Batch normalisation after each dense layer; trains in one branch."""

    gate_units: int = _ranged(64, ge=1, le=65_536)
    """Hidden units of the ensemble's gate, which weighs its members."""

    dropout_rate: float = _ranged(0.3, ge=0, lt=1)
    """Share of activations dropped after each hidden layer while training."""

    recurrent_dropout: float = _ranged(0.0, ge=0, lt=1)
    """Share of recurrent connections dropped; above 0 it rules out cuDNN."""

    # Trees and linear models

    tabular_inputs: str = _ranged(
        "window_statistics", choices=("window_statistics", "last_row")
    )
    """What such a family reads of a window: mean and standard deviation of each feature
    over its last 5, 15, 60 and all bars, or its last row alone."""

    max_tabular_targets: int | None = _ranged(200_000, ge=1)
    """Most training targets, evenly spaced; None takes all."""

    num_trees: int = _ranged(100, ge=1, le=10_000)
    """Trees of a forest, or most rounds of boosting, each a tree for each class; those
    of the best `monitor` are kept."""

    max_depth: int | None = _ranged(None, ge=1, le=100)
    """Most splits above a leaf. None: 10 in random_forest, 3 in
    classic_gradient_boosting, no limit in the others."""

    max_leaf_nodes: int | None = _ranged(None, ge=2, le=10_000)
    """Most leaves of a tree. None: 6 in gradient_boosting and lightgbm, no limit in the
    others."""

    min_leaf_share: float | None = _ranged(None, gt=0, le=0.5)
    """Least share of the training targets in a leaf. Labels of neighbouring bars
    overlap: 1,000 targets may be eight independent ones. None: 0.05 in boosting, 0.01
    in random_forest."""

    max_inputs_share: float = _ranged(0.3, gt=0, le=1)
    """Share of the inputs that a split may choose from."""

    boosting_rate: float = _ranged(0.1, gt=0, le=1)
    """What each round of boosting is multiplied by."""

    logistic_penalty: float = _ranged(0.2, gt=0, le=1e6)
    """Weight of half the squared coefficients of `logistic` against its mean loss."""

    # Loss

    loss: str | None = _ranged(None, choices=LOSS_NAMES)
    """What training minimises. Of classes: cross_entropy, focal, cost_sensitive. Of a
    return or price: mse, mae, huber, quantile, directional. Of what positions earn
    after costs: sharpe, return_volatility. Of several: combined. Presets: regression
    (mse), robust (huber), financial (sharpe), volatility_aware. None takes
    cross_entropy for classes, huber for a return or price."""

    loss_parts: tuple[str, ...] = _ranged((), choices=LOSS_NAMES)
    """Losses that `combined` adds up."""

    loss_weights: tuple[float, ...] | None = _ranged(None, ge=0)
    """Weight of each of `loss_parts`; made to sum to 1. None weighs them equally."""

    loss_cost_bps: float | None = _ranged(None, ge=0, le=1000)
    """Cost of a change of position by 1 in `sharpe` and `return_volatility`, in basis
    points; None takes `fee_bps` + `slippage_bps`."""

    volatility_lambda: float | None = _ranged(None, ge=0)
    """Weight of the volatility in `return_volatility`; None takes 0.5, 0.3 in
    volatility_aware."""

    huber_delta: float = _ranged(1.0, gt=0)
    """Error from which `huber` is linear, in standard deviations of the target."""

    quantile: float = _ranged(0.5, gt=0, lt=1)
    """The quantile that `quantile` predicts."""

    directional_mse_weight: float = _ranged(0.6, ge=0, le=1)
    """Weight of the squared error in `directional`; the rest is that of the sign."""

    focal_gamma: float = _ranged(2.0, ge=0, le=20)
    """How much `focal` cares less for what is already right; 0 is cross_entropy."""

    focal_alpha: tuple[float, ...] | None = _ranged(None, gt=0)
    """Weights of SHORT, HOLD, LONG in `focal`; None weighs them equally."""

    misclassification_costs: tuple[float, ...] | None = _ranged(None, ge=0)
    """Costs in `cost_sensitive` of predicting SHORT, HOLD, LONG where SHORT is true,
    then where HOLD is, then where LONG is: nine numbers. None: 0 1 2 1 0 1 2 1 0."""

    # Training

    epochs: int = _ranged(100, ge=1)
    """Most epochs; early stopping may end before."""

    batch_size: int = _ranged(256, ge=1, le=1_000_000)
    """Windows of one training step; sizes differ by at most one."""

    windows_per_epoch: int | None = _ranged(None, ge=1)
    """Windows of one epoch; None takes every training target once."""

    validation_windows: int | None = _ranged(20_000, ge=1)
    """Evenly spaced validation windows that monitor an epoch; None takes all. The
    report always reads all."""

    learning_rate: float = _ranged(1e-3, gt=0, le=10)
    """Step size of the optimizer, the highest of a schedule."""

    optimizer: str = _ranged("adam", choices=("adam", "adamw", "sgd", "rmsprop"))
    """Rule of the updates."""

    momentum: float = _ranged(0.9, ge=0, lt=1)
    """Share of the last update that `sgd` goes on with."""

    weight_decay: float | None = _ranged(None, ge=0, lt=1)
    """Share of each weight, times the learning rate, taken off in each update; biases
    and normalisation excepted. None takes 0.01 for `adamw`, nothing for the others."""

    gradient_clip_norm: float | None = _ranged(1.0, gt=0)
    """Largest norm of all gradients together; longer ones are shortened. None leaves
    them."""

    gradient_accumulation_steps: int | None = _ranged(None, ge=2, le=10_000)
    """Steps whose gradients make one update; keeps the effective batch where memory
    asks for a smaller one. None updates in every step."""

    monitor: str = _ranged("val_loss", choices=("val_loss", "val_accuracy"))
    """What early stopping and the best model go by."""

    early_stopping_patience: int = _ranged(10, ge=1)
    """Epochs without improvement before training stops."""

    early_stopping_min_delta: float = _ranged(0.0, ge=0)
    """Change of `monitor` that counts as an improvement for the patience. The best
    model is the best by any margin."""

    lr_schedule: str = _ranged(
        "plateau", choices=("constant", "step", "cosine", "plateau")
    )
    """Course of the learning rate: constant, multiplied every `lr_step_epochs`, down
    half a cosine until the last epoch, or multiplied whenever `val_loss` stands
    still."""

    warmup_epochs: int = _ranged(0, ge=0)
    """First epochs, in which the rate rises in equal steps; not for `plateau`."""

    lr_step_epochs: int = _ranged(10, ge=1)
    """Epochs between the steps of `step`."""

    reduce_lr_patience: int = _ranged(5, ge=1)
    """Epochs without improvement of `val_loss` before `plateau` lowers the rate."""

    reduce_lr_factor: float = _ranged(0.5, gt=0, lt=1)
    """What `step` and `plateau` multiply the learning rate by."""

    min_learning_rate: float = _ranged(1e-7, gt=0)
    """Floor of the learning rate."""

    # Evaluation

    calibration_method: str = _ranged(
        "temperature", choices=("isotonic", "platt", "beta", "temperature", "none")
    )
    """Map from the model's probabilities to calibrated ones, fitted on validation."""

    threshold_objective: str = _ranged(
        "net_return", choices=("net_return", "mean_net_return", "sharpe")
    )
    """What the thresholds of SHORT and LONG maximise on validation."""

    turnover_penalty_bps: float = _ranged(0.0, ge=0, le=1000)
    """Basis points a side charged on top of the costs while thresholds are searched."""

    threshold_min_trades: int = _ranged(30, ge=1)
    """Fewest validation trades of a pair of thresholds that may be chosen."""

    fee_bps: float = _ranged(10.0, ge=0, le=1000)
    """Fee of a side of a trade, in basis points of the amount."""

    slippage_bps: float = _ranged(5.0, ge=0, le=1000)
    """Slippage of a side of a trade, in basis points of the amount."""

    position_sizing: str = _ranged("full", choices=("full", "kelly", "volatility"))
    """Amount of a trade: all equity, fractional Kelly, or a volatility target."""

    kelly_fraction: float = _ranged(0.25, gt=0, le=1)
    """Share of the full Kelly size that `kelly` trades; at most all equity."""

    volatility_target_pct: float = _ranged(2.0, gt=0, le=1000)
    """Daily volatility that `volatility` aims at, in percent; at most all equity."""

    baseline_model: bool = True
    """Trains a gradient-boosting model beside, for comparison in the report."""

    importance_windows: int | None = _ranged(1000, ge=10, le=1_000_000)
    """Evenly spaced validation windows on which each feature is shuffled, to measure
    what the model loses without it; fewer with many features. None measures nothing."""

    # Machine

    seed: int = _ranged(42, ge=0, lt=2**32)
    """Seed of weights, dropout and the order of windows."""

    num_threads: int | None = _ranged(None, ge=1, le=1024)
    """CPU threads; None takes the cores this process may use."""

    num_branches: int | None = _ranged(None, ge=1, le=1024)
    """Parts of a batch computed side by side on CPU; None takes the fastest: one for
    each thread, for each two where a network keeps two busy, one where it must see the
    whole batch."""

    deterministic_ops: bool = False
    """Asks TensorFlow for deterministic kernels: equal bits also on a GPU, where it
    costs speed. On a CPU runs are equal without it; it gives other bits at no cost."""

    mixed_precision: bool = False
    """Computes in float16 on a GPU; ignored on a CPU, where it is slower."""

    # Output

    save_scaler_pickle: bool = True
    """Also writes the scaler as `.pkl`, for other programs; it is never read here."""

    tensorboard: bool = True
    """Writes TensorBoard logs."""

    verbose_logging: bool = False
    """Logs details of each step."""

    def __post_init__(self) -> None:
        """Converts lists and whole numbers, then refuses all problems together."""
        problems = []
        for name, annotation in field_types().items():
            try:
                value = field_values.convert(getattr(self, name), annotation)
                if FIELDS[name].metadata.get("is_duration"):
                    value = field_values.one_spelling(value)
                object.__setattr__(self, name, value)
                field_values.check_limits(value, FIELDS[name].metadata)
            except ValueError as error:
                problems.append(f"{name}: {error}")
                # Lets the checks below look at the other fields.
                object.__setattr__(self, name, FIELDS[name].default)
        problems += self._contradictions()
        if problems:
            raise ConfigError(problem_list(problems))

    def _contradictions(self) -> list[str]:
        problems = []
        if not re.fullmatch(r"[A-Za-z0-9]+([_-][A-Za-z0-9]+)*", self.pair):
            problems.append(
                "pair: expected letters and digits, joined by single _ or -. "
                f"Received: {self.pair!r}"
            )
        elif not 5 <= len(self.pair) <= 40:
            problems.append(
                "pair: expected base and quote, 5 to 40 characters, such as 'BTCUSDT'. "
                f"Received: {self.pair!r}"
            )
        try:
            if not 60 <= utils.duration_seconds(self.timeframe) <= 604_800:
                problems.append(
                    "timeframe: expected between 1m and 1w. "
                    f"Received: {self.timeframe!r}"
                )
        except ValueError as error:
            problems.append(f"timeframe: {error}")
        problems += self._feature_problems()
        problems += self._loss_problems()
        if self.dead_zone_pct and self.target != "direction":
            problems.append(
                "dead_zone_pct: expected target 'direction' with it. "
                f"Received: target {self.target!r}"
            )
        if self.validation_split + self.test_split >= 1:
            problems.append(
                "validation_split, test_split: expected a sum below 1, so that "
                "training rows remain. "
                f"Received: {self.validation_split} + {self.test_split}"
            )
        problems += self._model_problems()
        problems += self._network_problems()
        if self.manual_class_weights and len(self.manual_class_weights) != 3:
            problems.append(
                "manual_class_weights: expected three numbers (SHORT, HOLD, LONG). "
                f"Received: {self.manual_class_weights}"
            )
        if self.manual_class_weights and self.class_balancing_method != "class_weights":
            problems.append(
                "manual_class_weights: expected class_balancing_method 'class_weights' "
                f"with them. Received: {self.class_balancing_method!r}"
            )
        if self.position_sizing == "volatility" and self.sequence_length < 10:
            problems.append(
                "position_sizing: expected a sequence_length of at least 10 to measure "
                f"volatility in a window. Received: {self.sequence_length}"
            )
        if self.position_sizing == "kelly" and self.target not in CLASS_TARGETS:
            problems.append(
                "position_sizing: expected 'full' or 'volatility' for a target that is "
                "a number, because Kelly sizes need probabilities. Received: 'kelly' "
                f"with target {self.target!r}"
            )
        if self.min_learning_rate > self.learning_rate:
            problems.append(
                "min_learning_rate: expected at most learning_rate. "
                f"Received: {self.min_learning_rate} > {self.learning_rate}"
            )
        if self.warmup_epochs and self.lr_schedule == "plateau":
            problems.append(
                "warmup_epochs: expected lr_schedule constant, step or cosine with "
                "them. Received: 'plateau'"
            )
        elif self.warmup_epochs >= self.epochs:
            problems.append(
                "warmup_epochs: expected fewer than epochs. "
                f"Received: {self.warmup_epochs} of {self.epochs}"
            )
        return problems + self._date_problems()

    def _model_problems(self) -> list[str]:
        problems = []
        # A family of one's own has any name, but none that reads like a typing error.
        near = difflib.get_close_matches(self.model, MODELS, n=1, cutoff=0.8)
        if not re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)*", self.model):
            problems.append(
                f"model: expected one of {', '.join(MODELS)}, or a name of your own of "
                "small letters and digits, joined by single _. "
                f"Received: {self.model!r}"
            )
        elif near and near != [self.model]:
            problems.append(
                f"model: expected one of {', '.join(MODELS)}, or a name of your "
                f"own that is less alike. Received: {self.model!r}."
                f" Did you mean {near[0]!r}?"
            )
        if self.model in CLASS_MODELS and self.target not in CLASS_TARGETS:
            problems.append(
                f"model: expected one that predicts a number, for target "
                f"{self.target!r}. Received: {self.model!r}, which predicts classes"
            )
        if self.model in TABULAR_MODELS and self.loss is not None:
            problems.append(
                f"loss: expected one of {', '.join(NETWORKS)} as model with it. "
                f"Received: model {self.model!r}, whose library has its own loss"
            )
        return problems

    def _network_problems(self) -> list[str]:
        """Returns what is wrong with the chosen family; other families' fields rest."""
        families = ENSEMBLE_MEMBERS if self.model == "ensemble" else (self.model,)
        problems = [
            f"{name}_units: expected at least one layer. Received: ()"
            for name in families
            if getattr(self, f"{name}_units", (1,)) == ()
        ]
        for name in families:
            filters = getattr(self, f"{name}_filters", None)
            kernels = getattr(self, f"{name}_kernels", None)
            if filters is None or kernels is None:
                continue
            if not filters or len(filters) != len(kernels):
                problems.append(
                    f"{name}_filters, {name}_kernels: expected one kernel for each "
                    f"convolution, at least one. Received: {filters} and {kernels}"
                )
            elif self.sequence_length < 2 ** len(filters):
                problems.append(
                    f"sequence_length: expected at least {2 ** len(filters)} for "
                    f"{len(filters)} convolutions, each of which halves the bars. "
                    f"Received: {self.sequence_length}"
                )
        if "attention" in families:
            problems += self._attention_problems()
        elif self.model == "cnn_lstm" and self.cnn_lstm_attention:
            if self.cnn_lstm_units and self.cnn_lstm_units[-1] % self.attention_heads:
                problems.append(
                    "cnn_lstm_units: expected a multiple of attention_heads in the "
                    f"last layer. Received: {self.cnn_lstm_units} for "
                    f"{self.attention_heads} heads"
                )
        return problems

    def _attention_problems(self) -> list[str]:
        problems = []
        if self.attention_dim % self.attention_heads or self.attention_dim % 2:
            problems.append(
                "attention_dim: expected an even multiple of attention_heads. "
                f"Received: {self.attention_dim} for {self.attention_heads} heads"
            )
        numbers = self.sequence_length * self.attention_dim
        if numbers > MAX_POSITIONS:
            problems.append(
                "sequence_length, attention_dim: expected a product of at most "
                f"{MAX_POSITIONS}, because the saved network names every position. "
                f"Received: {numbers}"
            )
        return problems

    def _loss_problems(self) -> list[str]:
        problems = self._combination_problems()
        for name in self.used_losses:
            if name in LOSSES and self.target not in LOSSES[name].targets:
                fitting = [k for k, v in LOSSES.items() if self.target in v.targets]
                problems.append(
                    f"loss: expected one for target {self.target!r}: "
                    f"{', '.join(fitting)}. Received: {name!r}"
                )
        for field_name, readers in LOSS_OPTIONS.items():
            value = getattr(self, field_name)
            if value == FIELDS[field_name].default or set(readers) & {
                *self.used_losses
            }:
                continue
            problems.append(
                f"{field_name}: expected loss {' or '.join(readers)} with it. "
                f"Received: loss {self.resolved_loss!r}"
            )
        for field_name, count in (("focal_alpha", 3), ("misclassification_costs", 9)):
            given = getattr(self, field_name)
            if given is not None and len(given) != count:
                problems.append(
                    f"{field_name}: expected {count} numbers. Received: {given}"
                )
        costs = self.misclassification_costs
        if costs is not None and any(costs[::4]):
            problems.append(
                "misclassification_costs: expected 0 for a right prediction, as first, "
                f"fifth and ninth number. Received: {costs}"
            )
        if self.loss_traits.y_true == "class":
            return problems
        if self.monitor == "val_accuracy":
            problems.append(
                "monitor: expected 'val_loss' with a loss that reads no classes. "
                f"Received: 'val_accuracy' with loss {self.resolved_loss!r}"
            )
        if self.class_balancing_method == "class_weights":
            problems.append(
                "class_balancing_method: expected 'none' with a loss that reads no "
                f"classes. Received: 'class_weights' with loss {self.resolved_loss!r}"
            )
        return problems

    def _combination_problems(self) -> list[str]:
        problems, parts = [], self.loss_parts
        if self.loss != "combined":
            for name in ("loss_parts", "loss_weights"):
                if getattr(self, name):
                    problems.append(
                        f"{name}: expected loss 'combined' with it. "
                        f"Received: loss {self.resolved_loss!r}"
                    )
            return problems
        if len(set(parts)) < max(2, len(parts)) or "combined" in parts:
            problems.append(
                "loss_parts: expected two losses or more, each once, none of them "
                f"'combined'. Received: {parts}"
            )
        kinds = {LOSSES[name].y_true for name in self.used_losses if name in LOSSES}
        if len(kinds) > 1:
            problems.append(
                "loss_parts: expected losses that are compared with the same numbers "
                f"(one of {' or '.join(sorted(kinds))}). Received: {parts}"
            )
        if self.loss_weights is not None and (
            len(self.loss_weights) != len(parts) or not sum(self.loss_weights)
        ):
            problems.append(
                f"loss_weights: expected a number for each of loss_parts {parts}, one "
                f"above 0. Received: {self.loss_weights}"
            )
        return problems

    def _feature_problems(self) -> list[str]:
        problems = []
        if not self.feature_sets:
            problems.append("feature_sets: expected at least one name. Received: none")
        for name in ("feature_sets", "higher_timeframes"):
            values = getattr(self, name)
            if len(set(values)) < len(values):
                problems.append(f"{name}: expected each once. Received: {values}")
        for name in self.feature_sets:
            # A set of one's own has any name, but none that reads like a typing error.
            near = difflib.get_close_matches(name, FEATURE_SETS, n=1, cutoff=0.8)
            if not re.fullmatch(r"[A-Za-z0-9]+(_[A-Za-z0-9]+)*", name):
                problems.append(
                    "feature_sets: expected names of letters and digits, joined by "
                    f"single _. Received: {name!r}"
                )
            elif near and near != [name]:
                problems.append(
                    f"feature_sets: expected {', '.join(FEATURE_SETS)}, or a name of "
                    f"your own that is less alike. Received: {name!r}. "
                    f"Did you mean {near[0]!r}?"
                )
        for text in self.higher_timeframes:
            try:
                seconds, own = map(utils.duration_seconds, (text, self.timeframe))
            except ValueError as error:
                problems.append(f"higher_timeframes: {error}")
                continue
            if seconds <= own or seconds % own or seconds > 604_800:
                problems.append(
                    "higher_timeframes: expected whole multiples of timeframe "
                    f"{self.timeframe}, at most 1w. Received: {text!r}"
                )
        return problems

    def _date_problems(self) -> list[str]:
        problems, days = [], {}
        for name in ("start_date", "end_date"):
            text = getattr(self, name)
            if text is None:
                continue
            try:
                days[name] = date.fromisoformat(text)
                if len(text) != 10 or not 1970 <= days[name].year < 2200:
                    raise ValueError
            except ValueError:
                problems.append(
                    f"{name}: expected YYYY-MM-DD, 1970 to 2199. Received: {text!r}"
                )
        if len(days) == 2 and days["start_date"] > days["end_date"]:
            problems.append(
                "start_date: expected not after end_date. "
                f"Received: {self.start_date} > {self.end_date}"
            )
        return problems

    # Derived values: properties, so that they cannot disagree with their source

    @property
    def bar_seconds(self) -> int:
        """Seconds of one bar."""
        return utils.duration_seconds(self.timeframe)

    @property
    def num_outputs(self) -> int:
        """Numbers that a network gives for a window: one a class, or the forecast."""
        return len(CLASS_NAMES) if self.target in CLASS_TARGETS else 1

    @property
    def monitor_mode(self) -> str:
        """Whether `monitor` is better when it is larger: `max` or `min`."""
        return "max" if self.monitor == "val_accuracy" else "min"

    @property
    def tag(self) -> str:
        """Names this run's labels in artifact files: `ETHUSDT_FW120_SL050_TP100`."""
        parts = [f"{key}{value:03d}" for key, value in self._label_numbers().items()]
        return "_".join([self.pair, *parts, *self._label_words()])

    @property
    def expected_filename(self) -> str:
        """Standard name of the training file (design.md, section 3)."""
        parts = [f"{key}-{value:03d}" for key, value in self._label_numbers().items()]
        words = [self.pair + f"_TF-{self.timeframe}", *parts, *self._label_words()]
        return "__".join([*words, "training_ready.feather"])

    @property
    def expected_path(self) -> Path:
        """Where the training file is expected: explicit, or by its standard name."""
        if self.training_file is not None:
            return Path(self.training_file)
        return Path(self.inputs_dir) / self.expected_filename

    @property
    def model_dir(self) -> Path:
        """Folder that holds this pair's published models of this family."""
        return Path(self.outputs_dir) / "models" / self.pair / self.model

    @property
    def runs_dir(self) -> Path:
        """Folder of the runs that are not published yet."""
        return Path(self.outputs_dir) / "runs"

    @property
    def dataset_parameters(self) -> dict[str, Any]:
        """The fields that decide the content of this run's training file, by name."""
        unused = {"dead_zone_pct"} if self.target != "direction" else set()
        if self.target != "signal":
            unused |= {"long_tp_pct", "long_sl_pct", "short_tp_pct", "short_sl_pct"}
            unused |= {"tie_policy"}
        names = ("pair", "timeframe", *DATASET_FIELDS)
        return {name: getattr(self, name) for name in names if name not in unused}

    def _label_numbers(self) -> dict[str, int]:
        numbers = {"FW": self.future_window}
        long = {"SL": self.long_sl_pct, "TP": self.long_tp_pct}
        short = {"SSL": self.short_sl_pct, "STP": self.short_tp_pct}
        if self.target == "signal":
            numbers |= {key: to_hundredths(value) for key, value in long.items()}
            if list(long.values()) != list(short.values()):
                numbers |= {key: to_hundredths(value) for key, value in short.items()}
        if self.max_fill_bars != MAX_FILL_BARS:
            numbers["FILL"] = self.max_fill_bars
        return numbers

    def _label_words(self) -> list[str]:
        """Returns what is not default, in the form that file names have."""
        words = {
            "TIE": self.tie_policy if self.target == "signal" else "pessimistic",
            "TARGET": self.target,
            "DZ": f"{self.dead_zone_pct:g}",
            "F": "+".join(self.feature_sets),
            "RAW": "prices" if self.raw_prices else "",
            "HTF": "+".join(self.higher_timeframes),
        }
        usual = {"TIE": "pessimistic", "TARGET": "signal", "DZ": "0", "F": "core8"}
        return [
            f"{key}-{word}" for key, word in words.items() if word != usual.get(key, "")
        ]

    @property
    def resolved_loss(self) -> str:
        """The loss by its name; the target's own where none is asked for."""
        default = "cross_entropy" if self.target in CLASS_TARGETS else "huber"
        return self.loss or default

    @property
    def used_losses(self) -> tuple[str, ...]:
        """The losses that are computed, presets by the name of their loss."""
        names = self.loss_parts if self.loss == "combined" else (self.resolved_loss,)
        return tuple(LOSS_PRESETS.get(name, (name, {}))[0] for name in names)

    @property
    def loss_traits(self) -> LossTraits:
        """What the loss asks of the run."""
        known = [LOSSES[name] for name in self.used_losses if name in LOSSES]
        return known[0] if known else _CLASSES

    @property
    def class_balancing(self) -> str:
        """The class balancing in force: none with a loss that reads no classes."""
        is_read = self.loss_traits.y_true == "class"
        return self.class_balancing_method if is_read else "none"

    # To and from other forms

    def to_dict(self) -> dict[str, Any]:
        """Returns every field by name; tuples as lists, ready for YAML and JSON."""
        values = dataclasses.asdict(self)
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}

    def to_yaml(self) -> str:
        """Returns YAML that `--config` reads back to an equal `Config`."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False)

    def digest(self) -> str:
        """Returns 64 hexadecimal digits that name this configuration."""
        return sha256_json(self.to_dict())

    def replace(self, **changes: Any) -> Config:
        """Returns a checked copy with `changes`."""
        return build_config(self.to_dict() | changes)


FIELDS = {item.name: item for item in dataclasses.fields(Config)}
"""Every field of a run by its name, in order."""


@functools.cache
def field_types() -> dict[str, Any]:
    """Returns the type of each field."""
    hints = typing.get_type_hints(Config)
    return {name: hints[name] for name in FIELDS}


def to_hundredths(percent: float) -> int:
    """Returns a percentage as whole hundredths for file names: 0.57 -> 57."""
    return round(percent * 100)


def build_config(values: Mapping[str, Any]) -> Config:
    """Returns a `Config` from names and values; refuses unknown names with the rest.

    Raises:
        ConfigError: Listing every unknown name and every impossible value.
    """
    unknown = [_unknown(name, FIELDS) for name in values if name not in FIELDS]
    known = {name: value for name, value in values.items() if name in FIELDS}
    try:
        config = Config(**known)
    except ConfigError as error:
        if not unknown:
            raise
        raise ConfigError(problem_list(unknown, f"{error}")) from None
    if unknown:
        raise ConfigError(problem_list(unknown))
    return config


def _unknown(name: str, known: Mapping[str, Any]) -> str:
    return f"unknown field {name!r}." + utils.did_you_mean(name, known)


def problem_list(problems: Sequence[str], rest: str = "") -> str:
    """Returns `problems` and the problems that the message `rest` lists, as one."""
    lines = [f"  - {problem}" for problem in problems]
    lines += [line for line in rest.splitlines() if line.startswith("  - ")]
    return "the configuration cannot be run:\n" + "\n".join(lines)
