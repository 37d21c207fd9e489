import csv
import gzip
import io
import itertools
import json
import re
import zipfile

import numpy as np
import pandas as pd
import pytest
from world.frames import CORE8, make_frame, make_own_frame

from artifacts.metadata import format_data
from candles.synthetic import synthetic_candles
from config import Config
from data_loader import TrainingDataLoader
from dataset import training_file
from dataset.columns import ONE_HOT
from dataset.sidecar import sidecar_path
from files import tables
from files.atomic import sha256_file
from preprocessing.balance import systematic_undersample
from utils import ConfigError, DataError, MissingInputError

SMALL = {"sequence_length": 10, "future_window": 6, "undersampling_min_samples": 50}


def load(frame, **fields):
    return TrainingDataLoader.from_frame(frame, "TESTUSDT", **SMALL | fields)


def bars_used(data, part, window, future):
    """The minutes that the samples of a part read or are labelled by, one by one."""
    minutes = data.timestamps.astype("datetime64[m]").astype(int)
    used = set()
    for row in data.parts[part].targets:
        used.update(minutes[row - window + 1 : row + 1])
        used.update(range(minutes[row] + 1, minutes[row] + future + 1))
    return used


def with_gaps(frame, *cuts):
    return frame.drop(index=[row for a, b in cuts for row in range(a, b)])


GAPPED = with_gaps(make_own_frame(900), (200, 240), (555, 556), (700, 790))


@pytest.mark.parametrize(
    ("validation", "test", "embargo", "gapped"),
    list(
        itertools.product((0.1, 0.2, 0.35), (0.1, 0.2, 0.3), (0, 1, 25), (False, True))
    ),
)
def test_parts_share_no_bar(validation, test, embargo, gapped):
    frame = GAPPED if gapped else make_own_frame(900)
    data = load(
        frame,
        validation_split=validation,
        test_split=test,
        embargo_bars=embargo,
        sequence_length=20,
        future_window=15,
    ).load_training_data()
    used = [bars_used(data, part, 20, 15) for part in ("train", "validation", "test")]
    for earlier, later in itertools.pairwise(used):
        assert not earlier & later
        assert min(later) - max(earlier) > embargo
    assert not used[0] & used[2]
    segments = np.cumsum(
        np.diff(data.timestamps, prepend=data.timestamps[0]) > np.timedelta64(1, "m")
    )
    for part in data.parts.values():
        assert (segments[part.targets] == segments[part.targets - 19]).all()


def test_parts_rule_costs_what_it_must():
    data = load(make_own_frame(1000)).load_training_data()
    parts = data.parts
    assert [(p.start, p.stop) for p in parts.values()] == [
        (0, 700),
        (700, 900),
        (900, 1000),
    ]
    assert parts["train"].targets[[0, -1]].tolist() == [9, 693]
    assert parts["validation"].targets[[0, -1]].tolist() == [709, 893]
    # Our own file ends with rows whose outcome is known.
    assert parts["test"].targets[[0, -1]].tolist() == [909, 999]


def test_rows_that_are_no_targets_are_never_targets():
    frame = make_own_frame(1000)
    frame.loc[50:80, "is_target"] = False
    data = load(frame).load_training_data()
    targets = data.parts["train"].targets
    assert not set(range(50, 81)) & set(targets.tolist())
    assert {49, 81} <= set(targets.tolist())


def test_foreign_v3_file(tmp_path):
    frame = make_frame(1000)
    path = tmp_path / "TESTUSDT_TF-1m__FW-6__SL-50__TP-100__training_ready.feather"
    frame.to_feather(path)
    loader = TrainingDataLoader(path, "TESTUSDT", **SMALL)
    data = loader.load_training_data()
    assert data.feature_names == CORE8
    assert data.outcomes == {}
    assert data.source["sha256"] is not None
    one_hot = frame[["label_0", "label_1", "label_2"]].to_numpy()
    assert np.array_equal(data.labels, one_hot.argmax(axis=1))
    # Nobody says that the last rows' future was there.
    assert data.parts["test"].targets[-1] == 1000 - 6 - 1


@pytest.mark.parametrize("suffix", ["feather", "parquet", "csv"])
def test_formats_agree(tmp_path, suffix):
    frame = make_own_frame(600)
    path = tmp_path / f"mine.{suffix}"
    {
        "feather": frame.to_feather,
        "parquet": frame.to_parquet,
        "csv": lambda p: frame.to_csv(p, index=False),
    }[suffix](path)
    data = TrainingDataLoader(path, "TESTUSDT", **SMALL).load_training_data()
    expected = load(frame).load_training_data()
    assert np.array_equal(data.features, expected.features)
    assert np.array_equal(data.labels, expected.labels)
    assert np.array_equal(data.timestamps, expected.timestamps)
    assert np.array_equal(
        data.outcomes["long_return"], expected.outcomes["long_return"]
    )


