"""The registry: versions, aliases, lineage, choosing; and who may not."""

import dataclasses
import json
import os
import re

import pytest
from world.artifacts import BEST, publish

from artifacts import evaluations, manifest
from artifacts.entry_store import EntryStore, walk
from artifacts.model_registry import register_run
from artifacts.registry import Registry, open_model
from config import Config
from files.locks import FileLock
from files.strict import write_json
from utils import ConfigError, MissingInputError, RefusedArtifactError

GROUP = "lstm/TESTUSDT-1m-signal"


@pytest.fixture
def outputs(tmp_path):
    return tmp_path / "outputs"


@pytest.fixture
def registry(outputs):
    return Registry(outputs)


def register(registry, name="a", skill=0.1, **options):
    fields = options.pop("fields", {})
    folder = publish(registry.outputs, skill=skill, **fields)
    return registry.register(folder, tags=[name], **options)


def test_an_entry_says_where_what_and_how_good(registry, outputs):
    folder = publish(outputs, experiment_name="spring", tags=("own",))
    entry = registry.register(folder, tags=["given", "own"], notes="a line")
    assert entry.model_id == "lstm_TESTUSDT-1m-signal_v1.0.0"
    assert entry.display_name == f"{entry.model_id}_grade_B-_skill_+0.10"
    place = outputs / "registry" / GROUP / "v1.0.0" / "entry.json"
    kept = json.loads(place.read_text())
    assert kept["artifact"] == folder.relative_to(outputs).as_posix()
    assert re.fullmatch("[0-9a-f]{64}", kept["manifest_sha256"])
    assert kept["tags"] == ["own", "given"] and kept["experiment_name"] == "spring"
    assert kept["training_config"]["pair"] == "TESTUSDT"
    assert kept["file_paths"]["model"].startswith("model_")
    assert registry.get(entry.model_id) == registry.get(f"{GROUP}@v1.0.0")
    assert registry.open(entry.model_id).path == folder.resolve()


@pytest.mark.parametrize(
    "changes, version",
    [
        ({"features": ["a", "c"]}, "v2.0.0"),
        ({"features": ["b", "a"]}, "v2.0.0"),
        ({"sequence_length": 30}, "v2.0.0"),
        ({"sha256": "cd" * 32}, "v1.1.0"),
        ({"learning_rate": 0.01}, "v1.1.0"),
        ({"seed": 7}, "v1.0.1"),
        ({"calibration_method": "isotonic"}, "v1.0.1"),
        ({"report": "light", "importance_windows": None}, "v1.0.1"),
        ({"checkpoint_minutes": 1.0, "tags": ("a",)}, "v1.0.1"),
        ({"epochs": 3}, "v1.1.0"),
        ({}, "v1.0.1"),
    ],
)
def test_a_version_says_what_changed(registry, changes, version):
    assert register(registry).version == "v1.0.0"
    assert register(registry, fields=changes).version == version


def test_a_deleted_version_is_never_used_again(registry):
    first, second = register(registry), register(registry)
    registry.delete(second.model_id)
    assert register(registry).version == "v1.0.2"
    registry.delete(first.model_id)
    with pytest.raises(MissingInputError, match=r"Near: lstm_TESTUSDT-1m-signal_v1"):
        registry.get(first.model_id)
    for entry in registry.list():
        registry.delete(entry.model_id)
    assert registry.list() == [] and register(registry).version == "v2.0.0"


def test_an_artifact_that_changed_is_not_opened(registry, outputs):
    entry = register(registry)
    folder = outputs / entry.artifact
    manifest = folder / "MANIFEST.json"
    manifest.write_text(manifest.read_text().replace('"format": 1', '"format":  1'))
    with pytest.raises(RefusedArtifactError, match="changed since") as caught:
        registry.open(entry.model_id)
    assert caught.value.exit_code == 76
    [problem] = registry.validate(entry.model_id)
    assert entry.model_id in problem


def test_an_artifact_of_another_place_is_refused(registry, tmp_path):
    folder = publish(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="import it"):
        registry.register(folder)


