"""The bytes of a `.keras` file -> a network, or a refusal before Keras opens anything.

In: what its zip, description and weights may contain, and how large they may be.
Out: whether the bytes are the published ones (`manifest`).
"""

from __future__ import annotations

import hashlib
import importlib
import io
import math
import tempfile
import zipfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from artifacts.manifest import WEIGHTS_MEMBER, parse_json, refuse_broken
from utils import RefusedArtifactError

MAX_MODEL_BYTES = 2 * 2**30
MAX_UNPACK_RATIO = 100
MAX_PARAMETERS = 500_000_000
MAX_LAYERS = 500
MAX_SIZE = 10_000_000
"""Largest whole number in a network's description: units, filters, window bars."""
MAX_STEPS = 2**18
"""Most steps in a row that a layer makes of a window; a window has 100,000 bars."""
MAX_NUMBERS = 2**28
"""Most numbers that one window becomes on its way through a network."""

_MEMBER_BYTES = {
    "metadata.json": 2**16,
    "config.json": 4 * 2**20,
    WEIGHTS_MEMBER: MAX_MODEL_BYTES,
}
_LAYERS = frozenset(
    "InputLayer Dense Activation Softmax ReLU LeakyReLU PReLU ELU "
    "Dropout SpatialDropout1D GaussianNoise GaussianDropout AlphaDropout "
    "LSTM GRU SimpleRNN LSTMCell GRUCell SimpleRNNCell Bidirectional TimeDistributed "
    "Conv1D SeparableConv1D DepthwiseConv1D ZeroPadding1D Cropping1D UpSampling1D "
    "MaxPooling1D AveragePooling1D GlobalMaxPooling1D GlobalAveragePooling1D "
    "BatchNormalization LayerNormalization GroupNormalization RMSNormalization "
    "UnitNormalization Normalization Rescaling Masking Identity Embedding "
    "Attention AdditiveAttention MultiHeadAttention GroupedQueryAttention "
    "Flatten Reshape Permute RepeatVector Concatenate Add Subtract Multiply Average "
    "Maximum Minimum Dot".split()
)
"""Keras layers that compute and do nothing else; a new network may need more."""
_MODELS = frozenset(["Functional", "Sequential"])
_PLAIN_MODULES = ("keras", "keras.initializers", "keras.regularizers")
_MODEL_MODULES = ("keras", "keras.models", "keras.src.models.functional")
_STRUCTURES = frozenset(["__keras_tensor__", "__tuple__"])
_FREE_NUMBERS = ("shared_object_id", "seed")
_STEP_NUMBERS = frozenset(
    "n size padding cropping dilation_rate kernel_size pool_size strides".split()
)
"""Keys of numbers that lengthen what a layer makes, or what it makes on the way."""


def load_keras_model(data: bytes, where: object) -> Any:
    """Returns the network in the bytes of a `.keras` file, uncompiled.

    Nothing of the file is opened by Keras before its members, its description, its
    layers and the number of its parameters were checked; no code in it is run.

    Raises:
        RefusedArtifactError: Naming `where`, and what is not as expected.
    """
    members = read_members(data, where)
    parse_json(members["metadata.json"], where)
    description = parse_json(members["config.json"], where)
    check_description(description, where)
    stored = count_stored(members[WEIGHTS_MEMBER], where)
    # Keras keeps the variables it did not initialise for the thread's next scope.
    with ThreadPoolExecutor(1) as own_thread:
        described = own_thread.submit(_count_described, description, where).result()
    if described != stored:
        raise RefusedArtifactError(
            f"{where}: expected {described} parameters, as its config.json says. "
            f"Received: {stored} in {WEIGHTS_MEMBER}"
        )
    import keras

    # Keras opens a path: a private copy, which nobody exchanges after the checks.
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "model.keras"
        copy.write_bytes(data)
        with refuse_broken(
            f"{where}: expected a network that Keras {keras.__version__} loads"
        ):
            return keras.saving.load_model(copy, compile=False, safe_mode=True)


def read_members(
    data: bytes, where: object, *, weights_sha256: str | None = None
) -> dict[str, bytes]:
    """Returns the three members of a `.keras` file, each of bounded size.

    Raises:
        RefusedArtifactError: If there are others, or one is damaged or too large, or
            the weights have another digest.
    """
    with refuse_broken(f"{where}: expected a whole .keras file"):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            items = archive.infolist()
            names = [item.filename for item in items]
            if sorted(names) != sorted(_MEMBER_BYTES):
                raise RefusedArtifactError(
                    f"{where}: expected {', '.join(_MEMBER_BYTES)} and nothing else. "
                    f"Received: {len(names)} members: {names[:5]}"
                )
            for item in items:
                limit = min(
                    _MEMBER_BYTES[item.filename],
                    MAX_UNPACK_RATIO * item.compress_size + 2**16,
                )
                if item.file_size > limit:
                    raise RefusedArtifactError(
                        f"{where}: expected at most {limit} bytes of {item.filename}. "
                        f"Received: {item.file_size}; this looks like a zip bomb."
                    )
            members = {item.filename: archive.read(item) for item in items}
    digest = hashlib.sha256(members[WEIGHTS_MEMBER]).hexdigest()
    if weights_sha256 is not None and digest != weights_sha256:
        raise RefusedArtifactError(
            f"{where}: the sha256 of its weights is not the manifest's."
        )
    return members


