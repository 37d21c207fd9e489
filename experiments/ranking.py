"""Finished runs of many markets, models and seeds: which model is chosen, how sure.

In: runs that answer one question, on equal rows; the choice on validation, tests on the
test part, means over markets. Out: two or more runs that are named one by one
(`comparison`), what the chosen ones earn together (`portfolio`), showing it
(`sweep_report`).

A model here is a family with its settings; its seeds are one model. The lowest mean
loss on validation chooses, so that the test part is looked at, and not searched: what
is said of the chosen model there is what was asked beforehand. The order of the others
there is of these rows alone.
"""

from __future__ import annotations

import functools
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np

from evaluation.trials import count_looks
from evaluation.verdict import has_edge
from experiments.candidates import QUESTION
from experiments.comparison import loss_tests
from experiments.finished import (
    NO_FORECASTS,
    FinishedRun,
    name_models,
    summarise_run,
)
from metrics import significance
from metrics.intervals import Length, cosine_interval, mean_interval
from utils import DataError

logger = logging.getLogger(__name__)

_MARKET = ("pair", "timeframe", "target")


@dataclass(frozen=True, kw_only=True, eq=False)
class Model:
    """A family with its settings, trained once for each seed.

    Args:
        name: `lstm`, and the settings in which it differs from its like.
        runs: One for each seed.
    """

    name: str
    runs: Sequence[FinishedRun]

    @property
    def chosen(self) -> FinishedRun:
        """The run of the seed with the lowest loss on validation."""
        return min(
            self.runs, key=lambda run: run.task.mean_loss(run.results["validation"])
        )


def rank_runs(
    runs: Sequence[FinishedRun], *, num_elsewhere: int = 0
) -> list[dict[str, Any]]:
    """Ranks runs by market and question; returns what `rank_models` says of each.

    Args:
        runs: Finished runs of any markets.
        num_elsewhere: Cells of the same sweep that left no run: they were tried, too.
    """
    named = sorted(
        zip(map(_question, runs), name_models(runs), runs, strict=True),
        key=lambda each: each[:2],
    )
    at_place = Counter(question[:2] for question, *_ in named)
    groups = []
    for question, members in groupby(named, key=lambda each: each[0]):
        models = [
            Model(name=name, runs=[run for *_, run in same])
            for name, same in groupby(members, key=lambda each: each[1])
        ]
        # Those of this pair and timeframe are counted as looks at these very rows.
        others = num_elsewhere + len(runs) - at_place[question[:2]]
        about = dict(zip(_MARKET, question[: len(_MARKET)], strict=True))
        if models[0].runs[0].has_positions:
            groups.append(about | {"skipped": NO_FORECASTS, "models": []})
            continue
        try:
            groups.append(about | rank_models(models, num_elsewhere=others))
        except (DataError, LookupError) as error:
            logger.warning("%s is not ranked: %s", " ".join(question[:3]), error)
            groups.append(about | {"skipped": str(error), "models": []})
    _limit_discoveries(groups)
    return groups


def _question(run: FinishedRun) -> tuple[str, ...]:
    others = [name for name in QUESTION if name not in _MARKET]
    words = [str(getattr(run.config, name)) for name in (*_MARKET, *others)]
    return (*words, str(run.has_positions))


