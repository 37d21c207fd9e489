"""Only plain models are opened: of known types, with trees inside their arrays."""

import copy
import io
import json
import os
import subprocess
import sys
import textwrap
import zipfile

import numpy as np
import pytest
import skops.io
from conftest import PROJECT
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from artifacts import skops_schema
from artifacts.skops_files import SCHEMA, dump_sklearn, load_sklearn
from artifacts.skops_schema import iterate_nodes
from utils import RefusedArtifactError

DRAW = np.random.default_rng(0)
INPUTS = DRAW.standard_normal((300, 4)).astype(np.float32)
CLASSES = DRAW.integers(0, 3, 300)
NUMBERS = INPUTS[:, 0] + DRAW.standard_normal(300)
MODELS = {
    "forest": RandomForestClassifier(3, max_depth=3, random_state=1, n_jobs=2),
    "extra": ExtraTreesClassifier(3, max_depth=3, random_state=1),
    "forest_of_numbers": RandomForestRegressor(3, max_depth=3, random_state=1),
    "histograms": HistGradientBoostingClassifier(
        max_iter=2, max_features=0.5, early_stopping=False, random_state=1
    ),
    "histograms_of_two": HistGradientBoostingClassifier(
        max_iter=2, early_stopping=False, random_state=1
    ),
    "histograms_of_numbers": HistGradientBoostingRegressor(
        max_iter=2, early_stopping=False, random_state=1
    ),
    "classic": GradientBoostingClassifier(
        n_estimators=2, subsample=0.5, random_state=1
    ),
    "classic_of_numbers": GradientBoostingRegressor(n_estimators=2, random_state=1),
    "logistic": make_pipeline(StandardScaler(), LogisticRegression()),
}


@pytest.fixture(scope="module")
def fitted():
    found = {}
    for name, model in MODELS.items():
        targets = NUMBERS if "numbers" in name else CLASSES
        targets = targets > 0 if name.endswith("of_two") else targets
        found[name] = model.fit(INPUTS, targets)
    return found


def outputs(model):
    predict = getattr(model, "predict_proba", None) or model.predict
    return predict(INPUTS)


def unpack(data):
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    return json.loads(members.pop(SCHEMA)), members


def pack(schema, members, *, packed=False):
    stream = io.BytesIO()
    kind = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
    with zipfile.ZipFile(stream, "w", kind) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        archive.writestr(SCHEMA, json.dumps(schema))
    return stream.getvalue()


def refused(data, message):
    with pytest.raises(RefusedArtifactError, match=message):
        load_sklearn(data, "here")


@pytest.mark.parametrize("name", MODELS)
def test_models_come_back_with_the_same_answers(fitted, name):
    data = dump_sklearn(fitted[name])
    again = load_sklearn(data, "here")
    assert type(again) is type(fitted[name])
    np.testing.assert_array_equal(outputs(again), outputs(fitted[name]))
    assert dump_sklearn(again) == data
    assert skops.io.get_untrusted_types(data=data) in (
        [],
        ["sklearn.tree._tree.Tree"],
        ["sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"],
    )