def test_lineage_is_known_both_ways_and_kept(registry):
    parent = register(registry, "parent")
    child = register(registry, "child", dependencies=[parent.model_id])
    last = register(registry, "last", dependencies=[child.model_id])
    ids = [each.model_id for each in registry.dependencies(last.model_id)]
    assert ids == [child.model_id, parent.model_id]
    ids = [each.model_id for each in registry.dependants(parent.model_id)]
    assert ids == [child.model_id, last.model_id]
    with pytest.raises(ConfigError, match=re.escape(child.model_id)):
        registry.delete(parent.model_id)
    with pytest.raises(MissingInputError):
        register(registry, dependencies=["lstm_TESTUSDT-1m-signal_v9.0.0"])
    with pytest.raises(ConfigError, match="ids of active models"):
        register(registry, dependencies=[f"{GROUP}@v1.0.0"])
    registry.change(parent.model_id, dependencies=(last.model_id,))
    with pytest.raises(ConfigError, match="made from itself"):
        registry.dependencies(last.model_id)


def test_a_run_that_names_its_parents_keeps_them(registry, outputs):
    first, second = register(registry), register(registry)
    folder = publish(outputs, dependencies=[first.model_id])
    child = registry.register(folder, dependencies=[second.model_id, first.model_id])
    assert child.dependencies == (first.model_id, second.model_id)
    for stated, error in (
        (["lstm_TESTUSDT-1m-signal_v9.0.0"], MissingInputError),
        ("lstm", RefusedArtifactError),
    ):
        with pytest.raises(error):
            registry.register(publish(outputs, dependencies=stated))


def test_a_parent_whose_files_changed_is_told_of_the_child(registry, outputs):
    parent = register(registry)
    child = register(registry, dependencies=[parent.model_id])
    assert registry.validate(child.model_id) == []
    next((outputs / parent.artifact).glob("model_*")).write_text("other")
    [problem] = registry.validate(child.model_id)
    assert problem.startswith(parent.model_id)


def test_an_alias_moves_and_goes_back(registry):
    names = [register(registry).model_id for _ in range(3)]
    for name in names:
        registry.set_alias(name)
    alias = f"{GROUP}@champion"
    assert registry.get(alias).model_id == names[2]
    with pytest.raises(ConfigError, match="alias champion"):
        registry.archive(names[2])
    registry.archive(names[1])
    with pytest.raises(ConfigError, match="archived"):
        registry.set_alias(names[1], "challenger")
    assert registry.rollback(GROUP).model_id == names[0]
    with pytest.raises(ConfigError, match="earlier active model"):
        registry.rollback(GROUP)
    assert registry.get(alias).model_id == names[0]
    assert registry.restore(names[1]).status == "active"


@pytest.mark.parametrize(
    "name",
    [
        "../../x@champion",
        f"{GROUP}@../v1.0.0/entry",
        f"{GROUP}@none",
        "../x_v1.0.0",
        "lstm_TESTUSDT-1m-signal_v1.0",
        "lstm_TESTUSDT-1m-signal_v1.0.0_grade_B-_skill_+0.10",
        "",
    ],
)
def test_a_name_that_is_none_is_told(registry, name):
    register(registry)
    with pytest.raises(MissingInputError, match="It has 1 model"):
        registry.get(name)


def test_lists_filter_and_sort(registry):
    low = register(registry, "low", skill=0.02)
    high = register(registry, "high", skill=0.3)
    other = register(registry, "other", fields={"pair": "ETHUSDT", "timeframe": "1h"})
    names = {low.model_id: "low", high.model_id: "high", other.model_id: "other"}

    def found(**options):
        return [names[each.model_id] for each in registry.list(**options)]

    assert found() == ["other", "high", "low"]
    assert found(sort="skill") == ["high", "other", "low"]
    assert found(sort="log_loss") == ["high", "other", "low"]
    assert found(sort="grade", limit=2) == ["other", "high"]
    assert found(least_grade="C") == ["other", "high"]  # low: its interval has 0
    assert found(pair="ETHUSDT", timeframe="1h") == ["other"]
    assert found(target="1h") == found(timeframe="signal") == []
    with pytest.raises(ConfigError, match="limit: expected at least 1"):
        found(limit=0)
    assert found(tags=["low"]) == ["low"] and found(family="gru") == []
    assert registry.best("log_loss").model_id == high.model_id
    assert registry.best("accuracy", pair="ETHUSDT").model_id == other.model_id
    with pytest.raises(ConfigError, match="Did you mean 'log_loss'"):
        registry.best("logloss")
    registry.archive(low.model_id)
    assert found(status="archived") == ["low"]
    fields = {"pair": Config.pair, "pooled_pairs": ("ETHUSDT", "ADAUSDT")}
    pool = register(registry, fields=fields)
    names[pool.model_id] = "pool"
    assert found(pair="ETHUSDT") == ["pool", "other"]
    assert found(pair="ADAUSDT") == ["pool"]


