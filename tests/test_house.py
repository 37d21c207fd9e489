"""The shape of the repository: levels of imports, the README's file tree, settings."""

import ast
import re
import subprocess
import sys

import pytest
from conftest import PROJECT

LEVELS = [
    "field_values utils tables timestamps scaling indicators labels cross_validation "
    "metrics significance trading calibration download verdict checkpoints manifest "
    "position_losses windows fused_lstm findings skops_schema lightgbm_files presets",
    "config",
    "config_sources file_names "
    "run_series network_sizes candle_files class_balance features "
    "training_file thresholds plots "
    "dataset_cache networks optimizers callbacks losses model_files skops_files "
    "report_blocks",
    "candle_checks fingerprints dataset artifacts model_builder report_forecasts "
    "regression_report exchanges run_options "
    "dry_run "
    "time_plots",
    "candles dataset_report report_trades report_run report_regression "
    "report_importance comparison_report",
    "candle_sources dataset_rows data_loader report_page",
    "report dataset_builder sequence_generator folds baselines adapter_base "
    "lookahead column_skill label_timing window_tables",
    "split_checks gap_fills backtest metadata keras_adapter tabular_adapters",
    "audit judge sklearn_adapter lightgbm_adapter",
    "evaluation model_adapters importance regression_judge",
    "regression predictor",
    "judgement compare",
    "trainer",
    "analysts",
]
LEVEL = {name: depth for depth, row in enumerate(LEVELS) for name in row.split()}
MAY_IMPORT_KERAS = {
    "sequence_generator",
    "model_builder",
    "callbacks",
    "checkpoints",
    "networks",
    "optimizers",
    "losses",
    "position_losses",
    "fused_lstm",
}
MODULES = sorted(path.stem for path in PROJECT.glob("*.py"))


def imports(name, *, top_only=False):
    tree = ast.parse((PROJECT / f"{name}.py").read_text())
    for node in tree.body if top_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module.split(".")[0]


@pytest.mark.parametrize("name", MODULES)
def test_imports_point_down(name):
    assert name in LEVEL, f"give {name} a level in LEVELS, and a line in the README"
    for other in set(imports(name)) & set(MODULES) - {"utils"}:
        assert LEVEL[other] < LEVEL[name], f"{name} imports {other}"


@pytest.mark.parametrize("name", MODULES)
def test_only_the_named_modules_import_keras(name):
    keras = {"keras", "tensorflow"} & set(imports(name, top_only=True))
    assert not keras or name in MAY_IMPORT_KERAS


def test_trainer_imports_only_config_and_utils():
    assert set(imports("trainer", top_only=True)) & set(MODULES) == {"config", "utils"}


def test_readme_tree_is_true():
    readme = (PROJECT / "README.md").read_text()
    tree = readme.split("## What is where")[1].split("```")[1]
    listed = set(re.findall(r"^\s*([\w./*-]+)\s{2,}", tree, re.MULTILINE))
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    tops = {p.split("/")[0] + ("/" if "/" in p else "") for p in tracked}
    there = {top for top in tops if (PROJECT / top).exists()}
    assert listed == there - {".gitignore"}


def test_nothing_is_done_at_import():
    code = (
        "import sys, logging, os; before = dict(os.environ)\n"
        f"import {', '.join(set(MODULES) - MAY_IMPORT_KERAS)}\n"
        "assert dict(os.environ) == before\n"
        "assert not logging.getLogger().handlers\n"
        "assert 'tensorflow' not in sys.modules and 'keras' not in sys.modules"
    )
    probe = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert probe.returncode == 0, probe.stderr


def test_nothing_is_ever_unpickled():
    forbidden = re.compile(
        r"pickle\.loads?\b|joblib\.load|allow_pickle=True|read_pickle"
    )
    for name in MODULES:
        assert not forbidden.search((PROJECT / f"{name}.py").read_text()), name
