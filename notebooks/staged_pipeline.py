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
# # Stages that build on each other
#
# An extractor, an agent that sees what it sees, a hybrid of both, and a stack of the
# models before it, on the demo market. Which rows does each learn from, and is the next
# stage better than the one before?

# %%
# %matplotlib inline
import os
import sys
from pathlib import Path

project = Path.cwd() if Path("trainer.py").exists() else Path.cwd().parent
sys.path.insert(0, str(project))
work = Path(os.environ.get("TRAINER_WORK_DIR", project))

import pandas as pd

import utils
from artifacts.artifact import load_artifact
from artifacts.registry import Registry
from dataset.builder import DEMO_PAIR, build_training_file, demo_candles
from reports.plots import draw_interval, name_rows, new_axes
from stages.pipeline import run_pipeline
from stages.plan import make_pipeline
from stages.tables import format_stages

utils.configure_logging()

# %% [markdown]
# ## The stages
#
# What a YAML file says: fields that all stages have, then each with what it needs.

# %%
epochs = int(os.environ.get("TRAINER_EPOCHS", 6))
small = {"cnn_lstm_filters": [16, 32], "cnn_lstm_kernels": [3, 3]}
small |= {"cnn_lstm_units": [32], "dense_units": [16], "epochs": epochs}
acting = {"agent_steps": 50_000, "agent_seeds": 2}
pipeline = make_pipeline(
    {
        "pair": DEMO_PAIR,
        "feature_sets": ["ray12"],
        "inputs_dir": str(work / "inputs"),
        "outputs_dir": str(work / "outputs"),
        "sequence_length": 60,
        "windows_per_epoch": 15_000,
        "baseline_model": False,
        "importance_windows": None,
        "report": "light",
        "stages": [
            {"name": "extractor", "model": "cnn_lstm", "fields": small},
            {"name": "agent", "model": "ppo", "needs": ["extractor"], "fields": acting},
            {
                "name": "hybrid",
                "model": "hybrid",
                "needs": ["extractor", "agent"],
                "fields": {"epochs": epochs, "hybrid_frozen_epochs": 1},
            },
            {"name": "ensemble", "model": "stack", "needs": ["extractor", "hybrid"]},
        ],
    },
    name="notebook",
)
for stage in pipeline.stages:
    print(stage.name, dict(stage.roles), "stage_share", stage.config.stage_share)

# %% [markdown]
# ## One training file, then every stage
#
# A stage that is finished is taken as it is: run the cell again and see.

# %%
build_training_file(demo_candles(num_bars=100_000), pipeline.stages[0].config)

# %%
result = run_pipeline(pipeline)
print(format_stages(result.stages))

# %% [markdown]
# ## Who learned from which rows
#
# The extractor learns from the older half of the training part, the agent from the
# newer: what the extractor says of rows that it was fitted to is too good to learn
# from. All choose on the same rows, and nobody has seen the test.

# %%
figure, axes = new_axes(9, 2.6, grid="x")
colors = {"train": "C0", "validation": "C1", "test": "C2"}
for row, stage in enumerate(result.stages):
    for name, part in stage["parts"].items():
        first, last = (pd.Timestamp(part[key][:16]) for key in ("first", "last"))
        label = name if row == 0 else None
        axes.barh(row, last - first, left=first, color=colors[name], label=label)
name_rows(axes, [stage["name"] for stage in result.stages])
axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
figure

# %% [markdown]
# ## Is the next stage better?
#
# Skill on the common test part, with 95 % intervals. Where they overlap so far, nobody
# can tell the stages apart. An agent has no forecasts: its positions are judged by what
# they earn, in its own report.

# %%
reports = {
    stage["name"]: load_artifact(stage["folder"]).read_listed_json(
        "confusion_matrix_report.json"
    )
    for stage in result.stages
}
forecasters = [name for name in reports if name != "agent"]
figure, axes = new_axes(9, 2.2, grid="x")
for row, name in enumerate(forecasters):
    found = reports[name]["test"]["intervals"]["skill_vs_train_prior"]
    draw_interval(axes, found, row, "C0")
name_rows(axes, forecasters)
axes.axvline(0, color="black", linewidth=0.8)
axes.set_xlabel("log-loss skill against the train prior")
figure

# %%
for name, report in reports.items():
    print(name, *report["verdict"], sep="\n  ")

# %% [markdown]
# ## Where the ensemble comes from
#
# Every ancestor, with the digest that vouches for its files.

# %%
registry = Registry(pipeline.outputs_dir)
for entry in registry.dependencies(result["ensemble"]["model_id"]):
    print(entry.model_id, entry.manifest_sha256[:12])
registry.validate(result["ensemble"]["model_id"])
