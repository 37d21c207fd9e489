"""The pictures of README and docs, from the demo market: `make pictures`.

Runs README's example in a temporary folder, photographs its report with an installed
Chromium, and keeps some of its figures, in few colours so that they stay small.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

PROJECT = Path(__file__).resolve().parents[1]
PICTURES = Path(__file__).parent / "pictures"
FIGURES = ("equity_test", "reliability_test", "confusion_matrix_test", "importance")
COLOURS = 200
WIDTH, HEIGHT = 1000, 1300


def main() -> None:
    """Makes every picture anew."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        sys.exit("error: expected Chromium on the path, to photograph report.html.")
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run([sys.executable, "-c", example()], folder)
        (artifact,) = folder.glob("outputs/models/DEMOUSDT/lstm/latest-1m")
        shot = folder / "report.png"
        options = ["--headless", "--no-sandbox", "--hide-scrollbars"]
        options += [f"--window-size={WIDTH},{HEIGHT}", f"--screenshot={shot}"]
        run([browser, *options, (artifact / "report.html").resolve().as_uri()], folder)
        keep(shot, "report")
        for figure in FIGURES:
            keep(artifact / "plots" / f"{figure}.png", figure)
        (file,) = folder.glob("inputs/*.feather")
        builder = [sys.executable, str(PROJECT / "dataset_builder.py"), "describe"]
        drawn = folder / "dataset.png"
        run([*builder, str(file), "--output", str(drawn)], folder)
        keep(drawn, "dataset")


def example() -> str:
    """Returns the first Python block of README."""
    readme = (PROJECT / "README.md").read_text()
    return re.findall(r"```python\n(.*?)```", readme, re.DOTALL)[0]


def run(command: list[str], folder: Path) -> None:
    """Runs a command in a folder, with the project on its path."""
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(PROJECT)}
    environment["HOME"] = str(folder)
    subprocess.run(command, cwd=folder, env=environment, check=True)


def keep(picture: Path, name: str) -> None:
    """Writes a picture in few colours, at most `WIDTH` wide."""
    image = Image.open(picture).convert("RGB")
    image.thumbnail((WIDTH, 10_000))
    image.quantize(COLOURS, dither=Image.Dither.NONE).save(
        PICTURES / f"{name}.png", optimize=True
    )


if __name__ == "__main__":
    main()