def test_equal_models_give_equal_bytes_in_every_process():
    program = textwrap.dedent(
        f"""
        import hashlib, sys
        tests = {str(PROJECT / "tests")!r}
        sys.path[:0] = [{str(PROJECT)!r}, tests, tests + "/artifacts"]
        from test_skops_files import CLASSES, INPUTS, MODELS, dump_sklearn
        digest = hashlib.sha256()
        for name in ("forest", "histograms", "classic", "logistic"):
            digest.update(dump_sklearn(MODELS[name].fit(INPUTS, CLASSES)))
        print(digest.hexdigest())
        """
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1


class Runs:
    """Would run a command, if it were ever unpickled or constructed."""

    def __reduce__(self):
        return os.mkdir, ("/tmp/ran",)


def test_other_models_are_refused(fitted):
    neighbors = KNeighborsClassifier().fit(INPUTS, CLASSES)
    for model in (
        neighbors,
        make_pipeline(FunctionTransformer(np.log1p), LogisticRegression()),
        make_pipeline(StandardScaler(), fitted["classic"]),
        {"a": 1},
        [fitted["forest"]],
        os.system,
        subprocess.Popen,
    ):
        data = skops.io.dumps(model)
        refused(data, "here: expected")
        schema, members = unpack(data)
        for node in iterate_nodes(schema):
            node.pop("__id__", None)
        refused(pack(schema, members), "here: expected")


def plain(name):
    return unpack(dump_sklearn(MODELS[name]))


HOSTILE_NODES = [
    {"__class__": "system", "__module__": "os", "__loader__": "FunctionNode"},
    {"__class__": "system", "__module__": "os", "__loader__": "TypeNode"},
    {"__class__": "str", "__module__": "os", "__loader__": "TypeNode"},
    {
        "__class__": "Popen",
        "__module__": "subprocess",
        "__loader__": "ObjectNode",
        "content": {"__class__": "dict"},
    },
    {
        "__class__": "Popen",
        "__module__": "subprocess",
        "__loader__": "ConstructorFromReduceNode",
        "content": {},
    },
    {
        "__class__": "LogisticRegression",
        "__module__": "sklearn.linear_model._logistic",
        "__loader__": "MethodNode",
        "content": {"func": "fit", "obj": {}},
    },
    {
        "__class__": "partial",
        "__module__": "functools",
        "__loader__": "PartialNode",
        "content": {},
    },
    {"__class__": "str", "__module__": "builtins", "__loader__": "CachedNode"},
    {
        "__class__": "defaultdict",
        "__module__": "collections",
        "__loader__": "DefaultDictNode",
        "content": {},
    },
    {
        "__class__": "CyHalfBinomialLoss",
        "__module__": "os",
        "__loader__": "LossNode",
        "__reduce__": {"args": {}},
        "content": {},
    },
    {
        "__class__": "ndarray",
        "__module__": "numpy",
        "__loader__": "NdArrayNode",
        "type": "numpy",
        "file": "../../etc/passwd",
    },
    {
        "__class__": "str",
        "__module__": "builtins",
        "__loader__": "JsonNode",
        "is_json": True,
        "content": "[" * 70_000,
    },
    {
        "__class__": "str",
        "__module__": "builtins",
        "__loader__": "JsonNode",
        "is_json": True,
        "content": "1",
        "__id__": 5,
    },
    {"__loader__": "JsonNode"},
    {},
    [],
    None,
    7,
]


@pytest.mark.parametrize("node", HOSTILE_NODES, ids=range(len(HOSTILE_NODES)))
def test_hostile_nodes_are_refused(fitted, node):
    schema, members = plain("forest")
    schema["content"]["content"]["verbose"] = node
    refused(pack(schema, members), "here: expected")


def edit_array(data, field, change):
    """Changes a field of the first tree's records."""
    schema, members = unpack(data)
    for name, content in members.items():
        array = np.load(io.BytesIO(content))
        if array.dtype.names and field in array.dtype.names:
            array = array.copy()
            change(array)
            stream = io.BytesIO()
            np.save(stream, array)
            members[name] = stream.getvalue()
            return pack(schema, members)
    raise AssertionError(field)


def put(field, value, *, row=0):
    def change(array):
        array[field][row] = value

    return change


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("forest", "left_child", 10**9),
        ("forest", "left_child", -7),
        ("forest", "left_child", 0),  # a circle
        ("forest", "right_child", 2**40),
        ("forest", "right_child", -1),
        ("forest", "feature", 4),
        ("forest", "feature", -2),
        ("classic", "feature", 10**6),
        ("histograms", "left", 10**9),
        ("histograms", "left", 0),
        ("histograms", "right", 2**31),
        ("histograms", "feature_idx", 4),
        ("histograms", "is_categorical", 1),
        ("histograms", "value", np.nan),
    ],
)
def test_trees_that_lead_out_of_their_arrays_are_refused(fitted, name, field, value):
    data = dump_sklearn(fitted[name])
    message = "a tree (of numbers|whose nodes)"
    refused(edit_array(data, field, put(field, value)), message)