def test_frame_with_datetime_index():
    frame = make_frame(600)
    data = load(frame.set_index("timestamp")).load_training_data()
    assert np.array_equal(data.timestamps, load(frame).load_training_data().timestamps)


@pytest.mark.parametrize("kind", ["robust", "standard", "minmax", "none"])
def test_scaler_learns_from_training_rows_alone(kind):
    frame = make_own_frame(1000)
    other = frame.copy()
    other.loc[700:, CORE8] = 1e6  # validation and test
    a = load(frame, scaler_type=kind).load_training_data()
    b = load(other, scaler_type=kind).load_training_data()
    assert a.scaler == b.scaler
    assert a.scaler.num_rows == 700
    assert np.array_equal(a.features[:700], b.features[:700])
    assert (b.features[700:] == 10.0).all()  # clipped at the limit
    column = frame["high_change"].to_numpy(np.float64)[:700]
    center, scale = {
        "robust": (np.median(column), np.subtract(*np.percentile(column, [75, 25]))),
        "standard": (column.mean(), column.std()),
        "minmax": (column.min(), np.ptp(column)),
        "none": (0.0, 1.0),
    }[kind]
    assert a.scaler.center[0] == pytest.approx(center, rel=1e-9)
    assert a.scaler.scale[0] == pytest.approx(scale, rel=1e-9)


def test_constant_feature_is_kept_finite():
    frame = make_own_frame(1000)
    frame["high_change"] = 5.0
    data = load(frame).load_training_data()
    assert (data.features[:, 0] == 0).all()


def test_undersampling_is_even_and_keeps_the_newest():
    labels = np.array([1] * 470 + [0] * 100 + [2] * 100)[
        np.random.default_rng(1).permutation(670)
    ]
    targets = np.arange(1000, 1670)
    kept = systematic_undersample(targets, labels, min_samples=50)
    counts = np.bincount(labels[kept - 1000])
    assert counts.tolist() == [100, 100, 100]
    hold = kept[labels[kept - 1000] == 1]
    everyone = targets[labels == 1]
    positions = np.searchsorted(everyone, hold)
    assert set(np.diff(positions).tolist()) == {4, 5}
    assert positions[0] <= 2 and positions[-1] >= 467


def test_undersampling_leaves_classes_below_the_minimum():
    labels = np.array([0] * 30 + [1] * 200 + [2] * 60)
    kept = systematic_undersample(np.arange(290), labels, min_samples=100)
    assert np.bincount(labels[kept]).tolist() == [30, 100, 60]
    assert np.array_equal(
        systematic_undersample(np.arange(290), labels, min_samples=500), np.arange(290)
    )


def test_undersampling_touches_the_training_part_alone():
    rng = np.random.default_rng(3)
    frame = make_own_frame(4000, label=rng.choice(3, 4000, p=[0.1, 0.8, 0.1]))
    none = load(frame, class_balancing_method="none").load_training_data()
    thin = load(frame).load_training_data()
    for part in ("train", "validation", "test"):
        assert np.array_equal(none.parts[part].targets, thin.parts[part].targets)
    assert len(thin.train_targets) < len(none.train_targets)
    assert none.class_odds is None
    assert np.array_equal(none.class_prior, thin.class_prior)
    kept = thin.label_shares(thin.train_targets)
    assert thin.class_odds == pytest.approx(kept / thin.class_prior, rel=1e-6)


def test_class_weights_become_odds():
    rng = np.random.default_rng(3)
    frame = make_own_frame(4000, label=rng.choice(3, 4000, p=[0.1, 0.8, 0.1]))
    data = load(frame, class_balancing_method="class_weights").load_training_data()
    assert np.array_equal(data.train_targets, data.parts["train"].targets)
    assert data.class_weights * data.class_prior == pytest.approx([1 / 3] * 3)
    assert data.class_odds == pytest.approx(data.class_weights, rel=1e-6)
    manual = load(
        frame,
        class_balancing_method="class_weights",
        manual_class_weights=(4.0, 1.0, 4.0),
    ).load_training_data()
    assert manual.class_weights.tolist() == [4, 1, 4]
    ratio = manual.class_odds / manual.class_weights
    assert ratio == pytest.approx(ratio[0])