def check_description(description: Any, where: object) -> None:
    """Refuses layers that are not of Keras or can run code, and absurd sizes."""
    facts = description if isinstance(description, dict) else {}
    if _text(facts, "class_name") not in _MODELS or facts.get("compile_config"):
        raise RefusedArtifactError(
            f"{where}: expected an uncompiled Keras network in config.json."
        )
    num_layers = 0
    waiting: list[tuple[str, Any]] = [("", description)]
    while waiting:
        key, value = waiting.pop()
        if isinstance(value, dict):
            num_layers += _check_object(value, where)
            waiting += value.items()
        elif isinstance(value, list):
            waiting += ((key, item) for item in value)
        elif isinstance(value, int | float) and key not in _FREE_NUMBERS:
            limit = MAX_STEPS if key in _STEP_NUMBERS else MAX_SIZE
            if abs(value) > limit:
                raise RefusedArtifactError(
                    f"{where}: expected numbers up to {limit}. "
                    f"Received: {key:.99} = {value!s:.99}"
                )
        if key == "unroll" and value is True:
            raise RefusedArtifactError(f"{where}: expected no unrolled layer.")
    if num_layers > MAX_LAYERS:
        raise RefusedArtifactError(
            f"{where}: expected at most {MAX_LAYERS} layers. Received: {num_layers}"
        )


def _check_object(value: Mapping[str, Any], where: object) -> bool:
    """Checks one serialized object of Keras; returns whether it is a layer."""
    if "class_name" not in value and "module" not in value:
        return False
    name, module = _text(value, "class_name"), _text(value, "module")
    is_layer = module == "keras.layers" and name in _LAYERS
    is_plain = module in _PLAIN_MODULES and name.isidentifier()
    is_model = module in _MODEL_MODULES and name in _MODELS
    is_structure = value.get("module") is None and name in _STRUCTURES
    registered = (None, name) if is_model else (None,)
    if value.get("registered_name") not in registered or not (
        is_layer or is_plain or is_model or is_structure
    ):
        shown = f"{module}.{name}, registered as {value.get('registered_name')}"
        raise RefusedArtifactError(
            f"{where}: expected built-in layers. Received: {shown:.99}"
        )
    return is_layer or is_model


def _refuse_large_outputs(model: Any, where: object) -> None:
    """Refuses layers that make too much of one window, from their shapes alone.

    Scores of attention over no more steps than a window has are what its caller gives.
    """
    total = 0
    given = max(x.shape[1] or 0 for x in model.inputs if len(x.shape) > 1)
    for layer in model._flatten_layers():
        for node in layer._inbound_nodes:
            shapes = [tensor.shape for tensor in node.output_tensors]
            if "Attention" in type(layer).__name__:  # compares each step with each
                inputs = [[size or 0 for size in x.shape] for x in node.input_tensors]
                steps = max(math.prod(sizes[1:-1]) for sizes in inputs)
                width = max(sizes[-1] for sizes in inputs)
                heads = max(
                    getattr(layer, name, 1) for name in ("num_heads", "num_query_heads")
                )
                is_added = type(layer).__name__ == "AdditiveAttention"
                if steps > given:
                    shapes.append((None, steps, steps * (width if is_added else heads)))
            for shape in shapes:
                # One window at a time; an unknown length could become any.
                sizes = [1 if size is None else size for size in shape]
                total += math.prod(sizes)
                is_known = None not in shape[1:]
                is_short = len(shape) < 3 or shape[1] is None or shape[1] <= MAX_STEPS
                if not (is_known and is_short and total <= MAX_NUMBERS):
                    raise RefusedArtifactError(
                        f"{where}: expected layers that make at most {MAX_STEPS} steps "
                        f"and {MAX_NUMBERS} numbers of a window, together. Received: "
                        f"{layer.name!r:.99} with {shape}"
                    )


def _text(value: Mapping[str, Any], key: str) -> str:
    text = value.get(key)
    return text if isinstance(text, str) else ""


def count_stored(data: bytes, where: object) -> int:
    """Returns the weights in the HDF5 member; they must really be there, as arrays."""
    h5py = importlib.import_module("h5py")  # Keras brings it; it has no types
    sizes: list[int] = []
    limit = min(len(data), MAX_PARAMETERS)

    def look(name: str, link: Any) -> str | None:
        # Returns instead of raising: h5py loses what is raised in here.
        if not isinstance(link, h5py.HardLink):
            return f"expected no link. Received: {name}"
        item = file[name]
        if not isinstance(item, h5py.Dataset):
            return None
        is_plain = item.dtype.kind in "fiu" and item.chunks is None
        if not is_plain or item.is_virtual or item.external:
            return f"expected plain arrays of weights. Received: {name}"
        sizes.append(item.size)
        if sum(sizes) > limit:
            return f"expected at most {limit} weights. Received: {sum(sizes)}"
        if item.nbytes > len(data):  # the size of a number is the file's word, too
            return f"expected weights of at most {len(data)} bytes. Received: {name}"
        return None

    with refuse_broken(f"{where}: expected whole weights"):
        with h5py.File(io.BytesIO(data), "r") as file:
            problem = file.visititems_links(look)
    if problem is not None:
        raise RefusedArtifactError(f"{where}: {problem}")
    return sum(sizes)


def _count_described(description: dict[str, Any], where: object) -> int:
    """Returns the parameters of a described network, none of which is allocated.

    Nor is what a window becomes on its way, which is bounded, too.
    """
    import keras

    with (
        refuse_broken(f"{where}: expected the description of a network"),
        keras.StatelessScope(initialize_variables=False),
    ):
        model = keras.saving.deserialize_keras_object(description, safe_mode=True)
        weights = sum(math.prod(weight.shape) for weight in model.weights)
        others = sum(math.prod(v.shape) for v in model.variables) - weights
        _refuse_large_outputs(model, where)
    if weights > MAX_PARAMETERS or others > MAX_SIZE:
        raise RefusedArtifactError(
            f"{where}: expected at most {MAX_PARAMETERS} parameters. "
            f"Received: {weights + others}"
        )
    return weights
