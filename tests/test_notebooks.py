import json

import jupytext
import nbclient
import nbformat
import pytest
from jupyter_client.provisioning import local_provisioner
from world.frames import PROJECT
from world.programs import Kernel

SMALL = {
    "demo_candles()": "demo_candles(num_bars=60_000)",
    "num_bars=200_000": "num_bars=60_000",
    "windows_per_epoch=15_000": "windows_per_epoch=1_000",
    "num_bars=100_000": "num_bars=6_000",
    '"windows_per_epoch": 15_000': '"windows_per_epoch": 500, "num_threads": 1',
    '"agent_steps": 50_000, "agent_seeds": 2': '"agent_steps": 512, "agent_seeds": 1',
}
"""What makes the runs of the notebooks small."""
BLANK = (
    "from world.pictures import pictures\n"
    "blank = pictures(are_rendered=False)\n"
    "blank.__enter__()"
)
"""The pictures in the notebook are drawn, those of the reports are not."""
SOURCES = sorted((PROJECT / "notebooks").glob("*.py"))


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_notebook_is_generated_from_its_source_without_outputs(source):
    expected = jupytext.read(source)
    committed = json.loads(source.with_suffix(".ipynb").read_text())
    assert [
        (cell["cell_type"], "".join(cell["source"])) for cell in committed["cells"]
    ] == [(cell["cell_type"], cell["source"]) for cell in expected.cells]
    assert not any(cell.get("outputs") for cell in committed["cells"])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_notebook_runs(source, tmp_path, monkeypatch):
    monkeypatch.setenv("TRAINER_WORK_DIR", str(tmp_path))
    monkeypatch.setenv("TRAINER_EPOCHS", "1")
    monkeypatch.setattr(local_provisioner, "launch_kernel", Kernel)
    notebook = jupytext.read(source)
    for cell in notebook.cells:
        for text, small in SMALL.items():
            cell["source"] = cell["source"].replace(text, small)
    notebook.cells.insert(0, nbformat.v4.new_code_cell(BLANK))
    nbclient.NotebookClient(
        notebook,
        timeout=300,
        kernel_name="python3",
        resources={"metadata": {"path": str(PROJECT / "notebooks")}},
    ).execute()
    drawn = [
        output
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]
    assert len(drawn) >= 2
