"""Which steps a kind of model has, and the pipeline of a run.

In: templates, the configuration that gives steps their parameters. Out: what steps do
(`steps`), running them (`pipelines`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from config import Config
from preprocessing.pipelines import PreprocessingPipeline
from preprocessing.schemas import Schema
from preprocessing.steps import CANDLE_STEPS, Step
from settings.label_fields import MAX_FILL_BARS
from utils import ConfigError, did_you_mean

_SCALED, _ENDS = ("scale", "clip"), ("windows", "final_check")

TEMPLATES: dict[str, tuple[str, ...]] = {
    "cnn_lstm": (*CANDLE_STEPS, *_SCALED, *_ENDS),
    "agent": (*CANDLE_STEPS, *_SCALED, "state_columns", *_ENDS),
    "hybrid": (*CANDLE_STEPS, *_SCALED, "member_outputs", "state_columns", *_ENDS),
    "ensemble": (*CANDLE_STEPS, "member_outputs", *_SCALED, *_ENDS),
}
"""Kinds of steps in their order. `state_columns` are what an agent knows of its
account, `member_outputs` what other models say: whoever needs them registers them."""

RUN = "cnn_lstm"
"""Template of every run that learns from windows of features, whatever its family."""


def steps_of(
    template: str, config: Config, *, parameters: Mapping[str, Any] | None = None
) -> list[Step]:
    """Returns the steps of a template, not fitted.

    Args:
        template: One of `TEMPLATES`.
        config: Market, features, scaling, window.
        parameters: Of further kinds, by kind.

    Raises:
        ConfigError: If there is no such template, or a kind takes no such parameter.
    """
    if template not in TEMPLATES:
        raise ConfigError(
            f"template: expected one of {', '.join(TEMPLATES)}. Received: "
            f"{template!r}.{did_you_mean(template, TEMPLATES)}"
        )
    market = {"timeframe": config.timeframe}
    own: dict[str, dict[str, Any]] = {
        "validate_data": {"pair": config.pair, **market},
        "fill_gaps": market
        | {name: getattr(config, name) for name in ("max_fill_bars", "accept_jumps")},
        "compute_features": market
        | {
            "feature_sets": list(config.feature_sets),
            "raw_prices": config.raw_prices,
            "higher_timeframes": list(config.higher_timeframes),
            **_beside(config),
        },
        "scale": {"method": config.scaler_type},
        "clip": {"limit": config.clip_limit},
        "windows": {"bars": config.sequence_length},
    }
    own |= dict(parameters or {})
    kinds = TEMPLATES[template]
    return [Step(kind=k, name=k, parameters=own.get(k, {})) for k in kinds]


def _beside(config: Config) -> dict[str, Any]:
    """Returns what decides over values beside prices, where it is not the default."""
    given: dict[str, Any] = {}
    if config.context_pairs:
        given["context_pairs"] = list(config.context_pairs)
    if config.max_fill_bars != MAX_FILL_BARS:
        given["max_fill_bars"] = config.max_fill_bars
    return given


def pipeline_of(
    template: str, config: Config, *, parameters: Mapping[str, Any] | None = None
) -> PreprocessingPipeline:
    """Returns the pipeline of a template, which begins with candles, not fitted."""
    return PreprocessingPipeline(steps_of(template, config, parameters=parameters))


def run_pipeline(
    config: Config,
    names: Sequence[str],
    source: Mapping[str, Any],
    *,
    pairs: Sequence[str] = (),
) -> PreprocessingPipeline:
    """Returns the pipeline of a run, whose steps on rows are not fitted yet.

    It begins with candles where our builder made the training file, and said how.

    Args:
        config: The run.
        names: Features of its training file, in order.
        source: What is known of that file: `built_by_us`, `feature_digests`,
            `feature_types` other than float32.
        pairs: Pooled pairs, a column of each of which says whose rows they are; none
            takes those of the configuration.
    """
    steps = steps_of(RUN, config)
    if pairs := pairs or column_pairs(config):
        kind, whose = "pair_columns", {"pairs": list(pairs), "pair": config.pair}
        places = [step.kind for step in steps].index(_ENDS[0])
        steps.insert(places, Step(kind=kind, name=kind, parameters=whose))
    if not source.get("built_by_us"):
        types = source.get("feature_types") or {}
        taken = Schema.of_features(names, config.timeframe, types=types)
        return PreprocessingPipeline(steps[len(CANDLE_STEPS) :], input_schema=taken)
    digests = source.get("feature_digests")
    states: dict[str, dict[str, Any]] = dict.fromkeys(CANDLE_STEPS, {}) | {
        "compute_features": {
            "feature_names": list(names),
            "digests": digests if isinstance(digests, dict) else {},
        }
    }
    known = [
        Step(**step.to_dict() | {"state": states.get(step.kind)}) for step in steps
    ]
    return PreprocessingPipeline(known)


def column_pairs(config: Config) -> tuple[str, ...]:
    """Returns the pairs that have a column which says whose rows they are."""
    return config.pooled_pairs if config.pair_columns else ()
