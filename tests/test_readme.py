"""The README's example runs as it stands, and prints what the README shows of it."""

import re
import subprocess
import sys

from world.frames import PROJECT

README = (PROJECT / "README.md").read_text()


def block(language, number):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)[number]


def shape(text):
    """The lines without their numbers: which words stand where."""
    lines = [re.sub(r"[-+]?[\d.,:%]+|n/a|-", "#", line) for line in text.splitlines()]
    return [re.sub(r"[#\s\[\]]+", " ", line).strip() for line in lines]


def test_example_runs_and_prints_what_is_shown(tmp_path):
    result = subprocess.run(
        [sys.executable, "-c", block("python", 0)],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    shown = README.split("prints\n\n```\n")[1].split("\n```")[0]
    printed = set(shape(result.stdout + result.stderr))
    # Seconds, digits and which warnings come differ from machine to machine.
    start = shown.index("validation part, in the same form")
    fixed = ("data:", "model:", "test:", "  log-loss skill", "  gradient boosting")
    lines = [line for line in shown[start:].splitlines() if line.startswith(fixed)]
    lines += [line for line in shown[:start].splitlines() if line.startswith(fixed)]
    assert len(lines) >= 5
    assert set(shape("\n".join(lines))) <= printed


def test_own_family_example_works(tmp_path):
    code = block("python", 2) + (
        "import sys\n"
        f"sys.path[:0] = [{str(PROJECT / 'tests')!r}]\n"
        "from config import Config\n"
        "from world.frames import TINY, make_own_frame\n"
        "from predictor import Predictor\n"
        "from trainer import StandaloneTrainer\n"
        f"own = {{'outputs_dir': {str(tmp_path)!r}, 'model': 'extra_trees'}}\n"
        "config = Config(**TINY | own | {'num_trees': 3, 'baseline_model': False})\n"
        "run = StandaloneTrainer(config, frame=make_own_frame(900))\n"
        "model = Predictor(run.run_training()).adapter.model\n"
        "assert type(model).__name__ == 'Trees' and model.family == 'extra_trees'\n"
        "assert run.results['importance']['features']\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=True)


def test_own_feature_set_example_works():
    code = block("python", 1) + (
        "import candles\n"
        "from dataset import features\n"
        "table = candles.synthetic_candles(100)\n"
        "found = features.compute_features(\n"
        "    table, timeframe='1m', feature_sets=('mine',)\n"
        ")\n"
        "assert list(found) == ['price_to_ma21'] and found.notna().sum().item() == 80\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=True)