def test_leaf_with_one_child_is_refused(fitted):
    data = dump_sklearn(fitted["forest"])

    def change(array):
        leaf = int(np.argmax(array["left_child"] == -1))
        array["right_child"][leaf] = 10**6

    refused(edit_array(data, "right_child", change), "leaves without children")


def tree_content(schema):
    nodes = (n for n in iterate_nodes(schema) if n["__loader__"] == "TreeNode")
    return next(nodes)


def edit_tree(change):
    schema, members = plain("forest")
    change(tree_content(schema), members)
    return pack(schema, members)


def set_count(value):
    def change(node, _):
        node["content"]["content"]["node_count"]["content"] = value

    return change


def set_depth(value):
    def change(node, _):
        node["content"]["content"]["max_depth"]["content"] = value

    return change


def set_argument(place, value):
    def change(node, _):
        node["__reduce__"]["args"]["content"][place]["content"] = value

    return change


def swap_values(node, members):
    content = node["content"]["content"]
    content["values"] = content["nodes"]


def add_array(members, array):
    """Returns the name of a new member."""
    stream = io.BytesIO()
    np.save(stream, array)
    name = f"{900 + len(members)}.npy"
    members[name] = stream.getvalue()
    return name


def short_values(node, members):
    file = add_array(members, np.zeros((1, 1, 3)))
    node["content"]["content"]["values"]["file"] = file


def many_classes(node, members):
    file = add_array(members, np.array([10**9]))
    node["__reduce__"]["args"]["content"][1]["file"] = file


def forget_values(node, _):
    del node["content"]["content"]["values"]
    node["content"]["key_types"]["content"].pop()


@pytest.mark.parametrize(
    "change",
    [
        set_count("1000000"),
        set_count("1.5"),
        set_count('"9"'),
        set_count("null"),
        set_count("["),
        set_argument(0, "-1"),
        set_argument(0, "1"),  # importance of input 3 would be written beside
        set_depth("0"),  # decision paths would be, too
        set_depth("1000000000"),
        set_argument(2, "2"),
        set_argument(2, "1000000000"),
        swap_values,
        short_values,
        many_classes,
        forget_values,
    ],
)
def test_trees_of_other_sizes_are_refused(fitted, change):
    refused(edit_tree(change), "expected (a tree|a short JSON|three arguments)")


def test_boosting_of_other_columns_than_its_start_is_refused(fitted):
    schema, members = plain("classic")
    content = schema["content"]["content"]
    # Six trees in two rounds of three become one round of six.
    trees = content["estimators_"]["content"]
    flat = [tree for stage in trees for tree in stage["content"]]
    trees[:] = [trees[0] | {"content": flat}]
    refused(pack(schema, members), "rows of a table's shape")
    for number in content["estimators_"]["shape"]["content"]:
        number["content"] = {"2": "1", "3": "6"}[number["content"]]
    refused(pack(schema, members), "rounds of trees, each of 3")
    schema, members = plain("classic")
    start = schema["content"]["content"]["init_"]["content"]["content"]
    start["class_prior_"]["file"] = add_array(members, np.array([0.5, 0.5]))
    refused(pack(schema, members), r"shape \(3,\) as class_prior_")
    schema, members = plain("classic")
    loss = schema["content"]["content"]["_loss"]
    loss["__class__"] = "HalfSquaredError"
    loss["content"]["content"]["link"]["__class__"] = "IdentityLink"
    refused(pack(schema, members), "trees of other columns than their start has")