def test_dates_are_inclusive_to_the_end_of_the_day():
    frame = make_own_frame(4 * 1440)
    data = load(
        frame, start_date="2024-01-02", end_date="2024-01-03"
    ).load_training_data()
    assert str(data.timestamps[0]) == "2024-01-02T00:00:00.000000000"
    assert str(data.timestamps[-1]) == "2024-01-03T23:59:00.000000000"
    # The label bars of the last target lie before the cut, too.
    last = data.timestamps[data.parts["test"].targets[-1]]
    assert str(last) == "2024-01-03T23:53:00.000000000"
    with pytest.raises(DataError, match="expected rows from 2025-01-01 to the end"):
        load(frame, start_date="2025-01-01").load_training_data()


def test_missing_file_tells_what_is_there_and_how_to_build_it(tmp_path):
    (tmp_path / "other.feather").write_bytes(b"x")
    with pytest.raises(MissingInputError) as caught:
        TrainingDataLoader(
            pair="ETHUSDT", inputs_dir=str(tmp_path), future_window=60
        ).load_training_data()
    text = str(caught.value)
    assert "ETHUSDT_TF-1m__FW-060__SL-050__TP-100__training_ready.feather" in text
    assert "other.feather" in text
    assert "dataset_builder.py CANDLES --pair ETHUSDT" in text
    assert "--future-window 60" in text
    assert caught.value.exit_code == 66


def test_file_made_for_another_run_is_refused_point_by_point(tmp_path):
    path = tmp_path / "ETHUSDT_TF-1m__FW-120__SL-050__TP-100__training_ready.feather"
    make_own_frame(600).to_feather(path)
    with pytest.raises(DataError) as caught:
        TrainingDataLoader(path, "BTCUSDT", future_window=60).load_training_data()
    assert "pair: the configuration says BTCUSDT" in str(caught.value)
    assert "FW: the configuration says 060" in str(caught.value)


def written(tmp_path, **parameters):
    path = tmp_path / "mine.feather"
    training_file.write_training_file(
        path, make_own_frame(600), {"parameters": parameters}
    )
    return path


def test_sidecar_is_held_against_the_configuration(tmp_path):
    path = written(tmp_path, pair="TESTUSDT", long_tp_pct=2.0, tie_policy="optimistic")
    with pytest.raises(DataError) as caught:
        TrainingDataLoader(path, "TESTUSDT", **SMALL).load_training_data()
    assert "long_tp_pct: the configuration says 1.0" in str(caught.value)
    assert "tie_policy: the configuration says pessimistic" in str(caught.value)


@pytest.mark.parametrize(
    ("stated", "said"), [({}, "made by rule 1"), ({"label_version": "2"}, "")]
)
def test_labels_of_another_rule_are_named(tmp_path, caplog, stated, said):
    facts = {"parameters": {"target": "signal"}, "feature_version": "2"} | stated
    path = tmp_path / "mine.feather"
    training_file.write_training_file(path, make_own_frame(600), facts)
    data = TrainingDataLoader(path, "TESTUSDT", **SMALL).load_training_data()
    assert [said in r.message for r in caplog.records] == [True] * bool(said)
    assert data.source.get("label_version") == stated.get("label_version")


def test_flipped_byte_is_noticed(tmp_path):
    path = written(tmp_path, pair="TESTUSDT")
    TrainingDataLoader(path, "TESTUSDT", **SMALL).load_training_data()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
    with pytest.raises(DataError, match="damaged or changed after it was built"):
        TrainingDataLoader(path, "TESTUSDT", **SMALL).load_training_data()


def test_sidecar_with_duplicate_keys_is_refused(tmp_path):
    path = written(tmp_path)
    sidecar = sidecar_path(path)
    sidecar.write_text('{"format": 1, "format": 1}')
    with pytest.raises(DataError, match="appears twice"):
        TrainingDataLoader(path, "TESTUSDT", **SMALL).load_training_data()
    sidecar.write_text(json.dumps({"format": 9}))
    with pytest.raises(DataError, match="format 1"):
        TrainingDataLoader(path, "TESTUSDT", **SMALL).load_training_data()


def contradicted(frame):
    frame = frame.iloc[[*range(9), 8, *range(9, 600)]].reset_index(drop=True)
    frame.loc[9, "low_change"] += 1
    return frame


