"""A step of a pipeline as data, and the kinds of steps that there are.

In: registering kinds, by whoever needs them. Out: the order of steps (`pipelines`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, Self

from files.strict import to_jsonable
from preprocessing.candle_kinds import ComputeFeatures, FillGaps, ValidateData
from preprocessing.row_kinds import Clip, FinalCheck, PairColumns, Scale, Windows
from utils import ConfigError, DataError, did_you_mean


class Kind(Protocol):
    """What a step does; its parameters are the arguments that make it.

    `reads` is what it takes: `candles` (a DataFrame), `rows` or `windows`
    (`FeatureRows`). `learns` says whether `fit` looks at values.
    """

    reads: str
    learns: bool

    def fit(self, rows: Any) -> Mapping[str, Any]:
        """Returns the state, values that strict JSON carries."""

    def apply(self, rows: Any, state: Mapping[str, Any]) -> Any:
        """Returns the rows after the step."""


BUILT_IN: dict[str, Callable[..., Any]] = {
    "validate_data": ValidateData,
    "fill_gaps": FillGaps,
    "compute_features": ComputeFeatures,
    "scale": Scale,
    "clip": Clip,
    "pair_columns": PairColumns,
    "windows": Windows,
    "final_check": FinalCheck,
}
_KINDS = dict(BUILT_IN)
FROM_ABOVE = ("state_columns", "member_outputs")
"""Steps on rows in templates, whose kinds are registered by those who need them."""
CANDLE_STEPS = ("validate_data", "fill_gaps", "compute_features")


def register_kind(name: str, make: Callable[..., Kind]) -> None:
    """Makes steps of a kind possible; one of your own is replaced.

    Args:
        name: The kind, unlike built-in ones.
        make: Returns what acts, of a step's parameters: with `reads` "rows", `learns`,
            `fit(rows) -> state` and `apply(rows, state) -> rows`, of `FeatureRows`.

    Raises:
        ValueError: If the name is that of a built-in kind.
    """
    if name in BUILT_IN:
        raise ValueError(f"name: expected one that is free. Received: {name!r}.")
    _KINDS[name] = make


def kind_names() -> tuple[str, ...]:
    """Returns the kinds that there are."""
    return tuple(_KINDS)


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step, without any code.

    Args:
        kind: What it does; see `kind_names`.
        name: What it is called in this pipeline.
        parameters: How it does it.
        state: What it learned; None before.
    """

    kind: str
    name: str
    parameters: Mapping[str, Any]
    state: Mapping[str, Any] | None = None

    @functools.cached_property
    def acting(self) -> Kind:
        """What does it.

        Raises:
            ConfigError: If there is no such kind, or it has other parameters.
        """
        make = _KINDS.get(self.kind)
        if make is None:
            raise ConfigError(
                f"step {self.name!r}: expected a kind out of {', '.join(_KINDS)}. "
                f"Received: {self.kind!r}.{did_you_mean(self.kind, _KINDS)} Import "
                "what registers it (preprocessing.steps.register_kind)."
            )
        try:
            acting: Kind = make(**self.parameters)
        except TypeError as error:
            raise ConfigError(f"step {self.name!r}: {error}") from error
        return acting

    @property
    def reads(self) -> str:
        """What it takes; known of a template's step before its kind is registered."""
        if self.kind in FROM_ABOVE and self.kind not in _KINDS:
            return "rows"
        return self.acting.reads

    def fitted(self, rows: Any) -> Self:
        """Returns the step with what it learns of rows."""
        return replace(self, state=to_jsonable(self.acting.fit(rows)))

    def run(self, rows: Any) -> Any:
        """Returns the rows after it."""
        if self.state is None:
            raise DataError(f"step {self.name!r}: expected a fitted one. Call fit.")
        return self.acting.apply(rows, self.state)

    def to_dict(self) -> dict[str, Any]:
        """Returns strict JSON values."""
        return {
            "kind": self.kind,
            "name": self.name,
            "parameters": dict(self.parameters),
            "state": None if self.state is None else dict(self.state),
        }
