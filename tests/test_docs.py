"""README and docs: code runs, commands run or are understood, links lead somewhere.

A block without a language has commands, `python` has code, `text` shows output and is
not run. What needs the network or minutes is held against the command's own `--help`.
"""

import functools
import hashlib
import http.server
import os
import re
import shlex
import subprocess
import sys
import threading
import zipfile

import pandas as pd
import pytest
from world.frames import PROJECT
from world.programs import run_python

from candles import synthetic_candles
from settings import options

PAGES = [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]
IDS = [page.name for page in PAGES]
SMALL = (
    "--epochs 1 --sequence-length 8 --lstm-units 4 --dense-units 4 --batch-size 64 "
    "--windows-per-epoch 256 --no-baseline-model --importance-windows none "
    "--undersampling-min-samples 100 --no-tensorboard"
)
"""What makes a run of the page's small: appended, so that it wins."""
FEWER = {
    "epochs=3": "epochs=1, batch_size=64, learning_rate=0.003",
    "sequence_length=60": "sequence_length=30",
    "(32, 16)": "(16,)",
    "15_000": "8_000",
}
"""What makes README's run in Python small: put in the place of its own sizes."""
BLANK = (
    f"import sys; sys.path[:0] = [{str(PROJECT / 'tests')!r}]\n"
    "from world.pictures import pictures\n"
    "blank = pictures(are_rendered=False)\n"
    "blank.__enter__()\n"
)
"""Pictures are rendered on the way from candles to a report."""


def blocks(page, language):
    """The content of each fenced block of a language, in order."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(), re.M | re.S)
    return [content for name, content in found if name == language]


def commands(page):
    lines = "".join(blocks(page, "")).splitlines()
    return [line.partition("  #")[0].strip() for line in lines if line.strip()]


def shape(text):
    """The lines without their numbers: which words stand where."""
    lines = [re.sub(r"[-+]?[\d.,:%]+|n/a|-", "#", line) for line in text.splitlines()]
    return [re.sub(r"[#\s\[\]]+", " ", line).strip() for line in lines]


def run(words, folder):
    code, printed = run_python(words, folder)
    assert code == 0, printed[-3000:]
    return printed


def run_alone(words, folder):
    """One that starts itself anew with another allocator."""
    result = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-3000:]
    return result.stdout


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_code_runs_and_prints_what_is_shown(page, tmp_path):
    code = "\n".join(blocks(page, "python"))
    if not code:
        pytest.skip("a page without code")
    if page.name == "README.md":
        for text, small in FEWER.items():
            assert text in code
            code = code.replace(text, small)
    printed = set(shape(run(["-c", BLANK + code], tmp_path)))
    if page.name == "README.md":
        # Numbers, and which warnings come, differ from machine to machine.
        [shown] = [b for b in blocks(page, "text") if "Skill" in b]
        fixed = [x for x in shown.splitlines() if not x.startswith(("Skill", "After"))]
        assert len(fixed) >= 8 and set(shape("\n".join(fixed))) <= printed


@pytest.mark.parametrize(
    ("name", "kind"), [("extra_trees", "Trees"), ("dilated", "Functional")]
)
def test_an_own_family_trains(tmp_path, name, kind):
    page = PROJECT / "docs/families.md"
    [code] = [b for b in blocks(page, "python") if f'("{name}", ' in b]
    code = BLANK + code
    code += (
        "from config import Config\n"
        "from world.frames import TINY, make_own_frame\n"
        "from predictor import Predictor\n"
        "from trainer import StandaloneTrainer\n"
        f"own = {{'model': {name!r}, 'num_trees': 3, 'baseline_model': False}}\n"
        "run = StandaloneTrainer(Config(**TINY | own), frame=make_own_frame(900))\n"
        "adapter = Predictor(run.run_training()).adapter\n"
        "model = getattr(adapter, 'network', None) or adapter.model\n"
        f"assert type(model).__name__ == {kind!r}, model\n"
        "assert run.results['importance']['features']\n"
    )
    run(["-c", code], tmp_path)


class Nothing(http.server.BaseHTTPRequestHandler):
    """A host that has no file."""

    def do_GET(self):
        self.send_error(404)

    def log_message(self, *words):
        pass


def write_archive(folder, month, table):
    """A month as the download leaves it: what is there and verified is not fetched."""
    open_ms = table["timestamp"].astype("int64") // 10**6
    rows = table.drop(columns="timestamp").assign(close_time=open_ms + 59_999)
    rows.insert(0, "open_time", open_ms)
    for name in ("quote", "count", "taker_base", "taker_quote", "ignore"):
        rows[name] = 0
    path = folder / f"ETHUSDT-1m-{month}.zip"
    with zipfile.ZipFile(path, "w") as archive:
        content = rows.to_csv(index=False, header=False)
        archive.writestr(f"{path.stem}.csv", content)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    path.with_name(f"{path.name}.CHECKSUM").write_text(f"{digest}  {path.name}\n")


def test_the_way_from_candles_to_a_signal_works(tmp_path):
    """README's own five commands, on made-up minutes in place of the fetched ones."""
    table = synthetic_candles(50_000, seed=5)
    table["timestamp"] += pd.Timestamp("2024-01-01", tz="UTC") - table["timestamp"][0]
    folder = tmp_path / "data" / "spot"
    folder.mkdir(parents=True)
    is_january = table["timestamp"] < pd.Timestamp("2024-02-01", tz="UTC")
    write_archive(folder, "2024-01", table[is_january])
    write_archive(folder, "2024-02", table[~is_january])
    host = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Nothing)
    threading.Thread(target=host.serve_forever, daemon=True).start()
    done = []
    for command in commands(PROJECT / "README.md"):
        if not command.startswith("python "):
            continue
        _, first, *words = shlex.split(command)
        first = first if first == "-m" else f"{PROJECT}/{first}"
        act = run
        if "trainer.py" in command:
            act = run if "--audit" in words else run_alone
            words += shlex.split(SMALL)
        if "download" in command:
            words += ["--base-url", f"http://127.0.0.1:{host.server_port}"]
        done.append(act([first, *words], tmp_path))
    host.shutdown()
    host.server_close()
    assert len(done) == 5 and "no leak found" in done[2]
    assert list(tmp_path.glob("outputs/models/ETHUSDT/lstm/latest-1m/report.html"))
    lines = [line for line in done[4].splitlines() if " ok " in line]
    assert len(lines) == 3 and lines[-1].split()[0] == "2024-02-04"