def set_cell(column, row, value):
    def change(frame):
        frame[column] = frame[column].astype(float)
        frame.loc[row, column] = value
        return frame

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_cell("low_change", 7, np.nan), "low_change: .*1 that are not .row 7: nan"),
        (set_cell("low_change", 7, np.inf), "low_change: expected finite.*row 7: inf"),
        (lambda f: f.drop(columns="label"), "expected a column 'label', or label_0"),
        (lambda f: f.drop(columns="timestamp"), "expected a column 'timestamp'"),
        (lambda f: f.drop(columns=list(CORE8)), "expected feature columns"),
        (contradicted, "row 9 repeats"),
        (lambda f: f.assign(symbol="BTCUSDT"), "rows of TESTUSDT. Received: 'BTCUSDT'"),
        (
            lambda f: f.assign(
                ticker=np.array(["TESTUSDT", "BTCUSDT"])[trend() // 300]
            ),
            "2 markets in column 'ticker': 'TESTUSDT', and from row 300 on 'BTCUSDT'",
        ),
        (lambda f: f.iloc[[0, 2, 1, *range(3, 600)]], "row 2 goes back"),
        (lambda f: f.iloc[:0], "an empty table"),
        (lambda f: f.iloc[:30], "validation: expected rows .* at least one window"),
        (lambda f: f.assign(label=np.int8(1)), "at least two classes.*HOLD: 4"),
        (lambda f: f.assign(label=np.int8(3)), "label: expected 0 .SHORT.*row 0: 3"),
        (lambda f: f.assign(name="x"), "name: expected numbers"),
        (lambda f: f.assign(timestamp="soon"), "timestamp: expected .*soon"),
        (lambda f: f.assign(timestamp=np.arange(600)), "timestamp: expected epoch"),
    ],
)
def test_bad_frames(change, message):
    with pytest.raises(DataError, match=message):
        load(change(make_own_frame(600))).load_training_data()


@pytest.mark.parametrize(
    ("lost", "message"),
    [
        ("timestamp", "expected a column 'timestamp'.*Name the column with the open"),
        ("label", "expected a column 'label'.*or build the file"),
    ],
)
def test_refused_files_are_named_with_a_cure(tmp_path, lost, message):
    path = tmp_path / "mine.feather"
    make_own_frame(600).drop(columns=lost).to_feather(path)
    with pytest.raises(DataError, match=f"^{re.escape(str(path))}: {message}"):
        TrainingDataLoader(path, **SMALL).load_training_data()


@pytest.mark.parametrize("suffix", [".feather", ".parquet", ".csv"])
def test_a_file_that_is_replaced_is_read_as_it_was_opened(tmp_path, suffix):
    write = {".feather": "to_feather", ".parquet": "to_parquet", ".csv": "to_csv"}
    path, other = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    for file, seed in ((path, 0), (other, 1)):
        getattr(make_frame(600, seed=seed), write[suffix])(file)
    old = sha256_file(path)
    columns = tables.open_table(path)
    first = columns.read("high_change")
    other.replace(path)
    assert columns.digest == old != sha256_file(path)
    values = np.empty(600)
    columns.read_numbers({"high_change": values})
    np.testing.assert_array_equal(values, first.to_numpy())


def test_other_bars_are_refused_by_their_timeframe():
    with pytest.raises(
        DataError, match="expected bars of 1m. Received: bars 5m apart.*--timeframe 5m"
    ):
        load(make_own_frame(600).iloc[::5]).load_training_data()


