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
# # A run, step by step
#
# The eight steps of `StandaloneTrainer`, one cell each, on the embedded demo market:
# synthetic one-minute bars with a planted direction signal. Start Jupyter with
# `make notebook`.

# %%
# %matplotlib inline
import os
import sys
from pathlib import Path

project = Path.cwd() if Path("trainer.py").exists() else Path.cwd().parent
sys.path.insert(0, str(project))
work = Path(os.environ.get("TRAINER_WORK_DIR", project))

import utils
from config import Config
from dataset.builder import DEMO_PAIR, build_training_file, demo_candles
from trainer import StandaloneTrainer

utils.configure_logging()

# %% [markdown]
# ## The configuration
#
# A run is a function of it. `Config?` documents every field; the command line has a
# flag of the same name for each.

# %%
config = Config(
    pair=DEMO_PAIR,
    inputs_dir=str(work / "inputs"),
    outputs_dir=str(work / "outputs"),
    sequence_length=60,
    lstm_units=(32, 16),
    dense_units=(16,),
    epochs=int(os.environ.get("TRAINER_EPOCHS", 6)),
    windows_per_epoch=15_000,
)

# %% [markdown]
# ## The training file
#
# Candles become features (which only look back) and labels (which only look forward):
# SHORT, HOLD or LONG by which take profit is hit before its stop loss.

# %%
candles = demo_candles()
candles.tail(3)

# %%
build_training_file(candles, config)

# %% [markdown]
# ## Step 1: components

# %%
trainer = StandaloneTrainer(config)
trainer.initialize_components()

# %% [markdown]
# ## Step 2: data
#
# Chronological parts that share no bar. The scaler learned from the training rows
# alone; only the training part is undersampled.

# %%
data = trainer.load_and_validate_data()
data.features.shape, data.feature_names

# %% [markdown]
# ## Step 3: windows
#
# A window is cut from the one feature array when its batch is due.

# %%
generators = trainer.create_generators()
generators.steps_per_epoch

# %% [markdown]
# ## Step 4: model

# %%
model = trainer.build_model()
model.network.summary()

# %% [markdown]
# ## Step 5: callbacks
#
# The run folder appears now; it is published whole after step 8.

# %%
[type(callback).__name__ for callback in trainer.setup_callbacks()]

# %% [markdown]
# ## Step 6: training
#
# `loss` is at the undersampled mix, `val_loss` at the natural one.

# %%
history = trainer.train_model()

# %%
from reports import plots

plots.plot_learning_curves(history)

# %% [markdown]
# ## Step 7: model and metadata

# %%
trainer.save_model_and_metadata()

# %% [markdown]
# ## Step 8: report
#
# Validation and test, whole. *Activity* is whether a take profit will be hit at all,
# *direction* is which one.

# %%
results = trainer.generate_confusion_matrix_report()

# %%
plots.plot_confusion_matrix(results["test"], title="test")

# %% [markdown]
# ## The artifact
#
# Every file is held against the manifest before it is opened.

# %%
from artifacts.artifact import load_artifact

artifact = load_artifact(trainer.artifact_dir)
sorted(artifact.files)

# %%
network = artifact.load_model()
network.count_params()
