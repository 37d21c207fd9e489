"""Only arrays that are a model are opened: each index, size, type and key is read."""

import hashlib
import io
import os
import subprocess
import sys
import textwrap
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from world import models
from world.frames import PROJECT

from artifacts import array_models
from artifacts.array_files import dump_arrays, load_arrays
from artifacts.array_models import LEAF, Linear, Trees
from settings.tree_fields import OPTIONAL_MODELS
from utils import RefusedArtifactError


def refused(data, message):
    with pytest.raises(RefusedArtifactError, match=message) as caught:
        load_arrays(data, "here")
    assert str(caught.value).startswith("here: ")


@pytest.fixture(scope="module")
def files():
    return models.whole_files()


def stump(**changes):
    """A tree that says 10 up to 0.5 of the second of two inputs, else 20; and a 1."""
    facts = {"family": "own", "link": "identity", "num_inputs": 2, "is_single": False}
    arrays = {
        "feature": np.array([1, LEAF, LEAF, LEAF], np.int32),
        "left": np.array([1, LEAF, LEAF, LEAF], np.int32),
        "right": np.array([2, LEAF, LEAF, LEAF], np.int32),
        "threshold": np.array([0.5, 0, 0, 0]),
        "value": np.array([[0.0], [10.0], [20.0], [1.0]]),
        "root": np.array([0, 3], np.int32),
        "column": np.zeros(2, np.int32),
        "start": np.array([0.25]),
        "importance": np.array([0.0, 1.0]),
    }
    return Trees(**facts | {"num_classes": None} | arrays | changes)


# What they predict


def test_a_tree_goes_left_up_to_its_threshold():
    inputs = np.array([[9, 0.4], [9, 0.5], [9, 0.6]])
    assert stump().predict(inputs).tolist() == [11.25, 11.25, 21.25]
    assert stump(link="mean", start=np.zeros(1)).predict(inputs)[0] == 5.5
    # 0.5 + 1e-9 is 0.5 in single precision.
    near = np.array([[0, 0.5 + 1e-9]])
    assert stump().predict(near) == 21.25
    assert stump(is_single=True).predict(near) == 11.25
    assert stump().num_parameters == 3


def test_scores_become_probabilities():
    classes = {"num_classes": 2, "start": np.zeros(2), "link": "softmax"}
    found = stump(**classes, column=np.array([0, 1], np.int32))
    [answer] = found.predict(np.zeros((1, 2)))
    assert answer.tolist() == pytest.approx([1 / (1 + np.exp(-9)), 1 / (1 + np.exp(9))])
    [answer] = stump(num_classes=2, link="logistic").predict(np.zeros((1, 2)))
    assert answer.tolist() == pytest.approx([1 / (1 + np.exp(11.25)), 1.0], abs=1e-4)


def test_a_linear_model_scales_weighs_and_adds():
    model = Linear(
        family="own",
        link="identity",
        num_inputs=2,
        num_classes=None,
        mean=np.array([1.0, 0.0]),
        scale=np.array([2.0, 1.0]),
        weight=np.array([[10.0], [100.0]]),
        intercept=np.array([3.0]),
        importance=np.zeros(0),
    )
    assert model.predict(np.array([[5.0, 2.0], [1.0, 0.0]])).tolist() == [223, 3]
    assert model.num_parameters == 3


def test_many_rows_answer_as_each_alone(monkeypatch):
    model, inputs = models.plain("forest"), models.INPUTS
    together = model.predict(inputs)
    alone = np.concatenate([model.predict(row[None]) for row in inputs])
    assert np.array_equal(together, alone)
    monkeypatch.setattr(array_models, "_CHUNK_NODES", 20)
    assert np.array_equal(model.predict(inputs), together)
    assert model.predict(inputs[:0]).shape == (0, 3)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (np.zeros((3, 5)), r"expected inputs of shape \(num_rows, 4\)"),
        (np.zeros(4), r"Received: \(4,\)"),
        (np.full((1, 4), np.nan), "expected finite inputs"),
        (np.full((1, 4), -np.inf), "expected finite inputs"),
    ],
)
def test_inputs_of_another_shape_or_not_finite_are_refused(inputs, message):
    for name in ("forest", "logistic"):
        with pytest.raises(ValueError, match=message):
            models.plain(name).predict(inputs)


