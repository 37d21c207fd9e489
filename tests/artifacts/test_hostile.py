"""Files that were made to hurt: one clear refusal, and nothing else happens."""

import functools
import io
import json
import os
import resource
import shutil
import tracemalloc
import zipfile

import h5py
import hypothesis.strategies as st
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from world.artifacts import SCALER
from world.frames import TINY, make_own_frame
from world.signals import make_candles, make_recipe

import utils
from artifacts import keras_files, manifest, run_folder
from artifacts.array_files import HEADER
from artifacts.artifact import load_artifact
from candles import formats
from candles.columns import COLUMNS
from config import Config
from data_loader import TrainingDataLoader
from dataset.sidecar import sidecar_path
from files import tables
from files.atomic import atomic_write, sha256_file
from files.strict import to_json, write_json
from model_builder import DualWindowLSTMBuilder
from networks import checkpoints
from preprocessing.pipelines import PreprocessingPipeline
from preprocessing.scaling import FeatureScaler
from settings.sources import load_config
from utils import ConfigError, DataError, RefusedArtifactError

# Ray registers types of these names; some of them unpickle what they read.
RAY_TYPES = [
    "ray.data.arrow_pickled_object",
    "ray.data.arrow_tensor",
    "ray.data.arrow_tensor_v2",
    "ray.data.arrow_variable_shaped_tensor",
]


def listing(folder):
    return {
        path.relative_to(folder).as_posix(): path.lstat().st_size
        for path in folder.rglob("*")
    }


# Artifacts


class Network(bytes):
    def __repr__(self):
        return "network"


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """The bytes of a small .keras file."""
    path = tmp_path_factory.mktemp("network") / "m.keras"
    DualWindowLSTMBuilder(Config(**TINY), num_features=2).build_network().save(path)
    return Network(path.read_bytes())


@pytest.fixture
def published(tmp_path, network):
    config = Config(**TINY | {"outputs_dir": str(tmp_path / "outputs")})
    run = run_folder.RunFolder.create(config)
    atomic_write(run.file("model", ".keras"), network)
    write_json(run.file("scaler", ".json"), SCALER.to_dict())
    files = {"model": run.file("model", ".keras").name}
    write_json(run.file("metadata", ".json"), {"files": files})
    atomic_write(run.path / "plots" / "a.png", b"png")
    return run.publish()


def edit_manifest(folder, change):
    path = folder / "MANIFEST.json"
    content = json.loads(path.read_text())
    changed = change(content)
    content = content if changed is None else changed
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def reseal(folder):
    """What an enemy can do, too: a manifest that fits."""
    manifest.write_manifest(folder, "MANIFEST.json", is_internal=lambda _: False)


def set_file(name, entry):
    return lambda content: content["files"].__setitem__(name, entry)


def set_entry(key, value):
    def change(content):
        name = next(iter(content["files"]))
        content["files"][name] |= {key: value}

    return change


