"""Nothing is ever unpickled: by reading the code, and by watching it read."""

import ast
import subprocess
import sys
import textwrap

import pytest
from world.frames import PROJECT

SOURCES = sorted(
    path
    for pattern in ("*.py", "*/*.py")
    for path in PROJECT.glob(pattern)
    if path.parent.name not in ("tests", ".venv")
)
PICKLERS = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve"}
PICKLERS |= {"marshal", "jsonpickle"}
UNSAFE_NAMES = {
    "Unpickler",
    "read_pickle",
    "read_hdf",
    "unsafe_load",
    "full_load",
    "UnsafeLoader",
    "FullLoader",
    "enable_unsafe_deserialization",
    "eval",
    "exec",
}


def unpickling(tree):
    """Yields what could unpickle or run what was read."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            if (node.module or "").split(".")[0] in PICKLERS:
                yield node, f"from {node.module} import"
        elif isinstance(node, ast.Import):
            for alias in node.names:
                root = alias.name.split(".")[0]
                if root in PICKLERS and (root != "pickle" or alias.asname):
                    yield node, f"import {alias.name}"
        elif isinstance(node, ast.Attribute):
            owner = node.value.id if isinstance(node.value, ast.Name) else None
            if owner in PICKLERS and node.attr not in ("dump", "dumps"):
                yield node, f"{owner}.{node.attr}"
            elif node.attr in UNSAFE_NAMES:
                yield node, node.attr
        elif isinstance(node, ast.Name) and node.id in UNSAFE_NAMES:
            yield node, node.id
        elif isinstance(node, ast.Call):
            yield from ((node, what) for what in unsafe_call(node))


def unsafe_call(call):
    name = call.func.attr if isinstance(call.func, ast.Attribute) else ""
    owner = getattr(getattr(call.func, "value", None), "id", None)
    words = {word.arg: getattr(word.value, "value", None) for word in call.keywords}
    if "allow_pickle" in words and words["allow_pickle"] is not False:
        yield "allow_pickle"
    if words.get("safe_mode", True) is not True:
        yield "safe_mode is not True"
    if name == "load_model" and (owner or "") != "artifact":
        if call.args and words.get("safe_mode") is not True:
            yield "load_model without safe_mode=True"
    if name == "load" and owner == "torch":
        yield "torch.load"
    if name == "load" and owner == "yaml":
        loader = next((w.value for w in call.keywords if w.arg == "Loader"), None)
        if getattr(loader, "id", None) != "_StrictLoader":
            yield "yaml.load without the strict loader"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_no_code_unpickles(path):
    found = [
        f"line {node.lineno}: {what}"
        for node, what in unpickling(ast.parse(path.read_text()))
    ]
    assert found == []


@pytest.mark.parametrize(
    "code",
    [
        "import pickle\npickle.loads(b'')",
        "import pickle\nf = pickle.load",
        "import pickle as p",
        "from pickle import loads",
        "import joblib",
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=flag)",
        "pd.read_pickle(path)",
        "keras.models.load_model(path)",
        "keras.models.load_model(path, safe_mode=False)",
        "keras.saving.deserialize_keras_object(x, safe_mode=False)",
        "keras.config.enable_unsafe_deserialization()",
        "yaml.load(text, Loader=yaml.Loader)",
        "yaml.unsafe_load(text)",
        "eval(text)",
    ],
)
def test_the_search_finds(code):
    assert list(unpickling(ast.parse(code)))


def test_the_search_spares_writing():
    code = "import pickle\npickle.dumps(x)\nnp.load(path, allow_pickle=False)"
    assert not list(unpickling(ast.parse(code)))


PROGRAM = textwrap.dedent(
    """
    import json, pickle, sys, zipfile
    sys.path[:0] = [{project!r}, {tests!r}]
    import numpy as np
    import pandas as pd
    from files.strict import write_json
    from artifacts import run_folder as artifacts
    from artifacts.artifact import load_artifact
    from candles import formats
    from networks import checkpoints
    from config import Config
    from world.frames import TINY, make_own_frame
    from data_loader import TrainingDataLoader
    from model_builder import DualWindowLSTMBuilder
    from preprocessing.scaling import FeatureScaler

    folder = {folder!r}
    config = Config(**TINY).replace(outputs_dir=folder + "/outputs")
    run = artifacts.RunFolder.create(config)
    DualWindowLSTMBuilder(config, 8).build_network().save(run.file("model", ".keras"))
    scaler = FeatureScaler.fit(np.eye(3), "abc", kind="robust", clip_limit=9.0)
    write_json(run.file("scaler", ".json"), scaler.to_dict())
    files = {{"files": {{"model": run.file("model", ".keras").name}}}}
    write_json(run.file("metadata", ".json"), files)
    (run.path / "scaler.pkl").write_bytes(pickle.dumps(scaler))
    run.file("scaler", ".pkl").write_bytes(pickle.dumps(scaler))
    published = run.publish()
    state = {{"a": np.arange(3), "history": np.asarray("{{}}")}}
    checkpoints.write_checkpoint(run.path.parent / "epoch_00001.ckpt", state)
    frame = make_own_frame(400)
    frame.to_feather(folder + "/t.feather")
    frame.to_parquet(folder + "/t.parquet")
    frame.to_csv(folder + "/t.csv", index=False)
    times = pd.date_range("2024-01-01", periods=9, freq="min", tz="UTC")
    candles = pd.DataFrame({{"timestamp": times}})
    for name in ("open", "high", "low", "close", "volume"):
        candles[name] = 1.0
    candles.to_feather(folder + "/c.feather")
    candles.to_parquet(folder + "/c.parquet")
    candles.to_csv(folder + "/c.csv", index=False)

    armed = []
    def watch(event, args):
        if armed and event == "pickle.find_class":
            raise RuntimeError(f"unpickles {{args}}")
    sys.addaudithook(watch)
    armed.append(True)
    try:
        pickle.loads(pickle.dumps(scaler))
    except RuntimeError:
        print("the hook works")
    artifact = load_artifact(published)
    assert artifact.load_model().count_params() > 0
    checkpoints.read_checkpoint(run.path.parent / "epoch_00001.ckpt")
    for suffix in ("feather", "parquet", "csv"):
        path = f"{{folder}}/t.{{suffix}}"
        TrainingDataLoader(path, config=config).load_training_data()
        assert len(formats.read_file(f"{{folder}}/c.{{suffix}}")) == 9
    print("nothing was unpickled")
    """
)


def test_reading_never_looks_up_a_class(tmp_path):
    program = PROGRAM.format(
        project=str(PROJECT), tests=str(PROJECT / "tests"), folder=str(tmp_path)
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert result.stdout.splitlines()[-2:] == [
        "the hook works",
        "nothing was unpickled",
    ]