# Files


def test_models_come_back_with_the_same_answers(files):
    for name, data in files.items():
        model = load_arrays(data, "here")
        assert model.family == name
        assert dump_arrays(model) == data
        if not name.startswith("boosted"):
            expected = models.outputs(models.fitted(name))
            assert np.array_equal(model.predict(models.INPUTS), expected), name


def test_a_file_is_a_plain_npz(files):
    with np.load(io.BytesIO(files["forest"]), allow_pickle=False) as archive:
        assert archive["root"].dtype == np.int32 and len(archive["root"]) == 3


def test_equal_models_give_equal_bytes_in_every_process(files):
    seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    program = textwrap.dedent(
        f"""
        import hashlib, sys
        sys.path[:0] = [{str(PROJECT)!r}, {str(PROJECT / "tests")!r}]
        from world.models import whole_files
        content = b"".join(whole_files().values())
        print(hashlib.sha256(content).hexdigest())
        """
    )
    found = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONHASHSEED": seed},
    ).stdout
    assert found.strip() == hashlib.sha256(b"".join(files.values())).hexdigest()


def test_opening_and_predicting_needs_no_library(files, tmp_path):
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    program = textwrap.dedent(
        f"""
        import pathlib, sys
        for name in ("sklearn", "joblib", "threadpoolctl", "tensorflow",
                     *{OPTIONAL_MODELS!r}):
            sys.modules[name] = None
        sys.path.insert(0, {str(PROJECT)!r})
        import numpy as np
        from artifacts.array_files import load_arrays
        for path in pathlib.Path({str(tmp_path)!r}).iterdir():
            model = load_arrays(path.read_bytes(), path)
            assert len(model.predict(np.zeros((2, model.num_inputs)))) == 2
        """
    )
    subprocess.run([sys.executable, "-c", program], check=True)


# Refusals


def put(name, place, value):
    """Changes one number of an array."""

    def change(header, arrays):
        arrays[name] = arrays[name].copy()
        arrays[name].ravel()[place] = value

    return change


def replace(name, array):
    def change(header, arrays):
        arrays[name] = array

    return change


def retype(name, kind):
    def change(header, arrays):
        arrays[name] = arrays[name].astype(kind)

    return change


def say(**facts):
    def change(header, arrays):
        header.update(facts)

    return change


def drop(name):
    def change(header, arrays):
        (header if name in header else arrays).pop(name)

    return change