def rank_models(models: Sequence[Model], *, num_elsewhere: int = 0) -> dict[str, Any]:
    """Returns models of one market and question, by their loss on the test part.

    Args:
        models: Models that answer one question.
        num_elsewhere: Runs of other pairs or timeframes that were tried beside these,
            and cells that left none.

    Returns:
        `loss` (its name), `num_rows` of each part, `first`, `last` and `length` of the
        test part, `num_looks` (by which Sharpe ratios are deflated), `chosen` (the
        model with the lowest loss on validation), and `models`, the lowest loss on test
        first. Of each: `model`, `folder` (of its seed with the lowest loss on
        validation), `num_seeds`, `validation_loss`, `test_loss`, the measures of
        `finished.summarise_run` as means over seeds with `p_value`, `seeds` (lowest,
        highest, and standard deviation of the skill over them), `trading` of that one
        seed, and `against_chosen`: the difference of the mean loss with its interval,
        `p_value` and `adjusted_p_value` (Holm, over the others); `rows`, see
        `_moves_of`.

    Raises:
        DataError: If no row is common to all, or what happened in one differs.
    """
    tables = {part: _common_rows(models, part) for part in ("validation", "test")}
    losses = {
        part: {name: table["loss"] for name, table in found.items()}
        for part, found in tables.items()
    }
    means = {
        part: {k: float(v.mean()) for k, v in losses[part].items()} for part in losses
    }
    chosen = min(means["validation"], key=lambda name: means["validation"][name])
    by_name = {model.name: model for model in models}
    first = by_name[chosen].chosen
    test, looks = first.results["test"], _looks_at(first) + num_elsewhere
    others = [name for name in losses["test"] if name != chosen]
    against = loss_tests(
        (losses["test"][name] for name in others),
        losses["test"][chosen],
        Length(**test["length"]),
    )
    tested = dict(zip(others, against, strict=True))
    entries = [
        {"model": name}
        | _entry(by_name[name], num_looks=looks)
        | {f"{part}_loss": means[part][name] for part in means}
        | {"against_chosen": tested.get(name), "rows": _moves_of(tables["test"][name])}
        for name in sorted(means["test"], key=lambda name: means["test"][name])
    ]
    return {
        "loss": first.task.loss_name,
        "num_rows": {part: len(losses[part][chosen]) for part in losses},
        **{key: test[key] for key in ("first", "last", "length", "num_samples")},
        "num_looks": looks,
        "chosen": chosen,
        "models": entries,
    }


def _looks_at(run: FinishedRun) -> int:
    """Returns how many runs of its outputs folder looked at a run's test part."""
    return count_looks(
        run.config.replace(outputs_dir=str(run.folder.parents[3])),
        *(run.metadata["split"]["test"][end] for end in ("first", "last")),
        file_digest=run.metadata["data"].get("sha256"),
    )["num_trials"]


def _common_rows(
    models: Sequence[Model], part: str
) -> dict[str, dict[str, np.ndarray]]:
    """Returns each model's rows that all have: time, mean losses over seeds."""
    tables = {
        model.name: [run.read_part(part, has_reference=True) for run in model.runs]
        for model in models
    }
    every = [table for each in tables.values() for table in each]
    times = functools.reduce(np.intersect1d, [table["time"] for table in every])
    if not len(times):
        raise DataError(f"no row of the {part} part is common to all models.")
    places = {id(table): np.searchsorted(table["time"], times) for table in every}
    truth = every[0]["truth"][places[id(every[0])]]
    for table in every:
        if not np.array_equal(table["truth"][places[id(table)]], truth):
            raise DataError(
                f"what happened in rows of the {part} part differs between runs: they "
                "were trained on other data."
            )
    return {
        name: {"time": times}
        | {
            key: np.mean([table[key][places[id(table)]] for table in each], axis=0)
            for key in ("loss", "reference")
        }
        for name, each in tables.items()
    }


def _moves_of(table: Mapping[str, np.ndarray]) -> dict[str, Any] | None:
    """Returns how much each row moves the skill 1 - loss / reference, linearised.

    `skill`, `time` and `moves` (num_rows,), whose sum is 0; None without a skill.
    """
    loss, reference = table["loss"], table["reference"]
    known = float(reference.mean())
    if known <= 0:
        return None
    share = float(loss.mean()) / known
    moves = (share * (reference - known) - (loss - loss.mean())) / known / len(loss)
    return {"skill": 1.0 - share, "time": table["time"], "moves": moves}


def _entry(model: Model, *, num_looks: int) -> dict[str, Any]:
    """Returns what stands for a model, seeds taken together, but its losses."""
    summaries = [summarise_run(run) for run in model.runs]
    chosen, task = model.chosen, model.runs[0].task
    measured = {
        name: mean_interval(
            [run.results["test"]["intervals"][key] for run in model.runs]
        )
        for name, key in task.measures.items()
    }
    skills = [each["skill"]["estimate"] for each in summaries]
    known = [skill for skill in skills if skill is not None]
    return {
        "folder": chosen.folder,
        "family": chosen.config.model,
        "num_seeds": len(model.runs),
        **measured,
        "seeds": {
            "low": min(known, default=None),
            "high": max(known, default=None),
            "std": float(np.std(known, ddof=1)) if len(known) > 1 else None,
        },
        "trading": _earned(chosen, num_looks),
        "training_seconds": sum(each["training_seconds"] for each in summaries),
    }


