"""Rows as text, and candles of files that grow."""

import json

import pandas as pd
import pytest
from world.signals import make_candles, make_recipe, make_rules

from signals.command import num_asked, writer_of
from signals.follow import GrowingCandles, answer_new, follow
from signals.stream import SignalStream
from utils import ConfigError, DataError

ROWS = pd.DataFrame(
    {
        "timestamp": pd.to_datetime(["2025-07-01 10:00", "2025-07-01 11:00"], utc=True),
        "close": [100.5, 101.0],
        "status": ["warming_up", "ok"],
        "p_short": [float("nan"), 0.25],
        "signal": pd.array([1, 2], "int8"),
        "expires_at": pd.to_datetime([None, "2025-07-01 14:00"], utc=True),
        "model_id": ["m", "m"],
    }
)


def test_csv_and_jsonl_have_utc_times_and_null(capsys):
    writer = writer_of("csv", None, is_growing=False)
    writer.write(ROWS[:1])
    writer.write(ROWS[1:])
    assert capsys.readouterr().out.splitlines() == [
        "timestamp,close,status,p_short,signal,expires_at,model_id",
        "2025-07-01T10:00:00Z,100.5,warming_up,null,1,null,m",
        "2025-07-01T11:00:00Z,101.0,ok,0.25,2,2025-07-01T14:00:00Z,m",
    ]
    writer_of("jsonl", None, is_growing=False).write(ROWS)
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert first["timestamp"] == "2025-07-01T10:00:00Z"
    assert first["p_short"] is None and first["expires_at"] is None
    assert second["p_short"] == 0.25 and second["signal"] == 2


def test_a_table_is_for_reading(capsys):
    writer_of(None, None, is_growing=False).write(ROWS)
    head, first, second = capsys.readouterr().out.splitlines()
    assert len(head) == len(first) == len(second)
    assert first.split() == [
        "2025-07-01",
        "10:00",
        "100.5",
        "warming_up",
        "-",
        "HOLD",
        "-",
    ]
    assert second.split()[-3:] == ["LONG", "2025-07-01", "14:00"]


def test_files_are_whole_and_growing_ones_go_on(tmp_path):
    path = tmp_path / "new" / "rows.csv"
    for rows in (ROWS[:1], ROWS[1:]):  # two programs, one header
        writer_of(None, str(path), is_growing=True).write(rows)
    assert path.read_text().count("timestamp") == 1
    assert len(path.read_text().splitlines()) == 3
    writer_of(None, str(path), is_growing=False).write(ROWS[1:])
    assert len(path.read_text().splitlines()) == 2
    table = tmp_path / "rows.parquet"
    writer_of(None, str(table), is_growing=False).write(ROWS)
    assert pd.read_parquet(table)["signal"].tolist() == [1, 2]
    for output, is_growing in ((None, False), ("rows.parquet", True)):
        with pytest.raises(ConfigError, match="expected --output, and no --follow"):
            writer_of("parquet", output, is_growing=is_growing)


def test_bars_since_a_time():
    table = make_candles(10)  # of 4h, from 2024-01-01
    assert num_asked(table, 14_400, last=3, since=None) == 3
    assert num_asked(table, 14_400, last=1, since="2024-01-02") == 4
    assert num_asked(table, 14_400, last=1, since="2023-01-02") == 10
    with pytest.raises(DataError, match="--since: expected bars from 2025"):
        num_asked(table, 14_400, last=1, since="2025-01-02")
    with pytest.raises(ConfigError, match="--since: expected a time such as"):
        num_asked(table, 14_400, last=1, since="yesterday or so")
    with pytest.raises(ConfigError, match="--last: expected at least 1"):
        num_asked(table, 14_400, last=0, since=None)


def test_growing_candles_are_answered_once_and_in_whole_lines(tmp_path):
    recipe, table = make_recipe(), make_candles(290)
    path = tmp_path / "TESTUSDT-4h.csv"
    text = table.to_csv(index=False)
    lines = text.splitlines(keepends=True)
    head = "".join(lines[:281])
    path.write_text(head)
    candles = GrowingCandles([str(tmp_path)], recipe.config)
    stream = SignalStream(recipe.pipeline, make_rules(recipe).columns, candles.read())
    found = []
    # What the file is at each look: nothing new, half a line and a cut number, twice
    # each, it whole, and one more that has all but its end.
    whole = head + lines[281]
    half = head + lines[281][:-40]
    cut = [half, half, whole[:-4], whole[:-4]]
    looks = iter([head, *cut, whole, whole + lines[282][:-1]])

    def wait():
        content = next(looks, None)
        if content not in (None, path.read_text()):  # a look alone changes no file
            path.write_text(content)
        return content is not None

    follow(candles, stream, found.append, wait)
    rows = pd.concat(found)
    assert rows["timestamp"].tolist() == table["timestamp"][280:281].tolist()
    assert rows["close"].tolist() == table["close"][280:281].tolist()
    assert (rows["status"] == "ok").all()
    answer_new(table, stream, found.append)
    assert len(found) == 1 + 9


def test_a_file_that_stays_broken_is_refused(tmp_path):
    recipe, path = make_recipe(), tmp_path / "TESTUSDT-4h.csv"
    make_candles(290).to_csv(path, index=False)
    candles = GrowingCandles([path], recipe.config)
    candles.read()
    assert candles.read_changed() is None
    with path.open("a") as stream:
        stream.write("2024-02-18 08:00:00+00:00,1,0.1,3,2,7\n")
    assert candles.read_changed() is None
    with pytest.raises(DataError, match="does not enclose open and close"):
        candles.read_changed()