@pytest.mark.parametrize("content", ["", "{", '{"entries": 3}', "[" * 9999, "\xff"])
def test_an_unreadable_index_loses_nothing(registry, outputs, content):
    entry = register(registry)
    registry.list()
    (outputs / "registry" / "index.json").write_text(content, encoding="latin-1")
    assert [each.model_id for each in registry.list()] == [entry.model_id]


@pytest.mark.parametrize("known", [5, [], [1, 2, 3], "x", {"grade": "S"}])
def test_what_the_index_says_of_an_entry_is_checked(registry, outputs, known):
    entry = register(registry)
    told = [each.to_dict() for each in registry.list()]
    path = outputs / "registry" / "index.json"
    content = json.loads(path.read_text())
    [(place, (stamp, _))] = content["entries"].items()
    for other in (known, [stamp, known]):
        path.write_text(json.dumps({"entries": {place: other}}))
        assert [each.to_dict() for each in registry.list()] == told
    assert told[0]["model_id"] == entry.model_id


@pytest.mark.parametrize(
    "field, value",
    [
        ("artifact", "/etc"),
        ("artifact", "models/../../x"),
        ("group", "gru/TESTUSDT-1m-signal"),
        ("version", "v1.0.1"),
        ("version", "1"),
        ("version", "v01.0.0"),
        ("version", "v1.0.\u0660"),
        ("metrics", {"log_loss": "high"}),
        ("metrics", {"log_loss": 10**400}),
        ("metrics", [1.0]),
        ("training_duration", "long"),
        ("model_size_mb", None),
        ("file_paths", {"model": 5}),
        ("hardware_info", ["cpu"]),
        ("git_commit", 5),
        ("notes", None),
        ("created_at", 5),
        ("checksum", "ab"),
        ("performance_grade", "A++"),
        ("manifest_sha256", "ab"),
        ("dependencies", "lstm"),
        ("tags", ["a b"]),
        ("format", 2),
        ("skill", "high"),
    ],
)
def test_an_entry_of_another_kind_is_refused(registry, outputs, field, value):
    entry = register(registry)
    path = outputs / "registry" / GROUP / "v1.0.0" / "entry.json"
    path.write_text(json.dumps(entry.to_dict() | {field: value}))
    for read in (registry.entries, lambda: registry.get(entry.model_id)):
        with pytest.raises(RefusedArtifactError):
            read()


def test_an_entry_that_was_changed_by_hand_is_refused(registry, outputs, caplog):
    entry = register(registry)
    registry.change(entry.model_id, notes="its owner's")
    path = outputs / "registry" / GROUP / "v1.0.0" / "entry.json"
    text = path.read_text()
    path.write_text(
        text.replace('"performance_grade": "B-"', '"performance_grade": "S"')
    )
    with pytest.raises(RefusedArtifactError, match="changed by hand"):
        registry.get(entry.model_id)
    assert registry.list() == [] and "changed by hand" in caplog.text
    path.write_text(text)
    assert registry.get(entry.model_id).notes == "its owner's"


@pytest.mark.parametrize("kind", ["pipe", "link", "folder", "deep", "large"])
def test_an_entry_that_is_no_plain_file_is_refused(registry, outputs, kind):
    register(registry), register(registry)
    path = outputs / "registry" / GROUP / "v1.0.0" / "entry.json"
    content = path.read_text()
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "link":
        (outputs / "elsewhere.json").write_text(content)
        path.symlink_to(outputs / "elsewhere.json")
    elif kind == "folder":
        path.mkdir()
    elif kind == "deep":
        path.write_text("[" * 50_000)
    else:
        path.write_text(content + " " * 2**24)
    assert [each.version for each in registry.list()] == ["v1.0.1"]
    with pytest.raises(RefusedArtifactError):
        registry.entries()
    [problem] = registry.validate_all()
    assert "v1.0.0" in problem


@pytest.mark.parametrize("content", ["", "{}", '{"versions": 5}', "[]"])
def test_unreadable_deleted_versions_are_not_forgotten(registry, outputs, content):
    registry.delete(register(registry).model_id)
    (outputs / "registry" / GROUP / "deleted.json").write_text(content)
    with pytest.raises(RefusedArtifactError, match=r"deleted\.json"):
        register(registry)


def test_an_entry_that_goes_while_it_is_read_is_none(registry, outputs, monkeypatch):
    gone, kept = register(registry), register(registry)
    (outputs / "registry" / "index.json").unlink(missing_ok=True)
    read = EntryStore._read

    def read_late(self, folder):
        if folder.name == gone.version:
            raise MissingInputError("no such model any more")
        return read(self, folder)

    monkeypatch.setattr(EntryStore, "_read", read_late)
    assert [each.model_id for each in registry.entries()] == [kept.model_id]


