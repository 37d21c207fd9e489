"""Room: the power is cut. Writes that were not synced are lost, in any order.

What a publication, a training's checkpoints, or the registry ask of the file system is
written down once. Then, after each of their steps, disks are made on which only what
was synced is certain: of the rest each change of a folder is there or not, each content
whole, cut or missing.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from publication import publish
from scene import Child, Row, World, digests, say
from world.artifacts import publish as publish_small

import utils
from artifacts import exchange
from artifacts.artifact import load_artifact
from artifacts.model_registry import PreprocessorManager
from artifacts.registry import Registry
from artifacts.run_folder import RunFolder
from config import Config
from networks import checkpoints
from preprocessing.templates import run_pipeline


class Node:
    """A file (`data`), a link (`target`) or a folder (`entries`) on the disk."""

    def __init__(self, *, is_folder: bool = False, target: str | None = None) -> None:
        self.entries: dict[str, Node] | None = {} if is_folder else None
        self.certain: dict[str, Node] = {}
        self.target = target
        self.data = self.synced = b""


class Disk:
    """What a process asked of the folder `root`, in order; what may be left of it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.top = self._read(root)
        self.steps: list[tuple[Any, ...]] = []
        self.is_on = False

    def _read(self, path: Path) -> Node:
        if path.is_symlink():
            return Node(target=os.readlink(path))
        if not path.is_dir():
            node = Node()
            node.data = node.synced = path.read_bytes()
            return node
        node = Node(is_folder=True)
        node.entries = {each.name: self._read(each) for each in path.iterdir()}
        node.certain = dict(node.entries)
        return node

    # Recording

    def record(self, action: Callable[[], Any]) -> Any:
        """Returns what `action` does, and writes down what it asks of the disk."""
        fsync = os.fsync

        def noted_fsync(descriptor: int) -> None:
            fsync(descriptor)
            self._sync(Path(os.readlink(f"/proc/self/fd/{descriptor}")))

        os.fsync = noted_fsync
        sys.addaudithook(self._hear)
        self.is_on = True
        try:
            return action()
        finally:
            self.is_on, os.fsync = False, fsync

    def _hear(self, event: str, words: tuple[Any, ...]) -> None:
        if not self.is_on:
            return
        self.is_on = False
        try:
            if event == "open" and isinstance(words[0], str | bytes | os.PathLike):
                flags = words[2] or 0
                if flags & (os.O_CREAT | os.O_TRUNC):
                    self._open(Path(os.fsdecode(words[0])), bool(flags & os.O_TRUNC))
            elif event == "os.mkdir":
                self._set(self._path(words[0], words[2]), Node(is_folder=True))
            elif event == "os.symlink":
                self._set(self._path(words[1], words[2]), Node(target=str(words[0])))
            elif event in ("os.remove", "os.rmdir"):
                self._set(self._path(*words), None)
            elif event == "os.rename":
                self._move(self._path(*words[::2]), self._path(words[1], words[3]))
        finally:
            self.is_on = True

    def _path(self, name: Any, descriptor: int) -> Path:
        path = Path(os.fsdecode(name))
        if descriptor >= 0 and not path.is_absolute():
            return Path(os.readlink(f"/proc/self/fd/{descriptor}")) / path
        return path

    def _find(self, path: Path) -> tuple[Node, str] | None:
        """Returns the folder of a path below the root, and its name there."""
        path = path if path.is_absolute() else Path.cwd() / path
        if not path.is_relative_to(self.root) or path == self.root:
            return None
        node = self.top
        *folders, name = path.relative_to(self.root).parts
        for folder in folders:
            child = (node.entries or {}).get(folder)
            if child is None or child.entries is None:
                return None
            node = child
        return node, name

    def _open(self, path: Path, is_emptied: bool) -> None:
        if (found := self._find(path)) is None:
            return
        folder, name = found
        if name not in (folder.entries or {}):
            self._set(path, Node())
        elif is_emptied:
            folder.entries[name].data = b""

    def _set(self, path: Path, node: Node | None) -> None:
        if (found := self._find(path)) is None:
            return
        folder, name = found
        is_there = name in folder.entries
        if (node is None) != is_there:
            return  # it is refused
        self._put(folder, name, node)
        self.steps.append(("set", [(folder, name, node)]))

    def _move(self, source: Path, target: Path) -> None:
        before, after = self._find(source), self._find(target)
        if before is None or after is None:
            return
        node = before[0].entries[before[1]]
        if node.entries is None and node.target is None and source.is_file():
            node.data = source.read_bytes()
        changes = [(*before, None), (*after, node)]
        for change in changes:
            self._put(*change)
        self.steps.append(("set", changes))

    @staticmethod
    def _put(folder: Node, name: str, node: Node | None) -> None:
        if node is None:
            folder.entries.pop(name, None)
        else:
            folder.entries[name] = node

    def _sync(self, path: Path) -> None:
        if path == self.root:
            self.steps.append(("folder", self.top))
        elif (found := self._find(path)) is not None:
            node = found[0].entries[found[1]]
            if node.entries is None:
                node.data = path.read_bytes()
                self.steps.append(("file", node, node.data))
            else:
                self.steps.append(("folder", node))

    # Replaying

    def cut(self, step: int, rng: np.random.Generator, target: Path) -> None:
        """Makes `target` a disk as it may be when the power goes after some steps."""
        certain: dict[Node, dict[str, Node]] = {}
        synced: dict[Node, bytes] = {}
        pending: list[list[tuple[Node, str, Node | None]]] = []

        def apply(changes: list[tuple[Node, str, Node | None]]) -> None:
            for folder, name, node in changes:
                entries = certain.setdefault(folder, dict(folder.certain))
                entries.pop(name, None) if node is None else entries.update(
                    {name: node}
                )

        for kind, *words in self.steps[:step]:
            if kind == "file":
                synced[words[0]] = words[1]
            elif kind == "set":
                pending.append(words[0])
            else:
                due = [c for c in pending if any(f is words[0] for f, _, _ in c)]
                pending = [c for c in pending if not any(c is d for d in due)]
                for changes in due:
                    apply(changes)
        for changes in pending:
            if rng.random() < 0.5:
                apply(changes)

        def make(node: Node, path: Path) -> None:
            if node.target is not None:
                path.symlink_to(node.target)
            elif node.entries is None:
                whole = synced.get(node, node.synced)
                if node.data != whole or (node not in synced and not node.synced):
                    data = node.data
                    cut = data[: rng.integers(0, len(data) + 1)]
                    whole = [whole, b"", cut, data][rng.integers(0, 4)]
                path.write_bytes(whole)
            else:
                path.mkdir()
                for name, child in certain.get(node, node.certain).items():
                    make(child, path / name)

        make(self.top, target)


