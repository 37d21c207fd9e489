"""`python -m artifacts`: what it says, its exit codes; models between machines."""

import io
import json
import os
import shutil
import sys
import tarfile

import pytest
from world.artifacts import publish

from artifacts import exchange
from artifacts.__main__ import main
from artifacts.manifest import write_manifest
from artifacts.model_registry import ModelRegistry
from artifacts.registry import Registry
from utils import ConfigError, MissingInputError, RefusedArtifactError

FIRST = "lstm_TESTUSDT-1m-signal_v1.0.0"
SECOND = "lstm_TESTUSDT-1m-signal_v1.0.1"
ALIAS = "lstm/TESTUSDT-1m-signal@champion"


@pytest.fixture
def outputs(tmp_path):
    """Two models: the second was made from the first, which is champion."""
    outputs = tmp_path / "outputs"
    registry = Registry(outputs)
    registry.register(publish(outputs), alias="champion", tags=["old"])
    folder = publish(outputs, skill=0.2)
    registry.register(folder, dependencies=[FIRST], tags=["new"])
    return outputs


@pytest.fixture
def command(outputs, capsys):
    def run(*words, code=0):
        assert main(["--outputs-dir", str(outputs), *words]) == code
        said = capsys.readouterr()
        return said.err if code else said.out

    return run


def test_list_has_a_line_a_model(command):
    header, newest, oldest = command("list").splitlines()
    assert header.split() == ["grade", "skill", "net", "bps", "created", "status"] + [
        "model"
    ]
    assert newest.startswith("B-     +0.20  +20.00")
    assert newest.endswith(f"{SECOND} #new") and oldest.endswith(f"{FIRST} #old")
    assert command("list", "--tags", "none") == "no model\n"
    told = json.loads(command("list", "--json", "--sort", "log_loss", "--limit", "1"))
    assert [each["model_id"] for each in told] == [SECOND]


def test_info_says_what_is_known(command, outputs):
    said = command("info", SECOND)
    assert "grade: B-, no B: direction is not shown" in said
    assert "Skill: yes" in said and f"    {FIRST}_grade_B-" in said
    parent = Registry(outputs).get(FIRST)
    assert f"_skill_+0.10  manifest {parent.manifest_sha256[:12]}\n" in said
    [ancestor] = json.loads(command("info", SECOND, "--json"))["lineage"]
    assert ancestor["model_id"] == FIRST
    assert ancestor["manifest_sha256"] == parent.manifest_sha256
    told = json.loads(command("info", ALIAS, "--json"))
    assert told["aliases"] == ["champion"] and told["files"]["config.yaml"]["bytes"]


def test_each_ancestor_is_told_once(command, outputs):
    registry, names = Registry(outputs), [FIRST, SECOND]
    folder = outputs / registry.get(FIRST).artifact
    for _ in range(12):  # each from the two before: 377 ways to the first
        names.append(registry.register(folder, dependencies=names[-2:]).model_id)
    said = command("info", names[-1])
    tree = said[said.index("made from") : said.index("files:")].splitlines()
    assert len(tree) < 30 and sum("as above" in line for line in tree) == 12


def test_what_others_wrote_does_not_break_info(command, outputs):
    folder = publish(outputs)
    path = next(folder.glob("metadata_*"))
    about = json.loads(path.read_text())
    about |= {"results": [], "hardware": {"cpu": "\x1b[2J", "memory_bytes": 10**9}}
    path.write_text(json.dumps(about))
    write_manifest(folder, "MANIFEST.json", is_internal=lambda _: False)
    entry = Registry(outputs).register(folder, notes="\x7f \u202e \U000e0001")
    assert "hardware: cpu \\x1b[2J, memory 1.00 GB" in command("info", entry.model_id)
    said = command("info", entry.model_id, "--json")
    assert said.isascii() and json.loads(said)["notes"] == entry.notes


def test_words_that_mean_several_are_told_without_a_terminal(command):
    said = command("info", "testusdt", code=2)
    assert SECOND in said and FIRST in said


