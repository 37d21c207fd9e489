"""The page of all runs: what a row says, where it links, what it may not run."""

import base64
import hashlib
import re
import shutil

import pytest
from world.artifacts import publish

from artifacts.registry import Registry
from experiments.page import gather_rows, write_page
from utils import MissingInputError


@pytest.fixture
def outputs(tmp_path):
    outputs = tmp_path / "outputs"
    registry = Registry(outputs)
    first = publish(outputs, skill=0.1, experiment_name="spring", tags=("a",))
    (first / "report.html").write_text("page")
    parent = registry.register(first, alias="champion")
    registry.register(publish(outputs, skill=0.2), dependencies=[parent.model_id])
    publish(outputs, skill=-0.1, pair="ETHUSDT", model="gru")
    return outputs


def test_rows_say_what_a_run_is_worth(outputs):
    rows = gather_rows(outputs, links_from=outputs)
    told = {(row["pair"], row["skill"]): row for row in rows}
    first, second = told["TESTUSDT", "+0.100"], told["TESTUSDT", "+0.200"]
    assert first["grade"] == "B-" and first["interval"] == "[+0.05, +0.15]"
    assert first["net"] == "+10.0" and first["words"] == "spring #a"
    assert re.fullmatch(r"models/TESTUSDT/lstm/[^/]+/report\.html", first["report"])
    [model] = first["models"]
    assert model["aliases"] == ["champion"] and second["report"] is None
    assert second["models"][0]["parents"] == [model["name"]]
    assert {first["spark"]["count"], second["spark"]["count"]} == {1, 2}
    other = told["ETHUSDT", "-0.100"]
    assert other["grade"] == "D" and other["models"] == []


@pytest.mark.parametrize(
    "name, content",
    [
        ("metadata_*.json", "{"),
        ("metadata_*.json", '{"config": 5}'),
        ("confusion_matrix_report.json", '{"test": {"trading": {"num_trades": "x"}}}'),
        ("confusion_matrix_report.json", "[]"),
    ],
)
def test_a_run_that_cannot_be_read_is_told(outputs, name, content):
    next(outputs.glob(f"models/ETHUSDT/*/*/{name}")).write_text(content)
    [row] = [r for r in gather_rows(outputs, links_from=outputs) if r["fault"]]
    assert row["grade"] == "F" and row["pair"] == "ETHUSDT"
    assert "cannot be read" in row["fault"]


def test_a_registered_model_without_its_artifact_is_told(outputs):
    registry = Registry(outputs)
    first, second = (registry.open(e.model_id).path for e in registry.list())
    shutil.rmtree(first)
    (second / "MANIFEST.json").write_text("{}")
    moved = registry.register(publish(outputs, skill=0.4))
    (outputs / moved.artifact).rename(outputs / "kept")
    registry.change(moved.model_id, artifact="kept")
    rows = gather_rows(outputs, links_from=outputs)
    told = [row["fault"] for row in rows if row["models"]]
    assert len(rows) == 4 and told.count("") == 1
    assert sum("expected its artifact" in each for each in told) == 1
    assert sum("expected the manifest" in each for each in told) == 1
    assert [row["skill"] for row in rows if row["trained"] == "kept"] == ["+0.400"]


def test_the_page_runs_its_own_script_alone(outputs):
    path = write_page(outputs)
    text = path.read_text()
    [script] = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in text
    assert "http:" not in text and "https:" not in text
    assert text.count("<tr data-pair=") == 3
    assert 'data-skill="0.2"' in text and "3 runs, 2 registered" in text


def test_without_runs_there_is_no_page(tmp_path):
    with pytest.raises(MissingInputError, match="published runs"):
        write_page(tmp_path / "outputs")