def power_room(world: World) -> Row:
    """Publications, checkpoints, the registry: cut after every step, several times."""
    row = Row("power cut", "old version intact, none torn, none lost that was told")
    report = world.folder / "power.txt"
    child = Child(lambda _: _cut_all(world, row, report), world.folder / "power.log")
    code = child.wait()
    lines = report.read_text().splitlines() if report.exists() else []
    for line in lines:
        row.add(None if line == "ok" else line)
    if code != 0:
        row.add(f"exit {code}: {(world.folder / 'power.log').read_text()[-500:]}")
    return row


def _cut_all(world: World, row: Row, report: Path) -> int:
    times = world.count(12, 1)
    with report.open("w") as stream:
        for name, scenario, stride in (
            ("publication", _publication, 1),
            ("saves", _saves, 1),
            ("registry", _registry, world.count(1, 9)),
        ):
            folder = world.folder / f"power-{name}"
            folder.mkdir()
            disk, told, check = scenario(folder)
            for step in range(world.seed % stride, len(disk.steps) + 1, stride):
                for each in range(times):
                    target = world.folder / "cut"
                    disk.cut(step, world.rng(6, step, each), target)
                    problem = check(target, told(step))
                    words = f"{name}, step {step} of {len(disk.steps)}, {each}: "
                    stream.write("ok\n" if problem is None else f"{words}{problem}\n")
                    shutil.rmtree(target)
            say(f"  {name}: {len(disk.steps)} steps")
    return 0


