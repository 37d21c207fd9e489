"""Windows of the validation part and what was said of them, to prove a model by.

In: what is kept of a run beside its model, and holding an opened model against it. Out:
how like the training rows new ones are (`reference`), opening (`predictor`).
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd

from artifacts.artifact import Artifact
from artifacts.manifest import refuse_broken
from artifacts.run_folder import RunFolder
from data_loader import TrainingData
from evaluation.part_scores import Judged
from evaluation.policies import Policy, ReturnPolicy, probabilities_of
from files.strict import write_json
from metrics.quantiles import middle_of
from preprocessing.pipelines import PreprocessingPipeline
from preprocessing.row_kinds import OK
from preprocessing.scaling import FeatureScaler
from signals.reference import Reference, write_reference
from utils import DataError, RefusedArtifactError

logger = logging.getLogger(__name__)

FORMAT = 1
TOLERANCE = 1e-4
"""Most that a model's outputs may differ on another processor."""
MIXED_TOLERANCE = 0.02
"""The same of a network in half precision."""
FEATURE_TOLERANCE = 2e-6
"""Most that features made anew may differ: those of recursive sets do."""


def write_checks(run: RunFolder, data: TrainingData, judged: Judged) -> None:
    """Writes `golden_{tag}.json` and `reference_{tag}.json` into a run's folder."""
    if data.golden_windows is not None:
        golden = GoldenRows.of(data, judged).to_dict()
        write_json(run.file("golden", ".json"), golden)
    write_reference(run, data, judged)


@dataclass(frozen=True, kw_only=True, eq=False)
class GoldenRows:
    """What a run said of some windows of its validation part.

    Args:
        times: Open of each window's last bar (num_windows,), UTC.
        windows: (num_windows, window_bars, num_features) float32, not scaled.
        raw: The model's outputs: (num_windows, 3) probabilities, or (num_windows, 1)
            numbers in units of the training targets.
        answers: The same calibrated, or as log returns.
        signals: Class ids (num_windows,).
    """

    times: pd.DatetimeIndex
    windows: np.ndarray
    raw: np.ndarray
    answers: np.ndarray
    signals: np.ndarray

    @classmethod
    def of(cls, data: TrainingData, judged: Judged) -> Self:
        """Takes what a run said of `data.golden_rows`."""
        table = judged.table
        chosen = table["row"].isin(data.golden_rows) & (table["part"] == "validation")
        rows, policy = table[chosen], judged.policy
        answers = policy.answers_of(rows)
        if isinstance(policy, ReturnPolicy):
            raw = policy.scaler.transform(answers)
        else:
            raw = probabilities_of(rows)
        assert data.golden_windows is not None  # noqa: S101
        return cls(
            times=pd.DatetimeIndex(rows["timestamp"]),
            windows=data.golden_windows,
            raw=raw.reshape(len(rows), -1).astype(np.float64),
            answers=answers.reshape(len(rows), -1).astype(np.float64),
            signals=rows["signal"].to_numpy(np.int8),
        )

    def to_dict(self) -> dict[str, Any]:
        """Returns strict JSON: numbers as hexadecimal floats, windows as bytes."""
        windows = np.ascontiguousarray(self.windows, "<f4")
        return {
            "format": FORMAT,
            "times": [moment.isoformat() for moment in self.times],
            "shape": list(windows.shape),
            "windows_float32_base64": base64.b64encode(windows.tobytes()).decode(),
            "raw": _hexadecimal(self.raw),
            "answers": _hexadecimal(self.answers),
            "signals": self.signals.tolist(),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: object) -> Self:
        """Restores golden rows from `to_dict`.

        Raises:
            RefusedArtifactError: If the values are not those of golden rows.
        """
        with refuse_broken(f"{where}: expected golden rows of format {FORMAT}"):
            if values["format"] != FORMAT:
                raise ValueError(f"format {values['format']!r:.50}")
            content = base64.b64decode(values["windows_float32_base64"], validate=True)
            windows = np.frombuffer(content, "<f4").reshape(values["shape"])
            count = len(windows)
            found = cls(
                times=pd.DatetimeIndex(pd.to_datetime(values["times"], utc=True)),
                windows=windows,
                raw=_numbers(values["raw"]),
                answers=_numbers(values["answers"]),
                signals=np.array(values["signals"], np.int8),
            )
            columns = (found.times, found.raw, found.answers, found.signals)
            if windows.ndim != 3 or any(len(column) != count for column in columns):
                raise ValueError("columns of different lengths")
            return found

    def check(
        self,
        say: Callable[[np.ndarray], np.ndarray],
        policy: Policy,
        where: object,
        *,
        tolerance: float = TOLERANCE,
    ) -> float:
        """Returns how far a model is at most from what the run said.

        Args:
            say: Returns the model's raw outputs for windows that are not scaled.
            policy: What was learned on validation.
            where: Named in the refusal.
            tolerance: Most that is allowed.

        Raises:
            RefusedArtifactError: If it is further, or signals or calibration differ.
        """
        raw = np.concatenate([say(window[None]) for window in self.windows])
        if isinstance(policy, ReturnPolicy):
            raw = middle_of(raw)
        raw = raw.reshape(self.raw.shape)
        answers, signals = policy.decide(
            self.raw if self.raw.shape[1] > 1 else self.raw[:, 0]
        )
        answers = answers.reshape(self.answers.shape)
        scale = np.maximum(1.0, np.abs(self.raw))
        distance = float((np.abs(raw - self.raw) / scale).max(initial=0.0))
        apart = float(np.abs(answers - self.answers).max(initial=0.0))
        is_same = np.array_equal(signals, self.signals)
        if not (distance <= tolerance and apart <= TOLERANCE and is_same):
            raise RefusedArtifactError(
                f"{where}: expected what the run said of {len(raw)} validation "
                f"windows, within {tolerance:g}. Received: outputs up to "
                f"{distance:.2g} apart, calibrated {apart:.2g}, signals "
                f"{'the same' if is_same else 'others'}. The model is not the one "
                "that was published, or this machine computes something else."
            )
        return distance

    def check_features(
        self, pipeline: PreprocessingPipeline, candles: pd.DataFrame, where: object
    ) -> dict[str, Any]:
        """Makes the features of the windows anew that candles hold; see `check`.

        Returns:
            `recomputed`, and `largest_feature_difference`, of their own size.

        Raises:
            DataError: If the candles hold none of the windows.
            RefusedArtifactError: If a feature differs.
        """
        count, distance, least = 0, 0.0, pipeline.min_candles
        for moment, window in zip(self.times, self.windows, strict=True):
            known = candles[candles["timestamp"] <= moment]
            if len(known) < least or known["timestamp"].iloc[-1] != moment:
                continue
            newest = pipeline.compute(known, last=1)
            if pipeline.finish(newest).status[0] != OK:
                continue
            apart = np.abs(newest.values[-len(window) :] - window)
            count += 1
            distance = max(
                distance, float((apart / np.maximum(1, np.abs(window))).max())
            )
        if not count:
            raise DataError(
                f"expected candles of one of {len(self.times)} windows between "
                f"{self.times[0]} and {self.times[-1]}, with {least} that "
                f"end there. Received: candles from {candles['timestamp'].iloc[0]} to "
                f"{candles['timestamp'].iloc[-1]}."
            )
        if distance > FEATURE_TOLERANCE:
            raise RefusedArtifactError(
                f"{where}: expected the features of {count} validation windows, within "
                f"{FEATURE_TOLERANCE:g}. Received, of these candles: others, up to "
                f"{distance:.2g} apart. They are of another market or were corrected "
                "since, or this version computes something else."
            )
        return {"recomputed": count, "largest_feature_difference": distance}