def test_timeframe_must_be_the_files():
    with pytest.raises(DataError, match="expected bars of 5m. Received: bars 1m"):
        load(make_own_frame(600), timeframe="5m").load_training_data()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.feather", b"", "0 bytes"),
        ("a.feather", b"timestamp,label\n1,2\n", "expected a whole feather file"),
        ("a.parquet", b"PAR1 no", "expected a whole parquet file"),
        ("a.xlsx", b"PK", "expected a name ending in"),
    ],
)
def test_bad_files(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        TrainingDataLoader(tmp_path / name, "TESTUSDT").load_training_data()


def test_truncated_file(tmp_path):
    path = tmp_path / "a.feather"
    make_own_frame(600).to_feather(path)
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(DataError, match="expected a whole feather file"):
        TrainingDataLoader(path, "TESTUSDT").load_training_data()


def test_arrow_extension_types_are_refused(tmp_path):
    import pyarrow as pa
    import pyarrow.feather

    table = pa.Table.from_pandas(make_own_frame(100), preserve_index=False)
    field = pa.field(
        "evil", pa.binary(), metadata={"ARROW:extension:name": "ray.data.arrow_object"}
    )
    table = table.append_column(field, pa.array([b"x"] * 100))
    path = tmp_path / "a.feather"
    pyarrow.feather.write_feather(table, path)
    with pytest.raises(DataError, match="extension types"):
        TrainingDataLoader(path, "TESTUSDT").load_training_data()


def test_configuration_problems_are_told_as_such():
    with pytest.raises(ConfigError, match="unknown field 'test_splt'"):
        TrainingDataLoader("a.feather", "TESTUSDT", test_splt=0.2)


def test_epoch_timestamps_of_every_unit():
    frame = make_own_frame(600)
    seconds = frame["timestamp"].astype("int64")
    expected = load(frame).load_training_data().timestamps
    unit = pd.Timestamp(frame["timestamp"].iloc[0]).unit
    factor = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    for scale in (1, 10**3, 10**6, 10**9):
        changed = frame.assign(timestamp=seconds // factor * scale)
        assert np.array_equal(load(changed).load_training_data().timestamps, expected)


def test_real_file_costs_597_targets(shared_data, tmp_path):
    from candles import table as candles
    from dataset.builder import build_training_frame

    config = Config(pair="ETHUSDT")
    table = candles.read_candles(shared_data / "ETHUSDT-1m.parquet")
    frame, _ = build_training_frame(table, config)
    data = TrainingDataLoader.from_frame(frame, "ETHUSDT").load_training_data()
    assert data.num_rows == 44_521
    assert sum(len(p.targets) for p in data.parts.values()) == 44_521 - 597


@pytest.mark.parametrize("kind", ["robust", "standard", "minmax"])
def test_exported_scaler_scales_the_same(kind):
    frame = make_own_frame(1000)
    data = load(frame, scaler_type=kind, clip_limit=1e9).load_training_data()
    raw = frame[list(CORE8)].to_numpy(np.float64)
    exported = data.scaler.to_sklearn().transform(raw)
    np.testing.assert_allclose(exported, data.features, rtol=1e-5, atol=1e-6)


# Files of others


def own_labels(num_rows=600):
    """A frame of others with one column `label`, and its classes."""
    frame = make_frame(num_rows)
    classes = frame[list(ONE_HOT)].to_numpy().argmax(axis=1)
    return frame.drop(columns=list(ONE_HOT)), classes


def trend(num_rows=600):
    return np.arange(num_rows)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"": trend(), "row": trend() + 7}, "'' (without a name); row (counts the"),
        ({"Unnamed: 0": 1.5}, "'Unnamed: 0' (without a name)"),
        ({"share": trend() / 600}, "share (counts the rows)"),
        ({"down": -trend()}, "down (counts the rows)"),
        ({"trade_id": trend() ** 2 + 3}, "trade_id (counts the rows)"),
        ({"unix": trend() * 60_000 + 17 * 10**11}, "unix (counts the rows)"),
        ({"close_time": "2024-01-01 00:00:59"}, "close_time (another time)"),
        ({"close": 1.0 + trend(), "target": 1}, "close, target (read beside them)"),
        ({"symbol": "TESTUSDT"}, "symbol (the market)"),
        ({"exchange": "binance"}, "exchange (the same in every row)"),
    ],
)
def test_columns_that_are_no_features_are_named(caplog, columns, said):
    caplog.set_level("INFO")
    data = load(make_frame(600).assign(**columns)).load_training_data()
    assert f"not read as features: {said}" in caplog.text
    assert data.feature_names == CORE8


