import json

import jupytext
import nbclient
import pytest
from world.frames import PROJECT

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
    notebook = jupytext.read(source)
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