Scenario = tuple[Disk, Callable[[int], Any], Callable[[Path, Any], str | None]]


def _publication(folder: Path) -> Scenario:
    outputs = folder / "outputs"
    publish(str(outputs))
    before = digests(outputs)
    disk = Disk(outputs)
    published = disk.record(lambda: publish(str(outputs)))

    def told(step: int) -> str | None:
        return published.name if step == len(disk.steps) else None

    def check(cut: Path, name: str | None) -> str | None:
        return _publication_problem(cut, before, name)

    return disk, told, check


def _publication_problem(
    outputs: Path, before: dict[str, str], name: str | None
) -> str | None:
    now = digests(outputs)
    if any(now.get(path) != digest for path, digest in before.items()):
        return "the old version was changed"
    config = Config(pair="TESTUSDT", outputs_dir=str(outputs))
    try:
        names = {
            load_artifact(path).path.name
            for path in config.model_dir.iterdir()
            if not path.name.startswith(".")
        }
        if name is not None and name not in names:
            return "told, but missing"
        again = publish(str(outputs))
        if load_artifact(config.model_dir / config.latest_name).path != again:
            return "latest does not follow"
    except utils.UserError as error:
        return f"{type(error).__name__}: {error}"
    return None


def _saves(folder: Path) -> Scenario:
    """A run's folder is made, and its checkpoints are written as in a training."""
    outputs = folder / "outputs"
    outputs.mkdir()
    config = Config(pair="TESTUSDT", outputs_dir=str(outputs))
    disk = Disk(outputs)
    done: list[tuple[int, int]] = [(0, 0)]

    def train() -> None:
        place = RunFolder.create(config).checkpoints
        for epoch in range(1, 6):
            history = {"loss": [(1.0).hex()] * epoch}
            content = {
                "variable_0": np.full(300, epoch),
                "history": np.asarray(json.dumps(history)),
                "epochs_done": np.asarray(epoch),
                "is_finished": np.asarray(False),
            }
            checkpoints.write_checkpoint(place / f"epoch_{epoch:05d}.ckpt", content)
            done.append((len(disk.steps), epoch))
            for old in checkpoints.list_checkpoints(place)[: -checkpoints.KEPT]:
                old.unlink()

    disk.record(train)

    def told(step: int) -> int:
        return max(epoch for at, epoch in done if at <= step)

    def check(cut: Path, epoch: int) -> str | None:
        places = [*cut.glob("runs/*/checkpoints"), cut]
        state = checkpoints.read_newest(places[0])
        found = 0 if state is None else int(state["epochs_done"])
        if state is not None and (state["variable_0"] != found).any():
            return "a state of another epoch"
        return None if found >= epoch else f"epoch {epoch} was told, {found} is there"

    return disk, told, check


GROUP = "lstm/TESTUSDT-1m-signal"
Kept = dict[str, Any]
"""Path below the registry -> the content of an entry, an alias, a list of deleted."""