@pytest.mark.parametrize(
    "answers, code, said",
    [
        ("x\n3\n0\n2\n", 0, "1 model: every file is whole\n"),
        ("quit\n", 2, "error: no model was chosen\n"),
        ("\n", 2, "error: no model was chosen\n"),
        ("", 2, "error: no model was chosen\n"),
        ("9\nnew\n", 2, "--timeframe 1m --target signal --register\n"),
    ],
)
def test_a_terminal_is_asked(outputs, capsys, monkeypatch, answers, code, said):
    monkeypatch.setattr("sys.stdin", io.StringIO(answers))
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    assert main(["--outputs-dir", str(outputs), "validate", "testusdt"]) == code
    out, err = capsys.readouterr()
    assert (err if code else out).endswith(said)
    assert f"  2 {FIRST}_grade_B-_skill_+0.10\nwhich one, 1 to 2, new, or quit? " in err


@pytest.mark.parametrize(
    "words, code, said",
    [
        (["info", "lstm_TESTUSDT-1m-signal_v1.0.7"], 66, "Near: lstm_TESTUSDT-1m"),
        (["info", "lstm/TESTUSDT-1m-signal@champoin"], 66, f"Near: {ALIAS}, "),
        (["delete", FIRST], 2, f"alias champion, {SECOND}"),
        (["rollback", "lstm/TESTUSDT-1m-signal"], 2, "an earlier active model"),
        (["import", "nowhere"], 66, "exported model"),
        (["scan", "nowhere"], 66, "expected a folder"),
        (["validate"], 2, "a MODEL or --all"),
        (["alias", FIRST, "v1.0.0"], 2, "that is no version"),
    ],
)
def test_what_cannot_be_done(command, words, code, said):
    assert said in command(*words, code=code)


