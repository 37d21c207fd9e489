"""What a run builds on: models that were trained before it.

In: the parents of a run. Out: opening them (`models.parents`), which rows they leave to
it (`preprocessing.inheritance`).
"""

from __future__ import annotations

from dataclasses import dataclass

from settings.part import Part


@dataclass(frozen=True, kw_only=True)
class StageFields(Part):
    """Stages that build on others.

    Attributes:
        base_model: Trained network whose embedding an agent sees and a hybrid starts
            from: a folder, or a registered model such as
            `cnn_lstm/ETHUSDT-1h-signal@champion`.
        rl_model: Trained agent that a hybrid starts from, named alike.
        members: Trained models that `stack` weighs, named alike.
    """

    base_model: str | None = None
    rl_model: str | None = None
    members: tuple[str, ...] = ()

    def problems(self) -> list[str]:
        """Returns which member is named twice."""
        twice = [name for name in self.members if self.members.count(name) > 1]
        if not twice:
            return []
        return [f"members: expected each once. Received: {twice[0]!r} twice"]
