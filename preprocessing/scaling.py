"""`FeatureScaler` centers, scales and clips features; `TargetScaler` a number's units.

In: the arithmetic and its strict-JSON form. Out: which rows are the training rows
(`data_loader`), files (`artifacts.run_folder`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from utils import DataError

KINDS = ("robust", "standard", "minmax", "none")


@dataclass(frozen=True, kw_only=True)
class FeatureScaler:
    """`clip((x - center) / scale)`, column by column; learned from training rows.

    Args:
        kind: `robust` (median, interquartile range), `standard` (mean, deviation),
            `minmax` (minimum, range) or `none`.
        feature_names: Name of each column.
        center: (num_features,) subtracted first.
        scale: (num_features,) divided by; 1 where the column is constant.
        clip_limit: Limit of the result's absolute value.
        num_rows: Rows it was fitted on.
    """

    kind: str
    feature_names: tuple[str, ...]
    center: tuple[float, ...]
    scale: tuple[float, ...]
    clip_limit: float
    num_rows: int

    @classmethod
    def fit(
        cls, features: np.ndarray, names: Sequence[str], *, kind: str, clip_limit: float
    ) -> FeatureScaler:
        """Learns from `features` (num_rows, num_features), one column at a time."""
        center, scale = learn_scales(features, kind)
        return cls(
            kind=kind,
            feature_names=tuple(names),
            center=tuple(center),
            scale=tuple(scale),
            clip_limit=clip_limit,
            num_rows=len(features),
        )

    def transform(
        self, features: np.ndarray, *, out: np.ndarray | None = None
    ) -> np.ndarray:
        """Returns scaled float32 features of the same shape; `out` may be the input."""
        result = np.empty(features.shape, np.float32) if out is None else out
        scale_columns(features, self.center, self.scale, out=result)
        clip_columns(result, self.clip_limit, out=result)
        return result

    def to_dict(self) -> dict[str, Any]:
        """Returns values that strict JSON carries bit for bit."""
        values = vars(self).items()
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values}

    def to_sklearn(self) -> Any:
        """Returns the fitted scikit-learn scaler of the same kind, which does not clip.

        Returns None for `none`.
        """
        from sklearn.preprocessing import MinMaxScaler, RobustScaler, StandardScaler

        center, scale = np.array(self.center), np.array(self.scale)
        if self.kind == "robust":
            fitted = RobustScaler()
            fitted.center_, fitted.scale_ = center, scale
        elif self.kind == "standard":
            fitted = StandardScaler()
            fitted.mean_, fitted.scale_, fitted.var_ = center, scale, scale**2
            fitted.n_samples_seen_ = self.num_rows
        elif self.kind == "minmax":
            fitted = MinMaxScaler()
            fitted.data_min_, fitted.data_max_ = center, center + scale
            fitted.data_range_, fitted.scale_ = scale, 1.0 / scale
            fitted.min_ = -center / scale
            fitted.n_samples_seen_ = self.num_rows
        else:
            return None
        fitted.n_features_in_ = len(center)
        return fitted

    def export(self, **parameters: Any) -> bytes:
        """Returns a pickle for other programs; this project never reads one.

        A dictionary: `scaler` (scikit-learn's), `scaler_type`, `feature_names`,
        `clip_limit`, and `config_params` with the given `parameters`.
        """
        import pickle  # noqa: S403

        content = {
            "scaler": self.to_sklearn(),
            "scaler_type": self.kind,
            "feature_names": list(self.feature_names),
            "clip_limit": self.clip_limit,
            "config_params": parameters,
        }
        return pickle.dumps(content)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> FeatureScaler:
        """Rebuilds a scaler from `to_dict`.

        Raises:
            DataError: If a value is missing or does not fit the others.
        """
        values = dict(values)
        names = ("feature_names", "center", "scale")
        lists: list[Any] = [values.get(name) for name in names]
        if not (
            set(values) == {item.name for item in fields(cls)}
            and values["kind"] in KINDS
            and all(isinstance(items, list | tuple) for items in lists)
            and all(isinstance(name, str) for name in values["feature_names"])
            and len({len(items) for items in lists}) == 1
            and all(map(_is_finite, [*values["center"], *values["scale"]]))
            and all(scale > 0 for scale in values["scale"])
            and _is_finite(values["clip_limit"])
            and values["clip_limit"] > 0
            and type(values["num_rows"]) is int
            and values["num_rows"] >= 0
        ):
            raise DataError(
                "expected a scaler with one finite center and one finite, positive "
                f"scale for each feature. Received: {values!r:.300}"
            )
        numbers = {name: tuple(map(float, values[name])) for name in names[1:]}
        limit = {"clip_limit": float(values["clip_limit"])}
        return cls(
            **values | numbers | limit | {"feature_names": tuple(values[names[0]])}
        )


@dataclass(frozen=True, kw_only=True)
class TargetScaler:
    """`(value - center) / scale` of the number a regression learns, and back.

    Mean and standard deviation: an output of 0 then is the best forecast without a
    model. Nothing is clipped, so that `inverse` gives every value back.

    Args:
        center: Mean of the training targets, subtracted first.
        scale: Their standard deviation, divided by.
        num_rows: Targets it was fitted on.
    """

    center: float
    scale: float
    num_rows: int

    @classmethod
    def fit(cls, values: np.ndarray) -> TargetScaler:
        """Learns from `values` (num_targets,).

        Raises:
            DataError: If they do not vary, or not finitely.
        """
        values = np.asarray(values, dtype=np.float64)
        center, scale = float(values.mean()), float(values.std())
        # Equal values leave rounding, not zero.
        if not (np.isfinite(scale) and scale > 1e-12 * max(abs(center), 1e-12)):
            raise DataError(
                "target: expected values that differ in the training part. Received: "
                f"mean {center:g}, standard deviation {scale:g}. Use another file or "
                "a longer part."
            )
        return cls(center=center, scale=scale, num_rows=len(values))

    def transform(self, values: Any) -> np.ndarray:
        """Returns what a model learns, float32; NaN stays NaN."""
        scaled = (np.asarray(values, dtype=np.float64) - self.center) / self.scale
        return scaled.astype(np.float32)

    def inverse(self, outputs: Any) -> np.ndarray:
        """Returns the values that a model's outputs mean, float64."""
        return np.asarray(outputs, dtype=np.float64) * self.scale + self.center

    def to_dict(self) -> dict[str, Any]:
        """Returns values that strict JSON carries bit for bit."""
        return dict(vars(self))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TargetScaler:
        """Rebuilds a scaler from `to_dict`.

        Raises:
            DataError: If a value is missing or is no such number.
        """
        values = dict(values)
        if not (
            set(values) == {item.name for item in fields(cls)}
            and _is_finite(values["center"])
            and _is_finite(values["scale"])
            and values["scale"] > 0
            and type(values["num_rows"]) is int
            and values["num_rows"] > 0
        ):
            raise DataError(
                "expected a target's finite center, its finite, positive scale and the "
                f"rows they were learned from. Received: {values!r:.300}"
            )
        numbers = {name: float(values[name]) for name in ("center", "scale")}
        return cls(**values | numbers)


def _is_finite(value: Any) -> bool:
    # A whole number of JSON may be too large for a float.
    return type(value) in (int, float) and abs(value) < 1e300


def learn_scales(features: np.ndarray, kind: str) -> tuple[list[float], list[float]]:
    """Returns center and scale of each column (num_rows, num_features)."""
    pairs = [_center_and_scale(column, kind) for column in features.T]
    return [center for center, _ in pairs], [scale for _, scale in pairs]


def scale_columns(
    features: np.ndarray,
    centers: Sequence[float],
    scales: Sequence[float],
    *,
    out: np.ndarray,
) -> None:
    """Writes `(x - center) / scale` of each column into float32; `out` may be `x`."""
    with np.errstate(over="ignore"):  # what float32 does not hold is clipped next
        for j, (center, scale) in enumerate(zip(centers, scales, strict=True)):
            out[:, j] = (features[:, j].astype(np.float64) - center) / scale


def clip_columns(features: np.ndarray, limit: float, *, out: np.ndarray) -> None:
    """Writes features cut off at plus and minus a limit; `out` may be `features`."""
    with np.errstate(over="ignore"):
        edge = np.float32(limit)
    np.clip(features, -edge, edge, out=out)


def _center_and_scale(column: np.ndarray, kind: str) -> tuple[float, float]:
    if kind == "none":
        return 0.0, 1.0
    from sklearn.preprocessing import MinMaxScaler, RobustScaler, StandardScaler

    values = column.astype(np.float64).reshape(-1, 1)
    if kind == "robust":
        fitted = RobustScaler().fit(values)
        return float(fitted.center_[0]), float(fitted.scale_[0])
    if kind == "standard":
        fitted = StandardScaler().fit(values)
        return float(fitted.mean_[0]), float(fitted.scale_[0])
    fitted = MinMaxScaler().fit(values)
    return float(fitted.data_min_[0]), float(1.0 / fitted.scale_[0])
