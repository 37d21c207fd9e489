"""The project used from a folder whose own modules have the same names."""

import re
import subprocess
import sys

import pytest
from world.frames import PROJECT

CLASHING = ("utils", "config", "models", "files", "trainer", "metrics", "settings")


@pytest.fixture
def folder(tmp_path):
    for name in CLASHING:
        (tmp_path / f"{name}.py").write_text(f"mine = {name!r}\n")
    return tmp_path


def shown(heading):
    page = (PROJECT / "docs/first-hour.md").read_text()
    section = page[page.index(heading) :]
    found = re.findall(r"^```text\n(.*?)^```$", section, re.M | re.S)
    return [block.replace("/path/to/this/project", str(PROJECT)) for block in found]


def run(folder, *words):
    return subprocess.run(
        [sys.executable, *words], cwd=folder, capture_output=True, text=True
    )


def test_commands_take_no_module_of_the_folder_they_run_in(folder):
    done = run(
        folder, str(PROJECT / "trainer.py"), "--pair", "ETHUSDT", "--config-test"
    )
    assert done.returncode == 0, done.stderr
    assert "inputs/ETHUSDT_TF-1m" in done.stdout + done.stderr
    for face in ("dataset_builder.py", "predictor.py"):
        done = run(folder, str(PROJECT / face), "--help")
        assert (done.returncode, done.stderr) == (0, "")


def test_two_lines_are_enough_beside_modules_of_the_same_names(folder):
    first, own = shown("## 7. From another folder")
    code = (
        f"{first}{own}"
        "import trainer, utils, config, models.families\n"
        f"assert all(x.__file__.startswith({str(PROJECT)!r})"
        " for x in (trainer, utils, config, models.families))\n"
        "assert mine.mine == 'utils'\n"
        "print(StandaloneTrainer(config.Config(pair='ETHUSDT')).config.tag)\n"
    )
    done = run(folder, "-c", code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "ETHUSDT_FW120_SL050_TP100"


def test_where_ones_own_came_first_the_error_names_its_file(folder):
    first, _ = shown("## 7. From another folder")
    done = run(folder, "-c", f"import utils\n{first}")
    assert done.returncode == 1
    assert f"'utils' ({folder / 'utils.py'})" in done.stderr
