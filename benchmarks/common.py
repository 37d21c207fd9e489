"""What the benchmarks share: isolated measurements, interleaving, one table, JSON."""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT))  # for a case that is asked for by itself


def resident_bytes():
    """Returns the resident memory of this process, on Linux."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def measure(script, case, *arguments):
    """Runs one case of a script in a fresh process; returns what it printed last."""
    result = subprocess.run(
        [sys.executable, script, "--case", case, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=PROJECT,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": str(PROJECT)},
        check=False,
    )
    if result.returncode:
        raise SystemExit(f"{case} failed:\n{result.stderr[-3000:]}")
    return json.loads(result.stdout.splitlines()[-1])


def interleaved(script, cases, repeats, *arguments):
    """Measures all cases in turn, `repeats` times; returns case -> measurements."""
    found = {case: [] for case in cases}
    for _ in range(repeats):
        for case in cases:
            found[case].append(measure(script, case, *arguments))
    return found


def spread(values):
    """Returns median, least and largest."""
    return statistics.median(values), min(values), max(values)


def machine():
    """Returns what the figures depend on."""
    model = platform.processor() or platform.machine()
    lines = Path("/proc/cpuinfo")
    if lines.exists():
        names = [
            x for x in lines.read_text().splitlines() if x.startswith("model name")
        ]
        model = names[0].split(":", 1)[1].strip() if names else model
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
    }


def parser(description):
    """Returns the arguments that every benchmark takes."""
    result = argparse.ArgumentParser(description=description)
    result.add_argument("--case", help="measure one case in this process")
    result.add_argument("--repeats", type=int, default=5)
    result.add_argument("--json", type=Path, help="write the figures here, too")
    return result


def show(title, columns, rows, figures, path):
    """Prints a table, as the pages of `docs/` have it, and writes the figures."""
    table = [list(map(str, row)) for row in [columns, *rows]]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    table.insert(1, ["-" * width for width in widths])
    print(f"\n{title} ({', '.join(str(v) for v in machine().values())})\n")
    for row in table:
        cells = map(str.ljust, row, widths)
        print(f"| {' | '.join(cells)} |")
    if path is not None:
        content = {"title": title, "machine": machine(), "figures": figures}
        path.write_text(json.dumps(content, indent=2) + "\n")
