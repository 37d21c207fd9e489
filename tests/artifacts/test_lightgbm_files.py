"""Only trees whose indices stay inside are handed to LightGBM."""

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from artifacts.lightgbm_files import MAX_DEPTH, check_text, dump_lightgbm, load_lightgbm
from utils import RefusedArtifactError

lightgbm = pytest.importorskip("lightgbm")
DRAW = np.random.default_rng(0)
INPUTS = DRAW.standard_normal((400, 4)).astype(np.float32)
CLASSES = (INPUTS[:, 0] > 0) + DRAW.integers(0, 2, 400)
OPTIONS = {
    "verbosity": -1,
    "num_leaves": 4,
    "num_threads": 1,
    "deterministic": True,
    "seed": 1,
}


def train(targets=CLASSES, rounds=3, **options):
    kind = {"objective": "multiclass", "num_class": 3}
    rows = lightgbm.Dataset(INPUTS, targets)
    return lightgbm.train(OPTIONS | kind | options, rows, rounds)


@pytest.fixture(scope="module")
def text():
    return dump_lightgbm(train()).decode()


@pytest.mark.parametrize(
    ("targets", "options"),
    [
        (CLASSES, {}),
        (CLASSES > 0, {"num_class": 2}),
        (INPUTS[:, 0].copy(), {"objective": "regression", "num_class": 1}),
        (CLASSES, {"min_data_in_leaf": 300}),  # trees without a split
    ],
)
def test_boosters_come_back_with_the_same_answers(targets, options):
    booster = train(targets, **options)
    data = dump_lightgbm(booster, num_rounds=2)
    again = load_lightgbm(data, "here")
    np.testing.assert_array_equal(
        again.predict(INPUTS), booster.predict(INPUTS, num_iteration=2)
    )
    assert dump_lightgbm(again) == data
    assert dump_lightgbm(train(targets, **options), num_rounds=2) == data


def test_parameters_of_training_are_not_in_the_file(text):
    assert text.endswith("end of trees\n")
    assert "filename" not in text and "machine" not in text


def line_of(text, key, number=0):
    start = [i for i in range(len(text)) if text.startswith(f"\n{key}=", i)][number] + 1
    return text[start : text.index("\n", start)]


def replace(text, key, value, *, fits=True):
    """Replaces the first tree's line; tree_sizes follow where `fits`."""
    old = line_of(text, key)
    new = f"{key}={value}"
    changed = text.replace(old, new, 1)
    if fits:
        sizes = line_of(changed, "tree_sizes")
        first, rest = sizes.removeprefix("tree_sizes=").split(" ", 1)
        size = int(first) + len(new) - len(old)
        changed = changed.replace(sizes, f"tree_sizes={size} {rest}", 1)
    return changed


def test_what_the_helper_changes_is_otherwise_whole(text):
    old = line_of(text, "shrinkage").split("=")[1]
    assert replace(text, "shrinkage", old) == text
    check_text(replace(text, "leaf_weight", "1 2 3 4"))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("num_leaves", "5", "expected 4 numbers"),
        ("num_leaves", "0", "unexpected leaves"),
        ("num_leaves", "999999", "unexpected leaves"),
        ("num_leaves", "-4", "no leaves"),
        ("num_leaves", "99999999999", "no leaves"),
        ("num_cat", "1", "unexpected leaves or categories"),
        ("is_linear", "1", "unexpected leaves or categories"),
        ("split_feature", "0 1 4", "do not lead"),
        ("split_feature", "0 1 -1", "do not lead"),
        ("split_feature", "0 1", "expected 3 numbers"),
        ("split_feature", "0 1 1e9", "expected 3 numbers"),
        ("left_child", "0 -1 -2", "do not lead"),
        ("left_child", "1000000 -1 -2", "do not lead"),
        ("left_child", "-900 -1 -2", "do not lead"),
        ("right_child", "-1 -1 -1", "do not lead"),
        ("decision_type", "1 2 2", "do not lead"),
        ("decision_type", "2 2 99", "do not lead"),
        ("threshold", "nan 1 1", "expected 3 numbers"),
        ("threshold", "1e999 1 1", "finite"),
        ("leaf_value", "1 2 3 inf", "expected 4 numbers"),
        ("leaf_value", "1 2 3", "expected 4 numbers"),
        ("internal_count", "1 2", "expected 3 numbers"),
        ("shrinkage", "", "expected 1 numbers"),
        ("leaf_count", "1 2 3 4.5", "expected 4 numbers"),
        ("internal_count", "1 2 99999999999", "expected 3 numbers"),
    ],
)
def test_trees_that_lead_out_of_their_arrays_are_refused(text, key, value, message):
    with pytest.raises(RefusedArtifactError, match=message):
        load_lightgbm(replace(text, key, value).encode(), "here")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("version=v4", "version=v9", "another header"),
        ("tree\n", "tree \n", "another header"),
        ("num_class=3", "num_class=4", "4 classes"),
        ("num_tree_per_iteration=3", "num_tree_per_iteration=9", "9 trees a round"),
        ("num_tree_per_iteration=3", "num_tree_per_iteration=0", "0 trees a round"),
        ("num_class:3", "num_class:2", "3 classes"),
        ("max_feature_idx=3", "max_feature_idx=2", "other feature_names"),
        ("max_feature_idx=3", "max_feature_idx=999999", "other feature_names"),
        ("objective=multiclass num_class:3", "objective=lambdarank", "another header"),
        ("Column_3\n", "Column_3 x\n", "other feature_names"),
        ("Tree=1\n", "Tree=7\n", "no tree 1"),
        ("end of trees", "end of treez", "no end"),
        ("num_cat=0\n", "num_cat=0\ncat_boundaries=0 1\n", "other sizes"),
    ],
)
def test_headers_that_do_not_fit_are_refused(text, old, new, message):
    with pytest.raises(RefusedArtifactError, match=message):
        load_lightgbm(text.replace(old, new, 1).encode(), "here")


