"""Tasks on Ray: two nodes on one machine, which die, and a store that is full."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from world.frames import PROJECT, TINY, make_own_frame

import utils
from config import Config
from executors import ray_executor
from executors.kinds import open_executor
from executors.tasks import Task, do_all
from tuning.search import Search, TuneConfig

pytest.importorskip("ray", reason="needs requirements-ray.txt")

# Ray's own threads leave a socket and a pipe or two to the end of the process.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


@pytest.fixture(scope="module", autouse=True)
def own_home(tmp_path_factory):
    """Ray writes a token into the home folder, and paths of sockets must be short."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", f"{PROJECT}:{PROJECT / 'tests'}")
        yield


@pytest.fixture(scope="module")
def cluster(own_home):
    from ray.cluster_utils import Cluster

    words = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args=words)
    cluster.add_node(**words, resources={"second": 1})
    cluster.wait_for_nodes()
    yield cluster
    cluster.shutdown()


@pytest.fixture
def opened(cluster):
    with open_executor("ray", address=cluster.address, retries=1) as executor:
        yield executor


def a_task(name, function, *, num_threads=1, memory=0, timeout=None, **values):
    return Task(
        name=name,
        function=f"world.work:{function}",
        values=values,
        num_threads=num_threads,
        memory_bytes=memory,
        timeout_seconds=timeout,
    )


def do(executor, *tasks):
    return {ended.name: ended for ended in do_all(executor, tasks)}


def test_ends_are_those_of_every_executor(opened, tmp_path):
    notes = {name: str(tmp_path / name) for name in ("k", "s", "n", "l", "d")}
    ended = do(
        opened,
        a_task("one", "tell"),
        a_task("data", "refuse"),
        a_task("defect", "break_down", notes=notes["d"]),
        a_task("killed", "be_killed", notes=notes["k"], from_try=2),
        a_task("storage", "fill_the_disk", notes=notes["s"], from_try=2),
        a_task("never", "be_killed", notes=notes["n"], from_try=9),
        a_task("late", "never_end", notes=notes["l"], timeout=0.3),
        a_task("huge", "tell", memory=10**15),
        a_task("wide", "tell", num_threads=3),
        Task(name="gpu", function="world.work:tell", values={}, num_gpus=1),
    )
    assert opened.slots == 2
    assert ended["one"].result["threads"] == "1"
    assert ended["data"].error == "expected better data"
    assert (ended["data"].exit_code, ended["data"].attempts) == (65, 1)
    assert ended["defect"].error == "ZeroDivisionError: division by zero"
    for name in ("killed", "storage"):
        assert ended[name].result == {"is": "done"} and ended[name].attempts == 2
    assert "WorkerCrashedError" in ended["never"].error
    assert (ended["never"].exit_code, ended["never"].attempts) == (70, 2)
    assert (ended["late"].error, ended["late"].attempts) == ("not done within 0.3s", 2)
    lines = (tmp_path / "l").read_text().split()
    assert lines == ["try", "saved"] * 2
    for name, words in (("huge", "1000001.00 GB"), ("wide", "3 CPU"), ("gpu", "1 GPU")):
        assert words in ended[name].error
        assert (ended[name].exit_code, ended[name].attempts) == (2, 0)


def test_workers_are_used_again_for_as_many_threads(opened):
    tasks = [a_task(f"t{number}", "tell") for number in range(8)]
    ended = do(opened, *tasks)
    assert len({each.pid for each in ended.values()}) <= 2


def test_a_node_that_dies_is_replaced_by_another(
    cluster, opened, tmp_path, monkeypatch, caplog
):
    """The task is on the node that dies; it waits, not in silence, for its like."""
    monkeypatch.setattr(ray_executor, "_SAY_SECONDS", 0.0)
    node = cluster.add_node(num_cpus=2, object_store_memory=80 * 2**20)
    cluster.wait_for_nodes()
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    # Two threads are there on this node alone, and once it is gone on its successor.
    opened.submit(a_task("task", "wait_once", num_threads=2, fifo=str(fifo)))
    assert opened.wait(timeout=0.0) == []
    with open(fifo) as stream:
        assert stream.readline() == "began\n"
        cluster.remove_node(node, allow_graceful=False)
    while "task waits: expected a node" not in caplog.text:
        assert opened.wait(timeout=1.0) == []
    cluster.add_node(num_cpus=2, object_store_memory=80 * 2**20)
    (ended,) = do_wait(opened)
    assert ended.result == {"is": "done"} and ended.attempts == 2


