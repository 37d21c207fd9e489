"""Trees of a fit that was killed: the rounds so far are kept, and lead to its end."""

import numpy as np
import pytest
from world.frames import TINY, make_own_frame

from artifacts.array_files import read_checkpoint, write_checkpoint
from config import Config
from models import kept_rounds
from models.families import create_adapter
from models.kept_rounds import ROUNDS, KeptRounds
from models.window_tables import Table
from reports import report
from settings.tree_fields import OPTIONAL_MODELS
from trainer import StandaloneTrainer
from utils import one_thread

FAMILIES = ("random_forest", "gradient_boosting", "classic_gradient_boosting")
FAMILIES += OPTIONAL_MODELS


class Killed(BaseException):
    pass


def table(target, seed=0):
    rng = np.random.default_rng(seed)
    inputs = rng.standard_normal((300, 6)).astype(np.float32)
    noisy = inputs[:, 0] + inputs[:, 1] * inputs[:, 2] + rng.standard_normal(300)
    if target == "return":
        return Table(inputs=inputs, targets=noisy)
    targets = np.digitize(noisy, [-1, 1])
    return Table(inputs=inputs, targets=targets, weights=rng.random(300))


def adapter_of(family, target="signal"):
    if family in OPTIONAL_MODELS:
        pytest.importorskip(family)
    fields = {"num_trees": 9, "max_inputs_share": 0.3, "checkpoint_minutes": 0.0}
    return create_adapter(Config(model=family, target=target, **fields))


def fitted(adapter, rows, folder=None):
    """Returns the file of a fit, with the rounds of a folder."""
    adapter.mix = adapter.choose("a mix", None)
    if folder is not None:
        adapter.kept = KeptRounds(folder, owner="this run", most=9)
    with one_thread():
        model = adapter.fit_model(adapter.create_model(len(rows.targets)), rows)
        return adapter.dump_model(model)


def die():
    raise Killed


def die_after(monkeypatch, count):
    write = kept_rounds.write_checkpoint

    def dying(path, content):
        write(path, content)
        if content["rounds_done"] >= count:
            die()

    monkeypatch.setattr(kept_rounds, "write_checkpoint", dying)


def killed(family, rows, folder, target="signal", after=7):
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        die_after(patch, after)
        fitted(adapter_of(family, target), rows, folder)
    return folder / ROUNDS