def _earned(run: FinishedRun, num_looks: int) -> dict[str, Any]:
    """Returns what a run's trades came to on test, deflated by all that was tried."""
    trades = dict(run.results["test"]["trading"])
    if "skipped" in trades:
        return {"skipped": trades["skipped"]}
    daily = trades.get("daily")
    trades["deflated_sharpe"] = daily and significance.deflated_sharpe(
        daily["net_returns"], num_trials=num_looks
    )
    kept = ("num_trades", "max_drawdown_pct", "total_return_pct", "deflated_sharpe")
    return {
        **{key: trades[key] for key in kept},
        **{key: trades["intervals"][key] for key in ("mean_net_return_bps", "sharpe")},
        "edge": has_edge(trades),  # type: ignore[arg-type]
        "daily": daily,
    }


# Over markets


def rank_over_pairs(groups: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns the mean skill of each model over pairs, the highest first.

    One for each timeframe, target and model that two pairs or more have: `num_pairs`,
    `num_above` (pairs whose interval lies above 0), and `skill`, the keys of
    `mean_interval` with `adjusted_p_value` (Benjamini and Hochberg, over all rows).

    Args:
        groups: From `rank_runs`; their `rows` are taken out.
    """
    found: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for group in groups:
        for entry in group["models"]:
            if (rows := entry.pop("rows")) is not None:
                key = (group["timeframe"], group["target"], entry["model"])
                rows |= {"low": entry["skill"]["low"], "group": group}
                found.setdefault(key, []).append(rows)
    table = [
        {
            **dict(zip(("timeframe", "target", "model"), key, strict=True)),
            "num_pairs": len(pairs),
            "num_above": sum((each["low"] or 0.0) > 0 for each in pairs),
            "skill": _mean_skill(pairs),
        }
        for key, pairs in found.items()
        if len(pairs) > 1
    ]
    _adjust([row["skill"] for row in table])
    return sorted(table, key=lambda row: -row["skill"]["estimate"])


def _mean_skill(pairs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns the mean skill of some pairs, with its interval and p-value of 0.

    Of pairs whose rows go from one moment to another alike, what the rows of a moment
    move is added up before the slow movements of the sum are measured: pairs that move
    together are no independent evidence. Sets of such pairs that look at other
    stretches are taken to move as one (`mean_interval`).
    Source of the idea: Driscoll and Kraay (1998), "Consistent covariance matrix
    estimation with spatially dependent panel data".
    """
    alike: dict[tuple[int, int], list[Mapping[str, Any]]] = {}
    for each in pairs:
        alike.setdefault((each["time"][0], each["time"][-1]), []).append(each)
    found = [_pooled(each) for each in alike.values()]
    return mean_interval(found, [len(each) for each in alike.values()])


def _pooled(pairs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns the interval of the mean skill of pairs over one stretch of time."""
    times = np.unique(np.concatenate([each["time"] for each in pairs]))
    sums = np.zeros(len(times))
    for each in pairs:
        sums[np.searchsorted(times, each["time"])] += each["moves"]
    groups = [each["group"] for each in pairs]
    length = Length(
        **{
            key: len(times) * min(x["length"][key] / x["num_samples"] for x in groups)
            for key in ("days", "horizons")
        }
    )
    mean = float(np.mean([each["skill"] for each in pairs]))
    return cosine_interval(mean + sums * len(times) / len(pairs), length=length)


def _limit_discoveries(groups: Sequence[Mapping[str, Any]]) -> None:
    """Gives each chosen model's skill a p-value that allows for the number of markets.

    One test for each market: the choice was made before.
    """
    _adjust(
        [
            entry["skill"]
            for group in groups
            for entry in group["models"]
            if entry["model"] == group.get("chosen")
        ]
    )


def _adjust(tested: Sequence[dict[str, Any]]) -> None:
    adjusted = significance.limit_false_discoveries([x["p_value"] for x in tested])
    for each, p_value in zip(tested, adjusted, strict=True):
        each["adjusted_p_value"] = p_value