def do_wait(executor):
    ended = []
    while not ended:
        ended = executor.wait(timeout=10.0)
    return ended


def test_a_full_store_stops_no_task(opened):
    import ray

    filling = [ray.put(np.zeros(30 * 2**20, np.uint8)) for _ in range(4)]
    ended = do(opened, *(a_task(f"t{number}", "tell") for number in range(4)))
    assert all(each.result for each in ended.values()) and len(filling) == 4


def test_a_study_on_the_cluster_ends_as_one_in_this_process(cluster, tmp_path):
    path = tmp_path / "file.feather"
    make_own_frame(900).to_feather(path)
    places = {"training_file": str(path), "outputs_dir": str(tmp_path)}
    base = Config(**TINY | places | {"model": "logistic", "num_threads": 1})
    space = {"logistic_penalty": {"low": 0.01, "high": 1.0}}
    found = []
    for kind, address in (("serial", None), ("ray", cluster.address)):
        options = TuneConfig(n_trials=3, space=space, study=kind)
        with open_executor(kind, address=address, max_workers=1) as executor:
            search = Search(base, options, executor)
            with search:
                search.run()
                trials = search.study.trials()
        found.append([(x["state"], x["suggested"], x["value"]) for x in trials])
    assert found[0] == found[1] and found[0][2][0] == "complete"


DRIVER = """
import sys
import utils
from executors.kinds import open_executor
from executors.tasks import Task, do_all
task = {"function": "world.work:wait_for_a_signal", "values": {"fifo": sys.argv[2]}}
def main():
    with utils.StopSignals(), open_executor("ray", address=sys.argv[1]) as executor:
        list(do_all(executor, [Task(name="one", **task)]))
sys.exit(utils.run_command_line(main))
"""


@pytest.mark.parametrize("signal_name, code", [("SIGINT", 130), ("SIGKILL", -9)])
def test_tasks_end_with_their_driver(cluster, tmp_path, signal_name, code):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, cluster.address, str(fifo)],
        cwd=PROJECT,
        env={k: v for k, v in os.environ.items() if k != "RAY_AUTH_MODE"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        process_group=0,
    )
    with open(fifo) as stream:  # it ends when no worker has it any more
        assert stream.readline() == "began\n"
        os.killpg(driver.pid, getattr(signal, signal_name))
        said = stream.read()
    assert driver.wait() == code
    assert said == "saved\n" or signal_name == "SIGKILL"


def test_a_cluster_that_is_not_there_is_one_message():
    import ray

    assert not ray.is_initialized()
    words = "127.0.0.1:9.*--executor processes"
    with pytest.raises(utils.ConfigError, match=words):
        open_executor("ray", address="127.0.0.1:9").__enter__()


def test_a_training_has_the_bytes_of_one_without_ray(cluster, tmp_path):
    """Killed after an epoch there, and gone on with."""
    found = {}
    for kind in ("processes", "ray"):
        folder = tmp_path / kind
        folder.mkdir()
        make_own_frame(600).to_feather(folder / "t.feather")
        config = TINY | {
            "training_file": str(folder / "t.feather"),
            "outputs_dir": str(folder),
            "epochs": 3,
            "num_threads": 1,
            "baseline_model": False,
            "importance_windows": None,
        }
        task = Task(
            name="cell",
            function="world.work:train",
            values={"config": config, "kills": kind == "ray", "notes": f"{folder}/n"},
            num_threads=1,
        )
        address = cluster.address if kind == "ray" else None
        with open_executor(kind, max_workers=1, address=address) as executor:
            (ended,) = do_all(executor, [task])
        assert ended.error is None and ended.attempts == (2 if kind == "ray" else 1)
        found[kind] = ended.result
    assert found["ray"] == found["processes"]