def open_checks(
    artifact: Artifact, kind: type[GoldenRows], pair: str, scaler: FeatureScaler
) -> tuple[GoldenRows | None, Reference | None, list[str]]:
    """Returns the golden rows and the reference of an artifact, and what is missing.

    Models of earlier versions have none.

    Args:
        artifact: Of one pair, or of a pool.
        kind: Of its golden rows.
        pair: Whose candles come.
        scaler: What these go through.

    Raises:
        RefusedArtifactError: If a file is not what it should be.
    """
    golden = reference = None
    notes = []
    if artifact.has("golden"):
        golden = kind.from_dict(artifact.read_json("golden"), artifact.path)
    else:
        notes.append(_ABSENT.format(artifact.path, "golden rows", "proves its bits"))
    if artifact.has("reference"):
        found = artifact.read_json("reference")
        reference = Reference.from_dict(found, artifact.path)
        reference = reference.in_units_of(artifact.scaler, scaler)
    else:
        notes.append(_ABSENT.format(artifact.path, "a reference", "is unlike"))
    for note in notes:
        logger.info("%s", note)
    pooled = artifact.pair_preprocessors
    if pooled and pair not in pooled:
        notes.append(
            f"{artifact.path}: learned from {', '.join(pooled)}, never from {pair}, "
            "whose features get the scale of all of them together"
        )
        logger.warning("%s", notes[-1])
    return golden, reference, notes


_ABSENT = "{}: without {}, as models of earlier versions are: nothing {}"


def _hexadecimal(values: np.ndarray) -> list[list[str]]:
    return [[float(value).hex() for value in row] for row in values]


def _numbers(rows: Any) -> np.ndarray:
    found = np.array([[float.fromhex(value) for value in row] for row in rows])
    if found.ndim != 2 or not np.isfinite(found).all():
        raise ValueError("expected rows of finite numbers")
    return found