GOOD = {"bytes": 0, "sha256": "0" * 64}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_file("/etc/passwd", GOOD), "expected names inside the folder"),
        (set_file("../x", GOOD), "expected names inside the folder"),
        (set_file("plots/../../x", GOOD), "expected names inside the folder"),
        (set_file("./x", GOOD), "expected names inside the folder"),
        (set_file("plots//a.png", GOOD), "expected names inside the folder"),
        (set_file("", GOOD), "expected names inside the folder"),
        (set_file("a\\b", GOOD), "expected names inside the folder"),
        (set_file("a\x00b", GOOD), "expected names inside the folder"),
        (set_file("a\nb", GOOD), "expected names inside the folder"),
        (set_file("x", None), "expected size and sha256 of x"),
        (set_file("x", [GOOD]), "expected size and sha256 of x"),
        (set_file("x", GOOD), "expected the plain file x"),
        (set_file("plots", GOOD), "expected the plain file plots"),
        (set_entry("bytes", "1"), "expected size and sha256"),
        (set_entry("bytes", 1.0), "expected size and sha256"),
        (set_entry("bytes", True), "expected size and sha256"),
        (set_entry("bytes", -1), "expected size and sha256"),
        (set_entry("sha256", None), "expected size and sha256"),
        (set_entry("sha256", "A" * 64), "expected size and sha256"),
        (set_entry("extra", 1), "expected size and sha256"),
        (lambda content: content.update(files=[]), "a manifest of format 1"),
        (lambda content: content.update(format=2), "a manifest of format 1"),
        (lambda content: content.pop("format") and None, "a manifest of format 1"),
        (lambda _: "[]", "a manifest of format 1"),
        (lambda _: "null", "a manifest of format 1"),
        (lambda _: '{"format": 1, "files": {"a": 1, "a": 2}}', "'a' appears twice"),
        (lambda _: '{"format": 1, "files": {"a": NaN}}', "NaN is not JSON"),
        (lambda _: '{"format": -Infinity}', "-Infinity is not JSON"),
        (lambda _: '{"format": 1e999}', "1e999 is no finite number"),
        (lambda _: '{"format": ' + "9" * 5000 + "}", "expected strict JSON"),
        (lambda _: "[" * 100_000, "expected strict JSON"),
        (lambda _: "[" * 100 + "]" * 100, "40 levels of nesting"),
        (lambda _: " " * (4 * 2**20 + 1), "expected at most 4194304 bytes"),
        (lambda _: '{"format": 1, "files": \udcff'[:-1] + "\x00}", "strict JSON"),
        (lambda _: "", "expected strict JSON"),
        (
            lambda c: c.update(files={f"f{i}": GOOD for i in range(10_001)}),
            "a manifest of format 1",
        ),
    ],
)
def test_hostile_manifests(published, change, message):
    edit_manifest(published, change)
    before = listing(published.parents[3])
    with pytest.raises(RefusedArtifactError, match=message) as caught:
        load_artifact(published)
    assert caught.value.exit_code == 76
    assert listing(published.parents[3]) == before


def link_file(folder):
    shutil.copy(folder / "config.yaml", folder.parent / "outside")
    (folder / "config.yaml").unlink()
    (folder / "config.yaml").symlink_to("../outside")


def link_parent(folder):
    shutil.move(folder / "plots", folder.parent / "elsewhere")
    (folder / "plots").symlink_to("../elsewhere")


def link_parent_inside(folder):
    shutil.move(folder / "plots", folder / "real")
    (folder / "plots").symlink_to("real")


def link_manifest(folder):
    shutil.move(folder / "MANIFEST.json", folder.parent / "m.json")
    (folder / "MANIFEST.json").symlink_to("../m.json")


def make_pipe(folder):
    (folder / "config.yaml").unlink()
    os.mkfifo(folder / "config.yaml")


def make_folder(folder):
    (folder / "config.yaml").unlink()
    (folder / "config.yaml").mkdir()


def add_model(folder):
    (folder / "plots" / "other.keras").write_bytes(b"x")


def add_pickle(folder):
    (folder / "a.pkl").write_bytes(b"x")


def add_scaler(folder):
    (folder / "scaler_other.json").write_text("{}")


def add_linked_model(folder):
    (folder / "model_x.keras").symlink_to("/dev/zero")


@pytest.mark.parametrize(
    ("tamper", "message"),
    [
        (link_file, "plain file config.yaml. Received: a link"),
        (link_parent, "plain file plots/a.png. Received: a link"),
        (link_parent_inside, "plain file plots/a.png. Received: a link"),
        (link_manifest, "plain file MANIFEST.json. Received: a link"),
        (make_pipe, "plain file config.yaml"),
        (make_folder, "plain file config.yaml"),
        (add_model, "no model file beside.* plots/other.keras"),
        (add_pickle, "no model file beside.* a.pkl"),
        (add_scaler, "no model file beside.* scaler_other.json"),
        (add_linked_model, "no model file beside.* model_x.keras"),
    ],
)
def test_hostile_folders(published, tamper, message):
    tamper(published)
    with pytest.raises(RefusedArtifactError, match=message):
        load_artifact(published)


