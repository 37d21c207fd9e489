"""How weights are learned: epochs, batches, updates, rates, when to stop.

In: numbers of the loop. Out: the loop (`models.keras_adapter`), updates and rates
(`networks.optimizers`).
"""

from __future__ import annotations

from dataclasses import dataclass

from settings.part import Part, field


@dataclass(frozen=True, kw_only=True)
class TrainingFields(Part):
    """Training."""

    epochs: int = field(100, "Most epochs; early stopping may end before.", ge=1)
    batch_size: int = field(
        256,
        "Windows of one training step; sizes differ by at most one.",
        ge=1,
        le=1_000_000,
    )
    windows_per_epoch: int | None = field(
        None, "Windows of one epoch; None takes every training target once.", ge=1
    )
    validation_windows: int | None = field(
        20_000,
        """Evenly spaced validation windows that monitor an epoch; None takes all. The
        report always reads all.""",
        ge=1,
    )
    learning_rate: float = field(
        1e-3, "Step size of the optimizer, the highest of a schedule.", gt=0, le=10
    )
    optimizer: str = field(
        "adam", "Rule of the updates.", choices=("adam", "adamw", "sgd", "rmsprop")
    )
    momentum: float = field(
        0.9, "Share of the last update that `sgd` goes on with.", ge=0, lt=1
    )
    weight_decay: float | None = field(
        None,
        """Share of each weight, times the learning rate, taken off in each update;
        biases and normalisation excepted. None takes 0.01 for `adamw`, nothing for the
        others.""",
        ge=0,
        lt=1,
    )
    gradient_clip_norm: float | None = field(
        1.0,
        """Largest norm of all gradients together; longer ones are shortened. None
        leaves them.""",
        gt=0,
    )
    gradient_accumulation_steps: int | None = field(
        None,
        """Steps whose gradients make one update; keeps the effective batch where memory
        asks for a smaller one. None updates in every step.""",
        ge=2,
        le=10_000,
    )
    monitor: str = field(
        "val_loss",
        "What early stopping and the best model go by.",
        choices=("val_loss", "val_accuracy"),
    )
    early_stopping_patience: int = field(
        10, "Epochs without improvement before training stops.", ge=1
    )
    early_stopping_min_delta: float = field(
        0.0,
        """Change of `monitor` that counts as an improvement for the patience. The best
        model is the best by any margin.""",
        ge=0,
    )
    lr_schedule: str = field(
        "plateau",
        """Course of the learning rate: constant, multiplied every `lr_step_epochs`,
        down half a cosine until the last epoch, or multiplied whenever `val_loss`
        stands still.""",
        choices=("constant", "step", "cosine", "plateau"),
    )
    warmup_epochs: int = field(
        0,
        "First epochs, in which the rate rises in equal steps; not for `plateau`.",
        ge=0,
    )
    lr_step_epochs: int = field(10, "Epochs between the steps of `step`.", ge=1)
    reduce_lr_patience: int = field(
        5,
        "Epochs without improvement of `val_loss` before `plateau` lowers the rate.",
        ge=1,
    )
    reduce_lr_factor: float = field(
        0.5, "What `step` and `plateau` multiply the learning rate by.", gt=0, lt=1
    )
    min_learning_rate: float = field(1e-7, "Floor of the learning rate.", gt=0)

    @property
    def monitor_mode(self) -> str:
        """Whether `monitor` is better when it is larger: `max` or `min`."""
        return "max" if self.monitor == "val_accuracy" else "min"

    def problems(self) -> list[str]:
        """Returns what contradicts in the course of the learning rate."""
        problems = []
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
        return problems
