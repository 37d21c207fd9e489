"""What executors give back, what they try again, and that nothing outlives them."""

import os
import signal
import subprocess
import sys

import pytest
from world.frames import PROJECT

import utils
from executors.kinds import open_executor
from executors.tasks import SerialExecutor, Task, do_all


def a_task(
    name, function, *, num_threads=1, settings="", memory=0, timeout=None, **values
):
    return Task(
        name=name,
        function=f"world.work:{function}",
        values=values,
        num_threads=num_threads,
        settings=settings,
        memory_bytes=memory,
        timeout_seconds=timeout,
    )


def do(tasks, folder, **options):
    options = {"max_workers": 1, "retries": 1, "log_folder": folder / "logs"} | options
    with open_executor("processes", **options) as executor:
        return {ended.name: ended for ended in do_all(executor, tasks)}


def lines(path):
    return path.read_text().split()


def test_results_and_errors_are_values(tmp_path, capfd):
    tasks = [a_task(f"t{number}", "tell") for number in range(20)]
    tasks += [a_task("data", "refuse"), a_task("huge", "tell", memory=10**15)]
    notes = tmp_path / "notes"
    tasks += [a_task("defect", "break_down", notes=str(notes))]
    tasks += [a_task("two", "tell", num_threads=2)]
    tasks += [a_task("cpu", "tell", num_threads=2, settings="device cpu")]
    tasks += [a_task("any", "tell", num_threads=None)]
    ended = do(tasks, tmp_path)
    told = [ended[f"t{number}"] for number in range(20)]
    assert len({each.pid for each in told}) == 1, "used again 20 times"
    assert told[0].result["process"] == told[0].pid != os.getpid()
    assert told[0].result["group"] == told[0].pid, "a terminal's Ctrl-C passes it by"
    assert told[0].result["threads"] == "1" and told[0].attempts == 1
    assert (ended["data"].error, ended["data"].exit_code) == (
        "expected better data",
        65,
    )
    assert ended["data"].pid != told[0].pid, "but not for ever"
    assert ended["defect"].error == "ZeroDivisionError: division by zero"
    assert ended["defect"].exit_code == 70 and lines(notes) == ["try"]
    assert "Received: 1000001.00 GB" in ended["huge"].error
    assert (ended["huge"].exit_code, ended["huge"].attempts) == (2, 0)
    assert ended["two"].result["threads"] == ended["cpu"].result["threads"] == "2"
    assert ended["cpu"].pid != ended["two"].pid and ended["any"].pid == ended["cpu"].pid
    assert capfd.readouterr() == ("", ""), "workers say nothing on the terminal"
    assert "ZeroDivisionError" in (tmp_path / "logs" / "worker-01.log").read_text()


def test_bad_luck_is_tried_again(tmp_path):
    notes = {name: str(tmp_path / name) for name in ("k", "s", "n", "l")}
    ended = do(
        [
            a_task("killed", "be_killed", notes=notes["k"], from_try=2),
            a_task("storage", "fill_the_disk", notes=notes["s"], from_try=2),
            a_task("never", "be_killed", notes=notes["n"], from_try=9),
            a_task("late", "never_end", notes=notes["l"], timeout=0.3),
        ],
        tmp_path,
    )
    for name in ("killed", "storage"):
        assert ended[name].result == {"is": "done"} and ended[name].attempts == 2
    never, late = ended["never"], ended["late"]
    assert "signal 9" in never.error and "worker-01.log" in never.error
    assert (never.exit_code, never.attempts) == (70, 2)
    assert lines(tmp_path / "n") == ["try", "try"]
    assert (late.error, late.attempts) == ("not done within 0.3s", 2)
    assert late.exit_code == 70, "nobody stopped the whole"
    assert lines(tmp_path / "l") == ["try", "saved"] * 2


@pytest.mark.parametrize("free, side_by_side", [(5, 1), (7, 2)])
def test_tasks_wait_for_memory(tmp_path, monkeypatch, free, side_by_side):
    """Each takes 2 GB and the 1 GB of what a worker imports."""
    monkeypatch.setattr(utils, "available_memory_bytes", lambda: free * 10**9)
    tasks = [a_task(f"t{number}", "tell", memory=2 * 10**9) for number in range(4)]
    ended = do(tasks, tmp_path, max_workers=2).values()
    assert len(ended) == 4
    assert len({each.pid for each in ended}) == side_by_side


DRIVER = """
import sys
import utils
from executors.kinds import open_executor
from executors.tasks import Task, do_all
utils.configure_logging()
task = {"function": "world.work:wait_for_a_signal", "values": {"fifo": sys.argv[1]}}
def main():
    with utils.StopSignals(), open_executor("processes", max_workers=2) as executor:
        list(do_all(executor, [Task(name=name, **task) for name in ("one",)]))
sys.exit(utils.run_command_line(main))
"""


@pytest.mark.parametrize(
    "end, code",
    [
        (lambda driver: os.killpg(driver.pid, signal.SIGINT), 130),
        (lambda driver: driver.terminate(), 143),
        (lambda driver: driver.kill(), -9),
    ],
    ids=["Ctrl-C", "SIGTERM", "kill -9"],
)
def test_workers_save_when_the_driver_ends(tmp_path, end, code):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(fifo)],
        cwd=PROJECT,
        env=os.environ | {"PYTHONPATH": f"{PROJECT}:{PROJECT / 'tests'}"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        process_group=0,
    )
    with open(fifo) as stream:  # it ends when no worker has it any more
        assert stream.readline() == "began\n"
        end(driver)
        assert stream.read() == "saved\n"
    assert driver.wait() == code


def test_ray_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(utils.DependencyError, match="requirements-ray.txt"):
        open_executor("ray").__enter__()
    with pytest.raises(utils.DependencyError, match="--executor processes"):
        open_executor("auto", address="10.0.0.1:6379").__enter__()


def test_what_is_asked_for_is_what_is_opened():
    assert isinstance(open_executor("auto", max_workers=1), SerialExecutor)
    assert open_executor("auto", max_workers=3).slots == 3
    with pytest.raises(utils.ConfigError, match="Did you mean 'processes'"):
        open_executor("process")
    with pytest.raises(utils.ConfigError, match="a worker or more"):
        open_executor("auto", max_workers=0)
    with pytest.raises(utils.ConfigError, match="with 'processes'"):
        open_executor("processes", address="10.0.0.1:6379")