def test_number_of_inputs_is_held_against_every_tree(fitted):
    schema, members = plain("forest")
    schema["content"]["content"]["n_features_in_"]["content"] = "3"
    used = {
        int(value)
        for tree in fitted["forest"].estimators_
        for value in tree.tree_.feature
    }
    assert 3 in used
    refused(pack(schema, members), "expected 3 as n_features_in_")
    for node in iterate_nodes(schema):
        if node["__loader__"] == "TreeNode":
            node["__reduce__"]["args"]["content"][0]["content"] = "3"
        elif "n_features_in_" in (node.get("content") or ()):
            node["content"]["n_features_in_"]["content"] = "3"
    refused(pack(schema, members), "whose nodes lead to its leaves")
    for text in ("0", "-4", "true", "null"):
        schema["content"]["content"]["n_features_in_"]["content"] = text
        refused(pack(schema, members), "expected n_features_in_")


def test_settings_that_print_or_start_threads_are_dropped(fitted):
    schema, members = plain("forest")
    schema["content"]["content"]["n_jobs"]["content"] = "100000"
    schema["content"]["content"]["verbose"]["content"] = "50"
    model = load_sklearn(pack(schema, members), "here")
    assert (model.n_jobs, model.verbose) == (None, 0)


def test_models_of_other_releases_are_refused(fitted):
    schema, members = plain("logistic")
    text = json.dumps(schema)
    import sklearn

    older = json.loads(text.replace(sklearn.__version__, "1.2.0"))
    refused(pack(older, members), r"Received: one of 1\.2\.0")
    line = ".".join(sklearn.__version__.split(".")[:2])
    patched = json.loads(text.replace(sklearn.__version__, f"{line}.99"))
    assert load_sklearn(pack(patched, members), "here")
    none = json.loads(text.replace("_sklearn_version", "_another_version"))
    refused(pack(none, members), "no version")


def test_hostile_zips(fitted):
    data = dump_sklearn(fitted["logistic"])
    schema, members = unpack(data)
    refused(b"", "expected a whole .skops file")
    refused(data[:-30], "expected a whole .skops file")
    refused(b"\0" * 1000, "expected a whole .skops file")
    refused(pack(schema, members, packed=True), "unexpected or packed")
    refused(pack(schema, members | {"x.py": b"import os"}), "unexpected or packed")
    refused(pack(schema, members | {"../0.npy": b""}), "unexpected or packed")
    refused(pack(schema, members | {"7.npy": b"no array"}), "a whole .skops file")
    small = io.BytesIO()
    np.save(small, np.zeros(3))
    bomb = small.getvalue().replace(b"(3,), }        ", b"(3000000000,), }")
    assert bomb != small.getvalue()
    refused(pack(schema, members | {"7.npy": bomb}), "a whole .skops file")
    stream = io.BytesIO()
    np.save(stream, np.array([Runs()], dtype=object), allow_pickle=True)
    refused(pack(schema, members | {"7.npy": stream.getvalue()}), "a whole .skops")
    twice = io.BytesIO(data)
    with zipfile.ZipFile(twice, "a") as archive, pytest.warns(UserWarning):
        archive.writestr(SCHEMA, "{}")
    refused(twice.getvalue(), "each member once")
    refused(pack([], members), "expected a model of scikit-learn")
    deep = json.loads("[" * 130 + "]" * 130)
    refused(pack(deep, members), "levels of nesting")


def refused_early(data, message="here: expected"):
    """The description alone is reason enough: nothing was constructed."""
    with pytest.raises(RefusedArtifactError, match=message) as caught:
        load_sklearn(data, "here")
    assert "that skops opens" not in str(caught.value)


