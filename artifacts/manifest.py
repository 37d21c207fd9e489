"""A folder's manifest: names, sizes and digests, and files that are opened by it alone.

In: writing it, checking it, reading the very bytes whose digest was compared; small
files that vouch for themselves.
Out: which files a folder has, and what they mean (`run_folder`, `keras_files`).
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import stat
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import utils
from files import strict
from files.atomic import fsync_path, sha256_file
from utils import RefusedArtifactError

MAX_MANIFEST_BYTES = 4 * 2**20
MAX_MANIFEST_FILES = 10_000
MAX_DEPTH = 40
WEIGHTS_MEMBER = "model.weights.h5"

_WEIGHTS_KEY = "weights_sha256"
_CONTENT_KEY = "entry_sha256"
_MAX_PLAIN_BYTES = 16 * 2**20
# What a reader could take for the artifact's own.
_OWN_PREFIXES = ("model_", "scaler_", "metadata_")
_MODEL_SUFFIXES = tuple(".keras .npz .skops .h5 .hdf5 .pt .pkl .pickle .joblib".split())


def write_manifest(
    folder: Path, name: str, *, is_internal: Callable[[str], bool]
) -> None:
    """Writes size and SHA-256 of every file below `folder` into its manifest.

    The zip of a `.keras` file carries a date, so its weights have a digest of their own
    that two equal runs share. What is internal is left out.
    """
    files = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        relative = path.relative_to(folder).as_posix()
        if relative == name or is_internal(relative):
            continue
        entry = {"bytes": path.stat().st_size, "sha256": sha256_file(path)}
        if _is_model(relative):
            entry[_WEIGHTS_KEY] = _member_digest(path)
        files[relative] = entry
        fsync_path(path)
    strict.write_json(folder / name, {"format": 1, "files": files})


def _member_digest(path: Path) -> str:
    with zipfile.ZipFile(path) as archive, archive.open(WEIGHTS_MEMBER) as member:
        return hashlib.file_digest(member, "sha256").hexdigest()  # type: ignore[arg-type]


def read_manifest(folder: Path, name: str) -> dict[str, dict[str, Any]]:
    """Returns file name -> `bytes`, `sha256`, ... of a folder's manifest, checked.

    Raises:
        RefusedArtifactError: If there is none, or a name or a value is not plain.
    """
    try:
        with open_plain(folder, name) as stream:
            data = stream.read(MAX_MANIFEST_BYTES + 1)
    except FileNotFoundError as error:
        raise RefusedArtifactError(
            f"{folder}: expected {name}. A folder without it was not published."
        ) from error
    if len(data) > MAX_MANIFEST_BYTES:
        raise RefusedArtifactError(
            f"{folder / name}: expected at most {MAX_MANIFEST_BYTES} bytes."
        )
    content = parse_json(data, folder / name)
    content = content if isinstance(content, dict) else {}
    files, is_known = content.get("files"), content.get("format") == 1
    if not isinstance(files, dict) or not is_known or len(files) > MAX_MANIFEST_FILES:
        raise RefusedArtifactError(f"{folder}: expected a manifest of format 1.")
    for file, entry in files.items():
        _check_entry(folder, file, entry)
    return files


def _check_entry(folder: Path, name: str, entry: Any) -> None:
    pure = PurePosixPath(name)
    is_inside = not pure.is_absolute() and ".." not in pure.parts and name != "."
    is_plain = pure.as_posix() == name and "\\" not in name and name.isprintable()
    if not (is_inside and is_plain):
        raise RefusedArtifactError(
            f"{folder}: expected names inside the folder. Received: {name!r}"
        )
    wanted = {"bytes", "sha256"} | ({_WEIGHTS_KEY} if _is_model(name) else set())
    is_whole = isinstance(entry, dict) and set(entry) == wanted
    size = entry["bytes"] if is_whole else None
    digests = [entry[key] for key in wanted - {"bytes"}] if is_whole else []
    are_digests = all(re.fullmatch("[0-9a-f]{64}", str(each)) for each in digests)
    if type(size) is not int or size < 0 or not are_digests:
        raise RefusedArtifactError(
            f"{folder}: expected size and sha256 of {name}. Received: {entry!r:.80}"
        )


def _is_model(name: str) -> bool:
    return name.endswith(".keras")


@contextlib.contextmanager
def open_plain(folder: Path, name: str) -> Iterator[io.BufferedReader]:
    """Opens a plain file below `folder` without following a link on the way.

    Raises:
        FileNotFoundError: If there is nothing of that name.
        RefusedArtifactError: If it, or a folder on the way, is a link or not plain.
    """
    *parents, last = PurePosixPath(name).parts
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    opened = [os.open(folder, os.O_RDONLY | os.O_DIRECTORY)]
    try:
        for part in parents:
            opened.append(os.open(part, flags | os.O_DIRECTORY, dir_fd=opened[-1]))
        # A pipe would wait for its writer.
        opened.append(os.open(last, flags | os.O_NONBLOCK, dir_fd=opened[-1]))
        if not stat.S_ISREG(os.fstat(opened[-1]).st_mode):
            raise NotADirectoryError
        with os.fdopen(os.dup(opened[-1]), "rb") as stream:
            yield stream
    except FileNotFoundError:
        raise
    except OSError as error:
        raise RefusedArtifactError(
            f"{folder}: expected the plain file {name}. Received: a link, a folder or "
            f"a device ({error.strerror or 'not a file'})."
        ) from error
    finally:
        for descriptor in opened:
            os.close(descriptor)


def verify_listed(
    folder: Path,
    files: Mapping[str, Mapping[str, Any]],
    *,
    is_internal: Callable[[str], bool],
) -> None:
    """Proves size and digest of every listed file, and that no other model lies there.

    What is internal is nothing that a reader takes.

    Raises:
        RefusedArtifactError: Naming the first file that is not what it was.
    """
    for name, entry in files.items():
        with _open_listed(folder, name, entry) as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        _compare(folder, name, digest, entry)
    for parent, folders, names in os.walk(folder):
        for name in (*folders, *names):
            path = (Path(parent) / name).relative_to(folder).as_posix()
            looks_own = name.startswith(_OWN_PREFIXES) or name.endswith(_MODEL_SUFFIXES)
            if looks_own and path not in files and not is_internal(path):
                raise RefusedArtifactError(
                    f"{folder}: expected no model file beside those of the manifest. "
                    f"Received: {path}"
                )


def read_listed(
    folder: Path, name: str, entry: Mapping[str, Any], *, max_bytes: int
) -> bytes:
    """Returns a listed file's bytes: the very ones whose digest was compared."""
    if entry["bytes"] > max_bytes:
        raise RefusedArtifactError(
            f"{folder / name}: expected at most {max_bytes} bytes. "
            f"Received: {entry['bytes']}"
        )
    with _open_listed(folder, name, entry) as stream:
        data = stream.read(entry["bytes"] + 1)
    _compare(folder, name, hashlib.sha256(data).hexdigest(), entry)
    return data