def test_nobody_moves_an_alias_while_a_model_goes(registry, outputs, monkeypatch):
    entry = register(registry)
    lock = FileLock(outputs / "registry" / GROUP / ".lock")
    taken = []

    def look(*_):
        taken.append(not lock.acquire())
        return []

    monkeypatch.setattr(registry, "aliases_of", look)
    registry.archive(entry.model_id)
    registry.delete(entry.model_id)
    assert taken == [True, True]


def test_an_id_that_two_models_have_is_told(registry, outputs):
    entry = register(registry)
    content = entry.to_dict() | {"group": "lstm_TESTUSDT/x-1m-signal"}
    for group in ("lstm_TESTUSDT/x-1m-signal", "lstm/TESTUSDT_x-1m-signal"):
        folder = outputs / "registry" / group / "v1.0.0"
        folder.mkdir(parents=True)
        write_json(folder / "entry.json", content | {"group": group})
    with pytest.raises(ConfigError, match="which may be lstm/TESTUSDT_x-1m-signal@v1"):
        registry.get("lstm_TESTUSDT_x-1m-signal_v1.0.0")
    assert registry.get("lstm/TESTUSDT_x-1m-signal@v1.0.0").version == "v1.0.0"


def test_a_long_or_a_wide_lineage_is_walked(registry):
    entry = register(registry)
    summaries = {
        f"lstm_TESTUSDT-1m-signal_v1.0.{k}": dataclasses.replace(
            entry,
            version=f"v1.0.{k}",
            dependencies=tuple(
                f"lstm_TESTUSDT-1m-signal_v1.0.{each}"
                for each in range(max(k - 2, 0), k)
            ),
        )
        for k in range(2500)
    }
    newest = summaries["lstm_TESTUSDT-1m-signal_v1.0.2499"]
    found = walk(newest, lambda each: [summaries[name] for name in each.dependencies])
    assert len(found) == 2499


def test_an_alias_is_taken_away(registry):
    first, second = register(registry, alias="own"), register(registry)
    with pytest.raises(MissingInputError, match="one of its aliases, none"):
        registry.remove_alias(second.model_id, "own")
    for alias in ("other", "../own"):
        with pytest.raises(MissingInputError, match="Received: 'lstm"):
            registry.remove_alias(first.model_id, alias)
    registry.remove_alias(first.model_id, "own")
    assert registry.aliases_of(first) == []
    registry.delete(first.model_id)


def test_everything_that_is_wrong_is_told_at_once(registry, outputs):
    parent, child, whole = (register(registry) for _ in range(3))
    registry.change(child.model_id, dependencies=("lstm_TESTUSDT-1m-signal_v7.0.0",))
    registry.set_alias(whole.model_id, "own")
    next((outputs / parent.artifact).glob("model_*")).write_text("other")
    aliases = outputs / "registry" / GROUP / "aliases"
    (aliases / "lost.json").write_text('{"version": "v9.0.0", "previous": []}')
    told = [line.split(": ")[0] for line in registry.validate_all()]
    assert told == [parent.model_id, child.model_id, f"{GROUP}@lost"]


def test_a_broken_entry_hides_no_other(registry, outputs, caplog):
    broken, whole = register(registry), register(registry)
    place = outputs / "registry" / GROUP / "v1.0.0" / "entry.json"
    place.write_text("{")
    assert [each.model_id for each in registry.list()] == [whole.model_id]
    assert "not counted: " in caplog.text and "v1.0.0" in caplog.text
    with pytest.raises(RefusedArtifactError):  # it may be made from the other
        registry.delete(whole.model_id)
    assert broken.model_id != whole.model_id


@pytest.mark.parametrize(
    "change",
    [
        lambda about: about.pop("data"),
        lambda about: about["files"].update(model="nothing"),
        lambda about: about.update(training=[]),
    ],
)
def test_an_artifact_that_is_no_runs_is_refused(registry, outputs, change):
    folder = publish(outputs)
    path = next(folder.glob("metadata_*"))
    about = json.loads(path.read_text())
    change(about)
    path.write_text(json.dumps(about))
    manifest.write_manifest(folder, "MANIFEST.json", is_internal=lambda _: False)
    with pytest.raises(RefusedArtifactError, match="what a run leaves"):
        registry.register(folder)
    assert registry.list() == []


