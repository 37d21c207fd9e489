import pytest

from evaluation.trials import FIRST_LOOK, count_trials, planned_trials
from files.strict import write_json
from tests.world.classes import SMALL, load, market


@pytest.fixture(scope="module")
def data():
    return load(market())


@pytest.fixture
def config(tmp_path):
    return SMALL.replace(outputs_dir=str(tmp_path))


def publish(config, data, run_id="run", **differences):
    """Writes what a published run of another configuration says about its test."""
    rows, values = data.parts["test"].targets, config.to_dict()
    test = {
        end: differences.pop(end, f"{data.timeline.at(rows[k])}Z")
        for end, k in (("first", 0), ("last", -1))
    }
    sha256 = differences.pop("sha256", data.source.get("sha256"))
    folder = config.model_dir / run_id
    folder.mkdir(parents=True)
    content = {"config": values | differences, "data": {"sha256": sha256}}
    write_json(folder / "metadata_X.json", content | {"split": {"test": test}})
    return folder


def test_the_first_look_is_one(data, config):
    assert count_trials(data, config) == FIRST_LOOK


@pytest.mark.parametrize(
    ("differences", "count"),
    [
        ({"epochs": 7}, 1),
        ({"seed": 5}, 1),
        ({"sha256": "0" * 64}, 1),
        ({}, 0),  # the same run again
        ({"outputs_dir": "elsewhere"}, 0),
        ({"epochs": 7, "timeframe": "5m"}, 0),
        ({"epochs": 7, "first": "2999-01-01", "last": "2999-02-01"}, 0),
        ({"epochs": 7, "first": "1999-01-01", "last": "1999-02-01"}, 0),
        ({"epochs": 7, "first": "1999-01-01"}, 1),
    ],
)
def test_another_run_counts_where_its_test_rows_overlap(
    data, config, differences, count
):
    publish(config, data, **differences)
    assert count_trials(data, config)["num_earlier"] == count


def test_runs_of_other_families_count_and_repetitions_do_not(data, config):
    other = config.replace(model="logistic")
    for number in range(3):
        folder = publish(other, data, f"run{number}")
    (folder.parent / "latest-1h").symlink_to(folder.name)
    publish(other.replace(pair="OTHERUSDT"), data)
    assert count_trials(data, config) == FIRST_LOOK | {
        "num_trials": 2,
        "num_earlier": 1,
    }


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"config": {"timeframe": 1}}'])
def test_a_folder_that_cannot_be_read_is_said(data, config, content):
    folder = publish(config, data, epochs=7)
    (folder / "metadata_X.json").write_text(content)
    assert count_trials(data, config) == FIRST_LOOK | {"num_unreadable": 1}


def test_cells_of_a_comparison_count_from_the_first_to_the_last(data, config):
    cells = [config.replace(seed=seed) for seed in range(4)]
    with planned_trials([*cells, config.replace(timeframe="4h")]):
        first = count_trials(data, cells[0])
        publish(cells[0], data)
        second = count_trials(data, cells[1])
    assert (first["num_trials"], first["num_planned"]) == (4, 3)
    assert (second["num_trials"], second["num_earlier"]) == (4, 1)
    assert count_trials(data, cells[1])["num_trials"] == 2
