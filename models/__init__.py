"""Every model family behind one face: `fit`, `predict_proba`, `save`, `load`."""

from models.adapter import ModelAdapter
from models.families import (
    create_adapter,
    load_adapter,
    register_family,
    register_network,
)
from models.keras_adapter import KerasAdapter
from models.sklearn_adapter import SklearnAdapter
from models.tabular_adapter import TabularAdapter

__all__ = [
    "KerasAdapter",
    "ModelAdapter",
    "SklearnAdapter",
    "TabularAdapter",
    "create_adapter",
    "load_adapter",
    "register_family",
    "register_network",
]