@pytest.mark.parametrize(
    ("kind", "content", "message"),
    [
        ("metadata", "[]", "expected metadata and a scaler"),
        ("metadata", '{"a": 1, "a": 2}', "'a' appears twice"),
        ("metadata", '{"a": Infinity}', "Infinity is not JSON"),
        ("scaler", '"text"', "expected metadata and a scaler"),
        ("scaler", "{}", "expected a scaler"),
    ],
)
def test_hostile_descriptions_under_a_fitting_manifest(
    published, kind, content, message
):
    next(published.glob(f"{kind}_*.json")).write_text(content)
    reseal(published)
    with pytest.raises(RefusedArtifactError, match=message):
        load_artifact(published)


@pytest.mark.parametrize(
    "name", ["../../../m.keras", "/m.keras", "config.yaml", None, 3, ["a"], {}]
)
def test_model_names_outside_the_manifest(published, name):
    path = next(published.glob("metadata_*"))
    path.write_text(json.dumps({"files": {"model": name, "calibrator": name}}))
    reseal(published)
    artifact = load_artifact(published)
    with pytest.raises(RefusedArtifactError, match=".npz model in the manifest"):
        artifact.load_model()
    with pytest.raises(RefusedArtifactError, match="a .json calibrator in the"):
        artifact.read_json("calibrator")


def test_model_exchanged_after_the_check_is_noticed(published):
    artifact = load_artifact(published)
    assert artifact.load_model().count_params() == 147
    path = next(published.glob("*.keras"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(RefusedArtifactError, match="its sha256 is not"):
        artifact.load_model()


def test_digest_of_the_weights_is_held_too(published):
    def change(content):
        name = next(name for name in content["files"] if name.endswith(".keras"))
        content["files"][name]["weights_sha256"] = "0" * 64

    edit_manifest(published, change)
    with pytest.raises(RefusedArtifactError, match="sha256 of its weights"):
        load_artifact(published)


# Networks


def members(network):
    return keras_files.read_members(network, "x")


def pack(content, *, packed=False):
    buffer = io.BytesIO()
    kind = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
    with zipfile.ZipFile(buffer, "w", kind) as archive:
        for name, data in content:
            archive.writestr(name, data)
    return buffer.getvalue()


def repack(network, *, packed=False, **changes):
    content = members(network)
    content |= {key.replace("_", "."): value for key, value in changes.items()}
    return pack(content.items(), packed=packed)


def edit_config(network, old, new):
    text = members(network)["config.json"].decode()
    assert old in text
    return repack(network, config_json=text.replace(old, new))


def weights_file(build):
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        build(file)
    return buffer.getvalue()


def refused(data, message):
    with pytest.raises(RefusedArtifactError, match=message) as caught:
        keras_files.load_keras_model(data, "x.keras")
    assert caught.value.exit_code == 76


def test_network_that_is_whole_loads(network):
    assert keras_files.load_keras_model(network, "x").count_params() == 147


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"units": 4', '"units": 10000000000', "numbers up to .* units = 10000000000"),
        ('"units": 4', '"units": 5', "expected the description of a network"),
        ('"units": 4', '"units": -4', "expected the description of a network"),
        ('"units": 4', '"units": "4"', "expected the description of a network"),
        ('"units": 4', '"units": 1e999', "no finite number"),
        ('"units": 4', '"units": NaN', "NaN is not JSON"),
        ('"units": 4', '"units": 4, "units": 4', "'units' appears twice"),
        ('"unroll": false', '"unroll": true', "expected no unrolled layer"),
        ("[null, 8, 2]", "[null, 99999999, 2]", "numbers up to"),
        ('"Dropout"', '"Lambda"', "built-in layers. Received: keras.layers.Lambda"),
        ('"Dropout"', '"TFSMLayer"', "built-in layers"),
        ('"keras.layers"', '"os"', "built-in layers. Received: os."),
        ('"registered_name": null', '"registered_name": "a>B"', "registered as a>B"),
        ('"activation": "relu"', '"activation": {"class_name": "__lambda__"}', "lamb"),
        (
            '"activation": "relu"',
            '"activation": {"module": "builtins", "class_name": "function",'
            ' "config": "eval"}',
            "built-in layers. Received: builtins.function",
        ),
        ('"compile_config": {}', '"compile_config": {"loss": "x"}', "an uncompiled"),
        ('"class_name": "Functional"', '"class_name": "Evil"', "an uncompiled Keras"),
    ],
)
def test_hostile_descriptions_of_networks(network, old, new, message):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(edit_config(network, old, new), message)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000