FORMS = [
    ("histograms", loader, key)
    for loader, keys in {
        "JsonNode": ["content", "is_json"],
        "TypeNode": [],
        "DictNode": ["content", "key_types"],
        "ListNode": ["content"],
        "NdArrayNode": ["type", "file"],
        "ObjectNode": ["content"],
        "LossNode": ["content", "__reduce__"],
    }.items()
    for key in ["__class__", "__module__", "__loader__", *keys]
] + [
    ("forest", "TupleNode", "content"),
    ("forest", "TreeNode", "content"),
    ("forest", "TreeNode", "__reduce__"),
    ("classic", "NdArrayNode", "content"),
    ("classic", "NdArrayNode", "shape"),
]


@pytest.mark.parametrize(("name", "loader", "key"), FORMS)
def test_form_of_every_node_is_checked_before_it_is_read(fitted, name, loader, key):
    data = dump_sklearn(fitted[name])
    empty = {"__class__": "dict", "__module__": "builtins", "__loader__": "DictNode"}
    for value in (None, False, 7, "x", [], {}, [None], {"args": None}, empty):
        schema, members = unpack(data)
        for node in iterate_nodes(schema):
            if node["__loader__"] == loader and key in node:
                last = node
        last[key] = value
        refused_early(pack(schema, members))
        del last[key]
        refused_early(pack(schema, members))


def test_trees_of_histograms_without_attributes_are_refused(fitted):
    schema, members = plain("histograms")
    stage = schema["content"]["content"]["_predictors"]["content"][0]
    for content in (None, {}, "null", schema["content"]["content"]["loss"]):
        stage["content"][0]["content"] = content
        refused_early(pack(schema, members))


COUNTS = [
    ("histograms_of_numbers", "n_trees_per_iteration_", "1000000000"),
    ("histograms_of_numbers", "n_trees_per_iteration_", "true"),
    ("classic", "n_trees_per_iteration_", "1"),
    ("forest_of_numbers", "n_outputs_", "2"),
    ("forest", "n_outputs_", "null"),
    ("forest", "n_classes_", "1000000000"),
    ("forest", "n_classes_", "-1"),
    ("histograms", "_n_features", "3"),
    ("forest", "n_features_in_", "1e9"),
]


@pytest.mark.parametrize(("name", "attribute", "value"), COUNTS)
def test_counts_that_other_attributes_contradict_are_refused(
    fitted, name, attribute, value
):
    schema, members = plain(name)
    schema["content"]["content"][attribute]["content"] = value
    refused_early(pack(schema, members), f"as {attribute}|expected {attribute}")


def test_counts_of_an_initial_model_are_checked(fitted):
    schema, members = plain("classic_of_numbers")
    start = schema["content"]["content"]["init_"]["content"]["content"]
    start["n_outputs_"]["content"] = "1000000000"
    refused_early(pack(schema, members), "expected 1 as n_outputs_")


ARRAYS = [
    ("forest", ["classes_"], np.arange(2)),
    ("histograms", ["classes_"], np.arange(6).reshape(3, 2)),
    ("classic", ["classes_"], np.array(["a", "b", "c"])),
    ("histograms", ["_baseline_prediction"], np.zeros((2, 3))),
    ("histograms", ["_baseline_prediction"], np.full((1, 3), np.nan)),
    ("histograms", ["_bin_mapper", "is_categorical_"], np.ones(4, np.uint8)),
    ("classic", ["init_", "class_prior_"], np.full((2, 3), 0.3)),
    ("classic_of_numbers", ["init_", "constant_"], np.zeros((2, 1))),
]


@pytest.mark.parametrize(("name", "path", "array"), ARRAYS)
def test_arrays_of_other_shapes_are_refused(fitted, name, path, array):
    """Some would fit the two rows that are tried, and no others."""
    schema, members = plain(name)
    node = schema
    for attribute in path:
        node = node["content"]["content"][attribute]
    node["file"] = add_array(members, array)
    refused_early(pack(schema, members), f"{path[-1]}|n_classes_|without categories")


def rename(node, old, new):
    content = node["content"]["content"]
    content[new] = content.pop(old)


