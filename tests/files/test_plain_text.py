"""Signs in numbers: what is for decimals, what for thousands, and what may be both."""

import io
from pathlib import Path

import pyarrow as pa
import pytest

from files.plain_text import from_spaces
from files.text import number_signs, read_csv
from utils import DataError

PATH = Path("a.csv")


@pytest.mark.parametrize(
    ("cells", "signs"),
    [
        (["1,234.50", "12.5"], (".", ",")),
        (["1.234,50", "12,5"], (",", ".")),
        (["1,234", "0.5"], (".", ",")),
        (["1.234", "0,5"], (",", ".")),
        (["1,234,567"], (".", ",")),
        (["1 234", "1.5"], (".", " ")),
        (["1'234.5"], (".", "'")),
        (["1.234", "2.345"], (".", "")),
        (["0,123", "0,456"], (",", "")),
        (["1234,5", "-"], (",", "")),
        (["12", "x"], (".", "")),
    ],
)
def test_signs_are_told_by_all_cells(cells, signs):
    assert number_signs([["2024-01-01", cell] for cell in cells], PATH) == signs


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (["1,234", "60,123"], "'60,123' and the like, whose comma may stand for"),
        (["1,5", "1.5"], "one sign for decimals, another one for thousands"),
        (["1,234.5", "1 234"], "' ' and ',' and '.' in turns"),
    ],
)
def test_signs_that_are_not_told_are_refused(cells, message):
    with pytest.raises(DataError, match=message):
        number_signs([["2024-01-01", cell] for cell in cells], PATH)


def test_a_training_file_is_read_with_signs_and_names_that_come_again():
    text = 'time,a,b\n1,"1,000.5",2\ntime,a,b\n2,"2,000.5",3\n'
    table = read_csv(io.BytesIO(text.encode()), PATH)
    assert table.to_pydict() == {"time": [1, 2], "a": [1000.5, 2000.5], "b": [2, 3]}
    assert table.schema.field("a").type == pa.float64()


def test_spaces_part_cells_only_where_all_rows_have_as_many():
    table = "day open high low close\n1 2 3  4 5\n"
    assert from_spaces(table, ",;") == "day\topen\thigh\tlow\tclose\n1\t2\t3\t4\t5\n"
    clock = "day open high low close\n1 00:00 2 3 4 5\n"
    assert from_spaces(clock, ",;").splitlines()[1] == "1 00:00\t2\t3\t4\t5"
    for text in (table + "1 2 3\n", table.replace(" ", ","), "a b c d e\n", "x\ny\n"):
        assert from_spaces(text, ",;") is None
