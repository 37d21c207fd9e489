# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # How to read a report
#
# Three runs on synthetic markets of which the truth is known: one where the direction
# can be forecast, one where it cannot, and one with a feature that looks ahead. The
# question is the same each time: what gives it away?
#
# The model is gradient boosting, which trains in seconds. The report of a network reads
# the same.

# %%
# %matplotlib inline
import os
import sys
from pathlib import Path

project = Path.cwd() if Path("trainer.py").exists() else Path.cwd().parent
sys.path.insert(0, str(project))
work = Path(os.environ.get("TRAINER_WORK_DIR", project))

import pandas as pd

from audit import run
from config import Config
from dataset import features
from dataset.builder import DEMO_PAIR, build_training_frame, demo_candles
from reports import composition, plots, trade_plots
from trainer import StandaloneTrainer

config = Config(
    pair=DEMO_PAIR,
    model="gradient_boosting",
    num_trees=30,
    baseline_model=False,
    importance_windows=500,
    sequence_length=60,
    outputs_dir=str(work / "outputs"),
)


def train(candles, config):
    """Returns the rows, the results and the page of one run."""
    rows, _ = build_training_frame(candles, config)
    trainer = StandaloneTrainer(config, frame=rows)
    trainer.run_training()
    print(trainer.artifact_dir / "report.html")
    return rows, trainer.results


# %% [markdown]
# ## 1. A market with a direction
#
# The demo market: its volume hints at the next move, weakly.

# %%
rows, skilled = train(demo_candles(num_bars=200_000), config)

# %% [markdown]
# The verdict answers three questions, and says what the test could show, by the rules
# of `evaluation/verdict.py`. What is in brackets are 95 % intervals, and what counts is
# whether they reach 0.

# %%
print("\n".join(skilled["verdict"]))
skilled["claims"]

# %% [markdown]
# *Is there skill?* Skill is the share of the log-loss that the model takes away. It has
# to beat the class shares of training **and** the label mix of the trailing seven days,
# which needs no model either.
#
# *In what?* *Activity* is whether a take profit will be hit at all. Every market with
# calm and wild hours has it. *Direction* is which one, and it is what a trade needs.

# %%
plots.plot_baselines(skilled["test"], title="test")

# %% [markdown]
# *Does it survive costs?* The curve on validation proves nothing: the thresholds were
# chosen there. On test, look at the interval of the net return a trade, at how many
# trades it rests on, and at the deflated Sharpe ratio, which pays for every run that
# looked at this test part. A few weeks show very large edges alone: the last line of
# the verdict says from which Sharpe ratio on.

# %%
trade_plots.plot_equity(skilled["test"]["trading"], title="test")

# %%
trades = skilled["test"]["trading"]
pd.Series(
    {
        "trades": trades["num_trades"],
        "net a trade, bps": trades["mean_net_return_bps"],
        "at least": trades["intervals"]["mean_net_return_bps"]["low"],
        "costs a side, bps": trades["cost_bps"],
        "deflated Sharpe": trades["deflated_sharpe"],
    }
)

# %% [markdown]
# ## 2. A market without one
#
# The same market, but the volume says nothing about the next move. Activity is still
# there.

# %%
blind_candles = demo_candles(num_bars=200_000, strength=0.0)
rows, blind = train(blind_candles, config)

# %%
print("\n".join(blind["verdict"]))

# %% [markdown]
# A skill well above 0, and no reason to trade. What gives it away:
#
# - the accuracy is that of always saying HOLD;
# - the interval of the direction skill has 0 in it, and the shuffle test finds nothing;
# - all of the skill is activity;
# - among SHORT and LONG, the confusion matrix is at chance;
# - no pair of thresholds makes money on validation: both curves stay around minus the
#   costs, wherever the threshold lies.

# %%
pd.DataFrame(
    {
        name: {
            "skill": results["test"]["skill_vs_train_prior"],
            "activity": results["test"]["activity_skill_vs_train_prior"],
            "direction": results["test"]["direction_skill_vs_train_prior"],
            "direction, p": results["test"]["direction_p_value"],
            "accuracy": results["test"]["accuracy"],
        }
        for name, results in {"direction": skilled, "none": blind}.items()
    }
).round(3)

# %%
trade_plots.plot_thresholds(blind["thresholds"])

# %% [markdown]
# ## 3. A feature that looks ahead
#
# The same market without a direction, and one more feature: the close, divided by a
# moving average around it. Half of that average lies in the future.


# %%
@features.feature_set("centred", warm_up_bars=30)
def centred(candles, context):
    average = candles["close"].rolling(61, center=True, min_periods=31).mean()
    return pd.DataFrame({"close_to_centre": candles["close"] / average})


leaking_config = config.replace(feature_sets=("core8", "centred"))
rows, leaking = train(blind_candles, leaking_config)

# %%
print("\n".join(leaking["verdict"]))

# %% [markdown]
# Skill, activity and direction are claimed, on the market that has no direction.
# Nothing in these numbers is miscalculated: on such rows the model really is that good.
# No interval, no calibration and no later test part shows a leak, because it is in all
# of them. What gives it away is that it is too good:
#
# - more direction skill than on the market that has one;
# - an equity curve that hardly ever falls;
# - one feature that carries it.

# %%
trade_plots.plot_equity(leaking["test"]["trading"], title="test")

# %%
composition.plot_importance(leaking["importance"])

# %% [markdown]
# Suspicion is no proof. The audit is: it computes each feature again on candles that
# end earlier. A feature that only looks back has the same value.

# %%
print(run.run_audit(leaking_config, frame=rows, candles=blind_candles))

# %% [markdown]
# ## In this order
#
# 1. **Leaks.** `python trainer.py --audit`, before any number is believed.
# 2. **What to distrust**, the warnings below the verdict: collapse to one class, a
#    drift of the class mix, a test part too short for intervals.
# 3. **Direction**, with its interval and its p-value. Activity alone is no signal.
# 4. **Trades on test, after costs**, with their interval. Validation proves nothing.
# 5. **Baselines.** What a forecast without a model does as well is no achievement.
# 6. **Folds** (`--n-splits 5`): is it there in each, or in one?