def test_an_artifact_of_before_is_registered(registry, outputs):
    folder = publish(outputs)
    path = next(folder.glob("metadata_*"))
    about = json.loads(path.read_text())
    del about["lineage"]
    about["config"] |= {"a_field_that_is_no_more": 1}
    del about["config"]["tags"]
    path.write_text(json.dumps(about))
    (folder / "config.yaml").write_text("a_field_that_is_no_more: 1\n")
    manifest.write_manifest(folder, "MANIFEST.json", is_internal=lambda _: False)
    entry = registry.register(folder)
    assert entry.model_id == "lstm_TESTUSDT-1m-signal_v1.0.0"
    assert (entry.dependencies, entry.trained_at, entry.git_commit) == ((), None, None)


def test_what_dead_writers_left_is_swept(registry, outputs):
    entry = register(registry, alias="champion")
    group = outputs / "registry" / GROUP
    left = [group / ".tmp-1", group / "aliases" / ".tmp-2", group / "v1.0.0" / ".tmp-3"]
    for path in left:
        path.write_text("{")
    registry.archive(register(registry).model_id)
    assert not any(path.exists() for path in left)
    assert registry.get(f"{GROUP}@champion").model_id == entry.model_id


def test_an_alias_that_is_being_written_is_none(registry, outputs):
    entry = register(registry, alias="champion")
    (outputs / "registry" / GROUP / "aliases" / ".tmp-1-own.json").write_text("{")
    assert registry.aliases_of(entry) == ["champion"]


@pytest.mark.parametrize("place", ["models", "models/TESTUSDT/other", "."])
def test_only_what_was_registered_is_removed(registry, outputs, place):
    entry = register(registry)
    kept = outputs / entry.artifact
    other = publish(outputs, skill=0.3)
    if place.endswith("other"):
        (outputs / place).symlink_to(other.parent.parent)
    registry.change(entry.model_id, artifact=place)
    with pytest.raises((MissingInputError, RefusedArtifactError)):
        registry.delete(entry.model_id, with_artifact=True)
    assert kept.is_dir() and other.is_dir() and len(registry.list()) == 1
    registry.change(entry.model_id, artifact=entry.artifact)
    registry.delete(entry.model_id, with_artifact=True)
    assert not kept.exists() and [p.name for p in kept.parent.glob(".*")] == []
    again = registry.register(other)
    (other.parent / "elsewhere").mkdir()
    other.rename(other.parent / "elsewhere" / "x")  # gone already is no obstacle
    assert registry.delete(again.model_id, with_artifact=True) == again


@pytest.mark.parametrize("sha256, grade", [(None, "S"), ("0" * 64, "A+")])
def test_later_days_lift_a_grade_of_the_same_files(registry, outputs, sha256, grade):
    entry = register(registry, fields={"results": BEST})
    named = {name: {} for name in evaluations.Evaluation.__annotations__}
    content = named | {
        "format": 1,
        "created_at": "2026-01-01",
        "days": 40.0,
        "is_confirmed": True,
        "lineage": {"manifest_sha256": sha256 or entry.manifest_sha256},
    }
    evaluations.publish(
        evaluations.folder_of(outputs, entry.run_id),
        lambda folder: write_json(folder / evaluations.ABOUT, content),
    )
    assert registry.regrade(entry.model_id).performance_grade == grade


def test_a_run_that_was_registered_keeps_its_version(registry, outputs):
    folder, config = publish(outputs), Config(outputs_dir=str(outputs))
    first = register_run(config, folder, alias=None)
    assert register_run(config, folder, alias="own").version == "v1.0.0"
    assert registry.aliases_of(first) == ["own"] and len(registry.list()) == 1
    assert register_run(config, publish(outputs), alias=None).version == "v1.0.1"


def test_a_model_is_opened_by_folder_or_by_name(registry, outputs, monkeypatch):
    entry = register(registry, alias="champion")
    folder = (outputs / entry.artifact).resolve()
    assert open_model(folder).path == folder
    assert open_model(f"{outputs}/{GROUP}@champion").path == folder
    assert open_model(f"{outputs}/{entry.model_id}").path == folder
    monkeypatch.chdir(outputs.parent)
    assert open_model(f"{GROUP}@v1.0.0").path == folder
    assert open_model(entry.model_id).path == folder
    with pytest.raises(MissingInputError, match="It has 1 model"):
        open_model(f"{GROUP}@other")
    with pytest.raises(MissingInputError, match=f"Near: {entry.model_id}"):
        open_model("lstm_TESTUSDT-1m-signal")
