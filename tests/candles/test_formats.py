"""One file -> candle columns: formats, names, units, and everything that lies."""

import gzip
import json
import os
import zipfile

import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from candles import formats
from candles.formats import read_file
from files import packed
from utils import DataError, DependencyError, MissingInputError

NAMES = ["timestamp", "open", "high", "low", "close", "volume"]
OPEN_MS = [1704067200000, 1704067260000, 1704067320000]
VALUES = [
    [10.0, 12.0, 9.0, 11.0, 5.0],
    [11.0, 13.0, 10.0, 12.0, 6.0],
    [12.0, 14.0, 11.0, 13.0, 0.0],
]
HEADER = ",".join(NAMES)
ROWS = [
    "1704067200000,10,12,9,11,5",
    "1704067260000,11,13,10,12,6",
    "1704067320000,12,14,11,13,0",
]


def expected():
    table = pd.DataFrame(VALUES, columns=NAMES[1:])
    stamps = pd.to_datetime(pd.Series(OPEN_MS), unit="ms", utc=True)
    table.insert(0, "timestamp", stamps.dt.as_unit("ns"))
    return table


def assert_expected(path):
    pd.testing.assert_frame_equal(read_file(path), expected(), check_freq=False)


def write_csv(path, lines, end="\n"):
    path.write_text("\n".join(lines) + end)
    return path


def arrow_table(**columns):
    names = [columns.get("rename", {}).get(name, name) for name in NAMES]
    stamps = columns.get("timestamp", pa.array(OPEN_MS, pa.timestamp("ms", "UTC")))
    return pa.table([stamps, *np.transpose(VALUES)], names=names)


# Formats


def test_csv_with_header(tmp_path):
    assert_expected(write_csv(tmp_path / "a.csv", [HEADER, *ROWS]))


def test_csv_without_header(tmp_path):
    assert_expected(write_csv(tmp_path / "a.csv", ROWS))


def test_csv_with_byte_order_mark_crlf_and_semicolons(tmp_path):
    text = "\r\n".join([HEADER, *ROWS, ""]).replace(",", ";")
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert_expected(tmp_path / "a.csv")


@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize("factor", [1, 1000])
def test_public_data_zip(tmp_path, header, factor):
    rows = []
    for stamp, values in zip(OPEN_MS, VALUES, strict=True):
        tail = [(stamp + 60_000) * factor - 1, 1.5, 3, 0.5, 0.25, 0]
        rows.append(",".join(map(str, [stamp * factor, *values, *tail])))
    names = "open_time,open,high,low,close,volume,close_time,quote_volume,count,"
    names += "taker_buy_volume,taker_buy_quote_volume,ignore"
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.csv", "\n".join([names] * header + rows) + "\n")
    assert_expected(tmp_path / "a.zip")