def with_units(network, units):
    """The network with another LSTM, and without the shapes that would tell."""
    description = json.loads(members(network)["config.json"])
    for layer in description["config"]["layers"]:
        layer.pop("build_config", None)
    description["config"]["layers"][1]["config"]["units"] = units
    return repack(network, config_json=json.dumps(description).encode())


def test_parameters_are_counted_before_they_are_allocated(network):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    message = "at most 500000000 parameters. Received: 160003"
    refused(with_units(network, 200_000), message)
    refused(with_units(network, 5), "expected 199 parameters.* Received: 147")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000
    # Nothing of the absurd one waits to be allocated now.
    assert keras_files.load_keras_model(network, "x").count_params() == 147


def test_hostile_zips(network):
    content = list(members(network).items())
    refused(b"", "expected a whole .keras file")
    refused(network[:-30], "expected a whole .keras file")
    refused(b"\x89HDF\r\n\x1a\n" + bytes(500), "expected a whole .keras file")
    refused(pack(content[:2]), "and nothing else. Received: 2 members")
    refused(pack([*content, ("../../x.py", b"x")]), "Received: 4 members")
    refused(pack([*content, ("assets/vocabulary.txt", b"x")]), "Received: 4 members")
    with pytest.warns(UserWarning, match="Duplicate name"):
        doubled = pack([*content, content[0]])
    refused(doubled, "Received: 4 members")
    bomb = repack(network, packed=True, config_json=b" " * 4_000_000)
    assert len(bomb) < 30_000
    refused(bomb, "looks like a zip bomb")
    bomb = pack([*content[:2], (manifest.WEIGHTS_MEMBER, bytes(2**26))], packed=True)
    refused(bomb, "looks like a zip bomb")
    refused(repack(network, config_json=b"[" * 100_000), "expected strict JSON")
    nested = b'{"a": ' * 50 + b"1" + b"}" * 50
    refused(repack(network, config_json=nested), "40 levels of nesting")
    refused(repack(network, metadata_json=b"{}" + bytes(2**17)), "at most 65536 bytes")


def external(file):
    file["layers"] = h5py.ExternalLink("/etc/passwd", "/")


def soft(file):
    file["layers"] = h5py.SoftLink("/elsewhere")


def chunked(file):
    shape = (10**6, 10**6)
    file.create_dataset("w", shape, np.float32, chunks=(100, 100), compression="gzip")


def late(file):
    file.create_dataset("w", (10**9,), np.float32)  # nothing of it is written


def outside(file):
    external = [("/etc/passwd", 0, 400)]
    file.create_dataset("w", (100,), np.float32, external=external)


def virtual(file):
    layout = h5py.VirtualLayout((100,), np.float32)
    layout[:] = h5py.VirtualSource("/etc/passwd", "w", shape=(100,))
    file.create_virtual_dataset("w", layout)


def objects(file):
    file.create_dataset("w", data=np.array(["a"], object), dtype=h5py.string_dtype())


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (external, "expected no link"),
        (soft, "expected no link"),
        (chunked, "expected plain arrays of weights"),
        (late, "expected at most .* weights. Received: 1000000000"),
        (outside, "expected plain arrays of weights"),
        (virtual, "expected plain arrays of weights"),
        (objects, "expected plain arrays of weights"),
        (lambda file: None, "expected 147 parameters.* Received: 0"),
    ],
)
def test_hostile_weights(network, build, message):
    data = members(network) | {manifest.WEIGHTS_MEMBER: weights_file(build)}
    refused(pack(data.items()), message)


# Tables of training files and candles


def arrow_file(path, table):
    if path.suffix == ".feather":
        pa.feather.write_feather(table, str(path), compression="uncompressed")
    else:
        pq.write_table(table, path)
    return path


class Trap(pa.ExtensionType):
    built = 0

    def __init__(self, name):
        super().__init__(pa.float64(), name)

    def __arrow_ext_serialize__(self):
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, storage_type, serialized):
        Trap.built += 1
        raise AssertionError("a type of the file was built")


