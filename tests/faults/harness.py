"""Faults by the hundred against saving, publishing, resuming and reading.

python tests/faults/harness.py [--sample] [--seed N] [--only ROOM ...] [--keep]

Prints one line a fault: tried, held, and the seed that replays it. Exits 1 where
something did not hold. The whole takes about forty minutes on two cores.
"""

from __future__ import annotations

import argparse
import importlib
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from scene import Child, Row, World, import_everything, outcome, say, train
from world.pictures import pictures

ROOMS = {
    "publish": ("publication", "publication_room"),
    "evaluate": ("publication", "evaluation_room"),
    "share": ("sharing", "sharing_room"),
    "registry": ("registry", "registry_room"),
    "corrupt": ("corruption", "corruption_room"),
    "property": ("corruption", "property_room"),
    "fuzz": ("fuzzing", "fuzz_room"),
    "power": ("power", "power_room"),
    "short": ("shortage", "shortage_room"),
    "kill": ("killing", "kill_room"),
    "sweep": ("sweeping", "sweep_room"),
    "stages": ("staging", "stage_room"),
    "renew": ("renewing", "renew_room"),
    "course": ("courses", "course_room"),
    "agents": ("courses", "agent_room"),
    "disk": ("disk", "disk_room"),
    "signal": ("killing", "signal_room"),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sample", action="store_true", help="about a minute")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6))
    parser.add_argument("--only", nargs="+", choices=list(ROOMS), default=list(ROOMS))
    parser.add_argument("--keep", action="store_true", help="keep the folders")
    parser.add_argument("--reference", metavar="FOLDER", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.reference:
        return train(Path(options.reference), lambda _: None)
    say(f"seed {options.seed}")
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    world = World(folder=folder, seed=options.seed, is_sample=options.sample)
    import_everything()
    rows: list[Row] = []
    try:
        with pictures(are_rendered=not options.sample):
            if {*options.only} & {"kill", "disk", "signal"}:
                prove_that_forking_is_sound(world)
            for name in options.only:
                module, function = ROOMS[name]
                started = time.monotonic()
                found = getattr(importlib.import_module(module), function)(world)
                rows += found if isinstance(found, list) else [found]
                say(f"{name}: {time.monotonic() - started:.0f} s")
    finally:
        if options.keep:
            say(f"kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    show(rows, options.seed)
    return int(any(row.failures for row in rows))


def prove_that_forking_is_sound(world: World) -> None:
    """A forked child and a process of its own end with the same bytes."""
    forked, own = world.folder / "reference-0", world.folder / "own"
    world.prepare(forked, 0)
    child = Child(lambda tell: train(forked, tell), forked / "log")
    if (code := child.wait()) != 0:
        raise SystemExit(f"a plain training ends with {code}: {forked / 'log'}")
    world.prepare(own, 0)
    command = [sys.executable, __file__, "--reference", str(own)]
    subprocess.run(command, check=True, capture_output=True)
    if outcome(forked) != outcome(own):
        raise SystemExit("a forked child computes other bytes than a new process")


def show(rows: list[Row], seed: int) -> None:
    say(f"\n{'fault':<34}{'tried':>7}{'held':>7}  demand")
    for row in rows:
        if row.skipped:
            say(f"{row.fault:<34}{'-':>7}{'-':>7}  skipped: {row.skipped}")
            continue
        note = f" ({row.note})" if row.note else ""
        say(f"{row.fault:<34}{row.tried:>7}{row.held:>7}  {row.demand}{note}")
        for failure in row.failures[:10]:
            say(f"    did not hold: {failure[:600]}")
    say(f"\nto replay: python tests/faults/harness.py --seed {seed}")


if __name__ == "__main__":
    sys.exit(main())