@pytest.mark.parametrize("target", ["signal", "return"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_killed_fit_goes_on_and_ends_with_the_same_bytes(
    family, target, tmp_path, monkeypatch
):
    rows = table(target)
    path = killed(family, rows, tmp_path, target)
    adapter, written = adapter_of(family, target), []
    write = kept_rounds.write_checkpoint

    def note(path, content):
        written.append(int(content["rounds_done"]))
        write(path, content)

    monkeypatch.setattr(kept_rounds, "write_checkpoint", note)
    found = fitted(adapter, rows, tmp_path)
    assert adapter.kept.done == 7 and written[0] == 8
    assert found == fitted(adapter_of(family, target), rows)
    assert all(x.dtype.kind in "iufU" for x in read_checkpoint(path).values())


def test_rounds_of_another_run_are_refused(tmp_path, caplog):
    path = tmp_path / ROUNDS
    content = {"owner": np.asarray("another run"), "rounds_done": np.asarray(3)}
    write_checkpoint(path, content)
    assert not KeptRounds(tmp_path, owner="this run", most=9).done
    assert caplog.messages == [
        f"{path}: expected the rounds of this fit. Received: expected those of this "
        "run. The fit begins anew."
    ]
    path.write_bytes(path.read_bytes()[:-1])
    assert not KeptRounds(tmp_path, owner="another run", most=9).done
    assert "digest does not match. The fit begins anew." in caplog.text


def changed(content, name, place, value):
    column = content[name].copy()
    column[place] = value
    return content | {name: column}


def poisons(content):
    """Yields what reads beyond a tree, runs in circles, or is none."""
    is_text = "left_child" in content
    left = next(
        x for x in content if x.endswith("left_child") or x in ("node_left", "left")
    )
    sizes = "sizes" if "sizes" in content else "root"
    feature = next(x for x in content if "feature" in x)
    last = len(content[left]) - 1
    inner = (
        np.flatnonzero(content["node_is_leaf"] == 0)
        if left == "node_left"
        else (np.arange(last + 1) if is_text else np.flatnonzero(content[left] >= 0))
    )
    place = inner[-1]
    for value in (2**30, 0):
        yield changed(content, left, place, value)
    for value in (6, 2**30, -1):
        yield changed(content, feature, place, value)
    wide = content[feature].astype(np.int64)
    wide[place] += 2**32
    yield content | {feature: wide}
    yield changed(content, sizes, 0, content[sizes][0] + 1)
    yield changed(content, sizes, -1, -5)
    yield content | {left: content[left][:-1]}
    yield {k: v for k, v in content.items() if k != left}
    yield content | {"rounds_done": np.asarray(10**6)}
    yield content | {left: content[left].astype(np.float64) + 1e300}
    if str(content.get("generator", "null")) != "null":
        yield content | {"generator": np.asarray('{"bit_generator": "MT19937"}')}
        text = str(content["generator"]).replace('"pos": ', '"pos": 9')
        if text != str(content["generator"]):
            yield content | {"generator": np.asarray(text)}


@pytest.mark.parametrize("family", FAMILIES)
def test_rounds_of_other_rows_and_poisoned_ones_are_refused(family, tmp_path, caplog):
    rows, places = table("signal"), [tmp_path / name for name in ("own", "other")]
    own = read_checkpoint(killed(family, rows, places[0], after=3))
    other = read_checkpoint(killed(family, table("signal", seed=1), places[1], after=3))
    adapter, give = adapter_of(family), []
    # The first round is fitted; then each file is offered to it.
    monkeypatch = pytest.MonkeyPatch()
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(
            KeptRounds, "restore", lambda _, found: give.append(found) or die()
        )
        fitted(adapter, rows, places[0])
    [load] = give
    for number, content in enumerate([other, *poisons(own)]):
        write_checkpoint(tmp_path / ROUNDS, content)
        caplog.clear()
        assert not KeptRounds(tmp_path, owner="this run", most=9).restore(load), number
        assert "expected the rounds of this fit. Received: " in caplog.text
    write_checkpoint(tmp_path / ROUNDS, other)
    assert fitted(adapter_of(family), rows, tmp_path) == fitted(
        adapter_of(family), rows
    )
    write_checkpoint(tmp_path / ROUNDS, own)
    assert KeptRounds(tmp_path, owner="this run", most=9).restore(load)


def test_a_resumed_run_goes_on_from_its_rounds(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "write_report", lambda *_, **__: None)
    frame = make_own_frame(900, seed=3)
    config = Config(
        **TINY
        | {"model": "gradient_boosting", "num_trees": 12, "checkpoint_minutes": 0.0}
        | {"baseline_model": False, "importance_windows": None},
        outputs_dir=str(tmp_path),
    )
    with monkeypatch.context() as patch, pytest.raises(Killed):
        die_after(patch, 7)
        dead = StandaloneTrainer(config, frame=frame)
        dead.run_training()
    dead.run.unlock()
    again = StandaloneTrainer(config, frame=frame, resume="newest")
    again.run_training()
    assert again.run.run_id == dead.run.run_id
    [resumed] = again._metadata["training"]["resumes"]
    assert resumed == {"after_epochs": 7, "differences": [], "is_exact": True}
    assert not list(again.artifact_dir.rglob(ROUNDS))
    alone = StandaloneTrainer(config, frame=frame)
    alone.run_training()
    digests = [r._metadata["model"]["weights_sha256"] for r in (again, alone)]
    assert digests[0] == digests[1] and again.history == alone.history


def test_rounds_are_written_when_it_is_time(tmp_path, monkeypatch):
    minutes = iter([0.0, 4.9, 5.0, 5.1, 10.0, 10.1])
    monkeypatch.setattr(kept_rounds, "monotonic", lambda: 60 * next(minutes))
    kept, seen = KeptRounds(tmp_path, minutes=5.0), []
    for done in (1, 2, 3):
        kept.offer(done, lambda done=done: seen.append(done) or {})
    assert seen == [2]
