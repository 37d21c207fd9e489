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
# # A dataset, looked at
#
# What `DatasetBuilder` makes of candles: features that only look back, labels that only
# look forward, and a cache that knows when to build again. The candles are the embedded
# demo market; any file that `candles.read_candles` reads can stand in their place.

# %%
import os
import sys
from pathlib import Path

project = Path.cwd() if Path("trainer.py").exists() else Path.cwd().parent
sys.path.insert(0, str(project))
work = Path(os.environ.get("TRAINER_WORK_DIR", project))

# %matplotlib inline

# %%
import pandas as pd

from dataset import features
from dataset.builder import DEMO_PAIR, DatasetBuilder, demo_candles
from reports import dataset as dataset_report
from reports import dataset_plots

candles = demo_candles(num_bars=120_000)
candles.tail(3)

# %% [markdown]
# ## Build
#
# Every field of the configuration can be given by name. The second call finds the
# features and the labels in the cache: its key is the digest of the candle bytes, the
# parameters and the code.

# %%
builder = DatasetBuilder(pair=DEMO_PAIR, inputs_dir=str(work / "inputs"))

# %%
# %%time
dataset = builder.build_dataset(candles=candles)

# %%
# %%time
dataset = builder.build_dataset(candles=candles)
len(dataset.frame)

# %%
print(dataset_report.format_summary(dataset))

# %%
builder.validate_dataset(dataset)

# %% [markdown]
# ## Price and labels
#
# A mark says what a trade entered at this close would have been worth: LONG where the
# long side's take profit is hit first, SHORT where the short side's is, nothing where
# neither is.

# %%
dataset_plots.plot_price(dataset)

# %%
dataset_plots.plot_label_mix(dataset)

# %%
pd.DataFrame(dataset.metadata["label_mix_by_month"]).T

# %% [markdown]
# ## Features before and after scaling
#
# The scaler learns from the training rows alone. What is still at the clip limit
# afterwards has heavy tails.

# %%
dataset_plots.plot_features(dataset)

# %%
pd.DataFrame(dataset.metadata["feature_statistics"]).T

# %% [markdown]
# ## Gaps
#
# The demo market has none. Here an afternoon without candles, and minutes without a
# trade: short gaps are carried forward and never a target, a long one ends the segment,
# and the next needs its own 30 days of warm-up.

# %%
gappy = candles.drop(index=[*range(60_000, 60_300), *range(110_000, 112_000, 40)])
dataset_plots.plot_gaps(builder.build_dataset(candles=gappy))

# %% [markdown]
# ## A feature set of your own
#
# Five lines, and a name for the configuration. The function gets the candles of one
# gapless stretch and must not look ahead.


# %%
@features.feature_set("breakout", warm_up_bars=240)
def breakout(candles, context):
    top = candles["high"].rolling(240).max().shift(1)
    return pd.DataFrame({"close_to_top240": candles["close"] / top})


combined = DatasetBuilder(
    builder.config,
    feature_sets=("breakout", "ray12"),
    higher_timeframes=("1h",),
    target="direction",
    future_window=30,
    dead_zone_pct=0.1,
).build_dataset(candles=candles)
combined.feature_names

# %%
dataset_plots.plot_features(combined)

# %% [markdown]
# ## Training file
#
# What `trainer.py` reads, with its description beside it.

# %%
builder.write_dataset(dataset)

# %% [markdown]
# ## The cache

# %%
info = builder.get_cache_info()
pd.DataFrame(info["tables"])

# %%
builder.clear_cache()