def test_what_does_not_grow_in_every_row_is_a_feature(caplog):
    caplog.set_level("INFO")
    prices = {name: trend() % 50 + 1.0 for name in ("open", "high", "low", "volume")}
    walk = np.random.default_rng(0).random(600).cumsum()
    frame = make_frame(600).assign(**prices, minute=trend() % 300, mean=walk)
    names = load(frame).load_training_data().feature_names
    assert names == (*CORE8, *prices, "minute", "mean")
    assert "not read as features" not in caplog.text


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (lambda k: k - 1, "label: -1, 0, 1 read as SHORT, HOLD, LONG"),
        (lambda k: (k - 1.0).astype(str), "label: -1, 0, 1 read as SHORT, HOLD, LONG"),
        (lambda k: k.astype(str), ""),
        (lambda k: np.array(["short", "Hold", "LONG"])[k], "LONG read as "),
        (lambda k: np.array(["Sell ", "FLAT", "buy"])[k], "buy read as "),
        (lambda k: pd.Categorical(np.array(["down", "flat", "up"])[k]), "up read as "),
    ],
)
def test_labels_are_mapped_with_a_line(caplog, written, said):
    caplog.set_level("INFO")
    frame, classes = own_labels()
    data = load(frame.assign(label=written(classes))).load_training_data()
    assert np.array_equal(data.labels, classes)
    assert said in caplog.text
    assert ("read as" in caplog.text) == bool(said)


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (np.array(["SHORT", "HOLD", "MOON"])[trend() % 3], "Received: 'MOON'"),
        (trend() % 3 > 1, "a column of type bool"),
        (trend() % 4 - 1, "150 rows with others, the first is row 0: -1"),
        (np.array(["SHORT", "1", "LONG"])[trend() % 3], "Received: '1'"),
    ],
)
def test_labels_of_no_known_kind_are_refused(label, message):
    frame, _ = own_labels()
    with pytest.raises(DataError, match=f"label: expected .*{message}"):
        load(frame.assign(label=label)).load_training_data()


@pytest.mark.parametrize("kind", ["numbers", "words", "texts", "one-hot"])
def test_labels_may_lack_where_no_target_is(kind):
    frame, classes = own_labels()
    gap = range(300, 304)
    frame, classes = frame.drop(index=gap), np.delete(classes, gap)
    lacks = np.zeros(596, bool)
    # Before the gap and the end, and where no window of 10 rows is.
    lacks[[*range(294, 300), *range(590, 596), *range(9), *range(300, 309)]] = True
    labels = {
        "numbers": {"label": np.where(lacks, np.nan, classes)},
        "words": {
            "label": np.where(lacks, None, np.array(["SHORT", "HOLD", "LONG"])[classes])
        },
        "texts": {
            "label": np.where(
                lacks,
                np.array(["None", "", "<NA>"])[trend(596) % 3],
                classes.astype(str),
            )
        },
        "one-hot": {
            f"label_{k}": np.where(lacks, np.nan, classes == k) for k in range(3)
        },
    }[kind]
    data = load(frame.assign(**labels)).load_training_data()
    assert not np.isin(np.flatnonzero(lacks), data.parts["train"].targets).any()
    assert data.labels[293] == classes[293]
    for column in labels.values():
        column[293] = column[294]
    with pytest.raises(DataError, match="1 row without, the first is row 293"):
        load(frame.assign(**labels)).load_training_data()


def test_rows_without_an_outcome_may_have_the_label_of_none():
    frame, classes = own_labels()
    marked = trend() % 10 > 0
    labels = np.where(marked, classes, -1)
    data = load(frame.assign(label=labels, is_target=marked)).load_training_data()
    assert np.array_equal(data.labels[marked], classes[marked])
    assert marked[data.parts["train"].targets].all()


def test_a_number_may_lack_where_no_target_is():
    close = pd.Series(100.0 + np.random.default_rng(0).random(600).cumsum())
    frame = own_labels()[0].assign(target=np.log(close.shift(-6) / close))
    frame = frame.drop(index=range(300, 304))
    frame.loc[294:299, "target"] = np.nan
    data = load(frame, target="return").load_training_data()
    targets = data.parts["train"].targets
    assert 293 in targets
    assert not np.isin(range(294, 300), targets).any()


def test_rows_that_cannot_be_targets_are_counted(caplog):
    caplog.set_level("INFO")
    frame = make_frame(2000)
    row = trend(2000)
    load(frame[(row > 100) | (row % 20 > 0)]).load_training_data()
    said = "1,934 of 1,994 rows can be targets; bars are missing before 45 (a window"
    assert said in caplog.text
    assert not [r for r in caplog.records if r.levelname == "WARNING"]
    load(frame[(row > 1200) | (row % 11 > 0)]).load_training_data()
    warned = [r.message for r in caplog.records if r.levelname == "WARNING"]
    assert len(warned) == 1
    assert warned[0].startswith("only 894 of 1,890 rows can be targets; bars are")
    assert "Keep every bar in the file" in warned[0]


def test_a_file_of_gaps_is_refused_by_its_gaps():
    frame = make_frame(2000)
    with pytest.raises(
        DataError, match="train: .* stretches without a gap, the longest of 8: bars are"
    ):
        load(frame[trend(2000) % 9 > 0]).load_training_data()


