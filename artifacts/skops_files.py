"""scikit-learn models <-> the bytes of `.skops` files, without pickle.

In: writing and opening such a file, how large it may be. Out: what its description may
hold (`skops_schema`), whether the bytes are the published ones (`manifest`).

A file is read here first, node by node and array by array; skops opens what has passed.
"""

from __future__ import annotations

import io
import json
import re
import warnings
import zipfile
from typing import Any

import numpy as np

from artifacts.manifest import parse_json
from artifacts.skops_schema import (
    MODELS,
    TRUSTED,
    check_description,
    iterate_nodes,
    type_of,
)
from files.strict import parse_npy
from utils import RefusedArtifactError

MAX_MODEL_BYTES = 2**30
MAX_DEPTH = 60

SCHEMA = "schema.json"
_ARRAY_NAME = re.compile(r"\d{1,7}\.npy")
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)


def dump_sklearn(model: Any) -> bytes:
    """Returns the bytes of a `.skops` file; equal models give equal bytes.

    skops writes addresses of memory and the time into its files; here members are
    numbered in order, and have no date.
    """
    import skops.io

    _forget_training(model)
    buffer = io.BytesIO(skops.io.dumps(model))
    with zipfile.ZipFile(buffer) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    schema = json.loads(members.pop(SCHEMA))
    numbers: dict[bytes, int] = {}
    for node in iterate_nodes(schema):
        node.pop("__id__", None)
        if "file" in node:
            data = _without_padding(members[node["file"]])
            number = numbers.setdefault(data, len(numbers))
            node["file"] = f"{number}.npy"
    content = {f"{number}.npy": data for data, number in numbers.items()}
    content[SCHEMA] = json.dumps(schema, separators=(",", ":")).encode()
    result = io.BytesIO()
    with zipfile.ZipFile(result, "w", zipfile.ZIP_STORED) as archive:
        for name, data in content.items():
            archive.writestr(zipfile.ZipInfo(name, _ZIP_DATE), data)
    return result.getvalue()


def _forget_training(model: Any) -> None:
    """Drops what only training needs: random generators, threads.

    With several threads a forest adds its trees up in any order, to other bits.
    """
    for name in ("_rng", "_feature_subsample_rng", "n_jobs"):
        if hasattr(model, name):
            setattr(model, name, None)
    for tree in np.ravel(getattr(model, "estimators_", ())):
        tree.random_state = None


def _without_padding(data: bytes) -> bytes:
    """Returns an array's bytes; what lies between the fields of a record is 0."""
    array = parse_npy(data, "a model")
    if not array.dtype.names:
        return data
    clean = np.zeros(array.shape, array.dtype)
    for name in array.dtype.names:
        clean[name] = array[name]
    buffer = io.BytesIO()
    np.save(buffer, clean, allow_pickle=False)
    return buffer.getvalue()


def load_sklearn(data: bytes, where: object) -> Any:
    """Returns the model in the bytes of a `.skops` file that `dump_sklearn` made.

    Raises:
        RefusedArtifactError: Naming what is not as expected.
    """
    schema, arrays = _unpack(data, where)
    if type_of(schema) not in MODELS:
        raise RefusedArtifactError(
            f"{where}: expected a model of scikit-learn. Received: "
            f"{type_of(schema):.99}"
        )
    try:
        check_description(schema, arrays)
    except ValueError as error:
        raise RefusedArtifactError(f"{where}: {error}") from error
    import skops.io

    try:
        if unknown := set(skops.io.get_untrusted_types(data=data)) - set(TRUSTED):
            raise ValueError(f"received {', '.join(sorted(unknown))}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a patch release's other version
            model = skops.io.loads(data, trusted=TRUSTED)
            _check_model(model)
    except Exception as error:  # anything can be missing in a hostile description
        raise RefusedArtifactError(
            f"{where}: expected a model that skops opens. Received: {error!s:.300}"
        ) from error
    return model


def _unpack(data: bytes, where: object) -> tuple[Any, dict[str, np.ndarray]]:
    """Returns the description and the arrays; nothing is larger than its bytes."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            items = archive.infolist()
            names = [item.filename for item in items]
            if len(set(names)) < len(names) or SCHEMA not in names:
                raise ValueError(f"expected {SCHEMA}, and each member once")
            for item in items:
                is_known = item.filename == SCHEMA or _ARRAY_NAME.fullmatch(
                    item.filename
                )
                if not is_known or item.compress_type != zipfile.ZIP_STORED:
                    raise ValueError(f"unexpected or packed: {item.filename!r:.99}")
                if item.file_size > len(data):
                    raise ValueError(f"{item.filename} is larger than the file")
            members = {name: archive.read(name) for name in names}
        schema = members.pop(SCHEMA)
        arrays = {name: parse_npy(member, name) for name, member in members.items()}
    except Exception as error:  # zipfile raises anything on damaged bytes
        raise RefusedArtifactError(
            f"{where}: expected a whole .skops file. Received: {error!s:.300}"
        ) from error
    return parse_json(schema, where, max_depth=2 * MAX_DEPTH), arrays


# Checks of a model


def _check_model(model: Any) -> None:
    """Raises unless compiled code finds what it takes for granted, and it predicts."""
    from sklearn.ensemble import BaseEnsemble
    from sklearn.ensemble._gb import BaseGradientBoosting
    from sklearn.tree._tree import Tree

    if isinstance(model, BaseEnsemble):
        trees = np.ravel(np.asarray(model.estimators_, dtype=object))
        if not len(trees) or not all(type(tree.tree_) is Tree for tree in trees):
            raise ValueError("an ensemble without trees")
    inputs = np.zeros((2, model.n_features_in_), np.float32)
    if isinstance(model, BaseGradientBoosting):
        # Its trees are added to columns that come from elsewhere, unchecked.
        shape = model.estimators_.shape
        start = model._raw_predict_init(inputs)
        if len(shape) != 2 or start.shape != (2, shape[1]) or start.dtype != float:
            raise ValueError("trees of other columns than their start has")
        if any(tree.tree_.value.shape[1:] != (1, 1) for tree in trees):
            raise ValueError("trees of several values")
    for name, value in {"n_jobs": None, "verbose": 0}.items():
        if getattr(model, name, value) != value:
            setattr(model, name, value)
    _check_outputs(model, inputs)


def _check_outputs(model: Any, inputs: np.ndarray) -> None:
    """Raises unless a model says one finite number, or class, of each row."""
    outputs = model.predict(inputs)
    if outputs.shape != (len(inputs),):
        raise ValueError("a model without one answer for each row")
    if hasattr(model, "predict_proba"):
        outputs = model.predict_proba(inputs)
        if outputs.shape != (len(inputs), len(model.classes_)):
            raise ValueError("a model without a probability of each class")
    if not np.isfinite(outputs).all():
        raise ValueError("a model without finite predictions")