def test_attributes_that_hide_methods_are_refused(fitted):
    for new in ("predict_proba", "_validate_X_predict", "__class__", "__setstate__"):
        schema, members = plain("forest")
        rename(schema, "verbose", new)
        refused_early(pack(schema, members), "expected attributes of RandomForest")


def test_objects_elsewhere_than_models_have_them_are_refused(fitted):
    schema, members = plain("histograms")
    content = schema["content"]["content"]
    # It would take the place of the check of the inputs.
    content["_preprocessor"] = copy.deepcopy(content["_label_encoder"])
    refused_early(pack(schema, members), "no object of this type in _preprocessor")
    schema, members = plain("logistic")
    step = schema["content"]["content"]["steps"]["content"][0]["content"]
    tree = plain("forest")[0]["content"]["content"]["estimator"]
    step[1] = tree
    refused_early(pack(schema, members), "no object of this type in steps")


def test_keys_without_types_are_refused(fitted):
    """skops drops the items of a dictionary that have none."""
    schema, members = plain("forest")
    schema["content"]["key_types"]["content"].pop()
    refused_early(pack(schema, members), r"expected \d+ types of keys")


def test_losses_with_a_state_are_refused(fitted):
    schema, members = plain("histograms")
    loss = schema["content"]["content"]["_loss"]["content"]["content"]["closs"]
    loss["__reduce__"]["args"]["content"] = [
        copy.deepcopy(schema["content"]["content"]["max_iter"])
    ]
    refused_early(pack(schema, members), "a loss without a state")


def test_nodes_of_two_parents_are_refused(fitted):
    """Doubled at each level, they are few nodes and endless paths."""
    data = dump_sklearn(fitted["forest"])

    def change(array):
        array["right_child"][0] = array["left_child"][0]

    refused_early(edit_array(data, "right_child", change), "whose nodes lead")


def test_bytes_of_arrays_count_for_each_node_that_names_them(fitted, monkeypatch):
    schema, members = plain("forest")
    nodes = [n for n in iterate_nodes(schema) if n["__class__"] == "ndarray"]
    largest = max(members, key=lambda name: len(members[name]))
    data = pack(schema, members)
    monkeypatch.setattr(skops_schema, "MAX_ARRAY_BYTES", 7 * len(members[largest]))
    assert load_sklearn(data, "here")
    for node in nodes:
        node["file"] = largest
    refused_early(pack(schema, members), "bytes of arrays")


def test_protocols_of_older_loaders_are_refused(fitted):
    schema, members = plain("forest")
    for protocol in (0, 1, -1, True, None, "2", 2.0):
        refused_early(pack(schema | {"protocol": protocol}, members), "a protocol")


@settings(max_examples=int(os.environ.get("HOSTILE_EXAMPLES", "80")), deadline=None)
@given(st.data())
def test_any_changed_node_is_refused_or_predicts(fitted, data):
    """No change of a description makes anything but a plain model, or a refusal."""
    kind = data.draw(st.sampled_from(["forest", "histograms", "classic", "logistic"]))
    model = fitted[kind]
    schema, members = unpack(dump_sklearn(model))
    nodes = list(iterate_nodes(schema))
    node = data.draw(st.sampled_from(nodes))
    other = data.draw(st.sampled_from(nodes))
    key = data.draw(st.sampled_from(sorted(node)))
    plain_values = st.one_of(
        st.none(),
        st.integers(-3, 9),
        st.text(max_size=5),
        st.sampled_from(["0.npy", "1.npy", "3.npy", "null", "1e9", "[]", "{}"]),
    )
    # A copy: a node within itself is no JSON.
    of_another = st.just(copy.deepcopy(other.get(key)))
    node[key] = data.draw(st.one_of(of_another, plain_values))
    try:
        found = load_sklearn(pack(schema, members), "here")
    except RefusedArtifactError:
        return
    assert type(found) is type(model)
    with np.errstate(all="ignore"):
        found.predict(INPUTS)