def test_a_feature_that_is_silent_in_training_is_named(caplog):
    late = np.where(trend() < 420, 1.5, trend())
    frame = make_frame(600).assign(never=0.0, late=late)
    load(frame).load_training_data()
    assert (
        "nothing to learn from in all 420 training rows: never (always 0), late "
        "(always 1.5)"
    ) in caplog.text
    with pytest.raises(DataError, match="never: .* none in 600 rows"):
        load(frame.assign(never=np.nan)).load_training_data()


@pytest.mark.parametrize(
    "change",
    [
        lambda f: f.rename(columns={"timestamp": "Date"}),
        lambda f: f.rename(columns={"timestamp": " open_time"}),
        lambda f: f.set_index("timestamp").rename_axis(None),
        lambda f: f.set_index("timestamp").rename_axis("date"),
        lambda f: f.set_index(f["timestamp"].astype(str)).drop(columns="timestamp"),
        lambda f: f.rename(columns={"timestamp": "Timestamp", "label_0": "Label_0"}),
        lambda f: f.assign(date=f["timestamp"].astype(str)),
        lambda f: f[::-1],
        lambda f: f.assign(
            timestamp=f["timestamp"].dt.strftime("%d.%m.%Y"),
            time=f["timestamp"].dt.strftime("%H:%M"),
        ),
        lambda f: f.assign(
            timestamp=f["timestamp"].dt.normalize(), Time=f["timestamp"].dt.time
        ),
        lambda f: f.assign(time=f["timestamp"].dt.strftime("%H:%M")),
        lambda f: f.assign(
            timestamp=f["timestamp"].dt.strftime("%Y-%m-%d"),
            hour=f["timestamp"].dt.hour,
            minute=f["timestamp"].dt.minute,
        ).iloc[[*range(400), *range(380, 600)]],
        lambda f: f.assign(
            timestamp=f["timestamp"].dt.strftime("%Y%m%d").astype(float),
            time=f["timestamp"].dt.hour * 100 + f["timestamp"].dt.minute,
        ),
        lambda f: pd.concat([f[:400], f[380:]]).reset_index(),
        lambda f: pd.concat([f[:400], f[380:]])[::-1],
    ],
)
def test_times_and_labels_are_found_by_other_names(change):
    frame = make_frame(600)
    data, expected = (load(f).load_training_data() for f in (change(frame), frame))
    assert np.array_equal(data.timestamps, expected.timestamps)
    assert np.array_equal(data.labels, expected.labels)
    assert data.feature_names == CORE8


def as_text(frame, **options):
    return frame.to_csv(**{"index": False} | options).encode()


def with_line(line, text):
    return line + b"\n" + text


def zipped(text):
    with io.BytesIO() as packed, zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("mine.csv", text)
        archive.writestr("__MACOSX/._mine.csv", b"\0")
        archive.close()
        return packed.getvalue()


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("a.csv", lambda f: as_text(f, sep=";", decimal=",")),
        ("a.csv", lambda f: as_text(f, sep="\t")),
        ("a.csv", lambda f: as_text(f, sep="|")),
        ("a.csv", lambda f: as_text(f, lineterminator="\r")),
        ("a.csv", lambda f: as_text(f, lineterminator="\r\n")),
        ("a.csv", lambda f: as_text(f, quoting=csv.QUOTE_ALL)),
        ("a.csv", lambda f: as_text(f, date_format="%d.%m.%Y %H:%M")),
        ("a.csv", lambda f: as_text(f, index=True)),
        ("a.csv", lambda f: as_text(f.set_index("timestamp"), index=True)),
        ("a.csv", lambda f: as_text(f.rename(columns={"timestamp": "date"}))),
        ("a.csv", lambda f: as_text(f).decode().encode("utf-16")),
        ("a.csv", lambda f: b"\xef\xbb\xbf" + as_text(f)),
        ("a.csv", lambda f: as_text(f).rstrip()),
        ("a.csv", lambda f: with_line(b"# made by us", as_text(f))),
        ("a.csv", lambda f: b"#" + as_text(f)),
        ("a.csv", lambda f: with_line(b"sep=;", as_text(f, sep=";"))),
        ("a.csv", lambda f: as_text(f).replace(b"\n", b",\n")),
        (
            "a.csv",
            lambda f: as_text(f).replace(b",", b", ").replace(b"00+00:00", b"00Z"),
        ),
        ("a.csv", lambda f: as_text(f[::-1])),
        ("a.feather", lambda f: f[::-1].reset_index(drop=True).to_feather),
        ("a.CSV", as_text),
        ("a.csv.gz", lambda f: gzip.compress(as_text(f))),
        ("a.zip", lambda f: zipped(as_text(f, sep=";"))),
        ("a.feather", lambda f: f.set_index("timestamp").rename_axis(None).to_feather),
        ("a.parquet", lambda f: f.set_index("timestamp").rename_axis(None).to_parquet),
    ],
)
def test_files_of_every_writing_are_read(tmp_path, name, write):
    frame, classes = own_labels()
    frame = frame.assign(label=classes, whole=np.where(trend() < 590, trend() % 9, 0.5))
    path = tmp_path / name
    written = write(frame)
    if callable(written):
        written(path)
    else:
        path.write_bytes(written)
    data = TrainingDataLoader(path, "TESTUSDT", **SMALL).load_training_data()
    expected = load(frame).load_training_data()
    assert data.feature_names == (*CORE8, "whole")
    assert np.array_equal(data.timestamps, expected.timestamps)
    assert np.array_equal(data.labels, classes)
    np.testing.assert_allclose(data.features, expected.features, rtol=1e-5, atol=1e-5)


