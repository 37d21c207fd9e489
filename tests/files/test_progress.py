"""The line of a long step: when it shows, what it says, what stands beside it."""

import io
import logging

import pytest

from files import progress
from files.progress import NoteHandler, Progress, snapshot, track


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass by `clock[0] += 1`."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(progress, "_LINE", progress._Line())
    return now


def test_a_terminal_shows_steps_within_steps_and_the_time_that_is_left(clock):
    terminal = Terminal()
    progress.show_on(io.StringIO(), terminal)
    with Progress("fold", 2) as folds, Progress("epoch", 4) as epochs:
        clock[0] += 3
        epochs.advance(metrics={"loss": 0.98765})
        assert terminal.getvalue() == ""  # less than five seconds
        clock[0] += 10
        epochs.advance(metrics={"loss": 0.5})
        line = "\rfold 1 of 2, epoch 3 of 4, loss 0.5; about 60 s left"
        assert terminal.getvalue() == line
        clock[0] += 0.1
        epochs.advance()
        assert terminal.getvalue() == line  # no oftener than can be read
        assert folds.number == 1
    assert terminal.getvalue() == f"{line}\r{' ' * (len(line) - 1)}\r"


def test_a_terminal_shows_details_below_and_a_note_takes_their_place(clock):
    terminal, rows = Terminal(), ["one", "two"]
    progress.show_on(terminal)
    with Progress("cell", 9, details=lambda: rows) as cells:
        clock[0] += 6
        cells.tell()
        assert terminal.getvalue() == "\rcell 1 of 9\x1b[J\none\ntwo\x1b[2A"
        NoteHandler(terminal).emit(logging.makeLogRecord({"msg": "a note"}))
        assert terminal.getvalue().endswith("\r\x1b[Ja note\n")


def test_a_note_takes_the_place_of_the_line(clock):
    terminal = Terminal()
    progress.show_on(terminal)
    handler = NoteHandler(terminal)
    with Progress("tree", 9) as trees:
        clock[0] += 6
        trees.advance()
        shown = terminal.getvalue()
        handler.emit(logging.makeLogRecord({"msg": "a note"}))
    wiped = f"\r{' ' * len('tree 2 of 9')}\r"
    assert (shown, terminal.getvalue()) == (
        "\rtree 2 of 9",
        f"\rtree 2 of 9{wiped}a note\n",
    )


def test_without_a_terminal_a_line_a_minute_is_logged(clock, caplog):
    caplog.set_level(logging.INFO)
    progress.show_on(io.StringIO())
    for _ in track(range(100), "month", 100):
        clock[0] += 10
    assert [record.message for record in caplog.records][:3] == [
        "month 7 of 100; about 16 min left",
        "month 13 of 100; about 15 min left",
        "month 19 of 100; about 14 min left",
    ]
    assert len(caplog.records) == 16


def test_a_library_that_configured_nothing_is_shown_nothing(clock, caplog):
    caplog.set_level(logging.DEBUG)
    for _ in track(range(3), "month", 3):
        clock[0] += 100
    assert caplog.text == ""


def test_an_interrupted_step_ends_with_those_within_it(clock):
    with pytest.raises(KeyboardInterrupt), Progress("epoch", 3):
        Progress("batch", 5).__enter__()
        assert [step["what"] for step in snapshot()["steps"]] == ["epoch", "batch"]
        raise KeyboardInterrupt
    assert snapshot() == {"steps": [], "metrics": {}, "eta_seconds": None}


def test_what_an_earlier_process_did_is_no_speed(clock):
    with Progress("epoch", 10, done=8) as epochs:
        clock[0] += 50
        epochs.advance()
        assert snapshot()["eta_seconds"] is None  # the first part has what is done once
        with Progress("batch", 4) as batches:
            clock[0] += 3
            batches.advance(2)
            assert snapshot()["eta_seconds"] == pytest.approx(3.0)
            assert snapshot()["steps"][0] == {
                "what": "epoch",
                "number": 10,
                "total": 10,
            }


def test_many_parts_are_a_share_and_an_unknown_number_is_none(clock):
    assert str(Progress("a.zip", 4000, done=1000)) == "a.zip 25%"
    assert str(Progress("a.zip", 0)) == "a.zip"