TREE_CHANGES = [
    (put("left", 0, 10**9), "each node below one before it"),
    (put("left", 0, 0), "each node below one before it"),  # a circle
    (put("left", 0, -7), "each node below one before it"),
    (put("right", 0, LEAF), "each node below one before it"),
    (put("right", 0, 1), "each node below one before it"),  # as the left one
    (put("left", -1, 3), "leaves without children"),
    (put("right", -1, 3), "leaves without children"),
    (put("feature", 0, 4), "features below 4"),
    (put("feature", 0, -2), "features below 4"),
    (put("feature", 0, LEAF), "leaves without children"),
    (put("threshold", 0, np.nan), "finite thresholds"),
    (put("threshold", -1, np.inf), "finite thresholds"),
    (put("value", -1, np.nan), "values of at most 1e"),
    (put("value", -1, 1e101), "values of at most 1e"),
    (put("value", -1, 0.7), "shares of classes at the leaves"),
    (put("start", 0, 0.5), "shares of classes at the leaves"),
    (put("start", 0, -np.inf), "a start of at most 1e"),
    (put("root", 0, 1), "roots in order"),
    (put("root", 1, 0), "roots in order"),
    (put("root", 2, 10**6), "roots in order"),
    (put("root", 1, 1), "each node below one before it"),
    (put("column", 0, 3), "columns below 3"),
    (put("column", 0, -1), "columns below 3"),
    (put("importance", 0, np.nan), "finite importance"),
    (replace("importance", np.zeros(3)), "importance of inputs"),
    (replace("root", np.zeros(0, np.int32)), "a column of each tree"),
    (replace("left", np.zeros(3, np.int32)), "columns of equal lengths"),
    (replace("start", np.zeros(2)), "a start of each score"),
    (replace("value", np.zeros((1, 3))), "columns of equal lengths"),
    (replace("value", np.zeros((5, 3, 1))), "value of float64 in 2 dimensions"),
    (retype("left", np.int64), "left of int32 in 1 dimensions"),
    (retype("left", ">i4"), "left of int32"),
    (retype("threshold", np.float32), "threshold of float64"),
    (retype("value", np.complex128), "value of float64"),
    (retype("root", "U3"), "root of int32"),
    (say(num_inputs=3), "features below 3|importance of inputs"),
    (say(num_inputs=0), "a number of inputs"),
    (say(num_inputs=True), "a number of inputs"),
    (say(num_inputs=4.0), "a number of inputs"),
    (say(num_inputs=2**70), "a number of inputs"),
    (say(num_classes=2), "a start of each score"),
    (say(num_classes=1), "a number of classes"),
    (say(num_classes=None), "a start of each score"),
    (say(num_classes="3"), "a number of classes"),
    (say(link="identity"), "a link of mean, logistic, softmax"),
    (say(link=["mean"]), "a link of mean"),
    (say(family=7), "a family"),
    (say(family=""), "a family"),
    (say(is_single=1), "is_single, true or false"),
    (say(kind="linear"), "the header of linear"),
    (say(kind="arrays"), "one of trees, linear in the header"),
    (say(kind=None), "one of trees, linear in the header"),
    (say(format=2), "expected format 1"),
    (say(more=1), "the header of trees"),
    (drop("link"), "the header of trees"),
    (drop("format"), "expected format 1"),
    (drop("column"), "the arrays of trees"),
    (replace("more", np.zeros(3)), "the arrays of trees"),
    (replace("left", b""), "expected a model of plain arrays"),
    (replace("left", b"\x93NUMPY\x09\x00"), "left.npy is of another version"),
]


@pytest.mark.parametrize(("change", "message"), TREE_CHANGES)
def test_trees_that_are_none_are_refused(files, change, message):
    header, arrays = models.unpack(files["forest"])
    assert load_arrays(models.pack(header, arrays), "here")
    change(header, arrays)
    refused(models.pack(header, arrays), message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("scale", 0, 0.0), "a scale above"),
        (put("scale", 0, -1.0), "a scale above"),
        (put("scale", 0, np.nan), "scale of at most"),
        (put("weight", 0, np.inf), "weight of at most"),
        (put("intercept", 0, 1e200), "intercept of at most"),
        (replace("weight", np.zeros((3, 4))), r"weights of shape \(4, 3\)"),
        (replace("mean", np.zeros(3)), "a scale of inputs"),
        (replace("intercept", np.zeros(1)), "an intercept of each score"),
        (say(link="mean"), "a link of a sum"),
        (say(link="logistic"), "expected two classes"),
        (say(link="logistic", num_classes=2), r"weights of shape \(4, 1\)"),
    ],
)
def test_linear_models_that_are_none_are_refused(files, change, message):
    header, arrays = models.unpack(files["logistic"])
    change(header, arrays)
    refused(models.pack(header, arrays), message)


def test_children_of_another_tree_are_refused():
    with pytest.raises(ValueError, match="children in their parent's tree"):
        stump(
            feature=np.array([0, LEAF, 0, LEAF, LEAF, LEAF], np.int32),
            left=np.array([1, LEAF, 4, LEAF, LEAF, LEAF], np.int32),
            right=np.array([3, LEAF, 5, LEAF, LEAF, LEAF], np.int32),
            threshold=np.zeros(6),
            value=np.zeros((6, 1)),
            root=np.array([0, 2], np.int32),
        )