@pytest.mark.parametrize("suffix", ["feather", "parquet"])
@pytest.mark.parametrize("name", RAY_TYPES)
def test_extension_types_are_refused_before_they_are_built(tmp_path, suffix, name):
    frame = make_own_frame(400)
    trapped = pa.ExtensionArray.from_storage(Trap(name), pa.array(np.zeros(400)))
    table = pa.Table.from_pandas(frame).append_column("evil", trapped)
    path = arrow_file(tmp_path / f"a.{suffix}", table)
    pa.register_extension_type(Trap(name))
    try:
        with pytest.raises(DataError, match="Arrow extension types"):
            tables.open_table(path)
    finally:
        pa.unregister_extension_type(name)
    assert Trap.built == 0


def test_parquet_bomb(tmp_path):
    table = pa.table({"timestamp": np.zeros(20_000_000, np.int64)})
    path = tmp_path / "a.parquet"
    pq.write_table(table, path, compression="zstd")
    assert path.stat().st_size < 100_000
    for read in (tables.open_table, formats.read_file):
        with pytest.raises(DataError, match="decompression bomb|no column"):
            read(path)
    columns = {name: table["timestamp"] for name in COLUMNS}
    pq.write_table(pa.table(columns), path, compression="zstd")
    tracemalloc.start()
    with pytest.raises(DataError, match="decompression bomb"):
        formats.read_file(path)
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()


def test_feather_bomb(tmp_path):
    zeros = np.zeros(20_000_000, np.int64)
    table = pa.table({name: zeros for name in COLUMNS})
    path = tmp_path / "a.feather"
    pa.feather.write_feather(table, str(path), compression="zstd")
    assert path.stat().st_size < 1_000_000
    for read in (tables.open_table, formats.read_file):
        with pytest.raises(DataError, match="decompression bomb"):
            read(path)


def load(path):
    return TrainingDataLoader(path, config=Config(**TINY)).load_training_data()


def test_csv_that_breaks_off(tmp_path):
    path = tmp_path / "a.csv"
    make_own_frame(400).to_csv(path, index=False)
    assert load(path).num_rows == 400
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(DataError, match="breaks off: the file is probably truncated"):
        load(path)


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("segment", 1e300, "segment: expected numbers that int64 holds"),
        ("segment", np.nan, "segment: expected no empty cell"),
        ("segment", "x", "segment: expected numbers"),
        ("long_exit", 300, "long_exit: expected numbers that int8 holds"),
        ("label_end", 2.5, "label_end: expected numbers that int32 holds"),
        ("is_target", 2, "is_target: expected numbers that bool holds"),
        ("label", np.inf, "label: expected 0"),
        ("high_change", np.nan, "high_change: expected finite"),
        ("high_change", b"\x80\x04.", "high_change: expected numbers"),
    ],
)
def test_columns_of_the_wrong_kind(tmp_path, column, values, message):
    frame = make_own_frame(400)
    frame[column] = [values] * 400
    path = tmp_path / "a.feather"
    frame.to_feather(path)
    with pytest.raises(DataError, match=message):
        load(path)


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "null",
        "{}",
        '{"format": 1, "sha256": NaN}',
        '{"format": 1, "format": 1}',
        '{"format": 1, "sha256": []}',
        '{"format": 1, "sha256": "DIGEST", "parameters": ["pair"]}',
        "[" * 100_000,
        "\x00",
        "",
    ],
)
def test_hostile_sidecars(tmp_path, text):
    path = tmp_path / "a.feather"
    make_own_frame(400).to_feather(path)
    text = text.replace("DIGEST", sha256_file(path))
    sidecar_path(path).write_text(text)
    with pytest.raises(DataError) as caught:
        load(path)
    assert caught.value.exit_code == 65


# YAML and scalers