def test_a_column_may_change_its_kind_far_down(tmp_path):
    frame, classes = own_labels(12_000)
    late = np.where(trend(12_000) < 11_900, "", "2.5")
    frame = frame.assign(label=classes, sparse=trend(12_000) % 2, **{"": late})
    frame["sparse"] = frame["sparse"].astype(object)
    frame.loc[11_990:, "sparse"] = 0.5
    frame.to_csv(path := tmp_path / "a.csv", index=False)
    data = TrainingDataLoader(path, "TESTUSDT", **SMALL).load_training_data()
    assert data.feature_names == (*CORE8, "sparse")
    text = path.read_bytes().replace(b",0.5,", b",half,", 1)
    path.write_bytes(text)
    with pytest.raises(DataError, match="line 11992 has 'half' in 'sparse'"):
        TrainingDataLoader(path, "TESTUSDT", **SMALL).load_training_data()


@pytest.mark.parametrize(
    "write",
    [
        lambda f, p: f.to_csv(p / "c.csv", index=False),
        lambda f, p: f.to_csv(p / "c.csv", index=False, header=False),
        lambda f, p: f.rename(columns=str.upper).to_parquet(p / "c.parquet"),
        lambda f, p: f.set_index("timestamp").to_json(
            p / "c.json", orient="split", date_format="iso"
        ),
    ],
)
def test_candles_are_told_from_a_training_file(tmp_path, write):
    candles = synthetic_candles(300, seed=1)
    write(candles, tmp_path)
    (path,) = tmp_path.iterdir()
    with pytest.raises(DataError) as caught:
        TrainingDataLoader(path, "TESTUSDT", future_window=60).load_training_data()
    text = str(caught.value)
    assert text.startswith(f"{path}: expected a training file, with features and lab")
    assert "Received: candles, 300 bars from 20" in text
    assert f"dataset_builder.py {path} --pair TESTUSDT" in text
    assert "--future-window 60" in text
    with pytest.raises(DataError, match="Received: candles, 300 .*build_training_fra"):
        load(candles.set_index("timestamp")).load_training_data()


def test_a_name_that_is_there_twice_is_refused():
    with pytest.raises(DataError, match="expected one column 'close'. Received: 'Clo"):
        load(make_frame(600).assign(Close=1.0, close=1.0)).load_training_data()


def test_missing_named_file_is_built_under_its_name(tmp_path):
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "there.csv").touch()
    with pytest.raises(MissingInputError) as caught:
        TrainingDataLoader(tmp_path / "mine.csv").load_training_data()
    assert f"--training-file {tmp_path / 'mine.csv'}" in str(caught.value)
    assert "there.csv" in str(caught.value)
    assert "folder.csv" not in str(caught.value)


def test_short_file_is_named(tmp_path):
    path = written(tmp_path, pair="TESTUSDT")
    short = SMALL | {"sequence_length": 500}
    with pytest.raises(DataError, match=r"mine\.feather: \w+: expected rows"):
        TrainingDataLoader(path, "TESTUSDT", **short).load_training_data()


@pytest.mark.parametrize(("least", "said"), [(50, "undersampling"), (600, "all: no")])
def test_thinning_is_said_where_there_was_some(least, said):
    fields = SMALL | {"undersampling_min_samples": least}
    config = Config(pair="TESTUSDT", **fields)
    data = TrainingDataLoader.from_frame(make_frame(600), config=config)
    assert said in format_data(data.load_training_data(), config)
