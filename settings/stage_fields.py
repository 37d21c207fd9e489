"""What a run builds on: models that were trained before it.

In: the parents of a run. Out: opening them (`models.parents`), which rows they leave to
it (`preprocessing.inheritance`).
"""

from __future__ import annotations

from dataclasses import dataclass

from settings.part import Part, field


@dataclass(frozen=True, kw_only=True)
class StageFields(Part):
    """Stages that build on others.

    Attributes:
        base_model: Trained network whose embedding an agent sees and a hybrid starts
            from: a folder, or a registered model such as
            `cnn_lstm/ETHUSDT-1h-signal@champion`.
        rl_model: Trained agent that a hybrid starts from, named alike.
        members: Trained models that `stack` weighs, named alike.
        stack_weights: How much each of them counts: all alike, those of the least loss
            on validation as far as they last, or chosen one after another.
        hybrid_class_weight: Weight of the classes' loss in a hybrid's; the rest is that
            of its position.
        hybrid_frozen_epochs: First epochs of a hybrid, in which its heads learn alone;
            then all layers do.
    """

    base_model: str | None = None
    rl_model: str | None = None
    members: tuple[str, ...] = ()
    stack_weights: str = field("convex", choices=("convex", "equal", "greedy"))
    hybrid_class_weight: float = field(0.5, ge=0, le=1)
    hybrid_frozen_epochs: int = field(3, ge=0)

    def problems(self) -> list[str]:
        """Returns which member is named twice."""
        twice = [name for name in self.members if self.members.count(name) > 1]
        if not twice:
            return []
        return [f"members: expected each once. Received: {twice[0]!r} twice"]

    def stage_problems(
        self, model: str, *, has_folds: bool, loss: str | None
    ) -> list[str]:
        """Returns what does not suit a model that is made from trained ones."""
        if model != "stack":
            return []
        problems = []
        if has_folds:
            problems.append(
                "n_splits, cv_test_days: expected none with model 'stack', whose "
                "members have learned from the rows that folds are tested on"
            )
        if loss is not None:
            problems.append(
                f"loss: expected none with model 'stack'. Received: {loss!r}. Its "
                "weights are learned by log-loss, of numbers by squared error."
            )
        return problems
