"""Room: the n-th allocation fails, in every reader and in a publication.

What Python asks for is refused once (`_testcapi`). A reader then says so, or returns a
whole result; a publication leaves the old version and nothing torn, and is done again.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

from corruption import make_formats
from publication import _publish_again, publish
from scene import Child, Row, World, digests, tail

import utils
from artifacts.artifact import load_artifact
from config import Config

_MOST = 200_000
"""About as many allocations as the longest of them makes."""
_SAID, _WRONG = 10, 11
_PYTHONS_OWN = (
    "can't allocate",
    *("expected str, bytes", "open: path should", "stat: path should"),
)
"""What Python makes of an allocation that its `open` or its paths missed."""


def shortage_room(world: World) -> list[Row]:
    """Readers and publication, each with allocations refused at random."""
    rows = [
        Row("no memory, readers", "said, or a whole result"),
        Row("no memory, publication", "old version intact, none torn, done again"),
    ]
    try:
        import _testcapi  # noqa: F401
    except ImportError:
        for row in rows:
            row.skipped = "this Python has no _testcapi"
        return rows
    _read_short(world, rows[0])
    _publish_short(world, rows[1])
    return rows


def _nth(world: World, *key: int) -> int:
    return int(_MOST ** world.rng(8, *key).uniform(0.2, 1))


def refused_once(number: int, action: Callable[[], object]) -> object:
    """Returns what `action` does when its n-th allocation is refused."""
    import _testcapi

    _testcapi.set_nomemory(number, number + 1)
    try:
        return action()
    finally:
        _testcapi.remove_mem_hooks()


def _read_short(world: World, row: Row) -> None:
    folder = world.folder / "short"
    folder.mkdir()
    formats = make_formats(folder)
    said = 0
    for position, item in enumerate(formats):
        item.read()  # imports what it needs
        for each in range(world.count(25, 1)):
            number = _nth(world, position, each)

            def read(number: int = number, item: object = item) -> int:
                logging.disable(logging.CRITICAL)
                try:
                    problem = refused_once(number, item.read)
                except (MemoryError, utils.UserError):
                    return _SAID
                except (RuntimeError, TypeError) as error:
                    if not str(error).startswith(_PYTHONS_OWN):
                        raise
                    return _SAID
                return 0 if problem is None else _WRONG

            log = world.folder / "short.log"
            child = Child(lambda _, read=read: read(), log)
            code = child.wait()
            said += code == _SAID
            words = f"{item.name}, allocation {number}: "
            row.add(None if code in (0, _SAID) else f"{words}{code}, {tail(log)}")
    row.note = f"{len(formats)} formats, {said} said so"


def _publish_short(world: World, row: Row) -> None:
    old = world.folder / "short-old"
    publish(str(old))
    before = digests(old)
    for each in range(world.count(200, 2)):
        number = _nth(world, 1000, each) // 10 + 1
        folder, log = world.folder / f"short-{each}", world.folder / "short.log"
        shutil.copytree(old, folder, symlinks=True)

        def run(number: int = number, folder: Path = folder) -> int:
            try:
                refused_once(number, lambda: publish(str(folder)))
            except (MemoryError, utils.UserError):
                return _SAID
            return 0

        child = Child(lambda _, run=run: run(), log)
        code = child.wait()
        problem = None if code in (0, _SAID) else f"{code}, {tail(log)}"
        problem = problem or _torn(folder, before) or _publish_again(folder, before)
        row.add(problem and f"allocation {number}: {problem}")
        shutil.rmtree(folder)


def _torn(folder: Path, before: dict[str, str]) -> str | None:
    now = digests(folder)
    if any(now.get(name) != digest for name, digest in before.items()):
        return "the old version was changed"
    models = Config(pair="TESTUSDT", outputs_dir=str(folder)).model_dir
    for path in models.iterdir():
        if not path.name.startswith("."):
            try:
                load_artifact(path)
            except utils.UserError as error:
                return f"torn: {error}"
    return None