@contextlib.contextmanager
def _open_listed(
    folder: Path, name: str, entry: Mapping[str, Any]
) -> Iterator[io.BufferedReader]:
    try:
        with open_plain(folder, name) as stream:
            size = os.fstat(stream.fileno()).st_size
            if size != entry["bytes"]:
                raise RefusedArtifactError(
                    f"{folder / name}: expected {entry['bytes']} bytes. "
                    f"Received: {size}. The file was changed after publication."
                )
            yield stream
    except FileNotFoundError as error:
        raise RefusedArtifactError(
            f"{folder}: expected the plain file {name}. Received: nothing."
        ) from error


def _compare(folder: Path, name: str, digest: str, entry: Mapping[str, Any]) -> None:
    if digest != entry["sha256"]:
        raise RefusedArtifactError(
            f"{folder / name}: its sha256 is not the manifest's. "
            "The file was changed after publication."
        )


@contextlib.contextmanager
def refuse_broken(expectation: str) -> Iterator[None]:
    """Turns whatever hostile content raises into `RefusedArtifactError`."""
    try:
        yield
    except RefusedArtifactError:
        raise
    except Exception as error:
        raise RefusedArtifactError(
            f"{expectation}. Received: {error!s:.300}"
        ) from error


def parse_json(data: bytes, where: object) -> Any:
    """Returns strict JSON of at most MAX_DEPTH levels; refuses anything else."""
    try:
        value = strict.parse_json(data, where)
    except utils.DataError as error:
        raise RefusedArtifactError(str(error)) from error
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [
            child
            for item in level
            if isinstance(item, dict | list)
            for child in (item.values() if isinstance(item, dict) else item)
        ]
        if not level:
            return value
    raise RefusedArtifactError(
        f"{where}: expected at most {MAX_DEPTH} levels of nesting."
    )


# Small files of JSON outside a manifest


def read_plain_json(folder: Path, name: str) -> Any:
    """Returns what a small plain file below a folder says; refuses a link or a pipe.

    Raises:
        FileNotFoundError: If there is none.
        RefusedArtifactError: If it is not plain, too large, or no strict JSON.
    """
    with open_plain(folder, name) as stream:
        # The buffer is as large as what is asked for.
        size = os.fstat(stream.fileno()).st_size
        data = stream.read(min(size, _MAX_PLAIN_BYTES) + 1)
    if len(data) > _MAX_PLAIN_BYTES:
        raise RefusedArtifactError(
            f"{folder / name}: expected at most {_MAX_PLAIN_BYTES} bytes."
        )
    return parse_json(data, folder / name)


def write_vouched(path: Path, content: dict[str, Any]) -> None:
    """Writes what `read_vouched` reads: JSON with the digest of all the rest."""
    plain = strict.to_jsonable(content)
    strict.write_json(path, plain | {_CONTENT_KEY: _digest(plain)})


def read_vouched(folder: Path, name: str) -> Any:
    """Returns what `write_vouched` wrote; without a digest, what is there.

    Raises:
        FileNotFoundError: If there is none.
        RefusedArtifactError: If it was changed since, or as `read_plain_json`.
    """
    content = read_plain_json(folder, name)
    if isinstance(content, dict) and _CONTENT_KEY in content:
        digest = content.pop(_CONTENT_KEY)
        if digest != _digest(content):
            raise RefusedArtifactError(
                f"{folder / name}: expected what the registry wrote, sha256 "
                f"{digest!s:.64}. Received: another content. It was changed by hand: "
                "take that back, or delete its folder and register the artifact again."
            )
    return content


def _digest(plain: dict[str, Any]) -> str:
    # Not `sha256_json`: what was parsed needs no conversion, in thousands of entries.
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