def test_without_mlflow_its_requirements_are_named(command, outputs, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    folder = str(outputs / Registry(outputs).get(FIRST).artifact)
    said = command("register", folder, "--mlflow", "sqlite:///mlflow.db", code=2)
    assert "pip install -r requirements-mlflow.txt" in said
    assert len(Registry(outputs).list()) == 2


def test_models_in_use_change(command, outputs):
    assert "is champion" in command("promote", SECOND)
    assert FIRST in command("rollback", "lstm/TESTUSDT-1m-signal")
    assert command("dependants", FIRST) == f"{SECOND}\n"
    assert json.loads(command("dependencies", SECOND, "--json")) == [FIRST]
    assert f"{SECOND}: log_loss 0.8" in command("best", "log_loss")
    assert command("get", ALIAS).rstrip().endswith(Registry(outputs).get(FIRST).run_id)
    folder = outputs / Registry(outputs).get(FIRST).artifact
    folder.rename(outputs / "away")
    for words in (("get", ALIAS), ("validate", ALIAS), ("validate", "--all")):
        said = command(*words, code=66)
        assert "expected its artifact" in said and said.count(FIRST) == 1
    (outputs / "away").rename(folder)
    assert "is no longer champion" in command("alias", FIRST, "champion", "--remove")
    assert "expected a model" in command("get", ALIAS, code=66)
    command("archive", SECOND)
    assert SECOND not in command("list")
    command("restore", SECOND)
    place = outputs / Registry(outputs).get(SECOND).artifact
    command("delete", SECOND, "--with-artifact")
    assert not place.exists()
    assert "2 models" not in command("validate", "--all")


def test_validate_names_what_changed(command, outputs, capsys):
    folder = outputs / Registry(outputs).get(FIRST).artifact
    next(folder.glob("scaler_*")).write_text("{}")
    said = command("validate", "--all", code=76)
    assert said.count(FIRST) == 1 and "scaler_" in said
    assert main(["validate", "--all", "--json", "--outputs-dir", str(outputs)]) == 76
    [problem] = json.loads(capsys.readouterr().out)
    assert problem.startswith(FIRST)


@pytest.mark.parametrize("name", ["bundle", "bundle.tar"])
def test_a_model_moves_with_its_ancestors(outputs, tmp_path, name):
    bundle = exchange.export_model(Registry(outputs), SECOND, tmp_path / name)
    other = Registry(tmp_path / "other")
    found = exchange.import_models(other, bundle)
    assert [each.model_id for each in found] == [FIRST, SECOND]
    assert found[1].dependencies == (FIRST,) and found[1].tags == ("new",)
    assert other.validate(SECOND) == []
    again = exchange.import_models(other, bundle)  # the same, under new numbers
    assert [each.version for each in again] == ["v1.0.2", "v1.0.3"]
    assert again[1].dependencies == (again[0].model_id,)
    assert not list((tmp_path / "other").glob(".tmp-*"))
    with pytest.raises(ConfigError, match="a new name"):
        exchange.export_model(Registry(outputs), SECOND, bundle)


def test_what_a_dead_import_left_goes_after_a_day(outputs, tmp_path):
    bundle = exchange.export_model(Registry(outputs), FIRST, tmp_path / "bundle")
    dead, alive = (tmp_path / "other" / f".tmp-import-{k}" for k in range(2))
    for path in (dead, alive):
        (path / "artifacts").mkdir(parents=True)
    os.utime(dead, (0, 0))
    exchange.import_models(Registry(tmp_path / "other"), bundle)
    assert alive.is_dir() and not dead.exists()


def test_ancestors_come_first_whatever_their_shape(outputs, tmp_path):
    registry = Registry(outputs)
    third = registry.register(publish(outputs), dependencies=[FIRST, SECOND])
    bundle = exchange.export_model(registry, third.model_id, tmp_path / "bundle")
    other = Registry(tmp_path / "other")
    exchange.import_models(other, bundle)
    again = {each.version: each for each in exchange.import_models(other, bundle)}
    ids = ["lstm_TESTUSDT-1m-signal_v1.0.3", "lstm_TESTUSDT-1m-signal_v1.0.4"]
    assert list(again["v1.0.5"].dependencies) == ids
    assert again["v1.0.4"].dependencies == (ids[0],)


def test_a_bundle_without_its_ancestors_is_refused(outputs, tmp_path):
    bundle = exchange.export_model(Registry(outputs), SECOND, tmp_path / "bundle")
    path = bundle / "bundle.json"
    content = json.loads(path.read_text())
    del content["models"][0]
    path.write_text(json.dumps(content))
    shutil.rmtree(bundle / "artifacts" / "0")
    (bundle / "artifacts" / "1").rename(bundle / "artifacts" / "0")
    other = Registry(tmp_path / "other")
    with pytest.raises(MissingInputError, match=FIRST):
        exchange.import_models(other, bundle)
    assert other.list() == [] and not (tmp_path / "other" / "models").exists()


def forge_grade(bundle):
    path = bundle / "bundle.json"
    content = json.loads(path.read_text())
    content["models"][0] |= {"performance_grade": "S", "skill": 0.9}
    path.write_text(json.dumps(content))


def change_place(place):
    def change(bundle):
        path = bundle / "bundle.json"
        content = json.loads(path.read_text())
        content["models"][0]["artifact"] = place
        path.write_text(json.dumps(content))

    return change


def change_file(bundle):
    next(bundle.glob("artifacts/1/model_*")).write_text("other")


def change_manifest(bundle):
    path = bundle / "artifacts" / "0" / "MANIFEST.json"
    path.write_text(path.read_text() + " ")


@pytest.mark.parametrize(
    "change, said",
    [
        (change_file, "bytes"),
        (change_manifest, "manifest"),
        (change_place("../x"), "artifact"),
        (change_place("registry/a/b/c"), "a place like models/PAIR/family/run"),
        (lambda bundle: (bundle / "bundle.json").unlink(), "bundle.json"),
        (lambda bundle: (bundle / "bundle.json").write_text("[]"), "in format 1"),
    ],
)
def test_a_changed_bundle_leaves_nothing(outputs, tmp_path, change, said):
    bundle = exchange.export_model(Registry(outputs), SECOND, tmp_path / "bundle")
    change(bundle)
    other = Registry(tmp_path / "other")
    with pytest.raises(RefusedArtifactError, match=said):
        exchange.import_models(other, bundle)
    assert other.list() == [] and not list((tmp_path / "other").iterdir())


def test_a_grade_is_not_taken_from_a_bundle(outputs, tmp_path):
    bundle = exchange.export_model(Registry(outputs), FIRST, tmp_path / "bundle")
    forge_grade(bundle)
    [entry] = exchange.import_models(Registry(tmp_path / "other"), bundle)
    assert entry.performance_grade == "B-" and entry.skill == 0.1


def test_another_artifact_in_the_place_is_refused(outputs, tmp_path):
    bundle = exchange.export_model(Registry(outputs), FIRST, tmp_path / "bundle")
    place = tmp_path / "other" / Registry(outputs).get(FIRST).artifact
    place.mkdir(parents=True)
    with pytest.raises(ConfigError, match="another artifact"):
        exchange.import_models(Registry(tmp_path / "other"), bundle)


def test_a_tar_with_a_link_is_refused(tmp_path):
    path = tmp_path / "evil.tar"
    with tarfile.open(path, "w") as tar:
        link = tarfile.TarInfo("bundle.json")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    with pytest.raises(RefusedArtifactError, match="plain files"):
        exchange.import_models(Registry(tmp_path / "other"), path)
    path.write_bytes(b"no tar")
    with pytest.raises(RefusedArtifactError, match=r"a folder or a \.tar"):
        exchange.import_models(Registry(tmp_path / "other"), path)


@pytest.mark.parametrize("kind", ["link", "linked folder", "pipe"])
def test_a_bundle_with_more_than_plain_files_is_refused(outputs, tmp_path, kind):
    bundle = exchange.export_model(Registry(outputs), FIRST, tmp_path / "bundle")
    if kind == "pipe":
        os.mkfifo(bundle / "artifacts" / "0" / "pipe")
    elif kind == "link":
        (bundle / "artifacts" / "0" / "link").symlink_to("/etc/passwd")
    else:  # whole, but it would change with the other place
        (bundle / "artifacts" / "0").rename(tmp_path / "elsewhere")
        (bundle / "artifacts" / "0").symlink_to(tmp_path / "elsewhere")
    other = Registry(tmp_path / "other")
    with pytest.raises(RefusedArtifactError, match="plain files"):
        exchange.import_models(other, bundle)
    assert other.list() == [] and not (tmp_path / "other" / "models").exists()


@pytest.mark.parametrize("name", ["../bundle.json", "/bundle.json", "a/../../b"])
def test_a_tar_of_other_places_is_refused(tmp_path, name):
    path = tmp_path / "evil.tar"
    with tarfile.open(path, "w") as tar:
        member = tarfile.TarInfo(name)
        member.size = 2
        tar.addfile(member, io.BytesIO(b"{}"))
    with pytest.raises(RefusedArtifactError, match="plain files"):
        exchange.import_models(Registry(tmp_path / "other"), path)
    assert {each.name for each in tmp_path.rglob("*")} == {"evil.tar", "other"}


def test_the_names_of_system_001(outputs):
    registry = ModelRegistry(outputs)
    assert registry.get_model(FIRST).model_id == FIRST
    assert [e.model_id for e in registry.list_models("lstm", "B-", 1)] == [SECOND]
    assert registry.list_models(performance_grade="A") == []
    assert [e.model_id for e in registry.get_model_dependencies(SECOND)] == [FIRST]
    assert registry.validate_model_integrity(SECOND) is True
    assert registry.get_best_model("lstm", "log_loss").model_id == SECOND
    assert registry.export_model_info(FIRST)["training_config"]["model"] == "lstm"
    registry.archive_model(SECOND)
    registry.delete_model(SECOND)
    with pytest.raises(MissingInputError):
        registry.get_model(SECOND)