def chain(num_inner):
    """A text of one tree, whose every node has a leaf and the next node."""
    inner, leaves = range(num_inner), range(num_inner + 1)
    columns = {
        "num_leaves": [len(leaves)],
        "num_cat": [0],
        "split_feature": [0 for _ in inner],
        "split_gain": [1 for _ in inner],
        "threshold": [0.5 for _ in inner],
        "decision_type": [2 for _ in inner],
        "left_child": [*inner[1:], -num_inner],
        "right_child": [*range(-1, -num_inner, -1), -num_inner - 1],
        "leaf_value": leaves,
        "leaf_weight": leaves,
        "leaf_count": leaves,
        "internal_value": inner,
        "internal_weight": inner,
        "internal_count": inner,
        "is_linear": [0],
        "shrinkage": [1],
    }
    lines = [f"{key}={' '.join(map(str, items))}" for key, items in columns.items()]
    tree = "\n".join(["Tree=0", *lines, "", "", ""])
    return (
        "tree\nversion=v4\nnum_class=1\nnum_tree_per_iteration=1\nlabel_index=0\n"
        "max_feature_idx=0\nobjective=regression\nfeature_names=a\n"
        f"feature_infos=none\ntree_sizes={len(tree)}\n\n{tree}end of trees\n"
    ).encode()


def test_chains_that_recursion_cannot_follow_are_refused():
    """LightGBM writes a tree out by recursion; 130,000 levels end the process."""
    booster = load_lightgbm(chain(MAX_DEPTH), "here")
    assert booster.predict([[0.0], [1.0]]).tolist() == [MAX_DEPTH - 1, 0]
    assert booster.dump_model()["tree_info"][0]["num_leaves"] == MAX_DEPTH + 1
    for depth in (MAX_DEPTH + 1, 100_000):
        with pytest.raises(RefusedArtifactError, match="400 decisions in a row"):
            load_lightgbm(chain(depth), "here")


def test_leaves_whose_sum_is_not_finite_are_refused(text):
    """Of two infinite scores no probability can be told."""
    assert load_lightgbm(replace(text, "leaf_value", "1e308 0 0 0").encode(), "here")
    with pytest.raises(RefusedArtifactError, match="sum is not finite"):
        changed = replace(text, "leaf_value", "1e308 0 0 0")
        second = line_of(changed, "leaf_value", 1)
        fitting = "leaf_value=1.7e308 0 0 0".ljust(len(second), "0")
        load_lightgbm(changed.replace(second, fitting).encode(), "here")


def test_sizes_are_held(text):
    sizes = line_of(text, "tree_sizes").removeprefix("tree_sizes=").split(" ")
    shifted = [str(int(sizes[0]) + 1), str(int(sizes[1]) - 1), *sizes[2:]]
    for other in (shifted, sizes[:-1], ["999999999"] * 9, ["0", *sizes]):
        changed = text.replace(" ".join(sizes), " ".join(other))
        with pytest.raises(RefusedArtifactError):
            load_lightgbm(changed.encode(), "here")


def test_bytes_that_are_no_text():
    for data in (b"", b"\xff\xfe", b"tree\n" * 1000, b"\0" * 100):
        with pytest.raises(RefusedArtifactError, match="here: expected trees"):
            load_lightgbm(data, "here")


def test_what_lightgbm_appends_is_refused():
    whole = train().model_to_string().encode()
    with pytest.raises(RefusedArtifactError, match="other sizes"):
        load_lightgbm(whole, "here")


@settings(max_examples=int(os.environ.get("HOSTILE_EXAMPLES", "300")), deadline=None)
@given(place=st.integers(0, 10**6), byte=st.integers(0, 255))
def test_any_changed_byte_is_refused_or_predicts(text, place, byte):
    data = bytearray(text.encode())
    data[place % len(data)] = byte
    try:
        booster = load_lightgbm(bytes(data), "here")
    except RefusedArtifactError:
        return
    assert np.isfinite(booster.predict(INPUTS)).all()
