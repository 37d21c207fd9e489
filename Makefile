# `make train` and `make test` do all their own set-up, in .venv in this folder.

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/pip --disable-pip-version-check --quiet

.PHONY: train test integrations lowest lint bench noise tuning coverage next-stretch live agents agents-reference faults format notebook notebooks pictures clean

train: .venv/run.stamp
	$(BIN)/python dataset_builder.py --demo
	$(BIN)/python trainer.py --config demo.yaml

test: .venv/dev.stamp
	$(BIN)/python -m pytest -q -n 2 --dist worksteal

# Other programs with our models: their libraries, in an environment of their own.
integrations: .venv-integrations/stamp
	.venv-integrations/bin/python -m pytest -q -p no:cacheprovider tests/integrations

# Readers, models and whole runs on the lowest versions that the requirements allow.
lowest: .venv-lowest/stamp
	.venv-lowest/bin/python -m pytest -q -n 2 --dist worksteal -p no:cacheprovider tests/candles tests/dataset tests/models \
	  tests/test_data_loader.py tests/test_model_builder.py tests/test_trainer.py

lint: .venv/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --num-workers 2

# Half an hour or more each, on an idle machine; not part of `make test`.
bench: .venv/bench.stamp
	$(BIN)/python benchmarks/bench_training.py
	$(BIN)/python benchmarks/bench_training.py --loaded --only ours "stock Keras" PyTorch
	-$(BIN)/python benchmarks/bench_training.py --tcmalloc --only ours PyTorch  # where it is installed
	$(BIN)/python benchmarks/bench_memory.py
	$(BIN)/python benchmarks/bench_growth.py
	$(BIN)/python benchmarks/bench_profile.py
	$(BIN)/python benchmarks/bench_run.py
	$(BIN)/python benchmarks/bench_latency.py
	$(BIN)/python benchmarks/bench_dataset.py
	$(BIN)/python benchmarks/bench_sweep.py

noise: .venv/run.stamp
	$(BIN)/python benchmarks/noise.py
	$(BIN)/python benchmarks/edge_power.py

# Tuning: beats the default of the demo market, claims nothing of noise. Half an hour.
tuning: .venv/dev.stamp
	$(BIN)/python benchmarks/tuning_checks.py

# Do the intervals of the report hold the truth? 15 minutes on two idle cores.
coverage: .venv/run.stamp
	$(BIN)/python benchmarks/coverage.py

# Does the next stretch of real candles lie in the range that a report gives?
next-stretch: .venv/run.stamp
	$(BIN)/python benchmarks/next_stretch.py

# Do new candles get the report's answers? Families x features x pairs, half an hour.
live: .venv/dev.stamp
	$(BIN)/python benchmarks/live_parity.py $(CANDLES)

# What agents must show before anyone believes them: oracle, noise, costs. Six CPU minutes.
agents: .venv/run.stamp
	$(BIN)/python benchmarks/agent_checks.py

# The same algorithms of Stable-Baselines3, in an environment of their own. Eight CPU minutes.
agents-reference: .venv-agents/stamp
	.venv-agents/bin/python benchmarks/bench_agents.py --picture docs/pictures/agents.png

# Kills, full disks, broken and changed files; under an hour. SEED=N replays.
faults: .venv/dev.stamp
	$(BIN)/python tests/faults/harness.py $(if $(SEED),--seed $(SEED))

format: .venv/dev.stamp
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Generates the .ipynb files from their percent-format sources, without outputs.
notebooks: .venv/dev.stamp
	$(BIN)/jupytext --to ipynb notebooks/*.py

# Needs an installed Chromium.
pictures: .venv/run.stamp
	$(BIN)/python docs/make_pictures.py

notebook: .venv/notebook.stamp
	$(BIN)/jupyter lab notebooks

clean:
	rm -rf .venv .venv-agents .venv-integrations .venv-lowest .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/base.stamp:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: expected Python 3.11 or newer as $(PYTHON). Set PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv .venv
	touch $@

.venv/run.stamp: requirements.txt | .venv/base.stamp
	$(PIP) install -r requirements.txt
	touch $@

.venv/dev.stamp: requirements.txt requirements-dev.txt requirements-features.txt requirements-lightgbm.txt requirements-xgboost.txt requirements-catboost.txt requirements-serve.txt requirements-agents.txt requirements-tuning.txt | .venv/base.stamp
	$(PIP) install -r requirements-dev.txt
	touch $@

INTEGRATED := requirements.txt requirements-export.txt requirements-lightgbm.txt requirements-xgboost.txt requirements-catboost.txt requirements-mlflow.txt requirements-ray.txt requirements-tuning.txt requirements-integrations.txt
.venv-integrations/stamp: $(INTEGRATED) requirements-dev.txt
	rm -rf .venv-integrations
	$(PYTHON) -m venv .venv-integrations
	grep -E '^(pytest|hypothesis)' requirements-dev.txt > .venv-integrations/tests.txt
	.venv-integrations/bin/pip --disable-pip-version-check --quiet install \
	  $(INTEGRATED:%=-r %) -r .venv-integrations/tests.txt
	touch $@

REFERENCE := requirements-bench.txt requirements-agents.txt
.venv-agents/stamp: $(REFERENCE) requirements.txt
	rm -rf .venv-agents
	$(PYTHON) -m venv .venv-agents
	.venv-agents/bin/pip --disable-pip-version-check --quiet install $(REFERENCE:%=-r %)
	touch $@

LOWEST := requirements.txt requirements-features.txt requirements-lightgbm.txt requirements-xgboost.txt requirements-catboost.txt requirements-data.txt
.venv-lowest/stamp: $(LOWEST) requirements-dev.txt
	rm -rf .venv-lowest
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/pip --disable-pip-version-check --quiet install uv
	grep -E '^(pytest|hypothesis)' requirements-dev.txt > .venv-lowest/tests.txt
	.venv-lowest/bin/uv pip install --quiet --python .venv-lowest/bin/python --resolution lowest-direct \
	  $(LOWEST:%=-r %) -r .venv-lowest/tests.txt
	touch $@

.venv/bench.stamp: requirements.txt requirements-bench.txt | .venv/base.stamp
	$(PIP) install -r requirements-bench.txt
	touch $@

.venv/notebook.stamp: requirements.txt requirements-notebook.txt | .venv/base.stamp
	$(PIP) install -r requirements-notebook.txt
	touch $@