def laughs():
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    for old, new in zip("abcdefgh", "bcdefghi", strict=True):
        lines.append(f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]")
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (laughs(), "aliases"),
        ("a: &a [*a]", "aliases"),
        ("<<: {pair: X}\npair: Y", "expected|unknown"),
        ("[" * 50_000, "expected valid YAML"),
        ("{" * 50_000, "expected valid YAML"),
        ("a: " + "- " * 50_000, "expected valid YAML"),
        ("pair: A\npair: B", "appears twice"),
        ("\n".join(f"k{i}: 1" for i in range(9000)), "unknown field"),
        ("\n".join("k: 1" for i in range(9000)), "appears twice"),
        ("x" * 140_000, "expected at most 131072 bytes"),
        ("epochs: .nan", "epochs: expected"),
        ("learning_rate: .inf", "learning_rate: expected"),
        ("epochs: " + "9" * 6000, "expected"),
        ("lstm_units: [10000000000]", "lstm_units: expected <="),
        ("pair: ../../etc", "pair: expected"),
        ("pair: !!python/object/apply:os.system [id]", "expected valid YAML"),
        ("!!python/name:os.system : 1", "expected valid YAML"),
        ("? [a]\n: 1", "expected"),
        ("pair: \x00", "expected valid YAML"),
    ],
)
def test_hostile_yaml(tmp_path, text, message):
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(str(path))
    assert caught.value.exit_code == 2
    assert list(tmp_path.iterdir()) == [path]


def test_yaml_that_is_no_text(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_bytes(b"pair: \xff\xfe")
    with pytest.raises(ConfigError, match="expected valid YAML"):
        load_config(str(path))


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "evil"},
        {"kind": 1},
        {"feature_names": "ab"},
        {"feature_names": [1, 2]},
        {"center": ["0.5", 1.0]},
        {"center": [True, 1.0]},
        {"center": [10**400, 1.0]},
        {"center": {"a": 1}},
        {"center": None},
        {"scale": [1.0, -1.0]},
        {"scale": [1.0, float("nan")]},
        {"clip_limit": 0.0},
        {"clip_limit": -1.0},
        {"clip_limit": "10"},
        {"num_rows": 2.5},
        {"num_rows": -1},
        {"more": 1},
    ],
)
def test_hostile_scalers(change):
    with pytest.raises(DataError, match="expected a scaler") as caught:
        FeatureScaler.from_dict(SCALER.to_dict() | change)
    assert len(str(caught.value)) < 500


# Checkpoints


def sealed(data):
    import hashlib

    digest = hashlib.sha256(data).hexdigest().encode()
    return HEADER + digest + b"\n" + data


def npz(**arrays):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def header_of_a_terabyte():
    buffer = io.BytesIO()
    shape = {"descr": "<f4", "fortran_order": False, "shape": (10**12,)}
    np.lib.format.write_array_header_1_0(buffer, shape)
    return pack([("a.npy", buffer.getvalue())])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PK\x03\x04",
        npz(a=np.zeros(3))[:-30],
        npz(a=np.array([{}], object)),
        header_of_a_terabyte(),
        pack([("a.npy", bytes(2**26))], packed=True),
        pack([("a.npy", b"\x80\x04N.")]),
    ],
    ids=["nothing", "zip", "cut", "objects", "terabyte", "bomb", "pickle"],
)
def test_hostile_checkpoints(tmp_path, data):
    path = tmp_path / "epoch_00001.ckpt"
    path.write_bytes(sealed(data))
    with pytest.raises(RefusedArtifactError, match="expected plain arrays"):
        checkpoints.read_checkpoint(path)
    assert checkpoints.read_newest(tmp_path) is None


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"history": np.asarray("[" * 100_000)},
        {"history": np.asarray("[]"), "epochs_done": np.asarray(1)},
        {
            "history": np.asarray('{"loss": ["0x1p0"]}'),
            "epochs_done": np.asarray(2),
            "is_finished": np.asarray(False),
        },
        {
            "history": np.asarray('{"loss": [1]}'),
            "epochs_done": np.asarray(1.5),
            "is_finished": np.asarray(False),
        },
    ],
)
def test_checkpoint_that_is_no_state_is_passed_over(tmp_path, state, caplog):
    checkpoints.write_checkpoint(tmp_path / "epoch_00001.ckpt", state)
    assert checkpoints.read_newest(tmp_path) is None
    assert "expected the state of a training" in caplog.text


# Properties: any bytes at all

