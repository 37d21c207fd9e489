"""Columns that are kept: what they hold in memory, and that they are what they were."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from files.tables import open_table

NUM_ROWS = 200_000


@pytest.mark.parametrize(
    "kind", ["uint8", "int16", "float32", "float64", "str", "Int8"]
)
def test_a_column_keeps_no_other_in_memory(tmp_path, kind):
    values = np.arange(NUM_ROWS) % 3
    frame = pd.DataFrame({f"wide{k}": np.ones(NUM_ROWS) for k in range(20)})
    frame["label"] = pd.Series(values).astype(kind)
    frame.loc[7, "label"] = pd.NA if kind == "Int8" else frame["label"][7]
    frame.to_feather(tmp_path / "x.feather", compression="uncompressed")
    before = pa.total_allocated_bytes()
    column = open_table(tmp_path / "x.feather").read("label")
    # The file has 32 MB; the longest of these columns has 1.6.
    assert pa.total_allocated_bytes() - before < 4e6
    read = column.to_pandas()
    assert read.drop(7).astype(float).tolist() == np.delete(values, 7).tolist()
    assert column.null_count == (kind == "Int8")