@pytest.mark.parametrize("suffix", ["feather", "parquet"])
def test_arrow_files_under_freqtrade_names(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    table = arrow_table(rename={"timestamp": "date"})
    if suffix == "feather":
        pyarrow.feather.write_feather(table, path, compression="lz4")
    else:
        pq.write_table(table, path)
    assert_expected(path)


def test_parquet_with_timestamp_as_pandas_index(tmp_path):
    expected().set_index("timestamp").rename_axis(None).to_parquet(
        tmp_path / "a.parquet"
    )
    assert_expected(tmp_path / "a.parquet")


@pytest.mark.parametrize("suffix", ["json", "json.gz", "jsongz"])
def test_freqtrade_json(tmp_path, suffix):
    rows = [[t, *v] for t, v in zip(OPEN_MS, VALUES, strict=True)]
    data = json.dumps(rows).encode()
    path = tmp_path / f"BTC_USDT-1m.{suffix}"
    path.write_bytes(data if suffix == "json" else gzip.compress(data))
    assert_expected(path)


def write_hdf5(path, **options):
    """The layout that pandas writes for freqtrade: columns in alphabetical order."""
    kind = [("index", "<i8"), ("values_block_0", "<f8", (5,)), ("date", "<i8")]
    rows = np.zeros(3, kind)
    order = ["close", "high", "low", "open", "volume"]
    rows["values_block_0"] = expected()[order].to_numpy()
    rows["date"] = np.array(OPEN_MS) * 10**6
    with h5py.File(path, "w") as file:
        table = file.create_dataset("BTC_USDT/ohlcv/tf_1m/table", data=rows, **options)
        pickled = "(lp0\n" + "".join(
            f"V{name}\np{i}\na" for i, name in enumerate(order)
        )
        table.attrs["values_block_0_kind"] = np.bytes_(pickled + ".")
    return path


def test_freqtrade_hdf5(tmp_path):
    assert_expected(write_hdf5(tmp_path / "a.h5"))


def test_hdf5_without_its_library(tmp_path, monkeypatch):
    path = write_hdf5(tmp_path / "a.h5")
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(DependencyError, match="requirements-data.txt"):
        read_file(path)


def test_hdf5_with_a_filter_that_is_missing(tmp_path, monkeypatch):
    path = write_hdf5(tmp_path / "a.h5", compression="gzip")
    monkeypatch.setattr(h5py.h5z, "filter_avail", lambda code: False)
    with pytest.raises(DependencyError, match="hdf5plugin"):
        read_file(path)


# Names


@pytest.mark.parametrize(
    "header",
    [
        "ts,Open,High,Low,Close,Volume",
        "Open Time,OPEN,HIGH,LOW,CLOSE,VOL",
        "date,o,h,l,c,v",
        "datetime,open,high,low,close,base_volume",
        "Unix,open,high,low,close,volume",
    ],
)
def test_aliases(tmp_path, header):
    assert_expected(write_csv(tmp_path / "a.csv", [header, *ROWS]))


def test_missing_column(tmp_path):
    path = write_csv(tmp_path / "a.csv", [HEADER.replace("volume", "amount"), *ROWS])
    with pytest.raises(DataError, match="no column 'volume'; the columns are .*amount"):
        read_file(path)


@pytest.mark.parametrize(
    "extra, both", [("Date", "'timestamp' and 'Date'"), ("OPEN", "'open' and 'OPEN'")]
)
def test_ambiguous_columns(tmp_path, extra, both):
    rows = [f"{row},1" for row in ROWS]
    path = write_csv(tmp_path / "a.csv", [f"{HEADER},{extra}", *rows])
    with pytest.raises(DataError, match=f"several columns for .*{both}"):
        read_file(path)


def test_headless_csv_of_another_width(tmp_path):
    path = write_csv(tmp_path / "a.csv", ["1704067200000,10,12,9,11"])
    with pytest.raises(DataError, match="11 or 12 columns.*Received: 5 columns"):
        read_file(path)


def test_error_in_a_timestamp_names_the_file(tmp_path, caplog):
    path = write_csv(tmp_path / "a.csv", [HEADER, ROWS[0], "soon,12,14,11,13,0"])
    with pytest.raises(DataError, match="a.csv: expected timestamps .*'soon' in row 1"):
        read_file(path)


def test_unit_of_the_timestamps_is_logged(tmp_path, caplog):
    caplog.set_level("INFO")
    read_file(write_csv(tmp_path / "a.csv", ROWS))
    assert "a.csv: timestamps read as milliseconds since 1970" in caplog.text


# Files that lie


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(MissingInputError, match="nothing there"):
        read_file(tmp_path / "a.csv")
    with pytest.raises(MissingInputError, match="a folder"):
        read_file(tmp_path)


def test_unknown_suffix_suggests_a_known_one(tmp_path):
    write_csv(tmp_path / "a.parqet", ROWS)
    with pytest.raises(DataError, match="Did you mean '.parquet'"):
        read_file(tmp_path / "a.parqet")


@pytest.mark.parametrize("suffix", list(formats._READERS))
def test_empty_file(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    path.touch()
    with pytest.raises(DataError, match="an empty file"):
        read_file(path)


def test_files_without_rows(tmp_path):
    pq.write_table(arrow_table()[:0], tmp_path / "a.parquet")
    (tmp_path / "a.json").write_text("[]")
    for path in (tmp_path / "a.parquet", tmp_path / "a.json"):
        with pytest.raises(DataError, match="a file without rows"):
            read_file(path)
    with pytest.raises(DataError, match="a file without rows|CSV"):
        read_file(write_csv(tmp_path / "a.csv", [HEADER]))


@pytest.mark.parametrize("suffix", ["feather", "parquet", "zip", "json.gz", "h5"])
def test_csv_under_another_name(tmp_path, suffix):
    path = write_csv(tmp_path / f"a.{suffix}", [HEADER, *ROWS])
    with pytest.raises(DataError, match="text that begins with 'timestamp,open"):
        read_file(path)


def test_parquet_named_csv_or_feather(tmp_path):
    for name in ("a.csv", "a.feather"):
        pq.write_table(arrow_table(), tmp_path / name)
        with pytest.raises(DataError, match="a parquet file"):
            read_file(tmp_path / name)


def whole_files(folder):
    pyarrow.feather.write_feather(arrow_table(), folder / "a.feather")
    pq.write_table(arrow_table(), folder / "a.parquet")
    with zipfile.ZipFile(folder / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.csv", "\n".join([HEADER, *ROWS * 50]) + "\n")
    rows = [[t, *v] for t, v in zip(OPEN_MS, VALUES, strict=True)]
    (folder / "a.json").write_text(json.dumps(rows))
    (folder / "a.json.gz").write_bytes(gzip.compress(json.dumps(rows).encode()))
    write_csv(folder / "a.csv", [HEADER, *ROWS])
    write_hdf5(folder / "a.h5")
    return sorted(folder.iterdir())


def test_every_truncation_is_refused(tmp_path):
    for path in whole_files(tmp_path):
        data = path.read_bytes()
        # The newline alone may be what is missing: then every cell is there.
        missing = 3 if path.suffix == ".csv" else 1
        for kept in (len(data) - missing, len(data) * 2 // 3, len(data) // 2, 7):
            path.write_bytes(data[:kept])
            with pytest.raises(DataError):
                read_file(path)


def test_flipped_bytes_never_escape_as_other_errors(tmp_path):
    rng = np.random.default_rng(0)
    for path in whole_files(tmp_path):
        data = path.read_bytes()
        for position in rng.integers(0, len(data), 40):
            broken = bytearray(data)
            broken[position] ^= 1 << int(rng.integers(8))
            path.write_bytes(bytes(broken))
            try:
                read_file(path)
            except (DataError, DependencyError):
                pass


def test_parquet_page_checksums_are_verified(tmp_path):
    path = tmp_path / "a.parquet"
    table = arrow_table()
    pq.write_table(
        table, path, write_page_checksum=True, compression="none", use_dictionary=False
    )
    data = bytearray(path.read_bytes())
    place = data.index(np.array([10.0, 11.0, 12.0]).tobytes())
    data[place + 6] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(DataError, match="(?i)crc|checksum"):
        read_file(path)


def test_rows_of_unequal_length_and_words(tmp_path):
    with pytest.raises(DataError, match="line 3 has 3 cells, the first row 6"):
        read_file(write_csv(tmp_path / "a.csv", [HEADER, ROWS[0], "1,2,3"]))
    with pytest.raises(DataError, match="line 2 has 'cheap' in 'open'"):
        read_file(
            write_csv(tmp_path / "b.csv", [HEADER, "1704067200000,cheap,1,1,1,1"])
        )


class Trap(pa.ExtensionType):
    """An Arrow type that tells when anything builds it from a file."""

    built = 0

    def __init__(self):
        super().__init__(pa.float64(), "tests.trap")

    def __arrow_ext_serialize__(self):
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, storage_type, serialized):
        Trap.built += 1
        return cls()


@pytest.mark.parametrize("suffix", ["feather", "parquet"])
@pytest.mark.parametrize("column", ["close", "extra"])
def test_extension_types_are_refused_before_arrow_builds_them(tmp_path, suffix, column):
    trapped = pa.ExtensionArray.from_storage(Trap(), pa.array([1.0, 2.0, 3.0]))
    table = arrow_table()
    if column == "close":
        table = table.drop_columns("close")
    table = table.append_column(column, trapped)
    path = tmp_path / f"a.{suffix}"
    with pa.OSFile(str(path), "wb") as sink:
        if suffix == "feather":
            with pa.ipc.new_file(sink, table.schema) as writer:
                writer.write_table(table)
        else:
            pq.write_table(table, sink)
    pa.register_extension_type(Trap())
    try:
        Trap.built = 0
        with pytest.raises(DataError, match="extension types"):
            read_file(path)
        assert Trap.built == 0
    finally:
        pa.unregister_extension_type("tests.trap")


@pytest.mark.parametrize("padding", [4500, 4700, 5000])
def test_extension_types_are_found_at_any_offset_of_the_base64(tmp_path, padding):
    # Parquet puts the length before the base64 text, and its last byte may look like
    # a part of it: 0x30 to 0x39 are digits.
    trapped = pa.ExtensionArray.from_storage(Trap(), pa.array([1.0, 2.0, 3.0]))
    table = arrow_table().append_column("extra", trapped)
    table = table.replace_schema_metadata({"padding": "x" * padding})
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(DataError, match="extension types"):
        read_file(tmp_path / "a.parquet")


def test_zip_with_members_of_another_kind(tmp_path):
    for members in (["a.csv", "b.parquet"], ["../../a.exe"]):
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            for name in members:
                archive.writestr(name, "\n".join([HEADER, *ROWS]) + "\n")
        with pytest.raises(DataError, match=f"Received: {len(members)} member"):
            read_file(tmp_path / "a.zip")


def test_zip_member_with_a_path_is_read_and_never_extracted(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("../../a.csv", "\n".join([HEADER, *ROWS]) + "\n")
    assert_expected(tmp_path / "a.zip")
    assert [item.name for item in tmp_path.iterdir()] == ["a.zip"]


@pytest.mark.parametrize("suffix", ["zip", "csv.gz", "json.gz"])
def test_decompression_bombs_are_refused(tmp_path, monkeypatch, suffix):
    monkeypatch.setattr(packed, "MAX_UNPACKED_BYTES", 1000)
    bomb = b"0" * 5000 + b"\n"
    path = tmp_path / f"a.{suffix}"
    if suffix == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a.csv", bomb)
    else:
        path.write_bytes(gzip.compress(bomb))
    with pytest.raises(DataError, match="at most 1000 bytes .*decompression bomb"):
        read_file(path)


def test_ratio_of_a_bomb_is_bounded(tmp_path):
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"0" * 8_000_000))
    with pytest.raises(DataError, match="decompression bomb"):
        read_file(tmp_path / "a.csv.gz")


@pytest.mark.parametrize("change", ["grow", "touch"])
def test_file_that_changes_while_it_is_read(tmp_path, monkeypatch, change):
    path = write_csv(tmp_path / "a.csv", [HEADER, *ROWS])

    def read_and_change(file):
        table = formats._read_csv(file)
        if change == "grow":
            with open(file, "a") as stream:
                stream.write("1704067380000,1,1,1,1,1\n")
        else:
            os.utime(file, ns=(1, 1))
        return table

    monkeypatch.setitem(formats._READERS, ".csv", read_and_change)
    with pytest.raises(DataError, match="rests while it is read"):
        read_file(path)


def test_json_of_another_shape(tmp_path):
    for text in ('{"a": 1}', "[[1, 2, 3]]", "[1, 2]", "[[1"):
        (tmp_path / "a.json").write_text(text)
        with pytest.raises(DataError, match="expected JSON of candles"):
            read_file(tmp_path / "a.json")
    (tmp_path / "a.json").write_text('[["x", 1, 1, 1, 1, 1]]')
    with pytest.raises(DataError, match="a.json: .*expected timestamps .*'x' in row 0"):
        read_file(tmp_path / "a.json")
