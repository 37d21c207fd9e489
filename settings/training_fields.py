"""How weights are learned: epochs, batches, updates, rates, when to stop.

In: numbers of the loop. Out: the loop (`models.keras_adapter`), updates and rates
(`networks.optimizers`).
"""

from __future__ import annotations

from dataclasses import dataclass

from settings.part import Part, field

MONITORS = ("val_loss", "val_accuracy", "val_direction_loss")
"""What a training can go by; the last of models fitted on tables alone."""


@dataclass(frozen=True, kw_only=True)
class TrainingFields(Part):
    """Training.

    Attributes:
        epochs: Most epochs; early stopping may end before.
        batch_size: Windows of one training step; sizes differ by at most one.
        windows_per_epoch: Windows of one epoch; None takes every training target once.
        validation_windows: Evenly spaced validation windows that monitor an epoch; None
            takes all. The report always reads all.
        learning_rate: Step size of the optimizer, the highest of a schedule.
        optimizer: Rule of the updates.
        momentum: Share of the last update that `sgd` goes on with.
        weight_decay: Share of each weight, times the learning rate, taken off in each
            update; biases and normalisation excepted. None takes 0.01 for `adamw`,
            nothing for the others.
        gradient_clip_norm: Largest norm of all gradients together; longer ones are
            shortened. None leaves them.
        gradient_accumulation_steps: Steps whose gradients make one update; keeps the
            effective batch where memory asks for a smaller one. None updates in every
            step.
        monitor: What early stopping and the best model go by. `val_direction_loss`, of
            rounds of trees, is the log-loss of LONG against SHORT alone: `val_loss` is
            mostly activity, whose best round need not be that of direction.
        time_limit_minutes: Time that a training may take, of a fold as of the run: it
            ends with the epoch in which that is over, as early stopping ends it, and a
            resumed one has what is left. How many epochs that are depends on the
            machine. None sets no limit.
        early_stopping_patience: Epochs without improvement before training stops.
        early_stopping_min_delta: Change of `monitor` that counts as an improvement for
            the patience. The best model is the best by any margin.
        lr_schedule: Course of the learning rate: constant, multiplied every
            `lr_step_epochs`, down half a cosine until the last epoch, or multiplied
            whenever `val_loss` stands still.
        warmup_epochs: First epochs, in which the rate rises in equal steps; not for
            `plateau`.
        lr_step_epochs: Epochs between the steps of `step`.
        reduce_lr_patience: Epochs without improvement of `val_loss` before `plateau`
            lowers the rate.
        reduce_lr_factor: What `step` and `plateau` multiply the learning rate by.
        min_learning_rate: Floor of the learning rate.
    """

    epochs: int = field(100, ge=1)
    batch_size: int = field(256, ge=1, le=1_000_000)
    windows_per_epoch: int | None = field(None, ge=1)
    validation_windows: int | None = field(20_000, ge=1)
    learning_rate: float = field(1e-3, gt=0, le=10)
    optimizer: str = field("adam", choices=("adam", "adamw", "sgd", "rmsprop"))
    momentum: float = field(0.9, ge=0, lt=1)
    weight_decay: float | None = field(None, ge=0, lt=1)
    gradient_clip_norm: float | None = field(1.0, gt=0)
    gradient_accumulation_steps: int | None = field(None, ge=2, le=10_000)
    monitor: str = field("val_loss", choices=MONITORS)
    time_limit_minutes: float | None = field(None, gt=0)
    early_stopping_patience: int = field(10, ge=1)
    early_stopping_min_delta: float = field(0.0, ge=0)
    lr_schedule: str = field(
        "plateau", choices=("constant", "step", "cosine", "plateau")
    )
    warmup_epochs: int = field(0, ge=0)
    lr_step_epochs: int = field(10, ge=1)
    reduce_lr_patience: int = field(5, ge=1)
    reduce_lr_factor: float = field(0.5, gt=0, lt=1)
    min_learning_rate: float = field(1e-7, gt=0)

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