@functools.cache
def help_of(*words):
    """What a program says of itself; pages name the same ones."""
    return run([*words, "--help"], PROJECT)


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_commands_are_understood(page, monkeypatch):
    monkeypatch.chdir(PROJECT)
    targets = re.findall(r"^([a-z]+):", (PROJECT / "Makefile").read_text(), re.M)
    for command in commands(page):
        program, *words = shlex.split(command)
        if program == "make":
            assert set(words) <= set(targets), command
        elif program == "python" and words[0] == "trainer.py":
            options.parse(words[1:])
        elif program == "python":
            size = 1 if words[0].endswith(".py") else 2
            inner = [w for w in words[size : size + 1] if w.isalpha()]
            known = help_of(*words[:size], *inner)
            flags = [word for word in words[size:] if word.startswith("--")]
            assert all(flag in known for flag in flags), command
        else:
            assert command == "source .venv/bin/activate"


def anchors(page):
    heads = re.findall(r"^#+ (.*)$", page.read_text(), re.M)
    return {re.sub(r"[^\w -]", "", head).lower().replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        assert "://" not in link, link
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.is_file(), link
        assert not anchor or anchor in anchors(target), link


def test_places_named_by_the_architecture_are_there():
    text = (PROJECT / "docs/architecture.md").read_text()
    names = set(re.findall(r"`([a-z_]+/[a-z_]+)(?:\.py)?`", text))
    names -= {"outputs/runs", "outputs/models"}
    assert len(names) > 30
    for name in names:
        assert (PROJECT / name).with_suffix(".py").is_file(), name


def test_readme_is_one_screen():
    assert len((PROJECT / "README.md").read_bytes()) <= 9000
