"""The registry under the names that system 001 promised: `ModelRegistry`.

In: its method names. Out: what they do (`registry`).
"""

from __future__ import annotations

import os
from typing import Any

from artifacts.entries import ModelMetadata, ModelSummary
from artifacts.grades import PerformanceGrade
from artifacts.registry import Registry
from utils import RefusedArtifactError

__all__ = ["ModelMetadata", "ModelRegistry", "PerformanceGrade"]


class ModelRegistry:
    """Registered models, by the method names of system 001.

    Args:
        root: The folder of outputs.
    """

    def __init__(self, root: str | os.PathLike[str] = "outputs") -> None:
        self.registry = Registry(root)

    def register_model(
        self, artifact: str | os.PathLike[str], **options: Any
    ) -> ModelMetadata:
        """Registers a published run; see `Registry.register`."""
        return self.registry.register(artifact, **options)

    def get_model(self, model_id: str) -> ModelMetadata:
        """Returns a model by its id or alias."""
        return self.registry.get(model_id)

    def list_models(
        self,
        model_type: str | None = None,
        performance_grade: PerformanceGrade | str | None = None,
        limit: int | None = None,
    ) -> list[ModelSummary]:
        """Returns models of a family and at least a grade, the newest first."""
        grade = None if performance_grade is None else str(performance_grade)
        return self.registry.list(family=model_type, least_grade=grade, limit=limit)

    def get_model_dependencies(self, model_id: str) -> list[ModelSummary]:
        """Returns everything that a model was made from."""
        return self.registry.dependencies(model_id)

    def validate_model_integrity(self, model_id: str) -> bool:
        """Whether every file of a model and of its ancestors is what it was.

        Raises:
            RefusedArtifactError: If one is not; it says which.
        """
        if problems := self.registry.validate(model_id):
            raise RefusedArtifactError("\n".join(problems))
        return True

    def archive_model(self, model_id: str) -> ModelMetadata:
        """Takes a model out of use."""
        return self.registry.archive(model_id)

    def delete_model(self, model_id: str) -> ModelMetadata:
        """Removes a model that nothing depends on."""
        return self.registry.delete(model_id)

    def get_best_model(self, model_type: str, metric: str = "log_loss") -> ModelSummary:
        """Returns the best model of a family by a metric, in its own direction."""
        return self.registry.best(metric, family=model_type)

    def export_model_info(self, model_id: str) -> dict[str, Any]:
        """Returns all that the registry keeps of a model, ready for JSON."""
        return self.registry.get(model_id).to_dict()