SOME = settings(
    max_examples=int(os.environ.get("HOSTILE_EXAMPLES", "25")),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


def refuses_or_reads(read, *codes):
    try:
        read()
    except utils.UserError as error:
        assert error.exit_code in codes and str(error)


@SOME
@given(data=st.binary(max_size=300), magic=st.sampled_from([b"", b"ARROW1", b"PAR1"]))
@pytest.mark.parametrize("suffix", ["feather", "parquet", "csv"])
def test_any_bytes_as_a_training_file(tmp_path, suffix, data, magic):
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(magic + data + magic)
    refuses_or_reads(lambda: load(path), 65)


@SOME
@given(data=st.binary(max_size=300), magic=st.binary(max_size=6))
@pytest.mark.parametrize("suffix", sorted(formats._READERS))
def test_any_bytes_as_candles(tmp_path, suffix, data, magic):
    path = tmp_path / f"a{suffix}"
    known = b"\x1f\x8b" if suffix.endswith("gz") else magic
    path.write_bytes(known + data)
    refuses_or_reads(lambda: formats.read_file(path), 65)


@SOME
@given(text=st.text(alphabet="aepochs:[]{}&*!-?|>'\"# \n\t0123.", max_size=80))
def test_any_text_as_yaml(tmp_path, text):
    path = tmp_path / "run.yaml"
    path.write_text(text)
    refuses_or_reads(lambda: load_config(str(path)), 2)


@SOME
@given(content=json_values)
def test_any_json_as_a_sidecar(tmp_path, content):
    path = tmp_path / "a.feather"
    if not path.exists():
        make_own_frame(400).to_feather(path)
    sidecar = {"format": 1, "sha256": sha256_file(path), "parameters": content}
    sidecar_path(path).write_text(json.dumps(sidecar))
    refuses_or_reads(lambda: load(path), 65)


@SOME
@given(content=json_values, key=st.sampled_from([*SCALER.to_dict(), "more"]))
def test_any_value_in_a_scaler(content, key):
    refuses_or_reads(
        lambda: FeatureScaler.from_dict(SCALER.to_dict() | {key: content}), 65
    )


PREPROCESSOR = to_json(make_recipe().pipeline.to_dict())


def places(value, place=()):
    """Yields the way to every value inside of JSON."""
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    for key, each in inner:
        yield (*place, key)
        if isinstance(each, dict | list):
            yield from places(each, (*place, key))


@SOME
@given(content=json_values, place=st.sampled_from([*places(json.loads(PREPROCESSOR))]))
def test_any_value_in_a_preprocessor(content, place):
    values = json.loads(PREPROCESSOR)
    *ways, last = place
    functools.reduce(lambda value, key: value[key], ways, values)[last] = content

    def read():
        pipeline = PreprocessingPipeline.from_dict(values, "a file")
        pipeline.transform(make_candles(300), last=1)

    refuses_or_reads(read, 65, 76)


@SOME
@given(content=json_values, name=st.text(max_size=20))
def test_any_entry_in_a_manifest(tmp_path, content, name):
    (tmp_path / "x").write_bytes(b"")
    text = json.dumps({"format": 1, "files": {name: content, "x": GOOD}})
    (tmp_path / "MANIFEST.json").write_text(text)
    refuses_or_reads(lambda: load_artifact(tmp_path), 76)


@SOME
@given(data=st.binary(max_size=300))
def test_any_bytes_as_a_checkpoint(tmp_path, data):
    path = tmp_path / "epoch_00001.ckpt"
    for content in (data, sealed(data), sealed(b"PK\x03\x04" + data)):
        path.write_bytes(content)
        with pytest.raises(RefusedArtifactError):
            checkpoints.read_checkpoint(path)


@SOME
@given(content=json_values, key=st.sampled_from(["units", "class_name", "layers"]))
def test_any_value_in_a_network(network, content, key):
    description = json.loads(members(network)["config.json"])
    target = description["config"]
    (target if key == "layers" else target["layers"][1])[key] = content
    data = repack(network, config_json=json.dumps(description).encode())
    refuses_or_reads(lambda: keras_files.load_keras_model(data, "x"), 76)


def test_frames_of_pandas_are_not_files():
    frame = pd.DataFrame({"label": [1, "x"]}, dtype=object)
    with pytest.raises(DataError, match="expected plain columns"):
        tables.from_pandas(frame)