def _registry(folder: Path) -> Scenario:
    """Everything that changes a registry, one after another, as from a command line."""
    outputs, elsewhere = folder / "outputs", Registry(folder / "elsewhere")
    parent = elsewhere.register(publish_small(elsewhere.outputs, seed=5))
    given = publish_small(elsewhere.outputs, seed=6)
    given = elsewhere.register(given, dependencies=[parent.model_id])
    bundle = exchange.export_model(elsewhere, given.model_id, folder / "bundle")
    registry = Registry(outputs)
    first, second, third = (publish_small(outputs, seed=seed) for seed in range(3))
    ids = [f"lstm_TESTUSDT-1m-signal_v1.0.{patch}" for patch in range(3)]
    registry.register(first, alias="champion")
    manager = PreprocessorManager(outputs)
    pipelines = [
        run_pipeline(Config(clip_limit=limit), ["a", "b"], {}).fit(
            np.eye(2, dtype="f4")
        )
        for limit in (3.0, 4.0)
    ]
    changes: list[Callable[[], Any]] = [
        lambda: registry.register(second, dependencies=[ids[0]], tags=["a"]),
        lambda: registry.set_alias(ids[1]),
        lambda: manager.save("cnn_lstm", pipelines[0]),
        lambda: registry.set_alias(ids[1], "challenger"),
        lambda: registry.rollback(GROUP),
        lambda: registry.remove_alias(ids[1], "challenger"),
        lambda: registry.register(third, alias="own"),
        lambda: registry.set_alias(ids[0], "own"),
        lambda: registry.archive(ids[2]),
        lambda: registry.restore(ids[2]),
        lambda: registry.regrade(ids[2]),
        lambda: registry.delete(ids[2], with_artifact=True),
        lambda: manager.save("cnn_lstm", pipelines[1]),
        lambda: exchange.import_models(registry, bundle),
        lambda: exchange.export_model(registry, ids[1], outputs / "exported"),
        lambda: exchange.export_model(registry, ids[1], outputs / "exported.tar"),
    ]
    disk, done = Disk(outputs), [(0, _kept(outputs))]

    def change_all() -> None:
        for change in changes:
            change()
            done.append((len(disk.steps), _kept(outputs)))

    disk.record(change_all)

    def told(step: int) -> list[Kept]:
        """What was acknowledged, and what is under way."""
        number = max(k for k, (at, _) in enumerate(done) if at <= step)
        return [kept for _, kept in done[number : number + 2]]

    return disk, told, _registry_problem


def _kept(outputs: Path) -> Kept:
    root = outputs / "registry"
    patterns = ("**/v*/entry.json", "*/*/aliases/[!.]*.json", "*/*/deleted.json")
    found = (path for pattern in patterns for path in sorted(root.glob(pattern)))
    return {
        path.relative_to(root).as_posix(): json.loads(path.read_text())
        for path in found
    }


def _registry_problem(outputs: Path, told: list[Kept]) -> str | None:
    known, coming = told[0], told[-1]
    registry, now = Registry(outputs), _kept(outputs)
    if lost := {*known} - {*now} - ({*known} - {*coming}):
        return f"told, but missing: {sorted(lost)}"
    for name, content in now.items():
        if content not in (known.get(name), coming.get(name)):
            return f"{name} is neither what it was nor what it becomes"
    try:
        entries = registry.entries()
        for entry in entries:
            if problems := registry.validate(entry.model_id):
                return problems[0]
        manager = PreprocessorManager(outputs)
        for each in manager.list():
            manager.load(each.preprocessor_id)
        for name in now:
            if "/aliases/" in name:
                registry.open(f"{GROUP}@{Path(name).stem}")
        for exported in outputs.glob("exported*"):
            exchange.import_models(Registry(outputs / "other"), exported)
        own = [name for name in known if name.startswith(GROUP)]
        used = {Path(name).parent.name for name in own if name.endswith("entry.json")}
        used |= {*known.get(f"{GROUP}/deleted.json", {}).get("versions", ())}
        new = registry.register(publish_small(outputs, seed=9))
    except utils.UserError as error:
        return f"{type(error).__name__}: {error}"
    if new.version in used:
        return f"{new.version} was given twice"
    left = [path.name for path in (outputs / "registry" / GROUP).rglob(".tmp-*")]
    return f"left behind: {left}" if left else None