def test_a_circle_beside_the_root_is_refused():
    with pytest.raises(ValueError, match="each node below one before it"):
        stump(
            feature=np.array([LEAF, 0, 0, LEAF, LEAF], np.int32),
            left=np.array([LEAF, 2, 1, LEAF, LEAF], np.int32),
            right=np.array([LEAF, 3, 4, LEAF, LEAF], np.int32),
            threshold=np.zeros(5),
            value=np.zeros((5, 1)),
            root=np.zeros(1, np.int32),
            column=np.zeros(1, np.int32),
        )


def chain(depth):
    """A tree of so many decisions in a row, each with a leaf to its left."""
    count = 2 * depth + 1
    is_inner = np.arange(count) % 2 == 0
    is_inner[-1] = False
    place = np.arange(count, dtype=np.int32)
    return {
        "feature": np.where(is_inner, 0, LEAF).astype(np.int32),
        "left": np.where(is_inner, place + 1, LEAF).astype(np.int32),
        "right": np.where(is_inner, place + 2, LEAF).astype(np.int32),
        "threshold": np.zeros(count),
        "value": np.arange(count, dtype=np.float64)[:, None],
        "root": np.zeros(1, np.int32),
        "column": np.zeros(1, np.int32),
    }


def test_deep_trees_are_bounded(monkeypatch):
    model = stump(**chain(array_models.MAX_DEPTH))
    assert model.predict(np.ones((1, 2))) == 2 * array_models.MAX_DEPTH + 0.25
    with pytest.raises(ValueError, match="at most 1000 decisions in a row"):
        stump(**chain(array_models.MAX_DEPTH + 1))
    monkeypatch.setattr(array_models, "MAX_STEPS", 999)
    with pytest.raises(ValueError, match="expected 999 decisions"):
        stump(**chain(1000))


def test_files_that_are_none_are_refused(files):
    data = files["forest"]
    header, arrays = models.unpack(data)
    for broken in (b"", data[:-30], b"\0" * 1000, b"PK\x05\x06" + b"\0" * 18):
        refused(broken, "expected")
    refused(models.pack(header, arrays, packed=True), "members that are not packed")
    refused(models.pack([], arrays), "expected a header")
    refused(models.pack(header, arrays, others={"a.py": "x"}), "the arrays of trees")
    twice = io.BytesIO(data)
    with pytest.warns(UserWarning), zipfile.ZipFile(twice, "a") as archive:
        archive.writestr("left.npy", models.npy(arrays["left"]))
    refused(twice.getvalue(), "each member once")
    objects = io.BytesIO()
    np.save(objects, np.array([{}], object), allow_pickle=True)
    refused(models.pack(header, arrays | {"left": objects.getvalue()}), "another size")
    huge = models.npy(np.zeros(1, np.int32)).replace(b"(1,), ", b"(9**9,)")
    refused(models.pack(header, arrays | {"left": huge}), "plain arrays")


@settings(max_examples=int(os.environ.get("HOSTILE_EXAMPLES", 100)), deadline=None)
@given(st.data())
def test_any_change_of_bytes_is_refused_or_answers_whole(files, data):
    name = data.draw(st.sampled_from(sorted(files)))
    content = bytearray(files[name])
    places = st.integers(0, len(content) - 1)
    for place in data.draw(st.lists(places, min_size=1, max_size=4)):
        content[place] = data.draw(st.integers(0, 255))
    try:
        model = load_arrays(bytes(content), "here")
    except RefusedArtifactError as error:
        assert len(str(error)) > 30
        return
    answers = model.predict(np.zeros((2, model.num_inputs)))
    assert len(answers) == 2 and np.isfinite(answers).all()


@settings(max_examples=int(os.environ.get("HOSTILE_EXAMPLES", 100)), deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_refused(content):
    refused(content, "expected")
